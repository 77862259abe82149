package tenants

import (
	"context"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// names is a DNS server with TXT records, which can also keep silent.
type names struct {
	mu     sync.Mutex
	txt    map[string]string
	broken bool
}

func (n *names) set(name, value string) { n.mu.Lock(); n.txt[name+"."] = value; n.mu.Unlock() }

func serveNames(t *testing.T) (*names, *net.Resolver) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	n := &names{txt: map[string]string{}}
	go func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:size]) != nil {
				continue
			}
			n.mu.Lock()
			value, ok := n.txt[m.Questions[0].Name.String()]
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			switch {
			case n.broken:
				m.RCode = dnsmessage.RCodeServerFailure
			case !ok:
				m.RCode = dnsmessage.RCodeNameError
			case m.Questions[0].Type == dnsmessage.TypeTXT:
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
					Body: &dnsmessage.TXTResource{TXT: []string{"something else", value}}},
					{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}, Body: &dnsmessage.TXTResource{TXT: []string{value}}}}
			}
			n.mu.Unlock()
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return n, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

type bench struct {
	*Service
	db    testdb.DB
	now   time.Time
	names *names
}

func newBench(t *testing.T, db testdb.DB) *bench {
	b := &bench{db: db, now: time.Now()}
	n, resolver := serveNames(t)
	b.names = n
	b.Service = New(Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store}), BaseDomain: "example.net", LookupTXT: resolver.LookupTXT,
		Now: func() time.Time { return b.now }})
	return b
}

// A domain leads to a tenant once its TXT record says so, stops after the
// record was missing at three checks, and is nobody else's for thirty days
// after it was given back. A name server that fails proves nothing.
func TestDomains(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db)
		a, other := db.In(db.A), db.In(db.B)
		leads := func(name, want string) {
			t.Helper()
			b.now = b.now.Add(2 * time.Second)
			got, ok, err := b.ResolveHost(context.Background(), name)
			if err != nil || ok != (want != "") || got.ID != want {
				t.Errorf("%s leads to %q, %v; want %q", name, got.ID, err, want)
			}
		}
		d, err := b.AddDomain(a, AddDomainRequest{Name: "Research.Exämple.org"})
		if err != nil || d.Name != "research.xn--exmple-cua.org" || d.Record != "_chainreactions."+d.Name {
			t.Fatalf("%+v %v", d, err)
		}
		theirs, err := b.AddDomain(other, AddDomainRequest{Name: d.Name})
		if err != nil || theirs.Value == d.Value {
			t.Fatalf("%+v %v", theirs, err)
		}
		if _, err := b.VerifyDomain(a, DomainRequest{ID: d.ID}); domain.CodeOf(err) != "record_not_found" {
			t.Error(err)
		}
		leads(d.Name, "")
		b.names.set(d.Record, d.Value)
		if _, err := b.VerifyDomain(other, DomainRequest{ID: theirs.ID}); domain.CodeOf(err) != "record_not_found" {
			t.Errorf("another tenant's record proves it: %v", err)
		}
		if _, err := b.VerifyDomain(other, DomainRequest{ID: d.ID}); domain.KindOf(err) != domain.NotFound {
			t.Error(err)
		}
		if got, err := b.VerifyDomain(a, DomainRequest{ID: d.ID}); err != nil || got.Status != "verified" {
			t.Fatalf("%+v %v", got, err)
		}
		leads(d.Name, db.A)
		leads(strings.ToUpper(d.Name)+".", db.A)
		b.names.set(d.Record, theirs.Value)
		if _, err := b.VerifyDomain(other, DomainRequest{ID: theirs.ID}); domain.CodeOf(err) != "domain_taken" {
			t.Errorf("a verified domain changes hands: %v", err)
		}
		b.names.broken = true
		for range 5 {
			b.now = b.now.Add(24 * time.Hour)
			if err := b.RunCheckDomains(context.Background(), CheckDomains{}); err != nil {
				t.Fatal(err)
			}
		}
		leads(d.Name, db.A)
		b.names.broken = false
		for i := range 3 {
			b.now = b.now.Add(24 * time.Hour)
			if err := b.RunCheckDomains(context.Background(), CheckDomains{}); err != nil {
				t.Fatal(err)
			}
			if i < 2 {
				leads(d.Name, db.A)
			}
		}
		leads(d.Name, "")
		b.names.set(d.Record, d.Value)
		b.now = b.now.Add(24 * time.Hour)
		if err := b.RunCheckDomains(context.Background(), CheckDomains{}); err != nil {
			t.Fatal(err)
		}
		leads(d.Name, db.A)
		if err := b.RemoveDomain(a, DomainRequest{ID: d.ID}); err != nil {
			t.Fatal(err)
		}
		leads(d.Name, "")
		b.names.set(d.Record, theirs.Value)
		b.now = b.now.Add(29 * 24 * time.Hour)
		if _, err := b.VerifyDomain(other, DomainRequest{ID: theirs.ID}); domain.CodeOf(err) != "domain_taken" {
			t.Errorf("within thirty days: %v", err)
		}
		b.now = b.now.Add(2 * 24 * time.Hour)
		if _, err := b.VerifyDomain(other, DomainRequest{ID: theirs.ID}); err != nil {
			t.Error(err)
		}
		leads(d.Name, db.B)
		for _, bad := range []string{"localhost", "127.0.0.1", "co.uk", "team.example.net", "example.net", "a b.org", "[::1]", "-x.org", "com"} {
			if _, err := b.AddDomain(a, AddDomainRequest{Name: bad}); domain.KindOf(err) != domain.Invalid {
				t.Errorf("%q: %v", bad, err)
			}
		}
	})
}

// A slug that was changed still leads to its tenant for ninety days, and is
// given to nobody else in that time, by a change or by a new tenant.
func TestSlugs(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db)
		a, other := db.In(db.A), db.In(db.B)
		change := func(ctx context.Context, slug string) error {
			_, err := b.Update(ctx, UpdateRequest{Slug: &slug})
			return err
		}
		leads := func(slug, want string) {
			t.Helper()
			b.now = b.now.Add(2 * time.Second)
			if got, err := b.Resolve(context.Background(), slug); (err == nil) != (want != "") || got.ID != want {
				t.Errorf("%s leads to %q, %v; want %q", slug, got.ID, err, want)
			}
		}
		for _, s := range []string{"first", "second"} {
			if err := change(a, s); err != nil {
				t.Fatal(err)
			}
		}
		leads("first", db.A)
		leads("second", db.A)
		for slug, code := range map[string]string{"second": "slug_taken", "first": "slug_taken", "admin": "invalid", "No": "invalid", "a--b": "invalid", "-a": "invalid", "é": "invalid"} {
			if err := change(other, slug); domain.CodeOf(err) != code {
				t.Errorf("%s: %v", slug, err)
			}
		}
		err := db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
			made, err := b.Create(ctx, "First", "en")
			if err == nil && made.Slug == "first" {
				t.Error("a new tenant got an old slug")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := change(a, "first"); err != nil { // back to its own
			t.Fatal(err)
		}
		leads("first", db.A)
		b.now = b.now.Add(91 * 24 * time.Hour)
		leads("second", "")
		if err := change(other, "second"); err != nil {
			t.Error(err)
		}
		leads("second", db.B)
	})
}

// Settings start with the defaults and are the tenant's own; a suspension bites
// another process within a second and is on the tenant's record.
func TestSettingsAndSuspension(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db)
		if d, err := b.Show(db.In(db.A), struct{}{}); err != nil || !reflect.DeepEqual(d.Settings, defaultSettings) {
			t.Errorf("%+v %v", d, err)
		}
		if d, err := b.Update(db.In(db.A), UpdateRequest{Settings: &TenantSettings{AuditDays: 90, Residency: "EU"}}); err != nil || d.Settings.AuditDays != 90 {
			t.Errorf("%+v %v", d, err)
		}
		if d, _ := b.Show(db.In(db.B), struct{}{}); !reflect.DeepEqual(d.Settings, defaultSettings) {
			t.Errorf("another tenant's settings changed: %+v", d)
		}
		elsewhere := New(Config{Store: db.Store, Audit: b.Audit, Now: b.Now})
		if got, _ := elsewhere.Resolve(context.Background(), db.A); got.Status != "active" {
			t.Fatal(got)
		}
		if err := b.SetStatus(domain.System(context.Background(), "test"), db.A, "suspended", "unpaid"); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Second)
		if got, _ := elsewhere.Resolve(context.Background(), db.A); got.Status != "suspended" {
			t.Errorf("after a second: %+v", got)
		}
		page, err := b.Audit.List(db.In(db.A), audit.ListRequest{Filter: audit.Filter{Action: "tenant.suspend"}})
		if err != nil || len(page.Data) != 1 {
			t.Errorf("%v %v", page, err)
		}
	})
}
