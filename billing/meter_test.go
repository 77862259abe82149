package billing

import (
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

var seedFlag = flag.Uint64("seed", 0, "of the random tests; 0 takes one from the clock")

func seed(t *testing.T) *rand.Rand {
	n := *seedFlag
	if n == 0 {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", n)
	return rand.New(rand.NewPCG(n, n))
}

// faulty are shared counters, of as many meters as are given them, that go
// away and lose everything on demand. Those in Redis have tests of their own in
// app/cluster and through the whole program.
type faulty struct {
	*Local
	away atomic.Bool
	late func()        // runs once between a grant and its way into the counters
	skew *atomic.Int64 // of their clock
}

func counters() *faulty {
	skew := new(atomic.Int64)
	return &faulty{Local: NewLocal(func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }), skew: skew}
}

func (f *faulty) Healthy() bool { return !f.away.Load() }

func (f *faulty) Admit(ctx context.Context, a Ask) (Verdict, error) {
	if f.away.Load() {
		return Verdict{}, errors.New("away")
	}
	return f.Local.Admit(ctx, a)
}

func (f *faulty) Fill(ctx context.Context, to Fill) error {
	if f.away.Load() {
		return errors.New("away")
	}
	if late := f.late; late != nil {
		f.late = nil
		late()
	}
	return f.Local.Fill(ctx, to)
}

func (f *faulty) GiveBack(ctx context.Context, of PurseOf, units int64) error {
	if f.away.Load() {
		return errors.New("away")
	}
	return f.Local.GiveBack(ctx, of, units)
}

// rig makes a meter on the counters, or on new ones, for two tenants whose rate
// is not what is tested.
func rig(t *testing.T, db testdb.DB, of ...MeterConfig) (*Meter, *faulty) {
	t.Helper()
	ctx := context.Background()
	c := MeterConfig{}
	if len(of) > 0 {
		c = of[0]
	}
	if c.Counters == nil {
		c.Counters = counters()
	}
	if c.Plans == nil {
		c.Plans = service(t, db)
		for _, tenant := range []string{db.A, db.B} {
			fast := Override{Owned: store.Owned{TenantID: tenant}, Kind: "rate", Name: "match", Value: 1 << 40}
			if err := c.Plans.Override(domain.System(ctx, "test"), fast); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.Folder == "" {
		c.Folder = t.TempDir()
	}
	c.Store, c.Logger = db.Store, slog.New(slog.DiscardHandler)
	m := NewMeter(c)
	if err := m.Open(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.log == nil { // killed
			return
		}
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return m, c.Counters.(*faulty)
}

// kill leaves everything of the meter as a killed process would.
func (m *Meter) kill() {
	close(m.stopping)
	<-m.stopped
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.Close()
	m.log = nil
}

func quota(t *testing.T, m *Meter, tenant, meter string, n int64) {
	t.Helper()
	o := Override{Owned: store.Owned{TenantID: tenant}, Kind: "quota", Name: meter, Value: n}
	if err := m.Plans.Override(domain.System(context.Background(), "test"), o); err != nil {
		t.Fatal(err)
	}
}

func match(m *Meter, ctx context.Context, units int64) error {
	a, err := m.Admit(ctx, AdmitRequest{Class: "match", Meter: "match", Units: units})
	if err != nil {
		return err
	}
	return m.Settle(ctx, a, units)
}

func used(t *testing.T, m *Meter, ctx context.Context, meter string) (n int64) {
	t.Helper()
	out, err := m.Usage(ctx, UsageRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Data {
		if u.Meter == meter {
			n = u.Used
		}
	}
	return n
}

// storm makes calls from many callers at once, over the meters in turn, and
// says how many were served. One that is told to come again does so.
func storm(t *testing.T, ctx context.Context, callers, calls int, meters ...*Meter) int64 {
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range calls {
				switch err := match(meters[i%len(meters)], ctx, 1); {
				case err == nil:
					served.Add(1)
				case domain.KindOf(err) != domain.TooMany && domain.KindOf(err) != domain.Unavailable:
					t.Error(err)
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
		m, _ := rig(t, db)
		quota(t, m, db.A, "match", 60)
		ctx := domain.WithScope(context.Background(), domain.Scope{Tenant: db.A, Actor: domain.Actor{Kind: "api_key", ID: "key_x"}, RequestID: "the-same-id"})
		for range 50 {
			if err := match(m, ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		for _, keep := range []int64{0, 2} { // of seven units, all are given back, and five
			a, err := m.Admit(ctx, AdmitRequest{Class: "match", Meter: "match", Units: 7})
			if err != nil {
				t.Fatal(err)
			}
			if keep == 0 {
				m.Release(ctx, a)
			} else if err := m.Settle(ctx, a, keep); err != nil {
				t.Fatal(err)
			}
		}
		if err := match(m, ctx, 8); err != nil {
			t.Errorf("the eight units that were given back: %v", err)
		}
		if err := match(m, ctx, 1); domain.CodeOf(err) != "quota_exceeded" {
			t.Errorf("beyond the quota: %v", err)
		}
		if n, calls := used(t, m, ctx, "match"), used(t, m, ctx, requests); n != 60 || calls != 52 {
			t.Errorf("%d units, %d calls in the ledger; want 60 and 52", n, calls)
		}
		if n := used(t, m, db.In(db.B), "match"); n != 0 {
			t.Errorf("another tenant pays %d", n)
		}
		var row usageEvent
		if err := db.Read(ctx, func(ctx context.Context) error { return db.For(ctx).Where("meter = ?", "match").First(&row).Error }); err != nil {
			t.Fatal(err)
		}
		if age := time.Since(row.OccurredAt); age < 0 || age > time.Minute || row.Actor != "key_x" || row.Hour != row.OccurredAt.UTC().Format("2006-01-02T15") {
			t.Errorf("%+v", row)
		}
	})
}

// Every call counts, those of unmetered routes too, and their quota holds.
func TestRequestsHaveAQuota(t *testing.T) {
	db := testdb.SQLite(t)
	m, _ := rig(t, db)
	ctx := db.In(db.A)
	quota(t, m, db.A, requests, 30)
	refused := 0
	for range 40 {
		a, err := m.Admit(ctx, AdmitRequest{Class: "light"})
		if domain.CodeOf(err) == "quota_exceeded" {
			refused++
			continue
		}
		if err != nil || m.Settle(ctx, a, 0) != nil {
			t.Fatal(err)
		}
	}
	if n := used(t, m, ctx, requests); refused != 10 || n != 30 {
		t.Errorf("%d refused, %d in the ledger", refused, n)
	}
	if err := match(m, ctx, 1); domain.CodeOf(err) != "quota_exceeded" {
		t.Errorf("a metered call beyond the quota of calls: %v", err)
	}
}

// Three processes whose shared counters go away and come back, and which find
// no counters at all, keep the plan's quota to the unit, and all of it is used.
func TestQuotaWithoutCounters(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		a, f := rig(t, db)
		c := MeterConfig{Plans: a.Plans, Counters: f, Folder: a.Folder}
		b, _ := rig(t, db, c)
		third, _ := rig(t, db, c)
		all := []*Meter{a, b, third}
		ctx := db.In(db.A)
		quota(t, a, db.A, "match", 600)
		served := storm(t, ctx, 12, 10, all...)
		f.away.Store(true)
		served += storm(t, ctx, 12, 20, all...)
		if !a.Degraded() {
			t.Error("it does not say that it is degraded")
		}
		for _, m := range all {
			if len(m.torn) > 0 {
				t.Errorf("purses are in doubt that nothing was asked of: %v", m.torn)
			}
		}
		f.away.Store(false)
		for range 3 { // what the processes held alone comes home
			for _, m := range all {
				m.round(ctx, true)
			}
		}
		if a.Degraded() {
			t.Error("the counters are back and it does not say so")
		}
		served += storm(t, ctx, 12, 60, all...)
		for _, m := range all {
			if err := m.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if n := used(t, a, ctx, "match"); served != 600 || n != 600 {
			t.Errorf("%d served, %d in the ledger, on a quota of 600", served, n)
		}
	})
}

// Three processes, random calls that succeed, fail and use less than they asked
// for, counters wiped and processes killed and started at random: never is more
// used than the quota, every call that was acknowledged is in the ledger once,
// and in the end nothing is stranded: what is left of the quota can be used.
func TestRandomLossOfCountersAndProcesses(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		rnd := seed(t)
		ctx := db.In(db.A)
		first, f := rig(t, db)
		c := MeterConfig{Plans: first.Plans, Counters: f, Folder: first.Folder}
		const limit = 2000
		quota(t, first, db.A, "match", limit)
		var slots [3]atomic.Pointer[Meter]
		var lives [3]sync.RWMutex // read by calls, written by the kill
		slots[0].Store(first)
		for i := 1; i < 3; i++ {
			m, _ := rig(t, db, c)
			slots[i].Store(m)
		}
		var acked, refused atomic.Int64
		call := func(slot int, r *rand.Rand) {
			lives[slot].RLock()
			defer func() { lives[slot].RUnlock() }()
			m := slots[slot].Load()
			units := 1 + r.Int64N(4)
			a, err := m.Admit(ctx, AdmitRequest{Class: "match", Meter: "match", Units: units})
			if err != nil {
				return
			}
			keep := r.Int64N(units + 1)
			if r.IntN(4) == 0 { // in flight while its process dies, if it does
				lives[slot].RUnlock()
				runtime.Gosched()
				lives[slot].RLock()
				if slots[slot].Load() != m {
					return
				}
			}
			if m.Settle(ctx, a, keep) == nil {
				acked.Add(keep)
			} else {
				refused.Add(1)
			}
		}
		steps := 40
		if testing.Short() { // under the race detector
			steps = 12
		}
		for step := range steps {
			victim, fault, when := rnd.IntN(3), rnd.IntN(3), rnd.Int64N(48)
			var begun atomic.Int64
			now := make(chan struct{})
			var wg sync.WaitGroup
			for i := range 12 {
				r := rand.New(rand.NewPCG(rnd.Uint64(), 1))
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range 4 {
						if begun.Add(1) == when+1 {
							close(now)
						}
						call(i%3, r)
					}
				}()
			}
			<-now
			switch fault {
			case 0:
				f.empty()
			case 1:
				f.away.Store(true)
				slots[victim].Load().round(ctx, true)
				f.away.Store(false)
			case 2:
				lives[victim].Lock()
				slots[victim].Load().kill()
				m, _ := rig(t, db, c)
				slots[victim].Store(m)
				lives[victim].Unlock()
			}
			slots[rnd.IntN(3)].Load().round(ctx, step%2 == 0)
			wg.Wait()
		}
		var meters []*Meter
		for i := range slots {
			meters = append(meters, slots[i].Load())
		}
		for range 4 {
			for _, m := range meters {
				m.round(ctx, true)
			}
		}
		n := used(t, meters[0], ctx, "match")
		if n != acked.Load() || n > limit || refused.Load() != 0 {
			t.Fatalf("%d units acknowledged, %d calls refused at settling, %d units in the ledger, quota %d", acked.Load(), refused.Load(), n, limit)
		}
		if n < int64(steps)*limit/80 {
			t.Errorf("only %d of %d used on the way", n, limit)
		}
		f.skew.Add(int64(fullFor)) // a quota that was found used up is asked for again by now
		rest := storm(t, ctx, 6, limit/6, meters...)
		if n+rest != limit {
			t.Errorf("%d used, then only %d more on a quota of %d", n, rest, limit)
		}
	})
}

// A purse that is lost while nobody looks is noticed by whatever comes to it
// next, be it new units or some that are given back, also in a process that
// never drew from it.
func TestLossIsNoticed(t *testing.T) {
	const limit = 500 // handed out in tens
	lose := map[string]func(ctx context.Context, a, b *Meter, f *faulty) error{
		"between a grant and its way into the counters": func(ctx context.Context, a, b *Meter, f *faulty) error {
			if err := match(a, ctx, 8); err != nil { // two of ten are left
				return err
			}
			f.late = f.empty
			return match(b, ctx, 5)
		},
		"before another process comes": func(ctx context.Context, a, b *Meter, f *faulty) error {
			if err := match(a, ctx, 1); err != nil {
				return err
			}
			f.empty()
			return match(b, ctx, 1)
		},
		"with a call under way that fails": func(ctx context.Context, a, b *Meter, f *faulty) error {
			in, err := a.Admit(ctx, AdmitRequest{Class: "match", Meter: "match", Units: 10})
			if err != nil {
				return err
			}
			f.empty()
			a.Release(ctx, in)
			return nil
		},
	}
	for name, lose := range lose {
		t.Run(name, func(t *testing.T) {
			db := testdb.SQLite(t)
			ctx := db.In(db.A)
			a, f := rig(t, db)
			quota(t, a, db.A, "match", limit)
			b, _ := rig(t, db, MeterConfig{Plans: a.Plans, Counters: f, Folder: a.Folder})
			if err := lose(ctx, a, b, f); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				for _, m := range []*Meter{a, b} {
					m.round(ctx, true)
				}
			}
			n := used(t, a, ctx, "match")
			if rest := storm(t, ctx, 2, limit, a, b); n+rest != limit {
				t.Errorf("%d used, then only %d more on a quota of %d", n, rest, limit)
			}
		})
	}
}

// A log that cannot be written refuses the call, with its units free again, and
// serves as soon as it can.
func TestFullDisk(t *testing.T) {
	db := testdb.SQLite(t)
	m, _ := rig(t, db)
	ctx := db.In(db.A)
	quota(t, m, db.A, "match", 3)
	if err := match(m, ctx, 1); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	defer full.Close()
	swap := func(to *os.File) (was *os.File) {
		m.flushMu.Lock()
		defer m.flushMu.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		was, m.log = m.log, to
		return was
	}
	good := swap(full)
	for range 5 {
		if err := match(m, ctx, 1); domain.KindOf(err) != domain.Unavailable {
			t.Errorf("on a full disk: %v", err)
		}
	}
	swap(good)
	for range 2 {
		if err := match(m, ctx, 1); err != nil {
			t.Errorf("after there is room again: %v", err)
		}
	}
	if err := match(m, ctx, 1); domain.CodeOf(err) != "quota_exceeded" {
		t.Errorf("beyond the quota: %v", err)
	}
	if n := used(t, m, ctx, "match"); n != 3 {
		t.Errorf("%d in the ledger", n)
	}
}

// The log of a process that died is moved to the ledger once, by whoever comes
// first; a line that was cut is set aside and keeps nobody from starting.
func TestRecovery(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		dead, f := rig(t, db)
		ctx := db.In(db.A)
		for range 2 {
			if err := match(dead, ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		dead.flushMu.Lock() // it dies before the next flush
		for range 3 {
			if err := match(dead, ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(dead.path)
		if err != nil {
			t.Fatal(err)
		}
		dead.flushMu.Unlock()
		dead.kill()
		lines := strings.SplitAfter(string(text), "\n")
		cut := len(lines) - 2 // the last whole line
		spoilt := strings.Join(lines[:cut-1], "") + lines[cut-1][:20] + "\n" + lines[cut] + `{"n":99,"t":"unfinis`
		copies := []string{spoilt, spoilt, spoilt} // a kill between ledger and removal brings the file again
		c := MeterConfig{Plans: dead.Plans, Counters: f, Folder: dead.Folder}
		for _, text := range copies {
			if err := os.WriteFile(dead.path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			again, _ := rig(t, db, c)
			if n := used(t, again, ctx, "match"); n != 4 {
				t.Errorf("%d units in the ledger, want the 4 of whole lines", n)
			}
		}
		bad, _ := filepath.Glob(filepath.Join(dead.Folder, "*.bad"))
		if len(bad) != 1 {
			t.Errorf("set aside: %v", bad)
		}
		if _, err := os.Stat(dead.path); !os.IsNotExist(err) {
			t.Errorf("the log is still there: %v", err)
		}
	})
}

// A commit whose answer was lost was made all the same: what it moved is in the
// ledger once, and what came after it too.
func TestCommitWithoutAnswer(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		m, _ := rig(t, db)
		ctx := db.In(db.A)
		for range 2 {
			if err := match(m, ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		m.flushMu.Lock()
		err := db.Tx(domain.System(ctx, "test"), func(ctx context.Context) error {
			_, left, err := m.ahead(ctx, m.id, m.pending)
			if err != nil || len(left) == 0 {
				t.Errorf("%d entries to move: %v", len(left), err)
				return err
			}
			return m.move(ctx, m.id, left)
		})
		m.flushMu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := match(m, ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := m.Flush(ctx); err != nil {
				t.Error(err)
			}
		}
		if n := used(t, m, ctx, "match"); n != 5 {
			t.Errorf("%d units in the ledger, of 5", n)
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

// A job's units come from the same purses as calls, are booked with its rows
// once, and what it did not use is free again.
func TestReserve(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		m, f := rig(t, db)
		ctx := db.In(db.A)
		quota(t, m, db.A, "match", 10)
		for range 2 { // the second run of a job that was killed before it knew
			book, done, err := m.Reserve(ctx, "match", 6)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := m.Reserve(ctx, "match", 9); domain.CodeOf(err) != "quota_exceeded" {
				t.Errorf("beyond the quota: %v", err)
			}
			if err := db.Tx(ctx, func(ctx context.Context) error { return book(ctx, 4, "job:0") }); err != nil {
				t.Fatal(err)
			}
			done()
		}
		if err := match(m, ctx, 7); domain.CodeOf(err) != "quota_exceeded" {
			t.Errorf("seven of the six left: %v", err)
		}
		if err := match(m, ctx, 6); err != nil {
			t.Errorf("the six left: %v", err)
		}
		if n := used(t, m, ctx, "match"); n != 10 {
			t.Errorf("%d in the ledger", n)
		}
		for range 2 { // booked, and not used after all: given back once
			if err := db.Tx(ctx, func(ctx context.Context) error { return m.GiveBack(ctx, "match", 3, "job:0/back") }); err != nil {
				t.Fatal(err)
			}
		}
		f.skew.Add(int64(fullFor))
		if err := match(m, ctx, 4); domain.CodeOf(err) != "quota_exceeded" {
			t.Errorf("four of the three given back: %v", err)
		}
		f.skew.Add(int64(fullFor))
		if err := match(m, ctx, 3); err != nil {
			t.Errorf("the three given back: %v", err)
		}
	})
}

// A tenant has as many streams open as its plan says, and no more.
func TestStreams(t *testing.T) {
	db := testdb.SQLite(t)
	m, _ := rig(t, db)
	var done []func()
	for range 10 {
		d, err := m.Stream(db.In(db.A))
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, d)
	}
	if _, err := m.Stream(db.In(db.A)); domain.CodeOf(err) != "concurrency_limited" {
		t.Errorf("an eleventh of ten: %v", err)
	}
	if _, err := m.Stream(db.In(db.B)); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	done[0]()
	done[0]() // twice ends one
	if _, err := m.Stream(db.In(db.A)); err != nil {
		t.Errorf("after one ended: %v", err)
	}
	if _, err := m.Stream(db.In(db.A)); err == nil {
		t.Error("one end freed two")
	}
}

// The parts of a rate that processes take alone add up to it, also where there
// are more processes than calls.
func TestSharesAddUp(t *testing.T) {
	for _, limit := range []int64{1, 5, 60, 30_000} {
		for of := 1; of <= 9; of++ {
			sum := int64(0)
			for rank := range of {
				m := &Meter{MeterConfig: MeterConfig{Peers: func(string) (int, int) { return rank, of }}}
				sum += m.share("match", limit)
			}
			if sum != limit {
				t.Errorf("%d over %d processes: %d", limit, of, sum)
			}
		}
	}
}

// The series shows each hour, day and month once, within its span, as JSON and
// as CSV; a span that cannot be is refused.
func TestSeries(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		m, _ := rig(t, db)
		ctx := db.In(db.A)
		for i, at := range []string{"2026-10-31T23:10:00Z", "2026-11-01T00:00:00Z", "2026-11-01T00:59:59Z", "2026-11-02T05:00:00Z"} {
			when, _ := time.Parse(time.RFC3339, at)
			row := usageEvent{store.Owned{TenantID: db.A}, fmt.Sprint(i), "match", 1 << i, at[:7], at[:13], "key_x", when, 0}
			if err := db.Tx(ctx, func(ctx context.Context) error { return db.For(ctx).Create(&row).Error }); err != nil {
				t.Fatal(err)
			}
		}
		day := func(s string) time.Time { d, _ := time.Parse(time.DateOnly, s); return d }
		for _, c := range []struct {
			granularity, from, to string
			want                  []Point
		}{
			{"hour", "2026-11-01", "2026-11-02", []Point{{"2026-11-01T00", 6}}},
			{"day", "2026-10-31", "2026-11-03", []Point{{"2026-10-31", 1}, {"2026-11-01", 6}, {"2026-11-02", 8}}},
			{"month", "2026-01-01", "2027-01-01", []Point{{"2026-10", 1}, {"2026-11", 14}}},
		} {
			in := UsageRequest{From: day(c.from), To: day(c.to), Granularity: c.granularity}
			out, err := m.Usage(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			if got := out.Data[0].Series; fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s: %v, want %v", c.granularity, got, c.want)
			}
			var b strings.Builder
			if err := m.UsageExport(ctx, in, &b); err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
			if err != nil || len(rows) != 1+len(c.want) || rows[1][0] != "match" || rows[1][1] != c.want[0].At || rows[1][2] != fmt.Sprint(c.want[0].Units) {
				t.Errorf("%s: %q %v", c.granularity, rows, err)
			}
		}
		for _, in := range []UsageRequest{{From: day("2026-11-02"), To: day("2026-11-01")}, {From: day("2020-01-01"), To: day("2026-11-01"), Granularity: "hour"}} {
			if _, err := m.Usage(ctx, in); domain.KindOf(err) != domain.Invalid {
				t.Errorf("%v: %v", in, err)
			}
		}
		if out, err := m.Usage(db.In(db.B), UsageRequest{From: day("2026-10-01"), To: day("2026-12-01"), Granularity: "day"}); err != nil || len(out.Data[0].Series) != 0 {
			t.Errorf("another tenant sees %v %v", out.Data[0].Series, err)
		}
	})
}
