package billing

// How a quota stays exact while counters vanish and processes die.
//
// Units are handed out before they are spent. A purse is a number of units that
// the database took off the quota for it: one conditional update of
// quota_grants, so that the sum of all purses never passes the quota. Calls draw
// from a purse: from the one in Redis that all processes share, or, while Redis
// is away, from one that belongs to this process alone. Whatever becomes of a
// purse, no more can be drawn from it than was granted to it; so nothing that is
// lost, emptied, restored from an old copy or killed can let more calls in than
// the quota. It can only strand units that were granted and never used.
//
// What the counters lost is noticed by whatever comes to the purse next: new
// units for one that should hold some, or units that are given back, find it
// gone (ErrLost), and a call whose answer was lost leaves its purse in doubt.
//
// Stranded units come home by settlement. A purse that is replaced is closed.
// Once no process can draw from it any more, and everything that was drawn from
// it and used is in the ledger, what it used is the ledger's sum for its number,
// and the rest goes back to the quota. Both are known without clocks and without
// asking anybody, by marks:
//
//   - A closed purse is given a mark, from a counter in the database.
//   - A process reads the present mark m with the purses closed up to it, and
//     from then on draws from none of them: a purse is drawn from only after this
//     process has seen it open in the database, and what it believes of a closed
//     one is dropped in the same step that starts a new epoch.
//   - Every admission belongs to the epoch in which it began, before it asked the
//     counters. When those of older epochs have all ended, each in the log or
//     released, and the log is in the ledger, the process reports floor m.
//   - A purse is settled when its mark is at most every writer's floor.
//
// A process that died is a writer whose floor stands still, and whose row goes
// only after its log was moved to the ledger. What it had drawn and not used is
// in no log; so whoever moves the log also closes all shared purses, which brings
// those units home as well.

import (
	"context"
	"maps"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// purseKey says whose purses: of one tenant, meter and period.
type purseKey struct{ tenant, meter, period string }

type quotaGrant struct {
	store.Owned
	Meter   string `gorm:"primaryKey"`
	Period  string `gorm:"primaryKey"`
	Granted int64
	Newest  int64
}

type quotaPurse struct {
	store.Owned
	Meter   string `gorm:"primaryKey"`
	Period  string `gorm:"primaryKey"`
	Number  int64  `gorm:"primaryKey"`
	Owner   string
	Granted int64
	Closed  bool
	Mark    int64
}

// Fill is what was granted to a purse just now.
type Fill struct {
	Tenant, Meter, Period string
	Number, Units         int64
	Before                int64 // granted to this purse until now
	Total                 int64 // granted to all purses of the key
	Quota                 int64 // the limit by which Full was judged
	Full                  bool  // the quota has no more to hand out
}

// unlimited stands for a quota without limit: such calls are counted in purses
// too, so that a limit that is set in mid-period finds the truth.
const unlimited = int64(1) << 50

// chunk is how much is granted at once: enough that the database is seldom
// asked, and little enough that what a lost purse strands is small.
func chunk(quota int64) int64 { return min(max(quota/50, 1), 2000) }

// grant hands out at least need units of the quota, where there are so many, to
// the purse of the key with the number or to the one that followed it; where
// none of them is open, to a new one.
// healing says that units of closed purses may still come home.
func (m *Meter) grant(ctx context.Context, k purseKey, owner string, number, need, quota int64) (f Fill, healing bool, err error) {
	f = Fill{Tenant: k.tenant, Meter: k.meter, Period: k.period, Quota: quota}
	limit := quota
	if quota < 0 {
		limit = unlimited
	}
	err = m.Store.Tx(ctx, func(ctx context.Context) error {
		db := m.Store.For(ctx)
		var g quotaGrant
		find := func() error {
			return db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("meter = ? AND period = ?", k.meter, k.period).Limit(1).Find(&g).Error
		}
		if err := find(); err != nil {
			return err
		}
		if g.Meter == "" { // what was used before there were purses counts as handed out
			_, err := m.Store.Exec(ctx, `INSERT INTO quota_grants (tenant_id, meter, period, granted, newest)
				SELECT @tenant, @meter, @period, coalesce(sum(units), 0), 0 FROM usage_events WHERE tenant_id = @tenant AND meter = @meter AND period = @period
				ON CONFLICT DO NOTHING`, map[string]any{"meter": k.meter, "period": k.period})
			if err != nil {
				return err
			}
			if err := find(); err != nil {
				return err
			}
		}
		var p quotaPurse
		if err := db.Where("meter = ? AND period = ? AND number >= ? AND owner = ? AND closed = ?", k.meter, k.period, number, owner, false).
			Order("number DESC").Limit(1).Find(&p).Error; err != nil {
			return err
		}
		if p.Number == 0 {
			if err := db.Model(&quotaPurse{}).Where("meter = ? AND period = ? AND owner = ? AND closed = ?", k.meter, k.period, owner, false).Update("closed", true).Error; err != nil {
				return err
			}
			g.Newest++
			p = quotaPurse{Meter: k.meter, Period: k.period, Number: g.Newest, Owner: owner}
			if err := db.Create(&p).Error; err != nil {
				return err
			}
		}
		f.Number, f.Before = p.Number, p.Granted
		f.Units = max(0, min(max(need, chunk(limit)), limit-g.Granted))
		f.Total = g.Granted + f.Units
		f.Full = f.Total >= limit
		if err := db.Model(&quotaGrant{}).Where("meter = ? AND period = ?", k.meter, k.period).Updates(map[string]any{"granted": f.Total, "newest": g.Newest}).Error; err != nil {
			return err
		}
		if err := db.Model(&quotaPurse{}).Where("meter = ? AND period = ? AND number = ?", k.meter, k.period, p.Number).Update("granted", p.Granted+f.Units).Error; err != nil {
			return err
		}
		if f.Units < need {
			var closed int64
			err := db.Model(&quotaPurse{}).Where("meter = ? AND period = ? AND closed = ?", k.meter, k.period, true).Count(&closed).Error
			healing = closed > 0
			return err
		}
		return nil
	})
	f.Full = f.Full && !healing
	return f, healing, err
}

// believe reports whether the purse is open. The database is asked once for
// each purse; the answer is kept unless an epoch began meanwhile, in which the
// purse may have been closed.
func (m *Meter) believe(ctx context.Context, k purseKey, number, epoch int64) (bool, error) {
	m.mu.Lock()
	known := m.believed[k] == number
	m.mu.Unlock()
	if known {
		return true, nil
	}
	var p quotaPurse
	err := m.Store.Read(ctx, func(ctx context.Context) error {
		return m.Store.For(ctx).Where("meter = ? AND period = ? AND number = ? AND closed = ?", k.meter, k.period, number, false).Limit(1).Find(&p).Error
	})
	if err != nil || p.Number == 0 {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch == epoch {
		if len(m.believed) > 100_000 {
			clear(m.believed)
		}
		m.believed[k] = number
	}
	return true, nil
}

// begin opens an admission in the present epoch; end ends it.
func (m *Meter) begin() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[m.epoch]++
	return m.epoch
}

func (m *Meter) end(epoch int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[epoch]--; m.open[epoch] == 0 {
		delete(m.open, epoch)
	}
}

// settlement brings stranded units home, as far as that is possible now: marks
// for closed purses, this process's floor, and the purses that every writer is
// done with. It is cheap where nothing is closed.
func (m *Meter) settlement(ctx context.Context) error {
	m.settling.Lock()
	defer m.settling.Unlock()
	ctx = domain.System(ctx, "settle quotas")
	if err := m.closeSome(ctx); err != nil {
		return err
	}
	var now struct{ Mark, Unmarked, Closed int64 }
	var writers []string
	err := m.Store.Read(ctx, func(ctx context.Context) error {
		if err := m.Store.SQL(ctx, `SELECT id FROM usage_writers ORDER BY id`, nil).Scan(&writers).Error; err != nil {
			return err
		}
		m.mu.Lock()
		m.writers = writers
		m.mu.Unlock()
		return m.Store.SQL(ctx, `SELECT (SELECT mark FROM usage_marks WHERE id = 1) AS mark,
			(SELECT count(*) FROM quota_purses WHERE closed AND mark = 0) AS unmarked, (SELECT count(*) FROM quota_purses WHERE closed) AS closed`, nil).Scan(&now).Error
	})
	if err != nil || now.Closed == 0 && now.Mark == m.floor {
		return err
	}
	if now.Unmarked > 0 {
		err := m.Store.Tx(ctx, func(ctx context.Context) error {
			// Holding the one row until the commit orders the marks.
			if _, err := m.Store.Exec(ctx, `UPDATE usage_marks SET mark = mark + 1 WHERE id = @one`, map[string]any{"one": 1}); err != nil {
				return err
			}
			_, err := m.Store.Exec(ctx, `UPDATE quota_purses SET mark = (SELECT mark FROM usage_marks WHERE id = @one) WHERE closed AND mark = 0`, map[string]any{"one": 1})
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := m.raiseFloor(ctx); err != nil {
		return err
	}
	return m.settle(ctx)
}

// closeSome closes the purses that may lack units.
func (m *Meter) closeSome(ctx context.Context) error {
	m.mu.Lock()
	torn := m.torn
	m.torn = map[PurseOf]bool{}
	m.mu.Unlock()
	for k := range torn {
		err := m.Store.Tx(ctx, func(ctx context.Context) error {
			return m.Store.For(ctx).Model(&quotaPurse{}).Where("tenant_id = ? AND meter = ? AND period = ? AND (number = ? OR ? = 0 AND owner = '') AND closed = ?",
				k.Tenant, k.Meter, k.Period, k.Number, k.Number, false).Update("closed", true).Error
		})
		if err != nil {
			m.mu.Lock()
			maps.Copy(m.torn, torn) // what was closed already is closed once more
			m.mu.Unlock()
			return err
		}
	}
	return nil
}

// raiseFloor drops what is believed of purses that are closed now, starts an
// epoch, and reports the mark that an earlier epoch was started for once nothing
// older is open and the log is in the ledger.
func (m *Meter) raiseFloor(ctx context.Context) error {
	var mark int64
	var closed []quotaPurse
	err := m.Store.Tx(ctx, func(ctx context.Context) error { // one moment: nobody marks while the row is held
		if err := m.Store.SQL(ctx, `SELECT mark FROM usage_marks WHERE id = 1`+m.forUpdate(), nil).Scan(&mark).Error; err != nil {
			return err
		}
		if mark == m.target {
			return nil
		}
		return m.Store.For(ctx).Where("closed = ? AND mark > ? AND mark <= ?", true, m.floor, mark).Find(&closed).Error
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	if mark != m.target {
		for _, p := range closed {
			k := purseKey{p.TenantID, p.Meter, p.Period}
			if m.believed[k] == p.Number {
				delete(m.believed, k)
			}
		}
		m.epoch++
		m.target, m.targetEpoch = mark, m.epoch
	}
	for epoch := range m.open {
		if epoch < m.targetEpoch {
			m.mu.Unlock()
			return nil // the next round finds it ended
		}
	}
	m.mu.Unlock()
	if m.floor == m.target {
		return nil
	}
	if err := m.Flush(ctx); err != nil {
		return err
	}
	err = m.Store.Tx(ctx, func(ctx context.Context) error {
		_, err := m.Store.Exec(ctx, `UPDATE usage_writers SET floor = @mark WHERE id = @id`, map[string]any{"mark": m.target, "id": m.id})
		return err
	})
	if err == nil {
		m.floor = m.target
	}
	return err
}

func (m *Meter) forUpdate() string {
	if m.Store.Dialect() == store.Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// settle gives back to the quotas what closed purses did not use, where every
// writer is done with them.
func (m *Meter) settle(ctx context.Context) error {
	var done []quotaPurse
	err := m.Store.Read(ctx, func(ctx context.Context) error {
		return m.Store.SQL(ctx, `SELECT tenant_id, meter, period, number FROM quota_purses
			WHERE closed AND mark > 0 AND mark <= (SELECT coalesce(min(floor), 0) FROM usage_writers) ORDER BY mark LIMIT 1000`, nil).Scan(&done).Error
	})
	if err != nil {
		return err
	}
	for _, p := range done {
		err := m.Store.Tx(ctx, func(ctx context.Context) error {
			args := map[string]any{"t": p.TenantID, "meter": p.Meter, "period": p.Period, "number": p.Number}
			// The grant is locked first, in a statement of its own: what follows then
			// sees the purse as its last grant left it.
			var lock int64
			err := m.Store.SQL(ctx, `SELECT granted FROM quota_grants WHERE tenant_id = @t AND meter = @meter AND period = @period`+m.forUpdate(), args).Scan(&lock).Error
			if err != nil {
				return err
			}
			_, err = m.Store.Exec(ctx, `UPDATE quota_grants SET granted = granted
				- coalesce((SELECT granted FROM quota_purses WHERE tenant_id = @t AND meter = @meter AND period = @period AND number = @number), 0)
				+ CASE WHEN EXISTS (SELECT 1 FROM quota_purses WHERE tenant_id = @t AND meter = @meter AND period = @period AND number = @number)
				  THEN (SELECT CAST(coalesce(sum(units), 0) AS bigint) FROM usage_events WHERE tenant_id = @t AND meter = @meter AND period = @period AND purse = @number) ELSE 0 END
				WHERE tenant_id = @t AND meter = @meter AND period = @period`, args)
			if err != nil {
				return err
			}
			n, err := m.Store.Exec(ctx, `DELETE FROM quota_purses WHERE tenant_id = @t AND meter = @meter AND period = @period AND number = @number`, args)
			if err == nil && n == 0 {
				return errSettled // another process was first: nothing of this one's stays
			}
			return err
		})
		if err != nil && err != errSettled {
			return err
		}
	}
	return nil
}

var errSettled = domain.E(domain.Conflict, "conflict", "There is such an object already.")

// goHome closes what this process alone draws from, since the shared counters
// are back.
func (m *Meter) goHome(ctx context.Context) error {
	m.local.empty()
	return m.Store.Tx(domain.System(ctx, "the shared counters are back"), func(ctx context.Context) error {
		_, err := m.Store.Exec(ctx, `UPDATE quota_purses SET closed = @yes WHERE owner = @id AND NOT closed`, map[string]any{"yes": true, "id": m.id})
		return err
	})
}
