package provider

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/chainreactions/chainreactions/domain/research"
)

// Any server that speaks OpenAI's chat completions: Ollama, vLLM, OpenAI
// itself. They differ in where thoughts go (reasoning, reasoning_content, or
// <think> in the text), in how an error looks, and in whether a stream ends
// with usage. A context that is too long is cut by Ollama without a word.

type chatRequest struct {
	Model       string         `json:"model"`
	Messages    []chatMessage  `json:"messages"`
	Temperature float64        `json:"temperature"`
	MaxTokens   int64          `json:"max_tokens,omitempty"`
	MaxNew      int64          `json:"max_completion_tokens,omitempty"` // what OpenAI's own models want
	Format      map[string]any `json:"response_format,omitempty"`
	Stream      bool           `json:"stream,omitempty"`
	StreamWith  map[string]any `json:"stream_options,omitempty"`
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatResponse struct {
	Choices []struct {
		Message struct {
			Content *string `json:"content"`
			Refusal string  `json:"refusal"`
		} `json:"message"`
		Delta struct {
			Content string `json:"content"`
			Refusal string `json:"refusal"`
		} `json:"delta"`
		Finish *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
	} `json:"usage"`
	Model string          `json:"model"`
	Error json.RawMessage `json:"error"`
}

var chatFinishes = map[string]research.Finish{"stop": research.FinishStop, "length": research.FinishLength, "content_filter": research.FinishBlocked}

var thoughts = regexp.MustCompile(`(?s)^\s*<think>.*?</think>\s*`)

func (p *Providers) openAI(ctx context.Context, v *vendor, in research.Prompt, progress func(int)) (research.Generation, error) {
	model := p.Accounts[OpenAI].Model
	limit := in.MaxOutputTokens
	if limit <= 0 {
		limit = geminiTokens
	}
	body := chatRequest{Model: model, Messages: []chatMessage{{"system", in.System}, {"user", in.User}}}
	if u, err := url.Parse(v.base); err == nil && strings.HasSuffix(u.Hostname(), "openai.com") {
		body.MaxNew = limit
	} else {
		body.MaxTokens = limit
	}
	if in.Schema != nil {
		body.Format = map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "answer", "strict": true, "schema": in.Schema}}
	}
	stream := progress != nil
	if stream {
		body.Stream, body.StreamWith = true, map[string]any{"include_usage": true}
	}
	r := request{call: in.Call, operation: "generate", model: model, build: func(ctx context.Context, key string) (*http.Request, error) {
		req, err := postJSON(ctx, v.base+"/chat/completions", body)
		if err == nil && key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		return req, err
	}}
	out, usage, err := do(ctx, p, v, r, func(resp *http.Response) (research.Generation, spent, *Failure) {
		if resp.StatusCode != 200 {
			b, f := readBody(resp)
			if f == nil {
				f = chatFailure(resp, b)
			}
			return research.Generation{}, spent{}, f
		}
		return readChat(resp, stream, progress)
	})
	out.Usage = usage
	return out, err
}

func readChat(resp *http.Response, stream bool, progress func(int)) (g research.Generation, cost spent, f *Failure) {
	var text strings.Builder
	finish, refused := "", false
	take := func(raw []byte) *Failure {
		if string(raw) == "[DONE]" { // some servers leave it out; the finish_reason decides
			return nil
		}
		var r chatResponse
		if err := json.Unmarshal(raw, &r); err != nil {
			return malformed(resp, "not a chat completion: %v", err)
		}
		if len(r.Error) > 0 && string(r.Error) != "null" {
			return &Failure{Reason: Overloaded, Status: resp.StatusCode, Detail: cut(string(r.Error), 300)}
		}
		if r.Model != "" {
			cost.model = r.Model
		}
		if r.Usage != nil {
			cost.input, cost.output = r.Usage.Prompt, r.Usage.Completion
		}
		if len(r.Choices) == 0 {
			return nil // the last event has the usage alone
		}
		c := r.Choices[0]
		if c.Message.Content != nil {
			text.WriteString(*c.Message.Content)
		}
		text.WriteString(c.Delta.Content)
		refused = refused || c.Message.Refusal != "" || c.Delta.Refusal != ""
		if c.Finish != nil {
			finish = *c.Finish
		}
		if stream && c.Delta.Content != "" {
			progress(text.Len())
		}
		return nil
	}
	if stream {
		f = readEvents(resp, take)
		if f == nil && finish == "" {
			f = &Failure{Reason: Cut, Status: resp.StatusCode, Detail: "the stream ended without a finish_reason"}
		}
	} else {
		var b []byte
		if b, f = readBody(resp); f == nil {
			f = take(b)
		}
		if f == nil && finish == "" {
			f = malformed(resp, "no choice with a finish_reason")
		}
	}
	cost.known = true // what we run ourselves bills nothing
	if f != nil {
		return g, cost, f
	}
	g.Text = thoughts.ReplaceAllString(text.String(), "")
	g.Finish = research.FinishOther
	if known, ok := chatFinishes[finish]; ok {
		g.Finish = known
	}
	switch {
	case refused:
		g.Finish, g.Text = research.FinishBlocked, ""
	case g.Finish == research.FinishStop && strings.TrimSpace(g.Text) == "":
		return g, cost, &Failure{Reason: Empty, Status: resp.StatusCode, Detail: "no text, though it says it is done"}
	}
	return g, cost, nil
}

// chatFailure reads the three forms of an error.
func chatFailure(resp *http.Response, b []byte) *Failure {
	var r struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
	}
	detail := string(b)
	var nested struct {
		Message string `json:"message"`
		Code    any    `json:"code"`
		Type    string `json:"type"`
	}
	if json.Unmarshal(b, &r) == nil {
		switch {
		case json.Unmarshal(r.Error, &nested) == nil && nested.Message != "":
			detail = nested.Message
		case r.Message != "":
			detail = r.Message
		}
	}
	f := byStatus(resp, detail)
	if nested.Code == "insufficient_quota" || nested.Type == "insufficient_quota" {
		f.Reason = QuotaSpent
	}
	return f
}
