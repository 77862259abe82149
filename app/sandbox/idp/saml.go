package idp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/crewjam/saml"
	"github.com/crewjam/saml/samlsp"
	dsig "github.com/russellhaering/goxmldsig"
)

// SAML is a SAML 2.0 provider for one service. It answers a request that came by
// redirect with what its page would post.
type SAML struct {
	EntityID string
	Person   Person
	Now      func() time.Time
	Service  []byte // the metadata of the service

	Change func(a *saml.Assertion) // changes an assertion before it is signed

	key         *rsa.PrivateKey
	certificate *x509.Certificate
}

// NewSAML makes a provider that answers at an address.
func NewSAML(address string, now func() time.Time) (*SAML, error) {
	key, err := honest()
	if err != nil {
		return nil, err
	}
	return newSAML(address, now, key)
}

func newSAML(address string, now func() time.Time, key *rsa.PrivateKey) (*SAML, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: address}, NotBefore: now().Add(-time.Hour), NotAfter: now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &SAML{EntityID: address, Now: now, key: key, certificate: certificate}, err
}

func (p *SAML) provider() *saml.IdentityProvider {
	metadata, _ := url.Parse(p.EntityID)
	sso, _ := url.Parse(p.EntityID + "/sso")
	return &saml.IdentityProvider{Key: p.key, Certificate: p.certificate, MetadataURL: *metadata, SSOURL: *sso, ServiceProviderProvider: p, Clock: dsig.NewFakeClockAt(p.Now()),
		SignatureMethod: dsig.RSASHA256SignatureMethod}
}

// GetServiceProvider is the library's: the one service that is known.
func (p *SAML) GetServiceProvider(*http.Request, string) (*saml.EntityDescriptor, error) {
	if len(p.Service) == 0 {
		return nil, os.ErrNotExist
	}
	return samlsp.ParseMetadata(p.Service)
}

// Metadata is what the provider says of itself.
func (p *SAML) Metadata() string {
	text, err := xml.MarshalIndent(p.provider().Metadata(), "", " ")
	if err != nil {
		panic(fmt.Sprintf("idp: %v", err))
	}
	return string(text)
}

// Answer takes the address that a browser was led to, and gives what the page
// posts: the response, as XML, and the relay state.
func (p *SAML) Answer(address string) (response []byte, relay string, err error) {
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, "", err
	}
	req, err := saml.NewIdpAuthnRequest(p.provider(), r)
	if err != nil {
		return nil, "", err
	}
	if err := req.Validate(); err != nil {
		return nil, "", err
	}
	session := &saml.Session{ID: "s", CreateTime: p.Now(), ExpireTime: p.Now().Add(time.Hour), Index: "1", NameID: p.Person.Subject,
		NameIDFormat: string(saml.PersistentNameIDFormat), CustomAttributes: []saml.Attribute{
			{Name: "mail", NameFormat: "urn:oasis:names:tc:SAML:2.0:attrname-format:basic", Values: []saml.AttributeValue{{Type: "xs:string", Value: p.Person.Email}}},
			{Name: "displayName", NameFormat: "urn:oasis:names:tc:SAML:2.0:attrname-format:basic", Values: []saml.AttributeValue{{Type: "xs:string", Value: p.Person.Name}}}}}
	if err := (saml.DefaultAssertionMaker{}).MakeAssertion(req, session); err != nil {
		return nil, "", err
	}
	if p.Change != nil {
		p.Change(req.Assertion)
	}
	form, err := req.PostBinding()
	if err != nil {
		return nil, "", err
	}
	response, err = base64.StdEncoding.DecodeString(form.SAMLResponse)
	return response, form.RelayState, err
}

// Impostor is a provider that claims another's name with a key of its own.
func (p *SAML) Impostor() (*SAML, error) {
	key, err := impostor()
	if err != nil {
		return nil, err
	}
	other, err := newSAML(p.EntityID, p.Now, key)
	if err == nil {
		other.Service, other.Person = p.Service, p.Person
	}
	return other, err
}
