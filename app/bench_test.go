package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// bench is a whole program in this process with a customer whose limits are out
// of the way, and a bare Fiber handler that decodes the same body and answers
// the same bytes.
type bench struct {
	p          *program
	base       string
	body       []byte
	key        string
	bare       *fiber.App
	bareBase   string
	bareHandle fasthttp.RequestHandler
	chain      fasthttp.RequestHandler // the row of POST /matches with a method that gives the same answer at once
}

func newBench(b *testing.B, real bool) *bench {
	vars := map[string]string{"SANDBOX": "off", "TRUSTED_PROXIES": "127.0.0.1/32"}
	if real {
		vars["DATABASE_URL"], vars["REDIS_URL"] = testdb.OnPostgres(b).URL, testdb.StartRedis(b).URL
	}
	p, base := serve(b, vars)
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	out := &bench{p: p, base: base}

	header, _, ds := customer(b, testdb.DB{Store: p.store}, out.base, "bench", -1, 10_000_000)
	out.key = header.Get("X-Api-Key")
	list := "name,country\n"
	for i := range 500 {
		list += fmt.Sprintf("Research Institute Number %d,China\n", i)
	}
	client{b, out.base, header}.importList(ds, list, "")
	out.body, _ = json.Marshal(map[string]any{"query": map[string]any{"name": "Research Institute Number 77"}, "limit": 3})
	status, answer, err := roundTrip(http.DefaultClient, header, "POST", out.base+"/api/v1/matches", json.RawMessage(out.body))
	if err != nil || status != 200 {
		b.Fatalf("%d %s %v", status, answer, err)
	}

	out.bare = fiber.New(fiber.Config{DisableStartupMessage: true})
	out.bare.Post("/api/v1/matches", func(c *fiber.Ctx) error {
		var in dataset.MatchRequest
		if err := json.Unmarshal(c.Body(), &in); err != nil {
			return err
		}
		c.Set("Content-Type", "application/json")
		return c.Send(answer)
	})
	bareListener := listen()
	go func() { _ = out.bare.Listener(bareListener) }()
	b.Cleanup(func() { _ = out.bare.Shutdown() })
	var same dataset.MatchResponse
	if err := json.Unmarshal(answer, &same); err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(p.table, func(r api.Row) bool { return r.Method == "POST" && r.Path == "/api/v1/matches" })
	row := p.table[i]
	row.Call = api.Call("dataset.Match", func(context.Context, dataset.MatchRequest) (dataset.MatchResponse, error) { return same, nil })
	edge, err := p.edge([]api.Row{row}, nil)
	if err != nil {
		b.Fatal(err)
	}
	out.chain = edge.Handler()
	out.bareBase, out.bareHandle = "http://"+bareListener.Addr().String(), out.bare.Handler()
	return out
}

// fire asks n times over so many connections and gives calls per second.
func (x *bench) fire(b *testing.B, base string, connections, n int) float64 {
	var wg sync.WaitGroup
	host := &fasthttp.HostClient{Addr: base[len("http://"):], MaxConns: connections}
	defer host.CloseIdleConnections()
	start := time.Now()
	for range connections {
		wg.Add(1)
		go func() {
			defer wg.Done()
			req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			for range n / connections {
				x.request(req)
				req.SetRequestURI(base + "/api/v1/matches")
				if err := host.Do(req, res); err != nil || res.StatusCode() != 200 {
					b.Errorf("%d %s %v", res.StatusCode(), res.Body(), err)
					return
				}
			}
		}()
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds()
}

// request comes from many addresses, as an installation's do: one alone is held
// back by its address's bucket.
func (x *bench) request(req *fasthttp.Request) {
	req.Reset()
	req.Header.Set("X-Forwarded-For", netip.AddrFrom4([4]byte{10, byte(rand.N(256)), byte(rand.N(256)), 1}).String())
	req.Header.SetMethod("POST")
	req.Header.SetContentType("application/json")
	req.Header.Set("X-API-Key", x.key)
	req.SetBody(x.body)
}

// BenchmarkGuardedMatches: POST /matches through the whole chain, on a warm
// index, against the bare handler; over loopback, rounds interleaved, medians.
func BenchmarkGuardedMatches(b *testing.B) {
	for _, name := range []string{"embedded", "postgres+redis"} {
		b.Run(name, func(b *testing.B) {
			x := newBench(b, name != "embedded")
			const connections, n = 32, 6400
			var bare, guarded, ratio []float64
			for round := range 6 {
				one, two := x.fire(b, x.bareBase, connections, n), x.fire(b, x.base, connections, n)
				if round > 0 { // the first warms up
					bare, guarded, ratio = append(bare, one), append(guarded, two), append(ratio, two/one)
				}
			}
			b.ReportMetric(median(bare), "bare/s")
			b.ReportMetric(median(guarded), "guarded/s")
			b.ReportMetric(median(ratio), "of_bare")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(of []float64) float64 { slices.Sort(of); return of[len(of)/2] }

// BenchmarkChain: the same request without a network. "chain" less "bare" is
// what the guards cost, "guarded" less "chain" the match itself.
func BenchmarkChain(b *testing.B) {
	for _, name := range []string{"embedded", "postgres+redis"} {
		x := newBench(b, name != "embedded")
		for _, h := range []struct {
			name   string
			handle fasthttp.RequestHandler
		}{{"bare", x.bareHandle}, {"chain", x.chain}, {"guarded", x.p.api.Handler()}} {
			b.Run(name+"/"+h.name, func(b *testing.B) {
				b.ReportAllocs()
				var ctx fasthttp.RequestCtx
				var req fasthttp.Request
				for range b.N {
					x.request(&req)
					req.SetRequestURI("/api/v1/matches")
					req.Header.SetHost("127.0.0.1")
					ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
					h.handle(&ctx)
					if ctx.Response.StatusCode() != 200 {
						b.Fatalf("%s", ctx.Response.Body())
					}
				}
			})
		}
	}
}

// BenchmarkExactness prints who got in where 990 of 1,000 units are used.
func BenchmarkExactness(b *testing.B) {
	for _, line := range exactness(b) {
		b.Log(line)
	}
	b.ReportMetric(0, "ns/op")
}

// The process itself: from exec to ready on an empty folder and on one that is
// there, the answer to health, and what it holds when nobody asks.
func BenchmarkProcess(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "chainreactions")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for b.Loop() {
		dir, port := b.TempDir(), freePort(b)
		base := fmt.Sprintf("http://127.0.0.1:%d", port)
		start := func() (*exec.Cmd, time.Duration) {
			cmd := exec.Command(binary, "serve")
			cmd.Env = append(os.Environ(), "DATA_DIR="+dir, "LOG_LEVEL=error", "TRUSTED_PROXIES=127.0.0.1/32", fmt.Sprintf("HTTP_ADDR=127.0.0.1:%d", port))
			cmd.SysProcAttr = leashed()
			began := time.Now()
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			for {
				if res, err := http.Get(base + "/readyz"); err == nil {
					res.Body.Close()
					if res.StatusCode == http.StatusOK {
						return cmd, time.Since(began)
					}
				}
				if time.Since(began) > patience {
					b.Fatal("it is not ready")
				}
				time.Sleep(time.Millisecond)
			}
		}
		stop := func(cmd *exec.Cmd) time.Duration {
			began := time.Now()
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				b.Fatal(err)
			}
			return time.Since(began)
		}
		cmd, first := start()
		stop(cmd)
		cmd, ready := start()
		var took []time.Duration
		for i := range 2000 {
			req, _ := http.NewRequest("GET", base+"/api/health", nil)
			req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.0.%d.%d", i/250, i%250)) // many callers: one address may ask less
			began := time.Now()
			res, err := http.DefaultClient.Do(req)
			if err != nil || res.StatusCode != http.StatusOK {
				b.Fatal(err, res)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			took = append(took, time.Since(began))
			time.Sleep(2 * time.Millisecond)
		}
		slices.Sort(took)
		time.Sleep(5 * time.Second)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		_, rss, _ := strings.Cut(string(status), "VmRSS:")
		var kilobytes float64
		_, _ = fmt.Sscan(rss, &kilobytes)
		ended := stop(cmd)
		b.ReportMetric(first.Seconds()*1000, "first_start_ms")
		b.ReportMetric(ready.Seconds()*1000, "start_ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "health_p99_ms")
		b.ReportMetric(kilobytes/1024, "idle_MB")
		b.ReportMetric(ended.Seconds()*1000, "stop_ms")
		p99 := took[len(took)*99/100]
		for _, goal := range []struct {
			what, is, under string
			met             bool
		}{
			{"start to ready, on an empty folder", first.Round(time.Millisecond).String(), "1 s", first < time.Second},
			{"start to ready, again", ready.Round(time.Millisecond).String(), "1 s", ready < time.Second},
			{"health, p99 of " + fmt.Sprint(len(took)) + " calls", p99.Round(10 * time.Microsecond).String(), "5 ms", p99 < 5*time.Millisecond},
			{"idle memory of the all-in-one", fmt.Sprintf("%.0f MB", kilobytes/1024), "150 MB", kilobytes/1024 < 150},
		} {
			verdict := "met"
			if !goal.met {
				verdict = "MISSED"
			}
			b.Logf("%s: %s (goal: under %s, %s)", goal.what, goal.is, goal.under, verdict)
		}
	}
}
