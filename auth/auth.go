// Package auth knows who calls and what they may do.
//
// A person signs in with a password and holds a session: a short-lived access
// token (EdDSA) and a refresh token that changes at every use. A refresh token
// that comes back after its successor was used is a theft, and ends the
// session; within ten seconds it is a second tab, and gets a token of its own.
// A program holds an API key: cr_live_<id>_<secret><checksum>. The checksum
// turns typing errors away before anything is looked up; of the key only its
// SHA-256 is stored.
//
// Neither a token nor a key says what may be done: the role comes from the
// membership and the scopes from the key's row, read anew at most a second
// before.
package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/seal"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
)

const (
	accessLife  = 10 * time.Minute
	sessionLife = 30 * 24 * time.Hour
	idleLife    = 7 * 24 * time.Hour // a refresh token that nobody uses
	tabGrace    = 10 * time.Second
	keyLife     = 30 * 24 * time.Hour // a new signing key each
	fresh       = time.Second         // how long a row is believed
	streamFresh = fresh * 2 / 5       // by an open stream, which asks twice a second
)

// Config of the Service. Seats takes (n > 0) or frees (n < 0) a tenant's seats
// in the transaction that makes or ends a membership or an invitation; Has says
// whether a tenant's plan has a feature; Client reaches identity providers, and
// only addresses that may be reached. They, Mail and Now may be nil.
type Config struct {
	Store     *store.Store
	Audit     *audit.Trail
	Tenants   *tenants.Service
	Seats     func(ctx context.Context, tenant string, n int64) error
	BuySeat   func(ctx context.Context) error // one more where all are taken; nil sells none
	SecretKey []byte
	Issuer    string // the iss and aud of access tokens
	BaseURL   string // of the portal, for links in mails
	Mail      domain.SendMail
	Queue     domain.Queue
	Verify    bool // an address must be proved before its account can be used
	Has       func(ctx context.Context, tenant, feature string) (bool, error)
	Client    *http.Client
	Plain     bool       // a tenant's provider may speak http: not in production
	Providers []Provider // that sign people in for every tenant
	Now       func() time.Time
}

// Service signs people and programs in.
type Service struct {
	Config
	passwords passwords
	policies  *policies
	sealer    sealer
	box       seal.Box // of factors and of jobs
	issuers   *issuers

	mu       sync.Mutex
	signing  signingKey
	verify   map[string]ed25519.PublicKey
	verified map[[32]byte]token      // access tokens whose signature was checked
	sessions map[string]sessionState // by session, tenant and user
	keys     map[string]keyState     // by lookup
	used     map[string]usedKey      // API keys used since the last flush, by id
}

type token struct {
	user, session, tenant string
	impersonator          string
	expires               time.Time
}

type sessionState struct {
	alive  bool
	role   string
	locale string
	proved time.Time
	factor string
	bound  bool
	owes   string
	admin  bool   // appointed as one
	by     string // the administrator who acts as the person
	read   time.Time
}

type keyState struct {
	row   APIKey
	found bool
	shut  bool   // who made it is disabled
	role  string // of who made it, now; "" is of no member
	read  time.Time
}

type usedKey struct {
	tenant string
	at     time.Time
}

// Principal is who calls, whatever the credential.
type Principal struct {
	Kind      string // "user", "api_key" or "scim"
	ID        string
	TenantID  string
	SessionID string
	Role      string    // of a person, or of whoever made the key
	Locale    string    // of a person
	ProvedAt  time.Time // when a person last showed a factor
	Factors   string    // what it was
	Owes      string    // what the tenant's policy of sign-in still asks for: mfa, sso or ""
	Bound     bool      // the tenant's own identity provider opened the session: it is good for nothing else of the person
	Appointed bool      // a platform administrator, whatever was shown
	Admin     bool      // one who has shown a second factor in this session
	Scopes    []string  // of a key

	Impersonator string // the platform administrator who acts as this person
}

// Credential is what a request shows.
type Credential struct {
	Bearer, APIKey, IP string
	Provisioner        string // the token of a tenant's directory
}

// User is a person.
type User struct {
	ID           string    `json:"id" gorm:"primaryKey"`
	Email        string    `json:"email"`
	FullName     string    `json:"full_name"`
	Locale       string    `json:"locale"`
	PasswordHash string    `json:"-"`
	AcceptedAt   time.Time `json:"-"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"-"`

	EmailVerifiedAt *time.Time `json:"email_verified_at" nullable:"true"`
	NewEmail        string     `json:"-"`
	TOTPSecret      string     `json:"-" gorm:"column:totp_secret"`
	TOTPConfirmedAt *time.Time `json:"totp_since" nullable:"true" gorm:"column:totp_confirmed_at" doc:"since when codes of an authenticator app are asked for"`
	TOTPLastStep    int64      `json:"-" gorm:"column:totp_last_step"`
	DisabledAt      *time.Time `json:"-"`
}

type membership struct {
	store.Owned
	ID        string `gorm:"primaryKey"`
	UserID    string
	Role      string
	CreatedAt time.Time
}

// Session is one sign-in.
type Session struct {
	store.Owned
	ID           string     `json:"id" gorm:"primaryKey"`
	UserID       string     `json:"-"`
	IP           string     `json:"ip"`
	UserAgent    string     `json:"user_agent"`
	CreatedAt    time.Time  `json:"created_at"`
	SeenAt       time.Time  `json:"seen_at"`
	ExpiresAt    time.Time  `json:"expires_at"`
	RevokedAt    *time.Time `json:"-"`
	Device       string     `json:"-"`
	Factors      string     `json:"factors" doc:"what was shown: pwd, otp, recovery, passkey, oidc or saml"`
	ProvedAt     *time.Time `json:"-"`
	ConnectionID string     `json:"-"`
	Impersonator string     `json:"impersonator,omitempty" doc:"the administrator of the platform whose session it is, acting as you"`

	Current bool `json:"current" gorm:"-"`
}

type refreshToken struct {
	Hash      string `gorm:"primaryKey"`
	SessionID string
	UsedAt    *time.Time
	ExpiresAt time.Time
	CreatedAt time.Time
}

// New makes the Service and its first signing key.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.Store == nil || c.Audit == nil || c.Tenants == nil || len(c.SecretKey) < 32 {
		return nil, errors.New("auth: needs a store, an audit trail, tenants and a secret key of 32 bytes")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Issuer == "" {
		c.Issuer = "chainreactions"
	}
	if c.Seats == nil {
		c.Seats = func(context.Context, string, int64) error { return nil }
	}
	if c.Has == nil {
		c.Has = func(context.Context, string, string) (bool, error) { return false, nil }
	}
	s := &Service{Config: c, issuers: newIssuers(c.Client), passwords: newPasswords(), policies: newPolicies(c.Store, c.Now), sealer: newSealer(c.SecretKey), box: seal.New(c.SecretKey, "accounts"),
		verify: map[string]ed25519.PublicKey{}, verified: map[[32]byte]token{}, sessions: map[string]sessionState{}, keys: map[string]keyState{}, used: map[string]usedKey{}}
	return s, s.rotateSigning(ctx)
}

// Authenticate says who shows the credential, and refuses every other.
func (s *Service) Authenticate(ctx context.Context, c Credential) (Principal, error) {
	switch {
	case c.Provisioner != "" && c.APIKey != "":
		return Principal{}, domain.E(domain.Unauthenticated, "unauthenticated", "This token is not one of ours, or was revoked.")
	case c.Provisioner != "":
		return s.byProvisioner(ctx, c.Provisioner)
	case c.APIKey != "" && c.Bearer != "":
		program, err := s.byKey(ctx, c, fresh)
		if err != nil {
			return Principal{}, err
		}
		person, err := s.byToken(ctx, c)
		if err == nil && person.TenantID != program.TenantID {
			err = domain.E(domain.Forbidden, "tenant_mismatch", "The host, the header and the credential name different tenants.")
		}
		return program, err
	case c.APIKey != "":
		return s.byKey(ctx, c, fresh)
	case c.Bearer != "":
		return s.byToken(ctx, c)
	}
	return Principal{}, domain.E(domain.Unauthenticated, "unauthenticated", "This needs an access token or an API key.")
}

// Still says what the principal is now, for a stream that the credential
// opened. An access token lives ten minutes; the stream may go on as long as
// the session does.
func (s *Service) Still(ctx context.Context, p Principal, c Credential) (Principal, error) {
	if p.Kind == "api_key" {
		return s.byKey(ctx, c, streamFresh)
	}
	return s.bySession(ctx, token{user: p.ID, session: p.SessionID, tenant: p.TenantID, impersonator: p.Impersonator}, streamFresh)
}

// May reports whether the principal has the permission, by the present policy. A
// key has those of its scopes that whoever made it still has.
func (s *Service) May(ctx context.Context, p Principal, permission string) (bool, error) {
	if p.Kind == "api_key" && !slices.Contains(p.Scopes, permission) {
		return false, nil
	}
	if p.Impersonator != "" && !InSomebodysName(permission) {
		return false, nil
	}
	return s.policies.may(ctx, p.TenantID, p.Role, permission)
}

func (s *Service) byToken(ctx context.Context, c Credential) (Principal, error) {
	refused := domain.E(domain.Unauthenticated, "unauthenticated", "The access token is not one of ours.")
	sum := sha256.Sum256([]byte(c.Bearer))
	now := s.Now()
	s.mu.Lock()
	t, ok := s.verified[sum]
	s.mu.Unlock()
	if !ok {
		var claims accessClaims
		_, err := jwt.ParseWithClaims(c.Bearer, &claims, func(t *jwt.Token) (any, error) {
			kid, _ := t.Header["kid"].(string)
			return s.publicKey(ctx, kid)
		}, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(s.Issuer), jwt.WithAudience(s.Issuer),
			jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.Now))
		if errors.Is(err, jwt.ErrTokenExpired) {
			return Principal{}, domain.E(domain.Unauthenticated, "token_expired", "The access token has expired.")
		}
		if err != nil {
			return Principal{}, refused.Because(err)
		}
		t = token{user: claims.Subject, session: claims.Session, tenant: claims.Tenant, expires: claims.ExpiresAt.Time}
		if claims.Act != nil {
			t.impersonator = claims.Act.Subject
		}
		s.mu.Lock()
		if len(s.verified) > 50_000 {
			clear(s.verified)
		}
		s.verified[sum] = t
		s.mu.Unlock()
	}
	if !now.Before(t.expires) {
		return Principal{}, domain.E(domain.Unauthenticated, "token_expired", "The access token has expired.")
	}
	return s.bySession(ctx, t, fresh)
}

func (s *Service) bySession(ctx context.Context, t token, age time.Duration) (Principal, error) {
	state, err := s.session(ctx, t, age)
	if err != nil {
		return Principal{}, err
	}
	if !state.alive || state.by != t.impersonator {
		return Principal{}, domain.E(domain.Unauthenticated, "unauthenticated", "This session has ended.")
	}
	return Principal{Kind: "user", ID: t.user, TenantID: t.tenant, SessionID: t.session, Role: state.role, Locale: state.locale,
		ProvedAt: state.proved, Factors: state.factor, Bound: state.bound, Owes: state.owes, Appointed: state.admin, Admin: state.admin && secondFactors[state.factor], Impersonator: state.by}, nil
}

// secondFactors are what counts as one; a password does not, nor what another
// site says of the person.
var secondFactors = map[string]bool{"otp": true, "recovery": true, "passkey": true}

// session reads whether the session lives and what the person's role is now.
func (s *Service) session(ctx context.Context, t token, age time.Duration) (sessionState, error) {
	key, now := t.session+"|"+t.tenant+"|"+t.user, s.Now()
	s.mu.Lock()
	state, ok := s.sessions[key]
	s.mu.Unlock()
	if ok && now.Sub(state.read) < age {
		return state, nil
	}
	state = sessionState{read: now}
	err := s.Store.Read(domain.System(ctx, "authentication"), func(ctx context.Context) error {
		var row struct {
			RevokedAt    *time.Time
			ExpiresAt    time.Time
			Role         string
			Locale       string
			ProvedAt     *time.Time
			Factors      string
			Bound        string
			Home         string
			Policy       string
			Admin        int64
			DisabledAt   *time.Time
			Impersonator string
			Begun        int64
		}
		err := s.Store.SQL(ctx, `SELECT s.revoked_at, s.expires_at, m.role, u.locale, u.disabled_at, s.proved_at, s.factors, s.connection_id AS bound, s.tenant_id AS home,
			(SELECT t.settings FROM tenants t WHERE t.id = @in) AS policy,
			(SELECT count(*) FROM platform_admins a WHERE a.user_id = s.user_id) AS admin, s.impersonator,
			(SELECT count(*) FROM impersonations i JOIN sessions o ON o.id = i.admin_session AND o.revoked_at IS NULL
				JOIN platform_admins a ON a.user_id = i.admin_id WHERE i.session_id = s.id AND i.tenant_id = @in AND i.ended_at IS NULL) AS begun
			FROM sessions s
			JOIN users u ON u.id = s.user_id JOIN memberships m ON m.user_id = s.user_id AND m.tenant_id = @in
			WHERE s.id = @session AND s.user_id = @user`,
			map[string]any{"in": t.tenant, "session": t.session, "user": t.user}).Scan(&row).Error
		if err != nil {
			return err
		}
		state.bound = row.Bound != ""
		state.alive = row.Role != "" && row.RevokedAt == nil && row.DisabledAt == nil && now.Before(row.ExpiresAt) && (!state.bound || row.Home == t.tenant)
		state.role, state.locale, state.factor = row.Role, row.Locale, row.Factors
		state.by = row.Impersonator
		state.admin = row.Admin > 0 && !state.bound && state.by == "" // what a tenant's provider says makes nobody ours
		if state.by != "" && row.Begun == 0 {                         // the administrator's own session is over, or they are none
			state.alive = false
		}
		if state.alive && state.by == "" {
			if state.owes, err = owes(row.Policy, row.Role, row.Factors, state.bound); err != nil {
				return err
			}
		}
		if row.ProvedAt != nil {
			state.proved = *row.ProvedAt
		}
		return nil
	})
	if err != nil {
		return state, err
	}
	s.mu.Lock()
	if len(s.sessions) > 50_000 {
		clear(s.sessions)
	}
	s.sessions[key] = state
	s.mu.Unlock()
	return state, nil
}

// owes says what a tenant's policy of sign-in asks of a session that it has not
// shown. A session of the tenant's own provider owes nothing: whoever runs that
// provider asks for factors there. Owners are let in without it, so that a
// provider that fails does not lock the tenant out.
func owes(policy, role, factor string, bound bool) (string, error) {
	settings, err := tenants.ReadSettings(policy)
	switch {
	case err != nil || bound:
		return "", err
	case *settings.RequireSSO && role != "owner":
		return "sso", nil
	case *settings.RequireMFA && !secondFactors[factor]:
		return "mfa", nil
	}
	return "", nil
}

// forget drops what is believed of a session, at once in this process; others
// read it anew within a second.
func (s *Service) forget(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.sessions {
		if strings.HasPrefix(key, session+"|") {
			delete(s.sessions, key)
		}
	}
}

func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

var _ = domain.Chinese(map[string]string{
	"This needs an access token or an API key.":                       "需要访问令牌或 API 密钥。",
	"The access token is not one of ours.":                            "该访问令牌不是由本系统签发的。",
	"The access token has expired.":                                   "访问令牌已过期。",
	"This session has ended.":                                         "该会话已结束。",
	"The host, the header and the credential name different tenants.": "主机名、请求头与凭据指向不同的租户。",
})
