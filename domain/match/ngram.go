package match

import (
	"slices"
	"sync"
	"unicode/utf8"
)

// A trigram is three runes of 21 bits each. A name is padded with two marks in
// front and one behind, as pg_trgm does with words, so its first runes weigh
// more and names of one rune have trigrams too. The mark lies beyond Unicode.
const (
	runeBits    = 21
	trigramMask = 1<<(3*runeBits) - 1
	padRune     = 0x110000
	padPair     = padRune<<runeBits | padRune
)

// TrigramSimilarity is the Jaccard index (shared / all) of the two trigram
// sets, in 0…1. Two empty names are equal: 1; one empty name is 0.
func TrigramSimilarity(a, b string) float64 {
	if a == b {
		return 1
	}
	if a == "" || b == "" {
		return 0
	}
	t := trigramTables.Get().(*trigramTable)
	s := t.similarity(a, b)
	trigramTables.Put(t)
	return s
}

// Trigram is TrigramSimilarity of two prepared names: one merge of two sorted
// lists, without branches that depend on the data.
func (p *Pattern) Trigram(q *Pattern) float64 {
	x, y := p.trigrams, q.trigrams
	if len(x) == 0 || len(y) == 0 {
		if len(x) == len(y) {
			return 1
		}
		return 0
	}
	i, j, shared := 0, 0, 0
	for i < len(x) && j < len(y) {
		a, b := x[i], y[j]
		// a and b have 63 bits, so the sign of a difference compares them.
		less := int((a - b) >> 63)
		more := int((b - a) >> 63)
		shared += 1 - less - more
		i += 1 - more
		j += 1 - less
	}
	return float64(shared) / float64(len(x)+len(y)-shared)
}

// appendTrigramSet appends the sorted distinct trigrams of s. An empty name
// has none.
func appendTrigramSet(set []uint64, s string) []uint64 {
	if s == "" {
		return set
	}
	t := uint64(padPair)
	for _, r := range s {
		t = (t<<runeBits | uint64(r)) & trigramMask
		set = append(set, t)
	}
	set = append(set, (t<<runeBits|padRune)&trigramMask)
	slices.Sort(set)
	return slices.Compact(set)
}

// trigramTable is the set the one-shot comparison fills with a's trigrams and
// probes with b's. Slots are stamped, so a new comparison needs no clearing.
type trigramTable struct {
	slots []trigramSlot // a power of two
	stamp uint32        // of this comparison, a multiple of 4; see addB
}

type trigramSlot struct {
	key   uint64
	stamp uint32
}

var trigramTables = sync.Pool{New: func() any { return &trigramTable{slots: make([]trigramSlot, 512)} }}

func (t *trigramTable) similarity(a, b string) float64 {
	// At most len+1 trigrams each, at most half full.
	for need := 2 * (len(a) + len(b) + 2); len(t.slots) < need; {
		t.slots = make([]trigramSlot, 2*len(t.slots))
		t.stamp = 0
	}
	t.stamp += 4
	if t.stamp == 0 {
		clear(t.slots)
		t.stamp = 4
	}
	inA, inB, shared := 0, 0, 0
	g := uint64(padPair)
	i := 0
	for ; i < len(a) && a[i] < utf8.RuneSelf; i++ {
		g = (g<<runeBits | uint64(a[i])) & trigramMask
		inA += t.addA(g)
	}
	for i < len(a) {
		r, two, odd := narrowRune(a, i)
		i += int(two) + 1
		if odd != 0 {
			r, i = wideRune(a, i-int(two)-1)
		}
		g = (g<<runeBits | uint64(r)) & trigramMask
		inA += t.addA(g)
	}
	inA += t.addA((g<<runeBits | padRune) & trigramMask)
	g = padPair
	i = 0
	for ; i < len(b) && b[i] < utf8.RuneSelf; i++ {
		g = (g<<runeBits | uint64(b[i])) & trigramMask
		n, s := t.addB(g)
		inB, shared = inB+n, shared+s
	}
	for i < len(b) {
		r, two, odd := narrowRune(b, i)
		i += int(two) + 1
		if odd != 0 {
			r, i = wideRune(b, i-int(two)-1)
		}
		g = (g<<runeBits | uint64(r)) & trigramMask
		n, s := t.addB(g)
		inB, shared = inB+n, shared+s
	}
	n, s := t.addB((g<<runeBits | padRune) & trigramMask)
	inB, shared = inB+n, shared+s
	return float64(shared) / float64(inA+inB-shared)
}

// slot finds the slot of g, or the free one where it belongs.
func (t *trigramTable) slot(g uint64) *trigramSlot {
	slots, mask := t.slots, uint64(len(t.slots)-1)
	h := g * 0x9E3779B97F4A7C15 >> 40
	for {
		s := &slots[h&mask&uint64(len(slots)-1)]
		if s.stamp < t.stamp || s.key == g {
			return s
		}
		h++
	}
}

func (t *trigramTable) addA(g uint64) int {
	s := t.slot(g)
	if s.stamp >= t.stamp {
		return 0
	}
	s.key, s.stamp = g, t.stamp
	return 1
}

// addB counts g if b has not had it yet, and whether a had it. Stamps: +0 in a
// only, +1 in both, +2 in b only.
func (t *trigramTable) addB(g uint64) (counted, shared int) {
	s := t.slot(g)
	switch s.stamp - t.stamp {
	case 0:
		s.stamp++
		return 1, 1
	case 1, 2:
		return 0, 0
	}
	s.key, s.stamp = g, t.stamp+2
	return 1, 0
}

// gramTable holds the trigrams of one name, for many comparisons with others:
// TrigramSimilarity with the work on one side done once.
type gramTable struct {
	name  string
	slots [1024]gramSlot
	own   []uint16 // where the name's trigrams are
	other []uint16 // where those of the other name are, that the name does not have
	round uint32
}

type gramSlot struct {
	key  uint64 // plus one; 0 is empty
	seen uint32 // the comparison that met it last
	own  bool
}

// fits bounds the letters of both names by what the table holds half full.
func (t *gramTable) fits(letters int) bool { return letters+4 <= len(t.slots)/2 }

func (t *gramTable) slot(g uint64) uint16 {
	for h := g * 0x9E3779B97F4A7C15 >> 40; ; h++ {
		s := &t.slots[h%uint64(len(t.slots))]
		if s.key == g+1 || s.key == 0 {
			return uint16(h % uint64(len(t.slots)))
		}
	}
}

// prepare takes the name in place of the one before.
func (t *gramTable) prepare(name string) {
	for _, at := range t.own {
		t.slots[at] = gramSlot{}
	}
	t.own, t.name = t.own[:0], name
	if !t.fits(len(name)) || name == "" {
		return
	}
	g := uint64(padPair)
	add := func(r uint64) {
		g = (g<<runeBits | r) & trigramMask
		if at := t.slot(g); t.slots[at].key == 0 {
			t.slots[at] = gramSlot{key: g + 1, own: true}
			t.own = append(t.own, at)
		}
	}
	for _, r := range name {
		add(uint64(r))
	}
	add(padRune)
}

// similarity is TrigramSimilarity of the prepared name and another.
func (t *gramTable) similarity(other string) float64 {
	if !t.fits(len(t.name)+len(other)) || t.name == "" || other == "" {
		return TrigramSimilarity(t.name, other)
	}
	if t.round++; t.round == 0 {
		for i := range t.slots {
			t.slots[i].seen = 0
		}
		t.round = 1
	}
	shared, all := 0, len(t.own)
	g := uint64(padPair)
	meet := func(r uint64) {
		g = (g<<runeBits | r) & trigramMask
		at := t.slot(g)
		s := &t.slots[at]
		switch {
		case s.key == 0:
			s.key = g + 1
			t.other = append(t.other, at)
			all++
		case s.own && s.seen != t.round:
			s.seen = t.round
			shared++
		}
	}
	for i := 0; i < len(other); {
		if other[i] < utf8.RuneSelf {
			meet(uint64(other[i]))
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(other[i:])
		meet(uint64(r))
		i += size
	}
	meet(padRune)
	for _, at := range t.other {
		t.slots[at] = gramSlot{}
	}
	t.other = t.other[:0]
	return float64(shared) / float64(all)
}
