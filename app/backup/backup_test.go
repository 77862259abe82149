package backup

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "of the random tests; 0 takes one from the clock")

var secret = []byte("0123456789abcdef0123456789abcdef")

// house is a small installation that the tests write to.
type house struct {
	t   *testing.T
	dir string
	db  *sql.DB
	n   int
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, dir: t.TempDir()}
	var err error
	if h.db, err = sql.Open("sqlite", "file:"+filepath.Join(h.dir, "house.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"); err != nil {
		t.Fatal(err)
	}
	h.db.SetMaxOpenConns(1)
	t.Cleanup(func() { h.db.Close() })
	if _, err := h.db.Exec("CREATE TABLE marks (n integer PRIMARY KEY, text text)"); err != nil {
		t.Fatal(err)
	}
	h.live(200)
	return h
}

// live adds marks and a file, and takes an older file away.
func (h *house) live(rows int) {
	h.t.Helper()
	for range rows {
		h.n++
		if _, err := h.db.Exec("INSERT INTO marks VALUES (?, ?)", h.n, fmt.Sprintf("%0200d", h.n)); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(h.dir, "uploads", "ten_1"), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "uploads", "ten_1", fmt.Sprint(h.n)), fmt.Appendf(nil, "%0100000d", h.n), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if list, _ := os.ReadDir(filepath.Join(h.dir, "uploads", "ten_1")); len(list) > 3 {
		_ = os.Remove(filepath.Join(h.dir, "uploads", "ten_1", list[0].Name()))
	}
}

func (h *house) config() Config {
	return Config{Database: filepath.Join(h.dir, "house.db"), Dir: h.dir, Trees: []string{"uploads", "nothing"}, Before: []string{"logs"}, SecretKey: secret, Counts: []string{"marks"}}
}

func follow(t *testing.T, h *house, path string) *Follower {
	t.Helper()
	f, err := Create(path, h.config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// What was committed comes back: rows, files and their contents, and nothing
// that was gone, while the database goes on being written.
func TestFollowAndRestore(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "b")
	f := follow(t, h, path)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // a writer who never rests
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = h.db.Exec("INSERT INTO marks VALUES (?, 'beside')", -1-i)
			}
		}
	}()
	var last Commit
	for range 5 {
		h.live(20)
		var err error
		if last, err = f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-stopped
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(t.TempDir(), "new")
	got, err := Restore(path, secret, Restored{Dir: into, Database: "house.db"})
	if err != nil || got.Last.Counts["marks"] != last.Counts["marks"] || got.Last.Counts["marks"] < 300 {
		t.Fatalf("%+v %v", got, err)
	}
	files, _ := os.ReadDir(filepath.Join(into, "uploads", "ten_1"))
	if len(files) != len(last.Files) || len(files) != 3 {
		t.Errorf("%d files, want those of the commit: %v", len(files), last.Files)
	}
	for _, file := range files {
		a, _ := os.ReadFile(filepath.Join(into, "uploads", "ten_1", file.Name()))
		b, _ := os.ReadFile(filepath.Join(h.dir, "uploads", "ten_1", file.Name()))
		if string(a) != string(b) || len(a) != 100000 {
			t.Errorf("%s differs", file.Name())
		}
	}
	if _, err := Restore(path, secret, Restored{Dir: into, Database: "house.db"}); err == nil {
		t.Error("a folder with something in it is written over")
	}
	if _, err := Restore(path, []byte("another secret key of 32 letters!"), Restored{Dir: filepath.Join(t.TempDir(), "x"), Database: "house.db"}); err == nil {
		t.Error("opened under another key")
	}
	if raw, _ := os.ReadFile(path); len(raw) == 0 || containsText(raw, "beside") || containsText(raw, "CREATE TABLE") {
		t.Error("the backup can be read without its key")
	}
}

func containsText(raw []byte, text string) bool {
	for i := 0; i+len(text) <= len(raw); i++ {
		if string(raw[i:i+len(text)]) == text {
			return true
		}
	}
	return false
}

// A round without a change writes nothing, and one with a small change little.
func TestOnlyChangesAreWritten(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "b")
	f := follow(t, h, path)
	defer f.Close()
	size := f.size
	if _, err := f.Round(t.Context()); err != nil || f.size != size {
		t.Errorf("%d bytes for nothing: %v", f.size-size, err)
	}
	if _, err := h.db.Exec("UPDATE marks SET text = 'short' WHERE n = 7"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Round(context.Background()); err != nil || f.size == size || f.size-size > size/4 {
		t.Errorf("%d bytes of %d for one row: %v", f.size-size, size, err)
	}
}

// Whatever is written between and during rounds, by transactions of every size, that
// are taken back or spill before they commit, with the log beginning anew now and then
// and the file growing and shrinking: each commit of the backup is a state that there
// was, and the last one is what there is.
func TestEveryChangeIsSeen(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	h := newHouse(t)
	exec := func(text string, args ...any) {
		t.Helper()
		if _, err := h.db.Exec(text, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("PRAGMA cache_size = 20") // so that large transactions spill
	exec("PRAGMA auto_vacuum = FULL")
	exec("VACUUM")
	exec("CREATE TABLE state (n integer)")
	exec("INSERT INTO state VALUES (0)")
	path := filepath.Join(t.TempDir(), "b")
	f := follow(t, h, path)
	defer f.Close()
	n, full, some := 0, 0, 0
	change := func() {
		t.Helper()
		exec("BEGIN IMMEDIATE")
		for range 1 + rnd.IntN(1<<rnd.IntN(9)) {
			switch k := rnd.IntN(400); rnd.IntN(3) {
			case 0:
				exec("INSERT OR REPLACE INTO marks VALUES (?, ?)", k, fmt.Sprintf("%0*d", rnd.IntN(3000), k))
			case 1:
				exec("UPDATE marks SET text = text || 'x' WHERE n = ?", k)
			case 2:
				exec("DELETE FROM marks WHERE n BETWEEN ? AND ?", k, k+rnd.IntN(3))
			}
		}
		if rnd.IntN(4) == 0 {
			exec("ROLLBACK")
			return
		}
		n++
		exec("UPDATE state SET n = ?", n)
		exec("COMMIT")
	}
	sum := func(db *sql.DB) (state int, text string) {
		t.Helper()
		if err := db.QueryRow("SELECT n, (SELECT count(*) || ' ' || coalesce(sum(length(text)), 0) || ' ' || coalesce(group_concat(n), '') FROM (SELECT * FROM marks ORDER BY n)) FROM state").Scan(&state, &text); err != nil {
			t.Fatal(err)
		}
		return state, text
	}
	states := map[int]string{}
	for range 30 {
		for range rnd.IntN(4) {
			change()
			at, text := sum(h.db)
			states[at] = text
		}
		if rnd.IntN(8) == 0 {
			f.letGo() // else the log would never begin anew
			exec("PRAGMA wal_checkpoint(TRUNCATE)")
		}
		seen := f.seen
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.seen.salt == seen.salt {
			some++
		} else {
			full++
		}
		if rnd.IntN(4) > 0 {
			continue
		}
		into := filepath.Join(t.TempDir(), "new")
		if _, err := Restore(path, secret, Restored{Dir: into, Database: "house.db"}); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", "file:"+filepath.Join(into, "house.db"))
		if err != nil {
			t.Fatal(err)
		}
		want, _ := sum(h.db)
		if at, text := sum(db); at != want || n > 0 && at > 0 && text != states[at] {
			t.Fatalf("state %d of %d: %q, was %q", at, want, text, states[at])
		}
		db.Close()
	}
	if some < 10 {
		t.Errorf("%d rounds by the log and %d of all: this proves little", some, full)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // and one that writes without a rest
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = h.db.Exec("INSERT INTO marks VALUES (?, 'beside')", 1000+i)
			}
		}
	}()
	for range 30 {
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-stopped
	for range 2 {
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var want int64
	if err := h.db.QueryRow("SELECT count(*) FROM marks").Scan(&want); err != nil {
		t.Fatal(err)
	}
	if c, err := Restore(path, secret, Restored{Dir: filepath.Join(t.TempDir(), "new"), Database: "house.db"}); err != nil || c.Last.Counts["marks"] != want {
		t.Errorf("%d rows: %+v %v", want, c.Last.Counts, err)
	}
}

// A round that failed, as on a full disk, ends the backup there: what was
// committed before stays, and a new one has everything.
func TestAfterAFailedRound(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "b")
	f := follow(t, h, path)
	h.live(300)
	good := f.out
	var err error
	if f.out, err = os.Open(os.DevNull); err != nil { // which cannot be written to
		t.Fatal(err)
	}
	if _, err := f.Round(t.Context()); err == nil {
		t.Fatalf("a round that could not be written succeeded: %v", err)
	}
	f.out.Close()
	f.out = good
	if _, err := f.Round(t.Context()); err == nil {
		t.Error("it is gone on with, though nobody knows what of it was written")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := Check(path, secret, time.Time{}); err != nil || c.Partial != "" || c.Last.Counts["marks"] != 200 {
		t.Errorf("what was committed before: %+v %v", c, err)
	}
	if err := follow(t, h, path).Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := Restore(path, secret, Restored{Dir: filepath.Join(t.TempDir(), "new"), Database: "house.db"}); err != nil || c.Last.Counts["marks"] != 500 {
		t.Errorf("%+v %v", c, err)
	}
}

// A hundred corruptions of every kind, at random places: each is refused with a
// reason, and none of them is taken for whole.
func TestEveryCorruptionIsFound(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	h := newHouse(t)
	dir := t.TempDir()
	old, oldHead := read(t, follow(t, h, filepath.Join(dir, "old"))) // an older backup of the same house
	path := filepath.Join(dir, "b")
	f := follow(t, h, path)
	var earlier [][2][]byte // as it was after each round
	for range 3 {
		file, head := read(t, f)
		earlier = append(earlier, [2][]byte{file, head})
		h.live(20)
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	whole, head := read(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := Check(path, secret, time.Time{}); err != nil || c.Partial != "" || c.Commits != 4 {
		t.Fatalf("%+v %v", c, err)
	}
	ends := frameEnds(t, path)
	begins := len(magic) + strings.IndexByte(string(whole[len(magic):]), '\n') + 1 // of the frames
	frame := func(k int) []byte { return whole[ends[k-1]:ends[k]] }
	splice := func(from, to int, in ...[]byte) []byte {
		return slices.Concat(whole[:ends[from]], slices.Concat(in...), whole[ends[to]:])
	}
	flip := func(b []byte, from, to int) string {
		at := from + rnd.IntN(to-from)
		b[at] ^= byte(1 << rnd.IntN(8))
		return fmt.Sprintf("one bit at %d", at)
	}
	kinds := []func() (bad, beside []byte, what string){
		func() ([]byte, []byte, string) {
			b := slices.Clone(whole)
			return b, head, flip(b, 0, len(magic)) + ", of the magic"
		},
		func() ([]byte, []byte, string) {
			b := slices.Clone(whole)
			return b, head, flip(b, len(magic), begins) + ", of the sealed key"
		},
		func() ([]byte, []byte, string) {
			b := slices.Clone(whole)
			return b, head, flip(b, begins, ends[0]) + ", of the header"
		},
		func() ([]byte, []byte, string) {
			b, k := slices.Clone(whole), 1+rnd.IntN(len(ends)-1)
			return b, head, flip(b, ends[k-1], ends[k-1]+4) + ", of a length"
		},
		func() ([]byte, []byte, string) {
			b, k := slices.Clone(whole), 1+rnd.IntN(len(ends)-1)
			return b, head, flip(b, ends[k-1]+4, ends[k]) + ", of a frame"
		},
		func() ([]byte, []byte, string) {
			b := slices.Clone(whole)
			return b, head, flip(b, ends[len(ends)-2], len(b)) + ", of the last commit"
		},
		func() ([]byte, []byte, string) {
			b := slices.Clone(head)
			return whole, b, flip(b, 0, len(b)) + ", of the head"
		},
		func() ([]byte, []byte, string) {
			at := rnd.IntN(len(whole))
			return whole[:at], head, fmt.Sprintf("cut at %d", at)
		},
		func() ([]byte, []byte, string) {
			k := rnd.IntN(len(ends) - 1)
			return whole[:ends[k]], head, fmt.Sprintf("cut after frame %d of %d", k, len(ends))
		},
		func() ([]byte, []byte, string) {
			k := 1 + rnd.IntN(len(ends)-1)
			return splice(k-1, k), head, fmt.Sprintf("frame %d left out", k)
		},
		func() ([]byte, []byte, string) {
			k := 1 + rnd.IntN(len(ends)-1)
			return splice(k, k, frame(k)), head, fmt.Sprintf("frame %d twice", k)
		},
		func() ([]byte, []byte, string) {
			k := 1 + rnd.IntN(len(ends)-2)
			return splice(k-1, k+1, frame(k+1), frame(k)), head, fmt.Sprintf("frames %d and %d changed places", k, k+1)
		},
		func() ([]byte, []byte, string) { // an earlier frame again where a later one was
			k := 2 + rnd.IntN(len(ends)-2)
			j := 1 + rnd.IntN(k-1)
			return splice(k-1, k, frame(j)), head, fmt.Sprintf("frame %d in the place of %d", j, k)
		},
		func() ([]byte, []byte, string) { // zeros over a part, as a lost block has them
			for {
				b, at := slices.Clone(whole), rnd.IntN(len(whole))
				clear(b[at:min(len(b), at+512)])
				if string(b) != string(whole) {
					return b, head, fmt.Sprintf("512 zeros at %d", at)
				}
			}
		},
		func() ([]byte, []byte, string) { // two blocks of a disk that changed places
			for {
				b, i, j := slices.Clone(whole), rnd.IntN(len(whole)/512), rnd.IntN(len(whole)/512)
				copy(b[i*512:], whole[j*512:j*512+512])
				copy(b[j*512:], whole[i*512:i*512+512])
				if string(b) != string(whole) {
					return b, head, fmt.Sprintf("blocks %d and %d changed places", i, j)
				}
			}
		},
		func() ([]byte, []byte, string) {
			extra := make([]byte, 1+rnd.IntN(5000))
			for i := range extra {
				extra[i] = byte(rnd.UintN(256))
			}
			return slices.Concat(whole, extra), head, fmt.Sprintf("%d bytes more", len(extra))
		},
		func() ([]byte, []byte, string) { return nil, head, "an empty file" },
		func() ([]byte, []byte, string) { return old, head, "an older backup in its place" },
		func() ([]byte, []byte, string) { return whole, oldHead, "the head of an older backup" },
		func() ([]byte, []byte, string) {
			e := earlier[rnd.IntN(len(earlier))]
			return e[0], head, "itself, as it was some rounds before"
		},
		func() ([]byte, []byte, string) { return whole, nil, "no head" },
		func() ([]byte, []byte, string) { // the frames of another file under this one's key
			oldBegins := len(magic) + strings.IndexByte(string(old[len(magic):]), '\n') + 1
			return slices.Concat(whole[:begins], old[oldBegins:]), head, "frames of another backup"
		},
	}
	found := 0
	for i := range 100 {
		bad, beside, what := kinds[i%len(kinds)]()
		name := filepath.Join(dir, fmt.Sprintf("bad%d", i))
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if beside != nil {
			if err := os.WriteFile(name+".head", beside, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		into := filepath.Join(dir, fmt.Sprintf("into%d", i))
		if _, err := Restore(name, secret, Restored{Dir: into, Database: "house.db"}); err == nil || err.Error() == "" {
			t.Errorf("not found: %s", what)
			continue
		}
		if _, err := os.Stat(into); err == nil {
			t.Errorf("%s: something was restored of it", what)
		}
		found++
		os.Remove(name)
	}
	if found != 100 {
		t.Errorf("%d of 100 found", found)
	}
	t.Logf("%d of 100 found, of %d kinds", found, len(kinds))
	if _, err := Restore(filepath.Join(dir, "nothing"), secret, Restored{Dir: filepath.Join(dir, "of-nothing"), Database: "house.db"}); err == nil {
		t.Error("a file that is not there is restored")
	}
	// What ends too early still has its last commit, for who asks for it.
	name := filepath.Join(dir, "tail")
	if err := os.WriteFile(name, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Restore(name, secret, Restored{Dir: filepath.Join(dir, "of-tail"), Database: "house.db", Partial: true}); err != nil || c.Commits != 3 || c.Partial == "" {
		t.Errorf("%+v %v", c, err)
	}
}

// read gives a backup and its head as they are now.
func read(t *testing.T, f *Follower) (file, head []byte) {
	t.Helper()
	file, err := os.ReadFile(strings.TrimSuffix(f.head, ".head"))
	if err != nil {
		t.Fatal(err)
	}
	if head, err = os.ReadFile(f.head); err != nil {
		t.Fatal(err)
	}
	return file, head
}

// Whoever writes a backup is killed at any place of a round: what was committed
// before is whole and restored without being asked twice, what the round wrote is
// not in it; and the same bytes are refused where nobody was writing.
func TestKilledInARound(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	f := follow(t, h, filepath.Join(dir, "b"))
	defer f.Close()
	before, closed := read(t, f)
	h.live(300)
	if err := f.copyFiles(&Commit{}, true); err != nil { // a round that does not come to its end
		t.Fatal(err)
	}
	during, open := read(t, f)
	if len(during) == len(before) || string(open) == string(closed) {
		t.Fatal("nothing was under way")
	}
	for n, at := range []int{len(before), len(before) + 1, len(before) + (len(during)-len(before))/2, len(during) - 1, len(during)} {
		name := filepath.Join(dir, fmt.Sprint("killed", n))
		write := func(head []byte) {
			if err := errors.Join(os.WriteFile(name, during[:at], 0o600), os.WriteFile(name+".head", head, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		write(open)
		if c, err := Restore(name, secret, Restored{Dir: filepath.Join(dir, fmt.Sprint("of", n)), Database: "house.db"}); err != nil || c.Partial != "" || c.Last.Counts["marks"] != 200 {
			t.Errorf("killed after %d bytes: %+v %v", at-len(before), c, err)
		}
		write(closed)
		if c, err := Check(name, secret, time.Time{}); err == nil && c.Partial == "" && at > len(before) {
			t.Errorf("%d bytes that nobody wrote are passed over", at-len(before))
		}
	}
	// Killed between a new backup's first commit and its head, which is then the former one's.
	if err := f.out.Close(); err != nil {
		t.Fatal(err)
	}
	next := follow(t, h, filepath.Join(dir, "b"))
	defer next.Close()
	if err := os.WriteFile(next.head, closed, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Check(filepath.Join(dir, "b"), secret, time.Time{}); err != nil || c.Partial != "" || c.Last.Counts["marks"] != 500 {
		t.Errorf("%+v %v", c, err)
	}
}

// A new backup takes the place of one that has grown: at every step of that, which
// may be the last, what is at the path is whole.
func TestTakesThePlace(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "b")
	old := follow(t, h, path)
	h.live(20)
	if _, err := old.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := follow(t, h, path+".next")
	h.live(20)
	if _, err := old.Round(t.Context()); err != nil { // it goes on meanwhile
		t.Fatal(err)
	}
	holds := func(when string, rows int64) {
		t.Helper()
		if c, err := Check(path, secret, time.Time{}); err != nil || c.Partial != "" || c.Last.Counts["marks"] != rows {
			t.Errorf("%s: %+v %v", when, c, err)
		}
	}
	file, _ := read(t, next)
	before, _ := read(t, old)
	mark := old.whole
	mark.Next = next.id
	if err := old.mark(mark); err != nil {
		t.Fatal(err)
	}
	holds("the head speaks of the next", 240)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	holds("the next is there, and the head is of the former", 220)
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := next.Take(old); err != nil {
		t.Fatal(err)
	}
	holds("it is there", 220)
	h.live(20)
	if _, err := next.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds("it goes on", 260)
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(path + ".next*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// What speaks of rows is copied before them: a checkpoint that is written while the
// pages are read is not in that round, and a line that is moved from a log to the
// database meanwhile is in one of the two.
func TestWhatSpeaksOfRowsIsNotNewer(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "b")
	note := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Join(h.dir, "logs"), 0o700), os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	note("logs/moving", "one two")
	f := follow(t, h, path)
	defer f.Close()
	h.live(10)
	c := Commit{At: time.Now(), Counts: map[string]int64{}}
	if err := errors.Join(f.copyFiles(&c, true), f.copyPages(t.Context(), &c)); err != nil {
		t.Fatal(err)
	}
	note("logs/moving", "")
	note("logs/checkpoint", "of row 211")
	note("uploads/late", "of a row that may be there")
	if err := f.copyFiles(&c, false); err != nil {
		t.Fatal(err)
	}
	if want := "logs/moving"; !slices.Contains(c.Files, want) || slices.Contains(c.Files, "logs/checkpoint") || !slices.Contains(c.Files, "uploads/late") {
		t.Errorf("%v", c.Files)
	}
	if err := f.frame(kindCommit, mustJSON(c)); err != nil {
		t.Fatal(err)
	}
	if got, err := Latest(path, secret, "logs/moving"); err != nil || string(got) != "one two" {
		t.Errorf("%q %v", got, err)
	}
}

// What is appended to a file is written alone; a file that was written anew is
// taken for that, whatever its length.
func TestAppendedFiles(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "b")
	name := filepath.Join(h.dir, "uploads", "grows")
	random := make([]byte, 3<<20) // which nothing makes smaller
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	put := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(random)
	f := follow(t, h, path)
	defer f.Close()
	size := f.size
	texts := [][]byte{append(slices.Clone(random), "more"...), append([]byte("!"), random...), append(append([]byte("!"), random...), "and more"...), []byte("short"), nil, []byte("again")}
	for i, text := range texts {
		put(text)
		if err := os.Chtimes(name, time.Time{}, time.Unix(int64(i), 0)); err != nil { // it is told by its time too
			t.Fatal(err)
		}
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if grown := f.size - size; (i == 0 || i == 2) == (grown > 1<<20) && i < 3 {
			t.Errorf("%d: %d bytes", i, grown)
		}
		size = f.size
		if got, err := Latest(path, secret, "uploads/grows"); err != nil || string(got) != string(text) {
			t.Errorf("%d: %d bytes and not %d, %v", i, len(got), len(text), err)
		}
		into := filepath.Join(t.TempDir(), "new")
		if _, err := Restore(path, secret, Restored{Dir: into, Database: "house.db"}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(into, "uploads", "grows")); err != nil || string(got) != string(text) {
			t.Errorf("%d: %d bytes restored and not %d, %v", i, len(got), len(text), err)
		}
	}
}

// Any moment can be restored, in the file that has it: with a database as of the
// commit before; without one, what speaks of rows is of before, and what rows may
// speak of is there whenever it came.
func TestMoments(t *testing.T) {
	for _, database := range []bool{true, false} {
		h := newHouse(t)
		path := filepath.Join(t.TempDir(), "b")
		conf := h.config()
		conf.History = time.Hour
		if !database {
			conf.Database, conf.Counts = "", nil
		}
		if err := os.MkdirAll(filepath.Join(h.dir, "logs"), 0o700); err != nil {
			t.Fatal(err)
		}
		var moments []time.Time // each before round n, which has uploads/n and n in the log
		var f *Follower
		for n := range 6 {
			if n%3 == 0 { // a new file
				if f != nil {
					f.Close()
				}
				var err error
				if f, err = Create(path, conf); err != nil {
					t.Fatal(err)
				}
			}
			moments = append(moments, time.Now())
			h.live(1)
			if err := errors.Join(os.WriteFile(filepath.Join(h.dir, "uploads", fmt.Sprint(n)), []byte("x"), 0o600),
				os.WriteFile(filepath.Join(h.dir, "logs", "log"), fmt.Appendf(nil, "%d", n), 0o600)); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		defer f.Close()
		moments = append(moments, time.Now())
		for n := 1; n < len(moments); n++ {
			into := filepath.Join(t.TempDir(), "new")
			from := At(path, moments[n])
			if (from == path) != (n > 3) {
				t.Errorf("%v: moment %d is looked for in %s", database, n, from)
			}
			if n == 3 {
				continue // between the two files: which of them has it is a question of microseconds
			}
			c, err := Restore(from, secret, Restored{Dir: into, Database: "house.db", To: moments[n]})
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(200 + n); database && c.Last.Counts["marks"] != want {
				t.Errorf("moment %d: %d rows, want %d", n, c.Last.Counts["marks"], want)
			}
			log, _ := os.ReadFile(filepath.Join(into, "logs", "log"))
			_, late := os.Stat(filepath.Join(into, "uploads", fmt.Sprint(n)))
			_, early := os.Stat(filepath.Join(into, "uploads", fmt.Sprint(n-1)))
			last := n == len(moments)-1
			if string(log) != fmt.Sprint(n-1) || early != nil || (late == nil) != (!database && !last) {
				t.Errorf("%v: moment %d: the log says %q, the upload before is there: %v, that after: %v", database, n, log, early == nil, late == nil)
			}
		}
		_, err := Restore(At(path, moments[0]), secret, Restored{Dir: filepath.Join(t.TempDir(), "x"), Database: "house.db", To: moments[0]})
		if database != (err != nil && strings.Contains(err.Error(), "nothing of before")) {
			t.Error(err)
		}
	}
}

// frameEnds gives the place after each frame.
func frameEnds(t *testing.T, path string) (ends []int) {
	r, _, err := open(path, secret)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for {
		at, err := r.file.Seek(0, io.SeekCurrent)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(at)-r.in.Buffered())
		if _, _, err := r.next(); err != nil {
			return ends[:len(ends)-1]
		}
	}
}
