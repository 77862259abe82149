package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// reloadable settings change while the process runs, when it gets SIGHUP or when
// CONFIG_FILE changes. Each holds no secret, so that it can be on the record.
var reloadable = map[string]func(p *program, c Config){
	"LOG_LEVEL":         func(p *program, c Config) { p.config.level.Set(c.LogLevel) },
	"PROVIDER_LIMITS":   func(p *program, c Config) { p.vendors.SetLimits(c.Limits) },
	"ALERT_LIMITS":      func(p *program, c Config) { p.alertLimits.Store(&c.AlertLimits) },
	"FEATURES_OFF":      func(p *program, c Config) { p.off.Store(&c.FeaturesOff) },
	"QUEUE_LIMITS":      func(p *program, c Config) { p.queue.SetLimits(c.QueueLimits) },
	"HEAVY_CALLS":       func(p *program, c Config) { p.api.SetHeavyCalls(c.HeavyCalls) },
	"MATCHING_DEFAULTS": func(p *program, c Config) { p.datasets.SetDefaults(c.Matching) },
}

// switches are what operators may turn off while the program runs, to keep the
// rest of it: what is new of the kind is refused, what was accepted goes on.
// Which rows each turns off they say themselves.
var switches = []string{"research", "research.entity_relations", "research.entity_search", "research.dataset_search", "matching", "imports", "signup", "demo_requests"}

// isOff reports whether a switch, or what it is a part of, is off.
func (p *program) isOff(name string) bool {
	for _, off := range *p.off.Load() {
		if name == off || strings.HasPrefix(name, off+".") {
			return true
		}
	}
	return false
}

// lookAtConfig is how often CONFIG_FILE is looked at. A file that is replaced, as
// a mounted map of Kubernetes is, has another time too.
const lookAtConfig = time.Second / 2

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
		err := p.reload(ctx)
		if p.refused.Store(err != nil); err != nil {
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
	p.tellConfig()
	return nil
}

// configMetrics tell whether processes agree on what may change, and whether the
// last change was taken.
func (p *program) configMetrics() {
	p.inForce = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "chainreactions_config_info",
		Help: "1; the label is a hash of the settings that may change at run time: processes with different ones differ in them."}, []string{"hash"})
	p.registry.MustRegister(p.inForce, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chainreactions_config_refused",
		Help: "1 while the last change of the configuration was refused, of which nothing is in force."}, func() float64 {
		if p.refused.Load() {
			return 1
		}
		return 0
	}))
	p.tellConfig()
}

func (p *program) tellConfig() {
	sum, values := sha256.New(), valuesOf(p.config.shown)
	for _, name := range slices.Sorted(maps.Keys(reloadable)) {
		fmt.Fprintf(sum, "%s=%s\n", name, values[name])
	}
	p.inForce.Reset()
	p.inForce.WithLabelValues(hex.EncodeToString(sum.Sum(nil)[:6])).Set(1)
}

// ConfigChange is a setting that was changed in a running process.
type ConfigChange struct {
	ID      string    `gorm:"primaryKey" json:"id"`
	At      time.Time `json:"at"`
	Process string    `json:"process" doc:"host and number of the process: each says so itself"`
	Name    string    `json:"name"`
	Before  string    `json:"before"`
	After   string    `json:"after"`
}

// TableName is what migration 0141 calls it.
func (ConfigChange) TableName() string { return "config_changes" }

// showConfigChanges lists them to an administrator.
func (p *program) showConfigChanges(ctx context.Context, in domain.PageRequest) (page domain.Page[ConfigChange], err error) {
	err = p.store.Read(domain.System(ctx, "configuration"), func(ctx context.Context) error {
		page, err = store.Newest(p.store.For(ctx), in, func(c ConfigChange) string { return c.ID })
		return err
	})
	if err != nil {
		return page, err
	}
	return page, p.store.Tx(ctx, func(ctx context.Context) error {
		return p.audit.Record(ctx, audit.Entry{Action: "admin.read_config_changes"})
	})
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
