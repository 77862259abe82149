package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

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
	type composed struct {
		Services map[string]struct {
			Image       string
			Environment map[string]string
			EnvFile     []struct{ Path string } `yaml:"env_file"`
			Command     []string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
		}
	}
	files, _ := filepath.Glob("../deploy/compose*.yaml")
	ours := 0
	scraped := map[string]string{} // where a role of the split platform listens
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
			if len(s.EnvFile) != 1 || s.EnvFile[0].Path != ".env" {
				t.Errorf("%s: %s takes only the settings that are written there", file, name)
			}
			for k, v := range s.Environment {
				s.Environment[k] = fromCaller.ReplaceAllStringFunc(v, func(ask string) string {
					if m := fromCaller.FindStringSubmatch(ask); m[1] == "-" {
						return m[2]
					}
					return strings.Repeat("x", 32)
				})
			}
			list, ok := strings.CutPrefix(strings.Join(s.Command, " "), "serve --roles=")
			if !ok {
				list = ""
			}
			c, err := toldTo(t, s.Environment, list)
			if err != nil || ok && list != name {
				t.Errorf("%s: %s runs %q: %v", file, name, list, err)
			}
			if ok {
				scraped[name] = name + c.HTTPAddr
			}
		}
	}
	if ours < 7 {
		t.Errorf("%d services of ours found", ours)
	}
	var watch struct {
		Jobs []struct {
			Static []struct {
				Targets []string
				Labels  map[string]string
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "../deploy/prometheus/prometheus.yaml", &watch)
	watched := map[string]string{}
	for _, j := range watch.Jobs {
		for _, s := range j.Static {
			watched[s.Labels["role"]] = strings.Join(s.Targets, " ")
		}
	}
	if !maps.Equal(watched, scraped) || len(watched) != len(roles) {
		t.Errorf("Prometheus asks %v; there is %v", watched, scraped)
	}
	var values struct {
		Roles map[string]struct{ Port int }
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

// fromCaller is what a compose file takes from its caller's environment: with a
// default, or with the complaint that there is none.
var fromCaller = regexp.MustCompile(`\$\{\w+:([-?])([^}]*)\}`)

// toldTo is the configuration that a process has which is told these and
// runs those roles ("" is all).
func toldTo(t *testing.T, told map[string]string, list string) (Config, error) {
	t.Helper()
	known := map[string]bool{"CONFIG_FILE": true, "GOMEMLIMIT": true, "POD_IP": true}
	for _, s := range settings {
		known[s.name], known[s.name+"_FILE"] = true, s.secret
	}
	for name := range told {
		if !known[name] {
			return Config{}, fmt.Errorf("nobody reads %s", name)
		}
	}
	told = maps.Clone(told)
	told["DATA_DIR"] = t.TempDir()
	c, err := loadConfig(env(told))
	if err != nil {
		return c, err
	}
	return c, c.takeRoles(cmp.Or(list, "all"))
}

// What names something else in the chart names something that is there: no API
// server looks at that, and a service without pods is seen by customers first.
func TestChartHangsTogether(t *testing.T) {
	helm, err := exec.LookPath("helm")
	if err != nil {
		t.Log("SKIPPED, NOT TESTED: the chart, for want of helm")
		return
	}
	files, _ := filepath.Glob("../deploy/chart/ci/*-values.yaml")
	if len(files) < 8 {
		t.Fatalf("only %d files of values", len(files))
	}
	render := func(release, file string) (objects []manifest) {
		out, err := exec.Command(helm, "template", release, "../deploy/chart", "--kube-version", "1.37.2", "--values", file).Output()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(out)); ; {
			var m manifest
			if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
				return objects
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, m)
		}
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), "-values.yaml")
		objects := render(name, file)
		switch name {
		case "green":
			continue // is looked at beside blue
		case "blue":
			objects = append(objects, render("green", filepath.Join(filepath.Dir(file), "green-values.yaml"))...)
		}
		for _, fault := range append(dangling(objects), unconfigured(t, objects)...) {
			t.Errorf("%s: %s", name, fault)
		}
		// The test can fail: without any one of these objects something dangles.
		for i, m := range objects {
			switch m.Kind {
			case "Service", "ConfigMap", "ServiceAccount", "Gateway", "Deployment":
				if len(dangling(slices.Delete(slices.Clone(objects), i, i+1))) == 0 {
					t.Errorf("%s: nobody misses %s %s", name, m.Kind, m.Metadata.Name)
				}
			}
		}
	}
}

// unconfigured are the pods that would not start with what they are told.
func unconfigured(t *testing.T, objects []manifest) (faults []string) {
	for _, m := range objects {
		for _, c := range m.Spec.Template.Spec.Containers {
			// What is in the secret.
			told := map[string]string{"SECRET_KEY": strings.Repeat("x", 32), "DATABASE_URL": "postgres://db/x", "REDIS_URL": "redis://cache"}
			for _, from := range c.EnvFrom {
				for _, other := range objects {
					if other.Kind == "ConfigMap" && other.Metadata.Name == from.ConfigMapRef.Name {
						maps.Copy(told, other.Data)
					}
				}
			}
			for _, e := range c.Env {
				told[e.Name] = strings.ReplaceAll(e.Value, "$(POD_IP)", "10.0.0.1")
			}
			list := ""
			for _, arg := range c.Args {
				list += strings.TrimPrefix(arg, "--roles=")
			}
			got, err := toldTo(t, told, strings.TrimPrefix(strings.TrimPrefix(list, "serve"), "migrate"))
			switch {
			case err != nil:
				faults = append(faults, fmt.Sprintf("%s %s does not start: %v", m.Kind, m.Metadata.Name, err))
			case m.Kind == "Deployment" && (got.HTTPAddr != fmt.Sprintf(":%d", c.Ports[0].ContainerPort) || len(got.Roles) != 1):
				faults = append(faults, fmt.Sprintf("%s listens on %s", m.Metadata.Name, got.HTTPAddr))
			case m.Kind == "Deployment" && got.DrainWait < 2*time.Second:
				faults = append(faults, m.Metadata.Name+" ends before it is forgotten")
			}
			// A gateway that goes by names finds a service of every other role, of its own release.
			for role, at := range got.Peers {
				want := fmt.Sprintf("%s-%s:", m.Metadata.Labels["app.kubernetes.io/instance"], role)
				if len(got.Peers) != len(roles) || len(at) != 1 || !strings.HasPrefix(at[0], want) || !slices.ContainsFunc(objects, func(s manifest) bool {
					return s.Kind == "Service" && len(s.Spec.Ports) == 1 && fmt.Sprintf("%s:%d", s.Metadata.Name, s.Spec.Ports[0].Port) == at[0]
				}) {
					faults = append(faults, fmt.Sprintf("%s looks for %s at %v", m.Metadata.Name, role, at))
				}
			}
		}
	}
	return faults
}

// manifest is what the references of all kinds that the chart has are in.
type manifest struct {
	Kind     string
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Data map[string]string
	Spec struct {
		Template struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     podSpec
		}
		Replicas       int
		Selector       yaml.Node
		PodSelector    selector                    `yaml:"podSelector"`
		ScaleTargetRef struct{ Kind, Name string } `yaml:"scaleTargetRef"`
		Ports          []struct {
			Name       string
			Port       int
			TargetPort string `yaml:"targetPort"`
		}
		Host     string
		Subsets  []subset
		Gateways []string
		HTTP     []struct {
			Route []struct {
				Destination struct {
					Host, Subset string
					Port         struct{ Number int }
				}
				Weight int
			}
		}
		Ingress []struct {
			Ports []struct{ Port int }
		}
		Rules []struct {
			To []struct {
				Operation struct{ Ports []string }
			}
			HTTP struct {
				Paths []struct {
					Backend struct {
						Service struct {
							Name string
							Port struct{ Name string }
						}
					}
				}
			}
		}
		Endpoints []struct{ Port string }
	}
}

type subset struct {
	Name   string
	Labels map[string]string
}

type selector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []struct {
		Key, Operator string
		Values        []string
	} `yaml:"matchExpressions"`
}

type healthProbe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

type podSpec struct {
	ServiceAccountName string `yaml:"serviceAccountName"`
	Containers         []struct {
		EnvFrom []struct {
			ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
		} `yaml:"envFrom"`
		Env   []struct{ Name, Value string }
		Args  []string
		Ports []struct {
			Name          string
			ContainerPort int `yaml:"containerPort"`
		}
		Startup   healthProbe `yaml:"startupProbe"`
		Liveness  healthProbe `yaml:"livenessProbe"`
		Readiness healthProbe `yaml:"readinessProbe"`
		Resources struct{ Requests map[string]string }
	}
}

// dangling is what the objects name that is not among them.
func dangling(objects []manifest) (faults []string) {
	find := func(kind, name string) *manifest {
		i := slices.IndexFunc(objects, func(m manifest) bool { return m.Kind == kind && m.Metadata.Name == name })
		if i < 0 {
			return nil
		}
		return &objects[i]
	}
	has := func(labels, want map[string]string) bool {
		for k, v := range want {
			if labels[k] != v {
				return false
			}
		}
		return len(want) > 0
	}
	// pods are those that the labels select.
	pods := func(want map[string]string) (out []manifest) {
		for _, m := range objects {
			if (m.Kind == "Deployment" || m.Kind == "Job") && has(m.Spec.Template.Metadata.Labels, want) {
				out = append(out, m)
			}
		}
		return out
	}
	// reached are those of the pods that a network policy is about.
	reached := func(s selector) []manifest {
		return slices.DeleteFunc(pods(s.MatchLabels), func(m manifest) bool {
			return slices.ContainsFunc(s.MatchExpressions, func(e struct {
				Key, Operator string
				Values        []string
			}) bool {
				return slices.Contains(e.Values, m.Spec.Template.Metadata.Labels[e.Key]) != (e.Operator == "In")
			})
		})
	}
	listens := func(m manifest, port string) bool {
		for _, c := range m.Spec.Template.Spec.Containers {
			for _, p := range c.Ports {
				if p.Name == port || fmt.Sprint(p.ContainerPort) == port {
					return true
				}
			}
		}
		return false
	}
	// of are the objects of a kind that are about the pods of m.
	of := func(kind string, m manifest) (n int) {
		for _, o := range objects {
			var s selector
			labels := map[string]string{}
			_ = o.Spec.Selector.Decode(&s) // of services it is the labels themselves
			_ = o.Spec.Selector.Decode(&labels)
			same := func(p manifest) bool { return p.Kind == m.Kind && p.Metadata.Name == m.Metadata.Name }
			switch {
			case o.Kind != kind:
			case kind == "Service" && has(m.Spec.Template.Metadata.Labels, labels),
				kind == "PodDisruptionBudget" && has(m.Spec.Template.Metadata.Labels, s.MatchLabels),
				kind == "NetworkPolicy" && slices.ContainsFunc(reached(o.Spec.PodSelector), same),
				kind == "HorizontalPodAutoscaler" && o.Spec.ScaleTargetRef.Kind == m.Kind && o.Spec.ScaleTargetRef.Name == m.Metadata.Name:
				n++
			}
		}
		return n
	}
	for _, m := range objects {
		bad := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("%s %s: ", m.Kind, m.Metadata.Name)+fmt.Sprintf(format, args...))
		}
		var chosen selector
		labels := map[string]string{}
		_ = m.Spec.Selector.Decode(&chosen) // of services it is the labels themselves
		_ = m.Spec.Selector.Decode(&labels)
		switch m.Kind {
		case "Deployment", "Job":
			spec := m.Spec.Template.Spec
			scaled := m.Kind == "Deployment" && m.Spec.Replicas == 0
			for kind, want := range map[string]bool{"Service": m.Kind == "Deployment", "PodDisruptionBudget": m.Kind == "Deployment", "NetworkPolicy": true, "HorizontalPodAutoscaler": scaled} {
				if n := of(kind, m); (n == 1) != want || n > 1 {
					bad("%d of kind %s are about its pods", n, kind)
				}
			}
			if spec.ServiceAccountName != "" && find("ServiceAccount", spec.ServiceAccountName) == nil {
				bad("runs as %s", spec.ServiceAccountName)
			}
			for _, c := range spec.Containers {
				for _, from := range c.EnvFrom {
					if from.ConfigMapRef.Name != "" && find("ConfigMap", from.ConfigMapRef.Name) == nil {
						bad("reads %s", from.ConfigMapRef.Name)
					}
				}
				if scaled && c.Resources.Requests["cpu"] == "" {
					bad("nobody can say how much of its processor it uses")
				}
				if m.Kind == "Job" {
					continue
				}
				for path, p := range map[string][]healthProbe{"/livez": {c.Startup, c.Liveness}, "/readyz": {c.Readiness}} {
					for _, p := range p {
						if p.HTTPGet.Path != path || !listens(m, p.HTTPGet.Port) {
							bad("is asked for %s at %s", p.HTTPGet.Path, p.HTTPGet.Port)
						}
					}
				}
				if at := m.Spec.Template.Metadata.Annotations["prometheus.io/port"]; !listens(m, at) {
					bad("is scraped at %s", at)
				}
			}
		case "Service":
			if len(pods(labels)) == 0 {
				bad("no pods")
			}
			for _, p := range pods(labels) {
				for _, port := range m.Spec.Ports {
					if !listens(p, port.TargetPort) {
						bad("%s has no port %s", p.Metadata.Name, port.TargetPort)
					}
				}
			}
		case "HorizontalPodAutoscaler":
			if ref := m.Spec.ScaleTargetRef; find(ref.Kind, ref.Name) == nil {
				bad("scales %s %s", ref.Kind, ref.Name)
			}
		case "PodDisruptionBudget", "PeerAuthentication", "AuthorizationPolicy":
			if len(pods(chosen.MatchLabels)) == 0 {
				bad("no pods")
			}
			for _, rule := range m.Spec.Rules {
				for _, to := range rule.To {
					for _, port := range to.Operation.Ports {
						if !slices.ContainsFunc(pods(chosen.MatchLabels), func(p manifest) bool { return listens(p, port) }) {
							bad("is about port %s", port)
						}
					}
				}
			}
		case "NetworkPolicy":
			if len(reached(m.Spec.PodSelector)) == 0 {
				bad("no pods")
			}
			for _, in := range m.Spec.Ingress {
				for _, port := range in.Ports {
					for _, p := range reached(m.Spec.PodSelector) {
						if !listens(p, fmt.Sprint(port.Port)) {
							bad("lets in to port %d of %s", port.Port, p.Metadata.Name)
						}
					}
				}
			}
		case "Ingress":
			for _, rule := range m.Spec.Rules {
				for _, path := range rule.HTTP.Paths {
					to := path.Backend.Service
					if s := find("Service", to.Name); s == nil || s.Spec.Ports[0].Name != to.Port.Name {
						bad("leads to %s:%s", to.Name, to.Port.Name)
					}
				}
			}
		case "ServiceMonitor":
			n := 0
			for _, s := range objects {
				if s.Kind == "Service" && has(s.Metadata.Labels, chosen.MatchLabels) && s.Spec.Ports[0].Name == m.Spec.Endpoints[0].Port {
					n++
				}
			}
			if n != len(roles) {
				bad("watches %d services", n)
			}
		case "DestinationRule":
			if find("Service", m.Spec.Host) == nil {
				bad("is of %s", m.Spec.Host)
			}
			for _, s := range m.Spec.Subsets {
				labels := map[string]string{}
				if host := find("Service", m.Spec.Host); host != nil {
					_ = host.Spec.Selector.Decode(&labels)
				}
				maps.Copy(labels, s.Labels)
				if len(pods(labels)) == 0 {
					bad("subset %s has no pods", s.Name)
				}
			}
		case "VirtualService":
			for _, g := range m.Spec.Gateways {
				if find("Gateway", g) == nil {
					bad("is at %s", g)
				}
			}
			for _, h := range m.Spec.HTTP {
				sum := 0
				for _, r := range h.Route {
					sum += r.Weight
					to := r.Destination
					if s := find("Service", to.Host); s == nil || s.Spec.Ports[0].Port != to.Port.Number {
						bad("leads to %s:%d", to.Host, to.Port.Number)
					}
					if rule := find("DestinationRule", to.Host); rule == nil || !slices.ContainsFunc(rule.Spec.Subsets, func(s subset) bool { return s.Name == to.Subset }) {
						bad("leads to subset %s", to.Subset)
					}
				}
				if sum != 100 {
					bad("the weights are %d in all", sum)
				}
			}
		}
	}
	return faults
}

// Lists in memory take half of what a container may have, so that a process that
// holds as many as it will is not ended for it.
func TestIndexesFitTheContainer(t *testing.T) {
	before := debug.SetMemoryLimit(600 << 20)
	defer debug.SetMemoryLimit(before)
	p := testProgram(t)
	defer p.close(context.Background())
	if got := p.datasets.IndexBytes; got != 300<<20 {
		t.Errorf("indexes may take %d bytes", got)
	}
}

// A tenth of what a container may have is left to what Go does not count.
func TestMostOfTheContainersMemory(t *testing.T) {
	for text, want := range map[string]int64{"1000000000\n": 900000000, "max\n": 0, "9223372036854771712\n": 0, "": 0} {
		if got := mostOf(text); got != want {
			t.Errorf("of %q %d are taken, %d may be", text, got, want)
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
