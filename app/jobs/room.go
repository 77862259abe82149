package jobs

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chainreactions/chainreactions/domain"
)

// Limits is how much heavy work may wait. Whoever asks for more is told so at
// once, and when to come again, instead of waiting for what is not done in time.
//
//	of one tenant, Tenant of a kind                                  429
//	of all, what the workers need longer for than Wait, for a tenant
//	that has some waiting already: a first one passes, by its share  503
//	of all, All of a kind                                            503
type Limits struct {
	Tenant, All int64
	Wait        time.Duration
}

// DefaultLimits is what holds where nothing else is said, in ParseLimits' words.
const DefaultLimits = "tenant=100,all=5000,wait=1h"

// ParseLimits reads a comma list; what is left out is as in DefaultLimits.
func ParseLimits(text string) (l Limits, err error) {
	for _, part := range strings.Split(DefaultLimits+","+text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "":
		case "tenant":
			l.Tenant, err = strconv.ParseInt(value, 10, 64)
		case "all":
			l.All, err = strconv.ParseInt(value, 10, 64)
		case "wait":
			l.Wait, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("there is no limit %q", name)
		}
		if err != nil {
			return l, err
		}
	}
	if l.Tenant < 1 || l.All < l.Tenant || l.Wait < time.Second {
		return l, fmt.Errorf("tenant is at least 1, all at least tenant, wait at least a second")
	}
	return l, nil
}

// SetLimits changes Config.Limits for what is asked for from now on; what waits
// already goes on waiting.
func (q *Queue) SetLimits(l Limits) { q.limits.Store(&l) }

// ourselves is who does what no caller asked for, also to what is a tenant's: a
// list that thousands follow is brought up for each. It is neither refused nor
// counted as waiting: its jobs have the last priority.
const ourselves = "system"

const (
	lookBack = 10 * time.Minute // endings older than that say nothing about now
	fewWait  = 16               // that few of all are let wait whatever the time
	mostWait = time.Hour        // nobody is told to come again later than that
)

// room is what is known of the work of one kind that waits, of all and of one
// tenant: how much, since when without a pause, and what ended since.
type room struct {
	all, own           int64
	since, ownSince    time.Duration // how long ago the first that still waits came
	ended, ownEnded    int64
	mean               time.Duration // that one takes
	lane, kind, tenant string
}

// pace is the time from one ending to the next while work waited. Workers were
// never without work since the first that still waits came: what ended since
// is what they can do. Where nothing did, it is as long as one takes.
func pace(since time.Duration, ended int64, mean time.Duration) time.Duration {
	if ended > 0 {
		return max(since/time.Duration(ended), time.Millisecond)
	}
	return max(mean, time.Second)
}

// Bound says that work of the job's kind is asked for by callers, and refused
// where too much of it waits. Say it before Open.
func Bound(q *Queue, job domain.Job) {
	q.bounded = append(q.bounded, job.Kind())
	for _, by := range []string{"tenant", "all"} {
		q.refused.WithLabelValues(job.Kind(), by) // is 0 until it is not
	}
}

func newRefused(r prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "chainreactions_queue_refused_total",
		Help: "Heavy work that was refused since too much of its kind waits, of the tenant or of all."}, []string{"kind", "by"})
	if r != nil {
		r.MustRegister(c)
	}
	return c
}

// Admit implements domain.Bounded. Whoever asks for a tenant asks alone until its
// transaction ends, so that what is counted is what is there; and so does
// everybody once half of what all may have waits.
func (q *Queue) Admit(ctx context.Context, job domain.Job, aside int64) error {
	scope, _ := domain.ScopeOf(ctx)
	if scope.Tenant == "" || scope.Actor.Kind == ourselves {
		return nil
	}
	r, limits := room{lane: q.lane(job.Kind()), kind: job.Kind(), tenant: scope.Tenant}, q.limits.Load()
	return q.st.WithConn(ctx, func(conn *pgx.Conn, tx *sql.Tx) error {
		if err := r.count(ctx, conn, tx, r.kind+" of "+r.tenant); err != nil {
			return err
		}
		if r.all >= limits.All/2 {
			if err := r.count(ctx, conn, tx, r.kind); err != nil {
				return err
			}
		}
		own := r.own + aside
		if own < limits.Tenant && r.all < min(fewWait, limits.All) {
			return nil
		}
		if err := r.measure(ctx, conn, tx); err != nil {
			return err
		}
		step := pace(r.since, r.ended, r.mean)
		switch over := r.all - int64(limits.Wait/step); {
		case own >= limits.Tenant:
			step = pace(r.ownSince, r.ownEnded, r.mean)
			q.refused.WithLabelValues(r.kind, "tenant").Inc()
			return domain.E(domain.TooMany, "queue_full", "As much of your work of this kind waits as may wait.").
				After(comeAgain(time.Duration(own-limits.Tenant+1) * step))
		case r.all >= limits.All:
			over = max(over, r.all-limits.All+1)
			fallthrough
		case over > 0 && own > 0 && r.all >= fewWait:
			q.refused.WithLabelValues(r.kind, "all").Inc()
			return domain.E(domain.Unavailable, "queue_full", "More work of this kind waits than can be done soon.").
				After(comeAgain(time.Duration(max(over, 1)) * step))
		}
		return nil
	})
}

func comeAgain(d time.Duration) time.Duration { return min(max(d, time.Second), mostWait) }

// Fill is how much of a kind waits.
type Fill struct {
	Waiting int64
	Wait    time.Duration // that one which comes now is likely to have before it
	Share   float64       // of what may wait; from 1 on it is refused
}

// Fills tells it of every kind that is bounded.
func (q *Queue) Fills(ctx context.Context) (map[string]Fill, error) {
	out, limits := map[string]Fill{}, q.limits.Load()
	err := q.st.Tx(domain.System(ctx, "job counts"), func(ctx context.Context) error {
		return q.st.WithConn(ctx, func(conn *pgx.Conn, tx *sql.Tx) error {
			for _, kind := range q.bounded {
				r := room{lane: q.lane(kind), kind: kind}
				if err := r.count(ctx, conn, tx, ""); err != nil {
					return err
				}
				f := Fill{Waiting: r.all, Share: float64(r.all) / float64(limits.All)}
				if r.all > 0 {
					if err := r.measure(ctx, conn, tx); err != nil {
						return err
					}
					f.Wait = time.Duration(r.all) * pace(r.since, r.ended, r.mean)
					if r.all >= fewWait {
						f.Share = max(f.Share, float64(f.Wait)/float64(limits.Wait))
					}
				}
				out[kind] = f
			}
			return nil
		})
	})
	return out, err
}

// count fills in what waits, alone with the word until the transaction ends. On
// SQLite a transaction is alone anyway.
func (r *room) count(ctx context.Context, conn *pgx.Conn, tx *sql.Tx, alone string) error {
	var since, ownSince float64
	if conn == nil {
		err := tx.QueryRowContext(ctx, `SELECT count(*), count(CASE WHEN of = $1 THEN 1 END), coalesce(max(age), 0.0), coalesce(max(CASE WHEN of = $1 THEN age END), 0.0)
			FROM (SELECT json_extract(args, '$.tenant') AS of, CASE WHEN state <> 'retryable' THEN (julianday('now') - julianday(created_at)) * 86400 END AS age
				FROM river_job WHERE state IN ('available', 'scheduled', 'retryable') AND queue = $2 AND json_extract(args, '$.name') = $3 AND json_extract(args, '$.actor_kind') <> $4)`,
			r.tenant, r.lane, r.kind, ourselves).Scan(&r.all, &r.own, &since, &ownSince)
		r.since, r.ownSince = seconds(since), seconds(ownSince)
		return err
	}
	if alone != "" {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "room for "+alone); err != nil {
			return err
		}
	}
	err := conn.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE of = $1), coalesce(max(age), 0)::float8, coalesce(max(age) FILTER (WHERE of = $1), 0)::float8
		FROM (SELECT args->>'tenant' AS of, CASE WHEN state <> 'retryable' THEN extract(epoch FROM clock_timestamp() - created_at) END AS age
			FROM river.river_job WHERE state IN ('available', 'scheduled', 'retryable') AND queue = $2 AND args->>'name' = $3 AND args->>'actor_kind' <> $4) AS w`,
		r.tenant, r.lane, r.kind, ourselves).Scan(&r.all, &r.own, &since, &ownSince)
	r.since, r.ownSince = seconds(since), seconds(ownSince)
	return err
}

// measure fills in what ended.
func (r *room) measure(ctx context.Context, conn *pgx.Conn, tx *sql.Tx) error {
	r.since, r.ownSince = min(r.since, lookBack), min(cmp.Or(r.ownSince, lookBack), lookBack) // or all of its own waits aside
	args := []any{r.tenant, r.kind, r.since.Seconds(), r.ownSince.Seconds(), lookBack.Seconds()}
	var mean float64
	if conn == nil {
		err := tx.QueryRowContext(ctx, `SELECT count(CASE WHEN age < $3 THEN 1 END), count(CASE WHEN of = $1 AND age < $4 THEN 1 END), coalesce(avg(took), 0.0)
			FROM (SELECT json_extract(args, '$.tenant') AS of, (julianday('now') - julianday(finalized_at)) * 86400 AS age, (julianday(finalized_at) - julianday(attempted_at)) * 86400 AS took
				FROM river_job WHERE state = 'completed' AND json_extract(args, '$.name') = $2) WHERE age < $5`, args...).Scan(&r.ended, &r.ownEnded, &mean)
		r.mean = seconds(mean)
		return err
	}
	err := conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE age < $3), count(*) FILTER (WHERE of = $1 AND age < $4), coalesce(avg(took), 0)::float8
		FROM (SELECT args->>'tenant' AS of, extract(epoch FROM clock_timestamp() - finalized_at)::float8 AS age, extract(epoch FROM finalized_at - attempted_at) AS took
			FROM river.river_job WHERE state = 'completed' AND finalized_at > clock_timestamp() - make_interval(secs => $5) AND args->>'name' = $2) AS e`, args...).Scan(&r.ended, &r.ownEnded, &mean)
	r.mean = seconds(mean)
	return err
}

func seconds(n float64) time.Duration { return time.Duration(max(n, 0) * float64(time.Second)) }

var _ = domain.Chinese(map[string]string{
	"As much of your work of this kind waits as may wait.": "贵方等待中的此类任务已达上限。",
	"More work of this kind waits than can be done soon.":  "等待中的此类任务过多，短时间内无法完成。",
})
