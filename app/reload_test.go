package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
)

// What may change does so on a change of the file and on SIGHUP, and is on the
// record; a file with any mistake changes nothing, and what may not change waits
// for the next start.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("log_level: info\n")
	c, err := loadConfig(env(map[string]string{"DATA_DIR": dir, "CONFIG_FILE": file, "SANDBOX": "off"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close(context.Background())
	recorded := func() (names []string) {
		err := p.store.Read(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			return p.store.SQL(ctx, "SELECT name FROM config_changes ORDER BY id", nil).Scan(&names).Error
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); p.watchConfig(ctx) }()
	defer func() { stop(); <-watched }()

	write("log_level: debug\nalert_limits: disk_free=0.3\n")
	until(t, "the file is seen", func() bool {
		return c.level.Level() == slog.LevelDebug && p.alertLimits.Load().Gauges["disk_free"] == .3
	})
	if n := len(recorded()); n != 2 {
		t.Errorf("%d changes are on the record", n)
	}

	for name, text := range map[string]string{
		"a wrong value beside a good one": "log_level: error\nalert_limits: nothing=1\n",
		"an unknown name":                 "log_level: error\nlog_levle: error\n",
		"no YAML":                         "log_level: [\n",
	} {
		write(text)
		if err := p.reload(t.Context()); err == nil || c.level.Level() != slog.LevelDebug || len(recorded()) != 2 {
			t.Errorf("%s: half of it is in force (%v)", name, err)
		}
	}
	write("log_level: warn\nprovider_limits: linkup.day_calls=7\nbase_domain: other.test\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the signal is heard", func() bool { return c.level.Level() == slog.LevelWarn })
	until(t, "the new budget is in force", func() bool {
		spent, err := p.vendors.Spent(t.Context())
		_, limited := spent["linkup"]
		return err == nil && limited
	})
	until(t, "the limit that is no longer set is the default", func() bool { return p.alertLimits.Load().Gauges["disk_free"] == .1 })
	if list := recorded(); len(list) != 5 {
		t.Errorf("on the record: %v", list)
	}
	if p.config.BaseDomain != "" {
		t.Error("what may not change did")
	}
}
