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
// A Pattern takes 20 KB, most of it never touched: keep one a query and one
// to Reset for candidates, not one a stored name.
//
// Text is taken rune by rune; every byte that is not UTF-8 counts as one
// U+FFFD, exactly as ranging over the string does.
type Pattern struct {
	s        string
	n        int      // runes
	words    int      // of 64 runes; 0 when empty
	trigrams []uint64 // sorted, distinct

	*positions // up to 64 runes; apart, so that what Trigram reads lies close together

	// Beyond 64 runes: row numbers by rune, and rows of `words` words.
	// Row 0 is all zero and stands for every rune that does not occur.
	keys  []rune // 0 is empty; runes are stored plus one
	rowOf []int32
	rows  []uint64
}

// positions has one word a rune, its bits the places where it stands. Alphabets
// are indexed directly, the large scripts hashed with linear probing, at most a
// quarter full.
type positions struct {
	narrow [narrowRunes]uint64
	wide   [256]peqSlot
	used   [wordRunes]uint16 // where in narrow and, from narrowRunes on, in wide
}

type peqSlot struct {
	bits uint64
	key  rune // 0 is empty
}

// narrowRunes is how many runes UTF-8 writes in one or two bytes: ASCII,
// accented Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic.
const narrowRunes = 0x800

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
	if p.positions == nil {
		p.positions = new(positions)
	}
	p.unload()
	p.s = s
	if p.loadWord() {
		return
	}
	p.n, p.words = wordRunes, 1
	p.unload()
	p.s = s
	p.loadRows()
}

// unload clears what load wrote; it touches only the slots in use.
func (p *Pattern) unload() {
	if p.words == 1 {
		for _, at := range p.used[:min(p.n, wordRunes)] {
			if at < narrowRunes {
				p.narrow[at] = 0
			} else {
				p.wide[uint8(at)] = peqSlot{}
			}
		}
	}
	p.s, p.n, p.words = "", 0, 0
}

// loadWord reports whether p.s has at most 64 runes; it stops at the 65th.
func (p *Pattern) loadWord() bool {
	s, i := p.s, 0
	for ; i < min(len(s), wordRunes) && s[i] < utf8.RuneSelf; i++ {
		p.narrow[s[i]] |= 1 << (i & (wordRunes - 1))
		p.used[i&(wordRunes-1)] = uint16(s[i])
	}
	n := i
	for i < len(s) {
		for n < wordRunes && i+1 < len(s) {
			r, ok := twoBytes(s[i], s[i+1])
			if !ok {
				break
			}
			p.narrow[r] |= 1 << (n & (wordRunes - 1))
			p.used[n&(wordRunes-1)] = uint16(r)
			n++
			i += 2
		}
		if i == len(s) {
			break
		}
		if n == wordRunes {
			return false
		}
		bit := uint64(1) << (n & (wordRunes - 1))
		if s[i] < utf8.RuneSelf {
			p.narrow[s[i]] |= bit
			p.used[n] = uint16(s[i])
			i++
		} else {
			var r uint32
			r, i = wideRune(s, i)
			slot, at := p.wideSlot(rune(r))
			*at |= bit
			p.used[n] = narrowRunes | uint16(slot)
		}
		n++
	}
	p.n, p.words = n, min(n, 1)
	return true
}

// wideSlot finds or makes the slot of r.
func (p *Pattern) wideSlot(r rune) (uint8, *uint64) {
	i := runeHash(r)
	for p.wide[i].key != r && p.wide[i].key != 0 {
		i++
	}
	p.wide[i].key = r
	return i, &p.wide[i].bits
}

// word gives the positions of a rune beyond narrowRunes in a pattern of at
// most 64 runes.
func (p *Pattern) word(r uint32) uint64 {
	i := runeHash(rune(r))
	for p.wide[i].key != rune(r) && p.wide[i].key != 0 {
		i++
	}
	return p.wide[i].bits
}

// runeHash keeps neighbours apart and folds in the block number.
func runeHash(r rune) uint8 { return uint8(r) ^ uint8(r>>8)*31 }

// twoBytes is the rune of two bytes of UTF-8; not ok where they are none. It is
// for loops over the letters of a word that do little else: the end of each word
// is mispredicted, and that still costs less than narrowRune, which is for loops
// whose own serial work hides its instructions.
func twoBytes(first, second byte) (r uint32, ok bool) {
	x := uint32(first)<<8 | uint32(second) // 110xxxxx 10xxxxxx, and not an overlong form of ASCII
	return x>>2&0x7C0 | x&0x3F, x&0xE0C0 == 0xC080 && x >= 0xC280
}

// narrowRune decodes s[i] when it is a rune of one or two bytes; two is 1 when
// it has two. Anything else is odd, for wideRune. Names mix letters of two
// bytes with spaces of one, so there is no branch between these: it would be
// mispredicted at every word. Callers loop over leading ASCII separately.
func narrowRune(s string, i int) (r, two, odd uint32) {
	c := uint32(s[i])
	two = c >> 7
	x := c << 8
	if i+1 < len(s) {
		x |= uint32(s[i+1])
	}
	pair := x>>2&0x7C0 | x&0x3F
	// A pair is 110xxxxx 10xxxxxx and not an overlong form of ASCII.
	odd = -two & (x&0xE0C0 ^ 0xC080 | (pair-0x80)>>31)
	return c ^ (c^pair)&-two, two, odd
}

func wideRune(s string, i int) (r uint32, next int) {
	wide, size := utf8.DecodeRuneInString(s[i:])
	return uint32(wide), i + size
}

func (p *Pattern) loadRows() {
	p.n = utf8.RuneCountInString(p.s)
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
