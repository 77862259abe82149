package match

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A form is one way to read a name. The first is the name as it stands; a name
// in another script has one more in Latin letters; a name with brackets has
// those of what is outside and of each thing inside.
type kind uint16

const (
	core      kind = 1 << iota // legal forms or brackets were left out
	acronym                    // the capitals that the name itself gave in brackets
	flags     = core | acronym
	legalCode = ^flags // the legal forms that were left out, as a sum
)

// withLegal notes a legal form that is left out.
func (k kind) withLegal(word []byte) kind {
	return k&flags | core | (k&legalCode+codeOf(word))&legalCode
}

// reader cuts names into words. It is reused; nothing that it gives outlives
// the next name.
type reader struct {
	letters   []byte // folded, the words end to end
	ends      []int  // where each word ends
	start     int    // of the word being written
	foreign   bool   // some letters are not Latin
	bracketed bool   // it has brackets
	signed    bool   // the word being written may have signs of a script without spaces
	digits    bool   // it has digits
	latin     []byte
}

// readings calls yield for each form of a name, its words in r. verbatim is the
// same for names that differ in case, accents, punctuation and spaces alone.
func (r *reader) readings(name string, yield func(kind)) (verbatim uint64) {
	r.cut(name)
	verbatim, _ = polynomial(r.letters)
	bracketed := r.bracketed
	both := func(k kind) {
		if len(r.ends) == 0 {
			return
		}
		yield(k)
		if r.foreign {
			if k = r.romanise(k); len(r.ends) > 0 {
				yield(k)
			}
		}
	}
	both(0)
	if bracketed {
		if outside, inside := brackets(name); len(inside) > 0 && strings.TrimSpace(outside) != "" {
			r.cut(outside)
			both(core)
			for _, in := range inside {
				k := core
				if isAcronym(in) {
					k |= acronym
				}
				r.cut(in)
				both(k)
			}
		}
	}
	return mix(verbatim)
}

func (r *reader) words() int { return len(r.ends) }

func (r *reader) word(i int) []byte {
	from := 0
	if i > 0 {
		from = r.ends[i-1]
	}
	return r.letters[from:r.ends[i]]
}

// Classes of ASCII: itself in lower case, or one of these.
const (
	gap  = 0 // ends a word
	skip = 1 // people's is peoples
)

var asciiClass = func() (t [utf8.RuneSelf]byte) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			t[c] = byte(c)
		case 'A' <= c && c <= 'Z':
			t[c] = byte(c) + 'a' - 'A'
		case c == '\'' || c == '`':
			t[c] = skip
		}
	}
	return t
}()

// cut folds a name (case, accents, punctuation) and cuts it into words. Letters
// of every script stay.
func (r *reader) cut(s string) {
	r.letters, r.ends, r.start, r.foreign, r.bracketed, r.signed, r.digits = r.letters[:0], r.ends[:0], 0, false, false, false, false
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			rn, size := utf8.DecodeRuneInString(s[i:])
			i += size
			r.rune(rn)
			continue
		}
		i++
		switch f := asciiClass[c]; {
		case f > skip:
			r.letters = append(r.letters, f)
			r.digits = r.digits || f <= '9'
		case f == skip:
		case c == '.' && r.dotted(s[:i-1], s[i:]):
		default:
			r.bracketed = r.bracketed || c == '(' || c == '['
			r.endWord()
		}
	}
	r.endWord()
}

// dotted knows the dots of U.S.A. and S.p.A.: between letters that stand alone.
func (r *reader) dotted(before, after string) bool {
	single := func(s string) bool { // a letter and then no other
		return len(s) > 0 && s[0] < utf8.RuneSelf && asciiClass[s[0]] > skip && (len(s) == 1 || s[1] < utf8.RuneSelf && asciiClass[s[1]] == gap)
	}
	n := len(before)
	return n > 0 && before[n-1] < utf8.RuneSelf && asciiClass[before[n-1]] > skip &&
		(n == 1 || before[n-2] < utf8.RuneSelf && asciiClass[before[n-2]] == gap) && single(after)
}

func (r *reader) rune(c rune) {
	switch folded, kind := foldRune(c); kind {
	case letter:
		r.letters = append(r.letters, folded...)
		if c >= 0x250 && folded[0] >= utf8.RuneSelf {
			r.foreign = true
		}
		r.signed = r.signed || c >= 0xE00
		r.digits = r.digits || folded[0] <= '9'
	case space:
		r.bracketed = r.bracketed || c == '（' || c == '【'
		r.endWord()
	}
}

// endWord ends the word being written.
func (r *reader) endWord() {
	from, to := r.start, len(r.letters)
	if from == to {
		return
	}
	word := r.letters[from:to]
	signed, digits := r.signed, r.digits
	r.signed, r.digits = false, false
	if signed && bytes.ContainsFunc(word, ideographic) {
		text := string(word)
		r.letters = r.letters[:from]
		front, name, back := cutLegal(text)
		r.put(front)
		r.signs(name)
		r.put(back)
		return
	}
	if !digits {
		r.ends = append(r.ends, to)
		r.start = to
		return
	}
	// 5th is 5
	if n := len(word); n > 2 && isDigit(word[n-3]) && ordinal(string(word[n-2:])) {
		to -= 2
		r.letters = r.letters[:to]
	}
	// A number in a word is one by itself: 33TsNII, SET1.
	for i := from + 1; i < to; i++ {
		if isDigit(r.letters[i]) != isDigit(r.letters[i-1]) {
			r.ends = append(r.ends, i)
		}
	}
	r.ends = append(r.ends, to)
	r.start = to
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// signs cuts text without spaces: katakana are words, spelled by sound, and so
// are Latin letters and digits; other signs go in pairs, so that a part of a name
// is found too. A single Latin letter beside katakana is part of the word: more
// often than not a slip.
func (r *reader) signs(s string) {
	all := []rune(s)
	kinds := make([]writing, len(all))
	for i, c := range all {
		kinds[i] = writingOf(c)
	}
	at := func(i int) writing {
		if i < 0 || i >= len(kinds) {
			return none
		}
		return kinds[i]
	}
	for i := range kinds {
		if kinds[i] == spelled && at(i-1) != spelled && at(i+1) != spelled && (at(i-1) == kana || at(i+1) == kana) {
			kinds[i] = kana
		}
	}
	for from := 0; from < len(all); {
		to := from + 1
		for at(to) == kinds[from] {
			to++
		}
		if run := all[from:to]; kinds[from] != paired || len(run) <= 2 {
			r.put(string(run))
		} else {
			for i := 0; i+2 <= len(run); i++ {
				r.put(string(run[i : i+2]))
			}
		}
		from = to
	}
}

type writing uint8

const (
	spelled writing = iota
	kana
	paired
	none
)

func writingOf(r rune) writing {
	switch {
	case r == 'ー' || unicode.Is(unicode.Katakana, r):
		return kana
	case ideographic(r):
		return paired
	}
	return spelled
}

func (r *reader) put(word string) {
	if word != "" {
		r.letters = append(r.letters, word...)
		r.ends = append(r.ends, len(r.letters))
		r.start = len(r.letters)
	}
}

func ordinal(s string) bool { return s == "st" || s == "nd" || s == "rd" || s == "th" }

// romanise writes the words in Latin letters, without the legal forms that were
// written in signs; those are noted in k.
func (r *reader) romanise(k kind) kind {
	r.latin = r.latin[:0]
	for i := range r.ends {
		word := r.word(i)
		if len(r.ends) > 1 && word[0] >= 0xE0 && legalForms[string(word)] {
			k = k.withLegal(word)
			continue
		}
		for j := 0; j < len(word); {
			if word[j] < utf8.RuneSelf {
				r.latin = append(r.latin, word[j])
				j++
				continue
			}
			c, size := utf8.DecodeRune(word[j:])
			// Pairs of signs overlap: each is written once.
			if !(j > 0 && i+1 < len(r.ends) && size == 3 && ideographic(c) && overlaps(word, r.word(i+1))) {
				r.latin = appendRoman(r.latin, c, word[j+size:])
			}
			j += size
		}
		if i+1 == len(r.ends) || !overlaps(word, r.word(i+1)) {
			r.latin = append(r.latin, ' ')
		}
	}
	text := string(r.latin)
	r.cut(text)
	return k
}

// appendRoman writes a letter. The small kana change what stands beside them: ッ
// doubles the consonant after it, キャ is kya, シャ is sha, ティ is ti.
func appendRoman(out []byte, c rune, after []byte) []byte {
	switch n := len(out); {
	case c < 'ぁ' || c > 'ヿ':
	case c == 'ッ' || c == 'っ':
		if next, _ := utf8.DecodeRune(after); writingOf(next) != spelled {
			if s := roman(next); s != "" {
				return append(out, s[0])
			}
		}
		return out
	case strings.ContainsRune("ャュョゃゅょ", c) && n > 1 && out[n-1] == 'i':
		s := roman(c) // ya
		if before := out[n-2]; before == 'h' || before == 'j' {
			s = s[1:]
		}
		return append(out[:n-1], s...)
	case strings.ContainsRune("ァィェォ", c) && n > 1 && strings.IndexByte("aiueo", out[n-1]) >= 0:
		return append(out[:n-1], roman(c)...)
	}
	return append(out, roman(c)...)
}

// overlaps reports that two pairs of signs share one.
func overlaps(a, b []byte) bool {
	last, size := utf8.DecodeLastRune(a)
	first, _ := utf8.DecodeRune(b)
	return size == 3 && last == first && ideographic(last) && utf8.RuneCount(a) == 2 && utf8.RuneCount(b) == 2
}

// brackets cuts a name into what is outside and what is inside (), [] or （）.
func brackets(s string) (outside string, inside []string) {
	var out, in strings.Builder
	depth := 0
	for _, r := range s {
		switch r {
		case '(', '[', '（', '【':
			depth++
			out.WriteByte(' ')
		case ')', ']', '）', '】':
			if depth > 0 {
				depth--
				if depth == 0 && strings.TrimSpace(in.String()) != "" {
					inside = append(inside, strings.TrimSpace(in.String()))
				}
				if depth == 0 {
					in.Reset()
				}
			}
		default:
			if depth > 0 {
				in.WriteRune(r)
			} else {
				out.WriteRune(r)
			}
		}
	}
	return out.String(), inside
}

// isAcronym: two to ten capitals and digits, dots and dashes between them allowed.
func isAcronym(s string) bool {
	n := 0
	for _, r := range s {
		switch {
		case unicode.IsUpper(r) || unicode.IsDigit(r):
			n++
		case r == '.' || r == '-' || r == '/':
		default:
			return false
		}
	}
	return n >= 2 && n <= 10
}
