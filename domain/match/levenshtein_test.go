package match

import (
	"math/rand/v2"
	"testing"

	fastlev "github.com/ka-weihe/fast-levenshtein"
)

func TestLevenshteinSimilarity(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"", "", 1},
		{"", "abc", 0},
		{"kitten", "sitting", 1 - 3.0/7},
		{"Москва", "Москве", 1 - 1.0/6}, // runes, not bytes
		{"中国", "中國", 0.5},
	} {
		if got := LevenshteinSimilarity(c.a, c.b); got != c.want {
			t.Errorf("LevenshteinSimilarity(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestLevenshteinEqualsLibrary(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		alphabet := alphabets[rng.IntN(4)]
		a := randomName(rng, alphabet, 1+rng.IntN(90))
		b := edited(rng, a, alphabet)
		if got, want := LevenshteinDistance(a, b), fastlev.Distance(a, b); got != want {
			t.Fatalf("LevenshteinDistance(%q, %q) = %d, library %d", a, b, got, want)
		}
	}
}
