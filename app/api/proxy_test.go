package api

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Only who has the key of the installation can say whom a request is from: not
// with a MAC of another key, of another request or of yesterday.
func TestWhoVouches(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ours := &API{peerKey: sha256.Sum256([]byte("ours")), now: func() time.Time { return now }}
	theirs := &API{peerKey: sha256.Sum256([]byte("theirs"))}
	app := fiber.New()
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString(ours.clientIP(c)) })
	said := ours.vouch("203.0.113.7", "req_1", now)
	for name, c := range map[string]struct {
		header, id string
		believed   bool
	}{
		"ours":               {said, "req_1", true},
		"another request's":  {said, "req_2", false},
		"another address":    {strings.Replace(said, "203.0.113.7", "203.0.113.8", 1), "req_1", false},
		"another key":        {theirs.vouch("203.0.113.7", "req_1", now), "req_1", false},
		"an old one":         {ours.vouch("203.0.113.7", "req_1", now.Add(-time.Hour)), "req_1", false},
		"no MAC":             {"203.0.113.7 1 ", "req_1", false},
		"nonsense":           {"203.0.113.7", "req_1", false},
		"nobody said a word": {"", "req_1", false},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("X-Request-Id", c.id)
		req.Header.Set("X-Forwarded-For", "203.0.113.9") // from no trusted proxy
		req.Header.Set(clientHeader, c.header)
		res, err := app.Test(req)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		n, _ := res.Body.Read(b)
		if got := string(b[:n]); (got == "203.0.113.7") != c.believed || got == "203.0.113.9" {
			t.Errorf("%s: the caller is %s", name, got)
		}
	}
}

// A process that drains is asked where nobody else is there, and not before.
func TestWhoLeavesIsAskedLast(t *testing.T) {
	var draining atomic.Bool
	there := func(drains func() bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if drains() {
				w.WriteHeader(503)
				_, _ = io.WriteString(w, `{"status":"draining"}`)
			}
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	list := []string{there(draining.Load)}
	m := newMembers(Split{Members: func(string) []string { return list }})
	draining.Store(true)
	m.look(t.Context(), m.at(list[0]))
	if got := m.pick("main", nil); got == nil || got.address != list[0] {
		t.Fatal("nobody is asked, though it answers")
	}
	list = append(list, there(func() bool { return false }))
	for range 20 {
		if got := m.pick("main", nil); got == nil || got.address != list[1] {
			t.Fatal("one that drains is asked before one that stays")
		}
	}
}
