package match

// Latin gives a name or a text in small Latin letters and digits, words apart:
// without accents, and transliterated as names of lists are. It is how another
// package compares what is written in two scripts.
func Latin(s string) string {
	out, _ := latin(fold(s))
	return out
}
