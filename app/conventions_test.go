package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/web"
)

// wire sends bytes as they are and gives the answer: for what a client library
// would not send.
func wire(t *testing.T, base, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.WriteString(conn, request) }() // the answer may come before the end of it
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	return res
}

type problemBody struct {
	Type, Title, Detail, Instance, Code string
	Status                              int
	RequestID                           string `json:"request_id"`
	Errors                              []struct{ Field, Code, Message string }
}

// Whatever is wrong with a request, the answer is a problem with all its
// members, the right status and the stable code; 422 names the field by its
// path.
func TestWrongRequests(t *testing.T) {
	_, base := serve(t, nil)
	user, key, _ := person(t, base, "wrong")
	for _, c := range []struct {
		name, method, path, media, body string
		who                             client
		status                          int
		code, field, fieldCode          string
	}{
		{"no JSON", "POST", "/api/v1/datasets", "application/json", `{"name":`, key, 400, "malformed_json", "", ""},
		{"two values", "POST", "/api/v1/datasets", "application/json", `{"name":"a"} {"name":"b"}`, key, 400, "malformed_json", "", ""},
		{"a name twice", "POST", "/api/v1/datasets", "application/json", `{"name":"a","name":"b"}`, key, 400, "duplicate_name", "", ""},
		{"a name twice, once escaped", "POST", "/api/v1/datasets", "application/json", `{"name":"a","n\u0061me":"b"}`, key, 400, "duplicate_name", "", ""},
		{"a name twice, further in", "POST", "/api/v1/matches", "application/json", `{"query":{"name":"a","aliases":["x"],"name":"b"}}`, key, 400, "duplicate_name", "", ""},
		{"nested deeply", "POST", "/api/v1/datasets", "application/json", `{"name":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, key, 400, "nested_too_deeply", "", ""},
		{"not UTF-8", "POST", "/api/v1/datasets", "application/json", "{\"name\":\"\xff\"}", key, 400, "malformed_json", "", ""},
		{"a list for an object", "POST", "/api/v1/datasets", "application/json", `[]`, key, 422, "invalid", "", "invalid_value"},
		{"an unknown field", "POST", "/api/v1/datasets", "application/json", `{"name":"a","nmae":"b"}`, key, 422, "invalid", "nmae", "unknown_field"},
		{"an unknown field, further in", "POST", "/api/v1/matches", "application/json", `{"query":{"name":"a","nmae":1}}`, key, 422, "invalid", "query.nmae", "unknown_field"},
		{"another case of a name", "POST", "/api/v1/datasets", "application/json", `{"name":"a","Name":"b"}`, key, 422, "invalid", "Name", "unknown_field"},
		{"a wrong type", "POST", "/api/v1/datasets", "application/json", `{"name":7}`, key, 422, "invalid", "name", "invalid_value"},
		{"a wrong type in a list", "POST", "/api/v1/matches", "application/json", `{"query":{"name":"a","aliases":["b",7]}}`, key, 422, "invalid", "query.aliases[1]", "invalid_value"},
		{"a required field", "POST", "/api/v1/datasets", "application/json", `{}`, key, 422, "invalid", "name", "required"},
		{"no body", "POST", "/api/v1/datasets", "application/json", ``, key, 422, "invalid", "name", "required"},
		{"a string too long", "POST", "/api/v1/datasets", "application/json", `{"name":"` + strings.Repeat("a", 5000) + `"}`, key, 422, "invalid", "name", "too_long"},
		{"an unknown parameter", "GET", "/api/v1/datasets?offset=3", "", "", key, 422, "invalid", "offset", "unknown_field"},
		{"a parameter twice", "GET", "/api/v1/datasets?limit=3&limit=4", "", "", key, 422, "invalid", "limit", "given_twice"},
		{"a parameter out of bounds", "GET", "/api/v1/datasets?limit=201", "", "", key, 422, "invalid", "limit", "too_large"},
		{"a parameter of another type", "GET", "/api/v1/datasets?limit=ten", "", "", key, 422, "invalid", "limit", "invalid_value"},
		{"a cursor that is none", "GET", "/api/v1/datasets?cursor=%00", "", "", key, 422, "invalid", "cursor", "invalid_cursor"},
		{"an unknown media type", "POST", "/api/v1/datasets", "text/plain", `{"name":"a"}`, key, 415, "unsupported_media_type", "", ""},
		{"a form", "POST", "/api/v1/datasets", "application/x-www-form-urlencoded", `name=a`, key, 415, "unsupported_media_type", "", ""},
		{"no media type", "POST", "/api/v1/datasets", "", `{"name":"a"}`, key, 415, "unsupported_media_type", "", ""},
		{"too large", "POST", "/api/v1/datasets", "application/json", `{"name":"` + strings.Repeat("a", 2<<20) + `"}`, key, 413, "body_too_large", "", ""},
		{"another method", "PUT", "/api/v1/datasets", "application/json", `{}`, key, 404, "not_found", "", ""},
		{"a preflight of another site", "OPTIONS", "/api/v1/datasets", "", "", key, 404, "not_found", "", ""},
		{"no such route", "GET", "/api/v1/nothing", "", "", key, 404, "not_found", "", ""},
		{"no such object", "GET", "/api/v1/datasets/ds_nothing", "", "", key, 404, "not_found", "", ""},
		{"a key where a person is wanted", "POST", "/api/v1/api-keys", "application/json", `{"name":"a","scopes":["match:run"]}`, key, 403, "forbidden", "", ""},
		{"a scope that nobody has", "POST", "/api/v1/api-keys", "application/json", `{"name":"a","scopes":["match:run","all:all"]}`, user, 422, "invalid", "scopes[1]", "unknown_scope"},
		{"no credential", "GET", "/api/v1/datasets", "", "", client{t, base, http.Header{}}, 401, "unauthenticated", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest(c.method, base+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = c.who.header.Clone()
			req.Header.Set("X-Request-Id", "req-of-this-test")
			req.Header.Set("Origin", "https://elsewhere.example")
			if c.media != "" {
				req.Header.Set("Content-Type", c.media)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			raw, _ := io.ReadAll(res.Body)
			var p problemBody
			if json.Unmarshal(raw, &p) != nil || res.StatusCode != c.status || p.Code != c.code {
				t.Fatalf("%d %s, want %d %s", res.StatusCode, raw, c.status, c.code)
			}
			if res.Header.Get("Content-Type") != "application/problem+json" || p.Type != "/problems/"+c.code || p.Title == "" || p.Detail == "" || p.Status != c.status ||
				p.RequestID != "req-of-this-test" || res.Header.Get("X-Request-Id") != p.RequestID {
				t.Errorf("a member is missing: %s %v", raw, res.Header)
			}
			if c.fieldCode != "" && (len(p.Errors) == 0 || p.Errors[0].Field != c.field || p.Errors[0].Code != c.fieldCode || p.Errors[0].Message == "") {
				t.Errorf("the field: %s, want %s %s", raw, c.field, c.fieldCode)
			}
			for name := range res.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("another site may read this: %s", name)
				}
			}
		})
	}
}

// A body without an announced length is bounded all the same, on routes that
// take a body and on those that do not; nothing of it reaches another request.
func TestChunkedBodies(t *testing.T) {
	_, base := serve(t, nil)
	_, key, _ := person(t, base, "chunks")
	head := "Host: x\r\nX-API-Key: " + key.header.Get("X-Api-Key") + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := func(n int) string { return fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat(" ", n)) }
	long := strings.Repeat(chunk(64<<10), 40)
	if res := wire(t, base, "POST /api/v1/datasets HTTP/1.1\r\n"+head+long+"0\r\n\r\n"); res.StatusCode != 413 || !res.Close {
		t.Errorf("2.5 MB in chunks: %d, closes %v", res.StatusCode, res.Close)
	}
	if res := wire(t, base, "POST /api/v1/datasets HTTP/1.1\r\n"+head+"10\r\n{\"name\":\"chunked\r\n2\r\n\"}\r\n0\r\n\r\n"); res.StatusCode != 201 {
		t.Errorf("a small one: %d", res.StatusCode)
	}
	if res := wire(t, base, "GET /api/v1/datasets HTTP/1.1\r\n"+head+long); res.StatusCode != 413 || !res.Close {
		t.Errorf("an endless body where none is wanted: %d, closes %v", res.StatusCode, res.Close)
	}
}

// What a refused request leaves unread is never taken for the next request on
// the connection: behind a proxy that would be another client's.
func TestNoSmuggling(t *testing.T) {
	_, base := serve(t, nil)
	inner := "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"a refused chunked POST": "POST /api/v1/datasets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner),
		"a refused POST":         "POST /api/v1/datasets HTTP/1.1\r\nHost: x\r\nContent-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner,
		"a GET with a body":      "GET /api/v1/plans HTTP/1.1\r\nHost: x\r\nContent-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner,
		"no such route":          "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(inner, 100000/len(inner)+1)[:100000],
		"a large refused POST":   "POST /api/v1/datasets HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(inner, 100000/len(inner)+1)[:100000],
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		go func() {
			_, _ = io.WriteString(conn, request+"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}()
		raw, _ := io.ReadAll(conn)
		conn.Close()
		if bytes.Contains(raw, []byte(`"alive"`)) {
			t.Errorf("%s: its body was taken for a request: %s", name, raw)
		}
	}
}

// What is not HTTP is a problem with a request id too, and the host rule holds.
func TestHosts(t *testing.T) {
	_, base := serve(t, map[string]string{"BASE_DOMAIN": "example.test"})
	user, _, _ := person(t, base, "hosts")
	auth := "Authorization: " + user.header.Get("Authorization") + "\r\n"
	other, _, _ := person(t, base, "neighbour")
	_ = other
	for _, c := range []struct {
		name, header string
		status       int
		code         string
	}{
		{"its own", "Host: hosts.example.test\r\n" + auth, 200, ""},
		{"in capitals, with port and dot", "Host: HOSTS.Example.Test.:443\r\n" + auth, 200, ""},
		{"the base domain itself", "Host: example.test\r\n" + auth, 200, ""},
		{"a reserved name", "Host: api.example.test\r\n" + auth, 200, ""},
		{"another tenant's", "Host: neighbour.example.test\r\n" + auth, 403, "tenant_mismatch"},
		{"another in the header", "Host: hosts.example.test\r\nX-Tenant: neighbour\r\n" + auth, 403, "tenant_mismatch"},
		{"nobody's", "Host: nobody.example.test\r\n" + auth, 404, "not_found"},
		{"two labels", "Host: a.hosts.example.test\r\n" + auth, 404, "not_found"},
		{"none", auth, 400, "malformed_request"},
		{"a user part", "Host: hosts@example.test\r\n" + auth, 400, "malformed_request"},
		{"two dots", "Host: hosts..example.test\r\n" + auth, 400, "malformed_request"},
		{"a list", "Host: hosts.example.test, evil.test\r\n" + auth, 400, "malformed_request"},
		{"a forwarded host of nobody we trust", "Host: hosts.example.test\r\nX-Forwarded-Host: neighbour.example.test\r\n" + auth, 200, ""},
	} {
		res := wire(t, base, "GET /api/v1/tenant HTTP/1.1\r\n"+c.header+"\r\n")
		var p problemBody
		_ = json.NewDecoder(res.Body).Decode(&p)
		if res.StatusCode != c.status || c.code != "" && p.Code != c.code || res.Header.Get("X-Request-Id") == "" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %+v %v, want %d %s", c.name, res.StatusCode, p, res.Header, c.status, c.code)
		}
	}
	for name, request := range map[string]string{
		"no HTTP":        "HELLO\r\n\r\n",
		"a large header": "GET /livez HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"two lengths":    "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
	} {
		res := wire(t, base, request)
		var p problemBody
		_ = json.NewDecoder(res.Body).Decode(&p)
		if res.StatusCode < 400 || p.RequestID == "" || res.Header.Get("X-Request-Id") != p.RequestID || !res.Close {
			t.Errorf("%s: %d %+v %v", name, res.StatusCode, p, res.Header)
		}
	}
}

// Only a trusted proxy says who the client is, and only for what it added
// itself: the right-most address that is no proxy of ours.
func TestClientAddress(t *testing.T) {
	for _, c := range []struct{ proxies, forwarded, want string }{
		{"", "203.0.113.7", "127.0.0.1"},
		{"127.0.0.0/8", "203.0.113.7", "203.0.113.7"},
		{"127.0.0.0/8", "198.51.100.1, 203.0.113.7", "203.0.113.7"},
		{"127.0.0.0/8,10.0.0.0/8", "203.0.113.7, 10.1.1.1", "203.0.113.7"},
		{"127.0.0.0/8", "203.0.113.7, not an address", "127.0.0.1"},
		{"127.0.0.0/8", "::ffff:203.0.113.7", "203.0.113.7"},
		{"127.0.0.0/8", "", "127.0.0.1"},
	} {
		_, base := serve(t, map[string]string{"TRUSTED_PROXIES": c.proxies})
		user, _, _ := person(t, base, "address")
		out := user.must(201, "POST", "/api/v1/auth/login"[:len("/api/v1/")]+"datasets", map[string]any{"name": "x"}, "X-Forwarded-For", c.forwarded)
		_ = out
		events := user.must(200, "GET", "/api/v1/audit-events?limit=1", nil)["data"].([]any)
		if got := events[0].(map[string]any)["ip"]; got != c.want {
			t.Errorf("proxies %q, forwarded %q: %v, want %s", c.proxies, c.forwarded, got, c.want)
		}
	}
}

// The language is that of the request, else the person's own.
func TestLanguages(t *testing.T) {
	_, base := serve(t, nil)
	user, _, _ := person(t, base, "languages")
	ask := func(accept string) (string, string) {
		var extra []string
		if accept != "" {
			extra = []string{"Accept-Language", accept}
		}
		_, raw, h := user.do("GET", "/api/v1/datasets/nothing", nil, extra...)
		var p problemBody
		_ = json.Unmarshal(raw, &p)
		return p.Detail, h.Get("Content-Language")
	}
	for accept, want := range map[string]string{"": "There is no such object.", "zh": "没有这个对象。", "zh-CN,zh;q=0.9,en;q=0.8": "没有这个对象。", "en-GB,zh;q=0.5": "There is no such object.", "fr": "There is no such object."} {
		if got, _ := ask(accept); got != want {
			t.Errorf("Accept-Language %q: %q", accept, got)
		}
	}
	user.must(200, "PATCH", "/api/v1/me", map[string]any{"locale": "zh-CN"})
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) { // what is believed of a session is a second old at most
		if got, lang := ask(""); got == "没有这个对象。" && lang == "zh-CN" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a person's own language is not used")
		}
	}
	if got, _ := ask("en"); got != "There is no such object." {
		t.Errorf("the request's language does not win: %q", got)
	}
}

// In production every answer asks for https.
func TestProductionHeaders(t *testing.T) {
	_, base := serve(t, map[string]string{"ENVIRONMENT": "production", "SECRET_KEY": strings.Repeat("k", 32)})
	for _, path := range []string{"/livez", "/api/nothing", "/api/v1/me", "/docs"} {
		res, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if h := res.Header.Get("Strict-Transport-Security"); !strings.Contains(h, "max-age=31536000") {
			t.Errorf("%s: %q", path, h)
		}
	}
}

// What no route claims is the portal's: its page, or the word that it is not
// built, under its own policy. A path below a route's first segment stays 404.
func TestPortalIsServed(t *testing.T) {
	_, base := serve(t, map[string]string{})
	browser := http.Client{} // the portal is no part of the API document
	for path, want := range map[string]int{"/": 200, "/app/datasets": 200, "/assets/gone.js": 404, "/api/gone": 404, "/docs/gone": 404} {
		res, err := browser.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if want == 200 && !web.Embedded().Built() {
			want = 503
		}
		policy := res.Header.Get("Content-Security-Policy")
		if res.StatusCode != want || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "script-src 'unsafe") {
			t.Errorf("%s: %d, want %d: %q", path, res.StatusCode, want, policy)
		}
		if want == 200 && policy != web.Policy {
			t.Errorf("%s: the page's policy is %q", path, policy)
		}
	}
}

// stream opens an event stream and gives its reader once the header is there.
func (c client) stream(path string, extra ...string) *http.Response {
	c.t.Helper()
	req, _ := http.NewRequest("GET", c.base+path, nil)
	req.Header = c.header.Clone()
	for i := 0; i+1 < len(extra); i += 2 {
		req.Header.Set(extra[i], extra[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode != 200 {
		raw, _ := io.ReadAll(res.Body)
		c.t.Fatalf("%s: %d %s", path, res.StatusCode, raw)
	}
	return res
}

// quietImport makes an import that never ends, so that its stream is silent.
func quietImport(t *testing.T, p *program, key client, tenant string) string {
	t.Helper()
	ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "quiet"})["id"].(string)
	id := domain.NewID("imp")
	ctx := domain.WithScope(context.Background(), domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "test"}})
	err := p.store.Tx(ctx, func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, `INSERT INTO dataset_imports (tenant_id, id, dataset_id, mode, dry_run, filename, media_type, size_bytes, status, created_at)
			VALUES (@tenant, @id, @ds, 'append', false, '', '', 0, 'running', @now)`, map[string]any{"id": id, "ds": ds, "now": time.Now().UTC()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return "/api/v1/imports/" + id + "/events"
}

// A reader that leaves a silent stream frees its slot at once: long before the
// heartbeat would find out.
func TestReaderLeaves(t *testing.T) {
	p, base := serve(t, nil)
	_, key, tenant := person(t, base, "leaver")
	path := quietImport(t, p, key, tenant)
	for range 20 {
		res := key.stream(path)
		eventually(t, "one stream is open", func() bool { return p.api.Streams() == 1 })
		left := time.Now()
		res.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		eventually(t, "no stream is open", func() bool { return p.api.Streams() == 0 })
		if took := time.Since(left); took > 5*time.Second { // the heartbeat is 15 s
			t.Errorf("noticed after %v", took)
		}
	}
}

// A tenant's slots are bounded, and come back.
func TestStreamSlots(t *testing.T) {
	p, base := serve(t, nil)
	_, key, tenant := person(t, base, "slots")
	if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "enterprise", "test", "test"); err != nil {
		t.Fatal(err)
	}
	path := quietImport(t, p, key, tenant)
	var open []*http.Response
	for range 200 {
		open = append(open, key.stream(path))
	}
	if status, raw, h := key.do("GET", path, nil); status != 429 || !bytes.Contains(raw, []byte("concurrency_limited")) || h.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %s", status, raw)
	}
	for _, res := range open {
		res.Body.Close()
	}
	eventually(t, "all slots are free", func() bool { return p.api.Streams() == 0 })
	key.stream(path).Body.Close()
}

// A key that is revoked, a session that is ended and a role that is lost end
// the streams that they opened, with an event that says why.
func TestRevocationEndsStreams(t *testing.T) {
	p, base := serve(t, nil)
	user, key, tenant := person(t, base, "revoked")
	path := quietImport(t, p, key, tenant)
	read := func(res *http.Response) string { raw, _ := io.ReadAll(res.Body); return string(raw) }

	res := key.stream(path)
	id := user.must(200, "GET", "/api/v1/api-keys", nil)["data"].([]any)[0].(map[string]any)["id"].(string)
	user.must(204, "DELETE", "/api/v1/api-keys/"+id, nil)
	if text := read(res); !strings.Contains(text, "event: error") || !strings.Contains(text, "unauthenticated") {
		t.Errorf("after the key went: %q", text)
	}

	res = user.stream(path)
	setRole := func(role string) {
		err := p.store.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, "UPDATE memberships SET role = @role WHERE tenant_id = @of", map[string]any{"role": role, "of": tenant})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	setRole("billing")
	if text := read(res); !strings.Contains(text, "forbidden") {
		t.Errorf("after the role went: %q", text)
	}
	setRole("owner")
	eventually(t, "the role is back", func() bool { status, _, _ := user.do("GET", "/api/v1/datasets", nil); return status == 200 })
	res = user.stream(path)
	user.must(204, "POST", "/api/v1/auth/logout", nil)
	if text := read(res); !strings.Contains(text, "unauthenticated") {
		t.Errorf("after the session ended: %q", text)
	}
}

// The drain ends streams with a clean last chunk and does not wait for
// connections that are idle or were opened ahead.
func TestDrain(t *testing.T) {
	p, base, stop := launch(t, configured(t, nil), slog.DiscardHandler, nil)
	_, key, tenant := person(t, base, "drain")
	if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "enterprise", "test", "test"); err != nil {
		t.Fatal(err)
	}
	path := quietImport(t, p, key, tenant)
	var open []*http.Response
	for range 30 {
		open = append(open, key.stream(path))
	}
	ahead, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")) // never used
	if err != nil {
		t.Fatal(err)
	}
	defer ahead.Close()
	idle, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")) // used once, kept alive
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	_, _ = io.WriteString(idle, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || res.StatusCode != 200 {
		t.Fatal(err)
	}
	eventually(t, "30 streams are open", func() bool { return p.api.Streams() == 30 })
	began, ended := time.Now(), make(chan error, 1)
	go func() { ended <- stop() }()
	for _, res := range open {
		if raw, err := io.ReadAll(res.Body); err != nil || bytes.Contains(raw, []byte("event: error")) {
			t.Errorf("the last chunk: %v %q", err, raw)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("the drain: %v", err)
	}
	if took := time.Since(began); took > 4*time.Second { // it would be 5 s for the unused connection, 15 s for the idle one
		t.Errorf("the drain took %v", took)
	}
}
