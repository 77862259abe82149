// Package samples holds the lists of our own invention: to try the product
// with, and as the first lists of the catalogue.
package samples

import "embed"

// Files are the lists, and catalog.json, which says what each one is.
//
//go:embed catalog.json *.csv
var Files embed.FS
