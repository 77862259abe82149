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
