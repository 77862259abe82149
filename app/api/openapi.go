package api

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"github.com/chainreactions/chainreactions/domain"
)

// openapi writes the document from the table and the same schemas that hold
// the requests to account.
func (a *API) openapi(baseURL string) ([]byte, error) {
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "ChainReactions", Version: "1",
			Description: "Names matched against reference lists, for research security and due diligence."},
		Components: &huma.Components{
			Schemas: a.registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer":  {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
				"api_key": {Type: "apiKey", In: "header", Name: "X-API-Key"},
			},
		},
		Paths: map[string]*huma.PathItem{},
	}
	if baseURL != "" {
		doc.Servers = []*huma.Server{{URL: baseURL}}
	}
	fault := a.registry.Schema(reflect.TypeFor[problem](), true, "Problem")
	for i := range a.rows {
		r := &a.rows[i]
		if r.Call.kind == "page" && r.Call.out == nil && !strings.HasPrefix(r.Path, "/api/") {
			continue
		}
		op := &huma.Operation{
			OperationID: strings.ReplaceAll(r.Call.name, " ", ""), Method: r.Method, Path: r.Path, Summary: r.Summary,
			Tags: []string{tag(r.Path)}, Responses: map[string]*huma.Response{},
		}
		if r.Permission != None {
			op.Description = "Needs the permission `" + r.Permission + "`."
			if r.Meter != None {
				op.Description += " Uses the meter `" + r.Meter + "`."
			}
		}
		for _, c := range []struct {
			kind Credential
			name string
		}{{Session, "bearer"}, {Key, "api_key"}} {
			if r.Credential&c.kind != 0 {
				op.Security = append(op.Security, map[string][]string{c.name: {}})
			}
		}
		s := a.shapes[r]
		for _, p := range s.params {
			op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: p.where, Required: p.required, Schema: p.schema})
		}
		switch {
		case r.Call.kind == "upload":
			file := &huma.Schema{Type: "object", Properties: map[string]*huma.Schema{"file": {Type: "string", Format: "binary"}}, Required: []string{"file"}}
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				"multipart/form-data": {Schema: file}, "application/octet-stream": {}, "text/csv": {}}}
			if r.Call.orJSON {
				op.RequestBody.Content["application/json"] = &huma.MediaType{Schema: s.body}
			}
		case s.body != nil:
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: s.body}}}
		}
		status := r.Status
		if status == 0 {
			status = 200
		}
		ok := &huma.Response{Description: "Done."}
		switch {
		case r.Call.kind == "sse":
			ok.Content = map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: "string"}}}
		case r.Call.kind == "download":
			ok.Content = map[string]*huma.MediaType{r.Call.media: {Schema: &huma.Schema{Type: "string"}}}
		case r.Call.out != nil:
			ok.Content = map[string]*huma.MediaType{"application/json": {Schema: a.registry.Schema(r.Call.out, true, bodyName(r)+"Answer")}}
		case r.Call.kind == "page":
			ok.Content = map[string]*huma.MediaType{"application/json": {}}
		default:
			status = 204
		}
		op.Responses[strconv.Itoa(status)] = ok
		op.Responses["default"] = &huma.Response{Description: "A problem.",
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: fault}}}
		doc.AddOperation(op)
	}
	return json.MarshalIndent(doc, "", " ")
}

// tag groups the operations by the noun of their path.
func tag(path string) string {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(path, apiBase), "/"), "/")
	return parts[0]
}

func requestID(c *fiber.Ctx) string {
	if id := string(c.Response().Header.Peek("X-Request-Id")); id != "" {
		return id
	}
	return domain.NewID("req")
}

func noSuchRoute() error {
	return domain.E(domain.NotFound, "not_found", "There is no such route.")
}

var _ = domain.Chinese(map[string]string{"There is no such route.": "没有这个路由。"})
