package auth_test

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crewjam/saml"

	"github.com/chainreactions/chainreactions/app/sandbox/idp"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// federation is a tenant with a SAML provider of its own and a proved domain.
type federation struct {
	*house
	provider *idp.SAML
	auth.Connection
}

func federate(t *testing.T, db testdb.DB) (*federation, context.Context) {
	t.Helper()
	h := newHouse(t, db)
	_, inside := h.owner("boss@uni.test")
	h.connect(inside, "uni.test")
	p, err := idp.NewSAML("https://idp.uni.test", h.Now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.CreateConnection(inside, auth.CreateConnectionRequest{Kind: "saml", Name: "Uni", Metadata: p.Metadata(), DefaultRole: "analyst"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Service, err = h.SAMLMetadata(public(), auth.SAMLRequest{Provider: c.ID}); err != nil {
		t.Fatal(err)
	}
	p.Person = idp.Person{Subject: "u-ada", Email: "ada@uni.test", Name: "Ada"}
	return &federation{h, p, c}, inside
}

// leave begins, and gives the address at the provider.
func (f *federation) leave(b *browser) string {
	f.t.Helper()
	out, err := f.StartSAML(public(), auth.StartSAMLRequest{Provider: f.ID, ReturnTo: "/runs", Browser: b.cookie})
	if err != nil {
		f.t.Fatal(err)
	}
	b.cookie = out.Browser
	return out.To
}

func (f *federation) post(response []byte, relay string) (auth.Redirect, error) {
	return f.SAMLResponse(public(), auth.SAMLResponseRequest{Provider: f.ID, Response: base64.StdEncoding.EncodeToString(response), RelayState: relay})
}

func (f *federation) finish(b *browser, r auth.Redirect) (auth.Redirect, error) {
	_, ticket, _ := strings.Cut(r.To, "?ticket=")
	return f.FinishSAML(public(), auth.FinishSAMLRequest{Provider: f.ID, Ticket: ticket, Browser: b.cookie})
}

// A colleague is sent to the tenant's SAML provider and back, becomes a member of
// the tenant and is known by the provider's own id of them; a post alone, without
// the browser that began, signs nobody in.
func TestSAML(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		f, inside := federate(t, db)
		if !strings.Contains(string(f.provider.Service), f.CallbackURL) || !strings.Contains(string(f.provider.Service), `WantAssertionsSigned="true"`) {
			t.Errorf("our metadata: %s", f.provider.Service)
		}
		b := &browser{h: f.house}
		response, relay, err := f.provider.Answer(f.leave(b))
		if err != nil {
			t.Fatal(err)
		}
		step, err := f.post(response, relay)
		if token, _ := step.Cookie(); err != nil || token != "" || !strings.HasPrefix(step.To, "https://example.test/api/v1/auth/saml/"+f.ID+"/finish?ticket=") {
			t.Fatalf("%+v %v", step, err)
		}
		if _, err := f.finish(&browser{cookie: strings.Repeat("x", 43)}, step); domain.CodeOf(err) != "sso_expired" {
			t.Errorf("another browser: %v", err)
		}
		out, err := f.finish(b, step)
		if err != nil || out.To != "https://example.test/runs" {
			t.Fatalf("%+v %v", out, err)
		}
		_, p := b.session(out)
		if p.TenantID != domain.TenantOf(inside) || !p.Bound || p.Factors != "saml" || p.Role != "analyst" {
			t.Errorf("%+v", p)
		}
		if _, err := f.finish(b, step); domain.CodeOf(err) != "sso_expired" {
			t.Errorf("twice: %v", err)
		}
		// By another address, the same person; with another id, another.
		f.provider.Person.Email = "married@uni.test"
		response, relay, _ = f.provider.Answer(f.leave(b))
		if step, err = f.post(response, relay); err != nil {
			t.Fatal(err)
		}
		if out, err = f.finish(b, step); err != nil {
			t.Fatal(err)
		}
		if _, again := b.session(out); again.ID != p.ID {
			t.Error("another address is another person")
		}
		// An address outside the tenant's domain counts for nothing.
		f.provider.Person = idp.Person{Subject: "u-x", Email: "boss@elsewhere.test"}
		response, relay, _ = f.provider.Answer(f.leave(b))
		if step, err = f.post(response, relay); err != nil {
			t.Fatal(err)
		}
		if _, err = f.finish(b, step); domain.CodeOf(err) != "sso_unverified" {
			t.Error(err)
		}
		// The owner's account is linked by the owner alone.
		f.provider.Person = idp.Person{Subject: "u-boss", Email: "boss@uni.test"}
		response, relay, _ = f.provider.Answer(f.leave(b))
		if step, err = f.post(response, relay); err != nil {
			t.Fatal(err)
		}
		if out, err = f.finish(b, step); err != nil {
			t.Fatal(err)
		}
		if step, _ := ticket(t, out); step != "link" {
			t.Errorf("step %s", step)
		}

		for name, text := range map[string]string{"nothing": "", "no XML": "x", "no provider": string(f.provider.Service), "no key": regexp.MustCompile(`(?s)<KeyDescriptor.*</KeyDescriptor>`).ReplaceAllString(f.provider.Metadata(), ""),
			"a place that runs a script": strings.ReplaceAll(f.provider.Metadata(), "https://idp.uni.test/sso", "javascript:alert(1)"),
			"an entity":                  `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + f.provider.Metadata()} {
			if _, err := f.CreateConnection(inside, auth.CreateConnectionRequest{Kind: "saml", Name: "x", Metadata: text}); domain.KindOf(err) != domain.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// What may be tried with a response: each is refused, signs nobody in, and stands
// on the tenant's record.
func TestSAMLAttacks(t *testing.T) {
	f, inside := federate(t, testdb.SQLite(t))
	assertion := regexp.MustCompile(`(?s)<saml:Assertion.*</saml:Assertion>`)
	signature := regexp.MustCompile(`(?s)<ds:Signature.*?</ds:Signature>`)
	change := func(fn func(a *saml.Assertion)) func(*idp.SAML) { return func(p *idp.SAML) { p.Change = fn } }
	swap := func(from, to string) func(string) string {
		return func(x string) string { return strings.ReplaceAll(x, from, to) }
	}
	// An evil twin of the assertion: unsigned, with another subject.
	twin := func(x string) string {
		evil := signature.ReplaceAllString(assertion.FindString(x), "")
		return strings.ReplaceAll(strings.ReplaceAll(evil, "u-ada", "u-boss"), "ada@uni.test", "boss@uni.test")
	}
	newID := func(x string) string {
		return regexp.MustCompile(`ID="id-[0-9a-f]+"`).ReplaceAllString(x, `ID="id-evil"`)
	}
	for name, a := range map[string]struct {
		before func(*idp.SAML)
		after  func(string) string
		relay  string
		silent bool
	}{
		"no signature":             {after: func(x string) string { return signature.ReplaceAllString(x, "") }},
		"another subject":          {after: swap("u-ada", "u-boss")},
		"another address":          {after: swap("ada@uni.test", "boss@uni.test")},
		"a comment in the subject": {after: swap("u-ada", "u-boss<!-- -->u-ada")},
		"wrapped: a twin before it": {after: func(x string) string {
			return strings.Replace(x, "<saml:Assertion", newID(twin(x))+"<saml:Assertion", 1)
		}},
		"wrapped: a twin after it": {after: func(x string) string {
			return strings.Replace(x, "</saml:Assertion>", "</saml:Assertion>"+newID(twin(x)), 1)
		}},
		"wrapped: a twin of the same id": {after: func(x string) string { return strings.Replace(x, "<saml:Assertion", twin(x)+"<saml:Assertion", 1) }},
		"wrapped: the original in an extension": {after: func(x string) string {
			honest := assertion.FindString(x)
			return strings.Replace(strings.Replace(x, honest, newID(twin(x)), 1), "<samlp:Status>", "<samlp:Extensions>"+honest+"</samlp:Extensions><samlp:Status>", 1)
		}},
		"wrapped: the original in its signature": {after: func(x string) string {
			honest := assertion.FindString(x)
			sig := signature.FindString(honest)
			bare := strings.Replace(honest, sig, "", 1)
			withObject := strings.Replace(sig, "</ds:Signature>", "<ds:Object>"+bare+"</ds:Object></ds:Signature>", 1)
			evil := newID(twin(x))
			at := strings.Index(evil, "</saml:Issuer>") + len("</saml:Issuer>")
			return strings.Replace(x, honest, evil[:at]+withObject+evil[at:], 1)
		}},
		"signed with another key": {before: func(p *idp.SAML) {
			other, err := p.Impostor()
			if err != nil {
				t.Fatal(err)
			}
			*p = *other
		}},
		"for another service":      {before: change(func(a *saml.Assertion) { a.Conditions.AudienceRestrictions[0].Audience.Value = "https://other.test" })},
		"for nobody in particular": {before: change(func(a *saml.Assertion) { a.Conditions.AudienceRestrictions = nil })},
		"for another address of ours": {before: change(func(a *saml.Assertion) {
			a.Subject.SubjectConfirmations[0].SubjectConfirmationData.Recipient = "https://example.test/elsewhere"
		})},
		"to another request": {before: change(func(a *saml.Assertion) {
			a.Subject.SubjectConfirmations[0].SubjectConfirmationData.InResponseTo = "id-another"
		})},
		"to no request": {before: change(func(a *saml.Assertion) {
			a.Subject.SubjectConfirmations[0].SubjectConfirmationData.InResponseTo = ""
		})},
		"expired": {before: change(func(a *saml.Assertion) {
			a.Conditions.NotOnOrAfter = f.Now().Add(-time.Hour)
		})},
		"of yesterday":                       {before: change(func(a *saml.Assertion) { a.IssueInstant = f.Now().Add(-24 * time.Hour) })},
		"of tomorrow":                        {before: change(func(a *saml.Assertion) { a.Conditions.NotBefore = f.Now().Add(24 * time.Hour) })},
		"of another issuer":                  {before: change(func(a *saml.Assertion) { a.Issuer.Value = "https://idp.other.test" })},
		"not a sign-in":                      {before: change(func(a *saml.Assertion) { a.AuthnStatements = nil })},
		"a subject of a day":                 {before: change(func(a *saml.Assertion) { a.Subject.NameID.Format = string(saml.TransientNameIDFormat) })},
		"no subject":                         {before: change(func(a *saml.Assertion) { a.Subject.NameID.Value = "" })},
		"a document type":                    {after: func(x string) string { return `<!DOCTYPE r [<!ENTITY a "aaaa">]>` + x }},
		"no XML":                             {after: func(string) string { return "x" }},
		"a failure":                          {after: swap("status:Success", "status:Responder")},
		"a relay state that was never given": {relay: strings.Repeat("x", 43), silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			provider := *f.provider
			if a.before != nil {
				a.before(&provider)
			}
			b := &browser{h: f.house}
			response, relay, err := provider.Answer(f.leave(b))
			if err != nil {
				t.Fatal(err)
			}
			if a.after != nil {
				changed := a.after(string(response))
				if changed == string(response) {
					t.Fatal("nothing was changed")
				}
				response = []byte(changed)
			}
			if a.relay != "" {
				relay = a.relay
			}
			const refused = `SELECT count(*) FROM audit_events WHERE tenant_id = @of AND action = 'identity.refuse'`
			const there = `SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM identities) + (SELECT count(*) FROM users)`
			of := map[string]any{"of": domain.TenantOf(inside)}
			said, was := f.count(refused, of), f.count(there, nil)
			out, err := f.post(response, relay)
			if err == nil {
				out, err = f.finish(b, out)
			}
			want := "sso_failed"
			if a.silent {
				want = "sso_expired"
			}
			if domain.CodeOf(err) != want {
				t.Errorf("%+v %v", out, err)
			}
			if n := f.count(there, nil); n != was {
				t.Errorf("%d rows were made", n-was)
			}
			if n := f.count(refused, of) - said; n != 1 && !a.silent || n != 0 && a.silent {
				t.Errorf("%d refusals on the record", n)
			}
		})
	}

	// The same response a second time, and the same assertion to another request.
	b := &browser{h: f.house}
	response, relay, err := f.provider.Answer(f.leave(b))
	if err != nil {
		t.Fatal(err)
	}
	step, err := f.post(response, relay)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.finish(b, step); err != nil {
		t.Fatal(err)
	}
	if _, err := f.post(response, relay); domain.CodeOf(err) != "sso_expired" {
		t.Errorf("a second time: %v", err)
	}
	// A comment does not change what a signature covers. A subject that one stands
	// in is the whole text, or nobody.
	for _, split := range []string{"u<!-- -->-ada", "u-a<!-- -->da", "<!-- -->u-ada"} {
		before := f.count(`SELECT count(*) FROM identities`, nil)
		commented, relay, err := f.provider.Answer(f.leave(b))
		if err != nil {
			t.Fatal(err)
		}
		if step, err := f.post([]byte(strings.Replace(string(commented), ">u-ada<", ">"+split+"<", 1)), relay); err == nil {
			if _, err = f.finish(b, step); err != nil || f.count(`SELECT count(*) FROM identities`, nil) != before {
				t.Errorf("%s: somebody else: %v", split, err)
			}
		}
	}
	var shape struct {
		XMLName   xml.Name
		Assertion struct {
			ID string `xml:",attr"`
		} `xml:"Assertion"`
	}
	if err := xml.Unmarshal(response, &shape); err != nil || shape.Assertion.ID == "" {
		t.Fatal(err)
	}
	f.provider.Change = func(a *saml.Assertion) { a.ID = shape.Assertion.ID }
	response, relay, err = f.provider.Answer(f.leave(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.post(response, relay); domain.CodeOf(err) != "sso_failed" {
		t.Errorf("an assertion twice: %v", err)
	}
	f.provider.Change = nil
	response, relay, _ = f.provider.Answer(f.leave(b))
	if step, err = f.post(response, relay); err != nil {
		t.Fatal(err)
	}
	if _, err = f.finish(b, step); err != nil {
		t.Errorf("the honest way afterwards: %v", err)
	}
}
