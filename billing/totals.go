package billing

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// usageTotal is what the ledger adds up to for a meter and period, and what of
// it goes beyond the quota and onto invoices (overage.go).
type usageTotal struct {
	store.Owned
	Meter        string `gorm:"primaryKey"`
	Period       string `gorm:"primaryKey"`
	Units        int64
	Alerted      int64
	Quota        int64
	Subscription string
	Currency     string
	Price        string
	Amount       int64
	Per          int64
	BillStart    *time.Time
	BillEnd      *time.Time
	Beyond       int64
	Packages     int64
	Reported     int64
	Sending      int64
	Sequence     int64
	SentAt       *time.Time
	Late         int64
	SettledAt    *time.Time
}

// shares of a quota, in percent, of which people are told once each.
var shares = []int64{50, 75, 90, 100}

// AlertJob tells people that a share of a quota is used.
type AlertJob struct {
	Tenant, Meter, Period string
	Percent, Used, Quota  int64
	Overage               bool // what goes beyond is paid, and does not stop
	Ends                  time.Time
}

// Kind is the queue's.
func (AlertJob) Kind() string { return "billing.alert" }

const (
	intoTotalsSQLite = `INSERT INTO usage_totals (tenant_id, meter, period, units) SELECT tenant_id, m, p, u
		FROM (SELECT value ->> 't' AS tenant_id, value ->> 'm' AS m, value ->> 'p' AS p, value ->> 'u' AS u FROM json_each(@rows)) AS x`
	intoTotalsPostgres = `INSERT INTO usage_totals (tenant_id, meter, period, units) SELECT t, m, p, u
		FROM (SELECT t AS tenant_id, t, m, p, u FROM jsonb_to_recordset(CAST(@rows AS jsonb)) AS r(t text, m text, p text, u bigint)) AS x`
	addTotals = ` WHERE @tenant = '' OR tenant_id = @tenant
		ON CONFLICT (tenant_id, meter, period) DO UPDATE SET units = usage_totals.units + excluded.units
		RETURNING tenant_id, meter, period, units, alerted, quota, per, beyond`
)

// account adds to the totals what was written to the ledger in the caller's
// transaction, and sees to what that sets off: what goes beyond a quota and is
// paid for, and who is to be told. Rows are taken in one order, so that two
// writers never wait for each other in a circle.
func (m *Meter) account(ctx context.Context, sums map[purseKey]int64) error {
	rows := make([]ledgerRow, 0, len(sums))
	for k, units := range sums {
		rows = append(rows, ledgerRow{Tenant: k.tenant, Meter: k.meter, Period: k.period, Units: units})
	}
	slices.SortFunc(rows, func(a, b ledgerRow) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.Period, b.Period))
	})
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	insert := intoTotalsSQLite
	if m.Store.Dialect() == store.Postgres {
		insert = intoTotalsPostgres
	}
	var now []usageTotal
	if err := m.Store.SQL(ctx, insert+addTotals, map[string]any{"rows": string(text)}).Scan(&now).Error; err != nil {
		return err
	}
	m.Store.AfterCommit(ctx, func() {
		for k, units := range sums {
			m.Counted(k.meter, units)
		}
	})
	for _, t := range now {
		if err := m.crossed(ctx, t, sums[purseKey{t.TenantID, t.Meter, t.Period}]); err != nil {
			return err
		}
	}
	return nil
}

// crossed sees to the limits that a total has just passed by the units.
func (m *Meter) crossed(ctx context.Context, t usageTotal, units int64) error {
	plan, err := m.Plans.entitlements(ctx, t.TenantID)
	if err != nil {
		return err
	}
	set := map[string]any{}
	o, pays := plan.paid[t.Meter]
	present := plan.Period.ID == t.Period // else late: what the plan said then is in the row
	if present {
		if quota := plan.Quotas[t.Meter]; quota != t.Quota {
			t.Quota, set["quota"] = quota, quota
		}
		if pays && t.Beyond == 0 && t.Per != o.per {
			t.Per = o.per
			set["per"], set["subscription"], set["currency"], set["price"], set["amount"] = o.per, o.subscription, o.currency, o.price, o.amount
			set["bill_start"], set["bill_end"] = o.bill.Start, o.bill.End
		}
		if !pays && t.Beyond == 0 && t.Per != 0 {
			t.Per, set["per"] = 0, 0
		}
	}
	if t.Quota >= 0 && t.Per > 0 && (pays || !present) {
		was, is := max(0, t.Units-units-t.Quota), max(0, t.Units-t.Quota)
		if beyond := max(0, t.Beyond+is-was); beyond != t.Beyond {
			set["beyond"], set["packages"], set["settled_at"] = beyond, (beyond+t.Per-1)/t.Per, nil
		}
	}
	if told := reached(t.Units, t.Quota); present && told > t.Alerted {
		set["alerted"] = told
		if m.Queue != nil {
			job := AlertJob{t.TenantID, t.Meter, t.Period, told, t.Units, t.Quota, pays, plan.Period.End}
			if err := m.Queue.Enqueue(ctx, job, domain.JobOptions{Priority: 2}); err != nil {
				return err
			}
		}
	}
	if len(set) == 0 {
		return nil
	}
	return m.Store.For(ctx).Model(&usageTotal{}).Where("tenant_id = ? AND meter = ? AND period = ?", t.TenantID, t.Meter, t.Period).Updates(set).Error
}

// reached is the highest share that is used, 0 where none is.
func reached(units, quota int64) (percent int64) {
	for _, s := range shares {
		if quota > 0 && units*100 >= quota*s {
			percent = s
		}
	}
	return percent
}

// totals reads those of the scope's tenant for a period, by meter; the caller
// has the transaction.
func (m *Meter) totals(ctx context.Context, period string) (map[string]usageTotal, error) {
	var rows []usageTotal
	err := m.Store.For(ctx).Where("period = ?", period).Find(&rows).Error
	out := map[string]usageTotal{}
	for _, r := range rows {
		out[r.Meter] = r
	}
	return out, err
}

// Balanced holds what the ledger adds up to against the totals that are kept of it,
// from a period on, and gives how many lines it has. It reads all of it: it is for
// a restored system, not for a busy one.
func (m *Meter) Balanced(ctx context.Context, since string) (lines int64, err error) {
	var wrong []struct {
		TenantID, Meter, Period string
		Ledger, Total           int64
	}
	err = m.Store.Snapshot(domain.System(ctx, "does the ledger add up"), func(ctx context.Context) error {
		if err := m.Store.SQL(ctx, "SELECT count(*) FROM usage_events", nil).Scan(&lines).Error; err != nil {
			return err
		}
		return m.Store.SQL(ctx, `SELECT tenant_id, meter, period, CAST(sum(ledger) AS bigint) AS ledger, CAST(sum(total) AS bigint) AS total
			FROM (SELECT tenant_id, meter, period, units AS ledger, 0 AS total FROM usage_events WHERE period >= @since
				UNION ALL SELECT tenant_id, meter, period, 0, units FROM usage_totals WHERE period >= @since) AS x
			GROUP BY 1, 2, 3 HAVING sum(ledger) <> sum(total) ORDER BY 1, 2, 3 LIMIT 1`, map[string]any{"since": since}).Scan(&wrong).Error
	})
	if err == nil && len(wrong) > 0 {
		w := wrong[0]
		err = fmt.Errorf("billing: the ledger of %s has %d units of %s in %s, and its total says %d", w.TenantID, w.Ledger, w.Meter, w.Period, w.Total)
	}
	return lines, err
}
