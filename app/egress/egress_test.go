package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/chainreactions/chainreactions/domain"
)

// No spelling of an inner address is let through, and no ordinary address is
// refused.
func TestAddressesAreJudged(t *testing.T) {
	g := New(Config{})
	for _, raw := range []string{
		"http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://0x7f000001/", "http://0177.0.0.1/", "http://0/",
		"http://localhost/", "http://localhost./", "http://a.localhost/", "http://printer/", "http://db.internal/", "http://x.local/", "http://metadata.google.internal/",
		"http://169.254.169.254/latest/meta-data/", "http://100.100.100.200/", "http://168.63.129.16/", "http://10.1.2.3/", "http://172.31.0.1/", "http://192.168.0.1/",
		"http://100.64.0.1/", "http://198.18.0.1/", "http://224.0.0.1/", "http://255.255.255.255/", "http://[::1]/", "http://[::]/", "http://[fe80::1]/",
		"http://[fe80::1%25eth0]/", "http://[fd00::1]/", "http://[fc00::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:8.8.8.8]/", "http://[64:ff9b::7f00:1]/",
		"http://[2002:7f00:1::]/", "http://[2001:0:7f00:1::]/", "http://[fd00:ec2::254]/", "http://１２７.0.0.1/", "http://127。0。0。1/", "http://①②⑦.⓪.⓪.①/",
		"ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)", "http://user:pw@example.com/", "http://example.com:22/",
		"http://example.com:6379/", "http://example.com:0/", "http://", "http://a b.com/", "http://192.168.1/", "http://1.1.1.1.1/", "http://256.1.1.1/",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			continue // not an address at all
		}
		if err := g.Check(u); domain.CodeOf(err) != "address_not_allowed" {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{
		"http://example.com/", "https://example.com:443/x", "http://example.com.:8080/", "http://93.184.216.34/", "http://[2606:2800:220:1::1]/", "https://中国.example.cn/",
		"https://xn--fiqs8s.example.cn/", "http://www.1688.com/", "http://9.9.9.9/", "http://172.32.0.1/", "http://100.128.0.1/", "https://MIXED.Example.ORG/",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Check(u); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// names is a DNS server that answers from a function and counts what it was
// asked.
func names(t *testing.T, answer func(name string) []string) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			q := m.Questions[0]
			for _, s := range answer(strings.TrimSuffix(q.Name.String(), ".") + " " + q.Type.String()) {
				a := netip.MustParseAddr(s)
				h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0}
				if q.Type == dnsmessage.TypeA && a.Is4() {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
				} else if q.Type == dnsmessage.TypeAAAA && a.Is6() {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			out, _ := m.Pack()
			_, _ = conn.WriteTo(out, from)
		}
	}()
	return conn.LocalAddr().String()
}

// A name that resolves inward is refused whichever record says so; a redirect
// gets no further than a first request; and no connection is opened for what is
// refused.
func TestNamesAndRedirectsAreJudged(t *testing.T) {
	var hits atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		if r.URL.Path == "/loop" {
			http.Redirect(w, r, "/loop", http.StatusFound)
			return
		}
		fmt.Fprint(w, "page of "+r.Host)
	}))
	defer web.Close()
	table := map[string][]string{
		"good.example.org":    {"93.184.216.34"},
		"inner.example.org":   {"10.0.0.5"},
		"mixed.example.org":   {"93.184.216.34", "127.0.0.1"},
		"six.example.org":     {"::1"},
		"mapped.example.org":  {"::ffff:169.254.169.254"},
		"meta.example.org":    {"169.254.169.254"},
		"unique.example.org":  {"fd00:ec2::254"},
		"nowhere.example.org": {},
	}
	dns := names(t, func(q string) []string { return table[strings.Fields(q)[0]] })
	g := New(Config{Resolver: dns, DialOverride: strings.TrimPrefix(web.URL, "http://")})
	get := func(u string) (string, error) {
		resp, err := g.Client().Get(u)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if body, err := get("http://good.example.org/"); err != nil || body != "page of good.example.org" {
		t.Fatalf("%q %v", body, err)
	}
	before := hits.Load()
	for name := range table {
		if name == "good.example.org" || name == "nowhere.example.org" {
			continue
		}
		if _, err := get("http://" + name + "/"); domain.CodeOf(err) != "address_not_allowed" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := get("http://nowhere.example.org/"); err == nil {
		t.Error("a name without addresses was reached")
	}
	if hits.Load() != before {
		t.Errorf("%d connections for refused names", hits.Load()-before)
	}
	for _, to := range []string{"http://inner.example.org/", "http://127.0.0.1/", "file:///etc/passwd", "http://good.example.org:22/", "//meta.example.org/"} {
		before := hits.Load()
		if _, err := get("http://good.example.org/?to=" + url.QueryEscape(to)); err == nil {
			t.Errorf("followed a redirect to %s", to)
		}
		if hits.Load() != before+1 {
			t.Errorf("redirect to %s: %d requests", to, hits.Load()-before)
		}
	}
	before = hits.Load()
	if _, err := get("http://good.example.org/loop"); domain.CodeOf(err) != "too_many_redirects" {
		t.Errorf("loop: %v", err)
	}
	if n := hits.Load() - before; n != 6 {
		t.Errorf("%d requests in a loop, want the first and five redirects", n)
	}
}

// A name is resolved once for a connection: what it answers later is not asked.
func TestNamesArePinned(t *testing.T) {
	var asked atomic.Int64
	dns := names(t, func(q string) []string {
		if strings.HasSuffix(q, "TypeA") && asked.Add(1) == 1 {
			return []string{"93.184.216.34"}
		}
		if strings.HasSuffix(q, "TypeA") {
			return []string{"127.0.0.1"}
		}
		return nil
	})
	g := New(Config{Resolver: dns})
	addrs, err := g.resolve(context.Background(), "rebind.example.org")
	if err != nil || len(addrs) != 1 || addrs[0].String() != "93.184.216.34" || asked.Load() != 1 {
		t.Fatalf("%v %v after %d questions", addrs, err, asked.Load())
	}
	var e *domain.Error
	if _, err := g.Dial(context.Background(), "tcp", "rebind.example.org:80"); !errors.As(err, &e) || e.Code != "address_not_allowed" {
		t.Errorf("the second answer was believed: %v", err)
	}
}
