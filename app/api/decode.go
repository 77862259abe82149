package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/chainreactions/chainreactions/domain"
)

// schemas are those of the requests to some rows, and of what else is asked for.
type schemas struct {
	registry huma.Registry
	shapes   map[*Row]shape
}

// schemasOf makes those of the rows that are wanted.
func (a *API) schemasOf(wanted func(*Row) bool) schemas {
	s := schemas{huma.NewMapRegistry("#/components/schemas/", schemaNamer()), map[*Row]shape{}}
	for is, says := range a.aliases {
		s.registry.RegisterTypeAlias(is, says)
	}
	for i := range a.rows {
		if r := &a.rows[i]; wanted(r) {
			s.shapes[r] = shapeOf(s.registry, r.Call.in, bodyName(r))
		}
	}
	s.relaxEmbedded()
	return s
}

// shape is what the edge knows of a request type: its body, and where the
// other fields come from. It both reads requests and writes the API document, so
// that the two cannot differ.
type shape struct {
	in     reflect.Type
	body   *huma.Schema // nil where the type has no json field
	params []param
}

type param struct {
	name, where string // where: path, query, header, cookie or form
	index       []int
	schema      *huma.Schema
	required    bool
	doc         string
	fallback    string // the default tag
}

// shapeOf reads the tags of a request type. A field is of the path, the query,
// a header or a cookie by its tag; every field with a json name is of the body.
func shapeOf(reg huma.Registry, in reflect.Type, hint string) shape {
	s := shape{in: in}
	var bodyFields []reflect.StructField
	var walk func(t reflect.Type, index []int)
	walk = func(t reflect.Type, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			at := append(append([]int{}, index...), i)
			if f.Anonymous && f.Type.Kind() == reflect.Struct && f.Tag.Get("json") == "" {
				walk(f.Type, at)
				continue
			}
			if !f.IsExported() {
				continue
			}
			for _, where := range []string{"path", "query", "header", "cookie", "form"} {
				if name := f.Tag.Get(where); name != "" {
					s.params = append(s.params, param{name, where, at, huma.SchemaFromField(reg, f, hint+f.Name), where == "path", f.Tag.Get("doc"), f.Tag.Get("default")})
				}
			}
			if name := f.Tag.Get("json"); name != "" && name != "-" {
				f.Anonymous, f.PkgPath = false, ""
				bodyFields = append(bodyFields, f)
			}
		}
	}
	if in.Kind() == reflect.Struct {
		walk(in, nil)
	}
	if len(bodyFields) > 0 {
		s.body = reg.Schema(reflect.StructOf(bodyFields), true, hint)
	}
	return s
}

// decode reads the request of the row. It refuses unknown fields and names
// every violation at once.
func (x *exchange) decode() (any, error) {
	s := x.api.shapes[x.row]
	value := reflect.New(s.in)
	if s.body != nil && !x.isUpload() {
		if err := x.decodeBody(s, value.Interface()); err != nil {
			return nil, err
		}
	}
	if s.form() {
		if err := x.readForm(); err != nil {
			return nil, err
		}
	}
	// Path and query come after the body: whatever JSON put into these fields
	// by their Go names is overwritten.
	wrong := x.fill(value.Elem(), s.params, x.param)
	seen := map[string]bool{}
	for k := range x.c.Context().QueryArgs().All() {
		key := string(k)
		switch {
		case !s.has(key):
			if x.row.Call.kind == "redirect" {
				continue
			}
			wrong = append(wrong, domain.Violation(key, "unknown_field", "There is no such field."))
		case seen[key]: // two readers of the address would each believe another one
			wrong = append(wrong, domain.Violation(key, "given_twice", "This parameter is given more than once."))
		}
		seen[key] = true
	}
	if s.body == nil && x.row.Call.kind != "upload" && x.c.Context().Request.Header.ContentLength() == -1 {
		return nil, domain.E(domain.TooLarge, "body_too_large", "The body is too large.")
	}
	if len(wrong) > 0 {
		return nil, domain.Fields(wrong...)
	}
	if x.byCookie && x.row.Call.kind != "redirect" {
		if err := x.sameSite(); err != nil {
			return nil, err
		}
	}
	return value.Elem().Interface(), nil
}

// fill sets the fields of value that have a tag, and tells what does not fit.
func (x *exchange) fill(value reflect.Value, params []param, get func(param) string) (wrong []domain.Field) {
	for _, p := range params {
		field := value.FieldByIndex(p.index)
		field.SetZero()
		raw := get(p)
		if raw == "" {
			raw = p.fallback
		}
		if raw == "" {
			continue
		}
		parsed, err := setParam(field, raw)
		if err != nil {
			wrong = append(wrong, domain.Violation(p.name, "invalid_value", "This is not a value of the kind expected here."))
			continue
		}
		wrong = append(wrong, violations(x.api.registry, p.schema, p.name, parsed)...)
	}
	return wrong
}

// isUpload reports whether the body is a file. A row that takes a file or JSON
// is told by the media type.
func (x *exchange) isUpload() bool {
	media, _, _ := mime.ParseMediaType(x.c.Get("Content-Type"))
	return x.row.Call.kind == "upload" && !(x.row.Call.orJSON && (media == "application/json" || media == ""))
}

// param reads one parameter from where it is.
func (x *exchange) param(p param) string {
	switch p.where {
	case "path":
		return x.c.Params(p.name)
	case "header":
		return x.c.Get(p.name)
	case "cookie":
		x.byCookie = x.byCookie || x.c.Cookies(x.api.cookieName(p.name)) != ""
		return x.c.Cookies(x.api.cookieName(p.name))
	case "form":
		return x.form.Get(p.name)
	}
	return x.c.Query(p.name)
}

// form reports whether a browser posts the request as a form.
func (s shape) form() bool {
	return slices.ContainsFunc(s.params, func(p param) bool { return p.where == "form" })
}

func (x *exchange) readForm() error {
	if media, _, _ := mime.ParseMediaType(x.c.Get("Content-Type")); media != "application/x-www-form-urlencoded" {
		return domain.E(domain.UnsupportedMedia, "unsupported_media_type", "The body must be a form.")
	}
	body, err := x.readBody()
	if err != nil {
		return err
	}
	if x.form, err = url.ParseQuery(string(body)); err != nil {
		return domain.E(domain.Malformed, "malformed_form", "The body is not a form.").Because(err)
	}
	for name, values := range x.form {
		if len(values) > 1 {
			return domain.InvalidField(name, "given_twice", "This parameter is given more than once.")
		}
	}
	return nil
}

func (s shape) has(query string) bool {
	for _, p := range s.params {
		if p.where == "query" && p.name == query {
			return true
		}
	}
	return false
}

func (x *exchange) decodeBody(s shape, into any) error {
	media, _, _ := mime.ParseMediaType(x.c.Get("Content-Type"))
	scim := x.row.Call.kind == "scim"
	if scim && media == "application/scim+json" {
		media = "application/json"
	}
	// A body without a type is refused too: a page of another site may send one
	// without asking first (ASVS V3.5.2).
	if media != "application/json" && (media != "" || x.hasBody()) {
		return domain.E(domain.UnsupportedMedia, "unsupported_media_type", "The body must be application/json.")
	}
	body, err := x.readBody()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	if err := strictJSON(body); err != nil {
		return err
	}
	var loose any
	if err := json.Unmarshal(body, &loose); err != nil {
		return domain.E(domain.Malformed, "malformed_json", "The body is not JSON: %s.", jsonFault(err))
	}
	if wrong := violations(x.api.registry, s.body, "", loose); len(wrong) > 0 && !scim {
		return domain.Fields(wrong...)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(into); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) {
			return domain.InvalidField(typed.Field, "invalid_value", "This is not a value of the kind expected here.")
		}
		var own *domain.Error
		if errors.As(err, &own) {
			return own
		}
		return domain.E(domain.Malformed, "malformed_json", "The body is not JSON: %s.", jsonFault(err))
	}
	return nil
}

// body reads the request's body and notes when its end was reached.
func (x *exchange) body() io.Reader {
	r := x.c.Context().RequestBodyStream()
	if r == nil {
		r = bytes.NewReader(x.c.Body())
	}
	return &toEnd{r, x}
}

type toEnd struct {
	io.Reader
	x *exchange
}

func (t *toEnd) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.x.bodyRead = t.x.bodyRead || err == io.EOF
	return n, err
}

// finishBody makes sure that what nobody read of a body is not taken for the
// next request on the connection (fasthttp would): a little is read now, and
// more, or what has no announced end, closes the connection.
func (x *exchange) finishBody() {
	if x.bodyRead || !x.hasBody() {
		return
	}
	if n := x.c.Context().Request.Header.ContentLength(); n > 0 && n <= 64<<10 {
		_, _ = io.Copy(io.Discard, x.body())
	}
	if !x.bodyRead {
		x.c.Context().SetConnectionClose()
	}
}

// hasBody reports whether the request announces a body; -1 is a chunked one.
func (x *exchange) hasBody() bool {
	n := x.c.Context().Request.Header.ContentLength()
	return n > 0 || n == -1
}

func jsonFault(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("byte %d", syntax.Offset)
	}
	return "it ends too early or holds a value of another kind"
}

// readBody reads a JSON body within the row's limit.
func (x *exchange) readBody() ([]byte, error) {
	limit := x.row.BodyLimit
	if limit == 0 {
		limit = 1 << 20
	}
	if x.c.Context().Request.Header.ContentLength() > limit {
		return nil, domain.E(domain.TooLarge, "body_too_large", "The body is over the limit of %d bytes.", limit)
	}
	body, err := io.ReadAll(io.LimitReader(x.body(), int64(limit)+1))
	if err != nil {
		return nil, domain.E(domain.Malformed, "body_incomplete", "The body ended before it was whole.").Because(err)
	}
	if len(body) > limit {
		return nil, domain.E(domain.TooLarge, "body_too_large", "The body is over the limit of %d bytes.", limit)
	}
	return body, nil
}

// upload finds the file in a request: the part named "file" of a multipart
// body, or the whole body. Nothing of it is kept in memory. The fields that
// stand before the file are those of the query, for forms and curl's -F.
func (x *exchange) upload(in any) (any, Upload, error) {
	body := x.body()
	media, attrs, _ := mime.ParseMediaType(x.c.Get("Content-Type"))
	if media != "multipart/form-data" {
		return in, x.taken(Upload{Filename: x.c.Get("X-Filename"), MediaType: media, Body: body}), nil
	}
	parts := multipart.NewReader(body, attrs["boundary"])
	fields := map[string]string{}
	for {
		part, err := parts.NextPart()
		if err != nil || len(fields) > 20 {
			return in, Upload{}, domain.InvalidField("file", "required", "The upload needs a part named \"file\".")
		}
		if part.FormName() != "file" {
			const most = 64 << 10
			text, err := io.ReadAll(io.LimitReader(part, most+1))
			if err != nil || len(text) > most {
				return in, Upload{}, domain.InvalidField(part.FormName(), "too_long", "This is too long.")
			}
			fields[part.FormName()] = string(text)
			continue
		}
		if len(fields) > 0 {
			value := reflect.New(reflect.TypeOf(in)).Elem()
			value.Set(reflect.ValueOf(in))
			var given []param
			for _, p := range x.api.shapes[x.row].params {
				if _, ok := fields[p.name]; ok && p.where == "query" {
					given = append(given, p)
				}
			}
			if wrong := x.fill(value, given, func(p param) string { return fields[p.name] }); len(wrong) > 0 {
				return in, Upload{}, domain.Fields(wrong...)
			}
			for name := range fields {
				if !x.api.shapes[x.row].has(name) {
					return in, Upload{}, domain.InvalidField(name, "unknown_field", "There is no such field.")
				}
			}
			in = value.Interface()
		}
		media, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		return in, x.taken(Upload{Filename: part.FileName(), MediaType: media, Body: part}), nil
	}
}

// taken hashes a file as it is read, where its request may come again.
func (x *exchange) taken(up Upload) Upload {
	if x.content != nil {
		x.content.Reset()
		fmt.Fprintf(x.content, "%q %q\n", up.Filename, up.MediaType)
		up.Body = io.TeeReader(up.Body, x.content)
	}
	return up
}

func setParam(field reflect.Value, raw string) (parsed any, err error) {
	if field.Type() == reflect.TypeFor[time.Time]() {
		t, err := time.Parse(time.RFC3339, raw)
		if err != nil {
			if t, err = time.Parse(time.DateOnly, raw); err != nil {
				return nil, err
			}
		}
		field.Set(reflect.ValueOf(t))
		return t.Format(time.RFC3339), nil
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(raw)
		return raw, nil
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(raw, 10, 64)
		field.SetInt(n)
		return float64(n), err
	case reflect.Float64:
		f, err := strconv.ParseFloat(raw, 64)
		field.SetFloat(f)
		return f, err
	case reflect.Bool:
		b, err := strconv.ParseBool(raw)
		field.SetBool(b)
		return b, err
	}
	return nil, fmt.Errorf("a parameter cannot be a %s", field.Type())
}

// violations holds value against its schema and gives our words for what is
// wrong, which exist in both languages.
func violations(reg huma.Registry, schema *huma.Schema, at string, value any) []domain.Field {
	path := huma.NewPathBuffer(make([]byte, 0, 64), 0)
	var res huma.ValidateResult
	huma.Validate(reg, schema, path, huma.ModeWriteToServer, value, &res)
	var out []domain.Field
	for _, err := range res.Errors {
		var d *huma.ErrorDetail
		if !errors.As(err, &d) {
			continue
		}
		name := strings.Trim(at+"."+d.Location, ".")
		code, format := "invalid_value", "This is not a value of the kind expected here."
		for _, w := range violationWords {
			if strings.Contains(d.Message, w.has) {
				code, format = w.code, w.format
				break
			}
		}
		if code == "required" {
			if _, missing, ok := strings.Cut(d.Message, "expected required property "); ok {
				name = strings.Trim(name+"."+strings.Fields(missing)[0], ".")
			}
		}
		out = append(out, domain.Violation(name, code, format))
	}
	return out
}

var violationWords = []struct{ has, code, format string }{
	{"unexpected property", "unknown_field", "There is no such field."},
	{"expected required property", "required", "This field is required."},
	{"array", "wrong_count", "There are too few or too many items."},
	{"length >=", "too_short", "This is too short."},
	{"length <=", "too_long", "This is too long."},
	{"expected number >=", "too_small", "This number is too small."},
	{"expected number >", "too_small", "This number is too small."},
	{"expected number <=", "too_large", "This number is too large."},
	{"expected number <", "too_large", "This number is too large."},
	{"one of", "not_allowed", "This is not one of the allowed values."},
	{"pattern", "invalid_format", "This does not have the form that is wanted here."},
	{"email", "invalid_email", "This is not an e-mail address."},
	{"date", "invalid_time", "This is not an RFC 3339 time."},
}

var _ = domain.Chinese(map[string]string{
	"This is not a value of the kind expected here.":   "此处的值类型不正确。",
	"There is no such field.":                          "没有这个字段。",
	"This field is required.":                          "此字段必填。",
	"This is too short.":                               "过短。",
	"This is too long.":                                "过长。",
	"This number is too small.":                        "数值过小。",
	"This number is too large.":                        "数值过大。",
	"There are too few or too many items.":             "项目数量过少或过多。",
	"This is not one of the allowed values.":           "不是允许的值之一。",
	"This does not have the form that is wanted here.": "格式不符合要求。",
	"This is not an e-mail address.":                   "不是电子邮件地址。",
	"This is not an RFC 3339 time.":                    "不是 RFC 3339 时间。",
	"The body must be application/json.":               "请求体必须是 application/json。",
	"The body is not JSON: %s.":                        "请求体不是 JSON：%s。",
	"The body is over the limit of %d bytes.":          "请求体超过 %d 字节的上限。",
	"The body must be a form.":                         "请求体必须是表单。",
	"The body is not a form.":                          "请求体不是表单。",
	"The body ended before it was whole.":              "请求体未传完就结束了。",
	"The upload needs a part named \"file\".":          "上传需要名为 \"file\" 的部分。",
})
