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

	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/domain"
)

// A process mounts the rows of its roles. A gateway passes the other rows on to
// a process that serves them, and guards nothing itself but the address: every
// process is safe when it is reached directly.
//
//	in rotation ──a call or a look finds nobody──────────▶ out ──a look is answered──▶ in
//	            ──5 answers 500, 502 or 504 in a row─────▶ out for 5 s ──────────────▶ in
//
// Of those in rotation the one with the fewest calls under way gets the next. A
// call goes to another process when it cannot have been begun, or when doing it
// twice is doing it once.

// Split says which rows this process serves itself and where the others are.
// The zero value serves all.
type Split struct {
	Serves  func(role string) bool     // nil is every role
	Members func(role string) []string // host:port of the processes of a role; nil where this is no gateway
}

const (
	lookEvery  = 250 * time.Millisecond
	lookFor    = 2 * time.Second
	sickAfter  = 5
	sickFor    = 5 * time.Second
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
	mu     sync.Mutex
	all    map[string]*member
	done   sync.WaitGroup
}

type member struct {
	address string
	busy    atomic.Int64

	mu      sync.Mutex
	absent  bool // nobody answers there
	leaving bool // it drains: it still answers, for those who have nobody else
	sick    int  // faulty answers in a row
	until   time.Time
}

// last is more than anybody is busy.
const last = 1 << 40

func newMembers(s Split) *members {
	return &members{split: s, all: map[string]*member{}, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: dialFor}).DialContext, MaxIdleConnsPerHost: 256,
			IdleConnTimeout: time.Minute, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}}}
}

func (m *members) at(address string) *member {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[address] == nil {
		m.all[address] = &member{address: address}
	}
	return m.all[address]
}

// pick gives the least busy process of a role that was not tried yet, or nil.
func (m *members) pick(role string, tried []*member) (best *member) {
	least := int64(0)
	list := m.split.Members(role)
	for _, i := range rand.Perm(len(list)) { // so that equals take turns
		c := m.at(list[i])
		out, leaving := c.state(time.Now())
		if slices.Contains(tried, c) || out {
			continue
		}
		n := c.busy.Load()
		if leaving {
			n += last
		}
		if best == nil || n < least {
			best, least = c, n
		}
	}
	return best
}

func (c *member) state(now time.Time) (out, leaving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.absent || now.Before(c.until), c.leaving
}

func (c *member) there(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = !yes
}

// answered counts faulty answers; 503 is one of a process that knows what it
// lacks, and says so better than we do.
func (c *member) answered(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if status != 500 && status != 502 && status != 504 {
		c.sick = 0
	} else if c.sick++; c.sick >= sickAfter {
		c.sick, c.until = 0, time.Now().Add(sickFor)
	}
}

// watch looks at every process of the roles until ctx ends.
func (m *members) watch(ctx context.Context, roles []string) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		seen := map[string]bool{}
		var looks sync.WaitGroup
		for _, role := range roles {
			for _, address := range m.split.Members(role) {
				if !seen[address] {
					seen[address] = true
					looks.Go(func() { m.look(ctx, m.at(address)) })
				}
			}
		}
		looks.Wait()
		m.mu.Lock()
		for address, c := range m.all {
			if !seen[address] && c.busy.Load() == 0 {
				delete(m.all, address)
			}
		}
		m.mu.Unlock()
		select {
		case <-t.C:
		case <-ctx.Done():
			m.client.CloseIdleConnections()
			return
		}
	}
}

// look asks a process whether it is there and takes more. What it lacks itself,
// its database say, is for its own answers to tell.
func (m *members) look(ctx context.Context, c *member) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+"/readyz", nil)
	if err != nil {
		return
	}
	resp, err := m.client.Do(req)
	if err != nil {
		c.there(false)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent, c.leaving = err != nil, bytes.Contains(body, []byte(`"draining"`))
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
		if err != nil {
			a.setHeaders(c)
			c.Set("X-Request-Id", x.id)
			status = writeProblem(c, x.language(), row.Path, x.id, err)
		}
		if row.Call.kind == "upload" {
			x.finishBody()
		}
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
	for {
		m := a.members.pick(x.row.Role, tried)
		if m == nil {
			ended()
			return 0, domain.E(domain.Unavailable, "dependency_unavailable", "This part of the service does not answer now.").After(time.Second).
				Because(errors.New("no process of the role " + x.row.Role + " answers"))
		}
		tried = append(tried, m)
		m.busy.Add(1)
		resp, begun, err := a.ask(ctx, x, m, body)
		if err == nil {
			m.answered(resp.StatusCode)
			return x.give(resp, func() { m.busy.Add(-1); ended() }, stopWatch)
		}
		m.busy.Add(-1)
		if ctx.Err() != nil {
			ended()
			return 0, domain.E(domain.Canceled, "canceled", "The caller went away.")
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			m.there(false) // until the next look
		}
		if begun && !x.mayRepeat() || len(tried) == mostTries {
			ended()
			return 0, domain.E(domain.Unavailable, "dependency_unavailable", "This part of the service does not answer now.").After(time.Second).Because(err)
		}
	}
}

// mayRepeat reports whether doing the request twice is doing it once.
func (x *exchange) mayRepeat() bool {
	switch x.row.Method {
	case "GET", "PUT", "DELETE":
		return x.row.Call.kind != "upload"
	}
	return x.row.Call.kind != "upload" && x.c.Get("Idempotency-Key") != ""
}

// ask sends the request to one process and gives the head of its answer. begun
// says whether it may have been acted on.
func (a *API) ask(ctx context.Context, x *exchange, m *member, body []byte) (resp *http.Response, begun bool, err error) {
	var reader io.Reader = bytes.NewReader(body)
	if x.row.Call.kind == "upload" {
		reader = &noticed{x.body(), &begun}
	} else {
		begun = true
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if limit := timeoutOf(x.row); limit > 0 {
		t := time.AfterFunc(limit, func() { cancel(context.DeadlineExceeded) })
		defer t.Stop()
	}
	req, err := http.NewRequestWithContext(ctx, x.row.Method, "http://"+m.address+string(x.c.Request().URI().RequestURI()), reader)
	if err != nil {
		cancel(nil)
		return nil, false, err
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
	resp, err = a.members.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
			err = cause
		}
		cancel(nil)
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			begun = false
		}
		return nil, begun, err
	}
	resp.Body = &ending{resp.Body, func() { cancel(nil) }}
	return resp, true, nil
}

// noticed notes that a body was begun, which cannot be begun again.
type noticed struct {
	io.Reader
	begun *bool
}

func (n *noticed) Read(b []byte) (int, error) { *n.begun = true; return n.Reader.Read(b) }

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
func (x *exchange) give(resp *http.Response, done, stopWatch func()) (int, error) {
	c := x.c
	finish := func() { resp.Body.Close(); done() }
	var whole []byte
	if resp.ContentLength >= 0 && resp.ContentLength <= wholeUpTo {
		var err error
		if whole, err = io.ReadAll(resp.Body); err != nil {
			finish()
			return 0, domain.E(domain.Unavailable, "dependency_unavailable", "This part of the service does not answer now.").After(time.Second).Because(err)
		}
	}
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
