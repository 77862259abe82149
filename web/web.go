// Package web holds the built portal. Its callers need not know which file a
// page is in, in which encodings it is kept, or how long it may be: a hashed
// asset for a year, the page itself never.
//
// The portal is built by Node (`make portal`) into dist, which is embedded. A
// binary built without it still serves the API and says where the portal is.
package web

import (
	"embed"
	"io/fs"
	"mime"
	"path"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// Policy is the content security policy of the page: nothing from elsewhere,
// and no inline script. The component library sets styles inline.
const Policy = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Asset is one answer of the portal.
type Asset struct {
	Status                    int
	Media, Encoding, CacheFor string // Encoding "" is as it is
	Body                      []byte
	Page                      bool // an HTML page, which carries Policy
}

// Portal is a built portal.
type Portal struct{ files fs.FS }

// Embedded is the portal that was built into this binary.
func Embedded() *Portal {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the folder is in this package
	}
	return &Portal{files}
}

// Built reports whether there is a portal in this binary.
func (p *Portal) Built() bool {
	_, err := fs.Stat(p.files, "index.html")
	return err == nil
}

// Open answers a path: a file where there is one, else the page, which finds
// its own way by the address. accept is the request's Accept-Encoding.
func (p *Portal) Open(name, accept string) Asset {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if a, ok := p.file(name, accept); ok {
		return a
	}
	if path.Ext(name) != "" { // an asset of another build; a page would be taken for a broken script
		return Asset{Status: 404, Media: "text/plain; charset=utf-8", CacheFor: "no-store", Body: []byte("There is no such file.\n")}
	}
	if a, ok := p.file("index.html", accept); ok {
		return a
	}
	return Asset{Status: 503, Media: "text/plain; charset=utf-8", CacheFor: "no-store",
		Body: []byte("The portal is not built into this binary: run `make run` with Node 20 or newer installed.\nThe API is at /api/v1 and documented at /docs.\n\n此程序未包含门户：请安装 Node 20 或更高版本后运行 `make run`。\nAPI 位于 /api/v1，文档见 /docs。\n")}
}

func (p *Portal) file(name, accept string) (Asset, bool) {
	if name == "" || name == ".gitkeep" || strings.HasSuffix(name, ".br") || strings.HasSuffix(name, ".gz") {
		return Asset{}, false
	}
	body, err := fs.ReadFile(p.files, name)
	if err != nil {
		return Asset{}, false
	}
	a := Asset{Status: 200, Media: mime.TypeByExtension(path.Ext(name)), CacheFor: "no-cache", Body: body, Page: name == "index.html"}
	if strings.HasPrefix(name, "assets/") { // the name holds the hash of the content
		a.CacheFor = "public, max-age=31536000, immutable"
	}
	for _, kept := range []struct{ encoding, suffix string }{{"br", ".br"}, {"gzip", ".gz"}} {
		if !accepts(accept, kept.encoding) {
			continue
		}
		if packed, err := fs.ReadFile(p.files, name+kept.suffix); err == nil {
			a.Encoding, a.Body = kept.encoding, packed
			break
		}
	}
	return a, true
}

// accepts reads an Accept-Encoding header (RFC 9110 §12.5.3): listed, and not
// with a weight of zero.
func accepts(header, encoding string) bool {
	for _, part := range strings.Split(header, ",") {
		word, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(word), encoding) {
			q := strings.ReplaceAll(weight, " ", "")
			return q != "q=0" && !strings.HasPrefix(q, "q=0.000")
		}
	}
	return false
}
