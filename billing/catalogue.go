package billing

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
)

// planPrice is a price at Stripe and what it buys.
type planPrice struct {
	ID       string `gorm:"primaryKey"` // Stripe's
	Plan     string
	Version  int
	Currency string
	Cadence  string
	Amount   int64
	Active   bool
	Meter    string // of packages beyond a quota; "" is of seats
	Records  bool   // counts usage records, else meter events
}

// A price's lookup key says what it buys, so that the price list can be read
// back from Stripe: published versions never change, so neither does a key.
func lookupKey(plan string, version int, p PlanPrice) string {
	return fmt.Sprintf("%s.%d.%s.%s", plan, version, p.Currency, p.Interval)
}

// packageKey is that of what goes beyond a quota.
func packageKey(plan string, version int, currency, interval, meter string) string {
	return fmt.Sprintf("%s.%d.%s.%s.%s", plan, version, currency, interval, meter)
}

func readLookupKey(key string) (p planPrice, ok bool) {
	part := strings.Split(key, ".")
	if len(part) == 5 {
		p, ok = readLookupKey(strings.Join(part[:4], "."))
		p.Meter = part[4]
		return p, ok
	}
	if len(part) != 4 || part[3] != "month" && part[3] != "year" {
		return p, false
	}
	version, err := strconv.Atoi(part[1])
	return planPrice{Plan: part[0], Version: version, Currency: part[2], Cadence: part[3]}, err == nil && version > 0
}

// SyncCatalogue makes Stripe's products and prices equal to the published plans
// and answers what it did, or would do, one line a change. A second run does
// nothing. A price that is no longer sold is archived there, never removed: who
// pays it goes on paying it.
func (s *Sales) SyncCatalogue(ctx context.Context, dry bool) (changes []string, err error) {
	if err := s.configured(); err != nil {
		return nil, err
	}
	plans, err := s.Plans.Plans(ctx, struct{}{})
	if err != nil {
		return nil, err
	}
	products, prices, err := s.Stripe.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	meters, err := s.Stripe.Meters(ctx)
	if err != nil {
		return nil, err
	}
	var rows []planPrice
	sold := map[string]bool{} // lookup keys
	// product and price make one where it is not there as it should be.
	product := func(want stripe.Product) error {
		at := slices.IndexFunc(products, func(p stripe.Product) bool { return p.ID == want.ID })
		if at >= 0 && products[at] == want {
			return nil
		}
		changes = append(changes, fmt.Sprintf("product %s: %s", want.ID, want.Name))
		if at >= 0 {
			products[at] = want
		} else {
			products = append(products, want)
		}
		if dry {
			return nil
		}
		return s.Stripe.PutProduct(ctx, want, at >= 0)
	}
	price := func(want stripe.Price) error {
		sold[want.LookupKey] = true
		if slices.ContainsFunc(prices, func(p stripe.Price) bool {
			return p.LookupKey == want.LookupKey && p.Active && p.Amount == want.Amount && p.Product == want.Product
		}) {
			return nil
		}
		changes = append(changes, fmt.Sprintf("price %s: %d %s", want.LookupKey, want.Amount, want.Currency))
		if dry {
			return nil
		}
		var err error
		if want.ID, err = s.Stripe.CreatePrice(ctx, fmt.Sprintf("catalogue:%s:%d", want.LookupKey, want.Amount), want); err == nil {
			prices = append(prices, want)
		}
		return err
	}
	for _, plan := range plans.Data {
		if len(plan.Prices) == 0 {
			continue
		}
		if err := product(stripe.Product{ID: "plan_" + plan.Name, Name: plan.Title.English, Active: true}); err != nil {
			return changes, err
		}
		for _, p := range plan.Prices {
			err := price(stripe.Price{Product: "plan_" + plan.Name, Currency: p.Currency, Interval: p.Interval, Amount: p.Amount, LookupKey: lookupKey(plan.Name, plan.Version, p), Active: true})
			if err != nil {
				return changes, err
			}
		}
		for _, o := range plan.Overage {
			if err := product(stripe.Product{ID: "usage_" + o.Meter, Name: o.Meter + ", beyond the quota", Active: true}); err != nil {
				return changes, err
			}
			event := meterEvent(o.Meter)
			if !s.Records && meters[event] == "" {
				changes = append(changes, "meter "+event)
				meters[event] = "to be made"
				if !dry {
					if meters[event], err = s.Stripe.CreateMeter(ctx, event, o.Meter); err != nil {
						return changes, err
					}
				}
			}
			for _, p := range plan.Prices {
				at := slices.IndexFunc(o.Prices, func(x PackagePrice) bool { return x.Currency == p.Currency })
				if at < 0 {
					continue
				}
				want := stripe.Price{Product: "usage_" + o.Meter, Currency: p.Currency, Interval: p.Interval, Amount: o.Prices[at].Amount,
					LookupKey: packageKey(plan.Name, plan.Version, p.Currency, p.Interval, o.Meter), Active: true, Metered: true}
				if !s.Records {
					want.Meter = meters[event]
				}
				if err := price(want); err != nil {
					return changes, err
				}
			}
		}
	}
	for _, p := range prices {
		row, ours := readLookupKey(p.LookupKey)
		if !ours || !strings.HasPrefix(p.Product, "plan_") && !strings.HasPrefix(p.Product, "usage_") {
			continue // another product's, in the same account
		}
		if !sold[p.LookupKey] && p.Active {
			changes = append(changes, fmt.Sprintf("archive price %s", p.LookupKey))
			if !dry {
				if err := s.Stripe.ArchivePrice(ctx, p.ID); err != nil {
					return changes, err
				}
			}
			p.Active = false
		}
		row.ID, row.Amount, row.Active, row.Records = p.ID, p.Amount, p.Active, p.Metered && p.Meter == ""
		rows = append(rows, row)
	}
	if dry || len(rows) == 0 {
		return changes, nil
	}
	err = s.Store.Tx(domain.System(ctx, "the price list"), func(ctx context.Context) error {
		return s.Store.For(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"active"})}).Create(&rows).Error
	})
	return changes, err
}

// priceList reads every price that we know, sold or not, by Stripe's id. In a
// transaction of another scope it is read before that transaction begins.
func (s *Sales) priceList(ctx context.Context, some ...string) (map[string]planPrice, error) {
	var rows []planPrice
	err := s.Store.Read(domain.System(ctx, "the price list"), func(ctx context.Context) error {
		q := s.Store.For(ctx)
		if len(some) > 0 {
			q = q.Where("id IN ?", some)
		}
		return q.Find(&rows).Error
	})
	out := map[string]planPrice{}
	for _, p := range rows {
		out[p.ID] = p
	}
	return out, err
}

// metered are the prices of packages that go with a price of seats, by meter.
func metered(list map[string]planPrice, of planPrice) map[string]string {
	out := map[string]string{}
	for _, x := range list {
		if x.Meter != "" && x.Active && x.Plan == of.Plan && x.Version == of.Version && x.Currency == of.Currency && x.Cadence == of.Cadence {
			out[x.Meter] = x.ID
		}
	}
	return out
}

// sold finds the price of a plan's current version.
func (s *Sales) sold(ctx context.Context, plan, cadence, currency string) (p planPrice, most int64, err error) {
	plans, err := s.Plans.Plans(ctx, struct{}{})
	if err != nil {
		return p, 0, err
	}
	at := slices.IndexFunc(plans.Data, func(p Plan) bool { return p.Name == plan })
	if at < 0 || len(plans.Data[at].Prices) == 0 {
		return p, 0, domain.InvalidField("plan", "unknown_plan", "There is no such plan to buy.")
	}
	list, err := s.priceList(ctx)
	if err != nil {
		return p, 0, err
	}
	for _, x := range list {
		if x.Plan == plan && x.Version == plans.Data[at].Version && x.Cadence == cadence && x.Currency == currency && x.Active && x.Meter == "" {
			return x, plans.Data[at].Levels["seats"], nil
		}
	}
	if slices.ContainsFunc(plans.Data[at].Prices, func(x PlanPrice) bool { return x.Currency == currency && x.Interval == cadence }) {
		return p, 0, domain.E(domain.Unavailable, "provider_not_configured", "The prices are not at the payment service yet: an operator runs chainreactions billing sync.")
	}
	return p, 0, domain.InvalidField("currency", "unknown_price", "The plan is not sold in this currency or interval.")
}
