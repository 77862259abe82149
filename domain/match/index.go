package match

import (
	"math"
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

	nameEntry []uint32 // by name
	verbatim  []uint32 // by name: a hash of its letters

	formName   []uint32 // by form
	formStart  []uint32 // by form and one more: where its words start in tokens
	formKind   []kind
	formWeight []float32 // of all its words
	tokens     []uint32  // words of forms, by number

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
	hashes   []wordHash
	line     []uint32 // the raw words of the form at hand
}

// rawWord is what a written word stands for: itself, or up to four words.
type rawWord struct {
	meaning meaning
	phrased bool // may be part of a legal form that is written out
	n       uint8
	words   [4]uint32
}

// wordHash is what the whole-name hashes need of a word.
type wordHash struct{ letters, power, first uint64 }

// NewBuilder starts an index.
func NewBuilder() *Builder {
	return &Builder{ix: &Index{lands: [][]string{nil}, places: map[uint32]place{}}, landsOf: map[string]uint16{"": 0}}
}

// Add takes one entry.
func (b *Builder) Add(e Entry) {
	ix := b.ix
	entry := uint32(len(ix.keys))
	ix.keys = append(ix.keys, e.Key)
	ix.country = append(ix.country, b.land(e.Countries))
	if e.City != "" || e.Latitude != nil && e.Longitude != nil {
		ix.places[entry] = placeOf(e.City, e.Countries, e.Latitude, e.Longitude)
	}
	b.name(entry, e.Name)
	for _, a := range e.Aliases {
		b.name(entry, a)
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
func (b *Builder) name(entry uint32, name string) {
	ix := b.ix
	id := uint32(len(ix.nameEntry))
	ix.nameEntry = append(ix.nameEntry, entry)
	first := len(ix.formName)
	verbatim := b.reader.readings(name, func(k kind) { b.form(id, first, k) })
	ix.verbatim = append(ix.verbatim, uint32(verbatim))
}

func (b *Builder) form(name uint32, first int, k kind) {
	ix := b.ix
	b.line = b.line[:0]
	for i := range b.reader.words() {
		b.line = append(b.line, b.intern(b.reader.word(i)))
	}
	from := len(ix.tokens)
	left := func(i int) bool { return b.read[b.line[i]].meaning != plain }
	raw := func(i int) []byte {
		if i < 0 || i >= len(b.line) {
			return nil
		}
		return b.raw.at(b.line[i])
	}
	for i := 0; i < len(b.line); i++ {
		if legalPair(raw(i), raw(i+1)) {
			i++
			k |= core
			continue
		}
		if b.read[b.line[i]].phrased && legalPhrase(raw(i-1), raw(i), raw(i+1)) {
			k |= core
			continue
		}
		if left(i) {
			if b.read[b.line[i]].meaning == legal {
				k |= core
			}
			continue
		}
		r := &b.read[b.line[i]]
		ix.tokens = append(ix.tokens, r.words[:r.n]...)
	}
	if len(ix.tokens) == from { // the name is made of such words alone: then they are its name
		k &^= core
		for _, raw := range b.line {
			r := &b.read[raw]
			ix.tokens = append(ix.tokens, r.words[:r.n]...)
		}
	}
	own := ix.tokens[from:]
	for f := first; f < len(ix.formName); f++ {
		if slices.Equal(own, ix.tokens[ix.formStart[f]:b.end(f, from)]) && ix.formKind[f]&acronym == k&acronym {
			ix.tokens = ix.tokens[:from]
			return
		}
	}
	var letters, initials uint64
	for _, w := range own {
		h := &b.hashes[w]
		letters = letters*h.power + h.letters
		initials = initials*base + h.first
	}
	if len(own) < 3 || k&acronym != 0 {
		initials = 0
	}
	ix.formName = append(ix.formName, name)
	ix.formStart = append(ix.formStart, uint32(from))
	ix.formKind = append(ix.formKind, k)
	b.joined = append(b.joined, mix(letters))
	b.initials = append(b.initials, initials)
}

func (b *Builder) end(form, tokens int) int {
	if form+1 < len(b.ix.formStart) {
		return int(b.ix.formStart[form+1])
	}
	return tokens
}

// intern reads a written word once.
func (b *Builder) intern(word []byte) uint32 {
	raw, added := b.raw.add(word)
	if !added {
		return raw
	}
	m, written := meaningOf(word)
	r := rawWord{meaning: m, phrased: phrased(word)}
	if len(written) == 0 {
		r.words[0], r.n = b.word(word), 1
	}
	for _, w := range written {
		r.words[r.n] = b.word([]byte(w))
		r.n++
	}
	b.read = append(b.read, r)
	return raw
}

func (b *Builder) word(word []byte) uint32 {
	w, added := b.ix.words.add(word)
	if added {
		var h wordHash
		h.letters, h.power = polynomial(word)
		h.first = firstLetter(word)
		b.hashes = append(b.hashes, h)
	}
	return w
}

// Build ends the collection.
func (b *Builder) Build() *Index {
	ix := b.ix
	ix.formStart = append(ix.formStart, uint32(len(ix.tokens)))
	ix.keys, ix.country, ix.nameEntry, ix.verbatim = trim(ix.keys), trim(ix.country), trim(ix.nameEntry), trim(ix.verbatim)
	ix.formName, ix.formStart, ix.formKind, ix.tokens = trim(ix.formName), trim(ix.formStart), trim(ix.formKind), trim(ix.tokens)
	ix.words.text, ix.words.end = trim(ix.words.text), trim(ix.words.end)
	b.rows()
	b.weights()

	ix.alphabet = make([]uint32, ix.words.len())
	for i := range ix.alphabet {
		ix.alphabet[i] = uint32(i)
	}
	slices.SortFunc(ix.alphabet, func(x, y uint32) int { return strings.Compare(view(ix.words.at(x)), view(ix.words.at(y))) })

	var hashes []uint64
	var items []uint32
	for w := range ix.words.len() {
		hashes = variants(ix.words.at(uint32(w)), hashes)
		for len(items) < len(hashes) {
			items = append(items, uint32(w))
		}
	}
	ix.near = newBuckets(hashes, items)

	hashes, items = b.joined, items[:0]
	for f := range b.joined {
		items = append(items, uint32(f))
	}
	ix.joined = newBuckets(hashes, items)
	hashes, items = hashes[:0], items[:0]
	for f, h := range b.initials {
		if h != 0 {
			hashes, items = append(hashes, mix(h)), append(items, uint32(f))
		}
	}
	ix.initials = newBuckets(hashes, items)
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
		for f := range ix.formName {
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
		ix.weight[w] = float32(min(0.05+0.95*rarity(df, len(ix.formName)), heaviest(ix.words.at(uint32(w)))))
	}
	ix.formWeight = make([]float32, len(ix.formName))
	for f := range ix.formWeight {
		for _, w := range ix.tokens[ix.formStart[f]:ix.formStart[f+1]] {
			ix.formWeight[f] += ix.weight[w]
		}
	}
}

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
	n := size(ix.keys) + size(ix.country) + size(ix.nameEntry) + size(ix.verbatim) +
		size(ix.formName) + size(ix.formStart) + size(ix.formKind) + size(ix.formWeight) + size(ix.tokens) +
		size(ix.words.text) + size(ix.words.end) + size(ix.words.slots) + size(ix.weight) + size(ix.rowStart) + size(ix.rows) + size(ix.alphabet)
	for _, b := range []*buckets{&ix.near, &ix.joined, &ix.initials} {
		n += size(b.start) + size(b.item) + size(b.tag)
	}
	return n + int64(len(ix.places))*placeBytes + 4096
}

func size[T any](s []T) int64 {
	var one T
	return int64(cap(s)) * int64(unsafe.Sizeof(one))
}

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
