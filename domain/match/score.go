package match

import (
	"slices"
	"unicode/utf8"
)

// comparison is the outcome for one form of the query and one listed form.
type comparison struct {
	score, evidence, cap float64
	algorithms           Algorithms
	kind                 Type
}

// alignment is what the words of a listed form have in common with the query.
type alignment struct {
	word     float32 // wordScore
	cap      float32 // the most that the words allow the score to be
	evidence float32
	ordered  bool // the words that agree stand in the query's order
}

// wordScore is the F measure of what agrees: S the worth of the words that do
// (similarity × rarity), E the weight of the listed form, Q of the query, which
// counts a word that agrees as no less than its partner.
//
//	word = max( 2S / (E+Q), (1+b)S / (bE+Q) )
//
// The second counts what the query leaves out of the listed name less than what
// it adds (b < 1), the less the more evidence remains: b falls from 1 at S = 1,
// one word that only one name has, to 0.25 at S = 2.
func wordScore(s, e, q float32) float32 {
	if s <= 0 {
		return 0
	}
	q = max(q, s)
	b := leniency(s)
	return min(1, max(2*s/(e+q), (1+b)*s/(b*e+q)))
}

func leniency(s float32) float32 { return 1 - 0.75*min(max(s-1, 0), 1) }

// capBase is what a score may be where hardly anything agrees.
const capBase = 0.1

// Where words are missing, what agrees has to be evidence by itself: the less of
// it is left of two rare words, the more a missing word lowers the word score, by
// up to a tenth where the query left words out, a fifth where it has others.
// "Institute of Physics" is not "Institute of Applied Physics". Missing is what
// weighs more than one initial.
const (
	dropped = 0.1
	added   = 0.2
	missing = 0.15
)

// otherForm is what another legal form leaves of a score: Delta GmbH and Delta
// Ltd are two companies, and more often than not the same one is meant.
const otherForm = 0.99

// wordNeeded is the least word score whose cap reaches a score.
func wordNeeded(score float64) float64 { return max(0, (score-capBase)/(1-capBase)) }

// align gives each word of a listed form a word of the query, equal ones first,
// and notes it in s.partner.
func (s *searcher) align(ix *Index, f *asked, form uint32) alignment {
	words := ix.form(form)
	s.partner = s.partner[:0]
	if len(s.taken) < len(f.words) {
		s.taken = make([]uint32, len(f.words)+8)
	}
	if s.round++; s.round == 0 {
		clear(s.taken)
		s.round = 1
	}
	var shared, met, strongest, asked float32
	fuzzy := false
	for _, w := range words {
		partner := int32(-1)
		for at := s.memo.get(w); at >= 0; at = s.hits[at].next {
			h := &s.hits[at]
			if h.similarity < 1 {
				fuzzy = true
			} else if s.taken[h.asked] != s.round && (partner < 0 || h.asked < partner) {
				partner = h.asked
			}
		}
		if partner >= 0 {
			s.taken[partner] = s.round
			v := ix.weight[w]
			shared, met = shared+v, met+v
			strongest = max(strongest, v)
			asked += max(0, v-f.weights[partner])
		}
		s.partner = append(s.partner, partner)
	}
	if fuzzy {
		for i, w := range words {
			if s.partner[i] >= 0 {
				continue
			}
			best := hit{asked: -1}
			for at := s.memo.get(w); at >= 0; at = s.hits[at].next {
				if h := &s.hits[at]; h.similarity < 1 && s.taken[h.asked] != s.round &&
					(h.similarity > best.similarity || h.similarity == best.similarity && h.asked < best.asked) {
					best = *h
				}
			}
			if best.asked < 0 {
				continue
			}
			s.partner[i] = best.asked
			s.taken[best.asked] = s.round
			v := ix.weight[w]
			shared, met = shared+best.similarity*v, met+v
			strongest = max(strongest, best.similarity*v)
			asked += max(0, v-f.weights[best.asked])
		}
	}
	weight := float32(ix.formWeight[form]) / weightUnit
	a := alignment{word: wordScore(shared, weight, f.total+asked), evidence: min(1, strongest), ordered: true}
	if penalty := float32(0); met < max(weight, f.total+asked)-missing {
		if penalty = dropped; met < f.total+asked-missing {
			penalty = added
		}
		a.word *= 1 - penalty*min(max(2-shared, 0), 1)
	}
	last := int32(-1)
	for _, p := range s.partner {
		if p >= 0 {
			a.ordered = a.ordered && p > last
			last = p
		}
	}
	a.cap = capBase + (1-capBase)*a.word*(0.9+0.1*a.evidence)
	if !a.ordered {
		a.cap *= 0.98
	}
	if f.numbers && a.cap > 0.7 && s.numbersDiffer(ix, f, words) {
		a.cap = 0.7
	}
	return a
}

// numbersDiffer reports that each side has a number that the other has not:
// plant 12 is not plant 21, whatever else agrees.
func (s *searcher) numbersDiffer(ix *Index, f *asked, words []uint32) bool {
	own := false
	for i, w := range f.words {
		own = own || s.taken[i] != s.round && hasDigit([]byte(w))
	}
	if !own {
		return false
	}
	for i, w := range words {
		if s.partner[i] < 0 && hasDigit(ix.words.at(w)) {
			return true
		}
	}
	return false
}

func hasDigit(word []byte) bool {
	for _, c := range word {
		if c >= '0' && c <= '9' {
			return true
		}
	}
	return false
}

func firstLetter(word []byte) uint64 {
	r, _ := utf8.DecodeRune(word)
	return uint64(r) + 1
}

// sameLetters reports that a listed form is the query but for its spaces.
func (ix *Index) sameLetters(f *asked, words []uint32) bool {
	rest := f.letters
	for _, w := range words {
		word := ix.words.at(w)
		if len(rest) < len(word) || rest[:len(word)] != string(word) {
			return false
		}
		rest = rest[len(word):]
	}
	return rest == ""
}

// initialsOf reports that the query is one word made of the form's first letters.
func (ix *Index) initialsOf(f *asked, words []uint32) bool {
	if len(f.words) != 1 || len(f.letters) < 3 || len(words) < 3 {
		return false
	}
	rest := f.letters
	for _, w := range words {
		r, size := utf8.DecodeRuneInString(rest)
		if first, _ := utf8.DecodeRune(ix.words.at(w)); size == 0 || first != r {
			return false
		}
		rest = rest[size:]
	}
	return rest == ""
}

// compare scores the form of the query whose patterns are loaded against a
// listed form. Not ok means a score below floor: what the words allow is looked
// at before the letters, and each algorithm is asked only while the score can
// still reach the floor.
func (s *searcher) compare(ix *Index, f *asked, form uint32, geo *float64, w Weights, floor float64) (c comparison, ok bool) {
	words := ix.form(form)
	k := ix.formKind[form]
	same := ix.sameLetters(f, words)
	if same && k&acronym != 0 && len(f.letters) >= 2 {
		return comparison{score: 0.95, evidence: 1, cap: 0.95, algorithms: Algorithms{1, 1, 1, 1, geo}, kind: CoreAcronym}, 0.95 >= floor
	}
	if k&acronym == 0 && ix.initialsOf(f, words) {
		// The fewer names have these initials, the more they say.
		v := 0.6 + 0.25*s.rarity
		return comparison{score: v, evidence: 0.5, cap: v, algorithms: Algorithms{v, v, v, v, geo}, kind: CoreAcronym}, v >= floor
	}
	a := s.align(ix, f, form)
	if same {
		a.word, a.cap, a.evidence, a.ordered = 1, 1, max(a.evidence, 0.5), true
		for i := range s.partner {
			s.partner[i] = -1
		}
	}
	c.cap, c.evidence = float64(a.cap), float64(a.evidence)
	if a.word == 0 || c.cap < floor {
		return c, false
	}
	sum, rest := w.Word*float64(a.word), w.JaroWinkler+w.Levenshtein+w.NGram
	total := w.Word + rest
	if geo != nil {
		sum, total = sum+w.Geographic**geo, total+w.Geographic
	}
	if total == 0 {
		return c, false
	}
	text, runes := s.write(ix, words, a.ordered)
	add := func(weight, v float64) bool {
		sum += weight * v
		rest -= weight
		return sum+rest >= floor*total-1e-9
	}
	lev := 1 - float64(s.pattern.Levenshtein(text))/float64(max(f.runes, runes))
	if !add(w.Levenshtein, lev) {
		return c, false
	}
	ng := s.grams.similarity(text)
	if !add(w.NGram, ng) {
		return c, false
	}
	jw := s.pattern.JaroWinkler(text)
	add(w.JaroWinkler, jw)
	c.algorithms = Algorithms{jw, lev, float64(a.word), ng, geo}
	verbatim := f.verbatim == ix.verbatim[ix.nameOf.of(form)]
	c.score = min(sum/total, c.cap)
	if !verbatim && f.kind&legalCode != k&legalCode {
		c.score *= otherForm
	}
	equal := text == f.text && a.ordered
	switch {
	case equal && (f.kind|k)&core == 0, equal && verbatim:
		c.kind = Exact
	case equal:
		c.kind = CoreMatch
	case c.score >= 0.9:
		c.kind = Fuzzy
	case a.word >= 0.8:
		c.kind = WordMatch
	default:
		c.kind = Partial
	}
	return c, c.score >= floor
}

// withInitials appends the forms whose first letters are the query.
func (ix *Index) withInitials(f *asked, out []uint32) []uint32 {
	if len(f.words) != 1 || len(f.letters) < 3 {
		return out
	}
	var code uint64
	for _, r := range f.letters {
		code = code*base + uint64(r) + 1
	}
	out = ix.initials.of(mix(code), out)
	return slices.DeleteFunc(out, func(form uint32) bool { return !ix.initialsOf(f, ix.form(form)) })
}

// write gives the text of a listed form, its words in the query's order where
// both have them in another: a word without a partner follows the one before it.
func (s *searcher) write(ix *Index, words []uint32, ordered bool) (text string, runes int) {
	s.order = s.order[:0]
	for i := range words {
		s.order = append(s.order, int32(i))
	}
	if !ordered {
		place := func(i int32) int32 {
			for ; i >= 0; i-- {
				if s.partner[i] >= 0 {
					return s.partner[i]
				}
			}
			return -1
		}
		for i := 1; i < len(s.order); i++ { // few words: insertion keeps equal ones in order
			for j := i; j > 0 && place(s.order[j]) < place(s.order[j-1]); j-- {
				s.order[j], s.order[j-1] = s.order[j-1], s.order[j]
			}
		}
	}
	s.listed = s.listed[:0]
	for i, at := range s.order {
		if i > 0 {
			s.listed = append(s.listed, ' ')
		}
		s.listed = append(s.listed, ix.words.at(words[at])...)
	}
	text = view(s.listed)
	return text, utf8.RuneCountInString(text)
}

// explain shows what was compared for a match: the same comparison once more.
func (s *searcher) explain(ix *Index, b *found, m *Match) {
	f := &s.forms[b.asked]
	words := ix.form(b.form)
	a := b.algorithms
	a.JaroWinkler, a.Levenshtein, a.Word, a.NGram = round(a.JaroWinkler), round(a.Levenshtein), round(a.Word), round(a.NGram)
	if a.Geographic != nil {
		g := round(*a.Geographic)
		a.Geographic = &g
	}
	m.Algorithms = &a
	e := &Explanation{Query: f.text, Cap: round(b.cap), Evidence: round(b.evidence), Words: []Pair{}}
	text, _ := s.write(ix, words, true)
	e.Listed = string([]byte(text))
	m.Explanation = e
	if b.kind == CoreAcronym {
		return
	}
	s.lookUp(ix, f, (*Index).nearWords)
	s.align(ix, f, b.form)
	for i, w := range words {
		if p := s.partner[i]; p >= 0 {
			e.Words = append(e.Words, Pair{f.words[p], string(ix.words.at(w)), round(float64(s.similarityOf(w, p))), round(float64(ix.weight[w]))})
		}
	}
}

func (s *searcher) similarityOf(word uint32, asked int32) float32 {
	for at := s.memo.get(word); at >= 0; at = s.hits[at].next {
		if s.hits[at].asked == asked {
			return s.hits[at].similarity
		}
	}
	return 0
}
