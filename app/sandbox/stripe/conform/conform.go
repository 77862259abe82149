// Package conform holds what passes between stripe-go and the sandbox against
// Stripe's own description of its API: every request that the sandbox takes must
// be one that stripe-mock takes too, and every answer must have the schema that
// the description gives it. So neither the sandbox nor our client can drift into
// a dialect. Only _test files import it.
package conform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stripe/stripe-mock/embedded"
	"github.com/stripe/stripe-mock/server"
)

type judge struct {
	mock    *server.StubServer
	paths   []path
	schemas map[string]*schema
}

type path struct {
	name string
	is   *regexp.Regexp
	by   map[string]operation // method
}

type operation struct {
	Responses map[string]struct {
		Content map[string]struct{ Schema *schema }
	}
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Nullable   bool
	Enum       []any
	Required   []string
	Properties map[string]*schema
	Items      *schema
	AnyOf      []*schema
	Expansion  struct{ OneOf []*schema } `json:"x-expansionResources"`
}

// theJudge is stripe-mock as a library, and the description that it serves.
var theJudge = sync.OnceValues(func() (*judge, error) {
	spec, err := server.LoadSpec(embedded.OpenAPISpec, "")
	if err != nil {
		return nil, err
	}
	fixtures, err := server.LoadFixtures(embedded.OpenAPIFixtures, "")
	if err != nil {
		return nil, err
	}
	mock, err := server.NewStubServer(fixtures, spec, false, false)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Paths      map[string]map[string]operation
		Components struct{ Schemas map[string]*schema }
	}
	if err := json.Unmarshal(embedded.OpenAPISpec, &doc); err != nil {
		return nil, err
	}
	j := &judge{mock: mock, schemas: doc.Components.Schemas}
	for name, by := range doc.Paths {
		j.paths = append(j.paths, path{name, regexp.MustCompile("^" + wildcard.ReplaceAllString(regexp.QuoteMeta(name), "[^/]+") + "$"), by})
	}
	slices.SortFunc(j.paths, func(a, b path) int { return strings.Count(a.name, "{") - strings.Count(b.name, "{") })
	return j, nil
})

// notDescribed are the routes, and notNamed the property of a price, that
// stripe-mock v0.162.0 does not know: meters came to Stripe after it. stripe-go's
// own types check their shape alone.
var notDescribed = regexp.MustCompile(`^/v1/billing/meter`)

const notNamed = "recurring.meter"

// quiet counts the tests that stripe-mock works for.
var quiet struct {
	sync.Mutex
	tests int
	out   *os.File
}

// hush keeps stripe-mock, which prints every request, off standard output while
// a test uses it. The testing package has its own hold on it.
func hush(t testing.TB) {
	quiet.Lock()
	defer quiet.Unlock()
	if quiet.tests++; quiet.tests == 1 {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		quiet.out, os.Stdout = os.Stdout, null
	}
	t.Cleanup(func() {
		quiet.Lock()
		defer quiet.Unlock()
		if quiet.tests--; quiet.tests == 0 {
			_ = os.Stdout.Close()
			os.Stdout = quiet.out
		}
	})
}

// Between puts the judge between a client and the sandbox.
func Between(t testing.TB, s http.Handler) http.Handler {
	t.Helper()
	hush(t)
	j, err := theJudge()
	if err != nil {
		t.Fatalf("stripe-mock is needed and does not start: %v", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/") || notDescribed.MatchString(r.URL.Path) {
			s.ServeHTTP(w, r)
			return
		}
		sent, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(sent))
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		if rec.Code == 200 {
			j.request(t, r, sent)
			j.answer(t, r, rec.Body.Bytes())
		}
		for key, v := range rec.Header() {
			w.Header()[key] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

// request asks stripe-mock whether it would have taken the request.
func (j *judge) request(t testing.TB, r *http.Request, sent []byte) {
	req := httptest.NewRequest(r.Method, r.URL.RequestURI(), bytes.NewReader(sent))
	req.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	req.Header.Set("Authorization", "Bearer sk_test_123")
	rec := httptest.NewRecorder()
	j.mock.HandleRequest(rec, req)
	if rec.Code != 200 {
		form, _ := url.QueryUnescape(string(sent))
		t.Errorf("the sandbox took what Stripe refuses: %s %s %s: %s", r.Method, r.URL.RequestURI(), form, rec.Body)
	}
}

var wildcard = regexp.MustCompile(`\\\{[^}]+\\\}`)

// answer checks an answer against the schema of its route.
func (j *judge) answer(t testing.TB, r *http.Request, body []byte) {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		return
	}
	at := slices.IndexFunc(j.paths, func(p path) bool { return p.is.MatchString(r.URL.Path) }) // the fewest wildcards come first
	if at < 0 || j.paths[at].by[strings.ToLower(r.Method)].Responses == nil {
		t.Errorf("%s %s is no route of Stripe's", r.Method, r.URL.Path)
		return
	}
	answered := j.paths[at].by[strings.ToLower(r.Method)].Responses["200"].Content["application/json"].Schema
	for _, problem := range j.check(j.paths[at].name, answered, v) {
		t.Errorf("%s %s: %s", r.Method, r.URL.Path, problem)
	}
}

// check compares a value with its schema. What Stripe would leave out or call
// by another name is a problem; so is a property that Stripe has not.
func (j *judge) check(at string, s *schema, v any) (problems []string) {
	if s == nil {
		return nil
	}
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/components/schemas/")
		return j.check(name, j.schemas[name], v)
	}
	if v == nil {
		if !s.Nullable && len(s.AnyOf) == 0 {
			return []string{at + " is null"}
		}
		return nil
	}
	if options := append(slices.Clone(s.AnyOf), s.Expansion.OneOf...); len(options) > 0 {
		for _, option := range options {
			p := j.check(at, option, v)
			if len(p) == 0 {
				return nil
			}
			if problems == nil || option.Ref != "" { // rather what is wrong inside than "not a string"
				problems = p
			}
		}
		return problems
	}
	switch x := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			return []string{at + " is an object, not " + s.Type}
		}
		for _, name := range s.Required {
			if _, ok := x[name]; !ok {
				problems = append(problems, at+"."+name+" is missing")
			}
		}
		for name, sub := range x {
			p, known := s.Properties[name]
			if !known && len(s.Properties) > 0 && at+"."+name != notNamed {
				problems = append(problems, at+"."+name+" is no property of Stripe's")
			}
			problems = append(problems, j.check(at+"."+name, p, sub)...)
		}
	case []any:
		if s.Type != "array" {
			return []string{at + " is a list, not " + s.Type}
		}
		for _, sub := range x {
			problems = append(problems, j.check(at+"[]", s.Items, sub)...)
		}
	case string:
		if s.Type != "string" {
			return []string{at + " is a string, not " + s.Type}
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, any(x)) {
			problems = append(problems, fmt.Sprintf("%s is %q, which is none of %v", at, x, s.Enum))
		}
	case bool:
		if s.Type != "boolean" {
			return []string{at + " is a boolean, not " + s.Type}
		}
	case float64:
		if s.Type != "integer" && s.Type != "number" {
			return []string{at + " is a number, not " + s.Type}
		}
	}
	return problems
}
