// Package match answers which listed entities a name may mean. It does no I/O,
// and a search allocates little and walks no pointers.
//
// # Reading a name (reading.go, script.go, meaning.go)
//
// A name is folded (case, accents, punctuation, dotted initials), cut into words,
// and its usual abbreviations are written out. It is read as it stands and, where
// it is written in another script, in Latin letters; a name with brackets also
// without them, and by what is in them. Japanese, Chinese and Korean are cut into
// pairs of signs, katakana into words. Legal forms, in front or behind, and
// articles are set aside, unless nothing else is left: no list of words can hide
// an entity, not even one that is called "Academy of Military Science". In a
// query, a word that the list does not have and that is a slip away from a legal
// form is taken for it.
//
// # Words (words.go, index.go)
//
// Two words are similar by the slips of the pen between them (similarity). Numbers
// are hard evidence. A word weighs by its rarity in the list (IDF), but never more
// than what it can say: 0.4 where it names a kind of body everywhere, and 0.25 for
// each letter; a word of the query that only comes near a listed one weighs as
// that one does.
//
// # Score (score.go)
//
// Words of the query and of a listed name are paired, equal ones first. With S the
// worth of what agrees (similarity × weight), E the weight of the listed words and
// Q that of the query's:
//
//	word = max( 2S / (E+Q), (1+b)S / (bE+Q) )    b from 1 to 0.25 as S goes from 1 to 2
//
// so that words left out count less the more evidence remains: the distinctive
// words of a name are the name. Where words are missing and S < 2, word is lowered
// by up to a tenth, or a fifth where the query has words that the name has not.
//
//	jaro_winkler, levenshtein, ngram   of the texts; the listed words in the query's order where that differs
//	geographic                         mean of country, city and distance, as far as both sides know them (place.go)
//
//	score = Σ weight × algorithm / Σ weight of those that say something
//	score ≤ (0.1 + 0.9 × word × (0.9 + 0.1 × evidence)) × 0.98 where words stand in another order
//	score ≤ 0.7 where each side has a number that the other has not
//	score × 0.99 where the legal forms are not the same
//
// The bound keeps names apart that share letters only. The same letters, however
// they are cut into words, agree wholly. An acronym that the entry gives itself in
// brackets is worth 0.95 (core_acronym); one made of the first letters of three
// words or more 0.6 + 0.25 × the rarity of these initials. The score of an entry is
// that of its best name; an alias counts as a name does.
//
// Evidence is the weight of the rarest word that agrees. Confidence = score × (0.7
// + 0.3 × evidence): two names that agree on common words alone agree less surely.
// Quality is high from 0.85 of confidence, medium from 0.65, else low.
//
// # Finding candidates (search.go)
//
// Fuzzy work is done on the dictionary, never on names: what is left of a word
// after deletions, and its beginning, lead to all the words similar to it. Their
// lists of names are walked, the rarest first, block by block; names are dropped
// only where the bound on their score proves that they cannot come among the
// answers. BruteForce is the same without an index, and the tests hold one against
// the other.
//
// # Legal forms and words of our own
//
// The tables in meaning.go are short and written by hand, from what lists and
// authors write; they follow no data set.
package match

import (
	"bytes"
	"cmp"
	"math"
	"slices"
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
	return Settings{Weights: Weights{0.25, 0.15, 0.5, 0.1, 0.1}, Threshold: 0.7, Synonyms: [][]string{}}
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
	Name              int // which of the names agreed: 0 the name, 1 the first alias
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

func round(f float64) float64 { return math.Round(f*1e4) / 1e4 }
