package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/sheet"
)

// failure is why something ended, kept as its sentence and what fills it, and
// worded in the language of whoever reads it.
type failure struct {
	Code   string `json:"code"`
	Format string `json:"format"`
	Args   []any  `json:"args,omitempty"`
	Line   int64  `json:"line,omitempty"`   // of a file
	Detail string `json:"detail,omitempty"` // of a file, e.g. a header, so not translated
}

// failureOf keeps what a customer may know of err.
func failureOf(err error) failure {
	var file *sheet.FileError
	var own *domain.Error
	switch {
	case errors.As(err, &file):
		return failure{Code: file.Code, Format: sheet.Messages[file.Code][0], Line: file.Line, Detail: file.Detail}
	case errors.As(err, &own):
		return failure{Code: own.Code, Format: own.Format, Args: own.Args}
	}
	return failure{Code: "internal", Format: "The work could not be finished."}
}

// in words the failure in a language.
func (f failure) in(language string) string {
	text := domain.Sentence(language, f.Format, f.Args...)
	if f.Detail != "" {
		text += " (" + f.Detail + ")"
	}
	if f.Line > 0 {
		text = domain.Sentence(language, "%s (line %d)", text, f.Line)
	}
	return text
}

// storedFailure reads what was kept with jsonText. Numbers come back as what
// they were, for the sentence's verbs.
func storedFailure(text string) (f failure) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&f) != nil {
		return failure{}
	}
	for i, a := range f.Args {
		if n, ok := a.(json.Number); ok {
			if whole, err := n.Int64(); err == nil {
				f.Args[i] = whole
			} else if part, err := n.Float64(); err == nil {
				f.Args[i] = part
			}
		}
	}
	return f
}

// ItemError is the failure of one item of a batch: what a problem+json answer
// would have said of it, had it come alone.
type ItemError struct {
	Type   string      `json:"type"`
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail"`
	Code   string      `json:"code"`
	Errors []ItemField `json:"errors,omitempty"`
}

// ItemField is one value that is not acceptable.
type ItemField struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// itemError gives what is wrong with an item, in the caller's language, or nil
// where err is not the item's fault.
func itemError(ctx context.Context, err error) *ItemError {
	var e *domain.Error
	if !errors.As(err, &e) || e.Kind != domain.Invalid {
		return nil
	}
	language := domain.LanguageOf(ctx)
	out := &ItemError{Type: "/problems/" + e.Code, Title: domain.Sentence(language, "Invalid request"), Status: 422, // as app/api has it for Invalid
		Code: e.Code, Detail: domain.Sentence(language, e.Format, e.Args...)}
	for _, f := range e.Fields {
		out.Errors = append(out.Errors, ItemField{f.Name, f.Code, domain.Sentence(language, f.Format, f.Args...)})
	}
	return out
}
