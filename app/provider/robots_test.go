package provider

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// What a site's robots.txt keeps from us is not asked for, by a redirect neither,
// and no other vendor is asked for it in our place; one that is not there or says
// nothing that can be read keeps nothing; one that cannot be had now keeps the pages
// until it can. It is asked for once.
func TestRobots(t *testing.T) {
	const page = "<html><body><p>A page says something here.</p></body></html>"
	for _, c := range []struct {
		name   string
		status int
		rules  string
		path   string
		code   string // of the page
	}{
		{"nothing is said", 404, "", "/open", ""},
		{"it may not be seen", 403, "no", "/open", ""},
		{"a page in its place", 200, "<html><body>Welcome</body></html>", "/open", ""},
		{"all are kept out", 200, "User-agent: *\nDisallow: /", "/open", "robots_disallowed"},
		{"others are kept out", 200, "User-agent: otherbot\nDisallow: /\n", "/open", ""},
		{"we are kept out", 200, "User-agent: *\nAllow: /\n\nUser-agent: chainreactions\nDisallow: /private\n", "/private/1", "robots_disallowed"},
		{"of something else", 200, "User-agent: *\nDisallow: /private", "/open", ""},
		{"all but this", 200, "User-agent: *\nDisallow: /\nAllow: /open", "/open", ""},
		{"a pattern", 200, "User-agent: *\nDisallow: /*.php$", "/x.php", "robots_disallowed"},
		{"a question", 200, "User-agent: *\nDisallow: /*?id=", "/x?id=7", "robots_disallowed"},
		{"where it leads", 200, "User-agent: *\nDisallow: /private", "/moved", "robots_disallowed"},
		{"it cannot be had", 503, "", "/open", "provider_unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			asked := map[string]int{}
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked[r.URL.Path]++
				mu.Unlock()
				switch r.URL.Path {
				case "/robots.txt":
					w.WriteHeader(c.status)
					_, _ = w.Write([]byte(c.rules))
				case "/moved":
					http.Redirect(w, r, "/private/2", http.StatusFound)
				default:
					w.Header().Set("Content-Type", "text/html")
					_, _ = w.Write([]byte(page))
				}
			}))
			defer site.Close()
			db := testdb.SQLite(t)
			b := newBench(t, db, func(cfg *Config) {
				only(Linkup)(cfg)
				cfg.EmulatedHost = func(string) (string, bool) { return strings.TrimPrefix(site.URL, "http://"), true }
			})
			for range 2 {
				got, err := b.Fetch(db.In(db.A), research.FetchRequest{Call: call, URL: "https://site.example" + c.path})
				var f *Failure
				if domain.CodeOf(err) != c.code && (err != nil || c.code != "") || c.code != "" && !errors.As(err, &f) {
					t.Fatalf("%v, want %q", err, c.code)
				}
				if c.code == "" && got.Text == "" {
					t.Error("nothing was read")
				}
			}
			path, _, _ := strings.Cut(c.path, "?")
			if asked["/private/2"] > 0 || c.code != "" && path != "/moved" && asked[path] > 0 || c.status != 503 && asked["/robots.txt"] != 1 || len(b.box.Calls()) > 0 {
				t.Errorf("asked for %v, and Linkup %d times", asked, len(b.box.Calls()))
			}
		})
	}
}
