package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// client calls a server as one principal.
type client struct {
	t      testing.TB
	base   string
	header http.Header
}

// do gives the whole answer; a stream's is there when the stream has ended.
func (c client) do(method, path string, body any, extra ...string) (int, []byte, http.Header) {
	c.t.Helper()
	var r io.Reader
	if body != nil {
		b, _ := json.Marshal(body)
		r = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header = c.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(extra); i += 2 {
		req.Header.Set(extra[i], extra[i+1])
		if extra[i] == "Host" {
			req.Host = extra[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if ctx.Err() != nil {
		c.t.Fatalf("%s %s: %d, and after %v not the whole answer: %v", method, path, res.StatusCode, patience, err)
	}
	return res.StatusCode, out, res.Header
}

func (c client) must(status int, method, path string, body any, extra ...string) map[string]any {
	c.t.Helper()
	got, raw, _ := c.do(method, path, body, extra...)
	if got != status {
		c.t.Fatalf("%s %s: %d, want %d: %s", method, path, got, status, raw)
	}
	out := map[string]any{}
	_ = json.Unmarshal(raw, &out)
	return out
}

// person signs up and gives a client with their token, and one with a key.
func person(t *testing.T, base, name string) (user, key client, tenant string) {
	t.Helper()
	anyone := client{t, base, http.Header{}}
	out := anyone.must(201, "POST", "/api/v1/auth/signup", map[string]any{"email": name + "@example.org", "password": "correct horse battery",
		"full_name": name, "workspace_name": name, "accept_terms": true})
	user = client{t, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
	made := user.must(201, "POST", "/api/v1/api-keys", map[string]any{"name": "k", "scopes": []string{"dataset:read", "dataset:write", "dataset:delete",
		"match:run", "usage:read", "matching:read", "matching:write", "audit:read", "api_key:read", "tenant:read"}})
	key = client{t, base, http.Header{"X-Api-Key": {made["key"].(string)}}}
	return user, key, out["tenant"].(map[string]any)["id"].(string)
}

func (c client) importList(dataset, text, query string) map[string]any {
	c.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("file", "list.csv")
	_, _ = io.WriteString(part, text)
	w.Close()
	req, _ := http.NewRequest("POST", c.base+"/api/v1/datasets/"+dataset+"/imports"+query, &b)
	req.Header = c.header.Clone()
	req.Header.Set("Content-Type", w.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	var im map[string]any
	raw, _ := io.ReadAll(res.Body)
	if json.Unmarshal(raw, &im) != nil || res.StatusCode != 202 {
		c.t.Fatalf("import: %d %s", res.StatusCode, raw)
	}
	c.must(200, "GET", "/api/v1/imports/"+im["id"].(string)+"/events", nil) // ends when the import does
	return c.must(200, "GET", "/api/v1/imports/"+im["id"].(string), nil)
}

// each runs fn against a whole program on the embedded defaults, and on
// PostgreSQL and Redis.
func each(t *testing.T, fn func(t *testing.T, p *program, base string)) {
	eachWith(t, nil, fn)
}

// eachWith is each with settings of its own.
func eachWith(t *testing.T, more map[string]string, fn func(t *testing.T, p *program, base string)) {
	eachSet(t, more, func(*program) {}, fn)
}

// eachSet also changes the program before it runs.
func eachSet(t *testing.T, more map[string]string, set func(p *program), fn func(t *testing.T, p *program, base string)) {
	for name, vars := range map[string]func(t *testing.T) map[string]string{
		"embedded": func(*testing.T) map[string]string { return map[string]string{} },
		"postgres and redis": func(t *testing.T) map[string]string {
			return map[string]string{"DATABASE_URL": testdb.OnPostgres(t).URL, "REDIS_URL": testdb.Redis(t)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			values := vars(t)
			values["BASE_DOMAIN"] = "example.test"
			maps.Copy(values, more)
			p, base := served(t, configured(t, values), slog.DiscardHandler, set)
			fn(t, p, base)
		})
	}
}

// A new user signs up, makes a key, uploads a list and matches against it;
// what was used is counted, and the record is whole.
func TestMainJob(t *testing.T) {
	each(t, func(t *testing.T, _ *program, base string) {
		user, key, _ := person(t, base, "lab")
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		im := key.importList(ds, "name,aliases,country\nNational University of Defense Technology,NUDT; Guofang Keji,China\nAcademy of Military Science,AMS,China\n,lost,\n", "")
		if im["status"] != "succeeded" || im["rows_accepted"] != 2.0 || im["rows_rejected"] != 1.0 {
			t.Fatalf("%v", im)
		}
		for _, name := range []string{"Natl. Univ. of Defense Technology (NUDT)", "Gofang Keji", "academy of military science"} {
			out := key.must(200, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": name}, "dataset_ids": []string{ds}})
			if len(out["matches"].([]any)) == 0 {
				t.Errorf("%q is not found", name)
			}
		}
		again := key.must(200, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "Gofang Keji"}, "dataset_ids": []string{ds}})
		if again["cached"] != true {
			t.Error("the second answer was not kept")
		}
		for _, m := range key.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
			m := m.(map[string]any)
			if want, ok := map[string]float64{"match": 4, "import_rows": 2, "dataset_rows": 2, "datasets": 1}[m["meter"].(string)]; ok && m["used"] != want {
				t.Errorf("%v used %v, want %v", m["meter"], m["used"], want)
			}
		}
		if v := user.must(200, "GET", "/api/v1/audit-events/verify", nil); v["ok"] != true || v["length"].(float64) < 4 {
			t.Errorf("audit: %v", v)
		}
	})
}

// Five hundred callers at once on what is left of a quota get exactly that.
func TestQuotaIsExact(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		_, key, tenant := person(t, base, "quota")
		sys := domain.System(context.Background(), "test")
		// 990 of a quota of 1,000 used, with the rate of a larger plan.
		for _, o := range []billing.Override{{Kind: "quota", Name: "match", Value: 1000}, {Kind: "rate", Name: "match", Value: 3000}} {
			o.TenantID, o.Author, o.Reason = tenant, "test", "test"
			if err := p.billing.Override(sys, o); err != nil {
				t.Fatal(err)
			}
		}
		key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})
		for range 11 {
			var q []any
			for range 90 {
				q = append(q, map[string]any{"name": "Nobody in particular"})
			}
			key.must(200, "POST", "/api/v1/matches/batch", map[string]any{"queries": q})
		}
		var ok, refused atomic.Int64
		var wg sync.WaitGroup
		for range 500 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				status, body, h := key.do("POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "x y z"}})
				switch {
				case status == 200:
					ok.Add(1)
				case status == 429 && h.Get("Retry-After") != "" && bytes.Contains(body, []byte("quota_exceeded")):
					refused.Add(1)
				default:
					t.Errorf("%d %s", status, body)
				}
			}()
		}
		wg.Wait()
		if ok.Load() != 10 || refused.Load() != 490 {
			t.Errorf("%d admitted, %d refused; want 10 and 490", ok.Load(), refused.Load())
		}
	})
}

// The test binary is the server too, where metering_test.go asks for it.
func TestMain(m *testing.M) {
	if args := os.Getenv("CR_TEST_SERVE_ARGS"); args != "" {
		os.Args = append([]string{"chainreactions"}, strings.Fields(args)...)
		main()
		return
	}
	http.DefaultClient.Transport = contractTransport{http.DefaultTransport}
	os.Exit(m.Run())
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
