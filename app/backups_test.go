package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/backup"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/domain"
)

// A server that keeps its backup is killed under load and its folder lost: the
// restored system has everything that was acknowledged up to the last commit,
// signs its people in, keeps its record and its ledger, and is in quarantine.
// The drill on that backup says so.
func TestDisaster(t *testing.T) {
	away := t.TempDir()
	copyAt := filepath.Join(away, "backup")
	h := newHouse(t, "BACKUP_TO="+copyAt, "SECRET_KEY="+strings.Repeat("k", 32))
	base := h.start(0)
	anyone := client{t, base, http.Header{}}
	user, key, _ := person(t, base, "keeper")
	ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
	key.importList(ds, "name,country\nNational University of Defense Technology,China\n", "")
	lived := func(n int) {
		for range n {
			key.must(200, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "National University of Defense Technology"}, "dataset_ids": []string{ds}})
		}
	}
	lived(40)
	for i := range 2 {
		key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": fmt.Sprintf("after %d", i)})
	}
	acknowledged := time.Now()
	drilled := func() {
		var out bytes.Buffer
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CR_TEST_SERVE_ARGS=drill --from "+copyAt, "DATA_DIR="+filepath.Join(away, "drill"), "SECRET_KEY="+strings.Repeat("k", 32), "SANDBOX=off")
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		for _, want := range []string{"RPO", "RTO", "the database is whole", "in quarantine", "audit record of every tenant is whole", "lists have the", "add up to its totals", "sign-in: 1 passwords are readable", "somebody who was there before"} {
			if !strings.Contains(out.String(), want) {
				t.Fatalf("the drill does not say %q:\n%s", want, out.String())
			}
		}
		t.Log(strings.TrimSpace(out.String()))
	}
	until(t, "the backup holds what was acknowledged", func() bool {
		info, err := os.Stat(copyAt + ".head")
		return err == nil && info.ModTime().After(acknowledged.Add(time.Second))
	})
	drilled()
	h.kill(0)

	lost := time.Now()
	data := filepath.Join(away, "new")
	restore := exec.Command(os.Args[0])
	restore.Env = append(os.Environ(), "CR_TEST_SERVE_ARGS=restore --from "+copyAt, "DATA_DIR="+data, "SECRET_KEY="+strings.Repeat("k", 32), "SANDBOX=off")
	if out, err := restore.CombinedOutput(); err != nil || !strings.Contains(string(out), "quarantine") {
		t.Fatalf("%v %s", err, out)
	}
	h.vars = append(h.vars, "DATA_DIR="+data, "BACKUP_TO=")
	h.start(0)
	t.Logf("from the loss to a system that is ready: %v", time.Since(lost))

	anyone.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "keeper@example.org", "password": "correct horse battery"})
	if n := len(key.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)); n != 3 {
		t.Errorf("%d datasets, 3 were acknowledged", n)
	}
	lived(1)
	until(t, "the units that were used are in the ledger, those of the dead process's log too", func() bool {
		for _, m := range user.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
			if m := m.(map[string]any); m["meter"] == "match" {
				return m["used"] == 41.0
			}
		}
		return false
	})
	if v := user.must(200, "GET", "/api/v1/audit-events/verify", nil); v["ok"] != true {
		t.Errorf("%v", v)
	}
	again := exec.Command(os.Args[0])
	again.Env = restore.Env
	if out, err := again.CombinedOutput(); err == nil || !strings.Contains(string(out), "a server runs") {
		t.Errorf("it is restored under a server that runs: %s", out)
	}
}

// A server that is told to stop writes its backup when all else is written: the
// usage that it flushes last is in it.
func TestBackupOfAStoppedServer(t *testing.T) {
	copyAt := filepath.Join(t.TempDir(), "backup")
	c, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir(), "BACKUP_TO": copyAt}))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("served", func(t *testing.T) { // and stopped at its end
		_, base := served(t, c, slog.DiscardHandler, nil)
		_, key, _ := person(t, base, "keeper")
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		key.importList(ds, "name,country\nNational University of Defense Technology,China\n", "")
		for range 5 {
			key.must(200, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "National University of Defense Technology"}, "dataset_ids": []string{ds}})
		}
	})
	got, err := backup.Check(copyAt, c.SecretKey, time.Time{})
	if err != nil || got.Partial != "" {
		t.Fatalf("%+v %v", got, err)
	}
	st, err := openStore(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for table, copied := range got.Last.Counts {
		var n int64
		if err := st.SQLDB().QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil || n != copied {
			t.Errorf("%s has %d rows, its backup %d (%v)", table, n, copied, err)
		}
	}
	if got.Last.Counts["usage_events"] == 0 {
		t.Error("no usage was written: this proves nothing")
	}
}

// Who was erased after the backup is erased again in what is restored of it, also
// where the backup was made while a line was written, where its newest state is
// asked for a moment of before, and where a former restore set the line aside.
func TestRestoreForgetsAgain(t *testing.T) {
	line := func(id string) string {
		b, _ := json.Marshal(map[string]any{"subject": id, "at": time.Now().UTC()})
		return string(b) + "\n"
	}
	first, second, third := line("usr_first"), line("usr_second"), line("usr_third")
	for then, want := range map[string]string{first: first + second + third, first + second[:9]: first + second[:9] + "\n" + second + third, "": first + second + third} {
		c := configured(t, nil)
		c.DataDir = t.TempDir()
		fresh, aside, kept := t.TempDir(), filepath.Join(c.DataDir, setAside+"then"), filepath.Join(t.TempDir(), "backup")
		if err := errors.Join(os.Mkdir(aside, 0o700), os.WriteFile(filepath.Join(c.DataDir, erasures), []byte("\n"+first+"\n"+second), 0o600)); err != nil {
			t.Fatal(err)
		}
		of := backupOf(c)
		of.Database, of.Counts = "", nil
		f, err := backup.Create(kept, of)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Close(), os.Remove(filepath.Join(c.DataDir, erasures)), // the backup alone has it
			os.WriteFile(filepath.Join(aside, erasures), []byte(third), 0o600), os.WriteFile(filepath.Join(fresh, erasures), []byte(then), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := carryOver(c, kept, fresh); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(fresh, erasures)); string(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A restore is refused while a server runs there; one that is cut off before the
// old and the new change places changed nothing, and on one that is cut off in it no
// process starts, until it is done again; then it is whole, and what it found each
// time is still there.
func TestRestoreIsCutOff(t *testing.T) {
	c := configured(t, nil)
	kept := filepath.Join(t.TempDir(), "backup")
	quiet := slog.New(slog.DiscardHandler)
	t.Run("served", func(t *testing.T) {
		_, base := served(t, c, slog.DiscardHandler, nil)
		person(t, base, "keeper")
		f, err := backup.Create(kept, backupOf(c))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		into := backup.Restored{Database: databaseFile}
		if err := restore(t.Context(), c, kept, kept, into, true, io.Discard, quiet); err == nil || !strings.Contains(err.Error(), "a server runs") {
			t.Errorf("over a running server: %v", err)
		}
	})
	into := backup.Restored{Database: databaseFile}
	if err := restore(t.Context(), c, kept, kept, into, false, io.Discard, quiet); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("a database that is there was written over: %v", err)
	}
	// Cut off while all is made anew: what is there is as it was.
	fresh := filepath.Join(c.DataDir, restoring)
	if err := errors.Join(os.Mkdir(fresh, 0o700), os.WriteFile(filepath.Join(fresh, databaseFile), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	signsIn := func() error {
		t.Helper()
		p, err := build(t.Context(), c, quiet)
		if err != nil {
			return err
		}
		defer p.close(context.Background())
		_, err = p.auth.Login(domain.WithScope(t.Context(), domain.Scope{}), auth.LoginRequest{Email: "keeper@example.org", Password: "correct horse battery"})
		return err
	}
	if err := signsIn(); err != nil {
		t.Fatal(err)
	}
	// Cut off in the middle of the change, once with everything set aside and once with half of the new there.
	for n := range 2 {
		there, err := movable(c.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		aside := filepath.Join(c.DataDir, fmt.Sprint(setAside, n))
		if n == 1 {
			there = there[:len(there)/2]
		}
		if err := errors.Join(os.WriteFile(filepath.Join(c.DataDir, underWay), nil, 0o600), os.Mkdir(aside, 0o700)); err != nil {
			t.Fatal(err)
		}
		for _, name := range there {
			if err := os.Rename(filepath.Join(c.DataDir, name), filepath.Join(aside, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := signsIn(); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Fatalf("it starts on half of a restore: %v", err)
		}
		if err := restore(t.Context(), c, kept, kept, into, true, io.Discard, quiet); err != nil {
			t.Fatal(err)
		}
		if err := signsIn(); err != nil {
			t.Fatal(err)
		}
		if list, err := os.ReadDir(aside); err != nil || len(list) != len(there) {
			t.Errorf("what the first one found: %v %v", list, err)
		}
	}
	if q, err := os.Stat(fresh); err == nil {
		t.Errorf("%s is left", q.Name())
	}
}
