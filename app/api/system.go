package api

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Text serves a fixed answer made when it is asked for.
func Text(name, media string, fn func() (status int, body []byte)) Handler {
	h := Page(name, func(x *exchange) error {
		status, body := fn()
		x.c.Status(status).Set("Content-Type", media)
		return x.c.Send(body)
	})
	h.media = media
	return h
}

// View binds a method that makes an HTML page.
func View[In any](name string, fn func(context.Context, In) ([]byte, error)) Handler {
	return Handler{name: name, kind: "page", media: "text/html", in: reflect.TypeFor[In](), run: func(x *exchange, in any) (any, error) {
		body, err := fn(x.ctx, in.(In))
		if err != nil {
			return nil, err
		}
		x.c.Status(fiber.StatusOK).Set("Content-Type", "text/html; charset=utf-8")
		x.c.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		return nil, x.c.Send(body)
	}}
}

// JSON serves a state made when it is asked for.
func JSON[T any](name string, fn func() (status int, state T)) Handler {
	h := Text(name, "application/json", func() (int, []byte) {
		status, state := fn()
		body, err := json.Marshal(state)
		if err != nil {
			return fiber.StatusInternalServerError, nil
		}
		return status, body
	})
	h.out = reflect.TypeFor[T]()
	return h
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
