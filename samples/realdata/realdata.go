// Package realdata gives tests the real lists and the recorded answers of real
// vendors. They are not ours to ship: they stand in a folder shared/data beside the
// checkout, or in data under CR_SHARED. A test that does not find them is skipped and
// says so; where CR_SHARED promises them, it fails.
package realdata

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// List is the text of a real list.
func List(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(find(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Recording is an answer that a vendor gave.
type Recording struct {
	Name   string // of its file
	Answer []byte // byte for byte
}

// Recordings are the recorded answers of Gemini.
func Recordings(t testing.TB) (out []Recording) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(find(t, "gemini_recorded"), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the folder of recorded answers is empty (%v)", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var recorded struct {
			Response struct{ Data json.RawMessage }
		}
		if err := json.Unmarshal(raw, &recorded); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, Recording{filepath.Base(file), recorded.Response.Data})
	}
	return out
}

// find gives the path of a file or a folder of the real data.
func find(t testing.TB, name string) string {
	t.Helper()
	if shared := os.Getenv("CR_SHARED"); shared != "" {
		return filepath.Join(shared, "data", name)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "shared", "data", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skipf("SKIPPED, NOT TESTED: there is no shared/data/%s beside this checkout, and CR_SHARED is not set", name)
	return ""
}
