// Package billing knows what a tenant may use and what it has used.
//
// A plan is a version of catalogue data: a quota for each meter and month, a
// rate for each class of routes and minute, levels and features. Every metered
// call is admitted by shared counters, which decide rate and quota together;
// what it used is written to a local log before the answer leaves, and moved
// from there to the ledger in the database. The ledger is the truth: counters
// that were lost are rebuilt from it before anything else is admitted.
package billing

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Plan is one version of what can be bought. -1 means unlimited.
type Plan struct {
	Name     string           `json:"name"`
	Version  int              `json:"version"`
	Title    string           `json:"title"`
	Quotas   map[string]int64 `json:"quotas" doc:"units of each meter a calendar month (UTC)"`
	Rates    map[string]int64 `json:"rates" doc:"calls of each class a minute"`
	Levels   map[string]int64 `json:"levels" doc:"seats, datasets and rows at one time"`
	Features []string         `json:"features" nullable:"false"`
}

//go:embed plans.json
var catalogue []byte

// Meters are what is counted; Levels go up and down.
var (
	Meters = []string{"match", "dataset_search", "entity_search", "relations_normal", "relations_deep", "import_rows", "api_requests"}
	Levels = []string{"seats", "datasets", "dataset_rows"}
)

type tenantPlan struct {
	store.Owned
	Plan    string
	Version int
	Author  string
	Reason  string
	Since   time.Time
}

// Config of the Service. Now may be nil.
type Config struct {
	Store *store.Store
	Audit *audit.Trail
	Now   func() time.Time
}

// Service answers what a tenant may use.
type Service struct {
	Config
	plans []Plan
	mu    sync.Mutex
	known map[string]entitled
}

type entitled struct {
	plan  Plan
	until time.Time
}

// New reads the catalogue and refuses one that leaves a limit open.
func New(c Config) (*Service, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Service{Config: c, known: map[string]entitled{}}
	if err := json.Unmarshal(catalogue, &s.plans); err != nil {
		return nil, fmt.Errorf("plans.json: %w", err)
	}
	for _, p := range s.plans {
		for _, m := range Meters {
			if _, ok := p.Quotas[m]; !ok {
				return nil, fmt.Errorf("plans.json: plan %s has no quota of %s", p.Name, m)
			}
		}
		for _, l := range Levels {
			if _, ok := p.Levels[l]; !ok {
				return nil, fmt.Errorf("plans.json: plan %s has no level of %s", p.Name, l)
			}
		}
		for _, class := range []string{"light", "data", "match", "research"} {
			if p.Rates[class] <= 0 {
				return nil, fmt.Errorf("plans.json: plan %s has no rate of %s", p.Name, class)
			}
		}
	}
	return s, nil
}

// Class reports whether plans know the rate class.
func (s *Service) Class(name string) bool { _, ok := s.plans[0].Rates[name]; return ok }

// Plans is the public catalogue.
func (s *Service) Plans(context.Context, struct{}) (domain.Page[Plan], error) {
	return domain.Page[Plan]{Data: s.plans}, nil
}

func (s *Service) plan(name string) (Plan, bool) {
	for _, p := range s.plans {
		if p.Name == name {
			return p, true
		}
	}
	return Plan{}, false
}

// Entitlements is the plan in force for the scope's tenant, at most a second old.
func (s *Service) Entitlements(ctx context.Context) (Plan, error) {
	tenant, now := domain.TenantOf(ctx), s.Now()
	s.mu.Lock()
	e, ok := s.known[tenant]
	s.mu.Unlock()
	if ok && now.Before(e.until) {
		return e.plan, nil
	}
	var row tenantPlan
	err := s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Limit(1).Find(&row).Error })
	if err != nil {
		return Plan{}, err
	}
	if row.Plan == "" {
		row.Plan = "free"
	}
	p, ok := s.plan(row.Plan)
	if !ok {
		return p, fmt.Errorf("billing: tenant %s is on plan %q, which is not in the catalogue", tenant, row.Plan)
	}
	s.mu.Lock()
	if len(s.known) > 50_000 {
		clear(s.known)
	}
	s.known[tenant] = entitled{p, now.Add(time.Second)}
	s.mu.Unlock()
	return p, nil
}

// SetPlan puts a tenant on a plan, with author and reason, in a system scope.
func (s *Service) SetPlan(ctx context.Context, tenant, plan, author, reason string) error {
	p, ok := s.plan(plan)
	if !ok {
		return domain.InvalidField("plan", "unknown_plan", "There is no such plan.")
	}
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		row := tenantPlan{store.Owned{TenantID: tenant}, p.Name, p.Version, author, reason, s.Now().UTC()}
		err := s.Store.For(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "tenant_id"}}, DoUpdates: clause.AssignmentColumns([]string{"plan", "version", "author", "reason", "since"})}).Create(&row).Error
		if err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "plan.set", Target: tenant, Tenant: tenant, Detail: map[string]any{"plan": plan, "author": author, "reason": reason}})
	})
	s.mu.Lock()
	delete(s.known, tenant)
	s.mu.Unlock()
	return err
}

// TakeLevel adds n to a level in the caller's transaction, or refuses where it
// would pass the plan's limit: one conditional update, exact however many
// callers there are.
func (s *Service) TakeLevel(ctx context.Context, level string, n int64) error {
	p, err := s.Entitlements(ctx)
	if err != nil {
		return err
	}
	ok, err := s.take(ctx, level, n, p.Levels[level])
	if err == nil && !ok {
		return domain.E(domain.Forbidden, "plan_limit_reached", "The plan allows %d of %s.", p.Levels[level], level)
	}
	return err
}

func (s *Service) take(ctx context.Context, level string, n, limit int64) (bool, error) {
	if _, err := s.Store.Exec(ctx, `INSERT INTO tenant_levels (tenant_id, level, used) VALUES (@tenant, @level, 0) ON CONFLICT DO NOTHING`, map[string]any{"level": level}); err != nil {
		return false, err
	}
	changed, err := s.Store.Exec(ctx, `UPDATE tenant_levels SET used = used + @n WHERE tenant_id = @tenant AND level = @level AND (@limit < 0 OR used + @n <= @limit)`,
		map[string]any{"level": level, "n": n, "limit": limit})
	return changed > 0, err
}

// FreeLevel takes n off a level in the caller's transaction.
func (s *Service) FreeLevel(ctx context.Context, level string, n int64) error {
	_, err := s.Store.Exec(ctx, `UPDATE tenant_levels SET used = CASE WHEN used > @n THEN used - @n ELSE 0 END WHERE tenant_id = @tenant AND level = @level`,
		map[string]any{"level": level, "n": n})
	return err
}

var _ = domain.Chinese(map[string]string{
	"There is no such plan.":                          "没有这个套餐。",
	"The plan allows %d of %s.":                       "该套餐允许 %d 个 %s。",
	"There are too many calls a minute for the plan.": "每分钟调用次数超过套餐上限。",
	"The quota of %s for this period is used up.":     "本期 %s 的配额已用完。",
	"The counters are being rebuilt.":                 "计数器正在重建。",
})
