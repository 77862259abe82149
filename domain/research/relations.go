package research

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/chainreactions/chainreactions/domain"
)

// The shape of a deep run.
const (
	mostQueries   = 10     // of one risk item
	mostTasks     = 16     // searches of one risk item: queries times engines
	mostPages     = 10     // read for one risk item
	mostRead      = 60     // of a run
	mostGrounded  = 30     // read of a normal run
	mostNamed     = 20     // pages that a request names; a model opens no more either
	promptBytes   = 60_000 // of passages in one prompt
	passageBytes  = 6_000  // of one page
	planTokens    = 8_192
	readTokens    = 16_384
	groundTokens  = 32_768
	openedTokens  = 1 << 20 // what the pages that a model opens itself may come to: all that the largest models take
	engineChoices = 2       // engines asked each query
)

// inquiry is the work on the relations of one institution.
type inquiry struct {
	findings
	x         *execution
	request   RelationsRequest
	country   string
	languages []string
	items     []*item
	searches  []SearchMade
	sourceAt  map[string]*Source // by canonical address
	notDone   []string
	proposed  map[*party][]string // names of the model's that no page has borne out yet
}

// item is one risk item while a run works on it.
type item struct {
	*party
	id      string // random in the run
	country string
	queries []query
	looked  looked
	claimed *Claimed
	story   string
}

type query struct {
	text, language, country string
}

// SearchMade is one search of a run.
type SearchMade struct {
	Engine   string   `json:"engine"`
	Query    string   `json:"query"`
	Language string   `json:"language,omitempty"`
	About    []string `json:"about" nullable:"false" doc:"risk items"`
	Results  int      `json:"results"`
	Altered  string   `json:"altered,omitempty" doc:"the engine searched for this instead"`
	Error    string   `json:"error,omitempty"`
}

// relations is the program of a relations run.
func (x *execution) relations(ctx context.Context) (ending, error) {
	q := &inquiry{x: x, sourceAt: map[string]*Source{}}
	q.salt, q.byID = x.run.Salt, map[string]*Source{}
	if err := json.Unmarshal([]byte(x.run.RequestJSON), &q.request); err != nil {
		return ending{}, err
	}
	var err error
	if err = q.meetParties(ctx); err == nil {
		if q.request.Mode == "normal" {
			err = q.normal(ctx)
		} else {
			err = q.deep(ctx)
		}
	}
	if errors.Is(err, errBudget) {
		q.undone("budget", "search")
		for _, it := range q.items {
			it.looked.unfinished = true
		}
		err = x.warn(ctx, "budget/search", Warning{Code: "budget_used_up", Detail: domain.Sentence("en", budgetSentence)})
	}
	if err != nil && (errors.Is(err, errSuperseded) || ctx.Err() != nil && domain.CodeOf(context.Cause(ctx)) != "run_timeout") {
		return ending{}, err // nobody waits for what was found until now
	}
	if err != nil {
		for _, it := range q.items {
			it.looked.unfinished = true
		}
	}
	e, failed := q.ending(context.WithoutCancel(ctx))
	if err == nil {
		err = failed
	}
	if err != nil {
		e.unitsUsed = 0
	}
	return e, err
}

const budgetSentence = "The run's budget is used up; what was not done is named in the result."

// meetParties makes the parties, with the names by which the tenant's own
// lists know them.
func (q *inquiry) meetParties(ctx context.Context) error {
	q.country = place(q.request.Location)
	q.subject = newParty("institution", "Organization", q.request.Institution, q.country)
	q.parties = []*party{q.subject}
	ask := []string{q.request.Institution}
	for i, r := range q.request.RiskItems {
		it := &item{party: newParty("risk_item", "Organization", r.Name, place(r.Country), r.Aliases...), country: place(r.Country),
			id: ownID(q.salt, "i", strconv.Itoa(i)+r.Name)}
		q.items = append(q.items, it)
		q.parties = append(q.parties, it.party)
		ask = append(ask, r.Name)
	}
	q.languages = q.tongues()
	listed, err := q.x.listed(ctx, "names", ask)
	if err != nil {
		return err
	}
	for i, p := range q.parties {
		if i < len(listed) {
			p.known(listed[i])
		}
	}
	return nil
}

// known takes over the names of the entries that the party surely is.
func (p *party) known(listed []Listed) {
	for _, l := range listed {
		if !p.names.same(l.Name) && !slices.ContainsFunc(l.Aliases, p.names.same) {
			continue
		}
		p.add(l.Name)
		for _, a := range l.Aliases {
			p.add(a)
		}
		for _, c := range l.Countries {
			if !slices.Contains(p.Countries, c) {
				p.Countries = append(p.Countries, c)
			}
		}
	}
}

// listed matches names against the tenant's datasets, once in a run.
func (x *execution) listed(ctx context.Context, key string, ask []string) ([][]Listed, error) {
	if x.r.Match == nil {
		return nil, nil
	}
	out, err := do(ctx, x, step{key: "match/" + key, kind: "match", sent: strings.Join(ask, "; "), timeout: x.r.Timeouts.Fetch},
		func(ctx context.Context, _ Call) ([][]Listed, Usage, error) {
			found, err := x.r.Match(ctx, ask)
			return found, Usage{}, err
		}, func([][]Listed) []event { return nil })
	var v vendorError
	if errors.As(err, &v) {
		return nil, x.warn(ctx, "match/"+key, Warning{Code: v.why.Code, Detail: sentence(v), About: "datasets"})
	}
	return out, err
}

func sentence(v vendorError) string { return domain.Sentence("en", v.why.Format, v.why.Args...) }

// tongues are the languages of the searches: English, those asked for, and
// those of the places and scripts in question.
func (q *inquiry) tongues() []string {
	out := []string{"en"}
	add := func(list ...string) {
		for _, l := range list {
			if l != "" && !slices.Contains(out, l) && len(out) < 6 {
				out = append(out, l)
			}
		}
	}
	add(q.request.Languages...)
	add(localLanguages[q.country]...)
	for _, it := range q.items {
		add(localLanguages[it.country]...)
		if len(localLanguages[it.country]) == 0 {
			add(languageOf(it.Name))
		}
	}
	if len(localLanguages[q.country]) == 0 {
		add(languageOf(q.request.Institution))
	}
	return out
}

// deep is the run in three stages.
func (q *inquiry) deep(ctx context.Context) error {
	x := q.x
	q.named()
	if x.r.Searcher == nil || len(x.r.Searcher.Engines("", "en")) == 0 {
		return notConfigured("search")
	}
	if x.r.Model == nil {
		return notConfigured("model")
	}
	stages := []struct {
		name string
		fn   func(ctx context.Context) error
	}{{"strategy", q.plan}, {"search", q.search}, {"read", q.read}, {"integrate", q.integrate}}
	for _, s := range stages {
		if err := x.stage(ctx, s.name, "started", 0, 0); err != nil {
			return err
		}
		late, err := x.staged(ctx, s.name, s.fn)
		if errors.Is(err, errBudget) {
			q.undone("budget", s.name)
			late, err = true, x.warn(ctx, "budget/"+s.name, Warning{Code: "budget_used_up", Detail: domain.Sentence("en", budgetSentence)})
		}
		if err != nil {
			return err
		}
		if late {
			q.undone("unfinished", s.name)
			for _, it := range q.items {
				it.looked.unfinished = true
			}
		}
		if err := x.stage(ctx, s.name, "done", 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func (q *inquiry) undone(why, what string) {
	if line := what + ": " + why; !slices.Contains(q.notDone, line) {
		q.notDone = append(q.notDone, line)
	}
}

func notConfigured(what string) error {
	return vendorError{domain.E(domain.Unavailable, "provider_not_configured", "No %s provider is configured.", what)}
}

// plan makes first searches, and has the model write the queries from what
// they found. Without a usable answer the queries are ours alone.
func (q *inquiry) plan(ctx context.Context) error {
	first := []query{{`"` + q.subject.Name + `"`, "en", q.country}}
	for _, it := range q.items {
		first = append(first, query{fmt.Sprintf(`"%s" "%s"`, q.subject.Name, it.Name), "en", q.country})
	}
	failed := make([]error, len(first))
	err := each(ctx, first, func(ctx context.Context, i int, s query) error {
		engines := q.x.r.Searcher.Engines("", "en")
		about := []*item{}
		if i > 0 {
			about = append(about, q.items[i-1])
		}
		var v vendorError
		err := q.ask(ctx, engines[0], s, about)
		if errors.As(err, &v) {
			failed[i], err = v, nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if v := allFailed(failed); v != nil && final(v) {
		return v
	}
	data := strategyData{Task: "strategy", Institution: promptItem{ID: "institution", Name: q.subject.Name, Country: q.country, Aliases: q.subject.Aliases},
		Languages: q.languages, Period: q.period(), Findings: []promptFinding{}}
	for _, it := range q.items {
		data.RiskItems = append(data.RiskItems, promptItem{it.id, it.Name, it.country, it.Aliases})
	}
	q.order()
	for _, s := range q.sources[:min(len(q.sources), 40)] {
		data.Findings = append(data.Findings, promptFinding{s.ID, clip(s.Title, 200), clip(s.Snippet, 400)})
	}
	answer, err := generate[strategyAnswer](ctx, q.x, "strategy", "strategy", data, strategySchema, planTokens)
	var v vendorError
	if errors.As(err, &v) {
		if final(v) {
			return v
		}
		err = q.x.warn(ctx, "strategy", Warning{Code: v.why.Code, Detail: domain.Sentence("en", "The model gave no strategy (%s); the run's own queries are used.", sentence(v))})
	}
	if err != nil {
		return err
	}
	q.names(answer)
	for i := range q.items {
		q.queriesOf(q.items[i], answer)
	}
	return nil
}

func allFailed(list []error) error {
	for _, err := range list {
		if err == nil {
			return nil
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

func (q *inquiry) period() *period {
	if q.request.FromDate == "" && q.request.ToDate == "" {
		return nil
	}
	return &period{q.request.FromDate, q.request.ToDate}
}

// names notes the names that the model proposes. They may be searched for, but
// name nobody until a page bears them out.
func (q *inquiry) names(a strategyAnswer) {
	q.proposed = map[*party][]string{}
	take := func(p *party, list []namedAnswer) {
		for _, n := range list[:min(len(list), 12)] {
			if name := tidy(n.Name); len([]rune(name)) >= 3 && len(name) <= 300 {
				q.proposed[p] = append(q.proposed[p], name)
			}
		}
	}
	take(q.subject, a.Institution.Names)
	for _, it := range q.items {
		for _, i := range a.Items {
			if i.ID == it.id {
				take(it.party, i.Names)
			}
		}
	}
	q.adopt()
}

// adopt takes over those proposed names that a page gives as another name of
// the party: in brackets, or behind a slash, right beside a name that is known.
func (q *inquiry) adopt() {
	for _, p := range q.parties {
		for _, name := range q.proposed[p] {
			if p.names.same(name) || q.taken(p, name) {
				continue
			}
			for _, s := range q.sources {
				if beside(s.Title+"\n"+s.Snippet, p.names, name) || s.page != nil && beside(s.page.raw, p.names, name) {
					p.add(name)
					break
				}
			}
		}
	}
}

// learn finds the names that pages give a third party in brackets, in another
// script. One page is enough where it is the party's own, a register's or the
// like; else two must say so: a page could make anybody anybody.
func (q *inquiry) learn(p *party) {
	said := map[string]map[string]bool{}
	for _, s := range q.sources {
		in := s.Title + "\n" + s.Snippet
		if s.page != nil {
			in = s.page.raw
		}
		for _, name := range bracketed(in, p.names) {
			if said[name] == nil {
				said[name] = map[string]bool{}
			}
			said[name][site(s.URL)] = true
			if s.Credibility >= 0.75 || strings.Contains(strings.ReplaceAll(site(s.URL), "-", ""), p.names.list[0].words[0]) {
				said[name]["itself"], said[name]["own"] = true, true
			}
		}
	}
	for _, name := range slices.Sorted(keysOf(said)) {
		if len(said[name]) >= 2 && !q.taken(p, name) {
			p.add(name)
		}
	}
}

// bracketed gives what a text has in brackets right after a known name, part by
// part, where it is in another script.
func bracketed(in string, known names) (out []string) {
	in = tidy(in)
	for _, k := range known.list {
		for rest := in; ; {
			_, after, ok := strings.Cut(rest, k.written)
			if rest = after; !ok {
				break
			}
			inner, found := strings.CutPrefix(strings.TrimPrefix(after, " "), "(")
			inner, _, closed := strings.Cut(inner, ")")
			if !found || !closed || len(inner) > 200 {
				continue
			}
			for _, part := range strings.FieldsFunc(inner, func(r rune) bool { return r == ',' || r == ';' || r == '/' || r == '、' }) {
				if part = strings.TrimSpace(part); isLatin(part) != isLatin(k.written) && len([]rune(part)) >= 3 && len([]rune(part)) <= 80 {
					out = append(out, part)
				}
			}
		}
	}
	return out
}

func (q *inquiry) taken(by *party, name string) bool {
	return slices.ContainsFunc(q.parties, func(p *party) bool { return p != by && p.names.same(name) })
}

// beside reports whether a text gives name as another name of a known one:
// "known (name)", "name (known)" or "known / name".
func beside(in string, known names, name string) bool {
	low := fold(tidy(in))
	for _, k := range known.list {
		a, b := fold(k.written), fold(name)
		for _, form := range []string{a + " (" + b + ")", a + "(" + b + ")", b + " (" + a + ")", b + "(" + a + ")", a + " / " + b, b + " / " + a, a + " (" + b + ",", b + " (" + a + ","} {
			if strings.Contains(low, form) {
				return true
			}
		}
	}
	return false
}

// queriesOf joins our own queries and the model's. A query that names neither
// end is none of ours to send: it could carry anything out.
func (q *inquiry) queriesOf(it *item, a strategyAnswer) {
	seen := map[string]bool{}
	add := func(text, language string) {
		text = tidy(text)
		text = strings.NewReplacer("site:", " ", "inurl:", " ", "://", " ", "cache:", " ").Replace(text)
		text = strings.Join(strings.Fields(text), " ")
		if text == "" || len([]rune(text)) > 200 || seen[fold(text)] || len(it.queries) >= mostQueries {
			return
		}
		seen[fold(text)] = true
		country := q.country
		if language != "en" && slices.Contains(localLanguages[it.country], language) && !slices.Contains(localLanguages[q.country], language) {
			country = it.country
		}
		it.queries = append(it.queries, query{text, language, country})
	}
	add(fmt.Sprintf(`"%s" "%s"`, q.subject.Name, it.Name), "en")
	for _, l := range q.languages[1:] {
		add(fmt.Sprintf(`"%s" "%s"`, q.subject.names.in(l), it.names.in(l)), l)
	}
	for _, alias := range it.Aliases {
		if l := languageOf(alias); l != "" && l != languageOf(it.Name) {
			add(fmt.Sprintf(`"%s"`, alias), l)
		}
	}
	var wanted []namedAnswer
	for _, answer := range a.Items {
		if answer.ID != it.id {
			continue
		}
		wanted = answer.Names
		for _, s := range answer.Queries {
			if w := newWindow(s.Text); w.names(q.subject.names, nil) || w.names(it.names, nil) || namesAny(s.Text, wanted) || namesAny(s.Text, a.Institution.Names) {
				language := s.Language
				if !langForm.MatchString(language) {
					language = cmp.Or(languageOf(s.Text), "en")
				}
				add(s.Text, language)
			}
		}
	}
	add(fmt.Sprintf(`"%s"`, it.Name), "en")
	for _, w := range []string{"agreement", "joint research", "partner"} {
		add(fmt.Sprintf(`"%s" "%s" %s`, q.subject.Name, it.Name, w), "en")
	}
}

func namesAny(text string, list []namedAnswer) bool {
	for _, n := range list {
		if len([]rune(n.Name)) >= 4 && strings.Contains(fold(text), fold(n.Name)) {
			return true
		}
	}
	return false
}

type task struct {
	engine string
	query  query
	about  []*item
}

// search runs the queries of all items on the engines of their languages. A
// query that serves two items runs once.
func (q *inquiry) search(ctx context.Context) error {
	var tasks []*task
	for _, it := range q.items {
		n := 0
		for _, s := range it.queries {
			engines := q.x.r.Searcher.Engines(s.country, s.language)
			for _, engine := range engines[:min(len(engines), engineChoices)] {
				if n++; n > mostTasks {
					break
				}
				at := slices.IndexFunc(tasks, func(t *task) bool { return t.engine == engine && t.query == s })
				if at < 0 {
					tasks = append(tasks, &task{engine: engine, query: s})
					at = len(tasks) - 1
				}
				tasks[at].about = append(tasks[at].about, it)
			}
		}
	}
	err := each(ctx, tasks, func(ctx context.Context, _ int, t *task) error {
		var v vendorError
		err := q.ask(ctx, t.engine, t.query, t.about)
		if errors.As(err, &v) {
			err = q.x.warn(ctx, "search/"+stableID("", t.engine+t.query.text), Warning{Code: v.why.Code, Detail: sentence(v), About: t.engine})
		}
		return err
	})
	q.order()
	return err
}

// QueryEvent tells of a search: when it begins, and what it gave.
type QueryEvent struct {
	Engine   string   `json:"engine"`
	Query    string   `json:"query"`
	Language string   `json:"language,omitempty"`
	About    []string `json:"about,omitempty"`
	Results  *int     `json:"results,omitempty" doc:"absent: it has begun"`
}

// ask makes one search and takes in what it found.
func (q *inquiry) ask(ctx context.Context, engine string, s query, about []*item) error {
	x := q.x
	key := "search/" + engine + "/" + stableID("", s.text+"\x00"+s.language+"\x00"+s.country+"\x00"+q.request.FromDate+"\x00"+q.request.ToDate)
	names := []string{}
	for _, it := range about {
		names = append(names, it.Name)
	}
	begun := event{key, "query", QueryEvent{Engine: engine, Query: s.text, Language: s.language, About: names}}
	out, err := do(ctx, x, step{key: key, kind: "search", sent: engine + ": " + s.text, timeout: x.r.Timeouts.Search, cost: SearchCall, event: &begun},
		func(ctx context.Context, call Call) (SearchResponse, Usage, error) {
			found, err := x.r.Searcher.Search(ctx, SearchRequest{Call: call, Engine: engine, Query: s.text, Country: s.country, Language: s.language,
				From: firstDay(q.request.FromDate), To: lastDay(q.request.ToDate), Limit: 20})
			return found, found.Usage, err
		}, func(r SearchResponse) []event {
			n := len(r.Results)
			return []event{{key + "/done", "query", QueryEvent{Engine: engine, Query: s.text, Language: s.language, About: names, Results: &n}}}
		})
	x.mu.Lock()
	defer x.mu.Unlock()
	var v vendorError
	if err != nil && !errors.As(err, &v) {
		return err
	}
	made := SearchMade{Engine: engine, Query: s.text, Language: s.language, About: names, Results: len(out.Results), Altered: out.Altered}
	at := slices.IndexFunc(q.searches, func(m SearchMade) bool { return m.Engine == engine && m.Query == s.text && m.Language == s.language })
	if at >= 0 { // made before: it now serves others too
		about = slices.DeleteFunc(slices.Clone(about), func(it *item) bool { return slices.Contains(q.searches[at].About, it.Name) })
		for _, it := range about {
			q.searches[at].About = append(q.searches[at].About, it.Name)
		}
		slices.Sort(q.searches[at].About)
	}
	for _, it := range about {
		it.looked.searches++
		if err == nil {
			it.looked.answered++
		}
	}
	if err != nil {
		made.Error = v.why.Code
	}
	if at < 0 {
		q.searches = append(q.searches, made)
	}
	for _, r := range out.Results {
		q.take(r, engine, about)
	}
	return err
}

// take adds a result to the sources. Only what a search returned gets here.
func (q *inquiry) take(r SearchResult, engine string, about []*item) {
	key, ok := canonical(r.URL)
	if !ok {
		return
	}
	s := q.sourceAt[key]
	if s == nil {
		s = &Source{ID: ownID(q.salt, "s", key), URL: r.URL, key: key, about: map[int]bool{}, Engines: []string{}}
		s.Type, s.Credibility = grade(r.URL)
		q.sourceAt[key], q.byID[s.ID] = s, s
		q.sources = append(q.sources, s)
	} else if r.URL < s.URL && s.page == nil {
		s.URL = r.URL // of two spellings one, whichever search came first
	}
	if len(r.Title) > len(s.Title) || len(r.Title) == len(s.Title) && r.Title < s.Title {
		s.Title = clip(r.Title, 500)
	}
	if len(r.Snippet) > len(s.Snippet) || len(r.Snippet) == len(s.Snippet) && r.Snippet < s.Snippet {
		s.Snippet = clip(r.Snippet, 2000)
	}
	if s.PublishedAt == "" || r.PublishedAt != "" && r.PublishedAt < s.PublishedAt {
		s.PublishedAt = day(r.PublishedAt)
	}
	if !slices.Contains(s.Engines, engine) {
		s.Engines = append(s.Engines, engine)
		slices.Sort(s.Engines)
	}
	s.score = max(s.score, 1/float64(1+max(r.Rank, 1))) // the best rank: being found often is no merit
	for _, it := range about {
		s.about[slices.Index(q.items, it)] = true
	}
}

// order puts the sources in an order that depends on what was found and not on
// which search came first.
func (q *inquiry) order() {
	slices.SortFunc(q.sources, func(a, b *Source) int { return cmp.Compare(a.key, b.key) })
	slices.SortStableFunc(q.sources, func(a, b *Source) int { return cmp.Compare(round(b.score), round(a.score)) })
	slices.SortFunc(q.searches, func(a, b SearchMade) int {
		return cmp.Or(cmp.Compare(a.Engine, b.Engine), cmp.Compare(a.Query, b.Query))
	})
}

// best gives the sources that promise most for an item: what shows it beside
// the institution, then what shows it, then what shows the institution and no
// other risk item. Within these the engines' ranks and the kind of source
// decide.
func (q *inquiry) best(i int) []*Source {
	value := map[*Source]float64{}
	var out []*Source
	for _, s := range q.sources {
		if !s.about[i] && len(s.about) > 0 {
			continue
		}
		w := newWindow(s.Title + "\n" + s.Snippet)
		v := round(s.score) + s.Credibility/2
		if w.names(q.items[i].names, nil) {
			v += 4
		} else if slices.ContainsFunc(q.items, func(it *item) bool { return w.names(it.names, nil) }) {
			v -= 2
		}
		if w.names(q.subject.names, nil) {
			v += 3
		}
		value[s] = v
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b *Source) int { return cmp.Compare(value[b], value[a]) })
	return out
}

// named gives the sources that the request itself names.
func (q *inquiry) named() (out []*Source) {
	for _, address := range q.request.Pages {
		q.take(SearchResult{URL: address, Rank: 1}, "request", q.items)
		key, _ := canonical(address)
		out = append(out, q.sourceAt[key])
	}
	return out
}

// read fetches the pages that the request names, and the best of each item.
func (q *inquiry) read(ctx context.Context) error {
	named := q.named()
	pages := slices.Clone(named)
	for i, it := range q.items {
		n := 0
		for _, s := range q.best(i) {
			if n >= mostPages {
				break
			}
			if slices.Contains(named, s) {
				continue
			}
			if !slices.Contains(pages, s) {
				if len(pages) >= mostRead {
					continue
				}
				pages = append(pages, s)
			}
			n++
		}
		it.looked.wanted = len(named) + n
	}
	err := q.fetch(ctx, pages)
	q.adopt()
	for i, it := range q.items {
		it.looked.unread = unread(named)
		for _, s := range pages {
			if s.page != nil && (s.about[i] || len(s.about) == 0) {
				it.looked.read++
			}
		}
	}
	return err
}

func unread(pages []*Source) (n int) {
	for _, s := range pages {
		if s.page == nil {
			n++
		}
	}
	return n
}

// SourceEvent tells whether a page could be read.
type SourceEvent struct {
	ID     string `json:"id"`
	URL    string `json:"url"`
	Title  string `json:"title"`
	Type   string `json:"source_type"`
	Read   bool   `json:"read"`
	Reason string `json:"reason,omitempty"`
}

// fetch reads pages and prepares their text.
func (q *inquiry) fetch(ctx context.Context, pages []*Source) error {
	if q.x.r.Fetcher == nil {
		return notConfigured("page")
	}
	err := each(ctx, pages, func(ctx context.Context, _ int, s *Source) error { return q.x.fetch(ctx, s) })
	markCopies(q.sources)
	return err
}

// fetch reads one page. One that cannot be read is marked so.
func (x *execution) fetch(ctx context.Context, s *Source) error {
	if s.page != nil {
		return nil
	}
	key := "fetch/" + stableID("", s.key)
	page, err := do(ctx, x, step{key: key, kind: "fetch", sent: s.URL, timeout: x.r.Timeouts.Fetch},
		func(ctx context.Context, call Call) (Page, Usage, error) {
			page, err := x.r.Fetcher.Fetch(ctx, FetchRequest{Call: call, URL: s.URL})
			return page, page.Usage, err
		}, func(p Page) []event {
			return []event{{"source/" + s.ID, "source", SourceEvent{s.ID, s.URL, cmp.Or(p.Title, s.Title), s.Type, true, ""}}}
		})
	var v vendorError
	if errors.As(err, &v) {
		s.Error = v.why.Code
		return x.commit(ctx, []event{{"source/" + s.ID, "source", SourceEvent{s.ID, s.URL, s.Title, s.Type, false, v.why.Code}}}, nil)
	}
	if err != nil {
		return err
	}
	defer x.r.turn()()
	s.take(page)
	return nil
}

// take makes the page the source's snapshot.
func (s *Source) take(page Page) {
	s.page, s.cut = newReading(page.Text), page.Truncated
	s.Title = cmp.Or(clip(page.Title, 500), s.Title)
	s.Language, s.Hash = page.Language, page.Hash
	s.PublishedAt = cmp.Or(day(page.PublishedAt), s.PublishedAt)
	at := page.RetrievedAt.UTC()
	s.RetrievedAt = &at
	if final, ok := canonical(page.FinalURL); ok && final != s.key {
		s.URL = page.FinalURL // where it really stands; a shortener's kind says nothing
		s.Type, s.Credibility = grade(s.URL)
	}
}

// passages are the parts of a page in which one of the parties is named, with
// the sentences around them, in the order of the page.
func (p *reading) passages(parties ...names) []string {
	take := make([]bool, len(p.sentences))
	hit := false
	for _, n := range parties {
		for _, i := range p.at(n) {
			hit = true
			for j := max(0, i-2); j <= min(len(take)-1, i+2); j++ {
				take[j] = true
			}
		}
	}
	if !hit {
		return nil
	}
	if len(p.raw) <= passageBytes {
		return []string{strings.TrimSpace(p.raw)}
	}
	var out []string
	size := 0
	for i := 0; i < len(take); i++ {
		if !take[i] {
			continue
		}
		from := i
		for i+1 < len(take) && take[i+1] {
			i++
		}
		one := clip(p.raw[p.sentences[from].from:p.sentences[i].to], passageBytes-size)
		if size += len(one); one != "" {
			out = append(out, strings.TrimSpace(one))
		}
		if size >= passageBytes {
			break
		}
	}
	return out
}

// integrate has the model read the pages of each item, and keeps of what it
// says what holds. Where a third party is tied to one end alone, a second round
// looks for its tie to the other.
func (q *inquiry) integrate(ctx context.Context) error {
	if err := q.x.stage(ctx, "integrate", "progress", 0, len(q.items)); err != nil {
		return err
	}
	failed := make([]error, len(q.items))
	answers := make([]*integrateAnswer, len(q.items))
	err := each(ctx, q.items, func(ctx context.Context, i int, it *item) (err error) {
		answers[i], err = q.consider(ctx, it, "1")
		var v vendorError
		if errors.As(err, &v) {
			failed[i], it.looked.broken = v, true
			return q.x.warn(ctx, "integrate/"+it.id, Warning{Code: v.why.Code, Detail: sentence(v), About: it.Name})
		}
		return err
	})
	// The claims are held to the pages in the order of the items, so that a
	// resumed run comes to the same result whoever answered first.
	for i, it := range q.items {
		if err := q.weighed(ctx, it, answers[i], "1"); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if v := allFailed(failed); v != nil {
		return v // nothing at all could be integrated: the run fails, and can go on later
	}
	return q.second(ctx)
}

// HeldEvent tells what of the model's claims on a risk item held.
type HeldEvent struct {
	RiskItem string `json:"risk_item"`
	Held     int    `json:"claims_held"`
	Dropped  int    `json:"claims_dropped" doc:"their quotes are not in the pages"`
}

// weighed takes in an answer and tells what of it held.
func (q *inquiry) weighed(ctx context.Context, it *item, a *integrateAnswer, round string) error {
	if a == nil {
		return nil
	}
	held, dropped := q.apply(it, a)
	return q.x.commit(ctx, []event{{"result/" + it.id + "/" + round, "result", HeldEvent{it.Name, held, dropped}}}, nil)
}

// second looks for the missing half of a path: item by item, since what one
// finds may serve the next.
func (q *inquiry) second(ctx context.Context) error {
	for _, it := range q.items {
		q.weighAll()
		if it.looked.broken || q.path(q.subject.ID, it.ID) != nil {
			continue
		}
		tied := func(p *party, to string) bool {
			return slices.ContainsFunc(q.edges, func(e *Edge) bool { return e.Verified && e.joins(p.ID, to) })
		}
		var middle []*party
		for _, p := range q.parties {
			if p.Role == "intermediary" && tied(p, q.subject.ID) != tied(p, it.ID) && len(middle) < 3 {
				middle = append(middle, p)
			}
		}
		if len(middle) == 0 {
			continue
		}
		for _, p := range middle {
			end := it.party
			if tied(p, it.ID) {
				end = q.subject
			}
			if err := q.follow(ctx, it, p, []query{{fmt.Sprintf(`"%s" "%s"`, p.Name, end.Name), "en", q.country}, {fmt.Sprintf(`"%s"`, p.Name), "en", q.country}}); err != nil {
				return err
			}
			q.learn(p)
			var more []query
			for _, alias := range p.Aliases[:min(len(p.Aliases), 2)] {
				if l := languageOf(alias); l != "" {
					more = append(more, query{fmt.Sprintf(`"%s" "%s"`, alias, end.names.in(l)), l, it.country})
				}
			}
			for _, l := range q.languages[1:] { // where the third party has no name of its own in the end's language
				if name := end.names.in(l); len(p.Aliases) == 0 && languageOf(name) == l {
					more = append(more, query{fmt.Sprintf(`"%s"`, name), l, it.country})
				}
			}
			if err := q.follow(ctx, it, p, more); err != nil {
				return err
			}
		}
		var v vendorError
		a, err := q.consider(ctx, it, "2", middle...)
		if err != nil && !errors.As(err, &v) {
			return err
		}
		if err := q.weighed(ctx, it, a, "2"); err != nil {
			return err
		}
	}
	return nil
}

// follow makes searches about a third party and reads the best of what they
// bring anew.
func (q *inquiry) follow(ctx context.Context, it *item, p *party, searches []query) error {
	for _, s := range searches {
		var v vendorError
		engines := q.x.r.Searcher.Engines(s.country, s.language)
		if len(engines) == 0 {
			continue
		}
		if err := q.ask(ctx, engines[0], s, []*item{it}); err != nil && !errors.As(err, &v) {
			return err
		}
	}
	q.order()
	i := slices.Index(q.items, it)
	fresh := slices.DeleteFunc(slices.Clone(q.sources), func(s *Source) bool {
		w := newWindow(s.Title + "\n" + s.Snippet)
		return s.page != nil || s.Error != "" || !s.about[i] || !w.names(p.names, nil) && !w.names(it.names, nil)
	})
	return q.fetch(ctx, fresh[:min(len(fresh), 4)])
}

// consider asks the model about one item; nil where no page names either end.
func (q *inquiry) consider(ctx context.Context, it *item, round string, third ...*party) (*integrateAnswer, error) {
	data := integrateData{Task: "integrate", Institution: q.subject.names.written(), RiskItem: it.names.written(), Period: q.period(), Sources: []promptSource{}}
	for _, p := range third {
		data.ThirdParties = append(data.ThirdParties, p.names.written())
	}
	size, i := 0, slices.Index(q.items, it)
	for _, mine := range []bool{true, false} { // what was searched for it comes first
		for _, s := range q.sources {
			if s.page == nil || s.SameAs != "" || s.about[i] != mine || size >= promptBytes {
				continue
			}
			if !mine && len(s.about) > 0 && len(s.page.at(it.names)) == 0 {
				continue // found for another item, and not about this one
			}
			ends := []names{q.subject.names, it.names}
			for _, p := range third {
				ends = append(ends, p.names)
			}
			parts := s.page.passages(ends...)
			if len(parts) == 0 {
				continue
			}
			for _, p := range parts {
				size += len(p)
			}
			data.Sources = append(data.Sources, promptSource{s.ID, s.Title, s.Language, s.PublishedAt, parts})
		}
	}
	if len(data.Sources) == 0 {
		return nil, nil
	}
	// A resume that has read more asks again.
	a, err := generate[integrateAnswer](ctx, q.x, "integrate/"+it.id+"/"+round+"/"+stableID("", jsonText(data.Sources)), "integrate", data, integrateSchema, readTokens)
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// apply holds the claims of an answer to the pages.
func (q *inquiry) apply(it *item, a *integrateAnswer) (held, dropped int) {
	if it.story == "" {
		it.story = clip(a.Summary, 4000)
	}
	for _, r := range a.Relations[:min(len(a.Relations), 200)] {
		from, to := q.meet(r.From.Name, r.From.Schema), q.meet(r.To.Name, r.To.Schema)
		if from == nil || to == nil || from.ID == to.ID {
			dropped++
			continue
		}
		for _, e := range r.Evidence[:min(len(r.Evidence), 20)] {
			c := claim{from: from, to: to, schema: r.Schema, role: r.Role, start: r.StartDate, end: r.EndDate, sourceID: e.Source, quote: e.Quote}
			ev, ok := q.hold(c)
			if !ok {
				dropped++
				continue
			}
			held++
			q.edge(c).add(ev)
		}
	}
	return held, dropped
}

// generate asks the model for JSON, and once more where the answer cannot be
// read. Each try is a step of its own, paid once.
func generate[T any](ctx context.Context, x *execution, key, name string, data any, schema json.RawMessage, most int64) (out T, err error) {
	p := prompt(Call{}, name, ownID(x.run.Salt, "", "mark/"+key), data)
	p.Schema = schema
	for try := 1; try <= 2; try++ {
		step := key + "/try" + strconv.Itoa(try)
		p.MaxOutputTokens = most * int64(try)
		var g Generation
		if g, err = x.think(ctx, step, name, p); err == nil {
			if out, err = readAnswer[T](g); err == nil {
				return out, nil
			}
			if err = x.spoil(ctx, step, err); err != nil && !useless(err) {
				return out, err
			}
		}
		if !useless(err) || domain.CodeOf(err) == "model_blocked" {
			break
		}
	}
	return out, err
}

// useless reports that an answer came, was paid, and cannot be used.
func useless(err error) bool {
	var v vendorError
	return errors.As(err, &v) && (strings.HasPrefix(v.why.Code, "model_") || v.why.Code == "provider_malformed")
}

// spoil marks the step of an answer that cannot be used as failed: this attempt
// does not make it again, a resume does.
func (x *execution) spoil(ctx context.Context, step string, why error) error {
	var own *domain.Error
	if !errors.As(why, &own) {
		return why
	}
	x.r.Logger.WarnContext(ctx, "an answer is of no use", "run", x.run.ID, "step", step, "error", why)
	v := vendorError{own}
	err := x.commit(ctx, nil, func(ctx context.Context) error {
		_, err := x.r.st.Exec(ctx, "UPDATE research_steps SET status = 'failed', error_code = @code, error_message = @message WHERE tenant_id = @tenant AND run_id = @run AND key = @key",
			map[string]any{"run": x.run.ID, "key": step, "code": own.Code, "message": sentence(v)})
		return err
	})
	if err != nil {
		return err
	}
	return v
}

// think is one call of the model.
func (x *execution) think(ctx context.Context, key, name string, p Prompt) (Generation, error) {
	if x.r.Model == nil {
		return Generation{}, notConfigured("model")
	}
	cost, most := ModelCall, Usage{InputTokens: int64(len(p.System) + len(p.User) + len(p.Schema)), OutputTokens: p.MaxOutputTokens} // a token is a byte at least
	if p.Grounded {
		cost = GroundedCall
	}
	if len(p.Pages) > 0 {
		most.InputTokens += openedTokens
	}
	return do(ctx, x, step{key: key, kind: "model", cost: cost, sent: name + ": " + clip(p.User, 2000), timeout: x.r.Timeouts.Model, most: most},
		func(ctx context.Context, call Call) (Generation, Usage, error) {
			p := p
			p.Call = call
			g, err := x.r.Model.Generate(ctx, p, nil)
			return g, g.Usage, err
		}, func(Generation) []event { return nil })
}

// normal is one grounded call for all risk items. The pages that the vendor's
// own search returned, and those that the request names, are read here, and quotes
// are looked for in them: what the vendor says that it opened proves nothing.
func (q *inquiry) normal(ctx context.Context) error {
	x := q.x
	if err := x.stage(ctx, "search", "started", 0, 0); err != nil {
		return err
	}
	data := relationsData{Task: "relations", Institution: promptItem{ID: "institution", Name: q.subject.Name, Country: q.country, Aliases: q.subject.Aliases},
		Languages: q.languages, Period: q.period(), Pages: q.request.Pages}
	for _, it := range q.items {
		data.RiskItems = append(data.RiskItems, promptItem{it.id, it.Name, it.country, it.Aliases})
	}
	p := prompt(Call{}, "normal", ownID(x.run.Salt, "", "mark/normal"), data)
	p.Grounded, p.MaxOutputTokens, p.Pages = true, groundTokens, q.request.Pages
	var g Generation
	var list []groundedFinding
	var err error
	for try := 1; try <= 2; try++ {
		step := "normal/try" + strconv.Itoa(try)
		g, err = x.think(ctx, step, "normal", p)
		if errors.Is(err, errBudget) && len(p.Pages) > 0 {
			p.Pages = nil
			w := Warning{Code: "pages_over_budget", Detail: domain.Sentence("en", "The budget does not carry the pages that a model may open; only this product read them.")}
			if err := x.warn(ctx, "pages", w); err != nil {
				return err
			}
			g, err = x.think(ctx, step, "normal", p)
		}
		if err == nil {
			if list, err = readAnswer[[]groundedFinding](g); err == nil && len(g.Queries) == 0 && len(g.Sources) == 0 {
				err = domain.E(domain.Unavailable, "model_ungrounded", "The model answered without searching; nothing it says is taken as found.")
			}
			if err == nil {
				break
			}
			err = x.spoil(ctx, step, err)
		}
		if !useless(err) {
			return err
		}
		if domain.CodeOf(err) == "model_blocked" {
			break
		}
	}
	for _, s := range g.Queries {
		q.searches = append(q.searches, SearchMade{Engine: cmp.Or(g.Usage.Provider, "model"), Query: s, About: []string{}})
	}
	for i, s := range g.Sources {
		q.take(SearchResult{URL: s.URL, Title: s.Title, Rank: i + 1}, cmp.Or(g.Usage.Provider, "model"), q.items)
	}
	named := q.named()
	q.order()
	for _, it := range q.items {
		it.looked.searches, it.looked.answered = max(1, len(g.Queries)), len(g.Queries)
		if len(g.Queries) == 0 && len(g.Sources) > 0 {
			it.looked.answered = 1
		}
		it.looked.broken = err != nil
	}
	if err != nil {
		var own *domain.Error
		errors.As(err, &own)
		return x.warn(ctx, "normal", Warning{Code: own.Code, Detail: sentence(vendorError{own})})
	}
	if err := x.stage(ctx, "read", "started", 0, len(q.sources)); err != nil {
		return err
	}
	if len(p.Pages) > 0 {
		if err := q.opened(ctx, g.Opened); err != nil {
			return err
		}
	}
	pages := slices.Clone(named)
	for _, s := range q.sources {
		if len(pages) < mostGrounded && !slices.Contains(named, s) {
			pages = append(pages, s)
		}
	}
	if q.x.r.Fetcher != nil && len(pages) > 0 {
		if _, err := x.staged(ctx, "read", func(ctx context.Context) error { return q.fetch(ctx, pages) }); err != nil {
			return err
		}
	}
	for _, it := range q.items {
		it.looked.wanted, it.looked.unread = len(pages), unread(named)
		for _, s := range pages {
			if s.page != nil {
				it.looked.read++
			}
		}
	}
	for i, it := range q.items {
		at := slices.IndexFunc(list, func(g groundedFinding) bool { return it.names.same(g.RiskItem) })
		if at < 0 && len(list) == len(q.items) && list[i].RiskItem == "" {
			at = i
		}
		if at < 0 {
			it.looked.broken = true
			if err := x.warn(ctx, "missing/"+it.id, Warning{Code: "item_missing", Detail: domain.Sentence("en", "The model's answer leaves this risk item out."), About: it.Name}); err != nil {
				return err
			}
			continue
		}
		q.ground(it, list[at])
	}
	return nil
}

// openings says what a reader is told of a page that a model was to open.
var openings = map[OpenState]struct{ code, told string }{
	"":          {"page_skipped", "The model answered without opening this page; only this product read it."},
	PageFailed:  {"page_not_opened", "The model could not open this page; only this product read it, if it could be read."},
	PagePaywall: {"page_behind_paywall", "The page stands behind a paywall, so the model did not read it."},
	PageUnsafe:  {"page_unsafe", "The model's vendor holds this page for unsafe to open. Only its text was read here."},
}

// opened tells what became of the pages that the model was to open, and of what it
// opened beside them. That it opened a page makes the page no source: only the
// request and the vendor's search do, and only our own reading gives it a text.
func (q *inquiry) opened(ctx context.Context, list []Opening) error {
	became := map[string]OpenState{}
	for _, o := range list[:min(len(list), 4*mostNamed)] {
		key, _ := canonical(o.URL)
		if q.sourceAt[key] == nil { // a page may have led it there: its site is named, its address is not passed on
			told := domain.Sentence("en", "The model opened a page that nobody asked for and no search returned; it is no source.")
			if err := q.x.warn(ctx, "opened/"+stableID("", o.URL), Warning{"page_not_asked_for", told, clip(site(o.URL), 300)}); err != nil {
				return err
			}
		} else if became[key] != PageOpened { // of several attempts the one that went well
			became[key] = o.State
		}
	}
	for _, s := range q.sources {
		w, told := openings[became[s.key]]
		if !told || became[s.key] == "" && !slices.Contains(s.Engines, "request") {
			continue
		}
		if err := q.x.warn(ctx, "opened/"+s.ID, Warning{w.code, domain.Sentence("en", w.told), s.URL}); err != nil {
			return err
		}
	}
	return nil
}

// ground holds what a grounded answer says of one item to the pages.
func (q *inquiry) ground(it *item, g groundedFinding) {
	verdict := g.verdict()
	it.claimed = &Claimed{Type: cmp.Or(verdict, Unknown), Intermediaries: g.Intermediaries, Sources: []string{}}
	it.story = clip(g.Summary, 8000)
	it.looked.claimed = verdict != NoEvidence
	cite := func(address string) {
		if key, ok := canonical(address); ok {
			if s := q.sourceAt[key]; s != nil && !slices.Contains(it.claimed.Sources, s.URL) {
				it.claimed.Sources = append(it.claimed.Sources, s.URL)
			}
		}
	}
	for _, s := range g.Sources {
		cite(s)
	}
	ends := []*party{q.subject, it.party}
	for _, name := range g.Intermediaries {
		if p := q.meet(name, ""); p != nil && !slices.ContainsFunc(ends, func(e *party) bool { return e.ID == p.ID }) && len(ends) < 8 {
			ends = append(ends, p)
		}
	}
	for _, e := range g.Evidence {
		cite(e.URL)
		for _, s := range q.sources {
			if s.page == nil || !s.page.has(e.Quote) {
				continue
			}
			// The quote is in this page: which two of the ends does it tie?
			for i, from := range ends {
				for _, to := range ends[i+1:] {
					c := claim{from: from, to: to, schema: "UnknownLink", sourceID: s.ID, quote: e.Quote}
					if ev, ok := q.hold(c); ok && ev.Reason != "end_not_named" {
						q.edge(c).add(ev)
					}
				}
			}
		}
	}
}

func (q *inquiry) weighAll() {
	for _, e := range q.edges {
		q.weigh(e)
	}
}
