package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
)

// answer writes what the method gave, where the method has not written itself.
func (x *exchange) answer(out any) error {
	if x.streaming || x.row.Call.kind == "page" || x.row.Call.kind == "download" {
		return nil
	}
	status := x.row.Status
	if status == 0 {
		status = 200
	}
	if x.row.Call.cookie == "clear" {
		x.setRefresh("", 0)
		x.c.Set("Clear-Site-Data", `"cache", "storage"`)
	}
	if out == nil {
		x.c.Status(204)
		return nil
	}
	if next, ok := out.(interface{ Location() string }); ok && x.row.Call.kind == "redirect" {
		x.lead(next.Location())
		if t, ok := out.(interface {
			Cookie() (token string, life time.Duration)
		}); ok {
			if token, life := t.Cookie(); token != "" {
				x.setRefresh(token, life)
			}
		}
		if b, ok := out.(interface {
			BrowserCookie() (value string, life time.Duration)
		}); ok {
			if value, life := b.BrowserCookie(); value != "" {
				x.setBrowser(value, life)
			}
		}
		return nil
	}
	if work, ok := out.(interface{ Ended() bool }); ok && status == 202 && work.Ended() {
		status = 200 // what was accepted is done already: the caller had asked to wait
	}
	if t, ok := out.(interface {
		Cookie() (token string, life time.Duration)
	}); ok && x.row.Call.cookie == "set" {
		token, life := t.Cookie()
		x.setRefresh(token, life)
	}
	if s, ok := out.(interface{ Status() int }); ok && slices.Contains(x.row.Also, s.Status()) {
		status = s.Status()
	}
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	x.c.Status(status).Set("Content-Type", x.row.media())
	return x.c.Send(body)
}

// setRefresh keeps the refresh token where no script of a page can read it.
func (x *exchange) setRefresh(token string, life time.Duration) {
	cookie := &fiber.Cookie{Name: x.api.cookieName("refresh"), Value: token, Path: "/", HTTPOnly: true, Secure: x.api.secure,
		SameSite: fiber.CookieSameSiteStrictMode, MaxAge: int(life.Seconds())}
	if token == "" {
		cookie.Expires = time.Unix(1, 0)
	}
	x.c.Cookie(cookie)
}

// setBrowser ties a sign-in under way to its browser. It comes back with a
// navigation from another site's page, which Strict would keep away.
func (x *exchange) setBrowser(value string, life time.Duration) {
	x.c.Cookie(&fiber.Cookie{Name: x.api.cookieName("sso"), Value: value, Path: "/", HTTPOnly: true, Secure: x.api.secure,
		SameSite: fiber.CookieSameSiteLaxMode, MaxAge: int(life.Seconds())})
}

// lead sends a browser on.
func (x *exchange) lead(to string) int {
	x.c.Set("Location", to)
	x.c.Status(fiber.StatusSeeOther)
	return fiber.StatusSeeOther
}

// download streams what fn writes. fasthttp asks for the body after the
// handler has returned, so fn runs in a goroutine that a pipe holds to the
// client's pace, and the handler waits for its first bytes or its failure.
func (x *exchange) download(media, filename string, fn func(context.Context, io.Writer) error) error {
	r, w := io.Pipe()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), uploadTimeout)
	first := bufio.NewReaderSize(r, 64<<10)
	place := x.place
	x.place = nil
	go func() {
		defer cancel()
		if x.leave != nil {
			defer x.leave()
		}
		buffered := bufio.NewWriterSize(w, 32<<10)
		err := fn(ctx, buffered)
		if err == nil {
			err = buffered.Flush()
		}
		if place != nil {
			place()
		}
		_ = w.CloseWithError(err) // nil is EOF; anything else cuts the answer short, visibly
	}()
	if _, err := first.Peek(1); err != nil && err != io.EOF {
		return err
	}
	x.c.Set("Content-Type", media)
	x.c.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", filename))
	x.c.Status(200)
	x.c.Context().SetBodyStream(&stopper{first, r}, -1)
	return nil
}

// stopper ends the writing goroutine when the client has gone.
type stopper struct {
	io.Reader
	pipe *io.PipeReader
}

func (s *stopper) Close() error { return s.pipe.Close() }
