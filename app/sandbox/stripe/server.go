// Package stripe is a Stripe that runs on the desk: stateful, pinned to the
// API version that stripe-go v76 speaks (2023-10-16), so that the real client
// library can buy, change, fail, refund and cancel against it, in development,
// demos and tests. It imports nothing of ours and not stripe-go either; its
// tests drive it with stripe-go and hold every request and every answer against
// Stripe's own schema (stripe-mock), so that it cannot drift into a dialect.
//
// What it is not: it knows one account, no tax engine, no tiers, no Connect.
// A request for what it does not know is refused, never answered with a guess.
//
//	object.go        Stripe's objects, parameters and errors
//	server.go        requests: routes, keys, idempotency, expand, lists, clocks
//	catalogue.go     products, prices, coupons, customers, payment methods
//	subscription.go  the life of a subscription, and schedules
//	invoice.go       invoices, prorations, usage, payments, refunds, disputes
//	pages.go         Checkout, portal and hosted invoice as small HTML forms
//	events.go        signed webhooks, and what may befall them on their way
package stripe

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Version is the API version of every object and event.
const Version = "2023-10-16"

// Config of a Server; every field may be left out.
type Config struct {
	URL           string           // how a browser reaches this server; "" is the request's host
	WebhookURL    string           // where events go, beside the endpoints made through the API
	WebhookSecret string           // that signs them
	Now           func() time.Time // of customers without a test clock
	Seed          uint64           // of ids and of what befalls events; 0 draws one
	File          string           // keeps the state across restarts
	AfterRetries  string           // the end of dunning: canceled (default), unpaid or past_due
	Client        *http.Client     // sends webhooks
	Logger        *slog.Logger
}

// Server is the emulator, an http.Handler.
type Server struct {
	Config
	mux  *http.ServeMux
	wake chan struct{}

	mu       sync.Mutex
	random   *rand.Rand
	objects  map[string]object
	order    []string            // ids in the order of their making
	kinds    map[string][]string // the same of each kind
	timed    []string            // the same of those to which something can still happen by itself
	serial   int64
	requests int64
	answers  map[string]answer // by idempotency key
	events   []*delivery
	underway int // deliveries that were begun
	calls    []Call
	fate     Fate
	clock    string // the test clock that is being advanced, "" otherwise
	at       int64  // its time at this step
}

// Call is one API request, as the call log keeps it.
type Call struct {
	Method, Path   string
	Form           string // the encoded parameters
	IdempotencyKey string
	Status         int
	Replayed       bool
}

type answer struct {
	Request string
	Status  int
	Body    []byte
}

// New makes a server, with the state of File where there is one.
func New(c Config) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	if c.AfterRetries == "" {
		c.AfterRetries = "canceled"
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 10 * time.Second}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{Config: c, mux: http.NewServeMux(), wake: make(chan struct{}, 1), objects: map[string]object{}, kinds: map[string][]string{}, answers: map[string]answer{},
		random: rand.New(rand.NewPCG(c.Seed, 0))}
	s.routes()
	return s, s.load()
}

// ReachedAt says where browsers find the server and where its events go, to one
// that may have answered calls before that was known.
func (s *Server) ReachedAt(url, webhook string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.URL, s.WebhookURL = url, webhook
}

// call is one request on its way.
type call struct {
	*http.Request
	p object // parameters
}

// api adds a route of the API: authenticated, idempotent, logged, expanded.
func (s *Server) api(pattern string, fn func(c call) (object, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		status, body, replayed := s.answer(r, fn)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Request-Id", s.requestID())
		w.Header().Set("Stripe-Version", Version)
		if replayed {
			w.Header().Set("Idempotent-Replayed", "true")
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	})
}

func (s *Server) answer(r *http.Request, fn func(c call) (object, error)) (status int, body []byte, replayed bool) {
	fail := func(e *apiError) (int, []byte, bool) {
		b, _ := json.Marshal(e.body())
		return e.status, b, false
	}
	secret, _, ok := r.BasicAuth()
	if !ok {
		secret = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	if !strings.HasPrefix(secret, "sk_test_") && !strings.HasPrefix(secret, "rk_test_") {
		return fail(&apiError{status: 401, kind: "invalid_request_error", message: "Invalid API Key provided: the sandbox takes keys that begin with sk_test_."})
	}
	if v := r.Header.Get("Stripe-Version"); v != "" && v != Version {
		return fail(invalid("", "", "This sandbox speaks the API version %s, not %s.", Version, v))
	}
	p, err := params(r)
	if err != nil {
		return fail(invalid("", "parameter_invalid", "The parameters cannot be read: %v", err))
	}
	form, _ := json.Marshal(p) // keys in order: one text for one request
	sum := sha256.Sum256([]byte(r.Method + " " + r.URL.Path + " " + string(form)))
	request, key := hex.EncodeToString(sum[:]), r.Header.Get("Idempotency-Key")
	defer func() {
		s.calls = append(s.calls, Call{r.Method, r.URL.Path, string(form), key, status, replayed})
	}()
	if r.Method != http.MethodPost {
		key = ""
	}
	if old, ok := s.answers[key]; ok && key != "" {
		if old.Request != request {
			return fail(&apiError{status: 400, kind: "idempotency_error",
				message: "Keys for idempotent requests can only be used with the same parameters they were first used with."})
		}
		return old.Status, old.Body, true
	}
	s.settle()
	out, err := fn(call{r, p})
	var refused *apiError
	switch {
	case errors.As(err, &refused):
		status, body, _ = fail(refused)
	case err != nil:
		return fail(&apiError{status: 500, kind: "api_error", message: err.Error()})
	default:
		status = 200
		answer := asObject(copyOf(out))
		if err := s.expand(answer, p.strings("expand")); err != nil {
			status, body, _ = fail(err)
			break
		}
		body, _ = json.Marshal(answer)
	}
	if key != "" && (refused == nil || refused.status != 404) {
		s.answers[key] = answer{request, status, body}
	}
	if r.Method != http.MethodGet {
		s.save()
	}
	return status, body, false
}

// ServeHTTP answers the API, the pages and the sandbox's own controls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// expand replaces ids by their objects along the paths.
func (s *Server) expand(answer object, paths []string) *apiError {
	for _, path := range paths {
		steps := strings.Split(path, ".")
		if !s.expandAt(answer, steps) {
			return invalid("expand", "", "This property cannot be expanded (%s).", path)
		}
	}
	return nil
}

func (s *Server) expandAt(v any, steps []string) bool {
	if len(steps) == 0 {
		return true
	}
	if list, ok := v.([]any); ok {
		for _, x := range list {
			if !s.expandAt(x, steps) {
				return false
			}
		}
		return true
	}
	o := asObject(v)
	if o == nil {
		return v == nil
	}
	next, known := o[steps[0]]
	if !known {
		return o["deleted"] == true
	}
	if id, ok := next.(string); ok {
		target, ok := s.objects[id]
		if !ok {
			return false
		}
		next = copyOf(target)
		o[steps[0]] = next
	}
	return s.expandAt(next, steps[1:])
}

// id makes an identifier; the same seed makes the same ones.
func (s *Server) id(prefix string) string {
	s.serial++
	return fmt.Sprintf("%s_sbx%06d%08x", prefix, s.serial, s.random.Uint32())
}

// requestID is not of the ids that the seed makes: whoever only reads, in what
// order ever, changes nothing of what comes.
func (s *Server) requestID() string {
	s.requests++
	return fmt.Sprintf("req_sbx%014d", s.requests)
}

// add keeps a new object and answers it.
func (s *Server) add(o object) object {
	s.keep(o.str("id"), o)
	return o
}

func (s *Server) keep(id string, o object) {
	s.objects[id] = o
	s.order = append(s.order, id)
	s.enlist(id, o.str("object"))
}

func (s *Server) enlist(id, kind string) {
	s.kinds[kind] = append(s.kinds[kind], id)
	switch kind {
	case "subscription", "invoice", "payment_intent", "checkout.session":
		s.timed = append(s.timed, id)
	}
}

// get finds an object of a kind, or answers Stripe's 404.
func (s *Server) get(kind, id, param string) (object, error) {
	o, ok := s.objects[id]
	if !ok || o.str("object") != kind {
		return nil, missing(strings.ReplaceAll(kind, "_", " "), id, param)
	}
	return o, nil
}

// all gives the objects of a kind, oldest first.
func (s *Server) all(kind string, keep func(object) bool) (out []object) {
	for _, id := range s.kinds[kind] {
		if o := s.objects[id]; keep == nil || keep(o) {
			out = append(out, o)
		}
	}
	return out
}

// resource adds the reading routes that every kind has: by id, and the list,
// newest first, filtered by the named fields.
func (s *Server) resource(path, kind string, filters ...string) {
	s.api("GET "+path+"/{id}", func(c call) (object, error) { return s.get(kind, c.PathValue("id"), "id") })
	s.api("GET "+path, func(c call) (object, error) {
		known := append([]string{"limit", "starting_after", "ending_before", "created", "expand"}, filters...)
		for name := range c.p {
			if !slices.Contains(known, name) {
				return nil, invalid(name, "parameter_unknown", "Received unknown parameter: %s", name)
			}
		}
		rows := s.all(kind, func(o object) bool {
			for _, f := range filters {
				if _, asked := c.p[f]; asked && !filtered(kind, f, o, c.p) {
					return false
				}
			}
			if kind == "subscription" && !c.p.has("status") && o.str("status") == "canceled" {
				return false // Stripe's default: everything but the canceled
			}
			made, bounds := max(o.num("created"), o.num("date")), c.p.sub("created") // an invoice item has a date alone
			return !(bounds.has("gte") && made < bounds.num("gte") || bounds.has("gt") && made <= bounds.num("gt") ||
				bounds.has("lte") && made > bounds.num("lte") || bounds.has("lt") && made >= bounds.num("lt"))
		})
		slices.Reverse(rows)
		return s.page(path, rows, c.p)
	})
}

func filtered(kind, field string, o, p object) bool {
	want := p.str(field)
	switch field {
	case "lookup_keys":
		return slices.Contains(p.strings("lookup_keys"), o.str("lookup_key"))
	case "ids":
		return slices.Contains(p.strings("ids"), o.str("id"))
	case "types":
		return slices.Contains(p.strings("types"), o.str("type"))
	case "active":
		return o.flag("active") == (want == "true")
	case "price":
		return slices.ContainsFunc(o.list("items"), func(i object) bool { return i.str("price", "id") == want })
	case "status":
		if kind == "subscription" {
			return want == "all" || o.str("status") == want || want == "ended" && (o.str("status") == "canceled" || o.str("status") == "incomplete_expired")
		}
	}
	return o.str(field) == want
}

// page cuts rows by Stripe's cursors.
func (s *Server) page(path string, rows []object, p object) (object, error) {
	limit := int64(10)
	if p.has("limit") {
		if limit = p.num("limit"); limit < 1 || limit > 100 {
			return nil, invalid("limit", "", "Invalid limit: must be between 1 and 100")
		}
	}
	at := func(cursor string) int {
		return slices.IndexFunc(rows, func(o object) bool { return o.str("id") == p.str(cursor) })
	}
	more := false
	switch {
	case p.has("starting_after"):
		i := at("starting_after")
		if i < 0 {
			return nil, missing("object", p.str("starting_after"), "starting_after")
		}
		rows = rows[i+1:]
	case p.has("ending_before"):
		i := at("ending_before")
		if i < 0 {
			return nil, missing("object", p.str("ending_before"), "ending_before")
		}
		if rows = rows[:i]; int64(len(rows)) > limit {
			rows, more = rows[int64(len(rows))-limit:], true
		}
	}
	if int64(len(rows)) > limit {
		rows, more = rows[:limit], true
	}
	out := listOf(path, rows)
	out["has_more"] = more
	return out, nil
}

// now is the time of a customer's clock.
func (s *Server) now(customer string) int64 {
	if id := s.objects[customer].str("test_clock"); id != "" {
		if id == s.clock {
			return s.at
		}
		return s.objects[id].num("frozen_time")
	}
	if s.clock == realTime {
		return s.at
	}
	return s.Config.Now().Unix()
}

const realTime = "real"

// settle lets everything happen that is due by now for customers without a
// test clock.
func (s *Server) settle() { s.advance(realTime, s.Config.Now().Unix()) }

// Settle does what settle does, for those who keep the clock.
func (s *Server) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.save()
}

// advance lets what is due on a clock happen, step by step in the order of
// time, until the clock stands at `until`.
func (s *Server) advance(clock string, until int64) {
	if s.clock != "" {
		return
	}
	s.clock = clock
	defer func() { s.clock = "" }()
	mine := func(o object) bool {
		c := o.str("customer")
		if o.str("object") == "checkout.session" && c == "" {
			return clock == realTime
		}
		id := s.objects[c].str("test_clock")
		return id == clock || id == "" && clock == realTime
	}
	s.timed = slices.DeleteFunc(s.timed, func(id string) bool { return over(s.objects[id]) })
	for range 100_000 {
		var next func()
		first := until + 1
		for _, id := range s.timed {
			if o := s.objects[id]; mine(o) {
				if at, do := s.due(o); do != nil && at < first {
					first, next = at, do
				}
			}
		}
		if next == nil {
			break
		}
		s.at = first
		next()
	}
	s.at = until
}

// over says that nothing happens to an object any more, in whatever time.
func over(o object) bool {
	switch status := o.str("status"); o.str("object") {
	case "subscription":
		return terminal(o)
	case "invoice":
		return status == "paid" || status == "void"
	case "payment_intent":
		return status == "succeeded" || status == "canceled"
	case "checkout.session":
		return status != "open"
	}
	return true
}

// due says when something happens next to an object by itself, and what.
func (s *Server) due(o object) (int64, func()) {
	switch o.str("object") {
	case "subscription":
		return s.dueSubscription(o)
	case "invoice":
		return s.dueInvoice(o)
	case "payment_intent":
		if at := o.num("_settles"); at > 0 {
			return at, func() { s.settleIntent(o) }
		}
	case "checkout.session":
		if o.str("status") == "open" {
			return o.num("expires_at"), func() { s.expireSession(o) }
		}
	}
	return 0, nil
}

// Calls is the log of API requests, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

type snapshot struct {
	Serial  int64
	Order   []string
	Objects map[string]object
	Answers map[string]answer
}

// save writes the state beside File and renames it, so that a kill leaves the
// old or the new. The call log lives for one run.
func (s *Server) save() {
	if s.File == "" {
		return
	}
	raw, err := json.Marshal(snapshot{s.serial, s.order, s.objects, s.answers})
	if err == nil {
		if err = os.WriteFile(s.File+".new", raw, 0o600); err == nil {
			err = os.Rename(s.File+".new", s.File)
		}
	}
	if err != nil {
		s.Logger.Error("the sandbox's state was not kept", "error", err)
	}
}

func (s *Server) load() error {
	if s.File == "" {
		return nil
	}
	raw, err := os.ReadFile(s.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept snapshot
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&kept); err != nil && err != io.EOF {
		return fmt.Errorf("%s: %w", s.File, err)
	}
	s.serial, s.order = kept.Serial, kept.Order
	if kept.Answers != nil {
		s.answers = kept.Answers
	}
	for id, o := range kept.Objects {
		s.objects[id] = asObject(revive(o))
	}
	for _, id := range s.order {
		s.enlist(id, s.objects[id].str("object"))
	}
	for _, o := range s.objects { // items are objects of their own, shared with their subscription
		if o.str("object") == "subscription" {
			items := o.list("items")
			for i := range items {
				items[i] = s.objects[items[i].str("id")]
			}
			o["items"] = listOf("/v1/subscription_items?subscription="+o.str("id"), items)
		}
	}
	return nil
}

// revive turns JSON back into the types that the state has.
func revive(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return revive(object(v))
	case object:
		for key, x := range v {
			v[key] = revive(x)
		}
		return v
	case []any:
		for i, x := range v {
			v[i] = revive(x)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	}
	return v
}
