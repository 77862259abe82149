package stripe

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/billing/meter"
	"github.com/stripe/stripe-go/v76/billing/meterevent"
	"github.com/stripe/stripe-go/v76/billing/metereventsummary"
	"github.com/stripe/stripe-go/v76/invoice"
	"github.com/stripe/stripe-go/v76/invoiceitem"
	"github.com/stripe/stripe-go/v76/usagerecord"
	"github.com/stripe/stripe-go/v76/usagerecordsummary"
)

// Stripe counts what is used in two ways. Usage records belong to an item of a
// subscription, and are set: the same record twice is one. Accounts made since
// 2025 have meter events instead: they belong to a customer, are added up, and
// one with an identifier that came within a day is refused. A price counts one
// or the other.

// SetUsage says how much was used at a moment of the item's present period.
func (c *Client) SetUsage(ctx context.Context, key, item string, quantity int64, at time.Time) error {
	_, err := usagerecord.Client{B: c.be, Key: c.key}.New(&stripe.UsageRecordParams{Params: call(ctx, key), SubscriptionItem: &item, Quantity: &quantity,
		Timestamp: stripe.Int64(at.Unix()), Action: stripe.String("set")})
	return failed(err)
}

// UsageOf is what usage records add up to in the item's present period.
func (c *Client) UsageOf(ctx context.Context, item string) (int64, error) {
	list := usagerecordsummary.Client{B: c.be, Key: c.key}.List(&stripe.UsageRecordSummaryListParams{ListParams: pages(ctx), SubscriptionItem: &item})
	if list.Next() { // the present period comes first
		return list.UsageRecordSummary().TotalUsage, nil
	}
	return 0, failed(list.Err())
}

// Meters are Stripe's by the name of their events.
func (c *Client) Meters(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	list := meter.Client{B: c.be, Key: c.key}.List(&stripe.BillingMeterListParams{ListParams: pages(ctx), Status: stripe.String("active")})
	for list.Next() {
		out[list.BillingMeter().EventName] = list.BillingMeter().ID
	}
	return out, failed(list.Err())
}

// CreateMeter makes a meter that adds up.
func (c *Client) CreateMeter(ctx context.Context, event, title string) (string, error) {
	out, err := meter.Client{B: c.be, Key: c.key}.New(&stripe.BillingMeterParams{Params: call(ctx, event+":meter"), EventName: &event, DisplayName: &title,
		DefaultAggregation: &stripe.BillingMeterDefaultAggregationParams{Formula: stripe.String("sum")}})
	if err != nil {
		return "", failed(err)
	}
	return out.ID, nil
}

// MeterEvent adds to a customer's meter, once for an identifier within a day.
func (c *Client) MeterEvent(ctx context.Context, identifier, event, customer string, quantity int64, at time.Time) error {
	_, err := meterevent.Client{B: c.be, Key: c.key}.New(&stripe.BillingMeterEventParams{Params: call(ctx, identifier), EventName: &event, Identifier: &identifier,
		Timestamp: stripe.Int64(at.Unix()), Payload: map[string]string{"stripe_customer_id": customer, "value": strconv.FormatInt(quantity, 10)}})
	var refused *Refused
	if err = failed(err); errors.As(err, &refused) && refused.Code == "resource_already_exists" {
		return nil
	}
	return err
}

// Metered is what a customer's meter adds up to in [from, to).
func (c *Client) Metered(ctx context.Context, id, customer string, from, to time.Time) (n int64, err error) {
	list := metereventsummary.Client{B: c.be, Key: c.key}.List(&stripe.BillingMeterEventSummaryListParams{ListParams: pages(ctx), ID: &id, Customer: &customer,
		StartTime: stripe.Int64(from.Unix()), EndTime: stripe.Int64(to.Unix())})
	for list.Next() {
		n += int64(list.BillingMeterEventSummary().AggregatedValue)
	}
	return n, failed(list.Err())
}

// UsageLine of an invoice is packages of one metered price.
type UsageLine struct {
	Price            string
	Quantity, Amount int64
	From             time.Time // of the period in which they were used
}

// Invoiced is what a subscription's invoices charge for what was metered in
// periods that began at from or later: they are made after that. While one of
// them is a draft, it may still grow.
func (c *Client) Invoiced(ctx context.Context, subscription string, from time.Time) (lines []UsageLine, draft bool, err error) {
	client := invoice.Client{B: c.be, Key: c.key}
	list := client.List(&stripe.InvoiceListParams{ListParams: pages(ctx), Subscription: &subscription, CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: from.Unix()}})
	for list.Next() {
		inv := list.Invoice()
		if inv.Status == "void" {
			continue
		}
		draft = draft || inv.Status == "draft"
		of := client.ListLines(&stripe.InvoiceListLinesParams{ListParams: pages(ctx), Invoice: &inv.ID})
		for of.Next() {
			l := of.InvoiceLineItem()
			if l.Price != nil && l.Price.Recurring != nil && l.Price.Recurring.UsageType == "metered" && l.Quantity > 0 {
				lines = append(lines, UsageLine{l.Price.ID, l.Quantity, l.Amount, at(l.Period.Start)})
			}
		}
		if of.Err() != nil {
			return nil, false, failed(of.Err())
		}
	}
	return lines, draft, failed(list.Err())
}

// Late is packages that came too late for the invoice of their period.
type Late struct {
	Customer, Subscription string // the second is "" where it has ended: then an invoice of its own is made
	Currency, Text         string
	Amount                 int64 // minor units, below 0 gives back
	Meter, Period          string
	Packages               int64
}

// LateItems are those made for a customer since a time.
type LateItems struct {
	Packages map[[2]string]int64 // by meter and period
	Made     int
	Waiting  int // for an invoice that nothing brings by itself
}

// LateItems reads them.
func (c *Client) LateItems(ctx context.Context, customer string, from time.Time) (LateItems, error) {
	out := LateItems{Packages: map[[2]string]int64{}}
	list := invoiceitem.Client{B: c.be, Key: c.key}.List(&stripe.InvoiceItemListParams{ListParams: pages(ctx), Customer: &customer, CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: from.Unix()}})
	for list.Next() {
		i := list.InvoiceItem()
		if i.Metadata["packages"] == "" {
			continue
		}
		many, err := strconv.ParseInt(i.Metadata["packages"], 10, 64)
		if err != nil {
			return out, fmt.Errorf("stripe: an invoice item with %q packages", i.Metadata["packages"])
		}
		out.Packages[[2]string{i.Metadata["meter"], i.Metadata["period"]}] += many
		out.Made++
		if i.Invoice == nil && i.Subscription == nil {
			out.Waiting++
		}
	}
	return out, failed(list.Err())
}

// AddLate puts them onto the next invoice, or onto one of their own.
func (c *Client) AddLate(ctx context.Context, key string, l Late) error {
	p := &stripe.InvoiceItemParams{Params: call(ctx, key), Customer: &l.Customer, Currency: &l.Currency, Amount: &l.Amount, Description: &l.Text}
	if l.Subscription != "" {
		p.Subscription = &l.Subscription
	}
	p.Metadata = map[string]string{"meter": l.Meter, "period": l.Period, "packages": strconv.FormatInt(l.Packages, 10)}
	_, err := invoiceitem.Client{B: c.be, Key: c.key}.New(p)
	return failed(err)
}

// InvoicePending makes an invoice of what waits for none that comes by itself.
func (c *Client) InvoicePending(ctx context.Context, key, customer string) error {
	_, err := invoice.Client{B: c.be, Key: c.key}.New(&stripe.InvoiceParams{Params: call(ctx, key), Customer: &customer, AutoAdvance: stripe.Bool(true),
		PendingInvoiceItemsBehavior: stripe.String("include")})
	var refused *Refused
	if err = failed(err); errors.As(err, &refused) && refused.Code == "invoice_no_customer_line_items" {
		return nil // it was made
	}
	return err
}
