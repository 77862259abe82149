package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/chainreactions/chainreactions/domain"
)

// Bulk inserts rows into a tenant's table, in the transaction of ctx. columns
// do not name tenant_id: the first column is always the scope's tenant. On
// PostgreSQL the rows are copied into a temporary table and inserted from there
// (COPY straight into a table under row-level security is refused), on SQLite
// they go in prepared statements of twenty. Keep a transaction to some
// thousand rows: on SQLite every other writer waits for it.
func (s *Store) Bulk(ctx context.Context, table string, columns []string, rows [][]any) error {
	t := s.current(ctx)
	tenant := domain.TenantOf(ctx)
	if t == nil || !t.write {
		return errors.New("store: Bulk outside Tx")
	}
	if !domain.ValidID("ten", tenant) || t.tenant != tenant {
		return errNoTenant
	}
	if len(rows) == 0 {
		return nil
	}
	names := make([]string, 0, len(columns)+1)
	for _, c := range append([]string{"tenant_id"}, columns...) {
		names = append(names, pgx.Identifier{c}.Sanitize())
	}
	into := pgx.Identifier{table}.Sanitize() + " (" + strings.Join(names, ", ") + ")"
	if s.dialect == Postgres {
		return t.raw(func(c *pgx.Conn) error { return bulkPostgres(ctx, c, into, tenant, table, columns, names, rows) })
	}
	const group = 20
	one := "(?" + strings.Repeat(", ?", len(columns)) + ")"
	for len(rows) > 0 {
		n := min(group, len(rows))
		if n == group { // the common case, prepared once
			stmt, err := t.sqlTx.PrepareContext(ctx, "INSERT INTO "+into+" VALUES "+one+strings.Repeat(", "+one, group-1))
			if err != nil {
				return err
			}
			args := make([]any, 0, group*(len(columns)+1))
			for len(rows) >= group {
				args = args[:0]
				for _, row := range rows[:group] {
					args = append(append(args, tenant), row...)
				}
				if _, err := stmt.ExecContext(ctx, args...); err != nil {
					stmt.Close()
					return sqliteDialect{}.Translate(err)
				}
				rows = rows[group:]
			}
			stmt.Close()
			continue
		}
		args := make([]any, 0, n*(len(columns)+1))
		for _, row := range rows {
			args = append(append(args, tenant), row...)
		}
		_, err := t.sqlTx.ExecContext(ctx, "INSERT INTO "+into+" VALUES "+one+strings.Repeat(", "+one, n-1), args...)
		if err != nil {
			return sqliteDialect{}.Translate(err)
		}
		rows = nil
	}
	return nil
}

func bulkPostgres(ctx context.Context, conn *pgx.Conn, into, tenant, table string, columns, names []string, rows [][]any) error {
	temp := "bulk_" + table
	list := strings.Join(names, ", ")
	create := fmt.Sprintf("CREATE TEMP TABLE IF NOT EXISTS %s ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA",
		pgx.Identifier{temp}.Sanitize(), list, pgx.Identifier{table}.Sanitize())
	if _, err := conn.Exec(ctx, create); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "TRUNCATE "+pgx.Identifier{temp}.Sanitize()); err != nil {
		return err
	}
	all := append([]string{"tenant_id"}, columns...)
	one := make([]any, 1, len(all)) // encoded before the next one is asked for
	one[0] = tenant
	_, err := conn.CopyFrom(ctx, pgx.Identifier{temp}, all, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		return append(one[:1], rows[i]...), nil
	}))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT %s FROM %s", into, list, pgx.Identifier{temp}.Sanitize()))
	return err
}
