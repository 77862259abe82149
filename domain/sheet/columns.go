package sheet

import (
	"fmt"
	"strings"
	"unicode"
)

// synonyms are the headers that mean a field, compared without case, spaces
// and punctuation. They are compared whole: a part of a word decides nothing
// ("alternative_names" is not "name").
var synonyms = map[string][]string{
	"name": {"organization_name", "organisation_name", "organization", "organisation", "org_name", "entity_name", "entity", "company",
		"company_name", "institution", "institution_name", "full_name", "caption", "primary_name", "名称", "机构名称", "单位名称", "公司名称", "企业名称", "名前", "名称（英語）", "組織名", "企業名", "機関名"},
	"aliases": {"alias", "aka", "a.k.a.", "also_known_as", "alternative_names", "alternative_name", "alternate_names", "other_names", "other_name",
		"known_alias", "known_aliases", "former_names", "previous_names", "acronym", "acronyms", "别名", "曾用名", "又称", "別名", "別称"},
	"countries":       {"country", "country_code", "nation", "nationality", "jurisdiction", "国家", "国家/地区", "国", "国名", "国・地域"},
	"cities":          {"city", "town", "城市", "都市"},
	"latitude":        {"lat", "纬度", "緯度"},
	"longitude":       {"lon", "lng", "long", "经度", "経度"},
	"schema_type":     {"schema", "type", "entity_type", "category", "类型", "種別"},
	"external_id":     {"id", "identifier", "ref", "reference", "entity_id", "编号", "番号"},
	"description":     {"notes", "note", "remarks", "comment", "comments", "details", "描述", "备注", "備考", "説明"},
	"data_source_url": {"source_url", "url", "link", "source_link", "来源网址"},
	"published_date":  {"published", "date_published", "listed", "listed_on", "date_listed", "listing_date", "first_seen", "发布日期", "公示日"},
	"updated_date":    {"updated", "date_updated", "last_updated", "modified", "last_change", "reviewed", "更新日期", "更新日"},
}

var fieldOf = func() map[string]string {
	out := map[string]string{}
	for field, words := range synonyms {
		for _, w := range words {
			out[plain(w)] = field
		}
	}
	return out
}()

func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// mapColumns decides what each column means: what the caller gave, then a
// header that is the field's own name, then a synonym. A field is taken once,
// by the best claim; every other column is kept as a property of its header.
func mapColumns(header []string, given map[string]string) ([]Column, error) {
	cols := make([]Column, len(header))
	taken, seen := map[string]bool{}, map[string]int{}
	for i, h := range header {
		h = strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))
		if h == "" {
			h = fmt.Sprintf("column_%d", i+1)
		}
		if first, ok := seen[plain(h)]; ok && plain(h) != "" {
			return nil, &FileError{"duplicate_header", fmt.Sprintf("%s (%q, columns %d and %d)", Messages["duplicate_header"][0], h, first+1, i+1), 1}
		}
		seen[plain(h)] = i
		cols[i] = Column{Index: i, Header: h}
	}
	claim := func(how string, field func(Column) string) {
		for i := range cols {
			f := field(cols[i])
			if cols[i].Field == "" && f != "" && !taken[f] {
				cols[i].Field, cols[i].How, taken[f] = f, how, true
			}
		}
	}
	claim("given", func(c Column) string {
		if _, ok := synonyms[given[c.Header]]; ok {
			return given[c.Header]
		}
		return ""
	})
	claim("exact", func(c Column) string {
		f := strings.ToLower(strings.ReplaceAll(c.Header, " ", "_"))
		if _, ok := synonyms[f]; ok {
			return f
		}
		return ""
	})
	claim("synonym", func(c Column) string { return fieldOf[plain(c.Header)] })
	for i := range cols {
		if cols[i].Field == "" {
			cols[i].Field, cols[i].How = "properties."+cols[i].Header, "property"
		}
	}
	if !taken["name"] {
		return nil, &FileError{"no_name_column", Messages["no_name_column"][0], 1}
	}
	return cols, nil
}
