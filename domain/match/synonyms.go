package match

import "slices"

// synonyms are a tenant's groups of words that mean the same. A word of the
// query counts as each word of its group; where a group has phrases, the query
// is also read with one put for the other.
type synonyms struct {
	words  map[string][]string
	groups [][][]string // those that have phrases
}

// mostForms bounds the readings that phrases may add to one name.
const mostForms = 16

func synonymsOf(groups [][]string) *synonyms {
	if len(groups) == 0 {
		return nil
	}
	out := &synonyms{words: map[string][]string{}}
	for _, g := range groups {
		var single []string
		var all [][]string
		phrases := false
		for _, text := range g {
			var r reader
			r.cut(text)
			if r.words() == 0 {
				continue
			}
			f := newAsked(&r, 0, nil)
			all = append(all, f.words)
			if len(f.words) == 1 {
				single = append(single, f.words[0])
			} else {
				phrases = true
			}
		}
		for _, w := range single {
			out.words[w] = append(out.words[w], single...)
		}
		if phrases {
			out.groups = append(out.groups, all)
		}
	}
	return out
}

func (y *synonyms) of(word string) []string {
	if y == nil {
		return nil
	}
	return y.words[word]
}

// rewrite adds readings of the forms from first on.
func (y *synonyms) rewrite(s *searcher, first int) {
	if y == nil {
		return
	}
	for _, f := range slices.Clone(s.forms[first:]) {
		for _, group := range y.groups {
			for _, from := range group {
				at := indexOf(f.words, from)
				if at < 0 {
					continue
				}
				for _, to := range group {
					if len(s.forms)-first < mostForms && (len(from) > 1 || len(to) > 1) {
						s.add(askedOf(slices.Concat(f.words[:at], to, f.words[at+len(from):]), f.kind), first)
					}
				}
			}
		}
	}
}

// indexOf is where a phrase stands among words, or -1.
func indexOf(words, phrase []string) int {
	for i := 0; i+len(phrase) <= len(words); i++ {
		if slices.Equal(words[i:i+len(phrase)], phrase) {
			return i
		}
	}
	return -1
}
