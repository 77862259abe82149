package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/app/monitor"
	deskstripe "github.com/chainreactions/chainreactions/app/sandbox/stripe"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/billing/stripe"
	"github.com/chainreactions/chainreactions/domain"
)

// openSales joins billing to Stripe: to the real one where there is a key, else,
// in development, to the one on the desk, else to none. Nobody is called yet.
func (p *program) openSales(c Config, log *slog.Logger) {
	conf := billing.SalesConfig{Store: p.store, Audit: p.audit, Queue: p.queue, Plans: p.billing, Secrets: c.StripeWebhookSecrets, Portal: c.portal(), Trial: c.TrialDays, Tax: c.Tax, Records: c.UsageRecords,
		Logger: log, Mail: p.notices.Send,
		Payers: func(ctx context.Context, tenant string) (out []billing.Recipient, err error) {
			list, err := p.auth.Payers(ctx, tenant)
			for _, r := range list {
				out = append(out, billing.Recipient(r))
			}
			return out, err
		},
		Payer: func(ctx context.Context) (name, email string, err error) {
			me, err := p.auth.Me(ctx, struct{}{})
			if err != nil || me.User == nil {
				return "", "", err
			}
			t, err := p.tenants.Get(ctx, struct{}{})
			return t.Name, me.User.Email, err
		}}
	switch {
	case c.StripeKey != "":
		p.payments = &monitor.Wire{Next: http.DefaultTransport}
		conf.Stripe = stripe.New(stripe.Config{Key: c.StripeKey, BaseURL: c.StripeAPIBase, HTTP: &http.Client{Transport: p.payments, Timeout: 30 * time.Second}})
		conf.Sandbox = c.StripeKey == sandboxKey
	case c.Sandbox:
		secret := "whsec_" + domain.NewID("sbx")
		p.desk = &desk{config: deskstripe.Config{WebhookSecret: secret, File: filepath.Join(c.DataDir, "sandbox-stripe.json"), Logger: log}}
		p.payments = &monitor.Wire{Next: p.desk, Emulated: true}
		conf.Stripe = stripe.New(stripe.Config{Key: sandboxKey, BaseURL: "http://stripe.sandbox", HTTP: &http.Client{Transport: p.payments}})
		conf.Sandbox, conf.Secrets = true, []string{secret}
	}
	p.sales = billing.NewSales(conf)
	jobs.Handle(p.queue, p.sales.RunSync)
	jobs.Handle(p.queue, p.sales.RunReconcile)
	jobs.Handle(p.queue, p.sales.RunAlert)
	jobs.Handle(p.queue, p.sales.RunReport)
	jobs.Handle(p.queue, p.sales.RunBilling)
	jobs.Handle(p.queue, p.sales.RunProof)
	jobs.Handle(p.queue, p.sales.RunCatalogue)
}

// sandboxKey is the key of the sandbox's Stripe, wherever it runs.
const sandboxKey = "sk_test_sandbox"

// desk is the sandbox's Stripe in this process. It opens when it is first
// called, since most commands never do, and holds its state alone.
type desk struct {
	config deskstripe.Config
	once   sync.Once
	server *deskstripe.Server
	lock   *os.File
	err    error
}

func (d *desk) open() (*deskstripe.Server, error) {
	d.once.Do(func() {
		if d.lock, d.err = os.OpenFile(d.config.File+".lock", os.O_CREATE|os.O_RDWR, 0o600); d.err != nil {
			return
		}
		if syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			d.err = errors.New("another process holds the sandbox's Stripe: stop it, or give it to both with STRIPE_API_BASE")
			return
		}
		d.server, d.err = deskstripe.New(d.config)
	})
	return d.server, d.err
}

// RoundTrip answers a call in this process: no port is opened for the API.
func (d *desk) RoundTrip(r *http.Request) (*http.Response, error) {
	s, err := d.open()
	if err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	s.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header,
		Body: readCloser{&w.body}, ContentLength: int64(w.body.Len()), Request: r}, nil
}

type recorder struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

// run serves the pages that a browser needs, brings events to our own door and
// lets time pass, until ctx ends.
func (d *desk) run(ctx context.Context, ours net.Addr) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(ours.String())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s, err := d.open() // a job that was left from before may have called it already
	if err != nil {
		return errors.Join(err, l.Close())
	}
	d.config.URL = "http://" + l.Addr().String()
	s.ReachedAt(d.config.URL, "http://127.0.0.1:"+port+"/webhooks/stripe")
	d.config.Logger.Info("Stripe is emulated: no money moves", "pages", d.config.URL)
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	go s.Run(ctx)
	go func() { _ = srv.Serve(l) }() // ends with ctx
	return nil
}

func (d *desk) close() {
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// startSales begins what runs beside requests.
func (p *program) startSales(ctx context.Context, ours net.Addr) error {
	go p.billing.Listen(ctx)
	if p.desk == nil {
		return nil
	}
	if err := p.desk.run(ctx, ours); err != nil {
		p.log.Error("nothing can be bought in this process", "error", err)
		return nil
	}
	_, err := p.sales.SyncCatalogue(ctx, false)
	return err
}

// salesRoutes are the rows of buying and of Stripe's events. An API key can read
// what there is; only people buy.
func (p *program) salesRoutes() []api.Row {
	const (
		none    = api.None
		billing = "/api/v1/billing"
		main    = "main"
	)
	event := api.TakeFile("billing.Webhook", []string{"application/json"}, func(ctx context.Context, in webhookRequest, up api.Upload) (stored, error) {
		return p.sales.Webhook(ctx, in, up.Body)
	})
	return []api.Row{
		{Method: "POST", Path: "/webhooks/stripe", Call: event, Credential: api.Public, Permission: none, Feature: none, Class: "webhook", Meter: none, Audit: none, Role: main, Summary: "Events of the payment service, signed"},
		{Method: "GET", Path: billing + "/subscription", Call: api.Call("billing.Subscription", p.sales.Subscription), Credential: api.Member, Permission: "billing:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What you have, and how you stand"},
		{Method: "GET", Path: billing + "/invoices", Call: api.Call("billing.Invoices", p.sales.Invoices), Credential: api.Member, Permission: "billing:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Invoices and receipts"},
		{Method: "POST", Path: billing + "/checkout", Call: api.Call("billing.Checkout", p.sales.Checkout), Credential: api.Session, Permission: "billing:write", Feature: none, Class: "light", Meter: none, Audit: "subscription.checkout", Role: main, Summary: "Buy a plan; the link leads to the payment page"},
		{Method: "POST", Path: billing + "/portal", Call: api.Call("billing.OpenPortal", p.sales.OpenPortal), Credential: api.Session, Permission: "billing:write", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "A link to cards, tax ids and receipts"},
		{Method: "POST", Path: billing + "/refresh", Call: api.Call("billing.Refresh", p.sales.Refresh), Credential: api.Session, Permission: "billing:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Read the payment service now, on the way back from it"},
		{Method: "POST", Path: billing + "/subscription/preview", Call: api.Call("billing.Preview", p.sales.Preview), Credential: api.Session, Permission: "billing:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What a change costs, and what it takes away"},
		{Method: "POST", Path: billing + "/subscription/change", Call: api.Call("billing.Change", p.sales.Change), Credential: api.Session, Permission: "billing:write", Feature: none, Class: "light", Meter: none, Audit: "subscription.update", Role: main, Summary: "Another plan, interval or number of seats"},
		{Method: "POST", Path: billing + "/subscription/cancel", Call: api.Call("billing.Cancel", p.sales.Cancel), Credential: api.Session, Permission: "billing:write", Feature: none, Class: "light", Meter: none, Audit: "subscription.cancel", Role: main, Summary: "End the subscription with its period"},
		{Method: "POST", Path: billing + "/subscription/undo", Call: api.Call("billing.Undo", p.sales.Undo), Credential: api.Session, Permission: "billing:write", Feature: none, Class: "light", Meter: none, Audit: "subscription.undo", Role: main, Summary: "Take back what is planned for the period's end"},
		{Method: "POST", Path: billing + "/subscription/resume", Call: api.Call("billing.Resume", p.sales.Resume), Credential: api.Session, Permission: "billing:write", Feature: none, Class: "light", Meter: none, Audit: "subscription.resume", Role: main, Summary: "Go on after a trial that had no card"},
	}
}

// officeRoutes are what administrators of the platform do about plans and money.
func (p *program) officeRoutes() []api.Row {
	const (
		none  = api.None
		admin = "/api/v1/admin"
		main  = "main"
	)
	office := &billing.Office{Sales: p.sales, Meter: p.meter}
	return []api.Row{
		{Method: "GET", Path: admin + "/analytics/overview", Call: api.Call("billing.Overview", office.Overview), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_figures", Role: main, Summary: "How the business stands now"},
		{Method: "GET", Path: admin + "/analytics/revenue", Call: api.Call("billing.Revenue", office.Revenue), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_figures", Role: main, Summary: "Recurring revenue by month and currency, and its five movements"},
		{Method: "GET", Path: admin + "/analytics/funnel", Call: api.Call("billing.Funnel", office.Funnel), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_figures", Role: main, Summary: "From the sign-up to a first value and to paying, with medians"},
		{Method: "GET", Path: admin + "/analytics/cohorts", Call: api.Call("billing.Cohorts", office.Cohorts), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_figures", Role: main, Summary: "Tenants by the month of their sign-up: active, and paying"},
		{Method: "GET", Path: admin + "/analytics/usage", Call: api.Call("billing.UsageReport", office.UsageReport), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_figures", Role: main, Summary: "What tenants used, what it cost, what they paid"},
		{Method: "GET", Path: admin + "/plans", Call: api.Call("billing.PlanList", office.PlanList), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_plans", Role: main, Summary: "Every plan: in force, archived, and drafts"},
		{Method: "PUT", Path: admin + "/plans/{name}/draft", Call: api.Call("billing.SaveDraft", office.SaveDraft), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.draft", Role: main, Summary: "Write a plan; nobody has it until it is published"},
		{Method: "DELETE", Path: admin + "/plans/{name}/draft", Call: api.Act("billing.DropDraft", office.DropDraft), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.drop_draft", Role: main, Summary: "Forget what was being written", Status: 204},
		{Method: "POST", Path: admin + "/plans/{name}/publish", Call: api.Call("billing.PublishPlan", office.PublishPlan), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.publish", Role: main, Summary: "Make the draft the version that new customers get; who has an earlier one keeps it"},
		{Method: "POST", Path: admin + "/plans/{name}/archive", Call: api.Call("billing.ArchivePlan", office.ArchivePlan), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.archive", Role: main, Summary: "End the sale of a plan; who has it keeps it"},
		{Method: "POST", Path: admin + "/plans/sync", Call: api.Call("billing.SyncPlans", office.SyncPlans), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.sync", Role: main, Summary: "Make the payment service's products and prices equal to the published plans"},
		{Method: "GET", Path: admin + "/tenants/{id}/account", Call: api.Call("billing.Account", office.Account), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_account", Role: main, Summary: "What a tenant has, pays and uses"},
		{Method: "GET", Path: admin + "/tenants/{id}/invoices", Call: api.Call("billing.TenantInvoices", office.TenantInvoices), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_invoices", Role: main, Summary: "A tenant's invoices"},
		{Method: "POST", Path: admin + "/tenants/{id}/plan", Call: api.Call("billing.Grant", office.Grant), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.set", Role: main, Summary: "Put a tenant on a plan, whatever it pays for; free takes that back"},
		{Method: "POST", Path: admin + "/tenants/{id}/overrides", Call: api.Call("billing.GiveOverride", office.GiveOverride), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.override", Role: main, Summary: "Give a tenant a limit or a feature beside its plan, for good or until a date"},
		{Method: "DELETE", Path: admin + "/tenants/{id}/overrides/{kind}/{name}", Call: api.Act("billing.DropOverride", office.DropOverride), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "plan.override_end", Role: main, Summary: "Take it away again", Status: 204},
		{Method: "POST", Path: admin + "/tenants/{id}/refunds", Call: api.Call("billing.GiveBack", office.GiveBack), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "invoice.refund", Role: main, Summary: "Give back part of an invoice"},
		{Method: "POST", Path: admin + "/tenants/{id}/credits", Call: api.Call("billing.GiveCredit", office.GiveCredit), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "credit.give", Role: main, Summary: "Give a tenant money towards its next invoices", Status: 201},
		{Method: "GET", Path: admin + "/billing/events", Call: api.Call("billing.Events", office.Events), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_events", Role: main, Summary: "The inbox of the payment service's events"},
		{Method: "POST", Path: admin + "/billing/events/{id}/replay", Call: api.Act("billing.ReplayEvent", office.ReplayEvent), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "event.replay", Role: main, Summary: "Have an event worked again", Status: 204},
		{Method: "GET", Path: admin + "/billing/differences", Call: api.Call("billing.Differences", office.Differences), Credential: api.Admin, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "admin.read_differences", Role: main, Summary: "Sums that the last proof found to differ"},
		{Method: "POST", Path: admin + "/billing/prove", Call: api.Call("billing.ProveNow", office.ProveNow), Credential: api.Admin, Fresh: true, Permission: none, Feature: none, Class: "admin", Meter: none, Audit: "billing.prove", Role: main, Summary: "Compare our sums with the payment service's and the invoices', now"},
	}
}

type (
	webhookRequest = billing.WebhookRequest
	stored         = billing.StoredEvent
)

// salesCommand is what an operator does about money.
func salesCommand(open func(*cobra.Command) (*program, error)) *cobra.Command {
	root := &cobra.Command{Use: "billing", Short: "Prices, events and refunds at Stripe"}
	do := func(use, short string, args cobra.PositionalArgs, fn func(cmd *cobra.Command, p *program, args []string) error) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
			p, err := open(cmd)
			if err != nil {
				return err
			}
			return errors.Join(fn(cmd, p, args), p.close(context.Background()))
		}}
		root.AddCommand(c)
		return c
	}
	var addr, hook, secret, state string
	var seed uint64
	shared := &cobra.Command{Use: "sandbox", Short: "Serve the sandbox's Stripe, for several processes or for tests", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		base := "http://" + l.Addr().String()
		s, err := deskstripe.New(deskstripe.Config{URL: base, WebhookURL: hook, WebhookSecret: secret, Seed: seed, File: state, Logger: slog.Default()})
		if err != nil {
			return errors.Join(err, l.Close())
		}
		fmt.Fprintf(cmd.OutOrStdout(), "STRIPE_API_BASE=%s STRIPE_SECRET_KEY=%s STRIPE_WEBHOOK_SECRET=%s\n", base, sandboxKey, secret)
		fmt.Fprintf(cmd.OutOrStdout(), "# seed %d; calls at %s/_sandbox/calls; what befalls events: POST %s/_sandbox/fate {\"duplicate\":0.3,\"drop\":0.2,\"delay\":0.2,\"reorder\":true}\n", s.Seed, base, base)
		srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
		ran := make(chan struct{})
		go func() {
			s.Run(cmd.Context())
			_ = srv.Close()
			close(ran)
		}()
		err = srv.Serve(l)
		<-ran
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}}
	shared.Flags().StringVar(&addr, "addr", "127.0.0.1:12110", "where it listens; no money moves, so keep it to yourself")
	shared.Flags().StringVar(&hook, "webhook-url", "http://127.0.0.1:3000/webhooks/stripe", "where events go")
	shared.Flags().StringVar(&secret, "webhook-secret", "whsec_sandbox", "that signs them")
	shared.Flags().StringVar(&state, "state", "", "a file that keeps its state")
	shared.Flags().Uint64Var(&seed, "seed", 0, "of ids and of what befalls events; 0 draws one")
	root.AddCommand(shared)
	var dry bool
	do("sync", "Make Stripe's products and prices equal to the published plans", cobra.NoArgs, func(cmd *cobra.Command, p *program, _ []string) error {
		changes, err := p.sales.SyncCatalogue(cmd.Context(), dry)
		for _, line := range changes {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
		verb := "made"
		if dry {
			verb = "to make"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d changes %s\n", len(changes), verb)
		return err
	}).Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	do("reconcile", "Read every paying customer at Stripe anew", cobra.NoArgs, func(cmd *cobra.Command, p *program, _ []string) error {
		return p.sales.Reconcile(cmd.Context())
	})
	var status string
	do("inbox", "The last events that came from Stripe", cobra.NoArgs, func(cmd *cobra.Command, p *program, _ []string) error {
		page, err := p.sales.Inbox(cmd.Context(), billing.InboxRequest{PageRequest: domain.PageRequest{Limit: 200}, Status: status})
		for _, e := range page.Data {
			fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(fmt.Sprintf("%s %s %-9s %s %s %s", e.ReceivedAt.Format(time.RFC3339), e.ID, e.Status, e.Type, e.Customer, e.Note)))
		}
		return err
	}).Flags().StringVar(&status, "status", "", "received, done or ignored")
	do("replay EVENT", "Have an event worked again", cobra.ExactArgs(1), func(cmd *cobra.Command, p *program, args []string) error {
		return p.sales.Replay(cmd.Context(), args[0])
	})
	do("plans", "Every plan: its version in force, who has it, and drafts", cobra.NoArgs, func(cmd *cobra.Command, p *program, _ []string) error {
		list, err := p.billing.Catalogue(domain.System(cmd.Context(), "the plans"))
		for _, s := range list {
			fmt.Fprintf(cmd.OutOrStdout(), "%-12s %-9s version %d, %d tenants", s.Name, s.Status, s.Current, s.Tenants)
			if s.Draft != nil {
				fmt.Fprint(cmd.OutOrStdout(), ", with a draft")
			}
			fmt.Fprintln(cmd.OutOrStdout())
		}
		return err
	})
	do("draft FILE", "Keep a plan that is being written (JSON, as GET /plans shows plans)", cobra.ExactArgs(1), func(cmd *cobra.Command, p *program, args []string) error {
		raw, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		var plan billing.Plan
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(&plan); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return p.billing.SaveDraft(domain.System(cmd.Context(), "draft of a plan"), plan, "operator:"+os.Getenv("USER"))
	})
	do("publish PLAN", "Make the draft the version that new customers get; then run billing sync", cobra.ExactArgs(1), func(cmd *cobra.Command, p *program, args []string) error {
		plan, err := p.billing.PublishDraft(domain.System(cmd.Context(), "publish a plan"), args[0], "operator:"+os.Getenv("USER"))
		if err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "%s version %d is published; who has an earlier one keeps it\n", plan.Name, plan.Version)
		}
		return err
	})
	do("archive PLAN", "End the sale of a plan; who has it keeps it", cobra.ExactArgs(1), func(cmd *cobra.Command, p *program, args []string) error {
		return p.billing.Archive(domain.System(cmd.Context(), "archive a plan"), args[0])
	})
	var tenant, invoice, reason string
	var amount int64
	refund := do("refund", "Give back part of an invoice", cobra.NoArgs, func(cmd *cobra.Command, p *program, _ []string) error {
		t, err := p.tenants.Resolve(cmd.Context(), tenant)
		if err != nil {
			return fmt.Errorf("tenant %q: %w", tenant, err)
		}
		author := "operator:" + os.Getenv("USER")
		ctx := domain.WithScope(cmd.Context(), domain.Scope{Tenant: t.ID, Actor: domain.Actor{Kind: "system", ID: author}})
		return p.sales.Refund(ctx, invoice, amount, author, reason)
	})
	refund.Flags().StringVar(&tenant, "tenant", "", "slug or id")
	refund.Flags().StringVar(&invoice, "invoice", "", "Stripe's id of it")
	refund.Flags().Int64Var(&amount, "amount", 0, "minor units")
	refund.Flags().StringVar(&reason, "reason", "", "kept in the audit record")
	for _, name := range []string{"tenant", "invoice", "amount", "reason"} {
		_ = refund.MarkFlagRequired(name)
	}
	return root
}
