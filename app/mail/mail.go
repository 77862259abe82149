// Package mail sends mail. A message is rendered when it is asked for and kept,
// sealed, as a job in the caller's transaction; a worker hands it to an SMTP
// server, or, where none is configured, writes it as a file into the outbox.
//
//	Send ──(job, sealed)──▶ Deliver ──▶ window free? ──▶ SMTP or outbox
//	                           ▲             │ no: later
//	                           └─────────────┘
//
// A provider counts what it is sent: the windows in the database are shared by
// all processes, and a message that finds them full waits its turn. A message
// may be delivered twice when a process dies in between; its Message-ID is the
// same both times. Nothing that is logged names an address.
package mail

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	netmail "net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	smtp "github.com/wneessen/go-mail"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/seal"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Config of a Mailer. Server is the zero value for the outbox; TLS and Now may
// be nil.
type Config struct {
	Store     *store.Store
	Queue     domain.Queue
	SecretKey []byte
	Server    Server
	From      string // an address, with a name or without
	Contact   string // who gets demo requests; "" is From
	Outbox    string // the folder, where Server is zero
	TLS       *tls.Config
	Now       func() time.Time
}

// Server is an SMTP server, as SMTP_URL names it.
type Server struct {
	Host              string
	Port              int
	User, Password    string
	ImplicitTLS       bool // smtps: TLS from the first byte
	Plain             bool // tls=none: no TLS at all
	PerMinute, PerDay int  // 0 is no limit
}

// known limits of providers that refuse what is over them. Gmail: 500 messages
// a day for a personal account (support.google.com/mail/answer/22839); an
// organisation says per_day=2000 in SMTP_URL.
var known = map[string]Server{
	"smtp.gmail.com": {PerDay: 500},
}

// ParseServer reads SMTP_URL: smtp://user:password@host:587 (STARTTLS, always),
// smtps://…:465 (TLS), and ?tls=none, per_minute= and per_day=.
func ParseServer(raw string) (s Server, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return s, errors.New("want smtp://user:password@host:587 or smtps://user:password@host:465")
	}
	s = known[u.Hostname()]
	s.Host, s.ImplicitTLS, s.Port = u.Hostname(), u.Scheme == "smtps", 587
	if s.ImplicitTLS {
		s.Port = 465
	}
	if p := u.Port(); p != "" {
		if s.Port, err = strconv.Atoi(p); err != nil {
			return s, errors.New("the port is not a number")
		}
	}
	s.User = u.User.Username()
	s.Password, _ = u.User.Password()
	for key, values := range u.Query() {
		n, bad := strconv.Atoi(values[0])
		switch {
		case key == "tls" && values[0] == "none" && !s.ImplicitTLS:
			s.Plain = true
		case key == "per_minute" && bad == nil && n > 0:
			s.PerMinute = n
		case key == "per_day" && bad == nil && n > 0:
			s.PerDay = n
		default:
			return s, fmt.Errorf("%s=%s is not understood", key, values[0])
		}
	}
	return s, nil
}

// Mailer sends mail.
type Mailer struct {
	Config
	from    *netmail.Address
	letters map[string]letter
	box     seal.Box
}

// New reads the templates and checks the addresses.
func New(c Config) (*Mailer, error) {
	if c.Store == nil || c.Queue == nil || len(c.SecretKey) == 0 {
		return nil, errors.New("mail: needs a store, a queue and a secret key")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("mail: the sender %q is not an address", c.From)
	}
	if c.Contact == "" {
		c.Contact = from.Address
	}
	m := &Mailer{Config: c, from: from, box: seal.New(c.SecretKey, "mail")}
	if m.letters, err = readLetters(); err != nil {
		return nil, err
	}
	if c.Server.Host == "" {
		err = os.MkdirAll(c.Outbox, 0o700)
	}
	return m, err
}

// job is a message on its way. The payload is sealed: it holds an address, and
// often a link that opens an account.
type job struct {
	ID     string `json:"id"`
	Sealed string `json:"sealed"`
}

func (job) Kind() string { return "mail" }

// Outward keeps it waiting in quarantine.
func (job) Outward() {}

// Job is what the queue must hand to Deliver.
type Job = job

type message struct {
	To, ReplyTo string
	Content     content
	Date        time.Time
}

// render makes the message of a template, under an id of its own.
func (m *Mailer) render(in domain.Mail) (id string, out message, err error) {
	lang := "en"
	if strings.HasPrefix(in.Locale, "zh") {
		lang = "zh"
	}
	l, ok := m.letters[lang+"/"+in.Template]
	if !ok {
		return "", out, fmt.Errorf("mail: there is no template %q", in.Template)
	}
	for _, addr := range []string{in.To, in.ReplyTo} {
		if parsed, err := netmail.ParseAddress(addr); addr != "" && (err != nil || parsed.Address != addr) || in.To == "" {
			return "", out, domain.InvalidField("email", "invalid_email", "This is not an e-mail address.")
		}
	}
	c, err := l.render(lang, in.Data, in.Items...)
	if err != nil {
		return "", out, fmt.Errorf("mail: %s: %w", in.Template, err)
	}
	return domain.NewID("mail"), message{To: in.To, ReplyTo: in.ReplyTo, Content: c, Date: m.Now().UTC()}, nil
}

// Send implements domain.SendMail.
func (m *Mailer) Send(ctx context.Context, in domain.Mail) error {
	id, msg, err := m.render(in)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	return m.Queue.Enqueue(ctx, job{ID: id, Sealed: m.box.Seal(id, plain)}, domain.JobOptions{Priority: 1})
}

// IsTo reports whether the arguments of a job are a mail to the address.
func (m *Mailer) IsTo(address string) func(args json.RawMessage) bool {
	return func(args json.RawMessage) bool {
		var j job
		if json.Unmarshal(args, &j) != nil {
			return false
		}
		plain, err := m.box.Open(j.ID, j.Sealed)
		var in message
		return err == nil && json.Unmarshal(plain, &in) == nil && strings.EqualFold(in.To, address)
	}
}

const sendTimeout = time.Minute

// Deliver works one job. What the server will never take ends it; everything
// else is tried again.
func (m *Mailer) Deliver(ctx context.Context, j Job) error {
	plain, err := m.box.Open(j.ID, j.Sealed)
	if err != nil { // SECRET_KEY was changed: nobody can read it any more
		return domain.E(domain.Invalid, "mail_unreadable", "The mail cannot be read.").Because(err)
	}
	var in message
	if err := json.Unmarshal(plain, &in); err != nil {
		return err
	}
	msg, err := m.compose(j.ID, in)
	if err != nil {
		return domain.E(domain.Invalid, "mail_refused", "The mail was refused for good.").Because(errors.New("an address is not one"))
	}
	if m.Server.Host != "" {
		if err := m.reserve(ctx); err != nil {
			return err
		}
	}
	return m.hand(ctx, j.ID, msg)
}

// hand gives a message to the server, or to the outbox.
func (m *Mailer) hand(ctx context.Context, id string, msg *smtp.Msg) error {
	if m.Server.Host == "" {
		return m.keep(id, msg)
	}
	client, err := m.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err = client.DialAndSendWithContext(ctx, msg)
	var refused *smtp.SendError
	if errors.As(err, &refused) { // its own words name the addresses
		code := fmt.Errorf("smtp %d %s", refused.ErrorCode(), refused.EnhancedStatusCode())
		if refused.ErrorCode() >= 500 && !refused.IsTemp() {
			return domain.E(domain.Invalid, "mail_refused", "The mail was refused for good.").Because(code)
		}
		return code
	}
	return err
}

func (m *Mailer) compose(id string, in message) (*smtp.Msg, error) {
	msg := smtp.NewMsg()
	msg.FromMailAddress(m.from)
	if err := msg.To(in.To); err != nil {
		return nil, err
	}
	if in.ReplyTo != "" {
		if err := msg.ReplyTo(in.ReplyTo); err != nil {
			return nil, err
		}
	}
	_, host, _ := strings.Cut(m.from.Address, "@")
	msg.SetMessageIDWithValue(id + "@" + host)
	msg.SetDateWithValue(in.Date)
	msg.Subject(in.Content.Subject)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // no holiday replies (RFC 3834)
	msg.SetBodyString(smtp.TypeTextPlain, in.Content.Text)
	msg.AddAlternativeString(smtp.TypeTextHTML, in.Content.HTML)
	return msg, nil
}

func (m *Mailer) client() (*smtp.Client, error) {
	s := m.Server
	options := []smtp.Option{smtp.WithPort(s.Port), smtp.WithTimeout(20 * time.Second)}
	switch {
	case s.ImplicitTLS:
		options = append(options, smtp.WithSSL())
	case s.Plain:
		options = append(options, smtp.WithTLSPolicy(smtp.NoTLS))
	default: // a server that offers no STARTTLS gets nothing: an attacker in between could strip it
		options = append(options, smtp.WithTLSPolicy(smtp.TLSMandatory))
	}
	if m.TLS != nil {
		options = append(options, smtp.WithTLSConfig(m.TLS))
	}
	if s.User != "" {
		auth := smtp.SMTPAuthAutoDiscover
		if s.Plain {
			auth = smtp.SMTPAuthPlainNoEnc
		}
		options = append(options, smtp.WithSMTPAuth(auth), smtp.WithUsername(s.User), smtp.WithPassword(s.Password))
	}
	return smtp.NewClient(s.Host, options...)
}

// reserve takes one place in the windows of the provider, or says when to come
// again.
func (m *Mailer) reserve(ctx context.Context) error {
	now := m.Now().UTC()
	minute, day := now.Truncate(time.Minute), now.Truncate(24*time.Hour)
	windows := []struct {
		name  string
		limit int
		ends  time.Time
	}{
		{"minute " + minute.Format("2006-01-02T15:04"), m.Server.PerMinute, minute.Add(time.Minute)},
		{"day " + day.Format(time.DateOnly), m.Server.PerDay, day.Add(24 * time.Hour)},
	}
	return m.Store.Tx(domain.System(ctx, "mail limits"), func(ctx context.Context) error {
		for _, w := range windows {
			if w.limit == 0 {
				continue
			}
			n, err := m.Store.Exec(ctx, `INSERT INTO mail_windows (name, sent, ends_at) VALUES (@name, 1, @ends)
				ON CONFLICT (name) DO UPDATE SET sent = mail_windows.sent + 1 WHERE mail_windows.sent < @limit`,
				map[string]any{"name": w.name, "ends": w.ends, "limit": w.limit})
			if err != nil {
				return err
			}
			if n == 0 { // and what was taken of the window before is given back
				return domain.E(domain.TooMany, "mail_limit", "The mail server takes no more for now.").After(w.ends.Sub(now))
			}
		}
		_, err := m.Store.Exec(ctx, "DELETE FROM mail_windows WHERE ends_at < @now", map[string]any{"now": now})
		return err
	})
}

// keep writes the message into the outbox; a half-written file never has the
// name of a whole one.
func (m *Mailer) keep(id string, msg *smtp.Msg) error {
	path := filepath.Join(m.Outbox, id+".eml")
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := msg.WriteTo(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// Ping asks whether the server greets who calls, or whether the outbox is there.
func (m *Mailer) Ping(ctx context.Context) error {
	if m.Server.Host == "" {
		_, err := os.Stat(m.Outbox)
		return err
	}
	address := net.JoinHostPort(m.Server.Host, strconv.Itoa(m.Server.Port))
	var conn net.Conn
	var err error
	if m.Server.ImplicitTLS {
		conn, err = (&tls.Dialer{Config: m.TLS}).DialContext(ctx, "tcp", address)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	greeting := make([]byte, 3)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return err
	}
	if string(greeting) != "220" {
		return fmt.Errorf("the mail server greets with %q", greeting)
	}
	_, _ = io.WriteString(conn, "QUIT\r\n")
	return nil
}

// SendNow sends without the queue, for what must be told while the database is
// away.
func (m *Mailer) SendNow(ctx context.Context, in domain.Mail) error {
	id, msg, err := m.render(in)
	if err != nil {
		return err
	}
	out, err := m.compose(id, msg)
	if err != nil {
		return err
	}
	return m.hand(ctx, id, out)
}

// DemoRequest is what a visitor asks for on the front page.
type DemoRequest struct {
	Name    string `json:"name" minLength:"1" maxLength:"200"`
	Email   string `json:"email" format:"email" maxLength:"254"`
	Company string `json:"company" minLength:"1" maxLength:"200"`
	Message string `json:"message" minLength:"1" maxLength:"4000"`
}

// Received tells that a request is in good hands.
type Received struct {
	Status string `json:"status" enum:"received"`
}

// RequestDemo mails the request to the people who answer such requests. The
// visitor gets no mail: the address may be somebody else's.
func (m *Mailer) RequestDemo(ctx context.Context, in DemoRequest) (Received, error) {
	err := m.Store.Tx(domain.System(ctx, "demo request"), func(ctx context.Context) error {
		return m.Send(ctx, domain.Mail{Template: "demo_request", To: m.Contact, ReplyTo: in.Email, Locale: "en",
			Data: map[string]string{"name": in.Name, "email": in.Email, "company": in.Company, "message": in.Message}})
	})
	return Received{"received"}, err
}

var _ = domain.Chinese(map[string]string{
	"This is not an e-mail address.":         "不是电子邮件地址。",
	"The mail cannot be read.":               "无法读取该邮件。",
	"The mail was refused for good.":         "邮件被永久拒收。",
	"The mail server takes no more for now.": "邮件服务器暂时不再接收。",
})
