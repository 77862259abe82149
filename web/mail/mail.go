// Package mail holds the texts of every mail, one file a mail and language.
//
// A file is paragraphs. The first is "Subject: …"; a paragraph of the form
// [label]({{.field}}) is a link, shown as a button; every other is text. A
// {{.field}} is data of that name. Both forms of a mail, plain text and HTML,
// come from the same file.
package mail

import "embed"

// Files are en/NAME.txt and zh/NAME.txt.
//
//go:embed en/*.txt zh/*.txt
var Files embed.FS
