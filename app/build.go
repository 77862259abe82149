package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/cluster"
	"github.com/chainreactions/chainreactions/app/egress"
	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/app/mail"
	"github.com/chainreactions/chainreactions/app/monitor"
	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/domain/quarantine"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/domain/subject"
	"github.com/chainreactions/chainreactions/migrations"
	"github.com/chainreactions/chainreactions/samples"
	"github.com/chainreactions/chainreactions/tenants"
	"github.com/chainreactions/chainreactions/tenants/notice"
	"github.com/chainreactions/chainreactions/tenants/privacy"
	"github.com/chainreactions/chainreactions/tenants/webhook"
	"github.com/chainreactions/chainreactions/web"
)

// program is everything that a process is made of, in the order in which it is
// built: store, cluster, jobs, features, edge.
type program struct {
	config      Config
	log         *slog.Logger
	registry    *prometheus.Registry
	store       *store.Store
	cluster     *cluster.Cluster
	queue       *jobs.Queue
	tracer      *tracing.Tracer
	quarantine  *quarantine.Gate
	egress      *egress.Guard
	mail        *mail.Mailer
	vendors     *provider.Providers
	sales       *billing.Sales
	desk        *desk            // nil where Stripe is configured, and in production
	sandbox     *sandbox.Sandbox // nil where every kind of vendor is configured, and in production
	subjects    *subject.Keys
	audit       *audit.Trail
	tenants     *tenants.Service
	webhooks    *webhook.Hooks
	notices     *notice.Notices
	privacy     *privacy.Service
	auth        *auth.Service
	billing     *billing.Service
	meter       *billing.Meter
	datasets    *dataset.Datasets
	research    *research.Research
	monitor     *monitor.Monitor
	jobGauge    *prometheus.GaugeVec
	payments    *monitor.Wire // to the payment service; nil where there is none
	mails       monitor.Memory
	units       *prometheus.CounterVec // of meters
	returned    *prometheus.CounterVec
	admissions  *prometheus.CounterVec // that were refused
	table       []api.Row
	api         *api.API
	started     time.Time
	draining    atomic.Bool
	alertLimits atomic.Pointer[monitor.Limits]
	off         atomic.Pointer[[]string] // switches
	refused     atomic.Bool              // the last change of the configuration
	inForce     *prometheus.GaugeVec
	names       names        // of PEERS
	backedUp    atomic.Int64 // when the backup was last whole, in nanoseconds
	lastCopy    func()       // ends it with a last round; nil where none is kept
	address     string       // in the registry; "" is not there
	serving     func()       // called when it begins to; nil is nobody
	free        func()       // lets go of DATA_DIR
}

// openStore connects to the database and brings its schema up.
func openStore(ctx context.Context, c Config, log *slog.Logger) (*store.Store, error) {
	if err := restoredWhole(c.DataDir); err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, store.Config{URL: c.DatabaseURL, ReplicaURL: c.ReplicaURL, Path: filepath.Join(c.DataDir, databaseFile), Logger: log})
	if err != nil {
		return nil, err
	}
	if _, err := migrations.Up(ctx, st.SQLDB(), st.Dialect() == store.Postgres); err != nil {
		st.Close()
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return st, nil
}

// levels joins the two parts of billing that datasets are held to.
type levels struct {
	*billing.Service
	*billing.Meter
}

// build makes the program. Nothing of it runs yet, but the local usage log and
// the cluster's probes.
func build(ctx context.Context, c Config, log *slog.Logger) (p *program, err error) {
	p = &program{config: c, log: log, registry: prometheus.NewRegistry(), started: time.Now()}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() {
		if err != nil {
			p.close(context.Background())
		}
	}()
	traces := c.Traces
	traces.Version, traces.Instance, traces.Logger = version, domain.NewID("prc"), log
	p.tracer = tracing.New(traces)
	if p.free, err = occupy(c.DataDir, false); err != nil {
		return p, err
	}
	if p.store, err = openStore(ctx, c, log); err != nil {
		return p, err
	}
	if p.cluster, err = cluster.Open(cluster.Config{RedisURL: c.RedisURL, Logger: log}); err != nil {
		return p, err
	}
	p.egress = egress.New(egress.Config{Resolver: c.EgressResolver, DialOverride: c.EgressDialOverride})
	p.quarantine = quarantine.New(p.store, nil)
	p.queue = jobs.New(jobs.Config{Store: p.store, Logger: log, Tracer: p.tracer, Quarantine: p.quarantine.On, Limits: c.QueueLimits, Registry: p.registry})
	if lanes := c.lanes(); lanes != nil {
		p.queue.Only(lanes...)
	}
	if p.mail, err = mail.New(mail.Config{Store: p.store, Queue: p.queue, SecretKey: c.SecretKey, Server: c.SMTP, From: c.MailFrom, Contact: c.ContactEmail,
		Outbox: filepath.Join(c.DataDir, "outbox")}); err != nil {
		return p, err
	}
	jobs.HandleIn(p.queue, "outbound", 8, p.deliver)
	if err = p.openVendors(c, log); err != nil {
		return p, err
	}
	p.subjects = subject.New(p.store, c.SecretKey)
	p.audit = audit.New(audit.Config{Store: p.store, Subjects: p.subjects, SecretKey: c.SecretKey, Dir: filepath.Join(c.DataDir, "audit")})
	if p.billing, err = billing.New(ctx, billing.Config{Store: p.store, Audit: p.audit, Bell: p.cluster, Logger: log}); err != nil {
		return p, err
	}
	p.tenants = tenants.New(tenants.Config{Store: p.store, Audit: p.audit, Enroll: p.billing.Enroll,
		LookupTXT: c.resolver().LookupTXT, BaseDomain: strings.ToLower(c.BaseDomain)})
	if p.auth, err = auth.New(ctx, auth.Config{Store: p.store, Audit: p.audit, Tenants: p.tenants, Seats: p.billing.Seats, BuySeat: func(ctx context.Context) error { return p.sales.BuySeat(ctx) }, SecretKey: c.SecretKey, Issuer: c.BaseURL,
		BaseURL: c.portal(), Mail: p.mail.Send, Queue: p.queue, Verify: c.Verify,
		Has: p.hasFeature, Client: p.egress.Client(), Plain: c.Environment != "production", Providers: c.providers()}); err != nil {
		return p, err
	}
	jobs.Handle(p.queue, p.auth.RunLetter)
	if err = p.buildPeople(c); err != nil {
		return p, err
	}
	p.usageMetrics()
	p.meter = billing.NewMeter(billing.MeterConfig{Store: p.store, Plans: p.billing, Counters: p.cluster, Counted: p.counted, Refused: p.notAdmitted, Alone: p.cluster.Embedded(), Peers: p.sharers, Queue: p.queue, Folder: filepath.Join(c.DataDir, "usage"), Logger: log})
	p.openSales(c, log)
	sample, err := samples.Files.ReadFile("watchlist.csv")
	if err != nil {
		return p, err
	}
	p.datasets = dataset.New(dataset.Config{Store: p.store, Audit: p.audit, Queue: p.queue, Bell: p.cluster,
		Dir: filepath.Join(c.DataDir, "uploads"), Levels: levels{p.billing, p.meter}, Cache: p.cluster, Sample: sample, Logger: log,
		IndexBytes: memoryLimit() / 2})
	p.datasets.SetDefaults(c.Matching)
	jobs.Handle(p.queue, p.datasets.RunImport)
	jobs.Handle(p.queue, p.datasets.RunPurge)
	jobs.Handle(p.queue, p.datasets.RunBuildSearch)
	jobs.Handle(p.queue, p.datasets.RunFollowCatalog)
	jobs.Handle(p.queue, p.datasets.RunMatchJob)
	jobs.Handle(p.queue, p.datasets.RunPurgeMatch)
	p.openResearch(log)
	for _, heavy := range []domain.Job{dataset.ImportJob{}, dataset.RunMatch{}, research.RunJob{}, privacy.ExportJob{}} {
		jobs.Bound(p.queue, heavy)
	}
	if err = p.queue.Open(ctx); err != nil {
		return p, fmt.Errorf("job queue: %w", err)
	}
	if err = p.meter.Open(ctx); err != nil {
		return p, err
	}
	if err = p.privacy.Replay(ctx); err != nil { // before anything is served
		return p, fmt.Errorf("erasures: %w", err)
	}
	if err = p.datasets.PublishFolder(domain.System(ctx, "our own lists"), samples.Files); err != nil {
		return p, err
	}
	p.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chainreactions_limits_degraded",
		Help: "1 while limits are kept in this process, since Redis is away."}, func() float64 {
		if p.meter.Degraded() {
			return 1
		}
		return 0
	}))
	p.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chainreactions_build_info", Help: "1; the label says which build this is.",
		ConstLabels: prometheus.Labels{"version": version}}, func() float64 { return 1 }))
	p.openMonitor(c, log)
	p.off.Store(&c.FeaturesOff)
	p.configMetrics()
	p.table = p.routes()
	p.api, err = p.edge(p.table, p.registry)
	return p, err
}

// edge serves the rows.
func (p *program) edge(rows []api.Row, registry *prometheus.Registry) (*api.API, error) {
	c := p.config
	return api.New(api.Config{Rows: rows, Store: p.store, Tenants: p.tenants, Auth: p.auth, Audit: p.audit, Meter: p.meter,
		SecretKey: c.SecretKey, BaseDomain: c.BaseDomain, BaseURL: c.BaseURL, Production: c.Environment == "production", Proxies: c.Proxies,
		Permission: auth.KnownPermission, Feature: p.billing.Feature, Class: func(class string) bool {
			return class == "open" || class == "probe" || class == "auth" || class == "mail" || class == "webhook" || class == "admin" || p.billing.Class(class)
		},
		Shapes:   map[reflect.Type]reflect.Type{reflect.TypeFor[audit.Detail](): reflect.TypeFor[map[string]any]()},
		Registry: registry, Observe: p.observe, Off: func(row api.Row) bool { return p.isOff(row.Switch) }, Split: p.split(), HeavyCalls: c.HeavyCalls, Portal: web.Embedded(), Logger: p.log, Tracer: p.tracer})
}

// run serves on the listener until ctx ends, then drains: the process says
// that it is not ready, streams end, requests and jobs finish.
func (p *program) run(ctx context.Context, l net.Listener) error {
	if p.store.Dialect() == store.SQLite {
		leave, err := alone(p.config.DataDir)
		if err != nil {
			return errors.Join(err, p.close(context.Background()))
		}
		defer leave()
		if err := p.research.Reclaim(ctx); err != nil {
			return err
		}
	}
	if err := p.queue.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := p.announce(ctx, l.Addr()); err != nil {
		p.log.Warn("other processes do not know of this one yet", "error", err)
	}
	var beside sync.WaitGroup
	for _, work := range []func(context.Context){p.housekeeping, p.sweepRuns, p.watchConfig, p.watchPeers, p.monitor.Run} {
		beside.Go(func() { work(ctx) })
	}
	if p.config.BackupTo != "" {
		copying, finish := context.WithCancel(context.WithoutCancel(ctx))
		copied := make(chan struct{})
		go func() { defer close(copied); p.keepBackup(copying) }()
		p.lastCopy = func() { finish(); <-copied }
	}
	failed := make(chan error, 1)
	go func() { failed <- p.api.Serve(l) }()
	if p.serving != nil {
		p.serving()
	}
	if err := p.startSales(ctx, l.Addr()); err != nil {
		p.log.Error("prices are not at the payment service", "error", err)
	}
	var err error
	select {
	case <-ctx.Done():
		p.draining.Store(true)
		p.log.Info("draining")
		p.leave()
	case err = <-failed:
		stop()
	}
	drain, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	p.research.Drain()
	err = errors.Join(err, p.api.Shutdown(drain), p.queue.Stop(drain))
	beside.Wait()
	last, cancelLast := context.WithTimeout(context.Background(), 10*time.Second) // its own time: usage is flushed whatever the drain did
	defer cancelLast()
	return errors.Join(err, p.close(last))
}

// alone keeps a second server away from what is embedded, which takes the work and
// the limits of the first for its own. The system lets go of it however this ends.
func alone(dir string) (leave func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "serve.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another server works on %s: what is embedded belongs to one process; several need DATABASE_URL and REDIS_URL", dir)
	}
	return func() { f.Close() }, nil
}

// close lets go in the reverse order of build.
func (p *program) close(ctx context.Context) (err error) {
	if p.auth != nil {
		err = errors.Join(err, p.auth.FlushUsed(ctx))
	}
	if p.audit != nil {
		err = errors.Join(err, p.audit.Checkpoint(ctx))
	}
	if p.meter != nil {
		err = errors.Join(err, p.meter.Close(ctx))
	}
	if p.cluster != nil {
		err = errors.Join(err, p.cluster.Close())
	}
	if p.desk != nil {
		p.desk.close()
	}
	if p.sandbox != nil {
		err = errors.Join(err, p.sandbox.Close())
	}
	if p.lastCopy != nil { // all is written by now
		p.lastCopy()
	}
	if p.store != nil {
		err = errors.Join(err, p.store.Close())
	}
	if p.free != nil {
		p.free()
	}
	if lost := p.tracer.Close(ctx); lost != nil {
		p.log.Warn("the last spans are lost", "error", lost)
	}
	if lost := p.config.faults.Close(ctx); lost != nil {
		p.log.Warn("the last faults are told in the log alone", "error", lost)
	}
	return err
}

func (p *program) housekeeping(ctx context.Context) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := p.api.SweepAnswers(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("kept answers not swept", "error", err)
			}
			if err := p.auth.Sweep(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("failed guesses not swept", "error", err)
			}
			if err := p.auth.FlushUsed(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("last use of API keys not written", "error", err)
			}
			if err := p.sales.Regular(ctx); err != nil && ctx.Err() == nil {
				p.log.Error("what billing does by itself is not planned", "error", err)
			}
			if err := p.audit.Checkpoint(ctx); err != nil {
				p.log.Error("no audit checkpoint", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

type state struct {
	Status       string            `json:"status"`
	UptimeSecs   int64             `json:"uptime_seconds"`
	Dependencies map[string]string `json:"dependencies,omitempty"`
	ExternalAPIs map[string]string `json:"external_apis,omitempty" doc:"as their last answers left them; a sick one makes no process unhealthy"`
}

func (p *program) live() (int, state) {
	return 200, state{Status: "alive", UptimeSecs: int64(time.Since(p.started).Seconds())}
}

func (p *program) ready() (int, state) {
	status, s := p.health()
	if p.draining.Load() {
		return 503, state{Status: "draining"}
	}
	return status, s
}

// health asks the dependencies. Without Redis the process goes on with local
// limits, degraded; without its database it can do nothing.
func (p *program) health() (int, state) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s := state{Status: "healthy", UptimeSecs: int64(time.Since(p.started).Seconds()), Dependencies: map[string]string{"database": "healthy", "redis": "healthy"},
		ExternalAPIs: p.vendors.Health()}
	status := 200
	if p.cluster.Embedded() {
		s.Dependencies["redis"] = "embedded"
	}
	if p.meter.Degraded() {
		s.Status, s.Dependencies["redis"] = "degraded", "down"
	}
	for name, found := range p.monitor.Known() { // by the last look, which also writes
		if (name == "database" || name == "storage") && (found == monitor.Down || found == monitor.Degraded) {
			s.Status, s.Dependencies[name] = "degraded", string(found)
		}
	}
	if err := p.store.Ping(ctx); err != nil {
		s.Status, s.Dependencies["database"], status = "down", "down", 503
	}
	return status, s
}
