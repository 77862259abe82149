package stripe

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"
)

// tolerance is how far the signature's time may be from ours, either way.
const tolerance = 5 * time.Minute

// Verifier judges what claims to be an event.
type Verifier struct {
	Secrets []string // of the endpoint; two while they are rolled
	Live    bool     // the mode of our key: events of the other are not ours
	Now     func() time.Time
}

// Verify checks the raw body as it came: one changed byte is a refusal.
// stripe-go checks the signature, the age and the API version; that it is not
// from the future, and of our mode, are checked here.
func (v Verifier) Verify(body []byte, signature string) (Event, error) {
	if len(v.Secrets) == 0 {
		return Event{}, errors.New("no webhook secret is configured")
	}
	var err error
	for _, secret := range v.Secrets {
		// Our clock decides about time, so that tests can set it.
		ev, wrong := webhook.ConstructEventWithOptions(body, signature, secret, webhook.ConstructEventOptions{IgnoreTolerance: true})
		if wrong != nil {
			err = wrong
			continue
		}
		signed, wrong := signedAt(signature)
		if wrong != nil {
			return Event{}, wrong
		}
		if off := v.Now().Sub(signed); off > tolerance || off < -tolerance {
			return Event{}, fmt.Errorf("signed %s away from now", off.Round(time.Second))
		}
		if ev.Livemode != v.Live {
			return Event{}, fmt.Errorf("livemode is %t, ours is %t", ev.Livemode, v.Live)
		}
		out := eventOf(&ev)
		if out.ID == "" || out.Type == "" {
			return Event{}, errors.New("an event without id or type")
		}
		return out, nil
	}
	return Event{}, err
}

// signedAt reads t= of the header, which the signature covers.
func signedAt(header string) (time.Time, error) {
	var unix int64
	for _, part := range strings.Split(header, ",") {
		if n, ok := strings.CutPrefix(strings.TrimSpace(part), "t="); ok {
			var err error
			if unix, err = strconv.ParseInt(n, 10, 64); err != nil {
				return time.Time{}, err
			}
		}
	}
	return time.Unix(unix, 0), nil
}
