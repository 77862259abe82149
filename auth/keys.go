package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// list is a JSON array in a text column.
type list []string

// Value and Scan are database/sql's.
func (l list) Value() (driver.Value, error) {
	if l == nil {
		l = list{}
	}
	b, err := json.Marshal(l)
	return string(b), err
}

// Scan reads what Value wrote.
func (l *list) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return json.Unmarshal([]byte(v), l)
	case []byte:
		return json.Unmarshal(v, l)
	}
	return fmt.Errorf("auth: a list of type %T", src)
}

// APIKey is a program's credential, without its secret.
type APIKey struct {
	store.Owned
	ID         string     `json:"id" gorm:"primaryKey"`
	Lookup     string     `json:"-"`
	Name       string     `json:"name"`
	Hash       string     `json:"-"`
	Hint       string     `json:"hint" doc:"how the key begins"`
	Scopes     list       `json:"scopes" nullable:"false"`
	AllowedIPs list       `json:"allowed_ips" gorm:"column:allowed_ips" nullable:"false"`
	CreatedBy  string     `json:"created_by"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at" nullable:"true"`
	LastUsedAt *time.Time `json:"last_used_at" nullable:"true" doc:"to the minute"`
	RevokedAt  *time.Time `json:"revoked_at" nullable:"true"`
}

// TableName is GORM's.
func (APIKey) TableName() string { return "api_keys" }

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func randomBase62(n int) string {
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		_, _ = rand.Read(b[:])
		for _, c := range b {
			if c < 248 && len(out) < n { // 248 = 4 × 62: no letter is likelier
				out = append(out, base62[c%62])
			}
		}
	}
	return string(out)
}

// checksum is the CRC-32 of what it follows, in six base62 digits.
func checksum(s string) string {
	n := crc32.ChecksumIEEE([]byte(s))
	var b [6]byte
	for i := 5; i >= 0; i-- {
		b[i] = base62[n%62]
		n /= 62
	}
	return string(b[:])
}

func newKey() (key, lookup string) {
	lookup = randomBase62(12)
	head := "cr_live_" + lookup + "_" + randomBase62(30)
	return head + checksum(head), lookup
}

// parseKey gives the public part of a well-formed key; whatever was mistyped
// or made up fails here, before any hash or look-up.
func parseKey(key string) (lookup string, ok bool) {
	rest, found := strings.CutPrefix(key, "cr_live_")
	if !found || len(key) != 8+12+1+30+6 || rest[12] != '_' {
		return "", false
	}
	return rest[:12], checksum(key[:len(key)-6]) == key[len(key)-6:]
}

func (s *Service) byKey(ctx context.Context, c Credential, age time.Duration) (Principal, error) {
	refused := domain.E(domain.Unauthenticated, "unauthenticated", "The API key is not usable.")
	lookup, ok := parseKey(c.APIKey)
	if !ok {
		return Principal{}, refused
	}
	now := s.Now()
	s.mu.Lock()
	state, ok := s.keys[lookup]
	s.mu.Unlock()
	if !ok || now.Sub(state.read) >= age {
		state = keyState{read: now}
		err := s.Store.Read(domain.System(ctx, "authentication"), func(ctx context.Context) error {
			if err := s.Store.For(ctx).Where("lookup = ?", lookup).Limit(1).Find(&state.row).Error; err != nil {
				return err
			}
			var err error
			state.role, state.shut, err = s.maker(ctx, state.row.TenantID, state.row.CreatedBy)
			return err
		})
		if err != nil {
			return Principal{}, err
		}
		state.found = state.row.ID != ""
		s.mu.Lock()
		if len(s.keys) > 50_000 {
			clear(s.keys)
		}
		s.keys[lookup] = state
		s.mu.Unlock()
	}
	row := state.row
	same := subtle.ConstantTimeCompare([]byte(hashOf(c.APIKey)), []byte(row.Hash)) == 1
	if !state.found || state.shut || !same || row.RevokedAt != nil && !now.Before(*row.RevokedAt) || row.ExpiresAt != nil && !now.Before(*row.ExpiresAt) {
		return Principal{}, refused
	}
	if len(row.AllowedIPs) > 0 && !allowed(row.AllowedIPs, c.IP) {
		return Principal{}, domain.E(domain.Forbidden, "forbidden", "This API key may not be used from this address.")
	}
	s.mu.Lock()
	s.used[row.ID] = usedKey{row.TenantID, now.UTC()}
	s.mu.Unlock()
	return Principal{Kind: "api_key", ID: row.ID, TenantID: row.TenantID, Role: state.role, Scopes: row.Scopes}, nil
}

// maker tells of whoever made a key their role in its tenant, "" of no member, and
// whether they are disabled, in the caller's system transaction.
func (s *Service) maker(ctx context.Context, tenant, user string) (role string, disabled bool, err error) {
	var m struct {
		Role       string
		DisabledAt *time.Time
	}
	err = s.Store.SQL(ctx, "SELECT coalesce(m.role, '') AS role, u.disabled_at FROM users u LEFT JOIN memberships m ON m.user_id = u.id AND m.tenant_id = @owner WHERE u.id = @user",
		map[string]any{"owner": tenant, "user": user}).Scan(&m).Error
	return m.Role, m.DisabledAt != nil, err
}

func allowed(networks []string, ip string) bool {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	for _, n := range networks {
		if p, err := parseNetwork(n); err == nil && p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

func parseNetwork(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen()), err
}

// FlushUsed writes when keys were last used; called once a minute and at the end.
func (s *Service) FlushUsed(ctx context.Context) error {
	s.mu.Lock()
	used := s.used
	s.used = map[string]usedKey{}
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	return s.Store.Tx(domain.System(ctx, "last use of API keys"), func(ctx context.Context) error {
		for id, u := range used {
			err := s.Store.For(ctx).Model(&APIKey{}).Where("tenant_id = ? AND id = ?", u.tenant, id).Update("last_used_at", u.at.Truncate(time.Minute)).Error
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// CreateKeyRequest asks for a key.
type CreateKeyRequest struct {
	Name       string     `json:"name" minLength:"1" maxLength:"100"`
	Scopes     []string   `json:"scopes" minItems:"1" maxItems:"50" doc:"permissions"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	AllowedIPs []string   `json:"allowed_ips,omitempty" maxItems:"50" doc:"addresses and networks (CIDR)"`
}

// KeyWithSecret shows the key, this once.
type KeyWithSecret struct {
	APIKey
	Key string `json:"key" doc:"shown once"`
}

// CreateKey makes a key. Nobody can give a key what they may not do themselves.
func (s *Service) CreateKey(ctx context.Context, in CreateKeyRequest) (out KeyWithSecret, err error) {
	if err := s.checkKey(ctx, in.Scopes, in.AllowedIPs, in.ExpiresAt); err != nil {
		return out, err
	}
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		out, err = s.makeKey(ctx, APIKey{Name: in.Name, Scopes: in.Scopes, AllowedIPs: in.AllowedIPs, ExpiresAt: utc(in.ExpiresAt), CreatedBy: scope.Actor.ID})
		if err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "api_key.create", Target: out.ID, Detail: map[string]any{"scopes": in.Scopes}})
	})
	return out, err
}

func (s *Service) makeKey(ctx context.Context, row APIKey) (KeyWithSecret, error) {
	key, lookup := newKey()
	row.ID, row.Lookup, row.Hash, row.Hint, row.CreatedAt = domain.NewID("key"), lookup, hashOf(key), key[:14]+"…", s.Now().UTC()
	if row.Scopes == nil {
		row.Scopes = list{}
	}
	if row.AllowedIPs == nil {
		row.AllowedIPs = list{}
	}
	return KeyWithSecret{row, key}, s.Store.For(ctx).Create(&row).Error
}

func (s *Service) checkKey(ctx context.Context, scopes, ips []string, expires *time.Time) error {
	var wrong []domain.Field
	me, err := s.Me(ctx, struct{}{})
	if err != nil {
		return err
	}
	mine := map[string]bool{}
	for _, p := range me.Permissions {
		mine[p] = true
	}
	for i, scope := range scopes {
		switch {
		case !KnownPermission(scope):
			wrong = append(wrong, domain.Violation(fmt.Sprintf("scopes[%d]", i), "unknown_scope", "There is no such permission."))
		case !mine[scope]:
			wrong = append(wrong, domain.Violation(fmt.Sprintf("scopes[%d]", i), "not_yours", "You do not have this permission yourself."))
		}
	}
	for i, ip := range ips {
		if _, err := parseNetwork(ip); err != nil {
			wrong = append(wrong, domain.Violation(fmt.Sprintf("allowed_ips[%d]", i), "invalid_network", "This is neither an address nor a network (CIDR)."))
		}
	}
	if expires != nil && !expires.After(s.Now()) {
		wrong = append(wrong, domain.Violation("expires_at", "in_the_past", "This time has passed."))
	}
	if len(wrong) > 0 {
		return domain.Fields(wrong...)
	}
	return nil
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// Keys lists the tenant's keys, revoked ones too.
func (s *Service) Keys(ctx context.Context, in domain.PageRequest) (page domain.Page[APIKey], err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		page, err = store.Oldest(s.Store.For(ctx), in, func(k APIKey) string { return k.ID })
		return err
	})
	return page, err
}

// KeyRequest names one key.
type KeyRequest struct {
	ID string `path:"id"`
}

// Key gives one key.
func (s *Service) Key(ctx context.Context, in KeyRequest) (row APIKey, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Where("id = ?", in.ID).Take(&row).Error })
	return row, err
}

// UpdateKeyRequest changes a key's name or where it may be used.
type UpdateKeyRequest struct {
	ID         string   `path:"id"`
	Name       *string  `json:"name,omitempty" minLength:"1" maxLength:"100"`
	AllowedIPs []string `json:"allowed_ips,omitempty" maxItems:"50"`
}

// UpdateKey changes a key.
func (s *Service) UpdateKey(ctx context.Context, in UpdateKeyRequest) (row APIKey, err error) {
	if err := s.checkKey(ctx, nil, in.AllowedIPs, nil); err != nil {
		return row, err
	}
	return s.changeKey(ctx, in.ID, "api_key.update", func(row *APIKey) map[string]any {
		change := map[string]any{}
		if in.Name != nil {
			row.Name = *in.Name
			change["name"] = row.Name
		}
		if in.AllowedIPs != nil {
			row.AllowedIPs = in.AllowedIPs
			change["allowed_ips"] = row.AllowedIPs
		}
		return change
	})
}

// RevokeKey ends a key: the next call with it is refused, here at once and on
// other processes within a second.
func (s *Service) RevokeKey(ctx context.Context, in KeyRequest) error {
	_, err := s.changeKey(ctx, in.ID, "api_key.revoke", func(row *APIKey) map[string]any {
		if row.RevokedAt != nil && !row.RevokedAt.After(s.Now()) {
			return nil
		}
		return map[string]any{"revoked_at": s.Now().UTC()}
	})
	return err
}

func (s *Service) changeKey(ctx context.Context, id, action string, change func(*APIKey) map[string]any) (row APIKey, err error) {
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("id = ?", id).Take(&row).Error; err != nil {
			return err
		}
		to := change(&row)
		if len(to) == 0 {
			return nil
		}
		if err := s.Store.For(ctx).Model(&APIKey{}).Where("id = ?", id).Updates(to).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: action, Target: id})
	})
	s.mu.Lock()
	delete(s.keys, row.Lookup)
	s.mu.Unlock()
	return row, err
}

// RotateKeyRequest says how long the old key goes on beside the new one.
type RotateKeyRequest struct {
	ID           string `path:"id"`
	GraceSeconds int64  `json:"grace_seconds,omitempty" minimum:"0" maximum:"2592000"`
}

// RotateKey makes a successor with the same rights; the old key ends after the
// grace. Who sees a key's secret may act with it, so nobody rotates a key that
// may do what they may not.
func (s *Service) RotateKey(ctx context.Context, in RotateKeyRequest) (out KeyWithSecret, err error) {
	old, err := s.Key(ctx, KeyRequest{in.ID})
	if err != nil {
		return out, err
	}
	if err := s.checkKey(ctx, old.Scopes, nil, nil); err != nil {
		return out, err
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("id = ? AND revoked_at IS NULL", in.ID).Take(&old).Error; err != nil {
			return err
		}
		if out, err = s.makeKey(ctx, APIKey{Name: old.Name, Scopes: old.Scopes, AllowedIPs: old.AllowedIPs, ExpiresAt: old.ExpiresAt, CreatedBy: old.CreatedBy}); err != nil {
			return err
		}
		ends := s.Now().UTC().Add(time.Duration(in.GraceSeconds) * time.Second)
		if err := s.Store.For(ctx).Model(&APIKey{}).Where("id = ?", old.ID).Update("revoked_at", ends).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "api_key.rotate", Target: old.ID, Detail: map[string]any{"successor": out.ID}})
	})
	s.mu.Lock()
	delete(s.keys, old.Lookup)
	s.mu.Unlock()
	return out, err
}

var _ = domain.Chinese(map[string]string{
	"The API key is not usable.":                       "该 API 密钥不可用。",
	"This API key may not be used from this address.":  "该 API 密钥不能在此地址使用。",
	"There is no such permission.":                     "没有这个权限。",
	"You do not have this permission yourself.":        "您自己没有此权限。",
	"This is neither an address nor a network (CIDR).": "既不是地址也不是网络（CIDR）。",
	"This time has passed.":                            "该时间已过。",
})
