package stripe

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
)

// line is one line of an invoice; what is paid for is an item from start to end.
func (s *Server) line(sub, item object, amount, start, end int64, proration bool, text string) object {
	l := object{"id": s.id("il"), "object": "line_item", "amount": amount, "amount_excluding_tax": amount, "currency": sub["currency"], "description": text, "discount_amounts": []any{},
		"discountable": !proration, "discounts": []any{}, "livemode": false, "metadata": object{}, "period": object{"start": start, "end": end}, "proration": proration,
		"proration_details": object{"credited_items": nil}, "quantity": item["quantity"], "subscription": sub["id"], "tax_amounts": []any{}, "tax_rates": []any{}, "type": "subscription"}
	if item.has("price") {
		l["price"] = copyOf(item.sub("price"))
	}
	if item.has("id") {
		l["subscription_item"] = item["id"]
	}
	if proration {
		l["type"] = "invoiceitem"
	}
	return l
}

// periodLines are what is paid in advance for one period.
func (s *Server) periodLines(sub object, items []object, start, end int64) (out []object) {
	for _, i := range items {
		if i.str("price", "recurring", "usage_type") == "licensed" {
			amount := i.num("price", "unit_amount") * i.num("quantity")
			out = append(out, s.line(sub, i, amount, start, end, false, fmt.Sprintf("%d × %s", i.num("quantity"), s.objects[i.str("price", "product")].str("name"))))
		}
	}
	return out
}

// usageLines are what was used in [from, to).
func (s *Server) usageLines(sub object, from, to int64) (out []object) {
	for _, i := range sub.list("items") {
		if i.str("price", "recurring", "usage_type") != "metered" {
			continue
		}
		if n := s.usage(i, sub.str("customer"), from, to); n > 0 {
			item := object{"id": i["id"], "price": i["price"], "quantity": n}
			out = append(out, s.line(sub, item, n*i.num("price", "unit_amount"), from, to, false, fmt.Sprintf("%d × %s", n, s.objects[i.str("price", "product")].str("name"))))
		}
	}
	return out
}

// change is the difference between two sets of items, in money.
type change struct {
	changed, reset bool // reset: another interval, so a new period begins
	at             int64
	lines          []object
}

// proration credits what is left of the old items and charges what is left of
// the period for the new ones; items nil is a cancellation.
func (s *Server) proration(sub object, items []object, p object) change {
	cus := sub.str("customer")
	ch := change{at: s.now(cus)}
	if p.has("proration_date") {
		ch.at = p.num("proration_date")
	}
	have := sub.list("items")
	start, end := sub.num("current_period_start"), sub.num("current_period_end")
	ch.at = min(max(ch.at, start), end)
	if items != nil {
		old, lead := licensed(have).sub("price", "recurring"), licensed(items).sub("price", "recurring")
		ch.reset = old.str("interval") != lead.str("interval") || old.num("interval_count") != lead.num("interval_count")
	}
	find := func(list []object, id string) object {
		if i := slices.IndexFunc(list, func(o object) bool { return o.str("id") == id }); i >= 0 {
			return list[i]
		}
		return nil
	}
	same := func(a, b object) bool {
		return a != nil && b != nil && a.str("price", "id") == b.str("price", "id") && a.num("quantity") == b.num("quantity")
	}
	part := func(i object, sign int64) {
		if i.str("price", "recurring", "usage_type") != "licensed" {
			return
		}
		amount := i.num("price", "unit_amount") * i.num("quantity")
		word := "Remaining time on"
		if sign < 0 {
			word = "Unused time on"
		}
		amount = sign * share(amount, end-ch.at, end-start, sub.str("currency"))
		ch.lines = append(ch.lines, s.line(sub, i, amount, ch.at, end, true, fmt.Sprintf("%s %d × %s", word, i.num("quantity"), s.objects[i.str("price", "product")].str("name"))))
	}
	for _, old := range have {
		if next := find(items, old.str("id")); !same(old, next) || ch.reset {
			ch.changed = true
			part(old, -1)
		}
	}
	for _, next := range items {
		if old := find(have, next.str("id")); !same(old, next) && !ch.reset {
			ch.changed = true
			part(next, 1)
		}
	}
	if ch.reset {
		ch.lines = append(ch.lines, s.periodLines(sub, items, ch.at, after(ch.at, ch.at, licensed(items).sub("price")))...)
	}
	return ch
}

// share is amount × part/whole, half away from zero; currencies of three
// decimals are charged in tens.
func share(amount, part, whole int64, currency string) int64 {
	if whole <= 0 {
		return 0
	}
	unit := int64(1)
	if slices.Contains(threeDecimals, currency) {
		unit = 10
	}
	n := new(big.Int).Mul(big.NewInt(amount), big.NewInt(2*part))
	d := big.NewInt(2 * whole * unit)
	n.Add(n, big.NewInt(whole*unit))
	return n.Div(n, d).Int64() * unit
}

// hundredths of a percentage; one that is whole comes back from the state file
// as an integer.
func hundredths(percent any) int64 {
	switch v := percent.(type) {
	case float64:
		return int64(math.Round(v * 100))
	case int64:
		return v * 100
	}
	return 0
}

// pendingItem keeps a proration for the next invoice.
func (s *Server) pendingItem(sub, l object) object {
	o := object{"id": s.id("ii"), "object": "invoiceitem", "amount": l["amount"], "currency": l["currency"], "customer": sub["customer"], "date": s.now(sub.str("customer")),
		"description": l["description"], "discountable": false, "discounts": []any{}, "invoice": nil, "livemode": false, "metadata": object{},
		"period": l["period"], "price": l["price"], "proration": l["proration"], "quantity": max(1, l.num("quantity")), "subscription": sub["id"], "tax_rates": []any{},
		"test_clock": sub["test_clock"], "unit_amount": nil, "unit_amount_decimal": nil, "_line": l}
	s.emit("invoiceitem.created", s.add(o), nil)
	return o
}

func (s *Server) createInvoiceItem(c call) (object, error) {
	cus, err := s.customer(c.p.str("customer"))
	if err != nil {
		return nil, err
	}
	now := s.now(cus.str("id"))
	holder := object{"id": nil, "currency": strings.ToLower(c.p.str("currency")), "customer": cus["id"], "test_clock": cus["test_clock"]}
	if id := c.p.str("subscription"); id != "" {
		if holder, err = s.get("subscription", id, "subscription"); err != nil {
			return nil, err
		}
	}
	l := s.line(holder, object{"quantity": int64(1)}, c.p.num("amount"), now, now, false, c.p.str("description"))
	l["type"] = "invoiceitem"
	assign(l, c.p)
	item := s.pendingItem(holder, l)
	assign(item, c.p)
	if id := c.p.str("invoice"); id != "" {
		inv, err := s.get("invoice", id, "invoice")
		if err != nil || inv.str("status") != "draft" {
			return nil, invalid("invoice", "invoice_not_editable", "The invoice is not a draft.")
		}
		item["invoice"] = id
		inv["lines"] = listOf("/v1/invoices/"+id+"/lines", append(inv.list("lines"), l))
		s.total(inv)
	}
	return item, nil
}

// takePending moves the pending items of a subscription to an invoice.
func (s *Server) takePending(sub object) (lines []object) {
	for _, o := range s.all("invoiceitem", func(o object) bool {
		return o["customer"] == sub["customer"] && !o.has("invoice") && (!o.has("subscription") || o["subscription"] == sub["id"])
	}) {
		o["invoice"] = "taken"
		l := asObject(o["_line"])
		l["invoice_item"] = o["id"]
		lines = append(lines, l)
	}
	return lines
}

// blank is an invoice before anything is known of it but whose it is.
func (s *Server) blank(sub object, reason string, lines []object) object {
	cus := s.objects[sub.str("customer")]
	now := s.now(cus.str("id"))
	inv := s.base("in", "invoice", cus.str("id"), object{"account_country": "US", "account_name": "Sandbox", "account_tax_ids": nil, "amount_due": int64(0), "amount_paid": int64(0),
		"amount_remaining": int64(0), "amount_shipping": int64(0), "application": nil, "application_fee_amount": nil, "attempt_count": int64(0), "attempted": false, "auto_advance": true,
		"automatic_tax": object{"enabled": false, "status": nil}, "billing_reason": reason, "charge": nil, "collection_method": "charge_automatically", "currency": sub["currency"],
		"custom_fields": nil, "customer": cus["id"], "customer_address": nil, "customer_email": cus["email"], "customer_name": cus["name"], "customer_phone": nil, "customer_shipping": nil,
		"customer_tax_exempt": "none", "customer_tax_ids": []any{}, "default_payment_method": nil, "default_source": nil, "default_tax_rates": []any{}, "description": nil,
		"discount": nil, "discounts": []any{}, "due_date": nil, "ending_balance": nil, "footer": nil, "from_invoice": nil, "hosted_invoice_url": nil,
		"invoice_pdf": nil, "last_finalization_error": nil, "latest_revision": nil, "next_payment_attempt": nil, "number": nil, "on_behalf_of": nil, "paid": false,
		"paid_out_of_band": false, "payment_intent": nil, "payment_settings": object{"default_mandate": nil, "payment_method_options": nil, "payment_method_types": nil},
		"period_start": now, "period_end": now, "post_payment_credit_notes_amount": int64(0), "pre_payment_credit_notes_amount": int64(0), "quote": nil, "receipt_number": nil,
		"shipping_cost": nil, "shipping_details": nil, "starting_balance": cus.num("balance"), "statement_descriptor": nil, "status": "draft",
		"status_transitions": object{"finalized_at": nil, "marked_uncollectible_at": nil, "paid_at": nil, "voided_at": nil}, "subscription": sub["id"],
		"subtotal": int64(0), "subtotal_excluding_tax": int64(0), "tax": nil, "test_clock": sub["test_clock"], "total": int64(0), "total_discount_amounts": []any{},
		"total_excluding_tax": int64(0), "total_tax_amounts": []any{}, "transfer_data": nil, "webhooks_delivered_at": nil})
	inv["lines"] = listOf("/v1/invoices/"+inv.str("id")+"/lines", lines)
	if reason == "subscription_cycle" && sub.has("current_period_start") {
		inv["period_start"] = sub["current_period_start"]
	}
	s.total(inv)
	return inv
}

// newInvoice is a draft of a subscription's.
func (s *Server) newInvoice(sub object, reason string, lines []object) object {
	inv := s.add(s.blank(sub, reason, lines))
	for _, l := range lines {
		if item := s.objects[l.str("invoice_item")]; item != nil {
			item["invoice"] = inv["id"]
		}
	}
	if sub.has("id") {
		sub["latest_invoice"] = inv["id"]
	}
	s.emit("invoice.created", inv, nil)
	return inv
}

// total adds an invoice up: lines, discount, the customer's balance.
func (s *Server) total(inv object) {
	sub, cus := s.objects[inv.str("subscription")], s.objects[inv.str("customer")]
	var subtotal, base int64
	for _, l := range inv.list("lines") {
		subtotal += l.num("amount")
		if l.flag("discountable") {
			base += l.num("amount")
		}
	}
	var off int64
	inv["discount"], inv["total_discount_amounts"] = nil, []any{}
	if d := sub.sub("discount"); d != nil && (!d.has("end") || inv.num("created") < d.num("end")) {
		coupon := d.sub("coupon")
		if off = coupon.num("amount_off"); coupon.has("percent_off") {
			off = share(base, hundredths(coupon["percent_off"]), 10_000, inv.str("currency"))
		}
		if off = max(0, min(off, base)); off > 0 {
			inv["discount"] = copyOf(d)
			inv["total_discount_amounts"] = []any{object{"amount": off, "discount": d["id"]}}
		}
	}
	total, balance := subtotal-off, cus.num("balance")
	due := max(0, total)
	if balance < 0 {
		due = max(0, due+balance)
	}
	inv["subtotal"], inv["subtotal_excluding_tax"], inv["total"], inv["total_excluding_tax"] = subtotal, subtotal, total, total
	inv["starting_balance"], inv["amount_due"], inv["amount_remaining"] = balance, due, due
}

func (s *Server) finalizeLater(inv object) { inv["_finalize"] = s.now(inv.str("customer")) + hour }

// finalize fixes an invoice's numbers and opens it for payment.
func (s *Server) finalize(inv object) {
	cus, sub := s.objects[inv.str("customer")], s.objects[inv.str("subscription")]
	delete(inv, "_finalize")
	if u := inv.sub("_usage"); u != nil && sub != nil {
		if lines := s.usageLines(sub, u.num("from"), u.num("to")); len(lines) > 0 {
			inv["lines"] = listOf("/v1/invoices/"+inv.str("id")+"/lines", append(lines, inv.list("lines")...))
		}
		delete(inv, "_usage")
	}
	s.total(inv)
	now := s.now(cus.str("id"))
	balance := cus.num("balance")
	if total := inv.num("total"); total < 0 {
		balance += total
	} else {
		balance += min(total, max(0, -balance))
	}
	if balance != cus.num("balance") {
		cus["balance"] = balance
		s.emit("customer.updated", cus, nil)
	}
	inv["ending_balance"] = balance
	if d := sub.sub("discount"); d != nil && d.sub("coupon").str("duration") == "once" && inv.has("discount") {
		sub["discount"] = nil
	}
	cus["next_invoice_sequence"] = cus.num("next_invoice_sequence") + 1
	inv["number"] = fmt.Sprintf("%s-%04d", cus.str("invoice_prefix"), cus.num("next_invoice_sequence")-1)
	inv["status"] = "open"
	inv.sub("status_transitions")["finalized_at"] = now
	inv["hosted_invoice_url"] = s.URL + "/i/" + inv.str("id")
	inv["invoice_pdf"] = s.URL + "/i/" + inv.str("id") + "/pdf"
	if inv.num("amount_due") > 0 {
		pi := s.add(s.base("pi", "payment_intent", cus.str("id"), object{"amount": inv["amount_due"], "amount_capturable": int64(0), "amount_received": int64(0), "application": nil,
			"application_fee_amount": nil, "automatic_payment_methods": nil, "canceled_at": nil, "cancellation_reason": nil, "capture_method": "automatic", "client_secret": s.id("secret"),
			"confirmation_method": "automatic", "currency": inv["currency"], "customer": cus["id"], "description": "Subscription", "invoice": inv["id"], "last_payment_error": nil,
			"latest_charge": nil, "next_action": nil, "on_behalf_of": nil, "payment_method": nil, "payment_method_types": []any{"card"}, "processing": nil, "receipt_email": nil,
			"review": nil, "setup_future_usage": "off_session", "shipping": nil, "statement_descriptor": nil, "statement_descriptor_suffix": nil,
			"status": "requires_payment_method", "transfer_data": nil, "transfer_group": nil}))
		inv["payment_intent"] = pi["id"]
		s.emit("payment_intent.created", pi, nil)
	}
	s.emit("invoice.finalized", inv, nil)
	if inv.num("amount_due") == 0 {
		s.paid(inv)
	}
}

// source is the payment method that an invoice is charged to.
func (s *Server) source(sub object, given string) object {
	for _, id := range []string{given, sub.str("default_payment_method"), s.objects[sub.str("customer")].sub("invoice_settings").str("default_payment_method")} {
		if pm := s.objects[id]; pm != nil {
			return pm
		}
	}
	return nil
}

// pay tries to collect an open invoice. An error is Stripe's answer for a
// payment that did not come; what it did to invoice and subscription has
// happened either way.
func (s *Server) pay(inv object, given string) error {
	cus := inv.str("customer")
	sub := s.objects[inv.str("subscription")]
	if sub == nil {
		sub = object{"customer": cus}
	}
	pi := s.objects[inv.str("payment_intent")]
	now := s.now(cus)
	pm := s.source(sub, given)
	inv["attempted"], inv["attempt_count"] = true, max(1, inv.num("attempt_count")) // from the second on, retries alone count
	if pm == nil {
		s.unpaid(inv, sub, pi, "", "resource_missing", "This customer has no attached payment source or default payment method.")
		return invalid("", "resource_missing", "This customer has no attached payment source or default payment method.")
	}
	pi["payment_method"] = pm["id"]
	switch outcome := pm.str("_outcome"); outcome {
	case asks:
		pi["status"] = "requires_action"
		pi["next_action"] = object{"type": "use_stripe_sdk", "use_stripe_sdk": object{"type": "three_d_secure_redirect"}}
		s.emit("payment_intent.requires_action", pi, nil)
		s.emit("invoice.payment_action_required", inv, nil)
		s.unpaid(inv, sub, pi, "", "", "")
		return &apiError{status: 402, kind: "card_error", code: "invoice_payment_intent_requires_action", intent: pi,
			message: "This payment requires additional user action before it can be completed successfully."}
	case settles, bounces:
		pi["status"], pi["_settles"] = "processing", now+4*day
		pi["processing"] = object{"type": "us_bank_account"}
		s.emit("payment_intent.processing", pi, nil)
		inv["next_payment_attempt"] = nil
		return nil
	case fails, declines, stolen:
		ch := s.charge(inv, pi, pm, "failed")
		s.emit("charge.failed", ch, nil)
		s.unpaid(inv, sub, pi, ch.str("id"), "card_declined", "Your card was declined.")
		return &apiError{status: 402, kind: "card_error", code: "card_declined", decline: "generic_decline", message: "Your card was declined.", intent: pi}
	}
	s.collected(inv, pi, pm)
	return nil
}

func (s *Server) charge(inv, pi, pm object, status string) object {
	details := object{"type": pm["type"]}
	if card := pm.sub("card"); card != nil {
		details["card"] = object{"brand": "visa", "country": "US", "exp_month": int64(12), "exp_year": int64(2040), "fingerprint": card["fingerprint"], "funding": "credit", "last4": card["last4"]}
	}
	return s.add(s.base("ch", "charge", inv.str("customer"), object{"amount": pi["amount"], "amount_captured": int64(0), "amount_refunded": int64(0), "application": nil,
		"application_fee": nil, "application_fee_amount": nil, "balance_transaction": nil, "billing_details": copyOf(pm["billing_details"]), "calculated_statement_descriptor": "SANDBOX",
		"captured": status == "succeeded", "currency": pi["currency"], "customer": inv["customer"], "description": "Subscription", "disputed": false,
		"failure_balance_transaction": nil, "failure_code": nil, "failure_message": nil, "fraud_details": object{}, "invoice": inv["id"], "on_behalf_of": nil,
		"outcome": nil, "paid": status == "succeeded", "payment_intent": pi["id"], "payment_method": pm["id"], "payment_method_details": details, "receipt_email": nil,
		"receipt_number": nil, "receipt_url": nil, "refunded": false, "review": nil, "shipping": nil, "source_transfer": nil, "statement_descriptor": nil,
		"statement_descriptor_suffix": nil, "status": status, "transfer_data": nil, "transfer_group": nil}))
}

// collected is a payment that came.
func (s *Server) collected(inv, pi, pm object) {
	ch := s.charge(inv, pi, pm, "succeeded")
	ch["amount_captured"] = ch["amount"]
	pi["status"], pi["amount_received"], pi["latest_charge"], pi["next_action"], pi["last_payment_error"], pi["processing"] = "succeeded", pi["amount"], ch["id"], nil, nil, nil
	delete(pi, "_settles")
	inv["charge"] = ch["id"]
	s.emit("charge.succeeded", ch, nil)
	s.emit("payment_intent.succeeded", pi, nil)
	s.paid(inv)
	if pm.str("_outcome") == disputes {
		s.dispute(ch)
	}
}

// paid closes an invoice and lets its subscription go on.
func (s *Server) paid(inv object) {
	inv["status"], inv["paid"], inv["amount_paid"], inv["amount_remaining"], inv["next_payment_attempt"], inv["attempted"] = "paid", true, inv["amount_due"], int64(0), nil, true
	inv.sub("status_transitions")["paid_at"] = s.now(inv.str("customer"))
	s.emit("invoice.paid", inv, nil)
	s.emit("invoice.payment_succeeded", inv, nil)
	sub := s.objects[inv.str("subscription")]
	if sub == nil || terminal(sub) {
		return
	}
	before := asObject(copyOf(sub))
	if p := sub.sub("_pending"); p.str("invoice") == inv.str("id") {
		items := p.list("items")
		for i := range items {
			if price := s.objects[items[i].str("price", "id")]; price != nil {
				items[i]["price"] = price
			}
		}
		s.apply(sub, items, change{reset: p.flag("reset"), at: p.num("at")})
		sub["pending_update"] = nil
		delete(sub, "_pending")
		s.emit("customer.subscription.pending_update_applied", sub, nil)
	}
	switch sub.str("status") {
	case "incomplete", "past_due", "unpaid":
		owing := s.all("invoice", func(i object) bool {
			return i["subscription"] == sub["id"] && i.str("status") == "open" && i["id"] == sub["latest_invoice"]
		})
		if len(owing) == 0 {
			sub["status"] = "active"
			s.objects[sub.str("customer")]["delinquent"] = false
		}
	}
	s.touched(sub, before)
	s.sessionPaid(inv)
}

// unpaid is an attempt that failed: dunning begins, goes on, or ends.
func (s *Server) unpaid(inv, sub, pi object, charge, code, message string) {
	now := s.now(inv.str("customer"))
	hard := pi != nil && s.objects[pi.str("payment_method")].str("_outcome") == stolen // Stripe tries no such card again
	if code != "" && pi != nil {
		pi["status"], pi["next_action"] = "requires_payment_method", nil
		e := object{"code": code, "message": message, "type": "card_error"}
		if code == "card_declined" {
			e["decline_code"] = "generic_decline"
			if hard {
				e["decline_code"] = "stolen_card"
			}
		}
		pi["last_payment_error"] = e
		if charge != "" {
			pi["latest_charge"] = charge
			ch := s.objects[charge]
			ch["failure_code"], ch["failure_message"] = code, message
		}
		s.emit("payment_intent.payment_failed", pi, nil)
	}
	before := asObject(copyOf(sub))
	status := sub.str("status")
	renewal := status == "active" || status == "past_due"
	isPending := sub.sub("_pending").str("invoice") == inv.str("id")
	if renewal && !isPending && inv.str("billing_reason") != "subscription_update" {
		if inv.num("_first") == 0 {
			inv["_first"] = now
		}
		// Tries on days 0, 3, 5 and 7.
		inv["next_payment_attempt"] = nil
		for _, d := range []int64{3, 5, 7} {
			if at := inv.num("_first") + d*day; at > now && !hard {
				inv["next_payment_attempt"] = at
				break
			}
		}
	}
	s.emit("invoice.payment_failed", inv, nil)
	if !renewal || isPending || inv["id"] != sub["latest_invoice"] || inv.str("billing_reason") == "subscription_update" && !sub.has("id") {
		return
	}
	if inv.str("billing_reason") == "subscription_update" {
		return // an upgrade that was not paid: the caller decides what becomes of it
	}
	sub["status"] = "past_due"
	s.objects[sub.str("customer")]["delinquent"] = true
	if !inv.has("next_payment_attempt") && !hard {
		inv["auto_advance"] = false
		switch s.AfterRetries {
		case "unpaid":
			sub["status"] = "unpaid"
		case "canceled":
			s.end(sub, "payment_failed")
			return
		}
	}
	s.touched(sub, before)
}

// settleIntent is the day on which a bank debit comes, or bounces.
func (s *Server) settleIntent(pi object) {
	delete(pi, "_settles")
	inv, pm := s.objects[pi.str("invoice")], s.objects[pi.str("payment_method")]
	if inv.str("status") != "open" {
		return
	}
	if pm.str("_outcome") == settles {
		s.collected(inv, pi, pm)
		return
	}
	sub := s.objects[inv.str("subscription")]
	ch := s.charge(inv, pi, pm, "failed")
	s.emit("charge.failed", ch, nil)
	pi["processing"] = nil
	s.unpaid(inv, sub, pi, ch.str("id"), "payment_method_provider_decline", "The bank did not pay.")
	s.sessionFailed(inv)
}

func (s *Server) void(inv object) {
	inv["status"], inv["auto_advance"], inv["next_payment_attempt"] = "void", false, nil
	inv.sub("status_transitions")["voided_at"] = s.now(inv.str("customer"))
	if pi := s.objects[inv.str("payment_intent")]; pi != nil {
		pi["status"], pi["cancellation_reason"], pi["next_action"] = "canceled", "void_invoice", nil
		delete(pi, "_settles")
		s.emit("payment_intent.canceled", pi, nil)
	}
	s.emit("invoice.voided", inv, nil)
}

// dueInvoice is what time does to an invoice next.
func (s *Server) dueInvoice(inv object) (int64, func()) {
	switch {
	case inv.str("status") == "draft" && inv.has("_finalize"):
		return inv.num("_finalize"), func() {
			s.finalize(inv)
			if inv.str("status") == "open" && inv.flag("auto_advance") {
				_ = s.pay(inv, "")
			}
		}
	case inv.str("status") == "open" && inv.has("next_payment_attempt"):
		return inv.num("next_payment_attempt"), func() {
			inv["attempt_count"] = inv.num("attempt_count") + 1
			_ = s.pay(inv, "")
		}
	}
	return 0, nil
}

// onInvoice binds a call on one invoice; key answers a part of it.
func (s *Server) onInvoice(fn func(call, object) error, key ...string) func(call) (object, error) {
	return func(c call) (object, error) {
		inv, err := s.get("invoice", c.PathValue("id"), "invoice")
		if err == nil {
			err = fn(c, inv)
		}
		if err == nil && len(key) > 0 {
			return inv.sub(key[0]), nil
		}
		return inv, err
	}
}

func (s *Server) createInvoice(c call) (object, error) {
	cus, err := s.customer(c.p.str("customer"))
	if err != nil {
		return nil, err
	}
	holder := object{"id": nil, "currency": cus["currency"], "customer": cus["id"], "test_clock": cus["test_clock"]}
	if id := c.p.str("subscription"); id != "" {
		if holder, err = s.get("subscription", id, "subscription"); err != nil {
			return nil, err
		}
	}
	lines := s.takePending(holder)
	if len(lines) == 0 {
		return nil, invalid("", "invoice_no_customer_line_items", "Nothing to invoice for customer")
	}
	holder["currency"] = lines[0]["currency"]
	inv := s.newInvoice(holder, "manual", lines)
	inv["auto_advance"] = c.p.flag("auto_advance")
	assign(inv, c.p)
	if inv.flag("auto_advance") {
		s.finalizeLater(inv)
	}
	return inv, nil
}

func (s *Server) finalizeCall(_ call, inv object) error {
	if inv.str("status") != "draft" {
		return invalid("", "invoice_not_editable", "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
	}
	s.finalize(inv)
	return nil
}

func (s *Server) payCall(c call, inv object) error {
	if inv.str("status") == "draft" {
		s.finalize(inv)
	}
	if inv.str("status") == "paid" {
		return invalid("", "invoice_already_paid", "Invoice is already paid")
	}
	if inv.str("status") != "open" && inv.str("status") != "uncollectible" {
		return invalid("", "invoice_not_open", "Invoice is %s.", inv.str("status"))
	}
	if c.p.flag("paid_out_of_band") {
		inv["paid_out_of_band"] = true
		s.paid(inv)
		return nil
	}
	return s.pay(inv, c.p.str("payment_method"))
}

func (s *Server) voidCall(_ call, inv object) error {
	if inv.str("status") != "open" && inv.str("status") != "uncollectible" {
		return invalid("", "invoice_not_editable", "You can only void an open invoice.")
	}
	s.void(inv)
	return nil
}

func (s *Server) uncollectibleCall(_ call, inv object) error {
	if inv.str("status") != "open" {
		return invalid("", "invoice_not_editable", "You can only mark an open invoice as uncollectible.")
	}
	inv["status"] = "uncollectible"
	inv.sub("status_transitions")["marked_uncollectible_at"] = s.now(inv.str("customer"))
	s.emit("invoice.marked_uncollectible", inv, nil)
	return nil
}

// upcoming is the preview of the next invoice, or of a change.
func (s *Server) upcoming(c call) (object, error) {
	sub, err := s.get("subscription", c.p.str("subscription"), "subscription")
	if err != nil {
		return nil, err
	}
	if terminal(sub) {
		return nil, &apiError{status: 404, kind: "invalid_request_error", code: "invoice_upcoming_none", message: "No upcoming invoices for customer: " + sub.str("customer")}
	}
	serial := s.serial
	defer func() { s.serial = serial }() // a preview uses no ids
	items := sub.list("items")
	if c.p.has("subscription_items") {
		if items, err = s.wanted(object{"items": c.p["subscription_items"]}, items, sub.str("customer")); err != nil {
			return nil, err
		}
	}
	return s.preview(sub, items, object{"proration_date": c.p["subscription_proration_date"], "proration_behavior": c.p["subscription_proration_behavior"]}), nil
}

func (s *Server) preview(sub object, items []object, p object) object {
	var ch change
	if items != nil {
		ch = s.proration(sub, items, p)
	} else {
		items = sub.list("items")
	}
	lines := ch.lines
	if p.str("proration_behavior") == "none" {
		lines = slices.DeleteFunc(lines, func(l object) bool { return l.flag("proration") })
	}
	if p.str("proration_behavior") != "always_invoice" && !ch.reset {
		for _, o := range s.all("invoiceitem", func(o object) bool { return o["subscription"] == sub["id"] && !o.has("invoice") }) {
			lines = append(lines, asObject(o["_line"]))
		}
		end := sub.num("current_period_end")
		lines = append(lines, s.usageLines(sub, sub.num("current_period_start"), end)...)
		lines = append(lines, s.periodLines(sub, items, end, after(end, sub.num("billing_cycle_anchor"), licensed(items).sub("price")))...)
	}
	inv := s.blank(sub, "upcoming", lines)
	delete(inv, "id")
	inv["lines"] = listOf("/v1/invoices/upcoming/lines?subscription="+sub.str("id"), lines)
	inv["next_payment_attempt"] = sub.num("current_period_end") + hour
	inv["subscription_proration_date"] = ch.at
	return inv
}

// Usage: records of an item, or events of a customer's meter.

func (s *Server) createUsageRecord(c call) (object, error) {
	item, err := s.get("subscription_item", c.PathValue("id"), "subscription_item")
	if err != nil {
		return nil, err
	}
	sub := s.objects[item.str("subscription")]
	if item.str("price", "recurring", "usage_type") != "metered" || item.sub("price", "recurring").has("meter") {
		return nil, invalid("", "", "Cannot create the usage record on this subscription item: it is not on the legacy metered billing system.")
	}
	if terminal(sub) {
		return nil, invalid("", "", "Cannot create the usage record because the subscription has been canceled.")
	}
	now := s.now(sub.str("customer"))
	at := now
	if c.p.has("timestamp") && c.p.str("timestamp") != "now" {
		at = c.p.num("timestamp")
	}
	open := slices.ContainsFunc(s.all("invoice", nil), func(i object) bool { // the hour before the invoice is final
		return i["subscription"] == sub["id"] && i.str("status") == "draft" && i.sub("_usage") != nil && at >= i.num("_usage", "from") && at < i.num("_usage", "to")
	})
	if at > now+300 || !open && (at < sub.num("current_period_start") || at > sub.num("current_period_end")) {
		return nil, invalid("timestamp", "timestamp_out_of_range", "Cannot create the usage record with this timestamp because it is not in the subscription's current period.")
	}
	quantity := c.p.num("quantity")
	records, _ := item["_usage"].([]any)
	kept := records[:0]
	for _, r := range records {
		if asObject(r).num("at") == at {
			if c.p.str("action") != "set" {
				quantity += asObject(r).num("quantity")
			}
			continue
		}
		kept = append(kept, r)
	}
	item["_usage"] = append(kept, object{"at": at, "quantity": quantity})
	return object{"id": s.id("mbur"), "object": "usage_record", "livemode": false, "quantity": quantity, "subscription_item": item["id"], "timestamp": at}, nil
}

func (s *Server) usage(item object, customer string, from, to int64) (n int64) {
	if meter := s.objects[item.str("price", "recurring", "meter")]; meter != nil {
		return s.metered(meter, customer, from, to)
	}
	records, _ := item["_usage"].([]any)
	latest := int64(-1)
	for _, r := range records {
		at, q := asObject(r).num("at"), asObject(r).num("quantity")
		if at < from || at >= to {
			continue
		}
		switch item.str("price", "recurring", "aggregate_usage") {
		case "max":
			n = max(n, q)
		case "last_during_period", "last_ever":
			if at >= latest {
				latest, n = at, q
			}
		default:
			n += q
		}
	}
	return n
}

func (s *Server) usageSummaries(c call) (object, error) {
	item, err := s.get("subscription_item", c.PathValue("id"), "subscription_item")
	if err != nil {
		return nil, err
	}
	sub := s.objects[item.str("subscription")]
	from, to := sub.num("current_period_start"), sub.num("current_period_end")
	now := object{"id": s.id("sis"), "object": "usage_record_summary", "invoice": nil, "livemode": false, "period": object{"start": from, "end": to},
		"subscription_item": item["id"], "total_usage": s.usage(item, sub.str("customer"), from, to)}
	return listOf("/v1/subscription_items/"+item.str("id")+"/usage_record_summaries", []object{now}), nil
}

func (s *Server) createMeter(c call) (object, error) {
	name := c.p.str("event_name")
	if name == "" || c.p.str("display_name") == "" || c.p.str("default_aggregation", "formula") != "sum" {
		return nil, invalid("event_name", "parameter_missing", "A meter needs display_name, event_name and default_aggregation[formula]=sum.")
	}
	if len(s.all("billing.meter", func(o object) bool { return o.str("event_name") == name && o.str("status") == "active" })) > 0 {
		return nil, invalid("event_name", "resource_already_exists", "An active meter already has the event name %s.", name)
	}
	o := object{"id": s.id("mtr"), "object": "billing.meter", "created": s.now(""), "updated": s.now(""), "livemode": false, "display_name": c.p["display_name"], "event_name": name,
		"status": "active", "event_time_window": nil, "default_aggregation": object{"formula": "sum"}, "status_transitions": object{"deactivated_at": nil},
		"customer_mapping": object{"type": "by_id", "event_payload_key": "stripe_customer_id"}, "value_settings": object{"event_payload_key": "value"}}
	return s.add(o), nil
}

// createMeterEvent takes an event once for each identifier.
func (s *Server) createMeterEvent(c call) (object, error) {
	customer, err := s.customer(c.p.str("payload", "stripe_customer_id"))
	if err != nil {
		return nil, err
	}
	name := c.p.str("event_name")
	if len(s.all("billing.meter", func(o object) bool { return o.str("event_name") == name })) == 0 {
		return nil, invalid("event_name", "resource_missing", "No active meter has the event name %s.", name)
	}
	now := s.now(customer.str("id"))
	at := now
	if c.p.has("timestamp") {
		at = c.p.num("timestamp")
	}
	if at > now+300 || at < now-35*day {
		return nil, invalid("timestamp", "timestamp_out_of_range", "The timestamp must be within the past 35 calendar days and not more than 5 minutes ahead.")
	}
	identifier := c.p.str("identifier")
	if identifier == "" {
		identifier = s.id("mev")
	}
	if len(s.all("billing.meter_event", func(o object) bool { return o.str("identifier") == identifier })) > 0 {
		return nil, invalid("identifier", "resource_already_exists", "An event already exists with identifier %s.", identifier)
	}
	o := object{"object": "billing.meter_event", "created": now, "event_name": name, "identifier": identifier, "livemode": false, "timestamp": at,
		"payload": object{"stripe_customer_id": customer["id"], "value": c.p.str("payload", "value")}}
	s.keep(s.id("mev"), o)
	return o, nil
}

func (s *Server) metered(meter object, customer string, from, to int64) (n int64) {
	for _, e := range s.all("billing.meter_event", func(o object) bool {
		return o["event_name"] == meter["event_name"] && o.str("payload", "stripe_customer_id") == customer && o.num("timestamp") >= from && o.num("timestamp") < to
	}) {
		n += e.num("payload", "value")
	}
	return n
}

func (s *Server) meterSummaries(c call) (object, error) {
	meter, err := s.get("billing.meter", c.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	from, to := c.p.num("start_time"), c.p.num("end_time")
	return listOf("/v1/billing/meters/"+meter.str("id")+"/event_summaries", []object{{"id": s.id("mtrusg"), "object": "billing.meter_event_summary", "livemode": false, "meter": meter["id"],
		"start_time": from, "end_time": to, "aggregated_value": s.metered(meter, c.p.str("customer"), from, to)}}), nil
}

// Money back.

func (s *Server) createRefund(c call) (object, error) {
	id := c.p.str("charge")
	if pi := c.p.str("payment_intent"); pi != "" {
		o, err := s.get("payment_intent", pi, "payment_intent")
		if err != nil {
			return nil, err
		}
		id = o.str("latest_charge")
	}
	ch, err := s.get("charge", id, "charge")
	if err != nil {
		return nil, err
	}
	left := ch.num("amount") - ch.num("amount_refunded")
	amount := left
	if c.p.has("amount") {
		amount = c.p.num("amount")
	}
	switch {
	case ch.str("status") != "succeeded":
		return nil, invalid("charge", "charge_not_refundable", "This charge did not succeed.")
	case len(s.all("dispute", func(d object) bool { return d["charge"] == ch["id"] && d.str("status") != "won" })) > 0:
		return nil, invalid("charge", "charge_disputed", "Charge %s has been charged back; cannot issue a refund.", id)
	case left == 0:
		return nil, invalid("charge", "charge_already_refunded", "Charge %s has already been refunded.", id)
	case amount < 1 || amount > left:
		return nil, invalid("amount", "", "Refund amount (%d) is greater than unrefunded amount on charge (%d)", amount, left)
	}
	o := s.base("re", "refund", ch.str("customer"), object{"amount": amount, "balance_transaction": nil, "charge": ch["id"], "currency": ch["currency"],
		"payment_intent": ch["payment_intent"], "reason": nil, "receipt_number": nil, "source_transfer_reversal": nil, "status": "succeeded", "transfer_reversal": nil})
	delete(o, "livemode")
	assign(o, c.p, "reason")
	ch["amount_refunded"] = ch.num("amount_refunded") + amount
	ch["refunded"] = ch.num("amount_refunded") == ch.num("amount")
	s.add(o)
	s.emit("charge.refunded", ch, nil)
	s.emit("refund.created", o, nil)
	return o, nil
}

func (s *Server) dispute(ch object) {
	ch["disputed"] = true
	now := s.now(ch.str("customer"))
	o := s.base("dp", "dispute", ch.str("customer"), object{"amount": ch["amount"], "balance_transactions": []any{}, "charge": ch["id"], "currency": ch["currency"], "evidence": object{},
		"evidence_details": object{"due_by": now + 9*day, "has_evidence": false, "past_due": false, "submission_count": int64(0)}, "is_charge_refundable": false,
		"payment_intent": ch["payment_intent"], "reason": "fraudulent", "status": "needs_response"})
	s.emit("charge.dispute.created", s.add(o), nil)
}

func (s *Server) updateDispute(c call) (object, error) {
	o, err := s.get("dispute", c.PathValue("id"), "dispute")
	if err != nil {
		return nil, err
	}
	if o.str("status") != "needs_response" {
		return nil, invalid("", "", "The dispute is already closed.")
	}
	assign(o, c.p, "evidence")
	if c.p.has("evidence") {
		o.sub("evidence_details")["has_evidence"] = true
	}
	// Stripe's test evidence decides at once.
	switch c.p.str("evidence", "uncategorized_text") {
	case "winning_evidence":
		s.closed(o, "won")
	case "losing_evidence":
		s.closed(o, "lost")
	default:
		s.emit("charge.dispute.updated", o, nil)
	}
	return o, nil
}

func (s *Server) closed(o object, status string) {
	o["status"] = status // the charge stays "disputed": it has been
	s.emit("charge.dispute.closed", o, nil)
}

func (s *Server) closeDispute(c call) (object, error) {
	o, err := s.get("dispute", c.PathValue("id"), "dispute")
	if err == nil {
		s.closed(o, "lost")
	}
	return o, err
}
