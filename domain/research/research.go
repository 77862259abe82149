// Package research runs long investigations: how an institution is tied to
// organisations of concern (entity relations, normal and deep), what an
// organisation is (entity search), and a whole list against one institution
// (dataset search).
//
// The model proposes and code decides. A model gives queries and claims; a
// claim cites a source by an id that is random in its run, never by an address;
// a quote is looked for in the text that was fetched (quote.go); who is named
// beside it, and whether the sentence denies, is read by code (names.go,
// denial.go); and what two organisations are to each other is computed from the
// edges that held (verdict.go). Text of users and pages reaches a model as data
// alone (prompt.go).
//
// A run is a row, a job and a list of numbered events:
//
//	queued ──> running ──> succeeded
//	   └──────────┴──────> failed, cancelled
//
// Every call that may cost is a step with a key that is the same in every
// attempt: the row is written before the call, with the most it may cost, and
// its result before the next step begins. A worker that is killed is replaced
// when its lease ends; its successor goes through the same program, finds the
// results of the steps that were made, and makes the others. Events have keys
// too, so nothing is told twice. A stream reads the table and is woken by the
// bell: it holds no run, and goes on after Last-Event-ID on any process.
//
// A tenant has a few runs in the job queue at a time (Share); the others wait
// as rows, by priority and age, and whoever ends one sends the next. So no
// tenant's crowd of runs stands before another's first.
package research

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Kind of a call that may cost.
type Kind string

// The kinds of calls.
const (
	ModelCall    Kind = "model"
	GroundedCall Kind = "grounded" // a model that searches by itself
	SearchCall   Kind = "search"
	ProfileCall  Kind = "profile"
	DeepProfile  Kind = "deep_profile"
)

// Listed is an entity of a tenant's dataset.
type Listed struct {
	EntryID   string   `json:"entry_id"`
	DatasetID string   `json:"dataset_id"`
	Name      string   `json:"name"`
	Aliases   []string `json:"aliases,omitempty"`
	Countries []string `json:"countries,omitempty"`
	Score     float64  `json:"score,omitempty"`
	MatchType string   `json:"match_type,omitempty"`
}

// ListQuery asks for the entries of a dataset: all after one, or those named.
type ListQuery struct {
	DatasetID string
	EntryIDs  []string // nil is all
	After     string   // entry id
	Limit     int
}

// Timeouts of one call of each kind, of a stage and of a run. Zeros are the
// defaults.
type Timeouts struct {
	Model, Search, Profile, Fetch, Stage, Run, DatasetRun time.Duration
}

// Config of a Research. Store, Audit, Queue and Bell are required; a vendor
// that is nil answers provider_not_configured.
type Config struct {
	Store *store.Store
	Audit *audit.Trail
	Queue domain.Bounded
	Bell  domain.Bell

	Model    Model
	Searcher Searcher
	Profiler Profiler
	Fetcher  Fetcher

	// Most is the most, in millionths of a dollar, that one call of a kind can
	// cost with so many tokens. nil: a budget in money holds to the dearest call
	// so far.
	Most func(kind Kind, tokens Usage) int64

	// Match looks for names in the tenant's datasets; one list of entries for
	// each. nil finds nothing.
	Match func(ctx context.Context, names []string) ([][]Listed, error)
	// List reads a dataset, Rows counts one. nil: there are none.
	List func(ctx context.Context, q ListQuery) ([]Listed, error)
	Rows func(ctx context.Context, datasetID string) (int64, error)
	// Reserve takes units of a meter off the period's quota, or refuses. book
	// writes them to the ledger in the caller's transaction, once for each event
	// id; done gives back what was not booked. nil: nothing is counted.
	Reserve func(ctx context.Context, meter string, units int64) (book func(ctx context.Context, units int64, eventID string) error, done func(), err error)
	// GiveBack returns booked units that were not used after all, in the
	// caller's transaction, once for each event id.
	GiveBack func(ctx context.Context, meter string, units int64, eventID string) error

	Share    int           // runs of a tenant in the queue at a time; 0 is 4
	Parallel int           // calls of a run at a time; 0 is 6
	Lease    time.Duration // a worker that is silent for so long is dead; 0 is 20 s
	Timeouts Timeouts
	Random   io.Reader // 0 is crypto/rand
	Now      func() time.Time
	Logger   *slog.Logger
}

// Research is the package's one object. It is safe for concurrent use.
type Research struct {
	Config
	st     *store.Store
	worker string        // this process
	turns  chan struct{} // so many goroutines of runs compute at a time

	mu      sync.Mutex
	active  map[string]context.CancelCauseFunc // runs at work here
	tails   map[string]*tail                   // runs that are followed here, by tenant and id
	drained bool
}

// New makes a Research.
func New(c Config) *Research {
	if c.Store == nil || c.Audit == nil || c.Queue == nil || c.Bell == nil {
		panic("research: Store, Audit, Queue and Bell are required")
	}
	c.Share = either(c.Share, 4)
	c.Parallel = either(c.Parallel, 6)
	c.Lease = either(c.Lease, 20*time.Second)
	t := &c.Timeouts
	t.Model, t.Search, t.Profile, t.Fetch = either(t.Model, 180*time.Second), either(t.Search, 90*time.Second), either(t.Profile, 130*time.Second), either(t.Fetch, 40*time.Second)
	t.Stage, t.Run, t.DatasetRun = either(t.Stage, 15*time.Minute), either(t.Run, 45*time.Minute), either(t.DatasetRun, 50*time.Minute)
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Reserve == nil {
		c.Reserve = func(context.Context, string, int64) (func(context.Context, int64, string) error, func(), error) {
			return func(context.Context, int64, string) error { return nil }, func() {}, nil
		}
	}
	if c.GiveBack == nil {
		c.GiveBack = func(context.Context, string, int64, string) error { return nil }
	}
	return &Research{Config: c, st: c.Store, turns: make(chan struct{}, runtime.GOMAXPROCS(0)), worker: domain.NewID("wrk"), active: map[string]context.CancelCauseFunc{}, tails: map[string]*tail{}}
}

func either[T int | time.Duration](given, otherwise T) T {
	if given > 0 {
		return given
	}
	return otherwise
}

// turn waits until few enough of the runs' goroutines compute. A thousand runs
// whose vendors answer in one moment would else stand in the scheduler's queue
// before every other request of the process. Nobody takes a second turn within
// one.
func (r *Research) turn() (done func()) {
	r.turns <- struct{}{}
	return func() { <-r.turns }
}

func (r *Research) now() time.Time { return r.Now().UTC().Truncate(time.Microsecond) }

// The kinds of runs.
const (
	KindRelations = "relations"
	KindEntity    = "entity"
	KindDataset   = "dataset"
)

// The states of a run.
const (
	Queued    = "queued"
	Running   = "running"
	Succeeded = "succeeded"
	Failed    = "failed"
	Cancelled = "cancelled"
)

// Budget is the most that a run may spend; 0 is no limit of its own.
type Budget struct {
	Calls   int64   `json:"calls,omitempty" minimum:"0" doc:"paid requests to vendors"`
	Tokens  int64   `json:"tokens,omitempty" minimum:"0" doc:"of models, in and out"`
	CostUSD float64 `json:"cost_usd,omitempty" minimum:"0"`
}

// RiskItem is an organisation or person of concern.
type RiskItem struct {
	Name    string   `json:"name" minLength:"1" maxLength:"300"`
	Country string   `json:"country,omitempty" maxLength:"100" doc:"code or name"`
	Aliases []string `json:"aliases,omitempty" maxItems:"50"`
}

// RelationsRequest asks how an institution is tied to each risk item.
type RelationsRequest struct {
	Mode        string     `json:"mode,omitempty" enum:"normal,deep" default:"deep" doc:"normal: one grounded call of a model; deep: strategy, searches, pages read, integration"`
	Institution string     `json:"institution" minLength:"1" maxLength:"300"`
	RiskItems   []RiskItem `json:"risk_items" minItems:"1" maxItems:"20" nullable:"false"`
	Location    string     `json:"location,omitempty" maxLength:"200" doc:"of the institution"`
	FromDate    string     `json:"from_date,omitempty" maxLength:"10" doc:"YYYY, YYYY-MM or YYYY-MM-DD"`
	ToDate      string     `json:"to_date,omitempty" maxLength:"10"`
	Languages   []string   `json:"languages,omitempty" maxItems:"6" doc:"ISO 639-1; English and the local language are always searched"`
	Pages       []string   `json:"pages,omitempty" maxItems:"20" doc:"addresses that are read beside what is found, by the model too in a normal run"`
	Budget      *Budget    `json:"budget,omitempty"`
	Priority    int        `json:"priority,omitempty" minimum:"1" maximum:"4" doc:"1 comes first; among the tenant's own runs"`
	Wait        string     `json:"-" query:"wait" maxLength:"10" doc:"e.g. 30s: answer 200 with the ended run where it ends so soon"`
}

// EntityRequest asks what an organisation is.
type EntityRequest struct {
	Name           string   `json:"name" minLength:"1" maxLength:"300"`
	Location       string   `json:"location,omitempty" maxLength:"200"`
	Aliases        []string `json:"aliases,omitempty" maxItems:"50"`
	Depth          string   `json:"depth,omitempty" enum:"standard,deep" default:"standard"`
	IncludeDomains []string `json:"include_domains,omitempty" maxItems:"50"`
	ExcludeDomains []string `json:"exclude_domains,omitempty" maxItems:"50"`
	FromDate       string   `json:"from_date,omitempty" maxLength:"10"`
	ToDate         string   `json:"to_date,omitempty" maxLength:"10"`
	RiskKeywords   []string `json:"risk_keywords,omitempty" maxItems:"20"`
	Budget         *Budget  `json:"budget,omitempty"`
	Priority       int      `json:"priority,omitempty" minimum:"1" maximum:"4"`
	Wait           string   `json:"-" query:"wait" maxLength:"10"`
}

// DatasetRequest asks how each organisation of a dataset is tied to an
// institution.
type DatasetRequest struct {
	DatasetID   string   `json:"dataset_id" maxLength:"64"`
	Institution string   `json:"institution" minLength:"1" maxLength:"300"`
	EntryIDs    []string `json:"entry_ids,omitempty" maxItems:"1000" doc:"none is the whole list"`
	FromDate    string   `json:"from_date,omitempty" maxLength:"10"`
	ToDate      string   `json:"to_date,omitempty" maxLength:"10"`
	Concurrency int      `json:"concurrency,omitempty" minimum:"1" maximum:"16" default:"4"`
	Budget      *Budget  `json:"budget,omitempty"`
	Priority    int      `json:"priority,omitempty" minimum:"1" maximum:"4"`
	Wait        string   `json:"-" query:"wait" maxLength:"10"`
}

// StartRelations starts a run of entity relations.
func (r *Research) StartRelations(ctx context.Context, in RelationsRequest) (Run, error) {
	if in.Mode == "" {
		in.Mode = "deep"
	}
	if err := in.check(); err != nil {
		return Run{}, err
	}
	run := r.newRun(KindRelations, in.Mode, in.Institution, in.Priority, in)
	run.Meter = "relations_" + in.Mode
	return r.start(ctx, run, in.Wait)
}

// StartEntity starts an entity search.
func (r *Research) StartEntity(ctx context.Context, in EntityRequest) (Run, error) {
	if in.Depth == "" {
		in.Depth = "standard"
	}
	if err := in.check(); err != nil {
		return Run{}, err
	}
	run := r.newRun(KindEntity, in.Depth, in.Name, in.Priority, in)
	run.Meter = "entity_search"
	return r.start(ctx, run, in.Wait)
}

// StartDataset starts a dataset search.
func (r *Research) StartDataset(ctx context.Context, in DatasetRequest) (Run, error) {
	if in.Concurrency == 0 {
		in.Concurrency = 4
	}
	if err := in.check(); err != nil {
		return Run{}, err
	}
	units, err := r.organisations(ctx, in)
	if err != nil {
		return Run{}, err
	}
	run := r.newRun(KindDataset, "", in.Institution, in.Priority, in)
	run.Meter, run.Units = "dataset_search", units
	if in.Priority == 0 {
		run.Priority = 3 // a crowd of organisations lets single questions pass
	}
	return r.start(ctx, run, in.Wait)
}

// organisations says how many a dataset search will check: what it uses of its
// meter.
func (r *Research) organisations(ctx context.Context, in DatasetRequest) (int64, error) {
	if len(in.EntryIDs) > 0 {
		return int64(len(in.EntryIDs)), nil
	}
	if r.Rows == nil {
		return 0, domain.ErrNotFound()
	}
	return r.Rows(ctx, in.DatasetID)
}

func (r *Research) newRun(kind, mode, title string, priority int, request any) Run {
	body, err := json.Marshal(request)
	if err != nil {
		panic(err) // a struct of ours
	}
	salt := make([]byte, 16)
	if _, err := io.ReadFull(r.Random, salt); err != nil {
		panic(err)
	}
	if priority == 0 {
		priority = 2
	}
	return Run{ID: domain.NewID("run"), Kind: kind, Mode: mode, Title: title, Status: Queued, Priority: priority,
		RequestJSON: string(body), Salt: hex.EncodeToString(salt), Units: 1, CreatedAt: r.now(), CountedAt: r.now()}
}
