package domain

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Kind says what went wrong in words that have nothing to do with HTTP. The
// zero Kind is our own mistake, so that an error nobody classified is never
// shown to a customer.
type Kind uint8

// The kinds. app/api holds the one table that turns them into statuses.
const (
	Internal         Kind = iota
	Malformed             // not readable as what it claims to be
	Invalid               // readable, but a value is not acceptable
	Unauthenticated       // who you are is missing or wrong
	PaymentRequired       // the subscription does not carry this now
	Forbidden             // you are known; this is not yours to do
	NotFound              // not there, or another tenant's
	Conflict              // the present state does not allow it
	TooLarge              // over a size limit
	UnsupportedMedia      // a media type that is not understood
	TooMany               // over a rate, quota or concurrency limit
	Unavailable           // a dependency is away; it may pass
	Canceled              // the caller went away
)

// Field is one violation inside a request. Name is the path of the value, e.g.
// "query.name" or "queries[3].country".
type Field struct {
	Name   string
	Code   string
	Format string
	Args   []any
}

// Error is the only error a customer ever sees. Format is an English sentence
// that a customer may read and the key of its translation; Cause is for the
// log alone.
type Error struct {
	Kind       Kind
	Code       string
	Format     string
	Args       []any
	Fields     []Field
	RetryAfter time.Duration
	Cause      error
}

func (e *Error) Error() string {
	s := e.Code + ": " + fmt.Sprintf(e.Format, e.Args...)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// E makes an error of a kind. The code is the stable word that programs switch
// on (API.md, "Conventions").
func E(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Format: format, Args: args}
}

// Because attaches the cause, which goes to the log and never to the customer.
func (e *Error) Because(cause error) *Error { e.Cause = cause; return e }

// After says when a retry makes sense.
func (e *Error) After(d time.Duration) *Error { e.RetryAfter = d; return e }

// InvalidField is a 422 about one field of the request.
func InvalidField(field, code, format string, args ...any) *Error {
	return Fields(Violation(field, code, format, args...))
}

// Violation describes one field for Fields.
func Violation(field, code, format string, args ...any) Field {
	return Field{Name: field, Code: code, Format: format, Args: args}
}

// Fields is a 422 that names every violation at once.
func Fields(fields ...Field) *Error {
	e := E(Invalid, "invalid", "The request has values that are not acceptable.")
	e.Fields = fields
	return e
}

// ErrNotFound is what a missing object and another tenant's object both look
// like: the two cannot be told apart.
func ErrNotFound() *Error {
	return E(NotFound, "not_found", "There is no such object.")
}

// KindOf gives the kind of the outermost *Error in err, or Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// CodeOf gives the code of the outermost *Error in err, or "internal".
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return "internal"
}

// Simplified Chinese sentences by their English ones. Each package adds its
// own at start through Chinese; a test in app reads the source and fails on a
// sentence that has none.
var (
	chineseMu sync.RWMutex
	chinese   = map[string]string{}
)

// Chinese adds translations of message formats. It returns a value so that a
// package can call it in a var declaration.
func Chinese(table map[string]string) bool {
	chineseMu.Lock()
	defer chineseMu.Unlock()
	for en, zh := range table {
		chinese[en] = zh
	}
	return true
}

// Sentence renders format in the language ("zh" or anything else for English).
func Sentence(language, format string, args ...any) string {
	if language == "zh" {
		chineseMu.RLock()
		if zh, ok := chinese[format]; ok {
			format = zh
		}
		chineseMu.RUnlock()
	}
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// HasChinese reports whether format has a translation.
func HasChinese(format string) bool {
	chineseMu.RLock()
	defer chineseMu.RUnlock()
	_, ok := chinese[format]
	return ok
}

var _ = Chinese(map[string]string{
	"The request has values that are not acceptable.": "请求中有不可接受的值。",
	"There is no such object.":                        "没有这个对象。",
})
