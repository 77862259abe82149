package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	deskstripe "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// lap is how long after a change at Stripe its event was in the inbox, its job
// was begun, the new state was written, and every process kept it.
type lap [4]time.Duration

// lag changes a tenant's subscription at Stripe, behind our back, and takes the
// time until each of three processes keeps the new limits. The event comes to
// the first process, and whichever has a worker free does its job.
func lag(t testing.TB, rounds int) (laps []lap) {
	db, redis := testdb.OnPostgres(t), testdb.StartRedis(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, "DATABASE_URL="+db.URL, "REDIS_URL="+redis.URL, "STRIPE_API_BASE=http://"+l.Addr().String(), "STRIPE_SECRET_KEY="+sandboxKey, "STRIPE_WEBHOOK_SECRET=whsec_lag")
	box, err := deskstripe.New(deskstripe.Config{URL: "http://" + l.Addr().String(), WebhookSecret: "whsec_lag"})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(box)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	bases := []string{h.start(0), h.start(1), h.start(2)}
	box.WebhookURL = bases[0] + "/webhooks/stripe"

	stripeAPI := func(method, path string, form url.Values) (out map[string]any) {
		t.Helper()
		r, err := http.NewRequest(method, srv.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+sandboxKey)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode != 200 {
			t.Fatal(res.StatusCode, out, err)
		}
		return out
	}
	plans, err := billing.New(context.Background(), billing.Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store, SecretKey: []byte(strings.Repeat("k", 32)), Dir: t.TempDir()})})
	if err != nil {
		t.Fatal(err)
	}
	priced := billing.NewSales(billing.SalesConfig{Store: db.Store, Plans: plans, Stripe: stripe.New(stripe.Config{Key: sandboxKey, BaseURL: srv.URL})})
	if _, err := priced.SyncCatalogue(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	call := func(base, method, path string, body any) (out map[string]any) {
		t.Helper()
		status, raw, err := roundTrip(http.DefaultClient, header, method, base+path, body)
		if err != nil || status > 299 || json.Unmarshal(raw, &out) != nil {
			t.Fatalf("%s %s: %d %s %v", method, path, status, raw, err)
		}
		return out
	}
	signed := call(bases[0], "POST", "/api/v1/auth/signup", map[string]any{"email": "lag@example.org", "password": "correct horse battery", "full_name": "Lag", "workspace_name": "Lag", "accept_terms": true})
	tenant := signed["tenant"].(map[string]any)["id"].(string)
	header.Set("Authorization", "Bearer "+signed["access_token"].(string))
	fast := billing.Override{Owned: store.Owned{TenantID: tenant}, Kind: "rate", Name: "light", Value: 1 << 40} // asking is not what is measured
	if err := plans.Override(domain.System(context.Background(), "test"), fast); err != nil {
		t.Fatal(err)
	}
	link := call(bases[1], "POST", "/api/v1/billing/checkout", map[string]any{"plan": "pro", "interval": "month"})["url"].(string)
	res, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).PostForm(link, url.Values{"action": {"pay"}, "number": {"4242424242424242"}})
	if err != nil || res.StatusCode != 303 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	call(bases[2], "POST", "/api/v1/billing/refresh", nil)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { box.Run(ctx); close(ran) }()
	defer func() { stop(); <-ran }()

	sub := stripeAPI("GET", "/v1/subscriptions", nil)["data"].([]any)[0].(map[string]any)
	item := sub["items"].(map[string]any)["data"].([]any)[0].(map[string]any)["id"].(string)
	price := map[string]string{}
	for _, plan := range []string{"pro", "business"} {
		for _, p := range stripeAPI("GET", "/v1/prices?limit=100&active=true", nil)["data"].([]any) {
			if key, _ := p.(map[string]any)["lookup_key"].(string); strings.HasPrefix(key, plan+".") && strings.HasSuffix(key, ".usd.month") {
				price[plan] = p.(map[string]any)["id"].(string)
			}
		}
	}
	for i := range rounds {
		plan := []string{"business", "pro"}[i%2]
		began := time.Now()
		stripeAPI("POST", "/v1/subscriptions/"+sub["id"].(string), url.Values{"items[0][id]": {item}, "items[0][price]": {price[plan]}, "proration_behavior": {"none"}})
		var wg sync.WaitGroup
		for _, base := range bases {
			wg.Go(func() {
				for time.Since(began) < patience {
					if status, raw, err := roundTrip(http.DefaultClient, header, "GET", base+"/api/v1/usage", nil); err == nil && status == 200 && strings.Contains(string(raw), `"plan":"`+plan+`"`) {
						return
					}
					time.Sleep(10 * time.Millisecond) // it is another process: there is nothing to wait on, and who asks without pause takes the processor from it
				}
				t.Errorf("%s is not in force at %s", plan, base)
			})
		}
		wg.Wait()
		inForce := time.Since(began)
		var at struct{ Received, Picked, Done time.Time }
		err := db.Read(domain.System(ctx, "test"), func(ctx context.Context) error {
			return db.SQL(ctx, `SELECT (SELECT min(received_at) FROM stripe_events WHERE received_at >= @began) AS received, (SELECT min(done_at) FROM stripe_events WHERE received_at >= @began) AS done,
				(SELECT min(attempted_at) FROM river.river_job WHERE args->>'name' = 'billing.sync' AND created_at >= @began) AS picked`, map[string]any{"began": began.UTC()}).Scan(&at).Error
		})
		if err != nil {
			t.Fatal(err)
		}
		laps = append(laps, lap{at.Received.Sub(began), at.Picked.Sub(began), at.Done.Sub(began), inForce})
	}
	return laps
}

// What changes at Stripe is in force on every process, whichever of them the
// event reaches. How soon is measured by BenchmarkStripeToLimit.
func TestStripeToLimitOnThreeProcesses(t *testing.T) { lag(t, 4) }

func BenchmarkStripeToLimit(b *testing.B) {
	laps := lag(b, 200)
	before := make([]time.Duration, len(laps))
	for step, name := range []string{"event-stored", "job-begun", "written", "in-force-everywhere"} {
		var steps, total []time.Duration
		for i, l := range laps {
			steps, total = append(steps, l[step]-before[i]), append(total, l[step])
			before[i] = l[step]
		}
		slices.Sort(steps)
		slices.Sort(total)
		b.Logf("%-20s p50 %v, p99 %v after the step before it", name, steps[len(steps)/2].Round(time.Millisecond/10), steps[len(steps)*99/100].Round(time.Millisecond/10))
		if step == len(laps[0])-1 {
			b.ReportMetric(float64(total[len(total)/2].Milliseconds()), "p50-ms")
			b.ReportMetric(float64(total[len(total)*99/100].Milliseconds()), "p99-ms")
		}
	}
	b.ReportMetric(0, "ns/op")
}
