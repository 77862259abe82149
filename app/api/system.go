package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"reflect"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Text serves a fixed answer made when it is asked for.
func Text(name, media string, fn func() (status int, body []byte)) Handler {
	return Page(name, func(x *exchange) error {
		status, body := fn()
		x.c.Status(status).Set("Content-Type", media)
		x.c.Set("Cache-Control", "no-store")
		if media == "text/html; charset=utf-8" {
			x.c.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		}
		return x.c.Send(body)
	})
}

// View binds a method that makes an HTML page.
func View[In any](name string, fn func(context.Context, In) ([]byte, error)) Handler {
	return Handler{name: name, kind: "page", in: reflect.TypeFor[In](), run: func(x *exchange, in any) (any, error) {
		body, err := fn(x.ctx, in.(In))
		if err != nil {
			return nil, err
		}
		x.c.Status(fiber.StatusOK).Set("Content-Type", "text/html; charset=utf-8")
		x.c.Set("Cache-Control", "no-store")
		x.c.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		return nil, x.c.Send(body)
	}}
}

// JSON serves a state made when it is asked for.
func JSON(name string, fn func() (status int, state any)) Handler {
	return Text(name, "application/json", func() (int, []byte) {
		status, state := fn()
		body, err := json.Marshal(state)
		if err != nil {
			return fiber.StatusInternalServerError, nil
		}
		return status, body
	})
}

// Metrics serves what a registry gathered, for Prometheus.
func Metrics(reg *prometheus.Registry) Handler {
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	return Text("api.Metrics", string(format), func() (int, []byte) {
		families, err := reg.Gather()
		if err != nil {
			return 500, nil
		}
		var b bytes.Buffer
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
				return 500, nil
			}
		}
		return 200, b.Bytes()
	})
}

// Docs is a readable page over the table: no script, nothing fetched.
func Docs(rows func() []Row) Handler {
	return Text("api.Docs", "text/html; charset=utf-8", func() (int, []byte) {
		var b strings.Builder
		b.WriteString(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>ChainReactions API</title>
<style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d9dee4;vertical-align:top}code{font:13px ui-monospace,monospace}@media(prefers-color-scheme:dark){body{background:#14171a;color:#e6e8ea}td,th{border-color:#333a41}a{color:#8ab4ff}}</style>
<h1>ChainReactions API</h1><p>The machine-readable document (OpenAPI 3.1, with every request and answer) is at <a href="/openapi.json">/openapi.json</a>.</p>
<table><thead><tr><th>Method<th>Path<th>What it does<th>Credential<th>Permission<th>Meter</thead><tbody>`)
		for _, r := range rows() {
			fmt.Fprintf(&b, "<tr><td><code>%s</code><td><code>%s</code><td>%s<td>%s<td>%s<td>%s\n", r.Method, html.EscapeString(r.Path), html.EscapeString(r.Summary), r.Credential, r.Permission, r.Meter)
		}
		b.WriteString("</tbody></table></html>")
		return 200, []byte(b.String())
	})
}
