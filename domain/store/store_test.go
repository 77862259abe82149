package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// row stands for any tenant-owned table; it borrows a real one, so that the
// policies tested are those that ship.
type row struct {
	store.Owned
	ID     string `gorm:"primaryKey;column:key_hash"`
	Seq    int64  `gorm:"column:status"`
	Action string `gorm:"column:body_hash"`
}

func (row) TableName() string { return "idempotency_keys" }

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func setup(t *testing.T, db testdb.DB) {
	t.Helper()
	for _, tenant := range []string{db.A, db.B} {
		err := db.Tx(db.In(tenant), func(ctx context.Context) error {
			for i := range 3 {
				_, err := db.Exec(ctx, `INSERT INTO idempotency_keys (tenant_id, key_hash, body_hash, status, locked_until, expires_at, created_at)
					VALUES (@tenant, @id, @action, @seq, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)`,
					map[string]any{"seq": i + 1, "id": fmt.Sprint("same-", i), "action": tenant})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

}

// No way that GORM offers reaches another tenant's row.
func TestTenantsAreApart(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		setup(t, db)
		a := db.In(db.A)
		inTx := func(fn func(g *gorm.DB) error) error {
			return db.Tx(a, func(ctx context.Context) error { return fn(db.For(ctx)) })
		}
		count := func(g *gorm.DB) (n int64) {
			t.Helper()
			if err := g.Model(&row{}).Count(&n).Error; err != nil {
				t.Fatal(err)
			}
			return n
		}
		err := inTx(func(g *gorm.DB) error {
			if n := count(g); n != 3 {
				t.Errorf("Count sees %d rows of two tenants", n)
			}
			if n := count(g.Where("status = 1").Or("status > 0").Or("1 = 1")); n != 3 {
				t.Errorf("Or widens the filter: %d rows", n)
			}
			var rows []row
			if err := g.Where("body_hash = ?", db.B).Find(&rows).Error; err != nil || len(rows) != 0 {
				t.Errorf("Find gives %d foreign rows (%v)", len(rows), err)
			}
			if err := g.Model(&row{}).Where("1 = 1").Pluck("body_hash", new([]string)).Error; err != nil {
				t.Error(err)
			}
			res := g.Model(&row{}).Where("body_hash = ?", db.B).Update("key_hash", "stolen")
			if res.Error != nil || res.RowsAffected != 0 {
				t.Errorf("Update changes %d foreign rows (%v)", res.RowsAffected, res.Error)
			}
			res = g.Unscoped().Where("body_hash = ?", db.B).Delete(&row{})
			if res.Error != nil || res.RowsAffected != 0 {
				t.Errorf("Delete removes %d foreign rows (%v)", res.RowsAffected, res.Error)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		refused := map[string]func(g *gorm.DB) error{
			"raw":               func(g *gorm.DB) error { return g.Raw("SELECT 1").Scan(new(int)).Error },
			"exec":              func(g *gorm.DB) error { return g.Exec("DELETE FROM idempotency_keys").Error },
			"table":             func(g *gorm.DB) error { return g.Table("idempotency_keys").Find(&[]map[string]any{}).Error },
			"row":               func(g *gorm.DB) error { _, err := g.Table("idempotency_keys").Select("1").Rows(); return err },
			"global table":      func(g *gorm.DB) error { return g.Find(&[]global{}).Error },
			"delete everything": func(g *gorm.DB) error { return g.Delete(&row{}).Error },
			"update everything": func(g *gorm.DB) error { return g.Model(&row{}).Update("key_hash", "x").Error },
			"create for another": func(g *gorm.DB) error {
				return g.Create(&row{Owned: store.Owned{TenantID: db.B}, Seq: 9, ID: "x"}).Error
			},
			"create from a map": func(g *gorm.DB) error {
				return g.Model(&row{}).Create(map[string]any{"tenant_id": db.B, "key_hash": "x"}).Error
			},
			"move a row": func(g *gorm.DB) error {
				res := g.Model(&row{}).Where("status = 1").Updates(map[string]any{"tenant_id": db.B})
				if res.Error == nil && res.RowsAffected == 0 {
					return errors.New("nothing changed")
				}
				return res.Error
			},
		}
		for name, fn := range refused {
			if err := inTx(fn); err == nil {
				t.Errorf("%s is not refused", name)
			}
		}
		// An upsert on a key that another tenant holds takes nothing over.
		_ = inTx(func(g *gorm.DB) error {
			return g.Select("tenant_id", "status", "key_hash", "body_hash").Clauses(clause.OnConflict{UpdateAll: true}).
				Create(&row{Seq: 1, ID: "same-0", Action: "taken"}).Error
		})
		_ = db.Read(db.In(db.B), func(ctx context.Context) error {
			if n := count(db.For(ctx).Where("body_hash = ?", db.B)); n != 3 {
				t.Errorf("tenant B has %d of its 3 rows", n)
			}
			return nil
		})
	})
}

type global struct{ ID string }

func (global) TableName() string { return "tenants" }

// Without a scope, a tenant or a transaction there is no query; a scope cannot
// change inside a transaction.
func TestFailsClosed(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		nothing := func(context.Context) error { t.Error("ran"); return nil }
		if db.Tx(context.Background(), nothing) == nil {
			t.Error("Tx without a scope")
		}
		for _, bad := range []string{"", "ten_", "ten_00000000-0000-0000-0000-000000000000", db.A + "'", "*", db.A + "$$"} {
			if db.Read(db.In(bad), nothing) == nil {
				t.Errorf("Read for tenant %q", bad)
			}
		}
		if err := db.For(db.In(db.A)).Find(&[]row{}).Error; err == nil {
			t.Error("For outside a transaction")
		}
		err := db.Tx(db.In(db.A), func(ctx context.Context) error {
			if db.For(db.In(db.B)).Find(&[]row{}).Error == nil {
				t.Error("a foreign context inside a transaction")
			}
			return db.Tx(domain.System(ctx, "test"), func(context.Context) error { return nil })
		})
		if err == nil {
			t.Error("a system transaction inside a tenant's")
		}
		if err := db.Read(db.In(db.A), func(ctx context.Context) error {
			return db.For(ctx).Create(&row{Seq: 7}).Error
		}); err == nil {
			t.Error("Read writes")
		}
	})
}

// What a failed or panicking function did is undone, and its after-commit
// functions never run.
func TestRollback(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		setup(t, db)
		rang := false
		attempt := func(end func() error) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = errors.New("panic")
				}
			}()
			return db.Tx(db.In(db.A), func(ctx context.Context) error {
				db.AfterCommit(ctx, func() { rang = true })
				if err := db.For(ctx).Where("status > 0").Delete(&row{}).Error; err != nil {
					t.Fatal(err)
				}
				return end()
			})
		}
		if attempt(func() error { return errors.New("no") }) == nil || attempt(func() error { panic("no") }) == nil {
			t.Fatal("no error")
		}
		var n int64
		_ = db.Read(db.In(db.A), func(ctx context.Context) error { return db.For(ctx).Model(&row{}).Count(&n).Error })
		if n != 3 || rang {
			t.Errorf("%d rows left of 3, after-commit ran: %v", n, rang)
		}
		if err := attempt(func() error { return nil }); err != nil || !rang {
			t.Errorf("commit: %v, after-commit ran: %v", err, rang)
		}
	})
}

// What a snapshot shows does not change while it is open, whoever writes; it
// shows one tenant's rows, and nothing is written in it.
func TestSnapshot(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		setup(t, db)
		count := func(ctx context.Context) (n int64) {
			err := db.Read(ctx, func(ctx context.Context) error { return db.For(ctx).Model(&row{}).Count(&n).Error })
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		remove := func(ctx context.Context) error { return db.For(ctx).Where("status = 1").Delete(&row{}).Error }
		err := db.Snapshot(db.In(db.A), func(ctx context.Context) error {
			before := count(ctx)
			if err := db.Tx(db.In(db.A), remove); err != nil {
				t.Fatal(err)
			}
			if now := count(ctx); before != 3 || now != 3 {
				t.Errorf("%d rows became %d", before, now)
			}
			if db.Tx(ctx, remove) == nil {
				t.Error("a transaction that writes began inside")
			}
			return remove(ctx)
		})
		if err == nil {
			t.Error("something was written")
		}
		if n := count(db.In(db.A)); n != 2 {
			t.Errorf("%d rows afterwards", n)
		}
		err = db.Read(db.In(db.A), func(ctx context.Context) error { return db.Snapshot(ctx, func(context.Context) error { return nil }) })
		if err == nil {
			t.Error("a read that began before is taken for a snapshot")
		}
	})
}

// Bulk stamps the tenant itself, and gives what it was given.
func TestBulk(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		columns := []string{"status", "key_hash", "body_hash", "locked_until", "expires_at", "created_at"}
		for round := range 2 { // twice in one transaction: the temporary table is reused
			var rows [][]any
			for i := range 47 {
				rows = append(rows, []any{int64(round*47 + i), fmt.Sprint(round, "-", i), "", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"})
			}
			if db.Dialect() == store.Postgres {
				for _, r := range rows {
					r[3], r[4], r[5] = testTime, testTime, testTime
				}
			}
			if err := db.Tx(db.In(db.A), func(ctx context.Context) error { return db.Bulk(ctx, "idempotency_keys", columns, rows) }); err != nil {
				t.Fatal(err)
			}
		}
		for tenant, want := range map[string]int64{db.A: 94, db.B: 0} {
			var n int64
			_ = db.Read(db.In(tenant), func(ctx context.Context) error { return db.For(ctx).Model(&row{}).Count(&n).Error })
			if n != want {
				t.Errorf("%d rows, want %d", n, want)
			}
		}
	})
}

// The second wall stands by itself: with the first one taken away, the
// application role sees no foreign row, and none at all without a tenant.
func TestRowLevelSecurity(t *testing.T) {
	db := testdb.OnPostgres(t)
	setup(t, db)
	ctx := context.Background()
	conn, err := db.Pool().Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	see := func(set string) (n int) {
		t.Helper()
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(ctx)
		if _, err := tx.Exec(ctx, "SET LOCAL ROLE chainreactions_app; "+set); err != nil {
			t.Fatal(err)
		}
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM idempotency_keys").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for set, want := range map[string]int{
		"":                              0,
		"SET LOCAL app.tenant_id = ''":  0,
		"SET LOCAL app.tenant_id = '*'": 0,
		"SET LOCAL app.tenant_id = '" + db.A + "'": 3,
	} {
		if n := see(set); n != want {
			t.Errorf("%q sees %d rows, want %d", set, n, want)
		}
	}
	if n := see(""); n != 0 {
		t.Errorf("the connection remembers a tenant: %d rows", n)
	}
	tx, _ := conn.Begin(ctx)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, "SET LOCAL ROLE chainreactions_app; SET LOCAL app.tenant_id = '"+db.A+"'; UPDATE idempotency_keys SET tenant_id = '"+db.B+"'")
	if err == nil {
		t.Error("a row moved to another tenant")
	}
}

// C4: through a pool of one connection, thousands of calls of two tenants, a
// fifth of them cancelled on the way, never see a row of the other: a cancelled
// call leaves no tenant behind on the connection. BENCH_FULL=1 makes ten thousand.
func TestPoolOfOne(t *testing.T) {
	db := testdb.OnPostgres(t)
	setup(t, db)
	one, err := store.Open(t.Context(), store.Config{URL: db.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	seed := time.Now().UnixNano()
	workers, calls := 4, 500
	if os.Getenv("BENCH_FULL") != "" {
		calls = 2500
	}
	var wg sync.WaitGroup
	var seen, cancelled atomic.Int64
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			random := rand.New(rand.NewPCG(uint64(seed), uint64(w)))
			for range calls {
				tenant := []string{db.A, db.B}[random.IntN(2)]
				ctx, cancel := context.WithCancel(db.In(tenant))
				switch random.IntN(10) {
				case 0:
					cancel()
				case 1:
					go cancel() // somewhere on the way
				}
				var rows []row
				read := one.Read
				if random.IntN(2) == 0 {
					read = one.Tx
				}
				err := read(ctx, func(ctx context.Context) error { return one.For(ctx).Find(&rows).Error })
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("seed %d: %v", seed, err)
					}
					cancelled.Add(1)
				}
				for _, r := range rows {
					if r.TenantID != tenant || r.Action != tenant {
						t.Errorf("seed %d: %s sees a row of %s", seed, tenant, r.Action)
					}
				}
				if err == nil && len(rows) != 3 {
					t.Errorf("seed %d: %d rows of three", seed, len(rows))
				}
				seen.Add(int64(len(rows)))
				cancel()
			}
		}()
	}
	wg.Wait()
	if seen.Load() == 0 || cancelled.Load() == 0 {
		t.Errorf("seed %d: %d rows seen, %d calls cancelled: the test shows nothing", seed, seen.Load(), cancelled.Load())
	}
}

// Callers that go away at any moment of a transaction end nobody else's, nor the
// process: database/sql closes a connection that was interrupted from a
// goroutine of its own, while the transaction rolls back.
func TestCallersGoAway(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		setup(t, db)
		var wg sync.WaitGroup
		var ended, foreign atomic.Int64
		for i := range 12 {
			tenant := []string{db.A, db.B}[i%2]
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 150 {
					ctx, cancel := context.WithCancel(db.In(tenant))
					stop := time.AfterFunc(time.Duration(rnd.IntN(20000))*time.Microsecond, cancel)
					err := db.Tx(ctx, func(ctx context.Context) error {
						for range 20 {
							var rows []row
							if err := db.For(ctx).Find(&rows).Error; err != nil {
								return err
							}
							for _, r := range rows {
								if r.TenantID != tenant {
									foreign.Add(1)
								}
							}
							if err := db.For(ctx).Model(&row{}).Where("key_hash = ?", "same-0").Update("status", rnd.IntN(100)).Error; err != nil {
								return err
							}
						}
						return nil
					})
					if err == nil {
						ended.Add(1)
					}
					stop.Stop()
					cancel()
				}
			}()
		}
		wg.Wait()
		if foreign.Load() != 0 {
			t.Errorf("%d rows of another tenant were seen", foreign.Load())
		}
		t.Logf("%d of 1800 transactions ended", ended.Load())
		for _, tenant := range []string{db.A, db.B} { // what was left behind carries on
			if err := db.Tx(db.In(tenant), func(ctx context.Context) error { return db.For(ctx).First(&row{}).Error }); err != nil {
				t.Error(err)
			}
		}
	})
}

// A connection that ends under a statement is a database that does not answer,
// and no fault of ours: who comes again is served.
func TestBrokenConnection(t *testing.T) {
	db := testdb.OnPostgres(t)
	work := func(breaks bool) error {
		return db.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
			if breaks {
				err := db.WithConn(ctx, func(c *pgx.Conn, _ *sql.Tx) error { return c.PgConn().Conn().Close() })
				if err != nil {
					return err
				}
			}
			var n int64
			return db.SQL(ctx, "SELECT count(*) FROM tenants", nil).Scan(&n).Error
		})
	}
	var own *domain.Error
	if err := work(true); !errors.As(err, &own) || own.Kind != domain.Unavailable || own.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
	if err := work(false); err != nil {
		t.Errorf("and again: %v", err)
	}
}

// A full disk is a database that does not answer: nothing of a transaction stays,
// and who comes again once there is room is served.
func TestFullDisk(t *testing.T) {
	db := testdb.SQLite(t)
	setup(t, db)
	var pages int64
	if err := db.SQLDB().QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	room := func(pages int64) {
		t.Helper()
		if _, err := db.SQLDB().Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	write := func() error {
		return db.Tx(db.In(db.A), func(ctx context.Context) error {
			for i := range 50 {
				_, err := db.Exec(ctx, `INSERT INTO idempotency_keys (tenant_id, key_hash, body_hash, body, locked_until, expires_at, created_at)
					VALUES (@tenant, @id, '', @body, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)`, map[string]any{"id": fmt.Sprint("full-", i), "body": strings.Repeat("x", 4000)})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	room(pages)
	var own *domain.Error
	if err := write(); !errors.As(err, &own) || own.Kind != domain.Unavailable || own.RetryAfter == 0 {
		t.Errorf("on a full disk: %v", err)
	}
	room(1 << 30)
	if err := write(); err != nil {
		t.Errorf("after there is room again: %v", err)
	}
}
