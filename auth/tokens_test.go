package auth_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/text/unicode/norm"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// signingKey opens the key that the service signs with, as only who has the
// database and SECRET_KEY can.
func signingKey(t *testing.T, db testdb.DB) (kid string, key ed25519.PrivateKey) {
	t.Helper()
	var sealed string
	if err := db.SQLDB().QueryRow("SELECT kid, sealed FROM signing_keys").Scan(&kid, &sealed); err != nil {
		t.Fatal(err)
	}
	secret, err := hkdf.Key(sha256.New, []byte("0123456789abcdef0123456789abcdef"), nil, "chainreactions signing keys", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(secret)
	aead, _ := cipher.NewGCM(block)
	raw, _ := base64.StdEncoding.DecodeString(sealed)
	seed, err := aead.Open(nil, raw[:12], raw[12:], []byte(kid))
	if err != nil {
		t.Fatal(err)
	}
	return kid, ed25519.NewKeyFromSeed(seed)
}

// V9.1.2, V9.1.3, V9.2.1, V9.2.2, V9.2.3: an access token is good only under the
// one algorithm, by a key of ours, in its time, for us and for its purpose;
// what a token says of keys is not looked at.
func TestAccessTokens(t *testing.T) {
	db := testdb.SQLite(t)
	s, c, out := service(t, db)
	kid, key := signingKey(t, db)
	var honest jwt.MapClaims
	if _, _, err := jwt.NewParser().ParseUnverified(out.AccessToken, &honest); err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, with any, header map[string]any, change map[string]any) string {
		t.Helper()
		claims := jwt.MapClaims{}
		for k, v := range honest {
			claims[k] = v
		}
		for k, v := range change {
			if claims[k] = v; v == nil {
				delete(claims, k)
			}
		}
		token := jwt.NewWithClaims(method, claims)
		token.Header["kid"] = kid
		for k, v := range header {
			token.Header[k] = v
		}
		text, err := token.SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	is := func(token string) error {
		_, err := s.Authenticate(public(), auth.Credential{Bearer: token})
		return err
	}
	if err := is(sign(jwt.SigningMethodEdDSA, key, nil, nil)); err != nil {
		t.Fatalf("the test cannot make a good token: %v", err)
	}
	theirs, own, _ := ed25519.GenerateKey(rand.Reader)
	x := base64.RawURLEncoding.EncodeToString(theirs)
	now := float64(c.Now().Unix())
	for name, token := range map[string]string{
		"alg none":               sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, nil),
		"HMAC with the public":   sign(jwt.SigningMethodHS256, []byte(key.Public().(ed25519.PublicKey)), nil, nil),
		"another's key":          sign(jwt.SigningMethodEdDSA, own, nil, nil),
		"another's key, by kid":  sign(jwt.SigningMethodEdDSA, own, map[string]any{"kid": "theirs"}, nil),
		"a key in the header":    sign(jwt.SigningMethodEdDSA, own, map[string]any{"jwk": map[string]any{"kty": "OKP", "crv": "Ed25519", "x": x}}, nil),
		"keys at an address":     sign(jwt.SigningMethodEdDSA, own, map[string]any{"jku": "https://evil.test/jwks.json", "x5u": "https://evil.test/c.pem"}, nil),
		"no end":                 sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"exp": nil}),
		"ended":                  sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"exp": now - 1}),
		"not begun":              sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"nbf": now + 3600}),
		"for another":            sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"aud": "https://other.test"}),
		"for nobody":             sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"aud": nil}),
		"of another":             sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"iss": "https://other.test"}),
		"of no session":          sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"sid": nil}),
		"of another's session":   sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"sub": domain.NewID("usr")}),
		"in another tenant":      sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"ten": domain.NewID("ten")}),
		"with an actor":          sign(jwt.SigningMethodEdDSA, key, nil, map[string]any{"act": map[string]any{"sub": domain.NewID("usr")}}),
		"the refresh token":      out.RefreshToken,
		"with another signature": out.AccessToken[:len(out.AccessToken)-4] + "AAAA",
	} {
		if err := is(token); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.Advance(10*time.Minute + time.Second)
	if err := is(out.AccessToken); domain.CodeOf(err) != "token_expired" {
		t.Errorf("after ten minutes: %v", err)
	}
}

// V11.5.1: whatever opens an account has at least 128 bits of the system's own
// randomness, and no two are alike. V6.5.2: recovery codes, which want a password
// beside them, have 112.
func TestSecretsAreLong(t *testing.T) {
	db := testdb.SQLite(t)
	s, _, out := accountsAndPerson(t, db)
	seen := map[string]bool{}
	for range 20 {
		in, err := login(s, "a@example.org", phrase)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.RawURLEncoding.DecodeString(in.RefreshToken)
		if err != nil || len(raw) < 16 || seen[in.RefreshToken] {
			t.Errorf("a refresh token of %d bytes: %v", len(raw), err)
		}
		seen[in.RefreshToken] = true
	}
	key, err := s.CreateKey(as(t, s, out.AccessToken), auth.CreateKeyRequest{Name: "k", Scopes: []string{"dataset:read"}})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(key.Key, "_")
	if secret := parts[len(parts)-1]; len(secret) < 22+6 { // base 62, then the checksum
		t.Errorf("a key's secret has %d signs", len(secret))
	}
	codes, _ := enable(t, s, as(t, s, out.AccessToken))
	for _, code := range codes {
		raw, err := base32.StdEncoding.DecodeString(strings.ToUpper(strings.ReplaceAll(code, "-", "")))
		if err != nil || len(raw) < 14 || seen[code] {
			t.Errorf("a recovery code of %d bytes: %v", len(raw), err)
		}
		seen[code] = true
	}
}

func accountsAndPerson(t *testing.T, db testdb.DB) (*auth.Service, *clock, auth.SignupResponse) {
	t.Helper()
	s, c, _ := accounts(t, db, false)
	out, err := s.Signup(public(), signUp("a@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	return s, c, out
}

// V7.2.4, V7.3.1, V7.3.2, V7.5.2: each sign-in is a session of its own; one that
// nobody uses ends after a week, and one that is used after thirty days; a person
// sees their own sessions and ends one, and nobody else's.
func TestSessionsEnd(t *testing.T) {
	db := testdb.SQLite(t)
	s, c, first := accountsAndPerson(t, db)
	second, err := login(s, "a@example.org", phrase)
	if err != nil || second.RefreshToken == first.RefreshToken {
		t.Fatalf("%v", err)
	}
	me := as(t, s, second.AccessToken)
	list, err := s.Sessions(me, domain.PageRequest{})
	if err != nil || len(list.Data) != 2 || list.Data[0].ID == list.Data[1].ID {
		t.Fatalf("%+v %v", list, err)
	}
	stranger, err := s.Signup(public(), signUp("b@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	for _, session := range list.Data {
		if err := s.RevokeSession(as(t, s, stranger.AccessToken), auth.SessionRequest{ID: session.ID}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("a stranger ends a session: %v", err)
		}
		if !session.Current {
			if err := s.RevokeSession(me, auth.SessionRequest{ID: session.ID}); err != nil {
				t.Error(err)
			}
		}
	}
	refresh := func(token string) (auth.Tokens, error) {
		return s.Refresh(public(), auth.RefreshRequest{RefreshToken: token})
	}
	if _, err := refresh(first.RefreshToken); domain.KindOf(err) != domain.Unauthenticated {
		t.Errorf("a session that was ended goes on: %v", err)
	}
	began, token := c.Now(), second.RefreshToken
	use := func(after time.Duration) (err error) {
		c.Advance(after)
		out, err := refresh(token)
		token = out.RefreshToken
		return err
	}
	for range 4 {
		if err := use(7*24*time.Hour - time.Minute); err != nil {
			t.Fatalf("a session that is used ends after %v: %v", c.Now().Sub(began), err)
		}
	}
	if err := use(2*24*time.Hour + time.Hour); domain.KindOf(err) != domain.Unauthenticated {
		t.Errorf("a session goes on after %v: %v", c.Now().Sub(began), err)
	}
	idle, err := login(s, "a@example.org", phrase)
	if err != nil {
		t.Fatal(err)
	}
	token = idle.RefreshToken
	if err := use(7*24*time.Hour + time.Minute); domain.KindOf(err) != domain.Unauthenticated {
		t.Errorf("a session that nobody used for a week goes on: %v", err)
	}
}

// V6.2.5, V6.2.8, V6.2.9, V6.2.11: a password is what was typed, whole, in any
// signs, and up to 128 of them; what is known of the person, of the workspace and
// of us makes a weak one.
func TestPasswordsAsTyped(t *testing.T) {
	db := testdb.SQLite(t)
	s, _, _ := accounts(t, db, false)
	long := " Ünïcödé 密码 plain words only, " + strings.Repeat("ábcd efgh ", 8) + "tail"
	long += strings.Repeat("z", 128-len([]rune(long)))
	in := signUp("long@example.org")
	in.Password = long
	if _, err := s.Signup(public(), in); err != nil {
		t.Fatalf("128 signs: %v", err)
	}
	if _, err := login(s, "long@example.org", long); err != nil {
		t.Fatalf("as it was typed: %v", err)
	}
	for name, other := range map[string]string{"cut": long[:len(long)-1], "trimmed": strings.TrimSpace(long), "small": strings.ToLower(long), "decomposed": norm.NFD.String(long), "first 72 bytes": long[:72]} {
		if _, err := login(s, "long@example.org", other); domain.CodeOf(err) != "invalid_credentials" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, weak := range []string{"chainreactions", "Acmeindustries", "Zhangweiming", "zhangweiming1", "acmeindustries!"} {
		in := auth.SignupRequest{Email: "zhangweiming@example.org", Password: weak, FullName: "Zhangweiming", WorkspaceName: "Acmeindustries", AcceptTerms: true}
		if _, err := s.Signup(public(), in); domain.KindOf(err) != domain.Invalid {
			t.Errorf("%q is taken: %v", weak, err)
		}
	}
	in = signUp("simple@example.org")
	in.Password = "only small letters and spaces"
	if _, err := s.Signup(public(), in); err != nil {
		t.Errorf("a rule of composition: %v", err)
	}
}
