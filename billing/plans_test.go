package billing

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

func service(t *testing.T, db testdb.DB) *Service {
	t.Helper()
	s, err := New(context.Background(), Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store}), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A new version, published or in plans.json, reaches new customers alone: who
// has a version stays on it, in this process and after a restart, until
// someone puts them on another.
func TestVersionsAreKept(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, sys := service(t, db), domain.System(context.Background(), "test")
		enroll := func(tenant string) {
			if err := db.Tx(sys, func(ctx context.Context) error { return s.Enroll(ctx, tenant) }); err != nil {
				t.Fatal(err)
			}
		}
		quota := func(s *Service, tenant string) int64 {
			p, err := s.Entitlements(db.In(tenant))
			if err != nil {
				t.Fatal(err)
			}
			return p.Quotas["match"]
		}
		enroll(db.A)
		next, err := s.Plans(context.Background(), struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		var two Plan
		raw, _ := json.Marshal(next.Data[0])
		_ = json.Unmarshal(raw, &two)
		two.Version, two.Quotas["match"] = two.Version+1, 7
		if err := s.Publish(sys, two, "somebody"); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(sys, two, "somebody"); domain.CodeOf(err) != "conflict" {
			t.Errorf("a published version was changed: %v", err)
		}
		enroll(db.B)
		again := service(t, db) // plans.json still has the version before alone
		for _, s := range []*Service{s, again} {
			if a, b := quota(s, db.A), quota(s, db.B); a != 1000 || b != 7 {
				t.Errorf("the old customer has %d, the new one %d", a, b)
			}
		}
		changed := two
		changed.Quotas = map[string]int64{}
		for k := range two.Quotas {
			changed.Quotas[k] = 1
		}
		if err := again.seed(context.Background(), 0, changed); err != nil {
			t.Fatal(err)
		}
		if third := service(t, db); quota(third, db.B) != 7 {
			t.Error("a changed plans.json changed a published version")
		}
		if err := s.SetPlan(sys, db.A, "free", "test", "test"); err != nil {
			t.Fatal(err)
		}
		if n := quota(s, db.A); n != 7 {
			t.Errorf("put on the current version: %d", n)
		}
		listed, err := again.Plans(context.Background(), struct{}{})
		if err != nil || len(listed.Data) != 4 || listed.Data[0].Version != two.Version || listed.Data[0].Title.Chinese != "免费版" || listed.Data[3].Name != "enterprise" {
			t.Errorf("%+v %v", listed, err)
		}
	})
}

// What a tenant may use is the plan and its overrides, until they expire; the
// plan itself is untouched.
func TestEntitle(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	past, later := now, now.Add(time.Second)
	p := Plan{Quotas: map[string]int64{"match": 10}, Rates: map[string]int64{"data": 5}, Levels: map[string]int64{"seats": 2}, Features: []string{"matching", "sso"}}
	e := entitle(p, []Override{
		{Kind: "quota", Name: "match", Value: 99, ExpiresAt: &past}, {Kind: "rate", Name: "data", Value: 6, ExpiresAt: &later},
		{Kind: "level", Name: "seats", Value: -1}, {Kind: "feature", Name: "sso"}, {Kind: "feature", Name: "research", Value: 1},
	}, now)
	if e.Quotas["match"] != 10 || e.Rates["data"] != 6 || e.Levels["seats"] != -1 || !e.Has("matching") || e.Has("sso") || !e.Has("research") {
		t.Errorf("%+v", e)
	}
	if p.Rates["data"] != 5 || p.Levels["seats"] != 2 || !p.Has("sso") || len(p.Features) != 2 {
		t.Errorf("the plan itself changed: %+v", p)
	}
}

// Seats are taken in the transaction that makes the membership, a system one
// at sign-up; a tenant's own scope reaches no other tenant's.
func TestSeats(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		s, sys := service(t, db), domain.System(context.Background(), "test")
		seat := func(ctx context.Context, tenant string, n int64) error {
			return db.Tx(ctx, func(ctx context.Context) error { return s.Seats(ctx, tenant, n) })
		}
		for _, ctx := range []context.Context{sys, db.In(db.A)} {
			if err := seat(ctx, db.A, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := seat(sys, db.A, 1); domain.CodeOf(err) != "plan_limit_reached" {
			t.Errorf("a third seat of two: %v", err)
		}
		if err := seat(db.In(db.B), db.A, -1); err != nil {
			t.Fatal(err)
		}
		if err := seat(sys, db.A, 1); domain.CodeOf(err) != "plan_limit_reached" {
			t.Errorf("another tenant freed the seat: %v", err)
		}
		if err := seat(sys, db.A, -1); err != nil {
			t.Fatal(err)
		}
		if err := seat(sys, db.A, 1); err != nil {
			t.Errorf("after one was freed: %v", err)
		}
		if err := db.Tx(sys, func(ctx context.Context) error {
			_ = s.Seats(ctx, db.B, 1)
			return domain.ErrNotFound()
		}); err == nil {
			t.Fatal("committed")
		}
		if err := seat(sys, db.B, 1); err != nil {
			t.Fatal(err)
		}
		if err := seat(sys, db.B, 1); err != nil {
			t.Errorf("a rolled back seat stays taken: %v", err)
		}
	})
}

// A feature that the plan lacks is refused before anything is charged.
func TestFeature(t *testing.T) {
	db := testdb.SQLite(t)
	m, f := rig(t, db)
	ctx := db.In(db.A)
	_, err := m.Admit(ctx, AdmitRequest{Feature: "sso", Class: "match", Meter: "match", Units: 1})
	if domain.CodeOf(err) != "feature_not_in_plan" || len(f.rates) != 0 {
		t.Errorf("%v, counters %v", err, f.rates)
	}
	o := Override{Owned: store.Owned{TenantID: db.A}, Kind: "feature", Name: "sso", Value: 1}
	if err := m.Plans.Override(domain.System(ctx, "test"), o); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Admit(ctx, AdmitRequest{Feature: "sso", Class: "match", Meter: "match", Units: 1}); err != nil {
		t.Error(err)
	}
}
