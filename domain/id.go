package domain

import (
	"encoding/base32"
	"strings"

	"github.com/google/uuid"
)

// Ids are a type prefix over a UUIDv7: "ds_" and 26 lower-case base32
// characters. The alphabet keeps the order of the bytes, so ids sort by the
// time they were made.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID makes an id with the prefix, e.g. NewID("ds").
func NewID(prefix string) string {
	return FormatID(prefix, uuid.Must(uuid.NewV7()))
}

// FormatID writes 16 bytes as an id.
func FormatID(prefix string, key [16]byte) string {
	var b [26]byte
	idEncoding.Encode(b[:], key[:])
	return prefix + "_" + string(b[:])
}

// ParseID gives the 16 bytes of an id that has the prefix.
func ParseID(prefix, id string) (key [16]byte, ok bool) {
	rest, found := strings.CutPrefix(id, prefix+"_")
	if !found || len(rest) != 26 {
		return key, false
	}
	n, err := idEncoding.Decode(key[:], []byte(rest))
	if err != nil || n != 16 {
		return key, false
	}
	// 26 characters hold two bits more than 16 bytes: only one spelling of an
	// id is the id, or a cache could hold the same object twice.
	return key, FormatID(prefix, key) == id
}

// ValidID reports whether id is a well-formed id with the prefix.
func ValidID(prefix, id string) bool { _, ok := ParseID(prefix, id); return ok }
