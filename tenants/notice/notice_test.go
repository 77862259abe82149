package notice

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// bench is Notices on a real database, with an audit trail that tells them.
type bench struct {
	*Notices
	t    *testing.T
	db   testdb.DB
	now  time.Time
	sent []domain.Mail
}

func newBench(t *testing.T, db testdb.DB) *bench {
	t.Helper()
	b := &bench{t: t, db: db, now: time.Now().UTC().Truncate(time.Microsecond)}
	q := jobs.New(jobs.Config{Store: db.Store, Logger: slog.New(slog.DiscardHandler)})
	if err := q.Open(context.Background()); err != nil { // never started: the test works the jobs
		t.Fatal(err)
	}
	clock := func() time.Time { return b.now }
	trail := audit.New(audit.Config{Store: db.Store, Now: clock})
	b.Notices = New(Config{Store: db.Store, Audit: trail, Queue: q, BaseURL: "https://example.test/", Now: clock,
		Mail: func(ctx context.Context, m domain.Mail) error {
			if !db.InTx(ctx) {
				return errors.New("a mail outside a transaction")
			}
			b.sent = append(b.sent, m)
			return nil
		},
		Titles: map[string]Titles{"ds": func(ctx context.Context, ids []string) (map[string]string, error) {
			return map[string]string{theList: "Entities of " + domain.TenantOf(ctx)}, nil
		}}})
	trail.Tell = b.Tell
	return b
}

var theList = domain.NewID("ds")

// join makes a person and a member of the tenants.
func (b *bench) join(role, locale string, tenants ...string) string {
	b.t.Helper()
	id := domain.NewID("usr")
	err := b.db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		args := map[string]any{"id": id, "email": id + "@example.org", "locale": locale, "now": b.now}
		_, err := b.db.Exec(ctx, `INSERT INTO users (id, email, password_hash, full_name, locale, accepted_at, created_at, updated_at) VALUES (@id, @email, '', 'P', @locale, @now, @now, @now)`, args)
		for _, tenant := range tenants {
			if err != nil {
				return err
			}
			_, err = b.db.Exec(ctx, "INSERT INTO memberships (tenant_id, id, user_id, role, created_at) VALUES (@of, @member, @user, @role, @now)",
				map[string]any{"of": tenant, "member": domain.NewID("mem"), "user": id, "role": role, "now": b.now})
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func as(tenant, user string) context.Context {
	return domain.WithScope(context.Background(), domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "user", ID: user}})
}

// happen records an event.
func (b *bench) happen(ctx context.Context, e audit.Entry) {
	b.t.Helper()
	if err := b.db.Tx(ctx, func(ctx context.Context) error { return b.Audit.Record(ctx, e) }); err != nil {
		b.t.Fatal(err)
	}
}

// texts are what the person is shown, newest first.
func (b *bench) texts(tenant, user string) (out []string) {
	b.t.Helper()
	page, err := b.List(as(tenant, user), ListRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, m := range page.Data {
		out = append(out, m.Text+" "+m.Path)
	}
	return out
}

func (b *bench) wish(tenant, user string, w ...Wish) {
	b.t.Helper()
	if _, err := b.PutPreferences(as(tenant, user), PreferencesRequest{Preferences: w}); err != nil {
		b.t.Fatal(err)
	}
}

// queued are the mail jobs that wait.
func (b *bench) queued() (n int64) {
	b.t.Helper()
	load, err := b.Queue.(*jobs.Queue).Load(context.Background(), b.now.Add(-time.Hour))
	if err != nil {
		b.t.Fatal(err)
	}
	return load["notice.mail"].Waiting
}

// One database for all of them: each has people of its own.
func TestNotices(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db)
		for _, part := range []struct {
			name string
			run  func(*testing.T, *bench)
		}{{"who is told", whoIsTold}, {"with the act", withTheAct}, {"reading", reading}, {"preferences", preferences}, {"retire", retire}} {
			t.Run(part.name, func(t *testing.T) { b.t = t; part.run(t, b) })
		}
	})
}

// Who set something going is told of its end, with the name that its object has
// now; nobody else of the tenant, nobody of another, and no key.
func whoIsTold(t *testing.T, b *bench) {
	db := b.db
	li, han := b.join("analyst", "en", db.A), b.join("owner", "en", db.A, db.B)
	system := domain.Itself(db.In(db.A), "import")
	finish := audit.Entry{Action: "import.finish", Target: "imp_1", Detail: map[string]any{"dataset": theList, "rows": 1200, "rejected": 0}}
	b.happen(as(db.A, li), audit.Entry{Action: "import.start", Target: "imp_1"})
	b.happen(system, finish)
	if got, want := b.texts(db.A, li), "The import into “Entities of "+db.A+"” is done: 1200 rows. /app/datasets/"+theList; len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
	gone := domain.NewID("ds")
	b.happen(system, audit.Entry{Action: "import.fail", Target: "imp_1", Detail: map[string]any{"dataset": gone}})
	zh := as(db.A, li)
	scope, _ := domain.ScopeOf(zh)
	scope.Language = "zh"
	page, err := b.List(domain.WithScope(zh, scope), ListRequest{PageRequest: domain.PageRequest{Limit: 1}})
	if err != nil || page.Data[0].Text != "导入“已删除的对象”失败。" || page.Data[0].Path != "/app/datasets" {
		t.Errorf("%+v %v", page.Data, err)
	}
	b.happen(domain.WithScope(context.Background(), domain.Scope{Tenant: db.A, Actor: domain.Actor{Kind: "api_key", ID: "key_1"}}), audit.Entry{Action: "import.start", Target: "imp_2"})
	finish.Target = "imp_2"
	b.happen(system, finish)

	// By role, and not who did it: han disables what han owns.
	b.happen(domain.Itself(db.In(db.A), "delivery"), audit.Entry{Action: "webhook.disable", Target: "whk_1", Detail: map[string]any{"reason": "failing"}})
	b.happen(as(db.A, han), audit.Entry{Action: "webhook.disable", Target: "whk_1", Detail: map[string]any{"reason": "failing"}})
	if got := b.texts(db.A, han); len(got) != 1 {
		t.Errorf("the owner: %q", got)
	}
	// A refusal is no deed.
	b.happen(as(db.A, li), audit.Entry{Action: "user.change_password", Target: li, Outcome: "denied"})
	// Of one's own account, though one did it oneself.
	b.happen(as(db.A, li), audit.Entry{Action: "user.change_password", Target: li})
	if got := b.texts(db.A, li); len(got) != 3 || !strings.HasPrefix(got[0], "Your password was changed.") {
		t.Errorf("%q", got)
	}
	if got := b.texts(db.B, han); len(got) != 0 {
		t.Errorf("in the other tenant: %q", got)
	}
}

// What is told lives and dies with the act.
func withTheAct(t *testing.T, b *bench) {
	db := b.db
	li := b.join("analyst", "en", db.A)
	b.wish(db.A, li, Wish{"run_failed", true, "once"})
	b.happen(as(db.A, li), audit.Entry{Action: "run.start", Target: "run_1"})
	undone := errors.New("undone")
	err := db.Tx(domain.Itself(db.In(db.A), "run"), func(ctx context.Context) error {
		if err := b.Audit.Record(ctx, audit.Entry{Action: "run.fail", Target: "run_1"}); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) || len(b.texts(db.A, li)) != 0 || b.queued() != 0 {
		t.Errorf("%v: %q, %d mails", err, b.texts(db.A, li), b.queued())
	}
	b.happen(domain.Itself(db.In(db.A), "run"), audit.Entry{Action: "run.fail", Target: "run_1"})
	if len(b.texts(db.A, li)) != 1 || b.queued() != 1 {
		t.Errorf("%q, %d mails", b.texts(db.A, li), b.queued())
	}
}

// Reading is each person's own; what came after one looked stays unread.
func reading(t *testing.T, b *bench) {
	db := b.db
	li, han := b.join("admin", "en", db.A), b.join("owner", "en", db.A)
	disable := func() {
		b.happen(domain.Itself(db.In(db.A), "delivery"), audit.Entry{Action: "webhook.disable", Target: "whk_1"})
	}
	unread := func(user string) int64 {
		out, err := b.Unread(as(db.A, user), struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		return out.Unread
	}
	disable()
	disable()
	seen, err := b.List(as(db.A, li), ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	disable()
	if err := b.Read(as(db.A, li), IDRequest{seen.Data[1].ID}); err != nil || unread(li) != 2 || unread(han) != 3 {
		t.Errorf("one is read: %v, %d and %d unread", err, unread(li), unread(han))
	}
	if err := b.Read(as(db.A, han), IDRequest{seen.Data[0].ID}); domain.KindOf(err) != domain.NotFound {
		t.Errorf("another's: %v", err)
	}
	if err := b.ReadAll(as(db.A, li), ReadAllRequest{seen.Data[0].ID}); err != nil || unread(li) != 1 || unread(han) != 3 {
		t.Errorf("all that were seen: %v, %d and %d unread", err, unread(li), unread(han))
	}
	page, err := b.List(as(db.A, li), ListRequest{Unread: true})
	if err != nil || len(page.Data) != 1 || page.Data[0].ReadAt != nil {
		t.Errorf("unread alone: %+v %v", page.Data, err)
	}
}

// A preference holds for one person, type and tenant: at once, in a digest, or
// not; and what is about somebody's security is mailed whatever they set.
func preferences(t *testing.T, b *bench) {
	db := b.db
	li, han := b.join("owner", "zh-CN", db.A, db.B), b.join("billing", "en", db.A)
	usage := func(tenant string, percent int) {
		b.happen(domain.Itself(db.In(tenant), "usage"), audit.Entry{Action: "usage.threshold", Target: "match", Detail: map[string]any{"percent": percent}})
	}
	letter := func(template, tenant, user string) bool {
		before := len(b.sent)
		err := db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
			return b.Send(ctx, domain.Mail{Template: template, Tenant: tenant, Person: user})
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(b.sent) > before
	}
	digest := func() []domain.Mail {
		before := len(b.sent)
		if err := b.RunDigest(context.Background(), DigestJob{}); err != nil {
			t.Fatal(err)
		}
		return b.sent[before:]
	}
	waiting := b.queued()
	if !letter("usage_alert", db.A, li) {
		t.Error("who has not decided is mailed as before")
	}
	usage(db.A, 50)
	if got := digest(); len(got) != 0 || b.queued() != waiting {
		t.Errorf("and not twice: %+v, %d", got, b.queued())
	}
	b.wish(db.A, li, Wish{"usage_threshold", false, "daily"})
	b.wish(db.A, han, Wish{"usage_threshold", true, "off"})
	if letter("usage_alert", db.A, li) || letter("usage_limit", db.A, han) || !letter("usage_alert", db.B, li) || !letter("payment_failed", db.A, han) {
		t.Error("a preference is of one person, type and tenant")
	}
	usage(db.A, 75)
	usage(db.A, 90)
	usage(db.B, 90)
	if got := b.texts(db.A, li); len(got) != 1 { // of before
		t.Errorf("not in the portal: %q", got)
	}
	if got := b.texts(db.A, han); len(got) != 3 {
		t.Errorf("in the portal: %q", got)
	}
	got := digest()
	if len(got) != 1 || got[0].To != li+"@example.org" || got[0].Template != "digest" || got[0].Data["count"] != "2" || !slices.Equal(got[0].Items, []string{"match 配额已使用 90 %。", "match 配额已使用 75 %。"}) {
		t.Errorf("%+v", got)
	}
	if again := digest(); len(again) != 0 {
		t.Errorf("once: %+v", again)
	}

	// A type without a letter of its own has one, where it is wanted.
	b.wish(db.A, li, Wish{"webhook_disabled", true, "once"})
	b.happen(domain.Itself(db.In(db.A), "delivery"), audit.Entry{Action: "webhook.disable", Target: "whk_1"})
	page, err := b.List(as(db.A, li), ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	before := len(b.sent)
	for range 2 {
		if err := b.RunMail(context.Background(), MailJob{db.A, page.Data[0].ID}); err != nil {
			t.Fatal(err)
		}
	}
	if mails := b.sent[before:]; len(mails) != 1 || mails[0].Template != "notification" || mails[0].Locale != "zh-CN" || mails[0].Data["url"] != "https://example.test/app/webhooks" {
		t.Errorf("%+v", mails)
	}

	for _, wrong := range []Wish{{"new_device", true, "off"}, {"password_changed", true, "daily"}, {"weather", true, "once"}} {
		if _, err := b.PutPreferences(as(db.A, li), PreferencesRequest{Preferences: []Wish{{"run_failed", true, "once"}, wrong}}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	b.wish(db.A, li, Wish{"new_device", false, "once"})
	if !letter("new_device", db.A, li) {
		t.Error("a new device is always mailed")
	}
	list, err := b.Preferences(as(db.A, li), struct{}{})
	if err != nil || len(list.Data) != len(kinds) {
		t.Fatalf("%d types: %v", len(list.Data), err)
	}
	for _, p := range list.Data {
		if p.Type == "run_failed" && (p.Mail != off || !p.InApp) || p.Type == "new_device" && (p.Mail != once || p.InApp || !p.MailFixed) || p.Type == "usage_threshold" && p.Mail != daily {
			t.Errorf("%+v", p)
		}
	}
}

// What is old goes, in every tenant, and so does what is of people who left; who
// left is mailed nothing.
func retire(t *testing.T, b *bench) {
	db := b.db
	li, han := b.join("owner", "en", db.A), b.join("owner", "en", db.A, db.B)
	for _, tenant := range []string{db.A, db.B} {
		b.happen(domain.Itself(db.In(tenant), "delivery"), audit.Entry{Action: "webhook.disable", Target: "whk_1"})
	}
	b.wish(db.A, li, Wish{"webhook_disabled", true, "daily"})
	b.now = b.now.Add(91 * 24 * time.Hour)
	b.happen(domain.Itself(db.In(db.A), "delivery"), audit.Entry{Action: "webhook.disable", Target: "whk_1"})
	err := db.Tx(db.In(db.A), func(ctx context.Context) error { return db.For(ctx).Where("user_id = ?", li).Delete(&member{}).Error })
	if err != nil {
		t.Fatal(err)
	}
	sent := len(b.sent)
	if err := b.RunDigest(context.Background(), DigestJob{}); err != nil || len(b.sent) != sent {
		t.Errorf("%+v %v", b.sent[sent:], err)
	}
	if gone, err := b.Retire(context.Background(), b.now.Add(-90*24*time.Hour)); err != nil || gone == 0 {
		t.Errorf("%d %v", gone, err)
	}
	if len(b.texts(db.A, han)) != 1 || len(b.texts(db.B, han)) != 0 {
		t.Errorf("%q %q", b.texts(db.A, han), b.texts(db.B, han))
	}
	if rows := b.texts(db.A, li); len(rows) != 0 {
		t.Errorf("of who left: %q", rows)
	}
	var left int64
	err = db.Read(db.In(db.A), func(ctx context.Context) error {
		return db.For(ctx).Model(&Preference{}).Where("user_id = ?", li).Count(&left).Error
	})
	if err != nil || left != 0 {
		t.Errorf("%d preferences %v", left, err)
	}
}

// Each type is worded in both languages for each of its actions, whatever its
// parameters are, and leads to a page.
func TestWords(t *testing.T) {
	actions := map[string]bool{}
	for _, k := range kinds {
		if k.to == "" && len(k.roles) == 0 || (k.to == starter) != (len(k.begun) > 0) || !strings.HasPrefix(k.path, "/app/") || byName[k.name] != k {
			t.Errorf("%s says too little", k.name)
		}
		for _, action := range k.actions {
			if actions[action] {
				t.Errorf("%s is of two types", action)
			}
			actions[action] = true
			for _, p := range []params{{}, {"action": action, "partial": "true", "rejected": "2", "reason": "gone", "to": "admin"}} {
				m := &Notification{Owned: store.Owned{}, Type: k.name, Target: "match", Params: p}
				en, zh := k.text("en", "T", m), k.text("zh", "T", m)
				if en == zh || strings.Contains(en+zh, "%!") || strings.IndexFunc(zh, func(r rune) bool { return r >= '一' && r <= '龥' }) < 0 {
					t.Errorf("%s: %q %q", k.name, en, zh)
				}
			}
		}
	}
}
