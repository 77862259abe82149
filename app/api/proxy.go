package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/singleflight"

	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/domain"
)

// A process mounts the rows of its roles. A gateway passes the other rows on to
// a process that serves them, and guards nothing itself but the address: every
// process is safe when it is reached directly.
//
//	in rotation ──a call or a look finds nobody──────────────────▶ out ──a look is answered──▶ in
//	            ──a look gets no answer for 0.4 s──▶ last, for 0.75 s▶ out
//	            ──it drains, or is not named any more────────────▶ last, for 5 s──▶ out
//	            ──5 answers 500, 502 or 504 in a row on a route──▶ out on that route for 5 s, and again if the next is one more
//
// Of those in rotation the one with the fewest calls under way gets the next; of
// the last where there is nobody else. A call goes to another process when it
// cannot have been begun, or when doing it twice is doing it once. Before a caller
// is told that nobody answers, who is there is asked anew.

// Split says which rows this process serves itself and where the others are.
// The zero value serves all.
type Split struct {
	Serves  func(role string) bool     // nil is every role
	Members func(role string) []string // host:port of the processes of a role, as far as is known; nil where this is no gateway
	Refresh func(ctx context.Context)  // asks anew who is there; nil where that is known
	pace    *pace                      // nil is ordinary; tests have less patience
}

// pace is how long a gateway waits for what.
type pace struct {
	look     time.Duration // between two looks
	other    time.Duration // then a process is asked whether it lives at all
	doubt    time.Duration
	silence  time.Duration
	remember time.Duration // a process that is not named any more: a registry that lost its memory has it again by then
	sick     time.Duration
	stall    time.Duration            // between two pieces of an answer; streams send one every 15 s
	head     func(*Row) time.Duration // for the head of an answer and all of a short one; 0 is as long as the caller does
}

var ordinary = pace{look: 200 * time.Millisecond, other: 200 * time.Millisecond, doubt: 400 * time.Millisecond, silence: 750 * time.Millisecond,
	remember: 5 * time.Second, sick: 5 * time.Second, stall: time.Minute, head: timeoutOf}

const (
	sickAfter  = 5
	mostTries  = 3
	dialFor    = time.Second
	headerRoom = 5 * time.Second // more than the other process gives itself
	wholeUpTo  = 1 << 20         // an answer no longer than this is read before it is given
)

// clientHeader is how a gateway tells whom it speaks for, under a MAC of the key
// that all processes of an installation share: nobody else is believed.
const clientHeader = "X-Chainreactions-Client"

// members are the processes that were ever seen, by address.
type members struct {
	split  Split
	client *http.Client
	pace   pace
	again  singleflight.Group // of looks anew, by role
	mu     sync.Mutex
	all    map[string]*member
	anew   map[string]time.Time // when it was last looked anew, by role
	done   sync.WaitGroup
}

type member struct {
	address string
	busy    atomic.Int64
	looking atomic.Bool
	heard   atomic.Int64 // when it answered a call last, in nanoseconds

	mu       sync.Mutex
	named    map[string]time.Time // when it was last said to be there, by role
	absent   bool                 // nobody answers there
	doubted  bool                 // it has not answered for a while
	leaving  bool                 // it drains: it still answers, for those who have nobody else
	circuits map[*Row]circuit
	here     context.Context // until it is found silent: who waits for it goes elsewhere
	gone     context.CancelCauseFunc
}

// circuit is what a route's last answers were.
type circuit struct {
	faults int // in a row
	until  time.Time
}

// last is more than anybody is busy.
const last = 1 << 40

var (
	errSilent  = errors.New("api: the process does not answer any more")
	errTimeout = errors.New("api: the process does not answer in the route's time")
)

func newMembers(s Split) *members {
	if s.pace == nil {
		s.pace = &ordinary
	}
	return &members{split: s, pace: *s.pace, all: map[string]*member{}, anew: map[string]time.Time{}, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: dialFor}).DialContext, MaxIdleConnsPerHost: 256,
			IdleConnTimeout: time.Minute, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}}}
}

func (m *members) at(address string) *member {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.all[address]
	if c == nil {
		c = &member{address: address, named: map[string]time.Time{}, circuits: map[*Row]circuit{}}
		c.here, c.gone = context.WithCancelCause(context.Background())
		m.all[address] = c
	}
	return c
}

// of gives the processes of a role: those that are named now, and those that were
// of late.
func (m *members) of(role string, now time.Time) (list []*member) {
	for _, address := range m.split.Members(role) {
		c := m.at(address)
		c.mu.Lock()
		if c.named[role].Before(now) {
			c.named[role] = now
		}
		c.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.all {
		if c.serves(role, now, m.pace.remember) {
			list = append(list, c)
		}
	}
	return list
}

func (c *member) serves(role string, now time.Time, remember time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.named[role]
	return ok && now.Sub(at) < remember
}

// pick gives the least busy process for a row that was not tried yet, or nil.
func (m *members) pick(row *Row, tried []*member) (best *member) {
	now, least := time.Now(), int64(0)
	list := m.of(row.Role, now)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) // so that equals take turns
	for _, c := range list {
		out, late := c.state(row, now)
		if slices.Contains(tried, c) || out {
			continue
		}
		n := c.busy.Load()
		if late {
			n += last
		}
		if best == nil || n < least {
			best, least = c, n
		}
	}
	return best
}

func (c *member) state(row *Row, now time.Time) (out, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.absent || now.Before(c.circuits[row].until), c.leaving || c.doubted || c.named[row.Role].Before(now)
}

// lost notes that nobody answers there, until a look is answered.
func (c *member) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = true
}

// silent notes that somebody is there who does not answer: for a while, or no
// more. Then those who wait go elsewhere.
func (c *member) silent(noMore bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doubted = true
	if noMore && !c.absent {
		c.absent = true
		c.gone(errSilent)
		c.here, c.gone = context.WithCancelCause(context.Background())
	}
}

func (c *member) isSilent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubted
}

// there notes that it answers, and whether it drains; nil is not known.
func (c *member) there(leaving *bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent, c.doubted = false, false
	if leaving != nil {
		c.leaving = *leaving
	}
}

// answered counts a row's faulty answers, too many of which take it out until then.
// 503 is none: such a process knows what it lacks, and says so better than we do.
func (c *member) answered(row *Row, status int, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if status != 500 && status != 502 && status != 504 {
		delete(c.circuits, row)
		return
	}
	now := c.circuits[row]
	if now.faults++; now.faults >= sickAfter {
		now.faults, now.until = sickAfter-1, until
	}
	c.circuits[row] = now
}

// watch looks at every process of the roles until ctx ends. Nobody waits for one
// that takes its time.
func (m *members) watch(ctx context.Context, roles []string) {
	t := time.NewTicker(m.pace.look)
	defer t.Stop()
	var looks sync.WaitGroup
	for {
		now := time.Now()
		known := map[*member]bool{}
		for _, role := range roles {
			for _, c := range m.of(role, now) {
				known[c] = true
			}
		}
		for c := range known {
			if c.looking.CompareAndSwap(false, true) {
				looks.Go(func() { defer c.looking.Store(false); m.look(ctx, c) })
			}
		}
		m.mu.Lock()
		for address, c := range m.all {
			if !known[c] && c.busy.Load() == 0 {
				delete(m.all, address)
			}
		}
		m.mu.Unlock()
		select {
		case <-t.C:
		case <-ctx.Done():
			looks.Wait()
			m.client.CloseIdleConnections()
			return
		}
	}
}

// look asks a process whether it is there and takes more. What it lacks itself,
// its database say, is for its own answers to tell: one that is not ready in time
// but lives is there, and so is one that answers calls.
func (m *members) look(ctx context.Context, c *member) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, m.pace.silence)
	defer cancel()
	type answer struct {
		leaving *bool
		err     error
	}
	answers := make(chan answer, 2)
	ask := func(path string) {
		body, err := m.read(ctx, c.address, path)
		a := answer{err: err}
		if err == nil && path == "/readyz" {
			drains := bytes.Contains(body, []byte(`"draining"`))
			a.leaving = &drains
		}
		answers <- a
	}
	go ask("/readyz")
	other, doubt := time.NewTimer(m.pace.other), time.NewTimer(m.pace.doubt)
	defer other.Stop()
	defer doubt.Stop()
	for asked := 1; ; {
		select {
		case <-other.C:
			asked++
			go ask("/livez")
		case <-doubt.C:
			if c.heard.Load() < began.UnixNano() {
				c.silent(false)
			}
		case a := <-answers:
			asked--
			switch {
			case a.err == nil:
				c.there(a.leaving)
				return
			case asked > 0: // the other may be answered yet
			case errors.Is(ctx.Err(), context.DeadlineExceeded):
				// Who answers calls is busy, and not silent; and we may be it who did not
				// get round to the answers.
				if c.heard.Load() < began.UnixNano() && time.Since(began) < m.pace.silence+m.pace.look {
					c.silent(true)
				}
				return
			case ctx.Err() != nil:
				return
			default:
				c.lost()
				return
			}
		}
	}
}

func (m *members) read(ctx context.Context, address, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, 4096))
}

// lookAnew asks who is there and looks at those of a role that are out, for a
// caller who has nobody. Those who come meanwhile share it; who comes soon after
// does without.
func (m *members) lookAnew(role string) {
	_, _, _ = m.again.Do(role, func() (any, error) {
		m.mu.Lock()
		soon := time.Since(m.anew[role]) < m.pace.look
		m.mu.Unlock()
		if soon {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), m.pace.other)
		defer cancel()
		if m.split.Refresh != nil {
			m.split.Refresh(ctx)
		}
		var looks sync.WaitGroup
		for _, c := range m.of(role, time.Now()) {
			if c.isSilent() { // and looked at all the time
				continue
			}
			looks.Go(func() {
				if _, err := m.read(ctx, c.address, "/livez"); err == nil {
					c.there(nil)
				}
			})
		}
		looks.Wait()
		m.mu.Lock()
		m.anew[role] = time.Now()
		m.mu.Unlock()
		return nil, nil
	})
}

// timeoutOf is how long a gateway waits for the head of an answer; 0 is as long
// as the caller does.
func timeoutOf(row *Row) time.Duration {
	switch row.Call.kind {
	case "upload":
		return uploadTimeout + headerRoom
	case "sse":
		return 0
	}
	return requestTimeout + headerRoom
}

// hopByHop is what belongs to one connection (RFC 9110, 7.6.1), and what each
// process says for itself.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Date", "Server", "Content-Length"}

// passOn serves a row from another process.
func (a *API) passOn(row *Row) fiber.Handler {
	return func(c *fiber.Ctx) error {
		start := a.now()
		x := &exchange{api: a, c: c, row: row, id: requestID(c), ctx: a.base, ip: a.clientIP(c)}
		if c.Context().ConnRequestNum() == 1 {
			a.unused.used(c.Context().Conn())
		}
		x.trace()
		status, err := a.relay(x)
		if x.relayed = err == nil; err != nil {
			a.setHeaders(c)
			c.Set("X-Request-Id", x.id)
			status = writeProblem(c, x.language(), row.Path, x.id, err)
		}
		x.finishBody()
		a.observe(x, status, a.now().Sub(start), err)
		return nil
	}
}

// relay finds a process and gives its answer to the caller.
func (a *API) relay(x *exchange) (status int, err error) {
	if wait := a.addresses.take(x.ip, x.row); wait > 0 {
		return 0, domain.E(domain.TooMany, "rate_limited", "Too many requests from this address.").After(wait)
	}
	var body []byte
	if x.row.Call.kind != "upload" && x.hasBody() {
		if body, err = x.readBody(); err != nil {
			return 0, err
		}
	}
	life := context.Background()
	if x.row.Call.kind == "sse" { // which ends with the drain
		life = a.base
	}
	ctx, cancel := context.WithCancel(life)
	conn := x.c.Context().Conn()
	stopWatch := func() {}
	if x.row.Call.kind != "upload" { // whose end shows where its body is read
		stop := watchPeer(conn, cancel)
		stopWatch = sync.OnceFunc(func() {
			stop()
			_ = conn.SetReadDeadline(time.Time{}) // the next request may come on it
		})
	}
	ended := func() { stopWatch(); cancel() }
	var tried []*member
	why, anew := errors.New("no process of the role "+x.row.Role+" answers"), false
	for tries := 0; tries < mostTries; tries++ {
		m := a.members.pick(x.row, tried)
		if m == nil && !anew {
			anew, tried = true, nil
			a.members.lookAnew(x.row.Role)
			m = a.members.pick(x.row, nil)
		}
		if m == nil {
			break
		}
		tried = append(tried, m)
		m.busy.Add(1)
		resp, whole, sent, err := a.ask(ctx, x, m, body)
		if err == nil {
			m.answered(x.row, resp.StatusCode, time.Now().Add(a.members.pace.sick))
			return x.give(resp, whole, func() { m.busy.Add(-1); ended() }, stopWatch)
		}
		m.busy.Add(-1)
		if ctx.Err() != nil || sent.failed.Load() {
			ended()
			return 0, domain.E(domain.Canceled, "canceled", "The caller went away.")
		}
		if why = err; errors.Is(err, errTimeout) {
			break
		}
		m.lost() // until the next look
		if sent.begun.Load() && !x.mayRepeat() {
			break
		}
	}
	ended()
	return 0, domain.E(domain.Unavailable, "dependency_unavailable", "This part of the service does not answer now.").After(time.Second).Because(why)
}

// mayRepeat reports whether doing the request twice is doing it once.
func (x *exchange) mayRepeat() bool {
	switch x.row.Method {
	case "GET", "PUT", "DELETE":
		return x.row.Call.kind != "upload"
	}
	return x.row.Call.kind != "upload" && x.c.Get("Idempotency-Key") != ""
}

// sending is what became of a request on its way to a process.
type sending struct {
	io.Reader             // of an upload, whose body cannot be begun again
	left      int         // bytes of it; less than 0 is not known
	begun     atomic.Bool // it may have been acted on
	failed    atomic.Bool // its sender broke off
}

func (s *sending) Read(b []byte) (int, error) {
	s.begun.Store(true)
	n, err := s.Reader.Read(b)
	s.left -= n
	if err != nil && (err != io.EOF || s.left > 0) { // fasthttp calls that the end, too
		s.failed.Store(true)
	}
	return n, err
}

// ask sends the request to one process and gives the head of its answer, and all
// of a short one.
func (a *API) ask(ctx context.Context, x *exchange, m *member, body []byte) (resp *http.Response, whole []byte, sent *sending, err error) {
	var reader io.Reader = bytes.NewReader(body)
	if sent = new(sending); x.row.Call.kind == "upload" {
		sent.Reader, sent.left = x.body(), x.c.Request().Header.ContentLength()
		reader = sent
	} else {
		sent.begun.Store(true)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if limit := a.members.pace.head(x.row); limit > 0 {
		t := time.AfterFunc(limit, func() { cancel(errTimeout) })
		defer t.Stop()
	}
	follow := func() bool { return true }
	if x.mayRepeat() || x.row.Call.kind == "sse" {
		m.mu.Lock()
		here := m.here
		m.mu.Unlock()
		follow = context.AfterFunc(here, func() { cancel(errSilent) })
	}
	req, err := http.NewRequestWithContext(ctx, x.row.Method, "http://"+m.address+string(x.c.Request().URI().RequestURI()), reader)
	if err != nil {
		cancel(nil)
		return nil, nil, sent, err
	}
	for k, v := range x.c.Request().Header.All() {
		req.Header.Add(string(k), string(v))
	}
	for _, name := range hopByHop {
		req.Header.Del(name)
	}
	if x.row.Call.kind == "upload" {
		req.ContentLength = int64(x.c.Request().Header.ContentLength())
	}
	req.Header.Del("Tracestate")
	req.Header.Del("Baggage")
	req.Header.Del("Traceparent") // of a stranger, whom who is asked would believe
	if parent := tracing.Parent(x.ctx); parent != "" {
		req.Header.Set("Traceparent", parent)
	}
	req.Host = string(x.c.Request().Header.Host())
	req.Header.Set("X-Request-Id", x.id)
	req.Header.Set(clientHeader, a.vouch(x.ip, x.id, a.now()))
	if resp, err = a.members.client.Do(req); err == nil {
		m.heard.Store(time.Now().UnixNano())
	}
	if err == nil && resp.ContentLength >= 0 && resp.ContentLength <= wholeUpTo {
		whole, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if x.row.Call.kind != "sse" { // which goes on elsewhere when it breaks off
		follow()
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errTimeout) || errors.Is(cause, errSilent) {
			err = cause
		}
		follow()
		cancel(nil)
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			sent.begun.Store(false)
		}
		return nil, nil, sent, err
	}
	resp.Body = &ending{&flowing{resp.Body, a.members.pace.stall, func() { cancel(errTimeout) }}, func() { follow(); cancel(nil) }}
	return resp, whole, sent, nil
}

// flowing is a body of which a piece comes within a time, or it ends.
type flowing struct {
	io.ReadCloser
	within time.Duration
	stalls func()
}

func (f *flowing) Read(b []byte) (int, error) {
	t := time.AfterFunc(f.within, f.stalls)
	defer t.Stop()
	return f.ReadCloser.Read(b)
}

// ending runs a function once when a body is closed.
type ending struct {
	io.ReadCloser
	then func()
}

func (e *ending) Close() error {
	err := e.ReadCloser.Close()
	if e.then != nil {
		e.then()
		e.then = nil
	}
	return err
}

// give passes an answer to the caller: a short one whole, a stream as it comes,
// anything else in pieces.
func (x *exchange) give(resp *http.Response, whole []byte, done, stopWatch func()) (int, error) {
	c := x.c
	finish := func() { resp.Body.Close(); done() }
	for name, values := range resp.Header {
		if !slices.Contains(hopByHop, name) {
			for _, v := range values {
				c.Response().Header.Add(name, v)
			}
		}
	}
	c.Status(resp.StatusCode)
	switch {
	case resp.ContentLength >= 0 && resp.ContentLength <= wholeUpTo:
		finish()
		if resp.StatusCode >= 500 { // what the caller is told is what is counted
			var problem struct{ Code string }
			_ = json.Unmarshal(whole, &problem)
			x.upstream = problem.Code
		}
		return resp.StatusCode, c.Send(whole)
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		c.Context().SetConnectionClose()
		x.api.streams.all.Add(1)
		c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
			defer x.api.streams.all.Done()
			defer finish()
			piece := make([]byte, 8<<10)
			for {
				n, err := resp.Body.Read(piece)
				if n > 0 {
					if _, werr := w.Write(piece[:n]); werr != nil {
						return
					}
					if w.Flush() != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
	default:
		stopWatch() // writing shows whether the caller is there
		c.Context().SetBodyStream(&ending{resp.Body, done}, int(resp.ContentLength))
	}
	return resp.StatusCode, nil
}

// vouch tells another process of ours whom a request is from.
func (a *API) vouch(ip, id string, at time.Time) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, a.peerKey[:])
	for _, part := range []string{ip, id, stamp} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	return ip + " " + stamp + " " + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// vouched gives the address that a gateway of ours vouches for, or "".
func (a *API) vouched(c *fiber.Ctx) string {
	said := c.Get(clientHeader)
	if said == "" {
		return ""
	}
	parts := strings.Split(said, " ")
	if len(parts) != 3 {
		return ""
	}
	unix, err := strconv.ParseInt(parts[1], 10, 64)
	at := time.Unix(unix, 0)
	if err != nil || a.now().Sub(at).Abs() > 5*time.Minute || !hmac.Equal([]byte(said), []byte(a.vouch(parts[0], c.Get("X-Request-Id"), at))) {
		return ""
	}
	return parts[0]
}

var _ = domain.Chinese(map[string]string{"This part of the service does not answer now.": "服务的这一部分暂时没有响应。"})
