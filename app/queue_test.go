package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chainreactions/chainreactions/app/api"
)

// Heavy work of which enough waits is refused where it is asked for: with the
// stable word and when to come again, before its file is kept, with nothing taken
// of the quota; it is counted, shown where operators look, and what was refused
// may be asked for again under the same Idempotency-Key.
func TestFullQueueRefusesEarly(t *testing.T) {
	eachWith(t, map[string]string{"QUEUE_LIMITS": "tenant=1,all=2"}, func(t *testing.T, p *program, base string) {
		one, two, three := researcher(t, p, base, "one"), researcher(t, p, base, "two"), researcher(t, p, base, "three")
		set := one.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "l"})["id"].(string)
		if err := p.queue.Stop(t.Context()); err != nil { // so that what is asked for waits
			t.Fatal(err)
		}
		ask := map[string]any{"mode": "normal", "institution": "Northmere University", "risk_items": []map[string]any{{"name": "Shuoguang Photonics"}}}
		full := func(c client, status int, key string) {
			t.Helper()
			got, raw, h := c.do("POST", "/api/v1/entity-relations", ask, "Idempotency-Key", key)
			var problem struct{ Code string }
			_ = json.Unmarshal(raw, &problem)
			if n, err := strconv.Atoi(h.Get("Retry-After")); got != status || problem.Code != "queue_full" || err != nil || n < 1 {
				t.Errorf("%d %s, Retry-After %q", got, raw, h.Get("Retry-After"))
			}
		}
		one.must(202, "POST", "/api/v1/entity-relations", ask)
		full(one, 429, "again")
		two.must(202, "POST", "/api/v1/entity-relations", ask)
		full(three, 503, "again")
		for c, want := range map[*client]float64{&one: 1, &two: 1, &three: 0} {
			if used := c.used("relations_normal"); used != want {
				t.Errorf("%v runs are counted, %v were accepted", used, want)
			}
		}
		if status, im := one.form("/api/v1/datasets/"+set+"/imports", nobodies(3)); status != 202 {
			t.Errorf("an import, of which none waits: %d %v", status, im)
		}
		if status, im := one.form("/api/v1/datasets/"+set+"/imports", nobodies(3)); status != 429 || im["code"] != "queue_full" {
			t.Errorf("a second import: %d %v", status, im)
		}
		if files, err := os.ReadDir(filepath.Join(p.config.DataDir, "uploads")); err != nil || len(files) != 1 {
			t.Errorf("%d uploads are kept, %v", len(files), err)
		}
		_, metrics, _ := roundTrip(http.DefaultClient, http.Header{}, "GET", base+"/metrics", nil)
		for _, line := range []string{`chainreactions_queue_refused_total{by="tenant",kind="research.run"} 1`, `chainreactions_queue_refused_total{by="all",kind="research.run"} 1`,
			`chainreactions_http_requests_shed_total{method="POST",route="/api/v1/entity-relations"} 1`,
			`chainreactions_queue_refused_total{by="tenant",kind="dataset.import"} 1`, `chainreactions_queue_refused_total{by="tenant",kind="match.run"} 0`} {
			if !strings.Contains(string(metrics), line) {
				t.Errorf("/metrics lacks %s", line)
			}
		}
		anyone := client{t, base, http.Header{}}
		until(t, "operators see it", func() bool { // a look may be under way
			anyone.do("POST", "/api/monitoring/health/check", nil)
			_, raw, _ := anyone.do("GET", "/api/monitoring/enhanced-health", nil)
			var shown struct{ Queues map[string]float64 }
			if err := json.Unmarshal(raw, &shown); err != nil {
				t.Fatal(err)
			}
			_, metrics, _ := roundTrip(http.DefaultClient, http.Header{}, "GET", base+"/metrics", nil)
			return shown.Queues["research.run"] == 1 && shown.Queues["dataset.import"] == .5 && bytes.Contains(metrics, []byte(`chainreactions_watched{measure="queue_full/research.run"} 1`))
		})
		if err := p.queue.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "there is room again", func() bool {
			status, _, _ := one.do("POST", "/api/v1/entity-relations", ask, "Idempotency-Key", "again")
			return status == 202
		})
	})
}

// How much may wait is changed while the process runs: what is asked for next is
// held to that, and what waits goes on.
func TestQueueLimitsChange(t *testing.T) {
	file := configFile(t, "queue_limits: tenant=2")
	p, base := serve(t, map[string]string{"CONFIG_FILE": file})
	one := researcher(t, p, base, "one")
	if err := p.queue.Stop(t.Context()); err != nil { // so that what is asked for waits
		t.Fatal(err)
	}
	var runs []string
	ask := func() bool {
		status, raw, _ := one.do("POST", "/api/v1/entity-relations", map[string]any{"mode": "normal", "institution": "Northmere University", "risk_items": []map[string]any{{"name": "Shuoguang Photonics"}}})
		var answer struct{ ID, Code string }
		if _ = json.Unmarshal(raw, &answer); status == 202 {
			runs = append(runs, answer.ID)
		} else if status != 429 || answer.Code != "queue_full" {
			t.Fatalf("%d %s", status, raw)
		}
		return status == 202
	}
	for len(runs) < 3 && ask() {
	}
	if len(runs) != 2 {
		t.Fatalf("%d wait where two may", len(runs))
	}
	reconfigure(t, file, "queue_limits: tenant=3")
	until(t, "a third one may wait", ask)
	if ask() {
		t.Error("four wait where three may")
	}
	if err := p.queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range runs {
		if run := one.finished(id); run["status"] != "succeeded" {
			t.Errorf("%v %v", run["status"], run["error"])
		}
	}
}

// configFile makes one; reconfigure replaces it, and has the programs of this
// process read theirs again.
func configFile(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ignored := make(chan os.Signal, 1) // or a signal before they listen would end this process
	signal.Notify(ignored, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(ignored) })
	return file
}

func reconfigure(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// While a process has as many batches under way as it works at a time, another one
// is told at once to come again and uses nothing, cheap calls go on, and there is
// room as soon as one has ended, or as there are more places. A download holds its
// place until it is read. None of it is a fault of the service.
func TestHeavyCallsAreShed(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	type nothing struct{}
	prepare := func(p *program) {
		row := api.Row{Method: "POST", Path: "/api/v1/matches/slow", Credential: api.Member, Permission: "match:run", Feature: api.None, Class: "match", Meter: "match", Units: func(any) int64 { return 5 },
			Audit: api.None, Role: "dataset-matching", Summary: "x", Call: api.Call("x", func(ctx context.Context, in nothing) (nothing, error) {
				begun <- struct{}{}
				<-end
				return nothing{}, nil
			})}
		file := row
		file.Method, file.Path, file.Meter, file.Units = "GET", "/api/v1/matches/slow/file", api.None, nil
		file.Call = api.Download("y", "text/csv", "y.csv", func(ctx context.Context, in nothing, w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("x"), 100<<10)) // more than is held back
			begun <- struct{}{}
			<-end
			return err
		})
		var err error
		if p.api, err = p.edge(append(p.routes(), row, file), nil); err != nil {
			t.Fatal(err)
		}
	}
	config := configFile(t, "heavy_calls: 1")
	_, base := served(t, configured(t, map[string]string{"CONFIG_FILE": config}), slog.DiscardHandler, prepare)
	_, key, _ := person(t, base, "crowd")
	var calls sync.WaitGroup
	call := func(c client, method, path string) {
		calls.Go(func() { c.do(method, path, nil) })
		<-begun
	}
	call(key, "POST", "/api/v1/matches/slow")
	if status, raw, h := key.do("POST", "/api/v1/matches/slow", nil); status != 503 || !bytes.Contains(raw, []byte("queue_full")) || h.Get("Retry-After") == "" {
		t.Errorf("a second batch: %d %s", status, raw)
	}
	if status, raw, _ := key.do("POST", "/api/v1/matches", anyName); status != 200 {
		t.Errorf("a cheap call: %d %s", status, raw)
	}
	end <- struct{}{}
	calls.Wait()
	if used := key.used("match"); used != 6. {
		t.Errorf("%v are counted: five of a batch and the cheap one were", used)
	}
	for range 4 { // half of eight
		call(key, "GET", "/api/v1/matches/slow/file")
	}
	if status, raw, h := key.do("GET", "/api/v1/matches/slow/file", nil); status != 503 || !bytes.Contains(raw, []byte("queue_full")) || h.Get("Retry-After") == "" {
		t.Errorf("a fifth download: %d %s", status, raw)
	}
	for range 4 {
		end <- struct{}{}
	}
	calls.Wait()
	call(key, "GET", "/api/v1/matches/slow/file")
	call(key, "POST", "/api/v1/matches/slow")
	reconfigure(t, config, "heavy_calls: 4") // of which a tenant has half
	tried := make(chan int, 1)
	until(t, "there are two places", func() bool {
		calls.Go(func() { status, _, _ := key.do("POST", "/api/v1/matches/slow", nil); tried <- status })
		select {
		case <-begun:
			return true
		case <-tried:
			return false
		}
	})
	close(end)
	calls.Wait()
	anyone := client{t, base, http.Header{}}
	anyone.do("POST", "/api/monitoring/health/check", nil)
	health := anyone.must(200, "GET", "/api/monitoring/health/dataset_matching", nil)
	if about := health["metadata"].(map[string]any); about["total_errors"] != 0. || health["error_rate"] != 0. {
		t.Errorf("calls that were told to come again are faults: %v", health)
	}
}
