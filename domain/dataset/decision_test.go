package dataset_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// There is one decision for a name and an entity, the last; what it took the
// place of is answered, so that it can be taken back. It outlives a new version
// of the list, whatever ids the entries have then, and is no other tenant's.
func TestDecisions(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		list := r.create(r.a)
		r.run(list, "append", "name,external_id\nHelix Instruments,H-1\n=Orbital Bureau,\n")
		entry := func(q string) string {
			t.Helper()
			page, err := r.Entries(r.a, dataset.EntriesRequest{DatasetID: list, Q: q})
			if err != nil || len(page.Data) != 1 {
				t.Fatal(page, err)
			}
			return page.Data[0].ID
		}
		decide := func(name, id, verdict, note string) dataset.Decision {
			t.Helper()
			out, err := r.Decide(r.a, dataset.DecideRequest{Query: dataset.Asked{Name: name, Country: "CN"}, EntryID: id, Verdict: verdict, Note: note, Score: 0.93})
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		first := decide("Hélix Instr.", entry("helix"), "unsure", "ask Ada")
		if first.Before != nil || first.DatasetID != list || first.ExternalID != "H-1" || first.DecidedBy == "" {
			t.Errorf("%+v", first)
		}
		other := decide("Orbital", entry("orbital"), "different", "=1+1")

		r.run(list, "replace", "name,external_id\nHelix Instruments GmbH,H-1\n=Orbital Bureau,\n")
		again := decide(" HELIX instr.", entry("helix"), "same", "")
		if again.ID != first.ID || again.Before == nil || *again.Before != (dataset.Verdict{Verdict: "unsure", Note: "ask Ada"}) || again.EntryName != "Helix Instruments GmbH" {
			t.Errorf("%+v", again)
		}

		got, err := r.Decided(r.a, dataset.DecidedRequest{Queries: []dataset.Asked{{Name: "Orbital"}, {Name: "helix instr.", Country: "cn"}}})
		if err != nil || len(got.Results) != 2 || len(got.Results[0].Decisions) != 0 || len(got.Results[1].Decisions) != 1 || got.Results[1].Decisions[0].Verdict != "same" || got.Results[1].Decisions[0].EntryID != entry("helix") {
			t.Errorf("%+v, %v", got, err)
		}
		page, err := r.Decisions(r.a, dataset.DecisionsRequest{PageRequest: domain.PageRequest{Limit: 1}})
		if err != nil || len(page.Data) != 1 || page.Data[0].ID != other.ID || page.NextCursor == nil {
			t.Fatalf("%+v, %v", page, err)
		}
		page, err = r.Decisions(r.a, dataset.DecisionsRequest{PageRequest: domain.PageRequest{Limit: 1, Cursor: *page.NextCursor}})
		if err != nil || len(page.Data) != 1 || page.Data[0].ID != first.ID || page.NextCursor != nil {
			t.Errorf("%+v, %v", page, err)
		}
		if page, err := r.Decisions(r.a, dataset.DecisionsRequest{Verdict: "different", DatasetID: list}); err != nil || len(page.Data) != 1 || page.Data[0].ID != other.ID {
			t.Errorf("%+v, %v", page, err)
		}
		var out bytes.Buffer
		if err := r.ExportDecisions(r.a, dataset.DecisionsExportRequest{}, &out); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\r\n")
		if len(lines) != 4 || !strings.HasPrefix(lines[1], "Orbital,CN,"+list+",,'=Orbital Bureau,different,'=1+1,0.9300,") || !strings.Contains(lines[2], "H-1,Helix Instruments GmbH,same,,") {
			t.Errorf("%q", lines)
		}

		// Another tenant decides about nothing of this one's, sees nothing, and takes nothing back.
		if _, err := r.Decide(r.z, dataset.DecideRequest{Query: dataset.Asked{Name: "x"}, EntryID: entry("helix"), Verdict: "same"}); domain.KindOf(err) != domain.NotFound {
			t.Error(err)
		}
		if _, err := r.TakeBack(r.z, dataset.IDRequest{ID: first.ID}); domain.KindOf(err) != domain.NotFound {
			t.Error(err)
		}
		if page, err := r.Decisions(r.z, dataset.DecisionsRequest{}); err != nil || len(page.Data) != 0 {
			t.Errorf("%+v, %v", page, err)
		}
		if _, err := r.TakeBack(r.a, dataset.IDRequest{ID: first.ID}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.TakeBack(r.a, dataset.IDRequest{ID: first.ID}); domain.KindOf(err) != domain.NotFound {
			t.Error(err)
		}
		if after := decide("Helix Instr.", entry("helix"), "different", ""); after.Before != nil {
			t.Errorf("%+v", after)
		}
		if _, err := r.Decide(r.a, dataset.DecideRequest{Query: dataset.Asked{Name: " \t"}, EntryID: entry("helix"), Verdict: "same"}); domain.CodeOf(err) != "invalid" {
			t.Error(err)
		}
	})
}
