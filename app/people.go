package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
	"github.com/chainreactions/chainreactions/tenants/notice"
	"github.com/chainreactions/chainreactions/tenants/privacy"
	"github.com/chainreactions/chainreactions/tenants/webhook"
)

// buildPeople makes what tells a tenant's servers, what answers privacy law, and
// the work on a schedule.
func (p *program) buildPeople(c Config) error {
	p.webhooks = webhook.New(webhook.Config{Store: p.store, Audit: p.audit, Queue: p.queue, SecretKey: c.SecretKey,
		Client: p.egress.Client(), Check: p.egress.Check, Plain: c.Environment != "production"})
	p.notices = notice.New(notice.Config{Store: p.store, Audit: p.audit, Queue: p.queue, Mail: p.mail.Send, BaseURL: c.portal(), Titles: map[string]notice.Titles{
		"ds":  func(ctx context.Context, ids []string) (map[string]string, error) { return p.datasets.Titles(ctx, ids) },
		"run": func(ctx context.Context, ids []string) (map[string]string, error) { return p.research.Titles(ctx, ids) },
		"usr": p.auth.Names, "rol": p.auth.RoleNames, "whk": p.webhooks.Titles}})
	p.audit.Tell = func(ctx context.Context, e audit.Event) error {
		if err := p.webhooks.Tell(ctx, e); err != nil {
			return err
		}
		return p.notices.Tell(ctx, e)
	}
	jobs.Handle(p.queue, p.notices.RunMail)
	jobs.Handle(p.queue, p.notices.RunDigest)
	jobs.Every(p.queue, 24*time.Hour, notice.DigestJob{})
	jobs.HandleIn(p.queue, "outbound", 8, p.webhooks.Deliver)
	jobs.HandleIn(p.queue, "outbound", 8, p.tenants.RunCheckDomains)
	jobs.Every(p.queue, 24*time.Hour, tenants.CheckDomains{})
	var err error
	p.privacy, err = privacy.New(privacy.Config{Store: p.store, Audit: p.audit, Queue: p.queue, Subjects: p.subjects, Tenants: p.tenants, Mail: p.notices.Send,
		Named: func(ctx context.Context, names []string) (out []privacy.Found, err error) {
			found, err := p.datasets.Named(ctx, names)
			for _, e := range found {
				out = append(out, privacy.Found(e))
			}
			return out, err
		},
		Can: p.auth.Can, Seats: p.billing.Seats, TakeLevel: p.billing.TakeLevel, AdoptRoles: p.auth.AdoptRoles,
		Leave: func(ctx context.Context, tenant string) error {
			// An erasure that a backup has may have been taken back since.
			if on, err := p.quarantine.On(ctx); err != nil || on {
				return errors.Join(errors.New("quarantine"), err)
			}
			return p.sales.End(domain.WithScope(ctx, domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "erasure"}}))
		}, Hooks: p.webhooks.Retire, Notices: p.notices.Retire,
		ForgetMail: func(ctx context.Context, address string) error {
			return p.queue.Forget(ctx, "mail", p.mail.IsTo(address))
		},
		DropMail: func(ctx context.Context, before time.Time) error { return p.queue.Drop(ctx, "mail", before) }, SecretKey: c.SecretKey,
		Dir: filepath.Join(c.DataDir, "exports"), Uploads: filepath.Join(c.DataDir, "uploads"), Outbox: filepath.Join(c.DataDir, "outbox"),
		Ledger: filepath.Join(c.DataDir, erasures), BaseURL: c.portal(), Logger: p.log})
	if err != nil {
		return err
	}
	jobs.HandleIn(p.queue, "archive", 1, p.privacy.RunExport)
	jobs.Handle(p.queue, p.privacy.RunErase)
	jobs.Handle(p.queue, p.privacy.RunPerson)
	jobs.Handle(p.queue, p.privacy.RunRetention)
	jobs.Every(p.queue, time.Hour, privacy.EraseJob{})
	jobs.Every(p.queue, 24*time.Hour, privacy.RetentionJob{})
	jobs.Handle(p.queue, func(ctx context.Context, _ store.MonthsJob) error {
		return p.store.Months(ctx, time.Now(), c.UsageMonths)
	})
	jobs.Every(p.queue, 24*time.Hour, store.MonthsJob{})
	return nil
}

func (p *program) importArchive(ctx context.Context, _ struct{}, up api.Upload) (privacy.Imported, error) {
	return p.privacy.Import(ctx, up.Body)
}

// peopleRoutes are the rows of members, invitations and roles.
func (p *program) peopleRoutes() []api.Row {
	const (
		none = api.None
		v1   = "/api/v1"
		main = "main"
	)
	return []api.Row{
		{Method: "POST", Path: v1 + "/invitations/accept", Call: api.Call("auth.AcceptInvitation", p.auth.AcceptInvitation), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "member.join", Role: main, Summary: "Join a tenant with the link that was mailed to you"},
		{Method: "POST", Path: v1 + "/invitations/look", Call: api.Call("auth.LookAtInvitation", p.auth.LookAtInvitation), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "What an invitation link is for"},
		{Method: "POST", Path: v1 + "/invitations/join", Call: api.SignsIn(api.Call("auth.Join", p.auth.Join)), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "member.join", Role: main, Summary: "Open an account with an invitation", Status: 201},
		{Method: "GET", Path: v1 + "/tenant/members", Call: api.Call("auth.Members", p.auth.Members), Credential: api.Member, Permission: "member:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "The people of your tenant"},
		{Method: "PATCH", Path: v1 + "/tenant/members/{id}", Call: api.Call("auth.UpdateMember", p.auth.UpdateMember), Credential: api.Session, Permission: "member:write", Feature: none, Class: "light", Meter: none, Audit: "member.update", Role: main, Summary: "Give a member another role"},
		{Method: "DELETE", Path: v1 + "/tenant/members/{id}", Call: api.Act("auth.RemoveMember", p.auth.RemoveMember), Credential: api.Session, Permission: "member:write", Feature: none, Class: "light", Meter: none, Audit: "member.remove", Role: main, Summary: "Take a member out; their sessions and keys here end", Status: 204},
		{Method: "POST", Path: v1 + "/tenant/leave", Call: api.Act("auth.Leave", p.auth.Leave), Credential: api.Session, Bound: true, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "member.leave", Role: main, Summary: "Leave this tenant", Status: 204},
		{Method: "POST", Path: v1 + "/tenant/ownership", Call: api.Call("auth.TransferOwnership", p.auth.TransferOwnership), Credential: api.Session, Fresh: true, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "member.update", Role: main, Summary: "Make another member the owner in your place"},
		{Method: "GET", Path: v1 + "/tenant/invitations", Call: api.Call("auth.Invitations", p.auth.Invitations), Credential: api.Member, Permission: "member:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Invitations that are open"},
		{Method: "POST", Path: v1 + "/tenant/invitations", Call: api.Call("auth.Invite", p.auth.Invite), Credential: api.Session, Permission: "member:write", Feature: none, Class: "light", Meter: none, Audit: "invitation.create", Role: main, Summary: "Invite an address; it takes a seat", Status: 201},
		{Method: "POST", Path: v1 + "/tenant/invitations/{id}/resend", Call: api.Call("auth.ResendInvitation", p.auth.ResendInvitation), Credential: api.Session, Permission: "member:write", Feature: none, Class: "light", Meter: none, Audit: "invitation.resend", Role: main, Summary: "Mail a new link; the old one is dead"},
		{Method: "DELETE", Path: v1 + "/tenant/invitations/{id}", Call: api.Act("auth.RevokeInvitation", p.auth.RevokeInvitation), Credential: api.Session, Permission: "member:write", Feature: none, Class: "light", Meter: none, Audit: "invitation.revoke", Role: main, Summary: "Withdraw an invitation", Status: 204},
		{Method: "GET", Path: v1 + "/tenant/roles", Call: api.Call("auth.Roles", p.auth.Roles), Credential: api.Member, Permission: "role:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Built-in roles and your own"},
		{Method: "POST", Path: v1 + "/tenant/roles", Call: api.Call("auth.CreateRole", p.auth.CreateRole), Credential: api.Session, Permission: "role:write", Feature: none, Class: "light", Meter: none, Audit: "role.create", Role: main, Summary: "Make a role of permissions that you have yourself", Status: 201},
		{Method: "PATCH", Path: v1 + "/tenant/roles/{id}", Call: api.Call("auth.UpdateRole", p.auth.UpdateRole), Credential: api.Session, Permission: "role:write", Feature: none, Class: "light", Meter: none, Audit: "role.update", Role: main, Summary: "Change a role; it bites at once"},
		{Method: "DELETE", Path: v1 + "/tenant/roles/{id}", Call: api.Act("auth.DeleteRole", p.auth.DeleteRole), Credential: api.Session, Permission: "role:write", Feature: none, Class: "light", Meter: none, Audit: "role.delete", Role: main, Summary: "Remove a role that nobody has", Status: 204},
		{Method: "GET", Path: v1 + "/permissions", Call: api.Call("auth.Permissions", p.auth.Permissions), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What roles and scopes are made of"},

		// Notifications: each person's own, in this tenant.
		{Method: "GET", Path: v1 + "/me/notifications", Call: api.Call("notice.List", p.notices.List), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What you are told, newest first"},
		{Method: "GET", Path: v1 + "/me/notifications/unread", Call: api.Call("notice.Unread", p.notices.Unread), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "How many you have not read"},
		{Method: "POST", Path: v1 + "/me/notifications/read", Call: api.Act("notice.ReadAll", p.notices.ReadAll), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Mark all as read that you have seen", Status: 204},
		{Method: "POST", Path: v1 + "/me/notifications/{id}/read", Call: api.Act("notice.Read", p.notices.Read), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Mark one as read", Status: 204},
		{Method: "GET", Path: v1 + "/me/notifications/preferences", Call: api.Call("notice.Preferences", p.notices.Preferences), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "How you are told, by type"},
		{Method: "PUT", Path: v1 + "/me/notifications/preferences", Call: api.Call("notice.PutPreferences", p.notices.PutPreferences), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "notification.preferences", Role: main, Summary: "Change it: in the portal or not; by mail at once, in a daily digest, or not"},

		// Webhooks.
		{Method: "GET", Path: v1 + "/webhook-endpoints", Call: api.Call("webhook.List", p.webhooks.List), Credential: api.Member, Permission: "webhook:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Where you want to be told what happens"},
		{Method: "POST", Path: v1 + "/webhook-endpoints", Call: api.Call("webhook.Create", p.webhooks.Create), Credential: api.Session, Permission: "webhook:write", Feature: none, Class: "light", Meter: none, Audit: "webhook.create", Role: main, Summary: "Add an endpoint; its secret is shown once", Status: 201},
		{Method: "GET", Path: v1 + "/webhook-endpoints/{id}", Call: api.Call("webhook.Get", p.webhooks.Get), Credential: api.Member, Permission: "webhook:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "One endpoint"},
		{Method: "PATCH", Path: v1 + "/webhook-endpoints/{id}", Call: api.Call("webhook.Update", p.webhooks.Update), Credential: api.Session, Permission: "webhook:write", Feature: none, Class: "light", Meter: none, Audit: "webhook.update", Role: main, Summary: "Change an endpoint"},
		{Method: "DELETE", Path: v1 + "/webhook-endpoints/{id}", Call: api.Act("webhook.Delete", p.webhooks.Delete), Credential: api.Session, Permission: "webhook:write", Feature: none, Class: "light", Meter: none, Audit: "webhook.delete", Role: main, Summary: "Remove an endpoint and its log", Status: 204},
		{Method: "POST", Path: v1 + "/webhook-endpoints/{id}/rotate", Call: api.Call("webhook.Rotate", p.webhooks.Rotate), Credential: api.Session, Permission: "webhook:write", Feature: none, Class: "light", Meter: none, Audit: "webhook.rotate", Role: main, Summary: "A new secret; the old one signs too for a day"},
		{Method: "POST", Path: v1 + "/webhook-endpoints/{id}/test", Call: api.Call("webhook.Test", p.webhooks.Test), Credential: api.Session, Permission: "webhook:write", Feature: none, Class: "light", Meter: none, Audit: "webhook.test", Role: main, Summary: "Send a webhook.test", Status: 202},
		{Method: "GET", Path: v1 + "/webhook-endpoints/{id}/deliveries", Call: api.Call("webhook.Deliveries", p.webhooks.Deliveries), Credential: api.Member, Permission: "webhook:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What was told, newest first"},
		{Method: "POST", Path: v1 + "/webhook-deliveries/{id}/replay", Call: api.Call("webhook.Replay", p.webhooks.Replay), Credential: api.Session, Permission: "webhook:write", Feature: none, Class: "light", Meter: none, Audit: "webhook.replay", Role: main, Summary: "Send a delivery once more", Status: 202},

		// The tenant itself, and its names.
		{Method: "PATCH", Path: v1 + "/tenant", Call: api.Call("tenants.Update", p.tenants.Update), Credential: api.Session, Fresh: true, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "tenant.update", Role: main, Summary: "Change its name, slug, language and settings"},
		{Method: "GET", Path: v1 + "/tenant/domains", Call: api.Call("tenants.Domains", p.tenants.Domains), Credential: api.Member, Permission: "tenant:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Domains of your own"},
		{Method: "POST", Path: v1 + "/tenant/domains", Call: api.Call("tenants.AddDomain", p.tenants.AddDomain), Credential: api.Session, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "domain.add", Role: main, Summary: "Claim a domain; the answer says which TXT record proves it", Status: 201},
		{Method: "POST", Path: v1 + "/tenant/domains/{id}/verify", Call: api.Call("tenants.VerifyDomain", p.tenants.VerifyDomain), Credential: api.Session, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "domain.verify", Role: main, Summary: "Look for the record now"},
		{Method: "DELETE", Path: v1 + "/tenant/domains/{id}", Call: api.Act("tenants.RemoveDomain", p.tenants.RemoveDomain), Credential: api.Session, Permission: "tenant:write", Feature: none, Class: "light", Meter: none, Audit: "domain.remove", Role: main, Summary: "Give a domain back", Status: 204},

		// Privacy.
		{Method: "GET", Path: v1 + "/privacy/records", Call: api.Call("privacy.Records", p.privacy.Records), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "The register of processing (GDPR Art. 30)"},
		{Method: "POST", Path: v1 + "/privacy/person-requests", Call: api.Call("privacy.Ask", p.privacy.Ask), Credential: api.Public, Permission: none, Feature: none, Class: "mail", Meter: none, Audit: none, Role: main, Summary: "For people without an account: ask about your data in our customers' lists", Status: 202},
		{Method: "POST", Path: v1 + "/privacy/person-requests/confirm", Call: api.Call("privacy.Confirm", p.privacy.Confirm), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "privacy.person_request", Role: main, Summary: "Prove your address with the link; the request is passed on"},
		{Method: "GET", Path: v1 + "/privacy/person-requests", Call: api.Call("privacy.PersonParts", p.privacy.PersonParts), Credential: api.Session, Permission: "privacy:export", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What people who are named in your lists ask of you"},
		{Method: "GET", Path: v1 + "/privacy/person-requests/{id}", Call: api.Call("privacy.PersonPart", p.privacy.PersonPart), Credential: api.Session, Permission: "privacy:export", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "One request: the entries that bear the name, and by when to answer"},
		{Method: "POST", Path: v1 + "/privacy/person-requests/{id}/answer", Call: api.Call("privacy.Answer", p.privacy.Answer), Credential: api.Session, Permission: "privacy:export", Feature: none, Class: "light", Meter: none, Audit: "privacy.person_answer", Role: main, Summary: "Answer the person, by mail"},
		{Method: "GET", Path: v1 + "/privacy/consents", Call: api.Call("privacy.Consents", p.privacy.Consents), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What you agreed to, and its history"},
		{Method: "PUT", Path: v1 + "/privacy/consents", Call: api.Call("privacy.PutConsent", p.privacy.PutConsent), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "consent.put", Role: main, Summary: "Give a consent or take it back"},
		{Method: "GET", Path: v1 + "/privacy/exports", Call: api.Call("privacy.Exports", p.privacy.Exports), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Your exports"},
		{Method: "POST", Path: v1 + "/privacy/exports", Call: api.Call("privacy.StartExport", p.privacy.StartExport), Credential: api.Session, Bound: true, Fresh: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "privacy.export", Role: main, Summary: "Make an archive of your data, or of the tenant's", Status: 202},
		{Method: "GET", Path: v1 + "/privacy/exports/{id}", Call: api.Call("privacy.GetExport", p.privacy.GetExport), Credential: api.Session, Bound: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "One export; with a link once it is ready"},
		{Method: "GET", Path: v1 + "/privacy/exports/{id}/download", Call: api.Download("privacy.Download", "application/zip", "chainreactions-export.zip", p.privacy.Download), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: main, Summary: "The archive, by its signed link"},
		{Method: "POST", Path: v1 + "/privacy/imports", Call: api.TakeFile("privacy.Import", []string{"application/zip"}, p.importArchive), Credential: api.Session, Permission: "privacy:export", Feature: none, Class: "data", Meter: none, Audit: "privacy.import", Role: main, Summary: "Bring a tenant's archive into this empty tenant", Status: 201, BodyLimit: 1 << 30},
		{Method: "GET", Path: v1 + "/privacy/erasures", Call: api.Call("privacy.Erasures", p.privacy.Erasures), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Your erasures"},
		{Method: "POST", Path: v1 + "/privacy/erasures", Call: api.Call("privacy.StartErasure", p.privacy.StartErasure), Credential: api.Session, Fresh: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "privacy.erasure", Role: main, Summary: "Erase yourself, or the tenant, after a time of grace", Status: 202},
		{Method: "GET", Path: v1 + "/privacy/erasures/{id}", Call: api.Call("privacy.GetErasure", p.privacy.GetErasure), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "One erasure, and why it waits"},
		{Method: "DELETE", Path: v1 + "/privacy/erasures/{id}", Call: api.Act("privacy.CancelErasure", p.privacy.CancelErasure), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "privacy.erasure_cancel", Role: main, Summary: "Take it back before it is done", Status: 204},
	}
}

// resolver asks DNS: the system's, or the one that a test names.
func (c Config) resolver() *net.Resolver {
	r := &net.Resolver{PreferGo: true}
	if c.EgressResolver != "" {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, c.EgressResolver)
		}
	}
	return r
}

// portal is the address that links in mails lead to.
func (c Config) portal() string {
	if c.BaseURL != "" {
		return c.BaseURL
	}
	_, port, _ := net.SplitHostPort(c.HTTPAddr) // loadConfig has checked it
	return "http://localhost:" + port
}

// verifyAudit holds the record of one tenant, or of all, against its hashes,
// seals and checkpoints, and fails if any does not fit.
func (p *program) verifyAudit(ctx context.Context, out io.Writer, only string) error {
	ids := []string{}
	if only != "" {
		t, err := p.tenants.Resolve(ctx, only)
		if err != nil {
			return fmt.Errorf("tenant %q: %w", only, err)
		}
		ids = append(ids, t.ID)
	} else {
		err := p.store.Read(domain.System(ctx, "audit verify"), func(ctx context.Context) error {
			return p.store.SQL(ctx, "SELECT id FROM tenants ORDER BY id", nil).Scan(&ids).Error
		})
		if err != nil {
			return err
		}
	}
	var broken []string
	for _, id := range ids {
		v, err := p.audit.Verify(domain.WithScope(ctx, domain.Scope{Tenant: id, Actor: domain.Actor{Kind: "system", ID: "audit verify"}}), struct{}{})
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if !v.OK {
			broken = append(broken, fmt.Sprintf("%s BROKEN at event %d: %s", id, *v.FirstBroken, v.Reason))
			fmt.Fprintln(out, broken[len(broken)-1])
			continue
		}
		fmt.Fprintf(out, "%s ok, %d events, %s\n", id, v.Length, v.HeadHash)
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d of %d records are broken, the first: %s", len(broken), len(ids), broken[0])
	}
	return nil
}

// holdCommand puts a legal hold on a person or a tenant, or releases one.
func holdCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var subject, reason, release string
	c := &cobra.Command{Use: "hold", Short: "Keep a person or a tenant from being erased, or let go", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, log, err := setup()
		if err != nil {
			return err
		}
		p, err := build(cmd.Context(), c, log)
		if err != nil {
			return err
		}
		defer p.close(context.Background())
		if release != "" {
			return p.privacy.ReleaseHold(cmd.Context(), release)
		}
		h, err := p.privacy.PutHold(cmd.Context(), subject, reason, "operator:"+os.Getenv("USER"))
		if err == nil {
			fmt.Fprintln(cmd.OutOrStdout(), h.ID)
		}
		return err
	}}
	c.Flags().StringVar(&subject, "subject", "", "id of the person (usr_…) or the tenant (ten_…)")
	c.Flags().StringVar(&reason, "reason", "", "shown to who asked for the erasure")
	c.Flags().StringVar(&release, "release", "", "id of the hold to release")
	return c
}
