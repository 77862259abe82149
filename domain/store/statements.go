package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"modernc.org/sqlite"
)

// Statements that are asked again are parsed once for a connection of SQLite's: of
// a short transaction's time parsing took nearly as much as all that followed.
// database/sql keeps statements beside its transactions and not within them, where
// nearly all of ours are, and the job queue's too.

const (
	keptStatements = 256  // of one connection
	keptLength     = 4096 // bytes; a longer one has lists in it that no other has
)

// sqliteConnector opens connections that keep their statements.
type sqliteConnector struct{ driver.Connector }

func (c sqliteConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return newSQLiteConn(conn.(driverConn), keptStatements), nil
}

// openKeeping opens a database whose connections do.
func openKeeping(dsn string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(sqliteConnector{c}), nil
}

// driverConn, driverStmt and driverRows are all that the driver can do and
// database/sql asks for.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type driverRows interface {
	driver.Rows
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

// sqliteConn is one connection; database/sql uses it from one goroutine at a time.
type sqliteConn struct {
	driverConn
	kept *simplelru.LRU[string, *statement]
}

// statement is a kept one. It is busy while its rows are read: who asks the same
// meanwhile has it parsed again.
type statement struct {
	driverStmt
	busy, dropped bool
}

func newSQLiteConn(conn driverConn, most int) *sqliteConn {
	kept, err := simplelru.NewLRU(most, func(_ string, s *statement) {
		if s.dropped = true; !s.busy {
			_ = s.Close() // its memory; what it did is done
		}
	})
	if err != nil {
		panic(err) // a size that is not positive
	}
	return &sqliteConn{conn, kept}
}

// take gives the statement of a query, busy; nil where it is not one to keep. What
// has no arguments is a pragma, a savepoint or a script.
func (c *sqliteConn) take(ctx context.Context, query string, args []driver.NamedValue) *statement {
	if len(args) == 0 || len(query) > keptLength {
		return nil
	}
	if s, known := c.kept.Get(query); known {
		if s.busy {
			return nil
		}
		s.busy = true
		return s
	}
	prepared, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil // asked without it, it says why
	}
	s := &statement{driverStmt: prepared.(driverStmt), busy: true}
	c.kept.Add(query, s)
	return s
}

func (s *statement) done() {
	if s.busy = false; s.dropped {
		_ = s.Close()
	}
}

func (c *sqliteConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s := c.take(ctx, query, args)
	if s == nil {
		return c.driverConn.ExecContext(ctx, query, args)
	}
	defer s.done()
	return s.ExecContext(ctx, args)
}

func (c *sqliteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s := c.take(ctx, query, args)
	if s == nil {
		return c.driverConn.QueryContext(ctx, query, args)
	}
	rows, err := s.QueryContext(ctx, args)
	if err != nil {
		s.done()
		return nil, err
	}
	return &statementRows{driverRows: rows.(driverRows), of: s}, nil
}

func (c *sqliteConn) Close() error {
	c.kept.Purge()
	return c.driverConn.Close()
}

// statementRows give their statement back when they are closed.
type statementRows struct {
	driverRows
	of *statement
}

func (r *statementRows) Close() error {
	if r.of == nil {
		return nil
	}
	err := r.driverRows.Close()
	r.of.done()
	r.of = nil
	return err
}

// Next is the driver's, and says nothing of rows that were closed.
func (r *statementRows) Next(dest []driver.Value) error {
	if r.of == nil {
		return io.EOF
	}
	return r.driverRows.Next(dest)
}
