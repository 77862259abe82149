package billing

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

var (
	freePlan = Plan{Name: "free", Version: 1, Quotas: map[string]int64{"match": 1000}, Rates: map[string]int64{"match": 60}, Levels: map[string]int64{"seats": 2}, Features: []string{"matching"}}
	proPlan  = Plan{Name: "pro", Version: 2, Quotas: map[string]int64{"match": 100_000}, Rates: map[string]int64{"match": 600}, Levels: map[string]int64{"seats": 5}, Features: []string{"matching", "research"}}
	topPlan  = Plan{Name: "enterprise", Version: 1, Quotas: map[string]int64{"match": -1}, Rates: map[string]int64{"match": 6000}, Levels: map[string]int64{"seats": -1}, Features: []string{"matching", "sso"}}
	day0     = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
)

func day(n float64) time.Time { return day0.Add(time.Duration(n * 24 * float64(time.Hour))) }

func known(plans ...Plan) map[string]Plan {
	out := map[string]Plan{}
	for _, p := range plans {
		out[versionKey(p.Name, p.Version)] = p
	}
	return out
}

func pro(status string, change ...func(*Subscription)) Subscription {
	s := Subscription{ID: "sub_" + status, Status: status, Plan: "pro", Version: 2, Quantity: 3, Created: day0, PeriodStart: day0, PeriodEnd: day(30)}
	for _, f := range change {
		f(&s)
	}
	return s
}

// The state table of the billing rules, line by line: what each state of Stripe's
// gives, and what it does not take away.
func TestAccessTable(t *testing.T) {
	at := func(n float64) *time.Time { t := day(n); return &t }
	pastDue := pro("past_due", func(s *Subscription) { s.PastDueSince = at(1) })
	late := pro("active", func(s *Subscription) { s.ID = "sub_late"; s.Created = day(2); s.Quantity = 4 })
	lost := []Dispute{{ID: "dp_1", Status: "lost", Created: day(5)}}
	for _, c := range []struct {
		name                   string
		now                    time.Time
		granted                Plan
		subs                   []Subscription
		disputes               []Dispute
		plan, source, readOnly string
		seats                  int64
	}{
		{"none", day(1), freePlan, nil, nil, "free", "free", "", 2},
		{"incomplete", day(1), freePlan, []Subscription{pro("incomplete")}, nil, "free", "free", "", 2},
		{"incomplete_expired", day(1), freePlan, []Subscription{pro("incomplete_expired")}, nil, "free", "free", "", 2},
		{"trialing", day(1), freePlan, []Subscription{pro("trialing")}, nil, "pro", "subscription", "", 3},
		{"active", day(1), freePlan, []Subscription{pro("active")}, nil, "pro", "subscription", "", 3},
		{"more seats than the plan has", day(1), freePlan, []Subscription{pro("active", func(s *Subscription) { s.Quantity = 9 })}, nil, "pro", "subscription", "", 5},
		{"to be cancelled", day(1), freePlan, []Subscription{pro("active", func(s *Subscription) { s.CancelAtPeriodEnd, s.CancelAt = true, at(30) })}, nil, "pro", "subscription", "", 3},
		{"an upgrade waits for its payment", day(1), freePlan, []Subscription{pro("active", func(s *Subscription) { s.PendingUntil = at(2) })}, nil, "pro", "subscription", "", 3},
		{"a downgrade is planned", day(1), freePlan, []Subscription{pro("active", func(s *Subscription) { s.NextPlan, s.NextAt = "free", at(30) })}, nil, "pro", "subscription", "", 3},
		{"past due, in its grace", day(7.99), freePlan, []Subscription{pastDue}, nil, "pro", "subscription", "", 3},
		{"past due, after it", day(8), freePlan, []Subscription{pastDue}, nil, "pro", "subscription", "past_due", 3},
		{"past due, another one paid", day(20), freePlan, []Subscription{pastDue, late}, nil, "pro", "subscription", "", 4},
		{"past due, another begun and not paid", day(3), freePlan, []Subscription{pastDue, pro("incomplete", func(s *Subscription) { s.Created = day(2) })}, nil, "pro", "subscription", "", 3},
		{"unpaid", day(1), freePlan, []Subscription{pro("unpaid")}, nil, "pro", "subscription", "unpaid", 3},
		{"paused", day(1), freePlan, []Subscription{pro("paused")}, nil, "pro", "subscription", "paused", 3},
		{"canceled", day(1), freePlan, []Subscription{pro("canceled")}, nil, "free", "free", "", 2},
		{"canceled, and bought again", day(3), freePlan, []Subscription{pro("canceled"), late}, nil, "pro", "subscription", "", 4},
		{"dispute open", day(6), freePlan, []Subscription{pro("active")}, []Dispute{{ID: "dp_1", Status: "needs_response", Created: day(5)}}, "pro", "subscription", "", 3},
		{"dispute won", day(6), freePlan, []Subscription{pro("active")}, []Dispute{{ID: "dp_1", Status: "won", Created: day(5)}}, "pro", "subscription", "", 3},
		{"dispute lost", day(6), freePlan, []Subscription{pro("active")}, lost, "free", "free", "", 2},
		{"a price that is not ours", day(1), freePlan, []Subscription{pro("active", func(s *Subscription) { s.Plan = "" })}, nil, "free", "free", "", 2},
		{"a status that Stripe has not invented yet", day(1), freePlan, []Subscription{pro("hovering")}, nil, "free", "free", "", 2},
		{"granted by an operator", day(1), topPlan, nil, nil, "enterprise", "operator", "", -1},
		{"granted, and unpaid at Stripe", day(1), topPlan, []Subscription{pro("unpaid")}, nil, "enterprise", "operator", "", -1},
	} {
		p, st := access(facts{Now: c.now, Granted: c.granted, Subscriptions: c.subs, Plans: known(proPlan), Disputes: c.disputes, Grace: grace})
		if p.Name != c.plan || st.Source != c.source || st.ReadOnly != c.readOnly || p.Inactive != c.readOnly || p.Levels["seats"] != c.seats {
			t.Errorf("%s: %s from %s, read-only %q, %d seats; want %s from %s, %q, %d", c.name, p.Name, st.Source, st.ReadOnly, p.Levels["seats"], c.plan, c.source, c.readOnly, c.seats)
		}
	}
	if p, _ := access(facts{Now: day(1), Granted: freePlan, Subscriptions: []Subscription{pro("active")}, Plans: known(proPlan), Grace: grace,
		Overrides: []Override{{Kind: "quota", Name: "match", Value: 7, ExpiresAt: at(2)}, {Kind: "level", Name: "seats", Value: 50}}}); p.Quotas["match"] != 7 || p.Levels["seats"] != 50 {
		t.Errorf("overrides lie on top: %+v", p)
	}
	if proPlan.Levels["seats"] != 5 || proPlan.Quotas["match"] != 100_000 {
		t.Error("the published version was changed")
	}
}

// What must hold of any state that can be thought of, over many random ones: it
// does not depend on the order of rows, an ended or unpaid subscription gives
// nothing, and nobody is read-only who has something active.
func TestAccessAlways(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	statuses := append([]string{"", "hovering"}, order...)
	n := 20_000
	if os.Getenv("BENCH_FULL") != "" {
		n = 1_000_000
	}
	for range n {
		f := facts{Now: day(r.Float64() * 40), Granted: freePlan, Plans: known(proPlan, topPlan), Grace: grace}
		for i := range r.IntN(4) {
			s := pro(statuses[r.IntN(len(statuses))], func(s *Subscription) {
				s.ID, s.Created, s.Quantity = fmt.Sprint("sub_", i), day(r.Float64()*10), int64(r.IntN(9))
				if r.IntN(3) == 0 {
					s.Plan, s.Version = "enterprise", 1
				}
				if r.IntN(2) == 0 {
					since := day(r.Float64() * 20)
					s.PastDueSince = &since
				}
			})
			f.Subscriptions = append(f.Subscriptions, s)
		}
		p, st := access(f)
		r.Shuffle(len(f.Subscriptions), func(i, j int) { f.Subscriptions[i], f.Subscriptions[j] = f.Subscriptions[j], f.Subscriptions[i] })
		q, _ := access(f)
		has := func(list ...string) bool {
			return slices.ContainsFunc(f.Subscriptions, func(s Subscription) bool { return slices.Contains(list, s.Status) })
		}
		switch {
		case p.Name != q.Name || p.Inactive != q.Inactive || p.Levels["seats"] != q.Levels["seats"]:
			t.Fatalf("seed %d: the order of rows matters: %+v", seed, f.Subscriptions)
		case p.Name != "free" && !has("active", "trialing", "past_due", "unpaid", "paused"):
			t.Fatalf("seed %d: given without a payment: %+v", seed, f.Subscriptions)
		case p.Inactive != "" && has("active", "trialing"):
			t.Fatalf("seed %d: read-only beside what is paid: %+v", seed, f.Subscriptions)
		case st.Source == "free" && has("active", "trialing"):
			t.Fatalf("seed %d: paid, and not given: %+v", seed, f.Subscriptions)
		}
	}
}
