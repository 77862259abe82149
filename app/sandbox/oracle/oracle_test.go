// Package oracle asks the sandbox through the vendor's own software, which
// nobody here wrote: what Google's SDK understands of the emulator it would
// understand of Gemini.
package oracle

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/genai"

	"github.com/chainreactions/chainreactions/app/sandbox"
)

func client(t *testing.T) (*genai.Client, *sandbox.Sandbox) {
	t.Helper()
	box, err := sandbox.Start(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	c, err := genai.NewClient(context.Background(), &genai.ClientConfig{APIKey: "sandbox", Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: box.URL(sandbox.Gemini)}})
	if err != nil {
		t.Fatal(err)
	}
	return c, box
}

const model = "gemini-3.8-flash"

func ask(task string) []*genai.Content {
	return genai.Text("<data-1>\n" + `{"task": "` + task + `", "institution": {"name": "Northmere University"}, "risk_items": [{"id": "r1", "name": "Yunqi Institute of Applied Propulsion"}], "findings": []}` + "\n</data-1>")
}

// A grounded answer has its text, its chunks and its supports where the SDK
// looks for them, and the bytes of a support are the words it says.
func TestGroundedAnswer(t *testing.T) {
	c, _ := client(t)
	got, err := c.Models.GenerateContent(context.Background(), model, ask("relations"), &genai.GenerateContentConfig{Tools: []*genai.Tool{{GoogleSearch: &genai.GoogleSearch{}}}})
	if err != nil {
		t.Fatal(err)
	}
	g := got.Candidates[0].GroundingMetadata
	if got.Candidates[0].FinishReason != genai.FinishReasonStop || g == nil || len(g.GroundingChunks) == 0 || len(g.GroundingSupports) == 0 || len(g.WebSearchQueries) == 0 {
		t.Fatalf("%+v", got.Candidates[0])
	}
	for _, s := range g.GroundingSupports {
		if words := got.Text()[s.Segment.StartIndex:s.Segment.EndIndex]; words != s.Segment.Text {
			t.Errorf("the bytes are %q, the text is %q", words, s.Segment.Text)
		}
	}
	if !strings.HasPrefix(g.GroundingChunks[0].Web.URI, "https://vertexaisearch.cloud.google.com/grounding-api-redirect/") {
		t.Error(g.GroundingChunks[0].Web.URI)
	}
	u := got.UsageMetadata
	if u.TotalTokenCount != u.PromptTokenCount+u.CandidatesTokenCount+u.ThoughtsTokenCount+u.ToolUsePromptTokenCount || got.ModelVersion != model {
		t.Errorf("%+v %s", u, got.ModelVersion)
	}
}

// What became of the pages that the model was to open stands where the SDK looks for it.
func TestURLContext(t *testing.T) {
	c, _ := client(t)
	q := genai.Text("<data-1>\n" + `{"task": "relations", "institution": {"name": "Tokiwa Carbon Materials"}, "risk_items": [{"id": "r1", "name": "Volgoterm Machine Works"}],
		"pages": ["https://www.tokiwa-carbon.example/investors/2023/supply-note", "https://nowhere.example/"]}` + "\n</data-1>")
	got, err := c.Models.GenerateContent(context.Background(), model, q, &genai.GenerateContentConfig{Tools: []*genai.Tool{{GoogleSearch: &genai.GoogleSearch{}}, {URLContext: &genai.URLContext{}}}})
	if err != nil {
		t.Fatal(err)
	}
	opened := got.Candidates[0].URLContextMetadata
	if opened == nil || len(opened.URLMetadata) != 2 || opened.URLMetadata[0].URLRetrievalStatus != genai.URLRetrievalStatusSuccess || opened.URLMetadata[1].URLRetrievalStatus != genai.URLRetrievalStatusError {
		t.Fatalf("%+v", opened)
	}
	if u := got.UsageMetadata; u.ToolUsePromptTokenCount <= 1200 || u.TotalTokenCount != u.PromptTokenCount+u.CandidatesTokenCount+u.ThoughtsTokenCount+u.ToolUsePromptTokenCount {
		t.Errorf("%+v", u)
	}
}

// A stream gives the same text as one answer, and says last why it ended.
func TestStream(t *testing.T) {
	c, _ := client(t)
	whole, err := c.Models.GenerateContent(context.Background(), model, ask("strategy"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var finish genai.FinishReason
	n := 0
	for part, err := range c.Models.GenerateContentStream(context.Background(), model, ask("strategy"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		text.WriteString(part.Text())
		finish = part.Candidates[0].FinishReason
	}
	if text.String() != whole.Text() || finish != genai.FinishReasonStop || n < 3 {
		t.Errorf("%d events, finish %s: %q, want %q", n, finish, text.String(), whole.Text())
	}
}

// What the SDK may send in its configuration the emulator takes, and refuses
// what the API refuses.
func TestConfiguration(t *testing.T) {
	c, _ := client(t)
	low := int32(8192)
	got, err := c.Models.GenerateContent(context.Background(), model, ask("strategy"), &genai.GenerateContentConfig{
		SystemInstruction: genai.NewContentFromText("Plan.", genai.RoleUser), Temperature: genai.Ptr[float32](0), TopP: genai.Ptr[float32](0.9), MaxOutputTokens: low,
		ResponseMIMEType: "application/json", ResponseJsonSchema: map[string]any{"type": "object"}, ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true, ThinkingLevel: genai.ThinkingLevelLow},
		SafetySettings: []*genai.SafetySetting{{Category: genai.HarmCategoryHarassment, Threshold: genai.HarmBlockThresholdBlockNone}},
	})
	if err != nil || !got.Candidates[0].Content.Parts[0].Thought || !strings.HasPrefix(got.Text(), "{") {
		t.Errorf("%v %+v", err, got)
	}
	count, err := c.Models.CountTokens(context.Background(), model, ask("strategy"), nil)
	if err != nil || count.TotalTokens < 10 {
		t.Errorf("%+v %v", count, err)
	}
	var refused genai.APIError
	_, err = c.Models.GenerateContent(context.Background(), model, ask("strategy"), &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevelLow, ThinkingBudget: genai.Ptr[int32](100)}})
	if !errors.As(err, &refused) || refused.Code != 400 || refused.Status != "INVALID_ARGUMENT" {
		t.Errorf("level and budget at once: %v", err)
	}
	_, err = c.Models.GenerateContent(context.Background(), "gemini-2.5-pro", ask("strategy"), &genai.GenerateContentConfig{ResponseMIMEType: "application/json", Tools: []*genai.Tool{{GoogleSearch: &genai.GoogleSearch{}}}})
	if !errors.As(err, &refused) || refused.Code != 400 {
		t.Errorf("JSON and search at once: %v", err)
	}
	_, err = c.Models.GenerateContent(context.Background(), "palm-2", ask("strategy"), nil)
	if !errors.As(err, &refused) || refused.Code != 404 || refused.Status != "NOT_FOUND" {
		t.Errorf("no such model: %v", err)
	}
}

// Faults look to the SDK as the API's do.
func TestFaults(t *testing.T) {
	c, box := client(t)
	for kind, want := range map[string]struct {
		code   int
		status string
	}{"429": {429, "RESOURCE_EXHAUSTED"}, "503": {503, "UNAVAILABLE"}, "500": {500, "INTERNAL"}, "key": {400, "INVALID_ARGUMENT"}, "quota": {429, "RESOURCE_EXHAUSTED"}} {
		box.Reset()
		box.Fault(sandbox.Fault{Kind: kind, AfterMS: 1500})
		_, err := c.Models.GenerateContent(context.Background(), model, ask("strategy"), nil)
		var refused genai.APIError
		if !errors.As(err, &refused) || refused.Code != want.code || refused.Status != want.status {
			t.Errorf("%s: %v", kind, err)
		}
		if kind == "429" && !strings.Contains(err.Error(), "retryDelay:1.5s") {
			t.Errorf("no RetryInfo: %v", err)
		}
	}
	box.Reset()
	box.Fault(sandbox.Fault{Kind: "blocked"})
	got, err := c.Models.GenerateContent(context.Background(), model, ask("strategy"), nil)
	if err != nil || got.PromptFeedback.BlockReason != genai.BlockedReasonProhibitedContent || len(got.Candidates) != 0 {
		t.Errorf("%+v %v", got, err)
	}
}
