package match

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/antzucaro/matchr"
)

func TestJaroWinkler(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"", "", 1},
		{"", "abc", 0},
		{"abc", "xyz", 0},
		{"MARTHA", "MARHTA", 0.961111}, // Winkler's own examples
		{"DIXON", "DICKSONX", 0.813333},
		{"DWAYNE", "DUANE", 0.84},
	} {
		if got := JaroWinkler(c.a, c.b); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("JaroWinkler(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// matchr walks its first argument over its second, we the second over the
// first; and it boosts letters only and above .7, so digits are left out.
func TestJaroWinklerEqualsLibrary(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		alphabet := []string{"abcdefghijklmnopqrstuvwxyz ", alphabets[2], alphabets[3]}[rng.IntN(3)]
		a := randomName(rng, alphabet, 1+rng.IntN(90))
		b := edited(rng, a, alphabet)
		if b == "" || math.Abs(matchr.Jaro(b, a)-boostFrom) < 1e-9 {
			continue
		}
		if got, want := JaroWinkler(a, b), matchr.JaroWinkler(b, a, false); math.Abs(got-want) > 1e-12 {
			t.Fatalf("JaroWinkler(%q, %q) = %v, library %v", a, b, got, want)
		}
	}
}
