package cluster

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
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

func ask(tenant string) billing.Ask {
	return billing.Ask{Tenant: tenant, Class: "match", RateLimit: 1_000_000, Window: time.Minute, Meter: "match", Period: "2026-11",
		QuotaLimit: 1000, Units: 1, ResetsAt: time.Now().Add(time.Hour)}
}

// Counters that are not there admit nothing; rebuilt by many at once, they
// hold what one of them said; five hundred callers then get exactly what is
// left, from one process and from three.
func TestQuotaIsExact(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		processes := []*Cluster{open(t, url)}
		if url != "" {
			processes = append(processes, open(t, url), open(t, url))
		}
		a := ask(domain.NewID("ten"))
		if v, err := processes[0].Admit(ctx, a); err != nil || v.OK || !v.NeedsRebuild {
			t.Fatalf("without counters: %+v %v", v, err)
		}
		for i, p := range processes {
			if err := p.Rebuild(ctx, a.Tenant, a.Period, "gen", map[string]int64{"match": 990 + int64(i)}); err != nil {
				t.Fatal(err)
			}
		}
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
				case v.OK:
					admitted.Add(1)
				case v.Refused == "quota":
					refused.Add(1)
				}
			}()
		}
		wg.Wait()
		if admitted.Load() != 10 || refused.Load() != 490 {
			t.Errorf("%d admitted, %d refused", admitted.Load(), refused.Load())
		}
		if err := processes[0].GiveBack(ctx, a.Tenant, "match", a.Period, "another generation", 5); err != nil {
			t.Fatal(err)
		}
		if v, _ := processes[0].Admit(ctx, a); v.OK {
			t.Error("units of another generation were given back")
		}
		if err := processes[0].GiveBack(ctx, a.Tenant, "match", a.Period, "gen", 1); err != nil {
			t.Fatal(err)
		}
		if v, _ := processes[0].Admit(ctx, a); !v.OK || v.QuotaUsed != 1000 {
			t.Errorf("after one was given back: %+v", v)
		}
		if err := processes[0].Forget(ctx, a.Tenant, a.Period); err != nil {
			t.Fatal(err)
		}
		if v, _ := processes[0].Admit(ctx, a); !v.NeedsRebuild {
			t.Errorf("after the counters were dropped: %+v", v)
		}
	})
}

// A rate lets its burst through and then says when to come again; what it
// refuses costs no quota, and a refused quota costs no rate.
func TestRate(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		c := open(t, url)
		a := ask(domain.NewID("ten"))
		a.RateLimit = 5
		if err := c.Rebuild(ctx, a.Tenant, a.Period, "gen", map[string]int64{}); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if v, err := c.Admit(ctx, a); err != nil || !v.OK || v.RateRemaining != int64(4-i) {
				t.Fatalf("call %d: %+v %v", i, v, err)
			}
		}
		v, err := c.Admit(ctx, a)
		if err != nil || v.Refused != "rate" || v.RetryAfter <= 0 || v.RetryAfter > 12*time.Second || v.QuotaUsed != 5 {
			t.Errorf("the sixth: %+v %v", v, err)
		}
		a.Class, a.QuotaLimit = "light", 5
		for range 20 { // four times the rate: had they cost any, the last ones would be refused by it
			if v, _ := c.Admit(ctx, a); v.Refused != "quota" {
				t.Fatalf("%+v", v)
			}
		}
	})
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
	deadline := time.Now().Add(10 * time.Second)
	for !c.Healthy() && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond) // the probe has its own pace
	}
	if v, err := c.Admit(ctx, a); err != nil || !v.NeedsRebuild {
		t.Errorf("after a restart: %+v %v", v, err)
	}
}

// A ring wakes who waits, in this process and in another; one that stopped
// waiting leaves nothing behind.
func TestBell(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		a := open(t, url)
		b := a
		if url != "" {
			b = open(t, url)
		}
		rung, stop := b.Wait("import/x")
		defer stop()
		_, unused := b.Wait("import/x")
		unused()
		deadline := time.After(10 * time.Second)
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
	})
}
