package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const docsStyle = `body{font:15px/1.5 system-ui;margin:0 auto;max-width:76rem;padding:1rem;color:#1b1f24;background:#fff}
nav{columns:3 16rem;font-size:14px}nav a{display:block}section{border-top:1px solid #d9dee4;margin-top:2rem;padding-top:.5rem}
table{border-collapse:collapse;width:100%;margin:.4rem 0}td,th{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #d9dee4;vertical-align:top}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f3f5f7;padding:.7rem;overflow:auto;border-radius:4px}h2 code{font-size:17px}
.m{display:inline-block;min-width:4.5rem;font-weight:600}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{background:#14171a;color:#e6e8ea}section,td,th{border-color:#333a41}pre{background:#1e2328}a{color:#8ab4ff}}`

// Docs is the API on a page, made of the same schemas as the document: no
// script, nothing fetched.
func Docs(of func() *API) Handler {
	sum := sha256.Sum256([]byte(docsStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	h := Page("api.Docs", func(x *exchange) error {
		x.c.Status(200).Set("Content-Type", "text/html; charset=utf-8")
		x.c.Set("Content-Security-Policy", policy)
		return x.c.SendString(of().page())
	})
	h.media = "text/html"
	return h
}

// page writes it.
func (d *document) page() string {
	a := d.api
	var b strings.Builder
	e := html.EscapeString
	b.WriteString(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>ChainReactions API</title><style>` + docsStyle + `</style></head><body>
<h1>ChainReactions API</h1><p>The machine-readable document (OpenAPI 3.1) is <a href="/openapi.json">/openapi.json</a>. People send <code>Authorization: Bearer</code>
with an access token, programs <code>X-API-Key</code>. Errors are <code>application/problem+json</code>: switch on <code>code</code>.
A POST may carry <code>Idempotency-Key</code>: the same key and request within 24 hours give the first answer again.</p><nav>`)
	for i := range a.rows {
		r := &a.rows[i]
		fmt.Fprintf(&b, `<a href="#%s"><span class="m">%s</span> <code>%s</code></a>`, anchor(r), r.Method, e(r.Path))
	}
	b.WriteString("</nav>\n")
	for i := range a.rows {
		r := &a.rows[i]
		s := d.shapes[r]
		fmt.Fprintf(&b, "<section id=%q><h2><span class=m>%s</span> <code>%s</code></h2><p>%s. %s</p>\n", anchor(r), r.Method, e(r.Path), e(r.Summary), code(e(describe(r))))
		if len(s.params) > 0 {
			b.WriteString("<table><thead><tr><th>Parameter<th>In<th>Type<th></thead><tbody>")
			for _, p := range s.params {
				fmt.Fprintf(&b, "<tr><td><code>%s</code><td>%s<td>%s<td>%s", e(p.name), p.where, e(d.typeOf(p.schema)), e(p.doc))
			}
			b.WriteString("</tbody></table>\n")
		}
		if s.body != nil {
			b.WriteString("<h3>Body</h3>")
			d.fields(&b, s.body)
		}
		fmt.Fprintf(&b, "<h3>Example</h3><pre>%s</pre>\n", e(d.curl(r, s)))
		d.answers(&b, r, s)
		b.WriteString("</section>\n")
	}
	b.WriteString("</body></html>")
	return b.String()
}

func (d *document) answers(b *strings.Builder, r *Row, s shape) {
	status := r.Status
	if status == 0 {
		status = 200
	}
	fmt.Fprintf(b, "<h3>Answers</h3><p><code>%d</code>", status)
	for _, e := range r.Call.events {
		fmt.Fprintf(b, " · event <code>%s</code>", html.EscapeString(e.name))
	}
	if r.Call.media != "" {
		fmt.Fprintf(b, " · <code>%s</code>", html.EscapeString(strings.ReplaceAll(r.Call.media, "|", ", ")))
	}
	b.WriteString("; problems: ")
	refusals := r.refusals(s)
	slices.Sort(refusals)
	for _, code := range refusals {
		fmt.Fprintf(b, "<code>%d</code> ", code)
	}
	b.WriteString("</p>\n")
	if r.Call.out != nil && r.Call.kind == "json" || r.Call.kind == "upload" {
		schema := d.registry.Schema(r.Call.out, true, bodyName(r)+"Answer")
		sample, _ := json.MarshalIndent(d.sample(schema, 0), "", "  ")
		fmt.Fprintf(b, "<details><summary>Answer</summary>")
		d.fields(b, schema)
		fmt.Fprintf(b, "<pre>%s</pre></details>\n", html.EscapeString(string(sample)))
	}
}

func (d *document) deref(s *huma.Schema) *huma.Schema {
	for s != nil && s.Ref != "" {
		s = d.registry.SchemaFromRef(s.Ref)
	}
	return s
}

// fields is a schema's properties as a table.
func (d *document) fields(b *strings.Builder, s *huma.Schema) {
	s = d.deref(s)
	if s == nil || len(s.Properties) == 0 {
		return
	}
	b.WriteString("<table><thead><tr><th>Field<th>Type<th></thead><tbody>")
	for _, name := range names(s) {
		p := s.Properties[name]
		must := ""
		if slices.Contains(s.Required, name) {
			must = ", required"
		}
		description := p.Description
		if description == "" {
			description = d.deref(p).Description
		}
		fmt.Fprintf(b, "<tr><td><code>%s</code><td>%s%s<td>%s", html.EscapeString(name), html.EscapeString(d.typeOf(p)), must, html.EscapeString(description))
	}
	b.WriteString("</tbody></table>\n")
}

func names(s *huma.Schema) []string {
	out := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		if name != "$schema" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// typeOf is a schema in a few words.
func (d *document) typeOf(s *huma.Schema) string {
	s = d.deref(s)
	if s == nil {
		return "any"
	}
	words := []string{s.Type}
	switch {
	case s.Type == "array":
		words = []string{"list of " + d.typeOf(s.Items)}
	case s.Type == "":
		words = []string{"any"}
	case s.Format != "":
		words = append(words, s.Format)
	}
	if s.Nullable {
		words = append(words, "or null")
	}
	if len(s.Enum) > 0 {
		var all []string
		for _, v := range s.Enum {
			all = append(all, fmt.Sprint(v))
		}
		words = append(words, "("+strings.Join(all, ", ")+")")
	}
	if s.Minimum != nil {
		words = append(words, fmt.Sprintf("≥ %g", *s.Minimum))
	}
	if s.Maximum != nil {
		words = append(words, fmt.Sprintf("≤ %g", *s.Maximum))
	}
	if s.MaxLength != nil {
		words = append(words, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	if s.Default != nil {
		words = append(words, fmt.Sprintf("default %v", s.Default))
	}
	return strings.Join(words, " ")
}

// sample makes a value that the schema accepts, for the reader.
func (d *document) sample(s *huma.Schema, depth int) any {
	s = d.deref(s)
	if s == nil || depth > 5 {
		return nil
	}
	switch {
	case s.Default != nil:
		return s.Default
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.Type {
	case "object":
		out := map[string]any{}
		for _, name := range names(s) {
			out[name] = d.sample(s.Properties[name], depth+1)
		}
		return out
	case "array":
		if item := d.sample(s.Items, depth+1); item != nil {
			return []any{item}
		}
		return []any{}
	case "string":
		switch s.Format {
		case "email":
			return "you@example.org"
		case "date-time":
			return "2026-11-25T12:00:00Z"
		}
		return "…"
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case "boolean":
		return true
	}
	return nil
}

// curl is one call of the row, to paste.
func (d *document) curl(r *Row, s shape) string {
	line := "curl"
	if r.Method != "GET" && r.Method != "POST" {
		line += " -X " + r.Method
	}
	if r.Call.kind == "sse" {
		line += " -N"
	}
	line += " $BASE" + r.Path
	switch r.Credential {
	case Public:
	case Session, Admin:
		line += ` -H "Authorization: Bearer $TOKEN"`
	default:
		line += ` -H "X-API-Key: $KEY"`
	}
	switch {
	case r.Call.kind == "upload":
		line += " -F file=@list.csv"
	case s.body != nil:
		schema, body := d.deref(s.body), map[string]any{}
		for _, name := range names(schema) {
			if slices.Contains(schema.Required, name) {
				body[name] = d.sample(schema.Properties[name], 0)
			}
		}
		text, _ := json.Marshal(body)
		line += " \\\n  -H 'Content-Type: application/json' -d '" + string(text) + "'"
	case r.Method == "POST":
		line += " -X POST"
	}
	return line
}

func anchor(r *Row) string {
	return strings.ToLower(r.Method) + strings.NewReplacer("/", "-", "{", "", "}", "").Replace(r.Path)
}

// code turns `words` into markup.
func code(s string) string {
	for strings.Count(s, "`") >= 2 {
		s = strings.Replace(strings.Replace(s, "`", "<code>", 1), "`", "</code>", 1)
	}
	return s
}
