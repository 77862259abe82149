package research

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/chainreactions/chainreactions/domain"
)

// Profile is what public sources say of an organisation.
type Profile struct {
	Fields       map[string][]ProfileFact `json:"fields" doc:"name, english_name, description, headquarters, sectors, previous_names, country, website, …"`
	Completeness string                   `json:"completeness" enum:"minimal,basic,good,complete,excellent"`
	Missing      []string                 `json:"missing" nullable:"false" doc:"fields that count and of which no source says anything"`
}

// ProfileFact is one value and the sources that say it.
type ProfileFact struct {
	Value     string   `json:"value"`
	SourceIDs []string `json:"source_ids" nullable:"false"`
	Confirmed bool     `json:"confirmed" doc:"the value stands in the text of a page that was read, beside the organisation's name"`
}

// Signal is what was found of the organisation on one topic.
type Signal struct {
	Keyword    string     `json:"keyword"`
	Severity   string     `json:"severity" enum:"none,low,medium,high,unknown"`
	Confidence float64    `json:"confidence"`
	Sources    int        `json:"independent_sources" doc:"that bear it out"`
	Official   int        `json:"authoritative_sources" doc:"official pages, registers, universities and established news among them"`
	Evidence   []Evidence `json:"evidence" nullable:"false"`
	Narrative  string     `json:"narrative,omitempty" doc:"the service's words; nobody has verified them"`
	Reason     string     `json:"reason,omitempty"`
}

// entity is the program of an entity search.
func (x *execution) entity(ctx context.Context) (ending, error) {
	q := &inquiry{x: x, sourceAt: map[string]*Source{}}
	q.salt, q.byID = x.run.Salt, map[string]*Source{}
	var in EntityRequest
	if err := json.Unmarshal([]byte(x.run.RequestJSON), &in); err != nil {
		return ending{}, err
	}
	q.country = place(in.Location)
	q.subject = newParty("subject", "Organization", in.Name, q.country, in.Aliases...)
	q.parties = []*party{q.subject}
	q.request.FromDate, q.request.ToDate = in.FromDate, in.ToDate
	out := ending{unitsUsed: x.run.Units, result: &Result{Relations: []Relation{}}}

	err := q.profile(ctx, in, out.result)
	if errors.Is(err, errBudget) {
		q.undone("budget", "profile")
		err = nil
	}
	if err == nil {
		err = q.signals(ctx, in, out.result)
	}
	if err != nil && (errors.Is(err, errSuperseded) || ctx.Err() != nil && domain.CodeOf(context.Cause(ctx)) != "run_timeout") {
		return ending{}, err
	}
	if err != nil {
		out.unitsUsed = 0
	}
	failed := x.gather(context.WithoutCancel(ctx), &q.findings, q.searches, out.result)
	out.result.NotDone = append(out.result.NotDone, q.notDone...)
	out.partial = len(q.notDone) > 0
	if err == nil {
		err = failed
	}
	return out, err
}

// lookUp asks the search service one thing and takes in its sources.
func (q *inquiry) lookUp(ctx context.Context, key, name string, data profileData, schema json.RawMessage, in EntityRequest) (ProfileResponse, error) {
	x := q.x
	if x.r.Profiler == nil {
		return ProfileResponse{}, notConfigured("profile")
	}
	text := question(name, ownID(q.salt, "", "mark/"+key), data)
	cost := ProfileCall
	if in.Depth == "deep" {
		cost = DeepProfile
	}
	begun := event{"query/" + key, "query", QueryEvent{Engine: "profile", Query: strings.TrimSpace(data.Organisation.Name + " " + data.Topic)}}
	out, err := do(ctx, x, step{key: key, kind: "profile", sent: data.Organisation.Name + " " + data.Topic, timeout: x.r.Timeouts.Profile, cost: cost, event: &begun},
		func(ctx context.Context, call Call) (ProfileResponse, Usage, error) {
			got, err := x.r.Profiler.Profile(ctx, ProfileRequest{Call: call, Question: text, Deep: in.Depth == "deep", Schema: schema,
				IncludeDomains: in.IncludeDomains, ExcludeDomains: in.ExcludeDomains, From: firstDay(in.FromDate), To: lastDay(in.ToDate)})
			return got, got.Usage, err
		}, func(r ProfileResponse) []event {
			n := len(r.Sources)
			return []event{{"query/" + key + "/done", "query", QueryEvent{Engine: "profile", Query: strings.TrimSpace(data.Organisation.Name + " " + data.Topic), Results: &n}}}
		})
	x.mu.Lock()
	defer x.mu.Unlock()
	made := SearchMade{Engine: cmp.Or(out.Usage.Provider, "profile"), Query: strings.TrimSpace(data.Organisation.Name + " " + data.Topic), About: []string{}, Results: len(out.Sources)}
	var v vendorError
	if errors.As(err, &v) {
		made.Error = v.why.Code
	} else if err != nil {
		return out, err
	}
	q.searches = append(q.searches, made)
	for i, s := range out.Sources {
		if banned(s.URL, in.ExcludeDomains) {
			continue
		}
		q.take(SearchResult{URL: s.URL, Title: s.Title, Snippet: s.Excerpt, Rank: i + 1}, made.Engine, nil)
	}
	q.order()
	return out, err
}

// banned reports whether an address is on one of the domains.
func banned(address string, domains []string) bool {
	key, ok := canonical(address)
	if !ok {
		return true
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(key, "//"), "/")
	host, _, _ = strings.Cut(host, ":")
	return slices.ContainsFunc(domains, func(d string) bool {
		d = strings.ToLower(strings.TrimPrefix(d, "www."))
		return host == d || strings.HasSuffix(host, "."+d)
	})
}

// profile asks for the profile and keeps of every field the values that one of
// the returned sources is named for.
func (q *inquiry) profile(ctx context.Context, in EntityRequest, out *Result) error {
	if err := q.x.stage(ctx, "profile", "started", 0, 0); err != nil {
		return err
	}
	data := profileData{Task: "profile", Organisation: promptItem{"organisation", in.Name, q.country, in.Aliases}, Location: in.Location}
	got, fields, err := askUntilRead[map[string][]profileValue](ctx, q, "profile", func(key string) (ProfileResponse, error) {
		return q.lookUp(ctx, key, "profile", data, profileSchema, in)
	})
	if alone(err) {
		fields, err = q.profileBySearch(ctx, in)
	}
	if err != nil {
		return err
	}
	if err := q.readSources(ctx, got.Sources, 8); err != nil {
		return err
	}
	p := &Profile{Fields: map[string][]ProfileFact{}, Missing: []string{}}
	points := 0
	for _, f := range profileFields {
		facts := []ProfileFact{}
		for _, v := range fields[f.Name][:min(len(fields[f.Name]), 30)] {
			if fact, ok := q.fact(v); ok {
				facts = append(facts, fact)
			}
		}
		if len(facts) > 0 {
			p.Fields[f.Name] = facts
			points += f.Points
		} else if f.Points > 0 {
			p.Missing = append(p.Missing, f.Name)
		}
	}
	p.Completeness = map[int]string{2: "basic", 3: "good", 4: "complete", 5: "excellent", 6: "excellent"}[points]
	p.Completeness = cmp.Or(p.Completeness, "minimal")
	out.Profile = p
	return q.x.commit(ctx, []event{{"result/profile", "result", p}}, nil)
}

// askUntilRead asks once more where the answer cannot be read.
func askUntilRead[T any](ctx context.Context, q *inquiry, key string, ask func(key string) (ProfileResponse, error)) (got ProfileResponse, out T, err error) {
	for try := 1; try <= 2; try++ {
		step := key + "/try" + strconv.Itoa(try)
		if got, err = ask(step); err == nil {
			if err = json.Unmarshal(got.Data, &out); err == nil && string(got.Data) != "null" {
				return got, out, nil
			}
			err = q.x.spoil(ctx, step, domain.E(domain.Unavailable, "provider_malformed", "The search service's answer could not be read.").Because(err))
		}
		if !useless(err) {
			return got, out, err
		}
	}
	return got, out, err
}

// fact keeps a value if a source that was returned is named for it.
func (q *inquiry) fact(v profileValue) (ProfileFact, bool) {
	f := ProfileFact{Value: clip(strings.TrimSpace(v.Value), 2000), SourceIDs: []string{}}
	if f.Value == "" {
		return f, false
	}
	for _, address := range v.Sources {
		key, ok := canonical(address)
		if !ok || q.sourceAt[key] == nil {
			continue
		}
		s := q.sourceAt[key]
		if !slices.Contains(f.SourceIDs, s.ID) {
			f.SourceIDs = append(f.SourceIDs, s.ID)
		}
		if s.page != nil && strings.Contains(s.page.folded, newText(f.Value).folded) && len(s.page.at(q.subject.names)) > 0 {
			f.Confirmed = true
		}
	}
	return f, len(f.SourceIDs) > 0
}

// readSources fetches the pages behind a service's sources.
func (q *inquiry) readSources(ctx context.Context, list []ProfileSource, most int) error {
	if q.x.r.Fetcher == nil {
		return nil
	}
	var pages []*Source
	for _, s := range list {
		key, ok := canonical(s.URL)
		if ok && q.sourceAt[key] != nil && !slices.Contains(pages, q.sourceAt[key]) && len(pages) < most {
			pages = append(pages, q.sourceAt[key])
		}
	}
	return q.fetch(ctx, pages)
}

// signals looks for each keyword, all at once.
func (q *inquiry) signals(ctx context.Context, in EntityRequest, out *Result) error {
	if len(in.RiskKeywords) == 0 {
		return nil
	}
	if err := q.x.stage(ctx, "signals", "started", 0, len(in.RiskKeywords)); err != nil {
		return err
	}
	own := q.x.r.Profiler == nil
	answers := make([]*signalAnswer, len(in.RiskKeywords))
	sources := make([][]ProfileSource, len(in.RiskKeywords))
	reasons := make([]string, len(in.RiskKeywords))
	err := each(ctx, in.RiskKeywords, func(ctx context.Context, i int, word string) error {
		data := profileData{Task: "signal", Organisation: promptItem{"organisation", in.Name, q.country, in.Aliases}, Location: in.Location, Topic: word}
		got, a, err := askUntilRead[signalAnswer](ctx, q, "signal/"+stableID("", word), func(key string) (ProfileResponse, error) {
			return q.lookUp(ctx, key, "signal", data, signalSchema, in)
		})
		var v vendorError
		switch {
		case alone(err):
			q.x.mu.Lock()
			own = true
			q.x.mu.Unlock()
			return nil
		case errors.As(err, &v):
			reasons[i] = v.why.Code
			return q.x.warn(ctx, "signal/"+stableID("", word), Warning{Code: v.why.Code, Detail: sentence(v), About: word})
		case errors.Is(err, errBudget):
			reasons[i] = "budget"
			return nil
		case err != nil:
			return err
		}
		answers[i], sources[i] = &a, got.Sources
		return nil
	})
	if err != nil {
		return err
	}
	if own { // one after the other: they share the pages
		for i, word := range in.RiskKeywords {
			var v vendorError
			if answers[i], sources[i], err = q.signalBySearch(ctx, in, word); errors.As(err, &v) {
				reasons[i] = v.why.Code
				err = q.x.warn(ctx, "signal/"+stableID("", word), Warning{Code: v.why.Code, Detail: sentence(v), About: word})
			} else if errors.Is(err, errBudget) {
				reasons[i], err = "budget", nil
			}
			if err != nil {
				return err
			}
		}
	}
	for _, list := range sources {
		if err := q.readSources(ctx, list, 5); err != nil {
			return err
		}
	}
	var events []event
	for i, word := range in.RiskKeywords {
		s := Signal{Keyword: word, Severity: "unknown", Evidence: []Evidence{}, Reason: reasons[i]}
		if answers[i] != nil {
			s = q.signal(word, answers[i], sources[i])
		} else {
			q.undone(reasons[i], "signal "+word)
		}
		out.Signals = append(out.Signals, s)
		events = append(events, event{"result/signal/" + stableID("", word) + "/" + q.x.attempt(), "result", s})
	}
	return q.x.commit(ctx, events, nil)
}

var authoritative = map[string]bool{"official": true, "register": true, "academic": true, "news": true}

// signal computes the severity from who bears it out and how many agree. Where
// the keyword itself stands neither in the quote nor beside it, that it is about
// the topic is the service's word: it counts for half, and nobody's authority
// stands behind it.
func (q *inquiry) signal(word string, a *signalAnswer, sources []ProfileSource) Signal {
	s := Signal{Keyword: word, Evidence: []Evidence{}, Narrative: clip(a.Summary, 4000)}
	mine := map[string]bool{}
	for _, src := range sources {
		if key, ok := canonical(src.URL); ok {
			mine[key] = true
		}
	}
	worth, official, plain := map[string]float64{}, map[string]bool{}, map[string]bool{}
	unread := 0
	for _, e := range a.Evidence[:min(len(a.Evidence), 50)] {
		key, ok := canonical(e.URL)
		src := q.sourceAt[key]
		if !ok || src == nil || !mine[key] {
			continue // an address that the service did not return
		}
		ev := src.evidence("claim")
		ev.Quote = strings.TrimSpace(e.Quote)
		if src.page == nil || len(src.page.at(q.subject.names)) == 0 || src.cut && !src.page.has(e.Quote) {
			// Not read, not the page that the service read, or not all of it.
			unread++
			if newText(src.Title + "\n" + src.Snippet).has(e.Quote) {
				ev.Reason = "excerpt_only"
				s.Evidence = append(s.Evidence, ev)
			}
			continue
		}
		said := true
		ev.Verified, ev.Hearsay, ev.Reason = src.page.states(e.Quote, q.subject.names, newNames(strings.Fields(word)...).or(word))
		if ev.Reason == "end_not_named" {
			said = false
			ev.Verified, ev.Hearsay, ev.Reason = src.page.states(e.Quote, q.subject.names, q.subject.names)
		}
		if ev.Reason == "not_found" {
			continue
		}
		s.Evidence = append(s.Evidence, ev)
		if !ev.Verified {
			continue
		}
		first := src
		if src.SameAs != "" {
			first = q.byID[src.SameAs]
		}
		w := first.Credibility
		if said {
			plain[site(first.URL)] = true
		} else {
			w /= 2
		}
		if ev.Hearsay {
			w *= 0.4
		} else if said && authoritative[first.Type] {
			official[site(first.URL)] = true
		}
		worth[site(first.URL)] = max(worth[site(first.URL)], w)
	}
	s.Sources, s.Official = len(worth), len(official)
	doubt := 1.0
	for _, k := range slices.Sorted(keysOf(worth)) {
		doubt *= 1 - worth[k]
	}
	s.Confidence = round(min(1-doubt, 0.99))
	switch {
	case s.Official >= 2:
		s.Severity = "high"
	case s.Official == 1 || len(plain) >= 3:
		s.Severity = "medium"
	case s.Sources > 0:
		s.Severity = "low"
	case unread > 0:
		s.Severity, s.Reason = "unknown", "unverified"
	default:
		s.Severity = "none"
	}
	slices.SortStableFunc(s.Evidence, func(a, b Evidence) int {
		return cmp.Or(cmp.Compare(b.Credibility, a.Credibility), cmp.Compare(a.URL, b.URL), cmp.Compare(a.Quote, b.Quote))
	})
	return s
}

// or adds the whole keyword to its words; one of them is enough to name it.
func (n names) or(whole string) names {
	stop := set("of and the for in to a an with on by")
	n.list = slices.DeleteFunc(n.list, func(s spelling) bool {
		return stop[s.squeezed] || len([]rune(s.squeezed)) < 4 && languageOf(s.squeezed) == ""
	})
	n.list = append(n.list, newNames(whole).list...)
	return n
}
