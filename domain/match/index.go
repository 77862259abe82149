package match

import (
	"hash/maphash"
	"math"
	"slices"
)

// Index holds the names of one list, ready to be searched. It is immutable and
// safe for concurrent use.
type Index struct {
	entries []indexed
	names   []listedName
	words   map[string]uint32   // the dictionary
	rows    [][]uint32          // names by word
	idf     []float32           // rarity of a word, 0 to 1
	deletes map[uint64][]uint32 // words by what is left of them after up to two deletions
	seed    maphash.Seed
	bytes   int64
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

// Builder collects entries for an Index.
type Builder struct{ ix *Index }

// NewBuilder starts an index.
func NewBuilder() *Builder {
	return &Builder{&Index{words: map[string]uint32{}, deletes: map[uint64][]uint32{}, seed: maphash.MakeSeed()}}
}

// Add takes one entry.
func (b *Builder) Add(e Entry) {
	ix := b.ix
	at := uint32(len(ix.entries))
	ix.entries = append(ix.entries, indexed{e.Key, e.Countries})
	for i, name := range append([]string{e.Name}, e.Aliases...) {
		fs := forms(name, nil)
		if len(fs) == 0 {
			continue
		}
		id := uint32(len(ix.names))
		ix.names = append(ix.names, listedName{at, i > 0, name, fs})
		ix.bytes += int64(len(name)) + 48
		seen := map[string]bool{}
		put := func(word string) {
			if word == "" || seen[word] {
				return
			}
			seen[word] = true
			w, ok := ix.words[word]
			if !ok {
				w = uint32(len(ix.rows))
				ix.words[word] = w
				ix.rows = append(ix.rows, nil)
				ix.bytes += int64(len(word)) + 64
			}
			ix.rows[w] = append(ix.rows[w], id)
			ix.bytes += 4
		}
		for i := range fs {
			f := &fs[i]
			ix.bytes += int64(2*len(f.text)) + 16*int64(len(f.words)) + 80
			for _, w := range f.words {
				put(w)
			}
			put(f.joined)
			if len(f.words) >= 3 {
				put(f.first)
			}
		}
	}
}

// Build ends the collection.
func (b *Builder) Build() *Index {
	ix := b.ix
	n := float64(len(ix.names)) + 1
	ix.idf = make([]float32, len(ix.rows))
	for word, w := range ix.words {
		ix.idf[w] = float32(math.Log(n/float64(len(ix.rows[w]))) / math.Log(n))
		for _, d := range ix.variants(word) {
			ix.deletes[d] = append(ix.deletes[d], w)
			ix.bytes += 12
		}
	}
	for i := range ix.names {
		for j := range ix.names[i].forms {
			ix.weigh(&ix.names[i].forms[j])
		}
	}
	for _, list := range ix.deletes {
		slices.Sort(list)
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

// variants are the hashes of a word with up to two letters deleted, from its
// first ten letters: two words within two edits share one (SymSpell).
func (ix *Index) variants(word string) []uint64 {
	r := []rune(word)
	if len(r) > 10 {
		r = r[:10]
	}
	if len(r) < 4 {
		return []uint64{maphash.String(ix.seed, string(r))}
	}
	out := []uint64{maphash.String(ix.seed, string(r))}
	cut := func(r []rune, i int) []rune { return append(append(make([]rune, 0, len(r)), r[:i]...), r[i+1:]...) }
	for i := range r {
		one := cut(r, i)
		out = append(out, maphash.String(ix.seed, string(one)))
		if len(r) >= 7 {
			for j := i; j < len(one); j++ {
				out = append(out, maphash.String(ix.seed, string(cut(one, j))))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// candidateLimit is how many names are scored for one reading of a query; the
// best by the weight of the words they share.
const candidateLimit = 200

// Search gives the entries that reach the threshold, best first. The order is
// total: score, confidence, key.
func (ix *Index) Search(q Query, o Options) []Match {
	return ix.search(q, o, ix.candidates)
}

// BruteForce scores every name: the oracle that Search is held against.
func (ix *Index) BruteForce(q Query, o Options) []Match {
	return ix.search(q, o, func([]form, *scorer) []uint32 {
		all := make([]uint32, len(ix.names))
		for i := range all {
			all[i] = uint32(i)
		}
		return all
	})
}

func (ix *Index) search(q Query, o Options, candidates func([]form, *scorer) []uint32) []Match {
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

	best := map[uint32]Match{}
	for _, name := range append([]string{q.Name}, q.Aliases...) {
		qf := forms(name, synonyms)
		for i := range qf {
			ix.weigh(&qf[i])
		}
		tops := map[uint32]scored{}
		ids := candidates(qf, s)
		for i := range qf {
			if qf[i].acronym && i > 0 {
				continue // an acronym beside a full name in the query adds nothing by itself
			}
			s.load(&qf[i])
			for _, id := range ids {
				listed := &ix.names[id]
				geo := geographic(q, &ix.entries[listed.entry])
				for j := range listed.forms {
					c := s.compare(o.Settings.Weights, &qf[i], &listed.forms[j], geo, threshold, o.Explain)
					if c.score >= threshold && c.score > tops[id].top.score {
						tops[id] = scored{c, &qf[i], &listed.forms[j]}
					}
				}
			}
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

// candidates are the names that share the most weight of words with the query,
// counting words within two edits.
func (ix *Index) candidates(qf []form, s *scorer) []uint32 {
	weight := map[uint32]float32{}
	for i := range qf {
		f := &qf[i]
		probe := append(slices.Clone(f.words), f.joined)
		if len(f.words) >= 3 {
			probe = append(probe, f.first)
		}
		slices.Sort(probe)
		for _, word := range slices.Compact(probe) {
			type hit struct {
				word uint32
				sim  float32
			}
			var hits []hit
			if w, ok := ix.words[word]; ok {
				hits = append(hits, hit{w, 1})
			}
			var near []uint32
			for _, d := range ix.variants(word) {
				near = append(near, ix.deletes[d]...)
			}
			slices.Sort(near)
			for _, w := range slices.Compact(near) {
				if len(hits) > 0 && hits[0].word == w {
					continue
				}
				hits = append(hits, hit{w, 0.8})
			}
			for _, h := range hits {
				gain := h.sim * (0.05 + 0.95*ix.idf[h.word])
				for _, name := range ix.rows[h.word] {
					weight[name] += gain
				}
			}
		}
	}
	out := make([]uint32, 0, len(weight))
	for id := range weight {
		out = append(out, id)
	}
	if len(out) > candidateLimit {
		slices.SortFunc(out, func(a, b uint32) int {
			// A short name that shares as much is nearer.
			wa, wb := weight[a]/float32(2+len(ix.names[a].forms[0].words)), weight[b]/float32(2+len(ix.names[b].forms[0].words))
			switch {
			case wa > wb:
				return -1
			case wa < wb:
				return 1
			}
			return int(a) - int(b)
		})
		out = out[:candidateLimit]
	}
	slices.Sort(out)
	return out
}
