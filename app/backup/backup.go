// Package backup keeps copies of an installation on the embedded database: its
// pages and its files, sealed, in one file that only grows, so that a running
// installation can be followed within seconds. Callers need not know how it is
// laid out:
//
//	magic, sealed data key
//	frame 0: header
//	frames:  pages that changed, files that changed     ─┐ again and again,
//	frame:   commit: what there is now, and its counts  ─┘ one commit a round
//
// A frame is its length and AES-GCM over its text, under a key of this file
// alone, with the frame's number as nonce: no frame can be changed, left out,
// repeated or moved. What ends after its last commit, or before the commit that
// the small file beside it (NAME.head) speaks of, is partial: it is refused and
// the reason said.
//
// The pages are read in one read transaction of the database, which disturbs no
// writer (SQLite's dbpage). Files are read before and after them: none that a
// row speaks of is missing.
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
	Database  string   // the SQLite file
	Dir       string   // the folder of the installation
	Trees     []string // files and folders in it that are kept, beside the database
	SecretKey []byte
	Counts    []string // tables whose rows are counted in every commit
}

// Commit is one state that can be restored.
type Commit struct {
	At     time.Time        `json:"at"`
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
	PageSize int       `json:"page_size"`
}

// Follower writes a backup and goes on with it.
type Follower struct {
	Config
	out     *os.File
	head    string
	box     seal.Box
	aead    cipher.AEAD
	number  uint64
	size    int64
	version int64
	counts  map[string]int64
	pages   [][16]byte // hashes of the pages that are in the file
	files   map[string]fileMark
	db      *sql.DB
	zip     *zstd.Encoder
	began   bool
	base    int64 // size after the first commit
	failed  error // of a round: what it wrote is not known
}

type fileMark struct {
	size int64
	at   time.Time
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
	f.db.SetMaxOpenConns(1)
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
	h := header{ID: rand.Text(), Began: time.Now().UTC()}
	if err := f.db.QueryRow("PRAGMA page_size").Scan(&h.PageSize); err != nil {
		return fmt.Errorf("the database cannot be read: %w", err)
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
	if err := f.copyFiles(nil); err != nil {
		return c, err
	}
	if err := f.copyPages(ctx, &c); err != nil {
		return c, err
	}
	if err := f.copyFiles(&c.Files); err != nil {
		return c, err
	}
	if f.number == before {
		return c, f.touch(c.At)
	}
	if err := f.frame(kindCommit, mustJSON(c)); err != nil {
		return c, err
	}
	if err := f.out.Sync(); err != nil {
		return c, err
	}
	if !f.began {
		f.began, f.base = true, f.size
		if err := os.Rename(f.out.Name(), strings.TrimSuffix(f.out.Name(), ".part")); err != nil {
			return c, err
		}
	}
	return c, f.touch(c.At)
}

// headMark is what the file beside a backup says of it: how many frames there
// must at least be, and until when it is known to be whole.
type headMark struct {
	Frames uint64    `json:"frames"`
	At     time.Time `json:"at"`
}

func (f *Follower) touch(at time.Time) error {
	text := f.box.Seal("head", mustJSON(headMark{f.number, at}))
	if err := os.WriteFile(f.head+".part", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(f.head+".part", f.head)
}

// Spent reports whether a new backup is to be begun in the place of this one: a
// round failed, or the file has grown to several times its first size.
func (f *Follower) Spent() bool { return f.failed != nil || f.size > 4*f.base+64<<20 }

// Close lets go. What was committed stays.
func (f *Follower) Close() error {
	err := errors.Join(f.out.Close(), f.db.Close())
	f.zip.Close()
	if !f.began {
		err = errors.Join(err, os.Remove(f.out.Name()))
	}
	return err
}

// copyPages writes the pages that differ from those written before.
func (f *Follower) copyPages(ctx context.Context, c *Commit) error {
	var version int64 // changes when another connection commits
	if err := f.db.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		return err
	}
	if f.began && version == f.version {
		c.Pages, c.Counts = int64(len(f.pages)), f.counts
		return nil
	}
	tx, err := f.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, table := range f.Counts {
		var n int64
		if err := tx.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
			return fmt.Errorf("count %s: %w", table, err)
		}
		c.Counts[table] = n
	}
	rows, err := tx.QueryContext(ctx, "SELECT pgno, data FROM sqlite_dbpage")
	if err != nil {
		return err
	}
	defer rows.Close()
	var buffered bytes.Buffer
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		err := f.frame(kindPages, buffered.Bytes())
		buffered.Reset()
		n = 0
		return err
	}
	last := int64(0)
	for rows.Next() {
		var number int64
		var data sql.RawBytes
		if err := rows.Scan(&number, &data); err != nil {
			return err
		}
		last = max(last, number)
		sum := sha256.Sum256(data)
		for int64(len(f.pages)) < number {
			f.pages = append(f.pages, [16]byte{})
		}
		if f.pages[number-1] == [16]byte(sum[:16]) {
			continue
		}
		f.pages[number-1] = [16]byte(sum[:16])
		_ = binary.Write(&buffered, binary.BigEndian, uint32(number))
		buffered.Write(data)
		if n++; n == group {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	f.pages = f.pages[:last]
	f.version, f.counts = version, c.Counts
	c.Pages = last
	return flush()
}

// copyFiles writes the files that are new or changed, and forgets those that are
// gone; list, where it is not nil, gets the names of all.
func (f *Follower) copyFiles(list *[]string) error {
	there := map[string]bool{}
	for _, tree := range f.Trees {
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
	if list == nil {
		return nil
	}
	for name := range f.files {
		if !there[name] {
			delete(f.files, name)
			if err := f.frame(kindGone, []byte(name)); err != nil {
				return err
			}
		}
	}
	for name := range f.files {
		*list = append(*list, name)
	}
	slices.Sort(*list)
	return nil
}

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
	if mark, ok := f.files[name]; ok && mark == (fileMark{info.Size(), info.ModTime()}) {
		return nil
	}
	buffer := make([]byte, piece)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, buffer)
		if n > 0 || at == 0 {
			text := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
			text = append(text, name...)
			text = binary.BigEndian.AppendUint64(text, uint64(at))
			if err := f.frame(kindFile, append(text, buffer[:n]...)); err != nil {
				return err
			}
			at += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			f.files[name] = fileMark{info.Size(), info.ModTime()}
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
	Last    Commit
	Commits int
	Partial string // why it is not whole; "" is whole
	frames  uint64 // up to the last commit
}

// Check reads a whole backup. What was changed is an error; what only ends too
// early is Partial.
func Check(path string, secret []byte) (c Checked, err error) {
	r, _, err := open(path, secret)
	if err != nil {
		return c, err
	}
	defer r.close()
	for {
		kind, text, err := r.next()
		if err == io.EOF || errors.Is(err, errCut) {
			if err != io.EOF {
				c.Partial = "the backup " + errCut.Error()
			} else if c.frames != r.number {
				c.Partial = "the backup ends before its commit"
			}
			break
		}
		if err != nil {
			return c, fmt.Errorf("the backup is corrupt: %w", err)
		}
		if kind == kindCommit {
			c.Last = Commit{}
			if err := json.Unmarshal(text, &c.Last); err != nil {
				return c, fmt.Errorf("the backup is corrupt: %w", err)
			}
			c.Commits++
			c.frames = r.number
		}
	}
	if c.Commits == 0 {
		return c, errors.New("the backup has no commit: it was never whole")
	}
	if raw, err := os.ReadFile(path + ".head"); err == nil {
		var head headMark
		text, err := seal.New(secret, purpose).Open("head", string(raw))
		if err != nil || json.Unmarshal(text, &head) != nil {
			return c, fmt.Errorf("%s.head is corrupt, or belongs to another backup", path)
		}
		if head.Frames > r.number && c.Partial == "" {
			c.Partial = fmt.Sprintf("the backup has %d frames and had %d", r.number, head.Frames)
		}
	}
	return c, nil
}

// WholeUntil is when the backup was last known to hold everything.
func WholeUntil(path string, secret []byte) (time.Time, error) {
	raw, err := os.ReadFile(path + ".head")
	if err != nil {
		return time.Time{}, err
	}
	var head headMark
	text, err := seal.New(secret, purpose).Open("head", string(raw))
	if err == nil {
		err = json.Unmarshal(text, &head)
	}
	return head.At, err
}

// Restore makes the database file and the files of the last commit in dir, which
// must be empty or not be there. A partial backup is refused unless partial is
// set: then its last commit is taken.
func Restore(path string, secret []byte, dir, database string, partial bool) (Checked, error) {
	c, err := Check(path, secret)
	if err != nil {
		return c, err
	}
	if c.Partial != "" && !partial {
		return c, fmt.Errorf("%s; its last commit is of %s", c.Partial, c.Last.At.Format(time.RFC3339))
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return c, fmt.Errorf("%s is not empty", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return c, err
	}
	r, h, err := open(path, secret)
	if err != nil {
		return c, err
	}
	defer r.close()
	db, err := os.OpenFile(filepath.Join(dir, database), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return c, err
	}
	defer db.Close()
	for r.number < c.frames {
		kind, text, err := r.next()
		if err == nil {
			err = apply(kind, text, db, dir, h.PageSize)
		}
		if err != nil {
			return c, err
		}
	}
	if err := db.Truncate(c.Last.Pages * int64(h.PageSize)); err != nil {
		return c, err
	}
	if err := db.Sync(); err != nil {
		return c, err
	}
	return c, c.verify(filepath.Join(dir, database), dir)
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
		n := int(binary.BigEndian.Uint16(text))
		path, err := place(string(text[2 : 2+n]))
		if err != nil {
			return err
		}
		at := int64(binary.BigEndian.Uint64(text[2+n:]))
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
		_, err = out.WriteAt(text[2+n+8:], at)
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

// verify asks the restored database whether it is whole, and counts.
func (c Checked) verify(path, dir string) error {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return err
	}
	defer db.Close()
	var says string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&says); err != nil || says != "ok" {
		return fmt.Errorf("the restored database is not whole: %s %v", says, err)
	}
	for table, want := range c.Last.Counts {
		var got int64
		if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&got); err != nil || got != want {
			return fmt.Errorf("%s has %d rows and had %d (%v)", table, got, want, err)
		}
	}
	for _, name := range c.Last.Files {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
