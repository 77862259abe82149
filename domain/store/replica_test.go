package store_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// What may be stale is read from the replica while it keeps up, behind the same
// wall between tenants; from the primary while it is behind or away, and without
// an error. Everything else sees what was just written.
func TestReplicaIsRead(t *testing.T) {
	if os.Getenv("OPS_FULL") == "" {
		t.Skip("SKIPPED HERE: it starts a pair of servers; make check-ops runs it")
	}
	pair := testdb.StartPostgresPair(t)
	pair.Open(t)
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{URL: pair.URL, ReplicaURL: pair.ReplicaURL, ReplicaLag: 3 * time.Second, MaxConns: 4, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	a, b, sys := domain.NewID("ten"), domain.NewID("ten"), domain.System(ctx, "test")
	write := func(id, tenant string) {
		t.Helper()
		err := st.Tx(sys, func(ctx context.Context) error {
			if id == tenant {
				if _, err := st.Exec(ctx, "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES (@of, @of, 'x', @now, @now)", map[string]any{"of": tenant, "now": time.Now()}); err != nil {
					return err
				}
			}
			_, err := st.Exec(ctx, "INSERT INTO tenant_levels (tenant_id, level, used) VALUES (@of, @id, 1)", map[string]any{"of": tenant, "id": id})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		Replica bool
		Rows    int64
	}
	ask := func(read func(context.Context, func(context.Context) error) error, tenant string) (out answer) {
		t.Helper()
		err := read(testdb.DB{}.In(tenant), func(ctx context.Context) error {
			return st.SQL(ctx, "SELECT pg_is_in_recovery() AS replica, (SELECT count(*) FROM tenant_levels WHERE tenant_id = @tenant OR true) AS rows", nil).Scan(&out).Error
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	until := func(what string, holds func(answer) bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !holds(ask(st.ReadStale, a)); time.Sleep(20 * time.Millisecond) { // it is watched once a second
			if time.Now().After(deadline) {
				t.Fatal("never: ", what)
			}
		}
	}
	write(a, a)
	write(b, b)
	until("the replica is asked", func(got answer) bool { return got.Replica && got.Rows == 1 })
	if got := ask(st.ReadStale, b); got.Rows != 1 {
		t.Errorf("tenant b sees %d rows", got.Rows)
	}
	if got := ask(st.Read, a); got.Replica {
		t.Error("what must be fresh is read from the replica")
	}
	if err := st.ReadStale(sys, func(ctx context.Context) error {
		_, err := st.Exec(ctx, "DELETE FROM tenant_levels WHERE level <> @none", map[string]any{"none": ""})
		return err
	}); err == nil {
		t.Error("a stale read writes")
	}

	pair.OnReplica(t, "SELECT pg_wal_replay_pause()")
	write("later", a)
	if got := ask(st.Read, a); got.Rows != 2 {
		t.Errorf("what was just written is not seen: %+v", got)
	}
	old := false
	until("the primary is asked instead of one that is too far behind", func(got answer) bool {
		if got.Replica != (got.Rows == 1) {
			t.Fatalf("%+v", got)
		}
		old = old || got.Replica
		return !got.Replica
	})
	t.Log("old rows were seen on the way:", old)
	pair.OnReplica(t, "SELECT pg_wal_replay_resume()")
	until("it is asked again", func(got answer) bool { return got.Replica && got.Rows == 2 })

	pair.StopReplica()
	if got := ask(st.ReadStale, a); got.Replica || got.Rows != 2 {
		t.Errorf("with the replica gone: %+v", got)
	}

	if _, err := store.Open(ctx, store.Config{Path: t.TempDir() + "/x.db", ReplicaURL: pair.URL}); err == nil {
		t.Error("SQLite has a replica")
	}
}

// A replica that follows a past that is no more, however far along it is there, and
// one of another installation are never asked; one that follows a promotion is.
func TestReplicaOfAnotherPast(t *testing.T) {
	if os.Getenv("OPS_FULL") == "" {
		t.Skip("SKIPPED HERE: it starts servers; make check-ops runs it")
	}
	pair, other := testdb.StartPostgresPair(t), testdb.StartPostgresPair(t)
	pair.Open(t)
	other.Open(t)
	sys := domain.System(context.Background(), "test")
	open := func(url, replica string) *store.Store {
		t.Helper()
		st, err := store.Open(context.Background(), store.Config{URL: url, ReplicaURL: replica, MaxConns: 2, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	const tenant = "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES (@id, @id, 'x', now(), now())"
	write := func(st *store.Store, ids ...string) {
		t.Helper()
		for _, id := range ids {
			if err := st.Tx(sys, func(ctx context.Context) error {
				_, err := st.Exec(ctx, tenant, map[string]any{"id": id})
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	type answer struct {
		Replica bool
		Lost    int64
	}
	lost := domain.NewID("ten")
	ask := func(st *store.Store) (out answer) {
		t.Helper()
		if err := st.ReadStale(sys, func(ctx context.Context) error {
			return st.SQL(ctx, "SELECT pg_is_in_recovery() AS replica, (SELECT count(*) FROM tenants WHERE id = @lost) AS lost", map[string]any{"lost": lost}).Scan(&out).Error
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	never := func(what string, st *store.Store, meanwhile func()) { // it is watched once a second
		t.Helper()
		for looked := time.Now(); time.Since(looked) < 4*time.Second; time.Sleep(50 * time.Millisecond) {
			meanwhile()
			if got := ask(st); got.Replica || got.Lost != 0 {
				t.Fatalf("%s is read: %+v", what, got)
			}
		}
	}
	never("a replica of another installation", open(pair.URL, other.ReplicaURL), func() {})
	third := pair.Fork(t, func() {
		st := open(pair.URL, pair.ReplicaURL)
		write(st, lost)
		for range 200 { // the replica is far ahead of what the third begins with
			write(st, domain.NewID("ten"))
		}
		for deadline := time.Now().Add(time.Minute); !ask(st).Replica; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the replica is never asked: the rest proves nothing")
			}
		}
	})
	st := open(third, pair.ReplicaURL)
	never("what is no more", st, func() { write(st, domain.NewID("ten")) })
}
