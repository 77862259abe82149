package billing

import (
	"context"
	"encoding/csv"
	"io"
	"strconv"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// UsageRequest asks for a series over a span; without a span it is this period.
type UsageRequest struct {
	From        time.Time `query:"from" doc:"the first hour"`
	To          time.Time `query:"to" doc:"the hour after the last"`
	Granularity string    `query:"granularity" enum:"hour,day,month" doc:"of the series; without it, and without a span, there is none"`
}

// Point is what was used in one hour, day or month (UTC); those without use are
// left out.
type Point struct {
	At    string `json:"at"`
	Units int64  `json:"units"`
}

// MeterUsage is one meter or level.
type MeterUsage struct {
	Meter     string     `json:"meter"`
	Used      int64      `json:"used"`
	Limit     *int64     `json:"limit" nullable:"true" doc:"null is unlimited"`
	Remaining *int64     `json:"remaining" nullable:"true"`
	ResetsAt  *time.Time `json:"resets_at" nullable:"true" doc:"null for a level"`
	Overage   int64      `json:"overage" doc:"units beyond the limit, which are paid for"`
	Series    []Point    `json:"series,omitempty"`
}

// UsageResponse is every meter and level.
type UsageResponse struct {
	Plan        string       `json:"plan"`
	PlanVersion int          `json:"plan_version"`
	From        time.Time    `json:"from" doc:"when the present period began; resets_at is its end"`
	Data        []MeterUsage `json:"data" nullable:"false"`
}

// widths is how much of an event's hour names its point, and the longest span
// that is answered.
var widths = map[string]struct {
	width int
	most  time.Duration
}{
	"hour": {13, 35 * 24 * time.Hour}, "day": {10, 400 * 24 * time.Hour}, "month": {7, 10 * 366 * 24 * time.Hour},
}

// span fills in what the request leaves out, and refuses one that cannot be.
func (in *UsageRequest) span(now Period) error {
	if in.Granularity == "" && (!in.From.IsZero() || !in.To.IsZero()) {
		in.Granularity = "day"
	}
	if in.From.IsZero() {
		in.From = now.Start
	}
	if in.To.IsZero() {
		in.To = now.End
	}
	in.From, in.To = in.From.UTC(), in.To.UTC()
	if in.Granularity != "" && (!in.From.Before(in.To) || in.To.Sub(in.From) > widths[in.Granularity].most) {
		return domain.InvalidField("from", "invalid_span", "The span begins after it ends, or is too long for its granularity.")
	}
	return nil
}

type seriesRow struct {
	Meter, At string
	Units     int64
}

// series sums the ledger by the granularity; the caller has the transaction.
func (m *Meter) series(ctx context.Context, in UsageRequest) (rows []seriesRow, err error) {
	last := in.To.Add(time.Hour - time.Nanosecond) // an hour that has begun before the end belongs to it
	err = m.Store.SQL(ctx, `SELECT meter, substr(hour, 1, @width) AS at, CAST(sum(units) AS bigint) AS units FROM usage_events
		WHERE tenant_id = @tenant AND hour >= @from AND hour < @to`+hours(m.Store, "from", "to")+` GROUP BY 1, 2 ORDER BY 1, 2`,
		map[string]any{"width": widths[in.Granularity].width, "from": in.From.Format("2006-01-02T15"), "to": last.Format("2006-01-02T15")}).Scan(&rows).Error
	return rows, err
}

// Usage reads the ledger: what this process did is in it, what others did is
// there a moment later.
func (m *Meter) Usage(ctx context.Context, in UsageRequest) (out UsageResponse, err error) {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return out, err
	}
	if err := in.span(plan.Period); err != nil {
		return out, err
	}
	if err := m.Flush(ctx); err != nil {
		return out, err
	}
	series, levels := map[string][]Point{}, map[string]int64{}
	var used map[string]usageTotal
	err = m.Store.Read(ctx, func(ctx context.Context) error {
		if used, err = m.totals(ctx, plan.Period.ID); err != nil {
			return err
		}
		if in.Granularity != "" {
			rows, err := m.series(ctx, in)
			if err != nil {
				return err
			}
			for _, r := range rows {
				series[r.Meter] = append(series[r.Meter], Point{r.At, r.Units})
			}
		}
		var rows []struct {
			Level string
			Used  int64
		}
		err := m.Store.SQL(ctx, `SELECT level, used FROM tenant_levels WHERE tenant_id = @tenant`, nil).Scan(&rows).Error
		for _, r := range rows {
			levels[r.Level] = r.Used
		}
		return err
	})
	if err != nil {
		return out, err
	}
	out.Plan, out.PlanVersion, out.From = plan.Name, plan.Version, plan.Period.Start
	add := func(name string, used, beyond, limit int64, resets *time.Time) {
		u := MeterUsage{Meter: name, Used: used, ResetsAt: resets, Series: series[name], Overage: beyond}
		if limit >= 0 {
			left := max(0, limit-used)
			u.Limit, u.Remaining = &limit, &left
		}
		out.Data = append(out.Data, u)
	}
	for _, name := range Meters {
		add(name, used[name].Units, used[name].Beyond, plan.Quotas[name], &plan.Period.End)
	}
	for _, name := range Levels {
		add(name, levels[name], 0, plan.Levels[name], nil)
	}
	return out, nil
}

// UsageExport writes the series as CSV, by day where nothing else is asked.
func (m *Meter) UsageExport(ctx context.Context, in UsageRequest, w io.Writer) error {
	if in.Granularity == "" {
		in.Granularity = "day"
	}
	plan, err := m.Plans.Entitlements(ctx)
	if err == nil {
		err = in.span(plan.Period)
	}
	if err != nil {
		return err
	}
	if err := m.Flush(ctx); err != nil {
		return err
	}
	var rows []seriesRow
	err = m.Store.Read(ctx, func(ctx context.Context) (err error) { rows, err = m.series(ctx, in); return err })
	if err != nil {
		return err
	}
	out := csv.NewWriter(w)
	_ = out.Write([]string{"meter", in.Granularity, "units"})
	for _, r := range rows {
		_ = out.Write([]string{r.Meter, r.At, strconv.FormatInt(r.Units, 10)})
	}
	out.Flush()
	return out.Error()
}
