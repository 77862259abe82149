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
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
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
	BaseURL    string         // of the API document
	Proxies    []netip.Prefix // whose X-Forwarded-For is believed
	Permission func(string) bool
	Feature    func(string) bool
	Class      func(string) bool
	Registry   *prometheus.Registry
	Logger     *slog.Logger
	Now        func() time.Time
}

// API serves the table.
type API struct {
	rows       []Row
	shapes     map[*Row]shape
	registry   huma.Registry
	document   []byte
	store      *store.Store
	tenants    *tenants.Service
	auth       *auth.Service
	audit      *audit.Trail
	denied     *lru.Cache[string, time.Time]
	meter      *billing.Meter
	sealer     cipher.AEAD
	baseDomain string
	proxies    []netip.Prefix
	addresses  *addressBuckets
	metrics    metrics
	log        *slog.Logger
	now        func() time.Time
	fiber      *fiber.App
	base       context.Context
	stop       context.CancelFunc
	streams    sync.WaitGroup
}

type metrics struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
}

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
		rows: c.Rows, shapes: map[*Row]shape{}, store: c.Store, tenants: c.Tenants, auth: c.Auth, audit: c.Audit, meter: c.Meter,
		sealer: sealer, baseDomain: strings.ToLower(c.BaseDomain), proxies: c.Proxies,
		addresses: newAddressBuckets(), log: c.Logger, now: c.Now,
		metrics: metrics{
			requests: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "chainreactions_http_requests_total", Help: "Requests by route pattern and status."}, []string{"method", "route", "status"}),
			latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Name: "chainreactions_http_request_seconds", Help: "Time to answer by route pattern.",
				Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"method", "route"}),
		},
	}
	a.denied, _ = lru.New[string, time.Time](10_000)
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.now == nil {
		a.now = time.Now
	}
	if c.Registry != nil {
		c.Registry.MustRegister(a.metrics.requests, a.metrics.latency)
	}
	a.base, a.stop = context.WithCancel(context.Background())
	a.registry = huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for i := range a.rows {
		r := &a.rows[i]
		a.shapes[r] = shapeOf(a.registry, r.Call.in, bodyName(r))
	}
	if a.document, err = a.openapi(c.BaseURL); err != nil {
		return nil, err
	}
	a.fiber = fiber.New(fiber.Config{
		AppName: "chainreactions", Immutable: true, StreamRequestBody: true, DisableStartupMessage: true,
		BodyLimit:   256 << 10, // held in memory before streaming; each row has its own limit
		ReadTimeout: 0, IdleTimeout: 75 * time.Second, ReadBufferSize: 16 << 10,
		DisableDefaultContentType: true, ErrorHandler: a.strayError,
	})
	for i := range a.rows {
		r := &a.rows[i]
		path := strings.NewReplacer("{", ":", "}", "").Replace(r.Path)
		a.fiber.Add(r.Method, path, a.serve(r))
	}
	a.fiber.Use(a.nowhere)
	return a, nil
}

// nowhere answers a path that is not in the table, or not with this method.
func (a *API) nowhere(c *fiber.Ctx) error {
	c.Set("X-Request-Id", requestID(c))
	writeProblem(c, "", requestID(c), noSuchRoute())
	return nil
}

// strayError answers what Fiber refuses before a handler runs.
func (a *API) strayError(c *fiber.Ctx, err error) error {
	id := requestID(c)
	c.Set("X-Request-Id", id)
	var f *fiber.Error
	if errors.As(err, &f) && f.Code == fiber.StatusMethodNotAllowed {
		err = noSuchRoute()
	}
	writeProblem(c, "", id, err)
	return nil
}

// Serve answers on the listener until Shutdown.
func (a *API) Serve(l net.Listener) error { return a.fiber.Listener(l) }

// Shutdown ends every stream, so that its reader goes on elsewhere, finishes
// the requests that run, and stops.
func (a *API) Shutdown(ctx context.Context) error {
	a.stop()
	if err := a.fiber.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	done := make(chan struct{})
	go func() { a.streams.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Document is the OpenAPI 3.1 document.
func (a *API) Document() []byte { return a.document }

// bodyName names the schema of a row's body after the method that takes it:
// "dataset.Create" takes DatasetCreateBody.
func bodyName(r *Row) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(r.Call.name, func(c rune) bool { return c == '.' || c == ' ' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String() + "Body"
}
