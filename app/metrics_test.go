package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// total sums the series of a metric whose labels are such: of name=value pairs.
func (p *program) total(t *testing.T, name string, such ...string) (sum float64) {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matches := 0
			for _, l := range m.GetLabel() {
				for i := 0; i+1 < len(such); i += 2 {
					if l.GetName() == such[i] && l.GetValue() == such[i+1] {
						matches++
					}
				}
			}
			if 2*matches < len(such) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// A counter is what was done: every request once, whoever passed it on; units as
// the ledger has them; what was not admitted; what vendors were asked and cost.
// All of them say what they are and in which unit, and none has a label that a
// caller can make more of.
func TestMetricsAreWhatWasDone(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"DATABASE_URL": testdb.OnPostgres(t).URL, "REDIS_URL": testdb.StartRedis(t).URL, "SECRET_KEY": strings.Repeat("k", 32), "DATA_DIR": t.TempDir(), "EMAIL_VERIFICATION": "off"}
	var logs [2]journal
	at := 0
	inRole := func(list string) (*program, string) {
		log := tracing.Logs(slog.NewJSONHandler(&logs[at], nil))
		at++
		c := configured(t, vars)
		if err := c.takeRoles(list); err != nil {
			t.Fatal(err)
		}
		return served(t, c, log, nil)
	}
	p, _ := inRole("main,dataset-search,entity-relations,dataset-matching")
	front, base := inRole("gateway")
	until(t, "the gateway knows the other process", func() bool { return len(front.membersOf("main")) == 1 })
	user, key, tenant := person(t, base, "counted")
	if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "enterprise", "test", "counting"); err != nil {
		t.Fatal(err)
	}
	list := user.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "l"})["id"].(string)
	key.importList(list, "name\nA Institute\nB Institute\nC Institute\n", "")
	query := map[string]any{"name": "A Institute"}
	for range 3 {
		key.must(200, "POST", "/api/v1/matches", map[string]any{"query": query})
	}
	key.must(200, "POST", "/api/v1/matches/batch", map[string]any{"queries": []any{query, query}})
	key.must(404, "GET", "/api/v1/datasets/ds_none", nil)
	p.sandbox.Fault(sandbox.Fault{Kind: "503", Times: 1})
	status, raw, h := user.do("POST", "/api/v1/entity-searches", map[string]any{"name": "Northmere University", "depth": "standard"})
	var run struct{ ID string }
	if err := json.Unmarshal(raw, &run); err != nil || status != 202 {
		t.Fatalf("%d %s", status, raw)
	}
	user.finished(run.ID)
	for _, c := range []struct {
		log *journal
		msg string
	}{{&logs[1], "request"}, {&logs[0], "request"}, {&logs[0], "provider call tried again"}} {
		if c.log.find(c.msg, "request_id", h.Get("X-Request-Id")) == nil {
			t.Errorf("no line %q has the id that the gateway gave", c.msg)
		}
	}
	if err := p.meter.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}

	const requests = "chainreactions_http_requests_total"
	for _, c := range []struct {
		path, status string
		n            float64
	}{{"/api/v1/matches", "200", 3}, {"/api/v1/matches/batch", "200", 1}, {"/api/v1/datasets/{id}", "404", 1}} {
		here, there := p.total(t, requests, "route", c.path, "status", c.status), front.total(t, requests, "route", c.path, "status", c.status)
		if here != c.n || there != 0 {
			t.Errorf("%s was answered %v times and passed on %v times, want %v and 0 of its own", c.path, here, there, c.n)
		}
	}
	if n := p.total(t, "chainreactions_job_seconds", "kind", "dataset.import", "ending", "done"); n < 1 {
		t.Errorf("%v imports are done", n)
	}
	if n := front.total(t, "chainreactions_http_relayed_seconds", "role", "dataset-matching"); n != 4 {
		t.Errorf("%v requests were passed on to matching", n)
	}
	if p.total(t, "chainreactions_http_request_seconds", "route", "/api/v1/matches") != 3 {
		t.Error("the histogram has not what the counter has")
	}
	for _, m := range user.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
		m := m.(map[string]any)
		meter := m["meter"].(string)
		if meter != "match" && meter != "import_rows" && meter != "entity_search" {
			continue
		}
		counted := p.total(t, "chainreactions_metered_units_total", "meter", meter) - p.total(t, "chainreactions_metered_units_returned_total", "meter", meter)
		if used := m["used"].(float64); used == 0 || counted != used {
			t.Errorf("%s: the ledger has %v, the counter %v", meter, used, counted)
		}
	}
	var calls, cost float64
	for _, v := range administrator(t, p, user).must(200, "GET", "/api/v1/admin/providers", nil)["data"].([]any) {
		day := v.(map[string]any)["day"].(map[string]any)
		calls, cost = calls+day["calls"].(float64), cost+day["cost_micros"].(float64)
	}
	if c, m := p.total(t, "chainreactions_provider_calls_total"), p.total(t, "chainreactions_provider_cost_micros_total"); calls == 0 || cost == 0 || c != calls || m != cost {
		t.Errorf("administrators see %v calls for %v, the counters have %v for %v", calls, cost, c, m)
	}
	for _, of := range []*program{p, front} {
		families, err := of.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var ours []*dto.MetricFamily
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "chainreactions_") {
				ours = append(ours, f)
			}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if v := l.GetValue(); strings.Contains(v, tenant) || strings.Contains(v, list) || strings.Contains(v, "counted") {
						t.Errorf("%s has a label %s=%q", f.GetName(), l.GetName(), v)
					}
				}
			}
		}
		faults, err := promlint.NewWithMetricFamilies(ours).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range faults {
			t.Errorf("%s: %s", fault.Metric, fault.Text)
		}
		for _, name := range []string{"go_memstats_heap_inuse_bytes", "process_cpu_seconds_total", "process_resident_memory_bytes", "chainreactions_http_connections", "chainreactions_database_connections",
			"chainreactions_redis_connections"} {
			if of.total(t, name) == 0 {
				t.Errorf("%s is nothing", name)
			}
		}
	}
}
