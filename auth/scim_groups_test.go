package auth_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// grouping is a tenant with a directory of three people and one group.
type grouping struct {
	*house
	inside, ctx context.Context // of an owner, and of the directory
	token       auth.NewSCIMToken
	people      []string // of the directory, by their ids there
	group       string
}

func newGrouping(t *testing.T, db testdb.DB) *grouping {
	t.Helper()
	g := &grouping{house: newHouse(t, db)}
	_, g.inside = g.owner("boss@uni.test")
	g.connect(g.inside, "uni.test") // who comes is an analyst
	g.ctx, g.token = directory(t, g.house, g.inside)
	for _, name := range []string{"ada", "bo", "cy"} {
		made, err := g.CreateSCIMUser(g.ctx, auth.SCIMCreateBody{UserName: name + "@uni.test", DisplayName: name})
		if err != nil {
			t.Fatal(err)
		}
		g.people = append(g.people, made.ID)
	}
	g.group = g.makes("Desk")
	return g
}

func (g *grouping) makes(name string, people ...string) string {
	g.t.Helper()
	in := auth.SCIMGroupBody{DisplayName: name}
	for _, p := range people {
		in.Members = append(in.Members, auth.SCIMMember{Value: p})
	}
	made, err := g.CreateSCIMGroup(g.ctx, in)
	if err != nil {
		g.t.Fatal(err)
	}
	return made.ID
}

func (g *grouping) maps(group, role string) error {
	in := auth.MapGroupRequest{ID: group}
	if role != "" {
		in.Role = &role
	}
	_, err := g.MapGroup(g.inside, in)
	return err
}

func (g *grouping) patches(group, operations string) error {
	g.t.Helper()
	return g.PatchSCIMGroup(g.ctx, patch(g.t, group, operations))
}

func (g *grouping) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// member is the person's membership, as the tenant's administrators see it.
func (g *grouping) member(email string) auth.Member {
	g.t.Helper()
	page, err := g.Members(g.inside, domain.PageRequest{})
	g.must(err)
	i := slices.IndexFunc(page.Data, func(m auth.Member) bool { return m.Email == email })
	if i < 0 {
		return auth.Member{}
	}
	return page.Data[i]
}

func (g *grouping) has(email, role string, byGroup bool) {
	g.t.Helper()
	if m := g.member(email); m.Role != role || m.ByGroup != byGroup {
		g.t.Errorf("%s is %q, by a group: %v; want %q, %v", email, m.Role, m.ByGroup, role, byGroup)
	}
}

// Each of the forms in which Okta and Entra say who comes to a group and who
// leaves it, from a group of the first two of three. What is read here is the same
// on both databases.
func TestGroupForms(t *testing.T) {
	const urn = "urn:ietf:params:scim:schemas:core:2.0:Group"
	g := newGrouping(t, testdb.SQLite(t))
	with := strings.NewReplacer("$0", g.people[0], "$1", g.people[1], "$2", g.people[2], "$id", g.group).Replace
	for _, c := range []struct{ operations, want, code string }{
		{`[{"op":"Add","path":"members","value":[{"$ref":null,"value":"$2"}]}]`, "$0 $1 $2", ""},
		{`[{"op":"add","path":"members","value":[{"value":"$2","display":"cy@uni.test"}]}]`, "$0 $1 $2", ""},
		{`[{"op":"add","path":"members","value":[{"value":"$0"}]}]`, "$0 $1", ""},
		{`[{"op":"add","path":"members","value":{"value":"$2"}}]`, "$0 $1 $2", ""},
		{`[{"op":"add","value":{"members":[{"value":"$2"}]}}]`, "$0 $1 $2", ""},
		{`[{"op":"ADD","path":"` + urn + `:members","value":[{"value":"$2"}]}]`, "$0 $1 $2", ""},
		{`[{"op":"remove","path":"members[value eq \"$0\"]"}]`, "$1", ""},
		{`[{"op":"Remove","path":"` + urn + `:Members[ value Eq \"$0\" ]"}]`, "$1", ""},
		{`[{"op":"Remove","path":"members","value":[{"$ref":null,"value":"$0"}]}]`, "$1", ""},
		{`[{"op":"remove","path":"members[value eq \"$2\"]"}]`, "$0 $1", ""},
		{`[{"op":"remove","path":"members","value":[]}]`, "$0 $1", ""},
		{`[{"op":"remove","path":"members"}]`, "", ""},
		{`[{"op":"replace","path":"members","value":[{"value":"$2"},{"value":"$1"}]}]`, "$1 $2", ""},
		{`[{"op":"replace","path":"members","value":[]}]`, "", ""},
		{`[{"op":"Replace","value":{"id":"$id","displayName":"Desk","members":[{"value":"$2"}]}}]`, "$2", ""},
		{`[{"op":"replace","value":{"id":"$id","displayName":"Another"}},{"op":"replace","path":"displayName","value":"Desk"}]`, "$0 $1", ""},
		{`[{"op":"remove","path":"members[value eq \"$0\"]"},{"op":"add","path":"members","value":[{"value":"$2"}]},{"op":"add","path":"members","value":[{"value":"$0"}]}]`, "$0 $1 $2", ""},
		{`[{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:x:2.0:Group:y","value":1}]`, "$0 $1", ""},
		{`[{"op":"add","path":"members","value":[{"value":"scu_nobody"}]}]`, "", "invalidValue"},
		{`[{"op":"remove","path":"members[value eq \"$0\"]"},{"op":"add","path":"members","value":[{"value":"scu_nobody"}]}]`, "", "invalidValue"},
		{`[{"op":"add","path":"members","value":[{"display":"x"}]}]`, "", "invalidValue"},
		{`[{"op":"add","path":"members","value":"$2"}]`, "", "invalidValue"},
		{`[{"op":"add","path":"members"}]`, "", "invalidValue"},
		{`[{"op":"add","path":"members[value eq \"$2\"]","value":{"value":"$2"}}]`, "", "invalidPath"},
		{`[{"op":"remove","path":"members[display eq \"ada\"]"}]`, "", "invalidPath"},
		{`[{"op":"remove","path":"members[value eq \"$0\" or value eq \"$1\"]"}]`, "", "invalidPath"},
		{`[{"op":"remove","path":"members.value","value":"$0"}]`, "", "invalidPath"},
		{`[{"op":"remove"}]`, "", "noTarget"},
		{`[{"op":"remove","path":"displayName"}]`, "", "invalidValue"},
		{`[{"op":"replace","path":"displayName","value":" "}]`, "", "invalidValue"},
		{`[{"op":"replace","path":"externalId","value":7}]`, "", "invalidValue"},
		{`[{"op":"move","path":"members"}]`, "", "invalidSyntax"},
	} {
		_, err := g.PutSCIMGroup(g.ctx, auth.SCIMGroupPutBody{ID: g.group, SCIMGroupBody: auth.SCIMGroupBody{DisplayName: "Desk",
			Members: []auth.SCIMMember{{Value: g.people[0]}, {Value: g.people[1]}, {Value: g.people[1]}}}})
		g.must(err)
		err = g.patches(g.group, with(c.operations))
		if c.code != "" {
			c.want = "$0 $1" // a refused change is none, whole
		}
		if (err == nil) != (c.code == "") || err != nil && domain.CodeOf(err) != c.code {
			t.Errorf("%s: %v", c.operations, err)
		}
		got, err := g.SCIMGroup(g.ctx, auth.SCIMGroupRequest{ID: g.group})
		g.must(err)
		var members []string
		for _, m := range got.Members {
			members = append(members, m.Value)
		}
		want := strings.Fields(with(c.want))
		slices.Sort(want)
		if slices.Sort(members); !slices.Equal(members, want) || got.DisplayName != "Desk" {
			t.Errorf("%s: %q has %v, want %v", c.operations, got.DisplayName, members, want)
		}
	}
}

// Groups are found by name, without their members where a directory asks so, and
// never by another tenant's.
func TestGroups(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		g := newGrouping(t, db)
		var in auth.SCIMGroupBody
		g.must(json.Unmarshal([]byte(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"Équipe","externalId":"x-1","members":[{"value":"`+g.people[0]+`"}],"meta":{}}`), &in))
		made, err := g.CreateSCIMGroup(g.ctx, in)
		if err != nil || made.Meta.ResourceType != "Group" || !strings.HasSuffix(made.Meta.Location, "/scim/v2/Groups/"+made.ID) ||
			len(made.Members) != 1 || made.Members[0] != (auth.SCIMMember{Value: g.people[0], Display: "ada", Type: "User"}) {
			t.Fatalf("%+v %v", made, err)
		}
		for filter, want := range map[string]int{"": 2, `displayName eq "DESK"`: 1, `displayname Eq "équipe"`: 1, `displayName eq "ÉQUIPE"`: 1, `externalId eq "x-1"`: 1, `externalId eq "X-1"`: 0, `id eq "` + g.group + `"`: 1, `displayName eq "x\" or 1=1"`: 0} {
			page, err := g.SCIMGroups(g.ctx, auth.SCIMGroupsRequest{SCIMListRequest: auth.SCIMListRequest{Filter: filter, StartIndex: 1, Count: 100}})
			if err != nil || len(page.Resources) != want || page.TotalResults != int64(want) || page.ItemsPerPage != want {
				t.Errorf("%s: %+v %v", filter, page, err)
			}
		}
		for _, filter := range []string{`userName eq "a"`, `role eq "admin"`, `displayName co "e"`} {
			if _, err := g.SCIMGroups(g.ctx, auth.SCIMGroupsRequest{SCIMListRequest: auth.SCIMListRequest{Filter: filter}}); domain.CodeOf(err) != "invalidFilter" {
				t.Errorf("%s: %v", filter, err)
			}
		}
		for shown, want := range map[auth.SCIMShown]int{{}: 1, {ExcludedAttributes: "members"}: 0, {ExcludedAttributes: "externalId, Members"}: 0, {ExcludedAttributes: "externalId"}: 1,
			{Attributes: "displayName"}: 0, {Attributes: "displayName,members.value"}: 1} {
			one, err := g.SCIMGroup(g.ctx, auth.SCIMGroupRequest{ID: made.ID, SCIMShown: shown})
			g.must(err)
			page, err := g.SCIMGroups(g.ctx, auth.SCIMGroupsRequest{SCIMListRequest: auth.SCIMListRequest{Filter: `externalId eq "x-1"`, StartIndex: 1, Count: 1}, SCIMShown: shown})
			if err != nil || len(one.Members) != want || len(page.Resources[0].Members) != want {
				t.Errorf("%+v: %+v %+v %v", shown, one, page, err)
			}
		}
		for name, in := range map[string]auth.SCIMGroupBody{"no name": {DisplayName: " "}, "nobody": {DisplayName: "x", Members: []auth.SCIMMember{{Value: "scu_nobody"}}}, "no id": {DisplayName: "x", Members: []auth.SCIMMember{{}}}} {
			if _, err := g.CreateSCIMGroup(g.ctx, in); domain.CodeOf(err) != "invalidValue" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := g.CreateSCIMGroup(g.ctx, auth.SCIMGroupBody{DisplayName: "dESK"}); domain.CodeOf(err) != "uniqueness" {
			t.Errorf("a name twice: %v", err)
		}
		if err := g.patches(g.group, `[{"op":"replace","path":"displayName","value":"équipe"}]`); domain.CodeOf(err) != "uniqueness" {
			t.Errorf("renamed to another's: %v", err)
		}
		if err := g.patches(g.group, `[{"op":"replace","path":"displayName","value":"DESK"}]`); err != nil {
			t.Errorf("another case of its own: %v", err)
		}

		// Another tenant's directory meets neither the group nor the people.
		_, beside := g.owner("boss@other.test")
		g.connect(beside, "other.test")
		theirs, _ := directory(t, g.house, beside)
		if _, err := g.SCIMGroup(theirs, auth.SCIMGroupRequest{ID: g.group}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another tenant's: %v", err)
		}
		if err := g.PatchSCIMGroup(theirs, patch(t, g.group, `[{"op":"remove","path":"members"}]`)); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another tenant's: %v", err)
		}
		if _, err := g.CreateSCIMGroup(theirs, auth.SCIMGroupBody{DisplayName: "x", Members: []auth.SCIMMember{{Value: g.people[0]}}}); domain.CodeOf(err) != "invalidValue" {
			t.Errorf("another tenant's person: %v", err)
		}
		role := "viewer"
		if _, err := g.MapGroup(beside, auth.MapGroupRequest{ID: g.group, Role: &role}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another tenant's: %v", err)
		}

		// A person whom the directory deletes is in no group, and a group that it deletes is gone.
		g.must(g.DeleteSCIMUser(g.ctx, auth.SCIMUserRequest{ID: g.people[0]}))
		if one, err := g.SCIMGroup(g.ctx, auth.SCIMGroupRequest{ID: made.ID}); err != nil || len(one.Members) != 0 {
			t.Errorf("%+v %v", one, err)
		}
		g.must(g.DeleteSCIMGroup(g.ctx, auth.SCIMUserRequest{ID: made.ID}))
		if err := g.DeleteSCIMGroup(g.ctx, auth.SCIMUserRequest{ID: made.ID}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("deleted twice: %v", err)
		}
	})
}

// What a mapped group gives: its role while one is in it, that of the role that
// may do most where there are several, and what one had before afterwards. Owners
// come and go by hand alone, and nobody gives more than they have.
func TestGroupRoles(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		g := newGrouping(t, db)
		ada, bo := g.people[0], g.people[1]
		adds := func(group, person string) error {
			return g.patches(group, `[{"op":"add","path":"members","value":[{"value":"`+person+`"}]}]`)
		}
		drops := func(group, person string) error {
			return g.patches(group, `[{"op":"remove","path":"members[value eq \"`+person+`\"]"}]`)
		}
		by := func(email, role string) error {
			_, err := g.UpdateMember(g.inside, auth.UpdateMemberRequest{ID: g.member(email).ID, Role: role})
			return err
		}
		g.must(adds(g.group, ada))
		g.has("ada@uni.test", "analyst", false) // a group that is not mapped gives nothing
		g.must(by("ada@uni.test", "viewer"))    // and by hand the role changes
		g.must(g.maps(g.group, "admin"))
		g.has("ada@uni.test", "admin", true)
		if err := by("ada@uni.test", "viewer"); domain.CodeOf(err) != "role_by_group" {
			t.Errorf("by hand: %v", err)
		}
		// The role is gone as soon as the person is out of the group, and what they had by hand is back.
		link := &browser{h: g.house}
		g.own.Person.Subject, g.own.Person.Email, g.own.Person.Verified = "ada", "ada@uni.test", true
		connections, err := g.Connections(g.inside, domain.PageRequest{})
		g.must(err)
		out, err := link.signIn(connections.Data[0].ID)
		g.must(err)
		session, _ := link.session(out)
		for _, want := range []bool{true, false} {
			if can, err := g.Can(session, "member:write"); err != nil || can != want {
				t.Errorf("may change members: %v, want %v: %v", can, want, err)
			}
			g.must(drops(g.group, ada))
		}
		g.has("ada@uni.test", "viewer", false)

		// Of several, the one that may do the most.
		readers := g.makes("Readers", ada)
		g.must(g.maps(readers, "viewer"))
		g.must(adds(g.group, ada))
		g.has("ada@uni.test", "admin", true)
		own, err := g.CreateRole(g.inside, auth.CreateRoleRequest{Name: "narrow", Permissions: []string{"dataset:read"}})
		g.must(err)
		g.must(g.maps(g.group, own.ID))
		g.has("ada@uni.test", "viewer", true)
		wide := []string{"tenant:read", "member:read", "role:read", "dataset:read", "dataset:write", "dataset:delete", "match:run", "matching:read", "matching:write", "research:run", "research:read", "usage:read", "audit:read"}
		_, err = g.UpdateRole(g.inside, auth.UpdateRoleRequest{ID: own.ID, Permissions: &wide})
		g.must(err)
		g.has("ada@uni.test", own.ID, true)
		if err := g.DeleteRole(g.inside, auth.RoleRequest{ID: own.ID}); domain.CodeOf(err) != "role_in_use" {
			t.Errorf("the role of a group: %v", err)
		}
		g.must(g.DeleteSCIMGroup(g.ctx, auth.SCIMUserRequest{ID: g.group}))
		g.has("ada@uni.test", "viewer", true)
		g.must(g.maps(readers, ""))
		g.has("ada@uni.test", "viewer", false)
		g.must(g.DeleteRole(g.inside, auth.RoleRequest{ID: own.ID}))

		// Deactivated and back, a person has what the group gives by then; what the directory says of their role waits.
		desk := g.makes("Desk", bo)
		g.must(g.maps(desk, "viewer"))
		for _, change := range []string{`[{"op":"replace","path":"roles","value":"billing"}]`, `[{"op":"replace","path":"active","value":false}]`} {
			_, err := g.PatchSCIMUser(g.ctx, patch(t, bo, change))
			g.must(err)
		}
		g.has("bo@uni.test", "", false)
		g.must(g.maps(desk, "admin"))
		_, err = g.PatchSCIMUser(g.ctx, patch(t, bo, `[{"op":"replace","path":"active","value":true}]`))
		g.must(err)
		g.has("bo@uni.test", "admin", true)
		g.must(drops(desk, bo))
		g.has("bo@uni.test", "billing", false)

		// Removed by hand and invited again: the group's role, whatever the invitation says.
		g.must(adds(desk, bo))
		user := g.member("bo@uni.test").UserID
		g.must(g.RemoveMember(g.inside, auth.MemberRequest{ID: g.member("bo@uni.test").ID}))
		g.must(g.maps(desk, "viewer"))
		_, err = g.Invite(g.inside, auth.InviteRequest{Email: "bo@uni.test", Role: "admin"})
		g.must(err)
		g.write(`UPDATE users SET email_verified_at = @now WHERE email = 'bo@uni.test'`, map[string]any{"now": g.Now()})
		_, secret := g.post.last(t, "invitation", "bo@uni.test")
		_, err = g.AcceptInvitation(domain.WithScope(context.Background(), domain.Scope{Actor: domain.Actor{Kind: "user", ID: user}}), auth.TokenRequest{Token: secret})
		g.must(err)
		g.has("bo@uni.test", "viewer", true)

		// Nobody becomes an owner by a group, and an owner stays one in it.
		if err := g.maps(desk, "owner"); domain.KindOf(err) != domain.Invalid {
			t.Errorf("owners by a group: %v", err)
		}
		if err := g.maps(desk, "rol_00000000000000000000000000"); domain.KindOf(err) != domain.Invalid {
			t.Errorf("a role that is none: %v", err)
		}
		g.must(by("bo@uni.test", "owner"))
		g.must(g.maps(desk, "analyst"))
		g.has("bo@uni.test", "owner", false)
		if err := by("bo@uni.test", "admin"); domain.CodeOf(err) != "role_by_group" {
			t.Errorf("an owner steps down beside the group: %v", err)
		}
		boss, err := g.CreateSCIMUser(g.ctx, auth.SCIMCreateBody{UserName: "boss@uni.test"})
		g.must(err)
		g.must(adds(desk, boss.ID))
		_, err = g.TransferOwnership(g.inside, auth.TransferRequest{MemberID: g.member("bo@uni.test").ID})
		g.must(err)
		g.has("boss@uni.test", "analyst", true)
		g.must(drops(desk, boss.ID))
		g.has("boss@uni.test", "admin", false) // owner was what the directory found: nobody returns as one

		// An admin maps no group to what is above them, and takes nothing above them away.
		if err := g.maps(desk, "billing"); domain.KindOf(err) != domain.Forbidden {
			t.Errorf("above the caller: %v", err)
		}
		g.write(`UPDATE scim_groups SET role = 'billing' WHERE id = @id`, map[string]any{"id": desk})
		if err := g.maps(desk, "viewer"); domain.KindOf(err) != domain.Forbidden {
			t.Errorf("what is above the caller: %v", err)
		}
		// Neither does a directory whose token an admin made.
		g.write(`UPDATE scim_tokens SET power = 1 WHERE id = @id`, map[string]any{"id": g.token.ID})
		if err := adds(desk, g.people[2]); domain.KindOf(err) != domain.Forbidden {
			t.Errorf("above the maker: %v", err)
		}
		g.has("cy@uni.test", "analyst", false)
		g.must(drops(desk, bo)) // an owner, whose role does not change
	})
}

// Two changes of one person's groups at the same moment: each sees the other's,
// so that the role is that of the groups in the end, whichever came first.
func TestGroupsAtOnce(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		g := newGrouping(t, db)
		low, high := g.makes("Low"), g.makes("High", g.people...)
		g.must(g.maps(low, "viewer"))
		g.must(g.maps(high, "admin"))
		for range 3 {
			var wg sync.WaitGroup
			for _, person := range g.people {
				wg.Go(func() {
					if err := g.PatchSCIMGroup(g.ctx, patch(t, low, `[{"op":"add","path":"members","value":[{"value":"`+person+`"}]}]`)); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					if err := g.PatchSCIMGroup(g.ctx, patch(t, high, `[{"op":"remove","path":"members[value eq \"`+person+`\"]"}]`)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, email := range []string{"ada@uni.test", "bo@uni.test", "cy@uni.test"} {
				g.has(email, "viewer", true)
			}
			for group, people := range map[string][]string{low: nil, high: g.people} {
				in := auth.SCIMGroupPutBody{ID: group, SCIMGroupBody: auth.SCIMGroupBody{DisplayName: group}}
				for _, p := range people {
					in.Members = append(in.Members, auth.SCIMMember{Value: p})
				}
				_, err := g.PutSCIMGroup(g.ctx, in)
				g.must(err)
			}
		}
	})
}
