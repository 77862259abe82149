package dataset_test

import (
	"context"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// A published list is there for every tenant that adds it, as a dataset of its
// own that counts against its limits and follows new versions; for nobody else,
// and not before it is published.
func TestCatalog(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		system := domain.System(context.Background(), "test")
		publish := func(ctx context.Context, slug, file string) (int64, error) {
			return r.Publish(ctx, dataset.PublishRequest{Slug: slug, Filename: "x.csv", Name: "Published", Publisher: "P", Licence: "CC0-1.0", Body: strings.NewReader(file)})
		}
		drain := func() {
			t.Helper()
			for len(r.q.jobs) > 0 {
				job := r.q.jobs[0]
				r.q.jobs = r.q.jobs[1:]
				var err error
				switch job := job.(type) {
				case dataset.ImportJob:
					err = r.RunImport(r.a, job)
				case dataset.FollowCatalog:
					err = r.RunFollowCatalog(system, job)
				case dataset.PurgeJob:
				default:
					t.Fatalf("%T", job)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := publish(r.a, "list", file(1, 3)); err == nil {
			t.Error("a tenant publishes")
		}
		if _, err := publish(system, "bad", "name,x\n,1\n"); err == nil {
			t.Error("a list with a rejected row is published")
		}
		if _, err := r.Subscribe(r.a, dataset.SlugRequest{Slug: "list"}); domain.CodeOf(err) != "not_found" {
			t.Error(err)
		}
		err := db.Tx(system, func(ctx context.Context) error { // written, not published
			_, err := db.Exec(ctx, "INSERT INTO catalog_lists (slug, name, description, publisher, source_url, licence, updated_at) VALUES ('draft', 'D', '', '', '', '', @now)",
				map[string]any{"now": "2026-01-01 00:00:00"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Subscribe(r.a, dataset.SlugRequest{Slug: "draft"}); domain.CodeOf(err) != "not_found" {
			t.Error(err)
		}
		if v, err := publish(system, "list", file(1, 3)); v != 1 || err != nil {
			t.Fatal(v, err)
		}
		drain()
		if len(r.levels.booked) != 0 {
			t.Error("somebody got the list who did not ask for it")
		}
		sub, err := r.Subscribe(r.a, dataset.SlugRequest{Slug: "list"})
		if err != nil || sub.Import == nil || sub.Dataset.CatalogSlug != "list" || sub.Dataset.Publisher != "P" {
			t.Fatalf("%+v %v", sub, err)
		}
		again, err := r.Subscribe(r.a, dataset.SlugRequest{Slug: "list"})
		if err != nil || again.Dataset.ID != sub.Dataset.ID || again.Import.ID != sub.Import.ID {
			t.Errorf("%+v %v", again, err)
		}
		drain()
		id := sub.Dataset.ID
		if n := r.names(id); len(n) != 3 || r.levels.held[db.A+"dataset_rows"] != 3 || r.levels.held[db.A+"datasets"] != 1 {
			t.Errorf("%v, %v", n, r.levels.held)
		}
		if again, err = r.Subscribe(r.a, dataset.SlugRequest{Slug: "list"}); err != nil || again.Import != nil || again.Dataset.CatalogVersion != 1 {
			t.Errorf("%+v %v", again, err)
		}
		for ctx, want := range map[context.Context]bool{r.a: true, r.z: false} {
			page, err := r.Catalog(ctx, dataset.ListRequest{})
			if err != nil || len(page.Data) != 1 || page.Data[0].Rows != 3 || (page.Data[0].DatasetID != nil) != want {
				t.Errorf("%+v %v", page, err)
			}
		}
		if _, err := r.StartImport(r.a, dataset.ImportRequest{DatasetID: id, File: dataset.File{Body: strings.NewReader(file(9, 9))}}); domain.CodeOf(err) != "follows_catalog" {
			t.Error(err)
		}
		if v, err := publish(system, "list", file(1, 3)); v != 1 || err != nil || len(r.q.jobs) != 0 {
			t.Errorf("the same file is version %d with %d jobs: %v", v, len(r.q.jobs), err)
		}
		if v, err := publish(system, "list", file(2, 6)); v != 2 || err != nil {
			t.Error(v, err)
		}
		drain()
		if n := r.names(id); len(n) != 5 || n[0] != "Entity 2" || r.levels.held[db.A+"dataset_rows"] != 5 {
			t.Errorf("after the new version: %v, %v", n, r.levels.held)
		}
		// A version that the tenant's limits do not carry: the old one stays, the
		// failed import says why, and it is tried again when somebody asks.
		r.levels.limit = 6
		if v, err := publish(system, "list", file(1, 9)); v != 3 || err != nil {
			t.Error(v, err)
		}
		drain()
		if err := r.RunFollowCatalog(system, dataset.FollowCatalog{Slug: "list"}); err != nil || len(r.q.jobs) != 0 {
			t.Errorf("%v with %d jobs", err, len(r.q.jobs))
		}
		page, err := r.ListImports(r.a, dataset.ListImportsRequest{DatasetID: id})
		if err != nil || len(r.names(id)) != 5 || page.Data[0].ErrorCode != "quota_exceeded" || page.Data[0].CatalogVersion != 3 {
			t.Errorf("%+v %v", page, err)
		}
		r.levels.limit = 0
		if again, err = r.Subscribe(r.a, dataset.SlugRequest{Slug: "list"}); err != nil || again.Import == nil {
			t.Errorf("%+v %v", again, err)
		}
		drain()
		if n := r.names(id); len(n) != 9 {
			t.Errorf("%v", n)
		}
		if _, err := r.Delete(r.a, dataset.IDRequest{ID: id}); err != nil {
			t.Error(err)
		}
		if again, err = r.Subscribe(r.a, dataset.SlugRequest{Slug: "list"}); err != nil || again.Dataset.ID == id {
			t.Errorf("after the deletion: %+v %v", again, err)
		}
	})
}
