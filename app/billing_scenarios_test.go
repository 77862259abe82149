package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	deskstripe "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// hands are a clock's: real time, and what a test has moved on.
type hands struct{ ahead atomic.Int64 }

func (h *hands) Now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

const subscription = "/api/v1/billing/subscription"

// buyer is a customer in one of the billing scenarios: what a person does at our
// door and on the pages of the payment service, and what is seen of it.
type buyer struct {
	*testing.T
	p          *program
	base       string
	clock      *hands
	box        *deskstripe.Server
	name       string
	owner, key client
	tenant     string
}

// later lets time pass, here and at the payment service.
func (b *buyer) later(d time.Duration) {
	b.clock.ahead.Add(int64(d))
	b.box.Settle()
}

func (b *buyer) settled() {
	b.Helper()
	eventually(b, "every event worked", func() bool {
		return b.box.Waiting() == 0 && b.count("SELECT count(*) FROM stripe_events WHERE status = 'received'") == 0 && b.box.Waiting() == 0
	})
}

func (b *buyer) count(query string) (n int64) {
	b.Helper()
	err := b.p.store.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		return b.p.store.SQL(ctx, query, map[string]any{"owner": b.tenant}).Scan(&n).Error
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// fate is what befalls events from now on.
func (b *buyer) fate(body string) {
	b.Helper()
	res, err := http.Post(b.p.desk.config.URL+"/_sandbox/fate", "application/json", strings.NewReader(body))
	if err != nil || res.StatusCode > 299 {
		b.Fatal(res, err)
	}
	res.Body.Close()
}

// shows waits until the billing page says so.
func (b *buyer) shows(plan, status, readOnly string) (got map[string]any) {
	b.Helper()
	eventually(b, plan+", "+status+", read-only: "+readOnly, func() bool {
		got = b.owner.must(200, "GET", subscription, nil)
		current, _ := got["subscription"].(map[string]any)
		return got["plan"] == plan && fmt.Sprint(current["status"]) == status && got["read_only"] == readOnly
	})
	return got
}

// asked waits until the banners are these, each with what can be done about it.
func (b *buyer) asked(want ...string) {
	b.Helper()
	eventually(b, fmt.Sprintf("the banners %q", want), func() bool {
		var got []string
		for _, x := range b.owner.must(200, "GET", subscription, nil)["banners"].([]any) {
			banner := x.(map[string]any)
			got = append(got, fmt.Sprint(banner["code"], " ", banner["action"]))
		}
		return slices.Equal(got, want)
	})
}

// renewal lets the period end, and the hour after which its invoice is final.
func (b *buyer) renewal() {
	b.Helper()
	end, err := time.Parse(time.RFC3339, b.owner.must(200, "GET", subscription, nil)["subscription"].(map[string]any)["current_period_end"].(string))
	if err != nil {
		b.Fatal(err)
	}
	b.later(end.Sub(b.clock.Now()) + 2*time.Hour)
	b.settled()
}

func (b *buyer) offer(plan string) string {
	b.Helper()
	return b.owner.must(200, "POST", "/api/v1/billing/checkout", map[string]any{"plan": plan, "interval": "month", "quantity": 1})["url"].(string)
}

func (b *buyer) pays(page, number string) {
	b.Helper()
	fillIn(b.T, page, url.Values{"action": {"pay"}, "number": {number}})
}

// card makes the customer pay with another card from now on.
func (b *buyer) card(number string) {
	b.Helper()
	b.pays(b.owner.must(200, "POST", "/api/v1/billing/portal", nil)["url"].(string), number)
}

func (b *buyer) letter(subject string) string {
	b.Helper()
	return letter(b, b.base, b.name+"@example.org", subject)
}

// letters counts the mails to the buyer with a subject.
func (b *buyer) letters(subject string) (n int) {
	b.Helper()
	_, list, _ := client{b, b.base, http.Header{}}.do("GET", "/sandbox/mail", nil)
	for _, line := range strings.Split(string(list), "\n") {
		if m := mailLink.FindStringSubmatch(line); m != nil && strings.Contains(line, b.name+"@example.org") && strings.Contains(m[2], subject) {
			n++
		}
	}
	return n
}

// stripe asks the payment service, as its dashboard does.
func (b *buyer) stripe(method, path string) (out map[string]any) {
	b.Helper()
	r, err := http.NewRequest(method, b.p.desk.config.URL+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+sandboxKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode != 200 {
		b.Fatal(res.StatusCode, out, err)
	}
	return out
}

// ids are the payment service's, of the customer and its only subscription.
func (b *buyer) ids() (customer, sub string) {
	b.Helper()
	var ids struct{ Customer, ID string }
	err := b.p.store.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		return b.p.store.SQL(ctx, `SELECT c.customer, coalesce(s.id, '') AS id FROM billing_customers c LEFT JOIN subscriptions s ON s.tenant_id = c.tenant_id
			WHERE c.tenant_id = @owner`, map[string]any{"owner": b.tenant}).Scan(&ids).Error
	})
	if err != nil || ids.Customer == "" {
		b.Fatal(ids, err)
	}
	return ids.Customer, ids.ID
}

// events are those of the buyer's customer of such types, oldest first.
func (b *buyer) events(types ...string) (out [][]byte) {
	b.Helper()
	customer, _ := b.ids()
	for _, of := range types {
		list := b.stripe("GET", "/v1/events?limit=100&type="+of)["data"].([]any)
		for i := len(list) - 1; i >= 0; i-- {
			raw, err := json.Marshal(list[i])
			if err != nil {
				b.Fatal(err)
			}
			if bytes.Contains(raw, []byte(customer)) {
				out = append(out, raw)
			}
		}
	}
	return out
}

// hook brings an event to our door, signed as Stripe signs.
func (b *buyer) hook(event []byte) {
	b.Helper()
	r, err := http.NewRequest("POST", b.base+"/webhooks/stripe", bytes.NewReader(event))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Stripe-Signature", deskstripe.Sign(event, b.p.desk.config.WebhookSecret, b.clock.Now()))
	res, err := b.box.Client.Do(r)
	if err != nil {
		b.Error(err)
		return
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		b.Errorf("an event: %d", res.StatusCode)
	}
}

// The billing scenarios, each by its number, through the REST API, the mails in
// the outbox and the payment service's own log. They share a program and its
// clock, and each has a customer of its own.
func TestBillingScenarios(t *testing.T) {
	clock := map[*program]*hands{}
	set := func(p *program) {
		h := &hands{}
		clock[p] = h
		p.sales.Now, p.billing.Now, p.desk.config.Now = h.Now, h.Now, h.Now
	}
	scenes := []struct {
		name         string
		trial        int64
		afterRetries string
		play         func(b *buyer)
	}{
		{"2, 5, 8, 14, 15, 19, 23", 14, "past_due", life},
		{"4", 0, "", bankDebit},
		{"9", 14, "", trialWithoutCard},
		{"12", 0, "", upgradeNotPaid},
		{"22", 0, "", endedInTheDashboard},
		{"24", 0, "unpaid", unpaidThenPaid},
		{"26", 0, "", stolenCard},
		{"29", 0, "", fiftyTimes},
		{"32", 0, "", wrongOrder},
		{"39", 0, "", currencies},
	}
	eachSet(t, nil, set, func(t *testing.T, p *program, base string) {
		eventually(t, "the sandbox's Stripe", func() bool {
			res, err := http.Get(p.desk.config.URL + "/_sandbox/calls")
			if err != nil {
				return false
			}
			res.Body.Close()
			changes, err := p.sales.SyncCatalogue(t.Context(), true)
			return err == nil && len(changes) == 0
		})
		for _, s := range scenes {
			t.Run(s.name, func(t *testing.T) {
				name := "buyer-" + strings.ReplaceAll(s.name, ", ", "-")
				b := &buyer{T: t, p: p, base: base, clock: clock[p], box: p.desk.server, name: name}
				b.owner, b.key, b.tenant = person(t, base, name)
				often := billing.Override{Owned: store.Owned{TenantID: b.tenant}, Kind: "rate", Name: "light", Value: 1 << 40, Author: "test", Reason: "tests ask again and again"}
				if err := p.billing.Override(domain.System(t.Context(), "test"), often); err != nil {
					t.Fatal(err)
				}
				p.sales.Trial, b.box.AfterRetries = s.trial, s.afterRetries
				defer b.fate(`{}`)
				s.play(b)
				b.fate(`{}`)
				b.settled()
			})
		}
		if wrong, err := p.sales.Prove(t.Context()); err != nil || len(wrong) != 0 {
			t.Errorf("%v %v", wrong, err)
		}
	})
}

// The life of a customer: a trial; a change that is planned and taken back; a
// renewal that fails, a grace, read-only, and the recovery; the end; a first
// payment that needs a hand and is left; a purchase whose events are all held back.
func life(b *buyer) {
	// 8. The end of a trial is told, once, however often the event comes.
	b.fate(`{"duplicate":1}`)
	b.pays(b.offer("pro"), "4242424242424242")
	b.settled()
	b.shows("pro", "trialing", "")
	b.later(11*24*time.Hour + time.Minute)
	b.settled()
	b.letter("Your trial of pro ends on")
	b.later(3*24*time.Hour + 2*time.Hour)
	b.settled()
	b.shows("pro", "active", "")
	b.fate(`{}`)

	// 14, 15. Less is planned for the period's end, and more takes it back.
	if got := b.owner.must(200, "POST", subscription+"/change", map[string]any{"plan": "business"}); got["plan"] != "business" {
		b.Fatalf("%v", got)
	}
	for i := range 11 {
		b.owner.must(201, "POST", "/api/v1/datasets", map[string]any{"name": fmt.Sprint("list ", i)})
	}
	preview := b.owner.must(200, "POST", subscription+"/preview", map[string]any{"plan": "pro"})
	if preview["effective"] != "period_end" || len(preview["excess"].([]any)) != 1 {
		b.Errorf("%v", preview)
	}
	b.owner.must(200, "POST", subscription+"/change", map[string]any{"plan": "pro"})
	got := b.owner.must(200, "POST", subscription+"/change", map[string]any{"quantity": 2})
	if current := got["subscription"].(map[string]any); current["next"] != nil || current["quantity"] != 2.0 {
		b.Errorf("%v", current)
	}
	b.owner.must(200, "POST", subscription+"/change", map[string]any{"plan": "pro", "quantity": 1})
	b.renewal()
	b.shows("pro", "active", "")
	if got := b.owner.must(403, "POST", "/api/v1/datasets", map[string]any{"name": "one more"}); got["code"] != "plan_limit_reached" {
		b.Errorf("%v", got)
	}
	lists := b.owner.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)
	if len(lists) < 11 {
		b.Errorf("%d datasets are left", len(lists))
	}

	// 23. A renewal that fails: a mail for each attempt, everything as before in
	// the grace, read-only after it, and back when it is paid.
	b.card("4000000000000341")
	b.renewal()
	if got := b.shows("pro", "past_due", ""); got["banners"].([]any)[0].(map[string]any)["code"] != "payment_failed" {
		b.Errorf("%v", got["banners"])
	}
	b.letter("Your payment of USD 49.00 did not go through")
	match := map[string]any{"query": map[string]any{"name": "x"}, "dataset_ids": []any{lists[0].(map[string]any)["id"]}}
	b.key.must(200, "POST", "/api/v1/matches", match)
	b.later(7 * 24 * time.Hour)
	b.settled()
	got = b.shows("pro", "past_due", "past_due")
	if got := b.key.must(402, "POST", "/api/v1/matches", match); got["code"] != "subscription_inactive" {
		b.Errorf("%v", got)
	}
	b.key.must(200, "GET", "/api/v1/datasets", nil)
	b.pays(got["subscription"].(map[string]any)["pay_url"].(string), "4242424242424242")
	eventually(b, "it works again", func() bool { status, _, _ := b.key.do("POST", "/api/v1/matches", match); return status == 200 })
	b.letter("Thank you")
	b.card("4242424242424242")

	// 19. Cancelled, undone, and ended.
	if got := b.owner.must(200, "POST", subscription+"/cancel", nil); got["banners"].([]any)[0].(map[string]any)["code"] != "ends" {
		b.Errorf("%v", got["banners"])
	}
	b.owner.must(200, "POST", subscription+"/undo", nil)
	b.owner.must(200, "POST", subscription+"/cancel", nil)
	b.renewal()
	b.shows("free", "canceled", "")
	b.letter("Your subscription to pro has ended")
	if n := len(b.owner.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)); n != len(lists) {
		b.Errorf("%d datasets after the end", n)
	}

	// 5. A first payment that needs a hand and is left was never access, and
	// bars nobody.
	b.pays(b.offer("pro"), "4000002760003184")
	b.settled()
	b.shows("free", "incomplete", "")
	b.later(24 * time.Hour)
	b.settled()
	b.shows("free", "incomplete_expired", "")

	// 2. All events are held back: who comes back from Checkout has what was
	// paid, and the events change nothing when they come.
	b.fate(`{"drop":1}`)
	b.pays(b.offer("business"), "4242424242424242")
	eventually(b, "the events are lost", func() bool { return b.box.Waiting() == 0 })
	b.shows("free", "incomplete_expired", "")
	b.owner.must(200, "POST", "/api/v1/billing/refresh", nil)
	before := b.shows("business", "active", "")
	b.fate(`{}`)
	b.box.Resend()
	b.settled()
	if after := b.shows("business", "active", ""); fmt.Sprint(after) != fmt.Sprint(before) {
		b.Errorf("the events changed something:\n%v\n%v", before, after)
	}
	made := 0
	for _, c := range b.box.Calls() {
		if c.Method == "POST" && c.Path == "/v1/customers" && c.Status == 200 && !c.Replayed {
			made++
		}
	}
	if made != 1 {
		b.Errorf("%d customers were made", made)
	}
}

// A bank debit is on its way for days: nothing is in force until it comes, and
// who believes that it is bought is told where it does not.
func bankDebit(b *buyer) {
	b.pays(b.offer("pro"), "000111111116")
	b.settled()
	b.shows("free", "incomplete", "")
	b.later(4*24*time.Hour + time.Minute)
	b.settled()
	b.shows("free", "incomplete_expired", "")
	b.letter("Your payment of USD 49.00 did not go through")
	b.pays(b.offer("pro"), "000123456789")
	b.settled()
	b.later(3 * 24 * time.Hour)
	b.settled()
	b.shows("free", "incomplete", "")
	b.later(24*time.Hour + time.Minute)
	b.settled()
	b.shows("pro", "active", "")
	if n := b.letters("Your payment"); n != 1 {
		b.Errorf("%d mails of payments that failed", n)
	}
}

// A trial without a card pauses: what is there is read, nothing runs, and a card
// is all it takes to go on.
func trialWithoutCard(b *buyer) {
	b.pays(b.offer("pro"), "")
	b.settled()
	b.shows("pro", "trialing", "")
	list := b.owner.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"]
	b.later(14*24*time.Hour + 2*time.Hour)
	b.settled()
	b.shows("pro", "paused", "paused")
	b.asked("paused update_card")
	run := map[string]any{"mode": "quick", "institution": "Northmere University", "risk_items": []any{map[string]any{"name": "x"}}}
	if got := b.owner.must(402, "POST", "/api/v1/entity-relations", run); got["code"] != "subscription_inactive" {
		b.Errorf("%v", got)
	}
	b.owner.must(200, "GET", fmt.Sprint("/api/v1/datasets/", list), nil)
	b.card("4242424242424242")
	b.settled()
	b.shows("pro", "active", "")
}

// An upgrade that is not paid is not in force and takes nothing away; when it
// has expired nobody is asked to pay for it.
func upgradeNotPaid(b *buyer) {
	b.pays(b.offer("pro"), "4242424242424242")
	b.owner.must(200, "POST", "/api/v1/billing/refresh", nil)
	b.card("4000000000000341")
	got := b.owner.must(200, "POST", subscription+"/change", map[string]any{"plan": "business"})
	if got["plan"] != "pro" || got["payment_url"] == "" {
		b.Errorf("%v", got)
	}
	b.settled()
	b.shows("pro", "active", "")
	b.asked("payment_needed pay")
	b.later(23*time.Hour + time.Minute)
	b.settled()
	b.shows("pro", "active", "")
	b.asked()
}

// Ended at the payment service, behind our back: it is shown without a hand.
func endedInTheDashboard(b *buyer) {
	b.pays(b.offer("pro"), "4242424242424242")
	b.settled()
	b.shows("pro", "active", "")
	_, sub := b.ids()
	b.stripe("DELETE", "/v1/subscriptions/"+sub)
	b.shows("free", "canceled", "")
	b.letter("Your subscription to pro has ended")
}

// What is unpaid is paid with a new card: it is active, and the new card is the
// one that is charged from now on, by the subscription and by the customer.
func unpaidThenPaid(b *buyer) {
	b.pays(b.offer("pro"), "4242424242424242")
	b.owner.must(200, "POST", "/api/v1/billing/refresh", nil)
	b.card("4000000000000341")
	b.renewal()
	b.later(8 * 24 * time.Hour)
	b.settled()
	got := b.shows("pro", "unpaid", "unpaid")
	b.pays(got["subscription"].(map[string]any)["pay_url"].(string), "5555555555554444")
	b.settled()
	if got := b.shows("pro", "active", ""); got["card"].(map[string]any)["last4"] != "4444" {
		b.Errorf("%v", got["card"])
	}
	customer, sub := b.ids()
	charged := b.stripe("GET", "/v1/customers/"+customer)["invoice_settings"].(map[string]any)["default_payment_method"]
	if also := b.stripe("GET", "/v1/subscriptions/"+sub)["default_payment_method"]; charged == nil || also != charged {
		b.Errorf("the customer is charged by %v, the subscription by %v", charged, also)
	}
}

// A card that is refused for good: no other try is promised, and there is one
// thing to do about it, for those alone who care for the bills.
func stolenCard(b *buyer) {
	b.pays(b.offer("business"), "4242424242424242")
	b.owner.must(200, "POST", "/api/v1/billing/refresh", nil)
	b.owner.must(200, "POST", subscription+"/change", map[string]any{"quantity": 2})
	b.owner.must(201, "POST", "/api/v1/tenant/invitations", map[string]any{"email": b.name + "-viewer@example.org", "role": "viewer"})
	secret := secretInLink.FindStringSubmatch(letter(b, b.base, b.name+"-viewer@example.org", "invites you"))
	joined := client{b, b.base, http.Header{}}.must(201, "POST", "/api/v1/invitations/join", map[string]any{"token": secret[1], "password": "correct horse battery", "full_name": "V", "accept_terms": true})
	viewer := client{b, b.base, http.Header{"Authorization": {"Bearer " + joined["access_token"].(string)}}}
	b.card("4000000000009979")
	b.renewal()
	b.shows("business", "past_due", "")
	b.asked("payment_failed update_card")
	if page := b.letter("Your payment of USD 398.00 did not go through"); !strings.Contains(page, "it will not be tried again with this card") {
		b.Errorf("%s", page)
	}
	viewer.must(403, "GET", subscription, nil)
	if _, list, _ := viewer.do("GET", "/sandbox/mail", nil); b.letters("did not go through") != 1 || strings.Count(string(list), "USD 398.00") != 1 {
		b.Errorf("mailed to others, or twice: %s", list)
	}
}

// One event, brought fifty times at once: a mail, a notification, its records and a row, once.
func fiftyTimes(b *buyer) {
	b.pays(b.offer("pro"), "4242424242424242")
	b.owner.must(200, "POST", "/api/v1/billing/refresh", nil)
	b.card("4000000000000341")
	b.settled()
	b.fate(`{"drop":1}`)
	b.renewal()
	events := b.events("invoice.payment_failed")
	if len(events) != 1 {
		b.Fatalf("%d events", len(events))
	}
	before := b.count("SELECT count(*) FROM audit_events WHERE tenant_id = @owner")
	inbox := b.count("SELECT count(*) FROM stripe_events")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { b.hook(events[0]) })
	}
	wg.Wait()
	b.shows("pro", "past_due", "")
	b.letter("Your payment of USD 49.00 did not go through")
	b.settled()
	if n := b.count("SELECT count(*) FROM audit_events WHERE tenant_id = @owner") - before; n != 2 { // of the subscription, and of the payment
		b.Errorf("%d records", n)
	}
	if n := b.count("SELECT count(*) FROM audit_events WHERE tenant_id = @owner AND action = 'payment.fail'"); n != 1 {
		b.Errorf("%d records of the payment", n)
	}
	if n := b.count("SELECT count(*) FROM notifications WHERE tenant_id = @owner AND type = 'payment_failed'"); n != 1 {
		b.Errorf("%d notifications", n)
	}
	if n := b.count("SELECT count(*) FROM stripe_events") - inbox; n != 1 {
		b.Errorf("%d events in the inbox", n)
	}
	b.fate(`{}`)
	b.box.Resend()
	b.settled()
	if n := b.letters("did not go through"); n != 1 {
		b.Errorf("%d mails", n)
	}
}

// That it is active is told before that it was made, both of one second, and
// then both at once: there is one subscription, and it is active.
func wrongOrder(b *buyer) {
	page := b.offer("pro")
	b.fate(`{"drop":1}`)
	b.pays(page, "4242424242424242")
	eventually(b, "the events are lost", func() bool { return b.box.Waiting() == 0 })
	made, active := b.events("customer.subscription.created"), b.events("customer.subscription.updated")
	if len(made) != 1 || len(active) == 0 {
		b.Fatalf("%d and %d events", len(made), len(active))
	}
	b.hook(active[0])
	b.hook(made[0])
	b.shows("pro", "active", "")
	var wg sync.WaitGroup
	for _, event := range [][]byte{made[0], active[0], made[0], active[0]} {
		wg.Go(func() { b.hook(event) })
	}
	wg.Wait()
	b.settled()
	b.shows("pro", "active", "")
	if n := b.count("SELECT count(*) FROM subscriptions WHERE tenant_id = @owner"); n != 1 {
		b.Errorf("%d subscriptions", n)
	}
	b.fate(`{}`)
	b.box.Resend()
}

// Currencies without a minor unit and with three digits of it are right in
// Checkout, on the invoice and in the figures; who has invoices in one currency
// does not change to another.
func currencies(b *buyer) {
	root, _, _ := person(b.T, b.base, "root")
	administrator(b.T, b.p, root)
	for i, c := range []struct {
		currency, shown string
		amount          float64
	}{{"jpy", "JPY 7500", 7500}, {"kwd", "KWD 15.000", 15000}, {"eur", "EUR 45.00", 4500}} {
		owner, _, tenant := person(b.T, b.base, fmt.Sprint("buyer-in-", i))
		page := owner.must(200, "POST", "/api/v1/billing/checkout", map[string]any{"plan": "pro", "interval": "month", "quantity": 1, "currency": c.currency})["url"].(string)
		res, err := http.Get(page)
		if err != nil {
			b.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Contains(raw, []byte(c.shown)) {
			b.Errorf("Checkout has no %s: %v %s", c.shown, err, raw)
		}
		b.pays(page, "4242424242424242")
		owner.must(200, "POST", "/api/v1/billing/refresh", nil)
		inv := owner.must(200, "GET", "/api/v1/billing/invoices", nil)["data"].([]any)[0].(map[string]any)
		if inv["currency"] != c.currency || inv["amount_paid"] != c.amount {
			b.Errorf("%v", inv)
		}
		if _, raw, _ = root.do("GET", "/api/v1/admin/analytics/revenue", nil); !strings.Contains(string(raw), fmt.Sprintf(`"currency":"%s","opening":0,"new":%.0f,`, c.currency, c.amount)) {
			b.Errorf("the figures have no %.0f %s: %s", c.amount, c.currency, raw)
		}
		if c.currency != "eur" {
			continue
		}
		if err := b.p.sales.End(domain.WithScope(context.Background(), domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "test"}})); err != nil {
			b.Fatal(err)
		}
		in := map[string]any{"plan": "pro", "interval": "month", "currency": "usd"}
		if got := owner.must(422, "POST", "/api/v1/billing/checkout", in); !strings.Contains(fmt.Sprint(got["errors"]), "currency_fixed") {
			b.Errorf("%v", got)
		}
		in["currency"] = "eur"
		owner.must(200, "POST", "/api/v1/billing/checkout", in)
	}
}
