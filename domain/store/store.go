// Package store hides where rows live and whose they are. It is the only way
// to the database: SQLite under the data folder by default, PostgreSQL in
// production, and the same code on both.
//
// Two walls stand between tenants. The first is here, in GORM's callbacks:
// every read, update and delete gets the tenant of the context's scope, every
// create is stamped with it, and a statement without a scope, a tenant or a
// schema is refused. The second is PostgreSQL's row-level security: a tenant's
// transaction runs as the role chainreactions_app, which owns nothing and sees
// only rows whose tenant_id equals the setting app.tenant_id. Work that crosses
// tenants says domain.System and runs as chainreactions_system.
//
// There is no query outside a transaction:
//
//	err := st.Tx(ctx, func(ctx context.Context) error {
//		return st.For(ctx).Create(&row).Error
//	})
//
// Tx nests by joining. Read is the same for work that writes nothing: on SQLite
// it does not wait for the one writer. Never call a vendor inside either, and
// never use an outer context inside: on SQLite the second write would wait for
// the first for ever.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/chainreactions/chainreactions/domain"
)

// Dialect names the database behind a Store.
type Dialect string

// The two databases.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Config says where the rows are.
type Config struct {
	URL        string        // a postgres:// address, or empty for SQLite
	Path       string        // the SQLite file, where URL is empty
	ReplicaURL string        // of a replica that ReadStale may ask; empty is none
	ReplicaLag time.Duration // how old that may be; 0 is five seconds
	MaxConns   int           // of PostgreSQL; 0 is 20
	Logger     *slog.Logger
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	dialect Dialect
	log     *slog.Logger
	pool    *pgxpool.Pool // PostgreSQL
	writer  *sql.DB
	reader  *sql.DB // SQLite; the same as writer on PostgreSQL
	wgorm   *gorm.DB
	rgorm   *gorm.DB
	replica *replica // or nil
}

// The PostgreSQL roles of the second wall; migrations make them.
const (
	appRole    = "chainreactions_app"
	systemRole = "chainreactions_system"
)

// Open connects. It does not migrate: that is migrations.Up.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Store{log: c.Logger}
	options := &gorm.Config{
		SkipDefaultTransaction: true, // every statement runs in a Tx of ours
		TranslateError:         true,
		NowFunc:                func() time.Time { return time.Now().UTC() },
		Logger:                 logger.Discard, // errors are returned and logged where they are handled
	}
	if c.URL == "" {
		if c.Path == "" || c.ReplicaURL != "" {
			return nil, errors.New("store: neither a URL nor a path, or a replica without a URL")
		}
		s.dialect = SQLite
		var err error
		if s.writer, s.reader, err = openSQLite(c.Path); err != nil {
			return nil, fmt.Errorf("open %s: %w", c.Path, err)
		}
		if s.wgorm, err = gorm.Open(sqliteDialect{s.writer}, options); err != nil {
			return nil, err
		}
		readOptions := *options
		if s.rgorm, err = gorm.Open(sqliteDialect{s.reader}, &readOptions); err != nil {
			return nil, err
		}
		return s, errors.Join(wall(s.wgorm), wall(s.rgorm), spans(s.wgorm, "sqlite"), spans(s.rgorm, "sqlite"))
	}
	s.dialect = Postgres
	conf, err := poolConfig(c.URL, c.MaxConns)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, conf); err != nil {
		return nil, err
	}
	s.writer = stdlib.OpenDBFromPool(s.pool)
	s.writer.SetMaxIdleConns(0) // the pgx pool does the idling
	s.reader = s.writer
	s.wgorm, err = gorm.Open(postgres.New(postgres.Config{Conn: s.writer}), options)
	if err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s.rgorm = s.wgorm
	if c.ReplicaURL != "" {
		if s.replica, err = openReplica(ctx, c, s.pool); err != nil {
			s.pool.Close()
			return nil, err
		}
	}
	return s, errors.Join(wall(s.wgorm), spans(s.wgorm, "postgresql"))
}

func poolConfig(url string, conns int) (*pgxpool.Config, error) {
	conf, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	conf.MaxConns = int32(conns)
	if conf.MaxConns <= 0 {
		conf.MaxConns = 20
	}
	conf.ConnConfig.ConnectTimeout = 5 * time.Second
	conf.ConnConfig.DialFunc = dialer.DialContext
	conf.ConnConfig.RuntimeParams["timezone"] = "UTC"
	return conf, nil
}

// dialer makes connections that end when the other machine is gone without a word,
// also under a statement that nobody waits for with a limit.
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: gone / 3, Interval: gone / 3, Count: 2}, Control: giveUpAfter(gone)}

const gone = 15 * time.Second

// Close lets go of every connection.
func (s *Store) Close() error {
	var err error
	if s.replica != nil {
		err = s.replica.close()
	}
	err = errors.Join(err, s.writer.Close())
	if s.reader != s.writer {
		err = errors.Join(err, s.reader.Close())
	}
	if s.pool != nil {
		s.pool.Close()
	}
	return err
}

// Dialect says which database this is.
func (s *Store) Dialect() Dialect { return s.dialect }

// SQLDB is the writer pool, for the migrations and the job queue, which bring
// their own statements and tables.
func (s *Store) SQLDB() *sql.DB { return s.writer }

// Pool is the PostgreSQL pool, or nil on SQLite; for the job queue.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Ping asks the database whether it is there.
func (s *Store) Ping(ctx context.Context) error { return s.reader.PingContext(ctx) }

// transaction travels in the context.
type transaction struct {
	db     *gorm.DB
	conn   *sql.Conn // PostgreSQL
	sqlTx  *sql.Tx   // SQLite
	tenant string    // whose it is; "" for a system one
	write  bool
	after  []func()

	snapshot bool
	stale    bool // may be answered by the replica
}

type txKey struct{ *Store }

func (s *Store) current(ctx context.Context) *transaction {
	t, _ := ctx.Value(txKey{s}).(*transaction)
	return t
}

// Tx runs fn in one transaction, joining the one that ctx carries. It rolls
// back when fn fails or panics.
func (s *Store) Tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.run(ctx, &transaction{write: true}, fn)
}

// Read runs fn in a transaction that writes nothing.
func (s *Store) Read(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.run(ctx, &transaction{}, fn)
}

// Snapshot is a Read that sees the database as it was when it first looked,
// whatever is written meanwhile. It holds a connection, and on SQLite the log,
// for as long as it lasts: it is for what must be whole.
func (s *Store) Snapshot(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.run(ctx, &transaction{snapshot: true}, fn)
}

func (s *Store) run(ctx context.Context, begun *transaction, fn func(ctx context.Context) error) error {
	scope, ok := domain.ScopeOf(ctx)
	if !ok {
		return errNoScope
	}
	_, system := scope.System()
	if !system && !domain.ValidID("ten", scope.Tenant) {
		return errNoTenant
	}
	if t := s.current(ctx); t != nil {
		if t.tenant != scope.Tenant {
			return fmt.Errorf("store: the scope changed inside a transaction (%q to %q)", t.tenant, scope.Tenant)
		}
		if begun.write && !t.write {
			return errors.New("store: Tx inside Read")
		}
		if begun.snapshot && !t.snapshot {
			return errors.New("store: Snapshot inside Tx or Read")
		}
		return fn(ctx)
	}
	t := begun
	t.tenant = scope.Tenant
	if before, ok := ctx.Value(beforeCommitKey{}).(func(context.Context) error); ok && t.write {
		work := fn
		fn = func(ctx context.Context) error {
			if err := work(ctx); err != nil {
				return err
			}
			return before(ctx)
		}
	}
	var err error
	if s.dialect == SQLite {
		err = s.runSQLite(ctx, t, fn)
	} else {
		err = s.runPostgres(ctx, t, fn)
	}
	if err != nil {
		return s.translate(err)
	}
	for _, f := range t.after {
		f()
	}
	return nil
}

func (s *Store) runSQLite(ctx context.Context, t *transaction, fn func(ctx context.Context) error) (err error) {
	if !t.write && !t.snapshot {
		t.db = s.rgorm
		return fn(context.WithValue(ctx, txKey{s}, t))
	}
	pool, gorms := s.writer, s.wgorm
	if t.snapshot {
		pool, gorms = s.reader, s.rgorm
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	t.sqlTx = tx
	t.db = gorms.Session(&gorm.Session{NewDB: true, Context: ctx}) // a session without a context shares its statement
	t.db.Statement.ConnPool = tx
	if err := fn(context.WithValue(ctx, txKey{s}, t)); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *Store) runPostgres(ctx context.Context, t *transaction, fn func(ctx context.Context) error) error {
	if t.stale && s.replica != nil && s.replica.fresh() {
		if s.beginPostgres(ctx, t, s.replica.db) == nil {
			defer t.conn.Close()
			return s.inPostgres(ctx, t, fn)
		}
		if ctx.Err() == nil {
			s.replica.away()
		}
	}
	if err := s.beginPostgres(ctx, t, s.writer); err != nil {
		return err
	}
	defer t.conn.Close()
	return s.inPostgres(ctx, t, fn)
}

// beginWithin is how long a transaction may take to begin, also in work that may
// last much longer: a database that hangs answers nobody.
const beginWithin = 10 * time.Second

// beginPostgres gives t a connection with an open transaction, or none.
func (s *Store) beginPostgres(ctx context.Context, t *transaction, db *sql.DB) (err error) {
	ctx, cancel := context.WithTimeout(ctx, beginWithin)
	defer cancel()
	if t.conn, err = db.Conn(ctx); err != nil {
		return err
	}
	// One round trip opens the transaction and puts up the second wall. The
	// tenant was checked by domain.ValidID: nothing in it needs quoting.
	begin := "BEGIN"
	if !t.write {
		begin = "BEGIN READ ONLY"
	}
	if t.snapshot {
		begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	if t.tenant == "" {
		begin += "; SET LOCAL ROLE " + systemRole
	} else {
		begin += "; SET LOCAL ROLE " + appRole + "; SET LOCAL app.tenant_id = '" + t.tenant + "'"
	}
	err = t.raw(func(c *pgx.Conn) error { _, err := c.PgConn().Exec(ctx, begin).ReadAll(); return err })
	if err != nil {
		t.rollback(ctx)
		t.conn.Close()
	}
	return err
}

// inPostgres runs fn in the transaction that t has begun, and ends it.
func (s *Store) inPostgres(ctx context.Context, t *transaction, fn func(ctx context.Context) error) error {
	t.db = s.wgorm.Session(&gorm.Session{NewDB: true, Context: ctx}) // a session without a context shares its statement, and so the connection
	t.db.Statement.ConnPool = t.conn
	done := false
	defer func() {
		if !done { // fn failed or panicked
			t.rollback(ctx)
		}
	}()
	if err := fn(context.WithValue(ctx, txKey{s}, t)); err != nil {
		return err
	}
	var tag pgconn.CommandTag
	err := t.raw(func(c *pgx.Conn) (err error) { tag, err = c.Exec(ctx, "COMMIT"); return err })
	done = err == nil
	if err == nil && tag.String() == "ROLLBACK" {
		return errors.New("store: the transaction had failed and was rolled back")
	}
	return err
}

// raw lends the connection itself to fn. database/sql may close it at any moment,
// from a goroutine of its own, since a context ended or a statement found it
// broken, and another transaction may have it next: so it is used under
// database/sql's lock or not at all, and sql.ErrConnDone says that it is gone.
func (t *transaction) raw(fn func(c *pgx.Conn) error) error {
	return t.conn.Raw(func(driver any) error { return fn(driver.(*stdlib.Conn).Conn()) })
}

// rollback also runs when ctx has ended; a connection that cannot roll back is
// closed, so that nobody inherits its transaction.
func (t *transaction) rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = t.raw(func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "ROLLBACK")
		if err != nil {
			_ = c.Close(ctx)
		}
		return err
	})
}

// For gives the tenant-scoped session of the transaction that ctx carries.
// Without one, every use of it fails.
func (s *Store) For(ctx context.Context) *gorm.DB {
	t := s.current(ctx)
	if t == nil {
		db := s.rgorm.Session(&gorm.Session{NewDB: true, Context: ctx})
		_ = db.AddError(errors.New("store: For outside Tx and Read"))
		return db
	}
	if t.tenant != domain.TenantOf(ctx) {
		db := s.rgorm.Session(&gorm.Session{NewDB: true, Context: ctx})
		_ = db.AddError(errors.New("store: the scope changed inside a transaction"))
		return db
	}
	return t.db.WithContext(ctx)
}

// SQL prepares a hand-written statement for Scan, Rows or Exec. It must name
// @tenant, which is bound to the scope's tenant: the filter cannot be added to
// text, so at least it cannot be forgotten. A system scope may leave it out.
//
//	s.SQL(ctx, "SELECT count(*) FROM entries WHERE tenant_id = @tenant AND …", map[string]any{…})
func (s *Store) SQL(ctx context.Context, query string, args map[string]any) *gorm.DB {
	db := s.For(ctx)
	if db.Error != nil {
		return db
	}
	scope, _ := domain.ScopeOf(ctx)
	_, system := scope.System()
	if !system && !strings.Contains(query, "tenant_id = @tenant") {
		_ = db.AddError(errors.New("store: SQL without tenant_id = @tenant"))
		return db
	}
	bound := map[string]any{"tenant": scope.Tenant}
	for k, v := range args {
		if k != "tenant" {
			bound[k] = v
		}
	}
	if !strings.Contains(query, "@") {
		return db.Set(allowRaw, true).Raw(query)
	}
	return db.Set(allowRaw, true).Raw(query, bound)
}

// Exec runs a hand-written statement under the rules of SQL and says how many
// rows it changed.
func (s *Store) Exec(ctx context.Context, query string, args map[string]any) (int64, error) {
	db := s.For(ctx)
	if db.Error != nil {
		return 0, db.Error
	}
	scope, _ := domain.ScopeOf(ctx)
	_, system := scope.System()
	if !system && !strings.Contains(query, "@tenant") {
		return 0, errors.New("store: Exec without @tenant")
	}
	bound := map[string]any{"tenant": scope.Tenant}
	for k, v := range args {
		if k != "tenant" {
			bound[k] = v
		}
	}
	db = db.Set(allowRaw, true).Exec(query, bound)
	return db.RowsAffected, db.Error
}

// AfterCommit runs f once the transaction of ctx is committed, and never if it
// is not: the place to ring bells and drop caches.
func (s *Store) AfterCommit(ctx context.Context, f func()) {
	t := s.current(ctx)
	if t == nil {
		panic("store: AfterCommit outside a transaction")
	}
	t.after = append(t.after, f)
}

type beforeCommitKey struct{}

// BeforeCommit gives a context whose transactions that write run f last, and are
// rolled back where it fails. It may find another scope than ctx has.
func BeforeCommit(ctx context.Context, f func(ctx context.Context) error) context.Context {
	return context.WithValue(ctx, beforeCommitKey{}, f)
}

// InTx reports whether ctx carries a transaction.
func (s *Store) InTx(ctx context.Context) bool { return s.current(ctx) != nil }

// WithConn lends the raw connection of ctx's transaction to the job queue, which
// writes its rows with the caller's: a *pgx.Conn on PostgreSQL, a *sql.Tx on
// SQLite. Nobody else may use it, and fn may not use the store.
func (s *Store) WithConn(ctx context.Context, fn func(*pgx.Conn, *sql.Tx) error) error {
	t := s.current(ctx)
	switch {
	case t == nil || !t.write:
		return errors.New("store: WithConn outside Tx")
	case t.sqlTx != nil:
		return fn(nil, t.sqlTx)
	}
	return t.raw(func(c *pgx.Conn) error { return fn(c, nil) })
}

// translate turns the database's refusals into domain errors; what it does not
// know stays internal.
func (s *Store) translate(err error) error {
	var own *domain.Error
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &own):
		return err
	case errors.Is(err, gorm.ErrRecordNotFound):
		return domain.ErrNotFound().Because(err)
	case errors.Is(err, gorm.ErrDuplicatedKey):
		return domain.E(domain.Conflict, "conflict", "There is such an object already.").Because(err)
	case errors.Is(err, context.Canceled):
		return domain.E(domain.Canceled, "canceled", "The caller went away.").Because(err)
	case errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &pg) && unavailable(pg.Code),
		s.dialect == Postgres && isConnectError(err), lacks(err):
		return domain.E(domain.Unavailable, "dependency_unavailable", "The database does not answer now.").After(2 * time.Second).Because(err)
	}
	return err
}

// unavailable reports whether PostgreSQL refuses for its own sake: it shuts down
// or starts, lacks something, or became a replica or not the one that it was; or
// that a replica's rows went away under what read them.
func unavailable(code string) bool {
	return code[:2] == "57" || code[:2] == "53" || code[:2] == "08" || code == "25006" || code == "40001" // read_only_sql_transaction, and a conflict with recovery
}

// isConnectError is of a connection that does not come about, or that ended under
// a statement: whether that was done is not known then, nor whether it is not.
func isConnectError(err error) bool {
	var c *pgconn.ConnectError
	var n *net.OpError
	return errors.As(err, &c) || pgconn.SafeToRetry(err) || errors.As(err, &n) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

var _ = domain.Chinese(map[string]string{
	"There is such an object already.":  "已有这样的对象。",
	"The caller went away.":             "调用方已断开。",
	"The database does not answer now.": "数据库暂时没有响应。",
})
