package provider

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/chainreactions/chainreactions/domain/research"
)

// Gemini's generateContent (Generative Language API v1beta), with a client of
// our own: the official SDK continues answers and may retry by itself, so that
// requests are billed which no ledger saw, and takes a stream that ends early
// for a whole answer. What is peculiar about it:
//
//   - Thoughts are parts with thought: true; they count against the output
//     limit, so a small limit gives STOP or MAX_TOKENS with no text at all.
//   - A prompt that the filters stop is HTTP 200 without candidates.
//   - A JSON schema together with search is refused by some models and drops
//     the search silently in others: never both.
//   - Segments of grounding are in bytes. Grounding links are redirects of
//     Google's, whose targets must be asked for.
//   - A wrong key is HTTP 400. There is no Retry-After: RetryInfo says it.
//   - URL context reads pages on Google's side and hands none of their text over:
//     what it read is in toolUsePromptTokenCount, and at most 20 addresses are
//     taken. It may be left out without a word, and its metadata may name
//     redirect links and pages that nobody gave it.
//   - Old models are quietly answered by newer ones: modelVersion says which.

type geminiRequest struct {
	System   *geminiContent   `json:"systemInstruction,omitempty"`
	Contents []geminiContent  `json:"contents"`
	Tools    []map[string]any `json:"tools,omitempty"`
	Config   geminiConfig     `json:"generationConfig"`
}

type geminiContent struct {
	Role  string       `json:"role,omitempty"`
	Parts []geminiPart `json:"parts"`
}

type geminiPart struct {
	Text    string `json:"text,omitempty"`
	Thought bool   `json:"thought,omitempty"`
}

type geminiConfig struct {
	Temperature *float64        `json:"temperature,omitempty"`
	MaxTokens   int64           `json:"maxOutputTokens"`
	MediaType   string          `json:"responseMimeType,omitempty"`
	Schema      json.RawMessage `json:"responseJsonSchema,omitempty"`
	Thinking    *geminiThinking `json:"thinkingConfig,omitempty"`
}

type geminiThinking struct {
	Level  string `json:"thinkingLevel,omitempty"`
	Budget *int   `json:"thinkingBudget,omitempty"`
}

type geminiResponse struct {
	Candidates []struct {
		Content      geminiContent    `json:"content"`
		FinishReason string           `json:"finishReason"`
		Grounding    *geminiGrounding `json:"groundingMetadata"`
		Opened       struct {
			Pages []geminiOpened `json:"urlMetadata"`
		} `json:"urlContextMetadata"`
	} `json:"candidates"`
	Feedback *struct {
		BlockReason string `json:"blockReason"`
	} `json:"promptFeedback"`
	Usage *struct {
		Prompt   int64 `json:"promptTokenCount"`
		Cached   int64 `json:"cachedContentTokenCount"`
		Answer   int64 `json:"candidatesTokenCount"`
		Thoughts int64 `json:"thoughtsTokenCount"`
		Tools    int64 `json:"toolUsePromptTokenCount"`
	} `json:"usageMetadata"`
	ModelVersion string       `json:"modelVersion"`
	Error        *geminiError `json:"error"` // in a stream
}

type geminiGrounding struct {
	Queries []string `json:"webSearchQueries"`
	Chunks  []struct {
		Web struct {
			URI   string `json:"uri"`
			Title string `json:"title"`
		} `json:"web"`
	} `json:"groundingChunks"`
	Supports []struct {
		Segment struct {
			Part  int    `json:"partIndex"`
			Start int    `json:"startIndex"`
			End   int    `json:"endIndex"`
			Text  string `json:"text"`
		} `json:"segment"`
		Chunks []int `json:"groundingChunkIndices"`
	} `json:"groundingSupports"`
}

type geminiOpened struct {
	URL    string `json:"retrievedUrl"`
	Status string `json:"urlRetrievalStatus"`
}

// openStates says what a urlRetrievalStatus means; one that is not here is a failure.
var openStates = map[string]research.OpenState{
	"URL_RETRIEVAL_STATUS_SUCCESS": research.PageOpened, "URL_RETRIEVAL_STATUS_PAYWALL": research.PagePaywall, "URL_RETRIEVAL_STATUS_UNSAFE": research.PageUnsafe,
}

type geminiError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Status  string `json:"status"`
	Details []struct {
		Reason     string `json:"reason"`
		RetryDelay string `json:"retryDelay"`
		Violations []struct {
			QuotaID string `json:"quotaId"`
		} `json:"violations"`
	} `json:"details"`
}

// geminiAnswer is a response, whole: the one of a unary call, or the events of
// a stream put together.
type geminiAnswer struct {
	parts     []geminiPart
	finish    string
	blocked   string
	grounding geminiGrounding
	opened    []geminiOpened
	grounded  bool
}

const (
	geminiTokens     = 16_384 // thoughts included
	geminiTokensMost = 65_536
	geminiContext    = 1 << 20 // tokens that the largest models take: what opened pages may come to
)

// thinking says how hard a model thinks: the 2.5 family by a budget, later
// ones by a level, which not all of them have; both at once are refused. A
// grounded call says nothing: with a thinking setting some models leave out
// where their answer comes from.
func thinking(model string, grounded, little bool) *geminiThinking {
	model = strings.TrimPrefix(model, "models/")
	switch {
	case grounded && !little:
		return nil
	case strings.HasPrefix(model, "gemini-2.5"):
		budget := -1 // as it sees fit
		if little {
			budget = 512
		}
		return &geminiThinking{Budget: &budget}
	case little:
		return &geminiThinking{Level: "low"} // every later model has it
	}
	return nil // the model's own default
}

func (p *Providers) gemini(ctx context.Context, v *vendor, in research.Prompt, progress func(int)) (research.Generation, error) {
	limit := in.MaxOutputTokens
	if limit <= 0 {
		limit = geminiTokens
	}
	limit = min(max(limit, 8192), geminiTokensMost) // less than 8k may be spent on thoughts alone
	out, usage, err := p.geminiOnce(ctx, v, in, limit, false, progress)
	if err == nil && out.Text == "" && out.Finish != research.FinishBlocked {
		// All of it went into thoughts: once more, with fewer of them and more room.
		p.log.InfoContext(ctx, "a model gave no text", "provider", v.name, "model", usage.Model, "finish", out.Finish, "run", in.Call.Run)
		var again research.Usage
		out, again, err = p.geminiOnce(ctx, v, in, min(limit*2, geminiTokensMost), true, progress)
		again.Calls += usage.Calls
		again.InputTokens += usage.InputTokens
		again.OutputTokens += usage.OutputTokens
		again.CostMicros += usage.CostMicros
		again.Estimated = again.Estimated || usage.Estimated
		usage = again
		if err == nil && out.Text == "" && out.Finish == research.FinishStop {
			err = (&Failure{Provider: v.name, Reason: Empty, Attempts: int(usage.Calls), Detail: "no text, though it says it is done"}).told()
		}
	}
	out.Usage = usage
	if err == nil {
		var links []*string
		for i := range out.Sources {
			links = append(links, &out.Sources[i].URL)
		}
		for i := range out.Opened {
			links = append(links, &out.Opened[i].URL)
		}
		p.resolve(ctx, links)
	}
	return out, err
}

func (p *Providers) geminiOnce(ctx context.Context, v *vendor, in research.Prompt, limit int64, little bool, progress func(int)) (research.Generation, research.Usage, error) {
	model := p.Accounts[Gemini].Model
	zero := 0.0
	body := geminiRequest{
		Contents: []geminiContent{{Role: "user", Parts: []geminiPart{{Text: in.User}}}},
		Config:   geminiConfig{Temperature: &zero, MaxTokens: limit, Thinking: thinking(model, in.Grounded, little)},
	}
	if in.System != "" {
		body.System = &geminiContent{Parts: []geminiPart{{Text: in.System}}}
	}
	if in.Schema != nil {
		body.Config.MediaType, body.Config.Schema = "application/json", in.Schema
	}
	if in.Grounded {
		body.Tools = []map[string]any{{"googleSearch": struct{}{}}}
	}
	if len(in.Pages) > 0 {
		body.Tools = append(body.Tools, map[string]any{"urlContext": struct{}{}})
	}
	method, stream := "generateContent", progress != nil
	if stream {
		method = "streamGenerateContent?alt=sse"
	}
	// A token is at least one byte of UTF-8, so the bytes bound the prompt.
	price := geminiPrice(model, p.Now())
	worst := price.cost(int64(len(in.System)+len(in.User)+len(in.Schema)), limit)
	if in.Grounded {
		worst += 20*price.search + price.cost(20_000, 0) // recorded answers searched for up to 16 things and read 2,890 tokens
	}
	if len(in.Pages) > 0 {
		worst = price.cost(geminiContext, limit) + 20*price.search
	}
	r := request{call: in.Call, operation: "generate", model: model, worst: worst, build: func(ctx context.Context, key string) (*http.Request, error) {
		req, err := postJSON(ctx, v.base+"/v1beta/models/"+url.PathEscape(strings.TrimPrefix(model, "models/"))+":"+method, body)
		if err == nil {
			req.Header.Set("x-goog-api-key", key)
		}
		return req, err
	}}
	return do(ctx, p, v, r, func(resp *http.Response) (research.Generation, spent, *Failure) {
		if resp.StatusCode != 200 {
			b, f := readBody(resp)
			if f != nil {
				return research.Generation{}, spent{}, f
			}
			return research.Generation{}, spent{}, geminiFailure(resp, b)
		}
		a, cost, f := readGemini(resp, stream, progress)
		if cost.model == "" {
			cost.model = model
		}
		cost.micros = geminiPrice(cost.model, p.Now()).total(cost, len(a.grounding.Queries))
		if f != nil {
			return research.Generation{}, cost.spent, f
		}
		g, f := a.generation(resp)
		return g, cost.spent, f
	})
}

// geminiSpent also knows the cheaper tokens.
type geminiSpent struct {
	spent
	cached int64
}

// readGemini reads one response, or the events of a stream until the one that
// says why it ended: a stream that ends without it was cut, however clean its
// end looks.
func readGemini(resp *http.Response, stream bool, progress func(int)) (a geminiAnswer, cost geminiSpent, f *Failure) {
	take := func(raw []byte) *Failure {
		var r geminiResponse
		if err := json.Unmarshal(raw, &r); err != nil {
			return malformed(resp, "not a GenerateContentResponse: %v", err)
		}
		if r.Error != nil {
			b, _ := json.Marshal(map[string]any{"error": r.Error})
			f := geminiFailure(&http.Response{StatusCode: r.Error.Code, Header: resp.Header}, b)
			f.free = false // some of the answer had come
			return f
		}
		if u := r.Usage; u != nil { // a running total in streams: the last one counts
			cost.input, cost.output, cost.cached, cost.known = u.Prompt+u.Tools, u.Answer+u.Thoughts, u.Cached, true
		}
		if r.ModelVersion != "" {
			cost.model = r.ModelVersion
		}
		if r.Feedback != nil && r.Feedback.BlockReason != "" {
			a.blocked = r.Feedback.BlockReason
		}
		if len(r.Candidates) == 0 {
			return nil
		}
		c := r.Candidates[0]
		a.parts = append(a.parts, c.Content.Parts...)
		if c.FinishReason != "" {
			a.finish = c.FinishReason
		}
		a.opened = append(a.opened, c.Opened.Pages...)
		if g := c.Grounding; g != nil {
			a.grounded = true
			a.grounding.Queries = append(a.grounding.Queries, g.Queries...)
			for i := range g.Supports { // chunks of later events are numbered from the first
				for j := range g.Supports[i].Chunks {
					g.Supports[i].Chunks[j] += len(a.grounding.Chunks)
				}
			}
			a.grounding.Chunks = append(a.grounding.Chunks, g.Chunks...)
			a.grounding.Supports = append(a.grounding.Supports, g.Supports...)
		}
		return nil
	}
	if !stream {
		b, f := readBody(resp)
		if f == nil {
			f = take(b)
		}
		return a, cost, f
	}
	bytesSoFar := 0
	f = readEvents(resp, func(data []byte) *Failure {
		if f := take(data); f != nil {
			return f
		}
		n := 0
		for _, part := range a.parts {
			if !part.Thought {
				n += len(part.Text)
			}
		}
		if n > bytesSoFar {
			bytesSoFar = n
			progress(n)
		}
		return nil
	})
	if f == nil && a.finish == "" && a.blocked == "" {
		f = &Failure{Reason: Cut, Status: resp.StatusCode, Detail: "the stream ended without a finishReason"}
	}
	if f != nil {
		cost.known = false // a running total of a part
	}
	return a, cost, f
}

// readEvents reads server-sent events: lines of data, a blank line after each.
func readEvents(resp *http.Response, event func(data []byte) *Failure) *Failure {
	lines := bufio.NewReaderSize(io.LimitReader(resp.Body, maxAnswer), 64<<10)
	var data []byte
	for {
		line, err := lines.ReadBytes('\n')
		text := bytes.TrimRight(line, "\r\n")
		if rest, ok := bytes.CutPrefix(text, []byte("data:")); ok {
			data = append(append(data, bytes.TrimPrefix(rest, []byte(" "))...), '\n')
		} else if len(text) > 0 && text[0] == '{' {
			data = append(data, text...) // an error in the middle of a stream comes bare at times
		}
		ended := errors.Is(err, io.EOF)
		if len(data) > 0 && (len(text) == 0 || ended) {
			if f := event(bytes.TrimSpace(data)); f != nil {
				if ended && f.Reason == Malformed { // half an event
					f.Reason = Cut
				}
				return f
			}
			data = data[:0]
		}
		switch {
		case ended:
			return nil
		case err != nil:
			return &Failure{Reason: Cut, Status: resp.StatusCode, Detail: err.Error(), cause: err}
		}
	}
}

// finishes says what a finishReason means; one that is not here is unusable.
var finishes = map[string]research.Finish{
	"STOP": research.FinishStop, "MAX_TOKENS": research.FinishLength,
	"SAFETY": research.FinishBlocked, "RECITATION": research.FinishBlocked, "BLOCKLIST": research.FinishBlocked,
	"PROHIBITED_CONTENT": research.FinishBlocked, "SPII": research.FinishBlocked,
}

// generation understands a whole answer.
func (a geminiAnswer) generation(resp *http.Response) (g research.Generation, f *Failure) {
	if a.finish == "" {
		if a.blocked == "" {
			return g, malformed(resp, "neither a candidate with a finishReason nor a blocked prompt")
		}
		return research.Generation{Finish: research.FinishBlocked}, nil
	}
	g.Finish = research.FinishOther
	if known, ok := finishes[a.finish]; ok {
		g.Finish = known
	}
	var text strings.Builder
	for _, part := range a.parts {
		if !part.Thought { // code the model ran and what came of it have no text
			text.WriteString(part.Text)
		}
	}
	g.Text = text.String()
	g.Queries = a.grounding.Queries
	for _, c := range a.grounding.Chunks {
		g.Sources = append(g.Sources, research.GroundingSource{URL: c.Web.URI, Title: c.Web.Title})
	}
	for _, o := range a.opened {
		state, known := openStates[o.Status]
		if !known {
			state = research.PageFailed
		}
		g.Opened = append(g.Opened, research.Opening{URL: o.URL, State: state})
	}
	for _, s := range a.grounding.Supports {
		support := research.GroundingSupport{Text: s.Segment.Text}
		if support.Text == "" && s.Segment.Part >= 0 && s.Segment.Part < len(a.parts) {
			whole := a.parts[s.Segment.Part].Text
			if from, to := s.Segment.Start, s.Segment.End; 0 <= from && from < to && to <= len(whole) && utf8.ValidString(whole[from:to]) {
				support.Text = whole[from:to]
			}
		}
		for _, i := range s.Chunks {
			if i >= 0 && i < len(g.Sources) {
				support.Sources = append(support.Sources, i)
			}
		}
		if support.Text != "" && len(support.Sources) > 0 {
			g.Supports = append(g.Supports, support)
		}
	}
	return g, nil
}

// geminiFailure understands an error envelope.
func geminiFailure(resp *http.Response, b []byte) *Failure {
	var r struct{ Error geminiError }
	if json.Unmarshal(b, &r) != nil || r.Error.Status == "" && r.Error.Message == "" {
		return byStatus(resp, string(b))
	}
	f := byStatus(resp, r.Error.Status+": "+r.Error.Message)
	perDay := false
	for _, d := range r.Error.Details {
		if after, err := time.ParseDuration(d.RetryDelay); err == nil {
			f.After = max(f.After, after)
		}
		for _, violation := range d.Violations {
			perDay = perDay || strings.Contains(violation.QuotaID, "PerDay")
		}
		if d.Reason == "API_KEY_INVALID" {
			f.Reason = KeyRefused
		}
	}
	switch {
	case f.Reason == RateLimited && perDay:
		f.Reason = QuotaSpent
	case r.Error.Status == "FAILED_PRECONDITION": // billing or region: another key, or another vendor
		f.Reason = KeyRefused
	case f.Status == 499:
		f.Reason = Overloaded
	}
	return f
}

// groundingHost gives redirect links to the pages that an answer rests on.
const groundingHost = "vertexaisearch.cloud.google.com"

// resolve replaces redirect links by their targets. A link that cannot be
// resolved stays: it is then no page that anyone has read.
func (p *Providers) resolve(ctx context.Context, links []*string) {
	var group errgroup.Group
	group.SetLimit(8)
	for _, link := range links {
		if u, err := url.Parse(*link); err == nil && u.Hostname() == groundingHost {
			group.Go(func() error {
				if target, ok := p.target(ctx, *link); ok {
					*link = target
				}
				return nil
			})
		}
	}
	_ = group.Wait()
}

// target asks a redirect link where it leads, without going there.
func (p *Providers) target(ctx context.Context, link string) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return "", false
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := p.hop.Do(req)
	if err != nil {
		return "", false
	}
	resp.Body.Close()
	to, err := resp.Location()
	if err != nil || resp.StatusCode < 300 || resp.StatusCode > 399 || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return "", false
	}
	return to.String(), true
}
