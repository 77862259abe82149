package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/app/faults"
	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/domain"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// A wrong value stops the start with its name, its value and what is allowed;
// a secret is never shown, right or wrong.
func TestWrongValuesStopTheStart(t *testing.T) {
	dir := t.TempDir()
	for name, wrong := range map[string]string{
		"HTTP_ADDR": "3000", "BASE_URL": "example", "DATABASE_URL": "mysql://hunter2@x", "REDIS_URL": "hunter2",
		"BASE_URL ": "http://me:hunter2@x", "SEARXNG_URL": "http://me:hunter2@x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hunter2@x:4318", "STRIPE_API_BASE": "http://hunter2@x",
		"FEATURES_OFF": "research,everything", "MATCHING_DEFAULTS": "threshold=2", "MATCHING_DEFAULTS ": "jaro_winkler=0,levenshtein=0,word=0,ngram=0",
		"TRUSTED_PROXIES": "10.0.0.0/99", "LOG_LEVEL": "loud", "ENVIRONMENT": "staging", "SECRET_KEY": "hunter2", "BASE_DOMAIN": "a b", "EMAIL_VERIFICATION": "sometimes",
	} {
		name = strings.TrimSpace(name)
		_, err := loadConfig(env(map[string]string{"DATA_DIR": dir, name: wrong}))
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "allowed is") {
			t.Errorf("%s=%q: %v", name, wrong, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
	if _, err := loadConfig(env(map[string]string{"DATA_DIR": dir, "ENVIRONMENT": "production"})); err == nil {
		t.Error("production starts without a SECRET_KEY")
	}
}

// The environment goes over the file, and the file over the defaults; a
// misspelt name in the file is an error, and the development key is kept.
func TestConfigSources(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("http_addr: \":4000\"\nlog_level: warn\n")
	values := map[string]string{"CONFIG_FILE": file, "DATA_DIR": dir, "HTTP_ADDR": ":5000"}
	c, err := loadConfig(env(values))
	if err != nil || c.HTTPAddr != ":5000" || c.LogLevel.String() != "WARN" || c.Environment != "development" {
		t.Fatalf("%+v %v", c, err)
	}
	again, err := loadConfig(env(values))
	if err != nil || string(again.SecretKey) != string(c.SecretKey) {
		t.Error("the development key is not kept")
	}
	for _, line := range c.shown {
		if strings.Contains(line, string(c.SecretKey)) {
			t.Error("the key is shown")
		}
	}
	write("htpp_addr: x\n")
	if _, err := loadConfig(env(values)); err == nil {
		t.Error("a misspelt setting passes")
	}
	// One file serves several environments.
	write("log_level: warn\nbase_domain: example.test\nproduction:\n  log_level: error\n  secret_key: 0123456789abcdef0123456789abcdef\ndevelopment: {base_url: 'http://here.test'}\n")
	for environment, want := range map[string][3]string{"": {"WARN", "http://here.test", "development"}, "production": {"ERROR", "", "production"}} {
		values["ENVIRONMENT"] = environment
		if c, err = loadConfig(env(values)); err != nil || c.LogLevel.String() != want[0] || c.BaseURL != want[1] || c.Environment != want[2] || c.BaseDomain != "example.test" {
			t.Errorf("in %q: %s %s %s %s %v", environment, c.LogLevel, c.BaseURL, c.Environment, c.BaseDomain, err)
		}
	}
	delete(values, "ENVIRONMENT")
	// What is wrong anywhere in it stops every environment, and no value is in what is said of it.
	for _, text := range []string{"production:\n  log_levle: hunter2\n", "production: hunter2\n", "secret_key: [hunter2]\n", "hunter2\n", "production:\n  environment: development\n", "LOG_LEVEL: hunter2\n", "log_level: \"hunter2\n"} {
		write(text)
		if _, err := loadConfig(env(values)); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", text, err)
		}
	}
	secret := filepath.Join(dir, "db")
	if err := os.WriteFile(secret, []byte("postgres://x/y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(values, "CONFIG_FILE")
	values["DATABASE_URL_FILE"] = secret
	if c, err = loadConfig(env(values)); err != nil || c.DatabaseURL != "postgres://x/y" {
		t.Errorf("DATABASE_URL_FILE: %q %v", c.DatabaseURL, err)
	}
	if err := os.WriteFile(secret, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = loadConfig(env(values)); err == nil { // or a mount that failed would be SQLite
		t.Errorf("an empty DATABASE_URL_FILE is %q", c.DatabaseURL)
	}
}

// Processes that start together on an empty folder have one secret; what is too
// short to be one is not replaced.
func TestOneSecret(t *testing.T) {
	dir := t.TempDir()
	keys := make(chan string, 20)
	for range cap(keys) {
		go func() {
			key, err := keptSecret(filepath.Join(dir, "secret.key"))
			if err != nil {
				t.Error(err)
			}
			keys <- string(key)
		}()
	}
	first := <-keys
	for range cap(keys) - 1 {
		if key := <-keys; key != first || len(key) < 32 {
			t.Errorf("%q and %q", first, key)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v %v", list, err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := keptSecret(short); err == nil {
		t.Errorf("%q is a secret", key)
	}
}

// No secret is in what is shown of the configuration, in the log at its most
// talkative, in what is answered or in what is kept, also where everything that a
// secret is for fails.
func TestSecretsAreNeverShown(t *testing.T) {
	t.Parallel()
	const canary = "CANARY0123456789abcdefghijklmnop"
	values := map[string]string{"DATA_DIR": t.TempDir(), "LOG_LEVEL": "debug", "MAIL_FROM": "us@example.org", "EMAIL_VERIFICATION": "off", "ALERT_EMAIL": "keeper@example.org",
		"BRIGHT_DATA_SERP_ZONE": "z", "OPENAI_MODEL": "m", "SANDBOX": "off"}
	for _, vendor := range []string{"GEMINI", "OPENAI", "BRIGHT_DATA", "LINKUP"} {
		values[vendor+"_BASE_URL"] = "http://127.0.0.1:1"
	}
	values["STRIPE_API_BASE"], values["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1", "http://127.0.0.1:1"
	for _, s := range settings {
		if !s.secret {
			continue
		}
		value := map[string]string{"SMTP_URL": "smtp://me:" + canary + "@127.0.0.1:1?tls=none", "STRIPE_SECRET_KEY": "sk_test_" + canary, "ALERT_WEBHOOK": "http://127.0.0.1:1/" + canary, "ALERT_WEBHOOK_SECRET": "whsec_" + canary,
			"OTEL_EXPORTER_OTLP_HEADERS": "X-Key=" + canary, "SENTRY_DSN": "http://" + canary + "@127.0.0.1:1/1", "DATABASE_URL": "", "DATABASE_REPLICA_URL": "", "REDIS_URL": ""}
		if v, ok := value[s.name]; ok {
			values[s.name] = v
			continue
		}
		values[s.name] = canary
	}
	c := configured(t, values)
	shown := strings.Join(c.shown, "\n")
	var err error
	if c.faults, err = faults.New(faults.Config{DSN: c.SentryDSN}); err != nil {
		t.Fatal(err)
	}
	var log journal
	p, base := served(t, c, c.faults.Logs(tracing.Logs(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: c.level}))), nil)
	user, _, tenant := person(t, base, "hidden")
	if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "enterprise", "test", "research"); err != nil {
		t.Fatal(err)
	}
	user.must(202, "POST", "/api/v1/demo-requests", map[string]any{"name": "A", "email": "a@example.org", "company": "C", "message": "M"})
	run := user.must(202, "POST", "/api/v1/entity-searches", map[string]any{"name": "Northmere University", "depth": "standard"})
	user.do("POST", "/api/v1/billing/checkout", map[string]any{"plan": "pro", "interval": "month"})
	until(t, "what fails is in the log", func() bool {
		return log.find("a dependency does not answer", "dependency", "smtp") != nil && log.find("an alert is not told", "channel", "webhook") != nil && log.find("job failed", "job", "mail") != nil
	})
	user.must(200, "DELETE", "/api/v1/runs/"+run["id"].(string), nil)
	administrator(t, p, user)
	for _, path := range []string{"/api/monitoring/health", "/api/monitoring/enhanced-health", "/api/health", "/metrics", "/openapi.json", "/api/v1/admin/providers", "/api/v1/admin/alerts", "/api/v1/admin/jobs", "/api/v1/admin/config-changes",
		"/api/v1/runs/" + run["id"].(string), "/api/v1/audit-events"} {
		status, raw, _ := user.do("GET", path, nil)
		if status != 200 && status != 503 {
			t.Errorf("%s: %d", path, status)
		}
		shown += string(raw)
	}
	log.mu.Lock()
	shown += string(log.text)
	log.mu.Unlock()
	if at := strings.Index(shown, canary); at >= 0 || !strings.Contains(shown, "[redacted]") {
		t.Errorf("a secret is shown: …%s…", shown[max(0, at-200):max(0, at)])
	}
	database, err := os.ReadFile(filepath.Join(values["DATA_DIR"], "chainreactions.db-wal"))
	if err != nil || strings.Contains(string(database), canary) {
		t.Errorf("the database holds one: %v", err)
	}
}
