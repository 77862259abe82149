// Package provider is everything that ChainReactions asks of outside services:
// language models, web search, sourced profiles and web pages. Its callers
// (domain/research, through the interfaces it declares) need not know which
// vendor answers, with which key, after how many attempts and within which
// budget.
//
// A call goes this way, and call.go reads in this order:
//
//	slot → pace → breaker → key → ledger (budget, or refuse) → wire → read → ledger
//	  ↑                                                          │
//	  └── wait, or another key ── may it be sent again? ─────────┘
//	                                         └── no: may another vendor answer? → the next one
//
// Every request that may be billed is a row of provider_calls before it is
// sent, so no SDK is used that would send more by itself. A failure is never an
// empty answer: an answer that cannot be read is an error, and an error says
// whether it passes. Keys are in headers only, and are taken out of whatever a
// vendor says before it is kept or logged.
package provider

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/chainreactions/chainreactions/app/egress"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
)

// The vendors, as they are called in settings, the ledger and metrics.
const (
	Gemini     = "gemini"
	OpenAI     = "openai"
	BrightData = "brightdata"
	SearXNG    = "searxng"
	Linkup     = "linkup"
)

// Names is every vendor.
var Names = []string{Gemini, OpenAI, BrightData, SearXNG, Linkup}

// Account is how one vendor is reached. The zero value is a vendor that is not
// configured.
type Account struct {
	BaseURL string
	Keys    []string // in rotation
	Model   string   // of a vendor of models
	Zone    string   // Bright Data's
	Sandbox bool     // an emulator answers
}

// Config of Providers. Store and Egress are required.
type Config struct {
	Store    *store.Store
	Egress   *egress.Guard
	Accounts map[string]Account // by vendor; absent is not configured
	Limits   map[string]Limits  // by vendor; absent is none

	// EmulatedHost gives the address, host:port, of the emulator that stands in
	// for a web host, if one does: its pages are not fetched through Egress.
	EmulatedHost func(host string) (address string, ok bool)

	PDF PDF

	Registry prometheus.Registerer
	Logger   *slog.Logger
	Now      func() time.Time
	Sleep    func(ctx context.Context, d time.Duration) error
	Jitter   func() float64 // in [0, 1)

	Attempts    int           // at most, for one call; 0 is 4
	MaxWait     time.Duration // between two attempts; a vendor that wants more has failed; 0 is a minute
	Timeout     time.Duration // of one request at most; 0 is each vendor's own
	Concurrency int64         // requests at once to one vendor from this process; 0 is each vendor's own
}

// Providers is the package's one object. It is safe for concurrent use, and is
// a research.Model, Searcher, Profiler and Fetcher.
type Providers struct {
	Config
	log     *slog.Logger
	ledger  *ledger
	vendors map[string]*vendor
	pages   *http.Client // web pages, judged by Egress and their sites' robots.txt
	hop     *http.Client // redirect links: judged by Egress, and none is followed
	robots  *robots
	parsing chan struct{} // so many pages are parsed at a time

	calls    *prometheus.CounterVec
	costs    *prometheus.CounterVec
	refusals *prometheus.CounterVec
	warnings *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

var (
	_ research.Model    = (*Providers)(nil)
	_ research.Searcher = (*Providers)(nil)
	_ research.Profiler = (*Providers)(nil)
	_ research.Fetcher  = (*Providers)(nil)
)

// manners of each vendor, from its documentation (Linkup: 10 requests a second
// for an organisation; Bright Data: a query that failed is refused for 15
// seconds), and how many requests may wait for it at once.
var manners = map[string]struct {
	base    string
	timeout time.Duration
	minWait time.Duration
	perSec  float64
	atOnce  int64
}{
	Gemini:     {base: "https://generativelanguage.googleapis.com", timeout: 180 * time.Second, atOnce: 256},
	OpenAI:     {base: "https://api.openai.com/v1", timeout: 300 * time.Second, atOnce: 16}, // a model on one's own machine takes its time
	BrightData: {base: "https://api.brightdata.com", timeout: 90 * time.Second, minWait: 15 * time.Second, atOnce: 512},
	SearXNG:    {timeout: 30 * time.Second, atOnce: 32},
	Linkup:     {base: "https://api.linkup.so/v1", timeout: 45 * time.Second, perSec: 10, atOnce: 64},
}

// New makes Providers.
func New(c Config) *Providers {
	if c.Store == nil || c.Egress == nil {
		panic("provider: Store and Egress are required")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.EmulatedHost == nil {
		c.EmulatedHost = func(string) (string, bool) { return "", false }
	}
	if c.Attempts <= 0 {
		c.Attempts = 4
	}
	if c.MaxWait <= 0 {
		c.MaxWait = time.Minute
	}
	p := &Providers{Config: c, log: c.Logger, vendors: map[string]*vendor{}, parsing: make(chan struct{}, runtime.GOMAXPROCS(0))}
	p.metrics()
	p.ledger = &ledger{st: c.Store, now: c.Now, log: c.Logger, warned: func(name string) { p.warnings.WithLabelValues(name).Inc() }}
	p.SetLimits(c.Limits)
	client := &http.Client{Transport: apiTransport(256), CheckRedirect: noRedirect}
	for name, a := range c.Accounts {
		if !Configured(name, a) {
			continue
		}
		m := manners[name]
		v := &vendor{name: name, base: strings.TrimSuffix(a.BaseURL, "/"), sandbox: a.Sandbox, http: client, timeout: m.timeout, attempts: c.Attempts, minWait: m.minWait,
			keys: newKeyring(a.Keys), slots: semaphore.NewWeighted(m.atOnce), pace: rate.NewLimiter(rate.Inf, 1)}
		if v.base == "" {
			v.base = m.base
		}
		if c.Concurrency > 0 {
			v.slots = semaphore.NewWeighted(c.Concurrency)
		}
		if m.perSec > 0 && !a.Sandbox {
			v.pace = rate.NewLimiter(rate.Limit(m.perSec), int(m.perSec))
		}
		if a.Sandbox {
			v.minWait = 0
		}
		p.vendors[name] = v
	}
	plain := p.pageClient(c.Egress)
	p.robots = newRobots(plain)
	once, pages := *plain, *plain
	once.CheckRedirect = noRedirect
	pages.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if err := plain.CheckRedirect(req, via); err != nil {
			return err
		}
		if _, f := p.robots.permits(req.Context(), req.URL); f != nil {
			return f
		}
		return nil
	}
	p.hop, p.pages = &once, &pages
	return p
}

// SetLimits changes the budgets; they hold from the next call on.
func (p *Providers) SetLimits(limits map[string]Limits) { p.ledger.limits.Store(&limits) }

// Missing names a vendor for each kind of service that no configured vendor
// gives: a model, a web search, a profile.
func Missing(accounts map[string]Account) (names []string) {
	for _, kind := range [][]string{{Gemini, OpenAI}, {BrightData, SearXNG}, {Linkup}} {
		if !slices.ContainsFunc(kind, func(name string) bool { return Configured(name, accounts[name]) }) {
			names = append(names, kind[0])
		}
	}
	return names
}

// Configured reports whether a vendor has what it needs to be asked.
func Configured(name string, a Account) bool {
	switch name {
	case OpenAI: // a model on one's own machine needs no key
		return a.Model != "" && (a.BaseURL != "" || len(a.Keys) > 0)
	case SearXNG:
		return a.BaseURL != ""
	case BrightData:
		return len(a.Keys) > 0 && a.Zone != ""
	}
	return len(a.Keys) > 0
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// apiTransport reaches the vendors, whose addresses the operator chose: a
// model on the local network is meant to be reached.
func apiTransport(idle int) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           4 * idle,
		MaxIdleConnsPerHost:    idle,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// configuredOf gives those of the vendors that can be asked, in order.
func (p *Providers) configuredOf(names ...string) (out []*vendor) {
	for _, name := range names {
		if v := p.vendors[name]; v != nil {
			out = append(out, v)
		}
	}
	return out
}

// Generate asks the first model that answers: Gemini, then the
// OpenAI-compatible one. Only Gemini can search the web by itself.
func (p *Providers) Generate(ctx context.Context, in research.Prompt, progress func(int)) (research.Generation, error) {
	models := p.configuredOf(Gemini, OpenAI)
	if in.Grounded {
		models = p.configuredOf(Gemini)
	}
	return inTurn(ctx, p, models, func(v *vendor) (research.Generation, error) {
		ask := p.gemini
		if v.name == OpenAI {
			ask = p.openAI
		}
		return ask(ctx, v, in, progress)
	}, func(out *research.Generation) *research.Usage { return &out.Usage }, func() error {
		if in.Grounded {
			return domain.E(domain.Unavailable, "provider_not_configured", "No language model that searches the web is configured: GEMINI_API_KEY is missing.")
		}
		return domain.E(domain.Unavailable, "provider_not_configured", "No language model is configured: GEMINI_API_KEY, or OPENAI_BASE_URL and OPENAI_MODEL, are missing.")
	})
}

// Search asks one engine through the first vendor that answers: Bright Data,
// then SearXNG; Linkup is an engine of its own.
func (p *Providers) Search(ctx context.Context, in research.SearchRequest) (research.SearchResponse, error) {
	vendors := p.configuredOf(BrightData, SearXNG)
	if in.Engine == Linkup {
		vendors = p.configuredOf(Linkup)
	}
	return inTurn(ctx, p, vendors, func(v *vendor) (research.SearchResponse, error) {
		ask := p.brightData
		switch v.name {
		case SearXNG:
			ask = p.searXNG
		case Linkup:
			ask = p.linkupSearch
		}
		return ask(ctx, v, in)
	}, func(out *research.SearchResponse) *research.Usage { return &out.Usage }, func() error {
		return domain.E(domain.Unavailable, "provider_not_configured", "No web search is configured: BRIGHT_DATA_API_KEY and BRIGHT_DATA_SERP_ZONE, or SEARXNG_URL, or LINKUP_API_KEY, are missing.")
	})
}

// Engines names those worth asking about a place in a language, the best first.
func (p *Providers) Engines(country, language string) []string {
	if len(p.configuredOf(BrightData, SearXNG)) == 0 {
		if p.vendors[Linkup] != nil {
			return []string{Linkup}
		}
		return nil
	}
	first := ""
	switch {
	case slices.Contains([]string{"CN", "HK", "TW", "MO"}, country) || language == "zh":
		first = "baidu"
	case slices.Contains([]string{"RU", "BY", "KZ", "UA", "KG", "TJ", "UZ", "AM"}, country) || slices.Contains([]string{"ru", "be", "uk", "kk"}, language):
		first = "yandex"
	default:
		return []string{"google", "bing", "duckduckgo"}
	}
	return []string{first, "google", "bing"}
}

// Profile asks Linkup.
func (p *Providers) Profile(ctx context.Context, in research.ProfileRequest) (research.ProfileResponse, error) {
	return inTurn(ctx, p, p.configuredOf(Linkup), func(v *vendor) (research.ProfileResponse, error) {
		return p.linkupProfile(ctx, v, in)
	}, func(out *research.ProfileResponse) *research.Usage { return &out.Usage }, func() error {
		return domain.E(domain.Unavailable, "provider_not_configured", "No profile service is configured: LINKUP_API_KEY is missing.")
	})
}

// inTurn asks vendors in order until one answers, or one says no for a reason
// that no other would lift. What the silent ones cost is added to the usage.
func inTurn[T any](ctx context.Context, p *Providers, vendors []*vendor, ask func(*vendor) (T, error), usageOf func(*T) *research.Usage, missing func() error) (out T, err error) {
	if len(vendors) == 0 {
		return out, missing()
	}
	var before research.Usage
	for i, v := range vendors {
		out, err = ask(v)
		usage := usageOf(&out)
		usage.Calls += before.Calls
		usage.InputTokens += before.InputTokens
		usage.OutputTokens += before.OutputTokens
		usage.CostMicros += before.CostMicros
		usage.Estimated = usage.Estimated || before.Estimated
		if err == nil || i == len(vendors)-1 || !elsewhere(err) {
			return out, err
		}
		p.log.WarnContext(ctx, "the next provider is asked", "failed", v.name, "next", vendors[i+1].name, "error", err)
		before = *usage
	}
	return out, err
}

func (p *Providers) metrics() {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "chainreactions_provider_" + name, Help: help}, labels)
		p.Registry.MustRegister(c)
		return c
	}
	p.calls = counter("calls_total", "Requests sent to vendors, retries included, by how they ended.", "provider", "reason")
	p.costs = counter("cost_micros_total", "What they cost, in millionths of a US dollar.", "provider")
	p.refusals = counter("budget_refusals_total", "Calls refused by the hourly or daily budget.", "provider")
	p.warnings = counter("budget_warnings_total", "Budgets that passed 80 %.", "provider")
	p.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "chainreactions_provider_seconds", Help: "How long one request took.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160}}, []string{"provider"})
	p.Registry.MustRegister(p.seconds)
}

var _ = domain.Chinese(map[string]string{
	"The caller went away.":                                                                              "调用方已断开。",
	"The provider %s refuses our key.":                                                                   "服务商 %s 拒绝了我们的密钥。",
	"The provider %s refuses this request.":                                                              "服务商 %s 拒绝了此请求。",
	"The provider %s gave an answer that cannot be read.":                                                "服务商 %s 的回答无法读取。",
	"The provider %s does not answer now.":                                                               "服务商 %s 暂时没有响应。",
	"The provider ledger cannot be written now.":                                                         "服务商账目暂时无法写入。",
	"The budget for the provider %s is used up for this %s.":                                             "服务商 %s 的预算在本周期（%s）内已用完。",
	"Your budget for the provider %s is used up for this %s.":                                            "贵方对服务商 %s 的预算在本周期（%s）内已用完。",
	"No language model that searches the web is configured: GEMINI_API_KEY is missing.":                  "未配置可搜索网络的语言模型：缺少 GEMINI_API_KEY。",
	"No language model is configured: GEMINI_API_KEY, or OPENAI_BASE_URL and OPENAI_MODEL, are missing.": "未配置语言模型：缺少 GEMINI_API_KEY，或 OPENAI_BASE_URL 与 OPENAI_MODEL。",
	"No web search is configured: BRIGHT_DATA_API_KEY and BRIGHT_DATA_SERP_ZONE, or SEARXNG_URL, or LINKUP_API_KEY, are missing.": "未配置网络搜索：缺少 BRIGHT_DATA_API_KEY 与 BRIGHT_DATA_SERP_ZONE，或 SEARXNG_URL，或 LINKUP_API_KEY。",
	"No profile service is configured: LINKUP_API_KEY is missing.":                                                                "未配置机构画像服务：缺少 LINKUP_API_KEY。",
})
