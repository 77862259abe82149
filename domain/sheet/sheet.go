// Package sheet hides how a file of any encoding, delimiter and shape becomes
// records, and how records become a file.
//
// Open looks at the first 64 KiB: the encoding, then the delimiter, then the
// header and what each column means. Next gives one record at a time; memory
// is bounded by the longest row allowed, whatever the size of the file.
//
// A listed name must never be lost over an optional cell: a date that is no
// date or a latitude of 200 is a warning, the raw value is kept under the
// record's properties, and the row stays. Only a row without a name, with a
// NUL byte or with more cells than the header is rejected, and the rejection
// names the line, the column, the code and the value.
package sheet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	uni "golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Format is the kind of a file.
type Format string

// The formats that are read.
const (
	CSV Format = "csv"
	TSV Format = "tsv"
)

// Column says what a column of the file means.
type Column struct {
	Index  int    `json:"index"`
	Header string `json:"header"`
	Field  string `json:"field" doc:"a field of ours, or properties.<header>"`
	How    string `json:"how" enum:"exact,synonym,property,given"`
}

// Info is what Open found out.
type Info struct {
	Format    Format   `json:"format"`
	Encoding  string   `json:"encoding"`
	Delimiter string   `json:"delimiter"`
	Columns   []Column `json:"columns"`
}

// Record is one listed entity.
type Record struct {
	Name                                string
	Aliases, Countries, Cities          []string
	Latitude, Longitude                 *float64
	SchemaType, ExternalID, Description string
	SourceURL, Published, Updated       string
	Properties                          map[string][]string
}

// Issue is something wrong with a row. An error rejects the row, a warning
// keeps it.
type Issue struct {
	Line                         int64
	Column, Code, Value, Message string
	Severity                     string
}

// Row is one record, or the reasons why it is none.
type Row struct {
	Line     int64 // of the file, from 1, where the record starts
	Record   Record
	Issues   []Issue
	Rejected bool
}

// FileError makes the whole file unusable from Line on.
type FileError struct {
	Code, Message string
	Line          int64
}

func (e *FileError) Error() string {
	return fmt.Sprintf("%s at line %d: %s", e.Code, e.Line, e.Message)
}

// Limits bound what one file may cost. Zero values are the defaults.
type Limits struct {
	MaxRowBytes int // 1 MiB
	MaxColumns  int // 500
}

// Options steer Open.
type Options struct {
	Filename, MediaType string
	Format              Format
	Mapping             map[string]string // header to field, over what would be guessed
	Limits              Limits
}

// Reader gives the rows of a file.
type Reader struct {
	src    *counter
	in     *bufio.Reader
	info   Info
	comma  rune
	limits Limits
	line   int64 // of the next record
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) { n, err := c.r.Read(p); c.n += int64(n); return n, err }

const sample = 64 << 10

// Open reads the head of the file and gets ready for its rows.
func Open(r io.ReaderAt, size int64, o Options) (*Reader, error) {
	if o.Limits.MaxRowBytes == 0 {
		o.Limits.MaxRowBytes = 1 << 20
	}
	if o.Limits.MaxColumns == 0 {
		o.Limits.MaxColumns = 500
	}
	if size == 0 {
		return nil, &FileError{"empty_file", Messages["empty_file"][0], 0}
	}
	head := make([]byte, min(size, sample))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("%PDF")) || bytes.HasPrefix(head, []byte("\xd0\xcf\x11\xe0")) || bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		return nil, &FileError{"unsupported_format", Messages["unsupported_format"][0], 0}
	}
	name, enc := detectEncoding(head, int64(len(head)) == size)
	rd := &Reader{src: &counter{r: io.NewSectionReader(r, 0, size)}, limits: o.Limits, line: 1}
	decoded := io.Reader(rd.src)
	if enc != nil {
		decoded = transform.NewReader(rd.src, enc.NewDecoder())
	}
	rd.in = bufio.NewReaderSize(decoded, sample)
	if name == "utf-8-bom" {
		if _, err := rd.in.Discard(3); err != nil {
			return nil, err
		}
	}
	text, _ := rd.in.Peek(sample / 2)
	rd.comma = detectDelimiter(string(text), o)
	rd.info = Info{Format: CSV, Encoding: name, Delimiter: string(rd.comma)}
	if rd.comma == '\t' {
		rd.info.Format = TSV
	}
	header, _, err := rd.cells()
	for err == nil && blank(header) { // empty lines before the header
		header, _, err = rd.cells()
	}
	if err == io.EOF {
		return nil, &FileError{"empty_file", Messages["empty_file"][0], rd.line}
	}
	if err != nil {
		return nil, err
	}
	if len(header) > o.Limits.MaxColumns {
		return nil, &FileError{"too_many_columns", Messages["too_many_columns"][0], 1}
	}
	rd.info.Columns, err = mapColumns(header, o.Mapping)
	return rd, err
}

// Info tells what was detected.
func (r *Reader) Info() Info { return r.info }

// BytesRead is how far into the file the reader is.
func (r *Reader) BytesRead() int64 { return r.src.n - int64(r.in.Buffered()) }

// Close lets go of the reader; the file is the caller's.
func (r *Reader) Close() error { return nil }

// Next gives the next row, or io.EOF.
func (r *Reader) Next() (Row, error) {
	for {
		cells, line, err := r.cells()
		if err != nil {
			return Row{}, err
		}
		if blank(cells) {
			continue
		}
		return r.row(cells, line), nil
	}
}

func blank(cells []string) bool {
	return !slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) != "" })
}

// cells reads one record of RFC 4180, leniently: a quote inside an unquoted
// cell is a character, CR, LF and CRLF end a record, and an open quote at the
// end of the file closes. Line numbers are of the file.
func (r *Reader) cells() ([]string, int64, error) {
	var out []string
	var cell strings.Builder
	start, size, quoted, any := r.line, 0, false, false
	afterQuote := false
	for {
		c, n, err := r.in.ReadRune()
		if err == io.EOF {
			if !any {
				return nil, start, io.EOF
			}
			return append(out, cell.String()), start, nil
		}
		if err != nil {
			return nil, start, &FileError{"bad_encoding", Messages["bad_encoding"][0], r.line}
		}
		any = true
		if size += n; size > r.limits.MaxRowBytes {
			return nil, start, &FileError{"row_too_long", Messages["row_too_long"][0], start}
		}
		switch {
		case quoted && c == '"':
			if next, _, err := r.in.ReadRune(); err == nil && next == '"' {
				cell.WriteByte('"')
			} else {
				if err == nil {
					_ = r.in.UnreadRune()
				}
				quoted, afterQuote = false, true
			}
		case quoted:
			if c == '\n' {
				r.line++
			}
			cell.WriteRune(c)
		case c == '"' && cell.Len() == 0 && !afterQuote:
			quoted = true
		case c == r.comma:
			out = append(out, cell.String())
			cell.Reset()
			afterQuote = false
			if len(out) > r.limits.MaxColumns*2 {
				return nil, start, &FileError{"too_many_columns", Messages["too_many_columns"][0], start}
			}
		case c == '\n' || c == '\r':
			if c == '\r' {
				if next, _, err := r.in.ReadRune(); err == nil && next != '\n' {
					_ = r.in.UnreadRune()
				}
			}
			r.line++
			return append(out, cell.String()), start, nil
		default:
			cell.WriteRune(c)
		}
	}
}

func (r *Reader) row(cells []string, line int64) Row {
	row := Row{Line: line}
	fault := func(column, code, value, severity string) {
		if len(value) > 200 {
			value = strings.ToValidUTF8(value[:200], "") + "…"
		}
		row.Issues = append(row.Issues, Issue{line, column, code, value, Messages[code][0], severity})
		row.Rejected = row.Rejected || severity == "error"
	}
	cols := r.info.Columns
	if len(cells) > len(cols) {
		if blank(cells[len(cols):]) {
			cells = cells[:len(cols)]
		} else {
			fault("", "ragged_row", strconv.Itoa(len(cells))+" cells, "+strconv.Itoa(len(cols))+" columns", "error")
			return row
		}
	} else if len(cells) < len(cols) {
		fault("", "short_row", strconv.Itoa(len(cells))+" cells, "+strconv.Itoa(len(cols))+" columns", "warning")
	}
	rec := &row.Record
	keep := func(header, value string) {
		if rec.Properties == nil {
			rec.Properties = map[string][]string{}
		}
		rec.Properties[header] = append(rec.Properties[header], value)
	}
	for i, raw := range cells {
		c := cols[i]
		if strings.ContainsRune(raw, 0) {
			fault(c.Header, "nul_byte", strings.ReplaceAll(raw, "\x00", "␀"), "error")
			continue
		}
		v := strings.TrimFunc(raw, func(c rune) bool { return unicode.IsSpace(c) || c == '\ufeff' })
		if v == "" {
			continue
		}
		if strings.ContainsRune(v, utf8.RuneError) {
			fault(c.Header, "bad_encoding", v, "warning")
		}
		switch c.Field {
		case "name":
			rec.Name = v
		case "aliases":
			rec.Aliases = appendNew(rec.Aliases, split(v, ";"))
		case "countries":
			rec.Countries = appendNew(rec.Countries, split(v, ";|"))
		case "cities":
			rec.Cities = appendNew(rec.Cities, split(v, ";|"))
		case "latitude", "longitude":
			limit := map[string]float64{"latitude": 90, "longitude": 180}[c.Field]
			f, err := strconv.ParseFloat(v, 64)
			if err != nil || !(f >= -limit && f <= limit) {
				fault(c.Header, "invalid_"+c.Field, v, "warning")
				keep(c.Header, v)
			} else if c.Field == "latitude" {
				rec.Latitude = &f
			} else {
				rec.Longitude = &f
			}
		case "schema_type":
			rec.SchemaType = v
		case "external_id":
			rec.ExternalID = v
		case "description":
			rec.Description = v
		case "data_source_url":
			rec.SourceURL = v
		case "published_date", "updated_date":
			d, ok := date(v)
			if !ok {
				fault(c.Header, "invalid_date", v, "warning")
				keep(c.Header, v)
			} else if c.Field == "published_date" {
				rec.Published = d
			} else {
				rec.Updated = d
			}
		default:
			keep(c.Header, v)
		}
	}
	rec.Aliases = slices.DeleteFunc(rec.Aliases, func(a string) bool { return a == rec.Name })
	if rec.Name == "" && !row.Rejected {
		fault("name", "missing_name", "", "error")
	}
	return row
}

func split(v, separators string) []string {
	parts := strings.FieldsFunc(v, func(c rune) bool { return strings.ContainsRune(separators, c) })
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func appendNew(list, add []string) []string {
	for _, s := range add {
		if s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

var (
	dayFirst = regexp.MustCompile(`^(\d{1,2})\.(\d{1,2})\.(\d{4})$`)
	kanji    = regexp.MustCompile(`^(\d{4})\s*年\s*(\d{1,2})\s*月\s*(\d{1,2})\s*日$`)
)

// date reads ISO 8601, RFC 3339, D.M.YYYY and 年月日 and gives YYYY-MM-DD.
func date(v string) (string, bool) {
	for _, layout := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04:05", time.DateTime, "2006/01/02", "2006-01", "2006"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.Format(time.DateOnly), true
		}
	}
	for _, form := range []struct {
		re      *regexp.Regexp
		y, m, d int
	}{{dayFirst, 3, 2, 1}, {kanji, 1, 2, 3}} {
		if p := form.re.FindStringSubmatch(v); p != nil {
			t, err := time.Parse("2006-1-2", p[form.y]+"-"+p[form.m]+"-"+p[form.d])
			return t.Format(time.DateOnly), err == nil
		}
	}
	return "", false
}

// detectEncoding names the encoding of a sample. UTF-8 wins where it is valid;
// else UTF-16 by its mark or by its zero bytes, then the multi-byte encoding
// whose decoder is content and gives letters of its script, then Windows-1252,
// where every byte means something.
func detectEncoding(b []byte, whole bool) (string, encoding.Encoding) {
	switch {
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return "utf-8-bom", nil
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		return "utf-16le", uni.UTF16(uni.LittleEndian, uni.UseBOM)
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		return "utf-16be", uni.UTF16(uni.BigEndian, uni.UseBOM)
	}
	if !whole { // a character may be cut in two at the sample's end
		for i := 1; i <= 3 && i < len(b); i++ {
			if utf8.RuneStart(b[len(b)-i]) {
				if !utf8.FullRune(b[len(b)-i:]) {
					b = b[:len(b)-i]
				}
				break
			}
		}
	}
	var zero [2]int
	for i, c := range b {
		if c == 0 {
			zero[i%2]++
		}
	}
	switch {
	case zero[1] > len(b)/4 && zero[0] < len(b)/50:
		return "utf-16le", uni.UTF16(uni.LittleEndian, uni.IgnoreBOM)
	case zero[0] > len(b)/4 && zero[1] < len(b)/50:
		return "utf-16be", uni.UTF16(uni.BigEndian, uni.IgnoreBOM)
	}
	if utf8.Valid(b) {
		return "utf-8", nil
	}
	type candidate struct {
		name string
		enc  encoding.Encoding
		own  func(rune) bool
	}
	kana := func(r rune) bool { return unicode.In(r, unicode.Hiragana, unicode.Katakana) && r < 0xff00 }
	han := func(r rune) bool { return r >= 0x4e00 && r <= 0x9fa5 }
	best, bestScore := candidate{"windows-1252", charmap.Windows1252, nil}, 0.0
	for _, c := range []candidate{
		{"shift_jis", japanese.ShiftJIS, func(r rune) bool { return kana(r) || han(r) }},
		{"gb18030", simplifiedchinese.GB18030, han},
	} {
		text, err := c.enc.NewDecoder().Bytes(b)
		if err != nil {
			continue
		}
		var own, foreign, bad int
		for _, r := range string(text) {
			switch {
			case r == utf8.RuneError:
				bad++
			case r < 0x80, r >= 0x3000 && r <= 0x303f, r >= 0xff01 && r <= 0xff5e:
			case c.own(r):
				own++
			default:
				foreign++
			}
		}
		if bad > 1 || own == 0 || own < 3*foreign || own < 2 {
			continue
		}
		score := float64(own) / float64(own+2*foreign)
		if c.name == "shift_jis" && !slices.ContainsFunc([]rune(string(text)), kana) {
			score *= 0.8 // Japanese text of any length has kana
		}
		if score > bestScore {
			best, bestScore = c, score
		}
	}
	return best.name, best.enc
}

// detectDelimiter takes the delimiter that cuts the first lines into the same
// number of cells, most cells first; quoted text does not count.
func detectDelimiter(text string, o Options) rune {
	if o.Format == TSV || o.MediaType == "text/tab-separated-values" || strings.HasSuffix(strings.ToLower(o.Filename), ".tsv") {
		return '\t'
	}
	best, bestScore := ',', 0
	for _, d := range []rune{',', ';', '\t', '|'} {
		var counts []int
		n, quoted := 0, false
		for _, c := range text {
			switch {
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == d:
				n++
			case c == '\n':
				counts = append(counts, n)
				n = 0
			}
			if len(counts) == 20 {
				break
			}
		}
		if len(counts) == 0 {
			counts = []int{n}
		}
		same := 0
		for _, k := range counts {
			if k == counts[0] && k > 0 {
				same++
			}
		}
		if score := same*1000/len(counts)*min(counts[0], 1) + min(counts[0], 50); score > bestScore {
			best, bestScore = d, score
		}
	}
	return best
}

// IsFileError reports the code of a FileError in err, or "".
func IsFileError(err error) string {
	var f *FileError
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

// Messages are the sentences of every code, in English and in Simplified
// Chinese.
var Messages = map[string][2]string{
	"empty_file":         {"The file has no rows.", "文件没有任何行。"},
	"unsupported_format": {"The file is not text: CSV and TSV are read.", "该文件不是文本：可读取 CSV 和 TSV。"},
	"no_name_column":     {"No column holds the names; call one \"name\".", "没有名称列；请将其命名为“name”。"},
	"duplicate_header":   {"Two columns have the same header.", "两列的标题相同。"},
	"too_many_columns":   {"The file has too many columns.", "文件的列过多。"},
	"row_too_long":       {"A row is over the limit of one mebibyte; is a quote left open?", "某行超过 1 MiB；是否有未闭合的引号？"},
	"bad_encoding":       {"The text is not valid in the encoding of the file.", "文本与文件编码不符。"},
	"nul_byte":           {"A cell has a NUL byte.", "单元格含有 NUL 字节。"},
	"ragged_row":         {"The row has more cells than the header.", "该行的单元格多于标题。"},
	"short_row":          {"The row has fewer cells than the header; the rest are empty.", "该行的单元格少于标题；其余按空处理。"},
	"missing_name":       {"The row has no name.", "该行没有名称。"},
	"invalid_date":       {"This is not a date; it is kept as a property.", "不是日期；已作为属性保留。"},
	"invalid_latitude":   {"This is not a latitude; it is kept as a property.", "不是纬度；已作为属性保留。"},
	"invalid_longitude":  {"This is not a longitude; it is kept as a property.", "不是经度；已作为属性保留。"},
}
