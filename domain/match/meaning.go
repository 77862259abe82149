package match

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a word is beside its letters. None of it hides a name: words are left out
// of a comparison only while others remain.
type meaning uint8

const (
	plain   meaning = iota
	article         // the, of, and their like
	legal           // Ltd., GmbH, 有限公司: what kind of body it is, not which
)

// meaningOf says what a folded word is, and how it is written out.
func meaningOf(word []byte) (m meaning, written []string) {
	if long, ok := abbreviations[string(word)]; ok {
		return plain, strings.Fields(long)
	}
	if articles[string(word)] {
		return article, nil
	}
	if legalForms[string(word)] {
		return legal, nil
	}
	return plain, nil
}

// codeOf is one number for the ways to write a legal form; 0 for a word that says
// nothing without the others of its phrase.
func codeOf(word []byte) kind {
	w := string(word)
	if same, ok := sameForm[w]; ok {
		w = same
	}
	if w == "" {
		return 0
	}
	h, _ := polynomial([]byte(w))
	return kind(mix(h)) & legalCode
}

var sameForm = map[string]string{"incorporated": "inc", "limited": "ltd", "corporation": "corp", "company": "", "companies": "", "co": "", "joint": "",
	"stock": "jsc", "ao": "jsc", "liability": "llc", "ooo": "llc", "oao": "ojsc", "zao": "cjsc", "pao": "pjsc", "open": "", "public": "", "closed": "",
	"株式会社": "kk", "有限会社": "yk", "有限公司": "ltd", "有限责任公司": "llc"}

// cutLegal parts the legal form, or one with a slip, from a name in a script
// without spaces.
func cutLegal(s string) (front, name, back string) {
	for _, form := range signForms {
		if rest, ok := strings.CutSuffix(s, form); ok && rest != "" {
			return "", rest, form
		}
		if rest, ok := strings.CutPrefix(s, form); ok && rest != "" {
			return form, rest, ""
		}
	}
	signs := []rune(s)
	for _, form := range signForms {
		n := utf8.RuneCountInString(form)
		for _, size := range []int{n + 1, n, n - 1} {
			if n < 4 || size > len(signs) {
				continue
			}
			if size == len(signs) {
				if LevenshteinDistance(s, form) == 1 {
					return form, "", ""
				}
				continue
			}
			if LevenshteinDistance(string(signs[:size]), form) == 1 {
				return form, string(signs[size:]), ""
			}
			if at := len(signs) - size; LevenshteinDistance(string(signs[at:]), form) == 1 {
				return "", string(signs[:at]), form
			}
		}
	}
	return "", s, ""
}

// signForms, the longer ones first.
var signForms = strings.Fields("非公開株式会社 公開株式会社 公共株式会社 閉鎖株式会社 股份有限公司 有限责任公司 有限責任公司 有限公司 株式会社 有限会社 合同会社 주식회사 유한회사")

// legalPair knows the forms that punctuation cuts in two, "S A", "A/S".
func legalPair(a, b []byte) bool {
	if len(a) != 1 || len(b) != 1 {
		return false
	}
	switch string([]byte{a[0], b[0]}) {
	case "sa", "as", "bv", "nv", "ag", "kg", "kk", "ab":
		return true
	}
	return false
}

// legalPhrase knows the words of a legal form that is written out, joint stock
// company, limited liability company, by their neighbours.
func legalPhrase(before, word, after []byte) bool {
	beside := func(words ...string) bool {
		return slices.Contains(words, string(before)) || slices.Contains(words, string(after))
	}
	switch string(word) {
	case "joint":
		return beside("stock", "company")
	case "stock":
		return beside("joint", "company", "companies", "corporation")
	case "liability":
		return beside("limited", "company")
	case "open", "public", "closed":
		return string(after) == "joint" || string(after) == "stock"
	}
	return false
}

func phrased(word []byte) bool {
	switch string(word) {
	case "joint", "stock", "liability", "open", "public", "closed":
		return true
	}
	return false
}

// meantLegal gives the legal form, or the article, that a word is one slip away
// from: where a list does not have the word, it may well be that.
func meantLegal(word []byte) (string, bool) {
	if len(word) < 2 || len(word) > 13 {
		return "", false
	}
	for _, form := range slippery {
		if d := len(word) - len(form); -1 <= d && d <= 1 && LevenshteinDistance(string(word), form) == 1 {
			return form, true
		}
	}
	return "", false
}

var slippery = strings.Fields("llc ltd inc plc jsc ojsc cjsc pjsc ooo oao zao pao npo npp nii fgup gmbh sarl corp joint stock liability public limited company companies corporation incorporated the")

// heaviest is the most that a word may weigh, however rare it is in the list at
// hand: in a list of ten names every word is rare. Words that name a kind of body
// or of business everywhere weigh at most 0.4; and a word of few letters says
// little, it may be a slip, an initial, or an abbreviation: 0.25 for each letter,
// twice that for a digit or a sign that is a syllable or a word.
func heaviest(word []byte) float64 {
	if phrased(word) {
		return 0.15 // most often a piece of a legal form
	}
	if generic[string(word)] {
		return 0.4
	}
	n := 0
	for i := 0; i < len(word) && n < 4; {
		r, size := utf8.DecodeRune(word[i:])
		if n++; size > 2 || unicode.IsDigit(r) {
			n++
		}
		i += size
	}
	return min(1, 0.25*float64(n))
}

func set(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

var articles = set("the of for and in at to a an de la le les des du del della di der die das und et y i v na al el")

// legalForms of many jurisdictions, in front or at the end.
var legalForms = set(`inc incorporated ltd limited llc llp lp plc corp corporation co company companies pty pte sdn bhd pvt
	gmbh ag kg ohg ug mbh sarl sas sasu sa spa srl snc bv nv vof ab as asa aps oy oyj kft zrt rt doo dd ad ead eood ood
	ooo oao zao pao ao fgup gup npo npp nii jsc ojsc cjsc pjsc tov pat at too uab sia ou kk gk yk godo kabushiki kaisha
	pt tbk cv sarlau eirl ltda eireli sapi sab rl ` + strings.Join(signForms, " "))

var generic = set(`university institute academy college school faculty department laboratory center science technology research national
	international state federal general central group holding holdings industry industries industrial trading trade enterprise enterprises
	association organization foundation society union federation committee commission council ministry agency bureau office service
	services system systems engineering development design production scientific technical military defense security bank fund
	hospital medical association brotherhood movement front army party force forces brigade brigades world global new unitary`)

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
