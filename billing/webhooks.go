package billing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// What Stripe tells us arrives twice, late, in any order, or never. So an event
// is a hint and nothing more:
//
//	webhook ──verified──▶ inbox row + job (one transaction, then 200)
//	                            │
//	      ┌─────────────────────▼──────────────────────────┐
//	      │ read the generation and the events that wait   │
//	      │ read at Stripe what can have changed           │
//	      │ write it, if the generation is still the same  │──no──▶ again
//	      │ and the events are done, in one transaction    │
//	      └────────────────────────────────────────────────┘
//
// The generation puts the writers of one customer in series without a lock that
// somebody could die with: what is written was read after the last write, so
// that the state only moves forward, whatever order events came in. What was
// never told is found once a day (Reconcile).
//
// A customer of ten years has hundreds of invoices, and nearly none can change
// any more. So what is read, of the filters that Stripe has (created, by id), is
//
//   - the subscriptions made since the oldest that lives: one that has ended
//     stays ended;
//   - the invoices and charges made since the newest invoice that we know, and a
//     day before it;
//   - of the older invoices, each one that is neither paid nor void, and each
//     that an event names: a refund, a dispute and a credit note name theirs. What
//     is given back does not change a paid invoice, but its charge;
//   - the disputes that are not closed.
//
// The newest is counted in Stripe's time, not in ours, and nothing that is made
// after a reading can be older than what that reading saw. What this would miss is
// a change of an old paid invoice whose event never came. Reconciliation takes
// that event from Stripe's list, where it stays for 30 days, and it reads a
// customer whole when that is due: a day after there was something new, then
// ever less often, and at the latest after 30 days (wholeAfter).

// stripeEvent is a row of the inbox.
type stripeEvent struct {
	ID         string     `json:"id" gorm:"primaryKey"`
	Type       string     `json:"type"`
	Customer   string     `json:"customer"`
	Object     string     `json:"object"`
	Invoice    string     `json:"-"`
	Created    time.Time  `json:"created"`
	Status     string     `json:"status" enum:"received,done,ignored"`
	Note       string     `json:"note"`
	Attempts   int64      `json:"attempts"`
	ReceivedAt time.Time  `json:"received_at"`
	DoneAt     *time.Time `json:"done_at" nullable:"true"`
}

func (stripeEvent) TableName() string { return "stripe_events" }

// SyncJob reads one customer at Stripe.
type SyncJob struct{ Customer string }

// Kind is the queue's.
func (SyncJob) Kind() string { return "billing.sync" }

// Outward keeps it waiting in quarantine: it reports usage, pays back what was paid
// twice and ends what was bought twice, by what the restored system knows.
func (SyncJob) Outward() {}

// ReconcileJob looks for what we were never told.
type ReconcileJob struct{}

// Kind is the queue's.
func (ReconcileJob) Kind() string { return "billing.reconcile" }

// Outward keeps it waiting in quarantine, as each sync.
func (ReconcileJob) Outward() {}

// WebhookRequest is what comes with an event's body.
type WebhookRequest struct {
	Signature string `header:"Stripe-Signature"`
}

// StoredEvent answers a webhook.
type StoredEvent struct {
	Received bool `json:"received"`
}

// maxEvent bounds an event; Stripe's are some kilobytes.
const maxEvent = 1 << 20

// Webhook takes an event in: 200 once it is stored.
func (s *Sales) Webhook(ctx context.Context, in WebhookRequest, body io.Reader) (StoredEvent, error) {
	raw, err := io.ReadAll(io.LimitReader(body, maxEvent+1))
	if err != nil {
		return StoredEvent{}, err
	}
	if s.Stripe == nil || len(raw) > maxEvent {
		return StoredEvent{}, domain.E(domain.Malformed, "bad_signature", "This is not an event of our payment service.")
	}
	ev, err := s.verifier.Verify(raw, in.Signature)
	if err != nil {
		return StoredEvent{}, domain.E(domain.Malformed, "bad_signature", "This is not an event of our payment service.").Because(err)
	}
	return StoredEvent{true}, s.receive(ctx, []stripe.Event{ev})
}

// receive stores events, each once, and sets to work whoever they concern. Whose
// a dispute or a refund is, Stripe is asked: where it does not answer, neither
// do we, and it sends the event again.
func (s *Sales) receive(ctx context.Context, events []stripe.Event) (err error) {
	for i, ev := range events {
		if ev.Customer == "" && ev.Charge != "" {
			if events[i].Customer, events[i].Invoice, err = s.Stripe.Charged(ctx, ev.Charge); err != nil && !stripe.IsMissing(err) {
				return err
			}
		}
	}
	return s.Store.Tx(domain.System(ctx, "stripe events"), func(ctx context.Context) error {
		for _, ev := range events {
			row := stripeEvent{ID: ev.ID, Type: ev.Type, Customer: ev.Customer, Object: ev.Object, Invoice: ev.Invoice, Created: ev.Created, Status: "received", ReceivedAt: s.Now().UTC()}
			if ev.Customer == "" {
				row.Status, row.Note = "ignored", "it concerns no customer"
			}
			made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
			if made.Error != nil {
				return made.Error
			}
			if made.RowsAffected == 0 || ev.Customer == "" {
				continue
			}
			if err := s.Queue.Enqueue(ctx, SyncJob{ev.Customer}, domain.JobOptions{Priority: 1}); err != nil {
				return err
			}
		}
		return nil
	})
}

// RunSync works a SyncJob: where another has done the customer's events
// already, nothing is read.
func (s *Sales) RunSync(ctx context.Context, job SyncJob) error {
	if err := s.sync(ctx, job.Customer, reading{ifWaiting: true}); err != nil {
		return err
	}
	return s.billCustomer(ctx, job.Customer)
}

// billCustomer brings usage onto the invoice that Stripe has just begun to make.
func (s *Sales) billCustomer(ctx context.Context, customer string) error {
	var row billingCustomer
	err := s.Store.Read(domain.System(ctx, "report usage"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("customer = ?", customer).Limit(1).Find(&row).Error
	})
	if err != nil || row.TenantID == "" {
		return err
	}
	return s.Bill(ctx, row.TenantID)
}

// Sync makes what we know of a customer what Stripe knows now. The caller names
// invoices whose payments it has changed, however old they are.
func (s *Sales) Sync(ctx context.Context, customer string, invoices ...string) error {
	return s.sync(ctx, customer, reading{invoices: invoices})
}

// reading is what a sync reads beside what can have changed by itself.
type reading struct {
	ifWaiting bool     // nothing, where no event waits
	whole     bool     // everything
	invoices  []string // these
}

func (s *Sales) sync(ctx context.Context, customer string, how reading) error {
	if err := s.configured(); err != nil {
		return err
	}
	ctx = domain.System(ctx, "stripe sync")
	for range 20 { // each further round is one that another writer has won
		again, err := s.syncOnce(ctx, customer, &how)
		if err != nil {
			s.failed(ctx, customer, err)
			return err
		}
		if !again {
			return nil
		}
	}
	return domain.E(domain.Unavailable, "dependency_unavailable", "Too much changes at once; please try again.").After(time.Second)
}

// failed leaves the events waiting, with the reason.
func (s *Sales) failed(ctx context.Context, customer string, cause error) {
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		_, err := s.Store.Exec(ctx, "UPDATE stripe_events SET attempts = attempts + 1, note = @note WHERE customer = @customer AND status = 'received'",
			map[string]any{"customer": customer, "note": domain.CodeOf(cause)})
		return err
	})
	if err != nil {
		s.Logger.Error("a failed sync is not written down", "customer", customer, "error", err)
	}
}

func (s *Sales) syncOnce(ctx context.Context, customer string, how *reading) (again bool, err error) {
	var row billingCustomer
	var known knowledge
	var events []string
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		var waiting []stripeEvent
		if err := s.Store.For(ctx).Select("id", "type", "invoice").Where("customer = ? AND status = ?", customer, "received").Find(&waiting).Error; err != nil {
			return err
		}
		if how.ifWaiting && len(waiting) == 0 {
			return nil
		}
		named := slices.Clone(how.invoices)
		events = nil
		for _, e := range waiting {
			events = append(events, e.ID)
			if e.Invoice != "" {
				named = append(named, e.Invoice)
			} else if strings.HasPrefix(e.Type, "charge.") || strings.HasPrefix(e.Type, "refund.") {
				how.whole = true // of a payment, and it does not say of which
			}
		}
		if err := s.Store.For(ctx).Where("customer = ?", customer).Limit(1).Find(&row).Error; err != nil || row.TenantID == "" {
			return err
		}
		known, err = s.known(ctx, row.TenantID, named)
		return err
	})
	if err != nil || how.ifWaiting && len(events) == 0 {
		return false, err
	}
	if row.TenantID == "" {
		s.Logger.Warn("events of a customer that no tenant has", "customer", customer, "events", len(events))
		return false, s.Store.Tx(ctx, func(ctx context.Context) error { return s.done(ctx, events, "ignored", "no tenant has this customer") })
	}
	var since stripe.Since
	if !how.whole && row.WholeDue != nil {
		since = known.since()
	}
	now, err := s.Stripe.Read(ctx, customer, since)
	if err == nil && !since.Whole() && boughtTwice(now) { // what is refunded may be older
		now, err = s.Stripe.Read(ctx, customer, stripe.Since{})
	}
	if err != nil {
		return false, err
	}
	if now.Tenant != "" && now.Tenant != row.TenantID {
		s.Logger.Error("a customer's metadata names another tenant; ours is believed", "customer", customer)
	}
	var of []string
	for _, x := range now.Subscriptions {
		of = append(of, x.Price, x.NextPrice)
		for _, m := range x.Metered {
			of = append(of, m.Price)
		}
	}
	prices, err := s.priceList(ctx, of...)
	if err != nil {
		return false, err
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		// First of all the turn: writers of one customer wait here for each other.
		won, err := s.Store.Exec(ctx, `UPDATE billing_customers SET generation = generation + 1, currency = @currency, card_brand = @brand, card_last4 = @last4, synced_at = @now, deleted = @deleted, whole_due = @due
			WHERE tenant_id = @owner AND customer = @customer AND generation = @generation`,
			map[string]any{"owner": row.TenantID, "customer": customer, "generation": row.Generation, "currency": now.Currency, "brand": now.CardBrand, "last4": now.CardLast4, "now": s.Now().UTC(), "deleted": now.Deleted,
				"due": known.due(row.WholeDue, now, s.Now()).UTC()})
		if again = won == 0; err != nil || again {
			return err
		}
		if err := s.write(ctx, row.TenantID, row.Generation+1, now, prices); err != nil {
			return err
		}
		s.Plans.changed(ctx, row.TenantID)
		return s.done(ctx, events, "done", "")
	})
	if err != nil || again {
		return again, err
	}
	how.ifWaiting = false // what is done to it now is read in any case
	if again, err := s.oneSubscription(ctx, row.TenantID, now); err != nil || again {
		return again, err
	}
	return s.goOn(ctx, row.TenantID, now)
}

// knowledge is what we have of a customer before it is read, as far as it says
// what to read.
type knowledge struct {
	subscriptions []Subscription
	invoices      []Invoice // the newest, those that can still change by themselves, and those that were named
	disputes      []string  // that are not closed
}

func (s *Sales) known(ctx context.Context, tenant string, named []string) (k knowledge, err error) {
	const open = "status NOT IN ('paid', 'void')"
	of := map[string]any{"tenant": tenant, "named": append(named, "")}
	var disputes []Dispute
	err = errors.Join(s.Store.For(ctx).Select("id", "status", "created").Where("tenant_id = ?", tenant).Find(&k.subscriptions).Error,
		s.Store.For(ctx).Select("id", "status", "created").Where("tenant_id = @tenant AND ("+open+" OR id IN @named OR created = (SELECT max(created) FROM invoices WHERE tenant_id = @tenant))", of).Find(&k.invoices).Error,
		s.Store.For(ctx).Select("id").Where("tenant_id = ? AND status NOT IN ?", tenant, []string{"won", "lost", "warning_closed"}).Find(&disputes).Error)
	for _, d := range disputes {
		k.disputes = append(k.disputes, d.ID)
	}
	return k, err
}

// newest is when the newest invoice was made.
func (k knowledge) newest() (t time.Time) {
	for _, i := range k.invoices {
		if i.Created.After(t) {
			t = i.Created
		}
	}
	return t
}

const (
	overlap  = 24 * time.Hour // how much of what is known is read again
	oneByOne = 20             // so many old invoices are read each by itself; a customer that has more is read whole
)

// since says what need not be read again. An invoice that is not known is newer
// than those that are.
func (k knowledge) since() stripe.Since {
	if len(k.invoices) == 0 || len(k.subscriptions) == 0 {
		return stripe.Since{}
	}
	out := stripe.Since{Invoices: k.newest().Add(-overlap), Disputes: k.disputes}
	for _, i := range k.invoices {
		if i.Created.Before(out.Invoices) {
			out.Also = append(out.Also, i.ID)
		}
	}
	if len(out.Also) > oneByOne || len(out.Disputes) > oneByOne {
		return stripe.Since{}
	}
	for _, sub := range k.subscriptions { // the newest at least
		if sub.Created.After(out.Subscriptions) {
			out.Subscriptions = sub.Created
		}
	}
	for _, sub := range k.subscriptions {
		if live(sub.Status) && sub.Created.Before(out.Subscriptions) {
			out.Subscriptions = sub.Created
		}
	}
	out.Subscriptions = out.Subscriptions.Add(-overlap)
	return out
}

// due is when a customer is next to be read whole, after this reading: a day
// after something new, or after a quarter of the time that it has been quiet.
func (k knowledge) due(before *time.Time, now stripe.Customer, at time.Time) time.Time {
	newest := k.newest()
	for _, i := range now.Invoices {
		if i.Created.After(newest) {
			newest = i.Created
		}
	}
	if now.Since.Whole() {
		return at.Add(wholeAfter(at.Sub(newest)))
	}
	if soon := at.Add(wholeAfter(0)); newest.After(k.newest()) && soon.Before(*before) {
		return soon
	}
	return *before
}

func wholeAfter(quiet time.Duration) time.Duration {
	return min(max(quiet/4, 24*time.Hour), 30*24*time.Hour)
}

func (s *Sales) done(ctx context.Context, events []string, status, note string) error {
	if len(events) == 0 {
		return nil
	}
	return s.Store.For(ctx).Model(&stripeEvent{}).Where("id IN ? AND status = ?", events, "received").
		Updates(map[string]any{"status": status, "note": note, "done_at": s.Now().UTC(), "attempts": clause.Expr{SQL: "attempts + 1"}}).Error
}

// write replaces what is known of a tenant by what Stripe says, and puts on the
// record what that changed.
func (s *Sales) write(ctx context.Context, tenant string, generation int64, now stripe.Customer, prices map[string]planPrice) error {
	var before []Subscription
	if err := s.Store.For(ctx).Where("tenant_id = ?", tenant).Find(&before).Error; err != nil {
		return err
	}
	old := map[string]Subscription{}
	for _, b := range before {
		old[b.ID] = b
	}
	owned := store.Owned{TenantID: tenant}
	var subs, ended []Subscription // those that were read, and those that need not be
	for _, x := range now.Subscriptions {
		sub := Subscription{Owned: owned, ID: x.ID, Status: x.Status, Price: x.Price, Item: x.Item, Cadence: x.Interval, Currency: x.Currency, UnitAmount: x.UnitAmount, Quantity: x.Quantity,
			PeriodStart: x.PeriodStart, PeriodEnd: x.PeriodEnd, CancelAt: some(x.CancelAt), CancelAtPeriodEnd: x.CancelAtPeriodEnd, EndedAt: some(x.EndedAt), TrialEnd: some(x.TrialEnd),
			PendingUntil: some(x.PendingUntil), Schedule: x.Schedule, LatestInvoice: x.LatestInvoice, Discount: x.Discount, Created: x.Created, Metered: items{}}
		for _, m := range x.Metered {
			if p, known := prices[m.Price]; known && p.Meter != "" {
				sub.Metered[p.Meter] = item{m.ID, m.Price, m.Amount}
			}
		}
		price, known := prices[x.Price]
		if known {
			sub.Plan, sub.Version = price.Plan, price.Version
		} else { // never a downgrade because of what we do not know
			sub.Plan, sub.Version = old[x.ID].Plan, old[x.ID].Version
			s.Logger.Error("a subscription has a price that is not ours; its plan stays", "subscription", x.ID, "price", x.Price, "plan", sub.Plan)
		}
		if next, known := prices[x.NextPrice]; known {
			sub.NextPlan, sub.NextVersion, sub.NextCadence, sub.NextQuantity, sub.NextAt = next.Plan, next.Version, next.Cadence, x.NextQuantity, some(x.NextAt)
		}
		for _, inv := range now.Invoices { // since when money is owed
			if inv.Subscription == x.ID && inv.Status == "open" && inv.Attempts > 0 && x.Status == "past_due" && !inv.FinalizedAt.IsZero() &&
				(sub.PastDueSince == nil || inv.FinalizedAt.Before(*sub.PastDueSince)) {
				sub.PastDueSince = some(inv.FinalizedAt)
			}
		}
		subs = append(subs, sub)
	}
	for _, b := range before {
		if slices.ContainsFunc(subs, func(x Subscription) bool { return x.ID == b.ID }) {
			continue
		}
		if now.Deleted && live(b.Status) { // Stripe has ended it and tells little more of it
			b.Status, b.EndedAt = "canceled", some(s.Now().UTC())
			subs = append(subs, b)
			continue
		}
		ended = append(ended, b)
	}
	invoices := make([]Invoice, 0, len(now.Invoices))
	for _, x := range now.Invoices {
		invoices = append(invoices, Invoice{Owned: owned, ID: x.ID, Number: x.Number, Status: x.Status, Reason: x.Reason, Subscription: x.Subscription, Charge: x.Charge, Currency: x.Currency,
			Subtotal: x.Subtotal, Tax: x.Tax, Total: x.Total, AmountDue: x.AmountDue, AmountPaid: x.AmountPaid, AmountRemaining: x.AmountRemaining, Refunded: x.Refunded, Attempts: x.Attempts,
			PeriodStart: x.PeriodStart, PeriodEnd: x.PeriodEnd, Created: x.Created, FinalizedAt: some(x.FinalizedAt), PaidAt: some(x.PaidAt), NextAttempt: some(x.NextAttempt), HostedURL: x.HostedURL, PDF: x.PDF})
	}
	disputes := make([]Dispute, 0, len(now.Disputes))
	for _, x := range now.Disputes {
		disputes = append(disputes, Dispute{Owned: owned, ID: x.ID, Charge: x.Charge, Status: x.Status, Reason: x.Reason, Currency: x.Currency, Amount: x.Amount, DueBy: some(x.DueBy), Created: x.Created})
	}
	replace := clause.OnConflict{Columns: []clause.Column{{Name: "tenant_id"}, {Name: "id"}}, UpdateAll: true}
	put := func(rows any, n int) error {
		if n == 0 {
			return nil
		}
		return s.Store.For(ctx).Clauses(replace).Create(rows).Error
	}
	if err := errors.Join(put(&subs, len(subs)), put(&invoices, len(invoices)), put(&disputes, len(disputes))); err != nil {
		return err
	}
	for _, sub := range subs {
		if err := errors.Join(s.record(ctx, tenant, old[sub.ID], sub), s.remember(ctx, tenant, generation, old[sub.ID], sub)); err != nil {
			return err
		}
	}
	if len(now.Gone) > 0 {
		if err := s.Store.For(ctx).Model(&Invoice{}).Where("tenant_id = ? AND id IN ?", tenant, now.Gone).Update("status", "void").Error; err != nil {
			return err
		}
	}
	return s.tell(ctx, tenant, now, old, append(subs, ended...))
}

func some(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// record puts on the tenant's record how a subscription changed.
func (s *Sales) record(ctx context.Context, tenant string, old, now Subscription) error {
	detail := map[string]any{}
	note := func(name string, a, b any) {
		if a != b {
			detail[name] = map[string]any{"from": a, "to": b}
		}
	}
	note("status", old.Status, now.Status)
	note("plan", old.Plan, now.Plan)
	note("version", old.Version, now.Version)
	note("interval", old.Cadence, now.Cadence)
	note("quantity", old.Quantity, now.Quantity)
	note("cancel_at_period_end", old.CancelAtPeriodEnd, now.CancelAtPeriodEnd)
	note("next_plan", old.NextPlan, now.NextPlan)
	if len(detail) == 0 {
		return nil
	}
	return s.Audit.Record(ctx, audit.Entry{Action: "subscription.change", Target: now.ID, Tenant: tenant, Detail: detail})
}

// live says whether a subscription can still give or cost something.
func live(status string) bool { return status != "canceled" && status != "incomplete_expired" }

func inForce(now stripe.Customer) (out []stripe.Subscription) {
	for _, x := range now.Subscriptions {
		if x.Status == "active" || x.Status == "trialing" {
			out = append(out, x)
		}
	}
	return out
}

func boughtTwice(now stripe.Customer) bool { return len(inForce(now)) > 1 }

// oneSubscription ends what two tabs have bought twice: the older stays, what
// was paid for the newer is given back.
func (s *Sales) oneSubscription(ctx context.Context, tenant string, now stripe.Customer) (again bool, err error) {
	if !boughtTwice(now) {
		return false, nil
	}
	paid := inForce(now)
	slices.SortFunc(paid, func(a, b stripe.Subscription) int { return a.Created.Compare(b.Created) })
	for _, x := range paid[1:] {
		s.Logger.Error("a tenant has bought twice; the newer subscription ends and is refunded", "tenant", tenant, "subscription", x.ID)
		for _, inv := range now.Invoices {
			if inv.Subscription == x.ID && inv.Charge != "" && inv.AmountPaid > inv.Refunded {
				var refused *stripe.Refused
				if err := s.Stripe.Refund(ctx, fmt.Sprintf("%s:twice:%s", tenant, inv.ID), inv.Charge, inv.AmountPaid-inv.Refunded); err != nil && !errors.As(err, &refused) {
					return false, err
				}
			}
		}
		if err := s.Stripe.Cancel(ctx, x.ID); err != nil {
			return false, err
		}
	}
	return true, nil
}

// goOn ends the pause after a trial that had no card, as soon as there is one.
// The key is the card's, and an invoice that waits bars another: what the card
// does not pay is not tried again and again.
func (s *Sales) goOn(ctx context.Context, tenant string, now stripe.Customer) (again bool, err error) {
	for _, x := range now.Subscriptions {
		waits := slices.ContainsFunc(now.Invoices, func(i stripe.Invoice) bool { return i.Subscription == x.ID && i.Status == "open" })
		if x.Status != "paused" || now.CardLast4 == "" || waits {
			continue
		}
		paused, err := s.Stripe.Resume(ctx, fmt.Sprintf("%s:goon:%s:%s:%s", tenant, x.ID, now.CardBrand, now.CardLast4), x.ID)
		var refused *stripe.Refused
		if err != nil && !errors.As(err, &refused) {
			return false, err
		}
		if !paused {
			return true, nil
		}
	}
	return false, nil
}

// keep is how far back reconciliation reads events: as long as Stripe tries.
const keep = 3 * 24 * time.Hour

// Reconcile takes in the events of the last three days that never arrived,
// reads every customer anew that has something running, and whole those for
// which that is due, what they had may have ended long ago. It heals whatever
// was lost, and changes nothing where nothing was.
func (s *Sales) Reconcile(ctx context.Context) error {
	if err := s.configured(); err != nil {
		return err
	}
	events, err := s.Stripe.Events(ctx, s.Now().Add(-keep))
	if err != nil {
		return err
	}
	if err := s.receive(ctx, events); err != nil {
		return err
	}
	var rows []billingCustomer
	err = s.Store.Read(domain.System(ctx, "billing reconciliation"), func(ctx context.Context) error {
		return s.Store.SQL(ctx, `SELECT c.* FROM billing_customers c WHERE c.customer IS NOT NULL AND (c.whole_due IS NULL OR c.whole_due <= @now
			OR EXISTS (SELECT 1 FROM subscriptions s WHERE s.tenant_id = c.tenant_id AND s.status NOT IN ('canceled', 'incomplete_expired'))
			OR EXISTS (SELECT 1 FROM stripe_events e WHERE e.customer = c.customer AND e.status = 'received'))`, map[string]any{"now": s.Now().UTC()}).Scan(&rows).Error
	})
	if err != nil {
		return err
	}
	var failures []error
	for _, row := range rows {
		if err := s.sync(ctx, *row.Customer, reading{whole: row.WholeDue == nil || !row.WholeDue.After(s.Now())}); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", *row.Customer, err))
		}
	}
	return errors.Join(failures...)
}

// RunReconcile works a ReconcileJob.
func (s *Sales) RunReconcile(ctx context.Context, _ ReconcileJob) error { return s.Reconcile(ctx) }

// InboxRequest filters the inbox.
type InboxRequest struct {
	domain.PageRequest
	Status   string `query:"status" enum:"received,done,ignored"`
	Type     string `query:"type" maxLength:"64"`
	Customer string `query:"customer" maxLength:"64"`
}

// Inbox lists the events that came, newest first, for operators.
func (s *Sales) Inbox(ctx context.Context, in InboxRequest) (page domain.Page[stripeEvent], err error) {
	err = s.Store.Read(domain.System(ctx, "the inbox of events"), func(ctx context.Context) error {
		q := s.Store.For(ctx)
		for column, want := range map[string]string{"status": in.Status, "type": in.Type, "customer": in.Customer} {
			if want != "" {
				q = q.Where(clause.Eq{Column: column, Value: want})
			}
		}
		page, err = store.Newest(q, in.PageRequest, func(e stripeEvent) string { return e.ID })
		return err
	})
	return page, err
}

// Replay has an event worked again. Since it is a hint, that can do no harm.
func (s *Sales) Replay(ctx context.Context, id string) error {
	return s.Store.Tx(domain.System(ctx, "replay of an event"), func(ctx context.Context) error {
		var row stripeEvent
		if err := s.Store.For(ctx).Where("id = ?", id).Take(&row).Error; err != nil {
			return err
		}
		if row.Customer == "" {
			return domain.E(domain.Conflict, "conflict", "This event concerns no customer.")
		}
		if err := s.Store.For(ctx).Model(&stripeEvent{}).Where("id = ?", id).Updates(map[string]any{"status": "received", "note": "", "done_at": nil}).Error; err != nil {
			return err
		}
		return s.Queue.Enqueue(ctx, SyncJob{row.Customer}, domain.JobOptions{Priority: 1})
	})
}
