package billing

import (
	"cmp"
	"context"
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
		case "past_due":
			since := s.PeriodStart
			if s.PastDueSince != nil {
				since = *s.PastDueSince
			}
			if end := since.Add(f.Grace); f.Now.Before(end) {
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
		if most := plan.Levels["seats"]; most < 0 || s.Quantity < most {
			plan.Levels["seats"] = s.Quantity
		}
		break
	}
	plan = entitle(plan, f.Overrides, f.Now)
	plan.Inactive = st.ReadOnly
	return plan, st
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
