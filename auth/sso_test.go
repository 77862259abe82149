package auth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/pquerna/otp/totp"

	"github.com/chainreactions/chainreactions/app/sandbox/idp"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
	"github.com/chainreactions/chainreactions/tenants"
)

// house is a service with one provider that is everybody's (google) and, once
// connect was called, one of its tenant's own.
type house struct {
	*auth.Service
	*clock
	*post
	t        *testing.T
	db       testdb.DB
	tenants  *tenants.Service
	google   *idp.OIDC
	own      *idp.OIDC
	seats    map[string]int64
	full     bool // no seat is left
	features bool // whether plans have sso and scim
}

func newHouse(t *testing.T, db testdb.DB) *house {
	t.Helper()
	h := &house{t: t, db: db, clock: &clock{now: time.Now().Truncate(time.Second)}, post: &post{}, seats: map[string]int64{}, features: true}
	h.google = h.provider("google-client")
	h.own = h.provider("own-client")
	h.tenants = tenants.New(tenants.Config{Store: db.Store, Now: h.Now, Audit: audit.New(audit.Config{Store: db.Store, Now: h.Now})})
	var err error
	h.Service, err = auth.New(context.Background(), auth.Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store, Now: h.Now}), Now: h.Now,
		BaseURL: "https://example.test", Mail: h.send, Queue: h.post, Tenants: h.tenants, SecretKey: []byte("0123456789abcdef0123456789abcdef"),
		Seats: func(_ context.Context, tenant string, n int64) error {
			if h.full && n > 0 {
				return domain.E(domain.TooMany, "quota_exceeded", "full")
			}
			h.seats[tenant] += n
			return nil
		},
		Has:    func(context.Context, string, string) (bool, error) { return h.features, nil },
		Client: http.DefaultClient, Plain: true,
		Providers: []auth.Provider{{Name: "google", Issuer: h.google.Issuer, ClientID: "google-client", ClientSecret: "s3cret of google-client"}}})
	if err != nil {
		t.Fatal(err)
	}
	h.google.RedirectURIs = []string{"https://example.test/api/v1/auth/oidc/google/callback"}
	return h
}

func (h *house) provider(client string) *idp.OIDC {
	var o *idp.OIDC
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { o.ServeHTTP(w, r) }))
	h.t.Cleanup(web.Close)
	var err error
	if o, err = idp.NewOIDC(web.URL, client, "s3cret of "+client); err != nil {
		h.t.Fatal(err)
	}
	o.Now = h.clock.Now
	return o
}

// owner signs somebody up and gives the scope of their session.
func (h *house) owner(email string) (auth.SignupResponse, context.Context) {
	h.t.Helper()
	out, err := h.Signup(from("192.0.2.1", "test"), signUp(email))
	if err != nil {
		h.t.Fatal(err)
	}
	return out, as(h.t, h.Service, out.AccessToken)
}

// connect makes the tenant's own provider, and proves a domain to be the tenant's.
func (h *house) connect(ctx context.Context, proves string) auth.Connection {
	h.t.Helper()
	c, err := h.CreateConnection(ctx, auth.CreateConnectionRequest{Kind: "oidc", Name: "Ours", Issuer: h.own.Issuer, ClientID: "own-client", ClientSecret: "s3cret of own-client", DefaultRole: "analyst"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.own.RedirectURIs = []string{c.CallbackURL}
	if proves != "" {
		h.write(`INSERT INTO tenant_domains (tenant_id, id, name, token, status, created_at, verified_at) VALUES (@of, @id, @name, 't', 'verified', @now, @now)`,
			map[string]any{"of": domain.TenantOf(ctx), "id": domain.NewID("dom"), "name": proves, "now": h.Now().UTC()})
	}
	return c
}

func (h *house) write(sql string, args map[string]any) {
	h.t.Helper()
	err := h.db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		_, err := h.db.Exec(ctx, sql, args)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) count(sql string, args map[string]any) (n int64) {
	h.t.Helper()
	err := h.db.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		return h.db.SQL(ctx, sql, args).Scan(&n).Error
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// browser is one that keeps the cookie.
type browser struct {
	h      *house
	cookie string
}

// leave begins a sign-in and gives the address at the provider.
func (b *browser) leave(provider, returnTo string) (string, error) {
	out, err := b.h.StartOIDC(from("192.0.2.9", "browser"), auth.StartOIDCRequest{Provider: provider, ReturnTo: returnTo, Browser: b.cookie})
	if out.Browser != "" {
		b.cookie = out.Browser
	}
	return out.To, err
}

// visit goes to the provider and gives what it sends back to us.
func (b *browser) visit(address string) auth.CallbackOIDCRequest {
	b.h.t.Helper()
	once := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := once.Get(address)
	if err != nil {
		b.h.t.Fatal(err)
	}
	res.Body.Close()
	back, err := url.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != 302 {
		b.h.t.Fatalf("the provider answers %d for %s", res.StatusCode, address)
	}
	q := back.Query()
	return auth.CallbackOIDCRequest{Provider: strings.Split(back.Path, "/")[5], State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Browser: b.cookie}
}

// signIn goes the whole way.
func (b *browser) signIn(provider string) (auth.Redirect, error) {
	b.h.t.Helper()
	address, err := b.leave(provider, "/runs")
	if err != nil {
		return auth.Redirect{}, err
	}
	return b.h.CallbackOIDC(from("192.0.2.9", "browser"), b.visit(address))
}

// ticket splits an address of the portal that leads on.
func ticket(t *testing.T, r auth.Redirect) (step, secret string) {
	t.Helper()
	u, err := url.Parse(r.To)
	if err != nil || u.Path != "/sso" || u.Host != "example.test" {
		t.Fatalf("led to %s", r.To)
	}
	return u.Query().Get("step"), u.Fragment
}

// session is the scope of a browser that was signed in.
func (b *browser) session(r auth.Redirect) (context.Context, auth.Principal) {
	b.h.t.Helper()
	token, _ := r.Cookie()
	if token == "" {
		b.h.t.Fatalf("nobody was signed in: %+v", r)
	}
	tokens, err := b.h.Refresh(public(), auth.RefreshRequest{Cookie: token})
	if err != nil {
		b.h.t.Fatal(err)
	}
	p, err := b.h.Authenticate(public(), auth.Credential{Bearer: tokens.AccessToken})
	if err != nil {
		b.h.t.Fatal(err)
	}
	return as(b.h.t, b.h.Service, tokens.AccessToken), p
}

// Through a provider that is everybody's: a new person opens an account without
// a password; who has an account already must sign in to it and agree; a second
// factor is asked for; a link can be taken back.
func TestOIDCSignIn(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := newHouse(t, db)
		h.google.Person = idp.Person{Subject: "g-1", Email: "New@Example.org", Name: "New Person", Verified: true}
		b := &browser{h: h}
		out, err := b.signIn("google")
		if err != nil {
			t.Fatal(err)
		}
		step, secret := ticket(t, out)
		if token, _ := out.Cookie(); step != "signup" || token != "" {
			t.Fatalf("%s, token %q", step, token)
		}
		sign := auth.SSOSignupRequest{Ticket: auth.Ticket{Ticket: secret, Browser: b.cookie}, WorkspaceName: "Lab", AcceptTerms: true}
		elsewhere := sign
		elsewhere.Browser = strings.Repeat("x", 43)
		if _, err := h.SSOSignup(public(), elsewhere); domain.CodeOf(err) != "sso_expired" {
			t.Errorf("a ticket in another browser: %v", err)
		}
		made, err := h.SSOSignup(public(), sign)
		if err != nil || made.User.Email != "new@example.org" || made.User.FullName != "New Person" || made.AccessToken == "" {
			t.Fatalf("%+v %v", made, err)
		}
		if _, err := h.SSOSignup(public(), sign); domain.CodeOf(err) != "sso_expired" {
			t.Errorf("a ticket twice: %v", err)
		}
		if _, err := login(h.Service, "new@example.org", ""); domain.CodeOf(err) != "invalid_credentials" {
			t.Errorf("an empty password: %v", err)
		}
		// Known by issuer and subject from now on, whatever the address.
		h.google.Person.Email, h.google.Person.Verified = "elsewhere@example.org", false
		if out, err = b.signIn("google"); err != nil || out.To != "https://example.test/runs" {
			t.Fatalf("%+v %v", out, err)
		}
		if _, p := b.session(out); p.ID != made.User.ID || p.Bound || p.Factors != "oidc" {
			t.Errorf("%+v", p)
		}

		// An account that is there already is linked by its own person.
		victim, inside := h.owner("ada@example.org")
		other, otherScope := h.owner("bob@example.org")
		h.google.Person = idp.Person{Subject: "g-2", Email: "ada@example.org", Verified: true}
		out, err = b.signIn("google")
		if err != nil {
			t.Fatal(err)
		}
		step, secret = ticket(t, out)
		if step != "link" {
			t.Fatalf("step %s", step)
		}
		agree := auth.Ticket{Ticket: secret, Browser: b.cookie}
		if _, err := h.AcceptIdentity(otherScope, agree); domain.CodeOf(err) != "wrong_address" {
			t.Errorf("%s takes the link of another: %v", other.User.Email, err)
		}
		if _, err := h.AcceptIdentity(inside, agree); err != nil {
			t.Fatal(err)
		}
		if _, err := h.AcceptIdentity(inside, agree); domain.CodeOf(err) != "sso_expired" {
			t.Errorf("a link twice: %v", err)
		}
		h.last(t, "factor_changed", "ada@example.org")
		out, err = b.signIn("google")
		if err != nil {
			t.Fatal(err)
		}
		if _, p := b.session(out); p.ID != victim.User.ID {
			t.Errorf("%+v", p)
		}

		// The second factor is asked for, and a wrong code does not use the ticket up.
		_, secretTOTP := enable(t, h.Service, inside)
		out, err = b.signIn("google")
		if err != nil {
			t.Fatal(err)
		}
		step, secret = ticket(t, out)
		if token, _ := out.Cookie(); step != "code" || token != "" {
			t.Fatalf("%s, token %q", step, token)
		}
		show := auth.SSOCodeRequest{Ticket: auth.Ticket{Ticket: secret, Browser: b.cookie}}
		if _, err := h.SSOCode(public(), show); domain.CodeOf(err) != "mfa_required" {
			t.Error(err)
		}
		show.TOTP = "000000"
		if _, err := h.SSOCode(public(), show); domain.CodeOf(err) != "invalid_credentials" {
			t.Error(err)
		}
		h.Advance(time.Minute)
		show.TOTP, _ = totp.GenerateCode(secretTOTP, h.Now())
		in, err := h.SSOCode(public(), show)
		if err != nil || in.User.ID != victim.User.ID {
			t.Fatalf("%v %+v", err, in)
		}

		ids, err := h.Identities(inside, domain.PageRequest{})
		if err != nil || len(ids.Data) != 1 || ids.Data[0].Provider != "google" {
			t.Fatalf("%+v %v", ids, err)
		}
		if err := h.RemoveIdentity(otherScope, auth.IdentityRequest{ID: ids.Data[0].ID}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another's identity: %v", err)
		}
		if err := h.RemoveIdentity(inside, auth.IdentityRequest{ID: ids.Data[0].ID}); err != nil {
			t.Fatal(err)
		}
		if out, err = b.signIn("google"); err != nil {
			t.Fatal(err)
		}
		if step, _ = ticket(t, out); step != "link" {
			t.Errorf("after the link was taken back: %s", step)
		}
	})
}

// A tenant's own provider opens sessions of its tenant, for its members and for
// the addresses of the domain that it has proved; to anybody else it says the
// same whether they have an account or not.
func TestTenantsOwnProvider(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := newHouse(t, db)
		boss, inside := h.owner("boss@uni.test")
		stranger, _ := h.owner("stranger@elsewhere.test")
		c := h.connect(inside, "uni.test")
		b := &browser{h: h}

		// A new colleague is made a member with the connection's role, and takes a seat.
		h.own.Person = idp.Person{Subject: "u-1", Email: "new@uni.test", Name: "Colleague", Verified: true}
		before := h.seats[boss.Tenant.ID]
		out, err := b.signIn(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		scope, p := b.session(out)
		if p.TenantID != boss.Tenant.ID || p.Role != "analyst" || !p.Bound || h.seats[boss.Tenant.ID] != before+1 {
			t.Errorf("%+v, %d seats", p, h.seats[boss.Tenant.ID])
		}
		// The session is the tenant's: it leads to no other, even where the person has one.
		h.write(`INSERT INTO memberships (tenant_id, id, user_id, role, created_at) VALUES (@of, @id, @user, 'viewer', @now)`,
			map[string]any{"of": stranger.Tenant.ID, "id": domain.NewID("mem"), "user": p.ID, "now": h.Now().UTC()})
		if _, err := h.Switch(scope, auth.SwitchRequest{TenantID: stranger.Tenant.ID}); domain.CodeOf(err) != "sso_session" {
			t.Errorf("a switch: %v", err)
		}
		bound, _ := domain.ScopeOf(scope)
		bound.Actor.Bound = true
		if me, err := h.Me(domain.WithScope(scope, bound), struct{}{}); err != nil || len(me.Tenants) != 1 {
			t.Errorf("%+v %v", me, err)
		}

		// The owner's account exists: it is linked with their consent alone.
		h.own.Person = idp.Person{Subject: "u-2", Email: "boss@uni.test", Verified: true}
		if out, err = b.signIn(c.ID); err != nil {
			t.Fatal(err)
		}
		step, secret := ticket(t, out)
		if step != "link" {
			t.Fatalf("step %s", step)
		}
		if _, err := h.AcceptIdentity(inside, auth.Ticket{Ticket: secret, Browser: b.cookie}); err != nil {
			t.Fatal(err)
		}
		if out, err = b.signIn(c.ID); err != nil {
			t.Fatal(err)
		}
		ended, p := b.session(out)
		if p.ID != boss.User.ID || !p.Bound {
			t.Errorf("%+v", p)
		}

		// Whoever is neither a member nor of the domain is told the same, with and
		// without an account elsewhere.
		var answers []string
		for _, email := range []string{"stranger@elsewhere.test", "nobody@elsewhere.test"} {
			h.own.Person = idp.Person{Subject: "u-" + email, Email: email, Verified: true}
			_, err := b.signIn(c.ID)
			answers = append(answers, err.Error())
		}
		if answers[0] != answers[1] || !strings.HasPrefix(answers[0], "sso_not_member") {
			t.Errorf("%q", answers)
		}

		// A seat that the plan has not is a refusal, and no account is left behind.
		h.full = true
		h.own.Person = idp.Person{Subject: "u-9", Email: "late@uni.test", Verified: true}
		if _, err := b.signIn(c.ID); domain.CodeOf(err) != "quota_exceeded" {
			t.Errorf("without a seat: %v", err)
		}
		if n := h.count(`SELECT count(*) FROM users WHERE email = 'late@uni.test'`, nil); n != 0 {
			t.Error("an account is left behind")
		}
		h.full = false
		// One that is off, or whose plan lacks it, is not there; its sessions end.
		no := false
		if _, err := h.UpdateConnection(inside, auth.UpdateConnectionRequest{ID: c.ID, Enabled: &no}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Authenticate(public(), auth.Credential{Bearer: "x"}); err == nil {
			t.Error("anybody is let in")
		}
		actor, _ := domain.ScopeOf(ended)
		if n := h.count(`SELECT count(*) FROM sessions WHERE id = @id AND revoked_at IS NULL`, map[string]any{"id": actor.Actor.Via}); n != 0 {
			t.Error("a session of a connection that is off goes on")
		}
		if _, err := b.leave(c.ID, ""); domain.KindOf(err) != domain.NotFound {
			t.Errorf("a connection that is off: %v", err)
		}
		yes := true
		if _, err := h.UpdateConnection(inside, auth.UpdateConnectionRequest{ID: c.ID, Enabled: &yes}); err != nil {
			t.Fatal(err)
		}
		h.features = false
		if _, err := b.leave(c.ID, ""); domain.KindOf(err) != domain.NotFound {
			t.Errorf("a plan without sso: %v", err)
		}
		h.features = true
		// It goes with all that is known by it, or not at all.
		rename := func(from, to string) {
			t.Helper()
			if _, err := db.Store.SQLDB().Exec("ALTER TABLE " + from + " RENAME TO " + to); err != nil {
				t.Fatal(err)
			}
		}
		rename("identities", "identities_away")
		if err := h.DeleteConnection(inside, auth.ConnectionRequest{ID: c.ID}); err == nil {
			t.Error("identities that cannot be removed are no fault")
		}
		rename("identities_away", "identities")
		if _, err := h.Connection(inside, auth.ConnectionRequest{ID: c.ID}); err != nil {
			t.Errorf("half of a deletion: %v", err)
		}
		if err := h.DeleteConnection(inside, auth.ConnectionRequest{ID: c.ID}); err != nil {
			t.Fatal(err)
		}
		if n := h.count(`SELECT count(*) FROM identities WHERE provider = @id`, map[string]any{"id": c.ID}); n != 0 {
			t.Errorf("%d identities are left", n)
		}
	})
}

// What a browser or a provider may try: each is refused, opens no session, links
// nothing, and stands on the tenant's record. After each the honest way works.
func TestOIDCAttacks(t *testing.T) {
	db := testdb.SQLite(t)
	h := newHouse(t, db)
	boss, inside := h.owner("boss@uni.test")
	c := h.connect(inside, "uni.test")
	evil, err := h.own.Impostor("https://evil.test")
	if err != nil {
		t.Fatal(err)
	}
	ada := idp.Person{Subject: "u-ada", Email: "ada@uni.test", Verified: true}
	h.own.Person = ada
	if _, err := (&browser{h: h}).signIn(c.ID); err != nil {
		t.Fatal(err)
	}
	claim := func(name string, value any) func() {
		return func() { h.own.Claims = func(c jwt.MapClaims) { c[name] = value } }
	}
	back := func(change func(*auth.CallbackOIDCRequest)) func(*browser, *auth.CallbackOIDCRequest) {
		return func(_ *browser, in *auth.CallbackOIDCRequest) { change(in) }
	}
	for name, a := range map[string]struct {
		before func()
		after  func(*browser, *auth.CallbackOIDCRequest)
		code   string
		silent bool // nothing of the tenant is known yet: no record
	}{
		"no signature": {before: func() {
			h.own.Sign = func(c jwt.MapClaims, _ func() string) string {
				raw, _ := jwt.NewWithClaims(jwt.SigningMethodNone, c).SignedString(jwt.UnsafeAllowNoneSignatureType)
				return raw
			}
		}, code: "sso_failed"},
		"signed with the client's secret": {before: func() {
			h.own.Sign = func(c jwt.MapClaims, _ func() string) string {
				raw, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte("s3cret of own-client"))
				return raw
			}
		}, code: "sso_failed"},
		"signed with the public key as a secret": {before: func() {
			h.own.Sign = func(c jwt.MapClaims, _ func() string) string {
				tok := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
				tok.Header["kid"] = "k1"
				raw, _ := tok.SignedString(h.own.PublicKey().N.Bytes())
				return raw
			}
		}, code: "sso_failed"},
		"signed by somebody else, whose key is in the header": {before: func() {
			h.own.Sign = func(c jwt.MapClaims, _ func() string) string { return evil.SignWith(c) }
		}, code: "sso_failed"},
		"claims changed after signing": {before: func() {
			h.own.Sign = func(c jwt.MapClaims, honest func() string) string {
				parts := strings.Split(honest(), ".")
				c["sub"] = "u-boss"
				body, _ := json.Marshal(c)
				return parts[0] + "." + base64.RawURLEncoding.EncodeToString(body) + "." + parts[2]
			}
		}, code: "sso_failed"},
		"another nonce":        {before: claim("nonce", "stolen"), code: "sso_failed"},
		"no nonce":             {before: func() { h.own.Claims = func(c jwt.MapClaims) { delete(c, "nonce") } }, code: "sso_failed"},
		"another audience":     {before: claim("aud", "another-client"), code: "sso_failed"},
		"an audience of many":  {before: claim("aud", []string{"own-client", "another-client"}), code: "sso_failed"},
		"another party":        {before: claim("azp", "another-client"), code: "sso_failed"},
		"another issuer":       {before: claim("iss", "https://accounts.google.com"), code: "sso_failed"},
		"expired":              {before: claim("exp", 1_000_000), code: "sso_failed"},
		"no expiry":            {before: func() { h.own.Claims = func(c jwt.MapClaims) { delete(c, "exp") } }, code: "sso_failed"},
		"from the future":      {before: func() { h.own.Claims = func(c jwt.MapClaims) { c["iat"] = h.Now().Add(time.Hour).Unix() } }, code: "sso_failed"},
		"another access token": {before: claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), code: "sso_failed"},
		"no subject":           {before: claim("sub", ""), code: "sso_failed"},
		"no id token":          {before: func() { h.own.Sign = func(jwt.MapClaims, func() string) string { return "" } }, code: "sso_failed"},
		"an address that is not verified": {before: func() {
			h.own.Person = idp.Person{Subject: "u-x", Email: "boss@uni.test", Verified: false}
		}, code: "sso_unverified"},
		"an address about which nothing is said": {before: func() {
			h.own.Person = idp.Person{Subject: "u-x", Email: "boss@uni.test"}
		}, code: "sso_unverified"},
		"an address whose verification is a riddle": {before: func() {
			h.own.Person = idp.Person{Subject: "u-x", Email: "boss@uni.test", Verified: []string{"true"}}
		}, code: "sso_unverified"},
		"a state that was never given":                   {after: back(func(in *auth.CallbackOIDCRequest) { in.State = strings.Repeat("x", 43) }), code: "sso_expired", silent: true},
		"no state":                                       {after: back(func(in *auth.CallbackOIDCRequest) { in.State = "" }), code: "sso_expired", silent: true},
		"another browser":                                {after: back(func(in *auth.CallbackOIDCRequest) { in.Browser = strings.Repeat("x", 43) }), code: "sso_expired", silent: true},
		"a browser without a cookie":                     {after: back(func(in *auth.CallbackOIDCRequest) { in.Browser = "" }), code: "sso_expired", silent: true},
		"the answer comes to another provider's address": {after: back(func(in *auth.CallbackOIDCRequest) { in.Provider = "google" }), code: "sso_expired", silent: true},
		"a state that was used": {after: func(b *browser, in *auth.CallbackOIDCRequest) {
			if _, err := h.CallbackOIDC(public(), *in); err != nil {
				t.Fatal(err)
			}
		}, code: "sso_expired", silent: true},
		"a state after ten minutes":        {after: back(func(*auth.CallbackOIDCRequest) { h.Advance(11 * time.Minute) }), code: "sso_expired", silent: true},
		"a code of another sign-in":        {after: func(b *browser, in *auth.CallbackOIDCRequest) { in.Code = otherCode(t, h, c.ID) }, code: "sso_failed"},
		"a code that was made up":          {after: back(func(in *auth.CallbackOIDCRequest) { in.Code = "guess" }), code: "sso_failed"},
		"mix-up: another provider answers": {after: back(func(in *auth.CallbackOIDCRequest) { in.Issuer = evil.Issuer }), code: "sso_failed"},
		"mix-up: nobody says who answers":  {after: back(func(in *auth.CallbackOIDCRequest) { in.Issuer = "" }), code: "sso_failed"},
		"the person said no":               {after: back(func(in *auth.CallbackOIDCRequest) { in.Code, in.Error = "", "access_denied" }), code: "sso_denied", silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			h.own.Person, h.own.Claims, h.own.Sign = ada, nil, nil
			b := &browser{h: h}
			address, err := b.leave(c.ID, "/")
			if err != nil {
				t.Fatal(err)
			}
			if a.before != nil {
				a.before()
			}
			in := b.visit(address)
			if a.after != nil {
				a.after(b, &in)
			}
			const refused = `SELECT count(*) FROM audit_events WHERE tenant_id = @of AND action = 'identity.refuse'`
			const there = `SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM identities) + (SELECT count(*) FROM users)`
			of := map[string]any{"of": boss.Tenant.ID}
			said, was := h.count(refused, of), h.count(there, nil)
			out, err := h.CallbackOIDC(from("203.0.113.5", "attacker"), in)
			if domain.CodeOf(err) != a.code || out.To != "" {
				t.Fatalf("%+v %v", out, err)
			}
			if n := h.count(there, nil); n != was {
				t.Errorf("%d rows were made", n-was)
			}
			if n := h.count(refused, of) - said; n != 1 && !a.silent || n != 0 && a.silent {
				t.Errorf("%d refusals on the record", n)
			}
			h.own.Person, h.own.Claims, h.own.Sign = ada, nil, nil
			if _, err := b.signIn(c.ID); err != nil {
				t.Errorf("the honest way afterwards: %v", err)
			}
		})
	}
}

// otherCode is a code that the provider gave for another sign-in: its PKCE
// challenge is another.
func otherCode(t *testing.T, h *house, provider string) string {
	t.Helper()
	b := &browser{h: h}
	address, err := b.leave(provider, "/")
	if err != nil {
		t.Fatal(err)
	}
	return b.visit(address).Code
}

// What a tenant may name as a provider: one that describes itself by the very
// name, at an address that a browser can be led to. The secret is nowhere in the
// clear, and the role of strangers is not above its giver's.
func TestConnections(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := newHouse(t, db)
		_, inside := h.owner("boss@uni.test")
		ask := auth.CreateConnectionRequest{Kind: "oidc", Name: "Ours", Issuer: h.own.Issuer, ClientID: "own-client", ClientSecret: "s3cret of own-client"}
		for name, change := range map[string]func(*auth.CreateConnectionRequest){
			"no address": func(r *auth.CreateConnectionRequest) { r.Issuer = "nothing" },
			"credentials in it": func(r *auth.CreateConnectionRequest) {
				r.Issuer = strings.Replace(h.own.Issuer, "http://", "http://a:b@", 1)
			},
			"another name for itself":    func(r *auth.CreateConnectionRequest) { r.Issuer = h.own.Issuer + "/" },
			"a page that is no provider": func(r *auth.CreateConnectionRequest) { r.Issuer = h.own.Issuer + "/authorize" },
			"an owner's role":            func(r *auth.CreateConnectionRequest) { r.DefaultRole = "owner" },
			"a role that nobody has":     func(r *auth.CreateConnectionRequest) { r.DefaultRole = "rol_nothing" },
			"a place that runs a script": func(*auth.CreateConnectionRequest) {
				h.own.Describe = func(d map[string]any) { d["authorization_endpoint"] = "javascript:alert(1)" }
			},
			"a description without an end": func(*auth.CreateConnectionRequest) {
				h.own.Describe = func(d map[string]any) { d["padding"] = strings.Repeat("x", 2<<20) }
			},
		} {
			bad := ask
			change(&bad)
			if _, err := h.CreateConnection(inside, bad); domain.KindOf(err) != domain.Invalid {
				t.Errorf("%s: %v", name, err)
			}
			h.own.Describe = nil
			h.Advance(2 * time.Hour) // what was believed of an issuer
		}
		c, err := h.CreateConnection(inside, ask)
		if err != nil || c.DefaultRole != "viewer" {
			t.Fatalf("%+v %v", c, err)
		}
		shown, _ := json.Marshal(c)
		if n := h.count(`SELECT count(*) FROM sso_connections WHERE client_secret LIKE '%s3cret%'`, nil); n != 0 || strings.Contains(string(shown), "s3cret") {
			t.Errorf("the secret is there: %s", shown)
		}
		other := db.In(db.B)
		if _, err := h.Connection(other, auth.ConnectionRequest{ID: c.ID}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another tenant's: %v", err)
		}
		if err := h.DeleteConnection(other, auth.ConnectionRequest{ID: c.ID}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another tenant's: %v", err)
		}
		arrivals, err := h.CreateRole(inside, auth.CreateRoleRequest{Name: "arrivals", Permissions: []string{"dataset:read"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			ask.DefaultRole = arrivals.ID
			if _, err := h.CreateConnection(inside, ask); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.DeleteRole(inside, auth.RoleRequest{ID: arrivals.ID}); domain.CodeOf(err) != "role_in_use" {
			t.Errorf("the role of who comes through a provider: %v", err)
		}
		if _, err := h.CreateConnection(inside, ask); domain.KindOf(err) != domain.Conflict {
			t.Errorf("a sixth: %v", err)
		}
		found, err := h.SignInOptions(public(), auth.SignInOptionsRequest{Email: "somebody@uni.test"})
		if err != nil || len(found.Data) != 1 {
			t.Errorf("before the domain is proved: %+v %v", found, err)
		}
		h.write(`INSERT INTO tenant_domains (tenant_id, id, name, token, status, created_at, verified_at) VALUES (@of, 'dom_1', 'uni.test', 't', 'verified', @now, @now)`,
			map[string]any{"of": domain.TenantOf(inside), "now": h.Now().UTC()})
		h.Advance(2 * time.Second)
		if found, err = h.SignInOptions(public(), auth.SignInOptionsRequest{Email: "somebody@uni.test"}); err != nil || len(found.Data) != 6 {
			t.Errorf("%+v %v", found, err)
		}
	})
}

// Whatever a sign-in is told to return to, it is a path of the portal.
func TestReturnsToThePortal(t *testing.T) {
	h := newHouse(t, testdb.SQLite(t))
	h.google.Person = idp.Person{Subject: "g", Email: "g@example.org", Verified: true}
	b := &browser{h: h}
	out, err := b.signIn("google")
	if err != nil {
		t.Fatal(err)
	}
	_, secret := ticket(t, out)
	if _, err := h.SSOSignup(public(), auth.SSOSignupRequest{Ticket: auth.Ticket{Ticket: secret, Browser: b.cookie}, WorkspaceName: "Lab", AcceptTerms: true}); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		"/runs?x=1": "/runs?x=1", "": "/", "runs": "/", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example/": "/", "javascript:alert(1)": "/",
		"/%0d%0aSet-Cookie:x": "/%0d%0aSet-Cookie:x", "/a\r\nb": "/", "\t//evil.example": "/", "///evil.example": "/", "/ok//fine": "/ok//fine", "http:/evil": "/",
	} {
		address, err := b.leave("google", given)
		if err != nil {
			t.Fatal(err)
		}
		out, err := h.CallbackOIDC(public(), b.visit(address))
		if err != nil || out.To != "https://example.test"+want {
			t.Errorf("%q leads to %q %v", given, out.To, err)
		}
	}
}

// Microsoft issues for every directory under an issuer of its own, and its
// addresses are what an administrator typed: the issuer must be that of the
// directory, and only an address marked as proved counts. GitHub has no id
// tokens: its numbers are the subjects.
func TestMicrosoftAndGitHub(t *testing.T) {
	h := newHouse(t, testdb.SQLite(t))
	var ms *idp.OIDC
	var user, emails any
	mux := http.NewServeMux()
	mux.HandleFunc("GET /user", func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(user) })
	mux.HandleFunc("GET /user/emails", func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(emails) })
	mux.HandleFunc("GET /login/oauth/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("code_challenge_method") != "S256" {
			t.Error("no PKCE")
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?code=c&state="+q.Get("state"), http.StatusFound)
	})
	mux.HandleFunc("POST /login/oauth/access_token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("code_verifier") == "" || r.PostFormValue("client_secret") != "gh" {
			t.Error("no verifier, or no secret")
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "t", "token_type": "bearer"})
	})
	mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ms.ServeHTTP(w, r) }))
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	var err error
	if ms, err = idp.NewOIDC(web.URL+"/common/v2.0", "ms", "ms"); err != nil {
		t.Fatal(err)
	}
	ms.Now, ms.Silent = h.Now, true
	ms.RedirectURIs = []string{"https://example.test/api/v1/auth/oidc/microsoft/callback"}
	ms.Describe = func(d map[string]any) { d["issuer"] = web.URL + "/{tenantid}/v2.0" }
	h.Service.Providers = []auth.Provider{{Name: "microsoft", Issuer: ms.Issuer, ClientID: "ms", ClientSecret: "ms"},
		{Name: "github", Issuer: web.URL, API: web.URL, ClientID: "gh", ClientSecret: "gh"}}
	ms.Person = idp.Person{Subject: "s", Email: "m@example.org", Verified: true}
	const directory = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	for name, c := range map[string]struct {
		claims jwt.MapClaims
		code   string
	}{
		"proved":                     {jwt.MapClaims{"tid": directory, "iss": web.URL + "/" + directory + "/v2.0", "xms_edov": "1"}, ""},
		"typed by an administrator":  {jwt.MapClaims{"tid": directory, "iss": web.URL + "/" + directory + "/v2.0"}, "sso_unverified"},
		"the issuer of another":      {jwt.MapClaims{"tid": directory, "iss": web.URL + "/11111111-86f1-41af-91ab-2d7cd011db47/v2.0", "xms_edov": true}, "sso_failed"},
		"no directory":               {jwt.MapClaims{"iss": web.URL + "//v2.0", "xms_edov": true}, "sso_failed"},
		"the template itself":        {jwt.MapClaims{"tid": "{tenantid}", "iss": web.URL + "/{tenantid}/v2.0", "xms_edov": true}, "sso_failed"},
		"a directory that is a path": {jwt.MapClaims{"tid": "a/b", "iss": web.URL + "/a/b/v2.0", "xms_edov": true}, "sso_failed"},
	} {
		ms.Claims = func(m jwt.MapClaims) {
			for k, v := range c.claims {
				m[k] = v
			}
		}
		out, err := (&browser{h: h}).signIn("microsoft")
		if c.code != "" && domain.CodeOf(err) != c.code {
			t.Errorf("%s: %v %v", name, out, err)
		}
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if step, _ := ticket(t, out); step != "signup" {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
	user = map[string]any{"id": 7, "login": "octo"}
	emails = []map[string]any{{"email": "other@example.org", "verified": true}, {"email": "o@example.org", "primary": true, "verified": false}}
	if _, err := (&browser{h: h}).signIn("github"); domain.CodeOf(err) != "sso_unverified" {
		t.Errorf("an address that GitHub does not vouch for: %v", err)
	}
	emails = []map[string]any{{"email": "o@example.org", "primary": true, "verified": true}}
	if out, err := (&browser{h: h}).signIn("github"); err != nil {
		t.Error(err)
	} else if step, _ := ticket(t, out); step != "signup" {
		t.Error(step)
	}
	user = map[string]any{"message": "Bad credentials"}
	if _, err := (&browser{h: h}).signIn("github"); domain.CodeOf(err) != "sso_failed" {
		t.Errorf("nobody: %v", err)
	}
}

// Many callbacks with one state open one session.
func TestStateIsGoodOnce(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := newHouse(t, db)
		_, inside := h.owner("boss@uni.test")
		c := h.connect(inside, "uni.test")
		h.own.Person = idp.Person{Subject: "u", Email: "u@uni.test", Verified: true}
		b := &browser{h: h}
		address, err := b.leave(c.ID, "/")
		if err != nil {
			t.Fatal(err)
		}
		in := b.visit(address)
		var wg sync.WaitGroup
		var mu sync.Mutex
		opened := 0
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				out, err := h.CallbackOIDC(public(), in)
				mu.Lock()
				defer mu.Unlock()
				if token, _ := out.Cookie(); token != "" {
					opened++
				} else if domain.CodeOf(err) != "sso_expired" {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		if opened != 1 {
			t.Errorf("%d sessions", opened)
		}
	})
}
