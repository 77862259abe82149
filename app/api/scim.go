package api

import (
	"slices"
	"strconv"
)

// SCIM has a media type and a shape of errors of its own (RFC 7644 §3.12).
const (
	scimBase  = "/scim/v2/"
	scimMedia = "application/scim+json"
)

func (r *Row) media() string {
	if r.Call.kind == "scim" {
		return scimMedia
	}
	return "application/json"
}

type scimError struct {
	Schemas []string `json:"schemas"`
	Status  string   `json:"status"`
	Type    string   `json:"scimType,omitempty"`
	Detail  string   `json:"detail"`
}

// scimTypes are the words of RFC 7644, table 9.
var scimTypes = []string{"invalidFilter", "tooMany", "uniqueness", "mutability", "invalidSyntax", "invalidPath", "noTarget", "invalidValue", "invalidVers", "sensitive"}

// scimStatus is 400 for what has no place in the protocol.
func scimStatus(status int) int {
	if status == 422 || status == 402 {
		return map[int]int{422: 400, 402: 403}[status]
	}
	return status
}

func scimErrorOf(code string, p problem) scimError {
	e := scimError{Schemas: []string{"urn:ietf:params:scim:api:messages:2.0:Error"}, Status: strconv.Itoa(p.Status), Detail: p.Detail}
	switch {
	case slices.Contains(scimTypes, code):
		e.Type = code
	case code == "malformed_json" || code == "duplicate_name":
		e.Type = "invalidSyntax"
	case code == "email_taken" || code == "already_member":
		e.Type = "uniqueness"
	case p.Status == 400:
		e.Type = "invalidValue"
	}
	return e
}
