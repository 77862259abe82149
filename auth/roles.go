package auth

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"
	lru "github.com/hashicorp/golang-lru/v2"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// permissionList is every permission there is, as object:action. Its order is
// that of the bits in a mask: add at the end.
var permissionList = strings.Fields(`tenant:read tenant:write member:read member:write role:read role:write
	api_key:read api_key:write audit:read billing:read billing:write usage:read dataset:read dataset:write dataset:delete
	match:run matching:read matching:write research:run research:read webhook:read webhook:write
	privacy:export privacy:erase`)

// KnownPermission reports whether p is on the list.
func KnownPermission(p string) bool { return slices.Contains(permissionList, p) }

// builtIn are the roles that every tenant has. Their policy is policy.csv.
var builtIn = []string{"owner", "admin", "analyst", "viewer", "billing"}

//go:embed model.conf
var casbinModel string

//go:embed policy.csv
var builtInPolicy string

// policies answers what a role may do in a tenant. Casbin decides; its answers
// for a role are kept as a mask of bits. Each tenant with roles of its own has
// an enforcer of its own with some dozens of lines: one shared enforcer walks
// every tenant's lines on every question and takes 72 ms at 10,000 tenants
// (reference/gateway.md §2.2). Casbin's cached enforcers are not used: they keep
// revoked permissions, and their key joins values so that one tenant's question
// can read another's answer.
//
// A kept mask belongs to a version of the tenant's policy. Every change of a
// role counts the version up in its own transaction, and every process reads
// the version anew after policyFresh, so a permission that is taken away is gone
// within a second everywhere.
type policies struct {
	store *store.Store
	now   func() time.Time
	masks *lru.Cache[string, uint64] // role of policy.csv, or tenant|role|version

	mu       sync.Mutex
	versions map[string]policyVersion // by tenant
}

type policyVersion struct {
	version int64
	read    time.Time
}

const policyFresh = 400 * time.Millisecond

func newPolicies(st *store.Store, now func() time.Time) *policies {
	masks, _ := lru.New[string, uint64](50_000)
	return &policies{store: st, now: now, masks: masks, versions: map[string]policyVersion{}}
}

// Role is a set of permissions: built in, or the tenant's own.
type Role struct {
	store.Owned
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Permissions list      `json:"permissions" nullable:"false"`
	BuiltIn     bool      `json:"built_in" gorm:"-"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

type tenantPolicy struct {
	store.Owned
	Version int64
}

func (tenantPolicy) TableName() string { return "tenant_policies" }

// newEnforcer makes an enforcer with the built-in lines and the roles of one
// tenant.
func newEnforcer(own []Role) (*casbin.Enforcer, error) {
	m, err := model.NewModelFromString(casbinModel)
	if err != nil {
		return nil, err
	}
	e, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(strings.TrimSpace(builtInPolicy), "\n") {
		f := strings.Split(line, ", ")
		if len(f) != 4 {
			return nil, fmt.Errorf("policy.csv: %q", line)
		}
		if _, err := e.AddPolicy(f[1], f[2], f[3]); err != nil {
			return nil, err
		}
	}
	for _, role := range own {
		for _, p := range role.Permissions {
			object, action, _ := strings.Cut(p, ":")
			if _, err := e.AddPolicy(role.ID, object, action); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

// may reports whether the role has the permission in the tenant.
func (p *policies) may(ctx context.Context, tenant, role, permission string) (bool, error) {
	bit := slices.Index(permissionList, permission)
	if bit < 0 {
		return false, nil
	}
	mask, err := p.mask(ctx, tenant, role)
	return mask&(1<<bit) != 0, err
}

// mask is everything that the role may do in the tenant. It asks in the
// transaction of ctx where there is one.
func (p *policies) mask(ctx context.Context, tenant, role string) (uint64, error) {
	key := role
	var own []Role
	if !slices.Contains(builtIn, role) {
		if !domain.ValidID("rol", role) {
			return 0, nil
		}
		version, err := p.version(ctx, tenant)
		if err != nil {
			return 0, err
		}
		key = fmt.Sprintf("%s|%s|%d", tenant, role, version)
	}
	if mask, ok := p.masks.Get(key); ok {
		return mask, nil
	}
	if key != role {
		err := p.store.Read(ctx, func(ctx context.Context) error {
			return p.store.For(ctx).Where("tenant_id = ?", tenant).Find(&own).Error
		})
		if err != nil {
			return 0, err
		}
	}
	e, err := newEnforcer(own)
	if err != nil {
		return 0, err
	}
	var mask uint64
	for bit, permission := range permissionList {
		object, action, _ := strings.Cut(permission, ":")
		ok, err := e.Enforce(role, tenant, object, action)
		if err != nil {
			return 0, err
		}
		if ok {
			mask |= 1 << bit
		}
	}
	p.masks.Add(key, mask)
	return mask, nil
}

func (p *policies) version(ctx context.Context, tenant string) (int64, error) {
	now := p.now()
	p.mu.Lock()
	v, ok := p.versions[tenant]
	p.mu.Unlock()
	if ok && now.Sub(v.read) < policyFresh {
		return v.version, nil
	}
	var row tenantPolicy
	err := p.store.Read(ctx, func(ctx context.Context) error {
		return p.store.For(ctx).Where("tenant_id = ?", tenant).Limit(1).Find(&row).Error
	})
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	if len(p.versions) > 50_000 {
		clear(p.versions)
	}
	p.versions[tenant] = policyVersion{row.Version, now}
	p.mu.Unlock()
	return row.Version, nil
}

// change counts the tenant's policy up in the transaction of ctx.
func (p *policies) change(ctx context.Context, tenant string) error {
	row := tenantPolicy{Owned: store.Owned{TenantID: tenant}, Version: 1}
	_, err := p.store.Exec(ctx, `INSERT INTO tenant_policies (tenant_id, version) VALUES (@tenant, 1)
		ON CONFLICT (tenant_id) DO UPDATE SET version = tenant_policies.version + 1`, nil)
	p.store.AfterCommit(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.versions, row.TenantID)
	})
	return err
}

// PermissionInfo is one permission and the built-in roles that have it.
type PermissionInfo struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles" nullable:"false" doc:"built-in roles that have it"`
}

// Permissions is the list that roles and scopes are made of.
func (s *Service) Permissions(ctx context.Context, _ struct{}) (domain.Page[PermissionInfo], error) {
	var out []PermissionInfo
	for bit, name := range permissionList {
		info := PermissionInfo{Name: name, Roles: []string{}}
		for _, role := range builtIn {
			mask, err := s.policies.mask(ctx, "", role)
			if err != nil {
				return domain.Page[PermissionInfo]{}, err
			}
			if mask&(1<<bit) != 0 {
				info.Roles = append(info.Roles, role)
			}
		}
		out = append(out, info)
	}
	return domain.NewPage(out, len(out), func(i PermissionInfo) string { return i.Name }), nil
}

// Roles lists the built-in roles and then the tenant's own.
func (s *Service) Roles(ctx context.Context, _ struct{}) (domain.Page[Role], error) {
	var out []Role
	for _, name := range builtIn {
		mask, err := s.policies.mask(ctx, "", name)
		if err != nil {
			return domain.Page[Role]{}, err
		}
		r := Role{ID: name, Name: name, BuiltIn: true, Permissions: list{}}
		for bit, p := range permissionList {
			if mask&(1<<bit) != 0 {
				r.Permissions = append(r.Permissions, p)
			}
		}
		out = append(out, r)
	}
	var own []Role
	err := s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Order("name").Find(&own).Error })
	out = append(out, own...)
	return domain.NewPage(out, len(out), func(r Role) string { return r.ID }), err
}

// CreateRoleRequest makes a role.
type CreateRoleRequest struct {
	Name        string   `json:"name" minLength:"1" maxLength:"60"`
	Description string   `json:"description,omitempty" maxLength:"500"`
	Permissions []string `json:"permissions" minItems:"1" maxItems:"64"`
}

const maxRoles = 50

// CreateRole makes a role of the tenant. Nobody can make a role that may do
// what they themselves may not.
func (s *Service) CreateRole(ctx context.Context, in CreateRoleRequest) (Role, error) {
	now := s.Now().UTC()
	r := Role{ID: domain.NewID("rol"), Name: strings.TrimSpace(in.Name), Description: in.Description, Permissions: in.Permissions, CreatedAt: now, UpdatedAt: now}
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.acceptableRole(ctx, r); err != nil {
			return err
		}
		var n int64
		if err := s.Store.For(ctx).Model(&Role{}).Count(&n).Error; err != nil {
			return err
		}
		if n >= maxRoles {
			return domain.E(domain.Conflict, "too_many_roles", "A tenant has at most %d roles of its own.", maxRoles)
		}
		if err := s.Store.For(ctx).Create(&r).Error; err != nil {
			return err
		}
		return s.roleChanged(ctx, "role.create", r)
	})
	return r, err
}

// AdoptRoles holds every role of the scope's tenant, which came with an archive
// in the transaction of ctx, to what one made by hand is held to.
func (s *Service) AdoptRoles(ctx context.Context) error {
	var rows []Role
	if err := s.Store.For(ctx).Order("id").Limit(maxRoles + 1).Find(&rows).Error; err != nil {
		return err
	}
	if len(rows) > maxRoles {
		return domain.E(domain.Conflict, "too_many_roles", "A tenant has at most %d roles of its own.", maxRoles)
	}
	for _, r := range rows {
		if err := s.acceptableRole(ctx, r); err != nil {
			return err
		}
	}
	return s.policies.change(ctx, domain.TenantOf(ctx))
}

func (s *Service) roleChanged(ctx context.Context, action string, r Role) error {
	if err := s.policies.change(ctx, r.TenantID); err != nil {
		return err
	}
	return s.Audit.Record(ctx, audit.Entry{Action: action, Target: r.ID, Detail: map[string]any{"name": r.Name, "permissions": r.Permissions}})
}

func (s *Service) acceptableRole(ctx context.Context, r Role) error {
	if slices.Contains(builtIn, strings.ToLower(r.Name)) || r.Name == "" {
		return domain.InvalidField("name", "not_allowed", "This is the name of a built-in role.")
	}
	mine, err := s.mine(ctx)
	if err != nil {
		return err
	}
	var wrong []domain.Field
	for i, p := range r.Permissions {
		bit := slices.Index(permissionList, p)
		switch {
		case bit < 0:
			wrong = append(wrong, domain.Violation(fmt.Sprintf("permissions[%d]", i), "unknown_permission", "There is no such permission."))
		case mine&(1<<bit) == 0:
			wrong = append(wrong, domain.Violation(fmt.Sprintf("permissions[%d]", i), "not_yours", "You cannot give what you may not do yourself."))
		}
	}
	if len(wrong) > 0 {
		return domain.Fields(wrong...)
	}
	return nil
}

// mine is what the person of the scope may do, read in the transaction of ctx.
func (s *Service) mine(ctx context.Context) (uint64, error) {
	scope, _ := domain.ScopeOf(ctx)
	var m membership
	if err := s.Store.For(ctx).Where("user_id = ?", scope.Actor.ID).Limit(1).Find(&m).Error; err != nil {
		return 0, err
	}
	return s.policies.mask(ctx, scope.Tenant, m.Role)
}

// Can reports whether the person of the scope has the permission now.
func (s *Service) Can(ctx context.Context, permission string) (ok bool, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		mine, err := s.mine(ctx)
		bit := slices.Index(permissionList, permission)
		ok = bit >= 0 && mine&(1<<bit) != 0
		return err
	})
	return ok, err
}

// RoleNames gives the names of the tenant's own roles, by id.
func (s *Service) RoleNames(ctx context.Context, ids []string) (map[string]string, error) {
	var found []Role
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Select("tenant_id", "id", "name").Where("id IN ?", ids).Find(&found).Error
	})
	out := map[string]string{}
	for _, r := range found {
		out[r.ID] = r.Name
	}
	return out, err
}

// RoleRequest names a role of the tenant.
type RoleRequest struct {
	ID string `path:"id"`
}

// UpdateRoleRequest changes a role.
type UpdateRoleRequest struct {
	ID          string    `path:"id"`
	Name        *string   `json:"name,omitempty" minLength:"1" maxLength:"60"`
	Description *string   `json:"description,omitempty" maxLength:"500"`
	Permissions *[]string `json:"permissions,omitempty" minItems:"1" maxItems:"64"`
}

// UpdateRole changes a role of the tenant; it bites at once for whoever has it.
func (s *Service) UpdateRole(ctx context.Context, in UpdateRoleRequest) (r Role, err error) {
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if r, err = s.ownRole(ctx, in.ID); err != nil {
			return err
		}
		if err := s.acceptableRole(ctx, r); err != nil { // above the caller's own: not theirs to change
			return notAbove(err)
		}
		if in.Name != nil {
			r.Name = strings.TrimSpace(*in.Name)
		}
		if in.Description != nil {
			r.Description = *in.Description
		}
		if in.Permissions != nil {
			r.Permissions = *in.Permissions
		}
		if err := s.acceptableRole(ctx, r); err != nil {
			return err
		}
		r.UpdatedAt = s.Now().UTC()
		change := map[string]any{"name": r.Name, "description": r.Description, "permissions": r.Permissions, "updated_at": r.UpdatedAt}
		err := s.rerank(ctx, r.ID, func() error { return s.Store.For(ctx).Model(&Role{}).Where("id = ?", r.ID).Updates(change).Error })
		if err != nil {
			return err
		}
		return s.roleChanged(ctx, "role.update", r)
	})
	return r, err
}

func notAbove(error) error {
	return domain.E(domain.Forbidden, "forbidden", "This role may do more than yours.")
}

func (s *Service) ownRole(ctx context.Context, id string) (r Role, err error) {
	return r, s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", id).Take(&r).Error
}

// DeleteRole removes a role that nobody has.
func (s *Service) DeleteRole(ctx context.Context, in RoleRequest) error {
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		r, err := s.ownRole(ctx, in.ID)
		if err != nil {
			return err
		}
		if err := s.acceptableRole(ctx, r); err != nil {
			return notAbove(err)
		}
		var members, invited, mapped, arriving int64
		if err := s.Store.For(ctx).Model(&membership{}).Where("role = ?", r.ID).Count(&members).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Model(&Invitation{}).Where("role = ? AND accepted_at IS NULL AND revoked_at IS NULL", r.ID).Count(&invited).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Model(&scimGroup{}).Where("role = ?", r.ID).Count(&mapped).Error; err != nil {
			return err
		}
		if err := s.Store.For(ctx).Model(&Connection{}).Where("default_role = ?", r.ID).Count(&arriving).Error; err != nil {
			return err
		}
		if members+invited+mapped+arriving > 0 {
			return domain.E(domain.Conflict, "role_in_use", "Members, invitations, groups of the directory or an identity provider still have this role.")
		}
		if err := s.Store.For(ctx).Where("id = ?", r.ID).Delete(&Role{}).Error; err != nil {
			return err
		}
		return s.roleChanged(ctx, "role.delete", r)
	})
}

// giveable checks that a role exists in the tenant and is not above what the
// caller may do.
func (s *Service) giveable(ctx context.Context, field, role string) error {
	mine, err := s.mine(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(builtIn, role) {
		var n int64
		if err := s.Store.For(ctx).Model(&Role{}).Where("id = ?", role).Count(&n).Error; err != nil {
			return err
		}
		if n == 0 {
			return domain.InvalidField(field, "unknown_role", "There is no such role.")
		}
	}
	mask, err := s.policies.mask(ctx, domain.TenantOf(ctx), role)
	if err != nil {
		return err
	}
	if mask&^mine != 0 {
		return notAbove(nil)
	}
	return nil
}

var _ = domain.Chinese(map[string]string{
	"A tenant has at most %d roles of its own.":                                                   "每个租户最多有 %d 个自定义角色。",
	"This is the name of a built-in role.":                                                        "这是内置角色的名称。",
	"There is no such permission.":                                                                "没有这个权限。",
	"You cannot give what you may not do yourself.":                                               "您不能授予自己没有的权限。",
	"This role may do more than yours.":                                                           "该角色的权限超出您的权限。",
	"Members, invitations, groups of the directory or an identity provider still have this role.": "仍有成员、邀请、目录组或身份提供商使用该角色。",
	"There is no such role.":                                                                      "没有这个角色。",
})
