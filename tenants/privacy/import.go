package privacy

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
)

const (
	maxArchive  = 1 << 30 // packed
	maxUnpacked = 8 << 30
	maxLine     = 64 << 20
	importBatch = 100 // rows a statement
)

// Imported tells what an archive brought.
type Imported struct {
	ContentHash string           `json:"content_hash" doc:"of the archive; that of an export made now is the same"`
	Rows        map[string]int64 `json:"rows" doc:"by table"`
}

// Import brings the content of a tenant's archive into this tenant, which must
// have none of its own. It is all of it or nothing: the archive is held against
// its manifest first, and the rows are written in one transaction. Anybody can
// write an archive, so nothing in it is more than a claim of who brings it: rows
// are what an export gives, their ids have the form of ids, roles allow what the
// caller may, and what was under way, or paid for, is history.
func (s *Service) Import(ctx context.Context, body io.Reader) (out Imported, err error) {
	f, err := os.CreateTemp(s.Dir, "import-*.part")
	if err != nil {
		return out, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	size, err := io.Copy(f, io.LimitReader(body, maxArchive+1))
	if err != nil {
		return out, domain.E(domain.Malformed, "body_incomplete", "The body ended before it was whole.").Because(err)
	}
	if size > maxArchive {
		return out, domain.E(domain.TooLarge, "body_too_large", "The body is over the limit of %d bytes.", maxArchive)
	}
	bad := func(why string, args ...any) error {
		return domain.E(domain.Invalid, "invalid_archive", "This is not an archive that an export of a tenant made.").Because(fmt.Errorf(why, args...))
	}
	z, err := zip.NewReader(f, size)
	if err != nil {
		return out, bad("%w", err)
	}
	var m Manifest
	if raw, err := readSmall(z, "manifest.json"); err != nil || json.Unmarshal(raw, &m) != nil || m.Format != 1 || m.Scope != "tenant" {
		return out, bad("manifest: %v", err)
	}
	if m.ContentHash != contentHash(m.Files) {
		return out, bad("the content hash is not that of the files")
	}
	unpacked := int64(0)
	for _, file := range m.Files {
		sum, n, err := digest(z, file.Name, maxUnpacked-unpacked)
		if unpacked += n; err != nil || n != file.Bytes || sum != file.SHA256 {
			return out, bad("%s does not fit the manifest: %v", file.Name, err)
		}
	}
	out = Imported{ContentHash: m.ContentHash, Rows: map[string]int64{}}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		for _, r := range s.register {
			if r.export != "content" {
				continue
			}
			var n int64
			if err := s.Store.SQL(ctx, "SELECT count(*) FROM "+r.Table+" WHERE tenant_id = @tenant", nil).Scan(&n).Error; err != nil {
				return err
			}
			if n > 0 {
				return domain.E(domain.Conflict, "not_empty", "This tenant has data of its own; an import needs an empty one.")
			}
		}
		for _, r := range s.register {
			if r.export != "content" {
				continue
			}
			n, err := s.importTable(ctx, z, r)
			if err != nil {
				return bad("%s: %w", r.Table, err)
			}
			out.Rows[r.Table] = n
		}
		if out.Rows["roles"] > 0 {
			if err := s.AdoptRoles(ctx); err != nil {
				return err
			}
		}
		for level, table := range map[string]string{"datasets": "datasets", "dataset_rows": "dataset_entries"} {
			if n := out.Rows[table]; n > 0 {
				if err := s.TakeLevel(ctx, level, n); err != nil {
					return err
				}
			}
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "privacy.import", Target: domain.TenantOf(ctx), Detail: map[string]any{"content_hash": m.ContentHash, "from": m.Subject}})
	})
	return out, err
}

func readSmall(z *zip.Reader, name string) ([]byte, error) {
	f, err := z.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4<<20))
}

func digest(z *zip.Reader, name string, limit int64) (sum string, n int64, err error) {
	f, err := z.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, io.LimitReader(f, limit))
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// importTable writes the rows of one file. Columns are those of the register
// and no others; the tenant is the scope's, whatever the file says. Secrets come
// in empty, and whom the other tenant named is here who imports.
func (s *Service) importTable(ctx context.Context, z *zip.Reader, r ProcessingRecord) (total int64, err error) {
	f, err := z.Open("content/" + r.Table + ".jsonl")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	caller, _ := domain.ScopeOf(ctx)
	columns := r.moved()
	ids := slices.DeleteFunc(r.columns("pseudonym"), func(c string) bool { return c != "id" && !strings.HasSuffix(c, "_id") })
	into, fixed := []string{"tenant_id"}, []string{"@tenant"}
	add := func(column, name string, value any, args map[string]any) {
		into, fixed = append(into, column), append(fixed, "@"+name)
		args[name] = value
	}
	same := map[string]any{}
	for _, c := range r.apart {
		add(c, "who", caller.Actor.ID, same)
	}
	for _, c := range r.columns("credential") {
		add(c, "none", "", same)
	}
	if slices.Contains(r.columns("internal"), "imported_at") {
		add("imported_at", "now", s.Now().UTC(), same)
	}
	insert := "INSERT INTO " + r.Table + " (" + strings.Join(quoted(append(into, columns...)), ", ") + ") VALUES "
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	var places []string
	args := maps.Clone(same)
	flush := func() error {
		if len(places) == 0 {
			return nil
		}
		_, err := s.Store.Exec(ctx, insert+strings.Join(places, ", "), args)
		places, args = nil, maps.Clone(same)
		return err
	}
	for lines.Scan() {
		row := map[string]any{}
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.UseNumber()
		if err := d.Decode(&row); err != nil {
			return total, err
		}
		for c := range row {
			if !slices.Contains(columns, c) {
				return total, fmt.Errorf("there is no column %q", c)
			}
		}
		for _, c := range ids {
			id, _ := row[c].(string)
			if prefix, _, _ := strings.Cut(id, "_"); id != "" && !domain.ValidID(prefix, id) {
				return total, fmt.Errorf("%s is no id", c)
			}
		}
		names := slices.Clone(fixed)
		for i, c := range columns {
			v, err := stored(c, row[c])
			if err != nil {
				return total, err
			}
			name := fmt.Sprintf("v%d_%d", len(places), i)
			names, args[name] = append(names, "@"+name), v
		}
		places = append(places, "("+strings.Join(names, ", ")+")")
		if total++; len(places) == importBatch {
			if err := flush(); err != nil {
				return total, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return total, err
	}
	if err := flush(); err != nil || r.where == "" {
		return total, err
	}
	var odd int64
	err = s.Store.SQL(ctx, "SELECT count(*) FROM "+r.Table+" WHERE tenant_id = @tenant AND NOT ("+r.where+")", nil).Scan(&odd).Error
	if err == nil && odd > 0 {
		err = fmt.Errorf("%d rows are not of the kind that is exported", odd)
	}
	return total, err
}

// stored makes a value of JSON what the column takes. Times stand in columns
// that end in _at.
func stored(column string, v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case string:
		if strings.HasSuffix(column, "_at") {
			return time.Parse(time.RFC3339Nano, v)
		}
		return v, nil
	case nil, bool:
		return v, nil
	}
	return nil, fmt.Errorf("%s holds a %T", column, v)
}

var _ = domain.Chinese(map[string]string{
	"This is not an archive that an export of a tenant made.":        "这不是租户导出生成的归档。",
	"This tenant has data of its own; an import needs an empty one.": "该租户已有数据；导入需要空租户。",
	"The body ended before it was whole.":                            "请求体未传完就结束了。",
	"The body is over the limit of %d bytes.":                        "请求体超过 %d 字节的上限。",
})
