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
	if a == "" || b == "" {
		return 0
	}
	// What both begin with matches in order, each rune with its like: of it only the
	// length counts, and the rest is compared.
	tailA, tailB := cutPrefix(a, b)
	shared := utf8.RuneCountInString(a[:len(a)-len(tailA)])
	p := patterns.Get().(*Pattern)
	p.load(tailA)
	s, ok := 0.0, p.words <= 1
	if ok {
		s, ok = p.jaroWinkler(tailB, shared)
	}
	if !ok {
		p.unload()
		p.load(a)
		s = p.JaroWinkler(b)
	}
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
	if p.words == 1 {
		if s, ok := p.jaroWinkler(b, 0); ok {
			return s
		}
	}
	return p.jaroWinklerLong(b)
}

// jaroWinkler compares names of which the pattern and b are what follows the
// first shared runes. Not ok means more than 64 runes in b.
func (p *Pattern) jaroWinkler(b string, shared int) (s float64, ok bool) {
	var at [wordRunes]uint64 // where each rune of b stands in the pattern
	i := 0
	for ; i < min(len(b), wordRunes) && b[i] < utf8.RuneSelf; i++ {
		at[i] = p.narrow[b[i]]
	}
	m := i
	for i < len(b) {
		for m < wordRunes && i+1 < len(b) {
			r, ok := twoBytes(b[i], b[i+1])
			if !ok {
				break
			}
			at[m] = p.narrow[r]
			m++
			i += 2
		}
		if i == len(b) {
			break
		}
		if m == wordRunes {
			return 0, false
		}
		if b[i] < utf8.RuneSelf {
			at[m] = p.narrow[b[i]]
			i++
		} else {
			var r uint32
			r, i = wideRune(b, i)
			at[m] = p.word(r)
		}
		m++
	}
	// The window holds the pattern positions in reach; it widens by one a step
	// until it has its full width. No branch below depends on whether runes
	// match: it would be mispredicted. Matched runes move to the front of at.
	bound := max(0, (shared+max(p.n, m))/2-1)
	window := ^uint64(0)
	widen := ^uint64(0)
	if bound < wordRunes-1 {
		window, widen = uint64(1)<<(bound+1)-1, uint64(1)<<bound-1
	}
	same := at[0]&1 | at[1]&2 | at[2]&4 | at[3]&8 // runes that stand where they stand in the pattern
	taken, matches := uint64(0), 0
	for _, eq := range at[:m] {
		free := eq & window &^ taken
		taken |= free & -free
		at[matches&(wordRunes-1)] = eq
		matches += int((free | -free) >> 63)
		window = window<<1 | widen&1
		widen >>= 1
	}
	if matches+shared == 0 {
		return 0, true
	}
	swapped := 0
	for _, eq := range at[:min(matches, wordRunes)] {
		hit := eq & taken & -taken
		swapped += 1 - int((hit|-hit)>>63)
		taken &= taken - 1
	}
	return winkler(jaro(shared+p.n, shared+m, shared+matches, swapped), shared+bits.TrailingZeros64(^same)), true
}

func jaro(n, m, matches, swapped int) float64 {
	c := float64(matches)
	return (c/float64(n) + c/float64(m) + (c-float64(swapped/2))/c) / 3
}

// winkler boosts the similarity of names that begin with so many shared runes.
func winkler(s float64, shared int) float64 {
	if s < boostFrom {
		return s
	}
	return s + float64(min(shared, prefixRunes))*prefixScale*(1-s)
}

// jaroWinklerLong handles more than 64 runes on either side, word by word.
func (p *Pattern) jaroWinklerLong(b string) float64 {
	m := utf8.RuneCountInString(b)
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
		} else if r < narrowRunes {
			one[0] = p.narrow[r]
		} else {
			one[0] = p.word(uint32(r))
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
	shared := 0
	for _, r := range p.s {
		q, size := utf8.DecodeRuneInString(b)
		if shared == prefixRunes || q != r || size == 0 {
			break
		}
		b = b[size:]
		shared++
	}
	return winkler(jaro(p.n, m, len(w.runes), swapped), shared)
}
