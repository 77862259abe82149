package billing

import (
	"context"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
)

// Reserve admits units of a meter for a job, by the same counters as calls, or
// refuses what goes beyond the period's quota. A job has no rate. book writes
// what was used to the ledger in the caller's transaction, once for each event
// id; done, which must be called, gives back what was not booked.
func (m *Meter) Reserve(ctx context.Context, meter string, units int64) (book func(ctx context.Context, units int64, id string) error, done func(), err error) {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return nil, nil, err
	}
	scope, _ := domain.ScopeOf(ctx)
	a := &Admission{tenant: scope.Tenant, actor: scope.Actor.ID, units: units}
	var ends time.Time
	a.period, ends = m.period()
	a.Quota.Meter = meter
	v, err := m.decide(ctx, Ask{Tenant: a.tenant, Class: "jobs", RateLimit: 1_000_000, Window: time.Minute, Meter: meter, Period: a.period,
		QuotaLimit: plan.Quotas[meter], Units: units, ResetsAt: ends}, a)
	switch {
	case err != nil:
		return nil, nil, err
	case v.Refused == "quota":
		return nil, nil, domain.E(domain.TooMany, "quota_exceeded", "The quota of %s for this period is used up.", meter).After(ends.Sub(m.Now()))
	case !v.OK:
		return nil, nil, domain.E(domain.Unavailable, "dependency_unavailable", "The counters are being rebuilt.").After(time.Second)
	}
	a.generation = v.Generation
	left := units
	book = func(ctx context.Context, n int64, id string) error {
		row := event{a.tenant, id, meter, n, a.period, a.actor, m.Now().UTC()}.row()
		made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
		if made.Error == nil && made.RowsAffected > 0 {
			m.Store.AfterCommit(ctx, func() { left -= n; m.fly(a, -n) })
		}
		return made.Error
	}
	done = func() {
		m.fly(a, -left)
		if err := m.giveBack(context.WithoutCancel(ctx), a, left); err != nil {
			m.Logger.Warn("units not given back; the next rebuild will", "error", err)
		}
	}
	return book, done, nil
}

// GiveBack returns booked units that were not used after all, in the caller's
// transaction, once for each event id. They go back to the period in which they
// were booked.
func (m *Meter) GiveBack(ctx context.Context, meter string, units int64, booked time.Time, id string) error {
	if units <= 0 {
		return nil
	}
	scope, _ := domain.ScopeOf(ctx)
	period := booked.UTC().Format("2006-01")
	row := event{scope.Tenant, id, meter, -units, period, scope.Actor.ID, m.Now().UTC()}.row()
	made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if made.Error != nil || made.RowsAffected == 0 {
		return made.Error
	}
	m.Store.AfterCommit(ctx, func() {
		if err := m.Counters.GiveBack(context.WithoutCancel(ctx), scope.Tenant, meter, period, "", units); err != nil {
			m.Logger.Warn("units not given back; the next rebuild will", "error", err)
		}
	})
	return nil
}
