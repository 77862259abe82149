package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/chainreactions/chainreactions/app/sandbox/stripe/conform"
)

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC) // a day that February has not

const secret = "whsec_test"

// desk is a sandbox with stripe-go in front of it and an endpoint behind it.
type desk struct {
	*testing.T
	*Server
	url    string
	api    *client.API
	mu     sync.Mutex
	now    time.Time
	events []stripe.Event
	refuse bool // the endpoint answers 500
}

func newDesk(t *testing.T, c Config) *desk {
	d := &desk{T: t, now: start}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		ev, err := webhook.ConstructEventWithOptions(body, r.Header.Get("Stripe-Signature"), secret, webhook.ConstructEventOptions{IgnoreTolerance: true})
		d.mu.Lock()
		defer d.mu.Unlock()
		if err != nil || d.refuse {
			if err != nil {
				t.Errorf("webhook: %v", err)
			}
			w.WriteHeader(500)
			return
		}
		d.events = append(d.events, ev)
	}))
	t.Cleanup(hook.Close)
	c.WebhookURL, c.WebhookSecret = hook.URL, secret
	if c.Seed == 0 {
		c.Seed = 7
	}
	c.Now = func() time.Time { d.mu.Lock(); defer d.mu.Unlock(); return d.now }
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	d.Server = s
	srv := httptest.NewServer(conform.Between(t, s))
	t.Cleanup(srv.Close)
	d.url = srv.URL
	be := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{URL: stripe.String(srv.URL), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}})
	d.api = client.New("sk_test_sandbox", &stripe.Backends{API: be, Connect: be, Uploads: be})
	return d
}

func must[T any](d *desk) func(v T, err error) T {
	return func(v T, err error) T {
		d.Helper()
		if err != nil {
			d.Fatal(err)
		}
		return v
	}
}

// later lets time go by.
func (d *desk) later(by time.Duration) {
	d.mu.Lock()
	d.now = d.now.Add(by)
	d.mu.Unlock()
	d.Settle()
}

// kinds delivers what waits and gives the types of all events so far.
func (d *desk) kinds() (out []string) {
	d.Helper()
	if err := d.Deliver(context.Background(), Fate{}); err != nil {
		d.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		out = append(out, string(e.Type))
	}
	return out
}

func (d *desk) wants(kinds ...string) {
	d.Helper()
	got := d.kinds()
	for _, k := range kinds {
		if !slices.Contains(got, k) {
			d.Errorf("no event %s among %v", k, got)
		}
	}
}

func (d *desk) price(amount int64, currency, interval string) *stripe.Price {
	d.Helper()
	product := must[*stripe.Product](d)(d.api.Products.New(&stripe.ProductParams{Name: stripe.String("Pro")}))
	return must[*stripe.Price](d)(d.api.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: &currency, UnitAmount: &amount,
		Recurring: &stripe.PriceRecurringParams{Interval: &interval}}))
}

func (d *desk) customer(pm string) *stripe.Customer {
	d.Helper()
	p := &stripe.CustomerParams{Email: stripe.String("owner@example.com")}
	if pm != "" {
		p.PaymentMethod = &pm
	}
	c := must[*stripe.Customer](d)(d.api.Customers.New(p))
	if pm != "" {
		list := d.api.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: &c.ID, Type: stripe.String("card")})
		for list.Next() {
			must[*stripe.Customer](d)(d.api.Customers.Update(c.ID, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &list.PaymentMethod().ID}}))
		}
	}
	return c
}

func (d *desk) subscribe(c *stripe.Customer, price *stripe.Price, quantity int64, more ...func(*stripe.SubscriptionParams)) *stripe.Subscription {
	d.Helper()
	p := &stripe.SubscriptionParams{Customer: &c.ID, Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID, Quantity: &quantity}}}
	for _, f := range more {
		f(p)
	}
	return must[*stripe.Subscription](d)(d.api.Subscriptions.New(p))
}

func (d *desk) sub(id string) *stripe.Subscription {
	d.Helper()
	p := &stripe.SubscriptionParams{}
	p.AddExpand("latest_invoice.payment_intent")
	return must[*stripe.Subscription](d)(d.api.Subscriptions.Get(id, p))
}

// post fills in a page's form and follows nothing.
func (d *desk) post(page string, form url.Values) (int, string, string) {
	d.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.PostForm(page, form)
	if err != nil {
		d.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, res.Header.Get("Location"), string(body)
}

func (d *desk) checkout(c *stripe.Customer, price *stripe.Price, more ...func(*stripe.CheckoutSessionParams)) *stripe.CheckoutSession {
	d.Helper()
	p := &stripe.CheckoutSessionParams{Mode: stripe.String("subscription"), Customer: &c.ID, ClientReferenceID: stripe.String("ten_1"),
		LineItems:  []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}},
		SuccessURL: stripe.String("https://example.com/done?s={CHECKOUT_SESSION_ID}"), CancelURL: stripe.String("https://example.com/no"),
		SubscriptionData: &stripe.CheckoutSessionSubscriptionDataParams{Metadata: map[string]string{"tenant": "ten_1"}}}
	for _, f := range more {
		f(p)
	}
	return must[*stripe.CheckoutSession](d)(d.api.CheckoutSessions.New(p))
}

// Checkout sells a subscription: one customer, one subscription, one charge,
// and the events in the order in which Stripe sends them.
func TestCheckoutSells(t *testing.T) {
	d := newDesk(t, Config{})
	price, cus := d.price(2900, "usd", "month"), d.customer("")
	s := d.checkout(cus, price)
	if status, _, body := d.post(s.URL, url.Values{"action": {"pay"}, "number": {"4000000000000002"}}); status != 200 || !strings.Contains(body, "declined") {
		t.Fatalf("a declined card: %d %s", status, body)
	}
	status, to, _ := d.post(s.URL, url.Values{"action": {"pay"}, "number": {"4242 4242 4242 4242"}})
	if status != 303 || to != "https://example.com/done?s="+s.ID {
		t.Fatalf("paid: %d, sent to %s", status, to)
	}
	p := &stripe.CheckoutSessionParams{}
	p.AddExpand("subscription")
	got := must[*stripe.CheckoutSession](d)(d.api.CheckoutSessions.Get(s.ID, p))
	if got.Status != "complete" || got.PaymentStatus != "paid" || got.Subscription.Status != "active" || got.Subscription.Metadata["tenant"] != "ten_1" {
		t.Errorf("%+v %+v", got.Status, got.Subscription)
	}
	if end := time.Unix(got.Subscription.CurrentPeriodEnd, 0).UTC(); !end.Equal(time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("a month from 31 January ends on %s", end)
	}
	kinds := d.kinds()
	order := []string{"customer.subscription.created", "invoice.paid", "customer.subscription.updated", "checkout.session.completed"}
	at := -1
	for _, k := range order {
		next := slices.Index(kinds, k)
		if next <= at {
			t.Errorf("%s stands at %d of %v", k, next, kinds)
		}
		at = next
	}
	n := 0
	for list := d.api.Charges.List(&stripe.ChargeListParams{Customer: &cus.ID}); list.Next(); {
		n++
	}
	if n != 1 {
		t.Errorf("%d charges", n)
	}
}

// The outcomes of a first payment: 3-D Secure that is confirmed or left, a bank
// debit that comes or bounces days later.
func TestFirstPayments(t *testing.T) {
	d := newDesk(t, Config{})
	price := d.price(2900, "usd", "month")
	buy := func(number string) (*stripe.CheckoutSession, func() *stripe.CheckoutSession) {
		s := d.checkout(d.customer(""), price)
		d.post(s.URL, url.Values{"action": {"pay"}, "number": {number}})
		return s, func() *stripe.CheckoutSession {
			p := &stripe.CheckoutSessionParams{}
			p.AddExpand("subscription")
			return must[*stripe.CheckoutSession](d)(d.api.CheckoutSessions.Get(s.ID, p))
		}
	}
	s, now := buy("4000002760003184")
	if now().Status != "open" {
		t.Error("3-D Secure was passed without being asked")
	}
	if status, _, _ := d.post(s.URL, url.Values{"action": {"authenticate"}}); status != 303 || now().Subscription.Status != "active" {
		t.Errorf("confirmed: %d", status)
	}
	abandoned, _ := buy("4000002760003184")
	_, comes := buy("000123456789")
	_, bounces := buy("000111111116")
	if comes().PaymentStatus != "unpaid" || comes().Status != "complete" || comes().Subscription.Status != "incomplete" {
		t.Errorf("a bank debit on its way: %+v", comes())
	}
	var left *stripe.Subscription
	for list := d.api.Subscriptions.List(&stripe.SubscriptionListParams{Customer: &abandoned.Customer.ID}); list.Next(); {
		left = list.Subscription()
	}
	if left == nil || left.Status != "incomplete" {
		t.Fatalf("an unconfirmed payment left %+v", left)
	}
	d.later(23 * time.Hour)
	if got := d.sub(left.ID); got.Status != "incomplete_expired" || got.LatestInvoice.Status != "void" {
		t.Errorf("after 23 hours: %s, %s", got.Status, got.LatestInvoice.Status)
	}
	_ = bounces
	d.wants("invoice.payment_action_required", "payment_intent.processing", "checkout.session.completed")
}

// Upgrades are billed to the second, previewed to the cent, and wait for their
// payment where they are asked to.
func TestChangeOfPlan(t *testing.T) {
	d := newDesk(t, Config{})
	pro, business := d.price(2900, "usd", "month"), d.price(9900, "usd", "month")
	cus := d.customer("pm_card_visa")
	sub := d.subscribe(cus, pro, 1)
	d.later(14 * 24 * time.Hour)
	at := d.now.Unix()
	items := []*stripe.SubscriptionItemsParams{{ID: &sub.Items.Data[0].ID, Price: &business.ID, Quantity: stripe.Int64(2)}}
	preview := must[*stripe.Invoice](d)(d.api.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &cus.ID, Subscription: &sub.ID, SubscriptionItems: items,
		SubscriptionProrationDate: &at, SubscriptionProrationBehavior: stripe.String("always_invoice")}))
	// 14 of 28 days are left: half of 2 × 99.00 less half of 29.00.
	if preview.AmountDue != 9900-1450 {
		t.Errorf("the preview is %d", preview.AmountDue)
	}
	d.later(10 * time.Minute)
	p := &stripe.SubscriptionParams{Items: items, ProrationBehavior: stripe.String("always_invoice"), PaymentBehavior: stripe.String("pending_if_incomplete"), ProrationDate: &at}
	p.AddExpand("latest_invoice")
	got := must[*stripe.Subscription](d)(d.api.Subscriptions.Update(sub.ID, p))
	if got.LatestInvoice.AmountPaid != preview.AmountDue || got.Items.Data[0].Price.ID != business.ID || got.Items.Data[0].Quantity != 2 {
		t.Errorf("paid %d for %+v", got.LatestInvoice.AmountPaid, got.Items.Data[0])
	}

	// A card that fails: the old plan stays in force until the payment.
	bad := must[*stripe.PaymentMethod](d)(d.api.PaymentMethods.Attach("pm_card_chargeCustomerFail", &stripe.PaymentMethodAttachParams{Customer: &cus.ID}))
	must[*stripe.Customer](d)(d.api.Customers.Update(cus.ID, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &bad.ID}}))
	more := &stripe.SubscriptionParams{Items: []*stripe.SubscriptionItemsParams{{ID: &sub.Items.Data[0].ID, Quantity: stripe.Int64(5)}},
		ProrationBehavior: stripe.String("always_invoice"), PaymentBehavior: stripe.String("pending_if_incomplete")}
	got = must[*stripe.Subscription](d)(d.api.Subscriptions.Update(sub.ID, more))
	if got.Items.Data[0].Quantity != 2 || got.PendingUpdate == nil || got.Status != "active" {
		t.Errorf("an unpaid upgrade: %+v", got)
	}
	good := must[*stripe.PaymentMethod](d)(d.api.PaymentMethods.Attach("pm_card_visa", &stripe.PaymentMethodAttachParams{Customer: &cus.ID}))
	must[*stripe.Invoice](d)(d.api.Invoices.Pay(got.LatestInvoice.ID, &stripe.InvoicePayParams{PaymentMethod: &good.ID}))
	if got = d.sub(sub.ID); got.Items.Data[0].Quantity != 5 || got.PendingUpdate != nil {
		t.Errorf("paid: %+v", got)
	}
	must[*stripe.Subscription](d)(d.api.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{Items: []*stripe.SubscriptionItemsParams{{ID: &sub.Items.Data[0].ID, Quantity: stripe.Int64(9)}},
		ProrationBehavior: stripe.String("always_invoice"), PaymentBehavior: stripe.String("pending_if_incomplete")}))
	d.later(23 * time.Hour)
	if got = d.sub(sub.ID); got.Items.Data[0].Quantity != 5 || got.PendingUpdate != nil || got.LatestInvoice.Status != "void" {
		t.Errorf("expired: %+v", got)
	}

	// A downgrade waits for the end of the period, in a schedule.
	sch := must[*stripe.SubscriptionSchedule](d)(d.api.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &sub.ID}))
	end := sch.Phases[0].EndDate
	must[*stripe.SubscriptionSchedule](d)(d.api.SubscriptionSchedules.Update(sch.ID, &stripe.SubscriptionScheduleParams{EndBehavior: stripe.String("release"), Phases: []*stripe.SubscriptionSchedulePhaseParams{
		{StartDate: &sch.Phases[0].StartDate, EndDate: &end, Items: []*stripe.SubscriptionSchedulePhaseItemParams{{Price: &business.ID, Quantity: stripe.Int64(5)}}},
		{Iterations: stripe.Int64(1), ProrationBehavior: stripe.String("none"), Items: []*stripe.SubscriptionSchedulePhaseItemParams{{Price: &pro.ID, Quantity: stripe.Int64(1)}}}}}))
	d.later(14 * 24 * time.Hour)
	if got = d.sub(sub.ID); got.Items.Data[0].Price.ID != pro.ID || got.Items.Data[0].Quantity != 1 || got.LatestInvoice.AmountDue != 2900 {
		t.Errorf("after the period: %+v, due %d", got.Items.Data[0], got.LatestInvoice.AmountDue)
	}
	d.wants("customer.subscription.pending_update_applied", "customer.subscription.pending_update_expired", "subscription_schedule.created", "subscription_schedule.updated")
}

// A renewal that fails is tried on days 0, 3, 5 and 7, and then ends as the
// account is set; a new card saves it before.
func TestDunning(t *testing.T) {
	for _, end := range []string{"canceled", "unpaid", "past_due"} {
		d := newDesk(t, Config{AfterRetries: end})
		cus := d.customer("pm_card_visa")
		sub := d.subscribe(cus, d.price(2900, "usd", "month"), 1)
		bad := must[*stripe.PaymentMethod](d)(d.api.PaymentMethods.Attach("pm_card_chargeCustomerFail", &stripe.PaymentMethodAttachParams{Customer: &cus.ID}))
		must[*stripe.Customer](d)(d.api.Customers.Update(cus.ID, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &bad.ID}}))
		d.later(28*24*time.Hour + 2*time.Hour)
		got := d.sub(sub.ID)
		if got.Status != "past_due" || got.LatestInvoice.AttemptCount != 1 {
			t.Fatalf("day 0: %s after %d", got.Status, got.LatestInvoice.AttemptCount)
		}
		d.later(8 * 24 * time.Hour)
		got = d.sub(sub.ID)
		if string(got.Status) != end || got.LatestInvoice.AttemptCount != 4 {
			t.Errorf("day 8: %s after %d, want %s after 4", got.Status, got.LatestInvoice.AttemptCount, end)
		}
		n := 0
		for _, k := range d.kinds() {
			if k == "invoice.payment_failed" {
				n++
			}
		}
		if n != 4 {
			t.Errorf("%d attempts were told of", n)
		}
		if end == "unpaid" { // paid on the hosted page with another card
			if status, _, _ := d.post(d.url+"/i/"+got.LatestInvoice.ID, url.Values{"action": {"pay"}, "number": {"4242424242424242"}}); status != 200 || d.sub(sub.ID).Status != "active" {
				t.Errorf("paid: %d %s", status, d.sub(sub.ID).Status)
			}
		}
	}
}

// A trial warns three days before its end, and ends as it was told to.
func TestTrials(t *testing.T) {
	for behavior, want := range map[string]stripe.SubscriptionStatus{"pause": "paused", "cancel": "canceled", "create_invoice": "past_due"} {
		d := newDesk(t, Config{})
		cus := d.customer("")
		sub := d.subscribe(cus, d.price(2900, "usd", "month"), 1, func(p *stripe.SubscriptionParams) {
			p.TrialPeriodDays = stripe.Int64(14)
			p.TrialSettings = &stripe.SubscriptionTrialSettingsParams{EndBehavior: &stripe.SubscriptionTrialSettingsEndBehaviorParams{MissingPaymentMethod: &behavior}}
		})
		d.later(11*24*time.Hour + time.Minute)
		d.wants("customer.subscription.trial_will_end")
		d.later(3*24*time.Hour + 2*time.Hour)
		if got := d.sub(sub.ID); got.Status != want {
			t.Errorf("%s: %s", behavior, got.Status)
		}
		if behavior == "pause" {
			pm := must[*stripe.PaymentMethod](d)(d.api.PaymentMethods.Attach("pm_card_visa", &stripe.PaymentMethodAttachParams{Customer: &cus.ID}))
			must[*stripe.Subscription](d)(d.api.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{DefaultPaymentMethod: &pm.ID}))
			if got := must[*stripe.Subscription](d)(d.api.Subscriptions.Resume(sub.ID, &stripe.SubscriptionResumeParams{BillingCycleAnchor: stripe.String("now")})); got.Status != "active" {
				t.Errorf("resumed: %s", got.Status)
			}
		}
	}
}

// What was used is billed at the period's end, late records of the last hour
// included, once however often they are sent.
func TestUsage(t *testing.T) {
	d := newDesk(t, Config{})
	product := must[*stripe.Product](d)(d.api.Products.New(&stripe.ProductParams{Name: stripe.String("Overage")}))
	metered := must[*stripe.Price](d)(d.api.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(3),
		Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month"), UsageType: stripe.String("metered"), AggregateUsage: stripe.String("last_during_period")}}))
	meter := must[*stripe.BillingMeter](d)(d.api.BillingMeters.New(&stripe.BillingMeterParams{DisplayName: stripe.String("Runs"), EventName: stripe.String("runs"),
		DefaultAggregation: &stripe.BillingMeterDefaultAggregationParams{Formula: stripe.String("sum")}}))
	cus := d.customer("pm_card_visa")
	sub := must[*stripe.Subscription](d)(d.api.Subscriptions.New(&stripe.SubscriptionParams{Customer: &cus.ID, Items: []*stripe.SubscriptionItemsParams{
		{Price: &d.price(2900, "usd", "month").ID}, {Price: &metered.ID}}}))
	item := sub.Items.Data[1].ID
	report := func(n int64) error {
		at := d.now.Unix()
		_, err := d.api.UsageRecords.New(&stripe.UsageRecordParams{SubscriptionItem: &item, Quantity: &n, Timestamp: &at, Action: stripe.String("set")})
		return err
	}
	if err := errors.Join(report(100), report(100)); err != nil {
		t.Fatal(err)
	}
	d.later(time.Hour)
	if err := report(250); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := d.api.BillingMeterEvents.New(&stripe.BillingMeterEventParams{EventName: stripe.String("runs"), Identifier: stripe.String("one"),
			Payload: map[string]string{"stripe_customer_id": cus.ID, "value": "5"}})
		_ = err // the second is refused: there is such an identifier
	}
	sums := d.api.BillingMeterEventSummaries.List(&stripe.BillingMeterEventSummaryListParams{ID: &meter.ID, Customer: &cus.ID, StartTime: stripe.Int64(start.Unix()), EndTime: stripe.Int64(start.Unix() + 86400)})
	if !sums.Next() || sums.BillingMeterEventSummary().AggregatedValue != 5 {
		t.Errorf("the meter says %+v, %v", sums.BillingMeterEventSummary(), sums.Err())
	}
	d.later(28 * 24 * time.Hour)
	if got := d.sub(sub.ID); got.LatestInvoice.AmountPaid != 2900+250*3 {
		t.Errorf("the renewal took %d", got.LatestInvoice.AmountPaid)
	}
}

// Refunds stay within the charge and away from disputes; a dispute is decided
// by Stripe's test evidence.
func TestMoneyBack(t *testing.T) {
	d := newDesk(t, Config{})
	price := d.price(2900, "usd", "month")
	sub := d.sub(d.subscribe(d.customer("pm_card_visa"), price, 1).ID)
	pi := sub.LatestInvoice.PaymentIntent.ID
	must[*stripe.Refund](d)(d.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi, Amount: stripe.Int64(900)}))
	if _, err := d.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi, Amount: stripe.Int64(2001)}); err == nil {
		t.Error("more was refunded than was left")
	}
	must[*stripe.Refund](d)(d.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi}))
	bad := d.sub(d.subscribe(d.customer("pm_card_createDispute"), price, 1).ID)
	list := d.api.Disputes.List(&stripe.DisputeListParams{PaymentIntent: &bad.LatestInvoice.PaymentIntent.ID})
	if !list.Next() || list.Dispute().Status != "needs_response" {
		t.Fatalf("%+v %v", list.Dispute(), list.Err())
	}
	if _, err := d.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &bad.LatestInvoice.PaymentIntent.ID}); err == nil {
		t.Error("a disputed charge was refunded")
	}
	won := must[*stripe.Dispute](d)(d.api.Disputes.Update(list.Dispute().ID, &stripe.DisputeParams{Evidence: &stripe.DisputeEvidenceParams{UncategorizedText: stripe.String("winning_evidence")}}))
	if won.Status != "won" {
		t.Error(won.Status)
	}
	d.wants("charge.refunded", "charge.dispute.created", "charge.dispute.closed")
}

// Coupons, balances and the currencies without cents and with mills.
func TestMoney(t *testing.T) {
	d := newDesk(t, Config{})
	half := must[*stripe.Coupon](d)(d.api.Coupons.New(&stripe.CouponParams{PercentOff: stripe.Float64(50), Duration: stripe.String("once")}))
	sub := d.subscribe(d.customer("pm_card_visa"), d.price(2999, "usd", "month"), 1, func(p *stripe.SubscriptionParams) { p.Coupon = &half.ID })
	if got := d.sub(sub.ID); got.LatestInvoice.AmountPaid != 2999-1500 || got.Discount != nil {
		t.Errorf("half of 29.99 is %d; the coupon stays: %v", got.LatestInvoice.AmountPaid, got.Discount != nil)
	}
	yen := d.subscribe(d.customer("pm_card_visa"), d.price(3000, "jpy", "month"), 1)
	kwd := d.subscribe(d.customer("pm_card_visa"), d.price(9990, "kwd", "month"), 1)
	d.later(14 * 24 * time.Hour)
	for _, s := range []*stripe.Subscription{yen, kwd} {
		p := &stripe.SubscriptionParams{Items: []*stripe.SubscriptionItemsParams{{ID: &s.Items.Data[0].ID, Quantity: stripe.Int64(2)}}, ProrationBehavior: stripe.String("always_invoice")}
		p.AddExpand("latest_invoice")
		got := must[*stripe.Subscription](d)(d.api.Subscriptions.Update(s.ID, p))
		want := map[stripe.Currency]int64{"jpy": 1500, "kwd": 9990 - 5000}[s.Currency] // half of 9.990 KWD is credited as 5.000: Stripe takes tens of mills
		if got.LatestInvoice.AmountDue != want {
			t.Errorf("%s: half a month is %d, want %d", s.Currency, got.LatestInvoice.AmountDue, want)
		}
	}
	if _, err := d.api.Prices.New(&stripe.PriceParams{Product: &kwd.Items.Data[0].Price.Product.ID, Currency: stripe.String("kwd"), UnitAmount: stripe.Int64(9995)}); err == nil {
		t.Error("a price in single mills was taken")
	}
	for amount, want := range map[int64]string{5: "KWD 0.005", 12345: "KWD 12.345", -10: "KWD −0.010"} {
		if got := money(amount, "kwd"); got != want {
			t.Errorf("%d is %q", amount, got)
		}
	}
	if got := money(500, "jpy"); got != "JPY 500" {
		t.Error(got)
	}
}

// One key is one effect; another body under it is refused.
func TestIdempotency(t *testing.T) {
	d := newDesk(t, Config{File: filepath.Join(t.TempDir(), "state.json")})
	p := func(email string) *stripe.CustomerParams {
		p := &stripe.CustomerParams{Email: &email}
		p.SetIdempotencyKey("ten_1:customer")
		return p
	}
	a := must[*stripe.Customer](d)(d.api.Customers.New(p("a@example.com")))
	b := must[*stripe.Customer](d)(d.api.Customers.New(p("a@example.com")))
	_, err := d.api.Customers.New(p("b@example.com"))
	var e *stripe.Error
	if a.ID != b.ID || !errors.As(err, &e) || e.Type != "idempotency_error" {
		t.Errorf("%s, %s, %v", a.ID, b.ID, err)
	}
	calls := d.Calls()
	if len(calls) != 3 || !calls[1].Replayed {
		t.Errorf("the call log: %+v", calls)
	}
	// What was kept survives a restart, keys included.
	again, err := New(d.Server.Config)
	if err != nil {
		t.Fatal(err)
	}
	if again.objects[a.ID].str("email") != "a@example.com" || len(again.answers) != 1 {
		t.Error("the state was not kept")
	}
}

// Lists go newest first and in whole, whatever the page; what cannot be
// expanded is an error in Stripe's shape.
func TestListsAndErrors(t *testing.T) {
	d := newDesk(t, Config{})
	var made []string
	for range 7 {
		made = append(made, d.customer("").ID)
	}
	slices.Reverse(made)
	var got []string
	p := &stripe.CustomerListParams{}
	p.Limit = stripe.Int64(3)
	for list := d.api.Customers.List(p); list.Next(); {
		got = append(got, list.Customer().ID)
	}
	if !slices.Equal(got, made) {
		t.Errorf("%v, want %v", got, made)
	}
	_, err := d.api.Customers.Get("cus_nobody", nil)
	var e *stripe.Error
	if !errors.As(err, &e) || e.HTTPStatusCode != 404 || e.Code != "resource_missing" {
		t.Errorf("%v", err)
	}
	x := &stripe.CustomerParams{}
	x.AddExpand("nothing")
	if _, err = d.api.Customers.Get(made[0], x); err == nil {
		t.Error("expanded what is not there")
	}
	cus := d.customer("pm_card_chargeCustomerFail")
	price := d.price(100, "usd", "month")
	_, err = d.api.Subscriptions.New(&stripe.SubscriptionParams{Customer: &cus.ID, PaymentBehavior: stripe.String("error_if_incomplete"), Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID}}})
	if !errors.As(err, &e) || e.HTTPStatusCode != 402 || e.Code != "card_declined" || e.DeclineCode != "generic_decline" {
		t.Errorf("%v", err)
	}
	if _, err := d.api.CreditNotes.New(&stripe.CreditNoteParams{Invoice: stripe.String("in_1")}); !errors.As(err, &e) || e.HTTPStatusCode != 404 {
		t.Errorf("an unknown route: %v", err)
	}
}

// A test clock moves its customers and nobody else.
func TestClock(t *testing.T) {
	d := newDesk(t, Config{})
	clock := must[*stripe.TestHelpersTestClock](d)(d.api.TestHelpersTestClocks.New(&stripe.TestHelpersTestClockParams{FrozenTime: stripe.Int64(start.Unix())}))
	price := d.price(2900, "usd", "month")
	cus := must[*stripe.Customer](d)(d.api.Customers.New(&stripe.CustomerParams{TestClock: &clock.ID, PaymentMethod: stripe.String("pm_card_visa")}))
	for list := d.api.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: &cus.ID, Type: stripe.String("card")}); list.Next(); {
		must[*stripe.Customer](d)(d.api.Customers.Update(cus.ID, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &list.PaymentMethod().ID}}))
	}
	sub, other := d.subscribe(cus, price, 1), d.subscribe(d.customer("pm_card_visa"), price, 1)
	year := start.AddDate(1, 0, 0).Add(2 * time.Hour).Unix()
	must[*stripe.TestHelpersTestClock](d)(d.api.TestHelpersTestClocks.Advance(clock.ID, &stripe.TestHelpersTestClockAdvanceParams{FrozenTime: &year}))
	n := 0
	for list := d.api.Invoices.List(&stripe.InvoiceListParams{Subscription: &sub.ID, Status: stripe.String("paid")}); list.Next(); {
		n++
	}
	if n != 13 { // twelve renewals beside the first
		t.Errorf("%d invoices in a year and two hours", n)
	}
	if got := d.sub(other.ID); got.CurrentPeriodEnd != other.CurrentPeriodEnd {
		t.Error("another customer aged too")
	}
}

// Cancelling at the period's end can be undone; cancelling now can not.
func TestCancel(t *testing.T) {
	d := newDesk(t, Config{})
	price := d.price(2900, "usd", "month")
	cus := d.customer("pm_card_visa")
	sub := d.subscribe(cus, price, 1)
	portal := must[*stripe.BillingPortalSession](d)(d.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: &cus.ID, ReturnURL: stripe.String("https://example.com")}))
	d.post(portal.URL, url.Values{"action": {"cancel"}, "subscription": {sub.ID}})
	if !d.sub(sub.ID).CancelAtPeriodEnd {
		t.Fatal("the portal did not cancel")
	}
	must[*stripe.Subscription](d)(d.api.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(false)}))
	d.later(29 * 24 * time.Hour)
	if got := d.sub(sub.ID); got.Status != "active" || got.CurrentPeriodStart == sub.CurrentPeriodStart {
		t.Errorf("undone, yet %s", got.Status)
	}
	must[*stripe.Subscription](d)(d.api.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)}))
	d.later(31 * 24 * time.Hour)
	if got := d.sub(sub.ID); got.Status != "canceled" || got.CancellationDetails.Reason != "cancellation_requested" {
		t.Errorf("at the end: %s", got.Status)
	}
	if _, err := d.api.Subscriptions.Cancel(sub.ID, nil); err == nil {
		t.Error("an end was left")
	}
	d.wants("customer.subscription.deleted")
}

// Whatever befalls events on their way, an endpoint that goes on listening has
// seen each of them in the end; the same seed gives the same fate.
func TestFate(t *testing.T) {
	run := func(seed uint64) []string {
		d := newDesk(t, Config{Seed: seed})
		d.subscribe(d.customer("pm_card_visa"), d.price(2900, "usd", "month"), 1)
		total := d.Waiting()
		ctx := context.Background()
		d.refuse = true
		if err := d.Deliver(ctx, Fate{}); err == nil || d.Waiting() != total {
			t.Error("what was refused was not kept")
		}
		d.refuse = false
		for range 5 {
			_ = d.Deliver(ctx, Fate{Duplicate: 0.4, Drop: 0.3, Delay: 0.3, Reorder: true})
		}
		d.Resend()
		_ = d.Deliver(ctx, Fate{})
		var ids []string
		for _, e := range d.events {
			ids = append(ids, e.ID)
		}
		once := slices.Compact(slices.Sorted(slices.Values(ids)))
		if len(once) != total || len(ids) <= total || slices.IsSorted(ids) {
			t.Errorf("seed %d: %d events arrived of %d, in %d deliveries", seed, len(once), total, len(ids))
		}
		return ids
	}
	first, second, other := run(11), run(11), run(12)
	if !slices.Equal(first, second) {
		t.Error("the same seed had another fate")
	}
	if fmt.Sprint(first) == fmt.Sprint(other) {
		t.Error("another seed had the same fate")
	}
}

// The control routes that a black-box test uses.
func TestControls(t *testing.T) {
	d := newDesk(t, Config{})
	d.customer("")
	res, err := http.Get(d.url + "/_sandbox/calls")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var calls []Call
	if err := json.NewDecoder(res.Body).Decode(&calls); err != nil || len(calls) != 1 || calls[0].Path != "/v1/customers" {
		t.Errorf("%v %+v", err, calls)
	}
}
