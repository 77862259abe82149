// Package fold brings a place name to the form the tables of domain/geo are
// keyed by. It is a package of its own because the program that writes those
// tables and the one that reads them must agree to the letter.
package fold

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Name lower-cases s, drops accents (Latin, Greek, Cyrillic), vowel points
// (Arabic, Hebrew) and apostrophes, turns other punctuation into single
// spaces, writes "and" for "&" and "saint" for "st", and drops a leading
// "the". Dots vanish, so U.S.A. is usa. Marks of other scripts carry meaning
// (Indic vowels, Japanese voicing) and stay.
func Name(s string) string {
	var sb strings.Builder
	sb.Grow(len(s))
	space := false
	emit := func(r rune) {
		if space && sb.Len() > 0 {
			sb.WriteByte(' ')
		}
		space = false
		sb.WriteRune(r)
	}
	var base rune
	for _, r := range decomposed(s) {
		switch {
		case unicode.Is(unicode.Mn, r):
			if !dropsMarks(base) {
				emit(r)
			}
			continue
		case r == '.' || apostrophe(r) || unicode.Is(unicode.Cf, r) || r == 'ـ':
		case r == '&':
			space = true
			for _, c := range "and" {
				emit(c)
			}
			space = true
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.Mc, r):
			base = r
			for _, c := range plain(unicode.ToLower(r)) {
				emit(c)
			}
		default:
			space = true
		}
	}
	return norm.NFC.String(words(sb.String()))
}

// decomposed is NFKD, which changes nothing in ASCII.
func decomposed(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return norm.NFKD.String(s)
		}
	}
	return s
}

func dropsMarks(r rune) bool {
	return unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Arabic, unicode.Hebrew)
}

func apostrophe(r rune) bool { return strings.ContainsRune("'’‘ʻʼ`´ʹ′׳ˈ", r) }

// plain spells letters that have no decomposition, or that keyboards of
// neighbouring languages write differently, one way.
func plain(r rune) string {
	if s, ok := spellings[r]; ok {
		return s
	}
	return string(r)
}

var spellings = map[rune]string{
	'ø': "o", 'đ': "d", 'ð': "d", 'þ': "th", 'ł': "l", 'ħ': "h", 'ı': "i", 'æ': "ae", 'œ': "oe", 'ß': "ss", 'ə': "e", 'ŋ': "n",
	'ς': "σ",
	'ى': "ي", 'ی': "ي", 'ک': "ك", 'ة': "ه", 'ە': "ه",
}

func words(s string) string {
	if !strings.Contains(s, " ") {
		return s
	}
	fields := strings.Fields(s)
	for i, w := range fields {
		switch w {
		case "st":
			fields[i] = "saint"
		case "sts":
			fields[i] = "saints"
		}
	}
	if fields[0] == "the" && len(fields) > 1 {
		fields = fields[1:]
	}
	return strings.Join(fields, " ")
}
