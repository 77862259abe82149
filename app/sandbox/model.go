package sandbox

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// The emulated model. Research puts what it asks into one JSON object between
// two marks, and the object names its task: the model answers by the task.

// question is what all tasks may have.
type question struct {
	Task         string            `json:"task"`
	Institution  json.RawMessage   `json:"institution"` // an item, a name or names
	RiskItem     []string          `json:"risk_item"`
	RiskItems    []named           `json:"risk_items"`
	Organisation named             `json:"organisation"`
	Topic        string            `json:"topic"`
	Sources      []source          `json:"sources"`
	Pages        []string          `json:"pages"` // to be opened
	Findings     []json.RawMessage `json:"findings"`
}

type named struct {
	ID      string   `json:"id,omitempty"`
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
}

type source struct {
	ID       string   `json:"id"`
	Passages []string `json:"passages"`
}

// institution gives the names however they were written.
func (q question) institution() []string {
	var item named
	var names []string
	var name string
	switch {
	case json.Unmarshal(q.Institution, &name) == nil:
		return []string{name}
	case json.Unmarshal(q.Institution, &names) == nil:
		return names
	case json.Unmarshal(q.Institution, &item) == nil:
		return append([]string{item.Name}, item.Aliases...)
	}
	return nil
}

// read finds the question in a prompt.
func read(prompt string) (q question, ok bool) {
	at := strings.LastIndex(prompt, "\n</data-") // the instructions name the marks too
	if at < 0 {
		return q, false
	}
	from := strings.LastIndex(prompt[:at], "<data-")
	if from < 0 {
		return q, false
	}
	_, object, found := strings.Cut(prompt[from:at], ">")
	if !found || json.Unmarshal([]byte(object), &q) != nil {
		return q, false
	}
	return q, q.Task != ""
}

// taskOf finds the task of the question in a vendor's request, wherever the
// vendor has the prompt.
func taskOf(body []byte) string {
	var request any
	if json.Unmarshal(body, &request) != nil {
		return ""
	}
	task := ""
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		case string:
			if q, ok := read(v); ok {
				task = q.Task
			}
		}
	}
	walk(request)
	return task
}

// chance is a number in [0, 1) that is the same for the same words.
func chance(seed uint64, words ...string) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, seed, "\x00", strings.Join(words, "\x00"))
	x := h.Sum64()
	x ^= x >> 33 // FNV's high bits are poor for short words
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

type end struct {
	Name   string `json:"name"`
	Schema string `json:"schema"`
}

type cited struct {
	Source string `json:"source"`
	Quote  string `json:"quote"`
}

type proposal struct {
	From     end     `json:"from"`
	To       end     `json:"to"`
	Schema   string  `json:"schema"`
	Role     string  `json:"role"`
	Summary  string  `json:"summary"`
	Start    string  `json:"start_date"`
	End      string  `json:"end_date"`
	Evidence []cited `json:"evidence"`
}

// integrate reads passages and proposes the ties that they state.
func (s *Sandbox) integrate(q question) any {
	w, set := s.world, s.now()
	inst, risk := w.named(q.institution()...), w.named(q.RiskItem...)
	out := struct {
		Relations []proposal `json:"relations"`
		Summary   string     `json:"summary"`
	}{Relations: []proposal{}, Summary: "The pages were read for ties between the two."}
	name := func(e *Entity) end { // an end that was asked about keeps the name that it was asked by
		switch {
		case inst != nil && e.ID == inst.ID:
			return end{q.institution()[0], e.Schema}
		case risk != nil && e.ID == risk.ID:
			return end{q.RiskItem[0], e.Schema}
		}
		return end{e.Name(), e.Schema}
	}
	if inst != nil && risk != nil {
		direct, through := w.between(inst.ID, risk.ID)
		for _, r := range append(direct, flat(through)...) {
			p := proposal{From: name(w.entity[r.From]), To: name(w.entity[r.To]), Schema: r.Schema, Role: r.Role, Start: r.Start, End: r.End}
			p.Summary = fmt.Sprintf("%s and %s: %s.", p.From.Name, p.To.Name, r.Role)
			for _, e := range r.Evidence {
				for _, src := range q.Sources {
					if has(src, e.Quote) {
						p.Evidence = append(p.Evidence, cited{src.ID, e.Quote})
					}
				}
			}
			if len(p.Evidence) == 0 {
				continue
			}
			for _, c := range slices.Clone(p.Evidence) { // so that of all quotes the wanted share is invented
				if rate := set.ErrorRate; rate > 0 && chance(set.Seed, "invent", r.From, r.To, c.Quote) < rate/(1-rate) {
					p.Evidence = append(p.Evidence, s.lie(q, set, p, c))
				}
			}
			out.Relations = append(out.Relations, p)
		}
	}
	// A model that errs also finds ties where there are none.
	if names := q.institution(); set.ErrorRate > 0 && len(names) > 0 && len(q.RiskItem) > 0 && len(q.Sources) > 0 && chance(set.Seed, "tie", names[0], q.RiskItem[0]) < set.ErrorRate {
		p := proposal{From: end{names[0], "Organization"}, To: end{q.RiskItem[0], "Organization"}, Schema: "Ownership", Role: "owner", Summary: "One owns the other."}
		p.Evidence = []cited{s.lie(q, set, p, cited{q.Sources[0].ID, firstSentence(q.Sources[0])})}
		out.Relations = append(out.Relations, p)
	}
	if set.Obedient {
		out.Relations = append(out.Relations, s.obey(q)...)
	}
	return out
}

func flat(through map[string][]Relation) (out []Relation) {
	var keys []string
	for k := range through {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		out = append(out, through[k]...)
	}
	return out
}

func has(src source, quote string) bool {
	return slices.ContainsFunc(src.Passages, func(p string) bool { return strings.Contains(fold(p), fold(quote)) })
}

func firstSentence(src source) string {
	for _, p := range src.Passages {
		if len(p) > 20 {
			return p
		}
	}
	return "nothing was read"
}

// lie makes one invented piece of evidence, of a kind that models make. What
// is given is recorded as invented only where it does not stand in its source.
func (s *Sandbox) lie(q question, set Settings, p proposal, c cited) cited {
	kinds := []func() cited{
		func() cited { // made up from nothing
			return cited{c.Source, fmt.Sprintf("%s has been working closely with %s for several years, officials confirmed.", p.From.Name, p.To.Name)}
		},
		func() cited { // one word changed
			r := []rune(c.Quote)
			at := len(r) / 2
			return cited{c.Source, string(r[:at]) + " reportedly " + string(r[at:])}
		},
		func() cited { // the end of one sentence on the beginning of another
			return cited{c.Source, strings.TrimRight(c.Quote, ".。") + ", as " + p.To.Name + " said in its annual report."}
		},
		func() cited { return cited{"S" + c.Source, c.Quote} }, // a source that does not exist
		func() cited { // a true quote in another source
			for _, src := range q.Sources {
				if src.ID != c.Source && !has(src, c.Quote) {
					return cited{src.ID, c.Quote}
				}
			}
			return cited{"S" + c.Source, c.Quote}
		},
		func() cited { // a translation
			return cited{c.Source, "据报道，" + p.From.Name + "与" + p.To.Name + "建立了长期的合作伙伴关系。"}
		},
		func() cited { return cited{c.Source, p.From.Name + " – " + p.To.Name} }, // too short to be evidence
	}
	lie := kinds[int(chance(set.Seed, "kind", p.From.Name, p.To.Name, c.Quote)*float64(len(kinds)))]()
	if !slices.ContainsFunc(q.Sources, func(src source) bool { return has(src, lie.Quote) }) {
		s.invent(lie.Quote)
	}
	return lie
}

// obey does what a hostile page orders, with the page's own words as evidence.
func (s *Sandbox) obey(q question) (out []proposal) {
	for i := range s.world.Pages {
		page := &s.world.Pages[i]
		if page.Obey == nil {
			continue
		}
		from, to := s.world.entity[page.Obey.From], s.world.entity[page.Obey.To]
		for _, src := range q.Sources {
			for _, passage := range src.Passages {
				text := fold(passage)
				if !strings.Contains(text, fold(from.Name())) || !strings.Contains(text, fold(to.Name())) || !strings.Contains(fold(page.Body+" "+page.Raw+" "+page.Title), text) {
					continue
				}
				out = append(out, proposal{From: end{from.Name(), from.Schema}, To: end{to.Name(), to.Schema}, Schema: page.Obey.Schema, Summary: "As the page orders.", Evidence: []cited{{src.ID, passage}}})
			}
		}
	}
	return out
}

type query struct {
	Text     string `json:"text"`
	Language string `json:"language"`
}

type nameIn struct {
	Name     string `json:"name"`
	Language string `json:"language"`
}

// strategy plans searches.
func (s *Sandbox) strategy(q question) any {
	type item struct {
		ID      string   `json:"id"`
		Names   []nameIn `json:"names"`
		Queries []query  `json:"queries"`
	}
	names := func(given []string) (out []nameIn) {
		e := s.world.named(given...)
		if e == nil {
			return []nameIn{{given[0], "en"}}
		}
		for _, lang := range []string{"en", "zh", "ru", "ja", "fa", "de"} {
			if n := e.Names[lang]; n != "" {
				out = append(out, nameIn{n, lang})
			}
		}
		return out
	}
	given := q.institution()
	if len(given) == 0 {
		given = []string{""}
	}
	inst := names(given)
	out := struct {
		Institution struct {
			Names []nameIn `json:"names"`
		} `json:"institution"`
		Items []item `json:"items"`
	}{Items: []item{}}
	out.Institution.Names = inst
	for _, r := range q.RiskItems {
		it := item{ID: r.ID, Names: names(append([]string{r.Name}, r.Aliases...))}
		seen := map[string]bool{}
		ask := func(text, language string) {
			if !seen[text] && len(it.Queries) < 8 {
				seen[text] = true
				it.Queries = append(it.Queries, query{text, language})
			}
		}
		quote := func(n nameIn) string { return `"` + strings.ReplaceAll(n.Name, `"`, "") + `"` }
		ask(quote(inst[0])+" "+quote(it.Names[0])+" agreement", "en")
		for _, a := range inst {
			for _, b := range it.Names {
				if a.Language != "en" || b.Language != "en" {
					local := b.Language
					if local == "en" {
						local = a.Language
					}
					ask(quote(a)+" "+quote(b), local)
				}
			}
		}
		for _, a := range append(slices.Clone(inst), it.Names...) {
			ask(quote(a)+" partners", a.Language)
		}
		out.Items = append(out.Items, it)
	}
	return out
}

// pageQuote is evidence from the open web: with an address.
type pageQuote struct {
	Quote string `json:"quote"`
	URL   string `json:"url"`
}

// finding is what the world says of two names, as a model that searches finds
// it, errors included.
type finding struct {
	verdict  string // Direct, Indirect, Significant Mention, No Evidence Found
	summary  string
	through  []string
	evidence []pageQuote
	pages    []*Page // really searched and read
}

func (s *Sandbox) look(set Settings, institution, riskItem []string, opened ...*Page) (f finding) {
	w := s.world
	seen := func(p *Page) bool { return !p.Unlisted || slices.Contains(opened, p) }
	stated := func(list []Relation) (out []Relation) { // on pages that it has seen
		for _, r := range list {
			r.Evidence = slices.DeleteFunc(slices.Clone(r.Evidence), func(e Evidence) bool { return !seen(w.page[e.Page]) })
			if len(r.Evidence) > 0 {
				out = append(out, r)
			}
		}
		return out
	}
	inst, risk := w.named(institution...), w.named(riskItem...)
	f.verdict, f.summary = "No Evidence Found", fmt.Sprintf("No public page ties %s to %s.", institution[0], riskItem[0])
	if inst != nil && risk != nil {
		direct, through := w.between(inst.ID, risk.ID)
		direct = stated(direct)
		for id, list := range through {
			if len(stated(list)) < len(list) {
				delete(through, id)
			}
		}
		for _, r := range append(direct, flat(through)...) {
			for _, e := range r.Evidence {
				f.evidence = append(f.evidence, pageQuote{e.Quote, w.page[e.Page].URL})
				f.pages = append(f.pages, w.page[e.Page])
			}
		}
		for i := range w.Pages {
			if named := w.mentioned(w.Pages[i].Title + " " + w.Pages[i].Body); !w.Pages[i].Hostile && seen(&w.Pages[i]) && slices.Contains(named, inst) && slices.Contains(named, risk) && !slices.Contains(f.pages, &w.Pages[i]) {
				f.pages = append(f.pages, &w.Pages[i])
			}
		}
		switch {
		case len(direct) > 0:
			f.verdict, f.summary = "Direct", fmt.Sprintf("%s is tied to %s: %s.", institution[0], riskItem[0], direct[0].Role)
		case len(through) > 0:
			f.verdict = "Indirect"
			for id := range through {
				f.through = append(f.through, w.entity[id].Name())
			}
			slices.Sort(f.through)
			f.summary = fmt.Sprintf("%s is tied to %s through %s.", institution[0], riskItem[0], strings.Join(f.through, " and "))
		case len(f.pages) > 0:
			f.verdict, f.summary = "Significant Mention", fmt.Sprintf("%s and %s are named in one page.", institution[0], riskItem[0])
		}
	}
	for _, e := range slices.Clone(f.evidence) {
		if rate := set.ErrorRate; rate > 0 && chance(set.Seed, "normal", e.Quote) < rate/(1-rate) {
			if chance(set.Seed, "what", e.Quote) < .5 { // a true quote at an address that is not there
				f.evidence = append(f.evidence, pageQuote{e.Quote, s.invent(strings.TrimSuffix(e.URL, "/") + "-full-report")})
			} else {
				f.evidence = append(f.evidence, pageQuote{s.invent(fmt.Sprintf("%s and %s are long-standing partners, a spokesperson said.", institution[0], riskItem[0])), e.URL})
			}
		}
	}
	return f
}

// relations answers for every risk item, in prose with a JSON block, as the
// normal mode asks; pages are what it rests on.
func (s *Sandbox) relations(q question, opened []*Page) (text string, sentences []string, pages [][]*Page) {
	type row struct {
		RiskItem string      `json:"risk_item"`
		Type     string      `json:"relationship_type"`
		Summary  string      `json:"finding_summary"`
		Through  []string    `json:"potential_intermediary_B"`
		Evidence []pageQuote `json:"key_evidence"`
		Sources  []string    `json:"sources"`
	}
	set := s.now()
	rows := []row{}
	for _, item := range q.RiskItems {
		f := s.look(set, q.institution(), append([]string{item.Name}, item.Aliases...), opened...)
		r := row{item.Name, f.verdict, f.summary, f.through, f.evidence, nil}
		for _, e := range f.evidence {
			if !slices.Contains(r.Sources, e.URL) {
				r.Sources = append(r.Sources, e.URL)
			}
		}
		rows = append(rows, r)
		sentences = append(sentences, f.summary)
		pages = append(pages, f.pages)
	}
	b, _ := json.MarshalIndent(rows, "", "  ")
	return "```json\n" + string(b) + "\n```", sentences, pages
}

// listed, profile and signal are what a search service is asked.
func (s *Sandbox) listed(q question) (any, []*Page) {
	f := s.look(s.now(), q.institution(), append([]string{q.Organisation.Name}, q.Organisation.Aliases...))
	type tie struct {
		Intermediary string `json:"intermediary,omitempty"`
		Summary      string `json:"summary"`
		Quote        string `json:"quote"`
		URL          string `json:"url"`
	}
	out := struct {
		Ties    []tie  `json:"ties"`
		Summary string `json:"summary"`
	}{Ties: []tie{}, Summary: f.summary}
	inst, org := s.world.named(q.institution()...), s.world.named(append([]string{q.Organisation.Name}, q.Organisation.Aliases...)...)
	for _, e := range f.evidence {
		t := tie{Summary: f.summary, Quote: e.Quote, URL: e.URL}
		for _, m := range s.world.mentioned(e.Quote) {
			if m != inst && m != org {
				t.Intermediary = m.Name()
			}
		}
		out.Ties = append(out.Ties, t)
	}
	return out, f.pages
}

func (s *Sandbox) profile(q question) (map[string]any, []*Page) {
	out := map[string]any{}
	e := s.world.named(append([]string{q.Organisation.Name}, q.Organisation.Aliases...)...)
	if e == nil || e.Host == "" {
		return out, nil
	}
	about := s.world.page["about-"+e.ID]
	pages := []*Page{about}
	field := func(name string, page *Page, values ...string) {
		var list []any
		for _, v := range values {
			if v != "" {
				list = append(list, map[string]any{"value": v, "sources": []string{page.URL}})
			}
		}
		if list != nil {
			out[name] = list
		}
	}
	all := e.All()
	field("name", about, all[min(1, len(all)-1)])
	field("english_name", about, e.Name())
	field("description", about, about.Body)
	field("headquarters", about, e.City)
	field("country", about, e.Country)
	field("founded", about, e.Founded)
	field("website", about, "https://"+e.Host+"/")
	field("sectors", about, e.Sectors...)
	for name, match := range map[string]func(r Relation) string{
		"owners":       func(r Relation) string { return other(r, "Ownership", r.To == e.ID, r.From) },
		"subsidiaries": func(r Relation) string { return other(r, "Ownership", r.From == e.ID, r.To) },
		"partners": func(r Relation) string {
			return other(r, "UnknownLink", r.From == e.ID, r.To) + other(r, "UnknownLink", r.To == e.ID, r.From)
		},
		"suppliers": func(r Relation) string { return other(r, "ContractAward", r.To == e.ID, r.From) },
	} {
		var list []any
		for _, r := range s.world.Relations {
			if id := match(r); id != "" && !s.world.page[r.Evidence[0].Page].Unlisted {
				page := s.world.page[r.Evidence[0].Page]
				list = append(list, map[string]any{"value": s.world.entity[id].Name(), "sources": []string{page.URL}})
				pages = append(pages, page)
			}
		}
		if list != nil {
			out[name] = list
		}
	}
	if set := s.now(); set.ErrorRate > 0 && chance(set.Seed, "profile", e.ID) < set.ErrorRate {
		out["employees"] = []any{map[string]any{"value": "12,500", "sources": []string{s.invent("https://" + e.Host + "/annual-report-full.pdf")}}}
	}
	return out, pages
}

func other(r Relation, schema string, matches bool, id string) string {
	if r.Schema == schema && matches {
		return id
	}
	return ""
}

// signalSaid is what the model says of a topic.
type signalSaid struct {
	Evidence []pageQuote `json:"evidence"`
	Summary  string      `json:"summary"`
}

func (s *Sandbox) signal(q question) (signalSaid, []*Page) {
	out := signalSaid{Evidence: []pageQuote{}, Summary: "No public page ties the organisation to the topic."}
	e := s.world.named(append([]string{q.Organisation.Name}, q.Organisation.Aliases...)...)
	var pages []*Page
	for _, sig := range s.world.Signals {
		if e != nil && sig.Entity == e.ID && slices.ContainsFunc(sig.Topics, func(t string) bool { return strings.Contains(fold(q.Topic), t) || strings.Contains(t, fold(q.Topic)) }) {
			page := s.world.page[sig.Page]
			out.Evidence = append(out.Evidence, pageQuote{sig.Quote, page.URL})
			out.Summary = sig.Quote
			pages = append(pages, page)
			if set := s.now(); set.ErrorRate > 0 && chance(set.Seed, "signal", sig.Quote) < set.ErrorRate/(1-set.ErrorRate) {
				out.Evidence = append(out.Evidence, pageQuote{s.invent(e.Name() + " is under criminal investigation, prosecutors confirmed on Monday."), page.URL})
			}
		}
	}
	return out, pages
}

// profileRead and signalRead are the same, of a model that was given passages:
// it reports what they say, by the ids of their sources.
func (s *Sandbox) profileRead(q question) map[string]any {
	said, _ := s.profile(q)
	out := map[string]any{}
	for field, list := range said {
		var kept []any
		for _, one := range list.([]any) {
			value := one.(map[string]any)["value"].(string)
			first, _, _ := strings.Cut(value, "\n")
			ids := []string{}
			for _, src := range q.Sources {
				if has(src, first) {
					ids = append(ids, src.ID)
				}
			}
			if len(ids) > 0 {
				kept = append(kept, map[string]any{"value": value, "sources": ids})
			}
		}
		if kept != nil {
			out[field] = kept
		}
	}
	return out
}

func (s *Sandbox) signalRead(q question) signalSaid {
	said, _ := s.signal(q)
	given := said.Evidence
	said.Evidence = []pageQuote{}
	for _, e := range given {
		for _, src := range q.Sources {
			if has(src, e.Quote) || s.Invented(e.Quote) {
				said.Evidence = append(said.Evidence, pageQuote{e.Quote, src.ID})
				break
			}
		}
	}
	return said
}

// answer is the model's text for a prompt, whichever vendor carries it; opened are
// pages that it has read itself.
func (s *Sandbox) answer(prompt string, opened ...*Page) (text string, sentences []string, pages [][]*Page) {
	q, ok := read(prompt)
	var out any
	switch {
	case !ok:
		named := s.world.mentioned(prompt)
		if len(named) == 0 {
			return "This is the sandbox. It knows only the organisations of its own invented world.", nil, nil
		}
		about := "about-" + named[0].ID
		text = named[0].Name() + " is an invented organisation."
		if page := s.world.page[about]; page != nil {
			return text, []string{text}, [][]*Page{{page}}
		}
		return text, nil, nil
	case q.Task == "integrate":
		out = s.integrate(q)
	case q.Task == "strategy":
		out = s.strategy(q)
	case q.Task == "relations":
		return s.relations(q, opened)
	case q.Task == "listed":
		out, _ = s.listed(q)
	case q.Task == "profile":
		out, _ = s.profile(q)
	case q.Task == "signal":
		out, _ = s.signal(q)
	case q.Task == "profile_read":
		out = s.profileRead(q)
	case q.Task == "signal_read":
		out = s.signalRead(q)
	}
	b, _ := json.Marshal(out)
	return string(b), nil, nil
}
