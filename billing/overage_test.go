package billing

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	sandbox "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// business buys the plan that goes on beyond its quotas, with a quota of 1000
// matches and one cadence.
func (s *shop) business(m *Meter, tenant, interval string) {
	s.Helper()
	s.pays(need(s.sales.Checkout(s.db.In(tenant), CheckoutRequest{Plan: "business", Interval: interval, Quantity: 1}))(s).URL)
	s.deliver()
	quota(s.T, m, tenant, "match", 1000)
}

// bills are the packages of matches on a customer's invoices, and their money.
func (s *shop) bills() (packages, amount int64) {
	s.Helper()
	h := &story{shop: s}
	for _, inv := range h.list("/v1/invoices", url.Values{}) {
		if inv["status"] == "void" {
			continue
		}
		for _, l := range inv["lines"].(map[string]any)["data"].([]any) {
			l := l.(map[string]any)
			price, _ := l["price"].(map[string]any)
			recurring, _ := price["recurring"].(map[string]any)
			if recurring["usage_type"] == "metered" {
				packages += int64(l["quantity"].(float64))
				amount += int64(l["amount"].(float64))
			}
			if n, late := l["metadata"].(map[string]any)["packages"].(string); late {
				var many int64
				if _, err := fmt.Sscan(n, &many); err != nil {
					s.Fatal(err)
				}
				packages += many
				amount += int64(l["amount"].(float64))
			}
		}
	}
	return packages, amount
}

func (s *shop) bill(tenant string) {
	s.Helper()
	if err := s.sales.Bill(context.Background(), tenant); err != nil {
		s.Fatal(err)
	}
}

func (s *shop) proven(want ...string) {
	s.Helper()
	wrong := need(s.sales.Prove(context.Background()))(s)
	var got []string
	for _, w := range wrong {
		got = append(got, w.What)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("the proof finds %+v, want %v", wrong, want)
	}
}

// both runs a test with each of Stripe's ways to count, each on one of the two
// databases: neither knows of the other.
func both(t *testing.T, fn func(s *shop, m *Meter)) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShopWith(t, db, 9, func(c *SalesConfig) { c.Records = db.URL != "" })
		fn(s, s.meter())
	})
}

// What goes beyond the quota is served, counted in packages, told to Stripe
// once, and on the invoice of its period to the cent; a trial, a grace and a
// plan without prices for it stop at the quota.
func TestOverage(t *testing.T) {
	both(t, func(s *shop, m *Meter) {
		db := s.db
		s.business(m, db.A, "month")
		s.use(m, db.A, "match", 900)
		s.bill(db.A)
		s.use(m, db.A, "match", 600) // 500 beyond: one package begun
		s.bill(db.A)
		s.bill(db.A)
		s.use(m, db.A, "match", 501) // 1001 beyond: two
		s.bill(db.A)
		s.proven()
		if u := need(m.Usage(db.In(db.A), UsageRequest{}))(s).Data[0]; u.Overage != 1001 || *u.Limit != 1000 || *u.Remaining != 0 {
			t := s.T
			t.Errorf("%+v", u)
		}
		s.use(m, db.A, "match", 1200)          // three packages, not reported before the period's end
		s.later(30*24*time.Hour + time.Minute) // the invoice is a draft
		s.deliver()                            // invoice.created: the last report
		s.later(2 * time.Hour)
		s.deliver()
		s.bill(db.A)
		if n, money := s.bills(); n != 3 || money != 300 {
			s.Errorf("%d packages for %d on invoices", n, money)
		}
		s.proven()
		if n := s.count("usage_totals WHERE packages > 0 AND settled_at IS NULL"); n != 0 {
			s.Errorf("%d rows are not settled", n)
		}
		// The next period begins at nothing.
		s.use(m, db.A, "match", 1000)
		s.bill(db.A)
		if n, _ := s.bills(); n != 3 {
			s.Errorf("%d packages", n)
		}
		s.proven()
	})
}

// Usage that comes home after its invoice is final, and what a cancellation
// would drop, is billed all the same, once.
func TestLateUsage(t *testing.T) {
	both(t, func(s *shop, m *Meter) {
		db := s.db
		s.business(m, db.A, "month")
		s.use(m, db.A, "match", 2500)
		s.bill(db.A)
		// Admitted in the period, and settled when its invoice is final.
		a := need(m.Admit(db.In(db.A), AdmitRequest{Class: "match", Meter: "match", Units: 1000}))(s)
		s.later(30*24*time.Hour + 2*time.Hour)
		s.deliver()
		s.bill(db.A)
		if n, _ := s.bills(); n != 2 {
			s.Errorf("%d packages before", n)
		}
		if err := m.Settle(db.In(db.A), a, 1000); err != nil {
			s.Fatal(err)
		}
		if err := m.Flush(context.Background()); err != nil {
			s.Fatal(err)
		}
		s.bill(db.A)
		s.bill(db.A)
		s.use(m, db.A, "match", 1400) // and one package of the next period, which the end would drop
		if err := s.sales.End(db.In(db.A)); err != nil {
			s.Fatal(err)
		}
		s.later(2 * time.Hour)
		s.deliver()
		s.bill(db.A)
		if n, money := s.bills(); n != 4 || money != 400 {
			s.Errorf("%d packages for %d on invoices", n, money)
		}
		s.proven()
	})
}

// Ended in the dashboard, where nobody asks for a last invoice, and changed to
// another interval, which drops what Stripe counted: billed all the same.
func TestNothingIsLostAtTheEnd(t *testing.T) {
	both(t, func(s *shop, m *Meter) {
		db := s.db
		h := &story{shop: s, tenant: db.A}
		s.business(m, db.A, "month")
		s.use(m, db.A, "match", 2500)
		s.bill(db.A)
		s.later(5 * 24 * time.Hour)
		need(s.sales.Change(db.In(db.A), ChangeRequest{Interval: "year"}))(s)
		s.deliver()
		s.bill(db.A)
		s.later(2 * time.Hour)
		if n, _ := s.bills(); n != 2 {
			s.Errorf("%d packages after the change", n)
		}
		s.proven()
		s.use(m, db.A, "match", 1500)
		s.bill(db.A)
		s.later(40 * 24 * time.Hour) // the second month of the year
		s.use(m, db.A, "match", 3000)
		s.bill(db.A)
		s.proven()
		h.stripeAPI("DELETE", "/v1/subscriptions/"+h.subscriptionID(), nil)
		s.deliver()
		s.later(2 * time.Hour)
		s.deliver()
		s.bill(db.A)
		if n, money := s.bills(); n != 5 || money != 500 {
			s.Errorf("%d packages for %d on invoices", n, money)
		}
		s.proven()
	})
}

// A year that was left for months and is begun anew: what is used in the second
// is no part of the first, whose end was planned for later.
func TestYearBegunAnew(t *testing.T) {
	both(t, func(s *shop, m *Meter) {
		db := s.db
		s.business(m, db.A, "year")
		s.use(m, db.A, "match", 2500)
		s.bill(db.A)
		for _, interval := range []string{"month", "year"} {
			s.later(5 * days)
			need(s.sales.Change(db.In(db.A), ChangeRequest{Interval: interval}))(s)
			s.deliver()
			s.bill(db.A)
		}
		s.use(m, db.A, "match", 4500)
		s.bill(db.A)
		if err := s.sales.End(db.In(db.A)); err != nil {
			s.Fatal(err)
		}
		s.later(2 * time.Hour)
		s.sync(db.A)
		s.bill(db.A)
		if n, money := s.bills(); n != 6 || money != 600 {
			s.Errorf("%d packages for %d on invoices", n, money)
		}
		s.proven()
	})
}

// Who pays nothing stops at the quota.
func TestHardStop(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	m := s.meter()
	sys := domain.System(context.Background(), "test")
	if err := s.plans.SetPlan(sys, db.A, "business", "operator:x", "a favour"); err != nil {
		t.Fatal(err)
	}
	quota(t, m, db.A, "match", 1000)
	s.use(m, db.A, "match", 1000)
	if err := m.spend(db.In(db.A), "match", 1); domain.CodeOf(err) != "quota_exceeded" {
		t.Errorf("granted by an operator: %v", err)
	}
	s.sales.Trial = 14
	s.business(m, db.B, "month")
	s.use(m, db.B, "match", 1000)
	if err := m.spend(db.In(db.B), "match", 1); domain.CodeOf(err) != "quota_exceeded" {
		t.Errorf("in a trial: %v", err)
	}
}

// The proof finds a package that is not in the ledger, one that Stripe lost, and
// one that an invoice does not have.
func TestProofFindsDifferences(t *testing.T) {
	both(t, func(s *shop, m *Meter) {
		db := s.db
		set := func(what string) {
			s.Helper()
			err := db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
				_, err := db.Exec(ctx, "UPDATE usage_totals SET "+what+" WHERE tenant_id = @owner AND meter = 'match'", map[string]any{"owner": db.A})
				return err
			})
			if err != nil {
				s.Fatal(err)
			}
		}
		s.business(m, db.A, "month")
		s.use(m, db.A, "match", 2500)
		s.bill(db.A)
		s.proven()
		set("units = units + 1")
		s.proven("ledger")
		set("units = units - 1, packages = packages + 1, reported = reported + 1")
		s.proven("counted")
		set("packages = packages - 1, reported = reported - 1")
		s.later(30*24*time.Hour + 2*time.Hour)
		s.deliver()
		s.bill(db.A)
		s.proven()
		set("packages = packages + 2")
		s.proven("invoiced", "amount")
		for _, want := range []int64{2, 0} { // the operators' gauge, and what lets it go
			if err := s.sales.RunProof(context.Background(), ProofJob{}); err != nil {
				s.Fatal(err)
			}
			if c := need(s.sales.Concerns(context.Background()))(s); c["billing_differences"] != want {
				s.Errorf("%v", c)
			}
			set("packages = packages - 2")
		}
	})
}

// A crash at every point of a report, before and after each call, in each of its
// three moments: in the period, while its invoice is a draft, and after it is
// final. Nothing is counted twice, and nothing is lost. Of PostgreSQL: crashStep.
func TestReportCrashPoints(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		for name, records := range map[string]bool{"usage records": true, "meter events": false} {
			moments := map[string]func(s *shop, m *Meter){
				"in the period": func(*shop, *Meter) {},
				"in the draft":  func(s *shop, _ *Meter) { s.later(30*24*time.Hour + time.Minute); s.sync(s.db.A) },
				"after it":      func(s *shop, _ *Meter) { s.later(30*24*time.Hour + 2*time.Hour); s.sync(s.db.A) },
				"ended": func(s *shop, _ *Meter) {
					h := &story{shop: s, tenant: s.db.A}
					h.stripeAPI("DELETE", "/v1/subscriptions/"+h.subscriptionID(), nil)
					s.sync(s.db.A)
				},
			}
			seed := uint64(5000)
			for moment, wait := range moments {
				point := 0
				step := crashStep(db, moment)
				for ; step > 0; point += step {
					seed++
					empty(t, db)
					db.A = newTenant(t, db)
					s := openShopWith(t, db, seed, func(c *SalesConfig) { c.Records = records })
					m := s.meter()
					s.business(m, db.A, "month")
					s.use(m, db.A, "match", 3500)
					s.bill(db.A)
					s.use(m, db.A, "match", 1000)
					wait(s, m)
					calls, died := 0, false
					ctx, die := context.WithCancel(context.Background())
					s.fails = func(*http.Request) (before, after bool) {
						calls++
						if died || calls != point/2+1 {
							return false, false
						}
						died = true
						die()
						return point%2 == 0, true
					}
					if err := s.sales.Bill(ctx, db.A); (err != nil) != died {
						t.Fatalf("%s, %s, point %d: %v", name, moment, point, err)
					}
					die()
					s.fails = nil
					again := []time.Duration{0, 13 * time.Hour, 30 * time.Hour}[point%3] // also when Stripe has forgotten the identifier
					s.later(again)
					s.bill(db.A)
					s.bill(db.A)
					s.later(32 * 24 * time.Hour)
					s.deliver()
					s.bill(db.A)
					if n, money := s.bills(); n != 4 || money != 400 {
						t.Errorf("%s, %s, point %d, again after %v: %d packages for %d", name, moment, point, again, n, money)
					}
					s.proven()
					if !died {
						break
					}
				}
				if point < 2 && step > 0 {
					t.Errorf("%s, %s: %d points", name, moment, point)
				}
			}
		}
	})
}

func (s *shop) sync(tenant string) {
	s.Helper()
	if err := s.sales.Sync(context.Background(), need(s.sales.customer(s.db.In(tenant)))(s).id()); err != nil {
		s.Fatal(err)
	}
}

// A report that is sent again when it arrived, by two processes at once, counts
// once: what was left half done is found by whoever comes next.
func TestTwoReporters(t *testing.T) {
	both(t, func(s *shop, m *Meter) {
		db := s.db
		s.business(m, db.A, "month")
		s.use(m, db.A, "match", 4500)
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- s.sales.Bill(context.Background(), db.A) }()
		}
		for range 2 {
			if err := <-done; err != nil {
				s.Error(err)
			}
		}
		s.proven()
		if err := s.box.Deliver(context.Background(), sandbox.Fate{}); err != nil {
			s.Fatal(err)
		}
	})
}
