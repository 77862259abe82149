package monitor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// rig is a monitor whose clock, dependencies and channels the test moves.
type rig struct {
	*Monitor
	now      time.Time
	states   map[string]State
	why      map[string]string
	others   []Report
	reported Report
	ended    map[string]Outcome
	gauges   map[string]Gauge
	refuse   bool // of the channel
	told     []Alert

	elsewhere bool // another process speaks
}

func newRig(t *testing.T, db testdb.DB) *rig {
	r := &rig{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), states: map[string]State{"database": Healthy, "redis": Embedded, "storage": Healthy, "model": Healthy, "other": Healthy}, why: map[string]string{}}
	c := Config{Store: db.Store, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.now },
		Services: []Service{{Name: "plain", Should: []string{"storage"}}, {Name: "asks", Any: [][]string{{"model", "other"}}}},
		Outcomes: func(context.Context, time.Time) (map[string]Outcome, error) { return r.ended, nil },
		Exchange: func(_ context.Context, own Report) []Report { r.reported = own; return r.others },
		Gauges:   func(context.Context) map[string]Gauge { return r.gauges },
		Leads:    func() bool { return !r.elsewhere },
		Channels: []Channel{{"test", func(_ context.Context, a Alert) error {
			if r.refuse {
				return errors.New("not now")
			}
			r.told = append(r.told, a)
			return nil
		}}}}
	var mu sync.Mutex
	for _, name := range []string{"database", "redis", "storage", "model", "other"} {
		c.Dependencies = append(c.Dependencies, Dependency{Name: name, External: name == "model" || name == "other", Probe: func(context.Context) (State, string) {
			mu.Lock()
			defer mu.Unlock()
			return r.states[name], r.why[name]
		}})
	}
	r.Monitor = New(c)
	return r
}

// later looks again after d.
func (r *rig) later(d time.Duration) map[string]Health {
	r.now = r.now.Add(d)
	out := map[string]Health{}
	for _, h := range r.Check(context.Background()).Services {
		out[h.Service] = h
	}
	return out
}

// A service's state follows from what it stands on and how its work ends, and
// says why.
func TestJudgement(t *testing.T) {
	work := func(r *rig, n, faults int) {
		for i := range n {
			fault := ""
			if i < faults {
				fault = "dependency_unavailable"
			}
			r.Observe("plain", 10*time.Millisecond, fault)
		}
	}
	for name, c := range map[string]struct {
		set         func(r *rig)
		plain, asks State
		why         string // named in the last error of whichever is worse
	}{
		"all is well":                {func(*rig) {}, Healthy, Healthy, ""},
		"no database":                {func(r *rig) { r.states["database"] = Down }, Down, Down, "database"},
		"no redis":                   {func(r *rig) { r.states["redis"] = Down }, Degraded, Degraded, "redis"},
		"one provider of two":        {func(r *rig) { r.states["model"] = Down }, Healthy, Degraded, "model"},
		"the other not configured":   {func(r *rig) { r.states["other"] = NotConfigured }, Healthy, Healthy, ""},
		"both providers":             {func(r *rig) { r.states["model"], r.states["other"] = Down, Down }, Healthy, Down, "model"},
		"none configured":            {func(r *rig) { r.states["model"], r.states["other"] = NotConfigured, NotConfigured }, Healthy, Down, "configured"},
		"a few faults of many":       {func(r *rig) { work(r, 100, 4) }, Healthy, Healthy, ""},
		"5 % of faults":              {func(r *rig) { work(r, 100, 5) }, Degraded, Healthy, "dependency_unavailable"},
		"half are faults":            {func(r *rig) { work(r, 100, 50) }, Down, Healthy, "dependency_unavailable"},
		"faults of too few to judge": {func(r *rig) { work(r, 9, 8) }, Healthy, Healthy, ""},
		"few, and all are faults":    {func(r *rig) { work(r, 3, 3) }, Degraded, Healthy, "dependency_unavailable"},
		"fewer":                      {func(r *rig) { work(r, 2, 2) }, Healthy, Healthy, ""},
		"runs that failed":           {func(r *rig) { r.ended = map[string]Outcome{"plain": {20, 12, "provider_refused", ""}} }, Down, Healthy, "provider_refused"},
		"work that waits":            {func(r *rig) { r.ended = map[string]Outcome{"plain": {Stuck: "imports wait"}} }, Degraded, Healthy, "imports wait"},
		"a slow database":            {func(r *rig) { r.states["database"], r.why["database"] = Degraded, "takes long" }, Degraded, Degraded, "database is degraded: takes long"},
		"no folder":                  {func(r *rig) { r.states["storage"], r.why["storage"] = Down, "is full" }, Degraded, Healthy, "storage is down: is full"},
		"elsewhere it is down": {func(r *rig) {
			r.others = []Report{{Does: "main", Ails: map[string]Ailment{"model": {Down, "refuses our key"}}}}
		}, Healthy, Degraded,
			"model is degraded: is down in a process of main: refuses our key"},
		"it is down here too": {func(r *rig) {
			r.states["model"], r.states["other"] = Down, Down
			r.others = []Report{{Does: "main", Ails: map[string]Ailment{"model": {Degraded, ""}}}}
		}, Healthy, Down, "model is down"},
		"the answers of others": {func(r *rig) {
			work(r, 4, 0)
			r.others = []Report{{Work: map[string]Work{"plain": {Recent: 4, RecentFaults: 2, Fault: "internal"}}}, {Work: map[string]Work{"plain": {Recent: 4, RecentFaults: 4}}}}
		}, Down, Healthy, "internal"},
		"old faults": {func(r *rig) { work(r, 100, 50); r.now = r.now.Add(window) }, Healthy, Healthy, ""},
		"half are told to come again": {func(r *rig) {
			work(r, 20, 0)
			for range 20 {
				r.Shed("plain")
			}
		}, Degraded, Healthy, "overloaded"},
		"all are, and one is a fault": {func(r *rig) {
			work(r, 1, 1)
			for range 100 {
				r.Shed("plain")
			}
		}, Degraded, Healthy, "overloaded"},
		"a few are told to come again": {func(r *rig) { work(r, 99, 0); r.Shed("plain") }, Healthy, Healthy, ""},
		"slow answers": {func(r *rig) {
			for range enough {
				r.Observe("plain", 6*time.Second, "")
			}
		}, Degraded, Healthy, "slow"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testdb.SQLite(t))
			c.set(r)
			got := r.later(time.Second)
			if got["plain"].Status != c.plain || got["asks"].Status != c.asks {
				t.Errorf("plain is %s, asks is %s; want %s and %s", got["plain"].Status, got["asks"].Status, c.plain, c.asks)
			}
			for service, want := range map[string]State{"plain": c.plain, "asks": c.asks} {
				if h := got[service]; want != Healthy && want == worst(c.plain, c.asks) && (h.Metadata.LastError == nil || !strings.Contains(*h.Metadata.LastError, c.why)) {
					t.Errorf("%s does not name %q: %+v", service, c.why, h.Metadata)
				}
			}
		})
	}
}

func worst(a, b State) State {
	for _, s := range []State{Down, Degraded} {
		if a == s || b == s {
			return s
		}
	}
	return Healthy
}

// The share of faults and the mean are of the last five minutes, the sums of
// all time; the time since a service was down starts again when it is.
func TestWhatIsCounted(t *testing.T) {
	r := newRig(t, testdb.SQLite(t))
	for i := range 20 {
		fault := ""
		if i == 0 {
			fault = "internal"
		}
		r.Observe("plain", time.Duration(i)*time.Millisecond, fault)
	}
	r.Observe("nobody's", time.Second, "internal")
	for range 20 { // which is no work, and no fault
		r.Shed("plain")
	}
	h := r.later(time.Minute)["plain"]
	if h.ErrorRate != .05 || h.ResponseTimeMS != 10 || h.Metadata.TotalRequests != 40 || h.Metadata.TotalErrors != 1 || h.UptimeSeconds != 60 {
		t.Errorf("%+v", h) // the mean of 1 to 19: an answer that took nothing says nothing
	}
	r.states["database"] = Down
	r.later(window)
	if h = r.later(time.Minute)["plain"]; h.UptimeSeconds != 0 || h.Metadata.ConsecutiveFailures != 3 || h.ErrorRate != 0 { // the first by the fault
		t.Errorf("%+v", h)
	}
	r.states["database"] = Healthy
	if h = r.later(90 * time.Second)["plain"]; h.UptimeSeconds != 90 || h.Metadata.ConsecutiveFailures != 0 || h.Metadata.TotalRequests != 40 {
		t.Errorf("%+v", h)
	}
}

// An alert is told once when it starts, again when it lasts, and when it is
// over; not while it is silenced, not again within the cool-down, and not
// before it has held as long as its rule says. It is kept on both databases.
func TestAlerts(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		ctx := domain.WithScope(context.Background(), domain.Scope{Actor: domain.Actor{Kind: "user", ID: "usr_keeper"}})
		r := newRig(t, db)
		told := func(want ...string) {
			t.Helper()
			var got []string
			for _, a := range r.told {
				got = append(got, a.Rule+" "+a.Subject+" "+a.Status)
			}
			if strings.Join(got, ", ") != strings.Join(want, ", ") {
				t.Errorf("told %q, want %q", got, want)
			}
			r.told = nil
		}
		r.later(time.Second)
		told()
		r.states["model"] = Down
		r.later(time.Second)
		told("dependency_down model firing")
		r.later(time.Minute)
		told() // that asks is degraded has not held for two minutes
		r.later(2 * time.Minute)
		told("service_degraded asks firing")
		r.later(4 * time.Hour)
		if len(r.told) != 2 {
			t.Errorf("not reminded: %v", r.told)
		}
		r.told = nil
		r.states["model"] = Healthy
		r.later(time.Second)
		if len(r.told) != 2 || r.told[0].Status != "resolved" || r.told[1].Status != "resolved" {
			t.Errorf("nobody heard that it is over: %v", r.told)
		}
		r.told = nil

		// It comes and goes: told again only after the cool-down.
		for range 3 {
			r.states["model"] = Down
			r.later(time.Second)
			r.states["model"] = Healthy
			r.later(time.Second)
		}
		told()
		r.later(5 * time.Minute)
		r.states["model"] = Down
		r.later(time.Second)
		told("dependency_down model firing")
		r.states["model"] = Healthy
		r.later(time.Second)
		told("dependency_down model resolved")

		// Silenced: kept, not told.
		if _, err := r.SilenceAlerts(ctx, SilenceRequest{Subject: "disk_free", Reason: "being grown", Minutes: 10}); err != nil {
			t.Fatal(err)
		}
		r.gauges = map[string]Gauge{"disk_free": {.08, "share", false}, "provider_budget/model": {.9, "share", true}}
		r.later(time.Second)
		told("provider_budget provider_budget/model firing")
		page, err := r.Alerts(ctx, AlertsRequest{Status: "firing"})
		if err != nil || len(page.Data) != 2 {
			t.Fatalf("%v %v", page.Data, err)
		}
		for _, a := range page.Data {
			if a.Silenced != (a.Subject == "disk_free") || (a.NotifiedAt == nil) != a.Silenced {
				t.Errorf("%+v", a)
			}
		}
		r.later(11 * time.Minute)
		told("disk_free disk_free firing")

		// The channel is away: what it missed comes when it is back.
		r.refuse = true
		r.states["database"] = Down
		r.later(time.Second)
		told()
		r.refuse = false
		r.later(time.Second)
		told("dependency_down database firing", "service_down plain firing", "service_down asks firing")

		// What a channel has not taken when its speaker ends the next one tells, and only that.
		r.refuse, r.gauges = true, map[string]Gauge{"disk_free": {.08, "share", false}, "provider_budget/model": {.9, "share", true}, "jobs_wait": {900, "seconds", true}}
		r.states["database"] = Healthy
		r.later(time.Second)
		if len(r.told) != 0 {
			t.Errorf("told %v", r.told)
		}
		heir := newRig(t, db)
		heir.now, heir.gauges, heir.states = r.now, r.gauges, r.states
		heir.later(time.Second)
		if got := heir.told; len(got) != 4 || !slices.ContainsFunc(got, func(a Alert) bool { return a.Rule == "jobs_wait" && a.Status == "firing" }) ||
			!slices.ContainsFunc(got, func(a Alert) bool { return a.Rule == "dependency_down" && a.Status == "resolved" }) {
			t.Errorf("the heir told %v", got)
		}
		r.refuse, r.gauges = false, heir.gauges
		r.told, r.elsewhere = nil, true
		r.later(time.Second) // which forgets what it owes
		r.elsewhere = false
		r.later(time.Second)
		told()
		delete(r.gauges, "jobs_wait")
		r.later(time.Second)
		told("jobs_wait jobs_wait resolved")

		// The cool-down is not of one speaker.
		after := newRig(t, db)
		after.now, after.states, after.gauges = r.now, r.states, map[string]Gauge{"disk_free": {.08, "share", false}, "provider_budget/model": {.9, "share", true}, "jobs_wait": {900, "seconds", true}}
		after.later(time.Second)
		if len(after.told) != 0 {
			t.Errorf("told within the cool-down: %v", after.told)
		}
		delete(after.gauges, "jobs_wait")
		after.later(time.Second)

		// Another process speaks from here on: it does not begin anew.
		next := newRig(t, db)
		next.now, next.gauges = r.now, r.gauges
		next.later(time.Second)
		if len(next.told) != 0 {
			t.Errorf("told again after a restart: %v", next.told)
		}

		// What is over meanwhile is told by it alone, and no row stays open: not when
		// the first one speaks again either.
		r.elsewhere, next.gauges = true, nil
		r.later(time.Second)
		next.later(time.Second)
		if len(next.told) != 2 || next.told[0].Status != "resolved" || next.told[1].Status != "resolved" {
			t.Errorf("nobody heard that it is over: %v", next.told)
		}
		r.elsewhere, r.gauges, r.states["database"] = false, nil, Healthy
		r.later(time.Second)
		told()
		if page, err := r.Alerts(ctx, AlertsRequest{Status: "firing"}); err != nil || len(page.Data) != 0 {
			t.Errorf("still open: %v %v", page.Data, err)
		}

		// An alert that began before its speaker could read the database is the one
		// that is in it.
		r.gauges = map[string]Gauge{"disk_free": {.08, "share", false}}
		r.later(time.Hour)
		last := newRig(t, db)
		last.now, last.gauges, last.states["database"] = r.now, r.gauges, Down
		last.later(time.Second)
		last.states["database"] = Healthy
		last.later(time.Second)
		if page, err := r.Alerts(ctx, AlertsRequest{Status: "firing"}); err != nil || len(page.Data) != 1 || page.Data[0].StartedAt.After(r.now) {
			t.Errorf("want one: %v %v", page.Data, err)
		}
	})
}

// A share of faults is an alert where there was enough work lately to speak of a
// share, whoever did it: not one fault after a quiet time, and the runs of other
// processes too.
func TestErrorRate(t *testing.T) {
	r := newRig(t, testdb.SQLite(t))
	alerted := func() bool {
		r.told = nil
		r.later(time.Second)
		r.later(time.Minute)
		return slices.ContainsFunc(r.told, func(a Alert) bool { return a.Rule == "error_rate" && a.Subject == "plain" })
	}
	for range 100 {
		r.Observe("plain", time.Millisecond, "")
	}
	r.later(window)
	r.Observe("plain", time.Millisecond, "internal")
	if alerted() {
		t.Error("one fault is a share")
	}
	r.later(window)
	r.ended = map[string]Outcome{"plain": {20, 12, "provider_refused", ""}}
	if !alerted() {
		t.Error("nobody hears of runs that fail")
	}
}

// Those who ask while somebody looks share that look, however long it takes.
func TestOneLookForAll(t *testing.T) {
	r := newRig(t, testdb.SQLite(t))
	const askers = 5
	var mu sync.Mutex
	asked, looks, all := 0, 0, make(chan struct{})
	r.Config.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked == askers+1 { // each asker once, and who looks first once more
			close(all)
		}
		return r.now.Add(time.Duration(asked) * time.Second) // a look takes long
	}
	r.Dependencies[0].Probe = func(ctx context.Context) (State, string) {
		mu.Lock()
		looks++
		mu.Unlock()
		select {
		case <-all:
		case <-ctx.Done():
		}
		return Healthy, ""
	}
	var done sync.WaitGroup
	for range askers {
		done.Go(func() { r.Check(t.Context()) })
	}
	done.Wait()
	if looks != 1 {
		t.Errorf("%d looks for %d who asked at once", looks, askers)
	}
}

// A limit that is not understood is refused, and says which.
func TestParseLimits(t *testing.T) {
	l, err := ParseLimits("disk_free=0.2, cooldown=60,error_rate=.1")
	if err != nil || l.Gauges["disk_free"] != .2 || l.Cooldown != time.Minute || l.ErrorRate != .1 || l.Remind != 4*time.Hour {
		t.Errorf("%+v %v", l, err)
	}
	for _, bad := range []string{"disk", "disk_free=", "disk_free=-1", "nothing=1", "remind=Inf", "error_rate=NaN"} {
		if _, err := ParseLimits(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
