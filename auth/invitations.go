package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
)

const (
	invitationLife = 7 * 24 * time.Hour
	resendEvery    = time.Minute
	maxSent        = 5 // mails for one invitation
)

// Invitation asks a person, by address, into the tenant. Its link carries a
// secret of which only the hash is kept; it works once, for that address, and a
// resend makes a new one.
type Invitation struct {
	store.Owned
	ID         string     `json:"id"`
	Email      string     `json:"email"`
	Role       string     `json:"role"`
	TokenHash  string     `json:"-"`
	InvitedBy  string     `json:"invited_by"`
	CreatedAt  time.Time  `json:"created_at"`
	SentAt     time.Time  `json:"sent_at"`
	SentCount  int        `json:"-"`
	ExpiresAt  time.Time  `json:"expires_at"`
	AcceptedAt *time.Time `json:"-"`
	RevokedAt  *time.Time `json:"-"`
}

// Invitations lists those that are open, expired ones included.
func (s *Service) Invitations(ctx context.Context, in domain.PageRequest) (page domain.Page[Invitation], err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		page, err = store.Oldest(s.Store.For(ctx).Where("accepted_at IS NULL AND revoked_at IS NULL"), in, func(i Invitation) string { return i.ID })
		return err
	})
	return page, err
}

// InviteRequest invites an address.
type InviteRequest struct {
	Email  string `json:"email" format:"email" maxLength:"254"`
	Role   string `json:"role" minLength:"1" maxLength:"64"`
	Locale string `json:"locale,omitempty" enum:"en,zh-CN" doc:"of the mail; the tenant's without it"`

	BuySeat bool `json:"buy_seat,omitempty" doc:"buy one more where all seats are taken: it needs billing:write, and the invitation goes out when it is paid"`
}

// Invite takes a seat and mails a link. The role is not above the inviter's.
func (s *Service) Invite(ctx context.Context, in InviteRequest) (out Invitation, err error) {
	scope, _ := domain.ScopeOf(ctx)
	now := s.Now().UTC()
	secret := newSecret()
	out = Invitation{ID: domain.NewID("inv"), Email: strings.ToLower(strings.TrimSpace(in.Email)), Role: in.Role, TokenHash: hashOf(secret),
		InvitedBy: scope.Actor.ID, CreatedAt: now, SentAt: now, SentCount: 1, ExpiresAt: now.Add(invitationLife)}
	inside, err := s.members(ctx, "u.email = @id", out.Email, 1)
	if err != nil {
		return out, err
	}
	if len(inside) > 0 {
		return out, domain.E(domain.Conflict, "already_member", "This person is a member already.")
	}
	letter, err := s.invitationMail(ctx, out, in.Locale, secret)
	if err != nil {
		return out, err
	}
	if in.BuySeat {
		if err := s.buySeat(ctx, in.Role); err != nil {
			return out, err
		}
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.giveable(ctx, "role", in.Role); err != nil {
			return err
		}
		if err := s.sweepInvitations(ctx); err != nil {
			return err
		}
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&out)
		if made.Error != nil {
			return made.Error
		}
		if made.RowsAffected == 0 {
			return domain.E(domain.Conflict, "already_invited", "This address is invited already: send the invitation again.")
		}
		if err := s.Seats(ctx, out.TenantID, 1); err != nil {
			return err
		}
		if err := s.Audit.Record(ctx, audit.Entry{Action: "invitation.create", Target: out.ID, Detail: map[string]any{"role": in.Role}}); err != nil {
			return err
		}
		return s.mail(ctx, letter)
	})
	return out, err
}

// buySeat buys what the invitation needs, for who may spend money, and only
// where the invitation could then be made.
func (s *Service) buySeat(ctx context.Context, role string) error {
	ok, err := s.Can(ctx, "billing:write")
	switch {
	case err != nil:
		return err
	case !ok:
		return domain.E(domain.Forbidden, "forbidden", "You may not buy seats.")
	case s.BuySeat == nil:
		return nil
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.giveable(ctx, "role", role); err != nil {
			return err
		}
		return s.sweepInvitations(ctx)
	})
	if err != nil {
		return err
	}
	return s.BuySeat(ctx)
}

// sweepInvitations ends those that have expired, and frees their seats.
func (s *Service) sweepInvitations(ctx context.Context) error {
	now := s.Now().UTC()
	gone := s.Store.For(ctx).Model(&Invitation{}).Where("accepted_at IS NULL AND revoked_at IS NULL AND expires_at <= ?", now).
		Updates(map[string]any{"revoked_at": now, "email": ""})
	if gone.Error != nil || gone.RowsAffected == 0 {
		return gone.Error
	}
	return s.Seats(ctx, domain.TenantOf(ctx), -gone.RowsAffected)
}

// mail sends where a mailer was given.
func (s *Service) mail(ctx context.Context, m domain.Mail) error {
	if s.Mail == nil {
		return nil
	}
	return s.Mail(ctx, m)
}

// invitationMail reads the names that the mail tells.
func (s *Service) invitationMail(ctx context.Context, i Invitation, locale, secret string) (m domain.Mail, err error) {
	scope, _ := domain.ScopeOf(ctx)
	t, err := s.Tenants.Get(ctx, struct{}{})
	if err != nil {
		return m, err
	}
	if locale == "" {
		locale = t.Locale
	}
	var inviter User
	role := i.Role
	err = s.Store.Read(domain.System(ctx, "names for an invitation"), func(ctx context.Context) error {
		if domain.ValidID("rol", i.Role) {
			var own Role
			if err := s.Store.For(ctx).Where("tenant_id = ? AND id = ?", scope.Tenant, i.Role).Limit(1).Find(&own).Error; err != nil {
				return err
			}
			role = own.Name
		}
		return s.Store.For(ctx).Where("id = ?", scope.Actor.ID).Limit(1).Find(&inviter).Error
	})
	if strings.HasPrefix(locale, "zh") {
		if zh, ok := roleNames[role]; ok {
			role = zh
		}
	}
	return domain.Mail{Template: "invitation", To: i.Email, Locale: locale, Data: map[string]string{"inviter": inviter.FullName, "tenant": t.Name, "email": i.Email,
		"role": role, "url": s.link("/invitation#" + secret), "expires": i.ExpiresAt.Format("2006-01-02 15:04 UTC")}}, err
}

var roleNames = map[string]string{"owner": "所有者", "admin": "管理员", "analyst": "分析员", "viewer": "查看者", "billing": "账务"}

// link is an address of the portal. A secret stands after the #, which browsers
// do not send on: it reaches no log and no other site.
func (s *Service) link(path string) string { return strings.TrimSuffix(s.BaseURL, "/") + path }

// InvitationRequest names an invitation.
type InvitationRequest struct {
	ID string `path:"id"`
}

// ResendInvitation mails a new link; the old one is dead from then on.
func (s *Service) ResendInvitation(ctx context.Context, in InvitationRequest) (out Invitation, err error) {
	secret := newSecret()
	now := s.Now().UTC()
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ? AND accepted_at IS NULL AND revoked_at IS NULL", in.ID).Take(&out).Error
	})
	if err != nil {
		return out, err
	}
	out.ExpiresAt = now.Add(invitationLife)
	letter, err := s.invitationMail(ctx, out, "", secret)
	if err != nil {
		return out, err
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		db := s.Store.For(ctx)
		if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ? AND accepted_at IS NULL AND revoked_at IS NULL", in.ID).Take(&out).Error; err != nil {
			return err
		}
		if err := s.giveable(ctx, "role", out.Role); err != nil {
			return err
		}
		if wait := out.SentAt.Add(resendEvery).Sub(now); wait > 0 {
			return domain.E(domain.TooMany, "rate_limited", "This invitation was sent a moment ago.").After(wait)
		}
		if out.SentCount >= maxSent {
			return domain.E(domain.Conflict, "sent_too_often", "This invitation was sent %d times: revoke it and invite again.", maxSent)
		}
		out.TokenHash, out.SentAt, out.SentCount, out.ExpiresAt = hashOf(secret), now, out.SentCount+1, now.Add(invitationLife)
		if err := db.Model(&Invitation{}).Where("id = ?", out.ID).Updates(map[string]any{"token_hash": out.TokenHash, "sent_at": now, "sent_count": out.SentCount, "expires_at": out.ExpiresAt}).Error; err != nil {
			return err
		}
		if err := s.Audit.Record(ctx, audit.Entry{Action: "invitation.resend", Target: out.ID}); err != nil {
			return err
		}
		return s.mail(ctx, letter)
	})
	return out, err
}

// RevokeInvitation takes an invitation back and frees its seat.
func (s *Service) RevokeInvitation(ctx context.Context, in InvitationRequest) error {
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		gone := s.Store.For(ctx).Model(&Invitation{}).Where("id = ? AND accepted_at IS NULL AND revoked_at IS NULL", in.ID).
			Updates(map[string]any{"revoked_at": s.Now().UTC(), "email": ""})
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		if err := s.Seats(ctx, domain.TenantOf(ctx), -1); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "invitation.revoke", Target: in.ID})
	})
}

// TokenRequest shows the secret of an invitation's link.
type TokenRequest struct {
	Token string `json:"token" minLength:"20" maxLength:"100"`
}

// InvitationInfo is what the holder of a link may know before they decide.
type InvitationInfo struct {
	Tenant     string    `json:"tenant" doc:"its name"`
	Email      string    `json:"email"`
	Role       string    `json:"role"`
	ExpiresAt  time.Time `json:"expires_at"`
	HasAccount bool      `json:"has_account" doc:"sign in and accept; else join"`
}

// LookAtInvitation tells the holder of a link what it is for.
func (s *Service) LookAtInvitation(ctx context.Context, in TokenRequest) (out InvitationInfo, err error) {
	err = s.Store.Read(domain.System(ctx, "invitation"), func(ctx context.Context) error {
		i, err := s.openInvitation(ctx, in.Token)
		if err != nil {
			return err
		}
		var t tenants.Tenant
		if err := s.Store.For(ctx).Where("id = ?", i.TenantID).Take(&t).Error; err != nil {
			return err
		}
		role := i.Role
		if !slices.Contains(builtIn, role) {
			var own Role
			if err := s.Store.For(ctx).Where("tenant_id = ? AND id = ?", i.TenantID, i.Role).Take(&own).Error; err != nil {
				return err
			}
			role = own.Name
		}
		var n int64
		if err := s.Store.For(ctx).Model(&User{}).Where("email = ?", i.Email).Count(&n).Error; err != nil {
			return err
		}
		out = InvitationInfo{Tenant: t.Name, Email: i.Email, Role: role, ExpiresAt: i.ExpiresAt, HasAccount: n > 0}
		return nil
	})
	return out, err
}

// openInvitation finds an invitation by its secret, in a system transaction.
// One that is used, revoked, replaced or expired is not there.
func (s *Service) openInvitation(ctx context.Context, token string) (i Invitation, err error) {
	err = s.Store.For(ctx).
		Where("token_hash = ? AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > ?", hashOf(token), s.Now().UTC()).Limit(1).Find(&i).Error
	if err == nil && i.ID == "" {
		err = domain.E(domain.NotFound, "not_found", "This invitation is used, withdrawn or too old.")
	}
	return i, err
}

// AcceptInvitation makes the signed-in person a member. The invitation is for
// their address alone: for anybody else it stays open.
func (s *Service) AcceptInvitation(ctx context.Context, in TokenRequest) (out Member, err error) {
	scope, _ := domain.ScopeOf(ctx)
	var m membership
	err = s.Store.Tx(s.acting(ctx, "invitation", scope.Actor.ID), func(ctx context.Context) error {
		i, err := s.openInvitation(ctx, in.Token)
		if err != nil {
			return err
		}
		var user User
		if err := s.Store.For(ctx).Where("id = ?", scope.Actor.ID).Take(&user).Error; err != nil {
			return err
		}
		if user.Email != i.Email {
			return domain.E(domain.Forbidden, "wrong_address", "This invitation is for another address.")
		}
		m, err = s.join(ctx, i, user.ID)
		return err
	})
	if err != nil {
		return out, err
	}
	scope.Tenant = m.TenantID
	return s.member(domain.WithScope(ctx, scope), m.ID)
}

// join uses the invitation up, in a system transaction. The seat that it held
// is now the member's.
func (s *Service) join(ctx context.Context, i Invitation, user string) (m membership, err error) {
	db, now := s.Store.For(ctx), s.Now().UTC()
	m = membership{Owned: store.Owned{TenantID: i.TenantID}, ID: domain.NewID("mem"), UserID: user, Role: i.Role, CreatedAt: now}
	given, err := s.groupRoleOf(ctx, i.TenantID, user, true)
	if err != nil {
		return m, err
	}
	if given != "" && i.Role != "owner" {
		m.Role = given
	}
	made := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&m)
	if made.Error != nil {
		return m, made.Error
	}
	if made.RowsAffected == 0 {
		return m, domain.E(domain.Conflict, "already_member", "This person is a member already.")
	}
	used := db.Model(&Invitation{}).Where("token_hash = ? AND accepted_at IS NULL AND revoked_at IS NULL", i.TokenHash).Updates(map[string]any{"accepted_at": now, "email": ""})
	if used.Error != nil || used.RowsAffected != 1 {
		return m, domain.E(domain.Conflict, "conflict", "This invitation is used, withdrawn or too old.").Because(used.Error)
	}
	s.Store.AfterCommit(ctx, func() { s.forgetPerson(user) })
	return m, s.Audit.Record(ctx, audit.Entry{Action: "member.join", Target: m.ID, Tenant: i.TenantID, Detail: map[string]any{"user": user, "role": m.Role, "invitation": i.ID, "invited_by": i.InvitedBy}})
}

// JoinRequest accepts an invitation without an account.
type JoinRequest struct {
	Token       string `json:"token" minLength:"20" maxLength:"100"`
	Password    string `json:"password" minLength:"10" maxLength:"128"`
	FullName    string `json:"full_name" minLength:"1" maxLength:"200"`
	AcceptTerms bool   `json:"accept_terms" doc:"must be true"`
	Locale      string `json:"locale,omitempty" enum:"en,zh-CN"`
}

// Join opens an account for the invited address and makes it a member. The
// link came by mail, so the address is theirs.
func (s *Service) Join(ctx context.Context, in JoinRequest) (out SignupResponse, err error) {
	if !in.AcceptTerms {
		return out, domain.InvalidField("accept_terms", "required", "The terms must be accepted.")
	}
	if in.Locale == "" {
		in.Locale = "en"
	}
	var i Invitation
	err = s.Store.Read(domain.System(ctx, "invitation"), func(ctx context.Context) error {
		i, err = s.openInvitation(ctx, in.Token)
		return err
	})
	if err != nil { // before a password is hashed
		return out, err
	}
	if err := acceptable(in.Password, i.Email, in.FullName); err != nil {
		return out, err
	}
	hash, err := s.passwords.hash(ctx, in.Password)
	if err != nil {
		return out, err
	}
	now := s.Now().UTC()
	out.User, out.Tenant = &User{ID: domain.NewID("usr"), Email: i.Email, FullName: in.FullName, Locale: in.Locale, PasswordHash: hash, AcceptedAt: now, CreatedAt: now, UpdatedAt: now,
		EmailVerifiedAt: &now}, &tenants.Tenant{}
	err = s.Store.Tx(s.acting(ctx, "invitation", out.User.ID), func(ctx context.Context) error {
		if i, err = s.openInvitation(ctx, in.Token); err != nil {
			return err
		}
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(out.User)
		if made.Error != nil {
			return made.Error
		}
		if made.RowsAffected == 0 {
			return domain.E(domain.Conflict, "email_taken", "This address has an account already.")
		}
		if err := s.Store.For(ctx).Where("id = ?", i.TenantID).Take(out.Tenant).Error; err != nil {
			return err
		}
		if _, err := s.join(ctx, i, out.User.ID); err != nil {
			return err
		}
		tokens, err := s.start(ctx, opening{user: out.User.ID, tenant: i.TenantID, factor: "pwd", proved: now})
		out.signedIn(tokens)
		return err
	})
	return out, err
}

var _ = domain.Chinese(map[string]string{
	"You may not buy seats.":                                         "您无权购买席位。",
	"This person is a member already.":                               "此人已是成员。",
	"This address is invited already: send the invitation again.":    "该地址已被邀请：请重新发送邀请。",
	"This invitation was sent a moment ago.":                         "该邀请刚刚发送过。",
	"This invitation was sent %d times: revoke it and invite again.": "该邀请已发送 %d 次：请撤销后重新邀请。",
	"This invitation is used, withdrawn or too old.":                 "该邀请已使用、已撤回或已过期。",
	"This invitation is for another address.":                        "该邀请属于另一个地址。",
})
