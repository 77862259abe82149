package auth_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
	"github.com/chainreactions/chainreactions/tenants"
)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time          { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) Advance(d time.Duration) { c.mu.Lock(); c.now = c.now.Add(d); c.mu.Unlock() }

func service(t *testing.T, db testdb.DB) (*auth.Service, *clock, auth.SignupResponse) {
	t.Helper()
	c := &clock{now: time.Now()}
	trail := audit.New(audit.Config{Store: db.Store})
	s, err := auth.New(context.Background(), auth.Config{Store: db.Store, Audit: trail, Now: c.Now,
		Tenants: tenants.New(tenants.Config{Store: db.Store, Now: c.Now}), SecretKey: []byte("0123456789abcdef0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Signup(public(), auth.SignupRequest{Email: "A@Example.org", Password: "correct horse battery", FullName: "A", WorkspaceName: "实验室", AcceptTerms: true})
	if err != nil {
		t.Fatal(err)
	}
	return s, c, out
}

func public() context.Context {
	return domain.WithScope(context.Background(), domain.Scope{Actor: domain.Actor{Kind: "system", ID: "public"}})
}

// Three tabs that refresh at once all stay signed in; an old refresh token that
// comes back later ends the whole session, access tokens included; the person is
// told, and it stands on the record.
func TestRefresh(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, c, p := accounts(t, db, false)
		out, err := s.Signup(public(), signUp("a@example.org"))
		if err != nil {
			t.Fatal(err)
		}
		first := out.RefreshToken
		for range 3 {
			if _, err := s.Refresh(public(), auth.RefreshRequest{RefreshToken: first}); err != nil {
				t.Fatalf("a tab was signed out: %v", err)
			}
			c.Advance(2 * time.Second)
		}
		latest, err := s.Refresh(public(), auth.RefreshRequest{RefreshToken: first})
		if err != nil {
			t.Fatal(err)
		}
		c.Advance(20 * time.Second)
		if _, err := s.Refresh(public(), auth.RefreshRequest{RefreshToken: first}); domain.KindOf(err) != domain.Unauthenticated {
			t.Fatalf("a stolen token: %v", err)
		}
		if _, err := s.Refresh(public(), auth.RefreshRequest{RefreshToken: latest.RefreshToken}); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("the session goes on after a theft: %v", err)
		}
		if _, err := s.Authenticate(public(), auth.Credential{Bearer: latest.AccessToken}); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("an access token goes on after a theft: %v", err)
		}
		p.last(t, "session_theft", "a@example.org")
		seen, err := audit.New(audit.Config{Store: db.Store}).List(db.In(out.Tenant.ID), audit.ListRequest{Filter: audit.Filter{Action: "session.revoke"}})
		if err != nil || len(seen.Data) != 1 || !strings.Contains(string(seen.Data[0].Detail), "refresh token used twice") {
			t.Errorf("on the record: %+v %v", seen.Data, err)
		}
	})
}

// A wrong password and an unknown address answer the same; a taken address and
// a weak password are refused.
func TestSignIn(t *testing.T) {
	db := testdb.SQLite(t)
	s, _, _ := service(t, db)
	_, wrong := s.Login(public(), auth.LoginRequest{Email: "a@example.org", Password: "correct horse batter"})
	_, unknown := s.Login(public(), auth.LoginRequest{Email: "b@example.org", Password: "correct horse battery"})
	if domain.CodeOf(wrong) != "invalid_credentials" || wrong.Error() != unknown.Error() {
		t.Errorf("%v / %v", wrong, unknown)
	}
	if _, err := s.Login(public(), auth.LoginRequest{Email: " a@EXAMPLE.org", Password: "correct horse battery"}); err != nil {
		t.Error(err)
	}
	for email, password := range map[string]string{"a@example.org": "another good phrase", "c@example.org": "password123!", "dddddddddd@x.org": "dddddddddd"} {
		if _, err := s.Signup(public(), auth.SignupRequest{Email: email, Password: password, FullName: "x", WorkspaceName: "x", AcceptTerms: true}); err == nil {
			t.Errorf("%s with %q is accepted", email, password)
		}
	}
}

// A key works with its scopes, from its addresses, until it is revoked, rotated
// or expired; one mistyped letter is no key.
func TestKeys(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, c, out := service(t, db)
		ctx := domain.WithScope(context.Background(), domain.Scope{Tenant: out.Tenant.ID, Actor: domain.Actor{Kind: "user", ID: out.User.ID}})
		made, err := s.CreateKey(ctx, auth.CreateKeyRequest{Name: "k", Scopes: []string{"match:run"}, AllowedIPs: []string{"10.0.0.0/8"}})
		if err != nil {
			t.Fatal(err)
		}
		use := func(key, ip string) error {
			p, err := s.Authenticate(public(), auth.Credential{APIKey: key, IP: ip})
			if err == nil {
				if ok, _ := s.May(ctx, p, "match:run"); !ok {
					t.Error("its scope is not allowed")
				}
				if ok, _ := s.May(ctx, p, "dataset:read"); ok {
					t.Error("another scope is allowed")
				}
			}
			return err
		}
		if err := use(made.Key, "10.1.2.3"); err != nil {
			t.Fatal(err)
		}
		if err := use(made.Key, "11.1.2.3"); domain.KindOf(err) != domain.Forbidden {
			t.Errorf("from elsewhere: %v", err)
		}
		for i := 8; i < len(made.Key); i++ {
			typo := []byte(made.Key)
			if typo[i]++; use(string(typo), "10.1.2.3") == nil {
				t.Fatalf("a typo at %d is accepted", i)
			}
		}
		next, err := s.RotateKey(ctx, auth.RotateKeyRequest{ID: made.ID, GraceSeconds: 60})
		if err != nil || use(made.Key, "10.0.0.1") != nil || use(next.Key, "10.0.0.1") != nil {
			t.Fatalf("during the overlap: %v", err)
		}
		c.Advance(61 * time.Second)
		if use(made.Key, "10.0.0.1") == nil {
			t.Error("the old key goes on after the overlap")
		}
		if err := s.RevokeKey(ctx, auth.KeyRequest{ID: next.ID}); err != nil || use(next.Key, "10.0.0.1") == nil {
			t.Errorf("after revocation: %v", err)
		}
		if _, err := s.CreateKey(ctx, auth.CreateKeyRequest{Name: "k", Scopes: []string{"no:such"}}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("an unknown scope: %v", err)
		}
		other := domain.WithScope(context.Background(), domain.Scope{Tenant: db.A, Actor: domain.Actor{Kind: "user", ID: out.User.ID}})
		if _, err := s.Key(other, auth.KeyRequest{ID: made.ID}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another tenant's key: %v", err)
		}
	})
}
