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
