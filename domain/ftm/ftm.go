// Package ftm is the FollowTheMoney model: which schemata there are, what each
// inherits, which properties it has and of which type, and the entity that is
// written in it. Callers need not know the model's file; they ask a Schema.
//
// model.json is cut from defaultModel.json of the npm package
// @opensanctions/followthemoney 4.5.2 (MIT, © 2019 Journalism Development
// Network, Inc.): labels, descriptions and the reverse ("stub") side of
// relations are left out, one schema a line. https://followthemoney.tech
//
// Entities of the world are older and newer than our copy of the model, so
// reading is tolerant (a value may be a string, a number, a nested entity) and
// Validate tells what does not fit instead of refusing it.
package ftm

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Property is what a schema says about one of its properties.
type Property struct {
	Name      string
	Schema    string // that declares it
	Type      string // name, country, date, url, identifier, entity, ...
	Range     string // of an entity property: the schema that it points to
	MaxLength int    // runes; 0 is no limit
}

// Edge says how an entity of a schema is drawn as a line between two others.
type Edge struct {
	Source   string `json:"source"` // a property
	Target   string `json:"target"` // a property
	Directed bool   `json:"directed"`
	Label    string `json:"label"` // "owns"
}

// Schema is one kind of entity.
type Schema struct {
	Name      string
	Extends   []string
	Abstract  bool
	Matchable bool
	Required  []string // with those of its ancestors
	Caption   []string // properties, first filled one wins
	Edge      *Edge
	ancestors []string // itself first
	props     map[string]Property
}

// IsA reports whether the schema is the named one or inherits from it.
func (s *Schema) IsA(name string) bool { return slices.Contains(s.ancestors, name) }

// Property looks up a property, inherited ones included.
func (s *Schema) Property(name string) (Property, bool) {
	p, ok := s.props[name]
	return p, ok
}

// Properties gives the names of all properties in order.
func (s *Schema) Properties() []string { return slices.Sorted(maps.Keys(s.props)) }

// Lookup finds a schema by its name, which is case-sensitive in the model.
func Lookup(name string) (*Schema, bool) {
	s, ok := model().schemata[name]
	return s, ok
}

// Schemata gives the names of all schemata in order.
func Schemata() []string { return slices.Sorted(maps.Keys(model().schemata)) }

// Version is that of the model.
func Version() string { return model().version }

// KnownCountry reports whether the model has the country code (lower case; the
// model has more than ISO 3166: the Soviet Union is "suhh").
func KnownCountry(code string) bool { return model().countries[code] }

// KnownTopic reports whether the model has the topic, e.g. "sanction".
func KnownTopic(topic string) bool { return model().topics[topic] }

type known struct {
	version           string
	schemata          map[string]*Schema
	countries, topics map[string]bool
}

//go:embed model.json
var modelJSON []byte

// model reads the embedded file once. A fault in it is ours, found by the
// first test, and so it panics.
var model = sync.OnceValue(func() *known {
	var file struct {
		Version           string
		Lengths           map[string]int
		Countries, Topics []string
		Schemata          map[string]struct {
			Extends, Required, Caption []string
			Abstract, Matchable        bool
			Edge                       *Edge
			Properties                 map[string]string // name: type[:range][/length]
		}
	}
	if err := json.Unmarshal(modelJSON, &file); err != nil {
		panic("ftm: model.json: " + err.Error())
	}
	k := &known{version: file.Version, schemata: map[string]*Schema{}, countries: set(file.Countries), topics: set(file.Topics)}
	var build func(name string) *Schema
	build = func(name string) *Schema {
		if s := k.schemata[name]; s != nil {
			return s
		}
		in, ok := file.Schemata[name]
		if !ok {
			panic("ftm: model.json: no schema " + name)
		}
		s := &Schema{Name: name, Extends: in.Extends, Abstract: in.Abstract, Matchable: in.Matchable, Edge: in.Edge,
			Caption: in.Caption, ancestors: []string{name}, props: map[string]Property{}}
		for _, parent := range in.Extends {
			p := build(parent)
			for _, a := range p.ancestors {
				if !slices.Contains(s.ancestors, a) {
					s.ancestors = append(s.ancestors, a)
				}
			}
			maps.Copy(s.props, p.props)
			s.Required = append(s.Required, p.Required...)
			if len(s.Caption) == 0 {
				s.Caption = p.Caption
			}
			if s.Edge == nil {
				s.Edge = p.Edge
			}
		}
		for _, r := range in.Required {
			if !slices.Contains(s.Required, r) {
				s.Required = append(s.Required, r)
			}
		}
		for prop, spec := range in.Properties {
			p := Property{Name: prop, Schema: name}
			spec, length, limited := strings.Cut(spec, "/")
			p.Type, p.Range, _ = strings.Cut(spec, ":")
			if p.MaxLength = file.Lengths[p.Type]; limited {
				p.MaxLength, _ = strconv.Atoi(length)
			}
			s.props[prop] = p
		}
		k.schemata[name] = s
		return s
	}
	for name := range file.Schemata {
		build(name)
	}
	return k
})

func set(words []string) map[string]bool {
	out := make(map[string]bool, len(words))
	for _, w := range words {
		out[w] = true
	}
	return out
}

// Entity is one thing or one relation, as it stands in a line of a
// FollowTheMoney file.
type Entity struct {
	ID         string              `json:"id"`
	Schema     string              `json:"schema"`
	Caption    string              `json:"caption,omitempty"`
	Properties map[string][]string `json:"properties"`
	Referents  []string            `json:"referents,omitempty"`
	Datasets   []string            `json:"datasets,omitempty"`
	FirstSeen  string              `json:"first_seen,omitempty"`
	LastSeen   string              `json:"last_seen,omitempty"`
	LastChange string              `json:"last_change,omitempty"`
}

// Add appends values to a property, without empty ones and repetitions.
func (e *Entity) Add(property string, values ...string) {
	for _, v := range values {
		if v == "" || slices.Contains(e.Properties[property], v) {
			continue
		}
		if e.Properties == nil {
			e.Properties = map[string][]string{}
		}
		e.Properties[property] = append(e.Properties[property], v)
	}
}

// First gives the first value of a property, or "".
func (e *Entity) First(property string) string {
	if v := e.Properties[property]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Name gives the entity's caption where it has one, else the first value of
// the properties that its schema is captioned by, else the identifier.
func (e *Entity) Name() string {
	if e.Caption != "" {
		return e.Caption
	}
	caption := []string{"name", "alias"}
	if s, ok := Lookup(e.Schema); ok {
		caption = s.Caption
	}
	for _, p := range caption {
		if v := e.First(p); v != "" {
			return v
		}
	}
	return e.ID
}

// UnmarshalJSON reads an entity as leniently as its meaning allows: a property
// may hold one value or a list; a number or truth value is its text; a nested
// entity stands for its identifier; null is nothing.
func (e *Entity) UnmarshalJSON(data []byte) error {
	type plain Entity
	var in struct {
		plain
		Properties map[string]values `json:"properties"`
	}
	if err := json.Unmarshal(data, &in.plain); err == nil { // the ordinary file: lists of strings
		*e = Entity(in.plain)
	} else if err := json.Unmarshal(data, &in); err != nil {
		return err
	} else {
		*e = Entity(in.plain)
		e.Properties = make(map[string][]string, len(in.Properties))
		for name, v := range in.Properties {
			e.Properties[name] = v
		}
	}
	for name, v := range e.Properties {
		if v = slices.DeleteFunc(v, func(s string) bool { return s == "" }); len(v) == 0 {
			delete(e.Properties, name)
		} else {
			e.Properties[name] = v
		}
	}
	return nil
}

type values []string

func (v *values) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(data, &list); err != nil {
			return err
		}
		for _, one := range list {
			if s, ok := text(one); ok {
				*v = append(*v, s)
			}
		}
		return nil
	}
	if s, ok := text(data); ok {
		*v = values{s}
	}
	return nil
}

func text(data json.RawMessage) (string, bool) {
	switch {
	case len(data) == 0 || data[0] == 'n' || data[0] == '[':
		return "", false
	case data[0] == '"':
		var s string
		err := json.Unmarshal(data, &s)
		return s, err == nil
	case data[0] == '{':
		var nested struct{ ID string }
		err := json.Unmarshal(data, &nested)
		return nested.ID, err == nil && nested.ID != ""
	}
	return string(data), true // a number, true, false
}

// Problem is one thing in an entity that the model does not allow.
type Problem struct {
	Property string // "" for the entity itself
	Code     string // missing_id, unknown_schema, abstract_schema, unknown_property, missing_required, too_long, invalid_value
	Value    string
}

func (p Problem) String() string { return fmt.Sprintf("%s %s %q", p.Code, p.Property, p.Value) }

// Validate compares the entity with the model, properties in order.
func (e *Entity) Validate() []Problem {
	var out []Problem
	if e.ID == "" {
		out = append(out, Problem{Code: "missing_id"})
	}
	s, ok := Lookup(e.Schema)
	if !ok {
		return append(out, Problem{Code: "unknown_schema", Value: e.Schema})
	}
	if s.Abstract {
		out = append(out, Problem{Code: "abstract_schema", Value: e.Schema})
	}
	for _, r := range s.Required {
		if len(e.Properties[r]) == 0 {
			out = append(out, Problem{Property: r, Code: "missing_required"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Properties)) {
		p, ok := s.Property(name)
		if !ok {
			out = append(out, Problem{Property: name, Code: "unknown_property"})
			continue
		}
		for _, v := range e.Properties[name] {
			if p.MaxLength > 0 && utf8.RuneCountInString(v) > p.MaxLength {
				out = append(out, Problem{name, "too_long", v})
			} else if !p.Allows(v) {
				out = append(out, Problem{name, "invalid_value", v})
			}
		}
	}
	return out
}

// date is ISO 8601 down to any precision, as the model has it.
var date = regexp.MustCompile(`^[12]\d{3}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])([T ]\d{2}(:\d{2}(:\d{2}(\.\d{1,9})?)?)?(Z|[+-]\d{2}:?\d{2})?)?)?)?$`)

// Allows reports whether the value is of the property's type. Types that are
// free text allow everything that is valid UTF-8 and not empty.
func (p Property) Allows(v string) bool {
	if strings.TrimSpace(v) == "" || !utf8.ValidString(v) {
		return false
	}
	switch p.Type {
	case "date":
		return date.MatchString(v)
	case "country":
		return KnownCountry(v)
	case "topic":
		return KnownTopic(v)
	case "url":
		u, err := url.Parse(v)
		return err == nil && u.Host != "" && slices.Contains([]string{"http", "https", "ftp"}, u.Scheme)
	case "number":
		_, err := strconv.ParseFloat(strings.ReplaceAll(v, ",", ""), 64)
		return err == nil
	case "gender":
		return v == "female" || v == "male" || v == "other"
	case "email":
		at := strings.LastIndexByte(v, '@')
		return at > 0 && at < len(v)-1 && !strings.ContainsAny(v, " \t\r\n")
	}
	return true
}
