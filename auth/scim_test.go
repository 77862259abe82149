package auth_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/sandbox/idp"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// directory is the scope of a tenant's directory, and its token.
func directory(t *testing.T, h *house, inside context.Context) (context.Context, auth.NewSCIMToken) {
	t.Helper()
	made, err := h.CreateSCIMToken(inside, auth.CreateSCIMTokenRequest{Name: "Okta"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Authenticate(public(), auth.Credential{Provisioner: made.Token})
	if err != nil {
		t.Fatal(err)
	}
	return domain.WithScope(context.Background(), domain.Scope{Tenant: p.TenantID, Actor: domain.Actor{Kind: p.Kind, ID: p.ID}}), made
}

func patch(t *testing.T, id, body string) (in auth.SCIMPatchBody) {
	t.Helper()
	if err := json.Unmarshal([]byte(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":`+body+`}`), &in); err != nil {
		t.Fatal(err)
	}
	in.ID = id
	return in
}

// Deactivated in each of the forms that Okta and Entra send, a person's sessions,
// refresh tokens and keys in the tenant are dead at the next question, and those
// elsewhere live; activated again they are a member with the same role, and no
// key is alive again.
func TestDeprovisioning(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := newHouse(t, db)
		_, inside := h.owner("boss@uni.test")
		h.connect(inside, "uni.test")
		ctx, _ := directory(t, h, inside)
		person, elsewhere := h.owner("ada@uni.test") // has a tenant of their own
		made, err := h.CreateSCIMUser(ctx, auth.SCIMCreateBody{UserName: "Ada@uni.test", ExternalID: "x-1", Roles: []auth.SCIMValue{{Value: "admin"}}})
		if err != nil || !made.Active || made.Status() != 201 {
			t.Fatalf("%+v %v", made, err)
		}
		if _, err := h.CreateSCIMUser(ctx, auth.SCIMCreateBody{UserName: "ada@uni.test"}); domain.CodeOf(err) != "uniqueness" {
			t.Errorf("twice: %v", err)
		}
		own, err := h.CreateKey(elsewhere, auth.CreateKeyRequest{Name: "own", Scopes: []string{"match:run"}})
		if err != nil {
			t.Fatal(err)
		}
		for name, off := range map[string]func() error{
			"Okta": func() error {
				_, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"replace","value":{"active":false}}]`))
				return err
			},
			"Entra": func() error {
				_, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"Replace","path":"active","value":"False"}]`))
				return err
			},
			"Entra, as the RFC has it": func() error {
				_, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"replace","path":"active","value":false}]`))
				return err
			},
			"Entra, with the schema": func() error {
				_, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"Add","path":"urn:ietf:params:scim:schemas:core:2.0:User:active","value":"false"}]`))
				return err
			},
			"a PUT": func() error {
				var in auth.SCIMUserBody
				_ = json.Unmarshal([]byte(`{"userName":"ada@uni.test","externalId":"x-1","active":false,"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"x"}}`), &in)
				in.ID = made.ID
				_, err := h.PutSCIMUser(ctx, in)
				return err
			},
		} {
			tokens, err := h.Switch(elsewhere, auth.SwitchRequest{TenantID: domain.TenantOf(inside)})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			there := as(t, h.Service, tokens.AccessToken)
			key, err := h.CreateKey(there, auth.CreateKeyRequest{Name: name, Scopes: []string{"match:run"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := off(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for what, c := range map[string]auth.Credential{"session": {Bearer: tokens.AccessToken}, "key": {APIKey: key.Key}} {
				if _, err := h.Authenticate(public(), c); domain.KindOf(err) != domain.Unauthenticated {
					t.Errorf("%s: the %s goes on: %v", name, what, err)
				}
			}
			if _, err := h.Refresh(public(), auth.RefreshRequest{RefreshToken: tokens.RefreshToken}); domain.KindOf(err) != domain.Unauthenticated {
				t.Errorf("%s: the session is refreshed: %v", name, err)
			}
			for what, c := range map[string]auth.Credential{"session": {Bearer: person.AccessToken}, "key": {APIKey: own.Key}} {
				if _, err := h.Authenticate(public(), c); err != nil {
					t.Errorf("%s: the %s in another tenant has ended: %v", name, what, err)
				}
			}
			if _, err := h.Switch(elsewhere, auth.SwitchRequest{TenantID: domain.TenantOf(inside)}); domain.KindOf(err) != domain.NotFound {
				t.Errorf("%s: switches back: %v", name, err)
			}
			back, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"replace","path":"active","value":"True"}]`))
			if err != nil || !back.Active || back.Roles[0].Value != "admin" {
				t.Fatalf("%s: %+v %v", name, back, err)
			}
			h.Advance(2 * time.Second)
			if _, err := h.Authenticate(public(), auth.Credential{APIKey: key.Key}); domain.KindOf(err) != domain.Unauthenticated {
				t.Errorf("%s: the key is alive again: %v", name, err)
			}
			if _, err := h.Authenticate(public(), auth.Credential{Bearer: tokens.AccessToken}); domain.KindOf(err) != domain.Unauthenticated {
				t.Errorf("%s: the session is alive again: %v", name, err)
			}
		}
		// A person is deleted with their membership, or not at all.
		if db.Store.Dialect() == store.SQLite {
			raw := func(statement string) {
				t.Helper()
				if _, err := db.Store.SQLDB().Exec(statement); err != nil {
					t.Fatal(err)
				}
			}
			raw(`CREATE TRIGGER stays BEFORE DELETE ON scim_users BEGIN SELECT RAISE(ABORT, 'it stays'); END`)
			if err := h.DeleteSCIMUser(ctx, auth.SCIMUserRequest{ID: made.ID}); err == nil {
				t.Error("a row that cannot be deleted is no fault")
			}
			if still, err := h.SCIMUser(ctx, auth.SCIMUserRequest{ID: made.ID}); err != nil || !still.Active {
				t.Errorf("half of a deletion: %+v %v", still, err)
			}
			raw(`DROP TRIGGER stays`)
		}
		if err := h.DeleteSCIMUser(ctx, auth.SCIMUserRequest{ID: made.ID}); err != nil {
			t.Fatal(err)
		}
		if n := h.count(`SELECT count(*) FROM memberships WHERE tenant_id = @of AND user_id = @user`, map[string]any{"of": domain.TenantOf(inside), "user": person.User.ID}); n != 0 {
			t.Error("a deleted person is a member")
		}
	})
}

// What a directory may do: people of the domain that the tenant has proved, and
// its members; roles within what the token's maker might; never the last owner,
// never another tenant's people, never the address or name of an account.
func TestSCIM(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		h := newHouse(t, db)
		boss, inside := h.owner("boss@uni.test")
		c := h.connect(inside, "uni.test")
		ctx, token := directory(t, h, inside)
		h.owner("stranger@elsewhere.test")

		made, err := h.CreateSCIMUser(ctx, auth.SCIMCreateBody{UserName: "É-17", ExternalID: "x", Name: auth.SCIMName{GivenName: "Bo", FamilyName: "Li"}, Emails: []auth.SCIMValue{{Value: "other@uni.test"}, {Value: "Bo@uni.test", Primary: true}}})
		if err != nil || made.Emails[0].Value != "bo@uni.test" || made.DisplayName != "Bo Li" || made.Roles[0].Value != "analyst" {
			t.Fatalf("%+v %v", made, err)
		}
		// An account that was made for a person waits for them: the tenant's provider opens it.
		h.own.Person = idp.Person{Subject: "bo", Email: "bo@uni.test", Verified: true}
		b := &browser{h: h}
		out, err := b.signIn(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		b.session(out)
		// Deactivated, nobody brings them back but the directory.
		if _, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"replace","value":{"active":false}}]`)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.signIn(c.ID); domain.CodeOf(err) != "sso_not_member" {
			t.Errorf("a deactivated person signs in: %v", err)
		}
		h.own.Person.Subject = "bo-again"
		if _, err := b.signIn(c.ID); domain.CodeOf(err) != "sso_not_member" {
			t.Errorf("a deactivated person arrives anew: %v", err)
		}

		for name, in := range map[string]auth.SCIMCreateBody{
			"no address":       {UserName: "u-18"},
			"no name":          {Emails: []auth.SCIMValue{{Value: "x@uni.test"}}},
			"another's domain": {UserName: "stranger@elsewhere.test"},
			"nobody's domain":  {UserName: "nobody@elsewhere.test"},
			"a subdomain":      {UserName: "x@sub.uni.test"},
			"two at signs":     {UserName: "x@elsewhere.test@uni.test"},
			"a header":         {UserName: "x@uni.test\r\nBcc: y@uni.test"},
			"an unknown role":  {UserName: "y@uni.test", Roles: []auth.SCIMValue{{Value: "god"}}},
		} {
			if _, err := h.CreateSCIMUser(ctx, in); domain.CodeOf(err) != "invalidValue" {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, one := h.CreateSCIMUser(ctx, auth.SCIMCreateBody{UserName: "stranger@elsewhere.test"})
		_, two := h.CreateSCIMUser(ctx, auth.SCIMCreateBody{UserName: "nobody@elsewhere.test"})
		if one.Error() != two.Error() {
			t.Errorf("tells who has an account: %v / %v", one, two)
		}

		// The owner is a member, so the directory may adopt them; it cannot end the last one.
		adopted, err := h.CreateSCIMUser(ctx, auth.SCIMCreateBody{UserName: "boss@uni.test", DisplayName: "Another Name"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.PatchSCIMUser(ctx, patch(t, adopted.ID, `[{"op":"replace","value":{"active":false}}]`)); domain.CodeOf(err) != "last_owner" {
			t.Errorf("the last owner: %v", err)
		}
		if _, err := h.PatchSCIMUser(ctx, patch(t, adopted.ID, `[{"op":"replace","path":"roles","value":[{"value":"viewer"}]}]`)); domain.CodeOf(err) != "last_owner" {
			t.Errorf("the last owner's role: %v", err)
		}
		if _, err := h.PatchSCIMUser(ctx, patch(t, adopted.ID, `[{"op":"replace","path":"emails[type eq \"work\"].value","value":"evil@uni.test"}]`)); domain.CodeOf(err) != "mutability" {
			t.Errorf("an account's address: %v", err)
		}
		if me, err := h.Me(inside, struct{}{}); err != nil || me.User.FullName != boss.User.FullName {
			t.Errorf("an account's name: %+v %v", me.User, err)
		}
		// A token made by an admin gives and takes no more than an admin.
		h.write(`UPDATE scim_tokens SET power = @power WHERE id = @id`, map[string]any{"power": 1, "id": token.ID})
		for _, change := range []string{`[{"op":"replace","value":{"active":false}}]`, `[{"op":"replace","path":"roles","value":"owner"}]`} {
			if _, err := h.PatchSCIMUser(ctx, patch(t, adopted.ID, change)); domain.KindOf(err) != domain.Forbidden {
				t.Errorf("above the maker: %v", err)
			}
		}

		if _, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"replace","value":{"active":true}}]`)); domain.KindOf(err) != domain.Forbidden {
			t.Errorf("a role above the maker comes back: %v", err)
		}
		if _, err := h.CreateSCIMUser(ctx, auth.SCIMCreateBody{UserName: "next@uni.test"}); domain.KindOf(err) != domain.Forbidden {
			t.Errorf("the role of who arrives is above the maker: %v", err)
		}

		for filter, want := range map[string]int{`userName eq "BOSS@uni.test"`: 1, `userName eq "É-17"`: 1, `externalId eq "x"`: 1, `id eq "` + made.ID + `"`: 1, `userName eq "x\" or 1=1"`: 0, `emails.value eq "bo@uni.test"`: 1, "": 2} {
			page, err := h.SCIMUsers(ctx, auth.SCIMListRequest{Filter: filter, StartIndex: 1, Count: 100})
			if err != nil || len(page.Resources) != want || page.TotalResults != int64(want) {
				t.Errorf("%s: %d of %d %v", filter, len(page.Resources), want, err)
			}
		}
		if page, err := h.SCIMUsers(ctx, auth.SCIMListRequest{StartIndex: 2, Count: 1}); err != nil || page.TotalResults != 2 || len(page.Resources) != 1 || page.StartIndex != 2 {
			t.Errorf("%+v %v", page, err)
		}
		for _, filter := range []string{`userName sw "b"`, `password eq "x"`, `userName eq x`, `userName eq "a" or userName eq "b"`} {
			if _, err := h.SCIMUsers(ctx, auth.SCIMListRequest{Filter: filter}); domain.CodeOf(err) != "invalidFilter" {
				t.Errorf("%s: %v", filter, err)
			}
		}
		for body, code := range map[string]string{`[]`: "invalidSyntax", `[{"op":"move","path":"active"}]`: "invalidSyntax", `[{"op":"remove"}]`: "noTarget", `[{"op":"replace","value":"x"}]`: "invalidValue",
			`[{"op":"replace","path":"active","value":"perhaps"}]`: "invalidValue", `[{"op":"replace","path":"displayName","value":7}]`: "invalidValue", `[{"op":"remove","path":"userName"}]`: "invalidValue"} {
			if _, err := h.PatchSCIMUser(ctx, patch(t, made.ID, body)); domain.CodeOf(err) != code {
				t.Errorf("%s: %v", body, err)
			}
		}
		changed, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"Add","path":"name.givenName","value":"Bob"},{"op":"replace","path":"nickName","value":"b"},{"op":"remove","path":"externalId"}]`))
		if err != nil || changed.Name.GivenName != "Bob" || changed.ExternalID != "" {
			t.Errorf("%+v %v", changed, err)
		}
		// What is left out of a name stays, and displayName is what is shown, in whatever order.
		for range 20 {
			changed, err = h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"replace","value":{"displayName":"Shown","name":{"formatted":"Not Shown","givenName":"Rob"}}}]`))
			if err != nil || changed.DisplayName != "Shown" || changed.Name.GivenName != "Rob" || changed.Name.FamilyName != "Li" {
				t.Fatalf("%+v %v", changed, err)
			}
			if _, err := h.PatchSCIMUser(ctx, patch(t, made.ID, `[{"op":"replace","path":"displayName","value":"before"}]`)); err != nil {
				t.Fatal(err)
			}
		}
		other := db.In(db.B)
		if _, err := h.SCIMUser(other, auth.SCIMUserRequest{ID: made.ID}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("another tenant's: %v", err)
		}

		// A token that is none waits for no writer.
		err = db.Store.Tx(domain.System(context.Background(), "test"), func(context.Context) error {
			ctx, stop := context.WithTimeout(public(), 5*time.Second)
			defer stop()
			_, err := h.Authenticate(ctx, auth.Credential{Provisioner: "cr_scim_none"})
			return err
		})
		if domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("a token that is none: %v", err)
		}
		// The token is nowhere in the clear and dies at once.
		if n := h.count(`SELECT count(*) FROM scim_tokens WHERE hash LIKE '%' || @token || '%'`, map[string]any{"token": strings.TrimPrefix(token.Token, "cr_scim_")}); n != 0 {
			t.Error("the token is in the database")
		}
		if err := h.RevokeSCIMToken(inside, auth.SCIMTokenRequest{ID: token.ID}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Authenticate(public(), auth.Credential{Provisioner: token.Token}); domain.KindOf(err) != domain.Unauthenticated {
			t.Errorf("a revoked token: %v", err)
		}
	})
}
