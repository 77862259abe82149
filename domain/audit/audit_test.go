package audit

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/domain/subject"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

func trail(t *testing.T, db testdb.DB) *Trail {
	return New(Config{Store: db.Store, Subjects: subject.New(db.Store, secret), SecretKey: secret, Dir: t.TempDir()})
}

func record(tr *Trail, ctx context.Context, n int) error {
	for i := range n {
		err := tr.Store.Tx(ctx, func(ctx context.Context) error {
			return tr.Record(ctx, Entry{Action: "thing.change", Target: fmt.Sprintf("t%d", i), Detail: map[string]any{"n": i, "x": "é"}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// superuser changes the database past every trigger and right.
func superuser(t *testing.T, db testdb.DB) func(query string, args ...any) {
	t.Helper()
	conn := db.SQLDB()
	do := func(query string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if db.URL != "" {
		do("ALTER TABLE audit_events DISABLE TRIGGER ALL")
	} else {
		do("DROP TRIGGER audit_events_stay")
		do("DROP TRIGGER audit_events_go_sealed")
	}
	return do
}

// Whatever a superuser of the database does to the record is found, and the
// place is named; what nobody touched is whole.
func TestTampering(t *testing.T) {
	type attack struct {
		name   string
		do     func(do func(string, ...any), tenant string, tr *Trail, db testdb.DB)
		broken int64
		reason string
	}
	forge := func(do func(string, ...any), tenant string, tr *Trail, from int64) {
		// Writes the chain anew from an event on, with right hashes and head: all
		// that somebody who knows the algorithm can do without our key.
		var rows []Event
		ctx := domain.System(context.Background(), "test")
		_ = tr.Store.Read(ctx, func(ctx context.Context) error {
			return tr.Store.For(ctx).Where("tenant_id = ? AND seq >= ?", tenant, from-1).Order("seq").Find(&rows).Error
		})
		prev := rows[0].Hash
		for _, e := range rows[1:] {
			if e.Seq == from {
				e.Target = "forged"
			}
			e.PrevHash = prev
			e.Hash = e.digest()
			prev = e.Hash
			do("UPDATE audit_events SET target = $1, prev_hash = $2, hash = $3 WHERE tenant_id = $4 AND seq = $5", e.Target, e.PrevHash, e.Hash, tenant, e.Seq)
		}
		do("UPDATE audit_heads SET hash = $1 WHERE tenant_id = $2", prev, tenant)
	}
	column := func(name, value string) func(do func(string, ...any), tenant string, tr *Trail, db testdb.DB) {
		return func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
			do("UPDATE audit_events SET "+name+" = $1 WHERE tenant_id = $2 AND seq = 7", value, tenant)
		}
	}
	attacks := []attack{
		{"nothing", func(func(string, ...any), string, *Trail, testdb.DB) {}, 0, ""},
		{"delete one", func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
			do("DELETE FROM audit_events WHERE tenant_id = $1 AND seq = 5", tenant)
		}, 5, "missing"},
		{"swap two", func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
			do("UPDATE audit_events SET seq = 99 WHERE tenant_id = $1 AND seq = 5", tenant)
			do("UPDATE audit_events SET seq = 5 WHERE tenant_id = $1 AND seq = 6", tenant)
			do("UPDATE audit_events SET seq = 6 WHERE tenant_id = $1 AND seq = 99", tenant)
		}, 5, "changed"},
		{"insert at the end", func(do func(string, ...any), tenant string, tr *Trail, _ testdb.DB) {
			do("INSERT INTO audit_events (tenant_id, seq, id, occurred_at, actor_kind, actor_id, action, target, outcome, request_id, ip, detail, prev_hash, hash) "+
				"SELECT tenant_id, seq + 1, 'aud_x', occurred_at, actor_kind, actor_id, action, target, outcome, request_id, ip, detail, hash, 'x' FROM audit_events WHERE tenant_id = $1 AND seq = 20", tenant)
		}, 21, "changed"},
		{"insert at the end, with head and hash", func(do func(string, ...any), tenant string, tr *Trail, _ testdb.DB) {
			do("INSERT INTO audit_events (tenant_id, seq, id, occurred_at, actor_kind, actor_id, action, target, outcome, request_id, ip, detail, prev_hash, hash) "+
				"SELECT tenant_id, seq + 1, 'aud_x', occurred_at, actor_kind, actor_id, action, target, outcome, request_id, ip, detail, hash, 'x' FROM audit_events WHERE tenant_id = $1 AND seq = 20", tenant)
			do("UPDATE audit_heads SET seq = 21 WHERE tenant_id = $1", tenant)
			forge(do, tenant, tr, 21)
		}, 21, "changed"},
		{"write anew", func(do func(string, ...any), tenant string, tr *Trail, _ testdb.DB) { forge(do, tenant, tr, 12) }, 12, "changed"},
		{"cut the tail", func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
			do("DELETE FROM audit_events WHERE tenant_id = $1 AND seq > 15", tenant)
		}, 16, "cut"},
		{"play an old copy back", func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
			do("DELETE FROM audit_events WHERE tenant_id = $1 AND seq > 15", tenant)
			do("UPDATE audit_heads SET seq = 15, hash = (SELECT hash FROM audit_events WHERE tenant_id = $1 AND seq = 15) WHERE tenant_id = $1", tenant)
		}, 16, "cut"},
		{"drop the whole chain", func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
			do("DELETE FROM audit_events WHERE tenant_id = $1", tenant)
			do("DELETE FROM audit_heads WHERE tenant_id = $1", tenant)
		}, 1, "cut"},
		{"play back and go on", func(do func(string, ...any), tenant string, tr *Trail, db testdb.DB) {
			do("DELETE FROM audit_events WHERE tenant_id = $1 AND seq > 15", tenant)
			do("UPDATE audit_heads SET seq = 15, hash = (SELECT hash FROM audit_events WHERE tenant_id = $1 AND seq = 15) WHERE tenant_id = $1", tenant)
			if err := record(tr, db.In(tenant), 9); err != nil {
				t.Fatal(err)
			}
		}, 11, "rewritten"}, // between the checkpoints at 10 and at 20
		{"seal without the key", func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
			do("INSERT INTO audit_seals (tenant_id, seq, hash, sealed_at, signature) SELECT tenant_id, seq, hash, occurred_at, 'x' FROM audit_events WHERE tenant_id = $1 AND seq = 8", tenant)
			do("DELETE FROM audit_events WHERE tenant_id = $1 AND seq <= 8", tenant)
		}, 8, "seal"},
		{"forge a checkpoint", func(_ func(string, ...any), tenant string, tr *Trail, _ testdb.DB) {
			_ = appendLine(tr.checkpoints(tenant), []byte(`{"tenant":"`+tenant+`","seq":3,"hash":"x","at":"2026-01-01T00:00:00Z","signature":"eA=="}`))
		}, 21, "checkpoint"},
	}
	for _, c := range []string{"id", "actor_kind", "actor_id", "action", "target", "outcome", "request_id", "ip", "detail", "prev_hash", "hash", "mac", "impersonator"} {
		attacks = append(attacks, attack{"edit " + c, column(c, "x"), 7, "changed"})
	}
	attacks = append(attacks, attack{"shift the clock", func(do func(string, ...any), tenant string, _ *Trail, _ testdb.DB) {
		do("UPDATE audit_events SET occurred_at = $1 WHERE tenant_id = $2 AND seq = 7", time.Now().UTC(), tenant)
	}, 7, "changed"})
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		tr := trail(t, db)
		do := superuser(t, db)
		for _, a := range attacks {
			t.Run(a.name, func(t *testing.T) {
				tenant := domain.NewID("ten")
				do("INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, $1, 'x', $2, $2)", tenant, time.Now().UTC())
				for range 2 {
					if err := record(tr, db.In(tenant), 10); err != nil {
						t.Fatal(err)
					}
					if err := tr.Checkpoint(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				a.do(do, tenant, tr, db)
				out, err := tr.Verify(db.In(tenant), struct{}{})
				if err != nil {
					t.Fatal(err)
				}
				if a.broken == 0 {
					if !out.OK || out.Length != 20 || out.Checkpoint == nil || out.Checkpoint.Seq != 20 {
						t.Errorf("%+v", out)
					}
					return
				}
				if out.OK || out.FirstBroken == nil || *out.FirstBroken != a.broken || out.Reason != a.reason {
					t.Errorf("ok %v, broken %v, %q; want %d, %q", out.OK, out.FirstBroken, out.Reason, a.broken, a.reason)
				}
			})
		}
	})
}

// Random edits of single characters, anywhere in any event, are all found at
// their event.
func TestRandomEdits(t *testing.T) {
	db := testdb.SQLite(t)
	tr := trail(t, db)
	do := superuser(t, db)
	if err := record(tr, db.In(db.A), 40); err != nil {
		t.Fatal(err)
	}
	columns := []string{"id", "actor_kind", "actor_id", "action", "target", "outcome", "request_id", "ip", "detail", "prev_hash", "hash", "mac"}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	for range 500 {
		column, seq := columns[r.IntN(len(columns))], 1+r.Int64N(40)
		var was string
		if err := db.SQLDB().QueryRow("SELECT "+column+" FROM audit_events WHERE tenant_id = $1 AND seq = $2", db.A, seq).Scan(&was); err != nil {
			t.Fatal(err)
		}
		b := []byte(was + " ")
		b[r.IntN(len(b))] ^= 1 << r.IntN(5)
		if string(b) == was {
			continue
		}
		do("UPDATE audit_events SET "+column+" = $1 WHERE tenant_id = $2 AND seq = $3", string(b), db.A, seq)
		out, err := tr.Verify(db.In(db.A), struct{}{})
		if err != nil || out.OK || *out.FirstBroken != seq {
			t.Fatalf("seed %d: %s of %d changed from %q to %q: %+v %v", seed, column, seq, was, b, out, err)
		}
		do("UPDATE audit_events SET "+column+" = $1 WHERE tenant_id = $2 AND seq = $3", was, db.A, seq)
	}
}

// Neither runtime role can change an event, and one goes only under a seal.
func TestEventsStay(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		tr := trail(t, db)
		if err := record(tr, db.In(db.A), 3); err != nil {
			t.Fatal(err)
		}
		for name, ctx := range map[string]context.Context{"tenant": db.In(db.A), "system": domain.System(context.Background(), "test")} {
			for what, change := range map[string]func(ctx context.Context) error{
				"update": func(ctx context.Context) error {
					return db.For(ctx).Model(&Event{}).Where("seq = ?", 2).Update("target", "x").Error
				},
				"delete": func(ctx context.Context) error { return db.For(ctx).Where("seq = ?", 2).Delete(&Event{}).Error },
			} {
				if err := db.Tx(ctx, change); err == nil {
					t.Errorf("the %s role may %s events", name, what)
				}
			}
		}
		if out, err := tr.Verify(db.In(db.A), struct{}{}); err != nil || !out.OK || out.Length != 3 {
			t.Errorf("%+v %v", out, err)
		}
	})
}

// Sixty-four writers, a verifier and retention at the same time: the chain has
// no fork, and no false alarm is raised.
func TestManyWriters(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		tr := trail(t, db)
		var wg sync.WaitGroup
		done := make(chan struct{})
		for range 64 {
			wg.Go(func() {
				if err := record(tr, db.In(db.A), 5); err != nil {
					t.Error(err)
				}
			})
		}
		go func() { wg.Wait(); close(done) }()
		rounds := 0
		for running := true; running; rounds++ {
			select {
			case <-done:
				running = false
			default:
			}
			if err := tr.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
			if rounds == 5 {
				if _, err := tr.Retire(context.Background(), db.A, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := tr.Verify(db.In(db.A), struct{}{}); err != nil || !out.OK {
				t.Fatalf("a false alarm: %+v %v", out, err)
			}
		}
		out, err := tr.Verify(db.In(db.A), struct{}{})
		if err != nil || !out.OK || out.Length < 320 {
			t.Errorf("%+v %v", out, err)
		}
	})
}

// Retention removes the old events of one tenant under a signed seal; the rest
// still verifies, and says how far events were removed.
func TestRetention(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		tr := trail(t, db)
		now := time.Now()
		tr.Now = func() time.Time { return now }
		for _, tenant := range []string{db.A, db.B} {
			if err := record(tr, db.In(tenant), 6); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(48 * time.Hour)
		if err := record(tr, db.In(db.A), 4); err != nil {
			t.Fatal(err)
		}
		if err := tr.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second finds nothing to do
			if _, err := tr.Retire(context.Background(), db.A, now.Add(-24*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		out, err := tr.Verify(db.In(db.A), struct{}{})
		if err != nil || !out.OK || out.RemovedTo != 6 || out.Length != 11 {
			t.Errorf("%+v %v", out, err)
		}
		page, err := tr.List(db.In(db.A), ListRequest{})
		if err != nil || len(page.Data) != 5 || page.Data[0].Action != "audit.seal" {
			t.Errorf("%+v %v", page, err)
		}
		if out, _ := tr.Verify(db.In(db.B), struct{}{}); !out.OK || out.Length != 6 || out.RemovedTo != 0 {
			t.Errorf("another tenant: %+v", out)
		}
	})
}

// An address is readable as long as its subject's key lives; destroying the key
// leaves no trace of it and a chain that verifies. A visitor's is never whole,
// nor is that of an administrator who acts as somebody.
func TestAddressesAreErased(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		tr := trail(t, db)
		as := func(kind, ip, by string) context.Context {
			return domain.WithScope(context.Background(), domain.Scope{Tenant: db.A, IP: ip, Actor: domain.Actor{Kind: kind, ID: "usr_1", Impersonator: by}})
		}
		for _, ctx := range []context.Context{as("user", "203.0.113.77", ""), as("system", "203.0.113.77", ""), as("system", "2001:db8:1:2:3:4:5:6", ""), as("user", "203.0.113.77", "usr_2"), as("user", "", "")} {
			if err := record(tr, ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		seen := func() (out []string) {
			page, err := tr.List(db.In(db.A), ListRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Data {
				out = append(out, e.Address)
			}
			return out
		}
		if got := strings.Join(seen(), " "); got != " 203.0.113.0/24 2001:db8:1::/56 203.0.113.0/24 203.0.113.77" {
			t.Errorf("%q", got)
		}
		if err := db.Tx(db.In(db.B), func(ctx context.Context) error { return tr.Subjects.Destroy(ctx, "usr_1") }); err != nil {
			t.Fatal(err)
		}
		if got := seen()[4]; got != "203.0.113.77" {
			t.Errorf("another tenant destroyed the key: %q", got)
		}
		if err := db.Tx(domain.System(context.Background(), "test"), func(ctx context.Context) error { return tr.Subjects.Destroy(ctx, "usr_1") }); err != nil {
			t.Fatal(err)
		}
		if got := seen()[4]; got != "" {
			t.Errorf("after the key: %q", got)
		}
		if out, err := tr.Verify(db.In(db.A), struct{}{}); err != nil || !out.OK {
			t.Errorf("%+v %v", out, err)
		}
		var whole int
		if err := db.SQLDB().QueryRow("SELECT count(*) FROM audit_events WHERE ip LIKE '%203.0.113.77%'").Scan(&whole); err != nil || whole != 0 {
			t.Errorf("%d whole addresses are stored: %v", whole, err)
		}
	})
}

// An export holds every event that the filter chooses, in order, and no cell is
// a formula; lines carry what the hashes cover. Another tenant's are not there.
func TestExport(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		tr := trail(t, db)
		if err := record(tr, db.In(db.A), 700); err != nil {
			t.Fatal(err)
		}
		err := db.Tx(db.In(db.A), func(ctx context.Context) error {
			return tr.Record(ctx, Entry{Action: "thing.rename", Target: "=cmd|' /C calc'!A0"})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := record(tr, db.In(db.B), 3); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := tr.Export(db.In(db.A), ExportRequest{Format: "jsonl"}, &b); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 702 { // and the export itself
			t.Fatalf("%d lines", len(lines))
		}
		prev := ""
		for i, line := range lines {
			var e struct {
				Seq      int64
				PrevHash string `json:"prev_hash"`
				Hash     string
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Seq != int64(i+1) || e.PrevHash != prev {
				t.Fatalf("line %d: %s %v", i, line, err)
			}
			prev = e.Hash
		}
		b.Reset()
		if err := tr.Export(db.In(db.A), ExportRequest{Format: "csv", Filter: Filter{Action: "thing.rename"}}, &b); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&b).ReadAll()
		if err != nil || len(rows) != 2 || !strings.HasPrefix(rows[1][7], "'=") {
			t.Errorf("%q %v", rows, err)
		}
	})
}

// A line that a crash cut short does not hide the next, and is no alarm.
func TestCutShortCheckpoint(t *testing.T) {
	db := testdb.SQLite(t)
	tr := trail(t, db)
	if err := record(tr, db.In(db.A), 2); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tr.Dir, db.A+".jsonl"), []byte(`{"tenant":"te`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tr.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	if out, err := tr.Verify(db.In(db.A), struct{}{}); err != nil || !out.OK || out.Checkpoint == nil || out.Checkpoint.Seq != 2 {
		t.Errorf("%+v %v", out, err)
	}
}

// Of old days the last checkpoint stays, of the last two every one; a forged line
// and one that was cut short stay as evidence, and what is left still tells where
// an event was changed.
func TestCompactCheckpoints(t *testing.T) {
	db := testdb.SQLite(t)
	tr := trail(t, db)
	now := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	tr.Now = func() time.Time { return now }
	for range 6 * 3 { // three a day for six days
		if err := record(tr, db.In(db.A), 1); err != nil {
			t.Fatal(err)
		}
		if err := tr.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(8 * time.Hour)
	}
	now = time.Date(2026, 3, 6, 23, 0, 0, 0, time.UTC)
	file := filepath.Join(tr.Dir, db.A+".jsonl")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(whole[:bytes.IndexByte(whole, '\n')+1], []byte(`"seq":1,`), []byte(`"seq":9,`), 1)
	if err := os.WriteFile(file, append(append(whole, forged...), `{"tenant":"te`...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time changes nothing
		if err := tr.Compact(db.A); err != nil {
			t.Fatal(err)
		}
		points, bad, err := tr.readCheckpoints(db.A)
		var seqs []int64
		for _, c := range points {
			seqs = append(seqs, c.Seq)
		}
		if want := []int64{3, 6, 9, 12, 13, 14, 15, 16, 17, 18}; err != nil || bad != 1 || !slices.Equal(seqs, want) {
			t.Fatalf("%v and %d forged, want %v: %v", seqs, bad, want, err)
		}
	}
	if raw, _ := os.ReadFile(file); !bytes.HasSuffix(raw, []byte(`{"tenant":"te`)) {
		t.Error("the line that was cut short is gone")
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tr.Compact(db.A); err != nil {
		t.Fatal(err)
	}
	if out, err := tr.Verify(db.In(db.A), struct{}{}); err != nil || !out.OK {
		t.Fatalf("%+v %v", out, err)
	}
	superuser(t, db)("DELETE FROM audit_events WHERE seq > 16") // and the head with them
	if _, err := db.SQLDB().Exec("UPDATE audit_heads SET seq = 16, hash = (SELECT hash FROM audit_events WHERE seq = 16 AND tenant_id = audit_heads.tenant_id) WHERE tenant_id = $1", db.A); err != nil {
		t.Fatal(err)
	}
	if out, err := tr.Verify(db.In(db.A), struct{}{}); err != nil || out.OK {
		t.Errorf("a tail that was cut off is not found: %+v %v", out, err)
	}
}

// BenchmarkVerify tells what an event costs to verify, and with BENCH_FULL=1, as
// make bench does, how long a million of them take: they have 20 s. On a machine
// that does other work besides, what this process itself computes says more than
// the clock; PostgreSQL's own share is not in it.
func BenchmarkVerify(b *testing.B) {
	for name, open := range map[string]func(testing.TB) testdb.DB{"sqlite": testdb.SQLite, "postgres": testdb.OnPostgres} {
		b.Run(name, func(b *testing.B) {
			db := open(b)
			tr := New(Config{Store: db.Store, SecretKey: secret})
			n := 20_000
			if os.Getenv("BENCH_FULL") != "" {
				n = 1_000_000
			}
			err := db.Tx(db.In(db.A), func(ctx context.Context) error {
				h := head{Owned: store.Owned{TenantID: db.A}}
				var rows []Event
				for i := range n {
					e := Event{Owned: store.Owned{TenantID: db.A}, Seq: int64(i + 1), ID: domain.NewID("aud"), OccurredAt: time.Now().UTC().Truncate(time.Microsecond),
						ActorKind: "user", ActorID: "usr_00000000000000000000000000", Action: "dataset.create", Target: domain.NewID("ds"), Outcome: "ok",
						RequestID: domain.NewID("req"), IP: sealedMark + strings.Repeat("x", 60), Detail: `{"name":"list"}`, PrevHash: h.Hash}
					e.Hash = e.digest()
					e.MAC = mac(tr.keyed(), e.Hash)
					h.Seq, h.Hash = e.Seq, e.Hash
					if rows = append(rows, e); len(rows) == 500 {
						if err := db.For(ctx).Create(&rows).Error; err != nil {
							return err
						}
						rows = nil
					}
				}
				return db.For(ctx).Create(&h).Error
			})
			if err != nil {
				b.Fatal(err)
			}
			began := processorTime(b)
			for b.Loop() {
				if out, err := tr.Verify(db.In(db.A), struct{}{}); err != nil || !out.OK || out.Length != int64(n) {
					b.Fatalf("%+v %v", out, err)
				}
			}
			millions := float64(b.N) * float64(n) / 1e6
			b.ReportMetric(b.Elapsed().Seconds()/millions, "s/million")
			b.ReportMetric((processorTime(b)-began).Seconds()/millions, "cpu-s/million")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
