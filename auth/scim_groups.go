package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Groups of a tenant's directory (RFC 7643 §4.2). A group by itself gives nothing:
// an administrator of the tenant maps it to a role that is not above their own,
// and from then on its members have that role here.
//
// Of several groups the role counts that may do the most, and of two that may do
// equally much the one whose id comes first. By hand such a person can become an
// owner and cease to be one, and nothing else: groups neither make nor unmake
// owners. Whoever is in no mapped group any more has the role again that they had
// before (scim_users.role). A role that may do more than who made the directory's
// token is neither given nor taken by a change of the directory's.
const (
	maxSCIMGroups  = 200  // one page of the portal
	maxSCIMMembers = 5000 // that come in one request
	oneStatement   = 5000 // ids: databases take no more than some ten thousand values
)

type scimGroup struct {
	store.Owned
	ID          string `gorm:"primaryKey"`
	DisplayName string
	Folded      string
	ExternalID  string
	Role        string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

func (scimGroup) TableName() string { return "scim_groups" }

type scimGroupMember struct {
	store.Owned
	GroupID  string
	PersonID string
}

func (scimGroupMember) TableName() string { return "scim_group_members" }

func (g *scimGroup) name(name string) error {
	g.DisplayName = clip(strings.TrimSpace(name), 200)
	if g.Folded = strings.ToLower(g.DisplayName); g.Folded == "" {
		return domain.E(domain.Malformed, "invalidValue", "A group needs a displayName.")
	}
	return nil
}

// SCIMMember is a person in a group.
type SCIMMember struct {
	Value   string `json:"value"`
	Display string `json:"display,omitempty"`
	Type    string `json:"type,omitempty"`
}

// SCIMGroup is a group as a directory reads it.
type SCIMGroup struct {
	Schemas     []string     `json:"schemas"`
	ID          string       `json:"id"`
	ExternalID  string       `json:"externalId,omitempty"`
	DisplayName string       `json:"displayName"`
	Members     []SCIMMember `json:"members,omitempty"`
	Meta        SCIMMeta     `json:"meta"`
}

// SCIMShown says what of a resource is shown (RFC 7644 §3.9); of a group it is the
// members that a directory does without, and they alone are left out.
type SCIMShown struct {
	Attributes         string `query:"attributes" maxLength:"500"`
	ExcludedAttributes string `query:"excludedAttributes" maxLength:"500" doc:"members leaves them out"`
}

func (in SCIMShown) members() bool {
	names := func(list string) bool {
		return slices.ContainsFunc(strings.Split(list, ","), func(path string) bool {
			name, _, _ := strings.Cut(attributeOf(strings.TrimSpace(path)), ".")
			return name == "members"
		})
	}
	return !names(in.ExcludedAttributes) && (in.Attributes == "" || names(in.Attributes))
}

// asGroups shows groups of the scope's tenant in the transaction of ctx.
func (s *Service) asGroups(ctx context.Context, members bool, rows ...scimGroup) ([]SCIMGroup, error) {
	out, at, ids := make([]SCIMGroup, len(rows)), map[string]int{}, make([]string, len(rows))
	for i, g := range rows {
		out[i] = SCIMGroup{Schemas: []string{scimGroupSchema}, ID: g.ID, ExternalID: g.ExternalID, DisplayName: g.DisplayName,
			Meta: SCIMMeta{"Group", &g.CreatedAt, &g.UpdatedAt, s.link("/scim/v2/Groups/" + g.ID)}}
		at[g.ID], ids[i] = i, g.ID
	}
	if !members {
		return out, nil
	}
	var people []struct{ GroupID, PersonID, DisplayName string }
	err := s.Store.SQL(ctx, `SELECT m.group_id, m.person_id, u.display_name FROM scim_group_members m
		JOIN scim_users u ON u.tenant_id = m.tenant_id AND u.id = m.person_id
		WHERE m.tenant_id = @tenant AND m.group_id IN @ids ORDER BY m.group_id, m.person_id`, map[string]any{"ids": ids}).Scan(&people).Error
	for _, p := range people {
		g := &out[at[p.GroupID]]
		g.Members = append(g.Members, SCIMMember{p.PersonID, p.DisplayName, "User"})
	}
	return out, err
}

// SCIMGroupsRequest asks for groups.
type SCIMGroupsRequest struct {
	SCIMListRequest
	SCIMShown
}

// SCIMGroups lists the groups of the directory.
func (s *Service) SCIMGroups(ctx context.Context, in SCIMGroupsRequest) (SCIMList[SCIMGroup], error) {
	conditions := map[string]string{"displayname": "folded = @folded", "externalid": "external_id = @value", "id": "id = @value"}
	return listSCIM(ctx, s, in.SCIMListRequest, conditions, func(ctx context.Context, rows []scimGroup) ([]SCIMGroup, error) {
		return s.asGroups(ctx, in.members(), rows...)
	})
}

// SCIMGroupRequest names one.
type SCIMGroupRequest struct {
	ID string `path:"id"`
	SCIMShown
}

// SCIMGroup is one of them.
func (s *Service) SCIMGroup(ctx context.Context, in SCIMGroupRequest) (out SCIMGroup, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		var g scimGroup
		if err := s.Store.For(ctx).Where("id = ?", in.ID).Take(&g).Error; err != nil {
			return err
		}
		shown, err := s.asGroups(ctx, in.members(), g)
		out = shown[0]
		return err
	})
	return out, err
}

// SCIMGroupBody is a group as a directory writes it.
type SCIMGroupBody struct {
	DisplayName string       `json:"displayName"`
	ExternalID  string       `json:"externalId,omitempty"`
	Members     []SCIMMember `json:"members,omitempty"`
}

// SCIMGroupPutBody is one that is there already.
type SCIMGroupPutBody struct {
	ID string `path:"id" json:"-"`
	SCIMGroupBody
}

// write replaces the whole of a group: members that are not named are members no
// more.
func (in SCIMGroupBody) write(g *scimGroup, members map[string]bool) error {
	g.ExternalID = clip(in.ExternalID, 254)
	clear(members)
	for _, m := range in.Members {
		members[m.Value] = true
	}
	return g.name(in.DisplayName)
}

// CreateSCIMGroup makes a group, which gives nothing yet.
func (s *Service) CreateSCIMGroup(ctx context.Context, in SCIMGroupBody) (out SCIMGroup, err error) {
	now := s.Now().UTC()
	g := scimGroup{ID: domain.NewID("scg"), CreatedAt: now, UpdatedAt: now}
	members := map[string]bool{}
	if err := in.write(&g, members); err != nil {
		return out, err
	}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		var n int64
		if err := s.Store.For(ctx).Model(&scimGroup{}).Count(&n).Error; err != nil {
			return err
		}
		if n >= maxSCIMGroups {
			return domain.E(domain.Conflict, "conflict", "A tenant has at most %d groups of a directory.", maxSCIMGroups)
		}
		made := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&g)
		if made.Error == nil && made.RowsAffected == 0 {
			return sameName()
		}
		if made.Error != nil {
			return made.Error
		}
		if err := s.enrol(ctx, g.ID, slices.Sorted(maps.Keys(members))); err != nil {
			return err
		}
		shown, err := s.asGroups(ctx, true, g)
		if err != nil {
			return err
		}
		out = shown[0]
		return s.Audit.Record(ctx, audit.Entry{Action: "scim_group.create", Target: g.ID, Detail: map[string]any{"name": g.DisplayName, "members": len(members)}})
	})
	return out, err
}

func sameName() error {
	return domain.E(domain.Conflict, "uniqueness", "There is a group of this name already.")
}

// enrol makes people of the directory members of a group.
func (s *Service) enrol(ctx context.Context, group string, people []string) error {
	if len(people) == 0 {
		return nil
	}
	var there int64
	if len(people) <= maxSCIMMembers {
		if err := s.Store.For(ctx).Model(&scimUser{}).Where("id IN ?", people).Count(&there).Error; err != nil {
			return err
		}
	}
	if there != int64(len(people)) {
		return domain.E(domain.Malformed, "invalidValue", "Members are people whom this directory provisioned, by their id, and at most %d at once.", maxSCIMMembers)
	}
	rows := make([]scimGroupMember, len(people))
	for i, id := range people {
		rows[i] = scimGroupMember{GroupID: group, PersonID: id}
	}
	return s.Store.For(ctx).CreateInBatches(&rows, 500).Error
}

// lockGroup reads a group and who is in it, and keeps others from changing either.
func (s *Service) lockGroup(ctx context.Context, id string) (g scimGroup, people []string, err error) {
	db := s.Store.For(ctx)
	if err := db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", id).Take(&g).Error; err != nil {
		return g, nil, err
	}
	return g, people, db.Model(&scimGroupMember{}).Where("group_id = ?", id).Order("person_id").Pluck("person_id", &people).Error
}

// changeGroup changes a group in one transaction, with the roles that follow.
func (s *Service) changeGroup(ctx context.Context, id string, change func(*scimGroup, map[string]bool) error) error {
	g, people, err := s.lockGroup(ctx, id)
	if err != nil {
		return err
	}
	was, members := g, map[string]bool{}
	for _, p := range people {
		members[p] = true
	}
	if err := change(&g, members); err != nil {
		return err
	}
	var left []string
	for _, p := range people {
		if !members[p] {
			left = append(left, p)
		}
		delete(members, p)
	}
	came := slices.Sorted(maps.Keys(members))
	if g == was && len(came)+len(left) == 0 {
		return nil
	}
	db := s.Store.For(ctx)
	if g.Folded != was.Folded {
		var n int64
		if err := db.Model(&scimGroup{}).Where("folded = ?", g.Folded).Count(&n).Error; err != nil {
			return err
		}
		if n > 0 {
			return sameName()
		}
	}
	to := map[string]any{"display_name": g.DisplayName, "folded": g.Folded, "external_id": g.ExternalID, "updated_at": s.Now().UTC()}
	if err := db.Model(&scimGroup{}).Where("id = ?", id).Updates(to).Error; err != nil {
		return err
	}
	err = s.regroup(ctx, slices.Concat(came, left), s.inPower, func() error {
		if err := s.enrol(ctx, id, came); err != nil {
			return err
		}
		for some := range slices.Chunk(left, oneStatement) {
			if err := db.Where("group_id = ? AND person_id IN ?", id, some).Delete(&scimGroupMember{}).Error; err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.Audit.Record(ctx, audit.Entry{Action: "scim_group.update", Target: id, Detail: map[string]any{"name": g.DisplayName, "added": len(came), "removed": len(left)}})
}

// PutSCIMGroup replaces a group and who is in it.
func (s *Service) PutSCIMGroup(ctx context.Context, in SCIMGroupPutBody) (out SCIMGroup, err error) {
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.changeGroup(ctx, in.ID, in.write); err != nil {
			return err
		}
		out, err = s.SCIMGroup(ctx, SCIMGroupRequest{ID: in.ID})
		return err
	})
	return out, err
}

// PatchSCIMGroup changes some of a group. It answers nothing, since a group may be
// large (RFC 7644 §3.5.2 leaves that to us).
func (s *Service) PatchSCIMGroup(ctx context.Context, in SCIMPatchBody) error {
	sets, err := in.sets()
	if err != nil {
		return err
	}
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		return s.changeGroup(ctx, in.ID, func(g *scimGroup, members map[string]bool) error {
			for _, c := range sets {
				if err := g.set(c, members); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// oneMember is the path by which Okta and Entra take one member away.
var oneMember = regexp.MustCompile(`^(?i:(?:` + regexp.QuoteMeta(scimGroupSchema) + `:)?members\[\s*value\s+eq)\s+("(?:[^"\\]|\\.)*")\s*\]$`)

// set changes one attribute; one that we do not keep is let pass.
func (g *scimGroup) set(c scimSet, members map[string]bool) error {
	if m := oneMember.FindStringSubmatch(c.path); m != nil {
		var id string
		if err := json.Unmarshal([]byte(m[1]), &id); err != nil || c.op != "remove" {
			return domain.E(domain.Malformed, "invalidPath", "One member by a filter can be removed, and nothing else.").Because(err)
		}
		delete(members, id)
		return nil
	}
	if strings.ContainsAny(c.path, "[]") || strings.HasPrefix(attributeOf(c.path), "members.") {
		return domain.E(domain.Malformed, "invalidPath", "Of members a path may name one: members[value eq \"id\"].")
	}
	none := len(c.value) == 0 || string(c.value) == "null"
	switch attributeOf(c.path) {
	case "displayname", "externalid":
		var word string
		if c.op != "remove" && !none {
			if err := json.Unmarshal(c.value, &word); err != nil {
				return domain.E(domain.Malformed, "invalidValue", "%s is a string.", c.path).Because(err)
			}
		}
		if attributeOf(c.path) == "displayname" {
			return g.name(word)
		}
		g.ExternalID = clip(word, 254)
	case "members":
		if c.op == "replace" || c.op == "remove" && none {
			clear(members)
		}
		if none && c.op != "add" {
			return nil
		}
		ids, err := memberIDs(c.value)
		for _, id := range ids {
			if c.op == "remove" {
				delete(members, id)
			} else {
				members[id] = true
			}
		}
		return err
	}
	return nil
}

// memberIDs reads a list of members, or a single one.
func memberIDs(value json.RawMessage) (ids []string, err error) {
	var many []SCIMMember
	if json.Unmarshal(value, &many) != nil {
		var one SCIMMember
		if json.Unmarshal(value, &one) != nil {
			err = domain.E(domain.Malformed, "invalidValue", "members is a list of objects with a value.")
		}
		many = []SCIMMember{one}
	}
	for _, m := range many {
		if ids = append(ids, m.Value); m.Value == "" {
			err = domain.E(domain.Malformed, "invalidValue", "members is a list of objects with a value.")
		}
	}
	return ids, err
}

// DeleteSCIMGroup takes a group away, and what it gave.
func (s *Service) DeleteSCIMGroup(ctx context.Context, in SCIMUserRequest) error {
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		g, people, err := s.lockGroup(ctx, in.ID)
		if err != nil {
			return err
		}
		err = s.regroup(ctx, people, s.inPower, func() error { return s.Store.For(ctx).Where("id = ?", g.ID).Delete(&scimGroup{}).Error })
		if err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "scim_group.delete", Target: g.ID, Detail: map[string]any{"name": g.DisplayName, "members": len(people)}})
	})
}

// DirectoryGroup is a group as the tenant's administrators see it.
type DirectoryGroup struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      *string   `json:"role" nullable:"true" doc:"what its members are here: a built-in role or the id of one of the tenant's own; null where it gives nothing"`
	Members   int64     `json:"members"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// DirectoryGroups lists the groups that the tenant's directory has told of.
func (s *Service) DirectoryGroups(ctx context.Context, in domain.PageRequest) (page domain.Page[DirectoryGroup], err error) {
	after, err := in.After()
	if err != nil {
		return page, err
	}
	var rows []DirectoryGroup
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		rows, err = s.directoryGroups(ctx, "id > @id", after, in.Size()+1)
		return err
	})
	return domain.NewPage(rows, in.Size(), func(g DirectoryGroup) string { return g.ID }), err
}

func (s *Service) directoryGroups(ctx context.Context, where, id string, limit int) (rows []DirectoryGroup, err error) {
	return rows, s.Store.SQL(ctx, `SELECT id, display_name AS name, nullif(role, '') AS role, created_at, updated_at,
		(SELECT count(*) FROM scim_group_members m WHERE m.tenant_id = g.tenant_id AND m.group_id = g.id) AS members
		FROM scim_groups g WHERE tenant_id = @tenant AND `+where+` ORDER BY id LIMIT @limit`, map[string]any{"id": id, "limit": limit}).Scan(&rows).Error
}

// MapGroupRequest says what the members of a group are here.
type MapGroupRequest struct {
	ID   string  `path:"id"`
	Role *string `json:"role" nullable:"true" minLength:"1" maxLength:"64" doc:"null takes away what the group gives"`
}

// MapGroup maps a group to a role, or to none. Neither the role nor those that it
// takes from people may do more than the caller.
func (s *Service) MapGroup(ctx context.Context, in MapGroupRequest) (out DirectoryGroup, err error) {
	role := ""
	if in.Role != nil {
		role = *in.Role
	}
	may := func(ctx context.Context, role string) error { return s.giveable(ctx, "role", role) }
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		// A role of the tenant's own is held, and before the group, as by who changes it.
		var own Role
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", role).Limit(1).Find(&own).Error; err != nil {
			return err
		}
		g, people, err := s.lockGroup(ctx, in.ID)
		if err != nil {
			return err
		}
		if role == "owner" {
			return domain.InvalidField("role", "not_allowed", "Nobody becomes an owner by a group.")
		}
		for _, r := range []string{g.Role, role} {
			if r == "" {
				continue
			}
			if err := may(ctx, r); err != nil {
				return err
			}
		}
		if role != g.Role {
			err := s.regroup(ctx, people, may, func() error {
				return s.Store.For(ctx).Model(&scimGroup{}).Where("id = ?", g.ID).Updates(map[string]any{"role": role, "updated_at": s.Now().UTC()}).Error
			})
			if err != nil {
				return err
			}
			if err := s.Audit.Record(ctx, audit.Entry{Action: "scim_group.map", Target: g.ID, Detail: map[string]any{"name": g.DisplayName, "from": g.Role, "to": role}}); err != nil {
				return err
			}
		}
		rows, err := s.directoryGroups(ctx, "id = @id", g.ID, 1)
		if err == nil {
			out = rows[0]
		}
		return err
	})
	return out, err
}

// regroup makes a change of groups and brings the memberships of these people
// where their groups are then. Both the role that is taken from a person and the
// one that is given must be ones that may lets pass.
func (s *Service) regroup(ctx context.Context, people []string, may func(context.Context, string) error, change func() error) error {
	// Whoever changes a person's groups, or makes them a member, holds their row:
	// one change sees the other's.
	var rows []scimUser
	for some := range slices.Chunk(slices.Sorted(slices.Values(people)), oneStatement) { // in the order of their ids, always
		var locked []scimUser
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id IN ?", some).Order("id").Find(&locked).Error; err != nil {
			return err
		}
		rows = append(rows, locked...)
	}
	tenant := domain.TenantOf(ctx)
	before, err := s.groupRoles(ctx, tenant, people)
	if err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	after, err := s.groupRoles(ctx, tenant, people)
	if err != nil {
		return err
	}
	asked := map[string]error{}
	allowed := func(role string) error {
		answer, known := asked[role]
		if !known {
			answer = may(ctx, role)
			asked[role] = answer
		}
		return answer
	}
	for _, r := range rows {
		if before[r.ID] == after[r.ID] {
			continue
		}
		var m membership
		if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("user_id = ?", r.UserID).Limit(1).Find(&m).Error; err != nil {
			return err
		}
		if m.ID == "" || m.Role == "owner" {
			continue
		}
		to := after[r.ID]
		if to == "" {
			if to, err = s.without(ctx, r); err != nil {
				return err
			}
		}
		if before[r.ID] == "" && m.Role != r.Role { // it was changed by hand: it is what they return to
			if err := s.Store.For(ctx).Model(&scimUser{}).Where("id = ?", r.ID).Update("role", m.Role).Error; err != nil {
				return err
			}
		}
		if m.Role == to {
			continue
		}
		if err := cmp.Or(allowed(m.Role), allowed(to)); err != nil {
			return err
		}
		if err := s.setRole(ctx, m, to); err != nil {
			return err
		}
	}
	return nil
}

// groupRoles are the roles that groups give to people of a tenant's directory; who
// is in no mapped group is not among them.
func (s *Service) groupRoles(ctx context.Context, tenant string, people []string) (map[string]string, error) {
	db := s.Store.For(ctx)
	var mapped []scimGroup
	if err := db.Where("tenant_id = ? AND role <> ''", tenant).Find(&mapped).Error; err != nil || len(mapped) == 0 {
		return nil, err
	}
	gives, groups := map[string]string{}, []string{}
	for _, g := range mapped {
		gives[g.ID], groups = g.Role, append(groups, g.ID)
	}
	var rows []scimGroupMember
	for some := range slices.Chunk(people, oneStatement) {
		var in []scimGroupMember
		if err := db.Where("tenant_id = ? AND group_id IN ? AND person_id IN ?", tenant, groups, some).Find(&in).Error; err != nil {
			return nil, err
		}
		rows = append(rows, in...)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	// How much a role may do is read from its row: a mask is kept, and may be that of a moment ago.
	var own []Role
	if err := db.Where("tenant_id = ?", tenant).Find(&own).Error; err != nil {
		return nil, err
	}
	power := map[string]int{}
	for _, r := range own {
		power[r.ID] = len(slices.Compact(slices.Sorted(slices.Values(r.Permissions))))
	}
	for _, name := range builtIn {
		mask, err := s.policies.mask(ctx, tenant, name)
		if err != nil {
			return nil, err
		}
		power[name] = bits.OnesCount64(mask)
	}
	out := map[string]string{}
	for _, r := range rows {
		role := gives[r.GroupID]
		best, has := out[r.PersonID]
		if !has || cmp.Or(cmp.Compare(power[role], power[best]), cmp.Compare(best, role)) > 0 {
			out[r.PersonID] = role
		}
	}
	return out, nil
}

// groupRoleOf is what groups give to a user of a tenant, or nothing. Who makes them
// a member of the tenant holds the directory's row of them, so that no group
// changes meanwhile; who has locked the membership does not, since a change of
// groups takes the two in the other order, and comes after.
func (s *Service) groupRoleOf(ctx context.Context, tenant, user string, hold bool) (string, error) {
	db := s.Store.For(ctx)
	if hold {
		db = db.Clauses(clause.Locking{Strength: "UPDATE"})
	}
	var r scimUser
	if err := db.Where("tenant_id = ? AND user_id = ?", tenant, user).Limit(1).Find(&r).Error; err != nil || r.ID == "" {
		return "", err
	}
	roles, err := s.groupRoles(ctx, tenant, []string{r.ID})
	return roles[r.ID], err
}

// rerank writes another set of permissions for a role, by which another of a
// person's groups may be the one that counts.
func (s *Service) rerank(ctx context.Context, role string, write func() error) error {
	var groups []scimGroup
	if err := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Order("id").Find(&groups).Error; err != nil {
		return err
	}
	var mapped, people []string
	for _, g := range groups {
		if g.Role == role {
			mapped = append(mapped, g.ID)
		}
	}
	if len(mapped) > 0 {
		if err := s.Store.For(ctx).Model(&scimGroupMember{}).Distinct("person_id").Where("group_id IN ?", mapped).Pluck("person_id", &people).Error; err != nil {
			return err
		}
	}
	return s.regroup(ctx, people, func(ctx context.Context, r string) error {
		if r == role { // which the caller was found to be above
			return nil
		}
		return s.giveable(ctx, "permissions", r)
	}, write)
}

var _ = domain.Chinese(map[string]string{
	"A group needs a displayName.":                                                                           "组需要 displayName。",
	"A tenant has at most %d groups of a directory.":                                                         "每个租户最多有 %d 个目录组。",
	"There is a group of this name already.":                                                                 "已有同名的组。",
	"Members are people whom this directory provisioned, by their id, and at most %d at once.":               "成员须为此目录配置的人员（以其 id 表示），一次最多 %d 名。",
	"One member by a filter can be removed, and nothing else.":                                               "通过过滤条件只能移除一名成员，不能执行其他操作。",
	"Of members a path may name one: members[value eq \"id\"].":                                              "路径只能指定一名成员：members[value eq \"id\"]。",
	"members is a list of objects with a value.":                                                             "members 是带有 value 的对象列表。",
	"Nobody becomes an owner by a group.":                                                                    "任何人都不能通过组成为所有者。",
	"The groups of the directory give this person their role: it changes there, or where groups are mapped.": "此人的角色由目录组决定：请在目录中更改，或更改组的映射。",
})
