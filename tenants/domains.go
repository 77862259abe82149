package tenants

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
	"gorm.io/gorm"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/store"
)

// Domain is a name of the tenant's own that leads to it, once a TXT record has
// proved whose it is:
//
//	pending ──record found──▶ verified ──missing at 3 checks──▶ lost
//	                             ▲                               │
//	                             └────────record found───────────┘
//
// A name is verified for one tenant at a time, and one that was given back is
// nobody else's for thirty days: links to it may still be about.
type Domain struct {
	store.Owned
	ID         string     `json:"id" gorm:"primaryKey"`
	Name       string     `json:"name"`
	Token      string     `json:"-"`
	Record     string     `json:"record" gorm:"-" doc:"name of the TXT record"`
	Value      string     `json:"value" gorm:"-" doc:"what the TXT record must say"`
	Status     string     `json:"status" enum:"pending,verified,lost,released"`
	Failures   int        `json:"-"`
	CreatedAt  time.Time  `json:"created_at"`
	VerifiedAt *time.Time `json:"verified_at" nullable:"true"`
	CheckedAt  *time.Time `json:"checked_at" nullable:"true"`
	ReleasedAt *time.Time `json:"-"`
}

// TableName is GORM's.
func (Domain) TableName() string { return "tenant_domains" }

const (
	recordPrefix = "_chainreactions."
	coolOff      = 30 * 24 * time.Hour
	maxDomains   = 10
	maxFailures  = 3
	checkEvery   = 23 * time.Hour // a daily job finds each due
)

func (d *Domain) tell() {
	d.Record, d.Value = recordPrefix+d.Name, "chainreactions-verify="+d.Token
}

// AfterFind is GORM's: it fills in what follows from the row.
func (d *Domain) AfterFind(*gorm.DB) error { d.tell(); return nil }

// Domains lists the tenant's names.
func (s *Service) Domains(ctx context.Context, _ struct{}) (domain.Page[Domain], error) {
	d, err := s.Show(ctx, struct{}{})
	return domain.NewPage(d.Domains, maxDomains, func(d Domain) string { return d.ID }), err
}

// AddDomainRequest names a domain.
type AddDomainRequest struct {
	Name string `json:"name" minLength:"4" maxLength:"253"`
}

// AddDomain claims a name and says which TXT record proves it.
func (s *Service) AddDomain(ctx context.Context, in AddDomainRequest) (Domain, error) {
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.TrimSpace(in.Name), "."))
	suffix, _ := publicsuffix.PublicSuffix(name)
	if err != nil || net.ParseIP(name) != nil || !strings.Contains(name, ".") || suffix == name || s.ours(name) {
		return Domain{}, domain.InvalidField("name", "invalid_domain", "This is not a domain that a tenant can have.")
	}
	var token [20]byte
	_, _ = rand.Read(token[:])
	d := Domain{ID: domain.NewID("dom"), Name: name, Token: hex.EncodeToString(token[:]), Status: "pending", CreatedAt: s.Now().UTC()}
	err = s.Store.Tx(ctx, func(ctx context.Context) error {
		var n int64
		if err := s.Store.For(ctx).Model(&Domain{}).Where("status <> 'released'").Count(&n).Error; err != nil {
			return err
		}
		if n >= maxDomains {
			return domain.E(domain.Conflict, "too_many_domains", "A tenant has at most %d domains.", maxDomains)
		}
		if err := s.Store.For(ctx).Create(&d).Error; err != nil {
			return err
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "domain.add", Target: d.ID, Detail: map[string]any{"name": name}})
	})
	d.tell()
	return d, err
}

// ours reports whether a name is one that we serve from ourselves.
func (s *Service) ours(name string) bool {
	return s.BaseDomain != "" && (name == s.BaseDomain || strings.HasSuffix(name, "."+s.BaseDomain))
}

// DomainRequest names a domain of the tenant.
type DomainRequest struct {
	ID string `path:"id"`
}

// VerifyDomain looks for the TXT record.
func (s *Service) VerifyDomain(ctx context.Context, in DomainRequest) (Domain, error) {
	var d Domain
	err := s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("id = ? AND status <> 'released'", in.ID).Take(&d).Error
	})
	if err != nil {
		return d, err
	}
	found, err := s.look(ctx, d)
	if err != nil {
		return d, err
	}
	if !found {
		return d, domain.E(domain.Conflict, "record_not_found", "There is no TXT record %s with the value that was given.", d.Record)
	}
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Tx(domain.System(ctx, "names across tenants"), func(ctx context.Context) error {
		var others int64
		cooling := s.Now().UTC().Add(-coolOff)
		if err := s.Store.For(ctx).Model(&Domain{}).Where("name = ? AND tenant_id <> ? AND (status = 'verified' OR status = 'released' AND verified_at IS NOT NULL AND released_at > ?)",
			d.Name, scope.Tenant, cooling).Count(&others).Error; err != nil {
			return err
		}
		if others > 0 {
			return domain.E(domain.Conflict, "domain_taken", "This domain belongs to another tenant, or did until lately.")
		}
		return s.settle(ctx, &d, true)
	})
	return d, err
}

// look asks DNS, outside any transaction.
func (s *Service) look(ctx context.Context, d Domain) (bool, error) {
	if s.LookupTXT == nil {
		return false, errors.New("tenants: no resolver")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	records, err := s.LookupTXT(ctx, recordPrefix+d.Name+".")
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false, nil
	}
	if err != nil { // not the domain's fault: it counts as no check
		return false, domain.E(domain.Unavailable, "dns_unavailable", "The name servers do not answer now.").After(time.Minute).Because(err)
	}
	return slices.Contains(records, "chainreactions-verify="+d.Token), nil
}

// settle writes down what a check found, in a system transaction.
func (s *Service) settle(ctx context.Context, d *Domain, found bool) error {
	now, was := s.Now().UTC(), d.Status
	d.CheckedAt = &now
	switch {
	case found:
		d.Status, d.Failures = "verified", 0
		if was != "verified" {
			d.VerifiedAt = &now
		}
	case was == "verified":
		if d.Failures++; d.Failures >= maxFailures {
			d.Status = "lost"
		}
	}
	res := s.Store.For(ctx).Model(&Domain{}).Where("tenant_id = ? AND id = ? AND status = ?", d.TenantID, d.ID, was).
		Select("status", "failures", "checked_at", "verified_at").Updates(d)
	if res.Error != nil || res.RowsAffected == 0 || d.Status == was {
		return res.Error
	}
	s.Store.AfterCommit(ctx, func() { s.forget(Tenant{}) })
	action := map[string]string{"verified": "domain.verify", "lost": "domain.lose"}[d.Status]
	return s.Audit.Record(ctx, audit.Entry{Action: action, Target: d.ID, Tenant: d.TenantID, Detail: map[string]any{"name": d.Name}})
}

// RemoveDomain gives a name back.
func (s *Service) RemoveDomain(ctx context.Context, in DomainRequest) error {
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		gone := s.Store.For(ctx).Model(&Domain{}).Where("id = ? AND status <> 'released'", in.ID).Updates(map[string]any{"status": "released", "released_at": s.Now().UTC()})
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		return s.Audit.Record(ctx, audit.Entry{Action: "domain.remove", Target: in.ID})
	})
	s.forget(Tenant{})
	return err
}

// CheckDomains is the daily job that looks for every verified and lost name's
// record again.
type CheckDomains struct{}

// Kind is the queue's.
func (CheckDomains) Kind() string { return "domains.check" }

// RunCheckDomains works the job. What DNS does not answer is left for tomorrow.
func (s *Service) RunCheckDomains(ctx context.Context, _ CheckDomains) error {
	sys := domain.System(ctx, "domains are checked again")
	var due []Domain
	err := s.Store.Read(sys, func(ctx context.Context) error {
		return s.Store.For(ctx).Where("status IN ('verified', 'lost') AND checked_at < ?", s.Now().UTC().Add(-checkEvery)).Order("checked_at").Limit(5000).Find(&due).Error
	})
	for _, d := range due {
		found, failed := s.look(sys, d)
		if failed != nil || d.Status == "lost" && !found {
			continue
		}
		one := s.Store.Tx(sys, func(ctx context.Context) error { return s.settle(ctx, &d, found) })
		if domain.KindOf(one) == domain.Conflict { // lost, and another tenant's by now
			one = nil
		}
		err = errors.Join(err, one)
	}
	return err
}

// ResolveHost finds the tenant that a verified domain leads to. A host that
// leads to none is no error: ok is false.
func (s *Service) ResolveHost(ctx context.Context, host string) (t Tenant, ok bool, err error) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if !strings.Contains(host, ".") || net.ParseIP(host) != nil {
		return t, false, nil
	}
	key, now := "host "+host, s.Now()
	s.mu.Lock()
	c, known := s.seen[key]
	s.mu.Unlock()
	if known && now.Before(c.until) {
		return c.tenant, c.tenant.ID != "", nil
	}
	err = s.Store.Read(domain.System(ctx, "tenant resolution"), func(ctx context.Context) error {
		var d Domain
		if err := s.Store.For(ctx).Where("name = ? AND status = 'verified'", host).Limit(1).Find(&d).Error; err != nil || d.ID == "" {
			return err
		}
		return s.Store.For(ctx).Where("id = ?", d.TenantID).Take(&t).Error
	})
	if err != nil {
		return t, false, err
	}
	s.mu.Lock()
	if len(s.seen) > 20_000 {
		clear(s.seen)
	}
	s.seen[key] = cached{t, now.Add(fresh)}
	s.mu.Unlock()
	return t, t.ID != "", nil
}

var _ = domain.Chinese(map[string]string{
	"This is not a domain that a tenant can have.":                "租户不能使用此域名。",
	"A tenant has at most %d domains.":                            "每个租户最多有 %d 个域名。",
	"There is no TXT record %s with the value that was given.":    "没有找到带有指定值的 TXT 记录 %s。",
	"This domain belongs to another tenant, or did until lately.": "该域名属于或最近曾属于另一个租户。",
	"The name servers do not answer now.":                         "域名服务器暂时没有响应。",
})
