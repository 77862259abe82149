package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/crewjam/saml"
	"github.com/crewjam/saml/samlsp"
	dsig "github.com/russellhaering/goxmldsig"
	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
)

// SAML 2.0, web browser single sign-on: a request by redirect, a response by
// post. The response must answer a request of ours (nothing unsolicited is
// taken), and its assertion must be signed with a certificate of the tenant's
// metadata, made for us, of now, and never seen before; the library holds it to
// the rest, and reads nothing but the bytes that the signature covers.
//
// The post comes from the provider's page, and a browser sends no cookie of ours
// with it. So it is answered with a ticket that opens nothing but one more step,
// to which the browser brings the cookie that it began with.
//
// SAML has no word for a verified address: one counts if its domain is the
// tenant's, proved.

// samlAssertion is one that was accepted.
type samlAssertion struct {
	Hash      string `gorm:"primaryKey"`
	ExpiresAt time.Time
}

func (samlAssertion) TableName() string { return "saml_assertions" }

// seen is the library's memory of assertions, for one connection, in the
// database: every process knows what any has accepted.
type seen struct {
	s          *Service
	ctx        context.Context
	connection string
}

// Consume takes an assertion, once.
func (m seen) Consume(id string, until time.Time) error {
	return m.s.Store.Tx(domain.System(m.ctx, "assertions that were accepted"), func(ctx context.Context) error {
		made := m.s.Store.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&samlAssertion{hashOf(m.connection + " " + id), until.UTC()})
		if made.Error == nil && made.RowsAffected == 0 {
			return saml.ErrAssertionReplayed
		}
		return made.Error
	})
}

func (s *Service) samlAt(connection, step string) string {
	return s.link("/api/v1/auth/saml/" + connection + "/" + step)
}

func badMetadata(cause error) error {
	return domain.InvalidField("metadata", "not_a_provider", "This is not the metadata of a SAML 2.0 identity provider with an https address and a signing certificate.").Because(cause)
}

// declares reports whether XML brings declarations of its own: SAML has none, and
// entities are how one text reads as another.
func declares(xml []byte) bool { return bytes.Contains(bytes.ToUpper(xml), []byte("<!DOCTYPE")) }

// readMetadata reads what a provider says of itself, and refuses one that could
// not be believed later.
func (s *Service) readMetadata(text string) (*saml.EntityDescriptor, error) {
	if declares([]byte(text)) {
		return nil, badMetadata(errors.New("a document type"))
	}
	d, err := samlsp.ParseMetadata([]byte(text))
	if err != nil {
		return nil, badMetadata(err)
	}
	if d.EntityID == "" || len(d.EntityID) > 500 {
		return nil, badMetadata(errors.New("no entity id"))
	}
	signs := false
	for _, role := range d.IDPSSODescriptors {
		for _, k := range role.KeyDescriptors {
			signs = signs || k.Use != "encryption" && len(k.KeyInfo.X509Data.X509Certificates) > 0
		}
	}
	sp := saml.ServiceProvider{IDPMetadata: d}
	if !signs {
		return nil, badMetadata(errors.New("no signing certificate"))
	}
	if err := s.mayLead(sp.GetSSOBindingLocation(saml.HTTPRedirectBinding)); err != nil {
		return nil, badMetadata(err)
	}
	return d, nil
}

// serviceProvider is what we are to the provider of a connection.
func (s *Service) serviceProvider(ctx context.Context, c Connection) (*saml.ServiceProvider, error) {
	metadata, err := url.Parse(s.samlAt(c.ID, "metadata"))
	if err != nil {
		return nil, err
	}
	acs, err := url.Parse(s.samlAt(c.ID, "acs"))
	if err != nil {
		return nil, err
	}
	d, err := s.readMetadata(c.Metadata)
	return &saml.ServiceProvider{EntityID: metadata.String(), MetadataURL: *metadata, AcsURL: *acs, IDPMetadata: d, AuthnNameIDFormat: saml.UnspecifiedNameIDFormat,
		RejectSHA1Signatures: true, RejectUnknownConditions: true, RejectExpiredIDPMetadata: true,
		ReplayCache: seen{s, ctx, c.ID}, Clock: dsig.NewFakeClockAt(s.Now())}, err
}

// SAMLRequest names a connection.
type SAMLRequest struct {
	Provider string `path:"provider" maxLength:"64"`
}

// SAMLMetadata is what we are, for the provider to read.
func (s *Service) SAMLMetadata(ctx context.Context, in SAMLRequest) ([]byte, error) {
	c, err := s.usable(ctx, in.Provider, "saml")
	if err != nil {
		return nil, err
	}
	sp, err := s.serviceProvider(ctx, c)
	if err != nil {
		return nil, err
	}
	return xml.MarshalIndent(sp.Metadata(), "", " ")
}

// StartSAMLRequest begins a sign-in.
type StartSAMLRequest struct {
	Provider string `path:"provider" maxLength:"64"`
	ReturnTo string `query:"return_to" maxLength:"500" doc:"a path of the portal; / without it"`
	Browser  string `cookie:"sso" maxLength:"100"`
}

// StartSAML sends a browser to a provider with a request.
func (s *Service) StartSAML(ctx context.Context, in StartSAMLRequest) (out Redirect, err error) {
	c, err := s.usable(ctx, in.Provider, "saml")
	if err != nil {
		return out, err
	}
	sp, err := s.serviceProvider(ctx, c)
	if err != nil {
		return out, err
	}
	req, err := sp.MakeAuthenticationRequest(sp.GetSSOBindingLocation(saml.HTTPRedirectBinding), saml.HTTPRedirectBinding, saml.HTTPPostBinding)
	if err != nil {
		return out, err
	}
	relay, browser, err := s.keepFlow(ctx, "sent", c.ID, in.Browser, "", sentAway{ReturnTo: ownPath(in.ReturnTo), Request: req.ID})
	if err != nil {
		return out, err
	}
	to, err := req.Redirect(relay, sp)
	if err != nil {
		return out, err
	}
	return Redirect{To: to.String(), Browser: browser}, nil
}

// SAMLResponseRequest is what a provider's page posts.
type SAMLResponseRequest struct {
	Provider   string `path:"provider" maxLength:"64"`
	Response   string `form:"SAMLResponse" maxLength:"300000"`
	RelayState string `form:"RelayState" maxLength:"100"`
}

// SAMLResponse holds a response against what was asked for, and sends the browser
// to bring its cookie.
func (s *Service) SAMLResponse(ctx context.Context, in SAMLResponseRequest) (out Redirect, err error) {
	var sent sentAway
	flow, err := s.findFlow(ctx, "sent", in.Provider, in.RelayState, &sent)
	if err != nil {
		return out, err
	}
	if err := s.Store.Tx(domain.System(ctx, "sign-in through others"), func(ctx context.Context) error { return s.endFlow(ctx, flow) }); err != nil {
		return out, err
	}
	c, err := s.usable(ctx, in.Provider, "saml")
	if err != nil {
		return out, err
	}
	sp, err := s.serviceProvider(ctx, c)
	if err != nil {
		return out, err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.Response), ""))
	if err != nil {
		return out, s.unusable(ctx, c.TenantID, c.ID, err)
	}
	if declares(raw) {
		return out, s.unusable(ctx, c.TenantID, c.ID, errors.New("a document type"))
	}
	assertion, err := sp.ParseXMLResponse(raw, []string{sent.Request}, sp.AcsURL)
	if err != nil {
		var invalid *saml.InvalidResponseError
		if errors.As(err, &invalid) {
			err = invalid.PrivateErr
		}
		return out, s.unusable(ctx, c.TenantID, c.ID, err)
	}
	k, err := s.readAssertion(assertion)
	if err != nil {
		return out, s.unusable(ctx, c.TenantID, c.ID, err)
	}
	k.Tenant, k.Issuer = c.TenantID, c.Issuer
	ticket, err := s.putFlow(ctx, ssoFlow{Step: "arrived", Provider: c.ID, Browser: flow.Browser}, arrivedBy{k, sent.ReturnTo})
	return Redirect{To: s.samlAt(c.ID, "finish") + "?ticket=" + ticket}, err
}

// arrivedBy is an arrival whose browser has yet to show its cookie.
type arrivedBy struct {
	Kept     kept
	ReturnTo string
}

// addressNames are those by which providers give a person's address.
var addressNames = []string{"email", "mail", "emailaddress", "urn:oid:0.9.2342.19200300.100.1.3", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"}

// readAssertion takes what is needed from an assertion that was checked. A
// subject is kept with its format and qualifiers; a transient one is nobody.
func (s *Service) readAssertion(a *saml.Assertion) (k kept, err error) {
	id := a.Subject.NameID
	switch {
	case id == nil || strings.TrimSpace(id.Value) == "" || len(id.Value) > 255:
		return k, errors.New("the subject is empty or too long")
	case id.Format == string(saml.TransientNameIDFormat):
		return k, errors.New("the subject is a new one each time")
	}
	k = kept{Subject: strings.Join([]string{id.Value, id.Format, id.NameQualifier, id.SPNameQualifier}, "|"), Factor: "saml"}
	for _, statement := range a.AttributeStatements {
		for _, attribute := range statement.Attributes {
			if len(attribute.Values) == 0 {
				continue
			}
			switch name := strings.ToLower(attribute.Name); {
			case slices.Contains(addressNames, name):
				k.Email = fold(attribute.Values[0].Value)
			case name == "displayname" || name == "http://schemas.microsoft.com/identity/claims/displayname" || name == "urn:oid:2.16.840.1.113730.3.1.241":
				k.Name = attribute.Values[0].Value
			}
		}
	}
	if k.Email == "" && id.Format == string(saml.EmailAddressNameIDFormat) {
		k.Email = fold(id.Value)
	}
	for _, statement := range a.AuthnStatements {
		if statement.AuthnInstant.After(k.Proved) {
			k.Proved = statement.AuthnInstant
		}
	}
	return k, nil
}

// FinishSAMLRequest is the browser's last step.
type FinishSAMLRequest struct {
	Provider string `path:"provider" maxLength:"64"`
	Ticket   string `query:"ticket" maxLength:"100"`
	Browser  string `cookie:"sso" maxLength:"100"`
}

// FinishSAML signs in whom the assertion named, in the browser that began.
func (s *Service) FinishSAML(ctx context.Context, in FinishSAMLRequest) (out Redirect, err error) {
	var by arrivedBy
	if _, err := s.takeFlow(ctx, "arrived", in.Provider, in.Ticket, in.Browser, &by); err != nil {
		return out, err
	}
	if _, err := s.usable(ctx, in.Provider, "saml"); err != nil {
		return out, err
	}
	a := by.Kept.arrival(in.Provider)
	if a.verified, err = s.proves(ctx, a.tenant, a.email); err != nil {
		return out, err
	}
	return s.arrive(ctx, a, by.ReturnTo, in.Browser)
}

var _ = domain.Chinese(map[string]string{
	"This is not the metadata of a SAML 2.0 identity provider with an https address and a signing certificate.": "这不是带有 https 地址和签名证书的 SAML 2.0 身份提供方元数据。",
})
