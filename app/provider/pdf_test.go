package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// saying is a file of so many pages, each of which says the words.
func saying(pages int, words string) []byte {
	objects := []string{"<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"}
	var kids []string
	content := "BT /F1 11 Tf 60 780 Td (" + words + ") Tj ET"
	objects = append(objects, fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(content), content))
	for range pages {
		kids = append(kids, fmt.Sprintf("%d 0 R", len(objects)+1))
		objects = append(objects, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents 4 0 R >>")
	}
	objects[1] = fmt.Sprintf("<< /Type /Pages /Kids [%s] /Count %d >>", strings.Join(kids, " "), pages)
	return sandbox.PDF("", objects...)
}

// A PDF is read whatever its server calls it; what is no PDF, cannot be read, says
// nothing or is too long is an error that says so or is cut and says so, and the
// next file is read as ever.
func TestPDF(t *testing.T) {
	one := "<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
	page := "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> /Contents 4 0 R >>"
	const words = "The institute and the works signed an agreement."
	var file []byte
	kind := "application/pdf"
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(file)
	}))
	defer site.Close()
	db := testdb.SQLite(t)
	b := newBench(t, db, func(c *Config) {
		only()(c)
		c.EmulatedHost = func(string) (string, bool) { return strings.TrimPrefix(site.URL, "http://"), true }
	})
	for _, c := range []struct {
		name, kind string
		file       []byte
		code       string
		cut        bool
	}{
		{name: "a file", kind: "application/pdf", file: saying(2, words)},
		{name: "a file that is called bytes", kind: "application/octet-stream", file: saying(1, words)},
		{name: "a file that is called a page", kind: "text/html", file: saying(1, words)},
		{name: "a page that is called a file", kind: "application/pdf", file: []byte("<html><body>" + words + "</body></html>"), code: "provider_malformed"},
		{name: "an archive", kind: "application/zip", file: []byte("PK\x03\x04"), code: "unsupported_type"},
		{name: "half a file", kind: "application/pdf", file: saying(1, words)[:60], code: "provider_malformed"},
		{name: "a file too long", kind: "application/pdf", file: append(saying(1, words), make([]byte, maxPDF)...), code: "unsupported_type"},
		{name: "more pages than are read", kind: "application/pdf", file: saying(maxSheets+1, words), cut: true},
		{name: "pictures alone", kind: "application/pdf", file: sandbox.PDF("", "<< /Type /Catalog /Pages 2 0 R >>", one, page, "<< /Length 0 >>\nstream\n\nendstream"), code: "provider_malformed"},
		{name: "a page that is its own parent", kind: "application/pdf", file: sandbox.PDF("", "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [2 0 R] /Count 7 >>"), code: "provider_malformed"},
		{name: "a file after all of these", kind: "application/pdf", file: saying(1, words)},
	} {
		file, kind = c.file, c.kind
		got, err := b.Fetch(db.In(db.A), research.FetchRequest{Call: call, URL: "https://papers.example/report"})
		switch {
		case domain.CodeOf(err) != c.code && (err != nil || c.code != ""):
			t.Errorf("%s: %v, want %q", c.name, err, c.code)
		case c.code == "" && (!strings.Contains(got.Text, words) || got.MediaType != "application/pdf" || got.Truncated != c.cut):
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// A file that takes for ever is left where it is, and whoever goes away waits for
// nothing.
func TestPDFIsStopped(t *testing.T) {
	catalog, one := "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
	within := sandbox.PDF("", catalog, one, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /XObject << /X 5 0 R >> >> /Contents 4 0 R >>",
		"<< /Length 5 >>\nstream\n/X Do\nendstream", "<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >> /Length 11 >>\nstream\n/X Do /X Do\nendstream")
	if err := readPDF(context.Background(), PDF{Time: 200 * time.Millisecond}, within, &research.Page{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a form within itself: %v", err)
	}
	gone, leave := context.WithCancel(context.Background())
	leave()
	if err := readPDF(gone, PDF{}, saying(50, "Words."), &research.Page{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	page := research.Page{}
	if err := readPDF(context.Background(), PDF{}, saying(1, "Words."), &page); err != nil || page.Text != "Words.\n" {
		t.Errorf("the next file: %q %v", page.Text, err)
	}
}

// Lines of a page become sentences again; what stands for itself stays so.
func TestParagraphs(t *testing.T) {
	for in, want := range map[string]string{
		"Annual report\r\nThe institute signed an agreement with the works in the north of the\r\ncity, which makes bat\x02\r\nteries.\r\nThe end.": "Annual report\nThe institute signed an agreement with the works in the north of the city, which makes bat\u00adteries.\nThe end.\n",
		"水智重機械は2021年度、風早工科大学に水中航走体の\r\n研究資金として二億円を提供した。":                                                                                            "水智重機械は2021年度、風早工科大学に水中航走体の研究資金として二億円を提供した。\n",
	} {
		if got := paragraphs(in); got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
}
