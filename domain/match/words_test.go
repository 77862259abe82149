package match

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// slowSlips is optimal string alignment by its definition.
func slowSlips(x, y []rune) int {
	d := make([][]int, len(x)+1)
	for i := range d {
		d[i] = make([]int, len(y)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
			case x[i-1] == y[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = min(d[i-1][j-1], d[i-1][j], d[i][j-1]) + 1
			}
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(x)][len(y)]
}

// The similarity of words counts slips as their definition does, and every
// similar word of a dictionary is found without going through it.
func TestSimilarWordsAreAllFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := NewBuilder()
	var spelled []string
	for _, alphabet := range []string{"abc", "abcdefghijklmnopqrstuvwxyz", "абвгд"} {
		for range 300 {
			w := randomName(r, alphabet, 1+r.IntN(12))
			spelled = append(spelled, w, edited(r, w, alphabet))
		}
	}
	for _, w := range spelled {
		b.Add(Entry{Name: w})
	}
	ix := b.Build()
	s := &searcher{}
	for _, w := range spelled {
		var slow, fast []uint32
		for id := range uint32(ix.words.len()) {
			other := ix.words.at(id)
			v := similarity([]byte(w), other)
			if v > 0 {
				slow = append(slow, id)
			}
			x, y := []rune(w), []rune(string(other))
			n, slips := max(len(x), len(y)), slowSlips(x, y)
			if one, two := n >= 3 && slips == 1, n >= 6 && slips == 2; slips > 0 && v != 0.8 && (v > 0) != (one || two) {
				t.Fatalf("%q %q: %d slips, similarity %v", w, other, slips, v)
			}
		}
		for _, id := range ix.nearWords(s, []byte(w)) {
			if similarity([]byte(w), ix.words.at(id)) > 0 {
				fast = append(fast, id)
			}
		}
		if id, ok := ix.words.find([]byte(w)); ok && !slices.Contains(fast, id) {
			fast = append(fast, id)
		}
		slices.Sort(fast)
		if !slices.Equal(slow, fast) {
			for _, id := range slow {
				if !slices.Contains(fast, id) {
					t.Fatalf("%q: %q is similar and was not found", w, ix.words.at(id))
				}
			}
			t.Fatalf("%q: %v %v", w, slow, fast)
		}
	}
}
