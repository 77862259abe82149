package api

import (
	"errors"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/chainreactions/chainreactions/domain"
)

// However many come at once, no more are inside than there are places, a tenant
// has half of them, batches and downloads do not take each other's, and whoever
// leaves makes room.
func TestCrowd(t *testing.T) {
	c := newCrowd(4)
	var mu sync.Mutex
	var leave []func()
	rush := func(kind, tenant string) (in int) {
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				l, err := c.enter(kind, tenant)
				mu.Lock()
				defer mu.Unlock()
				var e *domain.Error
				if err == nil {
					in++
					leave = append(leave, l)
				} else if !errors.As(err, &e) || e.Kind != domain.Unavailable || e.Code != "queue_full" || e.RetryAfter < time.Second {
					t.Errorf("refused with %v", err)
				}
			})
		}
		all.Wait()
		return in
	}
	for _, step := range []struct {
		kind, tenant string
		in           int
	}{{batches, "a", 2}, {batches, "b", 2}, {batches, "c", 0}, {downloads, "a", 16}} {
		if in := rush(step.kind, step.tenant); in != step.in {
			t.Errorf("%d %ss of %s are inside, %d may be", in, step.kind, step.tenant, step.in)
		}
	}
	var m dto.Metric
	if err := c.occupied.WithLabelValues(batches).Write(&m); err != nil || m.GetGauge().GetValue() != 4 {
		t.Errorf("shown as %v, %v", &m, err)
	}
	for _, l := range leave {
		l()
	}
	if len(c.of) != 0 || c.inside[batches] != 0 || c.inside[downloads] != 0 {
		t.Errorf("all have left, and it keeps %v %v", c.of, c.inside)
	}
	if in := rush(batches, "c"); in != 2 {
		t.Errorf("%d came in after all had left", in)
	}
}
