package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/chainreactions/chainreactions/domain"
)

// Passwords are hashed with argon2id at the parameters of OWASP's Password
// Storage Cheat Sheet (19 MiB, two passes, one lane). Each hash takes memory
// and a core, so only as many run at once as there are cores; the rest wait,
// and give up with their request.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
)

type passwords struct{ slots chan struct{} }

func newPasswords() passwords { return passwords{make(chan struct{}, runtime.NumCPU())} }

func (p passwords) derive(ctx context.Context, password string, salt []byte, memory, time uint32) ([]byte, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
		return argon2.IDKey([]byte(password), salt, time, memory, 1, 32), nil
	case <-ctx.Done():
		return nil, domain.E(domain.Unavailable, "busy", "Too many sign-ins at once; try again shortly.").After(1e9)
	}
}

// hash gives a PHC string.
func (p passwords) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	key, err := p.derive(ctx, password, salt, argonMemory, argonTime)
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", argonMemory, argonTime, b.EncodeToString(salt), b.EncodeToString(key)), err
}

// nobody is what an unknown address is held against, so that it costs as much
// time as a known one.
const nobody = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func (p passwords) matches(ctx context.Context, phc, password string) (bool, error) {
	if phc == "" {
		phc = nobody
	}
	var memory, time uint32
	parts := strings.Split(phc, "$")
	if len(parts) != 6 {
		return false, fmt.Errorf("auth: a stored hash is not readable")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=1", &memory, &time); err != nil {
		return false, err
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, err
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return false, err
	}
	got, err := p.derive(ctx, password, salt, memory, time)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1, err
}

// acceptable refuses what an attacker tries first: words of lists of leaked
// passwords, names, dates, keyboard runs and repetitions, their common
// disguises, and what is known of the person (NIST SP 800-63B, ASVS V6.2). The
// lists are part of the library: nothing is asked of a network. There are no
// rules of composition.
func acceptable(password string, about ...string) error {
	known := []string{"chainreactions"}
	for _, a := range about {
		known = append(known, strings.FieldsFunc(strings.ToLower(a), func(r rune) bool { return r == '@' || r == '.' || r == ' ' || r == '-' || r == '_' })...)
	}
	short := password
	if len(short) > 64 { // enough to judge, and the judge is quadratic
		short = short[:64]
	}
	if strength(short, known) < 3 {
		return domain.InvalidField("password", "weak_password", "This password is easy to guess; choose a longer phrase.")
	}
	return nil
}

var _ = domain.Chinese(map[string]string{
	"Too many sign-ins at once; try again shortly.":           "同时登录的人过多，请稍后再试。",
	"This password is easy to guess; choose a longer phrase.": "该密码容易被猜到；请选择更长的短语。",
})
