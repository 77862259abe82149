package stripe

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (s *Server) base(prefix, kind, customer string, more object) object {
	o := object{"id": s.id(prefix), "object": kind, "created": s.now(customer), "livemode": false, "metadata": object{}}
	for key, v := range more {
		o[key] = v
	}
	return o
}

// currencies whose amounts have three decimals must be multiples of ten.
var threeDecimals = []string{"bhd", "jod", "kwd", "omr", "tnd"}

func (s *Server) routes() {
	s.resource("/v1/customers", "customer", "email", "test_clock")
	s.api("POST /v1/customers", s.createCustomer)
	s.api("POST /v1/customers/{id}", s.updateCustomer)
	s.api("DELETE /v1/customers/{id}", s.deleteCustomer)
	s.api("POST /v1/customers/{id}/tax_ids", s.createTaxID)
	s.api("GET /v1/customers/{id}/payment_methods", func(c call) (object, error) {
		return s.page("/v1/customers/"+c.PathValue("id")+"/payment_methods", s.all("payment_method", func(o object) bool {
			return o.str("customer") == c.PathValue("id") && (!c.p.has("type") || o.str("type") == c.p.str("type"))
		}), c.p)
	})

	s.resource("/v1/products", "product", "active", "ids")
	s.api("POST /v1/products", s.createProduct)
	s.api("POST /v1/products/{id}", s.change("product", "name", "active", "description", "default_price", "url", "unit_label", "statement_descriptor", "tax_code"))
	s.resource("/v1/prices", "price", "active", "product", "lookup_keys", "currency", "type")
	s.api("POST /v1/prices", s.createPrice)
	s.api("POST /v1/prices/{id}", s.updatePrice)
	s.resource("/v1/coupons", "coupon")
	s.api("POST /v1/coupons", s.createCoupon)
	s.api("DELETE /v1/coupons/{id}", func(c call) (object, error) {
		o, err := s.get("coupon", c.PathValue("id"), "coupon")
		if err == nil {
			s.remove(o)
			s.emit("coupon.deleted", o, nil)
		}
		return object{"id": c.PathValue("id"), "object": "coupon", "deleted": true}, err
	})
	s.resource("/v1/promotion_codes", "promotion_code", "active", "code", "coupon")
	s.api("POST /v1/promotion_codes", s.createPromotionCode)

	s.api("POST /v1/customers/{id}/balance_transactions", s.createBalance)
	s.resource("/v1/payment_methods", "payment_method", "customer", "type")
	s.api("POST /v1/payment_methods", s.createPaymentMethod)
	s.api("POST /v1/payment_methods/{id}/attach", s.attach)
	s.api("POST /v1/payment_methods/{id}/detach", s.detach)

	s.resource("/v1/subscriptions", "subscription", "customer", "status", "price")
	s.api("POST /v1/subscriptions", s.createSubscription)
	s.api("POST /v1/subscriptions/{id}", s.updateSubscription)
	s.api("DELETE /v1/subscriptions/{id}", s.cancelSubscription)
	s.api("POST /v1/subscriptions/{id}/resume", s.resumeSubscription)
	s.resource("/v1/subscription_items", "subscription_item", "subscription")
	s.api("POST /v1/subscription_items/{id}/usage_records", s.createUsageRecord)
	s.api("GET /v1/subscription_items/{id}/usage_record_summaries", s.usageSummaries)
	s.resource("/v1/subscription_schedules", "subscription_schedule", "customer")
	s.api("POST /v1/subscription_schedules", s.createSchedule)
	s.api("POST /v1/subscription_schedules/{id}", s.updateSchedule)
	s.api("POST /v1/subscription_schedules/{id}/release", s.releaseSchedule)
	s.api("POST /v1/subscription_schedules/{id}/cancel", s.cancelSchedule)

	s.api("GET /v1/invoices/upcoming", s.upcoming)
	s.resource("/v1/invoices", "invoice", "customer", "subscription", "status", "collection_method")
	s.api("POST /v1/invoices", s.createInvoice)
	s.api("POST /v1/invoices/{id}", s.change("invoice", "auto_advance", "description", "default_payment_method"))
	s.api("POST /v1/invoices/{id}/finalize", s.onInvoice(s.finalizeCall))
	s.api("POST /v1/invoices/{id}/pay", s.onInvoice(s.payCall))
	s.api("POST /v1/invoices/{id}/void", s.onInvoice(s.voidCall))
	s.api("POST /v1/invoices/{id}/mark_uncollectible", s.onInvoice(s.uncollectibleCall))
	s.api("GET /v1/invoices/{id}/lines", s.onInvoice(func(c call, inv object) error { return nil }, "lines"))
	s.resource("/v1/invoiceitems", "invoiceitem", "customer", "invoice")
	s.api("POST /v1/invoiceitems", s.createInvoiceItem)
	s.resource("/v1/payment_intents", "payment_intent", "customer")
	s.resource("/v1/charges", "charge", "customer", "payment_intent")
	s.resource("/v1/refunds", "refund", "charge", "payment_intent")
	s.api("POST /v1/refunds", s.createRefund)
	s.resource("/v1/disputes", "dispute", "charge", "payment_intent")
	s.api("POST /v1/disputes/{id}", s.updateDispute)
	s.api("POST /v1/disputes/{id}/close", s.closeDispute)

	s.resource("/v1/billing/meters", "billing.meter", "status")
	s.api("POST /v1/billing/meters", s.createMeter)
	s.api("POST /v1/billing/meter_events", s.createMeterEvent)
	s.api("GET /v1/billing/meters/{id}/event_summaries", s.meterSummaries)

	s.resource("/v1/checkout/sessions", "checkout.session", "customer", "subscription", "status", "payment_intent")
	s.api("POST /v1/checkout/sessions", s.createSession)
	s.api("POST /v1/checkout/sessions/{id}/expire", s.expireCall)
	s.api("GET /v1/checkout/sessions/{id}/line_items", s.sessionItems)
	s.api("POST /v1/billing_portal/sessions", s.createPortal)

	s.resource("/v1/events", "event", "type", "types")
	s.resource("/v1/webhook_endpoints", "webhook_endpoint")
	s.api("POST /v1/webhook_endpoints", s.createEndpoint)
	s.resource("/v1/test_helpers/test_clocks", "test_helpers.test_clock")
	s.api("POST /v1/test_helpers/test_clocks", s.createClock)
	s.api("POST /v1/test_helpers/test_clocks/{id}/advance", s.advanceClock)
	s.api("GET /v1/account", func(call) (object, error) {
		return object{"id": "acct_sandbox", "object": "account", "charges_enabled": true, "country": "US", "default_currency": "usd", "type": "standard"}, nil
	})
	s.api("/v1/", func(c call) (object, error) {
		e := invalid("", "", "Unrecognized request URL (%s: %s). The sandbox does not know it.", c.Method, c.URL.Path)
		e.status = 404
		return nil, e
	})
	s.pages()
}

// change is an update that does nothing but assign fields and tell of it.
func (s *Server) change(kind string, fields ...string) func(call) (object, error) {
	return func(c call) (object, error) {
		o, err := s.get(kind, c.PathValue("id"), "id")
		if err != nil {
			return nil, err
		}
		for name := range c.p {
			if name != "metadata" && name != "expand" && !slices.Contains(fields, name) {
				return nil, invalid(name, "parameter_unknown", "The sandbox cannot change %s of a %s.", name, kind)
			}
		}
		assign(o, c.p, fields...)
		if o["updated"] != nil {
			o["updated"] = s.now("")
		}
		s.emit(kind+".updated", o, nil)
		return o, nil
	}
}

func (s *Server) remove(o object) {
	delete(s.objects, o.str("id"))
	for _, list := range []*[]string{&s.order, &s.timed} {
		*list = slices.DeleteFunc(*list, func(id string) bool { return id == o.str("id") })
	}
	kind := o.str("object")
	s.kinds[kind] = slices.DeleteFunc(s.kinds[kind], func(id string) bool { return id == o.str("id") })
}

func (s *Server) createCustomer(c call) (object, error) {
	if id := c.p.str("test_clock"); id != "" {
		if _, err := s.get("test_helpers.test_clock", id, "test_clock"); err != nil {
			return nil, err
		}
	}
	o := s.base("cus", "customer", "", object{"email": nil, "name": nil, "description": nil, "phone": nil, "address": nil, "shipping": nil,
		"balance": int64(0), "currency": nil, "default_source": nil, "delinquent": false, "discount": nil, "tax_exempt": "none",
		"invoice_prefix": fmt.Sprintf("SBX%05d", s.serial), "next_invoice_sequence": int64(1), "preferred_locales": []any{}, "test_clock": nil,
		"invoice_settings": object{"custom_fields": nil, "default_payment_method": nil, "footer": nil, "rendering_options": nil}})
	assign(o, c.p, "email", "name", "description", "phone", "address", "test_clock", "balance", "tax_exempt", "preferred_locales")
	if clock := o.str("test_clock"); clock != "" {
		o["created"] = s.objects[clock].num("frozen_time")
	}
	s.add(o)
	if pm := c.p.str("payment_method"); pm != "" {
		if _, err := s.attachTo(o, pm); err != nil {
			s.remove(o)
			return nil, err
		}
	}
	if pm := c.p.str("invoice_settings", "default_payment_method"); pm != "" {
		if err := s.setDefault(o, pm); err != nil {
			s.remove(o)
			return nil, err
		}
	}
	s.emit("customer.created", o, nil)
	return o, nil
}

// customer finds a customer that was not deleted.
func (s *Server) customer(id string) (object, error) {
	o, err := s.get("customer", id, "customer")
	if err == nil && o.flag("deleted") {
		return nil, missing("customer", id, "customer")
	}
	return o, err
}

func (s *Server) setDefault(customer object, id string) error {
	pm, err := s.get("payment_method", id, "invoice_settings[default_payment_method]")
	if err != nil {
		return err
	}
	if pm.str("customer") != customer.str("id") {
		return invalid("invoice_settings[default_payment_method]", "", "The customer does not have a payment method with the ID %s.", id)
	}
	customer.sub("invoice_settings")["default_payment_method"] = id
	return nil
}

func (s *Server) updateCustomer(c call) (object, error) {
	o, err := s.customer(c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if pm := c.p.str("invoice_settings", "default_payment_method"); pm != "" {
		if err := s.setDefault(o, pm); err != nil {
			return nil, err
		}
	}
	assign(o, c.p, "email", "name", "description", "phone", "address", "balance", "tax_exempt", "preferred_locales")
	s.emit("customer.updated", o, nil)
	return o, nil
}

func (s *Server) deleteCustomer(c call) (object, error) {
	o, err := s.customer(c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	for _, sub := range s.all("subscription", func(x object) bool { return x["customer"] == o["id"] && !terminal(x) }) {
		s.end(sub, "cancellation_requested")
	}
	s.emit("customer.deleted", o, nil)
	gone := object{"id": o["id"], "object": "customer", "deleted": true}
	s.objects[o.str("id")] = gone
	return gone, nil
}

func (s *Server) createTaxID(c call) (object, error) {
	cus, err := s.customer(c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	o := s.add(s.base("txi", "tax_id", cus.str("id"), object{"type": c.p.str("type"), "value": c.p.str("value"), "customer": cus["id"], "country": nil,
		"verification": object{"status": "pending", "verified_address": nil, "verified_name": nil}}))
	delete(o, "metadata")
	s.emit("customer.tax_id.created", o, nil)
	return o, nil
}

func (s *Server) createProduct(c call) (object, error) {
	if c.p.str("name") == "" {
		return nil, invalid("name", "parameter_missing", "Missing required param: name.")
	}
	o := s.base("prod", "product", "", object{"name": nil, "active": true, "description": nil, "default_price": nil, "images": []any{}, "package_dimensions": nil,
		"shippable": nil, "statement_descriptor": nil, "tax_code": nil, "unit_label": nil, "updated": s.now(""), "url": nil})
	if id := c.p.str("id"); id != "" {
		if s.objects[id] != nil {
			return nil, invalid("id", "resource_already_exists", "Product already exists.")
		}
		o["id"] = id
	}
	assign(o, c.p, "name", "active", "description", "unit_label", "tax_code", "url", "statement_descriptor")
	s.emit("product.created", s.add(o), nil)
	return o, nil
}

func (s *Server) createPrice(c call) (object, error) {
	currency := strings.ToLower(c.p.str("currency"))
	if len(currency) != 3 {
		return nil, invalid("currency", "parameter_missing", "Missing required param: currency.")
	}
	product := c.p.str("product")
	if _, err := s.get("product", product, "product"); err != nil {
		return nil, err
	}
	if !c.p.has("unit_amount") {
		return nil, invalid("unit_amount", "parameter_missing", "The sandbox prices by unit_amount alone.")
	}
	amount := c.p.num("unit_amount")
	if slices.Contains(threeDecimals, currency) && amount%10 != 0 {
		return nil, invalid("unit_amount", "", "Invalid amount: %s amounts must be multiples of 10.", currency)
	}
	o := s.base("price", "price", "", object{"active": true, "billing_scheme": "per_unit", "currency": currency, "custom_unit_amount": nil, "lookup_key": nil,
		"nickname": nil, "product": product, "recurring": nil, "tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": nil, "type": "one_time",
		"unit_amount": amount, "unit_amount_decimal": fmt.Sprint(amount)})
	if r := c.p.sub("recurring"); r != nil {
		if !slices.Contains([]string{"day", "week", "month", "year"}, r.str("interval")) {
			return nil, invalid("recurring[interval]", "", "Invalid recurring[interval]: must be one of day, week, month, or year")
		}
		rec := object{"interval": r.str("interval"), "interval_count": max(1, r.num("interval_count")), "usage_type": "licensed", "aggregate_usage": nil}
		if r.str("usage_type") == "metered" {
			rec["usage_type"], rec["aggregate_usage"] = "metered", "sum"
			assign(rec, r, "aggregate_usage")
			if r.has("meter") {
				if _, err := s.get("billing.meter", r.str("meter"), "recurring[meter]"); err != nil {
					return nil, err
				}
				rec["meter"], rec["aggregate_usage"] = r.str("meter"), nil
			}
		}
		o["recurring"], o["type"] = rec, "recurring"
	}
	assign(o, c.p, "nickname", "tax_behavior", "active")
	if err := s.claimLookupKey(o, c.p); err != nil {
		return nil, err
	}
	s.emit("price.created", s.add(o), nil)
	return o, nil
}

// claimLookupKey gives a price its lookup key, from another price only where
// the caller asks for the transfer.
func (s *Server) claimLookupKey(price, p object) error {
	key := p.str("lookup_key")
	if key == "" {
		return nil
	}
	for _, other := range s.all("price", func(x object) bool { return x.str("lookup_key") == key && x.str("id") != price.str("id") }) {
		if !p.flag("transfer_lookup_key") {
			return invalid("lookup_key", "resource_already_exists", "A price (`%s`) already uses that lookup key.", other.str("id"))
		}
		other["lookup_key"] = nil
		s.emit("price.updated", other, nil)
	}
	price["lookup_key"] = key
	return nil
}

func (s *Server) updatePrice(c call) (object, error) {
	o, err := s.get("price", c.PathValue("id"), "price")
	if err != nil {
		return nil, err
	}
	for _, fixed := range []string{"unit_amount", "currency", "recurring", "product"} {
		if c.p.has(fixed) {
			return nil, invalid(fixed, "parameter_unknown", "Received unknown parameter: %s", fixed)
		}
	}
	if err := s.claimLookupKey(o, c.p); err != nil {
		return nil, err
	}
	assign(o, c.p, "active", "nickname", "tax_behavior")
	s.emit("price.updated", o, nil)
	return o, nil
}

func (s *Server) createCoupon(c call) (object, error) {
	o := s.base("co", "coupon", "", object{"amount_off": nil, "currency": nil, "duration": "once", "duration_in_months": nil, "max_redemptions": nil, "name": nil,
		"percent_off": nil, "redeem_by": nil, "times_redeemed": int64(0), "valid": true})
	if id := c.p.str("id"); id != "" {
		if s.objects[id] != nil {
			return nil, invalid("id", "resource_already_exists", "Coupon already exists.")
		}
		o["id"] = id
	}
	assign(o, c.p, "duration", "name", "currency")
	for _, n := range []string{"amount_off", "duration_in_months", "max_redemptions"} {
		if c.p.has(n) {
			o[n] = c.p.num(n)
		}
	}
	if c.p.has("percent_off") {
		percent, err := strconv.ParseFloat(c.p.str("percent_off"), 64)
		if err != nil || percent <= 0 || percent > 100 {
			return nil, invalid("percent_off", "", "Invalid percent_off: must be greater than 0 and at most 100")
		}
		o["percent_off"] = percent
	}
	if !o.has("amount_off") && !o.has("percent_off") {
		return nil, invalid("percent_off", "parameter_missing", "You must pass either percent_off or amount_off.")
	}
	s.emit("coupon.created", s.add(o), nil)
	return o, nil
}

func (s *Server) createPromotionCode(c call) (object, error) {
	coupon, err := s.get("coupon", c.p.str("coupon"), "coupon")
	if err != nil {
		return nil, err
	}
	o := s.base("promo", "promotion_code", "", object{"active": true, "code": c.p.str("code"), "coupon": copyOf(coupon), "customer": nil, "expires_at": nil,
		"max_redemptions": nil, "times_redeemed": int64(0), "restrictions": object{"first_time_transaction": false, "minimum_amount": nil, "minimum_amount_currency": nil}})
	if o.str("code") == "" {
		o["code"] = strings.ToUpper(o.str("id")[6:])
	}
	s.emit("promotion_code.created", s.add(o), nil)
	return o, nil
}

// What a card does when it is charged. Numbers are Stripe's own test cards
// (docs.stripe.com/testing), tokens the names that the API takes for them.
const (
	pays     = "pays"
	declines = "declines" // at once, and cannot be attached
	fails    = "fails"    // attaches, and fails when charged
	asks     = "asks"     // 3-D Secure at every payment
	disputes = "disputes" // pays, and is disputed
	settles  = "settles"  // a bank debit that is paid days later
	bounces  = "bounces"  // a bank debit that fails days later
	stolen   = "stolen"   // fails when it is charged, and is not tried again
)

var cards = map[string]string{
	"4242424242424242": pays, "pm_card_visa": pays, "pm_card_mastercard": pays, "5555555555554444": pays,
	"4000000000000002": declines, "pm_card_chargeDeclined": declines, "pm_card_visa_chargeDeclined": declines,
	"4000000000000341": fails, "pm_card_chargeCustomerFail": fails,
	"4000002760003184": asks, "pm_card_authenticationRequired": asks, "4000002500003155": asks, "pm_card_threeDSecure2Required": asks,
	"4000000000009979": stolen,
	"4000000000000259": disputes, "pm_card_createDispute": disputes,
	"000123456789": settles, "pm_usBankAccount_success": settles,
	"000111111116": bounces, "pm_usBankAccount_accountClosed": bounces,
}

// method makes a payment method of a test card or account.
func (s *Server) method(number, customer string) (object, error) {
	number = strings.ReplaceAll(number, " ", "")
	outcome, ok := cards[number]
	if !ok {
		return nil, &apiError{status: 402, kind: "card_error", code: "incorrect_number", param: "number", message: "Your card number is incorrect. The sandbox takes Stripe's test cards."}
	}
	kind, last4 := "card", "4242"
	if !strings.HasPrefix(number, "pm_") {
		last4 = number[len(number)-4:]
	}
	o := s.base("pm", "payment_method", customer, object{"type": kind, "customer": nil, "_outcome": outcome,
		"billing_details": object{"address": object{"city": nil, "country": nil, "line1": nil, "line2": nil, "postal_code": nil, "state": nil}, "email": nil, "name": nil, "phone": nil}})
	if outcome == settles || outcome == bounces {
		o["type"] = "us_bank_account"
		o["us_bank_account"] = object{"account_holder_type": "company", "account_type": "checking", "bank_name": "SANDBOX BANK", "fingerprint": "sbx" + last4, "last4": last4, "routing_number": "110000000"}
	} else {
		o["card"] = object{"brand": "visa", "country": "US", "exp_month": int64(12), "exp_year": int64(2040), "fingerprint": "sbx" + last4, "funding": "credit", "last4": last4,
			"checks": object{"address_line1_check": nil, "address_postal_code_check": nil, "cvc_check": "pass"}, "generated_from": nil, "networks": object{"available": []any{"visa"}, "preferred": nil},
			"three_d_secure_usage": object{"supported": true}, "wallet": nil}
	}
	return o, nil
}

func (s *Server) createPaymentMethod(c call) (object, error) {
	number := c.p.str("card", "number")
	if c.p.str("type") == "us_bank_account" {
		number = c.p.str("us_bank_account", "account_number")
	}
	if number == "" {
		number = c.p.str("card", "token")
	}
	o, err := s.method(number, "")
	if err == nil {
		s.add(o)
	}
	return o, err
}

// attachTo gives a customer a payment method, or a fresh one of a test token.
func (s *Server) attachTo(customer object, id string) (object, error) {
	o, known := s.objects[id]
	if !known {
		if _, token := cards[id]; !token || !strings.HasPrefix(id, "pm_") {
			return nil, missing("PaymentMethod", id, "payment_method")
		}
		var err error
		if o, err = s.method(id, customer.str("id")); err != nil {
			return nil, err
		}
		s.add(o)
	}
	if o.str("_outcome") == declines {
		return nil, &apiError{status: 402, kind: "card_error", code: "card_declined", decline: "generic_decline", message: "Your card was declined."}
	}
	o["customer"] = customer["id"]
	s.emit("payment_method.attached", o, nil)
	return o, nil
}

func (s *Server) attach(c call) (object, error) {
	customer, err := s.customer(c.p.str("customer"))
	if err != nil {
		return nil, err
	}
	return s.attachTo(customer, c.PathValue("id"))
}

func (s *Server) detach(c call) (object, error) {
	o, err := s.get("payment_method", c.PathValue("id"), "payment_method")
	if err != nil {
		return nil, err
	}
	if settings := s.objects[o.str("customer")].sub("invoice_settings"); settings.str("default_payment_method") == o.str("id") {
		settings["default_payment_method"] = nil
	}
	for _, sub := range s.all("subscription", func(x object) bool { return x["default_payment_method"] == o["id"] }) {
		sub["default_payment_method"] = nil
	}
	o["customer"] = nil
	s.emit("payment_method.detached", o, nil)
	return o, nil
}

func (s *Server) createClock(c call) (object, error) {
	at := c.p.num("frozen_time")
	o := object{"id": s.id("clock"), "object": "test_helpers.test_clock", "created": s.now(""), "livemode": false, "frozen_time": at,
		"deletes_after": at + 30*86400, "name": nil, "status": "ready"}
	assign(o, c.p, "name")
	return s.add(o), nil
}

func (s *Server) advanceClock(c call) (object, error) {
	o, err := s.get("test_helpers.test_clock", c.PathValue("id"), "test_clock")
	if err != nil {
		return nil, err
	}
	until := c.p.num("frozen_time")
	if until <= o.num("frozen_time") {
		return nil, invalid("frozen_time", "", "A test clock only moves forward.")
	}
	s.advance(o.str("id"), until)
	o["frozen_time"] = until
	return o, nil
}

func (s *Server) createEndpoint(c call) (object, error) {
	o := s.base("we", "webhook_endpoint", "", object{"api_version": Version, "application": nil, "description": nil, "enabled_events": c.p["enabled_events"],
		"status": "enabled", "url": c.p.str("url"), "secret": "whsec_" + s.id("sbx")})
	return s.add(o), nil
}

// browse is the address of a page as a browser reaches it.
func (s *Server) browse(r *http.Request, path string) string {
	if s.URL != "" {
		return strings.TrimSuffix(s.URL, "/") + path
	}
	return "http://" + r.Host + path
}

// createBalance moves a customer's balance: below 0 is money that it has.
func (s *Server) createBalance(c call) (object, error) {
	cus, err := s.customer(c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	currency := strings.ToLower(c.p.str("currency"))
	if has := cus.str("currency"); has != "" && has != currency {
		return nil, invalid("currency", "", "The currency of the customer is %s.", has)
	}
	cus["currency"], cus["balance"] = currency, cus.num("balance")+c.p.num("amount")
	o := s.base("cbtxn", "customer_balance_transaction", cus.str("id"), object{"amount": c.p.num("amount"), "credit_note": nil, "currency": currency, "customer": cus["id"],
		"description": nil, "ending_balance": cus["balance"], "invoice": nil, "type": "adjustment"})
	assign(o, c.p, "description")
	s.emit("customer.updated", cus, nil)
	return s.add(o), nil
}
