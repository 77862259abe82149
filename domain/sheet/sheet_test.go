package sheet

import (
	"encoding/csv"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/chainreactions/chainreactions/samples/realdata"
)

func readAll(t *testing.T, text string, o Options) (Info, []Row, error) {
	t.Helper()
	r, err := Open(strings.NewReader(text), int64(len(text)), o)
	if err != nil {
		return Info{}, nil, err
	}
	var rows []Row
	for {
		row, err := r.Next()
		if err == io.EOF {
			return r.Info(), rows, nil
		}
		if err != nil {
			return r.Info(), rows, err
		}
		rows = append(rows, row)
	}
}

// The same list gives the same records in every encoding and delimiter.
func TestEncodingsAndDelimiters(t *testing.T) {
	for _, c := range []struct {
		name, text string
		enc        encoding.Encoding
	}{
		{"utf-8", "name,country\nÉcole Polytechnique,France\n", nil},
		{"utf-8-bom", "\ufeffname;country\nÉcole Polytechnique;France\n", nil},
		{"utf-16le", "name\tcountry\nÉcole Polytechnique\tFrance\n", unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)},
		{"utf-16be", "name|country\r\nÉcole Polytechnique|France\r\n", unicode.UTF16(unicode.BigEndian, unicode.UseBOM)},
		{"utf-16le", "name,country\nAcademy of Science,France\n", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
		{"gb18030", "名称,国家\n国防科技大学,中国\n哈尔滨工业大学,中国\n", simplifiedchinese.GB18030},
		{"shift_jis", "名前,国名\n株式会社タムボフ工場,ロシア\nモスクワ航空研究所,ロシア\n", japanese.ShiftJIS},
		{"windows-1252", "name,country\r\rÉcole Polytechnique,France", charmap.Windows1252},
	} {
		raw := c.text
		if c.enc != nil {
			var err error
			if raw, err = c.enc.NewEncoder().String(c.text); err != nil {
				t.Fatal(err)
			}
		}
		info, rows, err := readAll(t, raw, Options{})
		if err != nil || info.Encoding != c.name || len(rows) == 0 {
			t.Errorf("%s: %+v %d rows %v", c.name, info, len(rows), err)
			continue
		}
		if rec := rows[0].Record; !strings.Contains(c.text, rec.Name) || len(rec.Countries) != 1 {
			t.Errorf("%s: %+v", c.name, rec)
		}
	}
}

// Columns are known by whole words in any case and order; the headers that
// misled the earlier system do not mislead this one.
func TestColumns(t *testing.T) {
	for header, want := range map[string][]string{
		"name,country":                           {"name", "countries"},
		"id,alternative_names,Organization Name": {"external_id", "aliases", "name"},
		"Aliases,NAME,Longitude,lat,x":           {"aliases", "name", "longitude", "latitude", "properties.x"},
		"name,organization_name":                 {"name", "properties.organization_name"},
		"username,program_ids,名称":                {"properties.username", "properties.program_ids", "name"},
	} {
		info, _, err := readAll(t, header+"\n", Options{})
		if err != nil && IsFileError(err) != "" {
			t.Errorf("%s: %v", header, err)
			continue
		}
		var got []string
		for _, c := range info.Columns {
			got = append(got, c.Field)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", header, got, want)
		}
	}
}

// What is wrong with a cell is told with line, column, code and value; a row
// is lost only where it names nothing that could be matched.
func TestRowIssues(t *testing.T) {
	text := "name,aliases,updated_date,latitude\n" +
		"A,\"X Co., Ltd.; (ABC); A; Y.\",Not yet reviewed,200\n" + // line 2
		",nobody,,\n" + // 3
		"\"two\nlines\",,5.3.2024,1\n" + // 4 and 5
		"B,,2024年3月5日,1,extra\n" + // 6
		"C\n" + // 7
		"D\x00,,,\n" // 8
	_, rows, err := readAll(t, text, Options{})
	if err != nil || len(rows) != 6 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	a := rows[0]
	if a.Rejected || !reflect.DeepEqual(a.Record.Aliases, []string{"X Co., Ltd.", "(ABC)", "Y."}) ||
		a.Record.Properties["updated_date"][0] != "Not yet reviewed" || a.Record.Latitude != nil {
		t.Errorf("%+v", a)
	}
	codes := func(r Row) (out []string) {
		for _, i := range r.Issues {
			out = append(out, i.Code)
			if Messages[i.Code][1] == "" {
				t.Errorf("%s has no Chinese", i.Code)
			}
		}
		return out
	}
	for i, want := range []struct {
		line     int64
		rejected bool
		codes    []string
	}{
		{2, false, []string{"invalid_date", "invalid_latitude"}}, {3, true, []string{"missing_name"}}, {4, false, nil},
		{6, true, []string{"ragged_row"}}, {7, false, []string{"short_row"}}, {8, true, []string{"nul_byte"}},
	} {
		if r := rows[i]; r.Line != want.line || r.Rejected != want.rejected || !reflect.DeepEqual(codes(r), want.codes) {
			t.Errorf("row %d: line %d rejected %v %v, want %+v", i, r.Line, r.Rejected, codes(r), want)
		}
	}
	if rows[2].Record.Updated != "2024-03-05" || rows[2].Record.Name != "two\nlines" {
		t.Errorf("%+v", rows[2].Record)
	}
}

// endless is a file of one line without an end.
type endless struct{ read int64 }

func (e *endless) ReadAt(p []byte, off int64) (int, error) {
	e.read += int64(len(p))
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// A file that is no list is refused with its reason, and a gigabyte of one
// line is refused after the first megabytes.
func TestUnusableFiles(t *testing.T) {
	for want, text := range map[string]string{
		"empty_file": "", "no_name_column": "colour,size\nred,1\n", "duplicate_header": "name,Name\nx,y\n",
		"damaged_workbook": "PK\x03\x04rest", "unsupported_format": "%PDF-1.7", "too_many_columns": "name" + strings.Repeat(",c", 2000) + "\n",
		"row_too_long": "name\n" + strings.Repeat("x", 8<<20+1),
	} {
		_, _, err := readAll(t, text, Options{})
		if got := IsFileError(err); got != want {
			t.Errorf("%s: got %q (%v)", want, got, err)
		}
	}
	e := &endless{}
	_, err := Open(e, 1<<30, Options{})
	if IsFileError(err) != "row_too_long" || e.read > 12<<20 {
		t.Errorf("%v after %d bytes", err, e.read)
	}
	if _, rows, err := readAll(t, "name\n", Options{}); err != nil || len(rows) != 0 {
		t.Errorf("a header alone: %v", err)
	}
}

// The real lists, the Japanese one first, give the same records in every
// encoding that can write them and with every delimiter.
func TestRealListsInEveryEncoding(t *testing.T) {
	encodings := map[string]encoding.Encoding{"utf-8": nil, "utf-8-bom": unicode.UTF8BOM, "utf-16le": unicode.UTF16(unicode.LittleEndian, unicode.UseBOM),
		"utf-16be": unicode.UTF16(unicode.BigEndian, unicode.UseBOM), "gb18030": simplifiedchinese.GB18030, "shift_jis": japanese.ShiftJIS, "windows-1252": charmap.Windows1252}
	tried := map[string]int{}
	for _, name := range []string{"japan_meti_russian_list_2025-03-14.csv", "canadian_nro_list_2024-01-09.csv", "canadian_listed_terrorist_entities.csv"} {
		cells, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(realdata.List(t, name)), "\ufeff"))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for label, enc := range encodings {
			can := cells
			if enc != nil { // rows with a character that the encoding does not have stay out
				can = slices.DeleteFunc(slices.Clone(cells), func(row []string) bool { _, err := enc.NewEncoder().String(strings.Join(row, "")); return err != nil })
			}
			for _, delimiter := range ",;\t|" {
				var b strings.Builder
				w := csv.NewWriter(&b)
				w.Comma = delimiter
				_ = w.WriteAll(can)
				text := b.String()
				beyond := strings.IndexFunc(text, func(r rune) bool { return r > 127 }) >= 0
				if label == "shift_jis" && !strings.HasPrefix(name, "japan") || label == "windows-1252" && strings.HasPrefix(name, "japan") || !beyond || len(can) < len(cells)/3 {
					continue // it would not be written so
				}
				_, want, err := readAll(t, text, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if enc != nil {
					if text, err = enc.NewEncoder().String(text); err != nil {
						t.Fatal(err)
					}
				}
				info, got, err := readAll(t, text, Options{})
				if err != nil || info.Encoding != label || info.Delimiter != string(delimiter) || len(got) != len(can)-1 || len(want) != len(got) {
					t.Errorf("%s as %s with %q: %s with %q, %d rows of %d, %v", name, label, delimiter, info.Encoding, info.Delimiter, len(got), len(can)-1, err)
					continue
				}
				tried[label] += len(got)
				for i := range got {
					if !reflect.DeepEqual(got[i].Record, want[i].Record) {
						t.Errorf("%s as %s with %q, row %d: %+v, want %+v", name, label, delimiter, i, got[i].Record, want[i].Record)
						break
					}
				}
			}
		}
	}
	for label := range encodings {
		if tried[label] < 4*60 {
			t.Errorf("%s: %d rows", label, tried[label])
		}
	}
	t.Log(tried)
}

// The real lists lose no row.
func TestRealLists(t *testing.T) {
	for name, want := range map[string]struct{ rows, aliases, warnings int }{
		"canadian_nro_list_2024-01-09.csv":                 {103, 253, 0},
		"canadian_listed_terrorist_entities.csv":           {90, 707, 0},
		"canadian_listed_terrorist_entities_bad_dates.csv": {90, 707, 19},
		"japan_meti_russian_list_2025-03-14.csv":           {620, 2984, 0},
	} {
		_, rows, err := readAll(t, string(realdata.List(t, name)), Options{})
		var aliases, warnings, rejected int
		for _, r := range rows {
			aliases += len(r.Record.Aliases)
			warnings += len(r.Issues)
			if r.Rejected {
				rejected++
			}
		}
		if err != nil || len(rows) != want.rows || rejected != 0 || warnings != want.warnings || aliases < want.aliases-20 {
			t.Errorf("%s: %d rows, %d rejected, %d aliases of %d, %d warnings, %v", name, len(rows), rejected, aliases, want.aliases, warnings, err)
		}
	}
}

// No input makes the reader panic or run on for ever.
func FuzzReader(f *testing.F) {
	f.Add("name,country\na,b\n")
	f.Add("\xff\xfen\x00a\x00m\x00e\x00\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		_, rows, err := readAll(t, text, Options{})
		var fe *FileError
		if err != nil && !errors.As(err, &fe) {
			t.Fatalf("untyped error: %v", err)
		}
		if len(rows) > len(text)+1 {
			t.Fatal("more rows than bytes")
		}
	})
}
