package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// recovered is an installation on a cluster that deploy/pitr.sh keeps.
type recovered struct {
	*house
	t        *testing.T
	dir      string
	env      []string
	follower *exec.Cmd
	mu       sync.Mutex
	made     map[string][2]time.Time // lists that were acknowledged: asked for, and answered
	imports  map[string]time.Time    // that were accepted
	load     sync.WaitGroup
	stop     context.CancelFunc
	header   http.Header
	big      string // a list that is imported into
}

// run runs a command, and gives what it says.
func (r *recovered) run(name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), r.env...), &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

func (r *recovered) must(name string, args ...string) string {
	r.t.Helper()
	out, err := r.run(name, args...)
	if err != nil {
		r.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

func (r *recovered) pitr(args ...string) string {
	r.t.Helper()
	return r.must("../deploy/pitr.sh", args...)
}

// sql runs a statement of the superuser's.
func (r *recovered) sql(database, text string) string {
	r.t.Helper()
	return r.must("sh", "-c", `psql -XAtq -v ON_ERROR_STOP=1 -h "$PGHOST" -p "$PGPORT" -U postgres -d "$0" -c "$1"`, database, text)
}

// owner runs a shell script as the one who owns the cluster.
func (r *recovered) owner(script string) string {
	r.t.Helper()
	const find = `bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/pg_ctl | sort -V | tail -n 1)"); `
	if os.Geteuid() == 0 {
		return r.must("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "sh", "-ec", "cd /; "+find+script)
	}
	return r.must("sh", "-ec", find+script)
}

// start starts the platform by roles; callers come in by the gateway.
func (r *recovered) start() {
	r.t.Helper()
	r.startAll(len(r.roles))
	until(r.t, "the gateway knows every role", func() bool {
		for _, path := range []string{"/api/v1/plans", "/api/v1/runs", "/api/v1/matching/stats"} {
			res, err := http.DefaultClient.Get(r.procs[0].base + path)
			if err != nil {
				return false
			}
			res.Body.Close()
			if res.StatusCode == 503 {
				return false
			}
		}
		return true
	})
}

// end kills every process of it.
func (r *recovered) end() {
	for i := range r.procs {
		r.kill(i)
	}
	r.unfollow()
}

// follow keeps the backup of the files.
func (r *recovered) follow() {
	r.t.Helper()
	r.follower = exec.Command(r.binary, "backup", "--follow", "--history", "24h", "--out", r.dir+"/files")
	r.follower.Env = append(os.Environ(), r.env...)
	r.follower.SysProcAttr = leashed()
	began := time.Now()
	if err := r.follower.Start(); err != nil {
		r.t.Fatal(err)
	}
	until(r.t, "the files are backed up", func() bool {
		info, err := os.Stat(r.dir + "/files.head")
		return err == nil && info.ModTime().After(began)
	})
}

func (r *recovered) unfollow() {
	if r.follower != nil {
		_ = r.follower.Process.Kill()
		_ = r.follower.Wait()
		r.follower = nil
	}
}

// work makes lists, matches and imports until it is told to stop.
func (r *recovered) work() {
	ctx, stop := context.WithCancel(r.t.Context())
	r.stop = func() { stop(); r.load.Wait() }
	for lane := range 6 {
		base := r.procs[0].base
		r.load.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				asked := time.Now()
				name := fmt.Sprintf("list %d of %d at %s", n, lane, asked.Format(time.RFC3339Nano))
				switch {
				case lane < 3:
					if status, _, err := roundTrip(c, r.header, "POST", base+"/api/v1/datasets", map[string]any{"name": name}); err == nil && status == 201 {
						r.mu.Lock()
						r.made[name] = [2]time.Time{asked, time.Now()}
						r.mu.Unlock()
					}
				case lane < 5:
					_, _, _ = roundTrip(c, r.header, "POST", base+"/api/v1/matches", anyName)
				default:
					list := "name,country\n" + strings.Repeat("Institute of "+name+",China\n", 2000)
					if id := sent(c, r.header, base+"/api/v1/datasets/"+r.big+"/imports?mode=replace", list); id != "" {
						r.mu.Lock()
						r.imports[id] = time.Now()
						r.mu.Unlock()
					}
				}
				pause := 20 * time.Millisecond
				if lane == 5 {
					pause = 200 * time.Millisecond
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
}

// sent imports a list, and gives the import's id if it was accepted.
func sent(c *http.Client, h http.Header, url, list string) string {
	req, err := http.NewRequest("POST", url, strings.NewReader(list))
	if err != nil {
		return ""
	}
	req.Header = h.Clone()
	req.Header.Set("Content-Type", "text/csv")
	res, err := c.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	var im struct{ ID string }
	if json.NewDecoder(res.Body).Decode(&im) != nil || res.StatusCode != 202 {
		return ""
	}
	return im.ID
}

// acknowledged waits until that many more lists are.
func (r *recovered) acknowledged(n int) {
	r.t.Helper()
	have := func() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.made) }
	before := have()
	until(r.t, "lists are made", func() bool { return have() >= before+n })
}

// lists are the names of those that there are.
func (r *recovered) lists() map[string]bool {
	r.t.Helper()
	out := map[string]bool{}
	c := client{r.t, r.procs[0].base, r.header}
	for cursor := ""; ; {
		page := c.must(200, "GET", "/api/v1/datasets?limit=200"+cursor, nil)
		for _, d := range page["data"].([]any) {
			out[d.(map[string]any)["name"].(string)] = true
		}
		next, _ := page["next_cursor"].(string)
		if next == "" {
			return out
		}
		cursor = "&cursor=" + next
	}
}

// mails counts those that left.
func (r *recovered) mails() int {
	list, _ := os.ReadDir(r.dir + "/data/outbox") // which is made with the first
	return len(list)
}

// whole holds what was restored to what it must be: somebody signs in, it is in
// quarantine, on every role, until it is released, the audit record verifies, and imports that had not ended end; one
// that was accepted in the seconds before the moment may lack its file.
func (r *recovered) whole(accepted time.Time, lost time.Duration) {
	t := r.t
	t.Helper()
	base := r.procs[0].base
	anyone := client{t, base, http.Header{}}
	anyone.must(200, "POST", "/api/v1/auth/login", map[string]any{"email": "pitr@example.org", "password": "correct horse battery"})
	if said := r.must(r.binary, "quarantine"); !strings.Contains(said, "in quarantine since") {
		t.Errorf("it is not in quarantine: %s", said)
	}
	anyone.must(202, "POST", "/api/v1/demo-requests", map[string]any{"name": "n", "email": "n@example.org", "company": "c", "message": "m"}) // a mail, which waits
	key := client{t, base, r.header}
	ended, failed := 0, 0
	for id, at := range r.imports {
		status, raw, _ := key.do("GET", "/api/v1/imports/"+id, nil)
		if status == 404 && at.After(accepted.Add(-lost)) {
			continue // it was accepted after the moment, or within what may be lost
		}
		until(t, "the import ends", func() bool {
			status, raw, _ = key.do("GET", "/api/v1/imports/"+id, nil)
			return status == 200 && (bytes.Contains(raw, []byte(`"succeeded"`)) || bytes.Contains(raw, []byte(`"failed"`)))
		})
		if ended++; !bytes.Contains(raw, []byte(`"succeeded"`)) {
			if failed++; !at.After(accepted.Add(-10*time.Second)) || !bytes.Contains(raw, []byte(`"upload_lost"`)) {
				t.Errorf("an import was lost: %s", raw)
			}
		}
	}
	if mails := r.mails(); mails != 0 {
		t.Errorf("%d mails left a system in quarantine", mails)
	}
	r.must(r.binary, "quarantine", "--release")
	until(t, "what came since is mailed", func() bool { return r.mails() > 0 })
	t.Logf("%d imports ended, %d of the last seconds without their file", ended, failed)
	if said := r.must(r.binary, "audit", "verify"); strings.Contains(said, "BROKEN") {
		t.Errorf("the audit record: %s", said)
	}
}

// The database and the files of a loaded platform, kept by deploy/pitr.sh: a drill
// beside it; a table dropped and rows deleted, and all put back to just before; the
// cluster killed and both folders lost, and all put back to the last seconds; and a
// repository or a backup of the files that is not whole, refused before anything is touched.
func TestPointInTime(t *testing.T) {
	operations(t)
	dir, err := os.MkdirTemp("/tmp", "cr-pitr-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // PostgreSQL's user makes folders in it
		t.Fatal(err)
	}
	port := reserved(t, 1)[0]
	server := testdb.StartRedis(t)
	r := &recovered{t: t, dir: dir, made: map[string][2]time.Time{}, imports: map[string]time.Time{}}
	binary := built(t, "pitr", "")
	r.env = []string{"PGDATA=" + dir + "/pg", "PGPORT=" + strconv.Itoa(port), "PGHOST=" + dir, "PITR_CONF=" + dir + "/pgbackrest.conf", "PITR_REPO=" + dir + "/repo",
		"PITR_CIPHER_PASS=" + strings.Repeat("c", 40), "FILES_BACKUP=" + dir + "/files", "CHAINREACTIONS=" + binary, "SANDBOX=off", "LOG_LEVEL=error",
		fmt.Sprintf("DATABASE_URL=postgres://postgres@127.0.0.1:%d/platform?sslmode=disable", port), "DATA_DIR=" + dir + "/data", "SECRET_KEY=" + strings.Repeat("k", 40),
		"REDIS_URL=" + server.URL, "PITR_PATIENCE=300"}
	t.Cleanup(func() {
		_, _ = r.run("sh", "-c", `kill -QUIT "$(head -n 1 "$PGDATA/postmaster.pid")"`)
		until(t, "PostgreSQL ends", func() bool { _, err := os.Stat(dir + "/pg/postmaster.pid"); return err != nil })
	})
	r.house = newHouse(t, r.env...)
	r.house.vars = append(r.house.vars, r.env...)
	r.binary, r.roles = binary, []string{"gateway", "main,dataset-search,entity-relations,dataset-matching", "worker"}
	t.Cleanup(r.unfollow)
	r.owner(`"$bin/initdb" -D "$PGDATA" -A trust -U postgres --locale=C.UTF-8 -E UTF8 >/dev/null
		printf "listen_addresses = '127.0.0.1'\nport = $PGPORT\nunix_socket_directories = '$PGHOST'\nmax_connections = 200\n" >>"$PGDATA/postgresql.conf"
		"$bin/pg_ctl" -s -w -D "$PGDATA" -l "$PGDATA/server.log" start >/dev/null 2>&1`)
	r.sql("postgres", "CREATE DATABASE platform")
	r.must(binary, "migrate")
	r.follow()
	r.pitr("init")
	r.start()
	_, key, tenant := person(t, r.procs[0].base, "pitr")
	r.header = key.header
	r.must(binary, "admin", "plan", "--tenant", tenant, "--plan", "enterprise")
	until(t, "the plan is in force", func() bool {
		status, raw, _ := key.do("POST", "/api/v1/datasets", map[string]any{"name": "big"})
		var made struct{ ID string }
		_ = json.Unmarshal(raw, &made)
		_, limit := usageOf(t, r.header, r.procs[0].base, "match")
		r.big = made.ID
		return status == 201 && limit < 0
	})
	key.importList(r.big, "name,country\nNational University of Defense Technology,China\n", "")
	r.work()
	defer func() { r.stop() }()
	r.acknowledged(100)

	said := r.pitr("drill")
	t.Logf("the drill beside the load:\n%s", said)
	for _, want := range []string{"RPO", "RTO", "lists have the", "audit record of every tenant is whole", "add up to its totals", "somebody who was there before signed in"} {
		if !strings.Contains(said, want) {
			t.Errorf("the drill does not say %q", want)
		}
	}
	if said, err := r.run("../deploy/pitr.sh", "restore"); err == nil || !strings.Contains(said, "PostgreSQL runs") {
		t.Errorf("over a running cluster: %s", said)
	}
	if said, err := r.run(binary, "drill", "--from", dir+"/files", "--database", r.env[10][len("DATABASE_URL="):]); err == nil || !strings.Contains(said, "others are connected") {
		t.Errorf("a drill on the platform itself: %s", said)
	}

	// A mistake, and back to just before it.
	r.acknowledged(50)
	moment := time.Now()
	r.acknowledged(50)
	r.sql("platform", "DROP TABLE dataset_entries CASCADE; DELETE FROM memberships")
	r.stop()
	until(t, "the files of that moment are backed up", func() bool {
		info, err := os.Stat(dir + "/files.head")
		return err == nil && info.ModTime().After(moment.Add(8*time.Second)) // a round that began after it
	})
	r.end()
	r.owner(`"$bin/pg_ctl" -s -w -D "$PGDATA" -m fast stop`)
	r.corrupted()
	began := time.Now()
	t.Log(r.pitr("restore", "--to", moment.UTC().Format(time.RFC3339Nano)))
	r.follow()
	r.start()
	t.Logf("back to before the mistake after %v", time.Since(began).Round(100*time.Millisecond))
	there := r.lists()
	early, late := 0, 0
	for name, at := range r.made {
		switch {
		case at[1].Before(moment) && !there[name]:
			t.Errorf("%s is lost, acknowledged %v before the moment", name, moment.Sub(at[1]))
		case at[0].After(moment) && there[name]:
			t.Errorf("%s is there, asked for %v after the moment", name, at[0].Sub(moment))
		case there[name]:
			early++
		default:
			late++
			delete(r.made, name)
		}
	}
	t.Logf("%d lists of before the moment are there, %d of after it are not", early, late)
	if early < 150 || late < 40 {
		t.Errorf("%d and %d: this proves little", early, late)
	}
	r.whole(moment, 0)

	// All is lost: the machine, both folders.
	clear(r.imports)
	r.work()
	r.acknowledged(300)
	pid, err := os.ReadFile(dir + "/pg/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	postmaster, err := strconv.Atoi(strings.SplitN(string(pid), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	lost := time.Now()
	if err := syscall.Kill(postmaster, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.end()
	r.stop()
	until(t, "the cluster is dead", func() bool { return syscall.Kill(postmaster, 0) != nil })
	for _, folder := range []string{"/pg", "/data"} {
		until(t, "its folder is gone", func() bool { return os.RemoveAll(dir+folder) == nil }) // its last children may still write
	}
	if err := os.Mkdir(dir+"/data", 0o700); err != nil {
		t.Fatal(err)
	}
	t.Log(r.pitr("restore"))
	// Nobody is connected yet; but whoever wants to be may.
	if said, err := r.run(binary, "drill", "--from", dir+"/files", "--database", r.env[10][len("DATABASE_URL="):]); err == nil || !strings.Contains(said, "--database listens on") {
		t.Errorf("a drill on a cluster that others reach: %s", said)
	}
	r.follow()
	r.start()
	rto := time.Since(lost)
	there = r.lists()
	rpo, missing := time.Duration(0), 0
	for name, at := range r.made {
		if !there[name] {
			missing++
			rpo = max(rpo, lost.Sub(at[1]))
		}
	}
	t.Logf("all was lost: RPO %v (%d of %d acknowledged lists), RTO %v", rpo.Round(100*time.Millisecond), missing, len(r.made), rto.Round(100*time.Millisecond))
	if rpo > 10*time.Second || rto > 5*time.Minute {
		t.Errorf("RPO %v, RTO %v", rpo, rto)
	}
	r.whole(lost, 10*time.Second)
	t.Logf("and the drill of what was restored:\n%s", r.pitr("drill"))
}

// corrupted holds that what is not whole is refused, with the reason, and nothing is touched.
func (r *recovered) corrupted() {
	t := r.t
	find := func(part, like string) string {
		var found []string
		_ = filepath.WalkDir(r.dir+"/repo/"+part, func(path string, d fs.DirEntry, err error) error {
			if ok, _ := filepath.Match(like, filepath.Base(path)); err == nil && ok && d.Type().IsRegular() {
				found = append(found, path)
			}
			return err
		})
		slices.Sort(found)
		if len(found) < 3 && part == "archive" || len(found) == 0 {
			t.Fatalf("%s %s: %v", part, like, found)
		}
		return found[len(found)/2]
	}
	segment := find("archive", "????????????????????????-*.lz4")
	for i, c := range []struct {
		what, path string
		change     func(text []byte) []byte // nil takes the file away
	}{
		{"one bit of a copied file", find("backup", "[0-9]*"), func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"the list of backups that is cut", r.dir + "/repo/backup/chainreactions/backup.info", func(b []byte) []byte { return b[:len(b)/2] }},
		{"one bit of a segment", segment, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"a segment that is cut", segment, func(b []byte) []byte { return b[:len(b)-100] }},
		{"an empty segment", segment, func([]byte) []byte { return nil }},
		{"a segment that is missing", segment, nil},
		{"one bit of the files' backup", r.dir + "/files", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"a files' backup that is cut", r.dir + "/files", func(b []byte) []byte { return b[:len(b)-1000] }},
		{"a files' backup that is missing", r.dir + "/files", nil},
	} {
		info, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if c.change == nil {
			err = os.Rename(c.path, r.dir+"/away")
		} else {
			err = os.WriteFile(c.path, c.change(slices.Clone(whole)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = os.Rename(c.path+".copy", c.path+".second") // pgBackRest keeps some files twice
		said, refused := r.run("../deploy/pitr.sh", "check")
		if refused != nil && i%4 == 0 { // else it would be done
			said, refused = r.run("../deploy/pitr.sh", "restore")
		}
		_ = os.Rename(c.path+".second", c.path+".copy")
		lines := strings.Split(said, "\n")
		if _, err := os.Stat(r.dir + "/pg/PG_VERSION"); refused == nil || err != nil || !strings.Contains(said, "corrupt") && !strings.Contains(said, "not whole") {
			t.Errorf("%s: %v %v\n%s", c.what, refused, err, said)
		} else {
			t.Logf("%s is refused: %s", c.what, strings.Join(lines[max(0, len(lines)-3):], " / "))
		}
		if c.change == nil {
			err = os.Rename(r.dir+"/away", c.path)
		} else {
			err = os.WriteFile(c.path, whole, info.Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
