// Package audit keeps the record of who did what to which object. An event is
// written in the transaction of the change it tells of, so that the two live or
// die together, and joins a chain of hashes, one chain a tenant: each event's
// hash covers the event and the hash before it, so an edit, insertion, deletion
// or swap breaks the chain at the place where it was made.
//
// Events name people by id, never by name or address, so that erasing a person
// does not touch the chain.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Event is one entry of the trail, as stored and as answered.
type Event struct {
	store.Owned
	Seq        int64     `json:"seq" gorm:"primaryKey;autoIncrement:false"`
	ID         string    `json:"id"`
	OccurredAt time.Time `json:"occurred_at"`
	ActorKind  string    `json:"actor_kind" enum:"user,api_key,system"`
	ActorID    string    `json:"actor_id"`
	Action     string    `json:"action"`
	Target     string    `json:"target"`
	Outcome    string    `json:"outcome" enum:"ok,denied,error"`
	RequestID  string    `json:"request_id"`
	IP         string    `json:"ip"`
	Detail     Detail    `json:"detail"`
	PrevHash   string    `json:"prev_hash"`
	Hash       string    `json:"hash"`
}

// Detail is a JSON object, kept as the text that was hashed.
type Detail string

// MarshalJSON gives the object itself.
func (d Detail) MarshalJSON() ([]byte, error) { return []byte(d), nil }

// TableName is GORM's.
func (Event) TableName() string { return "audit_events" }

type head struct {
	store.Owned
	Seq  int64
	Hash string
}

func (head) TableName() string { return "audit_heads" }

// Config of a Trail. Now may be nil.
type Config struct {
	Store *store.Store
	Now   func() time.Time
}

// Trail writes and reads the record.
type Trail struct {
	st  *store.Store
	now func() time.Time
}

// New makes a Trail.
func New(c Config) *Trail {
	if c.Store == nil {
		panic("audit: no store")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Trail{st: c.Store, now: c.Now}
}

// Entry is what a caller says; the rest comes from the scope.
type Entry struct {
	Action  string         // "dataset.create"
	Target  string         // the id of the object
	Outcome string         // "" is "ok"
	Detail  map[string]any // small, and without personal data
	Tenant  string         // only in a system scope, where the scope names none
}

// Record appends the entry in the transaction of ctx, and fails without one.
func (t *Trail) Record(ctx context.Context, e Entry) error {
	if !t.st.InTx(ctx) {
		return errors.New("audit: Record outside a transaction")
	}
	scope, _ := domain.ScopeOf(ctx)
	tenant := scope.Tenant
	if _, system := scope.System(); system {
		tenant = e.Tenant
	}
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return err
	}
	if e.Detail == nil {
		detail = []byte("{}")
	}
	if e.Outcome == "" {
		e.Outcome = "ok"
	}
	// The head row is the lock: writers of one tenant's chain wait in turn.
	db := t.st.For(ctx)
	first := head{Owned: store.Owned{TenantID: tenant}}
	if err := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&first).Error; err != nil {
		return err
	}
	var last head
	if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("tenant_id = ?", tenant).Take(&last).Error; err != nil {
		return err
	}
	ev := Event{
		Owned: store.Owned{TenantID: tenant}, Seq: last.Seq + 1, ID: domain.NewID("aud"),
		// Microseconds: what PostgreSQL keeps, so that the hash survives the round trip.
		OccurredAt: t.now().UTC().Truncate(time.Microsecond),
		ActorKind:  scope.Actor.Kind, ActorID: scope.Actor.ID,
		Action: e.Action, Target: e.Target, Outcome: e.Outcome,
		RequestID: scope.RequestID, IP: scope.IP, Detail: Detail(detail), PrevHash: last.Hash,
	}
	if ev.ActorKind == "" {
		return errors.New("audit: the scope has no actor")
	}
	ev.Hash = ev.digest()
	if err := db.Create(&ev).Error; err != nil {
		return err
	}
	return db.Model(&head{}).Where("tenant_id = ?", tenant).
		Updates(map[string]any{"seq": ev.Seq, "hash": ev.Hash}).Error
}

// digest is SHA-256 over every field, each preceded by its length, so that no
// two events have the same bytes.
func (e *Event) digest() string {
	h := sha256.New()
	for _, s := range []string{
		e.PrevHash, e.TenantID, strconv.FormatInt(e.Seq, 10), e.ID, e.OccurredAt.UTC().Format(time.RFC3339Nano),
		e.ActorKind, e.ActorID, e.Action, e.Target, e.Outcome, e.RequestID, e.IP, string(e.Detail),
	} {
		h.Write([]byte(strconv.Itoa(len(s)) + ":" + s))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ListRequest filters the trail.
type ListRequest struct {
	domain.PageRequest
	Actor  string    `query:"actor" maxLength:"64"`
	Action string    `query:"action" maxLength:"64"`
	Target string    `query:"target" maxLength:"64"`
	From   time.Time `query:"from"`
	To     time.Time `query:"to"`
}

// List gives the newest events first.
func (t *Trail) List(ctx context.Context, in ListRequest) (domain.Page[Event], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[Event]{}, err
	}
	var rows []Event
	err = t.st.Read(ctx, func(ctx context.Context) error {
		q := t.st.For(ctx).Order("seq DESC").Limit(in.Size() + 1)
		if after != "" {
			seq, err := strconv.ParseInt(after, 10, 64)
			if err != nil {
				return domain.InvalidField("cursor", "invalid_cursor", "The cursor is not one of ours.")
			}
			q = q.Where("seq < ?", seq)
		}
		if in.Actor != "" {
			q = q.Where("actor_id = ?", in.Actor)
		}
		if in.Action != "" {
			q = q.Where("action = ?", in.Action)
		}
		if in.Target != "" {
			q = q.Where("target = ?", in.Target)
		}
		if !in.From.IsZero() {
			q = q.Where("occurred_at >= ?", in.From.UTC())
		}
		if !in.To.IsZero() {
			q = q.Where("occurred_at < ?", in.To.UTC())
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return domain.Page[Event]{}, err
	}
	return domain.NewPage(rows, in.Size(), func(e Event) string { return strconv.FormatInt(e.Seq, 10) }), nil
}

// VerifyResponse is the state of a tenant's chain.
type VerifyResponse struct {
	OK          bool   `json:"ok"`
	Length      int64  `json:"length"`
	HeadHash    string `json:"head_hash"`
	FirstBroken *int64 `json:"first_broken" nullable:"true" doc:"sequence number of the first event that does not fit"`
}

// Verify walks the chain from its first event.
func (t *Trail) Verify(ctx context.Context, _ struct{}) (VerifyResponse, error) {
	out := VerifyResponse{OK: true}
	breakAt := func(seq int64) { out.OK = false; out.FirstBroken = &seq }
	err := t.st.Read(ctx, func(ctx context.Context) error {
		db := t.st.For(ctx)
		var last head
		if err := db.Limit(1).Find(&last).Error; err != nil {
			return err
		}
		const step = 1000
		for seq, prev := int64(0), ""; ; {
			var rows []Event
			if err := db.Where("seq > ?", seq).Order("seq").Limit(step).Find(&rows).Error; err != nil {
				return err
			}
			for i := range rows {
				e := &rows[i]
				if e.Seq != seq+1 || e.PrevHash != prev || e.digest() != e.Hash {
					breakAt(seq + 1)
					return nil
				}
				seq, prev = e.Seq, e.Hash
			}
			out.Length, out.HeadHash = seq, prev
			if len(rows) < step {
				if seq != last.Seq || prev != last.Hash { // the tail was cut
					breakAt(seq + 1)
				}
				return nil
			}
		}
	})
	return out, err
}
