package match_test

import (
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/chainreactions/chainreactions/domain/match"
)

func small() *match.Index {
	b := match.NewBuilder()
	for i, e := range []match.Entry{
		{Name: "Academy of Military Science", Aliases: []string{"AMS"}, Countries: []string{"CN"}},
		{Name: "University of Science and Technology of China", Countries: []string{"CN"}},
		{Name: "Moscow Aviation Institute (MAI)", Aliases: []string{"Московский авиационный институт"}, Countries: []string{"RU"}},
		{Name: "中国工程物理研究院"}, {Name: "北京理工大学"}, {Name: "Siemens AG"}, {Name: "Delta Co., Ltd."},
	} {
		e.Key = key(i)
		b.Add(e)
	}
	return b.Build()
}

// No list of words hides an entity, a name in another script is itself, and
// each way of agreeing has its type.
func TestMatchTypes(t *testing.T) {
	ix := small()
	for _, c := range []struct {
		query string
		entry int // -1: none
		kind  match.Type
	}{
		{"Academy of Military Science", 0, match.Exact}, {"ACADEMY OF MILITARY SCIENCE", 0, match.Exact},
		{"University of Science & Technology of China", 1, match.Exact}, {"Univ. Sci. Tech. China", 1, match.Exact},
		{"MAI", 2, match.CoreAcronym}, {"Moscow Aviation Institute", 2, match.CoreMatch}, {"Moscow Aviaton Institute", 2, match.Fuzzy},
		{"Moskovskiy aviatsionnyy institut", 2, match.Alias},
		{"中国工程物理研究院", 3, match.Exact}, {"北京理工大学", 4, match.Exact}, {"Delta", 6, match.CoreMatch}, {"SiemensAG", 5, match.WordMatch},
		{"Institute", -1, ""}, {"university", -1, ""}, {"上海大学", -1, ""}, {"", -1, ""}, {"...", -1, ""},
	} {
		got := ix.Search(match.Query{Name: c.query}, match.Options{Limit: 3, Explain: true})
		switch {
		case c.entry < 0 && len(got) > 0:
			t.Errorf("%q is taken for %q (%.2f)", c.query, got[0].Key, got[0].Score)
		case c.entry >= 0 && (len(got) == 0 || got[0].Key != key(c.entry)):
			t.Errorf("%q: %+v", c.query, got)
		case c.entry >= 0 && got[0].Type != c.kind:
			t.Errorf("%q: type %s, want %s (%.2f)", c.query, got[0].Type, c.kind, got[0].Score)
		}
		for _, m := range got {
			if m.Score < 0 || m.Score > 1 || m.Confidence < 0 || m.Confidence > m.Score || m.Explanation == nil {
				t.Errorf("%q: %+v", c.query, m)
			}
		}
	}
}

// A country that is known weighs; one that is unknown says nothing.
func TestGeography(t *testing.T) {
	ix := small()
	score := func(country string) float64 {
		got := ix.Search(match.Query{Name: "Moscow Aviaton Institute", Country: country}, match.Options{Limit: 1, Threshold: 0.5})
		return got[0].Score
	}
	if !(score("RU") > score("") && score("") > score("FR")) {
		t.Errorf("same %.3f unknown %.3f other %.3f", score("RU"), score(""), score("FR"))
	}
}

// The index finds what scoring every name finds, whoever else is searching.
func TestSearchEqualsBruteForce(t *testing.T) {
	b := match.NewBuilder()
	for i := range 600 {
		b.Add(match.Entry{Key: key(i), Name: fmt.Sprintf("%s Institute of %s %d", []string{"Northern", "Delta", "Harbin", "Zagros"}[i%4], []string{"Optics", "Acoustics", "Metallurgy"}[i%3], i/12)})
	}
	ix := b.Build()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := worker; i < 40; i += 4 {
				q := match.Query{Name: fmt.Sprintf("Harbin Instittue of Optics %d", i)}
				o := match.Options{Limit: 1, Explain: true}
				if a, b := ix.Search(q, o), ix.BruteForce(q, o); !reflect.DeepEqual(a, b) {
					t.Errorf("%s:\n%+v\n%+v", q.Name, a, b)
				}
			}
		}()
	}
	wg.Wait()
}

// No bytes make a search panic.
func FuzzSearch(f *testing.F) {
	ix := small()
	f.Add("Univ. of\x00 (((")
	f.Fuzz(func(t *testing.T, name string) {
		for _, m := range ix.Search(match.Query{Name: name, Aliases: []string{name}}, match.Options{Limit: 5, Explain: true}) {
			if m.Score < 0 || m.Score > 1 {
				t.Fatal(m)
			}
		}
	})
}

// On a generated list the first ten are those of the oracle, for at least 999
// of a thousand queries.
func TestTopTenEqualsBruteForce(t *testing.T) {
	entries := corpus(1500, 1)
	b := match.NewBuilder()
	for _, e := range entries {
		b.Add(e)
	}
	ix := b.Build()
	n := 1000
	if testing.Short() {
		n = 100
	}
	differ := 0
	for _, q := range questions(entries, n) {
		o := match.Options{Limit: 10}
		if a, b := ix.Search(match.Query{Name: q.name}, o), ix.BruteForce(match.Query{Name: q.name}, o); !reflect.DeepEqual(a, b) {
			differ++
			t.Logf("%q:\n%v\n%v", q.name, a, b)
		}
	}
	if differ > n/1000 {
		t.Errorf("%d of %d queries differ", differ, n)
	}
}
