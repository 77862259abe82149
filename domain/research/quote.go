package research

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// The quote contract: how the text of a page and a claimed quote are compared.
//
//  1. The fetcher gives visible text alone (vendor.go, Page).
//  2. Unicode NFKC. 3. Soft hyphens, zero-width characters and bidi controls
//     go. 4. Curly quotes become straight ones, the dashes become "-".
//  5. A run of white space becomes one space; ends are trimmed.
//  6. A space between two CJK characters goes. 7. Full case folding.
//
// A quote counts when it has at least 20 code points, or at least 8 CJK
// characters, and is a substring of the page so treated. Nothing fuzzy, and
// never two places stitched together.
//
// text keeps the page as it came, too: who is named, and where a sentence
// ends, is read from that, since case tells names from words; and what is shown
// to a model or a reader is the page's own letters.
type text struct {
	raw    string
	folded string // after steps 2 to 7
}

const (
	leastQuoteRunes = 20
	leastQuoteCJK   = 8
)

// newText treats a page, or a quote, as the contract says.
func newText(raw string) *text {
	raw = strings.ToValidUTF8(strings.ReplaceAll(raw, "\r", "\n"), "\uFFFD")
	folded, _ := treat(raw, false)
	return &text{raw: raw, folded: folded}
}

var folder = cases.Fold()

// fold is step 7 alone.
func fold(s string) string { return folder.String(s) }

// treat does steps 2 to 7. mapped asks for the place in raw that each byte of
// the result comes from.
func treat(raw string, mapped bool) (string, []int32) {
	var b strings.Builder
	b.Grow(len(raw))
	var at []int32
	var last rune // that was written
	space := false
	write := func(s string, from int) {
		b.WriteString(s)
		for range len(s) {
			if mapped {
				at = append(at, int32(from))
			}
		}
	}
	one := func(r rune, from int) {
		switch {
		case ignorable(r):
			return
		case r >= '\u2018' && r <= '\u201B':
			r = '\''
		case r >= '\u201C' && r <= '\u201F':
			r = '"'
		case r == '\u2010', r == '\u2011', r == '\u2013', r == '\u2014', r == '\u2212':
			r = '-'
		}
		if unicode.IsSpace(r) {
			space = true
			return
		}
		if space && b.Len() > 0 && !(isCJK(last) && isCJK(r)) {
			write(" ", from)
		}
		space, last = false, r
		switch {
		case r >= 'A' && r <= 'Z':
			write(lower[r-'A':r-'A'+1], from)
		case r < utf8.RuneSelf:
			write(string(r), from)
		default:
			write(fold(string(r)), from)
		}
	}
	var it norm.Iter
	it.InitString(norm.NFKC, raw)
	for !it.Done() {
		from := it.Pos()
		for _, r := range string(it.Next()) {
			one(r, from)
		}
	}
	return b.String(), at
}

const lower = "abcdefghijklmnopqrstuvwxyz"

// ignorable are step 3's: soft hyphens, zero-width characters, bidi controls.
func ignorable(r rune) bool {
	return r == '\u00AD' || r >= '\u200B' && r <= '\u200F' || r >= '\u202A' && r <= '\u202E' ||
		r == '\u2060' || r >= '\u2066' && r <= '\u2069' || r == '\uFEFF'
}

// tidy is a name as it is compared: NFKC, and one space for many.
func tidy(s string) string {
	return strings.Join(strings.Fields(norm.NFKC.String(strings.ToValidUTF8(s, ""))), " ")
}

func isCJK(r rune) bool {
	return r >= 0x1100 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul)
}

// longEnough reports whether a treated quote says enough to be looked for.
func longEnough(treated string) bool {
	runes, cjk := 0, 0
	for _, r := range treated {
		runes++
		if isCJK(r) {
			cjk++
		}
	}
	return runes >= leastQuoteRunes || cjk >= leastQuoteCJK
}

// span is a stretch of a text as it came.
type span struct{ from, to int }

// has reports whether the quote stands in the text.
func (t *text) has(quote string) bool {
	q, _ := treat(quote, false)
	return longEnough(q) && strings.Contains(t.folded, q)
}

// find gives the places of a quote: the same sentence may stand in a heading
// and in a paragraph, with different neighbours.
func (t *text) find(quote string) []span {
	q, _ := treat(quote, false)
	if !longEnough(q) || !strings.Contains(t.folded, q) {
		return nil
	}
	_, from := treat(t.raw, true)
	var out []span
	for at := 0; len(out) < 20; {
		i := strings.Index(t.folded[at:], q)
		if i < 0 {
			break
		}
		end := len(t.raw)
		if at+i+len(q) < len(from) {
			end = int(from[at+i+len(q)])
		}
		out = append(out, span{int(from[at+i]), end})
		at += i + len(q)
	}
	return out
}

// sentences cuts the text into sentences: at the end of a block, and after a
// full stop that ends one.
func (t *text) sentences() []span {
	var out []span
	from := 0
	cut := func(to int) {
		if strings.TrimSpace(t.raw[from:to]) != "" {
			out = append(out, span{from, to})
		}
		from = to
	}
	for i := 0; i < len(t.raw); {
		r, n := utf8.DecodeRuneInString(t.raw[i:])
		end := i + n
		switch r {
		case '\n':
			cut(end)
		case '。', '．', '!', '?', '！', '？', '؟', '।', '۔':
			end = closing(t.raw, end)
			cut(end)
		case '.':
			if e := closing(t.raw, end); e == len(t.raw) || t.raw[e] == ' ' || t.raw[e] == '\n' {
				if !abbreviation(t.raw[from:i]) && startsSentence(t.raw[e:]) {
					end = e
					cut(end)
				}
			}
		}
		i = end
	}
	cut(len(t.raw))
	return out
}

// closing goes over the quotes and brackets that belong to a sentence's end.
func closing(s string, at int) int {
	for at < len(s) {
		r, n := utf8.DecodeRuneInString(s[at:])
		if !strings.ContainsRune("\"')]»」』”’）", r) {
			break
		}
		at += n
	}
	return at
}

var abbreviations = func() map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields("dr mr mrs ms prof st no nos vol fig inc ltd co corp llc jr sr vs etc eg ie cf al dept univ inst acad gen col lt sgt rev hon approx jan feb mar apr jun jul aug sep sept oct nov dec art sec ch pp ed eds bzw usw ca str nr abs им г гг ул тов проф акад руб млн млрд тыс см др пр m mme mlle sra srta s a l p") {
		out[w] = true
	}
	return out
}()

// abbreviation reports whether the full stop after s belongs to its last word.
func abbreviation(s string) bool {
	word := s[strings.LastIndexAny(s, " \n(\"'")+1:]
	if word == "" {
		return false
	}
	if strings.Contains(word, ".") { // U.S, e.g
		return utf8.RuneCountInString(word) <= 6
	}
	r, n := utf8.DecodeRuneInString(word)
	if n == len(word) && unicode.IsUpper(r) {
		return true // an initial
	}
	return abbreviations[strings.ToLower(word)]
}

// startsSentence reports whether what follows a full stop can begin a sentence.
func startsSentence(rest string) bool {
	for _, r := range rest {
		if unicode.IsLetter(r) {
			return !unicode.IsLower(r)
		}
		if unicode.IsDigit(r) {
			return true
		}
	}
	return true
}

// around gives the sentences that the span touches, and with them the ones
// before and after: within these both ends must be named.
func around(sentences []span, s span) (own, near span) {
	first, last := -1, -1
	for i, x := range sentences {
		if x.from < s.to && s.from < x.to {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return s, s
	}
	own = span{sentences[first].from, sentences[last].to}
	near = span{sentences[max(0, first-1)].from, sentences[min(len(sentences)-1, last+1)].to}
	return own, near
}
