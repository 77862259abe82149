package monitor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// An alert is one rule broken by one subject:
//
//	finding ──held for rule.After──▶ firing ──────────▶ resolved
//	                                   │ told at once, again every Limits.Remind,
//	                                   │ and when it is over
//	                                   └─ not told while silenced, nor within
//	                                      Limits.Cooldown of the last message about it
//
// The state is in memory first, for the first thing that fails may be the
// database; rows follow as soon as they can be written. What a channel does not
// take is offered again at every check for an hour, by the next speaker where
// this one stops: a channel may hear something twice, and misses nothing.

// Alert is one of them as it is kept and told.
type Alert struct {
	ID         string     `gorm:"primaryKey" json:"id"`
	Rule       string     `json:"rule"`
	Subject    string     `json:"subject" doc:"the service, dependency or measure"`
	Severity   string     `json:"severity" enum:"critical,warning"`
	Status     string     `json:"status" enum:"firing,resolved"`
	Summary    string     `json:"summary"`
	Value      float64    `json:"value"`
	Silenced   bool       `json:"silenced"`
	StartedAt  time.Time  `json:"started_at"`
	NotifiedAt *time.Time `json:"notified_at" nullable:"true"`
	ResolvedAt *time.Time `json:"resolved_at" nullable:"true"`
	Owed       string     `json:"-"` // channels that have not heard of its present state, divided by spaces
}

// TableName is what migration 0140 calls it.
func (Alert) TableName() string { return "alerts" }

// Silence keeps alerts of a rule and subject from being told; they are listed
// all the same. An empty rule or subject is every one.
type Silence struct {
	ID        string    `gorm:"primaryKey" json:"id"`
	Rule      string    `json:"rule"`
	Subject   string    `json:"subject"`
	Reason    string    `json:"reason"`
	Author    string    `json:"author"`
	CreatedAt time.Time `json:"created_at"`
	EndsAt    time.Time `json:"ends_at"`
}

// TableName is what migration 0140 calls it.
func (Silence) TableName() string { return "alert_silences" }

// Channel is a way to the people who keep the platform.
type Channel struct {
	Name string
	Send func(ctx context.Context, a Alert) error
}

// finding is a rule broken just now.
type finding struct {
	rule, subject, severity string
	after                   time.Duration // how long it must hold before it is an alert
	summary                 string
	value                   float64
}

// findings are the rules.
func findings(s Snapshot, limits Limits) (out []finding) {
	for name, state := range s.Dependencies {
		switch state {
		case Down:
			out = append(out, finding{"dependency_down", name, "critical", 0, name + " " + either(s.Why[name], "does not answer"), 0})
		case Degraded:
			out = append(out, finding{"dependency_degraded", name, "warning", 2 * time.Minute, name + " " + either(s.Why[name], "answers worse than it should"), .5})
		}
	}
	for _, h := range s.Services {
		why := ""
		if h.Metadata.LastError != nil {
			why = ": " + *h.Metadata.LastError
		}
		switch h.Status {
		case Down:
			if h.unset { // which no keeper can have missed
				continue
			}
			out = append(out, finding{"service_down", h.Service, "critical", 0, h.Service + " is down" + why, 0})
		case Degraded:
			if h.off {
				continue
			}
			out = append(out, finding{"service_degraded", h.Service, "warning", 2 * time.Minute, h.Service + " is degraded" + why, .5})
		}
		if h.faulty {
			out = append(out, finding{"error_rate", h.Service, "warning", time.Minute, fmt.Sprintf("%.0f %% of the answers of %s are faults", h.ErrorRate*100, h.Service), h.ErrorRate})
		}
	}
	for name, g := range s.Gauges {
		measure, _, _ := strings.Cut(name, "/")
		limit, watched := limits.Gauges[measure]
		if !watched || g.Upper && g.Value < limit || !g.Upper && g.Value >= limit {
			continue
		}
		severity := "warning"
		if g.Unit == "share" && (g.Upper && g.Value >= 1 || !g.Upper && g.Value < limit/2) {
			severity = "critical"
		}
		out = append(out, finding{measure, name, severity, 0, fmt.Sprintf("%s is %.4g (%s), the limit is %.4g", name, g.Value, g.Unit, limit), g.Value})
	}
	return out
}

// alerts is what the process that speaks for all knows of them; the gate of the
// checks guards it.
type alerts struct {
	m     *Monitor
	count *prometheus.GaugeVec

	known    bool                 // what the last speaker left open
	since    map[string]time.Time // of findings, by rule and subject
	open     map[string]*Alert
	told     map[string]time.Time // the last message about it
	dirty    map[string]Alert     // to be written, by id
	owing    []debt               // in the order in which they came
	silences []Silence
}

// debt is an alert whose present state some channel has not heard of.
type debt struct {
	*Alert
	until time.Time
}

func newAlerts(m *Monitor) *alerts {
	a := &alerts{m: m, count: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "chainreactions_alerts_firing", Help: "Alerts that fire now, by severity."}, []string{"severity"})}
	a.forget()
	m.Registry.MustRegister(a.count)
	return a
}

// forget leaves the alerts to another process, which speaks now.
func (a *alerts) forget() {
	a.known, a.owing = false, nil
	a.since, a.open, a.told, a.dirty = map[string]time.Time{}, map[string]*Alert{}, map[string]time.Time{}, map[string]Alert{}
	a.gauge()
}

// gauge tells Prometheus how many fire.
func (a *alerts) gauge() {
	firing := map[string]float64{"critical": 0, "warning": 0}
	for _, al := range a.open {
		firing[al.Severity]++
	}
	for severity, n := range firing {
		a.count.WithLabelValues(severity).Set(n)
	}
}

// load takes over what fired when the last speaker stopped, whether by its end or
// by its place. What fires here already, since the database was away, is that.
func (a *alerts) load(ctx context.Context) error {
	var rows []Alert
	err := a.m.Store.Read(ctx, func(ctx context.Context) error {
		lately := a.m.Now().UTC().Add(-a.m.Limits().Cooldown)
		return a.m.Store.For(ctx).Where("status = ? OR owed <> '' OR resolved_at > ?", "firing", lately).Order("id").Find(&rows).Error
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		key := row.Rule + " " + row.Subject
		if al := a.open[key]; al != nil && row.Status == "firing" {
			delete(a.dirty, al.ID)
			al.ID, al.StartedAt = row.ID, row.StartedAt
			a.dirty[al.ID] = *al
			continue
		}
		if row.Owed != "" {
			a.owing = append(a.owing, debt{&row, a.m.Now().Add(giveUp)})
		}
		if row.Status != "firing" {
			if row.NotifiedAt != nil && row.ResolvedAt != nil { // the cool-down goes on, whoever speaks
				a.told[key] = *row.ResolvedAt
			}
			continue
		}
		a.open[key], a.since[key] = &row, row.StartedAt
		if row.NotifiedAt != nil {
			a.told[key] = *row.NotifiedAt
		}
	}
	a.known = true
	return nil
}

// evaluate moves every alert on by what was found.
func (a *alerts) evaluate(ctx context.Context, s Snapshot) {
	if !a.m.Leads() {
		a.forget()
		return
	}
	now, limits := s.At, a.m.Limits()
	if s.Dependencies["database"].works() {
		if !a.known {
			if err := a.load(ctx); err != nil {
				a.m.Logger.Warn("open alerts are not known", "error", err)
			}
		}
		a.readSilences(ctx, now)
	}
	found := map[string]bool{}
	for _, f := range findings(s, limits) {
		key := f.rule + " " + f.subject
		found[key] = true
		if _, ok := a.since[key]; !ok {
			a.since[key] = now
		}
		if now.Sub(a.since[key]) < f.after {
			continue
		}
		if a.open[key] == nil {
			a.open[key] = &Alert{ID: domain.NewID("alr"), Rule: f.rule, Subject: f.subject, Status: "firing", StartedAt: now}
		}
		al := a.open[key]
		if al.Summary == "" || al.Severity != f.severity {
			al.Severity, al.Summary, al.Value = f.severity, f.summary, f.value
			a.dirty[al.ID] = *al
		}
		a.tell(key, al, now, limits)
	}
	for key := range a.since {
		if found[key] {
			continue
		}
		delete(a.since, key)
		al := a.open[key]
		if al == nil {
			continue
		}
		delete(a.open, key)
		al.Status, al.ResolvedAt = "resolved", &now
		if al.NotifiedAt != nil && !al.Silenced { // who was told that it is bad is told that it is over
			a.told[key] = now
			a.offer(al, now)
		}
		a.dirty[al.ID] = *al
	}
	a.gauge()
	if s.Dependencies["database"].works() {
		a.write(ctx) // before a channel that hangs has used up the time
	}
	if a.deliver(ctx, now); s.Dependencies["database"].works() {
		a.write(ctx)
	}
}

// tell offers a firing alert to every channel, unless it is silenced or was
// told not long ago.
func (a *alerts) tell(key string, al *Alert, now time.Time, limits Limits) {
	silenced := slices.ContainsFunc(a.silences, func(s Silence) bool {
		return (s.Rule == "" || s.Rule == al.Rule) && (s.Subject == "" || s.Subject == al.Subject)
	})
	if silenced != al.Silenced {
		al.Silenced = silenced
		a.dirty[al.ID] = *al
	}
	pause := limits.Cooldown
	if al.NotifiedAt != nil {
		pause = limits.Remind
	}
	if last, ok := a.told[key]; silenced || ok && now.Sub(last) < pause {
		return
	}
	a.told[key], al.NotifiedAt = now, &now
	a.offer(al, now)
}

// giveUp is how long a channel is asked to take something.
const giveUp = time.Hour

func (a *alerts) offer(al *Alert, now time.Time) {
	var all []string
	for _, c := range a.m.Channels {
		all = append(all, c.Name)
	}
	al.Owed = strings.Join(all, " ")
	a.dirty[al.ID] = *al
	a.owing = append(slices.DeleteFunc(a.owing, func(d debt) bool { return d.Alert == al }), debt{al, now.Add(giveUp)})
	a.m.Logger.Log(context.Background(), level(*al), "alert", "rule", al.Rule, "subject", al.Subject, "status", al.Status, "summary", al.Summary)
}

// deliver tells what is owed, in order; a channel that fails is left alone until
// the next check.
func (a *alerts) deliver(ctx context.Context, now time.Time) {
	failed := map[string]bool{}
	for _, d := range a.owing {
		var left []string
		for _, c := range a.m.Channels {
			if !slices.Contains(strings.Fields(d.Owed), c.Name) {
				continue
			}
			if failed[c.Name] {
				left = append(left, c.Name)
				continue
			}
			bounded, cancel := context.WithTimeout(ctx, atMost)
			err := c.Send(bounded, *d.Alert)
			cancel()
			if err != nil {
				failed[c.Name] = true
				if now.Before(d.until) {
					left = append(left, c.Name)
				}
				a.m.Logger.Error("an alert is not told", "channel", c.Name, "rule", d.Rule, "subject", d.Subject, "given_up", !now.Before(d.until), "error", err)
			}
		}
		if owed := strings.Join(left, " "); owed != d.Owed {
			d.Owed = owed
			a.dirty[d.ID] = *d.Alert
		}
	}
	a.owing = slices.DeleteFunc(a.owing, func(d debt) bool { return d.Owed == "" })
}

// write makes rows of what changed.
func (a *alerts) write(ctx context.Context) {
	if len(a.dirty) == 0 {
		return
	}
	err := a.m.Store.Tx(ctx, func(ctx context.Context) error {
		for _, al := range a.dirty {
			if err := a.m.Store.For(ctx).Save(&al).Error; err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		a.m.Logger.Warn("alerts are not written yet", "error", err)
		return
	}
	clear(a.dirty)
}

func (a *alerts) readSilences(ctx context.Context, now time.Time) {
	var rows []Silence
	err := a.m.Store.Read(ctx, func(ctx context.Context) error {
		return a.m.Store.For(ctx).Where("ends_at > ?", now).Find(&rows).Error
	})
	if err != nil {
		a.m.Logger.Warn("silences are not known", "error", err)
		return
	}
	a.silences = rows
}

// AlertsRequest asks for alerts, the newest first.
type AlertsRequest struct {
	domain.PageRequest
	Status string `query:"status" enum:"firing,resolved" doc:"only these"`
}

// Alerts lists them. The caller is a platform administrator.
func (m *Monitor) Alerts(ctx context.Context, in AlertsRequest) (page domain.Page[Alert], err error) {
	err = m.Store.Read(domain.System(ctx, "alerts"), func(ctx context.Context) error {
		q := m.Store.For(ctx)
		if in.Status != "" {
			q = q.Where("status = ?", in.Status)
		}
		page, err = store.Newest(q, in.PageRequest, func(a Alert) string { return a.ID })
		return err
	})
	return page, err
}

// SilenceRequest asks for quiet.
type SilenceRequest struct {
	Rule    string `json:"rule" maxLength:"100" doc:"empty is every rule"`
	Subject string `json:"subject" maxLength:"100" doc:"empty is every subject"`
	Reason  string `json:"reason" minLength:"1" maxLength:"500"`
	Minutes int    `json:"minutes" minimum:"1" maximum:"10080"`
}

// SilenceAlerts keeps alerts from being told for a time. The caller is a
// platform administrator.
func (m *Monitor) SilenceAlerts(ctx context.Context, in SilenceRequest) (Silence, error) {
	scope, _ := domain.ScopeOf(ctx)
	now := m.Now().UTC().Truncate(time.Microsecond)
	s := Silence{ID: domain.NewID("sil"), Rule: in.Rule, Subject: in.Subject, Reason: in.Reason, Author: scope.Actor.ID,
		CreatedAt: now, EndsAt: now.Add(time.Duration(in.Minutes) * time.Minute)}
	return s, m.Store.Tx(domain.System(ctx, "alerts"), func(ctx context.Context) error { return m.Store.For(ctx).Create(&s).Error })
}

// SilencesRequest asks for silences, the newest first.
type SilencesRequest struct {
	domain.PageRequest
	Status string `query:"status" enum:"active,ended" doc:"only these"`
}

// Silences lists them. The caller is a platform administrator.
func (m *Monitor) Silences(ctx context.Context, in SilencesRequest) (page domain.Page[Silence], err error) {
	err = m.Store.Read(domain.System(ctx, "alerts"), func(ctx context.Context) error {
		q := m.Store.For(ctx)
		switch in.Status {
		case "active":
			q = q.Where("ends_at > ?", m.Now().UTC())
		case "ended":
			q = q.Where("ends_at <= ?", m.Now().UTC())
		}
		page, err = store.Newest(q, in.PageRequest, func(s Silence) string { return s.ID })
		return err
	})
	return page, err
}

// SilenceID names one.
type SilenceID struct {
	ID string `path:"id"`
}

// EndSilence has alerts told again from the next check on. What was silent stays
// in the list. The caller is a platform administrator.
func (m *Monitor) EndSilence(ctx context.Context, in SilenceID) error {
	now := m.Now().UTC().Truncate(time.Microsecond)
	return m.Store.Tx(domain.System(ctx, "alerts"), func(ctx context.Context) error {
		done := m.Store.For(ctx).Model(&Silence{}).Where("id = ? AND ends_at > ?", in.ID, now).Update("ends_at", now)
		if done.Error == nil && done.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		return done.Error
	})
}
