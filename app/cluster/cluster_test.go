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
	return billing.Ask{Tenant: tenant, Class: "match", RateLimit: 1_000_000, Window: time.Minute, Period: "2026-11",
		Draws: []billing.Draw{{Meter: "match", Units: 1, Quota: 1000}, {Meter: "api_requests", Units: 1, Quota: -1}}}
}

func fill1(tenant, meter string, number, units, total int64, full bool) billing.Fill {
	return billing.Fill{Tenant: tenant, Meter: meter, Period: "2026-11", Number: number, Units: units, Total: total, Quota: 1000, Full: full}
}

// Without purses nothing is admitted; five hundred callers get exactly what the
// purse holds, from one process and from three; an older purse gives way to a
// newer one and never comes back.
func TestQuotaIsExact(t *testing.T) {
	each(t, func(t *testing.T, url string) {
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
	})
}

// A rate lets its burst through and then says when to come again; what it
// refuses costs no quota, and a refused quota costs no rate.
func TestRate(t *testing.T) {
	each(t, func(t *testing.T, url string) {
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
	})
}

// A Redis that was started again with what it had saved holds purses of the
// past: they are gone before the first answer.
func TestOldDataIsDropped(t *testing.T) {
	server := testdb.StartRedis(t)
	c, a := open(t, server.URL), ask(domain.NewID("ten"))
	a.Draws = a.Draws[:1]
	if err := c.Fill(ctx, fill1(a.Tenant, "match", 1, 100, 100, false)); err != nil {
		t.Fatal(err)
	}
	if v, _ := c.Admit(ctx, a); !v.OK {
		t.Fatalf("%+v", v)
	}
	again := open(t, server.URL)
	if v, _ := again.Admit(ctx, a); !v.OK {
		t.Errorf("a new connection to the same run lost the purses: %+v", v)
	}
	if err := c.rdb.Set(ctx, "run", "an earlier run", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := open(t, server.URL).Admit(ctx, a); err != nil || !v.Needs {
		t.Errorf("purses of an earlier run: %+v %v", v, err)
	}
}

// Processes see each other, in one order, and one that leaves is gone.
func TestPeers(t *testing.T) {
	server := testdb.StartRedis(t)
	var all []*Cluster
	for range 3 {
		all = append(all, open(t, server.URL))
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
	})
}
