package research

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// Watch sends the events of a run from the table, and those to come, until the
// run has ended and all was sent, or send fails. It holds nothing that the run
// needs.
func (r *Research) Watch(ctx context.Context, in EventsRequest, send func(Event) error) error {
	after, err := in.after()
	if err != nil {
		return err
	}
	t := r.follow(domain.TenantOf(ctx), in.ID)
	defer r.unfollow(t)
	for {
		page, rung, ended, err := t.after(ctx, r, after)
		if err != nil {
			return err
		}
		for _, e := range page {
			after = e.Seq
			if err := send(Event{strconv.FormatInt(e.Seq, 10), e.Name, json.RawMessage(e.Data)}); err != nil {
				return err
			}
		}
		switch {
		case len(page) > 0:
			continue
		case ended:
			return nil
		}
		again := time.NewTimer(missed) // a ring may be lost
		select {
		case <-rung:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		}
		again.Stop()
	}
}

const (
	missed    = 15 * time.Second // after which the table is asked without a ring
	eventPage = 200
	keptTail  = 400 // events of a run that are kept for those who follow it
)

// tail is the end of a run's story as this process has read it last, for all who
// follow the run here: whatever their number, a ring costs one look into the
// table. Who is further behind reads the table alone.
type tail struct {
	tenant, run string
	followers   int // guarded by Research.mu

	mu     sync.Mutex
	rung   <-chan struct{} // closed: something was told since the last look
	stop   func()
	looked time.Time
	last   int64      // event of the run, then
	ended  bool       // the run, then
	events []eventRow // the last ones, without a gap, up to last
}

func (r *Research) follow(tenant, run string) *tail {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := tenant + "/" + run
	t := r.tails[key]
	if t == nil {
		t = &tail{tenant: tenant, run: run}
		r.tails[key] = t
	}
	t.followers++
	return t
}

func (r *Research) unfollow(t *tail) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.followers--; t.followers > 0 {
		return
	}
	delete(r.tails, t.tenant+"/"+t.run)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop != nil {
		t.stop()
	}
}

// after gives some of the events that follow one, in order and without a gap;
// where there are none yet, a channel that is closed when there may be.
func (t *tail) after(ctx context.Context, r *Research, seq int64) (page []eventRow, rung <-chan struct{}, ended bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stale() {
		if err := t.look(ctx, r); err != nil {
			return nil, nil, false, err
		}
	}
	if seq >= t.last {
		return nil, t.rung, t.ended, nil
	}
	if from := t.last - int64(len(t.events)); seq >= from {
		page = t.events[seq-from:]
		return page[:min(len(page), eventPage)], t.rung, false, nil
	}
	last := t.last
	t.mu.Unlock() // its own reading holds nobody up
	err = r.st.Read(ctx, func(ctx context.Context) error {
		return r.st.For(ctx).Where("run_id = ? AND seq > ? AND seq <= ?", t.run, seq, last).Order("seq").Limit(eventPage).Find(&page).Error
	})
	t.mu.Lock()
	return page, t.rung, false, err
}

func (t *tail) stale() bool {
	if t.rung == nil || time.Since(t.looked) >= missed {
		return true
	}
	select {
	case <-t.rung:
		return true
	default:
		return false
	}
}

// look reads what was told since the last look.
func (t *tail) look(ctx context.Context, r *Research) error {
	rung, stop := r.Bell.Wait(topic(t.run)) // before the read, or a ring between the two is lost
	var run Run
	var rows []eventRow
	err := r.st.Read(ctx, func(ctx context.Context) error {
		if err := r.st.For(ctx).Select("tenant_id", "id", "status", "events").Where("id = ?", t.run).Take(&run).Error; err != nil {
			return err
		}
		if run.Events == t.last {
			return nil
		}
		return r.st.For(ctx).Where("run_id = ? AND seq > ? AND seq <= ?", t.run, max(t.last, run.Events-keptTail), run.Events).Order("seq").Find(&rows).Error
	})
	if err != nil {
		stop()
		return err
	}
	if t.stop != nil {
		t.stop()
	}
	if run.Events-t.last != int64(len(rows)) || len(rows) == 0 {
		t.events = nil // a gap; or a quiet run, whose followers have had them all
	}
	kept := append(t.events, rows...)
	if over := len(kept) - keptTail; over > 0 {
		kept = append([]eventRow(nil), kept[over:]...) // a copy: pages that were given out stand
	}
	t.events, t.last, t.ended = kept, run.Events, run.Ended()
	t.rung, t.stop, t.looked = rung, stop, time.Now()
	return nil
}
