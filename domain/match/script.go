package match

import (
	"sync"
	"unicode"

	"github.com/mozillazg/go-unidecode"
	"golang.org/x/text/unicode/norm"
)

type runeClass uint8

const (
	letter runeClass = iota
	mark             // belongs to its letter and is left out
	space            // ends a word
)

// foldRune gives the lower-case letters without accents that a rune stands for.
func foldRune(r rune) (string, runeClass) {
	if r < 0x10000 {
		f := folds()[r]
		return f.text, f.class
	}
	f := foldOf(r)
	return f.text, f.class
}

type fold struct {
	text  string
	class runeClass
}

// folds and romans are filled at the first name that is not ASCII.
var folds = sync.OnceValue(func() []fold {
	out := make([]fold, 0x10000)
	for r := range out {
		out[r] = foldOf(rune(r))
	}
	return out
})

func foldOf(r rune) fold {
	if text, ok := special[r]; ok {
		return fold{text, letter}
	}
	form := norm.NFKD
	if unicode.In(r, unicode.Hangul, unicode.Hiragana, unicode.Katakana) {
		form = norm.NFKC // a voiced kana and a syllable are one letter
	}
	var text []rune
	class := mark
	for _, c := range form.String(string(r)) {
		switch {
		case c == '’' || c == '‘' || c == 'ʼ' || c == 'ـ' || unicode.In(c, unicode.Mn, unicode.Cf):
		case unicode.IsLetter(c) || unicode.IsDigit(c):
			class = letter
			if s, ok := special[c]; ok {
				text = append(text, []rune(s)...)
				continue
			}
			text = append(text, unicode.ToLower(c))
		default:
			if class == mark {
				class = space
			}
		}
	}
	if len(text) == 0 && class == letter {
		class = mark
	}
	return fold{string(text), class}
}

// special letters that no decomposition turns into plain ones.
var special = map[rune]string{'ß': "ss", 'ẞ': "ss", 'æ': "ae", 'Æ': "ae", 'œ': "oe", 'Œ': "oe", 'ø': "o", 'Ø': "o",
	'ł': "l", 'Ł': "l", 'đ': "d", 'Đ': "d", 'ð': "d", 'Ð': "d", 'þ': "th", 'Þ': "th", 'ı': "i", 'İ': "i", 'ə': "a", 'Ə': "a",
	'ى': "ي", 'ة': "ه", 'ک': "ك", 'ی': "ي"}

// roman gives a folded letter in Latin ones.
func roman(r rune) string {
	if r < 0x10000 {
		return romans()[r]
	}
	return romanOf(r)
}

var romans = sync.OnceValue(func() []string {
	out := make([]string, 0x10000)
	for r := range out {
		out[r] = romanOf(rune(r))
	}
	return out
})

func romanOf(r rune) string {
	switch {
	case r < 0x250:
		return string(r)
	case cyrillic[r] != "":
		return cyrillic[r]
	case r == 'ь' || r == 'ъ' || r == 'ー':
		return ""
	}
	return unidecode.Unidecode(string(r))
}

// cyrillic follows the romanisation of passports (ICAO 9303), where the
// library's differs from what lists use.
var cyrillic = map[rune]string{'х': "kh", 'ц': "ts", 'щ': "shch", 'ж': "zh", 'ю': "yu", 'я': "ya", 'й': "y", 'ё': "e", 'э': "e",
	'є': "ye", 'ї': "yi", 'і': "i", 'ґ': "g", 'ы': "y"}

// ideographic reports a script that writes no spaces between words.
func ideographic(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai)
}
