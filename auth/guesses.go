package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// Guessing is bounded by where it comes from, never by whom it is aimed at
// alone: a stranger cannot lock anybody out (ASVS V6.1.1). Three counters hold
// failures: of one address from one network, of one network, and of one address
// from everywhere. The last bites only on networks from which the person has
// never signed in; they can always get in from where they usually are, or
// through the link that a forgotten password brings. Addresses without an
// account are counted alike.
const (
	guessWindow  = 15 * time.Minute
	freeGuesses  = 5   // of one address from one network; then the wait doubles
	networkLimit = 100 // of one network in a window
	everywhere   = 20  // of one address in a window, from networks it does not know
	longestWait  = 5 * time.Minute
)

type failedGuess struct {
	Subject  string `gorm:"primaryKey"`
	Failures int64
	Since    time.Time
	LastAt   time.Time
}

func (failedGuess) TableName() string { return "failed_guesses" }

// guess is one attempt: what for, at whom, from where.
type guess struct{ pair, network, target string }

// guessing names an attempt. kind keeps passwords, codes and links apart: the
// right password does not forgive wrong codes.
func (s *Service) guessing(ctx context.Context, kind, target string) guess {
	scope, _ := domain.ScopeOf(ctx)
	net := network(scope.IP)
	return guess{s.mark(kind, target, net), s.mark(kind, "network", net), s.mark(kind, "target", target)}
}

// network is what one customer of a provider has: a /24 or a /56.
func network(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	bits := 56
	if a = a.Unmap(); a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p.String()
}

// mark is a keyed hash: neither addresses nor networks are in the table.
func (s *Service) mark(parts ...string) string {
	h := hmac.New(sha256.New, s.SecretKey)
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// admitGuess refuses an attempt that comes too soon after others that failed.
// known says that the person has signed in from this network before.
func (s *Service) admitGuess(ctx context.Context, g guess, known bool) error {
	var rows []failedGuess
	now := s.Now().UTC()
	err := s.Store.Read(domain.System(ctx, "failed guesses"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("subject IN ? AND since > ?", []string{g.pair, g.network, g.target}, now.Add(-guessWindow)).Find(&rows).Error
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		wait := time.Duration(0)
		switch {
		case r.Subject == g.pair && r.Failures >= freeGuesses:
			wait = min(longestWait, time.Second<<min(r.Failures-freeGuesses, 9))
		case r.Subject == g.network && r.Failures >= networkLimit,
			r.Subject == g.target && r.Failures >= everywhere && !known:
			wait = longestWait
		}
		if left := r.LastAt.Add(wait).Sub(now); left > 0 {
			return domain.E(domain.TooMany, "rate_limited", "Too many attempts failed; try again later, or ask for a new password.").After(left)
		}
	}
	return nil
}

// failed counts a wrong guess.
func (s *Service) failed(ctx context.Context, g guess) error {
	now := s.Now().UTC()
	return s.Store.Tx(domain.System(ctx, "failed guesses"), func(ctx context.Context) error {
		for _, subject := range []string{g.network, g.pair, g.target} {
			_, err := s.Store.Exec(ctx, `INSERT INTO failed_guesses (subject, failures, since, last_at) VALUES (@subject, 1, @now, @now)
				ON CONFLICT (subject) DO UPDATE SET
				failures = CASE WHEN failed_guesses.since > @edge THEN failed_guesses.failures + 1 ELSE 1 END,
				since = CASE WHEN failed_guesses.since > @edge THEN failed_guesses.since ELSE @now END, last_at = @now`,
				map[string]any{"subject": subject, "now": now, "edge": now.Add(-guessWindow)})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// forgive forgets what the rightful person mistyped, once they are in.
func (s *Service) forgive(ctx context.Context, g guess) error {
	return s.Store.For(ctx).Where("subject = ?", g.pair).Delete(&failedGuess{}).Error
}

// Sweep forgets guesses and links whose time is over.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.Now().UTC()
	return s.Store.Tx(domain.System(ctx, "failed guesses"), func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("last_at < ?", now.Add(-time.Hour)).Delete(&failedGuess{}).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Where("expires_at < ?", now).Delete(&ssoFlow{}).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Where("expires_at < ?", now).Delete(&samlAssertion{}).Error; err != nil {
			return err
		}
		return s.Store.For(ctx).Where("expires_at < ?", now.Add(-24*time.Hour)).Delete(&emailLink{}).Error
	})
}

var _ = domain.Chinese(map[string]string{
	"Too many attempts failed; try again later, or ask for a new password.": "失败次数过多；请稍后再试，或申请重设密码。",
})
