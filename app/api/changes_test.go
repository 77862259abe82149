package api

import "testing"

// What a tenant that does not pay can no longer do, and what it always can.
func TestWhatNeedsAPaidSubscription(t *testing.T) {
	for _, c := range []struct {
		method, path, permission string
		want                     bool
	}{
		{"POST", "/datasets", "dataset:write", true},
		{"PATCH", "/datasets/{id}", "dataset:write", true},
		{"POST", "/matches", "match:run", true},
		{"PUT", "/matching/settings", "matching:write", true},
		{"POST", "/entity-searches", "research:run", true},
		{"GET", "/datasets/{id}/export", "dataset:read", false},
		{"DELETE", "/datasets/{id}", "dataset:delete", false},
		{"POST", "/match-jobs/{id}/cancel", "match:run", false},
		{"POST", "/billing/checkout", "billing:write", false},
		{"POST", "/api-keys/{id}/rotate", "api_key:write", false},
		{"PATCH", "/tenant/members/{id}", "member:write", false},
		{"POST", "/auth/logout", None, false},
	} {
		if got := (&Row{Method: c.method, Path: c.path, Permission: c.permission}).changes(); got != c.want {
			t.Errorf("%s %s: %t", c.method, c.path, got)
		}
	}
}
