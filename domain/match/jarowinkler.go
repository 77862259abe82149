package match

import (
	"math/bits"
	"unicode/utf8"
)

// Winkler's constants (1990): the boost is prefixScale a shared leading rune,
// at most prefixRunes of them, and given only from a Jaro of boostFrom on.
const (
	prefixScale = 0.1
	prefixRunes = 4
	boostFrom   = 0.7
)

// JaroWinkler is the similarity of Jaro (1989) with Winkler's prefix boost, by
// runes, in 0…1. Half transpositions are rounded down, as in the Census
// Bureau's strcmp95. Two empty names are equal (1); one empty name is 0.
// Each rune of b, in order, takes the first free equal rune of a in reach, so
// the measure is not symmetric for every pair.
func JaroWinkler(a, b string) float64 {
	if a == b {
		return 1
	}
	p := patterns.Get().(*Pattern)
	p.load(a)
	s := p.JaroWinkler(b)
	p.unload()
	patterns.Put(p)
	return s
}

// JaroWinkler is the similarity of the pattern and b. The runes that match
// within the window are found with one mask and one lowest-bit operation a
// text rune (Rapidfuzz's formulation).
func (p *Pattern) JaroWinkler(b string) float64 {
	if p.s == b {
		return 1
	}
	if p.n == 0 || b == "" {
		return 0
	}
	m := len(b)
	if m > wordRunes || p.hasOther || p.words > 1 {
		m = utf8.RuneCountInString(b)
	} else if !isASCII(b) {
		m = utf8.RuneCountInString(b)
	}
	if m > wordRunes || p.words > 1 {
		return p.jaroWinklerLong(b, m)
	}
	bound := max(p.n, m)/2 - 1
	window := uint64(1)
	if bound > 0 {
		window = 1<<(bound+1) - 1
	} else {
		bound = 0
	}
	var found [wordRunes]uint64 // positions of the k-th matched text rune
	var taken uint64
	matches, j := 0, 0
	for _, r := range b {
		eq := p.word(r)
		if free := eq & window &^ taken; free != 0 {
			taken |= free & -free
			found[matches&63] = eq
			matches++
		}
		window <<= 1
		if j < bound {
			window |= 1
		}
		j++
	}
	if matches == 0 {
		return 0
	}
	swapped := 0
	for _, eq := range found[:matches] {
		if eq&(taken&-taken) == 0 {
			swapped++
		}
		taken &= taken - 1
	}
	return winkler(p.s, b, jaro(p.n, m, matches, swapped))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func jaro(n, m, matches, swapped int) float64 {
	c := float64(matches)
	return (c/float64(n) + c/float64(m) + (c-float64(swapped/2))/c) / 3
}

func winkler(a, b string, s float64) float64 {
	if s < boostFrom {
		return s
	}
	shared := 0
	for shared < prefixRunes && a != "" && b != "" {
		x, i := utf8.DecodeRuneInString(a)
		y, j := utf8.DecodeRuneInString(b)
		if x != y {
			break
		}
		a, b = a[i:], b[j:]
		shared++
	}
	return s + float64(shared)*prefixScale*(1-s)
}

// jaroWinklerLong handles more than 64 runes on either side, word by word.
func (p *Pattern) jaroWinklerLong(b string, m int) float64 {
	w := scratches.Get().(*scratch)
	defer scratches.Put(w)
	w.a = resized(w.a, p.words)
	taken := w.a
	clear(taken)
	w.runes = w.runes[:0]
	bound := max(0, max(p.n, m)/2-1)
	var one [1]uint64
	j := -1
	for _, r := range b {
		j++
		lo, hi := max(0, j-bound), min(p.n-1, j+bound)
		if lo > hi {
			break
		}
		row := one[:]
		if p.words > 1 {
			row = p.row(r)
		} else {
			one[0] = p.word(r)
		}
		for k := lo / wordRunes; k <= hi/wordRunes; k++ {
			free := row[k] &^ taken[k]
			if k == lo/wordRunes {
				free &= ^uint64(0) << (lo % wordRunes)
			}
			if k == hi/wordRunes {
				free &= ^uint64(0) >> (wordRunes - 1 - hi%wordRunes)
			}
			if free != 0 {
				taken[k] |= 1 << bits.TrailingZeros64(free)
				w.runes = append(w.runes, r)
				break
			}
		}
	}
	if len(w.runes) == 0 {
		return 0
	}
	swapped, i, next := 0, 0, 0
	for _, r := range p.s {
		if taken[i/wordRunes]>>(i%wordRunes)&1 != 0 {
			if r != w.runes[next] {
				swapped++
			}
			next++
		}
		i++
	}
	return winkler(p.s, b, jaro(p.n, m, len(w.runes), swapped))
}
