package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/sheet"
)

// The catalogue belongs to the platform: its tables have no tenant, and only a
// system scope publishes. A tenant's subscription is a dataset of its own,
// which counts against its limits like any other and follows the list: a new
// version is an import in mode replace, so readers see the old version until
// the new one is whole. The list's file is kept in the database, in parts, so
// that any process can hand it out.

const catalogPart = 1 << 20

type catalogList struct {
	Slug        string `gorm:"primaryKey"`
	Name        string
	Description string
	Publisher   string
	SourceURL   string
	Licence     string
	Published   bool
	Version     int64
	Digest      string
	Filename    string
	SizeBytes   int64
	RowCount    int64
	UpdatedAt   time.Time
}

func (catalogList) TableName() string { return "catalog_lists" }

type catalogPiece struct {
	Slug    string `gorm:"primaryKey"`
	Version int64  `gorm:"primaryKey;autoIncrement:false"`
	Seq     int64  `gorm:"primaryKey;autoIncrement:false"`
	Content []byte
}

func (catalogPiece) TableName() string { return "catalog_parts" }

// CatalogList is a published list, and whether the caller's tenant follows it.
type CatalogList struct {
	Slug        string    `json:"slug"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Publisher   string    `json:"publisher"`
	SourceURL   string    `json:"source_url"`
	Licence     string    `json:"licence"`
	Version     int64     `json:"version"`
	Rows        int64     `json:"rows"`
	UpdatedAt   time.Time `json:"updated_at"`
	DatasetID   *string   `json:"dataset_id" nullable:"true" doc:"the tenant's dataset that follows the list"`
}

// Catalog gives the published lists by slug.
func (d *Datasets) Catalog(ctx context.Context, in ListRequest) (out domain.Page[CatalogList], err error) {
	after, err := in.After()
	if err != nil {
		return out, err
	}
	var lists []catalogList
	err = d.st.Read(domain.System(ctx, "catalogue"), func(ctx context.Context) error {
		return d.st.For(ctx).Where("published = ? AND slug > ?", true, after).Order("slug").Limit(in.Size() + 1).Find(&lists).Error
	})
	if err != nil {
		return out, err
	}
	var own []Dataset
	err = d.st.Read(ctx, func(ctx context.Context) error {
		return d.st.For(ctx).Where("catalog_slug <> '' AND deleted_at IS NULL").Find(&own).Error
	})
	if err != nil {
		return out, err
	}
	rows := make([]CatalogList, len(lists))
	for i, l := range lists {
		rows[i] = CatalogList{l.Slug, l.Name, l.Description, l.Publisher, l.SourceURL, l.Licence, l.Version, l.RowCount, l.UpdatedAt, nil}
		for _, set := range own {
			if set.CatalogSlug == l.Slug {
				rows[i].DatasetID = &set.ID
			}
		}
	}
	return domain.NewPage(rows, in.Size(), func(l CatalogList) string { return l.Slug }), nil
}

// SlugRequest names a published list.
type SlugRequest struct {
	Slug string `path:"slug" json:"-" maxLength:"64"`
}

// SubscribeResponse is the tenant's dataset that follows the list, and the
// import that fills it, where one is under way.
type SubscribeResponse struct {
	Dataset Dataset `json:"dataset"`
	Import  *Import `json:"import,omitempty"`
}

// Subscribe makes a dataset that follows a published list, or gives the one
// that does. Where it is behind the list, an import brings it up.
func (d *Datasets) Subscribe(ctx context.Context, in SlugRequest) (out SubscribeResponse, err error) {
	list, err := d.catalogList(ctx, in.Slug)
	if err != nil {
		return out, err
	}
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		found := d.st.For(ctx).Where("catalog_slug = ? AND deleted_at IS NULL", list.Slug).Limit(1).Find(&out.Dataset)
		if found.Error != nil || found.RowsAffected > 0 {
			return found.Error
		}
		if err := d.Levels.TakeLevel(ctx, levelDatasets, 1); err != nil {
			return err
		}
		now := d.now()
		out.Dataset = Dataset{ID: domain.NewID("ds"), Name: list.Name, Description: list.Description, Publisher: list.Publisher, SourceURL: list.SourceURL,
			CatalogSlug: list.Slug, CreatedAt: now, UpdatedAt: now}
		if err := d.st.For(ctx).Create(&out.Dataset).Error; err != nil {
			return err
		}
		return d.Audit.Record(ctx, audit.Entry{Action: "catalog.subscribe", Target: out.Dataset.ID, Detail: map[string]any{"list": list.Slug}})
	})
	if err == nil && out.Dataset.CatalogVersion < list.Version {
		out.Import, err = d.follow(ctx, out.Dataset.ID, list, []string{Queued, Running})
	}
	return out, err
}

// catalogList reads a list that is published.
func (d *Datasets) catalogList(ctx context.Context, slug string) (list catalogList, err error) {
	err = d.st.Read(domain.System(ctx, "catalogue"), func(ctx context.Context) error {
		return d.st.For(ctx).Where("slug = ? AND published = ?", slug, true).Take(&list).Error
	})
	return list, err
}

// follow imports the present version of a list into a dataset that follows it,
// unless an import of that version is there in one of the states.
func (d *Datasets) follow(ctx context.Context, dataset string, list catalogList, unless []string) (*Import, error) {
	var there []Import
	err := d.st.Read(ctx, func(ctx context.Context) error {
		return d.st.For(ctx).Where("dataset_id = ? AND catalog_version = ? AND status IN ?", dataset, list.Version, unless).Limit(1).Find(&there).Error
	})
	if err != nil {
		return nil, err
	}
	if len(there) > 0 {
		there[0].word(ctx)
		return &there[0], nil
	}
	im, err := d.queueImport(ctx, Import{DatasetID: dataset, Mode: Replace, Filename: list.Filename, Mapping: "null", CatalogVersion: list.Version},
		&catalogFile{d: d, ctx: domain.System(ctx, "catalogue"), list: list})
	return &im, err
}

// catalogFile reads the file of a list, a part at a time.
type catalogFile struct {
	d    *Datasets
	ctx  context.Context
	list catalogList
	seq  int64
	read int64
	part []byte
}

func (c *catalogFile) Read(p []byte) (int, error) {
	if len(c.part) == 0 {
		if c.read == c.list.SizeBytes {
			return 0, io.EOF
		}
		var piece catalogPiece
		err := c.d.st.Read(c.ctx, func(ctx context.Context) error {
			return c.d.st.For(ctx).Where("slug = ? AND version = ? AND seq = ?", c.list.Slug, c.list.Version, c.seq).Take(&piece).Error
		})
		if err != nil { // a newer version has taken its place meanwhile
			return 0, domain.E(domain.Unavailable, "dependency_unavailable", "The list is being published; try again.").After(time.Second).Because(err)
		}
		c.part = piece.Content
		c.read += int64(len(piece.Content))
		c.seq++
	}
	n := copy(p, c.part)
	c.part = c.part[n:]
	return n, nil
}

// PublishRequest is a list for the catalogue, or a new version of one.
type PublishRequest struct {
	Slug        string    `json:"slug"`
	Filename    string    `json:"file"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Publisher   string    `json:"publisher"`
	SourceURL   string    `json:"source_url"`
	Licence     string    `json:"licence"`
	Body        io.Reader `json:"-"`
}

var slugs = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,62}$`)

// Publish puts a list into the catalogue, in a system scope. A file that
// differs from the present one is a new version, which those who follow the
// list get; one with a row that would be rejected is refused.
func (d *Datasets) Publish(ctx context.Context, in PublishRequest) (version int64, err error) {
	if !slugs.MatchString(in.Slug) || blank(in.Name) || in.Body == nil {
		return 0, domain.InvalidField("slug", "invalid_value", "A slug, a name and a file are required.")
	}
	path := d.path(domain.NewID("imp"))
	size, err := d.takeFile(path, in.Body)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return 0, err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	rows, err := countRows(f, size, in.Filename)
	if err != nil {
		return 0, err
	}
	err = d.st.Tx(ctx, func(ctx context.Context) error {
		list := catalogList{Slug: in.Slug, UpdatedAt: d.now()}
		if err := d.st.For(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&list).Error; err != nil {
			return err
		}
		if err := d.st.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("slug = ?", in.Slug).Take(&list).Error; err != nil {
			return err
		}
		set := map[string]any{"name": in.Name, "description": in.Description, "publisher": in.Publisher, "source_url": in.SourceURL, "licence": in.Licence, "published": true}
		if version = list.Version; list.Digest != digest {
			version++
			set["version"], set["digest"], set["filename"], set["size_bytes"], set["row_count"], set["updated_at"] = version, digest, in.Filename, size, rows, d.now()
			if err := d.st.For(ctx).Where("slug = ?", in.Slug).Delete(&catalogPiece{}).Error; err != nil {
				return err
			}
			if err := d.storeParts(ctx, f, in.Slug, version); err != nil {
				return err
			}
			if err := d.Queue.Enqueue(ctx, FollowCatalog{in.Slug}, domain.JobOptions{Priority: 4}); err != nil {
				return err
			}
		}
		return d.st.For(ctx).Model(&catalogList{}).Where("slug = ?", in.Slug).Updates(set).Error
	})
	return version, err
}

// countRows reads the whole file, as those who subscribe will.
func countRows(f *os.File, size int64, filename string) (n int64, err error) {
	r, err := sheet.Open(f, size, sheet.Options{Filename: filename})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for {
		row, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		case row.Rejected:
			return n, fmt.Errorf("%s, line %d: %s", filename, row.Line, row.Issues[0].Message)
		}
		n++
	}
}

func (d *Datasets) storeParts(ctx context.Context, f *os.File, slug string, version int64) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, catalogPart)
	for seq := int64(0); ; seq++ {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if err := d.st.For(ctx).Create(&catalogPiece{slug, version, seq, buf[:n]}).Error; err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// PublishFolder publishes the lists that catalog.json of a folder names; what
// has not changed stays as it is.
func (d *Datasets) PublishFolder(ctx context.Context, folder fs.FS) error {
	raw, err := fs.ReadFile(folder, "catalog.json")
	if err != nil {
		return err
	}
	var lists []PublishRequest
	if err := json.Unmarshal(raw, &lists); err != nil {
		return fmt.Errorf("catalog.json: %w", err)
	}
	for _, in := range lists {
		f, err := folder.Open(in.Filename)
		if err != nil {
			return err
		}
		in.Body = f
		_, err = d.Publish(ctx, in)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("catalogue list %s: %w", in.Slug, err)
		}
	}
	return nil
}

// FollowCatalog is the job that brings those who follow a list to its present
// version. It runs in a system scope.
type FollowCatalog struct {
	Slug string `json:"slug"`
}

// Kind is the queue's.
func (FollowCatalog) Kind() string { return "catalog.follow" }

// RunFollowCatalog does a FollowCatalog. It may be repeated: an import of the
// version that was started, whatever came of it, is not started again.
func (d *Datasets) RunFollowCatalog(ctx context.Context, job FollowCatalog) error {
	list, err := d.catalogList(ctx, job.Slug)
	if domain.KindOf(err) == domain.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	var failed error
	for tenant := ""; ; {
		var behind []Dataset
		err := d.st.Read(ctx, func(ctx context.Context) error {
			return d.st.For(ctx).Where("catalog_slug = ? AND deleted_at IS NULL AND catalog_version < ? AND tenant_id > ?", list.Slug, list.Version, tenant).
				Order("tenant_id").Limit(200).Find(&behind).Error
		})
		if err != nil {
			return errors.Join(failed, err)
		}
		for _, set := range behind {
			tenant = set.TenantID
			own := domain.WithScope(ctx, domain.Scope{Tenant: tenant, Actor: domain.Actor{Kind: "system", ID: "catalogue"}})
			if _, err := d.follow(own, set.ID, list, []string{Queued, Running, Succeeded, Failed, Cancelled}); err != nil {
				failed = errors.Join(failed, fmt.Errorf("tenant %s: %w", tenant, err)) // and the others get theirs
			}
		}
		if len(behind) < 200 {
			return failed
		}
	}
}
