package dataset

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/sheet"
)

// PreviewRow is a row as it would be imported, or why it would not.
type PreviewRow struct {
	Line     int64        `json:"line"`
	Rejected bool         `json:"rejected"`
	Record   sheet.Record `json:"record"`
	Issues   []RowIssue   `json:"issues" nullable:"false"`
}

// RowIssue is something wrong with a row.
type RowIssue struct {
	Column   string `json:"column"`
	Code     string `json:"code"`
	Value    string `json:"value"`
	Severity string `json:"severity" enum:"error,warning"`
	Message  string `json:"message"`
}

// PreviewResponse is how a file would be read. With an error, the columns are
// those that were found, for a mapping that helps.
type PreviewResponse struct {
	sheet.Info
	Rows  []PreviewRow `json:"rows" nullable:"false" doc:"the first twenty"`
	Error *ItemError   `json:"error,omitempty" doc:"why the file would not be imported"`
}

// Preview reads the head of a file as an import would, and keeps nothing.
func (d *Datasets) Preview(ctx context.Context, in File) (out PreviewResponse, err error) {
	mapping, err := in.mapping()
	if err != nil {
		return out, err
	}
	if in.Body == nil {
		return out, domain.InvalidField("file", "required", "A file is required.")
	}
	path := d.path(domain.NewID("imp"))
	size, err := d.takeFile(path, in.Body)
	if err != nil {
		return out, err
	}
	defer os.Remove(path)
	f, err := os.Open(path)
	if err != nil {
		return out, err
	}
	defer f.Close()
	out.Rows, out.Columns, out.Sheets = []PreviewRow{}, []sheet.Column{}, []string{}
	language := domain.LanguageOf(ctx)
	var file *sheet.FileError
	r, err := sheet.Open(f, size, sheet.Options{Filename: in.Filename, MediaType: in.MediaType, Sheet: in.Sheet, Mapping: mapping})
	if err == nil {
		defer r.Close()
		out.Info = r.Info()
		for len(out.Rows) < 20 && err == nil {
			var row sheet.Row
			if row, err = r.Next(); err != nil {
				break
			}
			shown := PreviewRow{Line: row.Line, Rejected: row.Rejected, Record: row.Record, Issues: []RowIssue{}}
			for _, is := range row.Issues {
				shown.Issues = append(shown.Issues, RowIssue{is.Column, is.Code, is.Value, is.Severity, domain.Sentence(language, sheet.Messages[is.Code][0])})
			}
			if shown.Record.Properties == nil {
				shown.Record.Properties = map[string][]string{}
			}
			out.Rows = append(out.Rows, shown)
		}
	}
	switch {
	case errors.As(err, &file):
		if len(file.Columns) > 0 {
			out.Columns = file.Columns
		}
		out.Error = itemError(ctx, domain.E(domain.Invalid, file.Code, "%s", failureOf(err).in(language)))
		return out, nil
	case err != nil && !errors.Is(err, io.EOF):
		return out, err
	}
	return out, nil
}
