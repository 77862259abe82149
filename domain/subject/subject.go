// Package subject makes what append-only places hold about a person readable
// only as long as the person may be known. Each person has a key of their own
// in each tenant; what is written about them goes under it, and destroying the
// key erases it everywhere at once: in tables that refuse changes, in logs of
// the database, in copies and in backups.
//
// The keys are themselves sealed with SECRET_KEY. Their rows are few and small,
// and the only thing that an erasure has to reach.
package subject

import (
	"context"
	"crypto/rand"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain/seal"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Keys gives each subject a key.
type Keys struct {
	store *store.Store
	box   seal.Box
	known *lru.Cache[string, seal.Box] // to write with; reading asks the table
}

type keyRow struct {
	store.Owned
	Subject   string
	Sealed    string
	CreatedAt time.Time
}

func (keyRow) TableName() string { return "subject_keys" }

// New makes Keys under SECRET_KEY.
func New(st *store.Store, secret []byte) *Keys {
	known, _ := lru.New[string, seal.Box](20_000)
	return &Keys{store: st, box: seal.New(secret, "subject keys"), known: known}
}

// Seal makes text that only the subject's key opens, and the key where there
// is none, in the write transaction of ctx.
func (k *Keys) Seal(ctx context.Context, tenant, subject, plain string) (string, error) {
	name := tenant + "|" + subject
	if box, ok := k.known.Get(name); ok {
		return box.Seal(name, []byte(plain)), nil
	}
	var fresh [32]byte
	_, _ = rand.Read(fresh[:])
	row := keyRow{Owned: store.Owned{TenantID: tenant}, Subject: subject, Sealed: k.box.Seal(name, fresh[:]), CreatedAt: time.Now().UTC()}
	db := k.store.For(ctx)
	if err := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
		return "", err
	}
	if err := db.Where("tenant_id = ? AND subject = ?", tenant, subject).Take(&row).Error; err != nil {
		return "", err
	}
	box, err := k.open(name, row.Sealed)
	if err != nil {
		return "", err
	}
	k.store.AfterCommit(ctx, func() { k.known.Add(name, box) }) // a key that is rolled back is none
	return box.Seal(name, []byte(plain)), nil
}

func (k *Keys) open(name, sealed string) (seal.Box, error) {
	key, err := k.box.Open(name, sealed)
	if err != nil {
		return seal.Box{}, err
	}
	return seal.WithKey(key), nil
}

// Reader opens what was sealed for the subjects of one tenant. What it cannot
// open is erased, and reads as "".
type Reader struct {
	tenant string
	boxes  map[string]seal.Box
}

// Reader reads the keys of the subjects in the transaction of ctx.
func (k *Keys) Reader(ctx context.Context, tenant string, subjects []string) (Reader, error) {
	r := Reader{tenant, map[string]seal.Box{}}
	var rows []keyRow
	if err := k.store.For(ctx).Where("tenant_id = ? AND subject IN ?", tenant, subjects).Find(&rows).Error; err != nil {
		return r, err
	}
	for _, row := range rows {
		box, err := k.open(tenant+"|"+row.Subject, row.Sealed)
		if err != nil {
			continue // under a SECRET_KEY that is gone
		}
		r.boxes[row.Subject] = box
	}
	return r, nil
}

// Open gives the plain text, or "".
func (r Reader) Open(subject, sealed string) string {
	box, ok := r.boxes[subject]
	if !ok {
		return ""
	}
	plain, _ := box.Open(r.tenant+"|"+subject, sealed)
	return string(plain)
}

// Destroy erases what was sealed for the subject: in the tenant of ctx, or, in a
// system scope, in every tenant.
func (k *Keys) Destroy(ctx context.Context, subject string) error {
	if err := k.store.For(ctx).Where("subject = ?", subject).Delete(&keyRow{}).Error; err != nil {
		return err
	}
	k.store.AfterCommit(ctx, k.known.Purge)
	return nil
}
