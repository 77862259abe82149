package api

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/chainreactions/chainreactions/domain"
)

// safeHeaders go on every answer (ASVS V3.4): no page may frame it, sniff it,
// or load it as its own. There is no CORS header: another site's script reads
// nothing. A page that needs scripts or styles sets a policy of its own over
// this one.
func safeHeaders(https bool) [][2]string {
	h := [][2]string{
		{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"},
		{"X-Content-Type-Options", "nosniff"},
		{"X-Frame-Options", "DENY"},
		{"Referrer-Policy", "no-referrer"},
		{"Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()"},
		{"Cross-Origin-Opener-Policy", "same-origin"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
		{"Cache-Control", "no-store"},
	}
	if https {
		h = append(h, [2]string{"Strict-Transport-Security", "max-age=31536000; includeSubDomains"})
	}
	return h
}

func (a *API) setHeaders(c *fiber.Ctx) {
	for _, h := range a.headers {
		c.Context().Response.Header.Set(h[0], h[1])
	}
}

// host gives the name that the request was sent to, as the tenant rule reads
// it: lower case, without port and trailing dot. What a proxy forwards counts
// only from a trusted one. ok is false for what no client sends by accident.
func (a *API) host(c *fiber.Ctx) (name string, ok bool) {
	raw := string(c.Context().Request.Header.Host())
	if forwarded := c.Get("X-Forwarded-Host"); forwarded != "" {
		if peer, known := netip.AddrFromSlice(c.Context().RemoteIP()); known && a.trusted(peer.Unmap()) {
			raw = forwarded
		}
	}
	name = raw
	if h, _, err := net.SplitHostPort(raw); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || strings.ContainsAny(name, "@/\\ ,?#%") || strings.Contains(name, "..") || strings.HasPrefix(name, ".") {
		return "", false
	}
	if strings.ContainsAny(name, ":[]") {
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err != nil {
			return "", false
		}
	}
	return name, true
}

// sameSite refuses a request that another site's page made, for the routes
// that a cookie opens. It is net/http's rule of CrossOriginProtection: the
// browser says where the request comes from, and who says nothing is no
// browser and carries no cookie of a victim.
func (x *exchange) sameSite() error {
	c := x.c
	switch c.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return nil
	case "":
		origin := c.Get("Origin")
		if origin == "" {
			return nil
		}
		if u, err := url.Parse(origin); err == nil && u.Host != "" &&
			(strings.EqualFold(u.Host, string(c.Context().Request.Header.Host())) || origin == x.api.baseURL) {
			return nil
		}
	}
	return domain.E(domain.Forbidden, "forbidden", "This comes from another site.")
}

// cookieName adds the prefix that ties a cookie to this host and to https
// (RFC 6265bis §4.1.3); a development server on plain http cannot have it.
func (a *API) cookieName(name string) string {
	if a.secure {
		return "__Host-" + name
	}
	return name
}
