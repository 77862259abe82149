package main

import (
	"context"
	"fmt"
	"io"

	"github.com/chainreactions/chainreactions/domain"
)

// verifyAudit holds the record of one tenant, or of all, against its hashes,
// seals and checkpoints, and fails if any does not fit.
func (p *program) verifyAudit(ctx context.Context, out io.Writer, only string) error {
	ids := []string{}
	if only != "" {
		t, err := p.tenants.Resolve(ctx, only)
		if err != nil {
			return fmt.Errorf("tenant %q: %w", only, err)
		}
		ids = append(ids, t.ID)
	} else {
		err := p.store.Read(domain.System(ctx, "audit verify"), func(ctx context.Context) error {
			return p.store.SQL(ctx, "SELECT id FROM tenants ORDER BY id", nil).Scan(&ids).Error
		})
		if err != nil {
			return err
		}
	}
	broken := 0
	for _, id := range ids {
		v, err := p.audit.Verify(domain.WithScope(ctx, domain.Scope{Tenant: id, Actor: domain.Actor{Kind: "system", ID: "audit verify"}}), struct{}{})
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if !v.OK {
			broken++
			fmt.Fprintf(out, "%s BROKEN at event %d: %s\n", id, *v.FirstBroken, v.Reason)
			continue
		}
		fmt.Fprintf(out, "%s ok, %d events, %s\n", id, v.Length, v.HeadHash)
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d records are broken", broken, len(ids))
	}
	return nil
}
