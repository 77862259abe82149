package api

import (
	"cmp"
	"context"
	"errors"
	"hash"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/chainreactions/chainreactions/app/faults"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/tenants"
)

// exchange is one request on its way through the guard chain.
type exchange struct {
	api       *API
	c         *fiber.Ctx
	row       *Row
	ctx       context.Context
	id        string // request id
	principal auth.Principal
	cred      auth.Credential
	tenant    string // resolved tenant id, "" where none was named
	locale    string // of the tenant, once it is known
	admitted  *billing.Admission
	end       func() // lets go of ctx
	ip        string
	bodyRead  bool // to its end
	form      url.Values
	byCookie  bool      // a cookie is part of the request
	content   hash.Hash // of an upload that may come again
	streaming bool      // the answer goes on after the handler
	leave     func()    // ends a stream or long call
	place     func()    // gives back that of a heavy call
	streamErr error
	upstream  string // code of a fault that another process answered
	relayed   bool   // another process answered
}

var requestIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)

// serve is the guard chain: every request to every row passes through it, top
// to bottom. Nothing tenant-owned is read before host, header, key and token
// have named the same tenant.
func (a *API) serve(row *Row) fiber.Handler {
	timeout := requestTimeout
	if row.Call.kind == "upload" && row.Credential != Public {
		timeout = uploadTimeout
	}
	return func(c *fiber.Ctx) error {
		start := a.now()
		x := &exchange{api: a, c: c, row: row, id: c.Get("X-Request-Id")}
		if !requestIDs.MatchString(x.id) {
			x.id = domain.NewID("req")
		}
		if c.Context().ConnRequestNum() == 1 {
			a.unused.used(c.Context().Conn())
		}
		a.setHeaders(c)
		c.Set("X-Request-Id", x.id)
		parent, cancelStream := context.WithCancel(context.Background())
		if row.Call.kind == "sse" { // ends with its reader, or with the drain
			parent, cancelStream, timeout = a.base, func() {}, 24*time.Hour
		}
		ctx, cancel := context.WithTimeout(parent, timeout)
		x.ctx, x.end = ctx, func() { cancel(); cancelStream() }
		x.trace()
		err := x.pass()
		if x.place != nil { // a download that goes on has taken it along
			x.place()
		}
		if errors.Is(err, errAnswered) {
			err = nil
		}
		err = inTime(ctx, err)
		if !x.streaming {
			x.end()
		}
		status := c.Response().StatusCode()
		if err != nil {
			a.recordDenial(x, err)
			if row.Call.kind == "redirect" && domain.KindOf(err) != domain.Internal {
				status = x.lead(row.Call.lost(domain.CodeOf(err)))
			} else {
				status = writeProblem(c, x.language(), row.Path, x.id, err)
			}
		}
		x.finishBody()
		a.observe(x, status, a.now().Sub(start), err)
		return nil
	}
}

// inTime says what became of a request that ran out of its time, or that waited for
// what another one had begun and let go of: neither is its caller's doing.
func inTime(ctx context.Context, err error) error {
	kind := domain.KindOf(err)
	if err == nil || kind != domain.Canceled && kind != domain.Internal || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if kind == domain.Canceled || errors.Is(err, context.DeadlineExceeded) {
		return domain.E(domain.Unavailable, "dependency_unavailable", "This could not be done in time.").After(2 * time.Second).Because(err)
	}
	return err
}

// pass is the chain itself.
func (x *exchange) pass() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = faults.Recovered(p)
			x.api.meter.Release(context.WithoutCancel(x.ctx), x.admitted)
		}
	}()
	a, c, row := x.api, x.c, x.row

	// 1. The address: a coarse bucket in this process, before any work.
	ip := a.clientIP(c)
	x.ip = ip
	if wait := a.addresses.take(ip, row); wait > 0 {
		return domain.E(domain.TooMany, "rate_limited", "Too many requests from this address.").After(wait)
	}

	// 2. The tenant that the host or the selector names; unknown is 404 before
	// anything else is looked at.
	if err := x.resolve(); err != nil && (row.Credential != Public || strings.HasPrefix(row.Path, apiBase) || domain.KindOf(err) != domain.Unavailable) {
		return err // who asks how we are is answered while the database is away
	}

	// 3. Who calls.
	scope := domain.Scope{Tenant: x.tenant, RequestID: x.id, IP: ip, UserAgent: clip(c.Get("User-Agent"), 300), Language: x.language(), Browser: c.Get("Sec-Fetch-Site") != ""}
	if row.Credential != Public {
		if x.principal, err = a.auth.Authenticate(x.ctx, x.showing(ip)); err != nil {
			return err
		}
		// 4. The credential's tenant is the resolved one, or nothing is read.
		if x.tenant != "" && x.principal.TenantID != x.tenant {
			return domain.E(domain.Forbidden, "tenant_mismatch", "The host, the header and the credential name different tenants.")
		}
		if x.principal.Kind == "user" && row.Credential&(Session|Admin) == 0 || x.principal.Kind == "api_key" && row.Credential&Key == 0 ||
			x.principal.Kind == "scim" && row.Credential&Directory == 0 {
			return domain.E(domain.Forbidden, "forbidden", "This cannot be done with this kind of credential.")
		}
		if row.Credential == Admin {
			if err := administers(x.principal); err != nil {
				return err
			}
		}
		// 5. From here on the tenant travels in the context.
		scope.Tenant, scope.Language = x.principal.TenantID, x.language()
		scope.Actor = x.actor()
		x.ctx = domain.WithScope(x.ctx, scope)
		t, err := a.tenants.Get(x.ctx, struct{}{})
		if err != nil {
			return err
		}
		x.locale = t.Locale
		if t.Status != "active" && row.Credential != Admin { // who acts for the platform, not in the tenant
			return domain.E(domain.Forbidden, "tenant_suspended", "This tenant is suspended.")
		}
		if x.principal.Bound && row.Permission == None && !row.Bound {
			return domain.E(domain.Forbidden, "sso_session", "Your organisation signed you in here: sign in to your own account for this.")
		}
		if row.Credential != Admin && !row.Entry {
			if err := owing(x.principal); err != nil {
				return err
			}
		}
		if x.principal.Impersonator != "" {
			if err := x.inSomebodysName(); err != nil {
				return err
			}
		}
		// 6. What the role and the key's scopes allow, by the present policy.
		if row.Permission != None {
			ok, err := a.auth.May(x.ctx, x.principal, row.Permission)
			if err != nil {
				return err
			}
			if !ok {
				return domain.E(domain.Forbidden, "forbidden", "This needs the permission %s.", row.Permission)
			}
		}
		if row.Fresh && x.principal.Kind == "user" && !a.auth.Proved(x.principal) {
			return domain.E(domain.Forbidden, "step_up_required", "Show your password or second factor again first.")
		}
	} else {
		scope.Actor = domain.Actor{Kind: "system", ID: "public"}
		x.ctx = domain.WithScope(x.ctx, scope)
	}

	// 7. Whether it is on, and a place where the call is heavy.
	if row.Switch != "" && a.off != nil && a.off(*row) {
		return domain.E(domain.Unavailable, SwitchedOff, "This part of the service is switched off for now.").After(time.Minute)
	}
	if kind := row.heavy(); kind != "" {
		if x.place, err = a.crowd.enter(kind, x.principal.TenantID); err != nil {
			return err
		}
	}

	// 8. The request itself. One that cannot be read is charged to the rate,
	// not to the quota.
	in, badInput := x.decode()
	if row.Credential&metered != 0 {
		units, meter, feature := int64(0), "", row.Feature
		if feature == None {
			feature = ""
		}
		if row.Meter != None && badInput == nil {
			units, meter = row.units(in), row.Meter
		}
		x.admitted, err = a.meter.Admit(x.ctx, billing.AdmitRequest{Changes: row.changes(), Feature: feature, Class: row.Class, Meter: meter, Units: units})
		x.rateHeaders()
		if err != nil {
			return err
		}
	}
	if badInput != nil {
		if err := x.settle(0); err != nil {
			return err
		}
		return badInput
	}
	if row.Credential&metered != 0 {
		// The call itself is all that a row without a meter uses: it is written
		// down now, and however long the method takes, nothing is in flight.
		if row.Meter == None {
			if err := x.settle(0); err != nil {
				return err
			}
		}
		if err := x.enter(); err != nil {
			return err
		}
	}

	// 9. The method, once for each Idempotency-Key.
	return x.once(in, func() error {
		out, err := row.Call.run(x, in)
		if err == nil {
			err = x.streamErr
		}
		if err != nil {
			_ = x.settle(0) // the call is counted; of its meter it used nothing
			return err
		}
		// 10. What was reserved is settled before the answer leaves.
		units := row.units(in)
		if u, ok := out.(interface{ Used() int64 }); ok { // items that failed alone are given back
			units = u.Used()
		}
		if err := x.settle(units); err != nil {
			return err
		}
		return x.answer(out)
	})
}

// SwitchedOff is the code of what operators turned off: no fault of the service.
const SwitchedOff = "switched_off"

// actor is who the record names. An administrator of the platform is named as
// one: the tenant sees that it was none of its own people.
func (x *exchange) actor() domain.Actor {
	out := domain.Actor{Kind: x.principal.Kind, ID: x.principal.ID, Via: x.principal.SessionID, Impersonator: x.principal.Impersonator, Bound: x.principal.Bound}
	if x.row.Credential == Admin && x.principal.Admin {
		out.Kind = "admin"
	}
	return out
}

// administers refuses who is no platform administrator, or has not shown it.
func administers(p auth.Principal) error {
	switch {
	case p.Admin:
		return nil
	case p.Appointed:
		return domain.E(domain.Forbidden, "step_up_required", "Show your second factor first: platform administration asks for one in every session.")
	}
	return domain.E(domain.Forbidden, "forbidden", "This is for the administrators of the platform.")
}

// helps reports whether an administrator who acts as a person may call the row:
// to see what the person sees, and to upload, match and search for them. What is
// not said here is refused: the person's account, keys, members, money, exports,
// erasure and deletion.
func (r *Row) helps() bool {
	switch {
	case r.Path == apiBase+"/me" && r.Method == "GET", r.Path == apiBase+"/auth/logout": // the banner, and the end
		return true
	case r.Permission == None || !auth.InSomebodysName(r.Permission) || r.Fresh || r.Call.kind == "download" || r.Method == "DELETE":
		return false
	}
	return r.Method == "GET" || !strings.HasSuffix(r.Permission, ":read")
}

// owing refuses who has yet to meet the tenant's policy of sign-in.
func owing(p auth.Principal) error {
	switch p.Owes {
	case "mfa":
		return domain.E(domain.Forbidden, "mfa_enrolment_required", "This tenant asks for a second factor: add one, or sign in with the one that you have.")
	case "sso":
		return domain.E(domain.Forbidden, "sso_required", "This tenant's people sign in through its own identity provider.")
	}
	return nil
}

// inSomebodysName refuses what an impersonator may not do, and puts what they
// may on the tenant's record before it is done.
func (x *exchange) inSomebodysName() error {
	if !x.row.helps() {
		return domain.E(domain.Forbidden, "forbidden", "This cannot be done in somebody's name.")
	}
	return x.api.store.Tx(x.ctx, func(ctx context.Context) error {
		return x.api.audit.Record(ctx, audit.Entry{Action: "impersonation.act", Target: x.row.Method + " " + clip(x.c.Path(), 300)})
	})
}

// denialEvery bounds what one caller can add to the record by knocking on one
// door again and again.
const denialEvery = 10 * time.Second

// recordDenial puts a refusal on the record of the credential's tenant, never
// of the tenant that was tried.
func (a *API) recordDenial(x *exchange, err error) {
	if domain.KindOf(err) != domain.Forbidden || x.principal.ID == "" || a.audit == nil {
		return
	}
	code, now := domain.CodeOf(err), a.now()
	key := x.principal.ID + " " + code + " " + x.row.Method + " " + x.row.Path
	if last, ok := a.denied.Get(key); ok && now.Sub(last) < denialEvery {
		return
	}
	a.denied.Add(key, now)
	scope := domain.Scope{Tenant: x.principal.TenantID, RequestID: x.id, IP: a.clientIP(x.c), UserAgent: clip(x.c.Get("User-Agent"), 300), Actor: x.actor()}
	ctx, cancel := context.WithTimeout(domain.WithScope(context.WithoutCancel(x.ctx), scope), 5*time.Second)
	defer cancel()
	err = a.store.Tx(ctx, func(ctx context.Context) error {
		return a.audit.Record(ctx, audit.Entry{Action: "request.deny", Target: x.row.Method + " " + x.row.Path, Outcome: "denied", Detail: map[string]any{"code": code}})
	})
	if err != nil {
		a.log.ErrorContext(ctx, "a denial is not on the record", "request_id", x.id, "error", err)
	}
}

// settle makes what the call used durable, itself and units of its meter.
func (x *exchange) settle(units int64) error {
	return x.api.meter.Settle(x.ctx, x.admitted, units)
}

// enter counts a stream, download or upload against what the tenant may have
// open at one time.
func (x *exchange) enter() (err error) {
	switch x.row.Call.kind {
	case "sse", "download", "upload":
		if x.leave, err = x.api.meter.Stream(x.ctx); err != nil {
			return err
		}
		if x.row.Call.kind != "download" { // which leaves when its body is written
			end := x.end
			x.end = func() { x.leave(); end() }
		}
	}
	return nil
}

// changes says whether a row makes, changes or runs what the subscription pays
// for. A tenant that does not pay can still read, export, stop, delete, secure
// what it has, and pay.
func (r *Row) changes() bool {
	object, _, _ := strings.Cut(r.Permission, ":")
	return r.Method != "GET" && r.Method != "DELETE" && !strings.HasSuffix(r.Path, "/cancel") &&
		slices.Contains([]string{"dataset", "match", "matching", "research"}, object)
}

// units is what a request uses of its row's meter.
func (r *Row) units(in any) int64 {
	if r.Units == nil {
		return 1
	}
	return r.Units(in)
}

// resolve finds the tenant that the host and the X-Tenant header name.
func (x *exchange) resolve() error {
	a, c := x.api, x.c
	var named []string
	byHost := false
	host, ok := a.host(c)
	if !ok {
		return domain.E(domain.Malformed, "malformed_request", "The Host header does not name one host.")
	}
	if a.baseDomain != "" {
		if slug, ok := strings.CutSuffix(host, "."+a.baseDomain); ok && !tenants.Reserved(slug) {
			named, byHost = append(named, slug), true
		}
	}
	if len(named) == 0 {
		t, ok, err := a.tenants.ResolveHost(x.ctx, host)
		if err != nil {
			return err
		}
		if ok {
			x.tenant = t.ID
		}
	}
	if selector := c.Get("X-Tenant"); selector != "" {
		named = append(named, selector)
	}
	for i, name := range named {
		t, err := a.tenants.Resolve(x.ctx, name)
		if err != nil {
			return err
		}
		if x.tenant != "" && x.tenant != t.ID {
			return domain.E(domain.Forbidden, "tenant_mismatch", "The host, the header and the credential name different tenants.")
		}
		x.tenant = t.ID
		if i == 0 && byHost && name != t.Slug && c.Method() == fiber.MethodGet {
			return x.moved(t.Slug)
		}
	}
	return nil
}

// errAnswered says that the answer is written.
var errAnswered = errors.New("api: answered")

// moved leads a reader from a slug that its tenant gave up to the present one.
// Writes are taken under both: a client that repeats one elsewhere loses its
// credential on the way.
func (x *exchange) moved(slug string) error {
	scheme := "http://"
	if x.api.secure {
		scheme = "https://"
	}
	port := ""
	if _, p, err := net.SplitHostPort(string(x.c.Context().Request.Header.Host())); err == nil {
		port = ":" + p
	}
	x.c.Set("Location", scheme+slug+"."+x.api.baseDomain+port+string(x.c.Request().URI().RequestURI()))
	x.c.Status(fiber.StatusPermanentRedirect)
	return errAnswered
}

// showing reads the credential and keeps it: a stream asks again.
func (x *exchange) showing(ip string) auth.Credential {
	cred := auth.Credential{APIKey: x.c.Get("X-API-Key"), IP: ip}
	if bearer, ok := strings.CutPrefix(x.c.Get("Authorization"), "Bearer "); ok {
		if strings.HasPrefix(bearer, "cr_live_") || strings.HasPrefix(bearer, "cr_test_") {
			if cred.APIKey == "" {
				cred.APIKey = bearer
			}
		} else if auth.Provisions(bearer) {
			cred.Provisioner = bearer
		} else {
			cred.Bearer = bearer
		}
	}
	x.cred = cred
	return cred
}

// rateHeaders tells what is left, in the form of
// draft-ietf-httpapi-ratelimit-headers-11: one item for the rate, one for the
// quota, of the route's meter or else of api_requests.
func (x *exchange) rateHeaders() {
	a := x.admitted
	if a == nil {
		return
	}
	item := func(b []byte, name, p1 string, v1 int64, p2 string, v2 time.Duration) []byte {
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendQuote(b, name)
		b = strconv.AppendInt(append(b, p1...), max(0, v1), 10)
		return strconv.AppendInt(append(b, p2...), int64(seconds(v2)), 10)
	}
	var room [2][96]byte
	policy, state := room[0][:0], room[1][:0]
	if a.Rate.Limit > 0 {
		policy = item(policy, "rate", ";q=", a.Rate.Limit, ";w=", a.Rate.Window)
		state = item(state, "rate", ";r=", a.Rate.Remaining, ";t=", a.Rate.Reset)
	}
	if a.Quota.Limit >= 0 {
		ends := a.Quota.ResetsAt
		policy = item(policy, a.Quota.Meter, ";q=", a.Quota.Limit, ";w=", ends.Sub(ends.AddDate(0, -1, 0)))
		state = item(state, a.Quota.Meter, ";r=", a.Quota.Remaining, ";t=", ends.Sub(x.api.now()))
	}
	if len(policy) > 0 {
		x.c.Set("RateLimit-Policy", string(policy))
		x.c.Set("RateLimit", string(state))
	}
}

func seconds(d time.Duration) int { return max(0, int((d+time.Second-1)/time.Second)) }

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// trace begins the span of a request: of the trace that the caller names where
// that is a gateway of ours or a trusted proxy, else of a new one. It names the
// route's pattern, never a path, a tenant or a person. Those who only ask how we
// are leave none.
func (x *exchange) trace() {
	if !strings.HasPrefix(x.row.Path, apiBase) {
		return
	}
	parent := ""
	if x.api.vouched(x.c) != "" || x.api.trustedPeer(x.c) {
		parent = x.c.Get("Traceparent")
	}
	ctx, span := x.api.tracer.Start(x.ctx, x.row.Method+" "+x.row.Path, trace.SpanKindServer, parent)
	span.SetAttributes(attribute.String("http.request.method", x.row.Method), attribute.String("http.route", x.row.Path))
	x.ctx = ctx
}

// observe writes the log line and the metrics. Labels are the route's pattern,
// never a path, a tenant or an id.
func (a *API) observe(x *exchange, status int, took time.Duration, err error) {
	level := slog.LevelInfo
	var own *domain.Error
	if err != nil && (!errors.As(err, &own) || own.Kind == domain.Internal) {
		level = slog.LevelError
	}
	attrs := []slog.Attr{
		slog.String("request_id", x.id), slog.String("method", x.row.Method), slog.String("route", x.row.Path),
		slog.Int("status", status), slog.Duration("took", took), slog.String("tenant", domain.TenantOf(x.ctx)),
	}
	if err != nil {
		attrs = append(attrs, slog.String("code", domain.CodeOf(err)), slog.Any("error", err))
	}
	a.log.LogAttrs(x.ctx, level, "request", attrs...)
	if span := trace.SpanFromContext(x.ctx); span.IsRecording() {
		span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.String("request_id", x.id))
		if status >= 500 {
			span.SetStatus(codes.Error, cmp.Or(x.upstream, domain.CodeOf(err)))
		}
		span.End()
	}
	code := x.upstream
	if err != nil {
		code = domain.CodeOf(err)
	}
	if x.relayed { // a request is counted once, by who answers it
		a.metrics.relayed.WithLabelValues(x.row.Role).Observe(took.Seconds())
	} else {
		a.metrics.requests.WithLabelValues(x.row.Method, x.row.Path, strconv.Itoa(status)).Inc()
		a.metrics.latency.WithLabelValues(x.row.Method, x.row.Path).Observe(took.Seconds())
		if status >= 500 && (code == Shed || code == SwitchedOff) {
			a.metrics.shed.WithLabelValues(x.row.Method, x.row.Path).Inc()
		}
	}
	if a.observer != nil && a.vouched(x.c) == "" { // else the gateway counts it
		a.observer(*x.row, status, code, took)
	}
}

var _ = domain.Chinese(map[string]string{
	"Too many requests from this address.":                                                  "该地址的请求过多。",
	"This cannot be done with this kind of credential.":                                     "此类凭据不能执行该操作。",
	"The host, the header and the credential name different tenants.":                       "主机名、请求头与凭据指向不同的租户。",
	"Show your password or second factor again first.":                                      "请先重新出示密码或第二要素。",
	"This cannot be done in somebody's name.":                                               "不能以他人名义执行此操作。",
	"This tenant asks for a second factor: add one, or sign in with the one that you have.": "该租户要求第二要素：请添加一个，或使用已有的要素登录。",
	"This tenant's people sign in through its own identity provider.":                       "该租户的人员须通过其自己的身份提供方登录。",
	"This could not be done in time.":                                                       "未能在规定时间内完成。",
	"This tenant is suspended.":                                                             "该租户已被停用。",
	"This is for the administrators of the platform.":                                       "此操作仅限平台管理员。",
	"Show your second factor first: platform administration asks for one in every session.": "请先出示第二要素：平台管理要求每个会话都出示一次。",
	"This needs the permission %s.":                                                         "需要权限 %s。",
	"This part of the service is switched off for now.":                                     "服务的这一部分目前已被关闭。",
	"Your organisation signed you in here: sign in to your own account for this.":           "您是由所在组织登录到此处的：请登录您自己的账户来执行此操作。",
})
