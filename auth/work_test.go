package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
	"github.com/chainreactions/chainreactions/tenants"
)

// work is what a call costs: evaluations of argon2, statements, and jobs.
type work struct {
	mu sync.Mutex
	cost
}

type cost struct {
	hashes     int
	statements []string
	jobs       int
}

func (w *work) note(statement string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statements = append(w.statements, statement)
}

// take gives what was done since the last time.
func (w *work) take() cost {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.cost
	w.cost = cost{}
	return out
}

// Enqueue counts.
func (w *work) Enqueue(context.Context, domain.Job, domain.JobOptions) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs++
	return nil
}

// watch makes every statement of a store, and every evaluation of argon2, known
// to the work. It stands in the place of the slots that hashing waits for.
func (w *work) watch(t *testing.T, s *Service) {
	t.Helper()
	after := func(db *gorm.DB) { w.note(db.Statement.SQL.String()) }
	ctx := domain.System(context.Background(), "test")
	register := func(ctx context.Context) error {
		on := s.Store.For(ctx).Callback()
		return errors.Join(on.Query().After("gorm:query").Register("work:query", after), on.Create().After("gorm:create").Register("work:create", after),
			on.Update().After("gorm:update").Register("work:update", after), on.Delete().After("gorm:delete").Register("work:delete", after),
			on.Row().After("gorm:row").Register("work:row", after), on.Raw().After("gorm:raw").Register("work:raw", after))
	}
	if err := s.Store.Tx(ctx, register); err != nil {
		t.Fatal(err)
	}
	if s.Store.Dialect() == "sqlite" { // reads go through a handle of their own
		if err := s.Store.Read(ctx, register); err != nil {
			t.Fatal(err)
		}
	}
	slots := make(chan struct{})
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case <-slots:
				w.mu.Lock()
				w.hashes++
				w.mu.Unlock()
				slots <- struct{}{} // which gives the slot back
			case <-stop:
				return
			}
		}
	}()
	s.passwords.slots = slots
}

func same(v any) string { return fmt.Sprintf("%+v", v) }

// Whether an address has an account shows neither in an answer nor in what it
// costs: the same number of argon2 evaluations, the same statements in the same
// order, the same number of jobs. Seconds are not compared: they follow from
// these, and a test of them would not hold on a busy machine.
func TestEqualWork(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		w := &work{}
		s, err := New(context.Background(), Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store}), Queue: w, Verify: true, BaseURL: "https://example.test",
			Tenants: tenants.New(tenants.Config{Store: db.Store}), SecretKey: []byte("0123456789abcdef0123456789abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		public := domain.WithScope(context.Background(), domain.Scope{Actor: domain.Actor{Kind: "system", ID: "public"}, IP: "192.0.2.1", UserAgent: "test"})
		hash, err := s.passwords.hash(public, "correct horse battery")
		if err != nil {
			t.Fatal(err)
		}
		for _, email := range []string{"proved@example.org", "unproved@example.org"} {
			verified := s.Now().UTC()
			proof := &verified
			if strings.HasPrefix(email, "un") {
				proof = nil
			}
			if _, err := s.open(s.acting(public, "sign-up", ""), SignupRequest{Email: email, FullName: "A", WorkspaceName: "A"}, hash, proof); err != nil {
				t.Fatal(err)
			}
		}
		err = s.Store.Tx(domain.System(public, "test"), func(ctx context.Context) error {
			_, err := s.newMember(ctx, db.A, "provisioned@example.org", "A", "viewer", "scim")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		w.watch(t, s)
		for name, call := range map[string]func(email string) (any, error){
			"login": func(email string) (any, error) {
				return s.Login(public, LoginRequest{Email: email, Password: "wrong horse battery"})
			},
			"sign-up": func(email string) (any, error) {
				return s.Signup(public, SignupRequest{Email: email, Password: "seventeen purple lanterns", FullName: "B", WorkspaceName: "B", AcceptTerms: true})
			},
			"forgotten password": func(email string) (any, error) { return s.Forgot(public, AddressRequest{email}) },
			"verification again": func(email string) (any, error) { return s.SendVerification(public, AddressRequest{email}) },
		} {
			w.take()
			said, failed := call("nobody@example.org")
			want := w.take()
			if len(want.statements)+want.jobs == 0 {
				t.Errorf("%s: nothing was counted", name)
			}
			if (name == "login" || name == "sign-up") && want.hashes != 1 {
				t.Errorf("%s: %d evaluations of argon2", name, want.hashes)
			}
			for _, email := range []string{"proved@example.org", "unproved@example.org", "provisioned@example.org"} {
				out, err := call(email)
				got := w.take()
				if got.hashes != want.hashes || got.jobs != want.jobs || !slices.Equal(got.statements, want.statements) {
					t.Errorf("%s of %s: %d evaluations, %d jobs, %d statements; of an address without an account %d, %d, %d\n%s\n%s", name, email,
						got.hashes, got.jobs, len(got.statements), want.hashes, want.jobs, len(want.statements), strings.Join(got.statements, "\n"), strings.Join(want.statements, "\n"))
				}
				if same(out) != same(said) || same(err) != same(failed) {
					t.Errorf("%s of %s answers %v %v; of an address without an account %v %v", name, email, out, err, said, failed)
				}
			}
		}
	})
}
