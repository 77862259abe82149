package dataset

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/sheet"
	"github.com/chainreactions/chainreactions/domain/store"
)

// The states of an import.
const (
	Queued    = "queued"
	Running   = "running"
	Succeeded = "succeeded"
	Failed    = "failed"
	Cancelled = "cancelled"
)

// The modes of an import.
const (
	Append  = "append"
	Replace = "replace"
)

// Import is one file on its way into a dataset, as stored and as answered.
type Import struct {
	store.Owned
	ID             string         `json:"id" gorm:"primaryKey"`
	DatasetID      string         `json:"dataset_id"`
	Mode           string         `json:"mode" enum:"append,replace"`
	DryRun         bool           `json:"dry_run" doc:"read and reported, nothing stored"`
	Filename       string         `json:"filename"`
	MediaType      string         `json:"media_type"`
	Mapping        string         `json:"-"`
	SizeBytes      int64          `json:"size_bytes"`
	Status         string         `json:"status" enum:"queued,running,succeeded,failed,cancelled"`
	Searchable     bool           `json:"-"`
	Visible        bool           `json:"-"`
	Attempts       int64          `json:"-"`
	RowsRead       int64          `json:"rows_read"`
	RowsAccepted   int64          `json:"rows_accepted"`
	RowsRejected   int64          `json:"rows_rejected"`
	Issues         int64          `json:"issues" doc:"found; the error file holds the first 10,000"`
	BytesRead      int64          `json:"bytes_read"`
	RowsTaken      int64          `json:"-"`
	CatalogVersion int64          `json:"catalog_version,omitempty" doc:"of the published list that is imported"`
	Format         string         `json:"format"`
	Encoding       string         `json:"encoding"`
	Delimiter      string         `json:"delimiter"`
	Sheet          string         `json:"sheet" doc:"of a workbook: the one that was read"`
	Sheets         []string       `json:"sheets" nullable:"false" gorm:"serializer:json" doc:"of a workbook: the first hundred that there are"`
	Columns        []sheet.Column `json:"columns" nullable:"false" gorm:"serializer:json" doc:"of the file, each with the field that it was taken for"`
	ErrorCode      string         `json:"error_code,omitempty"`
	ErrorMessage   string         `json:"error_message,omitempty" doc:"in the language of Accept-Language"`
	ErrorDetail    string         `json:"-"`
	CreatedAt      time.Time      `json:"created_at"`
	StartedAt      *time.Time     `json:"started_at" nullable:"true"`
	EndedAt        *time.Time     `json:"ended_at" nullable:"true"`
}

// TableName is GORM's.
func (Import) TableName() string { return "dataset_imports" }

// Ended reports whether the status will not change any more.
func (i *Import) Ended() bool { return i.Status != Queued && i.Status != Running }

// word puts the reason of a failure into the caller's language.
func (i *Import) word(ctx context.Context) {
	if i.ErrorDetail != "" {
		i.ErrorMessage = storedFailure(i.ErrorDetail).in(domain.LanguageOf(ctx))
	}
}

// File is a list on its way in, and how to read it. Body is read to its end.
type File struct {
	Filename  string    `json:"-"`
	MediaType string    `json:"-"`
	Body      io.Reader `json:"-"`
	Sheet     string    `query:"sheet" json:"-" maxLength:"200" doc:"of a workbook; none is the first that holds a list"`
	Mapping   string    `query:"mapping" json:"-" maxLength:"20000" doc:"a JSON object of headers and what they mean, over what is detected: {\"Org\": \"name\", \"Memo\": \"properties.memo\"}"`
}

// mapping reads what the caller says of the columns.
func (f *File) mapping() (out map[string]string, err error) {
	if f.Mapping != "" && (json.Unmarshal([]byte(f.Mapping), &out) != nil || len(out) > 1000) {
		return nil, domain.InvalidField("mapping", "invalid_mapping", "The mapping is a JSON object of headers and fields.")
	}
	return out, nil
}

// ImportRequest is a file for a dataset.
type ImportRequest struct {
	DatasetID string `path:"id" json:"-" maxLength:"64"`
	Mode      string `query:"mode" json:"-" enum:"append,replace" default:"append"`
	DryRun    bool   `query:"dry_run" json:"-"`
	File
}

// ImportJob runs an import.
type ImportJob struct {
	ID string `json:"id"`
}

// Kind is the queue's.
func (ImportJob) Kind() string { return "dataset.import" }

// StartImport takes the file in, to the disk, and queues the work.
func (d *Datasets) StartImport(ctx context.Context, in ImportRequest) (Import, error) {
	if in.Mode == "" {
		in.Mode = Append
	}
	if in.Mode != Append && in.Mode != Replace {
		return Import{}, domain.InvalidField("mode", "invalid_mode", "The mode is append or replace.")
	}
	if in.Body == nil {
		return Import{}, domain.InvalidField("file", "required", "A file is required.")
	}
	mapping, err := in.mapping()
	if err != nil {
		return Import{}, err
	}
	set, err := d.Get(ctx, IDRequest{in.DatasetID})
	switch {
	case err != nil: // before a gigabyte is taken in
		return Import{}, err
	case set.CatalogSlug != "":
		return Import{}, domain.E(domain.Conflict, "follows_catalog", "This dataset follows a published list and takes no other imports.")
	}
	return d.queueImport(ctx, Import{DatasetID: in.DatasetID, Mode: in.Mode, DryRun: in.DryRun, Sheet: in.Sheet,
		Filename: clip(filepath.Base(in.Filename), 255), MediaType: clip(in.MediaType, 255), Mapping: jsonText(mapping)}, in.Body)
}

// queueImport takes the file in, and writes the import and its job together.
func (d *Datasets) queueImport(ctx context.Context, im Import, body io.Reader) (Import, error) {
	im.ID, im.Status, im.Columns, im.Sheets, im.CreatedAt = domain.NewID("imp"), Queued, []sheet.Column{}, []string{}, d.now()
	if err := d.admit(ctx, ImportJob{}); err != nil { // before a gigabyte is taken in
		return Import{}, err
	}
	size, err := d.takeFile(d.path(im.ID), body)
	if err != nil {
		return Import{}, err
	}
	im.SizeBytes = size
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, im.DatasetID); err != nil {
			return err
		}
		if err := d.Queue.Admit(ctx, ImportJob{}, 0); err != nil {
			return err
		}
		if err := d.st.For(ctx).Create(&im).Error; err != nil {
			return err
		}
		if err := d.Queue.Enqueue(ctx, ImportJob{im.ID}, importTurn(ctx)); err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "import.start", Target: im.ID,
			Detail: map[string]any{"dataset": im.DatasetID, "mode": im.Mode, "dry_run": im.DryRun, "size_bytes": size}})
	})
	if err != nil {
		d.dropFile(im.ID)
		return Import{}, err
	}
	return im, nil
}

// importTurn has what a caller waits for done before what we bring up ourselves.
func importTurn(ctx context.Context) (o domain.JobOptions) {
	if scope, _ := domain.ScopeOf(ctx); scope.Actor.Kind == "system" {
		o.Priority = 4
	}
	return o
}

// admit refuses work that would be refused after its file was taken in.
func (d *Datasets) admit(ctx context.Context, job domain.Job) error {
	return d.st.Tx(ctx, func(ctx context.Context) error { return d.Queue.Admit(ctx, job, 0) })
}

// path of an upload: the id is ours, so nothing of the caller's is in it.
func (d *Datasets) path(importID string) string { return filepath.Join(d.Dir, importID+".upload") }

func (d *Datasets) dropFile(importID string) {
	if err := os.Remove(d.path(importID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.Logger.Warn("an upload stays on the disk", "import", importID, "err", err)
	}
}

// takeFile writes the body to the disk, durably.
func (d *Datasets) takeFile(path string, body io.Reader) (n int64, err error) {
	lost := func(err error) error { // by our own disk: it is full, or gone
		return domain.E(domain.Unavailable, "dependency_unavailable", "The file cannot be kept now.").After(time.Minute).Because(err)
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return 0, lost(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, lost(err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	n, err = io.Copy(f, io.LimitReader(body, d.MaxUploadBytes+1))
	var own *domain.Error
	var disk *os.PathError
	switch {
	case errors.As(err, &own):
		return 0, err
	case errors.As(err, &disk) && disk.Path == path:
		return 0, lost(err)
	case err != nil:
		return 0, domain.E(domain.Malformed, "upload_incomplete", "The upload ended before the file did.").Because(err)
	case n > d.MaxUploadBytes:
		return 0, domain.E(domain.TooLarge, "file_too_large", "The file is over %d MB.", d.MaxUploadBytes>>20)
	case n == 0:
		return 0, domain.InvalidField("file", "empty_file", "The file is empty.")
	}
	if err := f.Sync(); err != nil {
		return 0, lost(err)
	}
	return n, nil
}

func clip(s string, most int) string {
	for i := range s {
		if i > most {
			return s[:i]
		}
	}
	return s
}

// GetImport gives one import.
func (d *Datasets) GetImport(ctx context.Context, in IDRequest) (im Import, err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error {
		return d.st.For(ctx).Where("id = ?", in.ID).Take(&im).Error
	})
	im.word(ctx)
	return im, err
}

// ListImportsRequest pages through the imports of a dataset.
type ListImportsRequest struct {
	domain.PageRequest
	DatasetID string `path:"id" json:"-" maxLength:"64"`
}

// ListImports gives the newest imports of a dataset first.
func (d *Datasets) ListImports(ctx context.Context, in ListImportsRequest) (page domain.Page[Import], err error) {
	err = d.st.Read(ctx, func(ctx context.Context) error {
		if _, err := d.dataset(ctx, in.DatasetID); err != nil {
			return err
		}
		page, err = store.Newest(d.st.For(ctx).Where("dataset_id = ?", in.DatasetID), in.PageRequest, func(r Import) string { return r.ID })
		return err
	})
	for i := range page.Data {
		page.Data[i].word(ctx)
	}
	return page, err
}

// CancelImport stops an import that has not ended; nothing of it stays.
func (d *Datasets) CancelImport(ctx context.Context, in IDRequest) (im Import, err error) {
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		db := d.st.For(ctx)
		if err := db.Where("id = ?", in.ID).Take(&im).Error; err != nil {
			return err
		}
		done, err := d.end(ctx, im.ID, Cancelled, nil)
		if err != nil {
			return err
		}
		if !done {
			return domain.E(domain.Conflict, "import_ended", "The import has ended already.")
		}
		if err := d.Audit.Record(ctx, audit.Entry{Action: "import.cancel", Target: im.ID}); err != nil {
			return err
		}
		im = Import{}
		return d.st.For(ctx).Where("id = ?", in.ID).Take(&im).Error
	})
	return im, err
}

// end moves an import that has not ended to failed or cancelled, gives its
// rows back to the level and has a job remove them. done is false where it had
// ended.
func (d *Datasets) end(ctx context.Context, id, status string, why error) (done bool, err error) {
	args := map[string]any{"id": id, "status": status, "now": d.now(), "code": "", "message": "", "detail": ""}
	if why != nil {
		f := failureOf(why)
		args["code"], args["message"], args["detail"] = f.Code, f.in("en"), jsonText(f)
	}
	columns := ""
	var file *sheet.FileError
	if errors.As(why, &file) && len(file.Columns) > 0 { // so that the next one can be told what they mean
		columns, args["columns"] = ", columns = @columns", jsonText(file.Columns)
	}
	n, err := d.st.Exec(ctx, `UPDATE dataset_imports SET status = @status, ended_at = @now, error_code = @code, error_message = @message, error_detail = @detail`+columns+`
		WHERE tenant_id = @tenant AND id = @id AND status IN ('queued', 'running')`, args)
	if err != nil || n == 0 {
		return false, err
	}
	var im Import
	if err := d.st.For(ctx).Where("id = ?", id).Take(&im).Error; err != nil {
		return false, err
	}
	if im.RowsTaken > 0 {
		if err := d.Levels.FreeLevel(ctx, levelRows, im.RowsTaken); err != nil {
			return false, err
		}
		if _, err := d.st.Exec(ctx, "UPDATE dataset_imports SET rows_taken = 0 WHERE tenant_id = @tenant AND id = @id", args); err != nil {
			return false, err
		}
	}
	if !im.DryRun && im.RowsAccepted > 0 { // what nobody will ever see costs nothing
		if err := d.Levels.RecordImport(ctx, -im.RowsAccepted, im.ID+":void"); err != nil {
			return false, err
		}
	}
	if err := d.Queue.Enqueue(ctx, PurgeJob{DatasetID: im.DatasetID}, domain.JobOptions{Priority: 4}); err != nil {
		return false, err
	}
	d.st.AfterCommit(ctx, func() {
		d.dropFile(id)
		d.Bell.Ring(context.WithoutCancel(ctx), topic(id))
	})
	return true, nil
}

func topic(id string) string { return "dataset/" + id }

// Event is one message of a stream. ID names the state that it tells.
type Event struct {
	ID, Name string // Name: "progress", or at the end the status
	Data     any
}

// WatchRequest follows something that runs. A caller that was cut off says
// which state it has seen last.
type WatchRequest struct {
	ID    string `path:"id" json:"-" maxLength:"64"`
	After string `header:"Last-Event-ID" json:"-" maxLength:"100" doc:"goes on after this event"`
}

// WatchImport sends the state of an import now and whenever it changes, until
// it has ended or send fails.
func (d *Datasets) WatchImport(ctx context.Context, in WatchRequest, send func(Event) error) error {
	return d.watch(ctx, in, send, func() (Event, bool, error) {
		im, err := d.GetImport(ctx, IDRequest{in.ID})
		return Event{fmt.Sprintf("%d-%s", im.RowsRead, im.Status), im.Status, im}, im.Ended(), err
	})
}

// watch sends what state gives whenever it is another one.
func (d *Datasets) watch(ctx context.Context, in WatchRequest, send func(Event) error, state func() (e Event, ended bool, err error)) error {
	last := in.After
	for {
		rung, stop := d.Bell.Wait(topic(in.ID)) // before the read, or a ring between the two is lost
		e, ended, err := state()
		if err == nil && ended {
			stop()
			return send(e)
		}
		if err == nil && e.ID != last {
			last, e.Name = e.ID, "progress"
			err = send(e)
		}
		if err != nil {
			stop()
			return err
		}
		again := time.NewTimer(2 * time.Second)
		select {
		case <-rung:
		case <-again.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		again.Stop()
		stop()
		if err != nil {
			return err
		}
	}
}

// Issue is something wrong in a row of the file.
type Issue struct {
	store.Owned
	ImportID string `gorm:"primaryKey"`
	Seq      int64  `gorm:"primaryKey;autoIncrement:false"`
	Line     int64
	Column   string `gorm:"column:column_name"`
	Code     string
	Value    string
	Severity string
}

// TableName is GORM's.
func (Issue) TableName() string { return "dataset_issues" }

// ImportErrors writes the issues of an import as CSV.
func (d *Datasets) ImportErrors(ctx context.Context, in IDRequest, w io.Writer) error {
	if _, err := d.GetImport(ctx, in); err != nil {
		return err
	}
	language := domain.LanguageOf(ctx)
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write([]string{"line", "column", "code", "value", "severity", "message"})
	for after := int64(-1); ; {
		var rows []Issue
		err := d.st.Read(ctx, func(ctx context.Context) error {
			return d.st.For(ctx).Where("import_id = ? AND seq > ?", in.ID, after).Order("seq").Limit(1000).Find(&rows).Error
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			after = r.Seq
			_ = out.Write([]string{strconv.FormatInt(r.Line, 10), sheet.Guard(r.Column), r.Code, sheet.Guard(r.Value), r.Severity, domain.Sentence(language, sheet.Messages[r.Code][0])})
		}
		if out.Flush(); out.Error() != nil || len(rows) < 1000 {
			return out.Error()
		}
	}
}
