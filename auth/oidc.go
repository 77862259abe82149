package auth

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/chainreactions/chainreactions/domain"
)

// OpenID Connect: the authorization code flow with PKCE, state and nonce (RFC
// 9700). What is believed of the browser's return is only what was kept here
// when it left: the provider, the nonce and the verifier, under the hash of the
// state, for the browser that holds the cookie. Each provider has a redirect
// address of its own and says who it is (RFC 9207), so that one cannot be taken
// for another.

// Provider signs people in for every tenant. Its Name is google, microsoft or
// github; the first two speak OpenID Connect. Microsoft's common endpoint issues
// for every directory under an issuer of its own, and its addresses are what a
// directory's administrator typed: only those that it marks as proved count.
type Provider struct {
	Name, Issuer           string
	ClientID, ClientSecret string
	API                    string // of GitHub
}

// The providers' own addresses.
const (
	GoogleIssuer = "https://accounts.google.com"
	GitHubIssuer = "https://github.com"
	GitHubAPI    = "https://api.github.com"
)

// MicrosoftIssuer is that of a directory: its id, or common or organizations for
// many.
func MicrosoftIssuer(directory string) string {
	return "https://login.microsoftonline.com/" + directory + "/v2.0"
}

// anyDirectory stands in the issuer of Microsoft's endpoints for many directories.
const anyDirectory = "{tenantid}"

const (
	issuerFresh   = time.Hour // how long a provider's description is believed
	providerWait  = 10 * time.Second
	providerBytes = 1 << 20 // of any answer of a provider
)

// signatures are those that an id token may have: asymmetric ones, whatever the
// provider says of itself. Neither none nor a secret shared with us is among them.
var signatures = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// issuers keeps the descriptions of providers.
type issuers struct {
	client *http.Client
	mu     sync.Mutex
	known  map[string]*issuer
}

type issuer struct {
	*oidc.Provider
	about struct {
		Issuer      string   `json:"issuer"`
		AuthURL     string   `json:"authorization_endpoint"`
		Methods     []string `json:"token_endpoint_auth_methods_supported"`
		NamesItself bool     `json:"authorization_response_iss_parameter_supported"`
	}
	until time.Time
}

func newIssuers(client *http.Client) *issuers {
	if client == nil {
		client = &http.Client{Transport: nowhere{}}
	}
	c := *client
	c.Timeout = providerWait
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	c.Transport = bounded{next}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { // a provider is where it says it is
		return http.ErrUseLastResponse
	}
	return &issuers{client: &c, known: map[string]*issuer{}}
}

type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("auth: no client for identity providers")
}

// bounded cuts answers short, since the libraries read them whole.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, providerBytes+1))
	res.Body.Close()
	if err == nil && len(raw) > providerBytes {
		err = errors.New("the answer of an identity provider is too large")
	}
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(raw))
	return res, nil
}

// find gives the description of an issuer, read at its well-known address.
func (i *issuers) find(ctx context.Context, name string, now time.Time) (*issuer, error) {
	i.mu.Lock()
	is, ok := i.known[name]
	i.mu.Unlock()
	if ok && now.Before(is.until) {
		return is, nil
	}
	is = &issuer{until: now.Add(issuerFresh)}
	ctx = oidc.ClientContext(ctx, i.client)
	if host, _, many := manyDirectories(name); many {
		ctx = oidc.InsecureIssuerURLContext(ctx, host+anyDirectory+"/v2.0")
	}
	var err error
	if is.Provider, err = oidc.NewProvider(ctx, name); err != nil {
		return nil, err
	}
	if err = is.Claims(&is.about); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.known) > 10_000 {
		clear(i.known)
	}
	i.known[name] = is
	return is, nil
}

// manyDirectories reports whether an issuer is one of Microsoft's for more than
// one directory, and splits it around the directory's place.
func manyDirectories(name string) (host, directory string, ok bool) {
	for _, directory := range []string{"common", "organizations"} {
		if host, ok := strings.CutSuffix(name, directory+"/v2.0"); ok {
			return host, directory, true
		}
	}
	return "", "", false
}

// oidcProvider is a provider as the flow needs it, whoever configured it.
type oidcProvider struct {
	Provider
	tenant string // whose own it is, or ""
	id     string // in addresses and in identities
}

// oidcProvider finds a provider by its name or by the id of a connection. One
// that is off, or whose tenant's plan has no sso, is not there.
func (s *Service) oidcProvider(ctx context.Context, id string) (p oidcProvider, err error) {
	for _, ours := range s.Providers {
		if ours.Name == id {
			return oidcProvider{Provider: ours, id: id}, nil
		}
	}
	c, err := s.usable(ctx, id, "oidc")
	if err != nil {
		return p, err
	}
	secret, err := s.box.Open("sso "+c.ID, c.ClientSecret)
	return oidcProvider{Provider{Issuer: c.Issuer, ClientID: c.ClientID, ClientSecret: string(secret)}, c.TenantID, c.ID}, err
}

// oauth is the client that we are at a provider.
func (s *Service) oauth(ctx context.Context, p oidcProvider) (*oauth2.Config, *issuer, error) {
	c := &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, RedirectURL: s.link("/api/v1/auth/oidc/" + p.id + "/callback")}
	if p.Name == "github" {
		c.Endpoint = oauth2.Endpoint{AuthURL: p.Issuer + "/login/oauth/authorize", TokenURL: p.Issuer + "/login/oauth/access_token", AuthStyle: oauth2.AuthStyleInParams}
		c.Scopes = []string{"read:user", "user:email"}
		return c, nil, nil
	}
	is, err := s.issuers.find(ctx, p.Issuer, s.Now())
	if err != nil {
		return nil, nil, domain.E(domain.Unavailable, "provider_unavailable", "The identity provider does not answer as it should.").Because(err)
	}
	c.Endpoint = is.Endpoint()
	c.Endpoint.AuthStyle = oauth2.AuthStyleInHeader // the default of RFC 8414
	if len(is.about.Methods) > 0 && !slices.Contains(is.about.Methods, "client_secret_basic") {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	c.Scopes = []string{oidc.ScopeOpenID, "profile", "email"}
	return c, is, s.mayLead(is.about.AuthURL)
}

// mayLead refuses an address that no browser should be led to.
func (s *Service) mayLead(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(s.Plain && u.Scheme == "http") {
		return domain.E(domain.Unavailable, "provider_unavailable", "The identity provider does not answer as it should.").Because(errors.New("its authorization endpoint is " + strconv.Quote(address)))
	}
	return nil
}

// StartOIDCRequest begins a sign-in.
type StartOIDCRequest struct {
	Provider string `path:"provider" maxLength:"64"`
	ReturnTo string `query:"return_to" maxLength:"500" doc:"a path of the portal; / without it"`
	Browser  string `cookie:"sso" maxLength:"100"`
}

// StartOIDC sends a browser to a provider.
func (s *Service) StartOIDC(ctx context.Context, in StartOIDCRequest) (out Redirect, err error) {
	p, err := s.oidcProvider(ctx, in.Provider)
	if err != nil {
		return out, err
	}
	client, _, err := s.oauth(ctx, p)
	if err != nil {
		return out, err
	}
	sent := sentAway{ReturnTo: ownPath(in.ReturnTo), Nonce: newSecret(), Verifier: oauth2.GenerateVerifier()}
	state, browser, err := s.keepFlow(ctx, "sent", p.id, in.Browser, "", sent)
	if err != nil {
		return out, err
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(sent.Verifier)}
	if p.Name != "github" {
		options = append(options, oidc.Nonce(sent.Nonce))
	}
	return Redirect{To: client.AuthCodeURL(state, options...), Browser: browser}, nil
}

// sentAway is what is kept of a browser that was sent to a provider.
type sentAway struct {
	ReturnTo string `json:"return_to"`
	Nonce    string `json:"nonce,omitempty"`
	Verifier string `json:"verifier,omitempty"`
	Request  string `json:"request,omitempty"` // the id of a SAML request
}

// CallbackOIDCRequest is the browser's return.
type CallbackOIDCRequest struct {
	Provider string `path:"provider" maxLength:"64"`
	State    string `query:"state" maxLength:"100"`
	Code     string `query:"code" maxLength:"4000"`
	Error    string `query:"error" maxLength:"200"`
	Issuer   string `query:"iss" maxLength:"500" doc:"who answers (RFC 9207)"`
	Browser  string `cookie:"sso" maxLength:"100"`
}

// CallbackOIDC takes what a provider answered through the browser, changes the
// code for an id token at the provider itself, and signs in whom it names.
func (s *Service) CallbackOIDC(ctx context.Context, in CallbackOIDCRequest) (out Redirect, err error) {
	var sent sentAway
	if _, err := s.takeFlow(ctx, "sent", in.Provider, in.State, in.Browser, &sent); err != nil {
		return out, err
	}
	p, err := s.oidcProvider(ctx, in.Provider)
	if err != nil {
		return out, err
	}
	client, is, err := s.oauth(ctx, p)
	if err != nil {
		return out, err
	}
	if is != nil && (in.Issuer != "" || is.about.NamesItself) && in.Issuer != is.about.Issuer {
		return out, s.unusable(ctx, p.tenant, p.id, fmt.Errorf("the answer says that it is from %q", in.Issuer))
	}
	if in.Error != "" || in.Code == "" {
		return out, domain.E(domain.Forbidden, "sso_denied", "The identity provider did not let you in.").Because(errors.New(in.Error))
	}
	wire := context.WithValue(ctx, oauth2.HTTPClient, s.issuers.client)
	token, err := client.Exchange(wire, in.Code, oauth2.VerifierOption(sent.Verifier))
	if err != nil {
		return out, s.unusable(ctx, p.tenant, p.id, err)
	}
	var a arrival
	if p.Name == "github" {
		a, err = s.githubUser(wire, p, token)
	} else {
		a, err = s.readIDToken(wire, p, is, token, sent.Nonce)
	}
	if err != nil {
		return out, s.unusable(ctx, p.tenant, p.id, err)
	}
	a.provider, a.tenant, a.factor = p.id, p.tenant, "oidc"
	return s.arrive(ctx, a, sent.ReturnTo, in.Browser)
}

// readIDToken holds an id token against OpenID Connect Core §3.1.3.7.
func (s *Service) readIDToken(ctx context.Context, p oidcProvider, is *issuer, token *oauth2.Token, nonce string) (a arrival, err error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return a, errors.New("there is no id token")
	}
	_, _, many := manyDirectories(p.Issuer)
	id, err := is.Verifier(&oidc.Config{ClientID: p.ClientID, SupportedSigningAlgs: signatures, SkipIssuerCheck: many, Now: s.Now}).Verify(ctx, raw)
	if err != nil {
		return a, err
	}
	var claims struct {
		Email         string `json:"email"`
		EmailVerified loose  `json:"email_verified"`
		DomainProved  loose  `json:"xms_edov"`
		Name          string `json:"name"`
		Party         string `json:"azp"`
		Directory     string `json:"tid"`
		AuthTime      int64  `json:"auth_time"`
	}
	if err := id.Claims(&claims); err != nil {
		return a, err
	}
	switch {
	case many && (claims.Directory == "" || strings.ContainsAny(claims.Directory, "/?#{}") || id.Issuer != strings.Replace(is.about.Issuer, anyDirectory, claims.Directory, 1)):
		return a, fmt.Errorf("the issuer %q is not that of the directory", id.Issuer)
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1:
		return a, errors.New("the nonce is another")
	case len(id.Audience) > 1 && claims.Party == "", claims.Party != "" && claims.Party != p.ClientID:
		return a, errors.New("the token was made for another client")
	case id.Subject == "" || len(id.Subject) > 255:
		return a, errors.New("the subject is empty or too long")
	case id.IssuedAt.After(s.Now().Add(time.Minute)):
		return a, errors.New("the token is from the future")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return a, err
		}
	}
	a = arrival{issuer: id.Issuer, subject: id.Subject, email: fold(claims.Email), verified: bool(claims.EmailVerified), name: claims.Name}
	if p.Name == "microsoft" {
		a.verified = bool(claims.DomainProved)
	}
	if claims.AuthTime > 0 {
		a.proved = time.Unix(claims.AuthTime, 0)
	}
	return a, nil
}

// loose is a claim that some providers write as true, others as "true", 1 or
// "1". Anything else is false.
type loose bool

// UnmarshalJSON is json's.
func (l *loose) UnmarshalJSON(raw []byte) error {
	word := strings.Trim(string(raw), `"`)
	*l = word == "true" || word == "1"
	return nil
}

// githubUser asks GitHub, which has no id tokens, whose the access token is. It
// came straight from GitHub, for our client and our verifier.
func (s *Service) githubUser(ctx context.Context, p oidcProvider, token *oauth2.Token) (a arrival, err error) {
	client := oauth2.NewClient(ctx, oauth2.StaticTokenSource(token))
	get := func(path string, into any) error {
		res, err := client.Get(p.API + path)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("GitHub answers %d", res.StatusCode)
		}
		return json.NewDecoder(res.Body).Decode(into)
	}
	var user struct {
		ID          int64
		Name, Login string
	}
	if err := get("/user", &user); err != nil {
		return a, err
	}
	if user.ID <= 0 {
		return a, errors.New("GitHub names nobody")
	}
	var emails []struct {
		Email             string
		Primary, Verified bool
	}
	if err := get("/user/emails", &emails); err != nil {
		return a, err
	}
	a = arrival{issuer: p.Issuer, subject: strconv.FormatInt(user.ID, 10), name: user.Name}
	if a.name == "" {
		a.name = user.Login
	}
	for _, e := range emails {
		if e.Primary {
			a.email, a.verified = fold(e.Email), e.Verified
		}
	}
	return a, nil
}

var _ = domain.Chinese(map[string]string{
	"The identity provider does not answer as it should.": "身份提供方未能正常应答。",
	"The identity provider did not let you in.":           "身份提供方未允许您登录。",
})
