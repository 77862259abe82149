package dataset

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/match"
	"github.com/chainreactions/chainreactions/domain/sheet"
)

// demo is the sample list in memory, from the first time that somebody tries it.
type demo struct {
	once sync.Once
	list *loaded
	err  error
}

// DemoRequest tries a name on the sample list.
type DemoRequest struct {
	Name string `json:"name" minLength:"1" maxLength:"200"`
}

// MatchDemo matches a name against the sample list with the default settings,
// for visitors: no tenant's list is read and nothing is kept.
func (d *Datasets) MatchDemo(ctx context.Context, in DemoRequest) (MatchResponse, error) {
	start := d.Now()
	q := Query{Name: in.Name, Aliases: []string{}}
	if err := q.check("query"); err != nil {
		return MatchResponse{}, err
	}
	d.demo.once.Do(func() { d.demo.list, d.demo.err = readSample(d.Sample) })
	if d.demo.err != nil {
		return MatchResponse{}, d.demo.err
	}
	m := &matcher{d: d, lists: []*loaded{d.demo.list}, settings: d.byDefault(), limit: 3, explain: true}
	found, err := m.search(ctx, q)
	return MatchResponse{Query: q, Matches: found, TookMS: float64(d.Now().Sub(start).Microseconds()) / 1000}, err
}

func readSample(file []byte) (*loaded, error) {
	rows, err := sheet.Open(bytes.NewReader(file), int64(len(file)), sheet.Options{Filename: "watchlist.csv"})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	l := &loaded{versioned: versioned{ID: domain.NewID("ds")}, entries: map[[16]byte]MatchedEntry{}}
	b := match.NewBuilder()
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		r := row.Record
		id := domain.NewID("ent")
		key, _ := domain.ParseID("ent", id)
		e := MatchedEntry{ID: id, DatasetID: l.ID, Name: r.Name, Aliases: r.Aliases, Countries: []string{}, ExternalID: r.ExternalID}
		for _, name := range r.Countries {
			if code, ok := country(name); ok {
				e.Countries = append(e.Countries, code)
			}
		}
		b.Add(match.Entry{Key: key, Name: e.Name, Aliases: e.Aliases, Countries: e.Countries})
		l.entries[key] = e
	}
	l.index = b.Build()
	return l, nil
}
