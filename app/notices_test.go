package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/web"
)

// Every module that the binary is linked of is named in the notices with the whole
// of its licence, and what is bundled without being a module was looked at for the
// version that is in use.
func TestNotices(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := slices.Compact(slices.Sorted(strings.Lines(string(out))))
	if len(modules) < 50 {
		t.Fatalf("%d modules", len(modules))
	}
	owners := map[string][]string{} // of a text, which many share to the letter
	var texts []string
	pdfium := ""
	for _, m := range modules {
		f := strings.Fields(m)
		if f[0] == "github.com/klippa-app/go-pdfium" {
			pdfium = "go-pdfium " + f[1]
		}
		text := licences(t, f[2])
		if text == "" {
			t.Errorf("%s has no licence", f[0])
		}
		if owners[text] == nil {
			texts = append(texts, text)
		}
		owners[text] = append(owners[text], f[0]+" "+f[1])
	}
	var b strings.Builder
	line := strings.Repeat("=", 78)
	for _, text := range texts {
		fmt.Fprintf(&b, "%s\n%s\n%s\n\n%s\n\n", line, strings.Join(owners[text], "\n"), line, text)
	}
	if *update {
		if err := os.WriteFile("notices/modules.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile("notices/modules.txt"); err != nil || string(kept) != b.String() {
		t.Errorf("the modules are others than notices/modules.txt says: go test ./app -run TestNotices -update, and read the difference (%v)", err)
	}
	if bundled, err := os.ReadFile("notices/bundled.txt"); err != nil || !strings.Contains(string(bundled), pdfium+",") {
		t.Errorf("notices/bundled.txt was not made for %s: look at what its PDFium is made of (%v)", pdfium, err)
	}
}

// licences gives the licence and notice files at the top of a module, and those
// of what it has copied from others.
func licences(t *testing.T, dir string) string {
	t.Helper()
	file := regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|unlicense)([-.].*)?$`)
	var parts []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !file.MatchString(d.Name()) || strings.HasSuffix(path, ".go") {
			return err
		}
		raw, err := os.ReadFile(path)
		text := strings.TrimSpace(strings.ReplaceAll(string(bytes.ToValidUTF8(raw, nil)), "\r\n", "\n"))
		if !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(parts, "\n\n----\n\n")
}

// The command prints all of it, the portal's packages too where there is a portal.
func TestLicencesCommand(t *testing.T) {
	var out bytes.Buffer
	if err := writeNotices(&out, web.Embedded()); err != nil {
		t.Fatal(err)
	}
	wanted := []string{"The FreeType Project LICENSE", "END OF TERMS AND CONDITIONS", "GeoNames", "github.com/gofiber/fiber/v2"}
	if web.Embedded().Built() {
		wanted = append(wanted, "## react - ", "## @mantine/core - ")
	}
	for _, want := range wanted {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in it", want)
		}
	}
}
