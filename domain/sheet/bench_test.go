package sheet

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// list is a CSV of n rows as lists are: names, aliases, a country, a date, a
// description.
func list(n int) string {
	var b strings.Builder
	b.WriteString("external_id,name,aliases,countries,published_date,description,program\n")
	for i := range n {
		fmt.Fprintf(&b, "NRO-%06d,\"Institute of Applied Physics No. %d, Branch %d\",IAP %d; Institut Prikladnoy Fiziki %d,Russia,2024-0%d-11,\"Said to be \"\"dual use\"\" since 1999\",SDN\n",
			i, i, i%7, i, i, i%9+1)
	}
	return b.String()
}

// BenchmarkCSV gives the rows a second of whole records beside encoding/csv,
// which gives cells alone.
func BenchmarkCSV(b *testing.B) {
	const rows = 20_000
	text := list(rows)
	b.Run("sheet", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			r, err := Open(strings.NewReader(text), int64(len(text)), Options{})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for ; err == nil; n++ {
				_, err = r.Next()
			}
			if !errors.Is(err, io.EOF) || n != rows+1 {
				b.Fatal(n, err)
			}
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("encoding-csv", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			r := csv.NewReader(strings.NewReader(text))
			r.ReuseRecord = true
			for {
				if _, err := r.Read(); err != nil {
					break
				}
			}
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}
