package dataset

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/sheet"
	"github.com/chainreactions/chainreactions/domain/store"
)

// MatchJob is every row of a file or of a dataset against datasets, as stored
// and as answered. It is worked in batches and in turns:
//
//	queued ──> running ──> succeeded
//	   ↑          ├──────> failed      (the quota used up, a file that cannot be read)
//	   └──────────┴──────> cancelled
//	 resume: from failed or cancelled
//
// One transaction stores a batch's answers, moves the checkpoint (rows_read)
// and books the units, so that a killed worker's successor answers and meters
// every row once. After a turn a worker queues the job again behind those of
// others. What was done stays, and can be downloaded, in every state.
type MatchJob struct {
	store.Owned
	ID           string     `json:"id" gorm:"primaryKey"`
	Status       string     `json:"status" enum:"queued,running,succeeded,failed,cancelled"`
	SourceID     string     `json:"dataset_id,omitempty" doc:"the list whose entries are the queries; none for a file"`
	Source       []string   `json:"-" gorm:"serializer:json"`
	Options      string     `json:"-"`
	Filename     string     `json:"filename,omitempty"`
	MediaType    string     `json:"-"`
	Sheet        string     `json:"-"`
	Mapping      string     `json:"-"`
	SizeBytes    int64      `json:"size_bytes,omitempty"`
	Attempts     int64      `json:"-"`
	RowsTotal    int64      `json:"rows_total" doc:"0 where it is not known before the end"`
	RowsRead     int64      `json:"rows_read" doc:"answered or rejected"`
	Place        string     `json:"-"`
	RowsMatched  int64      `json:"rows_matched" doc:"with at least one match"`
	RowsRejected int64      `json:"rows_rejected" doc:"not metered; the result says why"`
	Matches      int64      `json:"matches"`
	BytesRead    int64      `json:"bytes_read,omitempty"`
	ErrorCode    string     `json:"error_code,omitempty"`
	ErrorMessage string     `json:"error_message,omitempty" gorm:"-" doc:"in the language of Accept-Language"`
	ErrorDetail  string     `json:"-"`
	CreatedAt    time.Time  `json:"created_at"`
	StartedAt    *time.Time `json:"started_at" nullable:"true"`
	EndedAt      *time.Time `json:"ended_at" nullable:"true"`
	DeletedAt    *time.Time `json:"-"`

	MatchOptions `gorm:"-"`
}

// TableName is GORM's.
func (MatchJob) TableName() string { return "match_jobs" }

// Ended reports whether nobody works on the job any more.
func (j *MatchJob) Ended() bool { return j.Status != Queued && j.Status != Running }

// word reads what is stored for machines into what is answered.
func (j *MatchJob) word(ctx context.Context) error {
	if j.ErrorDetail != "" {
		j.ErrorMessage = storedFailure(j.ErrorDetail).in(domain.LanguageOf(ctx))
	}
	return unmarshalText(j.Options, &j.MatchOptions)
}

// MatchJobRequest starts a job: a file, or a dataset in a JSON body.
type MatchJobRequest struct {
	File
	Options   string `query:"options" json:"-" maxLength:"20000" doc:"with a file: a JSON object of dataset_ids, threshold, limit, explain and weights"`
	DatasetID string `json:"dataset_id,omitempty" maxLength:"64" doc:"the list whose entries are the queries"`
	MatchOptions
}

// RunMatch is the job that works on a MatchJob for one turn.
type RunMatch struct {
	ID string `json:"id"`
}

// Kind is the queue's.
func (RunMatch) Kind() string { return "match.run" }

// StartMatchJob takes the file in, or notes the list, and queues the work.
func (d *Datasets) StartMatchJob(ctx context.Context, in MatchJobRequest) (job MatchJob, err error) {
	if in.Options != "" {
		if err := strict(in.Options, &in.MatchOptions); err != nil {
			return job, domain.InvalidField("options", "malformed", "The options are a JSON object: dataset_ids, threshold, limit, explain, weights.").Because(err)
		}
	}
	mapping, err := in.mapping()
	if err != nil {
		return job, err
	}
	switch {
	case in.Body == nil && in.DatasetID == "":
		return job, domain.InvalidField("dataset_id", "required", "A file or a dataset is required.")
	case in.Limit == 0:
		in.Limit = 10
	}
	if _, err := d.prepare(ctx, in.MatchOptions); err != nil { // before a gigabyte is taken in
		return job, err
	}
	if err := d.admit(ctx, RunMatch{}); err != nil {
		return job, err
	}
	job = MatchJob{ID: domain.NewID("job"), Status: Queued, SourceID: in.DatasetID, Source: []string{}, Options: jsonText(in.MatchOptions),
		Filename: clip(filepath.Base(in.Filename), 255), MediaType: clip(in.MediaType, 255), Sheet: in.Sheet, Mapping: jsonText(mapping), CreatedAt: d.now(),
		MatchOptions: in.MatchOptions}
	if in.Body != nil {
		job.SourceID = ""
		if job.SizeBytes, err = d.takeFile(d.path(job.ID), in.Body); err != nil {
			return MatchJob{}, err
		}
	} else {
		job.Filename = ""
	}
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		if job.SourceID != "" {
			set, err := d.lock(ctx, job.SourceID)
			if err != nil {
				return err
			}
			job.RowsTotal = set.Rows
			if job.Source, err = d.visible(ctx, set.ID); err != nil {
				return err
			}
		}
		if err := d.Queue.Admit(ctx, RunMatch{}, 0); err != nil {
			return err
		}
		if err := d.st.For(ctx).Create(&job).Error; err != nil {
			return err
		}
		if err := d.Queue.Enqueue(ctx, RunMatch{job.ID}, domain.JobOptions{Priority: 3}); err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "match_job.start", Target: job.ID,
			Detail: map[string]any{"dataset": job.SourceID, "size_bytes": job.SizeBytes, "against": len(job.DatasetIDs)}})
	})
	if err != nil {
		d.dropFile(job.ID)
		return MatchJob{}, err
	}
	return job, nil
}

// visible gives the imports that readers of a list see, in order.
func (d *Datasets) visible(ctx context.Context, id string) (imports []string, err error) {
	imports = []string{}
	err = d.st.For(ctx).Model(&Import{}).Where("dataset_id = ? AND visible = ?", id, true).Order("id").Pluck("id", &imports).Error
	return imports, err
}

// strict decodes JSON text and refuses what it does not know.
func strict(text string, into any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, more := dec.Token(); more != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// GetMatchJob gives one job.
func (d *Datasets) GetMatchJob(ctx context.Context, in IDRequest) (job MatchJob, err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error { job, err = d.matchJob(ctx, in.ID); return err })
	return job, err
}

// matchJob reads a job that is not deleted.
func (d *Datasets) matchJob(ctx context.Context, id string) (job MatchJob, err error) {
	if err = d.st.For(ctx).Where("id = ? AND deleted_at IS NULL", id).Take(&job).Error; err != nil {
		return job, err
	}
	return job, job.word(ctx)
}

// ListMatchJobs gives the newest jobs first.
func (d *Datasets) ListMatchJobs(ctx context.Context, in ListRequest) (page domain.Page[MatchJob], err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error {
		page, err = store.Newest(d.st.For(ctx).Where("deleted_at IS NULL"), in.PageRequest, func(j MatchJob) string { return j.ID })
		return err
	})
	for i := range page.Data {
		err = errors.Join(err, page.Data[i].word(ctx))
	}
	return page, err
}

// WatchMatchJob sends the state of a job now and whenever it changes, until it
// has ended or send fails.
func (d *Datasets) WatchMatchJob(ctx context.Context, in WatchRequest, send func(Event) error) error {
	return d.watch(ctx, in, send, func() (Event, bool, error) {
		job, err := d.GetMatchJob(ctx, IDRequest{in.ID})
		return Event{fmt.Sprintf("%d-%s", job.RowsRead, job.Status), job.Status, job}, job.Ended(), err
	})
}

// CancelMatchJob stops a job that has not ended; what was done stays.
func (d *Datasets) CancelMatchJob(ctx context.Context, in IDRequest) (job MatchJob, err error) {
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		if job, err = d.matchJob(ctx, in.ID); err != nil {
			return err
		}
		done, err := d.endMatchJob(ctx, &job, Cancelled, nil)
		if err != nil {
			return err
		}
		if !done {
			return domain.E(domain.Conflict, "job_ended", "The job has ended already.")
		}
		if err := d.Audit.Record(ctx, audit.Entry{Action: "match_job.cancel", Target: job.ID}); err != nil {
			return err
		}
		job, err = d.matchJob(ctx, in.ID)
		return err
	})
	return job, err
}

// ResumeMatchJob goes on with a job that failed or was cancelled, from the
// first row that has no answer.
func (d *Datasets) ResumeMatchJob(ctx context.Context, in IDRequest) (job MatchJob, err error) {
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		if job, err = d.matchJob(ctx, in.ID); err != nil {
			return err
		}
		if job.SourceID != "" { // held for jobs that run; this one did not
			now, err := d.visible(ctx, job.SourceID)
			if err != nil {
				return err
			}
			for _, im := range job.Source {
				if !slices.Contains(now, im) {
					return domain.E(domain.Conflict, "source_changed", "The list that the job reads was replaced; start another job.")
				}
			}
		} else if _, err := os.Stat(d.path(job.ID)); err != nil {
			return domain.E(domain.Conflict, "upload_lost", "The uploaded file is not there any more.").Because(err)
		}
		n, err := d.st.Exec(ctx, `UPDATE match_jobs SET status = 'queued', attempts = 0, error_code = '', error_detail = '', ended_at = NULL
			WHERE tenant_id = @tenant AND id = @id AND status IN ('failed', 'cancelled') AND deleted_at IS NULL`, map[string]any{"id": job.ID})
		if err != nil {
			return err
		}
		if n == 0 {
			return domain.E(domain.Conflict, "not_resumable", "Only a job that failed or was cancelled can be resumed.")
		}
		if err := d.Queue.Admit(ctx, RunMatch{}, 0); err != nil {
			return err
		}
		if err := d.Queue.Enqueue(ctx, RunMatch{job.ID}, domain.JobOptions{Priority: 3}); err != nil {
			return err
		}
		if err := d.Audit.Record(ctx, audit.Entry{Action: "match_job.resume", Target: job.ID}); err != nil {
			return err
		}
		d.st.AfterCommit(ctx, func() { d.Bell.Ring(context.WithoutCancel(ctx), topic(job.ID)) })
		job, err = d.matchJob(ctx, in.ID)
		return err
	})
	return job, err
}

// DeleteMatchJob cancels a job where it runs, and takes it and its answers
// away.
func (d *Datasets) DeleteMatchJob(ctx context.Context, in IDRequest) (struct{}, error) {
	return struct{}{}, d.st.Tx(ctx, func(ctx context.Context) error {
		job, err := d.matchJob(ctx, in.ID)
		if err != nil {
			return err
		}
		if _, err := d.endMatchJob(ctx, &job, Cancelled, nil); err != nil {
			return err
		}
		n, err := d.st.Exec(ctx, "UPDATE match_jobs SET deleted_at = @now WHERE tenant_id = @tenant AND id = @id AND deleted_at IS NULL", map[string]any{"id": job.ID, "now": d.now()})
		if err != nil {
			return err
		}
		if n == 0 {
			return domain.ErrNotFound()
		}
		if err := d.Queue.Enqueue(ctx, PurgeMatch{job.ID}, domain.JobOptions{Priority: 4}); err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "match_job.delete", Target: job.ID})
	})
}

// PurgeMatch removes the answers of a deleted job.
type PurgeMatch struct {
	ID string `json:"id"`
}

// Kind is the queue's.
func (PurgeMatch) Kind() string { return "match.purge" }

// RunPurgeMatch does a PurgeMatch. It may be repeated.
func (d *Datasets) RunPurgeMatch(ctx context.Context, job PurgeMatch) error {
	d.dropFile(job.ID)
	for n := int64(1); n > 0; {
		err := d.st.Tx(ctx, func(ctx context.Context) (err error) {
			n, err = d.st.Exec(ctx, `DELETE FROM match_results WHERE tenant_id = @tenant AND job_id = @job AND seq IN
				(SELECT seq FROM match_results WHERE tenant_id = @tenant AND job_id = @job LIMIT 5000)`, map[string]any{"job": job.ID})
			return err
		})
		if err != nil {
			return err
		}
	}
	return d.st.Tx(ctx, func(ctx context.Context) error {
		return d.st.For(ctx).Where("id = ? AND deleted_at IS NOT NULL", job.ID).Delete(&MatchJob{}).Error
	})
}

// endMatchJob moves a job that has not ended to an end. done is false where it
// had ended.
func (d *Datasets) endMatchJob(ctx context.Context, job *MatchJob, status string, why error) (done bool, err error) {
	args := map[string]any{"id": job.ID, "status": status, "now": d.now(), "code": "", "detail": ""}
	if why != nil {
		f := failureOf(why)
		args["code"], args["detail"] = f.Code, jsonText(f)
	}
	n, err := d.st.Exec(ctx, `UPDATE match_jobs SET status = @status, ended_at = @now, error_code = @code, error_detail = @detail
		WHERE tenant_id = @tenant AND id = @id AND status IN ('queued', 'running')`, args)
	if err != nil || n == 0 {
		return false, err
	}
	if job.SourceID != "" { // what was held for the job may go
		if err := d.Queue.Enqueue(ctx, PurgeJob{DatasetID: job.SourceID}, domain.JobOptions{Priority: 4, At: d.now().Add(d.PurgeAfter)}); err != nil {
			return false, err
		}
	}
	d.st.AfterCommit(ctx, func() {
		if status == Succeeded {
			d.dropFile(job.ID)
		}
		d.Bell.Ring(context.WithoutCancel(ctx), topic(job.ID))
	})
	return true, nil
}

// RunMatchJob works on a job for one turn, from where it was left. An error
// means: try again later.
func (d *Datasets) RunMatchJob(ctx context.Context, run RunMatch) error {
	var job MatchJob
	err := d.st.Tx(ctx, func(ctx context.Context) error {
		_, err := d.st.Exec(ctx, `UPDATE match_jobs SET status = 'running', attempts = attempts + 1, started_at = coalesce(started_at, @now)
			WHERE tenant_id = @tenant AND id = @id AND status IN ('queued', 'running')`, map[string]any{"id": run.ID, "now": d.now()})
		if err != nil {
			return err
		}
		job, err = d.matchJob(ctx, run.ID)
		return err
	})
	if domain.KindOf(err) == domain.NotFound || err == nil && job.Ended() {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.matchTurn(ctx, &job)
	switch {
	case err == nil, errors.Is(err, errSuperseded):
		return nil
	case final(err):
	case ctx.Err() == nil && job.Attempts >= mostAttempts:
		d.Logger.ErrorContext(ctx, "a match job is given up", "job", job.ID, "err", err)
	default:
		return err
	}
	return d.st.Tx(ctx, func(ctx context.Context) error {
		done, err := d.endMatchJob(ctx, &job, Failed, err)
		if err != nil || !done {
			return err
		}
		return d.Audit.Record(domain.Itself(ctx, "match job"), audit.Entry{Action: "match_job.fail", Target: job.ID})
	})
}

// asked is one row of the source.
type asked struct {
	line   int64
	place  string // of a dataset: the entry
	query  Query
	issues []rowFault // why it cannot be asked
}

// rowFault is why a row was rejected, worded when it is read.
type rowFault struct {
	Column string `json:"column"`
	Code   string `json:"code"`
	Value  string `json:"value,omitempty"`
	Format string `json:"format,omitempty"`
	Args   []any  `json:"args,omitempty"`
}

const matchBatch = 100 // rows a transaction

// matchTurn answers batches until the source or the turn is over.
func (d *Datasets) matchTurn(ctx context.Context, job *MatchJob) error {
	read, stop, err := d.source(ctx, job)
	if err != nil {
		return err
	}
	defer stop()
	turn := d.now().Add(d.Turn)
	var ahead []asked
	for {
		rows := ahead
		var end error
		if len(rows) == 0 {
			if rows, end = read(ctx); end != nil && !errors.Is(end, io.EOF) {
				return end
			}
		}
		rows, ahead, err = d.answer(ctx, job, rows, func(done int) bool { return end == nil && done == len(rows) && !d.now().Before(turn) })
		if err != nil {
			return err
		}
		if len(ahead) == 0 && end != nil {
			return d.st.Tx(ctx, func(ctx context.Context) error {
				done, err := d.endMatchJob(ctx, job, Succeeded, nil)
				if err != nil || !done {
					return err
				}
				return d.Audit.Record(domain.Itself(ctx, "match job"), audit.Entry{Action: "match_job.finish", Target: job.ID,
					Detail: map[string]any{"rows": job.RowsRead, "matched": job.RowsMatched, "rejected": job.RowsRejected}})
			})
		}
		if rows == nil { // the turn is over; the job is queued again
			return nil
		}
	}
}

// answer matches rows and stores the answers. Where the quota carries only
// some of them, the others are given back as rest. over tells whether the turn
// ends after so many rows; then the job is queued in the same transaction and
// done is nil.
func (d *Datasets) answer(ctx context.Context, job *MatchJob, rows []asked, over func(done int) bool) (done, rest []asked, err error) {
	if len(rows) == 0 {
		return []asked{}, nil, nil
	}
	m, err := d.prepare(ctx, job.MatchOptions)
	if err != nil {
		return nil, nil, err
	}
	book := func(context.Context, int64, string) error { return nil }
	units := int64(0)
	for all := rows; ; rows = rows[:max(1, len(rows)/2)] {
		units = 0
		for i := range rows {
			if len(rows[i].issues) == 0 {
				units++
			}
		}
		rest = all[len(rows):]
		if units == 0 {
			break
		}
		var finished func()
		if book, finished, err = d.Levels.Reserve(ctx, "match", units); err == nil {
			defer finished()
			break
		}
		if domain.CodeOf(err) != "quota_exceeded" || len(rows) == 1 {
			return nil, nil, err
		}
	}
	next := *job
	results := make([][]any, len(rows))
	for i := range rows {
		r := &rows[i]
		found := []MatchResult{}
		if len(r.issues) == 0 {
			if found, err = m.search(ctx, r.query); err != nil {
				return nil, nil, err
			}
		} else {
			next.RowsRejected++
		}
		if len(found) > 0 {
			next.RowsMatched++
			next.Matches += int64(len(found))
		}
		issues := ""
		if len(r.issues) > 0 {
			issues = clean(jsonText(r.issues))
		}
		results[i] = []any{job.ID, job.RowsRead + int64(i), r.line, clean(jsonText(r.query)), clean(jsonText(found)), issues}
		next.Place = r.place
	}
	next.RowsRead += int64(len(rows))
	last := over(len(rows))
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		n, err := d.st.Exec(ctx, `UPDATE match_jobs SET rows_read = @read, rows_matched = @matched, rows_rejected = @rejected, matches = @matches,
				bytes_read = @bytes, place = @place, attempts = 0
			WHERE tenant_id = @tenant AND id = @id AND status = 'running' AND rows_read = @before`, map[string]any{
			"id": job.ID, "before": job.RowsRead, "read": next.RowsRead, "matched": next.RowsMatched, "rejected": next.RowsRejected,
			"matches": next.Matches, "bytes": next.BytesRead, "place": next.Place})
		if err != nil {
			return err
		}
		if n == 0 {
			return errSuperseded
		}
		if err := d.st.Bulk(ctx, "match_results", []string{"job_id", "seq", "line", "query", "matches", "issues"}, results); err != nil {
			return err
		}
		if err := book(ctx, units, fmt.Sprintf("%s:%d", job.ID, job.RowsRead)); err != nil {
			return err
		}
		if last {
			if err := d.Queue.Enqueue(ctx, RunMatch{job.ID}, domain.JobOptions{Priority: 3}); err != nil {
				return err
			}
		}
		d.st.AfterCommit(ctx, func() { d.Bell.Ring(context.WithoutCancel(ctx), topic(job.ID)) })
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	next.Attempts = 0
	*job = next
	if last {
		return nil, nil, nil
	}
	return rows, rest, nil
}

// source opens what the job reads, at its checkpoint.
func (d *Datasets) source(ctx context.Context, job *MatchJob) (read func(context.Context) ([]asked, error), stop func(), err error) {
	if job.SourceID != "" {
		return d.entrySource(job), func() {}, nil
	}
	f, err := os.Open(d.path(job.ID))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, domain.E(domain.NotFound, "upload_lost", "The uploaded file is not there any more.").Because(err)
	}
	if err != nil {
		return nil, nil, err
	}
	options := sheet.Options{Filename: job.Filename, MediaType: job.MediaType, Sheet: job.Sheet}
	if err := unmarshalText(job.Mapping, &options.Mapping); err != nil {
		f.Close()
		return nil, nil, err
	}
	r, err := sheet.Open(f, job.SizeBytes, options)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	stop = func() { _, _ = r.Close(), f.Close() }
	for n := range job.RowsRead {
		if n%10_000 == 0 && ctx.Err() != nil {
			stop()
			return nil, nil, ctx.Err()
		}
		if _, err := r.Next(); err != nil {
			stop()
			return nil, nil, fmt.Errorf("the upload is shorter than it was: %w", err)
		}
	}
	return func(context.Context) (rows []asked, err error) {
		for len(rows) < matchBatch {
			row, err := r.Next()
			if err != nil {
				job.BytesRead = r.BytesRead()
				return rows, err
			}
			rows = append(rows, fileQuery(row))
		}
		job.BytesRead = r.BytesRead()
		return rows, nil
	}, stop, nil
}

// fileQuery makes a row of a file a query.
func fileQuery(row sheet.Row) asked {
	rec := &row.Record
	a := asked{line: row.Line, query: Query{Name: rec.Name, Aliases: rec.Aliases, Latitude: rec.Latitude, Longitude: rec.Longitude}}
	if len(rec.Countries) > 0 {
		a.query.Country = &rec.Countries[0]
	}
	if len(rec.Cities) > 0 {
		a.query.City = &rec.Cities[0]
	}
	if row.Rejected {
		for _, is := range row.Issues {
			if is.Severity == "error" {
				a.issues = append(a.issues, rowFault{Column: is.Column, Code: is.Code, Value: is.Value})
			}
		}
	}
	return a.checked()
}

// checked holds the query to what POST /matches takes.
func (a asked) checked() asked {
	if a.query.Aliases == nil {
		a.query.Aliases = []string{}
	}
	if len(a.issues) > 0 {
		return a
	}
	var e *domain.Error
	if errors.As(a.query.check(""), &e) {
		for _, f := range e.Fields {
			a.issues = append(a.issues, rowFault{Column: strings.TrimPrefix(f.Name, "."), Code: f.Code, Format: f.Format, Args: f.Args})
		}
	}
	return a
}

// entrySource reads a list as it was when the job started.
func (d *Datasets) entrySource(job *MatchJob) func(context.Context) ([]asked, error) {
	place := job.Place // import and entry
	return func(ctx context.Context) (rows []asked, err error) {
		im, after, _ := strings.Cut(place, "/")
		for _, id := range job.Source {
			if id < im {
				continue
			}
			if id > im {
				after = ""
			}
			var entries []Entry
			err := d.st.Read(ctx, func(ctx context.Context) error {
				return d.st.For(ctx).Where("import_id = ? AND id > ?", id, after).Order("id").Limit(matchBatch).Find(&entries).Error
			})
			if err != nil {
				return nil, err
			}
			for i := range entries {
				e := &entries[i]
				a := asked{line: e.Line, place: id + "/" + e.ID, query: Query{Name: e.Name, Aliases: e.Aliases, Latitude: e.Latitude, Longitude: e.Longitude}}
				if len(e.Countries) > 0 {
					a.query.Country = &e.Countries[0]
				}
				if len(e.Cities) > 0 {
					a.query.City = &e.Cities[0]
				}
				rows = append(rows, a.checked())
				place = a.place
			}
			if len(rows) > 0 {
				return rows, nil
			}
		}
		return nil, io.EOF
	}
}

// matchResult is one stored answer.
type matchResult struct {
	store.Owned
	JobID   string `gorm:"primaryKey"`
	Seq     int64  `gorm:"primaryKey;autoIncrement:false"`
	Line    int64
	Query   string
	Matches string
	Issues  string
}

func (matchResult) TableName() string { return "match_results" }

// ResultRequest names the job and the format.
type ResultRequest struct {
	ID     string `path:"id" json:"-" maxLength:"64"`
	Format string `query:"format" json:"-" enum:"csv,jsonl" default:"csv"`
}

// ResultLine is one line of a result as JSON Lines: a row of the source and
// its matches, or why it was rejected.
type ResultLine struct {
	Line    int64           `json:"line"`
	Query   json.RawMessage `json:"query"`
	Matches json.RawMessage `json:"matches,omitempty"`
	Error   *ItemError      `json:"error,omitempty"`
}

// MatchJobResult writes the answers so far, in the order of the source. In CSV
// a row has a line for each match, or one that says that there is none.
func (d *Datasets) MatchJobResult(ctx context.Context, in ResultRequest, w io.Writer) error {
	if _, err := d.GetMatchJob(ctx, IDRequest{in.ID}); err != nil {
		return err
	}
	buf := bufio.NewWriterSize(w, 64<<10)
	line := d.jsonResult(ctx, buf)
	switch in.Format {
	case "", "csv":
		line = d.csvResult(ctx, buf)
	case "jsonl":
	default:
		return domain.InvalidField("format", "invalid_format", "The format is csv or jsonl.")
	}
	for after := int64(-1); ; {
		var rows []matchResult
		err := d.st.Read(ctx, func(ctx context.Context) error {
			return d.st.For(ctx).Where("job_id = ? AND seq > ?", in.ID, after).Order("seq").Limit(500).Find(&rows).Error
		})
		if err != nil {
			return err
		}
		for i := range rows {
			after = rows[i].Seq
			if err := line(&rows[i]); err != nil {
				return err
			}
		}
		if len(rows) == 0 {
			return buf.Flush()
		}
	}
}

// faults words what was wrong with a row.
func (r *matchResult) faults(language string) (out []ItemField, err error) {
	if r.Issues == "" {
		return nil, nil
	}
	var stored []rowFault
	if err := unmarshalText(r.Issues, &stored); err != nil {
		return nil, err
	}
	for _, f := range stored {
		if f.Format == "" {
			f.Format = sheet.Messages[f.Code][0]
		}
		text := storedFailure(jsonText(failure{Format: f.Format, Args: f.Args})).in(language)
		if f.Value != "" {
			text += " (" + f.Value + ")"
		}
		out = append(out, ItemField{f.Column, f.Code, text})
	}
	return out, nil
}

func (d *Datasets) jsonResult(ctx context.Context, w io.Writer) func(*matchResult) error {
	language := domain.LanguageOf(ctx)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(r *matchResult) error {
		out := ResultLine{Line: r.Line, Query: json.RawMessage(r.Query)}
		faults, err := r.faults(language)
		if err != nil {
			return err
		}
		if faults == nil {
			out.Matches = json.RawMessage(r.Matches)
		} else {
			out.Error = itemError(ctx, domain.Fields())
			out.Error.Errors = faults
		}
		return enc.Encode(out)
	}
}

func (d *Datasets) csvResult(ctx context.Context, w io.Writer) func(*matchResult) error {
	language := domain.LanguageOf(ctx)
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write([]string{"line", "query", "status", "rank", "score", "confidence", "quality", "match_type", "matched_name",
		"dataset_id", "entry_id", "external_id", "name", "aliases", "countries", "error_column", "error_code", "error"})
	write := func(cells ...string) {
		for i := range cells {
			cells[i] = sheet.Guard(cells[i])
		}
		_ = out.Write(append(cells, make([]string, 18-len(cells))...))
	}
	return func(r *matchResult) error {
		var q Query
		var found []MatchResult
		faults, err := r.faults(language)
		if err := errors.Join(err, unmarshalText(r.Query, &q), unmarshalText(r.Matches, &found)); err != nil {
			return err
		}
		line := strconv.FormatInt(r.Line, 10)
		for _, f := range faults {
			write(line, q.Name, "rejected", "", "", "", "", "", "", "", "", "", "", "", "", f.Field, f.Code, f.Message)
		}
		if len(found) == 0 && len(faults) == 0 {
			write(line, q.Name, "no_match")
		}
		for i, m := range found {
			write(line, q.Name, "match", strconv.Itoa(i+1), number4(m.Score), number4(m.Confidence), m.Quality, string(m.MatchType), m.MatchedName,
				m.Entry.DatasetID, m.Entry.ID, m.Entry.ExternalID, m.Entry.Name, strings.Join(m.Entry.Aliases, "; "), strings.Join(m.Entry.Countries, "; "))
		}
		out.Flush()
		return out.Error()
	}
}

func number4(f float64) string { return strconv.FormatFloat(f, 'f', 4, 64) }
