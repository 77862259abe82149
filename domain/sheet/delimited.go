package sheet

import (
	"bytes"
	"io"
	"slices"
	"strings"
)

// lines reads delimited text, in UTF-8, record by record through one buffer
// that never holds more than the longest record allowed.
//
// The rules are those of RFC 4180, kindly: CR, LF and CRLF end a record; blanks
// may stand around a quoted cell; a quote inside an unquoted cell is a
// character; where the quotes of a cell do not match, the cell is what stands
// in the file. One thing is not forgiven: a quote that is opened and not closed
// would take the rows below it into its cell. Such a record is given up to the
// end of its first line, and reading goes on with the next.
type lines struct {
	r        io.Reader
	comma    byte
	most     int // bytes of one record
	columns  int // cells of one record that are told apart
	buf      []byte
	pos, end int
	eof      bool
	err      error
	line     int64 // of the file, where the next record starts
	spans    []span
	spare    int64 // bytes that may still be read twice because of open quotes
}

// span is one cell within its record.
type span struct {
	from, to int
	escaped  bool // holds "" for "
	stray    bool // its quotes do not match
}

// record is what next gives; cells are valid until the next call.
type record struct {
	cells     []string
	line      int64
	stray     int  // index of the first cell whose quotes do not match, or -1
	openQuote bool // cells is the first line of a record that never ends
}

const spareBytes = 64 << 20

func newLines(r io.Reader, comma byte, l *Limits) *lines {
	return &lines{r: r, comma: comma, most: l.MaxRowBytes, columns: 2*l.MaxColumns + 1, buf: make([]byte, 64<<10), line: 1, spare: spareBytes}
}

// more reads on; false at the end of the file, at an error and where the
// record that starts at pos has its most bytes already.
func (d *lines) more() bool {
	if d.eof || d.end-d.pos >= d.most {
		return false
	}
	if d.pos > 0 {
		d.end = copy(d.buf, d.buf[d.pos:d.end])
		d.pos = 0
	}
	if d.end == len(d.buf) {
		d.buf = append(d.buf, make([]byte, min(len(d.buf), d.most+1-d.end))...)
	}
	for range 100 {
		n, err := d.r.Read(d.buf[d.end:])
		d.end += n
		if err != nil {
			d.eof = true
			if err != io.EOF {
				d.err = err
			}
		}
		if n > 0 || err != nil {
			return n > 0
		}
	}
	d.eof, d.err = true, io.ErrNoProgress
	return false
}

// at gives byte i of the record, reading on where need be.
func (d *lines) at(i int) (byte, bool) {
	if d.pos+i >= d.end && !d.more() {
		return 0, false
	}
	return d.buf[d.pos+i], true
}

type ending uint8

const (
	complete  ending = iota
	unclosed         // a quote is open at the end of the file or of the bytes allowed
	overlong         // more bytes than allowed
	exhausted        // nothing left
)

// scan finds the cells of the record at pos and gives its length. With quotes
// off, a quote is a character and the record one line.
func (d *lines) scan(quotes bool) (n int, how ending, garbage bool) {
	d.spans = d.spans[:0]
	i := 0
	if _, ok := d.at(0); !ok {
		return 0, exhausted, false
	}
	for {
		s := span{from: i}
		c, ok := d.at(i)
		for ok && (c == ' ' || c == '\t') && c != d.comma && quotes {
			i++
			c, ok = d.at(i)
		}
		if ok && c == '"' && quotes {
			first := i + 1
			if i = d.closing(first, &s); i < 0 {
				return 0, unclosed, false
			}
			last := i
			i = d.plain(i + 1)
			if len(bytes.TrimSpace(d.buf[d.pos+last+1:d.pos+i])) == 0 {
				s.from, s.to = first, last
			} else {
				s.to, s.escaped, s.stray, garbage = i, false, true, true
			}
		} else {
			i = d.plain(i)
			s.to = i
		}
		if len(d.spans) < d.columns {
			d.spans = append(d.spans, s)
		}
		c, ok = d.at(i)
		switch {
		case !ok && d.eof:
			return i, complete, garbage
		case !ok:
			return i, overlong, garbage
		case c == d.comma:
			i++
		default: // CR or LF
			i++
			if c == '\r' {
				if c, ok := d.at(i); ok && c == '\n' {
					i++
				}
			}
			return i, complete, garbage
		}
	}
}

// closing gives the place of the quote that closes the cell whose text starts
// at i, or -1.
func (d *lines) closing(i int, s *span) int {
	for {
		j := bytes.IndexByte(d.buf[d.pos+i:d.end], '"')
		if j < 0 {
			i = d.end - d.pos
			if !d.more() {
				return -1
			}
			continue
		}
		i += j
		if c, ok := d.at(i + 1); !ok || c != '"' {
			return i
		}
		s.escaped = true
		i += 2
	}
}

// plain gives the place of the next delimiter or line end from i on, or of the
// end of what there is.
func (d *lines) plain(i int) int {
	for {
		b := d.buf[d.pos+i : d.end]
		for j, c := range b {
			if c == d.comma || c == '\n' || c == '\r' {
				return i + j
			}
		}
		i += len(b)
		if !d.more() {
			return i
		}
	}
}

// next gives the next record that is not blank, or io.EOF.
func (d *lines) next(out *record) error {
	for {
		n, how, garbage := d.scan(true)
		text := d.buf[d.pos : d.pos+n]
		open := how == unclosed || garbage && bytes.ContainsAny(bytes.TrimRight(text, "\r\n"), "\r\n")
		if open {
			if d.spare -= int64(d.end - d.pos); d.spare < 0 {
				return fault(TooManyOpenQuotes, d.line, "")
			}
			n, how, _ = d.scan(false)
			text = d.buf[d.pos : d.pos+n]
		}
		switch {
		case d.err != nil:
			return d.err
		case how == exhausted:
			return io.EOF
		case how == overlong:
			return fault(RowTooLong, d.line, "> %d", d.most)
		}
		out.line, out.openQuote, out.stray = d.line, open, -1
		d.line += breaks(text)
		d.pos += n
		if d.spare < spareBytes {
			d.spare += int64(n)
		}
		if len(bytes.Trim(text, " \t\r\n")) == 0 {
			continue
		}
		whole := string(text)
		out.cells = slices.Grow(out.cells[:0], len(d.spans))
		for i, s := range d.spans {
			cell := whole[s.from:s.to]
			switch {
			case s.escaped:
				cell = strings.ReplaceAll(cell, `""`, `"`)
			case s.stray && !open:
				cell = strings.TrimSpace(cell)
				if inner := cell[1:]; strings.HasSuffix(inner, `"`) { // "the "Rose" Ltd"
					cell = inner[:len(inner)-1]
				}
				if out.stray < 0 {
					out.stray = i
				}
			}
			out.cells = append(out.cells, cell)
		}
		if !slices.ContainsFunc(out.cells, func(c string) bool { return trim(c) != "" }) {
			continue
		}
		return nil
	}
}

// breaks counts the lines that end in text.
func breaks(text []byte) int64 {
	n := bytes.Count(text, []byte{'\n'})
	if cr := bytes.Count(text, []byte{'\r'}); cr > 0 {
		n += cr - bytes.Count(text, []byte("\r\n"))
	}
	return int64(n)
}
