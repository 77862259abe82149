package research

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/ftm"
	"github.com/chainreactions/chainreactions/domain/sheet"
)

// ExportRequest asks for a run's result as a file.
type ExportRequest struct {
	ID     string `path:"id" json:"-" maxLength:"64"`
	Format string `query:"format" json:"-" enum:"json,csv,graphml,ftm,stix,pdf" default:"json"`
}

// Export writes the result of a run. Every format has every edge that holds,
// with its evidence; nothing that did not hold is in one without a mark.
func (r *Research) Export(ctx context.Context, in ExportRequest, w io.Writer) error {
	run, err := r.Get(ctx, IDRequest{ID: in.ID})
	if err != nil {
		return err
	}
	if run.Result == nil {
		return domain.E(domain.Conflict, "run_not_ended", "There is no result yet.")
	}
	if run.Kind == KindDataset {
		if run.Result.Relations, err = r.allFindings(ctx, run.ID); err != nil {
			return err
		}
		run.Result.fromFindings()
	}
	switch in.Format {
	case "", "json":
		return writeJSON(w, run)
	case "csv":
		return writeCSV(w, run)
	case "graphml":
		return writeGraphML(w, run)
	case "ftm":
		return writeFTM(w, run)
	case "stix":
		return writeSTIX(w, run)
	case "pdf":
		return writePDF(w, run)
	}
	return domain.InvalidField("format", "not_allowed", "The format is json, csv, graphml, ftm, stix or pdf.")
}

// allFindings reads a dataset search's findings page by page.
func (r *Research) allFindings(ctx context.Context, id string) (out []Relation, err error) {
	in := FindingsRequest{ID: id}
	for in.Limit = 200; ; {
		page, err := r.Findings(ctx, in)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Data...)
		if page.NextCursor == nil {
			return out, nil
		}
		in.Cursor = *page.NextCursor
	}
}

// fromFindings makes the entities, edges and sources of a dataset search from
// its findings: a relation that holds is one edge with its evidence.
func (r *Result) fromFindings() {
	entities, sources := map[string]Entity{}, map[string]Source{}
	meet := func(name, role string) string {
		id := entityID(name)
		if _, ok := entities[id]; !ok {
			entities[id] = Entity{ID: id, Schema: "Organization", Name: name, Role: role, Aliases: []string{}, Countries: []string{}, Listed: []Listed{}}
		}
		return id
	}
	for _, rel := range r.Relations {
		from, to := meet(rel.Source, "institution"), meet(rel.Target, "risk_item")
		for _, e := range rel.Evidence {
			sources[e.SourceID] = Source{ID: e.SourceID, URL: e.URL, Title: e.Title, Engines: []string{}, Language: e.Language, PublishedAt: e.PublishedAt,
				RetrievedAt: e.RetrievedAt, Hash: e.Hash, Type: e.SourceType, Credibility: e.Credibility}
		}
		if rel.Type != Direct && rel.Type != Indirect || from == to {
			continue
		}
		stops := []string{from}
		for _, name := range rel.Intermediaries {
			stops = append(stops, meet(name, "intermediary"))
		}
		stops = append(stops, to)
		for i := 0; i+1 < len(stops); i++ {
			a, b := stops[i], stops[i+1]
			edge := Edge{ID: stableID("rel", "UnknownLink\x00"+min(a, b)+"\x00"+max(a, b)), Schema: "UnknownLink", From: min(a, b), To: max(a, b), Verified: true,
				Confidence: rel.Confidence, Evidence: []Evidence{}}
			for _, e := range rel.Evidence {
				if e.Edge == edge.ID || rel.Type == Direct {
					edge.Evidence = append(edge.Evidence, e)
				}
			}
			if !slices.ContainsFunc(r.Edges, func(o Edge) bool { return o.ID == edge.ID }) {
				r.Edges = append(r.Edges, edge)
			}
		}
	}
	for _, id := range slices.Sorted(keysOf(entities)) {
		r.Entities = append(r.Entities, entities[id])
	}
	for _, id := range slices.Sorted(keysOf(sources)) {
		r.Sources = append(r.Sources, sources[id])
	}
}

func writeJSON(w io.Writer, run Run) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(run)
}

// writeCSV has one row for each piece of evidence, and one for each relation
// that has none, so that a list of risk items keeps all of them.
func writeCSV(w io.Writer, run Run) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	row := func(cells ...string) {
		for i, c := range cells {
			cells[i] = sheet.Guard(c)
		}
		_ = out.Write(cells)
	}
	row("source", "target", "type", "confidence", "intermediaries", "schema", "summary", "verified", "reason", "hearsay", "quote", "url", "title", "published_at", "retrieved_at",
		"language", "source_type", "credibility", "entry_id", "error", "sandbox")
	sandbox := strconv.FormatBool(run.Sandbox)
	for _, r := range run.Result.Relations {
		failed := ""
		if r.Error != nil {
			failed = r.Error.Code
		}
		head := []string{r.Source, r.Target, r.Type, number(r.Confidence), strings.Join(r.Intermediaries, "; "), r.Schema, r.Summary}
		for _, e := range r.Evidence {
			row(append(slices.Clone(head), strconv.FormatBool(e.Verified), e.Reason, strconv.FormatBool(e.Hearsay), e.Quote, e.URL, e.Title, e.PublishedAt, stamp(e.RetrievedAt),
				e.Language, e.SourceType, number(e.Credibility), r.EntryID, failed, sandbox)...)
		}
		if len(r.Evidence) == 0 {
			row(append(slices.Clone(head), "", "", "", "", "", "", "", "", "", "", "", r.EntryID, failed, sandbox)...)
		}
	}
	if p := run.Result.Profile; p != nil {
		for _, f := range profileFields {
			for _, fact := range p.Fields[f.Name] {
				row(run.Title, f.Name, "profile", "", "", "", fact.Value, strconv.FormatBool(fact.Confirmed), "", "", "", run.Result.urls(fact.SourceIDs), "", "", "", "", "", "", "", "", sandbox)
			}
		}
	}
	for _, s := range run.Result.Signals {
		row(run.Title, s.Keyword, "signal:"+s.Severity, number(s.Confidence), "", "", "", "", s.Reason, "", "", "", "", "", "", "", "", "", "", "", sandbox)
		for _, e := range s.Evidence {
			row(run.Title, s.Keyword, "signal:"+s.Severity, number(s.Confidence), "", "", "", strconv.FormatBool(e.Verified), e.Reason, strconv.FormatBool(e.Hearsay), e.Quote, e.URL,
				e.Title, e.PublishedAt, stamp(e.RetrievedAt), e.Language, e.SourceType, number(e.Credibility), "", "", sandbox)
		}
	}
	out.Flush()
	return out.Error()
}

func (r *Result) urls(ids []string) string {
	var out []string
	for _, s := range r.Sources {
		if slices.Contains(ids, s.ID) {
			out = append(out, s.URL)
		}
	}
	return strings.Join(out, " ")
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// writeGraphML writes the graph as GraphML (http://graphml.graphdrawing.org).
func writeGraphML(w io.Writer, run Run) error {
	type datum struct {
		Key  string `xml:"key,attr"`
		Text string `xml:",chardata"`
	}
	type node struct {
		ID   string  `xml:"id,attr"`
		Data []datum `xml:"data"`
	}
	type edge struct {
		ID     string  `xml:"id,attr"`
		Source string  `xml:"source,attr"`
		Target string  `xml:"target,attr"`
		Data   []datum `xml:"data"`
	}
	type key struct {
		ID   string `xml:"id,attr"`
		For  string `xml:"for,attr"`
		Name string `xml:"attr.name,attr"`
		Type string `xml:"attr.type,attr"`
	}
	var doc struct {
		XMLName xml.Name `xml:"http://graphml.graphdrawing.org/xmlns graphml"`
		Keys    []key    `xml:"key"`
		Graph   struct {
			ID      string `xml:"id,attr"`
			Default string `xml:"edgedefault,attr"`
			Nodes   []node `xml:"node"`
			Edges   []edge `xml:"edge"`
		} `xml:"graph"`
	}
	for _, k := range []struct{ on, name, kind string }{{"node", "label", "string"}, {"node", "schema", "string"}, {"node", "role", "string"}, {"node", "countries", "string"}, {"node", "verdict", "string"},
		{"edge", "label", "string"}, {"edge", "schema", "string"}, {"edge", "directed", "boolean"}, {"edge", "verified", "boolean"}, {"edge", "confidence", "double"}, {"edge", "quotes", "string"}, {"edge", "urls", "string"}} {
		doc.Keys = append(doc.Keys, key{k.on[:1] + "_" + k.name, k.on, k.name, k.kind})
	}
	doc.Graph.ID, doc.Graph.Default = run.ID, "directed" // all of them: readers refuse a graph that has both, and a datum says which ties have a direction
	g := run.graph()
	for _, n := range g.Nodes {
		doc.Graph.Nodes = append(doc.Graph.Nodes, node{n.ID, []datum{{"n_label", xmlText(n.Label)}, {"n_schema", n.Schema}, {"n_role", n.Role}, {"n_countries", strings.Join(n.Countries, ";")}, {"n_verdict", n.Verdict}}})
	}
	for i, l := range g.Edges {
		var quotes, urls []string
		for _, e := range run.Result.Edges[i].Evidence {
			if e.Verified {
				quotes, urls = append(quotes, xmlText(e.Quote)), append(urls, xmlText(e.URL))
			}
		}
		doc.Graph.Edges = append(doc.Graph.Edges, edge{l.ID, l.Source, l.Target, []datum{{"e_label", xmlText(l.Label)}, {"e_schema", l.Schema}, {"e_directed", strconv.FormatBool(l.Directed)},
			{"e_verified", strconv.FormatBool(l.Verified)}, {"e_confidence", number(l.Confidence)}, {"e_quotes", strings.Join(quotes, "\n")}, {"e_urls", strings.Join(urls, "\n")}}})
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", " ")
	return e.Encode(doc)
}

// xmlText drops what XML 1.0 cannot hold.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0x9 || r == 0xA || r == 0xD || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 {
			return r
		}
		return -1
	}, s)
}

// ftmEntities gives the result as FollowTheMoney entities: who takes part, the
// relations that hold, and a Document for every page that bears one out.
func (run *Run) ftmEntities() []ftm.Entity {
	var out []ftm.Entity
	res := run.Result
	dataset := []string{"chainreactions"}
	if run.Sandbox {
		dataset = []string{"chainreactions-sandbox"}
	}
	add := func(e ftm.Entity) {
		e.Datasets = dataset
		out = append(out, e)
	}
	for _, x := range res.Entities {
		e := ftm.Entity{ID: "cr-" + x.ID, Schema: x.Schema, Caption: x.Name}
		e.Add("name", clipRunes(x.Name, 384))
		for _, a := range x.Aliases {
			e.Add("alias", clipRunes(a, 384))
		}
		for _, c := range x.Countries {
			if code := strings.ToLower(c); ftm.KnownCountry(code) {
				e.Add("country", code)
			}
		}
		add(e)
	}
	proofs := map[string]bool{}
	for _, x := range res.Edges {
		if !x.Verified {
			continue
		}
		s, ok := ftm.Lookup(x.Schema)
		if !ok || s.Edge == nil {
			continue
		}
		e := ftm.Entity{ID: "cr-" + x.ID, Schema: x.Schema}
		e.Add(s.Edge.Source, "cr-"+x.From)
		e.Add(s.Edge.Target, "cr-"+x.To)
		if _, ok := s.Property("role"); ok {
			e.Add("role", clipRunes(x.Role, 1024))
		}
		e.Add("startDate", x.StartDate)
		e.Add("endDate", x.EndDate)
		for _, ev := range x.Evidence {
			if !ev.Verified {
				continue
			}
			e.Add("summary", ev.Quote)
			e.Add("sourceUrl", ev.URL)
			e.Add("proof", "cr-"+ev.proof())
			e.Add("retrievedAt", stamp(ev.RetrievedAt))
			if proofs[ev.proof()] {
				continue
			}
			proofs[ev.proof()] = true
			d := ftm.Entity{ID: "cr-" + ev.proof(), Schema: "Document", Caption: ev.Title}
			d.Add("title", clipRunes(ev.Title, 1024))
			d.Add("fileName", clipRunes(cmp.Or(ev.Title, ev.URL), 1024))
			d.Add("sourceUrl", ev.URL)
			d.Add("publishedAt", ev.PublishedAt)
			d.Add("retrievedAt", stamp(ev.RetrievedAt))
			defer add(d)
		}
		add(e)
	}
	return out
}

func clipRunes(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most])
	}
	return s
}

// proof names the page of a piece of evidence, the same in every run.
func (e Evidence) proof() string {
	key, _ := canonical(e.URL)
	return stableID("doc", cmp.Or(key, e.URL))
}

func writeFTM(w io.Writer, run Run) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, entity := range run.ftmEntities() {
		if err := e.Encode(entity); err != nil {
			return err
		}
	}
	return nil
}

// stixSpace makes STIX ids of ours: the same thing has the same id in every
// export.
var stixSpace = uuid.MustParse("6d1a4f0e-53b5-5c0e-9c8b-6b8c2f1d7e10")

func stixID(kind, what string) string {
	return kind + "--" + uuid.NewSHA1(stixSpace, []byte(kind+"\x00"+what)).String()
}

// writeSTIX writes a STIX 2.1 bundle: identities, relationships with their
// quotes as external references, and a note on each risk item.
func writeSTIX(w io.Writer, run Run) error {
	const form = "2006-01-02T15:04:05.000Z"
	made := run.CreatedAt.UTC().Format(form)
	changed := made
	if run.EndedAt != nil {
		changed = run.EndedAt.UTC().Format(form)
	}
	type object map[string]any
	common := func(kind, what string) object {
		return object{"type": kind, "spec_version": "2.1", "id": stixID(kind, what), "created": made, "modified": changed}
	}
	author := common("identity", "chainreactions")
	author["name"], author["identity_class"] = "ChainReactions", "system"
	if run.Sandbox {
		author["description"] = "Sandbox: an emulator answered; organisations and pages are invented."
	}
	objects := []object{author}
	ids := map[string]string{}
	for _, e := range run.Result.Entities {
		o := common("identity", e.ID)
		ids[e.ID] = o["id"].(string)
		o["created_by_ref"], o["name"], o["identity_class"] = author["id"], e.Name, "organization"
		if e.Schema == "Person" {
			o["identity_class"] = "individual"
		}
		if len(e.Aliases) > 0 {
			o["description"] = "Also known as: " + strings.Join(e.Aliases, "; ")
		}
		objects = append(objects, o)
	}
	for _, e := range run.Result.Edges {
		if !e.Verified || ids[e.From] == "" || ids[e.To] == "" {
			continue
		}
		o := common("relationship", e.ID)
		o["created_by_ref"], o["relationship_type"] = author["id"], map[string]string{"Ownership": "owns", "Directorship": "directs", "Membership": "member-of", "Employment": "employed-by",
			"Representation": "represents", "Succession": "precedes", "Payment": "pays", "ContractAward": "supplies", "Family": "family-of", "Associate": "associated-with", "UnknownLink": "related-to"}[e.Schema]
		o["source_ref"], o["target_ref"], o["confidence"] = ids[e.From], ids[e.To], int(e.Confidence*100+0.5)
		if e.Role != "" {
			o["description"] = e.Role
		}
		if from, ok := day0(e.StartDate); ok {
			o["start_time"] = from
			if to, ok := day0(e.EndDate); ok && to > from {
				o["stop_time"] = to
			}
		}
		var refs []object
		for _, ev := range e.Evidence {
			if ev.Verified {
				refs = append(refs, object{"source_name": cmp.Or(ev.Title, ev.URL), "url": ev.URL, "description": ev.Quote})
			}
		}
		if len(refs) > 0 {
			o["external_references"] = refs
		}
		objects = append(objects, o)
	}
	for _, r := range run.Result.Relations {
		target := ids[entityID(r.Target)]
		if target == "" || r.Summary == "" {
			continue
		}
		o := common("note", run.ID+"\x00"+r.Target)
		o["created_by_ref"], o["abstract"], o["content"], o["object_refs"], o["confidence"] = author["id"], r.Source+" – "+r.Target+": "+r.Type, r.Summary, []string{target}, int(r.Confidence*100+0.5)
		objects = append(objects, o)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(object{"type": "bundle", "id": stixID("bundle", run.ID), "objects": objects})
}

// day0 is the first moment of a date that may be partial.
func day0(d string) (string, bool) {
	if d == "" {
		return "", false
	}
	return firstDay(d) + "T00:00:00Z", true
}
