package match

import (
	"sync"
	"testing"
)

// A prepared Pattern may be read by many goroutines at once.
func TestPatternIsSharedSafely(t *testing.T) {
	p := NewPattern("Harbin Engineering University 哈尔滨工程大学")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			q := NewPattern("")
			for range 200 {
				q.Reset("Harbin Institute of Technology")
				if d := p.Levenshtein(q.s); d != slowLevenshtein(p.s, q.s) {
					t.Errorf("distance %d", d)
				}
				p.JaroWinkler(q.s)
				p.Trigram(q)
			}
		})
	}
	wg.Wait()
}
