package tenants

import (
	"context"
	"strings"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
)

// What platform administrators do to tenants. The edge lets nobody else in;
// each call is on the record of the tenant that it touches, and one that touches
// none on that of the administrator's own.

// Overview is a tenant as a platform administrator sees it.
type Overview struct {
	Tenant
	People int64 `json:"people" doc:"its members"`
}

const overview = `SELECT t.id, t.slug, t.name, t.locale, t.status, t.created_at, t.updated_at,
	(SELECT count(*) FROM memberships m WHERE m.tenant_id = t.id) AS people FROM tenants t WHERE `

// FindRequest looks for tenants.
type FindRequest struct {
	domain.PageRequest
	Query  string `query:"q" maxLength:"100" doc:"part of the name or the slug, or the whole id"`
	Status string `query:"status" enum:"active,suspended"`
}

// Find lists tenants, the newest first.
func (s *Service) Find(ctx context.Context, in FindRequest) (domain.Page[Overview], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[Overview]{}, err
	}
	var rows []Overview
	own := domain.TenantOf(ctx)
	err = s.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		where, args := "1 = 1", map[string]any{"limit": in.Size() + 1}
		if in.Query != "" {
			where += ` AND (t.id = @id OR lower(t.name) LIKE @part ESCAPE '\' OR t.slug LIKE @part ESCAPE '\')`
			args["id"], args["part"] = in.Query, domain.LikePart(in.Query)
		}
		if in.Status != "" {
			where, args["status"] = where+" AND t.status = @status", in.Status
		}
		if after != "" {
			where, args["after"] = where+" AND t.id < @after", after
		}
		if err := s.Store.SQL(ctx, overview+where+" ORDER BY t.id DESC LIMIT @limit", args).Scan(&rows).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "admin.find_tenants", Tenant: own})
	})
	return domain.NewPage(rows, in.Size(), func(o Overview) string { return o.ID }), err
}

// AdminRequest names a tenant.
type AdminRequest struct {
	ID string `path:"id"`
}

// AdminDetails is one tenant with what it decided for itself.
type AdminDetails struct {
	Overview
	Settings TenantSettings `json:"settings"`
	Domains  []Domain       `json:"domains" nullable:"false"`
}

// Inspect is one tenant.
func (s *Service) Inspect(ctx context.Context, in AdminRequest) (out AdminDetails, err error) {
	out.Domains = []Domain{}
	return out, s.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		row, err := s.row(ctx, in.ID)
		if err != nil {
			return err
		}
		if err := s.Store.SQL(ctx, overview+"t.id = @id", map[string]any{"id": in.ID}).Scan(&out.Overview).Error; err != nil {
			return err
		}
		if out.Settings, err = row.settings(); err != nil {
			return err
		}
		if err := s.Store.For(ctx).Where("tenant_id = ? AND status <> 'released'", in.ID).Order("name").Find(&out.Domains).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "admin.read_tenant", Target: in.ID, Tenant: in.ID})
	})
}

// Exists reads a tenant in the system transaction of ctx, or says that there is
// none.
func (s *Service) Exists(ctx context.Context, id string) (t Tenant, err error) {
	return t, s.Store.For(ctx).Where("id = ?", id).Take(&t).Error
}

// ReasonRequest names a tenant and says why.
type ReasonRequest struct {
	ID     string `path:"id"`
	Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"on the tenant's own record"`
}

// Suspend keeps a tenant's people and keys out, on every process within a
// second. Its data stays as it is.
func (s *Service) Suspend(ctx context.Context, in ReasonRequest) (AdminDetails, error) {
	return s.change(ctx, in, "suspended")
}

// Reactivate lets them in again.
func (s *Service) Reactivate(ctx context.Context, in ReasonRequest) (AdminDetails, error) {
	return s.change(ctx, in, "active")
}

func (s *Service) change(ctx context.Context, in ReasonRequest, status string) (AdminDetails, error) {
	if err := s.SetStatus(domain.System(ctx, "platform administration"), in.ID, status, in.Reason); err != nil {
		return AdminDetails{}, err
	}
	return s.Inspect(ctx, AdminRequest{in.ID})
}

// SetStatus suspends a tenant or lets it go on, in a system scope.
func (s *Service) SetStatus(ctx context.Context, tenant, status, reason string) error {
	var t Tenant
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		db := s.Store.For(ctx)
		if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", tenant).Take(&t).Error; err != nil {
			return err
		}
		if t.Status == status {
			return nil
		}
		if strings.HasPrefix(t.Slug, "erased-") {
			return domain.E(domain.Conflict, "conflict", "This tenant was erased.")
		}
		if err := db.Model(&Tenant{}).Where("id = ?", tenant).Updates(map[string]any{"status": status, "updated_at": s.Now().UTC()}).Error; err != nil {
			return err
		}
		action := map[string]string{"suspended": "tenant.suspend", "active": "tenant.resume"}[status]
		return s.Audit.Record(ctx, audit.Entry{Action: action, Target: tenant, Tenant: tenant, Detail: map[string]any{"reason": reason}})
	})
	s.forget(t)
	return err
}

var _ = domain.Chinese(map[string]string{"This tenant was erased.": "该租户的数据已被删除。"})
