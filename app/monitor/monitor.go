// Package monitor knows how the services are that customers use, and what they
// stand on. Callers need not know how that is found out:
//
//	real work     every answer of the last five minutes, by service   ─┐
//	its endings   runs and jobs that ended in that time, from the     ─┤
//	              database, whichever process worked them              ├─▶ Snapshot ─▶ answers, metrics, alerts
//	probes        one cheap question to each dependency, every 30 s   ─┤
//	the others    what each other process says of these                ─┘
//
// No probe spends a provider's credit: it says no more than that somebody is
// there, and how calls end says the rest.
//
// A service is down when it cannot serve (its database, its role or every
// provider that could do its work is away, or half of its answers are faults)
// and degraded when it serves worse than it should, or has more to do than it can. Whatever is wrong is named
// in last_error, in words of ours: these answers are public, and nothing of an
// error's own text is in them.
package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// State is how something is, in a word.
type State string

// The states. A service has one of the first three; a dependency may also be
// emulated, embedded (both healthy) or not configured.
const (
	Healthy       State = "healthy"
	Degraded      State = "degraded"
	Down          State = "down"
	Emulated      State = "emulated"
	Embedded      State = "embedded"
	NotConfigured State = "not_configured"
)

// works reports whether something in this state can be used.
func (s State) works() bool { return s != Down && s != NotConfigured }

// well reports whether nothing is wrong with it.
func (s State) well() bool { return s == Healthy || s == Emulated || s == Embedded }

// Service is one thing that customers use. Every service stands on the
// database, and is degraded without Redis.
type Service struct {
	Name   string
	Role   string     // of the processes that serve it
	Any    [][]string // of each group one dependency must work, and those that are configured should
	Should []string   // dependencies without which a part of it does not work
}

// Dependency is one thing that services stand on. What Probe says beside the
// state is why it is not well, in words of ours.
type Dependency struct {
	Name     string
	External bool // a vendor's
	Probe    func(ctx context.Context) (State, string)
}

// Outcome is how work ended that no answer waited for.
type Outcome struct {
	Total, Faults int64
	Why           string // of the last fault, in a stable word
	Stuck         string // what waits and should not, or ""
}

// Report is what a process tells the others of itself.
type Report struct {
	Does string             `json:"does"`           // its roles
	Ails map[string]Ailment `json:"ails,omitempty"` // dependencies that it does not find well
	Work map[string]Work    `json:"work,omitempty"` // by service: the answers that it gave to callers
}

// Ailment is how a dependency is, and why.
type Ailment struct {
	State State  `json:"state"`
	Why   string `json:"why,omitempty"`
}

// Work is the answers of a process: of the last five minutes, and since it
// started.
type Work struct {
	Recent, RecentFaults int64
	Shed                 int64
	Timed                int64
	Took                 time.Duration
	Total, Faults        int64
	Fault                string // the code of the last one
}

// Config of a Monitor; Store, Services and Dependencies are required.
type Config struct {
	Store        *store.Store
	Services     []Service
	Dependencies []Dependency
	Outcomes     func(ctx context.Context, since time.Time) (map[string]Outcome, error)
	Off          func(service string) bool                  // switched off by its keepers; nil is no
	Exchange     func(context.Context, Report) []Report     // tells the others, and gives what they told; nil where there are none
	Again        func() (rung <-chan struct{}, done func()) // rung when somebody asks for a look now; nil is never
	RoleLives    func(role string) bool                     // whether some process serves it; nil is yes
	Gauges       func(ctx context.Context) map[string]Gauge // further measures that alerts watch
	Leads        func() bool                                // whether this process speaks for all: it raises the alerts; nil is yes
	Channels     []Channel                                  // where alerts go
	Limits       func() Limits                              // nil is DefaultLimits
	Share        time.Duration                              // how long after a look who asks for one gets it; 0 is a fifth of a second
	Every        time.Duration                              // between two checks; 0 is 30 seconds
	Registry     prometheus.Registerer
	Logger       *slog.Logger
	Now          func() time.Time
}

// Gauge is a measure beside its limit.
type Gauge struct {
	Value float64
	Unit  string
	Upper bool // it is bad when it is high; else when it is low
}

// Limits is from where on something is an alert or a degradation.
type Limits struct {
	ErrorRate, ErrorRateDown float64       // share of faults in five minutes
	ResponseTime             time.Duration // mean of five minutes
	Cooldown                 time.Duration // between two messages about one thing
	Remind                   time.Duration // a thing that stays bad is told again
	Gauges                   map[string]float64
}

// DefaultLimits is what holds where nothing else is said.
func DefaultLimits() Limits {
	return Limits{ErrorRate: .05, ErrorRateDown: .5, ResponseTime: 5 * time.Second, Cooldown: 5 * time.Minute, Remind: 4 * time.Hour,
		Gauges: map[string]float64{"disk_free": .1, "memory_used": .9, "jobs_wait": 300, "queue_full": .8, "backup_age": 60, "provider_budget": .8, "config_refused": 1,
			"billing_differences": 1, "billing_events_wait": 1, "billing_unknown_prices": 1, "billing_disputes": 1}}
}

// ParseLimits reads a comma list of limit=number over the defaults; times are
// in seconds.
func ParseLimits(text string) (Limits, error) {
	l := DefaultLimits()
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n > 0) || math.IsInf(n, 0) {
			return l, fmt.Errorf("%q is not limit=number", part)
		}
		seconds := time.Duration(n * float64(time.Second))
		switch name {
		case "error_rate":
			l.ErrorRate = n
		case "error_rate_down":
			l.ErrorRateDown = n
		case "response_time":
			l.ResponseTime = seconds
		case "cooldown":
			l.Cooldown = seconds
		case "remind":
			l.Remind = seconds
		default:
			if _, ok := l.Gauges[name]; !ok {
				return l, fmt.Errorf("there is no limit %q", name)
			}
			l.Gauges[name] = n
		}
	}
	return l, nil
}

// Monitor is the package's one object.
type Monitor struct {
	Config
	started time.Time
	gate    sync.Mutex // one check at a time
	looked  time.Time  // when the last one ended; under gate
	alerts  *alerts

	mu     sync.Mutex
	work   map[string]*record
	latest Snapshot

	status  *prometheus.GaugeVec
	depends *prometheus.GaugeVec
	gauges  *prometheus.GaugeVec
}

// record is what is remembered of a service.
type record struct {
	window        [slots]slot
	total, faults int64
	fault         string // the code of the last one
	lastError     string
	consecutive   int64
	upSince       time.Time
}

// The window of real work: five minutes in slots of ten seconds.
const (
	slots  = 30
	slotOf = 10 * time.Second
	window = slots * slotOf
	enough = 10 // answers before a share of them says anything
	few    = 3  // that are all faults say something too
	atMost = 5 * time.Second
)

type slot struct {
	at            int64
	total, faults int64
	timed         int64
	took          time.Duration
	shed          int64 // that are not of the total
}

// New makes a Monitor that has not looked yet.
func New(c Config) *Monitor {
	if c.Store == nil || len(c.Services) == 0 || len(c.Dependencies) == 0 {
		panic("monitor: Store, Services and Dependencies are required")
	}
	if c.Every == 0 {
		c.Every = 30 * time.Second
	}
	if c.Share == 0 {
		c.Share = time.Second / 5
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.RoleLives == nil {
		c.RoleLives = func(string) bool { return true }
	}
	if c.Off == nil {
		c.Off = func(string) bool { return false }
	}
	if c.Leads == nil {
		c.Leads = func() bool { return true }
	}
	if c.Limits == nil {
		c.Limits = DefaultLimits
	}
	if c.Exchange == nil {
		c.Exchange = func(context.Context, Report) []Report { return nil }
	}
	if c.Again == nil {
		c.Again = func() (<-chan struct{}, func()) { return nil, func() {} }
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	gauge := func(name, help, label string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "chainreactions_" + name, Help: help}, []string{label})
		c.Registry.MustRegister(g)
		return g
	}
	m := &Monitor{Config: c, started: c.Now(), work: map[string]*record{},
		status:  gauge("service_status", "1 healthy, 0.5 degraded, 0 down.", "service"),
		depends: gauge("dependency_status", "1 healthy, 0.5 degraded, 0 down; absent where it is not configured.", "dependency"),
		gauges:  gauge("watched", "What alerts watch, by name and subject.", "measure")}
	for _, s := range c.Services {
		m.work[s.Name] = &record{upSince: m.started}
	}
	m.alerts = newAlerts(m)
	return m
}

// Observe notes one answer of a service. fault is "" or the stable code of what
// was our fault and not the caller's; took is 0 where how long it took says
// nothing, as of a stream.
func (m *Monitor) Observe(service string, took time.Duration, fault string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.work[service]
	if r == nil {
		return
	}
	s := r.slot(m.Now())
	s.total++
	r.total++
	if took > 0 {
		s.timed++
		s.took += took
	}
	if fault != "" {
		s.faults++
		r.faults++
		r.fault, r.lastError = fault, fault
	}
}

// Shed notes that a service told somebody early to come again, since as much as it
// can do is under way: the service works, and has too much of it.
func (m *Monitor) Shed(service string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.work[service]; r != nil {
		r.slot(m.Now()).shed++
		r.total++
	}
}

func (r *record) slot(now time.Time) *slot {
	at := now.UnixNano() / int64(slotOf)
	s := &r.window[at%slots]
	if s.at != at {
		*s = slot{at: at}
	}
	return s
}

// recent sums the window.
func (r *record) recent(now time.Time) (sum slot) {
	oldest := now.UnixNano()/int64(slotOf) - slots
	for _, s := range r.window {
		if s.at > oldest {
			sum.total += s.total
			sum.faults += s.faults
			sum.timed += s.timed
			sum.took += s.took
			sum.shed += s.shed
		}
	}
	return sum
}

// Dependencies is what a service stands on.
type Dependencies struct {
	Database     State            `json:"database"`
	Redis        State            `json:"redis"`
	Storage      State            `json:"storage" doc:"the folder for files"`
	ExternalAPIs map[string]State `json:"external_apis"`
}

// Metadata says more of a service.
type Metadata struct {
	LastError           *string `json:"last_error" nullable:"true" doc:"what was wrong last, in a word"`
	ConsecutiveFailures int64   `json:"consecutive_failures" doc:"checks in a row that did not find it healthy"`
	TotalRequests       int64   `json:"total_requests" doc:"answers of the processes that run, since each started"`
	TotalErrors         int64   `json:"total_errors" doc:"those of them that were our fault"`
}

// Health is how one service is.
type Health struct {
	Service        string       `json:"service"`
	Status         State        `json:"status" enum:"healthy,degraded,down"`
	LastCheck      time.Time    `json:"last_check"`
	ResponseTimeMS float64      `json:"response_time_ms" doc:"mean of the last five minutes' answers; of the probes where there were none"`
	ErrorRate      float64      `json:"error_rate" doc:"share of the last five minutes' work that ended in a fault of ours"`
	UptimeSeconds  int64        `json:"uptime_seconds" doc:"since it was last down"`
	Dependencies   Dependencies `json:"dependencies"`
	Metadata       Metadata     `json:"metadata"`
	unset          bool         // it is down since nobody set it up
	off            bool         // nothing is wrong but that its keepers switched it off
	faulty         bool         // enough of the last five minutes' work to judge, and too much of it faults
}

// Snapshot is what one check found.
type Snapshot struct {
	Services     []Health
	Dependencies map[string]State
	Why          map[string]string // of dependencies that are not well
	Gauges       map[string]Gauge
	At           time.Time
}

// Run checks now and then every interval, until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	t := time.NewTicker(m.Every)
	defer t.Stop()
	for {
		m.Check(ctx)
		rung, done := m.Again()
		select {
		case <-t.C:
		case <-rung:
		case <-ctx.Done():
			done()
			return
		}
		done()
	}
}

// Latest is the last check's snapshot; the first asker waits for the first.
func (m *Monitor) Latest(ctx context.Context) Snapshot {
	m.mu.Lock()
	s := m.latest
	m.mu.Unlock()
	if s.At.IsZero() {
		return m.Check(ctx)
	}
	return s
}

// Known is how dependencies were at the last look; nil where there was none yet.
func (m *Monitor) Known() map[string]State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest.Dependencies
}

// Check looks at everything now. Those who ask while somebody looks share that
// look: it may take as long as a dependency that hangs is waited for.
func (m *Monitor) Check(ctx context.Context) Snapshot {
	asked := m.Now()
	m.gate.Lock()
	defer m.gate.Unlock()
	if asked.Before(m.looked.Add(m.Share)) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.latest
	}
	now := m.Now()
	ctx, cancel := context.WithTimeout(domain.System(context.WithoutCancel(ctx), "monitoring"), 2*atMost)
	defer cancel()
	states, why, took := m.probe(ctx)
	others := m.Exchange(ctx, m.report(states, why, now))
	for _, o := range others {
		for name, a := range o.Ails {
			if states[name].well() { // here; so it is not down for all
				states[name], why[name] = Degraded, fmt.Sprintf("is %s in a process of %s", a.State, o.Does)
				if a.Why != "" {
					why[name] += ": " + a.Why
				}
			}
		}
	}
	outcomes := map[string]Outcome{}
	var gauges map[string]Gauge
	if states["database"].works() {
		var err error
		if m.Outcomes != nil {
			if outcomes, err = m.Outcomes(ctx, now.Add(-window)); err != nil {
				m.Logger.Warn("endings of work are not known", "error", err)
			}
		}
	}
	if m.Gauges != nil {
		gauges = m.Gauges(ctx)
	}
	s := Snapshot{Dependencies: states, Why: why, Gauges: gauges, At: now.UTC()}
	m.mu.Lock()
	for _, svc := range m.Services {
		s.Services = append(s.Services, m.judge(svc, s, outcomes[svc.Name], others, took, now))
	}
	m.latest = s
	m.mu.Unlock()
	m.measure(s)
	m.alerts.evaluate(ctx, s)
	m.looked = m.Now()
	return s
}

// report is what this process finds by itself.
func (m *Monitor) report(states map[string]State, why map[string]string, now time.Time) Report {
	r := Report{Ails: map[string]Ailment{}, Work: map[string]Work{}}
	for name, s := range states {
		if s == Down || s == Degraded {
			r.Ails[name] = Ailment{s, why[name]}
		}
	}
	m.mu.Lock()
	for name, of := range m.work {
		if recent := of.recent(now); of.total > 0 || recent.shed > 0 {
			r.Work[name] = Work{recent.total, recent.faults, recent.shed, recent.timed, recent.took, of.total, of.faults, of.fault}
		}
	}
	m.mu.Unlock()
	return r
}

// probe asks every dependency at once.
func (m *Monitor) probe(ctx context.Context) (states map[string]State, why map[string]string, took time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	type answer struct {
		name  string
		state State
		why   string
		took  time.Duration
	}
	answers := make(chan answer, len(m.Dependencies))
	for _, d := range m.Dependencies {
		go func() {
			started := time.Now()
			state, why := d.Probe(ctx)
			answers <- answer{d.Name, state, why, time.Since(started)}
		}()
	}
	states, why = map[string]State{}, map[string]string{}
	for range m.Dependencies {
		a := <-answers
		if states[a.name] = a.state; !a.state.well() && a.why != "" {
			why[a.name] = a.why
		}
		if a.name == "database" {
			took = a.took
		}
	}
	return states, why, took
}

// judge says how a service is. The caller holds mu.
func (m *Monitor) judge(svc Service, s Snapshot, ended Outcome, others []Report, probed time.Duration, now time.Time) Health {
	r, limits, states := m.work[svc.Name], m.Limits(), s.Dependencies
	recent, total, faults, fault := r.recent(now), r.total, r.faults, r.fault
	for _, o := range others {
		w := o.Work[svc.Name]
		recent.total, recent.faults, recent.shed, recent.timed, recent.took = recent.total+w.Recent, recent.faults+w.RecentFaults, recent.shed+w.Shed, recent.timed+w.Timed, recent.took+w.Took
		total, faults, fault = total+w.Total, faults+w.Faults, either(fault, w.Fault)
	}
	recent.total += ended.Total
	recent.faults += ended.Faults
	h := Health{Service: svc.Name, Status: Healthy, LastCheck: now.UTC(), ResponseTimeMS: float64(probed.Microseconds()) / 1000,
		Dependencies: Dependencies{Database: states["database"], Redis: states["redis"], Storage: states["storage"], ExternalAPIs: map[string]State{}}}
	for _, d := range m.Dependencies {
		if d.External {
			h.Dependencies.ExternalAPIs[d.Name] = states[d.Name]
		}
	}
	if recent.timed > 0 {
		h.ResponseTimeMS = float64((recent.took / time.Duration(recent.timed)).Microseconds()) / 1000
	}
	if recent.total > 0 {
		h.ErrorRate = float64(recent.faults) / float64(recent.total)
	}
	named := func(name string) string { // how a dependency is
		out := name + " is " + string(states[name])
		if why := s.Why[name]; why != "" {
			out += ": " + why
		}
		return out
	}
	worse := func(s State, why string) {
		if h.Status == Healthy || s == Down && h.Status != Down {
			h.Status, r.lastError = s, why
		}
	}
	if !m.RoleLives(svc.Role) {
		worse(Down, "no process serves the role "+svc.Role)
	}
	if !states["database"].works() {
		worse(Down, named("database"))
	}
	for _, group := range svc.Any {
		if !slices.ContainsFunc(group, func(name string) bool { return states[name].works() }) {
			configured := slices.DeleteFunc(slices.Clone(group), func(name string) bool { return states[name] == NotConfigured })
			if len(configured) == 0 {
				h.unset = h.unset || h.Status != Down
				worse(Down, fmt.Sprintf("none of %v is configured", group))
			} else {
				worse(Down, named(configured[0]))
			}
		}
	}
	if recent.total >= enough && h.ErrorRate >= limits.ErrorRateDown {
		worse(Down, "most answers are faults: "+either(ended.Why, fault))
	}
	for _, name := range []string{"database", "redis"} {
		if !states[name].well() {
			worse(Degraded, named(name))
		}
	}
	for _, name := range svc.Should {
		if s := states[name]; s == Down || s == Degraded {
			worse(Degraded, named(name))
		}
	}
	for _, group := range svc.Any {
		for _, name := range group {
			if s := states[name]; s == Down || s == Degraded {
				worse(Degraded, named(name))
			}
		}
	}
	if h.faulty = recent.total >= enough && h.ErrorRate >= limits.ErrorRate || recent.total >= few && recent.faults == recent.total; h.faulty {
		worse(Degraded, "answers are faults: "+either(ended.Why, fault))
	}
	if ended.Stuck != "" {
		worse(Degraded, ended.Stuck)
	}
	if recent.timed >= enough && recent.took/time.Duration(recent.timed) >= limits.ResponseTime {
		worse(Degraded, "answers are slow")
	}
	if asked := recent.total + recent.shed; asked >= enough && float64(recent.shed)/float64(asked) >= limits.ErrorRate {
		worse(Degraded, "overloaded: some are told to come again")
	}
	if h.off = h.Status == Healthy && m.Off(svc.Name); h.off {
		worse(Degraded, "it is switched off, or a part of it")
	}
	if h.Status == Healthy {
		r.consecutive = 0
	} else {
		r.consecutive++
	}
	if h.Status == Down {
		r.upSince = now
	}
	h.UptimeSeconds = int64(now.Sub(r.upSince).Seconds())
	h.Metadata = Metadata{ConsecutiveFailures: r.consecutive, TotalRequests: total, TotalErrors: faults}
	if r.lastError != "" {
		why := r.lastError
		h.Metadata.LastError = &why
	}
	return h
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// measure tells Prometheus.
func (m *Monitor) measure(s Snapshot) {
	number := func(s State) float64 {
		switch {
		case s.well():
			return 1
		case s == Degraded:
			return .5
		}
		return 0
	}
	for _, h := range s.Services {
		m.status.WithLabelValues(h.Service).Set(number(h.Status))
	}
	for name, state := range s.Dependencies {
		if state == NotConfigured {
			m.depends.DeleteLabelValues(name)
			continue
		}
		m.depends.WithLabelValues(name).Set(number(state))
	}
	m.gauges.Reset()
	for name, g := range s.Gauges {
		m.gauges.WithLabelValues(name).Set(g.Value)
	}
}

// List is how all services are.
type List struct {
	Services  []Health  `json:"services" nullable:"false"`
	Total     int       `json:"total"`
	Healthy   int       `json:"healthy"`
	Degraded  int       `json:"degraded"`
	Down      int       `json:"down"`
	Timestamp time.Time `json:"timestamp"`
}

func (s Snapshot) list() List {
	out := List{Services: s.Services, Total: len(s.Services), Timestamp: s.At}
	for _, h := range s.Services {
		switch h.Status {
		case Healthy:
			out.Healthy++
		case Degraded:
			out.Degraded++
		default:
			out.Down++
		}
	}
	return out
}

// overall is the worst that all share: down where every service is, healthy
// where each is.
func (s Snapshot) overall() State {
	switch l := s.list(); {
	case l.Healthy == l.Total:
		return Healthy
	case l.Down == l.Total:
		return Down
	}
	return Degraded
}

// All answers how the services were at the last check.
func (m *Monitor) All(ctx context.Context, _ struct{}) (List, error) {
	return m.Latest(ctx).list(), nil
}

// CheckNow looks again and answers like All.
func (m *Monitor) CheckNow(ctx context.Context, _ struct{}) (List, error) {
	return m.Check(ctx).list(), nil
}

// OneRequest names a service.
type OneRequest struct {
	Service string `path:"service"`
}

// One answers how one service was at the last check.
func (m *Monitor) One(ctx context.Context, in OneRequest) (Health, error) {
	for _, h := range m.Latest(ctx).Services {
		if h.Service == in.Service {
			return h, nil
		}
	}
	return Health{}, domain.ErrNotFound()
}

// Summary is the services in a word each.
type Summary struct {
	Overall   State            `json:"overall" enum:"healthy,degraded,down"`
	Services  map[string]State `json:"services"`
	Timestamp time.Time        `json:"timestamp"`
}

// Summarize answers the summary of the last check.
func (m *Monitor) Summarize(ctx context.Context, _ struct{}) (Summary, error) {
	return m.Latest(ctx).summary(), nil
}

func (s Snapshot) summary() Summary {
	out := Summary{Overall: s.overall(), Services: map[string]State{}, Timestamp: s.At}
	for _, h := range s.Services {
		out.Services[h.Service] = h.Status
	}
	return out
}

// Status says of the monitoring itself whether it runs.
type Status struct {
	Monitoring struct {
		IsRunning     bool      `json:"is_running" doc:"the last check is not older than two intervals"`
		ServicesCount int       `json:"services_count"`
		LastUpdate    time.Time `json:"last_update"`
		UptimeSeconds int64     `json:"uptime_seconds"`
	} `json:"monitoring"`
	Services []Health `json:"services" nullable:"false"`
}

// Show answers the status.
func (m *Monitor) Show(ctx context.Context, _ struct{}) (out Status, err error) {
	s := m.Latest(ctx)
	out.Services = s.Services
	out.Monitoring.IsRunning = m.Now().Sub(s.At) < 2*m.Every
	out.Monitoring.ServicesCount, out.Monitoring.LastUpdate = len(s.Services), s.At
	out.Monitoring.UptimeSeconds = int64(m.Now().Sub(m.started).Seconds())
	return out, nil
}

// Enhanced is the summary together with what the services stand on; 503 while
// one of them is down.
type Enhanced struct {
	Summary
	Dependencies map[string]State   `json:"dependencies"`
	Reasons      map[string]string  `json:"reasons" nullable:"false" doc:"why those of them that are not well are not"`
	Queues       map[string]float64 `json:"queues" doc:"of each kind of heavy work, how much of what may wait does; from 1 on more is refused"`
}

// QueueFull and a kind of work is the gauge of how much of what may wait does.
const QueueFull = "queue_full/"

// Enhance gives it, and whether no service is down.
func (m *Monitor) Enhance(ctx context.Context) (Enhanced, bool) {
	s := m.Latest(ctx)
	out := Enhanced{s.summary(), s.Dependencies, s.Why, map[string]float64{}}
	for name, g := range s.Gauges {
		if kind, ok := strings.CutPrefix(name, QueueFull); ok {
			out.Queues[kind] = g.Value
		}
	}
	return out, s.list().Down == 0
}
