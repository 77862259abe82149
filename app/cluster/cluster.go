// Package cluster is what processes share through Redis: who is there, the
// counters of rate and quota, a second-level cache, and the bell. By default a
// Redis-compatible server runs inside the process, reached over a pipe. Nothing
// here is the truth: whatever is lost is made again from the database.
package cluster

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
)

// Config says which Redis; an empty URL is the embedded one.
type Config struct {
	RedisURL string
	Logger   *slog.Logger
}

// Cluster is a process's share in what all share.
type Cluster struct {
	rdb      redis.UniversalClient
	embedded *miniredis.Miniredis
	log      *slog.Logger
	counters *billing.Local // where Redis is in this process, so are they
	id       string         // of this process among its peers
	self     atomic.Pointer[Member]
	hearing  sync.Mutex
	seen     atomic.Pointer[seen]
	healthy  atomic.Bool // while it is not, only the probe asks Redis: nobody waits for a dead one
	stop     context.CancelFunc
	done     sync.WaitGroup

	mu      sync.Mutex
	waiting map[string][]chan struct{}
}

// Open connects. A Redis that is away is no reason not to start: limits are
// kept locally until it is back.
func Open(c Config) (*Cluster, error) {
	redis.SetLogger(silent{})
	cl := &Cluster{log: c.Logger, id: domain.NewID("prc"), waiting: map[string][]chan struct{}{}}
	ctx, cancel := context.WithCancel(context.Background())
	cl.stop = cancel
	if c.RedisURL == "" {
		m := miniredis.NewMiniRedis()
		cl.embedded, cl.counters = m, billing.NewLocal(nil)
		cl.rdb = redis.NewClient(&redis.Options{Addr: "embedded:0", Protocol: 2, DisableIdentity: true,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }}) // a pipe: no port is opened
		cl.every(ctx, time.Second, func(took time.Duration) { m.FastForward(took) })
	} else {
		var err error
		if cl.rdb, err = client(c.RedisURL); err != nil {
			cancel()
			return nil, fmt.Errorf("REDIS_URL: %w", err)
		}
	}
	cl.rdb.AddHook(spans{})
	cl.healthy.Store(true)
	probe := func(time.Duration) {
		pctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := errors.Join(cl.reach(pctx), cl.beat(pctx)); err == nil {
			cl.healthy.Store(true)
		} else if ctx.Err() == nil {
			cl.away(err)
		}
	}
	probe(0)
	cl.every(ctx, BeatEvery, probe)
	cl.done.Add(1)
	go cl.listen(ctx)
	return cl, nil
}

// client speaks to one server, or to a Redis Cluster where the address says
// cluster=true or names more nodes (addr=host:port, as redis.ParseClusterURL has
// it). One that hangs is waited for once: then the breaker is open. Nothing is
// tried again, for a script may have run though its answer was lost.
func client(address string) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("not an address") // what is wrong with it may be its password
	}
	q := u.Query()
	many := q.Get("cluster") == "true"
	if q.Del("cluster"); !many && !q.Has("addr") {
		o, err := redis.ParseURL(address)
		if err != nil {
			return nil, err
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.DialerRetries = patience, patience, patience, -1, 1
		o.DisableIdentity, o.ContextTimeoutEnabled = true, true
		return redis.NewClient(o), nil
	}
	u.RawQuery = q.Encode()
	o, err := redis.ParseClusterURL(u.String())
	if err != nil {
		return nil, err
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.DialerRetries = patience, patience, patience, -1, 1
	o.DisableIdentity, o.ContextTimeoutEnabled = true, true
	o.MaxRedirects = -1 // it counts every second try as one; see run
	o.ReadOnly, o.RouteByLatency, o.RouteRandomly, o.DisableRoutingPolicies = false, false, false, true
	return redis.NewClusterClient(o), nil
}

// reach asks every server that owns keys. Of a Redis Cluster without one of them
// no part is used: what is true of a tenant's limits is true of all.
func (c *Cluster) reach(ctx context.Context) error {
	if nodes, ok := c.rdb.(*redis.ClusterClient); ok { // which it asks for anew
		return nodes.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return node.Ping(ctx).Err() })
	}
	return c.rdb.Ping(ctx).Err()
}

// run runs a script whose keys share a hash tag. Where they have moved to
// another server of a Redis Cluster it was refused before it began.
func (c *Cluster) run(ctx context.Context, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	cmd := script.Run(ctx, c.rdb, keys, args...)
	if _, moved := redis.IsMovedError(cmd.Err()); moved && c.reach(ctx) == nil {
		cmd = script.Run(ctx, c.rdb, keys, args...)
	}
	return cmd
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
	if c.embedded == nil && c.healthy.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		_ = c.rdb.ZRem(ctx, registry[0], c.id).Err() // else it is believed to be there for its life
		_ = c.rdb.HDel(ctx, registry[1], c.id).Err()
		_ = c.rdb.HDel(ctx, registry[2], c.id).Err()
		cancel()
	}
	err := c.rdb.Close()
	c.done.Wait()
	if c.embedded != nil {
		c.embedded.Close()
	}
	return err
}

// Healthy reports whether Redis answered last.
func (c *Cluster) Healthy() bool { return c.healthy.Load() }

// Ping asks Redis now.
func (c *Cluster) Ping(ctx context.Context) error {
	if !c.healthy.Load() {
		return errAway
	}
	return c.reach(ctx)
}

// Connections are those to Redis that are in use, and those that are not.
func (c *Cluster) Connections() (used, idle uint32) {
	s := c.rdb.PoolStats()
	return s.TotalConns - min(s.IdleConns, s.TotalConns), s.IdleConns
}

// Embedded reports whether Redis is in this process.
func (c *Cluster) Embedded() bool { return c.embedded != nil }

var errAway = errors.New("cluster: redis is away")

// away opens the breaker, which only the probe closes.
func (c *Cluster) away(err error) {
	if c.healthy.Swap(false) {
		c.log.Warn("redis does not answer; limits are kept locally", "error", err)
	}
}

// patience is how long a Redis that is there may take.
const patience = 400 * time.Millisecond

// silent keeps go-redis from writing to standard error what away logs once.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// BeatEvery is how often a process says that it is there, and asks whether
// Redis is.
const BeatEvery = time.Second

// peerLife is how long a process is believed to be there after its last beat.
const peerLife = 4 * time.Second

var beat = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) else redis.call('HDEL', KEYS[2], ARGV[1]) end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 0, string.format('%.0f', now))) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], gone)
  redis.call('HDEL', KEYS[3], gone)
end
redis.call('SET', KEYS[4], ARGV[1] .. ' ' .. t[1] .. ' ' .. t[2], 'NX')
return {redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('HGETALL', KEYS[2]), {redis.call('GET', KEYS[4])}}`)

// The registry of processes: who is there until when, what each says of itself,
// how it finds things, and who began it. One hash tag: on a Redis Cluster they are
// on one node.
var registry = []string{"{peers}", "{peers}:about", "{peers}:reports", "{peers}:begun"}

// seen is what the registry held.
type seen struct {
	begun   string            // by whom and when; another one when Redis had lost it
	peers   []string          // by id, in order
	members map[string]Member // those that answer requests, by id
	before  *seen             // what it held before it was lost, until those who were there have had time to say so again
	until   time.Time
}

// or is s, with those of what was before who have not said anything since.
func (s *seen) or(before *seen, now time.Time) *seen {
	switch {
	case before == nil:
		return s
	case before.begun != s.begun:
		s.before, s.until = &seen{peers: before.peers, members: before.members}, now.Add(peerLife)
	case before.before != nil && now.Before(before.until):
		s.before, s.until = before.before, before.until
	default:
		return s
	}
	for _, id := range s.before.peers {
		if !slices.Contains(s.peers, id) {
			s.peers = append(s.peers, id)
			if m, ok := s.before.members[id]; ok {
				s.members[id] = m
			}
		}
	}
	slices.Sort(s.peers)
	return s
}

// Member is a process that answers requests.
type Member struct {
	Address string   `json:"address"` // host:port
	Roles   []string `json:"roles"`
}

// Announce says where this process answers, and for which roles; nil takes it
// back. The others hear of it at once: one that is ready is in rotation, and the
// one that it stands in for may go.
func (c *Cluster) Announce(ctx context.Context, m *Member) error {
	c.self.Store(m)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := c.beat(ctx); err != nil || c.embedded != nil {
		return err
	}
	return c.rdb.Publish(ctx, "bell", registry[0]).Err()
}

// Members are the processes of any of the roles that said so within their short
// life. Where Redis is away it is who was there last: somebody who is gone is found
// out by not answering.
func (c *Cluster) Members(roles ...string) (addresses []string) {
	if now := c.seen.Load(); now != nil {
		for _, id := range now.peers {
			m, ok := now.members[id]
			if ok && slices.ContainsFunc(m.Roles, func(role string) bool { return slices.Contains(roles, role) }) {
				addresses = append(addresses, m.Address)
			}
		}
	}
	slices.Sort(addresses)
	return addresses
}

var exchange = redis.NewScript(`
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])`)

// Exchange leaves a report for the other processes and gives those that they
// left. Nobody has any where Redis is away.
func (c *Cluster) Exchange(ctx context.Context, own []byte) (others [][]byte) {
	now := c.seen.Load()
	if c.embedded != nil || !c.healthy.Load() || now == nil {
		return nil
	}
	all, err := c.run(ctx, exchange, registry[2:3], c.id, own).StringSlice()
	c.failed(ctx, err)
	for i := 0; i+1 < len(all); i += 2 {
		if all[i] != c.id && slices.Contains(now.peers, all[i]) {
			others = append(others, []byte(all[i+1]))
		}
	}
	return others
}

// Refresh hears now who else is there, and not with the next beat.
func (c *Cluster) Refresh(ctx context.Context) {
	if c.embedded == nil && c.healthy.Load() {
		_ = c.beat(ctx) // else it is as it was
	}
}

// beat says that this process is there, and hears who else is.
func (c *Cluster) beat(ctx context.Context) error {
	if c.embedded != nil {
		return nil
	}
	about := ""
	if self := c.self.Load(); self != nil {
		b, err := json.Marshal(self)
		if err != nil {
			return err
		}
		about = string(b)
	}
	raw, err := c.run(ctx, beat, registry, c.id, peerLife.Milliseconds(), about).Slice()
	if err != nil {
		return err
	}
	texts := func(i int) (out []string) {
		list, _ := raw[i].([]any)
		for _, item := range list {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	now := &seen{begun: strings.Join(texts(2), ""), peers: texts(0), members: map[string]Member{}}
	slices.Sort(now.peers)
	said := texts(1)
	for i := 0; i+1 < len(said); i += 2 {
		var m Member
		if json.Unmarshal([]byte(said[i+1]), &m) == nil {
			now.members[said[i]] = m
		}
	}
	c.hearing.Lock()
	defer c.hearing.Unlock()
	c.seen.Store(now.or(c.seen.Load(), time.Now()))
	return nil
}

// Peers is this process's place among those last seen, and how many they are;
// 0 of 0 where Redis was never reached.
func (c *Cluster) Peers() (rank, of int) {
	if c.embedded != nil {
		return 0, 1
	}
	now := c.seen.Load()
	if now == nil {
		return 0, 0
	}
	return max(0, slices.Index(now.peers, c.id)), len(now.peers)
}

// Sharers is this process's place among the members of any of the roles, where it is
// one, and else among all.
func (c *Cluster) Sharers(roles ...string) (rank, of int) {
	if self := c.self.Load(); self != nil {
		list := c.Members(roles...)
		if at := slices.Index(list, self.Address); at >= 0 {
			return at, len(list)
		}
	}
	return c.Peers()
}

// eraLua names the time in which one server was the one that is written to,
// without a break: it gets another replication id when it starts and when it
// takes over from another. What is in it from an earlier era is a purse of the
// past, from which units were drawn since that it does not know of (it was read
// from disk, or the last of them had not come over), and is as if it were not
// there. Asked for in every script and not once a connection, for a connection
// may be older than the era.
const eraLua = `local era = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
`

//go:embed admit.lua
var admitLua string

var admit = redis.NewScript(eraLua + admitLua)

// failed notes an error of Redis; a refusal by it is no reason to think that it
// is away.
func (c *Cluster) failed(ctx context.Context, err error) {
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) && ctx.Err() == nil {
		c.away(err)
	}
}

// Admit decides rate and purses in one round trip, and writes nothing where it
// refuses. All keys of a tenant share a hash tag.
func (c *Cluster) Admit(ctx context.Context, a billing.Ask) (v billing.Verdict, err error) {
	if c.counters != nil {
		return c.counters.Admit(ctx, a)
	}
	if !c.healthy.Load() {
		return v, errAway
	}
	args := append(make([]any, 0, 8), a.RateLimit, a.Window.Microseconds())
	for _, d := range a.Draws {
		args = append(args, d.Meter, d.Units, d.Quota)
	}
	raw, err := c.run(ctx, admit, []string{"{" + a.Tenant + "}:r:" + a.Class, "{" + a.Tenant + "}:q:" + a.Period}, args...).Slice()
	if err != nil {
		c.failed(ctx, err)
		return v, err
	}
	n := func(i int) int64 { x, _ := raw[i].(int64); return x }
	switch n(0) {
	case 0:
		v.Refused = "rate"
	case 1:
		v.OK = true
	case 2:
		v.Refused = "quota"
	case 3:
		v.Needs = true
	}
	v.RateRemaining, v.RateReset, v.RetryAfter = n(1), time.Duration(n(2))*time.Microsecond, time.Duration(n(3))*time.Microsecond
	v.Short = int(n(4))
	for i := 0; 5+2*i+1 < len(raw); i++ {
		v.Drawn[i] = billing.Drawn{Number: n(5 + 2*i), Used: n(6 + 2*i)}
	}
	return v, nil
}

var fill = redis.NewScript(eraLua + `
local meter, number = ARGV[1], tonumber(ARGV[2])
local p = redis.call('HMGET', KEYS[1], meter .. ':n', meter .. ':era')
local had = p[2] == era and tonumber(p[1]) or -1
if had > number then return 0 end
local lost = had < number and tonumber(ARGV[6]) > 0
if had < number then
  redis.call('HSET', KEYS[1], meter .. ':n', ARGV[2], meter .. ':left', ARGV[3], meter .. ':total', ARGV[4], meter .. ':era', era)
else
  redis.call('HINCRBY', KEYS[1], meter .. ':left', ARGV[3])
  redis.call('HSET', KEYS[1], meter .. ':total', ARGV[4])
end
if ARGV[5] == '' then
  redis.call('HDEL', KEYS[1], meter .. ':full')
else
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], meter .. ':full', ARGV[5] .. ':' .. string.format('%.0f', (t[1] + 1) * 1000000 + t[2]))
end
redis.call('EXPIRE', KEYS[1], 45 * 86400)
return lost and -1 or 1`)

// Fill adds what was granted to the purse; an older purse gives way to it, and
// it to a newer one.
func (c *Cluster) Fill(ctx context.Context, f billing.Fill) error {
	if c.counters != nil {
		return c.counters.Fill(ctx, f)
	}
	if !c.healthy.Load() {
		return errAway
	}
	full := ""
	if f.Full {
		full = strconv.FormatInt(f.Quota, 10)
	}
	return c.purse(ctx, fill, f.Tenant, f.Period, f.Meter, f.Number, f.Units, f.Total, full, f.Before)
}

var giveBack = redis.NewScript(eraLua + `
local p = redis.call('HMGET', KEYS[1], ARGV[1] .. ':n', ARGV[1] .. ':era')
local had = p[2] == era and tonumber(p[1]) or -1
if had < tonumber(ARGV[2]) then return -1 end
if had > tonumber(ARGV[2]) then return 0 end
redis.call('HINCRBY', KEYS[1], ARGV[1] .. ':left', ARGV[3])
return 1`)

// GiveBack returns units to the purse they came from; where there is another
// one by now, they come home by settlement.
func (c *Cluster) GiveBack(ctx context.Context, of billing.PurseOf, units int64) error {
	if c.counters != nil {
		return c.counters.GiveBack(ctx, of, units)
	}
	if !c.healthy.Load() {
		return errAway
	}
	return c.purse(ctx, giveBack, of.Tenant, of.Period, of.Meter, of.Number, units)
}

// purse runs a script on the purses of a period; -1 is its word for a loss.
func (c *Cluster) purse(ctx context.Context, script *redis.Script, tenant, period string, args ...any) error {
	n, err := c.run(ctx, script, []string{"{" + tenant + "}:q:" + period}, args...).Int64()
	c.failed(ctx, err)
	if err == nil && n < 0 {
		return billing.ErrLost
	}
	return err
}

// CacheGet and CacheSet are the second-level cache; a Redis that is away is a
// cache that has nothing.
func (c *Cluster) CacheGet(ctx context.Context, key string) ([]byte, bool) {
	if !c.healthy.Load() {
		return nil, false
	}
	b, err := c.rdb.Get(ctx, "cache:"+key).Bytes()
	return b, err == nil
}

// CacheSet keeps val for ttl.
func (c *Cluster) CacheSet(ctx context.Context, key string, val []byte, ttl time.Duration) {
	if !c.healthy.Load() || c.embedded != nil && len(val) > 64<<10 {
		return // the embedded server evicts nothing
	}
	_ = c.rdb.Set(ctx, "cache:"+key, val, ttl).Err()
}

// Ring wakes those who wait for the topic, here at once and elsewhere through
// Redis.
func (c *Cluster) Ring(ctx context.Context, topic string) {
	c.wake(topic)
	if c.embedded == nil && c.healthy.Load() {
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
			if m.Payload == registry[0] {
				hear, cancel := context.WithTimeout(ctx, time.Second)
				_ = c.beat(hear) // else with the next one
				cancel()
				continue
			}
			c.wake(m.Payload)
		case <-ctx.Done():
			return
		}
	}
}

// Empty forgets all that is shared. A database that was put back to an earlier
// moment gives out numbers again for which Redis has what came after.
func Empty(ctx context.Context, redisURL string) error {
	rdb, err := client(redisURL)
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	defer rdb.Close()
	if many, ok := rdb.(*redis.ClusterClient); ok {
		return many.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error { return one.FlushDB(ctx).Err() })
	}
	return rdb.FlushDB(ctx).Err()
}
