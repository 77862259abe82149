package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// requests is the meter of every call that passes the guard chain.
const requests = "api_requests"

// Counters are shared by all processes (app/cluster, or Local where there is
// one process). Admit decides rate and quota together and changes nothing where
// it refuses. Fill and GiveBack answer ErrLost where the purse had units before
// that are not there any more; Fill has filled it nevertheless.
type Counters interface {
	Admit(ctx context.Context, a Ask) (Verdict, error)
	Fill(ctx context.Context, f Fill) error
	GiveBack(ctx context.Context, of PurseOf, units int64) error
	Healthy() bool
}

// Ask is one admission: one call of a class, and what it draws.
type Ask struct {
	Tenant, Class string
	RateLimit     int64
	Window        time.Duration
	Period        string
	Draws         []Draw // at most two
}

// Draw is units of a meter, within its quota (<0 is unlimited).
type Draw struct {
	Meter        string
	Units, Quota int64
}

// Drawn is the purse that units came from, and what is used of the quota.
type Drawn struct{ Number, Used int64 }

// ErrLost says that the counters lost a purse, or units of it.
var ErrLost = errors.New("billing: the counters lost units of the purse")

// PurseOf names a purse.
type PurseOf struct {
	Tenant, Meter, Period string
	Number                int64
}

// Verdict is the counters' answer. Needs: the purse of draw Short is not there
// or holds too little, and nothing was changed.
type Verdict struct {
	OK, Needs             bool
	Refused               string // "rate", or "quota" of draw Short
	Short                 int
	RateRemaining         int64
	RateReset, RetryAfter time.Duration
	Drawn                 [2]Drawn
}

// MeterConfig of a Meter. Folder keeps the local log.
type MeterConfig struct {
	Store    *store.Store
	Plans    *Service
	Counters Counters
	Alone    bool // the counters live and die with this process
	Folder   string
	Queue    domain.Queue // tells people of what is nearly used up; nil tells nobody
	Logger   *slog.Logger
	Now      func() time.Time
	Counted  func(meter string, units int64)   // told of what came into the ledger, or, below zero, went out of it again; nil is nobody
	Refused  func(meter, code string)          // told of what was not admitted, "" being the rate's meter; nil is nobody
	Peers    func(class string) (rank, of int) // this process among those that serve calls of a class; 0 of 0 is unknown, and then the writers in the database are
}

// Meter admits calls and keeps what they used.
type Meter struct {
	MeterConfig
	id       string // as a writer
	local    *Local // while Counters are away
	flights  singleflight.Group
	degraded atomic.Bool

	mu       sync.Mutex
	log      *os.File
	path     string // of the log
	size     int64
	next     int64              // the last entry's number
	halved   bool               // the log may end in half a line
	pending  []entry            // in the log, not yet in the ledger
	epoch    int64              // see purse.go
	open     map[int64]int64    // admissions that have not ended, by epoch
	believed map[purseKey]int64 // purses seen open in this epoch
	torn     map[PurseOf]bool   // purses that may lack units; number 0 is the shared one that is open
	demand   map[purseKey]int64 // units that callers wait for
	streams  map[string]int64   // open, by tenant
	writers  []string           // processes that the database knows of, in order

	flushMu     sync.Mutex
	settling    sync.Mutex // over the floor and its target
	floor       int64
	target      int64
	targetEpoch int64

	running  bool
	stopping chan struct{}
	stopped  chan struct{}
	life     context.Context // of the rounds
	halt     func()
}

// AdmitRequest asks to make one call. Changes says that it makes or changes
// something, which a tenant whose subscription is inactive cannot.
type AdmitRequest struct {
	Changes      bool
	Feature      string // that the plan must have; "" is none
	Class, Meter string // Meter "" uses api_requests alone
	Units        int64
}

// Admission is a call that was let in, or the state that kept it out.
type Admission struct {
	Rate struct {
		Limit, Remaining int64
		Window, Reset    time.Duration
	}
	Quota struct {
		Meter            string
		Limit, Remaining int64
		ResetsAt         time.Time
	}
	tenant, actor, period string
	draws                 []Draw
	drawn                 [2]Drawn
	from                  Counters
	epoch                 int64
	open                  bool
}

// NewMeter makes a Meter, which admits nothing before it is open.
func NewMeter(c MeterConfig) *Meter {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Counted == nil {
		c.Counted = func(string, int64) {}
	}
	if c.Refused == nil {
		c.Refused = func(string, string) {}
	}
	if c.Peers == nil {
		c.Peers = func(string) (int, int) { return 0, 0 }
	}
	return &Meter{MeterConfig: c, local: NewLocal(c.Now), open: map[int64]int64{}, believed: map[purseKey]int64{}, torn: map[PurseOf]bool{},
		demand: map[purseKey]int64{}, streams: map[string]int64{}, stopping: make(chan struct{}), stopped: make(chan struct{})}
}

// Open opens the local log and moves what dead processes left in theirs to the
// ledger, which may have people told of it: the Queue is open.
func (m *Meter) Open(ctx context.Context) error {
	if err := os.MkdirAll(m.Folder, 0o700); err != nil {
		return err
	}
	if err := m.openLog(ctx); err != nil {
		return fmt.Errorf("usage log: %w", err)
	}
	if err := m.recover(ctx); err != nil {
		return fmt.Errorf("usage left by a process that died: %w", err)
	}
	if m.Alone { // whatever was in memory is gone
		if err := m.closeShared(ctx); err != nil {
			return err
		}
	}
	if err := m.settlement(ctx); err != nil {
		return fmt.Errorf("settle quotas: %w", err)
	}
	m.running = true
	m.life, m.halt = context.WithCancel(context.Background())
	go m.run()
	return nil
}

// Degraded reports that limits are kept in this process, since the shared
// counters are away.
func (m *Meter) Degraded() bool { return m.degraded.Load() || !m.Counters.Healthy() }

// Admit lets a call in, or refuses it with a domain error. The Admission tells
// what is left in both cases.
func (m *Meter) Admit(ctx context.Context, in AdmitRequest) (*Admission, error) {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return nil, err
	}
	if in.Feature != "" && !plan.Has(in.Feature) {
		return nil, domain.E(domain.Forbidden, "feature_not_in_plan", "The plan does not include this: it needs %s.", in.Feature)
	}
	if plan.Inactive != "" && (in.Meter != "" || in.Changes) {
		return nil, domain.E(domain.PaymentRequired, "subscription_inactive", "The subscription does not carry this now. Your data is safe; see the billing page to go on.")
	}
	scope, _ := domain.ScopeOf(ctx)
	a := &Admission{tenant: scope.Tenant, actor: scope.Actor.ID}
	a.period, a.Quota.ResetsAt = plan.Period.ID, plan.Period.End
	a.Rate.Limit, a.Rate.Window = plan.Rates[in.Class], time.Minute
	a.Quota.Meter = in.Meter
	if in.Meter == "" {
		a.Quota.Meter = requests
	} else {
		a.draws = append(make([]Draw, 0, 2), Draw{in.Meter, in.Units, plan.limit(in.Meter)})
	}
	a.draws = append(a.draws, Draw{requests, 1, plan.limit(requests)})
	a.Quota.Limit = plan.Quotas[a.Quota.Meter]
	v, err := m.decide(ctx, Ask{Tenant: a.tenant, Class: in.Class, RateLimit: a.Rate.Limit, Window: time.Minute, Period: a.period, Draws: a.draws}, a)
	if err != nil {
		return a, err
	}
	a.Rate.Remaining, a.Rate.Reset = v.RateRemaining, v.RateReset
	if a.Quota.Limit >= 0 {
		a.Quota.Remaining = max(0, a.Quota.Limit-v.Drawn[0].Used)
	}
	switch {
	case v.OK:
		a.drawn, a.open = v.Drawn, true
		return a, nil
	case v.Refused == "quota":
		m.Refused(a.draws[v.Short].Meter, "quota_exceeded")
		return a, domain.E(domain.TooMany, "quota_exceeded", "The quota of %s for this period is used up.", a.draws[v.Short].Meter).After(a.Quota.ResetsAt.Sub(m.Now()))
	}
	m.Refused("", "rate_limited")
	return a, domain.E(domain.TooMany, "rate_limited", "There are too many calls a minute for the plan.").After(max(v.RetryAfter, time.Second))
}

// decide asks the shared counters, or where they are away this process's own.
func (m *Meter) decide(ctx context.Context, ask Ask, a *Admission) (Verdict, error) {
	from, owner := m.Counters, ""
	alone := func() {
		m.degraded.Store(true)
		from, owner = m.local, m.id
		ask.RateLimit = m.share(ask.Class, ask.RateLimit)
	}
	if !m.Alone && !from.Healthy() { // nothing is asked of them, so no unit is in doubt
		alone()
	}
	for {
		epoch := m.begin()
		v, err := from.Admit(ctx, ask)
		if err != nil {
			m.doubt(ask)
			m.end(epoch)
			if ctx.Err() != nil {
				return v, ctx.Err()
			}
			if owner != "" {
				return v, err
			}
			alone()
			continue
		}
		if v.OK {
			stale, err := m.trusted(ctx, ask, v, epoch)
			if err == nil && stale < 0 {
				a.epoch, a.from = epoch, from
				if owner == "" && !m.Alone {
					m.local.seen(ask.Tenant, ask.Class, v.RateReset)
				}
				return v, nil
			}
			for i, d := range ask.Draws {
				m.giveBack(ctx, from, PurseOf{ask.Tenant, d.Meter, ask.Period, v.Drawn[i].Number}, d.Units)
			}
			if err != nil {
				m.end(epoch)
				return v, err
			}
			v.Short = stale
		}
		m.end(epoch)
		if !v.OK && !v.Needs {
			return v, nil
		}
		if v, err = m.fill(ctx, ask, v, from, owner); err != nil || v.Refused != "" {
			return v, err
		}
	}
}

// trusted gives the first draw whose purse is not open any more, or -1.
func (m *Meter) trusted(ctx context.Context, ask Ask, v Verdict, epoch int64) (stale int, err error) {
	for i, d := range ask.Draws {
		ok, err := m.believe(ctx, purseKey{ask.Tenant, d.Meter, ask.Period}, v.Drawn[i].Number, epoch)
		if err != nil || !ok {
			return i, err
		}
	}
	return -1, nil
}

// fill gets more units for the purse of draw v.Short: one caller for all that
// wait. It refuses where the quota has no more, and says "later" where units of
// lost purses may still come home.
func (m *Meter) fill(ctx context.Context, ask Ask, v Verdict, to Counters, owner string) (Verdict, error) {
	d, k, number := ask.Draws[v.Short], purseKey{ask.Tenant, ask.Draws[v.Short].Meter, ask.Period}, v.Drawn[v.Short].Number
	m.mu.Lock()
	m.demand[k] += d.Units
	m.mu.Unlock()
	number = max(number, 1) // counters that have none get the open one, which another process may be filling now
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.demand[k] -= d.Units; m.demand[k] == 0 {
			delete(m.demand, k)
		}
	}()
	type outcome struct {
		units   int64
		healing bool
	}
	got, err, _ := m.flights.Do(fmt.Sprintf("%s|%s|%s|%s|%d", k.tenant, k.meter, k.period, owner, number), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // others wait for it
		defer cancel()
		m.mu.Lock()
		need := m.demand[k]
		m.mu.Unlock()
		f, healing, err := m.grant(ctx, k, owner, number, need, d.Quota)
		if err == nil && healing {
			if err = m.settlement(ctx); err == nil {
				extra, still, err := m.grant(ctx, k, owner, f.Number, need-f.Units, d.Quota)
				if err != nil {
					return nil, err
				}
				if extra.Number == f.Number {
					extra.Units, extra.Before = extra.Units+f.Units, f.Before
				}
				f, healing = extra, still
			}
		}
		if err != nil {
			return nil, err
		}
		if owner != "" {
			m.degraded.Store(true) // again: this purse, too, must be closed when the counters are back
		}
		if err := to.Fill(ctx, f); err != nil { // units that reach no purse come home when it is closed
			m.tear(PurseOf{k.tenant, k.meter, k.period, f.Number})
			m.Logger.Warn("units granted are in no purse: it is closed and settled", "error", err)
		}
		return outcome{f.Units, healing}, nil
	})
	if err != nil {
		return v, err
	}
	if o := got.(outcome); o.healing && o.units < d.Units {
		return v, domain.E(domain.Unavailable, "dependency_unavailable", "The counters are being rebuilt.").After(time.Second)
	}
	return Verdict{}, ctx.Err()
}

// share is this process's part of a rate: the parts of all processes that serve
// calls of the class add up to it.
func (m *Meter) share(class string, limit int64) int64 {
	rank, of := m.Peers(class)
	if of == 0 {
		m.mu.Lock()
		rank, of = max(0, slices.Index(m.writers, m.id)), max(1, len(m.writers))
		m.mu.Unlock()
	}
	return limit*int64(rank+1)/int64(of) - limit*int64(rank)/int64(of)
}

// doubt has the purses changed from which units may be missing: whether a call
// that failed drew them is not known.
func (m *Meter) doubt(ask Ask) {
	for _, d := range ask.Draws {
		m.tear(PurseOf{ask.Tenant, d.Meter, ask.Period, 0})
	}
}

// tear has a purse closed at the next settlement, which brings home what it lacks.
func (m *Meter) tear(of PurseOf) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.torn[of] = true
}

func (m *Meter) giveBack(ctx context.Context, to Counters, of PurseOf, units int64) {
	if units <= 0 {
		return
	}
	if err := to.GiveBack(context.WithoutCancel(ctx), of, units); err != nil {
		m.tear(of)
	}
}

// Settle makes what the call used durable: it is in the log when this returns,
// and the answer may leave. Fewer units than admitted are given back; the call
// itself is counted. Where it cannot be written down, nothing was used.
func (m *Meter) Settle(ctx context.Context, a *Admission, units int64) error {
	if a == nil || !a.open {
		return nil
	}
	e := entry{Tenant: a.tenant, Actor: a.actor, At: m.Now().UnixMilli(), Period: a.period, Used: make([]spent, 0, 2)}
	for i, d := range a.draws {
		used := units
		if d.Meter == requests {
			used = 1
		}
		if used > 0 {
			e.Used = append(e.Used, spent{d.Meter, used, a.drawn[i].Number})
		}
	}
	if err := m.append(e); err != nil {
		m.Logger.ErrorContext(ctx, "usage cannot be written down: the call is refused", "error", err)
		m.Release(ctx, a)
		return domain.E(domain.Unavailable, "dependency_unavailable", "What was used cannot be written down now.").After(time.Second).Because(err)
	}
	a.open = false
	if len(a.draws) == 2 {
		m.giveBack(ctx, a.from, PurseOf{a.tenant, a.draws[0].Meter, a.period, a.drawn[0].Number}, a.draws[0].Units-units)
	}
	m.end(a.epoch)
	return nil
}

// Release gives back everything: the call failed.
func (m *Meter) Release(ctx context.Context, a *Admission) {
	if a == nil || !a.open {
		return
	}
	a.open = false
	for i, d := range a.draws {
		m.giveBack(ctx, a.from, PurseOf{a.tenant, d.Meter, a.period, a.drawn[i].Number}, d.Units)
	}
	m.end(a.epoch)
}

// Stream counts a stream or long call of the scope's tenant on this process,
// until done is called.
func (m *Meter) Stream(ctx context.Context) (done func(), err error) {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return nil, err
	}
	tenant, limit := domain.TenantOf(ctx), plan.Levels["streams"]
	m.mu.Lock()
	defer m.mu.Unlock()
	if limit >= 0 && m.streams[tenant] >= limit {
		m.Refused("streams", "concurrency_limited")
		return nil, domain.E(domain.TooMany, "concurrency_limited", "There are too many streams and long calls open for the plan.").After(5 * time.Second)
	}
	m.streams[tenant]++
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.streams[tenant]--; m.streams[tenant] == 0 {
			delete(m.streams, tenant)
		}
	}), nil
}

// RecordImport books imported rows in the caller's transaction, once for each
// event id, and refuses what goes beyond the period's quota; fewer than none
// gives rows back. The sum of the
// period is a level, changed by one conditional update: exact however many
// imports run at once. Imports are jobs, so the shared counters are not asked.
func (m *Meter) RecordImport(ctx context.Context, units int64, id string) error {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return err
	}
	scope, _ := domain.ScopeOf(ctx)
	now := m.Now().UTC()
	row := usageEvent{store.Owned{TenantID: scope.Tenant}, id, "import_rows", units, plan.Period.ID, now.Format("2006-01-02T15"), scope.Actor.ID, now, 0}
	made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if made.Error != nil || made.RowsAffected == 0 {
		return made.Error
	}
	limit := plan.limit("import_rows")
	if units < 0 { // what is given back passes no limit
		limit = -1
	}
	ok, err := m.Plans.take(ctx, scope.Tenant, "import_rows/"+plan.Period.ID, units, limit)
	if err == nil && !ok {
		m.Refused("import_rows", "quota_exceeded")
		return domain.E(domain.TooMany, "quota_exceeded", "The quota of %s for this period is used up.", "import_rows").After(plan.Period.End.Sub(m.Now()))
	}
	if err != nil {
		return err
	}
	return m.account(ctx, map[purseKey]int64{{scope.Tenant, "import_rows", plan.Period.ID}: units})
}

// run keeps the ledger, and what is stranded, at most a moment behind.
func (m *Meter) run() {
	defer close(m.stopped)
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for beat := 1; ; beat++ {
		select {
		case <-t.C:
			ctx, cancel := context.WithTimeout(m.life, 10*time.Second)
			m.round(ctx, beat%5 == 0)
			cancel()
		case <-m.stopping:
			return
		}
	}
}

func (m *Meter) round(ctx context.Context, whole bool) {
	if err := m.Flush(ctx); err != nil {
		m.Logger.Error("usage stays in the local log", "error", err)
	}
	if !whole {
		return
	}
	if m.degraded.Load() && m.Counters.Healthy() {
		if err := m.goHome(ctx); err != nil {
			m.Logger.Error("still on this process's own counters", "error", err)
		} else {
			m.degraded.Store(false)
		}
	}
	if err := m.recover(ctx); err != nil {
		m.Logger.Error("usage left by a process that died stays in its log", "error", err)
	}
	if err := m.settlement(ctx); err != nil {
		m.Logger.Error("quotas are not settled", "error", err)
	}
}

// Close flushes and lets go of the log. What never came to run keeps its log, as
// one that died.
func (m *Meter) Close(ctx context.Context) error {
	if !m.running {
		return nil
	}
	close(m.stopping)
	select {
	case <-m.stopped:
	case <-ctx.Done(): // the database hangs: what is in the log stays there
	}
	m.halt()
	<-m.stopped
	err := m.Flush(ctx)
	if err == nil {
		err = m.Store.Tx(domain.System(ctx, "usage writer"), func(ctx context.Context) error { return m.leave(ctx, m.id) })
	}
	if err == nil && m.Alone {
		err = m.closeShared(ctx)
	}
	if err == nil {
		err = os.Remove(m.path)
	}
	return errors.Join(err, m.log.Close())
}
