package auth

import (
	"context"

	"github.com/chainreactions/chainreactions/domain"
)

// What a directory may ask about this service: what of SCIM it speaks, of which
// resources, with which attributes (RFC 7643 §5 to §7).

// SCIMConfig says what is supported (RFC 7643 §5).
type SCIMConfig struct {
	Schemas        []string     `json:"schemas"`
	Patch          SCIMSupport  `json:"patch"`
	Bulk           SCIMSupport  `json:"bulk"`
	Filter         SCIMSupport  `json:"filter"`
	ChangePassword SCIMSupport  `json:"changePassword"`
	Sort           SCIMSupport  `json:"sort"`
	ETag           SCIMSupport  `json:"etag"`
	Schemes        []SCIMScheme `json:"authenticationSchemes"`
	Meta           SCIMMeta     `json:"meta"`
}

// SCIMSupport says whether one thing is.
type SCIMSupport struct {
	Supported      bool `json:"supported"`
	MaxResults     int  `json:"maxResults,omitempty"`
	MaxOperations  int  `json:"maxOperations,omitempty"`
	MaxPayloadSize int  `json:"maxPayloadSize,omitempty"`
}

// SCIMScheme is how a directory shows who it is.
type SCIMScheme struct {
	Type        string `json:"type"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// SCIMServiceConfig is the same for all.
func (s *Service) SCIMServiceConfig(context.Context, struct{}) (SCIMConfig, error) {
	return SCIMConfig{Schemas: []string{"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"}, Patch: SCIMSupport{Supported: true},
		Filter:  SCIMSupport{Supported: true, MaxResults: 200},
		Schemes: []SCIMScheme{{"oauthbearertoken", "Bearer token", "A token made under /tenant/scim-tokens"}},
		Meta:    SCIMMeta{ResourceType: "ServiceProviderConfig", Location: s.link("/scim/v2/ServiceProviderConfig")}}, nil
}

// SCIMResource is one kind of resource.
type SCIMResource struct {
	Schemas  []string `json:"schemas"`
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Endpoint string   `json:"endpoint"`
	Schema   string   `json:"schema"`
	Meta     SCIMMeta `json:"meta"`
}

func (s *Service) scimResources() []SCIMResource {
	one := func(name, endpoint, schema string) SCIMResource {
		return SCIMResource{[]string{"urn:ietf:params:scim:schemas:core:2.0:ResourceType"}, name, name, endpoint, schema,
			SCIMMeta{ResourceType: "ResourceType", Location: s.link("/scim/v2/ResourceTypes/" + name)}}
	}
	return []SCIMResource{one("User", "/Users", scimUserSchema), one("Group", "/Groups", scimGroupSchema)}
}

// SCIMResources lists the kinds there are.
func (s *Service) SCIMResources(context.Context, struct{}) (SCIMList[SCIMResource], error) {
	return wholeList(s.scimResources()), nil
}

// SCIMNamed names a kind of resource, or a schema by its URN.
type SCIMNamed struct {
	ID string `path:"id"`
}

// SCIMResource is one of them.
func (s *Service) SCIMResource(_ context.Context, in SCIMNamed) (SCIMResource, error) {
	for _, r := range s.scimResources() {
		if r.ID == in.ID {
			return r, nil
		}
	}
	return SCIMResource{}, domain.ErrNotFound()
}

// SCIMSchema is what a resource is made of.
type SCIMSchema struct {
	Schemas     []string        `json:"schemas"`
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Attributes  []SCIMAttribute `json:"attributes"`
	Meta        SCIMMeta        `json:"meta"`
}

// SCIMAttribute is one attribute, with what RFC 7643 §2.2 calls its characteristics.
type SCIMAttribute struct {
	Name          string          `json:"name"`
	Type          string          `json:"type"`
	MultiValued   bool            `json:"multiValued"`
	Required      bool            `json:"required"`
	CaseExact     bool            `json:"caseExact"`
	Mutability    string          `json:"mutability"`
	Returned      string          `json:"returned"`
	Uniqueness    string          `json:"uniqueness"`
	SubAttributes []SCIMAttribute `json:"subAttributes,omitempty"`
}

func (s *Service) scimSchemas() []SCIMSchema {
	word := func(name string) SCIMAttribute {
		return SCIMAttribute{Name: name, Type: "string", Mutability: "readWrite", Returned: "default", Uniqueness: "none"}
	}
	flag := func(name string) SCIMAttribute {
		a := word(name)
		a.Type = "boolean"
		return a
	}
	fixed := func(name string) SCIMAttribute {
		a := word(name)
		a.Mutability = "immutable"
		return a
	}
	named := func(name string) SCIMAttribute { // which there is once in a tenant
		a := word(name)
		a.Required, a.Uniqueness = true, "server"
		return a
	}
	many := func(name string, sub ...SCIMAttribute) SCIMAttribute {
		a := word(name)
		a.Type, a.MultiValued, a.SubAttributes = "complex", true, sub
		return a
	}
	exact := func(a SCIMAttribute) SCIMAttribute { a.CaseExact = true; return a }
	name := many("name", word("formatted"), word("givenName"), word("familyName"))
	name.MultiValued = false
	userName := named("userName")
	userName.Uniqueness = "none" // it is the address that there is once
	one := func(id, name, description string, attributes ...SCIMAttribute) SCIMSchema {
		return SCIMSchema{[]string{"urn:ietf:params:scim:schemas:core:2.0:Schema"}, id, name, description, attributes,
			SCIMMeta{ResourceType: "Schema", Location: s.link("/scim/v2/Schemas/" + id)}}
	}
	return []SCIMSchema{
		one(scimUserSchema, "User", "A person of the tenant", userName, exact(word("externalId")), name, word("displayName"),
			many("emails", word("value"), word("type"), flag("primary")), many("roles", word("value"), word("type"), flag("primary")), flag("active")),
		one(scimGroupSchema, "Group", "A group of them, which an administrator may map to a role", named("displayName"), exact(word("externalId")),
			many("members", exact(fixed("value")), fixed("display"), fixed("type"))),
	}
}

// SCIMSchemas lists the schemas of what there is.
func (s *Service) SCIMSchemas(context.Context, struct{}) (SCIMList[SCIMSchema], error) {
	return wholeList(s.scimSchemas()), nil
}

// SCIMSchema is one of them.
func (s *Service) SCIMSchema(_ context.Context, in SCIMNamed) (SCIMSchema, error) {
	for _, schema := range s.scimSchemas() {
		if schema.ID == in.ID {
			return schema, nil
		}
	}
	return SCIMSchema{}, domain.ErrNotFound()
}

func wholeList[T any](all []T) SCIMList[T] {
	return SCIMList[T]{Schemas: []string{scimListSchema}, TotalResults: int64(len(all)), StartIndex: 1, ItemsPerPage: len(all), Resources: all}
}
