package match

import "testing"

func TestTrigramSimilarity(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"", "", 1},
		{"", "a", 0},
		{"a", "a", 1},
		{"abc", "abd", 2.0 / 6}, // ··a ·ab shared; abc bc· abd bd· not
		{"aaaa", "aaaaaa", 1},   // sets, not bags
		{"中国", "中國", 1.0 / 5},
	} {
		if got := TrigramSimilarity(c.a, c.b); got != c.want {
			t.Errorf("TrigramSimilarity(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
