package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"
)

// keeping is a database on one connection that keeps so many statements.
func keeping(t testing.TB, most int) (*sql.DB, *sqliteConn) {
	t.Helper()
	c, err := sqlite.NewConnector("file:" + filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	inner, err := c.Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	conn := newSQLiteConn(inner.(driverConn), most)
	db := sql.OpenDB(only{sqliteConnector{c}, conn})
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db, conn
}

// only gives one connection, and no other.
type only struct {
	driver.Connector
	conn driver.Conn
}

func (o only) Connect(context.Context) (driver.Conn, error) { return o.conn, nil }

// What a statement says is the same however often it was asked on its connection:
// within its own rows, after a failure, after the schema has changed, and when so
// many others were asked that it was let go.
func TestStatementsAreKept(t *testing.T) {
	const most = 3
	db, conn := keeping(t, most)
	exec := func(q string, args ...any) error { _, err := db.Exec(q, args...); return err }
	if err := exec("CREATE TABLE a (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE); CREATE TABLE b (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	const insert, list = "INSERT INTO a (id, word) VALUES (?, ?)", "SELECT * FROM a WHERE id > ? ORDER BY id"
	for i := range 5 {
		if err := exec(insert, i, fmt.Sprint("w", i)); err != nil {
			t.Fatal(err)
		}
		if err := exec(insert, i, "again"); err == nil || !strings.Contains(err.Error(), "UNIQUE") {
			t.Errorf("the same key again: %v", err)
		}
	}
	if n := conn.kept.Len(); n != 1 {
		t.Errorf("%d statements are kept", n)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	read := func(after int) (out string) {
		rows, err := tx.Query(list, after)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id int
			var word string
			if err := rows.Scan(&id, &word); err != nil {
				t.Fatal(err)
			}
			out += word + " "
			if after < 1 && id == 2 {
				break // the rest is not read
			}
		}
		return out
	}
	rows, err := tx.Query(list, 1)
	if err != nil || !rows.Next() {
		t.Fatal(err)
	}
	for i := range most + 1 { // the rows that are open outlive their statement's place
		var n int
		if err := tx.QueryRow("SELECT count(*) + "+fmt.Sprint(i)+" FROM b WHERE id <> ?", 0).Scan(&n); err != nil || n != i {
			t.Errorf("%d %v", n, err)
		}
	}
	if got := read(2); got != "w3 w4 " {
		t.Errorf("within its own rows: %q", got)
	}
	n := 1
	for rows.Next() {
		n++
	}
	if err := rows.Close(); err != nil || rows.Err() != nil || n != 3 {
		t.Errorf("%d rows, %v %v", n, err, rows.Err())
	}
	if a, b := read(0), read(0); a != "w1 w2 " || a != b {
		t.Errorf("%q and %q", a, b)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := exec("ALTER TABLE a ADD COLUMN more TEXT DEFAULT 'x'"); err != nil { // no statement that is kept holds it up
		t.Fatal(err)
	}
	rows, err = db.Query(list, 3)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := rows.Columns()
	if rows.Close(); err != nil || len(columns) != 3 {
		t.Errorf("after the schema changed: %v %v", columns, err)
	}
	if err := exec("DROP TABLE b"); err != nil {
		t.Fatal(err)
	}
	if err := exec("DELETE FROM b WHERE id = ?", 1); err == nil {
		t.Error("a table that is gone")
	}
	if n := conn.kept.Len(); n > most {
		t.Errorf("%d statements are kept", n)
	}
}

// BenchmarkStatements: a transaction of four short statements, kept and not.
func BenchmarkStatements(b *testing.B) {
	for _, most := range []int{1, keptStatements} { // with room for one, each makes the next one's place
		b.Run(fmt.Sprintf("kept=%d", most), func(b *testing.B) {
			db, _ := keeping(b, most)
			if _, err := db.Exec("CREATE TABLE a (id INTEGER PRIMARY KEY, word TEXT, n INTEGER); INSERT INTO a VALUES (1, 'w', 0)"); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				tx, err := db.Begin()
				if err != nil {
					b.Fatal(err)
				}
				for _, q := range []string{"UPDATE a SET n = n + 1 WHERE id = ? AND word <> ''", "UPDATE a SET word = ? WHERE id = 1", "UPDATE a SET n = n WHERE id = ? OR word IN (SELECT word FROM a WHERE n < 0)", "DELETE FROM a WHERE id = ? AND n < 0"} {
					if _, err := tx.Exec(q, 1); err != nil {
						b.Fatal(err)
					}
				}
				if err := tx.Rollback(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
