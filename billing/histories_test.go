package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sandbox "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// stripeAPI does something behind our back, as the dashboard does.
func (s *shop) stripeAPI(method, path string, form url.Values) map[string]any {
	s.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if method == "GET" {
		r = httptest.NewRequest(method, path+"?"+form.Encode(), nil)
	}
	r.Header.Set("Authorization", "Bearer sk_test_1")
	w := httptest.NewRecorder()
	s.box.ServeHTTP(w, r)
	out := map[string]any{}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
		s.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return out
}

func (s *shop) list(path string, form url.Values) (out []map[string]any) {
	s.Helper()
	form.Set("limit", "100")
	for _, x := range s.stripeAPI("GET", path, form)["data"].([]any) {
		out = append(out, x.(map[string]any))
	}
	return out
}

// story is one history: a shop, one tenant in it, and what happens between its
// steps.
type story struct {
	*shop
	tenant  string
	between func()
	night   func() // after each step of time
}

func (h *story) ctx() context.Context { return h.db.In(h.tenant) }

func (h *story) then(d time.Duration) {
	h.Helper()
	h.between()
	h.later(d)
	h.between()
	h.night()
}

func (h *story) offer(plan, interval string, seats int64) string {
	h.Helper()
	return need(h.sales.Checkout(h.ctx(), CheckoutRequest{Plan: plan, Interval: interval, Quantity: seats}))(h.shop).URL
}

func (h *story) begin(plan string, seats int64, number string) {
	h.Helper()
	h.form(h.offer(plan, "month", seats), url.Values{"action": {"pay"}, "number": {number}})
	h.between()
}

func (h *story) change(in ChangeRequest) ChangeResponse {
	h.Helper()
	out := need(h.sales.Change(h.ctx(), in))(h.shop)
	h.between()
	return out
}

func (h *story) customerID() string { return need(h.sales.customer(h.ctx()))(h.shop).id() }

func (h *story) subscriptionID() string {
	h.Helper()
	return h.list("/v1/subscriptions", url.Values{"customer": {h.customerID()}, "status": {"all"}})[0]["id"].(string)
}

func (h *story) payOpenInvoice() {
	h.Helper()
	for _, inv := range h.list("/v1/invoices", url.Values{"customer": {h.customerID()}, "status": {"open"}}) {
		h.pays200("/i/" + inv["id"].(string))
	}
	h.between()
}

const (
	good, failing, secure, disputed, debit, bounces = "4242424242424242", "4000000000000341", "4000002760003184", "4000000000000259", "000123456789", "000111111116"
	month                                           = 31 * 24 * time.Hour
	days                                            = 24 * time.Hour
)

// shapes are the histories that a subscription can have, in the orders of
// acts; what befalls the events between them is drawn.
var shapes = map[string]func(h *story){
	"bought":          func(h *story) { h.begin("pro", 2, good) },
	"bought, renewed": func(h *story) { h.begin("pro", 2, good); h.then(month); h.then(month) },
	"declined, bought": func(h *story) {
		u := h.offer("pro", "month", 1)
		h.form(u, pay("4000000000000002"))
		h.form(u, pay(good))
	},
	"3-D Secure": func(h *story) {
		u := h.offer("pro", "month", 1)
		h.form(u, pay(secure))
		h.between()
		h.form(u, url.Values{"action": {"authenticate"}})
	},
	"3-D Secure left":   func(h *story) { h.begin("pro", 1, secure); h.then(25 * time.Hour) },
	"left, then bought": func(h *story) { h.begin("pro", 1, secure); h.then(25 * time.Hour); h.begin("business", 1, good) },
	"bank debit":        func(h *story) { h.begin("pro", 1, debit); h.then(2 * time.Hour); h.then(5 * days) },
	"bank debit bounces": func(h *story) {
		h.begin("pro", 1, bounces)
		h.then(5 * days)
	},
	"cancelled, ended":  func(h *story) { h.begin("pro", 1, good); h.cancel(); h.then(month) },
	"cancelled, undone": func(h *story) { h.begin("pro", 1, good); h.cancel(); h.undo(); h.then(month) },
	"cancelled in the portal": func(h *story) {
		h.begin("pro", 1, good)
		h.form(need(h.sales.OpenPortal(h.ctx(), struct{}{}))(h.shop).URL, url.Values{"action": {"cancel"}, "subscription": {h.subscriptionID()}})
		h.then(month)
	},
	"upgraded": func(h *story) { h.begin("pro", 2, good); h.then(9 * days); h.change(ChangeRequest{Plan: "business"}) },
	"upgrade not paid": func(h *story) {
		h.begin("pro", 2, good)
		h.card(h.tenant, failing)
		h.then(5 * days)
		h.change(ChangeRequest{Plan: "business"})
		h.then(25 * time.Hour)
	},
	"upgrade paid late": func(h *story) {
		h.begin("pro", 2, good)
		h.card(h.tenant, failing)
		h.then(5 * days)
		h.change(ChangeRequest{Plan: "business"})
		h.payOpenInvoice()
	},
	"downgraded": func(h *story) {
		h.begin("business", 2, good)
		h.then(days)
		h.change(ChangeRequest{Plan: "pro"})
		h.then(month)
	},
	"downgrade undone": func(h *story) {
		h.begin("business", 2, good)
		h.change(ChangeRequest{Plan: "pro"})
		h.undo()
		h.then(month)
	},
	"downgrade, upgraded": func(h *story) {
		h.begin("business", 2, good)
		h.change(ChangeRequest{Plan: "pro"})
		h.then(days)
		h.change(ChangeRequest{Quantity: 4})
		h.then(month)
	},
	"seats up and down": func(h *story) {
		h.begin("pro", 2, good)
		h.then(days)
		h.change(ChangeRequest{Quantity: 5})
		h.change(ChangeRequest{Quantity: 1})
		h.then(month)
	},
	"monthly to yearly": func(h *story) {
		h.begin("pro", 2, good)
		h.then(12 * days)
		h.change(ChangeRequest{Interval: "year"})
		h.then(month)
	},
	"dunning, paid": func(h *story) {
		h.begin("pro", 2, good)
		h.card(h.tenant, failing)
		h.then(month)
		h.then(3 * days)
		h.payOpenInvoice()
		h.then(6 * days)
	},
	"dunning, card changed": func(h *story) {
		h.begin("pro", 2, good)
		h.card(h.tenant, failing)
		h.then(month)
		h.card(h.tenant, good)
		h.then(4 * days)
	},
	"dunning to the end": func(h *story) { h.begin("pro", 2, good); h.card(h.tenant, failing); h.then(month); h.then(9 * days) },
	"unpaid, then paid": func(h *story) {
		h.box.AfterRetries = "unpaid"
		h.begin("pro", 2, good)
		h.card(h.tenant, failing)
		h.then(month)
		h.then(9 * days)
		h.payOpenInvoice()
	},
	"disputed":     func(h *story) { h.begin("pro", 1, disputed); h.then(days) },
	"dispute lost": func(h *story) { h.begin("pro", 1, disputed); h.evidence("losing_evidence"); h.then(days) },
	"dispute won":  func(h *story) { h.begin("pro", 1, disputed); h.evidence("winning_evidence"); h.then(days) },
	"refunded":     func(h *story) { h.begin("pro", 2, good); h.refund(1000); h.refund(500) },
	"ended in the dashboard, bought again": func(h *story) {
		h.begin("pro", 2, good)
		h.stripeAPI("DELETE", "/v1/subscriptions/"+h.subscriptionID(), nil)
		h.between()
		h.begin("business", 1, good)
	},
	"customer deleted at Stripe": func(h *story) {
		h.begin("pro", 2, good)
		h.stripeAPI("DELETE", "/v1/customers/"+h.customerID(), nil)
		h.between()
	},
	"trial, paused, resumed": func(h *story) {
		h.sales.Trial = 14
		h.form(h.offer("pro", "month", 1), url.Values{"action": {"pay"}, "number": {""}})
		h.then(15 * days)
		h.card(h.tenant, good)
		need(h.sales.Resume(h.ctx(), struct{}{}))(h.shop)
		h.then(days)
	},
	"trial with a card": func(h *story) { h.sales.Trial = 14; h.begin("pro", 1, good); h.then(12 * days); h.then(3 * days) },
}

func pay(number string) url.Values { return url.Values{"action": {"pay"}, "number": {number}} }

func (h *story) cancel() { h.Helper(); need(h.sales.Cancel(h.ctx(), struct{}{}))(h.shop); h.between() }
func (h *story) undo()   { h.Helper(); need(h.sales.Undo(h.ctx(), struct{}{}))(h.shop); h.between() }

func (h *story) evidence(text string) {
	h.Helper()
	for _, d := range h.list("/v1/disputes", url.Values{}) {
		h.stripeAPI("POST", "/v1/disputes/"+d["id"].(string), url.Values{"evidence[uncategorized_text]": {text}})
	}
	h.between()
}

func (h *story) refund(amount int64) {
	h.Helper()
	need(h.sales.Refresh(h.ctx(), struct{}{}))(h.shop)
	inv := need(h.sales.Invoices(h.ctx(), domain.PageRequest{}))(h.shop).Data[0]
	if err := h.sales.Refund(h.ctx(), inv.ID, amount, "operator:x", "test"); err != nil {
		h.Fatal(err)
	}
	h.between()
}

// ending is everything that a history leads to, without ids: how the tenant
// stands, its subscriptions, its invoices, and what was charged.
func (h *story) ending() string {
	h.Helper()
	h.plans.forgetAll()
	plan := need(h.plans.Entitlements(h.ctx()))(h.shop)
	var subs []Subscription
	var invoices []Invoice
	var disputes []Dispute
	err := h.db.Read(h.ctx(), func(ctx context.Context) error {
		return errors.Join(h.db.For(ctx).Find(&subs).Error, h.db.For(ctx).Find(&invoices).Error, h.db.For(ctx).Find(&disputes).Error)
	})
	if err != nil {
		h.Fatal(err)
	}
	var lines []string
	add := func(v any) {
		raw := need(json.Marshal(v))(h.shop)
		lines = append(lines, string(raw))
	}
	for _, s := range subs {
		s.TenantID, s.ID, s.Price, s.Item, s.LatestInvoice = "", "", "", "", ""
		s.Schedule = strconv.FormatBool(s.Schedule != "")
		for meter, i := range s.Metered {
			s.Metered[meter] = item{Amount: i.Amount}
		}
		add(s)
	}
	for _, i := range invoices {
		i.TenantID, i.ID, i.Subscription, i.Charge, i.HostedURL, i.PDF = "", "", "", "", "", ""
		add(i)
	}
	for _, d := range disputes {
		add([]any{d.Status, d.Amount})
	}
	sort.Strings(lines)
	var charged int64
	customers := h.list("/v1/customers", url.Values{})
	for _, ch := range h.list("/v1/charges", url.Values{}) {
		if ch["status"] == "succeeded" {
			charged += int64(ch["amount"].(float64)) - int64(ch["amount_refunded"].(float64))
		}
	}
	return fmt.Sprintf("%s/%d seats %d inactive %q\n%d customers, %d charged\n%s", plan.Name, plan.Version, plan.Levels["seats"], plan.Inactive, len(customers), charged, strings.Join(lines, "\n"))
}

// readWhole has the next reading of every customer be of everything.
func (h *story) readWhole() {
	h.Helper()
	err := h.db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		_, err := h.db.Exec(ctx, "UPDATE billing_customers SET whole_due = NULL WHERE tenant_id <> @no", map[string]any{"no": ""})
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
}

// told are the mails that went out, without ids, sorted.
func (h *story) told() (out []string) {
	h.Helper()
	for _, m := range h.mails {
		out = append(out, m.Template+" "+string(need(json.Marshal(m.Data))(h.shop)))
	}
	slices.Sort(out)
	return out
}

// empty takes away what is one shop's in a database that many share.
func empty(t *testing.T, db testdb.DB) {
	t.Helper()
	err := db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		for _, stmt := range []string{"DELETE FROM stripe_events WHERE id <> @no", "DELETE FROM plan_prices WHERE id <> @no", "DELETE FROM billing_customers WHERE tenant_id <> @no",
			"DELETE FROM subscriptions WHERE tenant_id <> @no", "DELETE FROM invoices WHERE tenant_id <> @no", "DELETE FROM disputes WHERE tenant_id <> @no", "DELETE FROM usage_totals WHERE tenant_id <> @no"} {
			if _, err := db.Exec(ctx, stmt, map[string]any{"no": ""}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newTenant(t *testing.T, db testdb.DB) string {
	t.Helper()
	id := domain.NewID("ten")
	err := db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		_, err := db.Exec(ctx, "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES (@id, @slug, @slug, @now, @now)",
			map[string]any{"id": id, "slug": "h-" + id[4:], "now": time.Now().UTC()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// tell runs a shape in a shop of its own. The database is shared: the inbox and
// the price list are emptied, and the tenant is new.
func tell(t *testing.T, db testdb.DB, seed uint64, shape func(h *story), between func(h *story) func(), nights bool) (end string, mails []string) {
	t.Helper()
	t.Run("", func(t *testing.T) { end, mails = telling(t, db, seed, shape, between, nights) }) // what a shop has left is swept up with it
	return end, mails
}

func telling(t *testing.T, db testdb.DB, seed uint64, shape func(h *story), between func(h *story) func(), nights bool) (end string, mails []string) {
	t.Helper()
	empty(t, db)
	tenant := newTenant(t, db)
	h := &story{shop: openShopWith(t, db, seed), tenant: tenant}
	h.between, h.night = between(h), func() {
		if nights {
			if err := h.sales.Reconcile(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	shape(h)
	// In the end everything arrives: what was dropped is sent again. That is
	// enough; the reconciliation, which reads everything and must find nothing, is not needed.
	h.fails = nil
	h.box.Resend()
	for h.box.Waiting() > 0 {
		h.deliver()
	}
	h.work()
	if n := h.count("stripe_events WHERE status = 'received'"); n != 0 {
		t.Errorf("%d events were never worked", n)
	}
	end, mails = h.ending(), h.told()
	h.readWhole()
	if err := h.sales.Reconcile(context.Background()); err != nil {
		t.Fatal(err)
	}
	h.work()
	if again := h.ending(); again != end {
		t.Errorf("reconciliation found what the events had not brought:\n%s\n%s", end, again)
	}
	if again := h.told(); !slices.Equal(again, mails) {
		t.Errorf("reconciliation told anew: %q, then %q", mails, again)
	}
	return end, mails
}

// chaos draws what befalls events, jobs and calls between two acts: duplicates,
// losses, delays, any order, workers that die before a call, after it, or never
// get to their job.
func chaos(r *rand.Rand) func(h *story) func() {
	return func(h *story) func() {
		return func() {
			for range r.IntN(3) {
				_ = h.box.Deliver(context.Background(), sandbox.Fate{Duplicate: r.Float64() / 2, Drop: r.Float64() / 2, Delay: r.Float64() / 2, Reorder: r.IntN(2) == 0})
				h.mu.Lock()
				jobs := h.jobs
				h.jobs = nil
				r.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
				h.mu.Unlock()
				for _, job := range jobs {
					ctx, die := context.WithCancel(context.Background())
					if left := r.IntN(12); r.IntN(3) == 0 {
						h.fails = func(*http.Request) (bool, bool) {
							if left--; left >= 0 {
								return false, false
							}
							die()
							return left%2 == 0, true
						}
					}
					if r.IntN(4) > 0 {
						if h.sales.RunSync(ctx, job.(SyncJob)) == nil {
							h.fails = nil
							die()
							continue
						}
					}
					h.fails = nil
					die()
					_ = h.Enqueue(context.Background(), job, domain.JobOptions{}) // the queue gives it to another worker
				}
			}
		}
	}
}

// However events are delivered and whoever dies on the way, every history ends
// where the orderly one does: the same entitlements, subscriptions and invoices,
// and the same money. Where the nightly reconciliation runs it has sent the same
// mails; where it does not either, what was lost until it was over is not told
// late, and nothing is told twice or that the orderly one does not tell. HISTORIES sets how many are drawn, BENCH_FULL draws ten
// thousand; HISTORY_SEED repeats.
func TestRandomHistories(t *testing.T) {
	if len(shapes) < 20 {
		t.Fatalf("%d shapes", len(shapes))
	}
	rounds, some := 1, true // half of the shapes, drawn
	n, err := strconv.Atoi(os.Getenv("HISTORIES"))
	if os.Getenv("BENCH_FULL") != "" {
		n, err = 10_000, nil
	}
	if err == nil {
		rounds, some = (n+len(shapes)-1)/len(shapes), false
	}
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("HISTORY_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("%d shapes, %d rounds, half of them: %t, HISTORY_SEED=%d", len(shapes), rounds, some, seed)
	db := testdb.SQLite(t)
	r := rand.New(rand.NewPCG(seed, 0))
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	if some {
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = names[:len(names)/2]
	}
	for _, name := range names {
		want, mails := tell(t, db, 10+r.Uint64()>>1, shapes[name], func(h *story) func() { return h.deliver }, false)
		for range rounds {
			nights := r.IntN(2) == 0
			got, told := tell(t, db, 10+r.Uint64()>>1, shapes[name], chaos(r), nights)
			if got != want {
				t.Errorf("%s (HISTORY_SEED=%d) ended otherwise.\norderly:\n%s\nthis time:\n%s", name, seed, want, got)
			}
			if nights && !slices.Equal(told, mails) || !within(told, mails) {
				t.Errorf("%s (HISTORY_SEED=%d), reconciled every night: %t, mailed\n%s\norderly:\n%s", name, seed, nights, strings.Join(told, "\n"), strings.Join(mails, "\n"))
			}
		}
		if t.Failed() {
			return
		}
	}
}

// within says whether all that the first sorted list has, as often, is in the second.
func within(some, all []string) bool {
	for _, x := range some {
		i, found := slices.BinarySearch(all, x)
		if !found {
			return false
		}
		all = all[i+1:]
	}
	return true
}

// Of two readers of one customer the one who read first never writes last:
// while the first is reading, the subscription ends and a second reader writes
// that down.
func TestAnOlderReadNeverWins(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := openShop(t, db)
		s.buy(db.A, "pro", 2)
		s.deliver()
		h := &story{shop: s, tenant: db.A}
		customer, sub := h.customerID(), h.subscriptionID()
		// The first reader has its four answers in hand when it is overtaken.
		h.readWhole()
		var read, overtaken atomic.Int64
		s.served = func(*http.Request) {
			if read.Add(1) == 4 {
				s.stripeAPI("DELETE", "/v1/subscriptions/"+sub, nil)
				if err := s.sales.Sync(context.Background(), customer); err != nil {
					t.Error(err)
				}
				overtaken.Store(1)
			}
		}
		if err := s.sales.Sync(context.Background(), customer); err != nil || overtaken.Load() != 1 {
			t.Fatal(read.Load(), err)
		}
		s.has(db.A, "free", 2, "")
	})
}

// A crash at every point between two effects of buying, changing and
// cancelling: enumerated, not sampled. The caller tries again, as people do, and
// there is one customer, one subscription and one charge for each thing bought.
func TestCrashPoints(t *testing.T) { testdb.Each(t, crashPoints) }

// crashStep is how far one crash point that is tried is from the next. On
// PostgreSQL a few of one act are tried, and with BENCH_FULL all of all, as on
// SQLite always: 0 tries none of the act.
func crashStep(db testdb.DB, act string) int {
	switch {
	case db.URL == "" || os.Getenv("BENCH_FULL") != "":
		return 1
	case act == "upgrade" || act == "after it":
		return 9
	}
	return 0
}

func crashPoints(t *testing.T, db testdb.DB) {
	acts := map[string]struct {
		before func(h *story)
		act    func(h *story, ctx context.Context) error
		after  func(h *story)
	}{
		"buy": {func(*story) {}, func(h *story, ctx context.Context) error {
			_, err := h.sales.Checkout(ctx, CheckoutRequest{Plan: "pro", Interval: "month", Quantity: 2})
			return err
		}, func(h *story) { h.begin("pro", 2, good) }},
		"upgrade": {func(h *story) { h.begin("pro", 2, good); h.then(9 * days) }, func(h *story, ctx context.Context) error {
			_, err := h.sales.Change(ctx, ChangeRequest{Plan: "business"})
			return err
		}, func(*story) {}},
		"seats": {func(h *story) { h.begin("pro", 2, good); h.then(9 * days) }, func(h *story, ctx context.Context) error {
			_, err := h.sales.Change(ctx, ChangeRequest{Quantity: 4})
			return err
		}, func(*story) {}},
		"downgrade": {func(h *story) { h.begin("business", 2, good); h.then(9 * days) }, func(h *story, ctx context.Context) error {
			_, err := h.sales.Change(ctx, ChangeRequest{Plan: "pro"})
			return err
		}, func(h *story) { h.then(month) }},
		"cancel": {func(h *story) { h.begin("pro", 2, good) }, func(h *story, ctx context.Context) error {
			_, err := h.sales.Cancel(ctx, struct{}{})
			return err
		}, func(h *story) { h.then(month) }},
	}
	seed := uint64(1000)
	for name, a := range acts {
		want, mails := "", []string(nil)
		step, tried := crashStep(db, name), 0
		for point := 0; step > 0; point += step { // 0 is none; then after and before each call in turn
			calls, died := 0, false
			seed++
			got, told := tell(t, db, seed, func(h *story) {
				a.before(h)
				for {
					ctx, die := context.WithCancel(h.ctx())
					h.fails = func(*http.Request) (before, after bool) {
						calls++
						if died || point == 0 || calls != (point+1)/2 {
							return false, false
						}
						died = true
						die()
						return point%2 == 0, true
					}
					err := a.act(h, ctx)
					h.fails = nil
					die()
					if err == nil {
						break
					}
					if !died {
						h.Fatalf("%s, point %d: %v", name, point, err)
					}
				}
				a.after(h)
			}, func(h *story) func() { return h.deliver }, false)
			if point == 0 {
				want, mails = got, told
				continue
			}
			if !died {
				t.Logf("%s: %d crash points", name, tried)
				break
			}
			tried++
			if got != want || !slices.Equal(told, mails) {
				t.Errorf("%s, crash point %d:\nwithout:\n%s\n%q\nwith:\n%s\n%q", name, point, want, mails, got, told)
			}
		}
	}
}

// The tests leave much behind in little time: they are quicker where it is swept
// up less often.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
