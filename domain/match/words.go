package match

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"unicode"
	"unicode/utf8"
)

// words is a set of words, numbered in the order they came. The letters lie end
// to end in one slice: a million words are three objects for the collector.
type words struct {
	text  []byte
	end   []uint32 // where each word ends in text
	slots []uint32 // open addressing; a word's number
	tags  []uint8  // of each slot: 0 is free, else seven bits of the hash
}

var seed = maphash.MakeSeed()

func (w *words) len() int { return len(w.end) }

func (w *words) at(i uint32) []byte {
	from := uint32(0)
	if i > 0 {
		from = w.end[i-1]
	}
	return w.text[from:w.end[i]]
}

// slot is where s is, or the free slot where it belongs.
func (w *words) slot(h uint64, s []byte) (at uint64, found bool) {
	mask := uint64(len(w.slots) - 1)
	for at, tag := h&mask, tagOf(h); ; at = (at + 1) & mask {
		switch w.tags[at] {
		case 0:
			return at, false
		case tag:
			if string(w.at(w.slots[at])) == string(s) {
				return at, true
			}
		}
	}
}

func tagOf(h uint64) uint8 { return uint8(h>>57) | 0x80 }

func (w *words) find(s []byte) (uint32, bool) {
	if len(w.slots) == 0 {
		return 0, false
	}
	at, found := w.slot(maphash.Bytes(seed, s), s)
	return w.slots[at], found
}

// add gives the number of s, a new one where the set did not have it.
func (w *words) add(s []byte) (number uint32, added bool) {
	if 4*len(w.end) >= 3*len(w.slots) {
		w.grow()
	}
	h := maphash.Bytes(seed, s)
	at, found := w.slot(h, s)
	if found {
		return w.slots[at], false
	}
	w.text = append(w.text, s...)
	w.end = append(w.end, uint32(len(w.text)))
	w.slots[at], w.tags[at] = uint32(len(w.end)-1), tagOf(h)
	return w.slots[at], true
}

func (w *words) grow() {
	n := max(16, 2*len(w.slots))
	w.slots, w.tags = make([]uint32, n), make([]uint8, n)
	for i := range w.end {
		h := maphash.Bytes(seed, w.at(uint32(i)))
		at := h & uint64(n-1)
		for w.tags[at] != 0 {
			at = (at + 1) & uint64(n-1)
		}
		w.slots[at], w.tags[at] = uint32(i), tagOf(h)
	}
}

// alphabet gives the words in the order of their spelling.
func (w *words) alphabet() []uint32 {
	type start struct {
		letters uint64 // the first eight: seldom are more compared
		word    uint32
	}
	all := make([]start, w.len())
	for i := range all {
		var first [8]byte
		copy(first[:], w.at(uint32(i)))
		all[i] = start{binary.BigEndian.Uint64(first[:]), uint32(i)}
	}
	slices.SortFunc(all, func(a, b start) int {
		if a.letters != b.letters {
			return cmp.Compare(a.letters, b.letters)
		}
		return bytes.Compare(w.at(a.word), w.at(b.word))
	})
	out := make([]uint32, len(all))
	for i := range all {
		out[i] = all[i].word
	}
	return out
}

// buckets lead from a hash to the numbers that were filed under it, and now and
// then to one that was filed under another: the caller looks at what it gets.
type buckets struct {
	start []uint32
	item  []uint32
	tag   []uint8 // eight more bits of the hash, so that few strangers are looked at; may be nil
	shift uint
}

func newBuckets(hashes []uint64, items []uint32, tagged bool) buckets {
	bits := uint(4)
	for 4<<bits < len(hashes) { // two to four in each
		bits++
	}
	b := buckets{start: make([]uint32, 1<<bits+1), item: make([]uint32, len(items)), shift: 64 - bits}
	if tagged {
		b.tag = make([]uint8, len(items))
	}
	for _, h := range hashes {
		b.start[h>>b.shift+1]++
	}
	for i := 1; i < len(b.start); i++ {
		b.start[i] += b.start[i-1]
	}
	next := make([]uint32, len(b.start))
	copy(next, b.start)
	for i, h := range hashes {
		at := &next[h>>b.shift]
		b.item[*at] = items[i]
		if tagged {
			b.tag[*at] = uint8(h)
		}
		*at++
	}
	return b
}

// of appends what may be filed under h.
func (b *buckets) of(h uint64, out []uint32) []uint32 {
	from, to := b.start[h>>b.shift], b.start[h>>b.shift+1]
	if b.tag == nil {
		return append(out, b.item[from:to]...)
	}
	for i, tag := range b.tag[from:to] {
		if tag == uint8(h) {
			out = append(out, b.item[from+uint32(i)])
		}
	}
	return out
}

// Hashes of letters are polynomials, so that the hash of a name without its
// spaces follows from those of its words. mix spreads one over all its bits.
const base = 0x9E3779B97F4A7C15

func mix(h uint64) uint64 {
	h ^= h >> 32
	h *= 0xD6E8FEB86659FD93
	h ^= h >> 32
	h *= 0xD6E8FEB86659FD93
	return h ^ h>>32
}

func polynomial(s []byte) (hash, power uint64) {
	power = 1
	for _, c := range s {
		hash = hash*base + uint64(c) + 1
		power *= base
	}
	return hash, power
}

// A slip of the pen is a letter more, less, or other, or two in the wrong order
// (optimal string alignment). Two words within two slips share what is left of
// their first seven letters after as many deletions (SymSpell): at most two, one
// where the word has three to five letters, none where it has less.
const prefixLetters = 7

// variants appends the hashes of what may be left of a word's beginning. Some
// come twice.
func variants(word []byte, out []uint64) []uint64 {
	var letters [prefixLetters]uint64
	n := 0
	for i := 0; i < len(word) && n < prefixLetters; n++ {
		if word[i] < utf8.RuneSelf {
			letters[n] = uint64(word[i]) + 1
			i++
			continue
		}
		r, size := utf8.DecodeRune(word[i:])
		letters[n] = uint64(r) + 1
		i += size
	}
	left := func(skip1, skip2 int) uint64 {
		var h uint64
		for i, l := range letters[:n] {
			if i != skip1 && i != skip2 {
				h = h*base + l
			}
		}
		return mix(h)
	}
	out = append(out, left(-1, -1))
	if n < 3 {
		return out
	}
	for i := range n {
		if i > 0 && letters[i] == letters[i-1] {
			continue // the same is left
		}
		out = append(out, left(i, -1))
		if n >= 6 {
			for j := i + 1; j < n; j++ {
				out = append(out, left(i, j))
			}
		}
	}
	return out
}

// similarity is how much two words are the same, 0 to 1:
//
//	1 for the same letters
//	one slip: 0.75 in three letters, 0.86 in four, 0.9 in five, 0.92 in more
//	two slips: 0.65 in six letters, 0.8 in seven to nine, 0.87 in more
//	0.8 where one is the other cut off, after at least four letters and 40 % of it
//	0 otherwise
//
// Letters are counted in the longer word. Numbers are hard evidence, 11420 is
// not 11421, and so is each sign of a script that writes words or syllables.
func similarity(a, b []byte) float32 {
	if string(a) == string(b) {
		return 1
	}
	var ra, rb [wordRunes]rune
	x, ok := lettersOf(a, ra[:0])
	y, also := lettersOf(b, rb[:0])
	if !ok || !also {
		return 0
	}
	if len(x) > len(y) {
		x, y = y, x
	}
	n := len(y)
	i := 0
	for i < len(x) && x[i] == y[i] {
		i++
	}
	cut := float32(0)
	if i == len(x) && len(x) >= 4 && 5*len(x) >= 2*n {
		cut = 0.8
	}
	if n-len(x) > 2 || n < 3 {
		return cut
	}
	x, y = x[i:], y[i:]
	for len(x) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	switch slips(x, y) {
	case 1:
		return oneSlip(n)
	case 2:
		if n >= 10 {
			return 0.87
		}
		if n >= 7 {
			return 0.8
		}
		if n == 6 {
			return max(cut, 0.65)
		}
	}
	return cut
}

func oneSlip(n int) float32 {
	switch {
	case n >= 6:
		return 0.92
	case n == 5:
		return 0.9
	case n == 4:
		return 0.86
	}
	return 0.75
}

// lettersOf gives the letters of a word; not ok where slips do not count.
func lettersOf(word []byte, out []rune) ([]rune, bool) {
	for i := 0; i < len(word); {
		c := word[i]
		if c < utf8.RuneSelf {
			if c <= '9' || len(out) == cap(out) {
				return nil, false
			}
			out = append(out, rune(c))
			i++
			continue
		}
		r, size := utf8.DecodeRune(word[i:])
		if len(out) == cap(out) || r >= 0x2E80 && ideographic(r) && !unicode.Is(unicode.Katakana, r) || unicode.IsDigit(r) {
			return nil, false
		}
		out = append(out, r)
		i += size
	}
	return out, true
}

// slips counts up to two slips between what two words do not share at either
// end, x being the shorter; three stands for more.
func slips(x, y []rune) int {
	switch {
	case len(x) == 0:
		return len(y) // one or two more
	case len(x) == 1 && len(y) == 1:
		return 1
	case len(x) == 2 && len(y) == 2:
		if x[0] == y[1] && x[1] == y[0] {
			return 1
		}
		return 2
	case len(x) == 1 && len(y) == 2:
		return 2 // one letter is another, and one is more: what is shared was cut off
	}
	// Two at most: the table of the alignment within two of its diagonal.
	const far = 3
	var rows [3][wordRunes + 1]int
	for i := range rows[1][:len(y)+1] {
		rows[0][i], rows[1][i] = far, min(i, far)
	}
	before, last, row := &rows[0], &rows[1], &rows[2]
	for i := 1; i <= len(x); i++ {
		lo, hi := max(1, i-2), min(len(y), i+2)
		row[lo-1] = far
		if lo == 1 {
			row[0] = min(i, far)
		}
		least := far
		for j := lo; j <= hi; j++ {
			d := last[j-1]
			if x[i-1] != y[j-1] {
				up := far
				if j < i+2 {
					up = last[j]
				}
				d = min(d, up, row[j-1]) + 1
				if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
					d = min(d, before[j-2]+1)
				}
			}
			row[j] = min(d, far)
			least = min(least, row[j])
		}
		if least == far {
			return far
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
