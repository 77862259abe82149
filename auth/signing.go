package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chainreactions/chainreactions/domain"
)

type signingKey struct {
	kid     string
	private ed25519.PrivateKey
	until   time.Time
}

type signingRow struct {
	Kid       string `gorm:"primaryKey"`
	Public    string
	Sealed    string
	CreatedAt time.Time
	ExpiresAt time.Time
}

func (signingRow) TableName() string { return "signing_keys" }

type accessClaims struct {
	Session string `json:"sid"`
	Tenant  string `json:"ten"`
	Act     *actor `json:"act,omitempty"`
	jwt.RegisteredClaims
}

// sealer keeps private keys in the database readable only with SECRET_KEY.
type sealer struct{ aead cipher.AEAD }

func newSealer(secret []byte) sealer {
	key, err := hkdf.Key(sha256.New, secret, nil, "chainreactions signing keys", 32)
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return sealer{aead}
}

func (s sealer) seal(kid string, plain []byte) string {
	nonce := make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, []byte(kid)))
}

func (s sealer) open(kid, sealed string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(raw) < s.aead.NonceSize() {
		return nil, errors.New("auth: a signing key is not readable")
	}
	return s.aead.Open(nil, raw[:s.aead.NonceSize()], raw[s.aead.NonceSize():], []byte(kid))
}

// rotateSigning makes sure that there is a key to sign with and knows every
// key that is still believed. A key signs for thirty days and is believed a
// day longer.
func (s *Service) rotateSigning(ctx context.Context) error {
	now := s.Now().UTC()
	var rows []signingRow
	sys := domain.System(ctx, "signing keys")
	err := s.Store.Tx(sys, func(ctx context.Context) error {
		db := s.Store.For(ctx)
		if err := db.Where("expires_at > ?", now).Order("created_at").Find(&rows).Error; err != nil {
			return err
		}
		if n := len(rows); n > 0 && now.Before(rows[n-1].CreatedAt.Add(keyLife)) {
			return nil
		}
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		row := signingRow{Kid: newSecret()[:12], Public: base64.RawURLEncoding.EncodeToString(public), CreatedAt: now, ExpiresAt: now.Add(keyLife + 24*time.Hour)}
		row.Sealed = s.sealer.seal(row.Kid, private.Seed())
		rows = append(rows, row)
		return db.Create(&row).Error
	})
	if err != nil {
		return err
	}
	verify := map[string]ed25519.PublicKey{}
	for _, r := range rows {
		public, err := base64.RawURLEncoding.DecodeString(r.Public)
		if err != nil {
			return err
		}
		verify[r.Kid] = public
	}
	last := rows[len(rows)-1]
	seed, err := s.sealer.open(last.Kid, last.Sealed)
	if err != nil {
		return errors.New("the signing keys in the database were sealed with another SECRET_KEY")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signing = signingKey{last.Kid, ed25519.NewKeyFromSeed(seed), last.CreatedAt.Add(keyLife)}
	s.verify = verify
	return nil
}

// publicKey finds the key that signed a token; one that another process made
// since is read from the database.
func (s *Service) publicKey(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	s.mu.Lock()
	key, ok := s.verify[kid]
	s.mu.Unlock()
	if ok {
		return key, nil
	}
	var row signingRow
	err := s.Store.Read(domain.System(ctx, "signing keys"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("kid = ? AND expires_at > ?", kid, s.Now().UTC()).Take(&row).Error
	})
	if err != nil {
		return nil, err
	}
	public, err := base64.RawURLEncoding.DecodeString(row.Public)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.verify[kid] = public
	s.mu.Unlock()
	return public, nil
}

// access makes an access token.
func (s *Service) access(ctx context.Context, user, session, tenant string) (string, error) {
	return s.accessUntil(ctx, user, session, tenant, s.Now().Add(accessLife), nil)
}

// accessUntil is access with an end of its own, and who acts as the user.
func (s *Service) accessUntil(ctx context.Context, user, session, tenant string, until time.Time, act *actor) (string, error) {
	now := s.Now()
	s.mu.Lock()
	key := s.signing
	s.mu.Unlock()
	if !now.Before(key.until) {
		if err := s.rotateSigning(ctx); err != nil {
			return "", err
		}
		s.mu.Lock()
		key = s.signing
		s.mu.Unlock()
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, accessClaims{session, tenant, act, jwt.RegisteredClaims{
		Issuer: s.Issuer, Audience: jwt.ClaimStrings{s.Issuer}, Subject: user, ID: newSecret()[:16],
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(until),
	}})
	t.Header["kid"] = key.kid
	return t.SignedString(key.private)
}

// JWK is one public key (RFC 8037).
type JWK struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Kid string `json:"kid"`
	Use string `json:"use"`
	Alg string `json:"alg"`
}

// JWKSet is what verifies access tokens.
type JWKSet struct {
	Keys []JWK `json:"keys" nullable:"false"`
}

// JWKS gives the keys that are believed now.
func (s *Service) JWKS(ctx context.Context, _ struct{}) (JWKSet, error) {
	var rows []signingRow
	err := s.Store.Read(domain.System(ctx, "signing keys"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("expires_at > ?", s.Now().UTC()).Order("created_at").Find(&rows).Error
	})
	out := JWKSet{Keys: []JWK{}}
	for _, r := range rows {
		out.Keys = append(out.Keys, JWK{"OKP", "Ed25519", r.Public, r.Kid, "sig", "EdDSA"})
	}
	return out, err
}
