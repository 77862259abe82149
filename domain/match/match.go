// Package match answers which listed entities a name may mean. It does no I/O.
//
// # Reading a name
//
// Every name and alias is folded (case, accents, punctuation), its usual
// abbreviations are written out, and it is read in up to four forms: as it
// stands, transliterated, without what is in brackets, and what is in brackets
// alone. Legal forms and articles are set aside, unless nothing else is left:
// no list of words can hide an entity, not even one that is called "Academy of
// Military Science".
//
// # Finding candidates
//
// An index of words leads from each word of the query, and from the indexed
// words within one or two edits of it, to the names that hold it; a word
// weighs by its rarity (IDF). Whole names without their spaces are words of
// the index too, and so are acronyms, given or made of initials. The names with
// the most weight are scored.
//
// # Score
//
// For each pair of forms:
//
//	jaro_winkler, levenshtein, ngram   similarity of the texts, the better of natural and sorted word order
//	word        Dice coefficient of the aligned words, weighted by rarity; a pair of words counts from 0.8 similarity
//	geographic  1 same country, 0.6 same region, 0 otherwise; nothing where either country is unknown
//
//	score = Σ weight × algorithm / Σ weight of those that say something
//	score ≤ 0.35 + 0.65 × word × (0.9 + 0.1 × evidence)
//
// The second line keeps names apart that share only letters or common words:
// strings alone cannot reach the threshold without words as evidence. An
// acronym that the entry gives itself is worth 0.95 (core_acronym), one made of
// the initials 0.85. The score of an entry is that of its best name; alias and
// name count the same.
//
// Confidence = score × (0.7 + 0.3 × evidence), where evidence is the rarity of
// the words that agreed, over that of a word seen once, at most 1: two names
// that agree on common words alone agree less surely. Quality is high from
// 0.85 of confidence, medium from 0.65, else low.
package match

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"sync"
)

// Entry is one listed entity as the index takes it.
type Entry struct {
	Key                 [16]byte
	Name                string
	Aliases             []string
	Countries           []string // ISO 3166-1 alpha-2
	City                string
	Latitude, Longitude *float64
}

// Weights of the five algorithms; only their ratios matter.
type Weights struct {
	JaroWinkler float64 `json:"jaro_winkler" minimum:"0" maximum:"1"`
	Levenshtein float64 `json:"levenshtein" minimum:"0" maximum:"1"`
	Word        float64 `json:"word" minimum:"0" maximum:"1"`
	NGram       float64 `json:"ngram" minimum:"0" maximum:"1"`
	Geographic  float64 `json:"geographic" minimum:"0" maximum:"1"`
}

// Settings are a tenant's.
type Settings struct {
	Weights   Weights    `json:"weights"`
	Threshold float64    `json:"threshold" minimum:"0" maximum:"1"`
	Synonyms  [][]string `json:"synonyms" maxItems:"1000" nullable:"false" doc:"groups of words that mean the same"`
}

// DefaultSettings are those of a tenant that chose none.
func DefaultSettings() Settings {
	return Settings{Weights: Weights{0.25, 0.2, 0.4, 0.15, 0.1}, Threshold: 0.79, Synonyms: [][]string{}}
}

// Query is a name to look for.
type Query struct {
	Name                string
	Aliases             []string
	Country             string // alpha-2, or "" for unknown
	City                string
	Latitude, Longitude *float64
}

// Options of one search. A zero Threshold is the settings'.
type Options struct {
	Settings  Settings
	Threshold float64
	Limit     int
	Explain   bool
}

// Type says how the best name agreed.
type Type string

// The match types (API.md).
const (
	Exact        Type = "exact"
	CoreAcronym  Type = "core_acronym"
	Alias        Type = "alias"
	Fuzzy        Type = "fuzzy"
	WordMatch    Type = "word_match"
	CoreMatch    Type = "core_match"
	AliasPartial Type = "alias_partial"
	Partial      Type = "partial"
)

// Algorithms are the five parts of a score, each 0 to 1. Geographic is null
// where a country is unknown.
type Algorithms struct {
	JaroWinkler float64  `json:"jaro_winkler"`
	Levenshtein float64  `json:"levenshtein"`
	Word        float64  `json:"word"`
	NGram       float64  `json:"ngram"`
	Geographic  *float64 `json:"geographic" nullable:"true"`
}

// Pair is two words that were taken for the same.
type Pair struct {
	Query      string  `json:"query"`
	Listed     string  `json:"listed"`
	Similarity float64 `json:"similarity"`
	Weight     float64 `json:"weight" doc:"rarity of the word, 0 to 1"`
}

// Explanation shows what was compared.
type Explanation struct {
	Query    string  `json:"query" doc:"the query as compared"`
	Listed   string  `json:"listed" doc:"the listed name as compared"`
	Words    []Pair  `json:"words" nullable:"false"`
	Cap      float64 `json:"cap" doc:"the most that the agreeing words allow"`
	Evidence float64 `json:"evidence"`
}

// Match is one listed entity that the query may mean.
type Match struct {
	Key               [16]byte
	Score, Confidence float64
	Quality           string
	Type              Type
	MatchedName       string
	Algorithms        *Algorithms
	Explanation       *Explanation
}

// Merge joins the answers of several indexes.
func Merge(limit int, lists ...[]Match) []Match {
	out := slices.Concat(lists...)
	slices.SortFunc(out, byScore)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

func byScore(a, b Match) int {
	if c := cmp.Compare(b.Score, a.Score); c != 0 {
		return c
	}
	if c := cmp.Compare(b.Confidence, a.Confidence); c != 0 {
		return c
	}
	return bytes.Compare(a.Key[:], b.Key[:])
}

// scorer holds what one search needs; it is pooled, since patterns are large.
type scorer struct {
	text, sorted, word Pattern
	memo               map[[2]string]float64
	used               []bool
	shares             []share // by name; all zero between searches
	touched            []uint32
	ranked             queue
	hashes             []uint64
	near               []uint32
}

var scorers = sync.Pool{New: func() any { return &scorer{memo: map[[2]string]float64{}} }}

// wordSimilarity is how much two words are the same: 1 for equal ones, else the
// Levenshtein similarity, and a prefix of four letters or more is worth 0.8.
func (s *scorer) wordSimilarity(a, b string) float64 {
	if a == b {
		return 1
	}
	if min(len(a), len(b)) < 4 && len(a) != len(b) && len(a)+len(b) < 8 {
		return 0
	}
	if d := len(a) - len(b); a[0] >= 0x80 == (b[0] >= 0x80) && (d > 2 || d < -2) {
		// Too far apart for two edits: only a common beginning can count.
		if short := min(len(a), len(b)); short >= 4 && a[:short] == b[:short] {
			return 0.8
		}
		return 0
	}
	if v, ok := s.memo[[2]string{a, b}]; ok {
		return v
	}
	s.word.Reset(a)
	n := max(runes(a), runes(b))
	d := s.word.Levenshtein(b)
	v := 1 - float64(d)/float64(n)
	switch {
	case digits(a) != digits(b), n <= 3, d > 2, v < 0.6:
		v = 0 // 11420 is not 11421, and three letters with one changed are another word
	case d == 1 && n >= 4:
		v = max(v, 0.85)
	case d == 2 && n >= 7:
		v = max(v, 0.8)
	}
	if v < 0.8 {
		v = 0
		if short := min(len(a), len(b)); short >= 4 && (a[:short] == b[:short]) {
			v = 0.8
		}
	}
	s.memo[[2]string{a, b}] = v
	return v
}

func runes(s string) int {
	n := 0
	for range s {
		n++
	}
	return n
}

func digits(s string) string {
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			return s
		}
	}
	return ""
}

// comparison is the outcome for one pair of forms.
type comparison struct {
	score, evidence, cap float64
	algorithms           Algorithms
	pairs                []Pair
	kind                 Type
}

// load readies the patterns for one form of the query.
func (s *scorer) load(q *form) {
	s.text.Reset(q.text)
	s.sorted.Reset(q.sorted)
}

// compare scores the loaded form of the query against a form of a listed name.
// Where the words alone rule out the threshold it says so without looking at
// the letters: a score of 0.
func (s *scorer) compare(w Weights, q, e *form, geo *float64, threshold float64, explain bool) comparison {
	if c, ok := acronyms(q, e, geo); ok {
		return c
	}
	var c comparison
	c.algorithms.Geographic = geo
	word, strongest := s.align(q, e, explain, &c)
	// Words written together or apart ("Siemens AG", "Siemensag") agree as texts.
	if q.joined == e.joined {
		word, strongest = 1, max(strongest, 1)
	}
	c.evidence = min(1, strongest)
	c.cap = 0.35 + 0.65*word*(0.9+0.1*c.evidence)
	if q.joined == e.joined {
		c.cap = 1
	}
	if c.cap < threshold {
		return comparison{}
	}
	jw, lev := s.text.JaroWinkler(e.text), s.similarity(&s.text, q.text, e.text)
	ng := TrigramSimilarity(q.text, e.text)
	if q.sorted != q.text || e.sorted != e.text {
		jw, lev = max(jw, s.sorted.JaroWinkler(e.sorted)), max(lev, s.similarity(&s.sorted, q.sorted, e.sorted))
		ng = max(ng, TrigramSimilarity(q.sorted, e.sorted))
	}
	c.algorithms.JaroWinkler, c.algorithms.Levenshtein, c.algorithms.Word, c.algorithms.NGram = jw, lev, word, ng
	sum, weights := w.JaroWinkler*jw+w.Levenshtein*lev+w.Word*word+w.NGram*ng, w.JaroWinkler+w.Levenshtein+w.Word+w.NGram
	if geo != nil {
		sum, weights = sum+w.Geographic**geo, weights+w.Geographic
	}
	if weights > 0 {
		c.score = min(sum/weights, c.cap)
	}
	switch {
	case q.text == e.text && !q.core && !e.core:
		c.kind = Exact
	case q.text == e.text:
		c.kind = CoreMatch
	case c.score >= 0.9:
		c.kind = Fuzzy
	case word >= 0.8:
		c.kind = WordMatch
	default:
		c.kind = Partial
	}
	return c
}

// acronyms compares where one side is an acronym: the one that the entry gives
// itself, or the initials of its words.
func acronyms(q, e *form, geo *float64) (comparison, bool) {
	if len(q.joined) < 2 || q.core {
		return comparison{}, false
	}
	if e.acronym && q.joined == e.joined {
		return comparison{score: 0.95, evidence: 1, cap: 1, algorithms: Algorithms{1, 1, 1, 1, geo}, kind: CoreAcronym}, true
	}
	if len(q.words) == 1 && len(q.joined) >= 3 && !e.acronym && len(e.words) >= 3 && e.first == q.joined {
		return comparison{score: 0.85, evidence: 0.5, cap: 0.85, algorithms: Algorithms{0.85, 0.85, 0.85, 0.85, geo}, kind: CoreAcronym}, true
	}
	return comparison{}, false
}

// align gives each word of the query its best free partner, in order, and the
// Dice coefficient of what agreed.
func (s *scorer) align(q, e *form, explain bool, c *comparison) (word, strongest float64) {
	s.used = append(s.used[:0], make([]bool, len(e.words))...)
	var agreed, total float64
	for _, w := range e.weights {
		total += float64(w)
	}
	for i, word := range q.words {
		best, at := 0.0, -1
		for j, other := range e.words {
			if s.used[j] {
				continue
			}
			if v := s.wordSimilarity(word, other); v > best {
				best, at = v, j
			}
		}
		if at < 0 {
			total += float64(q.weights[i])
			continue
		}
		s.used[at] = true
		weight := float64(e.weights[at]) // a typo is rare, but says no more than the word meant
		total += weight
		agreed += 2 * best * weight
		strongest = max(strongest, best*weight)
		if explain {
			c.pairs = append(c.pairs, Pair{word, e.words[at], round(best), round(weight)})
		}
	}
	if total > 0 {
		word = min(1, agreed/total)
	}
	return word, strongest
}

func (s *scorer) similarity(p *Pattern, a, b string) float64 {
	n := max(runes(a), runes(b))
	if n == 0 {
		return 1
	}
	return 1 - float64(p.Levenshtein(b))/float64(n)
}

func compact(words []string) string {
	n := 0
	for _, w := range words {
		n += len(w)
	}
	b := make([]byte, 0, n)
	for _, w := range words {
		b = append(b, w...)
	}
	return string(b)
}

func round(f float64) float64 { return math.Round(f*1e4) / 1e4 }
