package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
)

const (
	heartbeat  = 15 * time.Second       // keeps proxies from closing a quiet stream
	recheck    = 500 * time.Millisecond // how often a stream is asked whether it may go on
	turns      = 10                     // in which that is done, so that not all are asked at once
	patience   = 2 * time.Second        // with the answer; without one the stream goes on
	maxStreams = 200                    // of one tenant in one process
)

// streams counts what is open, by tenant, and looks after it: a few goroutines for
// all, since one that each stream kept for it had a stack as large as the deepest
// of its questions.
type streams struct {
	mu   sync.Mutex
	open map[string]int
	all  sync.WaitGroup

	kept    [turns]map[*kept]bool
	asking  [turns]atomic.Bool
	next, n int  // turn of the next one; how many there are
	keeping bool // somebody goes round
}

// kept is a stream that is looked after.
type kept struct {
	ask  func() // whether it may go on
	beat func() // keeps it from being taken for dead

	mu    sync.Mutex
	over  bool
	last  time.Time // beat
	beats sync.WaitGroup
}

// keep looks after a stream until unkept, which waits for what is under way.
func (s *streams) keep(k *kept) (unkept func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = (s.next + 1) % turns
	turn := s.next
	if s.kept[turn] == nil {
		s.kept[turn] = map[*kept]bool{}
	}
	k.last = time.Now()
	s.kept[turn][k] = true
	s.n++
	if !s.keeping {
		s.keeping = true
		go s.round()
	}
	return func() {
		s.mu.Lock()
		delete(s.kept[turn], k)
		s.n--
		s.mu.Unlock()
		k.mu.Lock()
		k.over = true
		k.mu.Unlock()
		k.beats.Wait()
	}
}

// round gives each turn its time, as long as there is a stream. A turn that is
// not through when its time comes again, for the database is away, misses it.
func (s *streams) round() {
	clock := time.NewTicker(recheck / turns)
	defer clock.Stop()
	for turn := 0; ; turn = (turn + 1) % turns {
		<-clock.C
		s.mu.Lock()
		if s.n == 0 {
			s.keeping = false
			s.mu.Unlock()
			return
		}
		list := slices.Collect(maps.Keys(s.kept[turn]))
		s.mu.Unlock()
		if len(list) > 0 && s.asking[turn].CompareAndSwap(false, true) {
			go func() {
				defer s.asking[turn].Store(false)
				for _, k := range list {
					k.look(time.Now())
				}
			}()
		}
	}
}

// look asks for one stream, and lets it beat where it is time: by itself, for a
// reader who does not read holds up no other stream.
func (k *kept) look(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	k.ask()
	if now.Sub(k.last) >= heartbeat-recheck {
		k.last = now
		k.beats.Go(k.beat)
	}
}

// enter takes a slot, or says that there is none.
func (s *streams) enter(tenant string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]int{}
	}
	if s.open[tenant] >= maxStreams {
		return false
	}
	s.open[tenant]++
	s.all.Add(1)
	return true
}

func (s *streams) leave(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[tenant]--; s.open[tenant] == 0 {
		delete(s.open, tenant)
	}
	s.all.Done()
}

func (s *streams) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.open {
		n += k
	}
	return n
}

func (s *streams) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.all.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errReaderLeft = errors.New("api: the reader of the stream left")

// stream sends server-sent events while fn runs. It ends when fn does, when
// the reader leaves (noticed at once, on a silent stream too), when the
// credential, the role or the tenant loses the right to it, and when the
// server drains: the client then goes on elsewhere after Last-Event-ID.
func (x *exchange) stream(fn func(context.Context, Sink) error) error {
	c, api, tenant := x.c, x.api, x.principal.TenantID
	if !api.streams.enter(tenant) {
		return domain.E(domain.TooMany, "concurrency_limited", "Too many streams are open.").After(5 * time.Second)
	}
	ctx, cancel := context.WithCancelCause(x.ctx)
	c.Status(200).Set("Content-Type", "text/event-stream")
	c.Set("X-Accel-Buffering", "no")
	c.Context().SetConnectionClose() // a stale write deadline would stay on a kept-alive connection
	x.streaming = true
	conn, cred, lang := c.Context().Conn(), x.cred, x.language()
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer api.streams.leave(tenant)
		defer x.end()
		unwatch := watchPeer(conn, func() { cancel(errReaderLeft) })
		defer unwatch()
		var mu sync.Mutex
		write := func(text string) error {
			mu.Lock()
			defer mu.Unlock()
			_, err := w.WriteString(text)
			if err == nil {
				err = w.Flush()
			}
			if err != nil {
				cancel(errReaderLeft)
			}
			return err
		}
		_ = write(": open\nretry: 1000\n\n") // the header leaves at once
		unkept := api.streams.keep(&kept{
			ask: func() {
				bounded, stop := context.WithTimeout(ctx, patience)
				defer stop()
				if err := x.still(bounded, cred); err != nil {
					cancel(err)
				}
			},
			beat: func() {
				if mu.TryLock() { // else it is being written to, and not quiet
					_, err := w.WriteString(": still here\n\n")
					if err == nil {
						err = w.Flush()
					}
					mu.Unlock()
					if err != nil {
						cancel(errReaderLeft)
					}
				}
			},
		})
		err := fn(ctx, func(id, event string, data any) error {
			body, err := json.Marshal(data)
			if err != nil {
				return err
			}
			text := "event: " + event + "\ndata: " + string(body) + "\n\n"
			if id != "" {
				text = "id: " + id + "\n" + text
			}
			return write(text)
		})
		unkept()
		var refused *domain.Error
		if errors.As(context.Cause(ctx), &refused) {
			err = refused
		} else if ctx.Err() != nil { // the reader left, or the server drains
			err = nil
		}
		cancel(nil)
		if err != nil {
			body, _ := json.Marshal(streamFault(lang, err))
			_ = write("event: error\ndata: " + string(body) + "\n\n")
		}
	})
	return nil
}

// still asks again what the guard chain asked when the stream began. Only an
// answer ends it: a database that is away does not.
func (x *exchange) still(ctx context.Context, cred auth.Credential) error {
	if ctx.Err() != nil {
		return nil
	}
	p, err := x.api.auth.Still(ctx, x.principal, cred)
	if err == nil && p.TenantID == x.principal.TenantID && x.row.Permission != None {
		var ok bool
		if ok, err = x.api.auth.May(ctx, p, x.row.Permission); err == nil && !ok {
			err = domain.E(domain.Forbidden, "forbidden", "This needs the permission %s.", x.row.Permission)
		}
	}
	if err == nil && x.row.Credential == Admin {
		err = administers(p)
	} else if err == nil {
		err = owing(p)
		if t, terr := x.api.tenants.Get(ctx, struct{}{}); terr == nil && t.Status != "active" {
			err = domain.E(domain.Forbidden, "tenant_suspended", "This tenant is suspended.")
		}
	}
	switch domain.KindOf(err) {
	case domain.Unauthenticated, domain.Forbidden:
		return err
	}
	return nil
}

// StreamFault is the data of the event "error", the last of its stream.
type StreamFault struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func streamFault(lang string, err error) StreamFault {
	var e *domain.Error
	if !errors.As(err, &e) || e.Kind == domain.Internal {
		e = domain.E(domain.Internal, "internal", "Something went wrong on our side. The request id helps us to find it.")
	}
	return StreamFault{e.Code, domain.Sentence(lang, e.Format, e.Args...)}
}

// unwatched connections are those of tests and of TLS without a socket.
var unwatched = func() {}

// watchPeer calls gone when the other end closes the connection.
func watchPeer(conn net.Conn, gone func()) (stop func()) {
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = wrapped.NetConn()
	}
	return watchSocket(conn, gone)
}
