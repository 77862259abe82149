package api

import (
	"net/netip"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// addressBuckets shields the process from one address: generous for calls that
// carry a credential, tight for those that do not, where each costs a password
// hash or a mail. It is per process and forgets the least recent addresses; the
// limits that customers pay for are the plan's.
type addressBuckets struct {
	seen *lru.Cache[string, *rate.Limiter]
}

// perMinute is what an address may ask of a class; others share "".
var perMinute = map[string]struct{ every, burst int }{
	"auth": {30, 20},
	"mail": {2, 5},
	"open": {1200, 300},
	// Who keeps the processes asks from an address that callers may come from too.
	"probe": {60000, 5000},
	// Administrators use no tenant's plan: this alone bounds them.
	"admin": {600, 200},
	"":      {60000, 5000},
}

func newAddressBuckets() *addressBuckets {
	seen, _ := lru.New[string, *rate.Limiter](50_000)
	return &addressBuckets{seen}
}

// take gives the time to wait, or 0.
func (b *addressBuckets) take(ip string, row *Row) time.Duration {
	class := row.Class
	limit, ok := perMinute[class]
	if !ok {
		class, limit = "", perMinute[""]
	}
	key := class + "|" + ip
	l, ok := b.seen.Get(key)
	if !ok {
		l = rate.NewLimiter(rate.Limit(float64(limit.every)/60), limit.burst)
		if before, had, _ := b.seen.PeekOrAdd(key, l); had {
			l = before
		}
	}
	if l.Allow() {
		return 0
	}
	return time.Duration(float64(time.Minute)/float64(limit.every)).Round(time.Second) + time.Second
}

// clientIP is the peer, or what a trusted proxy says the peer was: the
// right-most address of X-Forwarded-For that is not itself a trusted proxy.
func (a *API) clientIP(c *fiber.Ctx) string {
	if ip := a.vouched(c); ip != "" {
		return ip
	}
	peer, ok := netip.AddrFromSlice(c.Context().RemoteIP())
	if !ok {
		return "unknown"
	}
	ip := peer.Unmap()
	if !a.trusted(ip) {
		return ip.String()
	}
	hops := strings.Split(c.Get("X-Forwarded-For"), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		ip = hop.Unmap()
		if !a.trusted(ip) {
			break
		}
	}
	return ip.String()
}

// trustedPeer reports whether who is connected is a trusted proxy.
func (a *API) trustedPeer(c *fiber.Ctx) bool {
	peer, ok := netip.AddrFromSlice(c.Context().RemoteIP())
	return ok && a.trusted(peer.Unmap())
}

func (a *API) trusted(ip netip.Addr) bool {
	for _, p := range a.proxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
