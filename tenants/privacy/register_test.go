package privacy

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// schema reads every table and column of the product's own.
func schema(t *testing.T, db testdb.DB) map[string][]string {
	t.Helper()
	query := "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
	if db.URL != "" {
		query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
	}
	rows, err := db.SQLDB().Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string][]string{}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(table, "goose_") && !strings.HasPrefix(table, "river_") {
			out[table] = append(out[table], column)
		}
	}
	return out
}

// Every column of the schema has a class, and the register names no other: a new
// column cannot be forgotten by exports and erasures.
func TestEveryColumnIsClassified(t *testing.T) {
	register, err := readRegister(registerText)
	if err != nil {
		t.Fatal(err)
	}
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		columns := schema(t, db)
		for _, r := range register {
			in := r.columns(classes...)
			for _, c := range in {
				if !slices.Contains(columns[r.Table], c) {
					t.Errorf("register.txt: %s.%s is in no migration", r.Table, c)
				}
			}
			for _, c := range columns[r.Table] {
				if !slices.Contains(in, c) {
					t.Errorf("%s.%s has no class in tenants/privacy/register.txt", r.Table, c)
				}
			}
			delete(columns, r.Table)
			for _, c := range r.key {
				if !slices.Contains(in, c) {
					t.Errorf("register.txt: the key of %s names %s", r.Table, c)
				}
			}
		}
		for table := range columns {
			t.Errorf("the table %s is not in tenants/privacy/register.txt: say why it is kept, and the class of every column", table)
		}
	})
}

// A table that refers to another stands after it, so that an erasure can go
// backwards and an import forwards.
func TestOrderFollowsReferences(t *testing.T) {
	register, err := readRegister(registerText)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, r := range register {
		at[r.Table] = i
	}
	db := testdb.SQLite(t)
	rows, err := db.SQLDB().Query(`SELECT m.name, f."table" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		var from, to sql.NullString
		if err := rows.Scan(&from, &to); err != nil {
			t.Fatal(err)
		}
		found++
		if at[from.String] < at[to.String] {
			t.Errorf("%s stands before %s, which it refers to", from.String, to.String)
		}
	}
	if found < 20 {
		t.Errorf("only %d references found", found)
	}
}

// No secret, nor the hash of one, is in what an export may write; what is about
// a person says so.
func TestNoSecretLeaves(t *testing.T) {
	register, err := readRegister(registerText)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range register {
		if r.export == "none" && r.person == "" {
			continue
		}
		for _, c := range r.exported() {
			for _, word := range []string{"password", "secret", "sealed", "token", "salt", "private"} {
				if strings.Contains(c, word) && !strings.HasSuffix(c, "_tokens") {
					t.Errorf("%s.%s would leave in an export", r.Table, c)
				}
			}
		}
		for _, c := range r.columns(classes...) {
			if (c == "user_id" || c == "created_by") && r.person == "" {
				t.Errorf("%s.%s names a person, yet the register does not say which rows are about one", r.Table, c)
			}
		}
	}
}
