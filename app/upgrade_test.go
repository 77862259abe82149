package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chainreactions/chainreactions/app/sandbox"
)

// What is here takes minutes and needs HAProxy: make check-ops. A smaller upgrade
// is part of TestEachRoleDies.
func operations(t *testing.T) {
	if os.Getenv("OPS_FULL") == "" {
		t.Skip("SKIPPED HERE: it takes minutes and needs HAProxy; make check-ops runs it")
	}
}

// built gives a binary of the program, which says that version of itself: of this
// source, or of that of an older commit.
func built(t *testing.T, version, commit string) string {
	dir := t.TempDir()
	out, source := filepath.Join(dir, "chainreactions"), ".."
	if commit != "" {
		source = filepath.Join(dir, "source")
		archive := exec.Command("sh", "-c", `mkdir "$1" && git archive "$2" | tar -x -C "$1"`, "sh", source, commit)
		archive.Dir = ".."
		if text, err := archive.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w -X main.version="+version, "-o", out, "./app")
	build.Dir = source
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// reserved gives ports that the system hands out to nobody: they are listened on
// now and then.
func reserved(t *testing.T, n int) (ports []int) {
	for len(ports) < n {
		port := 12000 + rand.IntN(8000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

// balance puts HAProxy before gateways on those ports.
func balance(t *testing.T, gateways []int) (entry string) {
	port := freePort(t)
	var c strings.Builder
	fmt.Fprintf(&c, `defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 2s
  option http-server-close
  option redispatch 1
frontend callers
  bind 127.0.0.1:%d
  default_backend gateways
backend gateways
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host gateways
  http-check expect status 200
  default-server inter 100ms fall 1 rise 1
`, port)
	for i, g := range gateways {
		fmt.Fprintf(&c, "  server g%d 127.0.0.1:%d check\n", i, g)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("haproxy", "-q", "-db", "-f", file)
	cmd.SysProcAttr = leashed()
	if err := cmd.Start(); err != nil {
		t.Fatalf("HAProxy, which stands before the gateways: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// reader follows one run to its end, on as many connections as it takes.
type reader struct {
	connections int
	wrong       string
}

func (r *reader) follow(ctx context.Context, c client, run string) {
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for seen := 0; r.wrong == ""; {
		req, _ := http.NewRequestWithContext(ctx, "GET", c.base+"/api/v1/runs/"+run+"/events", nil)
		req.Header = c.header.Clone()
		req.Header.Set("Last-Event-ID", strconv.Itoa(seen))
		res, err := fresh.Do(req)
		if err != nil || res.StatusCode != 200 {
			r.wrong = fmt.Sprint("the stream does not go on: ", res, err)
			return
		}
		r.connections++
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				if seen++; id != strconv.Itoa(seen) {
					r.wrong = fmt.Sprintf("event %s comes %d.", id, seen)
				}
			}
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok && (name == "succeeded" || name == "failed" || name == "cancelled") {
				res.Body.Close()
				return
			}
		}
		res.Body.Close()
	}
}

// Every process of a platform is replaced by one of another build, and then by
// one of the former build again, under load: no call fails, every stream is read
// to its end without a gap, no accepted work and no metered unit is lost.
// OPS_FROM=commit takes an older commit for the former build.
func TestUpgrade(t *testing.T) {
	operations(t)
	from := os.Getenv("OPS_FROM")
	former, next := built(t, "1.0.0-former", from), built(t, "1.0.0-next", "")
	h := newPlatform(t, "gateway", "gateway", "main", "dataset-search", "entity-relations", "dataset-matching")
	gates := reserved(t, 4)
	h.binary = former
	h.procs = []*process{onPort(gates[0]), onPort(gates[1])}
	h.startAll(len(h.roles))
	h.open(balance(t, gates))
	h.settled()
	h.box.Set(sandbox.Settings{LatencyMS: 300}) // runs are under way while their processes go
	var readers []*reader
	var reading sync.WaitGroup
	for n, binary := range []string{next, former} {
		h.binary = binary
		what := []string{"upgrade", "rollback"}[n]
		for i, role := range h.roles {
			h.accept()
			r := &reader{}
			readers = append(readers, r)
			run := h.relations("deep")
			reading.Go(func() { r.follow(t.Context(), h.key, run) })
			var ports []int
			if i < 2 {
				ports = []int{gates[2*(1-n)+i]} // there and back
			}
			h.unnoticed(what+" of "+role, func() { h.replace([]int{i}, ports...) })
		}
		if from == "" {
			for _, p := range h.procs {
				want := `chainreactions_build_info{version="` + []string{"1.0.0-next", "1.0.0-former"}[n] + `"} 1`
				if _, raw, err := roundTrip(http.DefaultClient, http.Header{}, "GET", p.base+"/metrics", nil); err != nil || !strings.Contains(string(raw), want) {
					t.Errorf("after the %s a process does not say %s (%v)", what, want, err)
				}
			}
		}
	}
	h.stop()
	reading.Wait()
	connections := 0
	for _, r := range readers {
		connections += r.connections
		if r.wrong != "" {
			t.Error(r.wrong)
		}
	}
	if connections <= len(readers) {
		t.Error("no stream was broken: this proves nothing of streams")
	}
	h.whole()
	calls, lost := 0, 0
	for _, p := range h.probes {
		ok, failed, _, _ := p.state()
		calls, lost = calls+ok, lost+failed
		if failed > 0 {
			t.Errorf("%d calls to %s failed, the last: %s", failed, p.role, p.why)
		}
		t.Logf("%s: %d calls, p99 %v", p.role, ok, percentile(p.took, .99))
	}
	t.Logf("%d processes replaced there and back: %d calls answered, %d failed; %d streams over %d connections; %d imports and %d runs accepted, all done",
		len(h.roles), calls, lost, len(readers), connections, len(h.imports), len(h.runs))
}
