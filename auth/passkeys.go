package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Passkeys (WebAuthn). One is a second factor by itself: the authenticator has
// verified its person, so a sign-in with it asks for nothing else. The challenge
// of a ceremony is kept here, for five minutes and one answer.
const (
	ceremonyLife = 5 * time.Minute
	maxPasskeys  = 10
)

// Passkey is one that a person has, without its key.
type Passkey struct {
	ID           string     `json:"id" gorm:"primaryKey"`
	UserID       string     `json:"-"`
	CredentialID string     `json:"-"`
	Name         string     `json:"name"`
	Data         string     `json:"-"`
	CreatedAt    time.Time  `json:"created_at"`
	LastUsedAt   *time.Time `json:"last_used_at" nullable:"true"`
}

type passkeyCeremony struct {
	Hash      string `gorm:"primaryKey"`
	UserID    string
	Data      string
	ExpiresAt time.Time
}

// holder is a person as the library wants to see one.
type holder struct {
	user User
	keys []webauthn.Credential
}

func (h holder) WebAuthnID() []byte                         { return []byte(h.user.ID) }
func (h holder) WebAuthnName() string                       { return h.user.Email }
func (h holder) WebAuthnDisplayName() string                { return h.user.FullName }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

// relying is the site that the passkeys are for: the portal's.
func (s *Service) relying() (*webauthn.WebAuthn, error) {
	u, err := url.Parse(s.BaseURL)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("auth: passkeys need the address of the portal")
	}
	return webauthn.New(&webauthn.Config{RPID: u.Hostname(), RPDisplayName: "ChainReactions", RPOrigins: []string{u.Scheme + "://" + u.Host}})
}

// holderOf reads a person and their passkeys, in the transaction of ctx.
func (s *Service) holderOf(ctx context.Context, id string) (h holder, err error) {
	if err := s.Store.For(ctx).Where("id = ?", id).Take(&h.user).Error; err != nil {
		return h, err
	}
	var rows []Passkey
	if err := s.Store.For(ctx).Where("user_id = ?", id).Order("id").Find(&rows).Error; err != nil {
		return h, err
	}
	for _, r := range rows {
		var c webauthn.Credential
		if err := json.Unmarshal([]byte(r.Data), &c); err != nil {
			return h, err
		}
		h.keys = append(h.keys, c)
	}
	return h, nil
}

// CeremonyResponse is what navigator.credentials is called with.
type CeremonyResponse struct {
	Ceremony string          `json:"ceremony" doc:"to be shown with the answer"`
	Options  json.RawMessage `json:"options" doc:"for navigator.credentials.create or .get"`
}

// begin keeps a ceremony, in the transaction of ctx.
func (s *Service) begin(ctx context.Context, user string, options any, session *webauthn.SessionData) (out CeremonyResponse, err error) {
	now := s.Now().UTC()
	if err := s.Store.For(ctx).Where("expires_at < ?", now).Delete(&passkeyCeremony{}).Error; err != nil {
		return out, err
	}
	out.Ceremony = newSecret()
	if out.Options, err = json.Marshal(options); err != nil {
		return out, err
	}
	data, err := json.Marshal(session)
	if err != nil {
		return out, err
	}
	return out, s.Store.For(ctx).Create(&passkeyCeremony{hashOf(out.Ceremony), user, string(data), now.Add(ceremonyLife)}).Error
}

// take ends a ceremony of the user, once.
func (s *Service) take(ctx context.Context, ceremony, user string) (session webauthn.SessionData, err error) {
	var row passkeyCeremony
	if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("hash = ? AND user_id = ? AND expires_at > ?", hashOf(ceremony), user, s.Now().UTC()).Limit(1).Find(&row).Error; err != nil {
		return session, err
	}
	if row.Hash == "" {
		return session, badPasskey(errors.New("no such ceremony"))
	}
	if err := s.Store.For(ctx).Where("hash = ?", row.Hash).Delete(&passkeyCeremony{}).Error; err != nil {
		return session, err
	}
	return session, json.Unmarshal([]byte(row.Data), &session)
}

func badPasskey(cause error) error {
	return domain.E(domain.Unauthenticated, "invalid_credentials", "The passkey's answer is not usable.").Because(cause)
}

// StartPasskey begins to register one.
func (s *Service) StartPasskey(ctx context.Context, _ struct{}) (out CeremonyResponse, err error) {
	scope, _ := domain.ScopeOf(ctx)
	w, err := s.relying()
	if err != nil {
		return out, err
	}
	err = s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		h, err := s.holderOf(ctx, scope.Actor.ID)
		if err != nil {
			return err
		}
		if len(h.keys) >= maxPasskeys {
			return domain.E(domain.Conflict, "conflict", "There are %d passkeys already; remove one first.", maxPasskeys)
		}
		options, session, err := w.BeginRegistration(h, webauthn.WithResidentKeyRequirement(protocol.ResidentKeyRequirementRequired),
			webauthn.WithExclusions(webauthn.Credentials(h.keys).CredentialDescriptors()),
			webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{UserVerification: protocol.VerificationRequired, ResidentKey: protocol.ResidentKeyRequirementRequired}))
		if err != nil {
			return err
		}
		out, err = s.begin(ctx, scope.Actor.ID, options, session)
		return err
	})
	return out, err
}

// FinishPasskeyRequest is the authenticator's answer.
type FinishPasskeyRequest struct {
	Ceremony string          `json:"ceremony" maxLength:"100"`
	Name     string          `json:"name" minLength:"1" maxLength:"100"`
	Response json.RawMessage `json:"response" doc:"what navigator.credentials.create gave, as JSON"`
}

// FinishPasskey keeps the new passkey.
func (s *Service) FinishPasskey(ctx context.Context, in FinishPasskeyRequest) (row Passkey, err error) {
	scope, _ := domain.ScopeOf(ctx)
	w, err := s.relying()
	if err != nil {
		return row, err
	}
	err = s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		session, err := s.take(ctx, in.Ceremony, scope.Actor.ID)
		if err != nil {
			return err
		}
		h, err := s.holderOf(ctx, scope.Actor.ID)
		if err != nil {
			return err
		}
		answer, err := protocol.ParseCredentialCreationResponseBody(bytes.NewReader(in.Response))
		if err != nil {
			return badPasskey(err)
		}
		key, err := w.CreateCredential(h, session, answer)
		if err != nil {
			return badPasskey(err)
		}
		data, err := json.Marshal(key)
		if err != nil {
			return err
		}
		row = Passkey{ID: domain.NewID("psk"), UserID: h.user.ID, CredentialID: base64.RawURLEncoding.EncodeToString(key.ID), Name: in.Name, Data: string(data), CreatedAt: s.Now().UTC()}
		if err := s.Store.For(ctx).Create(&row).Error; err != nil {
			return err
		}
		if err := s.change(ctx, h.user, "user.passkey_add", map[string]any{}); err != nil {
			return err
		}
		if err := s.provedNow(ctx, "passkey"); err != nil { // the authenticator has verified its person
			return err
		}
		return s.factorChanged(ctx, h.user, "passkey added")
	})
	return row, err
}

// Passkeys lists the person's own.
func (s *Service) Passkeys(ctx context.Context, in domain.PageRequest) (page domain.Page[Passkey], err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		page, err = store.Oldest(s.Store.For(ctx).Where("user_id = ?", scope.Actor.ID), in, func(r Passkey) string { return r.ID })
		return err
	})
	return page, err
}

// PasskeyRequest names one.
type PasskeyRequest struct {
	ID string `path:"id"`
}

// RemovePasskey takes one of the person's own away.
func (s *Service) RemovePasskey(ctx context.Context, in PasskeyRequest) error {
	scope, _ := domain.ScopeOf(ctx)
	return s.Store.Tx(domain.System(ctx, "a person's own factor"), func(ctx context.Context) error {
		gone := s.Store.For(ctx).Where("id = ? AND user_id = ?", in.ID, scope.Actor.ID).Delete(&Passkey{})
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		h, err := s.holderOf(ctx, scope.Actor.ID)
		if err != nil {
			return err
		}
		if len(h.keys) == 0 {
			if err := s.restsOnLess(ctx, h.user.ID, "passkey"); err != nil {
				return err
			}
		}
		if err := s.change(ctx, h.user, "user.passkey_remove", map[string]any{}); err != nil {
			return err
		}
		return s.factorChanged(ctx, h.user, "passkey removed")
	})
}

// StartPasskeyLogin begins a sign-in. It names nobody: the authenticator knows
// whose passkey it holds.
func (s *Service) StartPasskeyLogin(ctx context.Context, _ struct{}) (out CeremonyResponse, err error) {
	w, err := s.relying()
	if err != nil {
		return out, err
	}
	options, session, err := w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return out, err
	}
	err = s.Store.Tx(domain.System(ctx, "sign-in"), func(ctx context.Context) error {
		out, err = s.begin(ctx, "", options, session)
		return err
	})
	return out, err
}

// PasskeyLoginRequest is the authenticator's answer.
type PasskeyLoginRequest struct {
	Ceremony string          `json:"ceremony" maxLength:"100"`
	Response json.RawMessage `json:"response" doc:"what navigator.credentials.get gave, as JSON"`
}

// FinishPasskeyLogin signs the holder in.
func (s *Service) FinishPasskeyLogin(ctx context.Context, in PasskeyLoginRequest) (out LoginResponse, err error) {
	w, err := s.relying()
	if err != nil {
		return out, err
	}
	var user User
	err = s.Store.Tx(domain.System(ctx, "sign-in"), func(ctx context.Context) error {
		session, err := s.take(ctx, in.Ceremony, "")
		if err != nil {
			return err
		}
		answer, err := protocol.ParseCredentialRequestResponseBody(bytes.NewReader(in.Response))
		if err != nil {
			return badPasskey(err)
		}
		_, key, err := w.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
			h, err := s.holderOf(ctx, string(handle))
			for i := range h.keys {
				// A manager that moves a passkey to the cloud must not lock its
				// person out: what the library remembers of it may change.
				if bytes.Equal(h.keys[i].ID, answer.RawID) {
					h.keys[i].Flags.BackupEligible = answer.Response.AuthenticatorData.Flags.HasBackupEligible()
				}
			}
			user = h.user
			return h, err
		}, session, answer)
		if err != nil {
			return badPasskey(err)
		}
		data, err := json.Marshal(key)
		if err != nil {
			return err
		}
		return s.Store.For(ctx).Model(&Passkey{}).Where("credential_id = ?", base64.RawURLEncoding.EncodeToString(key.ID)).
			Updates(map[string]any{"data": string(data), "last_used_at": s.Now().UTC()}).Error
	})
	if err != nil {
		return out, err
	}
	return s.enter(ctx, user, opening{factor: "passkey"}, nil)
}

var _ = domain.Chinese(map[string]string{
	"The passkey's answer is not usable.":              "通行密钥的应答不可用。",
	"There are %d passkeys already; remove one first.": "已有 %d 个通行密钥；请先移除一个。",
})
