package api

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"github.com/chainreactions/chainreactions/domain"
)

// document is the table as callers read it. It is made when somebody asks for it:
// the schemas of all that is answered would be a quarter of what a process does
// until it is ready, and no request is held to them.
type document struct {
	api *API
	schemas
	openapi *huma.OpenAPI
}

func (a *API) documented() *document {
	d := &document{api: a, schemas: a.schemasOf(func(*Row) bool { return true })}
	d.openapi = d.write()
	return d
}

// write makes it from the table and from schemas that are made as those are that
// hold the requests to account. The tests hold every answer of the
// running server against it, so what is not listed here is not answered.
func (d *document) write() *huma.OpenAPI {
	a, baseURL := d.api, d.api.baseURL
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "ChainReactions", Version: "1",
			Description: "Names matched against reference lists, for research security and due diligence.\n\n" +
				"Every answer carries `X-Request-Id`. Errors are `application/problem+json` (RFC 9457) with a stable `code`. " +
				"Answers are in English, or in Simplified Chinese where `Accept-Language` or the caller's own setting asks for it.",
			License: &huma.License{Name: "Proprietary", Identifier: "LicenseRef-ChainReactions"}},
		Components: &huma.Components{
			Schemas: d.registry, Responses: map[string]*huma.Response{}, Parameters: sharedParameters, Headers: sharedHeaders,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer":  {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "A person's access token, from /auth/login; or an API key."},
				"api_key": {Type: "apiKey", In: "header", Name: "X-API-Key", Description: "A program's key, from /api-keys."},
			},
		},
		Paths:   map[string]*huma.PathItem{},
		Servers: []*huma.Server{{URL: "/"}},
	}
	if baseURL != "" {
		doc.Servers = []*huma.Server{{URL: baseURL}}
	}
	fault := d.registry.Schema(reflect.TypeFor[problem](), true, "Problem")
	for kind, st := range statuses {
		if kind == domain.Canceled { // nobody is left to read it
			continue
		}
		r := &huma.Response{Description: st.title + ": " + st.codes + ".", Headers: answerHeaders("X-Request-Id"),
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: fault}}}
		switch kind {
		case domain.TooMany, domain.Unavailable:
			r.Headers["Retry-After"] = &huma.Param{Ref: "#/components/headers/Retry-After"}
		case domain.Unauthenticated:
			r.Headers["WWW-Authenticate"] = &huma.Param{Ref: "#/components/headers/WWW-Authenticate"}
		}
		doc.Components.Responses[strconv.Itoa(st.status)] = r
	}
	seen := map[string]int{}
	for i := range a.rows {
		r := &a.rows[i]
		s := d.shapes[r]
		id := strings.ReplaceAll(r.Call.name, " ", "")
		if seen[id]++; seen[id] > 1 {
			id += strconv.Itoa(seen[id])
		}
		op := &huma.Operation{
			OperationID: id, Method: r.Method, Path: r.Path, Summary: r.Summary, Description: describe(r),
			Tags: []string{tag(r.Path)}, Responses: map[string]*huma.Response{},
		}
		op.Security = []map[string][]string{} // said outright: a public route wants none
		for _, c := range []struct {
			kind Credential
			name string
		}{{Session | Admin | Directory, "bearer"}, {Key, "api_key"}} {
			if r.Credential&c.kind != 0 {
				op.Security = append(op.Security, map[string][]string{c.name: {}})
			}
		}
		form := &huma.Schema{Type: "object", Properties: map[string]*huma.Schema{}}
		for _, p := range s.params {
			if p.where == "form" {
				form.Properties[p.name] = p.schema
				continue
			}
			name := p.name
			if p.where == "cookie" {
				name = a.cookieName(name)
			}
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: p.where, Required: p.required, Description: p.doc, Schema: p.schema})
		}
		op.Parameters = append(op.Parameters, &huma.Param{Ref: "#/components/parameters/X-Tenant"})
		if r.rememberable() {
			op.Parameters = append(op.Parameters, &huma.Param{Ref: "#/components/parameters/Idempotency-Key"})
		}
		switch {
		case s.form():
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/x-www-form-urlencoded": {Schema: form}}}
		case r.Call.kind == "upload":
			file := &huma.Schema{Type: "object", Properties: map[string]*huma.Schema{"file": {Type: "string", Format: "binary"}}, Required: []string{"file"}}
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"multipart/form-data": {Schema: file}, "application/octet-stream": {}}}
			for _, media := range r.Call.takes {
				op.RequestBody.Content[media] = &huma.MediaType{}
			}
			if r.Call.orJSON {
				op.RequestBody.Content["application/json"] = &huma.MediaType{Schema: s.body}
			}
		case r.Call.kind == "scim" && s.body != nil:
			loose := &huma.Schema{Type: "object", AdditionalProperties: true, Description: "a resource or a PatchOp of RFC 7643 and 7644; what we do not keep is let pass"}
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{scimMedia: {Schema: loose}, "application/json": {Schema: loose}}}
		case s.body != nil:
			op.RequestBody = &huma.RequestBody{Required: d.required(s.body), Content: map[string]*huma.MediaType{"application/json": {Schema: s.body}}}
		}
		for _, code := range r.refusals(s) {
			if r.Call.kind == "scim" {
				op.Responses[strconv.Itoa(scimStatus(code))] = &huma.Response{Description: "An error as RFC 7644 §3.12 has it.", Headers: answerHeaders("X-Request-Id"),
					Content: map[string]*huma.MediaType{scimMedia: {Schema: d.registry.Schema(reflect.TypeFor[scimError](), true, "SCIMError")}}}
				continue
			}
			op.Responses[strconv.Itoa(code)] = &huma.Response{Ref: "#/components/responses/" + strconv.Itoa(code)}
		}
		d.document200(op, r)
		doc.AddOperation(op)
	}
	d.relaxEmbedded()
	return doc
}

// document200 adds what a row answers when all is well.
func (d *document) document200(op *huma.Operation, r *Row) {
	ok := &huma.Response{Description: "Done.", Headers: answerHeaders("X-Request-Id")}
	if r.Credential&metered != 0 {
		for _, name := range []string{"RateLimit", "RateLimit-Policy"} {
			ok.Headers[name] = &huma.Param{Ref: "#/components/headers/" + name}
		}
	}
	if r.rememberable() {
		ok.Headers["Idempotency-Replayed"] = &huma.Param{Ref: "#/components/headers/Idempotency-Replayed"}
	}
	status := r.Status
	if status == 0 {
		status = 200
	}
	switch {
	case r.Call.kind == "sse":
		events := map[string]any{"error": d.registry.Schema(reflect.TypeFor[StreamFault](), true, "StreamFault")}
		var names []string
		for _, e := range r.Call.events {
			is := d.registry.Schema(e.data, true, bodyName(r)+"Event")
			if other, more := events[e.name].(*huma.Schema); more { // one of several things
				if len(other.AnyOf) == 0 {
					other = &huma.Schema{AnyOf: []*huma.Schema{other}}
				}
				other.AnyOf = append(other.AnyOf, is)
				events[e.name] = other
				continue
			}
			events[e.name] = is
			names = append(names, "`"+e.name+"`")
		}
		ok.Description = "Events: " + strings.Join(names, ", ") + "; a comment line every 15 s; an `error` event where the stream may not go on."
		ok.Content = map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: "string"}, Extensions: map[string]any{"x-events": events}}}
	case r.Call.kind == "download":
		ok.Content = map[string]*huma.MediaType{}
		for _, media := range strings.Split(r.Call.media, "|") {
			ok.Content[media] = &huma.MediaType{}
		}
		ok.Headers["Content-Disposition"] = &huma.Param{Description: "attachment, with the name of the file", Schema: &huma.Schema{Type: "string"}}
	case r.Call.kind == "page":
		m := &huma.MediaType{}
		if r.Call.out != nil {
			m.Schema = d.registry.Schema(r.Call.out, true, bodyName(r)+"Answer")
			op.Responses["503"] = &huma.Response{Description: "The same, where something is down; or a problem.", Headers: answerHeaders("X-Request-Id"),
				Content: map[string]*huma.MediaType{"application/json": {Schema: m.Schema},
					"application/problem+json": {Schema: d.registry.Schema(reflect.TypeFor[problem](), true, "Problem")}}}
		}
		media, _, _ := strings.Cut(r.Call.media, ";")
		ok.Content = map[string]*huma.MediaType{media: m}
	case r.Call.kind == "redirect":
		status = fiber.StatusSeeOther
		ok.Description = "To the provider, or back to the portal: signed in, with a ticket for what is yet to be done, or with the code of a refusal."
		ok.Headers["Location"] = &huma.Param{Description: "where the browser goes", Required: true, Schema: &huma.Schema{Type: "string"}}
	case r.Call.out != nil:
		ok.Content = map[string]*huma.MediaType{r.media(): {Schema: d.registry.Schema(r.Call.out, true, bodyName(r)+"Answer")}}
	default:
		status = 204
	}
	if r.Call.cookie != "" {
		ok.Headers["Set-Cookie"] = &huma.Param{Description: "the refresh token: HttpOnly, SameSite=Strict, and Secure where https is spoken", Schema: &huma.Schema{Type: "string"}}
	}
	op.Responses[strconv.Itoa(status)] = ok
	if r.Method == "GET" && d.api.baseDomain != "" {
		op.Responses["308"] = &huma.Response{Description: "The tenant has another slug now.", Headers: answerHeaders("X-Request-Id")}
		op.Responses["308"].Headers["Location"] = &huma.Param{Description: "the same under its present slug", Schema: &huma.Schema{Type: "string"}}
	}
	also := r.Also
	if r.Call.out != nil && status == 202 && r.Call.out.Implements(reflect.TypeFor[interface{ Ended() bool }]()) {
		also = append(also, 200) // done already, for who had asked to wait
	}
	for _, other := range also {
		op.Responses[strconv.Itoa(other)] = ok
	}
}

// required reports whether an empty body is not enough for a schema.
func (d *document) required(s *huma.Schema) bool {
	if s.Ref != "" {
		s = d.registry.SchemaFromRef(s.Ref)
	}
	return len(s.Required) > 0
}

// refusals are the problems that a row may answer; from the guard chain, which
// is the same for all, and from what the row takes.
func (r *Row) refusals(s shape) []int {
	out := []int{400, 403, 404, 422, 429, 500, 503}
	if r.Credential != Public || r.Class == "auth" {
		out = append(out, 401)
	}
	if r.Credential&metered != 0 {
		out = append(out, 402)
	}
	if r.Method != "GET" {
		out = append(out, 409)
	}
	if s.body != nil || r.Call.kind == "upload" {
		out = append(out, 413, 415)
	}
	return out
}

// describe says in words what the row's columns say to the guard chain.
func describe(r *Row) string {
	var b strings.Builder
	switch r.Credential {
	case Public:
		b.WriteString("Needs no credential.")
	case Directory:
		b.WriteString("For a tenant's directory, with its own token (SCIM 2.0).")
	case Session:
		b.WriteString("For people: an API key is refused.")
	case Admin:
		b.WriteString("For platform administrators, in a session that has shown a second factor.")
	default:
		b.WriteString("For people and API keys.")
	}
	if r.Credential&Session != 0 && !r.helps() {
		b.WriteString(" Not for an administrator who acts as somebody.")
	}
	if r.Fresh {
		b.WriteString(" Needs a factor shown in the last ten minutes: else `step_up_required`, see /auth/step-up.")
	}
	if r.Credential&Session != 0 && r.Permission == None && !r.Bound {
		b.WriteString(" About the person: not in a session that a tenant's own identity provider opened (`sso_session`).")
	}
	if r.Entry {
		b.WriteString(" Open to who has yet to meet the tenant's policy of sign-in (`mfa_enrolment_required`, `sso_required` elsewhere).")
	}
	if r.Permission != None {
		b.WriteString(" Needs the permission `" + r.Permission + "`.")
	}
	if r.Meter != None {
		b.WriteString(" Uses the meter `" + r.Meter + "`.")
	}
	if r.Audit != None {
		b.WriteString(" Recorded as `" + r.Audit + "`.")
	}
	return b.String()
}

var sharedParameters = map[string]*huma.Param{
	"X-Tenant": {Name: "X-Tenant", In: "header", Schema: &huma.Schema{Type: "string"},
		Description: "Slug or id of the tenant that is meant. Host, header and credential must name the same one, or the answer is 403 `tenant_mismatch`."},
	"Idempotency-Key": {Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: "string"},
		Description: "A word of yours, at most 255 characters. The same key with the same request within 24 hours gives the first answer again."},
}

var sharedHeaders = map[string]*huma.Param{
	"X-Request-Id":         {Description: "names this request in our log", Required: true, Schema: &huma.Schema{Type: "string"}},
	"Retry-After":          {Description: "seconds", Schema: &huma.Schema{Type: "string"}},
	"WWW-Authenticate":     {Description: "RFC 6750", Required: true, Schema: &huma.Schema{Type: "string"}},
	"RateLimit":            {Description: "what is left (draft-ietf-httpapi-ratelimit-headers)", Schema: &huma.Schema{Type: "string"}},
	"RateLimit-Policy":     {Description: "what there is (draft-ietf-httpapi-ratelimit-headers)", Schema: &huma.Schema{Type: "string"}},
	"Idempotency-Replayed": {Description: "`true` where this is the first answer again", Schema: &huma.Schema{Type: "string"}},
}

func answerHeaders(names ...string) map[string]*huma.Param {
	out := map[string]*huma.Param{}
	for _, n := range names {
		out[n] = &huma.Param{Ref: "#/components/headers/" + n}
	}
	return out
}

// relaxEmbedded says of the fields of an embedded pointer that they need not be
// there: a batch item is an answer or an error.
func (s schemas) relaxEmbedded() {
	for name, schema := range s.registry.Map() {
		t := s.registry.TypeFromRef("#/components/schemas/" + name)
		if t == nil || t.Kind() != reflect.Struct {
			continue
		}
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.Anonymous || f.Type.Kind() != reflect.Pointer {
				continue
			}
			for _, inner := range reflect.VisibleFields(f.Type.Elem()) {
				field, _, _ := strings.Cut(inner.Tag.Get("json"), ",")
				schema.Required = slices.DeleteFunc(schema.Required, func(r string) bool { return r == field })
			}
		}
	}
}

// tag groups the operations by the noun of their path.
func tag(path string) string {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(path, apiBase), "/"), "/")
	return parts[0]
}

func requestID(c *fiber.Ctx) string {
	if id := c.Get("X-Request-Id"); requestIDs.MatchString(id) {
		return id
	}
	if id := string(c.Response().Header.Peek("X-Request-Id")); id != "" {
		return id
	}
	return domain.NewID("req")
}

func noSuchRoute() error {
	return domain.E(domain.NotFound, "not_found", "There is no such route.")
}

var _ = domain.Chinese(map[string]string{"There is no such route.": "没有这个路由。"})
