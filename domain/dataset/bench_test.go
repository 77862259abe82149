package dataset_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// listCSV is a list of n rows as lists are: two aliases, a country by its
// name, a date, a description and a column of the publisher's own.
func listCSV(n int) string {
	var b strings.Builder
	b.WriteString("external_id,name,aliases,countries,published_date,description,program\n")
	for i := range n {
		fmt.Fprintf(&b, "NRO-%07d,\"Institute of Applied Physics No. %d, Branch %d\",IAP %d; Institut Prikladnoy Fiziki %d,Russia,2024-0%d-11,\"Said to be \"\"dual use\"\" since 1999\",SDN\n",
			i, i, i%7, i, i, i%9+1)
	}
	return b.String()
}

// BenchmarkImport gives the rows a second of whole imports, from the uploaded
// file to the list that readers see, beside COPY of the same file into a bare
// table of the same PostgreSQL in the same run.
func BenchmarkImport(b *testing.B) {
	const rows = 100_000
	text := listCSV(rows)
	pg := testdb.OnPostgres(b)
	conn, err := pgx.Connect(context.Background(), pg.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec := func(sql string) {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			b.Fatal(err)
		}
	}
	exec("CREATE TABLE bare (external_id text, name text, aliases text, countries text, published_date text, description text, program text)")
	var copied float64
	b.Run("COPY", func(b *testing.B) {
		for b.Loop() {
			exec("TRUNCATE bare")
			tag, err := conn.PgConn().CopyFrom(context.Background(), strings.NewReader(text), "COPY bare FROM STDIN (FORMAT csv, HEADER)")
			if err != nil || tag.RowsAffected() != rows {
				b.Fatal(tag, err)
			}
		}
		copied = rows * float64(b.N) / b.Elapsed().Seconds()
		b.ReportMetric(copied, "rows/s")
	})
	for _, c := range []struct {
		name string
		db   testdb.DB
	}{{"postgres", pg}, {"sqlite", testdb.SQLite(b)}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, c.db, nil)
			var took time.Duration
			for b.Loop() {
				im := r.start(r.create(r.a), "append", text)
				start := time.Now()
				if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil {
					b.Fatal(err)
				}
				took += time.Since(start)
				if im, err = r.GetImport(r.a, dataset.IDRequest{ID: im.ID}); err != nil || im.RowsAccepted != rows || im.Issues != 0 {
					b.Fatalf("%+v %v", im, err)
				}
			}
			got := rows * float64(b.N) / took.Seconds()
			b.ReportMetric(got, "rows/s")
			if copied > 0 {
				b.ReportMetric(got/copied, "of-COPY")
			}
		})
	}
}

// BenchmarkSearchWithinAList gives the time of a page of a search on
// PostgreSQL, with our index and as LIKE over every row does it.
func BenchmarkSearchWithinAList(b *testing.B) {
	const rows = 200_000
	r := newRig(b, testdb.OnPostgres(b), nil)
	id := r.create(r.a)
	im := r.start(id, "append", listCSV(rows))
	if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil {
		b.Fatal(err)
	}
	search := func(b *testing.B, q string, want int) {
		for b.Loop() {
			page, err := r.Entries(r.a, dataset.EntriesRequest{DatasetID: id, Q: q})
			if err != nil || len(page.Data) != want {
				b.Fatalf("%d entries, %v", len(page.Data), err)
			}
		}
	}
	both := func(state string) {
		for name, c := range map[string]struct {
			q    string
			want int
		}{"one of them": {"No. 199999,", 1}, "none": {"hydroacoustics", 0}} {
			b.Run(state+"/"+name, func(b *testing.B) { search(b, c.q, c.want) })
		}
	}
	both("scan")
	start := time.Now()
	if err := r.RunBuildSearch(r.a, dataset.BuildSearch{ImportID: im.ID}); err != nil {
		b.Fatal(err)
	}
	b.Logf("%.0f entries a second into the index", rows/time.Since(start).Seconds())
	both("index")
}
