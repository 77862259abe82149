package stripe

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

// The pages that a customer sees at Stripe, as small HTML forms: a browser and
// a test fill in the same ones.

var page = template.Must(template.New("").Funcs(template.FuncMap{"money": money}).Parse(`<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{{.Title}}</title>
<style>body{font:16px/1.5 system-ui;max-width:32rem;margin:3rem auto;padding:0 1rem}label,input,button{display:block;margin:.5rem 0;font:inherit}
input{width:100%;box-sizing:border-box;padding:.5rem}button{padding:.6rem 1.2rem}.error{color:#b00020}.note{background:#fff3cd;padding:.5rem 1rem}td{padding:.2rem 1rem .2rem 0}</style>
<p class="note">Sandbox: no money moves here.</p><h1>{{.Title}}</h1>
{{if .Error}}<p class="error" role="alert">{{.Error}}</p>{{end}}
{{if .Lines}}<table>{{range .Lines}}<tr><td>{{.Text}}<td>{{.Amount}}{{end}}<tr><th>Total<th>{{.Total}}</table>{{end}}
{{if .Authenticate}}<form method="post"><p>Your bank asks you to confirm this payment.
<button name="action" value="authenticate">Confirm</button><button name="action" value="refuse">Refuse</button></form>
{{else if .Form}}<form method="post"><label>Card or account number<input name="number" value="4242 4242 4242 4242" inputmode="numeric"></label>
{{if .Codes}}<label>Promotion code<input name="promotion_code"></label>{{end}}<button name="action" value="pay">{{.Form}}</button></form>
<details><summary>Numbers to try</summary><table>{{range .Numbers}}<tr><td>{{index . 0}}<td>{{index . 1}}{{end}}</table></details>{{end}}
{{range .Subscriptions}}<form method="post"><input type="hidden" name="subscription" value="{{.ID}}">{{.Text}} <button name="action" value="{{.Action}}">{{.Label}}</button></form>{{end}}
{{range .Links}}<p><a href="{{index . 0}}">{{index . 1}}</a>{{end}}`))

type view struct {
	Title, Error, Form, Total string
	Authenticate, Codes       bool
	Lines                     []struct{ Text, Amount string }
	Subscriptions             []struct{ ID, Text, Action, Label string }
	Links, Numbers            [][2]string
}

var numbers = [][2]string{{"4242 4242 4242 4242", "pays"}, {"4000 0000 0000 0002", "is declined"}, {"4000 0000 0000 0341", "fails when it is charged"}, {"4000 0000 0000 9979", "fails as stolen: it is not tried again"},
	{"4000 0027 6000 3184", "asks for 3-D Secure"}, {"4000 0000 0000 0259", "pays and is disputed"}, {"000123456789", "bank debit, paid in four days"}, {"000111111116", "bank debit, fails in four days"}}

// money shows minor units in the currency's own decimals.
func money(amount int64, currency string) string {
	digits := 2
	if slices.Contains([]string{"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"}, currency) {
		digits = 0
	} else if slices.Contains(threeDecimals, currency) {
		digits = 3
	}
	sign := ""
	if amount < 0 {
		sign, amount = "−", -amount
	}
	raw := []byte{}
	for i := 0; amount > 0 || i <= digits; i++ {
		if i == digits && digits > 0 {
			raw = append(raw, '.')
		}
		raw = append(raw, byte('0'+amount%10))
		amount /= 10
	}
	slices.Reverse(raw)
	return strings.ToUpper(currency) + " " + sign + string(raw)
}

func (s *Server) pages() {
	show := func(pattern string, fn func(w http.ResponseWriter, r *http.Request)) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.settle()
			fn(w, r)
			s.save()
		})
	}
	show("GET /c/pay/{id}", s.checkoutPage)
	show("POST /c/pay/{id}", s.checkoutPage)
	show("GET /p/session/{id}", s.portalPage)
	show("POST /p/session/{id}", s.portalPage)
	show("GET /i/{id}", s.invoicePage)
	show("POST /i/{id}", s.invoicePage)
	show("GET /_sandbox/calls", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.calls)
	})
	show("POST /_sandbox/fate", func(w http.ResponseWriter, r *http.Request) {
		var next Fate // what is left out is not to happen any more
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<12)).Decode(&next); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.fate = next
	})
	s.mux.HandleFunc("POST /_sandbox/resend", func(http.ResponseWriter, *http.Request) { s.Resend() })
}

func render(w http.ResponseWriter, v view) {
	v.Numbers = numbers
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action *")
	_ = page.Execute(w, v)
}

func said(err error) string {
	var e *apiError
	if errors.As(err, &e) {
		return e.message
	}
	return ""
}

// Checkout.

func (s *Server) createSession(c call) (object, error) {
	p := c.p
	mode := p.str("mode")
	if mode != "subscription" && mode != "setup" {
		return nil, invalid("mode", "", "The sandbox has Checkout in the modes subscription and setup.")
	}
	cus := p.str("customer")
	if cus != "" {
		if _, err := s.customer(cus); err != nil {
			return nil, err
		}
	}
	if p.str("success_url") == "" {
		return nil, invalid("success_url", "parameter_missing", "Missing required param: success_url.")
	}
	var items []object
	var total int64
	currency := ""
	if mode == "subscription" {
		for i, in := range p.list("line_items") {
			price, err := s.get("price", in.str("price"), "line_items[0][price]")
			if err != nil {
				return nil, err
			}
			if !price.flag("active") {
				return nil, invalid("line_items", "", "The price specified is inactive. This field only accepts active prices.")
			}
			n := max(1, in.num("quantity"))
			metered := price.str("recurring", "usage_type") == "metered"
			if metered && in.has("quantity") {
				return nil, invalid("line_items["+string(rune('0'+i))+"][quantity]", "", "Quantity should not be specified where usage_type is `metered`.")
			}
			amount := price.num("unit_amount") * n
			if metered {
				amount = 0
			}
			currency = price.str("currency")
			total += amount
			items = append(items, object{"id": s.id("li"), "object": "item", "amount_discount": int64(0), "amount_subtotal": amount, "amount_tax": int64(0), "amount_total": amount,
				"currency": currency, "description": s.objects[price.str("product")].str("name"), "price": copyOf(price), "quantity": n})
		}
		if len(items) == 0 {
			return nil, invalid("line_items", "parameter_missing", "You must provide one of the following: line_items.")
		}
		if has := s.objects[cus].str("currency"); has != "" && has != currency {
			return nil, invalid("line_items", "", "You cannot combine currencies on a single customer. This customer has currency %s.", has)
		}
		if p.num("subscription_data", "trial_period_days") > 0 {
			total = 0
		}
	}
	now := s.now(cus)
	o := s.base("cs_test", "checkout.session", cus, object{"after_expiration": nil, "allow_promotion_codes": nil, "amount_subtotal": total, "amount_total": total,
		"automatic_tax": object{"enabled": p.flag("automatic_tax", "enabled"), "status": nil}, "billing_address_collection": nil, "cancel_url": nil, "client_reference_id": nil,
		"consent": nil, "consent_collection": nil, "currency": nil, "custom_fields": []any{}, "custom_text": object{"shipping_address": nil, "submit": nil},
		"customer": nil, "customer_creation": nil, "customer_details": nil, "customer_email": nil, "expires_at": now + day, "invoice": nil, "invoice_creation": nil,
		"locale": nil, "mode": mode, "payment_intent": nil, "payment_link": nil, "payment_method_collection": "always", "payment_method_options": nil, "payment_method_types": []any{"card"},
		"payment_status": "unpaid", "phone_number_collection": object{"enabled": false}, "recovered_from": nil, "setup_intent": nil, "shipping_address_collection": nil,
		"shipping_cost": nil, "shipping_details": nil, "shipping_options": []any{}, "status": "open", "submit_type": nil, "subscription": nil, "success_url": p.str("success_url"),
		"total_details": object{"amount_discount": int64(0), "amount_shipping": int64(0), "amount_tax": int64(0)}, "url": nil,
		"_items": items, "_data": p["subscription_data"], "_discounts": p["discounts"]})
	assign(o, p, "cancel_url", "client_reference_id", "customer_email", "billing_address_collection", "locale", "payment_method_collection", "expires_at")
	if cus != "" {
		o["customer"] = cus
	}
	if p.flag("allow_promotion_codes") {
		o["allow_promotion_codes"] = true
	}
	if currency != "" {
		o["currency"] = currency
	}
	o["url"] = s.browse(c.Request, "/c/pay/"+o.str("id"))
	return s.add(o), nil
}

func (s *Server) sessionItems(c call) (object, error) {
	o, err := s.get("checkout.session", c.PathValue("id"), "session")
	if err != nil {
		return nil, err
	}
	return listOf("/v1/checkout/sessions/"+o.str("id")+"/line_items", o.list("_items")), nil
}

func (s *Server) expireCall(c call) (object, error) {
	o, err := s.get("checkout.session", c.PathValue("id"), "session")
	if err != nil {
		return nil, err
	}
	if o.str("status") != "open" {
		return nil, invalid("", "", "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of `%s`.", o.str("status"))
	}
	s.expireSession(o)
	return o, nil
}

func (s *Server) expireSession(o object) {
	o["status"], o["url"] = "expired", nil
	s.emit("checkout.session.expired", o, nil)
}

func (s *Server) checkoutPage(w http.ResponseWriter, r *http.Request) {
	o, err := s.get("checkout.session", r.PathValue("id"), "session")
	if err != nil {
		http.NotFound(w, r)
		return
	}
	v := view{Title: "Pay", Form: "Pay", Codes: o.flag("allow_promotion_codes"), Total: money(o.num("amount_total"), o.str("currency"))}
	if o.str("mode") == "setup" {
		v.Title, v.Form = "Add a card", "Add"
	}
	for _, i := range o.list("_items") {
		v.Lines = append(v.Lines, struct{ Text, Amount string }{i.str("description"), money(i.num("amount_total"), o.str("currency"))})
	}
	if back := o.str("cancel_url"); back != "" {
		v.Links = append(v.Links, [2]string{back, "Back"})
	}
	if r.Method == http.MethodPost && o.str("status") == "open" {
		v.Error = s.submit(o, r)
	}
	if o.str("status") == "complete" {
		http.Redirect(w, r, strings.ReplaceAll(o.str("success_url"), "{CHECKOUT_SESSION_ID}", o.str("id")), http.StatusSeeOther)
		return
	}
	if o.str("status") == "expired" {
		v = view{Title: "This page has expired", Links: v.Links}
	}
	if inv := s.sessionInvoice(o); inv != nil && s.objects[inv.str("payment_intent")].str("status") == "requires_action" {
		v.Authenticate = true
	}
	render(w, v)
}

// sessionInvoice is the first invoice of the subscription that a session began.
func (s *Server) sessionInvoice(o object) object {
	return s.objects[s.objects[o.str("_subscription")].str("latest_invoice")]
}

// submit is the customer's click. It answers what went wrong, in words.
func (s *Server) submit(o object, r *http.Request) string {
	if inv := s.sessionInvoice(o); inv != nil && r.FormValue("action") != "pay" {
		if problem := s.confirm(inv, r.FormValue("action")); problem != "" {
			return problem
		}
		s.complete(o, "paid")
		return ""
	}
	cus := s.objects[o.str("customer")]
	var pm object
	number := strings.ReplaceAll(r.FormValue("number"), " ", "")
	free := o.num("amount_total") == 0 && o.str("payment_method_collection") == "if_required"
	if number != "" || !free {
		var err error
		if pm, err = s.method(number, o.str("customer")); err != nil {
			return said(err)
		}
		if pm.str("_outcome") == declines {
			return "Your card was declined."
		}
	}
	if cus == nil {
		made, err := s.createCustomer(call{r, object{"email": o["customer_email"]}})
		if err != nil {
			return said(err)
		}
		cus = made
		o["customer"] = cus["id"]
	}
	p := object{"items": itemsOf(o), "payment_behavior": "default_incomplete"}
	for key, value := range o.sub("_data") {
		p[key] = value
	}
	if o["_discounts"] != nil {
		p["discounts"] = o["_discounts"]
	}
	if code := strings.TrimSpace(r.FormValue("promotion_code")); code != "" {
		found := s.all("promotion_code", func(x object) bool { return x.flag("active") && strings.EqualFold(x.str("code"), code) })
		if len(found) == 0 {
			return "This code is invalid."
		}
		p["promotion_code"] = found[0]["id"]
	}
	if pm != nil {
		s.add(pm)
		if _, err := s.attachTo(cus, pm.str("id")); err != nil {
			return said(err)
		}
		p["default_payment_method"] = pm["id"]
	}
	if o.str("mode") == "setup" {
		s.complete(o, "no_payment_required")
		return ""
	}
	sub := s.objects[o.str("_subscription")]
	if sub == nil {
		var err error
		if sub, err = s.subscribe(cus, p); err != nil {
			return said(err)
		}
		o["_subscription"] = sub["id"]
	} else if terminal(sub) {
		return "This payment took too long. Please start again."
	} else {
		sub["default_payment_method"] = pm["id"]
	}
	inv := s.sessionInvoice(o)
	if sub.str("status") == "trialing" {
		s.complete(o, "no_payment_required")
		return ""
	}
	if inv.str("status") == "open" {
		if err := s.pay(inv, ""); err != nil {
			if s.objects[inv.str("payment_intent")].str("status") == "requires_action" {
				return ""
			}
			return said(err)
		}
	}
	if inv.str("status") == "paid" {
		s.complete(o, "paid")
	} else {
		s.complete(o, "unpaid") // a bank debit on its way
	}
	return ""
}

func itemsOf(o object) []any {
	var out []any
	for _, i := range o.list("_items") {
		item := object{"price": i.str("price", "id")}
		if i.str("price", "recurring", "usage_type") != "metered" {
			item["quantity"] = i["quantity"]
		}
		out = append(out, item)
	}
	return out
}

func (s *Server) complete(o object, status string) {
	o["status"], o["payment_status"], o["url"] = "complete", status, nil
	cus := s.objects[o.str("customer")]
	o["customer_details"] = object{"address": nil, "email": cus["email"], "name": cus["name"], "phone": nil, "tax_exempt": "none", "tax_ids": []any{}}
	if sub := s.objects[o.str("_subscription")]; sub != nil {
		o["subscription"], o["invoice"] = sub["id"], sub["latest_invoice"]
		inv := s.objects[sub.str("latest_invoice")]
		o["amount_total"] = inv["total"]
	}
	s.emit("checkout.session.completed", o, nil)
}

func (s *Server) awaiting(inv object) []object {
	return s.all("checkout.session", func(o object) bool {
		return o.has("subscription") && o["subscription"] == inv["subscription"] && o.str("status") == "complete" && o.str("payment_status") == "unpaid"
	})
}

func (s *Server) sessionPaid(inv object) {
	for _, o := range s.awaiting(inv) {
		o["payment_status"] = "paid"
		s.emit("checkout.session.async_payment_succeeded", o, nil)
	}
}

func (s *Server) sessionFailed(inv object) {
	for _, o := range s.awaiting(inv) {
		s.emit("checkout.session.async_payment_failed", o, nil)
	}
}

// confirm is the customer's answer to 3-D Secure.
func (s *Server) confirm(inv object, action string) string {
	pi := s.objects[inv.str("payment_intent")]
	if pi.str("status") != "requires_action" {
		return "There is nothing to confirm."
	}
	pm := s.objects[pi.str("payment_method")]
	if action == "authenticate" {
		s.collected(inv, pi, pm)
		return ""
	}
	const refused = "We are unable to authenticate your payment method."
	pi["status"], pi["next_action"] = "requires_payment_method", nil
	pi["last_payment_error"] = object{"code": "payment_intent_authentication_failure", "message": refused, "type": "invalid_request_error"}
	s.emit("payment_intent.payment_failed", pi, nil)
	return refused
}

// The hosted invoice.

func (s *Server) invoicePage(w http.ResponseWriter, r *http.Request) {
	inv, err := s.get("invoice", r.PathValue("id"), "invoice")
	if err != nil {
		http.NotFound(w, r)
		return
	}
	v := view{Title: "Invoice " + inv.str("number"), Total: money(inv.num("amount_due"), inv.str("currency"))}
	for _, l := range inv.list("lines") {
		v.Lines = append(v.Lines, struct{ Text, Amount string }{l.str("description"), money(l.num("amount"), inv.str("currency"))})
	}
	if r.Method == http.MethodPost && inv.str("status") == "open" {
		if r.FormValue("action") != "pay" {
			v.Error = s.confirm(inv, r.FormValue("action"))
		} else if pm, err := s.method(r.FormValue("number"), inv.str("customer")); err != nil {
			v.Error = said(err)
		} else {
			s.add(pm)
			if _, err = s.attachTo(s.objects[inv.str("customer")], pm.str("id")); err == nil {
				err = s.pay(inv, pm.str("id"))
			}
			if err == nil {
				s.useFor(pm, inv.str("customer"))
			}
			v.Error = said(err)
		}
	}
	switch {
	case inv.str("status") == "open" && s.objects[inv.str("payment_intent")].str("status") == "requires_action":
		v.Authenticate = true
	case inv.str("status") == "open":
		v.Form = "Pay"
	default:
		v.Title += ": " + inv.str("status")
	}
	render(w, v)
}

// useFor makes a payment method the one that is charged from now on.
func (s *Server) useFor(pm object, customer string) {
	cus := s.objects[customer]
	cus.sub("invoice_settings")["default_payment_method"] = pm["id"]
	s.emit("customer.updated", cus, nil)
	for _, sub := range s.all("subscription", func(x object) bool { return x.str("customer") == customer && !terminal(x) }) {
		before := asObject(copyOf(sub))
		sub["default_payment_method"] = pm["id"]
		s.touched(sub, before)
	}
}

// The customer portal.

func (s *Server) createPortal(c call) (object, error) {
	cus, err := s.customer(c.p.str("customer"))
	if err != nil {
		return nil, err
	}
	o := s.base("bps", "billing_portal.session", cus.str("id"), object{"configuration": "bpc_sandbox", "customer": cus["id"], "flow": nil, "locale": nil, "on_behalf_of": nil,
		"return_url": nil, "url": nil})
	delete(o, "metadata")
	assign(o, c.p, "return_url", "locale")
	o["url"] = s.browse(c.Request, "/p/session/"+o.str("id"))
	s.emit("billing_portal.session.created", s.add(o), nil)
	return o, nil
}

func (s *Server) portalPage(w http.ResponseWriter, r *http.Request) {
	o, err := s.get("billing_portal.session", r.PathValue("id"), "session")
	if err != nil {
		http.NotFound(w, r)
		return
	}
	cus := s.objects[o.str("customer")]
	v := view{Title: "Billing of " + cus.str("email"), Form: "Use this card"}
	mine := func(x object) bool { return x["customer"] == cus["id"] }
	if r.Method == http.MethodPost {
		sub := s.objects[r.FormValue("subscription")]
		before := asObject(copyOf(sub))
		switch action := r.FormValue("action"); {
		case action == "pay":
			pm, err := s.method(r.FormValue("number"), cus.str("id"))
			if err == nil {
				s.add(pm)
				_, err = s.attachTo(cus, pm.str("id"))
			}
			if err == nil {
				s.useFor(pm, cus.str("id"))
			}
			v.Error = said(err)
		case sub == nil || !mine(sub) || terminal(sub):
			v.Error = "There is no such subscription."
		case action == "cancel":
			sub["cancel_at_period_end"], sub["cancel_at"], sub["canceled_at"] = true, sub["current_period_end"], s.now(cus.str("id"))
			s.touched(sub, before)
		case action == "renew":
			sub["cancel_at_period_end"], sub["cancel_at"], sub["canceled_at"] = false, nil, nil
			s.touched(sub, before)
		}
	}
	for _, sub := range s.all("subscription", mine) {
		if terminal(sub) {
			continue
		}
		row := struct{ ID, Text, Action, Label string }{sub.str("id"), sub.str("status"), "cancel", "Cancel at the end of the period"}
		if sub.flag("cancel_at_period_end") {
			row.Action, row.Label = "renew", "Do not cancel"
		}
		v.Subscriptions = append(v.Subscriptions, row)
	}
	for _, inv := range s.all("invoice", func(x object) bool { return mine(x) && x.has("number") }) {
		v.Links = append(v.Links, [2]string{"/i/" + inv.str("id"), "Invoice " + inv.str("number") + ": " + inv.str("status")})
	}
	if back := o.str("return_url"); back != "" {
		v.Links = append(v.Links, [2]string{back, "Back"})
	}
	render(w, v)
}
