package dataset_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/migrations/testdb"
	"github.com/chainreactions/chainreactions/samples/realdata"
)

// queue keeps jobs until run.
type queue struct {
	mu   sync.Mutex
	jobs []domain.Job
}

// Admit lets everything in: app/jobs has the tests of the bound.
func (*queue) Admit(context.Context, domain.Job, int64) error { return nil }

func (q *queue) Enqueue(_ context.Context, j domain.Job, _ domain.JobOptions) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, j)
	return nil
}

// bell rings for everybody at once.
type bell struct {
	mu      sync.Mutex
	waiting []chan struct{}
	onRing  func()
}

func (b *bell) Ring(context.Context, string) {
	b.mu.Lock()
	for _, c := range b.waiting {
		close(c)
	}
	b.waiting = nil
	f := b.onRing
	b.mu.Unlock()
	if f != nil {
		f()
	}
}

func (b *bell) Wait(string) (<-chan struct{}, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan struct{})
	b.waiting = append(b.waiting, c)
	return c, func() {}
}

// levels keeps levels with a limit, and what was booked by event id. It does
// not roll back; tests look only after what commits.
type levels struct {
	mu     sync.Mutex
	held   map[string]int64
	limit  int64
	booked map[string]int64
	onTake func() error
	quota  int64 // of matches; -1 is none
	used   int64
	onBook func() error
}

func (l *levels) TakeLevel(ctx context.Context, level string, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.onTake != nil && level == "dataset_rows" {
		if err := l.onTake(); err != nil {
			return err
		}
	}
	key := domain.TenantOf(ctx) + level
	if l.limit > 0 && level == "dataset_rows" && l.held[key]+n > l.limit {
		return domain.E(domain.TooMany, "quota_exceeded", "There is no such object.")
	}
	l.held[key] += n
	return nil
}

func (l *levels) FreeLevel(ctx context.Context, level string, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[domain.TenantOf(ctx)+level] -= n
	return nil
}

func (l *levels) RecordImport(_ context.Context, units int64, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.booked[id] = units
	return nil
}

func (l *levels) Reserve(ctx context.Context, meter string, units int64) (func(context.Context, int64, string) error, func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quota >= 0 && l.used+units > l.quota {
		return nil, nil, domain.E(domain.TooMany, "quota_exceeded", "There is no such object.")
	}
	l.used += units
	left := units
	return func(_ context.Context, n int64, id string) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.onBook != nil {
				if err := l.onBook(); err != nil {
					return err
				}
			}
			l.booked[id] += n
			left -= n
			return nil
		}, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.used -= left
		}, nil
}

type rig struct {
	*dataset.Datasets
	t      testing.TB
	db     testdb.DB
	q      *queue
	b      *bell
	levels *levels
	dir    string
	a, z   context.Context
}

func newRig(t testing.TB, db testdb.DB, change func(*dataset.Config)) *rig {
	r := &rig{t: t, db: db, q: &queue{}, b: &bell{}, dir: t.TempDir(),
		levels: &levels{held: map[string]int64{}, booked: map[string]int64{}, quota: -1}, a: db.In(db.A), z: db.In(db.B)}
	c := dataset.Config{Store: db.Store, Audit: audit.New(audit.Config{Store: db.Store}), Queue: r.q, Bell: r.b, Dir: r.dir, Levels: r.levels}
	if change != nil {
		change(&c)
	}
	r.Datasets = dataset.New(c)
	return r
}

func (r *rig) create(ctx context.Context) string {
	r.t.Helper()
	d, err := r.Create(ctx, dataset.CreateRequest{Name: "List"})
	if err != nil {
		r.t.Fatal(err)
	}
	return d.ID
}

func (r *rig) start(id, mode, file string) dataset.Import {
	r.t.Helper()
	im, err := r.StartImport(r.a, dataset.ImportRequest{DatasetID: id, Mode: mode, File: dataset.File{Filename: "list.csv", Body: strings.NewReader(file)}})
	if err != nil {
		r.t.Fatal(err)
	}
	return im
}

func (r *rig) run(id, mode, file string) dataset.Import {
	r.t.Helper()
	im := r.start(id, mode, file)
	if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil {
		r.t.Fatal(err)
	}
	im, err := r.GetImport(r.a, dataset.IDRequest{ID: im.ID})
	if err != nil {
		r.t.Fatal(err)
	}
	return im
}

func (r *rig) names(id string) (out []string) {
	r.t.Helper()
	p, err := r.Entries(r.a, dataset.EntriesRequest{PageRequest: domain.PageRequest{Limit: 200}, DatasetID: id})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range p.Data {
		out = append(out, e.Name)
	}
	return out
}

func file(from, to int) string {
	var b strings.Builder
	b.WriteString("name,aliases,countries\n")
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "Entity %d,Alias %d,CN\n", i, i)
	}
	return b.String()
}

func notFound(t *testing.T, what string, err error) {
	t.Helper()
	if domain.CodeOf(err) != "not_found" {
		t.Errorf("%s: %v", what, err)
	}
}

// Nothing of one tenant is there for another.
func TestForeignIDs(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		id := r.create(r.a)
		im := r.run(id, "append", file(1, 3))
		if im.Status != "succeeded" {
			t.Fatalf("%+v", im)
		}
		entries, err := r.Entries(r.a, dataset.EntriesRequest{DatasetID: id, Q: "éntity 2", Country: "cn"})
		if err != nil || len(entries.Data) != 1 || entries.Data[0].Name != "Entity 2" {
			t.Fatalf("%+v %v", entries, err)
		}
		in := dataset.IDRequest{ID: id}
		_, err = r.Get(r.z, in)
		notFound(t, "Get", err)
		_, err = r.Update(r.z, dataset.UpdateRequest{ID: id})
		notFound(t, "Update", err)
		_, err = r.Delete(r.z, in)
		notFound(t, "Delete", err)
		_, err = r.Stats(r.z, in)
		notFound(t, "Stats", err)
		_, err = r.Entry(r.z, dataset.IDRequest{ID: entries.Data[0].ID})
		notFound(t, "Entry", err)
		_, err = r.Entries(r.z, dataset.EntriesRequest{DatasetID: id})
		notFound(t, "Entries", err)
		notFound(t, "Export", r.Export(r.z, dataset.ExportRequest{ID: id}, &bytes.Buffer{}))
		_, err = r.GetImport(r.z, dataset.IDRequest{ID: im.ID})
		notFound(t, "GetImport", err)
		_, err = r.ListImports(r.z, dataset.ListImportsRequest{DatasetID: id})
		notFound(t, "ListImports", err)
		_, err = r.CancelImport(r.z, dataset.IDRequest{ID: im.ID})
		notFound(t, "CancelImport", err)
		notFound(t, "ImportErrors", r.ImportErrors(r.z, dataset.IDRequest{ID: im.ID}, &bytes.Buffer{}))
		notFound(t, "WatchImport", r.WatchImport(r.z, dataset.WatchRequest{ID: im.ID}, func(dataset.Event) error { return nil }))
		_, err = r.StartImport(r.z, dataset.ImportRequest{DatasetID: id, File: dataset.File{Body: strings.NewReader("name\nx\n")}})
		notFound(t, "StartImport", err)
		q := dataset.MatchRequest{Query: dataset.Query{Name: "Entity 2"}, MatchOptions: dataset.MatchOptions{DatasetIDs: []string{id}}}
		_, err = r.Match(r.z, q)
		notFound(t, "Match", err)
		q.DatasetIDs = nil
		got, err := r.Match(r.z, q)
		if err != nil || len(got.Matches) != 0 {
			t.Errorf("another tenant matches %+v (%v)", got, err)
		}
		if got, err = r.Match(r.a, q); err != nil || len(got.Matches) == 0 || got.Matches[0].Entry.Name != "Entity 2" {
			t.Errorf("the owner gets %+v (%v)", got, err)
		}
		if files, _ := os.ReadDir(r.dir); len(files) != 0 {
			t.Errorf("uploads stay: %v", files)
		}
	})
}

// A killed worker's successor stores each row once, and books each batch once.
func TestResume(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, func(c *dataset.Config) { c.BatchRows = 10 })
		id := r.create(r.a)
		im := r.start(id, "append", file(1, 45))
		takes, killed := 0, errors.New("killed")
		r.levels.onTake = func() error {
			if takes++; takes == 3 {
				return killed
			}
			return nil
		}
		if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); !errors.Is(err, killed) {
			t.Fatal(err)
		}
		im, _ = r.GetImport(r.a, dataset.IDRequest{ID: im.ID})
		if im.RowsRead != 20 || len(r.names(id)) != 0 {
			t.Fatalf("after the kill %d rows are stored and %d seen", im.RowsRead, len(r.names(id)))
		}
		if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil {
			t.Fatal(err)
		}
		names := r.names(id)
		for i, n := range names {
			if n != fmt.Sprint("Entity ", i+1) {
				t.Fatalf("entry %d is %q", i, n)
			}
		}
		sum := int64(0)
		for _, n := range r.levels.booked {
			sum += n
		}
		if len(names) != 45 || sum != 45 || r.levels.held[db.A+"dataset_rows"] != 45 {
			t.Errorf("%d entries, %d booked, %v held", len(names), sum, r.levels.held)
		}
		if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil || len(r.names(id)) != 45 {
			t.Errorf("run again: %v", err)
		}
	})
}

// Readers see the old list until the new one is whole, then only the new one;
// a failed or cancelled one leaves nothing and gives its rows back.
func TestReplaceAndLimits(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, func(c *dataset.Config) { c.BatchRows = 10 })
		id := r.create(r.a)
		r.run(id, "append", file(1, 25))
		held := func() int64 { return r.levels.held[db.A+"dataset_rows"] }
		match := func(name string) dataset.MatchResponse {
			t.Helper()
			got, err := r.Match(r.a, dataset.MatchRequest{Query: dataset.Query{Name: name}})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if got := match("Entity 7"); got.Cached || len(got.Matches) == 0 {
			t.Fatalf("%+v", got)
		}
		if got := match("Entity 7"); !got.Cached {
			t.Error("the second answer is not from the cache")
		}
		rings := 0
		r.b.onRing = func() {
			if rings++; rings < 4 { // three batches and the end
				if n := r.names(id); len(n) != 25 || n[0] != "Entity 1" {
					t.Errorf("during the replace readers see %d entries from %q", len(n), n[0])
				}
			}
		}
		before, _ := r.Get(r.a, dataset.IDRequest{ID: id})
		r.run(id, "replace", file(101, 130))
		r.b.onRing = nil
		after, _ := r.Get(r.a, dataset.IDRequest{ID: id})
		if n := r.names(id); len(n) != 30 || n[0] != "Entity 101" || after.Version <= before.Version || after.Rows != 30 || held() != 30 || rings < 4 {
			t.Errorf("after the replace: %d entries, versions %d to %d, %d held, %d rings", len(n), before.Version, after.Version, held(), rings)
		}
		if got := match("Entity 107"); got.Cached || len(got.Matches) == 0 || got.Matches[0].Entry.Name != "Entity 107" {
			t.Errorf("the new list is not seen at once: %+v", got)
		}
		if err := r.RunPurge(r.a, dataset.PurgeJob{DatasetID: id}); err != nil || len(r.names(id)) != 30 {
			t.Errorf("purge: %v", err)
		}
		count := func() (n int64) {
			err := db.Read(r.a, func(ctx context.Context) error { return db.For(ctx).Model(&dataset.Entry{}).Count(&n).Error })
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if count() != 30 {
			t.Errorf("%d rows stay", count())
		}
		r.levels.limit = 45
		if im := r.run(id, "append", file(1, 40)); im.Status != "failed" || im.ErrorCode != "quota_exceeded" || held() != 30 {
			t.Errorf("over the limit: %s %s, %d held", im.Status, im.ErrorCode, held())
		}
		if im := r.run(id, "replace", file(1, 40)); im.Status != "succeeded" || held() != 40 { // 40 is within 45
			t.Errorf("a replace within the limit: %s %s, %d held", im.Status, im.ErrorCode, held())
		}
		im := r.start(id, "append", file(1, 3))
		if im, err := r.CancelImport(r.a, dataset.IDRequest{ID: im.ID}); err != nil || im.Status != "cancelled" {
			t.Errorf("cancel: %+v %v", im, err)
		}
		if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil || len(r.names(id)) != 40 {
			t.Errorf("a cancelled import ran: %v", err)
		}
		if _, err := r.CancelImport(r.a, dataset.IDRequest{ID: im.ID}); domain.CodeOf(err) != "import_ended" {
			t.Error(err)
		}
		if _, err := r.Delete(r.a, dataset.IDRequest{ID: id}); err != nil || held() != 0 || r.levels.held[db.A+"datasets"] != 0 {
			t.Errorf("delete: %v, %v held", err, r.levels.held)
		}
		if err := r.RunPurge(r.a, dataset.PurgeJob{DatasetID: id}); err != nil || count() != 0 {
			t.Errorf("after the deletion %d rows stay (%v)", count(), err)
		}
	})
}

// A batch gives what single matches give, and an invalid item fails alone.
func TestBatch(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		id := r.create(r.a)
		r.run(id, "append", file(1, 20))
		in := dataset.BatchRequest{Queries: []json.RawMessage{
			[]byte(`{"name":"Entity 4"}`), []byte(`{"name":""}`), []byte(`{"name":5}`), []byte(`{"name":"x","nmae":1}`), []byte(`null`), []byte(`{"name":"entity 9","country":"CN"}`)}}
		batch, err := r.MatchBatch(r.a, in)
		if err != nil {
			t.Fatal(err)
		}
		for i, raw := range in.Queries {
			var q dataset.Query
			if bad := i >= 1 && i <= 4; bad {
				if batch.Results[i].Error == nil || batch.Results[i].MatchResponse != nil {
					t.Errorf("item %d: %+v", i, batch.Results[i])
				}
				continue
			}
			if err := json.Unmarshal(raw, &q); err != nil {
				t.Fatal(err)
			}
			r.ClearCache(r.a, struct{}{})
			one, err := r.Match(r.a, dataset.MatchRequest{Query: q})
			if err != nil || one.Cached || len(one.Matches) == 0 {
				t.Fatalf("%+v %v", one, err)
			}
			a, _ := json.Marshal(one.Matches)
			b, _ := json.Marshal(batch.Results[i].Matches)
			if !bytes.Equal(a, b) {
				t.Errorf("item %d: batch %s, single %s", i, b, a)
			}
		}
		aff, err := r.MatchAffiliated(r.a, dataset.AffiliatedRequest{Query: dataset.AffiliatedQuery{Query: dataset.Query{Name: "Nobody at all"},
			AffiliatedEntities: []json.RawMessage{[]byte(`"Entity 3"`), []byte(`{"name":"Entity 5"}`), []byte(`7`)}}})
		if err != nil || len(aff.AffiliatedEntities) != 3 || aff.AffiliatedEntities[0].Matches[0].Entry.Name != "Entity 3" || aff.AffiliatedEntities[2].Error == nil {
			t.Errorf("%+v %v", aff, err)
		}
	})
}

// Bad rows are reported and good ones kept; a dry run stores nothing; what
// goes out is no formula.
func TestIssuesAndExport(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		id := r.create(r.a)
		src := "name,aliases,latitude,note\n=cmd(),\"A, B (C).; D Co.\",=1+1,-x\n,nobody,,\nGood,,12.5,y\n"
		dry, err := r.StartImport(r.a, dataset.ImportRequest{DatasetID: id, DryRun: true, File: dataset.File{Filename: "x.csv", Body: strings.NewReader(src)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.RunImport(r.a, dataset.ImportJob{ID: dry.ID}); err != nil {
			t.Fatal(err)
		}
		dry, _ = r.GetImport(r.a, dataset.IDRequest{ID: dry.ID})
		if dry.Status != "succeeded" || dry.RowsRead != 3 || dry.RowsAccepted != 2 || len(r.names(id)) != 0 || len(r.levels.booked) != 0 {
			t.Errorf("%+v", dry)
		}
		im := r.run(id, "append", src)
		if im.RowsAccepted != 2 || im.RowsRejected != 1 || im.Issues == 0 || len(im.Columns) != 4 || im.Columns[2].Field != "latitude" {
			t.Errorf("%+v", im)
		}
		var out bytes.Buffer
		if err := r.ImportErrors(r.a, dataset.IDRequest{ID: im.ID}, &out); err != nil || !strings.Contains(out.String(), "'=1+1") {
			t.Errorf("%v\n%s", err, out.String())
		}
		for format, want := range map[string]string{"csv": "'=cmd(),", "jsonl": `"name":"=cmd()"`, "ftm": `"schema":"LegalEntity"`} {
			out.Reset()
			if err := r.Export(r.a, dataset.ExportRequest{ID: id, Format: format}, &out); err != nil || !strings.Contains(out.String(), want) {
				t.Errorf("%s: %v\n%s", format, err, out.String())
			}
		}
		var last dataset.Event
		err = r.WatchImport(r.a, dataset.WatchRequest{ID: im.ID}, func(e dataset.Event) error { last = e; return nil })
		if err != nil || last.Name != "succeeded" || last.Data.(dataset.Import).Status != "succeeded" {
			t.Errorf("%+v %v", last, err)
		}
		// A reader who was cut off is told what came since, and nothing twice.
		seen := 0
		r.start(id, "append", src)
		err = r.WatchImport(r.a, dataset.WatchRequest{ID: im.ID, After: last.ID}, func(dataset.Event) error { seen++; return nil })
		if err != nil || seen != 1 || last.ID == "" {
			t.Errorf("%d events after %q: %v", seen, last.ID, err)
		}
	})
}

// What is wrong is told in the language of whoever asks, whenever it happened:
// why an import failed, what was wrong with a row, what a batch item lacks.
func TestBothLanguages(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		scope, _ := domain.ScopeOf(r.a)
		scope.Language = "zh"
		zh := domain.WithScope(context.Background(), scope)
		id := r.create(r.a)
		bad := r.run(id, "append", "colour,size\nred,1\n")
		if bad.Status != "failed" || bad.ErrorCode != "no_name_column" || bad.ErrorMessage != `No column holds the names; call one "name". (colour | size) (line 1)` ||
			len(bad.Columns) != 2 || bad.Columns[0].Field != "properties.colour" {
			t.Errorf("%+v", bad)
		}
		bad, err := r.GetImport(zh, dataset.IDRequest{ID: bad.ID})
		if err != nil || bad.ErrorMessage != "没有名称列；请将其命名为“name”。 (colour | size)（第 1 行）" {
			t.Errorf("%q %v", bad.ErrorMessage, err)
		}
		page, err := r.ListImports(zh, dataset.ListImportsRequest{DatasetID: id})
		if err != nil || page.Data[0].ErrorMessage != bad.ErrorMessage {
			t.Errorf("%+v %v", page, err)
		}
		r.levels.limit = 1
		if over := r.run(id, "append", file(1, 3)); over.ErrorCode != "quota_exceeded" || len(r.names(id)) != 0 {
			t.Errorf("%+v", over)
		}
		r.levels.limit = 0
		im := r.run(id, "append", "name,country,updated_date\n,CN,\nA,Atlantis,Not yet reviewed\n")
		for ctx, want := range map[context.Context]string{
			r.a: "2,name,missing_name,\" | CN | \",error,The row has no name.\r\n3,updated_date,invalid_date,Not yet reviewed,warning,This is not a date; it is kept as a property.\r\n" +
				"3,country,unknown_country,Atlantis,warning,This is no country that is known; it is kept as a property.\r\n",
			zh: "2,name,missing_name,\" | CN | \",error,该行没有名称。\r\n3,updated_date,invalid_date,Not yet reviewed,warning,不是日期；已作为属性保留。\r\n" +
				"3,country,unknown_country,Atlantis,warning,无法识别该国家或地区；已作为属性保留。\r\n",
		} {
			var out bytes.Buffer
			if err := r.ImportErrors(ctx, dataset.IDRequest{ID: im.ID}, &out); err != nil || out.String() != "line,column,code,value,severity,message\r\n"+want {
				t.Errorf("%v\n%s\nwant\n%s", err, out.String(), want)
			}
		}
		batch, err := r.MatchBatch(zh, dataset.BatchRequest{Queries: []json.RawMessage{[]byte(`{"name":" "}`)}})
		if err != nil {
			t.Fatal(err)
		}
		e, _ := json.Marshal(batch.Results[0])
		if string(e) != `{"error":{"type":"/problems/invalid","title":"Invalid request","status":422,"detail":"请求中有不可接受的值。","code":"invalid","errors":[{"field":"queries[0].name","code":"required","message":"必须填写名称。"}]}}` {
			t.Errorf("%s", e)
		}
	})
}

// A preview tells how a file would be read, what is wrong with it, and which
// columns wait for a mapping; the mapping given then holds, and nothing stays.
func TestPreviewAndMapping(t *testing.T) {
	db := testdb.SQLite(t)
	r := newRig(t, db, nil)
	src := "Org,Memo\nAlpha,=1\n,x\n"
	ask := func(mapping string) dataset.PreviewResponse {
		t.Helper()
		p, err := r.Preview(r.a, dataset.File{Body: strings.NewReader(src), Mapping: mapping})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := ask(""); p.Error == nil || p.Error.Code != "no_name_column" || len(p.Columns) != 2 || p.Columns[0].Header != "Org" {
		t.Errorf("%+v", p)
	}
	mapping := `{"Org":"name","Memo":"properties.memo"}`
	p := ask(mapping)
	if p.Error != nil || p.Columns[0].Field != "name" || p.Columns[0].How != "given" || len(p.Rows) != 2 || p.Rows[0].Record.Properties["memo"][0] != "=1" ||
		!p.Rows[1].Rejected || p.Rows[1].Issues[0].Message != "The row has no name." {
		t.Errorf("%+v", p)
	}
	if _, err := r.Preview(r.a, dataset.File{Body: strings.NewReader(src), Mapping: "[1]"}); domain.CodeOf(err) != "invalid" {
		t.Error(err)
	}
	id := r.create(r.a)
	im, err := r.StartImport(r.a, dataset.ImportRequest{DatasetID: id, File: dataset.File{Body: strings.NewReader(src), Mapping: mapping}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil {
		t.Fatal(err)
	}
	if im, err = r.GetImport(r.a, dataset.IDRequest{ID: im.ID}); err != nil || im.RowsAccepted != 1 || im.Columns[1].Field != "properties.memo" {
		t.Errorf("%+v %v", im, err)
	}
	if files, _ := os.ReadDir(r.dir); len(files) != 0 {
		t.Errorf("uploads stay: %v", files)
	}
}

// What a list exports, in any format, makes the same list again.
func TestExportMakesTheSameList(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		for i, src := range []string{
			"id,name,aliases,country,city,lat,lon,type,note,published_date,Programme\nX1,=Alpha,\"A\\; B; C, Ltd.; '+D\",China;Atlantis,Xi'an|Lyon,1.5,-2,Company,\"two\nlines\",2024-05,P; Q\nX2,Beta,,,,,,,,,\n",
			`{"id":"NK-1","schema":"Company","caption":"ACME","properties":{"name":["Акме","ACME"],"alias":["A; B","C\nD"],"jurisdiction":["ru"],"topics":["sanction"],"createdAt":["soon","2024"],"notes":[" x "]},"datasets":["x"]}` + "\n",
		} {
			for _, format := range []string{"csv", "jsonl", "ftm"} {
				export := func(id string) string {
					var out bytes.Buffer
					if err := r.Export(r.a, dataset.ExportRequest{ID: id, Format: format}, &out); err != nil {
						t.Fatal(err)
					}
					return regexp.MustCompile(`"(id|dataset_id)":"(ent|ds)_[^"]*",|"line":\d+,`).ReplaceAllString(out.String(), "")
				}
				one, two := r.create(r.a), r.create(r.a)
				r.run(one, "append", src)
				first := export(one)
				if im := r.run(two, "append", first); im.Status != "succeeded" || im.RowsRejected != 0 || im.Issues != 0 && i == 0 && format != "ftm" {
					t.Fatalf("list %d as %s: %+v\n%s", i, format, im, first)
				}
				if again := export(two); again != first {
					t.Errorf("list %d as %s:\n%s\nbecomes\n%s", i, format, first, again)
				}
			}
		}
	})
}

// Memory does not grow with the file or its rows: while sixty megabytes of
// wide rows are imported, the heap in use stays within a few batches.
func TestImportMemory(t *testing.T) {
	r := newRig(t, testdb.SQLite(t), nil)
	id := r.create(r.a)
	var text strings.Builder
	text.WriteString("name,description\n")
	for i := range 600 {
		fmt.Fprintf(&text, "Entity %d,\"%s\"\n", i, strings.Repeat("said to be wide; ", 6000))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	im := r.start(id, "append", text.String())
	before, most, rings := heap(), uint64(0), 0
	r.b.onRing = func() { rings++; most = max(most, heap()) }
	if err := r.RunImport(r.a, dataset.ImportJob{ID: im.ID}); err != nil {
		t.Fatal(err)
	}
	im, err := r.GetImport(r.a, dataset.IDRequest{ID: im.ID})
	if err != nil || im.RowsAccepted != 600 || rings < 4 {
		t.Fatalf("%+v, %d rings, %v", im, rings, err)
	}
	if grown := int64(most) - int64(before); grown > 48<<20 || im.SizeBytes < 50<<20 {
		t.Errorf("the heap grew by %d MiB over a file of %d MiB", grown>>20, im.SizeBytes>>20)
	}
}

// The real lists go in whole and every entity is found by its name.
func TestRealLists(t *testing.T) {
	db := testdb.SQLite(t)
	r := newRig(t, db, nil)
	for name, rows := range map[string]int64{"canadian_nro_list_2024-01-09.csv": 103, "canadian_listed_terrorist_entities.csv": 90,
		"canadian_listed_terrorist_entities_bad_dates.csv": 90, "japan_meti_russian_list_2025-03-14.csv": 620} {
		id := r.create(r.a)
		im := r.run(id, "append", string(realdata.List(t, name)))
		if im.Status != "succeeded" || im.RowsAccepted != rows {
			t.Errorf("%s: %+v", name, im)
		}
		if !strings.HasPrefix(name, "canadian_nro") {
			continue
		}
		page, err := r.Entries(r.a, dataset.EntriesRequest{PageRequest: domain.PageRequest{Limit: 200}, DatasetID: id})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Data {
			if len(e.Countries) != 1 {
				t.Errorf("%s: countries %v", e.Name, e.Countries)
			}
			got, err := r.Match(r.a, dataset.MatchRequest{Query: dataset.Query{Name: e.Name}, MatchOptions: dataset.MatchOptions{DatasetIDs: []string{id}, Explain: true}})
			// One name is an alias of another entry too: both score the same.
			found := slices.ContainsFunc(got.Matches, func(m dataset.MatchResult) bool {
				return m.Entry.ID == e.ID && m.Score == got.Matches[0].Score && m.Algorithms != nil
			})
			if err != nil || !found {
				t.Errorf("%q is not found by its name (%d matches, %v)", e.Name, len(got.Matches), err)
			}
		}
	}
}

// What cannot be taken in is refused at once and leaves nothing on the disk.
func TestUploadsRefused(t *testing.T) {
	db := testdb.SQLite(t)
	r := newRig(t, db, func(c *dataset.Config) { c.MaxUploadBytes = 100 })
	id := r.create(r.a)
	for code, in := range map[string]dataset.ImportRequest{
		"file_too_large": {DatasetID: id, File: dataset.File{Body: strings.NewReader(file(1, 100))}},
		"invalid":        {DatasetID: id, File: dataset.File{Body: strings.NewReader("")}},
		"not_found":      {DatasetID: "ds_00000000000000000000000000", File: dataset.File{Body: strings.NewReader("name\nx\n")}},
	} {
		if _, err := r.StartImport(r.a, in); domain.CodeOf(err) != code {
			t.Errorf("%s: %v", code, err)
		}
	}
	if files, _ := os.ReadDir(r.dir); len(files) != 0 || len(r.q.jobs) != 0 {
		t.Errorf("%v and %v stay", files, r.q.jobs)
	}
}

// A disk that takes no file is no fault of who sends one: they may come again.
func TestUploadOnASickDisk(t *testing.T) {
	r := newRig(t, testdb.SQLite(t), func(c *dataset.Config) {
		c.Dir = filepath.Join(c.Dir, "is a file")
		if err := os.WriteFile(c.Dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	_, err := r.StartImport(r.a, dataset.ImportRequest{DatasetID: r.create(r.a), File: dataset.File{Body: strings.NewReader("name\nx\n")}})
	var own *domain.Error
	if !errors.As(err, &own) || own.Kind != domain.Unavailable || own.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
}

// V5.3.2: whatever a file calls itself, what is kept of it on the disk is named by
// an id of ours, and nothing is written beside.
func TestUploadNames(t *testing.T) {
	r := newRig(t, testdb.SQLite(t), nil)
	id := r.create(r.a)
	var want []string
	for _, name := range []string{"../../escape.csv", "/etc/escape.csv", "..", "a/../../escape", `..\escape.csv`, "a\x00.csv", ""} {
		im, err := r.StartImport(r.a, dataset.ImportRequest{DatasetID: id, File: dataset.File{Filename: name, Body: strings.NewReader("name\nx\n")}})
		if err != nil || strings.Contains(im.Filename, "/") {
			t.Fatalf("%q: %+v %v", name, im, err)
		}
		want = append(want, filepath.Join(r.dir, im.ID+".upload"))
	}
	var got []string
	err := filepath.WalkDir(filepath.Dir(r.dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (filepath.Dir(path) == r.dir || strings.Contains(path, "escape")) {
			got = append(got, path)
		}
		return err
	})
	slices.Sort(want)
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, want %q: %v", got, want, err)
	}
}

// A long import takes turns with the jobs of others and loses nothing by it; a
// file without a usable row ends as failed and leaves the list as it was; what
// nobody will ever see is not paid for.
func TestImportTurnsAndVoids(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, func(c *dataset.Config) { c.BatchRows, c.Turn = 10, time.Nanosecond })
		id := r.create(r.a)
		im := r.start(id, "append", file(1, 45))
		turns := 0
		for len(r.q.jobs) > 0 {
			job, ok := r.q.jobs[0].(dataset.ImportJob)
			r.q.jobs = r.q.jobs[1:]
			if !ok {
				continue
			}
			if turns++; turns <= 4 && len(r.names(id)) != 0 {
				t.Error("the list is seen before it is whole")
			}
			if err := r.RunImport(r.a, job); err != nil {
				t.Fatal(err)
			}
		}
		sum := func() (n int64) {
			for _, units := range r.levels.booked {
				n += units
			}
			return n
		}
		if im, _ = r.GetImport(r.a, dataset.IDRequest{ID: im.ID}); im.Status != "succeeded" || turns != 5 || len(r.names(id)) != 45 || sum() != 45 {
			t.Errorf("%d turns, %d booked: %+v", turns, sum(), im)
		}
		for code, src := range map[string]string{"empty_file": "name,country\n", "no_row_accepted": "name,country\n,CN\n,RU\n"} {
			if im := r.run(id, "replace", src); im.Status != "failed" || im.ErrorCode != code || im.ErrorMessage == "" || len(r.names(id)) != 45 {
				t.Errorf("%+v", im)
			}
		}
		half := r.start(id, "append", file(1, 45))
		if err := r.RunImport(r.a, dataset.ImportJob{ID: half.ID}); err != nil || sum() != 55 {
			t.Fatalf("%v, %d booked", err, sum())
		}
		if _, err := r.CancelImport(r.a, dataset.IDRequest{ID: half.ID}); err != nil || sum() != 45 || r.levels.held[db.A+"dataset_rows"] != 45 {
			t.Errorf("%v, %d booked, %v held", err, sum(), r.levels.held)
		}
	})
}
