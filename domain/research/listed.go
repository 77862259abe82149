package research

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// findingRow is one organisation of a dataset search: the work list, and what
// was found.
type findingRow struct {
	store.Owned
	RunID   string `gorm:"primaryKey"`
	Seq     int64  `gorm:"primaryKey;autoIncrement:false"`
	EntryID string
	Entry   string
	Verdict string
	Finding string
	EndedAt *time.Time
}

func (findingRow) TableName() string { return "research_findings" }

// Checked counts the organisations of a dataset search by their verdict.
type Checked struct {
	Total    int64            `json:"total"`
	Done     int64            `json:"done"`
	Failed   int64            `json:"failed" doc:"organisations whose own check failed; resume checks them again"`
	Verdicts map[string]int64 `json:"verdicts"`
}

// dataset is the program of a dataset search.
func (x *execution) dataset(ctx context.Context) (ending, error) {
	var in DatasetRequest
	if err := json.Unmarshal([]byte(x.run.RequestJSON), &in); err != nil {
		return ending{}, err
	}
	x.sem = make(chan struct{}, max(in.Concurrency, 1))
	err := x.list(ctx, in)
	if err == nil {
		err = x.checkAll(ctx, in)
	}
	if err != nil && (errors.Is(err, errSuperseded) || ctx.Err() != nil && domain.CodeOf(context.Cause(ctx)) != "run_timeout") {
		return ending{}, err
	}
	ctx = context.WithoutCancel(ctx)
	checked, failed := x.checked(ctx)
	if failed != nil {
		return ending{}, failed
	}
	out := ending{result: &Result{Relations: []Relation{}, Edges: []Edge{}, Entities: []Entity{}, Sources: []Source{}, Searches: []SearchMade{}, NotDone: []string{}, Checked: &checked}}
	out.unitsUsed = checked.Done - checked.Failed
	if errors.Is(err, errBudget) {
		out.result.NotDone = append(out.result.NotDone, "budget: "+strconv.FormatInt(checked.Total-checked.Done, 10))
		err = nil
	}
	if checked.Failed > 0 {
		out.result.NotDone = append(out.result.NotDone, "failed: "+strconv.FormatInt(checked.Failed, 10))
	}
	if err == nil && checked.Failed > 0 && checked.Failed == checked.Total {
		err = x.whyNone(ctx)
	}
	out.partial = len(out.result.NotDone) > 0
	var failedToo error
	if out.result.Warnings, failedToo = x.warnings(ctx); failedToo != nil {
		return out, failedToo
	}
	now, failedToo := x.r.summary(ctx, x.run.ID)
	out.result.Sandbox = now.Sandbox
	return out, errors.Join(err, failedToo)
}

// list writes down the organisations as they are now: a dataset that changes
// while the run works does not change the run.
func (x *execution) list(ctx context.Context, in DatasetRequest) error {
	if x.r.List == nil {
		return domain.ErrNotFound()
	}
	if err := x.stage(ctx, "list", "started", 0, 0); err != nil {
		return err
	}
	type mark struct{ Listed int64 }
	_, err := do(ctx, x, step{key: "list", kind: "list", sent: in.DatasetID, timeout: x.r.Timeouts.Stage}, func(ctx context.Context, _ Call) (mark, Usage, error) {
		after, seq := "", int64(0)
		for {
			page, err := x.r.List(ctx, ListQuery{DatasetID: in.DatasetID, EntryIDs: in.EntryIDs, After: after, Limit: 500})
			if err != nil {
				return mark{}, Usage{}, err
			}
			rows := make([]findingRow, len(page))
			for i, e := range page {
				seq++
				rows[i] = findingRow{RunID: x.run.ID, Seq: seq, EntryID: e.EntryID, Entry: jsonText(e)}
				after = e.EntryID
			}
			if len(rows) > 0 {
				err = x.commit(ctx, nil, func(ctx context.Context) error {
					if err := x.r.st.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).CreateInBatches(&rows, 100).Error; err != nil {
						return err
					}
					_, err := x.r.st.Exec(ctx, "UPDATE research_runs SET total = @n WHERE tenant_id = @tenant AND id = @id", map[string]any{"id": x.run.ID, "n": seq})
					return err
				})
				if err != nil {
					return mark{}, Usage{}, err
				}
			}
			if len(page) < 500 || in.EntryIDs != nil {
				return mark{seq}, Usage{}, nil
			}
		}
	}, func(mark) []event { return nil })
	var v vendorError
	if errors.As(err, &v) && v.why.Kind == domain.NotFound {
		return domain.ErrNotFound()
	}
	return err
}

// checkAll works through the list, so many at a time. Memory holds those alone.
func (x *execution) checkAll(ctx context.Context, in DatasetRequest) error {
	if err := x.stage(ctx, "check", "started", 0, 0); err != nil {
		return err
	}
	workers := max(in.Concurrency, 1)
	work := make(chan findingRow)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var first error
	silent := 0 // organisations in a row for which nobody was there
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = err
		}
		stop(err)
	}
	for range workers {
		wait.Go(func() {
			for row := range work {
				away, err := x.checkOne(ctx, in, row)
				mu.Lock()
				if silent++; !away {
					silent = 0
				}
				tooMany := silent >= 20
				mu.Unlock()
				if err == nil && tooMany {
					err = domain.E(domain.Unavailable, "provider_unavailable", "The provider did not answer.")
				}
				if err != nil {
					fail(err)
				}
			}
		})
	}
	after := int64(0)
feed:
	for {
		var rows []findingRow
		err := x.r.st.Read(ctx, func(ctx context.Context) error {
			return x.r.st.For(ctx).Where("run_id = ? AND verdict = '' AND seq > ?", x.run.ID, after).Order("seq").Limit(100).Find(&rows).Error
		})
		if err != nil {
			fail(err)
			break
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			after = row.Seq
			select {
			case work <- row:
			case <-ctx.Done():
				break feed
			}
		}
	}
	close(work)
	wait.Wait()
	if first != nil {
		return first
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// checkOne checks one organisation and stores what was found under its own
// name. away says that nobody was there to ask.
func (x *execution) checkOne(ctx context.Context, in DatasetRequest, row findingRow) (away bool, err error) {
	var e Listed
	if err := json.Unmarshal([]byte(row.Entry), &e); err != nil {
		return false, err
	}
	r, err := x.tie(ctx, in, e)
	if alone(err) {
		r, err = x.tieBySearch(ctx, in, e)
	}
	var v vendorError
	switch {
	case errors.As(err, &v):
		if final(v) {
			return true, v
		}
		r = Relation{Type: Unknown, Error: &CheckFailure{v.why.Code, sentence(v)}}
		row.Verdict, away = verdictError, true
	case err != nil:
		return false, err
	default:
		row.Verdict = r.Type
	}
	r.Source, r.Target, r.EntryID = in.Institution, e.Name, e.EntryID // never the model's
	r.Intermediaries, r.Evidence, r.Edges = either0(r.Intermediaries), either0(r.Evidence), either0(r.Edges)
	row.Finding = jsonText(r)
	now := x.r.now()
	return away, x.commit(ctx, []event{{"result/" + e.EntryID + "/" + x.attempt(), "result", r}}, func(ctx context.Context) error {
		_, err := x.r.st.Exec(ctx, "UPDATE research_findings SET verdict = @verdict, finding = @finding, ended_at = @now WHERE tenant_id = @tenant AND run_id = @run AND seq = @seq",
			map[string]any{"run": x.run.ID, "seq": row.Seq, "verdict": row.Verdict, "finding": row.Finding, "now": now})
		if err != nil {
			return err
		}
		_, err = x.r.st.Exec(ctx, "UPDATE research_runs SET done = done + 1 WHERE tenant_id = @tenant AND id = @id", map[string]any{"id": x.run.ID})
		return err
	})
}

// tie asks for the ties of one organisation to the institution, and holds the
// quotes to the pages they are said to stand in.
func (x *execution) tie(ctx context.Context, in DatasetRequest, e Listed) (Relation, error) {
	if x.r.Profiler == nil {
		return Relation{}, notConfigured("profile")
	}
	q := &inquiry{x: x, sourceAt: map[string]*Source{}}
	q.salt, q.byID = x.run.Salt, map[string]*Source{}
	country := ""
	if len(e.Countries) > 0 {
		country = e.Countries[0]
	}
	q.subject = newParty("institution", "Organization", in.Institution, "")
	target := newParty("risk_item", "Organization", e.Name, country, e.Aliases...)
	q.parties = []*party{q.subject, target}
	data := listedData{Task: "listed", Institution: in.Institution, Organisation: promptItem{e.EntryID, e.Name, country, e.Aliases[:min(len(e.Aliases), 10)]}}
	got, a, err := askUntilRead[listedAnswer](ctx, q, "listed/"+e.EntryID, func(key string) (ProfileResponse, error) {
		text := question("listed", ownID(q.salt, "", "mark/"+key), data)
		return do(ctx, x, step{key: key, kind: "profile", sent: in.Institution + "; " + e.Name, timeout: x.r.Timeouts.Profile, cost: ProfileCall},
			func(ctx context.Context, call Call) (ProfileResponse, Usage, error) {
				got, err := x.r.Profiler.Profile(ctx, ProfileRequest{Call: call, Question: text, Schema: listedSchema, From: firstDay(in.FromDate), To: lastDay(in.ToDate)})
				return got, got.Usage, err
			}, func(ProfileResponse) []event { return nil })
	})
	if err != nil {
		return Relation{}, err
	}
	how := looked{searches: 1, answered: 1}
	for i, s := range got.Sources[:min(len(got.Sources), 20)] {
		q.take(SearchResult{URL: s.URL, Title: s.Title, Snippet: s.Excerpt, Rank: i + 1}, "profile", nil)
	}
	// The cited pages first, then the others: a few are enough to see.
	var pages []*Source
	add := func(address string) {
		if key, ok := canonical(address); ok && q.sourceAt[key] != nil && len(pages) < 5 {
			for _, p := range pages {
				if p.key == key {
					return
				}
			}
			pages = append(pages, q.sourceAt[key])
		}
	}
	for _, t := range a.Ties {
		add(t.URL)
	}
	for _, s := range got.Sources {
		add(s.URL)
	}
	if x.r.Fetcher != nil {
		for _, s := range pages {
			if err := x.read(ctx, s); err != nil {
				return Relation{}, err
			}
		}
	}
	markCopies(q.sources)
	how.wanted = len(pages)
	for _, s := range pages {
		if s.page != nil {
			how.read++
		}
	}
	for _, t := range a.Ties[:min(len(a.Ties), 30)] {
		key, ok := canonical(t.URL)
		if !ok || q.sourceAt[key] == nil {
			continue // an address that the service did not return
		}
		ends := []*party{q.subject, target}
		if p := q.meet(t.Intermediary, ""); t.Intermediary != "" && p != nil {
			ends = append(ends, p)
		}
		how.claimed = true
		for i, from := range ends {
			for _, to := range ends[i+1:] {
				c := claim{from: from, to: to, schema: "UnknownLink", sourceID: q.sourceAt[key].ID, quote: t.Quote}
				if ev, ok := q.hold(c); ok && (ev.Reason != "end_not_named") && from.ID != to.ID {
					q.edge(c).add(ev)
				}
			}
		}
	}
	q.weighAll()
	r := q.judge(target, how)
	r.Narrative = clip(a.Summary, 2000)
	return r, nil
}

// read fetches a page of one organisation, without an event for each: a list
// has thousands.
func (x *execution) read(ctx context.Context, s *Source) error {
	page, err := do(ctx, x, step{key: "fetch/" + stableID("", s.key), kind: "fetch", sent: s.URL, timeout: x.r.Timeouts.Fetch},
		func(ctx context.Context, call Call) (Page, Usage, error) {
			page, err := x.r.Fetcher.Fetch(ctx, FetchRequest{Call: call, URL: s.URL})
			return page, page.Usage, err
		}, func(Page) []event { return nil })
	var v vendorError
	if errors.As(err, &v) {
		s.Error = v.why.Code
		return nil
	}
	if err != nil {
		return err
	}
	defer x.r.turn()()
	s.take(page)
	return nil
}

// checked counts the findings.
func (x *execution) checked(ctx context.Context) (Checked, error) {
	out := Checked{Verdicts: map[string]int64{}}
	var rows []struct {
		Verdict string
		N       int64
	}
	err := x.r.st.Read(ctx, func(ctx context.Context) error {
		return x.r.st.SQL(ctx, "SELECT verdict, count(*) AS n FROM research_findings WHERE tenant_id = @tenant AND run_id = @run GROUP BY verdict", map[string]any{"run": x.run.ID}).Scan(&rows).Error
	})
	for _, r := range rows {
		out.Total += r.N
		switch r.Verdict {
		case "":
			continue
		case verdictError:
			out.Failed += r.N
		default:
			out.Verdicts[r.Verdict] = r.N
		}
		out.Done += r.N
	}
	return out, err
}

// whyNone is the error of a run in which every check failed: the first of them.
func (x *execution) whyNone(ctx context.Context) error {
	var row findingRow
	var r Relation
	err := x.r.st.Read(ctx, func(ctx context.Context) error {
		return x.r.st.For(ctx).Where("run_id = ? AND verdict = ?", x.run.ID, verdictError).Order("seq").Take(&row).Error
	})
	if err == nil {
		err = json.Unmarshal([]byte(row.Finding), &r)
	}
	if err != nil {
		return err
	}
	return vendorError{domain.E(domain.Unavailable, r.Error.Code, "%s", r.Error.Detail)}
}

// FindingsRequest pages through the findings of a dataset search.
type FindingsRequest struct {
	domain.PageRequest
	ID      string `path:"id" json:"-" maxLength:"64"`
	Verdict string `query:"verdict" json:"-" enum:"direct,indirect,significant_mention,unknown,no_evidence,error"`
}

// Findings gives what was found until now, in the order of the list.
func (r *Research) Findings(ctx context.Context, in FindingsRequest) (domain.Page[Relation], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[Relation]{}, err
	}
	from := int64(0)
	if after != "" {
		if from, err = strconv.ParseInt(after, 10, 64); err != nil {
			return domain.Page[Relation]{}, domain.InvalidField("cursor", "invalid_cursor", "The cursor is not one of ours.")
		}
	}
	var rows []findingRow
	err = r.st.Read(ctx, func(ctx context.Context) error {
		var run Run
		if err := r.st.For(ctx).Select("tenant_id", "id").Where("id = ?", in.ID).Take(&run).Error; err != nil {
			return err
		}
		q := r.st.For(ctx).Where("run_id = ? AND seq > ? AND verdict <> ''", in.ID, from).Order("seq").Limit(in.Size() + 1)
		if in.Verdict != "" {
			q = q.Where("verdict = ?", in.Verdict)
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return domain.Page[Relation]{}, err
	}
	page := domain.NewPage(rows, in.Size(), func(row findingRow) string { return strconv.FormatInt(row.Seq, 10) })
	out := domain.Page[Relation]{Data: make([]Relation, len(page.Data)), NextCursor: page.NextCursor}
	for i, row := range page.Data {
		if err := json.Unmarshal([]byte(row.Finding), &out.Data[i]); err != nil {
			return out, err
		}
	}
	return out, nil
}
