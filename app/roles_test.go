package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
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
}

func (p *probe) run(ctx context.Context, base string, h http.Header) {
	c := &http.Client{}
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
			p.lastFailed = now
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

// The platform as five processes: each is killed and started again in turn,
// under load. What the others serve goes on without one failure, what the dead
// one served says 503 and when to come again, and is there again without a hand;
// no accepted import, no run and no metered unit is lost.
func TestEachRoleDies(t *testing.T) {
	box, err := sandbox.Start(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	db, redis := testdb.OnPostgres(t), testdb.StartRedis(t)
	h := newHouse(t, "DATABASE_URL="+db.URL, "REDIS_URL="+redis.URL,
		"GEMINI_API_KEY=sandbox", "GEMINI_BASE_URL="+box.URL(sandbox.Gemini), "SEARXNG_URL="+box.URL(sandbox.SearXNG),
		"LINKUP_API_KEY=sandbox", "LINKUP_BASE_URL="+box.URL(sandbox.Linkup))
	h.roles = []string{"gateway", "main", "dataset-search", "entity-relations", "dataset-matching"}
	for i := range h.roles {
		h.start(i)
	}
	gateway := h.procs[0].base
	until(t, "the gateway knows every role", func() bool {
		for _, path := range []string{"/api/v1/plans", "/api/v1/runs/x/findings", "/api/v1/runs", "/api/v1/matching/stats"} {
			res, err := http.DefaultClient.Get(gateway + path)
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
	header, tenant, dataset := customer(t, db, gateway, "split", 1_000_000, 100_000)
	plans, err := billing.New(t.Context(), billing.Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store})})
	if err != nil {
		t.Fatal(err)
	}
	if err := plans.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "test"); err != nil {
		t.Fatal(err)
	}
	key := client{t, gateway, header}
	var list strings.Builder
	list.WriteString("name,country\n")
	for i := range 3000 {
		fmt.Fprintf(&list, "Institute number %d of Somewhere,China\n", i)
	}
	key.importList(dataset, list.String(), "")
	small := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "small"})["id"].(string)
	key.importList(small, "name,country\nQinglan University of Aerospace Technology,China\n", "")
	ask := func(path string, body map[string]any) (id string) {
		until(t, "the plan allows research", func() bool {
			status, raw, _ := key.do("POST", path, body)
			var run struct{ ID string }
			_ = json.Unmarshal(raw, &run)
			id = run.ID
			return status == 202
		})
		return id
	}
	relations := map[string]any{"mode": "normal", "institution": "Northmere University", "risk_items": []any{map[string]any{"name": "Qinglan University of Aerospace Technology"}}}
	search := ask("/api/v1/dataset-searches", map[string]any{"institution": "Northmere University", "dataset_id": small})
	runs := []string{search}
	var imports []string

	probes := []*probe{
		{role: "main", method: "GET", path: "/api/v1/datasets/" + dataset},
		{role: "dataset-search", method: "GET", path: "/api/v1/runs/" + search + "/findings"},
		{role: "entity-relations", method: "GET", path: "/api/v1/runs?limit=1"},
		{role: "dataset-matching", method: "POST", path: "/api/v1/matches", body: anyName},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	for _, p := range probes {
		for range 2 {
			load.Go(func() { p.run(ctx, gateway, header) })
		}
	}
	settled := func() {
		for _, p := range probes {
			before, _, _, _ := p.state()
			until(t, p.role+" answers", func() bool { ok, _, _, _ := p.state(); return ok > before+20 })
		}
	}
	settled()
	for _, p := range probes {
		p.mu.Lock()
		t.Logf("quiet: %s p99 %v", p.role, percentile(p.took, .99))
		p.took = nil
		p.mu.Unlock()
	}
	for victim := 1; victim < len(h.roles); victim++ {
		imports = append(imports, importThrough(t, gateway, header, dataset, list.String()))
		runs = append(runs, ask("/api/v1/entity-relations", relations))
		failedBefore := map[string]int{}
		for _, p := range probes {
			_, failedBefore[p.role], _, _ = p.state()
		}
		died := time.Now()
		h.kill(victim)
		var own *probe
		for _, p := range probes {
			if p.role == h.roles[victim] {
				own = p
			}
		}
		until(t, own.role+" is out of rotation", func() bool {
			status, raw, answer := key.do(own.method, own.path, own.body)
			if status == 503 && (answer.Get("Retry-After") == "" || !bytes.Contains(raw, []byte("dependency_unavailable"))) {
				t.Fatalf("%d %s without Retry-After", status, raw)
			}
			return status == 503
		})
		out := time.Since(died)
		for _, p := range probes { // the others go on
			if p != own {
				before, _, _, _ := p.state()
				until(t, p.role+" goes on", func() bool { ok, _, _, _ := p.state(); return ok > before+50 })
			}
		}
		h.start(victim)
		back := time.Now()
		until(t, own.role+" is back", func() bool { _, _, lastOK, _ := own.state(); return lastOK.After(back) })
		settled()
		for _, p := range probes {
			_, failed, _, _ := p.state()
			if p != own && failed != failedBefore[p.role] {
				t.Errorf("%s failed %d times while %s was dead", p.role, failed-failedBefore[p.role], own.role)
			}
			p.mu.Lock()
			t.Logf("%s killed: %s p99 %v", own.role, p.role, percentile(p.took, .99))
			p.took = nil
			p.mu.Unlock()
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
	settled()
	stop()
	load.Wait()

	for _, id := range imports {
		until(t, "the import ends", func() bool {
			im := key.must(200, "GET", "/api/v1/imports/"+id, nil)
			if im["status"] == "failed" || im["status"] == "cancelled" {
				t.Fatalf("%v", im)
			}
			return im["status"] == "succeeded"
		})
	}
	for _, id := range runs {
		if run := key.finished(id); run["status"] != "succeeded" {
			t.Errorf("a run was lost: %v %v", run["status"], run["error"])
		}
	}
	matches := probes[3]
	ok, failed, _, _ := matches.state()
	until(t, "every match that was answered is counted", func() bool { used, _ := usageOf(t, header, gateway, "match"); return used >= int64(ok) })
	if used, _ := usageOf(t, header, gateway, "match"); used > int64(ok+failed)+20 { // and those asked by this test itself
		t.Errorf("%d matches counted, %d answered, %d not", used, ok, failed)
	}
	for _, p := range probes {
		if len(p.odd) > 0 {
			t.Errorf("%d answers that are neither success nor 503 with Retry-After; the first: %s", len(p.odd), p.odd[0])
		}
	}

	// A reader who leaves is gone behind the gateway too.
	run := ask("/api/v1/entity-relations", map[string]any{"mode": "deep", "institution": "Northmere University", "risk_items": []any{map[string]any{"name": "Qinglan University of Aerospace Technology"}}})
	reading, leave := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(reading, "GET", gateway+"/api/v1/runs/"+run+"/events", nil)
	req.Header = header.Clone()
	box.Set(sandbox.Settings{LatencyMS: 3000}) // the run lasts longer than this test looks at it
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

func percentile(took []time.Duration, p float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	took = slices.Clone(took)
	slices.Sort(took)
	return took[min(len(took)-1, int(float64(len(took))*p))]
}
