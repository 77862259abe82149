package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/domain/store"
)

// The figures of research. The vendors are the sandbox's, which answers after a
// latency that is set, and works on the same two cores.

// benchProgram is a whole program in this process, on its embedded parts where
// vars name no others.
func benchProgram(b *testing.B, vars map[string]string, prepare func(p *program)) (*program, string) {
	all := map[string]string{"TRUSTED_PROXIES": "127.0.0.1/32", "RESEARCH_WORKERS": "1000", "QUEUE_LIMITS": "tenant=100000,all=100000,wait=24h"}
	maps.Copy(all, vars)
	return served(b, configured(b, all), slog.DiscardHandler, prepare)
}

// benchTenant is a customer whose limits are out of the way.
func benchTenant(b *testing.B, st *store.Store, base, name string) client {
	anyone := client{b, base, http.Header{"X-Forwarded-For": {fmt.Sprintf("10.1.%d.%d", len(name), name[len(name)-1])}}}
	out := anyone.must(201, "POST", "/api/v1/auth/signup", map[string]any{"email": name + "@example.org", "password": "correct horse battery", "full_name": name, "workspace_name": name, "accept_terms": true})
	tenant := out["tenant"].(map[string]any)["id"].(string)
	user := client{b, base, http.Header{"Authorization": {"Bearer " + out["access_token"].(string)}}}
	key := user.must(201, "POST", "/api/v1/api-keys", map[string]any{"name": "bench", "scopes": []string{"research:run", "research:read", "match:run", "dataset:read", "dataset:write", "usage:read"}})
	sys := domain.System(context.Background(), "bench")
	plans, err := billing.New(sys, billing.Config{Store: st, Audit: audit.New(audit.Config{Store: st})})
	if err == nil {
		err = plans.SetPlan(sys, tenant, "enterprise", "bench", "bench")
	}
	for _, o := range []billing.Override{{Kind: "rate", Name: "research", Value: 1_000_000}, {Kind: "rate", Name: "data", Value: 1_000_000}, {Kind: "rate", Name: "match", Value: 10_000_000},
		{Kind: "quota", Name: "match", Value: -1}, {Kind: "quota", Name: "api_requests", Value: -1}, {Kind: "quota", Name: "relations_deep", Value: 1_000_000}} {
		o.Owned, o.Author, o.Reason = store.Owned{TenantID: tenant}, "bench", "bench"
		if err == nil {
			err = plans.Override(sys, o)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	c := client{b, base, http.Header{"X-Api-Key": {key["key"].(string)}}}
	until(b, "the plan is known", func() bool { // the former one is kept for a second
		return c.must(200, "GET", "/api/v1/usage", nil)["plan"] == "enterprise"
	})
	return c
}

func deepAsk(item string) map[string]any {
	return map[string]any{"mode": "deep", "institution": "Northmere University", "risk_items": []map[string]any{{"name": item}}}
}

// BenchmarkDeepRun: what a deep run takes beyond the time in which it waits for
// some vendor. The yardstick is that time, taken from the vendors' own log.
func BenchmarkDeepRun(b *testing.B) {
	for _, latency := range []time.Duration{100 * time.Millisecond, time.Second} {
		b.Run(latency.String(), func(b *testing.B) {
			p, base := benchProgram(b, nil, nil)
			c := benchTenant(b, p.store, base, "deep")
			p.sandbox.Set(sandbox.Settings{LatencyMS: int(latency.Milliseconds())})
			var waits, over []float64
			for range 3 {
				p.sandbox.Reset()
				start := time.Now()
				run := read(c, c.must(202, "POST", "/api/v1/entity-relations", deepAsk("Yunqi Institute of Applied Propulsion")))
				took := time.Since(start)
				if run.Status != research.Succeeded {
					b.Fatal(run.ErrorCode)
				}
				// The union of the times in which a vendor was asked.
				wait, until := time.Duration(0), time.Time{}
				for _, call := range p.sandbox.Calls() {
					from, to := call.At, call.At.Add(latency)
					if from.Before(until) {
						from = until
					}
					wait += max(to.Sub(from), 0)
					if to.After(until) {
						until = to
					}
				}
				waits, over = append(waits, wait.Seconds()), append(over, (took-wait).Seconds())
			}
			b.ReportMetric(median(waits), "s_of_vendors")
			b.ReportMetric(median(over)*1000, "ms_of_ours")
			b.ReportMetric(100*median(over)/median(waits), "%_overhead")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkMatchesBesideRuns: how long POST /matches takes at a steady rate, alone
// and beside so many deep runs that are all under way.
func BenchmarkMatchesBesideRuns(b *testing.B) {
	runs := 1000
	if os.Getenv("BENCH_FULL") == "" {
		runs = 200
	}
	const tenants = 4 // none takes more than half of the workers
	p, base := benchProgram(b, nil, func(p *program) { p.research.Share = runs / tenants })
	c := benchTenant(b, p.store, base, "beside")
	ds := c.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
	list := "name,country\n"
	for i := range 5000 {
		list += fmt.Sprintf("Research Institute Number %d,China\n", i)
	}
	c.importList(ds, list, "")
	var n atomic.Int64
	ask := func() time.Duration {
		body := fmt.Sprintf(`{"query":{"name":"Research Institute Number %d"},"limit":3}`, n.Add(1)%5000)
		start := time.Now()
		status, answer, err := roundTrip(http.DefaultClient, c.header, "POST", base+"/api/v1/matches", json.RawMessage(body))
		if err != nil || status != 200 {
			b.Errorf("%d %s %v", status, answer, err)
		}
		return time.Since(start)
	}
	const perSecond, forSeconds = 100, 15
	steady := func() (p50, p99 float64) { // at its own beat, whether the last answer has come or not
		var mu sync.Mutex
		var took []float64
		var wait sync.WaitGroup
		beat := time.NewTicker(time.Second / perSecond)
		defer beat.Stop()
		for range perSecond * forSeconds {
			<-beat.C
			wait.Go(func() {
				d := ask()
				mu.Lock()
				took = append(took, float64(d.Microseconds())/1000)
				mu.Unlock()
			})
		}
		wait.Wait()
		slices.Sort(took)
		return took[len(took)/2], took[len(took)*99/100]
	}
	steady() // warm
	p50, p99 := steady()
	b.ReportMetric(p50, "ms_p50_alone")
	b.ReportMetric(p99, "ms_p99_alone")
	p.sandbox.Set(sandbox.Settings{LatencyMS: 10_000, Spread: 0.8}) // some ten rounds of calls: two minutes of vendors' time a run
	for i := range tenants {
		other := benchTenant(b, p.store, base, "runs"+strconv.Itoa(i))
		for range runs / tenants {
			other.must(202, "POST", "/api/v1/entity-relations", deepAsk("Calder & Voss Holdings"))
		}
	}
	running := func() (n int64) {
		err := p.store.Read(domain.System(context.Background(), "bench"), func(ctx context.Context) error {
			return p.store.SQL(ctx, "SELECT count(*) FROM research_runs WHERE status = 'running'", nil).Scan(&n).Error
		})
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	until(b, "the runs are under way", func() bool { return running() >= int64(runs*9/10) })
	p50, p99 = steady()
	b.ReportMetric(float64(running()), "runs_under_way")
	b.ReportMetric(p50, "ms_p50_beside")
	b.ReportMetric(p99, "ms_p99_beside")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStreams: events to so many streams that are open on one process, and
// beside it a bare loop that writes as many bytes to as many sockets.
func BenchmarkStreams(b *testing.B) {
	streams, each := 10_000, 200
	if os.Getenv("BENCH_FULL") == "" {
		streams = 2_000
	}
	open := make(chan struct{})
	box, err := sandbox.Start(sandbox.Config{Logger: slog.New(slog.DiscardHandler), Gate: func(r *http.Request, _, _ string) bool {
		select {
		case <-open:
			return true
		case <-r.Context().Done():
			return false
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer box.Close()
	h := newHouse(b)
	h.vars = append(h.vars, "TRUSTED_PROXIES=127.0.0.1/32", "SANDBOX="+strings.TrimSuffix(strings.TrimPrefix(box.URL(""), "http://"), "/"))
	base := h.start(0)
	st, err := store.Open(context.Background(), store.Config{Path: h.dataFile()})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	var wait, begun sync.WaitGroup
	var got, late atomic.Int64
	var mu sync.Mutex
	first := map[string]time.Time{} // event of a run
	var spread []float64            // ms from the first of its streams to each
	idle := rss(b, h)
	for i := range streams / each {
		c := benchTenant(b, st, base, "s"+string(rune('a'+i/26))+string(rune('a'+i%26)))
		id := c.must(202, "POST", "/api/v1/entity-relations", deepAsk("Yunqi Institute of Applied Propulsion"))["id"].(string)
		for range each {
			begun.Add(1)
			conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
			if err != nil {
				b.Fatal(err)
			}
			fmt.Fprintf(conn, "GET /api/v1/runs/%s/events HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: %s\r\nX-Forwarded-For: 10.%d.%d.%d\r\n\r\n", id, c.header.Get("X-Api-Key"), i, len(id), i)
			wait.Go(func() {
				defer conn.Close()
				lines := bufio.NewReaderSize(conn, 1024)
				opened, number := false, ""
				for {
					line, err := lines.ReadSlice('\n')
					if err != nil && err != bufio.ErrBufferFull {
						if !opened {
							begun.Done()
							late.Add(1)
						}
						return
					}
					switch {
					case !opened && bytes.HasPrefix(line, []byte("HTTP/1.1 ")) && !bytes.Contains(line, []byte(" 200 ")):
						late.Add(1)
					case !opened && bytes.HasPrefix(line, []byte(": open")):
						opened = true
						begun.Done()
					case bytes.HasPrefix(line, []byte("id: ")):
						number = id + string(line)
					case bytes.HasPrefix(line, []byte("event: ")):
						got.Add(1)
						now := time.Now()
						mu.Lock()
						if at, ok := first[number]; ok {
							spread = append(spread, float64(now.Sub(at).Microseconds())/1000)
						} else {
							first[number] = now
						}
						mu.Unlock()
						if bytes.Contains(line, []byte("succeeded")) || bytes.Contains(line, []byte("failed")) {
							return
						}
					}
				}
			})
		}
	}
	begun.Wait()
	kbEach := float64(rss(b, h)-idle) / float64(streams)
	before := got.Load()
	mu.Lock()
	spread = spread[:0]
	mu.Unlock()
	start := time.Now()
	close(open)
	wait.Wait()
	took := time.Since(start).Seconds()
	slices.Sort(spread)
	if late.Load() > 0 {
		b.Errorf("%d streams were refused or cut", late.Load())
	}
	b.ReportMetric(float64(streams), "streams")
	b.ReportMetric(kbEach, "KB_each")
	b.ReportMetric(float64(got.Load()-before)/took, "events/s")
	b.ReportMetric(spread[len(spread)*99/100], "ms_p99_behind_first")
	b.ReportMetric(bareWrites(b, 2000, 50), "bare_writes/s")
	b.ReportMetric(0, "ns/op")
}

// rss is what the server has in memory, in KB.
func rss(b *testing.B, h *house) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.procs[0].cmd.Process.Pid))
	if err != nil {
		b.Skip("memory is read from /proc")
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// bareWrites is the yardstick: a goroutine for each socket that writes an event's
// bytes, and a reader at its other end.
func bareWrites(b *testing.B, sockets, events int) float64 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	text := []byte("id: 17\nevent: query\ndata: " + strings.Repeat("x", 220) + "\n\n")
	var wait sync.WaitGroup
	ring := make(chan struct{})
	wait.Go(func() {
		for range sockets {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer conn.Close()
				<-ring
				for range events {
					_, _ = conn.Write(text)
				}
			})
		}
	})
	for range sockets {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		wait.Go(func() {
			defer conn.Close()
			lines := bufio.NewReaderSize(conn, 1024)
			for {
				if _, err := lines.ReadSlice('\n'); err != nil {
					return
				}
			}
		})
	}
	start := time.Now()
	close(ring)
	wait.Wait()
	return float64(sockets*events) / time.Since(start).Seconds()
}

// BenchmarkRelations: what deep runs over the invented web find of its relations,
// with a model that invents so much of its quotes and sources. Precision and recall
// are of verified edges between the right two.
func BenchmarkRelations(b *testing.B) {
	for _, rate := range []float64{0, 0.1, 0.3, 0.6, 0.9} {
		b.Run(fmt.Sprintf("error=%v", rate), func(b *testing.B) {
			p, base := benchProgram(b, nil, nil)
			c := benchTenant(b, p.store, base, "relations")
			p.sandbox.Set(sandbox.Settings{ErrorRate: rate, Seed: 11})
			pair := func(x, y string) string { return min(x, y) + "|" + max(x, y) }
			truly, found, right, verdicts := map[string]bool{}, map[string]bool{}, 0, 0
			for _, r := range p.sandbox.Truth().Relations {
				truly[pair(r.From, r.To)] = true
			}
			want := map[string]bool{}
			idOf := map[string]string{}
			for _, e := range p.sandbox.Truth().Entities {
				for _, n := range e.All() {
					idOf[n] = e.ID
				}
			}
			for inst, list := range truth(p.sandbox) {
				var items []map[string]any
				for _, v := range list {
					items = append(items, map[string]any{"name": nameOf(p.sandbox, v.RiskItem)})
					if v.Type == research.Direct {
						want[pair(inst, v.RiskItem)] = true
					}
					for _, through := range v.Through {
						if truly[pair(inst, through)] && truly[pair(through, v.RiskItem)] {
							want[pair(inst, through)], want[pair(through, v.RiskItem)] = true, true
						}
					}
				}
				run := read(c, c.must(202, "POST", "/api/v1/entity-relations", map[string]any{"mode": "deep", "institution": nameOf(p.sandbox, inst), "risk_items": items}))
				if run.Status != research.Succeeded {
					b.Fatalf("%s %s", run.Status, run.ErrorMessage)
				}
				for i, r := range run.Result.Relations {
					verdicts++
					if r.Type == list[i].Type || r.Type == list[i].Or {
						right++
					}
				}
				name := map[string]string{}
				for _, e := range run.Result.Entities {
					name[e.ID] = idOf[e.Name]
				}
				for _, e := range run.Result.Edges {
					if e.Verified {
						found[pair(name[e.From], name[e.To])] = true
					}
				}
			}
			hits, lost := 0, 0
			for f := range found {
				if truly[f] {
					hits++
				}
			}
			for w := range want {
				if !found[w] {
					lost++
				}
			}
			b.ReportMetric(float64(hits)/float64(len(found)), "precision")
			b.ReportMetric(1-float64(lost)/float64(len(want)), "recall")
			b.ReportMetric(float64(right)/float64(verdicts), "verdicts_right")
			b.ReportMetric(0, "ns/op")
		})
	}
}
