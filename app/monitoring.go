package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/mail"
	"github.com/chainreactions/chainreactions/app/monitor"
	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/research"
)

// switchOf is what turns a service off, or a part of it.
var switchOf = map[string]string{"entity_relations": "research.entity_relations", "entity_search": "research.entity_search", "dataset_search": "research.dataset_search",
	"dataset_matching": "matching", "data_management": "imports"}

// services are what customers use: the role that serves each, and the providers
// of which one of every group must work.
var services = []monitor.Service{
	{Name: "entity_relations", Role: "entity-relations", Any: [][]string{{"gemini", "openai"}, {"brightdata", "searxng", "linkup"}}},
	{Name: "entity_search", Role: "main", Any: [][]string{{"linkup", "brightdata", "searxng"}}},
	{Name: "dataset_matching", Role: "dataset-matching", Should: []string{"storage"}},
	{Name: "data_management", Role: "main", Should: []string{"storage"}},
	{Name: "dataset_search", Role: "dataset-search", Any: [][]string{{"linkup", "brightdata", "searxng"}}},
	{Name: "email", Role: "main", Any: [][]string{{"smtp"}}},
}

// serviceOf says by the first segments of a path whose work an answer is.
var serviceOf = map[string]string{
	"entity-relations": "entity_relations",
	"entity-searches":  "entity_search",
	"matches":          "dataset_matching",
	"match-jobs":       "dataset_matching",
	"matching":         "dataset_matching",
	"demo":             "dataset_matching",
	"datasets":         "data_management",
	"imports":          "data_management",
	"entries":          "data_management",
	"catalog":          "data_management",
	"dataset-searches": "dataset_search",
	"demo-requests":    "email",
}

// observe is told of every answer. The caller's own mistakes are no fault of
// the service, and neither is that it takes no more than it can do.
func (p *program) observe(row api.Row, status int, code string, took time.Duration) {
	segment, _, _ := strings.Cut(strings.TrimPrefix(row.Path, "/api/v1/"), "/")
	service := serviceOf[segment]
	if service == "" {
		return
	}
	if status < 500 || code == api.SwitchedOff {
		code = ""
	}
	if row.Waits() {
		took = 0
	}
	if code == api.Shed {
		p.monitor.Shed(service)
		return
	}
	p.monitor.Observe(service, took, code)
}

// usageMetrics are about what customers use, of all tenants together.
func (p *program) usageMetrics() {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "chainreactions_" + name, Help: help}, labels)
		p.registry.MustRegister(c)
		return c
	}
	p.units = counter("metered_units_total", "Units that came into the ledger, by meter.", "meter")
	p.returned = counter("metered_units_returned_total", "Units that went out of it again, since they were not used after all.", "meter")
	p.admissions = counter("admissions_refused_total", "Calls, work and streams that a plan's limits did not admit, by meter (the rate has none) and code.", "meter", "code")
}

func (p *program) counted(meter string, units int64) {
	if units < 0 {
		p.returned.WithLabelValues(meter).Add(float64(-units))
		return
	}
	p.units.WithLabelValues(meter).Add(float64(units))
}

func (p *program) notAdmitted(meter, code string) { p.admissions.WithLabelValues(meter, code).Inc() }

// connectionMetrics are about what this process holds open.
func (p *program) connectionMetrics() {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		p.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chainreactions_" + name, Help: help, ConstLabels: labels}, value))
	}
	gauge("event_streams", "Event streams that are open.", nil, func() float64 { return float64(p.api.Streams()) })
	gauge("http_connections", "Connections of callers that are open.", nil, func() float64 { return float64(p.api.Connections()) })
	const redis, database = "Connections to Redis, by whether one is in use.", "Connections to the database, by whether one is in use."
	held := func() (used, idle, most float64) {
		if pool := p.store.Pool(); pool != nil {
			s := pool.Stat()
			return float64(s.AcquiredConns()), float64(s.IdleConns()), float64(s.MaxConns())
		}
		s := p.store.SQLDB().Stats()
		return float64(s.InUse), float64(s.Idle), float64(s.MaxOpenConnections)
	}
	gauge("redis_connections", redis, prometheus.Labels{"state": "in_use"}, func() float64 { used, _ := p.cluster.Connections(); return float64(used) })
	gauge("redis_connections", redis, prometheus.Labels{"state": "idle"}, func() float64 { _, idle := p.cluster.Connections(); return float64(idle) })
	gauge("database_connections", database, prometheus.Labels{"state": "in_use"}, func() float64 { used, _, _ := held(); return used })
	gauge("database_connections", database, prometheus.Labels{"state": "idle"}, func() float64 { _, idle, _ := held(); return idle })
	gauge("database_connections_limit", "How many of them there may be.", nil, func() float64 { _, _, most := held(); return most })
}

// openMonitor says what is watched, and who is told.
func (p *program) openMonitor(c Config, log *slog.Logger) {
	pinged := func(name string, well monitor.State, ping func(context.Context) error) monitor.Dependency {
		return monitor.Dependency{Name: name, Probe: func(ctx context.Context) (monitor.State, string) {
			if err := ping(ctx); err != nil {
				log.Warn("a dependency does not answer", "dependency", name, "error", err)
				return monitor.Down, "does not answer"
			}
			return well, ""
		}}
	}
	redis := pinged("redis", monitor.Healthy, p.cluster.Ping)
	if p.cluster.Embedded() {
		redis = pinged("redis", monitor.Embedded, p.cluster.Ping)
	}
	smtp := pinged("smtp", monitor.Healthy, p.mail.Ping)
	if c.SMTP.Host == "" {
		smtp = pinged("smtp", monitor.Emulated, p.mail.Ping) // the outbox
	}
	greets := smtp.Probe
	smtp.Probe = func(ctx context.Context) (monitor.State, string) {
		s, why := greets(ctx)
		if sent := p.mails.State(); s != monitor.Down && sent != monitor.Healthy {
			return sent, "does not take what is sent"
		}
		return s, why
	}
	smtp.External = true
	dependencies := []monitor.Dependency{{Name: "database", Probe: p.askDatabase}, redis, {Name: "storage", Probe: p.askStorage}, smtp}
	if there, _ := p.store.Replica(); there {
		dependencies = append(dependencies, monitor.Dependency{Name: "database_replica", Probe: func(context.Context) (monitor.State, string) {
			if _, fresh := p.store.Replica(); !fresh {
				return monitor.Degraded, "is away or behind, and the primary is asked for everything"
			}
			return monitor.Healthy, ""
		}})
	}
	for _, name := range provider.Names {
		dependencies = append(dependencies, monitor.Dependency{Name: name, External: true, Probe: func(ctx context.Context) (monitor.State, string) {
			state, why := p.vendors.Look(ctx, name)
			return monitor.State(state), why
		}})
	}
	dependencies = append(dependencies, monitor.Dependency{Name: "stripe", External: true, Probe: func(ctx context.Context) (monitor.State, string) {
		if p.payments == nil {
			return monitor.NotConfigured, ""
		}
		address := c.StripeAPIBase
		if address == "" {
			address = "https://api.stripe.com"
		}
		return p.payments.Probe(ctx, address)
	}})
	p.jobGauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "chainreactions_jobs", Help: "Jobs by kind and state, as of the last check."}, []string{"kind", "state"})
	p.registry.MustRegister(p.jobGauge, collectors.NewDBStatsCollector(p.store.SQLDB(), "chainreactions"))
	p.connectionMetrics()
	p.alertLimits.Store(&c.AlertLimits)
	var channels []monitor.Channel
	// A restored system tells nobody; one whose database is away must.
	silent := func(ctx context.Context) bool { on, err := p.quarantine.On(ctx); return err == nil && on }
	if c.AlertWebhook != "" {
		channels = append(channels, monitor.Channel{Name: "webhook", Send: func(ctx context.Context, a monitor.Alert) error {
			if silent(ctx) {
				return nil
			}
			return postAlert(ctx, c.AlertWebhook, c.AlertSecret, a)
		}})
	}
	if c.AlertEmail != "" {
		channels = append(channels, monitor.Channel{Name: "mail", Send: func(ctx context.Context, a monitor.Alert) error {
			if silent(ctx) {
				return nil
			}
			return p.mail.SendNow(ctx, domain.Mail{Template: "alert", To: c.AlertEmail, Locale: "en", Data: map[string]string{
				"severity": a.Severity, "summary": a.Summary, "rule": a.Rule, "subject": a.Subject, "status": a.Status, "since": a.StartedAt.Format(time.RFC3339)}})
		}})
	}
	p.monitor = monitor.New(monitor.Config{Store: p.store, Services: services, Dependencies: dependencies, Outcomes: p.outcomes, Gauges: p.gauges,
		Channels: channels, Limits: func() monitor.Limits { return *p.alertLimits.Load() },
		Exchange: p.exchange, Again: func() (<-chan struct{}, func()) { return p.cluster.Wait(lookAgain) },
		Off:   func(service string) bool { return p.isOff(switchOf[service]) },
		Leads: p.speaks, RoleLives: func(role string) bool {
			young := time.Since(p.started) < 10*time.Second // and has not heard of everybody
			return len(c.Roles) == 0 || p.serves(role) || young || len(p.membersOf(role)) > 0
		}, Registry: p.registry, Logger: log})
}

// lookAgain is the bell of who asks for a look now: every process does.
const lookAgain = "monitoring"

// checkNow looks again and has the others look too: what they find is heard by
// the next look.
func (p *program) checkNow(ctx context.Context, in struct{}) (monitor.List, error) {
	p.cluster.Ring(ctx, lookAgain)
	return p.monitor.CheckNow(ctx, in)
}

// exchange tells the other processes how this one finds things, and hears of them.
func (p *program) exchange(ctx context.Context, own monitor.Report) (others []monitor.Report) {
	own.Does = "all"
	if len(p.config.Roles) > 0 {
		own.Does = strings.Join(p.config.Roles, " and ")
	}
	raw, err := json.Marshal(own)
	if err != nil {
		return nil
	}
	for _, raw := range p.cluster.Exchange(ctx, raw) {
		var r monitor.Report
		if json.Unmarshal(raw, &r) == nil {
			others = append(others, r)
		}
	}
	return others
}

// askDatabase reads and writes, as the roles that serve tenants' work.
func (p *program) askDatabase(ctx context.Context) (monitor.State, string) {
	ctx = domain.System(ctx, "monitoring")
	fails := func(err error, what string) (monitor.State, string) {
		p.log.Warn("a dependency does not answer", "dependency", "database", "error", err)
		return monitor.Down, what
	}
	err := p.store.Read(ctx, func(ctx context.Context) error {
		var n int64
		return p.store.SQL(ctx, "SELECT count(*) FROM (SELECT 1 FROM tenants LIMIT 1) AS t", nil).Scan(&n).Error
	})
	if err != nil {
		return fails(err, "does not answer")
	}
	err = p.store.Tx(ctx, func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, "INSERT INTO monitor_writes (id, at) VALUES ('last', @at) ON CONFLICT (id) DO UPDATE SET at = @at", map[string]any{"at": time.Now().UTC()})
		return err
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return monitor.Degraded, "answers, and takes long to write"
	case err != nil:
		return fails(err, "cannot be written")
	}
	return monitor.Healthy, ""
}

// askStorage writes where uploads are kept.
func (p *program) askStorage(context.Context) (monitor.State, string) {
	uploads := filepath.Join(p.config.DataDir, "uploads")
	err := os.MkdirAll(uploads, 0o700)
	var f *os.File
	if err == nil {
		f, err = os.CreateTemp(uploads, ".look-*")
	}
	if err == nil {
		_, err = f.Write(make([]byte, 64<<10))
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err == nil {
		return monitor.Healthy, ""
	}
	p.log.Warn("a dependency does not answer", "dependency", "storage", "error", err)
	if errors.Is(err, syscall.ENOSPC) {
		return monitor.Down, "is full"
	}
	return monitor.Down, "cannot be written"
}

// postAlert sends an alert as JSON; "text" is what chat rooms show. What is sent
// again has the same id (https://www.standardwebhooks.com).
func postAlert(ctx context.Context, address string, secret []byte, a monitor.Alert) error {
	body, err := json.Marshal(struct {
		Text string `json:"text"`
		monitor.Alert
	}{fmt.Sprintf("[%s] %s: %s", a.Severity, a.Status, a.Summary), a})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address of ALERT_WEBHOOK is not one")
	}
	req.Header.Set("Content-Type", "application/json")
	id, stamp := fmt.Sprintf("%s_%s_%d", a.ID, a.Status, a.NotifiedAt.Unix()), strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", stamp)
	if len(secret) > 0 {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
		req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return errors.New("the address of ALERT_WEBHOOK does not answer") // the error's text has the address, which is a secret
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("ALERT_WEBHOOK answers %d", resp.StatusCode)
	}
	return nil
}

// deliver hands a mail over, and remembers whether the server takes any.
func (p *program) deliver(ctx context.Context, j mail.Job) error {
	err := p.mail.Deliver(ctx, j)
	switch kind := domain.KindOf(err); {
	case err == nil:
		p.mails.Ended(true)
	case kind != domain.Invalid && kind != domain.TooMany && ctx.Err() == nil: // it was not the mail's fault, nor ours
		p.mails.Ended(false)
	}
	return err
}

// outcomes is how work ended lately that no answer waited for. A run that the
// caller cancelled, or asked for what cannot be, is no fault of ours.
func (p *program) outcomes(ctx context.Context, since time.Time) (map[string]monitor.Outcome, error) {
	out := map[string]monitor.Outcome{}
	ended, err := p.research.Ended(ctx, since)
	for _, e := range ended {
		name := map[string]string{research.KindRelations: "entity_relations", research.KindEntity: "entity_search", research.KindDataset: "dataset_search"}[e.Kind]
		o := out[name]
		o.Total += e.N
		if e.Failed {
			o.Faults += e.N
			o.Why = e.Code
		}
		out[name] = o
	}
	jobs, jobsErr := p.queue.Load(ctx, since)
	longest := time.Duration(p.alertLimits.Load().Gauges["jobs_wait"] * float64(time.Second))
	for kind, work := range map[string][]string{"mail": {"email"}, "dataset.import": {"data_management"}, "match.run": {"dataset_matching"},
		"research.run": {"entity_relations", "entity_search", "dataset_search"}} {
		for _, service := range work {
			if o := out[service]; jobs[kind].Oldest >= longest {
				o.Stuck = kind + " jobs wait too long"
				out[service] = o
			}
		}
		if len(work) > 1 {
			continue // whose endings are those of the runs
		}
		service := work[0]
		l, o := jobs[kind], out[service]
		o.Total += l.Completed + l.Retrying + l.Lost
		if n := l.Retrying + l.Lost; n > 0 {
			o.Faults += n
			o.Why = kind + " jobs fail"
		}
		out[service] = o
	}
	return out, errors.Join(err, jobsErr)
}

// gauges are the measures that alerts watch.
func (p *program) gauges(ctx context.Context) map[string]monitor.Gauge {
	out := map[string]monitor.Gauge{}
	if free, ok := diskFree(p.config.DataDir); ok {
		out["disk_free"] = monitor.Gauge{Value: free, Unit: "share"}
	}
	if limit := memoryLimit(); limit > 0 {
		used := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(used)
		out["memory_used"] = monitor.Gauge{Value: float64(used[0].Value.Uint64()-used[1].Value.Uint64()) / float64(limit), Unit: "share", Upper: true}
	}
	if jobs, err := p.queue.Load(ctx, time.Now()); err == nil {
		longest := time.Duration(0)
		p.jobGauge.Reset()
		for kind, l := range jobs {
			longest = max(longest, l.Oldest)
			for state, n := range map[string]int64{"waiting": l.Waiting, "running": l.Running, "retrying": l.Retrying} {
				p.jobGauge.WithLabelValues(kind, state).Set(float64(n))
			}
		}
		out["jobs_wait"] = monitor.Gauge{Value: longest.Seconds(), Unit: "seconds", Upper: true}
	}
	if fills, err := p.queue.Fills(ctx); err == nil {
		for kind, f := range fills {
			out[monitor.QueueFull+kind] = monitor.Gauge{Value: f.Share, Unit: "share", Upper: true}
			out["queue_wait/"+kind] = monitor.Gauge{Value: f.Wait.Seconds(), Unit: "seconds", Upper: true}
		}
	} else if ctx.Err() == nil {
		p.log.Warn("how much work waits is not known", "error", err)
	}
	if concerns, err := p.sales.Concerns(ctx); err == nil {
		for name, n := range concerns {
			out[name] = monitor.Gauge{Value: float64(n), Unit: "count", Upper: true}
		}
	} else if ctx.Err() == nil {
		p.log.Warn("what billing must be looked at for is not known", "error", err)
	}
	if p.refused.Load() {
		out["config_refused"] = monitor.Gauge{Value: 1, Unit: "count", Upper: true}
	}
	if p.config.BackupTo != "" {
		out["backup_age"] = monitor.Gauge{Value: p.backupAge().Seconds(), Unit: "seconds", Upper: true}
	}
	spent, err := p.vendors.Spent(ctx)
	for name, share := range spent {
		out["provider_budget/"+name] = monitor.Gauge{Value: share, Unit: "share", Upper: true}
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn("providers' budgets are not known", "error", err)
	}
	return out
}

// memoryLimit is GOMEMLIMIT, else nine tenths of what the container may have,
// else 0.
func memoryLimit() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < 1<<62 {
		return limit
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} { // version 2, version 1
		if raw, err := os.ReadFile(file); err == nil {
			return mostOf(string(raw))
		}
	}
	return 0
}

// mostOf leaves a tenth of a container's memory to what Go does not count: the
// pages of the program, of compiled code, of the kernel for us.
func mostOf(cgroup string) int64 {
	var limit int64
	if _, err := fmt.Sscan(cgroup, &limit); err != nil || limit > 1<<60 {
		return 0 // "max", or version 1's word for it
	}
	return limit / 10 * 9
}

// keepWithinMemory has the collector work harder before the container's limit
// ends the process.
func keepWithinMemory() {
	if limit := memoryLimit(); limit > 0 {
		debug.SetMemoryLimit(limit)
	}
}

// putOffCollection lets a process that starts leave lying what it throws away, up
// to four times what it keeps: to collect it again and again is a seventh of a start,
// which takes its time from the processes beside it. It gives the function that
// ends this.
func putOffCollection() (settle func()) {
	const lax = 400
	percent := debug.SetGCPercent(lax)
	if percent < 0 || percent > lax { // as GOGC says
		debug.SetGCPercent(percent)
	}
	return func() { debug.SetGCPercent(percent) }
}

// monitorRoutes are the rows of what operators look at.
func (p *program) monitorRoutes() []api.Row {
	const (
		none  = api.None
		base  = "/api/monitoring"
		admin = "/api/v1/admin/alerts"
	)
	row := func(method, path, summary string, h api.Handler) api.Row {
		return api.Row{Method: method, Path: base + path, Call: h, Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: "gateway", Summary: summary}
	}
	return []api.Row{
		row("GET", "/health", "How the six services are", api.Call("monitor.All", p.monitor.All)),
		row("GET", "/health/summary", "The same in a word each", api.Call("monitor.Summarize", p.monitor.Summarize)),
		row("GET", "/health/{service}", "How one service is", api.Call("monitor.One", p.monitor.One)),
		row("POST", "/health/check", "Look again now", api.Call("monitor.CheckNow", p.checkNow)),
		row("GET", "/status", "The services, and whether they are watched", api.Call("monitor.Show", p.monitor.Show)),
		{Method: "GET", Path: admin, Call: api.Call("monitor.Alerts", p.listAlerts), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_alerts", Role: "main", Summary: "What was wrong with the platform, newest first"},
		{Method: "POST", Path: admin + "/silences", Call: api.Call("monitor.SilenceAlerts", p.silenceAlerts), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "alerts.silence", Role: "main", Summary: "Keep alerts of a rule or subject from being told for a time; they are listed all the same", Status: 201},
		{Method: "GET", Path: admin + "/silences", Call: api.Call("monitor.Silences", p.listSilences), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_alerts", Role: "main", Summary: "What is kept from being told, and who said so, newest first"},
		{Method: "DELETE", Path: admin + "/silences/{id}", Call: api.Act("monitor.EndSilence", p.endSilence), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "alerts.unsilence", Role: "main", Summary: "Have alerts told again", Status: 204},
		row("GET", "/enhanced-health", "Services and dependencies; 503 while a service is down", api.JSON("monitor.Enhance", p.enhanced)),
	}
}

func (p *program) listAlerts(ctx context.Context, in monitor.AlertsRequest) (domain.Page[monitor.Alert], error) {
	page, err := p.monitor.Alerts(ctx, in)
	if err != nil {
		return page, err
	}
	return page, p.store.Tx(ctx, func(ctx context.Context) error {
		return p.audit.Record(ctx, audit.Entry{Action: "admin.read_alerts"})
	})
}

func (p *program) silenceAlerts(ctx context.Context, in monitor.SilenceRequest) (s monitor.Silence, err error) {
	own := domain.TenantOf(ctx)
	return s, p.store.Tx(domain.System(ctx, "alerts"), func(ctx context.Context) error {
		if s, err = p.monitor.SilenceAlerts(ctx, in); err != nil {
			return err
		}
		return p.audit.Record(ctx, audit.Entry{Action: "alerts.silence", Target: s.ID, Tenant: own, Detail: map[string]any{"rule": in.Rule, "subject": in.Subject, "minutes": in.Minutes}})
	})
}

func (p *program) listSilences(ctx context.Context, in monitor.SilencesRequest) (domain.Page[monitor.Silence], error) {
	page, err := p.monitor.Silences(ctx, in)
	if err != nil {
		return page, err
	}
	return page, p.store.Tx(ctx, func(ctx context.Context) error {
		return p.audit.Record(ctx, audit.Entry{Action: "admin.read_alerts"})
	})
}

func (p *program) endSilence(ctx context.Context, in monitor.SilenceID) error {
	own := domain.TenantOf(ctx)
	return p.store.Tx(domain.System(ctx, "alerts"), func(ctx context.Context) error {
		if err := p.monitor.EndSilence(ctx, in); err != nil {
			return err
		}
		return p.audit.Record(ctx, audit.Entry{Action: "alerts.unsilence", Target: in.ID, Tenant: own})
	})
}

func (p *program) enhanced() (int, monitor.Enhanced) {
	out, ok := p.monitor.Enhance(context.Background())
	if !ok {
		return 503, out
	}
	return 200, out
}
