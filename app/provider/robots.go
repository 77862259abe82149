package provider

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/temoto/robotstxt"
	"golang.org/x/sync/singleflight"

	"github.com/chainreactions/chainreactions/domain"
)

// What a site asks of robots (RFC 9309). Rules are kept for an hour, as its §2.4
// allows up to a day; a file that is not there allows all (§2.3.1.3), one that is
// there and cannot be had now allows nothing now (§2.3.1.4), which is a failure that
// passes and not the site's word. No more than 500 KiB of it are read (§2.5).

const (
	robotName    = "ChainReactions" // of userAgent
	robotsKept   = time.Hour
	robotsSites  = 4096
	robotsMost   = 500 << 10
	robotsTime   = 8 * time.Second
	siteRequests = 2 // to one site at a time
)

// site is what is known of one origin.
type site struct {
	rules *robotstxt.RobotsData
	slots chan struct{}
}

type robots struct {
	client *http.Client
	sites  *expirable.LRU[string, *site]
	asking singleflight.Group
}

func newRobots(client *http.Client) *robots {
	return &robots{client: client, sites: expirable.NewLRU[string, *site](robotsSites, nil, robotsKept)}
}

// permits says whether the site lets us read an address, and gives its record.
func (r *robots) permits(ctx context.Context, u *url.URL) (*site, *Failure) {
	origin := u.Scheme + "://" + u.Host
	s, known := r.sites.Get(origin)
	for !known {
		// One asks for all who wait; whoever asks may go away, and then the next does.
		asked := r.asking.DoChan(origin, func() (any, error) { return r.ask(ctx, origin) })
		select {
		case got := <-asked:
			if got.Err != nil && ctx.Err() == nil && got.Shared && got.Err.(*Failure).Reason == Canceled {
				continue
			}
			if got.Err != nil {
				return nil, got.Err.(*Failure)
			}
			s, known = got.Val.(*site), true
		case <-ctx.Done():
			return nil, &Failure{Provider: "web", Reason: Canceled, cause: ctx.Err(), free: true}
		}
	}
	path := u.EscapedPath()
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	if !s.rules.TestAgent(path, robotName) {
		return nil, &Failure{Provider: "web", Reason: Disallowed, Detail: "robots.txt of " + origin, free: true}
	}
	return s, nil
}

// ask reads the rules of a site.
func (r *robots) ask(ctx context.Context, origin string) (*site, error) {
	failed := func(reason Reason, err error) (*site, error) { // without a status: it is not the page's
		return nil, &Failure{Provider: "web", Reason: reason, Detail: "robots.txt: " + cut(err.Error(), 300), cause: err, free: true}
	}
	bounded, cancel := context.WithTimeout(ctx, robotsTime)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, http.MethodGet, origin+"/robots.txt", nil)
	if err != nil {
		return failed(Refused, err)
	}
	req.Header.Set("User-Agent", userAgent)
	status, body := http.StatusNotFound, []byte(nil)
	resp, err := r.client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		status = resp.StatusCode
		body, err = io.ReadAll(io.LimitReader(resp.Body, robotsMost))
	}
	switch {
	case err == nil && status >= 500:
		return failed(Overloaded, fmt.Errorf("HTTP %d", status))
	case err == nil:
	case domain.CodeOf(err) == "address_not_allowed":
		return failed(Refused, err) // nor is any page there
	case domain.CodeOf(err) == "too_many_redirects":
		status = http.StatusNotFound
	case ctx.Err() != nil:
		return failed(Canceled, ctx.Err())
	case bounded.Err() != nil:
		return failed(TimedOut, err)
	default:
		return failed(Unreachable, err)
	}
	if status < 200 || status > 299 {
		status, body = http.StatusNotFound, nil
	}
	rules, err := robotstxt.FromStatusAndBytes(status, body)
	if err != nil { // what nobody can read asks for nothing
		rules, _ = robotstxt.FromStatusAndBytes(http.StatusNotFound, nil)
	}
	s := &site{rules, make(chan struct{}, siteRequests)}
	r.sites.Add(origin, s)
	return s, nil
}
