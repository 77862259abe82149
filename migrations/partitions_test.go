package migrations_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
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
	st, err := store.Open(ctx, store.Config{URL: u.String(), MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	p, err := migrations.Provider(st.SQLDB(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, 174); err != nil {
		t.Fatal(err)
	}
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
