package migrations_test

import (
	"context"
	"testing"

	"github.com/chainreactions/chainreactions/migrations"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// While somebody reads a table for long, a file that changes it does not let those
// wait who come meanwhile: it steps back, and is applied when its turn comes.
func TestFileStepsBack(t *testing.T) {
	ctx := context.Background()
	db := testdb.OnPostgres(t).SQLDB()
	const table = "public_idempotency_keys"
	for _, text := range []string{"ALTER TABLE " + table + " DROP COLUMN claim, DROP COLUMN committed", "ALTER TABLE idempotency_keys DROP COLUMN claim, DROP COLUMN committed", "DELETE FROM goose_db_version WHERE version_id = 195"} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	long, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Rollback()
	var n int
	if err := long.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	applied := make(chan error, 1)
	go func() { _, err := migrations.Up(ctx, db, true); applied <- err }()
	for waits := false; !waits; {
		select {
		case err := <-applied:
			t.Fatalf("it was applied under a reader: %v", err)
		default:
		}
		if err := db.QueryRow("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = '" + table + "'::regclass)").Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	short, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer short.Rollback()
	if _, err := short.Exec("SET LOCAL statement_timeout = '20s'"); err != nil {
		t.Fatal(err)
	}
	if err := short.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Errorf("who comes meanwhile waits for the long reader: %v", err)
	}
	if err := short.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := long.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-applied; err != nil {
		t.Errorf("it was not applied: %v", err)
	}
}
