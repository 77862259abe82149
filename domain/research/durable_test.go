package research

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// resultOf is what a run found, without what is each run's own: ids that are
// random in the run.
func resultOf(r Run) string {
	body, _ := json.Marshal(r.Result)
	text := string(body)
	for _, s := range r.Result.Sources {
		text = strings.ReplaceAll(text, s.ID, "source:"+s.URL)
	}
	return text
}

// A worker that dies at any moment is replaced, and its successor comes to the
// same result with every paid call made once, and tells every event once.
func TestKilledAtEveryBoundary(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		w := volta()
		r := newRig(t, db, w, func(c *Config) { c.Parallel = 3 })
		in := RelationsRequest{Mode: "deep", Institution: "Volta Institute", RiskItems: []RiskItem{{Name: "Ohm Group"}}}
		moments := 0
		var mu sync.Mutex
		moment := func() { mu.Lock(); moments++; mu.Unlock() }
		r.b.onRing = func(string) { moment() }
		w.gate = func(context.Context, string) error { moment(); return nil }
		run := must(r.StartRelations(r.a, in))
		started := moments
		r.work()
		want, boundaries := r.get(run.ID), moments-started
		if want.Status != Succeeded || boundaries < 40 {
			t.Fatalf("%s, %d boundaries", want.Status, boundaries)
		}
		paid := w.paid
		step := 1
		if db.URL != "" {
			step = 11 // the other database has seen them all
		}
		for kill := 1; kill <= boundaries; kill += step {
			ctx, die := context.WithCancel(r.a)
			n := 0
			dies := func() {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == kill {
					die()
				}
			}
			w.paid = map[string]int{}
			r.b.onRing, w.gate = nil, nil
			run := must(r.StartRelations(r.a, in))
			r.b.onRing = func(string) { dies() }
			w.gate = func(ctx context.Context, _ string) error { dies(); return ctx.Err() }
			job, _ := r.q.take()
			_ = r.Work(ctx, job)
			r.b.onRing, w.gate = nil, nil
			if now := must(r.State(r.a, IDRequest{ID: run.ID})); !now.Ended() {
				// It left its lease behind, as a process that is killed does.
				r.leaseLasts(run.ID)
				if r.process(); r.Work(r.a, job) != nil {
					t.Fatal("a run that another holds is no error")
				}
				if now := must(r.State(r.a, IDRequest{ID: run.ID})); now.Status != Running {
					t.Fatalf("kill %d: a held run was taken: %s", kill, now.Status)
				}
				r.clock.skip(21 * time.Second)
				if err := r.Sweep(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			r.work()
			got := r.get(run.ID)
			if got.Status != Succeeded || resultOf(got) != resultOf(want) {
				a, b := resultOf(got), resultOf(want)
				at := 0
				for at < len(a) && at < len(b) && a[at] == b[at] {
					at++
				}
				t.Fatalf("killed at %d of %d: %s, and the results differ:\n%s\nwant\n%s", kill, boundaries, got.Status, clip(a[max(0, at-200):], 600), clip(b[max(0, at-200):], 600))
			}
			if len(w.paid) != len(paid) {
				t.Fatalf("killed at %d: %d calls paid, want %d", kill, len(w.paid), len(paid))
			}
			for call, times := range w.paid {
				if times != 1 {
					t.Errorf("killed at %d: %s was paid %d times", kill, call, times)
				}
			}
			// Where the death left it open whether a call was made, it counts as the
			// most it may have cost.
			if !got.Usage.Estimated && (got.Calls != want.Calls || got.CostMicros != want.CostMicros) || got.Calls < want.Calls {
				t.Errorf("killed at %d: spent %d calls and %d micros, want %d and %d", kill, got.Calls, got.CostMicros, want.Calls, want.CostMicros)
			}
			seen := map[string]bool{}
			for i, e := range r.events(run.ID) {
				if e.ID != strconv.Itoa(i+1) {
					t.Fatalf("killed at %d: event %d has the number %s", kill, i+1, e.ID)
				}
				if key := e.Name + string(e.Data); e.Name != "usage" && seen[key] {
					t.Errorf("killed at %d: told twice: %s", kill, key)
				} else {
					seen[key] = true
				}
			}
		}
	})
}

// leaseLasts makes the row what a worker leaves that could not let go.
func (r *rig) leaseLasts(id string) {
	r.t.Helper()
	err := r.st.Tx(r.a, func(ctx context.Context) error {
		_, err := r.st.Exec(ctx, "UPDATE research_runs SET worker = 'dead', lease_until = @lease WHERE tenant_id = @tenant AND id = @id",
			map[string]any{"id": id, "lease": r.now().Add(20 * time.Second)})
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// A call that was under way when its worker died may have been paid: it is made
// again, and counts against the budget as the most it may have cost.
func TestCallsUnderWayCount(t *testing.T) {
	db := testdb.SQLite(t)
	r := newRig(t, db, volta(), nil)
	run := must(r.StartRelations(r.a, RelationsRequest{Mode: "deep", Institution: "Volta Institute", RiskItems: []RiskItem{{Name: "Galvani Works"}}}))
	err := r.st.Tx(r.a, func(ctx context.Context) error {
		return r.st.For(ctx).Create(&stepRow{RunID: run.ID, Key: "search/lost", Kind: "search", Status: stepStarted, Calls: 3, CostMicros: 7, StartedAt: r.now()}).Error
	})
	if err != nil {
		t.Fatal(err)
	}
	r.work()
	got := r.get(run.ID)
	if got.Status != Succeeded || !got.Usage.Estimated {
		t.Fatalf("%s %+v", got.Status, got.Usage)
	}
	sum := int64(0)
	for range r.w.paid {
		sum++
	}
	for call := range r.w.paid { // pages cost nothing
		if strings.Contains(call, "/fetch/") {
			sum--
		}
	}
	if got.Calls != sum+3 {
		t.Errorf("%d calls, want %d made and 3 lost", got.Calls, sum)
	}
}

// Cancel breaks off what is under way and nothing is spent after it.
func TestCancelStopsSpending(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		w := volta()
		r := newRig(t, db, w, nil)
		run := must(r.StartRelations(r.a, voltaRequest()))
		reached, broken := make(chan struct{}), make(chan struct{})
		var once, twice sync.Once
		w.gate = func(ctx context.Context, kind string) error {
			if kind != "fetch" {
				return nil
			}
			once.Do(func() { close(reached) })
			<-ctx.Done() // a call that would take for ever
			twice.Do(func() { close(broken) })
			return ctx.Err()
		}
		worked := make(chan error, 1)
		job, _ := r.q.take()
		go func() { worked <- r.Work(r.a, job) }()
		<-reached
		got := must(r.Cancel(r.a, IDRequest{ID: run.ID}))
		<-broken
		if err := <-worked; err != nil {
			t.Fatal(err)
		}
		paid := len(w.paid)
		if got.Status != Cancelled || got.EndedAt == nil {
			t.Fatalf("%+v", got)
		}
		r.work()
		if len(w.paid) != paid {
			t.Error("something was paid after the end")
		}
		events := r.events(run.ID)
		if last := events[len(events)-1]; last.Name != Cancelled {
			t.Errorf("the last event is %s", last.Name)
		}
		if _, err := r.Cancel(r.a, IDRequest{ID: run.ID}); code(err) != "run_ended" {
			t.Errorf("cancelled twice: %v", err)
		}
		if _, err := r.Resume(r.a, ResumeRequest{ID: run.ID}); code(err) != "not_resumable" {
			t.Errorf("resumed after a cancel: %v", err)
		}
		if _, err := r.Cancel(r.z, IDRequest{ID: run.ID}); code(err) != "not_found" {
			t.Errorf("another tenant: %v", err)
		}
		// A run that was never begun gives back its units.
		never := must(r.StartRelations(r.a, voltaRequest()))
		must(r.Cancel(r.a, IDRequest{ID: never.ID}))
		if r.back[never.ID+"/back/0"] != 1 {
			t.Errorf("given back: %v", r.back)
		}
	})
}

// A budget is never passed, by however many calls at once; what it did not
// carry is named, and a resume with more goes on without paying twice.
func TestBudget(t *testing.T) {
	db := testdb.SQLite(t)
	for _, b := range []Budget{{Calls: 1}, {Calls: 7}, {Calls: 25}, {Tokens: 4000}, {Tokens: 24_000}, {CostUSD: 0.02}, {CostUSD: 0.1}} {
		t.Run(fmt.Sprintf("%+v", b), func(t *testing.T) {
			w := volta()
			r := newRig(t, db, w, nil)
			in := voltaRequest()
			in.RiskItems = in.RiskItems[:4]
			in.Budget = &b
			run := must(r.StartRelations(r.a, in))
			r.work()
			got := r.get(run.ID)
			if b.Calls > 0 && got.Calls > b.Calls || b.Tokens > 0 && got.InputTokens+got.OutputTokens > b.Tokens || b.CostUSD > 0 && got.Usage.CostUSD > b.CostUSD {
				t.Errorf("spent %+v", got.Usage)
			}
			if got.Status != Succeeded || !got.Partial || len(got.Result.NotDone) == 0 {
				t.Fatalf("%s partial=%v %v", got.Status, got.Partial, got.Result.NotDone)
			}
			if b.Calls > 2 && !slices.ContainsFunc(got.Result.Warnings, func(x Warning) bool { return x.Code == "budget_nearly_used_up" }) {
				t.Errorf("nobody was warned: %v", got.Result.Warnings)
			}
			for _, rel := range got.Result.Relations {
				if rel.Type == NoEvidence {
					t.Errorf("%s: no evidence, though it was not looked into", rel.Target)
				}
			}
			must(r.Resume(r.a, ResumeRequest{ID: run.ID, Budget: &Budget{}}))
			r.work()
			got = r.get(run.ID)
			if got.Status != Succeeded || got.Partial {
				t.Fatalf("resumed: %s partial=%v %v", got.Status, got.Partial, got.Result.NotDone)
			}
			for i, rel := range got.Result.Relations {
				if v := voltaVerdicts[i]; rel.Type != v.verdict {
					t.Errorf("%s: %s, want %s", v.name, rel.Type, v.verdict)
				}
			}
			for call, times := range w.paid {
				if times != 1 {
					t.Errorf("%s was paid %d times", call, times)
				}
			}
		})
	}
}

// A tenant has its share of the queue and no more, whatever it starts; who ends
// one sends the next, the most urgent first; and another tenant does not wait.
func TestShares(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, volta(), func(c *Config) { c.Share = 2 })
		start := func(ctx context.Context, priority int) string {
			in := RelationsRequest{Mode: "deep", Institution: "Volta Institute", RiskItems: []RiskItem{{Name: "Henry Labs"}}, Priority: priority}
			return must(r.StartRelations(ctx, in)).ID
		}
		var mine []string
		for range 4 {
			mine = append(mine, start(r.a, 2))
		}
		urgent := start(r.a, 1)
		other := start(r.z, 2)
		var order []string
		for _, j := range r.q.jobs {
			order = append(order, j.ID)
		}
		if !slices.Equal(order, []string{mine[0], mine[1], other}) {
			t.Fatalf("%v", order)
		}
		job, _ := r.q.take()
		if err := r.Work(r.a, job); err != nil {
			t.Fatal(err)
		}
		if last := r.q.jobs[len(r.q.jobs)-1]; last.ID != urgent {
			t.Errorf("next is %s, not the urgent one", last.ID)
		}
		must(r.Cancel(r.a, IDRequest{ID: urgent}))
		if last := r.q.jobs[len(r.q.jobs)-1]; last.ID != mine[2] {
			t.Errorf("a cancelled run sends the next")
		}
	})
}

// Many who start at once do not take more than the share between them.
func TestShareUnderRace(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, volta(), func(c *Config) { c.Share = 3 })
		var wait sync.WaitGroup
		for range 12 {
			wait.Go(func() {
				_, err := r.StartRelations(r.a, RelationsRequest{Mode: "normal", Institution: "Volta Institute", RiskItems: []RiskItem{{Name: "Henry Labs"}}})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if len(r.q.jobs) != 3 {
			t.Errorf("%d jobs in the queue", len(r.q.jobs))
		}
	})
}

// A stream goes on after the event that its reader has seen, from the table
// alone, and a reader who stands still holds nobody up.
func TestStreams(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, volta(), nil)
		run := must(r.StartRelations(r.a, voltaRequest()))
		stuck, stop := context.WithCancel(r.a)
		standing, stood := make(chan struct{}), make(chan error, 1)
		go func() {
			first := true
			stood <- r.Watch(stuck, EventsRequest{ID: run.ID}, func(Event) error {
				if first {
					close(standing)
					first = false
				}
				<-stuck.Done()
				return stuck.Err()
			})
		}()
		<-standing
		live := make(chan []Event, 1)
		go func() {
			var seen []Event
			_ = r.Watch(r.a, EventsRequest{ID: run.ID}, func(e Event) error { seen = append(seen, e); return nil })
			live <- seen
		}()
		r.work()
		if got := r.get(run.ID); got.Status != Succeeded {
			t.Fatalf("%s", got.Status)
		}
		stop()
		<-stood
		all := r.events(run.ID)
		if seen := <-live; len(seen) != len(all) {
			t.Errorf("the live reader saw %d of %d", len(seen), len(all))
		}
		for _, after := range []int{0, 1, len(all) / 2, len(all) - 1, len(all)} {
			r.process() // on any process
			var seen []Event
			err := r.Watch(r.a, EventsRequest{ID: run.ID, After: strconv.Itoa(after)}, func(e Event) error { seen = append(seen, e); return nil })
			if err != nil || len(seen) != len(all)-after {
				t.Errorf("after %d: %d events, %v", after, len(seen), err)
			}
		}
		if _, err := r.EventsReady(r.a, EventsRequest{ID: run.ID, After: "x"}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("%v", err)
		}
		if _, err := r.EventsReady(r.z, EventsRequest{ID: run.ID}); code(err) != "not_found" {
			t.Errorf("%v", err)
		}
	})
}

// A process that goes down lets go of its runs at once.
func TestDrain(t *testing.T) {
	db := testdb.SQLite(t)
	w := volta()
	r := newRig(t, db, w, nil)
	run := must(r.StartRelations(r.a, voltaRequest()))
	reached := make(chan struct{})
	var once sync.Once
	w.gate = func(ctx context.Context, kind string) error {
		if kind == "model" {
			once.Do(func() { close(reached) })
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	worked := make(chan error, 1)
	job, _ := r.q.take()
	go func() { worked <- r.Work(r.a, job) }()
	<-reached
	r.Drain()
	if err := <-worked; err == nil {
		t.Fatal("the job must be given back to the queue")
	}
	w.gate = nil
	r.process()
	if err := r.Work(r.a, job); err != nil { // no lease to wait for
		t.Fatal(err)
	}
	if got := r.get(run.ID); got.Status != Succeeded {
		t.Fatalf("%s", got.Status)
	}
}
