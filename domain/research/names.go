package research

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/chainreactions/chainreactions/domain/match"
)

// names are the spellings by which a text may name one entity.
type names struct {
	list []spelling
}

// spelling is one of them, prepared. words are without accents and case;
// optional ones at the end are legal forms, which a text may leave out.
type spelling struct {
	written  string
	words    []string
	needed   int      // of words, from the first
	squeezed string   // without spaces, for scripts that write none
	latin    string   // transliterated and squeezed, "" where the name is Latin
	bones    []string // the consonants of each word, for scripts that write no vowels
	acronym  bool     // counts only where the text writes it just so, and gives a whole name too
}

// newNames prepares names; what repeats or says nothing is left out.
func newNames(written ...string) names {
	var n names
	add := func(w string, acronym bool) {
		w = tidy(w)
		if w == "" || slices.ContainsFunc(n.list, func(s spelling) bool { return s.written == w }) {
			return
		}
		s := spelling{written: w, acronym: acronym}
		for _, t := range tokenize(w) {
			s.words = append(s.words, t.word)
		}
		for len(s.words) > 1 && s.words[0] == "the" {
			s.words = s.words[1:]
		}
		s.needed = len(s.words)
		for s.needed > 1 && legalForms[s.words[s.needed-1]] {
			s.needed--
		}
		s.squeezed = strings.Join(s.words, "")
		if utf8.RuneCountInString(s.squeezed) < 2 {
			return
		}
		if !isLatin(s.squeezed) {
			s.latin = strings.ReplaceAll(match.Latin(w), " ", "")
		}
		s.bones = bonesOf(match.Latin(w))
		n.list = append(n.list, s)
	}
	for _, w := range written {
		whole, inner := unbracket(w)
		add(w, false)
		add(whole, false)
		for _, in := range inner {
			add(in, isAcronym(in))
		}
	}
	return n
}

// written gives the spellings as they were given.
func (n names) written() []string {
	out := make([]string, len(n.list))
	for i, s := range n.list {
		out[i] = s.written
	}
	return out
}

// in gives the name that is written as the language is, or the first.
func (n names) in(language string) string {
	for _, s := range n.list {
		if !s.acronym && languageOf(s.written) == language {
			return s.written
		}
	}
	return n.list[0].written
}

// same reports whether name is one of the spellings, legal forms aside.
func (n names) same(name string) bool {
	for _, other := range newNames(name).list {
		for _, s := range n.list {
			if s.squeezed == other.squeezed || slices.Equal(s.words[:s.needed], other.words[:other.needed]) || s.latin != "" && s.latin == other.squeezed {
				return true
			}
		}
	}
	return false
}

// unbracket takes "Academy of Arts (AOA)" apart.
func unbracket(w string) (whole string, inner []string) {
	var b strings.Builder
	depth, from := 0, 0
	for i, r := range norm.NFKC.String(w) {
		switch r {
		case '(', '[':
			if depth == 0 {
				from = i + 1
			}
			depth++
		case ')', ']':
			if depth--; depth == 0 {
				inner = append(inner, strings.TrimSpace(norm.NFKC.String(w)[from:i]))
			}
			depth = max(0, depth)
		default:
			if depth == 0 {
				b.WriteRune(r)
			}
		}
	}
	if len(inner) == 0 {
		return w, nil
	}
	return strings.Join(strings.Fields(b.String()), " "), inner
}

func isAcronym(s string) bool {
	upper := 0
	for _, r := range s {
		if !unicode.IsUpper(r) && !unicode.IsDigit(r) && r != '-' && r != '&' {
			return false
		}
		if unicode.IsUpper(r) {
			upper++
		}
	}
	return upper >= 2
}

func isLatin(s string) bool {
	for _, r := range s {
		if unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r) {
			return false
		}
	}
	return true
}

// legalForms may be left out where an organisation is named.
var legalForms = func() map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields("ltd limited inc incorporated llc llp corp corporation co company gmbh ag kg se sa sas sarl spa srl nv bv ab as asa oy oyj plc pte pty jsc ojsc pjsc cjsc ooo oao zao pao ltda kk ooo оао зао пао ооо ао") {
		out[w] = true
	}
	return out
}()

// token is one word of a text and where it stands.
type token struct {
	word     string
	from, to int
	upper    bool // begins with a capital
}

// tokenize cuts text into words: letters and digits of any script, without
// accents and case. A run of CJK characters is one word each.
func tokenize(s string) []token {
	var out []token
	var b strings.Builder
	from, upper := -1, false
	flush := func(to int) {
		if from >= 0 {
			word := b.String()
			if w := strings.TrimSuffix(word, "'s"); w != "" {
				word = w
			}
			if word = strings.ReplaceAll(word, "'", ""); word != "" {
				out = append(out, token{word, from, to, upper})
			}
			b.Reset()
			from = -1
		}
	}
	for i, r := range s {
		switch {
		case ignorable(r):
			// inside a word, and no part of it
		case isCJK(r):
			flush(i)
			out = append(out, token{string(r), i, i + utf8.RuneLen(r), true})
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.Mn, r) || r == '\'' && from >= 0:
			if from < 0 {
				from, upper = i, unicode.IsUpper(r) || unicode.IsDigit(r) || !unicode.IsLower(r)
			}
			plain(&b, r)
		default:
			flush(i)
		}
	}
	flush(len(s))
	return out
}

// plain writes a letter without its accents, in small.
func plain(b *strings.Builder, r rune) {
	if r < utf8.RuneSelf {
		b.WriteRune(unicode.ToLower(r))
		return
	}
	for _, d := range norm.NFKD.String(string(r)) {
		if !unicode.Is(unicode.Mn, d) {
			b.WriteRune(unicode.ToLower(d))
		}
	}
}

// window is a stretch of text in which entities are looked for, read once.
type window struct {
	text     string
	tokens   []token
	squeezed string   // all words without spaces
	latin    []token  // transliterated, nil where the text is Latin
	bones    []string // of its words, nil where the script writes vowels
}

func newWindow(s string) *window {
	w := &window{text: s, tokens: tokenize(s)}
	var b strings.Builder
	for _, t := range w.tokens {
		b.WriteString(t.word)
	}
	w.squeezed = b.String()
	if !isLatin(w.squeezed) {
		w.latin = tokenize(match.Latin(s))
		if strings.IndexFunc(w.squeezed, abjad) >= 0 {
			w.bones = bonesOf(match.Latin(s))
		}
	}
	return w
}

// names reports whether the window names the entity. whole is the text of the
// page, which must give the name in full for its acronym to count.
func (w *window) names(n names, whole *window) bool {
	return w.find(n, whole) != nil
}

// find gives the spelling that the window has.
func (w *window) find(n names, whole *window) *spelling {
	for i := range n.list {
		s := &n.list[i]
		if s.acronym {
			if w.hasAcronym(s) && (whole == nil || whole.find(n.withoutAcronyms(), nil) != nil) {
				return s
			}
			continue
		}
		if w.has(s) {
			return s
		}
	}
	return nil
}

func (n names) withoutAcronyms() names {
	return names{slices.DeleteFunc(slices.Clone(n.list), func(s spelling) bool { return s.acronym })}
}

func (w *window) hasAcronym(s *spelling) bool {
	for _, t := range w.tokens {
		if w.text[t.from:t.to] == s.written {
			return true
		}
	}
	return false
}

func (w *window) has(s *spelling) bool {
	if strings.IndexFunc(s.squeezed, isCJK) >= 0 {
		return strings.Contains(w.squeezed, s.squeezed)
	}
	if runOf(w.tokens, s, w.text) {
		return true
	}
	// The name in the page's script, by its sound: a Latin name in a text that
	// is not, or the other way round.
	key := s.latin
	if key == "" && w.latin != nil {
		key = strings.Join(s.words[:s.needed], "")
	}
	if len(key) >= 5 && (joins(w.tokens, key) || joins(w.latin, key)) {
		return true
	}
	// Two words or more by their consonants: Farhad Nikravan is فرهاد نیکروان.
	if w.bones == nil || len(s.bones) < 2 || len(strings.Join(s.bones, "")) < 7 {
		return false
	}
	for i := 0; i+len(s.bones) <= len(w.bones); i++ {
		if slices.Equal(s.bones, w.bones[i:i+len(s.bones)]) {
			return true
		}
	}
	return false
}

// abjad reports a letter of a script that writes few vowels.
func abjad(r rune) bool { return unicode.In(r, unicode.Arabic, unicode.Hebrew) }

// bonesOf gives the consonants of each word of transliterated text.
func bonesOf(latin string) []string {
	var out []string
	for _, w := range strings.Fields(latin) {
		var b strings.Builder
		for _, r := range strings.ReplaceAll(w, "kh", "k") { // the library writes the Persian kaf so
			switch r {
			case 'a', 'e', 'i', 'o', 'u', 'y':
				continue
			case 'w':
				r = 'v'
			case 'q':
				r = 'k'
			}
			b.WriteRune(r)
		}
		out = append(out, b.String())
	}
	return out
}

// runOf looks for the words of a name one after the other.
func runOf(tokens []token, s *spelling, in string) bool {
	need := s.words[:s.needed]
	for i := 0; i+len(need) <= len(tokens); i++ {
		at := i
		for at < i+len(need) && sameWord(need[at-i], tokens[at].word) {
			at++
		}
		if at == i+len(need) && !goesOn(s, tokens, i, at, in) {
			return true
		}
	}
	return false
}

// sameWord allows a word its endings in languages that decline names: at least
// five letters, of which the text may change or add the last few.
func sameWord(name, word string) bool {
	if name == word {
		return true
	}
	if r, _ := utf8.DecodeRuneInString(name); !unicode.In(r, unicode.Cyrillic, unicode.Greek, unicode.Arabic) {
		return len(name) >= 4 && (word == name+"s" || word == name+"es") && name[len(name)-1] != 's' // the Volta's, Voltas
	}
	n, w := []rune(name), []rune(word)
	if len(n) < 4 || len(w) < 3 {
		return false
	}
	if unicode.In(n[0], unicode.Arabic) { // the article and one-letter prepositions are written together
		strip := func(s string) string {
			for _, p := range []string{"وال", "بال", "كال", "فال", "لل", "ال", "و", "ب", "ل"} {
				if rest, ok := strings.CutPrefix(s, p); ok && utf8.RuneCountInString(rest) >= 3 {
					return rest
				}
			}
			return s
		}
		return strip(name) == strip(word)
	}
	same := 0
	for same < len(n) && same < len(w) && n[same] == w[same] {
		same++
	}
	return same >= 3 && len(n)-same <= 2 && len(w)-same <= 3
}

// goesOn reports whether the name in the text is a part of a longer one: of
// another organisation. "Volta University" is not named by "Volta University
// of Medicine" nor by "Volta University Press", but is by "the Volta
// University of today".
func goesOn(s *spelling, tokens []token, from, to int, in string) bool {
	if to < len(tokens) && adjacent(in, tokens[to-1].to, tokens[to].from) {
		next := tokens[to]
		switch {
		case (next.word == "of" || next.word == "for") && to+1 < len(tokens) && tokens[to+1].upper && generic[s.words[s.needed-1]]:
			if next.word == "of" && inName(s, tokens[to+1].word) {
				break // the name's own place, named again
			}
			return true
		case next.upper && offspring[next.word] && !slices.Contains(s.words, next.word):
			return true
		}
	}
	if from > 0 && adjacent(in, tokens[from-1].to, tokens[from].from) && tokens[from-1].upper && directions[tokens[from-1].word] {
		return true
	}
	return false
}

func inName(s *spelling, word string) bool { return slices.Contains(s.words, word) }

// adjacent reports whether only a space stands between two places.
func adjacent(in string, from, to int) bool { return from <= to && in[from:to] == " " }

var (
	generic    = set("university institute academy college school ministry bank laboratory laboratories centre center department faculty bureau agency commission council corporation group company hospital museum association society federation foundation office")
	offspring  = set("hospital press museum library bookshop alumni football club")
	directions = set("north south east west northern southern eastern western northeast northwest southeast southwest northeastern northwestern southeastern southwestern upper lower")
)

func set(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

// joins reports whether some words one after the other, joined, are the key.
func joins(tokens []token, key string) bool {
	for i := range tokens {
		rest := key
		for j := i; j < len(tokens); j++ {
			var ok bool
			if rest, ok = strings.CutPrefix(rest, tokens[j].word); !ok {
				break
			}
			if rest == "" {
				return true
			}
		}
	}
	return false
}
