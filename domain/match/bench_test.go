package match_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain/match"
)

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
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			start := processorTime()
			builder := match.NewBuilder()
			for _, e := range entries {
				builder.Add(e)
			}
			ix := builder.Build()
			built := processorTime() - start
			runtime.GC()
			runtime.ReadMemStats(&after)
			qs := questions(entries, 2000)
			var took []time.Duration
			var first, ten, present int
			var cpu time.Duration
			for b.Loop() {
				took, first, ten, present = took[:0], 0, 0, 0
				cpu = processorTime()
				for _, q := range qs {
					start := time.Now()
					got := ix.Search(match.Query{Name: q.name}, match.Options{Limit: 10, Threshold: 0.5})
					took = append(took, time.Since(start))
					if q.want < 0 {
						continue
					}
					present++
					for i, m := range got {
						if m.Key == key(q.want) || entries[binary.BigEndian.Uint64(m.Key[8:])].Name == entries[q.want].Name {
							ten++
							if i == 0 {
								first++
							}
							break
						}
					}
				}
			}
			cpu = processorTime() - cpu
			b.ReportMetric(float64(len(qs))/cpu.Seconds(), "q/cpu-s")
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

// processorTime is what this thread has used of the processor.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(1, &u) // RUSAGE_THREAD
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
