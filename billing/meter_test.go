package billing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// fake counters: an exact quota, no rate, and faults on demand. The real ones
// are tested in app/cluster and through the whole program.
type fake struct {
	mu        sync.Mutex
	away      atomic.Bool
	used      map[string]map[string]int64
	forgotten int
	failing   int
}

func (f *fake) Healthy() bool { return !f.away.Load() }

func (f *fake) Admit(_ context.Context, a Ask) (v Verdict, err error) {
	if f.away.Load() {
		return v, errors.New("away")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.used[a.Tenant+a.Period]
	if h == nil {
		v.NeedsRebuild = true
		return v, nil
	}
	if v.QuotaUsed = h[a.Meter]; a.QuotaLimit >= 0 && h[a.Meter]+a.Units > a.QuotaLimit {
		v.Refused = "quota"
		return v, nil
	}
	h[a.Meter] += a.Units
	v.OK, v.QuotaUsed, v.Generation = true, h[a.Meter], "g"
	return v, nil
}

func (f *fake) GiveBack(_ context.Context, tenant, meter, period, _ string, units int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.used[tenant+period]; h != nil {
		h[meter] -= units
	}
	return nil
}

func (f *fake) Rebuild(_ context.Context, tenant, period, _ string, used map[string]int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.used[tenant+period] == nil {
		f.used[tenant+period] = used
	}
	return nil
}

func (f *fake) Forget(_ context.Context, tenant, period string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failing > 0 {
		f.failing--
		return errors.New("away again")
	}
	f.forgotten++
	delete(f.used, tenant+period)
	return nil
}

func rig(t *testing.T, db testdb.DB) (*Meter, *fake) {
	t.Helper()
	ctx := context.Background()
	s, err := New(ctx, Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store})})
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{db.A, db.B} { // the rate is not what is tested
		fast := Override{Owned: store.Owned{TenantID: tenant}, Kind: "rate", Name: "match", Value: 1 << 40}
		if err := s.Override(domain.System(ctx, "test"), fast); err != nil {
			t.Fatal(err)
		}
	}
	f := &fake{used: map[string]map[string]int64{}}
	m, err := NewMeter(ctx, MeterConfig{Store: db.Store, Plans: s, Counters: f, Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m, f
}

func match(m *Meter, ctx context.Context, units int64) bool {
	a, err := m.Admit(ctx, AdmitRequest{Class: "match", Meter: "match", Units: units})
	return err == nil && m.Settle(ctx, a, units) == nil
}

func ledger(t *testing.T, m *Meter, ctx context.Context) int64 {
	t.Helper()
	if err := m.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	period, _ := m.period()
	used, err := m.ledger(ctx, period)
	if err != nil {
		t.Fatal(err)
	}
	return used["match"]
}

// storm makes calls from many callers at once and says how many were served.
func storm(m *Meter, ctx context.Context, callers, calls int) int64 {
	var served atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range calls {
				if match(m, ctx, 1) {
					served.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	return served.Load()
}

// Whatever a client calls its requests, each call that was served is in the
// ledger once; a call that failed is in none and its units are free again.
func TestEveryCallIsCountedOnce(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		m, f := rig(t, db)
		ctx := domain.WithScope(context.Background(), domain.Scope{Tenant: db.A, Actor: domain.Actor{Kind: "api_key", ID: "key_x"}, RequestID: "the-same-id"})
		for range 50 {
			if !match(m, ctx, 1) {
				t.Fatal("refused")
			}
		}
		a, err := m.Admit(ctx, AdmitRequest{Class: "match", Meter: "match", Units: 7})
		if err != nil {
			t.Fatal(err)
		}
		m.Release(ctx, a)
		if a, err = m.Admit(ctx, AdmitRequest{Class: "match", Meter: "match", Units: 7}); err != nil || m.Settle(ctx, a, 2) != nil {
			t.Fatal(err)
		}
		period, _ := m.period()
		if n, counter := ledger(t, m, ctx), f.used[db.A+period]["match"]; n != 52 || counter != 52 {
			t.Errorf("ledger %d, counter %d, want 52", n, counter)
		}
		if n := ledger(t, m, db.In(db.B)); n != 0 {
			t.Errorf("another tenant pays %d", n)
		}
	})
}

// With the counters away, the plan's quota holds in this process to the unit.
func TestLocalLimitIsExact(t *testing.T) {
	db := testdb.SQLite(t)
	m, f := rig(t, db)
	f.away.Store(true)
	ctx := db.In(db.A)
	if served := storm(m, ctx, 32, 40); served != 1000 || ledger(t, m, ctx) != 1000 {
		t.Errorf("%d served, %d in the ledger; the plan has 1000", served, ledger(t, m, ctx))
	}
	if !m.Degraded() {
		t.Error("it does not say that it is degraded")
	}
	f.away.Store(false)
	m.heal(ctx)
	if m.Degraded() || match(m, ctx, 1) {
		t.Error("after recovery the quota is open again")
	}
}

// Counters that vanish again and again in the middle of the traffic never let
// more than the quota through.
func TestRebuildInTraffic(t *testing.T) {
	db := testdb.SQLite(t)
	m, f := rig(t, db)
	tenant, ctx := db.A, db.In(db.A)
	period, _ := m.period()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = f.Forget(ctx, tenant, period)
			}
		}
	}()
	served := storm(m, ctx, 32, 100)
	close(stop)
	<-stopped
	if served > 1000 || served != ledger(t, m, ctx) {
		t.Errorf("%d served on a quota of 1000, %d in the ledger", served, ledger(t, m, ctx))
	}
}

// Every tenant that was admitted locally is forgotten, though the counters
// fail once more on the way.
func TestHealForgetsAll(t *testing.T) {
	m, f := rig(t, testdb.SQLite(t))
	for i := range 10 {
		m.touched[[2]string{fmt.Sprint("t", i), "p"}] = true
	}
	f.failing = 1
	m.degraded.Store(true)
	m.heal(context.Background())
	if !m.degraded.Load() {
		t.Error("healed with one tenant left")
	}
	m.heal(context.Background())
	if f.forgotten != 10 || m.degraded.Load() {
		t.Errorf("%d of 10 forgotten", f.forgotten)
	}
}

// The log of a process that died is moved to the ledger, once; a line that was
// cut is set aside and does not keep the server from starting.
func TestRecovery(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		m, f := rig(t, db)
		period, _ := m.period()
		dir := t.TempDir()
		line := func(id string) string {
			return fmt.Sprintf(`{"t":%q,"i":%q,"m":"match","u":1,"p":%q,"a":"a","at":"2026-11-23T00:00:00Z"}`+"\n", db.A, id, period)
		}
		write := func(text string) {
			if err := os.WriteFile(filepath.Join(dir, "use_old.log"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the same log twice: a kill between ledger and removal
			write(line("one") + line("two")[:30] + line("three") + line("four") + line("unfinished")[:20])
			again, err := NewMeter(context.Background(), MeterConfig{Store: db.Store, Plans: m.Plans, Counters: f, Folder: dir})
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if n := ledger(t, m, db.In(db.A)); n != 2 {
			t.Errorf("%d events recovered, want one and four", n)
		}
		bad, _ := filepath.Glob(filepath.Join(dir, "*.bad"))
		left, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		if len(bad) != 1 || len(left) != 0 {
			t.Errorf("set aside %v, left %v", bad, left)
		}
	})
}

// A level never passes the plan's limit, however many take it at once.
func TestLevels(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		m, _ := rig(t, db)
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 12 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				err := db.Tx(db.In(db.A), func(ctx context.Context) error { return m.Plans.TakeLevel(ctx, "datasets", 1) })
				switch {
				case err == nil:
					taken.Add(1)
				case domain.CodeOf(err) != "plan_limit_reached":
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		if taken.Load() != 3 {
			t.Errorf("%d datasets on a plan of 3", taken.Load())
		}
		free := func(n int64) error {
			return db.Tx(db.In(db.A), func(ctx context.Context) error { return m.Plans.FreeLevel(ctx, "datasets", n) })
		}
		if err := free(1); err != nil {
			t.Fatal(err)
		}
		if err := db.Tx(db.In(db.A), func(ctx context.Context) error { return m.Plans.TakeLevel(ctx, "datasets", 1) }); err != nil {
			t.Errorf("after one was freed: %v", err)
		}
	})
}

// Imported rows are booked once for each batch, and never beyond the quota.
func TestImportQuota(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		m, _ := rig(t, db)
		book := func(id string, units int64) error {
			return db.Tx(db.In(db.A), func(ctx context.Context) error { return m.RecordImport(ctx, units, id) })
		}
		for range 2 { // a batch that is delivered twice
			if err := book("imp:0", 15_000); err != nil {
				t.Fatal(err)
			}
		}
		if err := book("imp:1", 5_001); domain.CodeOf(err) != "quota_exceeded" {
			t.Errorf("one row beyond the quota: %v", err)
		}
		if err := book("imp:1", 5_000); err != nil {
			t.Errorf("what is left of the quota: %v", err)
		}
		if err := db.Tx(db.In(db.B), func(ctx context.Context) error { return m.RecordImport(ctx, 20_000, "imp:0") }); err != nil {
			t.Errorf("another tenant: %v", err)
		}
	})
}
