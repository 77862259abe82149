// Package cluster is what processes share through Redis: the counters of rate
// and quota, a second-level cache, and the bell. By default a Redis-compatible
// server runs inside the process, reached over a pipe, so that there is one
// code path. Nothing here is the truth: the ledger in the database is, and
// counters are rebuilt from it.
package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/billing"
)

// Config says which Redis; an empty URL is the embedded one.
type Config struct {
	RedisURL string
	Logger   *slog.Logger
}

// Cluster is a process's share in what all share.
type Cluster struct {
	rdb       redis.UniversalClient
	embedded  *miniredis.Miniredis
	log       *slog.Logger
	healthy   atomic.Bool
	downUntil atomic.Int64 // unix nanoseconds: calls fail at once until then
	stop      context.CancelFunc
	done      sync.WaitGroup

	mu      sync.Mutex
	waiting map[string][]chan struct{}
}

// Open connects. A Redis that is away is no reason not to start: limits are
// kept locally until it is back.
func Open(c Config) (*Cluster, error) {
	cl := &Cluster{log: c.Logger, waiting: map[string][]chan struct{}{}}
	ctx, cancel := context.WithCancel(context.Background())
	cl.stop = cancel
	if c.RedisURL == "" {
		m := miniredis.NewMiniRedis()
		cl.embedded = m
		cl.rdb = redis.NewClient(&redis.Options{Addr: "embedded:0", Protocol: 2, DisableIdentity: true,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }}) // a pipe: no port is opened
		cl.every(ctx, time.Second, func(took time.Duration) { m.FastForward(took) })
	} else {
		o, err := redis.ParseURL(c.RedisURL)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("REDIS_URL: %w", err)
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries = 150*time.Millisecond, 150*time.Millisecond, 150*time.Millisecond, -1
		o.DisableIdentity, o.ContextTimeoutEnabled = true, true
		cl.rdb = redis.NewClient(o)
	}
	cl.healthy.Store(true)
	probe := func(time.Duration) {
		pctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := cl.rdb.Ping(pctx).Err(); err == nil {
			cl.downUntil.Store(0)
			cl.healthy.Store(true)
		} else if ctx.Err() == nil {
			cl.away(err)
		}
	}
	probe(0)
	cl.every(ctx, time.Second, probe)
	cl.done.Add(1)
	go cl.listen(ctx)
	return cl, nil
}

// every runs fn on a ticker with the time that really went by.
func (c *Cluster) every(ctx context.Context, d time.Duration, fn func(took time.Duration)) {
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		t := time.NewTicker(d)
		defer t.Stop()
		last := time.Now()
		for {
			select {
			case now := <-t.C:
				fn(now.Sub(last))
				last = now
			case <-ctx.Done():
				return
			}
		}
	}()
}

// Close leaves.
func (c *Cluster) Close() error {
	c.stop()
	err := c.rdb.Close()
	c.done.Wait()
	if c.embedded != nil {
		c.embedded.Close()
	}
	return err
}

// Healthy reports whether Redis answered last.
func (c *Cluster) Healthy() bool { return c.healthy.Load() }

// Embedded reports whether Redis is in this process.
func (c *Cluster) Embedded() bool { return c.embedded != nil }

var errAway = errors.New("cluster: redis is away")

// away opens the breaker: for a second nobody waits for a dead Redis.
func (c *Cluster) away(err error) {
	if c.healthy.Swap(false) {
		c.log.Warn("redis does not answer; limits are kept locally", "error", err)
	}
	c.downUntil.Store(time.Now().Add(time.Second).UnixNano())
}

//go:embed admit.lua
var admitLua string

var admit = redis.NewScript(admitLua)

// Admit decides rate and quota in one round trip, and writes nothing where it
// refuses. All keys of a tenant share a hash tag.
func (c *Cluster) Admit(ctx context.Context, a billing.Ask) (v billing.Verdict, err error) {
	if time.Now().UnixNano() < c.downUntil.Load() {
		return v, errAway
	}
	keep := int64(time.Until(a.ResetsAt).Seconds()) + 7*86400
	keys := []string{"{" + a.Tenant + "}:r:" + a.Class, "{" + a.Tenant + "}:q:" + a.Period}
	raw, err := admit.Run(ctx, c.rdb, keys, a.RateLimit, a.Window.Microseconds(), a.Meter, a.QuotaLimit, a.Units, keep).Slice()
	if err != nil {
		var refused redis.Error
		if !errors.As(err, &refused) && ctx.Err() == nil {
			c.away(err)
		}
		return v, err
	}
	n := func(i int) int64 { x, _ := raw[i].(int64); return x }
	v.OK, v.NeedsRebuild = n(0) == 1, n(0) == 3
	v.Refused = map[int64]string{0: "rate", 2: "quota"}[n(0)]
	v.RateRemaining, v.RateReset, v.RetryAfter = n(1), time.Duration(n(2))*time.Microsecond, time.Duration(n(3))*time.Microsecond
	v.QuotaUsed = n(4)
	v.Generation, _ = raw[5].(string)
	return v, nil
}

var giveBack = redis.NewScript(`
local gen = redis.call('HGET', KEYS[1], 'gen')
if not gen or ARGV[1] ~= '' and gen ~= ARGV[1] then return 0 end
local left = redis.call('HINCRBY', KEYS[1], ARGV[2], '-' .. ARGV[3])
if left < 0 then redis.call('HSET', KEYS[1], ARGV[2], 0) end
return 1`)

// GiveBack returns units of an admission; a counter that was rebuilt since
// never had them. An empty generation is whichever there is: for units that
// are in the ledger, and so in every generation.
func (c *Cluster) GiveBack(ctx context.Context, tenant, meter, period, generation string, units int64) error {
	if units <= 0 {
		return nil
	}
	return giveBack.Run(ctx, c.rdb, []string{"{" + tenant + "}:q:" + period}, generation, meter, units).Err()
}

var rebuild = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'gen', ARGV[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1`)

// Rebuild sets a tenant's counters of a period where there are none; one of
// several callers wins.
func (c *Cluster) Rebuild(ctx context.Context, tenant, period, generation string, used map[string]int64) error {
	args := []any{generation, 45 * 86400}
	for meter, n := range used {
		args = append(args, meter, n)
	}
	return rebuild.Run(ctx, c.rdb, []string{"{" + tenant + "}:q:" + period}, args...).Err()
}

// Forget drops a tenant's counters, so that the next admission rebuilds them.
func (c *Cluster) Forget(ctx context.Context, tenant, period string) error {
	return c.rdb.Del(ctx, "{"+tenant+"}:q:"+period).Err()
}

// CacheGet and CacheSet are the second-level cache; a Redis that is away is a
// cache that has nothing.
func (c *Cluster) CacheGet(ctx context.Context, key string) ([]byte, bool) {
	b, err := c.rdb.Get(ctx, "cache:"+key).Bytes()
	return b, err == nil
}

// CacheSet keeps val for ttl.
func (c *Cluster) CacheSet(ctx context.Context, key string, val []byte, ttl time.Duration) {
	if c.embedded != nil && len(val) > 64<<10 {
		return // the embedded server evicts nothing
	}
	_ = c.rdb.Set(ctx, "cache:"+key, val, ttl).Err()
}

// Ring wakes those who wait for the topic, here at once and elsewhere through
// Redis.
func (c *Cluster) Ring(ctx context.Context, topic string) {
	c.wake(topic)
	if c.embedded == nil {
		_ = c.rdb.Publish(context.WithoutCancel(ctx), "bell", topic).Err()
	}
}

// Wait gives a channel that is closed at the next ring.
func (c *Cluster) Wait(topic string) (<-chan struct{}, func()) {
	ch := make(chan struct{})
	c.mu.Lock()
	c.waiting[topic] = append(c.waiting[topic], ch)
	c.mu.Unlock()
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		list := c.waiting[topic]
		for i, other := range list {
			if other == ch {
				c.waiting[topic] = append(list[:i:i], list[i+1:]...)
			}
		}
		if len(c.waiting[topic]) == 0 {
			delete(c.waiting, topic)
		}
	}
}

func (c *Cluster) wake(topic string) {
	c.mu.Lock()
	list := c.waiting[topic]
	delete(c.waiting, topic)
	c.mu.Unlock()
	for _, ch := range list {
		close(ch)
	}
}

// listen hears the bells of other processes. go-redis subscribes anew after a
// lost connection; what was rung meanwhile is found by reading the table.
func (c *Cluster) listen(ctx context.Context) {
	defer c.done.Done()
	if c.embedded != nil {
		return
	}
	sub := c.rdb.Subscribe(ctx, "bell")
	defer sub.Close()
	for {
		select {
		case m, ok := <-sub.Channel():
			if !ok {
				return
			}
			c.wake(m.Payload)
		case <-ctx.Done():
			return
		}
	}
}
