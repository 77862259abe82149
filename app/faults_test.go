package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
)

// sweep is the whole program with its sandbox, asked the same questions again
// and again while one thing after the other goes wrong.
type sweep struct {
	t      *testing.T
	p      *program
	c      client
	tenant string
	list   string // a dataset of the risk items
	ahead  atomic.Int64
	calm   map[string]research.Run // by question and house: without a fault
}

// houses are the vendors that an installation may have: those that are rented,
// and those that can be hosted.
var houses = map[string][]string{
	"rented": {provider.Gemini, provider.BrightData, provider.Linkup},
	"hosted": {provider.OpenAI, provider.SearXNG},
}

// stages are the places at which a run may be hit: what it asks of whom. A
// fault begins after the first skip requests.
var stages = []struct {
	house, run, name  string
	vendor, operation string
	skip              int
	also              *sandbox.Fault // what leads there
}{
	{"rented", "deep", "first searches", sandbox.BrightData, "search/", 0, nil},
	{"rented", "deep", "strategy", sandbox.Gemini, "generateContent/strategy", 0, nil},
	{"rented", "deep", "searches", sandbox.BrightData, "search/", 4, nil},
	{"rented", "deep", "one engine", sandbox.BrightData, "search/baidu", 0, nil},
	{"rented", "deep", "another engine", sandbox.BrightData, "search/yandex", 0, nil},
	{"rented", "deep", "pages", sandbox.Web, "https://", 0, nil},
	{"rented", "deep", "later pages", sandbox.Web, "https://", 6, nil},
	{"rented", "deep", "integration", sandbox.Gemini, "generateContent/integrate", 0, nil},
	{"rented", "deep", "second integration", sandbox.Gemini, "generateContent/integrate", 3, nil},
	{"rented", "normal", "grounded answer", sandbox.Gemini, "generateContent/relations", 0, nil},
	{"rented", "normal", "links of sources", sandbox.Web, "https://" + sandbox.GroundingHost, 0, nil},
	{"rented", "normal", "pages", sandbox.Web, "https://", 8, nil},
	{"rented", "named", "grounded answer", sandbox.Gemini, "generateContent/relations", 0, nil},
	{"rented", "named", "the named page", sandbox.Web, "https://www.tokiwa-carbon.example/", 0, nil},
	{"rented", "deep", "robots.txt", sandbox.Robots, "https://", 0, nil},
	{"rented", "named", "robots.txt", sandbox.Robots, "https://", 0, nil},
	{"rented", "dataset", "robots.txt", sandbox.Robots, "https://", 0, nil},
	{"rented", "entity", "profile", sandbox.Linkup, "search/profile", 0, nil},
	{"rented", "entity", "signals", sandbox.Linkup, "search/signal", 0, nil},
	{"rented", "entity", "pages", sandbox.Web, "https://", 0, nil},
	{"rented", "entity", "pages through Linkup", sandbox.Linkup, "fetch", 0, &sandbox.Fault{Vendor: sandbox.Web, Kind: "key"}},
	{"rented", "dataset", "ties", sandbox.Linkup, "search/listed", 0, nil},
	{"rented", "dataset", "pages", sandbox.Web, "https://", 0, nil},
	{"hosted", "deep", "first searches", sandbox.SearXNG, "search/", 0, nil},
	{"hosted", "deep", "strategy", sandbox.OpenAI, "chat/strategy", 0, nil},
	{"hosted", "deep", "searches", sandbox.SearXNG, "search/", 4, nil},
	{"hosted", "deep", "integration", sandbox.OpenAI, "chat/integrate", 0, nil},
	{"hosted", "entity", "searches", sandbox.SearXNG, "search/", 0, nil},
	{"hosted", "entity", "profile", sandbox.OpenAI, "chat/profile_read", 0, nil},
	{"hosted", "entity", "signals", sandbox.OpenAI, "chat/signal_read", 0, nil},
	{"hosted", "dataset", "searches", sandbox.SearXNG, "search/", 0, nil},
	{"hosted", "dataset", "integration", sandbox.OpenAI, "chat/integrate", 0, nil},
}

// Every fault that the sandbox knows, of every vendor, at every stage of every
// kind of run, once and for good, through the public interface: the run ends, its
// last event says how, and what it found is either what is true or less, and then
// it says so. Nothing is counted that was not done, and when the fault is over a
// run that failed or left something undone goes on to the whole result.
//
// A kind of fault that is added to the sandbox is swept by itself. The whole of it
// takes minutes: SWEEP_FULL=1. Without it each stage and each kind of fault is
// there at least once.
func TestEveryFaultAtEveryStage(t *testing.T) {
	p, base := serve(t, nil)
	s := &sweep{t: t, p: p, calm: map[string]research.Run{}}
	s.c, s.tenant = s.customer(base)
	s.list = s.c.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
	s.c.importList(s.list, "name\n\"Qinglan University of Aerospace Technology\"\n\"Yunqi Institute of Applied Propulsion\"\n\"Volgoterm Machine Works\"\n", "")
	for house := range houses {
		for _, run := range []string{"deep", "normal", "named", "entity", "dataset"} {
			if house == "hosted" && (run == "normal" || run == "named") {
				continue // no hosted model searches by itself
			}
			s.restart(house, "")
			s.calm[house+run] = s.run(run)
			if got := s.calm[house+run]; got.Status != research.Succeeded || got.Partial {
				t.Fatalf("%s %s without a fault: %s %s %v", house, run, got.Status, got.ErrorCode, got.Result.NotDone)
			}
		}
	}
	full := os.Getenv("SWEEP_FULL") != ""
	done := map[string]int{}
	short := covering()
	for i, stage := range stages {
		for _, kind := range sandbox.Kinds(stage.vendor) {
			for _, times := range []int{1, 0} {
				if !full && !short[sweptCase{i, kind, times}] {
					continue
				}
				name := fmt.Sprintf("%s/%s/%s/%s/%s/%s", stage.house, stage.run, stage.name, stage.vendor, kind, map[int]string{1: "once", 0: "always"}[times])
				t.Run(name, func(t *testing.T) {
					s.t, s.c.t = t, t
					s.restart(stage.house, kind)
					if stage.also != nil {
						p.sandbox.Fault(*stage.also)
					}
					p.sandbox.Fault(sandbox.Fault{Vendor: stage.vendor, Operation: stage.operation, Kind: kind, Skip: stage.skip, Times: times, AfterMS: 5})
					done[s.check(s.run(stage.run), s.calm[stage.house+stage.run], kind, stage.house, stage.run)]++
				})
			}
		}
	}
	s.t, s.c.t = t, t
	t.Logf("%v", done)
}

type sweptCase struct {
	stage int
	kind  string
	times int
}

// covering chooses cases with every stage and every kind of fault among them,
// half of them once and half for good.
func covering() map[sweptCase]bool {
	out, covered := map[sweptCase]bool{}, map[string]bool{}
	for round := 0; len(covered) < len(sandbox.Kinds("")); round++ {
		for i, stage := range stages {
			kinds := sandbox.Kinds(stage.vendor)
			slices.Reverse(kinds) // the vendor's own first
			at := slices.IndexFunc(kinds, func(k string) bool { return !covered[k] })
			if at < 0 && round > 0 {
				continue
			}
			if at < 0 {
				at = (i * 5) % len(kinds)
			}
			covered[kinds[at]] = true
			out[sweptCase{i, kinds[at], len(out) % 2}] = true
		}
	}
	return out
}

// customer is one whose limits are out of the way.
func (s *sweep) customer(base string) (client, string) {
	user, _, tenant := person(s.t, base, "sweep")
	sys := domain.System(context.Background(), "test")
	if err := s.p.billing.SetPlan(sys, tenant, "enterprise", "test", "sweep"); err != nil {
		s.t.Fatal(err)
	}
	for _, o := range []billing.Override{{Kind: "rate", Name: "research", Value: 100_000}, {Kind: "rate", Name: "data", Value: 100_000}, {Kind: "rate", Name: "light", Value: 100_000},
		{Kind: "quota", Name: "api_requests", Value: -1}, {Kind: "quota", Name: "relations_deep", Value: 1_000_000}, {Kind: "quota", Name: "relations_normal", Value: 1_000_000},
		{Kind: "quota", Name: "entity_search", Value: 1_000_000}, {Kind: "quota", Name: "dataset_search", Value: 1_000_000}} {
		o.Owned, o.Author, o.Reason = store.Owned{TenantID: tenant}, "test", "sweep"
		if err := s.p.billing.Override(sys, o); err != nil {
			s.t.Fatal(err)
		}
	}
	key := user.must(201, "POST", "/api/v1/api-keys", map[string]any{"name": "sweep", "scopes": []string{"research:run", "research:read", "usage:read", "dataset:read", "dataset:write"}})
	return client{s.t, base, http.Header{"X-Api-Key": {key["key"].(string)}}}, tenant
}

// restart makes the vendors' clients anew, with no memory of what failed before.
// Their waits pass at once on a clock of their own; only of a vendor that hangs
// real time is bounded.
func (s *sweep) restart(house, kind string) {
	accounts := map[string]provider.Account{}
	for _, name := range houses[house] {
		accounts[name] = provider.Account{BaseURL: s.p.sandbox.URL(name), Keys: []string{"sandbox"}, Model: "gemini-3.8-flash", Zone: "sandbox", Sandbox: true}
	}
	s.p.sandbox.Reset()
	c := provider.Config{Store: s.p.store, Egress: s.p.egress, Accounts: accounts, EmulatedHost: s.p.sandbox.Host, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
		Sleep: func(ctx context.Context, d time.Duration) error {
			s.ahead.Add(int64(d))
			return ctx.Err()
		}}
	times := research.Timeouts{Model: 90 * time.Second, Search: 90 * time.Second, Profile: 90 * time.Second, Fetch: 90 * time.Second, Stage: 15 * time.Minute, Run: 45 * time.Minute, DatasetRun: 45 * time.Minute}
	if kind == "hang" {
		c.Timeout = time.Second
		times.Model, times.Search, times.Profile, times.Fetch = 1500*time.Millisecond, 1500*time.Millisecond, 1500*time.Millisecond, time.Second
	}
	if kind == "pdf_slow" {
		c.PDF.Time = 100 * time.Millisecond
	}
	v := provider.New(c)
	r := s.p.research
	r.Model, r.Searcher, r.Profiler, r.Fetcher, r.Timeouts = v, v, v, v, times
}

// run asks one question and waits for its end.
func (s *sweep) run(kind string) research.Run {
	s.t.Helper()
	items := []map[string]any{{"name": "Qinglan University of Aerospace Technology"}, {"name": "Yunqi Institute of Applied Propulsion"}, {"name": "Volgoterm Machine Works", "country": "RU"}}
	path, body := "/api/v1/entity-relations", map[string]any{"mode": kind, "institution": "Northmere University", "risk_items": items}
	switch kind {
	case "named": // what ties the two stands on a page that no search returns
		body = map[string]any{"mode": "normal", "institution": "Tokiwa Carbon Materials", "pages": []string{"https://www.tokiwa-carbon.example/investors/2023/supply-note"},
			"risk_items": []map[string]any{{"name": "Volgoterm Machine Works", "country": "RU"}, {"name": "Mizuchi Heavy Machinery"}}}
	case "entity":
		path, body = "/api/v1/entity-searches", map[string]any{"name": "Parsin Aero Industries", "risk_keywords": []string{"sanctions", "cooking"}}
	case "dataset":
		path, body = "/api/v1/dataset-searches", map[string]any{"dataset_id": s.list, "institution": "Northmere University"}
	}
	return s.ended(s.c.must(202, "POST", path, body)["id"].(string))
}

// ended follows a run to its end and reads it.
func (s *sweep) ended(id string) research.Run {
	s.t.Helper()
	_, stream, _ := s.c.do("GET", "/api/v1/runs/"+id+"/events", nil)
	var last, data string
	n := 0
	for line := range strings.Lines(string(stream)) {
		line = strings.TrimSpace(line)
		if number, ok := strings.CutPrefix(line, "id: "); ok {
			if n++; number != strconv.Itoa(n) {
				s.t.Errorf("event %s comes %d. in the stream", number, n)
			}
		}
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			last = name
		}
		if rest, ok := strings.CutPrefix(line, "data: "); ok {
			data = rest
		}
	}
	run := s.c.ended(id)
	var end struct{ Status, Code, Detail string }
	_ = json.Unmarshal([]byte(data), &end)
	if last != run.Status || end.Status != run.Status || end.Code != run.ErrorCode || !run.Ended() {
		s.t.Fatalf("the run is %s %s, its stream ends with %q %s", run.Status, run.ErrorCode, last, data)
	}
	return run
}

// check holds a run that met a fault against the one that met none.
func (s *sweep) check(run, calm research.Run, kind, house, question string) string {
	s.t.Helper()
	s.right(run, calm, kind)
	outcome := "as if nothing had been"
	switch {
	case run.Status == research.Failed:
		outcome = "failed, and says why"
	case run.Partial:
		outcome = "partial"
	case s.differs(run, calm):
		outcome = "less, and says so"
	}
	if run.Status == research.Failed || run.Partial {
		s.restart(house, "")
		again := s.ended(s.c.must(202, "POST", "/api/v1/runs/"+run.ID+"/resume", map[string]any{})["id"].(string))
		if again.Status != research.Succeeded || again.Partial || again.UnitsUsed != again.Units {
			s.t.Errorf("resumed without the fault: %s %s %s partial=%v not done %v, %d of %d units", again.Status, again.ErrorCode, again.ErrorMessage, again.Partial, again.Result.NotDone, again.UnitsUsed, again.Units)
		}
		s.right(again, calm, kind)
	}
	return outcome
}

func (s *sweep) differs(run, calm research.Run) bool {
	return !maps.Equal(s.findings(run), s.findings(calm))
}

// findings is what a reader takes away from a run.
func (s *sweep) findings(run research.Run) map[string]string {
	out := map[string]string{}
	if run.Result == nil {
		return out
	}
	for _, r := range run.Result.Relations {
		out[r.Target] = r.Type
	}
	for _, x := range run.Result.Signals {
		out["signal "+x.Keyword] = x.Severity
	}
	if p := run.Result.Profile; p != nil {
		for name, facts := range p.Fields {
			for _, f := range facts {
				out["profile "+name+" "+f.Value] = "said"
			}
		}
	}
	if run.Kind == research.KindDataset {
		for _, f := range s.c.must(200, "GET", "/api/v1/runs/"+run.ID+"/findings", nil)["data"].([]any) {
			f := f.(map[string]any)
			out[f["target"].(string)] = f["type"].(string)
		}
	}
	return out
}

// strength orders what may be said: a fault may take away, and never add.
var strength = map[string]int{research.NoEvidence: 1, research.SignificantMention: 2, research.Indirect: 3, research.Direct: 4,
	"none": 1, "low": 2, "medium": 3, "high": 4, "said": 1}

func (s *sweep) right(run, calm research.Run, kind string) {
	s.t.Helper()
	if run.Status != research.Succeeded && run.Status != research.Failed {
		s.t.Fatalf("the run is %s", run.Status)
	}
	if run.Status == research.Failed {
		if run.ErrorCode == "" || run.ErrorCode == "internal" || run.ErrorMessage == "" {
			s.t.Errorf("the run failed with %q %q", run.ErrorCode, run.ErrorMessage)
		}
		if run.UnitsUsed != 0 && run.Kind != research.KindDataset {
			s.t.Errorf("a failed run keeps %d units", run.UnitsUsed)
		}
	} else if run.UnitsUsed == 0 {
		s.t.Error("a run that succeeded used nothing")
	}
	if run.Result == nil {
		s.t.Fatal("there is no result")
	}
	told := len(run.Result.Warnings) > 0 || len(run.Result.NotDone) > 0 || run.Status == research.Failed ||
		slices.ContainsFunc(run.Result.Sources, func(x research.Source) bool { return x.Error != "" })
	truth := s.findings(calm)
	found := s.findings(run)
	for what, said := range found {
		was, known := truth[what]
		switch {
		case said == was:
		case said == research.Unknown: // nothing is said
			if r := relationOf(run, what); r != nil && r.Reason == "" {
				s.t.Errorf("%s is unknown, and nobody says why", what)
			}
		case !known, strength[said] > strength[was]:
			s.t.Errorf("%s: %s, and the truth is %q", what, said, was)
		case strength[said] <= 1 && strength[was] > 1 && kind != "no_result": // where a vendor says that there is nothing, this is its answer
			s.t.Errorf("%s: %s, though it was only not seen; the truth is %s", what, said, was)
		case !told && kind != "no_result":
			s.t.Errorf("%s: %s instead of %s, and no event says why", what, said, was)
		}
	}
	for what, was := range truth {
		if _, ok := found[what]; !ok && was != "said" && run.Status == research.Succeeded && !run.Partial {
			s.t.Errorf("nothing is said of %s", what)
		} else if !ok && !told && kind != "no_result" {
			s.t.Errorf("%s is left out, and no event says why", what)
		}
	}
	for _, r := range run.Result.Relations {
		for _, e := range r.Evidence {
			if !e.Verified {
				continue
			}
			page := s.c.must(200, "GET", "/api/v1/runs/"+run.ID+"/sources/"+e.SourceID, nil)
			if !strings.Contains(strings.Join(strings.Fields(page["text"].(string)), ""), strings.Join(strings.Fields(e.Quote), "")) {
				s.t.Errorf("a verified quote is not in the stored page: %q", e.Quote)
			}
		}
	}
	var open int64
	err := s.p.store.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		return s.p.store.SQL(ctx, "SELECT count(*) FROM provider_calls WHERE run_id = @run AND state = 'sent'", map[string]any{"run": run.ID}).Scan(&open).Error
	})
	if err != nil || open != 0 {
		s.t.Errorf("%d requests are open in the ledger after the end (%v)", open, err)
	}
}

func relationOf(run research.Run, target string) *research.Relation {
	for i, r := range run.Result.Relations {
		if r.Target == target {
			return &run.Result.Relations[i]
		}
	}
	return nil
}
