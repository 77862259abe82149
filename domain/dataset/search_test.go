package dataset_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// A search finds every entry that has the text and no other, in the same order
// with the index and without it, page by page, in any script; and follows what
// becomes of the list.
func TestSearchWithinAList(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, func(c *dataset.Config) { c.SearchRows = 100 })
		random := rand.New(rand.NewPCG(1, 2))
		words := []string{"国防", "科技", "大学", "Éclair", "éclair", "Институт", "physics", "of", "%", "_", `back\slash`, "q", "東京", "(NUDT)", "Ltd.", "ZZ"}
		id := r.create(r.a)
		var all []string
		for _, n := range []int{300, 3, 150, 5, 7} { // the long ones get an index
			var b strings.Builder
			b.WriteString("name,country\n")
			for range n {
				var name []string
				for range 1 + random.IntN(3) {
					name = append(name, words[random.IntN(len(words))])
				}
				all = append(all, fmt.Sprintf("%s %d", strings.Join(name, " "), len(all)))
				fmt.Fprintf(&b, "\"%s\",%s\n", all[len(all)-1], []string{"CN", "RU"}[len(all)%2])
			}
			if im := r.run(id, "append", b.String()); im.RowsAccepted != int64(n) {
				t.Fatalf("%+v", im)
			}
		}
		search := func(q, country string, limit int) (names []string) {
			t.Helper()
			in := dataset.EntriesRequest{PageRequest: domain.PageRequest{Limit: limit}, DatasetID: id, Q: q, Country: country}
			for {
				page, err := r.Entries(r.a, in)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Data {
					names = append(names, e.Name)
				}
				if page.NextCursor == nil {
					return names
				}
				in.Cursor = *page.NextCursor
			}
		}
		queries := []string{"国防", "国防 科技", "防", "eclair", "ÉCLAIR", "институт", "ИНСТИТУТ", "%", "_", `k\s`, "physics", "sics of", "(nudt", "ltd.", "東京", "zz 1", "nowhere", "q", "12", ""}
		check := func(state string) {
			t.Helper()
			for _, q := range queries {
				var want []string
				for i, name := range all {
					fold := strings.NewReplacer("É", "e", "é", "e", "И", "и").Replace(name)
					if strings.Contains(strings.ToLower(fold), strings.ToLower(strings.NewReplacer("É", "e").Replace(q))) && i%2 == 0 {
						want = append(want, name)
					}
				}
				if got := search(q, "Russia", 20+random.IntN(100)); !slices.Equal(got, want) {
					t.Errorf("%s, %q: %d entries, want %d", state, q, len(got), len(want))
				}
			}
		}
		check("scanned")
		built := 0
		for _, job := range r.q.jobs {
			if b, ok := job.(dataset.BuildSearch); ok {
				if err := r.RunBuildSearch(r.a, b); err != nil {
					t.Fatal(err)
				}
				built++
			}
		}
		if built != 2 {
			t.Fatalf("%d imports were to be indexed", built)
		}
		check("indexed")
		grams := func() (n int64) {
			err := db.Read(r.a, func(ctx context.Context) error {
				return db.SQL(ctx, "SELECT count(*) FROM search_grams WHERE tenant_id = @tenant", nil).Scan(&n).Error
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if grams() == 0 {
			t.Error("there is no index")
		}
		r.run(id, "replace", "name,country\nOnly 国防,RU\n")
		all = []string{"Only 国防"}
		check("replaced")
		if err := r.RunPurge(r.a, dataset.PurgeJob{DatasetID: id}); err != nil || grams() != 0 {
			t.Errorf("%d rows of the index stay: %v", grams(), err)
		}
		// The job of an import that is gone meanwhile leaves nothing.
		for _, job := range r.q.jobs {
			if b, ok := job.(dataset.BuildSearch); ok {
				if err := r.RunBuildSearch(r.a, b); err != nil || grams() != 0 {
					t.Errorf("%d rows of the index: %v", grams(), err)
				}
			}
		}
	})
}
