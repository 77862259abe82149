package auth_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// lassoIdP is a provider by lasso, a SAML implementation in C that has nothing in
// common with ours. Debian has it as python3-lasso, for Debian's own Python.
type lassoIdP struct {
	t                          *testing.T
	metadata, key, certificate string
	service                    []byte
	ask                        *json.Encoder
	told                       *json.Decoder
}

const debianPython = "/usr/bin/python3"

func newLassoIdP(t *testing.T) *lassoIdP {
	t.Helper()
	if err := exec.Command(debianPython, "-c", "import lasso").Run(); err != nil {
		t.Skip("SKIPPED: SAML is not held against a second implementation here: install python3-lasso, or run make check-saml")
	}
	run := exec.Command(debianPython, "testdata/lasso_idp.py")
	run.Stderr = os.Stderr
	in, err := run.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = run.Wait() })
	l := &lassoIdP{t: t, ask: json.NewEncoder(in), told: json.NewDecoder(out)}
	l.key, l.certificate, l.metadata = lassoIdentity(t)
	return l
}

// lassoIdentity makes a key, its certificate and the metadata that show it.
func lassoIdentity(t *testing.T) (pemKey, pemCertificate, metadata string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp.uni.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), block("CERTIFICATE", der), fmt.Sprintf(`<?xml version="1.0"?>
<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="https://idp.uni.test/metadata">
<IDPSSODescriptor WantAuthnRequestsSigned="false" protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
<KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>%s</ds:X509Certificate></ds:X509Data></ds:KeyInfo></KeyDescriptor>
<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.uni.test/sso"/>
</IDPSSODescriptor></EntityDescriptor>`, base64.StdEncoding.EncodeToString(der))
}

type lassoAnswer struct{ Response, Relay, To, Issuer, Refused string }

// answer gives what the page of the provider posts, who is wrong in a way.
func (l *lassoIdP) answer(address, wrong string) (out lassoAnswer) {
	l.t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		l.t.Fatal(err)
	}
	err = l.ask.Encode(map[string]string{"metadata": l.metadata, "key": l.key, "certificate": l.certificate, "service": string(l.service), "query": to.RawQuery,
		"subject": "u-ada", "email": "ada@uni.test", "name": "Ada", "wrong": wrong})
	if err == nil {
		err = l.told.Decode(&out)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// SAML on the wire, against an implementation that shares no line with ours: it
// takes our metadata and our request for what they are; we take its signed answer,
// and none of those that are wrong.
func TestSAMLBySecondImplementation(t *testing.T) {
	l := newLassoIdP(t)
	h := newHouse(t, testdb.SQLite(t))
	_, inside := h.owner("boss@uni.test")
	h.connect(inside, "uni.test")
	c, err := h.CreateConnection(inside, auth.CreateConnectionRequest{Kind: "saml", Name: "Uni", Metadata: l.metadata, DefaultRole: "analyst"})
	if err != nil {
		t.Fatal(err)
	}
	if l.service, err = h.SAMLMetadata(public(), auth.SAMLRequest{Provider: c.ID}); err != nil {
		t.Fatal(err)
	}
	f := &federation{h, nil, c}
	b := &browser{h: h}
	got := l.answer(f.leave(b), "")
	if got.Refused != "" || got.To != c.CallbackURL || got.Issuer != c.MetadataURL {
		t.Fatalf("our request: %+v", got)
	}
	for _, signed := range []string{"", "assertion alone"} { // without a word, so is the response around it
		got := l.answer(f.leave(b), signed)
		response, err := base64.StdEncoding.DecodeString(got.Response)
		if err != nil {
			t.Fatal(err)
		}
		step, err := f.post(response, got.Relay)
		if err != nil {
			t.Fatalf("%q: %v: %s", signed, err, response)
		}
		out, err := f.finish(b, step)
		if err != nil {
			t.Fatal(err)
		}
		if _, p := b.session(out); p.TenantID != domain.TenantOf(inside) || p.Role != "analyst" || p.Factors != "saml" {
			t.Errorf("%q: %+v", signed, p)
		}
	}

	// It would not take a request of somebody else's, nor one that asks it to answer elsewhere.
	for name, change := range map[string]func([]byte) []byte{
		"of another service": func(m []byte) []byte {
			return bytes.ReplaceAll(m, []byte(c.MetadataURL), []byte("https://other.test/metadata"))
		},
		"to be answered where we are not": func(m []byte) []byte {
			return bytes.ReplaceAll(m, []byte(c.CallbackURL), []byte("https://other.test/acs"))
		},
	} {
		other := *l
		if other.service = change(l.service); bytes.Equal(other.service, l.service) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if got := other.answer(f.leave(b), ""); got.Refused == "" && got.To == c.CallbackURL {
			t.Errorf("a request %s is taken: %+v", name, got)
		}
	}

	signature := regexp.MustCompile(`(?s)<(?:\w+:)?Signature[ >].*?</(?:\w+:)?Signature>`)
	otherKey, otherCertificate, _ := lassoIdentity(t)
	for name, a := range map[string]struct {
		wrong  string
		key    bool
		change func(string) string
	}{
		"made for another service":                 {wrong: "audience"},
		"to another request":                       {wrong: "request"},
		"of another issuer":                        {wrong: "issuer"},
		"expired":                                  {wrong: "expired"},
		"with the signature of its assertion gone": {wrong: "assertion alone", change: func(x string) string { return signature.ReplaceAllString(x, "") }},
		"with another key":                         {key: true},
		"with its signatures gone":                 {change: func(x string) string { return signature.ReplaceAllString(x, "") }},
		"about another subject":                    {change: func(x string) string { return strings.ReplaceAll(x, "u-ada", "u-eve") }},
		"about another address":                    {change: func(x string) string { return strings.ReplaceAll(x, "ada@uni.test", "boss@uni.test") }},
	} {
		provider := *l
		if a.key {
			provider.key, provider.certificate = otherKey, otherCertificate
		}
		got := provider.answer(f.leave(b), a.wrong)
		raw, err := base64.StdEncoding.DecodeString(got.Response)
		if err != nil || len(raw) == 0 {
			t.Fatalf("%s: %+v %v", name, got, err)
		}
		text := string(raw)
		if a.change != nil {
			if text = a.change(text); text == string(raw) {
				t.Fatalf("%s: nothing was changed", name)
			}
		}
		if step, err := f.post([]byte(text), got.Relay); domain.CodeOf(err) != "sso_failed" {
			t.Errorf("%s: %+v %v", name, step, err)
		}
	}
}
