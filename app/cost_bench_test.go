package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// BenchmarkCosts gives what docs/capacity.md multiplies: the processor time that
// one of each thing takes of us, of PostgreSQL and of Redis, and the bytes that it
// leaves in the database. Processor time is the same on a busy machine, nearly:
// what else runs takes away the wait, not the work. Ours has the callers in it and,
// in a run, the sandbox's vendors: it is an upper bound.
func BenchmarkCosts(b *testing.B) {
	vars := map[string]string{"DATABASE_URL": testdb.OnPostgres(b).URL, "REDIS_URL": testdb.StartRedis(b).URL}
	p, base := benchProgram(b, vars, nil)
	o, err := redis.ParseURL(vars["REDIS_URL"])
	if err != nil {
		b.Fatal(err)
	}
	meter := &costs{p: p, redis: redis.NewClient(o)}
	b.Cleanup(func() { _ = meter.redis.Close() })
	c := benchTenant(b, p.store, base, "costs")
	ds := c.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)

	const entries = 100_000
	list := strings.Builder{}
	list.WriteString("name,aliases,country\n")
	for i := range entries {
		fmt.Fprintf(&list, "Research Institute Number %d,RIN %d;Institut %d de recherche,China\n", i, i, i)
	}
	meter.of(b, "entry", entries, func() {
		c.importList(ds, list.String(), "")
	})
	from := func(i int) http.Header { // many callers: one address may ask less
		h := c.header.Clone()
		h.Set("X-Forwarded-For", fmt.Sprintf("10.8.%d.%d", i/250%250, i%250))
		return h
	}
	ask := func(i int) {
		body := map[string]any{"query": map[string]any{"name": fmt.Sprintf("Research Institute Number %d", i%entries)}, "limit": 3}
		if status, answer, err := roundTrip(http.DefaultClient, from(i), "POST", base+"/api/v1/matches", body); err != nil || status != 200 {
			b.Errorf("%d %s %v", status, answer, err)
		}
	}
	ask(0) // the index is loaded
	meter.of(b, "match", 4000, func() { spread(4000, ask) })
	meter.of(b, "read", 4000, func() {
		spread(4000, func(i int) {
			if status, answer, err := roundTrip(http.DefaultClient, from(i), "GET", base+"/api/v1/datasets/"+ds, nil); err != nil || status != 200 {
				b.Errorf("%d %s %v", status, answer, err)
			}
		})
	})
	p.sandbox.Set(sandbox.Settings{})
	meter.of(b, "run", 20, func() {
		spread(20, func(i int) {
			run := read(c, c.must(202, "POST", "/api/v1/entity-relations", deepAsk(fmt.Sprintf("Institute %d of Applied Propulsion", i))))
			if run.Status != research.Succeeded {
				b.Error(run.ErrorCode)
			}
		})
	})
	meter.of(b, "tenant", 40, func() {
		spread(40, func(i int) {
			from := http.Header{"X-Forwarded-For": {fmt.Sprintf("10.9.%d.1", i)}}
			status, answer, err := roundTrip(http.DefaultClient, from, "POST", base+"/api/v1/auth/signup", map[string]any{"email": fmt.Sprintf("t%d@example.org", i),
				"password": "correct horse battery", "full_name": "t", "workspace_name": fmt.Sprintf("tenant %d", i), "accept_terms": true})
			if err != nil || status != 201 {
				b.Errorf("%d %s %v", status, answer, err)
			}
		})
	})
	b.ReportMetric(0, "ns/op")
}

// spread does n things, eight at a time.
func spread(n int, do func(i int)) {
	var wg sync.WaitGroup
	for lane := range 8 {
		wg.Go(func() {
			for i := lane; i < n; i += 8 {
				do(i)
			}
		})
	}
	wg.Wait()
}

type costs struct {
	p     *program
	redis *redis.Client
}

// of reports what one of n things cost that do does.
func (m *costs) of(b *testing.B, what string, n float64, do func()) {
	b.Helper()
	before := m.now(b)
	do()
	after := m.now(b)
	for i, name := range []string{"us_ours", "us_postgres", "us_redis", "bytes"} {
		b.ReportMetric((after[i]-before[i])/n, what+"_"+name)
	}
}

// now is the microseconds that were used so far, and the bytes of all tables and indexes.
func (m *costs) now(b *testing.B) (out [4]float64) {
	b.Helper()
	var backend int
	var bytes float64
	err := m.p.store.Read(domain.System(context.Background(), "bench"), func(ctx context.Context) error {
		return m.p.store.SQL(ctx, "SELECT pg_backend_pid(), (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'm', 'p'))::float8", nil).Row().Scan(&backend, &bytes)
	})
	if err != nil {
		b.Fatal(err)
	}
	_, _, postmaster := ticks(b, backend)
	self, _, _ := ticks(b, os.Getpid())
	out[0] = self
	own, ended, _ := ticks(b, postmaster)
	out[1] = own + ended // with the connections that are gone
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if own, ended, parent := ticks(b, pid); parent == postmaster {
			out[1] += own + ended
		}
	}
	info, err := m.redis.InfoMap(context.Background(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		seconds, err := strconv.ParseFloat(info["CPU"][name], 64)
		if err != nil {
			b.Fatal(err)
		}
		out[2] += seconds * 1e6
	}
	out[3] = bytes
	return out
}

// ticks is the processor time of a process in microseconds, that of its children
// which have ended, and its parent. One that is gone has none.
func ticks(b *testing.B, pid int) (own, ended float64, parent int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	if len(f) < 15 {
		b.Fatalf("/proc/%d/stat: %s", pid, raw)
	}
	parent, _ = strconv.Atoi(f[1])
	for i, at := range []int{11, 12, 13, 14} {
		n, _ := strconv.ParseFloat(f[at], 64)
		if i < 2 {
			own += n * 10_000 // a hundred ticks a second
		} else {
			ended += n * 10_000
		}
	}
	return own, ended, parent
}
