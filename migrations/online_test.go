package migrations

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// online is the first file that may meet tables which are used meanwhile and have
// grown: those before it are applied wherever there is anything.
const online = 195

var (
	comments = regexp.MustCompile(`(?m)--.*$`)
	bodies   = regexp.MustCompile(`(?s)\$\$.*?\$\$`)
	makes    = regexp.MustCompile(`(?i)^create table (?:if not exists )?([\w.]+)`)
	alters   = regexp.MustCompile(`(?is)^alter table (?:only )?([\w.]+) (.*)$`)
	indexes  = regexp.MustCompile(`(?is)^create (?:unique )?index (concurrently )?.*? on (?:only )?([\w.]+)`)
	writes   = regexp.MustCompile(`(?is)^(?:update|delete from|truncate|lock|cluster|reindex|vacuum)\b`)
	column   = regexp.MustCompile(`(?is)^add column \w+ [\w\[\]]+(?: not null)?(?: default (?:true|false|\d+|'[^']*'))?$`)
	allowed  = regexp.MustCompile(`(?is)^(?:alter column \w+ (?:drop not null|set default .*|drop default)|add constraint .* not valid|validate constraint \w+|(?:no )?force row level security|enable row level security)$`)
)

// offences are the statements of a file, as PostgreSQL gets it, that would keep
// others from a table for as long as it is large, or take from a former build what
// it asks for.
func offences(text string) (out []string) {
	own := map[string]bool{}
	for _, stmt := range strings.Split(comments.ReplaceAllString(bodies.ReplaceAllString(text, "''"), ""), ";") {
		stmt = strings.Join(strings.Fields(stmt), " ")
		if m := makes.FindStringSubmatch(stmt); m != nil {
			own[m[1]] = true
			continue
		}
		wrong := writes.MatchString(stmt) || strings.HasPrefix(strings.ToLower(stmt), "drop ")
		if m := indexes.FindStringSubmatch(stmt); m != nil {
			wrong = m[1] == "" && !own[m[2]]
		}
		if m := alters.FindStringSubmatch(stmt); m != nil && !own[m[1]] {
			what := strings.TrimSpace(m[2])
			wrong = !allowed.MatchString(what) && (!column.MatchString(what) ||
				strings.Contains(strings.ToLower(what), "not null") && !strings.Contains(strings.ToLower(what), "default"))
		}
		if wrong {
			out = append(out, stmt)
		}
	}
	return out
}

// A build is replaced while it is used: no file of the schema holds a table for
// as long as the table is large, or takes away what the former build asks for.
func TestFilesAreForAUsedDatabase(t *testing.T) {
	rendered, err := render(true)
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(rendered, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range names {
		number, err := strconv.Atoi(name[:4])
		if err != nil {
			t.Fatal(err)
		}
		text, err := fs.ReadFile(rendered, name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), fmt.Sprintf("SET LOCAL lock_timeout = %d;", lockWait.Milliseconds())) {
			t.Errorf("%s waits for a table as long as it takes, and whoever comes waits behind it", name)
		}
		if number < online {
			continue
		}
		seen++
		for _, stmt := range offences(string(text)) {
			t.Errorf("%s: %s: a used table cannot have that. Make it in steps: a column that may be null or has a constant default; a constraint NOT VALID, "+
				"validated in a later file; rows changed by a job; an index CONCURRENTLY; nothing dropped or renamed that the former build asks for", name, stmt)
		}
	}
	if seen == 0 {
		t.Error("no file was read")
	}
	for _, mistake := range []string{
		"CREATE INDEX x ON datasets (name)",
		"CREATE UNIQUE INDEX x ON datasets (tenant_id, name)",
		"ALTER TABLE datasets DROP COLUMN name",
		"ALTER TABLE datasets RENAME COLUMN name TO title",
		"ALTER TABLE datasets RENAME TO lists",
		"ALTER TABLE datasets ALTER COLUMN name TYPE bigint",
		"ALTER TABLE datasets ALTER COLUMN name SET NOT NULL",
		"ALTER TABLE datasets ADD COLUMN x text NOT NULL",
		"ALTER TABLE datasets ADD COLUMN x timestamptz NOT NULL DEFAULT now()",
		"ALTER TABLE datasets ADD COLUMN x text REFERENCES tenants (id)",
		"ALTER TABLE datasets ADD COLUMN x text UNIQUE",
		"ALTER TABLE datasets ADD COLUMN x text, DROP COLUMN name",
		"ALTER TABLE datasets ADD CONSTRAINT x CHECK (name <> '')",
		"ALTER TABLE datasets ADD PRIMARY KEY (id)",
		"UPDATE datasets SET name = ''",
		"DELETE FROM datasets",
		"TRUNCATE datasets",
		"LOCK TABLE datasets",
		"DROP TABLE datasets",
		"DROP INDEX x",
	} {
		if !slices.Equal(offences("-- said before\n"+mistake+";"), []string{mistake}) {
			t.Errorf("this passes: %s", mistake)
		}
	}
	for _, good := range []string{
		"CREATE TABLE x (id text PRIMARY KEY); CREATE INDEX y ON x (id); ALTER TABLE x ADD PRIMARY KEY (id)",
		"CREATE INDEX CONCURRENTLY x ON datasets (name)",
		"ALTER TABLE datasets ADD COLUMN x text",
		"ALTER TABLE datasets ADD COLUMN x boolean NOT NULL DEFAULT false",
		"ALTER TABLE datasets ADD CONSTRAINT x CHECK (name <> '') NOT VALID; ALTER TABLE datasets VALIDATE CONSTRAINT x",
		"ALTER TABLE datasets ALTER COLUMN name DROP NOT NULL",
		"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM datasets; END $$",
	} {
		if found := offences(good); len(found) > 0 {
			t.Errorf("this does not: %q", found)
		}
	}
}
