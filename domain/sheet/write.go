package sheet

import (
	"bufio"
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Writer writes records as they come, in UTF-8. The first error stays and is
// told by Flush at the latest.
type Writer struct {
	buf   *bufio.Writer
	write func(*Record) error
	err   error
}

// Write adds one record.
func (w *Writer) Write(rec *Record) error {
	if w.err == nil {
		w.err = w.write(rec)
	}
	return w.err
}

// Flush writes what is left.
func (w *Writer) Flush() error {
	if w.err == nil {
		w.err = w.buf.Flush()
	}
	return w.err
}

// csvHeader holds the fields in the words that mapColumns knows, so that what
// is written reads back the same: properties is a JSON object in one cell.
var csvHeader = []string{"name", "aliases", "countries", "cities", "latitude", "longitude", "schema_type", "external_id",
	"description", "data_source_url", "published_date", "updated_date", "properties"}

// WriteCSV writes RFC 4180 with CRLF, the header first, even for no record.
// No cell is a formula to a spreadsheet, and everything reads back as it was:
// the apostrophe that Guard puts in front goes again, and a semicolon inside an
// alias has a backslash.
func WriteCSV(w io.Writer) *Writer {
	out := newWriter(w)
	var cells [13]string
	out.write = func(rec *Record) error {
		properties := ""
		if len(rec.Properties) > 0 {
			properties = string(compact(rec.Properties))
		}
		cells = [...]string{rec.Name, joined(rec.Aliases, isAliasEnd), joined(rec.Countries, isListEnd), joined(rec.Cities, isListEnd),
			decimal(rec.Latitude), decimal(rec.Longitude), rec.SchemaType, rec.ExternalID, rec.Description, rec.SourceURL, rec.Published, rec.Updated, properties}
		return out.row(cells[:])
	}
	out.err = out.row(csvHeader)
	return out
}

func (w *Writer) row(cells []string) error {
	for i, c := range cells {
		if i > 0 {
			_ = w.buf.WriteByte(',')
		}
		if c = Guard(c); strings.ContainsAny(c, ",;|\"\r\n\t") || c != "" && (c[0] == ' ' || c[len(c)-1] == ' ') {
			_ = w.buf.WriteByte('"')
			_, _ = w.buf.WriteString(strings.ReplaceAll(c, `"`, `""`))
			_ = w.buf.WriteByte('"')
		} else {
			_, _ = w.buf.WriteString(c)
		}
	}
	_, err := w.buf.WriteString("\r\n")
	return err
}

// WriteJSONL writes one record as JSON in each line, lists never null.
func WriteJSONL(w io.Writer) *Writer {
	out := newWriter(w)
	enc := json.NewEncoder(out.buf)
	enc.SetEscapeHTML(false)
	out.write = func(rec *Record) error {
		line := *rec
		for _, l := range []*[]string{&line.Aliases, &line.Countries, &line.Cities} {
			if *l == nil {
				*l = []string{}
			}
		}
		if line.Properties == nil {
			line.Properties = map[string][]string{}
		}
		return enc.Encode(&line)
	}
	return out
}

// WriteFTM writes one FollowTheMoney entity in each line. The record needs an
// ID or an ExternalID.
func WriteFTM(w io.Writer) *Writer {
	out := newWriter(w)
	enc := json.NewEncoder(out.buf)
	enc.SetEscapeHTML(false)
	out.write = func(rec *Record) error { return enc.Encode(rec.Entity()) }
	return out
}

func newWriter(w io.Writer) *Writer { return &Writer{buf: bufio.NewWriterSize(w, 64<<10)} }

func compact(v any) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a map of strings cannot fail
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

func decimal(f *float64) string {
	if f == nil {
		return ""
	}
	return strconv.FormatFloat(*f, 'f', -1, 64)
}

// Guard keeps a spreadsheet from taking a cell for a formula: a cell that
// starts with one of = + - @, in either width, a tab or a line end gets an
// apostrophe in front (OWASP, "CSV Injection"). Numbers stay numbers. A cell
// that has apostrophes before such a sign gets one more, so that reading gives
// back what was.
func Guard(s string) string {
	if !dangerous(s) || number.MatchString(s) {
		return s
	}
	return "'" + s
}

var number = regexp.MustCompile(`^[+-]?[0-9]+([.,][0-9]+)?$`)

// unguard takes off the apostrophe that Guard put on.
func unguard(s string) string {
	if len(s) > 1 && s[0] == '\'' && dangerous(s) {
		return s[1:]
	}
	return s
}

func dangerous(s string) bool {
	if s == "" || s[0] > '@' && s[0] != 0xef {
		return false
	}
	r, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, "'"))
	return strings.ContainsRune("=+-@\t\r\n＝＋－＠", r)
}
