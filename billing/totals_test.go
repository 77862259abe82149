package billing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// meter counts beside the shop, by the shop's clock.
func (s *shop) meter() *Meter {
	s.Helper()
	local := NewLocal(s.Now)
	m, _ := rig(s.T, s.db, MeterConfig{Plans: s.plans, Counters: &faulty{Local: local}, Now: s.Now, Queue: s})
	return m
}

// use spends units of a meter, a thousand at most at a time.
func (s *shop) use(m *Meter, tenant, meter string, units int64) {
	s.Helper()
	s.plans.forgetAll()
	if err := m.spend(s.db.In(tenant), meter, units); err != nil {
		s.Fatal(err)
	}
}

func (m *Meter) spend(ctx context.Context, meter string, units int64) error {
	a, err := m.Admit(ctx, AdmitRequest{Class: "match", Meter: meter, Units: units})
	if err == nil {
		err = m.Settle(ctx, a, units)
	}
	if err == nil {
		err = m.Flush(ctx)
	}
	return err
}

// Quotas last for the month of the subscription; a yearly one has twelve.
func TestSpans(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	monthly := Subscription{Cadence: "month", PeriodStart: at("2026-01-31 09:00:00"), PeriodEnd: at("2026-02-28 09:00:00")}
	yearly := Subscription{Cadence: "year", PeriodStart: at("2025-08-31 09:00:00"), PeriodEnd: at("2026-08-31 09:00:00")}
	for _, c := range []struct {
		sub                               Subscription
		now, start, end, billFrom, billTo string
	}{
		{monthly, "2026-01-31 09:00:00", "2026-01-31 09:00:00", "2026-02-28 09:00:00", "2026-01-31 09:00:00", "2026-02-28 09:00:00"},
		{monthly, "2026-02-28 08:59:59", "2026-01-31 09:00:00", "2026-02-28 09:00:00", "2026-01-31 09:00:00", "2026-02-28 09:00:00"},
		{monthly, "2026-02-28 09:00:00", "2026-02-28 09:00:00", "2026-03-28 09:00:00", "2026-02-28 09:00:00", "2026-03-28 09:00:00"}, // before we have read the renewal
		{monthly, "2026-04-28 09:00:00", "2026-04-28 09:00:00", "2026-05-28 09:00:00", "2026-04-28 09:00:00", "2026-05-28 09:00:00"},
		{yearly, "2025-08-31 09:00:00", "2025-08-31 09:00:00", "2025-09-30 09:00:00", "2025-08-31 09:00:00", "2026-08-31 09:00:00"},
		{yearly, "2026-02-28 09:00:00", "2026-02-28 09:00:00", "2026-03-31 09:00:00", "2025-08-31 09:00:00", "2026-08-31 09:00:00"},
		{yearly, "2026-08-31 08:59:59", "2026-07-31 09:00:00", "2026-08-31 09:00:00", "2025-08-31 09:00:00", "2026-08-31 09:00:00"},
		{yearly, "2026-08-31 09:00:00", "2026-08-31 09:00:00", "2026-09-30 09:00:00", "2026-08-31 09:00:00", "2027-08-31 09:00:00"},
	} {
		quota, bill := spans(c.sub, at(c.now))
		if !quota.Start.Equal(at(c.start)) || !quota.End.Equal(at(c.end)) || !bill.Start.Equal(at(c.billFrom)) || !bill.End.Equal(at(c.billTo)) {
			t.Errorf("%s at %s: %v in %v", c.sub.Cadence, c.now, quota, bill)
		}
	}
	// Of any subscription, periods follow each other without a gap, their ids are
	// in the order of time, and each holds the moment that it was asked for.
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		s := Subscription{Cadence: []string{"month", "year"}[r.IntN(2)], PeriodStart: day0.Add(time.Duration(r.Int64N(int64(800 * 24 * time.Hour)))).Truncate(time.Second)}
		s.PeriodEnd = addMonths(s.PeriodStart, 1)
		if s.Cadence == "year" {
			s.PeriodEnd = addMonths(s.PeriodStart, 12)
		}
		var last Period
		for now := s.PeriodStart; now.Before(s.PeriodStart.AddDate(2, 2, 0)); {
			q, bill := spans(s, now)
			if now.Before(q.Start) || !now.Before(q.End) || q.Start.Before(bill.Start) || q.End.After(bill.End) || last.ID != "" && (q.ID <= last.ID || !q.Start.Equal(last.End)) {
				t.Fatalf("seed %d: %v in %v after %v for %v at %v", seed, q, bill, last, s, now)
			}
			last, now = q, q.End
		}
	}
}

// A quota is renewed with the subscription, in the second in which its period
// ends, before Stripe has told us; what was used stays where it was used.
func TestQuotaFollowsTheSubscription(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		m := s.meter()
		s.later(9 * 24 * time.Hour) // in the middle of a calendar month
		s.use(m, db.A, "match", 900)
		s.buy(db.A, "pro", 2)
		s.deliver()
		quota(t, m, db.A, "match", 1000)
		s.use(m, db.A, "match", 1000)
		if err := m.spend(db.In(db.A), "match", 1); domain.CodeOf(err) != "quota_exceeded" {
			t.Errorf("beyond the quota: %v", err)
		}
		u := need(m.Usage(db.In(db.A), UsageRequest{}))(s)
		if end := s.Now().AddDate(0, 1, 0); u.Data[0].Used != 1000 || !u.Data[0].ResetsAt.Equal(end) || !u.From.Equal(s.Now()) {
			t.Errorf("%+v from %v", u.Data[0], u.From)
		}
		s.later(30*24*time.Hour - time.Second)
		s.plans.forgetAll()
		if err := m.spend(db.In(db.A), "match", 1); domain.CodeOf(err) != "quota_exceeded" {
			t.Errorf("a second before: %v", err)
		}
		s.later(time.Second)
		s.use(m, db.A, "match", 1)
		s.deliver() // the renewal, and it changes nothing
		s.plans.forgetAll()
		if u := need(m.Usage(db.In(db.A), UsageRequest{}))(s); u.Data[0].Used != 1 {
			t.Errorf("after the renewal %+v", u.Data[0])
		}
		// The end of it all is the calendar's month again, with what was used in it.
		need(s.sales.Cancel(db.In(db.A), struct{}{}))(s)
		s.later(31 * 24 * time.Hour)
		s.plans.forgetAll()
		if p := need(s.plans.Entitlements(db.In(db.A)))(s); p.Name != "free" || p.Period.ID != "2026-08" {
			t.Errorf("%s in %s before Stripe has said so", p.Name, p.Period.ID)
		}
	})
}

// Each share of a quota is told once for each meter and period, however many
// writers pass it; what is far beyond several shares tells the highest.
func TestAlerts(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		m := s.meter()
		other := s.meter()
		quota(t, m, db.A, "match", 1000)
		told := func() (out []string) {
			for _, mail := range s.mails {
				out = append(out, mail.Template+" "+mail.Data["percent"])
			}
			return out
		}
		for i := range 10 {
			s.use([]*Meter{m, other}[i%2], db.A, "match", 100)
			s.work()
			s.work()
		}
		want := []string{"usage_alert 50", "usage_alert 75", "usage_alert 90", "usage_limit 100"}
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("told %v", got)
		}
		if n := s.count("audit_events WHERE action = 'usage.threshold'"); n != 4 {
			t.Errorf("%d records", n)
		}
		sub := need(s.sales.Subscription(db.In(db.A), struct{}{}))(s)
		if len(sub.Banners) != 1 || sub.Banners[0].Code != "usage" || sub.Banners[0].Percent != 100 || sub.Banners[0].Meter != "match" {
			t.Errorf("%+v", sub.Banners)
		}
		if b := need(s.sales.Subscription(db.In(db.B), struct{}{}))(s).Banners; len(b) != 0 {
			t.Errorf("the other tenant sees %+v", b)
		}
		s.later(30 * 24 * time.Hour)
		if b := need(s.sales.Subscription(db.In(db.A), struct{}{}))(s).Banners; len(b) != 0 {
			t.Errorf("in the next period: %+v", b)
		}
		s.use(m, db.A, "match", 990)
		s.work()
		if got := told(); !slices.Equal(got, append(want, "usage_alert 90")) {
			t.Errorf("told %v", got)
		}
		for _, job := range []AlertJob{{db.A, "match", "2026-07", 90, 990, 1000, false, s.Now()}, {db.A, "match", "2026-07", 90, 990, 1000, false, s.Now()}} {
			if err := s.sales.RunAlert(context.Background(), job); err != nil {
				t.Error(err)
			}
		}
		if len(s.mails) != 5 {
			t.Errorf("a job that ran again mailed again: %v", told())
		}
	})
}

// The totals are what the ledger adds up to, whatever writers do at once, and
// whatever is given back.
func TestTotalsAddUp(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		r := seed(t)
		meters := []*Meter{s.meter(), s.meter()}
		for i := range 40 {
			m, tenant := meters[r.IntN(2)], []string{db.A, db.B}[r.IntN(2)]
			ctx := db.In(tenant)
			switch r.IntN(3) {
			case 0:
				s.use(m, tenant, "match", r.Int64N(9)+1)
			case 1:
				err := db.Tx(ctx, func(ctx context.Context) error { return m.RecordImport(ctx, r.Int64N(9)+1, fmt.Sprint("imp:", i)) })
				if err != nil {
					t.Fatal(err)
				}
			default:
				book, done, err := m.Reserve(ctx, "relations_normal", 3)
				if domain.CodeOf(err) == "quota_exceeded" {
					continue
				}
				id := fmt.Sprint("run", i)
				if err == nil {
					err = db.Tx(ctx, func(ctx context.Context) error { return book(ctx, 3, id) })
				}
				if err == nil {
					err = db.Tx(ctx, func(ctx context.Context) error { return m.GiveBack(ctx, "relations_normal", 2, id+"/back/1") })
				}
				if err != nil {
					t.Fatal(err)
				}
				done()
			}
		}
		if n := s.count(`usage_totals t WHERE units <> (SELECT sum(e.units) FROM usage_events e WHERE e.tenant_id = t.tenant_id AND e.meter = t.meter AND e.period = t.period)`); n != 0 {
			t.Errorf("%d totals differ from the ledger", n)
		}
		if n := s.count(`(SELECT DISTINCT tenant_id, meter, period FROM usage_events) e`); n != s.count("usage_totals") {
			t.Errorf("the ledger has %d sums", n)
		}
	})
}

// A day before the end of a grace, and at its end, people are told once each:
// time alone brings it.
func TestGraceIsTold(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	s.box.AfterRetries = "past_due"
	s.buy(db.A, "pro", 2)
	s.card(db.A, failing)
	s.later(30*days + 2*time.Hour)
	s.deliver()
	told := func() (out []string) {
		for range 2 {
			if err := s.sales.RunBilling(context.Background(), BillingJob{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range s.mails {
			out = append(out, m.Template)
		}
		return out
	}
	want := told()
	s.later(6 * days)
	as := func(plan string) {
		if err := s.plans.SetPlan(domain.System(context.Background(), "test"), db.A, plan, "operator:x", "a test"); err != nil {
			t.Fatal(err)
		}
	}
	as("enterprise") // by an operator: whatever becomes of the subscription, nothing ends
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("told %v", got)
	}
	as("free")
	if got := told(); !slices.Equal(got, append(want, "grace_ends")) {
		t.Errorf("told %v", got)
	}
	s.later(days)
	if got := told(); !slices.Equal(got, append(want, "grace_ends", "read_only")) {
		t.Errorf("told %v", got)
	}
	if b := need(s.sales.Subscription(db.In(db.A), struct{}{}))(s).Banners; len(b) != 1 || b[0].Code != "read_only" || b[0].Action != "pay" || b[0].URL == "" {
		t.Errorf("%+v", b)
	}
}
