// Package api is the HTTP edge: one table of routes, one guard chain, the
// adapters between requests and methods, server-sent events, problem+json and
// the OpenAPI document. It is the only package that knows Fiber; fasthttp's
// borrowed memory stops here (Immutable, and every string that leaves is owned).
//
// Read it in this order: table.go (what a row says), guard.go (what every
// request passes), routes.go in app (the rows).
package api

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
	"github.com/chainreactions/chainreactions/web"
)

const (
	apiBase        = "/api/v1"
	requestTimeout = 30 * time.Second
	uploadTimeout  = 30 * time.Minute // a gigabyte over a slow line
)

// Config of the edge.
type Config struct {
	Rows       []Row
	Store      *store.Store
	Tenants    *tenants.Service
	Auth       *auth.Service
	Audit      *audit.Trail
	Meter      *billing.Meter
	SecretKey  []byte         // seals the answers kept for Idempotency-Key
	BaseDomain string         // tenants are {slug}.BaseDomain; "" for none
	BaseURL    string         // of the API document; https makes cookies and HSTS strict
	Production bool           // HSTS, and cookies that only https carries
	Proxies    []netip.Prefix // whose X-Forwarded-For is believed
	Permission func(string) bool
	Feature    func(string) bool
	Class      func(string) bool
	Shapes     map[reflect.Type]reflect.Type // types that write their own JSON, by what it looks like
	Registry   *prometheus.Registry
	Observe    func(row Row, status int, code string, took time.Duration) // told of every answer; nil is nobody
	Off        func(row Row) bool                                         // turned off for now by the operators; nil is never
	Split      Split
	HeavyCalls int         // batches at a time; 0 is eight a core
	Portal     *web.Portal // nil is none
	Logger     *slog.Logger
	Tracer     *tracing.Tracer // nil is none
	Now        func() time.Time
}

// API serves the table.
type API struct {
	rows       []Row
	segments   map[string]bool // the first segments of the rows' paths: not the portal's
	portal     *web.Portal
	schemas    // that requests are held to
	aliases    map[reflect.Type]reflect.Type
	document   func() []byte
	page       func() string // the document, to be read
	store      *store.Store
	tenants    *tenants.Service
	auth       *auth.Service
	audit      *audit.Trail
	denied     *lru.Cache[string, time.Time]
	meter      *billing.Meter
	sealer     cipher.AEAD
	markKey    [32]byte // of the keyed hashes of requests
	baseDomain string
	baseURL    string
	secure     bool // only https reaches us
	headers    [][2]string
	proxies    []netip.Prefix
	addresses  *addressBuckets
	metrics    metrics
	members    *members // of a gateway
	peerKey    [32]byte // of what processes vouch for
	observer   func(row Row, status int, code string, took time.Duration)
	off        func(row Row) bool
	log        *slog.Logger
	tracer     *tracing.Tracer
	now        func() time.Time
	fiber      *fiber.App
	unused     unusedConns
	base       context.Context
	stop       context.CancelFunc
	streams    streams
	claims     claims
	crowd      *crowd
}

type metrics struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	relayed  *prometheus.HistogramVec
	shed     *prometheus.CounterVec
}

var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// New builds the edge, and refuses a table with an unanswered question.
func New(c Config) (*API, error) {
	if err := check(c.Rows, c.Permission, c.Feature, c.Class); err != nil {
		return nil, err
	}
	key := sha256.Sum256(append([]byte("chainreactions idempotency\x00"), c.SecretKey...))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	sealer, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	a := &API{
		rows: c.Rows, segments: map[string]bool{}, portal: c.Portal, aliases: c.Shapes, store: c.Store, tenants: c.Tenants, auth: c.Auth, audit: c.Audit, meter: c.Meter,
		sealer: sealer, markKey: sha256.Sum256(append([]byte("chainreactions fingerprints\x00"), c.SecretKey...)), baseDomain: strings.ToLower(c.BaseDomain), proxies: c.Proxies, observer: c.Observe, off: c.Off,
		baseURL: c.BaseURL, secure: c.Production || strings.HasPrefix(c.BaseURL, "https://"),
		addresses: newAddressBuckets(), log: c.Logger, tracer: c.Tracer, now: c.Now,
		metrics: metrics{
			requests: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "chainreactions_http_requests_total", Help: "Requests by route pattern and status."}, []string{"method", "route", "status"}),
			shed: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "chainreactions_http_requests_shed_total", Help: "Of the requests answered 503, those refused on purpose: enough is under way, or it is switched off. No fault."}, []string{"method", "route"}),
			latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Name: "chainreactions_http_request_seconds", Help: "Time to answer by route pattern.",
				Buckets: buckets}, []string{"method", "route"}),
			relayed: prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Name: "chainreactions_http_relayed_seconds", Help: "Time of the requests that a gateway passed on, by the role that answered and counts them.", Buckets: buckets}, []string{"role"}),
		},
	}
	a.claims.held, a.claims.closing = map[*claim]bool{}, make(chan struct{})
	a.crowd = newCrowd(c.HeavyCalls)
	a.denied, _ = lru.New[string, time.Time](10_000)
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.now == nil {
		a.now = time.Now
	}
	if c.Registry != nil {
		c.Registry.MustRegister(a.metrics.requests, a.metrics.latency, a.metrics.relayed, a.metrics.shed, a.crowd.occupied, a.crowd.refused)
	}
	a.headers = safeHeaders(a.secure)
	a.base, a.stop = context.WithCancel(context.Background())
	huma.ValidateStrictCasing = true
	serves := func(r *Row) bool { return c.Split.Serves == nil || c.Split.Serves(r.Role) }
	for _, r := range a.rows {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
		a.segments[first] = true
	}
	a.schemas = a.schemasOf(serves) // whole before the first request, which is held to them
	read := sync.OnceValue(a.documented)
	a.document = sync.OnceValue(func() []byte {
		text, err := json.MarshalIndent(read().openapi, "", " ")
		if err != nil {
			panic(err) // made of our own rows alone
		}
		return text
	})
	a.page = sync.OnceValue(func() string { return read().page() })
	a.fiber = fiber.New(fiber.Config{
		AppName: "chainreactions", Immutable: true, StreamRequestBody: true, DisableStartupMessage: true,
		BodyLimit:   256 << 10,      // held in memory before streaming; each row has its own limit
		ReadTimeout: requestTimeout, // of the header; HeaderReceived sets that of the body
		IdleTimeout: 75 * time.Second, ReadBufferSize: 16 << 10,
		DisablePreParseMultipartForm: true, // or an upload is on the disk before anybody asked whose it is
		DisableDefaultContentType:    true, ErrorHandler: a.strayError,
	})
	a.unused.conns = map[net.Conn]bool{}
	a.fiber.Server().ConnState = a.unused.state
	a.fiber.Server().HeaderReceived = func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
		if strings.HasPrefix(string(h.ContentType()), "application/json") {
			return fasthttp.RequestConfig{ReadTimeout: requestTimeout}
		}
		return fasthttp.RequestConfig{ReadTimeout: uploadTimeout}
	}
	a.peerKey = sha256.Sum256(append([]byte("chainreactions peers\x00"), c.SecretKey...))
	if c.Split.Members != nil {
		a.members = newMembers(c.Split)
	}
	elsewhere := map[string]bool{}
	for i := range a.rows {
		r := &a.rows[i]
		if r.heavy() != "" {
			a.metrics.shed.WithLabelValues(r.Method, r.Path) // is 0 until it is not
		}
		path := strings.NewReplacer("{", ":", "}", "").Replace(r.Path)
		switch {
		case serves(r):
			a.fiber.Add(r.Method, path, a.serve(r))
		case a.members != nil:
			elsewhere[r.Role] = true
			a.fiber.Add(r.Method, path, a.passOn(r))
		}
	}
	if a.members != nil {
		a.members.done.Add(1)
		go func() { defer a.members.done.Done(); a.members.watch(a.base, slices.Collect(maps.Keys(elsewhere))) }()
	}
	a.fiber.Use(a.nowhere)
	return a, nil
}

// nowhere answers a path that is not in the table, or not with this method.
// What no row's first segment claims is the portal's: it finds its own way by
// the address, and holds nothing of any tenant.
func (a *API) nowhere(c *fiber.Ctx) error {
	a.setHeaders(c)
	first, _, _ := strings.Cut(strings.TrimPrefix(c.Path(), "/"), "/")
	if a.portal != nil && !a.segments[first] && (c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead) {
		return a.servePortal(c)
	}
	c.Set("X-Request-Id", requestID(c))
	if c.Context().Request.Header.ContentLength() != 0 { // nobody reads it, see finishBody
		c.Context().SetConnectionClose()
	}
	writeProblem(c, accepted(c), "", requestID(c), noSuchRoute())
	return nil
}

// servePortal answers with a file of the portal.
func (a *API) servePortal(c *fiber.Ctx) error {
	asset := a.portal.Open(c.Path(), c.Get("Accept-Encoding"))
	c.Set("X-Request-Id", requestID(c))
	c.Set("Content-Type", asset.Media)
	c.Set("Cache-Control", asset.CacheFor)
	c.Set("Vary", "Accept-Encoding")
	if asset.Encoding != "" {
		c.Set("Content-Encoding", asset.Encoding)
	}
	if asset.Page {
		c.Set("Content-Security-Policy", web.Policy)
	}
	return c.Status(asset.Status).Send(asset.Body)
}

// strayError answers what Fiber refuses before a handler runs.
func (a *API) strayError(c *fiber.Ctx, err error) error {
	a.setHeaders(c)
	id := requestID(c)
	c.Set("X-Request-Id", id)
	var f *fiber.Error
	if errors.As(err, &f) {
		switch f.Code {
		case fiber.StatusMethodNotAllowed, fiber.StatusNotFound:
			err = noSuchRoute()
		case fiber.StatusRequestHeaderFieldsTooLarge:
			err = domain.E(domain.TooLarge, "header_too_large", "The request header is too large.")
		case fiber.StatusRequestEntityTooLarge:
			err = domain.E(domain.TooLarge, "body_too_large", "The body is too large.")
		default:
			err = domain.E(domain.Malformed, "malformed_request", "The request is not readable as HTTP.").Because(err)
		}
	}
	writeProblem(c, accepted(c), "", id, err)
	return nil
}

// Handler is the table as one function, for whoever measures it without a
// network.
func (a *API) Handler() fasthttp.RequestHandler { return a.fiber.Handler() }

// Serve answers on the listener until Shutdown.
func (a *API) Serve(l net.Listener) error { return a.fiber.Listener(&lasting{Listener: l, log: a.log}) }

// lasting is a listener whose Accept waits where the system has no descriptor or
// memory left for one more connection, as net/http does: fasthttp would end, and
// with it everything that is under way.
type lasting struct {
	net.Listener
	log *slog.Logger
}

func (l *lasting) Accept() (net.Conn, error) {
	const most = time.Second
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, most) {
		conn, err := l.Listener.Accept()
		var of syscall.Errno
		if !errors.As(err, &of) || !slices.Contains([]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}, of) {
			return conn, err
		}
		if wait == most {
			l.log.Error("no more connections can be accepted now", "error", err)
		}
		time.Sleep(wait)
	}
}

// Shutdown ends every stream, so that its reader goes on elsewhere, finishes
// the requests that run, and stops.
func (a *API) Shutdown(ctx context.Context) error {
	a.stop()
	a.unused.close()
	err := a.fiber.ShutdownWithContext(ctx)
	a.claims.close()
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if a.members != nil {
		a.members.done.Wait()
	}
	return a.streams.wait(ctx)
}

// unusedConns are connections that have not sent a request yet: browsers open
// them ahead. When it drains, fasthttp closes idle connections but waits for
// these.
type unusedConns struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
	open  int // used or not
}

func (u *unusedConns) state(c net.Conn, s fasthttp.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch s {
	case fasthttp.StateNew:
		u.conns[c] = true
		u.open++
	case fasthttp.StateClosed:
		delete(u.conns, c)
		u.open--
	}
}

func (u *unusedConns) used(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.conns, c)
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close()
	}
}

// Connections is how many connections of callers are open.
func (a *API) Connections() int {
	a.unused.mu.Lock()
	defer a.unused.mu.Unlock()
	return a.unused.open
}

// Streams is how many event streams are open.
func (a *API) Streams() int { return a.streams.count() }

// Document is the OpenAPI 3.1 document.
func (a *API) Document() []byte { return a.document() }

// schemaNamer names a type's schema after the type, and after its package too
// where another package has a type of that name.
func schemaNamer() func(reflect.Type, string) string {
	taken := map[string]reflect.Type{}
	return func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		name := huma.DefaultSchemaNamer(t, hint)
		if of, ok := taken[name]; ok && of != t && t.Name() != "" {
			pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]
			name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
		}
		taken[name] = t
		return name
	}
}

// bodyName names the schema of a row's body after the method that takes it:
// "dataset.Create" takes DatasetCreateBody.
func bodyName(r *Row) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(r.Call.name, func(c rune) bool { return c == '.' || c == ' ' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String() + "Body"
}
