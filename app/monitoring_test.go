package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chainreactions/chainreactions/app/mail"

	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// door stands before a server and can be shut and opened again.
type door struct {
	t       testing.TB
	to      string
	address string
	mu      sync.Mutex
	l       net.Listener
	through map[net.Conn]bool
}

func newDoor(t testing.TB, to string) *door {
	d := &door{t: t, to: to, address: "127.0.0.1:0", through: map[net.Conn]bool{}}
	d.open()
	t.Cleanup(d.shut)
	return d
}

func (d *door) open() {
	d.t.Helper()
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.l, d.address = l, l.Addr().String()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", d.to)
			if err != nil {
				in.Close()
				continue
			}
			d.mu.Lock()
			d.through[in], d.through[out] = true, true
			d.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
					pair[1].Close()
				}()
			}
		}
	}()
}

// shut refuses whoever comes and cuts whoever is through.
func (d *door) shut() {
	d.l.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.through {
		c.Close()
	}
	clear(d.through)
}

// at puts the door's address in place of an address's host.
func (d *door) at(t testing.TB, address string) string {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = d.address
	return u.String()
}

// Each dependency is broken on purpose in turn: the very next look of a gateway,
// which uses none of the vendors itself, names it and the services that suffer, no
// other; and finds all well when it is back. So it is with what only another
// process can see: its folder, refused keys, mails that are not taken, itself.
func TestEveryBrokenDependencyIsNamed(t *testing.T) {
	t.Parallel()
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead { // somebody is there, and takes no key of ours
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer vendor.Close()
	there := vendor.Listener.Addr().String()
	greeter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer greeter.Close()
	go func() {
		for {
			c, err := greeter.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 here\r\n")
			c.Close() // and takes nothing
		}
	}()
	postgres, redis := testdb.OnPostgres(t).URL, testdb.StartRedis(t).URL
	db, err := pgx.Connect(t.Context(), postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	host := func(address string) string { u, _ := url.Parse(address); return u.Host }
	doors := map[string]*door{"database": newDoor(t, host(postgres)), "redis": newDoor(t, host(redis)), "smtp": newDoor(t, greeter.Addr().String())}
	for _, name := range []string{"gemini", "openai", "brightdata", "searxng", "linkup", "stripe"} {
		doors[name] = newDoor(t, there)
	}
	base := func(name string) string { return "http://" + doors[name].address }
	folder := t.TempDir()
	vars := map[string]string{"SANDBOX": "off", "DATA_DIR": folder, "SECRET_KEY": strings.Repeat("k", 32), "EMAIL_VERIFICATION": "off",
		"DATABASE_URL": doors["database"].at(t, postgres), "REDIS_URL": doors["redis"].at(t, redis),
		"SMTP_URL": "smtp://" + doors["smtp"].address + "?tls=none", "MAIL_FROM": "Us <us@example.org>",
		"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": base("gemini"), "OPENAI_MODEL": "m", "OPENAI_BASE_URL": base("openai"),
		"BRIGHT_DATA_API_KEY": "k", "BRIGHT_DATA_SERP_ZONE": "z", "BRIGHT_DATA_BASE_URL": base("brightdata"),
		"SEARXNG_URL": base("searxng"), "LINKUP_API_KEY": "k", "LINKUP_BASE_URL": base("linkup"),
		"STRIPE_SECRET_KEY": "sk_test_x", "STRIPE_WEBHOOK_SECRET": "whsec_x", "STRIPE_API_BASE": base("stripe")}
	inRoles := func(list string) (p *program, at string, stop func() error) {
		c := configured(t, vars)
		if err := c.takeRoles(list); err != nil {
			t.Fatal(err)
		}
		return launch(t, c, slog.DiscardHandler, func(p *program) { p.monitor.Share = time.Millisecond })
	}
	worker, _, stopWorker := inRoles("main,dataset-search,entity-relations,dataset-matching")
	vars["DATA_DIR"] = t.TempDir()
	front, at, stop := inRoles("gateway")
	t.Cleanup(func() { _ = stop() })
	anyone := client{t, at, http.Header{}}
	until(t, "the gateway knows the other process", func() bool { return len(front.membersOf("main")) == 1 })

	type service struct {
		Service      string
		Status       string
		Dependencies struct {
			Database, Redis, Storage string
			ExternalAPIs             map[string]string `json:"external_apis"`
		}
		Metadata struct {
			LastError *string `json:"last_error"`
		}
	}
	var before []service
	look := func() []service {
		var list struct {
			Services                       []service
			Total, Healthy, Degraded, Down int
		}
		_, raw, _ := anyone.do("POST", "/api/monitoring/health/check", nil)
		if err := json.Unmarshal(raw, &list); err != nil || len(list.Services) != 6 || list.Total != 6 || list.Healthy+list.Degraded+list.Down != 6 {
			t.Fatalf("%s %v; before it %+v", raw, err, before)
		}
		before = list.Services
		return list.Services
	}
	allWell := func() bool {
		for _, s := range look() {
			if s.Status != "healthy" {
				return false
			}
		}
		return true
	}
	until(t, "all is well", allWell)

	research := []string{"entity_relations", "entity_search", "dataset_search"}
	for _, c := range []struct {
		breaks string
		status string
		hits   []string // services; nil is all
	}{
		{"database", "down", nil},
		{"redis", "degraded", nil},
		{"smtp", "down", []string{"email"}},
		{"gemini", "degraded", research[:1]},
		{"openai", "degraded", research[:1]},
		{"brightdata", "degraded", research},
		{"searxng", "degraded", research},
		{"linkup", "degraded", research},
		{"stripe", "", []string{}},
	} {
		doors[c.breaks].shut()
		until(t, c.breaks+" is seen", func() bool {
			for _, s := range look() {
				state := map[string]string{"database": s.Dependencies.Database, "redis": s.Dependencies.Redis}[c.breaks]
				if state == "" {
					state = s.Dependencies.ExternalAPIs[c.breaks]
				}
				if state != "down" {
					return false
				}
				want := "healthy"
				if c.hits == nil || strings.Contains(strings.Join(c.hits, " "), s.Service) {
					want = c.status
				}
				if s.Status != want {
					return false
				}
				if want != "healthy" && (s.Metadata.LastError == nil || !strings.Contains(*s.Metadata.LastError, c.breaks)) {
					return false // or another is still named, of which the other process has yet to say that it is back
				}
			}
			return true
		})
		if c.breaks == "database" { // its keepers are answered all the same
			if status, raw, _ := anyone.do("GET", "/api/monitoring/enhanced-health", nil); status != 503 || !strings.Contains(string(raw), `"database":"down"`) {
				t.Errorf("%d %s", status, raw)
			}
			anyone.must(503, "GET", "/api/health", nil)
			anyone.must(503, "GET", "/readyz", nil)
			anyone.must(200, "GET", "/livez", nil)
		}
		if _, raw, _ := anyone.do("GET", "/metrics", nil); !strings.Contains(string(raw), fmt.Sprintf("chainreactions_dependency_status{dependency=%q} 0\n", c.breaks)) {
			t.Errorf("the metrics do not show that %s is down", c.breaks)
		}
		doors[c.breaks].open()
		until(t, "all is well without a hand after "+c.breaks, allWell)
	}
	if status := anyone.must(200, "GET", "/api/monitoring/status", nil); status["monitoring"].(map[string]any)["is_running"] != true {
		t.Errorf("%v", status)
	}
	// sees waits until these services are in that state, and say that of it, and all others are well.
	sees := func(status, why string, hits ...string) {
		t.Helper()
		until(t, why+" is seen", func() bool {
			for _, s := range look() {
				hit := slices.Contains(hits, s.Service)
				if hit && (s.Status != status || s.Metadata.LastError == nil || !strings.Contains(*s.Metadata.LastError, why)) || !hit && s.Status != "healthy" {
					return false
				}
			}
			return true
		})
	}
	asker := researcher(t, worker, at, "asker")
	list := "/api/v1/datasets/" + asker.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string) + "/imports"
	uploads := filepath.Join(folder, "uploads")
	if err := errors.Join(os.Rename(uploads, uploads+".away"), os.WriteFile(uploads, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	sees("degraded", "storage is degraded: is down in a process of main and dataset-search and entity-relations and dataset-matching: cannot be written", "data_management", "dataset_matching")
	if status, raw, h := asker.do("POST", list, "name\nA\n", "Content-Type", "text/csv"); status != 503 || h.Get("Retry-After") == "" || !strings.Contains(string(raw), `"dependency_unavailable"`) {
		t.Errorf("an upload without a folder: %d %s", status, raw)
	}
	asker.must(200, "GET", "/api/v1/datasets", nil)
	if err := errors.Join(os.Remove(uploads), os.Rename(uploads+".away", uploads)); err != nil {
		t.Fatal(err)
	}
	until(t, "the folder is back", allWell)

	readOnly := func(is string) {
		for _, sql := range []string{"SET default_transaction_read_only = off", "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = " + is + "', current_database()); END $$",
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"} {
			if _, err := db.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	readOnly("on")
	sees("down", "database is down: cannot be written", "entity_relations", "entity_search", "dataset_matching", "data_management", "dataset_search", "email")
	if state := anyone.must(200, "GET", "/api/health", nil); state["status"] != "degraded" || state["dependencies"].(map[string]any)["database"] != "down" {
		t.Errorf("a process whose database takes no writes says %v", state)
	}
	readOnly("off")
	until(t, "the database takes writes again", allWell)

	one := anyone.must(200, "GET", "/api/monitoring/health/email", nil)
	if one["status"] != "healthy" || anyone.must(200, "GET", "/api/monitoring/health/summary", nil)["overall"] != "healthy" {
		t.Errorf("%v", one)
	}
	anyone.must(404, "GET", "/api/monitoring/health/nothing", nil)

	// From here on it does not come back: keys rest for minutes.
	anyone.must(202, "POST", "/api/v1/demo-requests", map[string]any{"name": "A", "email": "a@example.org", "company": "C", "message": "M"})
	sees("degraded", "does not take what is sent", "email")
	asker.must(202, "POST", "/api/v1/entity-searches", map[string]any{"name": "Northmere University", "depth": "standard"})
	until(t, "a refused key is seen by who uses none", func() bool {
		_, raw, _ := anyone.do("GET", "/api/monitoring/enhanced-health", nil)
		look()
		return strings.Contains(string(raw), `"linkup":"gives nothing: key_refused"`) || strings.Contains(string(raw), `"linkup":"fails: key_refused"`)
	})
	_ = stopWorker()
	front.started = front.started.Add(-time.Minute) // long enough ago that it has heard of everybody
	until(t, "a role without a process is seen", func() bool {
		for _, s := range look() {
			if s.Status != "down" || s.Metadata.LastError == nil || !strings.HasPrefix(*s.Metadata.LastError, "no process serves the role ") {
				return false
			}
		}
		return true
	})
}

// A critical alert is posted to the webhook and mailed within the check that
// finds it, although the database, which keeps the queue of mails, is what is away.
func TestAlertWithoutTheDatabase(t *testing.T) {
	posted := make(chan string, 20)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(strings.Repeat("k", 24)))
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
		if r.Header.Get("Webhook-Id") == "" || r.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			t.Errorf("what is posted is not signed: %v", r.Header)
		}
		posted <- string(body)
	}))
	defer hook.Close()
	db := testdb.OnPostgres(t)
	u, _ := url.Parse(db.URL)
	d := newDoor(t, u.Host)
	dir := t.TempDir()
	c, err := loadConfig(env(map[string]string{"DATA_DIR": dir, "SANDBOX": "off", "DATABASE_URL": d.at(t, db.URL), "ALERT_LIMITS": "jobs_wait=0.01", "ALERT_WEBHOOK": hook.URL, "ALERT_WEBHOOK_SECRET": "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 24))), "ALERT_EMAIL": "keeper@example.org"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close(context.Background())
	// Nothing of it runs, so that what is asked for waits: the service that it is of says so.
	if _, err := p.mail.RequestDemo(t.Context(), mail.DemoRequest{Name: "A", Email: "a@example.org", Company: "C", Message: "M"}); err != nil {
		t.Fatal(err)
	}
	p.monitor.Share = time.Nanosecond
	until(t, "mails that wait are seen", func() bool {
		waits := 0
		for _, s := range p.monitor.Check(context.Background()).Services {
			if s.Status == "degraded" && s.Metadata.LastError != nil && *s.Metadata.LastError == "mail jobs wait too long" {
				waits++
			}
			if s.Service == "email" != (s.Status == "degraded") && s.Status != "down" { // vendors are not configured
				return false
			}
		}
		return waits == 1
	})
	d.shut()
	p.monitor.Check(context.Background())
	found := func() bool {
		for {
			select {
			case body := <-posted:
				if strings.Contains(body, `"rule":"dependency_down","subject":"database"`) && strings.Contains(body, `"text":"[critical] firing: database`) {
					return true
				}
			default:
				return false
			}
		}
	}
	if !found() {
		t.Error("nothing was posted")
	}
	mails, err := p.mail.ShowOutbox(context.Background(), struct{}{})
	if err != nil || !strings.Contains(string(mails), "database does not answer") {
		t.Errorf("nothing was mailed: %v", err)
	}
}

// Alerts are for platform administrators alone; who silences one is on the record.
func TestAlertsInAdministration(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		root, key, _ := person(t, base, "keeper")
		const at = "/api/v1/admin/alerts"
		root.must(403, "GET", at, nil)
		key.must(403, "GET", at, nil)
		administrator(t, p, root)
		if out := root.must(200, "GET", at+"?status=firing", nil); out["data"] == nil {
			t.Errorf("%v", out)
		}
		made := root.must(201, "POST", at+"/silences", map[string]any{"rule": "disk_free", "subject": "", "reason": "being grown", "minutes": 30})
		if made["rule"] != "disk_free" || made["author"] == "" {
			t.Errorf("%v", made)
		}
		root.must(422, "POST", at+"/silences", map[string]any{"rule": "", "subject": "", "reason": "for ever", "minutes": 1_000_000})
		active := func() int { return len(root.must(200, "GET", at+"/silences?status=active", nil)["data"].([]any)) }
		if active() != 1 {
			t.Error("who silenced something cannot see it")
		}
		key.must(403, "GET", at+"/silences", nil)
		key.must(403, "DELETE", at+"/silences/"+made["id"].(string), nil)
		root.must(204, "DELETE", at+"/silences/"+made["id"].(string), nil)
		root.must(404, "DELETE", at+"/silences/"+made["id"].(string), nil)
		if ended := root.must(200, "GET", at+"/silences?status=ended", nil)["data"].([]any); active() != 0 || len(ended) != 1 {
			t.Errorf("a silence that was taken back: %v", ended)
		}
		if list := root.must(200, "GET", "/api/v1/audit-events?action=alerts.unsilence", nil)["data"].([]any); len(list) != 1 {
			t.Errorf("%d ends of silences are on the record", len(list))
		}
		if list := root.must(200, "GET", "/api/v1/audit-events?action=alerts.silence", nil)["data"].([]any); len(list) != 1 {
			t.Errorf("%d silences are on the record", len(list))
		}
	})
}
