package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/egress"
	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/samples/realdata"
)

// What Gemini really answered, byte for byte and over its own wire, becomes the
// findings that it contains: asked through the public interface, each recording
// gives its risk item, its claim, its third parties, its words, its searches, those
// of its addresses that its own searches returned, and the tokens that the vendor
// counted. Since none of its pages is there, no claim is more than a claim.
func TestRecordedAnswersThroughTheProgram(t *testing.T) {
	recordings := realdata.Recordings(t)
	var answer []byte
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	defer vendor.Close()
	p, base := serve(t, nil)
	c := researcher(t, p, base, "recorded")
	v := provider.New(provider.Config{Store: p.store, Egress: egress.New(egress.Config{Resolver: "127.0.0.1:1"}), Logger: slog.New(slog.DiscardHandler), // no name leads anywhere
		Sleep:    func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Accounts: map[string]provider.Account{provider.Gemini: {BaseURL: vendor.URL, Keys: []string{"k"}, Model: "gemini-2.5-pro"}}})
	p.research.Model, p.research.Searcher, p.research.Profiler, p.research.Fetcher = v, v, v, v
	for _, recorded := range recordings {
		t.Run(recorded.Name, func(t *testing.T) {
			c.t = t
			answer = recorded.Answer
			said, finding := contents(t, answer)
			run := read(c, c.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "normal", "institution": finding.Institution,
				"risk_items": []map[string]any{{"name": finding.Item}}}))
			if run.Status != research.Succeeded || len(run.Result.Relations) != 1 || run.Sandbox {
				t.Fatalf("%s %s sandbox=%v", run.Status, run.ErrorCode, run.Sandbox)
			}
			r := run.Result.Relations[0]
			if r.Claimed == nil || strings.ReplaceAll(r.Claimed.Type, "_", " ") != strings.ReplaceAll(strings.ToLower(finding.Type), " found", "") || !slices.Equal(r.Claimed.Intermediaries, finding.Third) {
				t.Errorf("claimed %+v, the recording says %+v", r.Claimed, finding)
			}
			if r.Narrative != finding.Summary || len(run.Result.Searches) != len(said.GroundingMetadata.WebSearchQueries) || len(run.Result.Sources) != len(said.GroundingMetadata.GroundingChunks) {
				t.Errorf("%q, %d searches, %d sources", r.Narrative, len(run.Result.Searches), len(run.Result.Sources))
			}
			var returned []string
			for _, chunk := range said.GroundingMetadata.GroundingChunks {
				returned = append(returned, chunk.Web.URI)
			}
			for _, u := range finding.Sources {
				if slices.Contains(returned, u) != slices.Contains(r.Claimed.Sources, u) {
					t.Errorf("%s: returned by a search %t, shown %t", u, slices.Contains(returned, u), slices.Contains(r.Claimed.Sources, u))
				}
			}
			if r.Type != research.Unknown && (r.Type != research.NoEvidence || r.Claimed.Type != research.NoEvidence) || len(r.Evidence) > 0 {
				t.Errorf("%s (%s), with %d pieces of evidence: nobody has seen a page", r.Type, r.Reason, len(r.Evidence))
			}
			if got := run.Usage.InputTokens + run.Usage.OutputTokens; got != said.tokens || run.Usage.Estimated {
				t.Errorf("%d tokens, the vendor counted %d", got, said.tokens)
			}
		})
	}
	c.t = t
}

type recordedCandidate struct {
	Content           struct{ Parts []struct{ Text string } }
	GroundingMetadata struct {
		WebSearchQueries []string
		GroundingChunks  []struct{ Web struct{ URI string } }
	}
	tokens int64
}

type recordedFinding struct {
	Item        string          `json:"risk_item"`
	Institution string          `json:"institution_A"`
	Type        string          `json:"relationship_type"`
	Summary     string          `json:"finding_summary"`
	Through     json.RawMessage `json:"potential_intermediary_B"`
	Sources     []string        `json:"sources"`
	Third       []string        `json:"-"`
}

// contents reads a recording by other means than the product's: the JSON of its
// last fence.
func contents(t *testing.T, answer []byte) (recordedCandidate, recordedFinding) {
	t.Helper()
	var body struct {
		Candidates    []recordedCandidate
		UsageMetadata struct{ TotalTokenCount int64 }
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		t.Fatal(err)
	}
	said := body.Candidates[0]
	said.tokens = body.UsageMetadata.TotalTokenCount
	text := ""
	for _, p := range said.Content.Parts {
		text += p.Text
	}
	_, block, _ := strings.Cut(text[strings.LastIndex(text, "```json"):], "\n")
	block, _, _ = strings.Cut(block, "```")
	var list []recordedFinding
	if err := json.Unmarshal([]byte(block), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v %q", err, block)
	}
	f := list[0]
	if len(f.Through) > 0 && string(f.Through) != "null" {
		if err := json.Unmarshal(f.Through, &f.Third); err != nil {
			t.Fatal(err)
		}
	}
	return said, f
}

// read follows a started run to its end and reads it.
func read(c client, started map[string]any) research.Run {
	c.t.Helper()
	id := started["id"].(string)
	c.do("GET", "/api/v1/runs/"+id+"/events", nil)
	return c.ended(id)
}
