// Package privacy gives people and tenants their data, and takes it away for
// good. Everything it does follows from one register (register.txt), which says
// of every column whose it is: the register of processing, what an export
// holds, what an import brings back, and what an erasure removes. A column that
// is not in it fails a test, so a new one cannot be forgotten.
package privacy

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/chainreactions/chainreactions/domain"
)

//go:embed register.txt
var registerText string

// ProcessingRecord is one table of the register of processing.
type ProcessingRecord struct {
	Table   string              `json:"table"`
	Purpose string              `json:"purpose"`
	Basis   string              `json:"basis"`
	Kept    string              `json:"kept"`
	Columns map[string][]string `json:"columns" doc:"by class: plain, pseudonym, contact, network, credential, content, activity, internal"`

	export, stays, where, person, erase, tenant string
	key, apart                                  []string
}

var classes = []string{"plain", "pseudonym", "contact", "network", "credential", "content", "activity", "internal"}

// columns gives those of the classes, in the order of the register.
func (r ProcessingRecord) columns(of ...string) (out []string) {
	for _, class := range of {
		out = append(out, r.Columns[class]...)
	}
	return out
}

// exported are the columns that leave: no secret, and not the tenant's own id.
func (r ProcessingRecord) exported() []string {
	all := r.columns("pseudonym", "plain", "contact", "network", "content", "activity")
	return slices.DeleteFunc(all, func(c string) bool { return c == "tenant_id" })
}

// moved are the columns that another tenant can have.
func (r ProcessingRecord) moved() []string {
	return slices.DeleteFunc(r.exported(), func(c string) bool { return slices.Contains(r.apart, c) })
}

// tenantOwned reports whether rows belong to a tenant by their column.
func (r ProcessingRecord) tenantOwned() bool {
	return slices.Contains(r.Columns["pseudonym"], "tenant_id")
}

func readRegister(text string) (out []ProcessingRecord, err error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if table, ok := strings.CutPrefix(line, "# "); ok {
			out = append(out, ProcessingRecord{Table: table, Columns: map[string][]string{}})
			continue
		}
		word, rest, ok := strings.Cut(line, ": ")
		if len(out) == 0 || line == "" {
			continue // the introduction
		}
		r := &out[len(out)-1]
		fields := map[string]*string{"purpose": &r.Purpose, "basis": &r.Basis, "kept": &r.Kept, "export": &r.export, "stays": &r.stays, "where": &r.where,
			"person": &r.person, "erase": &r.erase, "tenant": &r.tenant}
		switch field := fields[word]; {
		case !ok:
			return nil, fmt.Errorf("privacy: register.txt line %d: %q", n, line)
		case field != nil && *field == "":
			*field = rest
		case word == "key":
			r.key = strings.Fields(rest)
		case word == "apart":
			r.apart = strings.Fields(rest)
		case slices.Contains(classes, word):
			r.Columns[word] = append(r.Columns[word], strings.Fields(rest)...)
		default:
			return nil, fmt.Errorf("privacy: register.txt line %d: %q", n, line)
		}
	}
	for _, r := range out {
		if r.Purpose == "" || r.Basis == "" || r.Kept == "" || !slices.Contains([]string{"content", "about", "none"}, r.export) || r.export != "none" && len(r.key) == 0 {
			return nil, fmt.Errorf("privacy: register.txt: %s has no purpose, basis, time, export or key", r.Table)
		}
		if (r.export == "about") != (r.stays != "") || len(r.apart) > 0 && r.export != "content" {
			return nil, fmt.Errorf("privacy: register.txt: %s: what is about a tenant says why it stays, and nothing else does", r.Table)
		}
	}
	return out, nil
}

// Records is the register of processing (GDPR Art. 30).
func (s *Service) Records(context.Context, struct{}) (domain.Page[ProcessingRecord], error) {
	return domain.NewPage(slices.Clone(s.register), len(s.register), func(r ProcessingRecord) string { return r.Table }), nil
}
