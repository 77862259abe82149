package sheet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// field is one meaning that a column can have.
type field struct {
	name     string
	list     bool     // several columns may have it; their cells are joined
	synonyms []string // best first
}

// fields holds the headers that mean a field. They are compared without case,
// spaces and punctuation, and whole: a part of a word decides nothing
// ("alternative_names" is no name, "program_id" no identifier).
var fields = []field{
	{"name", false, []string{"organization_name", "organisation_name", "entity_name", "full_name", "primary_name", "org_name", "company_name",
		"institution_name", "name of entity", "name of organization", "name of organisation", "legal_name", "official_name", "listed_name", "caption",
		"organization", "organisation", "entity", "company", "institution",
		"名称", "姓名", "机构名称", "单位名称", "组织名称", "实体名称", "公司名称", "企业名称", "中文名称", "名稱", "機構名稱", "機關名稱", "公司名稱", "中文名稱",
		"名前", "氏名", "組織名", "組織名称", "企業名", "企業・組織名", "団体名", "機関名", "会社名", "法人名", "名称（英語）", "名称（日本語）",
		"이름", "명칭", "기관명", "회사명", "название", "наименование", "nom", "nombre", "denominación", "denominazione", "nome"}},
	{"aliases", true, []string{"alias", "aka", "a.k.a.", "also_known_as", "alternative_names", "alternative_name", "alternate_names", "alternate_name",
		"other_names", "other_name", "known_alias", "known_aliases", "alias_names", "alias_name", "nicknames", "nickname", "synonyms", "former_names", "former_name",
		"previous_names", "previous_name", "fka", "f.k.a.", "formerly_known_as", "acronym", "acronyms", "abbreviation", "abbreviations", "weak_aliases", "weak_alias",
		"别名", "别称", "曾用名", "又称", "又名", "其他名称", "簡稱", "別稱", "别名/曾用名", "別名", "別称", "旧称", "通称", "略称", "その他名称",
		"별칭", "псевдоним", "псевдонимы", "другие названия", "alias connus"}},
	{"countries", true, []string{"country", "country_code", "country_codes", "country_name", "country/region", "country or region", "nation", "nationality", "nationalities",
		"jurisdiction", "国家", "国家/地区", "国家或地区", "国别", "所在国家", "国籍", "國家", "國家/地區", "國籍", "国", "国名", "国・地域", "国または地域", "所在国", "国名又は地域名",
		"국가", "국적", "страна", "страны", "pays", "país", "pais", "paese", "land"}},
	{"cities", true, []string{"city", "town", "city_name", "城市", "所在城市", "都市", "都市名", "市", "도시", "город", "ville", "ciudad", "stadt"}},
	{"latitude", false, []string{"lat", "纬度", "緯度", "위도", "широта"}},
	{"longitude", false, []string{"lon", "lng", "long", "经度", "經度", "経度", "경도", "долгота"}},
	{"schema_type", false, []string{"schema", "entity_type", "type", "category", "kind", "类型", "实体类型", "類型", "類別", "类别", "種別", "種類", "分類"}},
	{"external_id", false, []string{"id", "entity_id", "identifier", "external_ref", "uid", "reference_number", "ref_no", "reference", "ref", "code", "no.",
		"编号", "序号", "编码", "編號", "序號", "番号", "識別番号", "管理番号", "№"}},
	{"description", false, []string{"summary", "details", "notes", "note", "remarks", "comments", "comment", "additional_information",
		"描述", "简介", "备注", "说明", "描述信息", "備註", "説明", "備考", "概要", "descripción", "beschreibung"}},
	{"data_source_url", false, []string{"source_url", "source_link", "url", "link", "来源网址", "来源链接", "來源網址", "出典url", "情報源url"}},
	{"published_date", false, []string{"published", "date_published", "publication_date", "listing_date", "date_listed", "listed_on", "listed_date", "date_of_listing", "listed",
		"date_added", "first_seen", "发布日期", "公布日期", "列入日期", "發布日期", "公示日", "公表日", "掲載日"}},
	{"updated_date", false, []string{"updated", "date_updated", "updated_at", "last_updated", "update_date", "last_change", "last_modified", "modified", "modified_date",
		"reviewed", "date_reviewed", "last_reviewed", "更新日期", "修订日期", "更新日", "改訂日"}},
	{"properties", false, nil}, // the JSON object that WriteCSV writes
}

// halfNames are names that stand beside a main one, as aliases, or alone, as
// the name.
var halfNames = []string{"name_en", "name (en)", "english_name", "name (english)", "name in english", "original_name", "native_name", "local_name", "name (native)", "name (local)",
	"name_original_script", "name (original script)", "original_script", "short_name", "trade_name", "trading_name", "name_zh", "chinese_name", "name_ja", "japanese_name", "name_ru", "russian_name",
	"英文名称", "英文名", "英文名稱", "原文名称", "简称", "中文名", "英語名", "英語表記", "英語名称", "日本語名", "現地語名", "영문명", "국문명"}

// claim is what a header can mean; rank orders the claims on one field.
type claim struct{ field, rank int }

var claims, halfClaims = func() (map[string]claim, map[string]int) {
	all, half := map[string]claim{}, map[string]int{}
	for f, fd := range fields {
		all[plain(fd.name)] = claim{f, 0}
		for i, s := range fd.synonyms {
			if _, ok := all[plain(s)]; !ok {
				all[plain(s)] = claim{f, i + 1}
			}
		}
	}
	for i, s := range halfNames {
		half[plain(s)] = i
	}
	return all, half
}()

// plain leaves the letters and digits of a header, in lower case and one
// width. A header of signs alone ("№") is left as it is.
func plain(s string) string {
	out := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, norm.NFKC.String(s))
	if out == "" {
		return strings.TrimSpace(s)
	}
	return out
}

// fieldIndex gives the place of a field in fields, or -1.
func fieldIndex(name string) int {
	return slices.IndexFunc(fields, func(f field) bool { return f.name == name })
}

// mapColumns decides what each column means: what the caller gave, then a
// header that is the field's own name, then the best synonym, the leftmost of
// equals. Several columns may hold aliases, countries or cities; any other
// field is taken once. What is left is kept as a property of its header; a
// second column of one header gets the suffix _2. Two columns of one header
// that both claim a field of one value are an error: nobody could say which.
func mapColumns(header []string, given map[string]string, line int64) ([]Column, error) {
	cols := make([]Column, len(header))
	keys := make([]string, len(header))
	for i, h := range header {
		h = strings.Join(strings.Fields(strings.ReplaceAll(h, "\ufeff", "")), " ")
		if h == "" {
			h = fmt.Sprintf("column_%d", i+1)
		}
		h = cut(h, 100)
		cols[i], keys[i] = Column{Index: i, Header: h}, plain(h)
	}
	taken := make([]int, len(fields)) // column + 1
	take := func(i, f int, how string) {
		cols[i].Field, cols[i].How = fields[f].name, how
		if taken[f] == 0 {
			taken[f] = i + 1
		}
	}
	for _, h := range slices.Sorted(maps.Keys(given)) {
		i := slices.IndexFunc(cols, func(c Column) bool { return c.Header == h })
		if i < 0 {
			i = slices.Index(keys, plain(h))
		}
		f := fieldIndex(given[h])
		property := strings.HasPrefix(given[h], "properties.") && len(given[h]) > len("properties.")
		switch {
		case i < 0:
			return cols, fault(InvalidMapping, line, "%q?", h)
		case property:
			cols[i].Field, cols[i].How = given[h], "given"
		case f < 0:
			return cols, fault(InvalidMapping, line, "%q → %q?", h, given[h])
		case !fields[f].list && taken[f] > 0:
			return cols, fault(InvalidMapping, line, "%q, %q → %q", cols[taken[f]-1].Header, h, given[h])
		default:
			take(i, f, "given")
		}
	}
	for f, fd := range fields {
		best, bestRank := -1, 0
		for i, key := range keys {
			c, ok := claims[key]
			if cols[i].Field != "" || !ok || c.field != f {
				continue
			}
			if fd.list {
				take(i, f, how(c))
				continue
			}
			if best >= 0 && keys[best] == key && taken[f] == 0 {
				return cols, fault(DuplicateHeader, line, "%q: %d, %d", cols[i].Header, best+1, i+1)
			}
			if best < 0 || c.rank < bestRank {
				best, bestRank = i, c.rank
			}
		}
		if best >= 0 && taken[f] == 0 {
			take(best, f, how(claim{f, bestRank}))
		}
	}
	name, aliases := fieldIndex("name"), fieldIndex("aliases")
	if taken[name] == 0 {
		best, bestRank := -1, len(halfNames)
		for i, key := range keys {
			if rank, ok := halfClaims[key]; ok && cols[i].Field == "" && rank < bestRank {
				best, bestRank = i, rank
			}
		}
		if best >= 0 {
			take(best, name, "synonym")
		}
	}
	for i, key := range keys {
		if _, ok := halfClaims[key]; ok && cols[i].Field == "" {
			take(i, aliases, "synonym")
		}
	}
	known := slices.ContainsFunc(cols, func(c Column) bool { return c.Field != "" })
	nameProperties(cols)
	switch {
	case taken[name] > 0:
		return cols, nil
	case !known && slices.ContainsFunc(header, likeData):
		return cols, fault(NoHeader, line, "%s", cut(strings.Join(header, " | "), 200))
	}
	return cols, fault(NoNameColumn, line, "%s", cut(strings.Join(header, " | "), 200))
}

// nameProperties keeps the columns that mean no field as properties of their
// headers.
func nameProperties(cols []Column) {
	properties := map[string]int{}
	for i, c := range cols {
		if c.Field == "" {
			cols[i].Field, cols[i].How = "properties."+c.Header, "property"
			if properties[c.Header]++; properties[c.Header] > 1 {
				cols[i].Field += fmt.Sprintf("_%d", properties[c.Header])
			}
		}
	}
}

func how(c claim) string {
	if c.rank == 0 {
		return "exact"
	}
	return "synonym"
}

// likeData reports whether a cell is more likely a value than a header.
func likeData(h string) bool {
	h = strings.TrimSpace(h)
	return h == "" || len(h) > 60 || unicode.IsDigit(rune(h[0])) || strings.Contains(h, "://") || strings.Contains(h, ";")
}

// cut shortens s to at most n bytes and whole runes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
