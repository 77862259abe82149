package domain

import "context"

// Scope says for whom a call runs. It is set by the guard chain and by the job
// runner, and by no one else; everything below reads the tenant from here.
type Scope struct {
	Tenant    string // ten_…; empty only in a system scope
	Actor     Actor
	RequestID string
	IP        string
	UserAgent string
	Language  string // "zh" or "en": what answers are worded in
	Browser   bool   // a page calls: what it must not read is not in the answer
	system    string // the reason, when the call crosses tenants
}

// Actor is who acts, for the audit record.
type Actor struct {
	Kind string // "user", "api_key", "scim" (a tenant's directory), "admin" (of the platform) or "system"
	ID   string
	Via  string // the session of a user

	// Bound says that the session was opened by the tenant's own identity
	// provider: what the person is elsewhere is not its tenant's to see or change.
	Bound bool

	Impersonator string // the platform administrator who acts as this user
}

// System reports whether the scope crosses tenants, and why.
func (s Scope) System() (reason string, ok bool) { return s.system, s.system != "" }

type scopeKey struct{}

// WithScope puts a tenant's scope into the context.
func WithScope(ctx context.Context, s Scope) context.Context {
	s.system = ""
	return context.WithValue(ctx, scopeKey{}, s)
}

// System lifts the tenant filter from everything below. Never use it for what
// a user asked for: it is for sign-in, webhooks, scheduled work and the like,
// where no tenant is known yet or all are meant. The reason is logged and
// recorded. A test lists its callers.
func System(ctx context.Context, reason string) context.Context {
	if reason == "" {
		panic("domain.System needs a reason")
	}
	s, _ := ScopeOf(ctx)
	s.system = reason
	s.Tenant = ""
	if s.Actor.Kind == "" {
		s.Actor = Actor{Kind: "system", ID: reason}
	}
	return context.WithValue(ctx, scopeKey{}, s)
}

// Itself is the scope of ctx with the system as the actor: for the ends of work
// that somebody asked for and nobody does.
func Itself(ctx context.Context, doing string) context.Context {
	s, _ := ScopeOf(ctx)
	s.Actor = Actor{Kind: "system", ID: doing}
	return context.WithValue(ctx, scopeKey{}, s)
}

// ScopeOf reads the scope; ok is false where nobody set one.
func ScopeOf(ctx context.Context) (Scope, bool) {
	s, ok := ctx.Value(scopeKey{}).(Scope)
	return s, ok
}

// TenantOf is the tenant of the scope, or "".
func TenantOf(ctx context.Context) string {
	s, _ := ScopeOf(ctx)
	return s.Tenant
}

// LanguageOf is the language of whoever called: "zh", or "en" where none is known.
func LanguageOf(ctx context.Context) string {
	if s, _ := ScopeOf(ctx); s.Language != "" {
		return s.Language
	}
	return "en"
}
