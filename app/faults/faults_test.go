package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// rig is a receiver of envelopes and a log that reports to it.
type rig struct {
	mu     sync.Mutex
	events []event
	raw    string
	refuse bool
	now    time.Time
	r      *Reporter
	log    *slog.Logger
}

func newRig(t *testing.T) *rig {
	g := &rig{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		lines := bufio.NewReader(req.Body)
		head, _ := lines.ReadString('\n')
		item, _ := lines.ReadString('\n')
		body, err := io.ReadAll(lines)
		var h, i struct {
			ID     string `json:"event_id"`
			Type   string
			Length int
		}
		var e event
		if err != nil || req.URL.Path != "/base/api/42/envelope/" || !strings.Contains(req.Header.Get("X-Sentry-Auth"), "sentry_key=public") ||
			json.Unmarshal([]byte(head), &h) != nil || json.Unmarshal([]byte(item), &i) != nil || json.Unmarshal(body, &e) != nil ||
			i.Type != "event" || i.Length != len(body)-1 || h.ID != e.ID || len(e.ID) != 32 {
			t.Errorf("%s %v\n%s%s%s", req.URL, req.Header, head, item, body)
		}
		g.events, g.raw = append(g.events, e), g.raw+string(body)
		if g.refuse {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(s.Close)
	var err error
	g.r, err = New(Config{DSN: strings.Replace(s.URL, "://", "://public@", 1) + "/base/42", Version: "1.2.3", Environment: "test", Now: func() time.Time {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.now
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.log = slog.New(g.r.Logs(slog.NewTextHandler(io.Discard, nil))).With("process", 1)
	return g
}

// sent is what has come, once all is sent.
func (g *rig) sent(t *testing.T) []event {
	if err := g.r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.events
}

type oddly struct{ of string }

func (o oddly) Error() string { return fmt.Sprintf("row %q of jane@example.org is odd at 17", o.of) }

// An error of the log arrives once with its like, with the stack of who had it,
// and with nobody's data; what is no error does not.
func TestReports(t *testing.T) {
	g := newRig(t)
	for _, name := range []string{"Jane Doe", "John Roe"} {
		g.log.ErrorContext(context.Background(), "request", "method", "GET", "route", "/api/v1/things/{id}", "tenant", "ten_06h1ahzty5y01e3redpxm4pbyw", "error", fmt.Errorf("read: %w", oddly{name}))
	}
	g.log.Warn("request", "error", errors.New("not ours"))
	events := g.sent(t)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	e, x := events[0], events[0].Exception.Values[0]
	if x.Type != "faults.oddly" || x.Value != "read: row … of … is odd at …" || e.Transaction != "GET /api/v1/things/{id}" || e.Release != "1.2.3" || e.Environment != "test" {
		t.Errorf("%+v", e)
	}
	for _, private := range []string{"Jane", "example.org", "ten_", "17"} {
		if strings.Contains(g.raw, private) && private != "17" || strings.Contains(x.Value, private) {
			t.Errorf("it holds %q", private)
		}
	}
	if last := x.Stack.Frames[len(x.Stack.Frames)-1]; last.Function != "TestReports" || !last.Ours || last.File != "faults/faults_test.go" {
		t.Errorf("the stack ends at %+v", last)
	}
}

// A panic is told where it began, not where it was caught.
func TestPanics(t *testing.T) {
	g := newRig(t)
	func() {
		defer func() { g.log.Error("request", "error", error(Recovered(recover()))) }()
		explode(nil)
	}()
	x := g.sent(t)[0].Exception.Values[0]
	var names []string
	for _, f := range x.Stack.Frames {
		if f.Ours {
			names = append(names, f.Function)
		}
	}
	if x.Type != "panic" || len(names) == 0 || names[len(names)-1] != "explode" {
		t.Errorf("%s %q in %v", x.Type, x.Value, names)
	}
}

//go:noinline
func explode(m map[string]int) { m["x"] = 1 }

// Who is asked to be quiet is, and speaks again after; one kind of fault is told
// once a minute.
func TestQuiet(t *testing.T) {
	g := newRig(t)
	g.refuse = true
	come := func(n int) {
		t.Helper()
		for limit := time.After(30 * time.Second); ; {
			g.r.mu.Lock()
			rests := !g.r.rests.IsZero()
			g.r.mu.Unlock()
			g.mu.Lock()
			got := len(g.events)
			g.mu.Unlock()
			if got == n && rests {
				return
			}
			select {
			case <-limit:
				t.Fatalf("%d events", got)
			case <-time.After(time.Millisecond):
			}
		}
	}
	later := func(d time.Duration) { g.mu.Lock(); g.now = g.now.Add(d); g.mu.Unlock() }
	g.log.Error("one")
	come(1)
	later(time.Minute)
	g.log.Error("two")
	later(2 * time.Minute)
	g.mu.Lock()
	g.refuse = false
	g.mu.Unlock()
	g.log.Error("three")
	g.log.Error("three")
	later(time.Minute)
	g.log.Error("three")
	events := g.sent(t)
	var said []string
	for _, e := range events {
		said = append(said, e.Exception.Values[0].Type)
	}
	if strings.Join(said, " ") != "one three three" {
		t.Error(said)
	}
	g.log.Error("four") // after the end it is in the log alone
}

// A DSN that names no key or no project is refused; none is none.
func TestDSN(t *testing.T) {
	for _, dsn := range []string{"x", "https://host/1", "https://key@host", "https://key@host/", "ftp://key@host/1"} {
		if r, err := New(Config{DSN: dsn}); err == nil || r != nil {
			t.Errorf("%q passes", dsn)
		}
	}
	var none *Reporter
	if r, err := New(Config{}); r != none || err != nil || none.Close(t.Context()) != nil || none.Logs(slog.DiscardHandler) != slog.DiscardHandler {
		t.Error("none is not none")
	}
}
