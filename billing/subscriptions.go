package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// SalesConfig of Sales. Stripe is nil where no key is configured: then nothing
// is sold, and free plans and operators' grants work.
type SalesConfig struct {
	Store   *store.Store
	Audit   *audit.Trail
	Queue   domain.Queue
	Plans   *Service
	Stripe  *stripe.Client
	Secrets []string // of the webhook endpoint; two while they are rolled
	Sandbox bool     // Stripe is ours: no money moves
	Portal  string   // where Stripe sends people back to
	Trial   int64    // days without payment at the first purchase
	Tax     bool     // Stripe computes it
	Payer   func(ctx context.Context) (name, email string, err error)
	Payers  func(ctx context.Context, tenant string) ([]Recipient, error) // in a system transaction
	Mail    domain.SendMail
	Records bool // new metered prices count usage records, as accounts made before 2025 can
	Logger  *slog.Logger
	Now     func() time.Time
}

// Sales buys and changes subscriptions, and keeps what Stripe says of them.
type Sales struct {
	SalesConfig
	verifier stripe.Verifier
}

// NewSales calls nobody.
func NewSales(c SalesConfig) *Sales {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Sales{SalesConfig: c}
	if c.Stripe != nil {
		s.verifier = stripe.Verifier{Secrets: c.Secrets, Live: c.Stripe.Live(), Now: func() time.Time { return s.Now() }}
	}
	return s
}

func (s *Sales) configured() error {
	if s.Stripe == nil {
		return domain.E(domain.Unavailable, "provider_not_configured", "Payments are not set up on this server: it has no STRIPE_SECRET_KEY.")
	}
	return nil
}

// billingCustomer is a tenant at Stripe.
type billingCustomer struct {
	store.Owned
	Customer   *string
	Intent     string
	Offers     int64
	Generation int64
	Deleted    bool
	Currency   string
	CardBrand  string
	CardLast4  string
	SyncedAt   *time.Time
	WholeDue   *time.Time // when it is next read whole; nil at the next reading
}

func (b billingCustomer) id() string {
	if b.Customer == nil || b.Deleted {
		return ""
	}
	return *b.Customer
}

func (s *Sales) customer(ctx context.Context) (row billingCustomer, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Limit(1).Find(&row).Error })
	return row, err
}

// open gives the tenant its customer. The intent is written first, so that a
// crash between Stripe's answer and our commit finds the same customer again.
func (s *Sales) open(ctx context.Context) (row billingCustomer, err error) {
	tenant := domain.TenantOf(ctx)
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		fresh := billingCustomer{Intent: domain.NewID("bci")}
		if err := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&fresh).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Take(&row).Error; err != nil || !row.Deleted {
			return err
		}
		// Somebody deleted the customer at Stripe: the next one has an intent of its own.
		row.Deleted, row.Customer, row.WholeDue, row.Intent = false, nil, nil, fresh.Intent
		return s.Store.For(ctx).Model(&billingCustomer{}).Where("deleted").Updates(map[string]any{"deleted": false, "customer": nil, "intent": row.Intent, "currency": "", "whole_due": nil}).Error
	})
	if err != nil || row.Customer != nil {
		return row, err
	}
	id, err := s.Stripe.CreateCustomer(ctx, tenant+":customer:"+row.Intent, tenant)
	if err != nil {
		return row, err
	}
	row.Customer = &id
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Model(&billingCustomer{}).Where("customer IS NULL").Updates(map[string]any{"customer": id}).Error
	})
	if err != nil || s.Payer == nil {
		return row, err
	}
	name, email, err := s.Payer(ctx)
	if err != nil {
		return row, err
	}
	return row, s.Stripe.NameCustomer(ctx, id, name, email)
}

// SubscriptionResponse is what a tenant has, and how it stands.
type SubscriptionResponse struct {
	Plan      string               `json:"plan" doc:"whose limits are in force"`
	Version   int                  `json:"version"`
	Source    string               `json:"source" enum:"free,operator,subscription"`
	ReadOnly  string               `json:"read_only" doc:"why nothing can be run or changed: past_due, unpaid, paused; empty where it can"`
	Available bool                 `json:"available" doc:"whether anything can be bought here"`
	Sandbox   bool                 `json:"sandbox" doc:"true where no money moves"`
	Card      *PaymentCard         `json:"card,omitempty" doc:"that is charged; absent where there is none"`
	Current   *CurrentSubscription `json:"subscription,omitempty" doc:"the one that counts; absent where there never was one"`
	Banners   []Banner             `json:"banners" nullable:"false" doc:"what those who care for the bills should see, most urgent first"`
}

// Banner is something to be shown, with one thing to do about it.
type Banner struct {
	Code    string     `json:"code" enum:"read_only,payment_failed,payment_needed,paused,trial_ends,ends,usage"`
	Action  string     `json:"action" enum:"pay,update_card,undo,upgrade,none"`
	URL     string     `json:"url" doc:"where the payment can be made; empty where there is none"`
	Until   *time.Time `json:"until" nullable:"true" doc:"when it changes by itself"`
	Meter   string     `json:"meter,omitempty" doc:"of usage"`
	Percent int64      `json:"percent,omitempty" doc:"of usage: the share of the quota that is used"`
}

// PaymentCard is the one that is charged.
type PaymentCard struct {
	Brand string `json:"brand"`
	Last4 string `json:"last4"`
}

// CurrentSubscription is the subscription that counts.
type CurrentSubscription struct {
	Status            string         `json:"status" enum:"incomplete,incomplete_expired,trialing,active,past_due,unpaid,paused,canceled"`
	Plan              string         `json:"plan"`
	Interval          string         `json:"interval" enum:"month,year"`
	Quantity          int64          `json:"quantity" doc:"seats"`
	Currency          string         `json:"currency"`
	UnitAmount        int64          `json:"unit_amount" doc:"minor units, for one seat and interval"`
	PeriodStart       time.Time      `json:"current_period_start"`
	PeriodEnd         time.Time      `json:"current_period_end"`
	TrialEnd          *time.Time     `json:"trial_end" nullable:"true"`
	CancelAt          *time.Time     `json:"cancel_at" nullable:"true"`
	CancelAtPeriodEnd bool           `json:"cancel_at_period_end"`
	GraceUntil        *time.Time     `json:"grace_until" nullable:"true" doc:"when everything becomes read-only"`
	PendingUntil      *time.Time     `json:"pending_until" nullable:"true" doc:"an upgrade waits for its payment until then"`
	PayURL            string         `json:"pay_url" doc:"where what is owed can be paid; empty where nothing is"`
	Discount          string         `json:"discount"`
	Next              *PlannedChange `json:"next,omitempty" doc:"what is planned for the end of the period"`
}

// PlannedChange is what a subscription becomes at the end of its period.
type PlannedChange struct {
	Plan     string    `json:"plan"`
	Interval string    `json:"interval"`
	Quantity int64     `json:"quantity"`
	At       time.Time `json:"at"`
}

// Subscription shows how the tenant stands, without asking Stripe.
func (s *Sales) Subscription(ctx context.Context, _ struct{}) (out SubscriptionResponse, err error) {
	plan, st, err := s.Plans.Standing(ctx, domain.TenantOf(ctx))
	if err != nil {
		return out, err
	}
	row, err := s.customer(ctx)
	if err != nil {
		return out, err
	}
	out = SubscriptionResponse{Plan: plan.Name, Version: plan.Version, Source: st.Source, ReadOnly: st.ReadOnly, Available: s.Stripe != nil, Sandbox: s.Sandbox}
	if row.CardLast4 != "" {
		out.Card = &PaymentCard{row.CardBrand, row.CardLast4}
	}
	sub := st.Subscription
	if sub == nil {
		out.Banners, err = s.banners(ctx, plan, st, "")
		return out, err
	}
	out.Current = &CurrentSubscription{Status: sub.Status, Plan: sub.Plan, Interval: sub.Cadence, Quantity: sub.Quantity, Currency: sub.Currency, UnitAmount: sub.UnitAmount,
		PeriodStart: sub.PeriodStart, PeriodEnd: sub.PeriodEnd, TrialEnd: sub.TrialEnd, CancelAt: sub.CancelAt, CancelAtPeriodEnd: sub.CancelAtPeriodEnd, GraceUntil: st.GraceUntil,
		PendingUntil: sub.PendingUntil, Discount: sub.Discount}
	if sub.NextAt != nil {
		out.Current.Next = &PlannedChange{sub.NextPlan, sub.NextCadence, sub.NextQuantity, *sub.NextAt}
	}
	if live(sub.Status) {
		var owed Invoice
		err = s.Store.Read(ctx, func(ctx context.Context) error {
			return s.Store.For(ctx).Where("id = ? AND status = ?", sub.LatestInvoice, "open").Limit(1).Find(&owed).Error
		})
		out.Current.PayURL = owed.HostedURL
	}
	if err == nil {
		out.Banners, err = s.banners(ctx, plan, st, out.Current.PayURL)
	}
	return out, err
}

// banners are what the present state asks people to do.
func (s *Sales) banners(ctx context.Context, plan Plan, st Standing, pay string) ([]Banner, error) {
	out := []Banner{}
	if sub := st.Subscription; sub != nil && st.Source == "subscription" {
		switch {
		case sub.Status == "paused":
			out = append(out, Banner{Code: "paused", Action: "update_card"})
		case st.ReadOnly != "":
			out = append(out, Banner{Code: "read_only", Action: "pay", URL: pay})
		case st.GraceUntil != nil:
			out = append(out, Banner{Code: "payment_failed", Action: "update_card", URL: pay, Until: st.GraceUntil})
		case sub.PendingUntil != nil:
			out = append(out, Banner{Code: "payment_needed", Action: "pay", URL: pay, Until: sub.PendingUntil})
		case sub.CancelAtPeriodEnd:
			out = append(out, Banner{Code: "ends", Action: "undo", Until: &sub.PeriodEnd})
		case sub.Status == "trialing" && sub.TrialEnd != nil && sub.TrialEnd.Sub(s.Now()) <= trialWarning:
			out = append(out, Banner{Code: "trial_ends", Action: "update_card", Until: sub.TrialEnd})
		}
	} else if sub != nil && sub.Status == "incomplete" {
		until := sub.Created.Add(23 * time.Hour)
		out = append(out, Banner{Code: "payment_needed", Action: "pay", URL: pay, Until: &until})
	}
	var told []usageTotal
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("period = ? AND alerted > 0", plan.Period.ID).Order("alerted DESC, meter").Find(&told).Error
	})
	for _, t := range told {
		if share := reached(t.Units, plan.Quotas[t.Meter]); share > 0 { // a larger plan takes the banner away
			out = append(out, Banner{Code: "usage", Action: "upgrade", Until: &plan.Period.End, Meter: t.Meter, Percent: share})
		}
	}
	return out, err
}

// Invoice as it is shown; amounts are minor units of its currency.
type Invoice struct {
	store.Owned
	ID              string     `json:"id" gorm:"primaryKey"`
	Number          string     `json:"number"`
	Status          string     `json:"status" enum:"draft,open,paid,void,uncollectible"`
	Reason          string     `json:"reason"`
	Subscription    string     `json:"-"`
	Charge          string     `json:"-"`
	Currency        string     `json:"currency"`
	Subtotal        int64      `json:"subtotal"`
	Tax             int64      `json:"tax"`
	Total           int64      `json:"total"`
	AmountDue       int64      `json:"amount_due"`
	AmountPaid      int64      `json:"amount_paid"`
	AmountRemaining int64      `json:"amount_remaining"`
	Refunded        int64      `json:"amount_refunded"`
	Attempts        int64      `json:"attempts"`
	PeriodStart     time.Time  `json:"period_start"`
	PeriodEnd       time.Time  `json:"period_end"`
	Created         time.Time  `json:"created_at"`
	FinalizedAt     *time.Time `json:"finalized_at" nullable:"true"`
	PaidAt          *time.Time `json:"paid_at" nullable:"true"`
	NextAttempt     *time.Time `json:"next_attempt" nullable:"true"`
	HostedURL       string     `json:"hosted_url"`
	PDF             string     `json:"pdf_url" gorm:"column:pdf"`
}

// Invoices lists the tenant's, newest first.
func (s *Sales) Invoices(ctx context.Context, in domain.PageRequest) (out domain.Page[Invoice], err error) {
	after, err := in.After()
	if err != nil {
		return out, err
	}
	var rows []Invoice
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		q := s.Store.For(ctx).Where("status <> ?", "draft").Order("created DESC, id DESC").Limit(in.Size() + 1)
		if after != "" {
			var last Invoice
			if err := s.Store.For(ctx).Where("id = ?", after).Take(&last).Error; err != nil {
				return domain.InvalidField("cursor", "invalid_cursor", "The cursor is not one of ours.")
			}
			q = q.Where("created < ? OR created = ? AND id < ?", last.Created, last.Created, last.ID)
		}
		return q.Find(&rows).Error
	})
	return domain.NewPage(rows, in.Size(), func(i Invoice) string { return i.ID }), err
}

// CheckoutRequest asks to buy a plan.
type CheckoutRequest struct {
	Plan     string `json:"plan" minLength:"1" maxLength:"64"`
	Interval string `json:"interval" enum:"month,year"`
	Quantity int64  `json:"quantity,omitempty" minimum:"1" maximum:"100000" doc:"seats; as many as are taken where it is left out"`
	Currency string `json:"currency,omitempty" maxLength:"3" doc:"ISO 4217; the one of earlier invoices, or usd, where it is left out"`
}

// PaymentLink leads to a page of the payment service.
type PaymentLink struct {
	URL     string `json:"url"`
	Sandbox bool   `json:"sandbox" doc:"true where no money moves"`
}

// Checkout offers a subscription for sale. A tenant has at most one that lives,
// and one offer: the newest.
func (s *Sales) Checkout(ctx context.Context, in CheckoutRequest) (out PaymentLink, err error) {
	if err := s.configured(); err != nil {
		return out, err
	}
	row, err := s.open(ctx)
	if err != nil {
		return out, err
	}
	if err := s.Sync(ctx, row.id()); err != nil {
		return out, err
	}
	if row, err = s.customer(ctx); err != nil {
		return out, err
	}
	subs, disputes, err := s.present(ctx)
	if err != nil {
		return out, err
	}
	for _, sub := range subs {
		switch {
		case sub.Status == "incomplete":
			return out, domain.E(domain.Conflict, "payment_incomplete", "A payment was begun and not finished. Finish it on the billing page, or wait until it expires.")
		case live(sub.Status):
			return out, domain.E(domain.Conflict, "subscription_exists", "There is a subscription already. Change it instead.")
		}
	}
	if slices.ContainsFunc(disputes, func(d Dispute) bool { return d.Status == "lost" }) {
		return out, domain.E(domain.Forbidden, "forbidden", "Payments of this tenant are under review. Please write to us.")
	}
	currency := in.Currency
	if currency == "" {
		currency = "usd"
	}
	if row.Currency != "" {
		if in.Currency != "" && in.Currency != row.Currency {
			return out, domain.InvalidField("currency", "currency_fixed", "Your invoices are in %s, and that cannot be changed.", row.Currency)
		}
		currency = row.Currency
	}
	price, most, err := s.sold(ctx, in.Plan, in.Interval, currency)
	if err != nil {
		return out, err
	}
	if in.Quantity, err = s.seats(ctx, in.Quantity, most); err != nil {
		return out, err
	}
	// The offer's number is taken first: of two tabs, each has its own.
	var number int64
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if _, err := s.Store.Exec(ctx, "UPDATE billing_customers SET offers = offers + 1 WHERE tenant_id = @tenant", nil); err != nil {
			return err
		}
		var now billingCustomer
		err := s.Store.For(ctx).Take(&now).Error
		if number = now.Offers; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "subscription.checkout", Target: row.id(), Detail: map[string]any{"plan": in.Plan, "interval": in.Interval, "quantity": in.Quantity, "currency": currency}})
	})
	if err != nil {
		return out, err
	}
	prices, err := s.priceList(ctx)
	if err != nil {
		return out, err
	}
	trial := s.Trial
	if len(subs) > 0 {
		trial = 0 // one a customer
	}
	made, err := s.Stripe.CreateCheckout(ctx, fmt.Sprintf("%s:checkout:%d", domain.TenantOf(ctx), number), stripe.Checkout{Customer: row.id(), Tenant: domain.TenantOf(ctx), Price: price.ID, Metered: slices.Sorted(maps.Values(metered(prices, price))),
		Quantity: in.Quantity, Sequence: strconv.FormatInt(number, 10), TrialDays: trial, Tax: s.Tax, SuccessURL: s.Portal + "/billing?session={CHECKOUT_SESSION_ID}", CancelURL: s.Portal + "/billing"})
	if err != nil {
		return out, err
	}
	// Whoever lists last sees every other offer, and only the newest stays open.
	open, err := s.Stripe.OpenSessions(ctx, row.id())
	if err != nil {
		return out, err
	}
	for _, other := range open {
		if n, _ := strconv.ParseInt(other.Sequence, 10, 64); n < number {
			if err := s.Stripe.Expire(ctx, other.ID); err != nil {
				return out, err
			}
		}
	}
	return PaymentLink{made.URL, s.Sandbox}, nil
}

// present is what is known of the tenant's subscriptions.
func (s *Sales) present(ctx context.Context) (subs []Subscription, disputes []Dispute, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return errors.Join(s.Store.For(ctx).Find(&subs).Error, s.Store.For(ctx).Find(&disputes).Error)
	})
	return subs, disputes, err
}

// seats checks a number of seats against those that are taken and those that
// the plan sells; 0 is as many as are taken.
func (s *Sales) seats(ctx context.Context, want, most int64) (int64, error) {
	taken, err := s.level(ctx, "seats")
	if err != nil {
		return 0, err
	}
	if want == 0 {
		want = max(1, taken)
	}
	if want < taken {
		return 0, domain.E(domain.Conflict, "seats_in_use", "%d seats are taken. Remove members first.", taken)
	}
	if most >= 0 && want > most {
		return 0, domain.InvalidField("quantity", "too_many_seats", "The plan has at most %d seats.", most)
	}
	return want, nil
}

func (s *Sales) level(ctx context.Context, level string) (used int64, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.SQL(ctx, "SELECT coalesce(sum(used), 0) FROM tenant_levels WHERE tenant_id = @tenant AND level = @level", map[string]any{"level": level}).Scan(&used).Error
	})
	return used, err
}

// OpenPortal leads to Stripe's portal: card, tax id, receipts.
func (s *Sales) OpenPortal(ctx context.Context, _ struct{}) (out PaymentLink, err error) {
	if err := s.configured(); err != nil {
		return out, err
	}
	row, err := s.open(ctx)
	if err != nil {
		return out, err
	}
	url, err := s.Stripe.Portal(ctx, row.id(), s.Portal+"/billing")
	return PaymentLink{url, s.Sandbox}, err
}

// Refresh reads the tenant at Stripe now: the page after Checkout calls it, so
// that nobody is at the mercy of a webhook.
func (s *Sales) Refresh(ctx context.Context, _ struct{}) (SubscriptionResponse, error) {
	row, err := s.customer(ctx)
	if err == nil && row.id() != "" {
		err = s.Sync(ctx, row.id())
	}
	if err != nil {
		return SubscriptionResponse{}, err
	}
	return s.Subscription(ctx, struct{}{})
}

// ChangeRequest asks for another plan, interval or number of seats; what is left
// out stays.
type ChangeRequest struct {
	Plan          string    `json:"plan,omitempty" maxLength:"64"`
	Interval      string    `json:"interval,omitempty" enum:"month,year"`
	Quantity      int64     `json:"quantity,omitempty" minimum:"1" maximum:"100000"`
	ProrationDate time.Time `json:"proration_date,omitzero" doc:"of the preview: then the change costs what the preview said"`
}

// ChangePreview is what a change costs, and what it takes away.
type ChangePreview struct {
	Effective     string       `json:"effective" enum:"now,period_end"`
	At            time.Time    `json:"at"`
	Currency      string       `json:"currency"`
	DueNow        int64        `json:"due_now" doc:"minor units"`
	Tax           int64        `json:"tax"`
	Lines         []ChangeLine `json:"lines" nullable:"false"`
	ProrationDate *time.Time   `json:"proration_date" nullable:"true"`
	Excess        []Excess     `json:"excess" nullable:"false" doc:"what is above the new limits: it stays, and nothing can be added to it"`
}

// ChangeLine of the invoice that the change makes.
type ChangeLine struct {
	Text   string `json:"text"`
	Amount int64  `json:"amount"`
}

// Excess is a level above its new limit.
type Excess struct {
	Level string `json:"level"`
	Used  int64  `json:"used"`
	Limit int64  `json:"limit"`
}

// move is a change that was thought through.
type move struct {
	row   billingCustomer
	sub   Subscription
	price planPrice
	seats int64
	add   []string // metered prices that come with it
	drop  []string // metered items that go: another interval cannot keep them
	keep  []string // metered prices that it has
	later bool
	none  bool // it is so already
}

// think decides what a change request means now: more money is at once and in
// force when it is paid; less is at the end of the period.
func (s *Sales) think(ctx context.Context, in ChangeRequest) (m move, err error) {
	if err := s.configured(); err != nil {
		return m, err
	}
	if m.row, err = s.customer(ctx); err != nil {
		return m, err
	}
	if m.row.id() == "" {
		return m, noSubscription()
	}
	if err := s.Sync(ctx, m.row.id()); err != nil {
		return m, err
	}
	if m.row, err = s.customer(ctx); err != nil {
		return m, err
	}
	_, st, err := s.Plans.Standing(ctx, domain.TenantOf(ctx))
	if err != nil {
		return m, err
	}
	if st.Subscription == nil || !live(st.Subscription.Status) {
		return m, noSubscription()
	}
	m.sub = *st.Subscription
	if m.sub.Status != "active" && m.sub.Status != "trialing" {
		return m, domain.E(domain.PaymentRequired, "subscription_inactive", "What is owed must be paid before the subscription can be changed.")
	}
	if in.Plan == "" {
		in.Plan = m.sub.Plan
	}
	if in.Interval == "" {
		in.Interval = m.sub.Cadence
	}
	if in.Quantity == 0 {
		in.Quantity = m.sub.Quantity
	}
	prices, err := s.priceList(ctx)
	if err != nil {
		return m, err
	}
	var most int64
	if in.Plan == m.sub.Plan && in.Interval == m.sub.Cadence { // its own price, also where it is no longer sold
		m.price = prices[m.sub.Price]
		var p Plan
		if p, err = s.planOf(ctx, m.sub); err == nil {
			most = p.Levels["seats"]
		}
	} else {
		m.price, most, err = s.sold(ctx, in.Plan, in.Interval, m.sub.Currency)
	}
	if err != nil {
		return m, err
	}
	if m.seats, err = s.seats(ctx, in.Quantity, most); err != nil {
		return m, err
	}
	bring := metered(prices, m.price)
	for meter, item := range m.sub.Metered {
		m.keep = append(m.keep, item.Price)
		if in.Interval != m.sub.Cadence {
			m.drop = append(m.drop, item.ID)
		} else {
			delete(bring, meter) // it stays at the price that it was bought at
		}
	}
	for _, price := range bring {
		m.add = append(m.add, price)
	}
	slices.Sort(m.add)
	slices.Sort(m.drop)
	slices.Sort(m.keep)
	m.none = m.price.ID == m.sub.Price && m.seats == m.sub.Quantity && m.sub.NextAt == nil
	was, will := yearly(m.sub.Cadence, m.sub.UnitAmount)*m.sub.Quantity, yearly(m.price.Cadence, m.price.Amount)*m.seats
	m.later = will < was && !(m.sub.Cadence == "month" && m.price.Cadence == "year" && m.price.Plan == m.sub.Plan && m.seats >= m.sub.Quantity)
	return m, nil
}

func noSubscription() *domain.Error {
	return domain.E(domain.Conflict, "no_subscription", "There is no subscription. Buy one first.")
}

func yearly(cadence string, amount int64) int64 {
	if cadence == "year" {
		return amount
	}
	return amount * 12
}

func (s *Sales) planOf(ctx context.Context, sub Subscription) (p Plan, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		f, err := s.Plans.facts(ctx, domain.TenantOf(ctx), Plan{}, nil)
		p = f.Plans[versionKey(sub.Plan, sub.Version)]
		return err
	})
	return p, err
}

// key names the effect of a change: the same change of the same state is the
// same call at Stripe, however often it is made. The state moves on with every
// sync that follows one.
func (m move) key(tenant, op string) string {
	return fmt.Sprintf("%s:%s:%s:%s:%d:%d", tenant, op, m.sub.ID, m.price.ID, m.seats, m.row.Generation)
}

// Preview says what a change would cost and take away.
func (s *Sales) Preview(ctx context.Context, in ChangeRequest) (out ChangePreview, err error) {
	m, err := s.think(ctx, in)
	if err != nil {
		return out, err
	}
	out = ChangePreview{Effective: "now", At: s.Now().UTC().Truncate(time.Second), Currency: m.sub.Currency, Lines: []ChangeLine{}, Excess: []Excess{}}
	if out.Excess, err = s.excess(ctx, m.price); err != nil {
		return out, err
	}
	if m.later {
		out.Effective, out.At = "period_end", m.sub.PeriodEnd
		return out, nil
	}
	if in.ProrationDate.IsZero() {
		in.ProrationDate = out.At
	}
	p, err := s.Stripe.Preview(ctx, stripe.Change{Customer: m.row.id(), Subscription: m.sub.ID, Item: m.sub.Item, Price: m.price.ID, Quantity: m.seats, Add: m.add, Drop: m.drop, At: in.ProrationDate})
	if err != nil {
		return out, err
	}
	out.DueNow, out.Tax, out.ProrationDate = p.AmountDue, p.Tax, &p.At
	for _, l := range p.Lines {
		out.Lines = append(out.Lines, ChangeLine(l))
	}
	return out, nil
}

// excess lists the levels that are above the limits of what a price buys.
func (s *Sales) excess(ctx context.Context, price planPrice) ([]Excess, error) {
	out := []Excess{}
	plans, err := s.Plans.Plans(ctx, struct{}{})
	if err != nil {
		return out, err
	}
	at := slices.IndexFunc(plans.Data, func(p Plan) bool { return p.Name == price.Plan })
	if at < 0 {
		return out, nil
	}
	for _, level := range Levels {
		used, err := s.level(ctx, level)
		if err != nil {
			return out, err
		}
		if limit := plans.Data[at].Levels[level]; limit >= 0 && used > limit {
			out = append(out, Excess{level, used, limit})
		}
	}
	return out, nil
}

// ChangeResponse is how the tenant stands after a change.
type ChangeResponse struct {
	SubscriptionResponse
	PaymentURL string `json:"payment_url" doc:"where the change must be paid to be in force; empty where it is, or is planned"`
}

// Change moves the subscription.
func (s *Sales) Change(ctx context.Context, in ChangeRequest) (out ChangeResponse, err error) {
	m, err := s.think(ctx, in)
	if err != nil {
		return out, err
	}
	tenant := domain.TenantOf(ctx)
	if m.sub.PendingUntil != nil && !m.later && !m.none { // one invoice at a time: two could both be paid
		return out, domain.E(domain.Conflict, "payment_incomplete", "A payment was begun and not finished. Finish it on the billing page, or wait until it expires.")
	}
	if !m.none {
		err = s.Store.Tx(ctx, func(ctx context.Context) error {
			return s.Audit.Record(ctx, audit.Entry{Action: "subscription.update", Target: m.sub.ID, Detail: map[string]any{"plan": m.price.Plan, "interval": m.price.Cadence, "quantity": m.seats, "later": m.later}})
		})
		if err != nil {
			return out, err
		}
		ch := stripe.Change{Customer: m.row.id(), Subscription: m.sub.ID, Item: m.sub.Item, Price: m.price.ID, Quantity: m.seats, Add: m.add, Drop: m.drop, Keep: m.keep, At: in.ProrationDate}
		if m.later && len(m.drop) == 0 {
			ch.Add = append(ch.Add, m.keep...)
		}
		if m.sub.CancelAtPeriodEnd { // who changes goes on
			if err := s.Stripe.CancelAtPeriodEnd(ctx, m.key(tenant, "goon"), m.sub.ID, false); err != nil {
				return out, err
			}
		}
		if m.later {
			err = s.Stripe.ChangeLater(ctx, m.key(tenant, "later"), stripe.Subscription{ID: m.sub.ID, Schedule: m.sub.Schedule, Price: m.sub.Price, Quantity: m.sub.Quantity}, ch)
		} else {
			if m.sub.Schedule != "" { // what was planned is off
				if err := s.Stripe.Release(ctx, m.sub.Schedule); err != nil {
					return out, err
				}
			}
			if m.price.ID != m.sub.Price || m.seats != m.sub.Quantity {
				var pay stripe.Invoice
				pay, err = s.Stripe.Change(ctx, m.key(tenant, "change"), ch)
				out.PaymentURL = pay.HostedURL
			}
		}
		if err != nil {
			return out, err
		}
		if err := s.Sync(ctx, m.row.id()); err != nil {
			return out, err
		}
	}
	out.SubscriptionResponse, err = s.Subscription(ctx, struct{}{})
	return out, err
}

// BuySeat buys one seat more where all that are paid for are taken, so that
// somebody can be invited. It is in force when this returns, or nothing was
// bought: a payment that needs a person's hand is on the billing page.
func (s *Sales) BuySeat(ctx context.Context) error {
	plan, _, err := s.Plans.Standing(ctx, domain.TenantOf(ctx))
	if err != nil {
		return err
	}
	taken, err := s.level(ctx, "seats")
	if err != nil || plan.Levels["seats"] < 0 || taken < plan.Levels["seats"] {
		return err
	}
	out, err := s.Change(ctx, ChangeRequest{Quantity: taken + 1})
	if err == nil && (out.PaymentURL != "" || out.Current == nil || out.Current.Quantity <= taken) {
		err = domain.E(domain.PaymentRequired, "payment_failed", "The seat is not paid for yet. Finish the payment on the billing page, then invite again.")
	}
	return err
}

// Cancel ends the subscription with its period; everything works until then.
func (s *Sales) Cancel(ctx context.Context, _ struct{}) (SubscriptionResponse, error) {
	return s.plan(ctx, "subscription.cancel", func(m move) error {
		if m.sub.Schedule != "" {
			if err := s.Stripe.Release(ctx, m.sub.Schedule); err != nil {
				return err
			}
		}
		return s.Stripe.CancelAtPeriodEnd(ctx, m.key(domain.TenantOf(ctx), "cancel"), m.sub.ID, true)
	})
}

// Undo takes back what was planned for the end of the period: a cancellation,
// or a change.
func (s *Sales) Undo(ctx context.Context, _ struct{}) (SubscriptionResponse, error) {
	return s.plan(ctx, "subscription.undo", func(m move) error {
		if m.sub.Schedule != "" {
			if err := s.Stripe.Release(ctx, m.sub.Schedule); err != nil {
				return err
			}
		}
		if !m.sub.CancelAtPeriodEnd {
			return nil
		}
		return s.Stripe.CancelAtPeriodEnd(ctx, m.key(domain.TenantOf(ctx), "undo"), m.sub.ID, false)
	})
}

// plan does something to the subscription that lives, and puts it on the record.
func (s *Sales) plan(ctx context.Context, action string, do func(m move) error) (out SubscriptionResponse, err error) {
	if err := s.configured(); err != nil {
		return out, err
	}
	row, err := s.customer(ctx)
	if err != nil {
		return out, err
	}
	if row.id() == "" {
		return out, noSubscription()
	}
	if err := s.Sync(ctx, row.id()); err != nil {
		return out, err
	}
	if row, err = s.customer(ctx); err != nil {
		return out, err
	}
	_, st, err := s.Plans.Standing(ctx, domain.TenantOf(ctx))
	if err != nil {
		return out, err
	}
	if st.Subscription == nil || !live(st.Subscription.Status) {
		return out, noSubscription()
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		return s.Audit.Record(ctx, audit.Entry{Action: action, Target: st.Subscription.ID})
	})
	if err != nil {
		return out, err
	}
	if err := do(move{row: row, sub: *st.Subscription}); err != nil {
		return out, err
	}
	return s.Refresh(ctx, struct{}{})
}

// Resume ends the pause after a trial that had no card.
func (s *Sales) Resume(ctx context.Context, _ struct{}) (SubscriptionResponse, error) {
	return s.plan(ctx, "subscription.resume", func(m move) error {
		if m.sub.Status != "paused" {
			return nil
		}
		_, err := s.Stripe.Resume(ctx, m.key(domain.TenantOf(ctx), "resume"), m.sub.ID)
		return err
	})
}

// End ends every subscription of a tenant at Stripe now, before the tenant is
// deleted. Where Stripe does not answer the deletion must not go on, or a
// customer pays for nothing.
func (s *Sales) End(ctx context.Context) error {
	row, err := s.customer(ctx)
	if err != nil || row.id() == "" {
		return err
	}
	if s.Stripe == nil { // nobody can be asked: what is known decides
		subs, _, err := s.present(ctx)
		if err == nil && slices.ContainsFunc(subs, func(x Subscription) bool { return live(x.Status) }) {
			err = s.configured()
		}
		return err
	}
	if err := s.Sync(ctx, row.id()); err != nil {
		return err
	}
	if err := s.Bill(ctx, domain.TenantOf(ctx)); err != nil { // a final invoice has what was used
		return err
	}
	subs, _, err := s.present(ctx)
	if err != nil {
		return err
	}
	for _, sub := range subs {
		if live(sub.Status) {
			if err := s.Stripe.Cancel(ctx, sub.ID); err != nil {
				return err
			}
		}
	}
	if err := s.Sync(ctx, row.id()); err != nil {
		return err
	}
	return s.Bill(ctx, domain.TenantOf(ctx))
}

// Refund gives back part of an invoice, for an operator who gives a reason.
func (s *Sales) Refund(ctx context.Context, invoice string, amount int64, author, reason string) error {
	if err := s.configured(); err != nil {
		return err
	}
	row, err := s.customer(ctx)
	if err != nil {
		return err
	}
	if err := s.Sync(ctx, row.id(), invoice); err != nil {
		return err
	}
	var inv Invoice
	var disputes []Dispute
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return errors.Join(s.Store.For(ctx).Where("id = ?", invoice).Take(&inv).Error, s.Store.For(ctx).Find(&disputes).Error)
	})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(disputes, func(d Dispute) bool { return d.Charge == inv.Charge && d.Status != "won" }) {
		return domain.E(domain.Conflict, "disputed", "A payment that is disputed cannot be refunded.")
	}
	if amount < 1 || inv.Charge == "" || amount > inv.AmountPaid-inv.Refunded {
		return domain.InvalidField("amount", "too_much", "There are %d left to refund.", max(0, inv.AmountPaid-inv.Refunded))
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		return s.Audit.Record(ctx, audit.Entry{Action: "invoice.refund", Target: invoice, Detail: map[string]any{"amount": amount, "author": author, "reason": reason}})
	})
	if err != nil {
		return err
	}
	// What was refunded before is part of the key: the same refund twice is one.
	if err := s.Stripe.Refund(ctx, fmt.Sprintf("%s:refund:%s:%d:%d", domain.TenantOf(ctx), invoice, inv.Refunded, amount), inv.Charge, amount); err != nil {
		return err
	}
	return s.Sync(ctx, row.id(), invoice)
}

var _ = domain.Chinese(map[string]string{
	"This is not an event of our payment service.":                                                   "这不是我们支付服务发出的事件。",
	"This event concerns no customer.":                                                               "该事件不涉及任何客户。",
	"Too much changes at once; please try again.":                                                    "同时变更过多，请重试。",
	"There is no such plan to buy.":                                                                  "没有可购买的此套餐。",
	"The prices are not at the payment service yet: an operator runs chainreactions billing sync.":   "价格尚未同步到支付服务：请管理员运行 chainreactions billing sync。",
	"The plan is not sold in this currency or interval.":                                             "该套餐不以此货币或计费周期出售。",
	"Payments are not set up on this server: it has no STRIPE_SECRET_KEY.":                           "本服务器未配置支付：缺少 STRIPE_SECRET_KEY。",
	"A payment was begun and not finished. Finish it on the billing page, or wait until it expires.": "有一笔付款已开始但尚未完成。请在账单页完成，或等待其过期。",
	"There is a subscription already. Change it instead.":                                            "已有订阅。请改为变更现有订阅。",
	"Payments of this tenant are under review. Please write to us.":                                  "该租户的付款正在审核。请联系我们。",
	"Your invoices are in %s, and that cannot be changed.":                                           "您的发票以 %s 计价，无法更改。",
	"%d seats are taken. Remove members first.":                                                      "已占用 %d 个席位。请先移除成员。",
	"The plan has at most %d seats.":                                                                 "该套餐最多 %d 个席位。",
	"What is owed must be paid before the subscription can be changed.":                              "须先付清欠款才能变更订阅。",
	"There is no subscription. Buy one first.":                                                       "没有订阅。请先购买。",
	"A payment that is disputed cannot be refunded.":                                                 "有争议的付款不能退款。",
	"The seat is not paid for yet. Finish the payment on the billing page, then invite again.":       "席位尚未付款。请在账单页完成付款后再次邀请。",
	"There are %d left to refund.":                                                                   "最多还可退 %d。",
	"The subscription does not carry this now. Your data is safe; see the billing page to go on.":    "当前订阅不支持此操作。您的数据安全无虞；请前往账单页处理。",
})
