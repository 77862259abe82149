package sheet

import (
	"bytes"
	"encoding/csv"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Every code has a sentence in both languages.
func TestMessages(t *testing.T) {
	for code, m := range Messages {
		if m[0] == "" || m[1] == "" || m[0] == m[1] {
			t.Errorf("%s: %q", code, m)
		}
	}
	if got := fault(DuplicateHeader, 1, "%q", "x").In("zh"); got != "两列的标题相同。 (\"x\")" {
		t.Error(got)
	}
}

// A quote left open costs its own line, not the entities below it.
func TestOpenQuote(t *testing.T) {
	for text, want := range map[string][]string{
		"name,x\nA,1\n\"B,2\nC,3\nD,4\n":          {"A", "!3", "C", "D"}, // never closed
		"name,x\nA,1\n\"B,2\nC,\"3\"\nD,4\n":      {"A", "!3", "C", "D"}, // closed by the next cell's opening quote
		"name,x\n\"the \"Rose\" Ltd\",1\nB,2\n":   {`the "Rose" Ltd`, "B"},
		"name,x\n \"A, Inc.\" , 1\nB \"b\" C,2\n": {"A, Inc.", `B "b" C`},
	} {
		_, rows, err := readAll(t, text, Options{})
		var got []string
		for _, r := range rows {
			if r.Rejected {
				got = append(got, "!"+string(rune('0'+r.Line)))
			} else {
				got = append(got, r.Record.Name)
			}
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q %v, want %q", text, got, err, want)
		}
	}
	// Quotes made to be read again and again end, instead of taking for ever.
	evil := "name,x\n" + strings.Repeat("x\",\"\n", 1<<20)
	r, err := Open(strings.NewReader(evil), int64(len(evil)), Options{})
	for err == nil {
		_, err = r.Next()
	}
	if IsFileError(err) != TooManyOpenQuotes {
		t.Error(err)
	}
}

func TestDates(t *testing.T) {
	for in, want := range map[string]string{
		"2024-05-31": "2024-05-31", "2024-05": "2024-05", "2024": "2024", "5.3.2024": "2024-03-05", "5.3.24": "2024-03-05",
		"2024年3月5日": "2024-03-05", "2024 年 3 月 5 日": "2024-03-05", "令和6年1月9日": "2024-01-09", "平成元年1月8日": "1989-01-08",
		"2024-03-05T23:00:00+09:00": "2024-03-05", "2025-03-14T00:00:00": "2025-03-14", "9 January 2024": "2024-01-09",
		"Not yet reviewed": "", "2024-02-30": "", "01/02/2024": "", "0000-00-00": "", "31.2.2024": "", "": "",
	} {
		got, ok := isoDate(in)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
}

// A FollowTheMoney file gives the names, countries and properties; what is no
// entity to match is told and left out.
func TestFollowTheMoney(t *testing.T) {
	text := `{"id":"NK-1","schema":"Company","caption":"ACME","properties":{"name":["Акме","ACME"],"alias":["A; B"],"previousName":["Old"],"weakAlias":["Ac"],"jurisdiction":["ru"],"country":["ru","by"],"topics":["sanction"],"createdAt":["soon"]},"datasets":["x"]}
{"id":"o","schema":"Ownership","properties":{"owner":["NK-1"]}}

{"id":"bad"
{"id":"n","schema":"Starship","properties":{"alias":["Only alias"]}}
[1]
`
	info, rows, err := readAll(t, text, Options{})
	if err != nil || info.Format != FTM || len(rows) != 5 {
		t.Fatalf("%+v %d %v", info, len(rows), err)
	}
	r := rows[0].Record
	if r.Name != "ACME" || !reflect.DeepEqual(r.Aliases, []string{"Акме", "A; B", "Old", "Ac"}) || !reflect.DeepEqual(r.Countries, []string{"ru", "by"}) ||
		r.ExternalID != "NK-1" || r.Properties["topics"][0] != "sanction" || r.Properties["createdAt"][0] != "soon" {
		t.Errorf("%+v", r)
	}
	for i, want := range []string{InvalidDate, NotListed, InvalidJSON, UnknownSchema, InvalidEntity} {
		if rows[i].Issues[0].Code != want {
			t.Errorf("row %d: %+v, want %s", i, rows[i].Issues, want)
		}
	}
}

// What is exported reads back the same, holds no formula and is allowed by the
// FollowTheMoney model.
func TestRoundTrip(t *testing.T) {
	lat := -1.5
	in := Record{Name: "=cmd|' /C calc'!A0", Aliases: []string{"A, B", `C "c"`, "+x", "'@y"}, Countries: []string{"RU", "BY"}, Latitude: &lat, SchemaType: "Company",
		ExternalID: "-12", Description: "two\nlines", SourceURL: "https://example.org/?a=1;b=2", Published: "2024-05", Properties: map[string][]string{"Pays": {"=1", "x"}, "leiCode": {"L1"}}}
	var b bytes.Buffer
	w := WriteCSV(&b)
	_ = w.Write(&in)
	if err := w.Flush(); err != nil || strings.Contains(b.String(), "\n=") || !strings.Contains(b.String(), "'=cmd") || !strings.Contains(b.String(), ",-1.5,") {
		t.Fatalf("%s %v", b.String(), err)
	}
	_, rows, err := readAll(t, b.String(), Options{})
	if err != nil || len(rows) != 1 || !reflect.DeepEqual(rows[0].Record, in) {
		t.Errorf("%+v %v\nwant %+v", rows, err, in)
	}
	if p := in.Entity().Validate(); p != nil {
		t.Errorf("the model does not allow %v", p)
	}
}

// randomRecord is a listed entity made of what breaks lists: separators,
// quotes, backslashes, line ends, signs of formulas, many scripts.
func randomRecord(r *rand.Rand) Record {
	text := func() string {
		pieces := []string{"A", "b ", "；", ";", "|", ",", `\`, `"`, "'", "=", "+1", "-", "@x", "\n", "\r\n", "\t", "&amp;", "&", "名", "Ё", "é", "＝", " ", "\u00a0", "{", "}", "1.5", "#"}
		var b strings.Builder
		for range 1 + r.IntN(8) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return trim(b.String())
	}
	list := func() (out []string) {
		for range r.IntN(4) {
			if v := text(); v != "" && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
		return out
	}
	rec := Record{Name: text() + "n", Aliases: list(), Countries: list(), Cities: list(), SchemaType: text(), ExternalID: text(), Description: text()}
	if r.IntN(2) == 0 {
		lat := float64(r.IntN(180000)-90000) / 1000
		rec.Latitude, rec.SourceURL, rec.Published, rec.Updated = &lat, "https://example.org/?a=1;b=|2", "2024-05", "2024-05-31"
	}
	for range r.IntN(3) {
		rec.keep(text()+"k", append(list(), text()+"v")...)
	}
	return rec
}

// Whatever a record holds, it is written, read and written again the same, in
// every format; and no cell of the CSV is a formula.
func TestEveryRecordComesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2026))
	for i := range 2000 {
		in := randomRecord(random)
		for format, writer := range map[string]func(io.Writer) *Writer{"csv": WriteCSV, "jsonl": WriteJSONL, "ftm": WriteFTM} {
			var first, again bytes.Buffer
			w := writer(&first)
			_ = w.Write(&in)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if format == "ftm" && in.ExternalID == "" {
				continue // an entity has an id
			}
			_, rows, err := readAll(t, first.String(), Options{})
			if err != nil || len(rows) != 1 || rows[0].Rejected {
				t.Fatalf("record %d, %s: %+v %v\n%s", i, format, rows, err, first.String())
			}
			if got := rows[0].Record; format != "ftm" && !reflect.DeepEqual(got, in) {
				t.Fatalf("record %d, %s:\n%+v\nwant\n%+v\n%s", i, format, got, in, first.String())
			}
			w = writer(&again)
			_ = w.Write(&rows[0].Record)
			_ = w.Flush()
			if first.String() != again.String() {
				t.Fatalf("record %d, %s: first and second export differ\n%s%s", i, format, first.String(), again.String())
			}
			if format == "csv" {
				cells, err := csv.NewReader(&again).ReadAll()
				for _, c := range cells[1] {
					if err != nil || c != "" && strings.ContainsAny(c[:1], "=+-@\t\r\n") && !number.MatchString(c) {
						t.Fatalf("record %d: a spreadsheet takes %q for a formula (%v)", i, c, err)
					}
				}
			} else if p := in.Entity().Validate(); p != nil && in.ExternalID != "" {
				t.Fatalf("record %d: the model does not allow %v", i, p)
			}
		}
	}
}

// long is a list of size bytes that is never in memory.
type long struct{ size int64 }

const longHead, longRow = "name,aliases\n", "Institute of Applied Physics,IAP; IPF\n"

func (l long) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for ; n < len(p) && off < l.size; n, off = n+1, off+1 {
		if off < int64(len(longHead)) {
			p[n] = longHead[off]
		} else {
			p[n] = longRow[(off-int64(len(longHead)))%int64(len(longRow))]
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Memory does not grow with the file: after the first rows the heap in use
// stays where it is.
func TestBoundedMemory(t *testing.T) {
	l := long{64 << 20}
	r, err := Open(l, l.size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, rows := heap(), 0
	for ; err == nil; rows++ {
		_, err = r.Next()
	}
	if after := heap(); err != io.EOF || rows < 1_000_000 || after > before+(4<<20) || cap(r.to) == 0 {
		t.Errorf("%d rows, %v, heap from %d to %d", rows, err, before, after)
	}
}
