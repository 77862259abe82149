package main

import (
	"context"
	"slices"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
)

// providers are those that sign people in for every tenant: which have a client.
func (c Config) providers() (out []auth.Provider) {
	for _, p := range []auth.Provider{
		{Name: "google", Issuer: auth.GoogleIssuer},
		{Name: "microsoft", Issuer: auth.MicrosoftIssuer(c.MicrosoftTenant)},
		{Name: "github", Issuer: auth.GitHubIssuer, API: auth.GitHubAPI},
	} {
		if client := c.Clients[p.Name]; client[0] != "" {
			p.ClientID, p.ClientSecret = client[0], client[1]
			out = append(out, p)
		}
	}
	return out
}

// clientOf sets what we are to a provider: its id, or its secret.
func clientOf(provider string, part int) func(*Config, string) error {
	return func(c *Config, v string) error {
		if c.Clients == nil {
			c.Clients = map[string][2]string{}
		}
		client := c.Clients[provider]
		client[part] = v
		c.Clients[provider] = client
		return nil
	}
}

// hasFeature reports whether a tenant's plan has a feature, for who has not
// signed in yet; whoever has is asked by the guard chain.
func (p *program) hasFeature(ctx context.Context, tenant, feature string) (bool, error) {
	plan, _, err := p.billing.Standing(domain.System(ctx, "what a tenant's plan has"), tenant)
	return slices.Contains(plan.Features, feature), err
}

// identityRoutes are the rows of sign-in through others: everybody's providers
// and those of tenants.
func (p *program) identityRoutes() []api.Row {
	const (
		none = api.None
		v1   = "/api/v1"
		main = "main"
		scim = "/scim/v2"
	)
	lost := p.auth.SignInFailed
	return []api.Row{
		{Method: "GET", Path: v1 + "/auth/providers", Call: api.Call("auth.SignInOptions", p.auth.SignInOptions), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Through whom one may sign in"},
		{Method: "GET", Path: v1 + "/auth/oidc/{provider}/start", Call: api.Leads("auth.StartOIDC", lost, p.auth.StartOIDC), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Send this browser to a provider to sign in"},
		{Method: "GET", Path: v1 + "/auth/oidc/{provider}/callback", Call: api.Leads("auth.CallbackOIDC", lost, p.auth.CallbackOIDC), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "session.start", Role: main, Summary: "Where a provider sends it back"},
		{Method: "GET", Path: v1 + "/auth/saml/{provider}/metadata", Call: api.Paper("auth.SAMLMetadata", "application/samlmetadata+xml", p.auth.SAMLMetadata), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "What we are to a SAML provider"},
		{Method: "GET", Path: v1 + "/auth/saml/{provider}/start", Call: api.Leads("auth.StartSAML", lost, p.auth.StartSAML), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Send this browser to a SAML provider"},
		{Method: "POST", Path: v1 + "/auth/saml/{provider}/acs", Call: api.Leads("auth.SAMLResponse", lost, p.auth.SAMLResponse), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Where a provider's page posts its assertion", BodyLimit: 400_000},
		{Method: "GET", Path: v1 + "/auth/saml/{provider}/finish", Call: api.Leads("auth.FinishSAML", lost, p.auth.FinishSAML), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "session.start", Role: main, Summary: "Where its browser goes then, with the cookie that a post from elsewhere lacks"},
		{Method: "POST", Path: v1 + "/auth/sso/code", Call: api.SignsIn(api.Call("auth.SSOCode", p.auth.SSOCode)), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "session.start", Role: main, Summary: "Show the second factor after a sign-in through others"},
		{Method: "POST", Path: v1 + "/auth/sso/signup", Call: api.SignsIn(api.Call("auth.SSOSignup", p.auth.SSOSignup)), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "user.signup", Role: main, Summary: "Open an account with an address that a provider vouches for", Status: 201},
		{Method: "GET", Path: v1 + "/auth/identities", Call: api.Call("auth.Identities", p.auth.Identities), Credential: api.Session, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Who you are at other providers"},
		{Method: "POST", Path: v1 + "/auth/identities", Call: api.Call("auth.AcceptIdentity", p.auth.AcceptIdentity), Credential: api.Session, Fresh: true, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "identity.link", Role: main, Summary: "Let a provider sign you in from now on", Status: 201},
		{Method: "DELETE", Path: v1 + "/auth/identities/{id}", Call: api.Act("auth.RemoveIdentity", p.auth.RemoveIdentity), Credential: api.Session, Fresh: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "identity.unlink", Role: main, Summary: "Take that back", Status: 204},

		{Method: "GET", Path: v1 + "/tenant/sso", Call: api.Call("auth.Connections", p.auth.Connections), Credential: api.Member, Permission: "tenant:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "The tenant's own identity providers"},
		{Method: "POST", Path: v1 + "/tenant/sso", Call: api.Call("auth.CreateConnection", p.auth.CreateConnection), Credential: api.Session, Fresh: true, Permission: "tenant:write", Feature: "sso", Class: "light", Meter: none, Audit: "sso.create", Role: main, Summary: "Add one", Status: 201},
		{Method: "GET", Path: v1 + "/tenant/sso/{id}", Call: api.Call("auth.Connection", p.auth.Connection), Credential: api.Member, Permission: "tenant:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "One of them"},
		{Method: "PATCH", Path: v1 + "/tenant/sso/{id}", Call: api.Call("auth.UpdateConnection", p.auth.UpdateConnection), Credential: api.Session, Fresh: true, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "sso.update", Role: main, Summary: "Change it, or switch it off"},
		{Method: "DELETE", Path: v1 + "/tenant/sso/{id}", Call: api.Act("auth.DeleteConnection", p.auth.DeleteConnection), Credential: api.Session, Fresh: true, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "sso.delete", Role: main, Summary: "Take it away; its sessions end", Status: 204},

		{Method: "GET", Path: v1 + "/tenant/scim-tokens", Call: api.Call("auth.SCIMTokens", p.auth.SCIMTokens), Credential: api.Session, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What lets the tenant's directory in"},
		{Method: "POST", Path: v1 + "/tenant/scim-tokens", Call: api.Call("auth.CreateSCIMToken", p.auth.CreateSCIMToken), Credential: api.Session, Fresh: true, Permission: "tenant:write", Feature: "scim", Class: "light", Meter: none, Audit: "scim_token.create", Role: main, Summary: "Make a token for a directory; it is shown once", Status: 201},
		{Method: "DELETE", Path: v1 + "/tenant/scim-tokens/{id}", Call: api.Act("auth.RevokeSCIMToken", p.auth.RevokeSCIMToken), Credential: api.Session, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "scim_token.revoke", Role: main, Summary: "Revoke one", Status: 204},
		{Method: "GET", Path: v1 + "/tenant/scim-groups", Call: api.Call("auth.DirectoryGroups", p.auth.DirectoryGroups), Credential: api.Session, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "The groups of the tenant's directory, and the roles that they give"},
		{Method: "PATCH", Path: v1 + "/tenant/scim-groups/{id}", Call: api.Call("auth.MapGroup", p.auth.MapGroup), Credential: api.Session, Fresh: true, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "scim_group.map", Role: main, Summary: "Say which role a group gives, or that it gives none"},

		// SCIM 2.0, for a tenant's directory.
		{Method: "GET", Path: scim + "/ServiceProviderConfig", Call: api.SCIM("auth.SCIMServiceConfig", p.auth.SCIMServiceConfig), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "What of SCIM is supported"},
		{Method: "GET", Path: scim + "/ResourceTypes", Call: api.SCIM("auth.SCIMResources", p.auth.SCIMResources), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "The kinds of resources"},
		{Method: "GET", Path: scim + "/ResourceTypes/{id}", Call: api.SCIM("auth.SCIMResource", p.auth.SCIMResource), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "One of them"},
		{Method: "GET", Path: scim + "/Schemas", Call: api.SCIM("auth.SCIMSchemas", p.auth.SCIMSchemas), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "What resources are made of"},
		{Method: "GET", Path: scim + "/Schemas/{id}", Call: api.SCIM("auth.SCIMSchema", p.auth.SCIMSchema), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "One of them"},
		{Method: "GET", Path: scim + "/Users", Call: api.SCIM("auth.SCIMUsers", p.auth.SCIMUsers), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "The people whom the directory provisioned"},
		{Method: "POST", Path: scim + "/Users", Call: api.SCIM("auth.CreateSCIMUser", p.auth.CreateSCIMUser), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim.create", Role: main, Summary: "Provision a person", Status: 201},
		{Method: "GET", Path: scim + "/Users/{id}", Call: api.SCIM("auth.SCIMUser", p.auth.SCIMUser), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "One of them"},
		{Method: "PUT", Path: scim + "/Users/{id}", Call: api.SCIM("auth.PutSCIMUser", p.auth.PutSCIMUser), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim.update", Role: main, Summary: "Replace what is said of a person"},
		{Method: "PATCH", Path: scim + "/Users/{id}", Call: api.SCIM("auth.PatchSCIMUser", p.auth.PatchSCIMUser), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim.update", Role: main, Summary: "Change some of it; active false ends sessions and keys"},
		{Method: "DELETE", Path: scim + "/Users/{id}", Call: api.SCIMAct("auth.DeleteSCIMUser", p.auth.DeleteSCIMUser), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim.delete", Role: main, Summary: "Take a person out of the tenant", Status: 204},
		{Method: "GET", Path: scim + "/Groups", Call: api.SCIM("auth.SCIMGroups", p.auth.SCIMGroups), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "The groups of the directory"},
		{Method: "POST", Path: scim + "/Groups", Call: api.SCIM("auth.CreateSCIMGroup", p.auth.CreateSCIMGroup), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim_group.create", Role: main, Summary: "Tell of a group", Status: 201},
		{Method: "GET", Path: scim + "/Groups/{id}", Call: api.SCIM("auth.SCIMGroup", p.auth.SCIMGroup), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: none, Role: main, Summary: "One of them"},
		{Method: "PUT", Path: scim + "/Groups/{id}", Call: api.SCIM("auth.PutSCIMGroup", p.auth.PutSCIMGroup), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim_group.update", Role: main, Summary: "Replace it and who is in it"},
		{Method: "PATCH", Path: scim + "/Groups/{id}", Call: api.SCIMAct("auth.PatchSCIMGroup", p.auth.PatchSCIMGroup), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim_group.update", Role: main, Summary: "Change some of it: who comes and goes", Status: 204},
		{Method: "DELETE", Path: scim + "/Groups/{id}", Call: api.SCIMAct("auth.DeleteSCIMGroup", p.auth.DeleteSCIMGroup), Credential: api.Directory, Permission: none, Feature: "scim", Class: "light", Meter: none, Audit: "scim_group.delete", Role: main, Summary: "Take it away, and the role that it gave", Status: 204},
	}
}
