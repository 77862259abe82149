package research

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/ftm"
)

// What two organisations are to each other, strongest first.
const (
	Direct             = "direct"              // an edge between them held
	Indirect           = "indirect"            // a path of edges that held
	SignificantMention = "significant_mention" // a page names both, and no edge held
	NoEvidence         = "no_evidence"         // searched, answered, read, and nothing
	Unknown            = "unknown"             // it could not be found out

	verdictError = "error" // of a dataset search: this organisation's check failed
)

// Evidence is a place in a page, or what is claimed to be one.
type Evidence struct {
	SourceID    string     `json:"source_id"`
	URL         string     `json:"url"`
	Title       string     `json:"title"`
	Quote       string     `json:"quote"`
	PublishedAt string     `json:"published_at"`
	RetrievedAt *time.Time `json:"retrieved_at" nullable:"true"`
	Verified    bool       `json:"verified" doc:"the quote is in the text that was retrieved, both ends are named there, and it is not denied"`
	Reason      string     `json:"reason,omitempty" enum:"end_not_named,denied,instruction,excerpt_only,not_read" doc:"why it is not verified"`
	Hearsay     bool       `json:"hearsay,omitempty" doc:"the page itself leaves it open"`
	Kind        string     `json:"kind" enum:"edge,mention,claim" doc:"what it is evidence of; a claim is the model's word"`
	Language    string     `json:"language,omitempty"`
	SourceType  string     `json:"source_type"`
	Credibility float64    `json:"credibility"`
	Hash        string     `json:"content_hash,omitempty"`
	Edge        string     `json:"edge,omitempty" doc:"id of the edge"`
}

// Relation is what was found of one risk item.
type Relation struct {
	Source         string        `json:"source"`
	Target         string        `json:"target"`
	Type           string        `json:"type" enum:"direct,indirect,significant_mention,unknown,no_evidence"`
	Schema         string        `json:"schema" doc:"FollowTheMoney schema of the edge, or of the last edge of the path"`
	Summary        string        `json:"summary" doc:"made from what was verified"`
	Narrative      string        `json:"narrative,omitempty" doc:"the model's words; nobody has verified them"`
	Claimed        *Claimed      `json:"claimed,omitempty" doc:"what the model said; the type above is not taken from it"`
	Confidence     float64       `json:"confidence"`
	Intermediaries []string      `json:"intermediaries" nullable:"false"`
	Evidence       []Evidence    `json:"evidence" nullable:"false"`
	Edges          []string      `json:"edges" nullable:"false" doc:"ids, in the order of the path"`
	Searches       int           `json:"searches" doc:"that were answered"`
	PagesRead      int           `json:"pages_read"`
	Reason         string        `json:"reason,omitempty" doc:"of unknown: why"`
	EntryID        string        `json:"entry_id,omitempty"`
	Error          *CheckFailure `json:"error,omitempty" doc:"this organisation's own failure"`
}

// Claimed is a model's own verdict.
type Claimed struct {
	Type           string   `json:"type"`
	Intermediaries []string `json:"intermediaries,omitempty"`
	Sources        []string `json:"sources,omitempty" doc:"addresses that its searches returned"`
}

// CheckFailure is the failure of one item.
type CheckFailure struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Edge is a relation in FollowTheMoney terms with all that holds it up.
type Edge struct {
	ID         string     `json:"id"`
	Schema     string     `json:"schema"`
	From       string     `json:"from" doc:"id of an entity"`
	To         string     `json:"to"`
	Role       string     `json:"role,omitempty"`
	StartDate  string     `json:"start_date,omitempty"`
	EndDate    string     `json:"end_date,omitempty"`
	Verified   bool       `json:"verified" doc:"at least one quote held, and not as hearsay alone"`
	Confidence float64    `json:"confidence"`
	Sources    int        `json:"independent_sources"`
	Evidence   []Evidence `json:"evidence" nullable:"false"`
}

// Entity is who takes part.
type Entity struct {
	ID        string   `json:"id"`
	Schema    string   `json:"schema"`
	Name      string   `json:"name"`
	Aliases   []string `json:"aliases" nullable:"false"`
	Countries []string `json:"countries" nullable:"false" doc:"ISO 3166-1 alpha-2"`
	Role      string   `json:"role" enum:"institution,risk_item,intermediary,subject"`
	Listed    []Listed `json:"listed" nullable:"false" doc:"entries of the tenant's datasets that it may be"`
}

// party is an entity while a run works on it.
type party struct {
	Entity
	names names
}

func newParty(role, schema, name, country string, aliases ...string) *party {
	p := &party{Entity: Entity{Schema: schema, Name: name, Role: role, Aliases: []string{}, Countries: []string{}, Listed: []Listed{}}}
	if country != "" {
		p.Countries = append(p.Countries, country)
	}
	p.names = newNames(append([]string{name}, aliases...)...)
	for _, a := range aliases {
		if a != name && !slices.Contains(p.Aliases, a) {
			p.Aliases = append(p.Aliases, a)
		}
	}
	p.ID = entityID(name)
	return p
}

// add takes a further name.
func (p *party) add(name string) {
	if name == "" || name == p.Name || slices.Contains(p.Aliases, name) || len(p.Aliases) >= 60 {
		return
	}
	p.Aliases = append(p.Aliases, name)
	p.names = newNames(append([]string{p.Name}, p.Aliases...)...)
}

// entityID is the same in every run that finds the name, so that two runs can
// be compared and their exports merged.
func entityID(name string) string {
	key := name
	if n := newNames(name); len(n.list) > 0 {
		key = strings.Join(n.list[0].words[:n.list[0].needed], " ")
	}
	return stableID("ent", key)
}

// findings are the parties, edges and sources of a run while it works.
type findings struct {
	salt    string
	subject *party
	parties []*party // all, the subject first
	sources []*Source
	byID    map[string]*Source
	edges   []*Edge
}

func (f *findings) party(id string) *party {
	for _, p := range f.parties {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// meet finds the party that a name means, or takes it as a new one.
func (f *findings) meet(name, schema string) *party {
	name = strings.TrimSpace(name)
	if s, ok := ftm.Lookup(schema); !ok || s.Abstract || !s.IsA("LegalEntity") {
		schema = "Organization"
	}
	for _, p := range f.parties {
		if p.names.same(name) {
			if p.Schema == "Organization" {
				p.Schema = schema // a closer word for the same
			}
			return p
		}
	}
	p := newParty("intermediary", schema, name, "")
	if len(p.names.list) == 0 {
		return nil
	}
	return p
}

// claim is a tie that a model says a source states.
type claim struct {
	from, to        *party
	schema, role    string
	start, end      string
	sourceID, quote string
}

// hold looks for the quote of a claim. ok is false where the claim is to be
// dropped: the source is not one of the run's, or the quote is not in it.
func (f *findings) hold(c claim) (ev Evidence, ok bool) {
	src := f.byID[c.sourceID]
	if src == nil {
		return ev, false
	}
	ev = src.evidence("edge")
	ev.Quote = strings.TrimSpace(c.quote)
	if src.page == nil {
		// The page could not be read. What the engine showed of it is no
		// snapshot: it may be marked, never verified.
		excerpt := newText(src.Title + "\n" + src.Snippet)
		if !excerpt.has(c.quote) {
			return ev, false
		}
		ev.Reason = "excerpt_only"
		return ev, true
	}
	ev.Verified, ev.Hearsay, ev.Reason = src.page.states(c.quote, c.from.names, c.to.names)
	return ev, ev.Verified || ev.Reason != "not_found"
}

// states reads what the page says in the quote's place of two entities. A quote
// that stands in several places is taken where it holds best.
func (p *reading) states(quote string, a, b names) (verified, hearsay bool, reason string) {
	reason = "not_found"
	for _, place := range p.find(quote) {
		own, near := around(p.sentences, place)
		next := ""
		for i, s := range p.sentences {
			if s.from == own.to && i < len(p.sentences) {
				next = p.raw[s.from:s.to]
			}
		}
		ends := func(clause string) (n int) {
			w := newWindow(clause)
			for _, e := range []names{a, b} {
				if w.names(e, p.whole) {
					n++
				}
			}
			return n
		}
		t := toneOf(p.raw[own.from:own.to], next, ends)
		w := newWindow(p.raw[near.from:near.to])
		switch {
		case t.instruction:
			reason = "instruction"
		case t.denied:
			reason = "denied"
		case !w.names(a, p.whole) || !w.names(b, p.whole):
			if reason == "not_found" {
				reason = "end_not_named"
			}
		case !t.hearsay:
			return true, false, ""
		default:
			verified, hearsay = true, true
		}
	}
	if verified {
		return true, hearsay, ""
	}
	return false, false, reason
}

func (s *Source) evidence(kind string) Evidence {
	return Evidence{SourceID: s.ID, URL: s.URL, Title: s.Title, PublishedAt: s.PublishedAt, RetrievedAt: s.RetrievedAt, Kind: kind,
		Language: s.Language, SourceType: s.Type, Credibility: s.Credibility, Hash: s.Hash}
}

// edgeSchemas are the relations that a claim may name, with what FollowTheMoney
// calls their ends.
var edgeSchemas = set("Ownership Directorship Membership Employment Representation Succession Payment ContractAward Family Associate UnknownLink")

// edge finds the edge of a claim, or makes it. What the model's schema does
// not allow between these two becomes an UnknownLink.
func (f *findings) edge(c claim) *Edge {
	schema := c.schema
	if schema == "Ownership" && c.to.Schema == "Organization" {
		c.to.Schema = "Company" // what is owned
	}
	if !edgeSchemas[schema] || !fits(schema, c.from.Schema, c.to.Schema) {
		if edgeSchemas[schema] && c.role == "" {
			c.role = map[string]string{"ContractAward": "contract", "Directorship": "director", "Membership": "member", "Employment": "employment", "Representation": "representation",
				"Succession": "succession", "Payment": "payment", "Family": "family", "Associate": "associate", "Ownership": "owner"}[schema]
		}
		schema = "UnknownLink"
	}
	from, to := c.from, c.to
	if s, _ := ftm.Lookup(schema); !s.Edge.Directed && from.ID > to.ID {
		from, to = to, from
	}
	id := stableID("rel", schema+"\x00"+from.ID+"\x00"+to.ID)
	for _, e := range f.edges {
		if e.ID == id {
			if e.Role == "" {
				e.Role = clip(c.role, 200)
			}
			return e
		}
	}
	e := &Edge{ID: id, Schema: schema, From: from.ID, To: to.ID, Role: clip(c.role, 200), StartDate: day(c.start), EndDate: day(c.end), Evidence: []Evidence{}}
	f.edges = append(f.edges, e)
	for _, p := range []*party{from, to} {
		if f.party(p.ID) == nil {
			f.parties = append(f.parties, p)
		}
	}
	return e
}

func day(s string) string {
	if dateForm.MatchString(s) {
		return s
	}
	return ""
}

// fits reports whether the model of FollowTheMoney has the relation between
// entities of these schemata.
func fits(edge, from, to string) bool {
	s, ok := ftm.Lookup(edge)
	if !ok || s.Edge == nil {
		return false
	}
	end := func(property, schema string) bool {
		p, ok := s.Property(property)
		of, known := ftm.Lookup(schema)
		return ok && known && (p.Range == "" || of.IsA(p.Range))
	}
	return end(s.Edge.Source, from) && end(s.Edge.Target, to)
}

// add joins a piece of evidence to its edge, once.
func (e *Edge) add(ev Evidence) {
	ev.Edge = e.ID
	for i, old := range e.Evidence {
		if old.SourceID == ev.SourceID && newText(old.Quote).folded == newText(ev.Quote).folded {
			if ev.Verified && !old.Verified {
				e.Evidence[i] = ev
			}
			return
		}
	}
	e.Evidence = append(e.Evidence, ev)
}

// weigh computes what an edge is worth: each independent source counts once,
// by its kind, and hearsay for less than half.
func (f *findings) weigh(e *Edge) {
	worth := map[string]float64{} // by first copy and site
	e.Verified = false
	for _, ev := range e.Evidence {
		if !ev.Verified {
			continue
		}
		src := f.byID[ev.SourceID]
		first := src
		if src.SameAs != "" {
			first = f.byID[src.SameAs]
		}
		w := first.Credibility
		if ev.Hearsay {
			w *= 0.4
		} else {
			e.Verified = true
		}
		key := site(first.URL)
		worth[key] = max(worth[key], w)
	}
	e.Sources = len(worth)
	doubt := 1.0
	for _, k := range slices.Sorted(keysOf(worth)) {
		doubt *= 1 - worth[k]
	}
	e.Confidence = round(min(1-doubt, 0.99))
	slices.SortStableFunc(e.Evidence, func(a, b Evidence) int {
		if a.Verified != b.Verified {
			if a.Verified {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Credibility, a.Credibility), cmp.Compare(a.URL, b.URL), cmp.Compare(a.Quote, b.Quote))
	})
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func round(f float64) float64 { return math.Round(f*1000) / 1000 }

// path gives the edges that lead from one party to another, the fewest, and
// among those the surest; nil where none does within three.
func (f *findings) path(from, to string) []*Edge {
	type way struct {
		at    string
		edges []*Edge
		sure  float64
	}
	level := []way{{at: from, sure: 1}}
	seen := map[string]bool{from: true}
	for range 3 {
		var next []way
		for _, w := range level {
			for _, e := range f.edges {
				other := ""
				switch {
				case !e.Verified:
					continue
				case e.From == w.at:
					other = e.To
				case e.To == w.at:
					other = e.From
				}
				if other == "" || seen[other] {
					continue
				}
				next = append(next, way{other, append(slices.Clone(w.edges), e), w.sure * e.Confidence})
			}
		}
		slices.SortStableFunc(next, func(a, b way) int { return cmp.Compare(b.sure, a.sure) })
		level = level[:0]
		for _, w := range next {
			if w.at == to {
				return w.edges
			}
			if !seen[w.at] {
				seen[w.at] = true
				level = append(level, w)
			}
		}
	}
	return nil
}

// looked is what was done to find out about one risk item.
type looked struct {
	searches, answered int  // planned and answered
	wanted, read       int  // pages
	away               int  // pages whose sites did not answer now, and may later
	unread             int  // pages that the request names
	broken             bool // no model gave a usable answer
	unfinished         bool // budget or time ran out
	claimed            bool // a model says there is a tie, and nothing bears it out
}

// judge computes the verdict on one risk item from what held.
func (f *findings) judge(target *party, how looked) Relation {
	r := Relation{Source: f.subject.Name, Target: target.Name, Intermediaries: []string{}, Evidence: []Evidence{}, Edges: []string{},
		Searches: how.answered, PagesRead: how.read}
	if path := f.path(f.subject.ID, target.ID); path != nil {
		r.Type, r.Confidence = Direct, 1
		at := f.subject.ID
		for i, e := range path {
			r.Edges = append(r.Edges, e.ID)
			r.Evidence = append(r.Evidence, e.Evidence...)
			r.Confidence = round(r.Confidence * e.Confidence)
			r.Schema = e.Schema
			if at = e.other(at); i < len(path)-1 {
				r.Type = Indirect
				r.Intermediaries = append(r.Intermediaries, f.party(at).Name)
			}
		}
		if r.Type == Direct { // every edge between the two is evidence
			for _, e := range f.edges {
				if e != path[0] && e.joins(f.subject.ID, target.ID) {
					r.Edges = append(r.Edges, e.ID)
					r.Evidence = append(r.Evidence, e.Evidence...)
				}
			}
		}
		r.Summary = f.sum(r, path)
		return r
	}
	// Marked evidence is shown with every lower verdict.
	marked := []Evidence{}
	excerpt, hearsay := false, false
	for _, e := range f.edges {
		if e.joins(f.subject.ID, target.ID) {
			marked = append(marked, e.Evidence...)
			for _, ev := range e.Evidence {
				excerpt = excerpt || ev.Reason == "excerpt_only"
				hearsay = hearsay || ev.Verified && ev.Hearsay
			}
			r.Edges = append(r.Edges, e.ID)
		}
	}
	mentions := f.mentions(target)
	switch {
	case how.broken:
		r.Type, r.Reason, r.Evidence = Unknown, "model_failed", marked
		r.Summary = domain.Sentence("en", "The pages were found, but no model could read them; nothing is said about a tie.")
	case len(mentions) > 0 || hearsay:
		r.Type, r.Schema = SignificantMention, ""
		r.Evidence = marked
		for _, m := range mentions {
			same := func(e Evidence) bool {
				return e.SourceID == m.SourceID && newText(e.Quote).folded == newText(m.Quote).folded
			}
			if !slices.ContainsFunc(marked, same) {
				r.Evidence = append(r.Evidence, m)
			}
		}
		best := 0.0
		for _, m := range r.Evidence {
			best = max(best, m.Credibility)
		}
		r.Confidence = round(best / 2)
		r.Summary = domain.Sentence("en", "%d of the pages that were read name both; none states a tie that holds.", pagesOf(r.Evidence))
	case how.answered == 0 || how.answered*2 < how.searches:
		r.Type, r.Reason, r.Evidence = Unknown, "engines_failed", marked
		r.Summary = domain.Sentence("en", "Only %d of %d searches were answered: too few to say anything.", how.answered, how.searches)
	case how.unfinished:
		r.Type, r.Reason, r.Evidence = Unknown, "unfinished", marked
		r.Summary = domain.Sentence("en", "The budget or the time ran out before this was looked into.")
	case how.away > 0:
		r.Type, r.Reason, r.Evidence = Unknown, "pages_unread", marked
		r.Summary = domain.Sentence("en", "%d pages could not be read just now; a resume reads them.", how.away)
	case how.unread > 0:
		r.Type, r.Reason, r.Evidence = Unknown, "pages_unread", marked
		r.Summary = domain.Sentence("en", "%d of the pages that the request names could not be read.", how.unread)
	case how.read*2 < how.wanted:
		r.Type, r.Reason, r.Evidence = Unknown, "pages_unread", marked
		r.Summary = domain.Sentence("en", "Only %d of the %d pages that were found could be read: too few to say anything.", how.read, how.wanted)
	case excerpt || how.claimed:
		r.Type, r.Reason, r.Evidence = Unknown, "unverified", marked
		r.Summary = domain.Sentence("en", "A tie is claimed, but no page that could be read bears it out.")
	default:
		if hints := f.hints(target); len(hints) > 0 {
			r.Type, r.Reason, r.Evidence = Unknown, "unverified", append(marked, hints...)
			if slices.ContainsFunc(hints, func(e Evidence) bool { return e.Reason == "not_read" }) {
				r.Reason = "pages_unread"
			}
			r.Summary = domain.Sentence("en", "Search engines show it in %d pages that could not be read, or that do not show it now.", len(hints))
			break
		}
		r.Type, r.Evidence = NoEvidence, marked
		r.Confidence = round(min(0.9, 0.3+0.03*float64(how.answered)+0.03*float64(how.read)))
		r.Summary = domain.Sentence("en", "%d searches were answered and %d pages read; none names both.", how.answered, how.read)
	}
	return r
}

func (e *Edge) other(id string) string {
	if e.From == id {
		return e.To
	}
	return e.From
}

func (e *Edge) joins(a, b string) bool { return e.From == a && e.To == b || e.From == b && e.To == a }

func pagesOf(list []Evidence) int {
	seen := map[string]bool{}
	for _, e := range list {
		seen[e.SourceID] = true
	}
	return len(seen)
}

// sum says in words what the path is.
func (f *findings) sum(r Relation, path []*Edge) string {
	var b strings.Builder
	for i, e := range path {
		if i > 0 {
			b.WriteString(" ")
		}
		from, to := f.party(e.From), f.party(e.To)
		what := e.Schema
		if e.Role != "" {
			what += ", " + e.Role
		}
		fmt.Fprintf(&b, "%s – %s (%s)", from.Name, to.Name, what)
		if len(e.Evidence) > 0 && e.Evidence[0].Verified {
			fmt.Fprintf(&b, ": “%s”", shorten(e.Evidence[0].Quote, 300))
		}
		b.WriteString(".")
	}
	return b.String()
}

func shorten(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// mentions are the pages that name both, each with the sentences where they
// stand closest.
func (f *findings) mentions(target *party) []Evidence {
	var out []Evidence
	for _, src := range f.sources {
		if src.page == nil || src.SameAs != "" {
			continue
		}
		p := src.page
		as, bs := p.at(f.subject.names), p.at(target.names)
		if len(as) == 0 || len(bs) == 0 {
			continue
		}
		a, b := as[0], bs[0]
		for _, i := range as {
			for _, j := range bs {
				if abs(i-j) < abs(a-b) {
					a, b = i, j
				}
			}
		}
		ev := src.evidence("mention")
		from, to := p.sentences[min(a, b)], p.sentences[max(a, b)]
		if abs(a-b) > 1 {
			from, to = p.sentences[b], p.sentences[b] // too far apart to be one quote
		}
		ev.Quote = strings.Join(strings.Fields(p.raw[from.from:to.to]), " ")
		if utf8.RuneCountInString(ev.Quote) > 600 {
			ev.Quote = strings.TrimSpace(string([]rune(ev.Quote)[:600]))
		}
		ev.Verified, ev.Hearsay, ev.Reason = p.states(ev.Quote, f.subject.names, target.names)
		if ev.Reason == "not_found" { // shorter than a quote must be
			ev.Reason = "end_not_named"
		}
		out = append(out, ev)
	}
	slices.SortStableFunc(out, func(a, b Evidence) int {
		return cmp.Or(cmp.Compare(b.Credibility, a.Credibility), cmp.Compare(a.URL, b.URL))
	})
	return out[:min(len(out), 20)]
}

// hints are the pages that an engine shows to name the target beside another
// party of the run, and that were not read, or came with another text: a wall
// before the page. What they say is not known, so that nobody may say that there
// is nothing.
func (f *findings) hints(target *party) []Evidence {
	var out []Evidence
	for _, src := range f.sources {
		if src.page == nil && src.Error == "" {
			continue // one that was not tried
		}
		w := src.shown()
		if !w.names(target.names, nil) {
			continue
		}
		beside := func(p *party) bool {
			return p.ID != target.ID && w.names(p.names, nil) && (src.page == nil || len(src.page.at(target.names)) == 0 || len(src.page.at(p.names)) == 0)
		}
		if !slices.ContainsFunc(f.parties, beside) {
			continue
		}
		ev := src.evidence("mention")
		ev.Quote, ev.Reason = shorten(src.Snippet, 300), "excerpt_only"
		if src.page == nil {
			ev.Reason = "not_read"
		}
		out = append(out, ev)
	}
	slices.SortStableFunc(out, func(a, b Evidence) int { return cmp.Compare(a.URL, b.URL) })
	return out[:min(len(out), 20)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
