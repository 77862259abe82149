package dataset

import (
	"context"
	"slices"
	"strings"
)

// NamedEntry is an entry that bears a name that was asked for.
type NamedEntry struct {
	DatasetID string `json:"dataset_id"`
	EntryID   string `json:"entry_id"`
}

const namedPage = 500

// Named finds the entries of the scope's tenant whose name, or an alias of
// theirs, is one of the names: whatever the case, the accents and the order of
// the words. It is for requests of people who are named; it does not guess.
func (d *Datasets) Named(ctx context.Context, names []string) (out []NamedEntry, err error) {
	var datasets []string
	err = d.st.Read(ctx, func(ctx context.Context) error {
		return d.st.For(ctx).Model(&Dataset{}).Order("id").Pluck("id", &datasets).Error
	})
	seen := map[string]bool{}
	for _, name := range names {
		words := nameWords(name)
		if len(words) == 0 {
			continue
		}
		longest := slices.MaxFunc(words, func(a, b string) int { return len(a) - len(b) })
		for _, dataset := range datasets {
			for after := ""; err == nil; {
				var page []Entry
				err = d.st.Read(ctx, func(ctx context.Context) (err error) {
					page, err = d.find(ctx, dataset, wanted{q: longest, after: after, limit: namedPage})
					return err
				})
				for _, e := range page {
					if bears(e, words) && !seen[e.ID] {
						seen[e.ID] = true
						out = append(out, NamedEntry{e.DatasetID, e.ID})
					}
				}
				if len(page) < namedPage {
					break
				}
				last := page[len(page)-1]
				after = last.ImportID + "/" + last.ID
			}
		}
	}
	return out, err
}

func bears(e Entry, words []string) bool {
	return slices.ContainsFunc(append([]string{e.Name}, e.Aliases...), func(name string) bool { return slices.Equal(nameWords(name), words) })
}

// nameWords are the folded words of a name, in the order of the alphabet.
func nameWords(name string) []string {
	words := strings.FieldsFunc(fold(name), func(r rune) bool { return strings.ContainsRune(" ,.;·-‐'\t\u3000", r) })
	slices.Sort(words)
	return words
}
