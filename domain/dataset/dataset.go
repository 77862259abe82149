// Package dataset keeps a tenant's lists of named entities and answers whether
// a name is on one. Its callers need not know how a file becomes a list, when a
// list becomes visible, or what is cached.
//
// An import is a row, a job and a file under Dir:
//
//	queued ──> running ──> succeeded   (visible: readers see its entries)
//	   └─────────┴──> failed, cancelled (its entries go)
//
// Rows are stored in batches. The first statement of a batch moves the
// import's checkpoint (rows_read) from what this worker last saw: a killed
// worker's successor skips what is stored, and of two workers on one import the
// slower one loses its batch. What readers see of a dataset is the entries of
// its visible imports: an append or a replace of any size shows in one update,
// which also moves datasets.version. Every cache is keyed by that version, and
// every answer reads it first.
//
// The tenant's level of dataset_rows is, at every commit, the visible entries
// of its datasets and the rows_taken of its imports that have not ended; a
// replace takes only what goes beyond the list that it replaces.
package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// LevelKeeper counts what a tenant holds against its plan. All three join the
// transaction of ctx; TakeLevel refuses what goes beyond.
type LevelKeeper interface {
	TakeLevel(ctx context.Context, level string, n int64) error
	FreeLevel(ctx context.Context, level string, n int64) error
	// RecordImport books imported rows, or gives them back where units is below
	// zero; a second call with the same event id books nothing.
	RecordImport(ctx context.Context, units int64, eventID string) error
	// Reserve takes units of a meter off the period's quota, before the work,
	// or refuses. book joins the transaction of its ctx and books what was used,
	// once for each event id; done gives back what was not booked.
	Reserve(ctx context.Context, meter string, units int64) (book func(ctx context.Context, units int64, eventID string) error, done func(), err error)
}

// Cache is the second level of answers, shared between processes. It may lose
// anything at any time.
type Cache interface {
	CacheGet(ctx context.Context, key string) ([]byte, bool)
	CacheSet(ctx context.Context, key string, val []byte, ttl time.Duration)
}

const (
	levelDatasets = "datasets"
	levelRows     = "dataset_rows"
)

// Config of Datasets. Store, Audit, Queue, Bell, Dir and Levels are required.
type Config struct {
	Store  *store.Store
	Audit  *audit.Trail
	Queue  domain.Bounded
	Bell   domain.Bell
	Dir    string // uploads; shared between processes that take and run imports
	Levels LevelKeeper
	Cache  Cache  // may be nil
	Sample []byte // the list that visitors may try, a CSV file
	Now    func() time.Time
	Logger *slog.Logger

	MaxUploadBytes int64         // 0 is 2 GiB
	BatchRows      int           // rows a transaction; 0 is 10,000 on PostgreSQL and 2000 on SQLite, where every other writer waits for it
	SearchRows     int64         // imports of as many get an index for search; 0 is 20,000
	IndexBytes     int64         // of indexes held in this process; 0 is 1 GiB
	AnswerBytes    int64         // of answers held in this process; 0 is 64 MiB
	AnswerTTL      time.Duration // in Cache; 0 is an hour
	Turn           time.Duration // of a match job, before the jobs of others have theirs; 0 is ten seconds. An import has six, since it reads its file from the start again
	PurgeAfter     time.Duration // rows nobody sees any more stay this long, for readers under way; 0 is 15 minutes
}

// Datasets is the package's one object. It is safe for concurrent use.
type Datasets struct {
	Config
	st       *store.Store
	indexes  *lru[*loaded]
	answers  *lru[[]MatchResult]
	settings *lru[Settings]
	defaults atomic.Pointer[Defaults] // of who chose no settings; nil is the product's
	builds   singleflight.Group
	counts   counters
	demo     demo
}

// New makes Datasets.
func New(c Config) *Datasets {
	if c.Store == nil || c.Audit == nil || c.Queue == nil || c.Bell == nil || c.Dir == "" || c.Levels == nil {
		panic("dataset: Store, Audit, Queue, Bell, Dir and Levels are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.MaxUploadBytes = either(c.MaxUploadBytes, 2<<30)
	if c.BatchRows <= 0 {
		c.BatchRows = map[store.Dialect]int{store.Postgres: 10_000, store.SQLite: 2000}[c.Store.Dialect()]
	}
	c.SearchRows = either(c.SearchRows, 20_000)
	c.IndexBytes = either(c.IndexBytes, 1<<30)
	c.AnswerBytes = either(c.AnswerBytes, 64<<20)
	c.AnswerTTL = either(c.AnswerTTL, time.Hour)
	c.Turn = either(c.Turn, 10*time.Second)
	c.PurgeAfter = either(c.PurgeAfter, 15*time.Minute)
	return &Datasets{
		Config: c, st: c.Store,
		indexes: newLRU[*loaded](c.IndexBytes), answers: newLRU[[]MatchResult](c.AnswerBytes), settings: newLRU[Settings](10_000),
	}
}

func either[T int | int64 | time.Duration](given, otherwise T) T {
	if given > 0 {
		return given
	}
	return otherwise
}

func (d *Datasets) now() time.Time { return d.Now().UTC().Truncate(time.Microsecond) }

// Dataset is a list, as stored and as answered.
type Dataset struct {
	store.Owned
	ID             string     `json:"id" gorm:"primaryKey"`
	Name           string     `json:"name"`
	Description    string     `json:"description"`
	Publisher      string     `json:"publisher"`
	SourceURL      string     `json:"source_url"`
	Version        int64      `json:"version" doc:"changes with every change of the entries"`
	Rows           int64      `json:"rows" gorm:"column:entry_count" doc:"entries"`
	CatalogSlug    string     `json:"catalog_slug,omitempty" doc:"the published list that the dataset follows"`
	CatalogVersion int64      `json:"catalog_version,omitempty" doc:"of that list, that the entries are of"`
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
	DeletedAt      *time.Time `json:"-"`
}

// TableName is GORM's.
func (Dataset) TableName() string { return "datasets" }

// CreateRequest makes a dataset.
type CreateRequest struct {
	Name        string `json:"name" minLength:"1" maxLength:"200"`
	Description string `json:"description,omitempty" maxLength:"5000"`
	Publisher   string `json:"publisher,omitempty" maxLength:"200"`
	SourceURL   string `json:"source_url,omitempty" maxLength:"2000"`
}

// Create makes an empty dataset.
func (d *Datasets) Create(ctx context.Context, in CreateRequest) (Dataset, error) {
	now := d.now()
	row := Dataset{ID: domain.NewID("ds"), Name: in.Name, Description: in.Description, Publisher: in.Publisher,
		SourceURL: in.SourceURL, CreatedAt: now, UpdatedAt: now}
	if err := row.check(); err != nil {
		return Dataset{}, err
	}
	err := d.st.Tx(ctx, func(ctx context.Context) error {
		if err := d.Levels.TakeLevel(ctx, levelDatasets, 1); err != nil {
			return err
		}
		if err := d.st.For(ctx).Create(&row).Error; err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "dataset.create", Target: row.ID})
	})
	return row, err
}

func (r *Dataset) check() error {
	var bad []domain.Field
	for _, f := range []struct {
		name, value string
		most        int
	}{{"name", r.Name, 200}, {"description", r.Description, 5000}, {"publisher", r.Publisher, 200}, {"source_url", r.SourceURL, 2000}} {
		if n := runes(f.value); n > f.most {
			bad = append(bad, domain.Violation(f.name, "too_long", "At most %d characters.", f.most))
		}
		if hasControl(f.value) {
			bad = append(bad, domain.Violation(f.name, "control_character", "Control characters are not allowed."))
		}
	}
	if blank(r.Name) {
		bad = append(bad, domain.Violation("name", "required", "A name is required."))
	}
	if r.SourceURL != "" && !isWebURL(r.SourceURL) {
		bad = append(bad, domain.Violation("source_url", "invalid_url", "An http or https address is required."))
	}
	if len(bad) > 0 {
		return domain.Fields(bad...)
	}
	return nil
}

// ListRequest pages through the datasets.
type ListRequest struct{ domain.PageRequest }

// List gives the newest datasets first.
func (d *Datasets) List(ctx context.Context, in ListRequest) (page domain.Page[Dataset], err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error {
		page, err = store.Newest(d.st.For(ctx).Where("deleted_at IS NULL"), in.PageRequest, func(r Dataset) string { return r.ID })
		return err
	})
	return page, err
}

// IDRequest names an object in the path.
type IDRequest struct {
	ID string `path:"id" json:"-" maxLength:"64"`
}

// Get gives one dataset.
func (d *Datasets) Get(ctx context.Context, in IDRequest) (row Dataset, err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error { row, err = d.dataset(ctx, in.ID); return err })
	return row, err
}

// dataset reads a dataset that is not deleted.
func (d *Datasets) dataset(ctx context.Context, id string) (row Dataset, err error) {
	err = d.st.For(ctx).Where("id = ? AND deleted_at IS NULL", id).Take(&row).Error
	return row, err
}

// lock reads a dataset and keeps everybody else from changing or deleting it
// until the transaction ends.
func (d *Datasets) lock(ctx context.Context, id string) (row Dataset, err error) {
	err = d.st.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ? AND deleted_at IS NULL", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		err = domain.ErrNotFound()
	}
	return row, err
}

// UpdateRequest changes what is given and leaves the rest.
type UpdateRequest struct {
	ID          string  `path:"id" json:"-" maxLength:"64"`
	Name        *string `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Description *string `json:"description,omitempty" maxLength:"5000"`
	Publisher   *string `json:"publisher,omitempty" maxLength:"200"`
	SourceURL   *string `json:"source_url,omitempty" maxLength:"2000"`
}

// Update changes what is said about a dataset, not its entries.
func (d *Datasets) Update(ctx context.Context, in UpdateRequest) (row Dataset, err error) {
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		if row, err = d.lock(ctx, in.ID); err != nil {
			return err
		}
		set := func(to *string, from *string) {
			if from != nil {
				*to = *from
			}
		}
		set(&row.Name, in.Name)
		set(&row.Description, in.Description)
		set(&row.Publisher, in.Publisher)
		set(&row.SourceURL, in.SourceURL)
		if err := row.check(); err != nil {
			return err
		}
		row.UpdatedAt = d.now()
		err := d.st.For(ctx).Model(&Dataset{}).Where("id = ?", row.ID).Updates(map[string]any{
			"name": row.Name, "description": row.Description, "publisher": row.Publisher,
			"source_url": row.SourceURL, "updated_at": row.UpdatedAt}).Error
		if err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "dataset.update", Target: row.ID})
	})
	return row, err
}

// Delete takes a dataset away from readers at once and cancels its imports; a
// job removes the rows.
func (d *Datasets) Delete(ctx context.Context, in IDRequest) (struct{}, error) {
	return struct{}{}, d.st.Tx(ctx, func(ctx context.Context) error {
		// The update is the lock: an import that ends now waits and then finds
		// the dataset gone.
		n, err := d.st.Exec(ctx, "UPDATE datasets SET deleted_at = @now, version = version + 1 WHERE tenant_id = @tenant AND id = @id AND deleted_at IS NULL",
			map[string]any{"id": in.ID, "now": d.now()})
		if err != nil {
			return err
		}
		if n == 0 {
			return domain.ErrNotFound()
		}
		var row Dataset
		if err := d.st.For(ctx).Where("id = ?", in.ID).Take(&row).Error; err != nil {
			return err
		}
		var active []Import
		if err := d.st.For(ctx).Where("dataset_id = ? AND status IN ?", in.ID, []string{Queued, Running}).Find(&active).Error; err != nil {
			return err
		}
		for _, im := range active {
			if _, err := d.end(ctx, im.ID, Cancelled, nil); err != nil {
				return err
			}
		}
		if err := d.Levels.FreeLevel(ctx, levelRows, row.Rows); err != nil {
			return err
		}
		if err := d.Levels.FreeLevel(ctx, levelDatasets, 1); err != nil {
			return err
		}
		if err := d.Queue.Enqueue(ctx, PurgeJob{DatasetID: in.ID}, domain.JobOptions{Priority: 4, At: d.now().Add(d.PurgeAfter)}); err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "dataset.delete", Target: in.ID, Detail: map[string]any{"rows": row.Rows}})
	})
}

// PurgeJob removes the entries of imports that no reader sees: those of one
// dataset that failed, were cancelled or replaced, or all of a deleted one.
type PurgeJob struct {
	DatasetID string `json:"dataset_id"`
}

// Kind is the queue's.
func (PurgeJob) Kind() string { return "dataset.purge" }

// RunPurge does a PurgeJob, some thousand rows at a time. It may be repeated.
func (d *Datasets) RunPurge(ctx context.Context, job PurgeJob) error {
	var row Dataset
	var dead []Import
	var readers int64
	err := d.st.Read(ctx, func(ctx context.Context) error {
		if err := d.st.For(ctx).Where("id = ?", job.DatasetID).Take(&row).Error; err != nil {
			return err
		}
		err := d.st.For(ctx).Model(&MatchJob{}).Where("source_id = ? AND status IN ?", job.DatasetID, []string{Queued, Running}).Count(&readers).Error
		if err != nil || readers > 0 { // a match job reads the list as it was; its end asks again
			return err
		}
		q := d.st.For(ctx).Where("dataset_id = ?", job.DatasetID)
		if row.DeletedAt == nil {
			q = q.Where("visible = ? AND status IN ?", false, []string{Succeeded, Failed, Cancelled})
		}
		return q.Find(&dead).Error
	})
	if domain.KindOf(err) == domain.NotFound || err == nil && readers > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for _, im := range dead {
		d.dropFile(im.ID)
		if err := d.dropGrams(ctx, im.ID); err != nil {
			return err
		}
		for _, table := range []string{"dataset_entries", "dataset_issues"} {
			if table == "dataset_issues" && row.DeletedAt == nil {
				continue // the error report of a failed import stays
			}
			key := map[string]string{"dataset_entries": "id", "dataset_issues": "seq"}[table]
			for n := int64(1); n > 0; {
				err := d.st.Tx(ctx, func(ctx context.Context) (err error) {
					n, err = d.st.Exec(ctx, "DELETE FROM "+table+" WHERE tenant_id = @tenant AND import_id = @import AND "+key+
						" IN (SELECT "+key+" FROM "+table+" WHERE tenant_id = @tenant AND import_id = @import LIMIT 5000)", map[string]any{"import": im.ID})
					return err
				})
				if err != nil {
					return err
				}
			}
		}
	}
	if row.DeletedAt == nil {
		return nil
	}
	return d.st.Tx(ctx, func(ctx context.Context) error {
		if err := d.st.For(ctx).Where("dataset_id = ?", row.ID).Delete(&Import{}).Error; err != nil {
			return err
		}
		return d.st.For(ctx).Where("id = ?", row.ID).Delete(&Dataset{}).Error
	})
}

// jsonText stores a value as JSON in a text column.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // lists and maps of strings
	}
	return string(b)
}

// Titles gives the names of datasets that there are, by id.
func (d *Datasets) Titles(ctx context.Context, ids []string) (map[string]string, error) {
	var found []Dataset
	err := d.st.Read(ctx, func(ctx context.Context) error {
		return d.st.For(ctx).Select("tenant_id", "id", "name").Where("id IN ? AND deleted_at IS NULL", ids).Find(&found).Error
	})
	out := map[string]string{}
	for _, row := range found {
		out[row.ID] = row.Name
	}
	return out, err
}

// Counted holds what each list says of its entries against those that there are,
// and gives how many there are of both. It reads every entry's key: it is for a
// restored system, not for a busy one.
func (d *Datasets) Counted(ctx context.Context) (lists, entries int64, err error) {
	var wrong []struct {
		TenantID, ID string
		Says, Has    int64
	}
	err = d.st.Snapshot(domain.System(ctx, "are the entries there"), func(ctx context.Context) error {
		if err := d.st.SQL(ctx, "SELECT count(*), coalesce(sum(entry_count), 0) FROM datasets WHERE deleted_at IS NULL", nil).Row().Scan(&lists, &entries); err != nil {
			return err
		}
		return d.st.SQL(ctx, `SELECT d.tenant_id, d.id, d.entry_count AS says, coalesce(h.n, 0) AS has FROM datasets d
			LEFT JOIN (SELECT e.tenant_id, i.dataset_id, count(*) AS n FROM dataset_entries e JOIN dataset_imports i ON i.tenant_id = e.tenant_id AND i.id = e.import_id AND i.visible = @yes
				GROUP BY 1, 2) AS h ON h.tenant_id = d.tenant_id AND h.dataset_id = d.id
			WHERE d.deleted_at IS NULL AND d.entry_count <> coalesce(h.n, 0) ORDER BY 1, 2 LIMIT 1`, map[string]any{"yes": true}).Scan(&wrong).Error
	})
	if err == nil && len(wrong) > 0 {
		w := wrong[0]
		err = fmt.Errorf("dataset: %s of %s says that it has %d entries, and has %d", w.ID, w.TenantID, w.Says, w.Has)
	}
	return lists, entries, err
}
