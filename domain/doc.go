// Package domain holds the words that every other package shares: errors and
// their kinds, the scope a call runs in, identifiers, pages, jobs and bells.
// It imports nothing of ours, and nothing that does I/O.
package domain
