package dataset_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// work runs what is queued for match jobs until nothing is, and gives the job.
func (r *rig) work(id string) dataset.MatchJob {
	r.t.Helper()
	for {
		r.q.mu.Lock()
		n := 0
		for i, j := range r.q.jobs {
			if run, ok := j.(dataset.RunMatch); ok && run.ID == id {
				r.q.jobs = append(r.q.jobs[:i], r.q.jobs[i+1:]...)
				n++
				break
			}
		}
		r.q.mu.Unlock()
		if n == 0 {
			break
		}
		if err := r.RunMatchJob(r.a, dataset.RunMatch{ID: id}); err != nil {
			r.t.Fatal(err)
		}
	}
	job, err := r.GetMatchJob(r.a, dataset.IDRequest{ID: id})
	if err != nil {
		r.t.Fatal(err)
	}
	return job
}

func (r *rig) result(id, format string) string {
	r.t.Helper()
	var out bytes.Buffer
	if err := r.MatchJobResult(r.a, dataset.ResultRequest{ID: id, Format: format}, &out); err != nil {
		r.t.Fatal(err)
	}
	return out.String()
}

func (r *rig) startJob(in dataset.MatchJobRequest) dataset.MatchJob {
	r.t.Helper()
	job, err := r.StartMatchJob(r.a, in)
	if err != nil {
		r.t.Fatal(err)
	}
	return job
}

func names(from, to int) dataset.MatchJobRequest {
	var b strings.Builder
	b.WriteString("name,country\n")
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "Entity %d,CN\n", i)
	}
	return dataset.MatchJobRequest{File: dataset.File{Filename: "q.csv", Body: strings.NewReader(b.String())}}
}

// A job answers for every row what POST /matches answers, and says of a row
// that it cannot ask why.
func TestMatchJob(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, func(c *dataset.Config) { c.Turn = time.Nanosecond })
		list := r.create(r.a)
		r.run(list, "append", file(1, 30))
		src := "name,country,aliases,lat\nEntity 7,China,\"x; Alias 7\",200\n,CN,,\n" + strings.Repeat("n", 501) + ",,,\n=Nobody at all like this,,,\nAlias 9,,,\n"
		job := r.startJob(dataset.MatchJobRequest{File: dataset.File{Body: strings.NewReader(src)}, Options: `{"dataset_ids":["` + list + `"],"limit":2,"threshold":0.5}`})
		if job.Status != "queued" || job.Limit != 2 {
			t.Errorf("%+v", job)
		}
		job = r.work(job.ID)
		if job.Status != "succeeded" || job.RowsRead != 5 || job.RowsRejected != 2 || job.RowsMatched != 2 || r.levels.used != 3 {
			t.Fatalf("%+v, %d used", job, r.levels.used)
		}
		lines := strings.Split(strings.TrimSpace(r.result(job.ID, "jsonl")), "\n")
		if len(lines) != 5 {
			t.Fatalf("%d lines", len(lines))
		}
		for i, want := range []struct{ code, name string }{{"", "Entity 7"}, {"missing_name", ""}, {"too_long", ""}, {"", ""}, {"", "Entity 9"}} {
			var line struct {
				Line    int64
				Query   dataset.Query
				Matches []dataset.MatchResult
				Error   *dataset.ItemError
			}
			if err := json.Unmarshal([]byte(lines[i]), &line); err != nil || line.Line != int64(i+2) {
				t.Fatalf("%s: %v", lines[i], err)
			}
			if want.code != "" {
				if line.Error == nil || line.Error.Errors[0].Code != want.code || line.Error.Errors[0].Field != "name" || line.Error.Errors[0].Message == "" || line.Matches != nil {
					t.Errorf("line %d: %s", i, lines[i])
				}
				continue
			}
			half := 0.5
			one, err := r.Match(r.a, dataset.MatchRequest{Query: line.Query, MatchOptions: dataset.MatchOptions{DatasetIDs: []string{list}, Limit: 2, Threshold: &half}})
			a, _ := json.Marshal(one.Matches)
			b, _ := json.Marshal(line.Matches)
			if err != nil || !bytes.Equal(a, b) || want.name != "" && line.Matches[0].Entry.Name != want.name {
				t.Errorf("line %d: %s, alone %s (%v)", i, b, a, err)
			}
		}
		table, err := csv.NewReader(strings.NewReader(r.result(job.ID, "csv"))).ReadAll()
		if err != nil || table[1][2] != "match" || table[1][12] != "Entity 7" {
			t.Errorf("%v %v", err, table)
		}
		text := r.result(job.ID, "csv")
		for _, want := range []string{"3,,rejected,,,,,,,,,,,,,name,missing_name,The row has no name.", "At most 500 characters.", ",'=Nobody at all like this,no_match,"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if files, _ := os.ReadDir(r.dir); len(files) != 0 {
			t.Errorf("uploads stay: %v", files)
		}
		// A whole list against another; the answers are its entries'.
		two := r.create(r.a)
		r.run(two, "append", file(5, 6))
		r.run(two, "append", file(230, 330))
		r.levels.used = 0
		job = r.work(r.startJob(dataset.MatchJobRequest{DatasetID: two, MatchOptions: dataset.MatchOptions{DatasetIDs: []string{list}}}).ID)
		if job.Status != "succeeded" || job.RowsTotal != 103 || job.RowsRead != 103 || r.levels.used != 103 {
			t.Errorf("%+v", job)
		}
		if first := strings.SplitN(r.result(job.ID, "jsonl"), "\n", 2)[0]; !strings.Contains(first, `"name":"Entity 5","aliases":["Alias 5"]`) {
			t.Errorf("%s", first)
		}
		// Bad files and options say so.
		bad := r.work(r.startJob(dataset.MatchJobRequest{File: dataset.File{Body: strings.NewReader("a,b\n1,2\n")}}).ID)
		if bad.Status != "failed" || bad.ErrorCode != "no_name_column" || bad.ErrorMessage == "" {
			t.Errorf("%+v", bad)
		}
		for _, in := range []dataset.MatchJobRequest{{}, {Options: `{"limit":7,"x":1}`, File: dataset.File{Body: strings.NewReader("x")}}, {DatasetID: two, MatchOptions: dataset.MatchOptions{Limit: 101}}} {
			if _, err := r.StartMatchJob(r.a, in); domain.CodeOf(err) != "invalid" {
				t.Errorf("%+v: %v", in, err)
			}
		}
	})
}

// A killed worker's successor answers each row once and meters it once; of two
// workers on one job the slower one loses its batch, units included.
func TestMatchJobKilled(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		r.run(r.create(r.a), "append", file(1, 10))
		job := r.startJob(names(1, 250))
		books, killed := 0, errors.New("killed")
		r.levels.onBook = func() error {
			if books++; books == 2 {
				return killed
			}
			return nil
		}
		if err := r.RunMatchJob(r.a, dataset.RunMatch{ID: job.ID}); !errors.Is(err, killed) {
			t.Fatal(err)
		}
		if job, _ = r.GetMatchJob(r.a, dataset.IDRequest{ID: job.ID}); job.RowsRead != 100 || job.Status != "running" || r.levels.used != 100 {
			t.Fatalf("%+v, %d used", job, r.levels.used)
		}
		other := false
		r.levels.onBook = func() error { return nil }
		r.b.onRing = func() { // after each batch another worker does the next one first
			if !other {
				other = true
				r.b.mu.Lock()
				r.b.onRing = nil
				r.b.mu.Unlock()
				if err := r.RunMatchJob(r.a, dataset.RunMatch{ID: job.ID}); err != nil {
					t.Error(err)
				}
			}
		}
		if err := r.RunMatchJob(r.a, dataset.RunMatch{ID: job.ID}); err != nil {
			t.Fatal(err)
		}
		job = r.work(job.ID)
		sum := int64(0)
		for _, n := range r.levels.booked {
			sum += n
		}
		lines := strings.Count(r.result(job.ID, "jsonl"), "\n")
		if job.Status != "succeeded" || job.RowsRead != 250 || lines != 250 || r.levels.used != 250 || sum-10 != 250 {
			t.Errorf("%+v: %d lines, %d used, %d booked", job, lines, r.levels.used, sum)
		}
	})
}

// A quota used up in the middle is used to its last unit; what was done can be
// downloaded, and with more of it the job goes on where it was.
func TestMatchJobQuotaAndResume(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, nil)
		r.run(r.create(r.a), "append", file(1, 10))
		r.levels.quota = 137
		job := r.work(r.startJob(names(1, 250)).ID)
		if job.Status != "failed" || job.ErrorCode != "quota_exceeded" || job.RowsRead != 137 || r.levels.used != 137 || strings.Count(r.result(job.ID, "jsonl"), "\n") != 137 {
			t.Fatalf("%+v, %d used", job, r.levels.used)
		}
		r.levels.quota = -1
		if _, err := r.ResumeMatchJob(r.a, dataset.IDRequest{ID: job.ID}); err != nil {
			t.Fatal(err)
		}
		job = r.work(job.ID)
		if job.Status != "succeeded" || job.RowsRead != 250 || r.levels.used != 250 || job.ErrorCode != "" {
			t.Errorf("%+v, %d used", job, r.levels.used)
		}
		if _, err := r.ResumeMatchJob(r.a, dataset.IDRequest{ID: job.ID}); domain.CodeOf(err) != "upload_lost" {
			t.Error(err)
		}
		// Cancelled, it keeps what was done; deleted, nothing is left.
		job = r.startJob(names(1, 5))
		job, err := r.CancelMatchJob(r.a, dataset.IDRequest{ID: job.ID})
		if err != nil || job.Status != "cancelled" {
			t.Errorf("%+v %v", job, err)
		}
		if job = r.work(job.ID); job.RowsRead != 0 {
			t.Errorf("a cancelled job ran: %+v", job)
		}
		if _, err := r.CancelMatchJob(r.a, dataset.IDRequest{ID: job.ID}); domain.CodeOf(err) != "job_ended" {
			t.Error(err)
		}
		if _, err := r.ResumeMatchJob(r.a, dataset.IDRequest{ID: job.ID}); err != nil {
			t.Error(err)
		}
		if job = r.work(job.ID); job.Status != "succeeded" || job.RowsRead != 5 {
			t.Errorf("%+v", job)
		}
		page, err := r.ListMatchJobs(r.a, dataset.ListRequest{})
		if err != nil || len(page.Data) != 2 || page.Data[0].ID != job.ID {
			t.Errorf("%+v %v", page, err)
		}
		for _, j := range page.Data {
			in := dataset.IDRequest{ID: j.ID}
			_, err := r.DeleteMatchJob(r.z, in)
			notFound(t, "another tenant's DELETE", err)
			_, err = r.GetMatchJob(r.z, in)
			notFound(t, "another tenant's GET", err)
			notFound(t, "another tenant's result", r.MatchJobResult(r.z, dataset.ResultRequest{ID: j.ID}, &bytes.Buffer{}))
			if _, err := r.DeleteMatchJob(r.a, in); err != nil {
				t.Error(err)
			}
			_, err = r.GetMatchJob(r.a, in)
			notFound(t, "after DELETE", err)
			if err := r.RunPurgeMatch(r.a, dataset.PurgeMatch{ID: j.ID}); err != nil {
				t.Error(err)
			}
		}
		for _, table := range []string{"match_jobs", "match_results"} {
			var n int64
			err := db.Read(r.a, func(ctx context.Context) error {
				return db.SQL(ctx, "SELECT count(*) FROM "+table+" WHERE tenant_id = @tenant", nil).Scan(&n).Error
			})
			if err != nil || n != 0 {
				t.Errorf("%d rows of %s stay (%v)", n, table, err)
			}
		}
	})
}

// A list that is replaced while a job reads it is read to its end as it was;
// then it goes.
func TestMatchJobHoldsItsSource(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		r := newRig(t, db, func(c *dataset.Config) { c.Turn = time.Nanosecond })
		list, source := r.create(r.a), r.create(r.a)
		r.run(list, "append", file(1, 10))
		r.run(source, "append", file(1, 250))
		job := r.startJob(dataset.MatchJobRequest{DatasetID: source, MatchOptions: dataset.MatchOptions{DatasetIDs: []string{list}}})
		if err := r.RunMatchJob(r.a, dataset.RunMatch{ID: job.ID}); err != nil { // one turn
			t.Fatal(err)
		}
		r.run(source, "replace", file(900, 901))
		if err := r.RunPurge(r.a, dataset.PurgeJob{DatasetID: source}); err != nil {
			t.Fatal(err)
		}
		if job = r.work(job.ID); job.Status != "succeeded" || job.RowsRead != 250 {
			t.Errorf("%+v", job)
		}
		if err := r.RunPurge(r.a, dataset.PurgeJob{DatasetID: source}); err != nil || len(r.names(source)) != 2 {
			t.Error(err)
		}
		var n int64
		err := db.Read(r.a, func(ctx context.Context) error {
			return db.For(ctx).Model(&dataset.Entry{}).Where("dataset_id = ?", source).Count(&n).Error
		})
		if err != nil || n != 2 {
			t.Errorf("%d entries stay: %v", n, err)
		}
	})
}
