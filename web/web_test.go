package web

import (
	"strings"
	"testing"
	"testing/fstest"
)

// A page finds its own way, an asset of another build does not become a page,
// and what a browser cannot unpack is not sent to it.
func TestOpen(t *testing.T) {
	p := &Portal{fstest.MapFS{
		"index.html": {Data: []byte("<!doctype html>")}, "index.html.br": {Data: []byte("packed page")},
		"assets/app-1a2b.js": {Data: []byte("script")}, "assets/app-1a2b.js.gz": {Data: []byte("packed")}, ".gitkeep": {},
	}}
	for _, c := range []struct {
		path, accept                string
		status                      int
		body, encoding, cache, kind string
	}{
		{"/", "", 200, "<!doctype html>", "", "no-cache", "text/html"},
		{"/", "gzip, br", 200, "packed page", "br", "no-cache", "text/html"},
		{"/app/datasets/ds_1", "br;q=0", 200, "<!doctype html>", "", "no-cache", "text/html"},
		{"/assets/app-1a2b.js", "gzip", 200, "packed", "gzip", "public, max-age=31536000, immutable", "text/javascript"},
		{"/assets/app-1a2b.js", "br", 200, "script", "", "public, max-age=31536000, immutable", "text/javascript"},
		{"/assets/app-gone.js", "", 404, "There is no such file.\n", "", "no-store", "text/plain"},
		{"/../index.html.br", "", 404, "There is no such file.\n", "", "no-store", "text/plain"},
		{"/.gitkeep", "", 404, "There is no such file.\n", "", "no-store", "text/plain"},
	} {
		a := p.Open(c.path, c.accept)
		if a.Status != c.status || string(a.Body) != c.body || a.Encoding != c.encoding || a.CacheFor != c.cache || !strings.HasPrefix(a.Media, c.kind) {
			t.Errorf("%s (%s): %d %q %q %q %q", c.path, c.accept, a.Status, a.Body, a.Encoding, a.CacheFor, a.Media)
		}
	}
	if a := (&Portal{fstest.MapFS{}}).Open("/app", ""); a.Status != 503 || !strings.Contains(string(a.Body), "/docs") {
		t.Errorf("a binary without a portal: %d %s", a.Status, a.Body)
	}
}
