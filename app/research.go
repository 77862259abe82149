package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/domain/research"
)

// openResearch makes the research runs and says who works them.
func (p *program) openResearch(log *slog.Logger) {
	p.research = research.New(research.Config{
		Store: p.store, Audit: p.audit, Queue: p.queue, Bell: p.cluster, Logger: log,
		Model: p.vendors, Searcher: p.vendors, Profiler: p.vendors, Fetcher: p.vendors, Most: p.vendors.Most,
		Match: p.matchNames, List: p.listEntries, Rows: func(ctx context.Context, id string) (int64, error) {
			set, err := p.datasets.Get(ctx, dataset.IDRequest{ID: id})
			return set.Rows, err
		},
		Reserve: p.meter.Reserve, GiveBack: p.meter.GiveBack,
	})
	jobs.HandleIn(p.queue, "research", p.config.ResearchWorkers, p.research.Work)
}

// matchNames looks for names in all of the tenant's datasets.
func (p *program) matchNames(ctx context.Context, names []string) ([][]research.Listed, error) {
	out := make([][]research.Listed, len(names))
	for from := 0; from < len(names); from += 100 {
		to := min(len(names), from+100)
		var ask []json.RawMessage
		for _, name := range names[from:to] {
			body, err := json.Marshal(dataset.Query{Name: name, Aliases: []string{}})
			if err != nil {
				return nil, err
			}
			ask = append(ask, body)
		}
		answer, err := p.datasets.MatchBatch(ctx, dataset.BatchRequest{Queries: ask, MatchOptions: dataset.MatchOptions{Limit: 5}})
		if err != nil {
			return nil, err
		}
		for i, item := range answer.Results {
			if item.MatchResponse == nil {
				continue
			}
			for _, m := range item.Matches {
				out[from+i] = append(out[from+i], research.Listed{EntryID: m.Entry.ID, DatasetID: m.Entry.DatasetID, Name: m.Entry.Name,
					Aliases: m.Entry.Aliases, Countries: m.Entry.Countries, Score: m.Score, MatchType: string(m.MatchType)})
			}
		}
	}
	return out, nil
}

// listEntries reads a dataset in its own order, or the entries that are named.
func (p *program) listEntries(ctx context.Context, q research.ListQuery) (out []research.Listed, err error) {
	listed := func(e dataset.Entry) research.Listed {
		return research.Listed{EntryID: e.ID, DatasetID: e.DatasetID, Name: e.Name, Aliases: e.Aliases, Countries: e.Countries}
	}
	if _, err := p.datasets.Get(ctx, dataset.IDRequest{ID: q.DatasetID}); err != nil {
		return nil, err
	}
	for _, id := range q.EntryIDs {
		e, err := p.datasets.Entry(ctx, dataset.IDRequest{ID: id})
		if err == nil && e.DatasetID != q.DatasetID {
			err = domain.ErrNotFound()
		}
		if err != nil {
			return nil, err
		}
		out = append(out, listed(e))
	}
	if q.EntryIDs != nil {
		return out, nil
	}
	in := dataset.EntriesRequest{DatasetID: q.DatasetID}
	in.Limit = 200
	if q.After != "" {
		in.Cursor = cursorAfter(q.After)
	}
	for len(out) < q.Limit {
		page, err := p.datasets.Entries(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Data {
			if len(out) < q.Limit {
				out = append(out, listed(e))
			}
		}
		if page.NextCursor == nil {
			break
		}
		in.Cursor = *page.NextCursor
	}
	return out, nil
}

// cursorAfter is the cursor of a page that ends with the key.
func cursorAfter(key string) string {
	return *domain.NewPage([]string{key, ""}, 1, func(s string) string { return s }).NextCursor
}

// runEvents are what a run's story is told in.
var runEvents = slices.Concat(api.Sends[research.StageEvent]("stage"), api.Sends[research.QueryEvent]("query"), api.Sends[research.SourceEvent]("source"),
	api.Sends[research.Relation]("relation", "result"), api.Sends[research.Profile]("result"), api.Sends[research.Signal]("result"), api.Sends[research.HeldEvent]("result"),
	api.Sends[research.UsageEvent]("usage"), api.Sends[research.Warning]("warning"), api.Sends[research.EndEvent](research.Succeeded, research.Failed, research.Cancelled))

func (p *program) watchRun(ctx context.Context, in research.EventsRequest, send api.Sink) error {
	return p.research.Watch(ctx, in, func(e research.Event) error { return send(e.ID, e.Name, e.Data) })
}

// sweepRuns looks for runs whose worker has died, until ctx ends.
func (p *program) sweepRuns(ctx context.Context) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		if err := p.research.Sweep(ctx); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			p.log.Warn("runs without a worker were not looked for", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// runFile gives the media type and the name of a run's export.
func runFile(format string) (media, filename string) {
	switch format {
	case "csv":
		return "text/csv; charset=utf-8", "run.csv"
	case "graphml":
		return "application/xml", "run.graphml"
	case "ftm":
		return "application/jsonl", "run.ftm.jsonl"
	case "stix":
		return "application/stix+json;version=2.1", "run.stix.json"
	case "pdf":
		return "application/pdf", "run.pdf"
	}
	return "application/json", "run.json"
}
