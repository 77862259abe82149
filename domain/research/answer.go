package research

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/chainreactions/chainreactions/domain"
)

// Models wrap JSON in words and fences. What is taken is one whole JSON value
// and nothing is repaired: an answer that cannot be read is an error, asked
// for once more and then reported, never an empty finding.

var errNoJSON = errors.New("no JSON value in the answer")

// readAnswer decodes the answer of a generation into T.
func readAnswer[T any](g Generation) (out T, err error) {
	switch g.Finish {
	case FinishStop:
	case FinishLength:
		return out, domain.E(domain.Unavailable, "model_truncated", "The model's answer was cut off at its limit.")
	case FinishBlocked:
		return out, domain.E(domain.Unavailable, "model_blocked", "The model's vendor refused to answer.")
	default:
		return out, domain.E(domain.Unavailable, "model_incomplete", "The model's answer is not whole.")
	}
	raw, err := jsonOf(g.Text)
	if err == nil {
		err = json.Unmarshal([]byte(raw), &out)
	}
	if err != nil {
		return out, domain.E(domain.Unavailable, "model_unreadable", "The model's answer could not be read.").Because(fmt.Errorf("%w: %.200q", err, g.Text))
	}
	return out, nil
}

// jsonOf finds the JSON value of an answer: the text itself, else the last
// fenced block, else the last value that stands on a line of its own.
func jsonOf(text string) (string, error) {
	text = strings.TrimSpace(text)
	if json.Valid([]byte(text)) && text != "" && (text[0] == '{' || text[0] == '[') {
		return text, nil
	}
	blocks := strings.Split(text, "```")
	for i := len(blocks) - 2 + len(blocks)%2; i > 0; i-- { // the odd ones are inside fences
		if i%2 == 0 || i == len(blocks)-1 {
			continue
		}
		body := strings.TrimSpace(blocks[i])
		if word, rest, ok := strings.Cut(body, "\n"); ok && !strings.ContainsAny(word, "{[") {
			body = strings.TrimSpace(rest)
		}
		if body != "" && (body[0] == '{' || body[0] == '[') && json.Valid([]byte(body)) {
			return body, nil
		}
	}
	last := ""
	for at := 0; at < len(text); {
		if (text[at] == '{' || text[at] == '[') && (at == 0 || text[at-1] == '\n') {
			var raw json.RawMessage
			d := json.NewDecoder(strings.NewReader(text[at:]))
			if d.Decode(&raw) == nil {
				last = string(raw)
				at += int(d.InputOffset())
				continue
			}
		}
		at++
	}
	if last == "" {
		return "", errNoJSON
	}
	return last, nil
}

type namedAnswer struct {
	Name     string `json:"name"`
	Language string `json:"language"`
}

type strategyAnswer struct {
	Institution struct {
		Names []namedAnswer `json:"names"`
	} `json:"institution"`
	Items []struct {
		ID      string        `json:"id"`
		Names   []namedAnswer `json:"names"`
		Queries []struct {
			Text     string `json:"text"`
			Language string `json:"language"`
		} `json:"queries"`
	} `json:"items"`
}

type endAnswer struct {
	Name   string `json:"name"`
	Schema string `json:"schema"`
}

type integrateAnswer struct {
	Relations []struct {
		From      endAnswer `json:"from"`
		To        endAnswer `json:"to"`
		Schema    string    `json:"schema"`
		Role      string    `json:"role"`
		StartDate string    `json:"start_date"`
		EndDate   string    `json:"end_date"`
		Evidence  []struct {
			Source string `json:"source"`
			Quote  string `json:"quote"`
		} `json:"evidence"`
	} `json:"relations"`
	Summary string `json:"summary"`
}

// groundedFinding is one risk item of a normal run, in the words that the
// product's first version asked for, so that its recorded answers are read too.
type groundedFinding struct {
	RiskItem       string   `json:"risk_item"`
	Type           string   `json:"relationship_type"`
	Summary        string   `json:"finding_summary"`
	Intermediaries nameList `json:"potential_intermediary_B"`
	Evidence       []struct {
		Quote string `json:"quote"`
		URL   string `json:"url"`
	} `json:"key_evidence"`
	Sources []string `json:"sources"`
}

// verdict is the word for a model's claim; "" where it is none of ours.
func (g groundedFinding) verdict() string {
	switch strings.ToLower(strings.TrimSpace(g.Type)) {
	case "direct":
		return Direct
	case "indirect":
		return Indirect
	case "significant mention", "significant_mention":
		return SignificantMention
	case "no evidence found", "no_evidence", "no evidence":
		return NoEvidence
	case "unknown":
		return Unknown
	}
	return ""
}

// nameList is a list of names, one name, or null: models write all three.
type nameList []string

// UnmarshalJSON reads any of the three.
func (n *nameList) UnmarshalJSON(data []byte) error {
	var one *string
	if json.Unmarshal(data, &one) == nil {
		if one == nil {
			return nil
		}
		for _, s := range strings.Split(*one, ";") {
			if s = strings.TrimSpace(s); s != "" && !strings.EqualFold(s, "none") && !strings.EqualFold(s, "null") {
				*n = append(*n, s)
			}
		}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(n))
}

type listedAnswer struct {
	Summary string `json:"summary"`
	Ties    []struct {
		Intermediary string `json:"intermediary"`
		Summary      string `json:"summary"`
		Quote        string `json:"quote"`
		URL          string `json:"url"`
	} `json:"ties"`
}

type signalAnswer struct {
	Summary  string `json:"summary"`
	Evidence []struct {
		Quote string `json:"quote"`
		URL   string `json:"url"`
	} `json:"evidence"`
}

type profileValue struct {
	Value   string   `json:"value"`
	Sources []string `json:"sources"`
}
