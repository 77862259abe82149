package privacy

import (
	"archive/zip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/sheet"
	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/tenants"
)

// Export is an archive that somebody asked for.
type Export struct {
	store.Owned
	ID          string     `json:"id" gorm:"primaryKey"`
	UserID      string     `json:"-"`
	Scope       string     `json:"scope" enum:"user,tenant"`
	Status      string     `json:"status" enum:"queued,ready,failed,expired"`
	ContentHash string     `json:"content_hash" doc:"of what an import brings back: equal for equal data"`
	SizeBytes   int64      `json:"size_bytes"`
	Error       string     `json:"-"`
	URL         string     `json:"url,omitempty" gorm:"-" doc:"downloads the archive without a credential, for an hour"`
	CreatedAt   time.Time  `json:"created_at"`
	ReadyAt     *time.Time `json:"ready_at" nullable:"true"`
	ExpiresAt   *time.Time `json:"expires_at" nullable:"true" doc:"when the archive is removed"`
}

// TableName is GORM's.
func (Export) TableName() string { return "privacy_exports" }

func (s *Service) archive(id string) string { return filepath.Join(s.Dir, id+".zip") }

// ExportRequest asks for an archive.
type ExportRequest struct {
	Scope string `json:"scope" enum:"user,tenant"`
}

// StartExport makes an archive of the caller's own data, or, for who may, of the
// tenant's.
func (s *Service) StartExport(ctx context.Context, in ExportRequest) (e Export, err error) {
	scope, _ := domain.ScopeOf(ctx)
	if err := s.mayTenant(ctx, in.Scope, "privacy:export"); err != nil {
		return e, err
	}
	e = Export{ID: domain.NewID("exp"), UserID: scope.Actor.ID, Scope: in.Scope, Status: "queued", CreatedAt: s.Now().UTC()}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		var waiting int64
		if err := s.Store.For(ctx).Model(&Export{}).Where("user_id = ? AND status = 'queued'", e.UserID).Count(&waiting).Error; err != nil {
			return err
		}
		if waiting > 0 {
			return domain.E(domain.Conflict, "export_running", "An export of yours is being made.")
		}
		if err := s.Queue.Admit(ctx, ExportJob{}, 0); err != nil {
			return err
		}
		if err := s.Store.For(ctx).Create(&e).Error; err != nil {
			return err
		}
		if err := s.Queue.Enqueue(ctx, ExportJob{Tenant: scope.Tenant, ID: e.ID}, domain.JobOptions{Priority: 3}); err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "privacy.export", Target: e.ID, Detail: map[string]any{"scope": in.Scope}})
	})
	return e, err
}

// mayTenant checks the permission where the whole tenant is meant. What is the
// person's own is not for a session that the tenant's identity provider opened.
func (s *Service) mayTenant(ctx context.Context, scope, permission string) error {
	if scope != "tenant" {
		if caller, _ := domain.ScopeOf(ctx); caller.Actor.Bound {
			return domain.E(domain.Forbidden, "sso_session", "Your organisation signed you in here: sign in to your own account for this.")
		}
		return nil
	}
	ok, err := s.Can(ctx, permission)
	if err == nil && !ok {
		err = domain.E(domain.Forbidden, "forbidden", "This needs the permission %s.", permission)
	}
	return err
}

// Exports lists the caller's own, newest first.
func (s *Service) Exports(ctx context.Context, in domain.PageRequest) (page domain.Page[Export], err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		page, err = store.Newest(s.own(ctx), in, func(e Export) string { return e.ID })
		return err
	})
	return page, err
}

// own finds the exports that the caller asked for. A session that the tenant's
// identity provider opened sees the tenant's alone.
func (s *Service) own(ctx context.Context) *gorm.DB {
	scope, _ := domain.ScopeOf(ctx)
	q := s.Store.For(ctx).Where("user_id = ?", scope.Actor.ID)
	if scope.Actor.Bound {
		q = q.Where("scope = 'tenant'")
	}
	return q
}

// IDRequest names an export or an erasure.
type IDRequest struct {
	ID string `path:"id"`
}

const linkLife = time.Hour

// GetExport is one of the caller's own, with a link once it is ready.
func (s *Service) GetExport(ctx context.Context, in IDRequest) (e Export, err error) {
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return s.own(ctx).Where("id = ?", in.ID).Take(&e).Error
	})
	if err == nil {
		err = s.mayTenant(ctx, e.Scope, "privacy:export")
	}
	if err != nil {
		return Export{}, err
	}
	if e.Status == "ready" {
		until := s.Now().Add(linkLife).Unix()
		e.URL = fmt.Sprintf("%s/api/v1/privacy/exports/%s/download?until=%d&signature=%s", strings.TrimSuffix(s.BaseURL, "/"), e.ID, until, s.signLink(e.ID, until))
	}
	return e, nil
}

// still reports whether who asked for the archive may have it now: a tenant's
// ends with the right to it, also where it waits to be made.
func (s *Service) still(ctx context.Context, e Export) (bool, error) {
	if e.Scope != "tenant" {
		return true, nil
	}
	return s.Can(domain.WithScope(ctx, domain.Scope{Tenant: e.TenantID, Actor: domain.Actor{Kind: "user", ID: e.UserID}}), "privacy:export")
}

func (s *Service) signLink(id string, until int64) string {
	m := hmac.New(sha256.New, s.linkKey)
	m.Write([]byte(id + " " + strconv.FormatInt(until, 10)))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// DownloadRequest is what a signed link says.
type DownloadRequest struct {
	ID        string `path:"id"`
	Until     int64  `query:"until"`
	Signature string `query:"signature" maxLength:"100"`
}

// Download gives the archive to the holder of a link that has not expired, as
// long as who asked for it may have it. A wrong link and a missing archive look
// the same.
func (s *Service) Download(ctx context.Context, in DownloadRequest, w io.Writer) error {
	if !hmac.Equal([]byte(s.signLink(in.ID, in.Until)), []byte(in.Signature)) || s.Now().Unix() > in.Until {
		return domain.ErrNotFound()
	}
	var e Export
	err := s.Store.Read(domain.System(ctx, "the link of an archive"), func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ?", in.ID).Take(&e).Error
	})
	if err != nil {
		return err
	}
	ok, err := s.still(ctx, e)
	if err != nil {
		return err
	}
	if !ok {
		return domain.ErrNotFound()
	}
	f, err := os.Open(s.archive(in.ID))
	if errors.Is(err, os.ErrNotExist) {
		return domain.ErrNotFound()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// ExportJob makes one archive.
type ExportJob struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
}

// Kind is the queue's.
func (ExportJob) Kind() string { return "privacy.export" }

// RunExport works the job.
func (s *Service) RunExport(ctx context.Context, j ExportJob) error {
	ctx = domain.WithScope(ctx, domain.Scope{Tenant: j.Tenant, Actor: domain.Actor{Kind: "system", ID: "privacy export"}})
	var e Export
	err := s.Store.Read(ctx, func(ctx context.Context) error { return s.Store.For(ctx).Where("id = ?", j.ID).Take(&e).Error })
	if err != nil || e.Status != "queued" {
		return err
	}
	ok, err := s.still(ctx, e)
	if err != nil {
		return err
	}
	if !ok {
		return s.Store.Tx(ctx, func(ctx context.Context) error {
			return s.Store.For(ctx).Model(&Export{}).Where("id = ?", e.ID).Updates(map[string]any{"status": "failed", "error": "who asked for it may no longer"}).Error
		})
	}
	part := s.archive(e.ID) + ".part"
	defer os.Remove(part)
	hash, size, err := s.write(ctx, part, e)
	if err != nil {
		return err
	}
	if err := os.Rename(part, s.archive(e.ID)); err != nil {
		return err
	}
	now := s.Now().UTC()
	ends := now.Add(archiveKept)
	to, err := s.person(ctx, e.UserID)
	if err != nil {
		return err
	}
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		err := s.Store.For(ctx).Model(&Export{}).Where("id = ?", e.ID).
			Updates(map[string]any{"status": "ready", "content_hash": hash, "size_bytes": size, "ready_at": now, "expires_at": ends}).Error
		if err != nil {
			return err
		}
		if err := s.Audit.Record(ctx, audit.Entry{Action: "privacy.export_ready", Target: e.ID, Detail: map[string]any{"scope": e.Scope}}); err != nil || s.Mail == nil {
			return err
		}
		return s.Mail(ctx, domain.Mail{Template: "export_ready", To: to.Email, Locale: to.Locale, Tenant: e.TenantID, Person: e.UserID,
			Data: map[string]string{"name": to.FullName, "url": s.page("/app/privacy"), "days": "7"}})
	})
}

// Manifest says what an archive holds.
type Manifest struct {
	Format    int    `json:"format"` // 1
	Product   string `json:"product"`
	Scope     string `json:"scope"`
	Subject   string `json:"subject"` // usr_… or ten_…
	Residency string `json:"residency,omitempty"`
	// The tenant's name, language and rules stay: another has its own.
	Tenant      *tenants.Tenant         `json:"tenant,omitempty"`
	Settings    *tenants.TenantSettings `json:"settings,omitempty"`
	MadeAt      time.Time               `json:"made_at"`
	ContentHash string                  `json:"content_hash"` // SHA-256 over "name sha256\n" of the files under content/
	Files       []ManifestFile          `json:"files"`
}

// ManifestFile is one file of an archive.
type ManifestFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
	Stays  string `json:"stays,omitempty"` // why an import does not bring it
}

const readme = `This archive was made by ChainReactions.

manifest.json   every file with its size, rows and SHA-256
content/*.jsonl one JSON object a line and row: what another tenant can import (POST /api/v1/privacy/imports)
about/*.jsonl   the same, of what is told but not moved: members, keys without their secrets, use, the record of actions;
                the manifest says of each why it stays
csv/*.csv       the same rows as tables, and who made each; a cell that a spreadsheet would take for a formula begins with '
Secrets, and hashes of secrets, are in no file. What each table is for: GET /api/v1/privacy/records.

本归档由 ChainReactions 生成。
manifest.json   列出每个文件的大小、行数和 SHA-256
content/*.jsonl 每行一个 JSON 对象，可由另一租户导入
about/*.jsonl   仅供查阅、不会导入的数据：成员、不含密钥内容的密钥、用量、操作记录；原因见 manifest.json
csv/*.csv       相同数据的表格形式，含创建者；可能被当作公式的单元格以 ' 开头
任何文件都不含密钥或其散列值。
`

// write makes the archive and gives its content hash and size.
func (s *Service) write(ctx context.Context, path string, e Export) (content string, size int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	m := Manifest{Format: 1, Product: "ChainReactions", Scope: e.Scope, Subject: e.TenantID, MadeAt: s.Now().UTC()}
	args := map[string]any{}
	if e.Scope == "user" {
		m.Subject = e.UserID
		args["user"] = e.UserID
		ctx = domain.System(ctx, "export of a person")
	} else {
		shown, err := s.Tenants.Show(ctx, struct{}{})
		if err != nil {
			return "", 0, err
		}
		m.Tenant, m.Settings, m.Residency = &shown.Tenant, &shown.Settings, shown.Settings.Residency
	}
	// All of it as it is at one moment: a run that ends meanwhile is not half in it.
	err = s.Store.Snapshot(ctx, func(ctx context.Context) error {
		for _, r := range s.register {
			folder, where := r.export, "tenant_id = @tenant"
			if e.Scope == "user" {
				folder, where = "about", r.person
			} else if r.where != "" {
				where += " AND " + r.where
			}
			if where == "" || e.Scope == "tenant" && (r.export == "none" || !r.tenantOwned()) {
				continue
			}
			if err := s.writeTable(ctx, z, &m, r, folder, where, args); err != nil {
				return fmt.Errorf("export %s: %w", r.Table, err)
			}
		}
		return nil
	})
	if err != nil {
		return "", 0, err
	}
	m.ContentHash = contentHash(m.Files)
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "", 0, err
	}
	for name, text := range map[string][]byte{"README.txt": []byte(readme), "manifest.json": body} {
		w, err := z.Create(name)
		if err != nil {
			return "", 0, err
		}
		if _, err := w.Write(text); err != nil {
			return "", 0, err
		}
	}
	if err := z.Close(); err != nil {
		return "", 0, err
	}
	if err := f.Sync(); err != nil {
		return "", 0, err
	}
	info, err := f.Stat()
	return m.ContentHash, info.Size(), err
}

func contentHash(files []ManifestFile) string {
	h := sha256.New()
	sorted := slices.SortedFunc(slices.Values(files), func(a, b ManifestFile) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range sorted {
		if strings.HasPrefix(f.Name, "content/") {
			fmt.Fprintf(h, "%s %s\n", f.Name, f.SHA256)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// writeTable writes the rows twice: as lines, and as a table, which waits in a
// file since an archive is written one file after the other.
func (s *Service) writeTable(ctx context.Context, z *zip.Writer, m *Manifest, r ProcessingRecord, folder, where string, args map[string]any) error {
	columns, moved := r.exported(), r.exported()
	if folder == "content" {
		moved = r.moved()
	}
	order := ""
	if len(r.key) > 0 {
		order = " ORDER BY " + strings.Join(quoted(r.key), ", ")
	}
	lines, done, err := newFile(z, m, folder+"/"+r.Table+".jsonl")
	if err != nil {
		return err
	}
	aside, err := os.CreateTemp(s.Dir, "csv-*.part")
	if err != nil {
		return err
	}
	defer os.Remove(aside.Name())
	defer aside.Close()
	cells := csv.NewWriter(aside)
	cells.UseCRLF = true
	if err := cells.Write(columns); err != nil {
		return err
	}
	n := int64(0)
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		rows, err := s.Store.SQL(ctx, "SELECT "+strings.Join(quoted(columns), ", ")+" FROM "+r.Table+" WHERE "+where+order, args).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		values, into, text := make([]any, len(columns)), make([]any, len(columns)), make([]string, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return err
			}
			if err := writeLine(lines, columns, moved, values, text); err != nil {
				return err
			}
			if err := cells.Write(text); err != nil {
				return err
			}
			n++
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	done(n)
	if m.Scope == "tenant" {
		m.Files[len(m.Files)-1].Stays = r.stays
	}
	if cells.Flush(); cells.Error() != nil {
		return cells.Error()
	}
	if _, err := aside.Seek(0, io.SeekStart); err != nil {
		return err
	}
	table, done, err := newFile(z, m, "csv/"+r.Table+".csv")
	if err != nil {
		return err
	}
	_, err = io.Copy(table, aside)
	done(n)
	return err
}

// writeLine writes of one row, as an object, those of its columns that move, in
// order, and leaves all its cells in text.
func writeLine(w io.Writer, columns, moved []string, values []any, text []string) error {
	var b strings.Builder
	b.WriteByte('{')
	for i, c := range columns {
		v := values[i]
		if t, ok := v.(time.Time); ok {
			v = t.UTC().Format(time.RFC3339Nano)
		}
		if raw, ok := v.([]byte); ok {
			v = string(raw)
		}
		if slices.Contains(moved, c) {
			raw, err := json.Marshal(v)
			if err != nil {
				return err
			}
			if b.Len() > 1 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.Quote(c) + ":")
			b.Write(raw)
		}
		text[i] = ""
		if v != nil {
			text[i] = sheet.Guard(fmt.Sprint(v))
		}
	}
	_, err := io.WriteString(w, b.String()+"}\n")
	return err
}

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = `"` + n + `"`
	}
	return out
}

// counted is a file of an archive whose bytes are counted and hashed.
type counted struct {
	io.Writer
	hash hash.Hash
	n    int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	return n, err
}

func newFile(z *zip.Writer, m *Manifest, name string) (w io.Writer, done func(rows int64), err error) {
	inner, err := z.Create(name)
	if err != nil {
		return nil, nil, err
	}
	c := &counted{Writer: inner, hash: sha256.New()}
	return c, func(rows int64) {
		m.Files = append(m.Files, ManifestFile{Name: name, Bytes: c.n, Rows: rows, SHA256: hex.EncodeToString(c.hash.Sum(nil))})
	}, nil
}

var _ = domain.Chinese(map[string]string{
	"An export of yours is being made.": "您的导出正在生成。",
	"This needs the permission %s.":     "需要权限 %s。",
})
