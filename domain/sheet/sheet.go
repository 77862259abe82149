// Package sheet hides how a file of any encoding, delimiter and shape becomes
// records, and how records become a file.
//
// Open looks at the file: its format by its first bytes, whatever it is called;
// the encoding and the delimiter by samples; then the header, and what each
// column means. Next gives one row at a time. Memory is bounded by the longest
// row allowed, for a workbook by its table of texts too, whatever the size of
// the file.
//
// A listed name must never be lost over an optional cell: a date that is no
// date or a latitude of 200 is a warning, the raw value is kept under the
// record's properties, and the row stays. Only a row without a name, with a
// NUL byte, with more cells than the header or with a quote that never closes
// is rejected, and the rejection names the line, the column, the code and the
// value. A FileError ends the reading: what follows could be anything.
package sheet

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/text/transform"
)

// Format is the kind of a file.
type Format string

// The formats that are read. FTM is JSON Lines of FollowTheMoney entities.
const (
	CSV  Format = "csv"
	TSV  Format = "tsv"
	XLSX Format = "xlsx"
	FTM  Format = "ftm"
)

// Column says what a column of the file means.
type Column struct {
	Index  int    `json:"index"`
	Header string `json:"header"`
	Field  string `json:"field" doc:"a field of ours, or properties.<header>"`
	How    string `json:"how" enum:"exact,synonym,property,given"`
}

// Info is what Open found out. A workbook and a FollowTheMoney file have no
// delimiter, the latter no columns either.
type Info struct {
	Format    Format   `json:"format"`
	Encoding  string   `json:"encoding"`
	Delimiter string   `json:"delimiter"`
	Columns   []Column `json:"columns"`
	Sheet     string   `json:"sheet"`  // of a workbook: the one that is read
	Sheets    []string `json:"sheets"` // and the first hundred that there are
}

// Limits bound what one file may cost. Zero values are the defaults.
type Limits struct {
	MaxRowBytes  int   // 8 MiB
	MaxCellBytes int   // 128 KiB, what is over is cut off; lists of aliases and properties are as long as their row
	MaxColumns   int   // 500
	MaxTextBytes int64 // of a workbook's table of texts, which is kept in memory: 128 MiB
}

func (l *Limits) defaults() {
	set(&l.MaxRowBytes, 8<<20)
	set(&l.MaxCellBytes, 128<<10)
	set(&l.MaxColumns, 500)
	set(&l.MaxTextBytes, 128<<20)
}

func set[N int | int64 | float64](v *N, standard N) {
	if *v == 0 {
		*v = standard
	}
}

// Options steer Open. What they say about the format is a hint, and the file
// has the last word; Mapping goes over what would be guessed.
type Options struct {
	Filename, MediaType string
	Format              Format
	Sheet               string            // of a workbook; "" is the first that holds a list
	Mapping             map[string]string // header to field, or to "properties.<name>"
	Limits              Limits
}

// Reader gives the rows of a file. It is for one goroutine; BytesRead alone
// may be called by others.
type Reader struct {
	info   Info
	limits Limits
	src    *counter
	to     []target
	next   func() (Row, error)
	close  func() error
	err    error // sticky
}

// counter reads the file and knows how far.
type counter struct {
	r    io.ReaderAt
	at   int64
	size int64
	n    atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.at >= c.size {
		return 0, io.EOF
	}
	n, err := c.r.ReadAt(p[:min(int64(len(p)), c.size-c.at)], c.at)
	c.at += int64(n)
	c.n.Store(c.at)
	if n > 0 {
		err = nil
	}
	if err == io.EOF { // the file has become shorter
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Open reads the head of the file and gets ready for its rows.
func Open(r io.ReaderAt, size int64, o Options) (*Reader, error) {
	o.Limits.defaults()
	if size <= 0 {
		return nil, fault(EmptyFile, 0, "")
	}
	rd := &Reader{src: &counter{r: r, size: size}, limits: o.Limits, info: Info{Columns: []Column{}, Sheets: []string{}}}
	head, rest, err := sampleOf(r, size)
	if err != nil {
		return nil, err
	}
	switch kind := magic(head); kind {
	case "":
	case XLSX:
		return opened(rd, rd.openWorkbook(o))
	default:
		return nil, fault(UnsupportedFormat, 0, "%s", kind)
	}
	name, enc := detectEncoding(head, rest)
	if name == "utf-32" {
		return nil, fault(UnsupportedText, 0, "UTF-32")
	}
	rd.info.Encoding = name
	decoded := io.Reader(rd.src)
	if enc != nil {
		decoded = transform.NewReader(rd.src, enc.NewDecoder())
	}
	in := bufio.NewReaderSize(decoded, sampleBytes)
	text, err := in.Peek(sampleBytes / 2)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		_, _ = in.Discard(3)
		text = text[3:]
	}
	start := bytes.TrimLeft(text, " \t\r\n")
	switch {
	case len(start) == 0 && err == io.EOF:
		return nil, fault(EmptyFile, 1, "")
	case o.Format != CSV && o.Format != TSV && len(start) > 0 && start[0] == '{', o.Format == FTM:
		rd.openFTM(in)
		return rd, nil
	case len(start) > 1 && start[0] == '[' && (start[1] == '{' || start[1] == '\n' || start[1] == '\r'):
		return nil, fault(UnsupportedFormat, 1, "JSON array")
	case likeMarkup(start):
		return nil, fault(UnsupportedFormat, 1, "HTML, XML")
	}
	return opened(rd, rd.openLines(in, string(uncut(text)), err == io.EOF, o))
}

func opened(rd *Reader, err error) (*Reader, error) {
	if err != nil {
		return nil, err
	}
	return rd, nil
}

// magic tells what is no text by its first bytes: XLSX for what may be a
// workbook, else the name of what cannot be read.
func magic(head []byte) Format {
	for _, m := range []struct {
		prefix string
		kind   Format
	}{
		{"PK\x03\x04", XLSX}, {"PK\x05\x06", "ZIP"}, {"%PDF", "PDF"}, {"\xd0\xcf\x11\xe0", "XLS, DOC, XLSX + password"}, {"\x1f\x8b", "gzip"}, {"BZh", "bzip2"},
		{"\xfd7zXZ", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"7z\xbc\xaf", "7z"}, {"Rar!", "RAR"}, {"{\\rtf", "RTF"}, {"\x89PNG", "PNG"}, {"\xff\xd8\xff", "JPEG"},
		{"GIF8", "GIF"}, {"SQLite format", "SQLite"}, {"PAR1", "Parquet"}, {"\x7fELF", "ELF"},
	} {
		if bytes.HasPrefix(head, []byte(m.prefix)) {
			return m.kind
		}
	}
	return ""
}

func likeMarkup(b []byte) bool {
	s := strings.ToLower(string(b[:min(len(b), 16)]))
	return strings.HasPrefix(s, "<?xml") || strings.HasPrefix(s, "<!doctype") || strings.HasPrefix(s, "<html")
}

func (r *Reader) openLines(in io.Reader, sample string, whole bool, o Options) error {
	comma := detectDelimiter(sample, whole, &o)
	r.info.Format, r.info.Delimiter = CSV, string(rune(comma))
	if comma == '\t' {
		r.info.Format = TSV
	}
	l := newLines(in, comma, &r.limits)
	var rec record
	if err := l.next(&rec); err == io.EOF {
		return fault(EmptyFile, l.line, "")
	} else if err != nil {
		return err
	}
	if rec.line == 1 && len(rec.cells) <= 2 && strings.TrimSpace(strings.Join(rec.cells, "")) == "sep=" || rec.line == 1 && rec.cells[0] == "sep="+string(rune(comma)) {
		if err := l.next(&rec); err == io.EOF {
			return fault(EmptyFile, l.line, "")
		} else if err != nil {
			return err
		}
	}
	if rec.openQuote {
		return fault(OpenQuote, rec.line, "%s", cut(strings.Join(rec.cells, r.info.Delimiter), 200))
	}
	if err := r.setColumns(rec.cells, rec.line, o.Mapping); err != nil {
		return err
	}
	decode := func(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
	if r.info.Encoding == "utf-8" || r.info.Encoding == "utf-8-bom" {
		decode = foreign
	}
	r.next = func() (Row, error) {
		if err := l.next(&rec); err != nil {
			return Row{}, err
		}
		row := Row{Line: rec.line}
		if rec.openQuote {
			row.issue("", OpenQuote, strings.Join(rec.cells, r.info.Delimiter), isError)
			return row, nil
		}
		for i, c := range rec.cells {
			rec.cells[i] = unguard(c)
		}
		row.fill(rec.cells, r.to, &r.limits, decode)
		if rec.stray >= 0 && rec.stray < len(r.to) && !row.Rejected {
			row.issue(r.to[rec.stray].header, StrayQuote, rec.cells[rec.stray], isWarning)
		}
		if len(rec.cells) < len(r.to) && !row.Rejected {
			row.issue(r.to[len(rec.cells)].header, ShortRow, strings.Join(rec.cells, " | "), isWarning)
		}
		return row, nil
	}
	return nil
}

// setColumns takes the header.
func (r *Reader) setColumns(header []string, line int64, given map[string]string) error {
	if len(header) > r.limits.MaxColumns {
		return fault(TooManyColumns, line, "> %d", r.limits.MaxColumns)
	}
	clean := make([]string, len(header))
	for i, h := range header {
		if strings.IndexByte(h, 0) >= 0 {
			return fault(NULByte, line, "%d", i+1)
		}
		if !utf8.ValidString(h) {
			h = foreign(h)
		}
		clean[i] = strings.Clone(unguard(h))
	}
	cols, err := mapColumns(clean, given, line)
	var file *FileError
	if errors.As(err, &file) {
		nameProperties(cols)
		file.Columns = cols
	}
	if err != nil {
		return err
	}
	r.info.Columns, r.to = cols, targets(cols)
	return nil
}

// foreign reads a text that is not valid in a file of UTF-8, as it comes of
// lists pasted together, in the encoding that its bytes suggest.
func foreign(s string) string {
	_, enc := legacy([]byte(s))
	out, err := enc.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\ufffd")
	}
	return out
}

// Info tells what was detected.
func (r *Reader) Info() Info { return r.info }

// BytesRead is how far into the file the reader is, for progress.
func (r *Reader) BytesRead() int64 { return min(r.src.n.Load(), r.src.size) }

// Close lets go of what the reader holds; the file is the caller's.
func (r *Reader) Close() error {
	r.next, r.err = nil, io.ErrClosedPipe
	if r.close != nil {
		return r.close()
	}
	return nil
}

// Next gives the next row, or io.EOF at the end, or a *FileError where the
// file is unusable from there on. Other errors are those of reading the file.
// An error stays.
func (r *Reader) Next() (Row, error) {
	if r.err != nil {
		return Row{}, r.err
	}
	row, err := r.next()
	r.err = err
	return row, err
}
