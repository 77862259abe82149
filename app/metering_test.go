package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/app/cluster"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// These tests run the program as its users do: as processes, one on the
// embedded defaults or three over one PostgreSQL and one Redis, which are
// killed and emptied under them.

var seedFlag = flag.Uint64("seed", 0, "of the random tests; 0 takes one from the clock")

func seeded(t testing.TB) *rand.Rand {
	n := *seedFlag
	if n == 0 {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", n)
	return rand.New(rand.NewPCG(n, n))
}

// house is an installation: its processes share a data folder and what vars name.
type house struct {
	t      testing.TB
	vars   []string
	roles  []string // of each process; the rest have all
	binary string   // that is started; "" is this very test
	mu     sync.Mutex
	procs  []*process
}

type process struct {
	cmd  *exec.Cmd
	port int
	base string
}

func newHouse(t testing.TB, vars ...string) *house {
	h := &house{t: t, vars: append(vars, "CR_TEST_SERVE_ARGS=serve", "DATA_DIR="+t.TempDir(), "LOG_LEVEL=error", "SANDBOX=off")}
	t.Cleanup(func() {
		for i := range h.procs {
			h.kill(i)
		}
	})
	return h
}

// start adds a process, or starts the killed one of that place again.
func (h *house) start(i int) string {
	h.t.Helper()
	h.launch(i)
	h.ready(i)
	return h.procs[i].base
}

// startAll starts the first n processes at once.
func (h *house) startAll(n int) (bases []string) {
	h.t.Helper()
	for i := range n {
		h.launch(i)
	}
	for i := range n {
		h.ready(i)
		bases = append(bases, h.procs[i].base)
	}
	return bases
}

func onPort(port int) *process {
	return &process{port: port, base: fmt.Sprintf("http://127.0.0.1:%d", port)}
}

func (h *house) launch(i int) {
	h.t.Helper()
	if i == len(h.procs) {
		h.procs = append(h.procs, onPort(freePort(h.t)))
	}
	p, args := h.procs[i], []string{"serve"}
	if i < len(h.roles) {
		args = append(args, "--roles="+h.roles[i])
	}
	cmd := exec.Command(os.Args[0])
	if h.binary != "" {
		cmd = exec.Command(h.binary, args...)
	}
	cmd.Env = append(os.Environ(), append(h.vars, fmt.Sprintf("HTTP_ADDR=127.0.0.1:%d", p.port), "CR_TEST_SERVE_ARGS="+strings.Join(args, " "))...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = leashed()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	p.cmd = cmd
	h.mu.Unlock()
}

func (h *house) ready(i int) {
	h.t.Helper()
	probe := http.Client{Transport: http.DefaultClient.Transport, Timeout: 5 * time.Second}
	until(h.t, "the server is up", func() bool {
		res, err := probe.Get(h.procs[i].base + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200
	})
}

// replace puts processes of the present binary in the place of those that run:
// the new ones are ready before the former are told to stop, and these end in
// their own time and without an error. ports, where there are any, are the new
// ones'.
func (h *house) replace(places []int, ports ...int) {
	h.t.Helper()
	former := map[int]*process{}
	for n, i := range places {
		if n == len(ports) {
			ports = append(ports, freePort(h.t))
		}
		former[i], h.procs[i] = h.procs[i], onPort(ports[n])
		h.launch(i)
	}
	for _, i := range places {
		h.ready(i)
	}
	for _, p := range former {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range former {
		if err := p.cmd.Wait(); err != nil {
			h.t.Errorf("a process that was told to stop: %v", err)
		}
	}
}

func (h *house) kill(i int) {
	h.mu.Lock()
	cmd := h.procs[i].cmd
	h.procs[i].cmd = nil
	h.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// patience is how long a test waits for anything before it fails.
const patience = time.Minute

// until polls what happens in another process, where there is nothing to wait on.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// customer signs up at base, and gives a key's header, the tenant and one
// dataset. The quota of matches and their rate are set beside the plan.
func customer(t testing.TB, db testdb.DB, base, name string, quota, rate int64) (header http.Header, tenant, dataset string) {
	t.Helper()
	h := http.Header{}
	call := func(method, path string, body any) map[string]any {
		t.Helper()
		status, raw, err := roundTrip(http.DefaultClient, h, method, base+path, body)
		var out map[string]any
		if err != nil || status > 299 || json.Unmarshal(raw, &out) != nil {
			t.Fatalf("%s %s: %d %s %v", method, path, status, raw, err)
		}
		return out
	}
	signed := call("POST", "/api/v1/auth/signup", map[string]any{"email": name + "@example.org", "password": "correct horse battery",
		"full_name": name, "workspace_name": name, "accept_terms": true})
	tenant = signed["tenant"].(map[string]any)["id"].(string)
	h.Set("Authorization", "Bearer "+signed["access_token"].(string))
	key := call("POST", "/api/v1/api-keys", map[string]any{"name": "k", "scopes": []string{"dataset:read", "dataset:write", "match:run", "usage:read", "research:run", "research:read"}})
	h = http.Header{"X-Api-Key": {key["key"].(string)}}
	plans, err := billing.New(context.Background(), billing.Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store})})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []billing.Override{{Kind: "quota", Name: "match", Value: quota}, {Kind: "rate", Name: "match", Value: rate},
		{Kind: "quota", Name: "api_requests", Value: -1}, {Kind: "rate", Name: "data", Value: 100_000}, {Kind: "rate", Name: "light", Value: 100_000},
		{Kind: "quota", Name: "import_rows", Value: -1}, {Kind: "level", Name: "dataset_rows", Value: -1}, {Kind: "level", Name: "datasets", Value: -1}} {
		o.TenantID, o.Author, o.Reason = tenant, "test", "test"
		if err := plans.Override(domain.System(context.Background(), "test"), o); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the overrides are in force", func() bool {
		req, _ := http.NewRequest("GET", base+"/api/v1/usage", nil)
		req.Header = h
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		res.Body.Close()
		return strings.Contains(res.Header.Get("RateLimit-Policy"), "q=100000;")
	})
	dataset = call("POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
	return h, tenant, dataset
}

func roundTrip(c *http.Client, h http.Header, method, url string, body any) (int, []byte, error) {
	var r io.Reader
	if body != nil {
		b, _ := json.Marshal(body)
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		return 0, nil, err
	}
	req.Header = h.Clone()
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, raw, err
}

func usageOf(t testing.TB, h http.Header, base, meter string) (used, limit int64) {
	t.Helper()
	status, raw, err := roundTrip(http.DefaultClient, h, "GET", base+"/api/v1/usage", nil)
	var out billing.UsageResponse
	if err != nil || status != 200 || json.Unmarshal(raw, &out) != nil {
		t.Fatalf("usage: %d %s %v", status, raw, err)
	}
	for _, u := range out.Data {
		if u.Meter == meter && u.Limit != nil {
			return u.Used, *u.Limit
		} else if u.Meter == meter {
			return u.Used, -1
		}
	}
	return 0, -1
}

var anyName = map[string]any{"query": map[string]any{"name": "Institute of Nothing"}}

// fire asks for matches of the bases in turn from many callers at once.
func fire(t testing.TB, h http.Header, bases []string, callers, calls int) (ok, quota, other int64) {
	var served, refused, rest atomic.Int64
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	for i := range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range calls {
				status, raw, err := roundTrip(client, h, "POST", bases[(i+n)%len(bases)]+"/api/v1/matches", anyName)
				switch {
				case err == nil && status == 200:
					served.Add(1)
				case err == nil && status == 429 && bytes.Contains(raw, []byte("quota_exceeded")):
					refused.Add(1)
				default:
					if rest.Add(1) == 1 {
						t.Logf("the first answer of another kind: %d %s %v", status, raw, err)
					}
				}
			}
		}()
	}
	wg.Wait()
	return served.Load(), refused.Load(), rest.Load()
}

// Five hundred callers at once, through HTTP, on the ten units that are left of
// a quota of a thousand, get exactly these: one process, and three.
func exactness(t testing.TB) (report []string) {
	for _, processes := range []int{1, 3} {
		for try := 1; ; try++ {
			ok, quota, other := tenLeft(t, processes)
			if ok > 10 {
				t.Fatalf("%d processes: %d admitted of the 10 left", processes, ok)
			}
			if ok == 10 && quota == 490 {
				report = append(report, fmt.Sprintf("500 concurrent callers, 990 of 1,000 used, %d whole servers: %d admitted, %d refused", processes, ok, quota))
				break
			}
			// A Redis that did not answer in time, on a machine that is busy, puts a
			// process on its own counters for a moment: too few are admitted then.
			if t.Logf("%d processes: %d admitted, %d refused for the quota, %d other", processes, ok, quota, other); try == 3 {
				t.Fatal("not exact in three tries")
			}
		}
	}
	return report
}

func tenLeft(t testing.TB, processes int) (ok, quota, other int64) {
	db := testdb.OnPostgres(t)
	h := newHouse(t, "DATABASE_URL="+db.URL, "REDIS_URL="+testdb.StartRedis(t).URL)
	bases := h.startAll(processes)
	header, _, _ := customer(t, db, bases[0], "exact", 1000, 1_000_000)
	served := int64(0)
	until(t, "990 are used", func() bool {
		n, _, _ := fire(t, header, bases, 30, int(990-served)/30)
		one, _, _ := fire(t, header, bases, 1, int(990-served-n)%30)
		served += n + one
		return served == 990
	})
	ok, quota, other = fire(t, header, bases, 500, 1)
	for i := range h.procs {
		h.kill(i)
	}
	return ok, quota, other
}

func TestExactOnWholeServers(t *testing.T) {
	t.Parallel()
	exactness(t)
}

// Three processes under traffic, whose Redis is emptied and which are killed
// and started again at random: the quota is never passed, what was acknowledged
// is in the ledger once, and all of the quota can be used in the end.
func TestThreeProcessesThroughLoss(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	db, server := testdb.OnPostgres(t), testdb.StartRedis(t)
	h := newHouse(t, "DATABASE_URL="+db.URL, "REDIS_URL="+server.URL)
	bases := h.startAll(3)
	const limit = 4000
	header, _, _ := customer(t, db, bases[0], "loss", limit, 1_000_000)
	options, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()

	var acked, unknown, calls atomic.Int64 // unknown: the connection ended before the answer
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				status, _, err := roundTrip(client, header, "POST", bases[n%3]+"/api/v1/matches", anyName)
				calls.Add(1)
				switch {
				case err == nil && status == 200:
					acked.Add(1)
				case err != nil && !strings.Contains(err.Error(), "refused"):
					unknown.Add(1)
				}
			}
		}()
	}
	for range 8 {
		mark := calls.Load() + 100 + rnd.Int64N(150)
		until(t, "calls go on", func() bool { return calls.Load() >= mark })
		if rnd.IntN(2) == 0 {
			if err := rdb.FlushAll(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		victim := rnd.IntN(3)
		h.kill(victim)
		mark = calls.Load() + rnd.Int64N(100)
		until(t, "the others go on", func() bool { return calls.Load() >= mark })
		h.start(victim)
	}
	close(stop)
	wg.Wait()
	ledger := func() int64 { used, _ := usageOf(t, header, bases[0], "match"); return used }
	until(t, "every acknowledged unit is in the ledger", func() bool { return ledger() >= acked.Load() })
	if n := ledger(); n > acked.Load()+unknown.Load() || n > limit {
		t.Fatalf("%d in the ledger, %d acknowledged, %d unknown, quota %d", n, acked.Load(), unknown.Load(), limit)
	}
	t.Logf("%d calls, %d served, %d without an answer", calls.Load(), acked.Load(), unknown.Load())
	until(t, "what was stranded comes home", func() bool {
		fire(t, header, bases, 12, 40)
		return ledger() >= limit
	})
	if ok, _, _ := fire(t, header, bases, 12, 10); ok != 0 || ledger() != limit {
		t.Errorf("%d more admitted, %d in the ledger on a quota of %d", ok, ledger(), limit)
	}
}

// With Redis killed, three processes keep the plan's rate among them, say so,
// and nobody waits for the dead; with Redis back they share again by themselves.
func TestRedisAwayFromThreeProcesses(t *testing.T) {
	t.Parallel()
	db, server := testdb.OnPostgres(t), testdb.StartRedis(t)
	h := newHouse(t, "DATABASE_URL="+db.URL, "REDIS_URL="+server.URL)
	bases := h.startAll(3)
	const perMinute = 30
	header, _, _ := customer(t, db, bases[0], "away", 1_000_000, perMinute)
	health := func(base string) (status string) {
		code, raw, err := roundTrip(http.DefaultClient, http.Header{}, "GET", base+"/api/health", nil)
		var s state
		if err != nil || code != 200 || json.Unmarshal(raw, &s) != nil {
			t.Fatalf("health: %d %s %v", code, raw, err)
		}
		return s.Status
	}
	options, _ := redis.ParseURL(server.URL)
	rdb := redis.NewClient(options)
	defer rdb.Close()
	until(t, "all three have seen each other", func() bool { return rdb.ZCard(context.Background(), "{peers}").Val() == 3 })
	peersSeen := time.Now().Add(2 * cluster.BeatEvery)
	until(t, "each has heard of the others", func() bool { return time.Now().After(peersSeen) })
	began := time.Now()
	server.Kill()
	ok, quota, refused := fire(t, header, bases, 6, 40)
	// A full burst and the minute's rate for the time it took: the plan's own bound.
	most := perMinute + int64(time.Since(began).Minutes()*perMinute) + 1
	if ok == 0 || ok > most || quota != 0 || refused != 240-ok {
		t.Errorf("%d admitted of a rate of %d a minute, %d refused", ok, perMinute, refused)
	}
	for _, base := range bases {
		if s := health(base); s != "degraded" {
			t.Errorf("health says %s", s)
		}
		if _, raw, _ := roundTrip(http.DefaultClient, http.Header{}, "GET", base+"/metrics", nil); !bytes.Contains(raw, []byte("chainreactions_limits_degraded 1")) {
			t.Error("the metrics do not say that limits are kept locally")
		}
	}
	server.Start(t)
	until(t, "all share again", func() bool {
		return health(bases[0]) == "healthy" && health(bases[1]) == "healthy" && health(bases[2]) == "healthy"
	})
	until(t, "units are counted again by all", func() bool {
		served, _, _ := fire(t, header, bases, 1, 1)
		return served == 1 && len(rdb.Keys(context.Background(), "{ten_*:q:*").Val()) > 0
	})
	used, _ := usageOf(t, header, bases[0], "match")
	until(t, "the ledger has all", func() bool { used, _ = usageOf(t, header, bases[0], "match"); return used >= ok+1 })
}

// What a process that died had in its log alone may be the half of a quota: who
// comes next tells the tenant, and starts.
func TestUsageOfTheDeadIsTold(t *testing.T) {
	h := newHouse(t)
	base := h.start(0)
	st, err := store.Open(context.Background(), store.Config{Path: h.dataFile()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	header, _, _ := customer(t, testdb.DB{Store: st}, base, "told", 100, 1_000_000)
	used := func(n int64) func() bool {
		return func() bool { had, _ := usageOf(t, header, base, "match"); return had == n }
	}
	fire(t, header, []string{base}, 1, 49)
	until(t, "the ledger has them", used(49))
	fire(t, header, []string{base}, 1, 2)
	h.kill(0)
	base = h.start(0)
	until(t, "nothing is lost", used(51))
	until(t, "the tenant is told", func() bool {
		_, outbox, err := roundTrip(http.DefaultClient, http.Header{}, "GET", base+"/sandbox/mail", nil)
		return err == nil && bytes.Contains(outbox, []byte("50 % of your"))
	})
}

// Killed at random moments of imports, matches and usage writes, and started
// again each time: no accepted row, no committed job and no metered unit is
// lost or doubled, on either back end.
func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	for name, vars := range map[string]func(t *testing.T) (testdb.DB, []string){
		"embedded": func(t *testing.T) (testdb.DB, []string) { return testdb.DB{}, nil },
		"postgres and redis": func(t *testing.T) (testdb.DB, []string) {
			db := testdb.OnPostgres(t)
			return db, []string{"DATABASE_URL=" + db.URL, "REDIS_URL=" + testdb.StartRedis(t).URL}
		},
	} {
		t.Run(name, func(t *testing.T) {
			rnd := seeded(t)
			db, env := vars(t)
			h := newHouse(t, env...)
			base := h.start(0)
			if db.Store == nil {
				st, err := store.Open(context.Background(), store.Config{Path: h.dataFile()})
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				db.Store = st
			}
			header, _, dataset := customer(t, db, base, "killed", 100_000, 1_000_000)
			rows, imported := 0, 0
			var acked, unknown atomic.Int64
			var running []string
			for round := range 4 {
				var list strings.Builder
				list.WriteString("name,country\n")
				n := 2000 + rnd.IntN(2000)
				for i := range n {
					fmt.Fprintf(&list, "Institute %d of Round %d,China\n", i, round)
				}
				req, _ := http.NewRequest("POST", base+"/api/v1/datasets/"+dataset+"/imports", strings.NewReader(list.String()))
				req.Header = header.Clone()
				req.Header.Set("Content-Type", "text/csv")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				var im struct{ ID string }
				_ = json.NewDecoder(res.Body).Decode(&im)
				res.Body.Close()
				if res.StatusCode != 202 {
					t.Fatalf("import: %d", res.StatusCode)
				}
				running = append(running, im.ID)
				rows, imported = rows+n, imported+1
				var begun atomic.Int64
				when, die := 1+rnd.Int64N(120), make(chan struct{})
				var wg sync.WaitGroup
				for range 4 {
					wg.Add(1)
					go func() {
						defer wg.Done()
						client := &http.Client{Transport: &http.Transport{}}
						defer client.CloseIdleConnections()
						for range 60 {
							if begun.Add(1) == when {
								close(die)
							}
							status, _, err := roundTrip(client, header, "POST", base+"/api/v1/matches", anyName)
							switch {
							case err == nil && status == 200:
								acked.Add(1)
							case err != nil && strings.Contains(err.Error(), "refused"):
								return // it is dead
							case err != nil:
								unknown.Add(1)
							}
						}
					}()
				}
				<-die
				h.kill(0)
				wg.Wait()
				h.start(0)
			}
			for _, id := range running {
				until(t, "the import is finished", func() bool {
					_, raw, _ := roundTrip(http.DefaultClient, header, "GET", base+"/api/v1/imports/"+id, nil)
					return bytes.Contains(raw, []byte(`"succeeded"`))
				})
			}
			if used, _ := usageOf(t, header, base, "match"); used < acked.Load() || used > acked.Load()+unknown.Load() {
				t.Errorf("%d matches in the ledger, %d acknowledged, %d unknown", used, acked.Load(), unknown.Load())
			}
			for _, meter := range []string{"import_rows", "dataset_rows"} {
				if used, _ := usageOf(t, header, base, meter); used != int64(rows) {
					t.Errorf("%s: %d, want the %d rows of %d imports", meter, used, rows, imported)
				}
			}
			_, raw, _ := roundTrip(http.DefaultClient, header, "GET", base+"/api/v1/datasets/"+dataset, nil)
			if !bytes.Contains(raw, fmt.Appendf(nil, `:%d`, rows)) {
				t.Errorf("the list does not have %d rows: %s", rows, raw)
			}
		})
	}
}

func (h *house) dataFile() string {
	for _, v := range h.vars {
		if dir, ok := strings.CutPrefix(v, "DATA_DIR="); ok {
			return dir + "/chainreactions.db"
		}
	}
	return ""
}
