package match

import (
	"strings"
	"unicode/utf8"
)

// Latin gives a name or a text in small Latin letters and digits, words apart:
// without accents, and transliterated as names of lists are. It is how another
// package compares what is written in two scripts.
func Latin(s string) string {
	var out strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			switch c := asciiClass[r]; {
			case c > skip:
				out.WriteByte(c)
			case r == '&':
				out.WriteString(" and ")
			case c == gap:
				out.WriteByte(' ')
			}
			continue
		}
		switch text, class := foldRune(r); class {
		case letter:
			for _, c := range text {
				out.WriteString(strings.ToLower(roman(c)))
			}
		case space:
			out.WriteByte(' ')
		}
	}
	return strings.Join(strings.FieldsFunc(out.String(), func(r rune) bool { return r < utf8.RuneSelf && asciiClass[r] <= skip }), " ")
}
