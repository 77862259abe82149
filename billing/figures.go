package billing

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// subscriptionChange is a row of the history: what a subscription is worth from
// a moment on.
type subscriptionChange struct {
	store.Owned
	Subscription string `gorm:"primaryKey"`
	Generation   int64  `gorm:"primaryKey"`
	At           time.Time
	Status, Plan string
	Currency     string
	MRR          int64 `gorm:"column:mrr"`
}

func (subscriptionChange) TableName() string { return "subscription_history" }

// worth is what a subscription brings in a month: that of an active or a past
// due one, a twelfth of a year, rounded half up, without tax, overage, trials
// and coupons. Stripe counts so too, but takes coupons off.
func worth(s Subscription) int64 {
	switch {
	case s.Status != "active" && s.Status != "past_due":
		return 0
	case s.Cadence == "year":
		return (s.UnitAmount*s.Quantity + 6) / 12
	}
	return s.UnitAmount * s.Quantity
}

// remember adds to the history what a sync found changed, in its transaction.
func (s *Sales) remember(ctx context.Context, tenant string, generation int64, old, now Subscription) error {
	if old.Status == now.Status && old.Plan == now.Plan && worth(old) == worth(now) {
		return nil
	}
	at := s.Now().UTC()
	if now.EndedAt != nil && now.EndedAt.Before(at) {
		at = *now.EndedAt
	}
	row := subscriptionChange{store.Owned{TenantID: tenant}, now.ID, generation, at, now.Status, now.Plan, now.Currency, worth(now)}
	return s.Store.For(ctx).Create(&row).Error
}

// Month is what became of the recurring revenue in one month and currency:
// opening + new + expansion + contraction + churn + reactivation = closing, to
// the minor unit. Contraction and churn are below zero.
type Month struct {
	Month        string   `json:"month"`
	Currency     string   `json:"currency"`
	Opening      int64    `json:"opening" doc:"MRR in minor units, as are all"`
	New          int64    `json:"new"`
	Expansion    int64    `json:"expansion"`
	Contraction  int64    `json:"contraction"`
	Churn        int64    `json:"churn"`
	Reactivation int64    `json:"reactivation"`
	Closing      int64    `json:"closing"`
	ARR          int64    `json:"arr" doc:"twelve times the closing MRR"`
	Payers       int64    `json:"payers" doc:"tenants that pay at the month's end"`
	Opened       int64    `json:"payers_opening"`
	Lost         int64    `json:"payers_lost" doc:"of those who paid when it began"`
	NRR          *float64 `json:"nrr" nullable:"true" doc:"net revenue retention: of the opening MRR, what those who paid it pay at the end; null where it was nothing"`
	GRR          *float64 `json:"grr" nullable:"true" doc:"the same without expansion"`
}

// movements computes every month from the first change to now: a pure function
// of the history, so that the same history gives the same figures, whenever it
// is asked. Months without anything are there, as they open and close.
func movements(history []subscriptionChange, now time.Time) []Month {
	history = slices.Clone(history)
	slices.SortFunc(history, func(a, b subscriptionChange) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.TenantID, b.TenantID), cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Subscription, b.Subscription))
	})
	type payer struct{ tenant, currency string }
	var out []Month
	worths := map[string]int64{} // by subscription
	pays := map[payer]int64{}
	ever := map[payer]bool{}
	opening := map[payer]int64{}
	var month string
	at := map[string]int{} // of out, by currency, in the present month
	row := func(currency string) *Month {
		i, ok := at[currency]
		if !ok {
			i = len(out)
			at[currency] = i
			out = append(out, Month{Month: month, Currency: currency})
		}
		return &out[i]
	}
	begin := func(next string) {
		month, at, opening = next, map[string]int{}, map[payer]int64{}
		for p, n := range pays {
			opening[p] = n
		}
		currencies := map[string]bool{}
		for p := range ever {
			currencies[p.currency] = true
		}
		for _, c := range sorted(currencies) {
			m := row(c)
			for p, n := range opening {
				if p.currency == c && n > 0 {
					m.Opening += n
					m.Opened++
				}
			}
		}
	}
	end := func() {
		for _, i := range at {
			m := &out[i]
			m.Closing = m.Opening + m.New + m.Expansion + m.Contraction + m.Churn + m.Reactivation
			m.ARR = 12 * m.Closing
			var kept, gross int64
			for p, n := range pays {
				if p.currency == m.Currency && n > 0 {
					m.Payers++
				}
			}
			for p, n := range opening {
				if p.currency != m.Currency || n == 0 {
					continue
				}
				kept += pays[p]
				gross += min(n, pays[p])
				if pays[p] == 0 {
					m.Lost++
				}
			}
			if m.Opening > 0 {
				nrr, grr := float64(kept)/float64(m.Opening), float64(gross)/float64(m.Opening)
				m.NRR, m.GRR = &nrr, &grr
			}
		}
	}
	step := func(to time.Time) { // months that ended before
		for want := to.UTC().Format("2006-01"); month != want; {
			if month == "" {
				begin(want)
				return
			}
			end()
			t, _ := time.Parse("2006-01", month)
			begin(t.AddDate(0, 1, 0).Format("2006-01"))
		}
	}
	for _, h := range history {
		step(h.At)
		p := payer{h.TenantID, h.Currency}
		was := pays[p]
		is := was + h.MRR - worths[h.Subscription]
		worths[h.Subscription], pays[p] = h.MRR, is
		m := row(h.Currency)
		switch d := is - was; {
		case d == 0:
		case was == 0 && ever[p]:
			m.Reactivation += d
		case was == 0:
			m.New += d
		case is == 0:
			m.Churn += d
		case d > 0:
			m.Expansion += d
		default:
			m.Contraction += d
		}
		ever[p] = ever[p] || is > 0
	}
	if month != "" {
		step(now)
		end()
	}
	slices.SortStableFunc(out, func(a, b Month) int {
		return cmp.Or(cmp.Compare(a.Month, b.Month), cmp.Compare(a.Currency, b.Currency))
	})
	return out
}

func sorted(set map[string]bool) (out []string) {
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// history reads it whole, in a system scope.
func (s *Sales) history(ctx context.Context) (rows []subscriptionChange, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Order("at, generation").Find(&rows).Error })
	return rows, err
}

// Revenue is every month's movements, by currency.
func (o *Office) Revenue(ctx context.Context, _ struct{}) (out domain.Page[Month], err error) {
	if err := o.note(ctx, "admin.read_figures", "revenue", nil); err != nil {
		return out, err
	}
	history, err := o.history(domain.System(ctx, "business figures"))
	if out.Data = movements(history, o.Now()); out.Data == nil {
		out.Data = []Month{}
	}
	return out, err
}

// OverviewResponse is how the business stands now.
type OverviewResponse struct {
	Revenue   []Month        `json:"revenue" nullable:"false" doc:"the present month, by currency"`
	Tenants   int64          `json:"tenants"`
	Plans     []PlanMix      `json:"plans" nullable:"false"`
	Trials    TrialFigures   `json:"trials"`
	Payments  PaymentFigures `json:"payments"`
	MadeAt    time.Time      `json:"made_at"`
	Statement string         `json:"mrr_is" doc:"what MRR means here"`
}

// PlanMix is how many have a plan through a subscription that lives.
type PlanMix struct {
	Plan    string `json:"plan"`
	Tenants int64  `json:"tenants"`
}

// TrialFigures are of every trial that has ended.
type TrialFigures struct {
	Running    int64    `json:"running"`
	Ended      int64    `json:"ended"`
	Converted  int64    `json:"converted" doc:"went on to pay"`
	Conversion *float64 `json:"conversion" nullable:"true"`
}

// PaymentFigures are of renewals that failed, money that went back, and disputes.
type PaymentFigures struct {
	Failed    int64         `json:"failed" doc:"invoices of which a payment failed"`
	Recovered int64         `json:"recovered" doc:"of them, paid later"`
	Refunded  []MoneyAmount `json:"refunded" nullable:"false"`
	Disputes  int64         `json:"disputes"`
	Lost      int64         `json:"disputes_lost"`
}

// MoneyAmount is money in one currency.
type MoneyAmount struct {
	Currency string `json:"currency"`
	Amount   int64  `json:"amount" doc:"minor units"`
}

// Overview is how the business stands now.
func (o *Office) Overview(ctx context.Context, _ struct{}) (out OverviewResponse, err error) {
	if err := o.note(ctx, "admin.read_figures", "overview", nil); err != nil {
		return out, err
	}
	ctx = domain.System(ctx, "business figures")
	history, err := o.history(ctx)
	if err != nil {
		return out, err
	}
	now := o.Now().UTC()
	out = OverviewResponse{Revenue: []Month{}, Plans: []PlanMix{}, MadeAt: now, Statement: "active and past due subscriptions a month, a year's divided by twelve; without trials, tax, overage and coupons"}
	for _, m := range movements(history, now) {
		if m.Month == now.Format("2006-01") {
			out.Revenue = append(out.Revenue, m)
		}
	}
	out.Trials = trials(history)
	out.Payments.Refunded = []MoneyAmount{}
	return out, o.Store.ReadStale(ctx, func(ctx context.Context) error {
		var n struct{ Tenants, Failed, Recovered, Disputes, Lost int64 }
		// Stripe counts its own attempts; that a person paid what had failed is known by what was told.
		const told = `EXISTS (SELECT 1 FROM billing_notices n WHERE n.tenant_id = i.tenant_id AND n.key LIKE 'payment_failed:' || i.id || ':%')`
		err := o.Store.SQL(ctx, `SELECT (SELECT count(*) FROM tenants) AS tenants,
			(SELECT count(*) FROM invoices i WHERE reason = 'subscription_cycle' AND (attempts > 1 OR attempts = 1 AND status <> 'paid' OR `+told+`)) AS failed,
			(SELECT count(*) FROM invoices i WHERE reason = 'subscription_cycle' AND status = 'paid' AND (attempts > 1 OR `+told+`)) AS recovered,
			(SELECT count(*) FROM disputes) AS disputes, (SELECT count(*) FROM disputes WHERE status = 'lost') AS lost`, nil).Scan(&n).Error
		out.Tenants, out.Payments.Failed, out.Payments.Recovered, out.Payments.Disputes, out.Payments.Lost = n.Tenants, n.Failed, n.Recovered, n.Disputes, n.Lost
		return errors.Join(err,
			o.Store.SQL(ctx, `SELECT currency, CAST(sum(refunded) AS bigint) AS amount FROM invoices WHERE refunded > 0 GROUP BY currency ORDER BY currency`, nil).Scan(&out.Payments.Refunded).Error,
			o.Store.SQL(ctx, `SELECT plan, count(*) AS tenants FROM subscriptions WHERE status IN ('active', 'trialing', 'past_due') GROUP BY plan ORDER BY plan`, nil).Scan(&out.Plans).Error)
	})
}

// trials counts those of the history.
func trials(history []subscriptionChange) (out TrialFigures) {
	began, paid, status := map[string]bool{}, map[string]bool{}, map[string]string{}
	for _, h := range history {
		if h.Status == "trialing" {
			began[h.Subscription] = true
		}
		paid[h.Subscription] = paid[h.Subscription] || began[h.Subscription] && h.MRR > 0
		status[h.Subscription] = h.Status
	}
	for sub := range began {
		switch {
		case paid[sub]:
			out.Ended++
			out.Converted++
		case status[sub] == "trialing":
			out.Running++
		default:
			out.Ended++
		}
	}
	if out.Ended > 0 {
		share := float64(out.Converted) / float64(out.Ended)
		out.Conversion = &share
	}
	return out
}

// FunnelStep is how far tenants have come.
type FunnelStep struct {
	Step        string   `json:"step" enum:"signed_up,verified,dataset,match,run,invited,paid"`
	Tenants     int64    `json:"tenants"`
	MedianHours *float64 `json:"median_hours" nullable:"true" doc:"from the sign-up; null where nobody came so far"`
}

// Funnel is how tenants come from the sign-up to a first value, and to paying.
func (o *Office) Funnel(ctx context.Context, _ struct{}) (out domain.Page[FunnelStep], err error) {
	if err := o.note(ctx, "admin.read_figures", "funnel", nil); err != nil {
		return out, err
	}
	type first struct {
		TenantID string
		At       time.Time
	}
	steps := []struct{ name, query string }{
		{"signed_up", `SELECT id AS tenant_id, created_at AS at FROM tenants`},
		{"verified", `SELECT m.tenant_id, u.email_verified_at AS at FROM memberships m JOIN users u ON u.id = m.user_id WHERE u.email_verified_at IS NOT NULL AND m.id = (SELECT min(x.id) FROM memberships x WHERE x.tenant_id = m.tenant_id)`},
		{"dataset", `SELECT d.tenant_id, d.created_at AS at FROM datasets d WHERE d.id = (SELECT min(x.id) FROM datasets x WHERE x.tenant_id = d.tenant_id)`},
		// The first match, found by the index in the first period that has any: a tenant has a million.
		{"match", `WITH f AS MATERIALIZED (SELECT t.id AS tenant_id, (SELECT x.id FROM usage_events x WHERE x.tenant_id = t.id AND x.meter = 'match'
				AND x.period = (SELECT min(u.period) FROM usage_totals u WHERE u.tenant_id = t.id AND u.meter = 'match') ORDER BY x.hour, x.occurred_at LIMIT 1) AS id FROM tenants t)
			SELECT f.tenant_id, e.occurred_at AS at FROM f JOIN usage_events e ON e.tenant_id = f.tenant_id AND e.id = f.id`},
		// One that a tenant brought along was run elsewhere.
		{"run", `SELECT r.tenant_id, r.created_at AS at FROM research_runs r WHERE r.id = (SELECT min(x.id) FROM research_runs x WHERE x.tenant_id = r.tenant_id AND x.imported_at IS NULL)`},
		{"invited", `SELECT i.tenant_id, i.created_at AS at FROM invitations i WHERE i.id = (SELECT min(x.id) FROM invitations x WHERE x.tenant_id = i.tenant_id)`},
		{"paid", `SELECT h.tenant_id, h.at FROM subscription_history h WHERE h.mrr > 0 AND h.at = (SELECT min(x.at) FROM subscription_history x WHERE x.tenant_id = h.tenant_id AND x.mrr > 0)`},
	}
	signed := map[string]time.Time{}
	err = o.Store.ReadStale(domain.System(ctx, "business figures"), func(ctx context.Context) error {
		for _, step := range steps {
			var rows []first
			if err := o.Store.SQL(ctx, step.query, nil).Scan(&rows).Error; err != nil {
				return err
			}
			var waits []time.Duration
			came := map[string]bool{}
			for _, r := range rows {
				if step.name == "signed_up" {
					signed[r.TenantID] = r.At
				}
				if !came[r.TenantID] {
					waits = append(waits, max(0, r.At.Sub(signed[r.TenantID])))
				}
				came[r.TenantID] = true
			}
			f := FunnelStep{Step: step.name, Tenants: int64(len(came))}
			if len(waits) > 0 {
				slices.Sort(waits)
				hours := (waits[(len(waits)-1)/2] + waits[len(waits)/2]).Hours() / 2
				f.MedianHours = &hours
			}
			out.Data = append(out.Data, f)
		}
		return nil
	})
	return out, err
}

// Cohort is the tenants that signed up in one month, and what became of them.
type Cohort struct {
	Month  string  `json:"month"`
	Size   int64   `json:"size"`
	Active []int64 `json:"active" nullable:"false" doc:"that used something in the month of the sign-up, the next, and so on"`
	Paying []int64 `json:"paying" nullable:"false" doc:"that paid at the end of those months"`
}

// Cohorts follow tenants by the month of their sign-up.
func (o *Office) Cohorts(ctx context.Context, _ struct{}) (out domain.Page[Cohort], err error) {
	if err := o.note(ctx, "admin.read_figures", "cohorts", nil); err != nil {
		return out, err
	}
	ctx = domain.System(ctx, "business figures")
	history, err := o.history(ctx)
	if err != nil {
		return out, err
	}
	var tenants []struct {
		ID        string
		CreatedAt time.Time
	}
	var active []struct{ TenantID, Month string }
	err = o.Store.ReadStale(ctx, func(ctx context.Context) error {
		return errors.Join(o.Store.SQL(ctx, `SELECT id, created_at FROM tenants ORDER BY created_at`, nil).Scan(&tenants).Error,
			o.Store.SQL(ctx, `SELECT DISTINCT tenant_id, substr(period, 1, 7) AS month FROM usage_totals WHERE units > 0`, nil).Scan(&active).Error)
	})
	if err != nil {
		return out, err
	}
	of := map[string]string{} // a tenant's month
	at := map[string]int{}
	out.Data = []Cohort{}
	for _, t := range tenants {
		m := t.CreatedAt.UTC().Format("2006-01")
		of[t.ID] = m
		if _, ok := at[m]; !ok {
			at[m] = len(out.Data)
			n := monthsBetween(m, o.Now().UTC().Format("2006-01")) + 1
			out.Data = append(out.Data, Cohort{Month: m, Active: make([]int64, max(n, 1)), Paying: make([]int64, max(n, 1))})
		}
		out.Data[at[m]].Size++
	}
	add := func(list func(*Cohort) []int64, tenant, month string) {
		i, ok := at[of[tenant]]
		if n := monthsBetween(of[tenant], month); ok && n >= 0 && n < len(list(&out.Data[i])) {
			list(&out.Data[i])[n]++
		}
	}
	for _, a := range active {
		add(func(c *Cohort) []int64 { return c.Active }, a.TenantID, a.Month)
	}
	for tenant, months := range paying(history, o.Now()) {
		for _, m := range months {
			add(func(c *Cohort) []int64 { return c.Paying }, tenant, m)
		}
	}
	return out, nil
}

// paying says at the end of which months each tenant paid.
func paying(history []subscriptionChange, now time.Time) map[string][]string {
	history = slices.Clone(history)
	slices.SortStableFunc(history, func(a, b subscriptionChange) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Generation, b.Generation))
	})
	out := map[string][]string{}
	worths := map[string]map[string]int64{} // tenant, subscription
	close := func(month string) {
		for tenant, subs := range worths {
			var sum int64
			for _, n := range subs {
				sum += n
			}
			if sum > 0 {
				out[tenant] = append(out[tenant], month)
			}
		}
	}
	month := ""
	step := func(to string) {
		for month != "" && month < to {
			close(month)
			t, _ := time.Parse("2006-01", month)
			month = t.AddDate(0, 1, 0).Format("2006-01")
		}
		month = to
	}
	for _, h := range history {
		step(h.At.UTC().Format("2006-01"))
		if worths[h.TenantID] == nil {
			worths[h.TenantID] = map[string]int64{}
		}
		worths[h.TenantID][h.Subscription] = h.MRR
	}
	step(now.UTC().Format("2006-01"))
	close(month)
	return out
}

func monthsBetween(from, to string) int {
	a, errA := time.Parse("2006-01", from)
	b, errB := time.Parse("2006-01", to)
	if errA != nil || errB != nil {
		return -1
	}
	return (b.Year()-a.Year())*12 + int(b.Month()) - int(a.Month())
}

// UsageFiguresRequest asks for a span; without one it is the last 30 days.
type UsageFiguresRequest struct {
	From time.Time `query:"from"`
	To   time.Time `query:"to"`
}

// TenantFigures is what a tenant used of a feature, and what that cost us.
type TenantFigures struct {
	TenantID   string `json:"tenant_id"`
	Feature    string `json:"feature" doc:"the meter; other is what belongs to none"`
	Units      int64  `json:"units"`
	CostMicros int64  `json:"cost_usd_micros" doc:"paid to providers, millionths of a US dollar"`
}

// UsageFigures are those of every tenant, and what each paid meanwhile.
type UsageFigures struct {
	From    time.Time       `json:"from"`
	To      time.Time       `json:"to"`
	Data    []TenantFigures `json:"data" nullable:"false"`
	Revenue []TenantRevenue `json:"revenue" nullable:"false"`
}

// TenantRevenue is what a tenant paid in the span, refunds taken off, and its
// gross margin where both are in US dollars.
type TenantRevenue struct {
	TenantID   string   `json:"tenant_id"`
	Currency   string   `json:"currency"`
	Paid       int64    `json:"paid" doc:"minor units"`
	CostMicros int64    `json:"cost_usd_micros"`
	Margin     *float64 `json:"gross_margin" nullable:"true" doc:"share of what was paid; null in other currencies and where nothing was paid"`
}

// UsageReport is what tenants used, what it cost, and what they paid.
func (o *Office) UsageReport(ctx context.Context, in UsageFiguresRequest) (out UsageFigures, err error) {
	if err := o.note(ctx, "admin.read_figures", "usage", nil); err != nil {
		return out, err
	}
	if in.To.IsZero() {
		in.To = o.Now().Truncate(time.Hour).Add(time.Hour)
	}
	if in.From.IsZero() {
		in.From = in.To.AddDate(0, 0, -30)
	}
	out = UsageFigures{From: in.From.UTC(), To: in.To.UTC(), Data: []TenantFigures{}, Revenue: []TenantRevenue{}}
	args := map[string]any{"from": out.From, "to": out.To, "first": out.From.Format("2006-01-02T15"), "last": out.To.Add(time.Hour - time.Nanosecond).Format("2006-01-02T15")}
	var costs []TenantFigures
	err = o.Store.ReadStale(domain.System(ctx, "business figures"), func(ctx context.Context) error {
		return errors.Join(
			o.Store.SQL(ctx, `SELECT tenant_id, meter AS feature, CAST(sum(units) AS bigint) AS units FROM usage_events WHERE hour >= @first AND hour < @last`+hours(o.Store, "first", "last")+` GROUP BY 1, 2 ORDER BY 1, 2`, args).Scan(&out.Data).Error,
			o.Store.SQL(ctx, `SELECT c.tenant_id, coalesce(r.meter, 'other') AS feature, CAST(sum(c.cost_micros) AS bigint) AS cost_micros FROM provider_calls c
				LEFT JOIN research_runs r ON r.tenant_id = c.tenant_id AND r.id = c.run_id WHERE c.sent_at >= @from AND c.sent_at < @to GROUP BY 1, 2 ORDER BY 1, 2`, args).Scan(&costs).Error,
			o.Store.SQL(ctx, `SELECT tenant_id, currency, CAST(sum(amount_paid - refunded) AS bigint) AS paid FROM invoices WHERE paid_at >= @from AND paid_at < @to GROUP BY 1, 2 ORDER BY 1, 2`, args).Scan(&out.Revenue).Error)
	})
	type line struct{ tenant, feature string }
	total, at := map[string]int64{}, map[line]int{}
	for i, u := range out.Data {
		at[line{u.TenantID, u.Feature}] = i
	}
	for _, c := range costs {
		total[c.TenantID] += c.CostMicros
		if i, used := at[line{c.TenantID, c.Feature}]; used {
			out.Data[i].CostMicros = c.CostMicros
		} else {
			out.Data = append(out.Data, c)
		}
	}
	for i, r := range out.Revenue {
		out.Revenue[i].CostMicros = total[r.TenantID]
		if r.Currency == "usd" && r.Paid > 0 {
			margin := 1 - float64(total[r.TenantID])/float64(r.Paid*10_000)
			out.Revenue[i].Margin = &margin
		}
	}
	return out, err
}

// AnalyticsRequest asks a tenant's own use by what it came from.
type AnalyticsRequest struct {
	From time.Time `query:"from" doc:"the first hour; without it the present period's"`
	To   time.Time `query:"to" doc:"the hour after the last"`
	By   string    `query:"by" enum:"actor,meter,day" doc:"actor is a member or an API key, and is what is answered where nothing is asked"`
}

// Slice is what came from one of them.
type Slice struct {
	Of    string `json:"of" doc:"the id of a member's user or of a key, a meter, or a day"`
	Kind  string `json:"kind" enum:"member,key,system,meter,day"`
	Meter string `json:"meter"`
	Units int64  `json:"units"`
}

// Forecast is where a meter will stand at the end of its period, if it goes on
// as in the last seven days.
type Forecast struct {
	Meter     string     `json:"meter"`
	Used      int64      `json:"used"`
	AtEnd     int64      `json:"at_end"`
	Limit     *int64     `json:"limit" nullable:"true"`
	RunsOutAt *time.Time `json:"runs_out_at" nullable:"true" doc:"when the limit is reached; null where it is not in this period"`
	ResetsAt  time.Time  `json:"resets_at"`
}

// Analytics is a tenant's own use.
type Analytics struct {
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	Data     []Slice    `json:"data" nullable:"false"`
	Forecast []Forecast `json:"forecast" nullable:"false"`
}

// Analyse tells a tenant who used what, and where it leads.
func (m *Meter) Analyse(ctx context.Context, in AnalyticsRequest) (out Analytics, err error) {
	plan, err := m.Plans.Entitlements(ctx)
	if err != nil {
		return out, err
	}
	span := UsageRequest{From: in.From, To: in.To, Granularity: "day"}
	if err := span.span(plan.Period); err != nil {
		return out, err
	}
	if err := m.Flush(ctx); err != nil {
		return out, err
	}
	column := map[string]string{"": "actor", "actor": "actor", "meter": "meter", "day": "substr(hour, 1, 10)"}[in.By]
	out = Analytics{From: span.From, To: span.To, Data: []Slice{}, Forecast: []Forecast{}}
	now := m.Now().UTC()
	week := max(now.Add(-7*24*time.Hour).UnixNano(), plan.Period.Start.UnixNano())
	since := time.Unix(0, week).UTC()
	var used map[string]usageTotal
	var lately []struct {
		Meter string
		Units int64
	}
	err = m.Store.ReadStale(ctx, func(ctx context.Context) (err error) {
		args := map[string]any{"from": span.From.Format("2006-01-02T15"), "to": span.To.Add(time.Hour - time.Nanosecond).Format("2006-01-02T15"),
			"since": since.Format("2006-01-02T15"), "period": plan.Period.ID}
		if used, err = m.totals(ctx, plan.Period.ID); err != nil {
			return err
		}
		return errors.Join(
			m.Store.SQL(ctx, `SELECT `+column+` AS of, meter, CAST(sum(units) AS bigint) AS units FROM usage_events
				WHERE tenant_id = @tenant AND hour >= @from AND hour < @to`+hours(m.Store, "from", "to")+` GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 5000`, args).Scan(&out.Data).Error,
			m.Store.SQL(ctx, `SELECT meter, CAST(sum(units) AS bigint) AS units FROM usage_events
				WHERE tenant_id = @tenant AND period = @period AND hour >= @since GROUP BY 1`, args).Scan(&lately).Error)
	})
	if err != nil {
		return out, err
	}
	for i, s := range out.Data {
		switch {
		case in.By == "meter" || in.By == "day":
			out.Data[i].Kind = in.By
		case domain.ValidID("usr", s.Of):
			out.Data[i].Kind = "member"
		case domain.ValidID("key", s.Of):
			out.Data[i].Kind = "key"
		default:
			out.Data[i].Kind = "system"
		}
	}
	speed := map[string]int64{}
	for _, l := range lately {
		speed[l.Meter] = l.Units
	}
	for _, name := range Meters {
		f := forecast(used[name].Units, speed[name], plan.Quotas[name], now.Sub(since), now, plan.Period.End)
		f.Meter = name
		out.Forecast = append(out.Forecast, f)
	}
	return out, nil
}

// forecast goes on with lately units in the elapsed time; under an hour nothing
// can be said.
func forecast(used, lately, limit int64, elapsed time.Duration, now, end time.Time) Forecast {
	f := Forecast{Used: used, AtEnd: used, ResetsAt: end}
	if limit >= 0 {
		f.Limit = &limit
	}
	perHour := 0.0
	if elapsed >= time.Hour {
		perHour = float64(max(lately, 0)) / elapsed.Hours()
	}
	f.AtEnd = used + int64(perHour*end.Sub(now).Hours())
	if limit >= 0 && perHour > 0 && f.AtEnd >= limit {
		at := now.Add(time.Duration(float64(max(0, limit-used)) / perHour * float64(time.Hour)))
		f.RunsOutAt = &at
	}
	return f
}
