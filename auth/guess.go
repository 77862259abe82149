package auth

import (
	"encoding/json"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/ccojocar/zxcvbn-go/adjacency"
	"github.com/ccojocar/zxcvbn-go/data"
	"github.com/ccojocar/zxcvbn-go/entropy"
	"github.com/ccojocar/zxcvbn-go/match"
	"github.com/ccojocar/zxcvbn-go/scoring"
)

// How easily a password is guessed: the cheapest way to put it together from what
// an attacker tries first, as zxcvbn has it. The lists and the weights are those of
// zxcvbn-go, which the tests hold this to. What there is to weigh is found here,
// for two reasons: its own finder reads the lists before main, which was a third
// of what every process did until it was ready, and it takes a second and more of
// a core for 64 characters that may stand for letters.

// strength is zxcvbn's score: 0 for the first guesses to 4 for what nobody guesses.
func strength(password string, known []string) int {
	return scoring.MinimumEntropyMatchSequence(password, patterns(password, known)).Score
}

// patterns finds what of the password may be guessed as a whole.
func patterns(password string, known []string) []match.Match {
	out := slices.Concat(runs(password), repeats(password), dates(password))
	for _, name := range []string{"qwerty", "dvorak", "keypad", "macKeypad"} {
		out = append(out, walks(password, adjacency.GraphMap[name])...)
	}
	about := map[string]int{}
	for i, word := range known {
		about[strings.ToLower(word)] = i + 1
	}
	lower := strings.ToLower(password)
	if len(lower) != len(password) { // letters of other lengths: their places would be wrong
		lower = password
	}
	for _, l := range []lexicon{lists(), newLexicon(about)} {
		for i := range lower {
			l.find(lower[i:], 0, 0, len(l.words), func(length, rank int) {
				m := match.Match{Pattern: "dictionary", I: i, J: i + length - 1, Token: password[i : i+length]}
				m.Entropy = entropy.DictionaryEntropy(m, float64(rank))
				out = append(out, m)
			})
		}
	}
	return out
}

// lexicon is words in their order, each with its place among the frequent ones.
type lexicon struct {
	words []string
	ranks []int
}

func newLexicon(ranks map[string]int) (l lexicon) {
	for word := range ranks {
		if word != "" {
			l.words = append(l.words, word)
		}
	}
	slices.Sort(l.words)
	for _, word := range l.words {
		l.ranks = append(l.ranks, ranks[word])
	}
	return l
}

// lists are the library's, read when the first password is judged.
var lists = sync.OnceValue(func() lexicon {
	ranks := map[string]int{}
	for _, name := range []string{"Passwords", "English", "MaleNames", "FemaleNames", "Surnames"} {
		var list struct{ List []string }
		raw, err := data.Asset("data/" + name + ".json")
		if err == nil {
			err = json.Unmarshal(raw, &list)
		}
		if err != nil {
			panic(err) // it is part of the program
		}
		for i, word := range list.List {
			word = strings.ToLower(word)
			if best, ok := ranks[word]; !ok || i+1 < best {
				ranks[word] = i + 1
			}
		}
	}
	return newLexicon(ranks)
})

// disguises are the letters that a character may stand for.
var disguises = map[byte]string{'4': "a", '@': "a", '8': "b", '(': "c", '{': "c", '[': "c", '<': "c", '3': "e", '6': "g", '9': "g",
	'1': "il", '!': "i", '|': "il", '7': "lt", '0': "o", '$': "s", '5': "s", '+': "t", '%': "x", '2': "z"}

// find tells of the words that the text begins with, in any disguise. Of those
// from lo to hi the first depth letters are found already.
func (l lexicon) find(text string, depth, lo, hi int, found func(length, rank int)) {
	if depth > 0 && len(l.words[lo]) == depth {
		found(depth, l.ranks[lo])
	}
	if depth == len(text) {
		return
	}
	from := func(letter int) int { // the first word that goes on with it, or with a later one
		return lo + sort.Search(hi-lo, func(i int) bool { w := l.words[lo+i]; return len(w) > depth && int(w[depth]) >= letter })
	}
	c := text[depth]
	for _, letter := range append([]byte{c}, disguises[c]...) {
		if a, b := from(int(letter)), from(int(letter)+1); a < b {
			l.find(text, depth+1, a, b, found)
		}
	}
}

// runs are those of the alphabet and of the digits, up or down.
func runs(password string) (out []match.Match) {
	for _, seq := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"} {
		for i := 0; i < len(password); {
			step, j := 0, i+1
			for ; j < len(password); j++ {
				a, b := strings.IndexByte(seq, password[j-1]), strings.IndexByte(seq, password[j])
				if d := b - a; a < 0 || b < 0 || d != 1 && d != -1 || step != 0 && d != step {
					break
				}
				step = strings.IndexByte(seq, password[j]) - strings.IndexByte(seq, password[j-1])
			}
			if j-i > 2 {
				m := match.Match{Pattern: "sequence", I: i, J: j - 1, Token: password[i:j]}
				m.Entropy = entropy.SequenceEntropy(m, len(seq), step == 1)
				out = append(out, m)
			}
			i = j
		}
	}
	return out
}

// repeats are three and more of one character.
func repeats(password string) (out []match.Match) {
	for i := 0; i < len(password); {
		j := i + 1
		for j < len(password) && strings.EqualFold(password[j:j+1], password[i:i+1]) {
			j++
		}
		if j-i > 2 {
			m := match.Match{Pattern: "repeat", I: i, J: j - 1, Token: password[i:j]}
			m.Entropy = entropy.RepeatEntropy(m)
			out = append(out, m)
		}
		i = j
	}
	return out
}

// walks are three and more neighbours on a keyboard.
func walks(password string, keyboard adjacency.Graph) (out []match.Match) {
	for i := 0; i < len(password)-1; {
		j, turns, shifted, last := i+1, 0, 0, -1
		for ; j < len(password); j++ {
			way := slices.IndexFunc(keyboard.Graph[password[j-1:j]], func(key string) bool { return strings.IndexByte(key, password[j]) >= 0 })
			if way < 0 {
				break
			}
			if strings.IndexByte(keyboard.Graph[password[j-1:j]][way], password[j]) == 1 {
				shifted++
			}
			if way != last {
				turns, last = turns+1, way
			}
		}
		if j-i > 2 {
			m := match.Match{Pattern: "spatial", I: i, J: j - 1, Token: password[i:j], DictionaryName: keyboard.Name}
			m.Entropy = entropy.SpatialEntropy(m, turns, shifted)
			out = append(out, m)
		}
		i = j
	}
	return out
}

var (
	dayFirst  = regexp.MustCompile(`(\d{1,2})([\s/\\_.-])(\d{1,2})[\s/\\_.-]((?:19|20)\d\d|\d\d)`)
	yearFirst = regexp.MustCompile(`((?:19|20)\d\d|\d\d)([\s/\\_.-])(\d{1,2})[\s/\\_.-](\d{1,2})`)
	digits    = regexp.MustCompile(`\d{4,8}`)
)

// dates are written with separators, or as six or eight digits.
func dates(password string) (out []match.Match) {
	add := func(i, j int, separator, year, a, b string) {
		y, _ := strconv.ParseInt(year, 10, 16)
		day, _ := strconv.ParseInt(a, 10, 16)
		month, _ := strconv.ParseInt(b, 10, 16)
		if day > 31 || month > 31 || day > 12 && month > 12 || y >= 100 && (y < 1900 || y > 2099) {
			return
		}
		m := match.Match{Pattern: "date", I: i, J: j - 1, Token: password[i:j], DictionaryName: "date_match"}
		m.Entropy = entropy.DateEntropy(match.DateMatch{Day: day, Month: month, Year: y, Separator: separator})
		out = append(out, m)
	}
	part := func(at []int, n int) string { return password[at[2*n]:at[2*n+1]] }
	for _, at := range dayFirst.FindAllStringSubmatchIndex(password, -1) {
		add(at[0], at[1], part(at, 2), part(at, 4), part(at, 1), part(at, 3))
	}
	for _, at := range yearFirst.FindAllStringSubmatchIndex(password, -1) {
		add(at[0], at[1], part(at, 2), part(at, 1), part(at, 3), part(at, 4))
	}
	for _, at := range digits.FindAllStringIndex(password, -1) {
		switch v, i, j := password[at[0]:at[1]], at[0], at[1]; len(v) {
		case 6:
			add(i, j, "", v[:2], v[2:4], v[4:])
			add(i, j, "", v[4:], v[:2], v[2:4])
		case 8:
			add(i, j, "", v[:4], v[4:6], v[6:])
			add(i, j, "", v[4:], v[:2], v[2:4])
		}
	}
	return out
}
