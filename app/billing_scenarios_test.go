package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// hands are a clock's: real time, and what a test has moved on.
type hands struct{ ahead atomic.Int64 }

func (h *hands) Now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

// The life of a customer as the billing scenarios tell it, through the REST API,
// the mails in the outbox and the sandbox's log: a first payment that needs a
// hand and is left; a trial; a purchase whose events are all held back; a change
// that is planned and taken back; a renewal that fails, a grace, read-only, and
// the recovery; the end.
func TestBillingScenarios(t *testing.T) {
	clock := map[*program]*hands{}
	set := func(p *program) {
		h := &hands{}
		clock[p] = h
		p.sales.Now, p.billing.Now, p.desk.config.Now = h.Now, h.Now, h.Now
	}
	eachSet(t, map[string]string{"STRIPE_TRIAL_DAYS": "14"}, set, func(t *testing.T, p *program, base string) {
		const sub = "/api/v1/billing/subscription"
		owner, key, _ := person(t, base, "buyer")
		eventually(t, "the sandbox's Stripe", func() bool {
			res, err := http.Get(p.desk.config.URL + "/_sandbox/calls")
			if err == nil {
				res.Body.Close()
			}
			changes, drift := p.sales.SyncCatalogue(t.Context(), true)
			return err == nil && drift == nil && len(changes) == 0
		})
		box := p.desk.server
		box.AfterRetries = "past_due"
		later := func(d time.Duration) {
			clock[p].ahead.Add(int64(d))
			box.Settle()
		}
		settled := func() {
			t.Helper()
			eventually(t, "every event worked", func() bool {
				var waiting int64
				err := p.store.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
					return p.store.SQL(ctx, "SELECT count(*) FROM stripe_events WHERE status = 'received'", nil).Scan(&waiting).Error
				})
				return err == nil && waiting == 0 && box.Waiting() == 0
			})
		}
		fate := func(body string) {
			t.Helper()
			res, err := http.Post(p.desk.config.URL+"/_sandbox/fate", "application/json", strings.NewReader(body))
			if err != nil || res.StatusCode > 299 {
				t.Fatal(res, err)
			}
			res.Body.Close()
		}
		shows := func(plan, status, readOnly string) (got map[string]any) {
			t.Helper()
			eventually(t, plan+", "+status+", read-only: "+readOnly, func() bool {
				got = owner.must(200, "GET", sub, nil)
				current, _ := got["subscription"].(map[string]any)
				return got["plan"] == plan && fmt.Sprint(current["status"]) == status && got["read_only"] == readOnly
			})
			return got
		}
		renewal := func() { // and the hour after which its invoice is final
			t.Helper()
			end, err := time.Parse(time.RFC3339, owner.must(200, "GET", sub, nil)["subscription"].(map[string]any)["current_period_end"].(string))
			if err != nil {
				t.Fatal(err)
			}
			later(end.Sub(clock[p].Now()) + 2*time.Hour)
			settled()
		}
		offer := func(plan string) string {
			t.Helper()
			return owner.must(200, "POST", "/api/v1/billing/checkout", map[string]any{"plan": plan, "interval": "month", "quantity": 1})["url"].(string)
		}
		pays := func(page, number string) {
			t.Helper()
			fillIn(t, page, url.Values{"action": {"pay"}, "number": {number}})
		}
		card := func(number string) {
			t.Helper()
			pays(owner.must(200, "POST", "/api/v1/billing/portal", nil)["url"].(string), number)
		}

		// 8. The end of a trial is told, once, however often the event comes.
		fate(`{"duplicate":1}`)
		pays(offer("pro"), "4242424242424242")
		settled()
		shows("pro", "trialing", "")
		later(11*24*time.Hour + time.Minute)
		settled()
		letter(t, base, "buyer@example.org", "Your trial of pro ends on")
		later(3*24*time.Hour + 2*time.Hour)
		settled()
		shows("pro", "active", "")
		fate(`{}`)

		// 14, 15. Less is planned for the period's end, and more takes it back.
		if got := owner.must(200, "POST", sub+"/change", map[string]any{"plan": "business"}); got["plan"] != "business" {
			t.Fatalf("%v", got)
		}
		for i := range 11 {
			owner.must(201, "POST", "/api/v1/datasets", map[string]any{"name": fmt.Sprint("list ", i)})
		}
		preview := owner.must(200, "POST", sub+"/preview", map[string]any{"plan": "pro"})
		if preview["effective"] != "period_end" || len(preview["excess"].([]any)) != 1 {
			t.Errorf("%v", preview)
		}
		owner.must(200, "POST", sub+"/change", map[string]any{"plan": "pro"})
		got := owner.must(200, "POST", sub+"/change", map[string]any{"quantity": 2})
		if current := got["subscription"].(map[string]any); current["next"] != nil || current["quantity"] != 2.0 {
			t.Errorf("%v", current)
		}
		owner.must(200, "POST", sub+"/change", map[string]any{"plan": "pro", "quantity": 1})
		renewal()
		shows("pro", "active", "")
		if got := owner.must(403, "POST", "/api/v1/datasets", map[string]any{"name": "one more"}); got["code"] != "plan_limit_reached" {
			t.Errorf("%v", got)
		}
		lists := owner.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)
		if len(lists) < 11 {
			t.Errorf("%d datasets are left", len(lists))
		}

		// 23. A renewal that fails: a mail for each attempt, everything as before in
		// the grace, read-only after it, and back when it is paid.
		card("4000000000000341")
		renewal()
		if got := shows("pro", "past_due", ""); got["banners"].([]any)[0].(map[string]any)["code"] != "payment_failed" {
			t.Errorf("%v", got["banners"])
		}
		letter(t, base, "buyer@example.org", "Your payment of USD 49.00 did not go through")
		match := map[string]any{"query": map[string]any{"name": "x"}, "dataset_ids": []any{lists[0].(map[string]any)["id"]}}
		key.must(200, "POST", "/api/v1/matches", match)
		later(7 * 24 * time.Hour)
		settled()
		got = shows("pro", "past_due", "past_due")
		if got := key.must(402, "POST", "/api/v1/matches", match); got["code"] != "subscription_inactive" {
			t.Errorf("%v", got)
		}
		key.must(200, "GET", "/api/v1/datasets", nil)
		pays(got["subscription"].(map[string]any)["pay_url"].(string), "4242424242424242")
		eventually(t, "it works again", func() bool { status, _, _ := key.do("POST", "/api/v1/matches", match); return status == 200 })
		letter(t, base, "buyer@example.org", "Thank you")
		card("4242424242424242")

		// 19, 22. Cancelled, undone, and ended behind our back.
		if got := owner.must(200, "POST", sub+"/cancel", nil); got["banners"].([]any)[0].(map[string]any)["code"] != "ends" {
			t.Errorf("%v", got["banners"])
		}
		owner.must(200, "POST", sub+"/undo", nil)
		owner.must(200, "POST", sub+"/cancel", nil)
		renewal()
		shows("free", "canceled", "")
		letter(t, base, "buyer@example.org", "Your subscription to pro has ended")
		if n := len(owner.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)); n != len(lists) {
			t.Errorf("%d datasets after the end", n)
		}

		// 5. A first payment that needs a hand and is left was never access, and
		// bars nobody.
		pays(offer("pro"), "4000002760003184")
		settled()
		shows("free", "incomplete", "")
		later(24 * time.Hour)
		settled()
		shows("free", "incomplete_expired", "")

		// 2. All events are held back: who comes back from Checkout has what was
		// paid, and the events change nothing when they come.
		fate(`{"drop":1}`)
		pays(offer("business"), "4242424242424242")
		eventually(t, "the events are lost", func() bool { return box.Waiting() == 0 })
		shows("free", "incomplete_expired", "")
		owner.must(200, "POST", "/api/v1/billing/refresh", nil)
		before := shows("business", "active", "")
		fate(`{}`)
		box.Resend()
		settled()
		if after := shows("business", "active", ""); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("the events changed something:\n%v\n%v", before, after)
		}
		made := 0
		for _, c := range box.Calls() {
			if c.Method == "POST" && c.Path == "/v1/customers" && c.Status == 200 && !c.Replayed {
				made++
			}
		}
		if made != 1 {
			t.Errorf("%d customers were made", made)
		}
		if wrong, err := p.sales.Prove(t.Context()); err != nil || len(wrong) != 0 {
			t.Errorf("%v %v", wrong, err)
		}
	})
}
