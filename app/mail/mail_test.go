package mail

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"io"
	"log/slog"
	"math/big"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	gomail "github.com/wneessen/go-mail"

	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// server is an SMTP server on a free port that keeps what it is sent.
type server struct {
	addr    string
	mu      sync.Mutex
	got     []delivery
	arrived chan struct{}
	refuse  error // answered to RCPT
}

type delivery struct {
	from, to, user string
	raw            string
}

type session struct {
	s    *server
	d    delivery
	auth string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "p@ss" {
			return smtp.ErrAuthFailed
		}
		s.auth = user
		return nil
	}), nil
}
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.d = delivery{from: from}
	return nil
}
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	s.d.to = to
	return s.s.refuse
}
func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	s.d.raw, s.d.user = string(raw), s.auth
	s.s.mu.Lock()
	s.s.got = append(s.s.got, s.d)
	s.s.mu.Unlock()
	s.s.arrived <- struct{}{}
	return err
}
func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func serve(t *testing.T, conf *tls.Config, implicit bool) *server {
	t.Helper()
	s := &server{arrived: make(chan struct{}, 100)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{s: s}, nil }))
	srv.Domain, srv.TLSConfig, srv.AllowInsecureAuth = "localhost", conf, conf == nil
	srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if implicit {
		l, srv.TLSConfig = tls.NewListener(l, conf), nil
		srv.AllowInsecureAuth = true // go-smtp does not see that the listener encrypts
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return s
}

// certificate makes a server's TLS and a client's that trusts it.
func certificate(t *testing.T) (srv, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// mailer is a Mailer on a running queue.
func mailer(t *testing.T, db testdb.DB, change func(*Config)) *Mailer {
	t.Helper()
	q := jobs.New(jobs.Config{Store: db.Store, Logger: slog.New(slog.DiscardHandler)})
	c := Config{Store: db.Store, Queue: q, SecretKey: []byte("0123456789abcdef0123456789abcdef"), From: "ChainReactions <no-reply@example.org>", Outbox: filepath.Join(t.TempDir(), "outbox")}
	change(&c)
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	jobs.Handle(q, m.Deliver)
	if err := q.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := q.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Stop(context.Background()) })
	return m
}

func send(m *Mailer, ctx context.Context, in domain.Mail) error {
	return m.Store.Tx(ctx, func(ctx context.Context) error { return m.Send(ctx, in) })
}

var reset = domain.Mail{Template: "reset_password", To: "li@example.com", Locale: "zh-CN",
	Data: map[string]string{"name": "李 <b>雷</b>\r\nBcc: evil@example.com", "url": "https://app.example.org/reset?token=abc&x=1", "minutes": "30"}}

// A mail reaches the server over STARTTLS, over TLS and in the clear, signed in,
// in both forms, with what a field says as text and nothing else.
func TestOnTheWire(t *testing.T) {
	srvTLS, clientTLS := certificate(t)
	for name, c := range map[string]struct {
		conf     *tls.Config
		implicit bool
		url      string
	}{
		"starttls": {srvTLS, false, "smtp://robot:p%40ss@"},
		"tls":      {srvTLS, true, "smtps://robot:p%40ss@"},
		"plain":    {nil, false, "smtp://robot:p%40ss@"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.conf, c.implicit)
			url := c.url + s.addr
			if c.conf == nil {
				url += "?tls=none"
			}
			m := mailer(t, testdb.SQLite(t), func(conf *Config) {
				var err error
				if conf.Server, err = ParseServer(url); err != nil {
					t.Fatal(err)
				}
				conf.TLS = clientTLS
			})
			if err := send(m, domain.System(context.Background(), "test"), reset); err != nil {
				t.Fatal(err)
			}
			<-s.arrived
			got := s.got[0]
			if got.from != "no-reply@example.org" || got.to != "li@example.com" || got.user != "robot" {
				t.Errorf("%+v", got)
			}
			msg, err := netmail.ReadMessage(strings.NewReader(got.raw))
			if err != nil {
				t.Fatal(err)
			}
			if msg.Header.Get("Bcc") != "" || msg.Header.Get("Auto-Submitted") == "" || !strings.Contains(msg.Header.Get("Message-Id"), "@example.org") {
				t.Errorf("headers: %v", msg.Header)
			}
			parsed, err := gomail.EMLToMsgFromString(got.raw)
			if err != nil {
				t.Fatal(err)
			}
			if len(parsed.GetParts()) != 2 || subject(parsed) != "设置新密码" {
				t.Fatalf("%d parts, subject %q", len(parsed.GetParts()), subject(parsed))
			}
			for _, part := range parsed.GetParts() {
				body, _ := part.GetContent()
				if part.GetContentType() == gomail.TypeTextHTML && (strings.Contains(string(body), "<b>雷") || !strings.Contains(string(body), `href="https://app.example.org/reset?token=abc&amp;x=1"`)) {
					t.Errorf("html: %s", body)
				}
			}
		})
	}
}

// A server that offers no STARTTLS gets neither password nor mail: somebody in
// between may have taken the offer away.
func TestNoDowngrade(t *testing.T) {
	s := serve(t, nil, false)
	db := testdb.SQLite(t)
	m := mailer(t, db, func(c *Config) { c.Server, _ = ParseServer("smtp://robot:p%40ss@" + s.addr) })
	plain := m.box.Seal("mail_x", []byte(`{"To":"a@example.com","Content":{"Subject":"s","Text":"t","HTML":"h"}}`))
	if err := m.Deliver(domain.System(context.Background(), "test"), Job{ID: "mail_x", Sealed: plain}); err == nil || len(s.got) != 0 {
		t.Errorf("sent without TLS: %v", err)
	}
}

// What the server refuses for good ends the job; what it refuses for now is
// tried again. Neither error names the address.
func TestRefusals(t *testing.T) {
	s := serve(t, nil, false)
	m := mailer(t, testdb.SQLite(t), func(c *Config) { c.Server, _ = ParseServer("smtp://" + s.addr + "?tls=none") })
	plain := m.box.Seal("mail_x", []byte(`{"To":"canary@example.com","Content":{"Subject":"s","Text":"t","HTML":"h"}}`))
	for _, c := range []struct {
		code int
		kind domain.Kind
	}{{550, domain.Invalid}, {451, domain.Internal}, {421, domain.Internal}} {
		s.refuse = &smtp.SMTPError{Code: c.code, EnhancedCode: smtp.EnhancedCode{c.code / 100, 1, 1}, Message: "canary@example.com says no"}
		err := m.Deliver(domain.System(context.Background(), "test"), Job{ID: "mail_x", Sealed: plain})
		if err == nil || domain.KindOf(err) != c.kind || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d: %v", c.code, err)
		}
	}
}

// A provider's window is never overfilled, by any number of workers, and what
// finds it full is told when to come again.
func TestProviderLimit(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		now := time.Date(2026, 11, 25, 18, 30, 40, 0, time.UTC)
		m := mailer(t, db, func(c *Config) {
			c.Now = func() time.Time { return now }
			c.Server = Server{Host: "127.0.0.1", PerMinute: 3, PerDay: 4}
		})
		sys := domain.System(context.Background(), "test")
		try := func(want int, wait time.Duration) {
			t.Helper()
			var mu sync.Mutex
			var wg sync.WaitGroup
			ok := 0
			for range 8 {
				wg.Go(func() {
					err := m.reserve(sys)
					mu.Lock()
					defer mu.Unlock()
					var full *domain.Error
					switch {
					case err == nil:
						ok++
					case !errors.As(err, &full) || full.Kind != domain.TooMany || full.RetryAfter != wait:
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
			if ok != want {
				t.Errorf("%d passed, want %d", ok, want)
			}
		}
		try(3, 20*time.Second)
		now = now.Add(time.Minute)
		try(1, 5*time.Hour+28*time.Minute+20*time.Second) // the day is full: 4 of 4
		now = now.Add(24 * time.Hour)
		try(3, 20*time.Second)
	})
}

// A mail whose transaction is rolled back is not sent, and one that is sent
// stands nowhere in the database in the clear.
func TestInTheCallersTransaction(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s := serve(t, nil, false)
		m := mailer(t, db, func(c *Config) { c.Server, _ = ParseServer("smtp://" + s.addr + "?tls=none") })
		failed := errors.New("rolled back")
		lost, kept := reset, reset
		lost.To, kept.To = "lost@example.com", "kept@example.com"
		err := db.Tx(db.In(db.A), func(ctx context.Context) error {
			if err := m.Send(ctx, lost); err != nil {
				t.Fatal(err)
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Fatal(err)
		}
		if err := send(m, db.In(db.A), kept); err != nil { // a tenant's transaction, under the second wall
			t.Fatal(err)
		}
		<-s.arrived
		if len(s.got) != 1 || s.got[0].to != "kept@example.com" {
			t.Errorf("%+v", s.got)
		}
		table := "river_job"
		if db.URL != "" {
			table = "river.river_job"
		}
		var leaks int
		if err := db.SQLDB().QueryRow("SELECT count(*) FROM " + table + " WHERE CAST(args AS text) LIKE '%example.com%' OR CAST(args AS text) LIKE '%token=abc%'").Scan(&leaks); err != nil || leaks != 0 {
			t.Errorf("%d jobs show an address or a link: %v", leaks, err)
		}
	})
}

// An address cannot smuggle a header or a second recipient.
func TestBadAddresses(t *testing.T) {
	m := mailer(t, testdb.SQLite(t), func(*Config) {})
	for _, to := range []string{"", "a", "a@b\r\nBcc: c@d", "a@b, c@d", "A <a@b>", "a@b\n", "<a@b>"} {
		in := reset
		in.To = to
		if err := send(m, domain.System(context.Background(), "test"), in); domain.KindOf(err) != domain.Invalid {
			t.Errorf("%q: %v", to, err)
		}
	}
}

// Every template exists in both languages with the same fields, and reads as
// the golden file says.
func TestTemplates(t *testing.T) {
	letters, err := readLetters()
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]string{"url": "https://app.example.org/x?t=1", "minutes": "30", "name": "Li Lei", "email": "li@example.org", "time": "2026-11-25 18:30 UTC",
		"place": "192.0.2.0/24", "device": "Firefox", "change": "+TOTP", "old": "a@example.org", "new": "b@example.org", "inviter": "Han Meimei",
		"tenant": "Lab", "role": "analyst", "expires": "2026-12-02", "company": "Acme", "message": "Hello", "days": "30", "reason": "reason", "endpoint": "https://hooks.example.org", "ticket": "T-1",
		"amount": "USD 49.00", "number": "A-0001", "next": "2026-12-04", "grace": "2026-12-08", "plan": "pro", "date": "2026-12-09", "percent": "90", "meter": "match", "used": "900", "limit": "1000", "severity": "critical", "summary": "redis does not answer", "rule": "dependency_down", "subject": "redis", "status": "firing", "text": "It is done.", "count": "2", "preferences": "https://app.example.org/p", "since": "2026-11-25 18:30 UTC"}
	var names []string
	for name := range letters {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	used := map[string][]string{}
	for _, name := range names {
		lang, template, _ := strings.Cut(name, "/")
		if other := map[string]string{"en": "zh/", "zh": "en/"}[lang] + template; letters[other].subject == nil {
			t.Errorf("%s has no twin", name)
		}
		c, err := letters[name].render(lang, data, "one of\ntwo", "<two>")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.WriteString("=== " + name + "\n" + c.Subject + "\n\n" + c.Text)
		for field := range data {
			less := map[string]string{}
			for k, v := range data {
				if k != field {
					less[k] = v
				}
			}
			if _, err := letters[name].render(lang, less); err != nil {
				used[template] = append(used[template], lang+" "+field)
			}
		}
	}
	for template, fields := range used {
		for _, f := range fields {
			lang, field, _ := strings.Cut(f, " ")
			if other := map[string]string{"en": "zh ", "zh": "en "}[lang] + field; !slices.Contains(fields, other) {
				t.Errorf("%s: only %s has the field %s", template, lang, field)
			}
		}
	}
	golden := filepath.Join("testdata", "letters.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || string(want) != b.String() {
		t.Errorf("the letters changed; read the difference, then run with -update (%v)\n%s", err, b.String())
	}
}

// A value cannot make a link, a paragraph, markup or a line of its own, and a
// link leads to a page.
func TestValuesAreText(t *testing.T) {
	l, err := parseLetter("t", "Subject: {{.x}}\n\n{{.x}}\n\n- {{.item}}\n\n[Go]({{.url}})")
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.render("en", map[string]string{"x": "a\r\nBcc: b@c\n\n[Click](https://evil.example)\u202e<img src=x>", "url": "https://good.example/\"onmouseover=x"}, "one\n\n[Click](https://evil.example)", "<img src=y>")
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(c.Subject, "\r\n\u202e") || strings.Count(c.HTML, "<a ") != 1 || strings.Contains(c.HTML, "<img") || strings.Contains(c.HTML, `"onmouse`) {
		t.Errorf("%+v", c)
	}
	for _, url := range []string{"javascript:alert(1)", "/relative", "", "data:text/html,x"} {
		if _, err := l.render("en", map[string]string{"x": "a", "url": url}); err == nil {
			t.Errorf("%q is taken as a link", url)
		}
	}
}

// SMTP_URL says what it means, and what is not understood is refused.
func TestParseServer(t *testing.T) {
	for raw, want := range map[string]Server{
		"smtp://mail.example.org":                            {Host: "mail.example.org", Port: 587},
		"smtps://u:p%3A@mail.example.org":                    {Host: "mail.example.org", Port: 465, User: "u", Password: "p:", ImplicitTLS: true},
		"smtp://u:p@smtp.gmail.com:587":                      {Host: "smtp.gmail.com", Port: 587, User: "u", Password: "p", PerDay: 500},
		"smtp://smtp.gmail.com?per_day=2000&per_minute=20":   {Host: "smtp.gmail.com", Port: 587, PerDay: 2000, PerMinute: 20},
		"smtp://127.0.0.1:" + strconv.Itoa(25) + "?tls=none": {Host: "127.0.0.1", Port: 25, Plain: true},
	} {
		if got, err := ParseServer(raw); err != nil || got != want {
			t.Errorf("%s: %+v %v", raw, got, err)
		}
	}
	for _, raw := range []string{"http://x", "smtp://", "smtps://x?tls=none", "smtp://x?per_day=0", "smtp://x?tls=maybe", "x"} {
		if got, err := ParseServer(raw); err == nil {
			t.Errorf("%s is accepted: %+v", raw, got)
		}
	}
}
