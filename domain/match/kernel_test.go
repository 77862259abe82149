package match

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// The references below are the textbook definitions, slow and plain.

func slowLevenshtein(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j := range y {
			cost := diagonal
			if x[i] != y[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(y)]
}

func slowJaroWinkler(a, b string) float64 {
	x, y := []rune(a), []rune(b)
	if len(x) == 0 || len(y) == 0 {
		if len(x) == len(y) {
			return 1
		}
		return 0
	}
	reach := max(0, max(len(x), len(y))/2-1)
	usedX, usedY := make([]bool, len(x)), make([]bool, len(y))
	matches := 0
	for j := range y {
		for i := max(0, j-reach); i <= min(len(x)-1, j+reach); i++ {
			if !usedX[i] && x[i] == y[j] {
				usedX[i], usedY[j] = true, true
				matches++
				break
			}
		}
	}
	if matches == 0 {
		return 0
	}
	swapped, j := 0, 0
	for i := range x {
		if !usedX[i] {
			continue
		}
		for !usedY[j] {
			j++
		}
		if x[i] != y[j] {
			swapped++
		}
		j++
	}
	c := float64(matches)
	s := (c/float64(len(x)) + c/float64(len(y)) + (c-float64(swapped/2))/c) / 3
	if s >= 0.7 {
		n := 0
		for n < 4 && n < len(x) && n < len(y) && x[n] == y[n] {
			n++
		}
		s += float64(n) * 0.1 * (1 - s)
	}
	return s
}

func slowTrigram(a, b string) float64 {
	set := func(s string) map[[3]rune]bool {
		m := map[[3]rune]bool{}
		if s == "" {
			return m
		}
		r := append(append([]rune{-1, -1}, []rune(s)...), -1)
		for i := range len(r) - 2 {
			m[[3]rune(r[i:i+3])] = true
		}
		return m
	}
	x, y := set(a), set(b)
	shared := 0
	for g := range x {
		if y[g] {
			shared++
		}
	}
	if all := len(x) + len(y) - shared; all > 0 {
		return float64(shared) / float64(all)
	}
	return 1
}

// checkKernels compares every kernel, one-shot and prepared, with its
// reference. reused is a Pattern that has held other names before.
func checkKernels(t *testing.T, reused *Pattern, a, b string) {
	t.Helper()
	wantL, wantJ, wantT := slowLevenshtein(a, b), slowJaroWinkler(a, b), slowTrigram(a, b)
	if got := LevenshteinDistance(a, b); got != wantL {
		t.Fatalf("LevenshteinDistance(%q, %q) = %d, want %d", a, b, got, wantL)
	}
	if got := JaroWinkler(a, b); math.Abs(got-wantJ) > 1e-12 {
		t.Fatalf("JaroWinkler(%q, %q) = %v, want %v", a, b, got, wantJ)
	}
	if got := TrigramSimilarity(a, b); got != wantT {
		t.Fatalf("TrigramSimilarity(%q, %q) = %v, want %v", a, b, got, wantT)
	}
	for _, p := range []*Pattern{NewPattern(a), reused} {
		p.Reset(a)
		if got := p.Levenshtein(b); got != wantL {
			t.Fatalf("Pattern(%q).Levenshtein(%q) = %d, want %d", a, b, got, wantL)
		}
		for _, limit := range []int{-1, 0, 1, 2, 3, wantL - 1, wantL, wantL + 1} {
			d, ok := p.LevenshteinWithin(b, limit)
			if ok != (wantL <= limit) || ok && d != wantL || !ok && d != limit+1 {
				t.Fatalf("Pattern(%q).LevenshteinWithin(%q, %d) = %d, %v; distance %d", a, b, limit, d, ok, wantL)
			}
		}
		if got := p.JaroWinkler(b); math.Abs(got-wantJ) > 1e-12 {
			t.Fatalf("Pattern(%q).JaroWinkler(%q) = %v, want %v", a, b, got, wantJ)
		}
		if got := p.Trigram(NewPattern(b)); got != wantT {
			t.Fatalf("Pattern(%q).Trigram(%q) = %v, want %v", a, b, got, wantT)
		}
	}
}

var alphabets = []string{
	"ab", "abcdefghijklmnopqrstuvwxyz 0123", "абвгдежзийклмнопрстуфхцчшщъыьэюя ",
	"中国科学技术大学北京航空航天 ", "aбé中😀\xff\xc3", "\x80\xe4\xb8a\xad\xf0\x9f",
}

func randomName(rng *rand.Rand, alphabet string, n int) string {
	var sb strings.Builder
	if !utf8.ValidString(alphabet) && rng.IntN(2) == 0 {
		for range n {
			sb.WriteByte(alphabet[rng.IntN(len(alphabet))])
		}
		return sb.String()
	}
	letters := []rune(alphabet)
	for range n {
		sb.WriteRune(letters[rng.IntN(len(letters))])
	}
	return sb.String()
}

// edited makes 0 to 4 random edits of runes.
func edited(rng *rand.Rand, s, alphabet string) string {
	r := []rune(s)
	letters := []rune(alphabet)
	for range rng.IntN(5) {
		c := letters[rng.IntN(len(letters))]
		i := rng.IntN(len(r) + 1)
		switch k := rng.IntN(4); {
		case k == 0 || i == len(r):
			r = append(r[:i:i], append([]rune{c}, r[i:]...)...)
		case k == 1:
			r = append(r[:i:i], r[i+1:]...)
		case k == 2:
			r[i] = c
		case i > 0:
			r[i-1], r[i] = r[i], r[i-1]
		}
	}
	return string(r)
}

// The kernels are the textbook measures on every script, length around the
// word boundaries, and bytes that are no text.
func TestKernelsEqualDefinitions(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	reused := NewPattern("")
	for _, pair := range [][2]string{{"", ""}, {"", "a"}, {"a", ""}, {"a", "b"}, {"ab", "ba"}, {"é", "e"}, {"\xff", "\xfe"}, {"\xe4\xb8", "\xe4\xb8\xad"}} {
		checkKernels(t, reused, pair[0], pair[1])
	}
	lengths := []int{1, 2, 5, 12, 24, 40, 62, 63, 64, 65, 66, 127, 128, 129, 200}
	for round := range 40 {
		for _, alphabet := range alphabets {
			for _, n := range lengths {
				if n > 66 && round%8 != 0 {
					continue
				}
				a := randomName(rng, alphabet, n)
				checkKernels(t, reused, a, edited(rng, a, alphabet))
				checkKernels(t, reused, a, randomName(rng, alphabet, 1+rng.IntN(n+3)))
			}
		}
	}
}

func FuzzKernels(f *testing.F) {
	f.Add("Huawei Technologies", "Huawai Technology")
	f.Add("Харбинский", "\xffХарбин")
	f.Add(strings.Repeat("ab中", 30), strings.Repeat("ba中", 31))
	reused := NewPattern("")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 600 || len(b) > 600 {
			return
		}
		checkKernels(t, reused, a, b)
	})
}

func TestKernelsAllocateNothing(t *testing.T) {
	for _, pair := range [][2]string{
		{"National University of Defense Technology", "Natl. Univ. of Defence Technology"},
		{"Национальный университет обороны", "Национальная академия обороны"},
		{strings.Repeat("中", 64), strings.Repeat("中国", 32)},
		{strings.Repeat("ab中", 40), strings.Repeat("ba中", 50)},
	} {
		a, b := pair[0], pair[1]
		p, q := NewPattern(a), NewPattern(b)
		all := func() {
			LevenshteinDistance(a, b)
			LevenshteinSimilarity(a, b)
			JaroWinkler(a, b)
			TrigramSimilarity(a, b)
			p.Reset(a)
			p.Levenshtein(b)
			p.LevenshteinWithin(b, 3)
			p.JaroWinkler(b)
			p.Trigram(q)
		}
		all()
		if n := testing.AllocsPerRun(200, all); n != 0 {
			t.Errorf("%.0f allocations on %s", n, fmt.Sprintf("%.20q", a))
		}
	}
}
