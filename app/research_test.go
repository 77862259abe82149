package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/domain"
)

// embedded runs fn against the whole program on its embedded parts.
func embedded(t *testing.T, fn func(p *program, base string)) {
	t.Helper()
	c, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir()}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx, l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the drain was not clean: %v", err)
		}
	})
	fn(p, "http://"+l.Addr().String())
}

// researcher opens a workspace that may do research.
func researcher(t *testing.T, p *program, base, name string) client {
	t.Helper()
	user, _, tenant := person(t, base, name)
	if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "enterprise", "test", "research"); err != nil {
		t.Fatal(err)
	}
	key := user.must(201, "POST", "/api/v1/api-keys", map[string]any{"name": "research", "scopes": []string{"research:run", "research:read", "usage:read", "dataset:read", "dataset:write"}})
	return client{t, base, http.Header{"X-Api-Key": {key["key"].(string)}}}
}

// finished waits for a run's end through its own stream.
func (c client) finished(id string) map[string]any {
	c.t.Helper()
	c.do("GET", "/api/v1/runs/"+id+"/events", nil) // ends with the run
	return c.must(200, "GET", "/api/v1/runs/"+id, nil)
}

// truth is what the invented world says that runs over each institution must
// find: the risk items by their English names, and the verdicts allowed.
func truth(s *sandbox.Sandbox) map[string][]sandbox.Verdict {
	out := map[string][]sandbox.Verdict{}
	for _, v := range s.Truth().Verdicts {
		out[v.Institution] = append(out[v.Institution], v)
	}
	return out
}

func nameOf(s *sandbox.Sandbox, id string) string {
	for _, e := range s.Truth().Entities {
		if e.ID == id {
			return e.Name()
		}
	}
	return id
}

// Deep runs over the invented web find what is true in it, whether the model is
// honest, invents 30 % of its quotes and addresses, or does what hostile pages
// order: no invented quote is verified, no invented address passes, and the
// verdicts are the same.
func TestDeepRunsOverTheInventedWeb(t *testing.T) {
	for _, model := range []struct {
		name string
		set  sandbox.Settings
	}{{"honest", sandbox.Settings{}}, {"inventing", sandbox.Settings{ErrorRate: 0.3, Seed: 7}}, {"obedient", sandbox.Settings{Obedient: true}}} {
		t.Run(model.name, func(t *testing.T) {
			embedded(t, func(p *program, base string) {
				p.sandbox.Set(model.set)
				c := researcher(t, p, base, "deep")
				right, all := 0, 0
				for inst, verdicts := range truth(p.sandbox) {
					var items []map[string]any
					for _, v := range verdicts {
						items = append(items, map[string]any{"name": nameOf(p.sandbox, v.RiskItem)})
					}
					started := c.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "deep", "institution": nameOf(p.sandbox, inst), "risk_items": items})
					run := c.finished(started["id"].(string))
					if run["status"] != "succeeded" || run["sandbox"] != true {
						t.Fatalf("%v %v %v sandbox=%v", run["status"], run["error_code"], run["error_message"], run["sandbox"])
					}
					result := run["result"].(map[string]any)
					for i, r := range result["relations"].([]any) {
						r, v := r.(map[string]any), verdicts[i]
						all++
						if r["type"] == v.Type || r["type"] == v.Or && v.Or != "" {
							right++
						} else {
							t.Errorf("%s – %s: %v, want %s: %v", inst, v.RiskItem, r["type"], v.Type, r["summary"])
						}
						for _, ev := range r["evidence"].([]any) {
							ev := ev.(map[string]any)
							if ev["verified"] != true {
								continue
							}
							if p.sandbox.Invented(ev["quote"].(string)) || p.sandbox.Invented(ev["url"].(string)) {
								t.Errorf("an invented quote is verified: %v", ev)
							}
							page := c.must(200, "GET", fmt.Sprintf("/api/v1/runs/%s/sources/%s", started["id"], ev["source_id"]), nil)
							if !strings.Contains(strings.Join(strings.Fields(page["text"].(string)), ""), strings.Join(strings.Fields(ev["quote"].(string)), "")) {
								t.Errorf("a verified quote is not in the stored page: %v", ev)
							}
						}
					}
				}
				t.Logf("%s: %d of %d verdicts", model.name, right, all)
			})
		})
	}
}
