package monitor

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

func level(a Alert) slog.Level {
	switch {
	case a.Status == "resolved":
		return slog.LevelInfo
	case a.Severity == "critical":
		return slog.LevelError
	}
	return slog.LevelWarn
}

// Wire is a transport to one service that remembers how it answered, so that
// real work says how the service is.
type Wire struct {
	Next     http.RoundTripper
	Emulated bool

	mu     sync.Mutex
	failed int       // in a row
	last   time.Time // of these
}

// remembered is how long a failure counts where nobody has called since.
const remembered = 5 * time.Minute

// RoundTrip implements http.RoundTripper. Any answer but a fault of the
// server's is one of a healthy service.
func (w *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.Next.RoundTrip(r)
	if err != nil && r.Context().Err() != nil {
		return resp, err // the caller went away: that says nothing
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || resp.StatusCode >= 500 {
		w.failed, w.last = w.failed+1, time.Now()
	} else {
		w.failed = 0
	}
	return resp, err
}

// Probe asks for the head of the address's root, which no service charges for,
// and adds what real work says.
func (w *Wire) Probe(ctx context.Context, address string) State {
	if !w.Emulated {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
		if err != nil {
			return Down
		}
		resp, err := w.Next.RoundTrip(req)
		if err != nil {
			return Down
		}
		resp.Body.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.failed > 2 && time.Since(w.last) < remembered:
		return Down
	case w.failed > 0 && time.Since(w.last) < remembered:
		return Degraded
	case w.Emulated:
		return Emulated
	}
	return Healthy
}
