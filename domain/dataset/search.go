package dataset

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strings"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Search within a list finds a folded text anywhere in the names, as LIKE
// '%text%' does, which reads every row. PostgreSQL's own index for it is
// pg_trgm, which a managed database may not offer, which knows no word of two
// characters, as most Chinese ones are, and which every import would wait for.
// So a long import gets an index of ours, on either database, from a job that
// runs when its entries are seen already: they are parted into blocks of 64,
// and for each gram (three characters; two where one is beyond ASCII), hashed
// to 14 bits, a bitmap says which blocks have it. A search reads a bitmap of a
// kilobyte for each of its grams and half a million entries, and then the rows
// of the blocks that all of them name, with LIKE. At a million entries the
// index is about 30 MB.

const (
	blockEntries  = 64
	segmentBlocks = 8192 // 524,288 entries; the job holds one segment, at most 16 MB
	gramBits      = 14
	blockList     = -1
)

// grams gives the hashes of the grams of a folded text.
func grams(text string, fn func(gram int)) {
	var runes [3]rune
	n := 0
	for _, r := range text {
		runes[0], runes[1], runes[2] = runes[1], runes[2], r
		if n++; n >= 2 && (runes[1] >= utf8.RuneSelf || runes[2] >= utf8.RuneSelf) {
			fn(gramHash(runes[1:]))
		}
		if n >= 3 {
			fn(gramHash(runes[:]))
		}
	}
}

func gramHash(runes []rune) int {
	h := fnv.New32a()
	var b [12]byte
	n := 0
	for _, r := range runes {
		n += utf8.EncodeRune(b[n:], r)
	}
	_, _ = h.Write(b[:n])
	sum := h.Sum32()
	return int((sum ^ sum>>gramBits ^ sum>>(2*gramBits)) & (1<<gramBits - 1))
}

// BuildSearch is the job that indexes an import for search.
type BuildSearch struct {
	ImportID string `json:"import_id"`
}

// Kind is the queue's.
func (BuildSearch) Kind() string { return "dataset.search" }

// RunBuildSearch does a BuildSearch. It may be repeated, holds no transaction
// while it reads, and stores a thousand bitmaps at a time.
func (d *Datasets) RunBuildSearch(ctx context.Context, job BuildSearch) error {
	im, err := d.GetImport(ctx, IDRequest{job.ImportID})
	if domain.KindOf(err) == domain.NotFound || err == nil && (!im.Visible || im.Searchable) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.dropGrams(ctx, im.ID); err != nil { // of a worker that was killed
		return err
	}
	segment, count := int64(0), 0
	bitmaps := map[int][]byte{}
	var firsts []byte
	store := func() error {
		rows := [][]any{{im.ID, segment, int64(blockList), firsts}}
		for gram, bits := range bitmaps {
			rows = append(rows, []any{im.ID, segment, int64(gram), bits})
		}
		for part := range slices.Chunk(rows, 1000) {
			err := d.st.Tx(ctx, func(ctx context.Context) error {
				return d.st.Bulk(ctx, "search_grams", []string{"import_id", "segment", "gram", "bits"}, part)
			})
			if err != nil {
				return err
			}
		}
		segment, count, bitmaps, firsts = segment+1, 0, map[int][]byte{}, nil
		return nil
	}
	for after := ""; ; {
		var page []struct{ ID, Search string }
		err := d.st.Read(ctx, func(ctx context.Context) error {
			return d.st.SQL(ctx, "SELECT id, search FROM dataset_entries WHERE tenant_id = @tenant AND import_id = @import AND id > @after ORDER BY id LIMIT 5000",
				map[string]any{"import": im.ID, "after": after}).Scan(&page).Error
		})
		if err != nil {
			return err
		}
		for _, e := range page {
			after = e.ID
			block := count / blockEntries
			if count%blockEntries == 0 {
				key, _ := domain.ParseID("ent", e.ID)
				firsts = append(firsts, key[:]...)
			}
			grams(e.Search, func(gram int) {
				bits := bitmaps[gram]
				for len(bits) <= block/8 {
					bits = append(bits, 0)
				}
				bits[block/8] |= 1 << (block % 8)
				bitmaps[gram] = bits
			})
			if count++; count == segmentBlocks*blockEntries {
				if err := store(); err != nil {
					return err
				}
			}
		}
		if len(page) < 5000 {
			break
		}
	}
	if count > 0 {
		if err := store(); err != nil {
			return err
		}
	}
	return d.st.Tx(ctx, func(ctx context.Context) error {
		n, err := d.st.Exec(ctx, "UPDATE dataset_imports SET searchable = @yes WHERE tenant_id = @tenant AND id = @id AND visible = @yes", map[string]any{"id": im.ID, "yes": true})
		if err == nil && n == 0 { // replaced or deleted meanwhile
			err = d.dropGrams(ctx, im.ID)
		}
		return err
	})
}

func (d *Datasets) dropGrams(ctx context.Context, importID string) error {
	return d.st.Tx(ctx, func(ctx context.Context) error {
		_, err := d.st.Exec(ctx, "DELETE FROM search_grams WHERE tenant_id = @tenant AND import_id = @import", map[string]any{"import": importID})
		return err
	})
}

type searchGram struct {
	store.Owned
	ImportID string
	Segment  int64
	Gram     int64
	Bits     []byte
}

func (searchGram) TableName() string { return "search_grams" }

// wanted is what a search looks for; find gives the entries that have it, in
// the order of their imports and ids, from the place of the cursor on.
type wanted struct {
	q, country string // folded; a code
	after      string // import/entry
	limit      int
}

func (w *wanted) filter(db *gorm.DB) *gorm.DB {
	if w.q != "" {
		db = db.Where(`search LIKE ? ESCAPE '\'`, domain.LikePart(w.q))
	}
	if w.country != "" {
		db = db.Where("country_key LIKE ?", "%|"+w.country+"|%")
	}
	return db
}

// find runs in the caller's Read.
func (d *Datasets) find(ctx context.Context, dataset string, w wanted) (found []Entry, err error) {
	var imports []Import
	err = d.st.For(ctx).Select("id", "searchable").Where("dataset_id = ? AND visible = ?", dataset, true).Order("id").Find(&imports).Error
	if err != nil {
		return nil, err
	}
	from, after, _ := strings.Cut(w.after, "/")
	var ask []int
	grams(w.q, func(gram int) { ask = append(ask, gram) })
	slices.Sort(ask)
	ask = slices.Compact(ask)
	for len(imports) > 0 && len(found) < w.limit {
		if imports[0].ID < from {
			imports = imports[1:]
			continue
		}
		if imports[0].ID != from {
			after = ""
		}
		var part []Entry
		if imports[0].Searchable && len(ask) > 0 {
			part, err = d.findIndexed(ctx, imports[0].ID, ask, after, w.limit-len(found), &w)
			imports = imports[1:]
		} else {
			var ids []string
			for len(imports) > 0 && len(ids) < 200 && !(imports[0].Searchable && len(ask) > 0) {
				ids = append(ids, imports[0].ID)
				imports = imports[1:]
			}
			err = w.filter(d.st.For(ctx)).Where("import_id IN ? AND (import_id, id) > (?, ?)", ids, ids[0], after).
				Order("import_id, id").Limit(w.limit - len(found)).Find(&part).Error
		}
		if err != nil {
			return nil, err
		}
		found = append(found, part...)
	}
	return found, nil
}

// findIndexed reads the rows of the blocks that have all the grams.
func (d *Datasets) findIndexed(ctx context.Context, im string, ask []int, after string, limit int, w *wanted) (found []Entry, err error) {
	var rows []searchGram
	err = d.st.For(ctx).Where("import_id = ? AND gram IN ?", im, append([]int{blockList}, ask...)).Order("segment, gram").Find(&rows).Error
	if err != nil {
		return nil, err
	}
	start, _ := domain.ParseID("ent", after)
	for len(rows) > 0 {
		if rows[0].Gram != blockList {
			return nil, errors.New("dataset: a segment of the search index has no list of blocks")
		}
		firsts, segment := rows[0].Bits, rows[0].Segment
		rows = rows[1:]
		blocks := len(firsts) / 16
		all := bytes.Repeat([]byte{0xff}, (blocks+7)/8)
		have := 0
		for ; len(rows) > 0 && rows[0].Segment == segment; rows = rows[1:] {
			have++
			for i := range all {
				if i < len(rows[0].Bits) {
					all[i] &= rows[0].Bits[i]
				} else {
					all[i] = 0
				}
			}
		}
		if have < len(ask) { // a gram that no block has
			continue
		}
		// One read for each run of blocks: a range of the index, however the
		// planner feels about its bounds.
		for b := 0; b < blocks && len(found) < limit; b++ {
			if all[b/8]&(1<<(b%8)) == 0 {
				continue
			}
			first := [16]byte(firsts[16*b:])
			for b+1 < blocks && all[(b+1)/8]&(1<<((b+1)%8)) != 0 {
				b++
			}
			end := [16]byte(bytes.Repeat([]byte{0xff}, 16))
			switch {
			case b+1 < blocks:
				end = [16]byte(firsts[16*b+16:])
			case len(rows) > 0: // the next segment's first
				end = [16]byte(rows[0].Bits)
			}
			if bytes.Compare(end[:], start[:]) <= 0 { // before the cursor
				continue
			}
			from := "id >= ?"
			if bytes.Compare(first[:], start[:]) <= 0 {
				first, from = start, "id > ?"
			}
			var part []Entry
			err := w.filter(d.st.For(ctx)).Where("import_id = ? AND "+from+" AND id < ?", im, domain.FormatID("ent", first), domain.FormatID("ent", end)).
				Order("id").Limit(limit - len(found)).Find(&part).Error
			if err != nil {
				return nil, err
			}
			found = append(found, part...)
		}
		if len(found) == limit {
			return found, nil
		}
	}
	return found, nil
}
