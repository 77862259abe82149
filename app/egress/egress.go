// Package egress is the only door to addresses that a customer, a page or a
// search result names. Behind it stand the pages that research reads and the
// webhooks that tenants ask for; its callers need not know which addresses are
// safe to reach.
//
// A name is resolved once, every address it has is judged, and the connection
// goes to one of the judged addresses: a name that answers differently the next
// time (DNS rebinding) gains nothing. Each redirect is a new name and goes
// through the same door. What is not on the public Internet is refused, by the
// IANA special-purpose registries (RFC 6890): loopback, private, link-local and
// so the cloud's metadata services, carrier-grade NAT, multicast, documentation,
// and every IPv6 form that carries an IPv4 address inside.
package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/chainreactions/chainreactions/domain"
)

// Config is all optional.
type Config struct {
	Resolver     string        // host:port of a DNS server in place of the system's; outside production only
	DialOverride string        // host:port that every permitted connection goes to; outside production only
	DialTimeout  time.Duration // 0 is 10 seconds
	MaxRedirects int           // 0 is 5
}

// Guard judges addresses and dials those that may be reached. It is safe for
// concurrent use.
type Guard struct {
	Config
	resolver  *net.Resolver
	transport *http.Transport
}

// New makes a Guard.
func New(c Config) *Guard {
	if c.DialTimeout <= 0 {
		c.DialTimeout = 10 * time.Second
	}
	if c.MaxRedirects <= 0 {
		c.MaxRedirects = 5
	}
	g := &Guard{Config: c, resolver: &net.Resolver{PreferGo: true}}
	if c.Resolver != "" {
		g.resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, c.Resolver)
		}
	}
	g.transport = &http.Transport{
		Proxy:                  nil, // a proxy would resolve the name itself, behind our back
		DialContext:            g.Dial,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // who reads a body bounds it after decompression
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
	}
	return g
}

// Client gives an HTTP client that reaches only what the guard permits, with
// no cookies and no proxy, and follows at most MaxRedirects redirects.
// Compressed bodies arrive compressed.
func (g *Guard) Client() *http.Client {
	return &http.Client{
		Transport: judged{g},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > g.MaxRedirects {
				return domain.E(domain.Unavailable, "too_many_redirects", "The address redirects without end.")
			}
			req.Header.Del("Referer")
			return nil // judged.RoundTrip looks at the new address
		},
	}
}

// judged looks at the address of every request, redirects included, before the
// transport may open or reuse a connection for it.
type judged struct{ g *Guard }

func (j judged) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := j.g.Check(req.URL); err != nil {
		return nil, err
	}
	return j.g.transport.RoundTrip(req)
}

// refuse is what every refused address looks like; which rule it broke is
// in the cause, for the log. A caller that learns more could map our network.
func refuse(why string) error {
	return domain.E(domain.Invalid, "address_not_allowed", "This address may not be reached from here.").Because(errors.New(why))
}

// ports are those that web sites are found on. Others belong to databases,
// mail and control planes, which an HTTP request may still harm.
var ports = []int{80, 81, 443, 8000, 8008, 8080, 8081, 8088, 8443, 8888}

// Check judges what can be judged of an address without resolving its name:
// for refusing early, when a webhook is stored. Dial judges the rest.
func (g *Guard) Check(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("scheme " + strconv.Quote(u.Scheme))
	case u.User != nil:
		return refuse("credentials in the address")
	case u.Opaque != "" || u.Host == "":
		return refuse("no host")
	}
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || !slices.Contains(ports, n) {
			return refuse("port " + p)
		}
	}
	_, _, err := host(u.Hostname())
	return err
}

// host reads a host the way a browser does and gives either a permitted
// literal address or a name to resolve.
func host(h string) (name string, addr netip.Addr, err error) {
	if strings.ContainsAny(h, "%\\/ ") {
		return "", addr, refuse("host " + strconv.Quote(h))
	}
	if strings.Contains(h, ":") {
		a, err := netip.ParseAddr(h)
		if err != nil || !Public(a) {
			return "", addr, refuse("address " + h)
		}
		return "", a, nil
	}
	name, err = idna.Lookup.ToASCII(strings.TrimSuffix(h, ".")) // also folds full-width digits and dots
	if err != nil || name == "" || len(name) > 253 {
		return "", addr, refuse("host " + strconv.Quote(h))
	}
	name = strings.ToLower(name)
	last := name[strings.LastIndexByte(name, '.')+1:]
	if digits(last) { // the URL standard reads 127.1, 0177.0.0.1 and 2130706433 as IPv4; we read only four decimal parts
		a, err := netip.ParseAddr(name)
		if err != nil || !Public(a) {
			return "", addr, refuse("address " + name)
		}
		return "", a, nil
	}
	if last == name { // localhost, and names that only a local resolver knows
		return "", addr, refuse("single label " + name)
	}
	for _, zone := range []string{"localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "home.arpa", "onion", "arpa"} {
		if last == zone || strings.HasSuffix(name, "."+zone) {
			return "", addr, refuse("zone of " + name)
		}
	}
	return name, addr, nil
}

func digits(label string) bool {
	if rest, hex := strings.CutPrefix(label, "0x"); hex {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// Dial opens a connection to address, host:port, if it may be reached.
func (g *Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	h, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, refuse("address " + strconv.Quote(address))
	}
	if n, err := strconv.Atoi(port); err != nil || !slices.Contains(ports, n) {
		return nil, refuse("port " + port)
	}
	ctx, cancel := context.WithTimeout(ctx, g.DialTimeout)
	defer cancel()
	addrs, err := g.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: g.DialTimeout}
	if g.DialOverride != "" {
		return d.DialContext(ctx, "tcp", g.DialOverride)
	}
	for _, a := range addrs {
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// resolve gives the addresses of a host, all of them permitted: one that is
// not makes the whole name suspect.
func (g *Guard) resolve(ctx context.Context, h string) ([]netip.Addr, error) {
	name, literal, err := host(h)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return []netip.Addr{literal}, nil
	}
	addrs, err := g.resolver.LookupNetIP(ctx, "ip", name+".") // the dot keeps search domains out
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: name, IsNotFound: true}
	}
	for i, a := range addrs {
		// The resolver gives an A record as ::ffff:a.b.c.d at times; that it was
		// an AAAA record cannot be told apart, so it is judged as IPv4.
		addrs[i] = a.Unmap()
		if !Public(addrs[i]) {
			return nil, refuse(name + " resolves to " + a.String())
		}
	}
	// IPv4 first: an IPv6 route is missing in many clusters.
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs, nil
}

// The registries of special addresses, less what lies inside another entry.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32", // Azure's host, on a public address
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

var globalV6 = netip.MustParsePrefix("2000::/3")

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Public reports whether an address is on the public Internet.
func Public(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !globalV6.Contains(a) { // IPv4-mapped, NAT64, unique local and link-local are outside 2000::/3
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

var _ = domain.Chinese(map[string]string{
	"The address redirects without end.":         "该地址不断重定向。",
	"This address may not be reached from here.": "不允许从此处访问该地址。",
})
