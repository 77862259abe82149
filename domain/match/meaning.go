package match

import "strings"

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
	if legalForms[string(word)] || nearlyLegal(string(word)) {
		return legal, nil
	}
	return plain, nil
}

// cutLegal parts the legal form from a name in a script without spaces.
func cutLegal(s string) (front, name, back string) {
	for _, form := range signForms {
		if rest, ok := strings.CutSuffix(s, form); ok && rest != "" {
			return "", rest, form
		}
		if rest, ok := strings.CutPrefix(s, form); ok && rest != "" {
			return form, rest, ""
		}
	}
	return "", s, ""
}

// signForms, the longer ones first.
var signForms = strings.Fields("股份有限公司 有限责任公司 有限責任公司 有限公司 株式会社 有限会社 合同会社 주식회사 유한회사")

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

var longForms = []string{"limited", "company", "corporation", "incorporated", "companies"}

// slipOfLittle reports a word one slip away from an article or a legal form: it
// may well be one.
func slipOfLittle(word []byte) bool {
	if len(word) < 2 || len(word) > 9 {
		return false
	}
	for _, form := range little {
		if d := len(word) - len(form); -1 <= d && d <= 1 && LevenshteinDistance(string(word), form) == 1 {
			return true
		}
	}
	return false
}

// little are the articles and legal forms of three letters or more.
var little = func() (out []string) {
	for _, table := range []map[string]bool{articles, legalForms} {
		for w := range table {
			if len(w) >= 3 && w[0] < 0x80 {
				out = append(out, w)
			}
		}
	}
	return out
}()

// commonness is the most that words may weigh which name a kind of body or of
// business everywhere, however rare they are in the list at hand: in a list of
// ten names every word is rare.
func commonness(word []byte) float64 {
	if generic[string(word)] {
		return 0.4
	}
	return 1
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
	hospital medical association brotherhood movement front army party force forces brigade brigades world global new`)

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
