package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
)

// Reason says in one word why a vendor's answer is of no use. It is kept in
// the ledger and in metrics.
type Reason string

// The reasons. The table below says what each means for the caller.
const (
	RateLimited Reason = "rate_limited"  // too fast for this key
	QuotaSpent  Reason = "quota_spent"   // the vendor's own daily quota, or our funds there
	KeyRefused  Reason = "key_refused"   // the key is wrong, ended or not permitted here
	Refused     Reason = "refused"       // the request, whatever key sends it
	NoModel     Reason = "no_model"      // the model is gone: another may answer
	Overloaded  Reason = "overloaded"    // 5xx
	Unreachable Reason = "unreachable"   // no connection, or it broke before an answer
	TimedOut    Reason = "timed_out"     // no answer within the call's time
	Cut         Reason = "cut"           // the answer ended before its end
	Malformed   Reason = "malformed"     // not what the vendor's contract says
	Empty       Reason = "empty"         // an answer with nothing in it where something must be
	Disallowed  Reason = "disallowed"    // by the site's robots.txt
	Unsupported Reason = "unsupported"   // a page that is neither text nor a PDF
	Captcha     Reason = "captcha"       // the search engine took the vendor for a robot
	Canceled    Reason = "canceled"      // by our caller
	BreakerOpen Reason = "breaker_open"  // not sent: the vendor failed too often just now
	Unsettled   Reason = "not_in_ledger" // not sent: the ledger could not be written
)

// what each reason means: whether the same request may be sent again, whether
// it counts against the vendor's health, whether another vendor may do better,
// and what the caller is told.
var meanings = map[Reason]struct {
	again, sick, other bool
	code               string
}{
	RateLimited: {again: true, other: true, code: "provider_unavailable"},
	QuotaSpent:  {other: true, code: "provider_unavailable"},
	KeyRefused:  {other: true, code: "provider_refused"},
	Refused:     {code: "provider_refused"},
	NoModel:     {other: true, code: "provider_refused"},
	Overloaded:  {again: true, sick: true, other: true, code: "provider_unavailable"},
	Unreachable: {again: true, sick: true, other: true, code: "provider_unavailable"},
	TimedOut:    {again: true, sick: true, other: true, code: "provider_unavailable"},
	Cut:         {again: true, sick: true, other: true, code: "provider_unavailable"},
	Malformed:   {again: true, other: true, code: "provider_malformed"},
	Empty:       {again: true, other: true, code: "provider_malformed"},
	Disallowed:  {code: "robots_disallowed"},
	Unsupported: {code: "unsupported_type"},
	Captcha:     {other: true, code: "provider_unavailable"},
	Canceled:    {code: "canceled"},
	BreakerOpen: {other: true, code: "provider_unavailable"},
	Unsettled:   {code: "dependency_unavailable"},
}

// Failure is why a vendor gave nothing that can be used. It is the cause of
// the *domain.Error that callers get, for logs and tests; nothing of it is
// secret.
type Failure struct {
	Provider string
	Reason   Reason
	Status   int           // of HTTP; 0 where none came
	Detail   string        // the vendor's words, redacted and cut
	After    time.Duration // the vendor's wish, or when our breaker lets a call through
	Attempts int           // requests sent
	cause    error
	free     bool // it is known that this was not billed
}

func (f *Failure) Error() string {
	s := fmt.Sprintf("%s: %s after %d requests", f.Provider, f.Reason, f.Attempts)
	if f.Status != 0 {
		s += " (HTTP " + strconv.Itoa(f.Status) + ")"
	}
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	return s
}

func (f *Failure) Unwrap() error { return f.cause }

// told is what the caller gets for a failure.
func (f *Failure) told() error {
	switch meanings[f.Reason].code {
	case "canceled":
		return domain.E(domain.Canceled, "canceled", "The caller went away.").Because(f)
	case "provider_refused":
		if f.Reason == KeyRefused {
			return domain.E(domain.Unavailable, "provider_refused", "The provider %s refuses our key.", f.Provider).Because(f)
		}
		return domain.E(domain.Unavailable, "provider_refused", "The provider %s refuses this request.", f.Provider).Because(f)
	case "provider_malformed":
		return domain.E(domain.Unavailable, "provider_malformed", "The provider %s gave an answer that cannot be read.", f.Provider).Because(f)
	case "dependency_unavailable":
		return domain.E(domain.Unavailable, "dependency_unavailable", "The provider ledger cannot be written now.").After(2 * time.Second).Because(f)
	}
	return domain.E(domain.Unavailable, "provider_unavailable", "The provider %s does not answer now.", f.Provider).After(max(f.After, time.Second)).Because(f)
}

// elsewhere reports whether another vendor may answer what this one did not.
func elsewhere(err error) bool {
	var f *Failure
	if errors.As(err, &f) {
		return meanings[f.Reason].other
	}
	return domain.CodeOf(err) == "provider_budget_exceeded"
}

// vendor is one service that we pay or run, and its manners.
type vendor struct {
	name     string
	base     string
	sandbox  bool
	http     *http.Client
	timeout  time.Duration // of one attempt
	attempts int           // at most, keys that are refused not counted
	minWait  time.Duration // between two attempts
	keys     *keyring
	slots    *semaphore.Weighted
	pace     *rate.Limiter
	breaker  breaker
	away     atomic.Bool // nobody was there when Reach looked
}

// request is one call to a vendor, however many attempts it takes.
type request struct {
	call      research.Call
	operation string
	model     string
	worst     int64         // micro-dollars one attempt may cost
	timeout   time.Duration // 0 is the vendor's
	build     func(ctx context.Context, key string) (*http.Request, error)
}

// do sends a request until it is answered, refused or tried often enough, and
// says what all of it cost. read understands one answer; a failure it returns
// is a *Failure.
func do[T any](ctx context.Context, p *Providers, v *vendor, r request, read func(*http.Response) (T, spent, *Failure)) (T, research.Usage, error) {
	var zero T
	usage := research.Usage{Provider: v.name, Model: r.model, Sandbox: v.sandbox}
	tenant := domain.TenantOf(ctx)
	if tenant == "" {
		return zero, usage, errors.New("provider: a call that is no tenant's")
	}
	sent, tried, held := 0, 0, 0
	for {
		out, cost, wasSent, err := attempt(ctx, p, v, r, tenant, sent+1, read)
		if wasSent {
			sent++
			usage.Calls++
			usage.InputTokens += cost.input
			usage.OutputTokens += cost.output
			usage.CostMicros += cost.micros
			usage.Estimated = usage.Estimated || !cost.known
			if cost.model != "" {
				usage.Model = cost.model
			}
		}
		if err == nil {
			return out, usage, nil
		}
		var f *Failure
		if !errors.As(err, &f) {
			return zero, usage, err // our own refusal: the budget
		}
		f.Attempts = sent
		next := p.Now()
		if f.Reason == KeyRefused || f.Reason == RateLimited || f.Reason == QuotaSpent {
			if wasSent && v.keys.ready(next) > 0 {
				continue // another key may be welcome, at once
			}
		}
		if !wasSent && f.Reason == RateLimited && held < maxHeld {
			held++ // every key rests because of another call: that is no attempt of ours
		} else {
			tried++
		}
		wait := p.wait(f, v, max(tried, 1))
		deadline, bounded := ctx.Deadline()
		if !meanings[f.Reason].again || tried >= v.attempts || meanings[f.Reason].code == "provider_malformed" && tried >= 2 || wait > p.MaxWait || bounded && next.Add(wait).After(deadline) {
			f.After = max(f.After, wait)
			level := slog.LevelWarn
			if f.Reason == Canceled {
				level = slog.LevelDebug
			}
			p.log.Log(ctx, level, "provider call given up", "provider", v.name, "operation", r.operation, "tenant", tenant, "run", r.call.Run, "step", r.call.Step,
				"reason", f.Reason, "status", f.Status, "attempts", sent, "detail", f.Detail)
			return zero, usage, f.told()
		}
		p.log.InfoContext(ctx, "provider call tried again", "provider", v.name, "operation", r.operation, "run", r.call.Run, "reason", f.Reason, "status", f.Status, "wait", wait)
		if err := p.Sleep(ctx, wait); err != nil {
			f.Reason, f.cause = Canceled, err
			return zero, usage, f.told()
		}
	}
}

// maxHeld bounds how often a call waits for keys that others wore out.
const maxHeld = 20

// wait is how long to let a vendor be: what it asked for, else twice as long
// each time with half of it at random, so that many callers do not come back
// together.
func (p *Providers) wait(f *Failure, v *vendor, tried int) time.Duration {
	backoff := min(time.Second<<(tried-1), 30*time.Second)
	backoff = backoff/2 + time.Duration(p.Jitter()*float64(backoff/2))
	return max(backoff, f.After, v.minWait)
}

// attempt sends one request: breaker, slot, pace, key, ledger, wire, ledger.
func attempt[T any](ctx context.Context, p *Providers, v *vendor, r request, tenant string, n int, read func(*http.Response) (T, spent, *Failure)) (out T, cost spent, sent bool, err error) {
	fail := func(reason Reason, cause error) error {
		return &Failure{Provider: v.name, Reason: reason, cause: cause, free: true}
	}
	if err := v.slots.Acquire(ctx, 1); err != nil {
		return out, cost, false, fail(Canceled, err)
	}
	defer v.slots.Release(1)
	if err := v.pace.Wait(ctx); err != nil {
		if ctx.Err() == nil { // its turn would come after the caller's deadline
			return out, cost, false, fail(TimedOut, err)
		}
		return out, cost, false, fail(Canceled, err)
	}
	if left := v.breaker.refuses(p.Now()); left > 0 {
		return out, cost, false, &Failure{Provider: v.name, Reason: BreakerOpen, After: left, free: true}
	}
	key, left := v.keys.take(p.Now())
	if left > 0 {
		v.breaker.skipped()
		f := &Failure{Provider: v.name, Reason: v.keys.why(), After: left, free: true}
		return out, cost, false, f
	}
	e := &entry{tenant: tenant, provider: v.name, operation: r.operation, call: r.call, attempt: n, model: r.model, key: key.label, sandbox: v.sandbox, reserved: r.worst}
	if err := p.ledger.reserve(ctx, e); err != nil {
		v.breaker.skipped()
		if domain.CodeOf(err) == "provider_budget_exceeded" {
			p.refusals.WithLabelValues(v.name).Inc()
			return out, cost, false, err
		}
		if ctx.Err() != nil {
			return out, cost, false, fail(Canceled, ctx.Err())
		}
		return out, cost, false, fail(Unsettled, err)
	}
	started := p.Now()
	traced, span := begin(ctx, v.name+" "+r.operation)
	out, o := send(traced, v, r, key, p.Timeout, read)
	cost = o.spent
	if !cost.known {
		cost.micros = e.reserved
	}
	reason := Reason("ok")
	if o.failure != nil {
		reason = o.failure.Reason
		o.failure.Detail = v.keys.redact(o.failure.Detail)
		if reason == RateLimited {
			o.failure.After = max(o.failure.After, time.Second) // as long as the key rests
		}
	}
	span.SetAttributes(attribute.String("outcome", string(reason)), attribute.Int("http.response.status_code", o.status), attribute.Int64("cost_micros", cost.micros))
	if o.failure != nil {
		span.SetStatus(codes.Error, string(reason))
	}
	span.End()
	v.breaker.ended(p.Now(), meanings[reason].sick, reason == Canceled)
	if o.status != 0 {
		v.away.Store(false)
	}
	v.keys.ended(key, reason, o.failure, p.Now())
	p.calls.WithLabelValues(v.name, string(reason)).Inc()
	p.seconds.WithLabelValues(v.name).Observe(p.Now().Sub(started).Seconds())
	p.costs.WithLabelValues(v.name).Add(float64(cost.micros))
	if err := p.ledger.settle(ctx, e, o); err != nil {
		// The reservation stands, which is never too little; the answer is paid
		// for and is given.
		p.log.ErrorContext(ctx, "provider call not settled in the ledger", "provider", v.name, "call", e.id, "error", err)
	}
	if o.failure != nil {
		return out, cost, true, o.failure
	}
	return out, cost, true, nil
}

// begin makes a call a span of the work that it is made for, where that is
// traced. The vendor is told nothing of it, and it holds nothing of what is asked.
func begin(ctx context.Context, name string) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	return parent.TracerProvider().Tracer("chainreactions").Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
}

// send is the wire alone.
func send[T any](ctx context.Context, v *vendor, r request, key key, limit time.Duration, read func(*http.Response) (T, spent, *Failure)) (out T, o outcome) {
	timeout := v.timeout
	if r.timeout > 0 {
		timeout = r.timeout
	}
	if limit > 0 {
		timeout = min(timeout, limit)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	explain := func(f *Failure) outcome {
		f.Provider = v.name
		switch { // the context explains an error better than the error that came of it
		case ctx.Err() != nil:
			f.Reason = Canceled
		case bounded.Err() != nil:
			f.Reason = TimedOut
		}
		o.failure, o.status = f, max(o.status, f.Status)
		if f.free {
			o.spent.known = true
		}
		return o
	}
	req, err := r.build(bounded, key.value)
	if err != nil {
		return out, explain(&Failure{Reason: Refused, Detail: err.Error(), free: true})
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return out, explain(&Failure{Reason: Unreachable, Detail: err.Error(), cause: err})
	}
	defer resp.Body.Close()
	o.status = resp.StatusCode
	var f *Failure
	out, o.spent, f = read(resp)
	if f != nil {
		return out, explain(f)
	}
	return out, o
}

// maxAnswer bounds a vendor's answer: a Yandex page is 700 KB, a Gemini answer
// with 64k tokens less than half a megabyte.
const maxAnswer = 16 << 20

// readBody reads a bounded answer.
func readBody(resp *http.Response) ([]byte, *Failure) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return b, &Failure{Reason: Cut, Status: resp.StatusCode, Detail: err.Error(), cause: err}
	case len(b) > maxAnswer:
		return b, &Failure{Reason: Malformed, Status: resp.StatusCode, Detail: "the answer is larger than 16 MiB"}
	}
	return b, nil
}

// byStatus is what an HTTP status says where the vendor says nothing better.
// All of these vendors bill answers and not errors.
func byStatus(resp *http.Response, detail string) *Failure {
	f := &Failure{Status: resp.StatusCode, Detail: cut(detail, 300), After: retryAfter(resp.Header), free: true}
	switch s := resp.StatusCode; {
	case s == 401 || s == 403 || s == 407:
		f.Reason = KeyRefused
	case s == 402:
		f.Reason = QuotaSpent
	case s == 404:
		f.Reason = NoModel
	case s == 429:
		f.Reason = RateLimited
	case s == 408 || s >= 500:
		f.Reason = Overloaded
	default:
		f.Reason = Refused
	}
	return f
}

// retryAfter reads the header in both of its forms.
func retryAfter(h http.Header) time.Duration {
	s := h.Get("Retry-After")
	if n, err := strconv.ParseFloat(s, 64); err == nil && n > 0 {
		return time.Duration(min(n, 24*3600) * float64(time.Second))
	}
	if t, err := http.ParseTime(s); err == nil {
		if sent, err := http.ParseTime(h.Get("Date")); err == nil {
			return max(0, t.Sub(sent)) // by the vendor's clock, not ours
		}
	}
	return 0
}

// malformed is an answer that breaks the vendor's contract; it is billed all
// the same, as far as we know.
func malformed(resp *http.Response, format string, args ...any) *Failure {
	return &Failure{Reason: Malformed, Status: resp.StatusCode, Detail: cut(fmt.Sprintf(format, args...), 300)}
}

func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// postJSON builds a request with a JSON body.
func postJSON(ctx context.Context, url string, in any) (*http.Request, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	return req, nil
}

const userAgent = "ChainReactions/1.0 (research; +https://chainreactions.site)"

// breaker stops calls to a vendor that failed five times in a row, for half a
// minute; then one call may try. Rate limits and refusals are answers of a
// healthy vendor and do not count.
type breaker struct {
	mu      sync.Mutex
	failed  int
	last    time.Time // answered, well or not
	until   time.Time
	probing bool
}

const (
	breakAfter = 5
	breakFor   = 30 * time.Second
)

// refuses says how long calls are refused yet, 0 where this one may go: then
// ended or skipped must follow.
func (b *breaker) refuses(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failed < breakAfter:
		return 0
	case now.Before(b.until):
		return b.until.Sub(now)
	case b.probing:
		return time.Second
	}
	b.probing = true
	return 0
}

func (b *breaker) ended(now time.Time, sick, unknown bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if !unknown {
		b.last = now
	}
	switch {
	case unknown:
	case sick:
		if b.failed++; b.failed >= breakAfter {
			b.until = now.Add(breakFor)
		}
	default:
		b.failed = 0
	}
}

func (b *breaker) skipped() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

func (b *breaker) open(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed >= breakAfter && now.Before(b.until)
}

// shaky reports whether the vendor failed more than once in a row, lately.
func (b *breaker) shaky(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed > 1 && now.Sub(b.last) < shakyFor
}

// shakyFor is how long a vendor is remembered to have failed where nobody has
// called it since.
const shakyFor = 5 * time.Minute

// key is one of a vendor's keys.
type key struct {
	at    int
	label string // "key 1": what logs and the ledger show
	value string
}

// keyring turns through a vendor's keys and leaves those alone that were told
// to wait or refused. A vendor without keys has one that is empty.
type keyring struct {
	mu    sync.Mutex
	keys  []key
	until []time.Time
	last  []Reason // why until was set
	next  int
}

// A refused key is tried again now and then: it may have been paid for.
const refusedFor = 10 * time.Minute

func newKeyring(values []string) *keyring {
	k := &keyring{}
	if len(values) == 0 {
		values = []string{""}
	}
	for i, v := range values {
		k.keys = append(k.keys, key{i, "key " + strconv.Itoa(i+1), v})
	}
	k.until, k.last = make([]time.Time, len(k.keys)), make([]Reason, len(k.keys))
	return k
}

// take gives the next usable key, or how long until there is one.
func (k *keyring) take(now time.Time) (key, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	soonest := time.Duration(0)
	for i := range k.keys {
		at := (k.next + i) % len(k.keys)
		left := k.until[at].Sub(now)
		if left <= 0 {
			k.next = at + 1
			return k.keys[at], 0
		}
		if soonest == 0 || left < soonest {
			soonest = left
		}
	}
	return key{}, soonest
}

// ready says how many keys may be used now.
func (k *keyring) ready(now time.Time) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, until := range k.until {
		if !until.After(now) {
			n++
		}
	}
	return n
}

// why says why no key may be used.
func (k *keyring) why() Reason {
	k.mu.Lock()
	defer k.mu.Unlock()
	soonest := 0
	for i := range k.until {
		if k.until[i].Before(k.until[soonest]) {
			soonest = i
		}
	}
	return k.last[soonest]
}

// ended lets a key rest after a refusal that was about it.
func (k *keyring) ended(used key, reason Reason, f *Failure, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch reason {
	case RateLimited:
		k.until[used.at] = now.Add(f.After)
	case QuotaSpent, KeyRefused:
		k.until[used.at] = now.Add(max(f.After, refusedFor))
	default:
		return
	}
	k.last[used.at] = reason
}

// redact takes keys out of what a vendor said.
func (k *keyring) redact(s string) string {
	for _, key := range k.keys {
		if key.value != "" {
			s = strings.ReplaceAll(s, key.value, "[redacted]")
		}
	}
	return s
}
