package sheet

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// A workbook as Excelize writes it: a sheet of remarks first, a title above
// the header, merged and empty cells, dates in two formats, rich text, a
// formula that was never calculated, a hidden sheet.
func TestWorkbook(t *testing.T) {
	raw, err := os.ReadFile("testdata/list.xlsx")
	if err != nil {
		t.Fatal(err)
	}
	info, rows, err := readAll(t, string(raw), Options{Filename: "list.csv"}) // whatever it is called
	if err != nil || info.Format != XLSX || info.Sheet != "名单" || !reflect.DeepEqual(info.Sheets, []string{"Read me", "名单", "Hidden"}) || len(rows) != 4 {
		t.Fatalf("%+v %d rows %v", info, len(rows), err)
	}
	a, b, c := rows[0].Record, rows[1].Record, rows[2].Record
	if a.Name != "青岚航天技术大学" || !reflect.DeepEqual(a.Aliases, []string{"QUAT", "Qinglan Aerospace College, Ltd."}) || a.Published != "2024-03-05" ||
		a.Latitude == nil || *a.Latitude != 39.9042 || a.ExternalID != "00123" || rows[0].Line != 4 {
		t.Errorf("%+v", a)
	}
	if len(rows[0].Issues) != 1 || rows[0].Issues[0].Code != FormulaError {
		t.Errorf("%+v", rows[0].Issues)
	}
	if b.Countries[0] != "China" || b.Published != "2024-01-09" || b.ExternalID != "1234567" {
		t.Errorf("%+v", b)
	}
	if c.Name != "Delta Precision" || c.ExternalID != "TRUE" || rows[2].Line != 7 || c.Properties["Published_Date"][0] != "Not yet reviewed" {
		t.Errorf("%+v", c)
	}
	if !rows[3].Rejected || rows[3].Line != 8 || rows[3].Issues[0].Code != MissingName {
		t.Errorf("%+v", rows[3])
	}
	if _, rows, err := readAll(t, string(raw), Options{Sheet: "Hidden"}); err != nil || len(rows) != 1 || rows[0].Record.Name != "Secret" {
		t.Errorf("the sheet asked for: %+v %v", rows, err)
	}
	if _, _, err := readAll(t, string(raw), Options{Sheet: "Sheet9"}); IsFileError(err) != NoSheet {
		t.Error(err)
	}
	// Cut anywhere, it is damaged and nothing else happens.
	for n := 30; n < len(raw); n += 97 {
		if _, _, err := readAll(t, string(raw[:n]), Options{}); IsFileError(err) != DamagedWorkbook {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	// With any byte changed, it is read, or refused with a reason.
	for n := 0; n < len(raw); n += 7 {
		bad := bytes.Clone(raw)
		bad[n] ^= 0x55
		if _, _, err := readAll(t, string(bad), Options{}); err != nil && IsFileError(err) == "" {
			t.Fatalf("byte %d: %v", n, err)
		}
	}
}

// xlsx makes a workbook of one sheet; parts go over or beside the usual ones.
func xlsx(t *testing.T, sheet string, parts map[string]string) string {
	t.Helper()
	all := map[string]string{
		"_rels/.rels":                `<Relationships><Relationship Id="r" Type="x/officeDocument" Target="xl/workbook.xml"/></Relationships>`,
		"xl/workbook.xml":            `<workbook><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>`,
		"xl/_rels/workbook.xml.rels": `<Relationships><Relationship Id="r1" Type="x/worksheet" Target="worksheets/s.xml"/><Relationship Id="r2" Type="x/sharedStrings" Target="t.xml"/></Relationships>`,
		"xl/worksheets/s.xml":        `<worksheet><sheetData>` + sheet + `</sheetData></worksheet>`,
	}
	for name, text := range parts {
		all[name] = text
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range all {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const header = `<row r="1"><c r="A1" t="inlineStr"><is><t>name</t></is></c><c r="B1" t="inlineStr"><is><t>notes</t></is></c></row>`

// A pronunciation is no part of a text, an escaped character is the character,
// an error is no value, a row of more cells than the header is told.
func TestWorkbookCells(t *testing.T) {
	_, rows, err := readAll(t, xlsx(t, header+
		`<row><c t="s"><v>0</v></c><c t="str"><f>A1</f><v>two_x000A_lines</v></c></row>`+
		`<row r="9"><c r="A9" t="s"><v>1</v></c><c r="B9" t="e"><f>1/0</f><v>#DIV/0!</v></c></row>`+
		`<row><c t="inlineStr"><is><t>C</t></is></c><c/><c r="Z10"><v>7</v></c></row>`+
		`<row><c t="s"><v>99</v></c></row>`, map[string]string{"xl/t.xml": `<sst><si><t>東京</t><rPh sb="0" eb="1"><t>トウキョウ</t></rPh></si><si><r><t>B</t></r><r><t xml:space="preserve"> two</t></r></si></sst>`}), Options{})
	if err != nil || len(rows) != 4 {
		t.Fatalf("%d rows %v", len(rows), err)
	}
	if r := rows[0]; r.Record.Name != "東京" || r.Record.Description != "two\nlines" || r.Line != 2 {
		t.Errorf("%+v", r)
	}
	if r := rows[1]; r.Record.Name != "B two" || r.Record.Description != "" || r.Issues[0].Code != FormulaError || r.Line != 9 {
		t.Errorf("%+v", r)
	}
	if r := rows[2]; !r.Rejected || r.Issues[0].Code != RaggedRow {
		t.Errorf("%+v", r)
	}
	if r := rows[3]; !r.Rejected {
		t.Errorf("a text that is not in the table: %+v", r)
	}
}

func TestWorkbookDates(t *testing.T) {
	for serial, want := range map[float64]string{1: "1900-01-01", 59: "1900-02-28", 61: "1900-03-01", 45352: "2024-03-01", 45352.5: "2024-03-01T12:00:00", 0.25: "06:00:00", -1: "", 3e6: ""} {
		if got := dateText(serial, false); got != want {
			t.Errorf("%v: %q, want %q", serial, got, want)
		}
	}
	if got := dateText(43890, true); got != "2024-03-01" {
		t.Error(got)
	}
	for code, want := range map[string]bool{"yyyy-mm-dd": true, `0.00" days"`: false, `[$-411]ggge"年"`: false, `[h]:mm`: true, `#,##0\ [$€-407]`: false, "General": false, "[Red]0;dd": false} {
		if dateFormat(code) != want {
			t.Errorf("%s: %v", code, !want)
		}
	}
}

// What would cost more than it may is refused, in little memory and time: parts
// that unzip to gigabytes, tables of empty texts, one endless token, rows
// without an end, a directory of a hundred thousand parts.
func TestWorkbookBombs(t *testing.T) {
	zeros := strings.Repeat(" ", 130<<20)
	many := map[string]string{}
	for i := range 60_000 {
		many[fmt.Sprintf("xl/%060d.xml", i)] = ""
	}
	for name, c := range map[string]struct{ raw, want string }{
		"blanks":    {xlsx(t, header+zeros, nil), WorkbookTooLarge},
		"token":     {xlsx(t, header+`<row><c t="inlineStr"><is><t>`+zeros[:20<<20]+`</t></is></c></row>`, nil), WorkbookTooLarge},
		"row":       {xlsx(t, header+`<row>`+strings.Repeat(`<c t="inlineStr"><is><t>`+zeros[:1<<20]+`x</t></is></c>`, 20)+`</row>`, nil), RowTooLong},
		"texts":     {xlsx(t, header, map[string]string{"xl/t.xml": "<sst>" + strings.Repeat("<si/>", 1<<20) + "</sst>"}), WorkbookTooLarge},
		"row 2^31":  {xlsx(t, header+`<row r="2147483648"><c><v>1</v></c></row>`, nil), DamagedWorkbook},
		"backwards": {xlsx(t, header+`<row r="7"><c><v>1</v></c></row><row r="2"><c><v>1</v></c></row>`, nil), DamagedWorkbook},
		"directory": {xlsx(t, header, many), WorkbookTooLarge},
		"no xml":    {xlsx(t, `<row><c><v>1</c></row>&`, nil), DamagedWorkbook},
		"no sheet":  {xlsx(t, "", map[string]string{"xl/workbook.xml": "<workbook/>"}), EmptyFile},
		"empty":     {xlsx(t, "", nil), EmptyFile},
		"no name":   {xlsx(t, `<row><c t="inlineStr"><is><t>colour</t></is></c></row>`, nil), NoNameColumn},
		"document":  {xlsx(t, "", map[string]string{"xl/workbook.xml": "<document/>"}), UnsupportedFormat},
		"far cell":  {xlsx(t, header+`<row><c r="A2"><v>1</v></c><c r="XFD2"><v>1</v></c><c r="ZZZZZZZZ2"><v>1</v></c></row>`, nil), ""},
	} {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := Open(strings.NewReader(c.raw), int64(len(c.raw)), Options{Limits: Limits{MaxTextBytes: 2 << 20}})
		for err == nil {
			_, err = r.Next()
		}
		runtime.ReadMemStats(&after)
		if err == io.EOF {
			err = nil
		}
		if IsFileError(err) != c.want || err != nil && c.want == "" {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if used := int64(after.HeapSys) - int64(before.HeapSys); used > 100<<20 {
			t.Errorf("%s: the heap grew by %d MiB", name, used>>20)
		}
	}
}
