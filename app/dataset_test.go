package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/ftm"
)

// form posts a file as a browser or curl -F does: fields first, then the file.
func (c client) form(path, file string, fields ...string) (int, map[string]any) {
	c.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	part, _ := w.CreateFormFile("file", "list.csv")
	_, _ = io.WriteString(part, file)
	w.Close()
	req, _ := http.NewRequest("POST", c.base+path, &b)
	req.Header = c.header.Clone()
	req.Header.Set("Content-Type", w.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	out := map[string]any{}
	_ = json.NewDecoder(res.Body).Decode(&out)
	return res.StatusCode, out
}

func (c client) used(meter string) any {
	c.t.Helper()
	for _, m := range c.must(200, "GET", "/api/v1/usage", nil)["data"].([]any) {
		if m := m.(map[string]any); m["meter"] == meter {
			return m["used"]
		}
	}
	return nil
}

func nobodies(n int) string {
	var b strings.Builder
	b.WriteString("name\n")
	for i := range n {
		fmt.Fprintf(&b, "Nobody %d in particular\n", i)
	}
	return b.String()
}

// A file against a list: every row metered once, the quota used to its last
// unit and then said so; what was done can be had, and the rest with more quota.
func TestMatchJobs(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		_, key, tenant := person(t, base, "jobs")
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		key.importList(ds, "name\nNobody 3 in particular\n", "")
		free, _ := p.billing.Plans(context.Background(), struct{}{})
		quota := free.Data[0].Quotas["match"]
		status, job := key.form("/api/v1/match-jobs", nobodies(int(quota)+40), "options", `{"dataset_ids":["`+ds+`"],"threshold":0.9}`)
		if status != 202 || job["threshold"] != 0.9 || job["limit"] != 10.0 {
			t.Fatalf("%d %v", status, job)
		}
		id := job["id"].(string)
		_, events, _ := key.do("GET", "/api/v1/match-jobs/"+id+"/events", nil)
		job = key.must(200, "GET", "/api/v1/match-jobs/"+id, nil)
		if job["status"] != "failed" || job["error_code"] != "quota_exceeded" || job["rows_read"] != float64(quota) || key.used("match") != float64(quota) {
			t.Fatalf("%v, %v used", job, key.used("match"))
		}
		ends := regexp.MustCompile(`id: (\S+)\nevent: failed\n`).FindSubmatch(events)
		if ends == nil {
			t.Fatalf("%s", events)
		}
		if zh := key.must(200, "GET", "/api/v1/match-jobs/"+id, nil, "Accept-Language", "zh-CN"); zh["error_message"] != "本期 match 的配额已用完。" {
			t.Errorf("%v", zh["error_message"])
		}
		if status, _, _ := key.do("POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "x"}}); status != 429 {
			t.Errorf("a call after the job used the quota up: %d", status)
		}
		if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "pro", "test", "test"); err != nil {
			t.Fatal(err)
		}
		key.must(202, "POST", "/api/v1/match-jobs/"+id+"/resume", nil)
		_, events, _ = key.do("GET", "/api/v1/match-jobs/"+id+"/events", nil, "Last-Event-ID", string(ends[1]))
		if !bytes.Contains(events, []byte("event: succeeded\n")) || bytes.Contains(events, []byte("event: failed")) {
			t.Errorf("%s", events)
		}
		if used := key.used("match"); used != float64(quota+40) {
			t.Errorf("%v used", used)
		}
		status, csv, h := key.do("GET", "/api/v1/match-jobs/"+id+"/result?format=csv", nil)
		if status != 200 || bytes.Count(csv, []byte("\r\n")) < int(quota)+41 || !strings.HasPrefix(h.Get("Content-Type"), "text/csv") || !bytes.Contains(csv, []byte(",match,1,1.0000,")) {
			t.Errorf("%d %s %.300s", status, h, csv)
		}
		if status, lines, _ := key.do("GET", "/api/v1/match-jobs/"+id+"/result?format=jsonl", nil); status != 200 || bytes.Count(lines, []byte("\n")) != int(quota)+40 {
			t.Errorf("%d %.300s", status, lines)
		}
		// A dataset in a JSON body; the same Idempotency-Key gives the same job.
		body := map[string]any{"dataset_id": ds, "dataset_ids": []string{ds}}
		first := key.must(202, "POST", "/api/v1/match-jobs", body, "Idempotency-Key", "again")
		again := key.must(202, "POST", "/api/v1/match-jobs", body, "Idempotency-Key", "again")
		if first["id"] != again["id"] {
			t.Errorf("%v and %v", first["id"], again["id"])
		}
		if jobs := key.must(200, "GET", "/api/v1/match-jobs", nil)["data"].([]any); len(jobs) != 2 {
			t.Errorf("%d jobs", len(jobs))
		}
		for path, body := range map[string]any{"?options=7": nil, "": map[string]any{"threshold": 2}, "?x=1": map[string]any{"dataset_id": ds}} {
			if status, raw, _ := key.do("POST", "/api/v1/match-jobs"+path, body); status != 422 {
				t.Errorf("%s %v: %d %s", path, body, status, raw)
			}
		}
		if status, out := key.form("/api/v1/match-jobs", "name\nx\n", "colour", "red"); status != 422 {
			t.Errorf("an unknown form field: %d %v", status, out)
		}
		if status, _, _ := key.do("DELETE", "/api/v1/match-jobs/"+id, nil); status != 204 {
			t.Error(status)
		}
		key.must(404, "GET", "/api/v1/match-jobs/"+id, nil)
	})
}

// Our own list is in the catalogue from the first start, and whoever adds it
// can match against it.
func TestCatalogOverHTTP(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		_, key, _ := person(t, base, "reader")
		lists := key.must(200, "GET", "/api/v1/catalog", nil)["data"].([]any)
		list := lists[0].(map[string]any)
		if list["slug"] != "sample-watchlist" || list["version"] != 1.0 || list["dataset_id"] != nil {
			t.Fatalf("%v", lists)
		}
		out := key.must(202, "POST", "/api/v1/catalog/sample-watchlist/subscribe", nil)
		ds := out["dataset"].(map[string]any)["id"].(string)
		key.must(200, "GET", "/api/v1/imports/"+out["import"].(map[string]any)["id"].(string)+"/events", nil)
		got := key.must(200, "POST", "/api/v1/matches", map[string]any{"query": map[string]any{"name": "Qinglan Univ. of Aerospace Technology"}, "dataset_ids": []string{ds}})
		if len(got["matches"].([]any)) != 1 {
			t.Errorf("%v", got)
		}
		if status, body, _ := key.do("POST", "/api/v1/datasets/"+ds+"/imports", nil); status != 409 {
			t.Errorf("%d %s", status, body)
		}
		key.must(404, "POST", "/api/v1/catalog/no-such-list/subscribe", nil)
		if used := key.used("dataset_rows"); used != list["rows"] {
			t.Errorf("%v rows held of %v", used, list["rows"])
		}
	})
}

// fieldsOf are the field paths and codes that a refusal names.
func fieldsOf(raw []byte) string {
	var p struct {
		Code   string
		Errors []struct{ Field, Code, Message string }
	}
	_ = json.Unmarshal(raw, &p)
	var out []string
	for _, e := range p.Errors {
		if e.Message == "" {
			return "an error without a message"
		}
		out = append(out, e.Field+" "+e.Code)
	}
	if len(out) == 0 {
		return p.Code
	}
	return strings.Join(out, ", ")
}

// Every value that POST /matches and its kin do not take is refused with its
// path; what they take is answered as the contract says.
func TestMatchingContract(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		_, key, tenant := person(t, base, "contract")
		if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "business", "test", "test"); err != nil {
			t.Fatal(err)
		}
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		key.importList(ds, "name,aliases,country,city\n国防科技大学,NUDT; Natl. University of Defense Technology,China,Changsha\nDelta Precision,,Iran,\nÉcole Polytechnique,,France,\n", "")
		query := func(q string, more string) string {
			return `{"query":{` + q + `},"dataset_ids":["` + ds + `"]` + more + `}`
		}
		long := strings.Repeat("n", 501)
		for _, c := range []struct{ path, body, want string }{
			{"/matches", `{}`, "query required"},
			{"/matches", `{"query":{}}`, "query.name required"},
			{"/matches", query(`"name":""`, ""), "query.name required"},
			{"/matches", query(`"name":" \t "`, ""), "query.name required"},
			{"/matches", query(`"name":"`+long+`"`, ""), "query.name too_long"},
			{"/matches", query(`"name":"a\u0000b"`, ""), "query.name control_character"},
			{"/matches", query(`"name":"a\u0007b","city":"\u0001"`, ""), "query.name control_character, query.city control_character"},
			{"/matches", query(`"name":"a","nmae":"b"`, ""), "query.nmae unknown_field"},
			{"/matches", query(`"name":5`, ""), "query.name invalid_value"},
			{"/matches", query(`"name":"a","latitude":91,"longitude":-181`, ""), "query.latitude out_of_range, query.longitude out_of_range"},
			{"/matches", query(`"name":"a","aliases":["`+long+`"]`, ""), "query.aliases[0] too_long"},
			{"/matches", query(`"name":"a"`, `,"threshold":1.1`), "threshold too_large"},
			{"/matches", query(`"name":"a"`, `,"threshold":-0.1`), "threshold too_small"},
			{"/matches", query(`"name":"a"`, `,"threshold":"high"`), "threshold invalid_value"},
			{"/matches", query(`"name":"a"`, `,"limit":0`), "limit too_small"},
			{"/matches", query(`"name":"a"`, `,"limit":101`), "limit too_large"},
			{"/matches", query(`"name":"a"`, `,"limit":1.5`), "limit invalid_value"},
			{"/matches", query(`"name":"a"`, `,"weights":{"jaro_winkler":2,"levenshtein":0,"word":0,"ngram":0,"geographic":0}`), "weights.jaro_winkler too_large"},
			{"/matches", query(`"name":"a"`, `,"weights":{"jaro_winkler":0,"levenshtein":0,"word":0,"ngram":0,"geographic":1}`), "weights all_zero"},
			{"/matches", query(`"name":"a"`, `,"weights":{"jaro_winkler":1,"levenshtein":0,"word":0,"ngram":0,"geographic":0,"phonetic":1}`), "weights.phonetic unknown_field"},
			{"/matches", `{"query":{"name":"a"},"dataset_ids":[` + strings.Repeat(`"x",`, 100) + `"x"]}`, "dataset_ids wrong_count"},
			{"/matches", `{"query":{"name":"a"},"dataset_ids":["ds_00000000000000000000000000"]}`, "not_found"},
			{"/matches", `{"query":{"name":"a"},"fuzzy":true}`, "fuzzy unknown_field"},
			{"/matches/batch", `{"queries":[]}`, "queries wrong_count"},
			{"/matches/batch", `{"queries":[` + strings.Repeat(`{"name":"a"},`, 100) + `{"name":"a"}]}`, "queries wrong_count"},
			{"/matches/batch", `{"queries":[{"name":"a"}],"limit":0}`, "limit too_small"},
			{"/matches/affiliated", `{"query":{"name":"a","affiliated_entities":[` + strings.Repeat(`"x",`, 100) + `"x"]}}`, "query.affiliated_entities wrong_count"},
			{"/matches/affiliated/batch", `{"queries":[]}`, "queries wrong_count"},
		} {
			status, raw, _ := key.do("POST", "/api/v1"+c.path, json.RawMessage(c.body))
			want := map[string]int{"not_found": 404}[c.want]
			if want == 0 {
				want = 422
			}
			if got := fieldsOf(raw); status != want || got != c.want {
				t.Errorf("%s %.120s: %d %q, want %d %q", c.path, c.body, status, got, want, c.want)
			}
		}
		if used := key.used("match"); used != 0.0 {
			t.Errorf("refused requests used %v of the quota", used)
		}
		// A country by any name or code is the same country; one that is unknown
		// is unknown and no reason to refuse.
		scores := map[any]bool{}
		for i, country := range []string{`"CN"`, `"cn"`, `"CHN"`, `"China"`, `"中国"`, `"Китай"`, `"PRC"`, `"Atlantis"`, `null`} {
			out := key.must(200, "POST", "/api/v1/matches", json.RawMessage(query(`"name":"NUDT","country":`+country, `,"explain":true`)))
			m := out["matches"].([]any)[0].(map[string]any)
			geographic := m["algorithms"].(map[string]any)["geographic"]
			if i < 7 {
				scores[m["score"]] = true
			}
			if (geographic == nil) != (i >= 7) || out["cached"] != false {
				t.Errorf("%s: %v", country, out)
			}
			q := out["query"].(map[string]any)
			for _, name := range []string{"name", "aliases", "country", "city", "latitude", "longitude"} {
				if _, ok := q[name]; !ok {
					t.Errorf("the query that comes back has no %s: %v", name, q)
				}
			}
			entry := m["entry"].(map[string]any)
			if entry["dataset_id"] != ds || entry["name"] != "国防科技大学" || len(entry["aliases"].([]any)) != 2 || entry["countries"].([]any)[0] != "CN" || m["matched_name"] != "NUDT" {
				t.Errorf("%v", m)
			}
		}
		if len(scores) != 1 {
			t.Errorf("one country, %d scores: %v", len(scores), scores)
		}
		// cached is true only where it was: another limit, threshold, weight or
		// explain is another answer, and so is the list's next version.
		ask := func(more string) bool {
			return key.must(200, "POST", "/api/v1/matches", json.RawMessage(query(`"name":"Delta Precision"`, more)))["cached"].(bool)
		}
		weights := `,"weights":{"jaro_winkler":1,"levenshtein":0,"word":0,"ngram":0,"geographic":0}`
		for _, more := range []string{"", `,"limit":3`, `,"threshold":0.71`, `,"explain":true`, weights} {
			if ask(more) || !ask(more) {
				t.Errorf("%q: the first answer is cached or the second is not", more)
			}
		}
		key.must(200, "PUT", "/api/v1/matching/settings", json.RawMessage(`{"weights":{"jaro_winkler":0.4,"levenshtein":0.3,"word":0.2,"ngram":0.1,"geographic":0.1},"threshold":0.65,"synonyms":[["precision","exactness"]]}`))
		if ask("") || !ask("") {
			t.Error("after other settings")
		}
		key.importList(ds, "name\nAnother\n", "")
		if ask("") || !ask("") {
			t.Error("after another version of the list")
		}
		if status, _, _ := key.do("DELETE", "/api/v1/matching/cache", nil); status != 204 || ask("") {
			t.Error("after the cache was cleared")
		}
		warm := key.must(200, "POST", "/api/v1/matching/cache/warm", map[string]any{"dataset_ids": []string{ds}})
		stats := key.must(200, "GET", "/api/v1/matching/stats", nil)
		if warm["datasets"] != 1.0 || warm["entries"] != 4.0 || len(stats["indexes"].([]any)) != 1 || stats["hits"].(float64) < 7 || stats["misses"].(float64) < 7 {
			t.Errorf("%v %v", warm, stats)
		}
		for body, want := range map[string]string{
			`{}`: "threshold required, weights required",
			`{"weights":{"jaro_winkler":0.4,"levenshtein":0.3,"word":0.2,"ngram":0.1,"geographic":0.1},"threshold":0.6,"synonyms":[["one"],["a","\u0001"]]}`: "synonyms[0] invalid_count, synonyms[1] control_character",
			`{"weights":{"jaro_winkler":0,"levenshtein":0,"word":0,"ngram":0,"geographic":0.1},"threshold":0.6}`:                                             "weights all_zero",
		} {
			if status, raw, _ := key.do("PUT", "/api/v1/matching/settings", json.RawMessage(body)); status != 422 || fieldsOf(raw) != want {
				t.Errorf("%s: %d %s", body, status, fieldsOf(raw))
			}
		}
		// An item that is invalid fails alone, costs nothing and says why; the
		// others answer exactly as they would alone.
		before := key.used("match").(float64)
		batch := key.must(200, "POST", "/api/v1/matches/batch", json.RawMessage(`{"queries":[{"name":"NUDT"},{"name":""},{"name":"Ecole polytechnique","country":"FR"},7],"explain":true}`), "Accept-Language", "zh")
		if used := key.used("match").(float64) - before; used != 2 {
			t.Errorf("a batch of two queries and two mistakes used %v", used)
		}
		results := batch["results"].([]any)
		for i, q := range []string{`"name":"NUDT"`, "", `"name":"Ecole polytechnique","country":"FR"`, ""} {
			got := results[i].(map[string]any)
			if q == "" {
				e := got["error"].(map[string]any)
				f := e["errors"].([]any)[0].(map[string]any)
				if len(got) != 1 || e["code"] != "invalid" || e["status"] != 422.0 || e["title"] != "请求无效" || e["detail"] != "请求中有不可接受的值。" || !strings.HasPrefix(f["field"].(string), fmt.Sprintf("queries[%d]", i)) {
					t.Errorf("%v", got)
				}
				continue
			}
			alone := key.must(200, "POST", "/api/v1/matches", json.RawMessage(`{"query":{`+q+`},"explain":true}`))
			for _, m := range []map[string]any{got, alone} {
				delete(m, "cached")
				delete(m, "took_ms")
			}
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(alone)
			if !bytes.Equal(a, b) || len(got["matches"].([]any)) == 0 {
				t.Errorf("in the batch %s\nalone %s", a, b)
			}
		}
		before = key.used("match").(float64)
		aff := key.must(200, "POST", "/api/v1/matches/affiliated", json.RawMessage(`{"query":{"name":"Nobody at all","affiliated_entities":["NUDT",{"name":"Delta Precision"},{"nme":1}]}}`))
		subs := aff["affiliated_entities"].([]any)
		if used := key.used("match").(float64) - before; used != 3 || len(subs) != 3 || len(aff["matches"].([]any)) != 0 || subs[2].(map[string]any)["error"] == nil ||
			subs[0].(map[string]any)["matches"].([]any)[0].(map[string]any)["matched_name"] != "NUDT" {
			t.Errorf("%v used: %v", used, aff)
		}
		before = key.used("match").(float64)
		many := key.must(200, "POST", "/api/v1/matches/affiliated/batch", json.RawMessage(`{"queries":[{"name":"NUDT"},{"affiliated_entities":["x"]}]}`))
		if used := key.used("match").(float64) - before; used != 1 || many["results"].([]any)[1].(map[string]any)["error"] == nil {
			t.Errorf("%v used: %v", used, many)
		}
		// Entries.
		for q, want := range map[string]int{"?q=%E7%A7%91%E6%8A%80": 1, "?q=ecole": 1, "?q=NUDT&country=China": 1, "?q=nudt&country=ir": 0, "?limit=2": 2, "?country=%E6%B3%95%E5%9B%BD": 1} {
			out := key.must(200, "GET", "/api/v1/datasets/"+ds+"/entries"+q, nil)
			if n := len(out["data"].([]any)); n != want || (out["next_cursor"] != nil) != (q == "?limit=2") {
				t.Errorf("entries%s: %d of %d, %v", q, n, want, out["next_cursor"])
			}
		}
		for q, want := range map[string]string{"?country=Atlantis": "country unknown_country", "?cursor=%21": "cursor invalid_cursor", "?limit=201": "limit too_large", "?sort=name": "sort unknown_field"} {
			if status, raw, _ := key.do("GET", "/api/v1/datasets/"+ds+"/entries"+q, nil); status != 422 || fieldsOf(raw) != want {
				t.Errorf("entries%s: %d %s", q, status, fieldsOf(raw))
			}
		}
		entry := key.must(200, "GET", "/api/v1/datasets/"+ds+"/entries?q=nudt", nil)["data"].([]any)[0].(map[string]any)
		if one := key.must(200, "GET", "/api/v1/entries/"+entry["id"].(string), nil); one["name"] != "国防科技大学" || one["cities"].([]any)[0] != "Changsha" {
			t.Errorf("%v", one)
		}
		if st := key.must(200, "GET", "/api/v1/datasets/"+ds+"/stats", nil); st["rows"] != 4.0 || st["with_aliases"] != 1.0 || st["with_country"] != 3.0 {
			t.Errorf("%v", st)
		}
		status, csv, h := key.do("GET", "/api/v1/datasets/"+ds+"/export?format=csv", nil)
		if status != 200 || !strings.Contains(h.Get("Content-Disposition"), "dataset.csv") || bytes.Count(csv, []byte("\r\n")) != 5 {
			t.Errorf("%d %v %s", status, h, csv)
		}
	})
}

// However many imports run at once, a tenant holds no more rows than its plan
// allows and pays for those that it holds; an import that goes beyond ends as
// failed, says why, and nothing of it is seen.
func TestImportLimits(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		_, key, _ := person(t, base, "limits")
		var lists, imports []string
		for range 3 {
			lists = append(lists, key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string))
		}
		if status, raw, _ := key.do("POST", "/api/v1/datasets", map[string]any{"name": "one too many"}); status != 403 || fieldsOf(raw) != "plan_limit_reached" {
			t.Errorf("a fourth dataset: %d %s", status, raw)
		}
		for _, ds := range lists {
			status, im := key.form("/api/v1/datasets/"+ds+"/imports", nobodies(9000))
			if status != 202 {
				t.Fatalf("%d %v", status, im)
			}
			imports = append(imports, im["id"].(string))
		}
		rows := 0.0
		failed := 0
		for i, id := range imports {
			key.must(200, "GET", "/api/v1/imports/"+id+"/events", nil)
			im := key.must(200, "GET", "/api/v1/imports/"+id, nil)
			seen := key.must(200, "GET", "/api/v1/datasets/"+lists[i], nil)["rows"].(float64)
			entries := len(key.must(200, "GET", "/api/v1/datasets/"+lists[i]+"/entries?limit=1", nil)["data"].([]any))
			switch {
			case im["status"] == "succeeded" && seen == 9000 && entries == 1:
				rows += seen
			case im["status"] == "failed" && im["error_code"] == "plan_limit_reached" && im["error_message"] != "" && seen == 0 && entries == 0:
				failed++
			default:
				t.Errorf("%v, %v rows seen", im, seen)
			}
		}
		if failed == 0 || key.used("dataset_rows") != rows || key.used("import_rows") != rows {
			t.Errorf("%d failed; %v rows seen, %v held, %v paid", failed, rows, key.used("dataset_rows"), key.used("import_rows"))
		}
		// The quota of the month: rows given up do not come back to it.
		for _, ds := range lists {
			if status, _, _ := key.do("DELETE", "/api/v1/datasets/"+ds, nil); status != 204 {
				t.Error(status)
			}
		}
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		im := key.importList(ds, nobodies(20_000-int(rows)+1), "")
		if rows > 0 && (im["error_code"] != "quota_exceeded" || key.used("dataset_rows") != 0.0 || key.used("import_rows") != rows) {
			t.Errorf("%v, %v held, %v paid", im, key.used("dataset_rows"), key.used("import_rows"))
		}
		if im = key.importList(ds, nobodies(20_000-int(rows)), ""); im["status"] != "succeeded" || key.used("import_rows") != 20_000.0 {
			t.Errorf("%v, %v paid", im, key.used("import_rows"))
		}
	})
}

// Whatever is uploaded is answered: with a list, or with why there is none.
func TestUploads(t *testing.T) {
	each(t, func(t *testing.T, p *program, base string) {
		_, key, tenant := person(t, base, "uploads")
		if err := p.billing.SetPlan(domain.System(context.Background(), "test"), tenant, "business", "test", "test"); err != nil {
			t.Fatal(err)
		}
		ds := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": "list"})["id"].(string)
		key.importList(ds, "name\nThe list that stays\n", "")
		for _, c := range []struct{ file, code, zh string }{
			{"name,country\n", "empty_file", "文件没有任何行。"},
			{"\ufeff \r\n \n", "empty_file", "文件没有任何行。（第 1 行）"},
			{"colour\nred\n", "no_name_column", "没有名称列；请将其命名为“name”。 (colour)（第 1 行）"},
			{"name,Name\nx,y\n", "duplicate_header", `两列的标题相同。 ("Name": 1, 2)（第 1 行）`},
			{"name\x00\nx\n", "nul_byte", "单元格含有 NUL 字节。 (1)（第 1 行）"},
			{"%PDF-1.7 not a list", "unsupported_format", "无法读取该文件：支持 CSV、TSV、XLSX 或 FollowTheMoney JSON Lines。 (PDF)"},
			{"PK\x03\x04 not a workbook", "damaged_workbook", "工作簿已损坏。"},
			{"name\n" + strings.Repeat("x", 9<<20), "row_too_long", "某行超过允许的长度；该文件是否为每行一个实体的名单？ (> 8388608)（第 2 行）"},
			{"name,x\n,1\n,2\n", "no_row_accepted", "文件中没有任何行可以导入；原因见错误列表。"},
		} {
			im := key.importList(ds, c.file, "?mode=replace")
			zh := key.must(200, "GET", "/api/v1/imports/"+im["id"].(string), nil, "Accept-Language", "zh-CN")
			if im["status"] != "failed" || im["error_code"] != c.code || im["error_message"] == "" || zh["error_message"] != c.zh {
				t.Errorf("%.30q: %v %v %q", c.file, im["status"], im["error_code"], zh["error_message"])
			}
		}
		if status, out := key.form("/api/v1/datasets/"+ds+"/imports", ""); status != 422 || out["errors"].([]any)[0].(map[string]any)["code"] != "empty_file" {
			t.Errorf("%d %v", status, out)
		}
		if status, out := key.form("/api/v1/datasets/"+ds+"/imports", "name\nx\n", "mode", "merge"); status != 422 || out["errors"].([]any)[0].(map[string]any)["field"] != "mode" {
			t.Errorf("%d %v", status, out)
		}
		if kept := key.must(200, "GET", "/api/v1/datasets/"+ds, nil); kept["rows"] != 1.0 || key.used("import_rows") != 1.0 {
			t.Errorf("%v, %v paid", kept, key.used("import_rows"))
		}
		// A workbook: previewed, mapped by hand, imported, its errors by row.
		book, err := os.ReadFile(filepath.Join("..", "domain", "sheet", "testdata", "list.xlsx"))
		if err != nil {
			t.Fatal(err)
		}
		status, pre := key.form("/api/v1/imports/preview", string(book), "mapping", `{"Reference":"properties.ref"}`)
		if status != 200 || pre["sheet"] != "名单" || len(pre["rows"].([]any)) != 4 || pre["columns"].([]any)[5].(map[string]any)["how"] != "given" {
			t.Fatalf("%d %v", status, pre)
		}
		if status, pre = key.form("/api/v1/imports/preview", "Org\nAlpha\n"); status != 200 || pre["error"].(map[string]any)["code"] != "no_name_column" || len(pre["columns"].([]any)) != 1 {
			t.Errorf("%d %v", status, pre)
		}
		status, im := key.form("/api/v1/datasets/"+ds+"/imports", string(book), "mode", "replace", "mapping", `{"Reference":"properties.ref"}`)
		if status != 202 {
			t.Fatalf("%d %v", status, im)
		}
		id := im["id"].(string)
		key.must(200, "GET", "/api/v1/imports/"+id+"/events", nil)
		im = key.must(200, "GET", "/api/v1/imports/"+id, nil)
		if im["status"] != "succeeded" || im["format"] != "xlsx" || im["rows_accepted"] != 3.0 || im["rows_rejected"] != 1.0 {
			t.Errorf("%v", im)
		}
		_, errors, _ := key.do("GET", "/api/v1/imports/"+id+"/errors", nil, "Accept-Language", "zh")
		for _, line := range []string{"4,Formula,formula_error,,warning,单元格的公式没有值；按空处理。\r\n", "7,Published_Date,invalid_date,Not yet reviewed,warning,不是日期；已作为属性保留。\r\n", "8,name,missing_name,"} {
			if !bytes.Contains(errors, []byte(line)) {
				t.Errorf("no %q in\n%s", line, errors)
			}
		}
		entry := key.must(200, "GET", "/api/v1/datasets/"+ds+"/entries?q="+url.QueryEscape("技术"), nil)["data"].([]any)[0].(map[string]any)
		if entry["published_date"] != "2024-03-05" || entry["properties"].(map[string]any)["ref"].([]any)[0] != "00123" || entry["line"] != 4.0 {
			t.Errorf("%v", entry)
		}
		// What goes out in any format comes back as the same list.
		for _, format := range []string{"csv", "jsonl", "ftm"} {
			_, first, _ := key.do("GET", "/api/v1/datasets/"+ds+"/export?format="+format, nil)
			again := key.must(201, "POST", "/api/v1/datasets", map[string]any{"name": format})["id"].(string)
			if im := key.importList(again, string(first), ""); im["rows_accepted"] != 3.0 {
				t.Fatalf("%s: %v\n%s", format, im, first)
			}
			_, second, _ := key.do("GET", "/api/v1/datasets/"+again+"/export?format="+format, nil)
			ids := regexp.MustCompile(`"(id|dataset_id)":"(ent|ds)_[^"]*",|"line":\d+,`)
			if a, b := ids.ReplaceAll(first, nil), ids.ReplaceAll(second, nil); format != "ftm" && !bytes.Equal(a, b) {
				t.Errorf("%s:\n%s\nbecomes\n%s", format, a, b)
			}
			for _, line := range bytes.Split(bytes.TrimSpace(first), []byte("\n")) {
				var e ftm.Entity
				if format == "ftm" && (json.Unmarshal(line, &e) != nil || e.Validate() != nil) {
					t.Errorf("%s: %v", line, e.Validate())
				}
			}
		}
	})
}
