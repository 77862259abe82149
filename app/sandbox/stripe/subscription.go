package stripe

import (
	"reflect"
	"slices"
	"time"
)

// The life of a subscription, as Stripe has it:
//
//	incomplete ──paid──▶ active ──renewal fails──▶ past_due ──retries end──▶ canceled | unpaid | past_due
//	     │                 ▲ ▲                        │                          │
//	     │ 23 h            │ └──────── paid ──────────┴──────────── paid ────────┘ (unpaid)
//	     ▼                 │
//	incomplete_expired     │      trialing ──trial ends without a card──▶ active (and fails) | paused | canceled
//	                       └─ trial ends with a card
//
// canceled and incomplete_expired are ends: nothing leaves them.

const (
	hour = int64(3600)
	day  = 24 * hour
)

func terminal(sub object) bool {
	return sub.str("status") == "canceled" || sub.str("status") == "incomplete_expired"
}

// after is the end of the period that begins at start: Stripe counts from the
// anchor, and a month without the anchor's day ends on its last.
func after(start, anchor int64, price object) int64 {
	rec := price.sub("recurring")
	n := int(max(1, rec.num("interval_count")))
	from := time.Unix(anchor, 0).UTC()
	for i := 1; ; i++ {
		var t time.Time
		switch rec.str("interval") {
		case "day":
			t = from.AddDate(0, 0, i*n)
		case "week":
			t = from.AddDate(0, 0, 7*i*n)
		case "year":
			t = addMonths(from, 12*i*n)
		default:
			t = addMonths(from, i*n)
		}
		if t.Unix() > start {
			return t.Unix()
		}
	}
}

func addMonths(t time.Time, n int) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// wanted reads items[] of a request against the items that are there.
func (s *Server) wanted(p object, have []object, customer string) ([]object, error) {
	out := slices.Clone(have)
	for _, in := range p.list("items") {
		at := slices.IndexFunc(out, func(i object) bool { return i.str("id") == in.str("id") })
		if in.has("id") && at < 0 {
			return nil, invalid("items", "resource_missing", "Invalid item id: '%s'", in.str("id"))
		}
		if in.flag("deleted") {
			out = slices.Delete(out, at, at+1)
			continue
		}
		item := object{"object": "subscription_item", "billing_thresholds": nil, "metadata": object{}, "tax_rates": []any{}}
		if at >= 0 {
			item = object{}
			for key, v := range out[at] {
				item[key] = v
			}
		}
		if id := in.str("price"); id != "" {
			price, err := s.get("price", id, "items[0][price]")
			if err != nil {
				return nil, err
			}
			if !price.has("recurring") {
				return nil, invalid("items[0][price]", "", "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.")
			}
			if !price.flag("active") && item.str("price", "id") != id {
				return nil, invalid("items[0][price]", "", "The price specified is inactive. This field only accepts active prices.")
			}
			item["price"] = price
		}
		if !item.has("price") {
			return nil, invalid("items", "parameter_missing", "An item needs a price.")
		}
		if in.has("quantity") {
			item["quantity"] = in.num("quantity")
		}
		if item.str("price", "recurring", "usage_type") == "licensed" && !item.has("quantity") {
			item["quantity"] = int64(1)
		}
		assign(item, object{"metadata": in["metadata"]})
		if at >= 0 {
			out[at] = item
			continue
		}
		item["id"], item["created"] = s.id("si"), s.now(customer)
		out = append(out, item)
	}
	if len(out) == 0 {
		return nil, invalid("items", "parameter_missing", "Missing required param: items.")
	}
	lead := licensed(out)
	for _, i := range out {
		if i.str("price", "currency") != lead.str("price", "currency") {
			return nil, invalid("items", "", "All prices on a subscription must have the same currency.")
		}
		if i.str("price", "recurring", "interval") != lead.str("price", "recurring", "interval") {
			return nil, invalid("items", "", "All prices on a subscription must have the same `recurring.interval`.")
		}
	}
	if c := s.objects[customer].str("currency"); c != "" && c != lead.str("price", "currency") {
		return nil, invalid("items", "", "You cannot combine currencies on a single customer. This customer has had a subscription, coupon, or invoice item with currency %s.", c)
	}
	return out, nil
}

// licensed is the first item that is paid in advance, or the first at all.
func licensed(items []object) object {
	for _, i := range items {
		if i.str("price", "recurring", "usage_type") == "licensed" {
			return i
		}
	}
	return items[0]
}

// setItems puts items on a subscription.
func (s *Server) setItems(sub object, items []object) {
	for _, old := range sub.list("items") {
		if !slices.ContainsFunc(items, func(i object) bool { return i.str("id") == old.str("id") }) {
			s.remove(old)
		}
	}
	for _, i := range items {
		i["subscription"] = sub["id"]
		if s.objects[i.str("id")] == nil {
			s.add(i)
		}
		s.objects[i.str("id")] = i
	}
	sub["items"] = listOf("/v1/subscription_items?subscription="+sub.str("id"), items)
}

func (s *Server) createSubscription(c call) (object, error) {
	customer, err := s.customer(c.p.str("customer"))
	if err != nil {
		return nil, err
	}
	return s.subscribe(customer, c.p)
}

// subscribe makes a subscription and tries its first payment.
func (s *Server) subscribe(customer, p object) (object, error) {
	cus := customer.str("id")
	now := s.now(cus)
	items, err := s.wanted(p, nil, cus)
	if err != nil {
		return nil, err
	}
	lead := licensed(items)
	sub := s.base("sub", "subscription", cus, object{"application": nil, "application_fee_percent": nil, "automatic_tax": object{"enabled": false}, "billing_cycle_anchor": now,
		"billing_thresholds": nil, "cancel_at": nil, "cancel_at_period_end": false, "canceled_at": nil, "cancellation_details": object{"comment": nil, "feedback": nil, "reason": nil},
		"collection_method": "charge_automatically", "currency": lead.str("price", "currency"), "current_period_start": now, "current_period_end": after(now, now, lead.sub("price")),
		"customer": cus, "days_until_due": nil, "default_payment_method": nil, "default_source": nil, "default_tax_rates": []any{}, "description": nil, "discount": nil,
		"ended_at": nil, "latest_invoice": nil, "next_pending_invoice_item_invoice": nil, "on_behalf_of": nil, "pause_collection": nil,
		"payment_settings":              object{"payment_method_options": nil, "payment_method_types": nil, "save_default_payment_method": "off"},
		"pending_invoice_item_interval": nil, "pending_setup_intent": nil, "pending_update": nil, "schedule": nil, "start_date": now, "status": "incomplete",
		"test_clock": customer["test_clock"], "transfer_data": nil, "trial_end": nil, "trial_start": nil,
		"trial_settings": object{"end_behavior": object{"missing_payment_method": "create_invoice"}}})
	assign(sub, p, "cancel_at", "description", "default_payment_method")
	sub["cancel_at_period_end"] = p.flag("cancel_at_period_end")
	if p.has("cancel_at") {
		sub["cancel_at"] = p.num("cancel_at")
	}
	if v := p.str("payment_settings", "save_default_payment_method"); v != "" {
		sub.sub("payment_settings")["save_default_payment_method"] = v
	}
	if v := p.str("trial_settings", "end_behavior", "missing_payment_method"); v != "" {
		sub.sub("trial_settings", "end_behavior")["missing_payment_method"] = v
	}
	if id := sub.str("default_payment_method"); id != "" && s.objects[id].str("customer") != cus {
		return nil, missing("PaymentMethod", id, "default_payment_method")
	}
	if err := s.discount(sub, p); err != nil {
		return nil, err
	}
	trialEnd := p.num("trial_end")
	if d := p.num("trial_period_days"); d > 0 {
		trialEnd = now + d*day
	}
	customer["currency"] = sub["currency"]
	s.add(sub)
	s.setItems(sub, items)
	if trialEnd > now {
		sub["status"], sub["trial_start"], sub["trial_end"], sub["current_period_end"], sub["billing_cycle_anchor"] = "trialing", now, trialEnd, trialEnd, trialEnd
		inv := s.newInvoice(sub, "subscription_create", []object{s.line(sub, lead, 0, now, trialEnd, false, "Trial period")})
		s.emit("customer.subscription.created", sub, nil)
		s.finalize(inv)
		return sub, nil
	}
	inv := s.newInvoice(sub, "subscription_create", s.periodLines(sub, items, now, sub.num("current_period_end")))
	s.emit("customer.subscription.created", sub, nil)
	s.finalize(inv)
	if inv.str("status") == "paid" || p.str("payment_behavior") == "default_incomplete" {
		return sub, nil
	}
	err = s.pay(inv, "")
	if err != nil && p.str("payment_behavior") == "error_if_incomplete" {
		s.end(sub, "payment_failed")
		return nil, err
	}
	return sub, nil
}

// discount reads coupon and promotion_code of a request.
func (s *Server) discount(sub, p object) error {
	id, promo := p.str("coupon"), p.str("promotion_code")
	for _, d := range p.list("discounts") {
		id, promo = d.str("coupon"), d.str("promotion_code")
	}
	if promo != "" {
		code, err := s.get("promotion_code", promo, "promotion_code")
		if err != nil || !code.flag("active") {
			return invalid("promotion_code", "resource_missing", "No such promotion code: '%s'", promo)
		}
		code["times_redeemed"] = code.num("times_redeemed") + 1
		id = code.str("coupon", "id")
	}
	if id == "" {
		if v, asked := p["coupon"]; asked && v == "" {
			sub["discount"] = nil
		}
		return nil
	}
	coupon, err := s.get("coupon", id, "coupon")
	if err != nil {
		return err
	}
	if n := coupon.num("max_redemptions"); n > 0 && coupon.num("times_redeemed") >= n {
		return invalid("coupon", "coupon_expired", "This coupon has expired.")
	}
	coupon["times_redeemed"] = coupon.num("times_redeemed") + 1
	start := s.now(sub.str("customer"))
	d := object{"id": s.id("di"), "object": "discount", "checkout_session": nil, "coupon": copyOf(coupon), "customer": sub["customer"], "end": nil, "invoice": nil,
		"invoice_item": nil, "promotion_code": nil, "start": start, "subscription": sub["id"]}
	if promo != "" {
		d["promotion_code"] = promo
	}
	if coupon.str("duration") == "repeating" {
		d["end"] = addMonths(time.Unix(start, 0).UTC(), int(coupon.num("duration_in_months"))).Unix()
	}
	sub["discount"] = d
	s.emit("customer.discount.created", d, nil)
	return nil
}

// touched tells of what changed on a subscription since before.
func (s *Server) touched(sub, before object) {
	previous := object{}
	after := asObject(copyOf(sub))
	for key, v := range after {
		if !reflect.DeepEqual(v, before[key]) {
			previous[key] = before[key]
		}
	}
	if len(previous) > 0 {
		s.emit("customer.subscription.updated", sub, previous)
	}
}

func (s *Server) updateSubscription(c call) (object, error) {
	sub, err := s.get("subscription", c.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if terminal(sub) {
		for name := range c.p {
			if name != "metadata" && name != "cancellation_details" && name != "expand" {
				return nil, invalid("", "resource_missing", "A canceled subscription can only update its cancellation_details and metadata.")
			}
		}
	}
	before := asObject(copyOf(sub))
	if id := c.p.str("default_payment_method"); id != "" && s.objects[id].str("customer") != sub.str("customer") {
		return nil, missing("PaymentMethod", id, "default_payment_method")
	}
	items, err := s.wanted(c.p, sub.list("items"), sub.str("customer"))
	if err != nil {
		return nil, err
	}
	if sub.has("schedule") && (c.p.has("cancel_at_period_end") || c.p.has("cancel_at")) {
		return nil, invalid("cancel_at_period_end", "", "The subscription is managed by the subscription schedule `%s`, and updating any cancelation behavior directly is not allowed.", sub.str("schedule"))
	}
	if c.p.str("payment_behavior") == "pending_if_incomplete" {
		for name := range c.p {
			if !slices.Contains([]string{"items", "payment_behavior", "proration_behavior", "proration_date", "trial_end", "expand", "off_session"}, name) {
				return nil, invalid(name, "", "When `payment_behavior` is set to `pending_if_incomplete`, `%s` cannot be passed.", name)
			}
		}
	}
	if err := s.discount(sub, c.p); err != nil {
		return nil, err
	}
	assign(sub, c.p, "default_payment_method", "description")
	if c.p.has("cancel_at_period_end") {
		sub["cancel_at_period_end"], sub["cancel_at"], sub["canceled_at"] = false, nil, nil
		if c.p.flag("cancel_at_period_end") {
			sub["cancel_at_period_end"], sub["cancel_at"], sub["canceled_at"] = true, sub["current_period_end"], s.now(sub.str("customer"))
		}
	}
	if v, asked := c.p["cancel_at"]; asked {
		if sub["cancel_at"], sub["canceled_at"] = nil, nil; v != "" {
			sub["cancel_at"], sub["canceled_at"] = c.p.num("cancel_at"), s.now(sub.str("customer"))
		}
	}
	if v, asked := c.p["pause_collection"]; asked {
		if sub["pause_collection"] = nil; v != "" {
			sub["pause_collection"] = object{"behavior": c.p.str("pause_collection", "behavior"), "resumes_at": nil}
		}
	}
	if c.p.str("trial_end") == "now" && sub.str("status") == "trialing" {
		sub["trial_end"] = s.now(sub.str("customer"))
		sub["current_period_end"], sub["billing_cycle_anchor"] = sub["trial_end"], sub["trial_end"]
		s.renew(sub)
	}
	if err := s.changeItems(sub, items, c.p); err != nil {
		return nil, err
	}
	s.touched(sub, before)
	return sub, nil
}

// changeItems moves a subscription to other items and bills the difference as
// the request says.
func (s *Server) changeItems(sub object, items []object, p object) error {
	ch := s.proration(sub, items, p)
	if !ch.changed {
		s.setItems(sub, items)
		return nil
	}
	if sub.str("status") == "trialing" || sub.str("status") == "paused" || sub.str("status") == "incomplete" && len(ch.lines) == 0 {
		s.setItems(sub, items)
		return nil
	}
	behavior := p.str("proration_behavior")
	if behavior != "always_invoice" && !ch.reset {
		if behavior != "none" {
			for _, l := range ch.lines {
				s.pendingItem(sub, l)
			}
		}
		s.setItems(sub, items)
		return nil
	}
	lines := ch.lines
	if behavior == "none" {
		lines = slices.DeleteFunc(lines, func(l object) bool { return l.flag("proration") })
	}
	inv := s.newInvoice(sub, "subscription_update", append(s.takePending(sub), lines...))
	pending := p.str("payment_behavior") == "pending_if_incomplete"
	if !pending {
		s.apply(sub, items, ch)
	}
	s.finalize(inv)
	if inv.str("status") == "paid" {
		s.apply(sub, items, ch)
		return nil
	}
	err := s.pay(inv, "")
	switch {
	case err == nil:
		s.apply(sub, items, ch)
	case p.str("payment_behavior") == "error_if_incomplete":
		s.void(inv)
		return err
	case pending:
		if old := s.objects[sub.str("_pending", "invoice")]; old.str("status") == "open" {
			s.void(old) // a new pending update takes the place of the one before
		}
		wanted := make([]any, len(items))
		for i, item := range items {
			wanted[i] = copyOf(item)
		}
		sub["pending_update"] = object{"billing_cycle_anchor": nil, "expires_at": s.now(sub.str("customer")) + 23*hour, "subscription_items": wanted, "trial_end": nil, "trial_from_plan": nil}
		raw := make([]any, len(items))
		for i, item := range items {
			raw[i] = item
		}
		sub["_pending"] = object{"items": raw, "reset": ch.reset, "at": ch.at, "invoice": inv["id"]}
	}
	return nil
}

// apply puts a change in force.
func (s *Server) apply(sub object, items []object, ch change) {
	s.setItems(sub, items)
	if ch.reset {
		sub["billing_cycle_anchor"], sub["current_period_start"] = ch.at, ch.at
		sub["current_period_end"] = after(ch.at, ch.at, licensed(items).sub("price"))
	}
}

// dropPending ends a pending update that was not paid.
func (s *Server) dropPending(sub object) {
	before := asObject(copyOf(sub))
	if inv := s.objects[sub.str("_pending", "invoice")]; inv.str("status") == "open" {
		s.void(inv)
	}
	sub["pending_update"] = nil
	delete(sub, "_pending")
	s.emit("customer.subscription.pending_update_expired", sub, nil)
	s.touched(sub, before)
}

func (s *Server) cancelSubscription(c call) (object, error) {
	sub, err := s.get("subscription", c.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if terminal(sub) {
		return nil, missing("subscription", sub.str("id"), "id")
	}
	now := s.now(sub.str("customer"))
	if c.p.flag("prorate") {
		for _, l := range s.proration(sub, nil, object{"proration_date": now}).lines {
			s.pendingItem(sub, l)
		}
	}
	if c.p.flag("invoice_now") {
		lines := append(s.takePending(sub), s.usageLines(sub, sub.num("current_period_start"), now+1)...)
		if len(lines) > 0 {
			inv := s.newInvoice(sub, "subscription_cycle", lines)
			s.finalize(inv)
			if inv.str("status") == "open" {
				_ = s.pay(inv, "")
			}
		}
	}
	s.end(sub, "cancellation_requested")
	return sub, nil
}

// end is the terminal state canceled.
func (s *Server) end(sub object, reason string) {
	if terminal(sub) {
		return
	}
	now := s.now(sub.str("customer"))
	sub["status"], sub["ended_at"], sub["pending_update"] = "canceled", now, nil
	if !sub.has("canceled_at") {
		sub["canceled_at"] = now
	}
	sub.sub("cancellation_details")["reason"] = reason
	delete(sub, "_pending")
	if sch := s.objects[sub.str("schedule")]; sch != nil {
		sch["status"], sch["canceled_at"], sch["current_phase"] = "canceled", now, nil
		s.emit("subscription_schedule.canceled", sch, nil)
	}
	for _, inv := range s.all("invoice", func(i object) bool { return i["subscription"] == sub["id"] && i.str("status") != "paid" }) {
		inv["auto_advance"], inv["next_payment_attempt"] = false, nil
		delete(inv, "_finalize")
	}
	s.emit("customer.subscription.deleted", sub, nil)
}

// dueSubscription is what time does to a subscription next.
func (s *Server) dueSubscription(sub object) (at int64, do func()) {
	soon := func(t int64, f func()) {
		if t > 0 && (do == nil || t < at) {
			at, do = t, f
		}
	}
	switch sub.str("status") {
	case "canceled", "incomplete_expired", "paused":
		return 0, nil
	case "incomplete":
		if s.objects[s.objects[sub.str("latest_invoice")].str("payment_intent")].has("_settles") {
			return 0, nil // a bank debit is on its way
		}
		soon(sub.num("created")+23*hour, func() { s.expire(sub) })
		return at, do
	case "trialing":
		if !sub.flag("_warned") {
			soon(max(sub.num("trial_start"), sub.num("trial_end")-3*day), func() {
				sub["_warned"] = true
				s.emit("customer.subscription.trial_will_end", sub, nil)
			})
		}
	default:
		if end := sub.num("current_period_end"); sub.num("_announced") != end && !sub.flag("cancel_at_period_end") {
			soon(end-7*day, func() {
				sub["_announced"] = end
				s.emit("invoice.upcoming", s.preview(sub, nil, object{}), nil)
			})
		}
	}
	if sub.has("pending_update") {
		soon(sub.num("pending_update", "expires_at"), func() { s.dropPending(sub) })
	}
	soon(sub.num("cancel_at"), func() {
		lines := append(s.takePending(sub), s.usageLines(sub, sub.num("current_period_start"), s.now(sub.str("customer"))+1)...)
		if len(lines) > 0 {
			s.finalizeLater(s.newInvoice(sub, "subscription_cycle", lines))
		}
		s.endScheduled(sub)
	})
	soon(sub.num("current_period_end"), func() { s.renew(sub) })
	return at, do
}

// endScheduled ends at the date that was asked for; a last invoice of usage is
// still collected.
func (s *Server) endScheduled(sub object) {
	kept := map[string]any{}
	for _, inv := range s.all("invoice", func(i object) bool { return i["subscription"] == sub["id"] && i.has("_finalize") }) {
		kept[inv.str("id")] = inv["_finalize"]
	}
	s.end(sub, "cancellation_requested")
	for id, at := range kept {
		s.objects[id]["_finalize"], s.objects[id]["auto_advance"] = at, true
	}
}

// expire is the end of a first payment that never came.
func (s *Server) expire(sub object) {
	before := asObject(copyOf(sub))
	sub["status"], sub["ended_at"] = "incomplete_expired", s.now(sub.str("customer"))
	if inv := s.objects[sub.str("latest_invoice")]; inv.str("status") == "open" {
		s.void(inv)
	}
	s.touched(sub, before)
}

// renew begins the next period, at the end of a trial too.
func (s *Server) renew(sub object) {
	before := asObject(copyOf(sub))
	if sub.str("status") == "trialing" && s.source(sub, "") == nil {
		switch sub.str("trial_settings", "end_behavior", "missing_payment_method") {
		case "pause":
			sub["status"] = "paused"
			s.emit("customer.subscription.paused", sub, nil)
			s.touched(sub, before)
			return
		case "cancel":
			s.end(sub, "cancellation_requested")
			return
		}
	}
	start := sub.num("current_period_end")
	s.nextPhase(sub, start)
	items := sub.list("items")
	old := sub.num("current_period_start")
	sub["current_period_start"], sub["current_period_end"] = start, after(start, sub.num("billing_cycle_anchor"), licensed(items).sub("price"))
	if sub.str("status") == "trialing" {
		sub["status"] = "active"
	}
	lines := append(s.takePending(sub), s.periodLines(sub, items, start, sub.num("current_period_end"))...)
	inv := s.newInvoice(sub, "subscription_cycle", lines)
	inv["_usage"] = object{"from": old, "to": start} // what was used is added when it is finalized
	switch {
	case sub.str("status") == "unpaid", sub.str("pause_collection", "behavior") == "keep_as_draft":
		inv["auto_advance"] = false
	case sub.has("pause_collection"):
		s.finalize(inv)
		s.void(inv)
	default:
		s.finalizeLater(inv)
	}
	s.touched(sub, before)
}

func (s *Server) resumeSubscription(c call) (object, error) {
	sub, err := s.get("subscription", c.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if sub.str("status") != "paused" {
		return nil, invalid("", "", "The subscription is not paused.")
	}
	before := asObject(copyOf(sub))
	now := s.now(sub.str("customer"))
	items := sub.list("items")
	inv := s.newInvoice(sub, "subscription_update", s.periodLines(sub, items, now, after(now, now, licensed(items).sub("price"))))
	s.finalize(inv)
	if inv.str("status") != "paid" {
		if err := s.pay(inv, ""); err != nil {
			return sub, nil // stays paused with an open invoice
		}
	}
	sub["status"], sub["billing_cycle_anchor"], sub["current_period_start"] = "active", now, now
	sub["current_period_end"] = after(now, now, licensed(items).sub("price"))
	s.emit("customer.subscription.resumed", sub, nil)
	s.touched(sub, before)
	return sub, nil
}

// Schedules: phases of items; a phase begins at the renewal at which the one
// before it ends.

func (s *Server) createSchedule(c call) (object, error) {
	sub, err := s.get("subscription", c.p.str("from_subscription"), "from_subscription")
	if err != nil {
		return nil, err
	}
	if sub.has("schedule") {
		return nil, invalid("from_subscription", "", "You cannot migrate a subscription that is already attached to a schedule: `%s`.", sub.str("schedule"))
	}
	if terminal(sub) || sub.flag("cancel_at_period_end") {
		return nil, invalid("from_subscription", "", "You cannot make a schedule of a subscription that ends.")
	}
	cus := sub.str("customer")
	o := s.base("sub_sched", "subscription_schedule", cus, object{"application": nil, "canceled_at": nil, "completed_at": nil, "customer": cus, "end_behavior": "release",
		"current_phase": object{"start_date": sub["current_period_start"], "end_date": sub["current_period_end"]}, "released_at": nil, "released_subscription": nil,
		"status": "active", "subscription": sub["id"], "test_clock": sub["test_clock"],
		"default_settings": object{"application_fee_percent": nil, "automatic_tax": object{"enabled": false}, "billing_cycle_anchor": "automatic", "billing_thresholds": nil,
			"collection_method": "charge_automatically", "default_payment_method": nil, "description": nil, "invoice_settings": nil, "on_behalf_of": nil, "transfer_data": nil},
		"phases": []object{s.phase(sub.list("items"), sub.num("current_period_start"), sub.num("current_period_end"), sub.str("currency"))}})
	sub["schedule"] = o["id"]
	s.emit("subscription_schedule.created", s.add(o), nil)
	return o, nil
}

func (s *Server) phase(items []object, start, end int64, currency string) object {
	rows := make([]object, len(items))
	for i, item := range items {
		rows[i] = object{"billing_thresholds": nil, "metadata": object{}, "price": item.str("price", "id"), "tax_rates": []any{}}
		if item.has("quantity") {
			rows[i]["quantity"] = item["quantity"]
		}
	}
	return object{"add_invoice_items": []any{}, "application_fee_percent": nil, "billing_cycle_anchor": nil, "billing_thresholds": nil, "collection_method": nil, "coupon": nil,
		"currency": currency, "default_payment_method": nil, "default_tax_rates": []any{}, "description": nil, "end_date": end, "invoice_settings": nil, "items": rows, "metadata": object{},
		"on_behalf_of": nil, "proration_behavior": "create_prorations", "start_date": start, "transfer_data": nil, "trial_end": nil}
}

func (s *Server) updateSchedule(c call) (object, error) {
	o, err := s.get("subscription_schedule", c.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if o.str("status") != "active" {
		return nil, invalid("", "", "You cannot update a subscription schedule that is %s.", o.str("status"))
	}
	sub := s.objects[o.str("subscription")]
	var phases []object
	start := sub.num("current_period_start")
	for i, in := range c.p.list("phases") {
		if in.has("start_date") {
			start = in.num("start_date")
		}
		items := make([]object, 0, 1)
		for _, it := range in.list("items") {
			price, err := s.get("price", it.str("price"), "phases[items][price]")
			if err != nil {
				return nil, err
			}
			item := object{"price": price}
			if price.str("recurring", "usage_type") == "licensed" {
				item["quantity"] = max(1, it.num("quantity"))
			}
			items = append(items, item)
		}
		if len(items) == 0 {
			return nil, invalid("phases", "parameter_missing", "A phase needs items.")
		}
		end := in.num("end_date")
		if end == 0 {
			end = start
			for range max(1, in.num("iterations")) {
				end = after(end, end, licensed(items).sub("price"))
			}
		}
		if i == 0 && start != o.num("current_phase", "start_date") { // those before it are past, and stay out
			return nil, invalid("phases[0][start_date]", "", "You can not modify the start date of the current phase.")
		}
		p := s.phase(items, start, end, sub.str("currency"))
		if v := in.str("proration_behavior"); v != "" {
			p["proration_behavior"] = v
		}
		phases, start = append(phases, p), end
	}
	if len(phases) > 0 {
		o["phases"] = phases
		o["current_phase"] = object{"start_date": phases[0]["start_date"], "end_date": phases[0]["end_date"]}
	}
	assign(o, c.p, "end_behavior")
	s.emit("subscription_schedule.updated", o, nil)
	return o, nil
}

func (s *Server) nextPhase(sub object, at int64) {
	o := s.objects[sub.str("schedule")]
	if o == nil {
		return
	}
	for _, p := range o.list("phases") {
		if p.num("start_date") <= at && at < p.num("end_date") {
			if p.num("start_date") == o.num("current_phase", "start_date") {
				return
			}
			have := sub.list("items")
			items := make([]object, 0, 1)
			for i, it := range p.list("items") {
				item := object{"object": "subscription_item", "billing_thresholds": nil, "metadata": object{}, "tax_rates": []any{}, "created": at}
				if i < len(have) {
					item["id"], item["created"] = have[i]["id"], have[i]["created"]
				} else {
					item["id"] = s.id("si")
				}
				item["price"] = s.objects[it.str("price")]
				if it.has("quantity") {
					item["quantity"] = it["quantity"]
				}
				items = append(items, item)
			}
			if licensed(items).str("price", "recurring", "interval") != licensed(have).str("price", "recurring", "interval") {
				sub["billing_cycle_anchor"] = at
			}
			s.setItems(sub, items)
			o["current_phase"] = object{"start_date": p["start_date"], "end_date": p["end_date"]}
			s.emit("subscription_schedule.updated", o, nil)
			return
		}
	}
	s.release(o)
}

func (s *Server) release(o object) {
	sub := s.objects[o.str("subscription")]
	o["status"], o["released_at"], o["released_subscription"], o["subscription"], o["current_phase"] = "released", s.now(o.str("customer")), sub["id"], nil, nil
	sub["schedule"] = nil
	s.emit("subscription_schedule.released", o, nil)
}

func (s *Server) releaseSchedule(c call) (object, error) {
	o, err := s.get("subscription_schedule", c.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if o.str("status") != "active" {
		return nil, invalid("", "", "You cannot release a subscription schedule that is %s.", o.str("status"))
	}
	sub := s.objects[o.str("subscription")]
	before := asObject(copyOf(sub))
	s.release(o)
	s.touched(sub, before)
	return o, nil
}

func (s *Server) cancelSchedule(c call) (object, error) {
	o, err := s.get("subscription_schedule", c.PathValue("id"), "id")
	if err == nil && o.str("status") == "active" {
		s.end(s.objects[o.str("subscription")], "cancellation_requested")
	}
	return o, err
}
