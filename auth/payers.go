package auth

import "context"

// Payer is a person of a tenant who cares for its bills: an owner, or one with
// the billing role.
type Payer struct {
	ID     string
	Email  string
	Locale string
}

// Payers lists them, in the caller's system transaction.
func (s *Service) Payers(ctx context.Context, tenant string) (out []Payer, err error) {
	err = s.Store.SQL(ctx, `SELECT u.id, u.email, u.locale FROM memberships m JOIN users u ON u.id = m.user_id
		WHERE m.tenant_id = @owner AND m.role IN ('owner', 'billing') ORDER BY m.id`, map[string]any{"owner": tenant}).Scan(&out).Error
	return out, err
}
