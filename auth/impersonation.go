package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// A platform administrator may act as a person of a tenant, to help: for a
// reason, for at most half an hour, and only in ways that help. It is a session
// of that person which names the administrator, and lives as long as the
// session that it was begun in; its token says both (RFC 8693, act), and the row
// decides. It cannot be refreshed, switched or stepped up, and begins no other.
//
// The tenant sees it: its beginning, every call and its end are on its record,
// with both names; the person is mailed, and finds it among their sessions,
// where they can end it. A tenant can forbid it.

// Impersonation is one.
type Impersonation struct {
	store.Owned
	ID           string     `json:"id" gorm:"primaryKey"`
	Tenant       string     `json:"tenant_id" gorm:"-"`
	UserID       string     `json:"user_id"`
	AdminID      string     `json:"admin_id"`
	AdminSession string     `json:"-"`
	SessionID    string     `json:"-"`
	Reason       string     `json:"reason"`
	StartedAt    time.Time  `json:"started_at"`
	ExpiresAt    time.Time  `json:"expires_at"`
	EndedAt      *time.Time `json:"ended_at" nullable:"true"`
}

// helps are the permissions beyond reading that an impersonator has of those
// that the person has.
var helps = []string{"dataset:write", "match:run", "matching:write", "research:run"}

// InSomebodysName reports whether a permission is one that an impersonator may
// use. What is not on the list is refused: keys, members, roles, money, the
// tenant itself, exports, erasure and deletion.
func InSomebodysName(permission string) bool {
	return strings.HasSuffix(permission, ":read") || slices.Contains(helps, permission)
}

// ImpersonateRequest begins one.
type ImpersonateRequest struct {
	UserID   string `json:"user_id" maxLength:"64"`
	TenantID string `json:"tenant_id" maxLength:"64" doc:"one of the person's"`
	Reason   string `json:"reason" minLength:"10" maxLength:"500" doc:"with the number of the ticket; shown to the person and on the tenant's record"`
	Minutes  int    `json:"minutes,omitempty" minimum:"1" maximum:"30" doc:"15 where none is given"`
}

// ImpersonateResponse is the token to act with. There is none to refresh it.
type ImpersonateResponse struct {
	Impersonation
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type" enum:"Bearer"`
	ExpiresIn   int    `json:"expires_in" doc:"seconds"`
}

// Impersonate begins one, and ends the administrator's one before.
func (s *Service) Impersonate(ctx context.Context, in ImpersonateRequest) (out ImpersonateResponse, err error) {
	scope, _ := domain.ScopeOf(ctx)
	if in.Minutes == 0 {
		in.Minutes = 15
	}
	now := s.Now().UTC()
	imp := Impersonation{Owned: store.Owned{TenantID: in.TenantID}, ID: domain.NewID("ipn"), Tenant: in.TenantID, UserID: in.UserID, AdminID: scope.Actor.ID, AdminSession: scope.Actor.Via,
		SessionID: domain.NewID("ses"), Reason: in.Reason, StartedAt: now, ExpiresAt: now.Add(time.Duration(in.Minutes) * time.Minute)}
	err = s.Store.Tx(domain.System(ctx, "impersonation"), func(ctx context.Context) error {
		db := s.Store.For(ctx)
		if err := db.Where("tenant_id = ? AND user_id = ?", in.TenantID, in.UserID).Take(&membership{}).Error; err != nil {
			return err
		}
		var admins int64
		if err := db.Model(&platformAdmin{}).Where("user_id = ?", in.UserID).Count(&admins).Error; err != nil {
			return err
		}
		if admins > 0 {
			return domain.E(domain.Forbidden, "forbidden", "An administrator of the platform is never impersonated.")
		}
		settings, err := s.Tenants.SettingsOf(ctx, in.TenantID)
		if err != nil {
			return err
		}
		if settings.SupportAccess == "forbidden" {
			return domain.E(domain.Forbidden, "forbidden", "This tenant lets nobody act for its people.")
		}
		if err := s.shut(ctx, in.UserID); err != nil {
			return err
		}
		var before []Impersonation
		if err := db.Where("admin_id = ? AND ended_at IS NULL", imp.AdminID).Find(&before).Error; err != nil {
			return err
		}
		for _, old := range before {
			if err := s.endImpersonation(ctx, old); err != nil {
				return err
			}
		}
		// Where the administrator is, is no business of the person's.
		session := Session{Owned: store.Owned{TenantID: in.TenantID}, ID: imp.SessionID, UserID: in.UserID, UserAgent: "ChainReactions support",
			CreatedAt: now, SeenAt: now, ExpiresAt: imp.ExpiresAt, Factors: "impersonation", Impersonator: imp.AdminID}
		if err := db.Create(&session).Error; err != nil {
			return err
		}
		if err := db.Create(&imp).Error; err != nil {
			return err
		}
		var user User
		if err := db.Where("id = ?", in.UserID).Take(&user).Error; err != nil {
			return err
		}
		if err := s.mail(ctx, domain.Mail{Template: "impersonation", To: user.Email, Locale: user.Locale,
			Data: map[string]string{"name": user.FullName, "reason": in.Reason, "time": at(imp.ExpiresAt), "url": s.link("/settings/security")}}); err != nil {
			return err
		}
		out = ImpersonateResponse{Impersonation: imp, TokenType: "Bearer", ExpiresIn: in.Minutes * 60}
		if out.AccessToken, err = s.accessUntil(ctx, imp.UserID, imp.SessionID, imp.TenantID, imp.ExpiresAt, &actor{imp.AdminID}); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "impersonation.start", Target: in.UserID, Tenant: in.TenantID,
			Detail: map[string]any{"impersonation": imp.ID, "reason": in.Reason, "expires_at": imp.ExpiresAt}})
	})
	return out, err
}

// actor is who acts as the subject of a token (RFC 8693 §4.1).
type actor struct {
	Subject string `json:"sub"`
}

// ImpersonationRequest names one.
type ImpersonationRequest struct {
	ID string `path:"id"`
}

// EndImpersonation ends one, whoever of the administrators began it.
func (s *Service) EndImpersonation(ctx context.Context, in ImpersonationRequest) error {
	return s.Store.Tx(domain.System(ctx, "impersonation"), func(ctx context.Context) error {
		var imp Impersonation
		if err := s.Store.For(ctx).Where("id = ? AND ended_at IS NULL", in.ID).Take(&imp).Error; err != nil {
			return err
		}
		return s.endImpersonation(ctx, imp)
	})
}

func (s *Service) endImpersonation(ctx context.Context, imp Impersonation) error {
	now := s.Now().UTC()
	if err := s.Store.For(ctx).Model(&Impersonation{}).Where("tenant_id = ? AND id = ?", imp.TenantID, imp.ID).Update("ended_at", now).Error; err != nil {
		return err
	}
	if err := s.Store.For(ctx).Model(&Session{}).Where("tenant_id = ? AND id = ? AND revoked_at IS NULL", imp.TenantID, imp.SessionID).Update("revoked_at", now).Error; err != nil {
		return err
	}
	s.Store.AfterCommit(ctx, func() { s.forget(imp.SessionID) })
	return s.Audit.Record(ctx, audit.Entry{Action: "impersonation.end", Target: imp.UserID, Tenant: imp.TenantID, Detail: map[string]any{"impersonation": imp.ID}})
}

// Impersonations lists them, the newest first.
func (s *Service) Impersonations(ctx context.Context, in domain.PageRequest) (page domain.Page[Impersonation], err error) {
	own := domain.TenantOf(ctx)
	err = s.Store.Tx(domain.System(ctx, "impersonation"), func(ctx context.Context) error {
		if page, err = store.Newest(s.Store.For(ctx), in, func(i Impersonation) string { return i.ID }); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "admin.find_impersonations", Tenant: own})
	})
	for i := range page.Data {
		page.Data[i].Tenant = page.Data[i].TenantID
	}
	return page, err
}

// begun is the impersonation that the scope's session is, in the tenant of ctx.
func (s *Service) begun(ctx context.Context) (imp Impersonation, err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("session_id = ?", scope.Actor.Via).Take(&imp).Error
	})
	imp.Tenant = imp.TenantID
	return imp, err
}

var _ = domain.Chinese(map[string]string{
	"An administrator of the platform is never impersonated.": "平台管理员不能被代入。",
	"This tenant lets nobody act for its people.":             "该租户不允许他人代其成员操作。",
})
