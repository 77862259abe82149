package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Limit bounds what a vendor is asked in a period. Zero is no bound.
type Limit struct {
	Calls  int64 `json:"calls"`
	Micros int64 `json:"cost_micros"` // millionths of a US dollar
}

// Limits of one vendor: for all tenants together and for each.
type Limits struct {
	Hour, Day             Limit
	TenantHour, TenantDay Limit
}

// DefaultLimits hold where an operator sets none, so that no mistake of ours or of
// a customer's spends without end.
const DefaultLimits = "gemini.day_usd=200,gemini.tenant_day_usd=50,openai.day_usd=200,openai.tenant_day_usd=50,brightdata.day_usd=200,brightdata.tenant_day_usd=50,linkup.day_usd=200,linkup.tenant_day_usd=50"

// ParseLimits reads limits as they are written in settings:
// linkup.day_calls=1000, gemini.tenant_day_usd=20.
func ParseLimits(s string) (map[string]Limits, error) {
	out := map[string]Limits{}
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		what, number, _ := strings.Cut(part, "=")
		vendor, bound, _ := strings.Cut(what, ".")
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || n <= 0 || n > 1e9 || !slices.Contains(Names, vendor) {
			return nil, fmt.Errorf("limit %q: want vendor.bound=number, with a vendor of %v", part, Names)
		}
		l := out[vendor]
		period, kind, _ := strings.Cut(strings.TrimPrefix(bound, "tenant_"), "_")
		to := map[string]*Limit{"hour": &l.Hour, "day": &l.Day, "tenant_hour": &l.TenantHour, "tenant_day": &l.TenantDay}[strings.TrimSuffix(bound, "_"+kind)]
		switch {
		case to == nil || period == "":
			return nil, fmt.Errorf("limit %q: no such bound", part)
		case kind == "calls":
			to.Calls = int64(n)
		case kind == "usd":
			to.Micros = int64(n * 1e6)
		default:
			return nil, fmt.Errorf("limit %q: no such bound", part)
		}
		out[vendor] = l
	}
	return out, nil
}

// ledger is what was asked of vendors and what it cost: rows in the database,
// so that processes share it and nothing forgets it. A call's worst cost is
// booked against four budgets and its row written in one transaction before the
// request is sent; what it really cost is put right afterwards. Two processes
// cannot both take the last call of a budget: each booking is one conditional
// UPDATE of the budget's row.
type ledger struct {
	st     *store.Store
	limits atomic.Pointer[map[string]Limits]
	now    func() time.Time
	log    *slog.Logger
	warned func(provider string)
}

func (l *ledger) limitsOf(provider string) Limits { return (*l.limits.Load())[provider] }

// entry is one request.
type entry struct {
	id        string
	tenant    string
	provider  string
	operation string
	call      research.Call
	attempt   int
	model     string
	key       string
	sandbox   bool
	reserved  int64
	sentAt    time.Time
}

// outcome is how it ended.
type outcome struct {
	failure *Failure // nil is success
	status  int
	spent   spent
}

// spent is what an answer says it cost.
type spent struct {
	model         string
	input, output int64
	micros        int64
	known         bool // the vendor said, or it is known that this is not billed
}

// periods are calendar hours and days in UTC, so that every process agrees on
// the row.
var periods = []struct {
	name   string
	length time.Duration
}{{"day", 24 * time.Hour}, {"hour", time.Hour}}

// reserve books the request's worst cost and one call, or refuses.
func (l *ledger) reserve(ctx context.Context, e *entry) error {
	if l.st.InTx(ctx) {
		return errors.New("provider: a vendor is called inside a transaction")
	}
	e.id, e.sentAt = domain.NewID("prc"), l.now().UTC().Truncate(time.Microsecond)
	limits := l.limitsOf(e.provider)
	return l.st.Tx(domain.System(ctx, "provider ledger"), func(ctx context.Context) error {
		// The tenant's own rows first and those that all share last, so that these
		// are locked for the shortest time.
		if err := l.book(ctx, e, e.tenant, 1, e.reserved, limits.TenantDay, limits.TenantHour); err != nil {
			return err
		}
		_, err := l.st.Exec(ctx, `INSERT INTO provider_calls (tenant_id, id, run_id, step, attempt, provider, operation, model, key_label, state, reserved_micros, cost_micros, estimated, sandbox, sent_at)
			VALUES (@owner, @id, @run, @step, @attempt, @provider, @operation, @model, @key, 'sent', @reserved, @reserved, @yes, @sandbox, @at)`,
			map[string]any{"owner": e.tenant, "id": e.id, "run": e.call.Run, "step": e.call.Step, "attempt": e.attempt, "provider": e.provider, "operation": e.operation,
				"model": e.model, "key": e.key, "reserved": e.reserved, "yes": true, "sandbox": e.sandbox, "at": e.sentAt})
		if err != nil {
			return err
		}
		return l.book(ctx, e, "", 1, e.reserved, limits.Day, limits.Hour)
	})
}

// book adds calls and cost to the budgets of the day and the hour in which e
// was sent, or refuses what goes beyond one of them. tenant is "" for those of
// all. Its rows are always locked in one order, the day's first: two bookings
// cannot wait for each other.
func (l *ledger) book(ctx context.Context, e *entry, tenant string, calls, micros int64, day, hour Limit) error {
	table, owner, value := "provider_spend", "", ""
	if tenant != "" {
		table, owner, value = "provider_tenant_spend", "tenant_id, ", "@owner, "
	}
	args := map[string]any{"owner": tenant, "provider": e.provider, "calls": calls, "cost": micros,
		"dayCalls": day.Calls, "dayCost": day.Micros, "hourCalls": hour.Calls, "hourCost": hour.Micros}
	for _, p := range periods {
		args[p.name] = e.sentAt.Truncate(p.length).Unix()
	}
	bound := func(day, hour string) string { // of the row's own period
		return "(CASE " + table + ".period WHEN 'day' THEN CAST(" + day + " AS bigint) ELSE CAST(" + hour + " AS bigint) END)"
	}
	mostCalls, mostCost := bound("@dayCalls", "@hourCalls"), bound("@dayCost", "@hourCost")
	var after []struct {
		Period            string
		Calls, CostMicros int64
	}
	err := l.st.SQL(ctx, `INSERT INTO `+table+` (`+owner+`provider, period, starts, calls, cost_micros)
		VALUES (`+value+`@provider, 'day', @day, @calls, @cost), (`+value+`@provider, 'hour', @hour, @calls, @cost)
		ON CONFLICT (`+owner+`provider, period, starts) DO UPDATE SET calls = `+table+`.calls + @calls, cost_micros = `+table+`.cost_micros + @cost
		WHERE (`+mostCalls+` = 0 OR `+table+`.calls + @calls <= `+mostCalls+`) AND (`+mostCost+` = 0 OR `+table+`.cost_micros + @cost <= `+mostCost+`)
		RETURNING period, calls, cost_micros`, args).Scan(&after).Error
	if err != nil {
		return err
	}
	for i, limit := range []Limit{day, hour} {
		p := periods[i]
		row := slices.IndexFunc(after, func(a struct {
			Period            string
			Calls, CostMicros int64
		}) bool {
			return a.Period == p.name
		})
		if row < 0 || limit.Micros > 0 && after[row].CostMicros > limit.Micros { // the second where one call costs more than the period may
			whose := "The budget for the provider %s is used up for this %s."
			if tenant != "" {
				whose = "Your budget for the provider %s is used up for this %s."
			}
			starts := e.sentAt.Truncate(p.length)
			return domain.E(domain.TooMany, "provider_budget_exceeded", whose, e.provider, p.name).After(starts.Add(p.length).Sub(e.sentAt))
		}
		if now := after[row]; warns(now.Calls, calls, limit.Calls) || warns(now.CostMicros, micros, limit.Micros) {
			l.st.AfterCommit(ctx, func() {
				l.log.WarnContext(ctx, "80 % of a provider's budget is used", "provider", e.provider, "period", p.name, "tenant", tenant,
					"calls", now.Calls, "calls_limit", limit.Calls, "cost_micros", now.CostMicros, "cost_micros_limit", limit.Micros)
				l.warned(e.provider)
			})
		}
	}
	return nil
}

// warns reports whether adding took the use across 80 % of the limit.
func warns(now, added, limit int64) bool {
	return limit > 0 && now*5 >= limit*4 && (now-added)*5 < limit*4
}

// settle writes how the request ended and gives back what it did not cost. It
// also runs when the caller has gone.
func (l *ledger) settle(ctx context.Context, e *entry, o outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	state, reason := "succeeded", ""
	if o.failure != nil {
		state, reason = "failed", string(o.failure.Reason)
	}
	cost := e.reserved
	if o.spent.known {
		cost = o.spent.micros
	}
	model := e.model
	if o.spent.model != "" {
		model = o.spent.model
	}
	return l.st.Tx(domain.System(ctx, "provider ledger"), func(ctx context.Context) error {
		n, err := l.st.Exec(ctx, `UPDATE provider_calls SET state = @state, reason = @reason, http_status = @status, model = @model, input_tokens = @input, output_tokens = @output,
			cost_micros = @cost, estimated = @estimated, ended_at = @at WHERE tenant_id = @owner AND id = @id AND state = 'sent'`,
			map[string]any{"state": state, "reason": reason, "status": o.status, "model": model, "input": o.spent.input, "output": o.spent.output, "cost": cost,
				"estimated": !o.spent.known, "at": l.now().UTC().Truncate(time.Microsecond), "owner": e.tenant, "id": e.id})
		if err != nil || n == 0 || cost == e.reserved {
			return err
		}
		if err := l.book(ctx, e, e.tenant, 0, cost-e.reserved, Limit{}, Limit{}); err != nil {
			return err
		}
		return l.book(ctx, e, "", 0, cost-e.reserved, Limit{}, Limit{})
	})
}

// Budget is how much of a vendor's budget is used in the present period.
type Budget struct {
	Calls      int64     `json:"calls"`
	CallsLimit int64     `json:"calls_limit" doc:"0 is none"`
	CostMicros int64     `json:"cost_micros" doc:"millionths of a US dollar; calls under way count at their worst cost"`
	CostLimit  int64     `json:"cost_micros_limit" doc:"0 is none"`
	State      string    `json:"state" enum:"unlimited,ok,warning,used_up" doc:"warning from 80 % on; used up: calls are refused until resets_at"`
	ResetsAt   time.Time `json:"resets_at"`
}

func (b *Budget) state() string {
	reached := func(tenths int64) bool {
		return b.CallsLimit > 0 && b.Calls*10 >= b.CallsLimit*tenths || b.CostLimit > 0 && b.CostMicros*10 >= b.CostLimit*tenths
	}
	switch {
	case b.CallsLimit == 0 && b.CostLimit == 0:
		return "unlimited"
	case reached(10):
		return "used_up"
	case reached(8):
		return "warning"
	}
	return "ok"
}

func (l *ledger) budgets(ctx context.Context, provider string) (hour, day Budget, err error) {
	now := l.now().UTC()
	out := []*Budget{&day, &hour}
	for i, limit := range []Limit{l.limitsOf(provider).Day, l.limitsOf(provider).Hour} {
		starts := now.Truncate(periods[i].length)
		var rows []struct{ Calls, CostMicros int64 }
		err := l.st.SQL(ctx, "SELECT calls, cost_micros FROM provider_spend WHERE provider = @provider AND period = @period AND starts = @starts",
			map[string]any{"provider": provider, "period": periods[i].name, "starts": starts.Unix()}).Scan(&rows).Error
		if err != nil {
			return hour, day, err
		}
		*out[i] = Budget{CallsLimit: limit.Calls, CostLimit: limit.Micros, ResetsAt: starts.Add(periods[i].length)}
		if len(rows) > 0 {
			out[i].Calls, out[i].CostMicros = rows[0].Calls, rows[0].CostMicros
		}
		out[i].State = out[i].state()
	}
	return hour, day, nil
}
