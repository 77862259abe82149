"""A SAML 2.0 identity provider by lasso (Entr'ouvert), for TestSAMLBySecondImplementation.

Each line of its input is a question as JSON: the metadata of both sides, its key and
certificate, the query by which a browser was led here, whom to name, and in which way
to be wrong. Each is answered by a line: what its page would post, or why it refuses.
"""
import json
import sys
import time

import lasso


def moment(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def attribute(name, value):
    text = lasso.MiscTextNode.newWithString(value)
    text.textChild = True
    content = lasso.Saml2AttributeValue()
    content.any = (text,)
    out = lasso.Saml2Attribute()
    out.name, out.nameFormat = name, lasso.SAML2_ATTRIBUTE_NAME_FORMAT_BASIC
    out.attributeValue = (content,)
    return out


def answer(ask):
    server = lasso.Server.newFromBuffers(ask["metadata"], ask["key"], None, ask["certificate"])
    server.signatureMethod = lasso.SIGNATURE_METHOD_RSA_SHA256
    server.addProviderFromBuffer(lasso.PROVIDER_ROLE_SP, ask["service"])
    login = lasso.Login(server)
    login.processAuthnRequestMsg(ask["query"])
    login.validateRequestMsg(True, True)
    late = -3600 if ask["wrong"] == "expired" else 0
    login.buildAssertion(lasso.SAML2_AUTHN_CONTEXT_PASSWORD_PROTECTED_TRANSPORT, moment(late), "", moment(late - 60), moment(late + 300))
    assertion = login.response.assertion[0]
    name = assertion.subject.nameID
    name.format, name.content = lasso.SAML2_NAME_IDENTIFIER_FORMAT_PERSISTENT, ask["subject"]
    statement = lasso.Saml2AttributeStatement()
    statement.attribute = (attribute("mail", ask["email"]), attribute("displayName", ask["name"]))
    assertion.attributeStatement = (statement,)
    if ask["wrong"] == "audience":
        assertion.conditions.audienceRestriction[0].audience = "https://other.test"
    if ask["wrong"] == "request":
        assertion.subject.subjectConfirmation.subjectConfirmationData.inResponseTo = "id-another"
    if ask["wrong"] == "issuer":
        assertion.issuer.content = "https://other.test"
    if ask["wrong"] == "assertion alone":  # is signed
        login.setSignatureHint(lasso.PROFILE_SIGNATURE_HINT_FORBID)
    login.buildAuthnResponseMsg()
    return {"response": login.msgBody, "relay": login.msgRelayState, "to": login.msgUrl, "issuer": login.request.issuer.content}


for line in sys.stdin:
    try:
        out = answer(json.loads(line))
    except lasso.Error as refused:
        out = {"refused": str(refused)}
    print(json.dumps(out), flush=True)
