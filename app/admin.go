package main

import "github.com/chainreactions/chainreactions/app/api"

// adminRoutes are the rows of platform administrators. They belong to no tenant:
// a role, a plan or an API key opens none of them, and each call is on the record
// of the tenant that it touches.
func (p *program) adminRoutes() []api.Row {
	const (
		none  = api.None
		admin = "/api/v1/admin"
		main  = "main"
	)
	return []api.Row{
		{Method: "GET", Path: admin + "/tenants", Call: api.Call("tenants.Find", p.tenants.Find), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.find_tenants", Role: main, Summary: "Tenants, newest first"},
		{Method: "GET", Path: admin + "/tenants/{id}", Call: api.Call("tenants.Inspect", p.tenants.Inspect), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_tenant", Role: main, Summary: "One tenant"},
		{Method: "POST", Path: admin + "/tenants/{id}/suspend", Call: api.Call("tenants.Suspend", p.tenants.Suspend), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "tenant.suspend", Role: main, Summary: "Keep its people and keys out; its data stays"},
		{Method: "POST", Path: admin + "/tenants/{id}/reactivate", Call: api.Call("tenants.Reactivate", p.tenants.Reactivate), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "tenant.resume", Role: main, Summary: "Let them in again"},
		{Method: "GET", Path: admin + "/holds", Call: api.Call("privacy.Holds", p.privacy.Holds), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.find_holds", Role: main, Summary: "Legal holds in force"},
		{Method: "POST", Path: admin + "/holds", Call: api.Call("privacy.Hold", p.privacy.Hold), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "hold.put", Role: main, Summary: "Keep a person or a tenant from being erased", Status: 201},
		{Method: "DELETE", Path: admin + "/holds/{id}", Call: api.Act("privacy.Release", p.privacy.Release), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "hold.release", Role: main, Summary: "Let go; an erasure that waited goes on by itself", Status: 204},
		{Method: "GET", Path: admin + "/users", Call: api.Call("auth.FindUsers", p.auth.FindUsers), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.find_users", Role: main, Summary: "People, newest first"},
		{Method: "GET", Path: admin + "/users/{id}", Call: api.Call("auth.InspectUser", p.auth.InspectUser), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_user", Role: main, Summary: "One person and their tenants"},
		{Method: "POST", Path: admin + "/users/{id}/disable", Call: api.Call("auth.DisableUser", p.auth.DisableUser), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "user.disable", Role: main, Summary: "Shut an account: sessions end, keys that it made stop"},
		{Method: "POST", Path: admin + "/users/{id}/enable", Call: api.Call("auth.EnableUser", p.auth.EnableUser), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "user.enable", Role: main, Summary: "Open it again"},
		{Method: "DELETE", Path: admin + "/users/{id}/sessions", Call: api.Act("auth.EndSessions", p.auth.EndSessions), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "session.revoke_all", Role: main, Summary: "End every session of a person", Status: 204},
		{Method: "GET", Path: admin + "/audit-events", Call: api.Call("audit.Everywhere", p.audit.Everywhere), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_audit", Role: main, Summary: "The record of every tenant, or of one"},
	}
}
