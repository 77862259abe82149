package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/chainreactions/chainreactions/domain"
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
