package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
)

const (
	heartbeat  = 15 * time.Second       // keeps proxies from closing a quiet stream
	recheck    = 500 * time.Millisecond // how often a stream asks whether it may go on
	maxStreams = 200                    // of one tenant in one process
)

// streams counts what is open, by tenant.
type streams struct {
	mu   sync.Mutex
	open map[string]int
	all  sync.WaitGroup
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
		var side sync.WaitGroup
		side.Add(1)
		done := make(chan struct{})
		go func() {
			defer side.Done()
			beat, check := time.NewTicker(heartbeat), time.NewTicker(recheck)
			defer beat.Stop()
			defer check.Stop()
			for {
				select {
				case <-beat.C:
					_ = write(": still here\n\n")
				case <-check.C:
					if err := x.still(ctx, cred); err != nil {
						cancel(err)
						return
					}
				case <-done:
					return
				}
			}
		}()
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
		close(done)
		side.Wait()
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
