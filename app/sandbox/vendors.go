package sandbox

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Gemini, as its API reference says it (generativelanguage v1beta). A key that
// begins with "bad" is wrong, one that begins with "spent" has no quota left.

type geminiIn struct {
	Contents []struct {
		Role  string `json:"role"`
		Parts []struct {
			Text string `json:"text"`
		} `json:"parts"`
	} `json:"contents"`
	System *struct {
		Role  string `json:"role"`
		Parts []struct {
			Text string `json:"text"`
		} `json:"parts"`
	} `json:"systemInstruction"`
	Tools []struct {
		Search      *struct{} `json:"googleSearch"`
		SearchSnake *struct{} `json:"google_search"`
		URLs        *struct{} `json:"urlContext"`
		URLsSnake   *struct{} `json:"url_context"`
		Code        *struct{} `json:"codeExecution"`
	} `json:"tools"`
	ToolConfig json.RawMessage `json:"toolConfig"`
	Safety     json.RawMessage `json:"safetySettings"`
	Config     struct {
		Temperature *float64        `json:"temperature"`
		TopP        *float64        `json:"topP"`
		TopK        *float64        `json:"topK"`
		Seed        *int64          `json:"seed"`
		Candidates  *int            `json:"candidateCount"`
		MaxTokens   *int            `json:"maxOutputTokens"`
		Stop        []string        `json:"stopSequences"`
		MediaType   string          `json:"responseMimeType"`
		Schema      json.RawMessage `json:"responseSchema"`
		JSONSchema  json.RawMessage `json:"responseJsonSchema"`
		Thinking    *struct {
			Include bool   `json:"includeThoughts"`
			Budget  *int   `json:"thinkingBudget"`
			Level   string `json:"thinkingLevel"`
		} `json:"thinkingConfig"`
	} `json:"generationConfig"`
}

func geminiError(status int, word, message string, details ...any) reply {
	e := map[string]any{"code": status, "message": message, "status": word}
	if len(details) > 0 {
		e["details"] = details
	}
	return jsonReply(status, map[string]any{"error": e})
}

func (s *Sandbox) gemini(r *http.Request, body []byte, f Fault) reply {
	key := r.Header.Get("x-goog-api-key")
	model, method, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/gemini/v1beta/models/"), ":")
	stream := method == "streamGenerateContent"
	delay := strconv.FormatFloat(float64(f.AfterMS)/1000, 'f', -1, 64) + "s"
	info := func(reason string) map[string]any {
		return map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
	}
	quota := func(id string) map[string]any {
		return map[string]any{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []any{map[string]any{
			"quotaMetric": "generativelanguage.googleapis.com/generate_content_requests", "quotaId": id, "quotaDimensions": map[string]any{"model": model}, "quotaValue": "250"}}}
	}
	switch {
	case f.Kind == "key" || key == "" || strings.HasPrefix(key, "bad"):
		return geminiError(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key: "+key, info("API_KEY_INVALID"))
	case f.Kind == "quota" || strings.HasPrefix(key, "spent"):
		return geminiError(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", quota("GenerateRequestsPerDayPerProjectPerModel"), map[string]any{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0s"})
	case f.Kind == "429":
		return geminiError(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted.", quota("GenerateRequestsPerMinutePerProjectPerModel"), map[string]any{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
	case f.Kind == "500":
		return geminiError(500, "INTERNAL", "An internal error has occurred.")
	case f.Kind == "503":
		return geminiError(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
	case !strings.HasPrefix(model, "gemini-") || method != "generateContent" && !stream && method != "countTokens":
		return geminiError(404, "NOT_FOUND", "models/"+model+" is not found for API version v1beta, or is not supported for "+method+".")
	case stream && r.URL.Query().Get("alt") != "sse":
		return geminiError(400, "INVALID_ARGUMENT", "the sandbox streams only as alt=sse")
	}
	var in geminiIn
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return geminiError(400, "INVALID_ARGUMENT", "Invalid JSON payload received. "+err.Error())
	}
	prompt, grounded, opens := "", false, false
	for _, c := range in.Contents {
		for _, p := range c.Parts {
			prompt += p.Text
		}
	}
	system := ""
	if in.System != nil {
		for _, p := range in.System.Parts {
			system += p.Text
		}
	}
	for _, t := range in.Tools {
		grounded = grounded || t.Search != nil || t.SearchSnake != nil
		opens = opens || t.URLs != nil || t.URLsSnake != nil
	}
	tokens := func(text string) int { return len(text)/4 + 1 }
	if method == "countTokens" {
		return jsonReply(200, map[string]any{"totalTokens": tokens(prompt + system)})
	}
	isJSON := in.Config.MediaType == "application/json"
	t := in.Config.Thinking
	switch {
	case prompt == "":
		return geminiError(400, "INVALID_ARGUMENT", "contents is not specified")
	case (in.Config.Schema != nil || in.Config.JSONSchema != nil) && !isJSON:
		return geminiError(400, "INVALID_ARGUMENT", "a response schema requires responseMimeType application/json")
	case t != nil && t.Budget != nil && t.Level != "":
		return geminiError(400, "INVALID_ARGUMENT", "You can only set one of thinking_budget and thinking_level.")
	case t != nil && t.Level != "" && strings.HasPrefix(model, "gemini-2.5"), t != nil && t.Budget != nil && strings.HasPrefix(model, "gemini-4"):
		return geminiError(400, "INVALID_ARGUMENT", "Thinking is not supported in this form by this model.")
	case isJSON && grounded && strings.HasPrefix(model, "gemini-2.5"):
		return geminiError(400, "INVALID_ARGUMENT", "Tool use with a response mime type: 'application/json' is unsupported")
	}
	if isJSON && grounded {
		grounded = false // what some later models do, without a word
	}
	if f.Kind == "blocked" {
		return jsonReply(200, map[string]any{"promptFeedback": map[string]any{"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": map[string]any{"promptTokenCount": tokens(prompt), "totalTokenCount": tokens(prompt)}, "modelVersion": model})
	}
	var opened []*Page
	var openings []any
	if q, ok := read(prompt); ok && opens && f.Kind != "url_skipped" {
		if len(q.Pages) > 20 {
			return geminiError(400, "INVALID_ARGUMENT", "at most 20 URLs are supported by the URL context tool")
		}
		opened, openings = s.open(q.Pages, f)
	}
	text, sentences, pages := s.answer(prompt, opened...)
	thinking := 180
	if t != nil && (t.Level == "low" || t.Level == "minimal" || t.Budget != nil && *t.Budget >= 0 && *t.Budget <= 1024) {
		thinking = 20
	}
	finish := "STOP"
	switch f.Kind {
	case "empty", "thoughts":
		text = ""
		if f.Kind == "thoughts" {
			finish, thinking = "MAX_TOKENS", 4096
		}
	case "safety":
		text, finish = "", "SAFETY"
	case "truncated":
		text, finish = string([]rune(text)[:len([]rune(text))/2]), "MAX_TOKENS"
	}
	if limit := in.Config.MaxTokens; limit != nil && thinking+tokens(text) > *limit {
		room := max(0, *limit-thinking) * 4
		text, finish = strings.ToValidUTF8(text[:min(room, len(text))], ""), "MAX_TOKENS"
	}
	usage := map[string]any{"promptTokenCount": tokens(prompt + system), "candidatesTokenCount": tokens(text), "thoughtsTokenCount": thinking,
		"totalTokenCount":     tokens(prompt+system) + tokens(text) + thinking,
		"promptTokensDetails": []any{map[string]any{"modality": "TEXT", "tokenCount": tokens(prompt + system)}}}
	var grounding map[string]any
	used := 0
	if grounded && f.Kind != "bare" && text != "" {
		grounding = groundingOf(text, sentences, pages)
		used = 1200
	}
	for _, p := range opened {
		used += tokens(p.Title + p.Body)
	}
	if used > 0 {
		usage["toolUsePromptTokenCount"] = used
		usage["totalTokenCount"] = usage["totalTokenCount"].(int) + used
	}
	candidate := func(parts []any, finish string, grounding map[string]any) map[string]any {
		c := map[string]any{"content": map[string]any{"role": "model", "parts": parts}, "index": 0}
		if f.Kind == "empty" && finish != "" {
			c["content"] = map[string]any{"role": "model"}
		}
		if finish != "" {
			c["finishReason"] = finish
		}
		if grounding != nil {
			c["groundingMetadata"] = grounding
		}
		if openings != nil && finish != "" {
			c["urlContextMetadata"] = map[string]any{"urlMetadata": openings}
		}
		return c
	}
	event := func(c map[string]any) []byte {
		return jsonReply(200, map[string]any{"candidates": []any{c}, "usageMetadata": usage, "modelVersion": model, "responseId": "sandbox-" + strconv.FormatUint(uint64(len(prompt)), 36)}).body
	}
	var thoughts []any
	if t != nil && t.Include || f.Kind == "thoughts" {
		thoughts = append(thoughts, map[string]any{"text": "**Reading**\n\nI compare the passages with the names.", "thought": true})
	}
	if !stream {
		parts := thoughts
		if text != "" {
			half := len(text) / 2
			for half < len(text) && text[half]&0xc0 == 0x80 {
				half++
			}
			parts = append(parts, map[string]any{"text": text[:half]}, map[string]any{"text": text[half:]}) // answers come in several parts
		}
		return reply{status: 200, body: event(candidate(parts, finish, grounding)), billed: true}
	}
	out := reply{status: 200, billed: true}
	if thoughts != nil {
		out.events = append(out.events, event(candidate(thoughts, "", nil)))
	}
	for runes := []rune(text); len(runes) > 0; {
		n := min(len(runes), 400)
		out.events = append(out.events, event(candidate([]any{map[string]any{"text": string(runes[:n])}}, "", nil)))
		runes = runes[n:]
	}
	if f.Kind == "stream_error" {
		at := len(out.events) / 2
		out.events = append(out.events[:at:at], geminiError(503, "UNAVAILABLE", "The service is currently unavailable.").body)
		return out
	}
	out.events = append(out.events, event(candidate([]any{map[string]any{"text": ""}}, finish, grounding)))
	return out
}

// open is the URL context tool: the pages that it read, and what it says of each.
func (s *Sandbox) open(addresses []string, f Fault) (read []*Page, openings []any) {
	say := func(address, status string) {
		openings = append(openings, map[string]any{"retrievedUrl": address, "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_" + status})
	}
	for _, address := range addresses {
		page := s.world.byURL[address]
		switch status, faulty := map[string]string{"url_error": "ERROR", "url_paywall": "PAYWALL", "url_unsafe": "UNSAFE"}[f.Kind]; {
		case faulty:
			say(address, status)
		case page == nil:
			say(address, "ERROR")
		default:
			say(address, "SUCCESS")
			read = append(read, page)
		}
	}
	if f.Kind == "url_stray" {
		say(s.invent("https://stray.example/led-here?by=a-page"), "SUCCESS")
	}
	return read, openings
}

// groundingOf ties the sentences of an answer to pages, offsets in bytes.
func groundingOf(text string, sentences []string, pages [][]*Page) map[string]any {
	chunks, supports, queries := []any{}, []any{}, []any{}
	at := map[string]int{}
	for i, list := range pages {
		queries = append(queries, sentences[i])
		var indices []int
		for _, p := range list {
			if p.Unlisted { // no search returned it
				continue
			}
			n, ok := at[p.URL]
			if !ok {
				n = len(chunks)
				at[p.URL] = n
				host, _, _ := strings.Cut(strings.TrimPrefix(p.URL, "https://"), "/")
				chunks = append(chunks, map[string]any{"web": map[string]any{"uri": "https://" + GroundingHost + "/grounding-api-redirect/" + base64.RawURLEncoding.EncodeToString([]byte(p.URL)), "title": strings.TrimPrefix(host, "www.")}})
			}
			if !slices.Contains(indices, n) {
				indices = append(indices, n)
			}
		}
		quoted, _ := json.Marshal(sentences[i])
		from := strings.Index(text, strings.Trim(string(quoted), `"`))
		if from < 0 || len(indices) == 0 {
			continue
		}
		supports = append(supports, map[string]any{"segment": map[string]any{"startIndex": from, "endIndex": from + len(quoted) - 2, "text": strings.Trim(string(quoted), `"`)}, "groundingChunkIndices": indices})
	}
	return map[string]any{"webSearchQueries": queries, "groundingChunks": chunks, "groundingSupports": supports, "searchEntryPoint": map[string]any{"renderedContent": "<div class=\"container\">sandbox</div>"}}
}

// OpenAI-compatible chat completions, as Ollama and vLLM serve them.

func (s *Sandbox) openAI(r *http.Request, body []byte, f Fault) reply {
	fail := func(status int, kind, message string) reply {
		return jsonReply(status, map[string]any{"error": map[string]any{"message": message, "type": kind, "param": nil, "code": kind}})
	}
	retry := http.Header{"Retry-After": {strconv.Itoa((f.AfterMS + 999) / 1000)}}
	switch f.Kind {
	case "key":
		return fail(401, "invalid_api_key", "Incorrect API key provided: "+r.Header.Get("Authorization"))
	case "quota":
		return fail(429, "insufficient_quota", "You exceeded your current quota.")
	case "429":
		out := fail(429, "rate_limit_exceeded", "Rate limit reached.")
		out.header = retry
		return out
	case "500":
		return jsonReply(500, map[string]any{"object": "error", "message": "engine died", "type": "InternalServerError", "code": 500})
	case "503":
		return fail(503, "server_busy", "the server is busy, try again")
	}
	if r.Method != http.MethodPost || r.URL.Path != "/openai/v1/chat/completions" {
		return fail(404, "not_found", "no such path")
	}
	var in struct {
		Model    string `json:"model"`
		Messages []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
		Stream     bool `json:"stream"`
		StreamWith struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
		MaxTokens int `json:"max_tokens"`
		MaxNew    int `json:"max_completion_tokens"`
		Format    *struct {
			Type   string `json:"type"`
			Schema *struct {
				Name   string          `json:"name"`
				Schema json.RawMessage `json:"schema"`
			} `json:"json_schema"`
		} `json:"response_format"`
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Model == "" || len(in.Messages) == 0 {
		return fail(400, "invalid_request_error", "model and messages are required")
	}
	if in.Format != nil && in.Format.Type == "json_schema" && (in.Format.Schema == nil || in.Format.Schema.Name == "" || !json.Valid(in.Format.Schema.Schema)) {
		return fail(400, "invalid_request_error", "json_schema wants a name and a schema")
	}
	prompt := ""
	for _, m := range in.Messages {
		prompt += m.Content + "\n"
	}
	text, _, _ := s.answer(prompt)
	finish := "stop"
	switch f.Kind {
	case "empty":
		text = ""
	case "truncated":
		text, finish = string([]rune(text)[:len([]rune(text))/2]), "length"
	case "blocked":
		text, finish = "", "content_filter"
	}
	if limit := max(in.MaxTokens, in.MaxNew); limit > 0 && len(text)/4 > limit {
		text, finish = strings.ToValidUTF8(text[:limit*4], ""), "length"
	}
	if text != "" {
		text = "<think>\nI compare the passages with the names.\n</think>\n\n" + text
	}
	usage := map[string]any{"prompt_tokens": len(prompt) / 4, "completion_tokens": len(text) / 4, "total_tokens": (len(prompt) + len(text)) / 4}
	head := func(object string) map[string]any {
		return map[string]any{"id": "chatcmpl-sandbox", "object": object, "created": time.Now().Unix(), "model": in.Model}
	}
	if !in.Stream {
		out := head("chat.completion")
		out["choices"] = []any{map[string]any{"index": 0, "message": map[string]any{"role": "assistant", "content": text}, "finish_reason": finish}}
		out["usage"] = usage
		return jsonReply(200, out)
	}
	out := reply{status: 200, billed: true}
	chunk := func(delta map[string]any, finish any) {
		c := head("chat.completion.chunk")
		c["choices"] = []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}
		out.events = append(out.events, jsonReply(200, c).body)
	}
	chunk(map[string]any{"role": "assistant", "content": ""}, nil)
	for runes := []rune(text); len(runes) > 0; {
		n := min(len(runes), 400)
		chunk(map[string]any{"content": string(runes[:n])}, nil)
		runes = runes[n:]
	}
	chunk(map[string]any{}, finish)
	if in.StreamWith.Usage {
		c := head("chat.completion.chunk")
		c["choices"], c["usage"] = []any{}, usage
		out.events = append(out.events, jsonReply(200, c).body)
	}
	out.events = append(out.events, []byte("[DONE]"))
	return out
}

// Bright Data's SERP API: an envelope around what the engine sent.

func engineOf(body []byte) string {
	var in struct{ URL string }
	_ = json.Unmarshal(body, &in)
	u, err := url.Parse(in.URL)
	if err != nil {
		return ""
	}
	for _, name := range []string{"google", "bing", "yandex", "baidu", "duckduckgo"} {
		if strings.Contains(u.Hostname(), name) {
			return name
		}
	}
	return u.Hostname()
}

// reads says which languages an engine knows; nil is all.
var reads = map[string][]string{"baidu": {"zh", "en"}, "yandex": {"ru", "en"}}

func (s *Sandbox) brightData(r *http.Request, body []byte, f Fault) reply {
	refuse := func(status int, family, code, words string) reply {
		out := reply{status: status, header: http.Header{}, body: []byte(words)}
		if family == "x-brd-err" {
			out.header.Set("x-brd-err-code", code)
			out.header.Set("x-brd-err-msg", words)
		} else {
			out.header.Set("x-brd-error-code", code)
			out.header.Set("x-brd-error", words)
		}
		if f.AfterMS > 0 {
			out.header.Set("Retry-After", strconv.Itoa((f.AfterMS+999)/1000))
		}
		return out
	}
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case f.Kind == "key" || key == "" || strings.HasPrefix(key, "bad"): // hides in a 200 without a body
		out := refuse(200, "x-brd-err", "client_10000", "auth failed for "+key)
		out.body = nil
		return out
	case f.Kind == "quota" || strings.HasPrefix(key, "spent"):
		return refuse(429, "x-brd-err", "client_10100", "free tier is spent")
	case f.Kind == "429":
		return refuse(429, "x-brd-error", "sr_rate_limit", "too many requests")
	case f.Kind == "500":
		return refuse(500, "x-brd-error", "internal", "internal error")
	case f.Kind == "503":
		return refuse(503, "x-brd-error", "unexpected_q", "unexpected")
	case f.Kind == "repeat":
		return refuse(502, "x-brd-error", "failed_query_rejected", "the same query failed less than 15 seconds ago")
	}
	var in struct {
		Zone       string `json:"zone"`
		URL        string `json:"url"`
		Format     string `json:"format"`
		Method     string `json:"method"`
		Country    string `json:"country"`
		DataFormat string `json:"data_format"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || in.Zone == "" || in.Format != "raw" && in.Format != "json" {
		return reply{status: 400, body: []byte("zone, url and format are required")}
	}
	if strings.HasPrefix(in.Zone, "unknown") {
		return reply{status: 400, body: []byte(`zone "` + in.Zone + `" not found`)}
	}
	target, err := url.Parse(in.URL)
	if err != nil {
		return reply{status: 400, body: []byte("url is not valid")}
	}
	engine, q := engineOf(body), target.Query()
	parsed := q.Get("brd_json") == "1" || strings.HasPrefix(in.DataFormat, "parsed")
	if parsed && engine != "google" && engine != "bing" {
		return reply{status: 400, body: []byte("JSON output is not supported")}
	}
	query := q.Get("q") + q.Get("wd") + q.Get("text")
	pages := s.world.find(query, reads[engine]...)
	if f.Kind == "no_result" {
		pages = nil
	}
	status, inner := 200, ""
	switch {
	case f.Kind == "inner_503":
		status, inner = 503, "Service Unavailable"
	case f.Kind == "captcha" && engine == "baidu":
		status, inner = 302, "https://wappass.baidu.com/static/captcha"
	case f.Kind == "captcha" && engine == "yandex":
		inner = `<html><body><form action="/checkcaptcha"><div class="CheckboxCaptcha">robot?</div></form></body></html>`
	case f.Kind == "captcha" && engine == "duckduckgo":
		inner = `<html><body><div class="anomaly-modal__title">Unfortunately, bots use DuckDuckGo too.</div></body></html>`
	case f.Kind == "captcha":
		status, inner = 429, "unusual traffic"
	case engine == "google" || engine == "bing":
		inner = parsedResults(engine, query, in.URL, pages)
	case engine == "yandex":
		inner = yandexPage(query, pages)
	case engine == "baidu" && q.Get("tn") == "json":
		inner = baiduFeed(query, pages)
	case engine == "baidu":
		inner = baiduPage(query, pages)
	case engine == "duckduckgo":
		inner = duckPage(query, pages)
	default:
		return reply{status: 400, body: []byte("ub_bad_endpoint")}
	}
	if in.Format == "raw" {
		return reply{status: status, body: []byte(inner), billed: status == 200}
	}
	return jsonReply(200, map[string]any{"status_code": status, "headers": map[string]any{"content-type": "text/html"}, "body": inner})
}

func parsedResults(engine, query, address string, pages []*Page) string {
	organic := []any{}
	for i, p := range pages {
		organic = append(organic, map[string]any{"link": p.URL, "display_link": strings.TrimPrefix(p.URL, "https://"), "title": p.Title, "description": p.snippet(query), "rank": i + 1, "global_rank": i + 1})
	}
	out := map[string]any{
		"general": map[string]any{"search_engine": engine, "query": query, "results_cnt": len(pages), "search_time": 0.31, "language": "en", "mobile": false, "search_type": "text", "timestamp": "2026-11-25T00:00:00Z"},
		"input":   map[string]any{"original_url": address, "request_id": "sandbox"}, "organic": organic, "pagination": map[string]any{"current_page": 1},
	}
	return string(jsonReply(200, out).body)
}

func yandexPage(query string, pages []*Page) string {
	var b strings.Builder
	b.WriteString(`<!doctype html><html><body><div class="main"><ul id="search-result">`)
	for _, p := range pages {
		fmt.Fprintf(&b, `<li class="serp-item serp-item_card"><div class="Organic"><a class="Link OrganicTitle-Link" href="%s"><h2><span>%s</span></h2></a><div class="OrganicText"><span class="OrganicTextContentSpan">%s</span></div></div></li>`,
			html.EscapeString(p.URL), html.EscapeString(p.Title), html.EscapeString(p.snippet(query)))
	}
	b.WriteString("</ul>")
	if len(pages) == 0 {
		fmt.Fprintf(&b, `<div class="EmptySearchResults"><h1>%s</h1></div>`, html.EscapeString("Nothing was found for "+query))
	}
	return b.String() + "</div></body></html>"
}

func baiduFeed(query string, pages []*Page) string {
	entries := []any{}
	for i, p := range pages {
		when, _ := time.Parse(time.DateOnly, p.Date)
		entries = append(entries, map[string]any{"title": p.Title, "url": p.URL, "abs": p.snippet(query), "time": when.Unix(), "pn": i + 1})
	}
	entries = append(entries, map[string]any{}) // Baidu's own last entry is empty
	return string(jsonReply(200, map[string]any{"feed": map[string]any{"category": map[string]any{"value": query}, "all": len(pages), "resultnum": "", "entry": entries}}).body)
}

func baiduPage(query string, pages []*Page) string {
	var b strings.Builder
	b.WriteString(`<!doctype html><html><head><title>百度搜索</title></head><body><div id="content_left">`)
	for i, p := range pages {
		fmt.Fprintf(&b, `<div class="result c-container" id="%d" mu="%s"><h3 class="t"><a href="http://www.baidu.com/link?url=%s">%s</a></h3><div class="c-abstract">%s</div></div>`,
			i+1, html.EscapeString(p.URL), base64.RawURLEncoding.EncodeToString([]byte(p.URL)), html.EscapeString(p.Title), html.EscapeString(p.snippet(query)))
	}
	if len(pages) == 0 {
		b.WriteString(`<div class="content_none">抱歉没有找到</div>`)
	}
	return b.String() + "</div></body></html>"
}

func duckPage(query string, pages []*Page) string {
	var b strings.Builder
	b.WriteString(`<!doctype html><html><body><div id="links" class="results">`)
	for _, p := range pages {
		fmt.Fprintf(&b, `<div class="result results_links web-result"><h2 class="result__title"><a class="result__a" href="//duckduckgo.com/l/?uddg=%s&amp;rut=00">%s</a></h2><a class="result__snippet" href="#">%s</a></div>`,
			url.QueryEscape(p.URL), html.EscapeString(p.Title), html.EscapeString(p.snippet(query)))
	}
	if len(pages) == 0 {
		b.WriteString(`<div class="no-results">No results.</div>`)
	}
	return b.String() + "</div></body></html>"
}

// SearXNG's JSON format.

// searXNGQuery reads the question of a GET or of a form.
func searXNGQuery(r *http.Request, body []byte) url.Values {
	if form, err := url.ParseQuery(string(body)); r.Method == http.MethodPost && err == nil {
		return form
	}
	return r.URL.Query()
}

func (s *Sandbox) searXNG(r *http.Request, body []byte, f Fault) reply {
	retry := http.Header{"Retry-After": {strconv.Itoa((f.AfterMS + 999) / 1000)}}
	switch f.Kind {
	case "key": // JSON is not switched on
		return reply{status: 403, body: []byte("<html>403 Forbidden</html>")}
	case "429", "quota":
		return reply{status: 429, header: retry, body: []byte("Too Many Requests")}
	case "500":
		return reply{status: 500, body: []byte("Internal Server Error")}
	case "503":
		return reply{status: 503, body: []byte("Service Unavailable")}
	}
	q := searXNGQuery(r, body)
	if q.Get("q") == "" {
		return reply{status: 400, body: []byte("No query")}
	}
	if q.Get("format") != "json" {
		return reply{status: 200, header: http.Header{"Content-Type": {"text/html"}}, body: []byte("<html></html>")}
	}
	results, unresponsive := []any{}, []any{}
	engine := q.Get("engines")
	if f.Kind == "unresponsive" {
		unresponsive = append(unresponsive, []any{engine, "timeout"})
	} else if f.Kind != "no_result" {
		for i, p := range s.world.find(q.Get("q"), reads[engine]...) {
			results = append(results, map[string]any{"url": p.URL, "title": p.Title, "content": p.snippet(q.Get("q")), "engine": engine, "engines": []any{engine}, "positions": []any{i + 1}, "score": 1 / float64(i+1), "category": "general", "publishedDate": p.Date + "T00:00:00"})
		}
	}
	return jsonReply(200, map[string]any{"query": q.Get("q"), "number_of_results": len(results), "results": results, "answers": []any{}, "corrections": []any{}, "infoboxes": []any{}, "suggestions": []any{}, "unresponsive_engines": unresponsive})
}

// Linkup.

func (s *Sandbox) linkup(r *http.Request, body []byte, f Fault) reply {
	fail := func(status int, code, message string) reply {
		out := jsonReply(status, map[string]any{"statusCode": status, "error": map[string]any{"code": code, "message": message, "details": []any{}}})
		if f.AfterMS > 0 {
			out.header = http.Header{"Retry-After": {strconv.Itoa((f.AfterMS + 999) / 1000)}}
		}
		return out
	}
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case f.Kind == "key" || key == "" || strings.HasPrefix(key, "bad"):
		return fail(401, "UNAUTHORIZED", "Unauthorized: "+key)
	case f.Kind == "quota" || strings.HasPrefix(key, "spent"):
		return fail(429, "INSUFFICIENT_FUNDS_CREDITS", "You do not have enough credits.")
	case f.Kind == "429":
		return fail(429, "TOO_MANY_REQUESTS", "Too many requests.")
	case f.Kind == "500":
		return fail(500, "INTERNAL_SERVER_ERROR", "Internal error.")
	case f.Kind == "503":
		return fail(503, "SERVICE_UNAVAILABLE", "Unavailable.")
	case f.Kind == "no_result":
		return fail(400, "SEARCH_QUERY_NO_RESULT", "The query did not yield any result.")
	}
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/linkup/v1") {
	case "GET /credits/balance":
		return jsonReply(200, map[string]any{"balance": 123.456})
	case "POST /fetch":
		var in struct{ URL string }
		if json.Unmarshal(body, &in) != nil || in.URL == "" {
			return fail(400, "VALIDATION_ERROR", "url is required")
		}
		page := s.world.byURL[in.URL]
		if page == nil {
			return fail(400, "FETCH_ERROR", "The URL could not be fetched.")
		}
		plain := *page
		plain.Charset, plain.PDF = "", false
		_, raw := plain.bytes()
		return jsonReply(200, map[string]any{"markdown": "# " + page.Title + "\n\n" + page.Body, "rawContent": string(raw), "contentType": "text/html"})
	case "POST /search":
	default:
		return fail(404, "NOT_FOUND", "no such path")
	}
	var in struct {
		Q       string   `json:"q"`
		Depth   string   `json:"depth"`
		Output  string   `json:"outputType"`
		Schema  string   `json:"structuredOutputSchema"`
		Images  bool     `json:"includeImages"`
		Inline  bool     `json:"includeInlineCitations"`
		Sources bool     `json:"includeSources"`
		Include []string `json:"includeDomains"`
		Exclude []string `json:"excludeDomains"`
		From    string   `json:"fromDate"`
		To      string   `json:"toDate"`
		Max     int      `json:"maxResults"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || in.Q == "" || !slices.Contains([]string{"flash", "fast", "standard", "deep"}, in.Depth) || !slices.Contains([]string{"searchResults", "sourcedAnswer", "structured"}, in.Output) {
		return fail(400, "VALIDATION_ERROR", "q, depth and outputType are required, and no other fields are known")
	}
	if in.Output == "structured" {
		var schema struct{ Type string }
		if json.Unmarshal([]byte(in.Schema), &schema) != nil || schema.Type != "object" {
			return fail(400, "VALIDATION_ERROR", "structuredOutputSchema must be a JSON schema with an object at its root")
		}
	}
	q, asked := read(in.Q)
	var data any
	var pages []*Page
	switch {
	case asked && q.Task == "listed":
		data, pages = s.listed(q)
	case asked && q.Task == "profile":
		data, pages = s.profile(q)
	case asked && q.Task == "signal":
		data, pages = s.signal(q)
	default:
		pages = s.world.find(in.Q)
		data = map[string]any{}
	}
	pages = slices.DeleteFunc(slices.Clone(pages), func(p *Page) bool {
		on := func(domain string) bool {
			u, _ := url.Parse(p.URL)
			return u.Hostname() == domain || strings.HasSuffix(u.Hostname(), "."+domain)
		}
		return slices.ContainsFunc(in.Exclude, on) || len(in.Include) > 0 && !slices.ContainsFunc(in.Include, on)
	})
	sources, results := []any{}, []any{}
	seen := map[string]bool{}
	for _, p := range pages {
		if seen[p.URL] {
			continue
		}
		seen[p.URL] = true
		sources = append(sources, map[string]any{"name": p.Title, "url": p.URL, "snippet": p.snippet(""), "favicon": ""})
		results = append(results, map[string]any{"type": "text", "name": p.Title, "url": p.URL, "content": p.Body, "favicon": ""})
	}
	switch in.Output {
	case "searchResults":
		if len(results) == 0 {
			return fail(400, "SEARCH_QUERY_NO_RESULT", "The query did not yield any result.")
		}
		return jsonReply(200, map[string]any{"results": results})
	case "structured":
		if in.Sources {
			return jsonReply(200, map[string]any{"data": data, "sources": results})
		}
		return jsonReply(200, data)
	}
	text, _ := json.Marshal(data)
	if !asked {
		text = []byte("The sandbox found " + strconv.Itoa(len(results)) + " pages.")
	}
	return jsonReply(200, map[string]any{"answer": string(text), "sources": sources})
}

// The web: the pages of the invented sites, and the links of Gemini's sources.

func (s *Sandbox) web(r *http.Request, _ []byte, f Fault) reply {
	host, _, _ := strings.Cut(r.Host, ":")
	address := "https://" + host + r.URL.RequestURI()
	text := func(status int, kind, body string) reply {
		return reply{status: status, header: http.Header{"Content-Type": {kind}}, body: []byte(body)}
	}
	to := func(where string) reply {
		return reply{status: 302, header: http.Header{"Location": {where}}}
	}
	if host == GroundingHost {
		target, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(r.URL.Path, "/grounding-api-redirect/"))
		if err != nil || f.Kind == "404" {
			return text(404, "text/html", "not found")
		}
		return to(string(target))
	}
	switch f.Kind {
	case "429", "503", "500":
		status, _ := strconv.Atoi(f.Kind)
		return text(status, "text/html", "<h1>"+f.Kind+"</h1>")
	case "key", "quota":
		return text(403, "text/html", "<h1>Forbidden</h1>")
	case "redirect_loop":
		return to(address)
	case "redirect_inside":
		return to("http://169.254.169.254/latest/meta-data/")
	case "huge":
		return text(200, "text/html; charset=utf-8", "<p>"+strings.Repeat("A long page says the same thing again. ", 250_000)+"</p>")
	case "bomb":
		out := text(200, "text/html; charset=utf-8", "")
		out.header.Set("Content-Encoding", "gzip")
		out.body = bomb()
		return out
	case "binary":
		return text(200, "application/octet-stream", "\x00\x01\x02")
	case "pdf_broken":
		return text(200, "application/pdf", "%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n")
	case "pdf_huge":
		return text(200, "application/pdf", "%PDF-1.7\n"+strings.Repeat("0123456789abcdef\n", 700_000))
	case "pdf_slow":
		return text(200, "application/pdf", string(endless()))
	}
	page := s.world.byURL[address]
	if page == nil {
		return text(404, "text/html; charset=utf-8", "<h1>Not found</h1>")
	}
	kind, body := page.bytes()
	return text(200, kind, string(body))
}

// robots is a site's robots.txt.
func (s *Sandbox) robots(host string, f Fault) reply {
	text := func(status int, body string) reply {
		return reply{status: status, header: http.Header{"Content-Type": {"text/plain"}}, body: []byte(body)}
	}
	to := func(where string) reply {
		return reply{status: 302, header: http.Header{"Location": {where}}}
	}
	switch f.Kind {
	case "429", "500", "503":
		status, _ := strconv.Atoi(f.Kind)
		return text(status, f.Kind)
	case "key", "quota":
		return text(403, "Forbidden")
	case "redirect_loop":
		return to("https://" + host + "/robots.txt")
	case "redirect_inside":
		return to("http://169.254.169.254/robots.txt")
	case "disallow":
		return text(200, "User-agent: *\nDisallow: /\n")
	}
	if rules, known := s.world.Robots[host]; known {
		return text(200, rules)
	}
	return text(404, "not found")
}
