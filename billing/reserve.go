package billing

import (
	"context"
	"fmt"
	"strings"
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
	a := &Admission{tenant: scope.Tenant, actor: scope.Actor.ID, draws: []Draw{{meter, units, plan.limit(meter)}}}
	a.period, a.Quota.ResetsAt = plan.Period.ID, plan.Period.End
	v, err := m.decide(ctx, Ask{Tenant: a.tenant, Class: "jobs", RateLimit: 1_000_000, Window: time.Minute, Period: a.period, Draws: a.draws}, a)
	switch {
	case err != nil:
		return nil, nil, err
	case v.Refused == "quota":
		m.Refused(meter, "quota_exceeded")
		return nil, nil, domain.E(domain.TooMany, "quota_exceeded", "The quota of %s for this period is used up.", meter).After(a.Quota.ResetsAt.Sub(m.Now()))
	case !v.OK:
		return nil, nil, domain.E(domain.Unavailable, "dependency_unavailable", "The counters are being rebuilt.").After(time.Second)
	}
	a.drawn, a.open = v.Drawn, true
	book = func(ctx context.Context, n int64, id string) error {
		now := m.Now().UTC()
		row := usageEvent{store.Owned{TenantID: a.tenant}, id, meter, n, a.period, now.Format("2006-01-02T15"), a.actor, now, a.drawn[0].Number}
		made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
		if made.Error != nil || made.RowsAffected == 0 {
			return made.Error
		}
		m.Store.AfterCommit(ctx, func() { a.draws[0].Units -= n })
		return m.account(ctx, map[purseKey]int64{{a.tenant, meter, a.period}: n})
	}
	return book, func() { m.Release(ctx, a) }, nil
}

// GiveBack returns booked units that were not used after all, in the caller's
// transaction, once for each event id: that of the booked event, a slash, and
// what tells this return from others. They go back to the period in which they
// were booked last: less is handed out of its quota from then on.
func (m *Meter) GiveBack(ctx context.Context, meter string, units int64, id string) error {
	if units <= 0 {
		return nil
	}
	scope, _ := domain.ScopeOf(ctx)
	booked, _, _ := strings.Cut(id, "/")
	var period string
	err := m.Store.SQL(ctx, `SELECT period FROM usage_events WHERE tenant_id = @tenant AND meter = @meter AND units > 0 AND (id = @id OR id >= @from AND id < @to)
		ORDER BY occurred_at DESC LIMIT 1`, map[string]any{"meter": meter, "id": booked, "from": booked + "/", "to": booked + "0"}).Scan(&period).Error // '0' follows '/'
	if err != nil {
		return err
	}
	if period == "" {
		return fmt.Errorf("billing: %s gives back what was never booked", id)
	}
	now := m.Now().UTC()
	row := usageEvent{store.Owned{TenantID: scope.Tenant}, id, meter, -units, period, now.Format("2006-01-02T15"), scope.Actor.ID, now, 0}
	made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if made.Error != nil || made.RowsAffected == 0 {
		return made.Error
	}
	_, err = m.Store.Exec(ctx, `UPDATE quota_grants SET granted = granted - @units WHERE tenant_id = @tenant AND meter = @meter AND period = @period`,
		map[string]any{"units": units, "meter": meter, "period": period})
	if err != nil {
		return err
	}
	return m.account(ctx, map[purseKey]int64{{scope.Tenant, meter, period}: -units})
}
