package match

import (
	"slices"
	"strings"
	"unicode"

	"github.com/mozillazg/go-unidecode"
	"golang.org/x/text/unicode/norm"
)

// form is one way to read a name: the words that are compared, and the same
// words joined and sorted. A name in another script has two forms, its own
// letters and their transliteration; a name with brackets has one more without
// them.
type form struct {
	words   []string  // folded, abbreviations written out, legal forms and articles left out unless nothing else is left
	text    string    // words joined by spaces
	sorted  string    // the words in order of the alphabet, joined
	weights []float32 // the rarity of each word in the index that compares
	joined  string    // the words without the spaces
	first   string    // the initials of the words
	acronym bool      // the form is an acronym that the name itself gave in brackets
	core    bool      // something of the name was left out
}

// fold gives lower-case letters and digits of a name, with accents taken off
// and every run of anything else as one space. Letters of every script stay.
func fold(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	space := false
	write := func(r rune) {
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
	}
	ascii := true
	for i := range len(s) {
		if s[i] >= 0x80 {
			ascii = false
			break
		}
	}
	if !ascii {
		s = norm.NFKD.String(strings.ToValidUTF8(s, " "))
	}
	for _, r := range s {
		switch {
		case r == '\'' || r == '’' || r == '‘' || r == 'ʼ' || r == '`' || unicode.Is(unicode.Mn, r):
			// people's is peoples; a mark belongs to its letter
		case r == '&':
			space = true
			for _, c := range "and" {
				write(c)
			}
			space = true
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			if folded, ok := special[r]; ok {
				for _, c := range folded {
					write(c)
				}
				continue
			}
			write(unicode.ToLower(r))
		default:
			space = true
		}
	}
	return b.String()
}

// special letters that no decomposition turns into plain ones.
var special = map[rune]string{'ß': "ss", 'ẞ': "ss", 'æ': "ae", 'Æ': "ae", 'œ': "oe", 'Œ': "oe", 'ø': "o", 'Ø': "o",
	'ł': "l", 'Ł': "l", 'đ': "d", 'Đ': "d", 'ð': "d", 'Ð': "d", 'þ': "th", 'Þ': "th", 'ı': "i", 'İ': "i"}

// latin transliterates what is not Latin; ok says that there was something.
func latin(folded string) (string, bool) {
	for _, r := range folded {
		if r >= 0x250 {
			var b strings.Builder
			for _, r := range folded {
				switch {
				case r < 0x250:
					b.WriteRune(r)
				case unicode.In(r, unicode.Cyrillic) && cyrillic[r] != "":
					b.WriteString(cyrillic[r])
				case r == 'ь' || r == 'ъ' || r == 'ー':
				default:
					b.WriteString(unidecode.Unidecode(string(r)))
				}
			}
			return strings.Join(strings.Fields(fold(b.String())), " "), true
		}
	}
	return folded, false
}

// cyrillic follows the romanisation of passports (ICAO 9303), where the
// library's differs from what lists use.
var cyrillic = map[rune]string{'х': "kh", 'ц': "ts", 'щ': "shch", 'ж': "zh", 'ю': "yu", 'я': "ya", 'й': "y", 'ё': "e", 'э': "e",
	'є': "ye", 'ї': "yi", 'і': "i", 'ґ': "g", 'ы': "y"}

// ideographic reports a script that writes no spaces between words.
func ideographic(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai)
}

// tokens cuts folded text into words; text without spaces is cut into pairs of
// characters, so that a part of it is found too.
func tokens(folded string) []string {
	var out []string
	for _, word := range strings.Fields(folded) {
		runes := []rune(word)
		if len(runes) > 2 && ideographic(runes[0]) && ideographic(runes[len(runes)-1]) {
			for i := 0; i+2 <= len(runes); i++ {
				out = append(out, string(runes[i:i+2]))
			}
			continue
		}
		out = append(out, word)
	}
	return out
}

// forms gives every reading of a name; the first is the fullest.
func forms(name string, synonyms map[string]string) []form {
	var out []form
	add := func(text string, acronym bool, core bool) {
		folded := fold(text)
		if folded == "" {
			return
		}
		readings := []string{folded}
		if l, other := latin(folded); other && l != "" {
			readings = append(readings, l)
		}
		for _, r := range readings {
			f := newForm(r, synonyms)
			f.acronym, f.core = acronym, f.core || core
			if !slices.ContainsFunc(out, func(o form) bool { return o.text == f.text && o.acronym == f.acronym }) {
				out = append(out, f)
			}
		}
	}
	add(name, false, false)
	outside, inside := brackets(name)
	if len(inside) > 0 && strings.TrimSpace(outside) != "" {
		add(outside, false, true)
		for _, in := range inside {
			add(in, isAcronym(in), true)
		}
	}
	return out
}

// brackets cuts a name into what is outside and what is inside (), [] or （）.
func brackets(s string) (outside string, inside []string) {
	var out, in strings.Builder
	depth := 0
	for _, r := range s {
		switch r {
		case '(', '[', '（', '【':
			depth++
			out.WriteByte(' ')
		case ')', ']', '）', '】':
			if depth > 0 {
				depth--
				if depth == 0 && strings.TrimSpace(in.String()) != "" {
					inside = append(inside, strings.TrimSpace(in.String()))
				}
				in.Reset()
			}
		default:
			if depth > 0 {
				in.WriteRune(r)
			} else {
				out.WriteRune(r)
			}
		}
	}
	return out.String(), inside
}

// isAcronym: two to ten capitals and digits, dots and dashes between them allowed.
func isAcronym(s string) bool {
	n := 0
	for _, r := range s {
		switch {
		case unicode.IsUpper(r) || unicode.IsDigit(r):
			n++
		case r == '.' || r == '-' || r == '/':
		default:
			return false
		}
	}
	return n >= 2 && n <= 10
}

func newForm(folded string, synonyms map[string]string) form {
	var f form
	all := tokens(folded)
	for i, w := range all {
		if long, ok := synonyms[w]; ok {
			w = long
		} else if long, ok := abbreviations[w]; ok {
			w = long
		}
		if articles[w] {
			continue
		}
		if len(all) > 1 && (legalForms[w] || nearlyLegal(w)) || i > 0 && legalPair(all[i-1], w) {
			f.core = true
			continue
		}
		f.words = append(f.words, strings.Fields(w)...)
	}
	if len(f.words) == 0 { // the name is made of such words alone: then they are its name
		f.words, f.core = all, false
	}
	f.text = strings.Join(f.words, " ")
	f.joined, f.first = compact(f.words), initials(f.words)
	s := slices.Clone(f.words)
	slices.Sort(s)
	f.sorted = strings.Join(s, " ")
	return f
}

// nearlyLegal knows a long legal form with a slip of the pen, "Limitmd".
func nearlyLegal(w string) bool {
	if len(w) < 6 {
		return false
	}
	for _, form := range longForms {
		if d := len(w) - len(form); -1 <= d && d <= 1 && LevenshteinDistance(w, form) == 1 {
			return true
		}
	}
	return false
}

var longForms = []string{"limited", "company", "corporation", "incorporated", "companies", "holdings"}

// legalPair knows the forms that folding cuts in two: "s a", "g m b h" never
// do, "s p a" and "a s" do.
func legalPair(before, w string) bool {
	return before == "s" && w == "a" || before == "a" && w == "s" || before == "b" && w == "v" || before == "n" && w == "v"
}

// initials of the words, for acronyms that the name does not give itself.
func initials(words []string) string {
	var b strings.Builder
	for _, w := range words {
		if w == "and" {
			continue
		}
		for _, r := range w {
			b.WriteRune(r)
			break
		}
	}
	return b.String()
}

func set(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

var articles = set("the of for and in at to a an de la le les des du del della di der die das und et y i v na al el")

// legalForms of many jurisdictions, in front or at the end; they say what kind
// of body it is, not which.
var legalForms = set(`inc incorporated ltd limited llc llp lp plc corp corporation co company companies pty pte sdn bhd pvt
	gmbh ag kg ohg ug mbh sarl sas sasu sa spa srl snc bv nv vof ab as asa aps oy oyj kft zrt rt doo dd ad ead eood ood
	ooo oao zao pao ao fgup gup npo npp nii jsc ojsc cjsc pjsc tov pat at too uab sia ou kk gk yk godo kabushiki kaisha
	pt tbk cv jsc sarlau eirl ltda eireli sapi sab rl holding holdings group 株式会社 有限公司 有限责任公司 股份有限公司`)

// abbreviations as lists and authors write them.
var abbreviations = map[string]string{
	"univ": "university", "uni": "university", "natl": "national", "nat": "national", "inst": "institute", "acad": "academy", "sci": "science",
	"sciences": "science", "tech": "technology", "technol": "technology", "dev": "development", "res": "research", "intl": "international",
	"int": "international", "lab": "laboratory", "labs": "laboratory", "laboratories": "laboratory", "dept": "department", "min": "ministry",
	"govt": "government", "gov": "government", "eng": "engineering", "engrg": "engineering", "elec": "electronic", "electr": "electronic",
	"mech": "mechanical", "aero": "aerospace", "mfg": "manufacturing", "mil": "military", "med": "medical", "ctr": "center", "centre": "center",
	"defence": "defense", "assoc": "association", "assn": "association", "org": "organization", "organisation": "organization",
	"bros": "brothers", "st": "saint", "polytech": "polytechnic", "grp": "group", "mgmt": "management", "comm": "commission",
	"prc": "peoples republic china", "pla": "peoples liberation army", "ussr": "soviet union", "institutes": "institute", "universities": "university",
	"petr": "petroleum", "chem": "chemical", "phys": "physics", "math": "mathematics", "agri": "agricultural", "info": "information",
	"prod": "production", "assocn": "association", "hosp": "hospital", "admin": "administration", "fdn": "foundation", "found": "foundation",
	"labour": "labor", "programme": "program", "aluminium": "aluminum", "brig": "brigade", "brigades": "brigade", "battalions": "battalion",
}
