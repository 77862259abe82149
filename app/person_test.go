package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/tenants/privacy"
)

var personLink = regexp.MustCompile(`/privacy-request#([\w-]+)`)

// D4: somebody without an account asks about their name. Each tenant whose lists
// bear it gets its own part, with its own entries and a deadline, and neither
// learns of the other; a tenant that does not have the name hears nothing; the
// person is told the same whether anybody has it, and hears of a tenant when it
// answers. Nothing is passed on before the address is proved, nor twice.
func TestThirdPersons(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		names := map[string]string{"first": "name,aliases\nLi Weiqing,\nSomebody Else,Weiqing LI\nLi Weiqing Trading,\n", "second": "name,aliases\n\"LI, Wéiqing\",\n", "third": "name,aliases\nWang Fang,\n"}
		owners, entries := map[string]client{}, map[string]map[string]string{}
		for _, tenant := range []string{"first", "second", "third"} {
			owner, key, _ := person(t, base, tenant)
			ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": tenant + "list"})["id"].(string)
			key.importList(ds, names[tenant], "")
			owners[tenant], entries[tenant] = owner, map[string]string{}
			for _, e := range key.must(200, "GET", "/api/v1/datasets/"+ds+"/entries", nil)["data"].([]any) {
				e := e.(map[string]any)
				entries[tenant][e["id"].(string)] = e["name"].(string)
			}
		}
		anyone := client{t, base, http.Header{}}
		ask := func(name string) string {
			t.Helper()
			email := strings.ToLower(strings.ReplaceAll(name, " ", "")) + "@example.net"
			if out := anyone.must(202, "POST", "/api/v1/privacy/person-requests", map[string]any{"kind": "erasure", "name": name, "email": email, "message": "please"}); out["status"] != "confirmation_sent" {
				t.Errorf("%v", out)
			}
			return email
		}
		parts := func(tenant string) []any {
			t.Helper()
			return owners[tenant].must(200, "GET", "/api/v1/privacy/person-requests", nil)["data"].([]any)
		}
		email, nobody := ask("Li Weiqing"), ask("Never Listed")
		token := personLink.FindStringSubmatch(letter(t, base, email, "Confirm your request"))[1]
		if n := len(parts("first")); n != 0 {
			t.Errorf("%d requests are passed on before the address is proved", n)
		}
		anyone.must(404, "POST", "/api/v1/privacy/person-requests/confirm", map[string]any{"token": token + "x"})
		anyone.must(200, "POST", "/api/v1/privacy/person-requests/confirm", map[string]any{"token": token})
		anyone.must(404, "POST", "/api/v1/privacy/person-requests/confirm", map[string]any{"token": token})
		other := personLink.FindStringSubmatch(letter(t, base, nobody, "Confirm your request"))[1]
		anyone.must(200, "POST", "/api/v1/privacy/person-requests/confirm", map[string]any{"token": other})
		told := letter(t, base, email, "was passed on")
		same := letter(t, base, nobody, "was passed on")
		strip := regexp.MustCompile(`mail_\w+|Li Weiqing|Never Listed|liweiqing|neverlisted|\d\d:\d\d:\d\d|boundary="?\w+"?`)
		if strip.ReplaceAllString(told, "") != strip.ReplaceAllString(same, "") {
			t.Errorf("the two are told different things:\n%s\n%s", told, same)
		}

		want := map[string][]string{"first": {"Li Weiqing", "Somebody Else"}, "second": {"LI, Wéiqing"}}
		for tenant, bear := range want {
			list := parts(tenant)
			if len(list) != 1 {
				t.Fatalf("%s has %d requests", tenant, len(list))
			}
			part := list[0].(map[string]any)
			for _, e := range part["entries"].([]any) {
				if name := entries[tenant][e.(map[string]any)["entry_id"].(string)]; !contains(bear, name) {
					t.Errorf("%s is given %q", tenant, name)
				}
			}
			if len(part["entries"].([]any)) != len(bear) || part["status"] != "open" || part["email"] != email || part["due_at"] == nil {
				t.Errorf("%s: %v", tenant, part)
			}
			for other, theirs := range entries {
				for id := range theirs {
					if other != tenant && strings.Contains(fmt.Sprint(part), id) {
						t.Errorf("%s learns of an entry of %s", tenant, other)
					}
				}
			}
			letter(t, base, tenant+"@example.org", "A person asks about their data")
			if seen := owners[tenant].events("action=privacy.person_request"); len(seen) != 1 {
				t.Errorf("on the record of %s: %v", tenant, seen)
			}
		}
		if len(parts("third")) != 0 {
			t.Error("a tenant that does not have the name is asked")
		}
		// Passed on again, by a job that died before its end: nothing is doubled.
		var id string
		if err := p.store.SQLDB().QueryRow("SELECT id FROM person_requests WHERE email = $1", email).Scan(&id); err != nil {
			t.Fatal(err)
		}
		if _, err := p.store.SQLDB().Exec("UPDATE person_requests SET passed_at = NULL WHERE id = $1", id); err != nil {
			t.Fatal(err)
		}
		if err := p.privacy.RunPerson(t.Context(), privacy.PersonJob{ID: id}); err != nil || len(parts("first")) != 1 {
			t.Errorf("%d requests after a second time: %v", len(parts("first")), err)
		}
		// The answer: by mail, in the tenant's name, once.
		part := parts("second")[0].(map[string]any)["id"].(string)
		owners["first"].must(404, "GET", "/api/v1/privacy/person-requests/"+part, nil)
		answer := map[string]any{"status": "fulfilled", "note": "Your entry was removed from our list."}
		if out := owners["second"].must(200, "POST", "/api/v1/privacy/person-requests/"+part+"/answer", answer); out["status"] != "fulfilled" || out["answered_at"] == nil {
			t.Errorf("%v", out)
		}
		owners["second"].must(409, "POST", "/api/v1/privacy/person-requests/"+part+"/answer", answer)
		if page := letter(t, base, email, "The answer of second"); !strings.Contains(page, "Your entry was removed") || strings.Contains(page, "first") {
			t.Error(page)
		}
		if parts("first")[0].(map[string]any)["status"] != "open" {
			t.Error("the answer of one closed the request of the other")
		}
	})
}
