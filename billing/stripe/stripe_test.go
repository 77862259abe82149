package stripe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/sandbox/stripe/conform"

	sandbox "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/domain"
)

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// inStripe gives a client before a sandbox whose clock is held, with every call
// held against Stripe's own description.
func inStripe(t *testing.T) (*Client, *sandbox.Server, *time.Time) {
	now := start
	box, err := sandbox.New(sandbox.Config{Seed: 3, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(conform.Between(t, box))
	t.Cleanup(srv.Close)
	return New(Config{Key: "sk_test_1", BaseURL: srv.URL}), box, &now
}

func pay(t *testing.T, page, number string) {
	t.Helper()
	res, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).
		PostForm(page, url.Values{"action": {"pay"}, "number": {number}})
	if err != nil || res.StatusCode != 303 {
		t.Fatalf("pay: %v %v", res, err)
	}
	res.Body.Close()
}

// A customer's life through the typed client: catalogue, sale, preview, upgrade,
// downgrade, cancel, undo, refund. What is read back is what was done.
func TestLifeThroughTheClient(t *testing.T) {
	ctx := context.Background()
	c, box, now := inStripe(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(c.PutProduct(ctx, Product{ID: "plan_pro", Name: "Pro", Active: true}, false))
	check(c.PutProduct(ctx, Product{ID: "plan_pro", Name: "Professional", Active: true}, true))
	pro, err := c.CreatePrice(ctx, "k1", Price{Product: "plan_pro", Currency: "usd", Interval: "month", Amount: 4900, LookupKey: "pro_1_usd_month"})
	check(err)
	business, err := c.CreatePrice(ctx, "k2", Price{Product: "plan_pro", Currency: "usd", Interval: "month", Amount: 19900, LookupKey: "business_1_usd_month"})
	check(err)
	products, prices, err := c.Catalogue(ctx)
	check(err)
	if len(products) != 1 || products[0].Name != "Professional" || len(prices) != 2 {
		t.Errorf("%+v %+v", products, prices)
	}
	cus, err := c.CreateCustomer(ctx, "ten_a:customer", "ten_a")
	check(err)
	again, err := c.CreateCustomer(ctx, "ten_a:customer", "ten_a")
	check(err)
	if again != cus {
		t.Errorf("one key made %s and %s", cus, again)
	}
	check(c.NameCustomer(ctx, cus, "Acme", "a@example.com"))
	s, err := c.CreateCheckout(ctx, "ten_a:checkout:1", Checkout{Customer: cus, Tenant: "ten_a", Price: pro, Quantity: 2, Sequence: "1",
		SuccessURL: "https://example.com/?s={CHECKOUT_SESSION_ID}", CancelURL: "https://example.com", Tax: true})
	check(err)
	open, err := c.OpenSessions(ctx, cus)
	check(err)
	if len(open) != 1 || open[0].Sequence != "1" {
		t.Errorf("%+v", open)
	}
	pay(t, s.URL, "4242424242424242")
	check(c.Expire(ctx, s.ID)) // too late, and no error
	if s, err = c.Session(ctx, s.ID); err != nil || s.Status != "complete" || s.Customer != cus {
		t.Errorf("%+v %v", s, err)
	}
	read := func() (Customer, Subscription) {
		t.Helper()
		got, err := c.Read(ctx, cus, Since{})
		check(err)
		return got, got.Subscriptions[0]
	}
	got, sub := read()
	if got.Tenant != "ten_a" || got.CardLast4 != "4242" || sub.Status != "active" || sub.Quantity != 2 || sub.Price != pro || sub.UnitAmount != 4900 || sub.Interval != "month" ||
		len(got.Invoices) != 1 || got.Invoices[0].AmountPaid != 9800 || !sub.PeriodEnd.Equal(start.AddDate(0, 1, 0)) {
		t.Errorf("%+v", got)
	}
	*now = start.AddDate(0, 0, 15)
	ch := Change{Customer: cus, Subscription: sub.ID, Item: sub.Item, Price: business, Quantity: 2, At: *now}
	p, err := c.Preview(ctx, ch)
	check(err)
	if want := share(2*(19900-4900), 16, 31); p.AmountDue < want-1 || p.AmountDue > want+1 || len(p.Lines) != 2 || !p.At.Equal(*now) {
		t.Errorf("the preview is %+v, about %d is wanted", p, want)
	}
	owed, err := c.Change(ctx, "ten_a:change:1", ch)
	check(err)
	got, sub = read()
	if owed.ID != "" || sub.Price != business || got.Invoices[0].AmountPaid != p.AmountDue {
		t.Errorf("previewed %d, paid %+v", p.AmountDue, got.Invoices[0])
	}
	check(c.ChangeLater(ctx, "ten_a:later:1", sub, Change{Price: pro, Quantity: 1}))
	if _, sub = read(); sub.NextPrice != pro || sub.NextQuantity != 1 || !sub.NextAt.Equal(sub.PeriodEnd) {
		t.Errorf("planned: %+v", sub)
	}
	check(c.Release(ctx, sub.Schedule))
	check(c.CancelAtPeriodEnd(ctx, "ten_a:cancel:1", sub.ID, true))
	if _, sub = read(); !sub.CancelAtPeriodEnd || sub.NextPrice != "" {
		t.Errorf("cancelled: %+v", sub)
	}
	check(c.CancelAtPeriodEnd(ctx, "ten_a:cancel:2", sub.ID, false))
	check(c.Refund(ctx, "ten_a:refund:1", got.Invoices[0].Charge, 100))
	if err := c.Refund(ctx, "ten_a:refund:2", got.Invoices[0].Charge, got.Invoices[0].AmountPaid); err == nil {
		t.Error("more was refunded than was left")
	}
	if got, _ = read(); got.Invoices[0].Refunded != 100 {
		t.Errorf("refunded %d", got.Invoices[0].Refunded)
	}
	check(c.Cancel(ctx, sub.ID))
	check(c.Cancel(ctx, sub.ID))
	if _, sub = read(); sub.Status != "canceled" || sub.EndedAt.IsZero() {
		t.Errorf("ended: %+v", sub)
	}
	events, err := c.Events(ctx, start)
	check(err)
	if len(events) < 20 || events[0].Created.After(events[len(events)-1].Created) {
		t.Errorf("%d events", len(events))
	}
	for _, call := range box.Calls() { // what would be two if it were sent twice has a key of ours
		names := strings.HasPrefix(call.Path, "/v1/products/") || strings.HasPrefix(call.Path, "/v1/customers/")
		if call.Method == "POST" && !names && !strings.Contains(call.IdempotencyKey, ":") && !strings.HasPrefix(call.IdempotencyKey, "k") {
			t.Errorf("no key: %s %s", call.Method, call.Path)
		}
	}
}

func share(amount, part, whole int64) int64 { return amount * part / whole }

// What Stripe says no to is told in our words, and what is away may pass.
func TestErrors(t *testing.T) {
	ctx := context.Background()
	c, _, _ := inStripe(t)
	if _, err := c.Read(ctx, "cus_nobody", Since{}); !IsMissing(err) {
		t.Errorf("%v", err)
	}
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		_, _ = w.Write([]byte(`{"error":{"type":"api_error","message":"secret words"}}`))
	}))
	defer down.Close()
	_, err := New(Config{Key: "sk_test_1", BaseURL: down.URL}).Read(ctx, "cus_1", Since{})
	if domain.KindOf(err) != domain.Unavailable || domain.CodeOf(err) != "provider_unavailable" {
		t.Errorf("%v", err)
	}
	_, err = New(Config{Key: "bad", BaseURL: urlOf(t)}).Read(ctx, "cus_1", Since{})
	if domain.CodeOf(err) != "provider_not_configured" {
		t.Errorf("%v", err)
	}
	if New(Config{Key: "sk_test_1"}).Live() || !New(Config{Key: "rk_live_1"}).Live() {
		t.Error("the mode of a key")
	}
}

func urlOf(t *testing.T) string {
	box, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(box)
	t.Cleanup(srv.Close)
	return srv.URL
}

// An event is believed only with a signature over these bytes, by one of our
// secrets, made now, in our mode, in the version that we read.
func TestVerify(t *testing.T) {
	payload := func(change func(map[string]any)) []byte {
		e := map[string]any{"id": "evt_1", "object": "event", "api_version": sandbox.Version, "type": "invoice.paid", "livemode": false, "created": start.Unix(),
			"data": map[string]any{"object": map[string]any{"id": "in_1", "object": "invoice", "customer": "cus_1"}}}
		if change != nil {
			change(e)
		}
		raw, _ := json.Marshal(e)
		return raw
	}
	good := payload(nil)
	v := Verifier{Secrets: []string{"whsec_new", "whsec_old"}, Now: func() time.Time { return start }}
	for _, secret := range v.Secrets {
		e, err := v.Verify(good, sandbox.Sign(good, secret, start))
		if err != nil || e.ID != "evt_1" || e.Customer != "cus_1" || e.Object != "in_1" || !e.Created.Equal(start) {
			t.Errorf("%s: %+v %v", secret, e, err)
		}
	}
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-3] ^= 1
	live, version := payload(func(e map[string]any) { e["livemode"] = true }), payload(func(e map[string]any) { e["api_version"] = "2025-03-31.basil" })
	for name, c := range map[string]struct {
		body []byte
		sig  string
	}{
		"one byte":        {flipped, sandbox.Sign(good, "whsec_new", start)},
		"wrong secret":    {good, sandbox.Sign(good, "whsec_other", start)},
		"no signature":    {good, ""},
		"six minutes old": {good, sandbox.Sign(good, "whsec_new", start.Add(-6*time.Minute))},
		"six minutes on":  {good, sandbox.Sign(good, "whsec_new", start.Add(6*time.Minute))},
		"time replaced":   {good, strings.Replace(sandbox.Sign(good, "whsec_new", start.Add(-time.Hour)), fmt.Sprint(start.Add(-time.Hour).Unix()), fmt.Sprint(start.Unix()), 1)},
		"live":            {live, sandbox.Sign(live, "whsec_new", start)},
		"other version":   {version, sandbox.Sign(version, "whsec_new", start)},
		"not JSON":        {[]byte("x"), sandbox.Sign([]byte("x"), "whsec_new", start)},
	} {
		if e, err := v.Verify(c.body, c.sig); err == nil {
			t.Errorf("%s: %+v was believed", name, e)
		}
	}
	if _, err := (Verifier{Now: v.Now}).Verify(good, sandbox.Sign(good, "", start)); err == nil {
		t.Error("believed without a secret")
	}
}

// A crash between Stripe's effect and our knowing of it is a retry with the
// same key: enumerated over every call that a sale makes.
func TestLostAnswers(t *testing.T) {
	for lost := range 4 { // product, price, customer, session
		box, err := sandbox.New(sandbox.Config{Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			box.ServeHTTP(rec, r)
			if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/") {
				if n++; n == lost+1 { // done, and nobody hears of it
					panic(http.ErrAbortHandler)
				}
			}
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			_, _ = io.Copy(w, rec.Body)
		}))
		c := New(Config{Key: "sk_test_1", BaseURL: srv.URL})
		ctx := context.Background()
		sell := func() (Session, error) {
			if err := c.PutProduct(ctx, Product{ID: "plan_pro", Name: "Pro"}, false); err != nil && !strings.Contains(err.Error(), "already exists") {
				return Session{}, err
			}
			p, err := c.CreatePrice(ctx, "price", Price{Product: "plan_pro", Currency: "usd", Interval: "month", Amount: 4900, LookupKey: "pro"})
			if err != nil {
				return Session{}, err
			}
			cus, err := c.CreateCustomer(ctx, "ten_a:customer", "ten_a")
			if err != nil {
				return Session{}, err
			}
			return c.CreateCheckout(ctx, "ten_a:checkout:1", Checkout{Customer: cus, Tenant: "ten_a", Price: p, Quantity: 1, SuccessURL: "https://example.com", CancelURL: "https://example.com"})
		}
		s, err := sell()
		if err != nil {
			s, err = sell()
		}
		if err != nil {
			t.Fatalf("call %d lost: %v", lost, err)
		}
		pay(t, srv.URL+strings.TrimPrefix(s.URL, srv.URL), "4242424242424242")
		got, err := c.Read(ctx, mustSession(t, c, s.ID).Customer, Since{})
		if err != nil || len(got.Subscriptions) != 1 || len(got.Invoices) != 1 {
			t.Errorf("call %d lost: %+v %v", lost, got, err)
		}
		made := 0
		for _, call := range box.Calls() {
			if call.Method == "POST" && !call.Replayed && call.Status == 200 {
				made++
			}
		}
		if made != 4 { // product, price, customer, session
			t.Errorf("call %d lost: %d effects", lost, made)
		}
		srv.Close()
	}
}

func mustSession(t *testing.T, c *Client, id string) Session {
	t.Helper()
	s, err := c.Session(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
