package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// remembered is the first answer of a POST with an Idempotency-Key.
type remembered struct {
	KeyHash     string `gorm:"primaryKey"`
	BodyHash    string // "" while the first is a file on its way in
	Status      int    // 0 while the first is running
	Headers     string // sealed, as Body is: a cookie may be among them
	Body        string
	LockedUntil time.Time
	ExpiresAt   time.Time
	CreatedAt   time.Time
}

// Of a tenant's principal, and of the public.
type (
	rememberedOwn struct {
		store.Owned
		Answer remembered `gorm:"embedded"`
	}
	rememberedPublic struct {
		Answer remembered `gorm:"embedded"`
	}
)

func (rememberedOwn) TableName() string    { return "idempotency_keys" }
func (rememberedPublic) TableName() string { return "public_idempotency_keys" }

// keptHeaders are those of an answer that are given again.
var keptHeaders = []string{"Content-Type", "Content-Language", "Location", "Retry-After", "Set-Cookie"}

// rememberable reports whether the row keeps its first answer: a POST costs,
// creates or sends.
func (r *Row) rememberable() bool {
	return r.Method == "POST" && (r.Call.kind == "json" || r.Call.kind == "upload")
}

// once runs the method, or gives its first answer again (API.md,
// "Idempotency-Key", and draft-ietf-httpapi-idempotency-key-header). The key is
// the principal's own, or of the public the address's: another tenant, person,
// address or route that uses the same word gets nothing of it.
//
// What the method answered stays: success, and the refusals that speak of the
// request (404, 409, 413, 415, 422). Those that speak of the moment (401, 402,
// 403, 429, 5xx) are worked out again, and a request that could not be read
// never began.
func (x *exchange) once(in any, method func() error) error {
	word := x.c.Get("Idempotency-Key")
	if word == "" || !x.row.rememberable() {
		return method()
	}
	if len(word) > 255 {
		return domain.InvalidField("Idempotency-Key", "too_long", "This is too long.")
	}
	st, now := x.api.store, x.api.now().UTC()
	who, ctx, timeout := []string{x.principal.Kind, x.principal.ID}, x.ctx, requestTimeout
	var table, row any
	first := remembered{Headers: "", ExpiresAt: now.Add(24 * time.Hour), CreatedAt: now}
	if x.row.Credential == Public {
		who, ctx = []string{"public", x.ip}, domain.System(x.ctx, "answers kept for Idempotency-Key")
	}
	first.KeyHash = x.api.mark(append(who, x.row.Method, x.row.Path, x.c.Path(), word)...)
	upload := x.isUpload()
	if upload {
		timeout, x.content = uploadTimeout, sha256.New()
	} else {
		first.BodyHash = x.fingerprint(in)
	}
	first.LockedUntil = now.Add(timeout)
	if x.row.Credential == Public {
		table, row = &rememberedPublic{}, &rememberedPublic{Answer: first}
	} else {
		table, row = &rememberedOwn{}, &rememberedOwn{Answer: first}
	}

	var old remembered
	err := st.Tx(ctx, func(ctx context.Context) error {
		made := st.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(row)
		if made.Error != nil || made.RowsAffected == 1 {
			return made.Error
		}
		mine := st.For(ctx).Model(table).Where("key_hash = ?", first.KeyHash)
		if err := mine.Clauses(clause.Locking{Strength: "UPDATE"}).Take(&old).Error; errors.Is(err, gorm.ErrRecordNotFound) {
			old = remembered{KeyHash: first.KeyHash} // let go of this moment
			return nil
		} else if err != nil {
			return err
		}
		if !old.ExpiresAt.Before(now) && (old.Status != 0 || !old.LockedUntil.Before(now)) {
			return nil
		}
		old = remembered{} // it died, or its day is over: this one is the first
		return st.For(ctx).Model(table).Where("key_hash = ?", first.KeyHash).Updates(map[string]any{
			"body_hash": first.BodyHash, "status": 0, "headers": "", "body": "",
			"locked_until": first.LockedUntil, "expires_at": first.ExpiresAt, "created_at": now,
		}).Error
	})
	if err != nil {
		return err
	}
	if old.KeyHash != "" {
		if err := x.settle(0); err != nil { // a replay uses nothing but the call
			return err
		}
		return x.replay(old, in, upload, first.BodyHash)
	}

	err = method()
	kept := err == nil
	if err != nil {
		switch domain.KindOf(err) {
		case domain.NotFound, domain.Conflict, domain.TooLarge, domain.UnsupportedMedia, domain.Invalid:
			kept = true
			writeProblem(x.c, x.language(), x.row.Path, x.id, err)
		}
	}
	saved := st.Tx(context.WithoutCancel(ctx), func(ctx context.Context) error {
		mine := st.For(ctx).Where("key_hash = ?", first.KeyHash)
		if !kept {
			return mine.Delete(table).Error
		}
		headers := map[string]string{}
		for _, name := range keptHeaders {
			if v := x.c.Response().Header.Peek(name); len(v) > 0 {
				headers[name] = string(v)
			}
		}
		text, err := json.Marshal(headers)
		if err != nil {
			return err
		}
		if upload {
			first.BodyHash = x.fingerprint(in)
		}
		return mine.Model(table).Updates(map[string]any{"body_hash": first.BodyHash, "status": x.c.Response().StatusCode(),
			"headers": x.api.seal(text), "body": x.api.seal(x.c.Response().Body())}).Error
	})
	return errors.Join(err, saved)
}

// replay gives the first answer again, to the same request.
func (x *exchange) replay(old remembered, in any, upload bool, body string) error {
	if old.Status == 0 {
		return domain.E(domain.Conflict, "idempotency_in_progress", "The first request with this Idempotency-Key is still running.").After(time.Second)
	}
	if upload {
		in, up, err := x.upload(in)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, up.Body); err != nil {
			return domain.E(domain.Malformed, "body_incomplete", "The body ended before it was whole.").Because(err)
		}
		body = x.fingerprint(in)
	}
	if old.BodyHash != body {
		return domain.E(domain.Invalid, "idempotency_mismatch", "This Idempotency-Key was used with another request.")
	}
	answer, err := x.api.unseal(old.Body)
	if err != nil {
		return err
	}
	text, err := x.api.unseal(old.Headers)
	if err != nil {
		return err
	}
	var headers map[string]string
	if err := json.Unmarshal(text, &headers); err != nil {
		return err
	}
	for name, v := range headers {
		x.c.Set(name, v)
	}
	x.c.Set("Idempotency-Replayed", "true")
	return x.c.Status(old.Status).Send(answer)
}

// fingerprint is what two requests must have in common to be one.
func (x *exchange) fingerprint(in any) string {
	body, _ := json.Marshal(in)
	parts := []string{string(x.c.Context().QueryArgs().QueryString()), string(body)}
	if x.content != nil {
		parts = append(parts, hex.EncodeToString(x.content.Sum(nil)))
	}
	return x.api.mark(parts...)
}

// SweepAnswers forgets the answers whose day is over.
func (a *API) SweepAnswers(ctx context.Context) error {
	return a.store.Tx(domain.System(ctx, "answers kept for Idempotency-Key"), func(ctx context.Context) error {
		return errors.Join(
			a.store.For(ctx).Where("expires_at < ?", a.now().UTC()).Delete(&rememberedOwn{}).Error,
			a.store.For(ctx).Where("expires_at < ?", a.now().UTC()).Delete(&rememberedPublic{}).Error)
	})
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

// mark is a keyed hash: a request may hold a password, and the plain hash of
// one could be guessed at.
func (a *API) mark(parts ...string) string {
	h := hmac.New(sha256.New, a.markKey[:])
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

var _ = domain.Chinese(map[string]string{
	"This Idempotency-Key was used with another request.":           "该 Idempotency-Key 已用于另一个请求。",
	"The first request with this Idempotency-Key is still running.": "使用该 Idempotency-Key 的第一个请求仍在处理中。",
})
