package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/sandbox/idp"
	"github.com/chainreactions/chainreactions/domain"
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
		waitFor(t, "the sessions of a provider that is gone end", func() bool {
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
