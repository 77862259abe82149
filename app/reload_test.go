package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// What may change does so on a change of the file and on SIGHUP, and is on the
// record; a file with any mistake changes nothing, and what may not change waits
// for the next start.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("log_level: info\n")
	c, err := loadConfig(env(map[string]string{"DATA_DIR": dir, "CONFIG_FILE": file, "SANDBOX": "off"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close(context.Background())
	recorded := func() (names []string) {
		err := p.store.Read(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			return p.store.SQL(ctx, "SELECT name FROM config_changes ORDER BY id", nil).Scan(&names).Error
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); p.watchConfig(ctx) }()
	defer func() { stop(); <-watched }()

	write("log_level: debug\nalert_limits: disk_free=0.3\n")
	until(t, "the file is seen", func() bool {
		return c.level.Level() == slog.LevelDebug && p.alertLimits.Load().Gauges["disk_free"] == .3
	})
	if n := len(recorded()); n != 2 {
		t.Errorf("%d changes are on the record", n)
	}

	for name, text := range map[string]string{
		"a wrong value beside a good one": "log_level: error\nalert_limits: nothing=1\n",
		"an unknown name":                 "log_level: error\nlog_levle: error\n",
		"no YAML":                         "log_level: [\n",
	} {
		write(text)
		if err := p.reload(t.Context()); err == nil || c.level.Level() != slog.LevelDebug || len(recorded()) != 2 {
			t.Errorf("%s: half of it is in force (%v)", name, err)
		}
	}
	write("log_level: warn\nprovider_limits: linkup.day_calls=7\nbase_domain: other.test\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the signal is heard", func() bool { return c.level.Level() == slog.LevelWarn })
	until(t, "the new budget is in force", func() bool {
		spent, err := p.vendors.Spent(t.Context())
		_, limited := spent["linkup"]
		return err == nil && limited
	})
	until(t, "the limit that is no longer set is the default", func() bool { return p.alertLimits.Load().Gauges["disk_free"] == .1 })
	if list := recorded(); len(list) != 5 {
		t.Errorf("on the record: %v", list)
	}
	if p.config.BaseDomain != "" {
		t.Error("what may not change did")
	}
}

// What is switched off is refused on every process, free of charge and for a
// while, as what it is: no fault. All else goes on, and other defaults hold for
// whoever chose none, whatever answers are kept. Administrators see who was told
// what.
func TestSwitchesAndDefaultsOnEveryProcess(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	write := func(text string) { t.Helper(); reconfigure(t, file, text) }
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"DATA_DIR": dir, "CONFIG_FILE": file, "DATABASE_URL": testdb.OnPostgres(t).URL, "REDIS_URL": testdb.Redis(t), "EMAIL_VERIFICATION": "off"}
	var bases [2]string
	var p *program
	for i := range bases {
		p, bases[i] = served(t, configured(t, vars), slog.DiscardHandler, nil)
	}
	user, key, _ := person(t, bases[0], "switched")
	list := user.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "l"})["id"].(string)
	key.importList(list, "name\nQinglan University of Aerospace Technology\n", "")
	query := map[string]any{"query": map[string]any{"name": "Qinglan Univ. of Aerospce Technology"}}
	at := func(i int) client { return client{t, bases[i], key.header} }
	answered := 0. // and so paid for
	ask := func(i int) (status int, raw []byte, h http.Header) {
		if status, raw, h = at(i).do("POST", "/api/v1/matches", query); status == 200 {
			answered++
		}
		return status, raw, h
	}
	found := func(i int) int {
		var out struct{ Matches []any }
		if status, raw, _ := ask(i); status != 200 || json.Unmarshal(raw, &out) != nil {
			t.Fatalf("%d %s", status, raw)
		}
		return len(out.Matches)
	}
	threshold := func(i int) float64 {
		return client{t, bases[i], user.header}.must(200, "GET", "/api/v1/matching/settings", nil)["threshold"].(float64)
	}
	used := func() float64 {
		for _, m := range user.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
			if m := m.(map[string]any); m["meter"] == "match" {
				return m["used"].(float64)
			}
		}
		return -1
	}
	paid := func() {
		t.Helper()
		until(t, "what was answered is in the ledger", func() bool { return used() >= answered })
		if n := used(); n != answered {
			t.Errorf("what was refused has cost: %v for %v answers", n, answered)
		}
	}
	for i := range bases {
		if found(i) != 1 {
			t.Fatal("it is not found by the product's defaults")
		}
	}

	write("features_off: matching, research.entity_relations\nmatching_defaults: threshold=0.999\n")
	for i := range bases {
		until(t, "what is switched off is refused", func() bool {
			status, raw, h := ask(i)
			return status == 503 && strings.Contains(string(raw), `"switched_off"`) && h.Get("Retry-After") != ""
		})
		user := client{t, bases[i], user.header}
		user.must(503, "POST", "/api/v1/entity-relations", map[string]any{"mode": "normal", "institution": "Northmere University", "risk_items": []any{map[string]any{"name": "x"}}})
		user.must(422, "POST", "/api/v1/entity-searches", map[string]any{"name": ""}) // which is on, and reads what it is asked
		until(t, "health says so, and of nothing else", func() bool {
			for _, s := range user.must(200, "POST", "/api/monitoring/health/check", nil)["services"].([]any) {
				s := s.(map[string]any)
				text, _ := json.Marshal(s)
				if off := s["service"] == "dataset_matching" || s["service"] == "entity_relations"; off != (s["status"] == "degraded") || off && !strings.Contains(string(text), "switched off") || s["error_rate"] != 0. {
					return false
				}
			}
			return true
		})
	}
	paid()

	write("matching_defaults: threshold=0.999\n")
	for i := range bases {
		until(t, "it is switched on again", func() bool { status, _, _ := ask(i); return status == 200 })
		if found(i) != 0 || threshold(i) != .999 {
			t.Errorf("process %d: %d found, by a threshold of %v", i, found(i), threshold(i))
		}
	}
	write("")
	for i := range bases {
		until(t, "the product's defaults are in force", func() bool { return threshold(i) == .7 && found(i) == 1 })
	}

	paid() // also once what came later is there

	administrator(t, p, user)
	changes := user.must(200, "GET", "/api/v1/admin/config-changes", nil)["data"].([]any)
	if last := changes[0].(map[string]any); len(changes) != 8 || last["name"] != "MATCHING_DEFAULTS" || last["before"] != "threshold=0.999" || last["after"] != "" || last["process"] == "" {
		t.Errorf("%d changes, the last of them %v", len(changes), last)
	}
	key.must(403, "GET", "/api/v1/admin/config-changes", nil)
	if _, raw, _ := (client{t, bases[0], http.Header{}}).do("GET", "/metrics", nil); !strings.Contains(string(raw), "\nchainreactions_config_refused 0\n") {
		t.Error("no metric says that the configuration was taken")
	}
	write("features_off: everything\n")
	for i := range bases {
		until(t, "a refused configuration is seen", func() bool {
			_, raw, _ := client{t, bases[i], http.Header{}}.do("GET", "/metrics", nil)
			return strings.Contains(string(raw), "\nchainreactions_config_refused 1\n")
		})
	}
}
