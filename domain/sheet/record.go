package sheet

import (
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Record is one listed entity. The texts of one record share memory: keep a
// strings.Clone of one that is to outlive the others.
type Record struct {
	ID          string              `json:"id,omitempty"` // for the writers; files that are read have an ExternalID
	Name        string              `json:"name"`
	Aliases     []string            `json:"aliases"`
	Countries   []string            `json:"countries"` // as in the file, neither resolved nor normalised
	Cities      []string            `json:"cities"`
	Latitude    *float64            `json:"latitude"`
	Longitude   *float64            `json:"longitude"`
	SchemaType  string              `json:"schema_type"`
	ExternalID  string              `json:"external_id"`
	Description string              `json:"description"`
	SourceURL   string              `json:"data_source_url"`
	Published   string              `json:"published_date"` // ISO 8601, as precise as the file: 2024, 2024-05 or 2024-05-31
	Updated     string              `json:"updated_date"`
	Properties  map[string][]string `json:"properties"`
}

// Issue is something wrong with a row. An error rejects the row, a warning
// keeps it. Value is the cell, at most 200 bytes of it.
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

const (
	isError   = "error"
	isWarning = "warning"
)

func (row *Row) issue(column, code, value, severity string) {
	value = strings.ReplaceAll(strings.ToValidUTF8(cut(value, 200), "\ufffd"), "\x00", "␀")
	row.Issues = append(row.Issues, Issue{row.Line, column, code, value, Messages[code][0], severity})
	row.Rejected = row.Rejected || severity == isError
}

func (rec *Record) keep(property string, values ...string) {
	if rec.Properties == nil {
		rec.Properties = map[string][]string{}
	}
	rec.Properties[property] = append(rec.Properties[property], values...)
}

// What fill does with a cell, by its column.
const (
	toProperty = iota
	toName
	toAliases
	toCountries
	toCities
	toLatitude
	toLongitude
	toSchemaType
	toExternalID
	toDescription
	toSourceURL
	toPublished
	toUpdated
	toProperties
)

// target is a column made ready for fill.
type target struct {
	to       int
	header   string
	property string
}

func targets(cols []Column) []target {
	out := make([]target, len(cols))
	for i, c := range cols {
		out[i] = target{fieldIndex(c.Field) + 1, c.Header, strings.TrimPrefix(c.Field, "properties.")}
	}
	return out
}

// fill makes the cells of one record into row. decode reads a cell that is not
// valid UTF-8. Cells are trimmed here; the empty ones say nothing.
func (row *Row) fill(cells []string, to []target, limits *Limits, decode func(string) string) {
	rec := &row.Record
	if len(cells) > len(to) {
		if slices.ContainsFunc(cells[len(to):], func(c string) bool { return trim(c) != "" }) {
			row.issue("", RaggedRow, strings.Join(cells, " | "), isError)
			return
		}
		cells = cells[:len(to)]
	}
	for i, v := range cells {
		if v = trim(v); v == "" {
			continue
		}
		c := &to[i]
		if strings.IndexByte(v, 0) >= 0 {
			row.issue(c.header, NULByte, v, isError)
			continue
		}
		if decode != nil {
			if !utf8.ValidString(v) {
				v = decode(v)
				row.issue(c.header, BadEncoding, v, isWarning)
			} else if strings.ContainsRune(v, utf8.RuneError) {
				row.issue(c.header, BadEncoding, v, isWarning)
			}
		}
		if len(v) > limits.MaxCellBytes && c.to != toAliases && c.to != toProperties {
			severity := isWarning
			if c.to == toName {
				severity = isError
			}
			row.issue(c.header, CellTooLong, v, severity)
			v = cut(v, limits.MaxCellBytes)
		}
		row.set(c, v)
	}
	if i := slices.Index(rec.Aliases, rec.Name); i >= 0 {
		rec.Aliases = slices.Delete(rec.Aliases, i, i+1)
	}
	if rec.Name == "" && !row.Rejected {
		row.issue("name", MissingName, strings.Join(cells, " | "), isError)
	}
}

func (row *Row) set(c *target, v string) {
	rec := &row.Record
	switch c.to {
	case toProperty:
		rec.keep(c.property, v)
	case toName:
		rec.Name = v
	case toAliases:
		rec.Aliases = appendNew(rec.Aliases, v, isAliasEnd)
	case toCountries:
		rec.Countries = appendNew(rec.Countries, v, isListEnd)
	case toCities:
		rec.Cities = appendNew(rec.Cities, v, isListEnd)
	case toLatitude, toLongitude:
		row.setCoordinate(c, v)
	case toSchemaType:
		rec.SchemaType = v
	case toExternalID:
		rec.ExternalID = v
	case toDescription:
		rec.Description = v
	case toSourceURL:
		if !webURL(v) {
			row.issue(c.header, InvalidURL, v, isWarning)
			rec.keep(c.header, v)
			return
		}
		rec.SourceURL = v
	case toPublished, toUpdated:
		d, ok := isoDate(v)
		switch {
		case !ok:
			row.issue(c.header, InvalidDate, v, isWarning)
			rec.keep(c.header, v)
		case c.to == toPublished:
			rec.Published = d
		default:
			rec.Updated = d
		}
	case toProperties:
		var p map[string][]string
		if json.Unmarshal([]byte(v), &p) != nil {
			rec.keep(c.header, v)
			return
		}
		for k, values := range p {
			rec.keep(k, values...)
		}
	}
}

func (row *Row) setCoordinate(c *target, v string) {
	code, most := InvalidLatitude, 90.0
	if c.to == toLongitude {
		code, most = InvalidLongitude, 180
	}
	f, err := strconv.ParseFloat(strings.Replace(v, ",", ".", 1), 64)
	if err != nil || !(f >= -most && f <= most) || strings.ContainsAny(v, "xX_pP") { // NaN is not in the range either
		row.issue(c.header, code, v, isWarning)
		row.Record.keep(c.header, v)
		return
	}
	if c.to == toLatitude {
		row.Record.Latitude = &f
	} else {
		row.Record.Longitude = &f
	}
}

// trim takes white space of any script and byte order marks off both ends.
func trim(s string) string {
	if s == "" || s[0] > ' ' && s[0] < utf8.RuneSelf && s[len(s)-1] > ' ' && s[len(s)-1] < utf8.RuneSelf {
		return s
	}
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
}

// Lists inside a cell: aliases are parted by semicolons and line breaks alone,
// since a comma, a bar or a bracket belongs to a name.
func isAliasEnd(r rune) bool { return r == ';' || r == '；' || r == '\n' || r == '\r' }
func isListEnd(r rune) bool  { return isAliasEnd(r) || r == '|' }

// appendNew adds the parts of v that list has not yet. A separator after a
// backslash is a character of the part, as joined writes it, and a semicolon
// that ends an HTML character reference ("&amp;") parts nothing.
func appendNew(list []string, v string, end func(rune) bool) []string {
	if list == nil {
		list = make([]string, 0, 1+strings.Count(v, ";"))
	}
	for v != "" {
		part, rest := "", ""
		for from := 0; ; {
			i := indexEnd(v[from:], end)
			if i < 0 {
				part += v
				break
			}
			i += from
			_, width := utf8.DecodeRuneInString(v[i:])
			n := backslashes(v[:i])
			if n%2 == 1 {
				part += v[:i-(n+1)/2] + v[i:i+width]
				v, from = v[i+width:], 0
				continue
			}
			if v[i] == ';' && n == 0 && endsReference(v[:i]) {
				from = i + 1
				continue
			}
			part += v[:i-n/2]
			rest = v[i+width:]
			break
		}
		if part = trim(part); part != "" && !slices.Contains(list, part) {
			list = append(list, part)
		}
		v = rest
	}
	return list
}

// joined writes a list as appendNew reads it: a separator inside a part gets a
// backslash in front, and backslashes before a separator are doubled. All
// others are left as they are.
func joined(list []string, end func(rune) bool) string {
	var b strings.Builder
	for i, part := range list {
		if i > 0 {
			b.WriteString("; ")
		}
		for {
			at := indexEnd(part, end)
			if at < 0 {
				break
			}
			_, width := utf8.DecodeRuneInString(part[at:])
			b.WriteString(part[:at] + strings.Repeat(`\`, backslashes(part[:at])+1) + part[at:at+width])
			part = part[at+width:]
		}
		b.WriteString(part)
		if i < len(list)-1 {
			b.WriteString(strings.Repeat(`\`, backslashes(part)))
		}
	}
	return b.String()
}

// backslashes counts those at the end of s.
func backslashes(s string) int { return len(s) - len(strings.TrimRight(s, `\`)) }

// indexEnd is strings.IndexFunc, quick over ASCII.
func indexEnd(v string, end func(rune) bool) int {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c >= utf8.RuneSelf {
			if j := strings.IndexFunc(v[i:], end); j >= 0 {
				return i + j
			}
			return -1
		} else if (c == ';' || c == '|' || c < ' ') && end(rune(c)) {
			return i
		}
	}
	return -1
}

func endsReference(s string) bool {
	i := strings.LastIndexByte(s, '&')
	if i < 0 || len(s)-i > 12 {
		return false
	}
	r := s[i:] + ";"
	return html.UnescapeString(r) != r && !strings.HasSuffix(html.UnescapeString(r), ";")
}

func webURL(v string) bool {
	u, err := url.Parse(v)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// dateLayouts are the forms beside YYYY-MM-DD. No form is read whose day and
// month could change places.
var dateLayouts = []struct{ in, out string }{
	{"2006-01-02T15:04:05Z07:00", time.DateOnly}, {"2006-01-02T15:04:05", time.DateOnly}, {"2006-01-02 15:04:05", time.DateOnly},
	{"2006-01-02 15:04:05Z07:00", time.DateOnly}, {"2006-01-02T15:04", time.DateOnly}, {"2006-01-02 15:04", time.DateOnly},
	{"2006-01", "2006-01"}, {"2006", "2006"}, {"2006/1/2", time.DateOnly}, {"2006.1.2", time.DateOnly}, {"2006-1-2", time.DateOnly}, {"20060102", time.DateOnly},
	{"2.1.2006", time.DateOnly}, {"2. 1. 2006", time.DateOnly}, {"2006年1月2日", time.DateOnly}, {"2006年1月", "2006-01"}, {"2006年", "2006"},
	{"2 January 2006", time.DateOnly}, {"2 Jan 2006", time.DateOnly}, {"January 2, 2006", time.DateOnly}, {"Jan 2, 2006", time.DateOnly},
	{"2-Jan-2006", time.DateOnly}, {"January 2006", "2006-01"}, {"Jan 2006", "2006-01"},
}

// eras of the Japanese calendar: the year before each one's first.
var eras = map[string]int{"令和": 2018, "平成": 1988, "昭和": 1925}

// isoDate reads a date and gives it as ISO 8601, no more precise than it was:
// YYYY, YYYY-MM or YYYY-MM-DD. A time of day is dropped. D.M.YY is in this
// century.
func isoDate(v string) (string, bool) {
	if len(v) == 10 && v[4] == '-' && v[7] == '-' {
		t, err := time.Parse(time.DateOnly, v)
		return v, err == nil && t.Year() >= 1000
	}
	if len(v) > 40 {
		return "", false
	}
	if strings.ContainsRune(v, '年') {
		v = strings.Map(func(r rune) rune {
			switch {
			case unicode.IsSpace(r):
				return -1
			case r >= '０' && r <= '９':
				return r - '０' + '0'
			}
			return r
		}, v)
		for era, before := range eras {
			if rest, ok := strings.CutPrefix(v, era); ok {
				year, rest, _ := strings.Cut(rest, "年")
				n, err := strconv.Atoi(strings.Replace(year, "元", "1", 1))
				if err != nil || n < 1 || n > 64 {
					return "", false
				}
				v = strconv.Itoa(before+n) + "年" + rest
			}
		}
	}
	for _, l := range dateLayouts {
		if t, err := time.Parse(l.in, v); err == nil && t.Year() >= 1000 {
			return t.Format(l.out), true
		}
	}
	if p := strings.Split(v, "."); len(p) == 3 && len(p[2]) == 2 {
		if t, err := time.Parse("2.1.2006", p[0]+"."+p[1]+".20"+p[2]); err == nil {
			return t.Format(time.DateOnly), true
		}
	}
	return "", false
}
