package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chainreactions/chainreactions/app/provider"
)

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
	p, base := serve(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": sink.URL, "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=of ours"})
	key := researcher(t, p, base, "traced")
	key.header.Set("Traceparent", "00-"+strangers+"-0123456789abcdef-01")
	run := key.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "normal", "institution": "Northmere University",
		"risk_items": []any{map[string]any{"name": "Qinglan University of Aerospace Technology"}}})
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
	sink.mu.Lock()
	defer sink.mu.Unlock()
	raw := sink.raw.String()
	for _, private := range []string{strangers, "traced", "example.org", "Northmere", "Qinglan", run["id"].(string), key.header.Get("X-Api-Key"), "ten_", "usr_"} {
		if strings.Contains(raw, private) {
			t.Errorf("the spans hold %q", private)
		}
	}
}
