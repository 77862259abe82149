package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/tenants/privacy"
)

// administrator makes the person of a client a platform administrator whose
// session has shown a second factor.
func administrator(t *testing.T, p *program, user client) (admin client) {
	t.Helper()
	email := user.must(200, "GET", "/api/v1/me", nil)["user"].(map[string]any)["email"].(string)
	if _, err := p.auth.CreateAdmin(domain.System(t.Context(), "test"), email, "test"); err != nil {
		t.Fatal(err)
	}
	secret := user.must(201, "POST", "/api/v1/auth/mfa/totp", nil)["secret"].(string)
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	user.must(200, "POST", "/api/v1/auth/mfa/totp/confirm", map[string]any{"code": code})
	return user
}

// events are the actions on a tenant's record, newest first.
func (c client) events(query string) (out []string) {
	c.t.Helper()
	for _, e := range c.must(200, "GET", "/api/v1/audit-events?limit=200&"+query, nil)["data"].([]any) {
		e := e.(map[string]any)
		out = append(out, e["actor_kind"].(string)+" "+e["action"].(string))
	}
	return out
}

// A platform administrator, and only in a session that has shown a second
// factor, reads and suspends tenants; each call is on the record of the tenant
// that it touches, as the administrator's; a suspension bites within a second.
func TestAdministration(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, key, tenant := person(t, base, "customer")
		root, rootKey, home := person(t, base, "root")
		const tenants = "/api/v1/admin/tenants"
		refused := func(who client, code string) {
			t.Helper()
			if out := who.must(403, "GET", tenants, nil); out["code"] != code {
				t.Errorf("%v", out)
			}
		}
		refused(root, "forbidden")
		if _, err := p.auth.CreateAdmin(domain.System(t.Context(), "test"), "root@example.org", "test"); err != nil {
			t.Fatal(err)
		}
		refused(root, "step_up_required") // by password alone
		administrator(t, p, root)
		refused(owner, "forbidden")
		refused(rootKey, "forbidden") // an administrator's key is a key

		found := root.must(200, "GET", tenants+"?q=CUSTOM&status=active", nil)["data"].([]any)
		if len(found) != 1 || found[0].(map[string]any)["id"] != tenant || found[0].(map[string]any)["people"] != 1.0 {
			t.Errorf("%v", found)
		}
		if n := len(root.must(200, "GET", tenants+"?q=%25", nil)["data"].([]any)); n != 0 {
			t.Errorf("a percent sign finds %d tenants", n)
		}
		page := root.must(200, "GET", tenants+"?limit=1", nil)
		next := root.must(200, "GET", tenants+"?limit=1&cursor="+page["next_cursor"].(string), nil)
		if page["data"].([]any)[0].(map[string]any)["id"] != home || next["data"].([]any)[0].(map[string]any)["id"] != tenant {
			t.Errorf("%v, then %v", page, next)
		}
		root.must(404, "GET", tenants+"/"+domain.NewID("ten"), nil)
		if got := root.must(200, "GET", tenants+"/"+tenant, nil); got["slug"] != "customer" || got["settings"].(map[string]any)["audit_retention_days"] != 365.0 {
			t.Errorf("%v", got)
		}
		root.must(422, "POST", tenants+"/"+tenant+"/suspend", map[string]any{})
		if got := root.must(200, "POST", tenants+"/"+tenant+"/suspend", map[string]any{"reason": "spam"}); got["status"] != "suspended" {
			t.Errorf("%v", got)
		}
		for _, who := range []client{owner, key} {
			eventually(t, "the suspension bites", func() bool {
				status, raw, _ := who.do("GET", "/api/v1/datasets", nil)
				return status == 403 && strings.Contains(string(raw), "tenant_suspended")
			})
		}
		// Suspending one's own tenant locks no administrator out.
		root.must(200, "POST", tenants+"/"+home+"/suspend", map[string]any{"reason": "by mistake"})
		root.must(200, "POST", tenants+"/"+home+"/reactivate", map[string]any{"reason": "by mistake"})
		root.must(200, "POST", tenants+"/"+tenant+"/reactivate", map[string]any{"reason": "settled"})
		eventually(t, "it goes on", func() bool { status, _, _ := owner.do("GET", "/api/v1/datasets", nil); return status == 200 })

		seen := strings.Join(owner.events(""), ", ")
		for _, want := range []string{"admin tenant.resume", "admin tenant.suspend", "admin admin.read_tenant"} {
			if !strings.Contains(seen, want) {
				t.Errorf("%q is not on the tenant's record: %s", want, seen)
			}
		}
		if strings.Contains(seen, "find_tenants") || strings.Contains(strings.Join(root.events(""), ", "), "spam") {
			t.Errorf("what touched no tenant is on the record of one: %s", seen)
		}
		if why := owner.must(200, "GET", "/api/v1/audit-events?action=tenant.suspend", nil)["data"].([]any)[0].(map[string]any)["detail"].(map[string]any)["reason"]; why != "spam" {
			t.Errorf("the reason: %v", why)
		}
		// The record of all, and of one; other tenants' addresses stay shut until theirs is read.
		all := root.must(200, "GET", "/api/v1/admin/audit-events?limit=200", nil)["data"].([]any)
		whose := map[string]bool{}
		for _, e := range all {
			e := e.(map[string]any)
			whose[e["tenant_id"].(string)] = true
			if e["actor_kind"] == "user" && e["ip"] != "" {
				t.Errorf("an address is open: %v", e)
			}
		}
		one := root.must(200, "GET", "/api/v1/admin/audit-events?action=user.signup&tenant_id="+tenant, nil)["data"].([]any)
		if !whose[tenant] || !whose[home] || len(one) != 1 || one[0].(map[string]any)["ip"] != "127.0.0.1" {
			t.Errorf("%v %v", whose, one)
		}
		if seen := owner.events("action=admin.read_audit"); len(seen) != 1 {
			t.Errorf("reading the tenant's record is on it %d times", len(seen))
		}
		if v := owner.must(200, "GET", "/api/v1/audit-events/verify", nil); v["ok"] != true {
			t.Errorf("%v", v)
		}
	})
}

// V7.4.2, V7.4.5: an administrator ends a person's sessions, or shuts the
// account: sessions end, keys that the person made stop, and no sign-in begins
// another, until it is open again. Nobody shuts their own.
func TestDisabledPeople(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		root, _, _ := person(t, base, "root")
		administrator(t, p, root)
		owner, key, _ := person(t, base, "customer")
		const users = "/api/v1/admin/users"
		found := root.must(200, "GET", users+"?q=Customer@", nil)["data"].([]any)
		if len(found) != 1 || found[0].(map[string]any)["email"] != "customer@example.org" {
			t.Fatalf("%v", found)
		}
		id := found[0].(map[string]any)["id"].(string)
		if u := root.must(200, "GET", users+"/"+id, nil); u["sessions"] != 1.0 || u["administrator"] != false || len(u["tenants"].([]any)) != 1 {
			t.Errorf("%v", u)
		}
		root.must(404, "GET", users+"/"+domain.NewID("usr"), nil)
		root.must(404, "GET", users+"?tenant_id="+domain.NewID("ten"), nil)
		root.must(204, "DELETE", users+"/"+id+"/sessions", nil)
		gone := func(who client) {
			t.Helper()
			eventually(t, "the credential is gone", func() bool { s, _, _ := who.do("GET", "/api/v1/tenant", nil); return s == 401 })
		}
		gone(owner)
		key.must(200, "GET", "/api/v1/tenant", nil) // a key is the tenant's
		anyone := client{t, base, http.Header{}}
		sign := map[string]any{"email": "customer@example.org", "password": "correct horse battery"}
		owner.header.Set("Authorization", "Bearer "+anyone.must(200, "POST", "/api/v1/auth/login", sign)["access_token"].(string))

		if u := root.must(200, "POST", users+"/"+id+"/disable", map[string]any{"reason": "left the company"}); u["disabled_at"] == nil || u["sessions"] != 0.0 {
			t.Errorf("%v", u)
		}
		gone(owner)
		gone(key)
		if out := anyone.must(403, "POST", "/api/v1/auth/login", sign); out["code"] != "account_disabled" {
			t.Errorf("%v", out)
		}
		sign["password"] = "not the password at all"
		anyone.must(401, "POST", "/api/v1/auth/login", sign) // who does not know it learns nothing
		sign["password"] = "correct horse battery"
		root.must(200, "POST", users+"/"+id+"/enable", map[string]any{"reason": "came back"})
		owner.must(401, "GET", "/api/v1/tenant", nil) // what ended stays ended
		owner.header.Set("Authorization", "Bearer "+anyone.must(200, "POST", "/api/v1/auth/login", sign)["access_token"].(string))
		eventually(t, "the key works again", func() bool { s, _, _ := key.do("GET", "/api/v1/tenant", nil); return s == 200 })
		if seen := strings.Join(owner.events("target="+id), ", "); seen != "admin admin.read_user, admin user.enable, admin admin.read_user, admin user.disable, admin session.revoke_all, admin admin.read_user, user user.signup" {
			t.Errorf("the tenant's record of the person: %s", seen)
		}
		me := root.must(200, "GET", "/api/v1/me", nil)["user"].(map[string]any)["id"].(string)
		root.must(409, "POST", users+"/"+me+"/disable", map[string]any{"reason": "of myself"})
	})
}

// mailsWaiting counts mails that are not on their way yet.
func mailsWaiting(t *testing.T, p *program) int {
	t.Helper()
	return jobsOf(t, p, "mail", "AND state <> 'completed'")
}

// jobsOf counts the jobs of a kind that the queue knows, done or not.
func jobsOf(t *testing.T, p *program, kind, and string) (n int) {
	t.Helper()
	query := "SELECT count(*) FROM river_job WHERE json_extract(args, '$.name') = $1 "
	if p.store.Pool() != nil {
		query = "SELECT count(*) FROM river.river_job WHERE args->>'name' = $1 "
	}
	if err := p.store.SQLDB().QueryRow(query+and, kind).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// D7: a system in quarantine works, and tells nobody outside: mails and webhooks
// wait. An administrator releases it; what waited in the backup is forgotten, and
// what came since goes out.
func TestQuarantine(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		root, _, _ := person(t, base, "root")
		administrator(t, p, root)
		const at = "/api/v1/admin/quarantine"
		if out := root.must(200, "GET", at, nil); out["on"] != false {
			t.Errorf("%v", out)
		}
		root.must(409, "POST", at+"/release", map[string]any{})
		anyone := client{t, base, http.Header{}}
		ask := func(company string) {
			t.Helper()
			anyone.must(202, "POST", "/api/v1/demo-requests", map[string]any{"name": "n", "email": "n@example.org", "company": company, "message": "m"})
		}
		waiting := func() int { return mailsWaiting(t, p) }
		ask("before")
		letter(t, base, "no-reply@localhost", "Demo request from before")
		eventually(t, "the first is done", func() bool { return waiting() == 0 })
		if err := p.quarantine.Begin(t.Context(), "restored"); err != nil {
			t.Fatal(err)
		}
		ask("meanwhile")
		if n := waiting(); n != 1 {
			t.Errorf("%d mails wait", n)
		}
		owner, _, tenant := person(t, base, "customer") // everything else works
		owner.must(200, "GET", "/api/v1/datasets", nil)
		// Usage is not reported, and no subscription ends with its tenant.
		err := p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			return errors.Join(p.queue.Enqueue(ctx, billing.ReportJob{Tenant: tenant}, domain.JobOptions{}),
				p.queue.Enqueue(ctx, billing.SyncJob{Customer: "cus_of_the_backup"}, domain.JobOptions{}), // which reports usage too, and pays back
				p.queue.Enqueue(ctx, billing.CatalogueJob{}, domain.JobOptions{}))
		})
		if err != nil {
			t.Fatal(err)
		}
		owner.must(202, "POST", "/api/v1/privacy/erasures", map[string]any{"scope": "tenant", "grace_days": 0})
		if err := p.privacy.RunErase(t.Context(), privacy.EraseJob{}); err == nil || !strings.Contains(err.Error(), "quarantine") {
			t.Errorf("an erasure that is due: %v", err)
		}
		owner.must(200, "GET", "/api/v1/datasets", nil)
		// A mail of the backup: from before the quarantine began.
		if _, err := p.store.SQLDB().Exec("UPDATE quarantines SET began_at = $1", time.Now().UTC().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		root.must(200, "POST", at+"/release", map[string]any{})
		if n := waiting(); n != 0 {
			t.Errorf("%d mails of the backup wait", n)
		}
		for _, kind := range []string{"billing.report", "billing.sync", "billing.catalogue"} {
			if n := jobsOf(t, p, kind, ""); n != 0 {
				t.Errorf("%d of %s of the backup waited or were worked", n, kind)
			}
		}
		eventually(t, "the tenant is erased", func() bool {
			status, _, _ := owner.do("GET", "/api/v1/datasets", nil)
			return p.privacy.RunErase(t.Context(), privacy.EraseJob{}) == nil && status == 401
		})
		ask("after")
		letter(t, base, "no-reply@localhost", "Demo request from after")
		if _, list, _ := anyone.do("GET", "/sandbox/mail", nil); strings.Contains(string(list), "meanwhile") {
			t.Error("a mail of the backup was sent")
		}
		if seen := root.events("action=quarantine.release"); len(seen) != 1 {
			t.Errorf("%v", seen)
		}
	})
}

// An administrator acts as a person of a tenant: with a reason, for minutes, with
// a token that names both, never on what is the person's own to decide. Every
// call, with both names, is on the tenant's record, the person is mailed, sees the
// session and can end it; it ends with the administrator's own session too, and a
// tenant can forbid it.
func TestImpersonation(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		root, rootKey, home := person(t, base, "root")
		administrator(t, p, root)
		owner, _, tenant := person(t, base, "customer")
		if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil {
			t.Fatal(err)
		}
		idOf := func(c client) string {
			return c.must(200, "GET", "/api/v1/me", nil)["user"].(map[string]any)["id"].(string)
		}
		rootID, ownerID := idOf(root), idOf(owner)
		ds := owner.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		const at = "/api/v1/admin/impersonations"
		ask := map[string]any{"user_id": ownerID, "tenant_id": tenant, "reason": "ticket 4711: an import fails", "minutes": 30}
		begin := func() (client, string) {
			t.Helper()
			out := root.must(201, "POST", at, ask)
			if out["expires_in"] != 1800.0 || out["admin_id"] != rootID {
				t.Errorf("%v", out)
			}
			return client{t, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}, out["id"].(string)
		}
		for _, wrong := range []map[string]any{with(ask, "reason", "because"), {"user_id": ownerID, "tenant_id": tenant, "reason": "ticket 4711: an import fails", "minutes": 31}} {
			if status, _, _ := root.do("POST", at, wrong); status != 422 {
				t.Errorf("%v: %d", wrong, status)
			}
		}
		root.must(404, "POST", at, map[string]any{"user_id": ownerID, "tenant_id": home, "reason": "ticket 4711: an import fails"}) // no member there
		root.must(403, "POST", at, map[string]any{"user_id": rootID, "tenant_id": home, "reason": "ticket 4711: an import fails"})  // an administrator
		owner.must(403, "POST", at, ask)
		rootKey.must(403, "POST", at, ask)

		as, id := begin()
		page := letter(t, base, "customer@example.org", "support")
		if !strings.Contains(page, "ticket 4711: an import fails") {
			t.Error(page)
		}
		me := as.must(200, "GET", "/api/v1/me", nil)
		banner, _ := me["impersonation"].(map[string]any)
		if me["user"].(map[string]any)["id"] != ownerID || banner["id"] != id || banner["admin_id"] != rootID || banner["reason"] != ask["reason"] {
			t.Errorf("%v", me)
		}
		if may := fmt.Sprint(me["permissions"]); !strings.Contains(may, "dataset:write") || strings.Contains(may, "dataset:delete") || strings.Contains(may, "member:write") || strings.Contains(may, "privacy") {
			t.Errorf("may %s", may)
		}
		as.must(200, "GET", "/api/v1/datasets/"+ds, nil)
		as.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "made to help"})
		for _, c := range []struct{ method, path string }{
			{"POST", "/api/v1/api-keys"}, {"POST", "/api/v1/auth/password/change"}, {"POST", "/api/v1/auth/email/change"}, {"POST", "/api/v1/auth/mfa/totp"},
			{"POST", "/api/v1/auth/step-up"}, {"POST", "/api/v1/auth/switch"}, {"GET", "/api/v1/auth/sessions"}, {"PATCH", "/api/v1/me"}, {"POST", "/api/v1/tenant/invitations"},
			{"POST", "/api/v1/tenant/leave"}, {"POST", "/api/v1/tenant/ownership"}, {"PATCH", "/api/v1/tenant"}, {"POST", "/api/v1/billing/checkout"}, {"POST", "/api/v1/billing/refresh"},
			{"GET", "/api/v1/audit-events/export"}, {"GET", "/api/v1/datasets/" + ds + "/export"}, {"POST", "/api/v1/privacy/exports"}, {"GET", "/api/v1/privacy/exports"},
			{"POST", "/api/v1/privacy/erasures"}, {"PUT", "/api/v1/privacy/consents"}, {"DELETE", "/api/v1/datasets/" + ds}, {"POST", "/api/v1/webhook-endpoints"},
			{"GET", "/api/v1/admin/tenants"}, {"POST", at},
		} {
			if status, raw, _ := as.do(c.method, c.path, map[string]any{}); status != 403 {
				t.Errorf("%s %s in somebody's name: %d %s", c.method, c.path, status, raw)
			}
		}
		acted, made := 0, 0
		for _, e := range owner.must(200, "GET", "/api/v1/audit-events?limit=200&actor="+rootID, nil)["data"].([]any) {
			e := e.(map[string]any)
			switch e["action"] {
			case "impersonation.start":
				if e["actor_kind"] != "admin" || e["detail"].(map[string]any)["reason"] != ask["reason"] {
					t.Errorf("%v", e)
				}
			case "impersonation.act":
				acted++
			case "dataset.create":
				made++
			}
			if e["action"] != "impersonation.start" && (e["actor_id"] != ownerID || e["impersonator"] != rootID || e["ip"] == "127.0.0.1") {
				t.Errorf("%v", e)
			}
		}
		if acted != 3 || made != 1 {
			t.Errorf("%d calls and %d changes on the record, of 3 and 1", acted, made)
		}
		if denied := len(owner.must(200, "GET", "/api/v1/audit-events?limit=200&action=request.deny&actor="+rootID, nil)["data"].([]any)); denied < 20 {
			t.Errorf("%d refusals on the record", denied)
		}
		if seen := owner.must(200, "GET", "/api/v1/tenant/members", nil)["data"].([]any)[0].(map[string]any)["seen_at"]; seen == nil {
			t.Error("the owner was never seen")
		}

		// The person sees it and ends it.
		ended := func(c client) {
			t.Helper()
			eventually(t, "it ended", func() bool { s, _, _ := c.do("GET", "/api/v1/me", nil); return s == 401 })
		}
		for _, s := range owner.must(200, "GET", "/api/v1/auth/sessions", nil)["data"].([]any) {
			if s := s.(map[string]any); s["impersonator"] == rootID {
				if s["ip"] != "" {
					t.Errorf("where the administrator is: %v", s)
				}
				owner.must(204, "DELETE", "/api/v1/auth/sessions/"+s["id"].(string), nil)
			}
		}
		ended(as)
		if list := root.must(200, "GET", at, nil)["data"].([]any); len(list) != 1 || list[0].(map[string]any)["ended_at"] == nil {
			t.Errorf("%v", list)
		}
		// A second ends the first; the administrator ends it, from either side.
		first, _ := begin()
		second, id := begin()
		ended(first)
		second.must(200, "GET", "/api/v1/me", nil)
		root.must(204, "DELETE", at+"/"+id, nil)
		ended(second)
		third, _ := begin()
		third.must(204, "POST", "/api/v1/auth/logout", nil)
		ended(third)
		root.must(200, "GET", "/api/v1/me", nil) // the administrator's own goes on
		if n := len(owner.events("action=impersonation.end")); n != 4 {
			t.Errorf("%d ends on the record, of 4", n)
		}
		// A tenant that forbids it, and goes on forbidding it.
		owner.must(200, "PATCH", "/api/v1/tenant", map[string]any{"settings": map[string]any{"audit_retention_days": 365, "residency": "", "support_access": "forbidden"}})
		owner.must(200, "PATCH", "/api/v1/tenant", map[string]any{"settings": map[string]any{"audit_retention_days": 364, "residency": ""}})
		root.must(403, "POST", at, ask)
		owner.must(200, "PATCH", "/api/v1/tenant", map[string]any{"settings": map[string]any{"audit_retention_days": 365, "residency": "", "support_access": "allowed"}})
		last, _ := begin()
		root.must(204, "POST", "/api/v1/auth/logout", nil)
		ended(last) // with the session that it was begun in
		if v := owner.must(200, "GET", "/api/v1/audit-events/verify", nil); v["ok"] != true {
			t.Errorf("%v", v)
		}
	})
}

// A hold that an administrator puts keeps an erasure waiting; the tenant that is
// held sees it on its record, and the tenants of a person who is do not.
func TestHoldsOfAdministrators(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		root, _, _ := person(t, base, "root")
		administrator(t, p, root)
		owner, _, tenant := person(t, base, "customer")
		if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil {
			t.Fatal(err)
		}
		const holds = "/api/v1/admin/holds"
		root.must(422, "POST", holds, map[string]any{"subject": domain.NewID("usr"), "reason": "nobody"})
		hold := root.must(201, "POST", holds, map[string]any{"subject": tenant, "reason": "a claim"})["id"].(string)
		me := owner.must(200, "GET", "/api/v1/me", nil)["user"].(map[string]any)["id"].(string)
		ofPerson := root.must(201, "POST", holds, map[string]any{"subject": me, "reason": "another"})["id"].(string)
		if n := len(root.must(200, "GET", holds+"?subject="+tenant, nil)["data"].([]any)); n != 1 {
			t.Errorf("%d holds on the tenant", n)
		}
		erasure := owner.must(202, "POST", "/api/v1/privacy/erasures", map[string]any{"scope": "tenant", "grace_days": 0})["id"].(string)
		eventually(t, "it is held", func() bool {
			return owner.must(200, "GET", "/api/v1/privacy/erasures/"+erasure, nil)["status"] == "held"
		})
		if seen := owner.events("action=hold.put"); len(seen) != 1 || seen[0] != "admin hold.put" {
			t.Errorf("on the tenant's record: %v", seen)
		}
		root.must(204, "DELETE", holds+"/"+ofPerson, nil)
		root.must(404, "DELETE", holds+"/"+ofPerson, nil)
		root.must(204, "DELETE", holds+"/"+hold, nil)
		eventually(t, "the erasure went on", func() bool { s, _, _ := owner.do("GET", "/api/v1/tenant", nil); return s == 401 })
		out := root.must(409, "POST", "/api/v1/admin/tenants/"+tenant+"/reactivate", map[string]any{"reason": "too late"})
		if out["code"] != "conflict" {
			t.Errorf("%v", out)
		}
	})
}

// Platform administrators alone see the queue: how much of what waits, and why
// work failed. What they do about it has a reason, which is on the record of the
// tenant whose work it is.
func TestJobsInAdministration(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, key, tenant := person(t, base, "customer")
		root, _, _ := person(t, base, "root")
		const at = "/api/v1/admin/jobs"
		for _, path := range []string{at, at + "/lanes"} {
			owner.must(403, "GET", path, nil)
			key.must(403, "GET", path, nil)
		}
		administrator(t, p, root)
		ctx := domain.WithScope(t.Context(), domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "test"}})
		for range 2 {
			if err := p.store.Tx(ctx, func(ctx context.Context) error { return p.queue.Enqueue(ctx, illegible("?"), domain.JobOptions{}) }); err != nil {
				t.Fatal(err)
			}
		}
		var found []any
		eventually(t, "what cannot be worked is found by its failure", func() bool {
			found = root.must(200, "GET", at+"?kind=dataset.import&state=cancelled&tenant_id="+tenant, nil)["data"].([]any)
			return len(found) == 2
		})
		first, second := found[0].(map[string]any), found[1].(map[string]any)
		if why := first["failures"].([]any)[0].(map[string]any)["reason"].(string); !strings.Contains(why, "cannot unmarshal") || first["tenant_id"] != tenant || first["lane"] != "default" {
			t.Errorf("%v", first)
		}
		lanes := map[string]map[string]any{}
		for _, l := range root.must(200, "GET", at+"/lanes", nil)["data"].([]any) {
			lanes[l.(map[string]any)["lane"].(string)] = l.(map[string]any)
		}
		if lanes["default"]["cancelled"] != 2.0 || lanes["outbound"]["workers"] != 8.0 || lanes["research"] == nil || lanes["archive"] == nil {
			t.Errorf("%v", lanes)
		}
		root.must(422, "POST", at+"/"+first["id"].(string)+"/retry", map[string]any{})
		owner.must(403, "POST", at+"/"+first["id"].(string)+"/retry", map[string]any{"reason": "curious"})
		root.must(200, "POST", at+"/"+first["id"].(string)+"/retry", map[string]any{"reason": "the worker is there now"})
		eventually(t, "it is tried a second time", func() bool {
			got := root.must(200, "GET", at+"?kind=dataset.import&state=cancelled", nil)["data"].([]any)
			return len(got) == 2 && got[0].(map[string]any)["attempts"] == 2.0
		})
		root.must(200, "POST", at+"/"+second["id"].(string)+"/discard", map[string]any{"reason": "of no use"})
		root.must(404, "POST", at+"/"+second["id"].(string)+"/discard", map[string]any{"reason": "of no use"})
		for action, target := range map[string]any{"job.retry": first["id"], "job.discard": second["id"]} {
			list := owner.must(200, "GET", "/api/v1/audit-events?action="+action, nil)["data"].([]any)
			if len(list) != 1 || list[0].(map[string]any)["target"] != target || list[0].(map[string]any)["actor_kind"] != "admin" || list[0].(map[string]any)["detail"].(map[string]any)["kind"] != "dataset.import" {
				t.Errorf("%s on the tenant's record: %v", action, list)
			}
		}
		if seen := strings.Join(root.events(""), ", "); !strings.Contains(seen, "admin admin.read_jobs") {
			t.Errorf("reading the queue is on no record: %s", seen)
		}
	})
}

// illegible is an import whose arguments cannot be read.
type illegible string

func (illegible) Kind() string { return "dataset.import" }
