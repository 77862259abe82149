package billing

import (
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/chainreactions/chainreactions/domain/store"
)

// Subscription is one of a tenant's at Stripe, as it was read last.
type Subscription struct {
	store.Owned
	ID                                string `gorm:"primaryKey"`
	Status, Plan                      string
	Version                           int
	Price, Item, Cadence, Currency    string
	UnitAmount, Quantity              int64
	PeriodStart, PeriodEnd            time.Time
	CancelAt, EndedAt, TrialEnd       *time.Time
	CancelAtPeriodEnd                 bool
	PastDueSince, PendingUntil        *time.Time
	NextPlan                          string
	NextVersion                       int
	NextCadence                       string
	NextQuantity                      int64
	NextAt                            *time.Time
	Schedule, LatestInvoice, Discount string
	Created                           time.Time
	Metered                           items // Stripe's items by meter
}

// Dispute of a charge of a tenant's.
type Dispute struct {
	store.Owned
	ID       string     `json:"id" gorm:"primaryKey"`
	Charge   string     `json:"charge"`
	Status   string     `json:"status"`
	Reason   string     `json:"reason"`
	Currency string     `json:"currency"`
	Amount   int64      `json:"amount" doc:"minor units"`
	DueBy    *time.Time `json:"due_by" nullable:"true"`
	Created  time.Time  `json:"created"`
}

// grace is how long a tenant goes on as before after a renewal was not paid.
const grace = 7 * 24 * time.Hour

// facts is everything that access depends on.
type facts struct {
	Now           time.Time
	Granted       Plan // what the tenant was put on: free by sign-up, or by an operator
	Subscriptions []Subscription
	Plans         map[string]Plan // versions of the subscriptions' plans, by "name/version"
	Overrides     []Override
	Disputes      []Dispute
	Grace         time.Duration
}

// Standing is how a tenant stands with us.
type Standing struct {
	Source       string        // "free", "operator" or "subscription"
	Subscription *Subscription // the one that counts, also where it gives nothing
	ReadOnly     string        // why nothing may be changed or run: past_due, unpaid, paused; "" where it may
	GraceUntil   *time.Time    // when it will be read-only
}

// order says which of several subscriptions counts: the first of these, and
// then the newest.
var order = []string{"active", "trialing", "past_due", "unpaid", "paused", "incomplete", "incomplete_expired", "canceled"}

// access is what a tenant may use: a pure function, and the only code that
// reads a subscription's status. The table, which access_test.go holds line by
// line:
//
//	none, incomplete, incomplete_expired, canceled   what was granted: free
//	trialing, active                                 the plan, with the seats that are paid for
//	active, to be cancelled, or with an update that waits for its payment   the same, as it is now
//	past_due                                         the plan for the grace, then read-only
//	unpaid, paused                                   read-only
//	dispute lost                                     what was granted: free
//	a plan that an operator granted                  that plan, whatever Stripe says
//	active or trialing, past the date of its cancellation   what was granted: free, before Stripe says so
//
// Quotas last for the month of the subscription (spans), else for the calendar
// month. What goes beyond them can be paid for where the plan says so and the
// subscription is active: who pays nothing has a hard stop.
//
// Read-only takes nothing away: limits stay, data can be read and exported, and
// nothing can be run or made. A dispute that is open changes nothing here.
func access(f facts) (Plan, Standing) {
	st := Standing{Source: "free"}
	subs := slices.Clone(f.Subscriptions)
	slices.SortFunc(subs, func(a, b Subscription) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Status), slices.Index(order, b.Status)), b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
	if len(subs) > 0 {
		st.Subscription = &subs[0]
	}
	plan := f.Granted
	plan.Period = calendarMonth(f.Now)
	if plan.Name != "free" {
		st.Source = "operator"
		return entitle(plan, f.Overrides, f.Now), st
	}
	for _, s := range subs {
		bought, known := f.Plans[versionKey(s.Plan, s.Version)]
		lost := slices.ContainsFunc(f.Disputes, func(d Dispute) bool { return d.Status == "lost" && !d.Created.Before(s.Created) })
		if !known || lost {
			continue
		}
		switch s.Status {
		case "trialing", "active":
			if s.CancelAt != nil && !f.Now.Before(*s.CancelAt) {
				continue
			}
		case "past_due":
			if end := s.lateSince().Add(f.Grace); f.Now.Before(end) {
				st.GraceUntil = &end
			} else {
				st.ReadOnly = s.Status
			}
		case "unpaid", "paused":
			st.ReadOnly = s.Status
		default: // never paid for, or ended
			continue
		}
		st.Source, st.Subscription = "subscription", &s
		plan = entitle(bought, nil, f.Now) // a copy
		var bill Period
		if plan.Period, bill = spans(s, f.Now); s.Status == "active" {
			plan.paid = paidFor(bought, s, bill)
		}
		if most := plan.Levels["seats"]; most < 0 || s.Quantity < most {
			plan.Levels["seats"] = s.Quantity
		}
		break
	}
	plan = entitle(plan, f.Overrides, f.Now)
	plan.Inactive = st.ReadOnly
	return plan, st
}

// lateSince is when a renewal that is not paid was due.
func (s Subscription) lateSince() time.Time {
	if s.PastDueSince != nil {
		return *s.PastDueSince
	}
	return s.PeriodStart
}

// Period is a span for which quotas are handed out. Ids are in the order of
// time, and name their beginning: whatever becomes of a subscription, what was
// used stays under the period in which it was used.
type Period struct {
	ID         string
	Start, End time.Time
}

func calendarMonth(now time.Time) Period {
	now = now.UTC()
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Period{start.Format("2006-01"), start, start.AddDate(0, 1, 0)}
}

// spans gives the quota period that now lies in, and Stripe's period around it:
// the same for a monthly subscription, while that of a yearly one has twelve.
// Where Stripe's period is over and we have not read the next one, it is the
// one that follows, so that a quota is renewed in the second in which it should
// be, whatever events do.
func spans(s Subscription, now time.Time) (quota, bill Period) {
	months := 1
	if s.Cadence == "year" {
		months = 12
	}
	start, end := s.PeriodStart.UTC(), s.PeriodEnd.UTC()
	for i := 1; end.After(start) && !now.Before(end); i++ {
		start, end = end, addMonths(s.PeriodEnd.UTC(), i*months)
	}
	bill = Period{start.Format(time.RFC3339), start, end}
	if months == 1 {
		return bill, bill
	}
	quota = bill
	for i := 1; ; i++ {
		next := addMonths(start, i)
		if !next.Before(end) || now.Before(next) {
			if next.Before(end) {
				quota.End = next
			}
			quota.ID = quota.Start.Format(time.RFC3339)
			return quota, bill
		}
		quota.Start = next
	}
}

// addMonths goes on by months to the same day, or the last of a month without
// it, as Stripe does.
func addMonths(t time.Time, n int) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// overage is what a tenant pays for one meter beyond its quota now.
type overage struct {
	subscription, currency, price string
	amount, per, most             int64
	bill                          Period
}

// paidFor says of which meters a subscription pays what goes beyond the quota.
func paidFor(plan Plan, s Subscription, bill Period) map[string]overage {
	out := map[string]overage{}
	for _, o := range plan.Overage {
		item, has := s.Metered[o.Meter]
		if has {
			out[o.Meter] = overage{s.ID, s.Currency, item.Price, item.Amount, o.Per, o.Most, bill}
		}
	}
	return out
}

func versionKey(plan string, version int) string { return fmt.Sprintf("%s/%d", plan, version) }

// facts reads what access depends on, in the caller's transaction; granted and
// overrides have been read.
func (s *Service) facts(ctx context.Context, tenant string, granted Plan, overrides []Override) (facts, error) {
	f := facts{Now: s.Now(), Granted: granted, Overrides: overrides, Grace: grace, Plans: map[string]Plan{}}
	if err := s.Store.For(ctx).Where("tenant_id = ?", tenant).Find(&f.Subscriptions).Error; err != nil || len(f.Subscriptions) == 0 {
		return f, err
	}
	if err := s.Store.For(ctx).Where("tenant_id = ?", tenant).Find(&f.Disputes).Error; err != nil {
		return f, err
	}
	var rows []planVersion
	err := s.Store.SQL(ctx, `SELECT DISTINCT v.plan, v.version, v.body FROM subscriptions s JOIN plan_versions v ON v.plan = s.plan AND v.version = s.version
		WHERE s.tenant_id = @tenant OR @tenant = '' AND s.tenant_id = @owner`, map[string]any{"owner": tenant}).Scan(&rows).Error
	for _, row := range rows {
		if f.Plans[versionKey(row.Plan, row.Version)], err = s.read(row); err != nil {
			break
		}
	}
	return f, err
}

// items are a subscription's metered items by meter, as a column keeps them.
type items map[string]item

type item struct {
	ID     string `json:"i"`
	Price  string `json:"p"`
	Amount int64  `json:"a"` // minor units, for one package
}

// Scan and Value are the database's.
func (i *items) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), i)
	case []byte:
		return json.Unmarshal(v, i)
	}
	return fmt.Errorf("billing: metered items in a %T", v)
}

func (i items) Value() (driver.Value, error) {
	if i == nil {
		return "{}", nil
	}
	text, err := json.Marshal(i)
	return string(text), err
}

// Standing is how the scope's tenant stands, and what it may use.
func (s *Service) Standing(ctx context.Context, tenant string) (p Plan, st Standing, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		row, overrides, err := s.grants(ctx, tenant)
		if err != nil {
			return err
		}
		granted, err := s.read(row)
		if err != nil {
			return fmt.Errorf("billing: the plan of tenant %s: %w", tenant, err)
		}
		f, err := s.facts(ctx, tenant, granted, overrides)
		p, st = access(f)
		return err
	})
	return p, st, err
}

// Listen drops what this process believes of plans whenever a bell says that
// something changed somewhere, until ctx ends. Who is not told, since the bell
// was lost, finds out when what it believes is a second old.
func (s *Service) Listen(ctx context.Context) {
	if s.Bell == nil {
		return
	}
	for ctx.Err() == nil {
		rung, stop := s.Bell.Wait(bell)
		s.forgetAll()
		select {
		case <-rung:
		case <-ctx.Done():
		}
		stop()
	}
}

// bell is rung after every change of what a tenant may use.
const bell = "entitlements"
