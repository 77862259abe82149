// Package idp is an identity provider that speaks the wire contracts of OpenID
// Connect (and, in saml.go, SAML 2.0) to the letter, for tests: it holds its
// client to the redirect address, the secret, PKCE and the single use of a code.
// Its faults are those of an attacker: a test changes what it says just before
// it is said.
package idp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Person is who sits at the browser, as the provider knows them.
type Person struct {
	Subject, Email, Name string
	Verified             any // of the address: a bool, or what else a provider writes
}

// OIDC is one provider with one client. Its fields may be changed between
// requests.
type OIDC struct {
	Issuer, ClientID, Secret string
	RedirectURIs             []string
	Person                   Person
	Now                      func() time.Time

	Claims   func(c jwt.MapClaims)                              // changes an id token before it is signed
	Sign     func(c jwt.MapClaims, honest func() string) string // signs it in the provider's stead
	Describe func(d map[string]any)                             // changes the discovery document
	Silent   bool                                               // about who answers (RFC 9207)

	mu    sync.Mutex
	key   *rsa.PrivateKey
	codes map[string]grant
	Seen  []string // paths asked for
}

type grant struct{ redirect, challenge, nonce string }

// A key takes long to make, so every honest provider of a process has the same
// one, and every impostor another.
var honest, impostor = sync.OnceValues(newKey), sync.OnceValues(newKey)

func newKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// NewOIDC makes a provider that answers at an address.
func NewOIDC(issuer, client, secret string) (*OIDC, error) {
	key, err := honest()
	return &OIDC{Issuer: issuer, ClientID: client, Secret: secret, Now: time.Now, key: key, codes: map[string]grant{}}, err
}

// Impostor is another provider, at an address of its own, with a key of its own.
func (o *OIDC) Impostor(issuer string) (*OIDC, error) {
	key, err := impostor()
	return &OIDC{Issuer: issuer, ClientID: o.ClientID, Secret: o.Secret, Now: o.Now, key: key, codes: map[string]grant{}}, err
}

// ServeHTTP is the provider.
func (o *OIDC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.Seen = append(o.Seen, r.URL.Path)
	switch strings.TrimPrefix(r.URL.Path, o.path()) {
	case "/.well-known/openid-configuration":
		doc := map[string]any{"issuer": o.Issuer, "authorization_endpoint": o.Issuer + "/authorize", "token_endpoint": o.Issuer + "/token", "jwks_uri": o.Issuer + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
			"authorization_response_iss_parameter_supported": !o.Silent, "code_challenge_methods_supported": []string{"S256"}}
		if o.Describe != nil {
			o.Describe(doc)
		}
		answer(w, 200, doc)
	case "/keys":
		answer(w, 200, map[string]any{"keys": []any{map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1",
			"n": b64(o.key.N.Bytes()), "e": b64(big.NewInt(int64(o.key.E)).Bytes())}}})
	case "/authorize":
		o.authorize(w, r)
	case "/token":
		o.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (o *OIDC) path() string {
	u, _ := url.Parse(o.Issuer)
	return u.Path
}

// authorize gives a code: the person has always agreed.
func (o *OIDC) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect := q.Get("redirect_uri")
	known := false
	for _, u := range o.RedirectURIs {
		known = known || u == redirect
	}
	switch {
	case !known || q.Get("client_id") != o.ClientID:
		http.Error(w, "unknown client or redirect address", 400)
		return
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43,
		q.Get("state") == "" || q.Get("nonce") == "" || !strings.Contains(" "+q.Get("scope")+" ", " openid "):
		http.Error(w, "the request is not one for a code with PKCE, state and nonce", 400)
		return
	}
	code := rand.Text()
	o.codes[code] = grant{redirect, q.Get("code_challenge"), q.Get("nonce")}
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "session_state": {"theirs"}}
	if !o.Silent {
		back.Set("iss", o.Issuer)
	}
	http.Redirect(w, r, redirect+"?"+back.Encode(), http.StatusFound)
}

// token changes a code, once, for an id token.
func (o *OIDC) token(w http.ResponseWriter, r *http.Request) {
	id, secret, ok := r.BasicAuth()
	if id, _ = url.QueryUnescape(id); !ok || id != o.ClientID || subtle.ConstantTimeCompare([]byte(secret), []byte(url.QueryEscape(o.Secret))) != 1 {
		answer(w, 401, map[string]any{"error": "invalid_client"})
		return
	}
	g, ok := o.codes[r.PostFormValue("code")]
	delete(o.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || r.PostFormValue("grant_type") != "authorization_code" || g.redirect != r.PostFormValue("redirect_uri") || g.challenge != b64(sum[:]) {
		answer(w, 400, map[string]any{"error": "invalid_grant"})
		return
	}
	access := rand.Text()
	half := sha256.Sum256([]byte(access))
	now := o.Now()
	c := jwt.MapClaims{"iss": o.Issuer, "sub": o.Person.Subject, "aud": o.ClientID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "nonce": g.nonce,
		"at_hash": b64(half[:16]), "email": o.Person.Email, "name": o.Person.Name}
	if o.Person.Verified != nil {
		c["email_verified"] = o.Person.Verified
	}
	if o.Claims != nil {
		o.Claims(c)
	}
	sign := func() string { return o.signed(c) }
	raw := ""
	if o.Sign != nil {
		raw = o.Sign(c, sign)
	} else {
		raw = sign()
	}
	answer(w, 200, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": raw})
}

func (o *OIDC) signed(c jwt.MapClaims) string {
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, c)
	t.Header["kid"] = "k1"
	raw, err := t.SignedString(o.key)
	if err != nil {
		panic(fmt.Sprintf("idp: %v", err)) // a key of our own
	}
	return raw
}

// SignWith signs claims with this provider's key, and carries the key along in
// the header, as one would who wants it to be believed.
func (o *OIDC) SignWith(c jwt.MapClaims) string {
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, c)
	t.Header["kid"] = "k1"
	t.Header["jku"] = o.Issuer + "/keys"
	t.Header["jwk"] = map[string]any{"kty": "RSA", "n": b64(o.key.N.Bytes()), "e": b64(big.NewInt(int64(o.key.E)).Bytes())}
	raw, err := t.SignedString(o.key)
	if err != nil {
		panic(fmt.Sprintf("idp: %v", err))
	}
	return raw
}

// PublicKey is what an attacker can read.
func (o *OIDC) PublicKey() *rsa.PublicKey { return &o.key.PublicKey }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
