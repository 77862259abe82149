package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// reloadable settings change while the process runs, when it gets SIGHUP or when
// CONFIG_FILE changes. Each holds no secret, so that it can be on the record.
var reloadable = map[string]func(p *program, c Config){
	"LOG_LEVEL":       func(p *program, c Config) { p.config.level.Set(c.LogLevel) },
	"PROVIDER_LIMITS": func(p *program, c Config) { p.vendors.SetLimits(c.Limits) },
	"ALERT_LIMITS":    func(p *program, c Config) { p.alertLimits.Store(&c.AlertLimits) },
}

// lookAtConfig is how often CONFIG_FILE is looked at. A file that is replaced, as
// a mounted map of Kubernetes is, has another time too.
const lookAtConfig = 2 * time.Second

// watchConfig reloads until ctx ends. Every process of an installation does.
func (p *program) watchConfig(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	t := time.NewTicker(lookAtConfig)
	defer t.Stop()
	last := p.config.read
	for {
		select {
		case <-hangup:
		case <-t.C:
			now := writtenAt(p.config.file)
			if now.Equal(last) || now.IsZero() {
				continue
			}
			last = now
		case <-ctx.Done():
			return
		}
		if err := p.reload(ctx); err != nil {
			p.log.Error("nothing of the new configuration is in force", "error", err)
		}
	}
}

// reload puts what may change into force: all of it, or, where any value is
// wrong or the change cannot be put on the record, nothing.
func (p *program) reload(ctx context.Context) error {
	next, err := loadConfig(p.config.getenv)
	if err != nil {
		return err
	}
	before, after := valuesOf(p.config.shown), valuesOf(next.shown)
	var changed, waiting []string
	for _, s := range settings {
		if before[s.name] == after[s.name] {
			continue
		}
		if reloadable[s.name] == nil {
			waiting = append(waiting, s.name)
			continue
		}
		changed = append(changed, s.name)
	}
	if len(waiting) > 0 {
		p.log.Warn("changed settings that hold from the next start on", "names", waiting)
	}
	if len(changed) == 0 {
		return nil
	}
	host, _ := os.Hostname()
	err = p.store.Tx(domain.System(ctx, "configuration"), func(ctx context.Context) error {
		for _, name := range changed {
			if _, err := p.store.Exec(ctx, "INSERT INTO config_changes (id, at, process, name, before, after) VALUES (@id, @at, @process, @name, @before, @after)",
				map[string]any{"id": domain.NewID("cfg"), "at": time.Now().UTC(), "process": fmt.Sprintf("%s %d", host, os.Getpid()), "name": name, "before": before[name], "after": after[name]}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("it cannot be put on the record: %w", err)
	}
	for _, name := range changed {
		reloadable[name](p, next)
		for i, line := range p.config.shown {
			if strings.HasPrefix(line, name+"=") {
				for _, now := range next.shown {
					if strings.HasPrefix(now, name+"=") {
						p.config.shown[i] = now
					}
				}
			}
		}
		p.log.Warn("a setting was changed", "name", name, "before", before[name], "after", after[name])
	}
	return nil
}

// valuesOf reads what a configuration shows, without where it comes from.
func valuesOf(shown []string) map[string]string {
	out := map[string]string{}
	for _, line := range shown {
		name, rest, _ := strings.Cut(line, "=")
		if at := strings.LastIndex(rest, " ("); at >= 0 {
			rest = rest[:at]
		}
		out[name] = rest
	}
	return out
}
