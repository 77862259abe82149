package provider

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

func testLedger(st *store.Store, limits Limits, now func() time.Time) *ledger {
	l := &ledger{st: st, now: now, log: slog.New(slog.NewTextHandler(io.Discard, nil)), warned: func(string) {}}
	l.limits.Store(&map[string]Limits{Linkup: limits})
	return l
}

func clock(at time.Time) func() time.Time { return func() time.Time { return at } }

var noon = time.Date(2026, 11, 25, 12, 30, 0, 0, time.UTC)

// The last call of a budget is given once, however many callers and processes
// want it, and in whatever unit the budget is.
func TestBudgetsAreExact(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		second, err := store.Open(context.Background(), store.Config{URL: db.URL, Path: db.Path, MaxConns: 10})
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		days := 0
		for name, c := range map[string]struct {
			limits Limits
			want   int64
		}{
			"calls of an hour":          {Limits{Hour: Limit{Calls: 23}}, 23},
			"money of a day":            {Limits{Day: Limit{Micros: 17*6000 + 5999}}, 17},
			"calls of a tenant's day":   {Limits{TenantDay: Limit{Calls: 7}}, 14}, // two tenants
			"money of a tenant's hour":  {Limits{TenantHour: Limit{Micros: 9 * 6000}}, 18},
			"the narrowest of them all": {Limits{Hour: Limit{Calls: 11}, TenantDay: Limit{Calls: 40}}, 11},
			"far more than is asked":    {Limits{Day: Limit{Calls: 1 << 40, Micros: 1 << 50}}, 60},
			"less than one call costs":  {Limits{Hour: Limit{Micros: 5999}}, 0},
		} {
			t.Run(name, func(t *testing.T) {
				days++
				at := noon.AddDate(0, 0, days) // a day of its own
				var group sync.WaitGroup
				var given, refused atomic.Int64
				for i := range 60 {
					group.Go(func() {
						st, tenant := db.Store, db.A
						if i%2 == 1 {
							tenant = db.B
						}
						if i%3 == 1 {
							st = second
						}
						err := testLedger(st, c.limits, clock(at)).reserve(db.In(tenant), &entry{tenant: tenant, provider: Linkup, operation: "profile", call: research.Call{Run: "run_x"}, attempt: 1, reserved: 6000})
						switch domain.CodeOf(err) {
						case "provider_budget_exceeded":
							refused.Add(1)
						default:
							if err != nil {
								t.Error(err)
							}
							given.Add(1)
						}
					})
				}
				group.Wait()
				if given.Load() != c.want || refused.Load() != 60-c.want {
					t.Errorf("%d given, %d refused; want %d", given.Load(), refused.Load(), c.want)
				}
				hour, day := spendOf(t, db, at)
				if hour.Calls != c.want || day.Calls != c.want || day.CostMicros != c.want*6000 {
					t.Errorf("booked %+v and %+v, want %d calls", hour, day, c.want)
				}
			})
		}
	})
}

func spendOf(t *testing.T, db testdb.DB, at time.Time) (hour, day Budget) {
	t.Helper()
	sys := domain.System(context.Background(), "test")
	if err := db.Read(sys, func(ctx context.Context) (err error) {
		hour, day, err = testLedger(db.Store, Limits{}, clock(at)).budgets(ctx, Linkup)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return hour, day
}

// What a call did not cost is given back to the period it was taken from, an
// unknown cost stands at its worst, and a new period starts from nothing.
func TestWhatACallCostIsPutRight(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		ctx := db.In(db.A)
		limits := Limits{Hour: Limit{Micros: 10_000}}
		now := noon
		l := testLedger(db.Store, limits, func() time.Time { return now })
		reserve := func() (*entry, error) {
			e := &entry{tenant: db.A, provider: Linkup, operation: "profile", attempt: 1, reserved: 6000}
			return e, l.reserve(ctx, e)
		}
		first, err := reserve()
		if err != nil {
			t.Fatal(err)
		}
		_, err = reserve()
		var refused *domain.Error
		if refused, _ = err.(*domain.Error); refused == nil || refused.Code != "provider_budget_exceeded" || refused.RetryAfter != 30*time.Minute {
			t.Fatalf("a second call of 6000 in a budget of 10000: %v", err)
		}
		now = now.Add(35 * time.Minute) // it ends in the next hour
		if err := l.settle(ctx, first, outcome{spent: spent{micros: 1000, known: true}}); err != nil {
			t.Fatal(err)
		}
		if err := l.settle(ctx, first, outcome{spent: spent{micros: 1000, known: true}}); err != nil { // a second time changes nothing
			t.Fatal(err)
		}
		if hour, day := spendOf(t, db, noon); hour.CostMicros != 1000 || day.CostMicros != 1000 || hour.Calls != 1 {
			t.Errorf("after settling: %+v %+v", hour, day)
		}
		second, err := reserve()
		if err != nil {
			t.Fatalf("a new hour: %v", err)
		}
		if err := l.settle(ctx, second, outcome{failure: &Failure{Reason: TimedOut}}); err != nil {
			t.Fatal(err)
		}
		var rows []struct {
			State, Reason string
			CostMicros    int64
			Estimated     bool
		}
		if err := db.Read(ctx, func(ctx context.Context) error {
			return db.SQL(ctx, "SELECT state, reason, cost_micros, estimated FROM provider_calls WHERE tenant_id = @tenant ORDER BY sent_at", nil).Scan(&rows).Error
		}); err != nil {
			t.Fatal(err)
		}
		if len(rows) != 2 || rows[0].State != "succeeded" || rows[0].CostMicros != 1000 || rows[0].Estimated ||
			rows[1].State != "failed" || rows[1].Reason != "timed_out" || rows[1].CostMicros != 6000 || !rows[1].Estimated {
			t.Errorf("ledger: %+v", rows)
		}
		rows = nil
		if err := db.Read(db.In(db.B), func(ctx context.Context) error {
			return db.SQL(ctx, "SELECT state FROM provider_calls WHERE tenant_id = @tenant", nil).Scan(&rows).Error
		}); err != nil || len(rows) != 0 {
			t.Errorf("another tenant sees %+v (%v)", rows, err)
		}
	})
}

// A warning is given once, when 80 % is passed.
func TestWarningAtEightyPercent(t *testing.T) {
	db := testdb.SQLite(t)
	l := testLedger(db.Store, Limits{Day: Limit{Calls: 10}}, clock(noon))
	var at []int
	calls := 0
	l.warned = func(string) { at = append(at, calls) }
	for calls = 1; calls <= 10; calls++ {
		if err := l.reserve(db.In(db.A), &entry{tenant: db.A, provider: Linkup, attempt: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if len(at) != 1 || at[0] != 8 {
		t.Errorf("warned at calls %v, want once at the 8th of 10", at)
	}
}

// No vendor is called while rows are locked.
func TestNoCallInsideATransaction(t *testing.T) {
	db := testdb.SQLite(t)
	err := db.Tx(db.In(db.A), func(ctx context.Context) error {
		return testLedger(db.Store, Limits{}, clock(noon)).reserve(ctx, &entry{tenant: db.A, provider: Linkup})
	})
	if err == nil || !strings.Contains(err.Error(), "inside a transaction") {
		t.Errorf("%v", err)
	}
}

func TestParseLimits(t *testing.T) {
	got, err := ParseLimits("linkup.day_calls=1000, gemini.tenant_day_usd=20.5,gemini.hour_usd=3")
	if err != nil || got[Linkup].Day.Calls != 1000 || got[Gemini].TenantDay.Micros != 20_500_000 || got[Gemini].Hour.Micros != 3_000_000 {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"linkup", "linkup.day_calls", "acme.day_calls=1", "linkup.week_calls=1", "linkup.day_euros=1", "linkup.day_calls=-1", "linkup.day=1", "linkup.tenant_calls=1"} {
		if _, err := ParseLimits(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// What the ledger adds to a call, beside the call itself.
func BenchmarkLedger(b *testing.B) {
	for name, open := range map[string]func(testing.TB) testdb.DB{"sqlite": testdb.SQLite, "postgres": testdb.OnPostgres} {
		b.Run(name, func(b *testing.B) {
			db := open(b)
			l := testLedger(db.Store, Limits{Day: Limit{Calls: 1 << 40}}, time.Now)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					e := &entry{tenant: db.A, provider: Linkup, operation: "profile", attempt: 1, reserved: 6000}
					if err := l.reserve(db.In(db.A), e); err != nil {
						b.Error(err)
					}
					if err := l.settle(db.In(db.A), e, outcome{spent: spent{micros: 5000, known: true}}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
