package jobs

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// An administrator finds what failed and why, has it worked again or forgets
// it. What did not fail is left alone, and work that may wait only once is not
// worked twice because somebody tries the first again.
func TestDesk(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		ctx := domain.System(context.Background(), "jobs")
		var mended atomic.Bool
		hold := make(chan struct{})
		q := openQueue(t, db, Config{Workers: 4}, false, func(_ context.Context, n note) error {
			switch {
			case n.Word == "fine":
				return nil
			case !mended.Load():
				return domain.E(domain.Invalid, "invalid", "There is no such thing.")
			case n.Word == "once":
				<-hold
			}
			return nil
		})
		put(t, db, q, db.In(db.A), "fine", domain.JobOptions{})
		put(t, db, q, db.In(db.A), "wrong", domain.JobOptions{})
		put(t, db, q, db.In(db.A), "wrong", domain.JobOptions{})
		put(t, db, q, db.In(db.B), "once", domain.JobOptions{Unique: "one"})
		run(t, q)
		ends(t, db, "completed", 1)
		ends(t, db, "cancelled", 3)

		list := func(in ListRequest) (page domain.Page[Job]) {
			t.Helper()
			err := db.Tx(ctx, func(ctx context.Context) (err error) { page, err = q.List(ctx, in); return err })
			if err != nil {
				t.Fatal(err)
			}
			return page
		}
		do := func(what func(context.Context, string) (Job, error), id string) (j Job, err error) {
			err = db.Tx(ctx, func(ctx context.Context) error { j, err = what(ctx, id); return err })
			return j, err
		}
		var all []Job
		for in := (ListRequest{PageRequest: domain.PageRequest{Limit: 3}}); ; {
			page := list(in)
			all = append(all, page.Data...)
			if page.NextCursor == nil {
				break
			}
			in.Cursor = *page.NextCursor
		}
		if len(all) != 4 || !slices.IsSortedFunc(all, func(a, b Job) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
			t.Fatalf("%+v", all)
		}
		for _, c := range []struct {
			in   ListRequest
			want int
		}{
			{ListRequest{State: "cancelled"}, 3}, {ListRequest{State: "completed"}, 1}, {ListRequest{TenantID: db.A}, 3}, {ListRequest{TenantID: db.A, State: "cancelled"}, 2},
			{ListRequest{Kind: "note"}, 4}, {ListRequest{Kind: "note' OR '1'='1"}, 0}, {ListRequest{Lane: "default"}, 4}, {ListRequest{Lane: "other"}, 0},
		} {
			if got := list(c.in).Data; len(got) != c.want {
				t.Errorf("%+v finds %d, want %d", c.in, len(got), c.want)
			}
		}
		lanes, err := q.Lanes(ctx)
		if err != nil || len(lanes) != 1 || lanes[0].Workers != 4 || len(lanes[0].Kinds) != 1 || lanes[0].Kinds[0] != (KindCounts{"note", Counts{Completed: 1, Cancelled: 3}}) || lanes[0].Counts != lanes[0].Kinds[0].Counts {
			t.Errorf("%+v, %v", lanes, err)
		}

		once, wrong, other, fine := all[0], all[1], all[2], all[3]
		if wrong.TenantID != db.A || wrong.State != "cancelled" || wrong.EndedAt == nil || wrong.Attempts != 1 || len(wrong.Failures) != 1 || wrong.Failures[0].Reason != "invalid: There is no such thing." {
			t.Errorf("%+v", wrong)
		}
		for _, id := range []string{"job_999999", "job_x", "1", ""} {
			if _, err := do(q.Retry, id); domain.KindOf(err) != domain.NotFound {
				t.Errorf("%q: %v", id, err)
			}
		}
		for name, what := range map[string]func(context.Context, string) (Job, error){"worked again": q.Retry, "forgotten": q.Discard} {
			if _, err := do(what, fine.ID); domain.CodeOf(err) != "job_not_failed" {
				t.Errorf("what is done is %s: %v", name, err)
			}
		}
		if j, err := do(q.Discard, other.ID); err != nil || j.TenantID != db.A || len(list(ListRequest{State: "cancelled"}).Data) != 2 {
			t.Errorf("%+v, %v", j, err)
		}
		mended.Store(true)
		put(t, db, q, db.In(db.B), "once", domain.JobOptions{Unique: "one"})
		ends(t, db, "running", 1)
		if _, err := do(q.Retry, once.ID); domain.CodeOf(err) != "job_superseded" {
			t.Errorf("the same work is worked twice: %v", err)
		}
		close(hold)
		if j, err := do(q.Retry, wrong.ID); err != nil || j.State != "waiting" {
			t.Errorf("%+v, %v", j, err)
		}
		ends(t, db, "completed", 3)
	})
}
