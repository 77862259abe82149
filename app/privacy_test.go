package main

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/migrations/testdb"
	"github.com/chainreactions/chainreactions/tenants/privacy"
)

// export makes an archive and downloads it by its link, without a credential.
func (c client) export(scope string) (made map[string]any, archive []byte) {
	c.t.Helper()
	id := c.must(202, "POST", "/api/v1/privacy/exports", map[string]any{"scope": scope})["id"].(string)
	eventually(c.t, "the export is ready", func() bool {
		made = c.must(200, "GET", "/api/v1/privacy/exports/"+id, nil)
		return made["status"] == "ready"
	})
	link, err := url.Parse(made["url"].(string))
	if err != nil {
		c.t.Fatal(err)
	}
	anyone := client{c.t, c.base, http.Header{}}
	status, archive, _ := anyone.do("GET", link.RequestURI(), nil)
	if status != 200 {
		c.t.Fatalf("download: %d %s", status, archive)
	}
	for _, bad := range []string{strings.Replace(link.RequestURI(), "until=", "until=9", 1), link.Path, link.RequestURI() + "x", strings.Replace(link.RequestURI(), id, domain.NewID("exp"), 1)} {
		if status, _, _ := anyone.do("GET", bad, nil); status != 404 {
			c.t.Errorf("%s: %d", bad, status)
		}
	}
	return made, archive
}

func (c client) restore(archive []byte) (int, map[string]any) {
	c.t.Helper()
	req, _ := http.NewRequest("POST", c.base+"/api/v1/privacy/imports", bytes.NewReader(archive))
	req.Header = c.header.Clone()
	req.Header.Set("Content-Type", "application/zip")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	out := map[string]any{}
	_ = json.NewDecoder(res.Body).Decode(&out)
	return res.StatusCode, out
}

func unzip(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(raw)
	}
	return out
}

// forged is the archive with the text of one of its files changed, and a manifest
// that fits.
func forged(t *testing.T, archive []byte, name, from, to string) []byte {
	t.Helper()
	files := unzip(t, archive)
	if !strings.Contains(files[name], from) {
		t.Fatalf("%s does not hold %s: %.300s", name, from, files[name])
	}
	files[name] = strings.ReplaceAll(files[name], from, to)
	var m privacy.Manifest
	if err := json.Unmarshal([]byte(files["manifest.json"]), &m); err != nil {
		t.Fatal(err)
	}
	all := sha256.New()
	slices.SortFunc(m.Files, func(a, b privacy.ManifestFile) int { return strings.Compare(a.Name, b.Name) })
	for i, f := range m.Files {
		sum := sha256.Sum256([]byte(files[f.Name]))
		m.Files[i].Bytes, m.Files[i].SHA256 = int64(len(files[f.Name])), hex.EncodeToString(sum[:])
		if strings.HasPrefix(f.Name, "content/") {
			fmt.Fprintf(all, "%s %s\n", f.Name, m.Files[i].SHA256)
		}
	}
	m.ContentHash = hex.EncodeToString(all.Sum(nil))
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	files["manifest.json"] = string(raw)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// D2: an archive of a tenant that has everything a tenant can have, imported into
// an empty one and exported again, has the same content, file by file; of what is
// not content the manifest says why it stays. What came over works; a tenant with
// data, a changed archive and an archive of a person are refused, and one that
// was forged gets nobody more than they have. No secret and no other tenant's
// row is in it.
func TestExportRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		sys := domain.System(t.Context(), "test")
		workspace := func(name string) (user, key client) {
			user, key, tenant := person(t, base, name)
			if err := p.billing.SetPlan(sys, tenant, "enterprise", "test", "test"); err != nil {
				t.Fatal(err)
			}
			return user, key
		}
		aUser, a := workspace("giver")
		_, other, _ := person(t, base, "canaryother")
		other.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "canaryother"})
		ds := a.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "=list", "description": "第一"})["id"].(string)
		a.importList(ds, "name,aliases,country,latitude,longitude,note\nNational University of Defense Technology,NUDT; Guofang Keji,China,28.2,112.9,x\n国防科技大学,,China,,,\"a \"\"q\"\"\"\n,lost,,,,\n", "")
		a.must(200, "PUT", "/api/v1/matching/settings", map[string]any{"threshold": 0.7, "weights": map[string]any{"jaro_winkler": 0.4, "levenshtein": 0.3, "word": 0.2, "ngram": 0.1, "geographic": 0.1}})
		job := a.must(202, "POST", "/api/v1/match-jobs", map[string]any{"dataset_id": ds, "dataset_ids": []string{ds}})["id"].(string)
		a.do("GET", "/api/v1/match-jobs/"+job+"/events", nil) // ends when the job does
		entry := a.must(200, "GET", "/api/v1/datasets/"+ds+"/entries", nil)["data"].([]any)[0].(map[string]any)["id"]
		aUser.must(200, "PUT", "/api/v1/decisions", map[string]any{"query": map[string]any{"name": "NUDT"}, "entry_id": entry, "verdict": "same", "note": "of their own page", "score": 0.9})
		aUser.must(201, "POST", "/api/v1/tenant/roles", map[string]any{"name": "reader", "permissions": []string{"dataset:read"}})
		aUser.must(201, "POST", "/api/v1/tenant/invitations", map[string]any{"email": "invited@example.org", "role": "viewer"})
		aUser.must(201, "POST", "/api/v1/tenant/domains", map[string]any{"name": "research.example.com"})
		hook := aUser.must(201, "POST", "/api/v1/webhook-endpoints", map[string]any{"url": "https://hooks.invalid/in", "events": []string{"dataset.*"}})
		var runs []string
		for _, ask := range []struct {
			path string
			body map[string]any
		}{
			{"/api/v1/dataset-searches", map[string]any{"dataset_id": ds, "institution": nameOf(p.sandbox, "northmere")}},
			{"/api/v1/entity-searches", map[string]any{"name": nameOf(p.sandbox, "parsin"), "risk_keywords": []string{"sanctions"}}},
		} {
			run := aUser.must(200, "POST", ask.path+"?wait=25s", ask.body)
			if run["status"] != "succeeded" {
				t.Fatalf("%v %v", run["status"], run["error_code"])
			}
			runs = append(runs, run["id"].(string))
		}
		made, archive := aUser.export("tenant")
		files := unzip(t, archive)
		for name, text := range files {
			if strings.Contains(text, "canaryother") || strings.Contains(text, "argon2") || strings.Contains(text, a.header.Get("X-Api-Key")) || strings.Contains(text, hook["secret"].(string)) {
				t.Errorf("%s holds what it should not", name)
			}
		}
		if !strings.Contains(files["csv/datasets.csv"], ",'=list,") {
			t.Errorf("a formula: %s", files["csv/datasets.csv"])
		}
		var m privacy.Manifest
		if err := json.Unmarshal([]byte(files["manifest.json"]), &m); err != nil {
			t.Fatal(err)
		}
		if m.Tenant == nil || m.Tenant.Name != "giver" {
			t.Errorf("the tenant: %+v", m.Tenant)
		}
		told := []string{}
		for _, f := range m.Files {
			folder, table, _ := strings.Cut(f.Name, "/")
			if folder == "content" && f.Rows == 0 {
				t.Errorf("%s is empty: this proves nothing of it", f.Name)
			}
			if (folder == "about") != (f.Stays != "") {
				t.Errorf("%s stays: %q", f.Name, f.Stays)
			}
			if folder == "about" && f.Rows > 0 {
				told = append(told, strings.TrimSuffix(table, ".jsonl"))
			}
		}
		for _, table := range []string{"memberships", "api_keys", "invitations", "tenant_domains", "audit_events", "webhook_endpoints", "usage_events", "usage_totals", "provider_calls"} {
			if !slices.Contains(told, table) {
				t.Errorf("nothing is told of %s: %v", table, told)
			}
		}

		bUser, b := workspace("taker")
		_, mine := aUser.export("user")
		role := files["content/roles.jsonl"]
		for name, bad := range map[string][]byte{
			"a changed archive":            bytes.ReplaceAll(archive, []byte("manifest.json"), []byte("manifest.jsan")),
			"an archive of a person":       mine,
			"a run that is to be worked":   forged(t, archive, "content/research_runs.jsonl", `"status":"succeeded"`, `"status":"queued"`),
			"a job that is to be worked":   forged(t, archive, "content/match_jobs.jsonl", `"status":"succeeded"`, `"status":"queued"`),
			"an import with a path for id": forged(t, archive, "content/dataset_imports.jsonl", `{"id":"`, `{"id":"../`),
			"a column that does not move":  forged(t, archive, "content/research_runs.jsonl", `{"id":`, `{"worker":"w","id":`),
			"a permission there is not":    forged(t, archive, "content/roles.jsonl", role, strings.ReplaceAll(role, "dataset:read", "dataset:all")),
			"a built-in role":              forged(t, archive, "content/roles.jsonl", role, strings.ReplaceAll(role, `"reader"`, `"owner"`)),
		} {
			if status, out := bUser.restore(bad); status != 422 {
				t.Errorf("%s: %d %v", name, status, out)
			}
		}
		// Who may not do everything brings no role that may.
		admin, _ := bUser.helper("helper")
		if status, out := admin.restore(forged(t, archive, "content/roles.jsonl", "dataset:read", "tenant:delete")); status == 201 {
			t.Errorf("a role above who brings it: %d %v", status, out)
		}

		status, out := bUser.restore(archive)
		if status != 201 || out["rows"].(map[string]any)["dataset_entries"] != 2.0 || out["content_hash"] != made["content_hash"] {
			t.Fatalf("%d %v", status, out)
		}
		again, second := bUser.export("tenant")
		if again["content_hash"] != made["content_hash"] || made["content_hash"] == "" {
			t.Errorf("content %v became %v", made["content_hash"], again["content_hash"])
		}
		files2, compared := unzip(t, second), 0
		for name, text := range files {
			if strings.HasPrefix(name, "content/") {
				if compared++; files2[name] != text {
					t.Errorf("%s\nwas %s\nis  %s", name, text, files2[name])
				}
			}
		}
		if len(files) != len(files2) || compared != 13 {
			t.Errorf("%d files became %d, %d are content", len(files), len(files2), compared)
		}

		// What came over works.
		found := b.must(200, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "Guofang Keji"}, "dataset_ids": []string{ds}})
		if len(found["matches"].([]any)) != 1 {
			t.Errorf("what came over does not match: %v", found)
		}
		for _, m := range b.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
			if m := m.(map[string]any); m["meter"] == "dataset_rows" && m["used"] != 2.0 || m["meter"] == "entity_search" && m["used"] != 0.0 {
				t.Errorf("%v", m)
			}
		}
		for _, id := range runs {
			was, is := aUser.must(200, "GET", "/api/v1/runs/"+id, nil), bUser.must(200, "GET", "/api/v1/runs/"+id, nil)
			if is["imported_at"] == nil || is["created_by"] == was["created_by"] {
				t.Errorf("%v by %v", is["imported_at"], is["created_by"])
			}
			delete(is, "imported_at")
			is["created_by"] = was["created_by"]
			if !reflect.DeepEqual(was, is) {
				t.Errorf("%v\nbecame %v", was, is)
			}
			for _, path := range []string{"/events", "/findings", "/graph", "/export?format=csv"} {
				status, was, _ := aUser.do("GET", "/api/v1/runs/"+id+path, nil)
				status2, is, _ := bUser.do("GET", "/api/v1/runs/"+id+path, nil)
				if status != status2 || !bytes.Equal(was, is) {
					t.Errorf("%s: %d %s\nbecame %d %s", path, status, was, status2, is)
				}
			}
		}
		repeated := bUser.must(200, "POST", "/api/v1/runs/"+runs[1]+"/repeat?wait=25s", nil)
		if repeated["status"] != "succeeded" || repeated["previous_id"] != runs[1] {
			t.Errorf("%v %v %v", repeated["status"], repeated["error_code"], repeated["previous_id"])
		}
		if status, _ := bUser.restore(archive); status != 409 {
			t.Errorf("into a tenant with data: %d", status)
		}
		if status, body, _ := bUser.do("GET", "/api/v1/privacy/exports/"+made["id"].(string), nil); status != 404 {
			t.Errorf("another's export: %d %s", status, body)
		}

		// A run that claims to have used up units here gives none back.
		cUser, _ := workspace("claimer")
		if status, out := cUser.restore(forged(t, archive, "content/research_runs.jsonl", `"status":"succeeded"`, `"status":"failed"`)); status != 201 {
			t.Fatalf("%d %v", status, out)
		}
		ended, err := p.research.Ended(t.Context(), time.Time{})
		if err != nil || slices.ContainsFunc(ended, func(e research.Ended) bool { return e.Failed }) {
			t.Errorf("a failure of elsewhere is one of ours: %+v %v", ended, err)
		}
		if out := cUser.must(409, "POST", "/api/v1/runs/"+runs[1]+"/resume", map[string]any{}); out["code"] != "not_resumable" {
			t.Errorf("%v", out)
		}
	})
}

// helper joins the owner's workspace as an admin, with the link that was mailed.
func (c client) helper(name string) (user client, id string) {
	c.t.Helper()
	email := name + "@example.org"
	c.must(201, "POST", "/api/v1/tenant/invitations", map[string]any{"email": email, "role": "admin"})
	secret := secretInLink.FindStringSubmatch(letter(c.t, c.base, email, ""))[1]
	joined := client{c.t, c.base, http.Header{}}.must(201, "POST", "/api/v1/invitations/join", map[string]any{"token": secret, "password": "correct horse battery", "full_name": name, "accept_terms": true})
	return client{c.t, c.base, http.Header{"Authorization": {"Bearer " + joined["access_token"].(string)}}}, joined["user"].(map[string]any)["id"].(string)
}

// B10: who lost the right to a tenant's archive has neither the archive that they
// made before, nor its link, nor the one that waits to be made; their own they
// keep.
func TestArchivesEndWithTheRight(t *testing.T) {
	p, base := serve(t, nil)
	owner, _, tenant := person(t, base, "keeper")
	if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "business", "test", "test"); err != nil {
		t.Fatal(err)
	}
	helper, id := owner.helper("helper")
	made, _ := helper.export("tenant")
	mine, _ := helper.export("user")
	path := func(e map[string]any) string {
		link, err := url.Parse(e["url"].(string))
		if err != nil {
			t.Fatal(err)
		}
		return link.RequestURI()
	}
	for _, m := range owner.must(200, "GET", "/api/v1/tenant/members", nil)["data"].([]any) {
		if m := m.(map[string]any); m["user_id"] == id {
			owner.must(200, "PATCH", "/api/v1/tenant/members/"+m["id"].(string), map[string]any{"role": "viewer"})
		}
	}
	anyone, archive := client{t, base, http.Header{}}, "/api/v1/privacy/exports/"+made["id"].(string)
	if status, raw, _ := anyone.do("GET", path(made), nil); status != 404 {
		t.Errorf("the link: %d, %d bytes", status, len(raw))
	}
	helper.must(403, "GET", archive, nil)
	if status, _, _ := anyone.do("GET", path(mine), nil); status != 200 {
		t.Errorf("their own: %d", status)
	}
	helper.must(200, "GET", "/api/v1/privacy/exports/"+mine["id"].(string), nil)

	file := filepath.Join(p.privacy.Dir, made["id"].(string)+".zip")
	_, err := p.store.SQLDB().Exec("UPDATE privacy_exports SET status = 'queued' WHERE id = $1", made["id"])
	if err = errors.Join(err, os.Remove(file)); err != nil {
		t.Fatal(err)
	}
	if err := p.privacy.RunExport(t.Context(), privacy.ExportJob{Tenant: tenant, ID: made["id"].(string)}); err != nil {
		t.Fatal(err)
	}
	var status string
	if err := p.store.SQLDB().QueryRow("SELECT status FROM privacy_exports WHERE id = $1", made["id"]).Scan(&status); err != nil || status != "failed" {
		t.Errorf("one that waited is %s: %v", status, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an archive was made: %v", err)
	}
}

// Consents are given and taken back with their history.
func TestConsents(t *testing.T) {
	each(t, func(t *testing.T, _ *program, base string) {
		user, _, _ := person(t, base, "consenting")
		put := func(granted bool) map[string]any {
			return user.must(200, "PUT", "/api/v1/privacy/consents", map[string]any{"purpose": "product_news", "version": "2026-11", "granted": granted})
		}
		put(true)
		out := put(false)
		if now := out["current"].([]any); len(now) != 1 || now[0].(map[string]any)["granted"] != false || len(out["history"].([]any)) != 2 {
			t.Errorf("%v", out)
		}
		if n := len(user.must(200, "GET", "/api/v1/privacy/records", nil)["data"].([]any)); n < 40 {
			t.Errorf("%d tables in the register", n)
		}
	})
}

// encodings are the forms in which a token could lie about; compressed ones are
// unpacked by searchFiles.
func encodings(token string) map[string][]byte {
	little, big := []byte{}, []byte{}
	for _, u := range utf16.Encode([]rune(token)) {
		little, big = append(little, byte(u), byte(u>>8)), append(big, byte(u>>8), byte(u))
	}
	out := map[string][]byte{"utf-8": []byte(token), "utf-16le": little, "utf-16be": big, "hex": []byte(hex.EncodeToString([]byte(token))),
		"HEX": []byte(strings.ToUpper(hex.EncodeToString([]byte(token)))), "upper": []byte(strings.ToUpper(token)), "url": []byte(url.QueryEscape(token))}
	escaped := ""
	for _, u := range utf16.Encode([]rune(token)) {
		escaped += fmt.Sprintf(`\u%04x`, u)
	}
	out["json-escaped"], out["JSON-escaped"] = []byte(escaped), []byte(strings.ReplaceAll(strings.ToUpper(escaped), `\U`, `\u`))
	for shift := range 3 { // whatever stands before it
		coded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), token...))
		out["base64 "+string(rune('0'+shift))] = []byte(coded[4 : len(coded)-4])
	}
	return out
}

// unpacked is a file as it is, and whatever gzip streams and ZIP members stand
// anywhere in it.
func unpacked(raw []byte) map[string][]byte {
	out := map[string][]byte{"": raw}
	for at := 0; ; at++ {
		i := bytes.Index(raw[at:], []byte{0x1f, 0x8b, 8})
		if i < 0 {
			break
		}
		at += i
		if r, err := gzip.NewReader(bytes.NewReader(raw[at:])); err == nil {
			text, _ := io.ReadAll(io.LimitReader(r, 64<<20)) // what can be read of it
			out[fmt.Sprintf(" in gzip at %d", at)] = text
		}
	}
	if z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw))); err == nil {
		for _, f := range z.File {
			if r, err := f.Open(); err == nil {
				out[" in "+f.Name], _ = io.ReadAll(io.LimitReader(r, 64<<20))
			}
		}
	}
	return out
}

// The search finds a token in every form that it claims to.
func TestSearchFinds(t *testing.T) {
	dir, token := t.TempDir(), "zqxcanary \"李"
	for name, form := range encodings(token) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(append([]byte("before "), form...))
		z.Close()
		for kind, raw := range map[string][]byte{"plain": append([]byte("x"), form...), "packed": append([]byte("junk\x1f\x8b\x08"), packed.Bytes()...)} {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+"."+kind)
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if found := searchFiles(t, dir, token); len(found) == 0 {
				t.Errorf("%s, %s: not found", name, kind)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// searchFiles looks for the tokens in every file below dir.
func searchFiles(t *testing.T, dir string, tokens ...string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for where, text := range unpacked(raw) {
			for _, token := range tokens {
				for name, form := range encodings(token) {
					if bytes.Contains(text, form) {
						found = append(found, filepath.Base(path)+": "+token+" as "+name+where)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// D1, D3: after an erasure nothing in the files of the embedded product tells of
// the person, in eight encodings: not the database, its log, the outbox, uploads,
// archives, the files of Redis, the server's own log, nor its backup; nor does the
// last backup from before once it is restored and started. A hold keeps the
// person until it is released.
func TestErasure(t *testing.T) {
	dir, copyAt, before := t.TempDir(), t.TempDir(), t.TempDir()
	settings := map[string]string{"DATA_DIR": dir, "BACKUP_TO": filepath.Join(copyAt, "backup"), "SECRET_KEY": strings.Repeat("k", 32)}
	redisFiles := redisWithFiles(t, settings)
	var logged bytes.Buffer
	start := func() (*program, string, func()) {
		p, base, stop := launch(t, configured(t, settings), slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError}), nil)
		return p, base, func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	}
	tokens := []string{"zqxcanarymail", "Zqxcanaryname", "zqxcanaryagent", "zqxcanarynew"}
	p, base, stop := start()
	owner, _, tenant := person(t, base, "stays")
	if err := p.billing.SetPlan(domain.System(t.Context(), "test"), tenant, "business", "test", "test"); err != nil {
		t.Fatal(err)
	}
	owner.must(201, "POST", "/api/v1/webhook-endpoints", map[string]any{"url": "https://hooks.invalid/in", "events": []string{"*"}}) // whose log keeps what it could not tell
	owner.must(201, "POST", "/api/v1/tenant/invitations", map[string]any{"email": "zqxcanarymail@example.org", "role": "admin"}, "Idempotency-Key", "once")
	secret := secretInLink.FindStringSubmatch(letter(t, base, "zqxcanarymail@example.org", ""))[1]
	anyone := client{t, base, http.Header{"User-Agent": {"zqxcanaryagent/1"}}}
	joined := anyone.must(201, "POST", "/api/v1/invitations/join", map[string]any{"token": secret, "password": "correct horse battery", "full_name": "Zqxcanaryname Li", "accept_terms": true}, "Idempotency-Key", "once")
	user := client{t, base, http.Header{"Authorization": {"Bearer " + joined["access_token"].(string)}, "User-Agent": {"zqxcanaryagent/1"}}}
	user.must(200, "PUT", "/api/v1/privacy/consents", map[string]any{"purpose": "product_news", "version": "1", "granted": true})
	user.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "of the tenant"})
	user.must(200, "PATCH", "/api/v1/me", map[string]any{"full_name": "Zqxcanaryname Wang"})
	user.must(202, "POST", "/api/v1/auth/email/change", map[string]any{"new_email": "zqxcanarynew@example.org", "password": "correct horse battery"})
	letter(t, base, "zqxcanarynew@example.org", "")
	user.export("user")
	letter(t, base, "zqxcanarymail@example.org", "export")
	id := joined["user"].(map[string]any)["id"].(string)
	if found := searchFiles(t, dir, tokens...); len(found) < 3 {
		t.Fatalf("the search finds nothing while there is something: %v", found)
	}
	stop() // which writes the backup
	if err := os.CopyFS(before, os.DirFS(copyAt)); err != nil {
		t.Fatal(err)
	}
	p, base, stop = start()
	owner.base, user.base = base, base

	// The ledger of erasures has a line that was cut short.
	if err := os.WriteFile(filepath.Join(dir, "erasures.jsonl"), []byte(`{"subject":"usr_`), 0o600); err != nil {
		t.Fatal(err)
	}
	hold, err := p.privacy.PutHold(t.Context(), id, "a claim before a court", "test")
	if err != nil {
		t.Fatal(err)
	}
	taken := user.must(202, "POST", "/api/v1/privacy/erasures", map[string]any{"scope": "user", "grace_days": 14})["id"].(string)
	user.must(204, "DELETE", "/api/v1/privacy/erasures/"+taken, nil)
	erasure := user.must(202, "POST", "/api/v1/privacy/erasures", map[string]any{"scope": "user", "grace_days": 0})["id"].(string)
	eventually(t, "the erasure is held", func() bool {
		e := user.must(200, "GET", "/api/v1/privacy/erasures/"+erasure, nil)
		return e["status"] == "held" && e["holds"].([]any)[0] == "a claim before a court"
	})
	// A mail to the person waits while they are erased.
	if err := p.quarantine.Begin(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	again := user.must(202, "POST", "/api/v1/privacy/exports", map[string]any{"scope": "user"})["id"].(string)
	eventually(t, "the export is ready, and its mail waits", func() bool {
		return user.must(200, "GET", "/api/v1/privacy/exports/"+again, nil)["status"] == "ready" && mailsWaiting(t, p) > 0
	})
	if err := p.privacy.ReleaseHold(t.Context(), hold.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the person is gone", func() bool { s, _, _ := user.do("GET", "/api/v1/me", nil); return s == 401 })
	eventually(t, "no file tells of the person", func() bool { return len(searchFiles(t, dir, tokens...)) == 0 })
	if _, err := p.release(t.Context(), "test", "", true); err != nil {
		t.Fatal(err)
	}
	client{t, base, http.Header{}}.must(202, "POST", "/api/v1/demo-requests", map[string]any{"name": "n", "email": "n@example.org", "company": "after", "message": "m"})
	letter(t, base, "no-reply@localhost", "Demo request from after") // mails go out again, and none to the person
	eventually(t, "every mail is out", func() bool { return mailsWaiting(t, p) == 0 })
	if found := searchFiles(t, dir, tokens...); len(found) > 0 {
		t.Errorf("a mail that waited: %v", found)
	}
	if out := owner.must(200, "GET", "/api/v1/tenant/members", nil)["data"].([]any); len(out) != 1 {
		t.Errorf("members: %v", out)
	}
	if n := len(owner.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)); n != 1 {
		t.Errorf("the tenant lost its dataset: %d", n)
	}
	if v := owner.must(200, "GET", "/api/v1/audit-events/verify", nil); v["ok"] != true {
		t.Errorf("the record after the erasure: %v", v)
	}
	stop()
	if found := searchFiles(t, dir, tokens...); len(found) > 0 {
		t.Errorf("after the stop: %v", found)
	}
	if files := redisFiles("zqxcontrol"); files != "" {
		if found := searchFiles(t, files, "zqxcontrol"); len(found) == 0 {
			t.Error("the search finds nothing in Redis while there is something")
		}
		if found := searchFiles(t, files, tokens...); len(found) > 0 {
			t.Errorf("in the files of Redis: %v", found)
		}
	}

	for _, backups := range []string{copyAt, before} {
		if found := searchFiles(t, backups, tokens...); len(found) > 0 {
			t.Errorf("in a backup, as it lies: %v", found)
		}
	}

	// The backup of before comes back.
	restore := exec.Command(os.Args[0])
	restore.Env = append(os.Environ(), "CR_TEST_SERVE_ARGS=restore --replace --from "+filepath.Join(before, "backup"), "DATA_DIR="+dir, "SECRET_KEY="+settings["SECRET_KEY"])
	if out, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if found := searchFiles(t, dir, tokens...); len(found) == 0 {
		t.Fatal("the backup does not know the person: the test shows nothing")
	}
	_, base, stop = start()
	defer stop()
	if found := searchFiles(t, dir, tokens...); len(found) > 0 {
		t.Errorf("the restored backup tells of the person: %v", found)
	}
	user.base = base
	user.must(401, "GET", "/api/v1/me", nil)
	if strings.Contains(logged.String(), "zqxcanary") {
		t.Errorf("the log tells of the person: %s", logged.String())
	}
}

// redisWithFiles makes settings name a real Redis that keeps all it is told in
// files, where there is one to be had. What it gives writes a word of control and
// says where the files are.
func redisWithFiles(t *testing.T, settings map[string]string) func(control string) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Log("NOT TESTED: the files of Redis; there is no redis-server")
		return func(string) string { return "" }
	}
	server := testdb.StartRedis(t)
	settings["REDIS_URL"] = server.URL
	o, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { rdb.Close() })
	if err := rdb.ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	return func(control string) string {
		where, err := rdb.ConfigGet(t.Context(), "dir").Result()
		if err == nil {
			err = rdb.Set(t.Context(), "control", control, 0).Err()
		}
		if err == nil {
			err = rdb.Save(t.Context()).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
		return where["dir"]
	}
}

// The last owner of others' tenant cannot vanish; a tenant of one goes with its
// owner, and its data with it.
func TestErasureOfTenants(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		owner, key, tenant := person(t, base, "alone")
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		key.importList(ds, "name\nZqxcanary Ltd\n", "")
		owner.must(201, "POST", "/api/v1/webhook-endpoints", map[string]any{"url": "http://93.184.215.14/", "events": []string{"x.y"}})
		_, otherKey, _ := person(t, base, "bystander")
		otherKey.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "theirs"})
		key.must(403, "POST", "/api/v1/privacy/erasures", map[string]any{"scope": "tenant"})
		owner.must(202, "POST", "/api/v1/privacy/erasures", map[string]any{"scope": "user", "grace_days": 0})
		eventually(t, "the tenant is gone", func() bool { s, _, _ := key.do("GET", "/api/v1/datasets", nil); return s == 401 })
		eventually(t, "nothing is left, not even what was counted since", func() bool {
			if err := p.privacy.RunRetention(t.Context(), privacy.RetentionJob{}); err != nil {
				t.Fatal(err)
			}
			var left int
			for _, table := range []string{"dataset_entries", "datasets", "memberships", "api_keys", "webhook_endpoints", "sessions", "usage_events"} {
				var n int
				if err := p.store.SQLDB().QueryRow("SELECT count(*) FROM "+table+" WHERE tenant_id = $1", tenant).Scan(&n); err != nil {
					t.Fatal(err)
				}
				left += n
			}
			return left == 0
		})
		if n := len(otherKey.must(200, "GET", "/api/v1/datasets", nil)["data"].([]any)); n != 1 {
			t.Errorf("a bystander lost something: %d", n)
		}
	})
}
