package match

import (
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

// BenchmarkKernels prints each kernel beside the best Go library for it, in
// ns a pair. The "ratio" rows run both in alternation within one measurement,
// so that a busy machine burdens both alike, and report library / ours.
func BenchmarkKernels(b *testing.B) {
	dice := &metrics.SorensenDice{CaseSensitive: true, NgramSize: 3}
	jaccard := &metrics.Jaccard{CaseSensitive: true, NgramSize: 3}
	for _, script := range []struct{ name, alphabet string }{
		{"ascii", "abcdefghijklmnopqrstuvwxyz"},
		{"cyrillic", "абвгдежзийклмнопрстуфхцчшщъыьэюя"},
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
			name                    string
			ours, prepared, library func(i int)
		}{
			{
				"levenshtein",
				func(i int) { sinkInt += LevenshteinDistance(pairs[i].a, pairs[i].b) },
				func(i int) { sinkInt += prepared[i].Levenshtein(pairs[i].b) },
				func(i int) { sinkInt += fastlev.Distance(pairs[i].a, pairs[i].b) },
			},
			{
				"jarowinkler",
				func(i int) { sinkFloat += JaroWinkler(pairs[i].a, pairs[i].b) },
				func(i int) { sinkFloat += prepared[i].JaroWinkler(pairs[i].b) },
				func(i int) { sinkFloat += matchr.JaroWinkler(pairs[i].a, pairs[i].b, false) },
			},
			{
				"trigram-vs-dice",
				func(i int) { sinkFloat += TrigramSimilarity(pairs[i].a, pairs[i].b) },
				func(i int) { sinkFloat += prepared[i].Trigram(others[i]) },
				func(i int) { sinkFloat += strutil.Similarity(pairs[i].a, pairs[i].b, dice) },
			},
			{
				"trigram-vs-jaccard",
				func(i int) { sinkFloat += TrigramSimilarity(pairs[i].a, pairs[i].b) },
				func(i int) { sinkFloat += prepared[i].Trigram(others[i]) },
				func(i int) { sinkFloat += strutil.Similarity(pairs[i].a, pairs[i].b, jaccard) },
			},
		} {
			prefix := kernel.name + "/" + script.name + "/"
			for _, side := range []struct {
				name string
				run  func(i int)
			}{{"ours", kernel.ours}, {"prepared", kernel.prepared}, {"library", kernel.library}} {
				b.Run(prefix+side.name, func(b *testing.B) {
					b.ReportAllocs()
					for i := range b.N {
						side.run(i & 1023)
					}
				})
			}
			b.Run(prefix+"ratio", func(b *testing.B) {
				var ours, ready, library time.Duration
				round := func(run func(int), sum *time.Duration) {
					start := time.Now()
					for i := range pairs {
						run(i)
					}
					*sum += time.Since(start)
				}
				for range b.N {
					round(kernel.ours, &ours)
					round(kernel.prepared, &ready)
					round(kernel.library, &library)
				}
				b.ReportMetric(library.Seconds()/ours.Seconds(), "x-one-shot")
				b.ReportMetric(library.Seconds()/ready.Seconds(), "x-prepared")
				b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N)/1024, "ns/pair-one-shot")
				b.ReportMetric(float64(ready.Nanoseconds())/float64(b.N)/1024, "ns/pair-prepared")
				b.ReportMetric(float64(library.Nanoseconds())/float64(b.N)/1024, "ns/pair-library")
			})
		}
	}
}
