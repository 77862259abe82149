package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

var ctx = context.Background()

func open(t *testing.T, url string) *Cluster {
	t.Helper()
	c, err := Open(Config{RedisURL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// each runs one suite on the embedded server and on a real Redis.
func each(t *testing.T, fn func(t *testing.T, url string)) {
	t.Run("embedded", func(t *testing.T) { fn(t, "") })
	t.Run("redis", func(t *testing.T) { fn(t, testdb.Redis(t)) })
}

// The same suites on a Redis Cluster of three masters, one of which is lost in
// the end.
func TestRedisCluster(t *testing.T) {
	if testing.Short() { // it waits for elections, and nothing in it runs that does not elsewhere
		t.SkipNow()
	}
	server := testdb.StartRedisCluster(t)
	for name, suite := range map[string]func(t *testing.T, url string){"quota": quotaIsExact, "rate": rate, "bell": bell, "peers": peers} {
		t.Run(name, func(t *testing.T) { suite(t, server.URL) })
	}
	t.Run("a master is lost", func(t *testing.T) { masterIsLost(t, server) })
}

func ask(tenant string) billing.Ask {
	return billing.Ask{Tenant: tenant, Class: "match", RateLimit: 1_000_000, Window: time.Minute, Period: "2026-11",
		Draws: []billing.Draw{{Meter: "match", Units: 1, Quota: 1000}, {Meter: "api_requests", Units: 1, Quota: -1}}}
}

func fill1(tenant, meter string, number, units, total int64, full bool) billing.Fill {
	return billing.Fill{Tenant: tenant, Meter: meter, Period: "2026-11", Number: number, Units: units, Total: total, Quota: 1000, Full: full}
}

// Without purses nothing is admitted; five hundred callers get exactly what the
// purse holds, from one process and from three; an older purse gives way to a
// newer one and never comes back.
func TestQuotaIsExact(t *testing.T) { each(t, quotaIsExact) }

func quotaIsExact(t *testing.T, url string) {
	processes := []*Cluster{open(t, url)}
	if url != "" {
		processes = append(processes, open(t, url), open(t, url))
	}
	c, a := processes[0], ask(domain.NewID("ten"))
	put := func(f billing.Fill) {
		t.Helper()
		if err := c.Fill(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := c.Admit(ctx, a); err != nil || v.OK || !v.Needs || v.Short != 0 {
		t.Fatalf("without purses: %+v %v", v, err)
	}
	put(fill1(a.Tenant, "match", 7, 4, 994, false))
	if v, err := c.Admit(ctx, a); err != nil || v.OK || !v.Needs || v.Short != 1 {
		t.Fatalf("with one purse of two: %+v %v", v, err)
	}
	put(fill1(a.Tenant, "api_requests", 1, 5000, 5000, false))
	put(fill1(a.Tenant, "match", 7, 6, 1000, true))
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			v, err := processes[i%len(processes)].Admit(ctx, a)
			switch {
			case err != nil:
				t.Error(err)
			case v.OK && v.Drawn[0].Number == 7:
				admitted.Add(1)
			case v.Refused == "quota" && v.Short == 0:
				refused.Add(1)
			}
		}()
	}
	wg.Wait()
	if admitted.Load() != 10 || refused.Load() != 490 {
		t.Errorf("%d admitted, %d refused", admitted.Load(), refused.Load())
	}
	back := func(number, units int64) {
		t.Helper()
		if err := c.GiveBack(ctx, billing.PurseOf{Tenant: a.Tenant, Meter: "match", Period: a.Period, Number: number}, units); err != nil {
			t.Fatal(err)
		}
	}
	back(6, 5)
	if v, _ := c.Admit(ctx, a); v.OK {
		t.Error("units of another purse were given back")
	}
	back(7, 1)
	if v, _ := c.Admit(ctx, a); !v.OK || v.Drawn[0].Used != 1000 || v.Drawn[1].Used != 11 {
		t.Errorf("after one was given back: %+v", v)
	}
	a.Draws[0].Quota = 2000 // an upgrade: what was full is asked for again
	if v, _ := c.Admit(ctx, a); !v.Needs {
		t.Errorf("with a larger quota: %+v", v)
	}
	put(fill1(a.Tenant, "match", 9, 2, 1002, false))
	put(fill1(a.Tenant, "match", 7, 50, 1052, false)) // late
	if v, _ := c.Admit(ctx, a); !v.OK || v.Drawn[0].Number != 9 {
		t.Errorf("after a newer purse: %+v", v)
	}
	if err := c.GiveBack(ctx, billing.PurseOf{Tenant: a.Tenant, Meter: "match", Period: a.Period, Number: 10}, 1); err != billing.ErrLost {
		t.Errorf("given back to a purse that is not there: %v", err)
	}
	grown := fill1(a.Tenant, "other", 3, 10, 30, false)
	grown.Before = 20
	if err := c.Fill(ctx, grown); err != billing.ErrLost {
		t.Errorf("more for a purse that is not there: %v", err)
	}
	if err := c.Fill(ctx, grown); err != nil {
		t.Errorf("more for a purse that is there: %v", err)
	}
	a.Draws[0].Quota = 500 // a downgrade bites though the purse still holds some
	if v, _ := c.Admit(ctx, a); v.Refused != "quota" {
		t.Errorf("with a smaller quota: %+v", v)
	}
}

// A rate lets its burst through and then says when to come again; what it
// refuses costs no quota, and a refused quota costs no rate.
func TestRate(t *testing.T) { each(t, rate) }

func rate(t *testing.T, url string) {
	c := open(t, url)
	a := ask(domain.NewID("ten"))
	a.RateLimit = 5
	for _, f := range []billing.Fill{fill1(a.Tenant, "match", 1, 5, 1000, true), fill1(a.Tenant, "api_requests", 1, 100, 100, false)} {
		if err := c.Fill(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		if v, err := c.Admit(ctx, a); err != nil || !v.OK || v.RateRemaining != int64(4-i) {
			t.Fatalf("call %d: %+v %v", i, v, err)
		}
	}
	v, err := c.Admit(ctx, a)
	if err != nil || v.Refused != "rate" || v.RetryAfter <= 0 || v.RetryAfter > 12*time.Second {
		t.Errorf("the sixth: %+v %v", v, err)
	}
	a.Class = "light"
	for range 20 { // four times the rate: had they cost any, the last ones would be refused by it
		if v, _ := c.Admit(ctx, a); v.Refused != "quota" {
			t.Fatalf("%+v", v)
		}
	}
	a.Draws = a.Draws[1:]
	if v, _ := c.Admit(ctx, a); !v.OK || v.Drawn[0].Used != 6 {
		t.Errorf("calls that were refused count: %+v", v)
	}
}

// A replica that takes over holds purses from which units were drawn that it
// never heard of: they are as if they were not there, on connections that are
// older than its new part, too. Those of a server that goes on are.
func TestOldDataIsDropped(t *testing.T) {
	first, second := testdb.StartRedis(t), testdb.StartRedis(t)
	c, a := open(t, first.URL), ask(domain.NewID("ten"))
	a.Draws = a.Draws[:1]
	put := func(c *Cluster, f billing.Fill) error { t.Helper(); return c.Fill(ctx, f) }
	if err := put(c, fill1(a.Tenant, "match", 1, 100, 100, false)); err != nil {
		t.Fatal(err)
	}
	if v, _ := c.Admit(ctx, a); !v.OK {
		t.Fatalf("%+v", v)
	}
	if v, _ := open(t, first.URL).Admit(ctx, a); !v.OK {
		t.Errorf("a new connection to the same server lost the purses: %+v", v)
	}
	other := open(t, second.URL)
	_, port, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(first.URL, "redis://"), "/0"))
	if err := other.rdb.(*redis.Client).ReplicaOf(ctx, "127.0.0.1", port).Err(); err != nil {
		t.Fatal(err)
	}
	key := "{" + a.Tenant + "}:q:" + a.Period
	for other.rdb.HGet(ctx, key, "match:left").Val() != "98" {
		time.Sleep(time.Millisecond)
	}
	if err := other.rdb.(*redis.Client).ReplicaOf(ctx, "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	other.healthy.Store(true) // it was read-only
	if v, err := other.Admit(ctx, a); err != nil || !v.Needs || v.OK {
		t.Errorf("purses of an earlier era: %+v %v", v, err)
	}
	of := billing.PurseOf{Tenant: a.Tenant, Meter: "match", Period: a.Period, Number: 1}
	if err := other.GiveBack(ctx, of, 1); err != billing.ErrLost {
		t.Errorf("given back to a purse of an earlier era: %v", err)
	}
	grown := fill1(a.Tenant, "match", 1, 2, 102, false)
	grown.Before = 100
	if err := put(other, grown); err != billing.ErrLost {
		t.Errorf("more for a purse of an earlier era: %v", err)
	}
	for i := range 3 {
		if v, err := other.Admit(ctx, a); err != nil || v.OK != (i < 2) {
			t.Errorf("draw %d of 2: %+v %v", i+1, v, err)
		}
	}
}

// Processes see each other, in one order, and one that leaves is gone.
func TestPeers(t *testing.T) { peers(t, testdb.StartRedis(t).URL) }

func peers(t *testing.T, url string) {
	var all []*Cluster
	for range 3 {
		all = append(all, open(t, url))
	}
	seen := map[int]bool{}
	for _, c := range all {
		if err := c.beat(ctx); err != nil {
			t.Fatal(err)
		}
		rank, of := c.Peers()
		if seen[rank] = true; of != 3 {
			t.Errorf("%d of %d", rank, of)
		}
	}
	if len(seen) != 3 {
		t.Errorf("places %v", seen)
	}
	all[0].Close()
	if err := all[1].beat(ctx); err != nil {
		t.Fatal(err)
	}
	if _, of := all[1].Peers(); of != 2 {
		t.Errorf("after one left: %d", of)
	}
	if _, of := open(t, "").Peers(); of != 1 {
		t.Errorf("embedded: %d", of)
	}
}

// A Redis that was emptied forgets nobody who is there: a gateway goes on, and a
// process takes no larger part of the limits, until all have said again that they
// are there; and who has left, or has not come again, is gone.
func TestEmptiedRegistry(t *testing.T) {
	server := testdb.StartRedis(t)
	var all []*Cluster
	for i := range 3 {
		c := open(t, server.URL)
		c.stop() // beats when this test says so
		if err := c.Announce(ctx, &Member{Address: fmt.Sprint("host:", i), Roles: []string{"main"}}); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	beats := func(c *Cluster, of, members int) {
		t.Helper()
		if err := c.beat(ctx); err != nil {
			t.Fatal(err)
		}
		if _, n := c.Peers(); n != of || len(c.Members("main")) != members {
			t.Errorf("%d are there, %v answer; want %d and %d", n, c.Members("main"), of, members)
		}
	}
	beats(all[0], 3, 3)
	if rank, of := all[0].Sharers("main", "worker"); rank != 0 || of != 3 {
		t.Errorf("it shares what main serves as %d of %d", rank, of)
	}
	if err := all[0].rdb.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	beats(all[0], 3, 3)
	if err := all[1].Announce(ctx, nil); err != nil { // is there, and leaves
		t.Fatal(err)
	}
	beats(all[0], 3, 2)
	now := *all[0].seen.Load()
	now.until = time.Now() // and the third does not come again
	all[0].seen.Store(&now)
	beats(all[0], 2, 1)
	if rank, of := all[0].Sharers("main"); rank != 0 || of != 1 {
		t.Errorf("what it alone serves it shares as %d of %d", rank, of)
	}
	if _, of := all[0].Sharers("dataset-matching"); of != 2 {
		t.Errorf("what it does not serve it shares with %d", of)
	}
}

// A Redis that is gone is noticed at once, delays nobody, and is back by itself.
func TestRedisAway(t *testing.T) {
	server := testdb.StartRedis(t)
	c := open(t, server.URL)
	a := ask(domain.NewID("ten"))
	if _, err := c.Admit(ctx, a); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	for range 100 {
		if _, err := c.Admit(ctx, a); err == nil {
			t.Fatal("a dead Redis answers")
		}
	}
	if c.Healthy() {
		t.Error("it says that it is healthy")
	}
	server.Start(t)
	deadline := time.Now().Add(time.Minute)
	for !c.Healthy() && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond) // the probe has its own pace
	}
	if v, err := c.Admit(ctx, a); err != nil || !v.Needs {
		t.Errorf("after a restart: %+v %v", v, err)
	}
	if _, of := c.Peers(); of != 1 {
		t.Errorf("%d peers", of)
	}
}

// A ring wakes who waits, in this process and in another; one that stopped
// waiting leaves nothing behind.
func TestBell(t *testing.T) { each(t, bell) }

func bell(t *testing.T, url string) {
	a := open(t, url)
	b := a
	if url != "" {
		b = open(t, url)
	}
	rung, stop := b.Wait("import/x")
	defer stop()
	_, unused := b.Wait("import/x")
	unused()
	deadline := time.After(time.Minute)
	for again := time.NewTicker(50 * time.Millisecond); ; { // a subscription takes a moment to stand
		a.Ring(ctx, "import/x")
		select {
		case <-rung:
			return
		case <-again.C:
		case <-deadline:
			t.Fatal("nobody woke")
		}
	}
}

// Three processes under traffic lose the master of their tenant's slot, whose
// replica never heard of the last calls. Until it is elected the processes' own
// counters serve; not a unit is admitted above the quota, and all of it can be
// used in the end.
func masterIsLost(t *testing.T, server *testdb.RedisCluster) {
	db := testdb.SQLite(t)
	log, sys := slog.New(slog.DiscardHandler), domain.System(ctx, "test")
	plans, err := billing.New(ctx, billing.Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store}), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	var processes []*Cluster
	var meters []*billing.Meter
	folder := t.TempDir()
	for range 3 {
		c := open(t, server.URL)
		m := billing.NewMeter(billing.MeterConfig{Store: db.Store, Plans: plans, Counters: c, Folder: folder, Logger: log, Peers: func(string) (int, int) { return c.Peers() }})
		if err := m.Open(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(ctx); err != nil {
				t.Error(err)
			}
		})
		processes, meters = append(processes, c), append(meters, m)
	}
	tenant := domain.NewID("ten")
	for processes[0].rdb.ClusterKeySlot(ctx, "{"+tenant+"}").Val() >= testdb.RedisClusterSlots/3 {
		tenant = domain.NewID("ten")
	}
	const limit = 10_000
	err = db.Tx(sys, func(ctx context.Context) error {
		_, err := db.Exec(ctx, "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES (@id, 'slot', 'Slot', @now, @now)", map[string]any{"id": tenant, "now": time.Now().UTC()})
		return err
	})
	for _, o := range []billing.Override{{Kind: "quota", Name: "match", Value: limit}, {Kind: "quota", Name: "api_requests", Value: -1}, {Kind: "rate", Name: "match", Value: 1 << 40}} {
		o.TenantID = tenant
		err = errors.Join(err, plans.Override(sys, o))
	}
	if err != nil {
		t.Fatal(err)
	}
	in := db.In(tenant)
	total := int64(0)
	calls := func(n int, units int64) (served int64) { // from six callers
		t.Helper()
		var ok atomic.Int64
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				m := meters[i%len(meters)]
				for range n / 6 {
					a, err := m.Admit(in, billing.AdmitRequest{Class: "match", Meter: "match", Units: units})
					if err == nil {
						err = m.Settle(in, a, units)
						ok.Add(units)
					}
					if err != nil && domain.CodeOf(err) != "quota_exceeded" && domain.KindOf(err) != domain.Unavailable {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		total += ok.Load()
		return ok.Load()
	}
	calls(300, 1)
	server.CutReplica(t)
	if calls(300, 1) == 0 {
		t.Error("nobody was served")
	}
	server.First.Kill()
	if calls(60, 1) == 0 {
		t.Error("nobody was served while the master was dead")
	}
	away := func() bool {
		return slices.ContainsFunc(processes, func(c *Cluster) bool { return !c.Healthy() })
	}
	deadline := time.Now().Add(time.Minute)
	for away() {
		if calls(6, 1); time.Now().After(deadline) {
			t.Fatal("the replica does not take over")
		}
		time.Sleep(20 * time.Millisecond) // the election has its own pace
	}
	for total < limit { // what was stranded comes home by and by
		if calls(60, max(1, (limit-total)/200)); time.Now().After(deadline) {
			t.Fatalf("%d of %d can be used", total, limit)
		}
		time.Sleep(20 * time.Millisecond) // as has settlement
	}
	if calls(60, 1) != 0 || total != limit {
		t.Errorf("%d admitted of %d", total, limit)
	}
}
