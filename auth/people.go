package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
)

// SignupRequest opens an account and its first tenant.
type SignupRequest struct {
	Email         string `json:"email" format:"email" maxLength:"254"`
	Password      string `json:"password" minLength:"10" maxLength:"128"`
	FullName      string `json:"full_name" minLength:"1" maxLength:"200"`
	WorkspaceName string `json:"workspace_name" minLength:"1" maxLength:"200"`
	AcceptTerms   bool   `json:"accept_terms" doc:"must be true"`
	Locale        string `json:"locale,omitempty" enum:"en,zh-CN"`
}

// Tokens are the answer of every sign-in.
type Tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type" enum:"Bearer"`
	ExpiresIn    int    `json:"expires_in" doc:"seconds"`
	RefreshToken string `json:"refresh_token,omitempty" doc:"not where a browser asks: it has the cookie"`
	cookie       string
}

// Cookie is the refresh token for the portal's cookie.
func (t Tokens) Cookie() (token string, life time.Duration) { return t.cookie, idleLife }

// SignupResponse is a new account, signed in; or, where the address must be
// proved first, the word that a mail was sent, whoever has the address.
type SignupResponse struct {
	State  string          `json:"status,omitempty" enum:"verification_sent" doc:"with 202: the rest is absent"`
	User   *User           `json:"user,omitempty"`
	Tenant *tenants.Tenant `json:"tenant,omitempty"`

	AccessToken  string `json:"access_token,omitempty"`
	TokenType    string `json:"token_type,omitempty" enum:"Bearer"`
	ExpiresIn    int    `json:"expires_in,omitempty" doc:"seconds"`
	RefreshToken string `json:"refresh_token,omitempty" doc:"not where a browser asks: it has the cookie"`
	cookie       string
}

// Cookie is the refresh token for the portal's cookie.
func (r SignupResponse) Cookie() (token string, life time.Duration) { return r.cookie, idleLife }

// signedIn adds the tokens.
func (r *SignupResponse) signedIn(t Tokens) {
	r.AccessToken, r.TokenType, r.ExpiresIn, r.RefreshToken, r.cookie = t.AccessToken, t.TokenType, t.ExpiresIn, t.RefreshToken, t.cookie
}

// Status is 202 where the account is yet to be proved.
func (r SignupResponse) Status() int {
	if r.State != "" {
		return 202
	}
	return 201
}

// Signup makes the person, the tenant, the ownership and the session together.
func (s *Service) Signup(ctx context.Context, in SignupRequest) (out SignupResponse, err error) {
	in.Email = fold(in.Email)
	if !in.AcceptTerms {
		return out, domain.InvalidField("accept_terms", "required", "The terms must be accepted.")
	}
	if err := acceptable(in.Password, in.Email, in.FullName, in.WorkspaceName); err != nil {
		return out, err
	}
	hash, err := s.passwords.hash(ctx, in.Password)
	if err != nil {
		return out, err
	}
	if s.Verify {
		in.Password = hash
		return SignupResponse{State: "verification_sent"}, s.enqueue(ctx, letter{Purpose: "signup", Email: in.Email, Signup: &in})
	}
	verified := s.Now().UTC()
	return s.open(s.acting(ctx, "sign-up", ""), in, hash, &verified)
}

// open makes the account, which has no password where hash is empty. Without a
// proof of its address it is not signed in.
func (s *Service) open(ctx context.Context, in SignupRequest, hash string, verified *time.Time) (out SignupResponse, err error) {
	if in.Locale == "" {
		in.Locale = "en"
	}
	now := s.Now().UTC()
	user := User{ID: domain.NewID("usr"), Email: in.Email, FullName: in.FullName, Locale: in.Locale, PasswordHash: hash, AcceptedAt: now, CreatedAt: now, UpdatedAt: now, EmailVerifiedAt: verified}
	out.User = &user
	err = s.Store.Tx(s.acting(ctx, "sign-up", user.ID), func(ctx context.Context) error {
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&user)
		if made.Error != nil {
			return made.Error
		}
		if made.RowsAffected == 0 {
			return domain.E(domain.Conflict, "email_taken", "This address has an account already.")
		}
		t, err := s.Tenants.Create(ctx, in.WorkspaceName, in.Locale)
		if err != nil {
			return err
		}
		out.Tenant = &t
		if err := s.Seats(ctx, t.ID, 1); err != nil {
			return err
		}
		m := membership{Owned: store.Owned{TenantID: t.ID}, ID: domain.NewID("mem"), UserID: user.ID, Role: "owner", CreatedAt: now}
		if err := s.Store.For(ctx).Create(&m).Error; err != nil {
			return err
		}
		if err := s.Audit.Record(ctx, audit.Entry{Action: "user.signup", Target: user.ID, Tenant: t.ID}); err != nil {
			return err
		}
		if verified == nil {
			return nil
		}
		factor := "pwd"
		if hash == "" {
			factor = "oidc"
		}
		tokens, err := s.start(ctx, opening{user: user.ID, tenant: t.ID, factor: factor, proved: now})
		out.signedIn(tokens)
		return err
	})
	return out, err
}

// LoginRequest signs a person in.
type LoginRequest struct {
	Email        string `json:"email" maxLength:"254"`
	Password     string `json:"password" maxLength:"128"`
	TOTP         string `json:"totp,omitempty" maxLength:"6" doc:"the code of the authenticator app, where there is one"`
	RecoveryCode string `json:"recovery_code,omitempty" maxLength:"40"`
}

// TenantRole is a tenant that a person belongs to.
type TenantRole struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
	Name string `json:"name"`
	Role string `json:"role"`
}

// LoginResponse is a person, signed in to the first of their tenants.
type LoginResponse struct {
	User    User         `json:"user"`
	Tenants []TenantRole `json:"tenants" nullable:"false"`
	Tokens
}

// Login answers the same, after the same work, whether the address has no
// account or the password is wrong.
func (s *Service) Login(ctx context.Context, in LoginRequest) (out LoginResponse, err error) {
	email := fold(in.Email)
	sys := domain.System(ctx, "sign-in")
	known := int64(0)
	err = s.Store.Read(sys, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("email = ?", email).Limit(1).Find(&out.User).Error; err != nil {
			return err
		}
		return s.Store.For(ctx).Model(&Session{}).Where("user_id = ? AND device LIKE ?", out.User.ID, "%|"+s.mark("network", place(ctx))).Count(&known).Error
	})
	if err != nil {
		return out, err
	}
	g := s.guessing(ctx, "password", email)
	if err := s.admitGuess(ctx, g, known > 0); err != nil {
		return LoginResponse{}, err
	}
	ok, err := s.passwords.matches(ctx, out.User.PasswordHash, in.Password)
	if err != nil {
		return out, err
	}
	if !ok || out.User.ID == "" {
		if err := s.failed(ctx, g); err != nil {
			return LoginResponse{}, err
		}
		return LoginResponse{}, domain.E(domain.Unauthenticated, "invalid_credentials", "The address or the password is wrong.")
	}
	if s.Verify && out.User.EmailVerifiedAt == nil {
		return LoginResponse{}, domain.E(domain.Forbidden, "email_unverified", "This address is not confirmed yet: follow the link in our mail, or ask for another.")
	}
	factor := "pwd"
	if out.User.TOTPConfirmedAt != nil {
		if in.TOTP == "" && in.RecoveryCode == "" {
			return LoginResponse{}, mfaRequired()
		}
		if factor, err = s.secondFactor(ctx, out.User, in.TOTP, in.RecoveryCode); err != nil {
			return LoginResponse{}, err
		}
	}
	return s.enter(ctx, out.User, opening{factor: factor}, &g)
}

// opening is how a session begins.
type opening struct {
	user, tenant string
	factor       string    // that was shown
	proved       time.Time // when; zero is now
	connection   string    // the tenant's own provider, to whose tenant the session is bound; or ""
}

// enter signs a person in who has shown all that is asked of them: to the
// tenant of the opening, or else to the first of theirs.
func (s *Service) enter(ctx context.Context, user User, o opening, g *guess) (out LoginResponse, err error) {
	out.User = user
	if out.Tenants, err = s.tenantsOf(domain.System(ctx, "sign-in"), user.ID); err != nil {
		return out, err
	}
	if len(out.Tenants) == 0 {
		return LoginResponse{}, domain.E(domain.Forbidden, "forbidden", "This account belongs to no tenant.")
	}
	err = s.Store.Tx(s.acting(ctx, "sign-in", user.ID), func(ctx context.Context) error {
		if g != nil {
			if err := s.forgive(ctx, *g); err != nil {
				return err
			}
		}
		o.user = user.ID
		if o.tenant == "" {
			o.tenant = out.Tenants[0].ID
		}
		if err := s.tellNewDevice(ctx, user, o.tenant); err != nil {
			return err
		}
		out.Tokens, err = s.start(ctx, o)
		return err
	})
	return out, err
}

// device is what a sign-in looks like: the client, and where it is.
func (s *Service) device(ctx context.Context) string {
	scope, _ := domain.ScopeOf(ctx)
	return s.mark("client", scope.UserAgent) + "|" + s.mark("network", network(scope.IP))
}

// tellNewDevice mails the person whose account is signed in to with a client
// that it has not seen.
func (s *Service) tellNewDevice(ctx context.Context, user User, tenant string) error {
	client, _, _ := strings.Cut(s.device(ctx), "|")
	var all, same int64
	if err := s.Store.For(ctx).Model(&Session{}).Where("user_id = ?", user.ID).Count(&all).Error; err != nil {
		return err
	}
	if err := s.Store.For(ctx).Model(&Session{}).Where("user_id = ? AND (device LIKE ? OR device LIKE ?)", user.ID, client+"|%", "%|"+s.mark("network", place(ctx))).Count(&same).Error; err != nil {
		return err
	}
	if all == 0 || same > 0 {
		return nil
	}
	if err := s.Audit.Record(ctx, audit.Entry{Action: "session.new_device", Target: user.ID, Tenant: tenant}); err != nil {
		return err
	}
	scope, _ := domain.ScopeOf(ctx)
	return s.mail(ctx, domain.Mail{Template: "new_device", To: user.Email, Locale: user.Locale,
		Data: map[string]string{"name": user.FullName, "time": at(s.Now()), "place": place(ctx), "device": scope.UserAgent, "url": s.link("/settings/security")}})
}

// acting is a system scope in which the person is the actor.
func (s *Service) acting(ctx context.Context, reason, user string) context.Context {
	scope, _ := domain.ScopeOf(ctx)
	scope.Actor = domain.Actor{Kind: "user", ID: user, Impersonator: scope.Actor.Impersonator}
	return domain.System(domain.WithScope(ctx, scope), reason)
}

func (s *Service) tenantsOf(ctx context.Context, user string) ([]TenantRole, error) {
	out := []TenantRole{}
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.SQL(ctx, `SELECT t.id, t.slug, t.name, m.role FROM memberships m JOIN tenants t ON t.id = m.tenant_id
			WHERE m.user_id = @user ORDER BY m.created_at, t.id`, map[string]any{"user": user}).Scan(&out).Error
	})
	return out, err
}

// start opens a session in the transaction of ctx.
func (s *Service) start(ctx context.Context, o opening) (Tokens, error) {
	if err := s.shut(ctx, o.user); err != nil {
		return Tokens{}, err
	}
	scope, _ := domain.ScopeOf(ctx)
	now := s.Now().UTC()
	if o.proved.IsZero() {
		o.proved = now
	}
	row := Session{Owned: store.Owned{TenantID: o.tenant}, ID: domain.NewID("ses"), UserID: o.user, IP: scope.IP, UserAgent: scope.UserAgent,
		CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(sessionLife), Device: s.device(ctx), Factors: o.factor, ProvedAt: &o.proved, ConnectionID: o.connection}
	if err := s.Store.For(ctx).Create(&row).Error; err != nil {
		return Tokens{}, err
	}
	if err := s.Audit.Record(ctx, audit.Entry{Action: "session.start", Target: row.ID, Tenant: o.tenant, Detail: map[string]any{"factors": o.factor}}); err != nil {
		return Tokens{}, err
	}
	return s.tokens(ctx, o.user, row.ID, o.tenant, "")
}

// tokens gives a new pair in the transaction of ctx. The successor of a refresh
// token is made from it: tabs that refresh at once get the same one, and the
// family has no branches that a thief could live on.
func (s *Service) tokens(ctx context.Context, user, session, tenant, parent string) (Tokens, error) {
	now := s.Now().UTC()
	secret := newSecret()
	if parent != "" {
		h := hmac.New(sha256.New, s.SecretKey)
		h.Write([]byte("refresh token after " + parent))
		secret = base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}
	r := refreshToken{Hash: hashOf(secret), SessionID: session, CreatedAt: now, ExpiresAt: now.Add(idleLife)}
	if err := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&r).Error; err != nil {
		return Tokens{}, err
	}
	access, err := s.access(ctx, user, session, tenant)
	t := Tokens{AccessToken: access, TokenType: "Bearer", ExpiresIn: int(accessLife.Seconds()), RefreshToken: secret, cookie: secret}
	if scope, _ := domain.ScopeOf(ctx); scope.Browser {
		t.RefreshToken = ""
	}
	return t, err
}

// RefreshRequest changes a refresh token for a new pair.
type RefreshRequest struct {
	RefreshToken string `json:"refresh_token,omitempty" maxLength:"200" doc:"absent where the cookie holds it"`
	Cookie       string `cookie:"refresh" json:"-" maxLength:"200"`
}

// Refresh rotates. A token used before is a second tab within ten seconds, and
// a theft after: the whole session ends.
func (s *Service) Refresh(ctx context.Context, in RefreshRequest) (out Tokens, err error) {
	refused := domain.E(domain.Unauthenticated, "unauthenticated", "The refresh token is not usable.")
	if in.RefreshToken == "" {
		in.RefreshToken = in.Cookie
	}
	var stolen *Session
	now := s.Now().UTC()
	err = s.Store.Tx(domain.System(ctx, "refresh"), func(ctx context.Context) error {
		db := s.Store.For(ctx)
		var r refreshToken
		if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("hash = ?", hashOf(in.RefreshToken)).Limit(1).Find(&r).Error; err != nil {
			return err
		}
		if r.Hash == "" || now.After(r.ExpiresAt) {
			return refused
		}
		var session Session
		if err := db.Where("id = ?", r.SessionID).Take(&session).Error; err != nil {
			return err
		}
		if session.RevokedAt != nil || now.After(session.ExpiresAt) {
			return refused
		}
		switch {
		case r.UsedAt == nil:
			if err := db.Model(&refreshToken{}).Where("hash = ?", r.Hash).Update("used_at", now).Error; err != nil {
				return err
			}
		case now.Sub(*r.UsedAt) > tabGrace:
			stolen = &session
			return nil
		}
		if err := db.Model(&Session{}).Where("id = ?", session.ID).Update("seen_at", now).Error; err != nil {
			return err
		}
		out, err = s.tokens(ctx, session.UserID, session.ID, session.TenantID, in.RefreshToken)
		return err
	})
	if err != nil {
		return out, err
	}
	if stolen != nil {
		if err := s.revoke(ctx, *stolen, "refresh token used twice"); err != nil {
			return out, err
		}
		if err := s.tellTheft(ctx, stolen.UserID); err != nil {
			return out, err
		}
		return out, refused
	}
	return out, nil
}

func (s *Service) tellTheft(ctx context.Context, id string) error {
	return s.Store.Tx(domain.System(ctx, "a stolen session"), func(ctx context.Context) error {
		var user User
		if err := s.Store.For(ctx).Where("id = ?", id).Take(&user).Error; err != nil {
			return err
		}
		return s.mail(ctx, domain.Mail{Template: "session_theft", To: user.Email, Locale: user.Locale, Data: map[string]string{"name": user.FullName, "url": s.link("/login")}})
	})
}

func (s *Service) revoke(ctx context.Context, row Session, why string) error {
	err := s.Store.Tx(s.acting(ctx, "end a session", row.UserID), func(ctx context.Context) error {
		res := s.Store.For(ctx).Model(&Session{}).Where("id = ? AND revoked_at IS NULL", row.ID).Update("revoked_at", s.Now().UTC())
		if res.Error != nil || res.RowsAffected == 0 {
			return res.Error
		}
		if row.Impersonator != "" {
			var imp Impersonation
			if err := s.Store.For(ctx).Where("session_id = ?", row.ID).Take(&imp).Error; err != nil {
				return err
			}
			return s.endImpersonation(ctx, imp)
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "session.revoke", Target: row.ID, Tenant: row.TenantID, Detail: map[string]any{"why": why}})
	})
	s.forget(row.ID)
	return err
}

// Logout ends the session of the access token.
func (s *Service) Logout(ctx context.Context, _ struct{}) error {
	scope, _ := domain.ScopeOf(ctx)
	return s.RevokeSession(ctx, SessionRequest{ID: scope.Actor.Via})
}

// SessionRequest names one session.
type SessionRequest struct {
	ID string `path:"id"`
}

// Sessions lists the person's live sessions, in all tenants.
func (s *Service) Sessions(ctx context.Context, in domain.PageRequest) (page domain.Page[Session], err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(domain.System(ctx, "a person's own sessions"), func(ctx context.Context) error {
		live := s.Store.For(ctx).Where("user_id = ? AND revoked_at IS NULL AND expires_at > ?", scope.Actor.ID, s.Now().UTC())
		page, err = store.Oldest(live, in, func(r Session) string { return r.ID })
		return err
	})
	for i := range page.Data {
		page.Data[i].Current = page.Data[i].ID == scope.Actor.Via
	}
	return page, err
}

// RevokeSession ends one of the person's own sessions.
func (s *Service) RevokeSession(ctx context.Context, in SessionRequest) error {
	scope, _ := domain.ScopeOf(ctx)
	var row Session
	err := s.Store.Read(domain.System(ctx, "a person's own sessions"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ? AND user_id = ? AND revoked_at IS NULL", in.ID, scope.Actor.ID).Take(&row).Error
	})
	if err != nil {
		return err
	}
	return s.revoke(ctx, row, "asked for")
}

// SwitchRequest names another tenant of the person's.
type SwitchRequest struct {
	TenantID string `json:"tenant_id" maxLength:"64"`
}

// Switch gives tokens for another tenant of the same person; one that they do
// not belong to is not there.
func (s *Service) Switch(ctx context.Context, in SwitchRequest) (out Tokens, err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Tx(s.acting(ctx, "switch tenant", scope.Actor.ID), func(ctx context.Context) error {
		var m membership
		if err := s.Store.For(ctx).Where("tenant_id = ? AND user_id = ?", in.TenantID, scope.Actor.ID).Take(&m).Error; err != nil {
			return err
		}
		var from Session
		if err := s.Store.For(ctx).Where("id = ?", scope.Actor.Via).Take(&from).Error; err != nil {
			return err
		}
		if from.ConnectionID != "" {
			return domain.E(domain.Forbidden, "sso_session", "Your organisation signed you in here: sign in to your own account for this.")
		}
		// What was proved, and when, goes along: a switch shows no factor.
		proved := time.Unix(0, 0).UTC()
		if from.ProvedAt != nil {
			proved = *from.ProvedAt
		}
		out, err = s.start(ctx, opening{user: scope.Actor.ID, tenant: in.TenantID, factor: from.Factors, proved: proved})
		return err
	})
	return out, err
}

// MeResponse is who calls.
type MeResponse struct {
	User        *User        `json:"user,omitempty" doc:"absent for an API key"`
	TenantID    string       `json:"tenant_id"`
	Tenants     []TenantRole `json:"tenants" nullable:"false"`
	Permissions []string     `json:"permissions" nullable:"false"`

	Administrator bool           `json:"administrator" doc:"one who runs the platform; /admin wants a second factor in the session too"`
	Impersonation *Impersonation `json:"impersonation,omitempty" doc:"there while an administrator of the platform acts as this person"`
}

// Me tells a person, or a key, what they are here. A session that a tenant's own
// provider opened is told nothing of the person's other tenants.
func (s *Service) Me(ctx context.Context, _ struct{}) (out MeResponse, err error) {
	scope, _ := domain.ScopeOf(ctx)
	out = MeResponse{TenantID: scope.Tenant, Tenants: []TenantRole{}, Permissions: []string{}}
	if scope.Actor.Kind == "api_key" {
		var key APIKey
		err = s.Store.Read(ctx, func(ctx context.Context) error {
			return s.Store.For(ctx).Where("id = ?", scope.Actor.ID).Take(&key).Error
		})
		if err != nil {
			return out, err
		}
		p := Principal{Kind: "api_key", TenantID: scope.Tenant, Scopes: key.Scopes}
		err = s.Store.Read(domain.System(ctx, "a key's own rights"), func(ctx context.Context) error {
			p.Role, _, err = s.maker(ctx, scope.Tenant, key.CreatedBy)
			return err
		})
		if err != nil {
			return out, err
		}
		for _, permission := range key.Scopes {
			ok, err := s.May(ctx, p, permission)
			if err != nil {
				return out, err
			}
			if ok {
				out.Permissions = append(out.Permissions, permission)
			}
		}
		return out, nil
	}
	sys := domain.System(ctx, "a person's own account")
	var user User
	err = s.Store.Read(sys, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ?", scope.Actor.ID).Take(&user).Error
	})
	if err != nil {
		return out, err
	}
	out.User = &user
	if out.Tenants, err = s.tenantsOf(sys, user.ID); err != nil {
		return out, err
	}
	if scope.Actor.Impersonator != "" {
		imp, err := s.begun(ctx)
		if err != nil {
			return out, err
		}
		out.Impersonation = &imp
	}
	bound := scope.Actor.Bound || scope.Actor.Impersonator != ""
	if !bound {
		err := s.Store.Read(sys, func(ctx context.Context) error {
			return s.Store.For(ctx).Model(&platformAdmin{}).Select("count(*) > 0").Where("user_id = ?", user.ID).Scan(&out.Administrator).Error
		})
		if err != nil {
			return out, err
		}
	}
	if bound {
		out.Tenants = slices.DeleteFunc(out.Tenants, func(t TenantRole) bool { return t.ID != scope.Tenant })
	}
	for _, t := range out.Tenants {
		if t.ID != scope.Tenant {
			continue
		}
		for _, p := range permissionList {
			if ok, err := s.policies.may(ctx, t.ID, t.Role, p); err != nil {
				return out, err
			} else if ok && (out.Impersonation == nil || InSomebodysName(p)) {
				out.Permissions = append(out.Permissions, p)
			}
		}
	}
	return out, nil
}

// UpdateMeRequest changes what a person may change of themselves.
type UpdateMeRequest struct {
	FullName *string `json:"full_name,omitempty" minLength:"1" maxLength:"200"`
	Locale   *string `json:"locale,omitempty" enum:"en,zh-CN"`
}

// UpdateMe changes the caller's own name and language.
func (s *Service) UpdateMe(ctx context.Context, in UpdateMeRequest) (MeResponse, error) {
	scope, _ := domain.ScopeOf(ctx)
	err := s.Store.Tx(s.acting(ctx, "a person's own account", scope.Actor.ID), func(ctx context.Context) error {
		change := map[string]any{"updated_at": s.Now().UTC()}
		if in.FullName != nil {
			change["full_name"] = *in.FullName
		}
		if in.Locale != nil {
			change["locale"] = *in.Locale
		}
		if err := s.Store.For(ctx).Model(&User{}).Where("id = ?", scope.Actor.ID).Updates(change).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "user.update", Target: scope.Actor.ID, Tenant: scope.Tenant})
	})
	if err != nil {
		return MeResponse{}, err
	}
	return s.Me(ctx, struct{}{})
}

var _ = domain.Chinese(map[string]string{
	"The terms must be accepted.":                                                         "必须接受条款。",
	"This address has an account already.":                                                "该地址已有账户。",
	"The address or the password is wrong.":                                               "地址或密码错误。",
	"This account belongs to no tenant.":                                                  "该账户不属于任何租户。",
	"This address is not confirmed yet: follow the link in our mail, or ask for another.": "该地址尚未确认：请打开我们邮件中的链接，或重新申请。",
	"The refresh token is not usable.":                                                    "刷新令牌不可用。",
})
