package audit

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"slices"

	"github.com/chainreactions/chainreactions/domain"
)

// VerifyResponse is the state of a tenant's chain.
type VerifyResponse struct {
	OK          bool        `json:"ok"`
	Length      int64       `json:"length" doc:"sequence number of the last event"`
	HeadHash    string      `json:"head_hash"`
	FirstBroken *int64      `json:"first_broken" nullable:"true" doc:"sequence number of the first event that does not fit"`
	Reason      string      `json:"reason,omitempty" enum:"changed,missing,cut,added,rewritten,seal,checkpoint" doc:"what was done there"`
	RemovedTo   int64       `json:"removed_to" doc:"last event removed by retention, under a signed seal; 0 for none"`
	Checkpoint  *Checkpoint `json:"checkpoint,omitempty" doc:"the newest; keep it, and no later record can contradict it unseen"`
	PublicKey   string      `json:"public_key" doc:"that verifies checkpoints: Ed25519, base64"`
}

// Verify walks the chain of the scope's tenant, and holds it against its seal
// and its checkpoints. Events that are written meanwhile do not disturb it.
func (t *Trail) Verify(ctx context.Context, _ struct{}) (VerifyResponse, error) {
	for {
		before, err := t.newestSeal(ctx)
		if err != nil {
			return VerifyResponse{}, err
		}
		out, err := t.walk(ctx, before)
		if err != nil || out.OK {
			return out, err
		}
		after, err := t.newestSeal(ctx)
		if err != nil || after.Seq == before.Seq {
			return out, err
		} // retention removed events under our feet: look again
	}
}

func (t *Trail) newestSeal(ctx context.Context) (row sealRow, err error) {
	err = t.Store.Read(ctx, func(ctx context.Context) error {
		return t.Store.For(ctx).Order("seq DESC").Limit(1).Find(&row).Error
	})
	return row, err
}

func (t *Trail) head(ctx context.Context) (h head, err error) {
	err = t.Store.Read(ctx, func(ctx context.Context) error { return t.Store.For(ctx).Limit(1).Find(&h).Error })
	return h, err
}

func (t *Trail) walk(ctx context.Context, from sealRow) (VerifyResponse, error) {
	tenant := domain.TenantOf(ctx)
	out := VerifyResponse{OK: true, RemovedTo: from.Seq, Length: from.Seq, HeadHash: from.Hash,
		PublicKey: base64.StdEncoding.EncodeToString(t.signer.Public().(ed25519.PublicKey))}
	broken := func(seq int64, reason string) (VerifyResponse, error) {
		out.OK, out.FirstBroken, out.Reason = false, &seq, reason
		return out, nil
	}
	// In this order: what is signed was written before, so the chain holds it;
	// the first head is not past the events, and the second is not before them.
	points, forged, err := t.readCheckpoints(tenant)
	if err != nil {
		return out, err
	}
	slices.SortStableFunc(points, func(a, b Checkpoint) int { return int(a.Seq - b.Seq) })
	if n := len(points); n > 0 {
		out.Checkpoint = &points[n-1]
	}
	first, err := t.head(ctx)
	if err != nil {
		return out, err
	}
	if from.Seq > 0 && !t.signed(statement("seal", tenant, from.Seq, from.Hash, from.SealedAt), from.Signature) {
		return broken(from.Seq, "seal")
	}
	points = slices.DeleteFunc(points, func(c Checkpoint) bool { return c.Seq < from.Seq })
	agreed := from.Seq // as far as a seal or a checkpoint confirms the chain
	disagrees := false
	hold := func(seq int64, hash string) {
		for len(points) > 0 && points[0].Seq == seq && !disagrees {
			if points[0].Hash != hash {
				disagrees = true
				return
			}
			agreed, points = seq, points[1:]
		}
	}
	hold(from.Seq, from.Hash)

	reason, keyed := "", t.keyed()
	err = t.Store.Read(ctx, func(ctx context.Context) error {
		rows, err := t.Store.SQL(ctx, `SELECT seq, id, occurred_at, actor_kind, actor_id, action, target, outcome, request_id, ip, impersonator, detail, prev_hash, hash, mac
			FROM audit_events WHERE tenant_id = @tenant ORDER BY seq`, nil).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			e := Event{}
			e.TenantID = tenant
			var detail sql.RawBytes
			if err := rows.Scan(&e.Seq, &e.ID, &e.OccurredAt, &e.ActorKind, &e.ActorID, &e.Action, &e.Target, &e.Outcome, &e.RequestID,
				&e.IP, &e.Impersonator, &detail, &e.PrevHash, &e.Hash, &e.MAC); err != nil {
				return err
			}
			e.Detail = Detail(detail)
			switch {
			case e.Seq > out.Length+1:
				reason = "missing"
			case e.Seq != out.Length+1, e.PrevHash != out.HeadHash, e.digest() != e.Hash, mac(keyed, e.Hash) != e.MAC:
				reason = "changed"
			}
			if reason != "" {
				return nil
			}
			out.Length, out.HeadHash = e.Seq, e.Hash
			if hold(e.Seq, e.Hash); disagrees || e.Seq == first.Seq && e.Hash != first.Hash {
				reason = "rewritten"
				return nil
			}
		}
		return rows.Err()
	})
	if err != nil {
		return out, err
	}
	last, err := t.head(ctx)
	if err != nil {
		return out, err
	}
	switch {
	case disagrees: // somebody wrote the chain anew after the last place that is confirmed
		return broken(agreed+1, "rewritten")
	case reason != "":
		return broken(out.Length+1, reason)
	case out.Length < first.Seq, len(points) > 0:
		return broken(out.Length+1, "cut")
	case out.Length > last.Seq, out.Length == last.Seq && out.HeadHash != last.Hash:
		return broken(last.Seq+1, "added")
	case forged > 0:
		return broken(agreed+1, "checkpoint")
	}
	return out, nil
}
