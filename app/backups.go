package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/backup"
	"github.com/chainreactions/chainreactions/domain/quarantine"
)

// databaseFile is the embedded database in DATA_DIR.
const databaseFile = "chainreactions.db"

// backupEvery is how often a backup that is kept looks for changes. Reading the
// pages takes a core; it rests four times as long as it worked.
const backupEvery = 3 * time.Second

// lastRound is what a backup that is kept is given at the end.
const lastRound = 10 * time.Second

// backupOf says what a backup of this installation holds. SECRET_KEY is not in
// it: who has the one has not the other.
func backupOf(c Config) backup.Config {
	return backup.Config{Database: filepath.Join(c.DataDir, databaseFile), Dir: c.DataDir, SecretKey: c.SecretKey,
		Trees:  []string{"uploads", "exports", "audit", "usage", "erasures.jsonl", "sandbox-stripe.json"},
		Counts: []string{"tenants", "users", "memberships", "datasets", "dataset_entries", "audit_events", "usage_events", "research_runs", "api_keys"}}
}

func embeddedOnly(c Config) error {
	if c.DatabaseURL != "" {
		return errors.New("the database is PostgreSQL: its backups are its own (docs/operations.md); this command is for the embedded database")
	}
	return nil
}

// keepBackup follows this installation into BACKUP_TO until ctx ends, and writes
// a last time then.
func (p *program) keepBackup(ctx context.Context) {
	err := followBackup(ctx, p.config.BackupTo, backupOf(p.config), backupEvery, func(c backup.Commit, err error) {
		if err != nil {
			p.log.Error("the backup is behind", "error", err)
			return
		}
		p.backedUp.Store(c.At.UnixNano())
	})
	if err != nil {
		p.log.Error("the backup has not what was written last", "error", err)
	}
}

// backupAge is how much the backup lags behind.
func (p *program) backupAge() time.Duration {
	if at := p.backedUp.Load(); at > 0 {
		return time.Since(time.Unix(0, at))
	}
	return time.Since(p.started)
}

// followBackup keeps a backup until ctx ends, and begins it anew when it is spent.
// What is under way then is finished, and what came after it written, in lastRound.
func followBackup(ctx context.Context, path string, of backup.Config, every time.Duration, told func(backup.Commit, error)) error {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastRound, cancel) })()
	var f *backup.Follower
	round := func() (c backup.Commit, err error) {
		if f == nil {
			if f, err = backup.Create(path, of); err != nil {
				return c, err
			}
		}
		c, err = f.Round(working)
		if f.Spent() {
			err = errors.Join(err, f.Close())
			f = nil
		}
		return c, err
	}
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	for {
		started := time.Now()
		told(round())
		select {
		case <-time.After(max(every, 4*time.Since(started))):
		case <-ctx.Done():
			_, err := round()
			return err
		}
	}
}

func backupCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var out string
	var follow bool
	c := &cobra.Command{Use: "backup", Short: "A sealed copy of the embedded database and the files, while the server runs", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, _, err := setup()
		if err == nil {
			err = embeddedOnly(c)
		}
		if err != nil {
			return err
		}
		say := func(c backup.Commit, err error) {
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "behind:", err)
				return
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %d pages, %d files, %d rows\n", c.At.Format(time.RFC3339), c.Pages, len(c.Files), rowsOf(c))
		}
		if follow {
			return followBackup(cmd.Context(), out, backupOf(c), backupEvery, say)
		}
		f, err := backup.Create(out, backupOf(c))
		if err != nil {
			return err
		}
		got, err := f.Round(cmd.Context())
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		say(got, nil)
		if os.Getenv("SECRET_KEY") == "" && os.Getenv("SECRET_KEY_FILE") == "" {
			fmt.Fprintln(cmd.OutOrStdout(), "it opens with the SECRET_KEY of this installation alone: keep", filepath.Join(c.DataDir, "secret.key"), "somewhere else too")
		}
		return nil
	}}
	c.Flags().StringVar(&out, "out", "", "the file to write; NAME.head beside it belongs to it")
	c.Flags().BoolVar(&follow, "follow", false, "go on with it, every few seconds, until stopped")
	_ = c.MarkFlagRequired("out")
	return c
}

func rowsOf(c backup.Commit) (n int64) {
	for _, k := range c.Counts {
		n += k
	}
	return n
}

func restoreCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var from string
	var partial, replace bool
	c := &cobra.Command{Use: "restore", Short: "Put a backup in the place of DATA_DIR; the server must not run, and starts in quarantine", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, log, err := setup()
		if err == nil {
			err = embeddedOnly(c)
		}
		if err != nil {
			return err
		}
		_, err = os.Stat(filepath.Join(c.DataDir, databaseFile))
		if err == nil && !replace {
			return fmt.Errorf("%s has a database: --replace sets it aside", c.DataDir)
		}
		dir := filepath.Clean(c.DataDir)
		fresh := fmt.Sprintf("%s.restoring-%d", dir, os.Getpid())
		got, err := backup.Restore(from, c.SecretKey, fresh, databaseFile, partial)
		if err == nil {
			err = carryOver(dir, fresh)
		}
		if err == nil {
			err = beginQuarantine(cmd.Context(), c, fresh, fmt.Sprintf("restored from %s, of %s", filepath.Base(from), got.Last.At.Format(time.RFC3339)), log)
		}
		if err != nil {
			return errors.Join(err, os.RemoveAll(fresh))
		}
		aside := fmt.Sprintf("%s.before-%s", dir, time.Now().UTC().Format("20060102T150405Z"))
		if err := os.Rename(dir, aside); err != nil {
			return err
		}
		if err := os.Rename(fresh, dir); err != nil {
			return errors.Join(err, os.Rename(aside, dir))
		}
		fmt.Fprintf(cmd.OutOrStdout(), "restored what was there at %s: %d files, %d rows\n", got.Last.At.Format(time.RFC3339), len(got.Last.Files), rowsOf(got.Last))
		if got.Partial != "" {
			fmt.Fprintln(cmd.OutOrStdout(), "what came after is lost:", got.Partial)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "what was there before is in %s\nthe system is in quarantine: no mail, webhook or report of usage leaves until \"chainreactions quarantine --release\"\n", aside)
		return nil
	}}
	c.Flags().StringVar(&from, "from", "", "the backup")
	c.Flags().BoolVar(&partial, "partial", false, "take the last whole state of a backup that ends too early")
	c.Flags().BoolVar(&replace, "replace", false, "set aside what is in DATA_DIR")
	_ = c.MarkFlagRequired("from")
	return c
}

// carryOver keeps what must survive a restore: the key of a development
// installation, and every erasure, those after the backup too.
func carryOver(from, to string) error {
	if key, err := os.ReadFile(filepath.Join(from, "secret.key")); err == nil {
		if err := os.WriteFile(filepath.Join(to, "secret.key"), key, 0o600); err != nil {
			return err
		}
	}
	const ledger = "erasures.jsonl"
	now, err := os.ReadFile(filepath.Join(from, ledger))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	then, err := os.ReadFile(filepath.Join(to, ledger))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known := bytes.Split(then, []byte("\n"))
	if len(then) > 0 && !bytes.HasSuffix(then, []byte("\n")) {
		then = append(then, '\n') // the backup has a line that was not whole yet
	}
	for line := range bytes.Lines(now) {
		if !slices.ContainsFunc(known, func(k []byte) bool { return bytes.Equal(k, bytes.TrimRight(line, "\n")) }) {
			then = append(then, line...)
		}
	}
	return os.WriteFile(filepath.Join(to, ledger), then, 0o600)
}

// beginQuarantine opens the restored database, brings its schema up and keeps it
// from speaking before anything could.
func beginQuarantine(ctx context.Context, c Config, dir, reason string, log *slog.Logger) error {
	c.DataDir = dir
	st, err := openStore(ctx, c, log)
	if err != nil {
		return err
	}
	return errors.Join(quarantine.New(st, nil).Begin(ctx, reason), st.Close())
}

func drillCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var from string
	c := &cobra.Command{Use: "drill", Short: "Restore a backup aside, start it, check it, and print RPO and RTO", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, _, err := setup()
		if err == nil {
			err = embeddedOnly(c)
		}
		if err != nil {
			return err
		}
		return drill(cmd.Context(), c, from, cmd.OutOrStdout())
	}}
	c.Flags().StringVar(&from, "from", "", "the backup; without it one is made of what is there now")
	return c
}

// drill proves that a backup can be lived on: it is restored into a folder of its
// own, started, asked, and its records are verified. Nothing of it speaks to the
// world.
func drill(ctx context.Context, c Config, from string, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "chainreactions-drill-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if from == "" {
		from = filepath.Join(dir, "backup")
		f, err := backup.Create(from, backupOf(c))
		if err != nil {
			return err
		}
		_, err = f.Round(ctx)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	lost := time.Now()
	until, err := backup.WholeUntil(from, c.SecretKey)
	if err != nil {
		return fmt.Errorf("until when the backup is whole is not known: %w", err)
	}
	fmt.Fprintf(out, "RPO %.1f s: were all lost now, what was written since %s would be\n", lost.Sub(until).Seconds(), until.Format(time.RFC3339))
	c.DataDir, c.BackupTo, c.Sandbox, c.RedisURL, c.AlertEmail, c.AlertWebhook = filepath.Join(dir, "data"), "", false, "", "", ""
	got, err := backup.Restore(from, c.SecretKey, c.DataDir, databaseFile, false)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	if err := beginQuarantine(ctx, c, c.DataDir, "drill", quiet); err != nil {
		return err
	}
	p, err := build(ctx, c, quiet)
	if err != nil {
		return fmt.Errorf("the restored system does not start: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, p.close(ctx))
	}
	ended := make(chan error, 1) // the edge alone: no job is worked, nothing is spent
	go func() { ended <- p.api.Serve(l) }()
	defer func() { err = errors.Join(err, p.api.Shutdown(ctx), <-ended, p.close(ctx)) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/readyz")
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the restored system is not ready: %d", resp.StatusCode)
	}
	fmt.Fprintf(out, "RTO %.2f s: from the backup to a system that is ready\n", time.Since(lost).Seconds())
	fmt.Fprintf(out, "ok    %d pages, %d files; the database is whole; %d rows in %d tables, as many as were counted\n", got.Last.Pages, len(got.Last.Files), rowsOf(got.Last), len(got.Last.Counts))
	if on, err := p.quarantine.On(ctx); err != nil || !on {
		return fmt.Errorf("the restored system is not in quarantine (%v)", err)
	}
	fmt.Fprintln(out, "ok    it is in quarantine")
	if err := p.verifyAudit(ctx, io.Discard, ""); err != nil {
		return fmt.Errorf("the audit record: %w", err)
	}
	fmt.Fprintln(out, "ok    the audit record of every tenant is whole")
	return nil
}
