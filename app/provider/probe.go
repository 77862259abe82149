package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/chainreactions/chainreactions/domain/research"
)

// Probed is what came of one question to a vendor.
type Probed struct {
	Vendor    string
	Operation string
	Err       error    // our client could not use the answer
	Lacking   []string // fields of the emulator's answer that the vendor's has not
	Further   []string // fields of the vendor's answer that the emulator's has not
	Status    int
	Body      []byte // the vendor's, without keys
	Cost      int64  // millionths of a US dollar
}

// Probe asks every vendor that both have one small question of each kind and
// lays the shape of its answer beside the emulator's: no live vendor is
// reached by our tests, so this is how a contract that has drifted is found. It
// costs some cents, booked to the tenant of ctx.
func Probe(ctx context.Context, real, emulated *Providers) []Probed {
	return probe(ctx, real, emulated, "the European Central Bank")
}

func probe(ctx context.Context, real, emulated *Providers, subject string) []Probed {
	call := research.Call{Step: "contract-probe"}
	type question struct {
		vendor, operation string
		ask               func(p *Providers, subject string) (research.Usage, error)
	}
	generate := func(grounded bool, progress func(int)) func(*Providers, string) (research.Usage, error) {
		return func(p *Providers, subject string) (research.Usage, error) {
			in := research.Prompt{Call: call, System: "Answer in one sentence.", User: "In which city is " + subject + "?", Grounded: grounded}
			if progress == nil && !grounded {
				in.Schema = json.RawMessage(`{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}}`)
			}
			out, err := p.Generate(ctx, in, progress)
			return out.Usage, err
		}
	}
	questions := []question{
		{Gemini, "schema", generate(false, nil)}, {Gemini, "stream", generate(false, func(int) {})}, {Gemini, "grounded", generate(true, nil)},
		{OpenAI, "schema", generate(false, nil)}, {OpenAI, "stream", generate(false, func(int) {})},
	}
	search := func(vendor, engine string) question {
		return question{vendor, "search/" + engine, func(p *Providers, subject string) (research.Usage, error) {
			out, err := p.Search(ctx, research.SearchRequest{Call: call, Engine: engine, Query: `"` + subject + `"`})
			if err == nil && len(out.Results) == 0 {
				err = fmt.Errorf("no result for %q", subject)
			}
			return out.Usage, err
		}}
	}
	for _, engine := range []string{"google", "bing", "yandex", "baidu", "duckduckgo"} {
		questions = append(questions, search(BrightData, engine))
	}
	questions = append(questions, search(SearXNG, "google"), search(Linkup, Linkup))
	for name, schema := range map[string]json.RawMessage{"answer": nil, "structured": json.RawMessage(`{"type":"object","properties":{"city":{"type":"string"}}}`)} {
		questions = append(questions, question{Linkup, name, func(p *Providers, subject string) (research.Usage, error) {
			out, err := p.Profile(ctx, research.ProfileRequest{Call: call, Question: "In which city is " + subject + "?", Schema: schema})
			return out.Usage, err
		}})
	}
	var out []Probed
	for _, q := range questions {
		if real.vendors[q.vendor] == nil || emulated.vendors[q.vendor] == nil {
			continue
		}
		got := Probed{Vendor: q.vendor, Operation: q.operation}
		theirs, ours := real.listening(q.vendor), emulated.listening(q.vendor)
		usage, err := q.ask(theirs.Providers, subject)
		got.Err, got.Cost = err, usage.CostMicros
		got.Status, got.Body = theirs.last()
		got.Body = []byte(real.vendors[q.vendor].keys.redact(string(got.Body)))
		if _, err := q.ask(ours.Providers, "Northmere University"); err != nil {
			got.Err = fmt.Errorf("the emulator: %w", err)
		}
		_, expected := ours.last()
		have, want := shape(got.Body), shape(expected)
		for path := range want {
			if !have[path] {
				got.Lacking = append(got.Lacking, path)
			}
		}
		for path := range have {
			if !want[path] {
				got.Further = append(got.Further, path)
			}
		}
		sort.Strings(got.Lacking)
		sort.Strings(got.Further)
		out = append(out, got)
	}
	return out
}

// listener is Providers of one vendor alone that keeps what came last.
type listener struct {
	*Providers
	mu     sync.Mutex
	status int
	body   bytes.Buffer
}

func (p *Providers) listening(vendorName string) *listener {
	alone := *p
	v := p.vendors[vendorName]
	l := &listener{Providers: &alone}
	alone.vendors = map[string]*vendor{vendorName: {name: v.name, base: v.base, sandbox: v.sandbox, timeout: v.timeout, attempts: 1, keys: v.keys, slots: v.slots, pace: v.pace,
		http: &http.Client{Transport: l, CheckRedirect: noRedirect}}}
	return l
}

// RoundTrip lets a request through and keeps a copy of the answer.
func (l *listener) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	l.mu.Lock()
	l.status = resp.StatusCode
	l.body.Reset()
	l.mu.Unlock()
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(resp.Body, l), resp.Body}
	return resp, nil
}

func (l *listener) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.body.Write(b)
}

func (l *listener) last() (int, []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status, slices.Clone(l.body.Bytes())
}

// shape is the paths of a JSON answer, or of the events of a stream, with the
// kind of value at each; JSON in a string is looked into.
func shape(body []byte) map[string]bool {
	out := map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, child := range v {
				walk(path+"."+k, child)
			}
		case []any:
			for _, child := range v {
				walk(path+"[]", child)
			}
		case string:
			var inner any
			if strings.HasPrefix(strings.TrimSpace(v), "{") && json.Unmarshal([]byte(v), &inner) == nil {
				walk(path+"(json)", inner)
				return
			}
			out[path+" text"] = true
		case float64:
			out[path+" number"] = true
		case bool:
			out[path+" bool"] = true
		}
	}
	docs := [][]byte{body}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("data:")) {
		docs = nil
		for line := range bytes.Lines(body) {
			if rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:")); ok {
				docs = append(docs, rest)
			}
		}
	}
	for _, doc := range docs {
		var v any
		if json.Unmarshal(doc, &v) == nil {
			walk("", v)
		}
	}
	return out
}
