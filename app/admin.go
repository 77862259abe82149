package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/quarantine"
)

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
		{Method: "GET", Path: admin + "/impersonations", Call: api.Call("auth.Impersonations", p.auth.Impersonations), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.find_impersonations", Role: main, Summary: "Who acted as whom, newest first"},
		{Method: "POST", Path: admin + "/impersonations", Call: api.Call("auth.Impersonate", p.auth.Impersonate), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "impersonation.start", Role: main, Summary: "Act as a person of a tenant, to help; the tenant sees it", Status: 201},
		{Method: "DELETE", Path: admin + "/impersonations/{id}", Call: api.Act("auth.EndImpersonation", p.auth.EndImpersonation), Credential: api.Admin, Permission: none, Fresh: true, Feature: none, Class: "admin", Meter: none, Audit: "impersonation.end", Role: main, Summary: "End it at once", Status: 204},
		{Method: "GET", Path: admin + "/providers", Call: api.Call("provider.Report", p.showProviders), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_providers", Role: main, Summary: "What each vendor was asked and cost, its budgets and how its calls ended"},
		{Method: "GET", Path: admin + "/config-changes", Call: api.Call("app.ConfigChanges", p.showConfigChanges), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_config_changes", Role: main, Summary: "Settings that were changed in running processes, newest first"},
		{Method: "GET", Path: admin + "/quarantine", Call: api.Call("app.Quarantine", p.showQuarantine), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_quarantine", Role: main, Summary: "May this system speak to the world?"},
		{Method: "POST", Path: admin + "/quarantine/release", Call: api.Call("app.ReleaseQuarantine", p.endQuarantine), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "quarantine.release", Role: main, Summary: "Let a restored system send mails, webhooks and reports of usage"},
		{Method: "GET", Path: admin + "/jobs", Call: api.Call("jobs.List", p.listJobs), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_jobs", Role: main, Summary: "Jobs, newest first, and why they failed; what is done is kept for a day, what was given up for a week"},
		{Method: "GET", Path: admin + "/jobs/lanes", Call: api.Call("jobs.Lanes", p.showLanes), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_jobs", Role: main, Summary: "How many jobs of each kind there are, and how long the first has waited"},
		{Method: "POST", Path: admin + "/jobs/{id}/retry", Call: api.Call("jobs.Retry", p.retryJob), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "job.retry", Role: main, Summary: "Have a job that failed worked again now"},
		{Method: "POST", Path: admin + "/jobs/{id}/discard", Call: api.Call("jobs.Discard", p.discardJob), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "job.discard", Role: main, Summary: "Forget a job that failed; what it was to do is not done"},
	}
}

type quarantineState struct {
	On         bool                   `json:"on"`
	Quarantine *quarantine.Quarantine `json:"quarantine,omitempty" doc:"absent where there is none"`
}

func (p *program) showQuarantine(ctx context.Context, _ struct{}) (out quarantineState, err error) {
	if out.Quarantine, err = p.quarantine.Open(ctx); err != nil {
		return out, err
	}
	out.On = out.Quarantine != nil
	return out, p.store.Tx(ctx, func(ctx context.Context) error {
		return p.audit.Record(ctx, audit.Entry{Action: "admin.read_quarantine"})
	})
}

func (p *program) listJobs(ctx context.Context, in jobs.ListRequest) (page domain.Page[jobs.Job], err error) {
	return page, p.notedJobs(ctx, func(ctx context.Context) error {
		page, err = p.queue.List(ctx, in)
		return err
	})
}

func (p *program) showLanes(ctx context.Context, _ struct{}) (page domain.Page[jobs.Lane], err error) {
	return page, p.notedJobs(ctx, func(ctx context.Context) error {
		page.Data, err = p.queue.Lanes(ctx)
		return err
	})
}

func (p *program) notedJobs(ctx context.Context, read func(context.Context) error) error {
	own := domain.TenantOf(ctx)
	return p.store.Tx(domain.System(ctx, "jobs"), func(ctx context.Context) error {
		if err := read(ctx); err != nil {
			return err
		}
		return p.audit.Record(ctx, audit.Entry{Action: "admin.read_jobs", Tenant: own})
	})
}

type jobRequest struct {
	ID     string `path:"id" json:"-"`
	Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"kept in the record of the tenant whose work it is"`
}

func (p *program) retryJob(ctx context.Context, in jobRequest) (jobs.Job, error) {
	return p.decideJob(ctx, "job.retry", in, p.queue.Retry)
}

func (p *program) discardJob(ctx context.Context, in jobRequest) (jobs.Job, error) {
	return p.decideJob(ctx, "job.discard", in, p.queue.Discard)
}

func (p *program) decideJob(ctx context.Context, action string, in jobRequest, do func(context.Context, string) (jobs.Job, error)) (j jobs.Job, err error) {
	own := domain.TenantOf(ctx)
	return j, p.store.Tx(domain.System(ctx, "jobs"), func(ctx context.Context) error {
		if j, err = do(ctx, in.ID); err != nil {
			return err
		}
		return p.audit.Record(ctx, audit.Entry{Action: action, Target: j.ID, Tenant: cmp.Or(j.TenantID, own), Detail: map[string]any{"kind": j.Kind, "reason": in.Reason}})
	})
}

type releaseRequest struct {
	Keep bool `json:"keep_waiting,omitempty" doc:"also send what waited in the backup; most of it was sent by the system that the backup is of"`
}

func (p *program) endQuarantine(ctx context.Context, in releaseRequest) (quarantine.Quarantine, error) {
	scope, _ := domain.ScopeOf(ctx)
	return p.release(ctx, scope.Actor.ID, scope.Tenant, in.Keep)
}

// release ends the quarantine. What waited since before it began is forgotten,
// unless it is kept, and what Stripe has told since is read from it. own is the tenant
// whose record tells of it, or "".
func (p *program) release(ctx context.Context, by, own string, keep bool) (q quarantine.Quarantine, err error) {
	open, err := p.quarantine.Open(ctx)
	if err == nil && open != nil && !keep {
		err = p.queue.DropOutward(ctx, open.BeganAt)
	}
	if err != nil {
		return q, err
	}
	return q, p.store.Tx(domain.System(ctx, "quarantine"), func(ctx context.Context) error {
		if q, err = p.quarantine.Release(ctx, by); err == nil && p.sales.Stripe != nil {
			err = p.queue.Enqueue(ctx, billing.ReconcileJob{}, domain.JobOptions{Priority: 4, Unique: "released"})
		}
		if err != nil || own == "" {
			return err
		}
		return p.audit.Record(ctx, audit.Entry{Action: "quarantine.release", Target: q.ID, Tenant: own, Detail: map[string]any{"keep_waiting": keep}})
	})
}

// quarantineCommand shows whether a restored system may speak, and lets it.
func quarantineCommand(whole func(*cobra.Command) (*program, error)) *cobra.Command {
	var begin string
	var release, keep bool
	c := &cobra.Command{Use: "quarantine", Short: "May this system send mails, webhooks and reports of usage?", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := whole(cmd)
		if err != nil {
			return err
		}
		defer p.close(context.Background())
		by := "operator:" + os.Getenv("USER")
		switch {
		case begin != "" && release:
			return errors.New("--begin and --release at once")
		case begin != "":
			err = p.quarantine.Begin(cmd.Context(), begin)
		case release:
			_, err = p.release(cmd.Context(), by, "", keep)
		}
		if err != nil {
			return err
		}
		q, err := p.quarantine.Open(cmd.Context())
		if err == nil && q == nil {
			fmt.Fprintln(cmd.OutOrStdout(), "no quarantine")
		} else if err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "in quarantine since %s: %s\n", q.BeganAt.Format("2006-01-02 15:04 UTC"), q.Reason)
		}
		return err
	}}
	c.Flags().StringVar(&begin, "begin", "", "begin one, for this reason")
	c.Flags().BoolVar(&release, "release", false, "end it")
	c.Flags().BoolVar(&keep, "keep-waiting", false, "with --release: also send what waited in the backup")
	return c
}
