package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/chainreactions/chainreactions/domain"
)

// Second factors. A code of an authenticator app (RFC 6238) counts once: the
// step that it belongs to is kept, and only a later one is taken. Recovery
// codes are ten, of 80 bits, kept as hashes, each good for one sign-in.
const (
	totpStep  = 30 * time.Second
	proofLife = 10 * time.Minute // how long a factor that was shown opens sensitive actions
)

type recoveryCode struct {
	Hash   string `gorm:"primaryKey"`
	UserID string
	UsedAt *time.Time
}

// TOTPResponse is a secret for an authenticator app, shown once.
type TOTPResponse struct {
	Secret     string `json:"secret"`
	OTPAuthURL string `json:"otpauth_url"`
}

// StartTOTP gives a secret; it counts once a code of it was confirmed.
func (s *Service) StartTOTP(ctx context.Context, _ struct{}) (out TOTPResponse, err error) {
	user, err := s.person(ctx)
	if err != nil {
		return out, err
	}
	if user.TOTPConfirmedAt != nil {
		return out, domain.E(domain.Conflict, "conflict", "There is an authenticator app already; remove it first.")
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "ChainReactions", AccountName: user.Email, SecretSize: 20})
	if err != nil {
		return out, err
	}
	err = s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		return s.change(ctx, user, "user.totp_start", map[string]any{"totp_secret": s.box.Seal("totp "+user.ID, []byte(key.Secret())), "totp_last_step": 0})
	})
	return TOTPResponse{key.Secret(), key.URL()}, err
}

// CodeRequest shows a code of the authenticator app.
type CodeRequest struct {
	Code string `json:"code" minLength:"6" maxLength:"6" pattern:"^[0-9]{6}$"`
}

// RecoveryCodes are shown once.
type RecoveryCodes struct {
	Codes []string `json:"recovery_codes" nullable:"false"`
}

// ConfirmTOTP turns the factor on and gives the recovery codes.
func (s *Service) ConfirmTOTP(ctx context.Context, in CodeRequest) (out RecoveryCodes, err error) {
	user, err := s.person(ctx)
	if err != nil {
		return out, err
	}
	if user.TOTPSecret == "" || user.TOTPConfirmedAt != nil {
		return out, domain.E(domain.Conflict, "conflict", "There is nothing to confirm.")
	}
	if err := s.checkCode(ctx, user, in.Code); err != nil {
		return out, err
	}
	err = s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("user_id = ?", user.ID).Delete(&recoveryCode{}).Error; err != nil {
			return err
		}
		for range 10 {
			var b [15]byte // 120 bits: with 112 a fast hash is enough (ASVS V6.5.2)
			_, _ = rand.Read(b[:])
			code := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
			out.Codes = append(out.Codes, code[:6]+"-"+code[6:12]+"-"+code[12:18]+"-"+code[18:])
			if err := s.Store.For(ctx).Create(&recoveryCode{Hash: recoveryHash(user.ID, code), UserID: user.ID}).Error; err != nil {
				return err
			}
		}
		if err := s.change(ctx, user, "user.totp_enable", map[string]any{"totp_confirmed_at": s.Now().UTC()}); err != nil {
			return err
		}
		if err := s.provedNow(ctx, "otp"); err != nil {
			return err
		}
		return s.factorChanged(ctx, user, "authenticator app added")
	})
	return out, err
}

// RemoveTOTP turns the factor off.
func (s *Service) RemoveTOTP(ctx context.Context, _ struct{}) error {
	user, err := s.person(ctx)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("user_id = ?", user.ID).Delete(&recoveryCode{}).Error; err != nil {
			return err
		}
		if err := s.change(ctx, user, "user.totp_disable", map[string]any{"totp_secret": "", "totp_confirmed_at": nil, "totp_last_step": 0}); err != nil {
			return err
		}
		if err := s.restsOnLess(ctx, user.ID, "otp", "recovery"); err != nil {
			return err
		}
		return s.factorChanged(ctx, user, "authenticator app removed")
	})
}

// restsOnLess takes from the person's sessions a second factor that they no
// longer have.
func (s *Service) restsOnLess(ctx context.Context, user string, factors ...string) error {
	s.Store.AfterCommit(ctx, func() { s.forgetPerson(user) })
	return s.Store.For(ctx).Model(&Session{}).Where("user_id = ? AND factors IN ?", user, factors).Update("factors", "pwd").Error
}

func recoveryHash(user, code string) string {
	return hashOf(user + strings.ReplaceAll(strings.ToLower(strings.TrimSpace(code)), "-", ""))
}

// secondFactor checks a code or a recovery code, and says which it was. Wrong
// ones are counted by person and network, apart from passwords.
func (s *Service) secondFactor(ctx context.Context, user User, code, recovery string) (factor string, err error) {
	if code != "" {
		return "otp", s.checkCode(ctx, user, code)
	}
	g := s.guessing(ctx, "code", user.ID)
	if err := s.admitGuess(ctx, g, true); err != nil {
		return "", err
	}
	used := int64(0)
	err = s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		res := s.Store.For(ctx).Model(&recoveryCode{}).Where("hash = ? AND user_id = ? AND used_at IS NULL", recoveryHash(user.ID, recovery), user.ID).Update("used_at", s.Now().UTC())
		if used = res.RowsAffected; res.Error != nil || used == 0 {
			return res.Error
		}
		if err := s.change(ctx, user, "user.use_recovery_code", map[string]any{}); err != nil {
			return err
		}
		return s.factorChanged(ctx, user, "a recovery code was used")
	})
	if err != nil {
		return "", err
	}
	if used == 0 {
		return "", s.wrongCode(ctx, g)
	}
	return "recovery", nil
}

// checkCode takes the code of a step, once. One step before and after the
// present one are good too: clocks differ.
func (s *Service) checkCode(ctx context.Context, user User, code string) error {
	g := s.guessing(ctx, "code", user.ID)
	if err := s.admitGuess(ctx, g, true); err != nil {
		return err
	}
	secret, err := s.box.Open("totp "+user.ID, user.TOTPSecret)
	if err != nil {
		return err
	}
	now := s.Now()
	for _, shift := range []time.Duration{0, -totpStep, totpStep} {
		want, err := totp.GenerateCodeCustom(string(secret), now.Add(shift), totp.ValidateOpts{Period: uint(totpStep.Seconds()), Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) != 1 {
			continue
		}
		step, taken := now.Add(shift).Unix()/int64(totpStep.Seconds()), int64(0)
		err = s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
			res := s.Store.For(ctx).Model(&User{}).Where("id = ? AND totp_last_step < ?", user.ID, step).Update("totp_last_step", step)
			taken = res.RowsAffected
			return res.Error
		})
		if err != nil {
			return err
		}
		if taken == 1 {
			return nil
		}
	}
	return s.wrongCode(ctx, g)
}

func (s *Service) wrongCode(ctx context.Context, g guess) error {
	if err := s.failed(ctx, g); err != nil {
		return err
	}
	return domain.E(domain.Unauthenticated, "invalid_credentials", "The code is wrong, or was used.")
}

// StepUpRequest shows a factor again.
type StepUpRequest struct {
	Password     string `json:"password,omitempty" maxLength:"128"`
	TOTP         string `json:"totp,omitempty" maxLength:"6"`
	RecoveryCode string `json:"recovery_code,omitempty" maxLength:"40"`
}

// StepUp opens sensitive actions for ten minutes. Who has a second factor shows
// it; the password alone is not enough then.
func (s *Service) StepUp(ctx context.Context, in StepUpRequest) error {
	user, err := s.person(ctx)
	if err != nil {
		return err
	}
	factor := "pwd"
	if user.TOTPConfirmedAt != nil {
		if in.TOTP == "" && in.RecoveryCode == "" {
			return mfaRequired()
		}
		factor, err = s.secondFactor(ctx, user, in.TOTP, in.RecoveryCode)
	} else {
		_, err = s.proved(ctx, in.Password)
	}
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "step up"), func(ctx context.Context) error { return s.provedNow(ctx, factor) })
}

func mfaRequired() error {
	return domain.E(domain.Unauthenticated, "mfa_required", "This needs a code of the authenticator app, or a recovery code.")
}

// provedNow notes that the caller has just shown a factor.
func (s *Service) provedNow(ctx context.Context, factor string) error {
	scope, _ := domain.ScopeOf(ctx)
	s.Store.AfterCommit(ctx, func() { s.forget(scope.Actor.Via) })
	change := map[string]any{"proved_at": s.Now().UTC()}
	if factor != "pwd" { // a password does not undo what was shown before it
		change["factors"] = factor
	}
	return s.Store.For(ctx).Model(&Session{}).Where("id = ?", scope.Actor.Via).Updates(change).Error
}

// Proved reports whether the principal has shown a factor in the last minutes.
func (s *Service) Proved(p Principal) bool {
	return p.Kind == "user" && s.Now().Sub(p.ProvedAt) < proofLife
}

var _ = domain.Chinese(map[string]string{
	"There is an authenticator app already; remove it first.":         "已有身份验证器应用；请先移除。",
	"There is nothing to confirm.":                                    "没有待确认的内容。",
	"The code is wrong, or was used.":                                 "验证码错误或已使用。",
	"This needs a code of the authenticator app, or a recovery code.": "需要身份验证器应用的验证码或恢复代码。",
})
