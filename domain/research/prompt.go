package research

import (
	"bytes"
	"embed"
	"encoding/json"
	"strings"
)

// A prompt has two halves. The system half is a file of ours in which no word
// of a user or a page stands; the user half is one JSON object between two
// marks that are random for each run. encoding/json writes < and > as \u003c
// and \u003e, so that no text inside can close the marks.
//
// The object names its task, so that whoever reads one (a log, an emulator)
// knows what is asked: strategyData, integrateData, relationsData.
//
//go:embed prompts/*.txt
var promptFiles embed.FS

func promptText(name, mark string) string {
	text, err := promptFiles.ReadFile("prompts/" + name + ".txt")
	if err != nil {
		panic(err) // our own file
	}
	return strings.ReplaceAll(string(text), "MARK", mark)
}

func fenced(mark string, data any) string {
	body, err := json.MarshalIndent(data, "", " ")
	if err != nil {
		panic(err) // structs of strings
	}
	return "<data-" + mark + ">\n" + string(body) + "\n</data-" + mark + ">"
}

// prompt makes both halves.
func prompt(call Call, name, mark string, data any) Prompt {
	return Prompt{Call: call, System: promptText(name, mark), User: fenced(mark, data)}
}

// question is a prompt for a service that takes one text.
func question(name, mark string, data any) string {
	return promptText(name, mark) + "\n" + fenced(mark, data)
}

type period struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

type promptItem struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Country string   `json:"country,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
}

type promptFinding struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Snippet string `json:"snippet"`
}

type strategyData struct {
	Task        string          `json:"task"` // "strategy"
	Institution promptItem      `json:"institution"`
	RiskItems   []promptItem    `json:"risk_items"`
	Languages   []string        `json:"languages"`
	Period      *period         `json:"period,omitempty"`
	Findings    []promptFinding `json:"findings"`
}

type promptSource struct {
	ID          string   `json:"id"`
	Title       string   `json:"title"`
	Language    string   `json:"language,omitempty"`
	PublishedAt string   `json:"published_at,omitempty"`
	Passages    []string `json:"passages"`
}

type integrateData struct {
	Task         string         `json:"task"` // "integrate"
	Institution  []string       `json:"institution"`
	RiskItem     []string       `json:"risk_item"`
	ThirdParties [][]string     `json:"third_parties,omitempty"` // names of those that are tied to one end until now
	Period       *period        `json:"period,omitempty"`
	Sources      []promptSource `json:"sources"`
}

type relationsData struct {
	Task        string       `json:"task"` // "relations"
	Institution promptItem   `json:"institution"`
	RiskItems   []promptItem `json:"risk_items"`
	Languages   []string     `json:"languages"`
	Period      *period      `json:"period,omitempty"`
	Pages       []string     `json:"pages,omitempty"` // that the model is to open
}

type listedData struct {
	Task         string     `json:"task"` // "listed"
	Institution  string     `json:"institution"`
	Organisation promptItem `json:"organisation"`
}

type profileData struct {
	Task         string     `json:"task"` // "profile" or "signal"
	Organisation promptItem `json:"organisation"`
	Location     string     `json:"location,omitempty"`
	Topic        string     `json:"topic,omitempty"`
}

// The schemas of the answers, in the subset that every vendor takes
// (providers.md §1.2).
var (
	strategySchema = compact(`{"type":"object","required":["institution","items"],"properties":{
		"institution":{"type":"object","properties":{"names":{"type":"array","items":` + namedSchema + `}}},
		"items":{"type":"array","items":{"type":"object","required":["id","queries"],"properties":{
			"id":{"type":"string"},"names":{"type":"array","items":` + namedSchema + `},
			"queries":{"type":"array","items":{"type":"object","required":["text"],"properties":{"text":{"type":"string"},"language":{"type":"string"}}}}}}}}}`)
	integrateSchema = compact(`{"type":"object","required":["relations"],"properties":{"summary":{"type":"string"},
		"relations":{"type":"array","items":{"type":"object","required":["from","to","schema","evidence"],"properties":{
			"from":` + endSchema + `,"to":` + endSchema + `,"schema":{"type":"string"},"role":{"type":"string"},"summary":{"type":"string"},
			"start_date":{"type":"string"},"end_date":{"type":"string"},
			"evidence":{"type":"array","items":{"type":"object","required":["source","quote"],"properties":{"source":{"type":"string"},"quote":{"type":"string"}}}}}}}}}`)
	listedSchema = compact(`{"type":"object","required":["ties"],"properties":{"summary":{"type":"string"},
		"ties":{"type":"array","items":{"type":"object","required":["quote","url"],"properties":{
			"intermediary":{"type":"string"},"summary":{"type":"string"},"quote":{"type":"string"},"url":{"type":"string"}}}}}}`)
	signalSchema = compact(`{"type":"object","required":["evidence"],"properties":{"summary":{"type":"string"},
		"evidence":{"type":"array","items":{"type":"object","required":["quote","url"],"properties":{"quote":{"type":"string"},"url":{"type":"string"}}}}}}`)
)

const (
	namedSchema = `{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"language":{"type":"string"}}}`
	endSchema   = `{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"schema":{"type":"string"}}}`
)

// profileSchema asks for each field of a profile together with its sources.
var profileSchema = func() json.RawMessage {
	var b strings.Builder
	b.WriteString(`{"type":"object","properties":{`)
	for i, f := range profileFields {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + f.Name + `":{"type":"array","items":{"type":"object","required":["value","sources"],"properties":{"value":{"type":"string"},"sources":{"type":"array","items":{"type":"string"}}}}}`)
	}
	b.WriteString(`}}`)
	return compact(b.String())
}()

// profileField is one thing that a profile says. Points count towards
// completeness.
type profileField struct {
	Name   string
	Points int
}

var profileFields = []profileField{
	{"name", 1}, {"english_name", 1}, {"description", 1}, {"headquarters", 1}, {"sectors", 1}, {"previous_names", 1},
	{"country", 0}, {"website", 0}, {"founded", 0}, {"legal_form", 0}, {"registration_number", 0}, {"employees", 0},
	{"owners", 0}, {"subsidiaries", 0}, {"partners", 0}, {"suppliers", 0}, {"similar_names", 0},
}

func compact(s string) json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(s)); err != nil {
		panic(err) // our own text
	}
	return b.Bytes()
}
