package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/app/sandbox"
	deskstripe "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// customers ask for a bit of everything while what the platform depends on fails,
// and keep what they were told. They repeat what was answered 503, under the same
// Idempotency-Key, as good clients do.
type customers struct {
	t          *testing.T
	pair       *testdb.PostgresPair
	entries    []string // where they come in
	st         *store.Store
	header     http.Header // of the key
	tenant     string
	dataset    string
	small      string // another, which does not change
	limit      int64
	calls      atomic.Int64
	served     atomic.Int64 // matches
	unanswered atomic.Int64
	plans      *billing.Service
	load       sync.WaitGroup
	stopping   context.Context
	stop       func()

	mu        sync.Mutex
	tally     map[string]map[int]int // by what was asked, and the status
	odd       []string               // that are neither success nor 503 with Retry-After
	longest   map[string]time.Duration
	succeeded map[string]int
	names     []string // of datasets that were made
	imports   []string
	runs      []string
	events    []string // of Stripe, that were taken
	access    string
	refresh   string
}

// ask makes one call at some entry. The status is 0 where there was no answer.
func (c *customers) ask(client *http.Client, what string, h http.Header, method, path string, body any, want ...int) (status int, raw []byte) {
	var r io.Reader
	media := "application/json"
	switch b := body.(type) {
	case nil:
	case string:
		r, media = strings.NewReader(b), "text/csv"
	case []byte:
		r = bytes.NewReader(b)
	default:
		text, _ := json.Marshal(b)
		r = bytes.NewReader(text)
	}
	n := c.calls.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second) // a request has 30 s, a gateway 5 more
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.entries[int(n)%len(c.entries)]+path, r)
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	req.Header = h.Clone()
	req.Header.Set("Content-Type", media)
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)) // everybody has an address
	began := time.Now()
	res, err := client.Do(req)
	wait := ""
	if err == nil {
		raw, err = io.ReadAll(res.Body)
		res.Body.Close()
		status, wait = res.StatusCode, res.Header.Get("Retry-After")
	}
	took := time.Since(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tally[what] == nil {
		c.tally[what] = map[int]int{}
	}
	c.tally[what][status]++
	c.longest[what] = max(c.longest[what], took)
	if err != nil || !slices.Contains(want, status) && (status != 503 || wait == "") || status == 409 && wait == "" {
		c.odd = append(c.odd, fmt.Sprintf("%s %s: %d after %v: %s %v", method, path, status, took.Round(time.Millisecond), raw, err))
	}
	if slices.Contains(want[:1], status) {
		c.succeeded[what]++
	}
	return status, raw
}

// every does something again and again until the customers leave.
func (c *customers) every(pause time.Duration, do func(client *http.Client, n int)) {
	c.load.Go(func() {
		client := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		defer client.CloseIdleConnections()
		for n := 0; c.stopping.Err() == nil; n++ {
			do(client, n)
			select {
			case <-time.After(pause): // a steady load, not a race for the machine
			case <-c.stopping.Done():
			}
		}
	})
}

// insist asks for the same under one Idempotency-Key until it is done.
func (c *customers) insist(client *http.Client, what, key, path string, body any, done int) (id string, ok bool) {
	h := c.header.Clone()
	h.Set("Idempotency-Key", key)
	began := time.Now()
	for {
		status, raw := c.ask(client, what, h, "POST", path, body, done, 409)
		if status == done {
			var made struct{ ID string }
			_ = json.Unmarshal(raw, &made)
			return made.ID, true
		}
		if bytes.Contains(raw, []byte("idempotency_unanswered")) { // it is done, and will not be again
			c.unanswered.Add(1)
			return "", true
		}
		if status != 503 && status != 409 || c.stopping.Err() != nil && time.Since(began) > patience {
			return "", false
		}
		time.Sleep(100 * time.Millisecond)
	}
}

const hookSecret = "whsec_failures"

var oneRelation = map[string]any{"mode": "normal", "institution": "Northmere University", "risk_items": []any{map[string]any{"name": "Qinglan University of Aerospace Technology"}}}

// begin asks for everything again and again.
func (c *customers) begin() {
	c.every(10*time.Millisecond, func(client *http.Client, n int) {
		c.ask(client, "read", c.header, "GET", "/api/v1/datasets/"+c.dataset, nil, 200)
	})
	for i := range 2 {
		c.every(20*time.Millisecond, func(client *http.Client, n int) {
			name := fmt.Sprintf("list %d of %d", n, i)
			if _, ok := c.insist(client, "create", name, "/api/v1/datasets", map[string]any{"name": name}, 201); ok {
				c.mu.Lock()
				c.names = append(c.names, name)
				c.mu.Unlock()
			}
		})
	}
	for range 2 {
		c.every(5*time.Millisecond, func(client *http.Client, n int) {
			if status, raw := c.ask(client, "match", c.header, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "Institute of Nothing"}, "dataset_ids": []string{c.small}}, 200, 429); status == 200 {
				c.served.Add(1)
			} else if status == 429 && !bytes.Contains(raw, []byte("quota_exceeded")) {
				c.t.Errorf("a match: %d %s", status, raw)
			}
		})
	}
	c.every(200*time.Millisecond, func(client *http.Client, n int) {
		c.ask(client, "sign in", http.Header{}, "POST", "/api/v1/auth/login", map[string]any{"email": "keeper@example.org", "password": "correct horse battery"}, 200)
	})
	c.every(100*time.Millisecond, func(client *http.Client, n int) {
		c.ask(client, "session", http.Header{"Authorization": {"Bearer " + c.access}}, "GET", "/api/v1/me", nil, 200)
	})
	c.every(500*time.Millisecond, func(client *http.Client, n int) {
		status, raw := c.ask(client, "refresh", http.Header{}, "POST", "/api/v1/auth/refresh", map[string]any{"refresh_token": c.refresh}, 200)
		var out struct {
			Refresh string `json:"refresh_token"`
			Access  string `json:"access_token"`
		}
		if status == 200 && json.Unmarshal(raw, &out) == nil {
			c.refresh = out.Refresh
		}
	})
	c.every(50*time.Millisecond, func(client *http.Client, n int) {
		c.ask(client, "usage", c.header, "GET", "/api/v1/usage", nil, 200)
	})
	c.every(time.Second, func(client *http.Client, n int) {
		var list strings.Builder
		list.WriteString("name,country\n")
		for i := range 200 {
			fmt.Fprintf(&list, "Institute %d of file %d,China\n", i, n)
		}
		if id, ok := c.insist(client, "import", "file "+strconv.Itoa(n), "/api/v1/datasets/"+c.dataset+"/imports", list.String(), 202); ok {
			c.mu.Lock()
			c.imports = append(c.imports, id)
			c.mu.Unlock()
		}
	})
	c.every(time.Second, func(client *http.Client, n int) {
		if id, ok := c.insist(client, "run", "run "+strconv.Itoa(n), "/api/v1/entity-relations", oneRelation, 202); ok {
			c.mu.Lock()
			c.runs = append(c.runs, id)
			c.mu.Unlock()
			if id != "" {
				c.load.Go(func() { c.follow(id) })
			}
		}
	})
	c.every(300*time.Millisecond, func(client *http.Client, n int) {
		id := fmt.Sprintf("evt_failures%d", n)
		event := fmt.Appendf(nil, `{"id":%q,"object":"event","type":"payment_method.attached","created":%d,"api_version":"2023-10-16","data":{"object":{"id":"pm_1","object":"payment_method"}}}`, id, time.Now().Unix())
		for { // as Stripe does
			status, _ := c.ask(client, "webhook", http.Header{"Stripe-Signature": {deskstripe.Sign(event, hookSecret, time.Now())}}, "POST", "/webhooks/stripe", event, 200)
			if status == 200 {
				c.mu.Lock()
				c.events = append(c.events, id)
				c.mu.Unlock()
			}
			if status != 503 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	c.every(100*time.Millisecond, func(client *http.Client, n int) {
		c.ask(client, "alive", http.Header{}, "GET", "/livez", nil, 200)
	})
}

// follow reads a run's events to its end, on as many streams as it takes.
func (c *customers) follow(run string) {
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	odd := func(format string, args ...any) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.odd = append(c.odd, "the stream of "+run+": "+fmt.Sprintf(format, args...))
	}
	patient := time.Now()
	for seen := 0; ; {
		req, _ := http.NewRequest("GET", c.entries[0]+"/api/v1/runs/"+run+"/events", nil)
		req.Header = c.header.Clone()
		req.Header.Set("Last-Event-ID", strconv.Itoa(seen))
		res, err := fresh.Do(req)
		if err != nil {
			odd("%v", err)
			return
		}
		wait := res.Header.Get("Retry-After")
		if res.StatusCode != 200 && (res.StatusCode != 503 || wait == "") {
			raw, _ := io.ReadAll(res.Body)
			odd("%d %s", res.StatusCode, raw)
			return
		}
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		event, over := "", false
		for res.StatusCode == 200 && lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				if seen++; id != strconv.Itoa(seen) {
					odd("event %s comes %d.", id, seen)
				}
			}
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
				over = over || name == "succeeded" || name == "failed" || name == "cancelled"
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && event == "error" && !strings.Contains(data, "dependency_unavailable") {
				odd("it ends with the error %s", data)
			}
		}
		res.Body.Close()
		if over {
			return
		}
		if time.Since(patient) > 5*time.Minute {
			odd("after five minutes it has not come to its end: %d events", seen)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// all waits until everything that is asked for succeeds again.
func (c *customers) all(what string) (took time.Duration) {
	c.t.Helper()
	began := time.Now()
	c.mu.Lock()
	before := maps.Clone(c.succeeded)
	c.mu.Unlock()
	missing := ""
	well := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		missing = ""
		for _, op := range []string{"read", "create", "sign in", "session", "refresh", "usage", "import", "run", "webhook", "alive"} {
			if c.succeeded[op] < before[op]+2 {
				missing += " " + op
			}
		}
		return missing == ""
	}
	for !well() {
		if time.Since(began) > patience {
			c.t.Errorf("%s: after %v not:%s; odd: %v", what, patience, missing, c.odd)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}

// more gives the tenant more of the quota, which is used up by then.
func (c *customers) more(units int64) {
	c.limit += units
	o := billing.Override{Kind: "quota", Name: "match", Value: c.limit, Author: "test", Reason: "test"}
	o.TenantID = c.tenant
	if err := c.plans.Override(domain.System(context.Background(), "test"), o); err != nil {
		c.t.Fatal(err)
	}
}

func (c *customers) ledger() int64 {
	used, _ := usageOf(c.t, c.header, c.entries[0], "match")
	return used
}

// through has something fail for a while, and be mended; c.t is meanwhile the test
// of that alone.
func (c *customers) through(what string, fail func() (mend func()), lasts func() bool) {
	whole := c.t
	c.t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
		c.t = t
		defer func() { c.t = whole }()
		c.more(300)
		c.mu.Lock()
		c.tally, c.longest, c.odd = map[string]map[int]int{}, map[string]time.Duration{}, nil
		c.mu.Unlock()
		mend := fail()
		until(t, what, lasts)
		mend()
		back := c.all("all is well after: " + what)
		until(t, "what is left of the quota can be used", func() bool { return c.served.Load() >= c.limit })
		until(t, "what was answered is in the ledger", func() bool { return c.ledger() >= c.limit })
		if used, served := c.ledger(), c.served.Load(); used != c.limit || served != c.limit {
			t.Errorf("%d matches were answered, %d are in the ledger, on a quota of %d", served, used, c.limit)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		sum := map[int]int{}
		for _, of := range c.tally {
			for status, n := range of {
				sum[status] += n
			}
		}
		longest := ""
		for op, took := range c.longest {
			if took > 5*time.Second {
				longest += fmt.Sprintf(" %s %.0fs", op, took.Seconds())
			}
		}
		t.Logf("%s: %v; all of it well %v after it was mended; longer than 5 s:%s", what, sum, back.Round(time.Second/10), longest)
		t.Logf("by what was asked: %v", c.tally)
		if len(c.odd) > 0 {
			kinds := map[string]int{}
			for _, o := range c.odd {
				kinds[o[:min(len(o), 60)]]++
			}
			t.Errorf("%d answers that are neither success nor 503 with Retry-After: %v\nthe first: %s\nthe last: %s", len(c.odd), kinds, c.odd[0], c.odd[len(c.odd)-1])
		}
	})
}

// Whatever the platform depends on fails in every way that it can, while callers
// ask for all kinds of things: what cannot be answered says 503 and when to come
// again, nothing is admitted above a limit and nothing of it is lost, what was
// accepted is done once, and all is well again without a hand; as three whole
// processes, as five roles, and on a Redis Cluster.
func TestDependenciesFail(t *testing.T) {
	operations(t)
	t.Run("three processes", func(t *testing.T) {
		server := testdb.StartRedis(t)
		c := newCustomers(t, server.URL)
		c.redisFails(server)
		c.postgresFails()
		c.leave()
	})
	t.Run("five roles", func(t *testing.T) {
		server := testdb.StartRedis(t)
		c := newCustomers(t, server.URL, "gateway", "main", "dataset-search", "entity-relations", "dataset-matching")
		c.redisFails(server)
		c.postgresFails()
		c.leave()
	})
	t.Run("Redis Cluster", func(t *testing.T) {
		nodes := testdb.StartRedisCluster(t)
		c := newCustomers(t, nodes.URL)
		c.through("a master is lost with what its replica had not heard", func() func() {
			nodes.CutReplica(c.t)
			nodes.First.Kill()
			return nothing
		}, lasting(5*time.Second))
		c.leave()
	})
}

func (c *customers) redisFails(server *testdb.RedisServer) {
	t := c.t
	options, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	c.through("Redis is emptied", func() func() { must(rdb.FlushAll(c.t.Context()).Err()); return nothing }, lasting(time.Second))
	c.through("Redis comes back empty", func() func() { server.Kill(); return func() { server.Start(c.t) } }, lasting(0))
	c.through("Redis is away", func() func() { server.Kill(); return func() { server.Start(c.t) } }, lasting(30*time.Second))
	c.through("Redis hangs", func() func() {
		info, err := rdb.Info(c.t.Context(), "server").Result()
		must(err)
		_, rest, _ := strings.Cut(info, "process_id:")
		pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\r\n", 2)[0]))
		must(err)
		return freeze(c.t, pid)
	}, lasting(10*time.Second))
	c.through("Redis is full", func() func() {
		must(rdb.ConfigSet(c.t.Context(), "maxmemory", "1").Err())
		return func() { must(rdb.ConfigSet(c.t.Context(), "maxmemory", "0").Err()) }
	}, lasting(5*time.Second))
}

func (c *customers) postgresFails() {
	pair := c.pair
	told := func() bool { // callers hear of it
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.tally["read"][503] > 10
	}
	c.through("PostgreSQL ends at once", func() func() { pair.StopPrimary(); return func() { pair.StartPrimary(c.t) } }, told)
	c.through("PostgreSQL hangs", func() func() { return freeze(c.t, postgresPids(c.t, pair)...) }, lasting(12*time.Second))
	c.through("PostgreSQL hangs for longer than a request", func() func() { return freeze(c.t, postgresPids(c.t, pair)...) }, lasting(35*time.Second))
	c.through("PostgreSQL has no connection left", func() func() { return crowd(c.t, pair) }, lasting(5*time.Second))
	c.through("PostgreSQL takes no writes", func() func() {
		pair.OnPrimary(c.t, "ALTER SYSTEM SET default_transaction_read_only = on")
		pair.OnPrimary(c.t, "SELECT pg_reload_conf()")
		return func() {
			pair.OnPrimary(c.t, "ALTER SYSTEM RESET default_transaction_read_only")
			pair.OnPrimary(c.t, "SELECT pg_reload_conf()")
		}
	}, lasting(5*time.Second))
	c.through("PostgreSQL is lost and its replica promoted", func() func() { pair.StopPrimary(); return func() { pair.Promote(c.t) } }, told)
}

func nothing() {}

// lasting is over after a time, counted from the first question.
func lasting(d time.Duration) (over func() bool) {
	end := sync.OnceValue(func() time.Time { return time.Now().Add(d) })
	return func() bool { return !time.Now().Before(end()) }
}

// newCustomers are there once the platform is: three processes on a pair of
// PostgreSQL, or one of each role.
func newCustomers(t *testing.T, redisURL string, roles ...string) *customers {
	box, err := sandbox.Start(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	noStripe := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(noStripe.Close)
	pair := testdb.StartPostgresPair(t)
	h := newHouse(t, "DATABASE_URL="+pair.URL, "REDIS_URL="+redisURL, "TRUSTED_PROXIES=127.0.0.1",
		"STRIPE_API_BASE="+noStripe.URL, "STRIPE_SECRET_KEY="+sandboxKey, "STRIPE_WEBHOOK_SECRET="+hookSecret,
		"GEMINI_API_KEY=sandbox", "GEMINI_BASE_URL="+box.URL(sandbox.Gemini), "SEARXNG_URL="+box.URL(sandbox.SearXNG),
		"LINKUP_API_KEY=sandbox", "LINKUP_BASE_URL="+box.URL(sandbox.Linkup))
	h.roles = roles
	entries := h.startAll(max(3, len(roles)))
	if roles != nil {
		entries = entries[:1]
		knowsEveryRole(t, entries[0])
	}
	c := &customers{t: t, pair: pair, st: pair.Open(t), entries: entries, limit: 300, tally: map[string]map[int]int{},
		longest: map[string]time.Duration{}, succeeded: map[string]int{}}
	c.header, c.tenant, c.dataset = customer(t, testdb.DB{Store: c.st}, entries[0], "keeper", c.limit, 1_000_000)
	if c.plans, err = billing.New(t.Context(), billing.Config{Store: c.st, Audit: audit.New(audit.Config{Store: c.st})}); err != nil {
		t.Fatal(err)
	}
	if err := c.plans.SetPlan(domain.System(t.Context(), "test"), c.tenant, "enterprise", "test", "test"); err != nil {
		t.Fatal(err)
	}
	key := client{t, entries[0], c.header}
	signed := key.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "keeper@example.org", "password": "correct horse battery"})
	c.access, c.refresh = signed["access_token"].(string), signed["refresh_token"].(string)
	c.small = key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "small"})["id"].(string)
	until(t, "the plan allows research", func() bool {
		status, raw, _ := key.do("POST", "/api/v1/entity-relations", oneRelation)
		var run struct{ ID string }
		if _ = json.Unmarshal(raw, &run); status == 202 {
			c.runs = append(c.runs, run.ID)
		}
		return status == 202
	})
	c.stopping, c.stop = context.WithCancel(t.Context())
	t.Cleanup(func() { c.stop(); c.load.Wait() })
	c.begin()
	c.all("all is well before anything fails")
	return c
}

// leave ends the load, and holds the platform to what it said.
func (c *customers) leave() {
	c.stop()
	c.load.Wait()
	c.whole()
}

// freeze stops processes, which neither answer nor refuse from then on.
func freeze(t *testing.T, pids ...int) (thaw func()) {
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	thaw = sync.OnceFunc(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	})
	t.Cleanup(thaw)
	return thaw
}

// postgresPids are the primary's processes, of which the first is the one that
// takes new connections.
func postgresPids(t *testing.T, pair *testdb.PostgresPair) (pids []int) {
	conn := superuser(t, pair)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int UNION ALL SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()`)
	if err == nil {
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
	}
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func superuser(t *testing.T, pair *testdb.PostgresPair) *pgx.Conn {
	conn, err := pgx.Connect(t.Context(), pair.URL)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// crowd takes every connection of the server away.
func crowd(t *testing.T, pair *testdb.PostgresPair) (free func()) {
	first := superuser(t, pair)
	mine := []*pgx.Conn{first}
	stopping, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for stopping.Err() == nil {
			conn, err := pgx.Connect(stopping, pair.URL)
			if err == nil {
				mine = append(mine, conn)
				continue
			}
			var pids []int32
			for _, c := range mine {
				pids = append(pids, int32(c.PgConn().PID()))
			}
			_, _ = first.Exec(stopping, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> ALL($1)`, pids)
		}
	}()
	return sync.OnceFunc(func() {
		stop()
		<-ended
		for _, c := range mine {
			_ = c.Close(context.Background())
		}
	})
}

// whole holds the platform to what its customers were told.
func (c *customers) whole() {
	t := c.t
	key := client{t, c.entries[0], c.header}
	for _, id := range c.imports {
		if id == "" {
			continue
		}
		until(t, "the import ends", func() bool {
			im := key.must(200, "GET", "/api/v1/imports/"+id, nil)
			if im["status"] == "failed" || im["status"] == "cancelled" {
				t.Fatalf("%v", im)
			}
			return im["status"] == "succeeded"
		})
	}
	for _, id := range c.runs {
		if id == "" {
			continue
		}
		if run := key.finished(id); run["status"] != "succeeded" {
			t.Errorf("a run was lost: %v %v", run["status"], run["error"])
		}
	}
	count := func(query string) (n int64) {
		err := c.st.Read(domain.System(context.Background(), "test"), func(ctx context.Context) error {
			return c.st.SQL(ctx, query, map[string]any{"of": c.tenant}).Scan(&n).Error
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count("SELECT count(*) FROM datasets WHERE tenant_id = @of AND name LIKE 'list %'"); n < int64(len(c.names)) || n > int64(len(c.names))+2 { // and those that were asked for at the end
		t.Errorf("%d datasets were made, %d are there", len(c.names), n)
	}
	if n := count("SELECT count(*) - count(DISTINCT name) FROM datasets WHERE tenant_id = @of AND name LIKE 'list %'"); n != 0 {
		t.Errorf("%d datasets were made twice", n)
	}
	if n := count("SELECT count(*) FROM dataset_imports WHERE tenant_id = @of"); n < int64(len(c.imports)) || n > int64(len(c.imports))+1 {
		t.Errorf("%d imports were accepted, %d are there", len(c.imports), n)
	}
	if n := count("SELECT count(*) FROM research_runs WHERE tenant_id = @of"); n < int64(len(c.runs)) || n > int64(len(c.runs))+1 {
		t.Errorf("%d runs were accepted, %d are there", len(c.runs), n)
	}
	if n := count("SELECT count(*) FROM stripe_events WHERE id LIKE 'evt_failures%' AND @of <> ''"); n < int64(len(c.events)) || n > int64(len(c.events))+1 {
		t.Errorf("%d events were taken, %d are there", len(c.events), n)
	}
	t.Logf("%d calls; %d matches, %d datasets, %d imports, %d runs, %d events; %d done without an answer", c.calls.Load(), c.served.Load(), len(c.names), len(c.imports), len(c.runs), len(c.events), c.unanswered.Load())
}
