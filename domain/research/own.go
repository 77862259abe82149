package research

import (
	"context"
	"errors"
	"slices"

	"github.com/chainreactions/chainreactions/domain"
)

// Where no search service that reads pages by itself is configured, profiles
// and lists are done with what a house can host alone: a search engine, our own
// reading of the pages, and a model.

// alone reports that the profile service is the one thing that is missing.
func alone(err error) bool {
	var v vendorError
	return errors.As(err, &v) && v.why.Code == "provider_not_configured"
}

// tieBySearch looks for the ties of one organisation of a list.
func (x *execution) tieBySearch(ctx context.Context, in DatasetRequest, e Listed) (Relation, error) {
	q := &inquiry{x: x, sourceAt: map[string]*Source{}, request: RelationsRequest{Institution: in.Institution, FromDate: in.FromDate, ToDate: in.ToDate}}
	q.salt, q.byID = x.run.Salt, map[string]*Source{}
	country := ""
	if len(e.Countries) > 0 {
		country = e.Countries[0]
	}
	q.subject = newParty("institution", "Organization", in.Institution, "")
	it := &item{party: newParty("risk_item", "Organization", e.Name, country, e.Aliases...), id: ownID(q.salt, "i", e.EntryID), country: country}
	q.items, q.parties = []*item{it}, []*party{q.subject, it.party}
	q.languages = q.tongues()
	q.queriesOf(it, strategyAnswer{})
	it.queries = it.queries[:min(len(it.queries), 4)]
	if x.r.Searcher == nil {
		return Relation{}, notConfigured("search")
	}
	if err := q.search(ctx); err != nil {
		return Relation{}, err
	}
	if it.looked.answered == 0 {
		if len(q.searches) == 0 {
			return Relation{}, notConfigured("search")
		}
		return Relation{}, vendorError{domain.E(domain.Unavailable, q.searches[0].Error, "The provider did not answer.")}
	}
	if err := q.read(ctx); err != nil {
		return Relation{}, err
	}
	a, err := q.consider(ctx, it, "1")
	if err != nil {
		return Relation{}, err
	}
	if a != nil {
		q.apply(it, a)
	}
	q.weighAll()
	r := q.judge(it.party, it.looked)
	r.Narrative = it.story
	return r, nil
}

type readData struct {
	Task         string         `json:"task"` // "profile_read" or "signal_read"
	Organisation promptItem     `json:"organisation"`
	Topic        string         `json:"topic,omitempty"`
	Sources      []promptSource `json:"sources"`
}

// gatherPages searches for the organisation, with words beside its name, and
// reads the best pages that name it.
func (q *inquiry) gatherPages(ctx context.Context, in EntityRequest, words ...string) ([]*Source, error) {
	if q.x.r.Searcher == nil {
		return nil, notConfigured("search")
	}
	var last error
	answered := 0
	for _, w := range words {
		text := `"` + in.Name + `"`
		if w != "" {
			text += " " + w
		}
		engines := q.x.r.Searcher.Engines(q.country, "en")
		if len(engines) == 0 {
			return nil, notConfigured("search")
		}
		var v vendorError
		err := q.ask(ctx, engines[0], query{text, "en", q.country}, nil)
		if err != nil && !errors.As(err, &v) {
			return nil, err
		}
		if last = err; err == nil {
			answered++
		}
	}
	if answered == 0 {
		return nil, last
	}
	q.order()
	topic := newNames(words...) // what shows the topic beside the name comes first
	var pages, others []*Source
	for _, s := range q.sources {
		w := newWindow(s.Title + "\n" + s.Snippet)
		switch {
		case s.page != nil, s.Error != "", banned(s.URL, in.ExcludeDomains), len(in.IncludeDomains) > 0 && !banned(s.URL, in.IncludeDomains), !w.names(q.subject.names, nil):
		case w.names(topic, nil):
			pages = append(pages, s)
		default:
			others = append(others, s)
		}
	}
	pages = append(pages, others...)
	pages = pages[:min(len(pages), 8)]
	return pages, q.fetch(ctx, pages)
}

// passagesOf prepares pages for a model.
func (q *inquiry) passagesOf(pages []*Source) (out []promptSource) {
	size := 0
	for _, s := range pages {
		if s.page == nil || s.SameAs != "" || size >= promptBytes {
			continue
		}
		parts := s.page.passages(q.subject.names)
		for _, p := range parts {
			size += len(p)
		}
		if len(parts) > 0 {
			out = append(out, promptSource{s.ID, s.Title, s.Language, s.PublishedAt, parts})
		}
	}
	return out
}

// profileBySearch gives the fields of a profile, with the addresses of their
// sources.
func (q *inquiry) profileBySearch(ctx context.Context, in EntityRequest) (map[string][]profileValue, error) {
	pages, err := q.gatherPages(ctx, in, "", "about", in.Location)
	if err != nil {
		return nil, err
	}
	data := readData{Task: "profile_read", Organisation: promptItem{"organisation", in.Name, q.country, in.Aliases}, Sources: q.passagesOf(pages)}
	if len(data.Sources) == 0 {
		return map[string][]profileValue{}, nil
	}
	fields, err := generate[map[string][]profileValue](ctx, q.x, "profile_read/"+stableID("", jsonText(data.Sources)), "profile_read", data, profileSchema, planTokens)
	for _, list := range fields {
		for i := range list {
			list[i].Sources = q.addresses(list[i].Sources)
		}
	}
	return fields, err
}

// addresses turns source ids into addresses; what is no id of the run's goes.
func (q *inquiry) addresses(ids []string) (out []string) {
	for _, id := range ids {
		if s := q.byID[id]; s != nil {
			out = append(out, s.URL)
		}
	}
	return out
}

// signalBySearch looks for one keyword.
func (q *inquiry) signalBySearch(ctx context.Context, in EntityRequest, word string) (*signalAnswer, []ProfileSource, error) {
	pages, err := q.gatherPages(ctx, in, word)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range q.sources { // a page that was read already may say it too
		if s.page != nil && !slices.Contains(pages, s) {
			pages = append(pages, s)
		}
	}
	data := readData{Task: "signal_read", Organisation: promptItem{"organisation", in.Name, q.country, in.Aliases}, Topic: word, Sources: q.passagesOf(pages)}
	if len(data.Sources) == 0 {
		return &signalAnswer{}, nil, nil
	}
	a, err := generate[signalAnswer](ctx, q.x, "signal_read/"+stableID("", word+jsonText(data.Sources)), "signal_read", data, signalSchema, planTokens)
	if err != nil {
		return nil, nil, err
	}
	var sources []ProfileSource
	for i := range a.Evidence {
		if s := q.byID[a.Evidence[i].URL]; s != nil {
			a.Evidence[i].URL = s.URL
			sources = append(sources, ProfileSource{URL: s.URL, Title: s.Title})
		}
	}
	return &a, sources, nil
}
