package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"regexp"
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

// SCIM 2.0 (RFC 7643, RFC 7644): a tenant's directory says who its people are. It
// shows a token of its own, which opens nothing else and belongs to one tenant.
//
// A directory provisions members: of the tenant as it is, and new ones with
// addresses of a domain that the tenant has proved. What it deactivates loses the
// membership, and with it sessions, keys and invitations, within a second;
// activated again it gets the role back and nothing else. It neither sees nor
// changes what a person is elsewhere: names are kept beside the membership, and
// the address of an account is the person's to change.
//
// Its groups give roles where an administrator of the tenant says so: see
// scim_groups.go.
const maxSCIMTokens = 5

// SCIMToken lets a directory in.
type SCIMToken struct {
	store.Owned
	ID         string     `json:"id" gorm:"primaryKey"`
	Name       string     `json:"name"`
	Hash       string     `json:"-"`
	Power      int64      `json:"-"`
	CreatedBy  string     `json:"created_by"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at" nullable:"true"`
	RevokedAt  *time.Time `json:"-"`
}

// TableName is GORM's.
func (SCIMToken) TableName() string { return "scim_tokens" }

// NewSCIMToken is one with its secret, which is shown once.
type NewSCIMToken struct {
	SCIMToken
	Token   string `json:"token" doc:"shown once"`
	BaseURL string `json:"base_url" doc:"what the directory is told beside the token"`
}

// SCIMTokens lists those that work.
func (s *Service) SCIMTokens(ctx context.Context, in domain.PageRequest) (page domain.Page[SCIMToken], err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		page, err = store.Oldest(s.Store.For(ctx).Where("revoked_at IS NULL"), in, func(t SCIMToken) string { return t.ID })
		return err
	})
	return page, err
}

// CreateSCIMTokenRequest names one.
type CreateSCIMTokenRequest struct {
	Name string `json:"name" minLength:"1" maxLength:"60"`
}

// CreateSCIMToken makes a token. It never gives or takes a role that may do more
// than its maker might.
func (s *Service) CreateSCIMToken(ctx context.Context, in CreateSCIMTokenRequest) (out NewSCIMToken, err error) {
	scope, _ := domain.ScopeOf(ctx)
	out.Token, out.BaseURL = provisionerPrefix+newSecret(), s.link("/scim/v2")
	out.SCIMToken = SCIMToken{ID: domain.NewID("sct"), Name: strings.TrimSpace(in.Name), Hash: hashOf(out.Token), CreatedBy: scope.Actor.ID, CreatedAt: s.Now().UTC()}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		mine, err := s.mine(ctx)
		if err != nil {
			return err
		}
		out.Power = int64(mine)
		var n int64
		if err := s.Store.For(ctx).Model(&SCIMToken{}).Where("revoked_at IS NULL").Count(&n).Error; err != nil {
			return err
		}
		if n >= maxSCIMTokens {
			return domain.E(domain.Conflict, "conflict", "A tenant has at most %d tokens for directories.", maxSCIMTokens)
		}
		if err := s.Store.For(ctx).Create(&out.SCIMToken).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "scim_token.create", Target: out.ID, Detail: map[string]any{"name": out.Name}})
	})
	return out, err
}

// SCIMTokenRequest names one.
type SCIMTokenRequest struct {
	ID string `path:"id"`
}

// RevokeSCIMToken ends one at once.
func (s *Service) RevokeSCIMToken(ctx context.Context, in SCIMTokenRequest) error {
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		gone := s.Store.For(ctx).Model(&SCIMToken{}).Where("id = ? AND revoked_at IS NULL", in.ID).Update("revoked_at", s.Now().UTC())
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "scim_token.revoke", Target: in.ID})
	})
}

// provisionerPrefix begins a directory's token: scanners for secrets know it by
// this, and so does the guard chain.
const provisionerPrefix = "cr_scim_"

// Provisions reports whether a bearer token claims to be a directory's.
func Provisions(bearer string) bool { return strings.HasPrefix(bearer, provisionerPrefix) }

// byProvisioner reads the token's row at every call: a directory calls seldom,
// and a token that was revoked is refused at once.
func (s *Service) byProvisioner(ctx context.Context, token string) (p Principal, err error) {
	var row SCIMToken
	now, sys := s.Now().UTC(), domain.System(ctx, "authentication")
	err = s.Store.Read(sys, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("hash = ? AND revoked_at IS NULL", hashOf(token)).Limit(1).Find(&row).Error
	})
	if err == nil && row.ID == "" {
		err = domain.E(domain.Unauthenticated, "unauthenticated", "This token is not one of ours, or was revoked.")
	}
	if err == nil && (row.LastUsedAt == nil || now.Sub(*row.LastUsedAt) >= time.Minute) {
		err = s.Store.Tx(sys, func(ctx context.Context) error {
			return s.Store.For(ctx).Model(&SCIMToken{}).Where("tenant_id = ? AND id = ?", row.TenantID, row.ID).Update("last_used_at", now).Error
		})
	}
	return Principal{Kind: "scim", ID: row.ID, TenantID: row.TenantID}, err
}

// scimUser is a row of a directory's people.
type scimUser struct {
	store.Owned
	ID          string `gorm:"primaryKey"`
	UserID      string
	UserName    string
	Email       string
	ExternalID  string
	GivenName   string
	FamilyName  string
	DisplayName string
	Role        string
	Active      bool
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

func (scimUser) TableName() string { return "scim_users" }

// The schemas of RFC 7643 and RFC 7644 that we speak.
const (
	scimUserSchema  = "urn:ietf:params:scim:schemas:core:2.0:User"
	scimGroupSchema = "urn:ietf:params:scim:schemas:core:2.0:Group"
	scimListSchema  = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	scimPatch       = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
)

// SCIMName is a person's name in its parts.
type SCIMName struct {
	Formatted  string `json:"formatted,omitempty"`
	GivenName  string `json:"givenName,omitempty"`
	FamilyName string `json:"familyName,omitempty"`
}

// SCIMValue is one of several values: an address or a role.
type SCIMValue struct {
	Value   string `json:"value,omitempty"`
	Type    string `json:"type,omitempty"`
	Primary bool   `json:"primary,omitempty"`
}

// SCIMMeta is what we say of a resource.
type SCIMMeta struct {
	ResourceType string     `json:"resourceType"`
	Created      *time.Time `json:"created,omitempty"`
	LastModified *time.Time `json:"lastModified,omitempty"`
	Location     string     `json:"location"`
}

// SCIMUser is a person as a directory reads them.
type SCIMUser struct {
	Schemas     []string    `json:"schemas"`
	ID          string      `json:"id"`
	ExternalID  string      `json:"externalId,omitempty"`
	UserName    string      `json:"userName"`
	Name        SCIMName    `json:"name"`
	DisplayName string      `json:"displayName"`
	Emails      []SCIMValue `json:"emails"`
	Roles       []SCIMValue `json:"roles"`
	Active      bool        `json:"active"`
	Meta        SCIMMeta    `json:"meta"`
	made        bool
}

// Status is 201 where it was made now.
func (u SCIMUser) Status() int {
	if u.made {
		return 201
	}
	return 200
}

func (s *Service) asSCIM(r scimUser) SCIMUser {
	return SCIMUser{Schemas: []string{scimUserSchema}, ID: r.ID, ExternalID: r.ExternalID, UserName: r.UserName, DisplayName: r.DisplayName, Active: r.Active,
		Name:   SCIMName{Formatted: r.DisplayName, GivenName: r.GivenName, FamilyName: r.FamilyName},
		Emails: []SCIMValue{{Value: r.Email, Type: "work", Primary: true}}, Roles: []SCIMValue{{Value: r.Role, Primary: true}},
		Meta: SCIMMeta{"User", &r.CreatedAt, &r.UpdatedAt, s.link("/scim/v2/Users/" + r.ID)}}
}

// SCIMListRequest asks for people or groups.
type SCIMListRequest struct {
	Filter     string `query:"filter" maxLength:"500" doc:"an attribute, eq, a quoted value: userName, externalId, id or emails.value of people; displayName, externalId or id of groups"`
	StartIndex int    `query:"startIndex" default:"1"`
	Count      int    `query:"count" default:"100"`
}

// SCIMList is a page of resources.
type SCIMList[T any] struct {
	Schemas      []string `json:"schemas"`
	TotalResults int64    `json:"totalResults"`
	StartIndex   int      `json:"startIndex"`
	ItemsPerPage int      `json:"itemsPerPage"`
	Resources    []T      `json:"Resources"`
}

var scimFilter = regexp.MustCompile(`^\s*([A-Za-z.]+)\s+(?i:eq)\s+("(?:[^"\\]|\\.)*")\s*$`)

// listSCIM reads a page of rows. The conditions are those of a filter, by the
// attribute that it names: with its @value, or the same @folded where case says
// nothing.
func listSCIM[Row, T any](ctx context.Context, s *Service, in SCIMListRequest, conditions map[string]string, show func(context.Context, []Row) ([]T, error)) (out SCIMList[T], err error) {
	narrow := func(q *gorm.DB) *gorm.DB { return q }
	if in.Filter != "" {
		m, value := scimFilter.FindStringSubmatch(in.Filter), ""
		if m == nil || json.Unmarshal([]byte(m[2]), &value) != nil {
			return out, badFilter()
		}
		condition, ok := conditions[strings.ToLower(m[1])]
		if !ok {
			return out, badFilter()
		}
		narrow = func(q *gorm.DB) *gorm.DB {
			return q.Where(condition, map[string]any{"value": value, "folded": strings.ToLower(value)})
		}
	}
	count := max(0, min(in.Count, 200))
	out = SCIMList[T]{Schemas: []string{scimListSchema}, StartIndex: max(1, in.StartIndex), Resources: []T{}}
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		q := narrow(s.Store.For(ctx).Model(new(Row)))
		if err := q.Count(&out.TotalResults).Error; err != nil || count == 0 {
			return err
		}
		var rows []Row
		if err := q.Order("id").Offset(out.StartIndex - 1).Limit(count).Find(&rows).Error; err != nil || len(rows) == 0 {
			return err
		}
		out.Resources, err = show(ctx, rows)
		return err
	})
	out.ItemsPerPage = len(out.Resources)
	return out, err
}

// SCIMUsers lists those whom the directory provisioned.
func (s *Service) SCIMUsers(ctx context.Context, in SCIMListRequest) (SCIMList[SCIMUser], error) {
	conditions := map[string]string{"username": "(user_name = @value OR lower(user_name) = @folded)", // databases know less of small letters than we
		"externalid": "external_id = @value", "id": "id = @value", "emails.value": "email = @folded", "emails": "email = @folded"}
	return listSCIM(ctx, s, in, conditions, func(_ context.Context, rows []scimUser) (out []SCIMUser, err error) {
		for _, r := range rows {
			out = append(out, s.asSCIM(r))
		}
		return out, nil
	})
}

func badFilter() error {
	return domain.E(domain.Malformed, "invalidFilter", "The filter is not one that is understood here: use attribute eq \"value\".")
}

// SCIMUserRequest names one.
type SCIMUserRequest struct {
	ID string `path:"id"`
}

// SCIMUser is one of them.
func (s *Service) SCIMUser(ctx context.Context, in SCIMUserRequest) (out SCIMUser, err error) {
	var r scimUser
	err = s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Where("id = ?", in.ID).Take(&r).Error })
	return s.asSCIM(r), err
}

// SCIMCreateBody is a person as a directory writes them. What we do not keep is
// let pass, as RFC 7644 §3.3 asks.
type SCIMCreateBody struct {
	UserName    string      `json:"userName"`
	ExternalID  string      `json:"externalId,omitempty"`
	Name        SCIMName    `json:"name,omitempty"`
	DisplayName string      `json:"displayName,omitempty"`
	Emails      []SCIMValue `json:"emails,omitempty"`
	Roles       []SCIMValue `json:"roles,omitempty"`
	Active      *scimBool   `json:"active,omitempty"`
}

// SCIMUserBody is one who is there already.
type SCIMUserBody struct {
	ID string `path:"id" json:"-"`
	SCIMCreateBody
}

// scimBool is true, or "True" as Entra writes it.
type scimBool bool

// UnmarshalJSON is json's.
func (b *scimBool) UnmarshalJSON(raw []byte) error {
	v, err := strconv.ParseBool(strings.ToLower(strings.Trim(string(raw), `"`)))
	if err != nil {
		return domain.E(domain.Malformed, "invalidValue", "active is true or false.")
	}
	*b = scimBool(v)
	return nil
}

// address is the person's: the primary one, else the first, else the user name.
func (b SCIMCreateBody) address() string {
	if len(b.Emails) == 0 {
		return fold(b.UserName)
	}
	for _, e := range b.Emails {
		if e.Primary {
			return fold(e.Value)
		}
	}
	return fold(b.Emails[0].Value)
}

func (b SCIMCreateBody) write(r *scimUser) {
	r.UserName, r.ExternalID = clip(b.UserName, 254), clip(b.ExternalID, 254)
	r.GivenName, r.FamilyName, r.DisplayName = clip(b.Name.GivenName, 100), clip(b.Name.FamilyName, 100), b.DisplayName
	if r.DisplayName == "" {
		r.DisplayName = b.Name.Formatted
	}
	if r.DisplayName == "" {
		r.DisplayName = strings.TrimSpace(b.Name.GivenName + " " + b.Name.FamilyName)
	}
	r.DisplayName = clip(r.DisplayName, 200)
}

// CreateSCIMUser provisions a person.
func (s *Service) CreateSCIMUser(ctx context.Context, in SCIMCreateBody) (out SCIMUser, err error) {
	tenant := domain.TenantOf(ctx)
	email, now := in.address(), s.Now().UTC()
	if in.UserName == "" || !addressForm.MatchString(email) || len(email) > 254 {
		return out, domain.E(domain.Malformed, "invalidValue", "A person needs a userName and an e-mail address.")
	}
	ours, err := s.proves(ctx, tenant, email)
	if err != nil {
		return out, err
	}
	r := scimUser{Owned: store.Owned{TenantID: tenant}, ID: domain.NewID("scu"), Email: email, Active: true, CreatedAt: now, UpdatedAt: now}
	in.write(&r)
	if r.Role, err = s.provisionedRole(ctx, in.Roles); err != nil {
		return out, err
	}
	err = s.Store.Tx(domain.System(ctx, "provisioning by a tenant's directory"), func(ctx context.Context) error {
		var user User
		if err := s.Store.For(ctx).Where("email = ?", email).Limit(1).Find(&user).Error; err != nil {
			return err
		}
		var m membership
		if user.ID != "" {
			if err := s.Store.For(ctx).Where("tenant_id = ? AND user_id = ?", tenant, user.ID).Limit(1).Find(&m).Error; err != nil {
				return err
			}
		}
		// Whether an address has an account is told for members and for the
		// tenant's own domain alone.
		if m.ID == "" && !ours {
			return domain.E(domain.Malformed, "invalidValue", "The tenant has not proved the domain of this address: prove it, or invite the person.")
		}
		switch {
		case m.ID != "":
			r.Role = m.Role
		case user.ID == "":
			if user, err = s.newMember(ctx, tenant, email, r.DisplayName, r.Role, "scim"); err != nil {
				return err
			}
		default:
			if err := s.addMember(ctx, tenant, user.ID, r.Role, "scim"); err != nil {
				return err
			}
		}
		r.UserID = user.ID
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&r)
		if made.Error == nil && made.RowsAffected == 0 {
			return domain.E(domain.Conflict, "uniqueness", "This person is provisioned already.")
		}
		if made.Error != nil {
			return made.Error
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "scim.create", Target: r.ID, Tenant: tenant, Detail: map[string]any{"user": r.UserID, "role": r.Role}})
	})
	if err != nil {
		return out, err
	}
	if in.Active != nil && !bool(*in.Active) {
		out, err = s.changeSCIM(ctx, r.ID, func(r *scimUser) error { r.Active = false; return nil })
	} else {
		out = s.asSCIM(r)
	}
	out.made = true
	return out, err
}

var addressForm = regexp.MustCompile(`^[^\s@<>,;:"]+@[^\s@<>,;:"]+\.[^\s@<>,;:"]+$`)

// provisionedRole is the role that a directory asks for by its id or name, or
// that of who arrives first through the tenant's provider.
func (s *Service) provisionedRole(ctx context.Context, asked []SCIMValue) (role string, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		if len(asked) == 0 || asked[0].Value == "" {
			var c Connection
			if err := s.Store.For(ctx).Where("enabled").Order("id").Limit(1).Find(&c).Error; err != nil {
				return err
			}
			if role = c.DefaultRole; role == "" {
				role = "viewer"
			}
			return s.inPower(ctx, role)
		}
		if role = asked[0].Value; !slices.Contains(builtIn, role) {
			var own Role
			if err := s.Store.For(ctx).Where("id = ? OR name = ?", role, role).Limit(1).Find(&own).Error; err != nil {
				return err
			}
			if role = own.ID; role == "" {
				return domain.E(domain.Malformed, "invalidValue", "There is no such role.")
			}
		}
		return s.inPower(ctx, role)
	})
	return role, err
}

// inPower refuses a role that may do more than the token's maker might.
func (s *Service) inPower(ctx context.Context, role string) error {
	scope, _ := domain.ScopeOf(ctx)
	var token SCIMToken
	if err := s.Store.For(ctx).Where("id = ?", scope.Actor.ID).Take(&token).Error; err != nil {
		return err
	}
	mask, err := s.policies.mask(ctx, scope.Tenant, role)
	if err == nil && mask&^uint64(token.Power) != 0 {
		err = domain.E(domain.Forbidden, "forbidden", "This role may do more than who made the directory's token.")
	}
	return err
}

// changeSCIM changes one of them in one transaction: the row, and the membership
// that follows from it.
func (s *Service) changeSCIM(ctx context.Context, id string, change func(*scimUser) error) (SCIMUser, error) {
	var r scimUser
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		db := s.Store.For(ctx)
		if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", id).Take(&r).Error; err != nil {
			return err
		}
		was := r
		if err := change(&r); err != nil {
			return err
		}
		if r.Email != was.Email {
			return domain.E(domain.Malformed, "mutability", "The address of an account is its person's to change.")
		}
		if r == was {
			return nil
		}
		r.UpdatedAt = s.Now().UTC()
		to := map[string]any{"user_name": r.UserName, "external_id": r.ExternalID, "given_name": r.GivenName, "family_name": r.FamilyName, "display_name": r.DisplayName,
			"role": r.Role, "active": r.Active, "updated_at": r.UpdatedAt}
		if err := db.Model(&scimUser{}).Where("id = ?", r.ID).Updates(to).Error; err != nil {
			return err
		}
		if err := s.follow(ctx, was, r); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "scim.update", Target: r.ID, Detail: map[string]any{"user": r.UserID, "active": r.Active, "role": r.Role}})
	})
	return s.asSCIM(r), err
}

// follow brings the membership to where the row is, in its transaction. While
// groups give a role, that of the row waits.
func (s *Service) follow(ctx context.Context, was, r scimUser) error {
	var m membership
	if err := s.Store.For(ctx).Where("user_id = ?", r.UserID).Limit(1).Find(&m).Error; err != nil {
		return err
	}
	given, err := s.groupRoleOf(ctx, r.TenantID, r.UserID, true)
	if err != nil {
		return err
	}
	if r.Active && m.ID == "" {
		role, err := s.without(ctx, r)
		if err != nil {
			return err
		}
		if err := s.inPower(ctx, cmp.Or(given, role)); err != nil {
			return err
		}
		// The seat and the membership are the tenant's own rows.
		return s.addMember(ctx, r.TenantID, r.UserID, role, "scim")
	}
	if m.ID == "" || r.Active && (r.Role == was.Role || given != "") {
		return nil
	}
	if m, err = s.lockMember(ctx, m.ID); err != nil {
		return err
	}
	if err := s.inPower(ctx, m.Role); err != nil {
		return err
	}
	if r.Active {
		if err := s.notTheLastOwner(ctx, m); err != nil {
			return err
		}
		return s.setRole(ctx, m, r.Role)
	}
	if err := s.remove(ctx, m, "member.remove"); err != nil || given != "" {
		return err
	}
	return s.Store.For(ctx).Model(&scimUser{}).Where("id = ?", r.ID).Update("role", returning(m.Role)).Error
}

// returning is the role that a person has who is activated again: nobody becomes
// an owner that way.
func returning(role string) string {
	if role == "owner" {
		return "admin"
	}
	return role
}

// without is the role that a person has apart from groups. One that was deleted
// meanwhile leaves the least there is.
func (s *Service) without(ctx context.Context, r scimUser) (string, error) {
	if slices.Contains(builtIn, r.Role) {
		return returning(r.Role), nil
	}
	var n int64
	if err := s.Store.For(ctx).Model(&Role{}).Where("id = ?", r.Role).Count(&n).Error; err != nil || n > 0 {
		return r.Role, err
	}
	return "viewer", nil
}

// PutSCIMUser replaces what a directory says of a person.
func (s *Service) PutSCIMUser(ctx context.Context, in SCIMUserBody) (SCIMUser, error) {
	var role string
	if len(in.Roles) > 0 {
		var err error
		if role, err = s.provisionedRole(ctx, in.Roles); err != nil {
			return SCIMUser{}, err
		}
	}
	return s.changeSCIM(ctx, in.ID, func(r *scimUser) error {
		if in.UserName == "" {
			return domain.E(domain.Malformed, "invalidValue", "A person needs a userName and an e-mail address.")
		}
		in.write(r)
		r.Email = in.address()
		if role != "" {
			r.Role = role
		}
		r.Active = in.Active == nil || bool(*in.Active)
		return nil
	})
}

// SCIMPatchBody changes some of it.
type SCIMPatchBody struct {
	ID         string   `path:"id" json:"-"`
	Schemas    []string `json:"schemas"`
	Operations []struct {
		Op    string          `json:"op"`
		Path  string          `json:"path,omitempty"`
		Value json.RawMessage `json:"value,omitempty"`
	} `json:"Operations"`
}

// scimSet is one attribute that an operation changes.
type scimSet struct {
	op, path string // in small letters; as it was sent
	value    json.RawMessage
}

// sets takes the forms that Okta (a value that is an object, without a path) and
// Entra (a path, an op in capitals) send apart into attributes.
func (in SCIMPatchBody) sets() (sets []scimSet, err error) {
	if !slices.Contains(in.Schemas, scimPatch) || len(in.Operations) == 0 || len(in.Operations) > 100 {
		return nil, domain.E(domain.Malformed, "invalidSyntax", "This is not a PatchOp with operations.")
	}
	for _, o := range in.Operations {
		op := strings.ToLower(o.Op)
		if op != "add" && op != "replace" && op != "remove" {
			return nil, domain.E(domain.Malformed, "invalidSyntax", "An operation is add, replace or remove.")
		}
		if op == "remove" && o.Path == "" {
			return nil, domain.E(domain.Malformed, "noTarget", "What is to be removed needs a path.")
		}
		if o.Path != "" {
			sets = append(sets, scimSet{op, o.Path, o.Value})
			continue
		}
		var many map[string]json.RawMessage
		if err := json.Unmarshal(o.Value, &many); err != nil {
			return nil, domain.E(domain.Malformed, "invalidValue", "Without a path the value is an object.").Because(err)
		}
		for _, path := range slices.Backward(slices.Sorted(maps.Keys(many))) { // after name comes displayName, which is shown
			sets = append(sets, scimSet{op, path, many[path]})
		}
	}
	return sets, nil
}

// PatchSCIMUser changes some of what a directory says of a person.
func (s *Service) PatchSCIMUser(ctx context.Context, in SCIMPatchBody) (SCIMUser, error) {
	sets, err := in.sets()
	if err != nil {
		return SCIMUser{}, err
	}
	var role string
	for i, c := range sets {
		if c.op == "remove" {
			sets[i].value = json.RawMessage(`""`)
		}
	}
	for _, c := range sets {
		if attributeOf(c.path) != "roles" {
			continue
		}
		var many []SCIMValue
		var one string
		switch {
		case json.Unmarshal(c.value, &many) == nil && len(many) > 0:
			one = many[0].Value
		case json.Unmarshal(c.value, &one) != nil || one == "":
			return SCIMUser{}, domain.E(domain.Malformed, "invalidValue", "There is no such role.")
		}
		if role, err = s.provisionedRole(ctx, []SCIMValue{{Value: one}}); err != nil {
			return SCIMUser{}, err
		}
	}
	return s.changeSCIM(ctx, in.ID, func(r *scimUser) error {
		for _, c := range sets {
			if err := r.set(attributeOf(c.path), c.value); err != nil {
				return err
			}
		}
		if role != "" {
			r.Role = role
		}
		return nil
	})
}

// attributeOf is the attribute that a path leads to, in small letters, without
// the schema before it and the filter of a value in it.
func attributeOf(path string) string {
	path = strings.ToLower(path)
	for _, schema := range []string{scimUserSchema, scimGroupSchema} {
		path = strings.TrimPrefix(path, strings.ToLower(schema)+":")
	}
	if open, shut := strings.IndexByte(path, '['), strings.IndexByte(path, ']'); open >= 0 && shut > open {
		path = path[:open] + path[shut+1:]
	}
	return path
}

// set changes one attribute; one that we do not keep is let pass.
func (r *scimUser) set(attribute string, value json.RawMessage) error {
	text := map[string]*string{"username": &r.UserName, "externalid": &r.ExternalID, "displayname": &r.DisplayName, "name.formatted": &r.DisplayName,
		"name.givenname": &r.GivenName, "name.familyname": &r.FamilyName}
	switch {
	case attribute == "active":
		var b scimBool
		if err := json.Unmarshal(value, &b); err != nil {
			return domain.E(domain.Malformed, "invalidValue", "active is true or false.").Because(err)
		}
		r.Active = bool(b)
	case text[attribute] != nil:
		var word *string
		if err := json.Unmarshal(value, &word); err != nil {
			return domain.E(domain.Malformed, "invalidValue", "%s is a string.", attribute).Because(err)
		}
		if word == nil {
			word = new(string)
		}
		if attribute == "username" && *word == "" {
			return domain.E(domain.Malformed, "invalidValue", "A person needs a userName and an e-mail address.")
		}
		*text[attribute] = clip(*word, 200)
	case attribute == "name":
		var parts map[string]json.RawMessage // those that are not there stay (RFC 7644 §3.5.2.3)
		if err := json.Unmarshal(value, &parts); err != nil {
			return domain.E(domain.Malformed, "invalidValue", "%s is an object.", attribute).Because(err)
		}
		for part, word := range parts {
			if err := r.set("name."+strings.ToLower(part), word); err != nil {
				return err
			}
		}
	case attribute == "emails" || attribute == "emails.value":
		var one string
		var many []SCIMValue
		if json.Unmarshal(value, &one) != nil && json.Unmarshal(value, &many) != nil {
			return domain.E(domain.Malformed, "invalidValue", "%s is an address, or a list of them.", attribute)
		}
		if len(many) > 0 {
			one = SCIMCreateBody{Emails: many}.address()
		}
		if one != "" {
			r.Email = fold(one)
		}
	}
	return nil
}

// DeleteSCIMUser takes a person out of the tenant and forgets what the directory
// said of them.
func (s *Service) DeleteSCIMUser(ctx context.Context, in SCIMUserRequest) error {
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		if _, err := s.changeSCIM(ctx, in.ID, func(r *scimUser) error { r.Active = false; return nil }); err != nil {
			return err
		}
		if err := s.Store.For(ctx).Where("id = ?", in.ID).Delete(&scimUser{}).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "scim.delete", Target: in.ID})
	})
}

// barred reports whether the tenant's directory has deactivated a person: no
// provider brings them back, in a system scope.
func (s *Service) barred(ctx context.Context, tenant, user string) (bool, error) {
	var n int64
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Model(&scimUser{}).Where("tenant_id = ? AND user_id = ? AND NOT active", tenant, user).Count(&n).Error
	})
	return n > 0, err
}

var _ = domain.Chinese(map[string]string{
	"A tenant has at most %d tokens for directories.":                                       "每个租户最多有 %d 个目录令牌。",
	"This token is not one of ours, or was revoked.":                                        "该令牌不是本系统签发的，或已被撤销。",
	"The filter is not one that is understood here: use attribute eq \"value\".":            "此处不支持该过滤条件：请使用 属性 eq \"值\"。",
	"active is true or false.":                                                              "active 为 true 或 false。",
	"A person needs a userName and an e-mail address.":                                      "人员需要 userName 和电子邮件地址。",
	"The tenant has not proved the domain of this address: prove it, or invite the person.": "租户尚未证明该地址的域名：请先证明，或邀请此人。",
	"This person is provisioned already.":                                                   "此人已由目录配置。",
	"This role may do more than who made the directory's token.":                            "该角色的权限超出目录令牌创建者的权限。",
	"The address of an account is its person's to change.":                                  "账户的地址只能由本人更改。",
	"This is not a PatchOp with operations.":                                                "这不是包含操作的 PatchOp。",
	"An operation is add, replace or remove.":                                               "操作只能是 add、replace 或 remove。",
	"What is to be removed needs a path.":                                                   "要移除的内容需要路径。",
	"Without a path the value is an object.":                                                "没有路径时，值必须是对象。",
	"%s is a string.":                                                                       "%s 是字符串。",
	"%s is an object.":                                                                      "%s 是对象。",
	"%s is an address, or a list of them.":                                                  "%s 是一个地址或地址列表。",
})
