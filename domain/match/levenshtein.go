package match

import (
	"math/bits"
	"sync"
	"unicode/utf8"
)

// LevenshteinDistance counts the rune insertions, deletions and substitutions
// that turn a into b.
//
// It is the bit-parallel algorithm of Myers (1999) in the form of Hyyrö
// (2003): one column of the edit matrix is kept as two bit vectors of its
// vertical differences, so a text rune costs some fifteen word operations for
// every 64 pattern runes. What both names share at either end is cut off first.
func LevenshteinDistance(a, b string) int {
	if a == b {
		return 0
	}
	a, b = trimCommon(a, b)
	if len(a) < len(b) {
		a, b = b, a
	}
	if b == "" {
		return utf8.RuneCountInString(a)
	}
	// The serial part is the walk over the text, so the longer name is the
	// pattern, unless only the shorter one fits in a word.
	if len(a) > wordRunes && utf8.RuneCountInString(a) > wordRunes {
		a, b = b, a
	}
	if len(a) <= wordRunes && a[0]|a[len(a)-1]|b[0]|b[len(b)-1] < utf8.RuneSelf {
		if d, ok := levenshteinASCII(a, b); ok {
			return d
		}
	}
	p := patterns.Get().(*Pattern)
	p.load(a)
	d := p.Levenshtein(b)
	p.unload()
	patterns.Put(p)
	return d
}

// asciiTables serve names of ASCII alone, which most are: nothing but positions.
var asciiTables = sync.Pool{New: func() any { return new([utf8.RuneSelf]uint64) }}

// levenshteinASCII is not ok where a or b has anything else.
func levenshteinASCII(a, b string) (d int, ok bool) {
	at := asciiTables.Get().(*[utf8.RuneSelf]uint64)
	odd := byte(0)
	for i := range len(a) {
		at[a[i]&(utf8.RuneSelf-1)] |= 1 << (i & (wordRunes - 1))
		odd |= a[i]
	}
	pv, mv := ^uint64(0), uint64(0)
	for i := range len(b) {
		pv, mv = column(at[b[i]&(utf8.RuneSelf-1)], pv, mv)
		odd |= b[i]
	}
	for i := range len(a) {
		at[a[i]&(utf8.RuneSelf-1)] = 0
	}
	asciiTables.Put(at)
	rows := ^uint64(0) >> (uint(wordRunes-len(a)) & 63)
	return len(b) + bits.OnesCount64(pv&rows) - bits.OnesCount64(mv&rows), odd < utf8.RuneSelf
}

// LevenshteinSimilarity is 1 - distance / runes of the longer name, in 0…1.
// Two empty names are equal: 1.
func LevenshteinSimilarity(a, b string) float64 {
	longest := max(utf8.RuneCountInString(a), utf8.RuneCountInString(b))
	if longest == 0 {
		return 1
	}
	return 1 - float64(LevenshteinDistance(a, b))/float64(longest)
}

// cutPrefix cuts what both names begin with. Cuts fall only before a byte that
// starts a rune, which is a boundary of decoding in any byte string, valid or not,
// so what remains decodes as it did in place.
func cutPrefix(a, b string) (string, string) {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	for i > 0 && (i < len(a) && !utf8.RuneStart(a[i]) || i < len(b) && !utf8.RuneStart(b[i])) {
		i--
	}
	return a[i:], b[i:]
}

// trimCommon cuts the common prefix and suffix off.
func trimCommon(a, b string) (string, string) {
	a, b = cutPrefix(a, b)
	n := min(len(a), len(b))
	j := 0
	for j < n && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	for j > 0 && !utf8.RuneStart(a[len(a)-j]) {
		j--
	}
	return a[:len(a)-j], b[:len(b)-j]
}

// Levenshtein is LevenshteinDistance between the pattern and b.
func (p *Pattern) Levenshtein(b string) int {
	switch {
	case p.n == 0:
		return utf8.RuneCountInString(b)
	case p.words > 1:
		return p.levenshteinRows(b)
	}
	pv, mv, i := ^uint64(0), uint64(0), 0
	for ; i < len(b) && b[i] < utf8.RuneSelf; i++ {
		pv, mv = column(p.narrow[b[i]], pv, mv)
	}
	m := i
	for ; i < len(b); m++ {
		r, two, odd := narrowRune(b, i)
		i += int(two) + 1
		eq := p.narrow[r&(narrowRunes-1)]
		if odd != 0 {
			r, i = wideRune(b, i-int(two)-1)
			eq = p.word(r)
		}
		d := (((eq & pv) + pv) ^ pv) | eq | mv
		ph := (mv|^(d|pv))<<1 | 1
		pv = (pv&d)<<1 | ^(d | ph)
		mv = ph & d
	}
	// The last column starts at m and rises and falls as the vectors say.
	rows := ^uint64(0) >> (uint(wordRunes-p.n) & 63)
	return m + bits.OnesCount64(pv&rows) - bits.OnesCount64(mv&rows)
}

// column takes the vertical differences one text rune on; eq holds the
// pattern positions of that rune.
func column(eq, pv, mv uint64) (uint64, uint64) {
	d := (((eq & pv) + pv) ^ pv) | eq | mv
	ph := (mv|^(d|pv))<<1 | 1
	return (pv&d)<<1 | ^(d | ph), ph & d
}

// LevenshteinWithin is Levenshtein for callers that only care up to limit
// edits: it gives up as soon as the rest of b cannot bring the distance down
// to limit. Beyond the limit it answers limit+1, false. A negative limit
// admits nothing.
func (p *Pattern) LevenshteinWithin(b string, limit int) (int, bool) {
	if limit < 0 {
		return 0, false
	}
	if p.s == b {
		return 0, true
	}
	rest := utf8.RuneCountInString(b)
	if rest-p.n > limit || p.n-rest > limit {
		return limit + 1, false
	}
	if p.n == 0 || p.words > 1 {
		d := p.Levenshtein(b)
		return withinLimit(d, limit)
	}
	score, last := p.n, uint(p.n-1)&63
	pv, mv := ^uint64(0), uint64(0)
	for i := 0; i < len(b); {
		r, two, odd := narrowRune(b, i)
		i += int(two) + 1
		eq := p.narrow[r&(narrowRunes-1)]
		if odd != 0 {
			r, i = wideRune(b, i-int(two)-1)
			eq = p.word(r)
		}
		xv := eq | mv
		xh := (((eq & pv) + pv) ^ pv) | eq
		ph := mv | ^(xh | pv)
		mh := pv & xh
		score += int(ph>>last&1) - int(mh>>last&1)
		// The last row falls by at most one a rune.
		if rest--; score-rest > limit {
			return limit + 1, false
		}
		ph = ph<<1 | 1
		pv = mh<<1 | ^(xv | ph)
		mv = ph & xv
	}
	return withinLimit(score, limit)
}

func withinLimit(d, limit int) (int, bool) {
	if d > limit {
		return limit + 1, false
	}
	return d, true
}

// levenshteinRows carries the horizontal difference (+1, 0, -1) of each
// 64-rune block into the next one.
func (p *Pattern) levenshteinRows(b string) int {
	w := scratches.Get().(*scratch)
	w.a = resized(w.a, p.words)
	w.b = resized(w.b, p.words)
	pvs, mvs := w.a, w.b
	for i := range pvs {
		pvs[i], mvs[i] = ^uint64(0), 0
	}
	score := p.n
	last := uint(p.n-1) & 63
	for _, r := range b {
		row := p.row(r)
		plus, minus := uint64(1), uint64(0)
		for i, eq := range row {
			pv, mv := pvs[i], mvs[i]
			xv := eq | mv
			eq |= minus
			xh := (((eq & pv) + pv) ^ pv) | eq
			ph := mv | ^(xh | pv)
			mh := pv & xh
			if i == len(row)-1 {
				score += int(ph>>last&1) - int(mh>>last&1)
			}
			nextPlus, nextMinus := ph>>63, mh>>63
			ph = ph<<1 | plus
			mh = mh<<1 | minus
			pvs[i] = mh | ^(xv | ph)
			mvs[i] = ph & xv
			plus, minus = nextPlus, nextMinus
		}
	}
	scratches.Put(w)
	return score
}
