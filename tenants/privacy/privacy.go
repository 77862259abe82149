package privacy

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/seal"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/domain/subject"
	"github.com/chainreactions/chainreactions/tenants"
)

// Config of the Service. Mail, ForgetMail, DropMail and Now may be nil.
type Config struct {
	Store     *store.Store
	Audit     *audit.Trail
	Queue     domain.Bounded
	Subjects  *subject.Keys
	Tenants   *tenants.Service
	Mail      domain.SendMail
	Can       func(ctx context.Context, permission string) (bool, error) // may the caller?
	Seats     func(ctx context.Context, tenant string, n int64) error    // of billing
	TakeLevel func(ctx context.Context, level string, n int64) error     // of billing
	// AdoptRoles holds the roles that an import brought to what the caller may give.
	AdoptRoles func(ctx context.Context) error
	Leave      func(ctx context.Context, tenant string) error             // ends what a tenant pays for, before it is erased; nil is nothing
	Hooks      func(ctx context.Context, before time.Time) (int64, error) // removes old webhook logs
	Notices    func(ctx context.Context, before time.Time) (int64, error) // removes old notifications, and those of people who left
	// Named finds the entries of the scope's tenant that bear a name.
	Named      func(ctx context.Context, names []string) ([]Found, error)
	ForgetMail func(ctx context.Context, address string) error   // removes mails to an address from the queue
	DropMail   func(ctx context.Context, before time.Time) error // forgets mails that wait, after a restore
	SecretKey  []byte
	Dir        string // of the archives
	Uploads    string // where uploaded files wait
	Outbox     string // of mails that were not sent
	Ledger     string // the file of erasures: keep it apart from backups of the database
	BaseURL    string
	Logger     *slog.Logger
	Now        func() time.Time
}

// Service answers what privacy law asks.
type Service struct {
	Config
	register []ProcessingRecord
	linkKey  []byte
}

// New reads the register.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Audit == nil || c.Queue == nil || c.Subjects == nil || c.Tenants == nil || c.Can == nil || c.AdoptRoles == nil || c.Dir == "" || c.Ledger == "" || c.Logger == nil {
		return nil, errors.New("privacy: something required is missing")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	register, err := readRegister(registerText)
	if err != nil {
		return nil, err
	}
	return &Service{Config: c, register: register, linkKey: seal.Key(c.SecretKey, "export links")}, os.MkdirAll(c.Dir, 0o700)
}

// person is who a mail goes to.
type person struct {
	Email, FullName, Locale string
}

func (s *Service) person(ctx context.Context, id string) (p person, err error) {
	err = s.Store.Read(domain.System(ctx, "a person's own data"), func(ctx context.Context) error {
		return s.Store.SQL(ctx, "SELECT email, full_name, locale FROM users WHERE id = @id", map[string]any{"id": id}).Scan(&p).Error
	})
	return p, err
}

// Consent is one decision of a person.
type Consent struct {
	ID        string    `json:"id" gorm:"primaryKey"`
	UserID    string    `json:"-"`
	Purpose   string    `json:"purpose"`
	Version   string    `json:"version"`
	Granted   bool      `json:"granted"`
	CreatedAt time.Time `json:"created_at"`
}

// ConsentsResponse is what holds now, and how it came to be.
type ConsentsResponse struct {
	Current []Consent `json:"current" nullable:"false" doc:"the newest decision for each purpose"`
	History []Consent `json:"history" nullable:"false" doc:"every decision, newest first"`
}

// Consents are the caller's own.
func (s *Service) Consents(ctx context.Context, _ struct{}) (out ConsentsResponse, err error) {
	scope, _ := domain.ScopeOf(ctx)
	out = ConsentsResponse{Current: []Consent{}, History: []Consent{}}
	err = s.Store.Read(domain.System(ctx, "a person's own data"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("user_id = ?", scope.Actor.ID).Order("id DESC").Limit(1000).Find(&out.History).Error
	})
	seen := map[string]bool{}
	for _, c := range out.History {
		if !seen[c.Purpose] {
			out.Current = append(out.Current, c)
		}
		seen[c.Purpose] = true
	}
	return out, err
}

// ConsentRequest decides on one purpose.
type ConsentRequest struct {
	Purpose string `json:"purpose" enum:"product_news,usage_analysis,third_country_transfer"`
	Version string `json:"version" minLength:"1" maxLength:"40" doc:"of the text that was shown"`
	Granted bool   `json:"granted"`
}

// PutConsent gives a consent or takes it back, as easily (Art. 7(3)). Nothing is
// overwritten.
func (s *Service) PutConsent(ctx context.Context, in ConsentRequest) (ConsentsResponse, error) {
	scope, _ := domain.ScopeOf(ctx)
	err := s.Store.Tx(domain.System(ctx, "a person's own data"), func(ctx context.Context) error {
		c := Consent{ID: domain.NewID("con"), UserID: scope.Actor.ID, Purpose: in.Purpose, Version: in.Version, Granted: in.Granted, CreatedAt: s.Now().UTC()}
		if err := s.Store.For(ctx).Create(&c).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "consent.put", Target: scope.Actor.ID, Tenant: scope.Tenant,
			Detail: map[string]any{"purpose": in.Purpose, "version": in.Version, "granted": in.Granted}})
	})
	if err != nil {
		return ConsentsResponse{}, err
	}
	return s.Consents(ctx, struct{}{})
}

// RetentionJob removes, once a day, what has been kept long enough.
type RetentionJob struct{}

// Kind is the queue's.
func (RetentionJob) Kind() string { return "privacy.retention" }

const (
	archiveKept = 7 * 24 * time.Hour
	hooksKept   = 30 * 24 * time.Hour
	noticesKept = 90 * 24 * time.Hour
)

// RunRetention works the job: audit events by each tenant's setting, webhook
// logs after thirty days, notifications after ninety, archives after seven.
func (s *Service) RunRetention(ctx context.Context, _ RetentionJob) error {
	sys := domain.System(ctx, "retention")
	var rows []struct {
		ID     string
		Erased bool
	}
	err := s.Store.Read(sys, func(ctx context.Context) error {
		return s.Store.SQL(ctx, "SELECT id, slug = 'erased-' || id AS erased FROM tenants ORDER BY id", nil).Scan(&rows).Error
	})
	if err != nil {
		return err
	}
	now := s.Now().UTC()
	for _, row := range rows {
		id := row.ID
		if row.Erased { // what was on its way into the ledger of use came after
			err = errors.Join(err, s.Store.Tx(sys, func(ctx context.Context) error { _, err := s.eraseTenant(ctx, id); return err }))
		}
		settings, failed := s.Tenants.SettingsOf(ctx, id)
		if failed == nil {
			_, failed = s.Audit.Retire(ctx, id, now.AddDate(0, 0, -settings.AuditDays))
		}
		failed = errors.Join(failed, s.Audit.Compact(id))
		err = errors.Join(err, failed)
	}
	err = errors.Join(err, s.retirePersons(sys, now))
	_, failed := s.Hooks(ctx, now.Add(-hooksKept))
	err = errors.Join(err, failed)
	_, failed = s.Notices(ctx, now.Add(-noticesKept))
	err = errors.Join(err, failed)
	var old []Export
	failed = s.Store.Read(sys, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("status = 'ready' AND expires_at < ?", now).Find(&old).Error
	})
	err = errors.Join(err, failed)
	for _, e := range old {
		if failed := os.Remove(s.archive(e.ID)); failed != nil && !errors.Is(failed, os.ErrNotExist) {
			err = errors.Join(err, failed)
			continue
		}
		err = errors.Join(err, s.Store.Tx(sys, func(ctx context.Context) error {
			return s.Store.For(ctx).Model(&Export{}).Where("tenant_id = ? AND id = ?", e.TenantID, e.ID).Update("status", "expired").Error
		}))
	}
	return err
}
