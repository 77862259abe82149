package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/backup"
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
		for _, want := range []string{"RPO", "RTO", "the database is whole", "in quarantine", "audit record of every tenant is whole"} {
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
	if out, err := again.CombinedOutput(); err == nil || !strings.Contains(string(out), "--replace") {
		t.Errorf("a database that is there was written over: %s", out)
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
	got, err := backup.Check(copyAt, c.SecretKey)
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
// where the backup was made while a line was written.
func TestRestoreForgetsAgain(t *testing.T) {
	old, fresh := t.TempDir(), t.TempDir()
	line := func(id string) string {
		b, _ := json.Marshal(map[string]any{"subject": id, "at": time.Now().UTC()})
		return string(b) + "\n"
	}
	first, second := line("usr_first"), line("usr_second")
	if err := os.WriteFile(filepath.Join(old, "erasures.jsonl"), []byte(first+second), 0o600); err != nil {
		t.Fatal(err)
	}
	for then, want := range map[string]string{first: first + second, first + second[:9]: first + second[:9] + "\n" + second, "": first + second} {
		if err := os.WriteFile(filepath.Join(fresh, "erasures.jsonl"), []byte(then), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := carryOver(old, fresh); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(fresh, "erasures.jsonl")); string(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A process of PostgreSQL is told where its backups come from.
func TestBackupOfPostgresIsRefused(t *testing.T) {
	c, err := loadConfig(env(map[string]string{"DATA_DIR": t.TempDir(), "DATABASE_URL": "postgres://x@127.0.0.1/x"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := embeddedOnly(c); err == nil || !strings.Contains(err.Error(), "operations.md") {
		t.Error(err)
	}
}
