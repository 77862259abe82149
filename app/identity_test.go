package main

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// The same key and request give the first answer again, secrets and cookies
// included; another request is refused, and so is one while the first runs. The
// key is the caller's own.
func TestIdempotency(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		user, key, tenant := person(t, base, "once")
		if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "enterprise", "test", "test"); err != nil {
			t.Fatal(err)
		}
		other, _, _ := person(t, base, "another")
		body := map[string]any{"name": "only one"}
		first, raw, _ := key.do("POST", "/api/v1/datasets", body, "Idempotency-Key", "k1")
		again, rawAgain, h := key.do("POST", "/api/v1/datasets", body, "Idempotency-Key", "k1")
		if first != 201 || again != 201 || string(raw) != string(rawAgain) || h.Get("Idempotency-Replayed") != "true" {
			t.Errorf("again: %d %s / %d %s %v", first, raw, again, rawAgain, h)
		}
		if n := len(key.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)); n != 1 {
			t.Errorf("%d datasets were made", n)
		}
		if status, raw, _ := key.do("POST", "/api/v1/datasets", map[string]any{"name": "else"}, "Idempotency-Key", "k1"); status != 422 || !strings.Contains(string(raw), "idempotency_mismatch") {
			t.Errorf("another request: %d %s", status, raw)
		}
		// The word is the caller's own: another person, tenant and route.
		for _, who := range []client{user, other} {
			if status, _, h := who.do("POST", "/api/v1/datasets", map[string]any{"name": "mine"}, "Idempotency-Key", "k1"); status != 201 || h.Get("Idempotency-Replayed") != "" {
				t.Errorf("another caller: %d %v", status, h)
			}
		}
		// A key's secret is given again, and is nowhere in the database in the clear.
		made := user.must(201, "POST", "/api/v1/api-keys", map[string]any{"name": "k", "scopes": []string{"match:run"}}, "Idempotency-Key", "k2")
		if same := user.must(201, "POST", "/api/v1/api-keys", map[string]any{"name": "k", "scopes": []string{"match:run"}}, "Idempotency-Key", "k2"); same["key"] != made["key"] {
			t.Error("the second answer has another key")
		}
		// A refusal that speaks of the request stays; a word too long is none.
		user.must(404, "POST", "/api/v1/api-keys/key_nothing/rotate", map[string]any{}, "Idempotency-Key", "k3")
		if _, _, h := user.do("POST", "/api/v1/api-keys/key_nothing/rotate", map[string]any{}, "Idempotency-Key", "k3"); h.Get("Idempotency-Replayed") != "true" {
			t.Error("the refusal was worked out again")
		}
		user.must(422, "POST", "/api/v1/datasets", body, "Idempotency-Key", strings.Repeat("x", 256))

		// Of the public, by address: the account is made once, and signed in twice.
		anyone := client{t, base, http.Header{}}
		signup := map[string]any{"email": "twice@example.org", "password": "correct horse battery", "full_name": "T", "workspace_name": "T", "accept_terms": true}
		one := anyone.must(201, "POST", "/api/v1/auth/signup", signup, "Idempotency-Key", "k1")
		status, raw, h := anyone.do("POST", "/api/v1/auth/signup", signup, "Idempotency-Key", "k1")
		if status != 201 || !strings.Contains(string(raw), one["access_token"].(string)) || h.Get("Set-Cookie") == "" {
			t.Errorf("sign-up again: %d %s %v", status, raw, h)
		}
		signup["password"] = "another horse battery"
		anyone.must(422, "POST", "/api/v1/auth/signup", signup, "Idempotency-Key", "k1")

		// A file is one request by its content, however it is sent.
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "files"})["id"].(string)
		upload := func(text string, extra ...string) (int, string, http.Header) {
			req, _ := http.NewRequest("POST", base+"/api/v1/datasets/"+ds+"/imports", strings.NewReader(text))
			req.Header = key.header.Clone()
			req.Header.Set("Content-Type", "text/csv")
			req.Header.Set("Idempotency-Key", "file")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var out map[string]any
			_ = json.NewDecoder(res.Body).Decode(&out)
			id, _ := out["id"].(string)
			return res.StatusCode, id, res.Header
		}
		s1, id1, _ := upload("name\nA\n")
		s2, id2, h := upload("name\nA\n")
		if s1 != 202 || s2 != 202 || id1 != id2 || h.Get("Idempotency-Replayed") != "true" {
			t.Errorf("a file again: %d %s / %d %s", s1, id1, s2, id2)
		}
		if s3, _, _ := upload("name\nB\n"); s3 != 422 {
			t.Errorf("another file: %d", s3)
		}

		// At once: one runs, the others are told to wait or get its answer.
		var wg sync.WaitGroup
		var mu sync.Mutex
		seen := map[int]int{}
		for range 20 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				status, _, _ := key.do("POST", "/api/v1/datasets", map[string]any{"name": "at once"}, "Idempotency-Key", "k9")
				mu.Lock()
				seen[status]++
				mu.Unlock()
			}()
		}
		wg.Wait()
		n := 0
		for _, d := range key.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any) {
			if d.(map[string]any)["name"] == "at once" {
				n++
			}
		}
		if n != 1 || seen[201] == 0 || seen[201]+seen[409] != 20 {
			t.Errorf("%d were made, answers %v", n, seen)
		}

		// What is kept goes when its day is over.
		err := p.store.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
			for _, table := range []string{"idempotency_keys", "public_idempotency_keys"} {
				if _, err := p.store.Exec(ctx, "UPDATE "+table+" SET expires_at = @then", map[string]any{"then": time.Now().Add(-time.Hour).UTC()}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.api.SweepAnswers(context.Background()); err != nil {
			t.Fatal(err)
		}
		key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "a new day"}, "Idempotency-Key", "k1")
		onceThroughLoss(t, p, key)
	})
}

// What was done under an Idempotency-Key is not done again, whatever becomes of
// the database, of the answer or of the process that did it.
func onceThroughLoss(t *testing.T, p *program, key client) {
	sql := func(statements ...string) {
		t.Helper()
		for _, text := range statements {
			if _, err := p.store.SQLDB().Exec(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	past := "'2020-01-01 00:00:00+00:00'"
	there := func(name string) (n int) {
		for _, d := range key.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any) {
			if d.(map[string]any)["name"] == name {
				n++
			}
		}
		return n
	}
	ask := func(name string) (status int, code string, replayed bool) {
		t.Helper()
		status, raw, h := key.do("POST", "/api/v1/datasets", map[string]any{"name": name}, "Idempotency-Key", name)
		var out struct{ Code string }
		_ = json.Unmarshal(raw, &out)
		return status, out.Code, h.Get("Idempotency-Replayed") == "true"
	}

	// The answer cannot be kept now: it is given, and kept as soon as it can be.
	refuse, allow := []string{"CREATE TRIGGER refuse BEFORE UPDATE OF status ON idempotency_keys BEGIN SELECT RAISE(ABORT, 'not now'); END"}, []string{"DROP TRIGGER refuse"}
	if p.store.Pool() != nil {
		refuse = []string{"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not now''; END'", "CREATE TRIGGER refuse BEFORE UPDATE OF status ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION refuse()"}
		allow = []string{"DROP FUNCTION refuse CASCADE"}
	}
	sql(refuse...)
	if status, _, _ := ask("kept later"); status != 201 {
		t.Errorf("what is done is answered %d", status)
	}
	if status, code, _ := ask("kept later"); status != 409 || code != "idempotency_in_progress" {
		t.Errorf("while its answer is not kept: %d %s", status, code)
	}
	sql(allow...)
	eventually(t, "the answer is kept", func() bool { status, _, replayed := ask("kept later"); return status == 201 && replayed })
	if n := there("kept later"); n != 1 {
		t.Errorf("it was done %d times", n)
	}

	// The process died when it had done it, and before it had kept the answer.
	ask("died")
	sql("UPDATE idempotency_keys SET status = 0, body = '', locked_until = " + past)
	if status, code, _ := ask("died"); status != 409 || code != "idempotency_unanswered" || there("died") != 1 {
		t.Errorf("after the death of who had done it: %d %s, %d times", status, code, there("died"))
	}
	// It died before.
	sql("UPDATE idempotency_keys SET committed = false")
	if status, _, replayed := ask("died"); status != 201 || replayed {
		t.Errorf("after the death of who had not done it: %d", status)
	}

	// It was only slow, and another has taken its place when it would commit.
	take, leave := []string{"CREATE TRIGGER take AFTER INSERT ON datasets BEGIN UPDATE idempotency_keys SET claim = 'another'; END"}, []string{"DROP TRIGGER take"}
	if p.store.Pool() != nil {
		take = []string{"CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE idempotency_keys SET claim = ''another''; RETURN NULL; END'", "CREATE TRIGGER take AFTER INSERT ON datasets FOR EACH ROW EXECUTE FUNCTION take()"}
		leave = []string{"DROP FUNCTION take CASCADE"}
	}
	sql(take...)
	if status, code, _ := ask("slow"); status != 503 || code != "dependency_unavailable" || there("slow") != 0 {
		t.Errorf("who lost the claim: %d %s, %d times", status, code, there("slow"))
	}
	sql(leave...)
	if status, _, replayed := ask("slow"); status != 201 || replayed || there("slow") != 1 {
		t.Errorf("and then: %d, %d times", status, there("slow"))
	}
}

// The portal's refresh token is a cookie that no script reads and no other site
// uses; a program's is in the body.
func TestRefreshCookie(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string]string
		cookie string
		secure bool
	}{
		"development": {nil, "refresh", false},
		"production":  {map[string]string{"ENVIRONMENT": "production", "SECRET_KEY": strings.Repeat("k", 32)}, "__Host-refresh", true},
	} {
		t.Run(name, func(t *testing.T) {
			_, base := serve(t, c.values)
			anyone := client{t, base, http.Header{}}
			signup := map[string]any{"email": "c@example.org", "password": "correct horse battery", "full_name": "C", "workspace_name": "C", "accept_terms": true}
			status, raw, h := anyone.do("POST", "/api/v1/auth/signup", signup, "Sec-Fetch-Site", "same-origin")
			res := http.Response{Header: h}
			if status != 201 || len(res.Cookies()) != 1 || strings.Contains(string(raw), "refresh_token") {
				t.Fatalf("%d %s %v", status, raw, h)
			}
			k := res.Cookies()[0]
			if k.Name != c.cookie || !k.HttpOnly || k.Secure != c.secure || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || k.Domain != "" || k.MaxAge <= 0 {
				t.Errorf("the cookie: %v", k)
			}
			with := func(extra ...string) (int, []byte, http.Header) {
				return anyone.do("POST", "/api/v1/auth/refresh", nil, append([]string{"Cookie", k.Name + "=" + k.Value}, extra...)...)
			}
			for _, foreign := range [][]string{
				{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
				{"Sec-Fetch-Site", "cross-site", "Origin", base},
			} {
				if status, raw, _ := with(foreign...); status != 403 {
					t.Errorf("from another site %v: %d %s", foreign, status, raw)
				}
			}
			status, raw, h = with("Sec-Fetch-Site", "same-origin", "Origin", base)
			if status != 200 || strings.Contains(string(raw), "refresh_token") || h.Get("Set-Cookie") == "" {
				t.Fatalf("refresh: %d %s", status, raw)
			}
			var out map[string]any
			_ = json.Unmarshal(raw, &out)
			user := client{t, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
			_, _, h = user.do("POST", "/api/v1/auth/logout", nil)
			res = http.Response{Header: h}
			if gone := res.Cookies(); len(gone) != 1 || gone[0].Value != "" || gone[0].Expires.After(time.Now()) || h.Get("Clear-Site-Data") == "" {
				t.Errorf("after the logout: %v", h)
			}
			if status, _, _ := with("Sec-Fetch-Site", "same-origin"); status != 401 {
				t.Errorf("the cookie of an ended session: %d", status)
			}
			if out := anyone.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "c@example.org", "password": "correct horse battery"}); out["refresh_token"] == nil {
				t.Error("a program gets no refresh token")
			}
			anyone.must(401, "POST", "/api/v1/auth/refresh", map[string]any{})
		})
	}
}

// A reader who comes to a slug that its tenant gave up is led to the present one.
func TestFormerSlug(t *testing.T) {
	_, base := serve(t, map[string]string{"BASE_DOMAIN": "example.test"})
	user, _, _ := person(t, base, "moved")
	user.must(200, "PATCH", "/api/v1/tenant", map[string]any{"slug": "there"})
	res := wire(t, base, "GET /docs?x=1 HTTP/1.1\r\nHost: moved.example.test\r\n\r\n")
	if res.StatusCode != 308 || res.Header.Get("Location") != "http://there.example.test/docs?x=1" {
		t.Errorf("the old host: %d %q", res.StatusCode, res.Header.Get("Location"))
	}
}

// Nobody gives a key what they may not do, by making one or by rotating one; and a
// key may no more than whoever made it may now.
func TestKeysAreNotAbovePeople(t *testing.T) {
	p, base := serve(t, nil)
	user, key, tenant := person(t, base, "keys")
	strong := user.must(200, "GET", "/api/v1/api-keys", nil)["data"].([]any)[0].(map[string]any)["id"].(string)
	key.must(403, "POST", "/api/v1/api-keys", map[string]any{"name": "k", "scopes": []string{"match:run"}})
	may := func(role string, status int) {
		t.Helper()
		err := p.store.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, "UPDATE memberships SET role = @role WHERE tenant_id = @of", map[string]any{"of": tenant, "role": role})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the key follows the role "+role, func() bool {
			got, _, _ := key.do("DELETE", "/api/v1/datasets/"+domain.NewID("ds"), nil)
			return got == status
		})
		me := key.must(200, "GET", "/api/v1/me", nil)
		if shown := strings.Contains(toJSON(me["permissions"]), `"dataset:delete"`); shown != (status == 404) {
			t.Errorf("the key of a %s is told %v", role, me["permissions"])
		}
	}
	may("viewer", 403)
	may("owner", 404)
	err := p.store.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		if _, err := p.store.Exec(ctx, "UPDATE memberships SET role = 'admin' WHERE tenant_id = @of", map[string]any{"of": tenant}); err != nil {
			return err
		}
		_, err := p.store.Exec(ctx, `UPDATE api_keys SET scopes = '["billing:write"]' WHERE tenant_id = @of`, map[string]any{"of": tenant})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the role is known", func() bool {
		status, _, _ := user.do("POST", "/api/v1/api-keys", map[string]any{"name": "k", "scopes": []string{"billing:write"}})
		return status == 422
	})
	user.must(422, "POST", "/api/v1/api-keys/"+strong+"/rotate", map[string]any{})
	if me := user.must(200, "GET", "/api/v1/me", nil); strings.Contains(strings.Join(strings.Fields(toJSON(me)), ""), "billing:write") {
		t.Errorf("an admin may write billing: %v", me)
	}
}

func toJSON(v any) string { b, _ := json.Marshal(v); return string(b) }

// Where addresses are proved, a sign-up says that a mail was sent, the link in
// the mail opens the account, and a sensitive action wants a fresh factor.
func TestProvedAddress(t *testing.T) {
	p, base := serve(t, map[string]string{"EMAIL_VERIFICATION": "on"})
	anyone := client{t, base, http.Header{}}
	signup := map[string]any{"email": "p@example.org", "password": "correct horse battery", "full_name": "P", "workspace_name": "P", "accept_terms": true}
	_, first, _ := anyone.do("POST", "/api/v1/auth/signup", signup)
	if out := anyone.must(202, "POST", "/api/v1/auth/signup", signup); out["status"] != "verification_sent" || strings.TrimSpace(string(first)) != toJSON(out) {
		t.Errorf("%s, then %v", first, out)
	}
	page := letter(t, base, "p@example.org", "Confirm your e-mail address")
	token := regexp.MustCompile(`/verify-email#([\w-]+)`).FindStringSubmatch(page)
	if token == nil {
		t.Fatal(page)
	}
	login := map[string]any{"email": "p@example.org", "password": "correct horse battery"}
	anyone.must(403, "POST", "/api/v1/auth/login", login)
	anyone.must(204, "POST", "/api/v1/auth/verify-email", map[string]any{"token": token[1]})
	out := anyone.must(200, "POST", "/api/v1/auth/login", login)
	user := client{t, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
	key := map[string]any{"name": "k", "scopes": []string{"match:run"}}
	user.must(201, "POST", "/api/v1/api-keys", key)
	err := p.store.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, "UPDATE sessions SET proved_at = @then", map[string]any{"then": time.Now().Add(-11 * time.Minute).UTC()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the factor is stale", func() bool {
		time.Sleep(100 * time.Millisecond) // what is believed of a session is a second old at most; asking costs the rate
		status, raw, _ := user.do("POST", "/api/v1/api-keys", key)
		return status == 403 && strings.Contains(string(raw), "step_up_required")
	})
	user.must(401, "POST", "/api/v1/auth/step-up", map[string]any{"password": "wrong"})
	user.must(204, "POST", "/api/v1/auth/step-up", map[string]any{"password": "correct horse battery"})
	user.must(201, "POST", "/api/v1/api-keys", key)
	anyone.must(202, "POST", "/api/v1/auth/password/forgot", map[string]any{"email": "nobody@example.org"})
}
