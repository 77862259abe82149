package api

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Credential says who may call a row. The zero value is nobody, so that a row
// that forgot it does not start.
type Credential uint8

// The credentials; Member is either kind.
const (
	Public    Credential = 1 << iota // no credential is looked at
	Session                          // a person's access token
	Key                              // an API key
	Admin                            // a platform administrator, who has shown a second factor in this session
	Directory                        // the token of a tenant's directory (SCIM)
	Member    = Session | Key
	metered   = Member | Directory // who calls on a tenant's account
)

func (c Credential) String() string {
	return map[Credential]string{Public: "public", Session: "session", Key: "key", Member: "session|key", Admin: "admin", Directory: "directory"}[c]
}

// adminBase is where the rows of platform administrators stand.
const adminBase = apiBase + "/admin/"

// None is the written-out "nothing" of a row's column: an empty column is a
// forgotten one.
const None = "-"

// Row is one route: every column is an answer to a question that a security
// review asks. A row with an empty column stops the server from starting.
type Row struct {
	Method     string
	Path       string // as OpenAPI writes it: /datasets/{id}
	Call       Handler
	Credential Credential
	Fresh      bool               // a person must have shown a factor in the last ten minutes (step-up)
	Bound      bool               // without a permission, yet for sessions too that a tenant's own provider opened
	Entry      bool               // also for who has yet to meet the tenant's policy of sign-in
	Permission string             // object:action of auth's list, or None
	Feature    string             // of the plan, or None; one that the plan lacks is 403
	Class      string             // rate class of the plan; for public rows of the address
	Meter      string             // what it uses up, or None
	Units      func(in any) int64 // of the meter, by the request; nil is one
	Audit      string             // the action that the method records, or None
	Switch     string             // what operators turn off with it while the program runs, "a.b" also as "a"; "" is always on
	Role       string             // the role of the process that serves it
	Summary    string             // one line for the API document
	Status     int                // of success; 0 is 200
	Also       []int              // other statuses of success, chosen by the answer's Status method
	BodyLimit  int                // bytes; 0 is 1 MiB
}

// Handler is a bound method together with the types that describe it.
type Handler struct {
	name    string
	in, out reflect.Type
	run     func(x *exchange, in any) (any, error)
	kind    string // json, sse, upload, download, page
	media   string // of a download or page; several are divided by |
	events  []EventType
	cookie  string                   // what becomes of the refresh cookie: set, clear or ""
	takes   []string                 // of an upload
	orJSON  bool                     // of an upload: or a JSON body
	lost    func(code string) string // of a redirect: where a browser goes that is refused
}

// Waits reports whether an answer takes as long as its reader or sender likes:
// a stream, a download, an upload.
func (r Row) Waits() bool {
	return r.Call.kind == "sse" || r.Call.kind == "download" || r.Call.kind == "upload"
}

// EventType names an event of a stream and the type of its data.
type EventType struct {
	name string
	data reflect.Type
}

// Sends says that a stream sends events of these names, for the API document;
// the tests hold the stream to it. A name that is said again may be either.
func Sends[T any](names ...string) (out []EventType) {
	for _, name := range names {
		out = append(out, EventType{name, reflect.TypeFor[T]()})
	}
	return out
}

// Call binds a method that takes a request and gives a response.
func Call[In, Out any](name string, fn func(context.Context, In) (Out, error)) Handler {
	return Handler{name: name, kind: "json", in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		run: func(x *exchange, in any) (any, error) { return fn(x.ctx, in.(In)) }}
}

// Act binds a method that answers nothing: 204.
func Act[In any](name string, fn func(context.Context, In) error) Handler {
	return Handler{name: name, kind: "json", in: reflect.TypeFor[In](), out: nil,
		run: func(x *exchange, in any) (any, error) { return nil, fn(x.ctx, in.(In)) }}
}

// SCIM binds a method of RFC 7644: bodies and answers are application/scim+json,
// and fields that we do not know are let pass.
func SCIM[In, Out any](name string, fn func(context.Context, In) (Out, error)) Handler {
	h := Call(name, fn)
	h.kind = "scim"
	return h
}

// SCIMAct is SCIM for a method that answers nothing: 204.
func SCIMAct[In any](name string, fn func(context.Context, In) error) Handler {
	h := Act(name, fn)
	h.kind = "scim"
	return h
}

// Leads binds a method that sends a browser on: 303, to its answer's Location.
// Who is refused is led to lost, since nobody at a browser reads problems.
// Another site's page leads here, with a cookie that its browser may send along;
// parameters that we do not know are ignored (RFC 6749 §4.1.2).
func Leads[In any, Out interface{ Location() string }](name string, lost func(code string) string, fn func(context.Context, In) (Out, error)) Handler {
	return Handler{name: name, kind: "redirect", lost: lost, cookie: "set", in: reflect.TypeFor[In](),
		run: func(x *exchange, in any) (any, error) { return fn(x.ctx, in.(In)) }}
}

// Paper binds a method that gives a document of a media type.
func Paper[In any](name, media string, fn func(context.Context, In) ([]byte, error)) Handler {
	return Handler{name: name, kind: "page", media: media, in: reflect.TypeFor[In](), run: func(x *exchange, in any) (any, error) {
		body, err := fn(x.ctx, in.(In))
		if err != nil {
			return nil, err
		}
		x.c.Status(200).Set("Content-Type", media)
		return nil, x.c.Send(body)
	}}
}

// SignsIn makes a handler's answer set the refresh cookie, by its Cookie method.
func SignsIn(h Handler) Handler { h.cookie = "set"; return h }

// SignsOut makes a handler's answer take the cookie away.
func SignsOut(h Handler) Handler { h.cookie = "clear"; return h }

// Download binds a method that writes a file. The first bytes are held back
// until the method has written or failed, so that an error is still a problem.
func Download[In any](name, media, filename string, fn func(context.Context, In, io.Writer) error) Handler {
	return DownloadAs(name, func(In) (string, string) { return media, filename }, fn)
}

// DownloadAs is Download for files whose kind the request chooses, by its
// parameter "format".
func DownloadAs[In any](name string, kind func(In) (media, filename string), fn func(context.Context, In, io.Writer) error) Handler {
	return Handler{name: name, kind: "download", media: mediaOf(kind), in: reflect.TypeFor[In](), out: reflect.TypeFor[string](),
		run: func(x *exchange, in any) (any, error) {
			media, filename := kind(in.(In))
			return nil, x.download(media, filename, func(ctx context.Context, w io.Writer) error { return fn(ctx, in.(In), w) })
		}}
}

// mediaOf asks a download for the media type of every format there is.
func mediaOf[In any](kind func(In) (string, string)) string {
	var in In
	media, _ := kind(in)
	all := []string{media}
	if t := reflect.TypeFor[In](); t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("query") == "format" {
				for _, format := range strings.Split(f.Tag.Get("enum"), ",") {
					reflect.ValueOf(&in).Elem().Field(i).SetString(format)
					media, _ := kind(in)
					all = append(all, media)
				}
			}
		}
	}
	for i, m := range all {
		all[i], _, _ = strings.Cut(m, ";")
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "|")
}

// Sink takes the events of a stream.
type Sink func(id, event string, data any) error

// Stream binds a method that sends events until it returns. ready runs before
// the answer begins, so that what is not there is still a problem.
func Stream[In, T any](name string, ready func(context.Context, In) (T, error), fn func(context.Context, In, Sink) error, events ...EventType) Handler {
	return Handler{name: name, kind: "sse", events: events, in: reflect.TypeFor[In](), out: reflect.TypeFor[string](),
		run: func(x *exchange, in any) (any, error) {
			if _, err := ready(x.ctx, in.(In)); err != nil {
				return nil, err
			}
			return nil, x.stream(func(ctx context.Context, s Sink) error { return fn(ctx, in.(In), s) })
		}}
}

// Upload is a file on its way in.
type Upload struct {
	Filename, MediaType string
	Body                io.Reader
}

// Sheets are the files that hold lists.
var Sheets = []string{"text/csv", "text/tab-separated-values", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "application/x-ndjson", "application/jsonl"}

// TakeFile binds a method that reads a file, sent as multipart or as the body,
// of the media types that the document names.
func TakeFile[In, Out any](name string, media []string, fn func(context.Context, In, Upload) (Out, error)) Handler {
	return Handler{name: name, kind: "upload", takes: media, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		run: func(x *exchange, in any) (any, error) {
			if !x.isUpload() {
				return fn(x.ctx, in.(In), Upload{})
			}
			in, up, err := x.upload(in)
			if err != nil {
				return nil, err
			}
			return fn(x.ctx, in.(In), up)
		}}
}

// TakeFileOrJSON is TakeFile for a method that a JSON body may call too, with
// no file then.
func TakeFileOrJSON[In, Out any](name string, media []string, fn func(context.Context, In, Upload) (Out, error)) Handler {
	h := TakeFile(name, media, fn)
	h.orJSON = true
	return h
}

// Page binds something that writes its own answer: health, documents.
func Page(name string, fn func(x *exchange) error) Handler {
	return Handler{name: name, kind: "page", in: reflect.TypeFor[struct{}](),
		run: func(x *exchange, _ any) (any, error) { return nil, fn(x) }}
}

// check refuses a table with an unanswered question.
func check(rows []Row, permission, feature, class func(string) bool) error {
	seen := map[string]bool{}
	for _, r := range rows {
		id := r.Method + " " + r.Path
		switch {
		case r.Method == "" || !strings.HasPrefix(r.Path, "/"):
			return fmt.Errorf("route %q: no method or path", id)
		case seen[id]:
			return fmt.Errorf("route %s: twice in the table", id)
		case r.Call.run == nil, r.Summary == "":
			return fmt.Errorf("route %s: nothing to call, or no summary", id)
		case r.Credential.String() == "":
			return fmt.Errorf("route %s: no credential: say Public where none is wanted", id)
		case r.Permission == "", r.Feature == "", r.Meter == "", r.Audit == "", r.Class == "", r.Role == "":
			return fmt.Errorf("route %s: an empty column; say %q where there is nothing", id, None)
		case r.Permission != None && !permission(r.Permission):
			return fmt.Errorf("route %s: no such permission: %s", id, r.Permission)
		case r.Feature != None && !feature(r.Feature):
			return fmt.Errorf("route %s: no such feature: %s", id, r.Feature)
		case r.Credential == Public && (r.Permission != None || r.Feature != None || r.Meter != None):
			return fmt.Errorf("route %s: public, yet with a permission, a feature or a meter", id)
		case r.Credential&Key != 0 && r.Permission == None && r.Path != apiBase+"/me":
			return fmt.Errorf("route %s: a key may call it, so it needs a permission that scopes can bound", id)
		case r.Fresh && r.Credential&(Session|Admin) == 0:
			return fmt.Errorf("route %s: nobody who may call it can step up", id)
		case (r.Credential == Admin) != strings.HasPrefix(r.Path, adminBase):
			return fmt.Errorf("route %s: what stands under %s is for platform administrators, and nothing else is", id, adminBase)
		case r.Credential == Admin && (r.Permission != None || r.Feature != None || r.Meter != None || r.Class != "admin"):
			return fmt.Errorf("route %s: an administrator acts outside the plans and roles of tenants: its class is \"admin\"", id)
		case r.Credential == Admin && r.Audit == None:
			return fmt.Errorf("route %s: whatever an administrator does or reads is on the record", id)
		case r.Credential == Admin && r.Method != "GET" && !r.Fresh:
			return fmt.Errorf("route %s: what an administrator changes wants a factor shown in the last ten minutes", id)
		case (r.Credential == Directory) != (r.Call.kind == "scim"):
			return fmt.Errorf("route %s: a directory speaks SCIM, and nobody else does", id)
		case r.Entry && r.Credential&Session == 0:
			return fmt.Errorf("route %s: Entry is for persons", id)
		case r.Bound && (r.Credential&Session == 0 || r.Permission != None):
			return fmt.Errorf("route %s: Bound is for rows of persons without a permission", id)
		case !class(r.Class):
			return fmt.Errorf("route %s: no such rate class: %s", id, r.Class)
		}
		seen[id] = true
	}
	return nil
}

// Print writes the table, one aligned line a row; `chainreactions routes` and
// the golden file are this text. After the credential, ! is Fresh, ~ Bound and + Entry.
func Print(w io.Writer, rows []Row) {
	line := func(cols ...any) {
		fmt.Fprintf(w, "%-7s %-48s %-26s %-12s %-16s %-10s %-10s %-14s %-20s %s\n", cols...)
	}
	line("METHOD", "PATH", "CALLS", "CREDENTIAL", "PERMISSION", "FEATURE", "RATE", "METER", "AUDIT", "ROLE")
	for _, r := range rows {
		credential := r.Credential.String()
		if r.Fresh {
			credential += "!"
		}
		if r.Bound {
			credential += "~"
		}
		if r.Entry {
			credential += "+"
		}
		line(r.Method, r.Path, r.Call.name, credential, r.Permission, r.Feature, r.Class, r.Meter, r.Audit, r.Role)
	}
}
