package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/domain"
)

// shared are path parameters that name what every tenant may see.
var shared = map[string]bool{"catalog": true, "plans": true, "ResourceTypes": true, "Schemas": true}

// idsInBodies says what a field of a body or of a query names, by its name.
var idsInBodies = map[string]string{"dataset_id": "datasets", "dataset_ids": "datasets", "against": "datasets", "entry_ids": "entries", "entry_id": "entries", "member_id": "members",
	"tenant_id": "tenants", "run_id": "runs", "import_id": "imports", "endpoint_id": "webhook-endpoints"}

var anyID = regexp.MustCompile(`[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}`)

// Every route of the table, by itself: with another tenant's id in the path, the
// query or the body it answers the same bytes as for an id that never was; with
// another tenant's cursor it shows nothing of theirs. A new route joins by being
// in the table, and fails here until there is an object of the kind that it
// names. Who may call what at all is TestMatrix's.
func TestTenantsCannotMeet(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		aUser, a, tenantA := person(t, base, "alpha")
		bUser, b, tenantB := person(t, base, "beta")
		for _, id := range []string{tenantA, tenantB} {
			if err := p.billing.SetPlan(domain.System(t.Context(), "test"), id, "enterprise", "test", "test"); err != nil {
				t.Fatal(err)
			}
		}
		foreign, never := objects(t, p, aUser, a, tenantA, "Canary"), neverWere()
		directory := client{t, base, http.Header{"Authorization": {"Bearer " + bUser.must(201, "POST", "/api/v1/tenant/scim-tokens", map[string]any{"name": "b"})["token"].(string)}}}

		var doc struct {
			Paths      map[string]map[string]operation
			Components struct{ Schemas map[string]*jsonSchema }
		}
		if err := json.Unmarshal(p.api.Document(), &doc); err != nil {
			t.Fatal(err)
		}
		// ask gives an answer without what is its own each time, and fails on a canary.
		ask := func(who client, method, path string, body any, extra ...string) (int, string) {
			status, raw, _ := who.do(method, path, body, append(extra, "X-Request-Id", "same-for-both")...)
			if bytes.Contains(raw, []byte("Canary")) || bytes.Contains(raw, []byte(tenantA)) {
				t.Errorf("%s %s shows what is another tenant's: %s", method, path, raw)
			}
			return status, anyID.ReplaceAllString(string(raw), "id")
		}
		tried := map[string]int{}
		for _, row := range p.table {
			if row.Credential == api.Public || row.Credential == api.Admin { // of no tenant
				continue
			}
			name := row.Method + " " + row.Path
			op := doc.Paths[row.Path][strings.ToLower(row.Method)]
			body := op.sample(doc.Components.Schemas)
			fill := func(ids map[string]string) string { return filled(t, row, ids) }
			bUser := bUser
			if row.Credential == api.Directory {
				bUser = directory
				body = map[string]any{"userName": "x@example.org", "schemas": []any{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}, "Operations": []any{map[string]any{"op": "add", "value": map[string]any{"active": true}}}}
			}
			same := func(what, path1, path2 string, body1, body2 any, want int) {
				s1, r1 := ask(bUser, row.Method, path1, body1)
				s2, r2 := ask(bUser, row.Method, path2, body2)
				if s1 != s2 || r1 != r2 || want != 0 && s1 != want {
					t.Errorf("%s, %s: another tenant's %d %s, one that never was %d %s", name, what, s1, r1, s2, r2)
				}
				tried[what]++
			}
			if strings.Contains(row.Path, "{") && !shared[strings.Split(row.Path, "/")[3]] {
				same("path", fill(foreign), fill(never), body, body, 404)
			}
			for field := range body {
				noun, is := idsInBodies[field]
				if !is && (strings.HasSuffix(field, "_id") || strings.HasSuffix(field, "_ids")) && field != "external_id" && field != "client_id" { // which others have given
					t.Errorf("%s: what does the field %q name? say it in idsInBodies", name, field)
				}
				if is {
					same("body", fill(never), fill(never), with(body, field, foreign[noun]), with(body, field, never[noun]), 0)
				}
			}
			for _, param := range op.Parameters {
				noun, is := idsInBodies[param.Name]
				if is && param.In == "query" {
					same("query", fill(never)+"?"+param.Name+"="+foreign[noun], fill(never)+"?"+param.Name+"="+never[noun], nil, nil, 0)
				}
				if param.Name == "cursor" && !strings.Contains(row.Path, "{") {
					if next, ok := aUser.must(200, "GET", row.Path+"?limit=1", nil)["next_cursor"].(string); ok {
						ask(bUser, "GET", row.Path+"?cursor="+next, nil)
						tried["cursor"]++
					}
				}
			}
		}
		for what, least := range map[string]int{"path": 30, "body": 4, "cursor": 2} {
			if tried[what] < least {
				t.Errorf("only %d routes take an id of another tenant by %s; there were %d", tried[what], what, least)
			}
		}
		if status, _ := ask(b, "GET", "/api/v1/datasets", nil, "X-Tenant", tenantB, "Host", "beta.example.test"); status != 200 {
			t.Errorf("one's own tenant in host and header: %d", status)
		}
		if status, _ := ask(b, "GET", "/api/v1/datasets", nil, "X-Tenant", "never-was"); status != 404 {
			t.Errorf("an unknown tenant in the header: %d", status)
		}
	})
}

// operation is what the test reads of the API document.
type operation struct {
	Parameters  []struct{ Name, In string }
	RequestBody struct {
		Content map[string]struct{ Schema *jsonSchema }
	}
	Responses map[string]any
}

type jsonSchema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Enum       []any
	Items      *jsonSchema
	Properties map[string]*jsonSchema
	Required   []string
	Minimum    *float64
	MinLength  int
}

// sample is a body that the document allows: every required field, and every
// field that names an object of a tenant.
func (o operation) sample(all map[string]*jsonSchema) map[string]any {
	s := o.RequestBody.Content["application/json"].Schema.follow(all)
	if s == nil {
		return nil
	}
	out, _ := s.value(all, 0).(map[string]any)
	for field, schema := range s.Properties {
		if _, is := idsInBodies[field]; is || strings.HasSuffix(field, "_id") || strings.HasSuffix(field, "_ids") {
			out[field] = schema.value(all, 1)
		}
	}
	return out
}

func (s *jsonSchema) follow(all map[string]*jsonSchema) *jsonSchema {
	for s != nil && s.Ref != "" {
		s = all[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

func (s *jsonSchema) value(all map[string]*jsonSchema, depth int) any {
	s = s.follow(all)
	if s == nil || depth > 6 {
		return nil
	}
	kind, _ := s.Type.(string)
	if list, ok := s.Type.([]any); ok {
		kind, _ = list[0].(string)
	}
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case kind == "object":
		out := map[string]any{}
		for _, name := range s.Required {
			out[name] = s.Properties[name].value(all, depth+1)
		}
		return out
	case kind == "array":
		return []any{s.Items.value(all, depth+1)}
	case kind == "boolean":
		return true
	case kind == "integer" || kind == "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case s.Format == "email":
		return "somebody@example.org"
	case s.Format == "date-time":
		return "2026-01-01T00:00:00Z"
	}
	return strings.Repeat("x", max(1, s.MinLength))
}

// with is the body with one field naming an object.
func with(body map[string]any, field, id string) map[string]any {
	out := map[string]any{}
	for k, v := range body {
		out[k] = v
	}
	if out[field] = any(id); strings.HasSuffix(field, "s") || field == "against" {
		out[field] = []any{id}
	}
	return out
}

// filled is the row's path with the ids of what it names.
func filled(t *testing.T, row api.Row, ids map[string]string) string {
	t.Helper()
	parts := strings.Split(row.Path, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			id, ok := ids[parts[i-1]]
			if !ok && row.Credential != api.Admin && row.Credential != api.Public && !shared[parts[i-1]] {
				t.Fatalf("%s %s: there is no object of %q: make one in objects, so that the route is tested", row.Method, row.Path, parts[i-1])
			}
			if parts[i] = id; id == "" {
				parts[i] = "never-was"
			}
		}
	}
	return strings.Join(parts, "/")
}

// objects makes an object of every kind that a path, a query or a body names,
// with the mark in what its tenant alone may read.
func objects(t *testing.T, p *program, owner, key client, tenant, mark string) map[string]string {
	t.Helper()
	ids := map[string]string{}
	ids["datasets"] = owner.must(201, "POST", "/api/v1/datasets", map[string]any{"name": mark + " one"})["id"].(string)
	owner.must(201, "POST", "/api/v1/datasets", map[string]any{"name": mark + " two"})
	ids["imports"] = key.importList(ids["datasets"], "name\n"+mark+" A\n"+mark+" B\n", "")["id"].(string)
	key.importList(ids["datasets"], "name\n"+mark+" C\n", "")
	first := func(path string) string {
		return owner.must(200, "GET", path, nil)["data"].([]any)[0].(map[string]any)["id"].(string)
	}
	ids["entries"] = first("/api/v1/datasets/" + ids["datasets"] + "/entries")
	ids["api-keys"] = first("/api/v1/api-keys")
	ids["sessions"] = first("/api/v1/auth/sessions")
	ids["match-jobs"] = owner.must(202, "POST", "/api/v1/match-jobs", map[string]any{"dataset_id": ids["datasets"]})["id"].(string)
	ids["decisions"] = owner.must(200, "PUT", "/api/v1/decisions", map[string]any{"query": map[string]any{"name": mark}, "entry_id": ids["entries"], "verdict": "same"})["id"].(string)
	ids["runs"] = owner.must(202, "POST", "/api/v1/entity-searches", map[string]any{"name": mark + " run"})["id"].(string)
	ids["sources"] = "1"
	ids["tenants"] = tenant
	ids["passkeys"] = domain.NewID("psk")
	err := p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, `INSERT INTO passkeys (id, user_id, credential_id, name, data, created_at) SELECT @id, user_id, @id, @mark, '{}', @now FROM memberships WHERE tenant_id = @of`,
			map[string]any{"id": ids["passkeys"], "of": tenant, "mark": mark, "now": time.Now().UTC()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ids["sso"], ids["identities"] = domain.NewID("sso"), domain.NewID("idn")
	err = p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		if _, err := p.store.Exec(ctx, `INSERT INTO sso_connections (tenant_id, id, kind, name, issuer, client_id, client_secret, metadata, default_role, enabled, created_at, updated_at)
			VALUES (@of, @id, 'oidc', @mark, 'https://canary.example', 'c', '', '', 'viewer', @yes, @now, @now)`,
			map[string]any{"of": tenant, "mark": mark, "id": ids["sso"], "now": time.Now().UTC(), "yes": true}); err != nil {
			return err
		}
		_, err := p.store.Exec(ctx, `INSERT INTO identities (id, user_id, provider, issuer, subject, email, created_at) SELECT @id, user_id, 'google', 'i', @id, @mark, @now FROM memberships WHERE tenant_id = @of`,
			map[string]any{"id": ids["identities"], "of": tenant, "mark": mark, "now": time.Now().UTC()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ids["notifications"] = domain.NewID("ntf")
	err = p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, `INSERT INTO notifications (tenant_id, id, user_id, type, target, params, in_app, mail, created_at)
			SELECT tenant_id, @id, user_id, 'run_finished', @run, @params, @yes, 'off', @now FROM memberships WHERE tenant_id = @of`,
			map[string]any{"of": tenant, "id": ids["notifications"], "run": ids["runs"], "params": `{"mark": "` + mark + `"}`, "now": time.Now().UTC(), "yes": true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ids["scim-tokens"] = owner.must(201, "POST", "/api/v1/tenant/scim-tokens", map[string]any{"name": mark})["id"].(string)
	ids["Users"] = domain.NewID("scu")
	err = p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, `INSERT INTO scim_users (tenant_id, id, user_id, user_name, email, external_id, given_name, family_name, display_name, role, active, created_at, updated_at)
			SELECT tenant_id, @id, user_id, @mark, @mark, '', '', '', @mark, 'owner', @yes, @now, @now FROM memberships WHERE tenant_id = @of`,
			map[string]any{"id": ids["Users"], "of": tenant, "mark": mark, "now": time.Now().UTC(), "yes": true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ids["Groups"] = domain.NewID("scg")
	ids["scim-groups"] = ids["Groups"]
	err = p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		of := map[string]any{"of": tenant, "mark": mark, "id": ids["Groups"], "person": ids["Users"], "now": time.Now().UTC()}
		if _, err := p.store.Exec(ctx, `INSERT INTO scim_groups (tenant_id, id, display_name, folded, external_id, role, created_at, updated_at)
			VALUES (@of, @id, @mark, lower(@mark), '', '', @now, @now)`, of); err != nil {
			return err
		}
		_, err := p.store.Exec(ctx, `INSERT INTO scim_group_members (tenant_id, group_id, person_id) VALUES (@of, @id, @person)`, of)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ids["person-requests"] = domain.NewID("prp")
	err = p.store.Tx(domain.System(t.Context(), "test"), func(ctx context.Context) error {
		_, err := p.store.Exec(ctx, `INSERT INTO person_request_parts (tenant_id, id, request_id, kind, name, email, locale, message, entries, received_at, due_at, status)
			VALUES (@of, @id, @id, 'access', @mark, 'p@example.org', 'en', '', '[]', @now, @now, 'open')`,
			map[string]any{"id": ids["person-requests"], "of": tenant, "mark": mark, "now": time.Now().UTC()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	peopleObjects(owner, ids)
	return ids
}

// neverWere are ids of the same kinds, of nothing.
func neverWere() map[string]string {
	never := map[string]string{"sources": "1"}
	for noun, prefix := range map[string]string{"datasets": "ds", "imports": "imp", "entries": "ent", "api-keys": "key", "sessions": "ses", "match-jobs": "job", "decisions": "dec", "runs": "run", "tenants": "ten",
		"passkeys": "psk", "sso": "sso", "identities": "idn", "scim-tokens": "sct", "Users": "scu", "Groups": "scg", "scim-groups": "scg", "person-requests": "prp", "exports": "exp", "erasures": "ers", "domains": "dom", "members": "mem", "invitations": "inv", "roles": "rol",
		"webhook-endpoints": "whk", "webhook-deliveries": "whd", "notifications": "ntf"} {
		never[noun] = domain.NewID(prefix)
	}
	return never
}
