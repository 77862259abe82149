package research

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"regexp"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/domain/ftm"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// Every export has every edge that holds, in a form that its own standard
// allows, and none of what did not hold.
func TestExports(t *testing.T) {
	db := testdb.SQLite(t)
	w := volta()
	w.pages[5].title = "=HYPERLINK(\"https://evil.example\")" // of the conference's programme
	r := newRig(t, db, w, nil)
	run := must(r.StartRelations(r.a, voltaRequest()))
	if err := r.Export(r.a, ExportRequest{ID: run.ID, Format: "json"}, &bytes.Buffer{}); code(err) != "run_not_ended" {
		t.Errorf("before the end: %v", err)
	}
	r.work()
	run = r.get(run.ID)
	held, quotes := map[string]Edge{}, 0
	for _, e := range run.Result.Edges {
		if e.Verified {
			held[e.ID] = e
		}
		for _, ev := range e.Evidence {
			if e.Verified && ev.Verified {
				quotes++
			}
		}
	}
	if len(held) < 5 {
		t.Fatalf("%d edges hold", len(held))
	}
	export := func(format string) []byte {
		var b bytes.Buffer
		if err := r.Export(r.a, ExportRequest{ID: run.ID, Format: format}, &b); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		return b.Bytes()
	}

	var again Run
	if err := json.Unmarshal(export("json"), &again); err != nil || len(again.Result.Relations) != len(voltaVerdicts) {
		t.Errorf("json: %v", err)
	}

	rows, err := csv.NewReader(bytes.NewReader(export("csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, row := range rows[1:] {
		seen[row[1]] = row[2]
		for _, cell := range row {
			if strings.HasPrefix(cell, "=") {
				t.Errorf("csv: a formula: %q", cell)
			}
		}
	}
	for _, v := range voltaVerdicts {
		if seen[v.name] != v.verdict {
			t.Errorf("csv: %s is %q", v.name, seen[v.name])
		}
	}

	edges := 0
	for _, line := range bytes.Split(bytes.TrimSpace(export("ftm")), []byte("\n")) {
		var e ftm.Entity
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if p := e.Validate(); len(p) > 0 {
			t.Errorf("ftm: %s: %v", line, p)
		}
		if s, _ := ftm.Lookup(e.Schema); s.Edge != nil {
			x := held[strings.TrimPrefix(e.ID, "cr-")]
			edges++
			if x.ID == "" || e.First(s.Edge.Source) != "cr-"+x.From || e.First(s.Edge.Target) != "cr-"+x.To || len(e.Properties["proof"]) == 0 {
				t.Errorf("ftm: %s", line)
			}
		}
	}
	if edges != len(held) {
		t.Errorf("ftm: %d edges, want %d", edges, len(held))
	}

	var graph struct {
		Graph struct {
			Default string `xml:"edgedefault,attr"`
			Nodes   []struct {
				ID string `xml:"id,attr"`
			} `xml:"node"`
			Edges []struct {
				ID       string `xml:"id,attr"`
				Source   string `xml:"source,attr"`
				Target   string `xml:"target,attr"`
				Directed string `xml:"directed,attr"`
			} `xml:"edge"`
		} `xml:"graph"`
	}
	if err := xml.Unmarshal(export("graphml"), &graph); err != nil {
		t.Fatal(err)
	}
	if len(graph.Graph.Nodes) != len(run.Result.Entities) || len(graph.Graph.Edges) != len(run.Result.Edges) {
		t.Errorf("graphml: %d nodes, %d edges", len(graph.Graph.Nodes), len(graph.Graph.Edges))
	}
	for i, e := range graph.Graph.Edges { // NetworkX refuses an edge that is not as the graph's default is
		if x := run.Result.Edges[i]; e.ID != x.ID || e.Source != x.From || e.Target != x.To || e.Directed != "" || graph.Graph.Default != "directed" {
			t.Errorf("graphml: %+v", e)
		}
	}

	checkSTIX(t, export("stix"), len(held), quotes)

	pdf := export("pdf")
	if !bytes.HasPrefix(pdf, []byte("%PDF-1.")) || !bytes.Contains(pdf, []byte("%%EOF")) || !bytes.Contains(pdf, []byte("/FontFile2")) {
		t.Errorf("pdf: %d bytes", len(pdf))
	}
	if len(pdf) > 1<<20 {
		t.Errorf("pdf: %d bytes: the fonts are not subsets", len(pdf))
	}

	g := must(r.GraphOf(r.a, IDRequest{ID: run.ID}))
	if len(g.Nodes) != len(run.Result.Entities) || len(g.Edges) != len(run.Result.Edges) {
		t.Errorf("graph: %d nodes, %d edges", len(g.Nodes), len(g.Edges))
	}
}

// checkSTIX holds a bundle to the rules of STIX 2.1 that its objects come
// under (OASIS, 10 June 2021: §2, §3.2, §4.5, §4.9, §5.1).
func checkSTIX(t *testing.T, raw []byte, edges, quotes int) {
	t.Helper()
	var bundle struct {
		Type, ID string
		Objects  []map[string]any
	}
	if err := json.Unmarshal(raw, &bundle); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`^[a-z][a-z0-9-]+[a-z0-9]--[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	when := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`)
	kind := regexp.MustCompile(`^[a-z0-9-]+$`)
	if bundle.Type != "bundle" || !strings.HasPrefix(bundle.ID, "bundle--") || !id.MatchString(bundle.ID) {
		t.Errorf("stix: %s %s", bundle.Type, bundle.ID)
	}
	known := map[string]bool{}
	for _, o := range bundle.Objects {
		name, _ := o["id"].(string)
		if known[name] {
			t.Errorf("stix: %s is there twice", name)
		}
		known[name] = true
	}
	relations, refs := 0, 0
	for _, o := range bundle.Objects {
		text := func(k string) string { s, _ := o[k].(string); return s }
		if !id.MatchString(text("id")) || !strings.HasPrefix(text("id"), text("type")+"--") || text("spec_version") != "2.1" || !when.MatchString(text("created")) || !when.MatchString(text("modified")) || text("modified") < text("created") {
			t.Errorf("stix: common properties: %v", o)
		}
		for _, k := range []string{"created_by_ref", "source_ref", "target_ref"} {
			if v := text(k); v != "" && !known[v] {
				t.Errorf("stix: %s points nowhere", k)
			}
		}
		if c, ok := o["confidence"].(float64); ok && (c < 0 || c > 100 || c != float64(int(c))) {
			t.Errorf("stix: confidence %v", c)
		}
		switch text("type") {
		case "identity":
			if text("name") == "" || !map[string]bool{"individual": true, "organization": true, "system": true}[text("identity_class")] {
				t.Errorf("stix: %v", o)
			}
		case "relationship":
			relations++
			if !kind.MatchString(text("relationship_type")) || text("source_ref") == "" || text("target_ref") == "" {
				t.Errorf("stix: %v", o)
			}
			list, _ := o["external_references"].([]any)
			for _, ref := range list {
				refs++
				if ref := ref.(map[string]any); ref["source_name"] == "" || ref["url"] == "" || ref["description"] == "" {
					t.Errorf("stix: %v", ref)
				}
			}
		case "note":
			if list, _ := o["object_refs"].([]any); text("content") == "" || len(list) == 0 || !known[list[0].(string)] {
				t.Errorf("stix: %v", o)
			}
		default:
			t.Errorf("stix: an object of type %s", text("type"))
		}
	}
	if relations != edges || refs != quotes {
		t.Errorf("stix: %d relationships with %d quotes, want %d with %d", relations, refs, edges, quotes)
	}
}
