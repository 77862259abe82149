package research

import (
	"context"
	"encoding/json"
	"time"
)

// What this package asks of the vendors. app/provider implements these on the
// real ones, app/sandbox on an invented web; which of them answers, with which
// key, after which retries and within which budget is theirs to decide.
//
// All of it follows the same rules:
//
//   - A call is made in the scope of its run's tenant, and ends at once when
//     ctx does.
//   - Call names a paid call: its run, and a step key that is the same in every
//     attempt at the run. Whoever keeps a ledger of requests can key it so.
//   - Usage is what was spent, and is filled in beside an error too: an answer
//     that was cut off is often billed.
//   - An error is a *domain.Error: provider_not_configured (nobody can answer
//     this), provider_unavailable (it may pass; RetryAfter says when),
//     provider_budget_exceeded (the hourly or daily limit blocks),
//     provider_refused (the request or the key is wrong, or the policy says no:
//     trying again is of no use), provider_malformed (an answer that is not
//     what the vendor's contract says). A vendor that has nothing to say gives
//     an empty answer and no error.

// Call names a paid call.
type Call struct {
	Run  string // run_…
	Step string // "search/google/3f2a…"
}

// Usage is what one call cost, by what was really sent, retries included.
type Usage struct {
	Provider     string `json:"provider"`                // "gemini", "brightdata", "linkup", …
	Model        string `json:"model,omitempty"`         // that really answered
	Calls        int64  `json:"calls"`                   // requests the vendor bills
	InputTokens  int64  `json:"input_tokens,omitempty"`  // prompt and tool use
	OutputTokens int64  `json:"output_tokens,omitempty"` // thoughts included
	CostMicros   int64  `json:"cost_micros"`             // millionths of a US dollar
	Estimated    bool   `json:"estimated,omitempty"`     // the vendor did not say: the worst case
	Sandbox      bool   `json:"sandbox,omitempty"`       // an emulator answered, not the vendor
}

// Finish says why a model stopped.
type Finish string

// Only FinishStop is a whole answer.
const (
	FinishStop    Finish = "stop"
	FinishLength  Finish = "length"  // the output limit
	FinishBlocked Finish = "blocked" // the vendor's filters, of the prompt or of the answer
	FinishOther   Finish = "other"   // anything else, known or not
)

// Prompt is what a model is asked.
type Prompt struct {
	Call     Call
	System   string          // ours alone: no word of a user or a page is in it
	User     string          // the data, delimited by random marks that System explains
	Schema   json.RawMessage // JSON Schema of the answer; nil asks for prose
	Grounded bool            // let the vendor search the web itself; never together with Schema (providers.md §1.5)
	Pages    []string        // of a grounded prompt, which names them too: the vendor may open these itself

	MaxOutputTokens int64 // thoughts included; 0 is the provider's choice
}

// Generation is a model's answer. Text has no thoughts in it.
type Generation struct {
	Text     string
	Finish   Finish
	Sources  []GroundingSource  // of a grounded answer
	Supports []GroundingSupport // which part of Text rests on which Sources
	Queries  []string           // the vendor searched for
	Opened   []Opening          // what became of the pages that the vendor opened itself; it may leave any of them out
	Usage    Usage
}

// Opening is a vendor's attempt to read a page for a model. Nobody but the vendor has
// seen what it read: it is no text that a quote could be looked for in.
type Opening struct {
	URL   string
	State OpenState
}

// OpenState says how it went.
type OpenState string

// Only PageOpened was read.
const (
	PageOpened  OpenState = "opened"
	PagePaywall OpenState = "paywall"
	PageUnsafe  OpenState = "unsafe"
	PageFailed  OpenState = "failed" // anything else, known or not
)

// GroundingSource is a page that a grounded answer rests on. URL is the page's
// own, after the vendor's redirect link was resolved; it stays the link where
// that could not be done.
type GroundingSource struct {
	URL   string
	Title string
}

// GroundingSupport ties a stretch of Text to sources.
type GroundingSupport struct {
	Text    string
	Sources []int // indexes into Sources
}

// Model answers prompts. progress may be nil; it is called from one goroutine,
// before Generate returns, with the number of bytes of text so far, and must
// not block.
type Model interface {
	Generate(ctx context.Context, in Prompt, progress func(bytes int)) (Generation, error)
}

// SearchRequest is one page of one engine.
type SearchRequest struct {
	Call     Call
	Engine   string // one of Engines
	Query    string
	Country  string // ISO 3166, upper case; "" is anywhere
	Language string // ISO 639-1; "" is any
	From, To string // YYYY-MM-DD, either may be ""; an engine that cannot filter does not
	Limit    int    // at most; 0 is the engine's page
}

// SearchResult is one hit. URL is the page's own, never an engine's redirect.
type SearchResult struct {
	URL         string `json:"url"`
	Title       string `json:"title"`
	Snippet     string `json:"snippet"`
	PublishedAt string `json:"published_at,omitempty"` // as precise as the engine says: 2024, 2024-05, 2024-05-17
	Rank        int    `json:"rank"`                   // from 1
}

// SearchResponse is what an engine found; nothing is an answer too.
type SearchResponse struct {
	Results []SearchResult
	Altered string // the engine searched for this instead, or ""
	Usage   Usage
}

// Searcher asks web search engines.
type Searcher interface {
	// Engines names those worth asking about a place in a language, the best
	// first; none where no search provider is configured.
	Engines(country, language string) []string
	Search(ctx context.Context, in SearchRequest) (SearchResponse, error)
}

// ProfileRequest is a question to a search service that reads the pages itself.
type ProfileRequest struct {
	Call           Call
	Question       string
	Deep           bool
	Schema         json.RawMessage // JSON Schema, an object at its root; nil asks for a sourced answer in prose
	IncludeDomains []string
	ExcludeDomains []string
	From, To       string // YYYY-MM-DD
}

// ProfileSource is a page that the service read.
type ProfileSource struct {
	URL     string
	Title   string
	Excerpt string // the provider's, not the page's whole text
}

// ProfileResponse has Data where a Schema was given, else Answer.
type ProfileResponse struct {
	Data    json.RawMessage
	Answer  string
	Sources []ProfileSource
	Usage   Usage
}

// Profiler gives sourced answers.
type Profiler interface {
	Profile(ctx context.Context, in ProfileRequest) (ProfileResponse, error)
}

// FetchRequest asks for a page that a search has returned.
type FetchRequest struct {
	Call Call
	URL  string
}

// Page is a fetched page as text.
//
// Text is the visible text alone: no head, title, script, style, noscript or
// template, no comments and attributes, no subtree that is hidden or
// display:none; every block element begins on a line of its own. Nothing else
// is done to it: the quote contract (quote.go) does the rest.
type Page struct {
	URL         string // asked for
	FinalURL    string // after redirects, each judged by the egress policy
	Title       string
	Text        string
	Language    string // ISO 639-1, "" where unknown
	MediaType   string
	PublishedAt string // by the page's own metadata, "" where it says nothing
	Hash        string // SHA-256 of the bytes, hex
	RetrievedAt time.Time
	Truncated   bool // the page was longer than the limit, or ends before its end
	Usage       Usage
}

// Fetcher reads public web pages and nothing else.
type Fetcher interface {
	Fetch(ctx context.Context, in FetchRequest) (Page, error)
}
