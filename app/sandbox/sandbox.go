// Package sandbox is emulators of every vendor that research asks, on the
// vendors' own wire contracts (Gemini, OpenAI-compatible chat, Bright Data,
// SearXNG, Linkup), and of the web itself, over an invented world whose truth is
// known (corpus.yaml). With it the product works without a key, every answer
// then marked as the sandbox's, and a run's findings can be measured against
// what is true.
//
// All of it is one listener on the loopback:
//
//	/gemini/v1beta/models/{model}:generateContent   and :streamGenerateContent, :countTokens
//	/openai/v1/chat/completions
//	/brightdata/request
//	/searxng/search
//	/linkup/v1/search, /fetch, /credits/balance
//	anything with the Host of an invented site      that site's page
//	/control/…                                       calls, faults, settings, truth
//
// The emulated model is a reader of the world, not of language: it finds the
// true quotes in the passages that it is given and reports them, and invents
// others at a rate that is set, the same ones each time. Faults happen by a
// schedule, or by the X-Sandbox-Fault header of a request. It was written from
// the vendors' documentation and not from our clients; the official Gemini SDK
// holds it to that in a test.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Vendors that are emulated, as paths and in Calls.
const (
	Gemini     = "gemini"
	OpenAI     = "openai"
	BrightData = "brightdata"
	SearXNG    = "searxng"
	Linkup     = "linkup"
	Web        = "web"
	Robots     = "robots" // the robots.txt of the web's sites: asked for ever so often, and in no list of calls
)

// Config is all optional.
type Config struct {
	Addr     string // to listen on; "" is a free port of the loopback
	Settings Settings
	Logger   *slog.Logger
	// Gate holds a request before it is taken in; what it does not let through was
	// never made. nil lets all through.
	Gate func(r *http.Request, vendor, operation string) bool
}

// Settings may be changed while it runs.
type Settings struct {
	Seed      uint64  `json:"seed"`
	ErrorRate float64 `json:"error_rate"` // share of the model's quotes and URLs that are invented, 0 to 0.9
	Obedient  bool    `json:"obedient"`   // the model does what a hostile page tells it
	LatencyMS int     `json:"latency_ms"` // before every answer
	Spread    float64 `json:"spread"`     // of the latency, 0 to 1: by so much of it an answer is sooner or later
}

// Place is where emulators run: here, or in another process.
type Place struct {
	address string // host:port
	world   *corpus
}

// At is the sandbox that another process serves at an address, host:port.
func At(address string) Place { return Place{address, loadCorpus()} }

// URL is where a vendor's client is to be pointed.
func (p Place) URL(vendor string) string {
	base := "http://" + p.address + "/" + vendor
	if vendor == OpenAI || vendor == Linkup {
		base += "/v1"
	}
	return base
}

// GroundingHost is where Gemini's links to its sources lead from.
const GroundingHost = "vertexaisearch.cloud.google.com"

// Host gives the address that stands in for a host of the invented web.
func (p Place) Host(host string) (address string, ok bool) {
	if p.world.hosts[host] || host == GroundingHost {
		return p.address, true
	}
	return "", false
}

// Sandbox is the running emulators.
type Sandbox struct {
	Place
	log    *slog.Logger
	server *http.Server
	gate   func(r *http.Request, vendor, operation string) bool

	mu       sync.Mutex
	settings Settings
	faults   []*Fault
	calls    []Call
	n        int // of the last call
	invented map[string]bool
}

// Call is one request that an emulator got.
type Call struct {
	N         int       `json:"n"`
	Vendor    string    `json:"vendor"`
	Operation string    `json:"operation"` // generateContent/integrate, search/google, search/profile, a page's address
	Key       string    `json:"key,omitempty"`
	Body      string    `json:"body,omitempty"`
	Fault     string    `json:"fault,omitempty"`
	Status    int       `json:"status"`
	Billed    bool      `json:"billed"` // as the vendor would
	At        time.Time `json:"at"`
}

// Start listens and serves until Close.
func Start(c Config) (*Sandbox, error) {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	s := &Sandbox{Place: At(l.Addr().String()), log: c.Logger, gate: c.Gate, settings: c.Settings, invented: map[string]bool{}}
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }() // ends with Close
	return s, nil
}

// Close stops it, and cuts what is under way.
func (s *Sandbox) Close() error { return s.server.Close() }

// Truth is the invented world.
func (s *Sandbox) Truth() Truth { return s.world.Truth }

// What is kept of a server that runs for weeks.
const (
	keptCalls  = 20_000
	keptBodies = 1_000
)

// Calls is every request so far, the last 20,000 of them; bodies of the last
// thousand.
func (s *Sandbox) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Invented reports whether the model made up this quote or address itself.
func (s *Sandbox) Invented(quoteOrURL string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.invented[quoteOrURL]
}

func (s *Sandbox) invent(quoteOrURL string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.invented) > keptCalls {
		clear(s.invented)
	}
	s.invented[quoteOrURL] = true
	return quoteOrURL
}

// Set changes the settings.
func (s *Sandbox) Set(settings Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = settings
}

func (s *Sandbox) now() Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

// Reset forgets faults, calls and inventions.
func (s *Sandbox) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.calls, s.invented = nil, nil, map[string]bool{}
}

// Fault is something that goes wrong. The first fault whose Vendor and
// Operation match a request ("" matches any; Operation is a prefix) and that
// has not been used up happens to it.
type Fault struct {
	Vendor    string  `json:"vendor,omitempty"`
	Operation string  `json:"operation,omitempty"`
	Kind      string  `json:"kind"` // one of Kinds
	Skip      int     `json:"skip,omitempty"`
	Times     int     `json:"times,omitempty"`    // 0 is for ever
	Share     float64 `json:"share,omitempty"`    // of the matching requests, by seed and number; 0 is all
	AfterMS   int     `json:"after_ms,omitempty"` // of latency, or what Retry-After says
	seen      int     // matching requests so far
}

// kinds of faults, and the vendors that they can happen to; nil is all.
var kinds = []struct {
	name    string
	vendors []string
}{
	{"latency", nil}, {"hang", nil}, {"429", nil}, {"500", nil}, {"503", nil}, {"reset", nil}, {"cut", nil}, {"malformed", nil}, {"wrong_types", nil}, {"empty_body", nil}, {"html", nil},
	{"key", nil},                            // the key is refused in the vendor's own way
	{"quota", nil},                          // its quota or funds are spent
	{"cut_clean", []string{Gemini, OpenAI}}, // a stream that ends early without an error
	{"empty", []string{Gemini, OpenAI}},     // STOP and no text
	{"thoughts", []string{Gemini}},          // thoughts and no text
	{"truncated", []string{Gemini, OpenAI}}, // the output limit
	{"blocked", []string{Gemini, OpenAI}},   // the prompt is blocked; openai: content_filter
	{"safety", []string{Gemini}},            // the answer is blocked
	{"stream_error", []string{Gemini}},      // an error in the middle of a stream
	{"bare", []string{Gemini}},              // a grounded answer without grounding
	{"url_skipped", []string{Gemini}},       // it opens none of the pages that it was given, and says nothing
	{"url_error", []string{Gemini}},         // it could open none of them
	{"url_paywall", []string{Gemini}},
	{"url_unsafe", []string{Gemini}},
	{"url_stray", []string{Gemini}},                      // it opens another one too
	{"captcha", []string{BrightData}},                    // the engine's captcha
	{"inner_503", []string{BrightData}},                  // an error inside a 200
	{"repeat", []string{BrightData}},                     // the same query too soon after a failure
	{"no_result", []string{BrightData, SearXNG, Linkup}}, // nothing is found
	{"unresponsive", []string{SearXNG}},                  // the engine did not answer
	{"huge", []string{Web}}, {"bomb", []string{Web}}, {"binary", []string{Web}}, {"slow", []string{Web}},
	{"redirect_loop", []string{Web, Robots}}, {"redirect_inside", []string{Web, Robots}},
	{"pdf_broken", []string{Web}}, {"pdf_huge", []string{Web}}, {"pdf_slow", []string{Web}}, // it takes for ever to read
	{"disallow", []string{Robots}}, // robots may read nothing
}

// Kinds names the kinds of faults that can happen to a vendor; "" is any.
func Kinds(vendor string) (out []string) {
	for _, k := range kinds {
		if vendor == "" || k.vendors == nil || slices.Contains(k.vendors, vendor) {
			out = append(out, k.name)
		}
	}
	return out
}

// Fault adds one.
func (s *Sandbox) Fault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal removes all faults.
func (s *Sandbox) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// faultFor decides what happens to a request.
func (s *Sandbox) faultFor(vendor, operation, header string) (f Fault) {
	if header != "" {
		return Fault{Kind: header}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Vendor != "" && f.Vendor != vendor || vendor == Robots && f.Vendor != Robots || !strings.HasPrefix(operation, f.Operation) {
			continue
		}
		f.seen++
		n := f.seen - f.Skip
		if n <= 0 || f.Times > 0 && n > f.Times || f.Share > 0 && chance(s.settings.Seed, "fault", f.Kind, vendor, strconv.Itoa(f.seen)) >= f.Share {
			continue
		}
		return *f
	}
	return f
}

// reply is an answer before a fault is done to it.
type reply struct {
	status int
	header http.Header
	body   []byte
	events [][]byte // a stream of server-sent events in place of body
	billed bool
}

func (s *Sandbox) serve(w http.ResponseWriter, r *http.Request) {
	vendor, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	host, _, _ := strings.Cut(r.Host, ":")
	if _, emulated := s.Host(host); emulated && r.URL.Path == "/robots.txt" {
		f := s.faultFor(Robots, "https://"+host+r.URL.Path, "")
		if pause(r.Context(), f.delay()) {
			send(w, s.robots(host, f), f)
		}
		return
	} else if emulated {
		s.handle(w, r, Web, "https://"+host+r.URL.RequestURI(), "", s.web)
		return
	}
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch vendor {
	case Gemini:
		_, operation, _ := strings.Cut(rest, ":")
		s.handle(w, r, Gemini, operation, r.Header.Get("x-goog-api-key"), s.gemini)
	case OpenAI:
		s.handle(w, r, OpenAI, "chat", bearer, s.openAI)
	case BrightData:
		s.handle(w, r, BrightData, "search", bearer, s.brightData)
	case SearXNG:
		s.handle(w, r, SearXNG, "search", "", s.searXNG)
	case Linkup:
		s.handle(w, r, Linkup, strings.TrimPrefix(rest, "v1/"), bearer, s.linkup)
	case "control":
		s.control(w, r, rest)
	default:
		http.Error(w, "the sandbox emulates /gemini, /openai, /brightdata, /searxng, /linkup and the web of its corpus", http.StatusNotFound)
	}
}

type handler func(r *http.Request, body []byte, f Fault) reply

func (s *Sandbox) handle(w http.ResponseWriter, r *http.Request, vendor, operation, key string, h handler) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		return
	}
	switch vendor {
	case BrightData:
		operation = "search/" + engineOf(body)
	case SearXNG:
		operation = "search/" + searXNGQuery(r, body).Get("engines")
	case Gemini, OpenAI, Linkup:
		if task := taskOf(body); task != "" {
			operation += "/" + task
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if s.gate != nil && !s.gate(r, vendor, operation) {
		panic(http.ErrAbortHandler)
	}
	f := s.faultFor(vendor, operation, r.Header.Get("X-Sandbox-Fault"))
	s.mu.Lock()
	if len(s.calls) >= keptCalls {
		s.calls = slices.Clone(s.calls[keptCalls/2:])
	}
	s.n++
	n := s.n
	s.calls = append(s.calls, Call{N: n, Vendor: vendor, Operation: operation, Key: key, Body: string(body), Fault: f.Kind, At: time.Now()})
	if old := len(s.calls) - keptBodies - 1; old >= 0 {
		s.calls[old].Body = ""
	}
	latency := time.Duration(s.settings.LatencyMS) * time.Millisecond
	latency += time.Duration(float64(latency) * s.settings.Spread * (2*chance(s.settings.Seed, "latency", strconv.Itoa(n)) - 1))
	s.mu.Unlock()
	if !pause(r.Context(), latency+f.delay()) {
		return
	}
	out := h(r, body, f)
	s.mu.Lock()
	if len(s.calls) > 0 {
		if at := n - s.calls[0].N; at >= 0 && at < len(s.calls) { // neither reset nor forgotten meanwhile
			s.calls[at].Status, s.calls[at].Billed = out.status, out.billed
		}
	}
	s.mu.Unlock()
	send(w, out, f)
}

// delay is how much later an answer comes.
func (f Fault) delay() time.Duration {
	switch f.Kind {
	case "latency", "slow":
		return time.Duration(max(f.AfterMS, 1)) * time.Millisecond
	case "hang":
		return 24 * time.Hour
	}
	return 0
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// send writes a reply, and what the fault makes of it.
func send(w http.ResponseWriter, out reply, f Fault) {
	for name, values := range out.header {
		w.Header()[name] = values
	}
	switch f.Kind {
	case "reset":
		panic(http.ErrAbortHandler)
	case "empty_body":
		out.body, out.events = nil, nil
	case "html":
		w.Header().Set("Content-Type", "text/html")
		out.body, out.events = []byte("<html><body><h1>Welcome to nginx!</h1></body></html>"), nil
	case "malformed":
		if out.events != nil {
			last := len(out.events) / 2
			out.events = append(out.events[:last:last], []byte(`{"candidates": [{"content": {"parts": [{"te`))
		} else {
			out.body = out.body[:len(out.body)/2]
		}
	case "wrong_types":
		out.body = retyped(out.body)
		for i := range out.events {
			out.events[i] = retyped(out.events[i])
		}
	case "cut_clean":
		if n := len(out.events); n > 0 {
			out.events = out.events[:n/2]
		}
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	if out.events == nil {
		w.Header().Set("Content-Length", strconv.Itoa(len(out.body)))
		w.WriteHeader(out.status)
		if f.Kind == "cut" {
			_, _ = w.Write(out.body[:len(out.body)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(out.body)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(out.status)
	for i, e := range out.events {
		if f.Kind == "cut" && i == len(out.events)/2 {
			_, _ = fmt.Fprintf(w, "data: %s", e[:len(e)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = fmt.Fprintf(w, "data: %s\r\n\r\n", e)
		_ = http.NewResponseController(w).Flush()
	}
}

// retyped gives JSON in which lists are words and words are numbers.
func retyped(raw []byte) []byte {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return raw
	}
	var change func(v any, depth int) any
	change = func(v any, depth int) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				v[k] = change(v[k], depth+1)
			}
			return v
		case []any:
			return "a list was here"
		case string:
			return 7
		}
		return v
	}
	out, _ := json.Marshal(change(v, 0))
	return out
}

// jsonReply makes a reply of a value.
func jsonReply(status int, v any) reply {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // our own structs
	}
	return reply{status: status, body: bytes.TrimSpace(b.Bytes()), billed: status == 200}
}

// control is for tests in other processes.
func (s *Sandbox) control(w http.ResponseWriter, r *http.Request, what string) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	refuse := func(err error) { http.Error(w, err.Error(), http.StatusBadRequest) }
	switch r.Method + " " + what {
	case "GET calls":
		answer(s.Calls())
	case "GET truth":
		answer(s.Truth())
	case "GET settings":
		answer(s.now())
	case "PUT settings":
		in := s.now()
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(err)
			return
		}
		s.Set(in)
		answer(in)
	case "POST faults":
		var f Fault
		if err := json.NewDecoder(r.Body).Decode(&f); err != nil || !slices.Contains(Kinds(""), f.Kind) {
			refuse(fmt.Errorf("want a fault whose kind is one of %v", Kinds("")))
			return
		}
		s.Fault(f)
		answer(f)
	case "DELETE faults":
		s.Heal()
	case "POST reset":
		s.Reset()
	default:
		http.Error(w, "control has GET calls, GET truth, GET and PUT settings, POST and DELETE faults, POST reset", http.StatusNotFound)
	}
}
