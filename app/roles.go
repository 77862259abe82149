package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/cluster"
)

// Roles split traffic and work, never code: every process can do everything and
// is told what to do. A process serves the rows of its roles and those of the
// process itself; a gateway passes the others on; jobs are worked by lane.
var roles = []role{
	{"gateway", 3000, nil},
	{"main", 4000, []string{"default", "outbound"}},
	{"dataset-search", 4001, []string{"research"}},
	{"entity-relations", 4002, []string{"research"}},
	{"dataset-matching", 4003, []string{"default"}},
	{"worker", 4004, []string{"default", "outbound", "research"}},
}

type role struct {
	name  string
	port  int      // that it listens on where nothing else is said
	lanes []string // of jobs
}

// takeRoles reads --roles.
func (c *Config) takeRoles(list string) error {
	port := 3000
	if list != "all" {
		for _, name := range strings.Split(list, ",") {
			at := slices.IndexFunc(roles, func(r role) bool { return r.name == name })
			if at < 0 {
				return fmt.Errorf("--roles=%q: there is no role %q", list, name)
			}
			if len(c.Roles) == 0 {
				port = roles[at].port
			}
			c.Roles = append(c.Roles, name)
		}
		if c.DatabaseURL == "" || c.RedisURL == "" {
			return errors.New("--roles: several processes need DATABASE_URL and REDIS_URL; what is embedded belongs to one")
		}
	}
	c.HTTPAddr = cmp.Or(c.HTTPAddr, ":"+strconv.Itoa(port))
	return nil
}

// lanes are those whose jobs this process works; nil is all.
func (c *Config) lanes() []string {
	if len(c.Roles) == 0 {
		return nil
	}
	out := []string{}
	for _, r := range roles {
		if slices.Contains(c.Roles, r.name) {
			out = append(out, r.lanes...)
		}
	}
	return out
}

// parsePeers reads PEERS.
func parsePeers(text string) (map[string][]string, error) {
	var out map[string][]string
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		role, address, _ := strings.Cut(part, "=")
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[role] = append(out[role], address)
	}
	return out, nil
}

// serves reports whether rows of the role are this process's. Those of the
// gateway are about the process itself, or the same from everybody.
func (p *program) serves(role string) bool {
	return len(p.config.Roles) == 0 || role == "gateway" || slices.Contains(p.config.Roles, role)
}

func (p *program) split() api.Split {
	s := api.Split{Serves: p.serves}
	if slices.Contains(p.config.Roles, "gateway") {
		s.Members, s.Refresh = p.membersOf, func(ctx context.Context) {
			if p.config.Peers == nil {
				p.cluster.Refresh(ctx)
			} else {
				p.names.refresh(ctx, p.config.Peers)
			}
		}
	}
	return s
}

// membersOf are the addresses of a role's processes: from PEERS where it is set,
// else from the registry.
func (p *program) membersOf(role string) []string {
	if p.config.Peers == nil {
		return p.cluster.Members(role)
	}
	return p.names.resolve(p.config.Peers[role])
}

// names turns host names into every address that they have: a headless service of
// Kubernetes names one process a record. Nobody waits for the name servers but who
// has nobody to call.
type names struct {
	mu     sync.Mutex
	known  map[string][]string                                      // addresses, by host:port
	lookUp func(ctx context.Context, host string) ([]string, error) // nil is the system's
}

const resolveEvery = 2 * time.Second

func (n *names) resolve(list []string) (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range list {
		if host, _, err := net.SplitHostPort(name); err == nil && net.ParseIP(host) != nil {
			out = append(out, name)
		}
		out = append(out, n.known[name]...)
	}
	return out
}

// refresh asks the name servers. Where they do not answer, those of before may
// still be there.
func (n *names) refresh(ctx context.Context, peers map[string][]string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	lookUp := n.lookUp
	if lookUp == nil {
		lookUp = net.DefaultResolver.LookupHost
	}
	var asked sync.WaitGroup
	for _, list := range peers {
		for _, name := range list {
			host, port, err := net.SplitHostPort(name)
			if err != nil || net.ParseIP(host) != nil {
				continue
			}
			asked.Go(func() {
				found, err := lookUp(ctx, host)
				if err != nil {
					return
				}
				var addresses []string
				for _, ip := range found {
					addresses = append(addresses, net.JoinHostPort(ip, port))
				}
				n.mu.Lock()
				defer n.mu.Unlock()
				if n.known == nil {
					n.known = map[string][]string{}
				}
				n.known[name] = addresses
			})
		}
	}
	asked.Wait()
}

// watchPeers keeps what PEERS names up to date until ctx ends.
func (p *program) watchPeers(ctx context.Context) {
	if p.config.Peers == nil {
		return
	}
	t := time.NewTicker(resolveEvery)
	defer t.Stop()
	for {
		p.names.refresh(ctx, p.config.Peers)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// sharers is this process's place among those that serve calls of a class, which
// share its rate while Redis is away: a role's only process has all of it.
func (p *program) sharers(class string) (rank, of int) {
	var serving []string
	for _, row := range p.table {
		if row.Class == class && !slices.Contains(serving, row.Role) {
			serving = append(serving, row.Role)
		}
	}
	return p.cluster.Sharers(serving...)
}

// speaks reports whether this process raises the alerts: the first gateway,
// which sees all answers, or else the first process.
func (p *program) speaks() bool {
	for _, gateway := range p.cluster.Members("gateway") {
		switch {
		case gateway == p.address:
			return true
		case p.cluster.Healthy() || answers(gateway):
			return false
		} // else it may have died since Redis is away, and nobody would speak
	}
	rank, _ := p.cluster.Peers()
	return rank == 0
}

// answers reports whether a process lives.
func answers(address string) bool {
	resp, err := (&http.Client{Timeout: time.Second}).Get("http://" + address + "/livez")
	if err == nil {
		resp.Body.Close()
	}
	return err == nil
}

// announce puts this process into the registry.
func (p *program) announce(ctx context.Context, listens net.Addr) error {
	if p.cluster.Embedded() {
		return nil
	}
	serves := p.config.Roles
	if len(serves) == 0 {
		for _, r := range roles {
			serves = append(serves, r.name)
		}
	}
	p.address = p.config.Advertise
	if p.address == "" {
		host, port, err := net.SplitHostPort(listens.String())
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			if host, err = os.Hostname(); err != nil {
				return err
			}
		}
		p.address = net.JoinHostPort(host, port)
	}
	return p.cluster.Announce(ctx, &cluster.Member{Address: p.address, Roles: serves})
}

// leave takes it out again, and lets those who have not heard come for a while.
func (p *program) leave() {
	if p.address != "" {
		if err := p.cluster.Announce(context.Background(), nil); err != nil {
			p.log.Warn("other processes find out by themselves that this one stops", "error", err)
		}
	}
	time.Sleep(p.config.DrainWait)
}
