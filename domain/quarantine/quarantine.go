// Package quarantine keeps a system that was restored from a backup from
// speaking to the world: what waited in the backup was mostly sent by the system
// that the backup is of. Until an operator releases it no mail leaves, no webhook
// is delivered, no usage is reported, nothing is changed at the payment service by
// itself and no tenant is erased with its subscription; everything else works. Research goes on too, with runs of the
// backup that had not ended: it asks vendors, and pays them, but tells nobody.
//
//	g := quarantine.New(st, time.Now)
//	g.Begin(ctx, "restored from nightly.backup")   // by what restores
//	g.On(ctx)                                      // by whoever would speak
//	g.Release(ctx, "usr_…")                        // by an operator
//
// The state is a row: every process on the database keeps to it within a second.
package quarantine

import (
	"context"
	"sync"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Quarantine is one time of silence.
type Quarantine struct {
	ID         string     `json:"id" gorm:"primaryKey"`
	Reason     string     `json:"reason"`
	BeganAt    time.Time  `json:"began_at"`
	ReleasedBy string     `json:"released_by"`
	ReleasedAt *time.Time `json:"released_at" nullable:"true"`
}

// TableName is GORM's.
func (Quarantine) TableName() string { return "quarantines" }

// Gate knows whether there is one.
type Gate struct {
	store *store.Store
	now   func() time.Time

	mu   sync.Mutex
	on   bool
	read time.Time
}

const fresh = time.Second

// New makes a Gate; now may be nil.
func New(st *store.Store, now func() time.Time) *Gate {
	if now == nil {
		now = time.Now
	}
	return &Gate{store: st, now: now}
}

// Begin begins one, where there is none.
func (g *Gate) Begin(ctx context.Context, reason string) error {
	q := Quarantine{ID: domain.NewID("qrt"), Reason: reason, BeganAt: g.now().UTC()}
	defer g.forget()
	return g.store.Tx(domain.System(ctx, "quarantine"), func(ctx context.Context) error {
		return g.store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&q).Error
	})
}

// Open gives the quarantine that is on, or nil.
func (g *Gate) Open(ctx context.Context) (*Quarantine, error) {
	var rows []Quarantine
	err := g.store.Read(domain.System(ctx, "quarantine"), func(ctx context.Context) error {
		return g.store.For(ctx).Where("released_at IS NULL").Limit(1).Find(&rows).Error
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// On reports whether there is one now. Where that cannot be read the answer is
// an error: the caller waits.
func (g *Gate) On(ctx context.Context) (bool, error) {
	g.mu.Lock()
	on, read := g.on, g.read
	g.mu.Unlock()
	if g.now().Sub(read) < fresh {
		return on, nil
	}
	q, err := g.Open(ctx)
	if err != nil {
		return true, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.on, g.read = q != nil, g.now()
	return g.on, nil
}

// Release ends it.
func (g *Gate) Release(ctx context.Context, by string) (Quarantine, error) {
	q, err := g.Open(ctx)
	if err == nil && q == nil {
		err = domain.E(domain.Conflict, "conflict", "There is no quarantine.")
	}
	if err != nil {
		return Quarantine{}, err
	}
	at := g.now().UTC()
	q.ReleasedBy, q.ReleasedAt = by, &at
	defer g.forget()
	return *q, g.store.Tx(domain.System(ctx, "quarantine"), func(ctx context.Context) error {
		return g.store.For(ctx).Model(&Quarantine{}).Where("id = ?", q.ID).Updates(map[string]any{"released_by": by, "released_at": at}).Error
	})
}

func (g *Gate) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.read = time.Time{}
}

var _ = domain.Chinese(map[string]string{"There is no quarantine.": "当前没有处于隔离状态。"})
