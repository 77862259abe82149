package jobs

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type sqlTx = *sql.Tx

// joined shows River the store's open transaction as a pgx.Tx. River may open
// savepoints in it; only the store commits.
type joined struct{ conn *pgx.Conn }

var errNotOurs = errors.New("jobs: the store ends this transaction")

func (j joined) Begin(ctx context.Context) (pgx.Tx, error) {
	if _, err := j.conn.Exec(ctx, "SAVEPOINT river"); err != nil {
		return nil, err
	}
	return savepoint{j}, nil
}
func (j joined) Commit(context.Context) error   { return errNotOurs }
func (j joined) Rollback(context.Context) error { return errNotOurs }
func (j joined) CopyFrom(ctx context.Context, t pgx.Identifier, cols []string, src pgx.CopyFromSource) (int64, error) {
	return j.conn.CopyFrom(ctx, t, cols, src)
}
func (j joined) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return j.conn.SendBatch(ctx, b)
}
func (j joined) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }
func (j joined) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return j.conn.Prepare(ctx, name, sql)
}
func (j joined) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return j.conn.Exec(ctx, sql, args...)
}
func (j joined) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return j.conn.Query(ctx, sql, args...)
}
func (j joined) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return j.conn.QueryRow(ctx, sql, args...)
}
func (j joined) Conn() *pgx.Conn { return j.conn }

type savepoint struct{ joined }

func (s savepoint) Commit(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "RELEASE SAVEPOINT river")
	return err
}

func (s savepoint) Rollback(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT river")
	return err
}
