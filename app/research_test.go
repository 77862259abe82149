package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
)

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
// honest, or invents 30 % of its quotes and addresses and does what hostile pages
// order: no invented quote is verified, every address is that of a page which a
// search returned, every quote that an honest model has verified is verified, and
// the verdicts are the same.
func TestDeepRunsOverTheInventedWeb(t *testing.T) {
	honest := map[string]bool{} // what is verified of an honest model's claims
	for _, model := range []struct {
		name string
		set  sandbox.Settings
	}{{"honest", sandbox.Settings{}}, {"inventing and obedient", sandbox.Settings{ErrorRate: 0.3, Seed: 7, Obedient: true}}} {
		t.Run(model.name, func(t *testing.T) {
			p, base := serve(t, nil)
			p.sandbox.Set(model.set)
			c := researcher(t, p, base, "deep")
			pages, verified := map[string]bool{}, map[string]bool{}
			for _, page := range p.sandbox.Truth().Pages {
				pages[page.URL] = true
			}
			right, all, scripts, closed := 0, 0, map[*unicode.RangeTable]bool{}, []string{}
			for inst, verdicts := range truth(p.sandbox) {
				var items []map[string]any
				for _, v := range verdicts {
					items = append(items, map[string]any{"name": nameOf(p.sandbox, v.RiskItem)})
				}
				run := read(c, c.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "deep", "institution": nameOf(p.sandbox, inst), "risk_items": items}))
				if run.Status != research.Succeeded || !run.Sandbox {
					t.Fatalf("%s %s %s sandbox=%v", run.Status, run.ErrorCode, run.ErrorMessage, run.Sandbox)
				}
				for i, r := range run.Result.Relations {
					v := verdicts[i]
					all++
					if r.Type == v.Type || r.Type == v.Or && v.Or != "" {
						right++
					} else {
						t.Errorf("%s – %s: %s, want %s: %s", inst, v.RiskItem, r.Type, v.Type, r.Summary)
					}
				}
				for _, s := range run.Result.Sources {
					if !pages[s.URL] {
						t.Errorf("a source that is nowhere: %s", s.URL)
					}
					if strings.Contains(s.URL, "/closed/") && s.Error != "" { // else it was not tried
						closed = append(closed, s.Error)
					}
				}
				if model.name == "honest" {
					quoted := c.reported(p, run)
					for _, script := range []*unicode.RangeTable{unicode.Latin, unicode.Han, unicode.Hiragana, unicode.Cyrillic} {
						scripts[script] = scripts[script] || strings.ContainsFunc(quoted, func(r rune) bool { return unicode.Is(script, r) })
					}
				}
				for _, ev := range c.evidence(run) {
					if !pages[ev.URL] {
						t.Errorf("evidence from nowhere: %+v", ev)
					}
					if ev.Verified {
						verified[inst+" "+ev.URL+" "+ev.Quote] = true
						if p.sandbox.Invented(ev.Quote) || p.sandbox.Invented(ev.URL) {
							t.Errorf("an invented quote is verified: %+v", ev)
						}
					}
				}
			}
			// What a site keeps from robots was found and not asked for.
			if len(closed) == 0 || slices.ContainsFunc(closed, func(why string) bool { return why != "robots_disallowed" }) ||
				slices.ContainsFunc(p.sandbox.Calls(), func(call sandbox.Call) bool {
					return call.Vendor == sandbox.Web && strings.Contains(call.Operation, "/closed/")
				}) {
				t.Errorf("a page that its robots.txt closes: %q", closed)
			}
			if model.name == "honest" {
				honest = verified
				for script, quoted := range scripts {
					if !quoted {
						t.Errorf("no report quotes a page in the script of U+%04X", script.R16[0].Lo)
					}
				}
			}
			for what := range honest {
				if !verified[what] {
					t.Errorf("lost: %s", what)
				}
			}
			t.Logf("%s: %d of %d verdicts, %d verified quotes", model.name, right, all, len(verified))
		})
	}
}

// evidence gives all evidence of a run, of its verdicts and of its edges, and
// holds each verified quote to the page that is stored for it.
func (c client) evidence(run research.Run) (all []research.Evidence) {
	c.t.Helper()
	for _, r := range run.Result.Relations {
		all = append(all, r.Evidence...)
	}
	for _, e := range run.Result.Edges {
		all = append(all, e.Evidence...)
	}
	stored := map[string]string{}
	for _, ev := range all {
		if !ev.Verified {
			continue
		}
		if stored[ev.SourceID] == "" {
			stored[ev.SourceID] = solid(c.must(200, "GET", fmt.Sprintf("/api/v1/runs/%s/sources/%s", run.ID, ev.SourceID), nil)["text"].(string))
		}
		if ev.Quote == "" || !strings.Contains(stored[ev.SourceID], solid(ev.Quote)) {
			c.t.Errorf("a verified quote is not in the stored page: %+v", ev)
		}
	}
	return all
}

// Normal runs, profiles and lists go through the same program over the invented
// web: what is counted is what was done, every answer says that it is the
// sandbox's, and a list labels every organisation as its own.
func TestOtherRunsOverTheInventedWeb(t *testing.T) {
	p, base := serve(t, nil)
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
}

// solid is a text without its spaces and the places where it may be parted.
func solid(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), ""), "\u00ad", "")
}

// reported reads a run's report by another reader of PDF files, the one that pages
// are read with, and gives the verified quotes of its verdicts, which must be there.
func (c client) reported(p *program, run research.Run) (quotes string) {
	c.t.Helper()
	_, file, header := c.do("GET", "/api/v1/runs/"+run.ID+"/export?format=pdf", nil)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", header.Get("Content-Type"))
		_, _ = w.Write(file)
	}))
	defer site.Close()
	v := provider.New(provider.Config{Store: p.store, Egress: p.egress, Logger: slog.New(slog.DiscardHandler),
		EmulatedHost: func(string) (string, bool) { return strings.TrimPrefix(site.URL, "http://"), true }})
	page, err := v.Fetch(domain.System(context.Background(), "test"), research.FetchRequest{URL: "https://report.example/"})
	if err != nil || page.MediaType != "application/pdf" {
		c.t.Fatalf("%s %v", page.MediaType, err)
	}
	for _, r := range run.Result.Relations {
		for _, ev := range r.Evidence {
			if ev.Verified && !strings.Contains(solid(page.Text), solid(ev.Quote)) && !strings.ContainsFunc(ev.Quote, func(r rune) bool { return unicode.Is(unicode.Arabic, r) }) {
				c.t.Errorf("the report does not have %q", ev.Quote)
			}
			if ev.Verified {
				quotes += ev.Quote
			}
		}
	}
	return quotes
}

// What a deep run finds is matched against the lists of its own tenant and of no
// other, the third party too that nobody asked about.
func TestFoundEntitiesAreMatched(t *testing.T) {
	p, base := serve(t, nil)
	const third, asked = "Meridian Sky Robotics", "Calder & Voss Holdings"
	for _, tenant := range []struct {
		name, list string
		listed     map[string]bool // of what is found, what the list has
	}{
		{"both", "name\n\"Meridian Sky Robotics Inc.\"\n\"Calder and Voss Holdings B.V.\"\n\"Nobody Here\"\n", map[string]bool{third: true, asked: true}},
		{"one", "name\n\"Calder & Voss Holdings\"\n", map[string]bool{asked: true}},
		{"none", "", map[string]bool{}},
	} {
		c, own := researcher(t, p, base, tenant.name), ""
		if tenant.list != "" {
			own = c.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
			c.importList(own, tenant.list, "")
		}
		run := read(c, c.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "deep", "institution": "Northmere University", "risk_items": []map[string]any{{"name": asked}}}))
		found := map[string]bool{}
		for _, e := range run.Result.Entities {
			for _, l := range e.Listed {
				if l.DatasetID != own {
					t.Errorf("%s: %s is matched with %+v, which is not in a list of its own", tenant.name, e.Name, l)
				}
			}
			found[e.Name] = len(e.Listed) > 0
		}
		if _, there := found[third]; !there {
			t.Fatalf("%s: the third party is not found: %v", tenant.name, found)
		}
		for name, listed := range found {
			if listed != tenant.listed[name] {
				t.Errorf("%s: %s is on the list: %t", tenant.name, name, listed)
			}
		}
	}
}

// A tenant that starts many runs does not stand before another that starts one:
// the one begins and ends while none of the many has got its first answer.
func TestManyRunsDoNotStarveOne(t *testing.T) {
	const many = 8 // more than there are workers
	opened, arrived := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(arrived) })
	box, err := sandbox.Start(sandbox.Config{Logger: slog.New(slog.DiscardHandler), Gate: func(r *http.Request, vendor, _ string) bool {
		if body, _ := io.ReadAll(r.Body); vendor == sandbox.Web || !bytes.Contains(body, []byte("Larkholt Institute of Photonics")) {
			return true
		}
		first()
		select {
		case <-opened:
			return true
		case <-r.Context().Done():
			return false
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	p, base := serve(t, map[string]string{"RESEARCH_WORKERS": "4", "SANDBOX": strings.TrimPrefix(strings.TrimSuffix(box.URL(""), "/"), "http://")})
	crowd, one := researcher(t, p, base, "crowd"), researcher(t, p, base, "one")
	start := func(c client, institution string) map[string]any {
		return c.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "normal", "institution": institution, "risk_items": []map[string]any{{"name": "Shuoguang Photonics"}}})
	}
	var runs []map[string]any
	for range many {
		runs = append(runs, start(crowd, "Larkholt Institute of Photonics"))
	}
	select {
	case <-arrived: // they have begun to take the workers
	case <-time.After(patience):
		t.Fatal("none of the many begins")
	}
	if run := read(one, start(one, "Northmere University")); run.Status != research.Succeeded {
		t.Errorf("the one: %s %s", run.Status, run.ErrorCode)
	}
	for _, run := range runs {
		if now := crowd.must(200, "GET", "/api/v1/runs/"+run["id"].(string), nil); now["ended_at"] != nil {
			t.Errorf("one of the many has ended: %v", now["status"])
		}
	}
	close(opened)
	for _, run := range runs {
		if run := read(crowd, run); run.Status != research.Succeeded {
			t.Errorf("one of the many: %s %s", run.Status, run.ErrorCode)
		}
	}
}

// A failed run gives back what it took; a plan without research is refused; a
// used-up quota too; a run of another tenant is not there; a wait is answered
// with the ended run.
func TestRunsAreHeldToThePlan(t *testing.T) {
	p, base := serve(t, nil)
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
}

// The server, which has no key, is killed with -9 in the middle of a deep run,
// again and again, each time as soon as an event has come through its stream, and
// started again on the same data: the run ends as one that nothing disturbed, its
// stream has every event once, each while the next call still waits, and by the
// vendors' own log every call was made once. Vendors hold what is asked until the
// test lets it through, so that nothing is under way at a kill but what was never
// taken in. SWEEP_FULL=1 kills after each event.
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

	every := 20
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
				told++
				switch name {
				case "usage", "source":
					owed = false
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
	verified := slices.ContainsFunc(user.evidence(run), func(ev research.Evidence) bool { return ev.Verified })
	log := box.Calls()
	close(let) // the gate stays open
	calm := read(user, user.must(202, "POST", "/api/v1/runs/"+id+"/repeat", map[string]any{}))
	if c := calm.Result.Changes; c == nil || c.PreviousID != id || len(c.Verdicts)+len(c.Edges)+len(c.Sources) != 0 {
		t.Errorf("asked again, with nothing changed: %+v", c)
	}
	calm.Result.Changes = nil
	if over != "succeeded" || kills < 3 || !verified || run.Result.Relations[0].Type != research.Indirect || digest(run) != digest(calm) {
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
