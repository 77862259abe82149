package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/app/tracing"
)

// journal is a log that is looked into while it is written.
type journal struct {
	mu   sync.Mutex
	text []byte
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, b...)
	return len(b), nil
}

// find gives the first line with the message and that attribute, or nil.
func (j *journal) find(msg, name, value string) (line map[string]any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for text := range bytes.Lines(j.text) {
		line = nil
		if json.Unmarshal(text, &line) == nil && line["msg"] == msg && line[name] == value {
			return line
		}
	}
	return nil
}

// collector is who spans are sent to.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	raw   strings.Builder
	spans map[string]spanOf // by id
}

type spanOf struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
}

func newCollector(t *testing.T) *collector {
	c := &collector{spans: map[string]spanOf{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in struct {
			ResourceSpans []struct{ ScopeSpans []struct{ Spans []spanOf } }
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Key") != "of ours" || json.Unmarshal(body, &in) != nil {
			t.Errorf("%s %v %s", r.URL, r.Header, body)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		for _, rs := range in.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					c.spans[s.SpanID] = s
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// way gives the names from the first span of that trace to one that is named so,
// or nil where there is none.
func (c *collector) way(trace, name string) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.TraceID != trace || s.Name != name {
			continue
		}
		names = nil
		for {
			names = append([]string{s.Name}, names...)
			parent, ok := c.spans[s.ParentSpanID]
			if !ok {
				break
			}
			if parent.TraceID != trace {
				return nil
			}
			s = parent
		}
		return names
	}
	return nil
}

// traceOf gives the traces whose first span is named so.
func (c *collector) tracesOf(name string) (traces []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name {
			traces = append(traces, s.TraceID)
		}
	}
	return traces
}

// A request, the run that it asked for, its statements and the calls of vendors
// are one trace, which names routes, tables and operations and nobody's data. A
// stranger's trace is not joined.
func TestTraces(t *testing.T) {
	sink := newCollector(t)
	const strangers = "0123456789abcdef0123456789abcdef"
	var log journal
	p, base := served(t, configured(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": sink.URL, "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=of ours"}), tracing.Logs(slog.NewJSONHandler(&log, nil)), nil)
	p.sandbox.Fault(sandbox.Fault{Kind: "503", Times: 1})
	key := researcher(t, p, base, "traced")
	key.header.Set("Traceparent", "00-"+strangers+"-0123456789abcdef-01")
	status, raw, h := key.do("POST", "/api/v1/entity-relations", map[string]any{"mode": "normal", "institution": "Northmere University",
		"risk_items": []any{map[string]any{"name": "Qinglan University of Aerospace Technology"}}})
	var run map[string]any
	if err := json.Unmarshal(raw, &run); err != nil || status != 202 {
		t.Fatalf("%d %s", status, raw)
	}
	key.finished(run["id"].(string))
	defer func() {
		if t.Failed() {
			t.Log(sink.spans)
		}
	}()
	until(t, "the run's trace has come", func() bool {
		for _, trace := range sink.tracesOf("POST /api/v1/entity-relations") {
			way := sink.way(trace, provider.Gemini+" generate")
			if len(way) == 3 && way[0] == "POST /api/v1/entity-relations" && strings.HasPrefix(way[1], "job ") && trace != strangers && sink.way(trace, "INSERT research_runs") != nil {
				return true
			}
		}
		return false
	})
	// The lines of the request and of the job that it asked for are of its trace and
	// say its id; so a line leads to a trace, and a complaint to the lines.
	for _, msg := range []string{"request", "provider call tried again"} {
		line := log.find(msg, "request_id", h.Get("X-Request-Id"))
		if trace, _ := line["trace_id"].(string); sink.way(trace, "INSERT research_runs") == nil {
			t.Errorf("%q of the request does not lead to its trace: %v", msg, line)
		}
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	raw = []byte(sink.raw.String())
	for _, private := range []string{strangers, "traced", "example.org", "Northmere", "Qinglan", run["id"].(string), key.header.Get("X-Api-Key"), "ten_", "usr_"} {
		if strings.Contains(string(raw), private) {
			t.Errorf("the spans hold %q", private)
		}
	}
}
