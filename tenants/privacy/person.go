package privacy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// People who have no account may be named in tenants' lists. We only process
// those lists; who decides is the tenant. So a request of such a person is taken
// here once and passed to every tenant that names them, each with its own entries
// and a month's time (Art. 12(3), PIPL Art. 50):

//	asked ──link in a mail──▶ confirmed ──job──▶ a part for each tenant: open ──▶ fulfilled or refused
//
// No tenant learns of another, the person learns of a tenant when it answers,
// and nobody learns from us whether anybody has the name.

// personDays is the time to answer.
const personDays = 30

// PersonRequest is what a person asks for.
type PersonRequest struct {
	ID          string `gorm:"primaryKey"`
	Kind        string
	Name        string
	Aliases     []string `gorm:"serializer:json"`
	Email       string
	Locale      string
	Message     string
	LinkHash    string
	CreatedAt   time.Time
	ConfirmedAt *time.Time
	PassedAt    *time.Time
}

// TableName is GORM's.
func (PersonRequest) TableName() string { return "person_requests" }

// Found is an entry of a tenant's lists.
type Found struct {
	DatasetID string `json:"dataset_id"`
	EntryID   string `json:"entry_id"`
}

// PersonPart is a tenant's part of a request.
type PersonPart struct {
	store.Owned
	ID         string     `json:"id" gorm:"primaryKey"`
	RequestID  string     `json:"-"`
	Kind       string     `json:"kind" enum:"access,rectification,erasure,objection"`
	Name       string     `json:"name"`
	Email      string     `json:"email" doc:"proved by a link"`
	Locale     string     `json:"locale"`
	Message    string     `json:"message"`
	Entries    []Found    `json:"entries" gorm:"serializer:json" nullable:"false" doc:"of your lists, by the name"`
	ReceivedAt time.Time  `json:"received_at"`
	DueAt      time.Time  `json:"due_at" doc:"when the law wants an answer"`
	Status     string     `json:"status" enum:"open,fulfilled,refused"`
	Note       string     `json:"note" doc:"of the answer, as it was mailed"`
	AnsweredBy string     `json:"answered_by"`
	AnsweredAt *time.Time `json:"answered_at" nullable:"true"`
}

// TableName is GORM's.
func (PersonPart) TableName() string { return "person_request_parts" }

// AskRequest is a request of anybody.
type AskRequest struct {
	Kind    string   `json:"kind" enum:"access,rectification,erasure,objection"`
	Name    string   `json:"name" minLength:"2" maxLength:"200" doc:"under which you may be listed"`
	Aliases []string `json:"aliases,omitempty" maxItems:"10" doc:"other names and spellings"`
	Email   string   `json:"email" format:"email" maxLength:"254" doc:"a link is mailed to it"`
	Message string   `json:"message,omitempty" maxLength:"4000"`
	Locale  string   `json:"locale,omitempty" enum:"en,zh-CN"`
}

// AskResponse is the same for everybody.
type AskResponse struct {
	State string `json:"status" enum:"confirmation_sent,passed"`
}

// Ask takes a request and mails the link that proves the address.
func (s *Service) Ask(ctx context.Context, in AskRequest) (AskResponse, error) {
	if in.Locale == "" {
		in.Locale = map[string]string{"zh": "zh-CN", "en": "en"}[domain.LanguageOf(ctx)]
	}
	if in.Aliases == nil {
		in.Aliases = []string{}
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	word := base64.RawURLEncoding.EncodeToString(secret[:])
	r := PersonRequest{ID: domain.NewID("prq"), Kind: in.Kind, Name: strings.TrimSpace(in.Name), Aliases: in.Aliases, Email: strings.ToLower(in.Email), Locale: in.Locale, Message: in.Message,
		LinkHash: hashed(word), CreatedAt: s.Now().UTC()}
	err := s.Store.Tx(domain.System(ctx, "a person's request"), func(ctx context.Context) error {
		if err := s.Store.For(ctx).Create(&r).Error; err != nil {
			return err
		}
		return s.Mail(ctx, domain.Mail{Template: "person_confirm", To: r.Email, Locale: r.Locale, Data: map[string]string{"name": r.Name, "url": s.page("/privacy-request#" + word)}})
	})
	return AskResponse{"confirmation_sent"}, err
}

func hashed(word string) string {
	sum := sha256.Sum256([]byte(word))
	return hex.EncodeToString(sum[:])
}

func (s *Service) page(path string) string { return strings.TrimSuffix(s.BaseURL, "/") + path }

// ConfirmRequest shows what the link holds.
type ConfirmRequest struct {
	Token string `json:"token" maxLength:"100"`
}

// askLife is how long a request waits for its confirmation; then it is gone.
const askLife = 7 * 24 * time.Hour

// Confirm proves the address and passes the request on. A link works once.
func (s *Service) Confirm(ctx context.Context, in ConfirmRequest) (AskResponse, error) {
	now := s.Now().UTC()
	err := s.Store.Tx(domain.System(ctx, "a person's request"), func(ctx context.Context) error {
		var r PersonRequest
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("link_hash = ? AND confirmed_at IS NULL AND created_at > ?", hashed(in.Token), now.Add(-askLife)).Limit(1).Find(&r).Error; err != nil {
			return err
		}
		if r.ID == "" {
			return domain.E(domain.NotFound, "link_expired", "This link is used, or older than seven days; ask again.")
		}
		if err := s.Store.For(ctx).Model(&PersonRequest{}).Where("id = ?", r.ID).Update("confirmed_at", now).Error; err != nil {
			return err
		}
		return s.Queue.Enqueue(ctx, PersonJob{r.ID}, domain.JobOptions{})
	})
	return AskResponse{"passed"}, err
}

// PersonJob passes a request on.
type PersonJob struct {
	ID string `json:"id"`
}

// Kind is the queue's.
func (PersonJob) Kind() string { return "privacy.person" }

// RunPerson works the job: done twice, it passes nothing twice.
func (s *Service) RunPerson(ctx context.Context, job PersonJob) error {
	sys := domain.System(ctx, "a person's request")
	var r PersonRequest
	var tenants []string
	err := s.Store.Read(sys, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("id = ? AND confirmed_at IS NOT NULL", job.ID).Take(&r).Error; err != nil {
			return err
		}
		return s.Store.SQL(ctx, "SELECT id FROM tenants WHERE slug <> 'erased-' || id ORDER BY id", nil).Scan(&tenants).Error
	})
	if err != nil || r.PassedAt != nil {
		return err
	}
	for _, tenant := range tenants {
		own := domain.WithScope(ctx, domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "a person's request"}})
		found, err := s.Named(own, append([]string{r.Name}, r.Aliases...))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			continue
		}
		if err := s.pass(sys, r, tenant, found); err != nil {
			return err
		}
	}
	return s.Store.Tx(sys, func(ctx context.Context) error {
		if err := s.Mail(ctx, domain.Mail{Template: "person_passed", To: r.Email, Locale: r.Locale, Data: map[string]string{"name": r.Name, "date": day(r.ConfirmedAt.AddDate(0, 0, personDays))}}); err != nil {
			return err
		}
		return s.Store.For(ctx).Model(&PersonRequest{}).Where("id = ?", r.ID).Update("passed_at", s.Now().UTC()).Error
	})
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// pass gives a tenant its part, and tells its owners and admins.
func (s *Service) pass(ctx context.Context, r PersonRequest, tenant string, found []Found) error {
	now := s.Now().UTC()
	part := PersonPart{Owned: store.Owned{TenantID: tenant}, ID: domain.NewID("prp"), RequestID: r.ID, Kind: r.Kind, Name: r.Name, Email: r.Email, Locale: r.Locale, Message: r.Message,
		Entries: found, ReceivedAt: now, DueAt: r.ConfirmedAt.AddDate(0, 0, personDays), Status: "open"}
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&part)
		if made.Error != nil || made.RowsAffected == 0 {
			return made.Error
		}
		var people []person
		err := s.Store.SQL(ctx, `SELECT u.email, u.full_name, u.locale FROM memberships m JOIN users u ON u.id = m.user_id
			WHERE m.tenant_id = @owner AND m.role IN ('owner', 'admin') ORDER BY m.id`, map[string]any{"owner": tenant}).Scan(&people).Error
		if err != nil {
			return err
		}
		for _, p := range people {
			if err := s.Mail(ctx, domain.Mail{Template: "person_request", To: p.Email, Locale: p.Locale,
				Data: map[string]string{"name": p.FullName, "date": day(part.DueAt), "url": s.page("/app/privacy")}}); err != nil {
				return err
			}
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "privacy.person_request", Target: part.ID, Tenant: tenant, Detail: map[string]any{"kind": r.Kind, "entries": len(found), "due_at": part.DueAt}})
	})
}

// PersonParts lists what people asked of the tenant, the newest first.
func (s *Service) PersonParts(ctx context.Context, in domain.PageRequest) (page domain.Page[PersonPart], err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		page, err = store.Newest(s.Store.For(ctx), in, func(p PersonPart) string { return p.ID })
		return err
	})
	return page, err
}

// PersonPart is one.
func (s *Service) PersonPart(ctx context.Context, in IDRequest) (p PersonPart, err error) {
	return p, s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Where("id = ?", in.ID).Take(&p).Error })
}

// AnswerRequest answers a person.
type AnswerRequest struct {
	ID     string `path:"id"`
	Status string `json:"status" enum:"fulfilled,refused"`
	Note   string `json:"note" minLength:"10" maxLength:"4000" doc:"mailed to the person: what was done, or the ground of the refusal"`
}

// Answer answers the person, once, in the tenant's name.
func (s *Service) Answer(ctx context.Context, in AnswerRequest) (PersonPart, error) {
	scope, _ := domain.ScopeOf(ctx)
	t, err := s.Tenants.Get(ctx, struct{}{})
	if err != nil {
		return PersonPart{}, err
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		var p PersonPart
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", in.ID).Take(&p).Error; err != nil {
			return err
		}
		if p.Status != "open" {
			return domain.E(domain.Conflict, "conflict", "This request was answered.")
		}
		if err := s.Store.For(ctx).Model(&PersonPart{}).Where("id = ?", in.ID).
			Updates(map[string]any{"status": in.Status, "note": in.Note, "answered_by": scope.Actor.ID, "answered_at": s.Now().UTC()}).Error; err != nil {
			return err
		}
		if err := s.Mail(ctx, domain.Mail{Template: "person_answer", To: p.Email, Locale: p.Locale, Data: map[string]string{"name": p.Name, "tenant": t.Name, "message": in.Note}}); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "privacy.person_answer", Target: in.ID, Detail: map[string]any{"status": in.Status}})
	})
	if err != nil {
		return PersonPart{}, err
	}
	return s.PersonPart(ctx, IDRequest{in.ID})
}

// partsKept is how long an answer can be proved.
const partsKept = 3 * 365 * 24 * time.Hour

// retirePersons removes requests that nobody confirmed, those that were passed
// on, and answers that are old.
func (s *Service) retirePersons(ctx context.Context, now time.Time) error {
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("created_at < ? AND (confirmed_at IS NULL OR passed_at IS NOT NULL)", now.Add(-askLife)).Delete(&PersonRequest{}).Error; err != nil {
			return err
		}
		_, err := s.Store.Exec(ctx, "DELETE FROM person_request_parts WHERE answered_at < @before", map[string]any{"before": now.Add(-partsKept)})
		return err
	})
}

var _ = domain.Chinese(map[string]string{
	"This request was answered.":                              "该请求已答复。",
	"This link is used, or older than seven days; ask again.": "此链接已使用或已超过七天；请重新提出请求。",
})
