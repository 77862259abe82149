package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// caller is a principal of the matrix, in words of its own: nothing here is read
// from the code that decides.
type caller struct {
	name     string
	client   client
	slug     string          // of their tenant; "" for who shows no credential
	may      map[string]bool // permissions; nil is all
	features map[string]bool // of the plan
	key      bool
	stale    bool // has shown no factor in the last ten minutes
	named    bool // a platform administrator by name, with a password alone
	admin    bool // one with a second factor
	acting   bool // one who acts as an owner
	scim     bool // a tenant's directory
}

// The relations of a call to tenants.
const (
	own         = "own tenant in the header"
	none        = "no tenant named"
	foreign     = "another tenant in the header"
	mismatching = "own tenant in the host, another in the header"
)

// expect is the oracle: what the row, read as a reviewer reads the table, says
// of the caller. "" is that the guard lets them through.
func (c caller) expect(row api.Row, relation string) string {
	switch {
	case relation == mismatching:
		return "tenant_mismatch"
	case row.Credential == api.Public:
		return ""
	case c.slug == "":
		return "unauthenticated"
	case relation == foreign:
		return "tenant_mismatch"
	case row.Credential == api.Admin && c.named:
		return "step_up_required"
	case row.Credential == api.Admin && !c.admin, c.key && row.Credential&api.Key == 0, c.scim != (row.Credential == api.Directory):
		return "forbidden"
	case row.Credential == api.Admin:
		return ""
	case c.acting && !c.helps(row):
		return "forbidden"
	case row.Permission != "-" && c.may != nil && !c.may[row.Permission]:
		return "forbidden"
	case row.Fresh && c.stale:
		return "step_up_required"
	case row.Feature != "-" && !c.features[row.Feature]:
		return "feature_not_in_plan"
	}
	return ""
}

// helps says what an administrator may do in an owner's name: see, and work on
// lists, matches and research; never take data out, delete, or touch what is the
// person's or the owner's to decide.
func (caller) helps(row api.Row) bool {
	path := strings.TrimPrefix(row.Path, "/api/v1")
	if path == "/me" && row.Method == "GET" || path == "/auth/logout" {
		return true
	}
	for _, never := range []string{"/export", "/result", "/errors", "/download"} { // files
		if strings.HasSuffix(path, never) {
			return false
		}
	}
	if row.Fresh || strings.HasPrefix(path, "/privacy/") || strings.HasPrefix(path, "/auth/") {
		return false
	}
	object, action, _ := strings.Cut(row.Permission, ":")
	switch row.Method {
	case "GET":
		return action == "read" || row.Permission == "match:run"
	case "POST", "PUT", "PATCH":
		return slices.Contains([]string{"dataset:write", "match:run", "matching:write", "research:run"}, object+":"+action)
	}
	return false
}

// Every route × principal × relation to a tenant answers as the table says; what
// passes the guard is stopped by a field that there is not, so that nothing is
// done. With another tenant's object in the path, everybody who may call a route
// gets the same 404 as for one that never was, and never a byte of the other's
// data, in an answer, a log line, a metric, or a key of another in Redis. A new
// route joins by being in the table.
func TestMatrix(t *testing.T) {
	began := time.Now()
	settings := map[string]string{"BASE_DOMAIN": "example.test", "TRUSTED_PROXIES": "127.0.0.1"}
	if _, err := exec.LookPath("redis-server"); err == nil || os.Getenv("TEST_REDIS_URL") != "" { // the embedded one is part of this process
		settings["REDIS_URL"] = testdb.Redis(t)
	}
	var logged syncBuffer
	p, base := served(t, configured(t, settings), slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}), nil)
	sys := domain.System(t.Context(), "test")
	tenantOf := map[string]string{}
	join := func(name, plan string) (user, key client) {
		t.Helper()
		user, key, id := person(t, base, name)
		tenantOf[name] = id
		if err := p.billing.SetPlan(sys, id, plan, "test", "test"); err != nil {
			t.Fatal(err)
		}
		for _, class := range billing.Classes {
			o := billing.Override{Kind: "rate", Name: class, Value: 1 << 40, Author: "test", Reason: "test"}
			if o.TenantID = id; p.billing.Override(sys, o) != nil {
				t.Fatal(class)
			}
		}
		o := billing.Override{Kind: "quota", Name: "api_requests", Value: 1 << 40, Author: "test", Reason: "test"}
		if o.TenantID = id; p.billing.Override(sys, o) != nil {
			t.Fatal("api_requests")
		}
		return user, key
	}
	victim, victimKey := join("alpha", "enterprise")
	owner, ownerKey := join("beta", "enterprise")
	other, _ := join("gamma", "free")
	root, _ := join("root", "free")
	theirs := objects(t, p, victim, victimKey, tenantOf["alpha"], "CanaryAlpha")
	ours := objects(t, p, owner, ownerKey, tenantOf["beta"], "CanaryBeta")
	never := neverWere()
	for mark, key := range map[string]client{"CanaryAlpha": victimKey, "CanaryBeta": ownerKey} { // kept answers
		for range 2 {
			key.must(200, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": mark + " A"}})
		}
	}

	// The principals.
	all := map[string]bool{"matching": true, "research": true, "sso": true, "scim": true} // of enterprise
	few := map[string]bool{"matching": true, "research": true}                            // of free
	var permissions []string
	for _, x := range owner.must(200, "GET", "/api/v1/permissions", nil)["data"].([]any) {
		permissions = append(permissions, x.(map[string]any)["name"].(string))
	}
	custom := []string{"dataset:read", "research:run", "member:read"}
	role := owner.must(201, "POST", "/api/v1/tenant/roles", map[string]any{"name": "custom", "permissions": custom})["id"].(string)
	callers := []caller{
		{name: "anonymous", client: client{t, base, http.Header{}}},
		{name: "owner", client: owner, slug: "beta", features: all},
		{name: "other tenant's owner", client: other, slug: "gamma", features: few},
	}
	anyone := client{t, base, http.Header{}}
	signUp := func(name string) map[string]any {
		return map[string]any{"email": name + "@example.org", "password": "correct horse battery", "full_name": name, "workspace_name": name, "accept_terms": true}
	}
	token := func(c client, out map[string]any) client {
		return client{c.t, c.base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
	}
	for _, name := range []string{"viewer", "analyst", "admin", "billing", "custom"} {
		out := anyone.must(201, "POST", "/api/v1/auth/signup", signUp(name))
		as, may := name, policyOf(t, name, permissions)
		if name == "custom" {
			as, may = role, set(custom)
		}
		if _, err := p.store.SQLDB().Exec("INSERT INTO memberships (tenant_id, id, user_id, role, created_at) VALUES ($1, $2, $3, $4, $5)",
			tenantOf["beta"], domain.NewID("mem"), out["user"].(map[string]any)["id"], as, time.Now().UTC()); err != nil {
			t.Fatal(err)
		}
		c := token(anyone, token(anyone, out).must(200, "POST", "/api/v1/auth/switch", map[string]any{"tenant_id": tenantOf["beta"]}))
		c.must(204, "POST", "/api/v1/auth/step-up", map[string]any{"password": "correct horse battery"})
		callers = append(callers, caller{name: name, client: c, slug: "beta", may: may, features: all})
	}
	keyOf := func(name string, scopes []string) {
		made := owner.must(201, "POST", "/api/v1/api-keys", map[string]any{"name": name, "scopes": scopes})["key"].(string)
		callers = append(callers, caller{name: name, client: client{t, base, http.Header{"X-Api-Key": {made}}}, slug: "beta", may: set(scopes), features: all, key: true})
	}
	keyOf("scoped key", []string{"dataset:read", "usage:read"})
	keyOf("full key", permissions)
	stale := token(anyone, anyone.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "beta@example.org", "password": "correct horse battery"}))
	for _, s := range stale.must(200, "GET", "/api/v1/auth/sessions", nil)["data"].([]any) {
		if s := s.(map[string]any); s["current"] == true {
			if _, err := p.store.SQLDB().Exec("UPDATE sessions SET proved_at = $1 WHERE id = $2", time.Now().UTC().Add(-time.Hour), s["id"]); err != nil {
				t.Fatal(err)
			}
		}
	}
	callers = append(callers, caller{name: "owner without a fresh factor", client: stale, slug: "beta", features: all, stale: true})
	named, _ := join("named", "free")
	if _, err := p.auth.CreateAdmin(sys, "named@example.org", "test"); err != nil {
		t.Fatal(err)
	}
	administrator(t, p, root)
	acting := token(anyone, root.must(201, "POST", "/api/v1/admin/impersonations", map[string]any{"tenant_id": tenantOf["beta"], "minutes": 30, "reason": "ticket 4711: the matrix",
		"user_id": owner.must(200, "GET", "/api/v1/me", nil)["user"].(map[string]any)["id"]}))
	callers = append(callers,
		caller{name: "administrator by password alone", client: named, slug: "named", features: few, named: true},
		caller{name: "administrator", client: root, slug: "root", features: few, admin: true},
		caller{name: "impersonator", client: acting, slug: "beta", features: all, acting: true})
	directory := owner.must(201, "POST", "/api/v1/tenant/scim-tokens", map[string]any{"name": "b"})["token"].(string)
	callers = append(callers, caller{name: "directory", client: client{t, base, http.Header{"Authorization": {"Bearer " + directory}}}, slug: "beta", features: all, scim: true})
	// Who has not proved their address has nothing to show.
	p.auth.Verify = true
	anyone.must(202, "POST", "/api/v1/auth/signup", signUp("unverified"))
	eventually(t, "the account is made", func() bool {
		status, raw, _ := anyone.do("POST", "/api/v1/auth/login", map[string]any{"email": "unverified@example.org", "password": "correct horse battery"}, "X-Forwarded-For", address())
		return status == 403 && strings.Contains(string(raw), "email_unverified")
	})
	callers = append(callers, caller{name: "unverified", client: client{t, base, http.Header{"Authorization": {"Bearer unverified"}}}})

	var doc struct {
		Paths      map[string]map[string]operation
		Components struct{ Schemas map[string]*jsonSchema }
	}
	if err := json.Unmarshal(p.api.Document(), &doc); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	plain := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	// ask sends a call and gives its status and body; a byte of what is another's fails.
	ask := func(c caller, method, path, body string, header ...string) (int, string) {
		req, err := http.NewRequest(method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = c.client.header.Clone()
		req.Header.Set("X-Forwarded-For", address())
		req.Header.Set("X-Request-Id", "same-for-both")
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		for i := 0; i+1 < len(header); i += 2 {
			if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
				req.Host = header[i+1]
			}
		}
		res, err := plain.Do(req)
		if err != nil {
			t.Errorf("%s: %s %s: %v", c.name, method, path, err)
			return 0, ""
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("%s: %s %s: %v", c.name, method, path, err)
		}
		for slug, canary := range map[string]string{"alpha": "CanaryAlpha", "beta": "CanaryBeta"} {
			if c.slug != slug && bytes.Contains(raw, []byte(canary)) {
				t.Errorf("%s: %s %s shows what is another tenant's: %s", c.name, method, path, raw)
			}
		}
		if res.StatusCode == 303 {
			return 303, res.Header.Get("Location")
		}
		return res.StatusCode, string(raw)
	}

	cells, objectCells := atomic.Int64{}, atomic.Int64{}
	check := func(c caller, row api.Row) {
		name := row.Method + " " + row.Path
		op := doc.Paths[row.Path][strings.ToLower(row.Method)]
		body := ""
		if len(op.RequestBody.Content) > 0 {
			body = `{"no_such_field": 1}`
		}
		path := filled(t, row, never)
		slug := c.slug
		if slug == "" {
			slug = "beta"
		}
		for relation, header := range map[string][]string{none: {}, own: {"X-Tenant", slug}, foreign: {"X-Tenant", tenantOf["alpha"]},
			mismatching: {"Host", slug + ".example.test", "X-Tenant", "alpha"}} {
			cells.Add(1)
			status, raw := ask(c, row.Method, path+"?no_such_field=1", body, header...)
			want := c.expect(row, relation)
			code := struct{ Code string }{}
			_ = json.Unmarshal([]byte(raw), &code)
			if row.Credential == api.Public && op.Responses["303"] != nil { // a browser is led on, whatever it is told
				if status != 303 || strings.Contains(raw, "tenant_mismatch") != (want == "tenant_mismatch") {
					t.Errorf("%s: %s, %s: want %q, got %d %s", c.name, name, relation, want, status, raw)
				}
				continue
			}
			if row.Credential == api.Directory { // which lets unknown fields pass, and has errors of its own
				if refused := status == 401 || status == 403; refused != (want != "") || (status == 401) != (want == "unauthenticated") {
					t.Errorf("%s: %s, %s: want %q, got %d %s", c.name, name, relation, want, status, raw)
				}
				continue
			}
			passed := status == 422 && strings.Contains(raw, "no_such_field")
			if want == "" && !passed || want != "" && (code.Code != want || status != map[bool]int{true: 401, false: 403}[want == "unauthenticated"]) {
				t.Errorf("%s: %s, %s: want %q, got %d %s", c.name, name, relation, want, status, raw)
			}
		}
		// Another tenant's object, for whoever may call the row at all.
		if strings.Contains(row.Path, "{") && row.Credential&(api.Member|api.Directory) != 0 && c.slug != "" && c.expect(row, none) == "" && !shared[strings.Split(row.Path, "/")[3]] {
			objectCells.Add(1)
			if body = ""; len(op.RequestBody.Content) > 0 {
				sample, _ := json.Marshal(op.sample(doc.Components.Schemas))
				body = string(sample)
			}
			if row.Credential == api.Directory {
				body = `{"userName": "x@example.org", "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [{"op": "add", "value": {"active": true}}]}`
			}
			s1, r1 := ask(c, row.Method, filled(t, row, theirs), body)
			s2, r2 := ask(c, row.Method, path, body)
			if r1, r2 = anyID.ReplaceAllString(r1, "id"), anyID.ReplaceAllString(r2, "id"); s1 != 404 || s2 != 404 || r1 != r2 {
				t.Errorf("%s: %s: another tenant's %d %s, one that never was %d %s", c.name, name, s1, r1, s2, r2)
			}
		}
		// One's own, to see that there is something to be seen.
		if c.name == "owner" && row.Method == "GET" && row.Credential&api.Session != 0 && !strings.HasSuffix(row.Path, "/events") {
			if status, raw := ask(c, "GET", filled(t, row, ours), ""); status >= 500 {
				t.Errorf("%s of one's own: %d %s", name, status, raw)
			}
		}
	}
	work := make(chan func())
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for do := range work {
				do()
			}
		}()
	}
	for _, row := range p.table {
		for _, c := range callers {
			work <- func() { check(c, row) }
		}
	}
	close(work)
	workers.Wait()
	if want := int64(len(p.table) * len(callers) * 4); cells.Load() != want || objectCells.Load() < 200 || len(callers) < 16 {
		t.Errorf("%d cells of %d, and %d with another's object", cells.Load(), want, objectCells.Load())
	}
	t.Logf("%d rows, %d principals: %d cells and %d with another tenant's object in %v", len(p.table), len(callers), cells.Load(), objectCells.Load(), time.Since(began))

	// The sinks.
	for line := range strings.Lines(logged.String()) {
		if strings.Contains(line, "Canary") {
			t.Errorf("a log line: %s", line)
		}
	}
	if url := settings["REDIS_URL"]; url != "" {
		kept := 0
		for key, held := range redisKeys(t, url) {
			for slug, canary := range map[string]string{"alpha": "CanaryAlpha", "beta": "CanaryBeta"} {
				if strings.Contains(key+" "+held, canary) {
					if kept++; !strings.Contains(key, tenantOf[slug]) {
						t.Errorf("Redis key %s holds what is %s's", key, slug)
					}
				}
			}
		}
		if kept == 0 {
			t.Error("no canary is in Redis at all: the search shows nothing")
		}
	}
	_, metrics, _ := anyone.do("GET", "/metrics", nil)
	for slug, id := range tenantOf {
		if bytes.Contains(metrics, []byte("Canary")) || bytes.Contains(metrics, []byte(id)) {
			t.Errorf("a metric tells of %s", slug)
		}
	}
	// C2: a refusal is on the record of the caller's tenant, never of the one that was tried.
	for slug, denied := range map[string]bool{"alpha": false, "beta": true, "gamma": true} {
		var n int
		if err := p.store.SQLDB().QueryRow("SELECT count(*) FROM audit_events WHERE tenant_id = $1 AND action = 'request.deny'", tenantOf[slug]).Scan(&n); err != nil || (n > 0) != denied {
			t.Errorf("%d refusals on the record of %s: %v", n, slug, err)
		}
	}
}

// addresses is the next client address; each has limits of its own.
var addresses atomic.Uint32

func address() string {
	n := addresses.Add(1)
	return fmt.Sprintf("198.%d.%d.%d", 18+n>>16&1, n>>8&255, n&255)
}

// redisKeys is all that a Redis holds, by key.
func redisKeys(t *testing.T, url string) map[string]string {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb, ctx := redis.NewClient(o), t.Context()
	defer rdb.Close()
	out := map[string]string{}
	for keys := rdb.Scan(ctx, 0, "*", 1000).Iterator(); keys.Next(ctx); {
		key := keys.Val()
		switch kind := rdb.Type(ctx, key).Val(); kind {
		case "string":
			out[key] = rdb.Get(ctx, key).Val()
		case "hash":
			out[key] = fmt.Sprint(rdb.HGetAll(ctx, key).Val())
		case "set":
			out[key] = fmt.Sprint(rdb.SMembers(ctx, key).Val())
		case "zset":
			out[key] = fmt.Sprint(rdb.ZRange(ctx, key, 0, -1).Val())
		case "list":
			out[key] = fmt.Sprint(rdb.LRange(ctx, key, 0, -1).Val())
		case "none": // it has just gone
		default:
			t.Errorf("what does a %s hold? read it here", kind)
		}
	}
	return out
}

func set(list []string) map[string]bool {
	out := map[string]bool{}
	for _, x := range list {
		out[x] = true
	}
	return out
}

// policyOf reads what a built-in role may do from the lines of the policy.
func policyOf(t *testing.T, role string, permissions []string) map[string]bool {
	t.Helper()
	raw, err := os.ReadFile("../auth/policy.csv")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, p := range permissions {
		object, action, _ := strings.Cut(p, ":")
		for _, may := range []string{object + ", " + action, object + ", *"} {
			if strings.Contains("\n"+string(raw), "\np, "+role+", "+may+"\n") {
				out[p] = true
			}
		}
	}
	return out
}

// syncBuffer is a log that many write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
