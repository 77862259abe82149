package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/PuerkitoBio/goquery"
	"golang.org/x/sync/errgroup"

	"github.com/chainreactions/chainreactions/domain/research"
)

// Bright Data fetches an engine's result page. It parses Google's and Bing's;
// the pages of Yandex and DuckDuckGo come as HTML, Baidu's as JSON of Baidu's
// own. Its errors hide: in an inner status below an outer 200, in three
// families of headers, in an empty body.

type brightDataRequest struct {
	Zone       string `json:"zone"`
	URL        string `json:"url"`
	Format     string `json:"format"` // json: an envelope that shows the inner status
	Method     string `json:"method"`
	Country    string `json:"country,omitempty"`
	DataFormat string `json:"data_format,omitempty"`
}

// engine is how one search engine is asked and read.
type engine struct {
	address func(in research.SearchRequest) string
	format  string // Bright Data's data_format
	read    func(in research.SearchRequest, raw []byte) (research.SearchResponse, *Failure)
	opaque  string // host of links that only redirect
}

var engines = map[string]engine{
	"google": {address: func(in research.SearchRequest) string {
		q := url.Values{"q": {in.Query}, "brd_json": {"1"}}
		set(q, "gl", strings.ToLower(in.Country))
		set(q, "hl", in.Language)
		if in.From != "" || in.To != "" {
			q.Set("tbs", "cdr:1"+part(",cd_min:", american(in.From))+part(",cd_max:", american(in.To)))
		}
		return "https://www.google.com/search?" + q.Encode()
	}, read: readParsed},
	"bing": {format: "parsed_bing", address: func(in research.SearchRequest) string {
		q := url.Values{"q": {in.Query}}
		set(q, "cc", strings.ToLower(in.Country))
		set(q, "setLang", in.Language)
		return "https://www.bing.com/search?" + q.Encode()
	}, read: readParsed},
	"yandex": {address: func(in research.SearchRequest) string {
		q := url.Values{"text": {in.Query}}
		set(q, "lr", yandexRegions[in.Country])
		set(q, "lang", in.Language)
		return "https://yandex.com/search/?" + q.Encode()
	}, read: readHTML(selectors{result: "li.serp-item", link: "a.OrganicTitle-Link, h2 a, a.organic__url", snippet: ".OrganicTextContentSpan, .organic__text, .text-container",
		none: ".EmptySearchResults, .misspell__message", captcha: ".CheckboxCaptcha, form[action*=captcha]"})},
	"baidu": {opaque: "www.baidu.com", address: func(in research.SearchRequest) string {
		q := url.Values{"wd": {in.Query}, "rn": {"20"}, "tn": {"json"}}
		from, okFrom := day8601(in.From)
		to, okTo := day8601(in.To)
		if okFrom && okTo {
			q.Set("gpc", "stf="+strconv.FormatInt(from.Unix(), 10)+","+strconv.FormatInt(to.Add(24*time.Hour-time.Second).Unix(), 10)+"|stftype=2")
		}
		return "https://www.baidu.com/s?" + q.Encode()
	}, read: readBaidu},
	"duckduckgo": {address: func(in research.SearchRequest) string {
		q := url.Values{"q": {in.Query}}
		if in.From != "" && in.To != "" {
			q.Set("df", in.From+".."+in.To)
		}
		if in.Country != "" && in.Language != "" {
			q.Set("kl", strings.ToLower(in.Country)+"-"+in.Language)
		}
		return "https://html.duckduckgo.com/html/?" + q.Encode()
	}, read: readHTML(selectors{result: ".result", link: "a.result__a", snippet: ".result__snippet", none: ".no-results", captcha: ".anomaly-modal__title"})},
}

// yandexRegions are Yandex's numbers of countries.
var yandexRegions = map[string]string{"RU": "225", "BY": "149", "KZ": "159", "UA": "187", "US": "84", "IR": "10536", "CN": "134", "GB": "102", "DE": "96", "FR": "124"}

// exit is the country that Bright Data asks from. It has no exits in some: a
// neighbour stands in, and the engine is still told the place (gl, lr).
func exit(country string) string {
	if near, ok := map[string]string{"CN": "hk", "IR": "ae", "RU": "us"}[country]; ok {
		return near
	}
	return strings.ToLower(country)
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func part(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func day8601(s string) (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, s)
	return t, err == nil
}

func american(s string) string {
	t, ok := day8601(s)
	if !ok {
		return ""
	}
	return t.Format("1/2/2006")
}

func (p *Providers) brightData(ctx context.Context, v *vendor, in research.SearchRequest) (research.SearchResponse, error) {
	e, ok := engines[in.Engine]
	if !ok {
		return research.SearchResponse{}, (&Failure{Provider: v.name, Reason: Refused, Detail: "no engine " + strconv.Quote(in.Engine)}).told()
	}
	body := brightDataRequest{Zone: p.Accounts[BrightData].Zone, URL: e.address(in), Format: "json", Method: "GET", Country: exit(in.Country), DataFormat: e.format}
	r := request{call: in.Call, operation: "search/" + in.Engine, worst: brightDataMicros, build: func(ctx context.Context, key string) (*http.Request, error) {
		req, err := postJSON(ctx, v.base+"/request", body)
		if err == nil {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		return req, err
	}}
	out, usage, err := do(ctx, p, v, r, func(resp *http.Response) (research.SearchResponse, spent, *Failure) {
		raw, f := readBrightData(resp)
		if f != nil {
			return research.SearchResponse{}, spent{}, f
		}
		out, f := e.read(in, raw)
		if f != nil {
			f.Status = resp.StatusCode
		}
		return out, spent{micros: brightDataMicros, known: true}, f
	})
	out.Usage = usage
	if err == nil {
		out.Results = limited(out.Results, in.Limit)
		if e.opaque != "" {
			out.Results = p.resolveLinks(ctx, e.opaque, out.Results)
		}
	}
	return out, err
}

func limited(results []research.SearchResult, limit int) []research.SearchResult {
	if limit > 0 && len(results) > limit {
		return results[:limit]
	}
	return results
}

// resolveLinks asks an engine's own links where they lead; one that does not
// say is no page that could be cited, and is left out.
func (p *Providers) resolveLinks(ctx context.Context, host string, results []research.SearchResult) []research.SearchResult {
	var group errgroup.Group
	group.SetLimit(8)
	for i := range results {
		if u, err := url.Parse(results[i].URL); err == nil && u.Hostname() == host && u.Path == "/link" {
			group.Go(func() error {
				results[i].URL, _ = p.target(ctx, results[i].URL)
				return nil
			})
		}
	}
	_ = group.Wait()
	return slices.DeleteFunc(results, func(r research.SearchResult) bool { return r.URL == "" })
}

// readBrightData takes the envelope off and finds the error that hides in it.
func readBrightData(resp *http.Response) ([]byte, *Failure) {
	b, f := readBody(resp)
	if f != nil {
		return nil, f
	}
	code, words := "", ""
	for _, pair := range [][2]string{{"X-Brd-Error-Code", "X-Brd-Error"}, {"X-Brd-Err-Code", "X-Brd-Err-Msg"}} {
		if c := resp.Header.Get(pair[0]); c != "" {
			code, words = c, resp.Header.Get(pair[1])
		}
	}
	if s := resp.Header.Get("Proxy-Status"); code == "" && strings.Contains(s, "error=") { // RFC 9209
		code, words = s, ""
	}
	if resp.StatusCode != 200 || code != "" || len(bytes.TrimSpace(b)) == 0 {
		f := byStatus(resp, strings.TrimSpace(code+" "+words+" "+string(b)))
		switch {
		case strings.HasPrefix(code, "client_10100"):
			f.Reason = QuotaSpent
		case strings.HasPrefix(code, "sr_rate_limit"), strings.HasPrefix(code, "bucket_rate_limit"), strings.HasPrefix(code, "client_10110"):
			f.Reason = RateLimited
		case strings.HasPrefix(code, "failed_query_rejected"), strings.HasPrefix(code, "repeat_query_rejected"):
			f.Reason, f.After = Overloaded, max(f.After, 15*time.Second)
		case resp.StatusCode == 200 && code != "": // the key, the zone or the list of addresses that may ask
			f.Reason = KeyRefused
		case resp.StatusCode == 200:
			f.Reason, f.free = Malformed, false
			f.Detail = "an empty answer"
		case f.Reason == NoModel:
			f.Reason = Refused
		}
		return nil, f
	}
	var envelope struct {
		Status  int             `json:"status_code"`
		Headers map[string]any  `json:"headers"`
		Body    json.RawMessage `json:"body"`
	}
	if err := json.Unmarshal(b, &envelope); err != nil || len(envelope.Body) == 0 {
		return nil, malformed(resp, "not an envelope: %v", err)
	}
	inner := []byte(envelope.Body)
	var text string
	if json.Unmarshal(inner, &text) == nil {
		inner = []byte(text)
	}
	switch {
	case envelope.Status == 429 || envelope.Status == 403:
		return nil, &Failure{Reason: Captcha, Status: envelope.Status, Detail: "the engine refused Bright Data"}
	case envelope.Status >= 300 && envelope.Status < 400: // Baidu sends robots to wappass.baidu.com
		return nil, &Failure{Reason: Captcha, Status: envelope.Status, Detail: "the engine redirects"}
	case envelope.Status >= 500 || envelope.Status == 0:
		return nil, &Failure{Reason: Overloaded, Status: envelope.Status, Detail: cut(text, 300)}
	case envelope.Status >= 400:
		return nil, &Failure{Reason: Refused, Status: envelope.Status, Detail: cut(text, 300)}
	case len(bytes.TrimSpace(inner)) == 0 || string(inner) == "null":
		return nil, malformed(resp, "an empty body in the envelope")
	}
	return inner, nil
}

// readParsed reads what Bright Data made of Google's or Bing's page.
func readParsed(in research.SearchRequest, raw []byte) (out research.SearchResponse, f *Failure) {
	var r struct {
		General *struct {
			Query    string `json:"query"`
			Detected string `json:"detected_query"`
		} `json:"general"`
		Organic []struct {
			Link        string `json:"link"`
			Title       string `json:"title"`
			Description string `json:"description"`
			Rank        int    `json:"rank"`
			Date        string `json:"date"`
		} `json:"organic"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return out, &Failure{Reason: Malformed, Detail: cut("not a parsed result page: "+err.Error(), 300)}
	}
	if r.General == nil && r.Organic == nil {
		return out, &Failure{Reason: Malformed, Detail: "neither general nor organic in the result page"}
	}
	if r.General != nil && r.General.Detected != "" && r.General.Detected != in.Query {
		out.Altered = r.General.Detected
	}
	for _, o := range r.Organic {
		add(&out, o.Link, o.Title, o.Description, published(o.Date))
	}
	return out, nil
}

// readBaidu reads tn=json, and Baidu's HTML where it comes all the same.
func readBaidu(in research.SearchRequest, raw []byte) (out research.SearchResponse, f *Failure) {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("<")) {
		return readHTML(selectors{result: "div.result, div.c-container", link: "h3 a", snippet: ".c-abstract, [class^=content-right], .c-span-last", real: "mu", none: ".nors, .content_none", captcha: "title:contains(百度安全验证)"})(in, raw)
	}
	var r struct {
		Feed *struct {
			All   any `json:"all"`
			Entry []struct {
				Title string      `json:"title"`
				URL   string      `json:"url"`
				Abs   string      `json:"abs"`
				Time  json.Number `json:"time"`
			} `json:"entry"`
		} `json:"feed"`
	}
	if err := json.Unmarshal(raw, &r); err != nil || r.Feed == nil {
		return out, &Failure{Reason: Malformed, Detail: cut("not Baidu's feed: "+errText(err), 300)}
	}
	for _, e := range r.Feed.Entry { // the last one is empty
		when := ""
		if s, err := e.Time.Int64(); err == nil && s > 0 {
			when = time.Unix(s, 0).UTC().Format(time.DateOnly)
		}
		add(&out, e.URL, e.Title, e.Abs, when)
	}
	return out, nil
}

func errText(err error) string {
	if err == nil {
		return "no feed"
	}
	return err.Error()
}

// selectors find results in an engine's page. Engines change theirs; a page in
// which nothing is found, and that does not say so, is a failure of ours and
// never "no results".
type selectors struct{ result, link, snippet, real, none, captcha string }

func readHTML(s selectors) func(research.SearchRequest, []byte) (research.SearchResponse, *Failure) {
	return func(_ research.SearchRequest, raw []byte) (out research.SearchResponse, f *Failure) {
		doc, err := goquery.NewDocumentFromReader(bytes.NewReader(raw))
		if err != nil {
			return out, &Failure{Reason: Malformed, Detail: cut(err.Error(), 300)}
		}
		if s.captcha != "" && doc.Find(s.captcha).Length() > 0 {
			return out, &Failure{Reason: Captcha, Detail: "the engine asks whether Bright Data is a robot"}
		}
		doc.Find(s.result).Each(func(_ int, item *goquery.Selection) {
			a := item.Find(s.link).First()
			link := unwrap(a.AttrOr("href", ""))
			if mu := item.AttrOr(s.real, ""); s.real != "" && mu != "" {
				link = mu
			}
			add(&out, link, tidy(a.Text()), tidy(item.Find(s.snippet).First().Text()), "")
		})
		if len(out.Results) == 0 && doc.Find(s.none).Length() == 0 {
			return out, &Failure{Reason: Malformed, Detail: "no result is recognised in the engine's page"}
		}
		return out, nil
	}
}

// unwrap takes a target out of DuckDuckGo's links.
func unwrap(link string) string {
	if strings.HasPrefix(link, "//") {
		link = "https:" + link
	}
	if u, err := url.Parse(link); err == nil && strings.HasSuffix(u.Hostname(), "duckduckgo.com") {
		return u.Query().Get("uddg")
	}
	return link
}

func tidy(s string) string { return strings.Join(strings.Fields(s), " ") }

// add appends a hit that can be cited: an address of the web with a title.
func add(out *research.SearchResponse, link, title, snippet, when string) {
	u, err := url.Parse(strings.TrimSpace(link))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || title == "" && snippet == "" {
		return
	}
	out.Results = append(out.Results, research.SearchResult{URL: u.String(), Title: title, Snippet: snippet, PublishedAt: when, Rank: len(out.Results) + 1})
}

// published reads the dates that result lists show, as precisely as they are;
// "2 days ago" is left out, for it is as of another day.
func published(s string) string {
	s = strings.TrimSpace(s)
	for layout, as := range map[string]string{
		time.RFC3339: time.DateOnly, "2006-01-02T15:04:05": time.DateOnly, "2006-01-02 15:04:05": time.DateOnly, time.DateOnly: time.DateOnly,
		"Jan 2, 2006": time.DateOnly, "January 2, 2006": time.DateOnly, "2 Jan 2006": time.DateOnly, "2 January 2006": time.DateOnly, "2006年1月2日": time.DateOnly,
		"02.01.2006": time.DateOnly, "2006/01/02": time.DateOnly, "2006-01": "2006-01", "2006": "2006",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Format(as)
		}
	}
	return ""
}

func (p *Providers) searXNG(ctx context.Context, v *vendor, in research.SearchRequest) (research.SearchResponse, error) {
	q := url.Values{"q": {in.Query}, "format": {"json"}, "engines": {in.Engine}}
	set(q, "language", in.Language)
	r := request{call: in.Call, operation: "search/" + in.Engine, build: func(ctx context.Context, key string) (*http.Request, error) {
		// A POST: a GET that a reused connection drops is sent again by net/http.
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/search", strings.NewReader(q.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Accept", "application/json")
			req.Header.Set("User-Agent", userAgent)
		}
		return req, err
	}}
	out, usage, err := do(ctx, p, v, r, func(resp *http.Response) (research.SearchResponse, spent, *Failure) {
		out, f := readSearXNG(resp, in)
		return out, spent{known: true}, f
	})
	out.Usage = usage
	out.Results = limited(out.Results, in.Limit)
	return out, err
}

func readSearXNG(resp *http.Response, in research.SearchRequest) (out research.SearchResponse, f *Failure) {
	b, f := readBody(resp)
	if f != nil {
		return out, f
	}
	if resp.StatusCode != 200 {
		f := byStatus(resp, string(b))
		if f.Status == 403 {
			f.Reason, f.Detail = Refused, "JSON is off: add json to search.formats in SearXNG's settings"
		} else if f.Reason == NoModel {
			f.Reason = Refused
		}
		return out, f
	}
	var r struct {
		Results []struct {
			URL       string  `json:"url"`
			Title     string  `json:"title"`
			Content   string  `json:"content"`
			Published *string `json:"publishedDate"`
		} `json:"results"`
		Unresponsive [][]string `json:"unresponsive_engines"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return out, malformed(resp, "not a SearXNG answer: %v", err)
	}
	if r.Results == nil {
		return out, malformed(resp, "no results field in SearXNG's answer")
	}
	for _, hit := range r.Results {
		when := ""
		if hit.Published != nil {
			when = published(*hit.Published)
		}
		add(&out, hit.URL, hit.Title, hit.Content, when)
	}
	if len(out.Results) == 0 { // an engine that did not answer is no empty answer
		for _, u := range r.Unresponsive {
			if len(u) > 0 && u[0] == in.Engine {
				return out, &Failure{Reason: Overloaded, Status: resp.StatusCode, Detail: cut("the engine did not answer SearXNG: "+strings.Join(u, ": "), 300), free: true}
			}
		}
	}
	return out, nil
}
