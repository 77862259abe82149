package api

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/chainreactions/chainreactions/domain"
)

// maxDepth is how deep the values of a body may nest: no request of ours needs
// a tenth of it, and a decoder that recurses must not be led further.
const maxDepth = 32

// strictJSON refuses what encoding/json would let through: a name that occurs
// twice in one object (the two readers of a request would each believe another
// one, RFC 8259 §4), deep nesting, and text that is not UTF-8. It runs before
// anything is decoded and allocates for objects of many names only.
func strictJSON(body []byte) error {
	if !utf8.Valid(body) {
		return domain.E(domain.Malformed, "malformed_json", "The body is not JSON: %s.", "it is not UTF-8")
	}
	if !json.Valid(body) {
		var probe any
		return domain.E(domain.Malformed, "malformed_json", "The body is not JSON: %s.", jsonFault(json.Unmarshal(body, &probe)))
	}
	// What follows may trust the grammar: it walks the tokens that matter.
	var open [maxDepth]struct {
		object bool
		first  int // where its names begin in names
	}
	depth := 0
	var held [64][]byte
	names := held[:0]
	wantName := false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case '{', '[':
			if depth == maxDepth {
				return domain.E(domain.Malformed, "nested_too_deeply", "The body nests more than %d levels deep.", maxDepth)
			}
			open[depth].object, open[depth].first = c == '{', len(names)
			depth++
			wantName = c == '{'
		case '}', ']':
			depth--
			names = names[:open[depth].first]
			wantName = false
		case ',':
			wantName = open[depth-1].object
		case '"':
			end := i + 1
			for body[end] != '"' {
				if body[end] == '\\' {
					end++
				}
				end++
			}
			if wantName {
				name := body[i+1 : end]
				if bytes.IndexByte(name, '\\') >= 0 { // "\u0061" and "a" are one name
					var plain string
					_ = json.Unmarshal(body[i:end+1], &plain)
					name = []byte(plain)
				}
				for _, before := range names[open[depth-1].first:] {
					if bytes.Equal(before, name) {
						return domain.E(domain.Malformed, "duplicate_name", "The body has the name %q twice in one object.", string(name))
					}
				}
				names = append(names, name)
				wantName = false
			}
			i = end
		}
	}
	return nil
}

var _ = domain.Chinese(map[string]string{
	"The body nests more than %d levels deep.":      "请求体的嵌套超过 %d 层。",
	"The body has the name %q twice in one object.": "请求体的同一对象中名称 %q 出现了两次。",
	"This parameter is given more than once.":       "该参数出现了多次。",
	"The Host header does not name one host.":       "Host 请求头没有指明唯一的主机。",
	"Too many streams are open.":                    "打开的事件流过多。",
	"This comes from another site.":                 "该请求来自其他网站。",
	"The request header is too large.":              "请求头过大。",
	"The body is too large.":                        "请求体过大。",
	"The request is not readable as HTTP.":          "无法将该请求读作 HTTP。",
})
