package research

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/ftm"
)

// Result is what a run found.
type Result struct {
	Relations []Relation   `json:"relations" nullable:"false" doc:"one for each risk item; of a dataset search see /runs/{id}/findings"`
	Edges     []Edge       `json:"edges" nullable:"false"`
	Entities  []Entity     `json:"entities" nullable:"false"`
	Sources   []Source     `json:"sources" nullable:"false"`
	Searches  []SearchMade `json:"searches" nullable:"false"`
	Profile   *Profile     `json:"profile,omitempty"`
	Signals   []Signal     `json:"signals,omitempty"`
	Checked   *Checked     `json:"checked,omitempty" doc:"of a dataset search"`
	NotDone   []string     `json:"not_done" nullable:"false" doc:"what a budget, a limit of time or a failure left undone"`
	Warnings  []Warning    `json:"warnings" nullable:"false"`
	Changes   *Changes     `json:"changes,omitempty" doc:"against the run that this one repeats"`
	Sandbox   bool         `json:"sandbox"`
}

// stableID names a thing by what it is, the same in every run. It is no secret.
func stableID(prefix, what string) string {
	sum := sha1.Sum([]byte(what))
	id := hex.EncodeToString(sum[:10])
	if prefix == "" {
		return id
	}
	return prefix + "-" + id
}

// ending gathers the result of an inquiry.
func (q *inquiry) ending(ctx context.Context) (ending, error) {
	q.weighAll()
	slices.SortFunc(q.edges, func(a, b *Edge) int { return cmp.Compare(a.ID, b.ID) })
	known := 1 + len(q.items)
	slices.SortFunc(q.parties[min(known, len(q.parties)):], func(a, b *party) int { return cmp.Compare(a.ID, b.ID) })
	e := ending{unitsUsed: q.x.run.Units, result: &Result{}}
	attempt := "/" + q.x.attempt()
	away := 0
	for _, s := range q.sources {
		if s.Error == "provider_unavailable" || s.Error == "provider_timeout" {
			away++ // whichever item it was found for: a path to another may lead through it
		}
	}
	for _, it := range q.items {
		it.looked.away = away
		r := q.judge(it.party, it.looked)
		r.Narrative, r.Claimed = it.story, it.claimed
		e.result.Relations = append(e.result.Relations, r)
		e.events = append(e.events, event{"relation/" + it.id + attempt, "relation", r})
		if it.looked.unfinished {
			q.undone("unfinished", it.Name)
		}
		if it.looked.broken {
			q.undone("model_failed", it.Name)
		}
		if r.Reason == "engines_failed" || r.Reason == "pages_unread" {
			q.undone(r.Reason, it.Name)
		}
	}
	err := q.x.gather(ctx, &q.findings, q.searches, e.result)
	e.result.NotDone = append([]string{}, q.notDone...)
	e.partial = len(q.notDone) > 0
	return e, err
}

// gather fills in what results of every kind have.
func (x *execution) gather(ctx context.Context, f *findings, searches []SearchMade, out *Result) error {
	var ask []string
	for _, p := range f.parties {
		ask = append(ask, p.Name)
	}
	listed, err := x.listed(ctx, "entities/"+stableID("", jsonText(ask)), ask)
	if err != nil {
		return err
	}
	out.Relations = either0(out.Relations)
	out.Edges, out.Entities, out.Sources, out.Searches, out.NotDone = []Edge{}, []Entity{}, []Source{}, append([]SearchMade{}, searches...), []string{}
	for _, e := range f.edges {
		out.Edges = append(out.Edges, *e)
	}
	for i, p := range f.parties {
		one := p.Entity
		if i < len(listed) && listed[i] != nil {
			one.Listed = listed[i]
		}
		out.Entities = append(out.Entities, one)
	}
	for _, s := range f.sources {
		out.Sources = append(out.Sources, *s)
	}
	if out.Warnings, err = x.warnings(ctx); err != nil {
		return err
	}
	var now Run
	if now, err = x.r.summary(ctx, x.run.ID); err != nil {
		return err
	}
	out.Sandbox = now.Sandbox
	if x.run.PreviousID == "" {
		return nil
	}
	before, err := x.r.Get(ctx, IDRequest{ID: x.run.PreviousID})
	if domain.KindOf(err) == domain.NotFound || err == nil && before.Result == nil {
		return nil
	}
	if err == nil {
		changes := compare(x.run.PreviousID, before.Result, out)
		out.Changes = &changes
	}
	return err
}

func either0[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // lists of strings
	}
	return string(b)
}

// warnings reads what was told to the run's readers.
func (x *execution) warnings(ctx context.Context) ([]Warning, error) {
	var rows []eventRow
	err := x.r.st.Read(ctx, func(ctx context.Context) error {
		return x.r.st.For(ctx).Where("run_id = ? AND name = ?", x.run.ID, "warning").Order("key").Limit(500).Find(&rows).Error
	})
	out := []Warning{}
	for _, row := range rows {
		var w Warning
		if err := json.Unmarshal([]byte(row.Data), &w); err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, err
}

// Changes is what differs between two runs of the same question.
type Changes struct {
	PreviousID string         `json:"previous_id"`
	Verdicts   []Change       `json:"verdicts" nullable:"false"`
	Edges      []Change       `json:"edges" nullable:"false" doc:"that hold now and did not, or the other way round"`
	Sources    []Change       `json:"sources" nullable:"false" doc:"pages that are new, gone or not the same"`
	Counts     map[string]int `json:"counts"`
}

// Change is one difference; before or after is empty where there is none.
type Change struct {
	What   string `json:"what"`
	Before string `json:"before"`
	After  string `json:"after"`
}

func compare(previous string, a, b *Result) Changes {
	out := Changes{PreviousID: previous, Counts: map[string]int{}}
	differ := func(before, after map[string]string) []Change {
		list := []Change{}
		for _, k := range slices.Sorted(keysOf(before)) {
			if before[k] != after[k] {
				list = append(list, Change{k, before[k], after[k]})
			}
		}
		for _, k := range slices.Sorted(keysOf(after)) {
			if _, had := before[k]; !had {
				list = append(list, Change{k, "", after[k]})
			}
		}
		return list
	}
	verdicts := func(r *Result) map[string]string {
		m := map[string]string{}
		for _, x := range r.Relations {
			m[x.Target] = x.Type
		}
		return m
	}
	edges := func(r *Result) map[string]string {
		names := map[string]string{}
		for _, e := range r.Entities {
			names[e.ID] = e.Name
		}
		m := map[string]string{}
		for _, e := range r.Edges {
			if e.Verified {
				m[names[e.From]+" – "+names[e.To]+" ("+e.Schema+")"] = "verified"
			}
		}
		return m
	}
	pages := func(r *Result) map[string]string {
		m := map[string]string{}
		for _, s := range r.Sources {
			if s.Hash != "" {
				key, _ := canonical(s.URL)
				m["http:"+key] = s.Hash
			}
		}
		return m
	}
	out.Verdicts, out.Edges, out.Sources = differ(verdicts(a), verdicts(b)), differ(edges(a), edges(b)), differ(pages(a), pages(b))
	out.Counts["verdicts"], out.Counts["edges"], out.Counts["sources"] = len(out.Verdicts), len(out.Edges), len(out.Sources)
	return out
}

// ChangesRequest compares a run with an earlier one.
type ChangesRequest struct {
	ID    string `path:"id" json:"-" maxLength:"64"`
	Since string `query:"since" json:"-" maxLength:"64" doc:"id of an earlier run; without it, the one that this run repeats"`
}

// Changes says what differs between two runs.
func (r *Research) Changes(ctx context.Context, in ChangesRequest) (Changes, error) {
	b, err := r.Get(ctx, IDRequest{ID: in.ID})
	if err != nil {
		return Changes{}, err
	}
	since := cmp.Or(in.Since, b.PreviousID)
	if since == "" {
		return Changes{}, domain.InvalidField("since", "required", "This run repeats none: name the earlier run.")
	}
	a, err := r.Get(ctx, IDRequest{ID: since})
	if err != nil {
		return Changes{}, err
	}
	if a.Result == nil || b.Result == nil {
		return Changes{}, domain.E(domain.Conflict, "run_not_ended", "There is no result yet.")
	}
	return compare(since, a.Result, b.Result), nil
}

// Graph is the result as nodes and lines.
type Graph struct {
	Nodes []Node `json:"nodes" nullable:"false"`
	Edges []Line `json:"edges" nullable:"false"`
}

// Node is an entity.
type Node struct {
	ID        string   `json:"id"`
	Label     string   `json:"label"`
	Schema    string   `json:"schema"`
	Role      string   `json:"role"`
	Countries []string `json:"countries" nullable:"false"`
	Listed    int      `json:"listed" doc:"entries of the tenant's datasets that it may be"`
	Verdict   string   `json:"verdict,omitempty" doc:"of a risk item"`
}

// Line is an edge.
type Line struct {
	ID         string  `json:"id"`
	Source     string  `json:"source"`
	Target     string  `json:"target"`
	Schema     string  `json:"schema"`
	Label      string  `json:"label"`
	Directed   bool    `json:"directed"`
	Verified   bool    `json:"verified"`
	Confidence float64 `json:"confidence"`
	Evidence   int     `json:"evidence"`
}

// GraphOf gives the graph of a run.
func (r *Research) GraphOf(ctx context.Context, in IDRequest) (Graph, error) {
	run, err := r.Get(ctx, in)
	if err != nil {
		return Graph{}, err
	}
	return run.graph(), nil
}

func (r *Run) graph() Graph {
	g := Graph{Nodes: []Node{}, Edges: []Line{}}
	if r.Result == nil {
		return g
	}
	verdict := map[string]string{}
	for _, rel := range r.Result.Relations {
		verdict[entityID(rel.Target)] = rel.Type
	}
	for _, e := range r.Result.Entities {
		g.Nodes = append(g.Nodes, Node{e.ID, e.Name, e.Schema, e.Role, either0(e.Countries), len(e.Listed), verdict[e.ID]})
	}
	for _, e := range r.Result.Edges {
		l := Line{ID: e.ID, Source: e.From, Target: e.To, Schema: e.Schema, Label: cmp.Or(e.Role, e.Schema), Verified: e.Verified, Confidence: e.Confidence, Evidence: len(e.Evidence)}
		if s, ok := ftm.Lookup(e.Schema); ok && s.Edge != nil {
			l.Directed = s.Edge.Directed
			l.Label = cmp.Or(e.Role, s.Edge.Label)
		}
		g.Edges = append(g.Edges, l)
	}
	return g
}

// SourceRequest names a source of a run.
type SourceRequest struct {
	ID     string `path:"id" json:"-" maxLength:"64"`
	Source string `path:"source" json:"-" maxLength:"64"`
}

// Snapshot is a source with the text that was read.
type Snapshot struct {
	Source
	Text string `json:"text" doc:"as it was retrieved: every verified quote is in it"`
}

// Snapshot gives a source and its text, so that a quote can be checked.
func (r *Research) Snapshot(ctx context.Context, in SourceRequest) (Snapshot, error) {
	run, err := r.Get(ctx, IDRequest{ID: in.ID})
	if err != nil {
		return Snapshot{}, err
	}
	if run.Result == nil {
		return Snapshot{}, domain.ErrNotFound()
	}
	for _, s := range run.Result.Sources {
		if s.ID != in.Source {
			continue
		}
		var rows []stepRow
		err := r.st.Read(ctx, func(ctx context.Context) error {
			return r.st.For(ctx).Where("run_id = ? AND kind = ? AND status = ?", run.ID, "fetch", stepDone).Find(&rows).Error
		})
		for _, row := range rows {
			var page Page
			if err := json.Unmarshal([]byte(row.Output), &page); err != nil {
				return Snapshot{}, err
			}
			key, _ := canonical(page.URL)
			if ownID(run.Salt, "s", key) == s.ID {
				return Snapshot{s, page.Text}, nil
			}
		}
		if err != nil {
			return Snapshot{}, err
		}
	}
	return Snapshot{}, domain.ErrNotFound()
}
