package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/app/backup"
	"github.com/chainreactions/chainreactions/app/cluster"
	"github.com/chainreactions/chainreactions/domain/quarantine"
)

// What has its place in DATA_DIR.
const (
	databaseFile = "chainreactions.db"
	erasures     = "erasures.jsonl"    // who was erased: it outlives every restore
	inUse        = ".lock"             // by processes, which share it, or by a restore alone
	underWay     = "restore-under-way" // while a restore puts files in their place
	restoring    = ".restoring"        // where it makes them
	setAside     = "before-"           // and the time: what it found
)

// backupEvery is how long a backup that is kept rests between two looks for changes.
const backupEvery = 2 * time.Second

// lastRound is what a backup that is kept is given at the end.
const lastRound = 10 * time.Second

// backupOf says what a backup of this installation holds: of one on PostgreSQL
// the files alone. SECRET_KEY is not in it: who has the one has not the other.
func backupOf(c Config) backup.Config {
	of := backup.Config{Dir: c.DataDir, SecretKey: c.SecretKey,
		Trees: []string{"uploads", "exports", erasures, "sandbox-stripe.json"}, Before: []string{"audit", "usage"}}
	if c.DatabaseURL == "" {
		of.Database = filepath.Join(c.DataDir, databaseFile)
		of.Counts = []string{"tenants", "users", "memberships", "datasets", "dataset_entries", "audit_events", "usage_events", "research_runs", "api_keys"}
	}
	return of
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

// followBackup keeps a backup until ctx ends. When it is spent a new one is begun
// beside it, which takes its place once it is whole. What is under way at the end is
// finished, and what came after it written, in lastRound.
func followBackup(ctx context.Context, path string, of backup.Config, every time.Duration, told func(backup.Commit, error)) error {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastRound, cancel) })()
	type begun struct {
		f   *backup.Follower
		err error
	}
	begin := func(path string, of backup.Config) (b begun) {
		if b.f, b.err = backup.Create(path, of); b.err == nil {
			if _, b.err = b.f.Round(working); b.err != nil {
				b.err = errors.Join(b.err, b.f.Close())
			}
		}
		return b
	}
	var f *backup.Follower
	var next chan begun // nil where none is being made
	round := func() (c backup.Commit, err error) {
		if f == nil {
			if f, err = backup.Create(path, of); err != nil {
				return c, err
			}
		}
		if c, err = f.Round(working); err != nil {
			err = errors.Join(err, f.Close())
			f = nil
		}
		return c, err
	}
	replace := func() error {
		switch {
		case f == nil:
			return nil
		case next == nil && f.Spent():
			next = make(chan begun, 1)
			beside := of
			beside.History = 0
			go func(to chan<- begun) { to <- begin(path+".next", beside) }(next)
			return nil
		}
		select {
		case b := <-next:
			if next = nil; b.err != nil {
				return b.err // the former goes on
			}
			if b.err = b.f.Take(f); b.err == nil {
				f = b.f
				return nil
			}
			b.err = errors.Join(b.err, b.f.Close(), f.Close())
			f = nil // and a new one is begun
			return b.err
		default:
			return nil
		}
	}
	defer func() {
		cancel()
		if next != nil {
			if b := <-next; b.err == nil {
				b.f.Close()
				_ = os.Remove(path + ".next")
				_ = os.Remove(path + ".next.head")
			}
		}
		if f != nil {
			f.Close()
		}
	}()
	for {
		c, err := round()
		if err == nil {
			err = replace()
		}
		told(c, err)
		select {
		case <-time.After(every):
		case <-ctx.Done():
			_, err := round()
			return err
		}
	}
}

func backupCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var out string
	var follow, check bool
	var history time.Duration
	c := &cobra.Command{Use: "backup", Short: "A sealed copy of the files and of the embedded database, while the server runs", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, _, err := setup()
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
		if check {
			got, err := backup.Check(out, c.SecretKey, time.Time{})
			if err == nil && got.Partial != "" {
				err = errors.New(got.Partial)
			}
			if err != nil {
				return err
			}
			say(got.Last, nil)
			return nil
		}
		of := backupOf(c)
		of.History = history
		if follow {
			return followBackup(cmd.Context(), out, of, backupEvery, say)
		}
		f, err := backup.Create(out, of)
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
	c.Flags().BoolVar(&check, "check", false, "write nothing: is the file whole?")
	c.Flags().DurationVar(&history, "history", 0, "for how long to keep the files that were followed by a new one, so that their moments can be restored")
	_ = c.MarkFlagRequired("out")
	return c
}

func rowsOf(c backup.Commit) (n int64) {
	for _, k := range c.Counts {
		n += k
	}
	return n
}

// moment is a flag: a time, or zero for the last there is.
type moment struct{ time.Time }

func (m *moment) Set(text string) (err error) {
	m.Time, err = time.Parse(time.RFC3339Nano, text)
	return err
}

func (m *moment) Type() string { return "time" }

func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339Nano)
}

func restoreCommand(setup func() (Config, *slog.Logger, error)) *cobra.Command {
	var from string
	var to moment
	var partial, replace bool
	c := &cobra.Command{Use: "restore", Short: "Put a backup in the place of what is in DATA_DIR; no server may run, and it starts in quarantine", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, log, err := setup()
		if err != nil {
			return err
		}
		return restore(cmd.Context(), c, backup.At(from, to.Time), from, backup.Restored{Database: databaseFile, To: to.Time, Partial: partial}, replace, cmd.OutOrStdout(), log)
	}}
	c.Flags().StringVar(&from, "from", "", "the backup")
	c.Flags().Var(&to, "to", "as of when (2026-01-31T12:00:00Z); without it the last state there is")
	c.Flags().BoolVar(&partial, "partial", false, "take the last whole state of a backup that ends too early")
	c.Flags().BoolVar(&replace, "replace", false, "set aside what is in DATA_DIR")
	_ = c.MarkFlagRequired("from")
	return c
}

// restore makes all anew in a folder of its own within DATA_DIR, which may be a
// mounted volume, and then has it change places with what is there. What is cut
// off before that changed nothing; what is cut off in it is told by a mark, and no
// process starts on it.
func restore(ctx context.Context, c Config, from, latest string, into backup.Restored, replace bool, out io.Writer, log *slog.Logger) error {
	free, err := occupy(c.DataDir, true)
	if err != nil {
		return err
	}
	defer free()
	there, err := movable(c.DataDir)
	if err != nil {
		return err
	}
	if len(there) > 0 && !replace && !(len(there) == 1 && there[0] == "secret.key") {
		return fmt.Errorf("%s has a database or files: --replace sets them aside", c.DataDir)
	}
	fresh := filepath.Join(c.DataDir, restoring)
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	into.Dir = fresh
	got, err := backup.Restore(from, c.SecretKey, into)
	if err == nil {
		err = carryOver(c, latest, fresh)
	}
	if err == nil {
		of := c
		of.DataDir = fresh // unless it is PostgreSQL, where nothing but this is done
		err = beginQuarantine(ctx, of, fmt.Sprintf("restored from %s, of %s", filepath.Base(from), got.Last.At.Format(time.RFC3339)), log)
	}
	if err == nil && c.RedisURL != "" {
		err = cluster.Empty(ctx, c.RedisURL) // it may be ahead of what was restored
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	aside := filepath.Join(c.DataDir, setAside+time.Now().UTC().Format("20060102T150405.000Z"))
	if err := changePlaces(c.DataDir, there, fresh, aside); err != nil {
		return err
	}
	fmt.Fprintf(out, "restored what was there at %s: %d files, %d rows\n", got.Last.At.Format(time.RFC3339), len(got.Last.Files), rowsOf(got.Last))
	if got.Partial != "" {
		fmt.Fprintln(out, "what came after is lost:", got.Partial)
	}
	if len(there) > 0 {
		fmt.Fprintln(out, "what was there before is in", aside)
	}
	fmt.Fprintln(out, `the system is in quarantine: no mail, webhook or report of usage leaves until "chainreactions quarantine --release"`)
	return nil
}

// movable is what of a folder a restore sets aside.
func movable(dir string) (names []string, err error) {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if n := e.Name(); n != inUse && n != underWay && n != restoring && n != "lost+found" && !strings.HasPrefix(n, setAside) {
			names = append(names, n)
		}
	}
	return names, err
}

func changePlaces(dir string, there []string, fresh, aside string) error {
	mark := filepath.Join(dir, underWay)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	syscall.Sync()
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	for _, name := range there {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil {
			return err
		}
	}
	made, err := movable(fresh)
	if err != nil {
		return err
	}
	for _, name := range made {
		if err := os.Rename(filepath.Join(fresh, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if len(there) == 0 {
		if err := os.Remove(aside); err != nil {
			return err
		}
	}
	syscall.Sync()
	return os.Remove(mark)
}

// occupy holds DATA_DIR for a process, among others, or for a restore, alone.
func occupy(dir string, alone bool) (free func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, inUse), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, err
		}
		if alone {
			return nil, fmt.Errorf("a server runs on %s: stop it first", dir)
		}
		return nil, fmt.Errorf("%s is being restored", dir)
	}
	return func() { f.Close() }, nil
}

// restoredWhole refuses a folder that a restore was cut off in.
func restoredWhole(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, underWay)); err == nil {
		return fmt.Errorf("a restore into %s was cut off: restore again, with --replace", dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// carryOver keeps what must survive a restore: the key of a development
// installation, and every erasure, those after the backup too, of whatever is
// there and of what former restores found.
func carryOver(c Config, latest, to string) error {
	if key, err := os.ReadFile(filepath.Join(c.DataDir, "secret.key")); err == nil {
		if err := os.WriteFile(filepath.Join(to, "secret.key"), key, 0o600); err != nil {
			return err
		}
	}
	then, err := os.ReadFile(filepath.Join(to, erasures))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known := map[string]bool{}
	for line := range bytes.Lines(then) {
		known[string(bytes.TrimRight(line, "\n"))] = true
	}
	if len(then) > 0 && !bytes.HasSuffix(then, []byte("\n")) {
		then = append(then, '\n') // the backup has a line that was not whole yet
	}
	add := func(ledger []byte) {
		for line := range bytes.Lines(ledger) {
			if k := string(bytes.TrimRight(line, "\n")); k != "" && !known[k] {
				known[k] = true
				then = append(then, k+"\n"...)
			}
		}
	}
	ledger, err := backup.Latest(latest, c.SecretKey, erasures)
	if err != nil {
		return err
	}
	add(ledger)
	places, _ := filepath.Glob(filepath.Join(c.DataDir, setAside+"*")) // the pattern is whole: that is its only error
	for _, place := range append(places, c.DataDir) {
		ledger, err := os.ReadFile(filepath.Join(place, erasures))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		add(ledger)
	}
	if len(then) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(to, erasures), then, 0o600)
}

// beginQuarantine opens the restored database, brings its schema up and keeps it
// from speaking before anything could.
func beginQuarantine(ctx context.Context, c Config, reason string, log *slog.Logger) error {
	st, err := openStore(ctx, c, log)
	if err != nil {
		return err
	}
	return errors.Join(quarantine.New(st, nil).Begin(ctx, reason), st.Close())
}
