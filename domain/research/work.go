package research

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Why a worker lets go of a run.
var (
	errCancelled  = errors.New("research: the run was cancelled")
	errSuperseded = errors.New("research: the run has ended or is another worker's")
	errDraining   = errors.New("research: this process is going down")
	errBudget     = errors.New("research: the budget does not carry this call")
)

const mostAttempts = 6 // at what may pass: a database that is away

// execution is a worker's hold on a run.
type execution struct {
	r   *Research
	run *Run
	sem chan struct{} // calls under way

	flights singleflight.Group // by step: two who want the same page read it once
	renewed atomic.Bool        // the lease, since the keeper's last beat

	mu       sync.Mutex
	budget   Budget
	spent    Usage // of this and earlier attempts
	reserved Usage // by calls under way
	largest  int64 // the dearest call so far, in micros
}

// Work does a RunJob, from where the run was left. An error means: try again
// later; whatever is the run's own fate is its end and no error.
func (r *Research) Work(ctx context.Context, job RunJob) error {
	run, err := r.claim(ctx, job.ID)
	if err != nil || run == nil {
		return err
	}
	limit := r.Timeouts.Run
	if run.Kind == KindDataset {
		limit = r.Timeouts.DatasetRun
	}
	outer := ctx
	timed, cancelTime := context.WithTimeoutCause(ctx, limit, domain.E(domain.Unavailable, "run_timeout", "The run took too long. What was found is kept; resume goes on."))
	defer cancelTime()
	ctx, stop := context.WithCancelCause(timed)
	defer stop(nil)
	if !r.enter(run.ID, stop) {
		return r.release(outer, run)
	}
	defer r.leave(run.ID)
	x := &execution{r: r, run: run, sem: make(chan struct{}, r.Parallel)}
	keeper := make(chan struct{})
	go func() { defer close(keeper); x.keep(ctx, stop) }()

	var request struct{ Budget *Budget }
	if err := json.Unmarshal([]byte(run.RequestJSON), &request); err != nil {
		return err
	}
	if request.Budget != nil {
		x.budget = *request.Budget
	}
	x.spent = Usage{Calls: run.Calls, InputTokens: run.InputTokens, OutputTokens: run.OutputTokens, CostMicros: run.CostMicros}
	e, err := x.program(ctx)
	cause := context.Cause(ctx)
	stop(nil)
	<-keeper
	var own *domain.Error
	switch {
	case errors.Is(cause, errCancelled), errors.Is(cause, errSuperseded), errors.Is(err, errSuperseded):
		return nil
	case err == nil && cause == nil:
		return x.finish(outer, Succeeded, e)
	case errors.Is(cause, errDraining), outer.Err() != nil:
		return errors.Join(errDraining, r.release(context.WithoutCancel(outer), run))
	case errors.As(cause, &own) && own.Code == "run_timeout": // timed out
	case errors.As(err, &own) && own.Code != "dependency_unavailable" && own.Code != "canceled" && own.Kind != domain.Internal:
	case run.Attempts >= mostAttempts:
		r.Logger.ErrorContext(ctx, "a run is given up", "run", run.ID, "error", err)
		own = domain.E(domain.Internal, "internal", "The run could not be finished.")
	default:
		return errors.Join(err, r.release(outer, run))
	}
	e.why = own
	return x.finish(outer, Failed, e)
}

// program is what a run of a kind does. Beside an error it gives what there is.
func (x *execution) program(ctx context.Context) (ending, error) {
	switch x.run.Kind {
	case KindRelations:
		return x.relations(ctx)
	case KindEntity:
		return x.entity(ctx)
	case KindDataset:
		return x.dataset(ctx)
	}
	return ending{}, fmt.Errorf("research: no such kind of run: %q", x.run.Kind)
}

// claim takes a run that nobody holds, or gives nil where nothing is to do.
func (r *Research) claim(ctx context.Context, id string) (*Run, error) {
	var run *Run
	err := r.st.Tx(ctx, func(ctx context.Context) error {
		now := r.now()
		n, err := r.st.Exec(ctx, `UPDATE research_runs SET status = 'running', attempts = attempts + 1, worker = @worker, lease_until = @lease,
				started_at = coalesce(started_at, @now), dispatched = @yes
			WHERE tenant_id = @tenant AND id = @id AND status IN ('queued', 'running') AND (worker = '' OR lease_until < @now)`,
			map[string]any{"id": id, "worker": r.worker + "/" + strconv.FormatInt(now.UnixNano(), 36), "lease": now.Add(r.Lease), "now": now, "yes": true})
		if err != nil || n == 0 {
			return err
		}
		// A call that was under way when its worker died may have been paid:
		// it counts as the most it may have cost.
		var lost []stepRow
		if err := r.st.For(ctx).Where("run_id = ? AND status = ?", id, stepStarted).Find(&lost).Error; err != nil {
			return err
		}
		for _, s := range lost {
			if err := r.spend(ctx, id, Usage{Calls: s.Calls, InputTokens: s.InputTokens, OutputTokens: s.OutputTokens, CostMicros: s.CostMicros, Estimated: true}); err != nil {
				return err
			}
		}
		if len(lost) > 0 {
			if _, err := r.st.Exec(ctx, "DELETE FROM research_steps WHERE tenant_id = @tenant AND run_id = @id AND status = 'started'", map[string]any{"id": id}); err != nil {
				return err
			}
		}
		run, err = r.lock(ctx, id)
		return err
	})
	if domain.KindOf(err) == domain.NotFound {
		return nil, nil
	}
	return run, err
}

// release lets another worker take the run at once: its lease is over.
func (r *Research) release(ctx context.Context, run *Run) error {
	return r.st.Tx(ctx, func(ctx context.Context) error {
		_, err := r.st.Exec(ctx, "UPDATE research_runs SET lease_until = @past WHERE tenant_id = @tenant AND id = @id AND worker = @worker",
			map[string]any{"id": run.ID, "worker": run.Worker, "past": r.now().Add(-time.Millisecond)})
		return err
	})
}

func (r *Research) enter(id string, stop context.CancelCauseFunc) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drained {
		return false
	}
	r.active[id] = stop
	return true
}

func (r *Research) leave(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, id)
}

// stop breaks off a run that is at work in this process.
func (r *Research) stop(id string, why error) {
	r.mu.Lock()
	stop := r.active[id]
	r.mu.Unlock()
	if stop != nil {
		stop(why)
	}
}

// Drain lets go of every run at work here; other processes, or this one when it
// is back, go on with them.
func (r *Research) Drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drained = true
	for _, stop := range r.active {
		stop(errDraining)
	}
}

// keep renews the lease, and stops the work when the run was cancelled or taken.
// A run that tells something renews it with that (commit), and needs nothing here.
func (x *execution) keep(ctx context.Context, stop context.CancelCauseFunc) {
	r, run := x.r, x.run
	beat := time.NewTicker(r.Lease / 4) // so that no lease is ever more than half over, but for a beat that comes late
	defer beat.Stop()
	for {
		rung, unwait := r.Bell.Wait(stopTopic(run.ID))
		held := false
		select {
		case <-rung:
		case <-beat.C:
			if held = x.renewed.Swap(false); !held {
				held = x.renew(ctx) == nil
			}
		case <-ctx.Done():
			unwait()
			return
		}
		unwait()
		if held {
			continue
		}
		var now Run
		err := r.st.Read(ctx, func(ctx context.Context) error {
			return r.st.For(ctx).Select("tenant_id", "id", "status", "worker").Where("id = ?", run.ID).Take(&now).Error
		})
		switch {
		case domain.KindOf(err) == domain.NotFound, err == nil && now.Status == Cancelled:
			stop(errCancelled)
		case err == nil && (now.Status != Running || now.Worker != run.Worker):
			stop(errSuperseded)
		}
	}
}

// renew prolongs the lease, if the run is still ours.
func (x *execution) renew(ctx context.Context) error {
	return x.r.st.Tx(ctx, x.hold)
}

// hold is renew in the transaction of ctx.
func (x *execution) hold(ctx context.Context) error {
	n, err := x.r.st.Exec(ctx, "UPDATE research_runs SET lease_until = @lease WHERE tenant_id = @tenant AND id = @id AND status = 'running' AND worker = @worker",
		map[string]any{"id": x.run.ID, "worker": x.run.Worker, "lease": x.r.now().Add(x.r.Lease)})
	if err == nil && n == 0 {
		err = errSuperseded
	}
	return err
}

// Sweep sends runs whose worker has died to the queue again. Any process may
// call it, now and then.
func (r *Research) Sweep(ctx context.Context) error {
	sys := domain.System(ctx, "research runs without a worker")
	var dead []Run
	err := r.st.Read(sys, func(ctx context.Context) error {
		return r.st.For(ctx).Select("tenant_id", "id", "priority", "worker", "created_by").Where("status = ? AND worker <> '' AND lease_until < ?", Running, r.now()).Limit(500).Find(&dead).Error
	})
	if err != nil {
		return err
	}
	for _, run := range dead {
		own := domain.WithScope(ctx, domain.Scope{Tenant: run.TenantID, Actor: domain.Actor{Kind: "user", ID: run.CreatedBy}})
		err := r.st.Tx(own, func(ctx context.Context) error {
			// One job for each death, however many processes see it.
			return r.Queue.Enqueue(ctx, RunJob{ID: run.ID}, domain.JobOptions{Priority: run.Priority, Unique: run.ID + "/" + run.Worker})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Reclaim frees every run that a worker holds. It is for the start of a process
// on an embedded database, which nobody else can be at work on.
func (r *Research) Reclaim(ctx context.Context) error {
	return r.st.Tx(domain.System(ctx, "research runs of a process that died"), func(ctx context.Context) error {
		_, err := r.st.Exec(ctx, "UPDATE research_runs SET lease_until = @past WHERE status = 'running' AND worker <> ''", map[string]any{"past": r.now().Add(-time.Millisecond)})
		return err
	})
}

// finish ends the run, if it is still ours.
func (x *execution) finish(ctx context.Context, status string, e ending) error {
	ctx = context.WithoutCancel(ctx)
	err := x.r.st.Tx(ctx, func(ctx context.Context) error {
		run, err := x.r.lock(ctx, x.run.ID)
		if err != nil {
			return err
		}
		if run.Status != Running || run.Worker != x.run.Worker {
			return errSuperseded
		}
		if err := x.r.end(ctx, run, status, e); err != nil {
			return err
		}
		action := "run.finish"
		if status == Failed {
			action = "run.fail"
		}
		return x.r.Audit.Record(domain.Itself(ctx, "run"), audit.Entry{Action: action, Target: run.ID, Detail: map[string]any{"kind": run.Kind, "mode": run.Mode, "partial": e.partial}})
	})
	if errors.Is(err, errSuperseded) {
		return nil
	}
	return err
}

// commit changes rows of the run in one transaction with the events that tell
// of it, if the run is still ours.
func (x *execution) commit(ctx context.Context, events []event, fn func(ctx context.Context) error) error {
	defer x.r.turn()()
	err := x.r.st.Tx(ctx, func(ctx context.Context) error {
		if err := x.hold(ctx); err != nil {
			return err
		}
		if fn != nil {
			if err := fn(ctx); err != nil {
				return err
			}
		}
		return x.r.tell(ctx, x.run.ID, events...)
	})
	if err == nil {
		x.renewed.Store(true)
	}
	return err
}

func (x *execution) attempt() string { return strconv.FormatInt(x.run.Attempts, 10) }

// The events of a run are each named after what they tell: "stage", "query",
// "source", "relation" (a Relation), "usage", "warning" (a Warning), and one of its
// three ends. "result" is a Profile, a Signal, a Relation (of a dataset's entry) or a
// HeldEvent.

// StageEvent tells that a part of the run begins, goes on or is done.
type StageEvent struct {
	Stage  string `json:"stage"`
	Status string `json:"status" enum:"started,progress,done"`
	Done   int    `json:"done,omitempty"`
	Total  int    `json:"total,omitempty"`
}

// stage tells that a part of the run begins.
func (x *execution) stage(ctx context.Context, name, status string, done, total int) error {
	key := "stage/" + name + "/" + status + "/" + strconv.Itoa(done)
	return x.commit(ctx, []event{{key, "stage", StageEvent{name, status, done, total}}}, func(ctx context.Context) error {
		_, err := x.r.st.Exec(ctx, "UPDATE research_runs SET stage = @stage, done = @done, total = @total WHERE tenant_id = @tenant AND id = @id",
			map[string]any{"id": x.run.ID, "stage": name, "done": done, "total": total})
		return err
	})
}

// Warning is something that a reader of the result must know.
type Warning struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	About  string `json:"about,omitempty" doc:"a risk item, an engine, an address"`
}

// warn tells it once.
func (x *execution) warn(ctx context.Context, key string, w Warning) error {
	return x.commit(ctx, []event{{"warning/" + key, "warning", w}}, nil)
}

const (
	stepStarted = "started"
	stepDone    = "done"
	stepFailed  = "failed"
)

type stepRow struct {
	store.Owned
	RunID        string `gorm:"primaryKey"`
	Key          string `gorm:"primaryKey"`
	Kind         string
	Status       string
	Sent         string
	Output       string
	ErrorCode    string
	ErrorMessage string
	Provider     string
	Model        string
	Calls        int64
	InputTokens  int64
	OutputTokens int64
	CostMicros   int64
	Sandbox      bool
	StartedAt    time.Time
	EndedAt      *time.Time
}

func (stepRow) TableName() string { return "research_steps" }

// step describes a call that may cost.
type step struct {
	key, kind string
	sent      string // what goes out, for the tenant's own record
	timeout   time.Duration
	cost      Kind  // "" costs nothing
	most      Usage // the tokens it may take
	event     *event
}

// vendorError is a vendor's failure: the run goes on without it.
type vendorError struct{ why *domain.Error }

func (e vendorError) Error() string { return e.why.Error() }
func (e vendorError) Unwrap() error { return e.why }

// final reports a failure that every further call of the kind would meet.
func final(err error) bool {
	switch domain.CodeOf(err) {
	case "provider_not_configured", "provider_refused", "provider_budget_exceeded":
		return true
	}
	return false
}

// staged gives a part of the run its own time. What could not be done within
// it is left out, and the run goes on with what there is.
func (x *execution) staged(ctx context.Context, name string, fn func(ctx context.Context) error) (late bool, err error) {
	over := domain.E(domain.Unavailable, "stage_timeout", "The stage %s took too long; the run goes on with what was found.", name)
	timed, cancel := context.WithTimeoutCause(ctx, x.r.Timeouts.Stage, over)
	defer cancel()
	err = fn(timed)
	if err != nil && ctx.Err() == nil && timed.Err() != nil {
		return true, x.warn(ctx, "stage_timeout/"+name, Warning{Code: over.Code, Detail: domain.Sentence("en", over.Format, over.Args...)})
	}
	return false, err
}

// do makes a step: the stored result where an earlier attempt has it, else the
// call. tell gives the events of a result, which are stored with it.
func do[T any](ctx context.Context, x *execution, s step, call func(context.Context, Call) (T, Usage, error), tell func(T) []event) (out T, err error) {
	got, err, _ := x.flights.Do(s.key, func() (any, error) { return once(ctx, x, s, call, tell) })
	if got != nil {
		out = got.(T)
	}
	return out, err
}

func once[T any](ctx context.Context, x *execution, s step, call func(context.Context, Call) (T, Usage, error), tell func(T) []event) (out T, err error) {
	var row stepRow
	err = x.r.st.Read(ctx, func(ctx context.Context) error {
		return x.r.st.For(ctx).Where("run_id = ? AND key = ?", x.run.ID, s.key).Limit(1).Find(&row).Error
	})
	switch {
	case err != nil:
		return out, err
	case row.Status == stepDone:
		return out, json.Unmarshal([]byte(row.Output), &out)
	case row.Status == stepFailed:
		return out, vendorError{domain.E(domain.Unavailable, row.ErrorCode, "%s", row.ErrorMessage)}
	}
	select {
	case x.sem <- struct{}{}:
		defer func() { <-x.sem }()
	case <-ctx.Done():
		return out, context.Cause(ctx)
	}
	if s.cost != "" {
		s.most.Calls = 1
		if x.r.Most != nil {
			s.most.CostMicros = x.r.Most(s.cost, s.most)
		}
	}
	if err := x.reserve(s.most); err != nil {
		return out, err
	}
	defer x.unreserve(s.most)
	var events []event
	if s.event != nil {
		events = append(events, *s.event)
	}
	row = stepRow{RunID: x.run.ID, Key: s.key, Kind: s.kind, Status: stepStarted, Sent: clip(s.sent, 4000), Calls: s.most.Calls,
		InputTokens: s.most.InputTokens, OutputTokens: s.most.OutputTokens, CostMicros: s.most.CostMicros, StartedAt: x.r.now()}
	err = x.commit(ctx, events, func(ctx context.Context) error { return x.r.st.For(ctx).Create(&row).Error })
	if err != nil {
		return out, err
	}

	timed, cancel := context.WithTimeout(ctx, s.timeout)
	out, used, err := call(timed, Call{Run: x.run.ID, Step: s.key})
	late := timed.Err() != nil && ctx.Err() == nil
	cancel()

	// From here on the result is kept even if the run is broken off: it was
	// paid for.
	keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	ended := x.r.now()
	row.EndedAt, row.Provider, row.Model, row.Sandbox = &ended, used.Provider, used.Model, used.Sandbox
	row.Calls, row.InputTokens, row.OutputTokens, row.CostMicros = used.Calls, used.InputTokens, used.OutputTokens, used.CostMicros
	var failure vendorError
	switch {
	case err == nil:
		body, err := json.Marshal(out)
		if err != nil {
			return out, err
		}
		row.Status, row.Output = stepDone, string(body)
		events = tell(out)
	case ctx.Err() != nil: // broken off by us: it is made again, if the run goes on
		row.Status = ""
	default:
		failure = x.failure(ctx, err, late, s)
		row.Status, row.ErrorCode, row.ErrorMessage = stepFailed, failure.why.Code, sentence(failure)
		events = nil
	}
	err = x.settle(keep, row, used, events)
	switch {
	case err != nil:
		return out, err
	case row.Status == "":
		return out, context.Cause(ctx)
	case row.Status == stepFailed:
		return out, failure
	}
	return out, nil
}

// failure makes of what a vendor's client gave what a reader may be told.
func (x *execution) failure(ctx context.Context, err error, late bool, s step) vendorError {
	var own *domain.Error
	switch {
	case errors.As(err, &own) && own.Kind != domain.Internal && own.Kind != domain.Canceled:
	case late:
		own = domain.E(domain.Unavailable, "provider_timeout", "No answer within %v.", s.timeout)
	default:
		own = domain.E(domain.Unavailable, "provider_unavailable", "The provider did not answer.")
	}
	x.r.Logger.WarnContext(ctx, "a call of a run failed", "run", x.run.ID, "step", s.key, "error", err)
	return vendorError{own}
}

// settle stores the end of a step, what it cost, and its events. A run that was
// ended meanwhile still shows what was spent.
func (x *execution) settle(ctx context.Context, row stepRow, used Usage, events []event) error {
	store := func(ctx context.Context) error {
		if row.Status == "" {
			_, err := x.r.st.Exec(ctx, "DELETE FROM research_steps WHERE tenant_id = @tenant AND run_id = @run AND key = @key", map[string]any{"run": row.RunID, "key": row.Key})
			if err != nil {
				return err
			}
		} else if err := x.r.st.For(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "tenant_id"}, {Name: "run_id"}, {Name: "key"}},
			UpdateAll: true}).Create(&row).Error; err != nil {
			return err
		}
		return x.r.spend(ctx, x.run.ID, used)
	}
	if x.note(used) {
		events = append(events, event{"warning/budget_nearly_used_up", "warning", Warning{Code: "budget_nearly_used_up", Detail: domain.Sentence("en", nearlySentence)}})
	}
	err := x.commit(ctx, append(events, x.usageEvent(row, used)...), store)
	if errors.Is(err, errSuperseded) {
		err = errors.Join(err, x.r.st.Tx(ctx, store))
	}
	return err
}

// UsageEvent tells what a call of a vendor's used.
type UsageEvent struct {
	Step     string   `json:"step"`
	Provider string   `json:"provider"`
	Model    string   `json:"model,omitempty"`
	Spent    RunUsage `json:"spent" doc:"by this call"`
	Sandbox  bool     `json:"sandbox"`
}

func (x *execution) usageEvent(row stepRow, u Usage) []event {
	if u.Calls == 0 && u.InputTokens+u.OutputTokens == 0 && u.CostMicros == 0 {
		return nil
	}
	return []event{{"usage/" + row.Key + "/" + x.attempt(), "usage",
		UsageEvent{row.Kind, u.Provider, u.Model, RunUsage{u.Calls, u.InputTokens, u.OutputTokens, float64(u.CostMicros) / 1e6, u.Estimated}, u.Sandbox}}}
}

// spend adds to what the run has spent, in the transaction of ctx.
func (r *Research) spend(ctx context.Context, id string, u Usage) error {
	_, err := r.st.Exec(ctx, `UPDATE research_runs SET calls = calls + @calls, input_tokens = input_tokens + @in, output_tokens = output_tokens + @out,
			cost_micros = cost_micros + @cost, estimated = CASE WHEN @estimated THEN @estimated ELSE estimated END, sandbox = CASE WHEN @sandbox THEN @sandbox ELSE sandbox END
		WHERE tenant_id = @tenant AND id = @id`,
		map[string]any{"id": id, "calls": u.Calls, "in": u.InputTokens, "out": u.OutputTokens, "cost": u.CostMicros, "estimated": u.Estimated, "sandbox": u.Sandbox})
	return err
}

// reserve holds the most that a call may cost against the budget, so that
// calls made at once cannot pass it together. What a call may cost in money is
// the dearest one so far, where the vendor does not say.
func (x *execution) reserve(most Usage) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.budget
	calls := x.spent.Calls + x.reserved.Calls + most.Calls
	tokens := x.spent.InputTokens + x.spent.OutputTokens + x.reserved.InputTokens + x.reserved.OutputTokens + most.InputTokens + most.OutputTokens
	cost := x.spent.CostMicros + x.reserved.CostMicros
	if most.Calls > 0 {
		cost += max(most.CostMicros, x.largest)
	}
	if b.Calls > 0 && calls > b.Calls || b.Tokens > 0 && tokens > b.Tokens || b.CostUSD > 0 && float64(cost) > b.CostUSD*1e6 {
		return errBudget
	}
	x.reserved.add(most)
	return nil
}

func (x *execution) unreserve(most Usage) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserved.Calls -= most.Calls
	x.reserved.InputTokens -= most.InputTokens
	x.reserved.OutputTokens -= most.OutputTokens
	x.reserved.CostMicros -= most.CostMicros
}

const nearlySentence = "Four fifths of the run's budget are used up."

// note adds to what was spent, and says whether four fifths of a budget are.
func (x *execution) note(u Usage) (nearly bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.spent.add(u)
	x.largest = max(x.largest, u.CostMicros)
	b := x.budget
	return b.Calls > 0 && x.spent.Calls*5 >= b.Calls*4 || b.Tokens > 0 && (x.spent.InputTokens+x.spent.OutputTokens)*5 >= b.Tokens*4 ||
		b.CostUSD > 0 && float64(x.spent.CostMicros)*5 >= b.CostUSD*4e6
}

func (u *Usage) add(v Usage) {
	u.Calls += v.Calls
	u.InputTokens += v.InputTokens
	u.OutputTokens += v.OutputTokens
	u.CostMicros += v.CostMicros
}

// each does fn for every item, at once as far as the run's calls allow. The
// first error that is the run's own, and not a vendor's, ends all.
func each[T any](ctx context.Context, items []T, fn func(ctx context.Context, i int, item T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i, item := range items {
		g.Go(func() error { return fn(ctx, i, item) })
	}
	return g.Wait()
}

// clip cuts a text at a whole character.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && s[most]&0xC0 == 0x80 {
		most--
	}
	return s[:most]
}
