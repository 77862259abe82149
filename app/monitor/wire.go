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

// Memory is how the last pieces of real work with one dependency ended.
type Memory struct {
	mu     sync.Mutex
	failed int       // in a row
	last   time.Time // of these
}

// remembered is how long a failure counts where nobody has tried since.
const remembered = 5 * time.Minute

// Ended notes one.
func (m *Memory) Ended(well bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed++; well {
		m.failed = 0
	}
	m.last = time.Now()
}

// State is Down after three failures in a row, Degraded after fewer.
func (m *Memory) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.failed == 0 || time.Since(m.last) >= remembered:
		return Healthy
	case m.failed < 3:
		return Degraded
	}
	return Down
}

// Wire is a transport to one service that remembers how it answered, so that
// real work says how the service is.
type Wire struct {
	Memory
	Next     http.RoundTripper
	Emulated bool
}

// RoundTrip implements http.RoundTripper. Any answer but a fault of the
// server's, or a refusal of our key, is one of a healthy service.
func (w *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.Next.RoundTrip(r)
	if err != nil && r.Context().Err() != nil {
		return resp, err // the caller went away: that says nothing
	}
	w.Ended(err == nil && resp.StatusCode < 500 && resp.StatusCode != http.StatusUnauthorized)
	return resp, err
}

// Probe asks for the head of the address's root, which no service charges for,
// and adds what real work says.
func (w *Wire) Probe(ctx context.Context, address string) (State, string) {
	if !w.Emulated {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
		if err != nil {
			return Down, "has no address"
		}
		resp, err := w.Next.RoundTrip(req)
		if err != nil {
			return Down, "does not answer"
		}
		resp.Body.Close()
	}
	if s := w.State(); s != Healthy {
		return s, "does not do what it is asked"
	}
	if w.Emulated {
		return Emulated, ""
	}
	return Healthy, ""
}
