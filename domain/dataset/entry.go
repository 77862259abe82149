package dataset

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/sheet"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Entry is one listed entity, as stored and as answered.
type Entry struct {
	store.Owned
	ID          string              `json:"id" gorm:"primaryKey"`
	DatasetID   string              `json:"dataset_id"`
	ImportID    string              `json:"-"`
	Line        int64               `json:"line" doc:"of the imported file"`
	Name        string              `json:"name"`
	Aliases     []string            `json:"aliases" gorm:"serializer:json" nullable:"false"`
	Countries   []string            `json:"countries" gorm:"serializer:json" nullable:"false" doc:"ISO 3166-1 alpha-2"`
	Cities      []string            `json:"cities" gorm:"serializer:json" nullable:"false"`
	Latitude    *float64            `json:"latitude" nullable:"true"`
	Longitude   *float64            `json:"longitude" nullable:"true"`
	SchemaType  string              `json:"schema_type"`
	ExternalID  string              `json:"external_id"`
	Description string              `json:"description"`
	SourceURL   string              `json:"data_source_url"`
	Published   string              `json:"published_date"`
	Updated     string              `json:"updated_date"`
	Properties  map[string][]string `json:"properties" gorm:"serializer:json"`
}

// TableName is GORM's.
func (Entry) TableName() string { return "dataset_entries" }

// EntriesRequest searches within a list.
type EntriesRequest struct {
	domain.PageRequest
	DatasetID string `path:"id" json:"-" maxLength:"64"`
	Q         string `query:"q" json:"-" maxLength:"200" doc:"part of a name or alias; case and accents do not matter"`
	Country   string `query:"country" json:"-" maxLength:"100" doc:"code or name"`
}

// Entries pages through a list in its own order.
func (d *Datasets) Entries(ctx context.Context, in EntriesRequest) (domain.Page[Entry], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[Entry]{}, err
	}
	code := ""
	if in.Country != "" {
		var ok bool
		if code, ok = country(in.Country); !ok {
			return domain.Page[Entry]{}, domain.InvalidField("country", "unknown_country", "There is no such country.")
		}
	}
	var rows []Entry
	err = d.st.Read(ctx, func(ctx context.Context) error {
		if _, err := d.dataset(ctx, in.DatasetID); err != nil {
			return err
		}
		rows, err = d.find(ctx, in.DatasetID, wanted{q: clean(fold(in.Q)), country: code, after: after, limit: in.Size() + 1})
		return err
	})
	if err != nil {
		return domain.Page[Entry]{}, err
	}
	return domain.NewPage(rows, in.Size(), func(e Entry) string { return e.ImportID + "/" + e.ID }), nil
}

// Entry gives one entry of a list as it is now.
func (d *Datasets) Entry(ctx context.Context, in IDRequest) (row Entry, err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error {
		if err := d.st.For(ctx).Where("id = ?", in.ID).Take(&row).Error; err != nil {
			return err
		}
		var im Import
		if err := d.st.For(ctx).Where("id = ? AND visible = ?", row.ImportID, true).Take(&im).Error; err != nil {
			return err
		}
		_, err := d.dataset(ctx, row.DatasetID)
		return err
	})
	if err != nil {
		return Entry{}, err
	}
	return row, nil
}

// Count is how many entries have a value.
type Count struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// StatsResponse describes a list in numbers.
type StatsResponse struct {
	DatasetID       string  `json:"dataset_id"`
	Version         int64   `json:"version"`
	Rows            int64   `json:"rows"`
	WithAliases     int64   `json:"with_aliases"`
	WithCountry     int64   `json:"with_country"`
	WithCoordinates int64   `json:"with_coordinates"`
	Countries       []Count `json:"countries" nullable:"false" doc:"most frequent first"`
	SchemaTypes     []Count `json:"schema_types" nullable:"false" doc:"most frequent first, at most 100"`
}

// Stats counts a list.
func (d *Datasets) Stats(ctx context.Context, in IDRequest) (out StatsResponse, err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error {
		set, err := d.dataset(ctx, in.ID)
		if err != nil {
			return err
		}
		out = StatsResponse{DatasetID: set.ID, Version: set.Version, Rows: set.Rows, Countries: []Count{}, SchemaTypes: []Count{}}
		const from = ` FROM dataset_entries e JOIN dataset_imports i ON i.tenant_id = e.tenant_id AND i.id = e.import_id
			WHERE e.tenant_id = @tenant AND i.dataset_id = @id AND i.visible = @yes`
		args := map[string]any{"id": in.ID, "yes": true}
		var n struct{ Aliases, Country, Coordinates int64 }
		err = d.st.SQL(ctx, `SELECT count(CASE WHEN e.aliases <> '[]' THEN 1 END) AS aliases, count(CASE WHEN e.country_key <> '' THEN 1 END) AS country,
			count(CASE WHEN e.latitude IS NOT NULL AND e.longitude IS NOT NULL THEN 1 END) AS coordinates`+from, args).Scan(&n).Error
		if err != nil {
			return err
		}
		out.WithAliases, out.WithCountry, out.WithCoordinates = n.Aliases, n.Country, n.Coordinates
		var keys []Count
		if err := d.st.SQL(ctx, "SELECT e.country_key AS value, count(*) AS count"+from+" GROUP BY e.country_key", args).Scan(&keys).Error; err != nil {
			return err
		}
		by := map[string]int64{}
		for _, k := range keys { // an entry of two countries counts in both
			for _, code := range strings.FieldsFunc(k.Value, func(r rune) bool { return r == '|' }) {
				by[code] += k.Count
			}
		}
		for code, n := range by {
			out.Countries = append(out.Countries, Count{code, n})
		}
		slices.SortFunc(out.Countries, func(a, b Count) int {
			if a.Count != b.Count {
				return int(b.Count - a.Count)
			}
			return strings.Compare(a.Value, b.Value)
		})
		return d.st.SQL(ctx, "SELECT e.schema_type AS value, count(*) AS count"+from+
			" AND e.schema_type <> '' GROUP BY e.schema_type ORDER BY count(*) DESC, e.schema_type LIMIT 100", args).Scan(&out.SchemaTypes).Error
	})
	return out, err
}

// ExportRequest names the dataset and the format.
type ExportRequest struct {
	ID     string `path:"id" json:"-" maxLength:"64"`
	Format string `query:"format" json:"-" enum:"csv,jsonl,ftm" default:"csv"`
}

// Export writes the whole list. The imports that are visible at the start are
// written to the end, even where the list is replaced meanwhile. Each format is
// one that an import takes, and gives the same list again.
func (d *Datasets) Export(ctx context.Context, in ExportRequest, w io.Writer) error {
	var flush func() error
	var row func(*Entry) error
	switch in.Format {
	case "", "csv":
		out := sheet.WriteCSV(w)
		row, flush = func(e *Entry) error { return out.Write(e.record()) }, out.Flush
	case "ftm":
		out := sheet.WriteFTM(w)
		row, flush = func(e *Entry) error { return out.Write(e.record()) }, out.Flush
	case "jsonl":
		buf := bufio.NewWriterSize(w, 64<<10)
		enc := json.NewEncoder(buf)
		enc.SetEscapeHTML(false)
		row, flush = func(e *Entry) error { return enc.Encode(e) }, buf.Flush
	default:
		return domain.InvalidField("format", "invalid_format", "The format is csv, jsonl or ftm.")
	}
	var imports []string
	err := d.st.Read(ctx, func(ctx context.Context) error {
		if _, err := d.dataset(ctx, in.ID); err != nil {
			return err
		}
		return d.st.For(ctx).Model(&Import{}).Where("dataset_id = ? AND visible = ?", in.ID, true).Pluck("id", &imports).Error
	})
	if err != nil {
		return err
	}
	if err := d.walk(ctx, imports, row); err != nil {
		return err
	}
	return flush()
}

// walk calls fn for every entry of the imports, in pages: no transaction
// stays open while a slow reader reads.
func (d *Datasets) walk(ctx context.Context, imports []string, fn func(*Entry) error) error {
	const step = 2000
	slices.Sort(imports)
	for _, im := range imports {
		for after := ""; ; {
			var rows []Entry
			err := d.st.Read(ctx, func(ctx context.Context) error {
				return d.st.For(ctx).Where("import_id = ? AND id > ?", im, after).Order("id").Limit(step).Find(&rows).Error
			})
			if err != nil {
				return err
			}
			for i := range rows {
				if err := fn(&rows[i]); err != nil {
					return err
				}
				after = rows[i].ID
			}
			if len(rows) < step {
				break
			}
		}
	}
	return nil
}

// record is the entry as the writers of files take it.
func (e *Entry) record() *sheet.Record {
	return &sheet.Record{ID: e.ID, Name: e.Name, Aliases: e.Aliases, Countries: e.Countries, Cities: e.Cities, Latitude: e.Latitude, Longitude: e.Longitude,
		SchemaType: e.SchemaType, ExternalID: e.ExternalID, Description: e.Description, SourceURL: e.SourceURL,
		Published: e.Published, Updated: e.Updated, Properties: e.Properties}
}
