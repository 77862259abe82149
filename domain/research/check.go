package research

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/geo"
)

// violations collects what is wrong with a request.
type violations []domain.Field

func (v *violations) text(name, s string, most int, required bool) {
	switch {
	case required && strings.TrimSpace(s) == "":
		*v = append(*v, domain.Violation(name, "required", "A name is required."))
	case utf8.RuneCountInString(s) > most:
		*v = append(*v, domain.Violation(name, "too_long", "At most %d characters.", most))
	case !utf8.ValidString(s) || strings.IndexFunc(s, unicode.IsControl) >= 0:
		*v = append(*v, domain.Violation(name, "control_character", "Control characters are not allowed."))
	case required && len(newNames(s).list) == 0:
		*v = append(*v, domain.Violation(name, "too_short", "At least two letters are required."))
	}
}

func (v *violations) count(name string, n, least, most int) {
	if n < least || n > most {
		*v = append(*v, domain.Violation(name, "invalid_count", "From %d to %d items.", least, most))
	}
}

var (
	dateForm   = regexp.MustCompile(`^[12]\d{3}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$`)
	domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{1,62}$`)
	langForm   = regexp.MustCompile(`^[a-z]{2}$`)
)

func (v *violations) period(from, to string) {
	for _, d := range []struct{ name, value string }{{"from_date", from}, {"to_date", to}} {
		if d.value != "" && !dateForm.MatchString(d.value) {
			*v = append(*v, domain.Violation(d.name, "invalid_date", "A date as 2024, 2024-05 or 2024-05-17 is required."))
		}
	}
	if len(*v) == 0 && from != "" && to != "" && firstDay(from) > lastDay(to) {
		*v = append(*v, domain.Violation("to_date", "before_from", "The period ends before it begins."))
	}
}

func (v *violations) budget(b *Budget) {
	if b != nil && (b.Calls < 0 || b.Tokens < 0 || b.CostUSD < 0 || b.CostUSD != b.CostUSD) {
		*v = append(*v, domain.Violation("budget", "out_of_range", "A budget is not negative."))
	}
}

func (v *violations) priority(p int) {
	if p < 0 || p > 4 {
		*v = append(*v, domain.Violation("priority", "out_of_range", "A number from %v to %v is required.", 1, 4))
	}
}

func (v violations) err() error {
	if len(v) > 0 {
		return domain.Fields(v...)
	}
	return nil
}

func (in *RelationsRequest) check() error {
	var v violations
	v.text("institution", in.Institution, 300, true)
	v.text("location", in.Location, 200, false)
	v.count("risk_items", len(in.RiskItems), 1, 20)
	for i, item := range in.RiskItems {
		at := fmt.Sprintf("risk_items[%d]", i)
		v.text(at+".name", item.Name, 300, true)
		v.text(at+".country", item.Country, 100, false)
		v.aliases(at+".aliases", item.Aliases)
		for j := range i {
			if newNames(item.Name).same(in.RiskItems[j].Name) {
				v = append(v, domain.Violation(at+".name", "repeated", "This is in the list already."))
			}
		}
	}
	for i, l := range in.Languages {
		if !langForm.MatchString(l) {
			v = append(v, domain.Violation(fmt.Sprintf("languages[%d]", i), "invalid_language", "A language as en or zh is required."))
		}
	}
	v.count("pages", len(in.Pages), 0, mostNamed)
	seen := map[string]bool{}
	for i, address := range in.Pages {
		key, ok := canonical(address)
		switch {
		case !ok:
			v = append(v, domain.Violation(fmt.Sprintf("pages[%d]", i), "invalid_address", "The address of a web page as https://example.org/page is required."))
		case seen[key]:
			v = append(v, domain.Violation(fmt.Sprintf("pages[%d]", i), "repeated", "This is in the list already."))
		}
		seen[key] = true
	}
	if in.Mode != "normal" && in.Mode != "deep" {
		v = append(v, domain.Violation("mode", "not_allowed", "The mode is normal or deep."))
	}
	v.budget(in.Budget)
	v.priority(in.Priority)
	v.period(in.FromDate, in.ToDate)
	return v.err()
}

func (v *violations) aliases(at string, list []string) {
	v.count(at, len(list), 0, 50)
	for i, a := range list {
		v.text(fmt.Sprintf("%s[%d]", at, i), a, 300, true)
	}
}

func (in *EntityRequest) check() error {
	var v violations
	v.text("name", in.Name, 300, true)
	v.text("location", in.Location, 200, false)
	v.aliases("aliases", in.Aliases)
	v.count("risk_keywords", len(in.RiskKeywords), 0, 20)
	for i, k := range in.RiskKeywords {
		v.text(fmt.Sprintf("risk_keywords[%d]", i), k, 100, true)
	}
	for _, list := range []struct {
		name  string
		hosts []string
	}{{"include_domains", in.IncludeDomains}, {"exclude_domains", in.ExcludeDomains}} {
		v.count(list.name, len(list.hosts), 0, 50)
		for i, h := range list.hosts {
			if !domainForm.MatchString(strings.ToLower(h)) {
				v = append(v, domain.Violation(fmt.Sprintf("%s[%d]", list.name, i), "invalid_domain", "A domain as example.org is required."))
			}
		}
	}
	if in.Depth != "standard" && in.Depth != "deep" {
		v = append(v, domain.Violation("depth", "not_allowed", "The depth is standard or deep."))
	}
	v.budget(in.Budget)
	v.priority(in.Priority)
	v.period(in.FromDate, in.ToDate)
	return v.err()
}

func (in *DatasetRequest) check() error {
	var v violations
	v.text("institution", in.Institution, 300, true)
	v.count("entry_ids", len(in.EntryIDs), 0, 1000)
	if in.Concurrency < 1 || in.Concurrency > 16 {
		v = append(v, domain.Violation("concurrency", "out_of_range", "A number from %v to %v is required.", 1, 16))
	}
	v.budget(in.Budget)
	v.priority(in.Priority)
	v.period(in.FromDate, in.ToDate)
	return v.err()
}

// firstDay and lastDay make a whole date of a partial one, as search services
// want it.
func firstDay(d string) string {
	switch len(d) {
	case 4:
		return d + "-01-01"
	case 7:
		return d + "-01"
	}
	return d
}

func lastDay(d string) string {
	switch len(d) {
	case 4:
		return d + "-12-31"
	case 7:
		last := "31"
		switch d[5:] {
		case "04", "06", "09", "11":
			last = "30"
		case "02":
			last = "28"
		}
		return d + "-" + last
	}
	return d
}

// place resolves what a user wrote for a country; "" where it is none.
func place(s string) string {
	c, ok := geo.Resolve(s)
	if !ok {
		// "Nanjing, China": the last part is the country, if any is.
		if i := strings.LastIndexAny(s, ",，"); i >= 0 {
			c, ok = geo.Resolve(strings.TrimLeft(s[i:], ",， "))
		}
	}
	if !ok {
		return ""
	}
	return c.Code
}

// languages by country: those in which a place is written about. English is
// always searched beside them.
var localLanguages = map[string][]string{
	"CN": {"zh"}, "TW": {"zh"}, "HK": {"zh"}, "MO": {"zh"}, "SG": {"zh"}, "JP": {"ja"}, "KR": {"ko"}, "KP": {"ko"},
	"RU": {"ru"}, "BY": {"ru"}, "KZ": {"ru"}, "KG": {"ru"}, "UA": {"uk", "ru"}, "IR": {"fa"}, "AF": {"fa"}, "TR": {"tr"}, "IL": {"he"},
	"SA": {"ar"}, "AE": {"ar"}, "QA": {"ar"}, "KW": {"ar"}, "BH": {"ar"}, "OM": {"ar"}, "YE": {"ar"}, "IQ": {"ar"}, "SY": {"ar"}, "JO": {"ar"}, "LB": {"ar"},
	"EG": {"ar"}, "LY": {"ar"}, "TN": {"ar", "fr"}, "DZ": {"ar", "fr"}, "MA": {"ar", "fr"}, "SD": {"ar"},
	"DE": {"de"}, "AT": {"de"}, "CH": {"de", "fr"}, "LI": {"de"}, "FR": {"fr"}, "BE": {"fr", "nl"}, "LU": {"fr", "de"}, "CD": {"fr"}, "SN": {"fr"}, "CI": {"fr"},
	"ES": {"es"}, "MX": {"es"}, "AR": {"es"}, "CO": {"es"}, "CL": {"es"}, "PE": {"es"}, "VE": {"es"}, "EC": {"es"}, "BO": {"es"}, "CU": {"es"}, "UY": {"es"}, "PY": {"es"},
	"PT": {"pt"}, "BR": {"pt"}, "AO": {"pt"}, "MZ": {"pt"}, "IT": {"it"}, "NL": {"nl"}, "PL": {"pl"}, "CZ": {"cs"}, "SK": {"sk"}, "HU": {"hu"}, "RO": {"ro"},
	"BG": {"bg"}, "GR": {"el"}, "CY": {"el"}, "RS": {"sr"}, "HR": {"hr"}, "SE": {"sv"}, "NO": {"no"}, "DK": {"da"}, "FI": {"fi"}, "VN": {"vi"}, "TH": {"th"}, "ID": {"id"},
	"IN": {"hi"}, "PK": {"ur"},
}

// languageOf guesses the language of a name by its script.
func languageOf(s string) string {
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Hiragana, unicode.Katakana):
			return "ja"
		case unicode.In(r, unicode.Hangul):
			return "ko"
		case unicode.In(r, unicode.Han):
			return "zh"
		case unicode.In(r, unicode.Cyrillic):
			return "ru"
		case strings.ContainsRune("پچژگکی", r):
			return "fa"
		case unicode.In(r, unicode.Arabic) && !strings.ContainsAny(s, "پچژگکی"):
			return "ar"
		}
	}
	return ""
}
