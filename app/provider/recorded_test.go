package provider

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/samples/realdata"
)

// What Gemini really answered is understood: text of several parts in order
// and without the code that the model ran, grounding where there is any, and
// tokens that add up to what the vendor counted.
func TestRecordedAnswersAreRead(t *testing.T) {
	want := map[string]struct{ chunks, supports int }{
		"deepthinking_pro_22chunks.json": {22, 9}, "deepthinking_pro_2chunks.json": {2, 2}, "deepthinking_pro_slow49s.json": {5, 5},
		"standard_flash_19parts.json": {}, "standard_flash_4parts.json": {}, "standard_flash_4parts_b.json": {},
	}
	for _, recorded := range realdata.Recordings(t) {
		t.Run(recorded.Name, func(t *testing.T) {
			var total struct {
				UsageMetadata struct{ TotalTokenCount int64 }
			}
			_ = json.Unmarshal(recorded.Answer, &total)
			once := response(recorded.Answer)
			a, cost, f := readGemini(once, false, nil)
			if f != nil {
				t.Fatal(f)
			}
			g, f := a.generation(once)
			if f != nil || g.Finish != research.FinishStop {
				t.Fatalf("%+v %v", g.Finish, f)
			}
			if cost.input+cost.output != total.UsageMetadata.TotalTokenCount || !cost.known || !strings.HasPrefix(cost.model, "gemini-2.5-") {
				t.Errorf("%+v, the vendor counted %d", cost, total.UsageMetadata.TotalTokenCount)
			}
			w := want[recorded.Name]
			if len(g.Sources) != w.chunks || len(g.Supports) != w.supports || len(g.Queries) == 0 && w.chunks > 0 {
				t.Errorf("%d sources, %d supports, %d queries; want %+v", len(g.Sources), len(g.Supports), len(g.Queries), w)
			}
			if !strings.Contains(g.Text, "```json") || strings.Contains(g.Text, "concise_search(") || strings.Contains(g.Text, "Looking up information") {
				t.Errorf("text: %.200s", g.Text)
			}
			for _, s := range g.Supports { // offsets are in bytes: the words are where they say
				if s.Text == "" {
					t.Error("a support without text")
				}
			}
			// Offsets alone give the same words as the vendor's own copy.
			for i, s := range a.grounding.Supports {
				whole := a.parts[s.Segment.Part].Text
				if got := whole[s.Segment.Start:s.Segment.End]; got != s.Segment.Text {
					t.Errorf("support %d: bytes give %q, the vendor says %q", i, got, s.Segment.Text)
				}
			}
		})
	}
}

func response(body []byte) *http.Response {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
}

// A stream may be cut at any byte: it is then a failure, and never a short
// answer; whole, it is what the unary answer is.
func TestAStreamCutAnywhere(t *testing.T) {
	events := []string{
		`{"candidates":[{"content":{"role":"model","parts":[{"text":"let me think","thought":true}]}}],"modelVersion":"gemini-3.8-flash"}`,
		`{"candidates":[{"content":{"role":"model","parts":[{"text":"{\"a\": "}]}}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":1}}`,
		`{"candidates":[{"content":{"role":"model","parts":[{"text":"\"é\"}"},{"text":""}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":7,"toolUsePromptTokenCount":3}}`,
	}
	var whole strings.Builder
	for _, e := range events {
		whole.WriteString("data: " + e + "\r\n\r\n")
	}
	s := whole.String()
	end := strings.LastIndex(s, "}") + 1
	for n := range len(s) + 1 {
		resp := response([]byte(s[:n]))
		a, cost, f := readGemini(resp, true, func(int) {})
		if n < end {
			if f == nil || f.Reason != Cut || cost.known {
				t.Fatalf("cut at %d of %d: %v, cost known %t", n, len(s), f, cost.known)
			}
			continue
		}
		g, _ := a.generation(resp)
		if f != nil || g.Text != `{"a": "é"}` || g.Finish != research.FinishStop || cost.input != 13 || cost.output != 12 {
			t.Fatalf("whole at %d: %q %v %+v", n, g.Text, f, cost)
		}
	}
}

// What a finishReason nobody has seen yet means is "unusable", and a blocked
// prompt is not an empty answer.
func TestFinishReasons(t *testing.T) {
	for reason, want := range map[string]research.Finish{"STOP": research.FinishStop, "MAX_TOKENS": research.FinishLength, "RECITATION": research.FinishBlocked, "SPII": research.FinishBlocked,
		"CONTINUATION": research.FinishOther, "MALFORMED_FUNCTION_CALL": research.FinishOther, "A_NEW_ONE": research.FinishOther} {
		resp := response([]byte(`{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"` + reason + `"}]}`))
		a, _, f := readGemini(resp, false, nil)
		if g, f2 := a.generation(resp); f != nil || f2 != nil || g.Finish != want {
			t.Errorf("%s: %v %v %v", reason, g.Finish, f, f2)
		}
	}
	for _, body := range []string{`{}`, `{"candidates":[]}`, `{"candidates":[{"content":{}}]}`, `{"usageMetadata":{}}`, `[]`, `null`, ``, `{"candidates":"none"}`, `{"candidates":[{"content":{"parts":"x"}}]}`} {
		resp := response([]byte(body))
		a, _, f := readGemini(resp, false, nil)
		if f == nil {
			_, f = a.generation(resp)
		}
		if f == nil || f.Reason != Malformed {
			t.Errorf("%q: %v", body, f)
		}
	}
}

// Models are priced by their own name, and by the day.
func TestPrices(t *testing.T) {
	before, after := day(2026, 11, 30), day(2026, 12, 31)
	for _, c := range []struct {
		model     string
		late      bool
		in, out   int64
		wantMicro int64
	}{
		{"gemini-4-argon-001", false, 1_000_000, 0, 4_000_000 / 2},
		{"gemini-4-argon", true, 100_000, 0, 400_000},
		{"gemini-3.8-flash", false, 1000, 1000, 750 + 3750},
		{"gemini-3.8-flash", true, 1000, 1000, 1500 + 7500},
		{"models/gemini-3.5-flash-lite", false, 1000, 0, 300},
		{"gemini-3.5-flash", false, 0, 1000, 9000},
		{"gemini-3.1-pro-preview", false, 200_001, 0, 800_004},
		{"gemini-9-unheard-of", false, 1000, 0, 4000},
		{"gemini-3.8-flash", false, 1, 0, 1}, // never less than a micro-dollar
	} {
		at := before
		if c.late {
			at = after
		}
		if got := geminiPrice(c.model, at).cost(c.in, c.out); got != c.wantMicro {
			t.Errorf("%s late %t: %d, want %d", c.model, c.late, got, c.wantMicro)
		}
	}
}
