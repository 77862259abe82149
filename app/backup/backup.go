// Package backup keeps copies of an installation: the pages of the embedded
// database, where it is that, and the files, sealed, in one file that only grows,
// so that a running installation can be followed within seconds and any of its
// moments restored. Callers need not know how it is laid out:
//
//	magic, sealed data key
//	frame 0: header
//	frames:  pages that changed, files that changed     ─┐ again and again,
//	frame:   commit: what there is now, and its counts  ─┘ one commit a round
//
// A frame is its length and AES-GCM over its text, under a key of this file
// alone, with the frame's number as nonce: no frame can be changed, left out,
// repeated or moved. The small file beside it (NAME.head) says which file it
// belongs to, how many frames that has, and whether more were being written: what
// ends before them is partial, and what has more than a round that was cut off
// has something that nobody wrote. Both are refused and the reason said.
//
// The pages are read in one read transaction of the database, which disturbs no
// writer (SQLite's dbpage): at first all, then those that the database's log has
// since (wal.go). Files that rows speak of are read before and after
// them: none is missing. Files that speak of rows are read before them alone: a
// checkpoint of the audit record is not newer than the record, and a line of a
// log that is on its way to the database is in the one or the other.
package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	_ "modernc.org/sqlite" // the driver

	"github.com/chainreactions/chainreactions/domain/seal"
)

// Config says what is kept and under which key.
type Config struct {
	Database  string   // the SQLite file; "" keeps the files alone
	Dir       string   // the folder of the installation
	Trees     []string // files and folders in it that rows speak of, or that nothing depends on
	Before    []string // those that speak of rows
	SecretKey []byte
	Counts    []string      // tables whose rows are counted in every commit
	History   time.Duration // for how long files that were followed by a new one are kept beside it; 0 is not at all
}

// Commit is one state that can be restored.
type Commit struct {
	At     time.Time        `json:"at"`   // what was there then is in it
	Done   time.Time        `json:"done"` // nothing that came after is
	Pages  int64            `json:"pages"`
	Files  []string         `json:"files"`
	Counts map[string]int64 `json:"counts"`
}

const (
	magic    = "CRBACKUP1\n"
	purpose  = "backup"
	mostText = 4 << 20 // of one frame
	piece    = 1 << 20 // of a file
	group    = 256     // pages of one frame at most
)

// The kinds of frames.
const (
	kindHeader = 'H'
	kindPages  = 'P'
	kindFile   = 'F' // a piece of a file; the first makes it anew
	kindGone   = 'D'
	kindCommit = 'C'
)

type header struct {
	ID       string    `json:"id"`
	Began    time.Time `json:"began"`
	PageSize int       `json:"page_size"` // 0: there is no database in it
	Before   []string  `json:"before"`
}

// Follower writes a backup and goes on with it.
type Follower struct {
	Config
	out    *os.File
	head   string
	box    seal.Box
	aead   cipher.AEAD
	number uint64
	size   int64
	counts map[string]int64
	pages  [][16]byte // hashes of the pages that are in the file
	held   *sql.Tx    // keeps the database's log from beginning anew between two rounds
	seen   walMark    // how far that log surely is in the file
	end    walMark    // where the log ended at the last round
	still  bool       // as it had at the one before
	bytes  int        // of a page
	files  map[string]fileMark
	db     *sql.DB
	zip    *zstd.Encoder
	id     string
	began  bool
	open   bool  // the head says that a round is being written
	base   int64 // size after the first commit
	whole  headMark
	failed error // of a round: what it wrote is not known
}

type fileMark struct {
	size int64
	at   time.Time
	sum  [32]byte
}

// Create begins a backup at path, which becomes visible under its name at its
// first commit.
func Create(path string, c Config) (*Follower, error) {
	f := &Follower{Config: c, head: path + ".head", box: seal.New(c.SecretKey, purpose), files: map[string]fileMark{}}
	var err error
	if f.zip, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	if f.db, err = sql.Open("sqlite", "file:"+c.Database+"?mode=ro&_pragma=busy_timeout(10000)&_pragma=query_only(1)"); err != nil {
		return nil, err
	}
	f.db.SetMaxOpenConns(2) // nothing is opened before it is asked
	if f.out, err = os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return nil, errors.Join(err, f.db.Close())
	}
	if err := f.begin(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// begin writes the key and the header.
func (f *Follower) begin() error {
	var key [32]byte
	_, _ = rand.Read(key[:])
	f.aead = gcm(key[:])
	sealed := f.box.Seal("data key", key[:])
	if _, err := fmt.Fprintf(f.out, "%s%s\n", magic, sealed); err != nil {
		return err
	}
	h := header{ID: rand.Text(), Began: time.Now().UTC(), Before: f.Before}
	f.id = h.ID
	if f.Database != "" {
		if err := f.db.QueryRow("PRAGMA page_size").Scan(&h.PageSize); err != nil {
			return fmt.Errorf("the database cannot be read: %w", err)
		}
		f.bytes = h.PageSize
	}
	return f.frame(kindHeader, mustJSON(h))
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // a key of another length is our own mistake
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func nonce(number uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), number) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of ours
	}
	return b
}

// frame writes one.
func (f *Follower) frame(kind byte, text []byte) error {
	packed := f.zip.EncodeAll(text, []byte{kind})
	sealed := f.aead.Seal(nil, nonce(f.number), packed, nil)
	if f.began && !f.open {
		f.open = true
		mark := f.whole
		mark.Open = true
		if err := f.mark(mark); err != nil {
			return err
		}
	}
	f.number++
	f.size += int64(len(sealed)) + 4
	if _, err := f.out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(sealed)))); err != nil {
		return err
	}
	_, err := f.out.Write(sealed)
	return err
}

// Round writes what changed since the last one, and says what there is now.
// Where nothing changed nothing is written. After a round that failed there is
// no other: a frame may be half written, and pages believed to be.
func (f *Follower) Round(ctx context.Context) (c Commit, err error) {
	if f.failed != nil {
		return c, f.failed
	}
	defer func() { f.failed = err }()
	before := f.number
	c = Commit{At: time.Now().UTC(), Counts: map[string]int64{}}
	if err := f.copyFiles(&c, true); err != nil {
		return c, err
	}
	if f.Database != "" {
		if err := f.copyPages(ctx, &c); err != nil {
			return c, err
		}
	}
	if err := f.copyFiles(&c, false); err != nil {
		return c, err
	}
	mark := headMark{ID: f.id, Frames: f.number, At: c.At}
	if f.began && f.number == before {
		return c, f.mark(mark)
	}
	c.Done = time.Now().UTC()
	if err := f.frame(kindCommit, mustJSON(c)); err != nil {
		return c, err
	}
	if err := f.out.Sync(); err != nil {
		return c, err
	}
	if !f.began {
		f.began, f.base = true, f.size
		name := strings.TrimSuffix(f.out.Name(), ".part")
		if err := f.setAside(name); err != nil {
			return c, err
		}
		if err := os.Rename(f.out.Name(), name); err != nil {
			return c, err
		}
	}
	mark.Frames, f.open = f.number, false
	return c, f.mark(mark)
}

// Take puts this backup, which has its first commit, in the place of an older one,
// which ends with that. Whatever is killed in between, one of the two is there and whole.
func (f *Follower) Take(old *Follower) error {
	path := strings.TrimSuffix(old.head, ".head")
	mark := old.whole
	mark.Next = f.id
	if err := old.mark(mark); err != nil {
		return err
	}
	f.History = old.History
	if err := f.setAside(path); err != nil {
		return err
	}
	beside := f.head
	if err := os.Rename(strings.TrimSuffix(beside, ".head"), path); err != nil {
		return err
	}
	f.head = old.head
	return errors.Join(f.mark(f.whole), os.Remove(beside), old.Close())
}

// setAside keeps the file whose place is taken for those who restore a moment
// that it has, and forgets those that are too old for that.
func (f *Follower) setAside(name string) error {
	if f.History == 0 {
		return nil
	}
	now := time.Now().UTC()
	aside := name + asideMark + now.Format(asideTime)
	for _, end := range []string{"", ".head"} { // the place itself is never empty
		if err := os.Link(name+end, aside+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, old := range asides(name) {
		if now.Sub(old.until) > f.History {
			if err := errors.Join(os.Remove(old.path), os.RemoveAll(old.path+".head")); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	asideMark = ".until-"
	asideTime = "20060102T150405.000Z"
)

// kept is a file that was followed by a new one.
type kept struct {
	path  string
	until time.Time
}

// asides gives them, the oldest first.
func asides(name string) (out []kept) {
	found, _ := filepath.Glob(name + asideMark + "*") // the pattern is whole: that is its only error
	for _, path := range found {
		if until, err := time.Parse(asideTime, strings.TrimPrefix(path, name+asideMark)); err == nil {
			out = append(out, kept{path, until})
		}
	}
	slices.SortFunc(out, func(a, b kept) int { return a.until.Compare(b.until) })
	return out
}

// headMark is what the file beside a backup says of it: how many frames there
// must at least be, and until when it is known to be whole.
type headMark struct {
	ID     string    `json:"id"`
	Frames uint64    `json:"frames"`
	At     time.Time `json:"at"`
	Open   bool      `json:"open,omitempty"` // more are being written, and are not known to be whole
	Next   string    `json:"next,omitempty"` // of the file that takes its place
}

func (f *Follower) mark(m headMark) error {
	f.whole = m
	out, err := os.OpenFile(f.head+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.WriteString(f.box.Seal("head", mustJSON(m)))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(f.head+".part", f.head)
}

func readHead(path string, secret []byte) (m headMark, err error) {
	raw, err := os.ReadFile(path + ".head")
	if err != nil {
		return m, err
	}
	text, err := seal.New(secret, purpose).Open("head", string(raw))
	if err != nil || json.Unmarshal(text, &m) != nil {
		return m, fmt.Errorf("%s.head is corrupt, or was made under another SECRET_KEY", path)
	}
	return m, nil
}

// Spent reports whether a new backup is to be begun in the place of this one: the
// file has grown to several times its first size.
func (f *Follower) Spent() bool { return f.size > 4*f.base+64<<20 }

// Close lets go. What was committed stays.
func (f *Follower) Close() error {
	f.letGo()
	err := errors.Join(f.out.Close(), f.db.Close())
	f.zip.Close()
	if !f.began {
		err = errors.Join(err, os.Remove(f.out.Name()))
	}
	return err
}

// copyPages writes the pages that differ from those written before.
func (f *Follower) copyPages(ctx context.Context, c *Commit) (err error) {
	_, sure, before, _, err := walSince(f.Database, f.bytes, f.seen) // before the transaction begins: it sees as far as that
	if err != nil {
		return err
	}
	still := f.began && before != walMark{} && before == f.end
	if still && f.still { // as at the last round, which saw all of it
		c.Pages, c.Counts = int64(len(f.pages)), f.counts
		return nil
	}
	tx, err := f.db.BeginTx(context.WithoutCancel(ctx), &sql.TxOptions{ReadOnly: true}) // it outlives the round
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	if err := tx.QueryRow("PRAGMA page_count").Scan(&c.Pages); err != nil { // it begins
		return err
	}
	changed, _, end, known, err := walSince(f.Database, f.bytes, f.seen)
	if err != nil {
		return err
	}
	known = known && f.began && sure.salt == f.seen.salt
	for _, table := range f.Counts {
		var n int64
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			return fmt.Errorf("count %s: %w", table, err)
		}
		c.Counts[table] = n
	}
	if f.pages = f.pages[:min(len(f.pages), int(c.Pages))]; len(f.pages) < int(c.Pages) {
		f.pages = append(f.pages, make([][16]byte, int(c.Pages)-len(f.pages))...)
	}
	w := pageWriter{f: f}
	if known {
		slices.Sort(changed)
		err = w.some(ctx, tx, slices.Compact(changed))
	} else {
		err = w.all(ctx, tx)
	}
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	f.counts, f.seen, f.end, f.still = c.Counts, sure, end, still
	f.letGo()
	// The log grows meanwhile: now and then it may begin anew, at the price of a round that reads all.
	if end.at > max(64<<20, c.Pages*int64(f.bytes)/2) {
		return tx.Rollback()
	}
	f.held = tx
	return nil
}

func (f *Follower) letGo() {
	if f.held != nil {
		_ = f.held.Rollback() // it only read
		f.held = nil
	}
}

// pageWriter gathers pages into frames.
type pageWriter struct {
	f    *Follower
	text bytes.Buffer
	n    int
}

func (w *pageWriter) all(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT pgno, data FROM sqlite_dbpage")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var number uint32
		var data sql.RawBytes
		if err := rows.Scan(&number, &data); err != nil {
			return err
		}
		if err := w.add(number, data); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (w *pageWriter) some(ctx context.Context, tx *sql.Tx, numbers []uint32) error {
	one, err := tx.PrepareContext(ctx, "SELECT data FROM sqlite_dbpage WHERE pgno = ?")
	if err != nil {
		return err
	}
	defer one.Close()
	for _, number := range numbers {
		if int(number) > len(w.f.pages) {
			continue // of a transaction that came after, or that was cut off again
		}
		var data []byte
		if err := one.QueryRowContext(ctx, number).Scan(&data); err != nil {
			return err
		}
		if err := w.add(number, data); err != nil {
			return err
		}
	}
	return nil
}

func (w *pageWriter) add(number uint32, data []byte) error {
	sum := sha256.Sum256(data)
	if w.f.pages[number-1] == [16]byte(sum[:16]) {
		return nil
	}
	w.f.pages[number-1] = [16]byte(sum[:16])
	_ = binary.Write(&w.text, binary.BigEndian, number)
	w.text.Write(data)
	if w.n++; w.n < group {
		return nil
	}
	return w.flush()
}

func (w *pageWriter) flush() error {
	if w.n == 0 {
		return nil
	}
	err := w.f.frame(kindPages, w.text.Bytes())
	w.text.Reset()
	w.n = 0
	return err
}

// copyFiles writes the files that are new or changed. Before the pages are read
// it looks at all, and forgets those that are gone; after, at those again that
// rows may speak of, and then lists what there is.
func (f *Follower) copyFiles(c *Commit, first bool) error {
	trees := f.Trees
	if first {
		trees = slices.Concat(f.Before, f.Trees)
	}
	there := map[string]bool{}
	for _, tree := range trees {
		err := filepath.WalkDir(filepath.Join(f.Dir, tree), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // there is none yet, or it went while we looked
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(f.Dir, path)
			if err != nil {
				return err
			}
			there[name] = true
			return f.copyFile(name)
		})
		if err != nil {
			return err
		}
	}
	if first {
		for name := range f.files {
			if !there[name] {
				delete(f.files, name)
				if err := f.frame(kindGone, []byte(name)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	c.Files = slices.Sorted(maps.Keys(f.files))
	return nil
}

// copyFile writes a file, or what was appended to it.
func (f *Follower) copyFile(name string) error {
	in, err := os.Open(filepath.Join(f.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	mark, known := f.files[name]
	if known && mark.size == info.Size() && mark.at.Equal(info.ModTime()) {
		return nil
	}
	sum := sha256.New()
	now := fileMark{at: info.ModTime()}
	if known && mark.size > 0 && mark.size < info.Size() {
		if _, err := io.CopyN(sum, in, mark.size); err != nil && err != io.EOF {
			return err
		}
		if now.size = mark.size; [32]byte(sum.Sum(nil)) != mark.sum { // it was written anew
			sum.Reset()
			now.size = 0
			if _, err := in.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
	}
	buffer := make([]byte, piece)
	for {
		n, err := io.ReadFull(in, buffer)
		if n > 0 || now.size == 0 {
			text := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
			text = append(text, name...)
			text = binary.BigEndian.AppendUint64(text, uint64(now.size))
			if err := f.frame(kindFile, append(text, buffer[:n]...)); err != nil {
				return err
			}
			now.size += int64(n)
			sum.Write(buffer[:n])
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			now.sum = [32]byte(sum.Sum(nil))
			f.files[name] = now
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// reader reads frames.
type reader struct {
	in     *bufio.Reader
	file   *os.File
	aead   cipher.AEAD
	zip    *zstd.Decoder
	number uint64
}

func open(path string, secret []byte) (*reader, header, error) {
	var h header
	file, err := os.Open(path)
	if err != nil {
		return nil, h, err
	}
	r := &reader{in: bufio.NewReaderSize(file, 1<<20), file: file}
	fail := func(reason string) (*reader, header, error) {
		file.Close()
		return nil, h, errors.New(reason)
	}
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(r.in, start); err != nil || string(start) != magic {
		return fail("this is not a backup of ChainReactions")
	}
	sealed, err := r.in.ReadString('\n')
	if err != nil || len(sealed) > 1000 {
		return fail("the backup is corrupt: its key is not whole")
	}
	key, err := seal.New(secret, purpose).Open("data key", strings.TrimSuffix(sealed, "\n"))
	if err != nil {
		return fail("the backup is corrupt, or was made under another SECRET_KEY")
	}
	r.aead = gcm(key)
	if r.zip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*mostText)); err != nil {
		return fail(err.Error())
	}
	kind, text, err := r.next()
	if err != nil || kind != kindHeader || json.Unmarshal(text, &h) != nil {
		return fail("the backup is corrupt: its header cannot be read")
	}
	return r, h, nil
}

func (r *reader) close() { r.file.Close(); r.zip.Close() }

var errCut = errors.New("ends in the middle of a frame")

// next gives a frame, or io.EOF where the file ends between two.
func (r *reader) next() (kind byte, text []byte, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r.in, size[:]); err == io.EOF {
		return 0, nil, io.EOF
	} else if err != nil {
		return 0, nil, errCut
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > mostText {
		return 0, nil, fmt.Errorf("frame %d has no size that a frame can have", r.number)
	}
	sealed := make([]byte, n)
	if _, err := io.ReadFull(r.in, sealed); err != nil {
		return 0, nil, errCut
	}
	packed, err := r.aead.Open(nil, nonce(r.number), sealed, nil)
	if err != nil || len(packed) == 0 {
		return 0, nil, fmt.Errorf("frame %d was changed, or is not where it was written", r.number)
	}
	r.number++
	text, err = r.zip.DecodeAll(packed[1:], nil)
	return packed[0], text, err
}

// Checked is what is known of a backup without restoring it.
type Checked struct {
	Last    Commit // of those that were asked for
	Commits int
	Partial string // why it is not whole; "" is whole
	frames  uint64 // up to Last
	files   uint64 // up to the commit whose files rows of Last may speak of
}

// Check reads a whole backup. What was changed is an error; what only ends too
// early is Partial. Last is its last commit that has nothing of after to, where
// that is not zero. A backup without a database has its first commit for all that
// was before: a database that rests says that its last moment is long ago.
func Check(path string, secret []byte, to time.Time) (c Checked, err error) {
	r, h, err := open(path, secret)
	if err != nil {
		return c, err
	}
	defer r.close()
	head, headErr := readHead(path, secret)
	if headErr != nil && !errors.Is(headErr, fs.ErrNotExist) {
		return c, headErr
	}
	committed, all, reached := uint64(0), 0, false
	for {
		kind, text, err := r.next()
		if err == io.EOF || errors.Is(err, errCut) {
			switch cut := err != io.EOF; {
			case !cut && committed == r.number: // nothing is missing
			case head.Open && head.ID == h.ID && committed >= head.Frames:
				// Whoever wrote it ended in the middle of a round, of which nothing was promised.
			case cut:
				c.Partial = "the backup " + errCut.Error()
			default:
				c.Partial = "the backup ends before its commit"
			}
			break
		}
		if err != nil {
			return c, fmt.Errorf("the backup is corrupt: %w", err)
		}
		if kind != kindCommit {
			continue
		}
		var one Commit
		if err := json.Unmarshal(text, &one); err != nil {
			return c, fmt.Errorf("the backup is corrupt: %w", err)
		}
		committed = r.number
		all++
		if to.IsZero() || !one.Done.After(to) || h.PageSize == 0 && all == 1 {
			c.Last, c.frames, c.files = one, r.number, r.number
			c.Commits++
		} else if !reached { // what was there at that moment is in the first commit that began after it
			c.files, reached = r.number, one.At.After(to)
		}
	}
	switch {
	case all == 0:
		return c, errors.New("the backup has no commit: it was never whole")
	case c.Commits == 0:
		return c, fmt.Errorf("the backup has nothing of before %s: it begins at %s", to.Format(time.RFC3339), h.Began.Format(time.RFC3339))
	case c.Partial != "":
	case headErr != nil:
		c.Partial = fmt.Sprintf("whether the backup ends too early is not known without %s.head", path)
	case head.ID == h.ID && head.Frames > committed:
		c.Partial = fmt.Sprintf("the backup has %d whole frames and had %d", committed, head.Frames)
	case head.ID != h.ID && (all > 1 || head.Next != h.ID && h.Began.Before(head.At)): // else whoever wrote it ended before it could say so
		return c, fmt.Errorf("%s.head belongs to another backup, of %s", path, head.At.Format(time.RFC3339))
	}
	return c, nil
}

// WholeUntil is when the backup was last known to hold everything.
func WholeUntil(path string, secret []byte) (time.Time, error) {
	head, err := readHead(path, secret)
	return head.At, err
}

// At gives the path of the backup that has a moment: of the one at path and
// those that are kept beside it.
func At(path string, to time.Time) string {
	for _, old := range asides(path) {
		if !to.IsZero() && to.Before(old.until) {
			return old.path
		}
	}
	return path
}

// Latest is a file as a backup has it last, or nil.
func Latest(path string, secret []byte, name string) ([]byte, error) {
	r, _, err := open(path, secret)
	if err != nil {
		return nil, err
	}
	defer r.close()
	var text, committed []byte
	for {
		kind, frame, err := r.next()
		switch {
		case err == io.EOF || errors.Is(err, errCut):
			return committed, nil
		case err != nil:
			return nil, fmt.Errorf("the backup is corrupt: %w", err)
		case kind == kindCommit:
			committed = slices.Clone(text)
		case kind == kindGone && string(frame) == name:
			text = nil
		case kind == kindFile:
			if of, at, piece := filePiece(frame); of == name {
				text = append(text[:min(at, int64(len(text)))], piece...)
			}
		}
	}
}

// Restored says what is to be restored, and where to.
type Restored struct {
	Dir      string    // which must be empty or not be there
	Database string    // the name of the database in it
	To       time.Time // as of when; zero is the last commit
	Partial  bool      // take the last commit of a backup that ends too early, which is refused else
}

// Restore makes the database file and the files of a commit. Where there is no
// database in the backup, but one that is restored to a moment by other means, files
// that its rows may speak of are there too if they came after the commit.
func Restore(path string, secret []byte, into Restored) (Checked, error) {
	c, err := Check(path, secret, into.To)
	if err != nil {
		return c, err
	}
	if c.Partial != "" && !into.Partial {
		return c, fmt.Errorf("%s; its last commit is of %s", c.Partial, c.Last.At.Format(time.RFC3339))
	}
	if list, err := os.ReadDir(into.Dir); err == nil && len(list) > 0 {
		return c, fmt.Errorf("%s is not empty", into.Dir)
	}
	if err := os.MkdirAll(into.Dir, 0o700); err != nil {
		return c, err
	}
	r, h, err := open(path, secret)
	if err != nil {
		return c, err
	}
	defer r.close()
	var db *os.File
	if h.PageSize > 0 {
		if db, err = os.OpenFile(filepath.Join(into.Dir, into.Database), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
			return c, err
		}
		defer db.Close()
		c.files = c.frames
	}
	for r.number < c.files {
		late := r.number >= c.frames
		kind, text, err := r.next()
		if err == nil && (!late || kind == kindFile && mayBeLate(text, c.Last.Files, h.Before)) {
			err = apply(kind, text, db, into.Dir, h.PageSize)
		}
		if err != nil {
			return c, err
		}
	}
	if db != nil {
		if err := db.Truncate(c.Last.Pages * int64(h.PageSize)); err != nil {
			return c, err
		}
		if err := db.Sync(); err != nil {
			return c, err
		}
		if err := whole(filepath.Join(into.Dir, into.Database), c.Last.Counts); err != nil {
			return c, err
		}
	}
	for _, name := range c.Last.Files {
		if _, err := os.Stat(filepath.Join(into.Dir, name)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// mayBeLate reports whether a file that came after the commit may be one that rows of
// the moment speak of: it is not one of the commit, nor one that speaks of rows.
func mayBeLate(text []byte, there, before []string) bool {
	name, _, _ := filePiece(text)
	_, known := slices.BinarySearch(there, name)
	return !known && !slices.ContainsFunc(before, func(tree string) bool {
		return name == tree || strings.HasPrefix(name, tree+string(filepath.Separator))
	})
}

// filePiece reads the text of a file's frame: its name, and the piece of it that
// begins at a place.
func filePiece(text []byte) (name string, at int64, piece []byte) {
	n := 2 + int(binary.BigEndian.Uint16(text))
	return string(text[2:n]), int64(binary.BigEndian.Uint64(text[n:])), text[n+8:]
}

func apply(kind byte, text []byte, db *os.File, dir string, pageSize int) error {
	place := func(name string) (string, error) {
		if !filepath.IsLocal(name) {
			return "", fmt.Errorf("a file of the backup would be outside: %q", name)
		}
		return filepath.Join(dir, name), nil
	}
	switch kind {
	case kindPages:
		for ; len(text) >= 4+pageSize; text = text[4+pageSize:] {
			if _, err := db.WriteAt(text[4:4+pageSize], int64(binary.BigEndian.Uint32(text)-1)*int64(pageSize)); err != nil {
				return err
			}
		}
	case kindFile:
		name, at, piece := filePiece(text)
		path, err := place(name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		flags := os.O_CREATE | os.O_WRONLY
		if at == 0 {
			flags |= os.O_TRUNC
		}
		out, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return err
		}
		_, err = out.WriteAt(piece, at)
		return errors.Join(err, out.Close())
	case kindGone:
		path, err := place(string(text))
		if err != nil {
			return err
		}
		return os.Remove(path)
	}
	return nil
}

// whole asks a restored database whether it is, and counts.
func whole(path string, counts map[string]int64) error {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return err
	}
	defer db.Close()
	var says string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&says); err != nil || says != "ok" {
		return fmt.Errorf("the restored database is not whole: %s %v", says, err)
	}
	for table, want := range counts {
		var got int64
		if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&got); err != nil || got != want {
			return fmt.Errorf("%s has %d rows and had %d (%v)", table, got, want, err)
		}
	}
	return nil
}
