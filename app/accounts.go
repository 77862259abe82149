package main

import (
	"github.com/chainreactions/chainreactions/app/api"
)

// accountRoutes are the rows of a person's own account: address, password,
// factors.
func (p *program) accountRoutes() []api.Row {
	const (
		none = api.None
		v1   = "/api/v1/auth"
		main = "main"
	)
	return []api.Row{
		{Method: "POST", Path: v1 + "/verify-email", Call: api.Act("auth.VerifyEmail", p.auth.VerifyEmail), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "user.verify_email", Role: main, Summary: "Prove an address with the link that was mailed to it", Status: 204},
		{Method: "POST", Path: v1 + "/verify-email/send", Call: api.Call("auth.SendVerification", p.auth.SendVerification), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Mail that link once more", Status: 202},
		{Method: "POST", Path: v1 + "/password/forgot", Call: api.Call("auth.Forgot", p.auth.Forgot), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Mail a link to choose a new password; the answer is the same for every address", Status: 202},
		{Method: "POST", Path: v1 + "/password/reset", Call: api.Act("auth.Reset", p.auth.Reset), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "user.reset_password", Role: main, Summary: "Choose a new password with that link; every session ends", Status: 204},
		{Method: "POST", Path: v1 + "/password/change", Call: api.Act("auth.ChangePassword", p.auth.ChangePassword), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.change_password", Role: main, Summary: "Change your password; every other session ends", Status: 204},
		{Method: "POST", Path: v1 + "/email/change", Call: api.Call("auth.ChangeEmail", p.auth.ChangeEmail), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.ask_email", Role: main, Summary: "Move to another address; both must confirm", Status: 202},
		{Method: "POST", Path: v1 + "/email/confirm", Call: api.Call("auth.ConfirmEmail", p.auth.ConfirmEmail), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "user.change_email", Role: main, Summary: "Follow one of the two links"},
		{Method: "POST", Path: v1 + "/step-up", Call: api.Act("auth.StepUp", p.auth.StepUp), Credential: api.Session, Bound: true, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Show a factor again; sensitive actions are open for ten minutes", Status: 204},
		{Method: "POST", Path: v1 + "/mfa/totp", Call: api.Call("auth.StartTOTP", p.auth.StartTOTP), Credential: api.Session, Fresh: true, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.totp_start", Role: main, Summary: "A secret for an authenticator app, shown once", Status: 201},
		{Method: "POST", Path: v1 + "/mfa/totp/confirm", Call: api.Call("auth.ConfirmTOTP", p.auth.ConfirmTOTP), Credential: api.Session, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.totp_enable", Role: main, Summary: "Turn it on with a code; recovery codes are shown once"},
		{Method: "DELETE", Path: v1 + "/mfa/totp", Call: api.Act("auth.RemoveTOTP", p.auth.RemoveTOTP), Credential: api.Session, Fresh: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.totp_disable", Role: main, Summary: "Turn it off", Status: 204},
		{Method: "GET", Path: v1 + "/passkeys", Call: api.Call("auth.Passkeys", p.auth.Passkeys), Credential: api.Session, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Your passkeys"},
		{Method: "DELETE", Path: v1 + "/passkeys/{id}", Call: api.Act("auth.RemovePasskey", p.auth.RemovePasskey), Credential: api.Session, Fresh: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.passkey_remove", Role: main, Summary: "Take a passkey away", Status: 204},
		{Method: "POST", Path: v1 + "/passkeys/register/start", Call: api.Call("auth.StartPasskey", p.auth.StartPasskey), Credential: api.Session, Fresh: true, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Begin to register a passkey"},
		{Method: "POST", Path: v1 + "/passkeys/register/finish", Call: api.Call("auth.FinishPasskey", p.auth.FinishPasskey), Credential: api.Session, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.passkey_add", Role: main, Summary: "Keep it", Status: 201},
		{Method: "POST", Path: v1 + "/passkeys/login/start", Call: api.Call("auth.StartPasskeyLogin", p.auth.StartPasskeyLogin), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Begin to sign in with a passkey"},
		{Method: "POST", Path: v1 + "/passkeys/login/finish", Call: api.SignsIn(api.Call("auth.FinishPasskeyLogin", p.auth.FinishPasskeyLogin)), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "session.start", Role: main, Summary: "Sign in with it"},
	}
}
