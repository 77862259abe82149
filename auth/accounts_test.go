package auth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	"github.com/pquerna/otp/totp"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
	"github.com/chainreactions/chainreactions/tenants"
)

// post is where the mails of a test arrive, and the queue that its jobs wait in.
type post struct {
	mu    sync.Mutex
	mails []domain.Mail
	jobs  []auth.LetterJob
}

func (p *post) send(_ context.Context, m domain.Mail) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mails = append(p.mails, m)
	return nil
}

// Enqueue keeps the job as the queue would: as JSON.
func (p *post) Enqueue(_ context.Context, job domain.Job, _ domain.JobOptions) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	raw, err := json.Marshal(job)
	if err != nil {
		return err
	}
	var l auth.LetterJob
	if err := json.Unmarshal(raw, &l); err != nil {
		return err
	}
	p.jobs = append(p.jobs, l)
	return nil
}

// work runs what waits.
func (p *post) work(t *testing.T, s *auth.Service) {
	t.Helper()
	for len(p.jobs) > 0 {
		job := p.jobs[0]
		p.jobs = p.jobs[1:]
		if err := s.RunLetter(public(), job); err != nil {
			t.Fatal(err)
		}
	}
}

// last gives the newest mail of a template to an address, and the secret of its link.
func (p *post) last(t *testing.T, template, to string) (domain.Mail, string) {
	t.Helper()
	for i := len(p.mails) - 1; i >= 0; i-- {
		if m := p.mails[i]; m.Template == template && m.To == to {
			_, secret, _ := strings.Cut(m.Data["url"], "#")
			return m, secret
		}
	}
	t.Fatalf("no %s to %s among %v", template, to, p.mails)
	return domain.Mail{}, ""
}

func accounts(t *testing.T, db testdb.DB, verify bool) (*auth.Service, *clock, *post) {
	t.Helper()
	c, p := &clock{now: time.Now()}, &post{}
	trail := audit.New(audit.Config{Store: db.Store, Now: c.Now})
	s, err := auth.New(context.Background(), auth.Config{Store: db.Store, Audit: trail, Now: c.Now, BaseURL: "https://example.test", Mail: p.send, Queue: p, Verify: verify,
		Tenants: tenants.New(tenants.Config{Store: db.Store, Now: c.Now}), SecretKey: []byte("0123456789abcdef0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	return s, c, p
}

const phrase = "correct horse battery"

func from(ip, agent string) context.Context {
	return domain.WithScope(context.Background(), domain.Scope{Actor: domain.Actor{Kind: "system", ID: "public"}, IP: ip, UserAgent: agent})
}

func login(s *auth.Service, email, password string) (auth.LoginResponse, error) {
	return s.Login(from("192.0.2.1", "test"), auth.LoginRequest{Email: email, Password: password})
}

// as is the scope of a person who has signed in.
func as(t *testing.T, s *auth.Service, access string) context.Context {
	t.Helper()
	p, err := s.Authenticate(public(), auth.Credential{Bearer: access})
	if err != nil {
		t.Fatal(err)
	}
	return domain.WithScope(context.Background(), domain.Scope{Tenant: p.TenantID, Actor: domain.Actor{Kind: "user", ID: p.ID, Via: p.SessionID}, IP: "192.0.2.1", UserAgent: "test"})
}

func signUp(email string) auth.SignupRequest {
	return auth.SignupRequest{Email: email, Password: phrase, FullName: "Ada", WorkspaceName: "Lab", AcceptTerms: true}
}

// Where addresses are proved, a sign-up answers the same for a new address and
// for a taken one, and only the mail tells; the account works once its link was
// followed, which works once.
func TestVerification(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, c, p := accounts(t, db, true)
		first, err := s.Signup(public(), signUp("a@example.org"))
		if err != nil || first.Status() != 202 || first.AccessToken != "" {
			t.Fatalf("%+v %v", first, err)
		}
		if strings.Contains(p.jobs[0].Sealed, "example") {
			t.Error("the job names the address")
		}
		p.work(t, s)
		again, err := s.Signup(public(), signUp("a@example.org"))
		if err != nil || again != first {
			t.Errorf("a taken address answers otherwise: %+v %v", again, err)
		}
		p.work(t, s)
		p.last(t, "account_exists", "a@example.org")
		if _, err := login(s, "a@example.org", phrase); domain.CodeOf(err) != "email_unverified" {
			t.Errorf("before the proof: %v", err)
		}
		_, old := p.last(t, "verify_email", "a@example.org")
		if _, err := s.SendVerification(public(), auth.AddressRequest{Email: "A@example.org"}); err != nil {
			t.Fatal(err)
		}
		p.work(t, s)
		_, token := p.last(t, "verify_email", "a@example.org")
		if err := s.VerifyEmail(public(), auth.LinkRequest{Token: old}); err == nil {
			t.Error("a link that was sent anew still works")
		}
		if err := s.VerifyEmail(public(), auth.LinkRequest{Token: token}); err != nil {
			t.Fatal(err)
		}
		if err := s.VerifyEmail(public(), auth.LinkRequest{Token: token}); err == nil {
			t.Error("a link works twice")
		}
		if _, err := login(s, "a@example.org", phrase); err != nil {
			t.Error(err)
		}
		if _, err := s.Signup(public(), signUp("late@example.org")); err != nil {
			t.Fatal(err)
		}
		p.work(t, s)
		_, token = p.last(t, "verify_email", "late@example.org")
		c.Advance(61 * time.Minute)
		if err := s.VerifyEmail(public(), auth.LinkRequest{Token: token}); err == nil {
			t.Error("a link works after its hour")
		}
	})
}

// A forgotten password is chosen anew with a link: once, every session ends,
// the person is told, and a second factor is asked for as before. An address
// without an account gets no mail, and the same answer.
func TestForgottenPassword(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, _, p := accounts(t, db, false)
		out, err := s.Signup(public(), signUp("a@example.org"))
		if err != nil {
			t.Fatal(err)
		}
		codes, secret := enable(t, s, as(t, s, out.AccessToken))
		_ = codes
		known, err1 := s.Forgot(public(), auth.AddressRequest{Email: "a@example.org"})
		unknown, err2 := s.Forgot(public(), auth.AddressRequest{Email: "nobody@example.org"})
		if err1 != nil || err2 != nil || known != unknown || len(p.jobs) != 2 || len(p.jobs[0].Sealed) == 0 {
			t.Errorf("%v %v %v %v", known, unknown, err1, err2)
		}
		p.work(t, s)
		for _, m := range p.mails {
			if m.To == "nobody@example.org" {
				t.Error("somebody without an account gets mail")
			}
		}
		_, token := p.last(t, "reset_password", "a@example.org")
		if err := s.Reset(public(), auth.ResetRequest{Token: token, Password: "password123"}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("a weak one: %v", err)
		}
		if err := s.Reset(public(), auth.ResetRequest{Token: token, Password: "seventeen purple lanterns"}); err != nil {
			t.Fatalf("after a refusal the link is used up: %v", err)
		}
		if err := s.Reset(public(), auth.ResetRequest{Token: token, Password: "eighteen purple lanterns"}); err == nil {
			t.Error("a link works twice")
		}
		if _, err := s.Authenticate(public(), auth.Credential{Bearer: out.AccessToken}); err == nil {
			t.Error("a session goes on")
		}
		p.last(t, "password_changed", "a@example.org")
		if _, err := login(s, "a@example.org", phrase); domain.CodeOf(err) != "invalid_credentials" {
			t.Errorf("the old password: %v", err)
		}
		if _, err := login(s, "a@example.org", "seventeen purple lanterns"); domain.CodeOf(err) != "mfa_required" {
			t.Errorf("the reset goes past the second factor: %v", err)
		}
		_ = secret
	})
}

// A changed password ends the other sessions, and asks for the old one; the
// address moves when both the old and the new have confirmed.
func TestChangeOfPasswordAndAddress(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, _, p := accounts(t, db, false)
		out, err := s.Signup(public(), signUp("a@example.org"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Signup(public(), signUp("taken@example.org")); err != nil {
			t.Fatal(err)
		}
		other, err := login(s, "a@example.org", phrase)
		if err != nil {
			t.Fatal(err)
		}
		me := as(t, s, out.AccessToken)
		if err := s.ChangePassword(me, auth.ChangePasswordRequest{CurrentPassword: "wrong", NewPassword: "seventeen purple lanterns"}); domain.CodeOf(err) != "invalid_credentials" {
			t.Errorf("without the old one: %v", err)
		}
		if err := s.ChangePassword(me, auth.ChangePasswordRequest{CurrentPassword: phrase, NewPassword: "Ada example lab"}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("of the person's own name: %v", err)
		}
		if err := s.ChangePassword(me, auth.ChangePasswordRequest{CurrentPassword: phrase, NewPassword: "seventeen purple lanterns"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Authenticate(public(), auth.Credential{Bearer: other.AccessToken}); err == nil {
			t.Error("another session goes on")
		}
		if _, err := s.Authenticate(public(), auth.Credential{Bearer: out.AccessToken}); err != nil {
			t.Errorf("this session ended: %v", err)
		}
		p.last(t, "password_changed", "a@example.org")

		ask := func(to string) auth.SentResponse {
			sent, err := s.ChangeEmail(me, auth.ChangeEmailRequest{NewEmail: to, Password: "seventeen purple lanterns"})
			if err != nil {
				t.Fatal(err)
			}
			return sent
		}
		if ask("taken@example.org") != ask("new@example.org") {
			t.Error("the answer tells that the address is taken")
		}
		p.last(t, "account_exists", "taken@example.org")
		_, old := p.last(t, "email_change", "a@example.org")
		_, fresh := p.last(t, "email_change", "new@example.org")
		one, err := s.ConfirmEmail(public(), auth.LinkRequest{Token: fresh})
		if err != nil || one.State != "waiting" {
			t.Fatalf("%v %v", one, err)
		}
		if _, err := s.ConfirmEmail(public(), auth.LinkRequest{Token: fresh}); err == nil {
			t.Error("one address confirms for both")
		}
		both, err := s.ConfirmEmail(public(), auth.LinkRequest{Token: old})
		if err != nil || both.State != "changed" {
			t.Fatalf("%v %v", both, err)
		}
		p.last(t, "factor_changed", "a@example.org")
		if _, err := login(s, "new@example.org", "seventeen purple lanterns"); err != nil {
			t.Error(err)
		}
		if _, err := login(s, "a@example.org", "seventeen purple lanterns"); err == nil {
			t.Error("the old address signs in")
		}
	})
}

// enable turns the authenticator app on and gives the recovery codes and the secret.
func enable(t *testing.T, s *auth.Service, me context.Context) (codes []string, secret string) {
	t.Helper()
	start, err := s.StartTOTP(me, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(start.OTPAuthURL, "otpauth://totp/") {
		t.Errorf("%q", start.OTPAuthURL)
	}
	code, _ := totp.GenerateCode(start.Secret, s.Now())
	out, err := s.ConfirmTOTP(me, auth.CodeRequest{Code: code})
	if err != nil || len(out.Codes) != 10 {
		t.Fatalf("%v %v", out, err)
	}
	return out.Codes, start.Secret
}

// The code of a step counts once, the one that set the app up included, on both
// sides of a race; a recovery code signs in once; each is asked for at every
// sign-in and step-up, and the person is told of changes.
func TestSecondFactor(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, c, p := accounts(t, db, false)
		out, err := s.Signup(public(), signUp("a@example.org"))
		if err != nil {
			t.Fatal(err)
		}
		me := as(t, s, out.AccessToken)
		codes, secret := enable(t, s, me)
		p.last(t, "factor_changed", "a@example.org")
		with := func(in auth.LoginRequest) error {
			in.Email, in.Password = "a@example.org", phrase
			_, err := s.Login(from("192.0.2.1", "test"), in)
			return err
		}
		now := func() string { code, _ := totp.GenerateCode(secret, s.Now()); return code }
		if err := with(auth.LoginRequest{}); domain.CodeOf(err) != "mfa_required" {
			t.Errorf("without a code: %v", err)
		}
		if err := with(auth.LoginRequest{TOTP: now()}); err == nil {
			t.Error("the code that set it up signs in")
		}
		c.Advance(time.Minute)
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if with(auth.LoginRequest{TOTP: now()}) == nil {
					mu.Lock()
					won++
					mu.Unlock()
				}
			}()
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("one code signed in %d times", won)
		}
		c.Advance(20 * time.Minute)
		if err := with(auth.LoginRequest{RecoveryCode: strings.ToUpper(codes[0])}); err != nil {
			t.Error(err)
		}
		if err := with(auth.LoginRequest{RecoveryCode: codes[0]}); err == nil {
			t.Error("a recovery code works twice")
		}
		// Step-up: the password is not enough, and ten minutes are over.
		principal := func() auth.Principal {
			p, err := s.Authenticate(public(), auth.Credential{Bearer: refresh(t, s, &out)})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if s.Proved(principal()) {
			t.Error("a factor that was shown long ago still counts")
		}
		if err := s.StepUp(me, auth.StepUpRequest{Password: phrase}); domain.CodeOf(err) != "mfa_required" {
			t.Errorf("with the password alone: %v", err)
		}
		if err := s.StepUp(me, auth.StepUpRequest{TOTP: now()}); err != nil || !s.Proved(principal()) {
			t.Errorf("with a code: %v", err)
		}
		c.Advance(time.Hour)
		won = 0
		code := now()
		for range 50 {
			wg.Go(func() {
				if s.StepUp(me, auth.StepUpRequest{TOTP: code}) == nil {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		if wg.Wait(); won != 1 {
			t.Errorf("one code proved %d calls of fifty", won)
		}
		if err := s.RemoveTOTP(me, struct{}{}); err != nil {
			t.Fatal(err)
		}
		if err := with(auth.LoginRequest{}); err != nil {
			t.Errorf("after it was removed: %v", err)
		}
	})
}

// The code of an app is good in its thirty seconds and, since clocks differ, in
// those before and after; neither earlier nor later.
func TestCodesExpire(t *testing.T) {
	s, c, _ := accounts(t, testdb.SQLite(t), false)
	out, err := s.Signup(public(), signUp("a@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	me := as(t, s, out.AccessToken)
	_, secret := enable(t, s, me)
	for _, try := range []struct {
		made time.Duration // after now
		good bool
	}{{-60 * time.Second, false}, {-30 * time.Second, true}, {0, true}, {30 * time.Second, true}, {60 * time.Second, false}} {
		c.Advance(time.Hour)
		code, err := totp.GenerateCode(secret, s.Now().Add(try.made))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.StepUp(me, auth.StepUpRequest{TOTP: code}); (err == nil) != try.good {
			t.Errorf("a code of %v: %v", try.made, err)
		}
	}
}

func refresh(t *testing.T, s *auth.Service, out *auth.SignupResponse) string {
	t.Helper()
	next, err := s.Refresh(public(), auth.RefreshRequest{RefreshToken: out.RefreshToken})
	if err != nil {
		t.Fatal(err)
	}
	out.RefreshToken = next.RefreshToken
	return next.AccessToken
}

// Guesses are slowed by where they come from; the person who is guessed at gets
// in from where they usually are, whatever strangers do. Unknown addresses are
// slowed alike. The right password does not forgive wrong codes.
func TestStuffing(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, c, _ := accounts(t, db, false)
		if _, err := s.Signup(from("192.0.2.1", "test"), signUp("victim@example.org")); err != nil {
			t.Fatal(err)
		}
		try := func(ip, email, password string) error {
			_, err := s.Login(from(ip, "bot"), auth.LoginRequest{Email: email, Password: password})
			return err
		}
		for _, email := range []string{"victim@example.org", "nobody@example.org"} {
			for i := range 5 {
				if err := try("198.51.100.7", email, "wrong"); domain.CodeOf(err) != "invalid_credentials" {
					t.Fatalf("guess %d at %s: %v", i, email, err)
				}
			}
			if err := try("198.51.100.99", email, phrase); domain.CodeOf(err) != "rate_limited" {
				t.Errorf("the sixth guess at %s, from the same network: %v", email, err)
			}
		}
		// Twenty networks guess five times each at the victim.
		for n := range 20 {
			for range 5 {
				_ = try(fmt.Sprintf("203.0.%d.1", n), "victim@example.org", "wrong")
			}
		}
		if err := try("100.64.0.1", "victim@example.org", "wrong"); domain.CodeOf(err) != "rate_limited" {
			t.Errorf("a network that the account does not know: %v", err)
		}
		if err := try("192.0.2.200", "victim@example.org", phrase); err != nil {
			t.Errorf("the victim is locked out at home: %v", err)
		}
		c.Advance(16 * time.Minute)
		if err := try("100.64.0.1", "victim@example.org", phrase); err != nil {
			t.Errorf("after the window: %v", err)
		}
	})
}

// A sign-in from a client and a network that the account has not seen is told
// by mail, and the first one and the usual ones are not.
func TestNewDevice(t *testing.T) {
	s, _, p := accounts(t, testdb.SQLite(t), false)
	if _, err := s.Signup(from("192.0.2.1", "Firefox"), signUp("a@example.org")); err != nil {
		t.Fatal(err)
	}
	in := auth.LoginRequest{Email: "a@example.org", Password: phrase}
	for _, where := range []context.Context{from("192.0.2.9", "Chrome"), from("198.51.100.1", "Firefox")} {
		if _, err := s.Login(where, in); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.mails) != 0 {
		t.Errorf("the usual places are told of: %v", p.mails)
	}
	if _, err := s.Login(from("203.0.113.5", "curl"), in); err != nil {
		t.Fatal(err)
	}
	if m, _ := p.last(t, "new_device", "a@example.org"); m.Data["device"] != "curl" || m.Data["place"] != "203.0.113.0/24" {
		t.Errorf("%v", m)
	}
}

// A platform administrator is made by an operator, chooses a password with a
// link, and is one only in a session that has shown a second factor.
func TestPlatformAdministrator(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, c, _ := accounts(t, db, false)
		link, err := s.CreateAdmin(public(), "Root@example.org", "operator:test")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := s.CreateAdmin(public(), "root@example.org", "operator:test"); err != nil || again != "" {
			t.Errorf("a second time: %q %v", again, err)
		}
		_, token, _ := strings.Cut(link, "#")
		if err := s.Reset(public(), auth.ResetRequest{Token: token, Password: phrase}); err != nil {
			t.Fatal(err)
		}
		out, err := login(s, "root@example.org", phrase)
		if err != nil {
			t.Fatal(err)
		}
		is := func(access string) bool {
			p, err := s.Authenticate(public(), auth.Credential{Bearer: access})
			if err != nil {
				t.Fatal(err)
			}
			return p.Admin
		}
		if is(out.AccessToken) {
			t.Error("an administrator by password alone")
		}
		_, secret := enable(t, s, as(t, s, out.AccessToken))
		c.Advance(time.Minute)
		code, _ := totp.GenerateCode(secret, s.Now())
		full, err := s.Login(from("192.0.2.1", "test"), auth.LoginRequest{Email: "root@example.org", Password: phrase, TOTP: code})
		if err != nil || !is(full.AccessToken) {
			t.Errorf("with both factors: %v", err)
		}
	})
}

// A passkey is registered by a signed-in person and signs them in without a
// password, past the authenticator app; an answer counts once, for its own
// ceremony and site; one that was taken away signs nobody in.
func TestPasskeys(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, c, p := accounts(t, db, false)
		out, err := s.Signup(public(), signUp("a@example.org"))
		if err != nil {
			t.Fatal(err)
		}
		me := as(t, s, out.AccessToken)
		enable(t, s, me)
		site := virtualwebauthn.RelyingParty{Name: "ChainReactions", ID: "example.test", Origin: "https://example.test"}
		device := virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: []byte(out.User.ID)})
		key := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)

		start, err := s.StartPasskey(me, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		asked, err := virtualwebauthn.ParseAttestationOptions(string(start.Options))
		if err != nil {
			t.Fatal(err)
		}
		made := json.RawMessage(virtualwebauthn.CreateAttestationResponse(site, device, key, *asked))
		elsewhere := site
		elsewhere.Origin = "https://evil.test"
		again, err := s.StartPasskey(me, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.FinishPasskey(me, auth.FinishPasskeyRequest{Ceremony: again.Ceremony, Name: "k", Response: made}); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("an answer to another ceremony: %v", err)
		}
		kept, err := s.FinishPasskey(me, auth.FinishPasskeyRequest{Ceremony: start.Ceremony, Name: "laptop", Response: made})
		if err != nil {
			t.Fatal(err)
		}
		p.last(t, "factor_changed", "a@example.org")
		if _, err := s.FinishPasskey(me, auth.FinishPasskeyRequest{Ceremony: start.Ceremony, Name: "laptop", Response: made}); err == nil {
			t.Error("a ceremony ends twice")
		}
		device.AddCredential(key)
		signIn := func(at virtualwebauthn.RelyingParty) (func() (auth.LoginResponse, error), error) {
			start, err := s.StartPasskeyLogin(public(), struct{}{})
			if err != nil {
				return nil, err
			}
			asked, err := virtualwebauthn.ParseAssertionOptions(string(start.Options))
			if err != nil {
				return nil, err
			}
			answer := json.RawMessage(virtualwebauthn.CreateAssertionResponse(at, device, key, *asked))
			return func() (auth.LoginResponse, error) {
				return s.FinishPasskeyLogin(from("192.0.2.1", "test"), auth.PasskeyLoginRequest{Ceremony: start.Ceremony, Response: answer})
			}, nil
		}
		finish, err := signIn(site)
		if err != nil {
			t.Fatal(err)
		}
		if in, err := finish(); err != nil || in.User.ID != out.User.ID {
			t.Errorf("%v", err)
		}
		if _, err := finish(); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("an answer signs in twice: %v", err)
		}
		if finish, err = signIn(elsewhere); err != nil {
			t.Fatal(err)
		}
		if _, err := finish(); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("an answer for another site: %v", err)
		}
		if finish, err = signIn(site); err != nil {
			t.Fatal(err)
		}
		c.Advance(6 * time.Minute)
		if _, err := finish(); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("an answer after the ceremony's time: %v", err)
		}
		if err := s.RemovePasskey(me, auth.PasskeyRequest{ID: kept.ID}); err != nil {
			t.Fatal(err)
		}
		if finish, err = signIn(site); err != nil {
			t.Fatal(err)
		}
		if _, err := finish(); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("one that was taken away: %v", err)
		}
	})
}
