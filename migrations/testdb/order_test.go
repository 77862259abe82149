package testdb

import (
	"context"
	"testing"

	"github.com/chainreactions/chainreactions/migrations"
)

// A database that has every later file takes an earlier one that is new.
func TestAnEarlierFileMayBeNew(t *testing.T) {
	Each(t, func(t *testing.T, db DB) {
		for _, undo := range []string{"ALTER TABLE research_runs DROP COLUMN imported_at", "DELETE FROM goose_db_version WHERE version_id = 96"} {
			if _, err := db.SQLDB().Exec(undo); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := migrations.Up(context.Background(), db.SQLDB(), db.URL != ""); n != 1 || err != nil {
			t.Errorf("%d files applied, want 1: %v", n, err)
		}
		if n, err := migrations.Pending(context.Background(), db.SQLDB(), db.URL != ""); n != 0 || err != nil {
			t.Errorf("%d files wait: %v", n, err)
		}
	})
}
