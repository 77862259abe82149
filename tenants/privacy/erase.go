package privacy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Erasure takes a person, or a whole tenant, out for good once its time has
// come:
//
//	scheduled ──due──▶ done
//	  │    ▲ └──a legal hold──▶ held ──released──▶ done
//	  └────┴──▶ cancelled, before it is done
type Erasure struct {
	store.Owned
	ID          string     `json:"id" gorm:"primaryKey"`
	Scope       string     `json:"scope" enum:"user,tenant"`
	Subject     string     `json:"subject"`
	RequestedBy string     `json:"-"`
	Status      string     `json:"status" enum:"scheduled,held,cancelled,done"`
	Holds       []string   `json:"holds" gorm:"-" nullable:"false" doc:"reasons for which it waits"`
	DueAt       time.Time  `json:"due_at"`
	CreatedAt   time.Time  `json:"created_at"`
	EndedAt     *time.Time `json:"ended_at" nullable:"true"`
}

// TableName is GORM's.
func (Erasure) TableName() string { return "privacy_erasures" }

// Hold keeps a person's or a tenant's data where the law wants it kept.
type Hold struct {
	ID         string     `json:"id" gorm:"primaryKey"`
	Subject    string     `json:"subject"`
	Reason     string     `json:"reason"`
	Author     string     `json:"author"`
	CreatedAt  time.Time  `json:"created_at"`
	ReleasedAt *time.Time `json:"released_at" nullable:"true"`
}

// TableName is GORM's.
func (Hold) TableName() string { return "legal_holds" }

// ErasureRequest asks for an erasure.
type ErasureRequest struct {
	Scope     string `json:"scope" enum:"user,tenant"`
	GraceDays *int   `json:"grace_days,omitempty" minimum:"0" maximum:"30" doc:"14 where none is given; 0 is at once"`
}

const graceDays = 14

// StartErasure schedules the erasure of the caller, or, for who may, of the
// tenant. A person who is the only owner of a tenant that others belong to must
// hand it on first; a tenant of theirs alone goes with them.
func (s *Service) StartErasure(ctx context.Context, in ErasureRequest) (e Erasure, err error) {
	scope, _ := domain.ScopeOf(ctx)
	if err := s.mayTenant(ctx, in.Scope, "privacy:erase"); err != nil {
		return e, err
	}
	days := graceDays
	if in.GraceDays != nil {
		days = *in.GraceDays
	}
	now := s.Now().UTC()
	e = Erasure{Owned: store.Owned{TenantID: scope.Tenant}, ID: domain.NewID("ers"), Scope: in.Scope, Subject: scope.Actor.ID, RequestedBy: scope.Actor.ID, Status: "scheduled",
		Holds: []string{}, DueAt: now.AddDate(0, 0, days), CreatedAt: now}
	if in.Scope == "tenant" {
		e.Subject = scope.Tenant
	}
	to, err := s.person(ctx, scope.Actor.ID)
	if err != nil {
		return e, err
	}
	err = s.Store.Tx(domain.System(ctx, "erasure"), func(ctx context.Context) error {
		if in.Scope == "user" {
			if _, err := s.alone(ctx, e.Subject); err != nil {
				return err
			}
		}
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&e)
		if made.Error != nil {
			return made.Error
		}
		if made.RowsAffected == 0 {
			return domain.E(domain.Conflict, "already_scheduled", "This erasure is scheduled already.")
		}
		if err := s.Queue.Enqueue(ctx, EraseJob{}, domain.JobOptions{At: e.DueAt}); err != nil {
			return err
		}
		if err := s.Audit.Record(ctx, audit.Entry{Action: "privacy.erasure", Target: e.ID, Tenant: e.TenantID, Detail: map[string]any{"scope": e.Scope, "due_at": e.DueAt}}); err != nil {
			return err
		}
		if s.Mail == nil || days == 0 {
			return nil
		}
		return s.Mail(ctx, domain.Mail{Template: "erasure_scheduled", To: to.Email, Locale: to.Locale,
			Data: map[string]string{"name": to.FullName, "time": e.DueAt.Format("2006-01-02 15:04 UTC"), "url": s.page("/app/privacy")}})
	})
	return e, err
}

// alone gives the tenants that the person is alone in, and refuses where others
// would be left without an owner. It runs in a system transaction.
func (s *Service) alone(ctx context.Context, user string) ([]string, error) {
	var rows []struct {
		TenantID       string
		Role           string
		People, Owners int64
	}
	err := s.Store.SQL(ctx, `SELECT m.tenant_id, m.role, (SELECT count(*) FROM memberships o WHERE o.tenant_id = m.tenant_id) AS people,
		(SELECT count(*) FROM memberships o WHERE o.tenant_id = m.tenant_id AND o.role = 'owner') AS owners
		FROM memberships m WHERE m.user_id = @user`, map[string]any{"user": user}).Scan(&rows).Error
	var out []string
	for _, r := range rows {
		switch {
		case r.People == 1:
			out = append(out, r.TenantID)
		case r.Role == "owner" && r.Owners == 1:
			return nil, domain.E(domain.Conflict, "last_owner", "A tenant keeps at least one owner.")
		}
	}
	return out, err
}

// Erasures lists the caller's own, newest first.
func (s *Service) Erasures(ctx context.Context, in domain.PageRequest) (page domain.Page[Erasure], err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(domain.System(ctx, "a person's own erasures"), func(ctx context.Context) error {
		page, err = store.Newest(s.Store.For(ctx).Where("requested_by = ?", scope.Actor.ID), in, func(e Erasure) string { return e.ID })
		if err != nil {
			return err
		}
		for i := range page.Data {
			if page.Data[i].Holds, err = s.reasons(ctx, page.Data[i].Subject); err != nil {
				return err
			}
		}
		return nil
	})
	return page, err
}

func (s *Service) reasons(ctx context.Context, subject string) ([]string, error) {
	out := []string{}
	return out, s.Store.For(ctx).Model(&Hold{}).Where("subject = ? AND released_at IS NULL", subject).Order("id").Pluck("reason", &out).Error
}

// GetErasure is one of the caller's own.
func (s *Service) GetErasure(ctx context.Context, in IDRequest) (e Erasure, err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(domain.System(ctx, "a person's own erasures"), func(ctx context.Context) error {
		if err := s.Store.For(ctx).Where("id = ? AND requested_by = ?", in.ID, scope.Actor.ID).Take(&e).Error; err != nil {
			return err
		}
		e.Holds, err = s.reasons(ctx, e.Subject)
		return err
	})
	return e, err
}

// CancelErasure takes it back before it is done.
func (s *Service) CancelErasure(ctx context.Context, in IDRequest) error {
	e, err := s.GetErasure(ctx, in)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "erasure"), func(ctx context.Context) error {
		res := s.Store.For(ctx).Model(&Erasure{}).Where("tenant_id = ? AND id = ? AND status IN ('scheduled', 'held')", e.TenantID, e.ID).
			Updates(map[string]any{"status": "cancelled", "ended_at": s.Now().UTC()})
		if res.Error != nil {
			return res.Error
		}
		if res.RowsAffected == 0 {
			return domain.E(domain.Conflict, "conflict", "This erasure is over.")
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "privacy.erasure_cancel", Target: e.ID, Tenant: e.TenantID})
	})
}

// PutHold keeps a subject from being erased; for an operator.
func (s *Service) PutHold(ctx context.Context, subject, reason, author string) (h Hold, err error) {
	if strings.TrimSpace(reason) == "" {
		return h, domain.InvalidField("reason", "required", "Say why.")
	}
	own := domain.TenantOf(ctx)
	h = Hold{ID: domain.NewID("hld"), Subject: subject, Reason: reason, Author: author, CreatedAt: s.Now().UTC()}
	return h, s.Store.Tx(domain.System(ctx, "legal hold"), func(ctx context.Context) error {
		var there int64
		err := s.Store.SQL(ctx, "SELECT (SELECT count(*) FROM users WHERE id = @id) + (SELECT count(*) FROM tenants WHERE id = @id)", map[string]any{"id": subject}).Scan(&there).Error
		if err == nil && there == 0 {
			err = domain.InvalidField("subject", "unknown", "There is no such person or tenant.")
		}
		if err == nil {
			err = s.Store.For(ctx).Create(&h).Error
		}
		if err != nil {
			return err
		}
		return s.recordHold(ctx, "hold.put", h, own)
	})
}

// ReleaseHold lets go; an erasure that waited for it goes on by itself.
func (s *Service) ReleaseHold(ctx context.Context, id string) error {
	own := domain.TenantOf(ctx)
	return s.Store.Tx(domain.System(ctx, "legal hold"), func(ctx context.Context) error {
		var h Hold
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ? AND released_at IS NULL", id).Take(&h).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Model(&Hold{}).Where("id = ?", id).Update("released_at", s.Now().UTC()).Error; err != nil {
			return err
		}
		if err := s.recordHold(ctx, "hold.release", h, own); err != nil {
			return err
		}
		return s.Queue.Enqueue(ctx, EraseJob{}, domain.JobOptions{})
	})
}

// recordHold tells the tenant that is held; that a person is held is no
// business of their tenants, and stands on the administrator's record.
func (s *Service) recordHold(ctx context.Context, action string, h Hold, own string) error {
	tenant := own
	if domain.ValidID("ten", h.Subject) {
		tenant = h.Subject
	}
	if tenant == "" { // a command, on a person: the row itself tells of it
		return nil
	}
	return s.Audit.Record(ctx, audit.Entry{Action: action, Target: h.ID, Tenant: tenant, Detail: map[string]any{"subject": h.Subject}})
}

// HoldRequest asks for a hold.
type HoldRequest struct {
	Subject string `json:"subject" maxLength:"64" doc:"id of the person (usr_…) or the tenant (ten_…)"`
	Reason  string `json:"reason" minLength:"3" maxLength:"500" doc:"shown to who asked for the erasure"`
}

// Hold is PutHold by a platform administrator.
func (s *Service) Hold(ctx context.Context, in HoldRequest) (Hold, error) {
	scope, _ := domain.ScopeOf(ctx)
	return s.PutHold(ctx, in.Subject, in.Reason, scope.Actor.ID)
}

// Release is ReleaseHold by one.
func (s *Service) Release(ctx context.Context, in IDRequest) error { return s.ReleaseHold(ctx, in.ID) }

// HoldsRequest asks for holds.
type HoldsRequest struct {
	domain.PageRequest
	Subject string `query:"subject" maxLength:"64"`
}

// Holds lists the holds that are in force, newest first.
func (s *Service) Holds(ctx context.Context, in HoldsRequest) (page domain.Page[Hold], err error) {
	own := domain.TenantOf(ctx)
	err = s.Store.Tx(domain.System(ctx, "legal hold"), func(ctx context.Context) error {
		q := s.Store.For(ctx).Where("released_at IS NULL")
		if in.Subject != "" {
			q = q.Where("subject = ?", in.Subject)
		}
		if page, err = store.Newest(q, in.PageRequest, func(h Hold) string { return h.ID }); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "admin.find_holds", Tenant: own})
	})
	return page, err
}

// EraseJob does every erasure that is due.
type EraseJob struct{}

// Kind is the queue's.
func (EraseJob) Kind() string { return "privacy.erase" }

// RunErase works the job.
func (s *Service) RunErase(ctx context.Context, _ EraseJob) error {
	sys := domain.System(ctx, "erasure")
	var due []Erasure
	err := s.Store.Read(sys, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("status IN ('scheduled', 'held') AND due_at <= ?", s.Now().UTC()).Order("due_at").Limit(1000).Find(&due).Error
	})
	if err != nil {
		return err
	}
	for _, e := range due {
		err = errors.Join(err, s.finish(sys, e))
	}
	return err
}

func (s *Service) finish(ctx context.Context, e Erasure) error {
	var holds []string
	err := s.Store.Read(ctx, func(ctx context.Context) (err error) { holds, err = s.reasons(ctx, e.Subject); return err })
	if err != nil {
		return err
	}
	end := func(ctx context.Context, status string, at *time.Time) error {
		return s.Store.For(ctx).Model(&Erasure{}).Where("tenant_id = ? AND id = ? AND status IN ('scheduled', 'held')", e.TenantID, e.ID).
			Updates(map[string]any{"status": status, "ended_at": at}).Error
	}
	if len(holds) > 0 {
		return s.Store.Tx(ctx, func(ctx context.Context) error { return end(ctx, "held", nil) })
	}
	// Before anything goes: a tenant that is no more must not be charged. Where the
	// payment service does not answer, the erasure waits and is tried again.
	if err := s.leave(ctx, e.Subject); err != nil {
		return fmt.Errorf("the erasure of %s waits for the end of its subscription: %w", e.Subject, err)
	}
	// The ledger first: if we die after it, the start does the rest.
	if err := s.note(e.Subject); err != nil {
		return err
	}
	if err := s.erase(ctx, e.Subject); err != nil {
		return err
	}
	now := s.Now().UTC()
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := end(ctx, "done", &now); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "privacy.erased", Target: e.Subject, Tenant: e.TenantID})
	})
}

// leave ends the subscriptions of the tenants that go with the subject.
func (s *Service) leave(ctx context.Context, subject string) error {
	going := []string{subject}
	if !domain.ValidID("ten", subject) {
		err := s.Store.Read(domain.System(ctx, "erasure"), func(ctx context.Context) (err error) { going, err = s.alone(ctx, subject); return err })
		if err != nil {
			return err
		}
	}
	for _, tenant := range going {
		if s.Leave == nil {
			break
		}
		if err := s.Leave(ctx, tenant); err != nil {
			return err
		}
	}
	return nil
}

// erase takes the subject out, as the register says. Done twice it does nothing
// the second time.
func (s *Service) erase(ctx context.Context, subject string) error {
	var files []string // whose names begin with these ids
	email, asked, err := s.forgetMail(ctx, subject)
	if err != nil {
		return err
	}
	err = s.Store.Tx(domain.System(ctx, "erasure"), func(ctx context.Context) error {
		if domain.ValidID("ten", subject) {
			var err error
			files, err = s.eraseTenant(ctx, subject)
			return err
		}
		mine, err := s.alone(ctx, subject)
		if err != nil {
			return err
		}
		for _, tenant := range mine {
			more, err := s.eraseTenant(ctx, tenant)
			if err != nil {
				return err
			}
			files = append(files, more...)
		}
		more, err := s.erasePerson(ctx, subject, email)
		files = append(files, more...)
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{s.Dir, s.Uploads} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, f := range entries {
			if slices.ContainsFunc(files, func(id string) bool { return strings.HasPrefix(f.Name(), id) }) {
				if err := os.Remove(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
		}
	}
	if err := s.sweepOutbox(email, asked); err != nil {
		return err
	}
	return s.scrub(ctx)
}

// forgetMail removes what waits to be mailed to the person, before the address is
// erased and nobody could find it, and gives it. The address that they asked to
// move to is not known to be theirs: what waits for it goes out, and only the
// copies in the outbox are swept, which name the person.
func (s *Service) forgetMail(ctx context.Context, subject string) (email, asked string, err error) {
	var row struct{ Email, NewEmail string }
	err = s.Store.Read(domain.System(ctx, "erasure"), func(ctx context.Context) error {
		return s.Store.SQL(ctx, "SELECT email, new_email FROM users WHERE id = @user", map[string]any{"user": subject}).Scan(&row).Error
	})
	if err != nil || row.Email == "" || s.ForgetMail == nil {
		return row.Email, row.NewEmail, err
	}
	return row.Email, row.NewEmail, s.ForgetMail(ctx, row.Email)
}

func (s *Service) ids(ctx context.Context, query, subject string) (out []string, err error) {
	return out, s.Store.SQL(ctx, query, map[string]any{"subject": subject}).Scan(&out).Error
}

// erasePerson does what the register says of the person's rows.
func (s *Service) erasePerson(ctx context.Context, user, email string) (files []string, err error) {
	if files, err = s.ids(ctx, "SELECT id FROM privacy_exports WHERE user_id = @subject", user); err != nil {
		return nil, err
	}
	homes, err := s.ids(ctx, "SELECT tenant_id FROM memberships WHERE user_id = @subject", user)
	if err != nil {
		return nil, err
	}
	for _, tenant := range homes {
		if err := s.Seats(ctx, tenant, -1); err != nil {
			return nil, err
		}
		if err := s.Audit.Record(ctx, audit.Entry{Action: "member.erased", Target: user, Tenant: tenant}); err != nil {
			return nil, err
		}
	}
	args := map[string]any{"user": user, "email": email, "now": s.Now().UTC()}
	statements := []string{
		"UPDATE api_keys SET revoked_at = @now WHERE created_by = @user AND revoked_at IS NULL",
		"DELETE FROM invitations WHERE email = @email AND email <> ''",
	}
	for _, r := range slices.Backward(s.register) {
		switch r.erase {
		case "delete":
			statements = append(statements, "DELETE FROM "+r.Table+" WHERE "+r.person)
		case "blank":
			var set []string
			for _, c := range r.columns("contact", "network", "credential") {
				value := "''"
				if c == "email" { // unique
					value = "'erased-' || id"
				}
				set = append(set, c+" = "+value)
			}
			statements = append(statements, "UPDATE "+r.Table+" SET "+strings.Join(set, ", ")+" WHERE "+r.person)
		}
	}
	for _, statement := range statements {
		if _, err := s.Store.Exec(ctx, statement, args); err != nil {
			return nil, err
		}
	}
	return files, s.Subjects.Destroy(ctx, user)
}

// eraseTenant deletes every row of the tenant but its record, which names
// nobody, and leaves its id.
func (s *Service) eraseTenant(ctx context.Context, tenant string) (files []string, err error) {
	for _, query := range []string{"SELECT id FROM dataset_imports WHERE tenant_id = @subject", "SELECT id FROM match_jobs WHERE tenant_id = @subject",
		"SELECT id FROM privacy_exports WHERE tenant_id = @subject"} {
		more, err := s.ids(ctx, query, tenant)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	args := map[string]any{"owner": tenant, "now": s.Now().UTC()}
	for _, r := range slices.Backward(s.register) {
		where := "tenant_id = @owner"
		switch {
		case r.tenant == "keep", r.tenant == "" && !r.tenantOwned():
			continue
		case r.tenant != "":
			where = r.tenant
		}
		if _, err := s.Store.Exec(ctx, "DELETE FROM "+r.Table+" WHERE "+where, args); err != nil {
			return nil, err
		}
	}
	_, err = s.Store.Exec(ctx, "UPDATE tenants SET name = '', slug = 'erased-' || id, settings = '{}', status = 'suspended', updated_at = @now WHERE id = @owner", args)
	return files, err
}

// sweepOutbox removes kept mails to the addresses.
func (s *Service) sweepOutbox(addresses ...string) error {
	names, err := filepath.Glob(filepath.Join(s.Outbox, "*.eml"))
	if err != nil || strings.Join(addresses, "") == "" {
		return err
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		msg, err := netmail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			continue
		}
		to, err := msg.Header.AddressList("To")
		if err == nil && slices.ContainsFunc(to, func(a *netmail.Address) bool {
			return slices.ContainsFunc(addresses, func(address string) bool { return strings.EqualFold(a.Address, address) })
		}) {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// scrub takes what was deleted out of the files of an embedded database: its
// pages were overwritten (store, secure_delete), and the log of changes, which
// still shows them as they were, is emptied. PostgreSQL keeps old rows until a
// VACUUM FULL and in its own log: there the operator's schedule does it.
func (s *Service) scrub(ctx context.Context) error {
	if s.Store.Dialect() != store.SQLite {
		return nil
	}
	for range 50 { // a reader may hold it up for a moment
		var busy, pages, moved int
		if err := s.Store.SQLDB().QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
			return err
		}
		if busy == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	s.Logger.Warn("the database log is in use: what was erased leaves it with the next checkpoint")
	return nil
}

// entry is a line of the ledger: an id and a time, nothing of the person.
type entry struct {
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
}

func (s *Service) note(subject string) error {
	line, err := json.Marshal(entry{subject, s.Now().UTC()})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.Ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "\n%s\n", line) // the line before may have been cut short, by a full disk say
	return errors.Join(err, f.Sync(), f.Close())
}

// Replay does again, before anything is served, what the ledger says was erased
// and a restored database has back.
func (s *Service) Replay(ctx context.Context) error {
	raw, err := os.ReadFile(s.Ledger)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	done := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) != nil || done[e.Subject] {
			continue
		}
		done[e.Subject] = true
		var back int64
		err := s.Store.Read(domain.System(ctx, "erasures after a restore"), func(ctx context.Context) error {
			return s.Store.SQL(ctx, `SELECT (SELECT count(*) FROM users WHERE id = @id AND email <> 'erased-' || id)
				+ (SELECT count(*) FROM tenants WHERE id = @id AND slug <> 'erased-' || id)`, map[string]any{"id": e.Subject}).Scan(&back).Error
		})
		if err == nil && back > 0 {
			s.Logger.Warn("erasing again what a restored database has back", "subject", e.Subject)
			if err = s.erase(ctx, e.Subject); err == nil && s.DropMail != nil {
				err = s.DropMail(ctx, e.At) // mails of before are stale, and may be to the erased
			}
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

var _ = domain.Chinese(map[string]string{
	"This erasure is scheduled already.": "该删除请求已在计划中。",
	"A tenant keeps at least one owner.": "租户至少保留一名所有者。",
	"This erasure is over.":              "该删除请求已结束。",
	"Say why.":                           "请说明原因。",
	"There is no such person or tenant.": "没有这样的人员或租户。",
})
