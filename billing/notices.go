package billing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Recipient is one of those in a tenant who care for its bills.
type Recipient struct {
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
	today := s.Now()
	for _, sub := range subs {
		if sub.Status == "trialing" && sub.TrialEnd != nil && sub.TrialEnd.Sub(today) <= trialWarning {
			if err := s.once(ctx, tenant, fmt.Sprintf("trial_ends:%s:%d", sub.ID, sub.TrialEnd.Unix()), "trial_ends", map[string]string{"plan": sub.Plan, "date": date(*sub.TrialEnd)}); err != nil {
				return err
			}
		}
		if sub.Status == "canceled" && old[sub.ID].Status != "" && live(old[sub.ID].Status) && old[sub.ID].Status != "incomplete" {
			if err := s.once(ctx, tenant, "subscription_ended:"+sub.ID, "subscription_ended", map[string]string{"plan": sub.Plan}); err != nil {
				return err
			}
		}
		for _, inv := range now.Invoices {
			if inv.Subscription != sub.ID || inv.Reason != "subscription_cycle" || inv.Attempts == 0 {
				continue
			}
			amount := Money(inv.AmountDue, inv.Currency)
			switch {
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
			case inv.Status == "paid" && inv.Attempts > 1:
				var told int64
				err := s.Store.For(ctx).Model(&billingNotice{}).Where("tenant_id = ? AND key LIKE ?", tenant, "payment_failed:"+inv.ID+":%").Count(&told).Error
				if err == nil && told > 0 {
					err = s.once(ctx, tenant, "payment_recovered:"+inv.ID, "payment_recovered", map[string]string{"amount": amount, "number": inv.Number})
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// once mails a template to those who care for the bills, if that was not done.
func (s *Sales) once(ctx context.Context, tenant, key, template string, data map[string]string) error {
	row := billingNotice{Owned: store.Owned{TenantID: tenant}, Key: key, SentAt: s.Now().UTC()}
	made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if made.Error != nil || made.RowsAffected == 0 {
		return made.Error
	}
	to, err := s.Payers(ctx, tenant)
	if err != nil {
		return err
	}
	data["url"] = s.Portal + "/billing"
	for _, r := range to {
		if err := s.Mail(ctx, domain.Mail{Template: template, To: r.Email, Locale: r.Locale, Data: data}); err != nil {
			return err
		}
	}
	return nil
}
