package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// keeper is who is told of alerts, by the server and by an Alertmanager.
type keeper struct {
	*httptest.Server
	mu   sync.Mutex
	told map[string][]time.Time // by who tells, alert and status
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{told: map[string][]time.Time{}}
	k.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var in struct {
			Rule, Subject, Status string
			Alerts                []struct {
				Status string
				Labels map[string]string
			}
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &in) != nil {
			t.Errorf("%s %s", r.URL, body)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if in.Rule != "" {
			name := "server " + in.Rule + " " + in.Subject + " " + in.Status
			k.told[name] = append(k.told[name], time.Now())
		}
		for _, a := range in.Alerts {
			name := "prometheus " + a.Labels["alertname"] + " " + a.Labels["role"] + " " + a.Status
			k.told[name] = append(k.told[name], time.Now())
		}
	}))
	t.Cleanup(k.Close)
	return k
}

// heard gives when something was told.
func (k *keeper) heard(name string) []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.told[name]
}

// watchedBy starts a real Prometheus with our rules, which wait a second here, and
// a real Alertmanager that tells the keeper.
func (k *keeper) watchedBy(t *testing.T, targets map[string]string) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(port int, ready, command string, args ...string) {
		cmd := exec.Command(command, args...)
		cmd.Dir, cmd.SysProcAttr = dir, leashed()
		if err := cmd.Start(); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		until(t, command+" is up", func() bool {
			res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, ready))
			if err != nil {
				return false
			}
			res.Body.Close()
			return res.StatusCode == 200
		})
	}
	rules, err := os.ReadFile("../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write("alerts.yaml", regexp.MustCompile(`for: \w+`).ReplaceAllString(string(rules), "for: 1s"))
	alerts, prometheus := freePort(t), freePort(t)
	manager := write("alertmanager.yaml", fmt.Sprintf("route: {receiver: keeper, group_by: [alertname], group_wait: 1s, group_interval: 1s}\nreceivers: [{name: keeper, webhook_configs: [{url: %q, send_resolved: true}]}]\n", k.URL))
	run(alerts, "/-/ready", "prometheus-alertmanager", "--config.file="+manager, "--storage.path="+dir, fmt.Sprintf("--web.listen-address=127.0.0.1:%d", alerts), "--cluster.listen-address=")
	var jobs strings.Builder
	for address, role := range targets {
		fmt.Fprintf(&jobs, "\n      - {targets: [%q], labels: {role: %s}}", address, role)
	}
	server := write("prometheus.yaml", fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yaml]\nalerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:%d']}]}]}\n"+
		"scrape_configs:\n  - job_name: chainreactions\n    static_configs:%s\n", alerts, jobs.String()))
	run(prometheus, "/-/ready", "prometheus", "--config.file="+server, "--storage.tsdb.path="+filepath.Join(dir, "data"), fmt.Sprintf("--web.listen-address=127.0.0.1:%d", prometheus))
	until(t, "every process is scraped", func() bool {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/query?query=count(up==1)", prometheus))
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return strings.Contains(string(body), fmt.Sprintf(`,"%d"]`, len(targets)))
	})
}

// A killed process is told to its keeper by Prometheus, through our rules, and
// what it takes down by the server itself: by one of its gateways alone, by the
// other where that one dies, and once. So is that it is over.
func TestAlertsReachTheirKeeper(t *testing.T) {
	operations(t)
	k := newKeeper(t)
	h := newHouse(t, "DATABASE_URL="+testdb.OnPostgres(t).URL, "REDIS_URL="+testdb.StartRedis(t).URL, "ALERT_WEBHOOK="+k.URL)
	h.roles = []string{"gateway", "gateway", "main,dataset-search,entity-relations,dataset-matching"}
	bases := h.startAll(3)
	targets := map[string]string{}
	for i, role := range []string{"gateway", "gateway", "main"} {
		targets[strings.TrimPrefix(bases[i], "http://")] = role
	}
	k.watchedBy(t, targets)
	look := func() {
		for i, base := range bases[:2] {
			if h.procs[i].cmd != nil {
				res, err := http.Post(base+"/api/monitoring/health/check", "application/json", nil)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
			}
		}
		time.Sleep(300 * time.Millisecond) // between two looks of a person
	}
	services := []string{"entity_relations", "entity_search", "dataset_matching", "data_management", "dataset_search", "email"}
	all := func(status string, n int) func() bool {
		return func() bool {
			look()
			for _, s := range services {
				if len(k.heard("server service_down "+s+" "+status)) < n {
					return false
				}
			}
			return true
		}
	}
	told := func(by, name string, killed time.Time) {
		t.Helper()
		until(t, by+" tells", func() bool { return len(k.heard(name)) > 0 })
		t.Logf("%s told after %v", by, k.heard(name)[0].Sub(killed).Round(100*time.Millisecond))
	}
	time.Sleep(11 * time.Second) // a gateway that is younger says nothing of roles that it has not heard of
	look()
	killed := time.Now()
	h.kill(2)
	told("Prometheus", "prometheus ProcessDown main firing", killed)
	until(t, "every service is told of", all("firing", 1))
	for range 5 {
		look()
	}
	for _, s := range services {
		if n := len(k.heard("server service_down " + s + " firing")); n != 1 {
			t.Errorf("that %s is down was told %d times", s, n)
		}
	}
	h.start(2)
	told("Prometheus", "prometheus ProcessDown main resolved", killed)
	until(t, "that it is over is told", all("resolved", 1))

	// Whoever spoke is gone: the other goes on where it was.
	first, second := 0, 1
	if bases[1] < bases[0] {
		first, second = 1, 0
	}
	h.kill(2)
	h.kill(first)
	until(t, "the other gateway knows that it is alone", func() bool {
		look()
		res, err := http.Get(bases[second] + "/metrics")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return strings.Contains(string(body), `chainreactions_alerts_firing{severity="critical"} 6`)
	})
	for _, s := range services {
		if n := len(k.heard("server service_down " + s + " firing")); n != 1 {
			t.Errorf("within the cool-down that %s is down was told %d times", s, n)
		}
	}
}
