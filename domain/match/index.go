package match

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"unicode/utf8"
)

// Index holds the names of one list, ready to be searched. It is immutable and
// safe for concurrent use.
//
// Words are numbered by a dictionary; rows lead from a word to the names that
// hold it. Fuzzy look-ups go through the dictionary alone: two words within two
// edits share what is left of their first seven letters after up to two
// deletions (SymSpell), and the few words found so are compared for real.
type Index struct {
	entries  []indexed
	names    []listedName
	words    map[string]uint32   // the dictionary
	spelling []string            // a word by its number
	rows     [][]uint32          // names by word
	idf      []float32           // rarity of a word, 0 to 1
	whole    map[string][]uint32 // names by their letters without spaces, and by their initials
	total    []float32           // of a name: the least weight of words among its forms
	deletes  deletions
	seed     maphash.Seed
	bytes    int64
}

type indexed struct {
	key       [16]byte
	countries []string
}

type listedName struct {
	entry uint32
	alias bool
	name  string
	forms []form
}

// deletions are pairs of a hash and a word, sorted; bucket leads to the first
// of each value of the hash's upper sixteen bits.
type deletions struct {
	hash   []uint64
	word   []uint32
	bucket []uint32
}

func (d *deletions) of(h uint64, fn func(word uint32)) {
	top := h >> 48
	from, to := d.bucket[top], d.bucket[top+1]
	i, _ := slices.BinarySearch(d.hash[from:to], h)
	for i += int(from); i < int(to) && d.hash[i] == h; i++ {
		fn(d.word[i])
	}
}

// Builder collects entries for an Index.
type Builder struct{ ix *Index }

// NewBuilder starts an index.
func NewBuilder() *Builder {
	return &Builder{&Index{words: map[string]uint32{}, whole: map[string][]uint32{}, seed: maphash.MakeSeed()}}
}

// Add takes one entry.
func (b *Builder) Add(e Entry) {
	ix := b.ix
	at := uint32(len(ix.entries))
	ix.entries = append(ix.entries, indexed{e.Key, e.Countries})
	ix.bytes += 40
	for i, name := range append([]string{e.Name}, e.Aliases...) {
		fs := forms(name, nil)
		if len(fs) == 0 {
			continue
		}
		id := uint32(len(ix.names))
		ix.names = append(ix.names, listedName{at, i > 0, name, fs})
		ix.bytes += int64(len(name)) + 48
		for i := range fs {
			f := &fs[i]
			ix.bytes += int64(2*len(f.text)+len(f.joined)) + 20*int64(len(f.words)) + 160
			for j, word := range f.words {
				w, ok := ix.words[word]
				if !ok {
					w = uint32(len(ix.rows))
					ix.words[word] = w
					ix.spelling = append(ix.spelling, word)
					ix.rows = append(ix.rows, nil)
					ix.bytes += int64(len(word)) + 80
				}
				f.words[j] = ix.spelling[w] // one copy of each word
				if row := ix.rows[w]; len(row) == 0 || row[len(row)-1] != id {
					ix.rows[w] = append(row, id)
					ix.bytes += 4
				}
			}
			ix.put(f.joined, id)
			if len(f.words) >= 3 {
				ix.put(f.first, id)
			}
		}
	}
}

func (ix *Index) put(whole string, id uint32) {
	if row := ix.whole[whole]; len(row) == 0 || row[len(row)-1] != id {
		ix.whole[whole] = append(row, id)
		ix.bytes += int64(len(whole)) + 48
	}
}

// Build ends the collection.
func (b *Builder) Build() *Index {
	ix := b.ix
	n := float64(len(ix.names)) + 1
	ix.idf = make([]float32, len(ix.rows))
	type pair struct {
		hash uint64
		word uint32
	}
	var pairs []pair
	var buf []uint64
	for w, word := range ix.spelling {
		ix.idf[w] = float32(math.Log(n/float64(len(ix.rows[w]))) / math.Log(n))
		buf = ix.variants(word, buf[:0])
		for _, h := range buf {
			pairs = append(pairs, pair{h, uint32(w)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := cmp.Compare(a.hash, b.hash); c != 0 {
			return c
		}
		return cmp.Compare(a.word, b.word)
	})
	d := deletions{make([]uint64, len(pairs)), make([]uint32, len(pairs)), make([]uint32, 1<<16+1)}
	for i, p := range pairs {
		d.hash[i], d.word[i] = p.hash, p.word
		d.bucket[p.hash>>48+1] = uint32(i + 1)
	}
	for i := 1; i < len(d.bucket); i++ {
		d.bucket[i] = max(d.bucket[i], d.bucket[i-1])
	}
	ix.deletes = d
	ix.bytes += 12*int64(len(pairs)) + 4<<16
	ix.total = make([]float32, len(ix.names))
	for i := range ix.names {
		least := float32(math.MaxFloat32)
		for j := range ix.names[i].forms {
			f := &ix.names[i].forms[j]
			ix.weigh(f)
			sum := float32(0)
			for _, w := range f.weights {
				sum += w
			}
			least = min(least, sum)
		}
		ix.total[i] = least
	}
	b.ix = nil
	return ix
}

// Len is the number of entries.
func (ix *Index) Len() int { return len(ix.entries) }

// MemoryBytes is about what the index holds.
func (ix *Index) MemoryBytes() int64 { return ix.bytes }

// weigh notes the rarity of each word of a form.
func (ix *Index) weigh(f *form) {
	f.weights = make([]float32, len(f.words))
	for i, w := range f.words {
		f.weights[i] = float32(ix.weight(w))
	}
}

// weight is the rarity of a word in this list, from 0.05 for one that every
// name has to 1 for one that none has.
func (ix *Index) weight(word string) float64 {
	if w, ok := ix.words[word]; ok {
		return 0.05 + 0.95*float64(ix.idf[w])
	}
	return 1
}

// variants appends the hashes of a word's first seven letters with up to two of
// them deleted (one in words of four to six letters, none in shorter ones).
func (ix *Index) variants(word string, out []uint64) []uint64 {
	var letters [8]rune
	n := 0
	for _, r := range word {
		if n == 7 {
			n++
			break
		}
		letters[n] = r
		n++
	}
	long := n >= 7
	n = min(n, 7)
	hash := func(skip1, skip2 int) {
		var h maphash.Hash
		h.SetSeed(ix.seed)
		for i := range n {
			if i != skip1 && i != skip2 {
				var b [4]byte
				_, _ = h.Write(b[:utf8.EncodeRune(b[:], letters[i])])
			}
		}
		out = append(out, h.Sum64())
	}
	hash(-1, -1)
	if n >= 4 {
		for i := range n {
			hash(i, -1)
			if long {
				for j := i + 1; j < n; j++ {
					hash(i, j)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// candidateLimit is how many names are scored at most for one reading of a
// query: the best by their bound. Fewer where the first of them are so good
// that none with a lower bound can come among the answers.
const candidateLimit = 1000

// Search gives the entries that reach the threshold, best first. The order is
// total: score, confidence, key.
func (ix *Index) Search(q Query, o Options) []Match {
	return ix.search(q, o, ix.candidates)
}

// BruteForce scores every name: the oracle that Search is held against.
func (ix *Index) BruteForce(q Query, o Options) []Match {
	o2 := o
	o2.Limit = 0
	out := ix.search(q, o2, func(_ *form, s *scorer, _ float64) {
		for i := range ix.names {
			s.ranked = append(s.ranked, ranked{everything, uint32(i)})
		}
	})
	return Merge(o.Limit, out)
}

// everything is a bound that no limit on the work applies to.
const everything = 2

func (ix *Index) search(q Query, o Options, candidates func(*form, *scorer, float64)) []Match {
	if o.Settings.Weights == (Weights{}) {
		o.Settings.Weights = DefaultSettings().Weights
	}
	threshold := o.Threshold
	if threshold == 0 {
		threshold = o.Settings.Threshold
	}
	if threshold == 0 {
		threshold = DefaultSettings().Threshold
	}
	s := scorers.Get().(*scorer)
	defer func() { clear(s.memo); scorers.Put(s) }()
	synonyms := synonymTable(o.Settings.Synonyms)
	leaders := leaders{most: o.Limit}

	best := map[uint32]Match{}
	for _, name := range append([]string{q.Name}, q.Aliases...) {
		qf := forms(name, synonyms)
		tops := map[uint32]scored{}
		for i := range qf {
			if qf[i].acronym && i > 0 {
				continue // an acronym beside a full name in the query adds nothing by itself
			}
			ix.weigh(&qf[i])
			s.load(&qf[i])
			candidates(&qf[i], s, threshold)
			for n := 0; len(s.ranked) > 0 && (n < candidateLimit || s.ranked[0].bound == everything); n++ {
				next := s.ranked.pop()
				if leaders.beat(0.35 + 0.65*float64(next.bound)) {
					break // none that is left can come among the first o.Limit
				}
				listed := &ix.names[next.name]
				geo := geographic(q, &ix.entries[listed.entry])
				for j := range listed.forms {
					c := s.compare(o.Settings.Weights, &qf[i], &listed.forms[j], geo, threshold, o.Explain)
					if c.score >= threshold && c.score > tops[next.name].top.score {
						tops[next.name] = scored{c, &qf[i], &listed.forms[j]}
						leaders.add(listed.entry, c.score)
					}
				}
			}
			s.ranked = s.ranked[:0]
		}
		for id, found := range tops {
			listed := &ix.names[id]
			entry := &ix.entries[listed.entry]
			top, topQ, topE := found.top, found.q, found.e
			m := Match{Key: entry.key, Score: round(min(1, top.score)), Type: top.kind, MatchedName: listed.name}
			m.Confidence = round(m.Score * (0.7 + 0.3*top.evidence))
			m.Quality = quality(m.Confidence)
			if listed.alias && top.kind != CoreAcronym {
				m.Type = Alias
				if top.score < 0.9 {
					m.Type = AliasPartial
				}
			}
			if old, ok := best[listed.entry]; ok && (old.Score > m.Score || old.Score == m.Score && !preferred(m, old)) {
				continue
			}
			if o.Explain {
				a := top.algorithms
				a.JaroWinkler, a.Levenshtein, a.Word, a.NGram = round(a.JaroWinkler), round(a.Levenshtein), round(a.Word), round(a.NGram)
				m.Algorithms = &a
				m.Explanation = &Explanation{topQ.text, topE.text, top.pairs, round(top.cap), round(top.evidence)}
				if m.Explanation.Words == nil {
					m.Explanation.Words = []Pair{}
				}
			}
			best[listed.entry] = m
		}
	}
	out := make([]Match, 0, len(best))
	for _, m := range best {
		out = append(out, m)
	}
	return Merge(o.Limit, out)
}

// scored is the best comparison of one listed name.
type scored struct {
	top  comparison
	q, e *form
}

// preferred breaks ties between names of one entry: the name before an alias,
// then by the alphabet, so that the answer never depends on the order of a map.
func preferred(a, b Match) bool {
	if (a.Type == Alias) != (b.Type == Alias) {
		return b.Type == Alias
	}
	return a.MatchedName < b.MatchedName
}

func quality(confidence float64) string {
	switch {
	case confidence >= 0.85:
		return "high"
	case confidence >= 0.65:
		return "medium"
	}
	return "low"
}

// geographic is what the countries say; nil where one is unknown.
func geographic(q Query, e *indexed) *float64 {
	if q.Country == "" || len(e.countries) == 0 {
		return nil
	}
	v := 0.0
	if slices.Contains(e.countries, q.Country) {
		v = 1
	}
	return &v
}

func synonymTable(groups [][]string) map[string]string {
	if len(groups) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, g := range groups {
		if len(g) == 0 {
			continue
		}
		to := fold(g[0])
		for _, w := range g {
			out[fold(w)] = to
		}
	}
	return out
}

// share is what one name has in common with the query so far: the weight of
// its words that were met, and of the query's words that met one.
type share struct{ listed, asked float32 }

// candidates are the names that can reach the threshold at all. The cap on a
// score needs words that agree:
//
//	word ≤ 2A / (A + E + U)
//
// with A the weight of the name's words that agree, E of all its words, and U of
// the query's words that found none. Words are looked up rarest first; when
// those still to come cannot carry a name by themselves, their rows, the long
// ones, are not walked, and they count as agreeing everywhere.
func (ix *Index) candidates(f *form, s *scorer, threshold float64) {
	need := float32((threshold-0.35)/0.65) - 1e-4
	if len(s.shares) < len(ix.names) {
		s.shares = make([]share, len(ix.names))
	}
	// Equal letters and acronyms score whatever their words weigh.
	s.ranked = s.ranked[:0]
	for _, id := range ix.whole[f.joined] {
		s.ranked = append(s.ranked, ranked{1, id})
	}
	if len(f.words) >= 3 {
		for _, id := range ix.whole[f.first] {
			s.ranked = append(s.ranked, ranked{1, id})
		}
	}
	type lookup struct {
		hits        []uint32
		asked, most float32 // weight of the query's word; the most that a hit of it weighs
	}
	looks := make([]lookup, len(f.words))
	var all, restAsked, restListed float32
	for j, word := range f.words {
		l := &looks[j]
		l.asked = f.weights[j]
		l.hits = ix.similar(word, s)
		for _, w := range l.hits {
			l.most = max(l.most, 0.05+0.95*ix.idf[w])
		}
		all += l.asked
		restAsked += l.asked
		restListed += l.most
	}
	slices.SortFunc(looks, func(a, b lookup) int { return cmp.Compare(b.most, a.most) })
	s.touched = s.touched[:0]
	for _, l := range looks {
		if 2*restListed < need*(2*restListed+all-restAsked) {
			break
		}
		restAsked -= l.asked
		restListed -= l.most
		for _, w := range l.hits {
			weight := 0.05 + 0.95*ix.idf[w]
			for _, name := range ix.rows[w] {
				sh := &s.shares[name]
				if *sh == (share{}) {
					s.touched = append(s.touched, name)
				}
				sh.listed += weight
				sh.asked += l.asked
			}
		}
	}
	for _, name := range s.touched {
		sh := s.shares[name]
		s.shares[name] = share{}
		total := ix.total[name]
		agree := min(sh.listed+restListed, total) // never more than the name has
		missed := max(0, all-sh.asked-restAsked)
		if bound := 2 * agree / (agree + total + missed); bound >= need {
			s.ranked = append(s.ranked, ranked{bound, name})
		}
	}
	s.ranked.order()
}

// queue is a heap of names, the highest bound first, then the lowest number.
type queue []ranked

type ranked struct {
	bound float32
	name  uint32
}

func (q queue) before(i, j int) bool {
	return q[i].bound > q[j].bound || q[i].bound == q[j].bound && q[i].name < q[j].name
}

func (q queue) order() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.sink(i)
	}
}

func (q *queue) pop() ranked {
	old := *q
	top := old[0]
	last := len(old) - 1
	old[0] = old[last]
	*q = old[:last]
	q.sink(0)
	return top
}

func (q queue) sink(i int) {
	for {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if child+1 < len(q) && q.before(child+1, child) {
			child++
		}
		if !q.before(child, i) {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}

// leaders are the best scores of distinct entries so far.
type leaders struct {
	most    int
	entries []uint32
	scores  []float64
}

// beat reports whether so many entries score more than this that nothing up to
// it can be answered.
func (l *leaders) beat(score float64) bool {
	return l.most > 0 && len(l.scores) >= l.most && l.scores[l.most-1] > score+1e-4 // scores are rounded
}

func (l *leaders) add(entry uint32, score float64) {
	if l.most <= 0 {
		return
	}
	if i := slices.Index(l.entries, entry); i >= 0 {
		if l.scores[i] >= score {
			return
		}
		l.entries, l.scores = slices.Delete(l.entries, i, i+1), slices.Delete(l.scores, i, i+1)
	}
	i := 0
	for i < len(l.scores) && l.scores[i] >= score {
		i++
	}
	if i >= l.most {
		return
	}
	l.entries, l.scores = slices.Insert(l.entries, i, entry), slices.Insert(l.scores, i, score)
	if len(l.scores) > l.most {
		l.entries, l.scores = l.entries[:l.most], l.scores[:l.most]
	}
}

// similar are the words of the dictionary that count as the same as word.
func (ix *Index) similar(word string, s *scorer) []uint32 {
	var out []uint32
	exact, known := ix.words[word]
	if known {
		out = append(out, exact)
	}
	s.hashes = ix.variants(word, s.hashes[:0])
	s.near = s.near[:0]
	for _, h := range s.hashes {
		ix.deletes.of(h, func(w uint32) { s.near = append(s.near, w) })
	}
	slices.Sort(s.near)
	for _, w := range slices.Compact(s.near) {
		if known && w == exact {
			continue
		}
		if s.wordSimilarity(word, ix.spelling[w]) > 0 {
			out = append(out, w)
		}
	}
	return out
}
