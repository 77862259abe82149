package tracing

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// Where nobody asked for traces nothing is made, and who asks for its parent
// hears of none.
func TestNoTraces(t *testing.T) {
	none := New(Config{})
	ctx, span := none.Start(t.Context(), "work", trace.SpanKindServer, "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	if ctx != t.Context() || span.IsRecording() || Parent(ctx) != "" {
		t.Error("there is a span")
	}
	if n := testing.AllocsPerRun(100, func() { none.Start(t.Context(), "work", trace.SpanKindServer, "") }); n > 0 {
		t.Errorf("%v allocations for nothing", n)
	}
	if err := none.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What another process says is gone on with where it is of the form, and is a new
// trace else; the log says which.
func TestParents(t *testing.T) {
	lost := httptest.NewServer(http.NotFoundHandler())
	defer lost.Close()
	var log bytes.Buffer
	to := New(Config{Endpoint: lost.URL, Share: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	const id, span = "0123456789abcdef0123456789abcdef", "0123456789abcdef"
	for parent, joined := range map[string]bool{
		"00-" + id + "-" + span + "-01":     true,
		"":                                  false,
		"00-" + id + "-" + span:             false,
		"01-" + id + "-" + span + "-01":     false,
		"00-" + id + "-" + span + "-01-x":   false,
		"00-" + id[1:] + "-" + span + "-01": false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01": false,
		"00-" + id + "-" + span + "-zz":                      false,
	} {
		ctx, s := to.Start(context.Background(), "work", trace.SpanKindServer, parent)
		if got := strings.Contains(Parent(ctx), id); got != joined || !s.IsRecording() {
			t.Errorf("%q: %q", parent, Parent(ctx))
		}
		var line bytes.Buffer
		slog.New(Logs(slog.NewTextHandler(&line, nil))).With("a", 1).InfoContext(ctx, "said")
		if !strings.Contains(line.String(), "trace_id="+s.SpanContext().TraceID().String()) {
			t.Error(line.String())
		}
		s.End()
	}
	// One that is told not to is not traced.
	if _, s := to.Start(context.Background(), "work", trace.SpanKindServer, "00-"+id+"-"+span+"-00"); s.IsRecording() {
		t.Error("it is traced all the same")
	}
	if err := to.Close(t.Context()); err != nil || !strings.Contains(log.String(), "spans are lost") || !strings.Contains(log.String(), "404") {
		t.Errorf("%v %s", err, log.String())
	}
}
