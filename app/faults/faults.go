// Package faults hides how a fault of ours reaches those who mend it: what the
// log says as an error is sent, with its stack and grouped with its like, to
// whatever speaks Sentry's protocol. The protocol is one POST; its own client
// brings a second idea of scopes, sampling and what to send, of which nothing may
// be sent here, and 6 seconds of compiling.
//
// What is sent names code, routes and kinds. It holds no values: whatever stands
// in quotes in the text of an error, and every address, id and number, is left out.
package faults

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Config says where to.
type Config struct {
	DSN         string // https://key@host/project
	Version     string
	Environment string
	Now         func() time.Time // nil is time.Now
}

// Reporter sends faults, one after the other. The work that had one never waits.
type Reporter struct {
	Config
	url, key string
	client   *http.Client
	queue    chan event
	done     chan struct{}

	mu     sync.Mutex
	closed bool
	told   map[string]time.Time // by group
	rests  time.Time            // until when we were asked to be quiet
}

const (
	room  = 100         // faults that wait; more are in the log alone
	again = time.Minute // between two of one group
)

// Read gives the address that a DSN names, and the key for it.
func Read(dsn string) (address, key string, err error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User.Username() == "" {
		return "", "", errors.New("faults: the DSN is not https://key@host/project")
	}
	at := strings.LastIndex(u.Path, "/")
	if at < 0 || at == len(u.Path)-1 {
		return "", "", errors.New("faults: the DSN names no project")
	}
	return u.Scheme + "://" + u.Host + u.Path[:at] + "/api" + u.Path[at:] + "/envelope/", u.User.Username(), nil
}

// New makes a Reporter, or nil where there is no DSN.
func New(c Config) (*Reporter, error) {
	if c.DSN == "" {
		return nil, nil
	}
	address, key, err := Read(c.DSN)
	if err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Reporter{Config: c, url: address, key: key,
		client: &http.Client{Timeout: 5 * time.Second}, queue: make(chan event, room), done: make(chan struct{}), told: map[string]time.Time{}}
	go func() {
		defer close(r.done)
		for e := range r.queue {
			r.send(e)
		}
	}()
	return r, nil
}

// Close sends what waits.
func (r *Reporter) Close(ctx context.Context) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Panic is what was recovered, and where it began.
type Panic struct {
	Value any
	calls []uintptr
}

// Recovered makes it; it is for the function that recovers.
func Recovered(value any) *Panic {
	calls := make([]uintptr, 64)
	return &Panic{value, calls[:runtime.Callers(3, calls)]} // without this, the deferred function and the panic itself
}

func (p *Panic) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "panic: %v", p.Value)
	for _, f := range frames(p.calls) {
		fmt.Fprintf(&b, "\n%s %s:%d", f.Function, f.File, f.Line)
	}
	return b.String()
}

// Logs has every error that is written to the log sent too.
func (r *Reporter) Logs(h slog.Handler) slog.Handler {
	if r == nil {
		return h
	}
	return reporting{h, r}
}

type reporting struct {
	slog.Handler
	r *Reporter
}

func (h reporting) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelError {
		h.r.report(ctx, rec)
	}
	return h.Handler.Handle(ctx, rec)
}

func (h reporting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return reporting{h.Handler.WithAttrs(attrs), h.r}
}

func (h reporting) WithGroup(name string) slog.Handler {
	return reporting{h.Handler.WithGroup(name), h.r}
}

// The event of Sentry's protocol, as far as it is used.
type (
	frame struct {
		Function string `json:"function"`
		Module   string `json:"module,omitempty"`
		File     string `json:"filename"`
		Line     int    `json:"lineno"`
		Ours     bool   `json:"in_app"`
	}
	stack struct {
		Frames []frame `json:"frames"` // the oldest call first
	}
	exception struct {
		Type  string `json:"type"`
		Value string `json:"value"`
		Stack stack  `json:"stacktrace"`
	}
	exceptions struct {
		Values []exception `json:"values"`
	}
	event struct {
		ID          string                       `json:"event_id"`
		At          string                       `json:"timestamp"`
		Platform    string                       `json:"platform"`
		Level       string                       `json:"level"`
		Release     string                       `json:"release,omitempty"`
		Environment string                       `json:"environment,omitempty"`
		Transaction string                       `json:"transaction,omitempty"`
		Tags        map[string]string            `json:"tags,omitempty"`
		Contexts    map[string]map[string]string `json:"contexts,omitempty"`
		Exception   exceptions                   `json:"exception"`
		Group       []string                     `json:"fingerprint"`
	}
)

// tags are the attributes of a line that say where, and nothing of whom.
var tags = []string{"method", "route", "status", "code", "request_id", "job", "attempt", "provider", "operation", "reason", "rule", "subject", "dependency", "channel"}

func (r *Reporter) report(ctx context.Context, rec slog.Record) {
	e := event{Platform: "go", Level: "error", Release: r.Version, Environment: r.Environment, Tags: map[string]string{}}
	var cause error
	rec.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && cause == nil {
			cause = err
		} else if slices.Contains(tags, a.Key) {
			e.Tags[a.Key] = a.Value.String()
		}
		return true
	})
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		e.Contexts = map[string]map[string]string{"trace": {"trace_id": s.TraceID().String(), "span_id": s.SpanID().String()}}
	}
	e.Transaction = strings.TrimSpace(e.Tags["method"] + " " + e.Tags["route"] + e.Tags["job"])
	calls := make([]uintptr, 64)
	calls = calls[:runtime.Callers(5, calls)] // from who wrote the line
	x := exception{Type: rec.Message, Value: rec.Message}
	if cause != nil {
		x.Type, x.Value = kindOf(cause), scrub(cause.Error())
		var p *Panic
		if errors.As(cause, &p) {
			calls = p.calls
			x.Type, x.Value = "panic", scrub(fmt.Sprint(p.Value))
		}
	}
	x.Stack.Frames = frames(calls)
	slices.Reverse(x.Stack.Frames)
	e.Exception.Values = []exception{x}
	e.Group = []string{rec.Message, e.Transaction, x.Type, x.Value, where(x.Stack.Frames)}

	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Now()
	group := strings.Join(e.Group, "\x00")
	if last, ok := r.told[group]; r.closed || now.Before(r.rests) || ok && now.Sub(last) < again {
		return
	}
	if len(r.told) > 1000 {
		clear(r.told)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	e.ID, e.At = hex.EncodeToString(id), now.UTC().Format(time.RFC3339Nano)
	select {
	case r.queue <- e:
		r.told[group] = now
	default:
	}
}

// kindOf is the type of the innermost error.
func kindOf(err error) string {
	for {
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			if inner := x.Unwrap(); inner != nil {
				err = inner
				continue
			}
		case interface{ Unwrap() []error }:
			if inner := x.Unwrap(); len(inner) > 0 {
				err = inner[0]
				continue
			}
		}
		return fmt.Sprintf("%T", err)
	}
}

var values = regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`|\\S+@\\S+|[a-z]+://\\S+|\\b[a-z]{2,4}_[0-9a-zA-Z_]{8,}\\b|\\d+")

// scrub leaves out whatever may be somebody's, and makes equal what differs in
// such alone.
func scrub(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	text = values.ReplaceAllString(text, "…")
	if r := []rune(text); len(r) > 300 {
		text = string(r[:300])
	}
	return text
}

const ours = "github.com/chainreactions/"

func frames(calls []uintptr) (out []frame) {
	if len(calls) == 0 {
		return nil
	}
	for list := runtime.CallersFrames(calls); ; {
		f, more := list.Next()
		module, function := "", f.Function
		if at := strings.LastIndex(function, "/"); at >= 0 {
			if dot := strings.Index(function[at:], "."); dot >= 0 {
				module, function = function[:at+dot], function[at+dot+1:]
			}
		} else if m, fn, ok := strings.Cut(function, "."); ok {
			module, function = m, fn
		}
		file := f.File
		if at := strings.LastIndex(file, "/"); at >= 0 {
			if before := strings.LastIndex(file[:at], "/"); before >= 0 {
				file = file[before+1:] // no folder of the machine that built it
			}
		}
		out = append(out, frame{function, module, file, f.Line, strings.HasPrefix(module, ours) || module == "main"})
		if !more {
			return out
		}
	}
}

// where is the innermost function of ours.
func where(oldestFirst []frame) string {
	for _, f := range slices.Backward(oldestFirst) {
		if f.Ours {
			return f.Module + "." + f.Function
		}
	}
	return ""
}

// send posts one event. What cannot be told is in the log.
func (r *Reporter) send(e event) {
	body, err := json.Marshal(e)
	if err != nil {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"event_id\":%q,\"sent_at\":%q}\n{\"type\":\"event\",\"length\":%d}\n", e.ID, r.Now().UTC().Format(time.RFC3339Nano), len(body))
	b.Write(body)
	b.WriteByte('\n')
	req, err := http.NewRequest(http.MethodPost, r.url, &b)
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/x-sentry-envelope")
	req.Header.Set("X-Sentry-Auth", "Sentry sentry_version=7, sentry_client=chainreactions/"+r.Version+", sentry_key="+r.key)
	resp, err := r.client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode == http.StatusTooManyRequests {
		wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil || wait <= 0 {
			wait = 60
		}
		r.mu.Lock()
		r.rests = r.Now().Add(time.Duration(min(wait, 3600)) * time.Second)
		r.mu.Unlock()
	}
}
