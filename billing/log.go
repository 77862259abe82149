package billing

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// entry is what one call used: one line of the log.
type entry struct {
	N      int64   `json:"n"` // counts up in one log
	Tenant string  `json:"t"`
	Actor  string  `json:"a"`
	At     int64   `json:"at"` // unix milliseconds
	Period string  `json:"p"`
	Used   []spent `json:"u"`
}

type spent struct {
	Meter string `json:"m"`
	Units int64  `json:"u"`
	Purse int64  `json:"b"`
}

// usageEvent is a row of the ledger. Calls of a metered route have one each, so
// that every unit of a bill can be shown; api_requests are summed by flush,
// hour and actor.
type usageEvent struct {
	store.Owned
	ID         string `gorm:"primaryKey"`
	Meter      string
	Units      int64
	Period     string
	Hour       string
	Actor      string
	OccurredAt time.Time
	Purse      int64
}

// usageWriter is this process, as the others see it.
type usageWriter struct {
	ID        string `gorm:"primaryKey"`
	Moved     int64
	Floor     int64
	StartedAt time.Time
}

// openLog makes this process a writer. The row stands before the file has its
// name, so that a log without a row is one whose events are all in the ledger.
func (m *Meter) openLog(ctx context.Context) error {
	m.id = domain.NewID("use")
	err := m.Store.Tx(domain.System(ctx, "usage writer"), func(ctx context.Context) error {
		if err := m.Store.SQL(ctx, `SELECT mark FROM usage_marks WHERE id = 1`+m.forUpdate(), nil).Scan(&m.floor).Error; err != nil {
			return err
		}
		m.target = m.floor
		return m.Store.For(ctx).Create(&usageWriter{m.id, 0, m.floor, m.Now().UTC()}).Error
	})
	if err != nil {
		return err
	}
	// Locked before it has the name that other processes look for.
	m.path = filepath.Join(m.Folder, m.id+".log")
	f, err := os.OpenFile(m.path+".new", os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	m.log = f
	return os.Rename(m.path+".new", m.path)
}

// append makes an entry durable. One write: a kill leaves the line whole, or
// without its end and unacknowledged. After a write that failed, which a full
// disk leaves half done, nothing is written until the half line is off again.
func (m *Meter) append(e entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halved {
		if err := m.log.Truncate(m.size); err != nil {
			return err
		}
		m.halved = false
	}
	e.N = m.next + 1
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	n, err := m.log.Write(append(line, '\n'))
	if err != nil {
		m.halved = true
		return err
	}
	m.next = e.N
	m.size += int64(n)
	m.pending = append(m.pending, e)
	return nil
}

// Flush moves the log to the ledger. The writer's row says how far, in the same
// transaction: whatever is killed in between, each event is there once.
func (m *Meter) Flush(ctx context.Context) error {
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	m.mu.Lock()
	entries := m.pending[:len(m.pending):len(m.pending)]
	m.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	err := m.Store.Tx(domain.System(ctx, "usage ledger"), func(ctx context.Context) error {
		_, left, err := m.ahead(ctx, m.id, entries) // a commit whose answer was lost may have been made
		if err != nil || len(left) == 0 {
			return err
		}
		return m.move(ctx, m.id, left)
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append([]entry(nil), m.pending[len(entries):]...)
	if len(m.pending) > 0 {
		return nil
	}
	m.size, m.halved = 0, true // the half line of a write that failed goes too
	if err := m.log.Truncate(0); err != nil {
		return err
	}
	m.halved = false
	return nil
}

// ahead gives the mark of a writer, and what of its entries the ledger has not got.
func (m *Meter) ahead(ctx context.Context, writer string, entries []entry) (w usageWriter, left []entry, err error) {
	err = m.Store.For(ctx).Where("id = ?", writer).Limit(1).Find(&w).Error
	for len(entries) > 0 && entries[0].N <= w.Moved {
		entries = entries[1:]
	}
	return w, entries, err
}

// move writes a writer's entries to the ledger, in a system transaction.
func (m *Meter) move(ctx context.Context, writer string, entries []entry) error {
	n, err := m.Store.Exec(ctx, `UPDATE usage_writers SET moved = @last WHERE id = @id AND moved = @before`,
		map[string]any{"id": writer, "last": entries[len(entries)-1].N, "before": entries[0].N - 1})
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("billing: the log of %s was moved to the ledger by another process", writer)
	}
	type group struct {
		purseKey
		hour, actor string
		purse       int64
	}
	sums := map[group]int{} // of api_requests: where in rows
	var rows []ledgerRow
	for _, e := range entries {
		at := time.UnixMilli(e.At).UTC().Format("2006-01-02T15:04:05.000Z07:00")
		for _, u := range e.Used {
			if u.Meter == requests {
				g := group{purseKey{e.Tenant, u.Meter, e.Period}, at[:13], e.Actor, u.Purse}
				if i, ok := sums[g]; ok {
					rows[i].Units += u.Units
					continue
				}
				sums[g] = len(rows)
			}
			rows = append(rows, ledgerRow{e.Tenant, writer + "." + strconv.FormatInt(e.N, 10) + "." + u.Meter, u.Meter, u.Units, e.Period, at[:13], e.Actor, at, u.Purse})
		}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	insert := intoLedgerSQLite
	if m.Store.Dialect() == store.Postgres {
		insert = intoLedgerPostgres
	}
	if _, err = m.Store.Exec(ctx, insert, map[string]any{"rows": string(text)}); err != nil {
		return err
	}
	totals := map[purseKey]int64{}
	for _, r := range rows {
		totals[purseKey{r.Tenant, r.Meter, r.Period}] += r.Units
	}
	return m.account(ctx, totals)
}

// ledgerRow is a usageEvent on its way there: one statement takes them all as
// one JSON text, which costs far less than to bind them one by one.
type ledgerRow struct {
	Tenant string `json:"t"`
	ID     string `json:"i"`
	Meter  string `json:"m"`
	Units  int64  `json:"u"`
	Period string `json:"p"`
	Hour   string `json:"h"`
	Actor  string `json:"a"`
	At     string `json:"at"`
	Purse  int64  `json:"b"`
}

const (
	intoLedgerSQLite = `INSERT INTO usage_events (tenant_id, id, meter, units, period, hour, actor, occurred_at, purse, logged)
		SELECT value ->> 't', value ->> 'i', value ->> 'm', value ->> 'u', value ->> 'p', value ->> 'h', value ->> 'a', value ->> 'at', value ->> 'b', true FROM json_each(@rows)`
	intoLedgerPostgres = `INSERT INTO usage_events (tenant_id, id, meter, units, period, hour, actor, occurred_at, purse, logged)
		SELECT t, i, m, u, p, h, a, at, b, true FROM jsonb_to_recordset(CAST(@rows AS jsonb))
		AS x(t text, i text, m text, u bigint, p text, h text, a text, at timestamptz, b bigint)`
)

// hours says the hours of a query of the ledger once more as times, by which it
// is divided on PostgreSQL: the other months are left alone.
func hours(st *store.Store, from, to string) string {
	if st.Dialect() != store.Postgres {
		return ""
	}
	return " AND occurred_at >= CAST(@" + from + " || ':00:00Z' AS timestamptz) AND occurred_at < CAST(@" + to + " || ':00:00Z' AS timestamptz)"
}

// recover moves the logs of processes that died to the ledger.
func (m *Meter) recover(ctx context.Context) error {
	paths, err := filepath.Glob(filepath.Join(m.Folder, "*.log"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if path == m.path {
			continue
		}
		f, err := os.Open(path)
		if os.IsNotExist(err) {
			continue // another process was faster
		}
		if err != nil {
			return err
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil { // else its process lives
			err = m.recoverLog(ctx, path, f)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Meter) recoverLog(ctx context.Context, path string, f io.Reader) error {
	var entries []entry
	var bad []byte
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			break // a last line without its end was never acknowledged
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil || !domain.ValidID("ten", e.Tenant) || e.N == 0 {
			bad = append(bad, line...)
			continue
		}
		entries = append(entries, e)
	}
	writer := string(bytes.TrimSuffix([]byte(filepath.Base(path)), []byte(".log")))
	err := m.Store.Tx(domain.System(ctx, "the usage of a process that died"), func(ctx context.Context) error {
		w, left, err := m.ahead(ctx, writer, entries)
		if entries = left; err != nil || w.ID == "" {
			return err
		}
		if len(entries) > 0 {
			if _, err := m.Store.Exec(ctx, `UPDATE usage_writers SET moved = @before WHERE id = @id AND moved = @moved`,
				map[string]any{"id": writer, "before": entries[0].N - 1, "moved": w.Moved}); err != nil {
				return err
			}
			if err := m.move(ctx, writer, entries); err != nil {
				return err
			}
		}
		return m.leave(ctx, writer)
	})
	if err != nil {
		return err
	}
	// What the dead process had drawn from the shared purses and not used comes
	// home with them.
	if err := m.closeShared(ctx); err != nil {
		return err
	}
	if len(bad) > 0 { // kept for a person to look at
		m.Logger.Error("usage that cannot be read was set aside", "file", path+".bad", "bytes", len(bad))
		if err := os.WriteFile(path+".bad", bad, 0o600); err != nil {
			return err
		}
	}
	m.Logger.Warn("the usage of a process that died is in the ledger", "writer", writer, "entries", len(entries))
	return os.Remove(path)
}

// leave ends a writer whose log is in the ledger, and closes its own purses.
func (m *Meter) leave(ctx context.Context, writer string) error {
	if _, err := m.Store.Exec(ctx, `UPDATE quota_purses SET closed = @yes WHERE owner = @id AND NOT closed`, map[string]any{"yes": true, "id": writer}); err != nil {
		return err
	}
	_, err := m.Store.Exec(ctx, `DELETE FROM usage_writers WHERE id = @id`, map[string]any{"id": writer})
	return err
}

// closeShared has every tenant's next call open a new purse.
func (m *Meter) closeShared(ctx context.Context) error {
	return m.Store.Tx(domain.System(ctx, "change the shared purses"), func(ctx context.Context) error {
		_, err := m.Store.Exec(ctx, `UPDATE quota_purses SET closed = @yes WHERE owner = '' AND NOT closed`, map[string]any{"yes": true})
		return err
	})
}
