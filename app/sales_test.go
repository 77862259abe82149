package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/cluster"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
	"github.com/chainreactions/chainreactions/tenants/privacy"
)

// fillIn fills in a page of the payment service and follows nothing.
func fillIn(t *testing.T, page string, form url.Values) int {
	t.Helper()
	res, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).PostForm(page, form)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// A tenant buys in the whole program: Checkout's page, signed events to our own
// door, a job, and the limits of what was paid for. Keys cannot buy, forged
// events get 400, and who does not pay reads and cannot run.
func TestBuyingInTheProgram(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		user, key, tenant := person(t, base, "buyer")
		other, _, _ := person(t, base, "other")
		const sub = "/api/v1/billing/subscription"
		if got := user.must(200, "GET", sub, nil); got["plan"] != "free" || got["sandbox"] != true || got["available"] != true {
			t.Errorf("%v", got)
		}
		eventually(t, "prices at the payment service", func() bool {
			changes, err := p.sales.SyncCatalogue(context.Background(), true)
			return err == nil && len(changes) == 0
		})
		buy := map[string]any{"plan": "pro", "interval": "month", "quantity": 2}
		calls := len(p.desk.server.Calls())
		key.must(403, "POST", "/api/v1/billing/checkout", buy)
		if n := len(p.desk.server.Calls()); n != calls {
			t.Errorf("a refused purchase made %d calls to Stripe", n-calls)
		}
		user.must(422, "POST", "/api/v1/billing/checkout", map[string]any{"plan": "nothing", "interval": "month"})
		link := user.must(200, "POST", "/api/v1/billing/checkout", buy)
		if link["sandbox"] != true {
			t.Errorf("%v", link)
		}
		if status := fillIn(t, link["url"].(string), url.Values{"action": {"pay"}, "number": {"4242424242424242"}}); status != 303 {
			t.Fatalf("the payment page: %d", status)
		}
		// Nobody comes back to the portal: the events alone bring it.
		eventually(t, "the plan in force", func() bool { return user.must(200, "GET", "/api/v1/usage", nil)["plan"] == "pro" })
		got := user.must(200, "GET", sub, nil)
		current := got["subscription"].(map[string]any)
		if got["source"] != "subscription" || current["status"] != "active" || current["quantity"] != 2.0 || current["unit_amount"] != 4900.0 || got["card"].(map[string]any)["last4"] != "4242" {
			t.Errorf("%v", got)
		}
		if got := other.must(200, "GET", sub, nil); got["plan"] != "free" || got["subscription"] != nil {
			t.Errorf("the other tenant: %v", got)
		}
		invoices := user.must(200, "GET", "/api/v1/billing/invoices", nil)["data"].([]any)
		if len(invoices) != 1 || invoices[0].(map[string]any)["amount_paid"] != 9800.0 {
			t.Errorf("%v", invoices)
		}
		user.must(409, "POST", "/api/v1/billing/checkout", buy)
		preview := user.must(200, "POST", sub+"/preview", map[string]any{"plan": "business"})
		if preview["effective"] != "now" || preview["due_now"].(float64) < 29_000 || preview["due_now"].(float64) > 30_000 {
			t.Errorf("%v", preview)
		}
		changed := user.must(200, "POST", sub+"/change", map[string]any{"plan": "business", "proration_date": preview["proration_date"]})
		if changed["plan"] != "business" || changed["payment_url"] != "" {
			t.Errorf("%v", changed)
		}
		if got := user.must(200, "POST", sub+"/cancel", nil); got["subscription"].(map[string]any)["cancel_at_period_end"] != true {
			t.Errorf("%v", got)
		}
		if got := user.must(200, "POST", sub+"/undo", nil); got["subscription"].(map[string]any)["cancel_at_period_end"] != false {
			t.Errorf("%v", got)
		}
		user.must(200, "POST", "/api/v1/billing/portal", nil)

		for range 2 { // however often it is asked for, one reconciliation is planned
			if err := p.sales.Regular(context.Background()); err != nil {
				t.Error(err)
			}
		}
		anyone := client{t, base, http.Header{}}
		anyone.must(400, "POST", "/webhooks/stripe", map[string]any{"id": "evt_1"})
		anyone.must(400, "POST", "/webhooks/stripe", map[string]any{"id": "evt_1"}, "Stripe-Signature", "t=1,v1=00")

		// Stripe gives up on a renewal: what is there can be read, and nothing runs.
		eventually(t, "every event worked", func() bool {
			waiting, err := p.sales.Inbox(context.Background(), billing.InboxRequest{Status: "received"})
			return err == nil && len(waiting.Data) == 0 && p.desk.server.Waiting() == 0
		})
		sys := domain.System(context.Background(), "test")
		list := user.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		err := p.store.Tx(sys, func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, "UPDATE subscriptions SET status = 'unpaid' WHERE tenant_id = @owner", map[string]any{"owner": tenant})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		match := map[string]any{"query": map[string]any{"name": "x"}, "dataset_ids": []string{list}}
		eventually(t, "402", func() bool { status, _, _ := user.do("POST", "/api/v1/matches", match); return status == 402 })
		_, raw, _ := user.do("POST", "/api/v1/datasets", map[string]any{"name": "another"})
		var problem map[string]any
		if json.Unmarshal(raw, &problem); problem["code"] != "subscription_inactive" {
			t.Errorf("%s", raw)
		}
		user.must(200, "GET", "/api/v1/datasets/"+list, nil)
		// The payment service is asked: it knows of a payment.
		if got := user.must(200, "POST", "/api/v1/billing/refresh", nil); got["read_only"] != "" {
			t.Errorf("%v", got)
		}
		user.must(200, "POST", "/api/v1/matches", match)

		// The end, as before a tenant is deleted: it is told by mail, once.
		if err := p.sales.End(domain.WithScope(context.Background(), domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "test"}})); err != nil {
			t.Fatal(err)
		}
		letter(t, base, "buyer@example.org", "Your subscription to business has ended")
		eventually(t, "the free plan", func() bool { return user.must(200, "GET", "/api/v1/usage", nil)["plan"] == "free" })
	})
}

// A production server without a key sells nothing, says so, and works.
func TestNothingIsSoldWithoutAKey(t *testing.T) {
	eachWith(t, map[string]string{"SANDBOX": "off"}, func(t *testing.T, p *program, base string) {
		user, _, _ := person(t, base, "buyer")
		status, raw, _ := user.do("POST", "/api/v1/billing/checkout", map[string]any{"plan": "pro", "interval": "month"})
		if status != 503 || !strings.Contains(string(raw), "provider_not_configured") {
			t.Errorf("%d %s", status, raw)
		}
		if got := user.must(200, "GET", "/api/v1/billing/subscription", nil); got["available"] != false || got["plan"] != "free" {
			t.Errorf("%v", got)
		}
	})
}

// A change of what a tenant may use reaches every process by the bell. The
// clocks stand still, so that nothing believed grows old: only the bell tells.
func TestTheBellReachesEveryProcess(t *testing.T) {
	db, redis := testdb.OnPostgres(t), testdb.Redis(t)
	now := time.Now()
	log := slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var process []*billing.Service
	for range 3 {
		c, err := cluster.Open(cluster.Config{RedisURL: redis, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := billing.New(ctx, billing.Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store, SecretKey: []byte(strings.Repeat("k", 32)), Dir: t.TempDir()}), Bell: c, Logger: log, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		go s.Listen(ctx)
		process = append(process, s)
	}
	var took []time.Duration
	for i := range 60 {
		plan := []string{"pro", "business"}[i%2]
		for _, s := range process { // believed by all, and for ever
			if _, err := s.Entitlements(db.In(db.A)); err != nil {
				t.Fatal(err)
			}
		}
		if err := process[i%3].SetPlan(domain.System(ctx, "test"), db.A, plan, "operator:x", "test"); err != nil {
			t.Fatal(err)
		}
		changed := time.Now()
		eventually(t, plan+" on every process", func() bool {
			return !slices.ContainsFunc(process, func(s *billing.Service) bool {
				p, err := s.Entitlements(db.In(db.A))
				return err != nil || p.Name != plan
			})
		})
		took = append(took, time.Since(changed))
	}
	slices.Sort(took)
	t.Logf("from the commit to the limit in force on three processes: median %s, longest of %d %s", took[len(took)/2], len(took), took[len(took)-1])
}

// The sandbox's Stripe stands alone too, for programs in several processes: its
// events find the door, and what is bought is marked as the sandbox's.
func TestSharedSandbox(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	ours, theirs := freePort(t), freePort(t)
	cmd := command()
	cmd.SetArgs([]string{"billing", "sandbox", "--addr", fmt.Sprintf("127.0.0.1:%d", theirs), "--webhook-url", fmt.Sprintf("http://127.0.0.1:%d/webhooks/stripe", ours), "--seed", "5"})
	cmd.SetOut(io.Discard)
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	api := fmt.Sprintf("http://127.0.0.1:%d", theirs)
	eventually(t, "the sandbox listens", func() bool {
		res, err := http.Get(api + "/_sandbox/calls")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
	c, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir(), "STRIPE_API_BASE": api, "STRIPE_SECRET_KEY": sandboxKey, "STRIPE_WEBHOOK_SECRET": "whsec_next,whsec_sandbox"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ours))
	if err != nil {
		t.Fatal(err)
	}
	serving, drain := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.run(serving, l) }()
	defer func() {
		drain()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if _, err := p.sales.SyncCatalogue(ctx, false); err != nil {
		t.Fatal(err)
	}
	user, _, _ := person(t, fmt.Sprintf("http://127.0.0.1:%d", ours), "buyer")
	link := user.must(200, "POST", "/api/v1/billing/checkout", map[string]any{"plan": "pro", "interval": "year", "currency": "jpy"})
	if link["sandbox"] != true {
		t.Errorf("%v", link)
	}
	if status := fillIn(t, link["url"].(string), url.Values{"action": {"pay"}, "number": {"4242424242424242"}}); status != 303 {
		t.Fatalf("the payment page: %d", status)
	}
	eventually(t, "the plan in force", func() bool { return user.must(200, "GET", "/api/v1/usage", nil)["plan"] == "pro" })
	if inv := user.must(200, "GET", "/api/v1/billing/invoices", nil)["data"].([]any)[0].(map[string]any); inv["currency"] != "jpy" || inv["amount_paid"] != 75000.0 {
		t.Errorf("%v", inv)
	}
}

// Administrators write plans, and give and take what lies beside them; each is
// in force at once and on the record of the tenant with its reason.
func TestOfficeOfBilling(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, _, tenant := person(t, base, "customer")
		root, _, _ := person(t, base, "root")
		administrator(t, p, root)
		const admin = "/api/v1/admin"
		account := admin + "/tenants/" + tenant
		owner.must(403, "GET", admin+"/plans", nil)

		// A plan is written, published and sold, and its price is at the payment service.
		plans := root.must(200, "GET", admin+"/plans", nil)["data"].([]any)
		team := plans[1].(map[string]any)["published"].(map[string]any)
		delete(team, "name")
		delete(team, "version")
		team["prices"] = []any{map[string]any{"currency": "usd", "interval": "month", "amount": 2500}}
		draft := admin + "/plans/team/draft"
		root.must(422, "PUT", draft, map[string]any{"title": team["title"], "quotas": map[string]any{}, "rates": map[string]any{}, "levels": map[string]any{}, "features": []any{}})
		if got := root.must(200, "PUT", draft, team); got["status"] != "draft" || got["draft"] == nil {
			t.Errorf("%v", got)
		}
		if got := root.must(200, "POST", admin+"/plans/team/publish", nil); got["status"] != "published" || got["current"] != 1.0 || got["draft"] != nil {
			t.Errorf("%v", got)
		}
		root.must(404, "DELETE", draft, nil)
		eventually(t, "the price is there", func() bool {
			return strings.Contains(fmt.Sprint(owner.must(200, "GET", "/api/v1/plans", nil)["data"]), "team") &&
				len(root.must(200, "POST", admin+"/plans/sync", map[string]any{"dry_run": true})["changes"].([]any)) == 0
		})
		link := owner.must(200, "POST", "/api/v1/billing/checkout", map[string]any{"plan": "team", "interval": "month", "quantity": 2})
		if status := fillIn(t, link["url"].(string), url.Values{"action": {"pay"}, "number": {"4242424242424242"}}); status != 303 {
			t.Fatalf("the payment page: %d", status)
		}
		if got := owner.must(200, "POST", "/api/v1/billing/refresh", nil); got["plan"] != "team" {
			t.Fatalf("%v", got)
		}
		root.must(200, "POST", admin+"/plans/team/archive", nil)

		// A limit beside the plan, until it is taken away.
		limit := func() any {
			for _, m := range owner.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
				if m := m.(map[string]any); m["meter"] == "match" {
					return m["limit"]
				}
			}
			return nil
		}
		before := limit()
		root.must(422, "POST", account+"/overrides", map[string]any{"kind": "quota", "name": "nothing", "value": 5, "reason": "a test"})
		root.must(404, "POST", admin+"/tenants/"+domain.NewID("ten")+"/overrides", map[string]any{"kind": "quota", "name": "match", "value": 5, "reason": "a test"})
		got := root.must(200, "POST", account+"/overrides", map[string]any{"kind": "quota", "name": "match", "value": 5, "reason": "a large customer", "expires_at": time.Now().Add(time.Hour)})
		if limit() != 5.0 || len(got["overrides"].([]any)) != 1 {
			t.Errorf("%v %v", limit(), got["overrides"])
		}
		root.must(204, "DELETE", account+"/overrides/quota/match", nil)
		root.must(404, "DELETE", account+"/overrides/quota/match", nil)
		if limit() != before {
			t.Errorf("%v after the override, %v before", limit(), before)
		}

		// Money back, and money towards what comes.
		inv := root.must(200, "GET", account+"/invoices", nil)["data"].([]any)[0].(map[string]any)
		if back := root.must(200, "POST", account+"/refunds", map[string]any{"invoice": inv["id"], "amount": 900, "reason": "an outage"}); back["amount_refunded"] != 900.0 {
			t.Errorf("%v", back)
		}
		root.must(422, "POST", account+"/refunds", map[string]any{"invoice": inv["id"], "amount": 4101, "reason": "an outage"})
		root.must(422, "POST", account+"/credits", map[string]any{"amount": 1200, "currency": "eur", "reason": "an outage"})
		root.must(201, "POST", account+"/credits", map[string]any{"amount": 1200, "currency": "usd", "reason": "an outage"})
		preview := owner.must(200, "POST", "/api/v1/billing/subscription/preview", map[string]any{"plan": "business"})
		if due := preview["due_now"].(float64); due < 2*19900-2*2500-1200-300 || due > 2*19900-2*2500-1200 {
			t.Errorf("the credit is not in %v", preview)
		}

		// A plan that a tenant did not pay for.
		if got := root.must(200, "POST", account+"/plan", map[string]any{"plan": "enterprise", "reason": "a partner"}); got["source"] != "operator" || got["plan"] != "enterprise" {
			t.Errorf("%v", got)
		}
		root.must(200, "POST", account+"/plan", map[string]any{"plan": "free", "reason": "it is over"})
		if got := root.must(200, "GET", account+"/account", nil); got["plan"] != "team" || len(got["credits"].([]any)) != 1 || got["customer"] == "" {
			t.Errorf("%v", got)
		}

		// The inbox, and the sums.
		eventually(t, "every event worked", func() bool {
			return len(root.must(200, "GET", admin+"/billing/events?status=received", nil)["data"].([]any)) == 0 && p.desk.server.Waiting() == 0
		})
		done := root.must(200, "GET", admin+"/billing/events?status=done&limit=1", nil)["data"].([]any)[0].(map[string]any)["id"].(string)
		root.must(204, "POST", admin+"/billing/events/"+done+"/replay", nil)
		root.must(404, "POST", admin+"/billing/events/evt_none/replay", nil)
		if wrong := root.must(200, "POST", admin+"/billing/prove", nil)["data"].([]any); len(wrong) != 0 {
			t.Errorf("%v", wrong)
		}
		root.must(200, "GET", admin+"/billing/differences", nil)

		for path, want := range map[string]string{"overview": `"plan":"team"`, "revenue": `"new":5000`, "funnel": `"step":"paid","tenants":1`, "cohorts": `"paying":[1]`, "usage": `"paid":4100`} {
			_, raw, _ := root.do("GET", admin+"/analytics/"+path, nil)
			if !strings.Contains(string(raw), want) {
				t.Errorf("%s has no %s: %s", path, want, raw)
			}
		}
		if got := owner.must(200, "GET", "/api/v1/usage/analytics?by=meter", nil); len(got["forecast"].([]any)) != 7 {
			t.Errorf("%v", got)
		}

		seen := strings.Join(owner.events(""), ", ")
		for _, want := range []string{"admin plan.set", "admin plan.override", "admin plan.override_end", "admin invoice.refund", "admin credit.give", "admin admin.read_account"} {
			if !strings.Contains(seen, want) {
				t.Errorf("%q is not on the tenant's record: %s", want, seen)
			}
		}
	})
}

// A seat is bought before the invitation that needs it goes out; where it is
// not paid there is none. A tenant that is erased is charged no more, and where
// the payment service does not answer it is not erased.
func TestSeatsAndTheEnd(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, _, _ := person(t, base, "buyer")
		eventually(t, "prices at the payment service", func() bool {
			changes, err := p.sales.SyncCatalogue(context.Background(), true)
			return err == nil && len(changes) == 0
		})
		link := owner.must(200, "POST", "/api/v1/billing/checkout", map[string]any{"plan": "business", "interval": "month", "quantity": 1})
		fillIn(t, link["url"].(string), url.Values{"action": {"pay"}, "number": {"4242424242424242"}})
		owner.must(200, "POST", "/api/v1/billing/refresh", nil)
		invite := func(email string, buy bool) map[string]any {
			return map[string]any{"email": email, "role": "analyst", "buy_seat": buy}
		}
		if got := owner.must(403, "POST", "/api/v1/tenant/invitations", invite("two@example.org", false)); got["code"] != "plan_limit_reached" {
			t.Errorf("%v", got)
		}
		owner.must(201, "POST", "/api/v1/tenant/invitations", invite("two@example.org", true))
		seats := func() float64 {
			return owner.must(200, "GET", "/api/v1/billing/subscription", nil)["subscription"].(map[string]any)["quantity"].(float64)
		}
		if n := seats(); n != 2 {
			t.Errorf("%v seats", n)
		}
		portal := owner.must(200, "POST", "/api/v1/billing/portal", nil)["url"].(string)
		fillIn(t, portal, url.Values{"action": {"pay"}, "number": {"4000000000000341"}})
		if got := owner.must(402, "POST", "/api/v1/tenant/invitations", invite("three@example.org", true)); got["code"] != "payment_failed" {
			t.Errorf("%v", got)
		}
		if n := len(owner.must(200, "GET", "/api/v1/tenant/invitations", nil)["data"].([]any)); n != 1 || seats() != 2 {
			t.Errorf("%d invitations, %v seats", n, seats())
		}

		eventually(t, "every event worked", func() bool {
			waiting, err := p.sales.Inbox(context.Background(), billing.InboxRequest{Status: "received"})
			return err == nil && len(waiting.Data) == 0 && p.desk.server.Waiting() == 0
		})
		subscription := func() string {
			r, err := http.NewRequest("GET", p.desk.config.URL+"/v1/subscriptions?status=all", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+sandboxKey)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var list struct{ Data []struct{ Status string } }
			if err := json.NewDecoder(res.Body).Decode(&list); err != nil || len(list.Data) != 1 {
				t.Fatal(err, list)
			}
			return list.Data[0].Status
		}
		erasure := owner.must(202, "POST", "/api/v1/privacy/erasures", map[string]any{"scope": "tenant", "grace_days": 1})
		due := func(sales *billing.Sales) error {
			now := p.privacy.Now
			was := p.sales
			p.privacy.Now = func() time.Time { return time.Now().Add(49 * time.Hour) }
			p.sales = sales
			defer func() { p.privacy.Now, p.sales = now, was }()
			return p.privacy.RunErase(context.Background(), privacy.EraseJob{})
		}
		deaf := billing.NewSales(billing.SalesConfig{Store: p.store, Audit: p.audit, Queue: p.queue, Plans: p.billing,
			Stripe: stripe.New(stripe.Config{Key: sandboxKey, BaseURL: "http://127.0.0.1:1"}), Logger: slog.New(slog.DiscardHandler)})
		if err := due(deaf); err == nil || subscription() != "active" {
			t.Errorf("erased without the payment service: %v, %s", err, subscription())
		}
		owner.must(200, "GET", "/api/v1/privacy/erasures/"+erasure["id"].(string), nil)
		if err := due(p.sales); err != nil {
			t.Fatal(err)
		}
		if got := subscription(); got != "canceled" {
			t.Errorf("the subscription of an erased tenant is %s", got)
		}
	})
}
