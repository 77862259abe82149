package sheet

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An XLSX file is a ZIP of XML parts: the workbook names its sheets, the styles
// say which numbers are dates, and most texts stand in one table that the cells
// point into. Excelize, the library for it, reads the whole file and then every
// part but the sheets into memory, and its limits hold for what a part unzips
// to, not for one XML token; an upload is a gigabyte of somebody else's making.
// So this file reads the parts as streams: only the table of texts is kept,
// within Limits.MaxTextBytes, and no part unzips to more than 200 times the
// upload and 64 MiB, no token is longer than a row may be.

// What one workbook may cost beside the Limits.
const (
	directoryBytes = 4 << 20 // read to list the parts
	partBytes      = 4 << 20 // of the workbook, its relations and its styles, each unzipped
	mostMerges     = 100_000
	mostRows       = 1 << 20 // of a sheet, Excel's own limit
	headerRows     = 20      // titles may stand above the header
)

// workbook is an open XLSX file.
type workbook struct {
	parts   map[string]*zip.File
	sheets  []sheetPart
	texts   textTable
	dates   []bool // by cell style
	epoch04 bool
	limits  *Limits
	most    int64 // bytes that a part may unzip to
}

type sheetPart struct {
	name   string
	hidden bool
	file   *zip.File
}

// textTable keeps the shared texts in one piece.
type textTable struct {
	all  []byte
	ends []uint32
}

func (t *textTable) at(i int) (string, bool) {
	if i < 0 || i >= len(t.ends) {
		return "", false
	}
	from := uint32(0)
	if i > 0 {
		from = t.ends[i-1]
	}
	return string(t.all[from:t.ends[i]]), true
}

// metered counts what is read, and ends the reading of a directory, a part or
// a token that is larger than it may be.
type metered struct {
	r     *bufio.Reader
	total int64 // bytes left of the part
	token int   // bytes left of the token
}

var errTooLarge = errors.New("sheet: over a limit")

func (m *metered) ReadByte() (byte, error) {
	if m.total--; m.total < 0 {
		return 0, errTooLarge
	}
	if m.token--; m.token < 0 {
		return 0, errTooLarge
	}
	return m.r.ReadByte()
}

func (m *metered) Read(p []byte) (int, error) { // the decoder asks for bytes; io.Reader wants both
	if len(p) == 0 {
		return 0, nil
	}
	c, err := m.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

// directory is the file while its parts are listed: archive/zip goes on as
// long as it finds entries, whatever their number was said to be.
type directory struct {
	r    io.ReaderAt
	left *int64
}

func (d directory) ReadAt(p []byte, off int64) (int, error) {
	if *d.left >= 0 {
		if *d.left -= int64(len(p)); *d.left < 0 {
			return 0, errTooLarge
		}
	}
	return d.r.ReadAt(p, off)
}

func (r *Reader) openWorkbook(o Options) error {
	left := int64(directoryBytes)
	z, err := zip.NewReader(directory{countingAt{r.src}, &left}, r.src.size)
	if left < 0 {
		return fault(WorkbookTooLarge, 0, "")
	}
	left = -1 // listed: the parts have limits of their own
	if err != nil {
		return damaged(err, 0)
	}
	w := &workbook{parts: map[string]*zip.File{}, limits: &r.limits, most: 64<<20 + 200*r.src.size}
	for _, f := range z.File {
		w.parts[strings.TrimPrefix(strings.ReplaceAll(f.Name, `\`, "/"), "/")] = f
	}
	if err := w.open(); err != nil {
		return err
	}
	r.info.Format, r.info.Encoding = XLSX, ""
	return r.chooseSheet(w, o)
}

// countingAt tells the reader's progress of what is read at any place.
type countingAt struct{ c *counter }

func (c countingAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.c.r.ReadAt(p, off)
	c.c.n.Add(int64(n))
	return n, err
}

func damaged(err error, line int64) error {
	var own *FileError
	var disk *os.PathError
	switch {
	case errors.As(err, &own), errors.As(err, &disk):
		return err
	case errors.Is(err, errTooLarge):
		return fault(WorkbookTooLarge, line, "")
	}
	return fault(DamagedWorkbook, line, "")
}

// open reads what stands around the sheets.
func (w *workbook) open() error {
	main := "xl/workbook.xml"
	rels, err := w.relations("_rels/.rels", "")
	if err != nil {
		return err
	}
	for _, rel := range rels {
		if strings.HasSuffix(rel.kind, "/officeDocument") {
			main = rel.target
		}
	}
	if w.parts[main] == nil || !strings.HasSuffix(main, ".xml") {
		return fault(UnsupportedFormat, 0, "ZIP")
	}
	rels, err = w.relations(path.Join(path.Dir(main), "_rels", path.Base(main)+".rels"), path.Dir(main))
	if err != nil {
		return err
	}
	isWorkbook := false
	err = w.walk(w.parts[main], partBytes, func(t xml.Token, _ *metered) error {
		e, ok := t.(xml.StartElement)
		if !ok {
			return nil
		}
		switch e.Name.Local {
		case "workbook":
			isWorkbook = true
		case "workbookPr":
			w.epoch04 = attr(e, "date1904") == "1" || attr(e, "date1904") == "true"
		case "sheet":
			rel := rels[attr(e, "id")]
			if f := w.parts[rel.target]; f != nil && strings.HasSuffix(rel.kind, "/worksheet") {
				w.sheets = append(w.sheets, sheetPart{attr(e, "name"), attr(e, "state") != "" && attr(e, "state") != "visible", f})
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return damaged(err, 0)
	case !isWorkbook:
		return fault(UnsupportedFormat, 0, "ZIP")
	}
	for _, rel := range rels {
		f := w.parts[rel.target]
		if f == nil {
			continue
		}
		var err error
		switch {
		case strings.HasSuffix(rel.kind, "/sharedStrings"):
			err = w.readTexts(f)
		case strings.HasSuffix(rel.kind, "/styles"):
			err = w.readStyles(f)
		}
		if err != nil {
			return damaged(err, 0)
		}
	}
	return nil
}

type relation struct{ kind, target string }

// relations reads a part that says which others belong to one, by id.
func (w *workbook) relations(name, base string) (map[string]relation, error) {
	out := map[string]relation{}
	f := w.parts[name]
	if f == nil {
		return out, nil
	}
	err := w.walk(f, partBytes, func(t xml.Token, _ *metered) error {
		if e, ok := t.(xml.StartElement); ok && e.Name.Local == "Relationship" && attr(e, "TargetMode") != "External" {
			target := attr(e, "Target")
			if !strings.HasPrefix(target, "/") {
				target = path.Join(base, target)
			}
			out[attr(e, "Id")] = relation{attr(e, "Type"), strings.TrimPrefix(target, "/")}
		}
		return nil
	})
	if err != nil {
		return nil, damaged(err, 0)
	}
	return out, nil
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// walk gives fn the XML tokens of a part, which are valid until it returns.
func (w *workbook) walk(f *zip.File, most int64, fn func(xml.Token, *metered) error) error {
	s, err := w.stream(f, most)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		t, err := s.token()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = fn(t, s.bytes)
		}
		if err != nil {
			return err
		}
	}
}

// tokens is a part being read.
type tokens struct {
	bytes *metered
	xml   *xml.Decoder
	most  int
	close func() error
}

func (w *workbook) stream(f *zip.File, most int64) (*tokens, error) {
	part, err := f.Open()
	if err != nil {
		return nil, err
	}
	m := &metered{r: bufio.NewReaderSize(part, 64<<10), total: min(most, w.most)}
	return &tokens{m, xml.NewDecoder(m), w.limits.MaxRowBytes, part.Close}, nil
}

func (s *tokens) token() (xml.Token, error) {
	s.bytes.token = s.most
	return s.xml.RawToken()
}

// readTexts reads the table of texts. What Excel notes about the pronunciation
// of a Japanese text (rPh) is no part of it.
func (w *workbook) readTexts(f *zip.File) error {
	var text []byte
	inText, phonetic := false, false
	return w.walk(f, w.most, func(t xml.Token, _ *metered) error {
		switch t := t.(type) {
		case xml.StartElement:
			switch t.Name.Local {
			case "si":
				text = text[:0]
			case "rPh":
				phonetic = true
			case "t":
				inText = !phonetic
			}
		case xml.CharData:
			if inText {
				text = append(text, t...)
			}
		case xml.EndElement:
			switch t.Name.Local {
			case "t":
				inText = false
			case "rPh":
				phonetic = false
			case "si":
				w.texts.all = append(w.texts.all, unescape(string(text))...)
				w.texts.ends = append(w.texts.ends, uint32(len(w.texts.all)))
				if int64(len(w.texts.all)+4*len(w.texts.ends)) > min(w.limits.MaxTextBytes, math.MaxUint32) {
					return errTooLarge
				}
			}
		}
		return nil
	})
}

var escaped = regexp.MustCompile(`_x[0-9A-Fa-f]{4}_`)

// unescape reads the characters that XML cannot hold, as Excel writes them:
// _x000D_ (ECMA-376, ST_Xstring).
func unescape(s string) string {
	if !strings.Contains(s, "_x") {
		return s
	}
	return escaped.ReplaceAllStringFunc(s, func(m string) string {
		n, _ := strconv.ParseUint(m[2:6], 16, 16)
		return string(rune(n))
	})
}

// readStyles finds out which cell styles show a number as a date.
func (w *workbook) readStyles(f *zip.File) error {
	custom := map[string]bool{}
	inCells := false
	return w.walk(f, partBytes, func(t xml.Token, _ *metered) error {
		switch t := t.(type) {
		case xml.StartElement:
			switch t.Name.Local {
			case "numFmt":
				custom[attr(t, "numFmtId")] = dateFormat(attr(t, "formatCode"))
			case "cellXfs":
				inCells = true
			case "xf":
				if inCells {
					id := attr(t, "numFmtId")
					date, ok := custom[id]
					w.dates = append(w.dates, ok && date || !ok && builtInDate(id))
				}
			}
		case xml.EndElement:
			if t.Name.Local == "cellXfs" {
				inCells = false
			}
		}
		return nil
	})
}

// builtInDate knows the date formats that have a number alone (ECMA-376,
// 18.8.30, those of Chinese, Japanese and Korean included).
func builtInDate(id string) bool {
	n, _ := strconv.Atoi(id)
	return n >= 14 && n <= 22 || n >= 27 && n <= 36 || n >= 45 && n <= 47 || n >= 50 && n <= 58
}

var notFormat = regexp.MustCompile(`"[^"]*"|\\.|_.|\*.|\[[^\]]*\]`)

// dateFormat reports whether a format code has a part of a date in it, outside
// of texts, colours and currencies.
func dateFormat(code string) bool {
	code, _, _ = strings.Cut(code, ";")
	return strings.ContainsAny(strings.ToLower(notFormat.ReplaceAllString(code, "")), "ymdhs")
}

// dateText gives the date of a serial number: days since the end of 1899, where
// Excel believes in a 29 February 1900, or since 1904. "" where it is none.
func dateText(serial float64, epoch04 bool) string {
	if !(serial >= 0 && serial < 2_958_466) {
		return ""
	}
	start := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)
	switch {
	case epoch04:
		start = time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)
	case serial < 60:
		start = start.AddDate(0, 0, 1)
	}
	days, part := math.Modf(serial)
	seconds := math.Round(part * 86400)
	t := start.AddDate(0, 0, int(days)).Add(time.Duration(seconds) * time.Second)
	switch {
	case serial < 1 && !epoch04:
		return t.Format(time.TimeOnly)
	case seconds == 0:
		return t.Format(time.DateOnly)
	}
	return t.Format("2006-01-02T15:04:05")
}

// merge is a range of cells of one column that show one value.
type merge struct {
	column, from, to int
	value            string
}

// rows reads the rows of one sheet.
type rows struct {
	w      *workbook
	s      *tokens
	line   int64
	merges []merge       // vertical ones that are to come, by their first row
	open   map[int]merge // by column
	cells  []string
	faulty []int // columns with a formula that has no value
}

func (w *workbook) rows(p sheetPart) (*rows, error) {
	merges, err := w.readMerges(p.file)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(merges, func(a, b merge) int { return a.from - b.from })
	s, err := w.stream(p.file, w.most)
	if err != nil {
		return nil, err
	}
	return &rows{w: w, s: s, merges: merges, open: map[int]merge{}}, nil
}

var mergeRef = regexp.MustCompile(`mergeCell\s[^<>]*ref\s*=\s*["']([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})["']`)

// readMerges finds the merged cells, which stand behind the rows: the part is
// unzipped once more, without being parsed.
func (w *workbook) readMerges(f *zip.File) ([]merge, error) {
	part, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer part.Close()
	var out []merge
	buf := make([]byte, 0, 64<<10)
	for total := int64(0); ; {
		n, err := part.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if total += int64(n); total > w.most {
			return nil, errTooLarge
		}
		done := 0
		for _, m := range mergeRef.FindAllSubmatchIndex(buf, -1) {
			done = m[1]
			from, _ := strconv.Atoi(string(buf[m[4]:m[5]]))
			to, _ := strconv.Atoi(string(buf[m[8]:m[9]]))
			if to > from && len(out) < mostMerges {
				out = append(out, merge{column: columnIndex(string(buf[m[2]:m[3]])), from: from, to: to})
			}
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(buf)-done > 200 { // a reference that the end of the buffer cuts is shorter
			done = len(buf) - 200
		}
		buf = buf[:copy(buf, buf[done:])]
	}
}

// columnIndex reads the letters of a cell's reference, from 0; -1 is none.
func columnIndex(ref string) int {
	n := 0
	for i := range len(ref) {
		c := ref[i]
		if c < 'A' || c > 'Z' {
			break
		}
		if n = n*26 + int(c-'A') + 1; n > 1<<14 {
			return 1 << 14
		}
	}
	return n - 1
}

// next gives the cells of the next row that has any, in r.cells until the next
// call, or io.EOF.
func (r *rows) next() error {
	for {
		t, err := r.s.token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if t.Name.Local != "row" {
				continue
			}
			r.line++
			if n := attr(t, "r"); n != "" {
				line, err := strconv.ParseInt(n, 10, 64)
				if err != nil || line < r.line || line > mostRows {
					return fault(DamagedWorkbook, r.line, "")
				}
				r.line = line
			}
			if err := r.row(); err != nil {
				return err
			}
			r.merge()
			for _, c := range r.cells {
				if trim(c) != "" {
					return nil
				}
			}
			if len(r.faulty) > 0 {
				return nil
			}
		case xml.EndElement:
			if t.Name.Local == "sheetData" {
				return io.EOF
			}
		}
	}
}

// row reads the cells up to the end of the row.
func (r *rows) row() error {
	r.cells, r.faulty = r.cells[:0], r.faulty[:0]
	var kind, style string
	var value []byte
	column, size := -1, 0
	inValue, phonetic, formula, seen := false, false, false, false
	for {
		t, err := r.s.token()
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			switch t.Name.Local {
			case "c":
				column++
				if ref := attr(t, "r"); ref != "" {
					column = columnIndex(ref)
				}
				kind, style, value, formula, seen = attr(t, "t"), attr(t, "s"), value[:0], false, false
			case "f":
				formula = true
			case "rPh":
				phonetic = true
			case "v", "t":
				inValue = !phonetic
				seen = true
			}
		case xml.CharData:
			if inValue {
				value = append(value, t...)
			}
		case xml.EndElement:
			switch t.Name.Local {
			case "v", "t":
				inValue = false
			case "rPh":
				phonetic = false
			case "row":
				return nil
			case "c":
				text, ok := r.w.text(string(value), kind, style)
				if !ok || formula && !seen {
					r.faulty = append(r.faulty, column)
					continue
				}
				if size += len(text); size > r.w.limits.MaxRowBytes {
					return fault(RowTooLong, r.line, "> %d", r.w.limits.MaxRowBytes)
				}
				if text == "" || column < 0 {
					continue
				}
				most := 2 * r.w.limits.MaxColumns
				for len(r.cells) <= min(column, most) {
					r.cells = append(r.cells, "")
				}
				r.cells[min(column, most)] = text
			}
		}
	}
}

// text gives what a cell shows; not ok where it shows an error.
func (w *workbook) text(v, kind, style string) (text string, ok bool) {
	switch kind {
	case "s":
		i, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil {
			return "", v == ""
		}
		return w.texts.at(i)
	case "inlineStr", "str":
		return unescape(v), true
	case "b":
		return map[string]string{"1": "TRUE", "0": "FALSE"}[v], true
	case "e":
		return "", false
	case "d":
		return v, true
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return v, true
	}
	if i, err := strconv.Atoi(style); err == nil && i >= 0 && i < len(w.dates) && w.dates[i] {
		if d := dateText(f, w.epoch04); d != "" {
			return d, true
		}
	}
	if math.Abs(f) < 1e15 {
		return strconv.FormatFloat(f, 'f', -1, 64), true
	}
	return strconv.FormatFloat(f, 'g', -1, 64), true
}

// merge fills the cells below the first of a merged range, which the file
// leaves empty.
func (r *rows) merge() {
	line := int(r.line)
	for column, m := range r.open {
		if line > m.to {
			delete(r.open, column)
			continue
		}
		for len(r.cells) <= column {
			r.cells = append(r.cells, "")
		}
		if r.cells[column] == "" {
			r.cells[column] = m.value
		}
	}
	for len(r.merges) > 0 && r.merges[0].from <= line {
		m := r.merges[0]
		r.merges = r.merges[1:]
		if m.from == line && m.column < min(len(r.cells), r.w.limits.MaxColumns) && r.cells[m.column] != "" {
			m.value = r.cells[m.column]
			r.open[m.column] = m
		}
	}
}

// chooseSheet takes the sheet that is asked for, or the first one that is shown
// and has a header with a column of names among its first rows.
func (r *Reader) chooseSheet(w *workbook, o Options) error {
	for _, p := range w.sheets[:min(100, len(w.sheets))] {
		r.info.Sheets = append(r.info.Sheets, p.name)
	}
	var first error
	for i, p := range w.sheets {
		if o.Sheet != "" && p.name != o.Sheet || o.Sheet == "" && (p.hidden || i >= 100) {
			continue
		}
		err := r.openSheet(w, p, o)
		if err == nil {
			r.info.Sheet = p.name
			return nil
		}
		if IsFileError(err) == "" || IsFileError(err) == WorkbookTooLarge || IsFileError(err) == DamagedWorkbook {
			return err
		}
		if first == nil || IsFileError(first) == EmptyFile {
			first = err
		}
	}
	if first == nil && o.Sheet != "" {
		return fault(NoSheet, 0, "%q", o.Sheet)
	}
	if first == nil {
		return fault(EmptyFile, 0, "")
	}
	return first
}

// openSheet finds the header of a sheet and gets ready for the rows below.
func (r *Reader) openSheet(w *workbook, p sheetPart, o Options) error {
	in, err := w.rows(p)
	if err != nil {
		return damaged(err, 0)
	}
	var first error
	for range headerRows {
		err := in.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			_ = in.s.close()
			return damaged(err, in.line)
		}
		header := in.cells
		for len(header) > 0 && trim(header[len(header)-1]) == "" {
			header = header[:len(header)-1]
		}
		if err = r.setColumns(header, in.line, o.Mapping); err == nil {
			r.next = func() (Row, error) { return r.sheetRow(in) }
			r.close = in.s.close
			return nil
		}
		if first == nil {
			first = err
		}
	}
	_ = in.s.close()
	if first == nil {
		first = fault(EmptyFile, max(1, in.line), "")
	}
	return first
}

func (r *Reader) sheetRow(in *rows) (Row, error) {
	if err := in.next(); err == io.EOF {
		return Row{}, err
	} else if err != nil {
		return Row{}, damaged(err, in.line)
	}
	row := Row{Line: in.line}
	for _, c := range in.faulty {
		if c >= 0 && c < len(r.to) {
			row.issue(r.to[c].header, FormulaError, "", isWarning)
		}
	}
	row.fill(in.cells, r.to, &r.limits, func(s string) string { return string(bytes.ToValidUTF8([]byte(s), []byte("\ufffd"))) })
	return row, nil
}
