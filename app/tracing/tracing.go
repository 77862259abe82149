// Package tracing hides how what one piece of work did, in every process that it
// went through, leaves for those who look at it: spans of OpenTelemetry, over
// OTLP/HTTP. Who does something takes the span from its context and makes a child
// of it; where nobody asked for traces that span is none, and costs a look.
//
// The exporter of OpenTelemetry's own modules brings gRPC and protobuf with it,
// for one POST; the same protocol in its JSON form is what is here.
package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chainreactions/chainreactions/domain"
)

// Config says where spans go. The names are those of OpenTelemetry's variables.
type Config struct {
	Endpoint string            // OTEL_EXPORTER_OTLP_ENDPOINT; "" is nowhere
	Headers  map[string]string // OTEL_EXPORTER_OTLP_HEADERS
	Share    float64           // of the work that nobody traces yet
	Version  string
	Instance string
	Logger   *slog.Logger
}

// Tracer begins what has no parent here. A nil one begins nothing.
type Tracer struct{ provider *sdk.TracerProvider }

// New makes a Tracer, or nil where there is no endpoint.
func New(c Config) *Tracer {
	if c.Endpoint == "" {
		return nil
	}
	e := &exporter{Config: c, url: strings.TrimSuffix(c.Endpoint, "/") + "/v1/traces", client: &http.Client{Timeout: 5 * time.Second}}
	t := sdk.NewTracerProvider(sdk.WithBatcher(e, sdk.WithBatchTimeout(time.Second)), sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(c.Share))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "chainreactions"), attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.Instance))))
	return &Tracer{t}
}

// Close sends what is left.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Start begins a span of that kind: of what came from elsewhere, where parent, in
// the form of Parent, says so.
func (t *Tracer) Start(ctx context.Context, name string, kind trace.SpanKind, parent string) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	if from, ok := read(parent); ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, from)
	}
	return t.provider.Tracer("chainreactions").Start(ctx, name, trace.WithSpanKind(kind))
}

// Parent is the span of ctx as another process reads it: the traceparent of the
// W3C's Trace Context. It is "" where there is none.
func Parent(ctx context.Context) string {
	s := trace.SpanContextFromContext(ctx)
	if !s.IsValid() {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-%s", s.TraceID(), s.SpanID(), s.TraceFlags())
}

// read is strict: what is not exactly of the form is none.
func read(parent string) (s trace.SpanContext, ok bool) {
	parts := strings.Split(parent, "-")
	if len(parts) != 4 || parts[0] != "00" || len(parts[3]) != 2 {
		return s, false
	}
	id, err := trace.TraceIDFromHex(parts[1])
	if err != nil {
		return s, false
	}
	span, err := trace.SpanIDFromHex(parts[2])
	if err != nil {
		return s, false
	}
	flags, err := strconv.ParseUint(parts[3], 16, 8)
	if err != nil {
		return s, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags) & trace.FlagsSampled, Remote: true}), true
}

// Logs has every line of a log that is written for some work say which trace and
// which request it belongs to, also where another process works what a request
// asked for.
func Logs(h slog.Handler) slog.Handler { return joined{h} }

type joined struct{ slog.Handler }

func (j joined) Handle(ctx context.Context, r slog.Record) error {
	if scope, ok := domain.ScopeOf(ctx); ok && scope.RequestID != "" {
		says := false // it itself
		r.Attrs(func(a slog.Attr) bool { says = a.Key == "request_id"; return !says })
		if !says {
			r.AddAttrs(slog.String("request_id", scope.RequestID))
		}
	}
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()), slog.String("span_id", s.SpanID().String()))
	}
	return j.Handler.Handle(ctx, r)
}

func (j joined) WithAttrs(attrs []slog.Attr) slog.Handler { return joined{j.Handler.WithAttrs(attrs)} }
func (j joined) WithGroup(name string) slog.Handler       { return joined{j.Handler.WithGroup(name)} }

// exporter posts spans. A collector that is away costs what it would have been
// told, and a line of the log a minute.
type exporter struct {
	Config
	url      string
	client   *http.Client
	grumbled atomic.Int64
}

// The JSON of OTLP: ids are in hexadecimal, times are texts.
type (
	value struct {
		Text *string `json:"stringValue,omitempty"`
		Int  *string `json:"intValue,omitempty"`
		Yes  *bool   `json:"boolValue,omitempty"`
	}
	pair struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	status struct {
		Code    int    `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}
	span struct {
		TraceID    string `json:"traceId"`
		SpanID     string `json:"spanId"`
		Parent     string `json:"parentSpanId,omitempty"`
		Name       string `json:"name"`
		Kind       int    `json:"kind"`
		Start      string `json:"startTimeUnixNano"`
		End        string `json:"endTimeUnixNano"`
		Attributes []pair `json:"attributes,omitempty"`
		Status     status `json:"status"`
	}
	scope struct {
		Spans []span `json:"spans"`
	}
	ofResource struct {
		Resource struct {
			Attributes []pair `json:"attributes"`
		} `json:"resource"`
		Scopes []scope `json:"scopeSpans"`
	}
	request struct {
		Resources []ofResource `json:"resourceSpans"`
	}
)

func pairs(list []attribute.KeyValue) (out []pair) {
	for _, a := range list {
		p := pair{Key: string(a.Key)}
		switch a.Value.Type() {
		case attribute.INT64:
			n := strconv.FormatInt(a.Value.AsInt64(), 10)
			p.Value.Int = &n
		case attribute.BOOL:
			yes := a.Value.AsBool()
			p.Value.Yes = &yes
		default:
			text := a.Value.String()
			p.Value.Text = &text
		}
		out = append(out, p)
	}
	return out
}

func (e *exporter) ExportSpans(ctx context.Context, list []sdk.ReadOnlySpan) error {
	if len(list) == 0 {
		return nil
	}
	all := make([]span, len(list))
	for i, s := range list {
		all[i] = span{TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(), Name: s.Name(), Kind: int(s.SpanKind()),
			Start: strconv.FormatInt(s.StartTime().UnixNano(), 10), End: strconv.FormatInt(s.EndTime().UnixNano(), 10), Attributes: pairs(s.Attributes())}
		if s.Parent().IsValid() {
			all[i].Parent = s.Parent().SpanID().String()
		}
		switch s.Status().Code { // OTLP numbers them the other way round
		case codes.Ok:
			all[i].Status.Code = 1
		case codes.Error:
			all[i].Status = status{2, s.Status().Description}
		}
	}
	one := ofResource{Scopes: []scope{{all}}}
	one.Resource.Attributes = pairs(list[0].Resource().Attributes())
	body, err := json.Marshal(request{[]ofResource{one}})
	if err == nil {
		err = e.post(ctx, body)
	}
	if now := time.Now().Unix(); err != nil && now-e.grumbled.Load() > 60 {
		e.grumbled.Store(now)
		e.Logger.Warn("spans are lost", "spans", len(list), "error", err)
	}
	return nil
}

func (e *exporter) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, v := range e.Headers {
		req.Header.Set(name, v)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answers %d", resp.StatusCode)
	}
	return nil
}

func (e *exporter) Shutdown(context.Context) error { e.client.CloseIdleConnections(); return nil }
