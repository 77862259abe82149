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
// Text keeps the page before step 7 too ("plain"): who is named, and where a
// sentence ends, is read from that, since case tells names from words.
type text struct {
	plain  string
	folded string
	breaks []int // offsets in plain where a block of the page began
}

const (
	leastQuoteRunes = 20
	leastQuoteCJK   = 8
)

// newText treats a page, or a quote, as the contract says.
func newText(raw string) *text {
	t := &text{}
	t.plain, t.breaks = tidy(raw)
	t.folded = fold(t.plain)
	return t
}

func fold(s string) string { return cases.Fold().String(s) }

// tidy does steps 2 to 6 and says where blocks began.
func tidy(raw string) (string, []int) {
	raw = strings.ReplaceAll(raw, "\r", "\n")
	var b strings.Builder
	b.Grow(len(raw))
	var breaks []int
	var last rune // the last rune written
	space, block := false, false
	for _, r := range norm.NFKC.String(strings.ToValidUTF8(raw, "\uFFFD")) {
		switch {
		case r == '\u00AD', r >= '\u200B' && r <= '\u200F', r >= '\u202A' && r <= '\u202E',
			r == '\u2060', r >= '\u2066' && r <= '\u2069', r == '\uFEFF':
			continue
		case r >= '\u2018' && r <= '\u201B':
			r = '\''
		case r >= '\u201C' && r <= '\u201F':
			r = '"'
		case r == '\u2010', r == '\u2011', r == '\u2013', r == '\u2014', r == '\u2212':
			r = '-'
		}
		if unicode.IsSpace(r) {
			space = true
			block = block || r == '\n'
			continue
		}
		if space && b.Len() > 0 {
			if !(isCJK(last) && isCJK(r)) {
				b.WriteByte(' ')
			}
			if block {
				breaks = append(breaks, b.Len())
			}
		}
		space, block = false, false
		b.WriteRune(r)
		last = r
	}
	return b.String(), breaks
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

// span is a stretch of a text's plain form.
type span struct{ from, to int }

// find looks for a quote. All its places are given: the same sentence may stand
// in a heading and in a paragraph, with different neighbours.
func (t *text) find(quote string) []span {
	q := newText(quote).folded
	if q == "" || !longEnough(q) {
		return nil
	}
	var out []span
	for at := 0; len(out) < 20; {
		i := strings.Index(t.folded[at:], q)
		if i < 0 {
			break
		}
		out = append(out, span{at + i, at + i + len(q)})
		at += i + len(q)
	}
	if len(out) > 0 {
		t.unfold(out)
	}
	return out
}

// unfold turns offsets in the folded form, in order, into offsets in the plain
// one. Folding goes rune by rune, so walking both side by side is exact.
func (t *text) unfold(spans []span) {
	ends := make([]*int, 0, 2*len(spans))
	for i := range spans {
		ends = append(ends, &spans[i].from, &spans[i].to)
	}
	folder := cases.Fold()
	f := 0
	for p, r := range t.plain {
		for len(ends) > 0 && *ends[0] <= f {
			*ends[0] = p
			ends = ends[1:]
		}
		if len(ends) == 0 {
			return
		}
		if r < utf8.RuneSelf {
			f++ // ASCII folds to ASCII
		} else {
			f += len(folder.String(string(r)))
		}
	}
	for _, e := range ends {
		*e = len(t.plain)
	}
}

// sentences cuts the text into sentences: at the end of a block, and after a
// full stop that ends one.
func (t *text) sentences() []span {
	var out []span
	from := 0
	cut := func(to int) {
		if strings.TrimSpace(t.plain[from:to]) != "" {
			out = append(out, span{from, to})
		}
		from = to
	}
	breaks := t.breaks
	for i := 0; i < len(t.plain); {
		if len(breaks) > 0 && i >= breaks[0] {
			cut(i)
			breaks = breaks[1:]
		}
		r, n := utf8.DecodeRuneInString(t.plain[i:])
		end := i + n
		switch r {
		case '。', '!', '?', '؟', '।', '۔', ';':
			// NFKC has made the full-width ! and ? plain.
			if r == ';' {
				break
			}
			end = closing(t.plain, end)
			cut(end)
		case '.':
			if e := closing(t.plain, end); e == len(t.plain) || t.plain[e] == ' ' {
				if !abbreviation(t.plain[from:i]) && startsSentence(t.plain[e:]) {
					end = e
					cut(end)
				}
			}
		}
		i = end
	}
	cut(len(t.plain))
	return out
}

// closing goes over the quotes and brackets that belong to a sentence's end.
func closing(s string, at int) int {
	for at < len(s) {
		r, n := utf8.DecodeRuneInString(s[at:])
		if !strings.ContainsRune(`"')]»」』`, r) {
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
	word := s[strings.LastIndexAny(s, " (\"'")+1:]
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
