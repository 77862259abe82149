// Package jobs hides how work survives a crash: River keeps the jobs in the
// database, in the transaction of the rows they belong to, and gives each to
// one worker until it is done. The scope of the one who enqueued travels with
// the job, so that job code is scoped exactly as request code is.
package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// envelope is the one kind of job that River knows; ours is inside.
type envelope struct {
	Name      string          `json:"name" river:"unique"`
	Unique    string          `json:"unique,omitempty" river:"unique"`
	Args      json.RawMessage `json:"args"`
	Tenant    string          `json:"tenant,omitempty" river:"unique"`
	System    string          `json:"system,omitempty"`
	ActorKind string          `json:"actor_kind"`
	ActorID   string          `json:"actor_id"`
	ActedBy   string          `json:"acted_by,omitempty"` // the impersonator
	RequestID string          `json:"request_id,omitempty"`
	Trace     string          `json:"trace,omitempty"` // the traceparent of what enqueued it
}

func (envelope) Kind() string { return "chainreactions" }

// Queue keeps and works jobs.
type Queue struct {
	st       *store.Store
	log      *slog.Logger
	workers  int
	lanes    map[string]int    // workers of each lane, the default one aside
	laneOf   map[string]string // by kind of job
	handlers map[string]func(context.Context, json.RawMessage) error
	outward  map[string]bool // kinds that wait in quarantine
	quiet    func(context.Context) (bool, error)
	tracer   *tracing.Tracer
	longest  time.Duration
	periodic []*river.PeriodicJob
	only     []string // lanes that this process works; nil is all
	idle     bool     // works nothing
	shares   shares
	limits   atomic.Pointer[Limits] // of what waits
	bounded  []string               // kinds that are held to them
	refused  *prometheus.CounterVec
	worked   *prometheus.HistogramVec
	rescuer  *rescuer // on PostgreSQL
	start    func(context.Context) error
	stop     func(context.Context) error
	client   client
}

// client is what is asked of River inside the caller's transaction, whichever
// the database.
type client struct {
	insert func(ctx context.Context, e envelope, o *river.InsertOpts) error
	list   func(ctx context.Context, p *river.JobListParams) ([]*rivertype.JobRow, error)
	get    func(ctx context.Context, id int64) (*rivertype.JobRow, error)
	retry  func(ctx context.Context, id int64) (*rivertype.JobRow, error)
	remove func(ctx context.Context, id int64) (*rivertype.JobRow, error)
}

// Config of a Queue; Workers 0 is two, Longest 0 an hour for each job. While
// Quarantine says so, jobs that are domain.Outward wait; nil is never.
type Config struct {
	Store      *store.Store
	Logger     *slog.Logger
	Workers    int
	Longest    time.Duration
	Quarantine func(context.Context) (bool, error)
	Tracer     *tracing.Tracer // nil is none
	Limits     Limits          // of heavy work that waits; zero is DefaultLimits
	Registry   prometheus.Registerer
}

// New makes a queue; Handle what it works, then Start it.
func New(c Config) *Queue {
	if c.Workers == 0 {
		c.Workers = 2
	}
	if c.Longest == 0 {
		c.Longest = time.Hour
	}
	if c.Quarantine == nil {
		c.Quarantine = func(context.Context) (bool, error) { return false, nil }
	}
	if c.Limits == (Limits{}) {
		c.Limits, _ = ParseLimits("")
	}
	q := &Queue{st: c.Store, tracer: c.Tracer, log: c.Logger, quiet: c.Quarantine, outward: map[string]bool{}, workers: c.Workers, lanes: map[string]int{}, laneOf: map[string]string{}, handlers: map[string]func(context.Context, json.RawMessage) error{}, longest: c.Longest,
		refused: newRefused(c.Registry), worked: newWorked(c.Registry), shares: shares{running: map[seat]int{}, waiting: map[seat][]time.Time{}}}
	q.SetLimits(c.Limits)
	return q
}

// Handle says who works jobs of T's kind.
func Handle[T domain.Job](q *Queue, fn func(context.Context, T) error) {
	var zero T
	_, q.outward[zero.Kind()] = any(zero).(domain.Outward)
	q.handlers[zero.Kind()] = func(ctx context.Context, raw json.RawMessage) error {
		var job T
		if err := json.Unmarshal(raw, &job); err != nil {
			return river.JobCancel(err)
		}
		return fn(ctx, job)
	}
}

// HandleIn is Handle for jobs that have workers of their own: long ones, which
// mostly wait, and must not stand before the others.
func HandleIn[T domain.Job](q *Queue, lane string, workers int, fn func(context.Context, T) error) {
	var zero T
	Handle(q, fn)
	q.lanes[lane], q.laneOf[zero.Kind()] = workers, lane
}

// Only says which lanes this process works, "default" among them; without any it
// enqueues and works nothing. Say it before Open.
func (q *Queue) Only(lanes ...string) { q.only = append([]string{}, lanes...) }

// Every enqueues the job once an interval, by whichever process leads, and at
// the start of the first. Say it after its Handle and before Open.
func Every(q *Queue, interval time.Duration, job domain.Job) {
	args, err := json.Marshal(job)
	if err != nil {
		panic(err) // our own mistake: a job is a plain struct
	}
	e := envelope{Name: job.Kind(), Unique: "every " + interval.String(), Args: args, System: "schedule", ActorKind: "system", ActorID: "schedule"}
	opts := &river.InsertOpts{Priority: 3, Queue: q.laneOf[job.Kind()], UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: interval}}
	q.periodic = append(q.periodic, river.NewPeriodicJob(river.PeriodicInterval(interval),
		func() (river.JobArgs, *river.InsertOpts) { return e, opts }, &river.PeriodicJobOpts{RunOnStart: true}))
}

type worker struct {
	river.WorkerDefaults[envelope]
	q *Queue
}

func (w worker) Timeout(*river.Job[envelope]) time.Duration { return w.q.longest }

// Work restores the scope and calls the handler. What is wrong with the job
// itself ends it; everything else is tried again, later each time.
func (w worker) Work(ctx context.Context, job *river.Job[envelope]) error {
	defer w.q.rescuer.take(job.ID)()
	e := job.Args
	scope := domain.Scope{Tenant: e.Tenant, Actor: domain.Actor{Kind: e.ActorKind, ID: e.ActorID, Impersonator: e.ActedBy}, RequestID: e.RequestID}
	ctx = domain.WithScope(ctx, scope)
	if e.System != "" {
		ctx = domain.System(ctx, e.System)
	}
	fn, ok := w.q.handlers[e.Name]
	if !ok {
		return fmt.Errorf("jobs: nobody works %q", e.Name)
	}
	if w.q.outward[e.Name] {
		if on, err := w.q.quiet(ctx); err != nil || on {
			return river.JobSnooze(quarantined)
		}
	}
	free, later := w.q.shares.take(seat{job.Queue, e.Tenant}, w.q.workersOf(job.Queue), time.Now())
	if free == nil {
		return river.JobSnooze(later)
	}
	defer free()
	ctx, span := w.q.tracer.Start(ctx, "job "+e.Name, trace.SpanKindConsumer, e.Trace)
	defer span.End()
	began := time.Now()
	err := fn(ctx, e.Args)
	w.q.worked.WithLabelValues(e.Name, ending(err)).Observe(time.Since(began).Seconds())
	if err != nil {
		span.SetStatus(codes.Error, domain.CodeOf(err))
		w.q.log.WarnContext(ctx, "job failed", "job", e.Name, "id", job.ID, "attempt", job.Attempt, "tenant", e.Tenant, "error", err)
		switch domain.KindOf(err) {
		case domain.Invalid, domain.NotFound, domain.Forbidden:
			return river.JobCancel(err)
		case domain.TooMany: // not a failure: its turn comes later
			var full *domain.Error
			if errors.As(err, &full) && full.RetryAfter > 0 {
				return river.JobSnooze(full.RetryAfter)
			}
		}
	}
	return err
}

// ending says in a word how an attempt ended.
func ending(err error) string {
	switch domain.KindOf(err) {
	case domain.TooMany:
		return "later"
	case domain.Invalid, domain.NotFound, domain.Forbidden:
		return "cancelled"
	}
	if err != nil {
		return "failed"
	}
	return "done"
}

func newWorked(r prometheus.Registerer) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "chainreactions_job_seconds", Help: "How long the attempts at jobs took in this process, by kind and ending.",
		Buckets: []float64{.01, .1, 1, 10, 60, 600}}, []string{"kind", "ending"})
	if r != nil {
		r.MustRegister(h)
	}
	return h
}

func (q *Queue) workersOf(lane string) int {
	if lane == river.QueueDefault {
		return q.workers
	}
	return q.lanes[lane]
}

// Open makes River's tables and client. In an embedded database every job that a
// killed process left running is free again at the start: no other process works
// any. One that only opens, a command beside the server, leaves them alone.
func (q *Queue) Open(ctx context.Context) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, worker{q: q})
	config := &river.Config{
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: q.workers}},
		Workers:              workers,
		PeriodicJobs:         q.periodic,
		Logger:               slog.New(quiet{q.log.Handler()}),
		JobTimeout:           q.longest,
		RescueStuckJobsAfter: q.longest + time.Minute,
		SoftStopTimeout:      8 * time.Second, // of a drain; then a job is told to stop, and goes on elsewhere from its checkpoint
		MaxAttempts:          8,
		FetchPollInterval:    time.Second,
		FetchCooldown:        10 * time.Millisecond, // a bell sooner after another is not rung: such a job waits for the poll
		ReindexerIndexNames:  []string{},
	}
	for lane, workers := range q.lanes {
		config.Queues[lane] = river.QueueConfig{MaxWorkers: workers}
	}
	if q.only != nil {
		maps.DeleteFunc(config.Queues, func(lane string, _ river.QueueConfig) bool { return !slices.Contains(q.only, lane) })
		if len(config.Queues) == 0 {
			config.Queues, config.Workers, config.PeriodicJobs = nil, nil, nil // such a client only enqueues
		}
	}
	q.idle = config.Queues == nil
	if pool := q.st.Pool(); pool != nil {
		alone, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer alone.Release()
		// One process at a time: several start at once.
		if _, err := alone.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended('river schema', 0))"); err != nil {
			return err
		}
		defer alone.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(hashtextextended('river schema', 0))")
		if _, err := alone.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS river"); err != nil {
			return err
		}
		config.Schema = "river"
		config.ID = domain.NewID("prc")
		q.rescuer = &rescuer{q: q, name: config.ID, hand: map[int64]bool{}}
		return open(ctx, q, riverpgxv5.New(pool), config, func(ctx context.Context, insert func(pgx.Tx) error) error {
			return q.st.WithConn(ctx, func(conn *pgx.Conn, _ *sql.Tx) error { return insert(joined{conn}) })
		})
	}
	db := q.st.SQLDB()
	err := open(ctx, q, riversqlite.New(db), config, func(ctx context.Context, insert func(sqlTx) error) error {
		return q.st.WithConn(ctx, func(_ *pgx.Conn, tx *sql.Tx) error { return insert(tx) })
	})
	if err != nil {
		return err
	}
	start := q.start
	q.start = func(ctx context.Context) error {
		if _, err := db.ExecContext(ctx, "UPDATE river_job SET state = 'available', attempted_at = NULL WHERE state = 'running'"); err != nil {
			return err
		}
		return start(ctx)
	}
	return nil
}

func open[Tx any](ctx context.Context, q *Queue, driver riverdriver.Driver[Tx], c *river.Config, within func(context.Context, func(Tx) error) error) error {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: c.Schema, Logger: c.Logger})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	rc, err := river.NewClient(driver, c)
	if err != nil {
		return err
	}
	if c.Schema != "" {
		if err := q.grant(ctx); err != nil {
			return err
		}
	}
	q.start = rc.Start
	q.stop = rc.Stop
	one := func(do func(context.Context, Tx, int64) (*rivertype.JobRow, error)) func(context.Context, int64) (*rivertype.JobRow, error) {
		return func(ctx context.Context, id int64) (row *rivertype.JobRow, err error) {
			return row, within(ctx, func(tx Tx) error { row, err = do(ctx, tx, id); return err })
		}
	}
	q.client = client{
		insert: func(ctx context.Context, e envelope, o *river.InsertOpts) error {
			return within(ctx, func(tx Tx) error { _, err := rc.InsertTx(ctx, tx, e, o); return err })
		},
		list: func(ctx context.Context, p *river.JobListParams) (rows []*rivertype.JobRow, err error) {
			return rows, within(ctx, func(tx Tx) error {
				page, err := rc.JobListTx(ctx, tx, p)
				if err == nil {
					rows = page.Jobs
				}
				return err
			})
		},
		get:    one(rc.JobGetTx),
		retry:  one(rc.JobRetryTx),
		remove: one(rc.JobDeleteTx),
	}
	return nil
}

// grant lets the runtime roles enqueue inside a tenant's transaction. What they
// have is not granted again: a grant has every connection of every process plan
// its statements anew. The tables come last, and so say that all was granted.
func (q *Queue) grant(ctx context.Context) error {
	var have bool
	err := q.st.Pool().QueryRow(ctx, `SELECT coalesce(bool_and(has_table_privilege(r, c.oid, 'DELETE')), false)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest(ARRAY['chainreactions_app', 'chainreactions_system']) AS r
		WHERE n.nspname = 'river' AND c.relkind = 'r'`).Scan(&have)
	if err != nil || have {
		return err
	}
	for _, stmt := range []string{
		"GRANT USAGE ON SCHEMA river TO chainreactions_app, chainreactions_system",
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA river TO chainreactions_app, chainreactions_system",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA river TO chainreactions_app, chainreactions_system",
	} {
		if _, err := q.st.Pool().Exec(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

// quarantined is when a job that may not speak yet asks again.
const quarantined = 5 * time.Second

// DropOutward forgets jobs that would speak to somebody, from before a time:
// what a restored database has back was mostly sent already. It is for a queue
// that is not started, or in quarantine.
func (q *Queue) DropOutward(ctx context.Context, before time.Time) error {
	var err error
	for kind, is := range q.outward {
		if is {
			err = errors.Join(err, q.Drop(ctx, kind, before))
		}
	}
	return err
}

// Drop forgets jobs of the kind from before a time; see DropOutward.
func (q *Queue) Drop(ctx context.Context, kind string, before time.Time) error {
	query := "DELETE FROM river_job WHERE json_extract(args, '$.name') = $1 AND julianday(created_at) <= julianday($2)"
	if q.st.Pool() != nil {
		query = "DELETE FROM river.river_job WHERE args->>'name' = $1 AND created_at <= $2::timestamptz"
	}
	_, err := q.st.SQLDB().ExecContext(ctx, query, kind, before.UTC().Format(time.RFC3339Nano))
	return err
}

// Load is how much of a kind of job there is.
type Load struct {
	Waiting, Running           int64
	Scheduled                  int64 // for a time to come
	Retrying                   int64 // failed, and tried again later
	Completed, Cancelled, Lost int64 // ended since; lost is given up after every attempt
	Oldest                     time.Duration
}

// Load counts the jobs of each kind, and those that ended since a time. Oldest
// is how long the first that may be worked has waited.
func (q *Queue) Load(ctx context.Context, since time.Time) (map[string]Load, error) {
	query := `SELECT json_extract(args, '$.name') AS name, state, count(*) AS n,
			max(CASE WHEN state = 'available' THEN (julianday('now') - julianday(scheduled_at)) * 86400 ELSE 0.0 END) AS oldest
		FROM river_job WHERE state IN ('available', 'pending', 'scheduled', 'running', 'retryable') OR state IN ('completed', 'cancelled', 'discarded') AND julianday(finalized_at) > julianday(@since) GROUP BY 1, 2`
	if q.st.Pool() != nil {
		query = `SELECT args->>'name' AS name, state::text AS state, count(*) AS n,
			max(CASE WHEN state = 'available' THEN extract(epoch FROM now() - scheduled_at) ELSE 0 END)::float8 AS oldest
		FROM river.river_job WHERE state IN ('available', 'pending', 'scheduled', 'running', 'retryable') OR state IN ('completed', 'cancelled', 'discarded') AND finalized_at > CAST(@since AS timestamptz) GROUP BY 1, 2`
	}
	var rows []struct {
		Name, State string
		N           int64
		Oldest      float64
	}
	err := q.st.Read(domain.System(ctx, "job counts"), func(ctx context.Context) error {
		return q.st.SQL(ctx, query, map[string]any{"since": since.UTC().Format(time.RFC3339Nano)}).Scan(&rows).Error
	})
	out := map[string]Load{}
	for _, r := range rows {
		l := out[r.Name]
		switch states[rivertype.JobState(r.State)] {
		case "waiting":
			l.Waiting, l.Oldest = l.Waiting+r.N, max(l.Oldest, time.Duration(r.Oldest*float64(time.Second)))
		case "scheduled":
			l.Scheduled = r.N
		case "running":
			l.Running = r.N
		case "retrying":
			l.Retrying = r.N
		case "completed":
			l.Completed = r.N
		case "cancelled":
			l.Cancelled = r.N
		default:
			l.Lost = r.N
		}
		out[r.Name] = l
	}
	return out, err
}

// Forget removes jobs of the kind, done or waiting, whose arguments are such. One
// that a worker has in hand is given a moment to end or to come back.
func (q *Queue) Forget(ctx context.Context, kind string, such func(args json.RawMessage) bool) error {
	query, remove := "SELECT id, state = 'running', json_extract(args, '$.args') FROM river_job WHERE json_extract(args, '$.name') = $1", "DELETE FROM river_job WHERE id = $1"
	if q.st.Pool() != nil {
		query, remove = "SELECT id, state = 'running', args->>'args' FROM river.river_job WHERE args->>'name' = $1", "DELETE FROM river.river_job WHERE id = $1"
	}
	pass := func(last bool) (inHand int, err error) {
		rows, err := q.st.SQLDB().QueryContext(ctx, query, kind)
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		var ids []int64
		for rows.Next() {
			var id int64
			var running bool
			var args string
			if err := rows.Scan(&id, &running, &args); err != nil {
				return 0, err
			}
			switch {
			case !such(json.RawMessage(args)):
			case running && !last:
				inHand++
			default:
				ids = append(ids, id)
			}
		}
		err = errors.Join(rows.Err(), rows.Close())
		for _, id := range ids {
			if err == nil {
				_, err = q.st.SQLDB().ExecContext(ctx, remove, id)
			}
		}
		return inHand, err
	}
	for range 50 {
		if inHand, err := pass(false); err != nil || inHand == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	_, err := pass(true)
	return err
}

// Start works jobs until Stop.
func (q *Queue) Start(ctx context.Context) error {
	if q.idle {
		return nil
	}
	if q.rescuer != nil {
		if err := q.rescuer.start(ctx); err != nil {
			return err
		}
	}
	return q.start(ctx)
}

// Stop lets running jobs return.
func (q *Queue) Stop(ctx context.Context) error {
	if q.idle {
		return nil
	}
	err := q.stop(ctx)
	if q.rescuer != nil {
		q.rescuer.end(ctx)
	}
	return err
}

// Enqueue implements domain.Queue.
func (q *Queue) Enqueue(ctx context.Context, job domain.Job, o domain.JobOptions) error {
	if q.client.insert == nil {
		return errors.New("jobs: Enqueue before Open")
	}
	args, err := json.Marshal(job)
	if err != nil {
		return err
	}
	scope, _ := domain.ScopeOf(ctx)
	e := envelope{Name: job.Kind(), Unique: o.Unique, Args: args, Tenant: scope.Tenant,
		ActorKind: scope.Actor.Kind, ActorID: scope.Actor.ID, ActedBy: scope.Actor.Impersonator, RequestID: scope.RequestID, Trace: tracing.Parent(ctx)}
	e.System, _ = scope.System()
	opts := &river.InsertOpts{Priority: o.Priority, ScheduledAt: o.At, Queue: q.laneOf[job.Kind()]}
	if opts.Priority == 0 {
		opts.Priority = 2
	}
	if o.Unique != "" {
		opts.UniqueOpts = river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
			rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled}}
	}
	return q.client.insert(ctx, e, opts)
}

// quiet lets River's warnings through and keeps its chatter.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
