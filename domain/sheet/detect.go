package sheet

import (
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	uni "golang.org/x/text/encoding/unicode"
)

const (
	sampleBytes = 64 << 10
	windows     = 15 // further samples, spread over a large file
)

// sampleOf reads the head of the file and windows further on, each cut to
// whole lines, for the one accent of a long list may stand in its middle.
func sampleOf(r io.ReaderAt, size int64) (head, rest []byte, err error) {
	head = make([]byte, min(size, sampleBytes))
	if n, err := r.ReadAt(head, 0); err != nil && err != io.EOF || n < len(head) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, err
	}
	if size <= sampleBytes {
		return head, nil, nil
	}
	step := max(sampleBytes, (size-sampleBytes)/windows)
	b := make([]byte, sampleBytes)
	rest = make([]byte, 0, windows*sampleBytes)
	for at := int64(sampleBytes); at < size; at += step {
		n, err := r.ReadAt(b[:min(sampleBytes, size-at)], at)
		if err != nil && err != io.EOF {
			return nil, nil, err
		}
		from, to := bytes.IndexByte(b[:n], '\n'), bytes.LastIndexByte(b[:n], '\n')
		if from >= 0 && to > from {
			rest = append(rest, b[from+1:to+1]...)
		}
	}
	return head, rest, nil
}

// detectEncoding names the encoding of a sample, of which the end may be cut
// anywhere, and gives its decoder, nil for UTF-8. A mark decides; then UTF-16
// by its zero bytes; then UTF-8 wherever it is valid, since no text in another
// encoding is so by chance; then Shift-JIS or GB18030 where the bytes pair up
// into the characters that are common in them; then Windows-1252, in which
// every byte means something.
func detectEncoding(head, rest []byte) (string, encoding.Encoding) {
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		return "utf-8-bom", nil
	case bytes.HasPrefix(head, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(head, []byte("\x00\x00\xfe\xff")):
		return "utf-32", nil
	case bytes.HasPrefix(head, []byte("\xff\xfe")):
		return "utf-16le", uni.UTF16(uni.LittleEndian, uni.UseBOM)
	case bytes.HasPrefix(head, []byte("\xfe\xff")):
		return "utf-16be", uni.UTF16(uni.BigEndian, uni.UseBOM)
	}
	valid := utf8.Valid(uncut(head)) && utf8.Valid(rest)
	if zeros := bytes.Count(head, []byte{0}); zeros > 0 && (!valid || zeros > 3 && zeros > len(head)/20) {
		switch {
		case likeUTF16(head, 0):
			return "utf-16le", uni.UTF16(uni.LittleEndian, uni.IgnoreBOM)
		case likeUTF16(head, 1):
			return "utf-16be", uni.UTF16(uni.BigEndian, uni.IgnoreBOM)
		}
	}
	if valid {
		return "utf-8", nil
	}
	return legacy(append(bytes.Clone(head), rest...))
}

// uncut takes a character that is not whole off the end.
func uncut(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// likeUTF16 reports whether b reads as text in two-byte units of which the
// byte at the place low (0 or 1) comes first. ASCII has its zero bytes at the
// other place, and there is ASCII in every list: delimiters and line ends. The
// wrong way round a line feed is U+0A00.
func likeUTF16(b []byte, low int) bool {
	b = b[:min(len(b), 16<<10)&^1]
	units := make([]uint16, len(b)/2)
	var zeros [2]int
	for i := range units {
		units[i] = uint16(b[2*i+low]) | uint16(b[2*i+1-low])<<8
		for j := range zeros {
			if b[2*i+j] == 0 {
				zeros[j]++
			}
		}
	}
	if zeros[low]*10 > zeros[1-low] {
		return false
	}
	good, ends := 0, 0
	text := utf16.Decode(units)
	for _, r := range text {
		switch {
		case strings.ContainsRune("\r\n\t,;|", r):
			ends++
		case r == utf8.RuneError || !unicode.IsGraphic(r):
			continue
		}
		good++
	}
	return ends > 0 && good*10 > len(text)*9
}

// legacy tells the encodings before Unicode apart. Text that is not Western
// has its high bytes in pairs, and nearly all pairs are in the rows of the
// common characters; in Western text a high byte stands between ASCII letters.
func legacy(b []byte) (string, encoding.Encoding) {
	jis, gb := tally(b, shiftJIS), tally(b, gb18030)
	switch {
	case jis > 0.7 && jis > gb:
		return "shift_jis", japanese.ShiftJIS
	case gb > 0.7:
		return "gb18030", simplifiedchinese.GB18030
	}
	return "windows-1252", charmap.Windows1252
}

// tally gives the share of the characters beyond ASCII that are common ones,
// 0 where a byte fits nowhere.
func tally(b []byte, next func([]byte) (width int, common bool)) float64 {
	var all, common int
	for i := 0; i < len(b); {
		if b[i] < 0x80 {
			i++
			continue
		}
		w, ok := next(b[i:])
		if w == 0 {
			if len(b)-i < 4 { // cut at the end of the sample
				break
			}
			return 0
		}
		all++
		if ok {
			common++
		}
		i += w
	}
	if all == 0 {
		return 0
	}
	return float64(common) / float64(all)
}

// shiftJIS knows the bytes of JIS X 0208 in Shift-JIS: kana, punctuation and
// full-width letters, and the kanji of level 1 are common; level 2 and
// half-width kana are not.
func shiftJIS(b []byte) (int, bool) {
	c := b[0]
	switch {
	case c >= 0xa1 && c <= 0xdf:
		return 1, false
	case c < 0x81 || c > 0xfc || c == 0xa0 || len(b) < 2 || b[1] < 0x40 || b[1] == 0x7f || b[1] > 0xfc:
		return 0, false
	}
	return 2, c == 0x82 && b[1] >= 0x4f || c == 0x83 && b[1] <= 0x96 || c == 0x81 && b[1] <= 0x7e || c >= 0x88 && c <= 0x97
}

// gb18030 knows the bytes of GB18030: the punctuation, the letters beyond ASCII
// (kana, Greek, Cyrillic, accented Latin) and the characters of level 1 of
// GB 2312 are common.
func gb18030(b []byte) (int, bool) {
	switch {
	case len(b) < 2 || b[0] == 0x80 || b[0] == 0xff:
		return 0, false
	case b[1] >= 0x30 && b[1] <= 0x39:
		if len(b) < 4 || b[2] < 0x81 || b[2] == 0xff || b[3] < 0x30 || b[3] > 0x39 {
			return 0, false
		}
		return 4, false
	case b[1] < 0x40 || b[1] == 0x7f || b[1] == 0xff:
		return 0, false
	}
	return 2, b[1] >= 0xa1 && (b[0] >= 0xb0 && b[0] <= 0xd7 || b[0] == 0xa1 || b[0] >= 0xa3 && b[0] <= 0xa8)
}

// delimiters in the order in which they are preferred.
const delimiters = ",;\t|"

// detectDelimiter reads the first records with each delimiter and takes the
// one that finds a column of names, then the one whose rows have as many cells
// as the header, then the most columns. A list of one column that has commas
// in its names is one column.
func detectDelimiter(text string, whole bool, o *Options) byte {
	if line, _, ok := strings.Cut(text, "\n"); ok { // Excel's own first line
		if d, ok := strings.CutPrefix(strings.TrimRight(line, "\r"), "sep="); ok && len(d) == 1 {
			return d[0]
		}
	}
	if o.Format == TSV {
		return '\t'
	}
	prefer := byte(',')
	if strings.HasPrefix(o.MediaType, "text/tab-separated-values") || strings.HasSuffix(strings.ToLower(o.Filename), ".tsv") {
		prefer = '\t'
	}
	best, bestScore := prefer, -1.0
	for _, d := range []byte(delimiters) {
		l := newLines(strings.NewReader(text), d, &o.Limits)
		var rec record
		if l.next(&rec) != nil {
			continue
		}
		columns := len(rec.cells)
		_, err := mapColumns(rec.cells, o.Mapping, 1)
		named := err == nil || IsFileError(err) == DuplicateHeader
		same, all := 0, 0
		for all < 100 && l.next(&rec) == nil {
			if all++; len(rec.cells) == columns {
				same++
			}
		}
		if !whole && all > 0 && l.eof && len(rec.cells) != columns {
			all-- // the last row of the sample is cut
		}
		score := float64(min(columns, 100)) / 100
		if all > 0 {
			score += 10 * float64(same) / float64(all)
		}
		if columns == 1 && !named {
			score = 0
		}
		if named {
			score += 100
		}
		if d == prefer {
			score += 0.001
		}
		if score > bestScore {
			best, bestScore = d, score
		}
	}
	return best
}
