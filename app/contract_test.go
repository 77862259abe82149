package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/jsonschema/v6"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/chainreactions/chainreactions/app/api"
)

// contract holds one server to the API document that it gives out.
type contract struct {
	t        interface{ Errorf(string, ...any) }
	validate validator.Validator
	doc      map[string]any
	schemas  *jsonschema.Compiler
	mu       sync.Mutex // of schemas
	said     sync.Map
}

// contracts are the servers under test, by address.
var contracts sync.Map

// holdToContract makes every request and answer of the default client to this
// server pass through the document: what is not in it fails the test.
func holdToContract(t *testing.T, p *program, address string) *contract {
	t.Helper()
	text := string(p.api.Document())
	parsed, ok := documents.Load(text)
	if !ok {
		doc, err := libopenapi.NewDocument([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		v, errs := validator.NewValidator(doc)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		parsed, _ = documents.LoadOrStore(text, v)
	}
	c := &contract{t: t, validate: parsed.(validator.Validator), schemas: jsonschema.NewCompiler()}
	if err := json.Unmarshal(p.api.Document(), &c.doc); err != nil {
		t.Fatal(err)
	}
	if err := c.schemas.AddResource("doc.json", c.doc); err != nil {
		t.Fatal(err)
	}
	contracts.Store(address, c)
	t.Cleanup(func() { contracts.Delete(address) })
	return c
}

// documents are the validators that were made: most servers of these tests
// give out the same document.
var documents sync.Map

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
	if media == "application/json" || media == "application/problem+json" {
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			c.t.Errorf("%s: the answer is cut short: %v", what, err)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		if res.StatusCode == 404 && bytes.Contains(body, []byte(`"instance":""`)) { // no route of ours, so none of the document's
			return
		}
		defer func() { res.Body = io.NopCloser(bytes.NewReader(body)) }()
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
	again := req.Clone(context.WithoutCancel(req.Context()))
	again.Body = io.NopCloser(bytes.NewReader(sent))
	if _, problems := c.validate.ValidateHttpResponse(again, res); len(problems) > 0 {
		for _, p := range problems {
			c.complain(fmt.Sprintf("%s answers %d, which the document does not say: %s: %s %v", what, res.StatusCode, p.Message, p.Reason, p.SchemaValidationErrors))
		}
	}
	if media == "text/event-stream" {
		res.Body = &eventReader{ReadCloser: res.Body, c: c, what: what, schemas: c.events(req)}
	}
	// What the server took, the document allows. A refused request may break
	// any rule: that is what many tests are about.
	upload := strings.HasSuffix(req.URL.Path, "/imports")
	if res.StatusCode < 300 && !upload && len(sent) < 1<<20 {
		again.Body = io.NopCloser(bytes.NewReader(sent))
		if ok, problems := c.validate.ValidateHttpRequest(again); !ok {
			for _, p := range problems {
				c.t.Errorf("%s was taken, and the document does not allow it: %s: %s %v", what, p.Message, p.Reason, p.SchemaValidationErrors)
			}
		}
	}
}

// complain says the same thing once: tests ask again and again.
func (c *contract) complain(text string) {
	if _, said := c.said.LoadOrStore(text, true); !said {
		c.t.Errorf("%s", text)
	}
}

// events are the names of the events that the document gives for a stream.
func (c *contract) events(req *http.Request) map[string]any {
	paths := c.doc["paths"].(map[string]any)
	for pattern, item := range paths {
		if !matches(pattern, req.URL.Path) {
			continue
		}
		op, _ := item.(map[string]any)[strings.ToLower(req.Method)].(map[string]any)
		res, _ := op["responses"].(map[string]any)["200"].(map[string]any)
		content, _ := res["content"].(map[string]any)
		if stream, ok := content["text/event-stream"].(map[string]any); ok {
			return stream["x-events"].(map[string]any)
		}
	}
	return nil
}

// check holds the data of an event to its schema.
func (c *contract) check(schema map[string]any, data, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref, ok := schema["$ref"].(string)
	if !ok {
		return
	}
	compiled, err := c.schemas.Compile("doc.json" + ref)
	if err != nil {
		c.t.Errorf("%s: %v", what, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
	if err == nil {
		err = compiled.Validate(value)
	}
	if err != nil {
		c.t.Errorf("%s is not what the document says: %v", what, err)
	}
}

func matches(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}

// eventReader holds a stream's events to the document while the test reads it.
type eventReader struct {
	io.ReadCloser
	c       *contract
	what    string
	schemas map[string]any
	rest    string
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
		schema, known := r.schemas[name].(map[string]any)
		if !known {
			r.schemas[name] = map[string]any{} // said once
			r.c.t.Errorf("%s sends the event %q, which the document does not know", r.what, name)
			continue
		}
		r.c.check(schema, data, r.what+" event "+name)
	}
}

// The document is OpenAPI 3.1 by its own meta-schema, names every route, and
// the page for readers shows each of them with an example.
func TestDocument(t *testing.T) {
	p := testProgram(t)
	defer p.close(context.Background())
	doc, err := libopenapi.NewDocument(p.api.Document())
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, problems := v.ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("%s: %s %v", p.Message, p.Reason, p.SchemaValidationErrors)
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
		want := []string{"400", "403", "404", "422", "429", "500", "503"}
		if row.Credential != api.Public {
			want = append(want, "401")
			if row.Credential != api.Admin { // who uses no tenant's plan
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
