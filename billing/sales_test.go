package billing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sandbox "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/app/sandbox/stripe/conform"
	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// shop is a product that sells: our Sales before a Stripe on the desk, whose
// clock the test holds.
type shop struct {
	*testing.T
	db     testdb.DB
	box    *sandbox.Server
	plans  *Service
	sales  *Sales
	secret string

	handler http.Handler
	mu      sync.Mutex
	now     time.Time
	mails   []domain.Mail
	jobs    []domain.Job // survive a crash, as the queue's table does
	fails   func(r *http.Request) (before, after bool)
	calls   sync.Mutex // fails is asked by one call at a time, though a customer is read by several
	served  func(r *http.Request)
}

func (s *shop) Now() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }

// Enqueue keeps a job for work; the queue itself is tested in app/jobs.
func (s *shop) Enqueue(_ context.Context, job domain.Job, _ domain.JobOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, job)
	return nil
}

// RoundTrip carries the calls to Stripe, and loses those that a test says.
func (s *shop) RoundTrip(r *http.Request) (*http.Response, error) {
	before, after := false, false
	s.calls.Lock()
	if s.fails != nil {
		before, after = s.fails(r)
	}
	s.calls.Unlock()
	if before {
		return nil, errors.New("the process died before the call")
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, in)
	if s.served != nil {
		s.served(r)
	}
	if after {
		return nil, errors.New("the process died after the call")
	}
	return rec.Result(), nil
}

// door is where Stripe's events come in.
type door struct{ *shop }

func (d door) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if _, err := d.sales.Webhook(r.Context(), WebhookRequest{r.Header.Get("Stripe-Signature")}, r.Body); err != nil {
		w.WriteHeader(500)
	}
	return w.Result(), nil
}

// shelves are Stripe with our catalogue in it, made once for each way to count:
// every shop finds it there, so that the same seed gives the same ids.
var shelves = map[bool][]byte{}

func openShop(t *testing.T, db testdb.DB) *shop { return openShopWith(t, db, 9) }

func openShopWith(t *testing.T, db testdb.DB, seed uint64, change ...func(*SalesConfig)) *shop {
	t.Helper()
	s := &shop{T: t, db: db, now: time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC), secret: "whsec_1"}
	var conf SalesConfig
	for _, f := range change {
		f(&conf)
	}
	shelf := filepath.Join(t.TempDir(), "stripe.json")
	stocked := shelves[conf.Records] != nil
	if stocked {
		if err := os.WriteFile(shelf, shelves[conf.Records], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	s.box, err = sandbox.New(sandbox.Config{File: shelf, Seed: seed, URL: "http://stripe.test", WebhookSecret: s.secret, Now: s.Now, Client: &http.Client{Transport: door{s}}})
	if err != nil {
		t.Fatal(err)
	}
	s.box.File = ""                   // what follows is not kept
	if s.handler = s.box; seed == 9 { // of many histories, calls are not held against Stripe's description
		s.handler = conform.Between(t, s.box)
	}
	log := slog.New(slog.DiscardHandler)
	trail := audit.New(audit.Config{Store: db.Store, SecretKey: bytes.Repeat([]byte("k"), 32), Dir: t.TempDir()})
	if s.plans, err = New(context.Background(), Config{Store: db.Store, Audit: trail, Logger: log, Now: s.Now}); err != nil {
		t.Fatal(err)
	}
	conf = SalesConfig{Records: conf.Records, Store: db.Store, Audit: trail, Queue: s, Plans: s.plans, Secrets: []string{"whsec_0", s.secret}, Sandbox: true, Portal: "https://app.test", Logger: log, Now: s.Now,
		Stripe: stripe.New(stripe.Config{Key: "sk_test_1", BaseURL: "http://stripe.test", HTTP: &http.Client{Transport: s}}),
		Mail:   func(_ context.Context, m domain.Mail) error { s.mails = append(s.mails, m); return nil },
		Payers: func(context.Context, string) ([]Recipient, error) {
			return []Recipient{{"usr_owner", "owner@example.com", "en"}}, nil
		},
		Payer: func(context.Context) (string, string, error) { return "Acme", "owner@example.com", nil }}
	for _, f := range change {
		f(&conf)
	}
	s.sales = NewSales(conf)
	if _, err := s.sales.SyncCatalogue(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	if !stocked {
		s.box.File = shelf
		s.box.Settle()
		s.box.File = ""
		if shelves[conf.Records], err = os.ReadFile(shelf); err != nil {
			t.Fatal(err)
		}
		return openShopWith(t, db, seed, change...)
	}
	s.box.WebhookURL = "http://hook.test" // from now on: what the catalogue says concerns no customer
	return s
}

// later lets time pass, at Stripe too.
func (s *shop) later(d time.Duration) {
	s.mu.Lock()
	s.now = s.now.Add(d)
	s.mu.Unlock()
	s.box.Settle()
}

// work does the jobs that wait.
func (s *shop) work() {
	s.Helper()
	for {
		s.mu.Lock()
		jobs := s.jobs
		s.jobs = nil
		s.mu.Unlock()
		if len(jobs) == 0 {
			return
		}
		for _, job := range jobs {
			var err error
			switch job := job.(type) {
			case SyncJob:
				err = s.sales.RunSync(context.Background(), job)
			case AlertJob:
				err = s.sales.RunAlert(context.Background(), job)
			}
			if err != nil {
				s.Fatal(err)
			}
		}
	}
}

// deliver brings every event that waits, and works it.
func (s *shop) deliver() {
	s.Helper()
	if err := s.box.Deliver(context.Background(), sandbox.Fate{}); err != nil {
		s.Fatal(err)
	}
	s.work()
}

// form fills in a page of Stripe's.
func (s *shop) form(page string, form url.Values) int {
	s.Helper()
	r := httptest.NewRequest("POST", strings.TrimPrefix(page, "http://stripe.test"), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.box.ServeHTTP(w, r)
	return w.Code
}

func (s *shop) pays(page string) {
	s.Helper()
	if code := s.form(page, url.Values{"action": {"pay"}, "number": {"4242424242424242"}}); code != 303 {
		s.Fatalf("paying: %d", code)
	}
}

// card makes the customer of the tenant pay with another card from now on.
func (s *shop) card(tenant, number string) {
	s.Helper()
	link := need(s.sales.OpenPortal(s.db.In(tenant), struct{}{}))(s)
	if code := s.form(link.URL, url.Values{"action": {"pay"}, "number": {number}}); code != 200 {
		s.Fatalf("the portal: %d", code)
	}
}

func need[T any](v T, err error) func(s *shop) T {
	return func(s *shop) T {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
		return v
	}
}

func (s *shop) buy(tenant, plan string, seats int64) {
	s.Helper()
	s.pays(need(s.sales.Checkout(s.db.In(tenant), CheckoutRequest{Plan: plan, Interval: "month", Quantity: seats}))(s).URL)
}

// has checks what a tenant may use now.
func (s *shop) has(tenant, plan string, seats int64, inactive string) {
	s.Helper()
	s.plans.forgetAll()
	p, err := s.plans.Entitlements(s.db.In(tenant))
	if err != nil || p.Name != plan || p.Levels["seats"] != seats || p.Inactive != inactive {
		s.Errorf("%s, %d seats, inactive %q, %v; want %s, %d, %q", p.Name, p.Levels["seats"], p.Inactive, err, plan, seats, inactive)
	}
}

func (s *shop) count(table string) (n int64) {
	s.Helper()
	err := s.db.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		return s.db.SQL(ctx, "SELECT count(*) FROM "+table, nil).Scan(&n).Error
	})
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// A purchase is in force when the buyer comes back, whatever webhooks do; what
// they say later, however often, changes nothing. The other tenant has nothing.
func TestBuying(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		a := db.In(db.A)
		s.has(db.A, "free", 2, "")
		link := need(s.sales.Checkout(a, CheckoutRequest{Plan: "pro", Interval: "month", Quantity: 3}))(s)
		if !link.Sandbox {
			t.Error("not marked as the sandbox")
		}
		s.pays(link.URL)
		s.has(db.A, "free", 2, "")
		got := need(s.sales.Refresh(a, struct{}{}))(s)
		if got.Plan != "pro" || got.Source != "subscription" || got.Current.Status != "active" || got.Current.Quantity != 3 || got.Current.UnitAmount != 4900 || got.Card.Last4 != "4242" {
			t.Errorf("%+v %+v", got, got.Current)
		}
		s.has(db.A, "pro", 3, "")
		s.has(db.B, "free", 2, "")
		events := s.box.Waiting()
		s.deliver()
		if n := s.count("stripe_events WHERE status IN ('done', 'ignored')"); n != int64(events) {
			t.Errorf("%d of %d events are done", n, events)
		}
		again := need(s.sales.Subscription(a, struct{}{}))(s)
		if x, y := need(json.Marshal(got))(s), need(json.Marshal(again))(s); !bytes.Equal(x, y) {
			t.Errorf("the events changed something:\n%s\n%s", x, y)
		}
		invoices := need(s.sales.Invoices(a, domain.PageRequest{}))(s)
		if len(invoices.Data) != 1 || invoices.Data[0].Status != "paid" || invoices.Data[0].AmountPaid != 3*4900 {
			t.Errorf("%+v", invoices)
		}
		if other := need(s.sales.Invoices(db.In(db.B), domain.PageRequest{}))(s); len(other.Data) != 0 {
			t.Error("the other tenant sees an invoice")
		}
		if _, err := s.sales.Checkout(a, CheckoutRequest{Plan: "business", Interval: "month"}); domain.CodeOf(err) != "subscription_exists" {
			t.Errorf("a second purchase: %v", err)
		}
		if _, err := s.sales.Checkout(db.In(db.B), CheckoutRequest{Plan: "enterprise", Interval: "month"}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("a plan that is not sold: %v", err)
		}
	})
}

// Without a key nothing is sold, and what there is works.
func TestWithoutAKey(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	s.sales = NewSales(SalesConfig{Store: db.Store, Audit: s.sales.Audit, Queue: s, Plans: s.plans})
	if _, err := s.sales.Checkout(db.In(db.A), CheckoutRequest{Plan: "pro", Interval: "month"}); domain.CodeOf(err) != "provider_not_configured" || domain.KindOf(err) != domain.Unavailable {
		t.Errorf("%v", err)
	}
	if got := need(s.sales.Subscription(db.In(db.A), struct{}{}))(s); got.Available || got.Plan != "free" {
		t.Errorf("%+v", got)
	}
	if err := s.plans.SetPlan(domain.System(context.Background(), "test"), db.A, "business", "operator:x", "a favour"); err != nil {
		t.Fatal(err)
	}
	s.has(db.A, "business", 25, "")
	if _, err := s.sales.Webhook(context.Background(), WebhookRequest{}, strings.NewReader("{}")); domain.KindOf(err) != domain.Malformed {
		t.Errorf("a webhook: %v", err)
	}
}

// An event that is not Stripe's leaves nothing; one that is comes in once,
// however often and by whichever secret of a roll it is signed.
func TestWebhookDoor(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		body := []byte(fmt.Sprintf(`{"id":"evt_1","object":"event","api_version":%q,"type":"invoice.paid","livemode":false,"created":%d,"data":{"object":{"id":"in_1","customer":"cus_x"}}}`, sandbox.Version, s.Now().Unix()))
		send := func(body []byte, signature string) error {
			_, err := s.sales.Webhook(context.Background(), WebhookRequest{signature}, bytes.NewReader(body))
			return err
		}
		for name, signature := range map[string]string{"none": "", "wrong secret": sandbox.Sign(body, "whsec_9", s.Now()), "six minutes old": sandbox.Sign(body, s.secret, s.Now().Add(-6*time.Minute))} {
			if err := send(body, signature); domain.KindOf(err) != domain.Malformed {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := s.count("stripe_events"); n != 0 {
			t.Errorf("%d events were stored", n)
		}
		for _, secret := range []string{"whsec_0", "whsec_1"} {
			var wg sync.WaitGroup
			for range 25 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					if err := send(body, sandbox.Sign(body, secret, s.Now())); err != nil {
						t.Error(err)
					}
				}()
			}
			wg.Wait()
		}
		if n := s.count("stripe_events"); n != 1 || len(s.jobs) != 1 {
			t.Errorf("50 deliveries are %d events and %d jobs", n, len(s.jobs))
		}
		s.work()
		inbox := need(s.sales.Inbox(context.Background(), InboxRequest{}))(s)
		if len(inbox.Data) != 1 || inbox.Data[0].Status != "ignored" { // no tenant has this customer
			t.Errorf("%+v", inbox.Data)
		}
		if err := s.sales.Replay(context.Background(), "evt_1"); err != nil || len(s.jobs) != 1 {
			t.Errorf("replay: %v", err)
		}
	})
}

// More is at once and in force when it is paid, for the previewed amount; less
// is at the period's end, with what is too much listed and kept.
func TestChanging(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		a := db.In(db.A)
		s.buy(db.A, "pro", 2)
		s.later(10 * 24 * time.Hour)
		preview := need(s.sales.Preview(a, ChangeRequest{Plan: "business"}))(s)
		// 20 of 30 days are left.
		if want := int64(2 * (19900 - 4900) * 20 / 30); preview.DueNow != want || preview.Effective != "now" || len(preview.Lines) != 2 {
			t.Errorf("%+v, want %d", preview, want)
		}
		s.later(10 * time.Minute)
		changed := need(s.sales.Change(a, ChangeRequest{Plan: "business", ProrationDate: *preview.ProrationDate}))(s)
		if changed.Plan != "business" || changed.PaymentURL != "" {
			t.Errorf("%+v", changed)
		}
		if paid := need(s.sales.Invoices(a, domain.PageRequest{}))(s).Data[0]; paid.AmountPaid != preview.DueNow {
			t.Errorf("previewed %d, paid %d", preview.DueNow, paid.AmountPaid)
		}
		s.has(db.A, "business", 2, "")

		s.card(db.A, "4000000000000341")
		changed = need(s.sales.Change(a, ChangeRequest{Quantity: 9}))(s)
		if changed.PaymentURL == "" || changed.Current.PendingUntil == nil || changed.Current.Quantity != 2 {
			t.Errorf("an upgrade that was not paid: %+v %+v", changed, changed.Current)
		}
		s.has(db.A, "business", 2, "")
		s.pays200(changed.PaymentURL)
		s.deliver()
		s.has(db.A, "business", 9, "")
		s.card(db.A, "4242424242424242")

		err := db.Tx(a, func(ctx context.Context) error { return s.plans.TakeLevel(ctx, "datasets", 12) })
		if err != nil {
			t.Fatal(err)
		}
		preview = need(s.sales.Preview(a, ChangeRequest{Plan: "pro", Quantity: 1}))(s)
		if preview.Effective != "period_end" || preview.DueNow != 0 || len(preview.Excess) != 1 || preview.Excess[0] != (Excess{"datasets", 12, 10}) {
			t.Errorf("%+v", preview)
		}
		changed = need(s.sales.Change(a, ChangeRequest{Plan: "pro", Quantity: 1}))(s)
		if changed.Plan != "business" || changed.Current.Next == nil || changed.Current.Next.Plan != "pro" {
			t.Errorf("%+v", changed.Current)
		}
		// More again: what was planned is off.
		changed = need(s.sales.Change(a, ChangeRequest{Quantity: 10}))(s)
		if changed.Current.Next != nil || changed.Current.Quantity != 10 {
			t.Errorf("%+v", changed.Current)
		}
		need(s.sales.Change(a, ChangeRequest{Plan: "pro", Quantity: 1}))(s)
		s.later(25 * 24 * time.Hour)
		s.deliver()
		s.has(db.A, "pro", 1, "")
		if err := db.Tx(a, func(ctx context.Context) error { return s.plans.TakeLevel(ctx, "datasets", 1) }); domain.CodeOf(err) != "plan_limit_reached" {
			t.Errorf("a 13th dataset on pro: %v", err)
		}
	})
}

func (s *shop) pays200(page string) {
	s.Helper()
	if code := s.form(page, url.Values{"action": {"pay"}, "number": {"4242424242424242"}}); code != 200 {
		s.Fatalf("paying an invoice: %d", code)
	}
}

// Fewer seats than are taken cannot be had.
func TestSeatsThatArePaidFor(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	s.buy(db.A, "business", 5)
	s.deliver()
	sys := domain.System(context.Background(), "test")
	take := func() error {
		return db.Tx(sys, func(ctx context.Context) error { return s.plans.Seats(ctx, db.A, 1) })
	}
	for range 5 {
		if err := take(); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(); domain.CodeOf(err) != "plan_limit_reached" {
		t.Errorf("a sixth member on five seats: %v", err)
	}
	if _, err := s.sales.Change(db.In(db.A), ChangeRequest{Quantity: 4}); domain.CodeOf(err) != "seats_in_use" {
		t.Errorf("%v", err)
	}
	need(s.sales.Change(db.In(db.A), ChangeRequest{Quantity: 6}))(s)
	if err := take(); err != nil {
		t.Errorf("the sixth, paid for: %v", err)
	}
}

// Cancelled, everything works until the end; undone, it goes on; after the end
// the tenant is free and can buy again.
func TestCancelling(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		a := db.In(db.A)
		if _, err := s.sales.Cancel(a, struct{}{}); domain.CodeOf(err) != "no_subscription" {
			t.Errorf("%v", err)
		}
		s.buy(db.A, "pro", 2)
		got := need(s.sales.Cancel(a, struct{}{}))(s)
		if !got.Current.CancelAtPeriodEnd || got.Plan != "pro" {
			t.Errorf("%+v", got.Current)
		}
		if got = need(s.sales.Undo(a, struct{}{}))(s); got.Current.CancelAtPeriodEnd {
			t.Errorf("%+v", got.Current)
		}
		s.later(31 * 24 * time.Hour)
		s.deliver()
		s.has(db.A, "pro", 2, "")
		need(s.sales.Cancel(a, struct{}{}))(s)
		s.later(31 * 24 * time.Hour)
		s.deliver()
		s.has(db.A, "free", 2, "")
		s.buy(db.A, "business", 3)
		s.deliver()
		s.has(db.A, "business", 3, "")
		if err := s.sales.End(a); err != nil {
			t.Fatal(err)
		}
		s.has(db.A, "free", 2, "")
	})
}

// A renewal that fails leaves everything as it was for the grace, then
// read-only; a payment restores it.
func TestGrace(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		s.box.AfterRetries = "past_due"
		s.buy(db.A, "pro", 2)
		s.card(db.A, "4000000000000341")
		s.later(30*24*time.Hour + 2*time.Hour)
		s.deliver()
		got := need(s.sales.Subscription(db.In(db.A), struct{}{}))(s)
		if got.Current.Status != "past_due" || got.Current.GraceUntil == nil || got.Current.PayURL == "" {
			t.Errorf("%+v", got.Current)
		}
		s.has(db.A, "pro", 2, "")
		if _, err := s.sales.Change(db.In(db.A), ChangeRequest{Quantity: 3}); domain.KindOf(err) != domain.PaymentRequired {
			t.Errorf("changed without paying: %v", err)
		}
		s.later(7 * 24 * time.Hour) // no event says so: time alone
		s.has(db.A, "pro", 2, "past_due")
		s.pays200(got.Current.PayURL)
		s.deliver()
		s.has(db.A, "pro", 2, "")
	})
}

// Two tabs: of two purchases one stays, and the money of the other comes back.
func TestTwoTabs(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	a := db.In(db.A)
	first := need(s.sales.Checkout(a, CheckoutRequest{Plan: "pro", Interval: "month"}))(s)
	second := need(s.sales.Checkout(a, CheckoutRequest{Plan: "business", Interval: "month"}))(s)
	if code := s.form(first.URL, url.Values{"action": {"pay"}, "number": {"4242424242424242"}}); code == 303 {
		t.Error("an older offer could still be taken")
	}
	s.pays(second.URL)
	// A second subscription, made behind our back in the dashboard.
	row := need(s.sales.customer(a))(s)
	price, _, err := s.sales.sold(a, "pro", "month", "usd")
	if err != nil {
		t.Fatal(err)
	}
	s.later(time.Minute)
	r := httptest.NewRequest("POST", "/v1/subscriptions", strings.NewReader(url.Values{"customer": {row.id()}, "items[0][price]": {price.ID},
		"default_payment_method": {s.onlyMethod()}}.Encode()))
	r.Header.Set("Authorization", "Bearer sk_test_1")
	w := httptest.NewRecorder()
	s.box.ServeHTTP(w, r)
	if w.Code != 200 {
		body, _ := io.ReadAll(w.Body)
		t.Fatalf("%d %s", w.Code, body)
	}
	s.deliver()
	s.has(db.A, "business", 1, "")
	var refunded, alive int64
	subs, _, err := s.sales.present(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range subs {
		if live(sub.Status) {
			alive++
		}
	}
	for _, inv := range need(s.sales.Invoices(a, domain.PageRequest{}))(s).Data {
		refunded += inv.Refunded
	}
	if alive != 1 || refunded != 4900 {
		t.Errorf("%d live, %d refunded", alive, refunded)
	}
}

func (s *shop) onlyMethod() string {
	s.Helper()
	r := httptest.NewRequest("GET", "/v1/payment_methods", nil)
	r.Header.Set("Authorization", "Bearer sk_test_1")
	w := httptest.NewRecorder()
	s.box.ServeHTTP(w, r)
	var list struct{ Data []struct{ ID string } }
	if err := json.NewDecoder(w.Body).Decode(&list); err != nil || len(list.Data) == 0 {
		s.Fatal(err)
	}
	return list.Data[0].ID
}

// A refund stays within what was paid, once however often it is asked, and is
// on the record.
func TestRefunding(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	a := db.In(db.A)
	s.buy(db.A, "pro", 1)
	s.deliver()
	inv := need(s.sales.Invoices(a, domain.PageRequest{}))(s).Data[0]
	if err := s.sales.Refund(a, inv.ID, 4901, "operator:x", "a favour"); domain.KindOf(err) != domain.Invalid {
		t.Errorf("more than was paid: %v", err)
	}
	if err := s.sales.Refund(a, inv.ID, 900, "operator:x", "a favour"); err != nil {
		t.Fatal(err)
	}
	if got := need(s.sales.Invoices(a, domain.PageRequest{}))(s).Data[0]; got.Refunded != 900 {
		t.Errorf("%d", got.Refunded)
	}
	if n := s.count("audit_events WHERE action = 'invoice.refund'"); n != 1 {
		t.Errorf("%d records", n)
	}
}

// The catalogue at Stripe is ours after one run, and a second does nothing; a
// new version archives the old prices, which those who pay them go on paying.
func TestCatalogue(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	ctx := context.Background()
	s.buy(db.A, "pro", 2)
	s.deliver()
	if changes := need(s.sales.SyncCatalogue(ctx, false))(s); len(changes) != 0 {
		t.Errorf("a second run: %v", changes)
	}
	p, err := s.plans.Plans(ctx, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	next := p.Data[1]
	next.Version, next.Quotas = 3, map[string]int64{}
	for m, n := range p.Data[1].Quotas {
		next.Quotas[m] = n / 2
	}
	next.Prices = []PlanPrice{{"usd", "month", 5900}}
	if err := s.plans.Publish(domain.System(ctx, "test"), next, "operator:x"); err != nil {
		t.Fatal(err)
	}
	s.later(2 * time.Second) // the public list is a second old at most
	dry := need(s.sales.SyncCatalogue(ctx, true))(s)
	did := need(s.sales.SyncCatalogue(ctx, false))(s)
	if len(dry) != 13 || strings.Join(dry, "\n") != strings.Join(did, "\n") { // one new price, twelve old ones
		t.Errorf("said %v, did %v", dry, did)
	}
	s.plans.forgetAll()
	if got, err := s.plans.Entitlements(db.In(db.A)); err != nil || got.Version != 2 || got.Quotas["match"] != 100_000 {
		t.Errorf("who paid for version 2 has %d: %v", got.Version, err)
	}
	if got := need(s.sales.Change(db.In(db.A), ChangeRequest{Quantity: 3}))(s); got.Current.UnitAmount != 4900 || got.Current.Quantity != 3 {
		t.Errorf("a seat more at the old price: %+v", got.Current)
	}
	s.buy(db.B, "pro", 1)
	s.deliver()
	if got, err := s.plans.Entitlements(db.In(db.B)); err != nil || got.Version != 3 {
		t.Errorf("a new customer has version %d: %v", got.Version, err)
	}
}

// A price that is not ours, and an event of a kind that nobody knows, take
// nothing away; the first is in the log for whoever watches it.
func TestUnknownPrice(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		var said bytes.Buffer
		s := openShopWith(t, db, 9)
		s.sales.Logger = slog.New(slog.NewTextHandler(&said, nil))
		s.buy(db.A, "pro", 2)
		s.deliver()
		h := &story{shop: s, tenant: db.A}
		sub := h.list("/v1/subscriptions", url.Values{})[0]
		item := sub["items"].(map[string]any)["data"].([]any)[0].(map[string]any)["id"].(string)
		product := h.list("/v1/products", url.Values{})[0]["id"].(string)
		foreign := h.stripeAPI("POST", "/v1/prices", url.Values{"product": {product}, "currency": {"usd"}, "unit_amount": {"1"}, "recurring[interval]": {"month"}})["id"].(string)
		h.stripeAPI("POST", "/v1/subscriptions/"+h.subscriptionID(), url.Values{"items[0][id]": {item}, "items[0][price]": {foreign}, "proration_behavior": {"none"}})
		s.deliver()
		s.has(db.A, "pro", 2, "")
		if !strings.Contains(said.String(), "a price that is not ours") || !strings.Contains(said.String(), foreign) {
			t.Errorf("nobody is told: %s", said.String())
		}
		body := []byte(fmt.Sprintf(`{"id":"evt_new","object":"event","api_version":%q,"type":"moon.landed","livemode":false,"created":%d,"data":{"object":{"id":"moon_1","customer":%q}}}`, sandbox.Version, s.Now().Unix(), h.customerID()))
		if _, err := s.sales.Webhook(context.Background(), WebhookRequest{sandbox.Sign(body, s.secret, s.Now())}, bytes.NewReader(body)); err != nil {
			t.Error(err)
		}
		s.work()
		s.has(db.A, "pro", 2, "")
	})
}

// What no event ever said is found by reconciliation.
func TestReconciliation(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		ctx := context.Background()
		s.buy(db.A, "pro", 2)
		if err := s.box.Deliver(ctx, sandbox.Fate{Drop: 1}); err != nil {
			t.Fatal(err)
		}
		s.has(db.A, "free", 2, "")
		if err := s.sales.Reconcile(ctx); err != nil {
			t.Fatal(err)
		}
		s.work()
		s.has(db.A, "pro", 2, "")
		before := len(s.box.Calls())
		if err := s.sales.Reconcile(ctx); err != nil {
			t.Fatal(err)
		}
		for _, call := range s.box.Calls()[before:] {
			if call.Method != "GET" {
				t.Errorf("reconciliation made the call %+v", call)
			}
		}
	})
}

// Each attempt of a payment is told once, to those who care for the bills,
// however often Stripe tells us; the last promises no other. So is a recovery.
func TestDunningMails(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		s.box.AfterRetries = "past_due"
		s.buy(db.A, "pro", 2)
		s.card(db.A, "4000000000000341")
		told := func() (out []string) {
			for _, m := range s.mails {
				out = append(out, m.Template)
			}
			return out
		}
		s.later(30*24*time.Hour + 2*time.Hour)
		for _, wait := range []time.Duration{0, 3, 2, 2} {
			s.later(wait * 24 * time.Hour)
			if err := s.box.Deliver(context.Background(), sandbox.Fate{Duplicate: 1, Reorder: true}); err != nil {
				t.Fatal(err)
			}
			s.work()
			s.work()
		}
		want := []string{"payment_failed", "payment_failed", "payment_failed", "payment_failed_last"}
		if got := told(); !slices.Equal(got, want) {
			t.Fatalf("told %v", got)
		}
		first := s.mails[0]
		if first.To != "owner@example.com" || first.Data["amount"] != "USD 98.00" || first.Data["next"] != "2026-07-04" || first.Data["grace"] != "2026-07-08" {
			t.Errorf("%+v", first)
		}
		s.pays200(need(s.sales.Subscription(db.In(db.A), struct{}{}))(s).Current.PayURL)
		s.deliver()
		if got := told(); !slices.Equal(got, append(want, "payment_recovered")) {
			t.Errorf("told %v", got)
		}
		need(s.sales.Cancel(db.In(db.A), struct{}{}))(s)
		s.later(31 * 24 * time.Hour)
		s.deliver()
		if got := told(); got[len(got)-1] != "subscription_ended" || len(got) != 6 {
			t.Errorf("told %v", got)
		}
	})
}

// Who pays by hand after the first attempt is thanked, and counts as won back.
// Stripe counts no attempt of a person's.
func TestPaidByHand(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		s.buy(db.A, "pro", 2)
		s.card(db.A, failing)
		s.later(30*days + 2*time.Hour)
		s.deliver()
		page := need(s.sales.Subscription(db.In(db.A), struct{}{}))(s)
		if b := page.Banners; len(b) != 1 || b[0].Code != "payment_failed" || b[0].Action != "update_card" {
			t.Errorf("%+v", b)
		}
		s.pays200(page.Current.PayURL)
		s.deliver()
		if n := len(s.mails); n != 2 || s.mails[1].Template != "payment_recovered" {
			t.Errorf("%+v", s.mails)
		}
		inv := need(s.sales.Invoices(db.In(db.A), domain.PageRequest{}))(s).Data[0]
		if inv.Attempts != 1 || inv.Status != "paid" {
			t.Errorf("%+v", inv)
		}
		office := &Office{Sales: s.sales}
		if p := need(office.Overview(db.In(db.B), struct{}{}))(s).Payments; p.Failed != 1 || p.Recovered != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// The end of a trial is told three days before, once.
func TestTrialMail(t *testing.T) {
	db := testdb.SQLite(t)
	s := openShop(t, db)
	s.sales.Trial = 14
	s.buy(db.A, "pro", 1)
	s.deliver()
	if len(s.mails) != 0 {
		t.Errorf("%+v", s.mails)
	}
	s.later(11*24*time.Hour + time.Minute)
	for range 3 {
		s.deliver()
		need(s.sales.Refresh(db.In(db.A), struct{}{}))(s)
	}
	if len(s.mails) != 1 || s.mails[0].Template != "trial_ends" || s.mails[0].Data["date"] != "2026-06-15" {
		t.Errorf("%+v", s.mails)
	}
}

// Amounts are shown in their currency's own decimals.
func TestMoney(t *testing.T) {
	for _, c := range []struct {
		amount   int64
		currency string
		want     string
	}{{4900, "usd", "USD 49.00"}, {5, "eur", "EUR 0.05"}, {-1999, "usd", "USD -19.99"}, {7500, "jpy", "JPY 7500"}, {15010, "kwd", "KWD 15.010"}} {
		if got := Money(c.amount, c.currency); got != c.want {
			t.Errorf("%d %s is %q, want %q", c.amount, c.currency, got, c.want)
		}
	}
}

// A plan is written as a draft, published as the next version, and archived;
// who pays for it keeps what was bought. An incomplete draft is not kept.
func TestDrafts(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		ctx := domain.System(context.Background(), "test")
		s.buy(db.A, "pro", 2)
		s.deliver()
		pro := need(s.plans.Plans(ctx, struct{}{}))(s).Data[1]
		if err := s.plans.SaveDraft(ctx, Plan{Name: "pro", Title: pro.Title}, "operator:x"); domain.KindOf(err) != domain.Invalid {
			t.Errorf("an incomplete draft: %v", err)
		}
		pro.Features = []string{"matching"}
		for range 2 { // saved again is one draft
			if err := s.plans.SaveDraft(ctx, pro, "operator:x"); err != nil {
				t.Fatal(err)
			}
		}
		team := pro
		team.Name = "team"
		if err := s.plans.SaveDraft(ctx, team, "operator:x"); err != nil {
			t.Fatal(err)
		}
		states := need(s.plans.Catalogue(ctx))(s)
		if n := len(states); n != 5 || states[1].Draft == nil || states[1].Tenants != 1 || states[4].Status != "draft" {
			t.Errorf("%+v", states)
		}
		office, admin := &Office{Sales: s.sales}, db.In(db.B)
		crew := DraftRequest{NamedPlan{"crew"}, pro.Title, pro.Quotas, pro.Rates, pro.Levels, pro.Features, pro.Prices, nil}
		if got := need(office.SaveDraft(admin, crew))(s); got.Status != "draft" {
			t.Errorf("%+v", got)
		}
		if err := office.DropDraft(admin, crew.NamedPlan); err != nil { // though nothing is left of the plan
			t.Error(err)
		}
		if err := office.DropDraft(admin, crew.NamedPlan); domain.KindOf(err) != domain.NotFound {
			t.Errorf("dropped twice: %v", err)
		}
		if got := need(s.plans.PublishDraft(ctx, "pro", "operator:x"))(s); got.Version != 3 {
			t.Errorf("version %d", got.Version)
		}
		need(s.plans.PublishDraft(ctx, "team", "operator:x"))(s)
		if _, err := s.plans.PublishDraft(ctx, "pro", "operator:x"); domain.KindOf(err) != domain.NotFound {
			t.Errorf("published without a draft: %v", err)
		}
		s.later(2 * time.Second)
		listed := need(s.plans.Plans(ctx, struct{}{}))(s).Data
		if listed[1].Version != 3 || listed[len(listed)-1].Name != "team" {
			t.Errorf("%+v", listed)
		}
		if err := errors.Join(s.plans.Archive(ctx, "pro"), s.plans.Archive(ctx, "team")); err != nil {
			t.Fatal(err)
		}
		if err := s.plans.Archive(ctx, "free"); domain.KindOf(err) != domain.Conflict {
			t.Errorf("the free plan: %v", err)
		}
		s.later(2 * time.Second)
		if n := len(need(s.plans.Plans(ctx, struct{}{}))(s).Data); n != 3 {
			t.Errorf("%d plans are listed", n)
		}
		p, err := s.plans.Entitlements(db.In(db.A))
		if err != nil || p.Version != 2 || !p.Has("research") {
			t.Errorf("who bought version 2 has %+v: %v", p, err)
		}
		if _, err := s.sales.Checkout(db.In(db.B), CheckoutRequest{Plan: "pro", Interval: "month"}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("an archived plan was sold: %v", err)
		}
	})
}
