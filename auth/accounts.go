package auth

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
)

// Accounts that need a mail: proving an address, choosing a forgotten password,
// moving to another address.
//
// Whoever asks learns nothing: the request is sealed into a job and answered at
// once, with the same bytes and after the same work, whether the address has an
// account or not. What the job finds out goes by mail, to the owner of the
// address. A link works once, for an hour, and is in the fragment of its URL,
// which no server logs.
const linkLife = time.Hour

// emailLink is one link that was mailed; of its secret only the hash is kept.
type emailLink struct {
	Hash      string `gorm:"primaryKey"`
	UserID    string
	Purpose   string // verify, reset, change_old, change_new
	ExpiresAt time.Time
	UsedAt    *time.Time
	CreatedAt time.Time
}

// SentResponse says that a mail is on its way, where there is somebody to get it.
type SentResponse struct {
	State string `json:"status" enum:"verification_sent,sent"`
}

// Status is 202: what was asked for is yet to be done.
func (r SentResponse) Status() int { return 202 }

// LetterJob is a request that must not tell whether its address has an account.
type LetterJob struct {
	Sealed string `json:"sealed"`
}

// Kind is the queue's.
func (LetterJob) Kind() string { return "auth.letter" }

// letter is what is sealed in the job.
type letter struct {
	Purpose string         `json:"purpose"` // signup, verify or reset
	Email   string         `json:"email"`
	Signup  *SignupRequest `json:"signup,omitempty"` // its password replaced by the hash
}

func (s *Service) enqueue(ctx context.Context, l letter) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "a mail about an account"), func(ctx context.Context) error {
		return s.Queue.Enqueue(ctx, LetterJob{s.box.Seal("letter", text)}, domain.JobOptions{Priority: 1})
	})
}

// RunLetter does what an address was asked for.
func (s *Service) RunLetter(ctx context.Context, job LetterJob) error {
	text, err := s.box.Open("letter", job.Sealed)
	if err != nil {
		return err
	}
	var l letter
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "a mail about an account"), func(ctx context.Context) error {
		var user User
		if err := s.Store.For(ctx).Where("email = ?", l.Email).Limit(1).Find(&user).Error; err != nil {
			return err
		}
		switch {
		case l.Purpose == "signup" && user.ID == "":
			out, err := s.open(s.acting(ctx, "sign-up", ""), *l.Signup, l.Signup.Password, nil)
			if err != nil {
				return err
			}
			return s.sendLink(ctx, *out.User, "verify", l.Email, "verify_email", "/verify-email", nil)
		case l.Purpose == "signup":
			return s.mail(ctx, domain.Mail{Template: "account_exists", To: l.Email, Locale: user.Locale, Data: map[string]string{"name": user.FullName, "url": s.link("/login")}})
		case user.ID == "":
			return nil
		case l.Purpose == "verify" && user.EmailVerifiedAt == nil:
			return s.sendLink(ctx, user, "verify", l.Email, "verify_email", "/verify-email", nil)
		case l.Purpose == "reset":
			return s.sendLink(ctx, user, "reset", l.Email, "reset_password", "/reset-password", nil)
		}
		return nil
	})
}

// sendLink makes a link and mails it, in the transaction of ctx; links of the
// same purpose that were sent before are dead.
func (s *Service) sendLink(ctx context.Context, user User, purpose, to, template, path string, data map[string]string) error {
	secret, err := s.newLink(ctx, user.ID, purpose)
	if err != nil {
		return err
	}
	all := map[string]string{"name": user.FullName, "url": s.link(path + "#" + secret), "minutes": "60"}
	for k, v := range data {
		all[k] = v
	}
	return s.mail(ctx, domain.Mail{Template: template, To: to, Locale: user.Locale, Data: all})
}

func (s *Service) newLink(ctx context.Context, user, purpose string) (secret string, err error) {
	now := s.Now().UTC()
	if err := s.Store.For(ctx).Where("user_id = ? AND purpose = ?", user, purpose).Delete(&emailLink{}).Error; err != nil {
		return "", err
	}
	secret = newSecret()
	return secret, s.Store.For(ctx).Create(&emailLink{Hash: hashOf(secret), UserID: user, Purpose: purpose, CreatedAt: now, ExpiresAt: now.Add(linkLife)}).Error
}

// useLink takes a link, once, in the transaction of ctx.
func (s *Service) useLink(ctx context.Context, token string, purposes ...string) (l emailLink, user User, err error) {
	now := s.Now().UTC()
	if err = s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("hash = ? AND purpose IN ? AND used_at IS NULL AND expires_at > ?", hashOf(token), purposes, now).Limit(1).Find(&l).Error; err != nil {
		return l, user, err
	}
	if l.Hash == "" {
		return l, user, domain.E(domain.NotFound, "link_expired", "This link is used or too old; ask for another.")
	}
	if err = s.Store.For(ctx).Model(&emailLink{}).Where("hash = ?", l.Hash).Update("used_at", now).Error; err != nil {
		return l, user, err
	}
	return l, user, s.Store.For(ctx).Where("id = ?", l.UserID).Take(&user).Error
}

// AddressRequest names an address.
type AddressRequest struct {
	Email string `json:"email" format:"email" maxLength:"254"`
}

// Forgot mails a link to choose a new password.
func (s *Service) Forgot(ctx context.Context, in AddressRequest) (SentResponse, error) {
	return SentResponse{"sent"}, s.enqueue(ctx, letter{Purpose: "reset", Email: fold(in.Email)})
}

// SendVerification mails the link of a sign-up once more.
func (s *Service) SendVerification(ctx context.Context, in AddressRequest) (SentResponse, error) {
	return SentResponse{"sent"}, s.enqueue(ctx, letter{Purpose: "verify", Email: fold(in.Email)})
}

func fold(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// LinkRequest shows the secret of a link.
type LinkRequest struct {
	Token string `json:"token" minLength:"20" maxLength:"100" doc:"what follows # in the link"`
}

// VerifyEmail proves that a person reads the mail of their address.
func (s *Service) VerifyEmail(ctx context.Context, in LinkRequest) error {
	return s.Store.Tx(domain.System(ctx, "verify an address"), func(ctx context.Context) error {
		_, user, err := s.useLink(ctx, in.Token, "verify")
		if err != nil {
			return err
		}
		return s.change(ctx, user, "user.verify_email", map[string]any{"email_verified_at": s.Now().UTC()})
	})
}

// change updates a person's row and records it in every tenant of theirs.
func (s *Service) change(ctx context.Context, user User, action string, to map[string]any) error {
	to["updated_at"] = s.Now().UTC()
	if err := s.Store.For(ctx).Model(&User{}).Where("id = ?", user.ID).Updates(to).Error; err != nil {
		return err
	}
	ctx = s.acting(ctx, "a person's own account", user.ID)
	tenants, err := s.tenantsOf(ctx, user.ID)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if err := s.Audit.Record(ctx, audit.Entry{Action: action, Target: user.ID, Tenant: t.ID}); err != nil {
			return err
		}
	}
	return nil
}

// ResetRequest chooses a new password with a link.
type ResetRequest struct {
	Token    string `json:"token" minLength:"20" maxLength:"100" doc:"what follows # in the link"`
	Password string `json:"password" minLength:"10" maxLength:"128"`
}

// Reset chooses a new password. Every session ends, and a second factor stays
// as it was: the link proves the address and nothing else (ASVS V6.4.3).
func (s *Service) Reset(ctx context.Context, in ResetRequest) error {
	hash, err := s.passwords.hash(ctx, in.Password)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "a forgotten password"), func(ctx context.Context) error {
		_, user, err := s.useLink(ctx, in.Token, "reset")
		if err != nil {
			return err
		}
		if err := acceptable(in.Password, user.Email, user.FullName); err != nil {
			return err
		}
		to := map[string]any{"password_hash": hash}
		if user.EmailVerifiedAt == nil {
			to["email_verified_at"] = s.Now().UTC()
		}
		if err := s.change(ctx, user, "user.reset_password", to); err != nil {
			return err
		}
		return s.passwordChanged(ctx, user, "")
	})
}

// ChangePasswordRequest shows the old password and chooses a new one.
type ChangePasswordRequest struct {
	CurrentPassword string `json:"current_password" maxLength:"128"`
	NewPassword     string `json:"new_password" minLength:"10" maxLength:"128"`
}

// ChangePassword ends every other session of the person.
func (s *Service) ChangePassword(ctx context.Context, in ChangePasswordRequest) error {
	scope, _ := domain.ScopeOf(ctx)
	user, err := s.proved(ctx, in.CurrentPassword)
	if err != nil {
		return err
	}
	if err := acceptable(in.NewPassword, user.Email, user.FullName); err != nil {
		return err
	}
	hash, err := s.passwords.hash(ctx, in.NewPassword)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "a person's own password"), func(ctx context.Context) error {
		if err := s.change(ctx, user, "user.change_password", map[string]any{"password_hash": hash}); err != nil {
			return err
		}
		return s.passwordChanged(ctx, user, scope.Actor.Via)
	})
}

// passwordChanged ends the person's sessions but one, and tells them.
func (s *Service) passwordChanged(ctx context.Context, user User, but string) error {
	now := s.Now().UTC()
	err := s.Store.For(ctx).Model(&Session{}).Where("user_id = ? AND id <> ? AND revoked_at IS NULL", user.ID, but).Update("revoked_at", now).Error
	if err != nil {
		return err
	}
	if err := s.Store.For(ctx).Where("user_id = ? AND purpose = 'reset'", user.ID).Delete(&emailLink{}).Error; err != nil {
		return err
	}
	s.Store.AfterCommit(ctx, func() { s.forgetPerson(user.ID) })
	return s.mail(ctx, domain.Mail{Template: "password_changed", To: user.Email, Locale: user.Locale,
		Data: map[string]string{"name": user.FullName, "time": at(now), "place": place(ctx), "url": s.link("/forgot-password")}})
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func place(ctx context.Context) string {
	scope, _ := domain.ScopeOf(ctx)
	return network(scope.IP)
}

// person reads the caller.
func (s *Service) person(ctx context.Context) (user User, err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(domain.System(ctx, "a person's own account"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ?", scope.Actor.ID).Take(&user).Error
	})
	return user, err
}

// proved reads the caller, who shows their password.
func (s *Service) proved(ctx context.Context, password string) (user User, err error) {
	if user, err = s.person(ctx); err != nil {
		return user, err
	}
	g := s.guessing(ctx, "password", user.Email)
	if err := s.admitGuess(ctx, g, true); err != nil {
		return user, err
	}
	ok, err := s.passwords.matches(ctx, user.PasswordHash, password)
	if err != nil {
		return user, err
	}
	if !ok {
		if err := s.failed(ctx, g); err != nil {
			return user, err
		}
		return user, domain.E(domain.Unauthenticated, "invalid_credentials", "The password is wrong.")
	}
	return user, nil
}

// ChangeEmailRequest asks to move to another address.
type ChangeEmailRequest struct {
	NewEmail string `json:"new_email" format:"email" maxLength:"254"`
	Password string `json:"password" maxLength:"128"`
}

// ChangeEmail mails a link to both addresses; the account moves when both have
// been followed. It does not tell whether the new address has an account.
func (s *Service) ChangeEmail(ctx context.Context, in ChangeEmailRequest) (SentResponse, error) {
	user, err := s.proved(ctx, in.Password)
	if err != nil {
		return SentResponse{}, err
	}
	to := fold(in.NewEmail)
	names := map[string]string{"old": user.Email, "new": to}
	return SentResponse{"sent"}, s.Store.Tx(domain.System(ctx, "a person's own address"), func(ctx context.Context) error {
		if err := s.change(ctx, user, "user.ask_email", map[string]any{"new_email": to}); err != nil {
			return err
		}
		if err := s.sendLink(ctx, user, "change_old", user.Email, "email_change", "/confirm-email", names); err != nil {
			return err
		}
		var other User
		if err := s.Store.For(ctx).Where("email = ?", to).Limit(1).Find(&other).Error; err != nil {
			return err
		}
		if other.ID != "" {
			return s.mail(ctx, domain.Mail{Template: "account_exists", To: to, Locale: other.Locale, Data: map[string]string{"name": other.FullName, "url": s.link("/login")}})
		}
		return s.sendLink(ctx, user, "change_new", to, "email_change", "/confirm-email", names)
	})
}

// ConfirmEmailResponse says whether the account has moved.
type ConfirmEmailResponse struct {
	State string `json:"status" enum:"waiting,changed"`
}

// ConfirmEmail follows one of the two links.
func (s *Service) ConfirmEmail(ctx context.Context, in LinkRequest) (out ConfirmEmailResponse, err error) {
	err = s.Store.Tx(domain.System(ctx, "a person's own address"), func(ctx context.Context) error {
		l, user, err := s.useLink(ctx, in.Token, "change_old", "change_new")
		if err != nil {
			return err
		}
		var waiting int64
		if err := s.Store.For(ctx).Model(&emailLink{}).Where("user_id = ? AND purpose IN ('change_old', 'change_new') AND used_at IS NOT NULL AND expires_at > ?", user.ID, s.Now().UTC()).
			Count(&waiting).Error; err != nil {
			return err
		}
		if out.State = "waiting"; waiting < 2 || user.NewEmail == "" {
			return nil
		}
		out.State = "changed"
		if err := s.Store.For(ctx).Where("user_id = ? AND purpose IN ('change_old', 'change_new')", l.UserID).Delete(&emailLink{}).Error; err != nil {
			return err
		}
		if err := s.change(ctx, user, "user.change_email", map[string]any{"email": user.NewEmail, "new_email": "", "email_verified_at": s.Now().UTC()}); err != nil {
			return err
		}
		return s.factorChanged(ctx, user, "e-mail address")
	})
	return out, err
}

// factorChanged tells a person, at the address they had, what was changed.
func (s *Service) factorChanged(ctx context.Context, user User, what string) error {
	if strings.HasPrefix(user.Locale, "zh") {
		what = map[string]string{"e-mail address": "电子邮件地址", "authenticator app added": "已添加身份验证器应用", "authenticator app removed": "已移除身份验证器应用",
			"a recovery code was used": "使用了恢复代码", "passkey added": "已添加通行密钥", "passkey removed": "已移除通行密钥",
			"sign-in through another provider added": "已添加通过其他提供方的登录", "sign-in through another provider removed": "已移除通过其他提供方的登录"}[what]
	}
	return s.mail(ctx, domain.Mail{Template: "factor_changed", To: user.Email, Locale: user.Locale,
		Data: map[string]string{"name": user.FullName, "time": at(s.Now()), "place": place(ctx), "change": what, "url": s.link("/settings/security")}})
}

var _ = domain.Chinese(map[string]string{
	"This link is used or too old; ask for another.": "此链接已使用或已过期；请重新申请。",
	"The password is wrong.":                         "密码错误。",
})
