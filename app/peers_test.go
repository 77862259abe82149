package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
)

// A name of PEERS is every address that it has: a gateway that knows of nobody
// asks the name servers before it says so, hears of those that come and go, and
// keeps those of before while the name servers are away.
func TestNamesOfPeers(t *testing.T) {
	var mu sync.Mutex
	found, away := map[string][]string{"main": {"10.0.0.1", "10.0.0.2"}}, false
	peers, err := parsePeers("main=main:4000,main=127.0.0.1:4004,worker=[::1]:1, dataset-search=nobody:1")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{config: Config{Roles: []string{"gateway"}, Peers: peers}}
	p.names.lookUp = func(_ context.Context, host string) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		if away || found[host] == nil {
			return nil, errors.New("away")
		}
		return found[host], nil
	}
	s := p.split()
	want := func(role string, addresses ...string) {
		t.Helper()
		got := s.Members(role)
		slices.Sort(got)
		if !slices.Equal(got, addresses) {
			t.Errorf("%s is %v, want %v", role, got, addresses)
		}
	}
	want("main", "127.0.0.1:4004") // nobody waits for the name servers
	s.Refresh(t.Context())
	want("main", "10.0.0.1:4000", "10.0.0.2:4000", "127.0.0.1:4004")
	want("worker", "[::1]:1")
	want("dataset-search")
	found["main"] = []string{"10.0.0.2", "10.0.0.3"}
	s.Refresh(t.Context())
	want("main", "10.0.0.2:4000", "10.0.0.3:4000", "127.0.0.1:4004")
	away = true
	s.Refresh(t.Context())
	want("main", "10.0.0.2:4000", "10.0.0.3:4000", "127.0.0.1:4004")
	if _, err := parsePeers("main=main"); err == nil {
		t.Error("an address without a port is taken")
	}
}
