package jobs

import (
	"sync"
	"time"
)

// shares keeps one tenant's jobs from taking every worker: of a lane's workers
// in this process a tenant has at most half at one time, and at least one. A
// job beyond that gives its worker back and comes again; the more of them wait,
// the later each, so that a long queue costs little while it waits and others
// find workers free within a moment.
type shares struct {
	mu      sync.Mutex
	running map[seat]int
	waiting map[seat][]time.Time // when those that were sent away come again
}

type seat struct{ lane, tenant string }

const turn = 100 * time.Millisecond // between two jobs that come again

// take gives a worker to the tenant's job, or says when to come again.
func (s *shares) take(k seat, workers int, now time.Time) (free func(), later time.Duration) {
	if k.tenant == "" { // our own work
		return func() {}, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[k] >= max(1, workers/2) {
		wait := s.waiting[k]
		for len(wait) > 0 && !wait[0].After(now) {
			wait = wait[1:]
		}
		at := now.Add(turn)
		if n := len(wait); n > 0 {
			at = wait[n-1].Add(turn)
		}
		s.waiting[k] = append(wait, at)
		return nil, at.Sub(now)
	}
	s.running[k]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.running[k]--; s.running[k] == 0 {
			delete(s.running, k)
			delete(s.waiting, k)
		}
	}, 0
}
