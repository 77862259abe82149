package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/backup"
	"github.com/chainreactions/chainreactions/auth"
	"github.com/chainreactions/chainreactions/billing"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/domain/subject"
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

// The folder of a backup goes away and comes back, as a disk does: whoever keeps it
// says that it is behind, and then has everything again.
func TestBackupGoesOnWithItsDisk(t *testing.T) {
	c := configured(t, nil)
	folder := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := openStore(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx, stop := context.WithCancel(t.Context())
	told, ended := make(chan error, 1000), make(chan error, 1)
	go func() {
		ended <- followBackup(ctx, filepath.Join(folder, "backup"), backupOf(c), time.Millisecond, func(_ backup.Commit, err error) { told <- err })
	}()
	hears := func(what string, failed bool) {
		t.Helper()
		for limit := time.After(patience); ; {
			select {
			case err := <-told:
				if failed == (err != nil) {
					return
				}
			case <-limit:
				t.Fatal("never: ", what)
			}
		}
	}
	hears("it is whole", false)
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	hears("it is behind", true)
	note := filepath.Join(c.DataDir, "uploads", "meanwhile")
	if err := errors.Join(os.MkdirAll(filepath.Dir(note), 0o700), os.WriteFile(note, []byte("x"), 0o600), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	hears("it is whole again", false)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for where, has := range map[string]bool{folder + ".away": false, folder: true} {
		got, err := backup.Check(filepath.Join(where, "backup"), c.SecretKey, time.Time{})
		if err != nil || got.Partial != "" || slices.Contains(got.Last.Files, "uploads/meanwhile") != has {
			t.Errorf("%s: %+v %v", where, got, err)
		}
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

// The same with a loaded system: a million entries, a gigabyte of files, tens of
// thousands of lines in the ledger and of audit events, and work going on until it
// is killed. LOADED=0.1 takes a tenth of it.
func TestLoadedDisaster(t *testing.T) {
	operations(t)
	scale := 1.0
	if of := os.Getenv("LOADED"); of != "" {
		var err error
		if scale, err = strconv.ParseFloat(of, 64); err != nil {
			t.Fatal(err)
		}
	}
	n := func(whole int) int { return int(scale * float64(whole)) }
	away, secret := t.TempDir(), strings.Repeat("k", 32)
	copyAt, data := filepath.Join(away, "backup"), filepath.Join(away, "data")
	h := newHouse(t, "SECRET_KEY="+secret)
	h.vars = append(h.vars, "DATA_DIR="+data, "BACKUP_TO="+copyAt)
	command := func(args string) string {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), append(h.vars, "CR_TEST_SERVE_ARGS="+args)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	files := filepath.Join(data, "uploads", "loaded")
	if err := os.MkdirAll(files, 0o700); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, n(100<<20)) // which nothing makes smaller
	for i := range 10 {
		_, _ = rand.Read(noise)
		if err := os.WriteFile(filepath.Join(files, fmt.Sprint(i)), noise, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := h.start(0)
	_, key, tenant := person(t, base, "keeper")
	command("admin plan --tenant " + tenant + " --plan enterprise")
	anyone := client{t, base, http.Header{}}
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(data, databaseFile)})
	if err != nil {
		t.Fatal(err)
	}
	plans, err := billing.New(t.Context(), billing.Config{Store: st, Audit: audit.New(audit.Config{Store: st, SecretKey: []byte(secret), Subjects: subject.New(st, []byte(secret))})})
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{"light", "data", "match"} {
		if err := plans.Override(domain.System(t.Context(), "test"), billing.Override{Owned: store.Owned{TenantID: tenant}, Kind: "rate", Name: class, Value: 10_000_000, Author: "test", Reason: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the plan and the rates are in force", func() bool {
		_, limit := usageOf(t, key.header, base, "match")
		_, _, answer := key.do("GET", "/api/v1/usage", nil)
		return limit < 0 && strings.Contains(answer.Get("RateLimit-Policy"), "q=10000000;")
	})
	big := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "big"})["id"].(string)
	for part := range 10 {
		var list strings.Builder
		list.WriteString("name,aliases,country\n")
		for i := range n(100_000) {
			fmt.Fprintf(&list, "Research Institute Number %d of %d,RIN %d;Institut %d de recherche,China\n", i, part, i, i)
		}
		if im := key.importList(big, list.String(), ""); im["status"] != "succeeded" {
			t.Fatalf("%v", im)
		}
	}
	small := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "small"})["id"].(string)
	key.importList(small, "name,country\nNational University of Defense Technology,China\n", "")
	var mu sync.Mutex
	made := map[string]time.Time{}
	create := func(c *http.Client, name string) {
		if status, _, err := roundTrip(c, key.header, "POST", base+"/api/v1/datasets", map[string]any{"name": name}); err == nil && status == 201 {
			mu.Lock()
			made[name] = time.Now()
			mu.Unlock()
		}
	}
	var answered atomic.Int64
	ask := func(c *http.Client) {
		if status, _, err := roundTrip(c, key.header, "POST", base+"/api/v1/matches", map[string]any{"query": map[string]any{"name": "National University of Defense Technology"}, "dataset_ids": []string{small}}); err == nil && status == 200 {
			answered.Add(1)
		}
	}
	spread(n(20_000), func(int) { ask(http.DefaultClient) })
	spread(n(20_000), func(i int) { create(http.DefaultClient, fmt.Sprint("before ", i)) })
	info, err := os.Stat(filepath.Join(data, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries in a database of %d MB, %d MB of files, %d matches and %d lists", n(1_000_000), info.Size()>>20, 10*len(noise)>>20, answered.Load(), len(made))

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for lane := range 4 {
		load.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for i := 0; ctx.Err() == nil; i++ {
				switch lane {
				case 0, 1:
					create(c, fmt.Sprintf("load %d of %d", i, lane))
				case 2:
					ask(c)
				case 3:
					_ = sent(c, key.header, base+"/api/v1/datasets/"+small+"/imports?mode=replace", "name,country\n"+strings.Repeat("Institute,China\n", 5000))
				}
				pause := 10 * time.Millisecond // a steady load, not a race for the machine
				if lane == 3 {
					pause = time.Second
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	rounds := 0
	for last := (time.Time{}); rounds < 12; { // of the backup, under this load
		until(t, "the backup goes on", func() bool {
			info, err := os.Stat(copyAt + ".head")
			return err == nil && info.ModTime().After(last)
		})
		at, err := backup.WholeUntil(copyAt, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		if at.After(last) {
			rounds++
			t.Logf("the backup lacked %v just before it was whole again", time.Since(cmp.Or(last, at)).Round(100*time.Millisecond))
			last = at
		}
	}
	t.Logf("the drill beside the load:\n%s", command("drill --from "+copyAt))
	lost := time.Now()
	h.kill(0)
	stop()
	load.Wait()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	command("restore --from " + copyAt)
	h.vars = append(h.vars, "BACKUP_TO=")
	h.start(0)
	rto := time.Since(lost)
	anyone.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "keeper@example.org", "password": "correct horse battery"})
	there := map[string]bool{}
	for cursor := ""; ; {
		page := key.must(200, "GET", "/api/v1/datasets?limit=200"+cursor, nil)
		for _, d := range page["data"].([]any) {
			there[d.(map[string]any)["name"].(string)] = true
		}
		next, _ := page["next_cursor"].(string)
		if next == "" {
			break
		}
		cursor = "&cursor=" + next
	}
	rpo, missing := time.Duration(0), 0
	for name, at := range made {
		if !there[name] {
			missing++
			rpo = max(rpo, lost.Sub(at))
		}
	}
	t.Logf("RPO %v: %d of %d acknowledged lists; RTO %v", rpo.Round(100*time.Millisecond), missing, len(made), rto.Round(100*time.Millisecond))
	if rpo > 10*time.Second || rto > 5*time.Minute {
		t.Errorf("RPO %v, RTO %v", rpo, rto)
	}
	if list, err := os.ReadDir(filepath.Join(data, "uploads", "loaded")); err != nil || len(list) != 10 {
		t.Errorf("%d of 10 files: %v", len(list), err)
	}
	h.kill(0)
	t.Logf("the drill of what was restored:\n%s", command("drill"))
}
