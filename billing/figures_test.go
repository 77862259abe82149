package billing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// A year of one tenant by hand: each movement in its month.
func TestMovements(t *testing.T) {
	at := func(month time.Month, mrr int64, status string) subscriptionChange {
		return subscriptionChange{Owned: store.Owned{TenantID: "ten_a"}, Subscription: "sub_a", Generation: int64(month), At: time.Date(2026, month, 10, 0, 0, 0, 0, time.UTC), Status: status, Currency: "usd", MRR: mrr}
	}
	got := movements([]subscriptionChange{at(1, 0, "trialing"), at(2, 100, "active"), at(3, 250, "active"), at(4, 150, "active"), at(5, 0, "canceled"), at(7, 90, "active")}, time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC))
	one, whole, less, none := 2.5, 1.0, 0.6, 0.0
	want := []Month{
		{Month: "2026-01", Currency: "usd"},
		{Month: "2026-02", Currency: "usd", New: 100, Closing: 100, ARR: 1200, Payers: 1},
		{Month: "2026-03", Currency: "usd", Opening: 100, Expansion: 150, Closing: 250, ARR: 3000, Payers: 1, Opened: 1, NRR: &one, GRR: &whole},
		{Month: "2026-04", Currency: "usd", Opening: 250, Contraction: -100, Closing: 150, ARR: 1800, Payers: 1, Opened: 1, NRR: &less, GRR: &less},
		{Month: "2026-05", Currency: "usd", Opening: 150, Churn: -150, Opened: 1, Lost: 1, NRR: &none, GRR: &none},
		{Month: "2026-06", Currency: "usd"},
		{Month: "2026-07", Currency: "usd", Reactivation: 90, Closing: 90, ARR: 1080, Payers: 1},
		{Month: "2026-08", Currency: "usd", Opening: 90, Closing: 90, ARR: 1080, Payers: 1, Opened: 1, NRR: &whole, GRR: &whole},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
}

// Of any history: each month opens as the one before closed, the movements add
// up to the minor unit, the last close is what subscriptions are worth now, and
// the same history, read in any order and however often, gives the same.
func TestMovementsAddUp(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var history []subscriptionChange
		now := map[string]int64{} // by subscription
		at := day0
		for i := range r.IntN(120) {
			at = at.Add(time.Duration(r.IntN(20*24)) * time.Hour)
			tenant := r.IntN(6)
			sub := fmt.Sprintf("sub_%d_%d", tenant, r.IntN(2))
			h := subscriptionChange{Owned: store.Owned{TenantID: fmt.Sprint("ten_", tenant)}, Subscription: sub, Generation: int64(i), At: at, Currency: []string{"usd", "jpy", "kwd"}[tenant%3]}
			if r.IntN(4) > 0 {
				h.MRR = r.Int64N(100_000)
			}
			now[sub] = h.MRR
			history = append(history, h)
		}
		end := at.AddDate(0, r.IntN(3), 0)
		months := movements(history, end)
		closing, sum := map[string]int64{}, map[string]int64{}
		for _, m := range months {
			if m.Opening != closing[m.Currency] || m.Opening+m.New+m.Expansion+m.Contraction+m.Churn+m.Reactivation != m.Closing {
				t.Fatalf("seed %d: %+v after a close of %d", seed, m, closing[m.Currency])
			}
			closing[m.Currency] = m.Closing
		}
		for sub, n := range now {
			sum[[]string{"usd", "jpy", "kwd"}[int(sub[4]-'0')%3]] += n
		}
		for c, n := range sum {
			if closing[c] != n {
				t.Fatalf("seed %d: %s closes at %d, subscriptions are worth %d", seed, c, closing[c], n)
			}
		}
		r.Shuffle(len(history), func(i, j int) { history[i], history[j] = history[j], history[i] })
		if again := movements(history, end); !reflect.DeepEqual(again, months) {
			t.Fatalf("seed %d: another order gives other figures", seed)
		}
	}
}

// Whatever becomes of a subscription, the history closes at what the database
// says that subscriptions are worth: counted there, by other code.
func TestFiguresAgreeWithTheSubscriptions(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		office := &Office{Sales: s.sales, Meter: s.meter()}
		admin := db.In(db.B)
		check := func(what string) {
			t.Helper()
			s.deliver()
			var theirs int64
			err := db.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
				return db.SQL(ctx, `SELECT coalesce(sum(CASE cadence WHEN 'year' THEN (unit_amount * quantity + 6) / 12 ELSE unit_amount * quantity END), 0)
					FROM subscriptions WHERE status IN ('active', 'past_due')`, nil).Scan(&theirs).Error
			})
			if err != nil {
				t.Fatal(err)
			}
			months := need(office.Revenue(admin, struct{}{}))(s).Data
			var ours int64
			if len(months) > 0 {
				ours = months[len(months)-1].Closing
			}
			if ours != theirs {
				t.Errorf("%s: %d in the figures, %d in the subscriptions", what, ours, theirs)
			}
		}
		check("nothing")
		s.buy(db.A, "pro", 2)
		check("bought")
		s.later(40 * days)
		need(s.sales.Change(db.In(db.A), ChangeRequest{Quantity: 5}))(s)
		check("more seats")
		need(s.sales.Change(db.In(db.A), ChangeRequest{Interval: "year"}))(s)
		check("by the year")
		if err := s.sales.End(db.In(db.A)); err != nil {
			t.Fatal(err)
		}
		check("ended")
		s.later(40 * days)
		s.buy(db.A, "business", 1)
		check("came back")
		months := need(office.Revenue(admin, struct{}{}))(s).Data
		if m := months[len(months)-1]; m.Reactivation != 19900 || m.New != 0 {
			t.Errorf("%+v", m)
		}
		s.use(office.Meter, db.A, "match", 70)
		run := func(tenant, id string, imported *time.Time) {
			t.Helper()
			err := db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
				_, err := db.Exec(ctx, `INSERT INTO research_runs (tenant_id, id, kind, mode, title, status, priority, request, salt, meter, units, counted_at, created_by, created_at, imported_at)
					VALUES (@of, @id, 'entity', '', '', 'succeeded', 1, '{}', '', 'entity', 1, @now, '', @now, @imported)`, map[string]any{"of": tenant, "id": id, "now": s.Now().UTC(), "imported": imported})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		now := s.Now().UTC()
		run(db.A, "run_1", &now) // brought along from elsewhere
		run(db.B, "run_1", &now)
		run(db.B, "run_2", nil)
		funnel := need(office.Funnel(admin, struct{}{}))(s).Data
		came := map[string]int64{}
		for _, f := range funnel {
			came[f.Step] = f.Tenants
		}
		if came["signed_up"] != 2 || came["match"] != 1 || came["paid"] != 1 || came["run"] != 1 {
			t.Errorf("%v", came)
		}
		o := need(office.Overview(admin, struct{}{}))(s)
		if o.Tenants != 2 || len(o.Plans) != 1 || o.Plans[0] != (PlanMix{"business", 1}) || len(o.Revenue) != 1 || o.Revenue[0].Closing != 19900 {
			t.Errorf("%+v", o)
		}
		need(office.Cohorts(admin, struct{}{}))(s)
		u := need(office.UsageReport(admin, UsageFiguresRequest{}))(s)
		if len(u.Data) != 2 || u.Data[1].Feature != "match" || u.Data[1].Units != 70 || len(u.Revenue) != 1 || u.Revenue[0].Paid != 19900 || *u.Revenue[0].Margin != 1 {
			t.Errorf("%+v", u)
		}
	})
}

// Trials count when they have ended, and as won when something was paid.
func TestTrialFigures(t *testing.T) {
	h := func(sub, status string, mrr int64) subscriptionChange {
		return subscriptionChange{Subscription: sub, Status: status, MRR: mrr}
	}
	got := trials([]subscriptionChange{h("a", "trialing", 0), h("b", "trialing", 0), h("c", "trialing", 0), h("d", "active", 5), h("a", "active", 5), h("a", "canceled", 0), h("b", "paused", 0)})
	if got.Running != 1 || got.Ended != 2 || got.Converted != 1 || *got.Conversion != .5 {
		t.Errorf("%+v", got)
	}
}

// Cohorts see who was active and who paid, in their months.
func TestCohorts(t *testing.T) {
	at := func(day string) time.Time {
		v, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	h := func(tenant, sub, day string, mrr int64) subscriptionChange {
		return subscriptionChange{Owned: store.Owned{TenantID: tenant}, Subscription: sub, At: at(day), MRR: mrr}
	}
	got := paying([]subscriptionChange{h("a", "1", "2026-01-31", 5), h("a", "1", "2026-03-01", 0), h("b", "2", "2026-02-10", 5), h("b", "2", "2026-02-20", 0), h("a", "3", "2026-05-05", 9)}, at("2026-06-01"))
	if want := map[string][]string{"a": {"2026-01", "2026-02", "2026-05", "2026-06"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

// A tenant sees its own use by who, what and when, and where it leads.
func TestAnalytics(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		m := s.meter()
		quota(t, m, db.A, "match", 1000)
		s.use(m, db.A, "match", 40)
		s.use(m, db.B, "match", 7)
		s.later(4 * days)
		s.use(m, db.A, "match", 160)
		for by, want := range map[string]int{"": 2, "actor": 2, "meter": 2, "day": 4} {
			a := need(m.Analyse(db.In(db.A), AnalyticsRequest{By: by}))(s)
			var sum int64
			for _, x := range a.Data {
				if x.Meter == "match" {
					sum += x.Units
				}
			}
			if len(a.Data) != want || sum != 200 {
				t.Errorf("by %q: %+v", by, a.Data)
			}
		}
		// 200 in 4 days and 9 hours, and it is the fifth of June: the thousand is used up before July.
		f := need(m.Analyse(db.In(db.A), AnalyticsRequest{}))(s).Forecast[0]
		if f.Used != 200 || f.AtEnd <= 1000 || f.RunsOutAt == nil || f.RunsOutAt.Before(s.Now()) || f.RunsOutAt.After(f.ResetsAt) {
			t.Errorf("%+v", f)
		}
		if f := forecast(100, 70, -1, 7*days, day(10), day(20)); f.AtEnd != 200 || f.RunsOutAt != nil || f.Limit != nil {
			t.Errorf("%+v", f)
		}
		if f := forecast(100, 100, 101, time.Minute, day(0), day(20)); f.AtEnd != 100 || f.RunsOutAt != nil {
			t.Errorf("after a minute: %+v", f)
		}
	})
}

// A query of the ledger for some hours leaves the partitions of other months alone.
func TestHoursLeaveOtherMonthsAlone(t *testing.T) {
	db := testdb.OnPostgres(t)
	query := "EXPLAIN (COSTS OFF) SELECT sum(units) FROM usage_events WHERE tenant_id = @tenant AND hour >= @from AND hour < @to"
	args := map[string]any{"from": time.Now().UTC().Format("2006-01-02T15"), "to": time.Now().UTC().Add(time.Hour).Format("2006-01-02T15")}
	plan := func(more string) string {
		var lines []string
		if err := db.Read(db.In(db.A), func(ctx context.Context) error { return db.SQL(ctx, query+more, args).Scan(&lines).Error }); err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	all, some := strings.Count(plan(""), "Scan on usage_"), strings.Count(plan(hours(db.Store, "from", "to")), "Scan on usage_")
	if some > 3 || all < some+3 { // what is booked, the months so far, and what no other takes
		t.Errorf("%d partitions are read, of %d:\n%s", some, all, plan(hours(db.Store, "from", "to")))
	}
}
