package match_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain/match"
)

// corpus makes organisations and persons with aliases; tokens follow Zipf's
// law, and a tenth of the names are in Cyrillic, Greek, Chinese, Japanese or
// Korean.
func corpus(n int, seed uint64) []match.Entry {
	r := rand.New(rand.NewPCG(seed, 7))
	zipf := rand.NewZipf(r, 1.1, 4, uint64(20_000+n/8))
	consonants, vowels := []rune("bcdfghklmnprstvz"), []rune("aeiou")
	word := func(i uint64) string { // the i-th word of an invented language
		w := rand.New(rand.NewPCG(i, 99))
		var b strings.Builder
		for range 2 + w.IntN(3) {
			b.WriteRune(consonants[w.IntN(len(consonants))])
			b.WriteRune(vowels[w.IntN(len(vowels))])
			if w.IntN(3) == 0 {
				b.WriteRune(consonants[w.IntN(len(consonants))])
			}
		}
		return strings.ToUpper(b.String()[:1]) + b.String()[1:]
	}
	kinds := []string{"University", "Institute", "Research Center", "Academy", "Technology", "Industries", "Trading", "Laboratory", "Design Bureau", "Works"}
	legal := []string{"", "", "", " Ltd.", " LLC", " JSC", " Co., Ltd.", " GmbH", " Inc."}
	scripts := [][2]rune{{'а', 'я'}, {'α', 'ω'}, {0x4e00, 0x5000}, {0x30a1, 0x30ef}, {0xac00, 0xae00}}
	name := func() string {
		switch r.IntN(20) {
		case 0, 1:
			s := scripts[r.IntN(len(scripts))]
			var b strings.Builder
			for range 4 + r.IntN(6) {
				b.WriteRune(s[0] + rune(r.IntN(int(s[1]-s[0]))))
			}
			return b.String()
		case 2, 3, 4, 5, 6, 7, 8: // a person
			return word(zipf.Uint64()) + " " + word(zipf.Uint64()) + " " + word(zipf.Uint64())
		}
		parts := []string{word(zipf.Uint64())}
		for range 1 + r.IntN(2) {
			parts = append(parts, word(zipf.Uint64()))
		}
		return strings.Join(parts, " ") + " " + kinds[r.IntN(len(kinds))] + legal[r.IntN(len(legal))]
	}
	out := make([]match.Entry, n)
	for i := range out {
		out[i] = match.Entry{Key: key(i), Name: name()}
		for r.IntN(5) < 2 && len(out[i].Aliases) < 3 {
			out[i].Aliases = append(out[i].Aliases, name())
		}
	}
	return out
}

type asked struct {
	name string
	want int // -1: not in the corpus
}

// questions are half absent and half corrupted.
func questions(entries []match.Entry, n int) []asked {
	r := rand.New(rand.NewPCG(3, 4))
	absent := corpus(n, 1<<40)
	var out []asked
	for i := range n {
		if i%2 == 0 {
			out = append(out, asked{absent[i].Name, -1})
			continue
		}
		at := r.IntN(len(entries))
		s := entries[at].Name
		switch r.IntN(6) {
		case 0:
			s = oneEdit(s, r)
		case 1:
			s = oneEdit(oneEdit(s, r), r)
		case 2:
			w := strings.Fields(s)
			s = strings.Join(append(w[1:], w[0]), " ")
		case 3:
			s = strings.ToUpper(s) + " LLC"
		case 4:
			if a := entries[at].Aliases; len(a) > 0 {
				s = a[0]
			}
		}
		if s == "" {
			s = entries[at].Name
		}
		out = append(out, asked{s, at})
	}
	return out
}

// BenchmarkIndex prints the index at three sizes, on one core: build rate,
// memory, queries a second, latency and recall. BENCH_FULL=1 adds a million.
func BenchmarkIndex(b *testing.B) {
	sizes := []int{20_000, 100_000}
	if os.Getenv("BENCH_FULL") != "" {
		sizes = append(sizes, 1_000_000)
	}
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			entries := corpus(n, 1)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			builder := match.NewBuilder()
			for _, e := range entries {
				builder.Add(e)
			}
			ix := builder.Build()
			built := time.Since(start)
			runtime.GC()
			runtime.ReadMemStats(&after)
			qs := questions(entries, 2000)
			var took []time.Duration
			var first, ten, present int
			for b.Loop() {
				took, first, ten, present = took[:0], 0, 0, 0
				for _, q := range qs {
					start := time.Now()
					got := ix.Search(match.Query{Name: q.name}, match.Options{Limit: 10, Threshold: 0.5})
					took = append(took, time.Since(start))
					if q.want < 0 {
						continue
					}
					present++
					for i, m := range got {
						if m.Key == key(q.want) || m.MatchedName == entries[q.want].Name {
							ten++
							if i == 0 {
								first++
							}
							break
						}
					}
				}
			}
			var sum time.Duration
			for _, d := range took {
				sum += d
			}
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/sum.Seconds(), "queries/s")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(first)/float64(present), "R@1")
			b.ReportMetric(float64(ten)/float64(present), "R@10")
			b.ReportMetric(float64(n)/built.Seconds(), "rows/s-built")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
			b.ReportMetric(0, "ns/op")
			runtime.KeepAlive(ix)
		})
	}
}
