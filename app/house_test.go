package main

import (
	"bytes"
	"context"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/domain"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const module = "github.com/chainreactions/chainreactions/"

// allowed holds the arrows of the house: what a folder may import of ours.
var allowed = map[string][]string{
	"domain":            {},
	"domain/ftm":        {"domain"},
	"domain/geo":        {"domain"},
	"domain/match":      {"domain", "domain/geo"},
	"domain/sheet":      {"domain", "domain/ftm"},
	"domain/store":      {"domain"},
	"domain/seal":       {},
	"domain/subject":    {"domain/seal", "domain/store"},
	"domain/audit":      {"domain", "domain/store", "domain/seal", "domain/subject", "domain/sheet"},
	"domain/quarantine": {"domain", "domain/store"},
	"domain/dataset":    {"domain", "domain/store", "domain/audit", "domain/match", "domain/sheet", "domain/geo", "domain/ftm"},
	"domain/research":   {"domain", "domain/store", "domain/audit", "domain/match", "domain/geo", "domain/ftm", "domain/sheet"},
	"tenants/privacy":   {"domain", "domain/store", "domain/audit", "domain/seal", "domain/subject", "domain/sheet", "tenants"},
	"tenants/notice":    {"domain", "domain/store", "domain/audit"},
	"tenants/webhook":   {"domain", "domain/store", "domain/audit", "domain/seal"},
	"tenants":           {"domain", "domain/store", "domain/audit"},
	"auth":              {"domain", "domain/store", "domain/audit", "domain/seal", "tenants"},
	"billing":           {"billing/stripe", "domain", "domain/store", "domain/audit", "tenants", "auth"},
	"migrations":        {},
	"samples":           {},
	"samples/realdata":  {},
	"app/jobs":          {"domain", "domain/store", "app/tracing"},
	"app/tracing":       {"domain"},
	"app/faults":        {},
	"app/egress":        {"domain"},
	"app/provider":      {"domain", "domain/store", "domain/research", "app/egress"},
	"app/cluster":       {"billing", "domain"}, // implements billing.Counters
	"app/api":           {"domain", "domain/store", "domain/audit", "tenants", "auth", "billing", "web", "app/tracing", "app/faults"},
	"app/backup":        {"domain/seal"},
	"app/monitor":       {"domain", "domain/store"},
	"app/mail":          {"domain", "domain/store", "domain/seal", "web/mail"},
	"web":               {},
	"web/mail":          {},
	"migrations/testdb": {"domain", "domain/store", "migrations"},
	"app/sandbox":       {},
	"app/sandbox/idp":   {}, // a vendor knows nothing of us

	"billing/stripe":             {"domain"},
	"app/sandbox/stripe":         {}, // a vendor knows nothing of us
	"app/sandbox/stripe/conform": {},
}

// Arrows point down: domain ← tenants ← auth ← billing ← app.
func TestImportRules(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", module+"...").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], module)
		if from == "app" || strings.Contains(from, "/internal/") {
			continue // app wires everything, and the compiler forbids importing it
		}
		may, known := allowed[from]
		if !known {
			t.Errorf("package %s is not in the map: say what it may import", from)
		}
		for _, imported := range words[1:] {
			to, ours := strings.CutPrefix(imported, module)
			if ours && !strings.HasPrefix(to, from+"/internal/") && !contains(may, to) {
				t.Errorf("%s imports %s; allowed is %v", from, to, may)
			}
			if strings.Contains(imported, "gofiber/fiber") && from != "app/api" {
				t.Errorf("%s imports Fiber; only app/api knows it", from)
			}
			if strings.Contains(imported, "stripe/stripe-go") && from != "billing/stripe" {
				t.Errorf("%s imports stripe-go; only billing/stripe knows it", from)
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func testProgram(t *testing.T) *program {
	t.Helper()
	c, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir()}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every change of the security surface shows as one line of this file.
func TestRouteTable(t *testing.T) {
	p := testProgram(t)
	defer p.close(context.Background())
	var b bytes.Buffer
	api.Print(&b, p.table)
	golden := filepath.Join("testdata", "routes.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("the route table changed; read the difference, then run make update (%v)\n%s", err, b.String())
	}
}

// Every sentence that a customer may read exists in both languages.
func TestEverySentence(t *testing.T) {
	at := map[string]int{"E": 2, "InvalidField": 2, "Violation": 2, "Sentence": 1} // the position of the sentence among the arguments
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, _ := sel.X.(*ast.Ident)
			i, ok := at[sel.Sel.Name]
			if pkg == nil || pkg.Name != "domain" || !ok || len(call.Args) <= i {
				return true
			}
			if lit, ok := call.Args[i].(*ast.BasicLit); ok {
				sentence, _ := strconv.Unquote(lit.Value)
				found++
				if !domain.HasChinese(sentence) {
					t.Errorf("%s: no Chinese for %q", set.Position(lit.Pos()), sentence)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || found < 40 {
		t.Fatalf("%d sentences found: %v", found, err)
	}
}
