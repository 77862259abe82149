package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/chainreactions/chainreactions/app/api"
)

// contract holds one server to the API document that it gives out.
type contract struct {
	t    interface{ Errorf(string, ...any) }
	doc  *document
	said sync.Map
}

// contracts are the servers under test, by address.
var contracts sync.Map

// holdToContract makes every request and answer of the default client to this
// server pass through the document: what is not in it fails the test.
func holdToContract(t *testing.T, p *program, address string) *contract {
	t.Helper()
	c := &contract{t: t, doc: documentOf(t, p.api.Document())}
	contracts.Store(address, c)
	t.Cleanup(func() { contracts.Delete(address) })
	return c
}

// document is an OpenAPI 3.1 document. Its schemas are JSON Schema 2020-12, so a
// validator of those is all it takes; they are compiled when they are first used.
type document struct {
	root     map[string]any
	mu       sync.Mutex // of schemas, which compiles
	schemas  *jsonschema.Compiler
	compiled sync.Map
}

// documents are those that were read: most servers of these tests give out the same.
var documents sync.Map

func documentOf(t *testing.T, text []byte) *document {
	t.Helper()
	if d, ok := documents.Load(string(text)); ok {
		return d.(*document)
	}
	d := &document{schemas: jsonschema.NewCompiler()}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = d.schemas.AddResource("doc.json", root)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.root = root.(map[string]any)
	kept, _ := documents.LoadOrStore(string(text), d)
	return kept.(*document)
}

// place is an object of the document, and the JSON pointer to it; its node is
// nil where the document has none.
type place struct {
	node    map[string]any
	pointer string
}

var pointerKey, keyPointer = strings.NewReplacer("~1", "/", "~0", "~"), strings.NewReplacer("~", "~0", "/", "~1")

// at goes down from a place by keys, and over references.
func (d *document) at(p place, keys ...string) place {
	for _, key := range keys {
		node, _ := p.node[key].(map[string]any)
		p = d.followed(place{node, p.pointer + "/" + keyPointer.Replace(key)})
	}
	return p
}

func (d *document) followed(p place) place {
	ref, ok := p.node["$ref"].(string)
	if !ok {
		return p
	}
	p = place{d.root, ""}
	for _, key := range strings.Split(ref, "/")[1:] {
		p = d.at(p, pointerKey.Replace(key))
	}
	return p
}

// operation is what the document says of a request, and its path parameters.
// Of two patterns that fit, the one with fewer parameters is meant.
func (d *document) operation(req *http.Request) (op place, params map[string]string) {
	paths := d.at(place{d.root, ""}, "paths")
	got := strings.Split(req.URL.EscapedPath(), "/")
patterns:
	for pattern := range paths.node {
		want := strings.Split(pattern, "/")
		if len(want) != len(got) {
			continue
		}
		fit := map[string]string{}
		for i := range want {
			name, ok := strings.CutPrefix(want[i], "{")
			if !ok && want[i] != got[i] {
				continue patterns
			}
			if ok {
				fit[strings.TrimSuffix(name, "}")], _ = url.PathUnescape(got[i])
			}
		}
		if found := d.at(paths, pattern, strings.ToLower(req.Method)); found.node != nil && (op.node == nil || len(fit) < len(params)) {
			op, params = found, fit
		}
	}
	return op, params
}

// check holds a value to the schema at the pointer.
func (d *document) check(pointer string, value any) error {
	schema, ok := d.compiled.Load(pointer)
	if !ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		compiled, err := d.schemas.Compile("doc.json#" + pointer)
		if err != nil {
			return err
		}
		schema = compiled
		d.compiled.Store(pointer, compiled)
	}
	return schema.(*jsonschema.Schema).Validate(value)
}

func (d *document) checkJSON(pointer, text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return d.check(pointer, value)
}

// answer holds the body of an answer to what the operation says of its status.
func (d *document) answer(op place, status int, media string, body []byte) error {
	res := d.at(op, "responses", strconv.Itoa(status))
	content := d.at(res, "content", media)
	switch {
	case op.node == nil:
		return fmt.Errorf("there is no such operation")
	case res.node == nil:
		return fmt.Errorf("there is no such status")
	case media == "" && res.node["content"] == nil:
		return nil
	case content.node == nil:
		return fmt.Errorf("there is no such media type: %q", media)
	case strings.HasSuffix(media, "json") && content.node["schema"] != nil:
		return d.checkJSON(content.pointer+"/schema", string(body))
	}
	return nil
}

// request holds a request that was taken to its operation.
func (d *document) request(op place, params map[string]string, req *http.Request, sent []byte) error {
	query := req.URL.Query()
	list, _ := op.node["parameters"].([]any)
	for i, item := range list {
		node, _ := item.(map[string]any)
		p := d.followed(place{node, op.pointer + "/parameters/" + strconv.Itoa(i)})
		name, _ := p.node["name"].(string)
		value, given := "", false
		switch p.node["in"] {
		case "path":
			value, given = params[name]
		case "query":
			given, value = query.Has(name), query.Get(name)
			query.Del(name)
		case "header":
			given, value = req.Header.Get(name) != "", req.Header.Get(name)
		case "cookie":
			c, err := req.Cookie(name)
			if given = err == nil; given {
				value = c.Value
			}
		}
		if !given && p.node["required"] == true {
			return fmt.Errorf("parameter %s is missing", name)
		}
		if given {
			schema, _ := p.node["schema"].(map[string]any)
			if err := d.check(p.pointer+"/schema", typed(value, schema["type"])); err != nil {
				return fmt.Errorf("parameter %s: %w", name, err)
			}
		}
	}
	if len(query) > 0 {
		return fmt.Errorf("there is no such parameter: %v", query)
	}
	body := d.at(op, "requestBody")
	if sent == nil && req.Body != nil { // a stream, of which no copy was kept
		return nil
	}
	if len(sent) == 0 {
		if body.node["required"] == true {
			return fmt.Errorf("the body is missing")
		}
		return nil
	}
	media, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	content := d.at(body, "content", media)
	if content.node == nil {
		return fmt.Errorf("there is no such media type: %q", media)
	}
	if media == "application/json" {
		return d.checkJSON(content.pointer+"/schema", string(sent))
	}
	return nil
}

// typed reads a parameter as what its schema says it is, where it can be read so.
func typed(value string, as any) any {
	switch as {
	case "integer", "number":
		if _, err := strconv.ParseFloat(value, 64); err == nil {
			return json.Number(value)
		}
	case "boolean":
		if b, err := strconv.ParseBool(value); err == nil {
			return b
		}
	}
	return value
}

// contractTransport is the default client's transport in these tests.
type contractTransport struct{ next http.RoundTripper }

func (tr contractTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	found, ok := contracts.Load(req.URL.Host)
	if !ok {
		return tr.next.RoundTrip(req)
	}
	c := found.(*contract)
	var sent []byte
	if req.Body != nil && req.ContentLength >= 0 && req.ContentLength < 1<<20 {
		sent, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := tr.next.RoundTrip(req)
	if err != nil {
		return res, err
	}
	c.hold(req, sent, res)
	return res, nil
}

func (c *contract) hold(req *http.Request, sent []byte, res *http.Response) {
	what := req.Method + " " + req.URL.Path
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	var body []byte
	if strings.HasSuffix(media, "json") {
		var err error
		body, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			c.t.Errorf("%s: the answer is cut short: %v", what, err)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		if res.StatusCode == 404 && bytes.Contains(body, []byte(`"instance":""`)) { // no route of ours, so none of the document's
			return
		}
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
		if res.Header.Get(name) != want {
			c.t.Errorf("%s: %s is %q, want %q", what, name, res.Header.Get(name), want)
		}
	}
	for name, must := range map[string]bool{"X-Request-Id": true, "Retry-After": res.StatusCode == 429, "WWW-Authenticate": res.StatusCode == 401} {
		if must && res.Header.Get(name) == "" {
			c.t.Errorf("%s answers %d without %s", what, res.StatusCode, name)
		}
	}
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(strings.ReplaceAll(csp, "style-src 'unsafe-inline'", ""), "unsafe") {
		c.t.Errorf("%s: the content security policy is %q", what, csp)
	}
	op, params := c.doc.operation(req)
	if err := c.doc.answer(op, res.StatusCode, media, body); err != nil {
		c.complain(fmt.Sprintf("%s answers %d, which the document does not say: %v", what, res.StatusCode, err))
	}
	if media == "text/event-stream" {
		res.Body = &eventReader{ReadCloser: res.Body, c: c, what: what, events: c.doc.at(op, "responses", "200", "content", media, "x-events")}
	}
	// What the server took, the document allows. A refused request may break
	// any rule: that is what many tests are about.
	if res.StatusCode < 300 && len(sent) < 1<<20 {
		if err := c.doc.request(op, params, req, sent); err != nil {
			c.t.Errorf("%s was taken, and the document does not allow it: %v", what, err)
		}
	}
}

// complain says the same thing once: tests ask again and again.
func (c *contract) complain(text string) {
	if _, said := c.said.LoadOrStore(text, true); !said {
		c.t.Errorf("%s", text)
	}
}

// eventReader holds a stream's events to the document while the test reads it.
type eventReader struct {
	io.ReadCloser
	c      *contract
	what   string
	events place
	rest   string
}

func (r *eventReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.rest += string(p[:n])
	for {
		block, after, whole := strings.Cut(r.rest, "\n\n")
		if !whole {
			return n, err
		}
		r.rest = after
		name, data := "", ""
		for _, line := range strings.Split(block, "\n") {
			if v, ok := strings.CutPrefix(line, "event: "); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(line, "data: "); ok {
				data += v
			}
		}
		if name == "" {
			continue // a comment, or the time to wait before connecting again
		}
		schema := r.c.doc.at(r.events, name)
		if schema.node == nil {
			r.c.complain(fmt.Sprintf("%s sends the event %q, which the document does not know", r.what, name))
		} else if err := r.c.doc.checkJSON(schema.pointer, data); err != nil {
			r.c.t.Errorf("%s event %s is not what the document says: %v", r.what, name, err)
		}
	}
}

// The document is OpenAPI 3.1 by its own meta-schema, names every route, and
// the page for readers shows each of them with an example.
func TestDocument(t *testing.T) {
	p := testProgram(t)
	defer p.close(context.Background())
	meta, err := os.ReadFile("testdata/openapi-3.1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc := documentOf(t, p.api.Document())
	if err := documentOf(t, meta).check("", doc.root); err != nil {
		t.Error(err)
	}
	for name := range doc.at(place{doc.root, ""}, "components", "schemas").node {
		if err := doc.check("/components/schemas/"+name, map[string]any{}); err != nil && !errors.As(err, new(*jsonschema.ValidationError)) {
			t.Errorf("schema %s: %v", name, err)
		}
	}
	var out struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
			Security    []map[string]any
		}
	}
	if err := json.Unmarshal(p.api.Document(), &out); err != nil || !strings.HasPrefix(out.OpenAPI, "3.1") {
		t.Fatalf("%q %v", out.OpenAPI, err)
	}
	ids := map[string]bool{}
	for _, row := range p.table {
		op, ok := out.Paths[row.Path][strings.ToLower(row.Method)]
		if !ok || op.OperationID == "" || ids[op.OperationID] {
			t.Errorf("%s %s is missing, or its name %q is taken", row.Method, row.Path, op.OperationID)
		}
		ids[op.OperationID] = true
		want := []string{"400", "403", "404", "429", "500", "503"}
		if row.Credential != api.Directory { // whose protocol has no 422 and no 402
			want = append(want, "422")
		}
		if row.Credential != api.Public {
			want = append(want, "401")
			if row.Credential&api.Member != 0 { // others use no tenant's plan, or are told in their own protocol
				want = append(want, "402")
			}
			if len(op.Security) == 0 {
				t.Errorf("%s %s: no security scheme", row.Method, row.Path)
			}
		}
		for _, status := range want {
			if op.Responses[status] == nil {
				t.Errorf("%s %s does not list %s", row.Method, row.Path, status)
			}
		}
	}
}

// complaints counts what a contract finds.
type complaints []string

func (c *complaints) Errorf(format string, args ...any) {
	*c = append(*c, fmt.Sprintf(format, args...))
}

// The contract notices what it is there for: a status, a field, a header, a
// request or an event that the document does not have.
func TestContractNotices(t *testing.T) {
	p := testProgram(t)
	defer p.close(context.Background())
	answer := func(status int, media, body string, header http.Header) *http.Response {
		h := http.Header{"Content-Type": {media}, "X-Request-Id": {"req_1234567"}, "X-Content-Type-Options": {"nosniff"}, "X-Frame-Options": {"DENY"},
			"Referrer-Policy": {"no-referrer"}, "Cache-Control": {"no-store"}, "Cross-Origin-Opener-Policy": {"same-origin"}, "Cross-Origin-Resource-Policy": {"same-origin"},
			"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"}}
		for k, v := range header {
			h[k] = v
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
	}
	whole := `{"status":"alive","uptime_seconds":1}`
	for _, c := range []struct {
		name, method, path, sent string
		res                      *http.Response
		fine                     bool
	}{
		{"nothing wrong", "GET", "/livez", "", answer(200, "application/json", whole, nil), true},
		{"a status", "GET", "/livez", "", answer(201, "application/json", whole, nil), false},
		{"a field of another type", "GET", "/livez", "", answer(200, "application/json", `{"status":7,"uptime_seconds":1}`, nil), false},
		{"a field too many", "GET", "/livez", "", answer(200, "application/json", `{"status":"alive","uptime_seconds":1,"secret":1}`, nil), false},
		{"a media type", "GET", "/livez", "", answer(200, "text/plain", "alive", nil), false},
		{"a missing header", "GET", "/livez", "", answer(200, "application/json", whole, http.Header{"Referrer-Policy": nil}), false},
		{"no request id", "GET", "/livez", "", answer(200, "application/json", whole, http.Header{"X-Request-Id": nil}), false},
		{"a problem without a code", "GET", "/livez", "", answer(429, "application/problem+json", `{"type":"x","title":"x","status":429,"detail":"","instance":"/livez","request_id":"r"}`, nil), false},
		{"a request that the document refuses", "POST", "/api/v1/auth/login", `{"email":1}`, answer(204, "", "", nil), false},
		{"an unknown event", "GET", "/api/v1/imports/imp_1/events", "", answer(200, "text/event-stream", "event: odd\ndata: {}\n\n", nil), false},
		{"an event with wrong data", "GET", "/api/v1/imports/imp_1/events", "", answer(200, "text/event-stream", "event: error\ndata: {}\n\n", nil), false},
		{"an event", "GET", "/api/v1/imports/imp_1/events", "", answer(200, "text/event-stream", "event: error\ndata: {\"code\":\"x\",\"detail\":\"y\"}\n\n", nil), true},
	} {
		found := &complaints{}
		held := holdToContract(t, p, "127.0.0.1:1")
		held.t = found
		req, _ := http.NewRequest(c.method, "http://127.0.0.1:1"+c.path, strings.NewReader(c.sent))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-API-Key", "k")
		held.hold(req, []byte(c.sent), c.res)
		_, _ = io.Copy(io.Discard, c.res.Body)
		if fine := len(*found) == 0; fine != c.fine {
			t.Errorf("%s: %q", c.name, *found)
		}
	}
}
