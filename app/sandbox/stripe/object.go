package stripe

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// object is one of Stripe's JSON objects, or the parameters of a request: a
// tree of objects, lists, strings, int64s and booleans. Keys that begin with
// "_" are the emulator's own and never leave.
type object map[string]any

func asObject(v any) object {
	switch v := v.(type) {
	case object:
		return v
	case map[string]any:
		return v
	}
	return nil
}

// sub is the object under the path, or nil.
func (o object) sub(path ...string) object {
	for _, key := range path {
		o = asObject(o[key])
	}
	return o
}

func (o object) has(key string) bool { return o != nil && o[key] != nil }

func (o object) str(path ...string) string {
	last := len(path) - 1
	s, _ := o.sub(path[:last]...)[path[last]].(string)
	return s
}

// num reads a number, whether it was computed, sent in a form, or read back
// from the state file.
func (o object) num(path ...string) int64 {
	last := len(path) - 1
	switch v := o.sub(path[:last]...)[path[last]].(type) {
	case int64:
		return v
	case int:
		return int64(v)
	case float64:
		return int64(v)
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}

func (o object) flag(path ...string) bool {
	last := len(path) - 1
	v := o.sub(path[:last]...)[path[last]]
	return v == true || v == "true"
}

// list is the objects under key: a plain list, or the data of Stripe's list.
func (o object) list(key string) (out []object) {
	v := o[key]
	if l := asObject(v); l != nil && l["object"] == "list" {
		v = l["data"]
	}
	switch v := v.(type) {
	case []object:
		return v
	case []any:
		for _, x := range v {
			if sub := asObject(x); sub != nil {
				out = append(out, sub)
			}
		}
	}
	return out
}

func (o object) strings(key string) (out []string) {
	switch v := o[key].(type) {
	case []string:
		return v
	case []any:
		for _, x := range v {
			if s, ok := x.(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// copyOf is deep, and without the emulator's own keys.
func copyOf(v any) any {
	switch v := v.(type) {
	case object:
		out := object{}
		for key, x := range v {
			if !strings.HasPrefix(key, "_") {
				out[key] = copyOf(x)
			}
		}
		return out
	case map[string]any:
		return copyOf(object(v))
	case []object:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = copyOf(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = copyOf(x)
		}
		return out
	}
	return v
}

// listOf wraps objects as Stripe's lists are, whole.
func listOf(path string, data []object) object {
	if data == nil {
		data = []object{}
	}
	return object{"object": "list", "data": data, "has_more": false, "url": path}
}

// params reads a request's query or form: items[0][price]=… becomes a tree.
func params(r *http.Request) (object, error) {
	values := r.URL.Query()
	if r.Method == http.MethodPost || r.Method == http.MethodDelete {
		raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 1<<20))
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(raw))
		if err != nil {
			return nil, err
		}
		for key, list := range form {
			values[key] = append(values[key], list...)
		}
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	root := object{}
	for _, key := range keys {
		for _, value := range values[key] {
			path := strings.Split(strings.ReplaceAll(key, "]", ""), "[")
			at := root
			for i, step := range path {
				if step == "" { // expand[]=…
					step = strconv.Itoa(len(at))
				}
				if i == len(path)-1 {
					at[step] = value
					break
				}
				next := asObject(at[step])
				if next == nil {
					next = object{}
					at[step] = next
				}
				at = next
			}
		}
	}
	return asObject(lists(root)), nil
}

// lists turns objects whose keys are all numbers into lists.
func lists(v any) any {
	o, ok := v.(object)
	if !ok {
		return v
	}
	numbers := make([]int, 0, len(o))
	for key, x := range o {
		o[key] = lists(x)
		if n, err := strconv.Atoi(key); err == nil {
			numbers = append(numbers, n)
		}
	}
	if len(o) == 0 || len(numbers) != len(o) {
		return o
	}
	sort.Ints(numbers)
	out := make([]any, len(numbers))
	for i, n := range numbers {
		out[i] = o[strconv.Itoa(n)]
	}
	return out
}

// assign copies the named parameters into o, each in the type that o has now;
// an empty string clears what may be null.
func assign(o, p object, names ...string) {
	for _, name := range names {
		v, ok := p[name]
		if !ok {
			continue
		}
		s, text := v.(string)
		switch o[name].(type) {
		case bool:
			o[name] = s == "true"
		case int64:
			o[name] = p.num(name)
		case object:
			if text {
				o[name] = nil
				continue
			}
			for key, x := range asObject(v) {
				asObject(o[name])[key] = x
			}
		default:
			if o[name] = v; text && s == "" {
				o[name] = nil
			}
		}
	}
	if m := asObject(p["metadata"]); m != nil {
		merged := object{}
		for key, x := range o.sub("metadata") {
			merged[key] = x
		}
		for key, x := range m {
			if merged[key] = x; x == "" {
				delete(merged, key)
			}
		}
		o["metadata"] = merged
	}
}

// apiError is answered in Stripe's shape.
type apiError struct {
	status                              int
	kind, code, message, param, decline string
	intent                              object
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%d %s %s: %s", e.status, e.kind, e.code, e.message)
}

func (e *apiError) body() object {
	o := object{"type": e.kind, "message": e.message}
	for key, v := range map[string]string{"code": e.code, "param": e.param, "decline_code": e.decline} {
		if v != "" {
			o[key] = v
		}
	}
	if e.intent != nil {
		o["payment_intent"] = copyOf(e.intent)
	}
	return object{"error": o}
}

func invalid(param, code, format string, args ...any) *apiError {
	return &apiError{status: 400, kind: "invalid_request_error", code: code, param: param, message: fmt.Sprintf(format, args...)}
}

func missing(kind, id, param string) *apiError {
	e := invalid(param, "resource_missing", "No such %s: '%s'", kind, id)
	e.status = 404
	return e
}
