// Command chainreactions is the whole product in one binary.
//
//	chainreactions serve            the server
//	chainreactions migrate          bring the schema up and stop
//	chainreactions routes           print the route table
//	chainreactions audit verify     is the record of every tenant whole?
//	chainreactions admin create     make somebody a platform administrator
//	chainreactions openapi          print the API document
//	chainreactions admin plan       put a tenant on a plan
//	chainreactions billing          prices, events and refunds at Stripe
//	chainreactions sandbox          emulators of all vendors, for clients and tests
//	chainreactions contract-probe   compare the configured vendors with their emulators
//	chainreactions quarantine       may a restored system send mails, webhooks, reports of usage?
//	chainreactions backup           a sealed copy of the embedded database and the files
//	chainreactions restore          put a copy in place, in quarantine
//	chainreactions drill            restore a copy aside, check it, print RPO and RTO
//	chainreactions doctor           say what is configured and whether it works
//	chainreactions licenses         print the licences of what is in the binary and not ours
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/mail"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/app/faults"
	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/domain"
)

// version is set where a release is built: -ldflags "-X main.version=…".
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chainreactions:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{Use: "chainreactions", Short: "Names matched against reference lists", Version: version, SilenceUsage: true, SilenceErrors: true}
	setup := func() (Config, *slog.Logger, error) {
		c, err := loadConfig(os.Getenv)
		log := tracing.Logs(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: c.level}))
		if err == nil {
			c.faults, err = faults.New(faults.Config{DSN: c.SentryDSN, Version: version, Environment: c.Environment})
			log = c.faults.Logs(log)
		}
		return c, slog.New(log), err
	}
	// whole is the program on its own data, for a command that works on them.
	whole := func(cmd *cobra.Command) (*program, error) {
		c, log, err := setup()
		if err != nil {
			return nil, err
		}
		return build(cmd.Context(), c, log)
	}
	var roles string
	serve := &cobra.Command{Use: "serve", Short: "Run the server", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, log, err := setup()
		if err != nil {
			return err
		}
		if err := c.takeRoles(roles); err != nil {
			return err
		}
		keepWithinMemory()
		settle := putOffCollection()
		p, err := build(cmd.Context(), c, log)
		if err != nil && cmd.Context().Err() != nil {
			log.Info("told to stop before it served", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		p.serving = settle
		l, err := net.Listen("tcp", c.HTTPAddr)
		if err != nil {
			return errors.Join(err, p.close(context.Background()))
		}
		log.Info("serving", "version", version, "roles", roles, "addr", l.Addr().String(), "database", p.store.Dialect(), "embedded_redis", p.cluster.Embedded(), "config", c.shown)
		return p.run(cmd.Context(), l)
	}}
	serve.Flags().StringVar(&roles, "roles", "all", "what this process serves: all, or a comma list of gateway, main, dataset-search, entity-relations, dataset-matching, worker")
	root.AddCommand(serve)

	root.AddCommand(&cobra.Command{Use: "migrate", Short: "Bring the schema up", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, log, err := setup()
		if err != nil {
			return err
		}
		st, err := openStore(cmd.Context(), c, log)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date")
		return st.Close()
	}})

	root.AddCommand(&cobra.Command{Use: "routes", Short: "Print the route table", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return offline(cmd.Context(), func(p *program) error { api.Print(cmd.OutOrStdout(), p.table); return nil })
	}})

	root.AddCommand(&cobra.Command{Use: "openapi", Short: "Print the API document", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return offline(cmd.Context(), func(p *program) error { _, err := cmd.OutOrStdout().Write(p.api.Document()); return err })
	}})

	root.AddCommand(&cobra.Command{Use: "doctor", Short: "Say what is configured and whether it works", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, _, err := setup()
		if err != nil {
			return err
		}
		for _, line := range c.shown {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
		for _, line := range vendorLines(c) {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
		p, err := build(cmd.Context(), c, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		_, s := p.health()
		fmt.Fprintf(cmd.OutOrStdout(), "%+v\n", s)
		return p.close(cmd.Context())
	}})

	root.AddCommand(licensesCommand())
	auditing := &cobra.Command{Use: "audit", Short: "The record of who did what"}
	var only string
	verify := &cobra.Command{Use: "verify", Short: "Is the record of every tenant whole?", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := whole(cmd)
		if err != nil {
			return err
		}
		defer p.close(context.Background())
		return p.verifyAudit(cmd.Context(), cmd.OutOrStdout(), only)
	}}
	verify.Flags().StringVar(&only, "tenant", "", "slug or id; every tenant without it")
	auditing.AddCommand(verify)
	root.AddCommand(auditing)

	root.AddCommand(&cobra.Command{Use: "health", Short: "Is the server on this machine ready? For the health check of a container", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		addr := os.Getenv("HTTP_ADDR")
		if addr == "" {
			addr = ":3000"
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		resp, err := (&http.Client{Timeout: 2 * time.Second}).Get("http://" + net.JoinHostPort(host, port) + "/readyz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("not ready: %d", resp.StatusCode)
		}
		return nil
	}})
	root.AddCommand(sandboxCommand(), probeCommand(setup))
	root.AddCommand(backupCommand(setup), restoreCommand(setup), drillCommand(setup))
	root.AddCommand(salesCommand(whole))
	root.AddCommand(quarantineCommand(whole))

	admin := &cobra.Command{Use: "admin", Short: "What only an operator does"}
	var tenant, plan, reason string
	setPlan := &cobra.Command{Use: "plan", Short: "Put a tenant on a plan", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := whole(cmd)
		if err != nil {
			return err
		}
		defer p.close(context.Background())
		t, err := p.tenants.Resolve(cmd.Context(), tenant)
		if err != nil {
			return fmt.Errorf("tenant %q: %w", tenant, err)
		}
		author := "operator:" + os.Getenv("USER")
		if err := p.billing.SetPlan(domain.System(cmd.Context(), "admin plan"), t.ID, plan, author, reason); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is on %s\n", t.Slug, plan)
		return nil
	}}
	var email string
	create := &cobra.Command{Use: "create", Short: "Make somebody a platform administrator", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if _, err := mail.ParseAddress(email); err != nil {
			return fmt.Errorf("--email %q is not an address", email)
		}
		p, err := whole(cmd)
		if err != nil {
			return err
		}
		defer p.close(context.Background())
		link, err := p.auth.CreateAdmin(cmd.Context(), email, "operator:"+os.Getenv("USER"))
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is a platform administrator, in sessions that show a second factor\n", email)
		if link != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "to choose a password, within an hour: %s\n", link)
		}
		return nil
	}}
	create.Flags().StringVar(&email, "email", "", "address of the person")
	_ = create.MarkFlagRequired("email")
	admin.AddCommand(holdCommand(setup))
	admin.AddCommand(create)
	setPlan.Flags().StringVar(&tenant, "tenant", "", "slug or id")
	setPlan.Flags().StringVar(&plan, "plan", "", "name of the plan")
	setPlan.Flags().StringVar(&reason, "reason", "set by an operator", "kept in the audit record")
	_ = setPlan.MarkFlagRequired("tenant")
	_ = setPlan.MarkFlagRequired("plan")
	admin.AddCommand(setPlan)
	root.AddCommand(admin)
	return root
}

// offline builds the program on an empty folder, to show what it is made of.
func offline(ctx context.Context, show func(*program) error) error {
	dir, err := os.MkdirTemp("", "chainreactions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := loadConfig(func(name string) string { return map[string]string{"DATA_DIR": dir}[name] })
	if err != nil {
		return err
	}
	p, err := build(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(show(p), p.close(ctx))
}
