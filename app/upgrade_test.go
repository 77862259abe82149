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
	"sync/atomic"
	"testing"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
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

// PostgreSQL is restarted, and then lost for good, and its replica promoted, under
// two processes that know both by one address: what fails meanwhile says 503 and
// when to come again, what was acknowledged is there, the quota holds to the unit,
// and nobody touches the processes.
func TestReplicaIsPromoted(t *testing.T) {
	operations(t)
	pair := testdb.StartPostgresPair(t)
	server := testdb.StartRedis(t)
	h := newHouse(t, "DATABASE_URL="+pair.URL, "REDIS_URL="+server.URL)
	bases := h.startAll(2)
	st := pair.Open(t)
	const limit = 3000
	header, tenant, dataset := customer(t, testdb.DB{Store: st}, bases[0], "promoted", limit, 1_000_000)
	var made, calls, served, waits atomic.Int64
	var mu sync.Mutex
	var odd []string
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	for i := range 8 {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				method, path, body, want := "POST", "/api/v1/matches", any(anyName), 200
				if i%4 == 0 {
					path, body, want = "/api/v1/datasets", map[string]any{"name": fmt.Sprintf("list %d of %d", n, i)}, 201
				} else if i%4 == 1 {
					method, path, body = "GET", "/api/v1/datasets/"+dataset, nil
				}
				status, wait, text := asked(client, header, method, bases[(i+n)%2]+path, body)
				calls.Add(1)
				switch {
				case status == want && i%4 == 0:
					made.Add(1)
				case status == want && i%4 > 1:
					served.Add(1)
				case status == want:
				case status == 503 && wait != "":
					waits.Add(1)
				case status == 429 && wait != "" && strings.Contains(text, "quota_exceeded"):
				default:
					mu.Lock()
					odd = append(odd, fmt.Sprintf("%s %s: %d %s", method, path, status, text))
					mu.Unlock()
				}
			}
		})
	}
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		if len(odd) > 0 {
			t.Errorf("%d answers are neither success nor 503 with Retry-After; the first: %s; the last: %s", len(odd), odd[0], odd[len(odd)-1])
		}
	}()
	goesOn := func(what string) {
		t.Helper()
		before := made.Load()
		until(t, what, func() bool { return made.Load() > before+20 })
	}
	lost := func(what string) {
		t.Helper()
		before := waits.Load()
		until(t, what, func() bool { return waits.Load() > before+20 })
	}
	goesOn("rows are written")
	pair.StopPrimary()
	lost("callers hear of it")
	pair.StartPrimary(t)
	goesOn("rows are written after the restart")
	pair.StopPrimary()
	lost("callers hear of it again")
	pair.Promote(t)
	goesOn("rows are written to the promoted one")
	server.Kill()
	server.Start(t)
	goesOn("and after Redis came back empty")
	stop()
	load.Wait()
	for _, base := range bases {
		until(t, "all is well", func() bool {
			status, _, err := roundTrip(http.DefaultClient, http.Header{}, "GET", base+"/readyz", nil)
			return err == nil && status == 200
		})
	}
	var rows int64
	err := st.Read(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		return st.SQL(ctx, "SELECT count(*) FROM datasets WHERE tenant_id = @of", map[string]any{"of": tenant}).Scan(&rows).Error
	})
	if err != nil || rows < made.Load()+1 {
		t.Errorf("%d datasets were acknowledged, %d are there (%v)", made.Load()+1, rows, err)
	}
	ledger := func() int64 { used, _ := usageOf(t, header, bases[0], "match"); return used }
	until(t, "what was answered is in the ledger", func() bool { return ledger() >= served.Load() })
	until(t, "the rest of the quota can be used", func() bool {
		fire(t, header, bases, 12, 40)
		return ledger() >= limit
	})
	if ok, _, _ := fire(t, header, bases, 12, 10); ok != 0 || ledger() != limit {
		t.Errorf("%d more admitted, %d in the ledger on a quota of %d", ok, ledger(), limit)
	}
	t.Logf("%d calls, %d told to come again; %d rows acknowledged, %d there", calls.Load(), waits.Load(), made.Load()+1, rows)
}

// asked is roundTrip with Retry-After; a call without an answer is status 0.
func asked(c *http.Client, h http.Header, method, url string, body any) (status int, wait, text string) {
	keep := &kept{c.Transport, ""}
	status, raw, err := roundTrip(&http.Client{Transport: keep}, h, method, url, body)
	if err != nil {
		return 0, "", err.Error()
	}
	return status, keep.wait, string(raw)
}

// kept notes when an answer says to come again.
type kept struct {
	http.RoundTripper
	wait string
}

func (k *kept) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := k.RoundTripper.RoundTrip(req)
	if err == nil {
		k.wait = res.Header.Get("Retry-After")
	}
	return res, err
}
