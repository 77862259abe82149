package provider

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/chainreactions/chainreactions/app/egress"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
)

const (
	maxPage     = 5 << 20 // bytes after decompression; what is beyond is cut off and said so (maxPDF for a PDF)
	pageTimeout = 25 * time.Second
	maxDepth    = 512 // of nested elements; the parser itself stops there too
)

// pageClient reaches web pages through the egress guard, and the pages of an
// emulated host at its emulator.
func (p *Providers) pageClient(guard *egress.Guard) *http.Client {
	c := guard.Client()
	c.Transport = emulated{host: p.EmulatedHost, otherwise: c.Transport, direct: apiTransport(16)}
	return c
}

type emulated struct {
	host      func(string) (string, bool)
	otherwise http.RoundTripper
	direct    *http.Transport
}

func (e emulated) RoundTrip(req *http.Request) (*http.Response, error) {
	address, ok := e.host(strings.ToLower(req.URL.Hostname()))
	if !ok {
		return e.otherwise.RoundTrip(req)
	}
	at := req.Clone(req.Context())
	at.Host = req.URL.Host // the emulator tells its pages apart by it
	at.URL.Scheme, at.URL.Host = "http", address
	at.Header.Set("X-Forwarded-Proto", req.URL.Scheme)
	resp, err := e.direct.RoundTrip(at)
	if resp != nil {
		resp.Request = req // where redirects are relative to
	}
	return resp, err
}

// Fetch reads one public page as text. It is never billed; a page that our
// own request is refused is asked for once through Linkup, where that is
// configured, whose browser gets more of them.
func (p *Providers) Fetch(ctx context.Context, in research.FetchRequest) (research.Page, error) {
	page, f := p.fetch(ctx, in.URL)
	if f != nil && f.Reason == Unreachable { // a connection that broke may not break again
		if err := p.Sleep(ctx, p.wait(f, &vendor{}, 1)); err == nil {
			f.Attempts++
			page, f = p.fetch(ctx, in.URL)
		}
	}
	if f == nil {
		return page, nil
	}
	f.Attempts++
	linkup := p.vendors[Linkup]
	if linkup != nil && linkup.sandbox == page.Usage.Sandbox && (f.Status == 401 || f.Status == 403 || f.Status == 429 || f.Status == 503) {
		raw, usage, err := p.linkupFetch(ctx, linkup, in.Call, in.URL)
		if err == nil {
			page, err = readPage(in.URL, in.URL, "text/html; charset=utf-8", []byte(raw), p.Now())
			page.Usage = usage
		}
		if err == nil {
			return page, nil
		}
		page.Usage = usage
	}
	if domain.CodeOf(f.cause) == "address_not_allowed" || domain.CodeOf(f.cause) == "too_many_redirects" {
		return page, domain.E(domain.Unavailable, "provider_refused", "This page may not be fetched.").Because(f)
	}
	switch meanings[f.Reason].code {
	case "robots_disallowed":
		return page, domain.E(domain.Unavailable, "robots_disallowed", "The site's robots.txt asks robots not to read this page.").Because(f)
	case "unsupported_type":
		return page, domain.E(domain.Unavailable, "unsupported_type", "The page is of a kind that is not read.").Because(f)
	case "provider_refused":
		return page, domain.E(domain.Unavailable, "provider_refused", "The site does not give this page.").Because(f)
	case "provider_malformed":
		return page, domain.E(domain.Unavailable, "provider_malformed", "The page cannot be read.").Because(f)
	}
	return page, f.told()
}

func (p *Providers) fetch(ctx context.Context, address string) (page research.Page, f *Failure) {
	page = research.Page{URL: address, Usage: research.Usage{Provider: "web"}}
	failed := func(reason Reason, status int, err error) (research.Page, *Failure) {
		f := &Failure{Provider: "web", Reason: reason, Status: status, cause: err, free: true}
		if err != nil {
			f.Detail = cut(err.Error(), 300)
		}
		return page, f
	}
	u, err := url.Parse(address)
	if err != nil {
		return failed(Refused, 0, err)
	}
	_, page.Usage.Sandbox = p.EmulatedHost(strings.ToLower(u.Hostname()))
	site, f := p.robots.permits(ctx, u)
	if f != nil {
		return page, f
	}
	select {
	case site.slots <- struct{}{}:
		defer func() { <-site.slots }()
	case <-ctx.Done():
		return failed(Canceled, 0, ctx.Err())
	}
	bounded, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, http.MethodGet, address, nil)
	if err != nil {
		return failed(Refused, 0, err)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "text/html,application/xhtml+xml,text/plain;q=0.9,application/pdf;q=0.8,*/*;q=0.1")
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := p.pages.Do(req)
	if err != nil {
		if errors.As(err, &f) { // where it leads may not be read
			return page, f
		}
		switch {
		case domain.CodeOf(err) == "address_not_allowed" || domain.CodeOf(err) == "too_many_redirects":
			return failed(Refused, 0, err)
		case ctx.Err() != nil:
			return failed(Canceled, 0, err)
		case bounded.Err() != nil:
			return failed(TimedOut, 0, err)
		}
		return failed(Unreachable, 0, err)
	}
	defer resp.Body.Close()
	switch s := resp.StatusCode; {
	case s == 429 || s >= 500:
		return failed(Overloaded, s, nil)
	case s != 200:
		return failed(Refused, s, nil)
	}
	var in io.Reader = resp.Body
	switch resp.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		if in, err = gzip.NewReader(resp.Body); err != nil {
			return failed(Malformed, 200, err)
		}
	default:
		return failed(Malformed, 200, errors.New("a content encoding that was not asked for"))
	}
	// What begins as a PDF is one, whatever the server calls it: many call it bytes.
	body, kind := bufio.NewReader(in), mediaType(resp.Header)
	most := int64(maxPage)
	if head, _ := body.Peek(len(pdfMark)); string(head) == pdfMark {
		kind, most = "application/pdf", maxPDF
	}
	if !readable(kind) {
		return failed(Unsupported, 200, errors.New("media type "+kind))
	}
	// The limit is on what comes out: a bomb costs no more than a long page.
	raw, err := io.ReadAll(io.LimitReader(body, most+1))
	switch {
	case ctx.Err() != nil:
		return failed(Canceled, 200, ctx.Err())
	case bounded.Err() != nil:
		return failed(TimedOut, 200, err)
	case err != nil:
		return failed(Unreachable, 200, err)
	}
	usage := page.Usage
	p.parsing <- struct{}{}
	defer func() { <-p.parsing }()
	if kind == "application/pdf" {
		if len(raw) > maxPDF {
			return failed(Unsupported, 200, errors.New("a PDF that is too long"))
		}
		page = pageOf(address, resp.Request.URL.String(), kind, raw, p.Now())
		err = readPDF(ctx, p.PDF, raw, &page)
	} else {
		page, err = readPage(address, resp.Request.URL.String(), resp.Header.Get("Content-Type"), raw, p.Now())
	}
	page.Usage = usage
	switch {
	case ctx.Err() != nil:
		return failed(Canceled, 200, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return failed(TimedOut, 200, err)
	}
	if err == nil && strings.TrimSpace(page.Text) == "" {
		err = errors.New("a page without a word") // its script would write them
	}
	if err != nil {
		return failed(Malformed, 200, err)
	}
	return page, nil
}

func mediaType(h http.Header) string {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return "application/octet-stream"
	}
	return kind
}

func readable(kind string) bool {
	return kind == "text/html" || kind == "application/xhtml+xml" || kind == "text/plain" || kind == "application/pdf"
}

const pdfMark = "%PDF-"

// pageOf is what is known of a page before it is read.
func pageOf(asked, final, kind string, raw []byte, now time.Time) research.Page {
	sum := sha256.Sum256(raw)
	return research.Page{URL: asked, FinalURL: final, RetrievedAt: now.UTC().Truncate(time.Microsecond), MediaType: kind, Hash: hex.EncodeToString(sum[:])}
}

// readPage makes text of a page's bytes.
func readPage(asked, final, contentType string, raw []byte, now time.Time) (research.Page, error) {
	whole := len(raw) <= maxPage
	raw = raw[:min(len(raw), maxPage)]
	kind, _, _ := mime.ParseMediaType(contentType)
	page := pageOf(asked, final, kind, raw, now)
	page.Truncated = !whole
	text, err := decode(raw, contentType).NewDecoder().Bytes(raw)
	if err != nil {
		return page, err
	}
	if page.MediaType == "text/plain" {
		page.Text = string(text)
		return page, nil
	}
	doc, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		return page, err
	}
	page.Truncated = page.Truncated || !closed(text)
	about(doc, &page)
	var t textWriter
	t.walk(doc, 0)
	page.Text = t.String()
	return page, nil
}

// closed reports whether a page has its end: HTML may leave the mark out, and
// hardly any page does.
func closed(text []byte) bool {
	tail := bytes.ToLower(text[max(0, len(text)-4096):])
	return bytes.Contains(tail, []byte("</html")) || bytes.Contains(tail, []byte("</body")) || !bytes.Contains(bytes.ToLower(text[:min(len(text), 4096)]), []byte("<html"))
}

// decode finds the encoding of a page: a mark, the header and the page's own
// word in the order of the HTML standard; where none says it, what the bytes
// can be. The standard's last resort is Windows-1252, in which every page is
// something.
func decode(raw []byte, contentType string) encoding.Encoding {
	e, name, certain := charset.DetermineEncoding(raw, contentType)
	if certain || name != "windows-1252" {
		return e
	}
	head := raw[:min(len(raw), 64<<10)]
	if utf8.Valid(raw) {
		return encoding.Nop
	}
	best, most := e, 0
	for _, candidate := range []struct {
		encoding.Encoding
		common func(r rune) bool
	}{
		{simplifiedchinese.GB18030, func(r rune) bool {
			return strings.ContainsRune("的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听该铁价严龙飞", r)
		}},
		{japanese.ShiftJIS, func(r rune) bool { return r >= 0x3041 && r <= 0x30ff }},
		{japanese.EUCJP, func(r rune) bool { return r >= 0x3041 && r <= 0x30ff }},
		{charmap.Windows1251, func(r rune) bool { return strings.ContainsRune("оеаинтсрвлкмдпуябгзч", r) }},
	} {
		text, err := candidate.NewDecoder().Bytes(head)
		if err != nil {
			continue
		}
		score, before := 0, 'x'
		for _, r := range string(text) {
			switch {
			case r == utf8.RuneError:
				score -= 20
			case candidate.common(r) && before >= utf8.RuneSelf: // an accent of a European word stands alone
				score += utf8.RuneLen(r) // a character of more bytes says more
			}
			before = r
		}
		if score > most {
			best, most = candidate.Encoding, score
		}
	}
	return best
}

// about reads what a page says of itself.
func about(doc *html.Node, page *research.Page) {
	dates := map[string]string{}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.DataAtom {
		case atom.Html:
			if lang := strings.ToLower(attr(n, "lang")); len(lang) >= 2 && (len(lang) == 2 || lang[2] == '-' || lang[2] == '_') {
				page.Language = lang[:2]
			}
		case atom.Title:
			if page.Title == "" && n.FirstChild != nil {
				page.Title = cut(tidy(n.FirstChild.Data), 500)
			}
		case atom.Meta:
			name := strings.ToLower(attr(n, "property") + attr(n, "name") + attr(n, "itemprop"))
			dates[name] = attr(n, "content")
		case atom.Time:
			if _, ok := dates["time"]; !ok {
				dates["time"] = attr(n, "datetime")
			}
		case atom.Script:
			if strings.EqualFold(attr(n, "type"), "application/ld+json") && n.FirstChild != nil {
				var ld struct {
					Published string `json:"datePublished"`
				}
				if json.Unmarshal([]byte(n.FirstChild.Data), &ld) == nil && ld.Published != "" {
					dates["json-ld"] = ld.Published
				}
			}
		}
	}
	for _, name := range []string{"article:published_time", "json-ld", "datepublished", "citation_publication_date", "dc.date.issued", "dc.date", "pubdate", "publishdate", "date", "time"} {
		if day := published(dates[name]); day != "" {
			page.PublishedAt = day
			return
		}
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// textWriter gathers the visible text (research.Page says what that is).
type textWriter struct {
	strings.Builder
	atLine bool
}

func (t *textWriter) line() {
	if t.Len() > 0 && !t.atLine {
		t.WriteByte('\n')
	}
	t.atLine = true
}

func (t *textWriter) walk(n *html.Node, depth int) {
	if depth > maxDepth {
		return
	}
	switch n.Type {
	case html.TextNode:
		if strings.TrimSpace(n.Data) == "" && t.atLine {
			return
		}
		t.WriteString(n.Data)
		t.atLine = false
		return
	case html.ElementNode:
		if hidden(n) {
			return
		}
		if unread(n) {
			t.WriteRune(gap)
			t.atLine = false
			return
		}
		if n.DataAtom == atom.Br {
			t.line()
			return
		}
	case html.CommentNode, html.DoctypeNode:
		return
	}
	block := n.Type == html.ElementNode && blocks[n.DataAtom]
	if block {
		t.line()
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		t.walk(c, depth+1)
	}
	if block {
		t.line()
	}
	if n.DataAtom == atom.Td || n.DataAtom == atom.Th {
		t.WriteByte('\t')
	}
}

// gap stands where something was left out that others might take for text, so
// that no quote reaches across it.
const gap = '\uFFFC'

// hidden reports whether an element is no part of the text by the quote
// contract (osint.md §4), by what stands on itself: rules of style sheets are
// not applied.
func hidden(n *html.Node) bool {
	switch n.DataAtom {
	case atom.Head, atom.Title, atom.Script, atom.Style, atom.Noscript, atom.Template:
		return true
	}
	for _, a := range n.Attr {
		if a.Key == "hidden" || a.Key == "style" && strings.Contains(styleOf(a.Val), "display:none") {
			return true
		}
	}
	return false
}

// unread reports whether an element is there but no reader sees its words.
func unread(n *html.Node) bool {
	switch n.DataAtom {
	case atom.Iframe, atom.Object, atom.Svg, atom.Math, atom.Select, atom.Textarea, atom.Audio, atom.Video, atom.Canvas:
		return true
	}
	style := styleOf(attr(n, "style"))
	for _, rule := range []string{"visibility:hidden", "visibility:collapse", "opacity:0;", "font-size:0;", "font-size:0px;", "content-visibility:hidden"} {
		if strings.Contains(style, rule) {
			return true
		}
	}
	return false
}

func styleOf(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), "")) + ";" }

var blocks = map[atom.Atom]bool{}

func init() {
	for _, a := range []atom.Atom{atom.Address, atom.Article, atom.Aside, atom.Blockquote, atom.Body, atom.Button, atom.Caption, atom.Dd, atom.Details, atom.Dialog, atom.Div, atom.Dl, atom.Dt,
		atom.Fieldset, atom.Figcaption, atom.Figure, atom.Footer, atom.Form, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Header, atom.Hr, atom.Li, atom.Main, atom.Nav, atom.Ol,
		atom.P, atom.Pre, atom.Section, atom.Summary, atom.Table, atom.Tbody, atom.Tfoot, atom.Thead, atom.Tr, atom.Ul, atom.Option, atom.Center} {
		blocks[a] = true
	}
}

var _ = domain.Chinese(map[string]string{
	"This page may not be fetched.":                            "不允许读取该网页。",
	"The site's robots.txt asks robots not to read this page.": "该网站的 robots.txt 要求机器人不要读取此网页。",
	"The site does not give this page.":                        "该网站未提供此网页。",
	"The page is of a kind that is not read.":                  "无法读取此类型的网页。",
	"The page cannot be read.":                                 "该网页无法读取。",
})
