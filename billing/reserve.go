package billing

import (
	"context"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Reserve admits units of a meter for a job, from the same purses as calls, or
// refuses what goes beyond the period's quota. A job has no rate. book writes
// what was used to the ledger in the caller's transaction, once for each event
// id; done, which must be called, gives back what was not booked.
func (m *Meter) Reserve(ctx context.Context, meter string, units int64) (book func(ctx context.Context, units int64, id string) error, done func(), err error) {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return nil, nil, err
	}
	scope, _ := domain.ScopeOf(ctx)
	a := &Admission{tenant: scope.Tenant, actor: scope.Actor.ID, draws: []Draw{{meter, units, plan.Quotas[meter]}}}
	a.period, a.Quota.ResetsAt = m.period()
	v, err := m.decide(ctx, Ask{Tenant: a.tenant, Class: "jobs", RateLimit: 1_000_000, Window: time.Minute, Period: a.period, Draws: a.draws}, a)
	switch {
	case err != nil:
		return nil, nil, err
	case v.Refused == "quota":
		return nil, nil, domain.E(domain.TooMany, "quota_exceeded", "The quota of %s for this period is used up.", meter).After(a.Quota.ResetsAt.Sub(m.Now()))
	case !v.OK:
		return nil, nil, domain.E(domain.Unavailable, "dependency_unavailable", "The counters are being rebuilt.").After(time.Second)
	}
	a.drawn, a.open = v.Drawn, true
	book = func(ctx context.Context, n int64, id string) error {
		now := m.Now().UTC()
		row := usageEvent{store.Owned{TenantID: a.tenant}, id, meter, n, a.period, now.Format("2006-01-02T15"), a.actor, now, a.drawn[0].Number}
		made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
		if made.Error == nil && made.RowsAffected > 0 {
			m.Store.AfterCommit(ctx, func() { a.draws[0].Units -= n })
		}
		return made.Error
	}
	return book, func() { m.Release(ctx, a) }, nil
}

// GiveBack returns booked units that were not used after all, in the caller's
// transaction, once for each event id. They go back to the period in which they
// were booked: less is handed out of its quota from then on.
func (m *Meter) GiveBack(ctx context.Context, meter string, units int64, booked time.Time, id string) error {
	if units <= 0 {
		return nil
	}
	scope, _ := domain.ScopeOf(ctx)
	now, period := m.Now().UTC(), booked.UTC().Format("2006-01")
	row := usageEvent{store.Owned{TenantID: scope.Tenant}, id, meter, -units, period, now.Format("2006-01-02T15"), scope.Actor.ID, now, 0}
	made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if made.Error != nil || made.RowsAffected == 0 {
		return made.Error
	}
	_, err := m.Store.Exec(ctx, `UPDATE quota_grants SET granted = granted - @units WHERE tenant_id = @tenant AND meter = @meter AND period = @period`,
		map[string]any{"units": units, "meter": meter, "period": period})
	return err
}
