package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"
)

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Rules and dashboards ask for metrics that the server has, each alert says what
// to do about it, and fires and is silent in a test of its own.
func TestWhatIsWatchedExists(t *testing.T) {
	p := testProgram(t)
	defer p.close(context.Background())
	exported := map[string]bool{"up": true}
	descs := make(chan *prometheus.Desc, 10_000)
	p.registry.Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		base := name.FindStringSubmatch(d.String())[1]
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			exported[base+suffix] = true
		}
	}
	metric := regexp.MustCompile(`\b(chainreactions|go|process)_[a-z0-9_]+`)
	asked := 0
	exists := func(where, expr string) {
		t.Helper()
		for _, m := range metric.FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(expr, ""), -1) {
			asked++
			if !exported[m] {
				t.Errorf("%s asks for %s, which the server does not have", where, m)
			}
		}
	}

	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	readYAML(t, "../deploy/prometheus/alerts.yaml", &rules)
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name string      `yaml:"alertname"`
				Want []yaml.Node `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, "../deploy/prometheus/alerts_test.yaml", &tests)
	tested := map[string]map[bool]bool{}
	for _, c := range tests.Tests {
		for _, a := range c.Alerts {
			if tested[a.Name] == nil {
				tested[a.Name] = map[bool]bool{}
			}
			tested[a.Name][len(a.Want) > 0] = true
		}
	}
	manual, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			exists(r.Alert, r.Expr)
			if !strings.Contains(string(manual), "\n### "+r.Alert+"\n") || r.Annotations["runbook"] != "docs/operations.md#"+strings.ToLower(r.Alert) {
				t.Errorf("%s: no section of docs/operations.md says what to do", r.Alert)
			}
			if !tested[r.Alert][true] || !tested[r.Alert][false] {
				t.Errorf("%s has no test that it fires, or none that it is silent", r.Alert)
			}
		}
	}

	var board struct {
		UID    string
		Panels []struct {
			ID          int
			Title       string
			FieldConfig struct{ Defaults struct{ Unit string } }
			Targets     []struct{ Expr string }
		}
	}
	raw, err := os.ReadFile("../deploy/grafana/chainreactions.json")
	if err == nil {
		err = json.Unmarshal(raw, &board)
	}
	if err != nil || board.UID == "" || len(board.Panels) < 10 {
		t.Fatalf("the dashboard is not one: %v", err)
	}
	ids := map[int]bool{}
	for _, panel := range board.Panels {
		if ids[panel.ID] || panel.Title == "" || panel.FieldConfig.Defaults.Unit == "" || len(panel.Targets) == 0 {
			t.Errorf("panel %d %q: its id is taken, or it has no title, unit or target", panel.ID, panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			exists(panel.Title, target.Expr)
		}
	}
	if asked < 30 {
		t.Errorf("only %d metrics were looked at", asked)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("SKIPPED, NOT TESTED: the rules by promtool, which is not here")
		return
	}
	if out, err := exec.Command(promtool, "test", "rules", "../deploy/prometheus/alerts_test.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Manifests set what the program reads, run the roles that it has on the ports
// that it listens on, and the image is nobody's root.
func TestManifestsFitTheProgram(t *testing.T) {
	known := map[string]bool{"CONFIG_FILE": true, "GOMEMLIMIT": true, "POD_IP": true}
	for _, s := range settings {
		known[s.name] = true
	}
	type composed struct {
		Services map[string]struct {
			Image       string
			Environment map[string]string
			Command     []string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
		}
	}
	files, _ := filepath.Glob("../deploy/compose*.yaml")
	ours := 0
	for _, file := range files {
		var c composed
		readYAML(t, file, &c)
		for name, s := range c.Services {
			if s.Image != "chainreactions" {
				if i := strings.LastIndex(s.Image, ":"); i < 0 || s.Image[i:] == ":latest" {
					t.Errorf("%s: %s has no version: %q", file, name, s.Image)
				}
				continue
			}
			ours++
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
				t.Errorf("%s: %s may more than it must", file, name)
			}
			for variable := range s.Environment {
				if !known[variable] {
					t.Errorf("%s: %s sets %s, which nobody reads", file, name, variable)
				}
			}
			if list, ok := strings.CutPrefix(strings.Join(s.Command, " "), "serve --roles="); ok {
				c := Config{DatabaseURL: "x", RedisURL: "x"}
				if err := c.takeRoles(list); err != nil || list != name {
					t.Errorf("%s: %s runs %q: %v", file, name, list, err)
				}
			}
		}
	}
	if ours < 7 {
		t.Errorf("%d services of ours found", ours)
	}
	var values struct {
		Roles  map[string]struct{ Port int }
		Config map[string]string
	}
	readYAML(t, "../deploy/chart/values.yaml", &values)
	for _, r := range roles {
		if values.Roles[r.name].Port != r.port {
			t.Errorf("the chart runs %s on %d, the program on %d", r.name, values.Roles[r.name].Port, r.port)
		}
	}
	if len(values.Roles) != len(roles) {
		t.Errorf("the chart has %d roles, the program %d", len(values.Roles), len(roles))
	}
	templates, _ := filepath.Glob("../deploy/chart/templates/*")
	for _, file := range templates {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)name: ([A-Z][A-Z_]+)\b`).FindAllStringSubmatch(string(raw), -1) {
			if !known[m[1]] {
				t.Errorf("%s sets %s, which nobody reads", file, m[1])
			}
		}
	}
	for name := range values.Config {
		if !known[name] {
			t.Errorf("the chart sets %s, which nobody reads", name)
		}
	}
	image, err := os.ReadFile("../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nUSER 65532:65532\n", "\nHEALTHCHECK ", `CMD ["/chainreactions", "health"]`, "ENTRYPOINT [\"/chainreactions\"]"} {
		if !strings.Contains(string(image), want) {
			t.Errorf("the image has no %q", want)
		}
	}
}

// The health command of the image says what /readyz does.
func TestHealthCommand(t *testing.T) {
	h := newHouse(t)
	base := h.start(0)
	run := func() error {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CR_TEST_SERVE_ARGS=health", "HTTP_ADDR="+strings.TrimPrefix(base, "http://"))
		return cmd.Run()
	}
	if err := run(); err != nil {
		t.Errorf("a server that is ready is not healthy: %v", err)
	}
	h.kill(0)
	if run() == nil {
		t.Error("a dead server is healthy")
	}
}
