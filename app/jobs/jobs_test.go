package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

type note struct {
	Word string `json:"word"`
}

func (note) Kind() string { return "note" }

// open makes a queue whose jobs go to fn, and starts it where it is asked to.
func openQueue(t *testing.T, db testdb.DB, c Config, start bool, fn func(context.Context, note) error) *Queue {
	t.Helper()
	c.Store, c.Logger = db.Store, slog.New(slog.DiscardHandler)
	q := New(c)
	Handle(q, fn)
	if err := q.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	if start {
		run(t, q)
	}
	return q
}

func run(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := q.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func put(t *testing.T, db testdb.DB, q *Queue, ctx context.Context, word string, o domain.JobOptions) {
	t.Helper()
	if err := db.Tx(ctx, func(ctx context.Context) error { return q.Enqueue(ctx, note{word}, o) }); err != nil {
		t.Fatal(err)
	}
}

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("no job came")
	}
	panic("unreachable")
}

// count is how many jobs are in a state.
func count(t *testing.T, db testdb.DB, state string) (n int) {
	t.Helper()
	table := "river_job"
	if db.Dialect() == store.Postgres {
		table = "river.river_job"
	}
	if err := db.SQLDB().QueryRow(fmt.Sprintf("SELECT count(*) FROM %s WHERE state = '%s'", table, state)).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// ends waits until so many jobs are in the state.
func ends(t *testing.T, db testdb.DB, state string, want int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); ; {
		if count(t, db, state) == want {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d jobs are %s, want %d", count(t, db, state), state, want)
		}
	}
}

// A job lives and dies with the transaction that enqueued it, and runs in the
// scope of whoever did, with what it was given.
func TestEnqueueIsPartOfTheTransaction(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		seen := make(chan domain.Scope, 8)
		q := openQueue(t, db, Config{}, true, func(ctx context.Context, n note) error {
			scope, _ := domain.ScopeOf(ctx)
			scope.UserAgent = n.Word
			seen <- scope
			return nil
		})
		mine := domain.WithScope(context.Background(), domain.Scope{Tenant: db.A, Actor: domain.Actor{Kind: "user", ID: "usr_x"}, RequestID: "req-1"})
		failure := errors.New("no")
		err := db.Tx(mine, func(ctx context.Context) error {
			return errors.Join(q.Enqueue(ctx, note{"lost"}, domain.JobOptions{}), failure)
		})
		if !errors.Is(err, failure) {
			t.Fatal(err)
		}
		if err := q.Enqueue(mine, note{"outside"}, domain.JobOptions{}); err == nil {
			t.Error("enqueued outside a transaction")
		}
		put(t, db, q, mine, "kept", domain.JobOptions{})
		got := next(t, seen)
		if got.UserAgent != "kept" || got.Tenant != db.A || got.Actor.ID != "usr_x" || got.RequestID != "req-1" {
			t.Errorf("%+v", got)
		}
		put(t, db, q, domain.System(context.Background(), "nightly"), "ours", domain.JobOptions{})
		if got := next(t, seen); got.Tenant != "" {
			t.Errorf("a system job runs in %+v", got)
		} else if reason, ok := got.System(); !ok || reason != "nightly" {
			t.Errorf("a system job runs as %q", reason)
		}
		ends(t, db, "completed", 2)
	})
}

// The more urgent first; a job with the same word is dropped while the first
// has not ended, in its tenant alone; one for later waits.
func TestOrder(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		seen := make(chan string, 16)
		q := openQueue(t, db, Config{Workers: 1}, false, func(_ context.Context, n note) error { seen <- n.Word; return nil })
		a := db.In(db.A)
		put(t, db, q, a, "last", domain.JobOptions{Priority: 4})
		put(t, db, q, a, "second", domain.JobOptions{})
		put(t, db, q, a, "first", domain.JobOptions{Priority: 1})
		put(t, db, q, a, "much later", domain.JobOptions{At: time.Now().Add(time.Hour)})
		for range 2 {
			put(t, db, q, a, "third", domain.JobOptions{Priority: 3, Unique: "same"})
		}
		put(t, db, q, db.In(db.B), "third of b", domain.JobOptions{Priority: 3, Unique: "same"})
		run(t, q)
		for _, want := range []string{"first", "second", "third", "third of b", "last"} {
			if got := next(t, seen); got != want {
				t.Errorf("%q came, want %q", got, want)
			}
		}
		ends(t, db, "completed", 5)
		if n := count(t, db, "scheduled"); n != 1 {
			t.Errorf("%d wait for their time", n)
		}
		put(t, db, q, a, "third again", domain.JobOptions{Unique: "same"}) // the first has ended
		if got := next(t, seen); got != "third again" {
			t.Errorf("%q came", got)
		}
	})
}

// What fails is tried again, later; a panic and a time-out are failures too;
// what is wrong with the job itself ends it at once.
func TestFailures(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		seen := make(chan string, 16)
		tried := map[string]*atomic.Int32{"fails": {}, "panics": {}, "hangs": {}, "impossible": {}}
		q := openQueue(t, db, Config{Workers: 4, Longest: 300 * time.Millisecond}, true, func(ctx context.Context, n note) error {
			if tried[n.Word].Add(1) > 1 {
				seen <- n.Word
				return nil
			}
			switch n.Word {
			case "fails":
				return errors.New("for now")
			case "panics":
				panic("oh")
			case "hangs":
				<-ctx.Done()
				return ctx.Err()
			}
			return domain.E(domain.NotFound, "not_found", "There is no such object.")
		})
		for word := range tried {
			put(t, db, q, db.In(db.A), word, domain.JobOptions{})
		}
		again := map[string]bool{}
		for range 3 {
			again[next(t, seen)] = true
		}
		if !again["fails"] || !again["panics"] || !again["hangs"] {
			t.Errorf("tried again: %v", again)
		}
		ends(t, db, "completed", 3)
		ends(t, db, "cancelled", 1)
	})
}

// One tenant's long queue leaves workers to the others, and is worked off.
func TestShares(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		started, hold := make(chan string, 64), make(chan struct{})
		q := openQueue(t, db, Config{Workers: 4}, false, func(ctx context.Context, n note) error {
			started <- domain.TenantOf(ctx)
			<-hold
			return nil
		})
		for i := range 12 {
			put(t, db, q, db.In(db.A), fmt.Sprint(i), domain.JobOptions{Priority: 1})
		}
		put(t, db, q, db.In(db.B), "b", domain.JobOptions{Priority: 4})
		run(t, q)
		running := map[string]int{}
		for running[db.B] == 0 {
			running[next(t, started)]++
		}
		if running[db.A] > 2 {
			t.Errorf("%d of four workers are one tenant's while another waits", running[db.A])
		}
		close(hold)
		ends(t, db, "completed", 13)
	})
}

// Stopping waits for what runs and then begins nothing; what was not begun is
// there for the next process, and each job runs once. (A job may slip in while
// the word to stop goes round, so there are more than can.)
func TestStop(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		const all = 20
		started, hold := make(chan string, 2*all), make(chan struct{})
		work := func(_ context.Context, n note) error {
			started <- n.Word
			<-hold
			return nil
		}
		q := openQueue(t, db, Config{Workers: 1}, false, work)
		for i := range all {
			put(t, db, q, db.In(db.A), fmt.Sprint(i), domain.JobOptions{})
		}
		if err := q.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{next(t, started): 1}
		impatient, cancel := context.WithCancel(context.Background())
		cancel()
		if err := q.Stop(impatient); !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped while a job ran: %v", err)
		}
		close(hold)
		if err := q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		done, left := count(t, db, "completed"), count(t, db, "available")
		if done < 1 || left < 1 || done+left != all {
			t.Errorf("%d done, %d left of %d", done, left, all)
		}
		openQueue(t, db, Config{Workers: 4}, true, work)
		ends(t, db, "completed", all)
		for len(started) > 0 {
			seen[<-started]++
		}
		for word, times := range seen {
			if times != 1 {
				t.Errorf("job %s ran %d times", word, times)
			}
		}
		if len(seen) != all {
			t.Errorf("%d of %d jobs ran", len(seen), all)
		}
	})
}

// A job that was given to a process which never heard of it, since the database
// was away when it would have, is worked soon and not when a job may last no longer.
func TestJobThatNeverCame(t *testing.T) {
	db := testdb.OnPostgres(t)
	q := openQueue(t, db, Config{}, false, func(context.Context, note) error { return nil })
	ctx := context.Background()
	if err := q.rescuer.hold(ctx); err != nil {
		t.Fatal(err)
	}
	defer q.rescuer.conn.Close(ctx)
	var ids [3]int64
	for i, word := range []string{"in hand", "done", "just given"} {
		put(t, db, q, db.In(db.A), word, domain.JobOptions{})
		ago := []int{60, 60, 1}[i]
		err := db.SQLDB().QueryRow(`UPDATE river.river_job SET state = 'running', attempt = 1, attempted_by = $1, attempted_at = now() - make_interval(secs => $2)
			WHERE id = (SELECT max(id) FROM river.river_job) RETURNING id`, []string{q.rescuer.name}, ago).Scan(&ids[i])
		if err != nil {
			t.Fatal(err)
		}
	}
	q.rescuer.take(ids[0])
	q.rescuer.take(ids[1])() // River has not written down yet that it is done
	rounds := func(running int) {
		t.Helper()
		if err := q.rescuer.round(ctx); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db, "running"); n != running {
			t.Errorf("%d jobs run, want %d", n, running)
		}
	}
	rounds(3)
	if _, err := db.SQLDB().Exec(`UPDATE river.river_job SET attempted_at = now() - interval '1 minute' WHERE id = $1`, ids[2]); err != nil {
		t.Fatal(err)
	}
	rounds(2)
	if _, err := db.SQLDB().Exec(`UPDATE river.river_job SET state = 'completed', finalized_at = now() WHERE id = $1`, ids[1]); err != nil {
		t.Fatal(err)
	}
	rounds(1)
	if len(q.rescuer.hand) != 1 {
		t.Errorf("%d jobs are remembered, 1 is in hand", len(q.rescuer.hand))
	}
}

// The jobs of a process that died are run by another within moments; those of
// one that lives are let be. (On SQLite there is one process, and it is the
// restart that frees them.)
func TestRescue(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		started := make(chan string, 8)
		hold := make(chan struct{})
		dead := openQueue(t, db, Config{}, false, func(_ context.Context, n note) error { started <- "dead"; <-hold; return nil })
		put(t, db, dead, db.In(db.A), "x", domain.JobOptions{})
		if err := dead.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		next(t, started)
		if dead.rescuer != nil {
			alive := openQueue(t, db, Config{}, false, func(context.Context, note) error { started <- "alive"; return nil })
			if err := alive.rescuer.hold(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := alive.rescuer.round(context.Background()); err != nil {
				t.Fatal(err)
			}
			if n := count(t, db, "running"); n != 1 {
				t.Errorf("%d running: a living process was robbed", n)
			}
			dead.rescuer.end(context.Background())                                           // its connection ends, as with the process
			for limit := time.Now().Add(20 * time.Second); count(t, db, "available") != 1; { // the server notices in its own time
				if err := alive.rescuer.round(context.Background()); err != nil || time.Now().After(limit) {
					t.Fatalf("not free again: %v", err)
				}
			}
			dead.rescuer = nil
			run(t, alive)
		} else {
			alive := openQueue(t, db, Config{}, false, func(context.Context, note) error { started <- "alive"; return nil })
			if n := count(t, db, "running"); n != 1 {
				t.Errorf("%d running: who works nothing took a job away", n)
			}
			run(t, alive)
		}
		if who := next(t, started); who != "alive" && who != "dead" {
			t.Errorf("%s ran it", who)
		}
		close(hold)
		if err := dead.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}
