package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/chainreactions/chainreactions/domain"
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
	if out == nil {
		x.c.Status(204)
		return nil
	}
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	x.c.Status(status).Set("Content-Type", "application/json")
	x.c.Set("Cache-Control", "no-store")
	return x.c.Send(body)
}

// download streams what fn writes. fasthttp asks for the body after the
// handler has returned, so fn runs in a goroutine that a pipe holds to the
// client's pace, and the handler waits for its first bytes or its failure.
func (x *exchange) download(media, filename string, fn func(context.Context, io.Writer) error) error {
	r, w := io.Pipe()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), uploadTimeout)
	first := bufio.NewReaderSize(r, 64<<10)
	go func() {
		defer cancel()
		buffered := bufio.NewWriterSize(w, 32<<10)
		err := fn(ctx, buffered)
		if err == nil {
			err = buffered.Flush()
		}
		_ = w.CloseWithError(err) // nil is EOF; anything else cuts the answer short, visibly
	}()
	if _, err := first.Peek(1); err != nil && err != io.EOF {
		return err
	}
	x.c.Set("Content-Type", media)
	x.c.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", filename))
	x.c.Set("X-Content-Type-Options", "nosniff")
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

// stream sends server-sent events while fn runs. A comment line every 15 s
// keeps proxies from closing it and finds out that the reader has gone; all
// streams end when the server drains, and the client goes on elsewhere after
// Last-Event-ID.
func (x *exchange) stream(fn func(context.Context, Sink) error) error {
	c := x.c
	ctx, cancel := context.WithCancel(x.ctx)
	c.Status(200).Set("Content-Type", "text/event-stream")
	c.Set("Cache-Control", "no-store")
	c.Set("X-Accel-Buffering", "no")
	// A stale write deadline would stay on a kept-alive connection.
	c.Context().SetConnectionClose()
	x.streaming = true
	api := x.api
	api.streams.Add(1)
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer api.streams.Done()
		defer x.end()
		defer cancel()
		var mu sync.Mutex
		write := func(text string) error {
			mu.Lock()
			defer mu.Unlock()
			if _, err := w.WriteString(text); err != nil {
				cancel()
				return err
			}
			if err := w.Flush(); err != nil {
				cancel()
				return err
			}
			return nil
		}
		_ = write(": open\nretry: 1000\n\n") // headers leave at once
		beat := time.NewTicker(15 * time.Second)
		defer beat.Stop()
		done := make(chan struct{})
		go func() {
			for {
				select {
				case <-beat.C:
					_ = write(": still here\n\n")
				case <-done:
					return
				}
			}
		}()
		err := fn(ctx, func(id, event string, data any) error {
			body, err := json.Marshal(data)
			if err != nil {
				return err
			}
			text := "event: " + event + "\ndata: " + string(body) + "\n\n"
			if id != "" {
				text = "id: " + id + "\n" + text
			}
			return write(text)
		})
		close(done)
		if err != nil && ctx.Err() == nil {
			body, _ := json.Marshal(map[string]string{"code": domain.CodeOf(err)})
			_ = write("event: error\ndata: " + string(body) + "\n\n")
		}
	})
	return nil
}
