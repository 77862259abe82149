package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/chainreactions/chainreactions/domain"
)

// What platform administrators see of the queue, and may do about work that
// failed. Arguments are not shown: they hold what people wrote and whom we
// write to.

// states are River's in the words of ours; what ended and is still kept is
// completed or cancelled for a day, and lost for a week.
var states = map[rivertype.JobState]string{
	rivertype.JobStateAvailable: "waiting",
	rivertype.JobStatePending:   "waiting",
	rivertype.JobStateScheduled: "scheduled",
	rivertype.JobStateRunning:   "running",
	rivertype.JobStateRetryable: "retrying",
	rivertype.JobStateCompleted: "completed",
	rivertype.JobStateCancelled: "cancelled",
	rivertype.JobStateDiscarded: "lost",
}

// failed are the states of work that went wrong, and that somebody may decide about.
var failed = []rivertype.JobState{rivertype.JobStateRetryable, rivertype.JobStateCancelled, rivertype.JobStateDiscarded}

// Job is one of them.
type Job struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind"`
	Lane        string     `json:"lane"`
	TenantID    string     `json:"tenant_id" doc:"empty is the platform's own work"`
	State       string     `json:"state" enum:"waiting,scheduled,running,retrying,completed,cancelled,lost" doc:"cancelled: there was something wrong with the job itself; lost: given up after every attempt"`
	Attempts    int        `json:"attempts"`
	MaxAttempts int        `json:"max_attempts"`
	CreatedAt   time.Time  `json:"created_at"`
	ScheduledAt time.Time  `json:"scheduled_at" doc:"when it may be worked, or be tried again"`
	StartedAt   *time.Time `json:"started_at" nullable:"true" doc:"of the last attempt"`
	EndedAt     *time.Time `json:"ended_at" nullable:"true"`
	Failures    []Failure  `json:"failures" nullable:"false" doc:"newest first"`
}

// Failure is why an attempt failed.
type Failure struct {
	Attempt int       `json:"attempt"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
}

// Lane is a line of workers and what stands in it.
type Lane struct {
	Lane    string `json:"lane"`
	Workers int    `json:"workers" doc:"of each process that works this lane"`
	Counts
	Kinds []KindCounts `json:"kinds" nullable:"false"`
}

// KindCounts is what of a lane is one kind.
type KindCounts struct {
	Kind string `json:"kind"`
	Counts
}

// Counts are the jobs that are kept, by state.
type Counts struct {
	Waiting       int64 `json:"waiting"`
	Scheduled     int64 `json:"scheduled"`
	Running       int64 `json:"running"`
	Retrying      int64 `json:"retrying"`
	Completed     int64 `json:"completed" doc:"within the last day"`
	Cancelled     int64 `json:"cancelled" doc:"within the last day"`
	Lost          int64 `json:"lost" doc:"within the last week"`
	OldestSeconds int64 `json:"oldest_seconds" doc:"how long the first that may be worked has waited"`
}

func (c *Counts) add(o Counts) {
	c.Waiting += o.Waiting
	c.Scheduled += o.Scheduled
	c.Running += o.Running
	c.Retrying += o.Retrying
	c.Completed += o.Completed
	c.Cancelled += o.Cancelled
	c.Lost += o.Lost
	c.OldestSeconds = max(c.OldestSeconds, o.OldestSeconds)
}

// Lanes are all of them, with each kind of job that is worked or kept.
func (q *Queue) Lanes(ctx context.Context) ([]Lane, error) {
	load, err := q.Load(ctx, time.Time{})
	if err != nil {
		return nil, err
	}
	for kind := range q.handlers {
		if _, ok := load[kind]; !ok {
			load[kind] = Load{}
		}
	}
	lanes := map[string]*Lane{}
	for _, kind := range slices.Sorted(maps.Keys(load)) {
		name := q.lane(kind)
		if lanes[name] == nil {
			lanes[name] = &Lane{Lane: name, Workers: q.workersOf(name)}
		}
		l := load[kind]
		counts := Counts{Waiting: l.Waiting, Scheduled: l.Scheduled, Running: l.Running, Retrying: l.Retrying,
			Completed: l.Completed, Cancelled: l.Cancelled, Lost: l.Lost, OldestSeconds: int64(l.Oldest.Seconds())}
		lanes[name].Kinds = append(lanes[name].Kinds, KindCounts{kind, counts})
		lanes[name].add(counts)
	}
	var out []Lane
	for _, name := range slices.Sorted(maps.Keys(lanes)) {
		out = append(out, *lanes[name])
	}
	return out, nil
}

// lane is where jobs of the kind stand.
func (q *Queue) lane(kind string) string {
	if lane := q.laneOf[kind]; lane != "" {
		return lane
	}
	return river.QueueDefault
}

// ListRequest asks for jobs, the newest first.
type ListRequest struct {
	domain.PageRequest
	State    string `query:"state" enum:"waiting,scheduled,running,retrying,completed,cancelled,lost" doc:"only these"`
	Kind     string `query:"kind" maxLength:"100" doc:"only these"`
	Lane     string `query:"lane" maxLength:"100" doc:"only what stands in it"`
	TenantID string `query:"tenant_id" maxLength:"100" doc:"only work of this tenant"`
}

// List lists jobs, inside the caller's transaction.
func (q *Queue) List(ctx context.Context, in ListRequest) (domain.Page[Job], error) {
	p := river.NewJobListParams().First(in.Size()+1).OrderBy(river.JobListOrderByID, river.SortOrderDesc)
	of := slices.Collect(maps.Keys(states))
	if in.State != "" {
		of = slices.DeleteFunc(of, func(s rivertype.JobState) bool { return states[s] != in.State })
	}
	p = p.States(of...)
	if in.Lane != "" {
		p = p.Queues(in.Lane)
	}
	if in.Kind != "" {
		p = p.Where("args->>'name' = @name", river.NamedArgs{"name": in.Kind})
	}
	if in.TenantID != "" {
		p = p.Where("args->>'tenant' = @tenant", river.NamedArgs{"tenant": in.TenantID})
	}
	after, err := in.After()
	if err != nil {
		return domain.Page[Job]{}, err
	}
	if after != "" {
		before, ok := number(after)
		if !ok {
			return domain.Page[Job]{}, domain.InvalidField("cursor", "invalid_cursor", "The cursor is not one of ours.")
		}
		p = p.Where("id < @before", river.NamedArgs{"before": before})
	}
	rows, err := q.client.list(ctx, p)
	if err != nil {
		return domain.Page[Job]{}, err
	}
	jobs := make([]Job, len(rows))
	for i, row := range rows {
		if jobs[i], err = seen(row); err != nil {
			return domain.Page[Job]{}, err
		}
	}
	return domain.NewPage(jobs, in.Size(), func(j Job) string { return j.ID }), nil
}

// Retry has a failed job worked again at once, inside the caller's transaction.
func (q *Queue) Retry(ctx context.Context, id string) (Job, error) {
	return q.decide(ctx, id, q.client.retry)
}

// Discard forgets a failed job, inside the caller's transaction, and answers
// what it was.
func (q *Queue) Discard(ctx context.Context, id string) (Job, error) {
	return q.decide(ctx, id, q.client.remove)
}

func (q *Queue) decide(ctx context.Context, id string, do func(context.Context, int64) (*rivertype.JobRow, error)) (Job, error) {
	n, ok := number(id)
	if !ok {
		return Job{}, domain.ErrNotFound()
	}
	row, err := q.client.get(ctx, n)
	if errors.Is(err, rivertype.ErrNotFound) {
		return Job{}, domain.ErrNotFound()
	}
	if err == nil && !slices.Contains(failed, row.State) {
		err = domain.E(domain.Conflict, "job_not_failed", "Only a job that failed can be tried again or discarded.")
	}
	if err == nil {
		row, err = do(ctx, n)
	}
	if err != nil {
		return Job{}, superseded(err)
	}
	return seen(row)
}

func number(id string) (int64, bool) {
	digits, ok := strings.CutPrefix(id, "job_")
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil && n > 0
}

func seen(row *rivertype.JobRow) (Job, error) {
	var e envelope
	if err := json.Unmarshal(row.EncodedArgs, &e); err != nil {
		return Job{}, fmt.Errorf("jobs: job %d: %w", row.ID, err)
	}
	j := Job{ID: fmt.Sprintf("job_%d", row.ID), Kind: e.Name, Lane: row.Queue, TenantID: e.Tenant, State: states[row.State], Attempts: row.Attempt, MaxAttempts: row.MaxAttempts,
		CreatedAt: row.CreatedAt.UTC(), ScheduledAt: row.ScheduledAt.UTC(), StartedAt: row.AttemptedAt, EndedAt: row.FinalizedAt, Failures: []Failure{}}
	for _, f := range slices.Backward(row.Errors) {
		j.Failures = append(j.Failures, Failure{Attempt: f.Attempt, At: f.At, Reason: strings.TrimPrefix(f.Error, "JobCancelError: ")}) // which says how River was told
	}
	return j, nil
}

// superseded says so where the same work, which may wait once, waits already.
func superseded(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" || err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed") {
		return domain.E(domain.Conflict, "job_superseded", "The same work waits already; this job can only be discarded.").Because(err)
	}
	return err
}

var _ = domain.Chinese(map[string]string{
	"Only a job that failed can be tried again or discarded.":      "只有失败的任务才能重试或丢弃。",
	"The same work waits already; this job can only be discarded.": "相同的工作已在等待；此任务只能丢弃。",
})
