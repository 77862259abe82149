package research

import (
	"testing"

	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// The verdict on each risk item is what a careful reader of the pages would
// say: ties that are stated hold, denials, namesakes and orders to the reader
// do not, and copies count once.
func TestDeepRun(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, volta(), nil)
		run := must(r.StartRelations(r.a, voltaRequest()))
		if run.Status != Queued || run.EventsURL != "/api/v1/runs/"+run.ID+"/events" {
			t.Fatalf("%+v", run)
		}
		r.work()
		run = r.get(run.ID)
		if run.Status != Succeeded || run.Partial || !run.Sandbox || run.Result == nil || run.UnitsUsed != 1 {
			t.Fatalf("%s %s %s partial=%v sandbox=%v", run.Status, run.ErrorCode, run.ErrorMessage, run.Partial, run.Sandbox)
		}
		for i, v := range voltaVerdicts {
			rel := run.Result.Relations[i]
			if rel.Target != v.name || rel.Type != v.verdict {
				t.Errorf("%s: %s (%s), want %s: %+v", v.name, rel.Type, rel.Summary, v.verdict, rel.Evidence)
			}
			for _, ev := range rel.Evidence {
				shot := must(r.Snapshot(r.a, SourceRequest{ID: run.ID, Source: ev.SourceID}))
				if ev.Verified && len(newText(shot.Text).find(ev.Quote)) == 0 {
					t.Errorf("%s: a verified quote is not in the page: %q", v.name, ev.Quote)
				}
			}
		}
		galvani, ohm := run.Result.Relations[0], run.Result.Relations[1]
		for _, e := range run.Result.Edges {
			if e.ID == galvani.Edges[0] && (e.Sources != 2 || !e.Verified) {
				t.Errorf("the mirror counts as a source of its own, or none: %d", e.Sources)
			}
		}
		if len(ohm.Intermediaries) != 1 || ohm.Intermediaries[0] != "Ampere Foundation" || ohm.Schema == "" {
			t.Errorf("%+v", ohm)
		}
		if _, err := r.Get(r.z, IDRequest{ID: run.ID}); code(err) != "not_found" {
			t.Errorf("another tenant reads the run: %v", err)
		}
		events := r.events(run.ID)
		last := events[len(events)-1]
		if last.Name != Succeeded {
			t.Errorf("the last event is %s", last.Name)
		}
	})
}
