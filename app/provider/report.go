package provider

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// Status is one vendor as an administrator sees it.
type Status struct {
	Provider   string    `json:"provider"`
	Configured bool      `json:"configured"`
	Sandbox    bool      `json:"sandbox" doc:"an emulator answers"`
	Model      string    `json:"model,omitempty"`
	Keys       int       `json:"keys"`
	KeysReady  int       `json:"keys_ready" doc:"not resting after a refusal, in this process"`
	Breaker    string    `json:"breaker" enum:"closed,open" doc:"in this process"`
	Hour       Budget    `json:"hour"`
	Day        Budget    `json:"day"`
	Last30Days []DayCost `json:"last_30_days" nullable:"false"`
	// How the requests of the last 24 hours ended: "ok", or the reason.
	Endings map[string]int64 `json:"last_24_hours" nullable:"false" doc:"requests by how they ended: ok, or why not"`
}

// DayCost is what one day cost.
type DayCost struct {
	Day        string `json:"day" doc:"UTC"`
	Calls      int64  `json:"calls"`
	CostMicros int64  `json:"cost_micros"`
}

// Report is every vendor.
type Report struct {
	Data []Status `json:"data" nullable:"false"`
}

// ReportRequest asks for it.
type ReportRequest struct{}

// Report says what each vendor was asked and cost, over all tenants: for
// administrators of the platform alone.
func (p *Providers) Report(ctx context.Context, _ ReportRequest) (Report, error) {
	ctx = domain.System(ctx, "provider report")
	out := Report{Data: []Status{}}
	now := p.Now()
	err := p.Store.Read(ctx, func(ctx context.Context) (err error) {
		for _, name := range Names {
			s := Status{Provider: name, Breaker: "closed", Last30Days: []DayCost{}, Endings: map[string]int64{}}
			if v := p.vendors[name]; v != nil {
				s.Configured, s.Sandbox, s.Model = true, v.sandbox, p.Accounts[name].Model
				s.Keys, s.KeysReady = len(p.Accounts[name].Keys), min(len(p.Accounts[name].Keys), v.keys.ready(now))
				if v.breaker.open(now) {
					s.Breaker = "open"
				}
			}
			if s.Hour, s.Day, err = p.ledger.budgets(ctx, name); err != nil {
				return err
			}
			var days []struct{ Starts, Calls, CostMicros int64 }
			err := p.Store.SQL(ctx, "SELECT starts, calls, cost_micros FROM provider_spend WHERE provider = @provider AND period = 'day' AND starts > @since ORDER BY starts",
				map[string]any{"provider": name, "since": now.AddDate(0, 0, -30).Unix()}).Scan(&days).Error
			if err != nil {
				return err
			}
			for _, d := range days {
				s.Last30Days = append(s.Last30Days, DayCost{time.Unix(d.Starts, 0).UTC().Format(time.DateOnly), d.Calls, d.CostMicros})
			}
			var endings []struct {
				State, Reason string
				N             int64
			}
			err = p.Store.SQL(ctx, "SELECT state, reason, count(*) AS n FROM provider_calls WHERE provider = @provider AND sent_at > @since GROUP BY state, reason",
				map[string]any{"provider": name, "since": now.UTC().Add(-24 * time.Hour)}).Scan(&endings).Error
			if err != nil {
				return err
			}
			for _, e := range endings {
				switch {
				case e.State == "succeeded":
					s.Endings["ok"] = e.N
				case e.State == "sent": // under way, or of a process that died
					s.Endings["sent"] = e.N
				default:
					s.Endings[e.Reason] = e.N
				}
			}
			out.Data = append(out.Data, s)
		}
		return nil
	})
	return out, err
}

// Health says of each vendor in a word whether it may be asked: "healthy",
// "emulated", "degraded" (it failed lately, or keys rest after a refusal),
// "down" (the breaker is open, no key may be used, or nobody is there) or
// "not_configured". It asks nobody: see Reach.
func (p *Providers) Health() map[string]string {
	out, now := map[string]string{}, p.Now()
	for _, name := range Names {
		v := p.vendors[name]
		switch {
		case v == nil:
			out[name] = "not_configured"
		case v.breaker.open(now) || v.keys.ready(now) == 0 || v.away.Load():
			out[name] = "down"
		case v.keys.ready(now) < len(v.keys.keys) || v.breaker.shaky(now):
			out[name] = "degraded"
		case v.sandbox:
			out[name] = "emulated"
		default:
			out[name] = "healthy"
		}
	}
	return out
}

// Look says of a vendor what Health does, and why, after a look: whether anybody
// is there, and how the requests of late ended, whichever process sent them.
func (p *Providers) Look(ctx context.Context, name string) (state, why string) {
	p.Reach(ctx, name)
	v, now := p.vendors[name], p.Now()
	state = p.Health()[name]
	if v == nil {
		return state, ""
	}
	ailing, reason := p.ailing(ctx, name)
	switch {
	case v.away.Load():
		return state, "does not answer"
	case v.keys.ready(now) == 0 || v.keys.ready(now) < len(v.keys.keys) && state == "degraded":
		return state, "gives nothing: " + string(v.keys.why())
	case v.breaker.open(now) || state == "degraded":
		return state, "fails: " + cmp.Or(reason, "too often of late")
	case ailing != "":
		return ailing, "fails: " + reason
	}
	return state, ""
}

// ailing is how a vendor is by its requests since the last that succeeded, as the
// breaker and the keys of one process would have it, or "".
func (p *Providers) ailing(ctx context.Context, name string) (state, reason string) {
	var failed []struct {
		Reason Reason
		N      int
	}
	err := p.Store.Read(domain.System(ctx, "provider health"), func(ctx context.Context) error {
		return p.Store.SQL(ctx, `SELECT reason, count(*) AS n FROM provider_calls WHERE provider = @provider AND state = 'failed' AND sent_at > @since
				AND sent_at > coalesce((SELECT max(sent_at) FROM provider_calls WHERE provider = @provider AND state = 'succeeded' AND sent_at > @since), @since)
			GROUP BY reason ORDER BY reason`, map[string]any{"provider": name, "since": p.Now().UTC().Add(-shakyFor)}).Scan(&failed).Error
	})
	if err != nil {
		return "", "" // the database says so itself
	}
	sick := 0
	for _, f := range failed {
		switch {
		case f.Reason == KeyRefused || f.Reason == QuotaSpent:
			return "down", string(f.Reason)
		case meanings[f.Reason].sick || f.Reason == Malformed || f.Reason == NoModel:
			sick += f.N
			reason = string(f.Reason)
		}
	}
	switch {
	case sick >= breakAfter:
		return "down", reason
	case sick > 1:
		return "degraded", reason
	}
	return "", ""
}

// Reach asks for the head of the root of a vendor's host: without a key and
// outside its API, so that it costs nothing and says no more than that somebody
// is there.
func (p *Providers) Reach(ctx context.Context, name string) {
	v := p.vendors[name]
	if v == nil {
		return
	}
	root, err := url.Parse(v.base)
	if err != nil {
		return
	}
	root.Path, root.RawQuery = "/", ""
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, root.String(), nil)
	if err != nil {
		return
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := v.http.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	v.away.Store(err != nil)
}

// Spent is the largest share of its hourly or daily budget that each vendor
// with one has used.
func (p *Providers) Spent(ctx context.Context) (map[string]float64, error) {
	out := map[string]float64{}
	err := p.Store.Read(domain.System(ctx, "provider budgets"), func(ctx context.Context) error {
		for name := range *p.ledger.limits.Load() {
			hour, day, err := p.ledger.budgets(ctx, name)
			if err != nil {
				return err
			}
			for _, b := range []Budget{hour, day} {
				if b.CallsLimit > 0 {
					out[name] = max(out[name], float64(b.Calls)/float64(b.CallsLimit))
				}
				if b.CostLimit > 0 {
					out[name] = max(out[name], float64(b.CostMicros)/float64(b.CostLimit))
				}
			}
		}
		return nil
	})
	return out, err
}
