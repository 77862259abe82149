package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
)

// embedded runs fn against the whole program on its embedded parts.
func embedded(t *testing.T, fn func(p *program, base string)) {
	t.Helper()
	c, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir()}))
	if err != nil {
		t.Fatal(err)
	}
	served(t, c, fn)
}

// served runs fn against the whole program as it is configured.
func served(t *testing.T, c Config, fn func(p *program, base string)) {
	t.Helper()
	p, base, stop := launch(t, c, nil)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the drain was not clean: %v", err)
		}
	})
	fn(p, base)
}

// launch starts the whole program in this process, once prepare has changed what it
// wants of it; stop drains it.
func launch(t testing.TB, c Config, prepare func(p *program)) (p *program, base string, stop func() error) {
	t.Helper()
	p, err := build(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(p)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx, l) }()
	return p, "http://" + l.Addr().String(), func() error {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		return <-ended
	}
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

// ended reads a run that has come to its end.
func (c client) ended(id string) (run research.Run) {
	c.t.Helper()
	status, raw, _ := c.do("GET", "/api/v1/runs/"+id, nil)
	if err := json.Unmarshal(raw, &run); status != 200 || err != nil || run.Result == nil {
		c.t.Fatalf("%d %v %.300s", status, err, raw)
	}
	return run
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

// Normal runs, profiles and lists go through the same program over the invented
// web: what is counted is what was done, every answer says that it is the
// sandbox's, and a list labels every organisation as its own.
func TestOtherRunsOverTheInventedWeb(t *testing.T) {
	embedded(t, func(p *program, base string) {
		c := researcher(t, p, base, "others")
		normal := c.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "normal", "institution": nameOf(p.sandbox, "northmere"),
			"risk_items": []map[string]any{{"name": nameOf(p.sandbox, "qinglan")}, {"name": nameOf(p.sandbox, "yunqi")}}})
		run := c.finished(normal["id"].(string))
		if run["status"] != "succeeded" || run["sandbox"] != true {
			t.Fatalf("%v %v %v", run["status"], run["error_code"], run["error_message"])
		}
		for i, want := range []string{"direct", "indirect"} {
			if r := run["result"].(map[string]any)["relations"].([]any)[i].(map[string]any); r["type"] != want {
				t.Errorf("normal: %v is %v, want %s", r["target"], r["type"], want)
			}
		}

		profile := c.must(202, "POST", "/api/v1/entity-searches", map[string]any{"name": nameOf(p.sandbox, "parsin"), "risk_keywords": []string{"sanctions", "weapons", "cooking"}})
		run = c.finished(profile["id"].(string))
		result := run["result"].(map[string]any)
		if run["status"] != "succeeded" || result["profile"] == nil {
			t.Fatalf("%v %v %v", run["status"], run["error_code"], run["error_message"])
		}
		for i, none := range []bool{false, false, true} {
			if s := result["signals"].([]any)[i].(map[string]any); (s["severity"] == "none") != none {
				t.Errorf("signal %v: %v %v", s["keyword"], s["severity"], s["evidence"])
			}
		}

		ds := c.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		file := "name\n"
		var ids []string
		for _, e := range p.sandbox.Truth().Entities {
			if e.ID != "northmere" {
				file, ids = file+`"`+e.Name()+"\"\n", append(ids, e.ID)
			}
		}
		c.importList(ds, file, "")
		list := c.must(202, "POST", "/api/v1/dataset-searches", map[string]any{"dataset_id": ds, "institution": nameOf(p.sandbox, "northmere")})
		run = c.finished(list["id"].(string))
		checked := run["result"].(map[string]any)["checked"].(map[string]any)
		if run["status"] != "succeeded" || checked["done"] != float64(len(ids)) || checked["failed"] != 0.0 {
			t.Fatalf("%v %v %v", run["status"], run["error_code"], checked)
		}
		found := c.must(200, "GET", "/api/v1/runs/"+list["id"].(string)+"/findings?limit=200", nil)["data"].([]any)
		for i, f := range found {
			f := f.(map[string]any)
			if f["target"] != nameOf(p.sandbox, ids[i]) {
				t.Errorf("finding %d is labelled %v", i, f["target"])
			}
			for _, v := range p.sandbox.Truth().Verdicts {
				if v.Institution == "northmere" && v.RiskItem == ids[i] && v.Type == "direct" && f["type"] != "direct" {
					t.Errorf("list: %v is %v, want direct: %v", f["target"], f["type"], f["summary"])
				}
			}
		}
		for meter, want := range map[string]float64{"relations_normal": 1, "entity_search": 1, "dataset_search": float64(len(ids)), "relations_deep": 0} {
			if got := c.used(meter); got != want {
				t.Errorf("%s: %v used, want %v", meter, got, want)
			}
		}
		for _, format := range []string{"json", "csv", "graphml", "ftm", "stix", "pdf"} {
			status, body, h := c.do("GET", "/api/v1/runs/"+list["id"].(string)+"/export?format="+format, nil)
			if status != 200 || len(body) == 0 || h.Get("Content-Type") == "" {
				t.Errorf("%s: %d, %d bytes of %s", format, status, len(body), h.Get("Content-Type"))
			}
		}
	})
}

// A failed run gives back what it took; a plan without research is refused; a
// used-up quota too; a run of another tenant is not there; a wait is answered
// with the ended run.
func TestRunsAreHeldToThePlan(t *testing.T) {
	embedded(t, func(p *program, base string) {
		ask := map[string]any{"mode": "deep", "institution": nameOf(p.sandbox, "northmere"), "risk_items": []map[string]any{{"name": nameOf(p.sandbox, "qinglan")}}}
		poor, _, tenant := person(t, base, "poor")
		without := billing.Override{Owned: store.Owned{TenantID: tenant}, Kind: "feature", Name: "research", Author: "test", Reason: "test"}
		if err := p.billing.Override(domain.System(context.Background(), "test"), without); err != nil {
			t.Fatal(err)
		}
		if out := poor.must(403, "POST", "/api/v1/entity-relations", ask); out["code"] != "feature_not_in_plan" {
			t.Errorf("without research in the plan: %v", out)
		}
		c, z := researcher(t, p, base, "held"), researcher(t, p, base, "other")
		p.sandbox.Fault(sandbox.Fault{Vendor: sandbox.Gemini, Kind: "blocked"})
		failed := c.finished(c.must(202, "POST", "/api/v1/entity-relations", ask)["id"].(string))
		if failed["status"] != "failed" || c.used("relations_deep") != 0.0 {
			t.Errorf("%v %v, %v used", failed["status"], failed["error_code"], c.used("relations_deep"))
		}
		p.sandbox.Heal()
		id := failed["id"].(string)
		resumed := c.finished(c.must(202, "POST", "/api/v1/runs/"+id+"/resume", map[string]any{})["id"].(string))
		if resumed["status"] != "succeeded" || c.used("relations_deep") != 1.0 {
			t.Errorf("resumed: %v %v, %v used", resumed["status"], resumed["error_code"], c.used("relations_deep"))
		}
		for _, path := range []string{"", "/events", "/graph", "/export?format=csv", "/findings", "/changes"} {
			if got, _, _ := z.do("GET", "/api/v1/runs/"+id+path, nil); got != 404 {
				t.Errorf("another tenant reads %s: %d", path, got)
			}
		}
		if got, _, _ := z.do("DELETE", "/api/v1/runs/"+id, nil); got != 404 {
			t.Errorf("another tenant cancels: %d", got)
		}
		status, body, _ := c.do("POST", "/api/v1/entity-relations?wait=25s", ask)
		if status != 200 || !strings.Contains(string(body), `"status":"succeeded"`) || !strings.Contains(string(body), `"relations"`) {
			t.Errorf("a wait: %d %.200s", status, body)
		}
	})
}

// The server is killed with -9 in the middle of a deep run, again and again, each
// time as soon as the answer of a paid call has been told, and started again on
// the same data: the run ends as one that nothing disturbed, its stream has every
// event once, and by the vendors' own log every call was made once. Vendors hold
// what is asked until the test lets it through, so that nothing is under way at a
// kill but what was never taken in. SWEEP_FULL=1 kills after each call.
func TestKilledServerGoesOn(t *testing.T) {
	let, waiting := make(chan struct{}), atomic.Int64{}
	box, err := sandbox.Start(sandbox.Config{Logger: slog.New(slog.DiscardHandler), Gate: func(r *http.Request, _, _ string) bool {
		waiting.Add(1)
		defer waiting.Add(-1)
		select {
		case _, ok := <-let:
			return ok || r.Context().Err() == nil
		case <-r.Context().Done():
			return false
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	h := newHouse(t)
	h.vars = append(h.vars, "SANDBOX="+strings.TrimPrefix(strings.TrimSuffix(box.URL(""), "/"), "http://"))
	base := h.start(0)
	st, err := store.Open(context.Background(), store.Config{Path: h.dataFile()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	user, _, tenant := person(t, base, "kill")
	sys := domain.System(context.Background(), "test")
	plans, err := billing.New(sys, billing.Config{Store: st, Audit: audit.New(audit.Config{Store: st})})
	if err != nil {
		t.Fatal(err)
	}
	if err := plans.SetPlan(sys, tenant, "enterprise", "test", "research"); err != nil {
		t.Fatal(err)
	}
	until(t, "the server knows of the plan", func() bool { // it keeps the former one for a second
		return user.must(200, "GET", "/api/v1/usage", nil)["plan"] == "enterprise"
	})
	ask := map[string]any{"mode": "deep", "institution": "Northmere University", "risk_items": []map[string]any{{"name": "Calder & Voss Holdings"}}}
	id := user.must(202, "POST", "/api/v1/entity-relations", ask)["id"].(string)

	every := 8
	if os.Getenv("SWEEP_FULL") != "" {
		every = 1
	}
	seen, kills, over := 0, 0, ""
	for over == "" {
		events := make(chan string, 1000)
		go follow(user, id, seen, events)
		owed := false // a call was let through, and what came of it was not told yet
		for told := 0; over == "" && (told < every || owed); {
			open := let
			if owed {
				open = nil
			}
			select {
			case open <- struct{}{}:
				owed = true
			case e, ok := <-events:
				number, name, _ := strings.Cut(e, " ")
				if seen++; !ok || number != strconv.Itoa(seen) {
					t.Fatalf("event %q after %d, %d kills", e, seen-1, kills)
				}
				switch name {
				case "usage", "source":
					owed = false
					told++
				case "succeeded", "failed", "cancelled":
					over = name
				}
			case <-time.After(patience):
				t.Fatalf("nothing happens after event %d and %d kills", seen, kills)
			}
		}
		if over != "" {
			break
		}
		h.kill(0)
		kills++
		until(t, "the vendors have noticed", func() bool { return waiting.Load() == 0 })
		base = h.start(0)
		user.base = base
	}
	run := user.ended(id)
	log := box.Calls()
	close(let) // the gate stays open
	again := user.must(202, "POST", "/api/v1/entity-relations", ask)
	user.finished(again["id"].(string))
	calm := user.ended(again["id"].(string))
	if over != "succeeded" || kills < 3 || run.Result.Relations[0].Type != research.Indirect || digest(run) != digest(calm) {
		t.Errorf("%s after %d kills:\n%s\nwithout a kill:\n%s", over, kills, digest(run), digest(calm))
	}
	made := map[string]int{}
	for _, c := range log {
		if made[c.Vendor+" "+c.Operation+" "+c.Body]++; made[c.Vendor+" "+c.Operation+" "+c.Body] > 1 {
			t.Errorf("asked twice: %s %s %.300s", c.Vendor, c.Operation, c.Body)
		}
	}
	if n := len(box.Calls()) - len(log); n != len(log) {
		t.Errorf("%d requests with kills, %d without", len(log), n)
	}
	t.Logf("%d kills, %d events, %d requests", kills, seen, len(log))
}

// follow sends the number and the name of each event after the last one seen,
// until the stream ends.
func follow(user client, id string, after int, events chan<- string) {
	defer close(events)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", user.base+"/api/v1/runs/"+id+"/events", nil)
	req.Header = user.header.Clone()
	req.Header.Set("Last-Event-ID", strconv.Itoa(after))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	number := ""
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			number = n
		}
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			events <- number + " " + name
		}
	}
}

// digest is what a run found, without what is each run's own: random ids and
// times.
func digest(run research.Run) string {
	body, _ := json.Marshal(run.Result)
	text := string(body)
	for _, s := range run.Result.Sources {
		text = strings.ReplaceAll(text, s.ID, "source:"+s.URL)
	}
	return regexp.MustCompile(`"retrieved_at":"[^"]*"`).ReplaceAllString(text, "")
}
