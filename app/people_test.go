package main

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// eventually asks again until ok, since a worker may be on its way.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for wait := 10 * time.Millisecond; ; wait = min(wait*3/2, 500*time.Millisecond) { // asking all the time meets the limit of an address
		if ok() {
			return
		}
		select {
		case <-time.After(wait):
		case <-deadline:
			t.Fatal("never happened: " + what)
		}
	}
}

var mailLink = regexp.MustCompile(`/sandbox/mail/(mail_\w+)">([^<]*)</a>`)

// letter waits for a mail to the address with the subject, and gives its page.
func letter(t testing.TB, base, to, subject string) (page string) {
	t.Helper()
	anyone := client{t, base, http.Header{}}
	eventually(t, "a mail "+subject+" to "+to, func() bool {
		_, list, _ := anyone.do("GET", "/sandbox/mail", nil)
		for _, line := range strings.Split(string(list), "\n") {
			if m := mailLink.FindStringSubmatch(line); m != nil && strings.Contains(line, to) && strings.Contains(m[2], subject) {
				_, raw, _ := anyone.do("GET", "/sandbox/mail/"+m[1], nil)
				page = string(raw)
				return true
			}
		}
		return false
	})
	return page
}

// A demo request is mailed to us, with what the visitor wrote as text; one
// address cannot send many.
func TestDemoRequest(t *testing.T) {
	each(t, func(t *testing.T, _ *program, base string) {
		anyone := client{t, base, http.Header{}}
		ask := map[string]any{"name": "Li <script>", "email": "li@example.org", "company": "Acme\r\nBcc: x@example.org", "message": "Hello"}
		anyone.must(202, "POST", "/api/v1/demo-requests", ask)
		page := letter(t, base, "no-reply@localhost", "Demo request from Acme Bcc: x@example.org")
		if strings.Contains(page, "<script>") || !strings.Contains(page, "Li &lt;script&gt; (li@example.org)") {
			t.Error(page)
		}
		ask["email"] = "not an address"
		anyone.must(422, "POST", "/api/v1/demo-requests", ask)
		ask["email"] = "li@example.org"
		refused := 0
		for range 8 {
			if status, _, header := anyone.do("POST", "/api/v1/demo-requests", ask); status == 429 && header.Get("Retry-After") != "" {
				refused++
			}
		}
		if refused < 3 {
			t.Errorf("ten requests from one address, %d refused", refused)
		}
	})
}

// A refusal is on the record of the tenant whose credential it was, and on no
// other; the export tells of itself; the command finds what was changed.
func TestAuditTrail(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		_, a, tenantA := person(t, base, "alpha")
		bUser, b, _ := person(t, base, "beta")
		b.do("GET", "/api/v1/datasets", nil, "X-Tenant", tenantA)
		for range 5 {
			b.do("GET", "/api/v1/auth/sessions", nil) // not with a key
		}
		denied := func(c client) (out []string) {
			for _, e := range c.must(200, "GET", "/api/v1/audit-events?action=request.deny", nil)["data"].([]any) {
				e := e.(map[string]any)
				if e["outcome"] != "denied" || e["request_id"] == "" || e["ip"] != "127.0.0.1" {
					t.Errorf("%v", e)
				}
				out = append(out, e["target"].(string)+" "+e["detail"].(map[string]any)["code"].(string))
			}
			return out
		}
		if got := strings.Join(denied(b), ", "); got != "GET /api/v1/auth/sessions forbidden, GET /api/v1/datasets tenant_mismatch" {
			t.Errorf("on its own record: %s", got)
		}
		if got := denied(a); len(got) != 0 {
			t.Errorf("on the record of the tenant that was tried: %v", got)
		}
		_, raw, _ := bUser.do("GET", "/api/v1/audit-events/export?format=csv", nil)
		if !strings.Contains(string(raw), ",audit.export,") || !strings.HasPrefix(string(raw), "seq,id,") {
			t.Errorf("%s", raw)
		}
		var out strings.Builder
		if err := p.verifyAudit(t.Context(), &out, ""); err != nil || strings.Count(out.String(), " ok, ")-strings.Count(out.String(), " ok, 0 ") != 2 {
			t.Errorf("%v\n%s", err, out.String())
		}
		if err := p.audit.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.store.SQLDB().Exec("UPDATE audit_heads SET seq = seq - 1 WHERE tenant_id = $1", tenantA); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if err := p.verifyAudit(t.Context(), &out, ""); err == nil || !strings.Contains(out.String(), tenantA+" BROKEN at event ") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
}

// peopleObjects makes one object of each kind.
func peopleObjects(owner client, ids map[string]string) {
	members := owner.must(200, "GET", "/api/v1/tenant/members", nil)["data"].([]any)
	ids["members"] = members[0].(map[string]any)["id"].(string)
	make := func(status int, path string, body any) string {
		return owner.must(status, "POST", path, body)["id"].(string)
	}
	ids["invitations"] = make(201, "/api/v1/tenant/invitations", map[string]any{"email": "c@example.org", "role": "viewer"})
	ids["roles"] = make(201, "/api/v1/tenant/roles", map[string]any{"name": "r", "permissions": []string{"dataset:read"}})
	ids["webhook-endpoints"] = make(201, "/api/v1/webhook-endpoints", map[string]any{"url": "http://93.184.215.14/", "events": []string{"x.y"}})
	ids["webhook-deliveries"] = make(202, "/api/v1/webhook-endpoints/"+ids["webhook-endpoints"]+"/test", nil)
	ids["domains"] = make(201, "/api/v1/tenant/domains", map[string]any{"name": "research.example.org"})
	ids["exports"] = make(202, "/api/v1/privacy/exports", map[string]any{"scope": "user"})
	ids["erasures"] = make(202, "/api/v1/privacy/erasures", map[string]any{"scope": "user"})
}

var secretInLink = regexp.MustCompile(`/invitation#([\w-]+)`)

// An owner invites by mail, the invited person opens an account with the link,
// works with the rights of a role of the tenant's own, and loses them within a
// second; seats are counted.
func TestInvitedByMail(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, _, tenant := person(t, base, "boss")
		if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "business", "test", "test"); err != nil {
			t.Fatal(err)
		}
		role := owner.must(201, "POST", "/api/v1/tenant/roles", map[string]any{"name": "reader", "permissions": []string{"dataset:read", "usage:read"}})["id"].(string)
		owner.must(201, "POST", "/api/v1/tenant/invitations", map[string]any{"email": "new@example.org", "role": role, "locale": "zh-CN"})
		page := letter(t, base, "new@example.org", "boss 邀请您加入 boss")
		secret := secretInLink.FindStringSubmatch(page)
		if secret == nil || !strings.Contains(page, "“reader”") {
			t.Fatal(page)
		}
		anyone := client{t, base, http.Header{}}
		if info := anyone.must(200, "POST", "/api/v1/invitations/look", map[string]any{"token": secret[1]}); info["tenant"] != "boss" || info["has_account"] != false {
			t.Errorf("%v", info)
		}
		joined := anyone.must(201, "POST", "/api/v1/invitations/join", map[string]any{"token": secret[1], "password": "correct horse battery", "full_name": "New", "accept_terms": true})
		reader := client{t, base, http.Header{"Authorization": {"Bearer " + joined["access_token"].(string)}}}
		reader.must(200, "GET", "/api/v1/datasets", nil)
		reader.must(403, "POST", "/api/v1/datasets", map[string]any{"name": "x"})
		reader.must(403, "GET", "/api/v1/tenant/members", nil)
		for _, m := range reader.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
			if m := m.(map[string]any); m["meter"] == "seats" && m["used"] != 2.0 {
				t.Errorf("%v", m)
			}
		}
		owner.must(200, "PATCH", "/api/v1/tenant/roles/"+role, map[string]any{"permissions": []string{"usage:read"}})
		eventually(t, "the permission is gone", func() bool { s, _, _ := reader.do("GET", "/api/v1/datasets", nil); return s == 403 })
		for _, m := range owner.must(200, "GET", "/api/v1/tenant/members", nil)["data"].([]any) {
			if m := m.(map[string]any); m["email"] == "new@example.org" {
				owner.must(204, "DELETE", "/api/v1/tenant/members/"+m["id"].(string), nil)
			}
		}
		eventually(t, "the session is gone", func() bool { s, _, _ := reader.do("GET", "/api/v1/usage", nil); return s == 401 })
	})
}

// What happens in a tenant reaches its endpoint, signed, through the guard; the
// log shows it, and a test message can be sent.
func TestWebhooks(t *testing.T) {
	var mu sync.Mutex
	var got []http.Header
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Header)
	}))
	defer hook.Close()
	eachWith(t, map[string]string{"EGRESS_DIAL_OVERRIDE": strings.TrimPrefix(hook.URL, "http://")}, func(t *testing.T, p *program, base string) {
		user, key, _ := person(t, base, "hooked")
		made := user.must(201, "POST", "/api/v1/webhook-endpoints", map[string]any{"url": "http://93.184.215.14/in", "events": []string{"dataset.*"}})
		id := made["id"].(string)
		if !strings.HasPrefix(made["secret"].(string), "whsec_") || user.must(200, "GET", "/api/v1/webhook-endpoints/"+id, nil)["secret"] != nil {
			t.Error("the secret is not shown exactly once")
		}
		user.must(202, "POST", "/api/v1/webhook-endpoints/"+id+"/test", nil)
		key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})
		eventually(t, "both are delivered", func() bool {
			page := user.must(200, "GET", "/api/v1/webhook-endpoints/"+id+"/deliveries?status=delivered", nil)
			return len(page["data"].([]any)) == 2
		})
		user.must(422, "POST", "/api/v1/webhook-endpoints", map[string]any{"url": "http://169.254.169.254/", "events": []string{"*"}})
		mu.Lock()
		defer mu.Unlock()
		for _, h := range got {
			if h.Get("webhook-id") == "" || !strings.HasPrefix(h.Get("webhook-signature"), "v1,") {
				t.Errorf("%v", h)
			}
		}
	})
}

// A tenant's own settings are changed by those who may, and its domains are
// claimed with a record to set.
func TestTenantSettings(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		user, key, tenant := person(t, base, "settled")
		out := user.must(200, "PATCH", "/api/v1/tenant", map[string]any{"slug": "settled-anew", "settings": map[string]any{"audit_retention_days": 90, "residency": "EU"}})
		if out["slug"] != "settled-anew" || out["settings"].(map[string]any)["residency"] != "EU" {
			t.Errorf("%v", out)
		}
		user.must(422, "PATCH", "/api/v1/tenant", map[string]any{"settings": map[string]any{"audit_retention_days": 1, "residency": ""}})
		for _, slug := range []string{"settled-anew", "settled"} {
			user.must(200, "GET", "/api/v1/tenant", nil, "X-Tenant", slug)
		}
		d := user.must(201, "POST", "/api/v1/tenant/domains", map[string]any{"name": "research.example.org"})
		if d["record"] != "_chainreactions.research.example.org" || !strings.HasPrefix(d["value"].(string), "chainreactions-verify=") {
			t.Errorf("%v", d)
		}
		key.must(403, "PATCH", "/api/v1/tenant", map[string]any{"name": "x"})
		if err := p.tenants.SetStatus(domain.System(t.Context(), "test"), tenant, "suspended", "test"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the tenant is suspended", func() bool {
			status, body, _ := user.do("GET", "/api/v1/datasets", nil)
			return status == 403 && strings.Contains(string(body), "tenant_suspended")
		})
	})
}

// A person is told of the end of what they set going, in their language; the key
// that did the same tells nobody. It is in their own export, and by mail as they
// wish.
func TestNotified(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, key, _ := person(t, base, "told")
		id := owner.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "List"})["id"].(string)
		owner.must(200, "PUT", "/api/v1/me/notifications/preferences", map[string]any{"preferences": []any{map[string]any{"type": "import_finished", "in_app": true, "mail": "once"}}})
		key.importList(id, "name\nA\n", "")
		owner.importList(id, "name\nB\nC\n", "")
		zh := owner
		zh.header = owner.header.Clone()
		zh.header.Set("Accept-Language", "zh-CN")
		list := zh.must(200, "GET", "/api/v1/me/notifications?unread=true", nil)["data"].([]any)
		if len(list) != 1 || list[0].(map[string]any)["text"] != "导入“List”已完成：共 2 行。" || list[0].(map[string]any)["path"] != "/app/datasets/"+id {
			t.Fatalf("%v", list)
		}
		letter(t, base, "told@example.org", "told: The import into “List” is done: 2 rows.")
		if _, archive := owner.export("user"); !strings.Contains(unzip(t, archive)["about/notifications.jsonl"], "import_finished") {
			t.Error("the export of the person lacks it")
		}
		eventually(t, "the export is told of", func() bool { return owner.must(200, "GET", "/api/v1/me/notifications/unread", nil)["unread"] == 2.0 })
		first := list[0].(map[string]any)["id"].(string)
		owner.must(204, "POST", "/api/v1/me/notifications/read", map[string]any{"up_to": first})
		owner.must(204, "POST", "/api/v1/me/notifications/"+first+"/read", nil)
		owner.must(422, "POST", "/api/v1/me/notifications/read", map[string]any{"up_to": "x"})
		if n := owner.must(200, "GET", "/api/v1/me/notifications/unread", nil)["unread"]; n != 1.0 {
			t.Errorf("%v unread", n)
		}
		owner.must(422, "PUT", "/api/v1/me/notifications/preferences", map[string]any{"preferences": []any{map[string]any{"type": "new_device", "in_app": true, "mail": "off"}}})
	})
}
