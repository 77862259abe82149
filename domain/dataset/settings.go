package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/match"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Settings are a tenant's weights, threshold and synonyms.
type Settings struct {
	match.Settings
	Version   int64      `json:"version" doc:"0 where nothing was ever set"`
	UpdatedAt *time.Time `json:"updated_at" nullable:"true"`
	chosen    bool       // by the tenant; else they are the defaults of whoever asks when
}

// Defaults are the weights and the threshold of tenants that chose none.
type Defaults struct {
	Weights   match.Weights
	Threshold float64
}

// ParseDefaults reads a comma list of name=number, of the threshold and the
// weights by their names, over those of the product.
func ParseDefaults(text string) (Defaults, error) {
	own := match.DefaultSettings()
	out := Defaults{own.Weights, own.Threshold}
	to := map[string]*float64{"threshold": &out.Threshold, "jaro_winkler": &out.Weights.JaroWinkler, "levenshtein": &out.Weights.Levenshtein,
		"word": &out.Weights.Word, "ngram": &out.Weights.NGram, "geographic": &out.Weights.Geographic}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, number, _ := strings.Cut(part, "=")
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || to[name] == nil {
			return out, fmt.Errorf("%q is not name=number", part)
		}
		*to[name] = n
	}
	if len(checkWeights(out.Weights)) > 0 || !unit(out.Threshold) {
		return out, errors.New("a threshold and weights are from 0 to 1, and one weight of a name is above 0")
	}
	return out, nil
}

// SetDefaults changes them; they hold from the next query on. No kept answer is
// of others: the weights and the threshold are in its key.
func (d *Datasets) SetDefaults(to Defaults) { d.defaults.Store(&to) }

// byDefault are the settings of a tenant that chose none.
func (d *Datasets) byDefault() match.Settings {
	s := match.DefaultSettings()
	if own := d.defaults.Load(); own != nil {
		s.Weights, s.Threshold = own.Weights, own.Threshold
	}
	return s
}

type settingsRow struct {
	store.Owned
	Version   int64
	Body      string
	UpdatedAt time.Time
}

func (settingsRow) TableName() string { return "matching_settings" }

// GetSettings gives the tenant's settings, or the defaults.
func (d *Datasets) GetSettings(ctx context.Context, _ struct{}) (out Settings, err error) {
	out.Settings = d.byDefault()
	var rows []settingsRow
	err = d.st.Read(ctx, func(ctx context.Context) error { return d.st.For(ctx).Limit(1).Find(&rows).Error })
	if err != nil || len(rows) == 0 {
		return out, err
	}
	out.Version, out.UpdatedAt = rows[0].Version, &rows[0].UpdatedAt
	if rows[0].Body != "" {
		out.Settings, out.chosen = match.Settings{}, true
		err = json.Unmarshal([]byte(rows[0].Body), &out.Settings)
	}
	return out, err
}

// settingsAt is GetSettings for matching: read once a version.
func (d *Datasets) settingsAt(ctx context.Context, version int64) (Settings, error) {
	if version == 0 {
		return Settings{Settings: d.byDefault()}, nil
	}
	tenant := domain.TenantOf(ctx)
	key := fmt.Sprintf("%s/%d", tenant, version)
	if s, ok := d.settings.get(key); ok {
		if !s.chosen {
			s.Settings = d.byDefault()
		}
		return s, nil
	}
	s, err := d.GetSettings(ctx, struct{}{})
	if err == nil {
		d.settings.put(tenant, fmt.Sprintf("%s/%d", tenant, s.Version), s, 1)
	}
	return s, err
}

// SettingsRequest replaces the settings.
type SettingsRequest struct {
	Weights   match.Weights `json:"weights"`
	Threshold float64       `json:"threshold" minimum:"0" maximum:"1"`
	Synonyms  [][]string    `json:"synonyms" required:"false" maxItems:"1000" doc:"groups of 2 to 20 words that mean the same"`
}

// PutSettings replaces the tenant's settings; they hold from the next query on.
func (d *Datasets) PutSettings(ctx context.Context, in SettingsRequest) (Settings, error) {
	bad := checkWeights(in.Weights)
	if !unit(in.Threshold) {
		bad = append(bad, domain.Violation("threshold", "out_of_range", "A number from %v to %v is required.", 0, 1))
	}
	if len(in.Synonyms) > 1000 {
		bad = append(bad, domain.Violation("synonyms", "invalid_count", "From %d to %d items.", 0, 1000))
		in.Synonyms = nil
	}
	for i, group := range in.Synonyms {
		field := fmt.Sprintf("synonyms[%d]", i)
		if len(group) < 2 || len(group) > 20 {
			bad = append(bad, domain.Violation(field, "invalid_count", "From %d to %d items.", 2, 20))
		}
		for _, word := range group {
			switch {
			case blank(word):
				bad = append(bad, domain.Violation(field, "required", "A word is required."))
			case runes(word) > 100:
				bad = append(bad, domain.Violation(field, "too_long", "At most %d characters.", 100))
			case hasControl(word):
				bad = append(bad, domain.Violation(field, "control_character", "Control characters are not allowed."))
			}
		}
	}
	if len(bad) > 0 {
		return Settings{}, domain.Fields(bad[:min(len(bad), 100)]...)
	}
	if in.Synonyms == nil {
		in.Synonyms = [][]string{}
	}
	body := jsonText(match.Settings{Weights: in.Weights, Threshold: in.Threshold, Synonyms: in.Synonyms})
	err := d.st.Tx(ctx, func(ctx context.Context) error {
		if err := d.bumpSettings(ctx, &body); err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "matching.settings", Target: domain.TenantOf(ctx)})
	})
	if err != nil {
		return Settings{}, err
	}
	return d.GetSettings(ctx, struct{}{})
}

// bumpSettings moves the version, which is in the key of every cached answer,
// and with it the body, where one is given.
func (d *Datasets) bumpSettings(ctx context.Context, body *string) error {
	row := settingsRow{UpdatedAt: d.now()}
	if err := d.st.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
		return err
	}
	set, args := "", map[string]any{"now": d.now()}
	if body != nil {
		set, args["body"] = ", body = @body, updated_at = @now", *body
	}
	_, err := d.st.Exec(ctx, "UPDATE matching_settings SET version = version + 1"+set+" WHERE tenant_id = @tenant", args)
	return err
}

// WarmRequest names the lists to load.
type WarmRequest struct {
	DatasetIDs []string `json:"dataset_ids,omitempty" maxItems:"100" doc:"none is all of the tenant's"`
}

// WarmResponse tells what is in memory now.
type WarmResponse struct {
	Datasets int     `json:"datasets"`
	Entries  int     `json:"entries"`
	TookMS   float64 `json:"took_ms"`
}

// Warm loads lists into this process before somebody has to wait for them.
func (d *Datasets) Warm(ctx context.Context, in WarmRequest) (out WarmResponse, err error) {
	start := time.Now()
	if err := batchSize("dataset_ids", len(in.DatasetIDs), 0); err != nil {
		return out, err
	}
	sets, _, err := d.versions(ctx, in.DatasetIDs)
	if err != nil {
		return out, err
	}
	for _, v := range sets {
		l, err := d.load(ctx, v)
		if err != nil {
			return out, err
		}
		out.Datasets++
		out.Entries += len(l.entries)
	}
	out.TookMS = float64(time.Since(start).Microseconds()) / 1000
	return out, nil
}

// ClearCache makes every cached answer of the tenant unreachable, on every
// process, and frees this process's memory.
func (d *Datasets) ClearCache(ctx context.Context, _ struct{}) (struct{}, error) {
	err := d.st.Tx(ctx, func(ctx context.Context) error { return d.bumpSettings(ctx, nil) })
	tenant := domain.TenantOf(ctx)
	d.indexes.forget(tenant)
	d.answers.forget(tenant)
	d.settings.forget(tenant)
	return struct{}{}, err
}

// LoadedIndex is a list in this process's memory.
type LoadedIndex struct {
	DatasetID string `json:"dataset_id"`
	Version   int64  `json:"version"`
	Entries   int    `json:"entries"`
}

// CacheStatsResponse is the tenant's share of this process's caches.
type CacheStatsResponse struct {
	Hits        int64         `json:"hits" doc:"answers from this process's memory"`
	SharedHits  int64         `json:"shared_hits" doc:"answers from the shared cache"`
	Misses      int64         `json:"misses" doc:"answers computed"`
	Answers     int           `json:"answers"`
	AnswerBytes int64         `json:"answer_bytes"`
	IndexBytes  int64         `json:"index_bytes"`
	Indexes     []LoadedIndex `json:"indexes" nullable:"false"`
}

// CacheStats tells of the tenant's caches in this process.
func (d *Datasets) CacheStats(ctx context.Context, _ struct{}) (CacheStatsResponse, error) {
	tenant := domain.TenantOf(ctx)
	n := d.counts.of(tenant)
	out := CacheStatsResponse{Hits: n[0], SharedHits: n[1], Misses: n[2], Indexes: []LoadedIndex{}}
	answers, size := d.answers.of(tenant)
	out.Answers, out.AnswerBytes = len(answers), size
	lists, size := d.indexes.of(tenant)
	out.IndexBytes = size
	for _, l := range lists {
		out.Indexes = append(out.Indexes, LoadedIndex{l.ID, l.Version, len(l.entries)})
	}
	return out, nil
}
