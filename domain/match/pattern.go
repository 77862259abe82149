package match

import (
	"math/bits"
	"sync"
	"unicode/utf8"
)

// Pattern is a name prepared for many comparisons: for each of its runes a
// bit vector of the positions it stands at (the "peq" table of Myers 1999),
// and its trigram set. A prepared Pattern is only read by its methods, so
// goroutines may share one until somebody calls Reset.
//
// Text is taken rune by rune; every byte that is not UTF-8 counts as one
// U+FFFD, exactly as ranging over the string does.
type Pattern struct {
	s string
	n int // runes

	// Up to 64 runes: one word a rune. ASCII is indexed directly; the rest
	// hashed with linear probing, at most half full.
	ascii    [128]uint64
	other    [128]peqSlot
	hasOther bool

	// Beyond 64 runes: row numbers by rune, and rows of `words` words.
	// Row 0 is all zero and stands for every rune that does not occur.
	words int
	keys  []rune // 0 is empty; runes are stored plus one
	rowOf []int32
	rows  []uint64

	trigrams []uint64 // sorted, distinct
}

type peqSlot struct {
	key  rune // rune plus one; 0 is empty
	bits uint64
}

// wordRunes is how many pattern positions one machine word holds.
const wordRunes = 64

// patterns serves the one-shot functions, which prepare one of their two
// arguments; a Pattern is too large to be cleared on the stack each time.
var patterns = sync.Pool{New: func() any { return new(Pattern) }}

// scratch is the working memory of comparisons that involve more than 64 runes.
type scratch struct {
	a, b  []uint64
	runes []rune
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// NewPattern prepares s.
func NewPattern(s string) *Pattern {
	p := new(Pattern)
	p.Reset(s)
	return p
}

// Reset prepares s in place of what p held and keeps p's memory.
func (p *Pattern) Reset(s string) {
	p.load(s)
	p.trigrams = appendTrigramSet(p.trigrams[:0], s)
}

// load prepares the position table only, which is all the one-shot edit
// comparisons need.
func (p *Pattern) load(s string) {
	p.unload()
	p.s = s
	if len(s) <= wordRunes {
		p.loadWord()
		return
	}
	p.n = utf8.RuneCountInString(s)
	if p.n <= wordRunes {
		p.loadWord()
		return
	}
	p.loadRows()
}

// unload clears what load wrote; it touches only the slots in use.
func (p *Pattern) unload() {
	if p.words <= 1 {
		for _, r := range p.s {
			if uint32(r) < utf8.RuneSelf {
				p.ascii[r] = 0
			}
		}
		if p.hasOther {
			clear(p.other[:])
			p.hasOther = false
		}
	}
	p.s, p.n, p.words = "", 0, 0
}

func (p *Pattern) loadWord() {
	n, bit := 0, uint64(1)
	for _, r := range p.s {
		if uint32(r) < utf8.RuneSelf {
			p.ascii[r] |= bit
		} else {
			p.hasOther = true
			slot := &p.other[p.slot(r)]
			slot.key = r + 1
			slot.bits |= bit
		}
		bit <<= 1
		n++
	}
	p.n, p.words = n, 1
}

// slot finds where r is, or where it would go.
func (p *Pattern) slot(r rune) int {
	i := runeHash(r) & 127
	for p.other[i].key != r+1 && p.other[i].key != 0 {
		i = (i + 1) & 127
	}
	return int(i)
}

// runeHash keeps neighbours of one alphabet apart (they differ in the low
// bits) and folds in the block number for the large CJK ranges.
func runeHash(r rune) uint32 { return uint32(r) ^ uint32(r)>>7 }

// word gives the positions of r in a pattern of at most 64 runes.
func (p *Pattern) word(r rune) uint64 {
	if uint32(r) < utf8.RuneSelf {
		return p.ascii[r]
	}
	return p.wordOther(r)
}

func (p *Pattern) wordOther(r rune) uint64 {
	if !p.hasOther {
		return 0
	}
	return p.other[p.slot(r)].bits
}

func (p *Pattern) loadRows() {
	p.words = (p.n + wordRunes - 1) / wordRunes
	size := 1 << bits.Len(uint(2*p.n))
	p.keys = resized(p.keys, size)
	p.rowOf = resized(p.rowOf, size)
	clear(p.keys)
	p.rows = resized(p.rows, p.words)
	clear(p.rows)
	i, last := 0, int32(0)
	for _, r := range p.s {
		h := p.find(r)
		if p.keys[h] == 0 {
			last++
			p.keys[h], p.rowOf[h] = r+1, last
			for range p.words {
				p.rows = append(p.rows, 0)
			}
		}
		p.rows[int(p.rowOf[h])*p.words+i/wordRunes] |= 1 << (i % wordRunes)
		i++
	}
}

func (p *Pattern) find(r rune) int {
	mask := uint32(len(p.keys) - 1)
	h := (uint32(r) * 0x9E3779B1) >> 7 & mask
	for p.keys[h] != 0 && p.keys[h] != r+1 {
		h = (h + 1) & mask
	}
	return int(h)
}

// row gives the positions of r in a pattern of more than 64 runes.
func (p *Pattern) row(r rune) []uint64 {
	at := 0
	if h := p.find(r); p.keys[h] != 0 {
		at = int(p.rowOf[h]) * p.words
	}
	return p.rows[at : at+p.words]
}

// resized gives a slice of n elements, keeping the memory when it suffices.
// The contents are unspecified.
func resized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	return s[:n]
}
