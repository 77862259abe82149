package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/backup"
	"github.com/chainreactions/chainreactions/app/mail"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// drillRequest says what is restored aside, and what it may take.
type drillRequest struct {
	From     string
	To       moment
	Database string        // PostgreSQL's, which was restored aside by its own tools
	Began    moment        // the drill, where that restored something before; else now
	RPO, RTO time.Duration // beyond which the drill fails; 0 is none
}

func drillCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var in drillRequest
	c := &cobra.Command{Use: "drill", Short: "Restore a backup aside, start it, check it, and print RPO and RTO", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, _, err := setup()
		if err != nil {
			return err
		}
		return drill(cmd.Context(), c, in, cmd.OutOrStdout())
	}}
	c.Flags().StringVar(&in.From, "from", "", "the backup; without it one is made of what is there now")
	c.Flags().Var(&in.To, "to", "as of when; without it the last state there is")
	c.Flags().StringVar(&in.Database, "database", "", "on PostgreSQL: the address of the cluster that was restored aside (deploy/pitr.sh drill)")
	c.Flags().Var(&in.Began, "began", "when the restoring of that began")
	c.Flags().DurationVar(&in.RPO, "rpo", 0, "fail when more than this would be lost")
	c.Flags().DurationVar(&in.RTO, "rto", 0, "fail when it took longer than this")
	return c
}

// drill proves that a backup can be lived on: it is restored into a folder of its
// own, started, asked, and its records are verified. Nothing of it speaks to the
// world.
func drill(ctx context.Context, c Config, in drillRequest, out io.Writer) (err error) {
	if (c.DatabaseURL != "") != (in.Database != "") {
		return errors.New("--database names the cluster that was restored aside, where the database is PostgreSQL (deploy/pitr.sh drill), and there alone")
	}
	dir, err := os.MkdirTemp("", "chainreactions-drill-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if in.From == "" {
		in.From = filepath.Join(dir, "backup")
		f, err := backup.Create(in.From, backupOf(c))
		if err != nil {
			return err
		}
		_, err = f.Round(ctx)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	lost := time.Now()
	until, err := backup.WholeUntil(in.From, c.SecretKey)
	if err != nil {
		return fmt.Errorf("until when the backup is whole is not known: %w", err)
	}
	c.DataDir, c.BackupTo, c.Sandbox, c.RedisURL, c.AlertEmail, c.AlertWebhook, c.ReplicaURL = filepath.Join(dir, "data"), "", false, "", "", "", ""
	c.DatabaseURL, c.SMTP, c.Verify, c.Roles, c.Peers = in.Database, mail.Server{}, false, nil, nil
	as := in.To.Time
	if in.Database != "" {
		committed, err := restoredAside(ctx, in.Database)
		if err != nil {
			return err
		}
		if committed.Before(until) {
			until = committed
		}
		as = committed // what speaks of rows is not newer than they
	}
	rpo := lost.Sub(until)
	if in.To.IsZero() {
		fmt.Fprintf(out, "RPO %.1f s: were all lost now, what was written since %s would be\n", rpo.Seconds(), until.Format(time.RFC3339))
	} else {
		fmt.Fprintf(out, "as of %s\n", in.To.Format(time.RFC3339))
	}
	got, err := backup.Restore(backup.At(in.From, as), c.SecretKey, backup.Restored{Dir: c.DataDir, Database: databaseFile, To: as})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	if err := beginQuarantine(ctx, c, "drill", quiet); err != nil {
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
	ask := visitor{"http://" + l.Addr().String(), ""}
	if err := ask.call(ctx, "GET", "/readyz", nil, nil); err != nil {
		return fmt.Errorf("the restored system is not ready: %w", err)
	}
	rto := time.Since(cmp.Or(in.Began.Time, lost))
	fmt.Fprintf(out, "RTO %.2f s: from the backup to a system that is ready\n", rto.Seconds())
	if in.Database == "" {
		fmt.Fprintf(out, "ok    %d pages, %d files; the database is whole; %d rows in %d tables, as many as were counted\n", got.Last.Pages, len(got.Last.Files), rowsOf(got.Last), len(got.Last.Counts))
	} else {
		fmt.Fprintf(out, "ok    %d files\n", len(got.Last.Files))
	}
	if on, err := p.quarantine.On(ctx); err != nil || !on {
		return fmt.Errorf("the restored system is not in quarantine (%v)", err)
	}
	fmt.Fprintln(out, "ok    it is in quarantine")
	lists, entries, err := p.datasets.Counted(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "ok    %d lists have the %d entries that they say they have\n", lists, entries)
	if err := p.verifyAudit(ctx, io.Discard, ""); err != nil {
		return fmt.Errorf("the audit record: %w", err)
	}
	fmt.Fprintln(out, "ok    the audit record of every tenant is whole")
	since := ""
	if c.UsageMonths > 0 {
		since = time.Now().UTC().AddDate(0, 1-c.UsageMonths, 0).Format("2006-01") // months before have gone, and their totals stay
	}
	lines, err := p.meter.Balanced(ctx, since)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "ok    the ledger's %d lines add up to its totals\n", lines)
	if err := p.drillSignIn(ctx, ask, out); err != nil {
		return fmt.Errorf("sign-in: %w", err)
	}
	if in.RPO > 0 && in.To.IsZero() && rpo > in.RPO {
		return fmt.Errorf("an RPO of %.1f s is more than %s", rpo.Seconds(), in.RPO)
	}
	if in.RTO > 0 && rto > in.RTO {
		return fmt.Errorf("an RTO of %.1f s is more than %s", rto.Seconds(), in.RTO)
	}
	return nil
}

// restoredAside gives when the last transaction of a restored cluster was
// committed, and refuses one that others are connected to or could be: a drill writes.
func restoredAside(ctx context.Context, url string) (committed time.Time, err error) {
	st, err := store.Open(ctx, store.Config{URL: url, MaxConns: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return committed, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	var others int64
	var at sql.NullTime
	var listens string
	err = st.SQLDB().QueryRowContext(ctx, `SELECT count(*), pg_last_xact_replay_timestamp(), current_setting('listen_addresses') FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&others, &at, &listens)
	switch {
	case err != nil:
		return committed, err
	case others > 0:
		return committed, fmt.Errorf("%d others are connected to --database: a drill writes, and needs a cluster that was restored aside", others)
	case listens != "": // a primary that took over has recovered once too, and may be idle
		return committed, fmt.Errorf("--database listens on %s: a drill writes, and needs a cluster that was restored aside and is reached by its socket alone", listens)
	case !at.Valid:
		return committed, errors.New("--database is not a cluster that was restored: it recovered nothing when it was started")
	}
	return at.Time, nil
}

// drillSignIn has somebody sign up and in, and then one who was there before: a
// copy of the new one's password is put in the place of theirs, which is not known.
func (p *program) drillSignIn(ctx context.Context, anyone visitor, out io.Writer) error {
	email, password := "drill-"+strings.ToLower(rand.Text())+"@example.com", rand.Text()
	if err := anyone.call(ctx, "POST", "/api/v1/auth/signup", map[string]any{"email": email, "password": password, "full_name": "Drill", "workspace_name": "Drill", "accept_terms": true}, nil); err != nil {
		return err
	}
	var people, unreadable int64
	var before []string
	err := p.store.Read(domain.System(ctx, "drill"), func(ctx context.Context) error {
		return errors.Join(p.store.SQL(ctx, `SELECT count(*), coalesce(sum(CASE WHEN password_hash LIKE '$argon2id$v=19$m=%$%$%' THEN 0 ELSE 1 END), 0) FROM users
				WHERE password_hash <> '' AND email <> @email`, map[string]any{"email": email}).Row().Scan(&people, &unreadable),
			p.store.SQL(ctx, `SELECT u.email FROM users u WHERE u.password_hash <> '' AND u.totp_confirmed_at IS NULL AND u.disabled_at IS NULL AND u.email <> @email
				AND EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = u.id AND m.role = 'owner') ORDER BY u.created_at LIMIT 5`, map[string]any{"email": email}).Scan(&before).Error)
	})
	if err != nil {
		return err
	}
	if unreadable > 0 {
		return fmt.Errorf("%d of %d passwords are not readable", unreadable, people)
	}
	enter := func(email string) (visitor, error) {
		var in struct {
			AccessToken string `json:"access_token"`
		}
		err := anyone.call(ctx, "POST", "/api/v1/auth/login", map[string]any{"email": email, "password": password}, &in)
		return visitor{anyone.base, in.AccessToken}, err
	}
	if _, err := enter(email); err != nil {
		return err
	}
	failed := error(nil)
	for _, one := range before { // one may be kept out, by their tenant's rules say
		err := p.store.Tx(domain.System(ctx, "drill"), func(ctx context.Context) error {
			_, err := p.store.Exec(ctx, "UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = @from) WHERE email = @one", map[string]any{"from": email, "one": one})
			return err
		})
		if err != nil {
			return err
		}
		them, err := enter(one)
		if err == nil {
			err = errors.Join(them.call(ctx, "GET", "/api/v1/me", nil, nil), them.call(ctx, "GET", "/api/v1/datasets", nil, nil))
		}
		if err == nil {
			fmt.Fprintf(out, "ok    sign-in: %d passwords are readable; somebody new signed up and in, and somebody who was there before signed in and read their lists\n", people)
			return nil
		}
		failed = err
	}
	if failed == nil {
		fmt.Fprintf(out, "ok    sign-in: %d passwords are readable; somebody new signed up and in; there is no owner with a password alone\n", people)
	}
	return failed
}

// visitor asks the edge as anybody does.
type visitor struct{ base, token string }

func (v visitor) call(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, v.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if v.token != "" {
		req.Header.Set("Authorization", "Bearer "+v.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s answers %d %s", method, path, resp.StatusCode, raw)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(raw, answer)
	}
	return err
}
