package billing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// Years of many tenants in six currencies, of which the yen has no minor unit
// and the dinar three: what the ledger, Stripe and our own pages say differs by
// nothing. MONEY_TENANTS and MONEY_MONTHS set how much; BENCH_FULL is a thousand
// tenants and ten years. MONEY_SEED repeats; MONEY_TENANT is one of them alone, or
// FIRST-LAST of them, for several processes to share.
func TestMoneyAddsUp(t *testing.T) {
	tenants, months := 6, 7
	if os.Getenv("BENCH_FULL") != "" {
		tenants, months = 1000, 120
	}
	if n, err := strconv.Atoi(os.Getenv("MONEY_TENANTS")); err == nil {
		tenants = n
	}
	if n, err := strconv.Atoi(os.Getenv("MONEY_MONTHS")); err == nil {
		months = n
	}
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("MONEY_SEED"), 10, 64); err == nil {
		seed = n
	}
	first := 0
	if from, to, several := strings.Cut(os.Getenv("MONEY_TENANT"), "-"); from != "" {
		if !several {
			to = from
		}
		n, err := strconv.Atoi(from)
		last, wrong := strconv.Atoi(to)
		if err != nil || wrong != nil {
			t.Fatal(err, wrong)
		}
		first, tenants = n, last+1
	}
	t.Logf("%d tenants, %d months, MONEY_SEED=%d", tenants-first, months, seed)
	db := testdb.SQLite(t)
	var sum struct{ invoices, charged, refunded, packages int64 }
	for i := first; i < tenants && !t.Failed(); i++ {
		currency := []string{"usd", "eur", "gbp", "cny", "jpy", "kwd"}[i%6]
		name := fmt.Sprintf("tenant %d in %s (MONEY_SEED=%d MONEY_TENANT=%d)", i, currency, seed, i)
		t.Run(name, func(t *testing.T) { // what a life has left is swept up with it
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			empty(t, db)
			db := db
			db.A = newTenant(t, db)
			s := openShopWith(t, db, 10+r.Uint64()>>1, func(c *SalesConfig) { c.Records = i%12 < 6 })
			s.box.WebhookURL = "" // what was missed is found by reading
			life := &saga{story: &story{shop: s, tenant: db.A, between: func() {}, night: func() {}}, r: r, currency: currency, m: s.meter()}
			for range months {
				life.month()
			}
			n, charged, refunded, packages := life.adds(name)
			sum.invoices += n
			sum.charged += charged
			sum.refunded += refunded
			sum.packages += packages
		})
	}
	t.Logf("%d invoices, %d packages beyond quotas; %d charged and %d refunded, in minor units of all currencies", sum.invoices, sum.packages, sum.charged, sum.refunded)
}

// saga is the life of one tenant, drawn month by month.
type saga struct {
	*story
	r        *rand.Rand
	currency string
	m        *Meter
	limited  bool // its quota is so small that it passes it
}

// month does something and lets a month pass. Stripe is read when the invoice is
// final, often while it is a draft, and sometimes before that: who reads seldom
// has more to find.
func (l *saga) month() {
	ctx := l.ctx()
	l.plans.forgetAll()
	_, st, err := l.plans.Standing(ctx, l.tenant)
	if err != nil {
		l.Fatal(err)
	}
	sub := st.Subscription
	alive := sub != nil && live(sub.Status)
	ignore := func(_ any, err error) { // a refusal is an answer too; a fault is not
		if err != nil && (domain.KindOf(err) == domain.Internal || domain.CodeOf(err) == "provider_unavailable") {
			l.Fatal(err)
		}
	}
	switch {
	case !alive:
		plan := []string{"pro", "business", "business"}[l.r.IntN(3)]
		link, err := l.sales.Checkout(ctx, CheckoutRequest{Plan: plan, Interval: []string{"month", "month", "year"}[l.r.IntN(3)], Quantity: l.r.Int64N(3) + 1, Currency: l.currency})
		if err == nil {
			l.form(link.URL, pay(good))
		}
		ignore(link, err)
	case sub.Status == "active":
		switch l.r.IntN(12) {
		case 0:
			ignore(l.sales.Change(ctx, ChangeRequest{Quantity: l.r.Int64N(5) + 1}))
		case 1:
			ignore(l.sales.Change(ctx, ChangeRequest{Plan: []string{"pro", "business"}[l.r.IntN(2)]}))
		case 2:
			ignore(l.sales.Change(ctx, ChangeRequest{Interval: []string{"month", "year"}[l.r.IntN(2)]}))
		case 3:
			ignore(l.sales.Cancel(ctx, struct{}{}))
		case 4:
			ignore(l.sales.Undo(ctx, struct{}{}))
		case 5:
			l.card(l.tenant, failing)
		case 6:
			page, err := l.sales.Invoices(ctx, domain.PageRequest{})
			if err != nil {
				l.Fatal(err)
			}
			inv := page.Data[l.r.IntN(len(page.Data))]
			if left := inv.AmountPaid - inv.Refunded; left > 100 && inv.Charge != "" {
				ignore(nil, l.sales.Refund(ctx, inv.ID, (l.r.Int64N(left/10)+1)*10, "operator:x", "a test"))
			}
		case 7:
			ignore(nil, l.sales.End(ctx))
		}
	default: // somebody pays what is owed
		l.card(l.tenant, good)
		for _, inv := range l.list("/v1/invoices", url.Values{"customer": {l.customerID()}, "status": {"open"}}) {
			l.form("/i/"+inv["id"].(string), pay(good))
		}
	}
	if l.r.IntN(3) == 0 {
		l.read()
	}
	l.plans.forgetAll()
	plan, err := l.plans.Entitlements(ctx)
	if err != nil {
		l.Fatal(err)
	}
	if plan.Name == "business" && plan.Inactive == "" {
		if !l.limited {
			quota(l.T, l.m, l.tenant, "match", 1000)
			l.limited = true
		}
		ignore(nil, l.m.spend(ctx, "match", l.r.Int64N(4000)+1))
		l.bill(l.tenant)
	}
	if plan.Period.End.Sub(l.Now()) < 40*days {
		l.later(max(0, plan.Period.End.Sub(l.Now())) + 5*time.Minute)
	}
	if l.r.IntN(2) == 0 {
		l.read()
	}
	l.later(2*time.Hour + time.Duration(l.r.IntN(5))*days)
	l.read()
}

func (l *saga) read() {
	l.Helper()
	row := need(l.sales.customer(l.ctx()))(l.shop)
	if row.id() == "" {
		return
	}
	l.sync(l.tenant)
	l.bill(l.tenant)
}

// adds compares, after the last invoice: what we show with what Stripe has,
// invoice by invoice; charges and refunds; packages with the ledger; and the
// recurring revenue with the subscriptions at Stripe.
func (l *saga) adds(who string) (invoices, charged, refunded, packages int64) {
	l.Helper()
	l.later(3 * time.Hour)
	l.read()
	for range 2 {
		l.later(2 * time.Hour)
		l.read()
	}
	var ours []Invoice
	if err := l.db.Read(l.ctx(), func(ctx context.Context) error { return l.db.For(ctx).Find(&ours).Error }); err != nil {
		l.Fatal(err)
	}
	shown := map[string]Invoice{}
	for _, i := range ours {
		shown[i.ID] = i
	}
	whole := func(path string, form url.Values) (out []map[string]any) {
		for {
			page := l.list(path, form)
			out = append(out, page...)
			if len(page) < 100 {
				return out
			}
			form.Set("starting_after", page[99]["id"].(string))
		}
	}
	var total, paid int64
	theirs := whole("/v1/invoices", url.Values{})
	for _, i := range theirs {
		o := shown[i["id"].(string)]
		n := func(name string) int64 { return int64(i[name].(float64)) }
		var lines int64
		for _, x := range i["lines"].(map[string]any)["data"].([]any) {
			lines += int64(x.(map[string]any)["amount"].(float64))
		}
		if o.Total != n("total") || o.AmountDue != n("amount_due") || o.AmountPaid != n("amount_paid") || o.AmountRemaining != n("amount_remaining") || o.Status != i["status"] || o.Currency != l.currency || lines != n("total") {
			l.Errorf("%s: we show %+v, Stripe has %v, its lines add up to %d", who, o, i, lines)
		}
		if l.currency == "kwd" && n("total")%10 != 0 {
			l.Errorf("%s: %d is no amount that can be charged", who, n("total"))
		}
		total += n("total")
		paid += n("amount_paid")
	}
	if len(theirs) != len(ours) {
		l.Errorf("%s: we show %d invoices of %d", who, len(ours), len(theirs))
	}
	for _, c := range whole("/v1/charges", url.Values{}) {
		if c["status"] == "succeeded" {
			charged += int64(c["amount"].(float64))
			refunded += int64(c["amount_refunded"].(float64))
		}
	}
	var back int64
	for _, i := range ours {
		back += i.Refunded
	}
	if charged != paid || refunded != back {
		l.Errorf("%s: %d charged and %d paid; %d refunded and %d shown", who, charged, paid, refunded, back)
	}
	for _, d := range need(l.sales.Prove(context.Background()))(l.shop) {
		l.Errorf("%s: %+v", who, d)
	}
	var rows []usageTotal
	if err := l.db.Read(l.ctx(), func(ctx context.Context) error { return l.db.For(ctx).Where("packages > 0").Find(&rows).Error }); err != nil {
		l.Fatal(err)
	}
	var settled, money int64
	for _, t := range rows {
		packages += t.Packages
		if t.SettledAt != nil {
			settled += t.Packages
			money += t.Packages * t.Amount
		}
	}
	n, m := l.billsAll(theirs)
	for _, x := range whole("/v1/invoiceitems", url.Values{}) { // late ones that wait for the next invoice
		if many, late := x["metadata"].(map[string]any)["packages"].(string); late && x["invoice"] == nil {
			waiting, err := strconv.ParseInt(many, 10, 64)
			if err != nil {
				l.Fatal(err)
			}
			n += waiting
			m += int64(x["amount"].(float64))
		}
	}
	if n < settled || n > packages || n == settled && m != money {
		l.Errorf("%s: %d packages of %d are settled, %d are on invoices; %d and %d", who, settled, packages, n, money, m)
	}
	var mrr, closing int64
	for _, x := range l.list("/v1/subscriptions", url.Values{"status": {"all"}}) {
		if x["status"] != "active" && x["status"] != "past_due" {
			continue
		}
		for _, i := range x["items"].(map[string]any)["data"].([]any) {
			i := i.(map[string]any)
			price := i["price"].(map[string]any)
			recurring := price["recurring"].(map[string]any)
			if recurring["usage_type"] == "metered" {
				continue
			}
			a := int64(price["unit_amount"].(float64)) * int64(i["quantity"].(float64))
			if recurring["interval"] == "year" {
				a = (a + 6) / 12
			}
			mrr += a
		}
	}
	var history []subscriptionChange
	if err := l.db.Read(l.ctx(), func(ctx context.Context) error { return l.db.For(ctx).Find(&history).Error }); err != nil {
		l.Fatal(err)
	}
	var last int64
	for i, m := range movements(history, l.Now()) {
		if i > 0 && m.Opening != last || m.Opening+m.New+m.Expansion+m.Contraction+m.Churn+m.Reactivation != m.Closing {
			l.Errorf("%s: %+v after a close of %d", who, m, last)
		}
		last, closing = m.Closing, m.Closing
	}
	if closing != mrr {
		l.Errorf("%s: the figures close at %d, Stripe's subscriptions are worth %d", who, closing, mrr)
	}
	return int64(len(ours)), charged, refunded, packages
}

// billsAll are the packages on the invoices given, and their money.
func (l *saga) billsAll(invoices []map[string]any) (packages, amount int64) {
	for _, inv := range invoices {
		if inv["status"] == "void" || inv["status"] == "draft" {
			continue
		}
		for _, x := range inv["lines"].(map[string]any)["data"].([]any) {
			line := x.(map[string]any)
			price, _ := line["price"].(map[string]any)
			recurring, _ := price["recurring"].(map[string]any)
			if recurring["usage_type"] == "metered" {
				packages += int64(line["quantity"].(float64))
				amount += int64(line["amount"].(float64))
			}
			if n, late := line["metadata"].(map[string]any)["packages"].(string); late {
				many, err := strconv.ParseInt(n, 10, 64)
				if err != nil {
					l.Fatal(err)
				}
				packages += many
				amount += int64(line["amount"].(float64))
			}
		}
	}
	return packages, amount
}
