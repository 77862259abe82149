package match

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/adrg/strutil"
	"github.com/adrg/strutil/metrics"
	"github.com/antzucaro/matchr"
	fastlev "github.com/ka-weihe/fast-levenshtein"
)

type namePair struct{ a, b string }

// benchPairs gives 1,024 pairs of names of 10 to 40 letters, half of them
// 1 to 3 edits apart and half unrelated. Each of 32 queries meets 32 names.
func benchPairs(alphabet string) []namePair {
	rng := rand.New(rand.NewPCG(7, 8))
	letters := []rune(alphabet)
	name := func() string {
		var words []string
		for n, length := 10+rng.IntN(31), 0; length < n-3; {
			w := randomName(rng, alphabet, min(3+rng.IntN(8), n-length))
			words = append(words, w)
			length += len([]rune(w)) + 1
		}
		return strings.Join(words, " ")
	}
	pairs := make([]namePair, 1024)
	var a string
	for i := range pairs {
		if i%32 == 0 { // a query meets many names, as in a search
			a = name()
		}
		b := name()
		if i%2 == 0 {
			r := []rune(a)
			for range 1 + rng.IntN(3) {
				r[rng.IntN(len(r))] = letters[rng.IntN(len(letters))]
			}
			b = string(r)
		}
		pairs[i] = namePair{a, b}
	}
	return pairs
}

var (
	sinkInt   int
	sinkFloat float64
)

// BenchmarkKernels prints each kernel beside the best Go library for it, in ns a
// pair, and the ratio asked for. All three run in alternation, and the best of
// many rounds counts, since other work may share the machine.
func BenchmarkKernels(b *testing.B) {
	dice := &metrics.SorensenDice{CaseSensitive: true, NgramSize: 3}
	fmt.Printf("\n%-40s %10s %10s %10s %10s %8s  %s\n", "names of 10 to 40 letters, ns a pair", "one-shot", "prepared", "library", "ratio", "asked", "library")
	for _, script := range []struct{ name, alphabet string }{
		{"ASCII", "abcdefghijklmnopqrstuvwxyz"},
		{"Cyrillic", "абвгдежзийклмнопрстуфхцчшщъыьэюя"},
	} {
		pairs := benchPairs(script.alphabet)
		prepared, others := make([]*Pattern, len(pairs)), make([]*Pattern, len(pairs))
		for i, p := range pairs {
			others[i] = NewPattern(p.b)
			if prepared[i] = NewPattern(p.a); i%32 != 0 {
				prepared[i] = prepared[i-1]
			}
		}
		for _, kernel := range []struct {
			name, library string
			asked         float64
			run           [3]func(i int) // ours, ours prepared, the library's
		}{
			{"Levenshtein", "ka-weihe/fast-levenshtein", 1.3, [3]func(i int){
				func(i int) { sinkInt += LevenshteinDistance(pairs[i].a, pairs[i].b) },
				func(i int) { sinkInt += prepared[i].Levenshtein(pairs[i].b) },
				func(i int) { sinkInt += fastlev.Distance(pairs[i].a, pairs[i].b) },
			}},
			{"Jaro-Winkler", "antzucaro/matchr", 5, [3]func(i int){
				func(i int) { sinkFloat += JaroWinkler(pairs[i].a, pairs[i].b) },
				func(i int) { sinkFloat += prepared[i].JaroWinkler(pairs[i].b) },
				func(i int) { sinkFloat += matchr.JaroWinkler(pairs[i].a, pairs[i].b, false) },
			}},
			{"trigrams", "adrg/strutil, Dice", 10, [3]func(i int){
				func(i int) { sinkFloat += TrigramSimilarity(pairs[i].a, pairs[i].b) },
				func(i int) { sinkFloat += prepared[i].Trigram(others[i]) },
				func(i int) { sinkFloat += strutil.Similarity(pairs[i].a, pairs[i].b, dice) },
			}},
		} {
			var best [3]time.Duration
			for round := range 400 {
				for which, run := range kernel.run {
					start := time.Now()
					for i := range pairs {
						run(i)
					}
					if d := time.Since(start); round == 0 || d < best[which] {
						best[which] = d
					}
				}
			}
			ns := func(which int) float64 { return float64(best[which].Nanoseconds()) / float64(len(pairs)) }
			fmt.Printf("  %-38s %10.1f %10.1f %10.1f %10.2f %8.1f  %s\n", kernel.name+", "+script.name, ns(0), ns(1), ns(2), ns(2)/ns(0), kernel.asked, kernel.library)
		}
	}
	b.ReportMetric(0, "ns/op")
}
