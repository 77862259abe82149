package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/sandbox/idp"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// navigate is what a browser does: it follows nothing by itself here.
func navigate(t *testing.T, address string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	once := http.Client{Transport: http.DefaultTransport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := once.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

func cookieOf(t *testing.T, res *http.Response, name string) *http.Cookie {
	t.Helper()
	for _, c := range res.Cookies() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no cookie %s: %d %v", name, res.StatusCode, res.Header)
	return nil
}

// A tenant names its provider; a colleague is sent there and back, with a cookie
// that only this host and https carry, and is signed in to the tenant and to
// nothing else of theirs. A browser that did not begin gets nowhere.
func TestSignInThroughTheTenant(t *testing.T) {
	var provider *idp.OIDC
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { provider.ServeHTTP(w, r) }))
	defer web.Close()
	const portal = "https://portal.test"
	eachWith(t, map[string]string{"EGRESS_DIAL_OVERRIDE": strings.TrimPrefix(web.URL, "http://"), "BASE_URL": portal}, func(t *testing.T, p *program, base string) {
		const issuer = "http://93.184.215.14"
		var err error
		if provider, err = idp.NewOIDC(issuer, "client", "secret"); err != nil {
			t.Fatal(err)
		}
		provider.Person = idp.Person{Subject: "u-1", Email: "colleague@uni.test", Name: "Colleague", Verified: true}
		owner, _, tenant := person(t, base, "uni")
		ask := map[string]any{"kind": "oidc", "name": "Uni", "issuer": issuer, "client_id": "client", "client_secret": "secret", "default_role": "analyst"}
		if status, raw, _ := owner.do("POST", "/api/v1/tenant/sso", ask); status != 403 || !strings.Contains(string(raw), "feature_not_in_plan") {
			t.Fatalf("on the free plan: %d %s", status, raw)
		}
		if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil {
			t.Fatal(err)
		}
		inside := map[string]any{"kind": "oidc", "name": "Uni", "issuer": "http://169.254.169.254", "client_id": "client", "client_secret": "secret"}
		owner.must(422, "POST", "/api/v1/tenant/sso", inside)
		made := owner.must(201, "POST", "/api/v1/tenant/sso", ask)
		id := made["id"].(string)
		if strings.Contains(toJSON(owner.must(200, "GET", "/api/v1/tenant/sso", nil)), `"secret"`) {
			t.Error("the secret is shown")
		}
		provider.RedirectURIs = []string{made["callback_url"].(string)}
		err = p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, `INSERT INTO tenant_domains (tenant_id, id, name, token, status, created_at, verified_at) VALUES (@of, 'dom_1', 'uni.test', 't', 'verified', @now, @now)`,
				map[string]any{"of": tenant, "now": time.Now().UTC()})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		anyone := client{t, base, http.Header{}}
		if found := anyone.must(200, "GET", "/api/v1/auth/providers?email=somebody@uni.test", nil)["data"].([]any); len(found) != 1 || found[0].(map[string]any)["start_url"] != portal+"/api/v1/auth/oidc/"+id+"/start" {
			t.Errorf("%v", found)
		}

		here := func(address string) string { return strings.Replace(address, portal, base, 1) }
		start := navigate(t, here(made["start_url"].(string))+"?return_to=/runs")
		kept := cookieOf(t, start, "__Host-sso")
		if start.StatusCode != 303 || !kept.Secure || !kept.HttpOnly || kept.SameSite != http.SameSiteLaxMode || kept.Path != "/" || kept.Domain != "" {
			t.Errorf("%d %v", start.StatusCode, kept)
		}
		there := navigate(t, strings.Replace(start.Header.Get("Location"), issuer, web.URL, 1))
		back := here(there.Header.Get("Location"))
		if lost := navigate(t, back); lost.StatusCode != 303 || lost.Header.Get("Location") != portal+"/login?sso=sso_expired" || len(lost.Cookies()) != 0 {
			t.Errorf("without the cookie: %d %v", lost.StatusCode, lost.Header)
		}
		in := navigate(t, back, "Cookie", "__Host-sso="+kept.Value)
		if in.StatusCode != 303 || in.Header.Get("Location") != portal+"/runs" || strings.Contains(in.Header.Get("Location"), "#") {
			t.Fatalf("%d %v", in.StatusCode, in.Header)
		}
		refresh := cookieOf(t, in, "__Host-refresh")
		if refresh.SameSite != http.SameSiteStrictMode || !refresh.Secure || !refresh.HttpOnly {
			t.Errorf("%v", refresh)
		}
		if again := navigate(t, back, "Cookie", "__Host-sso="+kept.Value); again.Header.Get("Location") != portal+"/login?sso=sso_expired" {
			t.Errorf("a second time: %v", again.Header)
		}

		// The session opens the tenant, and nothing else of the person.
		tokens := anyone.must(200, "POST", "/api/v1/auth/refresh", nil, "Cookie", "__Host-refresh="+refresh.Value, "Sec-Fetch-Site", "same-origin")
		colleague := client{t, base, http.Header{"Authorization": {"Bearer " + tokens["access_token"].(string)}}}
		if me := colleague.must(200, "GET", "/api/v1/me", nil); me["tenant_id"] != tenant || me["user"].(map[string]any)["email"] != "colleague@uni.test" {
			t.Errorf("%v", me)
		}
		colleague.must(200, "GET", "/api/v1/datasets", nil)
		for _, personal := range []struct {
			method, path string
			body         any
		}{
			{"GET", "/api/v1/auth/sessions", nil}, {"PATCH", "/api/v1/me", map[string]any{"full_name": "x"}}, {"POST", "/api/v1/auth/mfa/totp", map[string]any{}},
			{"POST", "/api/v1/auth/passkeys/register/start", map[string]any{}}, {"POST", "/api/v1/auth/switch", map[string]any{"tenant_id": tenant}},
			{"GET", "/api/v1/auth/identities", nil}, {"POST", "/api/v1/privacy/erasures", map[string]any{"scope": "user"}}, {"POST", "/api/v1/privacy/exports", map[string]any{"scope": "user"}},
		} {
			status, raw, _ := colleague.do(personal.method, personal.path, personal.body)
			if status != 403 || !strings.Contains(string(raw), "sso_session") {
				t.Errorf("%s %s: %d %s", personal.method, personal.path, status, raw)
			}
		}
		owner.must(204, "DELETE", "/api/v1/tenant/sso/"+id, nil)
		eventually(t, "the sessions of a provider that is gone end", func() bool {
			status, _, _ := colleague.do("GET", "/api/v1/me", nil)
			return status == 401
		})
		query := url.Values{"state": {"x"}, "error": {"access_denied"}, "scope": {"whatever it adds"}}
		if lost := navigate(t, base+"/api/v1/auth/oidc/"+id+"/callback?"+query.Encode()); lost.Header.Get("Location") != portal+"/login?sso=sso_expired" {
			t.Errorf("%v", lost.Header)
		}
		if lost := navigate(t, base+"/api/v1/auth/oidc/"+id+"/start"); lost.Header.Get("Location") != portal+"/login?sso=not_found" {
			t.Errorf("%v", lost.Header)
		}
		anyone.must(422, "POST", "/api/v1/auth/sso/code", map[string]any{})
		anyone.must(403, "POST", "/api/v1/auth/sso/code", map[string]any{"ticket": strings.Repeat("x", 43), "totp": "000000"})
		anyone.must(403, "POST", "/api/v1/auth/sso/signup", map[string]any{"ticket": strings.Repeat("x", 43), "workspace_name": "x", "accept_terms": true})
		owner.must(403, "POST", "/api/v1/auth/identities", map[string]any{"ticket": strings.Repeat("x", 43)})
	})
}

// A directory speaks SCIM with a token that opens nothing else; its errors are
// those of RFC 7644, and what it deactivates is out.
func TestDirectory(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, key, tenant := person(t, base, "uni")
		if status, raw, _ := owner.do("POST", "/api/v1/tenant/scim-tokens", map[string]any{"name": "x"}); status != 403 || !strings.Contains(string(raw), "feature_not_in_plan") {
			t.Errorf("on the free plan: %d %s", status, raw)
		}
		plan := func(name string) {
			if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, name, "test", "test"); err != nil {
				t.Fatal(err)
			}
		}
		plan("enterprise")
		token := owner.must(201, "POST", "/api/v1/tenant/scim-tokens", map[string]any{"name": "Entra"})["token"].(string)
		if strings.Contains(toJSON(owner.must(200, "GET", "/api/v1/tenant/scim-tokens", nil)), token) {
			t.Error("the token is shown twice")
		}
		err := p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, `INSERT INTO tenant_domains (tenant_id, id, name, token, status, created_at, verified_at) VALUES (@of, 'dom_1', 'uni.test', 't', 'verified', @now, @now)`,
				map[string]any{"of": tenant, "now": time.Now().UTC()})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		directory := client{t, base, http.Header{"Authorization": {"Bearer " + token}}}
		scim := func(who client, method, path string, body any) (int, map[string]any, string) {
			t.Helper()
			status, raw, h := who.do(method, "/scim/v2"+path, body, "Content-Type", "application/scim+json", "Accept", "application/scim+json")
			out := map[string]any{}
			_ = json.Unmarshal(raw, &out)
			if status >= 400 && (h.Get("Content-Type") != "application/scim+json" || out["status"] != strconv.Itoa(status) || !strings.Contains(toJSON(out["schemas"]), "messages:2.0:Error")) {
				t.Errorf("%s %s: %d %s %s", method, path, status, h.Get("Content-Type"), raw)
			}
			word, _ := out["scimType"].(string)
			return status, out, word
		}
		if status, out, _ := scim(directory, "GET", "/ServiceProviderConfig", nil); status != 200 || out["patch"].(map[string]any)["supported"] != true {
			t.Errorf("%d %v", status, out)
		}
		for path, want := range map[string]string{"/ResourceTypes": `"endpoint":"/Groups"`, "/ResourceTypes/Group": `"endpoint":"/Groups"`, "/Schemas": `"id":"urn:ietf:params:scim:schemas:core:2.0:Group"`,
			"/Schemas/urn:ietf:params:scim:schemas:core:2.0:User": `"name":"userName"`} {
			if status, out, _ := scim(directory, "GET", path, nil); status != 200 || !strings.Contains(toJSON(out), want) {
				t.Errorf("%s: %d %v", path, status, out)
			}
		}
		body := map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": "new@uni.test", "nickName": "not kept", "active": true}
		status, made, _ := scim(directory, "POST", "/Users", body)
		if status != 201 || made["active"] != true {
			t.Fatalf("%d %v", status, made)
		}
		id := made["id"].(string)
		for _, wrong := range []struct {
			who          client
			method, path string
			body         any
			status       int
			word         string
		}{
			{directory, "POST", "/Users", body, 409, "uniqueness"},
			{directory, "POST", "/Users", map[string]any{"userName": "x@elsewhere.test"}, 400, "invalidValue"},
			{directory, "POST", "/Users", map[string]any{"userName": 7}, 400, "invalidValue"},
			{directory, "GET", "/Users?filter=title+pr", nil, 400, "invalidFilter"},
			{directory, "GET", "/Users/scu_nothing", nil, 404, ""},
			{client{t, base, http.Header{}}, "GET", "/Users", nil, 401, ""},
			{client{t, base, http.Header{"Authorization": {"Bearer " + token + "x"}}}, "GET", "/Users", nil, 401, ""},
			{owner, "GET", "/Users", nil, 403, ""},
			{key, "GET", "/Users", nil, 403, ""},
		} {
			if status, out, word := scim(wrong.who, wrong.method, wrong.path, wrong.body); status != wrong.status || word != wrong.word {
				t.Errorf("%s %s: %d %v", wrong.method, wrong.path, status, out)
			}
		}
		for _, path := range []string{"/api/v1/me", "/api/v1/datasets", "/api/v1/tenant/scim-tokens"} {
			directory.must(403, "GET", path, nil)
		}

		// One who was provisioned sets a password, signs in, and is out a moment after the directory said so.
		anyone := client{t, base, http.Header{}}
		anyone.must(202, "POST", "/api/v1/auth/password/forgot", map[string]any{"email": "new@uni.test"})
		link := regexp.MustCompile(`/reset-password#([\w-]+)`).FindStringSubmatch(letter(t, base, "new@uni.test", "password"))
		anyone.must(204, "POST", "/api/v1/auth/password/reset", map[string]any{"token": link[1], "password": "seventeen purple lanterns"})
		out := anyone.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "new@uni.test", "password": "seventeen purple lanterns"})
		user := client{t, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
		user.must(200, "GET", "/api/v1/datasets", nil)

		// A group by itself gives nothing; mapped to a role it does, and what it gave is gone within a second.
		status, group, _ := scim(directory, "POST", "/Groups", map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Group"}, "displayName": "Desk", "members": []any{map[string]any{"value": id}}})
		if status != 201 || len(group["members"].([]any)) != 1 {
			t.Fatalf("%d %v", status, group)
		}
		at := "/Groups/" + group["id"].(string)
		if _, out, _ := scim(directory, "GET", at+"?excludedAttributes=members", nil); out["displayName"] != "Desk" || out["members"] != nil {
			t.Errorf("without its members: %v", out)
		}
		if _, out, _ := scim(directory, "GET", "/Groups?excludedAttributes=members&filter="+url.QueryEscape(`displayName eq "desk"`), nil); out["totalResults"] != 1.0 {
			t.Errorf("by its name: %v", out)
		}
		user.must(403, "POST", "/api/v1/datasets", map[string]any{"name": "x"})
		owner.must(200, "PATCH", "/api/v1/tenant/scim-groups/"+group["id"].(string), map[string]any{"role": "analyst"})
		eventually(t, "the group gives its role", func() bool {
			status, _, _ := user.do("POST", "/api/v1/datasets", map[string]any{"name": "x"})
			return status == 201
		})
		if listed := toJSON(owner.must(200, "GET", "/api/v1/tenant/scim-groups", nil)); !strings.Contains(listed, `"members":1`) || !strings.Contains(listed, `"role":"analyst"`) {
			t.Error(listed)
		}
		scim(directory, "PATCH", at, map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}, "Operations": []any{map[string]any{"op": "remove", "path": `members[value eq "` + id + `"]`}}})
		eventually(t, "the group's role is gone", func() bool {
			status, _, _ := user.do("POST", "/api/v1/datasets", map[string]any{"name": "y"})
			return status == 403
		})
		for _, wrong := range []struct {
			method, path string
			body         any
			status       int
			word         string
		}{
			{"POST", "/Groups", map[string]any{"displayName": "desk"}, 409, "uniqueness"},
			{"POST", "/Groups", map[string]any{"displayName": "x", "members": []any{map[string]any{"value": "scu_nobody"}}}, 400, "invalidValue"},
			{"POST", "/Groups", map[string]any{"displayName": "x", "members": "all"}, 400, "invalidValue"},
			{"GET", "/Groups?filter=members+pr", nil, 400, "invalidFilter"},
			{"PUT", at, map[string]any{"displayName": ""}, 400, "invalidValue"},
		} {
			if status, out, word := scim(directory, wrong.method, wrong.path, wrong.body); status != wrong.status || word != wrong.word {
				t.Errorf("%s %s: %d %v", wrong.method, wrong.path, status, out)
			}
		}
		if status, out, _ := scim(directory, "PUT", at, map[string]any{"displayName": "Desk", "externalId": "x"}); status != 200 || out["externalId"] != "x" {
			t.Errorf("%d %v", status, out)
		}
		if status, _, _ := scim(directory, "DELETE", at, nil); status != 204 {
			t.Error(status)
		}

		if status, out, _ := scim(directory, "PATCH", "/Users/"+id, map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:PatchOp"},
			"Operations": []any{map[string]any{"op": "Replace", "path": "active", "value": "False"}}}); status != 200 || out["active"] != false {
			t.Fatalf("%d %v", status, out)
		}
		user.must(401, "GET", "/api/v1/datasets", nil)
		if status, out, _ := scim(directory, "PUT", "/Users/"+id, map[string]any{"userName": "new@uni.test", "active": true}); status != 200 || out["active"] != true {
			t.Errorf("%d %v", status, out)
		}
		if status, _, _ := scim(directory, "DELETE", "/Users/"+id, nil); status != 204 {
			t.Error(status)
		}
		plan("free")
		eventually(t, "the plan bites", func() bool {
			status, _, _ := scim(directory, "GET", "/Users", nil)
			return status == 403
		})
	})
}

// A SAML provider's page posts from its own site, without a cookie of ours; the
// browser brings the cookie in one step more.
func TestSAMLByPost(t *testing.T) {
	const portal = "https://portal.test"
	eachWith(t, map[string]string{"BASE_URL": portal}, func(t *testing.T, p *program, base string) {
		owner, _, tenant := person(t, base, "uni")
		if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil {
			t.Fatal(err)
		}
		err := p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, `INSERT INTO tenant_domains (tenant_id, id, name, token, status, created_at, verified_at) VALUES (@of, 'dom_1', 'uni.test', 't', 'verified', @now, @now)`,
				map[string]any{"of": tenant, "now": time.Now().UTC()})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		provider, err := idp.NewSAML("https://idp.uni.test", time.Now)
		if err != nil {
			t.Fatal(err)
		}
		provider.Person = idp.Person{Subject: "u-1", Email: "colleague@uni.test", Name: "Colleague"}
		made := owner.must(201, "POST", "/api/v1/tenant/sso", map[string]any{"kind": "saml", "name": "Uni", "metadata": provider.Metadata()})
		here := func(address string) string { return strings.Replace(address, portal, base, 1) }
		res, err := http.Get(here(made["metadata_url"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		provider.Service, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%d %s %v", res.StatusCode, provider.Service, err)
		}
		start := navigate(t, here(made["start_url"].(string))+"?return_to=/runs")
		kept := cookieOf(t, start, "__Host-sso")
		response, relay, err := provider.Answer(start.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		post := func(form url.Values, media string) *http.Response {
			t.Helper()
			req, err := http.NewRequest("POST", here(made["callback_url"].(string)), strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range map[string]string{"Content-Type": media, "Origin": "https://idp.uni.test", "Sec-Fetch-Site": "cross-site"} {
				req.Header.Set(k, v)
			}
			once := http.Client{Transport: http.DefaultTransport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			res, err := once.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			return res
		}
		const form = "application/x-www-form-urlencoded"
		good := url.Values{"SAMLResponse": {base64.StdEncoding.EncodeToString(response)}, "RelayState": {relay}}
		for name, bad := range map[string]*http.Response{
			"unsupported_media_type": post(good, "text/plain"),
			"invalid":                post(url.Values{"SAMLResponse": {"a", "b"}, "RelayState": {relay}}, form),
			"sso_expired":            post(url.Values{"SAMLResponse": good["SAMLResponse"], "RelayState": {"another"}}, form),
		} {
			if bad.StatusCode != 303 || bad.Header.Get("Location") != portal+"/login?sso="+name || len(bad.Cookies()) != 0 {
				t.Errorf("%s: %d %v", name, bad.StatusCode, bad.Header)
			}
		}
		posted := post(good, form)
		if posted.StatusCode != 303 || len(posted.Cookies()) != 0 || !strings.HasPrefix(posted.Header.Get("Location"), portal+"/api/v1/auth/saml/") {
			t.Fatalf("%d %v", posted.StatusCode, posted.Header)
		}
		finish := here(posted.Header.Get("Location"))
		if lost := navigate(t, finish); lost.Header.Get("Location") != portal+"/login?sso=sso_expired" {
			t.Errorf("without the cookie: %v", lost.Header)
		}
		in := navigate(t, finish, "Cookie", "__Host-sso="+kept.Value)
		if in.Header.Get("Location") != portal+"/runs" || cookieOf(t, in, "__Host-refresh").Value == "" {
			t.Errorf("%d %v", in.StatusCode, in.Header)
		}
		if len(owner.must(200, "GET", "/api/v1/tenant/members", nil)["data"].([]any)) != 2 {
			t.Error("the colleague is no member")
		}
	})
}

// A tenant asks for a second factor: who has none may add one and nothing else,
// at once, in sessions and streams that are open. A tenant asks for its own
// provider: its members sign in there, its owners may do without, and what they
// do elsewhere is their own.
func TestPolicyOfSignIn(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, key, tenant := person(t, base, "strict")
		other, _, elsewhere := person(t, base, "member")
		if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil {
			t.Fatal(err)
		}
		err := p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, `INSERT INTO memberships (tenant_id, id, user_id, role, created_at) SELECT @of, @id, user_id, 'admin', @now FROM memberships WHERE tenant_id = @there`,
				map[string]any{"of": tenant, "id": domain.NewID("mem"), "there": elsewhere, "now": time.Now().UTC()})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		member := client{t, base, http.Header{"Authorization": {"Bearer " + other.must(200, "POST", "/api/v1/auth/switch", map[string]any{"tenant_id": tenant})["access_token"].(string)}}}
		member.must(200, "GET", "/api/v1/datasets", nil)
		settings := func(more map[string]any) map[string]any {
			more["audit_retention_days"], more["residency"] = 365, ""
			return owner.must(200, "PATCH", "/api/v1/tenant", map[string]any{"settings": more})["settings"].(map[string]any)
		}
		refused := func(who client, code string) bool {
			status, raw, _ := who.do("GET", "/api/v1/datasets", nil)
			return status == 403 && strings.Contains(string(raw), code)
		}

		if got := settings(map[string]any{"require_sso": true}); got["require_sso"] != true || got["require_mfa"] != false {
			t.Errorf("%v", got)
		}
		eventually(t, "a member must come through the provider", func() bool { return refused(member, "sso_required") })
		other.must(200, "GET", "/api/v1/datasets", nil)
		owner.must(200, "GET", "/api/v1/datasets", nil)
		key.must(200, "GET", "/api/v1/datasets", nil)
		member.must(200, "GET", "/api/v1/me", nil)

		if got := settings(map[string]any{"require_sso": false, "require_mfa": true}); got["require_mfa"] != true || got["require_sso"] != false {
			t.Errorf("%v", got)
		}
		eventually(t, "a member needs a second factor", func() bool { return refused(member, "mfa_enrolment_required") })
		eventually(t, "the owner too", func() bool { return refused(owner, "mfa_enrolment_required") })
		// Every row but those of entry is shut.
		for _, row := range p.table {
			if p.store.Dialect() != store.SQLite || row.Credential&api.Session == 0 || row.Credential == api.Public || row.Entry || strings.Contains(row.Path, "{") {
				continue
			}
			if status, raw, _ := member.do(row.Method, row.Path, map[string]any{}); status != 403 || !strings.Contains(string(raw), "mfa_enrolment_required") {
				t.Errorf("%s %s: %d %s", row.Method, row.Path, status, raw)
			}
		}
		other.must(200, "GET", "/api/v1/datasets", nil)
		key.must(200, "GET", "/api/v1/datasets", nil)
		secret := member.must(201, "POST", "/api/v1/auth/mfa/totp", nil)["secret"].(string)
		code, err := totp.GenerateCode(secret, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		member.must(200, "POST", "/api/v1/auth/mfa/totp/confirm", map[string]any{"code": code})
		member.must(200, "GET", "/api/v1/datasets", nil)
		member.must(204, "DELETE", "/api/v1/auth/mfa/totp", nil)
		eventually(t, "what was taken away counts no more", func() bool { return refused(member, "mfa_enrolment_required") })
	})
}

// What takes data out, or away, wants a factor shown in the last ten minutes.
func TestExportsWantAFreshFactor(t *testing.T) {
	p, base := serve(t, nil)
	user, _, tenant := person(t, base, "fresh")
	if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil { // asking costs the rate
		t.Fatal(err)
	}
	err := p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, "UPDATE sessions SET proved_at = @then", map[string]any{"then": time.Now().Add(-11 * time.Minute).UTC()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the factor is stale", func() bool {
		status, raw, _ := user.do("PATCH", "/api/v1/tenant", map[string]any{"name": "x"})
		return status == 403 && strings.Contains(string(raw), "step_up_required")
	})
	for _, row := range []struct {
		method, path string
		body         any
	}{{"POST", "/api/v1/privacy/exports", map[string]any{"scope": "user"}}, {"POST", "/api/v1/privacy/erasures", map[string]any{"scope": "user"}},
		{"GET", "/api/v1/audit-events/export?format=csv", nil}, {"PATCH", "/api/v1/tenant", map[string]any{"name": "x"}}, {"POST", "/api/v1/tenant/scim-tokens", map[string]any{"name": "x"}},
		{"POST", "/api/v1/tenant/sso", map[string]any{"kind": "oidc", "name": "x"}}, {"POST", "/api/v1/auth/identities", map[string]any{"ticket": strings.Repeat("x", 43)}}} {
		if status, raw, _ := user.do(row.method, row.path, row.body); status != 403 || !strings.Contains(string(raw), "step_up_required") {
			t.Errorf("%s %s: %d %s", row.method, row.path, status, raw)
		}
	}
	user.must(204, "POST", "/api/v1/auth/step-up", map[string]any{"password": "correct horse battery"})
	user.must(202, "POST", "/api/v1/privacy/exports", map[string]any{"scope": "user"})
}
