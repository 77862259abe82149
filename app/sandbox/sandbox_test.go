package sandbox

import (
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
