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
	"maps"
	"slices"
	"sync"
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
	Claim       string // of whoever works on the first
	Committed   bool   // something of it is done
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
//
// A process that dies lets go of its claim within claimLife, and another one may
// work on the request. So that it is not done twice, the first transaction of the
// method that commits says so in the row, and commits only while the claim stands:
//
//	claimed ──method──▶ done in part ──method ends──▶ the answer is kept
//	   └─life over──▶ another's    └─process dies──▶ unanswered: it is not done again
//
// An answer that cannot be kept now, for the database is away, is given all the
// same, and kept as soon as that is back.
func (x *exchange) once(in any, method func() error) error {
	word := x.c.Get("Idempotency-Key")
	if word == "" || !x.row.rememberable() {
		return method()
	}
	if len(word) > 255 {
		return domain.InvalidField("Idempotency-Key", "too_long", "This is too long.")
	}
	st, now := x.api.store, x.api.now().UTC()
	who, ctx := []string{x.principal.Kind, x.principal.ID}, x.ctx
	var table, row any
	first := remembered{Headers: "", Claim: domain.NewID("clm"), LockedUntil: now.Add(claimLife), ExpiresAt: now.Add(24 * time.Hour), CreatedAt: now}
	if x.row.Credential == Public {
		who, ctx = []string{"public", x.ip}, domain.System(x.ctx, "answers kept for Idempotency-Key")
	}
	first.KeyHash = x.api.mark(append(who, x.row.Method, x.row.Path, x.c.Path(), word)...)
	upload := x.isUpload()
	if upload {
		x.content = sha256.New()
	} else {
		first.BodyHash = x.fingerprint(in)
	}
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
		if !old.ExpiresAt.Before(now) && (old.Status != 0 || old.Committed || !old.LockedUntil.Before(now)) {
			return nil
		}
		old = remembered{} // it died before anything was done, or its day is over: this one is the first
		return st.For(ctx).Model(table).Where("key_hash = ?", first.KeyHash).Updates(map[string]any{
			"body_hash": first.BodyHash, "status": 0, "headers": "", "body": "", "claim": first.Claim, "committed": false,
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

	c := &claim{st: st, table: table, key: first.KeyHash, id: first.Claim, public: x.row.Credential == Public, tenant: x.principal.TenantID,
		ctx: context.WithoutCancel(ctx), now: x.api.now, renewed: x.api.now()}
	x.api.claims.hold(c)
	ctx, x.ctx = x.ctx, store.BeforeCommit(x.ctx, c.stands)
	err = method()
	x.ctx = ctx
	answer := map[string]any{}
	if err != nil {
		switch domain.KindOf(err) {
		case domain.NotFound, domain.Conflict, domain.TooLarge, domain.UnsupportedMedia, domain.Invalid:
			writeProblem(x.c, x.language(), x.row.Path, x.id, err)
		default:
			answer = nil
		}
	}
	if answer != nil {
		headers := map[string]string{}
		for _, name := range keptHeaders {
			if v := x.c.Response().Header.Peek(name); len(v) > 0 {
				headers[name] = string(v)
			}
		}
		text, merr := json.Marshal(headers)
		if merr != nil {
			return errors.Join(err, merr)
		}
		if upload {
			first.BodyHash = x.fingerprint(in)
		}
		answer = map[string]any{"body_hash": first.BodyHash, "status": x.c.Response().StatusCode(), "headers": x.api.seal(text), "body": x.api.seal(x.c.Response().Body())}
	}
	if lost := x.api.claims.end(c, answer); lost != nil {
		x.api.log.WarnContext(ctx, "an answer is kept for its Idempotency-Key later", "request_id", x.id, "error", lost)
	}
	return err
}

// claim is the first request of an Idempotency-Key, as long as this process works
// on it or has its answer to keep.
type claim struct {
	st      *store.Store
	table   any
	key, id string
	public  bool
	tenant  string
	ctx     context.Context // of its scope
	now     func() time.Time

	mu              sync.Mutex
	renewed         time.Time
	asked, answered bool           // to commit; in between it is not known whether that was done
	ended           bool           // the method
	answer          map[string]any // nil is none to be kept
}

const (
	claimLife  = 10 * time.Second // after which a claim that nobody renews is another's
	claimRenew = claimLife / 3
	claimRound = time.Second
	claimWrite = 2 * time.Second
)

// stands ends a transaction of the method: the first one that commits says that
// something is done, and none commits when the claim is another's by now.
func (c *claim) stands(ctx context.Context) error {
	scope, _ := domain.ScopeOf(ctx)
	if scope.Tenant != "" && (c.public || scope.Tenant != c.tenant) { // such a transaction may not see the row
		return nil
	}
	c.mu.Lock()
	over := c.answered || c.ended
	c.asked = c.asked || !over
	c.mu.Unlock()
	if over {
		return nil
	}
	done := c.st.For(ctx).Model(c.table).Where("key_hash = ? AND claim = ?", c.key, c.id).Update("committed", true)
	if done.Error != nil {
		return done.Error
	}
	if done.RowsAffected == 0 {
		return domain.E(domain.Unavailable, "dependency_unavailable", "This took too long, and is done by the same request that came after it.").After(time.Second)
	}
	c.st.AfterCommit(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answered = true
	})
	return nil
}

// renew keeps the claim while the method runs.
func (c *claim) renew() error {
	return c.write(func(mine *gorm.DB) error {
		return mine.Updates(map[string]any{"locked_until": c.now().UTC().Add(claimLife)}).Error
	})
}

// keep keeps the answer. Where there is none to be kept it lets go of the key,
// unless something may have been done that nobody could say was.
func (c *claim) keep() error {
	c.mu.Lock()
	answer, unknown := c.answer, c.asked && !c.answered
	c.mu.Unlock()
	return c.write(func(mine *gorm.DB) error {
		switch {
		case answer != nil:
			return mine.Updates(answer).Error
		case unknown:
			mine = mine.Where("committed = ?", false)
		}
		return mine.Delete(c.table).Error
	})
}

func (c *claim) write(do func(mine *gorm.DB) error) error {
	ctx, cancel := context.WithTimeout(c.ctx, claimWrite)
	defer cancel()
	return c.st.Tx(ctx, func(ctx context.Context) error {
		return do(c.st.For(ctx).Model(c.table).Where("key_hash = ? AND claim = ?", c.key, c.id))
	})
}

// claims looks after those of this process.
type claims struct {
	mu      sync.Mutex
	held    map[*claim]bool
	keeping bool
	done    sync.WaitGroup
	closing chan struct{}
}

// hold has a claim renewed until it ends.
func (s *claims) hold(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[c] = true
	if !s.keeping {
		s.keeping = true
		s.done.Go(s.round)
	}
}

// end keeps the answer of a claim, now or as soon as that can be.
func (s *claims) end(c *claim, answer map[string]any) error {
	c.mu.Lock()
	c.ended, c.answer = true, answer
	c.mu.Unlock()
	err := c.keep()
	if err == nil {
		s.drop(c)
	}
	return err
}

func (s *claims) drop(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, c)
}

// round looks after the claims as long as there are any.
func (s *claims) round() {
	clock := time.NewTicker(claimRound)
	defer clock.Stop()
	for last := false; !last; {
		select {
		case <-clock.C:
		case <-s.closing:
			last = true
		}
		s.mu.Lock()
		s.keeping = len(s.held) > 0
		list := slices.Collect(maps.Keys(s.held))
		s.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for _, c := range list {
			if s.look(c) != nil {
				break // the database is away for the others too
			}
		}
	}
}

func (s *claims) look(c *claim) (err error) {
	c.mu.Lock()
	ended, due := c.ended, c.now().Sub(c.renewed) >= claimRenew
	if due {
		c.renewed = c.now()
	}
	c.mu.Unlock()
	switch {
	case ended:
		if err = c.keep(); err == nil {
			s.drop(c)
		}
	case due:
		err = c.renew()
	}
	return err
}

// close keeps what is left to be kept.
func (s *claims) close() {
	close(s.closing)
	s.done.Wait()
}

// replay gives the first answer again, to the same request.
func (x *exchange) replay(old remembered, in any, upload bool, body string) error {
	if old.Status == 0 && old.Committed && old.LockedUntil.Before(x.api.now()) {
		return domain.E(domain.Conflict, "idempotency_unanswered", "The first request with this Idempotency-Key was done, at least in part, and its answer is lost: see what is there before you ask again under another one.")
	}
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
	"This Idempotency-Key was used with another request.":                                                                                                       "该 Idempotency-Key 已用于另一个请求。",
	"The first request with this Idempotency-Key is still running.":                                                                                             "使用该 Idempotency-Key 的第一个请求仍在处理中。",
	"This took too long, and is done by the same request that came after it.":                                                                                   "处理时间过长，已由之后到达的同一请求完成。",
	"The first request with this Idempotency-Key was done, at least in part, and its answer is lost: see what is there before you ask again under another one.": "使用该 Idempotency-Key 的第一个请求已（至少部分）完成，但其答复已丢失：请先查看现有内容，再以另一个 Idempotency-Key 重试。",
})
