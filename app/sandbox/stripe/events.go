package stripe

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// delivery is one event on its way to one endpoint.
type delivery struct {
	id, url, secret string
	payload         []byte
	dropped         bool
}

// Fate is what befalls events on their way. Probabilities are of one delivery;
// everything is drawn from the server's seed.
type Fate struct {
	Duplicate float64 `json:"duplicate"` // delivered twice
	Drop      float64 `json:"drop"`      // lost until Resend
	Delay     float64 `json:"delay"`     // waits for the next round
	Reorder   bool    `json:"reorder"`   // a round's events come in any order
}

// emit makes an event of an object as it is now, and sends it to every endpoint
// that listens.
func (s *Server) emit(kind string, o object, previous object) {
	customer := o.str("customer")
	if o.str("object") == "customer" {
		customer = o.str("id")
	}
	data := object{"object": copyOf(o)}
	if previous != nil {
		data["previous_attributes"] = previous
	}
	ev := object{"id": s.id("evt"), "object": "event", "api_version": Version, "created": s.now(customer), "data": data, "livemode": false,
		"pending_webhooks": int64(0), "request": object{"id": nil, "idempotency_key": nil}, "type": kind}
	s.add(ev)
	send := func(url, secret string) {
		ev["pending_webhooks"] = ev.num("pending_webhooks") + 1
		payload, _ := json.Marshal(copyOf(ev))
		s.events = append(s.events, &delivery{id: ev.str("id"), url: url, secret: secret, payload: payload})
	}
	if s.WebhookURL != "" {
		send(s.WebhookURL, s.WebhookSecret)
	}
	for _, we := range s.all("webhook_endpoint", nil) {
		if on := we.strings("enabled_events"); slices.Contains(on, "*") || slices.Contains(on, kind) {
			send(we.str("url"), we.str("secret"))
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Sign makes the Stripe-Signature header of a payload.
func Sign(payload []byte, secret string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(payload)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// Waiting says how many deliveries have not been taken yet, beside the dropped:
// those that are on their way are among them.
func (s *Server) Waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = s.underway
	for _, d := range s.events {
		if !d.dropped {
			n++
		}
	}
	return n
}

// Deliver makes one round: what waits is sent once, as fate wills. What was not
// answered with 2xx waits for the next round, as at Stripe.
func (s *Server) Deliver(ctx context.Context, f Fate) error {
	s.mu.Lock()
	fate := rand.New(rand.NewPCG(s.Seed, uint64(s.serial)))
	var round, kept []*delivery
	for _, d := range s.events {
		switch {
		case d.dropped:
			kept = append(kept, d)
		case fate.Float64() < f.Drop:
			d.dropped = true
			kept = append(kept, d)
		case fate.Float64() < f.Delay:
			kept = append(kept, d)
		default:
			round = append(round, d)
			if fate.Float64() < f.Duplicate {
				round = append(round, d)
			}
		}
	}
	s.events = kept
	s.underway += len(round)
	if f.Reorder {
		fate.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
	}
	s.mu.Unlock()
	taken := map[*delivery]bool{}
	var failed error
	for _, d := range round {
		if err := s.post(ctx, d); err != nil {
			failed = err
		} else {
			taken[d] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underway -= len(round)
	for _, d := range round {
		if !taken[d] {
			taken[d] = true // a duplicate waits once
			s.events = append(s.events, d)
		}
	}
	return failed
}

// Resend sends what was dropped again, as an operator does in the dashboard.
func (s *Server) Resend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.events {
		d.dropped = false
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Server) post(ctx context.Context, d *delivery) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(d.payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Stripe/1.0 (sandbox)")
	req.Header.Set("Stripe-Signature", Sign(d.payload, d.secret, s.Config.Now()))
	res, err := s.Client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("webhook %s: %s", d.id, res.Status)
	}
	return nil
}

// Run delivers events as they come and lets time pass, until ctx ends.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
			s.Settle()
		}
		s.mu.Lock()
		f := s.fate
		s.mu.Unlock()
		if err := s.Deliver(ctx, f); err != nil && ctx.Err() == nil {
			s.Logger.Warn("a webhook was not taken; it is sent again", "error", err)
		}
	}
}
