package match

import (
	"math"
	"math/bits"
	"slices"
	"strings"
	"unsafe"
)

// Index holds the names of one list, ready to be searched. It is immutable and
// safe for concurrent use.
//
// Everything that grows with the list lies in slices without pointers, and what
// belongs to one name is found by offsets: the collector has nothing to walk.
// Texts are not kept: a form is the numbers of its words.
type Index struct {
	keys    [][16]byte // by entry
	country []uint16   // by entry, an index into countries
	lands   [][]string // distinct sets of countries; 0 is none
	places  map[uint32]place

	entryOf  runs     // of a name
	verbatim []uint32 // by name: a hash of its letters

	nameOf     runs     // of a form
	formStart  []uint32 // by form and one more: where its words start in tokens
	formKind   []kind
	formWeight []uint16 // of all its words, in units of weightUnit, rounded up
	tokens     []uint32 // words of forms, by number

	words    words
	weight   []float32 // by word: its rarity
	rowStart []uint32  // by word and one more: where its forms start in rows
	rows     []uint32  // forms, ascending
	alphabet []uint32  // words in the order of their spelling
	near     buckets   // words by what is left of them after deletions
	joined   buckets   // forms by their letters without spaces
	initials buckets   // forms of three words and more by their first letters
}

// Builder collects entries for an Index.
type Builder struct {
	ix       *Index
	reader   reader
	raw      words // words as they were written
	read     []rawWord
	landsOf  map[string]uint16
	joined   []uint64 // by form
	initials []uint64 // by form; 0 is none
	line     []uint32 // the raw words of the form at hand
}

// rawWord is what a written word stands for, itself or up to four words, and what
// the hashes of whole names need of them.
type rawWord struct {
	wordHash
	words   [4]uint32
	n       uint8
	meaning meaning
	single  bool // a letter: may be half of a legal form
	phrased bool // may be part of a legal form that is written out
}

type wordHash struct{ letters, power, first uint64 }

// NewBuilder starts an index.
func NewBuilder() *Builder {
	return &Builder{ix: &Index{lands: [][]string{nil}, places: map[uint32]place{}}, landsOf: map[string]uint16{"": 0}}
}

// Add takes one entry.
func (b *Builder) Add(e Entry) {
	ix := b.ix
	entry := uint32(len(ix.keys))
	ix.keys, ix.country, ix.verbatim = room(ix.keys), room(ix.country), room(ix.verbatim)
	ix.formStart, ix.formKind, ix.tokens, b.joined, b.initials = room(ix.formStart), room(ix.formKind), room(ix.tokens), room(b.joined), room(b.initials)
	ix.keys = append(ix.keys, e.Key)
	ix.country = append(ix.country, b.land(e.Countries))
	if e.City != "" || e.Latitude != nil && e.Longitude != nil {
		ix.places[entry] = placeOf(e.City, e.Countries, e.Latitude, e.Longitude)
	}
	b.name(e.Name, true)
	for _, a := range e.Aliases {
		b.name(a, false)
	}
}

func (b *Builder) land(codes []string) uint16 {
	if len(codes) == 0 {
		return 0
	}
	key := codes[0]
	if len(codes) > 1 {
		codes = slices.Clone(codes)
		slices.Sort(codes)
		key = strings.Join(codes, " ")
	}
	n, ok := b.landsOf[key]
	if !ok {
		if len(b.ix.lands) > math.MaxUint16 {
			return 0 // more sets of countries than a list can mean: unknown
		}
		n = uint16(len(b.ix.lands))
		b.ix.lands = append(b.ix.lands, slices.Clone(codes))
		b.landsOf[strings.Clone(key)] = n
	}
	return n
}

// name takes one name, even one without letters, so that names keep their order
// within the entry.
func (b *Builder) name(name string, first bool) {
	ix := b.ix
	ix.entryOf.add(first)
	from := len(ix.formKind)
	verbatim := b.reader.readings(name, func(k kind) { b.form(from, k) })
	if len(ix.formKind) == from {
		b.reader.cut("")
		b.form(from, 0)
	}
	ix.verbatim = append(ix.verbatim, uint32(verbatim))
}

// form takes the words in the reader; first is the name's first form.
func (b *Builder) form(first int, k kind) {
	ix := b.ix
	b.line = b.line[:0]
	for i := range b.reader.words() {
		b.line = append(b.line, b.intern(b.reader.word(i)))
	}
	from := len(ix.tokens)
	raw := func(i int) []byte {
		if i < 0 || i >= len(b.line) {
			return nil
		}
		return b.raw.at(b.line[i])
	}
	var letters, initials uint64
	add := func(r *rawWord) {
		ix.tokens = append(ix.tokens, r.words[:r.n]...)
		if r.n == 1 {
			letters = letters*r.power + r.letters
			initials = initials*base + r.first
			return
		}
		for _, w := range r.words[:r.n] {
			h := hashOf(ix.words.at(w))
			letters = letters*h.power + h.letters
			initials = initials*base + h.first
		}
	}
	for i := 0; i < len(b.line); i++ {
		r := &b.read[b.line[i]]
		switch {
		case r.single && legalPair(raw(i), raw(i+1)):
			i++
			k |= core
		case r.meaning == legal, r.phrased && legalPhrase(raw(i-1), raw(i), raw(i+1)):
			k = k.withLegal(raw(i))
		case r.meaning == plain:
			add(r)
		}
	}
	if len(ix.tokens) == from { // the name is made of such words alone: then they are its name
		k &= acronym
		for _, raw := range b.line {
			add(&b.read[raw])
		}
	}
	own := ix.tokens[from:]
	for f := first; f < len(ix.formKind); f++ {
		end := from
		if f+1 < len(ix.formStart) {
			end = int(ix.formStart[f+1])
		}
		if ix.formKind[f]&acronym == k&acronym && slices.Equal(own, ix.tokens[ix.formStart[f]:end]) {
			ix.tokens = ix.tokens[:from]
			return
		}
	}
	if len(own) < 3 || k&acronym != 0 {
		initials = 0
	}
	ix.nameOf.add(first == len(ix.formKind))
	ix.formStart = append(ix.formStart, uint32(from))
	ix.formKind = append(ix.formKind, k)
	b.joined = append(b.joined, mix(letters))
	b.initials = append(b.initials, initials)
}

// intern reads a written word once.
func (b *Builder) intern(word []byte) uint32 {
	raw, added := b.raw.add(word)
	if !added {
		return raw
	}
	m, written := meaningOf(word)
	r := rawWord{meaning: m, single: len(word) == 1, phrased: phrased(word)}
	if len(written) == 0 {
		r.words[0], _ = b.ix.words.add(word)
		r.n, r.wordHash = 1, hashOf(word)
	}
	for _, w := range written {
		r.words[r.n], _ = b.ix.words.add([]byte(w))
		r.wordHash = hashOf([]byte(w))
		r.n++
	}
	b.read = append(b.read, r)
	return raw
}

func hashOf(word []byte) (h wordHash) {
	h.letters, h.power = polynomial(word)
	h.first = firstLetter(word)
	return h
}

// Build ends the collection.
func (b *Builder) Build() *Index {
	ix := b.ix
	ix.formStart = append(ix.formStart, uint32(len(ix.tokens)))
	ix.keys, ix.country, ix.verbatim = trim(ix.keys), trim(ix.country), trim(ix.verbatim)
	ix.formStart, ix.formKind, ix.tokens = trim(ix.formStart), trim(ix.formKind), trim(ix.tokens)
	ix.entryOf.trim()
	ix.nameOf.trim()
	ix.words.text, ix.words.end = trim(ix.words.text), trim(ix.words.end)
	b.raw, b.read = words{}, nil
	b.rows()
	b.weights()

	ix.alphabet = ix.words.alphabet()
	hashes := make([]uint64, 0, 16*ix.words.len())
	items := make([]uint32, 0, 16*ix.words.len())
	for w := range ix.words.len() {
		hashes = variants(ix.words.at(uint32(w)), hashes)
		for len(items) < len(hashes) {
			items = append(items, uint32(w))
		}
	}
	ix.near = newBuckets(hashes, items, true)

	hashes, items = b.joined, items[:0]
	for f := range b.joined {
		items = append(items, uint32(f))
	}
	ix.joined = newBuckets(hashes, items, false)
	hashes, items = hashes[:0], items[:0]
	for f, h := range b.initials {
		if h != 0 {
			hashes, items = append(hashes, mix(h)), append(items, uint32(f))
		}
	}
	ix.initials = newBuckets(hashes, items, false)
	*b = Builder{}
	return ix
}

// rows sorts forms by their words: counted, then laid where they belong.
func (b *Builder) rows() {
	ix := b.ix
	last := make([]uint32, ix.words.len()) // the last form that had the word, plus one
	ix.rowStart = make([]uint32, ix.words.len()+1)
	each := func(fn func(word, form uint32)) {
		clear(last)
		for f := range ix.formKind {
			for _, w := range ix.tokens[ix.formStart[f]:ix.formStart[f+1]] {
				if last[w] != uint32(f)+1 {
					last[w] = uint32(f) + 1
					fn(w, uint32(f))
				}
			}
		}
	}
	each(func(word, _ uint32) { ix.rowStart[word+1]++ })
	for i := 1; i < len(ix.rowStart); i++ {
		ix.rowStart[i] += ix.rowStart[i-1]
	}
	ix.rows = make([]uint32, ix.rowStart[len(ix.rowStart)-1])
	next := slices.Clone(ix.rowStart)
	each(func(word, form uint32) {
		ix.rows[next[word]] = form
		next[word]++
	})
}

// weights gives each word its rarity, from 0.05 for one that every form has to
// 1 for one that only one has.
func (b *Builder) weights() {
	ix := b.ix
	ix.weight = make([]float32, ix.words.len())
	for w := range ix.weight {
		df := int(ix.rowStart[w+1] - ix.rowStart[w])
		ix.weight[w] = float32(min(0.05+0.95*rarity(df, len(ix.formKind)), heaviest(ix.words.at(uint32(w)))))
	}
	ix.formWeight = make([]uint16, len(ix.formKind))
	for f := range ix.formWeight {
		sum := 0.0
		for _, w := range ix.tokens[ix.formStart[f]:ix.formStart[f+1]] {
			sum += float64(ix.weight[w])
		}
		ix.formWeight[f] = uint16(min(math.Ceil(sum*weightUnit), math.MaxUint16))
	}
}

// weightUnit is one in formWeight: a form weighs up to 127 rare words.
const weightUnit = 512

// rarity is the inverse frequency of what df of n have: 1 for one, 0 for all.
func rarity(df, n int) float64 {
	if df < 1 {
		return 1
	}
	return 1 - math.Log(float64(df))/math.Log(float64(n)+1)
}

// Len is the number of entries.
func (ix *Index) Len() int { return len(ix.keys) }

// MemoryBytes is what the index holds.
func (ix *Index) MemoryBytes() int64 {
	n := size(ix.keys) + size(ix.country) + ix.entryOf.size() + size(ix.verbatim) +
		ix.nameOf.size() + size(ix.formStart) + size(ix.formKind) + size(ix.formWeight) + size(ix.tokens) +
		size(ix.words.text) + size(ix.words.end) + size(ix.words.slots) + size(ix.words.tags) + size(ix.weight) + size(ix.rowStart) + size(ix.rows) + size(ix.alphabet)
	for _, b := range []*buckets{&ix.near, &ix.joined, &ix.initials} {
		n += size(b.start) + size(b.item) + size(b.tag)
	}
	return n + int64(len(ix.places))*placeBytes + 4096
}

func size[T any](s []T) int64 {
	var one T
	return int64(cap(s)) * int64(unsafe.Sizeof(one))
}

// room doubles what is nearly full: a list of a million is copied less often than
// append alone would.
func room[T any](s []T) []T {
	if cap(s)-len(s) < 16 {
		s = slices.Grow(s, max(256, len(s)))
	}
	return s
}

// runs number things that come in runs: whose form a form is, whose name a name.
// One bit each, set where a run starts, and the starts before each 64 are counted.
type runs struct {
	starts []uint64
	before []uint32
	n      uint32
}

func (r *runs) add(start bool) {
	at := r.n % 64
	if at == 0 {
		count := uint32(0)
		if last := len(r.starts) - 1; last >= 0 {
			count = r.before[last] + uint32(bits.OnesCount64(r.starts[last]))
		}
		r.starts, r.before = append(r.starts, 0), append(r.before, count)
	}
	if start {
		r.starts[len(r.starts)-1] |= 1 << at
	}
	r.n++
}

// of is the number of the run that i belongs to.
func (r *runs) of(i uint32) uint32 {
	return r.before[i/64] + uint32(bits.OnesCount64(r.starts[i/64]<<(63-i%64))) - 1
}

// place is where in its run i stands.
func (r *runs) place(i uint32) (n int) {
	for ; r.starts[i/64]>>(i%64)&1 == 0; i-- {
		n++
	}
	return n
}

func (r *runs) trim()       { r.starts, r.before = trim(r.starts), trim(r.before) }
func (r *runs) size() int64 { return size(r.starts) + size(r.before) }

// trim gives up what append had put by.
func trim[T any](s []T) []T {
	out := make([]T, len(s))
	copy(out, s)
	return out
}

// view is a string of bytes that nobody changes while it is used.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// form of a listed name, its words by number.
func (ix *Index) form(f uint32) []uint32 { return ix.tokens[ix.formStart[f]:ix.formStart[f+1]] }
