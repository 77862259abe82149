package research

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Run is a row of research_runs, and what is answered of it.
type Run struct {
	store.Owned
	ID           string          `json:"id" gorm:"primaryKey"`
	Kind         string          `json:"kind" enum:"relations,entity,dataset"`
	Mode         string          `json:"mode"`
	Title        string          `json:"title" doc:"the institution, or the organisation"`
	Status       string          `json:"status" enum:"queued,running,succeeded,failed,cancelled"`
	Partial      bool            `json:"partial" doc:"something was left undone: result.not_done says what, resume goes on"`
	Sandbox      bool            `json:"sandbox" doc:"an emulator answered in a vendor's place"`
	Priority     int             `json:"priority"`
	PreviousID   string          `json:"previous_id,omitempty" doc:"the run that this one repeats"`
	EventsURL    string          `json:"events_url" gorm:"-"`
	Stage        string          `json:"stage"`
	Done         int64           `json:"done" doc:"of total, in this stage"`
	Total        int64           `json:"total"`
	Usage        RunUsage        `json:"usage" gorm:"-"`
	Meter        string          `json:"meter"`
	Units        int64           `json:"units" doc:"of the meter, counted at the start"`
	UnitsUsed    int64           `json:"units_used" doc:"what was not used was given back"`
	ErrorCode    string          `json:"error_code,omitempty"`
	ErrorMessage string          `json:"error_message,omitempty"`
	CreatedBy    string          `json:"created_by"`
	CreatedAt    time.Time       `json:"created_at"`
	StartedAt    *time.Time      `json:"started_at,omitempty"`
	EndedAt      *time.Time      `json:"ended_at,omitempty"`
	ImportedAt   *time.Time      `json:"imported_at,omitempty" doc:"it came with the archive of another tenant: it can be read and repeated, not resumed"`
	Request      json.RawMessage `json:"request,omitempty" gorm:"-" doc:"as it was asked; of one run alone"`
	Result       *Result         `json:"result,omitempty" gorm:"-" doc:"of one run alone"`

	RequestJSON  string     `json:"-" gorm:"column:request"`
	ResultJSON   string     `json:"-" gorm:"column:result"`
	Salt         string     `json:"-"`
	Dispatched   bool       `json:"-"`
	Worker       string     `json:"-"`
	LeaseUntil   *time.Time `json:"-"`
	Attempts     int64      `json:"-"`
	Events       int64      `json:"-"`
	Calls        int64      `json:"-"`
	InputTokens  int64      `json:"-"`
	OutputTokens int64      `json:"-"`
	CostMicros   int64      `json:"-"`
	Estimated    bool       `json:"-"`
	CountedAt    time.Time  `json:"-"`
}

// RunUsage is what a run has really spent.
type RunUsage struct {
	Calls        int64   `json:"calls"`
	InputTokens  int64   `json:"input_tokens"`
	OutputTokens int64   `json:"output_tokens"`
	CostUSD      float64 `json:"cost_usd"`
	Estimated    bool    `json:"estimated" doc:"some of it is the most that it may have been"`
}

// TableName is GORM's.
func (Run) TableName() string { return "research_runs" }

// Ended reports whether the run is over.
func (r Run) Ended() bool { return r.Status != Queued && r.Status != Running }

// dress fills in what is answered and not stored.
func (r *Run) dress() {
	r.EventsURL = "/api/v1/runs/" + r.ID + "/events"
	r.Usage = RunUsage{r.Calls, r.InputTokens, r.OutputTokens, float64(r.CostMicros) / 1e6, r.Estimated}
}

// summary are the columns of a list: not the request, not the result.
var summaryColumns = []string{"tenant_id", "id", "kind", "mode", "title", "status", "partial", "sandbox", "priority", "previous_id", "stage", "done", "total",
	"meter", "units", "units_used", "error_code", "error_message", "created_by", "created_at", "started_at", "ended_at", "imported_at",
	"calls", "input_tokens", "output_tokens", "cost_micros", "estimated", "events"}

// event is one line of a run's story, told once for its key.
type event struct {
	key, name string
	data      any
}

type eventRow struct {
	store.Owned
	RunID     string `gorm:"primaryKey"`
	Seq       int64  `gorm:"primaryKey;autoIncrement:false"`
	Key       string
	Name      string
	Data      string
	CreatedAt time.Time
}

func (eventRow) TableName() string { return "research_events" }

// Event is one message of a stream.
type Event struct {
	ID   string
	Name string
	Data json.RawMessage
}

// start stores a run and sends it on its way, and waits for its end as long as
// the caller wants.
func (r *Research) start(ctx context.Context, run Run, wait string) (Run, error) {
	patience, err := waitFor(wait)
	if err != nil {
		return Run{}, err
	}
	scope, _ := domain.ScopeOf(ctx)
	run.CreatedBy = scope.Actor.ID
	book, done, err := r.Reserve(ctx, run.Meter, run.Units)
	if err != nil {
		return Run{}, err
	}
	defer done()
	var accepted Run // as it was: it may end before the caller is answered, who did not ask for its end
	err = r.st.Tx(ctx, func(ctx context.Context) error {
		if err := r.room(ctx); err != nil {
			return err
		}
		if err := r.st.For(ctx).Create(&run).Error; err != nil {
			return err
		}
		if accepted, err = r.summary(ctx, run.ID); err != nil {
			return err
		}
		if err := book(ctx, run.Units, run.ID); err != nil {
			return err
		}
		if err := r.tell(ctx, run.ID, event{"queued", "stage", StageEvent{"queued", "started", 0, 0}}); err != nil {
			return err
		}
		if err := r.dispatch(ctx); err != nil {
			return err
		}
		return r.Audit.Record(ctx, audit.Entry{Action: "run.start", Target: run.ID, Detail: map[string]any{"kind": run.Kind, "mode": run.Mode, "units": run.Units}})
	})
	if err != nil {
		return Run{}, err
	}
	if patience == 0 {
		return accepted, nil
	}
	return r.await(ctx, run.ID, patience)
}

func waitFor(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > time.Minute {
		return 0, domain.InvalidField("wait", "invalid_duration", "A duration as 30s, at most a minute, is required.")
	}
	return d, nil
}

// await gives the run when it has ended, or as it is when patience, or the
// request's own time, is nearly over.
func (r *Research) await(ctx context.Context, id string, patience time.Duration) (Run, error) {
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)-2*time.Second)
	}
	over := time.NewTimer(max(patience, 0))
	defer over.Stop()
	for {
		rung, stop := r.Bell.Wait(topic(id))
		run, err := r.summary(ctx, id)
		if err != nil || run.Ended() {
			stop()
			if err != nil {
				return run, err
			}
			return r.Get(ctx, IDRequest{ID: id})
		}
		again := time.NewTimer(2 * time.Second)
		select {
		case <-rung:
		case <-again.C:
		case <-over.C:
			stop()
			again.Stop()
			return run, nil
		case <-ctx.Done():
			stop()
			again.Stop()
			return run, ctx.Err()
		}
		stop()
		again.Stop()
	}
}

// IDRequest names a run in the path.
type IDRequest struct {
	ID string `path:"id" json:"-" maxLength:"64"`
}

func (r *Research) summary(ctx context.Context, id string) (run Run, err error) {
	err = r.st.Read(ctx, func(ctx context.Context) error {
		return r.st.For(ctx).Select(summaryColumns).Where("id = ?", id).Take(&run).Error
	})
	run.dress()
	return run, err
}

// State gives a run without its result.
func (r *Research) State(ctx context.Context, in IDRequest) (Run, error) {
	return r.summary(ctx, in.ID)
}

// Get gives one run with its request and, so far as there is one, its result.
func (r *Research) Get(ctx context.Context, in IDRequest) (run Run, err error) {
	err = r.st.Read(ctx, func(ctx context.Context) error { return r.st.For(ctx).Where("id = ?", in.ID).Take(&run).Error })
	if err != nil {
		return Run{}, err
	}
	run.dress()
	run.Request = json.RawMessage(run.RequestJSON)
	if run.ResultJSON != "" {
		run.Result = &Result{}
		if err := json.Unmarshal([]byte(run.ResultJSON), run.Result); err != nil {
			return Run{}, err
		}
	}
	return run, nil
}

// ListRequest pages through the runs.
type ListRequest struct {
	domain.PageRequest
	Kind   string `query:"kind" json:"-" enum:"relations,entity,dataset"`
	Status string `query:"status" json:"-" enum:"queued,running,succeeded,failed,cancelled"`
}

// Runs gives the newest runs first.
func (r *Research) Runs(ctx context.Context, in ListRequest) (page domain.Page[Run], err error) {
	err = r.st.Read(ctx, func(ctx context.Context) error {
		q := r.st.For(ctx).Select(summaryColumns)
		for column, value := range map[string]string{"kind": in.Kind, "status": in.Status} {
			if value != "" {
				q = q.Where(column+" = ?", value)
			}
		}
		page, err = store.Newest(q, in.PageRequest, func(r Run) string { return r.ID })
		return err
	})
	for i := range page.Data {
		page.Data[i].dress()
	}
	return page, err
}

// Cancel ends a run that has not ended: no call is made any more, and those
// under way are broken off. What was found stays.
func (r *Research) Cancel(ctx context.Context, in IDRequest) (Run, error) {
	err := r.st.Tx(ctx, func(ctx context.Context) error {
		run, err := r.lock(ctx, in.ID)
		if err != nil {
			return err
		}
		if run.Ended() {
			return domain.E(domain.Conflict, "run_ended", "The run has ended already.")
		}
		if err := r.end(ctx, run, Cancelled, ending{}); err != nil {
			return err
		}
		return r.Audit.Record(ctx, audit.Entry{Action: "run.cancel", Target: run.ID})
	})
	if err != nil {
		return Run{}, err
	}
	r.stop(in.ID, errCancelled)
	return r.summary(ctx, in.ID)
}

// Titles gives what runs are about, by id.
func (r *Research) Titles(ctx context.Context, ids []string) (map[string]string, error) {
	var found []Run
	err := r.st.Read(ctx, func(ctx context.Context) error {
		return r.st.For(ctx).Select("tenant_id", "id", "title").Where("id IN ?", ids).Find(&found).Error
	})
	out := map[string]string{}
	for _, run := range found {
		out[run.ID] = run.Title
	}
	return out, err
}

// lock reads a run and keeps everybody else from changing it until the
// transaction ends.
func (r *Research) lock(ctx context.Context, id string) (*Run, error) {
	var run Run
	err := r.st.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", id).Take(&run).Error
	return &run, err
}

// ResumeRequest goes on with a run that failed, or that left something undone.
type ResumeRequest struct {
	ID     string  `path:"id" json:"-" maxLength:"64"`
	Budget *Budget `json:"budget,omitempty" doc:"in place of the run's"`
	Wait   string  `json:"-" query:"wait" maxLength:"10"`
}

// resumable: a run of another tenant's archive took no unit here, and may give
// none back.
func (r *Run) resumable() bool {
	return r.ImportedAt == nil && (r.Status == Failed || r.Status == Succeeded && r.Partial)
}

// Resume goes on where the run stopped: what was paid for is not paid for
// again, what failed is tried again.
func (r *Research) Resume(ctx context.Context, in ResumeRequest) (Run, error) {
	patience, err := waitFor(in.Wait)
	if err != nil {
		return Run{}, err
	}
	var v violations
	if v.budget(in.Budget); v.err() != nil {
		return Run{}, v.err()
	}
	seen, err := r.summary(ctx, in.ID)
	if err != nil {
		return Run{}, err
	}
	// What was given back when the run ended is taken again.
	again := seen.Units - seen.UnitsUsed
	book, done, err := r.Reserve(ctx, seen.Meter, again)
	if err != nil {
		return Run{}, err
	}
	defer done()
	err = r.st.Tx(ctx, func(ctx context.Context) error {
		run, err := r.lock(ctx, in.ID)
		if err != nil {
			return err
		}
		if !run.resumable() || run.UnitsUsed != seen.UnitsUsed {
			return domain.E(domain.Conflict, "not_resumable", "Only a run that failed, or that left something undone, can be resumed.")
		}
		if err := r.room(ctx); err != nil {
			return err
		}
		request := run.RequestJSON
		if in.Budget != nil {
			var fields map[string]any
			if err := json.Unmarshal([]byte(request), &fields); err != nil {
				return err
			}
			fields["budget"] = in.Budget
			body, err := json.Marshal(fields)
			if err != nil {
				return err
			}
			request = string(body)
		}
		attempt := strconv.FormatInt(run.Attempts, 10)
		if err := book(ctx, again, run.ID+"/resume/"+attempt); err != nil {
			return err
		}
		if _, err := r.st.Exec(ctx, "DELETE FROM research_steps WHERE tenant_id = @tenant AND run_id = @id AND status = 'failed'", map[string]any{"id": run.ID}); err != nil {
			return err
		}
		// A company whose check failed is checked again.
		if _, err := r.st.Exec(ctx, "UPDATE research_findings SET verdict = '', finding = '' WHERE tenant_id = @tenant AND run_id = @id AND verdict = @error",
			map[string]any{"id": run.ID, "error": verdictError}); err != nil {
			return err
		}
		_, err = r.st.Exec(ctx, `UPDATE research_runs SET status = 'queued', dispatched = @no, partial = @no, worker = '', lease_until = NULL, ended_at = NULL,
				error_code = '', error_message = '', stage = '', units_used = 0, counted_at = @now, request = @request WHERE tenant_id = @tenant AND id = @id`,
			map[string]any{"id": run.ID, "no": false, "request": request, "now": r.now()})
		if err != nil {
			return err
		}
		if err := r.tell(ctx, run.ID, event{"resumed/" + attempt, "stage", StageEvent{"resumed", "started", 0, 0}}); err != nil {
			return err
		}
		if err := r.dispatch(ctx); err != nil {
			return err
		}
		return r.Audit.Record(ctx, audit.Entry{Action: "run.resume", Target: run.ID})
	})
	if err != nil {
		return Run{}, err
	}
	if patience == 0 {
		return r.summary(ctx, in.ID)
	}
	return r.await(ctx, in.ID, patience)
}

// RepeatRequest asks the same again.
type RepeatRequest struct {
	ID   string `path:"id" json:"-" maxLength:"64"`
	Wait string `json:"-" query:"wait" maxLength:"10"`
}

// Repeat starts a new run of the same question; its changes say what differs.
func (r *Research) Repeat(ctx context.Context, in RepeatRequest) (Run, error) {
	old, err := r.Get(ctx, IDRequest{ID: in.ID})
	if err != nil {
		return Run{}, err
	}
	run := r.newRun(old.Kind, old.Mode, old.Title, old.Priority, old.Request)
	run.Meter, run.Units, run.PreviousID = old.Meter, old.Units, old.ID
	return r.start(ctx, run, in.Wait)
}

// RunJob is the job that works a run. Serial tells the jobs of one run apart.
type RunJob struct {
	ID string `json:"id"`
}

// Kind is the queue's.
func (RunJob) Kind() string { return "research.run" }

// alone is by itself with the tenant's runs that wait until the transaction ends.
func (r *Research) alone(ctx context.Context) error {
	_, err := r.st.Exec(ctx, `INSERT INTO research_turns (tenant_id, turn) VALUES (@tenant, 1) ON CONFLICT (tenant_id) DO UPDATE SET turn = research_turns.turn + 1`, nil)
	return err
}

// room refuses another run where too many wait: in the queue, or for the
// tenant's share of it.
func (r *Research) room(ctx context.Context) error {
	if err := r.alone(ctx); err != nil {
		return err
	}
	var aside int64
	if err := r.st.For(ctx).Model(&Run{}).Where("status = ? AND dispatched = ?", Queued, false).Count(&aside).Error; err != nil {
		return err
	}
	return r.Queue.Admit(ctx, RunJob{}, aside)
}

// dispatch gives the tenant's next runs to the job queue, in the transaction of
// ctx, up to its share. The turn's row is taken first: two who decide at once
// decide one after the other.
func (r *Research) dispatch(ctx context.Context) error {
	if err := r.alone(ctx); err != nil {
		return err
	}
	var busy int64
	if err := r.st.For(ctx).Model(&Run{}).Where("dispatched = ? AND status IN ?", true, []string{Queued, Running}).Count(&busy).Error; err != nil {
		return err
	}
	if busy >= int64(r.Share) {
		return nil
	}
	var next []Run
	err := r.st.For(ctx).Select("tenant_id", "id", "priority").Where("status = ? AND dispatched = ?", Queued, false).
		Order("priority, id").Limit(r.Share - int(busy)).Find(&next).Error
	if err != nil {
		return err
	}
	for _, run := range next {
		if _, err := r.st.Exec(ctx, "UPDATE research_runs SET dispatched = @yes WHERE tenant_id = @tenant AND id = @id", map[string]any{"id": run.ID, "yes": true}); err != nil {
			return err
		}
		if err := r.Queue.Enqueue(ctx, RunJob{ID: run.ID}, domain.JobOptions{Priority: run.Priority}); err != nil {
			return err
		}
	}
	return nil
}

// tell appends events to a run's story, in the transaction of ctx, and leaves
// out those that were told.
func (r *Research) tell(ctx context.Context, runID string, events ...event) error {
	if len(events) == 0 {
		return nil
	}
	keys := make([]string, len(events))
	for i, e := range events {
		keys[i] = e.key
	}
	// The row of the run is taken first, so that numbers have no gaps and keys
	// no races.
	if _, err := r.st.Exec(ctx, "UPDATE research_runs SET events = events WHERE tenant_id = @tenant AND id = @id", map[string]any{"id": runID}); err != nil {
		return err
	}
	var told []string
	if err := r.st.For(ctx).Model(&eventRow{}).Where("run_id = ? AND key IN ?", runID, keys).Pluck("key", &told).Error; err != nil {
		return err
	}
	var run Run
	if err := r.st.For(ctx).Select("tenant_id", "id", "events").Where("id = ?", runID).Take(&run).Error; err != nil {
		return err
	}
	var rows []eventRow
	for _, e := range events {
		if slices.Contains(told, e.key) {
			continue
		}
		told = append(told, e.key)
		data, err := json.Marshal(e.data)
		if err != nil {
			return err
		}
		run.Events++
		rows = append(rows, eventRow{RunID: runID, Seq: run.Events, Key: e.key, Name: e.name, Data: string(data), CreatedAt: r.now()})
	}
	if len(rows) == 0 {
		return nil
	}
	if err := r.st.For(ctx).Create(&rows).Error; err != nil {
		return err
	}
	_, err := r.st.Exec(ctx, "UPDATE research_runs SET events = @n WHERE tenant_id = @tenant AND id = @id", map[string]any{"id": runID, "n": run.Events})
	if err != nil {
		return err
	}
	r.st.AfterCommit(ctx, func() { r.Bell.Ring(context.WithoutCancel(ctx), topic(runID)) })
	return nil
}

func topic(runID string) string { return "run/" + runID }

// stopTopic rings when the run is taken from its worker.
func stopTopic(runID string) string { return "run/" + runID + "/stop" }

// ending is what a run ends with.
type ending struct {
	events    []event // told with the end
	result    *Result
	partial   bool
	unitsUsed int64
	why       *domain.Error
}

// EndEvent is the last event of a run.
type EndEvent struct {
	Status  string   `json:"status"`
	Partial bool     `json:"partial,omitempty"`
	Sandbox bool     `json:"sandbox"`
	Usage   RunUsage `json:"usage"`
	Code    string   `json:"code,omitempty"`
	Detail  string   `json:"detail,omitempty"`
}

// end moves a run that has not ended to its end, in the transaction of ctx:
// result, last event, units given back, and the tenant's next run sent.
func (r *Research) end(ctx context.Context, run *Run, status string, e ending) error {
	code, message, result := "", "", run.ResultJSON
	if e.why != nil {
		code, message = e.why.Code, domain.Sentence("en", e.why.Format, e.why.Args...)
	}
	if e.result != nil {
		body, err := json.Marshal(e.result)
		if err != nil {
			return err
		}
		result = string(body)
	}
	if status == Cancelled && run.Kind == KindDataset {
		// What was checked until now was used.
		var checked int64
		err := r.st.For(ctx).Model(&findingRow{}).Where("run_id = ? AND verdict <> '' AND verdict <> ?", run.ID, verdictError).Count(&checked).Error
		if err != nil {
			return err
		}
		e.unitsUsed = checked
	} else if status == Cancelled && run.Calls > 0 {
		e.unitsUsed = run.Units // it was worked on, and paid for
	}
	used := min(e.unitsUsed, run.Units)
	n, err := r.st.Exec(ctx, `UPDATE research_runs SET status = @status, partial = @partial, result = @result, error_code = @code, error_message = @message,
			units_used = @used, ended_at = @now, dispatched = @no, worker = '', lease_until = NULL
		WHERE tenant_id = @tenant AND id = @id AND status IN ('queued', 'running')`, map[string]any{"id": run.ID, "status": status, "partial": e.partial,
		"result": result, "code": code, "message": message, "used": used, "now": r.now(), "no": false})
	if err != nil {
		return err
	}
	if n == 0 {
		return errSuperseded
	}
	var now Run
	if err := r.st.For(ctx).Select(summaryColumns).Where("id = ?", run.ID).Take(&now).Error; err != nil {
		return err
	}
	now.dress()
	r.st.AfterCommit(ctx, func() { r.Bell.Ring(context.WithoutCancel(ctx), stopTopic(run.ID)) })
	attempt := strconv.FormatInt(run.Attempts, 10)
	err = r.tell(ctx, run.ID, append(slices.Clone(e.events), event{"end/" + attempt, status, EndEvent{status, e.partial, now.Sandbox, now.Usage, code, message}})...)
	if err != nil {
		return err
	}
	if back := run.Units - used; back > 0 {
		if err := r.GiveBack(ctx, run.Meter, back, run.ID+"/back/"+attempt); err != nil {
			return err
		}
	}
	return r.dispatch(ctx)
}

// EventsRequest follows a run.
type EventsRequest struct {
	ID    string `path:"id" json:"-" maxLength:"64"`
	After string `header:"Last-Event-ID" json:"-" maxLength:"20" doc:"go on after this event"`
}

// EventsReady refuses what cannot be followed, before the stream begins.
func (r *Research) EventsReady(ctx context.Context, in EventsRequest) (Run, error) {
	if _, err := in.after(); err != nil {
		return Run{}, err
	}
	return r.summary(ctx, in.ID)
}

func (in EventsRequest) after() (int64, error) {
	if in.After == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(in.After, 10, 64)
	if err != nil || n < 0 {
		return 0, domain.InvalidField("Last-Event-ID", "invalid_value", "This is not the id of an event of a run.")
	}
	return n, nil
}

// Ended is how many runs of a kind ended in one way.
type Ended struct {
	Kind   string
	Failed bool   // by a fault of ours or of a provider
	Code   string // of the fault
	N      int64
}

// Ended counts the runs of every tenant that ended since a time; cancelled ones
// are not among them.
func (r *Research) Ended(ctx context.Context, since time.Time) (out []Ended, err error) {
	err = r.Store.Read(domain.System(ctx, "health"), func(ctx context.Context) error {
		return r.Store.SQL(ctx, `SELECT kind, status = 'failed' AS failed, error_code AS code, count(*) AS n FROM research_runs
			WHERE ended_at > @since AND imported_at IS NULL AND status IN ('succeeded', 'failed') AND error_code <> 'provider_budget_exceeded' GROUP BY kind, status, error_code`,
			map[string]any{"since": since.UTC()}).Scan(&out).Error
	})
	return out, err
}
