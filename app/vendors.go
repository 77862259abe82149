package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
)

// openVendors makes the outside services that research asks. In development
// each kind of them that is not configured is emulated: a model, a web search
// (and then the web that it finds), a profile service. A real one is never
// mixed with an emulated one of its kind.
func (p *program) openVendors(c Config, log *slog.Logger) (err error) {
	accounts := maps.Clone(c.Accounts)
	pages := func(string) (string, bool) { return "", false }
	if names := provider.Missing(accounts); c.Sandbox && len(names) > 0 {
		place := sandbox.At(c.SandboxAt)
		if c.SandboxAt == "" {
			if p.sandbox, err = sandbox.Start(sandbox.Config{Logger: log}); err != nil {
				return err
			}
			place = p.sandbox.Place
		}
		for _, name := range names {
			accounts[name] = provider.Account{BaseURL: place.URL(name), Keys: []string{"sandbox"}, Model: accounts[name].Model, Zone: "sandbox", Sandbox: true}
		}
		pages = func(host string) (string, bool) {
			if host == sandbox.GroundingHost && !slices.Contains(names, provider.Gemini) {
				return "", false // the real Gemini's links lead to real pages
			}
			return place.Host(host)
		}
		log.Info("vendors without a key are emulated; their answers are invented and say so", "vendors", names)
	}
	limits := maps.Clone(c.Limits)
	for name, a := range accounts {
		if a.Sandbox && !c.limitsSet {
			delete(limits, name) // nobody is paid
		}
	}
	p.vendors = provider.New(provider.Config{Store: p.store, Egress: p.egress, Accounts: accounts, Limits: limits, EmulatedHost: pages, PDF: provider.PDF{CodeDir: c.CodeDir}, Registry: p.registry, Logger: log})
	return nil
}

// showProviders says what each vendor was asked and cost, to an administrator.
func (p *program) showProviders(ctx context.Context, in provider.ReportRequest) (out provider.Report, err error) {
	if out, err = p.vendors.Report(ctx, in); err != nil {
		return out, err
	}
	return out, p.store.Tx(ctx, func(ctx context.Context) error {
		return p.audit.Record(ctx, audit.Entry{Action: "admin.read_providers"})
	})
}

// vendorLines says for the doctor which vendors answer.
func vendorLines(c Config) (out []string) {
	missing := provider.Missing(c.Accounts)
	for _, name := range provider.Names {
		state := "not configured"
		switch {
		case provider.Configured(name, c.Accounts[name]):
			state = "configured"
		case c.Sandbox && slices.Contains(missing, name):
			state = "emulated by the sandbox"
		}
		out = append(out, fmt.Sprintf("vendor %s: %s", name, state))
	}
	return out
}

// sandboxCommand serves the emulators alone, for clients in other processes.
func sandboxCommand() *cobra.Command {
	var addr string
	var set sandbox.Settings
	c := &cobra.Command{Use: "sandbox", Short: "Emulators of all vendors over an invented world", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := sandbox.Start(sandbox.Config{Addr: addr, Settings: set})
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "GEMINI_BASE_URL=%s GEMINI_API_KEY=sandbox\n", s.URL(sandbox.Gemini))
		fmt.Fprintf(out, "OPENAI_BASE_URL=%s OPENAI_MODEL=sandbox\n", s.URL(sandbox.OpenAI))
		fmt.Fprintf(out, "BRIGHT_DATA_BASE_URL=%s BRIGHT_DATA_API_KEY=sandbox BRIGHT_DATA_SERP_ZONE=sandbox\n", s.URL(sandbox.BrightData))
		fmt.Fprintf(out, "SEARXNG_URL=%s\n", s.URL(sandbox.SearXNG))
		fmt.Fprintf(out, "LINKUP_BASE_URL=%s LINKUP_API_KEY=sandbox\n", s.URL(sandbox.Linkup))
		fmt.Fprintf(out, "calls, faults, settings and truth: %s\n", s.URL("control"))
		<-cmd.Context().Done()
		return s.Close()
	}}
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:4010", "where to listen")
	c.Flags().Uint64Var(&set.Seed, "seed", 0, "of what is left to chance")
	c.Flags().Float64Var(&set.ErrorRate, "error-rate", 0, "share of the model's quotes and addresses that it invents")
	c.Flags().BoolVar(&set.Obedient, "obedient", false, "the model does what a hostile page tells it")
	c.Flags().IntVar(&set.LatencyMS, "latency", 0, "milliseconds before every answer")
	return c
}

// probeCommand asks the configured vendors what the sandbox also answers, and
// says where they differ.
func probeCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var tenant, dir string
	c := &cobra.Command{Use: "contract-probe", Short: "Ask each configured vendor some small questions and compare it with its emulator; costs some cents", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, log, err := setup()
		if err != nil {
			return err
		}
		c.Sandbox = false
		p, err := build(cmd.Context(), c, log)
		if err != nil {
			return err
		}
		defer p.close(context.Background())
		t, err := p.tenants.Resolve(cmd.Context(), tenant)
		if err != nil {
			return fmt.Errorf("tenant %q: %w", tenant, err)
		}
		box, err := sandbox.Start(sandbox.Config{Logger: log})
		if err != nil {
			return err
		}
		defer box.Close()
		accounts := maps.Clone(c.Accounts)
		for _, name := range provider.Names {
			a := accounts[name]
			a.BaseURL, a.Keys, a.Zone, a.Sandbox = box.URL(name), []string{"sandbox"}, "sandbox", true
			accounts[name] = a
		}
		emulated := provider.New(provider.Config{Store: p.store, Egress: p.egress, Accounts: accounts, EmulatedHost: box.Host, Logger: log})
		ctx := domain.WithScope(cmd.Context(), domain.Scope{Tenant: t.ID, Actor: domain.Actor{Kind: "system", ID: "contract-probe"}})
		failed, out := 0, cmd.OutOrStdout()
		results := provider.Probe(ctx, p.vendors, emulated)
		if len(results) == 0 {
			return errors.New("no vendor is configured")
		}
		for _, r := range results {
			fmt.Fprintf(out, "%s %s: HTTP %d, %d bytes, %d micro-dollars\n", r.Vendor, r.Operation, r.Status, len(r.Body), r.Cost)
			if r.Err != nil {
				failed++
				fmt.Fprintf(out, "  NOT USABLE: %v\n", r.Err)
			}
			for _, path := range r.Lacking {
				fmt.Fprintf(out, "  only the emulator has %s\n", path)
			}
			for _, path := range r.Further {
				fmt.Fprintf(out, "  only the vendor has  %s\n", path)
			}
			if dir != "" {
				name := filepath.Join(dir, r.Vendor+"-"+strings.ReplaceAll(r.Operation, "/", "-"))
				if err := os.WriteFile(name, r.Body, 0o600); err != nil {
					return err
				}
			}
		}
		if failed > 0 {
			return fmt.Errorf("%d of %d answers could not be used", failed, len(results))
		}
		return nil
	}}
	c.Flags().StringVar(&tenant, "tenant", "", "slug or id of the tenant that the calls are booked to")
	c.Flags().StringVar(&dir, "out", "", "a folder for the answers as they came; keys are taken out")
	_ = c.MarkFlagRequired("tenant")
	return c
}
