package billing

import (
	"context"
	"encoding/json"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
)

// planDraft is a plan that is being written.
type planDraft struct {
	Name      string `gorm:"primaryKey"`
	Body      string
	Author    string
	UpdatedAt time.Time
}

// PlanState is a plan as its editors see it.
type PlanState struct {
	Name      string `json:"name"`
	Status    string `json:"status" enum:"published,archived,draft" doc:"draft: it never was published"`
	Current   int    `json:"current" doc:"the version that new customers get; 0 is none"`
	Tenants   int64  `json:"tenants" doc:"that were put on some version of it, or pay for one"`
	Published *Plan  `json:"published,omitempty" gorm:"-"`
	Draft     *Plan  `json:"draft,omitempty" gorm:"-"`
}

// SaveDraft keeps a plan that is being written, in a system scope. A draft must
// be complete: what is saved can be published.
func (s *Service) SaveDraft(ctx context.Context, p Plan, author string) error {
	p.Version = 1 // the real one is given when it is published
	if err := p.complete(); err != nil {
		return domain.E(domain.Invalid, "incomplete_plan", "The plan is not complete.").Because(err)
	}
	p.Version = 0
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		row := planDraft{p.Name, string(body), author, s.Now().UTC()}
		return s.Store.For(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, UpdateAll: true}).Create(&row).Error
	})
}

// PublishDraft makes the draft the next version of its plan, which new customers
// get from now on; tenants stay on the version that they have. It answers what
// was published.
func (s *Service) PublishDraft(ctx context.Context, name, author string) (p Plan, err error) {
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		var draft planDraft
		if err := s.Store.For(ctx).Where("name = ?", name).Take(&draft).Error; err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(draft.Body), &p); err != nil {
			return err
		}
		var newest struct{ Version, Position int }
		err := s.Store.SQL(ctx, `SELECT (SELECT coalesce(max(version), 0) FROM plan_versions WHERE plan = @plan) AS version,
			(SELECT coalesce(max(position), 0) FROM plans) AS position`, map[string]any{"plan": name}).Scan(&newest).Error
		if err != nil {
			return err
		}
		p.Version = newest.Version + 1
		row := planRow{name, newest.Position + 1, p.Version, "published", s.Now().UTC()}
		if err := s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
			return err
		}
		if err := s.Publish(ctx, p, author); err != nil {
			return err
		}
		if err := s.Store.For(ctx).Model(&planRow{}).Where("name = ?", name).Updates(map[string]any{"status": "published"}).Error; err != nil {
			return err
		}
		return s.Store.For(ctx).Where("name = ?", name).Delete(&planDraft{}).Error
	})
	return p, err
}

// Archive ends the sale of a plan. Who has it keeps it; the free plan, which
// everybody falls back on, cannot be archived.
func (s *Service) Archive(ctx context.Context, name string) error {
	if name == "free" {
		return domain.E(domain.Conflict, "conflict", "The free plan cannot be archived.")
	}
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		done := s.Store.For(ctx).Model(&planRow{}).Where("name = ?", name).Updates(map[string]any{"status": "archived", "updated_at": s.Now().UTC()})
		if done.Error == nil && done.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		return done.Error
	})
}

// Catalogue lists every plan, archived ones and drafts included.
func (s *Service) Catalogue(ctx context.Context) (out []PlanState, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		err := s.Store.SQL(ctx, `SELECT p.name, p.status, p.current, (SELECT count(*) FROM tenant_plans t WHERE t.plan = p.name)
				+ (SELECT count(*) FROM subscriptions s WHERE s.plan = p.name AND s.status NOT IN ('canceled', 'incomplete', 'incomplete_expired')) AS tenants
			FROM plans p ORDER BY p.position, p.name`, nil).Scan(&out).Error
		if err != nil {
			return err
		}
		for i, state := range out {
			var row planVersion
			if err := s.Store.For(ctx).Where("plan = ? AND version = ?", state.Name, state.Current).Take(&row).Error; err != nil {
				return err
			}
			p, err := s.read(row)
			if err != nil {
				return err
			}
			out[i].Published = &p
		}
		var drafts []planDraft
		if err := s.Store.For(ctx).Order("name").Find(&drafts).Error; err != nil {
			return err
		}
	next:
		for _, d := range drafts {
			var p Plan
			if err := json.Unmarshal([]byte(d.Body), &p); err != nil {
				return err
			}
			for i := range out {
				if out[i].Name == d.Name {
					out[i].Draft = &p
					continue next
				}
			}
			out = append(out, PlanState{Name: d.Name, Status: "draft", Draft: &p})
		}
		return nil
	})
	return out, err
}

var _ = domain.Chinese(map[string]string{
	"The plan is not complete.":         "套餐不完整。",
	"The free plan cannot be archived.": "免费版不能归档。",
})
