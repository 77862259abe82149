package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every requirement names tests that exist, or says why it has none.
func TestRequirements(t *testing.T) {
	known := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(src), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "requirements.txt"))
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`^(V\d+\.\d+\.\d+|[ABCD]\d+)$`)
	seen := map[string]bool{}
	for _, line := range strings.Split(string(raw), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || !id.MatchString(words[0]) {
			continue
		}
		if seen[words[0]] {
			t.Errorf("%s stands twice", words[0])
		}
		seen[words[0]] = true
		if scenario := words[0][0] != 'V'; len(words) < 2 || words[1] == "none:" && (scenario || len(words) < 4) {
			t.Errorf("%s: neither a test nor a reason", words[0])
			continue
		}
		for _, name := range words[1:] {
			if words[1] != "none:" && !known[name] {
				t.Errorf("%s: there is no test %s", words[0], name)
			}
		}
	}
	for group, n := range map[string]int{"B": 10, "C": 8, "D": 8} { // the scenarios
		for i := range n {
			if name := fmt.Sprint(group, i+1); !seen[name] {
				t.Errorf("scenario %s has no test", name)
			}
		}
	}
	if len(seen) != 66+7+25+10+8+8 {
		t.Errorf("%d requirements", len(seen))
	}
}
