package jobs

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A process that works jobs on PostgreSQL holds an advisory lock on its name
// for as long as it lives: the server lets go of it when the connection ends,
// however the process ended. A running job whose process holds no lock belongs
// to nobody, and is free again within moments, with no clock to guess by.
// (River's own rescue waits for the longest job's time.) A process that lives
// and lost its connection may find its job run a second time, which every job
// must bear anyway.
//
// A process that lives may have been given a job and never have heard of it, since
// the database was away before it could say so. It lets go of what is running in
// its name and is not in its hands.

// heardAfter is how long a job that is running may be on its way to its process.
const heardAfter = 30 * time.Second

// rescueEvery is how often the lock is looked after and the dead are looked for.
const rescueEvery = 2 * time.Second

type rescuer struct {
	q    *Queue
	name string // River's, in attempted_by
	conn *pgx.Conn
	stop context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	hand map[int64]bool // jobs that came to this process, until River has written down what became of them; true while it is worked
}

func (r *rescuer) start(ctx context.Context) error {
	if err := r.hold(ctx); err != nil {
		return fmt.Errorf("jobs: hold the lock of this process: %w", err)
	}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		t := time.NewTicker(rescueEvery)
		defer t.Stop()
		for {
			if err := r.round(ctx); err != nil && ctx.Err() == nil {
				r.q.log.Warn("jobs of dead processes are not looked for now", "error", err)
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}

// hold takes the lock on a connection of its own, which nothing else uses.
func (r *rescuer) hold(ctx context.Context) (err error) {
	if r.conn != nil {
		_ = r.conn.Close(ctx)
	}
	if r.conn, err = pgx.ConnectConfig(ctx, r.q.st.Pool().Config().ConnConfig.Copy()); err != nil {
		r.conn = nil
		return err
	}
	_, err = r.conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended($1, 0))`, r.name)
	return err
}

func (r *rescuer) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if r.conn == nil || r.conn.Ping(ctx) != nil {
		if err := r.hold(ctx); err != nil {
			return err
		}
	}
	if err := r.letGo(ctx); err != nil {
		return err
	}
	rows, err := r.conn.Query(ctx, `SELECT DISTINCT attempted_by[array_upper(attempted_by, 1)] FROM river.river_job WHERE state = 'running'`)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == r.name {
			continue
		}
		if err := r.free(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// free gives the jobs of the named process to whoever comes, if it is dead.
func (r *rescuer) free(ctx context.Context, name string) error {
	tx, err := r.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	var dead bool
	if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))`, name).Scan(&dead); err != nil || !dead {
		return err
	}
	tag, err := tx.Exec(ctx, freed, name)
	if err != nil {
		return err
	}
	r.q.log.Warn("jobs of a process that died are free again", "process", name, "jobs", tag.RowsAffected())
	return tx.Commit(ctx)
}

// freed is what becomes of a running job that nobody has: one that has used up its
// attempts may be what ends its processes.
const freed = `UPDATE river.river_job SET
	state = CASE WHEN attempt >= max_attempts THEN 'discarded'::river.river_job_state ELSE 'available'::river.river_job_state END,
	finalized_at = CASE WHEN attempt >= max_attempts THEN now() END
	WHERE state = 'running' AND attempted_by[array_upper(attempted_by, 1)] = $1`

// letGo frees the jobs that run in the name of this process and never came to it.
func (r *rescuer) letGo(ctx context.Context) error {
	rows, err := r.conn.Query(ctx, `SELECT id FROM river.river_job WHERE state = 'running' AND attempted_by[array_upper(attempted_by, 1)] = $1`, r.name)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	lost := r.notInHand(ids)
	if len(lost) == 0 {
		return nil
	}
	tag, err := r.conn.Exec(ctx, freed+` AND id = ANY($2) AND attempted_at < now() - make_interval(secs => $3)`, r.name, lost, heardAfter.Seconds())
	if n := tag.RowsAffected(); n > 0 {
		r.q.log.Warn("jobs that never came to this process are free again", "jobs", n)
	}
	return err
}

// take notes that a job came to this process, and done that it was worked.
func (r *rescuer) take(id int64) (done func()) {
	if r == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hand[id] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hand[id] = false
	}
}

// notInHand gives those of the running jobs that never came, and forgets those that
// were worked and do not run any more.
func (r *rescuer) notInHand(running []int64) (lost []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	still := map[int64]bool{}
	for _, id := range running {
		still[id] = true
		if _, came := r.hand[id]; !came {
			lost = append(lost, id)
		}
	}
	maps.DeleteFunc(r.hand, func(id int64, worked bool) bool { return !worked && !still[id] })
	return lost
}

func (r *rescuer) end(ctx context.Context) {
	if r.stop == nil { // never started
		return
	}
	r.stop()
	<-r.done
	if r.conn != nil {
		_ = r.conn.Close(ctx)
	}
}
