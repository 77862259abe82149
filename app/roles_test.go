package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// probe asks one route again and again and keeps what came of it.
type probe struct {
	role, method, path string
	body               any
	mu                 sync.Mutex
	took               []time.Duration
	ok, failed         int
	odd                []string // answers that are neither success nor 503 with Retry-After
	lastOK, lastFailed time.Time
	why                string // the last one failed
}

// run asks until ctx ends, over one connection or over a new one each time.
func (p *probe) run(ctx context.Context, base string, h http.Header, keep bool) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: !keep}}
	defer c.CloseIdleConnections()
	for ctx.Err() == nil {
		var body io.Reader
		if p.body != nil {
			b, _ := json.Marshal(p.body)
			body = bytes.NewReader(b)
		}
		req, _ := http.NewRequest(p.method, base+p.path, body)
		req.Header = h.Clone()
		req.Header.Set("Content-Type", "application/json")
		started := time.Now()
		res, err := c.Do(req)
		status, wait, text := 0, "", ""
		if err == nil {
			raw, rerr := io.ReadAll(res.Body)
			res.Body.Close()
			status, wait, text, err = res.StatusCode, res.Header.Get("Retry-After"), string(raw), rerr
		}
		now := time.Now()
		p.mu.Lock()
		switch {
		case err == nil && status == 200:
			p.ok++
			p.lastOK = now
			p.took = append(p.took, now.Sub(started))
		case err != nil || status == 503 && wait != "":
			p.failed++
			p.lastFailed, p.why = now, fmt.Sprintf("%s %s: %d %s %v", p.method, p.path, status, text, err)
		default:
			p.odd = append(p.odd, fmt.Sprintf("%s %s: %d %s", p.method, p.path, status, text))
		}
		p.mu.Unlock()
		select {
		case <-time.After(10 * time.Millisecond): // a steady load, not a race for the machine
		case <-ctx.Done():
		}
	}
}

// state gives the counts so far.
func (p *probe) state() (ok, failed int, lastOK, lastFailed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ok, p.failed, p.lastOK, p.lastFailed
}

// lap gives how long the answers since the last lap took.
func (p *probe) lap() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := p.took
	p.took = nil
	return took
}

// platform is an installation of several processes under load.
type platform struct {
	*house
	t       *testing.T
	db      testdb.DB
	box     *sandbox.Sandbox // of its vendors
	sink    *collector       // of the traces that are asked for
	entry   string           // where callers come in
	header  http.Header
	key     client
	dataset string
	list    string // that is imported into it again and again
	small   string // a dataset of one entry
	probes  []*probe
	load    sync.WaitGroup
	stop    func()
	imports []string // that were accepted
	runs    []string
}

// newPlatform is not started yet.
func newPlatform(t *testing.T, roles ...string) *platform {
	box, err := sandbox.Start(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	p := &platform{t: t, db: testdb.OnPostgres(t), box: box, sink: newCollector(t)}
	p.house = newHouse(t, "DATABASE_URL="+p.db.URL, "REDIS_URL="+testdb.StartRedis(t).URL, "DRAIN_WAIT=1500ms", // longer than a gateway takes to hear of it
		"OTEL_EXPORTER_OTLP_ENDPOINT="+p.sink.URL, "OTEL_EXPORTER_OTLP_HEADERS=X-Key=of ours", "OTEL_TRACES_SAMPLER_ARG=0", "TRUSTED_PROXIES=127.0.0.1",
		"GEMINI_API_KEY=sandbox", "GEMINI_BASE_URL="+box.URL(sandbox.Gemini), "SEARXNG_URL="+box.URL(sandbox.SearXNG),
		"LINKUP_API_KEY=sandbox", "LINKUP_BASE_URL="+box.URL(sandbox.Linkup))
	p.roles = roles
	return p
}

// open waits until every role is known where callers come in, and begins the load.
func (p *platform) open(entry string) {
	t := p.t
	p.entry = entry
	knowsEveryRole(t, entry)
	var tenant string
	p.header, tenant, p.dataset = customer(t, p.db, entry, "split", 1_000_000, 100_000)
	plans, err := billing.New(t.Context(), billing.Config{Store: p.db.Store, Audit: audit.New(audit.Config{Store: p.db.Store})})
	if err != nil {
		t.Fatal(err)
	}
	if err := plans.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil {
		t.Fatal(err)
	}
	p.key = client{t, entry, p.header}
	var list strings.Builder
	list.WriteString("name,country\n")
	for i := range 3000 {
		fmt.Fprintf(&list, "Institute number %d of Somewhere,China\n", i)
	}
	p.list = list.String()
	p.key.importList(p.dataset, p.list, "")
	p.small = p.key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "small"})["id"].(string)
	p.key.importList(p.small, "name,country\nQinglan University of Aerospace Technology,China\n", "")
	search := p.ask("/api/v1/dataset-searches", map[string]any{"institution": "Northmere University", "dataset_id": p.small})
	p.probes = []*probe{
		{role: "main", method: "GET", path: "/api/v1/datasets/" + p.dataset},
		{role: "dataset-search", method: "GET", path: "/api/v1/runs/" + search + "/findings"},
		{role: "entity-relations", method: "GET", path: "/api/v1/runs?limit=1"},
		{role: "dataset-matching", method: "POST", path: "/api/v1/matches", body: anyName},
	}
	ctx, stop := context.WithCancel(t.Context())
	p.stop = func() { stop(); p.load.Wait() }
	t.Cleanup(p.stop)
	for _, one := range p.probes {
		for i := range 2 {
			p.load.Go(func() { one.run(ctx, entry, p.header, i == 0) })
		}
	}
}

// knowsEveryRole waits until a gateway does.
func knowsEveryRole(t *testing.T, entry string) {
	until(t, "the gateway knows every role", func() bool {
		for _, path := range []string{"/api/v1/plans", "/api/v1/runs/x/findings", "/api/v1/runs", "/api/v1/matching/stats"} {
			res, err := http.DefaultClient.Get(entry + path)
			if err != nil {
				return false
			}
			res.Body.Close()
			if res.StatusCode == 503 {
				return false
			}
		}
		return true
	})
}

// ask starts a run, as soon as the plan allows one.
func (p *platform) ask(path string, body map[string]any) (id string) {
	until(p.t, "the plan allows research", func() bool {
		status, raw, _ := p.key.do("POST", path, body)
		var run struct{ ID string }
		_ = json.Unmarshal(raw, &run)
		id = run.ID
		return status == 202
	})
	p.runs = append(p.runs, id)
	return id
}

// relations starts a run of that mode.
func (p *platform) relations(mode string) string {
	return p.ask("/api/v1/entity-relations", map[string]any{"mode": mode, "institution": "Northmere University", "risk_items": []any{map[string]any{"name": "Qinglan University of Aerospace Technology"}}})
}

// accept has the platform accept work, which it may not lose.
func (p *platform) accept() {
	p.imports = append(p.imports, importThrough(p.t, p.entry, p.header, p.dataset, p.list))
	p.relations("normal")
}

// settled waits until all roles answer.
func (p *platform) settled() { p.answer(20, nil) }

// answer waits until every role but one has answered so many more calls.
func (p *platform) answer(n int, but *probe) {
	for _, one := range p.probes {
		if one != but {
			before, _, _, _ := one.state()
			until(p.t, one.role+" answers", func() bool { ok, _, _, _ := one.state(); return ok > before+n })
		}
	}
}

// probeOf gives the probe of the role of a place.
func (p *platform) probeOf(place int) *probe {
	return p.probes[slices.IndexFunc(p.probes, func(one *probe) bool { return one.role == p.roles[place] })]
}

// failures counts what each role did not answer.
func (p *platform) failures() map[string]int {
	out := map[string]int{}
	for _, one := range p.probes {
		_, out[one.role], _, _ = one.state()
	}
	return out
}

// unnoticed does something that no caller may notice.
func (p *platform) unnoticed(what string, do func()) {
	p.t.Helper()
	before := p.failures()
	do()
	p.settled()
	for _, one := range p.probes {
		if _, failed, _, _ := one.state(); failed != before[one.role] {
			p.t.Errorf("%s: %d calls to %s failed, the last: %s", what, failed-before[one.role], one.role, one.why)
		}
	}
}

// whole holds the platform, after the load, to what it accepted: every import
// and run ends well, and what was answered is what is counted.
func (p *platform) whole() {
	for _, id := range p.imports {
		until(p.t, "the import ends", func() bool {
			im := p.key.must(200, "GET", "/api/v1/imports/"+id, nil)
			if im["status"] == "failed" || im["status"] == "cancelled" {
				p.t.Fatalf("%v", im)
			}
			return im["status"] == "succeeded"
		})
	}
	for _, id := range p.runs {
		if run := p.key.finished(id); run["status"] != "succeeded" {
			p.t.Errorf("a run was lost: %v %v", run["status"], run["error"])
		}
	}
	ok, failed, _, _ := p.probes[3].state()
	until(p.t, "every match that was answered is counted", func() bool {
		used, _ := usageOf(p.t, p.header, p.entry, "match")
		return used >= int64(ok)
	})
	if used, _ := usageOf(p.t, p.header, p.entry, "match"); used > int64(ok+failed)+20 { // and those asked by this test itself
		p.t.Errorf("%d matches counted, %d answered, %d not", used, ok, failed)
	}
	for _, one := range p.probes {
		if len(one.odd) > 0 {
			p.t.Errorf("%d answers that are neither success nor 503 with Retry-After; the first: %s", len(one.odd), one.odd[0])
		}
	}
}

// The platform as five processes: each is killed and started again in turn,
// under load. What the others serve goes on without one failure, what the dead
// one served says 503 and when to come again, and is there again without a hand;
// then two roles are replaced, and nobody notices; no accepted import, no run and
// no metered unit is lost.
func TestEachRoleDies(t *testing.T) {
	t.Parallel()
	h := newPlatform(t, "gateway", "main", "dataset-search", "entity-relations", "dataset-matching")
	gateway := h.startAll(len(h.roles))[0]
	h.open(gateway)
	key, header, dataset, probes := h.key, h.header, h.dataset, h.probes
	h.settled()
	for victim := 1; victim < len(h.roles); victim++ {
		h.accept()
		failedBefore := h.failures()
		own := h.probeOf(victim)
		died := time.Now()
		h.kill(victim)
		until(t, own.role+" is out of rotation", func() bool {
			status, raw, answer := key.do(own.method, own.path, own.body)
			if status == 503 && (answer.Get("Retry-After") == "" || !bytes.Contains(raw, []byte("dependency_unavailable"))) {
				t.Fatalf("%d %s without Retry-After", status, raw)
			}
			return status == 503
		})
		out := time.Since(died)
		h.answer(50, own) // the others go on
		h.start(victim)
		back := time.Now()
		until(t, own.role+" is back", func() bool { _, _, lastOK, _ := own.state(); return lastOK.After(back) })
		h.settled()
		for _, p := range probes {
			if _, failed, _, _ := p.state(); p != own && failed != failedBefore[p.role] {
				t.Errorf("%s failed %d times while %s was dead", p.role, failed-failedBefore[p.role], own.role)
			}
		}
		t.Logf("%s killed: out of rotation after %v, %d calls told to come again", own.role, out, func() int { _, f, _, _ := own.state(); return f - failedBefore[own.role] }())
	}
	// The gateway itself: the processes behind it are not touched, and serve who
	// comes to them directly.
	h.kill(0)
	if status, raw, err := roundTrip(http.DefaultClient, header, "GET", h.procs[1].base+"/api/v1/datasets/"+dataset, nil); err != nil || status != 200 {
		t.Errorf("main without a gateway: %d %s %v", status, raw, err)
	}
	if status, _, err := roundTrip(http.DefaultClient, header, "POST", h.procs[1].base+"/api/v1/matches", anyName); err != nil || status != 404 {
		t.Errorf("main serves what is not its own: %d %v", status, err)
	}
	h.start(0)
	h.settled()
	h.accept()
	h.unnoticed("main and dataset-matching are replaced", func() { h.replace([]int{1, 4}) })
	h.stop()
	h.whole()

	// Who is trusted may have a request traced, through the gateway and the process
	// that serves it to the job that another one works, and the rows that it writes.
	const trace, span = "0123456789abcdef0123456789abcdef", "0123456789abcdef"
	traced := header.Clone()
	traced.Set("Traceparent", "00-"+trace+"-"+span+"-01")
	importThrough(t, gateway, traced, dataset, h.list)
	const route = "POST /api/v1/datasets/{id}/imports"
	until(t, "the trace of an import is whole", func() bool {
		return slices.Equal(h.sink.way(trace, "job dataset.import"), []string{route, route, "job dataset.import"}) &&
			slices.Equal(h.sink.way(trace, "INSERT dataset_imports"), []string{route, route, "INSERT dataset_imports"}) &&
			slices.Equal(h.sink.way(trace, "redis evalsha"), []string{route, route, "redis evalsha"})
	})

	// A reader who leaves is gone behind the gateway too.
	run := h.relations("deep")
	reading, leave := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(reading, "GET", gateway+"/api/v1/runs/"+run+"/events", nil)
	req.Header = header.Clone()
	h.box.Set(sandbox.Settings{LatencyMS: 3000}) // the run lasts longer than this test looks at it
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != ": open\n" {
		t.Errorf("a stream through the gateway begins with %q, %v", line, err)
	}
	streams := func() string {
		_, raw, err := roundTrip(http.DefaultClient, http.Header{}, "GET", h.procs[3].base+"/metrics", nil)
		_, rest, _ := strings.Cut(string(raw), "\nchainreactions_event_streams ")
		n, _, _ := strings.Cut(rest, "\n")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := streams(); n != "1" {
		t.Errorf("%s streams are open", n)
	}
	leave()
	until(t, "the stream behind the gateway ends", func() bool { return streams() == "0" })
}

// What make check-roles measures, on a machine that has nothing else to do: how
// long answers of the others take while a role is killed, is away for some seconds
// and starts again, time after time until there are enough answers to have a 99th
// percentile, beside those of just before. What the first moments cost, in which a
// process and its connections are cleared away or made, is told apart. Then each process is stopped where it stands (SIGSTOP) and goes
// on: its callers hear of it within a second, and nobody else does.
func TestDeathsAreNotFelt(t *testing.T) {
	if os.Getenv("OPS_FULL") == "" {
		t.Skip("SKIPPED HERE: it takes minutes, and says something on a quiet machine alone; make check-roles runs it")
	}
	h := newPlatform(t, "gateway", "main", "dataset-search", "entity-relations", "dataset-matching")
	h.open(h.startAll(len(h.roles))[0])
	h.answer(200, nil) // so that all is warm
	const rounds, burst, while = 5, 45, 250
	var lines []string
	for victim := 1; victim < len(h.roles); victim++ {
		own := h.probeOf(victim)
		before := h.failures()
		quiet, dead, starting, rest := map[*probe][]time.Duration{}, map[*probe][]time.Duration{}, map[*probe][]time.Duration{}, map[*probe][]time.Duration{}
		lap := func(into map[*probe][]time.Duration) {
			for _, p := range h.probes {
				into[p] = append(into[p], p.lap()...)
			}
		}
		var out, back, cpu time.Duration // the longest, the longest, the sum
		for range rounds {
			h.settled()
			for _, p := range h.probes {
				p.lap()
			}
			h.answer(while, nil)
			lap(quiet)
			died := time.Now()
			h.kill(victim)
			until(t, own.role+" is out of rotation", func() bool { _, _, _, lastFailed := own.state(); return lastFailed.After(died) })
			_, _, _, heard := own.state()
			out = max(out, heard.Sub(died))
			h.answer(burst, own)
			lap(dead)
			h.answer(while, own)
			lap(rest)
			began := time.Now()
			h.start(victim)
			if took, ok := cpuTime(h.procs[victim].cmd.Process.Pid); ok {
				cpu += took
			}
			until(t, own.role+" is back", func() bool { _, _, lastOK, _ := own.state(); return lastOK.After(began) })
			_, _, answered, _ := own.state()
			back = max(back, answered.Sub(began))
			h.answer(burst, own)
			lap(starting)
			h.answer(while, own)
			lap(rest)
		}
		line := fmt.Sprintf("%s killed and started %d times (out within %v, back within %v of its start, which took %v of a core):", own.role, rounds,
			out.Round(time.Millisecond), back.Round(time.Millisecond), (cpu / rounds).Round(time.Millisecond))
		for _, p := range h.probes {
			if p == own {
				continue
			}
			q, whole := percentile(quiet[p], .99), slices.Concat(dead[p], starting[p], rest[p])
			of := func(took []time.Duration) float64 { return float64(percentile(took, .99)) / float64(q) }
			line += fmt.Sprintf("\n    %s p99 quiet %v; %.2f of that from kill until back and settled; right after the kill %.2f, right after the start %.2f (%d, %d, %d, %d answers)", p.role,
				q.Round(10*time.Microsecond), of(whole), of(dead[p]), of(starting[p]), len(quiet[p]), len(whole), len(dead[p]), len(starting[p]))
			if of(whole) > 1.5 {
				line += " NOT WITHIN 1.5"
				t.Errorf("%s is felt by %s", own.role, p.role)
			}
			if _, failed, _, _ := p.state(); failed != before[p.role] {
				t.Errorf("%s failed %d times while %s was dead, the last: %s", p.role, failed-before[p.role], own.role, p.why)
			}
		}
		t.Log(line)
		lines = append(lines, line)
	}
	for victim := 1; victim < len(h.roles); victim++ {
		own, before := h.probeOf(victim), h.failures()
		stopped := time.Now()
		if err := h.procs[victim].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		path := own.path
		if own.method != "GET" {
			path = "/api/v1/matching/stats"
		}
		brief := &http.Client{Timeout: 100 * time.Millisecond} // whoever comes first waits for it
		until(t, own.role+" is out of rotation", func() bool {
			status, _, err := roundTrip(brief, h.header, "GET", h.entry+path, nil)
			return err == nil && status == 503
		})
		heard := time.Now()
		h.answer(50, own)
		if err := h.procs[victim].cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		went := time.Now()
		until(t, own.role+" is back", func() bool { _, _, lastOK, _ := own.state(); return lastOK.After(went) })
		_, _, answered, _ := own.state()
		for _, p := range h.probes {
			if _, failed, _, _ := p.state(); p != own && failed != before[p.role] {
				t.Errorf("%s failed %d times while %s was stopped, the last: %s", p.role, failed-before[p.role], own.role, p.why)
			}
		}
		if heard.Sub(stopped) > time.Second {
			t.Errorf("%s was stopped, and out after %v", own.role, heard.Sub(stopped))
		}
		lines = append(lines, fmt.Sprintf("%s stopped: out after %v, back %v after it went on", own.role, heard.Sub(stopped).Round(time.Millisecond), answered.Sub(went).Round(time.Millisecond)))
	}
	h.stop()
	h.whole()
	t.Log("\n" + strings.Join(lines, "\n"))
}

// A process that starts collects less often, and as before once it serves; what
// GOGC says of more is left alone.
func TestStartCollectsLess(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for percent, meanwhile := range map[int]int{100: 400, 50: 400, 800: 800, -1: -1} {
		debug.SetGCPercent(percent)
		settle := putOffCollection()
		if got := debug.SetGCPercent(meanwhile); got != meanwhile {
			t.Errorf("%d is %d while it starts, want %d", percent, got, meanwhile)
		}
		settle()
		if got := debug.SetGCPercent(100); got != percent {
			t.Errorf("%d is %d once it serves", percent, got)
		}
	}
}

// A server that loses its listener ends, and says why: whoever keeps it can start
// another one.
func TestServerWithoutItsListenerEnds(t *testing.T) {
	p := testProgram(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.run(context.Background(), l) }()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on, and serves nobody")
	}
}

// A server that has no descriptor left for a connection goes on with those that it
// has, and takes others when there is room again.
func TestServerWithoutDescriptors(t *testing.T) {
	p := testProgram(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx, &exhausted{Listener: l, times: 3}) }()
	if status, _, err := roundTrip(http.DefaultClient, http.Header{}, "GET", "http://"+l.Addr().String()+"/livez", nil); err != nil || status != 200 {
		t.Errorf("%d %v", status, err)
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// exhausted accepts nothing the first times, as a process without descriptors.
type exhausted struct {
	net.Listener
	times int
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.times--; l.times >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// Of what is embedded there is one server; a second one says so and ends, and the
// first goes on.
func TestOneServerOfWhatIsEmbedded(t *testing.T) {
	dir := t.TempDir()
	_, base := serve(t, map[string]string{"DATA_DIR": dir})
	second, err := build(context.Background(), configured(t, map[string]string{"DATA_DIR": dir}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := second.run(context.Background(), l); err == nil || !strings.Contains(err.Error(), "another server works on "+dir) {
		t.Errorf("the second one: %v", err)
	}
	client{t, base, http.Header{}}.must(200, "GET", "/readyz", nil)
}

func importThrough(t *testing.T, base string, h http.Header, dataset, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("file", "list.csv")
	_, _ = io.WriteString(part, text)
	w.Close()
	req, _ := http.NewRequest("POST", base+"/api/v1/datasets/"+dataset+"/imports", &b)
	req.Header = h.Clone()
	req.Header.Set("Content-Type", w.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	var im struct{ ID string }
	if json.Unmarshal(raw, &im) != nil || res.StatusCode != 202 {
		t.Fatalf("import: %d %s", res.StatusCode, raw)
	}
	return im.ID
}

// cpuTime is what a process has had of the processors, in hundredths of a second:
// proc(5). It is known on Linux alone.
func cpuTime(pid int) (time.Duration, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, false
	}
	var user, system int
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, false
	}
	return time.Duration(user+system) * 10 * time.Millisecond, true
}

func percentile(took []time.Duration, p float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	took = slices.Clone(took)
	slices.Sort(took)
	return took[min(len(took)-1, int(float64(len(took))*p))]
}
