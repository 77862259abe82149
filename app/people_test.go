package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// eventually asks again until ok, since a worker may be on its way.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); ; {
		if ok() {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never happened: " + what)
		}
	}
}

var mailLink = regexp.MustCompile(`/sandbox/mail/(mail_\w+)">([^<]*)</a>`)

// letter waits for a mail to the address with the subject, and gives its page.
func letter(t *testing.T, base, to, subject string) (page string) {
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
