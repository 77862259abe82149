package tenants

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// TenantSettings are what a tenant decides for itself.
type TenantSettings struct {
	AuditDays int    `json:"audit_retention_days" minimum:"30" maximum:"3650" doc:"older events are removed under a seal"`
	Residency string `json:"residency" maxLength:"40" doc:"a label, shown in exports and in the register of processing"`
	// SupportAccess may be left out of a change, and stays then.
	SupportAccess string `json:"support_access,omitempty" enum:"allowed,forbidden" doc:"may an administrator of the platform act as one of your people, to help? stays as it is where it is absent"`
	// So may these two.
	RequireMFA *bool `json:"require_mfa,omitempty" doc:"who signs in without a second factor may do nothing here but add one; stays as it is where it is absent"`
	RequireSSO *bool `json:"require_sso,omitempty" doc:"who is no owner signs in through the tenant's own identity provider; stays as it is where it is absent"`
}

var (
	no              = false
	defaultSettings = TenantSettings{AuditDays: 365, SupportAccess: "allowed", RequireMFA: &no, RequireSSO: &no}
)

// Details is the tenant as its own people see it.
type Details struct {
	Tenant
	Settings TenantSettings `json:"settings"`
	Domains  []Domain       `json:"domains" nullable:"false"`
}

type settingsRow struct {
	Tenant
	Settings string
}

// Show is the scope's own tenant with its settings and domains.
func (s *Service) Show(ctx context.Context, _ struct{}) (Details, error) {
	id := domain.TenantOf(ctx)
	out := Details{Domains: []Domain{}}
	err := s.Store.Read(domain.System(ctx, "a tenant's own settings"), func(ctx context.Context) error {
		row, err := s.row(ctx, id)
		if err != nil {
			return err
		}
		out.Tenant = row.Tenant
		if out.Settings, err = row.settings(); err != nil {
			return err
		}
		return s.Store.For(ctx).Where("tenant_id = ? AND status <> 'released'", id).Order("name").Find(&out.Domains).Error
	})
	return out, err
}

func (s *Service) row(ctx context.Context, id string) (row settingsRow, err error) {
	return row, s.Store.For(ctx).Where("id = ?", id).Take(&row).Error
}

func (r settingsRow) settings() (TenantSettings, error) { return ReadSettings(r.Settings) }

// ReadSettings reads what stands in the column of a tenant's row.
func ReadSettings(column string) (TenantSettings, error) {
	out, mfa, sso := defaultSettings, false, false
	out.RequireMFA, out.RequireSSO = &mfa, &sso // json writes through pointers
	return out, json.Unmarshal([]byte(column), &out)
}

// SettingsOf reads a tenant's settings, for scheduled work.
func (s *Service) SettingsOf(ctx context.Context, tenant string) (out TenantSettings, err error) {
	err = s.Store.Read(domain.System(ctx, "a tenant's settings"), func(ctx context.Context) error {
		row, err := s.row(ctx, tenant)
		if err == nil {
			out, err = row.settings()
		}
		return err
	})
	return out, err
}

// UpdateRequest changes the tenant.
type UpdateRequest struct {
	Name     *string         `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Slug     *string         `json:"slug,omitempty" minLength:"2" maxLength:"40"`
	Locale   *string         `json:"locale,omitempty" enum:"en,zh-CN"`
	Settings *TenantSettings `json:"settings,omitempty"`
}

// slugKept is how long an old slug still leads to its tenant, and to no other.
const slugKept = 90 * 24 * time.Hour

// Update changes the scope's own tenant.
func (s *Service) Update(ctx context.Context, in UpdateRequest) (Details, error) {
	id := domain.TenantOf(ctx)
	scope, _ := domain.ScopeOf(ctx)
	var before Tenant
	err := s.Store.Tx(domain.System(ctx, "a tenant's own settings"), func(sys context.Context) error {
		db, now := s.Store.For(sys), s.Now().UTC()
		row, err := s.row(sys, id)
		if err != nil {
			return err
		}
		before = row.Tenant
		change := map[string]any{"updated_at": now}
		detail := map[string]any{}
		if in.Name != nil {
			change["name"], detail["name"] = strings.TrimSpace(*in.Name), true
		}
		if in.Locale != nil {
			change["locale"], detail["locale"] = *in.Locale, *in.Locale
		}
		if in.Settings != nil {
			now, err := row.settings()
			if err != nil {
				return err
			}
			if in.Settings.SupportAccess == "" {
				in.Settings.SupportAccess = now.SupportAccess
			}
			if in.Settings.RequireMFA == nil {
				in.Settings.RequireMFA = now.RequireMFA
			}
			if in.Settings.RequireSSO == nil {
				in.Settings.RequireSSO = now.RequireSSO
			}
			raw, err := json.Marshal(in.Settings)
			if err != nil {
				return err
			}
			change["settings"], detail["settings"] = string(raw), in.Settings
		}
		if in.Slug != nil && *in.Slug != row.Slug {
			if slug(*in.Slug) != *in.Slug || reserved[*in.Slug] {
				return domain.InvalidField("slug", "invalid_slug", "A slug is small letters, digits and single dashes, and not a reserved word.")
			}
			if taken, err := s.taken(sys, *in.Slug, id); err != nil || taken {
				if taken {
					err = domain.E(domain.Conflict, "slug_taken", "This slug is taken.")
				}
				return err
			}
			old := oldSlug{Owned: store.Owned{TenantID: id}, Slug: row.Slug, KeptUntil: now.Add(slugKept)}
			if err := db.Where("tenant_id = ? AND slug = ?", id, *in.Slug).Delete(&oldSlug{}).Error; err != nil { // back to one it had
				return err
			}
			if err := db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "slug"}}, DoUpdates: clause.AssignmentColumns([]string{"tenant_id", "kept_until"})}).Create(&old).Error; err != nil {
				return err
			}
			change["slug"], detail["slug"] = *in.Slug, *in.Slug
		}
		if err := db.Model(&Tenant{}).Where("id = ?", id).Updates(change).Error; err != nil {
			return err
		}
		return s.Audit.Record(sys, audit.Entry{Action: "tenant.update", Target: id, Tenant: id, Detail: detail})
	})
	if err != nil {
		return Details{}, err
	}
	s.forget(before)
	return s.Show(domain.WithScope(ctx, scope), struct{}{})
}

type oldSlug struct {
	store.Owned
	Slug      string
	KeptUntil time.Time
}

func (oldSlug) TableName() string { return "tenant_slugs" }

// taken reports whether a slug is another tenant's, or was lately.
func (s *Service) taken(ctx context.Context, slug, but string) (bool, error) {
	var now, before int64
	if err := s.Store.For(ctx).Model(&Tenant{}).Where("slug = ? AND id <> ?", slug, but).Count(&now).Error; err != nil {
		return false, err
	}
	err := s.Store.For(ctx).Model(&oldSlug{}).Where("slug = ? AND tenant_id <> ? AND kept_until > ?", slug, but, s.Now().UTC()).Count(&before).Error
	return now+before > 0, err
}

// forget drops what this process believes of a tenant; others read it anew
// within a second.
func (s *Service) forget(Tenant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.seen)
}

var _ = domain.Chinese(map[string]string{
	"A slug is small letters, digits and single dashes, and not a reserved word.": "标识只能由小写字母、数字和单个连字符组成，且不能是保留字。",
	"This slug is taken.": "该标识已被占用。",
})
