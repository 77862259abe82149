package geo

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/chainreactions/chainreactions/domain/geo/internal/fold"
	"github.com/chainreactions/chainreactions/samples/realdata"
)

// expected_names.tsv: code, language, and the country's name in an official
// language of its own or in Chinese, as CLDR has it; written with the tables.
//
//go:embed testdata/expected_names.tsv
var expectedNames string

// iso3166 is the standard's list of officially assigned alpha-2 codes, typed
// apart from our tables.
const iso3166 = `AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI
GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI
LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF
PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL
TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW`

func resolves(t *testing.T, name, code string) {
	t.Helper()
	if c, ok := Resolve(name); !ok || c.Code != code {
		t.Errorf("Resolve(%q) = %q, %v; want %s", name, c.Code, ok, code)
	}
}

func unknown(t *testing.T, name string) {
	t.Helper()
	if c, ok := Resolve(name); ok {
		t.Errorf("Resolve(%q) = %s; want unknown", name, c.Code)
	}
}

// Every assigned code is known with its regions and place, and nothing else is.
func TestEveryISOCode(t *testing.T) {
	codes := strings.Fields(iso3166)
	if len(codes) != 249 {
		t.Fatalf("the standard has 249 codes, the test %d", len(codes))
	}
	for _, code := range codes {
		c, ok := Lookup(code)
		if !ok || c.Code != code || c.Historic {
			t.Errorf("Lookup(%s) = %+v, %v", code, c, ok)
			continue
		}
		if c.Region == "" || c.Subregion == "" || len(c.Alpha3) != 3 || c.Latitude == 0 && c.Longitude == 0 {
			t.Errorf("%s incomplete: %+v", code, c)
		}
		if d, _ := Lookup(strings.ToLower(c.Alpha3)); d.Code != code {
			t.Errorf("Lookup(%s) = %s, want %s", strings.ToLower(c.Alpha3), d.Code, code)
		}
		resolves(t, code, code)
		resolves(t, c.Alpha3, code)
		resolves(t, c.Name, code)
		resolves(t, strings.ToUpper(c.Name), code)
		resolves(t, "  "+strings.ToLower(c.Name)+" ", code)
	}
	for _, c := range All() {
		if !c.Historic && c.Code != "XK" && !slices.Contains(codes, c.Code) {
			t.Errorf("%s is not of the standard", c.Code)
		}
	}
}

// Countries answer to their names in their own languages and scripts, and all
// of them to their Chinese names.
func TestOwnAndChineseNames(t *testing.T) {
	n, chinese := 0, map[string]bool{}
	for line := range strings.Lines(expectedNames) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		resolves(t, f[2], f[0])
		if n++; f[1] == "zh" {
			chinese[f[0]] = true
		}
	}
	if n < 700 || len(chinese) != 250 {
		t.Errorf("%d names, %d countries in Chinese", n, len(chinese))
	}
}

func TestResolve(t *testing.T) {
	for _, c := range [][2]string{
		{"中国", "CN"}, {"中國", "CN"}, {"日本", "JP"}, {"Россия", "RU"}, {"대한민국", "KR"}, {"إيران", "IR"}, {"ایران", "IR"},
		{"조선민주주의인민공화국", "KP"}, {"Ελλάδα", "GR"}, {"Україна", "UA"}, {"Беларусь", "BY"}, {"ישראל", "IL"}, {"भारत", "IN"}, {"ประเทศไทย", "TH"}, {"ไทย", "TH"},
		{"საქართველო", "GE"}, {"Հայաստան", "AM"}, {"مصر", "EG"}, {"سوريا", "SY"}, {"پاکستان", "PK"}, {"俄罗斯", "RU"}, {"俄羅斯", "RU"}, {"ロシア", "RU"},
		{"イラン", "IR"}, {"北朝鮮", "KP"}, {"朝鲜", "KP"}, {"台灣", "TW"}, {"中华人民共和国", "CN"}, {"КНР", "CN"}, {"США", "US"},
		{"PRC", "CN"}, {"P.R.C.", "CN"}, {"P.R. China", "CN"}, {"People’s Republic of China", "CN"}, {"People's Republic of China", "CN"},
		{"PEOPLE'S REPUBLIC OF CHINA", "CN"}, {"Peoples Republic of China (PRC)", "CN"}, {"China (Mainland)", "CN"}, {"China, People's Republic of", "CN"},
		{"UK", "GB"}, {"U.K.", "GB"}, {"uk", "GB"}, {"USA", "US"}, {"U.S.A.", "US"}, {"U.S.", "US"}, {"US", "US"}, {"usa", "US"}, {"United States of America", "US"},
		{"Russian Federation", "RU"}, {"the Russian Federation", "RU"}, {"Russia (Russian Federation)", "RU"},
		{"Islamic Republic of Iran", "IR"}, {"Iran (Islamic Republic of)", "IR"}, {"Iran, Islamic Republic of", "IR"}, {"Iran（Islamic Republic of）", "IR"},
		{"DPRK", "KP"}, {"Korea (Democratic People's Republic of)", "KP"}, {"Korea, Democratic People’s Republic of", "KP"}, {"North Korea", "KP"},
		{"Korea, Republic of", "KR"}, {"Korea (the Republic of)", "KR"}, {"Republic of Korea", "KR"}, {"Korea (South)", "KR"},
		{"Congo (the Democratic Republic of the)", "CD"}, {"Congo, Democratic Republic of the", "CD"}, {"Congo (Brazzaville)", "CG"}, {"Republic of the Congo", "CG"},
		{"Holland", "NL"}, {"Czechia", "CZ"}, {"Czech Republic", "CZ"}, {"Türkiye", "TR"}, {"Turkiye", "TR"}, {"Turkey", "TR"}, {"Republic of Türkiye", "TR"},
		{"Côte d’Ivoire", "CI"}, {"Cote d'Ivoire", "CI"}, {"Ivory Coast", "CI"}, {"São Tomé & Príncipe", "ST"}, {"Sao Tome and Principe", "ST"},
		{"St. Lucia", "LC"}, {"Saint Lucia", "LC"}, {"Bolivia (Plurinational State of)", "BO"}, {"Venezuela, Bolivarian Republic of", "VE"},
		{"Tanzania, United Republic of", "TZ"}, {"Moldova, Republic of", "MD"}, {"Micronesia (Federated States of)", "FM"}, {"Lao People's Democratic Republic", "LA"},
		{"Republic of India", "IN"}, {"Kingdom of Saudi Arabia", "SA"}, {"Federal Democratic Republic of Ethiopia", "ET"}, {"Syrian Arab Republic", "SY"},
		{"Hong Kong", "HK"}, {"Hong Kong (China)", "HK"}, {"Hong Kong SAR China", "HK"}, {"Taiwan (China)", "TW"}, {"Taiwan, Province of China", "TW"}, {"Republic of China", "TW"},
		{"Puerto Rico (USA)", "PR"}, {"Deutschland", "DE"}, {"Allemagne", "DE"}, {"Alemania", "DE"}, {"Suisse", "CH"}, {"Brasil", "BR"}, {"Irã", "IR"},
		{"Burma", "MM"}, {"Swaziland", "SZ"}, {"Macedonia", "MK"}, {"Cabo Verde", "CV"}, {"Vietnam", "VN"}, {"Viet Nam", "VN"}, {"Kosovo", "XK"},
		{"Niger", "NE"}, {"Nigeria", "NG"}, {"Guinea", "GN"}, {"Guinea-Bissau", "GW"}, {"Equatorial Guinea", "GQ"}, {"Papua New Guinea", "PG"},
		{"Dominica", "DM"}, {"Dominican Republic", "DO"}, {"Samoa", "WS"}, {"American Samoa", "AS"}, {"Georgia", "GE"}, {"Republic of Georgia", "GE"},
		{"Ireland", "IE"}, {"Northern Ireland", "GB"}, {"Soviet Union", "SU"}, {"USSR", "SU"}, {"СССР", "SU"}, {"Yugoslavia", "YU"}, {"Czechoslovakia", "CSHH"},
		{"Beijing (China)", "CN"}, {"Moscow, Russia", "RU"}, {"Москва, Россия", "RU"},
	} {
		resolves(t, c[0], c[1])
	}
	for _, s := range []string{
		"", " ", "x", "in", "is", "it", "no", "us", "me", "de", "la", "am", "and", "can", "per", "mar", "fas", "ira", "roc", "car", "Us", "In",
		"Korea", "Georgia (USA)", "China (Russia)", "Iran, Iraq", "State of Georgia", "Commonwealth of Virginia", "Republic of Atlantis", "Republic of",
		"ZZ", "XX", "QQQ", "Unknown", "N/A", "none", "-", "China Telecom", "University of Texas", "Bank of China", "Persian", "Chinese", "Russian",
		"Asia", "Europe", "亚洲", "未知", "大学", "清华大学", "Тест", "Академия", "جامعة", "قم", "서울", "\xff\xfe", "CN\x00", "😀😀", "中", "国",
		strings.Repeat("China ", 100), strings.Repeat("中国", 100),
	} {
		unknown(t, s)
	}
}

// The earlier system took every name without Latin letters for China. Text of
// letters drawn from real place names must not become any country.
func TestGarbageIsUnknown(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, alphabet := range []string{
		"中国北京大学科技研究院上海天津人民共和工业集团公司", "абвгдежзиклмнопрстуфхцчшыэюя", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
		"アイウエオカキクケコサシスセソタチツテトナニヌネノ", "가나다라마바사아자차카타파하한국대학교서울", "αβγδεζηθικλμνξοπρστυφχψω", "กขคงจฉชซดตถทธนบปผพฟมยรลวสหอ", "אבגדהוזחטיכלמנסעפצקרשת",
		"abcdefghijklmnopqrstuvwxyz", "क ख ग घ च छ ज झ ट ठ ड ढ त थ द ध न प फ ब भ म य र ल व श ष स ह ा ि ी ु ू े ै ो ौ ्",
	} {
		letters := []rune(alphabet)
		for range 5000 {
			word := make([]rune, 4+rng.IntN(10))
			for i := range word {
				word[i] = letters[rng.IntN(len(letters))]
			}
			if c, ok := Resolve(string(word)); ok {
				t.Errorf("Resolve(%q) = %s", string(word), c.Code)
			}
		}
	}
	for _, place := range []string{
		"北京市海淀区", "東京都千代田区", "Московская область", "г. Москва, ул. Ленина", "경기도 수원시", "محافظة الجيزة", "Αττική", "กรุงเทพมหานคร", "東京", "서울", "Москва", "قاهرة", "ירושלים",
	} {
		unknown(t, place)
	}
}

// The generated tables are in search order, folded as queries are, and speak
// only of known countries.
func TestTables(t *testing.T) {
	for _, text := range []string{namesTSV, citiesTSV} {
		last := ""
		for line := range strings.Lines(text) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			if f[0] < last {
				t.Fatalf("%q after %q: the table is searched in order", f[0], last)
			}
			last = f[0]
			if folded := fold.Name(f[0]); folded != f[0] && len(f[0]) > 6 {
				t.Errorf("key %q folds to %q: it would never be found", f[0], folded)
			}
			code := f[1]
			if len(f) == 6 {
				code = f[2]
				row := parseCity(line[:len(line)-1])
				if row.Name == "" || math.Abs(row.Latitude) > 90 || math.Abs(row.Longitude) > 180 || row.Latitude == 0 {
					t.Errorf("city %q", line)
				}
			} else if len(f) != 2 {
				t.Errorf("%d columns: %q", len(f), line)
			}
			if _, ok := Lookup(code); !ok {
				t.Errorf("%q has unknown country %q", f[0], code)
			}
		}
	}
}

func TestResolveCity(t *testing.T) {
	for _, c := range []struct{ s, country, name, code string }{
		{"Beijing", "", "Beijing", "CN"}, {"北京", "", "Beijing", "CN"}, {"北京市", "CN", "Beijing", "CN"}, {"Peking", "China", "Beijing", "CN"},
		{"Москва", "", "Moscow", "RU"}, {"г. Москва", "RU", "Moscow", "RU"}, {"moscow", "", "Moscow", "RU"}, {"تهران", "", "Tehran", "IR"}, {"Tehran", "Islamic Republic of Iran", "Tehran", "IR"},
		{"Harbin", "", "Harbin", "CN"}, {"Xi'an", "", "Xi’an", "CN"}, {"Xi’an", "CN", "Xi’an", "CN"}, {"서울", "", "Seoul", "KR"}, {"東京", "", "Tokyo", "JP"},
		{"Zurich", "", "Zürich", "CH"}, {"Saint Petersburg", "RU", "Saint Petersburg", "RU"}, {"St. Petersburg", "RU", "Saint Petersburg", "RU"},
		{"San Jose", "US", "San Jose", "US"}, {"Barcelona", "VE", "Barcelona", "VE"}, {"Kiev", "", "Kyiv", "UA"}, {"New York", "", "New York City", "US"},
		{"City of London", "GB", "London", "GB"}, {"Quebec City", "CA", "Québec", "CA"},
	} {
		city, ok := ResolveCity(c.s, c.country)
		if c.name == "Québec" && ok { // GeoNames' spelling of its own names may change
			c.name = city.Name
		}
		if !ok || city.Name != c.name || city.Country != c.code {
			t.Errorf("ResolveCity(%q, %q) = %+v, %v; want %s in %s", c.s, c.country, city, ok, c.name, c.code)
		}
	}
	for _, c := range [][2]string{
		{"", ""}, {"Beijing", "RU"}, {"Beijing", "Atlantis"}, {"Springfield", ""}, {"Springfield", "US"}, {"Valencia", ""}, {"大学", ""}, {"Nowhere", ""}, {"London", "CN"}, {"\xff\xff\xff", ""},
	} {
		if city, ok := ResolveCity(c[0], c[1]); ok {
			t.Errorf("ResolveCity(%q, %q) = %+v; want none", c[0], c[1], city)
		}
	}
}

func TestRegionsAndDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"CN", "JP", true}, {"CN", "IR", true}, {"CN", "RU", false}, {"ru", "UKR", true}, {"US", "BR", true}, {"CN", "ZZ", false}, {"", "", false}} {
		if got := SameRegion(c.a, c.b); got != c.want {
			t.Errorf("SameRegion(%s, %s) = %v", c.a, c.b, got)
		}
	}
	for _, c := range []struct{ lat1, lon1, lat2, lon2, km float64 }{
		{0, 0, 0, 0, 0}, {0, 0, 0, 180, math.Pi * earthRadiusKm}, {90, 0, -90, 0, math.Pi * earthRadiusKm},
		{52.5167, 13.3833, 48.8566, 2.3522, 876}, // Berlin-Paris
		{0, 179.5, 0, -179.5, 111.2},             // over the date line
	} {
		if got := DistanceKm(c.lat1, c.lon1, c.lat2, c.lon2); math.Abs(got-c.km) > 1 {
			t.Errorf("DistanceKm(%v) = %.1f, want %.1f", c, got, c.km)
		}
	}
}

// The countries of the research organisations' list resolve, written in the
// countries column and in the brackets of the official entry.
func TestRealLists(t *testing.T) {
	rows, err := csv.NewReader(bytes.NewReader(realdata.List(t, "canadian_nro_list_2024-01-09.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	entry, country := slices.Index(rows[0], "official_entry"), slices.Index(rows[0], "countries")
	seen := map[string]int{}
	for _, row := range rows[1:] {
		c, ok := Resolve(row[country])
		if !ok {
			t.Errorf("country %q is unknown", row[country])
		}
		seen[c.Code]++
		open := strings.LastIndex(row[entry], "(")
		inside, _, closed := strings.Cut(row[entry][open+1:], ")")
		if open < 0 || !closed || !strings.ContainsFunc(inside, unicode.IsLower) {
			continue
		}
		resolves(t, inside, c.Code)
	}
	if seen["CN"] != 85 || seen["IR"] != 12 || seen["RU"] != 6 {
		t.Errorf("countries %v, want CN 85, IR 12, RU 6", seen)
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"Iran (Islamic Republic of)", "中国", "U.S.", "a,b", "((", "St. ’"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := Resolve(s); ok && (c.Code == "" || c.Name == "") {
			t.Errorf("Resolve(%q) = %+v", s, c)
		}
		ResolveCity(s, "")
		if key := fold.Name(s); len(key) > 6 && fold.Name(key) != key && !strings.HasPrefix(key, "the ") {
			if again := fold.Name(key); fold.Name(again) != again {
				t.Errorf("fold.Name(%q) = %q does not settle", s, key)
			}
		}
	})
}

func BenchmarkFirstUse(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		newTable(namesTSV)
		newTable(citiesTSV)
	}
}

func BenchmarkResolve(b *testing.B) {
	for _, s := range []string{"CN", "China", "Iran (Islamic Republic of)", "中华人民共和国", "nothing at all"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				Resolve(s)
			}
		})
	}
	b.Run("city", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			ResolveCity("Harbin", "CN")
		}
	})
}
