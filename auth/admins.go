package auth

import (
	"context"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// platformAdmin is a person who runs the platform. It is no role of a tenant,
// and counts only in a session that has shown a second factor.
type platformAdmin struct {
	UserID    string `gorm:"primaryKey"`
	CreatedBy string
	CreatedAt time.Time
}

func (platformAdmin) TableName() string { return "platform_admins" }

// CreateAdmin makes the person of an address a platform administrator. Who has
// no account gets one, with a tenant of its own, and the link to choose its
// password; nobody else ever knows it.
func (s *Service) CreateAdmin(ctx context.Context, email, by string) (link string, err error) {
	email, now := fold(email), s.Now().UTC()
	err = s.Store.Tx(domain.System(ctx, "admin create"), func(ctx context.Context) error {
		var user User
		if err := s.Store.For(ctx).Where("email = ?", email).Limit(1).Find(&user).Error; err != nil {
			return err
		}
		if user.ID == "" {
			user = User{ID: domain.NewID("usr"), Email: email, FullName: email, Locale: "en", AcceptedAt: now, CreatedAt: now, UpdatedAt: now, EmailVerifiedAt: &now}
			if err := s.Store.For(ctx).Create(&user).Error; err != nil {
				return err
			}
			t, err := s.Tenants.Create(ctx, "Operations", "en")
			if err != nil {
				return err
			}
			if err := s.Seats(ctx, t.ID, 1); err != nil {
				return err
			}
			m := membership{Owned: store.Owned{TenantID: t.ID}, ID: domain.NewID("mem"), UserID: user.ID, Role: "owner", CreatedAt: now}
			if err := s.Store.For(ctx).Create(&m).Error; err != nil {
				return err
			}
			secret, err := s.newLink(ctx, user.ID, "reset")
			if err != nil {
				return err
			}
			link = s.link("/reset-password#" + secret)
		}
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&platformAdmin{user.ID, by, now})
		if made.Error != nil || made.RowsAffected == 0 {
			return made.Error
		}
		tenants, err := s.tenantsOf(ctx, user.ID)
		if err != nil {
			return err
		}
		for _, t := range tenants {
			if err := s.Audit.Record(ctx, audit.Entry{Action: "admin.create", Target: user.ID, Tenant: t.ID, Detail: map[string]any{"by": by}}); err != nil {
				return err
			}
		}
		s.Store.AfterCommit(ctx, func() { s.forgetPerson(user.ID) })
		return nil
	})
	return link, err
}

// What platform administrators do to people follows. The edge lets nobody else
// in. What touches a person is on the record of each of their tenants, and what
// touches none on that of the administrator's own.

// AdminUser is a person as a platform administrator sees them.
type AdminUser struct {
	ID              string     `json:"id"`
	Email           string     `json:"email"`
	FullName        string     `json:"full_name"`
	Locale          string     `json:"locale"`
	CreatedAt       time.Time  `json:"created_at"`
	EmailVerifiedAt *time.Time `json:"email_verified_at" nullable:"true"`
	TOTPConfirmedAt *time.Time `json:"totp_since" nullable:"true" gorm:"column:totp_confirmed_at"`
	DisabledAt      *time.Time `json:"disabled_at" nullable:"true"`
	Administrator   bool       `json:"administrator" doc:"of the platform"`
	Sessions        int64      `json:"sessions" doc:"that are open"`
}

// AdminUserDetails is one person with the tenants that they belong to.
type AdminUserDetails struct {
	AdminUser
	Tenants []TenantRole `json:"tenants" nullable:"false"`
}

const adminUser = `SELECT u.id, u.email, u.full_name, u.locale, u.created_at, u.email_verified_at, u.totp_confirmed_at, u.disabled_at,
	EXISTS (SELECT 1 FROM platform_admins a WHERE a.user_id = u.id) AS administrator,
	(SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.revoked_at IS NULL AND s.expires_at > @now) AS sessions FROM users u WHERE `

// FindUsersRequest looks for people.
type FindUsersRequest struct {
	domain.PageRequest
	Query    string `query:"q" maxLength:"254" doc:"part of the address or the name, or the whole id"`
	TenantID string `query:"tenant_id" maxLength:"64" doc:"only its members"`
}

// FindUsers lists people, the newest first.
func (s *Service) FindUsers(ctx context.Context, in FindUsersRequest) (domain.Page[AdminUser], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[AdminUser]{}, err
	}
	var rows []AdminUser
	touched := domain.TenantOf(ctx)
	err = s.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		where, args := "1 = 1", map[string]any{"now": s.Now().UTC(), "limit": in.Size() + 1}
		if in.Query != "" {
			where += ` AND (u.id = @id OR u.email LIKE @part ESCAPE '\' OR lower(u.full_name) LIKE @part ESCAPE '\')`
			args["id"], args["part"] = in.Query, domain.LikePart(in.Query)
		}
		if in.TenantID != "" {
			if _, err := s.Tenants.Exists(ctx, in.TenantID); err != nil {
				return err
			}
			where += " AND EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = u.id AND m.tenant_id = @in)"
			args["in"], touched = in.TenantID, in.TenantID
		}
		if after != "" {
			where, args["after"] = where+" AND u.id < @after", after
		}
		if err := s.Store.SQL(ctx, adminUser+where+" ORDER BY u.id DESC LIMIT @limit", args).Scan(&rows).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "admin.find_users", Tenant: touched})
	})
	return domain.NewPage(rows, in.Size(), func(u AdminUser) string { return u.ID }), err
}

// AdminUserRequest names a person.
type AdminUserRequest struct {
	ID string `path:"id"`
}

// InspectUser is one person.
func (s *Service) InspectUser(ctx context.Context, in AdminUserRequest) (out AdminUserDetails, err error) {
	own := domain.TenantOf(ctx)
	return out, s.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		found := s.Store.SQL(ctx, adminUser+"u.id = @id", map[string]any{"now": s.Now().UTC(), "id": in.ID}).Scan(&out.AdminUser)
		if found.Error != nil {
			return found.Error
		}
		if out.ID == "" {
			return domain.ErrNotFound()
		}
		if out.Tenants, err = s.tenantsOf(ctx, in.ID); err != nil {
			return err
		}
		return s.recordOf(ctx, in.ID, "admin.read_user", own, nil)
	})
}

// recordOf puts what was done to a person on the record of each of their
// tenants, or of the administrator's own where they have none.
func (s *Service) recordOf(ctx context.Context, user, action, own string, detail map[string]any) error {
	tenants, err := s.tenantsOf(ctx, user)
	if err != nil {
		return err
	}
	if len(tenants) == 0 {
		tenants = []TenantRole{{ID: own}}
	}
	for _, t := range tenants {
		if err := s.Audit.Record(ctx, audit.Entry{Action: action, Target: user, Tenant: t.ID, Detail: detail}); err != nil {
			return err
		}
	}
	return nil
}

// UserReasonRequest names a person and says why.
type UserReasonRequest struct {
	ID     string `path:"id"`
	Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"on the record of the person's tenants"`
}

// DisableUser shuts a person's account: every session ends, nobody signs in,
// and no key that they made works until it is open again.
func (s *Service) DisableUser(ctx context.Context, in UserReasonRequest) (AdminUserDetails, error) {
	now := s.Now().UTC()
	return s.setDisabled(ctx, in, "user.disable", &now)
}

// EnableUser opens it again; they sign in anew.
func (s *Service) EnableUser(ctx context.Context, in UserReasonRequest) (AdminUserDetails, error) {
	return s.setDisabled(ctx, in, "user.enable", nil)
}

func (s *Service) setDisabled(ctx context.Context, in UserReasonRequest, action string, at *time.Time) (AdminUserDetails, error) {
	scope, _ := domain.ScopeOf(ctx)
	if in.ID == scope.Actor.ID {
		return AdminUserDetails{}, domain.E(domain.Conflict, "conflict", "This is you: another administrator does it.")
	}
	err := s.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		var user User
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", in.ID).Take(&user).Error; err != nil {
			return err
		}
		if (user.DisabledAt == nil) == (at == nil) {
			return nil
		}
		if err := s.Store.For(ctx).Model(&User{}).Where("id = ?", in.ID).Updates(map[string]any{"disabled_at": at, "updated_at": s.Now().UTC()}).Error; err != nil {
			return err
		}
		if at != nil {
			if _, err := s.endSessions(ctx, in.ID); err != nil {
				return err
			}
		}
		s.Store.AfterCommit(ctx, func() { s.forgetPerson(in.ID) })
		return s.recordOf(ctx, in.ID, action, scope.Tenant, map[string]any{"reason": in.Reason})
	})
	if err != nil {
		return AdminUserDetails{}, err
	}
	return s.InspectUser(ctx, AdminUserRequest{in.ID})
}

// EndSessions ends every session of a person, on every process within a second.
func (s *Service) EndSessions(ctx context.Context, in AdminUserRequest) error {
	own := domain.TenantOf(ctx)
	return s.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("id = ?", in.ID).Take(&User{}).Error; err != nil {
			return err
		}
		n, err := s.endSessions(ctx, in.ID)
		if err != nil {
			return err
		}
		s.Store.AfterCommit(ctx, func() { s.forgetPerson(in.ID) })
		return s.recordOf(ctx, in.ID, "session.revoke_all", own, map[string]any{"sessions": n})
	})
}

// endSessions ends a person's sessions in the system transaction of ctx.
func (s *Service) endSessions(ctx context.Context, user string) (int64, error) {
	res := s.Store.For(ctx).Model(&Session{}).Where("user_id = ? AND revoked_at IS NULL", user).Update("revoked_at", s.Now().UTC())
	return res.RowsAffected, res.Error
}

// shut refuses a person whose account is disabled, in the transaction that would
// begin a session of theirs.
func (s *Service) shut(ctx context.Context, user string) error {
	var row User
	if err := s.Store.For(ctx).Select("id", "disabled_at").Where("id = ?", user).Take(&row).Error; err != nil || row.DisabledAt == nil {
		return err
	}
	return domain.E(domain.Forbidden, "account_disabled", "This account is disabled: ask the people who run the service.")
}

var _ = domain.Chinese(map[string]string{
	"This is you: another administrator does it.":                   "这是您本人：请由另一位管理员操作。",
	"This account is disabled: ask the people who run the service.": "该账户已被停用：请联系服务运营方。",
})
