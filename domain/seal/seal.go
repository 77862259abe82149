// Package seal keeps small secrets in the database and in queues readable only
// with SECRET_KEY. Callers need not know the cipher, and a box of one purpose
// cannot open what a box of another has sealed.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

// Box seals and opens. It is safe for concurrent use.
type Box struct{ aead cipher.AEAD }

// New makes the box of a purpose, a word that never changes.
func New(secret []byte, purpose string) Box {
	return WithKey(Key(secret, purpose))
}

// Key derives the 32 bytes of a purpose, for signatures and look-ups.
func Key(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "chainreactions "+purpose, 32)
	if err != nil {
		panic(err) // only for a length that SHA-256 cannot give
	}
	return key
}

// WithKey makes a box of a key that the caller keeps.
func WithKey(key []byte) Box {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // a key of another length is our own mistake
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return Box{aead}
}

// Seal makes text of plain that opens only together with the same name, so that
// a sealed value cannot be moved to another row.
func (b Box) Seal(name string, plain []byte) string {
	nonce := make([]byte, b.aead.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(b.aead.Seal(nonce, nonce, plain, []byte(name)))
}

// Open gives back what was sealed under the name.
func (b Box) Open(name, sealed string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed) // whatever else it could be spelt as is not what was sealed
	if err != nil || len(raw) < b.aead.NonceSize() {
		return nil, errors.New("seal: not a sealed value")
	}
	n := b.aead.NonceSize()
	return b.aead.Open(nil, raw[:n], raw[n:], []byte(name))
}
