// Package migrations holds the schema: numbered SQL files, one set for both
// databases, and the runner that applies them.
//
// A file is plain SQL in the words both databases share. Where they differ:
//
//	-- +postgres … -- +end     lines for PostgreSQL alone
//	-- +sqlite … -- +end       lines for SQLite alone
//	timestamptz                becomes datetime on SQLite, which the driver needs to give times back
//	-- +isolate TABLE          tenant isolation for a table with a tenant_id: on
//	                           PostgreSQL forced row-level security, grants and
//	                           policies for the two runtime roles; on SQLite a
//	                           trigger that refuses to move a row to another tenant
//	-- +global TABLE           a table that belongs to no tenant: only the system role may use it
//
// A test fails on a table that says neither.
//
// An installation is upgraded while it is used, by processes of both builds. So a
// file adds what the former build does not miss, and takes away only what no build
// that may still run, or be gone back to, asks for. On PostgreSQL a file waits for
// a table no longer than lockWait, for whoever comes meanwhile waits behind it;
// where it is not had it is tried again. A test reads the files for what would
// hold a table for long.
package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed sql/*.sql
var files embed.FS

// lockWait is how long a file waits for a table that is in use.
const lockWait = 200 * time.Millisecond

const (
	tryAgain = 250 * time.Millisecond // the pause after it was not had
	giveUp   = 5 * time.Minute
)

// Up applies what is missing. Several processes may call it at once: on
// PostgreSQL an advisory lock, on SQLite the one writer lets one go first.
func Up(ctx context.Context, db *sql.DB, postgres bool) (applied int, err error) {
	p, err := provider(db, postgres)
	if err != nil {
		return 0, err
	}
	return up(ctx, p)
}

func up(ctx context.Context, p *goose.Provider) (applied int, err error) {
	for end := time.Now().Add(giveUp); ; {
		results, err := p.Up(ctx)
		applied += len(results)
		var part *goose.PartialError
		if errors.As(err, &part) {
			applied += len(part.Applied)
		}
		var refused *pgconn.PgError
		if err == nil || !errors.As(err, &refused) || refused.Code != "55P03" || time.Now().After(end) {
			return applied, err
		}
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
			return applied, ctx.Err()
		}
	}
}

// Pending says how many files have not been applied.
func Pending(ctx context.Context, db *sql.DB, postgres bool) (int, error) {
	p, err := provider(db, postgres)
	if err != nil {
		return 0, err
	}
	status, err := p.Status(ctx)
	n := 0
	for _, s := range status {
		if s.State == goose.StatePending {
			n++
		}
	}
	return n, err
}

// Fingerprint names the schema: another file, or another word in one, is another.
func Fingerprint() (string, error) {
	sum := sha256.New()
	for _, postgres := range []bool{false, true} {
		rendered, err := render(postgres)
		if err != nil {
			return "", err
		}
		err = fs.WalkDir(rendered, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(rendered, path)
			fmt.Fprintf(sum, "%s %d\n", path, len(text))
			sum.Write(text)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

func provider(db *sql.DB, postgres bool) (*goose.Provider, error) {
	rendered, err := render(postgres)
	if err != nil {
		return nil, err
	}
	dialect := database.DialectSQLite3
	// Numbers are given out by area, so a new file may stand before one that is applied.
	options := []goose.ProviderOption{goose.WithAllowOutofOrder(true)}
	if postgres {
		dialect = database.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(giveUp.Seconds())))
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	return goose.NewProvider(dialect, db, rendered, options...)
}

// render gives the files as one database understands them.
func render(postgres bool) (fs.FS, error) {
	out := fstest.MapFS{}
	names, err := fs.Glob(files, "sql/*.sql")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		src, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		text, err := renderFile(string(src), postgres)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[strings.TrimPrefix(name, "sql/")] = &fstest.MapFile{Data: []byte(text)}
	}
	return out, nil
}

var timestamptz = regexp.MustCompile(`\btimestamptz\b`)

func renderFile(src string, postgres bool) (string, error) {
	var b strings.Builder
	b.WriteString("-- +goose Up\n")
	if postgres {
		fmt.Fprintf(&b, "SET LOCAL lock_timeout = %d;\n", lockWait.Milliseconds())
	}
	only := ""
	for n, line := range strings.Split(src, "\n") {
		word := strings.Fields(line)
		switch {
		case len(word) == 2 && word[0] == "--" && (word[1] == "+postgres" || word[1] == "+sqlite"):
			if only != "" {
				return "", fmt.Errorf("line %d: %s inside %s", n+1, word[1], only)
			}
			only = word[1]
		case len(word) == 2 && word[0] == "--" && word[1] == "+end":
			only = ""
		case only == "+postgres" && !postgres, only == "+sqlite" && postgres:
		case len(word) == 3 && word[0] == "--" && word[1] == "+isolate":
			b.WriteString(strings.ReplaceAll(isolation(postgres), "$T", word[2]))
		case len(word) == 3 && word[0] == "--" && word[1] == "+global":
			if postgres {
				b.WriteString("GRANT SELECT, INSERT, UPDATE, DELETE ON " + word[2] + " TO chainreactions_system;\n")
			}
		default:
			if !postgres {
				line = timestamptz.ReplaceAllString(line, "datetime")
			}
			b.WriteString(line + "\n")
		}
	}
	if only != "" {
		return "", fmt.Errorf("%s without +end", only)
	}
	return b.String(), nil
}

func isolation(postgres bool) string {
	if postgres {
		return `ALTER TABLE $T ENABLE ROW LEVEL SECURITY;
ALTER TABLE $T FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON $T TO chainreactions_app, chainreactions_system;
CREATE POLICY tenant ON $T TO chainreactions_app
  USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')))
  WITH CHECK (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')));
CREATE POLICY system ON $T TO chainreactions_system USING (true) WITH CHECK (true);
`
	}
	return `-- +goose StatementBegin
CREATE TRIGGER $T_keeps_tenant BEFORE UPDATE OF tenant_id ON $T
WHEN OLD.tenant_id <> NEW.tenant_id
BEGIN SELECT RAISE(ABORT, 'a row cannot move to another tenant'); END;
-- +goose StatementEnd
`
}
