// Package tenants knows who the tenants are: how one is made, and how a name in
// a host or a header becomes one.
package tenants

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mozillazg/go-unidecode"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Tenant is a customer: its people, keys, lists and usage are its own.
type Tenant struct {
	ID        string    `json:"id" gorm:"primaryKey"`
	Slug      string    `json:"slug"`
	Name      string    `json:"name"`
	Locale    string    `json:"locale"`
	Status    string    `json:"status" enum:"active,suspended"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// TableName is GORM's.
func (Tenant) TableName() string { return "tenants" }

// Config of the Service. Enroll puts a new tenant on its first plan, in the
// transaction that makes it; LookupTXT asks DNS for the proof of a domain. Both
// and Now may be nil.
type Config struct {
	Store      *store.Store
	Audit      *audit.Trail
	Enroll     func(ctx context.Context, tenant string) error
	LookupTXT  func(ctx context.Context, name string) ([]string, error)
	BaseDomain string // ours: no tenant can have it
	Now        func() time.Time
}

// Service keeps the tenants.
type Service struct {
	Config
	mu   sync.Mutex
	seen map[string]cached // by id and by slug
}

type cached struct {
	tenant Tenant
	until  time.Time
}

// fresh is how long a tenant is believed without asking the database: a
// suspension bites within it, on every process.
const fresh = time.Second

// New makes a Service.
func New(c Config) *Service {
	if c.Store == nil {
		panic("tenants: no store")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{Config: c, seen: map[string]cached{}}
}

// reserved names belong to us or mislead.
var reserved = map[string]bool{"www": true, "api": true, "admin": true, "app": true, "mail": true, "status": true, "docs": true, "static": true, "tenant": true}

// Reserved reports whether a label before the base domain is ours and names no
// tenant.
func Reserved(label string) bool { return reserved[label] }

// Create makes a tenant, in a system transaction, with a slug made of its name.
func (s *Service) Create(ctx context.Context, name, locale string) (Tenant, error) {
	base := slug(name)
	now := s.Now().UTC()
	t := Tenant{ID: domain.NewID("ten"), Name: name, Locale: locale, Status: "active", CreatedAt: now, UpdatedAt: now}
	for n := 1; ; n++ {
		t.Slug = base
		if n > 1 || reserved[base] {
			t.Slug = base + "-" + strconv.Itoa(n)
		}
		if n > 20 { // a popular name: its id is its own
			t.Slug = base + "-" + t.ID[len(t.ID)-8:]
		}
		if taken, err := s.taken(ctx, t.Slug, t.ID); err != nil {
			return t, err
		} else if taken {
			continue
		}
		if err := s.Store.For(ctx).Create(&t).Error; err != nil || s.Enroll == nil {
			return t, err
		}
		return t, s.Enroll(ctx, t.ID)
	}
}

// slug is a label of a host name (RFC 1123): letters, digits and dashes, at
// most 40.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(unidecode.Unidecode(name)) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 40 {
			break
		}
	}
	if out := strings.Trim(b.String(), "-"); len(out) >= 2 {
		return out
	}
	return "team"
}

// Resolve finds a tenant by its id or slug; a slug that it had lately still
// leads to it.
func (s *Service) Resolve(ctx context.Context, name string) (Tenant, error) {
	now := s.Now()
	s.mu.Lock()
	c, ok := s.seen[name]
	s.mu.Unlock()
	if ok && now.Before(c.until) {
		return c.tenant, nil
	}
	var t Tenant
	sys := domain.System(ctx, "tenant resolution")
	err := s.Store.Read(sys, func(ctx context.Context) error {
		name := strings.ToLower(name)
		if err := s.Store.For(ctx).Where("id = ? OR slug = ?", name, name).Limit(1).Find(&t).Error; err != nil || t.ID != "" {
			return err
		}
		var old oldSlug
		if err := s.Store.For(ctx).Where("slug = ? AND kept_until > ?", name, now.UTC()).Take(&old).Error; err != nil {
			return err
		}
		return s.Store.For(ctx).Where("id = ?", old.TenantID).Take(&t).Error
	})
	if err != nil {
		return t, err
	}
	s.mu.Lock()
	if len(s.seen) > 20_000 {
		clear(s.seen)
	}
	s.seen[name] = cached{t, now.Add(fresh)}
	s.mu.Unlock()
	return t, nil
}

// Get is the scope's own tenant.
func (s *Service) Get(ctx context.Context, _ struct{}) (Tenant, error) {
	return s.Resolve(ctx, domain.TenantOf(ctx))
}
