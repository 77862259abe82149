package audit

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/sheet"
)

// Filter chooses events.
type Filter struct {
	Actor  string    `query:"actor" maxLength:"64"`
	Action string    `query:"action" maxLength:"64"`
	Target string    `query:"target" maxLength:"64"`
	From   time.Time `query:"from"`
	To     time.Time `query:"to"`
}

func (f Filter) apply(q *gorm.DB) *gorm.DB {
	if f.Actor != "" {
		q = q.Where("actor_id = ? OR impersonator = ?", f.Actor, f.Actor)
	}
	if f.Action != "" {
		q = q.Where("action = ?", f.Action)
	}
	if f.Target != "" {
		q = q.Where("target = ?", f.Target)
	}
	if !f.From.IsZero() {
		q = q.Where("occurred_at >= ?", f.From.UTC())
	}
	if !f.To.IsZero() {
		q = q.Where("occurred_at < ?", f.To.UTC())
	}
	return q
}

// ListRequest asks for a page of the trail.
type ListRequest struct {
	domain.PageRequest
	Filter
}

// List gives the newest events first.
func (t *Trail) List(ctx context.Context, in ListRequest) (domain.Page[Event], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[Event]{}, err
	}
	var rows []Event
	err = t.Store.Read(ctx, func(ctx context.Context) error {
		q := in.apply(t.Store.For(ctx).Order("seq DESC").Limit(in.Size() + 1))
		if after != "" {
			seq, err := strconv.ParseInt(after, 10, 64)
			if err != nil {
				return domain.InvalidField("cursor", "invalid_cursor", "The cursor is not one of ours.")
			}
			q = q.Where("seq < ?", seq)
		}
		if err := q.Find(&rows).Error; err != nil {
			return err
		}
		return t.reveal(ctx, domain.TenantOf(ctx), rows)
	})
	if err != nil {
		return domain.Page[Event]{}, err
	}
	return domain.NewPage(rows, in.Size(), func(e Event) string { return strconv.FormatInt(e.Seq, 10) }), nil
}

// EverywhereRequest asks for a page of the trails of all tenants, or of one.
type EverywhereRequest struct {
	domain.PageRequest
	TenantID string `query:"tenant_id" maxLength:"64" doc:"with it, addresses are opened; reading is on that tenant's record"`
	Filter
}

// TenantEvent is an event with the tenant whose it is.
type TenantEvent struct {
	TenantID string `json:"tenant_id"`
	Event
}

// Everywhere gives the newest events first, to a platform administrator.
func (t *Trail) Everywhere(ctx context.Context, in EverywhereRequest) (domain.Page[TenantEvent], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[TenantEvent]{}, err
	}
	var rows []Event
	touched := domain.TenantOf(ctx)
	err = t.Store.Tx(domain.System(ctx, "platform administration"), func(ctx context.Context) error {
		q := in.apply(t.Store.For(ctx).Order("id DESC").Limit(in.Size() + 1))
		if in.TenantID != "" {
			q, touched = q.Where("tenant_id = ?", in.TenantID), in.TenantID
		}
		if after != "" {
			q = q.Where("id < ?", after)
		}
		if err := q.Find(&rows).Error; err != nil {
			return err
		}
		if in.TenantID == "" {
			return t.Record(ctx, Entry{Action: "admin.read_audit", Tenant: touched})
		}
		if len(rows) == 0 && after == "" { // nobody's record begins with a look into it
			var there int64
			if err := t.Store.For(ctx).Model(&head{}).Where("tenant_id = ?", in.TenantID).Count(&there).Error; err != nil || there == 0 {
				return err
			}
		}
		if err := t.reveal(ctx, in.TenantID, rows); err != nil {
			return err
		}
		return t.Record(ctx, Entry{Action: "admin.read_audit", Target: in.TenantID, Tenant: in.TenantID})
	})
	out := make([]TenantEvent, len(rows))
	for i, e := range rows {
		if !strings.HasPrefix(e.IP, sealedMark) && in.TenantID == "" {
			e.Address = e.IP
		}
		out[i] = TenantEvent{e.TenantID, e}
	}
	return domain.NewPage(out, in.Size(), func(e TenantEvent) string { return e.ID }), err
}

// ExportRequest asks for a file of events.
type ExportRequest struct {
	Filter
	Format string `query:"format" enum:"csv,jsonl" default:"jsonl"`
}

var csvHeader = []string{"seq", "id", "occurred_at", "actor_kind", "actor_id", "impersonator", "action", "target", "outcome", "request_id", "ip", "detail", "prev_hash", "hash"}

// Export writes the events, oldest first, as they are read: as JSON Lines with
// everything that the hashes cover, or as CSV in which no cell is a formula.
// Taking the record away is on the record.
func (t *Trail) Export(ctx context.Context, in ExportRequest, w io.Writer) error {
	if in.Format == "" {
		in.Format = "jsonl"
	}
	err := t.Store.Tx(ctx, func(ctx context.Context) error {
		return t.Record(ctx, Entry{Action: "audit.export", Target: domain.TenantOf(ctx), Detail: map[string]any{"format": in.Format}})
	})
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(w)
	lines := json.NewEncoder(buf)
	cells := csv.NewWriter(buf)
	cells.UseCRLF = true
	if in.Format == "csv" {
		if err := cells.Write(csvHeader); err != nil {
			return err
		}
	}
	const step = 500
	for seq := int64(0); ; {
		var rows []Event
		err := t.Store.ReadStale(ctx, func(ctx context.Context) error {
			if err := in.apply(t.Store.For(ctx).Order("seq").Limit(step)).Where("seq > ?", seq).Find(&rows).Error; err != nil {
				return err
			}
			return t.reveal(ctx, domain.TenantOf(ctx), rows)
		})
		if err != nil {
			return err
		}
		for i := range rows {
			e := &rows[i]
			seq = e.Seq
			if in.Format == "jsonl" {
				err = lines.Encode(e)
			} else {
				row := []string{strconv.FormatInt(e.Seq, 10), e.ID, e.OccurredAt.UTC().Format(time.RFC3339Nano), e.ActorKind, e.ActorID, e.Impersonator,
					e.Action, e.Target, e.Outcome, e.RequestID, e.Address, string(e.Detail), e.PrevHash, e.Hash}
				for i := range row {
					row[i] = sheet.Guard(row[i])
				}
				err = cells.Write(row)
			}
			if err != nil {
				return err
			}
		}
		if len(rows) < step {
			cells.Flush()
			if err := cells.Error(); err != nil {
				return err
			}
			return buf.Flush()
		}
	}
}
