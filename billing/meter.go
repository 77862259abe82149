package billing

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Counters are shared by all processes (app/cluster). Admit decides rate and
// quota together and writes nothing where it refuses.
type Counters interface {
	Admit(ctx context.Context, a Ask) (Verdict, error)
	GiveBack(ctx context.Context, tenant, meter, period, generation string, units int64) error
	Rebuild(ctx context.Context, tenant, period, generation string, used map[string]int64) error
	Forget(ctx context.Context, tenant, period string) error
	Healthy() bool
}

// Ask is one admission.
type Ask struct {
	Tenant, Class     string
	RateLimit         int64
	Window            time.Duration
	Meter, Period     string // Meter "" is rate alone
	QuotaLimit, Units int64
	ResetsAt          time.Time
}

// Verdict is the counters' answer.
type Verdict struct {
	OK, NeedsRebuild      bool
	Refused               string // "rate" or "quota"
	RateRemaining         int64
	RateReset, RetryAfter time.Duration
	QuotaUsed             int64
	Generation            string
}

// MeterConfig of a Meter. Folder keeps the local log.
type MeterConfig struct {
	Store    *store.Store
	Plans    *Service
	Counters Counters
	Folder   string
	Logger   *slog.Logger
	Now      func() time.Time
	Peers    func() int // processes that share the counters; nil is one
}

// Meter admits calls and keeps what they used.
type Meter struct {
	MeterConfig
	flights  singleflight.Group
	degraded atomic.Bool

	// admitting is held for reading from the counters' yes until the units are
	// in flight, and for writing while the counters are rebuilt: no call can be
	// in neither.
	admitting sync.RWMutex

	mu       sync.Mutex
	log      *os.File
	path     string // of the log
	size     int64
	pending  []event          // in the log, not yet in the ledger
	flying   map[string]int64 // tenant|period|meter: admitted, not yet settled
	local    map[string]*rate.Limiter
	touched  map[[2]string]bool // tenants admitted locally: their counters are stale
	flushMu  sync.Mutex
	stopping chan struct{}
	stopped  chan struct{}
}

type event struct {
	Tenant string    `json:"t"`
	ID     string    `json:"i"`
	Meter  string    `json:"m"`
	Units  int64     `json:"u"`
	Period string    `json:"p"`
	Actor  string    `json:"a"`
	At     time.Time `json:"at"`
}

type usageEvent struct {
	store.Owned
	ID         string `gorm:"primaryKey"`
	Meter      string
	Units      int64
	Period     string
	Hour       string
	Actor      string
	OccurredAt time.Time
}

// AdmitRequest asks to make one call.
type AdmitRequest struct {
	Feature      string // that the plan must have; "" is none
	Class, Meter string // Meter "" is rate alone
	Units        int64
}

// Admission is a call that was let in, or the state that kept it out.
type Admission struct {
	Rate struct {
		Name             string
		Limit, Remaining int64
		Window, Reset    time.Duration
	}
	Quota struct {
		Meter            string
		Limit, Remaining int64
		ResetsAt         time.Time
	}
	tenant, actor, id, period, generation string
	units                                 int64
	local, open                           bool
}

// NewMeter opens the local log and moves what dead processes left in theirs to
// the ledger.
func NewMeter(ctx context.Context, c MeterConfig) (*Meter, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	m := &Meter{MeterConfig: c, flying: map[string]int64{}, local: map[string]*rate.Limiter{}, touched: map[[2]string]bool{},
		stopping: make(chan struct{}), stopped: make(chan struct{})}
	if err := os.MkdirAll(c.Folder, 0o700); err != nil {
		return nil, err
	}
	if err := m.recover(ctx); err != nil {
		return nil, fmt.Errorf("usage left by a process that died: %w", err)
	}
	// Locked before it has the name that other processes look for.
	m.path = filepath.Join(c.Folder, domain.NewID("use")+".log")
	f, err := os.OpenFile(m.path+".new", os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, err
	}
	if err := os.Rename(m.path+".new", m.path); err != nil {
		return nil, err
	}
	m.log = f
	go m.run()
	return m, nil
}

// recover reads every log that no living process holds.
func (m *Meter) recover(ctx context.Context) error {
	paths, err := filepath.Glob(filepath.Join(m.Folder, "*.log"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			f.Close() // its process lives
			continue
		}
		var events []event
		var bad []byte
		r := bufio.NewReader(f)
		for {
			line, err := r.ReadBytes('\n')
			if err == io.EOF {
				break // a last line without its end was never acknowledged
			}
			if err != nil {
				f.Close()
				return err
			}
			var e event
			if err := json.Unmarshal(line, &e); err != nil || e.Tenant == "" {
				bad = append(bad, line...)
				continue
			}
			events = append(events, e)
		}
		err = m.store(ctx, events)
		if err == nil && len(bad) > 0 { // kept for a person to look at; the server starts
			m.Logger.Error("usage that cannot be read was set aside", "file", path+".bad", "bytes", len(bad))
			err = os.WriteFile(path+".bad", bad, 0o600)
		}
		if err == nil {
			err = os.Remove(path)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Meter) period() (id string, ends time.Time) {
	now := m.Now().UTC()
	return now.Format("2006-01"), time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

// Degraded reports that limits are kept locally, since the shared counters are
// away.
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
	scope, _ := domain.ScopeOf(ctx)
	a := &Admission{tenant: scope.Tenant, actor: scope.Actor.ID, units: in.Units,
		id: domain.NewID("evt")} // ours, never the client's request id: a repeated one would be counted once
	var ends time.Time
	a.period, ends = m.period()
	a.Rate.Name, a.Rate.Limit, a.Rate.Window = "rate", plan.Rates[in.Class], time.Minute
	a.Quota.Meter, a.Quota.Limit, a.Quota.ResetsAt = in.Meter, -1, ends
	if in.Meter != "" {
		a.Quota.Limit = plan.Quotas[in.Meter]
	}
	ask := Ask{Tenant: a.tenant, Class: in.Class, RateLimit: a.Rate.Limit, Window: time.Minute, Meter: in.Meter, Period: a.period,
		QuotaLimit: a.Quota.Limit, Units: in.Units, ResetsAt: ends}
	v, err := m.decide(ctx, ask, a)
	if err != nil {
		return a, err
	}
	a.Rate.Remaining, a.Rate.Reset = v.RateRemaining, v.RateReset
	if a.Quota.Limit >= 0 {
		a.Quota.Remaining = max(0, a.Quota.Limit-v.QuotaUsed)
	}
	a.generation = v.Generation
	switch {
	case v.OK:
		a.open = true
		return a, nil
	case v.Refused == "quota":
		return a, domain.E(domain.TooMany, "quota_exceeded", "The quota of %s for this period is used up.", in.Meter).After(ends.Sub(m.Now()))
	}
	return a, domain.E(domain.TooMany, "rate_limited", "There are too many calls a minute for the plan.").After(max(v.RetryAfter, time.Second))
}

func (m *Meter) fly(a *Admission, units int64) {
	if a.Quota.Meter == "" || units == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := a.tenant + "|" + a.period + "|" + a.Quota.Meter
	if m.flying[key] += units; m.flying[key] == 0 {
		delete(m.flying, key)
	}
}

func (m *Meter) decide(ctx context.Context, ask Ask, a *Admission) (Verdict, error) {
	for range 3 {
		m.admitting.RLock()
		v, err := m.Counters.Admit(ctx, ask)
		if err == nil && v.OK {
			m.fly(a, ask.Units)
		}
		m.admitting.RUnlock()
		if err != nil {
			if ctx.Err() != nil {
				return v, ctx.Err()
			}
			return m.admitLocally(ctx, ask, a)
		}
		if !v.NeedsRebuild {
			return v, nil
		}
		if err := m.rebuild(ctx, ask); err != nil {
			return v, err
		}
	}
	return Verdict{}, domain.E(domain.Unavailable, "dependency_unavailable", "The counters are being rebuilt.").After(time.Second)
}

// rebuild sets a tenant's counters from the ledger and from what this process
// has not yet written there; nothing was admitted meanwhile.
func (m *Meter) rebuild(ctx context.Context, ask Ask) error {
	_, err, _ := m.flights.Do(ask.Tenant+"|"+ask.Period, func() (any, error) {
		m.admitting.Lock()
		defer m.admitting.Unlock()
		var used map[string]int64
		err := m.picture(ctx, ask.Tenant, ask.Period, func(now map[string]int64) { used = now })
		if err != nil {
			return nil, err
		}
		return nil, m.Counters.Rebuild(ctx, ask.Tenant, ask.Period, domain.NewID("gen"), used)
	})
	return err
}

// picture gives fn what the scope's tenant has used: the ledger, what is in the
// log, and what is in flight, at one moment. Nothing moves between the three
// until fn returns.
func (m *Meter) picture(ctx context.Context, tenant, period string, fn func(used map[string]int64)) error {
	m.flushMu.Lock() // from the log to the ledger
	defer m.flushMu.Unlock()
	m.mu.Lock() // from flight to the log
	defer m.mu.Unlock()
	used, err := m.ledger(ctx, period)
	if err != nil {
		return err
	}
	for _, e := range m.pending {
		if e.Tenant == tenant && e.Period == period {
			used[e.Meter] += e.Units
		}
	}
	for _, meter := range Meters {
		used[meter] += m.flying[tenant+"|"+period+"|"+meter]
	}
	fn(used)
	return nil
}

// ledger sums the events of the scope's tenant.
func (m *Meter) ledger(ctx context.Context, period string) (map[string]int64, error) {
	var rows []struct {
		Meter string
		Units int64
	}
	err := m.Store.Read(ctx, func(ctx context.Context) error {
		return m.Store.SQL(ctx, `SELECT meter, CAST(sum(units) AS bigint) AS units FROM usage_events WHERE tenant_id = @tenant AND period = @period GROUP BY meter`,
			map[string]any{"period": period}).Scan(&rows).Error
	})
	out := map[string]int64{}
	for _, r := range rows {
		out[r.Meter] = r.Units
	}
	return out, err
}

// admitLocally keeps the limits in this process while the counters are away:
// the ledger, what is pending and what is in flight against the plan, of which
// this process has an even share among those last seen. Never open.
func (m *Meter) admitLocally(ctx context.Context, ask Ask, a *Admission) (v Verdict, err error) {
	m.degraded.Store(true)
	peers := int64(1)
	if m.Peers != nil {
		peers = max(1, int64(m.Peers()))
	}
	err = m.picture(ctx, ask.Tenant, ask.Period, func(used map[string]int64) {
		m.touched[[2]string{ask.Tenant, ask.Period}] = true
		l, ok := m.local[ask.Tenant+"|"+ask.Class]
		if !ok {
			share := max(1, ask.RateLimit/peers)
			l = rate.NewLimiter(rate.Limit(float64(share)/ask.Window.Seconds()), int(share))
			m.local[ask.Tenant+"|"+ask.Class] = l
		}
		v.QuotaUsed = used[ask.Meter] + ask.Units
		switch {
		case ask.Meter != "" && ask.QuotaLimit >= 0 && v.QuotaUsed > ask.QuotaLimit/peers:
			v.Refused = "quota"
		case !l.AllowN(m.Now(), 1):
			v.Refused, v.RetryAfter = "rate", time.Second
		default:
			v.OK, a.local = true, true
			if ask.Meter != "" && ask.Units > 0 {
				m.flying[ask.Tenant+"|"+ask.Period+"|"+ask.Meter] += ask.Units
			}
		}
	})
	return v, err
}

// Settle makes what the call used durable: it is in the log when this returns,
// and the answer may leave. Fewer units than admitted are given back.
func (m *Meter) Settle(ctx context.Context, a *Admission, units int64) error {
	if a == nil || !a.open {
		return nil
	}
	a.open = false
	defer m.fly(a, -a.units)
	if units > 0 && a.Quota.Meter != "" {
		if err := m.append(event{a.tenant, a.id + "." + a.Quota.Meter, a.Quota.Meter, units, a.period, a.actor, m.Now().UTC()}); err != nil {
			return err
		}
	}
	return m.giveBack(ctx, a, a.units-units)
}

// Release gives back everything: the call failed.
func (m *Meter) Release(ctx context.Context, a *Admission) {
	if a == nil || !a.open {
		return
	}
	a.open = false
	m.fly(a, -a.units)
	if err := m.giveBack(ctx, a, a.units); err != nil {
		m.Logger.Warn("units not given back; the next rebuild will", "error", err)
	}
}

func (m *Meter) giveBack(ctx context.Context, a *Admission, units int64) error {
	if units <= 0 || a.local || a.Quota.Meter == "" {
		return nil
	}
	return m.Counters.GiveBack(ctx, a.tenant, a.Quota.Meter, a.period, a.generation, units)
}

func (m *Meter) append(e event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// One write: a kill leaves it whole, or without its end and unacknowledged.
	n, err := m.log.Write(append(line, '\n'))
	if err != nil { // a full disk: half a line must not stand before the next one
		return errors.Join(err, m.log.Truncate(m.size))
	}
	m.size += int64(n)
	m.pending = append(m.pending, e)
	return nil
}

// RecordImport books imported rows in the caller's transaction, once for each
// event id, and refuses what goes beyond the period's quota. The sum of the
// period is a level, changed by one conditional update: exact however many
// imports run at once. Imports are jobs, so the shared counters are not asked.
func (m *Meter) RecordImport(ctx context.Context, units int64, id string) error {
	period, ends := m.period()
	scope, _ := domain.ScopeOf(ctx)
	row := event{scope.Tenant, id, "import_rows", units, period, scope.Actor.ID, m.Now().UTC()}.row()
	made := m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if made.Error != nil || made.RowsAffected == 0 {
		return made.Error
	}
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return err
	}
	ok, err := m.Plans.take(ctx, scope.Tenant, "import_rows/"+period, units, plan.Quotas["import_rows"])
	if err == nil && !ok {
		return domain.E(domain.TooMany, "quota_exceeded", "The quota of %s for this period is used up.", "import_rows").After(ends.Sub(m.Now()))
	}
	return err
}

func (e event) row() usageEvent {
	return usageEvent{store.Owned{TenantID: e.Tenant}, e.ID, e.Meter, e.Units, e.Period, e.At.Format("2006-01-02T15"), e.Actor, e.At}
}

func (m *Meter) insert(ctx context.Context, events []event) error {
	rows := make([]usageEvent, 0, len(events))
	for _, e := range events {
		rows = append(rows, e.row())
	}
	return m.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&rows).Error
}

func (m *Meter) store(ctx context.Context, events []event) error {
	const step = 200
	for len(events) > 0 {
		n := min(step, len(events))
		err := m.Store.Tx(domain.System(ctx, "usage ledger"), func(ctx context.Context) error { return m.insert(ctx, events[:n]) })
		if err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// Flush moves the log to the ledger. Events are idempotent, so a kill between
// the two is harmless.
func (m *Meter) Flush(ctx context.Context) error {
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	m.mu.Lock()
	events := append([]event(nil), m.pending...)
	m.mu.Unlock()
	if len(events) == 0 {
		return nil
	}
	if err := m.store(ctx, events); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append([]event(nil), m.pending[len(events):]...)
	if len(m.pending) == 0 {
		m.size = 0
		return m.log.Truncate(0)
	}
	return nil
}

func (m *Meter) run() {
	defer close(m.stopped)
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if err := m.Flush(ctx); err != nil {
				m.Logger.Error("usage stays in the local log", "error", err)
			}
			m.heal(ctx)
			cancel()
		case <-m.stopping:
			return
		}
	}
}

// heal drops the shared counters of the tenants that were admitted locally, so
// that they are rebuilt from the ledger.
func (m *Meter) heal(ctx context.Context) {
	if !m.degraded.Load() || !m.Counters.Healthy() {
		return
	}
	m.mu.Lock()
	touched := m.touched
	m.touched, m.local = map[[2]string]bool{}, map[string]*rate.Limiter{}
	m.mu.Unlock()
	failed := false
	for t := range touched {
		if err := m.Counters.Forget(ctx, t[0], t[1]); err != nil {
			failed = true
			m.mu.Lock()
			m.touched[t] = true
			m.mu.Unlock()
		}
	}
	if failed {
		return
	}
	m.degraded.Store(false)
}

// Close flushes and lets go of the log.
func (m *Meter) Close(ctx context.Context) error {
	close(m.stopping)
	<-m.stopped
	err := m.Flush(ctx)
	m.log.Close()
	if err == nil {
		err = os.Remove(m.path)
	}
	return err
}

// UsageRequest asks for a span; without one it is this period.
type UsageRequest struct {
	From        time.Time `query:"from"`
	To          time.Time `query:"to"`
	Granularity string    `query:"granularity" enum:"hour,day,month"`
}

// Point is what was used in one hour, day or month.
type Point struct {
	At    string `json:"at"`
	Units int64  `json:"units"`
}

// MeterUsage is one meter or level.
type MeterUsage struct {
	Meter     string     `json:"meter"`
	Used      int64      `json:"used"`
	Limit     *int64     `json:"limit" nullable:"true" doc:"null is unlimited"`
	Remaining *int64     `json:"remaining" nullable:"true"`
	ResetsAt  *time.Time `json:"resets_at" nullable:"true" doc:"null for a level"`
	Series    []Point    `json:"series,omitempty"`
}

// UsageResponse is every meter and level.
type UsageResponse struct {
	Plan string       `json:"plan"`
	Data []MeterUsage `json:"data" nullable:"false"`
}

// Usage reads the ledger.
func (m *Meter) Usage(ctx context.Context, in UsageRequest) (out UsageResponse, err error) {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return out, err
	}
	period, ends := m.period()
	if err := m.Flush(ctx); err != nil {
		return out, err
	}
	used, err := m.ledger(ctx, period)
	if err != nil {
		return out, err
	}
	series := map[string][]Point{}
	levels := map[string]int64{}
	width := map[string]int{"hour": 13, "day": 10, "month": 7}[in.Granularity]
	if in.From.IsZero() {
		in.From = ends.AddDate(0, -1, 0)
	}
	if in.To.IsZero() {
		in.To = ends
	}
	err = m.Store.Read(ctx, func(ctx context.Context) error {
		if width > 0 {
			var rows []struct {
				Meter, At string
				Units     int64
			}
			err := m.Store.SQL(ctx, `SELECT meter, substr(hour, 1, @width) AS at, CAST(sum(units) AS bigint) AS units FROM usage_events
				WHERE tenant_id = @tenant AND hour >= @from AND hour < @to GROUP BY 1, 2 ORDER BY 1, 2`,
				map[string]any{"width": width, "from": in.From.UTC().Format("2006-01-02T15"), "to": in.To.UTC().Format("2006-01-02T15")}).Scan(&rows).Error
			if err != nil {
				return err
			}
			for _, r := range rows {
				series[r.Meter] = append(series[r.Meter], Point{r.At, r.Units})
			}
		}
		var rows []struct {
			Level string
			Used  int64
		}
		err := m.Store.SQL(ctx, `SELECT level, used FROM tenant_levels WHERE tenant_id = @tenant`, nil).Scan(&rows).Error
		for _, r := range rows {
			levels[r.Level] = r.Used
		}
		return err
	})
	if err != nil {
		return out, err
	}
	out.Plan = plan.Name
	add := func(name string, used, limit int64, resets *time.Time) {
		u := MeterUsage{Meter: name, Used: used, ResetsAt: resets, Series: series[name]}
		if limit >= 0 {
			left := max(0, limit-used)
			u.Limit, u.Remaining = &limit, &left
		}
		out.Data = append(out.Data, u)
	}
	for _, name := range Meters {
		add(name, used[name], plan.Quotas[name], &ends)
	}
	for _, name := range Levels {
		add(name, levels[name], plan.Levels[name], nil)
	}
	return out, nil
}
