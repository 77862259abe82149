package dataset_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/domain/match"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

type memory struct {
	mu sync.Mutex
	by map[string][]byte
}

func (m *memory) CacheGet(_ context.Context, key string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.by[key]
	return b, ok
}

func (m *memory) CacheSet(_ context.Context, key string, b []byte, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.by[key] = b
}

// An answer is cached only for the same question, options, settings, list and
// tenant; a second process finds it in the shared cache.
func TestCacheKeys(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		shared := &memory{by: map[string][]byte{}}
		r := newRig(t, db, func(c *dataset.Config) { c.Cache = shared })
		other := newRig(t, db, func(c *dataset.Config) { c.Cache = shared })
		id := r.create(r.a)
		r.run(id, "append", file(1, 20))
		low, country := 0.1, "China"
		weights := match.DefaultSettings().Weights
		weights.Word = 0.9
		ask := func(what string, on *rig, ctx context.Context, in dataset.MatchRequest, want bool) {
			t.Helper()
			in.Query.Name = "Entity 5"
			got, err := on.Match(ctx, in)
			if err != nil || got.Cached != want {
				t.Errorf("%s: cached is %v (%v)", what, got.Cached, err)
			}
		}
		ask("first", r, r.a, dataset.MatchRequest{}, false)
		ask("second", r, r.a, dataset.MatchRequest{}, true)
		ask("another process", other, other.a, dataset.MatchRequest{}, true)
		ask("another tenant", r, r.z, dataset.MatchRequest{}, false)
		ask("threshold", r, r.a, dataset.MatchRequest{MatchOptions: dataset.MatchOptions{Threshold: &low}}, false)
		ask("weights", r, r.a, dataset.MatchRequest{MatchOptions: dataset.MatchOptions{Weights: &weights}}, false)
		ask("limit", r, r.a, dataset.MatchRequest{MatchOptions: dataset.MatchOptions{Limit: 3}}, false)
		ask("explain", r, r.a, dataset.MatchRequest{MatchOptions: dataset.MatchOptions{Explain: true}}, false)
		ask("country", r, r.a, dataset.MatchRequest{Query: dataset.Query{Country: &country}}, false)
		if _, err := r.PutSettings(r.a, dataset.SettingsRequest{Weights: weights, Threshold: 0.5, Synonyms: [][]string{{"entity", "body"}}}); err != nil {
			t.Fatal(err)
		}
		ask("settings", other, other.a, dataset.MatchRequest{}, false)
		ask("settings again", r, r.a, dataset.MatchRequest{}, true)
		if _, err := r.ClearCache(r.a, struct{}{}); err != nil {
			t.Fatal(err)
		}
		ask("cleared", other, other.a, dataset.MatchRequest{}, false)
		if got, err := r.GetSettings(r.a, struct{}{}); err != nil || got.Threshold != 0.5 || got.Weights.Word != 0.9 || len(got.Synonyms) != 1 {
			t.Errorf("%+v %v", got, err)
		}
		if got, err := r.GetSettings(r.z, struct{}{}); err != nil || got.Version != 0 || got.Threshold != match.DefaultSettings().Threshold {
			t.Errorf("another tenant's settings: %+v %v", got, err)
		}
		if w, err := r.Warm(r.a, dataset.WarmRequest{}); err != nil || w.Entries != 20 {
			t.Errorf("%+v %v", w, err)
		}
		mine, _ := r.CacheStats(r.a, struct{}{})
		theirs, _ := r.CacheStats(r.z, struct{}{})
		if len(mine.Indexes) != 1 || len(theirs.Indexes) != 0 || mine.Hits == 0 {
			t.Errorf("%+v, another tenant: %+v", mine, theirs)
		}
	})
}

// Two workers on one import store each row once; queries meanwhile see nothing
// of it or all of it.
func TestTwoWorkers(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, func(c *dataset.Config) { c.BatchRows = 7 })
		id := r.create(r.a)
		im := r.start(id, "append", file(1, 100))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				for range 10 {
					d, err := r.Get(r.a, dataset.IDRequest{ID: id})
					if err != nil || d.Rows != 0 && d.Rows != 100 {
						t.Errorf("%d rows are seen (%v)", d.Rows, err)
					}
					if _, err := r.Match(r.a, dataset.MatchRequest{Query: dataset.Query{Name: "Entity 50"}}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		seen := map[string]bool{}
		for _, n := range r.names(id) {
			seen[n] = true
		}
		if len(seen) != 100 || len(r.names(id)) != 100 {
			t.Errorf("%d entries, %d different", len(r.names(id)), len(seen))
		}
	})
}
