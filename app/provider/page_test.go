package provider

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/chainreactions/chainreactions/app/egress"
	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// Text is what a reader sees, and nothing else; what is left out in the middle
// of a sentence leaves a mark that no quote reaches across.
func TestVisibleText(t *testing.T) {
	page, err := readPage("https://a.example/", "https://a.example/b", "text/html; charset=utf-8", []byte(`<!doctype html><html lang="en-GB"><head><title> A  title </title>
		<meta name="citation_publication_date" content="2024-05-17"><style>p{}</style></head><body>
		<!-- a comment --><p>First <b>bold</b> words.</p><p hidden>hidden one</p><div style="color:red; DISPLAY : none">hidden two <p>hidden three</p></div>
		<noscript>hidden four</noscript><template><p>hidden five</p></template><script>"hidden six"</script><ul><li>One</li><li>Two</li></ul>Line<br>break
		<p>be<span style="font-size:0">fore</span>hand <svg><text>seven</text></svg></p><img alt="hidden eight"><table><tr><td>cell</td><td>cell two</td></tr></table></body></html>`), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, l := range strings.Split(page.Text, "\n") {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			lines = append(lines, l)
		}
	}
	want := []string{"First bold words.", "One", "Two", "Line", "break", "be\uFFFChand \uFFFC", "cell cell two"}
	if strings.Join(lines, "|") != strings.Join(want, "|") {
		t.Errorf("got  %q\nwant %q", lines, want)
	}
	if page.Title != "A title" || page.Language != "en" || page.PublishedAt != "2024-05-17" || len(page.Hash) != 64 || page.MediaType != "text/html" {
		t.Errorf("%+v", page)
	}
}

// A page is read in its own encoding: where the page or the server says it, and
// where neither does.
func TestEncodings(t *testing.T) {
	chinese := strings.Repeat("青岚航天科技大学与云起应用推进研究所签署战略合作协议，双方将联合开展研究。", 3)
	russian := strings.Repeat("Радиоинститут и лаборатория опубликовали совместную работу о малошумящих линиях. ", 3)
	japan := strings.Repeat("風早工科大学はドイツの大学と共同研究協定を締結した。", 3)
	german := "Die Universität Grauwald liegt an der Straße nach Köln; das Café ist geöffnet."
	for name, c := range map[string]struct {
		text     string
		encoding encoding.Encoding
		charset  string
	}{
		"gb18030": {chinese, simplifiedchinese.GB18030, "gb18030"}, "gb2312": {chinese, simplifiedchinese.GBK, "gb2312"}, "shift_jis": {japan, japanese.ShiftJIS, "shift_jis"},
		"euc-jp": {japan, japanese.EUCJP, "euc-jp"}, "windows-1251": {russian, charmap.Windows1251, "windows-1251"}, "utf-8": {chinese, encoding.Nop, "utf-8"}, "windows-1252": {german, charmap.Windows1252, "windows-1252"},
	} {
		raw, err := c.encoding.NewEncoder().Bytes([]byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		body := "<p>" + string(raw) + "</p>"
		for how, page := range map[string]struct{ header, html string }{
			"by the header": {"text/html; charset=" + c.charset, body},
			"by the page":   {"text/html", `<meta charset="` + c.charset + `">` + body},
			"by nothing":    {"text/html", body},
		} {
			got, err := readPage("", "", page.header, []byte(page.html), time.Now())
			if err != nil || !strings.Contains(got.Text, c.text) {
				t.Errorf("%s %s: %v %.80q", name, how, err, got.Text)
			}
		}
	}
}

// Every page of the invented world that is open to robots is fetched through the
// whole path and is what its author wrote.
func TestFetchTheSandboxsPages(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, only())
	for _, p := range b.box.Truth().Pages {
		page, err := b.Fetch(db.In(db.A), research.FetchRequest{Call: call, URL: p.URL})
		if strings.Contains(p.URL, "/closed/") && domain.CodeOf(err) == "robots_disallowed" {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", p.URL, err)
		}
		for _, par := range strings.Split(p.Body, "\n\n") {
			if !strings.Contains(page.Text, strings.TrimSpace(par)) {
				t.Errorf("%s: %q is missing from %q", p.URL, par, page.Text)
			}
		}
		if !page.Usage.Sandbox || page.Language != p.Language || page.PublishedAt != p.Date || page.Title != p.Title || page.FinalURL != p.URL {
			t.Errorf("%s: %+v", p.URL, page)
		}
		if p.ID == "evil-hidden" && strings.Contains(page.Text, "Parsin") {
			t.Errorf("hidden text shows: %q", page.Text)
		}
	}
}

// A page that is not given, or is not one, is an error that says so; a page
// that is too long, or ends before its end, is cut and says so, whatever it was
// packed in; one without a word was not read.
func TestPageFaults(t *testing.T) {
	db := testdb.SQLite(t)
	for kind, want := range map[string]struct {
		code  string
		calls int
	}{
		"429": {"provider_unavailable", 1}, "503": {"provider_unavailable", 1}, "key": {"provider_refused", 1}, "binary": {"unsupported_type", 1}, "redirect_loop": {"provider_refused", 6},
		"redirect_inside": {"provider_refused", 1}, "cut": {"provider_unavailable", 2}, "reset": {"provider_unavailable", 0}, "huge": {"", 1}, "bomb": {"provider_malformed", 1}, "empty_body": {"provider_malformed", 1}, "latency": {"", 1},
	} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, db, only())
			b.box.Fault(sandbox.Fault{Vendor: sandbox.Web, Kind: kind, AfterMS: 1})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			page, err := b.Fetch(db.In(db.A), research.FetchRequest{Call: call, URL: "https://www.northmere.example/about"})
			runtime.ReadMemStats(&after)
			if want.code == "" && err != nil || want.code != "" && domain.CodeOf(err) != want.code {
				t.Errorf("%v, want %q", err, want.code)
			}
			if want.code == "" && kind != "latency" && (!page.Truncated || len(page.Text) > maxPage) {
				t.Errorf("truncated %t, %d bytes", page.Truncated, len(page.Text))
			}
			if n := len(b.box.Calls()); want.calls > 0 && n != want.calls {
				t.Errorf("%d requests, want %d", n, want.calls)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; kind == "bomb" && grown > 120<<20 {
				t.Errorf("%d MB were allocated for a bomb of 200 MB", grown>>20)
			}
		})
	}
}

// A page that ends before its end says so.
func TestHalfAPage(t *testing.T) {
	whole := "<html><body><p>One sentence stands here.</p><p>Another follows it.</p></body></html>"
	for text, half := range map[string]bool{whole: false, whole[:50]: true, "<p>A fragment that never was a document.": false} {
		page, err := readPage("https://a.example/", "https://a.example/", "text/html; charset=utf-8", []byte(text), time.Now())
		if err != nil || page.Truncated != half {
			t.Errorf("%q: truncated %t, %v", text, page.Truncated, err)
		}
	}
}

// A site that refuses our own request is asked for through Linkup, once.
func TestFetchThroughLinkup(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, only(Linkup))
	b.box.Fault(sandbox.Fault{Vendor: sandbox.Web, Kind: "key"})
	page, err := b.Fetch(db.In(db.A), research.FetchRequest{Call: call, URL: "https://www.qinglan-aero.example/xinwen/2021/0520.htm"})
	if err != nil || !strings.Contains(page.Text, "飞行控制联合实验室于2021年5月正式揭牌") || page.Usage.Provider != Linkup || page.Usage.Calls != 1 {
		t.Errorf("%+v %v", page, err)
	}
	if _, err := b.Fetch(db.In(db.A), research.FetchRequest{Call: call, URL: "https://www.northmere.example/nowhere"}); domain.CodeOf(err) != "provider_refused" {
		t.Errorf("a page that is not there: %v", err)
	}
}

// No page is fetched from inside the network, by whatever way it is named.
func TestFetchStaysOutside(t *testing.T) {
	db := testdb.SQLite(t)
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Errorf("reached %s", r.URL) }))
	defer inside.Close()
	b := newBench(t, db, func(c *Config) {
		only()(c)
		c.Egress = egress.New(egress.Config{DialOverride: strings.TrimPrefix(inside.URL, "http://")})
	})
	for _, u := range []string{inside.URL, "http://localhost/", "http://169.254.169.254/latest/meta-data/", "http://[::1]:8080/", "http://metadata.google.internal/", "file:///etc/passwd", "http://10.0.0.1/", "ftp://a.example/", "not an address", "http://0x7f.1/"} {
		_, err := b.Fetch(context.WithoutCancel(db.In(db.A)), research.FetchRequest{Call: call, URL: u})
		var f *Failure
		if domain.CodeOf(err) != "provider_refused" || !errors.As(err, &f) {
			t.Errorf("%s: %v", u, err)
		}
	}
}
