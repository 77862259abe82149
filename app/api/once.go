package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// remembered is the first answer of a POST with an Idempotency-Key.
type remembered struct {
	store.Owned
	KeyHash     string `gorm:"primaryKey"`
	BodyHash    string
	Status      int
	Headers     string
	Body        string
	LockedUntil time.Time
	ExpiresAt   time.Time
	CreatedAt   time.Time
}

func (remembered) TableName() string { return "idempotency_keys" }

// rememberable reports whether the row keeps its first answer: a POST costs,
// creates or sends.
func (r *Row) rememberable() bool {
	return r.Method == "POST" && (r.Call.kind == "json" || r.Call.kind == "upload")
}

// once runs the method, or gives its first answer again (API.md,
// "Idempotency-Key"). The key is the principal's own: another tenant, person or
// route that uses the same word gets nothing of it. Answers that may differ
// next time (429, 5xx) are not kept.
func (x *exchange) once(in any, method func() error) error {
	word := x.c.Get("Idempotency-Key")
	if word == "" || x.row.Method != "POST" || x.row.Credential == Public || x.row.Call.kind != "json" && (x.row.Call.kind != "upload" || x.isUpload()) {
		return method()
	}
	if len(word) > 255 {
		return domain.InvalidField("Idempotency-Key", "too_long", "This is too long.")
	}
	key := digest(x.principal.Kind, x.principal.ID, x.row.Method, x.row.Path, x.c.Path(), word)
	body, _ := json.Marshal(in)
	row := remembered{KeyHash: key, BodyHash: digest(string(body))}
	st, now := x.api.store, x.api.now().UTC()

	var first *remembered
	err := st.Tx(x.ctx, func(ctx context.Context) error {
		row.CreatedAt, row.ExpiresAt, row.LockedUntil = now, now.Add(24*time.Hour), now.Add(requestTimeout)
		made := st.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
		if made.Error != nil || made.RowsAffected == 1 {
			return made.Error
		}
		var old remembered
		if err := st.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("key_hash = ?", key).Take(&old).Error; err != nil {
			return err
		}
		expired := old.ExpiresAt.Before(now) || old.Status == 0 && old.LockedUntil.Before(now)
		if !expired {
			first = &old
			return nil
		}
		return st.For(ctx).Model(&remembered{}).Where("key_hash = ?", key).Updates(map[string]any{
			"body_hash": row.BodyHash, "status": 0, "headers": "{}", "body": "",
			"locked_until": row.LockedUntil, "expires_at": row.ExpiresAt, "created_at": now,
		}).Error
	})
	if err != nil {
		return err
	}
	if first != nil {
		if err := x.settle(0); err != nil { // a replay uses nothing but the call
			return err
		}
		switch {
		case first.BodyHash != row.BodyHash:
			return domain.E(domain.Invalid, "idempotency_mismatch", "This Idempotency-Key was used with another request.")
		case first.Status == 0:
			return domain.E(domain.Conflict, "idempotency_in_progress", "The first request with this Idempotency-Key is still running.").After(time.Second)
		}
		x.c.Set("Idempotency-Replayed", "true")
		x.c.Status(first.Status).Set("Content-Type", "application/json")
		body, err := x.api.unseal(first.Body)
		if err != nil {
			return err
		}
		return x.c.Send(body)
	}
	err = method()
	ctx := context.WithoutCancel(x.ctx)
	// A refusal changed nothing and is worked out again; the first success stays.
	keep := err == nil
	saved := st.Tx(ctx, func(ctx context.Context) error {
		mine := st.For(ctx).Where("key_hash = ?", key)
		if !keep {
			return mine.Delete(&remembered{}).Error
		}
		return mine.Model(&remembered{}).Updates(map[string]any{
			"status": x.c.Response().StatusCode(), "body": x.api.seal(x.c.Response().Body()),
		}).Error
	})
	return errors.Join(err, saved)
}

// Answers are kept sealed: that of a new API key holds the key, which must be
// nowhere in the database.
func (a *API) seal(body []byte) string {
	nonce := make([]byte, a.sealer.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(a.sealer.Seal(nonce, nonce, body, nil))
}

func (a *API) unseal(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) < a.sealer.NonceSize() {
		return nil, errors.New("api: a kept answer is not readable")
	}
	n := a.sealer.NonceSize()
	return a.sealer.Open(nil, raw[:n], raw[n:], nil)
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

var _ = domain.Chinese(map[string]string{
	"This Idempotency-Key was used with another request.":           "该 Idempotency-Key 已用于另一个请求。",
	"The first request with this Idempotency-Key is still running.": "使用该 Idempotency-Key 的第一个请求仍在处理中。",
})
