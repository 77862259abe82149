package ftm

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Inheritance is the model's: what a Company may say, it may say as a Thing.
func TestSchemata(t *testing.T) {
	for _, c := range []struct {
		schema, ancestor string
		want             bool
	}{
		{"Company", "Organization", true}, {"Company", "LegalEntity", true}, {"Company", "Thing", true}, {"Company", "Asset", true},
		{"Company", "Value", true}, {"PublicBody", "LegalEntity", true}, {"Person", "LegalEntity", true}, {"Person", "Organization", false},
		{"LegalEntity", "Organization", false}, {"Vessel", "Thing", true}, {"Membership", "Interest", true}, {"Membership", "Thing", false},
		{"Sanction", "Interval", true}, {"UnknownLink", "Interval", true}, {"Thing", "Thing", true},
	} {
		s, ok := Lookup(c.schema)
		if !ok || s.IsA(c.ancestor) != c.want {
			t.Errorf("%s is a %s: want %v", c.schema, c.ancestor, c.want)
		}
	}
	if n := len(Schemata()); n != 69 {
		t.Errorf("%d schemata, the model has 69", n)
	}
	company, _ := Lookup("Company")
	for prop, want := range map[string]Property{
		"name":        {"name", "Thing", "name", "", 384},
		"leiCode":     {"leiCode", "LegalEntity", "identifier", "", 32},
		"cageCode":    {"cageCode", "Organization", "identifier", "", 16},
		"sourceUrl":   {"sourceUrl", "Thing", "url", "", 4096},
		"description": {"description", "Thing", "text", "", 65000},
		"parent":      {"parent", "LegalEntity", "entity", "LegalEntity", 200},
	} {
		if got, ok := company.Property(prop); !ok || got != want {
			t.Errorf("Company:%s is %+v, want %+v", prop, got, want)
		}
	}
	if !slices.Contains(company.Required, "name") {
		t.Error("a company without a name would be valid")
	}
	own, _ := Lookup("Ownership")
	if own.Edge == nil || own.Edge.Source != "owner" || own.Edge.Target != "asset" || !own.Edge.Directed {
		t.Errorf("ownership runs %+v, want owner to asset", own.Edge)
	}
	for _, name := range Schemata() {
		s, _ := Lookup(name)
		for _, p := range s.Properties() {
			prop, _ := s.Property(p)
			if prop.Type == "entity" {
				if _, ok := Lookup(prop.Range); !ok {
					t.Errorf("%s:%s points to %q, which is no schema", name, p, prop.Range)
				}
			}
		}
		if s.Edge != nil {
			for _, end := range []string{s.Edge.Source, s.Edge.Target} {
				if p, ok := s.Property(end); !ok || p.Type != "entity" {
					t.Errorf("%s: the edge's end %s is no entity property", name, end)
				}
			}
		}
	}
}

// Validate names what the model does not allow, and nothing else.
func TestValidate(t *testing.T) {
	good := Entity{ID: "x", Schema: "Company"}
	good.Add("name", "ACME", "ACME", "")
	good.Add("country", "ru")
	good.Add("incorporationDate", "1999", "1999-05", "1999-05-01T10:00:00Z")
	good.Add("sourceUrl", "https://example.org/a")
	good.Add("topics", "sanction")
	if p := good.Validate(); p != nil || len(good.Properties["name"]) != 1 {
		t.Errorf("a valid company: %v %v", p, good.Properties)
	}
	for _, c := range []struct {
		e    Entity
		want []Problem
	}{
		{Entity{Schema: "Nope"}, []Problem{{"", "missing_id", ""}, {"", "unknown_schema", "Nope"}}},
		{Entity{ID: "1", Schema: "Thing", Properties: map[string][]string{"name": {"a"}}}, []Problem{{"", "abstract_schema", "Thing"}}},
		{Entity{ID: "1", Schema: "Person"}, []Problem{{"name", "missing_required", ""}}},
		{Entity{ID: "1", Schema: "Person", Properties: map[string][]string{"name": {"a"}, "colour": {"red"}}}, []Problem{{"colour", "unknown_property", ""}}},
		{Entity{ID: "1", Schema: "Person", Properties: map[string][]string{"name": {"a"}, "birthDate": {"1.2.1990", "1990-13", "1990-02"}}},
			[]Problem{{"birthDate", "invalid_value", "1.2.1990"}, {"birthDate", "invalid_value", "1990-13"}}},
		{Entity{ID: "1", Schema: "Person", Properties: map[string][]string{"name": {"a"}, "country": {"RU", "Russia"}, "sourceUrl": {"javascript:alert(1)"}}},
			[]Problem{{"country", "invalid_value", "RU"}, {"country", "invalid_value", "Russia"}, {"sourceUrl", "invalid_value", "javascript:alert(1)"}}},
		{Entity{ID: "1", Schema: "Person", Properties: map[string][]string{"name": {strings.Repeat("я", 385)}}}, []Problem{{"name", "too_long", strings.Repeat("я", 385)}}},
	} {
		if got := c.e.Validate(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.e, got, c.want)
		}
	}
}

// An entity as other programs write it is read without losing a value, and
// what is written reads back the same.
func TestJSON(t *testing.T) {
	var e Entity
	err := json.Unmarshal([]byte(`{"id":"NK-1","schema":"Company","caption":"ACME","datasets":["x"],"target":true,"first_seen":"2024-01-01T00:00:00",
		"properties":{"name":["ACME",null],"alias":"A","sharesCount":[1.5,2],"addressEntity":[{"id":"addr-1","schema":"Address"}],"notes":[],"topics":null,"country":["nullland"]}}`), &e)
	want := map[string][]string{"name": {"ACME"}, "alias": {"A"}, "sharesCount": {"1.5", "2"}, "addressEntity": {"addr-1"}, "country": {"nullland"}}
	if err != nil || e.ID != "NK-1" || e.Name() != "ACME" || e.FirstSeen != "2024-01-01T00:00:00" || !reflect.DeepEqual(e.Properties, want) {
		t.Fatalf("%+v %v", e, err)
	}
	out, _ := json.Marshal(&e)
	var again Entity
	if err := json.Unmarshal(out, &again); err != nil || !reflect.DeepEqual(again, e) {
		t.Errorf("%s: %+v, want %+v (%v)", out, again, e, err)
	}
	for _, bad := range []string{`{"id":1}`, `{"id":"a","properties":[]}`, `[]`, `{"id":"a"`, `"x"`} {
		if json.Unmarshal([]byte(bad), &e) == nil {
			t.Errorf("%s was read as an entity", bad)
		}
	}
	if got := (&Entity{ID: "7", Schema: "Person", Properties: map[string][]string{"weakAlias": {"Bo"}}}).Name(); got != "Bo" {
		t.Errorf("a person of one weak alias is called %q", got)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	line := []byte(`{"id":"NK-1","schema":"Company","caption":"ACME","properties":{"name":["ACME"],"alias":["A","B","C"],"country":["ru"],"topics":["sanction"],"sourceUrl":["https://example.org"]},"datasets":["x"]}`)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		var e Entity
		if err := json.Unmarshal(line, &e); err != nil {
			b.Fatal(err)
		}
	}
}
