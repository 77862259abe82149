package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
)

// Emulators stand in for what is not configured, kind by kind, in development
// alone: production without a key says what is missing, and nobody's real
// answers are mixed with invented ones.
func TestWhatIsEmulated(t *testing.T) {
	for name, c := range map[string]struct {
		env      map[string]string
		emulated []string // by their state in Health
		absent   []string
	}{
		"nothing configured":       {nil, []string{"gemini", "brightdata", "linkup"}, []string{"openai", "searxng"}},
		"a model of one's own":     {map[string]string{"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1", "OPENAI_MODEL": "qwen3"}, []string{"brightdata", "linkup"}, []string{"gemini", "searxng"}},
		"a base address is no key": {map[string]string{"GEMINI_BASE_URL": "http://127.0.0.1:1"}, []string{"gemini", "brightdata", "linkup"}, nil},
		"everything configured":    {map[string]string{"GEMINI_API_KEY": "a,b", "SEARXNG_URL": "http://127.0.0.1:8888", "LINKUP_API_KEY": "c"}, nil, []string{"openai", "brightdata"}},
		"switched off":             {map[string]string{"SANDBOX": "off"}, nil, []string{"gemini", "openai", "brightdata", "searxng", "linkup"}},
		"production without a key": {map[string]string{"ENVIRONMENT": "production", "SECRET_KEY": strings.Repeat("k", 32)}, nil, []string{"gemini", "openai", "brightdata", "searxng", "linkup"}},
		"a zone is missing":        {map[string]string{"BRIGHT_DATA_API_KEY": "d", "SANDBOX": "off"}, nil, []string{"brightdata"}},
	} {
		t.Run(name, func(t *testing.T) {
			set := map[string]string{"DATA_DIR": t.TempDir()}
			for k, v := range c.env {
				set[k] = v
			}
			conf, err := loadConfig(env(set))
			if err != nil {
				t.Fatal(err)
			}
			p, err := build(context.Background(), conf, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer p.close(context.Background())
			health := p.vendors.Health()
			for _, vendor := range provider.Names {
				if emulated := health[vendor] == "emulated"; emulated != slices.Contains(c.emulated, vendor) {
					t.Errorf("%s is %s", vendor, health[vendor])
				}
				if slices.Contains(c.absent, vendor) && health[vendor] != "not_configured" {
					t.Errorf("%s is %s", vendor, health[vendor])
				}
			}
			if (p.sandbox != nil) != (len(c.emulated) > 0) {
				t.Error("the sandbox runs for nothing, or does not run")
			}
			if name == "production without a key" {
				ctx := domain.WithScope(context.Background(), domain.Scope{Tenant: domain.NewID("ten")})
				_, err := p.vendors.Generate(ctx, research.Prompt{User: "x"}, nil)
				if domain.CodeOf(err) != "provider_not_configured" || !strings.Contains(err.Error(), "GEMINI_API_KEY") {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// A wrong setting of a vendor stops the start, and no setting shows a key.
func TestVendorSettings(t *testing.T) {
	for name, bad := range map[string]string{"GEMINI_BASE_URL": "generativelanguage.googleapis.com", "LINKUP_BASE_URL": "http://user:secret@api.example/", "PROVIDER_LIMITS": "linkup.week_calls=3", "SANDBOX": "sometimes", "EGRESS_DIAL_OVERRIDE": "nowhere"} {
		if _, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir(), name: bad})); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, bad, err)
		}
	}
	for _, name := range []string{"EGRESS_RESOLVER", "EGRESS_DIAL_OVERRIDE"} {
		if _, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir(), "ENVIRONMENT": "production", "SECRET_KEY": strings.Repeat("k", 32), name: "127.0.0.1:53"})); err == nil {
			t.Errorf("production takes %s", name)
		}
	}
	c, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir(), "GEMINI_API_KEY": "AIza-one, AIza-two", "BRIGHT_DATA_API_KEY": "brd-key", "LINKUP_API_KEY": "lk-key", "OPENAI_API_KEY": "sk-key"}))
	if err != nil || !slices.Equal(c.Accounts[provider.Gemini].Keys, []string{"AIza-one", "AIza-two"}) {
		t.Fatalf("%v %v", c.Accounts, err)
	}
	shown := strings.Join(append(slices.Clone(c.shown), vendorLines(c)...), "\n")
	for _, secret := range []string{"AIza", "brd-key", "lk-key", "sk-key"} {
		if strings.Contains(shown, secret) {
			t.Errorf("a key shows in %s", shown)
		}
	}
}

// An administrator sees what each vendor was asked, what it cost and how much of
// its budget is left; a budget warns at 80 % and blocks at its limit, and the run
// says so; nobody else sees it.
func TestAdministratorsSeeProviders(t *testing.T) {
	p, base := serve(t, map[string]string{"PROVIDER_LIMITS": "linkup.day_calls=5"})
	user := researcher(t, p, base, "spender")
	root, _, _ := person(t, base, "root")
	root.must(403, "GET", "/api/v1/admin/providers", nil)
	administrator(t, p, root)
	linkup := func() (state string, calls float64) {
		for _, v := range root.must(200, "GET", "/api/v1/admin/providers", nil)["data"].([]any) {
			if v := v.(map[string]any); v["provider"] == provider.Linkup {
				day := v["day"].(map[string]any)
				return day["state"].(string), day["calls"].(float64)
			}
		}
		t.Fatal("linkup is not in the report")
		return "", 0
	}
	ask := map[string]any{"name": "Parsin Aero Industries"}
	for i, want := range []string{"ok", "ok", "ok", "warning", "used_up"} {
		user.finished(user.must(202, "POST", "/api/v1/entity-searches", ask)["id"].(string))
		if state, calls := linkup(); state != want || calls != float64(i+1) {
			t.Errorf("after %d calls: %s, %v calls; want %s", i+1, state, calls, want)
		}
	}
	run := user.finished(user.must(202, "POST", "/api/v1/entity-searches", ask)["id"].(string))
	if state, calls := linkup(); run["error_code"] != "provider_budget_exceeded" || state != "used_up" || calls != 5 {
		t.Errorf("%v %v; %s, %v calls", run["status"], run["error_code"], state, calls)
	}
	if !slices.Contains(root.events(""), "admin admin.read_providers") {
		t.Error("it is not on the record")
	}
}
