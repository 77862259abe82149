// Package audit keeps the record of who did what to which object. An event is
// written in the transaction of the change it tells of, so that the two live or
// die together, and joins a chain of hashes, one chain a tenant: each event's
// hash covers the event and the hash before it, so an edit, insertion, deletion
// or swap breaks the chain at the place where it was made.
//
// A chain alone cannot tell that its end was cut off, that it was replaced by an
// older copy, or that somebody with the rights of the database wrote it anew
// from some place on. Checkpoints can: now and then the end of each chain is
// signed and appended to a file outside the database (checkpoint.go).
//
//	events  1 … 40 │ 41 … 97 … 120         │ retention: what is left of it is a
//	        removed │ ▲       ▲    ▲ head   │ signed seal with the hash of event 40
//	            seal┘ └prev   └checkpoint (signed, in a file)
//
// Events name people by id, never by name or address. Where they came from is
// written under a key of the person's own (domain/subject): destroying the key
// erases it and does not touch the chain.
package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/seal"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/domain/subject"
)

// Event is one entry of the trail, as stored and as answered.
type Event struct {
	store.Owned
	Seq        int64     `json:"seq" gorm:"primaryKey;autoIncrement:false"`
	ID         string    `json:"id"`
	OccurredAt time.Time `json:"occurred_at"`
	ActorKind  string    `json:"actor_kind" enum:"user,api_key,scim,admin,system"`
	ActorID    string    `json:"actor_id"`
	Action     string    `json:"action"`
	Target     string    `json:"target"`
	Outcome    string    `json:"outcome" enum:"ok,denied,error"`
	RequestID  string    `json:"request_id"`
	// IP is where it came from: of a person or key under the subject's own key,
	// of others the network alone. Address is the same, opened for who may read.
	IP           string `json:"ip_sealed" doc:"as it stands in the chain"`
	Address      string `json:"ip" gorm:"-" doc:"empty once the person is erased"`
	Impersonator string `json:"impersonator,omitempty" doc:"the platform administrator who acted as the actor"`
	Detail       Detail `json:"detail"`
	PrevHash     string `json:"prev_hash"`
	Hash         string `json:"hash"`
	// MAC is over the hash, with a key of ours: anybody can check a hash, and
	// nobody but us can make an event.
	MAC string `json:"-"`
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

// Config of a Trail. Only Store is required: without Subjects an event keeps
// the network of an address in place of the address, and without Dir there are
// no checkpoints.
type Config struct {
	Store     *store.Store
	Subjects  *subject.Keys
	SecretKey []byte // signs checkpoints and seals
	Dir       string // the folder of the checkpoints, outside the database
	Now       func() time.Time
	// Tell is called with each event in its transaction; for delivery.
	Tell func(ctx context.Context, e Event) error
}

// Trail writes and reads the record.
type Trail struct {
	Config
	signer ed25519.PrivateKey
	macKey []byte

	mu    sync.Mutex
	moved map[string]head // ends of chains since the last checkpoint, by tenant
}

// New makes a Trail.
func New(c Config) *Trail {
	if c.Store == nil {
		panic("audit: no store")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Trail{Config: c, signer: ed25519.NewKeyFromSeed(seal.Key(c.SecretKey, "audit checkpoints")),
		macKey: seal.Key(c.SecretKey, "audit events"), moved: map[string]head{}}
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
	if !t.Store.InTx(ctx) {
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
	db := t.Store.For(ctx)
	first := head{Owned: store.Owned{TenantID: tenant}}
	if err := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&first).Error; err != nil {
		return err
	}
	var last head
	if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("tenant_id = ?", tenant).Take(&last).Error; err != nil {
		return err
	}
	address, err := t.address(ctx, tenant, scope)
	if err != nil {
		return err
	}
	ev := Event{
		Owned: store.Owned{TenantID: tenant}, Seq: last.Seq + 1, ID: domain.NewID("aud"),
		// Microseconds: what PostgreSQL keeps, so that the hash survives the round trip.
		OccurredAt: t.Now().UTC().Truncate(time.Microsecond),
		ActorKind:  scope.Actor.Kind, ActorID: scope.Actor.ID,
		Action: e.Action, Target: e.Target, Outcome: e.Outcome,
		RequestID: scope.RequestID, IP: address, Impersonator: scope.Actor.Impersonator, Detail: Detail(detail), PrevHash: last.Hash,
	}
	if ev.ActorKind == "" {
		return errors.New("audit: the scope has no actor")
	}
	ev.Hash = ev.digest()
	ev.MAC = mac(t.keyed(), ev.Hash)
	if err := db.Create(&ev).Error; err != nil {
		return err
	}
	if err := db.Model(&head{}).Where("tenant_id = ?", tenant).Updates(map[string]any{"seq": ev.Seq, "hash": ev.Hash}).Error; err != nil {
		return err
	}
	t.Store.AfterCommit(ctx, func() { t.note(head{Owned: ev.Owned, Seq: ev.Seq, Hash: ev.Hash}) })
	if t.Tell != nil {
		return t.Tell(ctx, ev)
	}
	return nil
}

// sealedMark is what a sealed address begins with; no network does.
const sealedMark = "s:"

// address is where the caller is, as it may stand in a record for ever.
func (t *Trail) address(ctx context.Context, tenant string, scope domain.Scope) (string, error) {
	ip, err := netip.ParseAddr(scope.IP)
	if err != nil {
		return "", nil
	}
	own := (scope.Actor.Kind == "user" || scope.Actor.Kind == "api_key") && scope.Actor.Impersonator == ""
	if t.Subjects != nil && own {
		sealed, err := t.Subjects.Seal(ctx, tenant, scope.Actor.ID, scope.IP)
		return sealedMark + sealed, err
	}
	bits := 56
	if ip.Is4() {
		bits = 24
	}
	network, err := ip.Prefix(bits)
	return network.String(), err
}

// reveal opens the addresses of events of one tenant, in a transaction.
func (t *Trail) reveal(ctx context.Context, tenant string, events []Event) error {
	actors := map[string]bool{}
	for i := range events {
		events[i].Address = events[i].IP
		if strings.HasPrefix(events[i].IP, sealedMark) {
			events[i].Address = ""
			actors[events[i].ActorID] = true
		}
	}
	if len(actors) == 0 || t.Subjects == nil {
		return nil
	}
	reader, err := t.Subjects.Reader(ctx, tenant, slices.Collect(maps.Keys(actors)))
	for i := range events {
		if sealed, ok := strings.CutPrefix(events[i].IP, sealedMark); ok {
			events[i].Address = reader.Open(events[i].ActorID, sealed)
		}
	}
	return err
}

func (t *Trail) keyed() hash.Hash { return hmac.New(sha256.New, t.macKey) }

// mac uses m anew: setting the key up costs as much as the rest.
func mac(m hash.Hash, digest string) string {
	m.Reset()
	m.Write([]byte(digest))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// digest is SHA-256 over every field, each preceded by its length, so that no
// two events have the same bytes.
func (e *Event) digest() string {
	fields := [...]string{
		e.PrevHash, e.TenantID, strconv.FormatInt(e.Seq, 10), e.ID, e.OccurredAt.UTC().Format(time.RFC3339Nano),
		e.ActorKind, e.ActorID, e.Action, e.Target, e.Outcome, e.RequestID, e.IP, string(e.Detail), e.Impersonator,
	}
	n := len(fields)
	if e.Impersonator == "" {
		n-- // as events were written before there was such a field
	}
	b := make([]byte, 0, 512)
	for _, s := range fields[:n] {
		b = append(strconv.AppendInt(b, int64(len(s)), 10), ':')
		b = append(b, s...)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
