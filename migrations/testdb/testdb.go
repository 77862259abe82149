// Package testdb gives tests a migrated database with two tenants in it, so
// that a leak between tenants shows in any test that looks. Only _test files
// import it.
package testdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that makes databases

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations"
)

// DB is a migrated store with the tenants A and B.
type DB struct {
	*store.Store
	URL  string // of PostgreSQL; empty on SQLite
	Path string // of the SQLite file
	A, B string // tenant ids
}

// In gives a context in the scope of tenant.
func (DB) In(tenant string) context.Context {
	return domain.WithScope(context.Background(), domain.Scope{
		Tenant: tenant, Actor: domain.Actor{Kind: "user", ID: "usr_00000000000000000000000000"}, RequestID: "req_test",
	})
}

// Each runs fn as two subtests, on SQLite and on PostgreSQL: two
// implementations, one suite. A short run under the race detector does without
// SQLite: it lets one writer in at a time, and is C turned into Go, of which every
// access to memory would be watched, for half of the time of all.
func Each(t *testing.T, fn func(t *testing.T, db DB)) {
	if !raced || !testing.Short() {
		t.Run("sqlite", func(t *testing.T) { fn(t, SQLite(t)) })
	}
	t.Run("postgres", func(t *testing.T) { fn(t, OnPostgres(t)) })
}

// SQLite opens a fresh database file: a copy of one that was migrated once for
// the test binary.
func SQLite(t testing.TB) DB {
	path := filepath.Join(t.TempDir(), "test.db")
	file, err := migratedFile()
	if err == nil {
		err = os.WriteFile(path, file, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return open(t, store.Config{Path: path})
}

var migratedFile = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "cr-sqlite-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "test.db")
	st, err := store.Open(context.Background(), store.Config{Path: path})
	if err != nil {
		return nil, err
	}
	if _, err := migrations.Up(context.Background(), st.SQLDB(), false); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if _, err := st.SQLDB().Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

var databases atomic.Int64

// migrated is the database that others are copies of.
var migrated struct {
	sync.Once
	name string
	err  error
}

// migratedDatabase makes it, or finds that another test binary has: its name is
// that of its schema. One that was left half done is finished in each copy.
func migratedDatabase(admin string) (name string, err error) {
	ctx := context.Background()
	schema, err := migrations.Fingerprint()
	if err != nil {
		return "", err
	}
	name = "cr_migrated_" + schema
	db, err := sql.Open("pgx", admin)
	if err != nil {
		return "", err
	}
	defer db.Close()
	conn, err := db.Conn(ctx) // the lock is a connection's
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock(7201)"); err != nil {
		return "", err
	}
	defer func() { _, _ = conn.ExecContext(ctx, "SELECT pg_advisory_unlock(7201)") }()
	var there int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&there); err != nil || there > 0 {
		return name, err
	}
	if _, err := conn.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	u, err := url.Parse(admin)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	st, err := store.Open(ctx, store.Config{URL: u.String(), MaxConns: 2})
	if err != nil {
		return "", err
	}
	_, err = migrations.Up(ctx, st.SQLDB(), true)
	return name, errors.Join(err, st.Close())
}

// OnPostgres makes a fresh database on the test server.
func OnPostgres(t testing.TB) DB {
	admin := Postgres(t)
	db, err := sql.Open("pgx", admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	migrated.Do(func() { migrated.name, migrated.err = migratedDatabase(admin) })
	if migrated.err != nil {
		t.Fatal(migrated.err)
	}
	name := fmt.Sprintf("cr_%d_%d", time.Now().UnixNano(), databases.Add(1))
	if _, err := db.Exec("CREATE DATABASE " + name + " TEMPLATE " + migrated.name); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	t.Cleanup(func() {
		if db, err := sql.Open("pgx", admin); err == nil {
			_, _ = db.Exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)")
			db.Close()
		}
	})
	return open(t, store.Config{URL: u.String(), MaxConns: 10})
}

func open(t testing.TB, c store.Config) DB {
	ctx := context.Background()
	st, err := store.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if _, err := migrations.Up(ctx, st.SQLDB(), st.Dialect() == store.Postgres); err != nil {
		t.Fatal(err)
	}
	out := DB{Store: st, URL: c.URL, Path: c.Path, A: domain.NewID("ten"), B: domain.NewID("ten")}
	sys := domain.System(ctx, "test fixture")
	err = st.Tx(sys, func(ctx context.Context) error {
		for _, id := range []string{out.A, out.B} {
			_, err := st.Exec(ctx, "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES (@id, @slug, @slug, @now, @now)",
				map[string]any{"id": id, "slug": "t-" + id[len(id)-8:], "now": time.Now().UTC()})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
