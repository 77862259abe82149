package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// replica is a copy of the primary that answers what may be some seconds old.
// How old it is is known without a clock of its own and without rights: the
// primary says how far its log is, the replica how far it has come in it.
type replica struct {
	pool  *pgxpool.Pool
	db    *sql.DB
	lag   time.Duration
	since atomic.Pointer[time.Time] // what was committed before is on it; nil while it cannot be used
	stop  context.CancelFunc
	done  sync.WaitGroup
}

const (
	replicaLag   = 5 * time.Second // how old a stale read may be
	replicaWatch = time.Second
)

// ReadStale is a Read that may be answered from the replica, some seconds old:
// for what is long and not asked for what was just written. Without a replica, or
// while it is away or too far behind, it is a Read.
func (s *Store) ReadStale(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.run(ctx, &transaction{stale: true}, fn)
}

// Replica reports whether there is one, and whether it is asked now.
func (s *Store) Replica() (there, fresh bool) {
	return s.replica != nil, s.replica != nil && s.replica.fresh()
}

func openReplica(ctx context.Context, c Config, primary *pgxpool.Pool) (*replica, error) {
	conf, err := poolConfig(c.ReplicaURL, c.MaxConns)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_REPLICA_URL: %w", err)
	}
	r := &replica{lag: c.ReplicaLag}
	if r.lag == 0 {
		r.lag = replicaLag
	}
	if r.pool, err = pgxpool.NewWithConfig(ctx, conf); err != nil {
		return nil, err
	}
	r.db = stdlib.OpenDBFromPool(r.pool)
	r.db.SetMaxIdleConns(0)
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.done.Go(func() { r.watch(ctx, primary, c.Logger) })
	return r, nil
}

func (r *replica) close() error {
	r.stop()
	r.done.Wait()
	err := r.db.Close()
	r.pool.Close()
	return err
}

// fresh reports whether it may be asked.
func (r *replica) fresh() bool {
	since := r.since.Load()
	return since != nil && time.Since(*since) < r.lag
}

// away has the primary asked until the replica is seen again.
func (r *replica) away() { r.since.Store(nil) }

// mark is where the primary's log was at a time.
type mark struct {
	at  time.Time
	lsn int64
}

func (r *replica) watch(ctx context.Context, primary *pgxpool.Pool, log *slog.Logger) {
	tick := time.NewTicker(replicaWatch)
	defer tick.Stop()
	var marks []mark // of the last seconds, in order
	used := false
	for {
		err := r.look(ctx, primary, &marks)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.away()
		}
		if fresh := r.fresh(); fresh != used {
			if used = fresh; used {
				log.Info("the replica is asked for what may be some seconds old")
			} else {
				log.Warn("the replica is away or too far behind; the primary is asked for everything", "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look finds the latest mark that the replica has come to.
func (r *replica) look(ctx context.Context, primary *pgxpool.Pool, marks *[]mark) error {
	ctx, cancel := context.WithTimeout(ctx, replicaWatch)
	defer cancel()
	now := mark{at: time.Now()}
	var of, its string // which installation of PostgreSQL they are copies of
	var line, itsLine int64
	var at int64
	err := errors.Join(
		primary.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint, ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint,
			(SELECT system_identifier::text FROM pg_control_system())`).Scan(&now.lsn, &line, &of),
		r.pool.QueryRow(ctx, `SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint ELSE -1 END,
			greatest((SELECT timeline_id FROM pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
				(SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming')), (SELECT system_identifier::text FROM pg_control_system())`).Scan(&at, &itsLine, &its))
	switch {
	case err != nil:
		return err
	case of != its:
		return errors.New("it is a replica of something else")
	case at < 0:
		return errors.New("it takes writes itself")
	case line != itsLine:
		// After a promotion places in the log mean the same on both only once the
		// replica has followed: one that has not may be far along in a past that is no
		// more. It says so at once to who may see its receiver, else at its next restartpoint.
		*marks = (*marks)[:0]
		return fmt.Errorf("it is on timeline %d, and the primary on %d", itsLine, line)
	}
	*marks = append(*marks, now)
	for i := len(*marks) - 1; i >= 0; i-- {
		if m := (*marks)[i]; m.lsn <= at {
			r.since.Store(&m.at)
			*marks = append((*marks)[:0], (*marks)[i:]...)
			return nil
		}
	}
	if over := len(*marks) - int(r.lag/replicaWatch) - 2; over > 0 { // older ones would not do
		*marks = append((*marks)[:0], (*marks)[over:]...)
	}
	return nil
}
