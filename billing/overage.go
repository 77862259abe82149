package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// What a tenant uses beyond a quota that its plan lets it pass becomes packages
// on an invoice, each once, whatever dies on the way:
//
//	ledger ──same transaction──▶ usage_totals.packages      what was used
//	                                   │
//	      sending := packages          │  written before Stripe is told, so that
//	      Stripe is told, again        │  after a crash the same thing is told
//	      until it has answered        ▼  again, under the same key
//	                             usage_totals.reported      what Stripe has
//	                                   │
//	      Stripe's period is over, its invoice is final, or the subscription ended:
//	      packages - what invoices charge = 0, or that many go onto the next
//	      invoice by hand              ▼
//	                             usage_totals.settled_at    what is billed
//
// The last step needs no trust in the ones before it: it compares what was used
// with what invoices say. So a report that came an hour too late, usage that a
// process brought home after the period, a subscription that somebody ended in
// the dashboard, and a change of interval, which drops what Stripe counted, all
// end the same way.

// reporter is one of Stripe's two ways to count.
type reporter interface {
	// report has Stripe count r.packages instead of r.before for r's period, once
	// however often it is called.
	report(ctx context.Context, r usageReport) error
	// counted is what Stripe counts for r's period now.
	counted(ctx context.Context, r usageReport) (int64, error)
}

// usageReport is one number that Stripe is to be told.
type usageReport struct {
	key              string // names this report
	customer, item   string
	meter            string
	start, end       time.Time // of the quota period
	at               time.Time // when it was first sent
	before, packages int64
}

// usageRecords sets the period's one record, at its beginning.
type usageRecords struct{ *stripe.Client }

func (u usageRecords) report(ctx context.Context, r usageReport) error {
	return u.SetUsage(ctx, r.key, r.item, r.packages, r.start)
}

func (u usageRecords) counted(ctx context.Context, r usageReport) (int64, error) {
	return u.UsageOf(ctx, r.item)
}

// meterEvents adds the difference. Stripe knows an identifier for a day: after
// half of one, what it counted is looked at first.
type meterEvents struct {
	*stripe.Client
	now func() time.Time
}

const sureOfIdentifiers = 12 * time.Hour

func (u meterEvents) report(ctx context.Context, r usageReport) error {
	now := u.now()
	if now.Sub(r.at) > sureOfIdentifiers {
		if has, err := u.counted(ctx, r); err != nil || has >= r.packages {
			return err
		}
	}
	at := r.at
	if !at.Before(r.end) {
		at = r.end.Add(-time.Second)
	}
	return u.MeterEvent(ctx, r.key, meterEvent(r.meter), r.customer, r.packages-r.before, at)
}

func (u meterEvents) counted(ctx context.Context, r usageReport) (int64, error) {
	meters, err := u.Meters(ctx)
	if err != nil {
		return 0, err
	}
	return u.Metered(ctx, meters[meterEvent(r.meter)], r.customer, r.start, r.end)
}

// meterEvent is the name of Stripe's events of a meter of ours.
func meterEvent(meter string) string { return "chainreactions_" + meter }

// reporter is chosen by the price, which counts one way or the other.
func (s *Sales) reporter(p planPrice) reporter {
	if p.Records {
		return usageRecords{s.Stripe}
	}
	return meterEvents{s.Stripe, s.Now}
}

// ReportJob brings a tenant's packages onto its invoices.
type ReportJob struct{ Tenant string }

// Kind is the queue's.
func (ReportJob) Kind() string { return "billing.report" }

// Outward keeps it waiting in quarantine.
func (ReportJob) Outward() {}

// RunReport works a ReportJob.
func (s *Sales) RunReport(ctx context.Context, job ReportJob) error { return s.Bill(ctx, job.Tenant) }

// Bill tells Stripe what a tenant used beyond its quotas, and settles periods
// that are over.
func (s *Sales) Bill(ctx context.Context, tenant string) error {
	if err := s.configured(); err != nil {
		return err
	}
	ctx = domain.System(ctx, "report usage")
	var owing []usageTotal
	var row billingCustomer
	var subs []Subscription
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		err := s.Store.For(ctx).Where("tenant_id = ? AND packages > 0 AND settled_at IS NULL", tenant).Order("period, meter").Find(&owing).Error
		if err != nil || len(owing) == 0 {
			return err
		}
		return errors.Join(s.Store.For(ctx).Where("tenant_id = ?", tenant).Limit(1).Find(&row).Error, s.Store.For(ctx).Where("tenant_id = ?", tenant).Find(&subs).Error)
	})
	if err != nil || len(owing) == 0 || row.Customer == nil {
		return err
	}
	var of []string
	for _, t := range owing {
		of = append(of, t.Price)
	}
	prices, err := s.priceList(ctx, of...)
	if err != nil {
		return err
	}
	for _, t := range owing {
		at := slices.IndexFunc(subs, func(x Subscription) bool { return x.ID == t.Subscription })
		if at < 0 {
			return fmt.Errorf("billing: usage of the subscription %s, which is not known", t.Subscription)
		}
		if err := s.report(ctx, *row.Customer, t, subs[at], prices); err != nil {
			return err
		}
	}
	return s.settleUsage(ctx, *row.Customer, row.Deleted, tenant, subs)
}

// report brings what Stripe counts up to what was used, while it still takes it:
// until the invoice of its period is final.
func (s *Sales) report(ctx context.Context, customer string, t usageTotal, sub Subscription, prices map[string]planPrice) error {
	item, has := sub.Metered[t.Meter]
	if !has || item.Price != t.Price || !live(sub.Status) || !s.Now().Before(t.BillEnd.Add(draftFor)) {
		return nil
	}
	for {
		if t.Sending == 0 {
			if t.Packages <= t.Reported {
				return nil
			}
			now := s.Now().UTC()
			err := s.Store.Tx(ctx, func(ctx context.Context) error {
				// The number is taken by one of two who report at once; both then send it.
				if _, err := s.Store.Exec(ctx, `UPDATE usage_totals SET sending = packages, sequence = sequence + 1, sent_at = @now
					WHERE tenant_id = @owner AND meter = @meter AND period = @period AND sending = 0 AND packages > reported`, t.at("now", now)); err != nil {
					return err
				}
				return s.Store.For(ctx).Where("tenant_id = ? AND meter = ? AND period = ?", t.TenantID, t.Meter, t.Period).Take(&t).Error
			})
			if err != nil || t.Sending == 0 {
				return err
			}
		}
		r := t.usageReport(customer, item.ID)
		var refused *stripe.Refused
		err := s.reporter(prices[t.Price]).report(ctx, r)
		if errors.As(err, &refused) { // too late for the period: it is settled by hand
			s.Logger.Warn("a report of usage came too late", "tenant", t.TenantID, "meter", t.Meter, "period", t.Period, "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		err = s.Store.Tx(ctx, func(ctx context.Context) error {
			if _, err := s.Store.Exec(ctx, `UPDATE usage_totals SET reported = sending, sending = 0
				WHERE tenant_id = @owner AND meter = @meter AND period = @period AND sequence = @sequence AND sending > 0`, t.at("sequence", t.Sequence)); err != nil {
				return err
			}
			return s.Store.For(ctx).Where("tenant_id = ? AND meter = ? AND period = ?", t.TenantID, t.Meter, t.Period).Take(&t).Error
		})
		if err != nil {
			return err
		}
	}
}

// draftFor is how long after its period Stripe's invoice still takes usage in.
const draftFor = time.Hour

// at are the arguments that name the row, and one more.
func (t usageTotal) at(name string, v any) map[string]any {
	return map[string]any{"owner": t.TenantID, "meter": t.Meter, "period": t.Period, name: v}
}

// usageReport is the report under way.
func (t usageTotal) usageReport(customer, item string) usageReport {
	start, end := t.span()
	r := usageReport{key: fmt.Sprintf("%s:%s:%s:%d", t.TenantID, t.Meter, t.Period, t.Sequence), customer: customer, item: item, meter: t.Meter,
		start: start, end: end, before: t.Reported, packages: t.Sending}
	if t.SentAt != nil {
		r.at = *t.SentAt
	}
	return r
}

// span is the quota period: what the row's id begins, within Stripe's period.
func (t usageTotal) span() (start, end time.Time) {
	cadence := "month"
	if t.BillEnd.Sub(*t.BillStart) > 32*24*time.Hour {
		cadence = "year"
	}
	start, _ = time.Parse(time.RFC3339, t.Period)
	quota, _ := spans(Subscription{Cadence: cadence, PeriodStart: *t.BillStart, PeriodEnd: *t.BillEnd}, start)
	return quota.Start, quota.End
}

// settleUsage compares what was used with what invoices charge, in each of
// Stripe's periods whose invoices are final, and bills the difference.
func (s *Sales) settleUsage(ctx context.Context, customer string, gone bool, tenant string, subs []Subscription) error {
	var rows []usageTotal
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("tenant_id = ? AND packages > 0 AND settled_at IS NULL", tenant).Order("period").Find(&rows).Error
	})
	if err != nil {
		return err
	}
	for i, t := range rows {
		at := slices.IndexFunc(subs, func(x Subscription) bool { return x.ID == t.Subscription })
		if at < 0 || slices.ContainsFunc(rows[:i], t.billedWith) || live(subs[at].Status) && !subs[at].PeriodStart.After(*t.BillStart) {
			continue
		}
		sub := subs[at]
		charged, draft, err := s.charged(ctx, customer, t)
		if err != nil {
			return err
		}
		if draft {
			continue
		}
		var used int64
		var all []usageTotal // settled ones too: a late unit opens its row again
		err = s.Store.Read(ctx, func(ctx context.Context) error {
			return s.Store.For(ctx).Where("tenant_id = ? AND meter = ? AND subscription = ? AND bill_start = ? AND packages > 0", tenant, t.Meter, t.Subscription, t.BillStart).Find(&all).Error
		})
		if err != nil {
			return err
		}
		for _, x := range all {
			used += x.Packages
		}
		missing := used - charged.packages
		if missing != 0 && gone {
			return fmt.Errorf("billing: %d packages of %s cannot be billed: the customer %s was deleted at Stripe", missing, t.Meter, customer)
		}
		if missing != 0 {
			late := stripe.Late{Customer: customer, Currency: t.Currency, Amount: missing * t.Amount, Meter: t.Meter, Period: t.BillStart.Format(time.RFC3339), Packages: missing,
				Text: fmt.Sprintf("%d × %s, used from %s", missing, t.Meter, date(*t.BillStart))}
			if live(sub.Status) && sub.PeriodEnd.Sub(s.Now()) < soonInvoiced {
				late.Subscription = sub.ID
			}
			// How many there are already names this one: two who settle at once add one.
			key := fmt.Sprintf("%s:late:%s:%s:%d:%d", tenant, t.Meter, late.Period, charged.late.Made, used)
			if err := s.Stripe.AddLate(ctx, key, late); err != nil {
				return err
			}
			charged.late.Made++
			if late.Subscription == "" {
				charged.late.Waiting++
			}
		}
		if charged.late.Waiting > 0 { // also those of somebody who died here
			if err := s.Stripe.InvoicePending(ctx, fmt.Sprintf("%s:late:invoice:%s:%s:%d", tenant, t.Meter, t.BillStart.Format(time.RFC3339), charged.late.Made), customer); err != nil {
				return err
			}
		}
		err = s.Store.Tx(ctx, func(ctx context.Context) error {
			for _, x := range all {
				late := x.Late
				if x.Period == t.Period {
					late += missing
				}
				// A row that grew meanwhile stays open, and is settled with what it has then.
				done := s.Store.For(ctx).Model(&usageTotal{}).Where("tenant_id = ? AND meter = ? AND period = ? AND packages = ?", tenant, x.Meter, x.Period, x.Packages).
					Updates(map[string]any{"settled_at": s.Now().UTC(), "late": late, "sending": 0})
				if done.Error != nil {
					return done.Error
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// soonInvoiced is how near the next invoice is that a late package waits for.
const soonInvoiced = 40 * 24 * time.Hour

// billedWith reports whether two rows are on the same line of an invoice.
func (t usageTotal) billedWith(x usageTotal) bool {
	return t.Meter == x.Meter && t.Subscription == x.Subscription && t.BillStart.Equal(*x.BillStart)
}

// charges are what is on invoices for one meter and Stripe's period.
type charges struct {
	packages, amount int64
	late             stripe.LateItems // of them, by hand
}

func (s *Sales) charged(ctx context.Context, customer string, t usageTotal) (c charges, draft bool, err error) {
	lines, draft, err := s.Stripe.Invoiced(ctx, t.Subscription, *t.BillStart)
	if err != nil || draft {
		return c, draft, err
	}
	// A year that was left for months, and begun anew, ended before its time.
	end := *t.BillEnd
	var next usageTotal
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("tenant_id = ? AND meter = ? AND subscription = ? AND packages > 0 AND bill_start > ?", t.TenantID, t.Meter, t.Subscription, t.BillStart).
			Order("bill_start").Limit(1).Find(&next).Error
	})
	if err != nil {
		return c, false, err
	}
	if next.BillStart != nil && next.BillStart.Before(end) {
		end = *next.BillStart
	}
	for _, l := range lines {
		if l.Price == t.Price && !l.From.Before(*t.BillStart) && l.From.Before(end) {
			c.packages += l.Quantity
			c.amount += l.Amount
		}
	}
	if c.late, err = s.Stripe.LateItems(ctx, customer, *t.BillStart); err != nil {
		return c, false, err
	}
	many := c.late.Packages[[2]string{t.Meter, t.BillStart.Format(time.RFC3339)}]
	c.packages += many
	c.amount += many * t.Amount
	return c, false, nil
}

// BillingJob asks who owes packages, and whose grace ends.
type BillingJob struct{}

// Kind is the queue's.
func (BillingJob) Kind() string { return "billing.usage" }

// billEvery is how often Stripe is told what was used.
const billEvery = 5 * time.Minute

// RunBilling works a BillingJob: the mails that time alone brings, and a job for
// each tenant that has something to tell or to settle.
func (s *Sales) RunBilling(ctx context.Context, _ BillingJob) error {
	return s.Store.Tx(domain.System(ctx, "report usage"), func(ctx context.Context) error {
		var tenants []string
		err := s.Store.SQL(ctx, `SELECT DISTINCT t.tenant_id FROM usage_totals t JOIN subscriptions s ON s.tenant_id = t.tenant_id AND s.id = t.subscription
			WHERE t.packages > 0 AND t.settled_at IS NULL AND (t.packages > t.reported OR t.sending > 0 OR t.bill_end <= @now OR s.ended_at IS NOT NULL OR s.period_start > t.bill_start)`,
			map[string]any{"now": s.Now().UTC()}).Scan(&tenants).Error
		if err == nil {
			err = s.tellGrace(ctx)
		}
		for _, tenant := range tenants {
			if err == nil {
				err = s.Queue.Enqueue(ctx, ReportJob{tenant}, domain.JobOptions{Priority: 3, Unique: "report"})
			}
		}
		return err
	})
}

// Regular asks for the work that comes by itself; however many processes ask,
// each is done once.
func (s *Sales) Regular(ctx context.Context) error {
	if s.Stripe == nil {
		return nil
	}
	return s.Store.Tx(domain.System(ctx, "what billing does by itself"), func(ctx context.Context) error {
		return errors.Join(
			s.Queue.Enqueue(ctx, ReconcileJob{}, domain.JobOptions{Priority: 4, Unique: "daily", At: s.Now().Add(24 * time.Hour)}),
			s.Queue.Enqueue(ctx, ProofJob{}, domain.JobOptions{Priority: 4, Unique: "daily", At: nextNight(s.Now())}),
			s.Queue.Enqueue(ctx, BillingJob{}, domain.JobOptions{Priority: 3, Unique: "regular", At: s.Now().Add(billEvery)}))
	})
}

func nextNight(now time.Time) time.Time {
	now = now.UTC()
	return time.Date(now.Year(), now.Month(), now.Day()+1, 3, 0, 0, 0, time.UTC)
}

// ProofJob compares, every night, our sums with Stripe's and the invoices'.
type ProofJob struct{}

// Kind is the queue's.
func (ProofJob) Kind() string { return "billing.proof" }

// RunProof works a ProofJob.
func (s *Sales) RunProof(ctx context.Context, _ ProofJob) error {
	wrong, err := s.Prove(ctx)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "prove the sums"), func(ctx context.Context) error {
		if _, err := s.Store.Exec(ctx, "DELETE FROM billing_differences WHERE meter <> @no", map[string]any{"no": ""}); err != nil || len(wrong) == 0 {
			return err
		}
		for i := range wrong {
			wrong[i].FoundAt = s.Now().UTC()
			s.Logger.Error("usage and its bill differ", "tenant", wrong[i].TenantID, "meter", wrong[i].Meter, "period", wrong[i].Period, "what", wrong[i].What, "ours", wrong[i].Ours, "theirs", wrong[i].Theirs)
		}
		return s.Store.For(ctx).Create(&wrong).Error
	})
}

// Difference is a sum that is not what it should be.
type Difference struct {
	store.Owned
	Meter   string    `json:"meter" gorm:"primaryKey"`
	Period  string    `json:"period" gorm:"primaryKey"`
	What    string    `json:"what" gorm:"primaryKey" enum:"ledger,counted,invoiced,amount"`
	Ours    int64     `json:"ours"`
	Theirs  int64     `json:"theirs"`
	FoundAt time.Time `json:"found_at"`
}

// TableName is GORM's.
func (Difference) TableName() string { return "billing_differences" }

// provenFor is how far back sums are compared every night.
const provenFor = 70 * 24 * time.Hour

// Prove compares, for every period of the last weeks in which something was
// billed: the ledger with our total, what Stripe counts with what we reported,
// and invoices with what was used, in packages and in money. A period is proven
// when nothing of it is under way.
func (s *Sales) Prove(ctx context.Context) (wrong []Difference, err error) {
	if err := s.configured(); err != nil {
		return nil, err
	}
	ctx = domain.System(ctx, "prove the sums")
	var rows []usageTotal
	subs, customers := map[string]Subscription{}, map[string]string{}
	ledger := map[purseKey]int64{}
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("packages > 0 AND bill_end > ?", s.Now().Add(-provenFor).UTC()).Order("tenant_id, meter, subscription, bill_start, period").Find(&rows).Error; err != nil {
			return err
		}
		for _, t := range rows {
			var sub Subscription
			var row billingCustomer
			var sum int64
			err := errors.Join(s.Store.For(ctx).Where("tenant_id = ? AND id = ?", t.TenantID, t.Subscription).Take(&sub).Error,
				s.Store.For(ctx).Where("tenant_id = ?", t.TenantID).Take(&row).Error,
				s.Store.SQL(ctx, `SELECT CAST(coalesce(sum(units), 0) AS bigint) FROM usage_events WHERE tenant_id = @owner AND meter = @meter AND period = @period`, t.at("owner", t.TenantID)).Scan(&sum).Error)
			if err != nil {
				return err
			}
			subs[sub.ID], ledger[purseKey{t.TenantID, t.Meter, t.Period}] = sub, sum
			if row.Customer != nil {
				customers[t.TenantID] = *row.Customer
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	prices, err := s.priceList(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]int64{} // packages of a line, by the row that is its last
	for i, t := range rows {
		differs := func(what string, ours, theirs int64) {
			if ours != theirs {
				wrong = append(wrong, Difference{t.Owned, t.Meter, t.Period, what, ours, theirs, time.Time{}})
			}
		}
		differs("ledger", ledger[purseKey{t.TenantID, t.Meter, t.Period}], t.Units)
		sub, customer := subs[t.Subscription], customers[t.TenantID]
		line := fmt.Sprint(t.TenantID, t.Meter, t.Subscription, t.BillStart.Unix())
		used[line] += t.Packages
		open := live(sub.Status) && !sub.PeriodStart.After(*t.BillStart)
		last := i+1 == len(rows) || rows[i+1].TenantID != t.TenantID || !t.billedWith(rows[i+1])
		switch {
		case open && t.Sending == 0 && t.Reported == t.Packages:
			counts := s.reporter(prices[t.Price])
			r := t.usageReport(customer, sub.Metered[t.Meter].ID)
			ours := t.Reported
			if _, whole := counts.(usageRecords); whole { // they are summed by Stripe's period
				if ours = used[line]; !last {
					continue
				}
			}
			theirs, err := counts.counted(ctx, r)
			if err != nil {
				return nil, err
			}
			differs("counted", ours, theirs)
		case !open && last && t.SettledAt != nil:
			charged, draft, err := s.charged(ctx, customer, t)
			if err != nil {
				return nil, err
			}
			if !draft {
				differs("invoiced", used[line], charged.packages)
				differs("amount", used[line]*t.Amount, charged.amount)
			}
		}
	}
	return wrong, nil
}
