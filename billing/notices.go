package billing

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Recipient is one of those in a tenant who care for its bills.
type Recipient struct {
	ID     string // usr_…
	Email  string
	Locale string
}

// billingNotice is something that was told.
type billingNotice struct {
	store.Owned
	Key    string `gorm:"primaryKey"`
	SentAt time.Time
}

// currencies without a minor unit, and with three digits of it (Stripe's list,
// docs.stripe.com/currencies); all others have two.
var (
	noDecimals    = strings.Fields("bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf")
	threeDecimals = strings.Fields("bhd jod kwd omr tnd")
)

// Money shows minor units in the currency's own decimals: "USD 49.00", "JPY
// 7500", "KWD 15.000". Amounts are integers everywhere; this is for reading.
func Money(amount int64, currency string) string {
	sign := ""
	if amount < 0 {
		sign, amount = "-", -amount
	}
	code := strings.ToUpper(currency)
	switch {
	case slices.Contains(noDecimals, currency):
		return fmt.Sprintf("%s %s%d", code, sign, amount)
	case slices.Contains(threeDecimals, currency):
		return fmt.Sprintf("%s %s%d.%03d", code, sign, amount/1000, amount%1000)
	}
	return fmt.Sprintf("%s %s%d.%02d", code, sign, amount/100, amount%100)
}

// trialWarning is how long before its end people are told of it.
const trialWarning = 3 * 24 * time.Hour

// tell mails what the present state asks for, in the transaction that writes the
// state: each attempt of a payment, each end, each recovery, once.
func (s *Sales) tell(ctx context.Context, tenant string, now stripe.Customer, old map[string]Subscription, subs []Subscription) error {
	if s.Mail == nil || s.Payers == nil {
		return nil
	}
	var failed []string // what was told of payments that failed
	if slices.ContainsFunc(now.Invoices, func(i stripe.Invoice) bool {
		return i.Status == "paid" && i.Attempts > 0 && i.Reason == "subscription_cycle"
	}) {
		if err := s.Store.For(ctx).Model(&billingNotice{}).Where("tenant_id = ? AND key LIKE ?", tenant, "payment_failed:%").Pluck("key", &failed).Error; err != nil {
			return err
		}
	}
	today := s.Now()
	for _, sub := range subs {
		if sub.Status == "trialing" && sub.TrialEnd != nil && sub.TrialEnd.Sub(today) <= trialWarning {
			if err := s.once(ctx, tenant, fmt.Sprintf("trial_ends:%s:%d", sub.ID, sub.TrialEnd.Unix()), "trial_ends", map[string]string{"plan": sub.Plan, "date": date(*sub.TrialEnd)}); err != nil {
				return err
			}
		}
		if was := old[sub.ID].Status; sub.Status == "canceled" && (was == "" && recent(now, sub, today) || was != "" && was != "incomplete" && live(was)) {
			if err := s.once(ctx, tenant, "subscription_ended:"+sub.ID, "subscription_ended", map[string]string{"plan": sub.Plan}); err != nil {
				return err
			}
		}
		for _, inv := range now.Invoices {
			if inv.Subscription != sub.ID || inv.Attempts == 0 || inv.Reason != "subscription_cycle" && !inv.Bounced {
				continue
			}
			amount := Money(inv.AmountDue, inv.Currency)
			switch {
			case inv.Reason != "subscription_cycle": // who paid in Checkout days ago believes that it is bought
				if inv.Status == "paid" {
					continue
				}
				if err := s.once(ctx, tenant, "payment_bounced:"+inv.ID, "payment_failed_last", map[string]string{"amount": amount, "number": inv.Number}); err != nil {
					return err
				}
			case inv.Status == "open" && live(sub.Status) && inv.NextAttempt.IsZero(): // no further try is promised
				err := s.once(ctx, tenant, fmt.Sprintf("payment_failed:%s:%d", inv.ID, inv.Attempts), "payment_failed_last", map[string]string{"amount": amount, "number": inv.Number})
				if err != nil {
					return err
				}
			case inv.Status == "open" && live(sub.Status):
				grace := inv.FinalizedAt.Add(grace)
				err := s.once(ctx, tenant, fmt.Sprintf("payment_failed:%s:%d", inv.ID, inv.Attempts), "payment_failed", map[string]string{"amount": amount, "number": inv.Number, "next": date(inv.NextAttempt), "grace": date(grace)})
				if err != nil {
					return err
				}
			case inv.Status == "paid" && slices.ContainsFunc(failed, func(key string) bool { return strings.HasPrefix(key, "payment_failed:"+inv.ID+":") }):
				// Who pays by hand adds nothing to the attempts: what was told tells.
				err := s.once(ctx, tenant, "payment_recovered:"+inv.ID, "payment_recovered", map[string]string{"amount": amount, "number": inv.Number})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// recent says whether a subscription that is ended when it is first seen was
// worth something, and until a moment ago.
func recent(now stripe.Customer, sub Subscription, today time.Time) bool {
	return sub.EndedAt != nil && today.Sub(*sub.EndedAt) < keep &&
		slices.ContainsFunc(now.Invoices, func(i stripe.Invoice) bool { return i.Subscription == sub.ID && i.Status == "paid" })
}

// tellGrace mails what time alone brings: a day before the end of a grace, and
// at its end. Where access goes on by something else, nobody is worried. It runs
// in a system transaction.
func (s *Sales) tellGrace(ctx context.Context) error {
	var late []Subscription
	if err := s.Store.For(ctx).Where("status = ?", "past_due").Order("tenant_id").Find(&late).Error; err != nil {
		return err
	}
	for _, sub := range late {
		_, st, err := s.Plans.Standing(ctx, sub.TenantID)
		if err != nil {
			return err
		}
		since := sub.lateSince()
		switch {
		case st.Source != "subscription" || st.Subscription.ID != sub.ID:
		case st.ReadOnly != "":
			err = s.once(ctx, sub.TenantID, fmt.Sprintf("read_only:%s:%d", sub.ID, since.Unix()), "read_only", map[string]string{"plan": sub.Plan, "date": date(since)})
		case st.GraceUntil != nil && st.GraceUntil.Sub(s.Now()) <= 24*time.Hour:
			err = s.once(ctx, sub.TenantID, fmt.Sprintf("grace_ends:%s:%d", sub.ID, since.Unix()), "grace_ends", map[string]string{"plan": sub.Plan, "date": date(*st.GraceUntil)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// records are the actions under which a letter stands on the record, from which
// people and the tenant's servers are told; that of usage has its own (RunAlert).
var records = map[string]string{"trial_ends": "subscription.trial_ending", "grace_ends": "subscription.grace_ending", "read_only": "subscription.read_only", "subscription_ended": "subscription.ended",
	"payment_failed": "payment.fail", "payment_failed_last": "payment.fail", "payment_recovered": "payment.recover"}

// once tells those who care for the bills, if that was not done: on the record,
// and by a letter.
func (s *Sales) once(ctx context.Context, tenant, key, template string, data map[string]string) error {
	first, err := s.first(ctx, tenant, key)
	if err != nil || !first {
		return err
	}
	if action := records[template]; action != "" {
		detail := map[string]any{}
		for name, value := range data {
			detail[name] = value
		}
		if err := s.Audit.Record(ctx, audit.Entry{Action: action, Target: tenant, Tenant: tenant, Detail: detail}); err != nil {
			return err
		}
	}
	if s.Mail == nil || s.Payers == nil {
		return nil
	}
	to, err := s.Payers(ctx, tenant)
	if err != nil {
		return err
	}
	data["url"] = s.Portal + "/billing"
	for _, r := range to {
		if err := s.Mail(ctx, domain.Mail{Template: template, To: r.Email, Locale: r.Locale, Data: data, Tenant: tenant, Person: r.ID}); err != nil {
			return err
		}
	}
	return nil
}

// first notes that something is being told, and reports whether it never was.
func (s *Sales) first(ctx context.Context, tenant, key string) (bool, error) {
	row := billingNotice{Owned: store.Owned{TenantID: tenant}, Key: key, SentAt: s.Now().UTC()}
	made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	return made.RowsAffected > 0, made.Error
}

// RunAlert works an AlertJob: a mail, and a record that the tenant's own
// servers can subscribe to, once for each share, meter and period.
func (s *Sales) RunAlert(ctx context.Context, job AlertJob) error {
	return s.Store.Tx(domain.System(ctx, "usage alert"), func(ctx context.Context) error {
		key := fmt.Sprintf("usage:%s:%s:%d", job.Meter, job.Period, job.Percent)
		first, err := s.first(ctx, job.Tenant, "record:"+key)
		if err != nil || !first {
			return err
		}
		err = s.Audit.Record(ctx, audit.Entry{Action: "usage.threshold", Target: job.Meter, Tenant: job.Tenant,
			Detail: map[string]any{"percent": job.Percent, "used": job.Used, "limit": job.Quota, "resets_at": job.Ends.UTC()}})
		if err != nil {
			return err
		}
		template := "usage_alert"
		switch {
		case job.Percent == 100 && job.Overage:
			template = "usage_overage"
		case job.Percent == 100:
			template = "usage_limit"
		}
		return s.once(ctx, job.Tenant, key, template, map[string]string{"percent": strconv.FormatInt(job.Percent, 10), "meter": job.Meter,
			"used": strconv.FormatInt(job.Used, 10), "limit": strconv.FormatInt(job.Quota, 10), "date": date(job.Ends)})
	})
}
