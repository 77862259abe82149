package research

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"hash/fnv"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// canonical is one spelling for every address of a page: two results are one
// page when these are equal. ok is false for what is no web page's address.
func canonical(raw string) (string, bool) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Opaque != "" || len(raw) > 4096 {
		return "", false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "" {
		return "", false
	}
	host = strings.TrimPrefix(host, "www.")
	if port := u.Port(); port != "" && port != "80" && port != "443" {
		host += ":" + port
	}
	query := u.Query()
	for name := range query {
		low := strings.ToLower(name)
		if strings.HasPrefix(low, "utm_") || slices.Contains([]string{"fbclid", "gclid", "yclid", "msclkid", "mc_cid", "mc_eid", "igshid", "spm", "ref_src"}, low) {
			query.Del(name)
		}
	}
	path := u.EscapedPath()
	if path = strings.TrimRight(path, "/"); path == "" {
		path = "/"
	}
	out := "//" + host + path // http and https are one page
	if len(query) > 0 {
		out += "?" + query.Encode() // in the order of the names
	}
	return out, true
}

// ownID names a thing of the run by a word that nobody outside can guess: what
// a page says cannot name a source, and a model cannot cite what it was not
// given.
func ownID(salt, prefix, what string) string {
	mac := hmac.New(sha256.New, []byte(salt))
	mac.Write([]byte(prefix + "\x00" + what))
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(mac.Sum(nil))[:10])
}

// Source is a page that a search returned.
type Source struct {
	ID          string     `json:"id"`
	URL         string     `json:"url"`
	Title       string     `json:"title"`
	Snippet     string     `json:"snippet,omitempty"`
	Engines     []string   `json:"engines" nullable:"false" doc:"that returned it"`
	Language    string     `json:"language,omitempty"`
	PublishedAt string     `json:"published_at,omitempty"`
	RetrievedAt *time.Time `json:"retrieved_at,omitempty" doc:"absent: the page was not read"`
	Hash        string     `json:"content_hash,omitempty" doc:"SHA-256 of the bytes that were read"`
	Type        string     `json:"source_type" enum:"official,register,academic,news,organisation,encyclopedia,social,other"`
	Credibility float64    `json:"credibility" doc:"0 to 1, by the kind of source alone"`
	SameAs      string     `json:"same_as,omitempty" doc:"the source whose text this one repeats: both count as one"`
	Error       string     `json:"error,omitempty" doc:"why it could not be read"`

	key   string // canonical address
	score float64
	page  *reading
	cut   bool         // what is read is not the whole page
	about map[int]bool // risk items whose searches returned it
	seen  *window      // what an engine shows of it, once that was asked for
}

// shown is what an engine shows of the page, without what speaks to machines. The
// verdict on each risk item asks for it, once the pages are read.
func (s *Source) shown() *window {
	if s.seen == nil {
		s.seen = newReading(s.Title + "\n" + s.Snippet).whole
	}
	return s.seen
}

// reading is a fetched page, prepared.
type reading struct {
	*text
	sentences []span
	windows   []*window // of each sentence
	whole     *window
	shingles  map[uint64]bool
}

func newReading(raw string) *reading {
	const most = 400_000 // bytes of text that are looked at
	p := &reading{text: newText(clip(raw, most))}
	p.sentences = p.text.sentences()
	p.windows = make([]*window, len(p.sentences))
	var quiet strings.Builder // without the sentences that speak to machines
	for i, s := range p.sentences {
		one := p.raw[s.from:s.to]
		p.windows[i] = newWindow(one)
		if !instructions.MatchString(fold(one)) {
			quiet.WriteString(one)
			quiet.WriteByte(' ')
		} else {
			p.windows[i] = newWindow("")
		}
	}
	p.whole = newWindow(quiet.String())
	p.shingles = shingles(p.whole.tokens)
	return p
}

// at gives the sentences that name the entity.
func (p *reading) at(n names) []int {
	var out []int
	for i, w := range p.windows {
		if w.names(n, p.whole) {
			out = append(out, i)
		}
	}
	return out
}

// shingles are the hashes of every five words in a row.
func shingles(tokens []token) map[uint64]bool {
	const n = 5
	out := map[uint64]bool{}
	for i := 0; i+n <= len(tokens); i++ {
		h := fnv.New64a()
		for _, t := range tokens[i : i+n] {
			_, _ = h.Write([]byte(t.word))
			_, _ = h.Write([]byte{0})
		}
		out[h.Sum64()] = true
	}
	return out
}

// copies reports whether one text is, nearly, the other: the smaller is in the
// larger for the most part, and neither is much longer.
func copies(a, b map[uint64]bool) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(a) < 8 || len(a)*2 < len(b) {
		return false
	}
	same := 0
	for h := range a {
		if b[h] {
			same++
		}
	}
	return same*10 >= len(a)*8
}

// markCopies says of each source which earlier one it repeats. The order is
// that of credibility, so that the best of the copies stands for all.
func markCopies(sources []*Source) {
	order := slices.Clone(sources)
	slices.SortStableFunc(order, func(a, b *Source) int {
		switch {
		case a.Credibility != b.Credibility && a.Credibility > b.Credibility:
			return -1
		case a.Credibility < b.Credibility:
			return 1
		}
		return strings.Compare(a.key, b.key)
	})
	for i, s := range order {
		if s.SameAs = ""; s.page == nil {
			continue
		}
		for _, first := range order[:i] {
			if first.page != nil && first.SameAs == "" && (first.Hash == s.Hash && s.Hash != "" || copies(first.page.shingles, s.page.shingles)) {
				s.SameAs = first.ID
				break
			}
		}
	}
}

// kinds of sources, by host. Whoever speaks for itself is "organisation", which
// grade cannot know; the caller passes its site.
func grade(address string) (kind string, credibility float64) {
	u, err := url.Parse(address)
	if err != nil {
		return "other", 0.3
	}
	host := strings.ToLower(u.Hostname())
	has := func(list map[string]bool) bool {
		for h := host; h != ""; {
			if list[h] {
				return true
			}
			_, rest, ok := strings.Cut(h, ".")
			if !ok {
				return false
			}
			h = rest
		}
		return false
	}
	labels := strings.Split(host, ".")
	second := "" // gov in x.gov.cn
	if n := len(labels); n >= 3 && len(labels[n-1]) == 2 {
		second = labels[n-2]
	}
	last := labels[len(labels)-1]
	switch {
	case has(registers):
		return "register", 0.9
	case last == "gov", last == "mil", last == "int", slices.Contains([]string{"gov", "gob", "gouv", "go", "mil", "govt"}, second), has(officials):
		return "official", 0.9
	case last == "edu", slices.Contains([]string{"edu", "ac"}, second), has(academics):
		return "academic", 0.8
	case has(newspapers):
		return "news", 0.75
	case has(encyclopedias):
		return "encyclopedia", 0.5
	case has(socials):
		return "social", 0.25
	case last == "org":
		return "other", 0.5
	}
	return "other", 0.45
}

var (
	registers     = set("gleif.org opencorporates.com companieshouse.gov.uk find-and-update.company-information.service.gov.uk egrul.nalog.ru gsxt.gov.cn handelsregister.de sec.gov edgar.sec.gov opensanctions.org sanctionsmap.eu ror.org")
	officials     = set("europa.eu un.org who.int nato.int admin.ch gc.ca canada.ca bund.de kremlin.ru")
	academics     = set("arxiv.org doi.org nature.com science.org sciencedirect.com springer.com ieee.org cnki.net orcid.org researchgate.net pubmed.ncbi.nlm.nih.gov semanticscholar.org cyberleninka.ru elibrary.ru")
	newspapers    = set("reuters.com apnews.com bbc.com bbc.co.uk nytimes.com washingtonpost.com wsj.com ft.com economist.com theguardian.com bloomberg.com lemonde.fr lefigaro.fr spiegel.de faz.net sueddeutsche.de elpais.com nikkei.com asahi.com yomiuri.co.jp scmp.com xinhuanet.com people.com.cn caixin.com chinadaily.com.cn tass.ru interfax.ru rbc.ru kommersant.ru vedomosti.ru aljazeera.com afp.com dw.com cbc.ca theglobeandmail.com")
	encyclopedias = set("wikipedia.org wikidata.org baike.baidu.com britannica.com")
	socials       = set("twitter.com x.com facebook.com instagram.com linkedin.com youtube.com tiktok.com weibo.com zhihu.com reddit.com quora.com vk.com t.me telegram.org medium.com blogspot.com wordpress.com livejournal.com pinterest.com tieba.baidu.com douban.com")
)

// site is the registrable domain of an address.
func site(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if s, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return s
	}
	return host
}
