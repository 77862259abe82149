package domain

import (
	"encoding/base64"
	"strings"
)

// PageRequest is how every list is asked for.
type PageRequest struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"at most this many"`
	Cursor string `query:"cursor" maxLength:"500" doc:"next_cursor of the page before"`
}

// Size is the limit within its bounds: 50 where none was given.
func (p PageRequest) Size() int {
	if p.Limit <= 0 {
		return 50
	}
	return min(p.Limit, 200)
}

// After decodes the cursor: the sort key of the last row the caller has.
func (p PageRequest) After() (string, error) {
	if p.Cursor == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil || len(b) == 0 {
		return "", InvalidField("cursor", "invalid_cursor", "The cursor is not one of ours.")
	}
	return string(b), nil
}

// Page is how every list answers.
type Page[T any] struct {
	Data       []T     `json:"data" nullable:"false"`
	NextCursor *string `json:"next_cursor" nullable:"true"`
}

// NewPage cuts rows, which were read with one more than size, into a page.
// key gives the sort key of a row.
func NewPage[T any](rows []T, size int, key func(T) string) Page[T] {
	p := Page[T]{Data: rows}
	if p.Data == nil {
		p.Data = []T{}
	}
	if len(rows) > size {
		p.Data = rows[:size]
		next := base64.RawURLEncoding.EncodeToString([]byte(key(rows[size-1])))
		p.NextCursor = &next
	}
	return p
}

// LikePart is the pattern of SQL's LIKE, with \ as its escape, for what has the part
// anywhere in it, in small letters.
func LikePart(part string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(strings.ToLower(part)) + "%"
}

var _ = Chinese(map[string]string{"The cursor is not one of ours.": "游标不是本系统给出的。"})
