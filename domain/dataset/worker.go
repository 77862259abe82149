package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/sheet"
)

const (
	storedIssues = 10_000
	batchBytes   = 8 << 20 // of texts; three batches are in memory at once
	mostAttempts = 5       // of the queue, for what may pass: a database that is away, a disk that is full
)

// errSuperseded stops a worker whose import has ended or gone to another.
var errSuperseded = errors.New("dataset: the import was ended or is run by another worker")

// RunImport does an ImportJob, from where it was left. An error means: try
// again later; a file that cannot be imported is a failed import and no error.
func (d *Datasets) RunImport(ctx context.Context, job ImportJob) error {
	im, err := d.begin(ctx, job.ID)
	if err != nil || im == nil {
		return err
	}
	err = d.runImport(ctx, im)
	switch {
	case err == nil, errors.Is(err, errSuperseded):
		return nil
	case final(err):
	case ctx.Err() == nil && im.Attempts >= mostAttempts:
		d.Logger.ErrorContext(ctx, "an import is given up", "import", im.ID, "err", err)
	default:
		return err
	}
	return d.st.Tx(ctx, func(ctx context.Context) error {
		done, err := d.end(ctx, im.ID, Failed, err)
		if err != nil || !done {
			return err
		}
		return d.Audit.Record(domain.Itself(ctx, "import"), audit.Entry{Action: "import.fail", Target: im.ID, Detail: map[string]any{"dataset": im.DatasetID}})
	})
}

// final reports whether err would come again however often one tried: the file
// is at fault, or a limit is reached.
func final(err error) bool {
	var own *domain.Error
	if sheet.IsFileError(err) != "" {
		return true
	}
	return errors.As(err, &own) && own.Kind != domain.Internal && own.Kind != domain.Unavailable && own.Kind != domain.Canceled
}

// begin claims the import, or gives nil where nothing is left to do.
func (d *Datasets) begin(ctx context.Context, id string) (*Import, error) {
	var im Import
	err := d.st.Tx(ctx, func(ctx context.Context) error {
		_, err := d.st.Exec(ctx, `UPDATE dataset_imports SET status = 'running', attempts = attempts + 1, started_at = coalesce(started_at, @now)
			WHERE tenant_id = @tenant AND id = @id AND status IN ('queued', 'running')`, map[string]any{"id": id, "now": d.now()})
		if err != nil {
			return err
		}
		return d.st.For(ctx).Where("id = ?", id).Take(&im).Error
	})
	switch {
	case domain.KindOf(err) == domain.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	case im.Ended():
		return nil, nil
	}
	return &im, nil
}

func (d *Datasets) runImport(ctx context.Context, im *Import) error {
	f, err := os.Open(d.path(im.ID))
	if errors.Is(err, os.ErrNotExist) {
		return domain.E(domain.NotFound, "upload_lost", "The uploaded file is not there any more.").Because(err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	options := sheet.Options{Filename: im.Filename, MediaType: im.MediaType, Sheet: im.Sheet}
	if err := unmarshalText(im.Mapping, &options.Mapping); err != nil {
		return err
	}
	r, err := sheet.Open(f, im.SizeBytes, options)
	if err != nil {
		return err
	}
	defer r.Close()
	info := r.Info()
	im.Format, im.Encoding, im.Delimiter = string(info.Format), info.Encoding, info.Delimiter
	im.Columns, im.Sheet, im.Sheets = info.Columns, info.Sheet, info.Sheets
	if im.Sheets == nil { // no workbook; the answer has a list all the same
		im.Sheets = []string{}
	}
	for range im.RowsRead { // stored by an earlier worker
		if _, err := r.Next(); err != nil {
			return fmt.Errorf("the upload is shorter than it was: %w", err)
		}
	}
	turn := d.now().Add(6 * d.Turn)
	// One goroutine reads while the database stores what was read before.
	ctx, stop := context.WithCancel(ctx)
	batches := make(chan *batch, 1)
	defer func() {
		stop()
		for range batches {
		}
	}()
	columns := im.Columns
	go func() {
		defer close(batches)
		for {
			b := &batch{im: im.ID, dataset: im.DatasetID, columns: columns, dry: im.DryRun, rows: make([][]any, 0, min(d.BatchRows, 2000))}
			for b.end == nil && len(b.rows) < d.BatchRows && b.read < int64(4*d.BatchRows) && b.size < batchBytes {
				row, err := r.Next()
				if b.end = err; err == nil {
					b.add(row)
				}
			}
			b.bytes = r.BytesRead()
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
			if b.end != nil {
				return
			}
		}
	}()
	for b := range batches {
		if b.end != nil && !errors.Is(b.end, io.EOF) {
			return b.end
		}
		over := b.end == nil && !d.now().Before(turn)
		if err := d.storeBatch(ctx, im, b, over); err != nil {
			return err
		}
		switch {
		case over: // queued again, behind the jobs of others
			return nil
		case b.end == nil:
		case im.RowsRead == 0:
			return domain.E(domain.Invalid, sheet.EmptyFile, "The file has no rows.")
		case im.RowsAccepted == 0: // or a replace would empty the list
			return domain.E(domain.Invalid, "no_row_accepted", "No row of the file could be taken; the errors say why.")
		default:
			return d.finish(ctx, im)
		}
	}
	return ctx.Err()
}

// batch is what one transaction stores.
type batch struct {
	im       string
	dataset  string
	columns  []sheet.Column
	dry      bool
	end      error // of the file, or io.EOF
	rows     [][]any
	size     int
	issues   [][]any
	read     int64
	accepted int64
	rejected int64
	found    int64 // issues, stored or not
	bytes    int64
}

var (
	entryColumns = []string{"id", "dataset_id", "import_id", "line", "name", "search", "country_key", "aliases", "countries", "cities",
		"latitude", "longitude", "schema_type", "external_id", "description", "source_url", "published", "updated", "properties"}
	issueColumns = []string{"import_id", "seq", "line", "column_name", "code", "value", "severity"}
)

// add makes a row of the file into a row of the table.
func (b *batch) add(row sheet.Row) {
	b.read++
	var codes []string
	rec := &row.Record
	if !row.Rejected {
		codes = b.countries(&row)
	}
	for _, is := range row.Issues {
		if b.found < storedIssues {
			b.issues = append(b.issues, []any{b.im, int64(0), is.Line, clean(is.Column), is.Code, clean(clip(is.Value, 1000)), is.Severity})
		}
		b.found++
	}
	if row.Rejected {
		b.rejected++
		return
	}
	b.accepted++
	if b.dry {
		return
	}
	key := ""
	if len(codes) > 0 {
		key = "|" + strings.Join(codes, "|") + "|"
	}
	search := rec.Name
	if len(rec.Aliases) > 0 {
		search += "\n" + strings.Join(rec.Aliases, "\n")
	}
	cells := []any{domain.NewID("ent"), b.dataset, b.im, row.Line, clean(rec.Name),
		clean(fold(search)), key, texts(rec.Aliases), texts(codes), texts(rec.Cities),
		number(rec.Latitude), number(rec.Longitude), clean(rec.SchemaType), clean(rec.ExternalID), clean(rec.Description), clean(rec.SourceURL),
		clean(rec.Published), clean(rec.Updated), properties(rec.Properties)}
	for _, c := range cells {
		if text, ok := c.(string); ok {
			b.size += len(text)
		}
	}
	b.rows = append(b.rows, cells)
}

// countries gives the codes of a row's countries. One that is not known is
// told, and kept as a property; the row stays.
func (b *batch) countries(row *sheet.Row) (codes []string) {
	for _, name := range row.Record.Countries {
		code, ok := country(name)
		switch {
		case ok && !slices.Contains(codes, code):
			codes = append(codes, code)
		case !ok:
			if row.Record.Properties == nil {
				row.Record.Properties = map[string][]string{}
			}
			row.Record.Properties["unknown_countries"] = append(row.Record.Properties["unknown_countries"], name)
			column := "countries"
			for _, c := range b.columns {
				if c.Field == column {
					column = c.Header
					break
				}
			}
			row.Issues = append(row.Issues, sheet.Issue{Line: row.Line, Column: column, Code: sheet.UnknownCountry, Value: clip(name, 200), Severity: "warning"})
		}
	}
	return codes
}

// clean drops what PostgreSQL cannot keep in a text.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

func texts(in []string) string {
	if len(in) == 0 {
		return "[]"
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = clean(s)
	}
	return jsonText(out)
}

func properties(in map[string][]string) string {
	if len(in) == 0 {
		return "{}"
	}
	out := make(map[string][]string, len(in))
	for _, k := range slices.Sorted(maps.Keys(in)) {
		for _, v := range in[k] {
			out[clean(k)] = append(out[clean(k)], clean(v))
		}
	}
	return jsonText(out)
}

// number is a nullable number as both drivers take it.
func number(p *float64) any {
	if p == nil {
		return nil
	}
	return *p
}

// storeBatch stores the batch and moves the checkpoint over it, and the state
// in im with it. again queues the import once more, for the rows that follow.
func (d *Datasets) storeBatch(ctx context.Context, im *Import, b *batch, again bool) error {
	next := *im
	b.issues = b.issues[:max(0, min(int64(len(b.issues)), storedIssues-im.Issues))]
	for i := range b.issues {
		b.issues[i][1] = im.Issues + int64(i) // seq
	}
	next.RowsRead += b.read
	next.RowsAccepted += b.accepted
	next.RowsRejected += b.rejected
	next.Issues += b.found
	next.BytesRead = b.bytes
	err := d.st.Tx(ctx, func(ctx context.Context) error {
		n, err := d.st.Exec(ctx, `UPDATE dataset_imports SET rows_read = @read, rows_accepted = @accepted, rows_rejected = @rejected, issues = @issues, attempts = 0,
				bytes_read = @bytes, format = @format, encoding = @encoding, delimiter = @delimiter, columns = @columns, sheet = @sheet, sheets = @sheets
			WHERE tenant_id = @tenant AND id = @id AND status = 'running' AND rows_read = @before`, map[string]any{
			"id": im.ID, "before": im.RowsRead, "read": next.RowsRead, "accepted": next.RowsAccepted, "rejected": next.RowsRejected,
			"issues": next.Issues, "bytes": next.BytesRead, "format": im.Format, "encoding": im.Encoding,
			"delimiter": im.Delimiter, "columns": jsonText(im.Columns), "sheet": im.Sheet, "sheets": jsonText(im.Sheets)})
		if err != nil {
			return err
		}
		if n == 0 {
			return errSuperseded
		}
		if err := d.st.Bulk(ctx, "dataset_issues", issueColumns, b.issues); err != nil {
			return err
		}
		if !im.DryRun && b.accepted > 0 {
			if err := d.take(ctx, &next); err != nil {
				return err
			}
			if err := d.Levels.RecordImport(ctx, b.accepted, fmt.Sprintf("%s:%d", im.ID, im.RowsRead)); err != nil {
				return err
			}
			if err := d.st.Bulk(ctx, "dataset_entries", entryColumns, b.rows); err != nil {
				return err
			}
		}
		if again {
			if err := d.Queue.Enqueue(ctx, ImportJob{im.ID}, importTurn(ctx)); err != nil {
				return err
			}
		}
		d.st.AfterCommit(ctx, func() { d.Bell.Ring(context.WithoutCancel(ctx), topic(im.ID)) })
		return nil
	})
	if err == nil {
		next.Attempts = 0
		*im = next
	}
	return err
}

// take brings the import's share of the row level to what it needs: all its
// rows, or for a replace those beyond the list that it replaces.
func (d *Datasets) take(ctx context.Context, im *Import) error {
	need := im.RowsAccepted
	if im.Mode == Replace {
		set, err := d.dataset(ctx, im.DatasetID)
		if err != nil {
			return err
		}
		need = max(0, need-set.Rows)
	}
	if need <= im.RowsTaken {
		return nil
	}
	if err := d.Levels.TakeLevel(ctx, levelRows, need-im.RowsTaken); err != nil {
		return err
	}
	im.RowsTaken = need
	_, err := d.st.Exec(ctx, "UPDATE dataset_imports SET rows_taken = @n WHERE tenant_id = @tenant AND id = @id", map[string]any{"id": im.ID, "n": need})
	return err
}

// finish makes the import visible, in one transaction with everything that
// follows from it.
func (d *Datasets) finish(ctx context.Context, im *Import) error {
	err := d.st.Tx(ctx, func(ctx context.Context) error {
		now := d.now()
		set, err := d.lock(ctx, im.DatasetID) // first: Delete takes the locks in this order too
		if domain.KindOf(err) == domain.NotFound {
			return errSuperseded // Delete has ended the import
		}
		if err != nil {
			return err
		}
		if im.CatalogVersion > 0 && set.CatalogVersion >= im.CatalogVersion { // a later version was quicker
			_, err := d.end(ctx, im.ID, Cancelled, nil)
			return err
		}
		n, err := d.st.Exec(ctx, `UPDATE dataset_imports SET status = 'succeeded', visible = @visible, rows_taken = 0, ended_at = @now
			WHERE tenant_id = @tenant AND id = @id AND status = 'running' AND rows_read = @read`,
			map[string]any{"id": im.ID, "read": im.RowsRead, "now": now, "visible": !im.DryRun})
		if err != nil {
			return err
		}
		if n == 0 {
			return errSuperseded
		}
		d.st.AfterCommit(ctx, func() {
			d.dropFile(im.ID)
			d.Bell.Ring(context.WithoutCancel(ctx), topic(im.ID))
		})
		if im.DryRun {
			return nil // whoever asked is waiting for it
		}
		if im.RowsAccepted >= d.SearchRows {
			if err := d.Queue.Enqueue(ctx, BuildSearch{im.ID}, domain.JobOptions{Priority: 4}); err != nil {
				return err
			}
		}
		rows := set.Rows + im.RowsAccepted
		if im.Mode == Replace {
			rows = im.RowsAccepted
			_, err := d.st.Exec(ctx, "UPDATE dataset_imports SET visible = @no WHERE tenant_id = @tenant AND dataset_id = @dataset AND visible = @yes AND id <> @id",
				map[string]any{"dataset": im.DatasetID, "id": im.ID, "yes": true, "no": false})
			if err != nil {
				return err
			}
			if err := d.Queue.Enqueue(ctx, PurgeJob{DatasetID: im.DatasetID}, domain.JobOptions{Priority: 4, At: now.Add(d.PurgeAfter)}); err != nil {
				return err
			}
		}
		// The level held for this dataset so far is set.Rows + RowsTaken.
		switch more := rows - set.Rows - im.RowsTaken; {
		case more > 0: // the list being replaced has shrunk meanwhile
			err = d.Levels.TakeLevel(ctx, levelRows, more)
		case more < 0:
			err = d.Levels.FreeLevel(ctx, levelRows, -more)
		}
		if err != nil {
			return err
		}
		_, err = d.st.Exec(ctx, "UPDATE datasets SET version = version + 1, entry_count = @rows, updated_at = @now, catalog_version = @catalog WHERE tenant_id = @tenant AND id = @id",
			map[string]any{"id": im.DatasetID, "rows": rows, "now": now, "catalog": im.CatalogVersion})
		if err != nil {
			return err
		}
		return d.Audit.Record(domain.Itself(ctx, "import"), audit.Entry{Action: "import.finish", Target: im.ID,
			Detail: map[string]any{"dataset": im.DatasetID, "rows": im.RowsAccepted, "rejected": im.RowsRejected}})
	})
	return err
}
