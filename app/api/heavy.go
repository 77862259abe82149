package api

import (
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chainreactions/chainreactions/domain"
)

// Shed is the code of a refusal that is no fault: as much as can be done is under
// way or waits, and who comes now is told so early.
const Shed = "queue_full"

// crowd bounds the heavy calls that a process works at one time: batches, which
// take a core each, and downloads, which are held to their reader's pace and so
// are more. One that comes beyond that is told to come again before anything is
// read or reserved, while cheap calls go on. A tenant has at most half of the
// places, so that its own crowd does not shut out the others.
type crowd struct {
	mu       sync.Mutex
	places   int               // of batches
	inside   map[string]int    // by kind
	of       map[[2]string]int // by kind and tenant
	took     map[string]time.Duration
	occupied *prometheus.GaugeVec
	refused  *prometheus.CounterVec
}

const (
	batches   = "batch"
	downloads = "download"
)

func newCrowd(places int) *crowd {
	c := &crowd{inside: map[string]int{}, of: map[[2]string]int{}, took: map[string]time.Duration{},
		occupied: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "chainreactions_heavy_calls", Help: "Batches and downloads that this process works on."}, []string{"kind"}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "chainreactions_heavy_calls_refused_total", Help: "Those that were told to come again, since there were too many."}, []string{"kind"})}
	for _, kind := range []string{batches, downloads} {
		c.occupied.WithLabelValues(kind)
		c.refused.WithLabelValues(kind)
	}
	c.allow(places)
	return c
}

// allow says how many places there are for batches; 0 is eight a core. Who is
// inside stays.
func (c *crowd) allow(places int) {
	if places == 0 {
		places = 8 * runtime.GOMAXPROCS(0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places = places
}

// SetHeavyCalls changes Config.HeavyCalls from now on.
func (a *API) SetHeavyCalls(batches int) { a.crowd.allow(batches) }

// heavy is the kind of a row's call, or "".
func (r *Row) heavy() string {
	switch {
	case r.Call.kind == "download":
		return downloads
	case r.Units != nil: // many of what others do one of
		return batches
	}
	return ""
}

// enter gives a place to a tenant's call, which leaves it at its end.
func (c *crowd) enter(kind, tenant string) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	places := c.places
	if kind == downloads {
		places *= 8
	}
	own := [2]string{kind, tenant}
	if c.inside[kind] >= places || c.of[own] >= max(1, places/2) {
		c.refused.WithLabelValues(kind).Inc()
		return nil, domain.E(domain.Unavailable, Shed, "Too many calls of this kind are under way.").
			After(max(time.Second, c.took[kind]/time.Duration(places)))
	}
	c.inside[kind]++
	c.of[own]++
	c.occupied.WithLabelValues(kind).Inc()
	began := time.Now()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inside[kind]--
		if c.of[own]--; c.of[own] == 0 {
			delete(c.of, own)
		}
		c.took[kind] += (time.Since(began) - c.took[kind]) / 8 // the mean of late
		c.occupied.WithLabelValues(kind).Dec()
	}, nil
}

var _ = domain.Chinese(map[string]string{"Too many calls of this kind are under way.": "正在处理的此类请求过多。"})
