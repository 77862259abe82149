package auth

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ccojocar/zxcvbn-go"
)

var runDown = regexp.MustCompile("ba|BA|10")

// Passwords are judged as zxcvbn-go judges them. Where characters may stand for
// letters it tries them all as letters, and we each by itself: there a password may
// be judged weaker, and never stronger. Left out is what the library gets wrong:
// dates and letters of several bytes have places that are not theirs, and a run down
// to its first character takes in whatever follows.
func TestStrengthIsThatOfTheLibrary(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	word := func() string {
		l := lists()
		w := l.words[r.IntN(len(l.words))]
		for w[0] >= 0x80 || len(w) > 12 {
			w = l.words[r.IntN(len(l.words))]
		}
		return w
	}
	walk := []string{"qwerty", "asdfgh", "zaq1xsw2", "poiuy", "7410", "963", "qazWSX", "aoeui"}
	piece := []func() string{word, word, word,
		func() string { return strings.ToUpper(word()[:1]) + word()[1:] },
		func() string { return strings.ToUpper(word()) },
		func() string { return walk[r.IntN(len(walk))] },
		func() string { return strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(6)) },
		func() string { return "abcdefghijklmnopqrstuvwxyz"[r.IntN(13):][:3+r.IntN(8)] },
		func() string { return []string{"zyxwv", "Cba", "123456", "98765", "XYZ"}[r.IntN(5)] },
		func() string {
			return []string{"12.03.1987", "1999-12-31", "311299", "19870312", "1-1-99", "2031"}[r.IntN(6)]
		},
		func() string { return []string{"-", " ", "_", ".", ""}[r.IntN(5)] },
		func() string {
			b := make([]byte, 1+r.IntN(5))
			for i := range b {
				b[i] = byte(' ' + r.IntN(95))
			}
			return string(b)
		},
		func() string { return []string{"é", "中文", "ß", "İ"}[r.IntN(4)] },
	}
	known := []string{"chainreactions", "Zhang", "acme"}
	judged, disguised := 0, 0
	for range 400 {
		var p string
		for range 1 + r.IntN(5) {
			p += piece[r.IntN(len(piece))]()
		}
		stands := 0
		for _, c := range []byte(p) {
			if disguises[c] != "" {
				stands++
			}
		}
		ours := strength(p, known)
		if stands > 5 || len(dates(p)) > 0 || runDown.MatchString(p) || strings.IndexFunc(p, func(c rune) bool { return c >= 0x80 }) >= 0 { // the first it takes its time for
			continue
		}
		theirs := zxcvbn.PasswordStrength(p, known).Score
		if ours > theirs || stands == 0 && ours < theirs {
			t.Fatalf("%q is %d, and %d to the library (seed %d)", p, ours, theirs, seed)
		}
		judged++
		if ours < theirs {
			disguised++
		}
	}
	if judged < 100 {
		t.Errorf("%d were judged", judged)
	}
	t.Logf("%d passwords; %d of them, with characters that may stand for letters, are weaker to us", judged, disguised)
}

// What takes the library a second is judged at once: the words that a text may
// begin with are found letter by letter, however many characters may stand for
// several.
func TestManyDisguises(t *testing.T) {
	for _, p := range []string{strings.Repeat("1|7!", 16), "4@8({[<369 1!|70$5+%2 abcdefgh ijklmnop qrstuvwx 4@8({[<369 1!|7"} {
		if n := len(patterns(p, nil)); n > 64*len(p) {
			t.Errorf("%q: %d patterns", p, n)
		}
		strength(p, nil)
	}
	for _, weak := range []string{"p@ssw0rd!", "P4$$word1", "m0nk3y123", "tr0ub4dor", "monkey 12.03.1987", "12.03.1987monkey", "monkey19870312"} {
		if got := strength(weak, nil); got >= 3 {
			t.Errorf("%q is %d", weak, got)
		}
	}
}
