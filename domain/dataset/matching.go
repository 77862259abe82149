package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/match"
)

// Query is an entity to look for. Its bounds are checked here and not by the
// edge, so that in a batch an invalid one fails alone.
type Query struct {
	Name      string   `json:"name" doc:"1 to 500 characters"`
	Aliases   []string `json:"aliases" required:"false" doc:"at most 50"`
	Country   *string  `json:"country" required:"false" nullable:"true" doc:"code or name; unknown is unknown"`
	City      *string  `json:"city" required:"false" nullable:"true"`
	Latitude  *float64 `json:"latitude" required:"false" nullable:"true"`
	Longitude *float64 `json:"longitude" required:"false" nullable:"true"`
}

// MatchOptions are common to all matching. What is not given is the tenant's
// setting.
type MatchOptions struct {
	DatasetIDs []string       `json:"dataset_ids" required:"false" maxItems:"100" doc:"none is all of the tenant's"`
	Threshold  *float64       `json:"threshold,omitempty" minimum:"0" maximum:"1"`
	Limit      int            `json:"limit,omitempty" minimum:"1" maximum:"100" default:"10"`
	Explain    bool           `json:"explain,omitempty"`
	Weights    *match.Weights `json:"weights,omitempty"`
}

// MatchRequest looks for one entity.
type MatchRequest struct {
	Query Query `json:"query"`
	MatchOptions
}

// MatchedEntry is what a match says about the listed entity.
type MatchedEntry struct {
	ID         string   `json:"id"`
	DatasetID  string   `json:"dataset_id"`
	Name       string   `json:"name"`
	Aliases    []string `json:"aliases" nullable:"false"`
	Countries  []string `json:"countries" nullable:"false"`
	ExternalID string   `json:"external_id"`
}

// MatchResult is one listed entity that the query may mean.
type MatchResult struct {
	Entry       MatchedEntry       `json:"entry"`
	Score       float64            `json:"score"`
	Confidence  float64            `json:"confidence"`
	Quality     string             `json:"quality"`
	MatchType   match.Type         `json:"match_type"`
	MatchedName string             `json:"matched_name"`
	Algorithms  *match.Algorithms  `json:"algorithms,omitempty"`
	Explanation *match.Explanation `json:"explanation,omitempty"`
}

// MatchResponse is the answer to one query.
type MatchResponse struct {
	Query   Query         `json:"query"`
	Matches []MatchResult `json:"matches" nullable:"false"`
	Cached  bool          `json:"cached"`
	TookMS  float64       `json:"took_ms"`
}

// Match looks for one entity.
func (d *Datasets) Match(ctx context.Context, in MatchRequest) (MatchResponse, error) {
	m, err := d.prepare(ctx, in.MatchOptions)
	if err != nil {
		return MatchResponse{}, err
	}
	return m.one(ctx, in.Query, "query")
}

// BatchRequest looks for up to a hundred entities. The queries are taken apart
// here, so that one that cannot be read fails alone.
type BatchRequest struct {
	Queries []json.RawMessage `json:"queries" minItems:"1" maxItems:"100" doc:"each as query of POST /matches"`
	MatchOptions
}

// BatchItem is the answer to one query of a batch, or its error.
type BatchItem struct {
	*MatchResponse
	Error *ItemError `json:"error,omitempty"`
}

// BatchResponse has one item for each query, in order.
type BatchResponse struct {
	Results []BatchItem `json:"results" nullable:"false"`
}

// Used is how many queries were matched: one that is invalid costs nothing.
func (r BatchResponse) Used() int64 { return used(r.Results) }

func used(items []BatchItem) (n int64) {
	for _, item := range items {
		if item.Error == nil {
			n++
		}
	}
	return n
}

// MatchBatch gives for each query exactly what Match gives.
func (d *Datasets) MatchBatch(ctx context.Context, in BatchRequest) (BatchResponse, error) {
	if err := batchSize("queries", len(in.Queries), 1); err != nil {
		return BatchResponse{}, err
	}
	m, err := d.prepare(ctx, in.MatchOptions)
	if err != nil {
		return BatchResponse{}, err
	}
	out := BatchResponse{Results: make([]BatchItem, len(in.Queries))}
	for i, raw := range in.Queries {
		if out.Results[i], err = m.item(ctx, raw, fmt.Sprintf("queries[%d]", i)); err != nil {
			return BatchResponse{}, err
		}
	}
	return out, nil
}

func batchSize(field string, n, least int) error {
	if n < least || n > 100 {
		return domain.InvalidField(field, "invalid_count", "From %d to %d items.", least, 100)
	}
	return nil
}

// AffiliatedQuery is a query with the entities it is affiliated with, each a
// name or a query.
type AffiliatedQuery struct {
	Query
	AffiliatedEntities []json.RawMessage `json:"affiliated_entities" required:"false" maxItems:"100" doc:"each a name, or as query of POST /matches"`
}

// AffiliatedRequest looks for one entity and for those it is affiliated with.
type AffiliatedRequest struct {
	Query AffiliatedQuery `json:"query"`
	MatchOptions
}

// AffiliatedResponse reports each affiliated entity under the query.
type AffiliatedResponse struct {
	MatchResponse
	AffiliatedEntities []BatchItem `json:"affiliated_entities" nullable:"false"`
}

// Used is how many names were matched.
func (r AffiliatedResponse) Used() int64 { return 1 + used(r.AffiliatedEntities) }

// MatchAffiliated matches the query and each affiliated entity on its own.
func (d *Datasets) MatchAffiliated(ctx context.Context, in AffiliatedRequest) (AffiliatedResponse, error) {
	m, err := d.prepare(ctx, in.MatchOptions)
	if err != nil {
		return AffiliatedResponse{}, err
	}
	return m.affiliated(ctx, in.Query, "query")
}

// AffiliatedBatchRequest is a batch of affiliated queries.
type AffiliatedBatchRequest struct {
	Queries []json.RawMessage `json:"queries" minItems:"1" maxItems:"100" doc:"each as query of POST /matches/affiliated"`
	MatchOptions
}

// AffiliatedItem is the answer to one query of an affiliated batch, or its error.
type AffiliatedItem struct {
	*AffiliatedResponse
	Error *ItemError `json:"error,omitempty"`
}

// AffiliatedBatchResponse has one item for each query, in order.
type AffiliatedBatchResponse struct {
	Results []AffiliatedItem `json:"results" nullable:"false"`
}

// Used is how many names were matched.
func (r AffiliatedBatchResponse) Used() (n int64) {
	for _, item := range r.Results {
		if item.Error == nil {
			n += item.AffiliatedResponse.Used()
		}
	}
	return n
}

// MatchAffiliatedBatch gives for each query exactly what MatchAffiliated gives.
func (d *Datasets) MatchAffiliatedBatch(ctx context.Context, in AffiliatedBatchRequest) (AffiliatedBatchResponse, error) {
	if err := batchSize("queries", len(in.Queries), 1); err != nil {
		return AffiliatedBatchResponse{}, err
	}
	m, err := d.prepare(ctx, in.MatchOptions)
	if err != nil {
		return AffiliatedBatchResponse{}, err
	}
	out := AffiliatedBatchResponse{Results: make([]AffiliatedItem, len(in.Queries))}
	for i, raw := range in.Queries {
		field := fmt.Sprintf("queries[%d]", i)
		var q AffiliatedQuery
		err := decode(raw, &q, field)
		if err == nil {
			var r AffiliatedResponse
			if r, err = m.affiliated(ctx, q, field); err == nil {
				out.Results[i].AffiliatedResponse = &r
				continue
			}
		}
		if out.Results[i].Error = itemError(ctx, err); out.Results[i].Error == nil {
			return AffiliatedBatchResponse{}, err
		}
	}
	return out, nil
}

func (m *matcher) affiliated(ctx context.Context, q AffiliatedQuery, field string) (AffiliatedResponse, error) {
	if err := batchSize(field+".affiliated_entities", len(q.AffiliatedEntities), 0); err != nil {
		return AffiliatedResponse{}, err
	}
	one, err := m.one(ctx, q.Query, field)
	out := AffiliatedResponse{MatchResponse: one, AffiliatedEntities: []BatchItem{}}
	for i, raw := range q.AffiliatedEntities {
		if err != nil {
			break
		}
		var item BatchItem
		item, err = m.item(ctx, raw, fmt.Sprintf("%s.affiliated_entities[%d]", field, i))
		out.AffiliatedEntities = append(out.AffiliatedEntities, item)
	}
	return out, err
}

// item matches one item of a batch. Only what is not the item's fault is an error.
func (m *matcher) item(ctx context.Context, raw json.RawMessage, field string) (BatchItem, error) {
	var q Query
	var err error
	if text := bytes.TrimSpace(raw); len(text) > 0 && text[0] == '"' {
		err = decode(raw, &q.Name, field)
	} else {
		err = decode(raw, &q, field)
	}
	if err == nil {
		var r MatchResponse
		if r, err = m.one(ctx, q, field); err == nil {
			return BatchItem{MatchResponse: &r}, nil
		}
	}
	if e := itemError(ctx, err); e != nil {
		return BatchItem{Error: e}, nil
	}
	return BatchItem{}, err
}

func decode(raw json.RawMessage, into any, field string) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more than one value")
		}
	}
	if err == nil && string(bytes.TrimSpace(raw)) == "null" {
		err = errors.New("null")
	}
	if err != nil {
		return domain.InvalidField(field, "malformed", "This is not a query.").Because(err)
	}
	return nil
}

// matcher is a request's view: the lists as they are now, and the options.
type matcher struct {
	d        *Datasets
	tenant   string
	sets     []versioned
	settings match.Settings
	limit    int
	explain  bool
	view     string // everything but the query that changes an answer
	once     sync.Once
	lists    []*loaded
	err      error
}

type versioned struct {
	ID      string
	Version int64
}

// prepare reads which lists there are and in which version, in one query.
func (d *Datasets) prepare(ctx context.Context, o MatchOptions) (*matcher, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m := &matcher{d: d, tenant: domain.TenantOf(ctx), limit: o.Limit, explain: o.Explain}
	if m.limit == 0 {
		m.limit = 10
	}
	sets, version, err := d.versions(ctx, o.DatasetIDs)
	if err != nil {
		return nil, err
	}
	m.sets = sets
	own, err := d.settingsAt(ctx, version)
	if err != nil {
		return nil, err
	}
	m.settings = own.Settings
	if o.Threshold != nil {
		m.settings.Threshold = *o.Threshold
	}
	if o.Weights != nil {
		m.settings.Weights = *o.Weights
	}
	m.view = jsonText([]any{m.tenant, m.sets, version, m.settings.Threshold, m.settings.Weights, m.limit, m.explain})
	return m, nil
}

func (o *MatchOptions) check() error {
	var bad []domain.Field
	if len(o.DatasetIDs) > 100 {
		bad = append(bad, domain.Violation("dataset_ids", "invalid_count", "From %d to %d items.", 0, 100))
	}
	if o.Limit < 0 || o.Limit > 100 {
		bad = append(bad, domain.Violation("limit", "out_of_range", "A number from %v to %v is required.", 1, 100))
	}
	if o.Threshold != nil && !unit(*o.Threshold) {
		bad = append(bad, domain.Violation("threshold", "out_of_range", "A number from %v to %v is required.", 0, 1))
	}
	if o.Weights != nil {
		bad = append(bad, checkWeights(*o.Weights)...)
	}
	if len(bad) > 0 {
		return domain.Fields(bad...)
	}
	return nil
}

func unit(f float64) bool { return f >= 0 && f <= 1 } // and not NaN

func checkWeights(w match.Weights) (bad []domain.Field) {
	for _, f := range []struct {
		name string
		v    float64
	}{{"jaro_winkler", w.JaroWinkler}, {"levenshtein", w.Levenshtein}, {"word", w.Word}, {"ngram", w.NGram}, {"geographic", w.Geographic}} {
		if !unit(f.v) {
			bad = append(bad, domain.Violation("weights."+f.name, "out_of_range", "A number from %v to %v is required.", 0, 1))
		}
	}
	if len(bad) == 0 && w.JaroWinkler+w.Levenshtein+w.Word+w.NGram == 0 {
		bad = append(bad, domain.Violation("weights", "all_zero", "At least one weight of a name must be above zero."))
	}
	return bad
}

// versions gives the datasets meant and the version of the tenant's settings.
func (d *Datasets) versions(ctx context.Context, ids []string) (sets []versioned, settings int64, err error) {
	var rows []struct {
		ID       string
		Version  int64
		Settings int64
	}
	err = d.st.Read(ctx, func(ctx context.Context) error {
		query := `SELECT d.id, d.version, coalesce(s.version, 0) AS settings FROM datasets d LEFT JOIN matching_settings s ON s.tenant_id = d.tenant_id
			WHERE d.tenant_id = @tenant AND d.deleted_at IS NULL`
		args := map[string]any{}
		if len(ids) > 0 {
			query += " AND d.id IN @ids"
			args["ids"] = ids
		}
		return d.st.SQL(ctx, query+" ORDER BY d.id", args).Scan(&rows).Error
	})
	if err != nil {
		return nil, 0, err
	}
	for _, r := range rows {
		sets = append(sets, versioned{r.ID, r.Version})
		settings = r.Settings
	}
	for _, id := range ids {
		if !slices.ContainsFunc(sets, func(v versioned) bool { return v.ID == id }) {
			return nil, 0, domain.ErrNotFound()
		}
	}
	return sets, settings, nil
}

// one answers one query.
func (m *matcher) one(ctx context.Context, q Query, field string) (MatchResponse, error) {
	start := time.Now()
	out := MatchResponse{Query: q}
	if out.Query.Aliases == nil {
		out.Query.Aliases = []string{}
	}
	if err := out.Query.check(field); err != nil {
		return MatchResponse{}, err
	}
	sum := sha256.Sum256([]byte(m.view + jsonText(out.Query)))
	key := "match:{" + m.tenant + "}:" + hex.EncodeToString(sum[:])
	out.Matches, out.Cached = m.d.cached(ctx, m.tenant, key)
	if !out.Cached {
		var err error
		if out.Matches, err = m.search(ctx, out.Query); err != nil {
			return MatchResponse{}, err
		}
		m.d.keep(ctx, m.tenant, key, out.Matches)
	}
	out.TookMS = float64(time.Since(start).Microseconds()) / 1000
	return out, nil
}

func (q *Query) check(field string) error {
	var bad []domain.Field
	text := func(name, s string, most int) {
		if n := runes(s); n > most {
			bad = append(bad, domain.Violation(field+"."+name, "too_long", "At most %d characters.", most))
		} else if hasControl(s) {
			bad = append(bad, domain.Violation(field+"."+name, "control_character", "Control characters are not allowed."))
		}
	}
	if blank(q.Name) {
		bad = append(bad, domain.Violation(field+".name", "required", "A name is required."))
	}
	text("name", q.Name, 500)
	if len(q.Aliases) > 50 {
		bad = append(bad, domain.Violation(field+".aliases", "invalid_count", "From %d to %d items.", 0, 50))
	}
	for i, a := range q.Aliases[:min(50, len(q.Aliases))] {
		text(fmt.Sprintf("aliases[%d]", i), a, 500)
	}
	text("country", deref(q.Country), 200)
	text("city", deref(q.City), 200)
	for _, c := range []struct {
		name string
		v    *float64
		most float64
	}{{"latitude", q.Latitude, 90}, {"longitude", q.Longitude, 180}} {
		if c.v != nil && !(math.Abs(*c.v) <= c.most) {
			bad = append(bad, domain.Violation(field+"."+c.name, "out_of_range", "A number from %v to %v is required.", -c.most, c.most))
		}
	}
	if len(bad) > 0 {
		return domain.Fields(bad...)
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// search asks every list. The lists are loaded once a request.
func (m *matcher) search(ctx context.Context, q Query) ([]MatchResult, error) {
	m.once.Do(func() {
		for _, v := range m.sets {
			l, err := m.d.load(ctx, v)
			if err != nil {
				m.err = err
				return
			}
			m.lists = append(m.lists, l)
		}
	})
	if m.err != nil {
		return nil, m.err
	}
	code, _ := country(deref(q.Country))
	query := match.Query{Name: q.Name, Aliases: q.Aliases, Country: code, City: deref(q.City), Latitude: q.Latitude, Longitude: q.Longitude}
	options := match.Options{Settings: m.settings, Threshold: m.settings.Threshold, Limit: m.limit, Explain: m.explain}
	var found [][]match.Match
	for _, l := range m.lists {
		if err := ctx.Err(); err != nil {
			return nil, domain.E(domain.Canceled, "canceled", "The caller went away.").Because(err)
		}
		found = append(found, l.index.Search(query, options))
	}
	out := []MatchResult{}
	for _, hit := range match.Merge(m.limit, found...) {
		r := MatchResult{Score: hit.Score, Confidence: hit.Confidence, Quality: hit.Quality, MatchType: hit.Type}
		for _, l := range m.lists {
			if e, ok := l.entries[hit.Key]; ok {
				r.Entry = e
				if r.MatchedName = e.Name; hit.Name > 0 {
					r.MatchedName = e.Aliases[hit.Name-1]
				}
				break
			}
		}
		if m.explain {
			r.Algorithms, r.Explanation = hit.Algorithms, hit.Explanation
		}
		out = append(out, r)
	}
	return out, nil
}

// loaded is a list in memory, in one version.
type loaded struct {
	versioned
	index   *match.Index
	entries map[[16]byte]MatchedEntry
}

// load gives the list in memory, built by one goroutine for all who wait.
func (d *Datasets) load(ctx context.Context, v versioned) (*loaded, error) {
	tenant := domain.TenantOf(ctx)
	key := tenant + "/" + v.ID // one version of a list is kept, the last one asked for
	if l, ok := d.indexes.get(key); ok && l.Version == v.Version {
		return l, nil
	}
	built := d.builds.DoChan(fmt.Sprintf("%s/%d", key, v.Version), func() (any, error) {
		if l, ok := d.indexes.get(key); ok && l.Version == v.Version {
			return l, nil
		}
		// Not the caller's to cancel: others wait for it too.
		l, size, err := d.build(context.WithoutCancel(ctx), v)
		if err == nil {
			d.indexes.put(tenant, key, l, size)
		}
		return l, err
	})
	select {
	case r := <-built:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*loaded), nil
	case <-ctx.Done():
		return nil, domain.E(domain.Canceled, "canceled", "The caller went away.").Because(ctx.Err())
	}
}

// build reads a list into memory. Where the list changes meanwhile it starts
// again with what the list is then: newer than asked for, never a mixture.
func (d *Datasets) build(ctx context.Context, v versioned) (*loaded, int64, error) {
	for range 5 {
		var imports []string
		var before Dataset
		err := d.st.Read(ctx, func(ctx context.Context) (err error) {
			if before, err = d.dataset(ctx, v.ID); err != nil {
				return err
			}
			return d.st.For(ctx).Model(&Import{}).Where("dataset_id = ? AND visible = ?", v.ID, true).Pluck("id", &imports).Error
		})
		if err != nil {
			return nil, 0, err
		}
		b := match.NewBuilder()
		l := &loaded{versioned: v, entries: make(map[[16]byte]MatchedEntry, before.Rows)}
		size := int64(0)
		err = d.walk(ctx, imports, func(e *Entry) error {
			key, ok := domain.ParseID("ent", e.ID)
			if !ok {
				return fmt.Errorf("dataset: entry id %q", e.ID)
			}
			entry := match.Entry{Key: key, Name: e.Name, Aliases: e.Aliases, Countries: e.Countries, Latitude: e.Latitude, Longitude: e.Longitude}
			if len(e.Cities) > 0 {
				entry.City = e.Cities[0]
			}
			b.Add(entry)
			l.entries[key] = MatchedEntry{e.ID, v.ID, e.Name, e.Aliases, e.Countries, e.ExternalID}
			size += 300 + int64(len(e.Name)+len(e.ExternalID))
			for _, a := range e.Aliases {
				size += 16 + int64(len(a))
			}
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
		after, err := d.Get(ctx, IDRequest{v.ID})
		if err != nil {
			return nil, 0, err
		}
		if after.Version == before.Version {
			l.index = b.Build()
			return l, size + l.index.MemoryBytes(), nil
		}
	}
	return nil, 0, domain.E(domain.Unavailable, "dataset_changing", "The dataset is changing too fast to be read.").After(2 * time.Second)
}

// cached looks in both levels.
func (d *Datasets) cached(ctx context.Context, tenant, key string) ([]MatchResult, bool) {
	if r, ok := d.answers.get(key); ok {
		d.counts.add(tenant, 0)
		return r, true
	}
	if d.Cache != nil {
		if raw, ok := d.Cache.CacheGet(ctx, key); ok {
			var r []MatchResult
			if json.Unmarshal(raw, &r) == nil && r != nil {
				d.answers.put(tenant, key, r, int64(len(raw))*2+200)
				d.counts.add(tenant, 1)
				return r, true
			}
		}
	}
	d.counts.add(tenant, 2)
	return nil, false
}

func (d *Datasets) keep(ctx context.Context, tenant, key string, r []MatchResult) {
	raw, err := json.Marshal(r)
	if err != nil {
		d.Logger.WarnContext(ctx, "an answer was not cached", "err", err)
		return
	}
	d.answers.put(tenant, key, r, int64(len(raw))*2+200)
	if d.Cache != nil {
		d.Cache.CacheSet(ctx, key, raw, d.AnswerTTL)
	}
}

// counters count, by tenant: answers from the process, from Cache, computed.
type counters struct {
	mu sync.Mutex
	by map[string]*[3]int64
}

func (c *counters) add(tenant string, which int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]*[3]int64{}
	}
	if c.by[tenant] == nil {
		c.by[tenant] = new([3]int64)
	}
	c.by[tenant][which]++
}

func (c *counters) of(tenant string) [3]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.by[tenant]; n != nil {
		return *n
	}
	return [3]int64{}
}
