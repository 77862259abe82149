package billing

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	sandbox "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// subscriber makes a tenant that has paid for months, all of it read.
func subscriber(t *testing.T, db testdb.DB, number string) *story {
	t.Helper()
	s := openShop(t, db)
	h := &story{shop: s, tenant: db.A, between: s.deliver, night: func() {}}
	h.begin("pro", 2, number)
	for range 3 {
		h.then(month)
	}
	h.reconcile()
	return h
}

func (h *story) reconcile() {
	h.Helper()
	if err := h.sales.Reconcile(context.Background()); err != nil {
		h.Fatal(err)
	}
	h.work()
}

// lose has what Stripe says now never arrive.
func (h *story) lose() {
	h.Helper()
	if err := h.box.Deliver(context.Background(), sandbox.Fate{Drop: 1}); err != nil {
		h.Fatal(err)
	}
}

// invoices are those that we show, oldest first.
func (h *story) invoices() (out []Invoice) {
	h.Helper()
	err := h.db.Read(h.ctx(), func(ctx context.Context) error { return h.db.For(ctx).Order("created").Find(&out).Error })
	if err != nil {
		h.Fatal(err)
	}
	return out
}

// giveBack refunds part of the oldest invoice in the dashboard.
func (h *story) giveBack(amount string) {
	h.Helper()
	h.stripeAPI("POST", "/v1/refunds", url.Values{"charge": {h.invoices()[0].Charge}, "amount": {amount}})
}

func (h *story) refunded(want int64, why string) {
	h.Helper()
	if got := h.invoices()[0].Refunded; got != want {
		h.Errorf("%s: %d of the oldest invoice are shown as refunded, want %d", why, got, want)
	}
}

// What was paid long ago is not read each time; what changes of it is seen all
// the same: by its event, by Stripe's list of events where that never came, and
// by the whole reading where that list no longer has it.
func TestAnOldInvoiceChanges(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := subscriber(t, db, good)
		if n := len(h.invoices()); n != 4 {
			t.Fatalf("%d invoices", n)
		}
		asked := len(h.box.Calls())
		h.sync(h.tenant)
		for _, c := range h.box.Calls()[asked:] {
			if (c.Path == "/v1/invoices" || c.Path == "/v1/charges") && !strings.Contains(c.Form, `"created"`) {
				t.Errorf("%s is read whole: %s", c.Path, c.Form)
			}
		}

		h.giveBack("100")
		h.deliver()
		h.refunded(100, "its event came")

		h.giveBack("10")
		h.lose()
		h.sync(h.tenant)
		h.refunded(100, "its event was lost")
		h.reconcile()
		h.refunded(110, "reconciled")

		if err := h.sales.Refund(h.ctx(), h.invoices()[0].ID, 20, "operator:x", "test"); err != nil {
			t.Fatal(err)
		}
		h.refunded(130, "by an operator of ours")

		// Longer ago than the events that reconciliation takes.
		h.giveBack("1")
		h.lose()
		h.later(keep + time.Hour)
		h.sync(h.tenant)
		h.refunded(130, "lost for days")
		h.reconcile()
		h.refunded(131, "read whole")

		// Of a customer that has nothing any more, at the latest after 30 days.
		h.stripeAPI("DELETE", "/v1/subscriptions/"+h.subscriptionID(), nil)
		h.between()
		h.then(200 * days)
		h.reconcile()
		h.giveBack("2")
		h.lose()
		h.later(29 * days)
		h.reconcile()
		h.refunded(131, "quiet for long")
		h.later(2 * days)
		h.reconcile()
		h.refunded(133, "quiet for long, and due")
	})
}

// An old invoice that was never paid is looked at each time, and so is a dispute
// that is not closed: what becomes of them needs no event.
func TestWhatIsOpenIsAlwaysRead(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := subscriber(t, db, disputed)
		h.card(h.tenant, failing)
		h.then(month)
		h.then(9 * days) // the end of dunning: the invoice stays open
		h.begin("business", 1, good)
		h.then(month)
		h.then(month)
		open := slices.IndexFunc(h.invoices(), func(i Invoice) bool { return i.Status == "open" })
		if open < 0 {
			t.Fatal("no invoice was left open")
		}
		owed := h.invoices()[open]
		h.stripeAPI("POST", "/v1/invoices/"+owed.ID+"/void", nil)
		for _, d := range h.list("/v1/disputes", url.Values{}) {
			if d["charge"] == h.invoices()[0].Charge {
				h.stripeAPI("POST", "/v1/disputes/"+d["id"].(string), url.Values{"evidence[uncategorized_text]": {"winning_evidence"}})
			}
		}
		h.lose()
		h.sync(h.tenant)
		if i := h.invoices()[open]; i.ID != owed.ID || i.Status != "void" {
			t.Errorf("%+v", i)
		}
		if n := h.count("disputes WHERE status = 'won'"); n != 1 {
			t.Errorf("%d disputes are won", n)
		}
	})
}
