package migrations_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// What stood in the undivided tables is in the partitions, each row once and
// seen by its tenant alone; a booking is still told by its id, whenever it comes
// again; months are made ahead, and only what lies wholly in the past goes.
func TestPartitions(t *testing.T) {
	ctx := context.Background()
	st := undivided(t)
	do := func(text string, args ...any) int64 {
		t.Helper()
		out, err := st.SQLDB().Exec(text, args...)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		n, _ := out.RowsAffected()
		return n
	}
	list := func(query string, args ...any) string {
		t.Helper()
		rows, err := st.SQLDB().Query(query, args...)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		defer rows.Close()
		var out []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			out = append(out, line)
		}
		return strings.Join(out, "\n")
	}

	now := time.Now().UTC()
	month := func(n int) time.Time {
		return time.Date(now.Year(), now.Month()+time.Month(n), 15, 3, 0, 0, 0, time.UTC)
	}
	id := func(prefix string, at time.Time, n byte) string {
		ms := at.UnixMilli()
		return domain.FormatID(prefix, [16]byte{byte(ms >> 40), byte(ms >> 32), byte(ms >> 24), byte(ms >> 16), byte(ms >> 8), byte(ms), 0x70, n, 0x80})
	}
	a, b := domain.NewID("ten"), domain.NewID("ten")
	const usage = "INSERT INTO usage_events (tenant_id, id, meter, units, period, hour, actor, occurred_at) VALUES ($1, $2, 'match', $3, '2026-01', '2026-01-01T00', 'usr', $4)"
	run := map[int]string{}
	for i, tenant := range []string{a, b} {
		do("INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, $1, 'x', now(), now())", tenant)
		for _, m := range []int{-40, -1, 0, 2, 5} {
			run[m] = id("run", month(m), byte(i))
			do(usage, tenant, fmt.Sprintf("%s.%d.match", id("use", month(-50), byte(i)), m+50), 1, month(m))
			do(usage, tenant, run[m], 10, month(m))
			do("INSERT INTO research_runs (tenant_id, id, kind, mode, title, status, priority, request, salt, meter, units, counted_at, created_by, created_at) VALUES ($1, $2, 'entity', '', '', 'succeeded', 1, '', '', 'm', 1, now(), '', now())", tenant, run[m])
			do("INSERT INTO research_events (tenant_id, run_id, seq, key, name, data, created_at) VALUES ($1, $2, 1, 'k', 'n', 'd', now())", tenant, run[m])
			do("INSERT INTO provider_calls (tenant_id, id, run_id, step, attempt, provider, operation, model, key_label, state, reserved_micros, cost_micros, estimated, sandbox, sent_at) VALUES ($1, $2, '', '', 1, '', '', '', '', 'sent', 1, 1, false, false, $3)",
				tenant, id("prc", month(m), byte(i)), month(m))
		}
	}
	whole := func() string {
		return list(`SELECT 'u '||tenant_id||id||units||occurred_at FROM usage_events UNION ALL SELECT 'e '||tenant_id||run_id||seq FROM research_events UNION ALL SELECT 'c '||tenant_id||id FROM provider_calls ORDER BY 1`)
	}
	before := whole()
	if _, err := migrations.Up(ctx, st.SQLDB(), true); err != nil {
		t.Fatal(err)
	}
	if after := whole(); after != before || strings.Count(after, "\n") != 39 {
		t.Fatalf("before:\n%s\nafter:\n%s", before, after)
	}
	in := func(table string) string {
		return list("SELECT tableoid::regclass::text||' '||count(*) FROM " + table + " GROUP BY tableoid ORDER BY 1")
	}
	suffix := func(n int) string { return month(n).Format("2006_01") }
	if got, want := in("usage_events"), "partitions.usage_booked 10\npartitions.usage_logged_before_"+suffix(1)+" 6\npartitions.usage_logged_"+suffix(2)+" 2\npartitions.usage_logged_rest 2"; !sameLines(got, want) {
		t.Errorf("the ledger:\n%s", got)
	}
	for _, table := range []string{"research_events", "provider_calls"} {
		if got, want := in(table), strings.ReplaceAll("partitions.T_before_"+suffix(1)+" 6\npartitions.T_"+suffix(2)+" 2\npartitions.T_rest 2", "T", table); !sameLines(got, want) {
			t.Errorf("%s:\n%s", table, got)
		}
	}

	// Again, at another time, of a run that has been booked: nothing.
	const again = " ON CONFLICT DO NOTHING"
	if n := do(usage+again, a, run[-40], 10, now); n != 1 { // b has a run of that id; a has not
		t.Errorf("%d rows of another tenant's id", n)
	}
	if n := do(usage+again, a, run[-40], 10, now.AddDate(0, 4, 0)); n != 0 {
		t.Errorf("booked twice: %d", n)
	}
	// A line of a log that is moved again is refused.
	if _, err := st.SQLDB().Exec(strings.Replace(strings.Replace(usage, "occurred_at)", "occurred_at, logged)", 1), "$4)", "$4, true)", 1), a, id("use", month(-50), 0)+".49.match", 1, month(-1)); err == nil {
		t.Error("a line of the log is in the ledger twice")
	}

	// Tenants see their own, by the tables; by the partitions nobody sees any.
	scope := domain.WithScope(ctx, domain.Scope{Tenant: a, Actor: domain.Actor{Kind: "user", ID: "usr_x"}})
	count := func(ctx context.Context, table string) (n int64, err error) {
		err = st.Read(ctx, func(ctx context.Context) error {
			return st.SQL(ctx, "SELECT count(*) FROM "+table+" WHERE tenant_id = @tenant OR true", nil).Scan(&n).Error
		})
		return n, err
	}
	for table, want := range map[string]int64{"usage_events": 11, "research_events": 5, "provider_calls": 5} {
		if n, err := count(scope, table); err != nil || n != want {
			t.Errorf("%s: a tenant sees %d rows, want %d: %v", table, n, want, err)
		}
	}
	parts := strings.Fields(list("SELECT 'partitions.'||c.relname FROM pg_class c WHERE relnamespace = 'partitions'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'divided' ORDER BY 1"))
	if len(parts) < 3*5+2 {
		t.Fatalf("partitions: %v", parts)
	}
	for _, part := range parts {
		if _, err := count(scope, part); err == nil {
			t.Errorf("%s: a tenant may look into it", part)
		}
	}
	do("GRANT USAGE ON SCHEMA partitions TO chainreactions_app, chainreactions_system") // a mistake of somebody's
	do("GRANT SELECT ON ALL TABLES IN SCHEMA partitions TO chainreactions_app, chainreactions_system")
	for _, part := range parts {
		for _, who := range []context.Context{scope, domain.System(ctx, "test")} {
			if n, err := count(who, part); err != nil || n != 0 {
				t.Errorf("%s: %d rows are seen past the table: %v", part, n, err)
			}
		}
	}

	// Months ahead take what came before them; what is past goes as a whole.
	kept := whole()
	for range 2 {
		if err := st.Months(ctx, month(3), 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := in("usage_events"); !strings.Contains(got, "usage_logged_"+suffix(5)+" 2") || strings.Contains(got, "rest") || whole() != kept {
		t.Errorf("after months ahead:\n%s", got)
	}
	if err := st.Months(ctx, month(4), 3); err != nil {
		t.Fatal(err)
	}
	if got := in("usage_events"); strings.Contains(got, "before") || !strings.Contains(got, "usage_booked 11") || !strings.Contains(got, "usage_logged_"+suffix(2)+" 2") {
		t.Errorf("after what is past went:\n%s", got)
	}
	if got := in("provider_calls"); strings.Contains(got, "before") || !strings.Contains(got, suffix(2)+" 2") {
		t.Errorf("after what is past went:\n%s", got)
	}
	if got := in("research_events"); !strings.Contains(got, "before_"+suffix(1)+" 6") {
		t.Errorf("events of runs that are kept:\n%s", got)
	}
}

// undivided is a database of its own, as it was before tables were divided.
func undivided(t testing.TB) *store.Store {
	t.Helper()
	ctx := context.Background()
	admin := testdb.Postgres(t)
	name := fmt.Sprintf("cr_months_%d", time.Now().UnixNano())
	onServer := func(text string) {
		t.Helper()
		db, err := sql.Open("pgx", admin)
		if err == nil {
			defer db.Close()
			_, err = db.Exec(text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	onServer("CREATE DATABASE " + name)
	t.Cleanup(func() { onServer("DROP DATABASE " + name + " WITH (FORCE)") })
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	st, err := store.Open(ctx, store.Config{URL: u.String(), MaxConns: 12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	p, err := migrations.Provider(st.SQLDB(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, 174); err != nil {
		t.Fatal(err)
	}
	return st
}

// BenchmarkPartitions says for how long whoever uses the ledger waits while it is
// divided, and while its months are made: with LINES in it, a million else.
func BenchmarkPartitions(b *testing.B) {
	lines := 1_000_000
	if of := os.Getenv("LINES"); of != "" {
		var err error
		if lines, err = strconv.Atoi(of); err != nil {
			b.Fatal(err)
		}
	}
	st := undivided(b)
	db := st.SQLDB()
	do := func(text string, args ...any) {
		b.Helper()
		if _, err := db.Exec(text, args...); err != nil {
			b.Fatalf("%s: %v", text, err)
		}
	}
	tenant := domain.NewID("ten")
	do("INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, $1, 'x', now(), now())", tenant)
	do(`INSERT INTO usage_events (tenant_id, id, meter, units, period, hour, actor, occurred_at)
		SELECT $1, CASE WHEN i % 1000 = 0 THEN 'imp_' ELSE 'use_' END || lpad(i::text, 26, '0') || '.' || i || '.match', 'match', 1, '2026-01', to_char(at, 'YYYY-MM-DD"T"HH24'), 'usr', at
		FROM (SELECT i, now() - make_interval(secs => i * (90 * 86400.0 / $2)) AS at FROM generate_series(1, $2::int) i) x`, tenant, lines)
	do("ANALYZE usage_events")
	var n atomic.Int64
	// waits does something while others use the ledger, and reports the longest any of them waited.
	waits := func(what string, logged string, something func()) {
		longest := map[string]time.Duration{}
		var mu sync.Mutex
		var load sync.WaitGroup
		ctx, stop := context.WithCancel(context.Background())
		for name, one := range map[string]func() error{
			"log": func() error { // what comes from processes' logs
				_, err := db.Exec("INSERT INTO usage_events (tenant_id, id, meter, units, period, hour, actor, occurred_at"+logged+", $1, 'match', 1, '2026-01', 'h', 'usr', now()"+map[bool]string{true: ", true"}[logged != ") SELECT $2"]+" WHERE $2 <> ''",
					fmt.Sprintf("use_new.%d.match", n.Add(1)), tenant)
				return err
			},
			"read": func() error { // a day of one tenant
				var sum sql.NullInt64
				return db.QueryRow("SELECT sum(units) FROM usage_events WHERE tenant_id = $1 AND period = '2026-01' AND meter = 'match' AND hour >= $2 AND occurred_at >= now() - interval '1 hour'",
					tenant, time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15")).Scan(&sum)
			},
			"tenant": func() error { // is opened
				id := domain.NewID("ten")
				_, err := db.Exec("INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, $1, 'x', now(), now())", id)
				return err
			},
			"all": func() error { // asks without a month
				var sum sql.NullInt64
				return db.QueryRow("SELECT sum(units) FROM usage_events WHERE tenant_id = $1 AND period = 'none'", tenant).Scan(&sum)
			},
		} {
			load.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					err := one()
					took := time.Since(began)
					mu.Lock()
					longest[name] = max(longest[name], took)
					mu.Unlock()
					if err != nil {
						b.Errorf("%s, %s: %v", what, name, err)
						return
					}
					select {
					case <-time.After(5 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			})
		}
		began := time.Now()
		something()
		took := time.Since(began)
		stop()
		load.Wait()
		b.ReportMetric(float64(took.Milliseconds()), what+"_ms")
		for name, d := range longest {
			b.ReportMetric(float64(d.Milliseconds()), what+"_"+name+"_waits_ms")
		}
	}
	waits("divide", ") SELECT $2", func() {
		if _, err := migrations.Up(context.Background(), db, true); err != nil {
			b.Fatal(err)
		}
	})
	waits("months", ", logged) SELECT $2", func() {
		if err := st.Months(context.Background(), time.Now().AddDate(0, 4, 0), 0); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(float64(lines), "lines")
	b.ReportMetric(0, "ns/op")
}

func sameLines(a, b string) bool {
	count := map[string]int{}
	for _, line := range strings.Split(a, "\n") {
		count[line]++
	}
	for _, line := range strings.Split(b, "\n") {
		count[line]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
