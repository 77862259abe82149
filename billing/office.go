package billing

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Office is what administrators of the platform do about plans and money. Each
// thing is on the record of the tenant that it touches, with its reason.
type Office struct {
	*Sales
	Meter *Meter
}

// author is the administrator who asks.
func author(ctx context.Context) string {
	scope, _ := domain.ScopeOf(ctx)
	return scope.Actor.Kind + ":" + scope.Actor.ID
}

// in acts in the tenant, as the administrator; a tenant that is not there is
// not found.
func (o *Office) in(ctx context.Context, tenant string) (context.Context, error) {
	var known int64
	err := o.Store.Read(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		return o.Store.SQL(ctx, "SELECT count(*) FROM tenants WHERE id = @id", map[string]any{"id": tenant}).Scan(&known).Error
	})
	if err == nil && known == 0 {
		err = domain.ErrNotFound()
	}
	scope, _ := domain.ScopeOf(ctx)
	scope.Tenant = tenant
	return domain.WithScope(ctx, scope), err
}

// note puts on the administrator's own record what touches no tenant.
func (o *Office) note(ctx context.Context, action, target string, detail map[string]any) error {
	own := domain.TenantOf(ctx)
	return o.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		return o.Audit.Record(ctx, audit.Entry{Action: action, Target: target, Tenant: own, Detail: detail})
	})
}

// PlanList is every plan, archived ones and drafts included.
func (o *Office) PlanList(ctx context.Context, _ struct{}) (out domain.Page[PlanState], err error) {
	if err := o.note(ctx, "admin.read_plans", "", nil); err != nil {
		return out, err
	}
	out.Data, err = o.Plans.Catalogue(domain.System(ctx, "platform administration"))
	return out, err
}

// NamedPlan names a plan.
type NamedPlan struct {
	Name string `path:"name" json:"-" pattern:"^[a-z][a-z0-9_-]{1,31}$"`
}

// DraftRequest is a plan that is being written.
type DraftRequest struct {
	NamedPlan
	Title    Titles           `json:"title"`
	Quotas   map[string]int64 `json:"quotas"`
	Rates    map[string]int64 `json:"rates"`
	Levels   map[string]int64 `json:"levels"`
	Features []string         `json:"features" nullable:"false"`
	Prices   []PlanPrice      `json:"prices,omitempty"`
	Overage  []PlanOverage    `json:"overage,omitempty"`
}

// SaveDraft keeps it.
func (o *Office) SaveDraft(ctx context.Context, in DraftRequest) (PlanState, error) {
	p := Plan{Name: in.Name, Title: in.Title, Quotas: in.Quotas, Rates: in.Rates, Levels: in.Levels, Features: in.Features, Prices: in.Prices, Overage: in.Overage}
	return o.onPlan(ctx, "plan.draft", in.Name, func(ctx context.Context) error { return o.Plans.SaveDraft(ctx, p, author(ctx)) })
}

// DropDraft forgets it.
func (o *Office) DropDraft(ctx context.Context, in NamedPlan) error {
	return o.recorded(ctx, "plan.drop_draft", in.Name, func(ctx context.Context) error {
		gone := o.Store.For(ctx).Where("name = ?", in.Name).Delete(&planDraft{})
		if gone.Error == nil && gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		return gone.Error
	})
}

// PublishPlan makes the draft the version that new customers get, and Stripe's
// prices follow.
func (o *Office) PublishPlan(ctx context.Context, in NamedPlan) (PlanState, error) {
	return o.onPlan(ctx, "plan.publish", in.Name, func(ctx context.Context) error {
		if _, err := o.Plans.PublishDraft(ctx, in.Name, author(ctx)); err != nil {
			return err
		}
		return o.follow(ctx)
	})
}

// ArchivePlan ends the sale of a plan; who has it keeps it.
func (o *Office) ArchivePlan(ctx context.Context, in NamedPlan) (PlanState, error) {
	return o.onPlan(ctx, "plan.archive", in.Name, func(ctx context.Context) error {
		if err := o.Plans.Archive(ctx, in.Name); err != nil {
			return err
		}
		return o.follow(ctx)
	})
}

// CatalogueJob makes Stripe's prices equal to the published plans.
type CatalogueJob struct{}

// Kind is the queue's.
func (CatalogueJob) Kind() string { return "billing.catalogue" }

// Outward keeps it waiting in quarantine: a restored catalogue may be an older one.
func (CatalogueJob) Outward() {}

// RunCatalogue works a CatalogueJob.
func (s *Sales) RunCatalogue(ctx context.Context, _ CatalogueJob) error {
	_, err := s.SyncCatalogue(ctx, false)
	return err
}

func (o *Office) follow(ctx context.Context) error {
	if o.Stripe == nil {
		return nil
	}
	return o.Queue.Enqueue(ctx, CatalogueJob{}, domain.JobOptions{Priority: 1, At: o.Now().Add(2 * fresh)}) // the public list is a second old
}

// recorded does something to a plan and puts it on the administrator's record.
func (o *Office) recorded(ctx context.Context, action, name string, do func(ctx context.Context) error) error {
	own := domain.TenantOf(ctx)
	return o.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		if err := do(ctx); err != nil {
			return err
		}
		return o.Audit.Record(ctx, audit.Entry{Action: action, Target: name, Tenant: own})
	})
}

// onPlan does it, and answers what the plan is then.
func (o *Office) onPlan(ctx context.Context, action, name string, do func(ctx context.Context) error) (PlanState, error) {
	if err := o.recorded(ctx, action, name, do); err != nil {
		return PlanState{}, err
	}
	list, err := o.Plans.Catalogue(domain.System(ctx, "platform administration"))
	if err != nil {
		return PlanState{}, err
	}
	at := slices.IndexFunc(list, func(p PlanState) bool { return p.Name == name })
	if at < 0 {
		return PlanState{}, domain.ErrNotFound()
	}
	return list[at], nil
}

// CatalogueRequest asks to bring Stripe's catalogue up to ours.
type CatalogueRequest struct {
	DryRun bool `json:"dry_run,omitempty" doc:"only say what would be done"`
}

// CatalogueResponse is what was done, one line a change.
type CatalogueResponse struct {
	Changes []string `json:"changes" nullable:"false"`
}

// SyncPlans makes Stripe's products and prices equal to the published plans.
func (o *Office) SyncPlans(ctx context.Context, in CatalogueRequest) (out CatalogueResponse, err error) {
	if err := o.note(ctx, "plan.sync", "", map[string]any{"dry_run": in.DryRun}); err != nil {
		return out, err
	}
	out.Changes, err = o.SyncCatalogue(ctx, in.DryRun)
	if out.Changes == nil {
		out.Changes = []string{}
	}
	return out, err
}

// NamedTenant names a tenant.
type NamedTenant struct {
	ID string `path:"id" json:"-"`
}

// Account is everything about a tenant and money.
type Account struct {
	SubscriptionResponse
	Customer  string       `json:"customer" doc:"Stripe's; empty where it never bought"`
	Overrides []Override   `json:"overrides" nullable:"false"`
	Disputes  []Dispute    `json:"disputes" nullable:"false"`
	Credits   []Credit     `json:"credits" nullable:"false"`
	Usage     []MeterUsage `json:"usage" nullable:"false"`
}

// Credit is money given towards invoices.
type Credit struct {
	store.Owned
	ID       string     `json:"id" gorm:"primaryKey"`
	Amount   int64      `json:"amount" doc:"minor units"`
	Currency string     `json:"currency"`
	Author   string     `json:"author"`
	Reason   string     `json:"reason"`
	GivenAt  *time.Time `json:"given_at" nullable:"true"`
	Created  time.Time  `json:"created_at"`
}

// TableName is GORM's.
func (Credit) TableName() string { return "billing_credits" }

// Account reads it.
func (o *Office) Account(ctx context.Context, in NamedTenant) (out Account, err error) {
	if ctx, err = o.in(ctx, in.ID); err != nil {
		return out, err
	}
	err = o.Store.Tx(ctx, func(ctx context.Context) error {
		db := func() error {
			return errors.Join(o.Store.For(ctx).Order("kind, name").Find(&out.Overrides).Error, o.Store.For(ctx).Order("created").Find(&out.Disputes).Error,
				o.Store.For(ctx).Order("created").Find(&out.Credits).Error)
		}
		return errors.Join(db(), o.Audit.Record(ctx, audit.Entry{Action: "admin.read_account", Target: in.ID}))
	})
	if err != nil {
		return out, err
	}
	row, err := o.customer(ctx)
	if err != nil {
		return out, err
	}
	out.Customer = row.id()
	if out.SubscriptionResponse, err = o.Subscription(ctx, struct{}{}); err != nil {
		return out, err
	}
	used, err := o.Meter.Usage(ctx, UsageRequest{})
	out.Usage = used.Data
	return out, err
}

// GrantRequest puts a tenant on a plan, whatever it pays for; free takes that
// back.
type GrantRequest struct {
	NamedTenant
	Plan   string `json:"plan" minLength:"1" maxLength:"64"`
	Reason string `json:"reason" minLength:"3" maxLength:"500"`
}

// Grant does it.
func (o *Office) Grant(ctx context.Context, in GrantRequest) (Account, error) {
	to, err := o.in(ctx, in.ID)
	if err != nil {
		return Account{}, err
	}
	if err := o.Plans.SetPlan(domain.System(to, "platform administration"), in.ID, in.Plan, author(ctx), in.Reason); err != nil {
		return Account{}, err
	}
	return o.Account(ctx, in.NamedTenant)
}

// OverrideRequest gives a tenant something beside its plan.
type OverrideRequest struct {
	NamedTenant
	Kind      string     `json:"kind" enum:"quota,rate,level,feature"`
	Name      string     `json:"name" minLength:"1" maxLength:"64"`
	Value     int64      `json:"value" minimum:"-1" doc:"-1 is unlimited; of a feature 0 takes it away"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Reason    string     `json:"reason" minLength:"3" maxLength:"500"`
}

// GiveOverride does it.
func (o *Office) GiveOverride(ctx context.Context, in OverrideRequest) (Account, error) {
	to, err := o.in(ctx, in.ID)
	if err != nil {
		return Account{}, err
	}
	if in.ExpiresAt != nil && !in.ExpiresAt.After(o.Now()) {
		return Account{}, domain.InvalidField("expires_at", "in_the_past", "This time is in the past.")
	}
	row := Override{Owned: store.Owned{TenantID: in.ID}, Kind: in.Kind, Name: in.Name, Value: in.Value, Author: author(ctx), Reason: in.Reason, ExpiresAt: in.ExpiresAt}
	if err := o.Plans.Override(domain.System(to, "platform administration"), row); err != nil {
		return Account{}, err
	}
	return o.Account(ctx, in.NamedTenant)
}

// NamedOverride names one.
type NamedOverride struct {
	NamedTenant
	Kind string `path:"kind" json:"-"`
	Name string `path:"name" json:"-"`
}

// DropOverride takes it away: the plan alone counts again.
func (o *Office) DropOverride(ctx context.Context, in NamedOverride) error {
	ctx, err := o.in(ctx, in.ID)
	if err != nil {
		return err
	}
	return o.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		gone := o.Store.For(ctx).Where("tenant_id = ? AND kind = ? AND name = ?", in.ID, in.Kind, in.Name).Delete(&Override{})
		if gone.Error != nil || gone.RowsAffected == 0 {
			return errors.Join(gone.Error, domain.ErrNotFound())
		}
		o.Plans.changed(ctx, in.ID)
		return o.Audit.Record(ctx, audit.Entry{Action: "plan.override_end", Target: in.ID, Tenant: in.ID, Detail: map[string]any{"kind": in.Kind, "name": in.Name}})
	})
}

// RefundRequest gives back part of an invoice.
type RefundRequest struct {
	NamedTenant
	Invoice string `json:"invoice" minLength:"1" maxLength:"64"`
	Amount  int64  `json:"amount" minimum:"1" doc:"minor units; at most what is left"`
	Reason  string `json:"reason" minLength:"3" maxLength:"500"`
}

// GiveBack does it.
func (o *Office) GiveBack(ctx context.Context, in RefundRequest) (out Invoice, err error) {
	if ctx, err = o.in(ctx, in.ID); err != nil {
		return out, err
	}
	if err := o.Refund(ctx, in.Invoice, in.Amount, author(ctx), in.Reason); err != nil {
		return out, err
	}
	err = o.Store.Read(ctx, func(ctx context.Context) error { return o.Store.For(ctx).Where("id = ?", in.Invoice).Take(&out).Error })
	return out, err
}

// TenantPage asks for a page of a tenant's.
type TenantPage struct {
	NamedTenant
	domain.PageRequest
}

// TenantInvoices lists a tenant's invoices.
func (o *Office) TenantInvoices(ctx context.Context, in TenantPage) (out domain.Page[Invoice], err error) {
	if ctx, err = o.in(ctx, in.ID); err != nil {
		return out, err
	}
	err = o.Store.Tx(ctx, func(ctx context.Context) error {
		return o.Audit.Record(ctx, audit.Entry{Action: "admin.read_invoices", Target: in.ID})
	})
	if err != nil {
		return out, err
	}
	return o.Invoices(ctx, in.PageRequest)
}

// CreditRequest gives a tenant money towards its next invoices.
type CreditRequest struct {
	NamedTenant
	Amount   int64  `json:"amount" minimum:"1" doc:"minor units"`
	Currency string `json:"currency" minLength:"3" maxLength:"3" doc:"ISO 4217, lower case; that of its invoices, where it has any"`
	Reason   string `json:"reason" minLength:"3" maxLength:"500"`
}

// GiveCredit does it. One that was begun and of which nobody knows how it ended
// is finished first: the same credit asked for again is that one.
func (o *Office) GiveCredit(ctx context.Context, in CreditRequest) (c Credit, err error) {
	if err := o.configured(); err != nil {
		return c, err
	}
	if ctx, err = o.in(ctx, in.ID); err != nil {
		return c, err
	}
	row, err := o.open(ctx)
	if err != nil {
		return c, err
	}
	if row.Currency != "" && row.Currency != in.Currency {
		return c, domain.InvalidField("currency", "currency_fixed", "Your invoices are in %s, and that cannot be changed.", row.Currency)
	}
	err = o.Store.Tx(ctx, func(ctx context.Context) error {
		found := o.Store.For(ctx).Where("given_at IS NULL AND amount = ? AND currency = ? AND reason = ?", in.Amount, in.Currency, in.Reason).Limit(1).Find(&c)
		if found.Error != nil || found.RowsAffected > 0 {
			return found.Error
		}
		c = Credit{ID: domain.NewID("crd"), Amount: in.Amount, Currency: in.Currency, Author: author(ctx), Reason: in.Reason, Created: o.Now().UTC()}
		return o.Store.For(ctx).Create(&c).Error
	})
	if err != nil {
		return c, err
	}
	if err := o.Stripe.Credit(ctx, in.ID+":credit:"+c.ID, row.id(), c.Currency, c.Amount, "Credit "+c.ID); err != nil {
		var refused *stripe.Refused
		if errors.As(err, &refused) { // it will not be given
			gone := o.Store.Tx(ctx, func(ctx context.Context) error { return o.Store.For(ctx).Where("id = ?", c.ID).Delete(&Credit{}).Error })
			return c, errors.Join(domain.InvalidField("currency", "refused", "The payment service does not accept this.").Because(err), gone)
		}
		return c, err
	}
	err = o.Store.Tx(ctx, func(ctx context.Context) error {
		now := o.Now().UTC()
		given := o.Store.For(ctx).Model(&Credit{}).Where("id = ? AND given_at IS NULL", c.ID).Update("given_at", now)
		if c.GivenAt = &now; given.Error != nil || given.RowsAffected == 0 {
			return given.Error
		}
		return o.Audit.Record(ctx, audit.Entry{Action: "credit.give", Target: c.ID, Detail: map[string]any{"amount": c.Amount, "currency": c.Currency, "reason": c.Reason}})
	})
	return c, err
}

// Events lists the inbox of Stripe's events.
func (o *Office) Events(ctx context.Context, in InboxRequest) (out domain.Page[stripeEvent], err error) {
	if err := o.note(ctx, "admin.read_events", "", nil); err != nil {
		return out, err
	}
	return o.Inbox(ctx, in)
}

// NamedEvent names an event.
type NamedEvent struct {
	ID string `path:"id" json:"-" maxLength:"64"`
}

// ReplayEvent has one worked again.
func (o *Office) ReplayEvent(ctx context.Context, in NamedEvent) error {
	if err := o.Replay(ctx, in.ID); err != nil {
		return err
	}
	return o.note(ctx, "event.replay", in.ID, nil)
}

// Wrong is a difference, and whose it is.
type Wrong struct {
	TenantID string `json:"tenant_id"`
	Difference
}

// Differences are the sums that the last proof found wrong.
func (o *Office) Differences(ctx context.Context, _ struct{}) (out domain.Page[Wrong], err error) {
	if err := o.note(ctx, "admin.read_differences", "", nil); err != nil {
		return out, err
	}
	var rows []Difference
	err = o.Store.Read(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		return o.Store.For(ctx).Order("tenant_id, period, meter, what").Limit(1000).Find(&rows).Error
	})
	out.Data = make([]Wrong, len(rows))
	for i, d := range rows {
		out.Data[i] = Wrong{d.TenantID, d}
	}
	return out, err
}

// ProveNow proves the sums now.
func (o *Office) ProveNow(ctx context.Context, _ struct{}) (domain.Page[Wrong], error) {
	if err := o.note(ctx, "billing.prove", "", nil); err != nil {
		return domain.Page[Wrong]{}, err
	}
	if err := o.RunProof(ctx, ProofJob{}); err != nil {
		return domain.Page[Wrong]{}, err
	}
	return o.Differences(ctx, struct{}{})
}

// Concerns are what operators must look at: sums that differ, events that wait
// for longer than they should, subscriptions whose price nobody knows, and
// disputes that want an answer.
func (s *Sales) Concerns(ctx context.Context) (map[string]int64, error) {
	var n struct{ Differences, Events, Prices, Disputes int64 }
	err := s.Store.Read(domain.System(ctx, "what operators must look at"), func(ctx context.Context) error {
		return s.Store.SQL(ctx, `SELECT (SELECT count(*) FROM billing_differences) AS differences,
			(SELECT count(*) FROM stripe_events WHERE status = 'received' AND received_at < @late) AS events,
			(SELECT count(*) FROM subscriptions s WHERE s.status NOT IN ('canceled', 'incomplete_expired') AND NOT EXISTS (SELECT 1 FROM plan_prices p WHERE p.id = s.price)) AS prices,
			(SELECT count(*) FROM disputes WHERE status IN ('needs_response', 'warning_needs_response')) AS disputes`, map[string]any{"late": s.Now().Add(-10 * time.Minute).UTC()}).Scan(&n).Error
	})
	return map[string]int64{"billing_differences": n.Differences, "billing_events_wait": n.Events, "billing_unknown_prices": n.Prices, "billing_disputes": n.Disputes}, err
}

var _ = domain.Chinese(map[string]string{
	"This time is in the past.":                 "该时间已经过去。",
	"The payment service does not accept this.": "支付服务不接受此操作。",
})
