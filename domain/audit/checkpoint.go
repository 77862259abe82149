package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Checkpoint says, signed, that a chain had this hash at this event. It is kept
// where the rights of the database do not reach: whoever cuts a chain off, puts
// an older copy in its place or writes it anew contradicts one.
type Checkpoint struct {
	Tenant    string    `json:"tenant"`
	Seq       int64     `json:"seq"`
	Hash      string    `json:"hash"`
	At        time.Time `json:"at"`
	Signature string    `json:"signature" doc:"Ed25519, base64"`
}

func statement(what, tenant string, seq int64, hash string, at time.Time) []byte {
	return fmt.Appendf(nil, "chainreactions audit %s\n%s\n%d\n%s\n%s", what, tenant, seq, hash, at.UTC().Format(time.RFC3339))
}

func (t *Trail) sign(message []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(t.signer, message))
}

func (t *Trail) signed(message []byte, signature string) bool {
	raw, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && ed25519.Verify(t.signer.Public().(ed25519.PublicKey), message, raw)
}

// note remembers the end of a chain for the next checkpoint.
func (t *Trail) note(h head) {
	if t.Dir == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved[h.TenantID].Seq < h.Seq {
		t.moved[h.TenantID] = h
	}
}

// Checkpoint signs the end of every chain that this process has moved since
// the last call. Call it every minute and at the end.
func (t *Trail) Checkpoint(context.Context) error {
	t.mu.Lock()
	moved := t.moved
	t.moved = map[string]head{}
	t.mu.Unlock()
	if len(moved) == 0 {
		return nil
	}
	failed := os.MkdirAll(t.Dir, 0o700)
	for tenant, h := range moved {
		c := Checkpoint{Tenant: tenant, Seq: h.Seq, Hash: h.Hash, At: t.Now().UTC().Truncate(time.Second)}
		c.Signature = t.sign(statement("checkpoint", c.Tenant, c.Seq, c.Hash, c.At))
		line, err := json.Marshal(c)
		if err == nil {
			err = appendLine(t.checkpoints(tenant), line)
		}
		if err != nil { // not lost: the next call tries again
			t.note(h)
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (t *Trail) checkpoints(tenant string) string { return filepath.Join(t.Dir, tenant+".jsonl") }

func appendLine(path string, line []byte) error {
	unlock, err := lockFile(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// A line that a crash cut short stays alone on its line.
	if end, err := f.Seek(0, 2); err == nil && end > 0 {
		last := make([]byte, 1)
		if r, err := os.Open(path); err == nil {
			if _, err := r.ReadAt(last, end-1); err == nil && last[0] != '\n' {
				line = append([]byte("\n"), line...)
			}
			r.Close()
		}
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// readCheckpoints gives the tenant's checkpoints. A line that was cut short is
// passed over; one that is whole and not signed by us was forged.
func (t *Trail) readCheckpoints(tenant string) (out []Checkpoint, forged int, err error) {
	if t.Dir == "" {
		return nil, 0, nil
	}
	raw, err := os.ReadFile(t.checkpoints(tenant))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		var c Checkpoint
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			continue
		}
		if c.Tenant != tenant || !t.signed(statement("checkpoint", c.Tenant, c.Seq, c.Hash, c.At), c.Signature) {
			forged++
			continue
		}
		out = append(out, c)
	}
	return out, forged, lines.Err()
}

// dense is how long every checkpoint is kept; of older days the last one is,
// which covers all that came before it.
const dense = 48 * time.Hour

// Compact thins the tenant's checkpoints out. What is not ours, or not whole,
// stays: it is evidence.
func (t *Trail) Compact(tenant string) error {
	if t.Dir == "" {
		return nil
	}
	path := t.checkpoints(tenant)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lockFile(t.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(raw, []byte("\n"))
	last := map[string]int{} // the line of each day's last
	days := make([]string, len(lines))
	for i, line := range lines {
		var c Checkpoint
		if json.Unmarshal(line, &c) != nil || c.Tenant != tenant || !t.signed(statement("checkpoint", c.Tenant, c.Seq, c.Hash, c.At), c.Signature) || t.Now().Sub(c.At) < dense {
			continue
		}
		days[i] = c.At.UTC().Format(time.DateOnly)
		last[days[i]] = i
	}
	var kept []byte
	for i, line := range lines {
		if days[i] == "" || last[days[i]] == i {
			kept = append(kept, line...)
		}
	}
	if len(kept) == len(raw) {
		return nil
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(kept)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// lockFile keeps other processes from the checkpoints meanwhile.
func lockFile(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// sealRow stands in for removed events.
type sealRow struct {
	store.Owned
	Seq       int64
	Hash      string
	SealedAt  time.Time
	Signature string
}

func (sealRow) TableName() string { return "audit_seals" }

// Retire removes the tenant's events from before a time and seals the place:
// what is left still verifies. The last event always stays.
func (t *Trail) Retire(ctx context.Context, tenant string, before time.Time) (removed int64, err error) {
	err = t.Store.Tx(domain.System(ctx, "audit retention"), func(ctx context.Context) error {
		db := t.Store.For(ctx)
		var last head // the lock: no event is appended meanwhile
		if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("tenant_id = ?", tenant).Limit(1).Find(&last).Error; err != nil {
			return err
		}
		var keep Event // the first that stays
		if err := db.Where("tenant_id = ? AND (occurred_at >= ? OR seq = ?)", tenant, before.UTC(), last.Seq).Order("seq").Limit(1).Find(&keep).Error; err != nil {
			return err
		}
		var end Event // the last that goes
		if err := db.Where("tenant_id = ? AND seq = ?", tenant, keep.Seq-1).Limit(1).Find(&end).Error; err != nil || end.ID == "" {
			return err
		}
		row := sealRow{Owned: store.Owned{TenantID: tenant}, Seq: end.Seq, Hash: end.Hash, SealedAt: t.Now().UTC().Truncate(time.Second)}
		row.Signature = t.sign(statement("seal", tenant, row.Seq, row.Hash, row.SealedAt))
		if err := db.Create(&row).Error; err != nil {
			return err
		}
		gone := db.Where("tenant_id = ? AND seq <= ?", tenant, end.Seq).Delete(&Event{})
		if gone.Error != nil {
			return gone.Error
		}
		removed = gone.RowsAffected
		return t.Record(ctx, Entry{Action: "audit.seal", Target: tenant, Tenant: tenant, Detail: map[string]any{"last_seq": end.Seq, "hash": end.Hash, "events": removed}})
	})
	return removed, err
}
