// Package notice tells people what happened in their tenant. What there is to
// tell is the tenant's audit trail, as it is for webhooks: an event whose action
// stands in the table of types (types.go) becomes a notification for each of the
// people whom it concerns, in the transaction of the event.
//
//	audit event ──Tell──▶ notification ──▶ shown in the portal        (in_app)
//	                          │────────────▶ a mail of its own           (mail: once)
//	                          └────────────▶ a line of the next digest   (mail: daily)
//
// Some types have a letter of their own, which the feature sends that knows what
// is to be said: it goes out through Mail, which asks the same preferences. What
// is about a person's own security, or binds the tenant by law, is always mailed.
//
// No text is stored: a row holds the type, the object's id and a few parameters,
// and is worded when it is read, in the reader's language and with the names that
// the objects have then. What is gone or was erased is so in the text too.
package notice

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Titles gives the names of objects of the scope's tenant; what it does not know
// is not in the answer.
type Titles func(ctx context.Context, ids []string) (map[string]string, error)

// Config of the Notices. Now may be nil; Titles are by the prefix of ids.
type Config struct {
	Store   *store.Store
	Audit   *audit.Trail
	Queue   domain.Queue
	Mail    domain.SendMail
	BaseURL string
	Titles  map[string]Titles
	Now     func() time.Time
}

// Notices keeps what people are told.
type Notices struct{ Config }

// New makes Notices.
func New(c Config) *Notices {
	if c.Store == nil || c.Audit == nil || c.Queue == nil || c.Mail == nil {
		panic("notice: needs a store, an audit trail, a queue and a mailer")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Notices{c}
}

// Notification is one thing that one person is told.
type Notification struct {
	store.Owned
	ID        string     `json:"id" gorm:"primaryKey"`
	UserID    string     `json:"-"`
	Type      string     `json:"type"`
	Text      string     `json:"text" gorm:"-" doc:"in the language of Accept-Language"`
	Path      string     `json:"path" gorm:"-" doc:"the page of the portal that shows more"`
	Target    string     `json:"target" doc:"the id of the object"`
	Params    params     `json:"-" gorm:"serializer:json"`
	InApp     bool       `json:"-"`
	Mail      string     `json:"-"`
	MailedAt  *time.Time `json:"-"`
	CreatedAt time.Time  `json:"created_at"`
	ReadAt    *time.Time `json:"read_at" nullable:"true"`
}

// TableName is GORM's.
func (Notification) TableName() string { return "notifications" }

// params are what a text is made of, by name.
type params map[string]string

// number is a parameter that counts.
func (p params) number(name string) int64 {
	n, _ := strconv.ParseInt(p[name], 10, 64)
	return n
}

// The ways of being mailed.
const (
	off   = "off"
	once  = "once"
	daily = "daily"
)

// Preference is how a person wants to be told of one type.
type Preference struct {
	store.Owned
	UserID    string    `json:"-" gorm:"primaryKey"`
	Type      string    `json:"type" gorm:"primaryKey"`
	InApp     bool      `json:"in_app" doc:"shown in the portal"`
	Mail      string    `json:"mail" enum:"once,daily,off" doc:"a mail at once, a line of the daily digest, or none"`
	MailFixed bool      `json:"mail_fixed" gorm:"-" doc:"always mailed at once: it cannot be turned off"`
	UpdatedAt time.Time `json:"-"`
}

// TableName is GORM's.
func (Preference) TableName() string { return "notification_preferences" }

type member struct {
	store.Owned
	UserID string
	Role   string
}

func (member) TableName() string { return "memberships" }

// Tell makes the notifications of an event, in the event's transaction. It is
// called with every event of every tenant, and most concern nobody.
func (n *Notices) Tell(ctx context.Context, e audit.Event) error {
	k := byAction[e.Action]
	if k == nil || e.Outcome != "ok" {
		return nil
	}
	detail := map[string]any{}
	if err := json.Unmarshal([]byte(e.Detail), &detail); err != nil {
		return err
	}
	people, err := n.audience(ctx, k, e, detail)
	if err != nil || len(people) == 0 {
		return err
	}
	wishes, err := n.wishes(ctx, k, e.TenantID, people)
	if err != nil {
		return err
	}
	with := params{}
	if len(k.actions) > 1 {
		with["action"] = e.Action
	}
	for _, name := range k.params {
		if v, ok := detail[name]; ok {
			with[name] = word(v)
		}
	}
	var rows []Notification
	for _, user := range people {
		w := wishes[user]
		if w.Mail == once && len(k.letters) > 0 {
			w.Mail = off // the feature's own letter says it
		}
		if w.InApp || w.Mail != off {
			rows = append(rows, Notification{Owned: store.Owned{TenantID: e.TenantID}, ID: domain.NewID("ntf"), UserID: user, Type: k.name, Target: e.Target,
				Params: with, InApp: w.InApp, Mail: w.Mail, CreatedAt: e.OccurredAt})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := n.Store.For(ctx).Create(&rows).Error; err != nil {
		return err
	}
	for _, row := range rows {
		if row.Mail != once {
			continue
		}
		if err := n.Queue.Enqueue(ctx, MailJob{Tenant: row.TenantID, ID: row.ID}, domain.JobOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// word is a value of an event's detail as a parameter.
func word(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// audience are the members whom the event concerns. Who did it knows of it,
// unless it is about themselves.
func (n *Notices) audience(ctx context.Context, k *kind, e audit.Event, detail map[string]any) (out []string, err error) {
	named := []string{} // by the event
	switch {
	case k.to == person:
		named = append(named, e.Target)
	case k.to == starter: // a key's work is its owner's servers' to follow, by webhook
		err = n.Store.For(ctx).Model(&audit.Event{}).Where("tenant_id = ? AND target = ? AND actor_kind = 'user' AND action IN ?", e.TenantID, e.Target, k.begun).
			Order("seq DESC").Limit(1).Pluck("actor_id", &named).Error
	case k.to != "":
		named = append(named, word(detail[k.to]))
	}
	if err != nil || len(named) == 0 && len(k.roles) == 0 {
		return nil, err
	}
	q := n.Store.For(ctx).Model(&member{}).Where("tenant_id = ? AND (user_id IN ? OR role IN ?)", e.TenantID, named, k.roles)
	if k.to != person && k.to != starter && e.ActorKind == "user" {
		q = q.Where("user_id <> ?", e.ActorID)
	}
	return out, q.Order("id").Pluck("user_id", &out).Error
}

// wishes are the preferences of people for one type.
func (n *Notices) wishes(ctx context.Context, k *kind, tenant string, people []string) (map[string]Preference, error) {
	var set []Preference
	if err := n.Store.For(ctx).Where("tenant_id = ? AND type = ? AND user_id IN ?", tenant, k.name, people).Find(&set).Error; err != nil {
		return nil, err
	}
	out := map[string]Preference{}
	for _, user := range people {
		out[user] = k.usual()
	}
	for _, p := range set {
		if k.fixed {
			p.Mail = once
		}
		out[p.UserID] = p
	}
	return out, nil
}

// Send is domain.SendMail for letters that a type has of its own: it sends what
// the person wants mailed at once, and leaves the rest. Letters of no type, or to
// nobody in particular, always go.
func (n *Notices) Send(ctx context.Context, m domain.Mail) error {
	k := byLetter[m.Template]
	if k == nil || k.fixed || m.Person == "" {
		return n.Config.Mail(ctx, m)
	}
	wishes, err := n.wishes(ctx, k, m.Tenant, []string{m.Person})
	if err != nil || wishes[m.Person].Mail != once {
		return err
	}
	return n.Config.Mail(ctx, m)
}

// ListRequest asks for notifications.
type ListRequest struct {
	domain.PageRequest
	Unread bool `query:"unread" doc:"those alone that are not read"`
}

// List gives the caller's notifications in this tenant, newest first.
func (n *Notices) List(ctx context.Context, in ListRequest) (page domain.Page[Notification], err error) {
	err = n.Store.Read(ctx, func(ctx context.Context) error {
		q := n.own(ctx)
		if in.Unread {
			q = q.Where("read_at IS NULL")
		}
		page, err = store.Newest(q, in.PageRequest, func(m Notification) string { return m.ID })
		return err
	})
	if err != nil {
		return page, err
	}
	return page, n.dress(ctx, domain.LanguageOf(ctx), page.Data)
}

// own finds what is shown to the caller.
func (n *Notices) own(ctx context.Context) *gorm.DB {
	scope, _ := domain.ScopeOf(ctx)
	return n.Store.For(ctx).Where("user_id = ? AND in_app = ?", scope.Actor.ID, true)
}

// dress words the rows, with the names that objects have now. It runs outside a
// transaction: some names are read in a scope of their own.
func (n *Notices) dress(ctx context.Context, language string, rows []Notification) error {
	ids := map[string][]string{} // by prefix
	for _, row := range rows {
		id := row.about()
		prefix, _, _ := strings.Cut(id, "_")
		if n.Titles[prefix] != nil && !slices.Contains(ids[prefix], id) {
			ids[prefix] = append(ids[prefix], id)
		}
	}
	titles := map[string]string{}
	for prefix, list := range ids {
		found, err := n.Titles[prefix](ctx, list)
		if err != nil {
			return err
		}
		for id, title := range found {
			titles[id] = title
		}
	}
	for i := range rows {
		row := &rows[i]
		title, there := titles[row.about()]
		if !there {
			title = domain.Sentence(language, "what is gone")
			if strings.HasPrefix(row.about(), "usr_") {
				title = domain.Sentence(language, "Somebody who has left")
			}
		}
		if k := byName[row.Type]; k != nil {
			row.Text, row.Path = k.text(language, title, row), k.path
			if id := row.about(); there && strings.HasSuffix(k.path, "/") {
				row.Path += id
			}
			row.Path = strings.TrimSuffix(row.Path, "/")
		}
	}
	return nil
}

// about is the id of the object whose name is in the text.
func (m *Notification) about() string {
	if k := byName[m.Type]; k != nil && k.about != "" {
		return m.Params[k.about]
	}
	return m.Target
}

// UnreadResponse counts.
type UnreadResponse struct {
	Unread int64 `json:"unread"`
}

// Unread counts the caller's notifications that are not read.
func (n *Notices) Unread(ctx context.Context, _ struct{}) (out UnreadResponse, err error) {
	err = n.Store.Read(ctx, func(ctx context.Context) error {
		return n.own(ctx).Model(&Notification{}).Where("read_at IS NULL").Count(&out.Unread).Error
	})
	return out, err
}

// IDRequest names a notification.
type IDRequest struct {
	ID string `path:"id"`
}

// Read marks one as read.
func (n *Notices) Read(ctx context.Context, in IDRequest) error {
	return n.Store.Tx(ctx, func(ctx context.Context) error {
		if err := n.own(ctx).Where("id = ?", in.ID).Take(&Notification{}).Error; err != nil {
			return err
		}
		return n.own(ctx).Model(&Notification{}).Where("id = ? AND read_at IS NULL", in.ID).Update("read_at", n.Now().UTC()).Error
	})
}

// ReadAllRequest says how far one has read.
type ReadAllRequest struct {
	UpTo string `json:"up_to" maxLength:"64" doc:"the newest that was seen: what came after it stays unread"`
}

// ReadAll marks as read what was there when the list was looked at.
func (n *Notices) ReadAll(ctx context.Context, in ReadAllRequest) error {
	if !domain.ValidID("ntf", in.UpTo) {
		return domain.InvalidField("up_to", "invalid_value", "This is not the id of a notification.")
	}
	return n.Store.Tx(ctx, func(ctx context.Context) error {
		return n.own(ctx).Model(&Notification{}).Where("id <= ? AND read_at IS NULL", in.UpTo).Update("read_at", n.Now().UTC()).Error
	})
}

// Preferences lists how the caller is told of each type.
func (n *Notices) Preferences(ctx context.Context, _ struct{}) (out domain.Page[Preference], err error) {
	scope, _ := domain.ScopeOf(ctx)
	var set []Preference
	err = n.Store.Read(ctx, func(ctx context.Context) error {
		return n.Store.For(ctx).Where("user_id = ?", scope.Actor.ID).Find(&set).Error
	})
	rows := make([]Preference, 0, len(kinds))
	for _, k := range kinds {
		p := k.usual()
		if i := slices.IndexFunc(set, func(s Preference) bool { return s.Type == k.name }); i >= 0 {
			p.InApp = set[i].InApp
			if !k.fixed {
				p.Mail = set[i].Mail
			}
		}
		rows = append(rows, p)
	}
	return domain.NewPage(rows, len(rows), func(p Preference) string { return p.Type }), err
}

// Wish is what a person decides of one type.
type Wish struct {
	Type  string `json:"type" maxLength:"64"`
	InApp bool   `json:"in_app"`
	Mail  string `json:"mail" enum:"once,daily,off"`
}

// PreferencesRequest decides on some types, and leaves the others.
type PreferencesRequest struct {
	Preferences []Wish `json:"preferences" minItems:"1" maxItems:"64"`
}

// PutPreferences changes how the caller is told, from the next event on.
func (n *Notices) PutPreferences(ctx context.Context, in PreferencesRequest) (domain.Page[Preference], error) {
	scope, _ := domain.ScopeOf(ctx)
	var rows []Preference
	var wrong []domain.Field
	for i, w := range in.Preferences {
		at := "preferences[" + strconv.Itoa(i) + "]"
		k := byName[w.Type]
		switch {
		case k == nil:
			wrong = append(wrong, domain.Violation(at+".type", "unknown_type", "There is no such type of notification."))
		case slices.ContainsFunc(rows, func(p Preference) bool { return p.Type == w.Type }):
			wrong = append(wrong, domain.Violation(at+".type", "given_twice", "A type is decided on once."))
		case k.fixed && w.Mail != once:
			wrong = append(wrong, domain.Violation(at+".mail", "mail_fixed", "Mails of this type cannot be turned off."))
		default:
			rows = append(rows, Preference{UserID: scope.Actor.ID, Type: w.Type, InApp: w.InApp, Mail: w.Mail, UpdatedAt: n.Now().UTC()})
		}
	}
	if len(wrong) > 0 {
		return domain.Page[Preference]{}, domain.Fields(wrong...)
	}
	err := n.Store.Tx(ctx, func(ctx context.Context) error {
		err := n.Store.For(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "tenant_id"}, {Name: "user_id"}, {Name: "type"}},
			DoUpdates: clause.AssignmentColumns([]string{"in_app", "mail", "updated_at"})}).Create(&rows).Error
		if err != nil {
			return err
		}
		return n.Audit.Record(ctx, audit.Entry{Action: "notification.preferences", Target: scope.Actor.ID, Detail: map[string]any{"preferences": in.Preferences}})
	})
	if err != nil {
		return domain.Page[Preference]{}, err
	}
	return n.Preferences(ctx, struct{}{})
}

// MailJob mails one notification.
type MailJob struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
}

// Kind is the queue's.
func (MailJob) Kind() string { return "notice.mail" }

// RunMail works the job.
func (n *Notices) RunMail(ctx context.Context, j MailJob) error {
	return n.post(ctx, j.Tenant, func(q *gorm.DB) *gorm.DB { return q.Where("id = ? AND mail = 'once'", j.ID) },
		func(r reader, rows []Notification) domain.Mail {
			return domain.Mail{Template: "notification", Data: map[string]string{"text": rows[0].Text, "tenant": r.Tenant, "url": n.page(rows[0].Path), "preferences": n.page(preferencesPath)}}
		})
}

// DigestJob mails, once a day, what waits for it.
type DigestJob struct{}

// Kind is the queue's.
func (DigestJob) Kind() string { return "notice.digest" }

const digestLines = 50

// RunDigest works the job: one mail to each person and tenant.
func (n *Notices) RunDigest(ctx context.Context, _ DigestJob) error {
	var people []Notification
	err := n.Store.Read(domain.System(ctx, "digests"), func(ctx context.Context) error {
		return n.Store.For(ctx).Distinct("tenant_id", "user_id").Where("mail = 'daily' AND mailed_at IS NULL").Order("tenant_id, user_id").Find(&people).Error
	})
	if err != nil {
		return err
	}
	for _, p := range people {
		err = errors.Join(err, n.post(ctx, p.TenantID, func(q *gorm.DB) *gorm.DB { return q.Where("user_id = ? AND mail = 'daily'", p.UserID) },
			func(r reader, rows []Notification) domain.Mail {
				m := domain.Mail{Template: "digest", Data: map[string]string{"count": strconv.Itoa(len(rows)), "tenant": r.Tenant, "url": n.page("/app/notifications"), "preferences": n.page(preferencesPath)}}
				for _, row := range rows[:min(len(rows), digestLines)] {
					m.Items = append(m.Items, row.Text)
				}
				return m
			}))
	}
	return err
}

// reader is who gets a mail.
type reader struct {
	Email, Locale, Tenant string
}

// post mails what of a person's notifications in a tenant was not mailed yet, and
// notes it in the same transaction. Who has left the tenant is told nothing.
func (n *Notices) post(ctx context.Context, tenant string, which func(*gorm.DB) *gorm.DB, letter func(reader, []Notification) domain.Mail) error {
	var rows []Notification
	own := domain.WithScope(ctx, domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "notifications"}})
	err := n.Store.Read(own, func(ctx context.Context) error {
		return which(n.Store.For(ctx).Where("mailed_at IS NULL")).Order("id DESC").Find(&rows).Error
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	sys := domain.System(ctx, "mails of notifications")
	var to reader
	err = n.Store.Read(sys, func(ctx context.Context) error {
		return n.Store.SQL(ctx, `SELECT u.email, u.locale, t.name AS tenant FROM memberships m JOIN users u ON u.id = m.user_id JOIN tenants t ON t.id = m.tenant_id
			WHERE m.tenant_id = @of AND m.user_id = @user`, map[string]any{"of": tenant, "user": rows[0].UserID}).Scan(&to).Error
	})
	if err != nil {
		return err
	}
	language := "en"
	if strings.HasPrefix(to.Locale, "zh") {
		language = "zh"
	}
	if err := n.dress(own, language, rows[:min(len(rows), digestLines)]); err != nil {
		return err
	}
	return n.Store.Tx(sys, func(ctx context.Context) error {
		noted := which(n.Store.For(ctx).Model(&Notification{}).Where("tenant_id = ? AND mailed_at IS NULL AND id <= ?", tenant, rows[0].ID)).Update("mailed_at", n.Now().UTC())
		switch {
		case noted.Error != nil || to.Email == "" || noted.RowsAffected == 0:
			return noted.Error
		case noted.RowsAffected != int64(len(rows)):
			return errors.New("notice: the rows changed while the mail was written")
		}
		m := letter(to, rows)
		m.To, m.Locale = to.Email, to.Locale
		return n.Config.Mail(ctx, m)
	})
}

func (n *Notices) page(path string) string { return strings.TrimSuffix(n.BaseURL, "/") + path }

// Retire removes, in every tenant, what is older than a time, and what is of
// people who have left.
func (n *Notices) Retire(ctx context.Context, before time.Time) (gone int64, err error) {
	err = n.Store.Tx(domain.System(ctx, "notification retention"), func(ctx context.Context) error {
		gone, err = n.Store.Exec(ctx, `DELETE FROM notifications WHERE created_at < @before
			OR NOT EXISTS (SELECT 1 FROM memberships m WHERE m.tenant_id = notifications.tenant_id AND m.user_id = notifications.user_id)`, map[string]any{"before": before.UTC()})
		if err != nil {
			return err
		}
		return n.Store.For(ctx).Where("NOT EXISTS (SELECT 1 FROM memberships m WHERE m.tenant_id = notification_preferences.tenant_id AND m.user_id = notification_preferences.user_id)").
			Delete(&Preference{}).Error
	})
	return gone, err
}

var _ = domain.Chinese(map[string]string{
	"what is gone":                             "已删除的对象",
	"Somebody who has left":                    "已离开的成员",
	"This is not the id of a notification.":    "这不是通知的 ID。",
	"There is no such type of notification.":   "没有这种通知类型。",
	"A type is decided on once.":               "每种类型只能设置一次。",
	"Mails of this type cannot be turned off.": "此类邮件无法关闭。",
})
