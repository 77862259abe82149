package backup

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
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
	return Config{Database: filepath.Join(h.dir, "house.db"), Dir: h.dir, Trees: []string{"uploads", "nothing"}, SecretKey: secret, Counts: []string{"marks"}}
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
	got, err := Restore(path, secret, into, "house.db", false)
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
	if _, err := Restore(path, secret, into, "house.db", false); err == nil {
		t.Error("a folder with something in it is written over")
	}
	if _, err := Restore(path, []byte("another secret key of 32 letters!"), filepath.Join(t.TempDir(), "x"), "house.db", false); err == nil {
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
	if _, err := f.Round(t.Context()); err == nil || !f.Spent() {
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
	if c, err := Check(path, secret); err != nil || c.Partial != "" || c.Last.Counts["marks"] != 200 {
		t.Errorf("what was committed before: %+v %v", c, err)
	}
	if err := follow(t, h, path).Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := Restore(path, secret, filepath.Join(t.TempDir(), "new"), "house.db", false); err != nil || c.Last.Counts["marks"] != 500 {
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
	path := filepath.Join(dir, "b")
	f := follow(t, h, path)
	for range 3 {
		h.live(20)
		if _, err := f.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, err := os.ReadFile(path + ".head")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Check(path, secret); err != nil || c.Partial != "" || c.Commits != 4 {
		t.Fatalf("%+v %v", c, err)
	}
	ends := frameEnds(t, path)
	found := 0
	for i := range 100 {
		bad := append([]byte{}, whole...)
		beside := head
		what := ""
		switch i % 8 {
		case 0, 1:
			at := rnd.IntN(len(bad))
			bad[at] ^= byte(1 << rnd.IntN(8))
			what = fmt.Sprintf("one bit at %d", at)
		case 2:
			at := rnd.IntN(len(bad))
			what = fmt.Sprintf("cut at %d", at)
			bad = bad[:at]
		case 3: // a frame left out
			k := 1 + rnd.IntN(len(ends)-1)
			bad = append(append([]byte{}, whole[:ends[k-1]]...), whole[ends[k]:]...)
			what = fmt.Sprintf("frame %d left out", k)
		case 4: // a frame twice
			k := 1 + rnd.IntN(len(ends)-1)
			bad = append(append(append([]byte{}, whole[:ends[k]]...), whole[ends[k-1]:ends[k]]...), whole[ends[k]:]...)
			what = fmt.Sprintf("frame %d twice", k)
		case 5: // zeros over a part, as a lost block has them
			at := rnd.IntN(len(bad))
			clear(bad[at:min(len(bad), at+512)])
			what = fmt.Sprintf("512 zeros at %d", at)
		case 6: // cut where a frame ends, perhaps at an older commit
			k := rnd.IntN(len(ends) - 1)
			bad = bad[:ends[k]]
			what = fmt.Sprintf("cut after frame %d of %d", k, len(ends))
		case 7:
			extra := make([]byte, 1+rnd.IntN(5000))
			for j := range extra {
				extra[j] = byte(rnd.UintN(256))
			}
			bad = append(bad, extra...)
			what = fmt.Sprintf("%d bytes more", len(extra))
		}
		if string(bad) == string(whole) {
			found++ // zeros over zeros
			continue
		}
		name := filepath.Join(dir, fmt.Sprintf("bad%d", i))
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name+".head", beside, 0o600); err != nil {
			t.Fatal(err)
		}
		into := filepath.Join(dir, fmt.Sprintf("into%d", i))
		if _, err := Restore(name, secret, into, "house.db", false); err == nil || err.Error() == "" {
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
	// What ends too early still has its last commit, for who asks for it.
	name := filepath.Join(dir, "tail")
	if err := os.WriteFile(name, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Restore(name, secret, filepath.Join(dir, "of-tail"), "house.db", true); err != nil || c.Commits != 3 || c.Partial == "" {
		t.Errorf("%+v %v", c, err)
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
