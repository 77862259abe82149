package sandbox

import (
	_ "embed"
	"fmt"
	"html"
	"slices"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"gopkg.in/yaml.v3"
)

//go:embed corpus.yaml
var corpusFile []byte

// Truth is the invented world as it is, for measuring what a run finds of it.
type Truth struct {
	Entities  []Entity   `yaml:"entities" json:"entities"`
	Pages     []Page     `yaml:"pages" json:"pages"`
	Relations []Relation `yaml:"relations" json:"relations"`
	Signals   []Signal   `yaml:"signals" json:"signals"`
	Verdicts  []Verdict  `yaml:"verdicts" json:"verdicts"`

	Robots map[string]string `yaml:"robots" json:"robots"` // robots.txt by host
}

// Entity is an organisation or a person. A decoy has a name that is nearly
// another's.
type Entity struct {
	ID      string            `yaml:"id" json:"id"`
	Schema  string            `yaml:"schema" json:"schema"`
	Country string            `yaml:"country" json:"country"`
	City    string            `yaml:"city" json:"city,omitempty"`
	Founded string            `yaml:"founded" json:"founded,omitempty"`
	Host    string            `yaml:"host" json:"host,omitempty"`
	Decoy   bool              `yaml:"decoy" json:"decoy,omitempty"`
	Sectors []string          `yaml:"sectors" json:"sectors,omitempty"`
	Aliases []string          `yaml:"aliases" json:"aliases,omitempty"`
	Names   map[string]string `yaml:"names" json:"names"`
}

// Name is the English one.
func (e Entity) Name() string { return e.Names["en"] }

// All is every name, the English one first.
func (e Entity) All() []string {
	out := []string{e.Name()}
	for _, lang := range []string{"zh", "ru", "ja", "fa", "de"} {
		if n := e.Names[lang]; n != "" {
			out = append(out, n)
		}
	}
	return append(out, e.Aliases...)
}

// Page is one page of the web.
type Page struct {
	ID       string `yaml:"id" json:"id"`
	URL      string `yaml:"url" json:"url"`
	Language string `yaml:"lang" json:"lang"`
	Charset  string `yaml:"charset" json:"charset,omitempty"`
	PDF      bool   `yaml:"pdf" json:"pdf,omitempty"`
	Date     string `yaml:"date" json:"date"`
	Title    string `yaml:"title" json:"title"`
	Body     string `yaml:"body" json:"body"`
	Raw      string `yaml:"raw" json:"-"`
	Official bool   `yaml:"official" json:"official,omitempty"`
	Mirror   bool   `yaml:"mirror" json:"mirror,omitempty"`     // a copy of another page
	Unlisted bool   `yaml:"unlisted" json:"unlisted,omitempty"` // no engine returns it: one must know its address
	Denial   bool   `yaml:"denial" json:"denial,omitempty"`
	Hostile  bool   `yaml:"hostile" json:"hostile,omitempty"`
	Obey     *struct {
		From   string `yaml:"from" json:"from"`
		To     string `yaml:"to" json:"to"`
		Schema string `yaml:"schema" json:"schema"`
	} `yaml:"obey" json:"obey,omitempty"` // what a hostile page wants reported
}

// Evidence is a quote that stands in a page.
type Evidence struct {
	Page  string `yaml:"page" json:"page"`
	Quote string `yaml:"quote" json:"quote"`
}

// Relation is a true tie. From and To are entities.
type Relation struct {
	From     string     `yaml:"from" json:"from"`
	To       string     `yaml:"to" json:"to"`
	Schema   string     `yaml:"schema" json:"schema"`
	Role     string     `yaml:"role" json:"role"`
	Start    string     `yaml:"start" json:"start,omitempty"`
	End      string     `yaml:"end" json:"end,omitempty"`
	Evidence []Evidence `yaml:"evidence" json:"evidence"`
}

// Signal ties an organisation to topics of risk.
type Signal struct {
	Entity string   `yaml:"entity" json:"entity"`
	Topics []string `yaml:"topics" json:"topics"`
	Page   string   `yaml:"page" json:"page"`
	Quote  string   `yaml:"quote" json:"quote"`
}

// Verdict is what a run over two entities should find; Or is as right.
type Verdict struct {
	Institution string   `yaml:"institution" json:"institution"`
	RiskItem    string   `yaml:"risk_item" json:"risk_item"`
	Type        string   `yaml:"type" json:"type"`
	Or          string   `yaml:"or" json:"or,omitempty"`
	Through     []string `yaml:"through" json:"through,omitempty"`
}

// corpus is the world with its indexes.
type corpus struct {
	Truth
	entity map[string]*Entity
	page   map[string]*Page
	byURL  map[string]*Page
	hosts  map[string]bool
}

func loadCorpus() *corpus {
	c := &corpus{entity: map[string]*Entity{}, page: map[string]*Page{}, byURL: map[string]*Page{}, hosts: map[string]bool{}}
	if err := yaml.Unmarshal(corpusFile, &c.Truth); err != nil {
		panic("sandbox: corpus.yaml: " + err.Error()) // our own file
	}
	for i := range c.Entities {
		e := &c.Entities[i]
		c.entity[e.ID] = e
		if e.Host != "" {
			c.Pages = append(c.Pages, aboutPage(e))
		}
	}
	for i := range c.Pages {
		p := &c.Pages[i]
		p.Body = strings.TrimSpace(p.Body)
		c.page[p.ID], c.byURL[p.URL] = p, p
		host, _, _ := strings.Cut(strings.TrimPrefix(p.URL, "https://"), "/")
		c.hosts[host] = true
	}
	return c
}

// aboutPage is an organisation's page about itself.
func aboutPage(e *Entity) Page {
	names := strings.Join(e.All()[1:], ", ")
	if names != "" {
		names = " (" + names + ")"
	}
	return Page{ID: "about-" + e.ID, URL: "https://" + e.Host + "/about", Language: "en", Date: "2023-01-01", Title: "About " + e.Name(), Official: true,
		Body: fmt.Sprintf("%s%s has its headquarters in %s.\n\nIt was founded in %s. Its fields are %s.", e.Name(), names, e.City, e.Founded, strings.Join(e.Sectors, " and "))}
}

// named gives the entity that one of the names means, exactly but for case and
// spaces; nil where none does.
func (c *corpus) named(names ...string) *Entity {
	for _, name := range names {
		for i := range c.Entities {
			for _, n := range c.Entities[i].All() {
				if fold(n) == fold(name) {
					return &c.Entities[i]
				}
			}
		}
	}
	return nil
}

// mentioned gives the entities that a text names, by any name.
func (c *corpus) mentioned(text string) (out []*Entity) {
	text = fold(text)
	for i := range c.Entities {
		if slices.ContainsFunc(c.Entities[i].All(), func(n string) bool { return strings.Contains(text, fold(n)) }) {
			out = append(out, &c.Entities[i])
		}
	}
	return out
}

// between gives the true relations that tie two entities, at most one other
// entity apart, and that entity for each.
func (c *corpus) between(a, b string) (direct []Relation, through map[string][]Relation) {
	ends := func(r Relation, x, y string) bool { return r.From == x && r.To == y || r.From == y && r.To == x }
	through = map[string][]Relation{}
	for _, r := range c.Relations {
		if ends(r, a, b) {
			direct = append(direct, r)
		}
	}
	for _, e := range c.Entities {
		var first, second []Relation
		for _, r := range c.Relations {
			if ends(r, a, e.ID) {
				first = append(first, r)
			}
			if ends(r, e.ID, b) {
				second = append(second, r)
			}
		}
		if e.ID != a && e.ID != b && len(first) > 0 && len(second) > 0 {
			through[e.ID] = append(first, second...)
		}
	}
	return direct, through
}

func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// bytes is the page as its server sends it.
func (p *Page) bytes() (contentType string, body []byte) {
	if p.PDF {
		return "application/pdf", p.paper()
	}
	charset := p.Charset
	if charset == "" {
		charset = "utf-8"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<!doctype html>
<html lang="%s"><head><meta charset="%s"><title>%s</title>
<meta property="article:published_time" content="%sT08:00:00Z">
<style>nav { color: #333 }</style><script>window.stats = {"page": "%s"};</script></head>
<body><nav><a href="/">Home</a> <a href="/news">News</a></nav>
<article><h1>%s</h1>
`, p.Language, charset, html.EscapeString(p.Title), p.Date, p.ID, html.EscapeString(p.Title))
	for _, par := range strings.Split(p.Body, "\n\n") {
		fmt.Fprintf(&b, "<p>%s</p>\n", html.EscapeString(strings.TrimSpace(par)))
	}
	b.WriteString(p.Raw + "</article>\n<footer>&copy; 2024</footer></body></html>\n")
	encoder := map[string]encoding.Encoding{"gb18030": simplifiedchinese.GB18030, "shift_jis": japanese.ShiftJIS, "windows-1251": charmap.Windows1251}[charset]
	if encoder == nil {
		return "text/html; charset=utf-8", []byte(b.String())
	}
	out, err := encoding.ReplaceUnsupported(encoder.NewEncoder()).Bytes([]byte(b.String()))
	if err != nil {
		panic("sandbox: page " + p.ID + ": " + err.Error()) // our own file
	}
	return "text/html", out // the page says its charset itself
}

// find is a search engine: pages by how well they answer the words of a query.
func (c *corpus) find(query string, languages ...string) (out []*Page) {
	phrases, words := terms(query)
	type hit struct {
		p     *Page
		score int
	}
	var hits []hit
	for i := range c.Pages {
		p := &c.Pages[i]
		if p.Unlisted || len(languages) > 0 && !slices.Contains(languages, p.Language) {
			continue
		}
		text, score := fold(p.Title+" \n "+p.Body), 0
		for _, ph := range phrases {
			if strings.Contains(text, ph) {
				score += 6
			}
		}
		matched := 0
		for _, w := range words {
			if strings.Contains(text, w) {
				matched++
			}
		}
		if len(words) > 0 {
			score += 6 * matched / len(words)
		}
		if score >= 3 {
			hits = append(hits, hit{p, score})
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int { return b.score - a.score })
	for _, h := range hits[:min(len(hits), 10)] {
		out = append(out, h.p)
	}
	return out
}

// terms takes a query apart into quoted phrases and words.
func terms(query string) (phrases, words []string) {
	for i, part := range strings.Split(strings.NewReplacer("“", `"`, "”", `"`).Replace(query), `"`) {
		if i%2 == 1 {
			if f := fold(part); f != "" {
				phrases = append(phrases, f)
			}
			continue
		}
		for _, w := range strings.Fields(part) {
			if w := strings.Trim(fold(w), ",.;:()?!"); len(w) > 2 {
				words = append(words, w)
			}
		}
	}
	return phrases, words
}

// snippet is what an engine shows of a page: the surroundings of the phrases
// that were asked for, or its beginning.
func (p *Page) snippet(query string) string {
	r := []rune(strings.Join(strings.Fields(p.Body), " "))
	low := []rune(strings.ToLower(string(r)))
	var parts []string
	phrases, _ := terms(query)
	for _, ph := range phrases {
		at := strings.Index(string(low), ph)
		if at < 0 || len(low) != len(r) || len(parts) == 2 {
			continue
		}
		from := len([]rune(string(low)[:at]))
		if shown := strings.Join(parts, " "); strings.Contains(strings.ToLower(shown), ph) {
			continue
		}
		parts = append(parts, string(r[max(0, from-40):min(len(r), from+len([]rune(ph))+80)]))
	}
	if parts == nil {
		return string(r[:min(len(r), 160)])
	}
	return strings.Join(parts, " … ")
}
