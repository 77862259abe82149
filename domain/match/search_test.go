package match_test

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/chainreactions/chainreactions/domain/match"
)

func index(entries ...match.Entry) *match.Index {
	b := match.NewBuilder()
	for i, e := range entries {
		e.Key = key(i)
		b.Add(e)
	}
	return b.Build()
}

func small() *match.Index {
	return index([]match.Entry{
		{Name: "Academy of Military Science", Aliases: []string{"AMS"}, Countries: []string{"CN"}},
		{Name: "University of Science and Technology of China", Countries: []string{"CN"}},
		{Name: "Moscow Aviation Institute (MAI)", Aliases: []string{"Московский авиационный институт"}, Countries: []string{"RU"}},
		{Name: "中国工程物理研究院"}, {Name: "北京理工大学"}, {Name: "Siemens AG"}, {Name: "Delta Co., Ltd."},
		{Name: "Plant 11420 Kirov"}, {Name: "Zagros Petrochemical Trading House", Aliases: []string{"Zagros Petrochemical Commerce Tehran"}},
		{Name: "ОАО Уралвагонзавод"}, {Name: "株式会社プロムテック"}, {Name: "한국항공우주연구원"}, {Name: "جامعة شريف"}, {Name: "Ναυπηγεία Ελευσίνας"},
	}...)
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
		{"Moskovskiy aviatsionnyy institut", 2, match.Alias}, {"Московский авиационный институт", 2, match.Alias},
		{"ZPTH", 8, match.CoreAcronym},
		{"中国工程物理研究院", 3, match.Exact}, {"北京理工大学", 4, match.Exact},
		{"Siemens AG", 5, match.Exact}, {"Siemens GmbH", 5, match.CoreMatch}, {"GmbH Siemens", 5, match.CoreMatch}, {"SiemensAG", 5, match.WordMatch}, {"Sie mens", 5, match.Fuzzy},
		{"Delta", 6, match.CoreMatch}, {"Delta Ltd", 6, match.CoreMatch}, {"Delta Limitd", 6, match.CoreMatch},
		{"Petrochemical Zagros House Trading", 8, match.Fuzzy}, {"Zagross Petrochemicall House", 8, match.WordMatch}, {"Zagros Petrochemical Exports House", 8, match.Partial},
		{"Zagros Commerce Tehran", 8, match.AliasPartial},
		{"Uralvagonzavod", 9, match.CoreMatch}, {"Уралвагонзавод", 9, match.CoreMatch}, {"УРАЛВАГОНЗАВОД ОАО", 9, match.CoreMatch},
		{"プロムテック", 10, match.CoreMatch}, {"puromutekku", 10, match.CoreMatch}, {"한국항공우주연구원", 11, match.Exact},
		{"جامعة شريف", 12, match.Exact}, {"Naupegeia Eleusinas", 13, match.Exact},
		{"Plant 11420 Kirov", 7, match.Exact}, {"Plant 11421 Kirov", -1, ""}, {"Plant 11421", -1, ""},
		{"Institute", -1, ""}, {"university", -1, ""}, {"上海大学", -1, ""}, {"", -1, ""}, {"...", -1, ""}, {"Ltd.", -1, ""},
	} {
		got := ix.Search(match.Query{Name: c.query}, match.Options{Limit: 3, Explain: true})
		switch {
		case c.entry < 0 && len(got) > 0:
			t.Errorf("%q is taken for %v (%.2f)", c.query, got[0].Key, got[0].Score)
		case c.entry >= 0 && (len(got) == 0 || got[0].Key != key(c.entry)):
			t.Errorf("%q: %+v", c.query, got)
		case c.entry >= 0 && got[0].Type != c.kind:
			t.Errorf("%q: type %s, want %s (%.3f %+v %+v)", c.query, got[0].Type, c.kind, got[0].Score, *got[0].Algorithms, *got[0].Explanation)
		}
		for _, m := range got {
			if m.Score < 0 || m.Score > 1 || m.Confidence < 0 || m.Confidence > m.Score || m.Explanation == nil {
				t.Errorf("%q: %+v", c.query, m)
			}
		}
	}
}

// Where something is known on both sides it weighs; what is unknown says nothing.
func TestGeography(t *testing.T) {
	at := func(f float64) *float64 { return &f }
	ix := index(
		match.Entry{Name: "Northern Optics Institute", Countries: []string{"RU"}, City: "Москва", Latitude: at(55.75), Longitude: at(37.62)},
		match.Entry{Name: "Southern Acoustics Works"},
	)
	for _, c := range []struct {
		query match.Query
		want  float64 // -1: nothing is known
	}{
		{match.Query{}, -1},
		{match.Query{Country: "RU"}, 1},
		{match.Query{Country: "FR"}, 0.6}, // Europe, both
		{match.Query{Country: "CN"}, 0},
		{match.Query{City: "Moscow"}, 1},
		{match.Query{City: "Paris"}, 0},
		{match.Query{Country: "RU", City: "Samara"}, 0.5},
		{match.Query{Latitude: at(55.75), Longitude: at(37.62)}, 1},
		{match.Query{Latitude: at(55.75)}, -1},
		{match.Query{Country: "RU", City: "Moscow", Latitude: at(55.75), Longitude: at(37.62)}, 1},
	} {
		c.query.Name = "Northern Optics Institute"
		got := ix.Search(c.query, match.Options{Limit: 1, Explain: true})[0].Algorithms.Geographic
		if (got == nil) != (c.want < 0) || got != nil && *got != c.want {
			t.Errorf("%+v: %v, want %v", c.query, got, c.want)
		}
		c.query.Name = "Southern Acoustics Works"
		if got := ix.Search(c.query, match.Options{Limit: 1, Explain: true})[0].Algorithms.Geographic; got != nil {
			t.Errorf("%+v: an entry without a place is %v", c.query, *got)
		}
	}
	far := ix.Search(match.Query{Name: "Northern Optics Institute", Latitude: at(59.94), Longitude: at(30.31)}, match.Options{Limit: 1, Explain: true})
	if g := *far[0].Algorithms.Geographic; g < 0.16 || g > 0.19 { // 634 km: 2^(-634/250)
		t.Errorf("634 km apart: %v", g)
	}
	score := func(country string) float64 {
		return ix.Search(match.Query{Name: "Northern Optic Institute", Country: country}, match.Options{Limit: 1, Threshold: 0.5})[0].Score
	}
	if !(score("RU") > score("") && score("") > score("CN")) {
		t.Errorf("same %.3f unknown %.3f other %.3f", score("RU"), score(""), score("CN"))
	}
}

// A tenant's synonyms, words and phrases, mean the same in either direction.
func TestSynonyms(t *testing.T) {
	ix := index(match.Entry{Name: "Zagros Zavod"}, match.Entry{Name: "Kirov Design Bureau"}, match.Entry{Name: "Harbin OKB"})
	o := match.Options{Limit: 1, Settings: match.DefaultSettings()}
	o.Settings.Synonyms = [][]string{{"factory", "Zavod"}, {"OKB", "Design Bureau"}}
	for query, entry := range map[string]int{"Zagros Factory": 0, "OKB Kirov": 1, "Kirov OKB": 1, "Harbin Design Bureau": 2} {
		if got := ix.Search(match.Query{Name: query}, o); len(got) == 0 || got[0].Key != key(entry) {
			t.Errorf("%q: %+v", query, got)
		}
	}
	if got := ix.Search(match.Query{Name: "Zagros Factory"}, match.Options{Limit: 1, Threshold: 0.9}); len(got) > 0 {
		t.Errorf("without synonyms: %+v", got)
	}
}

// A score is what the tenant's weights make of the algorithms, and no more than
// the words allow; explain shows every part.
func TestScoreIsItsParts(t *testing.T) {
	ix := small()
	o := match.Options{Limit: 1, Explain: true, Settings: match.Settings{Weights: match.Weights{JaroWinkler: 0.4, Levenshtein: 0.3, Word: 0.2, NGram: 0.1, Geographic: 0.1}, Threshold: 0.5}}
	m := ix.Search(match.Query{Name: "Moscow Aviaton Institut", Country: "RU"}, o)[0]
	a, w := m.Algorithms, o.Settings.Weights
	sum := w.JaroWinkler*a.JaroWinkler + w.Levenshtein*a.Levenshtein + w.Word*a.Word + w.NGram*a.NGram + w.Geographic**a.Geographic
	want := min(sum/(w.JaroWinkler+w.Levenshtein+w.Word+w.NGram+w.Geographic), m.Explanation.Cap)
	if math.Abs(m.Score-want) > 1e-3 {
		t.Errorf("score %v, its parts make %v: %+v %+v", m.Score, want, a, m.Explanation)
	}
	if e := m.Explanation; e.Query != "moscow aviaton institut" || e.Listed != "moscow aviation institute" || len(e.Words) != 3 || e.Words[1].Similarity != 0.92 {
		t.Errorf("%+v", e)
	}
}

// An index takes the memory that it says, give or take a tenth.
func TestMemoryBytes(t *testing.T) {
	entries := corpus(20_000, 1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ix := index(entries...)
	runtime.GC()
	runtime.ReadMemStats(&after)
	said, held := float64(ix.MemoryBytes()), float64(after.HeapAlloc)-float64(before.HeapAlloc)
	if said < 0.9*held || said > 1.1*held {
		t.Errorf("%.0f bytes said, %.0f held", said, held)
	}
	runtime.KeepAlive(entries)
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
// of a thousand queries, whatever the tenant's settings.
func TestTopTenEqualsBruteForce(t *testing.T) {
	size, n := 3000, 1000
	if testing.Short() {
		size, n = 500, 100
	}
	entries := corpus(size, 1)
	ix := index(entries...)
	own := match.Settings{Weights: match.Weights{JaroWinkler: 0.5, Levenshtein: 0.1, Word: 0.1, NGram: 0.3, Geographic: 0.4}, Threshold: 0.4,
		Synonyms: [][]string{{"factory", "works", "plant"}, {"laboratory", "research center"}}}
	strings := own
	strings.Weights = match.Weights{Levenshtein: 1}
	views := []match.Options{{Limit: 10}, {Limit: 10, Threshold: 0.5}, {Limit: 10, Settings: own}, {Limit: 3, Settings: strings}, {Limit: 10, Threshold: 0.15}}
	differ := 0
	for i, q := range questions(entries, n) {
		query, o := match.Query{Name: q.name}, views[i/2%len(views)]
		if i%3 == 0 {
			query.Country = "RU"
		}
		if a, b := ix.Search(query, o), ix.BruteForce(query, o); !reflect.DeepEqual(a, b) {
			differ++
			t.Logf("%q %+v:\n%v\n%v", q.name, o, a, b)
		}
	}
	if differ > n/1000 {
		t.Errorf("%d of %d queries differ", differ, n)
	}
}
