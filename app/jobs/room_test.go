package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// bounded makes a queue that works nothing yet and holds notes to limits.
func bounded(t *testing.T, db testdb.DB, l Limits) *Queue {
	t.Helper()
	q := openQueue(t, db, Config{Limits: l, Registry: prometheus.NewRegistry()}, false, func(context.Context, note) error { return nil })
	Bound(q, note{})
	return q
}

// want asks for one more note, as a feature does.
func want(db testdb.DB, q *Queue, tenant string, aside int64) error {
	return db.Tx(db.In(tenant), func(ctx context.Context) error {
		if err := q.Admit(ctx, note{}, aside); err != nil {
			return err
		}
		return q.Enqueue(ctx, note{}, domain.JobOptions{})
	})
}

func refused(t *testing.T, err error, kind domain.Kind, atLeast time.Duration) {
	t.Helper()
	var e *domain.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Code != "queue_full" || e.RetryAfter < atLeast || e.RetryAfter > mostWait {
		t.Errorf("refused with %v (%+v)", err, e)
	}
}

// However many ask at once, of several processes, no more of a tenant's work
// waits than may, and another tenant's is taken meanwhile; of all together no
// more than may, and our own is never refused.
func TestNoMoreWaitsThanMay(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		l := Limits{Tenant: 5, All: 8, Wait: time.Hour}
		processes := []*Queue{bounded(t, db, l), bounded(t, db, l)}
		rush := func(tenant string) (taken int, last error) {
			var mu sync.Mutex
			var all sync.WaitGroup
			for i := range 16 {
				all.Go(func() {
					err := want(db, processes[i%2], tenant, 0)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						taken++
					} else {
						last = err
					}
				})
			}
			all.Wait()
			return taken, last
		}
		taken, err := rush(db.A)
		if taken != 5 {
			t.Errorf("%d of one tenant's wait, 5 may", taken)
		}
		refused(t, err, domain.TooMany, time.Second)
		taken, err = rush(db.B)
		if taken != 3 {
			t.Errorf("%d more wait, 3 may", taken)
		}
		refused(t, err, domain.Unavailable, time.Second)
		err = db.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error { return processes[0].Admit(ctx, note{}, 0) })
		if err != nil {
			t.Errorf("our own work: %v", err)
		}
		ours := domain.WithScope(t.Context(), domain.Scope{Tenant: db.A, Actor: domain.Actor{Kind: "system", ID: "catalogue"}})
		err = db.Tx(ours, func(ctx context.Context) error {
			return errors.Join(processes[0].Admit(ctx, note{}, 0), processes[0].Enqueue(ctx, note{}, domain.JobOptions{Priority: 4}))
		})
		if err != nil {
			t.Errorf("our own work for a tenant: %v", err)
		}
		if n := count(t, db, "available"); n != 9 {
			t.Errorf("%d wait", n)
		}
		for by, want := range map[string]float64{"tenant": 11, "all": 13} {
			got := 0.
			for _, q := range processes {
				var m dto.Metric
				if err := q.refused.WithLabelValues("note", by).Write(&m); err != nil {
					t.Fatal(err)
				}
				got += m.GetCounter().GetValue()
			}
			if got != want {
				t.Errorf("%v counted as refused by the bound of %s, %v were", got, by, want)
			}
		}
		fills, err := processes[0].Fills(t.Context())
		if f := fills["note"]; err != nil || f.Waiting != 8 || f.Share != 1 {
			t.Errorf("told as %+v, %v", f, err)
		}
		// What is worked makes room, and what waits aside takes it.
		run(t, processes[0])
		ends(t, db, "completed", 9)
		refused(t, want(db, processes[1], db.A, 5), domain.TooMany, time.Second)
		if err := want(db, processes[1], db.A, 4); err != nil {
			t.Errorf("there is room again: %v", err)
		}
	})
}

// Where what waits needs longer than anybody is to wait, by what was done of late,
// only a tenant that has none waiting gets more in; the others are told when the
// rest is short enough.
func TestLongWaitIsRefusedEarly(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		q := bounded(t, db, Limits{Tenant: 100, All: 100, Wait: 100 * time.Second})
		for range fewWait + 10 {
			if err := want(db, q, db.A, 0); err != nil {
				t.Fatal(err) // nothing is known of the pace: each is thought to take a second
			}
		}
		// The first came 100 seconds ago and ten have been done since: one in ten seconds.
		table, ago := "river_job", "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-%d seconds')"
		if db.Dialect() == store.Postgres {
			table, ago = "river.river_job", "now() - interval '%d seconds'"
		}
		for _, stmt := range []string{
			fmt.Sprintf("UPDATE %s SET created_at = "+ago, table, 100),
			fmt.Sprintf("UPDATE %s SET state = 'completed', finalized_at = "+ago+", attempted_at = "+ago+" WHERE id IN (SELECT id FROM %s ORDER BY id LIMIT 10)", table, 10, 20, table),
		} {
			if _, err := db.SQLDB().Exec(stmt); err != nil {
				t.Fatal(err)
			}
		}
		// 16 wait and need 160 seconds: six are too many. The clock goes on, and SQLite's
		// is a fraction of a millisecond off: 50 tells as much as 60.
		refused(t, want(db, q, db.A, 0), domain.Unavailable, 50*time.Second)
		if err := want(db, q, db.B, 0); err != nil {
			t.Errorf("who has none waiting: %v", err)
		}
		refused(t, want(db, q, db.B, 0), domain.Unavailable, 60*time.Second)
		fills, err := q.Fills(t.Context())
		if f := fills["note"]; err != nil || f.Waiting != 17 || f.Wait < 160*time.Second || f.Share < 1.6 {
			t.Errorf("told as %+v, %v", f, err)
		}
	})
}

func TestParseLimits(t *testing.T) {
	if l, err := ParseLimits("all=7, tenant=3"); err != nil || l != (Limits{3, 7, time.Hour}) {
		t.Errorf("%+v %v", l, err)
	}
	for _, text := range []string{"tenant=0", "all=1", "wait=1ms", "tenant=x", "wait=1", "each=3", "tenant"} {
		if _, err := ParseLimits(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
