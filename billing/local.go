package billing

import (
	"context"
	"sync"
	"time"
)

// Local are counters in this process: all there is where Redis is embedded,
// and a stand-in, with a share of the rate and a purse of this process's own,
// while Redis is away. They decide as admit.lua does.
type Local struct {
	now    func() time.Time
	mu     sync.Mutex
	rates  map[rateKey]time.Time // when the last call would have been due (GCRA)
	purses map[purseKey]*purse
}

type rateKey struct{ tenant, class string }

type purse struct {
	number, left, total, quota int64
	full                       time.Time // until then the quota has no more
}

// NewLocal makes empty counters; now may be nil.
func NewLocal(now func() time.Time) *Local {
	if now == nil {
		now = time.Now
	}
	return &Local{now: now, rates: map[rateKey]time.Time{}, purses: map[purseKey]*purse{}}
}

// Healthy is always true.
func (l *Local) Healthy() bool { return true }

// Admit implements Counters.
func (l *Local) Admit(_ context.Context, a Ask) (v Verdict, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if a.RateLimit <= 0 { // a share of nothing
		v.Refused, v.RetryAfter = "rate", a.Window
		return v, nil
	}
	gap := a.Window / time.Duration(a.RateLimit)
	key := rateKey{a.Tenant, a.Class}
	due := l.rates[key]
	if due.Before(now) {
		due = now
	}
	remaining := func() int64 { return int64((a.Window - due.Sub(now)) / max(gap, 1)) }
	v.RateReset = due.Sub(now)
	if from := due.Add(gap - a.Window); from.After(now) {
		v.Refused, v.RetryAfter = "rate", from.Sub(now)
		return v, nil
	}
	for i, d := range a.Draws {
		p := l.purses[purseKey{a.Tenant, d.Meter, a.Period}]
		v.Short, v.RateRemaining = i, remaining()
		if p == nil {
			v.Needs = true
			return v, nil
		}
		v.Drawn[i] = Drawn{p.number, p.total - p.left}
		over := d.Quota >= 0 && p.total-p.left+d.Units > d.Quota
		if p.left < d.Units && (p.quota != d.Quota || !now.Before(p.full)) {
			v.Needs = true
			return v, nil
		}
		if p.left < d.Units || over {
			v.Refused = "quota"
			return v, nil
		}
	}
	for i, d := range a.Draws {
		p := l.purses[purseKey{a.Tenant, d.Meter, a.Period}]
		p.left -= d.Units
		v.Drawn[i].Used = p.total - p.left
	}
	due = due.Add(gap)
	l.rates[key] = due
	if len(l.rates) > 100_000 {
		l.sweep(now)
	}
	v.OK, v.RateRemaining, v.RateReset = true, remaining(), due.Sub(now)
	return v, nil
}

// sweep forgets rates that have run off.
func (l *Local) sweep(now time.Time) {
	for k, due := range l.rates {
		if due.Before(now) {
			delete(l.rates, k)
		}
	}
}

// Fill implements Counters.
func (l *Local) Fill(_ context.Context, f Fill) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := purseKey{f.Tenant, f.Meter, f.Period}
	p := l.purses[k]
	var lost error
	switch {
	case p != nil && p.number > f.Number:
		return nil
	case p == nil || p.number < f.Number:
		if f.Before > 0 {
			lost = ErrLost
		}
		for old := range l.purses { // the period has changed
			if old.tenant == k.tenant && old.meter == k.meter && old.period < k.period {
				delete(l.purses, old)
			}
		}
		p = &purse{number: f.Number}
		l.purses[k] = p
	}
	p.left += f.Units
	p.total, p.quota, p.full = f.Total, f.Quota, time.Time{}
	if f.Full {
		p.full = l.now().Add(fullFor)
	}
	return lost
}

// fullFor is how long a quota that was found used up is not asked for again.
const fullFor = time.Second

// GiveBack implements Counters.
func (l *Local) GiveBack(_ context.Context, k PurseOf, units int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.purses[purseKey{k.Tenant, k.Meter, k.Period}]
	switch {
	case p == nil || p.number < k.Number:
		return ErrLost
	case p.number == k.Number: // of an older one they come home by settlement
		p.left += units
	}
	return nil
}

// seen carries over how far the shared rate has run, so that the stand-in does
// not begin with a full burst for callers that have just had one.
func (l *Local) seen(tenant, class string, reset time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.rates[rateKey{tenant, class}] = now.Add(reset)
	if len(l.rates) > 100_000 {
		l.sweep(now)
	}
}

func (l *Local) empty() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.purses)
	clear(l.rates)
}
