package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
)

// Sign-in through others: OpenID Connect (oidc.go) and SAML (saml.go) bring an
// arrival here, and what it may open is decided by whose provider it came from.
//
// A person is known at a provider by the issuer and the issuer's own id of them,
// never by an address. Google, GitHub and Microsoft are everybody's: who comes
// from there is the person, and a second factor is asked for as after a password.
// A provider that a tenant named is that tenant's: whoever runs it can say
// anything of anybody. Its word opens a session of its own tenant, in which
// nothing of the person's own account, and no other tenant, can be reached.
//
// An address that a provider vouches for only finds the account that somebody may
// want to link. The link is made by the person, signed in to that account by its
// own means (AcceptIdentity). A tenant's provider opens new accounts, and makes
// members, for addresses of a domain alone that the tenant has proved to be its
// own.
const (
	flowLife       = 10 * time.Minute
	maxConnections = 5
)

// Connection is a tenant's own identity provider.
type Connection struct {
	store.Owned
	ID           string    `json:"id" gorm:"primaryKey"`
	Kind         string    `json:"kind" enum:"oidc,saml"`
	Name         string    `json:"name"`
	Issuer       string    `json:"issuer" doc:"of SAML, the entity id"`
	ClientID     string    `json:"client_id"`
	ClientSecret string    `json:"-"`
	Metadata     string    `json:"-"`
	DefaultRole  string    `json:"default_role" doc:"of who comes for the first time, with an address of a domain that the tenant has proved"`
	Enabled      bool      `json:"enabled"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`

	StartURL    string `json:"start_url" gorm:"-" doc:"where a sign-in begins"`
	CallbackURL string `json:"callback_url" gorm:"-" doc:"to be told to the provider: the redirect URI; of SAML, the assertion consumer service"`
	MetadataURL string `json:"metadata_url,omitempty" gorm:"-" doc:"of SAML: what we are, for the provider to read; it is our entity id too"`
}

// TableName is GORM's.
func (Connection) TableName() string { return "sso_connections" }

func (s *Service) told(c Connection) Connection {
	c.StartURL = s.link("/api/v1/auth/" + c.Kind + "/" + c.ID + "/start")
	c.CallbackURL = s.link("/api/v1/auth/oidc/" + c.ID + "/callback")
	if c.Kind == "saml" {
		c.CallbackURL, c.MetadataURL = s.samlAt(c.ID, "acs"), s.samlAt(c.ID, "metadata")
	}
	return c
}

// Connections lists the tenant's identity providers.
func (s *Service) Connections(ctx context.Context, in domain.PageRequest) (page domain.Page[Connection], err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		page, err = store.Oldest(s.Store.For(ctx), in, func(c Connection) string { return c.ID })
		return err
	})
	for i, c := range page.Data {
		page.Data[i] = s.told(c)
	}
	return page, err
}

// ConnectionRequest names one.
type ConnectionRequest struct {
	ID string `path:"id"`
}

// Connection is one of the tenant's.
func (s *Service) Connection(ctx context.Context, in ConnectionRequest) (c Connection, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Where("id = ?", in.ID).Take(&c).Error })
	return s.told(c), err
}

// CreateConnectionRequest adds an identity provider.
type CreateConnectionRequest struct {
	Kind         string `json:"kind" enum:"oidc,saml"`
	Name         string `json:"name" minLength:"1" maxLength:"60" doc:"on the button"`
	Issuer       string `json:"issuer,omitempty" maxLength:"500" doc:"of OpenID Connect: as the provider's /.well-known/openid-configuration says it"`
	ClientID     string `json:"client_id,omitempty" maxLength:"500"`
	ClientSecret string `json:"client_secret,omitempty" maxLength:"1000" doc:"kept sealed, and never shown"`
	Metadata     string `json:"metadata,omitempty" maxLength:"200000" doc:"of SAML: the provider's, as XML"`
	DefaultRole  string `json:"default_role,omitempty" maxLength:"64" doc:"viewer without it; never owner"`
}

// CreateConnection adds one, once its description could be read.
func (s *Service) CreateConnection(ctx context.Context, in CreateConnectionRequest) (c Connection, err error) {
	now := s.Now().UTC()
	c = Connection{ID: domain.NewID("sso"), Kind: in.Kind, Name: strings.TrimSpace(in.Name), Issuer: in.Issuer, ClientID: in.ClientID, DefaultRole: in.DefaultRole,
		Enabled: true, CreatedAt: now, UpdatedAt: now}
	if c.DefaultRole == "" {
		c.DefaultRole = "viewer"
	}
	if c.Kind == "saml" {
		idp, err := s.readMetadata(in.Metadata)
		if err != nil {
			return c, err
		}
		c.Issuer, c.Metadata, c.ClientID, in.ClientSecret = idp.EntityID, in.Metadata, "", ""
	} else if c.ClientID == "" {
		return c, domain.InvalidField("client_id", "required", "This field is required.")
	} else if err := s.describes(ctx, c.Issuer); err != nil {
		return c, err
	}
	c.ClientSecret = s.box.Seal("sso "+c.ID, []byte(in.ClientSecret))
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.arrivesAs(ctx, c.DefaultRole); err != nil {
			return err
		}
		var n int64
		if err := s.Store.For(ctx).Model(&Connection{}).Count(&n).Error; err != nil {
			return err
		}
		if n >= maxConnections {
			return domain.E(domain.Conflict, "conflict", "A tenant has at most %d identity providers.", maxConnections)
		}
		if err := s.Store.For(ctx).Create(&c).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "sso.create", Target: c.ID, Detail: map[string]any{"kind": c.Kind, "issuer": c.Issuer, "default_role": c.DefaultRole}})
	})
	return s.told(c), err
}

// describes reads an issuer's description, through the guard that keeps us from
// addresses of our own network.
func (s *Service) describes(ctx context.Context, name string) error {
	u, err := url.Parse(name)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && !(s.Plain && u.Scheme == "http") {
		return domain.InvalidField("issuer", "invalid_address", "This is not an https address.")
	}
	is, err := s.issuers.find(ctx, name, s.Now())
	if err == nil {
		err = s.mayLead(is.about.AuthURL)
	}
	if err != nil {
		return domain.InvalidField("issuer", "not_a_provider", "No OpenID Connect provider answers at this address.").Because(err)
	}
	return nil
}

// arrivesAs checks the role that strangers get: the caller may give it, and it
// is not an owner's.
func (s *Service) arrivesAs(ctx context.Context, role string) error {
	if role == "owner" {
		return domain.InvalidField("default_role", "not_allowed", "Nobody becomes an owner by signing in.")
	}
	return s.giveable(ctx, "default_role", role)
}

// UpdateConnectionRequest changes one. Its issuer stays: people are known by it.
type UpdateConnectionRequest struct {
	ID           string  `path:"id"`
	Name         *string `json:"name,omitempty" minLength:"1" maxLength:"60"`
	ClientID     *string `json:"client_id,omitempty" minLength:"1" maxLength:"500"`
	ClientSecret *string `json:"client_secret,omitempty" maxLength:"1000"`
	Metadata     *string `json:"metadata,omitempty" maxLength:"200000" doc:"of SAML: of the same provider, with its new certificates"`
	DefaultRole  *string `json:"default_role,omitempty" maxLength:"64"`
	Enabled      *bool   `json:"enabled,omitempty" doc:"false ends the sessions that it opened"`
}

// UpdateConnection changes one of the tenant's.
func (s *Service) UpdateConnection(ctx context.Context, in UpdateConnectionRequest) (c Connection, err error) {
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", in.ID).Take(&c).Error; err != nil {
			return err
		}
		if in.Name != nil {
			c.Name = strings.TrimSpace(*in.Name)
		}
		if in.ClientID != nil {
			c.ClientID = *in.ClientID
		}
		if in.ClientSecret != nil {
			c.ClientSecret = s.box.Seal("sso "+c.ID, []byte(*in.ClientSecret))
		}
		if in.Metadata != nil && c.Kind == "saml" {
			idp, err := s.readMetadata(*in.Metadata)
			if err == nil && idp.EntityID != c.Issuer {
				err = badMetadata(errors.New("another entity id"))
			}
			if err != nil {
				return err
			}
			c.Metadata = *in.Metadata
		}
		if in.DefaultRole != nil {
			if err := s.arrivesAs(ctx, *in.DefaultRole); err != nil {
				return err
			}
			c.DefaultRole = *in.DefaultRole
		}
		if in.Enabled != nil {
			if c.Enabled = *in.Enabled; !c.Enabled {
				if err := s.endSessionsOf(ctx, c.ID); err != nil {
					return err
				}
			}
		}
		c.UpdatedAt = s.Now().UTC()
		change := map[string]any{"name": c.Name, "client_id": c.ClientID, "client_secret": c.ClientSecret, "metadata": c.Metadata, "default_role": c.DefaultRole, "enabled": c.Enabled, "updated_at": c.UpdatedAt}
		if err := s.Store.For(ctx).Model(&Connection{}).Where("id = ?", c.ID).Updates(change).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "sso.update", Target: c.ID, Detail: map[string]any{"enabled": c.Enabled, "default_role": c.DefaultRole, "secret": in.ClientSecret != nil, "metadata": in.Metadata != nil}})
	})
	return s.told(c), err
}

func (s *Service) endSessionsOf(ctx context.Context, connection string) error {
	s.Store.AfterCommit(ctx, func() { s.forgetPerson("") })
	return s.Store.For(ctx).Model(&Session{}).Where("connection_id = ? AND revoked_at IS NULL", connection).Update("revoked_at", s.Now().UTC()).Error
}

// DeleteConnection takes one away: its sessions end, and nobody is known by it
// any more. Identities belong to no tenant, so this is a system transaction, in
// which the tenant is named.
func (s *Service) DeleteConnection(ctx context.Context, in ConnectionRequest) error {
	tenant := domain.TenantOf(ctx)
	return s.Store.Tx(domain.System(ctx, "a connection and its identities"), func(ctx context.Context) error {
		gone := s.Store.For(ctx).Where("tenant_id = ? AND id = ?", tenant, in.ID).Delete(&Connection{})
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		if err := s.endSessionsOf(ctx, in.ID); err != nil {
			return err
		}
		if err := s.Store.For(ctx).Where("provider = ?", in.ID).Delete(&Identity{}).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "sso.delete", Target: in.ID, Tenant: tenant})
	})
}

// usable finds a connection for a browser that nobody has signed in yet. One that
// is off, of another kind, or of a tenant that is suspended or whose plan lacks
// sso is not there.
func (s *Service) usable(ctx context.Context, id, kind string) (c Connection, err error) {
	sys := domain.System(ctx, "sign-in through a tenant's provider")
	err = s.Store.Read(sys, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ? AND kind = ? AND enabled", id, kind).Take(&c).Error
	})
	if err != nil {
		return c, err
	}
	t, err := s.Tenants.Resolve(sys, c.TenantID)
	if err != nil {
		return c, err
	}
	has, err := s.Has(sys, c.TenantID, "sso")
	if err == nil && (!has || t.Status != "active") {
		err = domain.ErrNotFound()
	}
	return c, err
}

// SignInOptionsRequest asks how one may sign in.
type SignInOptionsRequest struct {
	Email string `query:"email" maxLength:"254" doc:"adds the providers of the tenant that has proved the address's domain; whether the address has an account changes nothing"`
}

// SignInOption is one provider.
type SignInOption struct {
	Provider string `json:"provider"`
	Kind     string `json:"kind" enum:"oidc,saml"`
	Name     string `json:"name"`
	StartURL string `json:"start_url"`
}

// SignInOptions lists everybody's providers, and those of the tenant that the
// host names or that has proved the domain of an address.
func (s *Service) SignInOptions(ctx context.Context, in SignInOptionsRequest) (domain.Page[SignInOption], error) {
	out := []SignInOption{}
	for _, p := range s.Providers {
		out = append(out, SignInOption{p.Name, "oidc", p.Name, s.link("/api/v1/auth/oidc/" + p.Name + "/start")})
	}
	tenant := domain.TenantOf(ctx)
	if tenant == "" {
		t, ok, err := s.Tenants.ResolveHost(ctx, domainOf(in.Email))
		if err != nil {
			return domain.Page[SignInOption]{}, err
		}
		if ok {
			tenant = t.ID
		}
	}
	var rows []Connection
	err := s.Store.Read(domain.System(ctx, "sign-in through a tenant's provider"), func(ctx context.Context) error {
		if tenant == "" {
			return nil
		}
		if has, err := s.Has(ctx, tenant, "sso"); err != nil || !has {
			return err
		}
		return s.Store.For(ctx).Where("tenant_id = ? AND enabled", tenant).Order("id").Find(&rows).Error
	})
	for _, c := range rows {
		out = append(out, SignInOption{c.ID, c.Kind, c.Name, s.told(c).StartURL})
	}
	return domain.NewPage(out, len(out), func(o SignInOption) string { return o.Provider }), err
}

func domainOf(email string) string {
	return fold(email[strings.LastIndexByte(email, '@')+1:])
}

// proves reports whether the tenant has proved that the address's domain is its
// own.
func (s *Service) proves(ctx context.Context, tenant, email string) (bool, error) {
	if !strings.Contains(email, "@") {
		return false, nil
	}
	t, ok, err := s.Tenants.ResolveHost(ctx, domainOf(email))
	return ok && t.ID == tenant, err
}

// Redirect is where a browser goes next, and what it keeps.
type Redirect struct {
	To      string
	Browser string // for the cookie that ties a sign-in to its browser; "" leaves it
	refresh string
}

// Location is the address.
func (r Redirect) Location() string { return r.To }

// Cookie is the refresh token for the portal's cookie, where somebody is signed in.
func (r Redirect) Cookie() (token string, life time.Duration) { return r.refresh, idleLife }

// BrowserCookie ties a sign-in under way to its browser.
func (r Redirect) BrowserCookie() (value string, life time.Duration) { return r.Browser, flowLife }

// ownPath is a path of the portal, and / for whatever else it was given: no
// browser is led to another site (ASVS V3.7.2).
func ownPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") ||
		strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return "/"
	}
	return path
}

// SignInFailed is the page of the portal that says why nobody was signed in.
func (s *Service) SignInFailed(code string) string {
	return s.link("/login?sso=" + url.QueryEscape(code))
}

// ssoFlow is a sign-in under way.
type ssoFlow struct {
	Hash      string `gorm:"primaryKey"`
	Step      string // sent, arrived, link, code or signup
	Provider  string
	Browser   string
	UserID    string
	Sealed    string
	ExpiresAt time.Time
}

func (ssoFlow) TableName() string { return "sso_flows" }

// keepFlow remembers a step for the browser that holds the cookie's value; a
// browser without one gets it.
func (s *Service) keepFlow(ctx context.Context, step, provider, browser, user string, what any) (secret, cookie string, err error) {
	if len(browser) != len(newSecret()) {
		browser = newSecret()
	}
	secret, err = s.putFlow(ctx, ssoFlow{Step: step, Provider: provider, Browser: hashOf(browser), UserID: user}, what)
	return secret, browser, err
}

func (s *Service) putFlow(ctx context.Context, row ssoFlow, what any) (secret string, err error) {
	raw, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	secret = newSecret()
	row.Hash, row.ExpiresAt = hashOf(secret), s.Now().UTC().Add(flowLife)
	row.Sealed = s.box.Seal("sso flow "+row.Hash, raw)
	return secret, s.Store.Tx(domain.System(ctx, "sign-in through others"), func(ctx context.Context) error {
		return s.Store.For(ctx).Create(&row).Error
	})
}

func flowOver(cause string) error {
	return domain.E(domain.Forbidden, "sso_expired", "This sign-in is over, or was begun in another browser: begin again.").Because(errors.New(cause))
}

// lookFlow reads a step, for its own browser and, where one is named, provider.
func (s *Service) lookFlow(ctx context.Context, step, provider, secret, browser string, into any) (row ssoFlow, err error) {
	if row, err = s.findFlow(ctx, step, provider, secret, into); err == nil && (browser == "" || row.Browser != hashOf(browser)) {
		err = flowOver("another browser")
	}
	return row, err
}

func (s *Service) findFlow(ctx context.Context, step, provider, secret string, into any) (row ssoFlow, err error) {
	err = s.Store.Read(domain.System(ctx, "sign-in through others"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("hash = ? AND step = ? AND expires_at > ?", hashOf(secret), step, s.Now().UTC()).Limit(1).Find(&row).Error
	})
	switch {
	case err != nil:
		return row, err
	case row.Hash == "":
		return row, flowOver("no such flow")
	case provider != "" && row.Provider != provider:
		return row, flowOver("another provider")
	}
	raw, err := s.box.Open("sso flow "+row.Hash, row.Sealed)
	if err != nil {
		return row, err
	}
	return row, json.Unmarshal(raw, into)
}

// endFlow uses a step up, in the transaction of ctx: of many who try, one does.
func (s *Service) endFlow(ctx context.Context, row ssoFlow) error {
	gone := s.Store.For(ctx).Where("hash = ?", row.Hash).Delete(&ssoFlow{})
	if gone.Error == nil && gone.RowsAffected == 0 {
		return flowOver("used")
	}
	return gone.Error
}

// takeFlow reads a step and uses it up.
func (s *Service) takeFlow(ctx context.Context, step, provider, secret, browser string, into any) (row ssoFlow, err error) {
	if row, err = s.lookFlow(ctx, step, provider, secret, browser, into); err != nil {
		return row, err
	}
	return row, s.Store.Tx(domain.System(ctx, "sign-in through others"), func(ctx context.Context) error { return s.endFlow(ctx, row) })
}

// arrival is what a provider said of the person in front of the browser.
type arrival struct {
	provider, tenant string // tenant is of the connection; "" is everybody's provider
	issuer, subject  string
	email            string
	verified         bool // the provider vouches that the address is theirs
	name             string
	factor           string    // oidc or saml
	proved           time.Time // when they showed it what it wants to see; zero is now
}

// Identity is who a person is at a provider.
type Identity struct {
	ID         string     `json:"id" gorm:"primaryKey"`
	UserID     string     `json:"-"`
	Provider   string     `json:"provider"`
	Issuer     string     `json:"issuer"`
	Subject    string     `json:"-"`
	Email      string     `json:"email" doc:"as the provider knew it when it was linked"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at" nullable:"true"`
}

// unusable puts on the tenant's record that a provider's answer did not hold, and
// tells the browser no more than that.
func (s *Service) unusable(ctx context.Context, tenant, provider string, cause error) error {
	var own *domain.Error
	if errors.As(cause, &own) && own.Kind == domain.Internal {
		return cause
	}
	refused := domain.E(domain.Forbidden, "sso_failed", "The identity provider's answer is not usable.").Because(cause)
	return s.refuse(ctx, []string{tenant}, provider, "", refused)
}

// refuse records a refusal in the tenants that it concerns, and gives it back.
func (s *Service) refuse(ctx context.Context, tenants []string, provider, user string, refused *domain.Error) error {
	err := s.Store.Tx(domain.System(ctx, "sign-in through others"), func(ctx context.Context) error {
		for _, id := range tenants {
			if id == "" {
				continue
			}
			if err := s.Audit.Record(ctx, audit.Entry{Action: "identity.refuse", Target: provider, Tenant: id, Outcome: "denied", Detail: map[string]any{"code": refused.Code, "user": user}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return refused
}

// arrive signs in whom a provider named, or leads them on to what is yet to be
// done.
func (s *Service) arrive(ctx context.Context, a arrival, returnTo, browser string) (out Redirect, err error) {
	var id Identity
	var user User
	sys := domain.System(ctx, "sign-in through others")
	err = s.Store.Read(sys, func(ctx context.Context) error {
		db := s.Store.For(ctx)
		if err := db.Where("provider = ? AND issuer = ? AND subject = ?", a.provider, a.issuer, a.subject).Limit(1).Find(&id).Error; err != nil {
			return err
		}
		if id.ID != "" {
			return db.Where("id = ?", id.UserID).Take(&user).Error
		}
		if a.email == "" {
			return nil
		}
		return db.Where("email = ?", a.email).Limit(1).Find(&user).Error
	})
	if err != nil {
		return out, err
	}
	member := a.tenant == ""
	var roles []TenantRole
	if user.ID != "" {
		if roles, err = s.tenantsOf(sys, user.ID); err != nil {
			return out, err
		}
	}
	concerned := []string{a.tenant}
	for _, r := range roles {
		member = member || r.ID == a.tenant
		if a.tenant == "" {
			concerned = append(concerned, r.ID)
		}
	}
	if id.ID != "" {
		if !member {
			return out, s.refuse(ctx, concerned, a.provider, user.ID, notInvited())
		}
		return s.enterBy(ctx, a, id, user, returnTo, browser)
	}
	if !a.verified || a.email == "" {
		return out, s.refuse(ctx, concerned, a.provider, user.ID,
			domain.E(domain.Forbidden, "sso_unverified", "The identity provider does not vouch for your address."))
	}
	ours := a.tenant == ""
	if !ours {
		if ours, err = s.proves(sys, a.tenant, a.email); err != nil {
			return out, err
		}
	}
	// A tenant's provider may say any address. Whether one has an account is
	// told for the tenant's members and for its own domain alone.
	barred := false
	if a.tenant != "" && user.ID != "" {
		if barred, err = s.barred(sys, a.tenant, user.ID); err != nil {
			return out, err
		}
	}
	if barred || !ours && !(member && user.ID != "") {
		return out, s.refuse(ctx, concerned, a.provider, "", notInvited())
	}
	if a.tenant == "" && user.ID == "" {
		return s.lead(ctx, "signup", a, "", returnTo, browser)
	}
	if user.ID != "" {
		claimed, err := s.claimed(sys, user)
		if err != nil {
			return out, err
		}
		if claimed || !member || !ours {
			return s.lead(ctx, "link", a, user.ID, returnTo, browser)
		}
	}
	if user, id, err = s.welcome(ctx, a, user); err != nil {
		return out, err
	}
	return s.enterBy(ctx, a, id, user, returnTo, browser)
}

func notInvited() *domain.Error {
	return domain.E(domain.Forbidden, "sso_not_member", "You are not a member here: ask for an invitation.")
}

// claimed reports whether an account has any means by which somebody signs in to
// it: one without was made for a member and waits for its person.
func (s *Service) claimed(ctx context.Context, user User) (bool, error) {
	if user.PasswordHash != "" {
		return true, nil
	}
	var keys, ids int64
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Model(&Passkey{}).Where("user_id = ?", user.ID).Count(&keys).Error; err != nil {
			return err
		}
		return s.Store.For(ctx).Model(&Identity{}).Where("user_id = ?", user.ID).Count(&ids).Error
	})
	return keys+ids > 0, err
}

// lead sends the browser to the portal with a ticket for what is yet to be done:
// to link an account, to show a code, or to open an account.
func (s *Service) lead(ctx context.Context, step string, a arrival, user, returnTo, browser string) (out Redirect, err error) {
	ticket, _, err := s.keepFlow(ctx, step, a.provider, browser, user, kept{a.tenant, a.issuer, a.subject, a.email, a.name, a.factor, a.proved})
	return Redirect{To: s.link("/sso?step=" + step + "&return_to=" + url.QueryEscape(returnTo) + "#" + ticket), Browser: browser}, err
}

// kept is an arrival in a ticket.
type kept struct {
	Tenant, Issuer, Subject, Email, Name, Factor string
	Proved                                       time.Time
}

func (k kept) arrival(provider string) arrival {
	return arrival{provider: provider, tenant: k.Tenant, issuer: k.Issuer, subject: k.Subject, email: k.Email, verified: true, name: k.Name, factor: k.Factor, proved: k.Proved}
}

// welcome makes the account, where there is none, and the membership of somebody
// whom the tenant's provider brings from the tenant's own domain.
func (s *Service) welcome(ctx context.Context, a arrival, user User) (User, Identity, error) {
	var id Identity
	err := s.Store.Tx(s.acting(ctx, "sign-in through others", user.ID), func(ctx context.Context) (err error) {
		if user.ID == "" {
			role, err := s.roleOf(ctx, a.provider)
			if err != nil {
				return err
			}
			if user, err = s.newMember(ctx, a.tenant, a.email, a.name, role, "sso"); err != nil {
				return err
			}
		}
		id, err = s.linkIdentity(ctx, a, user)
		return err
	})
	return user, id, err
}

// newMember makes an account for an address of the tenant's own domain, and its
// membership, in a system transaction. It has no means of sign-in but the
// tenant's provider, until its person asks for a password.
func (s *Service) newMember(ctx context.Context, tenant, email, name, role, how string) (user User, err error) {
	var t tenants.Tenant
	if err := s.Store.For(ctx).Where("id = ?", tenant).Take(&t).Error; err != nil {
		return user, err
	}
	if name = strings.TrimSpace(name); name == "" {
		name = email
	}
	now := s.Now().UTC()
	user = User{ID: domain.NewID("usr"), Email: email, FullName: clip(name, 200), Locale: t.Locale, AcceptedAt: now, CreatedAt: now, UpdatedAt: now, EmailVerifiedAt: &now}
	made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&user)
	if made.Error != nil {
		return user, made.Error
	}
	if made.RowsAffected == 0 {
		return user, domain.E(domain.Conflict, "email_taken", "This address has an account already.")
	}
	return user, s.addMember(s.acting(ctx, "a member of the tenant's own domain", user.ID), tenant, user.ID, role, how)
}

// roleOf is the role of who comes through a connection for the first time.
func (s *Service) roleOf(ctx context.Context, connection string) (role string, err error) {
	return role, s.Store.For(ctx).Model(&Connection{}).Where("id = ?", connection).Select("default_role").Take(&role).Error
}

// addMember makes a person a member, and takes a seat, in a system transaction.
// The role is that of who is in no mapped group of the tenant's directory.
func (s *Service) addMember(ctx context.Context, tenant, user, role, how string) error {
	given, err := s.groupRoleOf(ctx, tenant, user, true)
	if err != nil {
		return err
	}
	role = cmp.Or(given, role)
	m := membership{Owned: store.Owned{TenantID: tenant}, ID: domain.NewID("mem"), UserID: user, Role: role, CreatedAt: s.Now().UTC()}
	made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&m)
	if made.Error != nil || made.RowsAffected == 0 {
		return made.Error
	}
	if err := s.Seats(ctx, tenant, 1); err != nil {
		return err
	}
	return s.Audit.Record(ctx, audit.Entry{Action: "member.join", Target: m.ID, Tenant: tenant, Detail: map[string]any{"user": user, "role": role, "how": how}})
}

// linkIdentity makes the identity, in a system transaction.
func (s *Service) linkIdentity(ctx context.Context, a arrival, user User) (Identity, error) {
	id := Identity{ID: domain.NewID("idn"), UserID: user.ID, Provider: a.provider, Issuer: a.issuer, Subject: a.subject, Email: a.email, CreatedAt: s.Now().UTC()}
	made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&id)
	if made.Error == nil && made.RowsAffected == 0 {
		return id, domain.E(domain.Conflict, "conflict", "This sign-in belongs to another account already.")
	}
	if made.Error != nil {
		return id, made.Error
	}
	return id, s.change(ctx, user, "identity.link", map[string]any{})
}

// enterBy opens the session of somebody who is known at a provider. One that is
// everybody's stands for the password: a second factor is asked for.
func (s *Service) enterBy(ctx context.Context, a arrival, id Identity, user User, returnTo, browser string) (out Redirect, err error) {
	if a.tenant == "" && user.TOTPConfirmedAt != nil {
		return s.lead(ctx, "code", a, user.ID, returnTo, browser)
	}
	in, err := s.enterAs(ctx, a, user, a.factor, nil)
	return Redirect{To: s.link(returnTo), refresh: in.cookie}, err
}

// enterAs opens the session, and uses up the flow that led to it.
func (s *Service) enterAs(ctx context.Context, a arrival, user User, factor string, flow *ssoFlow) (out LoginResponse, err error) {
	o := opening{factor: factor, tenant: a.tenant, proved: a.proved}
	if a.tenant != "" {
		o.connection = a.provider
	}
	if now := s.Now(); o.proved.After(now) {
		o.proved = now
	}
	err = s.Store.Tx(domain.System(ctx, "sign-in through others"), func(ctx context.Context) error {
		if flow != nil {
			if err := s.endFlow(ctx, *flow); err != nil {
				return err
			}
		}
		used := s.Store.For(ctx).Model(&Identity{}).Where("provider = ? AND issuer = ? AND subject = ? AND user_id = ?", a.provider, a.issuer, a.subject, user.ID).Update("last_used_at", s.Now().UTC())
		if used.Error != nil || used.RowsAffected != 1 {
			return errors.Join(used.Error, flowOver("the identity is gone"))
		}
		out, err = s.enter(ctx, user, o, nil)
		return err
	})
	return out, err
}

// Ticket is what /sso# of the portal was led to with.
type Ticket struct {
	Ticket  string `json:"ticket" minLength:"20" maxLength:"100" doc:"what follows # in the address"`
	Browser string `cookie:"sso" json:"-" maxLength:"100"`
}

// SSOCodeRequest shows the second factor after a sign-in through others.
type SSOCodeRequest struct {
	Ticket
	TOTP         string `json:"totp,omitempty" maxLength:"6"`
	RecoveryCode string `json:"recovery_code,omitempty" maxLength:"40"`
}

// SSOCode ends a sign-in that wants a second factor.
func (s *Service) SSOCode(ctx context.Context, in SSOCodeRequest) (out LoginResponse, err error) {
	var k kept
	flow, err := s.lookFlow(ctx, "code", "", in.Ticket.Ticket, in.Browser, &k)
	if err != nil {
		return out, err
	}
	var user User
	err = s.Store.Read(domain.System(ctx, "sign-in through others"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ?", flow.UserID).Take(&user).Error
	})
	if err != nil {
		return out, err
	}
	if in.TOTP == "" && in.RecoveryCode == "" {
		return out, mfaRequired()
	}
	factor, err := s.secondFactor(ctx, user, in.TOTP, in.RecoveryCode)
	if err != nil {
		return out, err
	}
	a := k.arrival(flow.Provider)
	a.proved = time.Time{} // a factor was shown now
	return s.enterAs(ctx, a, user, factor, &flow)
}

// SSOSignupRequest opens an account for who came through Google, GitHub or
// Microsoft.
type SSOSignupRequest struct {
	Ticket
	FullName      string `json:"full_name,omitempty" maxLength:"200" doc:"what the provider says without it"`
	WorkspaceName string `json:"workspace_name" minLength:"1" maxLength:"200"`
	AcceptTerms   bool   `json:"accept_terms" doc:"must be true"`
	Locale        string `json:"locale,omitempty" enum:"en,zh-CN"`
}

// SSOSignup makes the person, whose address the provider vouches for, without a
// password, and their tenant.
func (s *Service) SSOSignup(ctx context.Context, in SSOSignupRequest) (out SignupResponse, err error) {
	if !in.AcceptTerms {
		return out, domain.InvalidField("accept_terms", "required", "The terms must be accepted.")
	}
	var k kept
	flow, err := s.lookFlow(ctx, "signup", "", in.Ticket.Ticket, in.Browser, &k)
	if err != nil {
		return out, err
	}
	if in.FullName = strings.TrimSpace(in.FullName); in.FullName == "" {
		in.FullName = clip(k.Name, 200)
	}
	if in.FullName == "" {
		in.FullName = k.Email
	}
	now := s.Now().UTC()
	err = s.Store.Tx(s.acting(ctx, "sign-up", ""), func(ctx context.Context) error {
		if err := s.endFlow(ctx, flow); err != nil {
			return err
		}
		out, err = s.open(ctx, SignupRequest{Email: k.Email, FullName: in.FullName, WorkspaceName: in.WorkspaceName, Locale: in.Locale}, "", &now)
		if err != nil {
			return err
		}
		_, err = s.linkIdentity(ctx, k.arrival(flow.Provider), *out.User)
		return err
	})
	if err != nil {
		return SignupResponse{}, err
	}
	return out, nil
}

// AcceptIdentity is the consent of a person, signed in to their account by its
// own means, that a provider may sign them in from now on. Their address must be
// the one that the provider vouches for.
func (s *Service) AcceptIdentity(ctx context.Context, in Ticket) (id Identity, err error) {
	var k kept
	flow, err := s.lookFlow(ctx, "link", "", in.Ticket, in.Browser, &k)
	if err != nil {
		return id, err
	}
	user, err := s.person(ctx)
	if err != nil {
		return id, err
	}
	if user.ID != flow.UserID || user.Email != k.Email || user.EmailVerifiedAt == nil {
		return id, domain.E(domain.Forbidden, "wrong_address", "The identity provider vouches for another address than this account's.")
	}
	a := k.arrival(flow.Provider)
	err = s.Store.Tx(s.acting(ctx, "a person's own identities", user.ID), func(ctx context.Context) error {
		if err := s.endFlow(ctx, flow); err != nil {
			return err
		}
		if a.tenant != "" {
			if err := s.joinBy(ctx, a, user); err != nil {
				return err
			}
		}
		if id, err = s.linkIdentity(ctx, a, user); err != nil {
			return err
		}
		return s.factorChanged(ctx, user, "sign-in through another provider added")
	})
	return id, err
}

// joinBy makes a person of the tenant's own domain its member, in a system
// transaction. Anybody else must be one.
func (s *Service) joinBy(ctx context.Context, a arrival, user User) error {
	roles, err := s.tenantsOf(ctx, user.ID)
	if err != nil || slices.ContainsFunc(roles, func(r TenantRole) bool { return r.ID == a.tenant }) {
		return err
	}
	ours, err := s.proves(ctx, a.tenant, a.email)
	if err != nil {
		return err
	}
	barred, err := s.barred(ctx, a.tenant, user.ID)
	if err != nil {
		return err
	}
	if !ours || barred {
		return notInvited()
	}
	role, err := s.roleOf(ctx, a.provider)
	if err != nil {
		return err
	}
	return s.addMember(ctx, a.tenant, user.ID, role, "sso")
}

// Identities lists the person's own.
func (s *Service) Identities(ctx context.Context, in domain.PageRequest) (page domain.Page[Identity], err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(domain.System(ctx, "a person's own identities"), func(ctx context.Context) error {
		page, err = store.Oldest(s.Store.For(ctx).Where("user_id = ?", scope.Actor.ID), in, func(i Identity) string { return i.ID })
		return err
	})
	return page, err
}

// IdentityRequest names one.
type IdentityRequest struct {
	ID string `path:"id"`
}

// RemoveIdentity takes one of the person's own away. Who has no password then
// asks for one by mail.
func (s *Service) RemoveIdentity(ctx context.Context, in IdentityRequest) error {
	user, err := s.person(ctx)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "a person's own identities"), func(ctx context.Context) error {
		var id Identity
		if err := s.Store.For(ctx).Where("id = ? AND user_id = ?", in.ID, user.ID).Take(&id).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Where("id = ?", id.ID).Delete(&Identity{}).Error; err != nil {
			return err
		}
		if domain.ValidID("sso", id.Provider) {
			if err := s.Store.For(ctx).Model(&Session{}).Where("user_id = ? AND connection_id = ? AND revoked_at IS NULL", user.ID, id.Provider).Update("revoked_at", s.Now().UTC()).Error; err != nil {
				return err
			}
			s.Store.AfterCommit(ctx, func() { s.forgetPerson(user.ID) })
		}
		if err := s.change(ctx, user, "identity.unlink", map[string]any{}); err != nil {
			return err
		}
		return s.factorChanged(ctx, user, "sign-in through another provider removed")
	})
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

var _ = domain.Chinese(map[string]string{
	"A tenant has at most %d identity providers.":                                 "每个租户最多有 %d 个身份提供方。",
	"This is not an https address.":                                               "这不是 https 地址。",
	"This field is required.":                                                     "此字段必填。",
	"No OpenID Connect provider answers at this address.":                         "该地址没有 OpenID Connect 身份提供方应答。",
	"Nobody becomes an owner by signing in.":                                      "任何人都不能因登录而成为所有者。",
	"This sign-in is over, or was begun in another browser: begin again.":         "此次登录已结束，或是在另一个浏览器中开始的：请重新开始。",
	"The identity provider's answer is not usable.":                               "身份提供方的应答不可用。",
	"The identity provider does not vouch for your address.":                      "身份提供方未确认您的地址。",
	"You are not a member here: ask for an invitation.":                           "您不是此处的成员：请索取邀请。",
	"This sign-in belongs to another account already.":                            "此登录方式已属于另一个账户。",
	"The identity provider vouches for another address than this account's.":      "身份提供方确认的地址与此账户的地址不同。",
	"Your organisation signed you in here: sign in to your own account for this.": "您是由所在组织登录到此处的：请登录您自己的账户来执行此操作。",
})
