package webhook

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/chainreactions/chainreactions/app/egress"
	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

const place = "http://93.184.215.14/hook" // permitted; the guard dials the test's server instead

// bench is Hooks on a real database, queue and guard, and the receiver.
type bench struct {
	*Hooks
	t      *testing.T
	db     testdb.DB
	mu     sync.Mutex
	now    time.Time
	answer func(w http.ResponseWriter, r *http.Request)
	got    []received
}

type received struct {
	header http.Header
	body   string
	path   string
}

func newBench(t *testing.T, db testdb.DB) *bench {
	t.Helper()
	b := &bench{t: t, db: db, now: time.Now()}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.got = append(b.got, received{r.Header, string(raw), r.Method + " " + r.URL.Path})
		answer := b.answer
		b.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	guard := egress.New(egress.Config{DialOverride: strings.TrimPrefix(srv.URL, "http://")})
	q := jobs.New(jobs.Config{Store: db.Store, Logger: slog.New(slog.DiscardHandler)})
	if err := q.Open(context.Background()); err != nil { // never started: the test makes the attempts
		t.Fatal(err)
	}
	trail := audit.New(audit.Config{Store: db.Store})
	b.Hooks = New(Config{Store: db.Store, Audit: trail, Queue: q, SecretKey: []byte("0123456789abcdef0123456789abcdef"), Client: guard.Client(), Check: guard.Check, Plain: true,
		Now: func() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.now }})
	trail.Tell = b.Tell
	return b
}

func (b *bench) make(events ...string) EndpointWithSecret {
	b.t.Helper()
	e, err := b.Create(b.db.In(b.db.A), CreateRequest{URL: place, Events: events})
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

func (b *bench) happen(tenant, action string) {
	b.t.Helper()
	err := b.db.Tx(b.db.In(tenant), func(ctx context.Context) error {
		return b.Audit.Record(ctx, audit.Entry{Action: action, Target: "t", Detail: map[string]any{"n": 1}})
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) log(e Endpoint) []Delivery {
	b.t.Helper()
	page, err := b.Deliveries(b.db.In(b.db.A), DeliveriesRequest{ID: e.ID})
	if err != nil {
		b.t.Fatal(err)
	}
	return page.Data
}

// attempt makes one attempt at every pending delivery.
func (b *bench) attempt(e Endpoint) {
	b.t.Helper()
	for _, d := range b.log(e) {
		if d.Status == "pending" {
			if err := b.Deliver(domain.System(context.Background(), "test"), Job{Tenant: d.TenantID, Delivery: d.ID}); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// A subscribed event reaches the endpoint, signed so that the reference library
// accepts it; others, and other tenants', do not.
func TestSigned(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db)
		e := b.make("dataset.*", "member.join")
		b.happen(db.A, "dataset.create")
		b.happen(db.A, "member.join")
		b.happen(db.A, "member.leave")
		b.happen(db.B, "dataset.create")
		b.attempt(e.Endpoint)
		if len(b.got) != 2 {
			t.Fatalf("%d messages", len(b.got))
		}
		verifier, err := standard.NewWebhook(e.Secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range b.got {
			if err := verifier.Verify([]byte(m.body), m.header); err != nil {
				t.Error(err)
			}
			if verifier.Verify([]byte(m.body+" "), m.header) == nil {
				t.Error("a changed body verifies")
			}
			var msg struct {
				Type string
				Data struct{ ID, Action string }
			}
			if err := json.Unmarshal([]byte(m.body), &msg); err != nil || msg.Data.ID != m.header.Get("webhook-id") || msg.Type != msg.Data.Action {
				t.Errorf("%s %v", m.body, err)
			}
		}
		var plain int
		if err := db.SQLDB().QueryRow("SELECT count(*) FROM webhook_endpoints WHERE sealed LIKE '%whsec%' OR sealed LIKE $1", "%"+e.Secret[6:]+"%").Scan(&plain); err != nil || plain != 0 {
			t.Errorf("the secret is readable: %v", err)
		}
	})
}

// An event whose transaction is rolled back is not told.
func TestRolledBack(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db)
	e := b.make("*")
	before := len(b.log(e.Endpoint))
	_ = db.Tx(db.In(db.A), func(ctx context.Context) error {
		if err := b.Audit.Record(ctx, audit.Entry{Action: "x.y"}); err != nil {
			t.Fatal(err)
		}
		return io.EOF
	})
	if n := len(b.log(e.Endpoint)); n != before {
		t.Errorf("%d deliveries of what did not happen", n-before)
	}
}

// A failing endpoint is tried eight times, later each time, with one webhook-id;
// then the delivery has failed, and a replay is a new one of the same id. After
// five days of failure, or a 410, the endpoint is disabled and that is recorded.
func TestRetries(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db)
		e := b.make("dataset.create")
		b.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
		b.happen(db.A, "dataset.create")
		for i := range 8 {
			b.attempt(e.Endpoint)
			d := b.log(e.Endpoint)[0]
			if len(d.Attempts) != i+1 || d.Attempts[i].Status != 500 {
				t.Fatalf("attempt %d: %+v", i, d)
			}
			if i < 7 && (d.Status != "pending" || d.NextAt.Sub(b.now).Round(time.Second) != retryAfter[i]) {
				t.Errorf("attempt %d: %s, next after %v", i, d.Status, d.NextAt.Sub(b.now))
			}
			if i < 7 {
				b.now = b.now.Add(retryAfter[i])
			}
		}
		d := b.log(e.Endpoint)[0]
		if d.Status != "failed" || d.EndedAt == nil {
			t.Fatalf("%+v", d)
		}
		b.answer = nil
		again, err := b.Replay(db.In(db.A), IDRequest{ID: d.ID})
		if err != nil || again.MessageID != d.MessageID || again.ID == d.ID {
			t.Fatalf("%+v %v", again, err)
		}
		b.attempt(e.Endpoint)
		for _, m := range b.got {
			if m.header.Get("webhook-id") != d.MessageID {
				t.Errorf("another webhook-id: %s", m.header.Get("webhook-id"))
			}
		}
		if now, err := b.Get(db.In(db.A), IDRequest{ID: e.ID}); err != nil || now.FailingSince != nil || now.Status != "active" {
			t.Errorf("after a success: %+v %v", now, err)
		}
		b.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
		b.happen(db.A, "dataset.create")
		b.attempt(e.Endpoint)
		b.now = b.now.Add(disableAfter + time.Hour)
		b.attempt(e.Endpoint)
		if now, _ := b.Get(db.In(db.A), IDRequest{ID: e.ID}); now.Status != "disabled" || now.DisabledReason != "failing" {
			t.Errorf("after five days: %+v", now)
		}
		active := "active"
		if _, err := b.Update(db.In(db.A), UpdateRequest{ID: e.ID, Status: &active}); err != nil {
			t.Fatal(err)
		}
		b.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }
		b.happen(db.A, "dataset.create")
		b.attempt(e.Endpoint)
		if now, _ := b.Get(db.In(db.A), IDRequest{ID: e.ID}); now.DisabledReason != "gone" {
			t.Errorf("after 410: %+v", now)
		}
		before := len(b.log(e.Endpoint))
		b.happen(db.A, "dataset.create")
		if len(b.log(e.Endpoint)) != before {
			t.Error("a disabled endpoint is told")
		}
		page, err := b.Audit.List(db.In(db.A), audit.ListRequest{Filter: audit.Filter{Action: "webhook.disable"}})
		if err != nil || len(page.Data) != 2 {
			t.Errorf("%v %v", page.Data, err)
		}
	})
}

// While a secret is rotated both sign; after a day the new one alone.
func TestRotation(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db)
	e := b.make("x.y")
	fresh, err := b.Rotate(db.In(db.A), IDRequest{ID: e.ID})
	if err != nil || fresh.Secret == e.Secret {
		t.Fatal(err)
	}
	verifies := func(secret string) bool {
		v, err := standard.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		last := b.got[len(b.got)-1]
		return v.VerifyIgnoringTimestamp([]byte(last.body), last.header) == nil
	}
	b.happen(db.A, "x.y")
	b.attempt(e.Endpoint)
	if !verifies(e.Secret) || !verifies(fresh.Secret) {
		t.Error("within the grace one of the secrets does not verify")
	}
	b.now = b.now.Add(25 * time.Hour)
	b.happen(db.A, "x.y")
	b.attempt(e.Endpoint)
	if verifies(e.Secret) || !verifies(fresh.Secret) {
		t.Error("after the grace")
	}
}

// No address of ours is reached: not named, not by a redirect. A redirect that
// would drop the body is a failure, one that keeps it is followed.
func TestGuarded(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db)
	for _, u := range []string{"http://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "https://10.0.0.1/", "http://[::1]/", "http://localhost/", "ftp://93.184.215.14/",
		"https://user:pass@93.184.215.14/", "http://93.184.215.14:5432/", "http://2130706433/", "https://93.184.215.14/#x", "http://metadata.google.internal/"} {
		if _, err := b.Create(db.In(db.A), CreateRequest{URL: u, Events: []string{"*"}}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("%s: %v", u, err)
		}
	}
	e := b.make("x.y")
	last := func() Attempt {
		b.happen(db.A, "x.y")
		b.attempt(e.Endpoint)
		d := b.log(e.Endpoint)[0]
		if _, err := b.db.SQLDB().Exec("UPDATE webhook_deliveries SET status = 'failed'"); err != nil {
			t.Fatal(err)
		}
		return d.Attempts[len(d.Attempts)-1]
	}
	redirect := func(code int, to string) {
		b.got = nil
		b.answer = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hook" {
				http.Redirect(w, r, to, code)
			}
		}
	}
	redirect(307, "http://169.254.169.254/latest/")
	if a := last(); a.Status != 0 || a.Error != "the address may not be reached from here" || len(b.got) != 1 {
		t.Errorf("a redirect to the metadata service: %+v, %d requests", a, len(b.got))
	}
	redirect(302, "http://93.184.215.14/moved")
	if a := last(); a.Status != 302 || len(b.got) != 1 {
		t.Errorf("302: %+v", a)
	}
	redirect(308, "http://93.184.215.14/moved")
	if a := last(); a.Status != 200 || len(b.got) != 2 || b.got[1].path != "POST /moved" || b.got[1].body != b.got[0].body {
		t.Errorf("308: %+v %+v", a, b.got)
	}
	b.Plain = false
	if _, err := b.Create(db.In(db.A), CreateRequest{URL: place, Events: []string{"*"}}); domain.KindOf(err) != domain.Invalid {
		t.Errorf("http in production: %v", err)
	}
	for _, event := range []string{"", "x", "* ", "dataset*", ".*x"} {
		if _, err := b.Create(db.In(db.A), CreateRequest{URL: place, Events: []string{event}}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("event %q: %v", event, err)
		}
	}
}

// Another tenant's endpoints and deliveries are not there, and a job that names
// another tenant delivers nothing.
func TestTenants(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db)
		e := b.make("x.y")
		b.happen(db.A, "x.y")
		d := b.log(e.Endpoint)[0]
		other := db.In(db.B)
		for name, err := range map[string]error{
			"get":        func() error { _, err := b.Get(other, IDRequest{ID: e.ID}); return err }(),
			"update":     func() error { _, err := b.Update(other, UpdateRequest{ID: e.ID}); return err }(),
			"delete":     b.Delete(other, IDRequest{ID: e.ID}),
			"rotate":     func() error { _, err := b.Rotate(other, IDRequest{ID: e.ID}); return err }(),
			"test":       func() error { _, err := b.Test(other, IDRequest{ID: e.ID}); return err }(),
			"deliveries": func() error { _, err := b.Deliveries(other, DeliveriesRequest{ID: e.ID}); return err }(),
			"replay":     func() error { _, err := b.Replay(other, IDRequest{ID: d.ID}); return err }(),
			"job":        b.Deliver(domain.System(context.Background(), "test"), Job{Tenant: db.B, Delivery: d.ID}),
		} {
			if domain.KindOf(err) != domain.NotFound {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(b.got) != 0 {
			t.Errorf("%d messages", len(b.got))
		}
		if err := b.Delete(db.In(db.A), IDRequest{ID: e.ID}); err != nil {
			t.Error(err)
		}
		if n, err := b.Retire(context.Background(), time.Now()); err != nil || n != 0 {
			t.Errorf("%d %v", n, err)
		}
	})
}
