package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"io"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/sheet"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Decision is what somebody decided about a name and a listed entity: there is
// one for each pair, the last one. The pair is known again by the entity's
// external id, or else its name, so that a decision outlives a new version of
// the list; what was there before is in the audit record.
type Decision struct {
	store.Owned
	ID         string    `json:"id" gorm:"primaryKey"`
	QueryKey   string    `json:"-"`
	EntryKey   string    `json:"-"`
	Query      string    `json:"query" gorm:"column:query_name"`
	Country    string    `json:"country" gorm:"column:query_country" doc:"that was asked for; empty where none was"`
	DatasetID  string    `json:"dataset_id"`
	EntryID    string    `json:"entry_id" doc:"of the version of the list that was decided on"`
	ExternalID string    `json:"external_id"`
	EntryName  string    `json:"entry_name"`
	Verdict    string    `json:"verdict" enum:"same,different,unsure"`
	Note       string    `json:"note"`
	Score      float64   `json:"score" doc:"of the match, as the caller saw it"`
	DecidedBy  string    `json:"decided_by"`
	DecidedAt  time.Time `json:"decided_at"`

	Before *Verdict `json:"before,omitempty" gorm:"-" doc:"what this took the place of; none where nothing was decided"`
}

// TableName is GORM's.
func (Decision) TableName() string { return "match_decisions" }

// Verdict is a decision without what it is about.
type Verdict struct {
	Verdict string `json:"verdict" enum:"same,different,unsure"`
	Note    string `json:"note"`
}

// Asked is the name that a decision is about.
type Asked struct {
	Name    string `json:"name" minLength:"1" maxLength:"500"`
	Country string `json:"country,omitempty" maxLength:"100"`
}

func (a Asked) key() string {
	return pairKey(strings.TrimSpace(a.Name), strings.TrimSpace(a.Country))
}

// pairKey is the same for spellings that differ in case and accents alone.
func pairKey(a, b string) string {
	sum := sha256.Sum256([]byte(fold(a) + "\x00" + fold(b)))
	return hex.EncodeToString(sum[:])
}

// DecideRequest decides about a name and an entry.
type DecideRequest struct {
	Query   Asked   `json:"query"`
	EntryID string  `json:"entry_id" maxLength:"64"`
	Verdict string  `json:"verdict" enum:"same,different,unsure"`
	Note    string  `json:"note,omitempty" maxLength:"2000"`
	Score   float64 `json:"score,omitempty" minimum:"0" maximum:"1"`
}

// Decide keeps a decision, in the place of the one before.
func (d *Datasets) Decide(ctx context.Context, in DecideRequest) (out Decision, err error) {
	var bad []domain.Field
	if blank(in.Query.Name) {
		bad = append(bad, domain.Violation("query.name", "required", "A name is required."))
	}
	for _, f := range []struct{ name, value string }{{"query.name", in.Query.Name}, {"query.country", in.Query.Country}} {
		if hasControl(f.value) {
			bad = append(bad, domain.Violation(f.name, "control_character", "Control characters are not allowed."))
		}
	}
	if len(bad) > 0 {
		return out, domain.Fields(bad...)
	}
	scope, _ := domain.ScopeOf(ctx)
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		e, err := d.Entry(ctx, IDRequest{in.EntryID})
		if err != nil {
			return err
		}
		listed := e.ExternalID
		if listed == "" {
			listed = e.Name
		}
		out = Decision{ID: domain.NewID("dec"), QueryKey: in.Query.key(), EntryKey: pairKey(e.DatasetID, listed),
			Query: strings.TrimSpace(in.Query.Name), Country: strings.TrimSpace(in.Query.Country), DatasetID: e.DatasetID, EntryID: e.ID, ExternalID: e.ExternalID, EntryName: e.Name,
			Verdict: in.Verdict, Note: clean(in.Note), Score: in.Score, DecidedBy: scope.Actor.ID, DecidedAt: d.now()}
		made := d.st.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&out)
		if made.Error != nil {
			return made.Error
		}
		if made.RowsAffected == 0 {
			var old Decision
			if err := d.st.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("query_key = ? AND entry_key = ?", out.QueryKey, out.EntryKey).Take(&old).Error; err != nil {
				return err
			}
			out.ID, out.Before = old.ID, &Verdict{old.Verdict, old.Note}
			err := d.st.For(ctx).Model(&Decision{}).Where("id = ?", old.ID).Updates(map[string]any{
				"query_name": out.Query, "query_country": out.Country, "entry_id": out.EntryID, "entry_name": out.EntryName,
				"verdict": out.Verdict, "note": out.Note, "score": out.Score, "decided_by": out.DecidedBy, "decided_at": out.DecidedAt}).Error
			if err != nil {
				return err
			}
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "decision.put", Target: out.ID, Detail: map[string]any{"verdict": out.Verdict, "before": out.Before}})
	})
	return out, err
}

// TakeBack removes a decision, as if nothing was ever decided.
func (d *Datasets) TakeBack(ctx context.Context, in IDRequest) (struct{}, error) {
	return struct{}{}, d.st.Tx(ctx, func(ctx context.Context) error {
		gone := d.st.For(ctx).Where("id = ?", in.ID).Delete(&Decision{})
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "decision.delete", Target: in.ID})
	})
}

// DecisionsRequest pages through the decisions.
type DecisionsRequest struct {
	domain.PageRequest
	DatasetID string `query:"dataset_id" json:"-" maxLength:"64"`
	Verdict   string `query:"verdict" json:"-" enum:"same,different,unsure"`
}

// Decisions gives the newest decisions first; one that was changed keeps its place.
func (d *Datasets) Decisions(ctx context.Context, in DecisionsRequest) (page domain.Page[Decision], err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error {
		q := d.st.For(ctx)
		if in.DatasetID != "" {
			q = q.Where("dataset_id = ?", in.DatasetID)
		}
		if in.Verdict != "" {
			q = q.Where("verdict = ?", in.Verdict)
		}
		page, err = store.Newest(q, in.PageRequest, func(r Decision) string { return r.ID })
		return err
	})
	return page, err
}

// DecidedRequest names what may have been decided about.
type DecidedRequest struct {
	Queries []Asked `json:"queries" minItems:"1" maxItems:"100"`
}

// DecidedItem is what was decided about one name.
type DecidedItem struct {
	Decisions []Decision `json:"decisions" nullable:"false"`
}

// DecidedResponse has one item for each name, in order.
type DecidedResponse struct {
	Results []DecidedItem `json:"results" nullable:"false"`
}

// Decided gives what was decided about up to a hundred names.
func (d *Datasets) Decided(ctx context.Context, in DecidedRequest) (out DecidedResponse, err error) {
	if err := batchSize("queries", len(in.Queries), 1); err != nil {
		return out, err
	}
	keys := make([]string, len(in.Queries))
	for i, q := range in.Queries {
		keys[i] = q.key()
	}
	var rows []Decision
	err = d.st.Read(ctx, func(ctx context.Context) error {
		return d.st.For(ctx).Where("query_key IN ?", keys).Order("id DESC").Find(&rows).Error
	})
	out.Results = make([]DecidedItem, len(keys))
	for i, key := range keys {
		out.Results[i].Decisions = []Decision{}
		for _, r := range rows {
			if r.QueryKey == key {
				out.Results[i].Decisions = append(out.Results[i].Decisions, r)
			}
		}
	}
	return out, err
}

// DecisionsExportRequest is which decisions to write.
type DecisionsExportRequest struct {
	DatasetID string `query:"dataset_id" json:"-" maxLength:"64"`
	Verdict   string `query:"verdict" json:"-" enum:"same,different,unsure"`
}

// ExportDecisions writes the decisions as CSV, newest first.
func (d *Datasets) ExportDecisions(ctx context.Context, in DecisionsExportRequest, w io.Writer) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write([]string{"query", "query_country", "dataset_id", "external_id", "entry_name", "verdict", "note", "score", "decided_by", "decided_at"})
	for asked := (DecisionsRequest{domain.PageRequest{Limit: 200}, in.DatasetID, in.Verdict}); ; {
		page, err := d.Decisions(ctx, asked)
		if err != nil {
			return err
		}
		for _, r := range page.Data {
			cells := []string{r.Query, r.Country, r.DatasetID, r.ExternalID, r.EntryName, r.Verdict, r.Note, number4(r.Score), r.DecidedBy, r.DecidedAt.Format(time.RFC3339)}
			for i := range cells {
				cells[i] = sheet.Guard(cells[i])
			}
			_ = out.Write(cells)
		}
		out.Flush()
		if err := out.Error(); err != nil || page.NextCursor == nil {
			return err
		}
		asked.Cursor = *page.NextCursor
	}
}
