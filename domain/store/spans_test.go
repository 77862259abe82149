package store

import "testing"

// A span names the verb and the table of a statement, however it is written.
func TestWhatAStatementDoes(t *testing.T) {
	for sql, want := range map[string][2]string{
		"SELECT * FROM `datasets` WHERE id = ?":                 {"SELECT", "datasets"},
		"select count(*) from (SELECT 1 FROM tenants LIMIT 1)":  {"SELECT", "tenants"},
		`INSERT INTO "audit_events" ("id") VALUES ($1)`:         {"INSERT", "audit_events"},
		"\n\tUPDATE usage_writers SET moved = @last":            {"UPDATE", "usage_writers"},
		"DELETE FROM quota_purses":                              {"DELETE", "quota_purses"},
		"SELECT 1":                                              {"SELECT", ""},
		"WITH x AS (SELECT 1) SELECT name FROM people, places;": {"WITH", "people"},
		"": {"", ""},
	} {
		if verb, table := does(sql); verb != want[0] || table != want[1] {
			t.Errorf("%q: %q %q", sql, verb, table)
		}
	}
}
