// Package stripe is our one door to Stripe, and the only package that imports
// stripe-go. It says in our words what billing asks: make a customer, sell,
// change, cancel, read everything about a customer, verify an event. Nothing
// here decides anything, and nothing is kept in globals.
//
// What one must know of stripe-go v76 (API version 2023-10-16):
//   - Its idempotency keys are random, so that a crash between a call and our
//     commit repeats the charge. Every call of ours that changes something
//     names its own key, made of tenant, operation and intent.
//   - It checks that an event is not too old, not that it is not too new, and
//     not whose mode it is of (Verify does both).
//   - Later API versions moved current_period_end to the items and dropped usage
//     records; an event of another version is refused.
package stripe

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
	portal "github.com/stripe/stripe-go/v76/billingportal/session"
	"github.com/stripe/stripe-go/v76/charge"
	checkout "github.com/stripe/stripe-go/v76/checkout/session"
	"github.com/stripe/stripe-go/v76/customer"
	"github.com/stripe/stripe-go/v76/customerbalancetransaction"
	"github.com/stripe/stripe-go/v76/dispute"
	"github.com/stripe/stripe-go/v76/event"
	"github.com/stripe/stripe-go/v76/invoice"
	"github.com/stripe/stripe-go/v76/price"
	"github.com/stripe/stripe-go/v76/product"
	"github.com/stripe/stripe-go/v76/refund"
	"github.com/stripe/stripe-go/v76/subscription"
	"github.com/stripe/stripe-go/v76/subscriptionschedule"
	"golang.org/x/sync/errgroup"

	"github.com/chainreactions/chainreactions/domain"
)

// Config of a Client. BaseURL and HTTP may be left out.
type Config struct {
	Key     string // sk_… or rk_…
	BaseURL string // STRIPE_API_BASE; "" is Stripe's
	HTTP    *http.Client
}

// Client speaks to one Stripe account.
type Client struct {
	key string
	be  stripe.Backend
}

// New makes a client. It calls nobody.
func New(c Config) *Client {
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	conf := &stripe.BackendConfig{HTTPClient: c.HTTP, MaxNetworkRetries: stripe.Int64(2), EnableTelemetry: stripe.Bool(false),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}} // errors are returned, and requests may hold personal data
	if c.BaseURL != "" {
		conf.URL = stripe.String(strings.TrimSuffix(c.BaseURL, "/"))
	}
	return &Client{key: c.Key, be: stripe.GetBackendWithConfig(stripe.APIBackend, conf)}
}

// Live reports whether real money moves.
func (c *Client) Live() bool { return strings.Contains(c.key, "_live_") }

// failed turns Stripe's refusals into ours. What a customer can do something
// about says so; what only we can, stays internal.
func failed(err error) error {
	if err == nil {
		return nil
	}
	var e *stripe.Error
	if !errors.As(err, &e) {
		if errors.Is(err, context.Canceled) {
			return err
		}
		return domain.E(domain.Unavailable, "provider_unavailable", "The payment service does not answer now.").After(5 * time.Second).Because(err)
	}
	switch {
	case e.Type == stripe.ErrorTypeCard:
		return domain.E(domain.PaymentRequired, "payment_failed", "The payment was not accepted. Please check the card, or use another.").Because(errors.New(string(e.Code)))
	case e.HTTPStatusCode == http.StatusTooManyRequests, e.HTTPStatusCode >= 500, e.HTTPStatusCode == http.StatusConflict:
		return domain.E(domain.Unavailable, "provider_unavailable", "The payment service does not answer now.").After(5 * time.Second).Because(err)
	case e.HTTPStatusCode == http.StatusUnauthorized:
		return domain.E(domain.Unavailable, "provider_not_configured", "The payment service does not accept our key.").Because(err)
	}
	return &Refused{Code: string(e.Code), cause: err}
}

// Refused is Stripe's no to a request that it could read.
type Refused struct {
	Code  string
	cause error
}

func (r *Refused) Error() string { return "stripe: " + r.cause.Error() }

// Unwrap gives stripe-go's error, for the log.
func (r *Refused) Unwrap() error { return r.cause }

// IsMissing reports whether Stripe has no such object.
func IsMissing(err error) bool {
	var r *Refused
	return errors.As(err, &r) && r.Code == "resource_missing"
}

func at(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

func call(ctx context.Context, key string) stripe.Params {
	p := stripe.Params{Context: ctx}
	if key != "" {
		p.IdempotencyKey = stripe.String(key)
	}
	return p
}

func pages(ctx context.Context) stripe.ListParams {
	return stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}
}

// CreateCustomer makes the customer of a tenant, once for a key. Who asks is
// told by NameCustomer: the same key must come with the same words.
func (c *Client) CreateCustomer(ctx context.Context, key, tenant string) (string, error) {
	p := &stripe.CustomerParams{Params: call(ctx, key)}
	p.Metadata = map[string]string{"tenant": tenant}
	out, err := customer.Client{B: c.be, Key: c.key}.New(p)
	if err != nil {
		return "", failed(err)
	}
	return out.ID, nil
}

// NameCustomer says who gets the invoices.
func (c *Client) NameCustomer(ctx context.Context, id, name, email string) error {
	p := &stripe.CustomerParams{Params: call(ctx, "")}
	if name != "" {
		p.Name = &name
	}
	if email != "" {
		p.Email = &email
	}
	_, err := customer.Client{B: c.be, Key: c.key}.Update(id, p)
	return failed(err)
}

// Customer is what Stripe knows of a customer and that we show or decide by, as
// it is now: everything, or what can have changed Since.
type Customer struct {
	Since         Since
	ID            string
	Tenant        string // as the customer's metadata says: a cross-check, never the truth
	Deleted       bool
	Currency      string
	CardBrand     string
	CardLast4     string
	Subscriptions []Subscription
	Invoices      []Invoice
	Disputes      []Dispute
	Gone          []string // invoices that were asked for and are no more
}

// Subscription as it is now.
type Subscription struct {
	ID, Status, Item, Price, Interval, Currency string
	Product                                     string
	UnitAmount, Quantity                        int64
	PeriodStart, PeriodEnd                      time.Time
	CancelAt, CanceledAt, EndedAt, TrialEnd     time.Time
	CancelAtPeriodEnd, CollectionPaused         bool
	PendingUntil                                time.Time // an update that waits for its payment expires then
	LatestInvoice, Schedule                     string
	NextPrice                                   string // from NextAt on, by the schedule
	NextQuantity                                int64
	NextAt                                      time.Time
	Discount                                    string // name of the coupon
	Created                                     time.Time
	Metered                                     []MeteredItem
}

// MeteredItem of a subscription is paid for in arrears, by the package.
type MeteredItem struct {
	ID, Price string
	Amount    int64
}

// Invoice as it is now. Amounts are minor units.
type Invoice struct {
	ID, Number, Status, Currency, Reason, Subscription, Charge, HostedURL, PDF       string
	Subtotal, Tax, Total, AmountDue, AmountPaid, AmountRemaining, Refunded, Attempts int64
	PeriodStart, PeriodEnd, Created, FinalizedAt, PaidAt, NextAttempt                time.Time
	Bounced                                                                          bool // a bank debit that was on its way did not come
}

// Dispute of a charge.
type Dispute struct {
	ID, Charge, Status, Reason, Currency string
	Amount                               int64
	DueBy, Created                       time.Time
}

// Since is what is known of a customer already, so that it need not be read
// again. The zero value knows nothing: the customer is read whole.
type Since struct {
	Invoices      time.Time // those made since are read, with their charges
	Subscriptions time.Time // those made since are read
	Also          []string  // older invoices to be read, each with its charge
	Disputes      []string  // to be read, whatever they are about
}

// Whole says that everything is read.
func (s Since) Whole() bool { return s.Invoices.IsZero() }

// Read reads a customer, whole or what can have changed since: its lists at
// once, since who waits for a limit waits for the longest of the calls and not
// for their sum. One that was deleted has ended subscriptions and paid invoices
// all the same.
func (c *Client) Read(ctx context.Context, id string, since Since) (out Customer, err error) {
	out.Since = since
	from := func(t time.Time) *stripe.RangeQueryParams {
		if t.IsZero() {
			return nil
		}
		return &stripe.RangeQueryParams{GreaterThanOrEqual: t.Unix()}
	}
	var own, subscribed *stripe.PaymentMethod // a subscription's comes before the customer's
	var mu sync.Mutex                         // of what several calls write
	refunded, bounced, disputes := map[string]int64{}, map[string]bool{}, map[string]Dispute{}
	g, ctx := errgroup.WithContext(ctx)
	paid := func(ctx context.Context, ch *stripe.Charge) error { // or not
		mu.Lock()
		refunded[ch.ID] = ch.AmountRefunded
		if ch.Status == "failed" && ch.Invoice != nil && ch.PaymentMethodDetails != nil && ch.PaymentMethodDetails.Type != "card" {
			bounced[ch.Invoice.ID] = true
		}
		mu.Unlock()
		if !ch.Disputed {
			return nil
		}
		list := dispute.Client{B: c.be, Key: c.key}.List(&stripe.DisputeListParams{ListParams: pages(ctx), Charge: &ch.ID})
		for list.Next() {
			d := disputeOf(list.Dispute())
			mu.Lock()
			disputes[d.ID] = d
			mu.Unlock()
		}
		return list.Err()
	}
	g.Go(func() error {
		cp := &stripe.CustomerParams{Params: call(ctx, "")}
		cp.AddExpand("invoice_settings.default_payment_method")
		cus, err := customer.Client{B: c.be, Key: c.key}.Get(id, cp)
		if err != nil {
			return err
		}
		out.ID, out.Deleted, out.Tenant, out.Currency = cus.ID, cus.Deleted, cus.Metadata["tenant"], string(cus.Currency)
		if cus.InvoiceSettings != nil {
			own = cus.InvoiceSettings.DefaultPaymentMethod
		}
		return nil
	})
	g.Go(func() error {
		lp := &stripe.SubscriptionListParams{ListParams: pages(ctx), Customer: &id, Status: stripe.String("all"), CreatedRange: from(since.Subscriptions)}
		lp.AddExpand("data.schedule")
		lp.AddExpand("data.default_payment_method")
		subs := subscription.Client{B: c.be, Key: c.key}.List(lp)
		for subs.Next() {
			s := subs.Subscription()
			out.Subscriptions = append(out.Subscriptions, subscriptionOf(s))
			if pm := s.DefaultPaymentMethod; pm != nil && pm.Card != nil && s.Status != "canceled" && s.Status != "incomplete_expired" {
				subscribed = pm
			}
		}
		return subs.Err()
	})
	g.Go(func() error {
		charges := charge.Client{B: c.be, Key: c.key}.List(&stripe.ChargeListParams{ListParams: pages(ctx), Customer: &id, CreatedRange: from(since.Invoices)})
		for charges.Next() {
			if err := paid(ctx, charges.Charge()); err != nil {
				return err
			}
		}
		return charges.Err()
	})
	var older []Invoice
	g.Go(func() error {
		invoices := invoice.Client{B: c.be, Key: c.key}.List(&stripe.InvoiceListParams{ListParams: pages(ctx), Customer: &id, CreatedRange: from(since.Invoices)})
		for invoices.Next() {
			out.Invoices = append(out.Invoices, invoiceOf(invoices.Invoice()))
		}
		return invoices.Err()
	})
	for _, one := range since.Also {
		g.Go(func() error {
			p := &stripe.InvoiceParams{Params: call(ctx, "")}
			p.AddExpand("charge")
			inv, err := invoice.Client{B: c.be, Key: c.key}.Get(one, p)
			if err != nil && IsMissing(failed(err)) { // drafts can be deleted
				mu.Lock()
				out.Gone = append(out.Gone, one)
				mu.Unlock()
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			older = append(older, invoiceOf(inv))
			mu.Unlock()
			if inv.Charge == nil {
				return nil
			}
			return paid(ctx, inv.Charge)
		})
	}
	for _, one := range since.Disputes {
		g.Go(func() error {
			d, err := dispute.Client{B: c.be, Key: c.key}.Get(one, &stripe.DisputeParams{Params: call(ctx, "")})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			disputes[d.ID] = disputeOf(d)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Customer{}, failed(err)
	}
	slices.SortFunc(older, func(a, b Invoice) int { return b.Created.Compare(a.Created) })
	for _, inv := range older { // one that was made since may have been asked for too
		if !slices.ContainsFunc(out.Invoices, func(x Invoice) bool { return x.ID == inv.ID }) {
			out.Invoices = append(out.Invoices, inv)
		}
	}
	for i, inv := range out.Invoices {
		out.Invoices[i].Refunded, out.Invoices[i].Bounced = refunded[inv.Charge], bounced[inv.ID]
	}
	out.Disputes = slices.SortedFunc(maps.Values(disputes), func(a, b Dispute) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	for _, pm := range []*stripe.PaymentMethod{own, subscribed} {
		if pm != nil && pm.Card != nil {
			out.CardBrand, out.CardLast4 = string(pm.Card.Brand), pm.Card.Last4
		}
	}
	return out, nil
}

func disputeOf(d *stripe.Dispute) Dispute {
	out := Dispute{ID: d.ID, Status: string(d.Status), Reason: string(d.Reason), Currency: string(d.Currency), Amount: d.Amount, Created: at(d.Created)}
	if d.Charge != nil {
		out.Charge = d.Charge.ID
	}
	if d.EvidenceDetails != nil {
		out.DueBy = at(d.EvidenceDetails.DueBy)
	}
	return out
}

func subscriptionOf(s *stripe.Subscription) Subscription {
	out := Subscription{ID: s.ID, Status: string(s.Status), Currency: string(s.Currency), PeriodStart: at(s.CurrentPeriodStart), PeriodEnd: at(s.CurrentPeriodEnd),
		CancelAt: at(s.CancelAt), CanceledAt: at(s.CanceledAt), EndedAt: at(s.EndedAt), TrialEnd: at(s.TrialEnd), CancelAtPeriodEnd: s.CancelAtPeriodEnd,
		CollectionPaused: s.PauseCollection != nil && s.PauseCollection.Behavior != "", Created: at(s.Created)}
	for _, i := range s.Items.Data {
		if i.Price == nil || i.Price.Recurring == nil {
			continue
		}
		if i.Price.Recurring.UsageType == "metered" {
			out.Metered = append(out.Metered, MeteredItem{i.ID, i.Price.ID, i.Price.UnitAmount})
			continue
		}
		out.Item, out.Price, out.Quantity, out.UnitAmount, out.Interval = i.ID, i.Price.ID, i.Quantity, i.Price.UnitAmount, string(i.Price.Recurring.Interval)
		if i.Price.Product != nil {
			out.Product = i.Price.Product.ID
		}
	}
	if s.LatestInvoice != nil {
		out.LatestInvoice = s.LatestInvoice.ID
	}
	if s.PendingUpdate != nil {
		out.PendingUntil = at(s.PendingUpdate.ExpiresAt)
	}
	if s.Discount != nil && s.Discount.Coupon != nil {
		if out.Discount = s.Discount.Coupon.Name; out.Discount == "" {
			out.Discount = s.Discount.Coupon.ID
		}
	}
	if sch := s.Schedule; sch != nil {
		out.Schedule = sch.ID
		for _, ph := range sch.Phases {
			if ph.StartDate >= s.CurrentPeriodEnd && len(ph.Items) > 0 && ph.Items[0].Price != nil { // seats come first
				out.NextPrice, out.NextQuantity, out.NextAt = ph.Items[0].Price.ID, ph.Items[0].Quantity, at(ph.StartDate)
				break
			}
		}
	}
	return out
}

func invoiceOf(i *stripe.Invoice) Invoice {
	out := Invoice{ID: i.ID, Number: i.Number, Status: string(i.Status), Currency: string(i.Currency), Reason: string(i.BillingReason), HostedURL: i.HostedInvoiceURL, PDF: i.InvoicePDF,
		Subtotal: i.Subtotal, Tax: i.Tax, Total: i.Total, AmountDue: i.AmountDue, AmountPaid: i.AmountPaid, AmountRemaining: i.AmountRemaining, Attempts: i.AttemptCount,
		PeriodStart: at(i.PeriodStart), PeriodEnd: at(i.PeriodEnd), Created: at(i.Created), NextAttempt: at(i.NextPaymentAttempt)}
	if i.Subscription != nil {
		out.Subscription = i.Subscription.ID
	}
	if i.Charge != nil {
		out.Charge = i.Charge.ID
	}
	if i.StatusTransitions != nil {
		out.FinalizedAt, out.PaidAt = at(i.StatusTransitions.FinalizedAt), at(i.StatusTransitions.PaidAt)
	}
	return out
}

// Checkout is an offer to sell one subscription.
type Checkout struct {
	Customer, Tenant, Price string
	Metered                 []string // prices beside it, of what goes beyond quotas
	Quantity, TrialDays     int64
	Sequence                string // orders the offers of one tenant
	SuccessURL, CancelURL   string // the first may hold {CHECKOUT_SESSION_ID}
	Tax                     bool   // Stripe computes it
}

// Session is a Checkout that was begun.
type Session struct {
	ID, URL, Status, Customer, Sequence string
}

// CreateCheckout opens Checkout, once for a key.
func (c *Client) CreateCheckout(ctx context.Context, key string, in Checkout) (Session, error) {
	meta := map[string]string{"tenant": in.Tenant, "sequence": in.Sequence}
	p := &stripe.CheckoutSessionParams{Params: call(ctx, key), Mode: stripe.String("subscription"), Customer: &in.Customer, ClientReferenceID: &in.Tenant,
		SuccessURL: &in.SuccessURL, CancelURL: &in.CancelURL, AllowPromotionCodes: stripe.Bool(true),
		LineItems:        []*stripe.CheckoutSessionLineItemParams{{Price: &in.Price, Quantity: &in.Quantity}},
		SubscriptionData: &stripe.CheckoutSessionSubscriptionDataParams{Metadata: meta}}
	p.Metadata = meta
	for _, price := range in.Metered {
		p.LineItems = append(p.LineItems, &stripe.CheckoutSessionLineItemParams{Price: &price})
	}
	if in.TrialDays > 0 {
		p.SubscriptionData.TrialPeriodDays = &in.TrialDays
		p.SubscriptionData.TrialSettings = &stripe.CheckoutSessionSubscriptionDataTrialSettingsParams{
			EndBehavior: &stripe.CheckoutSessionSubscriptionDataTrialSettingsEndBehaviorParams{MissingPaymentMethod: stripe.String("pause")}}
		p.PaymentMethodCollection = stripe.String("if_required")
	}
	if in.Tax {
		p.AutomaticTax = &stripe.CheckoutSessionAutomaticTaxParams{Enabled: stripe.Bool(true)}
		p.TaxIDCollection = &stripe.CheckoutSessionTaxIDCollectionParams{Enabled: stripe.Bool(true)}
		p.CustomerUpdate = &stripe.CheckoutSessionCustomerUpdateParams{Address: stripe.String("auto"), Name: stripe.String("auto")}
	}
	out, err := checkout.Client{B: c.be, Key: c.key}.New(p)
	if err != nil {
		return Session{}, failed(err)
	}
	return sessionOf(out), nil
}

func sessionOf(s *stripe.CheckoutSession) Session {
	out := Session{ID: s.ID, URL: s.URL, Status: string(s.Status), Sequence: s.Metadata["sequence"]}
	if s.Customer != nil {
		out.Customer = s.Customer.ID
	}
	return out
}

// Session reads a Checkout.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	out, err := checkout.Client{B: c.be, Key: c.key}.Get(id, &stripe.CheckoutSessionParams{Params: call(ctx, "")})
	if err != nil {
		return Session{}, failed(err)
	}
	return sessionOf(out), nil
}

// OpenSessions are the offers that a customer could still take.
func (c *Client) OpenSessions(ctx context.Context, customer string) (out []Session, err error) {
	list := checkout.Client{B: c.be, Key: c.key}.List(&stripe.CheckoutSessionListParams{ListParams: pages(ctx), Customer: &customer})
	for list.Next() {
		if s := sessionOf(list.CheckoutSession()); s.Status == "open" {
			out = append(out, s)
		}
	}
	return out, failed(list.Err())
}

// Expire takes an offer back. One that is no longer open stays as it is.
func (c *Client) Expire(ctx context.Context, session string) error {
	_, err := checkout.Client{B: c.be, Key: c.key}.Expire(session, &stripe.CheckoutSessionExpireParams{Params: call(ctx, session+":expire")})
	var refused *Refused
	if err = failed(err); errors.As(err, &refused) {
		return nil
	}
	return err
}

// Portal opens Stripe's customer portal: card, tax id and invoices.
func (c *Client) Portal(ctx context.Context, customer, returnURL string) (string, error) {
	out, err := portal.Client{B: c.be, Key: c.key}.New(&stripe.BillingPortalSessionParams{Params: call(ctx, ""), Customer: &customer, ReturnURL: &returnURL})
	if err != nil {
		return "", failed(err)
	}
	return out.URL, nil
}

// Change moves a subscription to a price and a quantity.
type Change struct {
	Customer, Subscription, Item, Price string
	Quantity                            int64
	Add                                 []string  // prices of what goes beyond quotas, that the subscription has not yet
	Drop                                []string  // metered items that go, with what they count
	Keep                                []string  // prices of the metered items that it has
	At                                  time.Time // the second that prorations are counted from; zero is Stripe's now
}

func (in Change) items() []*stripe.SubscriptionItemsParams {
	out := []*stripe.SubscriptionItemsParams{{ID: &in.Item, Price: &in.Price, Quantity: &in.Quantity}}
	for _, price := range in.Add {
		out = append(out, &stripe.SubscriptionItemsParams{Price: &price})
	}
	for _, item := range in.Drop {
		out = append(out, &stripe.SubscriptionItemsParams{ID: &item, Deleted: stripe.Bool(true), ClearUsage: stripe.Bool(true)})
	}
	return out
}

// phase is what a subscription has for a while: seats, then what is metered.
func phase(price string, seats int64, metered []string) (out []*stripe.SubscriptionSchedulePhaseItemParams) {
	out = append(out, &stripe.SubscriptionSchedulePhaseItemParams{Price: &price, Quantity: &seats})
	for _, m := range metered {
		out = append(out, &stripe.SubscriptionSchedulePhaseItemParams{Price: &m})
	}
	return out
}

// Line of a preview.
type Line struct {
	Text   string
	Amount int64
}

// Preview is what a change costs now.
type Preview struct {
	Currency                string
	AmountDue, Total, Tax   int64
	Lines                   []Line
	At                      time.Time // to be given back with the change, which then costs the same
	StartingBalance, Credit int64
}

// Preview computes the invoice that Change would make.
func (c *Client) Preview(ctx context.Context, in Change) (Preview, error) {
	p := &stripe.InvoiceUpcomingParams{Params: call(ctx, ""), Customer: &in.Customer, Subscription: &in.Subscription, SubscriptionProrationBehavior: stripe.String("always_invoice"),
		SubscriptionItems: in.items()}
	if !in.At.IsZero() {
		p.SubscriptionProrationDate = stripe.Int64(in.At.Unix())
	}
	i, err := invoice.Client{B: c.be, Key: c.key}.Upcoming(p)
	if err != nil {
		return Preview{}, failed(err)
	}
	out := Preview{Currency: string(i.Currency), AmountDue: i.AmountDue, Total: i.Total, Tax: i.Tax, At: at(i.SubscriptionProrationDate), StartingBalance: i.StartingBalance}
	if out.At.IsZero() {
		out.At = in.At
	}
	for _, l := range i.Lines.Data {
		out.Lines = append(out.Lines, Line{l.Description, l.Amount})
	}
	return out, nil
}

// Change upgrades at once; the new price is in force only when it is paid. It
// answers the invoice that is to be paid by hand, where there is one.
func (c *Client) Change(ctx context.Context, key string, in Change) (pay Invoice, err error) {
	p := &stripe.SubscriptionParams{Params: call(ctx, key), ProrationBehavior: stripe.String("always_invoice"), PaymentBehavior: stripe.String("pending_if_incomplete"),
		Items: in.items()}
	if !in.At.IsZero() {
		p.ProrationDate = stripe.Int64(in.At.Unix())
	}
	p.AddExpand("latest_invoice")
	out, err := subscription.Client{B: c.be, Key: c.key}.Update(in.Subscription, p)
	if err != nil {
		return pay, failed(err)
	}
	if out.LatestInvoice != nil && out.LatestInvoice.Status == "open" {
		pay = invoiceOf(out.LatestInvoice)
	}
	return pay, nil
}

// ChangeLater moves a subscription at the end of its period, without proration:
// until then it has in.Keep beside its seats, and from then on in.Add.
func (c *Client) ChangeLater(ctx context.Context, key string, sub Subscription, in Change) error {
	schedules := subscriptionschedule.Client{B: c.be, Key: c.key}
	id := sub.Schedule
	if id == "" {
		made, err := schedules.New(&stripe.SubscriptionScheduleParams{Params: call(ctx, key+":schedule"), FromSubscription: &sub.ID})
		if err != nil {
			return failed(err)
		}
		id = made.ID
	}
	now, err := schedules.Get(id, &stripe.SubscriptionScheduleParams{Params: call(ctx, "")})
	if err != nil {
		return failed(err)
	}
	if len(now.Phases) == 0 || now.CurrentPhase == nil {
		return errors.New("stripe: a schedule without a phase")
	}
	start, end := now.CurrentPhase.StartDate, now.CurrentPhase.EndDate
	_, err = schedules.Update(id, &stripe.SubscriptionScheduleParams{Params: call(ctx, key+":phases"), EndBehavior: stripe.String("release"), Phases: []*stripe.SubscriptionSchedulePhaseParams{
		{StartDate: &start, EndDate: &end, Items: phase(sub.Price, sub.Quantity, in.Keep)},
		{Iterations: stripe.Int64(1), ProrationBehavior: stripe.String("none"), Items: phase(in.Price, in.Quantity, in.Add)}}})
	return failed(err)
}

// Release drops what was planned for the end of the period.
func (c *Client) Release(ctx context.Context, schedule string) error {
	_, err := subscriptionschedule.Client{B: c.be, Key: c.key}.Release(schedule, &stripe.SubscriptionScheduleReleaseParams{Params: call(ctx, schedule+":release")})
	return failed(err)
}

// CancelAtPeriodEnd plans the end of a subscription, or takes that back.
func (c *Client) CancelAtPeriodEnd(ctx context.Context, key, sub string, cancel bool) error {
	_, err := subscription.Client{B: c.be, Key: c.key}.Update(sub, &stripe.SubscriptionParams{Params: call(ctx, key), CancelAtPeriodEnd: &cancel})
	return failed(err)
}

// Cancel ends a subscription now. What was used is invoiced first: a bare
// cancel drops it.
func (c *Client) Cancel(ctx context.Context, sub string) error {
	_, err := subscription.Client{B: c.be, Key: c.key}.Cancel(sub, &stripe.SubscriptionCancelParams{Params: call(ctx, ""), InvoiceNow: stripe.Bool(true)})
	if err = failed(err); IsMissing(err) {
		return nil // it has ended already
	}
	return err
}

// Resume ends the pause after a trial that had no card. It stays paused where the
// card that there is now does not pay.
func (c *Client) Resume(ctx context.Context, key, sub string) (paused bool, err error) {
	s, err := subscription.Client{B: c.be, Key: c.key}.Resume(sub, &stripe.SubscriptionResumeParams{Params: call(ctx, key), BillingCycleAnchor: stripe.String("now")})
	if err != nil {
		return true, failed(err)
	}
	return s.Status == stripe.SubscriptionStatusPaused, nil
}

// Refund gives back amount of a charge.
func (c *Client) Refund(ctx context.Context, key, charge string, amount int64) error {
	_, err := refund.Client{B: c.be, Key: c.key}.New(&stripe.RefundParams{Params: call(ctx, key), Charge: &charge, Amount: &amount, Reason: stripe.String("requested_by_customer")})
	return failed(err)
}

// Credit gives a customer money towards its next invoices.
func (c *Client) Credit(ctx context.Context, key, id, currency string, amount int64, text string) error {
	_, err := customerbalancetransaction.Client{B: c.be, Key: c.key}.New(&stripe.CustomerBalanceTransactionParams{Params: call(ctx, key), Customer: &id,
		Currency: &currency, Amount: stripe.Int64(-amount), Description: &text})
	return failed(err)
}

// Price of the catalogue at Stripe.
type Price struct {
	ID, Product, Currency, Interval, LookupKey string
	Amount                                     int64
	Active                                     bool
	Metered                                    bool   // by the package, in arrears; else by the seat, in advance
	Meter                                      string // Stripe's meter, whose events count; "" counts usage records
}

// Product of the catalogue at Stripe.
type Product struct {
	ID, Name string
	Active   bool
}

// Catalogue reads the products, and the prices that have a lookup key of ours.
func (c *Client) Catalogue(ctx context.Context) (products []Product, prices []Price, err error) {
	list := product.Client{B: c.be, Key: c.key}.List(&stripe.ProductListParams{ListParams: pages(ctx)})
	for list.Next() {
		p := list.Product()
		products = append(products, Product{p.ID, p.Name, p.Active})
	}
	if list.Err() != nil {
		return nil, nil, failed(list.Err())
	}
	all := price.Client{B: c.be, Key: c.key}.List(&stripe.PriceListParams{ListParams: pages(ctx)})
	for all.Next() {
		p := all.Price()
		x := Price{ID: p.ID, Currency: string(p.Currency), LookupKey: p.LookupKey, Amount: p.UnitAmount, Active: p.Active}
		if p.Product != nil {
			x.Product = p.Product.ID
		}
		if p.Recurring != nil {
			x.Interval, x.Metered, x.Meter = string(p.Recurring.Interval), p.Recurring.UsageType == "metered", p.Recurring.Meter
		}
		prices = append(prices, x)
	}
	return products, prices, failed(all.Err())
}

// PutProduct makes the product or gives it its name.
func (c *Client) PutProduct(ctx context.Context, p Product, exists bool) error {
	client := product.Client{B: c.be, Key: c.key}
	var err error
	if exists {
		_, err = client.Update(p.ID, &stripe.ProductParams{Params: call(ctx, ""), Name: &p.Name, Active: &p.Active})
	} else {
		_, err = client.New(&stripe.ProductParams{Params: call(ctx, p.ID+":product"), ID: &p.ID, Name: &p.Name})
	}
	return failed(err)
}

// CreatePrice makes a price, which takes its lookup key from the one before it.
func (c *Client) CreatePrice(ctx context.Context, key string, p Price) (string, error) {
	recurring := &stripe.PriceRecurringParams{Interval: &p.Interval}
	if p.Metered {
		recurring.UsageType = stripe.String("metered")
	}
	if p.Meter != "" {
		recurring.Meter = &p.Meter
	}
	out, err := price.Client{B: c.be, Key: c.key}.New(&stripe.PriceParams{Params: call(ctx, key), Product: &p.Product, Currency: &p.Currency, UnitAmount: &p.Amount,
		LookupKey: &p.LookupKey, TransferLookupKey: stripe.Bool(true), Recurring: recurring})
	if err != nil {
		return "", failed(err)
	}
	return out.ID, nil
}

// ArchivePrice ends the sale of a price; who pays it goes on paying it.
func (c *Client) ArchivePrice(ctx context.Context, id string) error {
	_, err := price.Client{B: c.be, Key: c.key}.Update(id, &stripe.PriceParams{Params: call(ctx, ""), Active: stripe.Bool(false)})
	return failed(err)
}

// Event is a hint that something changed at Stripe. Nothing in it is believed
// but whose it is.
type Event struct {
	ID, Type, Customer, Object string
	Charge                     string // of a dispute or refund, which do not say whose they are
	Invoice                    string // that it is about, itself or through its charge, payment or credit note
	Created                    time.Time
	Live                       bool
}

func eventOf(e *stripe.Event) Event {
	out := Event{ID: e.ID, Type: string(e.Type), Created: at(e.Created), Live: e.Livemode}
	if e.Data == nil {
		return out
	}
	out.Object, _ = e.Data.Object["id"].(string)
	switch c := e.Data.Object["customer"].(type) {
	case string:
		out.Customer = c
	case map[string]any:
		out.Customer, _ = c["id"].(string)
	}
	out.Charge, _ = e.Data.Object["charge"].(string)
	out.Invoice, _ = e.Data.Object["invoice"].(string)
	if e.Data.Object["object"] == "invoice" {
		out.Invoice = out.Object
	}
	if e.Data.Object["object"] == "customer" {
		out.Customer = out.Object
	}
	return out
}

// Charged says whose a charge is, and for which invoice.
func (c *Client) Charged(ctx context.Context, id string) (customer, invoice string, err error) {
	out, err := charge.Client{B: c.be, Key: c.key}.Get(id, &stripe.ChargeParams{Params: call(ctx, "")})
	if err != nil {
		return "", "", failed(err)
	}
	if out.Customer != nil {
		customer = out.Customer.ID
	}
	if out.Invoice != nil {
		invoice = out.Invoice.ID
	}
	return customer, invoice, nil
}

// Events are those made since, oldest first; Stripe keeps them for 30 days.
func (c *Client) Events(ctx context.Context, since time.Time) (out []Event, err error) {
	list := event.Client{B: c.be, Key: c.key}.List(&stripe.EventListParams{ListParams: pages(ctx), CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()}})
	for list.Next() {
		out = append(out, eventOf(list.Event()))
	}
	slices.Reverse(out)
	return out, failed(list.Err())
}

var _ = domain.Chinese(map[string]string{
	"The payment service does not answer now.":                             "支付服务暂时没有响应。",
	"The payment service does not accept our key.":                         "支付服务不接受我们的密钥。",
	"The payment was not accepted. Please check the card, or use another.": "付款未被接受。请检查银行卡，或换一张卡。",
})
