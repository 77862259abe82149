package provider

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/chainreactions/chainreactions/domain/research"
)

// Linkup searches, reads and answers in one call. Its 429 is four things of
// which one passes, and its 400 is an empty result at times. Only what succeeds
// is billed.

type linkupRequest struct {
	Query          string   `json:"q"`
	Depth          string   `json:"depth"`
	Output         string   `json:"outputType"`
	Schema         string   `json:"structuredOutputSchema,omitempty"` // JSON in a string
	IncludeSources bool     `json:"includeSources,omitempty"`
	IncludeDomains []string `json:"includeDomains,omitempty"`
	ExcludeDomains []string `json:"excludeDomains,omitempty"`
	From           string   `json:"fromDate,omitempty"`
	To             string   `json:"toDate,omitempty"`
	Max            int      `json:"maxResults,omitempty"`
}

type linkupSource struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	URL     string `json:"url"`
	Snippet string `json:"snippet"`
	Content string `json:"content"`
}

func (p *Providers) linkupProfile(ctx context.Context, v *vendor, in research.ProfileRequest) (research.ProfileResponse, error) {
	body := linkupRequest{Query: in.Question, Depth: "standard", Output: "sourcedAnswer", IncludeDomains: in.IncludeDomains, ExcludeDomains: in.ExcludeDomains, From: in.From, To: in.To}
	cost, timeout := int64(linkupStandardAnswer), 45*time.Second
	if in.Deep {
		body.Depth, cost, timeout = "deep", linkupDeepAnswer, 120*time.Second
	}
	if in.Schema != nil {
		body.Output, body.Schema, body.IncludeSources = "structured", string(in.Schema), true
	}
	out, usage, err := do(ctx, p, v, p.linkup(v, in.Call, "profile", "/search", cost, timeout, body), func(resp *http.Response) (out research.ProfileResponse, s spent, f *Failure) {
		b, empty, f := readLinkup(resp)
		if f != nil || empty {
			return out, spent{known: empty}, f
		}
		var r struct {
			Answer  *string         `json:"answer"`
			Data    json.RawMessage `json:"data"`
			Sources *[]linkupSource `json:"sources"`
		}
		if err := json.Unmarshal(b, &r); err != nil || r.Sources == nil {
			return out, s, malformed(resp, "not an answer with sources: %v", err)
		}
		switch {
		case in.Schema != nil && !strings.HasPrefix(strings.TrimSpace(string(r.Data)), "{"):
			return out, s, malformed(resp, "no object in data")
		case in.Schema == nil && r.Answer == nil:
			return out, s, malformed(resp, "no answer")
		}
		if r.Answer != nil {
			out.Answer = *r.Answer
		}
		out.Data = r.Data
		for _, source := range *r.Sources {
			if source.Type == "image" || source.URL == "" {
				continue
			}
			excerpt := source.Snippet
			if excerpt == "" {
				excerpt = source.Content
			}
			out.Sources = append(out.Sources, research.ProfileSource{URL: source.URL, Title: source.Name, Excerpt: excerpt})
		}
		return out, spent{micros: cost, known: true}, nil
	})
	out.Usage = usage
	return out, err
}

// linkupSearch is Linkup as a search engine, where no other is configured.
func (p *Providers) linkupSearch(ctx context.Context, v *vendor, in research.SearchRequest) (research.SearchResponse, error) {
	body := linkupRequest{Query: in.Query, Depth: "standard", Output: "searchResults", From: in.From, To: in.To, Max: in.Limit}
	out, usage, err := do(ctx, p, v, p.linkup(v, in.Call, "search/linkup", "/search", linkupStandardResults, 0, body), func(resp *http.Response) (out research.SearchResponse, s spent, f *Failure) {
		b, empty, f := readLinkup(resp)
		if f != nil || empty {
			return out, spent{known: empty}, f
		}
		var r struct {
			Results *[]linkupSource `json:"results"`
		}
		if err := json.Unmarshal(b, &r); err != nil || r.Results == nil {
			return out, s, malformed(resp, "not a list of results: %v", err)
		}
		for _, hit := range *r.Results {
			if hit.Type != "image" {
				add(&out, hit.URL, hit.Name, cut(hit.Content, 500), "")
			}
		}
		return out, spent{micros: linkupStandardResults, known: true}, nil
	})
	out.Usage = usage
	return out, err
}

// linkupFetch gives a page's HTML as Linkup's browser got it.
func (p *Providers) linkupFetch(ctx context.Context, v *vendor, call research.Call, address string) (html string, usage research.Usage, err error) {
	body := map[string]any{"url": address, "renderJs": true, "includeRawContent": true}
	return do(ctx, p, v, p.linkup(v, call, "fetch", "/fetch", linkupFetchMicros, 60*time.Second, body), func(resp *http.Response) (string, spent, *Failure) {
		b, empty, f := readLinkup(resp)
		if f != nil || empty {
			return "", spent{known: empty}, f
		}
		var r struct {
			Raw string `json:"rawContent"`
		}
		if err := json.Unmarshal(b, &r); err != nil || r.Raw == "" {
			return "", spent{}, malformed(resp, "no rawContent: %v", err)
		}
		return r.Raw, spent{micros: linkupFetchMicros, known: true}, nil
	})
}

func (p *Providers) linkup(v *vendor, call research.Call, operation, path string, cost int64, timeout time.Duration, body any) request {
	return request{call: call, operation: operation, worst: cost, timeout: timeout, build: func(ctx context.Context, key string) (*http.Request, error) {
		req, err := postJSON(ctx, v.base+path, body)
		if err == nil {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		return req, err
	}}
}

// readLinkup gives the body of a success, or says that nothing was found.
func readLinkup(resp *http.Response) (b []byte, empty bool, f *Failure) {
	if b, f = readBody(resp); f != nil || resp.StatusCode == 200 {
		return b, false, f
	}
	var r struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(b, &r) // an error page that is no JSON is told as it is
	if r.Error.Code == "SEARCH_QUERY_NO_RESULT" {
		return nil, true, nil
	}
	detail := string(b)
	if r.Error.Code != "" {
		detail = r.Error.Code + ": " + r.Error.Message
	}
	f = byStatus(resp, detail)
	switch r.Error.Code {
	case "INSUFFICIENT_FUNDS_CREDITS", "EXCEED_BUDGET_LIMIT", "PAYMENT_REQUIRED":
		f.Reason = QuotaSpent
	case "TASKS_QUEUE_LIMIT_EXCEEDED", "TASK_TYPE_NOT_SUPPORTED":
		f.Reason = Refused
	}
	if f.Reason == NoModel {
		f.Reason = Refused
	}
	f.free = true // only what succeeds is billed
	return nil, false, f
}
