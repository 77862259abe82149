// Package billing knows what a tenant may use and what it has used.
//
// A plan is a version of catalogue data: a quota for each meter and month, a
// rate for each class of routes and minute, levels and features. Published
// versions never change and a tenant stays on the one it has; what it may use
// is one function of that version and of its overrides (entitle). Every metered
// call is admitted by shared counters, which decide rate and quota together;
// what it used is written to a local log before the answer leaves, and moved
// from there to the ledger in the database. How that stays exact when counters
// and processes die is told in purse.go.
package billing

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Titles is a plan's name for people.
type Titles struct {
	English string `json:"en"`
	Chinese string `json:"zh-CN"`
}

// Plan is one version of what can be bought. -1 means unlimited.
type Plan struct {
	Name     string           `json:"name"`
	Version  int              `json:"version"`
	Title    Titles           `json:"title"`
	Quotas   map[string]int64 `json:"quotas" doc:"units of each meter a month: of the subscription, or of the calendar (UTC) where there is none"`
	Rates    map[string]int64 `json:"rates" doc:"calls of each class a minute"`
	Levels   map[string]int64 `json:"levels" doc:"seats, datasets and rows at one time, and streams open at one time on each process"`
	Features []string         `json:"features" nullable:"false"`
	Prices   []PlanPrice      `json:"prices,omitempty" doc:"for one seat; a plan without prices is not sold here"`
	Overage  []PlanOverage    `json:"overage,omitempty" doc:"meters that go on beyond their quota, for money; all others stop there"`

	// Of a tenant now; never of the catalogue.
	Inactive string             `json:"-"` // why nothing may be run or made
	Period   Period             `json:"-"` // that quotas are for
	paid     map[string]overage // by meter
}

// PlanOverage is what units beyond a quota cost: whole packages of them.
type PlanOverage struct {
	Meter  string         `json:"meter"`
	Per    int64          `json:"per" minimum:"1" doc:"units in a package; one that is begun is paid"`
	Most   int64          `json:"most,omitempty" doc:"units beyond the quota after which it stops all the same; 0 is never"`
	Prices []PackagePrice `json:"prices" nullable:"false"`
}

// PackagePrice is what one package costs.
type PackagePrice struct {
	Currency string `json:"currency" minLength:"3" maxLength:"3" doc:"ISO 4217, lower case"`
	Amount   int64  `json:"amount" minimum:"1" doc:"minor units"`
}

// limit is where a meter stops: at its quota, or beyond it where that is paid.
func (p *Plan) limit(meter string) int64 {
	quota := p.Quotas[meter]
	o, pays := p.paid[meter]
	switch {
	case quota < 0 || !pays:
		return quota
	case o.most > 0:
		return quota + o.most
	}
	return -1
}

// PlanPrice is what one seat costs.
type PlanPrice struct {
	Currency string `json:"currency" minLength:"3" maxLength:"3" doc:"ISO 4217, lower case"`
	Interval string `json:"interval" enum:"month,year"`
	Amount   int64  `json:"amount" minimum:"1" doc:"minor units"`
}

// Has reports whether the plan has the feature.
func (p Plan) Has(feature string) bool { return slices.Contains(p.Features, feature) }

// plans.json seeds the catalogue: a plan or a version that the database does
// not have is added at start. What was published stays as it was published,
// whatever this file says later.
//
//go:embed plans.json
var catalogue []byte

// Meters are what is counted; Levels go up and down; Classes have a rate;
// Features are what a plan may open.
var (
	Meters   = []string{"match", "dataset_search", "entity_search", "relations_normal", "relations_deep", "import_rows", "api_requests"}
	Levels   = []string{"seats", "datasets", "dataset_rows"}
	Classes  = []string{"light", "data", "match", "research"}
	Features = []string{"matching", "research", "sso", "scim"}
)

// complete refuses a version that leaves a limit open.
func (p Plan) complete() error {
	for _, m := range Meters {
		if _, ok := p.Quotas[m]; !ok {
			return fmt.Errorf("plan %s version %d has no quota of %s", p.Name, p.Version, m)
		}
	}
	for _, l := range append([]string{"streams"}, Levels...) {
		if _, ok := p.Levels[l]; !ok {
			return fmt.Errorf("plan %s version %d has no level of %s", p.Name, p.Version, l)
		}
	}
	for _, class := range Classes {
		if p.Rates[class] <= 0 {
			return fmt.Errorf("plan %s version %d has no rate of %s", p.Name, p.Version, class)
		}
	}
	for _, f := range p.Features {
		if !slices.Contains(Features, f) {
			return fmt.Errorf("plan %s version %d has a feature that nothing knows: %s", p.Name, p.Version, f)
		}
	}
	seen := map[string]bool{}
	for _, price := range p.Prices {
		key := price.Currency + "/" + price.Interval
		if len(price.Currency) != 3 || price.Currency != strings.ToLower(price.Currency) || price.Interval != "month" && price.Interval != "year" || price.Amount < 1 || seen[key] {
			return fmt.Errorf("plan %s version %d has a price that cannot be: %+v", p.Name, p.Version, price)
		}
		seen[key] = true
	}
	for i, o := range p.Overage {
		again := slices.ContainsFunc(p.Overage[:i], func(x PlanOverage) bool { return x.Meter == o.Meter })
		bad := slices.ContainsFunc(o.Prices, func(x PackagePrice) bool {
			return x.Amount < 1 || !slices.ContainsFunc(p.Prices, func(y PlanPrice) bool { return y.Currency == x.Currency })
		})
		if !slices.Contains(Meters, o.Meter) || o.Per < 1 || o.Most < 0 || again || bad || len(o.Prices) == 0 {
			return fmt.Errorf("plan %s version %d has overage that cannot be: %+v", p.Name, p.Version, o)
		}
	}
	if p.Name == "" || p.Version < 1 || p.Title.English == "" || p.Title.Chinese == "" {
		return fmt.Errorf("plan %q version %d has no name, version or title", p.Name, p.Version)
	}
	return nil
}

type planRow struct {
	Name      string `gorm:"primaryKey"`
	Position  int
	Current   int
	Status    string
	UpdatedAt time.Time
}

func (planRow) TableName() string { return "plans" }

type planVersion struct {
	Plan        string `gorm:"primaryKey"`
	Version     int    `gorm:"primaryKey"`
	Body        string
	Author      string
	PublishedAt time.Time
}

type tenantPlan struct {
	store.Owned
	Plan    string
	Version int
	Author  string
	Reason  string
	Since   time.Time
}

// Override is one thing that a tenant has beside its plan.
type Override struct {
	store.Owned
	Kind      string     `json:"kind" gorm:"primaryKey" enum:"quota,rate,level,feature"`
	Name      string     `json:"name" gorm:"primaryKey"`
	Value     int64      `json:"value"`
	Author    string     `json:"author"`
	Reason    string     `json:"reason"`
	ExpiresAt *time.Time `json:"expires_at" nullable:"true"`
	Since     time.Time  `json:"since"`
}

// TableName is GORM's.
func (Override) TableName() string { return "plan_overrides" }

// entitle is what a tenant may use: one pure function of its plan's version,
// of its overrides and of time. Nothing else decides a limit.
func entitle(p Plan, overrides []Override, now time.Time) Plan {
	p.Quotas, p.Rates, p.Levels, p.Features = maps.Clone(p.Quotas), maps.Clone(p.Rates), maps.Clone(p.Levels), slices.Clone(p.Features)
	for _, o := range overrides {
		if o.ExpiresAt != nil && !now.Before(*o.ExpiresAt) {
			continue
		}
		switch o.Kind {
		case "quota":
			p.Quotas[o.Name] = o.Value
		case "rate":
			p.Rates[o.Name] = o.Value
		case "level":
			p.Levels[o.Name] = o.Value
		case "feature":
			p.Features = slices.DeleteFunc(p.Features, func(f string) bool { return f == o.Name })
			if o.Value != 0 {
				p.Features = append(p.Features, o.Name)
			}
		}
	}
	return p
}

// Config of the Service. Now and Bell may be nil.
type Config struct {
	Store  *store.Store
	Audit  *audit.Trail
	Bell   domain.Bell // tells every process that what a tenant may use has changed
	Logger *slog.Logger
	Now    func() time.Time
}

// Service answers what a tenant may use.
type Service struct {
	Config
	mu       sync.RWMutex
	versions map[string]Plan // "name/version": published, so never stale
	listed   []Plan
	listedAt time.Time
	known    map[string]entitled
	age      uint64 // of known: what was read before it was dropped is not kept
}

type entitled struct {
	plan  *Plan
	until time.Time
}

// fresh is how long entitlements are believed without asking the database.
const fresh = time.Second

// New adds to the catalogue what it lacks and reads it.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Service{Config: c, versions: map[string]Plan{}, known: map[string]entitled{}}
	var seed []Plan
	if err := json.Unmarshal(catalogue, &seed); err != nil {
		return nil, fmt.Errorf("plans.json: %w", err)
	}
	for i, p := range seed {
		if err := s.seed(ctx, i, p); err != nil {
			return nil, fmt.Errorf("plans.json: %w", err)
		}
	}
	return s, nil
}

// seed publishes a version of plans.json that the database does not have.
func (s *Service) seed(ctx context.Context, position int, p Plan) error {
	if err := p.complete(); err != nil {
		return err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.Store.Tx(domain.System(ctx, "seed the plans"), func(ctx context.Context) error {
		db, now := s.Store.For(ctx), s.Now().UTC()
		plan := planRow{p.Name, position, p.Version, "published", now}
		if err := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&plan).Error; err != nil {
			return err
		}
		var have planVersion
		if err := db.Where("plan = ? AND version = ?", p.Name, p.Version).Limit(1).Find(&have).Error; err != nil {
			return err
		}
		if have.Plan != "" {
			if have.Body != string(body) {
				s.Logger.Error("plans.json differs from what was published, which stays in force: give the change a new version", "plan", p.Name, "version", p.Version)
			}
			return nil
		}
		return s.publish(ctx, p, body, "plans.json")
	})
}

// publish adds a version and makes it the one that new customers get.
func (s *Service) publish(ctx context.Context, p Plan, body []byte, author string) error {
	db, now := s.Store.For(ctx), s.Now().UTC()
	row := planVersion{p.Name, p.Version, string(body), author, now}
	if err := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
		return err
	}
	return db.Model(&planRow{}).Where("name = ? AND current < ?", p.Name, p.Version).Updates(map[string]any{"current": p.Version, "updated_at": now}).Error
}

// Publish adds a version of a plan, in a system scope. Tenants stay on the
// version they have.
func (s *Service) Publish(ctx context.Context, p Plan, author string) error {
	if err := p.complete(); err != nil {
		return err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		var newest int
		if err := s.Store.SQL(ctx, "SELECT coalesce(max(version), 0) FROM plan_versions WHERE plan = @plan", map[string]any{"plan": p.Name}).Scan(&newest).Error; err != nil {
			return err
		}
		if p.Version <= newest {
			return domain.E(domain.Conflict, "conflict", "This version of the plan is published and cannot be changed.")
		}
		return s.publish(ctx, p, body, author)
	})
}

// Class and Feature report whether plans know the rate class or the feature.
func (s *Service) Class(name string) bool { return slices.Contains(Classes, name) }

// Feature reports whether plans know the feature.
func (s *Service) Feature(name string) bool { return slices.Contains(Features, name) }

// Plans is the public catalogue: the current version of each plan, at most a
// second old.
func (s *Service) Plans(ctx context.Context, _ struct{}) (domain.Page[Plan], error) {
	s.mu.RLock()
	listed, at := s.listed, s.listedAt
	s.mu.RUnlock()
	if now := s.Now(); listed == nil || now.Sub(at) >= fresh {
		var rows []planVersion
		err := s.Store.Read(domain.System(ctx, "the public catalogue"), func(ctx context.Context) error {
			return s.Store.SQL(ctx, `SELECT v.plan, v.version, v.body FROM plans p JOIN plan_versions v ON v.plan = p.name AND v.version = p.current
				WHERE p.status = 'published' ORDER BY p.position, p.name`, nil).Scan(&rows).Error
		})
		if err != nil {
			return domain.Page[Plan]{}, err
		}
		listed = make([]Plan, 0, len(rows))
		for _, row := range rows {
			p, err := s.read(row)
			if err != nil {
				return domain.Page[Plan]{}, err
			}
			listed = append(listed, p)
		}
		s.mu.Lock()
		s.listed, s.listedAt = listed, now
		s.mu.Unlock()
	}
	return domain.Page[Plan]{Data: listed}, nil
}

// read gives the plan that a row of the catalogue holds. Published versions
// never change, so each is read once.
func (s *Service) read(row planVersion) (p Plan, err error) {
	if row.Plan == "" {
		return p, errors.New("it is not in the catalogue")
	}
	key := fmt.Sprintf("%s/%d", row.Plan, row.Version)
	s.mu.RLock()
	p, ok := s.versions[key]
	s.mu.RUnlock()
	if ok {
		return p, nil
	}
	if err := json.Unmarshal([]byte(row.Body), &p); err != nil {
		return p, fmt.Errorf("plan %s: %w", key, err)
	}
	s.mu.Lock()
	s.versions[key] = p
	s.mu.Unlock()
	return p, nil
}

// current is the version of the plan that new customers get.
func (s *Service) current(ctx context.Context, name string) (row planRow, ok bool, err error) {
	err = s.Store.For(ctx).Where("name = ? AND status = ?", name, "published").Limit(1).Find(&row).Error
	return row, row.Name != "", err
}

// Entitlements is what the scope's tenant may use, at most a second old. The
// answer is shared: nobody changes it.
func (s *Service) Entitlements(ctx context.Context) (*Plan, error) {
	return s.entitlements(ctx, domain.TenantOf(ctx))
}

func (s *Service) entitlements(ctx context.Context, tenant string) (*Plan, error) {
	now := s.Now()
	s.mu.RLock()
	e, ok := s.known[tenant]
	age := s.age
	s.mu.RUnlock()
	if ok && now.Before(e.until) {
		return e.plan, nil
	}
	out, _, err := s.Standing(ctx, tenant)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if len(s.known) > 50_000 {
		clear(s.known)
	}
	if s.age == age {
		until := now.Add(fresh)
		if out.Period.End.Before(until) { // the next quota is there in the second in which it should be
			until = out.Period.End
		}
		s.known[tenant] = entitled{&out, until}
	}
	s.mu.Unlock()
	return &out, nil
}

// grants reads the plan that a tenant was put on and what it has beside it: in
// the caller's transaction where there is one, so that a tenant made in it is
// seen, and nobody who holds a connection waits for a second.
func (s *Service) grants(ctx context.Context, tenant string) (row planVersion, overrides []Override, err error) {
	err = s.Store.SQL(ctx, `SELECT v.plan, v.version, v.body FROM plan_versions v JOIN plans p ON p.name = v.plan
		LEFT JOIN tenant_plans t ON t.tenant_id = @tenant OR @tenant = '' AND t.tenant_id = @owner
		WHERE v.plan = coalesce(t.plan, 'free') AND v.version = coalesce(t.version, p.current)`, map[string]any{"owner": tenant}).Scan(&row).Error
	if err != nil {
		return row, nil, err
	}
	err = s.Store.For(ctx).Where("tenant_id = ?", tenant).Find(&overrides).Error
	return row, overrides, err
}

// changed drops what is believed of a tenant, here and on every other process,
// once the transaction is committed.
func (s *Service) changed(ctx context.Context, tenant string) {
	s.Store.AfterCommit(ctx, func() {
		s.forget(tenant)
		if s.Bell != nil {
			s.Bell.Ring(context.WithoutCancel(ctx), bell)
		}
	})
}

func (s *Service) forgetAll() {
	s.mu.Lock()
	clear(s.known)
	s.age++
	s.mu.Unlock()
}

func (s *Service) forget(tenant string) {
	s.mu.Lock()
	delete(s.known, tenant)
	s.age++
	s.mu.Unlock()
}

// Enroll pins a new tenant to the current version of the free plan, in the
// system transaction that makes it.
func (s *Service) Enroll(ctx context.Context, tenant string) error {
	p, ok, err := s.current(ctx, "free")
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("billing: no free plan is published")
	}
	row := tenantPlan{store.Owned{TenantID: tenant}, p.Name, p.Current, "sign-up", "", s.Now().UTC()}
	return s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
}

// SetPlan puts a tenant on the current version of a plan, with author and
// reason, in a system scope.
func (s *Service) SetPlan(ctx context.Context, tenant, plan, author, reason string) error {
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		p, ok, err := s.current(ctx, plan)
		if err != nil {
			return err
		}
		if !ok {
			return domain.InvalidField("plan", "unknown_plan", "There is no such plan.")
		}
		row := tenantPlan{store.Owned{TenantID: tenant}, p.Name, p.Current, author, reason, s.Now().UTC()}
		err = s.Store.For(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "tenant_id"}}, DoUpdates: clause.AssignmentColumns([]string{"plan", "version", "author", "reason", "since"})}).Create(&row).Error
		if err != nil {
			return err
		}
		s.changed(ctx, tenant)
		return s.Audit.Record(ctx, audit.Entry{Action: "plan.set", Target: tenant, Tenant: tenant, Detail: map[string]any{"plan": plan, "version": p.Current, "author": author, "reason": reason}})
	})
	return err
}

// Override gives a tenant something beside its plan, in a system scope.
func (s *Service) Override(ctx context.Context, o Override) error {
	known := map[string][]string{"quota": Meters, "rate": Classes, "level": append([]string{"streams"}, Levels...), "feature": Features}[o.Kind]
	if !slices.Contains(known, o.Name) {
		return domain.InvalidField("name", "unknown_limit", "There is no such limit.")
	}
	if o.Kind == "rate" && o.Value < 1 {
		return domain.InvalidField("value", "too_small", "This number is too small.")
	}
	o.Since = s.Now().UTC()
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		err := s.Store.For(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "tenant_id"}, {Name: "kind"}, {Name: "name"}},
			DoUpdates: clause.AssignmentColumns([]string{"value", "author", "reason", "expires_at", "since"})}).Create(&o).Error
		if err != nil {
			return err
		}
		s.changed(ctx, o.TenantID)
		return s.Audit.Record(ctx, audit.Entry{Action: "plan.override", Target: o.TenantID, Tenant: o.TenantID,
			Detail: map[string]any{"kind": o.Kind, "name": o.Name, "value": o.Value, "author": o.Author, "reason": o.Reason}})
	})
}

// TakeLevel adds n to a level of the scope's tenant in the caller's
// transaction, or refuses where it would pass the plan's limit: one conditional
// update, exact however many callers there are.
func (s *Service) TakeLevel(ctx context.Context, level string, n int64) error {
	return s.takeLevel(ctx, domain.TenantOf(ctx), level, n)
}

// Seats takes (n > 0) or frees (n < 0) seats of the tenant, in the transaction
// that makes or ends its memberships; that may be a system one.
func (s *Service) Seats(ctx context.Context, tenant string, n int64) error {
	if n < 0 {
		return s.free(ctx, tenant, "seats", -n)
	}
	return s.takeLevel(ctx, tenant, "seats", n)
}

func (s *Service) takeLevel(ctx context.Context, tenant, level string, n int64) error {
	p, err := s.entitlements(ctx, tenant)
	if err != nil {
		return err
	}
	ok, err := s.take(ctx, tenant, level, n, p.Levels[level])
	if err == nil && !ok {
		return domain.E(domain.Forbidden, "plan_limit_reached", "The plan allows %d of %s.", p.Levels[level], level)
	}
	return err
}

// A tenant's own scope reaches its own levels and no others; a system scope,
// whose @tenant is empty, reaches all.
const ownLevel = ` tenant_id = @owner AND @tenant IN ('', @owner) AND level = @level`

func (s *Service) take(ctx context.Context, tenant, level string, n, limit int64) (bool, error) {
	args := map[string]any{"owner": tenant, "level": level, "n": n, "limit": limit}
	if _, err := s.Store.Exec(ctx, `INSERT INTO tenant_levels (tenant_id, level, used)
		SELECT id, @level, 0 FROM (SELECT CAST(@owner AS text) AS id) AS t WHERE @tenant IN ('', @owner) ON CONFLICT DO NOTHING`, args); err != nil {
		return false, err
	}
	changed, err := s.Store.Exec(ctx, `UPDATE tenant_levels SET used = used + @n WHERE`+ownLevel+` AND (@limit < 0 OR used + @n <= @limit)`, args)
	return changed > 0, err
}

// FreeLevel takes n off a level in the caller's transaction.
func (s *Service) FreeLevel(ctx context.Context, level string, n int64) error {
	return s.free(ctx, domain.TenantOf(ctx), level, n)
}

func (s *Service) free(ctx context.Context, tenant, level string, n int64) error {
	_, err := s.Store.Exec(ctx, `UPDATE tenant_levels SET used = CASE WHEN used > @n THEN used - @n ELSE 0 END WHERE`+ownLevel,
		map[string]any{"owner": tenant, "level": level, "n": n})
	return err
}

var _ = domain.Chinese(map[string]string{
	"There is no such plan.":  "没有这个套餐。",
	"There is no such limit.": "没有这个限额。",
	"This version of the plan is published and cannot be changed.":       "该套餐版本已发布，不能更改。",
	"The plan allows %d of %s.":                                          "该套餐允许 %d 个 %s。",
	"The plan does not include this: it needs %s.":                       "该套餐不包含此功能：需要 %s。",
	"There are too many calls a minute for the plan.":                    "每分钟调用次数超过套餐上限。",
	"The quota of %s for this period is used up.":                        "本期 %s 的配额已用完。",
	"The counters are being rebuilt.":                                    "计数器正在重建。",
	"There are too many streams and long calls open for the plan.":       "同时打开的流和长时间调用超过套餐上限。",
	"What was used cannot be written down now.":                          "暂时无法记录用量。",
	"The span begins after it ends, or is too long for its granularity.": "时间范围的起点晚于终点，或对该粒度而言过长。",
})
