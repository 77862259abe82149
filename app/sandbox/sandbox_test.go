package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The world is what it says: quotes stand in their pages and name both ends,
// verdicts follow from the relations, and a decoy is tied to nobody that it
// could be taken for.
func TestTheWorldIsConsistent(t *testing.T) {
	w := loadCorpus()
	languages, persons := map[string]bool{}, 0
	for _, e := range w.Entities {
		if e.Schema == "Person" {
			persons++
		}
		if e.Name() == "" || len(e.Country) != 2 {
			t.Errorf("entity %s has no English name or country", e.ID)
		}
	}
	for _, p := range w.Pages {
		languages[p.Language] = true
		if !strings.Contains(p.URL, ".example/") {
			t.Errorf("page %s is at %s, which may be somebody's", p.ID, p.URL)
		}
		if _, body := p.bytes(); len(body) < 200 {
			t.Errorf("page %s: %d bytes", p.ID, len(body))
		}
	}
	if len(w.Entities) < 24 || persons < 4 || len(languages) < 5 {
		t.Errorf("%d entities, %d persons, languages %v", len(w.Entities), persons, languages)
	}
	quote := func(id, page, text string, ends ...string) {
		p := w.page[page]
		if p == nil {
			t.Errorf("%s: no page %s", id, page)
			return
		}
		if !strings.Contains(fold(p.Body), fold(text)) {
			t.Errorf("%s: %q does not stand in %s", id, text, page)
		}
		for _, end := range ends {
			e := w.entity[end]
			if e == nil {
				t.Fatalf("%s: no entity %s", id, end)
			}
			if !slices.ContainsFunc(e.All(), func(n string) bool { return strings.Contains(fold(text), fold(n)) }) {
				t.Errorf("%s: %q does not name %s", id, text, end)
			}
		}
	}
	for _, r := range w.Relations {
		if len(r.Evidence) == 0 {
			t.Errorf("%s to %s has no evidence", r.From, r.To)
		}
		for _, e := range r.Evidence {
			quote(r.From+" to "+r.To, e.Page, e.Quote, r.From, r.To)
			if w.page[e.Page].Hostile || w.page[e.Page].Denial {
				t.Errorf("%s to %s rests on %s", r.From, r.To, e.Page)
			}
		}
	}
	for _, s := range w.Signals {
		quote("signal of "+s.Entity, s.Page, s.Quote, s.Entity)
	}
	for _, v := range w.Verdicts {
		direct, through := w.between(v.Institution, v.RiskItem)
		want := "no_evidence"
		switch {
		case len(direct) > 0:
			want = "direct"
		case len(through) > 0:
			want = "indirect"
			for _, id := range v.Through {
				if through[id] == nil {
					t.Errorf("%+v: nothing through %s", v, id)
				}
			}
			if len(through) != len(v.Through) {
				t.Errorf("%+v: through %d entities", v, len(through))
			}
		default:
			for _, p := range w.Pages {
				named := w.mentioned(p.Title + " " + p.Body)
				if !p.Hostile && !p.Denial && slices.Contains(named, w.entity[v.Institution]) && slices.Contains(named, w.entity[v.RiskItem]) {
					want = "significant_mention"
				}
			}
		}
		if v.Type != want && v.Or != want {
			t.Errorf("%s and %s: says %s, is %s", v.Institution, v.RiskItem, v.Type, want)
		}
	}
}

func start(t *testing.T, set Settings) *Sandbox {
	t.Helper()
	s, err := Start(Config{Settings: set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// everything asks the model to integrate all pages for two entities, under
// source ids that differ from run to run.
func everything(w *corpus, institution, risk, ids string) question {
	inst, _ := json.Marshal([]string{w.entity[institution].Name()})
	q := question{Task: "integrate", Institution: inst, RiskItem: []string{w.entity[risk].Name()}}
	for _, p := range w.Pages {
		q.Sources = append(q.Sources, source{ID: ids + p.ID, Passages: strings.Split(p.Body, "\n\n")})
	}
	return q
}

type proposals struct {
	Relations []proposal `json:"relations"`
}

func (s *Sandbox) proposed(t *testing.T, q question) []proposal {
	b, err := json.Marshal(s.integrate(q))
	if err != nil {
		t.Fatal(err)
	}
	var out proposals
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out.Relations
}

// An honest model gives every true quote and nothing else. One that errs at a
// rate gives them too, and so many others that they are that share of all; the
// same ones each time, whatever its sources are called.
func TestTheModelsErrorsAreMeasured(t *testing.T) {
	for _, rate := range []float64{0, 0.3, 0.6} {
		s := start(t, Settings{ErrorRate: rate, Seed: 7})
		truths, all, given := 0, 0, 0
		for _, v := range s.world.Verdicts {
			q := everything(s.world, v.Institution, v.RiskItem, "x-")
			direct, through := s.world.between(v.Institution, v.RiskItem)
			for _, r := range append(direct, flat(through)...) {
				truths += len(r.Evidence)
			}
			first := s.proposed(t, q)
			again := s.proposed(t, everything(s.world, v.Institution, v.RiskItem, "y-"))
			if len(first) != len(again) {
				t.Fatalf("%+v: %d proposals, then %d", v, len(first), len(again))
			}
			for i, p := range first {
				for j, c := range p.Evidence {
					if c.Quote != again[i].Evidence[j].Quote {
						t.Errorf("%q, then %q", c.Quote, again[i].Evidence[j].Quote)
					}
					at := slices.IndexFunc(q.Sources, func(src source) bool { return src.ID == c.Source })
					true_ := at >= 0 && has(q.Sources[at], c.Quote) && len([]rune(c.Quote)) >= 8 && slices.ContainsFunc(s.world.Relations, func(r Relation) bool {
						return slices.ContainsFunc(r.Evidence, func(e Evidence) bool { return e.Quote == c.Quote && "x-"+e.Page == c.Source })
					})
					all++
					if true_ {
						given++
					}
				}
			}
		}
		share := float64(all-given) / float64(all)
		t.Logf("error rate %.1f: %d quotes, of which %d are true; share invented %.3f", rate, all, given, share)
		if rate == 0 && all != given || given < truths || share < rate-0.1 || share > rate+0.1 {
			t.Errorf("error rate %.1f: %d true quotes of %d given, %d in all, share %.3f", rate, given, truths, all, share)
		}
	}
}

// Only an obedient model does what a page orders.
func TestObedience(t *testing.T) {
	for _, obedient := range []bool{false, true} {
		s := start(t, Settings{Obedient: obedient})
		got := s.proposed(t, everything(s.world, "northmere", "volgoterm", ""))
		if (len(got) > 0) != obedient {
			t.Errorf("obedient %t: %+v", obedient, got)
		}
	}
}

// Faults happen to the calls that they are meant for and stop when they are
// used up, and another process can set and read all of it.
func TestFaultsAndControl(t *testing.T) {
	s := start(t, Settings{})
	do := func(method, path, body string, header ...string) (int, string) {
		req, err := http.NewRequest(method, s.URL("")+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	search := func(header ...string) int {
		status, _ := do("GET", "searxng/search?q=Northmere&format=json&engines=google", "", header...)
		return status
	}
	if status, _ := do("POST", "control/faults", `{"vendor": "searxng", "kind": "503", "skip": 1, "times": 2}`); status != 200 {
		t.Fatal(status)
	}
	if got := []int{search(), search(), search(), search(), search("X-Sandbox-Fault", "429")}; !slices.Equal(got, []int{200, 503, 503, 200, 429}) {
		t.Errorf("statuses %v", got)
	}
	if status, _ := do("POST", "control/faults", `{"kind": "meteor"}`); status != 400 {
		t.Errorf("an unknown fault: %d", status)
	}
	_, body := do("GET", "control/calls", "")
	var calls []Call
	if err := json.Unmarshal([]byte(body), &calls); err != nil || len(calls) != 5 || calls[1].Fault != "503" || calls[1].Billed || !calls[0].Billed || calls[0].Operation != "search/google" {
		t.Errorf("%v %+v", err, calls)
	}
	if _, body = do("PUT", "control/settings", `{"error_rate": 0.3}`); !strings.Contains(body, `"error_rate":0.3`) {
		t.Error(body)
	}
	if _, body = do("GET", "control/truth", ""); !strings.Contains(body, `"northmere"`) {
		t.Errorf("%.100s", body)
	}
	if do("POST", "control/reset", ""); len(s.Calls()) != 0 {
		t.Error("reset forgets nothing")
	}
	// A share of the calls, by the seed.
	s.Fault(Fault{Kind: "500", Share: 0.5})
	failed := 0
	for range 40 {
		if search() == 500 {
			failed++
		}
	}
	if failed < 10 || failed > 30 {
		t.Errorf("%d of 40 failed at a share of a half", failed)
	}
}
