package match

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// asked is one form of a query.
type asked struct {
	words    []string
	weights  []float32 // what each word weighs in the index that is searched
	total    float32   // of the weights
	text     string    // the words with spaces between
	letters  string    // and without
	runes    int
	kind     kind
	verbatim uint32
	numbers  bool // some word has digits
}

// hit is a word of the index that counts as the same as a word of the query.
type hit struct {
	word       uint32 // of the index
	asked      int32  // of the query
	similarity float32
	next       int32 // another hit of the same word, or -1
}

// found is one listed form that reached the threshold.
type found struct {
	comparison
	entry, name, form uint32
	asked             int // which form of the query
}

// searcher holds what one search needs; it is pooled, and nothing in it stays
// bound to an index.
type searcher struct {
	reader  reader
	forms   []asked
	pattern Pattern
	grams   gramTable

	hits  []hit
	memo  wordTable
	seen  wordTable
	wide  []uint32
	codes []uint64

	reached  [blockForms]uint16 // what the forms of a block have in common with the query so far; all zero between blocks
	touched  []uint16
	lists    []list
	ranked   queue
	partner  []int32 // of each word of the listed form: the query's word, or -1
	taken    []uint32
	round    uint32 // marks in taken
	listed   []byte
	order    []int32
	best     []found
	byEntry  map[uint32]int32
	leaders  leaders
	wherever whereabouts
	same     *synonyms
	most     []float32
	sink     uint32
	rarity   float64 // of the query's letters as initials
}

var searchers = sync.Pool{New: func() any { return &searcher{byEntry: map[uint32]int32{}} }}

// Search gives the entries that reach the threshold, best first. The order is
// total: score, confidence, key.
func (ix *Index) Search(q Query, o Options) []Match { return ix.search(q, o, byIndex) }

// BruteForce scores every form of every name, and finds similar words by going
// through all that there are: the oracle that Search is held against.
func (ix *Index) BruteForce(q Query, o Options) []Match {
	limit := o.Limit
	o.Limit = 0
	out := ix.search(q, o, byForce)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

// method is how words and forms are found.
type method struct {
	near  func(*Index, *searcher, []byte) []uint32
	score func(*Index, *searcher, *asked, int, Weights)
}

var (
	byIndex = method{(*Index).nearWords, (*Index).candidates}
	byForce = method{(*Index).allWords, (*Index).everything}
)

func (ix *Index) search(q Query, o Options, how method) []Match {
	if o.Settings.Weights == (Weights{}) {
		o.Settings.Weights = DefaultSettings().Weights
		o.Settings.Threshold = DefaultSettings().Threshold
	}
	if o.Threshold == 0 {
		o.Threshold = o.Settings.Threshold
	}
	s := searchers.Get().(*searcher)
	defer searchers.Put(s)
	s.wherever = whereaboutsOf(q)
	s.leaders.reset(o.Limit, o.Threshold)
	s.best = s.best[:0]
	clear(s.byEntry)
	s.same = synonymsOf(o.Settings.Synonyms)

	s.read(ix, q)
	for i := range s.forms {
		f := &s.forms[i]
		s.lookUp(ix, f, how.near)
		s.pattern.Reset(f.text)
		s.grams.prepare(f.text)
		s.ranked = s.ranked[:0]
		ix.whole(s, f, i, o.Settings.Weights)
		how.score(ix, s, f, i, o.Settings.Weights)
	}
	return s.matches(ix, o)
}

// rounding is how far apart two scores may be that look the same.
const rounding = 2e-4

// consider scores one listed form and keeps what may be answered.
func (s *searcher) consider(ix *Index, f *asked, at int, form uint32, w Weights) {
	entry := ix.entryOf.of(ix.nameOf.of(form))
	c, ok := s.compare(ix, f, form, ix.geographic(&s.wherever, entry), w, s.leaders.floor-rounding)
	if ok {
		s.keep(ix, found{comparison: c, entry: entry, form: form, asked: at})
	}
}

func (s *searcher) keep(ix *Index, n found) {
	if n.score < s.leaders.threshold {
		return
	}
	n.name = ix.nameOf.of(n.form)
	n.score = round(n.score)
	if at, ok := s.byEntry[n.entry]; !ok {
		s.byEntry[n.entry] = int32(len(s.best))
		s.best = append(s.best, n)
	} else if n.before(&s.best[at]) {
		s.best[at] = n
	}
	s.leaders.add(n.entry, n.score)
}

// before orders the names of one entry, totally: the higher score, the name
// before an alias, then as the entry has them.
func (a *found) before(b *found) bool {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.name, b.name), cmp.Compare(a.form, b.form), cmp.Compare(a.asked, b.asked)) < 0
}

func (s *searcher) matches(ix *Index, o Options) []Match {
	slices.SortFunc(s.best, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(confidence(&b), confidence(&a)), bytes.Compare(ix.keys[a.entry][:], ix.keys[b.entry][:]))
	})
	if o.Limit > 0 && len(s.best) > o.Limit {
		s.best = s.best[:o.Limit]
	}
	out := make([]Match, 0, len(s.best))
	for i := range s.best {
		b := &s.best[i]
		m := Match{Key: ix.keys[b.entry], Score: b.score, Confidence: confidence(b), Type: b.kind, Name: ix.entryOf.place(b.name)}
		m.Quality = quality(m.Confidence)
		if m.Name > 0 && b.kind != CoreAcronym {
			m.Type = Alias
			if b.score < 0.9 {
				m.Type = AliasPartial
			}
		}
		if o.Explain {
			s.explain(ix, b, &m)
		}
		out = append(out, m)
	}
	return out
}

func confidence(b *found) float64 { return round(b.score * (0.7 + 0.3*b.evidence)) }

func quality(confidence float64) string {
	switch {
	case confidence >= 0.85:
		return "high"
	case confidence >= 0.65:
		return "medium"
	}
	return "low"
}

// read cuts the query's names into forms.
func (s *searcher) read(ix *Index, q Query) {
	s.forms = s.forms[:0]
	for i := -1; i < len(q.Aliases); i++ {
		name := q.Name
		if i >= 0 {
			name = q.Aliases[i]
		}
		first := len(s.forms)
		verbatim := s.reader.readings(name, func(k kind) {
			if k&acronym == 0 { // an acronym beside a full name in the query adds nothing by itself
				s.add(newAsked(&s.reader, k, ix), first)
			}
		})
		s.same.rewrite(s, first)
		for j := range s.forms[first:] {
			s.forms[first+j].verbatim = uint32(verbatim)
		}
	}
}

func (s *searcher) add(f asked, first int) {
	if !slices.ContainsFunc(s.forms[first:], func(o asked) bool { return o.text == f.text }) {
		s.forms = append(s.forms, f)
	}
}

// newAsked reads the words in r as Builder.form does. One that the index does
// not have and that is a slip away from a legal form or an article is that.
func newAsked(r *reader, k kind, ix *Index) asked {
	n := r.words()
	var words, slips []string
	all := make([][]byte, n)
	slip := make([]bool, n)
	for i := range all {
		all[i] = r.word(i)
		if m, written := meaningOf(all[i]); m != plain || len(written) > 0 || ix == nil {
			continue
		}
		if _, known := ix.words.find(all[i]); !known {
			if form, ok := meantLegal(all[i]); ok {
				all[i], slip[i] = []byte(form), true
			}
		}
	}
	for i := 0; i < n; i++ {
		var before, after []byte
		if i > 0 {
			before = all[i-1]
		}
		if i+1 < n {
			after = all[i+1]
		}
		if legalPair(all[i], after) {
			i++
			k |= core
			continue
		}
		if legalPhrase(before, all[i], after) {
			k = k.withLegal(all[i])
			continue
		}
		switch m, written := meaningOf(all[i]); {
		case slip[i]:
			slips = append(slips, string(r.word(i)))
		case m == legal:
			k = k.withLegal(all[i])
		case m == article:
		case len(written) > 0:
			words = append(words, written...)
		default:
			words = append(words, string(all[i]))
		}
	}
	switch {
	case len(words) > 0 && len(slips) > 0:
		k |= core
	case len(words) == 0 && len(slips) > 0:
		words = slips
	case len(words) == 0:
		k &= acronym
		for i := range n {
			if _, written := meaningOf(r.word(i)); len(written) > 0 {
				words = append(words, written...)
			} else {
				words = append(words, string(r.word(i)))
			}
		}
	}
	return askedOf(words, k)
}

func askedOf(words []string, k kind) asked {
	f := asked{words: words, weights: make([]float32, len(words)), kind: k}
	f.text, f.letters = strings.Join(words, " "), strings.Join(words, "")
	f.runes = utf8.RuneCountInString(f.text)
	for _, w := range words {
		f.numbers = f.numbers || hasDigit([]byte(w))
	}
	return f
}

// lookUp finds the words of the index that count as the same as the words of
// the form, and weighs the form.
func (s *searcher) lookUp(ix *Index, f *asked, near func(*Index, *searcher, []byte) []uint32) {
	s.hits = s.hits[:0]
	s.memo.reset()
	f.total = 0
	for i, word := range f.words {
		var best hit
		w := []byte(word)
		add := func(id uint32, v float32) {
			first := s.memo.get(id)
			for at := first; at >= 0; at = s.hits[at].next {
				if s.hits[at].asked == int32(i) {
					return
				}
			}
			h := hit{id, int32(i), v, first}
			s.memo.set(id, int32(len(s.hits)))
			s.hits = append(s.hits, h)
			if v > best.similarity || v == best.similarity && ix.weight[id] < ix.weight[best.word] {
				best = h
			}
		}
		if id, ok := ix.words.find(w); ok {
			add(id, 1)
		}
		for _, other := range s.same.of(word) {
			if id, ok := ix.words.find([]byte(other)); ok {
				add(id, 1)
			}
		}
		for _, id := range near(ix, s, w) {
			if v := similarity(w, ix.words.at(id)); v > 0 {
				add(id, v)
			}
		}
		f.weights[i] = ix.unmet(w)
		if best.similarity > 0 {
			f.weights[i] = ix.weight[best.word] // a slip is rare, but says no more than the word that was meant
		}
		f.total += f.weights[i]
	}
}

// unmet is the weight of a word that the list does not have, nor one like it.
func (ix *Index) unmet(word []byte) float32 {
	return float32(heaviest(word))
}

// nearWords are the words that may be similar to a word, found by what is left
// of it after deletions, and by its beginning.
func (ix *Index) nearWords(s *searcher, word []byte) []uint32 {
	s.codes = variants(word, s.codes[:0])
	s.wide = s.wide[:0]
	for _, h := range s.codes {
		s.wide = ix.near.of(h, s.wide)
	}
	if utf8.RuneCount(word) >= 4 {
		// Longer words that begin so, and its own beginnings.
		from, _ := slices.BinarySearchFunc(ix.alphabet, word, func(w uint32, t []byte) int { return bytes.Compare(ix.words.at(w), t) })
		for _, w := range ix.alphabet[from:] {
			if !bytes.HasPrefix(ix.words.at(w), word) {
				break
			}
			s.wide = append(s.wide, w)
		}
		letters := 0
		for i := range string(word) {
			if letters >= 4 {
				if w, ok := ix.words.find(word[:i]); ok {
					s.wide = append(s.wide, w)
				}
			}
			letters++
		}
	}
	s.seen.reset()
	out := s.wide[:0]
	for _, w := range s.wide {
		if s.seen.get(w) < 0 {
			s.seen.set(w, 0)
			out = append(out, w)
		}
	}
	return out
}

// allWords is nearWords without an index.
func (ix *Index) allWords(s *searcher, _ []byte) []uint32 {
	s.wide = s.wide[:0]
	for w := range ix.words.len() {
		s.wide = append(s.wide, uint32(w))
	}
	return s.wide
}

// everything scores every form.
func (ix *Index) everything(s *searcher, f *asked, which int, w Weights) {
	for form := range ix.formKind {
		s.consider(ix, f, which, uint32(form), w)
	}
}

// blockForms is how many forms are looked at together: what is noted of them
// stays in the processor's cache, and what the first blocks give spares work in
// the others.
const blockForms = 1 << 15

// list is the forms that have a word of the index that a word of the query hit.
type list struct {
	forms []uint32 // those of the blocks to come
	share float32  // what the hit is worth: similarity × weight
	units uint16   // share, in the units of reached
	asked int32
	use   use
}

type use uint8

const (
	left    use = iota // not walked: every bound allows for it
	counted            // walked for the forms that other lists gave
	walked             // gives forms
)

// candidates scores the forms that can come among the answers, those first that
// can score most.
//
// With S the worth of the words that agree, E the weight of the form's words and
// Q that of the query's, the words' part of a score is at most wordScore(S, E, Q)
// (score.go). The lists of the words are walked in the order of their worth, and
// no further than where what is still to come cannot carry a form by itself. The
// rest, the long lists of common words, only add to what the others gave, or are
// left and counted in every bound.
func (ix *Index) candidates(s *searcher, f *asked, which int, w Weights) {
	s.lists = s.lists[:0]
	for _, h := range s.hits {
		s.lists = append(s.lists, list{share: h.similarity * ix.weight[h.word], asked: h.asked, forms: ix.rows[ix.rowStart[h.word]:ix.rowStart[h.word+1]]})
	}
	slices.SortFunc(s.lists, func(a, b list) int {
		return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(a.asked, b.asked), cmp.Compare(len(a.forms), len(b.forms)))
	})
	all := s.rest(f, left)
	scale := 60000 / (all*float32(len(s.lists)+1) + 1) // no sum of shares is more than that
	for i := range s.lists {
		s.lists[i].units = uint16(math.Ceil(float64(s.lists[i].share * scale)))
	}
	var b bound
	s.plan(f, &b, all)
	for block := 0; block < len(ix.formKind); block += blockForms {
		s.touched = s.touched[:0]
		end := uint32(min(block+blockForms, len(ix.formKind)))
		ended := 0
		for i := range s.lists {
			l := &s.lists[i]
			forms, n := l.forms, 0
			switch l.use {
			case walked:
				for n < len(forms) && forms[n] < end {
					at := forms[n] % blockForms
					if s.reached[at] == 0 {
						s.touched = append(s.touched, uint16(at))
					}
					s.reached[at] += l.units
					n++
				}
			case counted:
				for n < len(forms) && forms[n] < end {
					at := forms[n] % blockForms
					if s.reached[at] != 0 {
						s.reached[at] += l.units
					}
					n++
				}
			case left:
				continue
			}
			if l.forms = forms[n:]; len(l.forms) == 0 {
				ended++
			}
		}
		if 4*ended > len(s.lists) {
			s.lists = slices.DeleteFunc(s.lists, func(l list) bool { return len(l.forms) == 0 })
		}
		weights := ix.formWeight[block:end]
		s.wide = s.wide[:0]
		for _, at := range s.touched {
			shared := float32(s.reached[at])/scale + b.rest
			s.reached[at] = 0
			if b.allows(shared, float32(weights[at])/weightUnit) {
				s.wide = append(s.wide, uint32(block)+uint32(at))
			}
		}
		// Memory is slow and the processor looks ahead: the words of all forms are
		// asked for before those of the first are used.
		for _, form := range s.wide {
			s.sink += ix.tokens[ix.formStart[form]]
		}
		for _, form := range s.wide {
			if a := s.align(ix, f, form); float64(a.cap) >= s.leaders.floor-rounding {
				s.ranked = append(s.ranked, rankOf(a.cap, form))
			}
		}
		if len(s.ranked) > 0 && s.drain(ix, f, which, w) {
			s.plan(f, &b, all) // better answers ask more of those to come
		}
	}
}

// rest is the most that the lists from one on, or those of one use, are worth to
// a form: each word of the query by its best.
func (s *searcher) rest(f *asked, of use) float32 {
	s.most = resized(s.most, len(f.words))
	clear(s.most)
	sum := float32(0)
	for i := range s.lists {
		if l := &s.lists[i]; l.use == of && s.most[l.asked] == 0 { // the best comes first
			s.most[l.asked] = l.share
			sum += l.share
		}
	}
	return sum
}

// plan decides which lists are walked, by what a form has to reach now. A list
// that was left stays left: its place is lost.
func (s *searcher) plan(f *asked, b *bound, all float32) {
	need := float32(wordNeeded(s.leaders.floor)) - 1e-3
	s.most = resized(s.most, len(f.words))
	clear(s.most)
	rest := float32(0) // of the lists from i on
	length := 0
	first := len(s.lists)
	for first > 0 {
		l := &s.lists[first-1]
		if rest += l.share - s.most[l.asked]; wordScore(rest, rest, f.total) >= need {
			break
		}
		s.most[l.asked] = l.share
		first--
	}
	for i := range s.lists[:first] {
		s.lists[i].use = walked
		length += len(s.lists[i].forms)
	}
	for i := first; i < len(s.lists); i++ {
		if l := &s.lists[i]; l.use != left || b.fresh() && len(l.forms) <= 4*length {
			l.use = counted
		}
	}
	*b = boundOf(need, all, s.rest(f, left), f.total)
}

// bound tells quickly whether wordScore(S, E, Q) can reach what is needed: both
// of its measures are linear in E for a given score.
type bound struct {
	rest              float32 // what the lists left are worth
	plain, plainE     float32 // S ≥ plain + plainE × E
	lenient, lenientE float32
	set               bool
}

func (b *bound) fresh() bool { return !b.set }

func boundOf(need, all, rest, q float32) bound {
	lean := leniency(all)
	return bound{rest, need * q / 2, need / 2, need * q / (1 + lean), need * lean / (1 + lean), true}
}

func (b *bound) allows(shared, e float32) bool {
	shared = min(shared, e)
	return shared >= b.plain+b.plainE*e || shared >= b.lenient+b.lenientE*e
}

// drain scores what is ranked, until none that is left can come among the
// answers. It reports whether answers ask more than before.
func (s *searcher) drain(ix *Index, f *asked, which int, w Weights) bool {
	before := s.leaders.floor
	s.ranked.order()
	for len(s.ranked) > 0 {
		next := s.ranked.pop()
		if next.bound() < s.leaders.floor-rounding {
			break
		}
		s.consider(ix, f, which, next.form(), w)
	}
	s.ranked = s.ranked[:0]
	return s.leaders.floor > before
}

// whole finds what scores without words that agree: the same letters however
// they are cut into words, and acronyms.
func (ix *Index) whole(s *searcher, f *asked, at int, w Weights) {
	hash, _ := polynomial([]byte(f.letters))
	s.wide = ix.joined.of(mix(hash), s.wide[:0])
	for _, form := range s.wide {
		if ix.sameLetters(f, ix.form(form)) {
			s.consider(ix, f, at, form, w)
		}
	}
	s.wide = ix.withInitials(f, s.wide[:0])
	s.rarity = rarity(len(s.wide), len(ix.formKind))
	for _, form := range s.wide {
		s.consider(ix, f, at, form, w)
	}
}

// queue is a heap of forms by the most that they can score, the highest first,
// then the lowest number.
type queue []rank

type rank uint64

func rankOf(bound float32, form uint32) rank { return rank(math.Float32bits(bound))<<32 | rank(^form) }

func (r rank) bound() float64 { return float64(math.Float32frombits(uint32(r >> 32))) }
func (r rank) form() uint32   { return ^uint32(r) }

func (q queue) order() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.sink(i)
	}
}

func (q *queue) pop() rank {
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
		if child+1 < len(q) && q[child+1] > q[child] {
			child++
		}
		if q[child] <= q[i] {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}

// leaders are the best scores of distinct entries so far; floor is what a score
// has to reach to be answered.
type leaders struct {
	most             int
	threshold, floor float64
	entries          []uint32
	scores           []float64
}

func (l *leaders) reset(most int, threshold float64) {
	l.most, l.threshold, l.floor = most, threshold, threshold
	l.entries, l.scores = l.entries[:0], l.scores[:0]
}

func (l *leaders) add(entry uint32, score float64) {
	if l.most <= 0 || score <= l.floor && len(l.scores) == l.most {
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
	l.entries, l.scores = slices.Insert(l.entries, i, entry), slices.Insert(l.scores, i, score)
	if len(l.scores) > l.most {
		l.entries, l.scores = l.entries[:l.most], l.scores[:l.most]
	}
	if len(l.scores) == l.most {
		l.floor = max(l.threshold, l.scores[l.most-1])
	}
}

// wordTable maps words of an index to numbers; it is emptied by a new stamp.
type wordTable struct {
	slots []wordSlot
	used  int
	stamp uint32
}

type wordSlot struct {
	word, stamp uint32
	value       int32
}

func (t *wordTable) reset() {
	t.used = 0
	if t.stamp++; t.stamp == 0 || len(t.slots) == 0 {
		t.slots, t.stamp = make([]wordSlot, max(512, len(t.slots))), 1
	}
}

func (t *wordTable) slot(word uint32) *wordSlot {
	mask := uint32(len(t.slots) - 1)
	for i := word * 0x9E3779B1 >> 7; ; i++ {
		s := &t.slots[i&mask]
		if s.stamp != t.stamp || s.word == word {
			return s
		}
	}
}

// get gives -1 for a word that was not set.
func (t *wordTable) get(word uint32) int32 {
	if s := t.slot(word); s.stamp == t.stamp {
		return s.value
	}
	return -1
}

func (t *wordTable) set(word uint32, value int32) {
	if 2*t.used >= len(t.slots) {
		old, stamp := t.slots, t.stamp
		t.slots, t.used = make([]wordSlot, 2*len(old)), 0
		for _, s := range old {
			if s.stamp == stamp {
				*t.slot(s.word) = s
				t.used++
			}
		}
	}
	s := t.slot(word)
	if s.stamp != t.stamp {
		t.used++
	}
	*s = wordSlot{word, t.stamp, value}
}
