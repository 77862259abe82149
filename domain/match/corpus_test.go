package match_test

import (
	"math/rand/v2"
	"strings"

	"github.com/chainreactions/chainreactions/domain/match"
)

// generator makes names of an invented language, the same for the same seed.
// Words follow Zipf's law; six scripts: Latin, Cyrillic, Greek, Arabic, Han and
// Hangul.
type generator struct {
	r               *rand.Rand
	words           *rand.Zipf
	signs, surnames *rand.Zipf
}

func newGenerator(entries int, seed uint64) *generator {
	r := rand.New(rand.NewPCG(seed, 7))
	return &generator{r, rand.NewZipf(r, 1.1, 16, uint64(15_000+entries/20)), rand.NewZipf(r, 1.2, 20, 3000), rand.NewZipf(r, 1.3, 5, 120)}
}

var (
	onsets = strings.Fields("b d f g h k l m n p r s t v z b d k l m n r s t br dr gr kr pr tr st sh ch kh")
	vowels = strings.Fields("a e i o u a e i o a")
	codas  = strings.Fields("n r l s m k t nd rt ng")

	kinds = strings.Fields("University Institute Academy Laboratory Factory Industries Trading Technology Shipping Bank Foundation Holding Bureau Center Works " +
		"Electronics Systems Engineering Aviation Instruments Chemicals Metals Energy Logistics Services Motors Optics Materials Dynamics Research")
	legalForms = []string{"", "", "", " Ltd.", " LLC", " JSC", " Co., Ltd.", " GmbH", " Inc.", " S.A."}
	countries  = strings.Fields("CN RU IR US DE FR GB IN JP KR TR AE SY BY PK UA KZ HK SG MY")
)

// word is the i-th of the language.
func word(i uint64) string {
	w := rand.New(rand.NewPCG(i, 99))
	var b strings.Builder
	for range 2 + w.IntN(3) {
		b.WriteString(onsets[w.IntN(len(onsets))])
		b.WriteString(vowels[w.IntN(len(vowels))])
		if w.IntN(3) == 0 {
			b.WriteString(codas[w.IntN(len(codas))])
		}
	}
	s := b.String()
	return strings.ToUpper(s[:1]) + s[1:]
}

func (g *generator) latin(words int) string {
	parts := make([]string, words)
	for i := range parts {
		parts[i] = word(g.words.Uint64())
	}
	return strings.Join(parts, " ")
}

var (
	toCyrillic = strings.NewReplacer("sh", "ш", "ch", "ч", "kh", "х", "b", "б", "d", "д", "f", "ф", "g", "г", "h", "х", "k", "к", "l", "л", "m", "м", "n", "н", "p", "п",
		"r", "р", "s", "с", "t", "т", "v", "в", "z", "з", "a", "а", "e", "е", "i", "и", "o", "о", "u", "у")
	toGreek = strings.NewReplacer("sh", "σ", "ch", "χ", "kh", "χ", "b", "β", "d", "δ", "f", "φ", "g", "γ", "h", "χ", "k", "κ", "l", "λ", "m", "μ", "n", "ν", "p", "π",
		"r", "ρ", "s", "σ", "t", "τ", "v", "β", "z", "ζ", "a", "α", "e", "ε", "i", "ι", "o", "ο", "u", "υ")
	toArabic = strings.NewReplacer("sh", "ش", "ch", "چ", "kh", "خ", "b", "ب", "d", "د", "f", "ف", "g", "گ", "h", "ه", "k", "ك", "l", "ل", "m", "م", "n", "ن", "p", "پ",
		"r", "ر", "s", "س", "t", "ت", "v", "ڤ", "z", "ز", "a", "ا", "e", "", "i", "ي", "o", "و", "u", "و")
	// fromCyrillic is the romanisation of passports (ICAO 9303).
	fromCyrillic = strings.NewReplacer("ш", "sh", "ч", "ch", "х", "kh", "б", "b", "д", "d", "ф", "f", "г", "g", "к", "k", "л", "l", "м", "m", "н", "n", "п", "p",
		"р", "r", "с", "s", "т", "t", "в", "v", "з", "z", "а", "a", "е", "e", "и", "i", "о", "o", "у", "u")
)

func (g *generator) person() string {
	script := g.r.IntN(20)
	switch {
	case script < 2:
		s := []rune{rune(0x4e00 + g.surnames.Uint64())}
		for range 1 + g.r.IntN(2) {
			s = append(s, rune(0x5000+g.signs.Uint64()))
		}
		return string(s)
	case script < 4:
		return string([]rune{rune(0xac00 + 28*g.surnames.Uint64()), rune(0xac00 + g.signs.Uint64()), rune(0xac00 + g.signs.Uint64())})
	}
	name := g.latin(2 + g.r.IntN(2))
	switch {
	case script < 7:
		return toCyrillic.Replace(strings.ToLower(name))
	case script < 8:
		return toGreek.Replace(strings.ToLower(name))
	case script < 10:
		return toArabic.Replace(strings.ToLower(name))
	}
	return name
}

func (g *generator) organisation() string {
	s := g.latin(1+min(1, g.r.IntN(3))) + " " + kinds[g.r.IntN(len(kinds))]
	if g.r.IntN(4) == 0 {
		s = kinds[g.r.IntN(len(kinds))] + " of " + g.latin(2)
	}
	if g.r.IntN(5) == 0 {
		s += " " + kinds[g.r.IntN(len(kinds))]
	}
	return s + legalForms[g.r.IntN(len(legalForms))]
}

// corpus makes entries: three in five organisations, the rest persons, with 0.67
// aliases each.
func corpus(n int, seed uint64) []match.Entry {
	g := newGenerator(n, seed)
	out := make([]match.Entry, n)
	for i := range out {
		name := g.organisation
		if g.r.IntN(5) < 2 {
			name = g.person
		}
		out[i] = match.Entry{Key: key(i), Name: name(), Countries: []string{countries[g.r.IntN(len(countries))]}}
		for g.r.IntN(5) < 2 && len(out[i].Aliases) < 5 {
			out[i].Aliases = append(out[i].Aliases, name())
		}
	}
	return out
}

// asked is a query and the entry it means; -1: none of the corpus.
type asked struct {
	name, kind string
	want       int
}

// questions are half absent, fresh draws of the same language, and half listed
// names corrupted in one of eight ways.
func questions(entries []match.Entry, n int) []asked {
	r := rand.New(rand.NewPCG(3, 4))
	absent := corpus(len(entries), 1<<40)[:n]
	out := make([]asked, 0, n)
	for len(out) < n {
		if len(out)%2 == 0 {
			out = append(out, asked{absent[len(out)].Name, "absent", -1})
			continue
		}
		at := r.IntN(len(entries))
		if s, kind := corrupt(entries[at], r); s != "" {
			out = append(out, asked{s, kind, at})
		}
	}
	return out
}

// corrupt gives "" where the entry cannot be corrupted in the way drawn.
func corrupt(e match.Entry, r *rand.Rand) (name, kind string) {
	s := e.Name
	switch r.IntN(8) {
	case 0:
		return oneEdit(s, r), "1 typo"
	case 1:
		return oneEdit(oneEdit(s, r), r), "2 typos"
	case 2:
		if w := strings.Fields(s); len(w) > 1 {
			return strings.Join(append(w[1:], w[0]), " "), "reordered"
		}
	case 3:
		for _, form := range legalForms {
			if form != "" {
				s = strings.TrimSuffix(s, form)
			}
		}
		if w := strings.Fields(s); len(w) > 3 { // three words at least remain
			i := r.IntN(len(w))
			return strings.Join(append(w[:i:i], w[i+1:]...), " "), "word dropped"
		}
	case 4:
		for _, form := range legalForms {
			if form != "" && strings.HasSuffix(s, form) {
				return strings.TrimSuffix(s, form) + " Corporation", "legal form changed"
			}
		}
	case 5:
		return strings.ToUpper(s), "upper case"
	case 6:
		if len(e.Aliases) > 0 {
			return e.Aliases[r.IntN(len(e.Aliases))], "alias"
		}
	case 7:
		if l := fromCyrillic.Replace(s); l != s {
			return l, "Cyrillic to Latin"
		}
	}
	return "", ""
}
