package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// B5: a link in a mail leads to our own address, whatever host the request for
// it names.
func TestLinksAreCanonical(t *testing.T) {
	_, base := serve(t, map[string]string{"BASE_URL": "https://app.example.test", "BASE_DOMAIN": "example.test"})
	anyone := client{t, base, http.Header{}}
	anyone.must(201, "POST", "/api/v1/auth/signup", map[string]any{"email": "ada@example.org", "password": "correct horse battery", "full_name": "Ada", "workspace_name": "lab", "accept_terms": true})
	for _, header := range [][]string{{"Host", "evil.test"}, {"X-Forwarded-Host", "evil.test"}, {"Forwarded", "host=evil.test"}, {"Origin", "https://evil.test"}} {
		if status, raw, _ := anyone.do("POST", "/api/v1/auth/password/forgot", map[string]any{"email": "ada@example.org"}, header...); status != 202 {
			t.Errorf("%v: %d %s", header, status, raw)
		}
	}
	eventually(t, "the mails are there", func() bool {
		_, list, _ := anyone.do("GET", "/sandbox/mail", nil)
		found := mailLink.FindAllStringSubmatch(string(list), -1)
		for _, m := range found {
			_, raw, _ := anyone.do("GET", "/sandbox/mail/"+m[1], nil)
			if strings.Contains(string(raw), "evil.test") || !strings.Contains(string(raw), "https://app.example.test/") {
				t.Fatalf("%s", raw)
			}
		}
		return len(found) >= 4
	})
}

// C6: what two tenants name alike is no conflict, and neither sees the other's:
// workspace, dataset, file, external id, role, Idempotency-Key.
func TestSameNames(t *testing.T) {
	each(t, func(t *testing.T, _ *program, base string) {
		anyone := client{t, base, http.Header{}}
		seen := map[string]bool{}
		for _, email := range []string{"one@example.org", "two@example.org"} {
			out := anyone.must(201, "POST", "/api/v1/auth/signup", map[string]any{"email": email, "password": "correct horse battery", "full_name": "Ada", "workspace_name": "The Lab", "accept_terms": true})
			c := client{t, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
			ids := []string{out["tenant"].(map[string]any)["slug"].(string)}
			once := []string{"Idempotency-Key", "the same word"}
			ds := c.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "Watchlist"}, once...)["id"].(string)
			if again := c.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "Watchlist"}, once...)["id"]; again != ds {
				t.Errorf("the same word gives another answer: %v", again)
			}
			im := c.importList(ds, "name,external_id\nAcme,42\n", "")
			ids = append(ids, ds, im["id"].(string), c.must(201, "POST", "/api/v1/tenant/roles", map[string]any{"name": "reader", "permissions": []string{"dataset:read"}}, once...)["id"].(string))
			entries := c.must(200, "GET", "/api/v1/datasets/"+ds+"/entries", nil)["data"].([]any)
			if len(entries) != 1 || len(c.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)) != 1 || im["rows_accepted"] != 1.0 {
				t.Errorf("%s sees %v", email, entries)
			}
			for _, id := range append(ids, entries[0].(map[string]any)["id"].(string)) {
				if seen[id] {
					t.Errorf("%s is both's", id)
				}
				seen[id] = true
			}
		}
	})
}

// D6: a server is killed with -9 while it writes, again and again: each change
// that is there has its line on the record, each line its change, all that was
// acknowledged is there, and the record is whole.
func TestKilledInTheMiddle(t *testing.T) {
	h := newHouse(t)
	var acknowledged sync.Map
	var user client
	for round := range 3 {
		base := h.start(0)
		if round == 0 {
			user, _, _ = person(t, base, "writer")
			out := client{t, base, http.Header{}}.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "writer@example.org", "password": "correct horse battery"})
			user = client{t, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
		}
		var done atomic.Int64
		var writers sync.WaitGroup
		enough := make(chan struct{})
		for w := range 4 {
			writers.Go(func() {
				for i := 0; ; i++ {
					body := fmt.Sprintf(`{"name":"role %d.%d.%d","permissions":["dataset:read"]}`, round, w, i)
					req, _ := http.NewRequest("POST", base+"/api/v1/tenant/roles", strings.NewReader(body))
					req.Header = user.header.Clone()
					req.Header.Set("Content-Type", "application/json")
					res, err := http.DefaultClient.Do(req)
					if err != nil {
						return // it was killed
					}
					var made struct{ ID string }
					err = json.NewDecoder(res.Body).Decode(&made)
					res.Body.Close()
					if res.StatusCode == 201 && err == nil {
						acknowledged.Store(made.ID, true)
					}
					if done.Add(1) == 8 {
						close(enough)
					}
				}
			})
		}
		<-enough
		h.kill(0)
		writers.Wait()
	}
	user.base = h.start(0)
	there := map[string]bool{}
	for _, r := range user.must(200, "GET", "/api/v1/tenant/roles", nil)["data"].([]any) {
		if id := r.(map[string]any)["id"].(string); strings.HasPrefix(id, "rol_") {
			there[id] = true
		}
	}
	written := map[string]bool{}
	for _, e := range user.must(200, "GET", "/api/v1/audit-events?action=role.create&limit=200", nil)["data"].([]any) {
		written[e.(map[string]any)["target"].(string)] = true
	}
	if !maps.Equal(there, written) || len(there) == 0 {
		t.Errorf("there are %v, the record has %v", there, written)
	}
	acknowledged.Range(func(id, _ any) bool {
		if !there[id.(string)] {
			t.Errorf("%v was acknowledged, and is gone", id)
		}
		return true
	})
	if v := user.must(200, "GET", "/api/v1/audit-events/verify", nil); v["ok"] != true {
		t.Errorf("%v", v)
	}
}
