package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Only who has the key of the installation can say whom a request is from: not
// with a MAC of another key, of another request or of yesterday.
func TestWhoVouches(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ours := &API{peerKey: sha256.Sum256([]byte("ours")), now: func() time.Time { return now }}
	theirs := &API{peerKey: sha256.Sum256([]byte("theirs"))}
	app := fiber.New()
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString(ours.clientIP(c)) })
	said := ours.vouch("203.0.113.7", "req_1", now)
	for name, c := range map[string]struct {
		header, id string
		believed   bool
	}{
		"ours":               {said, "req_1", true},
		"another request's":  {said, "req_2", false},
		"another address":    {strings.Replace(said, "203.0.113.7", "203.0.113.8", 1), "req_1", false},
		"another key":        {theirs.vouch("203.0.113.7", "req_1", now), "req_1", false},
		"an old one":         {ours.vouch("203.0.113.7", "req_1", now.Add(-time.Hour)), "req_1", false},
		"no MAC":             {"203.0.113.7 1 ", "req_1", false},
		"nonsense":           {"203.0.113.7", "req_1", false},
		"nobody said a word": {"", "req_1", false},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("X-Request-Id", c.id)
		req.Header.Set("X-Forwarded-For", "203.0.113.9") // from no trusted proxy
		req.Header.Set(clientHeader, c.header)
		res, err := app.Test(req)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		n, _ := res.Body.Read(b)
		if got := string(b[:n]); (got == "203.0.113.7") != c.believed || got == "203.0.113.9" {
			t.Errorf("%s: the caller is %s", name, got)
		}
	}
}

// crew is a gateway before processes that the test plays.
type crew struct {
	t    *testing.T
	base string
	mu   sync.Mutex
	list []string // that are named
	told []string // codes of answers
	api  *API
}

// newCrew serves rows of one role under /api/v1, with less patience than is
// ordinary and what else is set.
func newCrew(t *testing.T, set func(c *crew, p *pace, s *Split)) *crew {
	quick := ordinary
	quick.look, quick.other, quick.doubt, quick.silence, quick.stall = 10*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	quick.head = func(r *Row) time.Duration { return min(timeoutOf(r), 500*time.Millisecond) }
	quick.remember, quick.sick = time.Hour, time.Hour
	c := &crew{t: t}
	type nothing struct{}
	row := func(method, path string, h Handler) Row {
		return Row{Method: method, Path: apiBase + path, Call: h, Credential: Public, Permission: None, Feature: None, Class: "open", Meter: None, Audit: None, Role: "main", Summary: "x"}
	}
	call := Call("x", func(context.Context, nothing) (nothing, error) { panic("a gateway serves it itself") })
	split := Split{Serves: func(string) bool { return false }, Members: c.named, pace: &quick}
	if set != nil {
		set(c, &quick, &split)
	}
	var err error
	c.api, err = New(Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Class: func(string) bool { return true }, Split: split,
		Observe: func(_ Row, _ int, code string, _ time.Duration) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.told = append(c.told, code)
		},
		Rows: []Row{row("GET", "/it", call), row("POST", "/it", call), row("PUT", "/it", call), row("DELETE", "/it", call), row("GET", "/other", call),
			row("POST", "/files", TakeFile("y", Sheets, func(context.Context, nothing, Upload) (nothing, error) { panic("here") })),
			row("GET", "/stream", Stream("z", func(context.Context, nothing) (nothing, error) { panic("here") }, func(context.Context, nothing, Sink) error { panic("here") }))}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.base = "http://" + l.Addr().String() + apiBase
	go func() { _ = c.api.Serve(l) }()
	t.Cleanup(func() { _ = c.api.Shutdown(context.Background()) })
	return c
}

func (c *crew) named(string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

func (c *crew) name(list ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = list
}

// joins adds a process that answers looks, and calls as said.
func (c *crew) joins(answer http.HandlerFunc) (address string, calls *atomic.Int64) {
	calls = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, apiBase) {
			calls.Add(1)
			answer(w, r)
		}
	}))
	c.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	address = s.Listener.Addr().String()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, address)
	return address, calls
}

// call gives a status and a body; 0 is an answer that broke off.
func (c *crew) call(method, path string, header ...string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.base+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.1", rand.IntN(256), rand.IntN(256))) // else an address has its limit
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if res.StatusCode == 503 && res.Header.Get("Retry-After") == "" {
		c.t.Errorf("503 without Retry-After: %s", body)
	}
	if err != nil {
		return 0, string(body)
	}
	return res.StatusCode, string(body)
}

// until polls what looks find out, which have their own pace.
func (c *crew) until(what string, ok func() bool) {
	c.t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			c.t.Fatal("not within a minute: " + what)
		}
	}
}

func fine(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }

func breaksOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// A call that may have been begun is made again elsewhere where that is the same
// as once, and only there; one that cannot have been begun always is.
func TestWhatIsRepeated(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method string
		header []string
		again  bool
	}{{"GET", nil, true}, {"PUT", nil, true}, {"DELETE", nil, true}, {"POST", nil, false}, {"POST", []string{"Idempotency-Key", "k"}, true}} {
		c := newCrew(t, nil)
		_, first := c.joins(breaksOff)
		for first.Load() == 0 { // there is nobody else yet
			if status, _ := c.call(test.method, "/it", test.header...); status != 503 {
				t.Errorf("%s: %d of a process that breaks off", test.method, status)
			}
		}
		_, second := c.joins(fine)
		for tries := 0; ; tries++ { // until the first was asked first
			before := first.Load()
			status, body := c.call(test.method, "/it", test.header...)
			if first.Load() == before {
				continue
			}
			if asked := second.Load() > int64(tries); (status == 200) != test.again || asked != test.again {
				t.Errorf("%s %v: %d %s, asked again %v, may be %v", test.method, test.header, status, body, asked, test.again)
			}
			break
		}
		dead, _ := net.Listen("tcp", "127.0.0.1:0")
		dead.Close()
		c.name(dead.Addr().String(), c.list[1])
		for range 20 {
			if status, body := c.call(test.method, "/it", test.header...); status != 200 {
				t.Errorf("%s with one of two dead: %d %s", test.method, status, body)
			}
		}
	}
}

// The least busy process gets the next call.
func TestLeastBusyIsAsked(t *testing.T) {
	c := newCrew(t, func(_ *crew, p *pace, _ *Split) { p.head = timeoutOf })
	end := make(chan struct{})
	_, first := c.joins(func(w http.ResponseWriter, r *http.Request) { <-end; fine(w, r) })
	var slow sync.WaitGroup
	slow.Go(func() { c.call("POST", "/it") })
	c.until("it is asked", func() bool { return first.Load() == 1 })
	_, second := c.joins(fine)
	for range 20 {
		if status, _ := c.call("POST", "/it"); status != 200 {
			t.Errorf("%d", status)
		}
	}
	close(end)
	slow.Wait()
	if first.Load() != 1 || second.Load() != 20 {
		t.Errorf("a busy one was asked %d times, an idle one %d", first.Load(), second.Load())
	}
}

// A process that takes connections and answers nothing (it is stopped, or its
// machine hangs) is asked last, then no more; who waits for it goes elsewhere, or
// is told to come again; it is back by itself.
func TestSilentProcess(t *testing.T) {
	t.Parallel()
	c := newCrew(t, nil)
	var stopped atomic.Bool
	goOn := make(chan struct{})
	var answered atomic.Int64
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopped.Load() {
			<-goOn
		}
		if strings.HasSuffix(r.URL.Path, "/it") {
			answered.Add(1)
		}
		if strings.HasSuffix(r.URL.Path, "/stream") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, ": open\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		fine(w, r)
	}))
	defer silent.Close()
	release := sync.OnceFunc(func() { stopped.Store(false); close(goOn) })
	defer release()
	c.name(silent.Listener.Addr().String())
	stream, err := http.Get(c.base + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	stopped.Store(true)
	var waiting sync.WaitGroup
	for range 5 {
		waiting.Go(func() {
			if status, _ := c.call("GET", "/it"); status != 503 {
				t.Errorf("%d of a process that does not answer", status)
			}
		})
	}
	waiting.Wait()
	if text, err := io.ReadAll(stream.Body); err != nil || string(text) != ": open\n\n" {
		t.Errorf("a stream of it ends with %q, %v", text, err)
	}
	if status, _ := c.call("POST", "/it"); status != 503 { // at once: it would wait for longer
		t.Errorf("%d once it is known", status)
	}
	_, other := c.joins(fine)
	for range 20 {
		if status, _ := c.call("POST", "/it"); status != 200 {
			t.Errorf("%d though another one is there", status)
		}
	}
	if other.Load() != 20 {
		t.Errorf("the other was asked %d times", other.Load())
	}
	release()
	before := answered.Load() // of those who have gone elsewhere
	c.until("it is back", func() bool { c.call("GET", "/it"); return answered.Load() > before+10 })
}

// A process whose database hangs is slow to say that it is not ready, but lives:
// its own answers tell what it lacks.
func TestSlowlyReadyIsThere(t *testing.T) {
	t.Parallel()
	c := newCrew(t, nil)
	done := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			<-done
		}
		fine(w, r)
	}))
	defer slow.Close()
	defer close(done)
	c.name(slow.Listener.Addr().String())
	end := time.Now().Add(2 * c.api.members.pace.silence)
	c.until("it would have been found silent", func() bool {
		if status, body := c.call("GET", "/it"); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		return time.Now().After(end)
	})
}

// Faults in a row take a process out of the route that they were answers of, and
// of no other.
func TestCircuit(t *testing.T) {
	c := newCrew(t, nil)
	_, calls := c.joins(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/it") {
			w.WriteHeader(500)
		}
		fine(w, r)
	})
	for range sickAfter {
		if status, _ := c.call("POST", "/it"); status != 500 {
			t.Fatalf("%d", status)
		}
	}
	if status, _ := c.call("POST", "/it"); status != 503 || calls.Load() != sickAfter {
		t.Errorf("%d after %d calls: a sick one is asked", status, calls.Load())
	}
	if status, _ := c.call("GET", "/other"); status != 200 {
		t.Errorf("%d on another route", status)
	}
	_, other := c.joins(fine)
	for range 20 {
		if status, _ := c.call("POST", "/it"); status != 200 {
			t.Errorf("%d though another one is well", status)
		}
	}
	if other.Load() != 20 {
		t.Errorf("the one that is well was asked %d times", other.Load())
	}
}

// After its pause a process is tried again: one more fault is one too many, and a
// good answer makes it as good as new. 503 is no fault.
func TestCircuitCloses(t *testing.T) {
	c, row, now := newMembers(Split{}).at("x"), &Row{Role: "main"}, time.Now()
	faults := func(n int) (out bool) {
		for range n {
			c.answered(row, 500, now.Add(time.Hour))
		}
		out, _ = c.state(row, now)
		return out
	}
	if faults(sickAfter-1) || !faults(1) {
		t.Error("it is out too soon or too late")
	}
	if now = now.Add(time.Hour); faults(0) || !faults(1) {
		t.Error("after its pause it is not tried, or tried for too long")
	}
	now = now.Add(time.Hour)
	c.answered(row, 503, now)
	if faults(1) {
		t.Error("503 is a fault")
	}
	c.answered(row, 200, now)
	if faults(sickAfter-1) || !faults(1) {
		t.Error("what was before a good answer counts")
	}
}

// Whoever breaks off an upload says nothing about the process that takes it: nobody
// else is told that it does not answer.
func TestBrokenUploadIsNobodysFault(t *testing.T) {
	c := newCrew(t, func(_ *crew, p *pace, _ *Split) { p.look = time.Hour }) // no look mends it meanwhile
	_, calls := c.joins(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		fine(w, r)
	})
	for range 5 {
		conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(c.base, "http://"), apiBase))
		if err != nil {
			t.Fatal(err)
		}
		before := calls.Load()
		if _, err := io.WriteString(conn, "POST "+apiBase+"/files HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 300<<10)); err != nil {
			t.Fatal(err)
		}
		c.until("it is asked", func() bool { return calls.Load() > before })
		conn.Close()
		if status, body := c.call("POST", "/it"); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
}

// A process that is too busy for looks, and answers calls, stays.
func TestBusyProcessIsThere(t *testing.T) {
	t.Parallel()
	c := newCrew(t, nil)
	done := make(chan struct{})
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, apiBase) {
			<-done
		}
		fine(w, r)
	}))
	defer busy.Close()
	defer close(done)
	c.name(busy.Listener.Addr().String())
	end := time.Now().Add(3 * c.api.members.pace.silence)
	c.until("it would have been found silent", func() bool {
		if status, body := c.call("GET", "/it"); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		return time.Now().After(end)
	})
}

// A body that a gateway does not read, since it is too long or its sender too fast,
// is not taken for the next request.
func TestUnreadBodyIsNotARequest(t *testing.T) {
	c := newCrew(t, nil)
	_, _ = c.joins(fine)
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(c.base, "http://"), apiBase))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	long := strings.Repeat("GET / HTTP/1.1\r\n", 100_000)
	go func() { // which is broken off when the connection is closed
		_, _ = fmt.Fprintf(conn, "POST %s/it HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", apiBase, len(long), long)
	}()
	answers := bufio.NewReader(conn)
	res, err := http.ReadResponse(answers, nil)
	if err != nil || res.StatusCode != 413 || !res.Close {
		t.Fatalf("%+v %v", res, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	if more, err := http.ReadResponse(answers, nil); err == nil {
		t.Errorf("what was not read is answered: %+v", more)
	}
}

// An answer that stops in its middle is not waited for longer than its route may
// take, or, where it is long, than a pause may be.
func TestAnswerThatStops(t *testing.T) {
	t.Parallel()
	c := newCrew(t, nil)
	_, _ = c.joins(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == apiBase+"/it" {
			w.Header().Set("Content-Length", "10")
		}
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for _, method := range []string{"GET", "POST"} {
		if status, body := c.call(method, "/it"); status != 503 {
			t.Errorf("%s: %d %s", method, status, body)
		}
	}
	if status, body := c.call("GET", "/other"); status != 0 || body != "half" {
		t.Errorf("%d %s of a long one", status, body)
	}
}

// A registry that lost its memory costs nobody an answer: who was there is asked
// until it is named again, or not for long. And whoever has nobody to ask asks
// first who is there now.
func TestWhoIsThere(t *testing.T) {
	c := newCrew(t, nil)
	address, calls := c.joins(fine)
	if status, _ := c.call("GET", "/it"); status != 200 {
		t.Fatal(status)
	}
	c.name()
	if status, _ := c.call("POST", "/it"); status != 200 {
		t.Errorf("%d once the registry has forgotten", status)
	}
	gone, _ := net.Listen("tcp", "127.0.0.1:0")
	gone.Close()
	c.name(gone.Addr().String())
	if status, _ := c.call("POST", "/it"); status != 200 || calls.Load() != 3 {
		t.Errorf("%d with one named that is dead", status)
	}
	c.name()
	if list := c.api.members.of("main", time.Now().Add(2*c.api.members.pace.remember)); len(list) != 0 {
		t.Errorf("%d are remembered for good", len(list))
	}

	d := newCrew(t, func(c *crew, _ *pace, s *Split) { s.Refresh = func(context.Context) { c.name(address) } })
	d.name(gone.Addr().String())
	for range 3 {
		if status, _ := d.call("POST", "/it"); status != 200 {
			t.Errorf("%d, though another one is there", status)
		}
	}
}

// What is refused on purpose is told as what it is at the gateway too.
func TestShedThroughAGateway(t *testing.T) {
	c := newCrew(t, nil)
	_, _ = c.joins(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(503)
		_, _ = io.WriteString(w, `{"code":"queue_full"}`)
	})
	if status, _ := c.call("POST", "/it"); status != 503 {
		t.Fatal(status)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.told, []string{Shed}) {
		t.Errorf("%v is told", c.told)
	}
}

// A process that drains is asked where nobody else is there, and not before.
func TestWhoLeavesIsAskedLast(t *testing.T) {
	var draining atomic.Bool
	there := func(drains func() bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if drains() {
				w.WriteHeader(503)
				_, _ = io.WriteString(w, `{"status":"draining"}`)
			}
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	list := []string{there(draining.Load)}
	m, main := newMembers(Split{Members: func(string) []string { return list }}), &Row{Role: "main"}
	draining.Store(true)
	m.look(t.Context(), m.at(list[0]))
	if got := m.pick(main, nil); got == nil || got.address != list[0] {
		t.Fatal("nobody is asked, though it answers")
	}
	list = append(list, there(func() bool { return false }))
	for range 20 {
		if got := m.pick(main, nil); got == nil || got.address != list[1] {
			t.Fatal("one that drains is asked before one that stays")
		}
	}
}
