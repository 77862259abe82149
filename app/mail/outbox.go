package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"

	smtp "github.com/wneessen/go-mail"

	"github.com/chainreactions/chainreactions/domain"
)

const pageHead = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Outbox</title>
<style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24;background:#fff}pre{white-space:pre-wrap}iframe{width:100%;height:32rem;border:1px solid #d9dee4}td,th{text-align:left;padding:.3rem .6rem}</style>`

// ShowOutbox is a page that lists the kept messages, newest first. It is for
// development, where the outbox takes the place of a mail server.
func (m *Mailer) ShowOutbox(_ context.Context, _ struct{}) ([]byte, error) {
	names, err := filepath.Glob(filepath.Join(m.Outbox, "mail_*.eml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names) // ids sort by time
	slices.Reverse(names)
	var b bytes.Buffer
	b.WriteString(pageHead + "<h1>Outbox</h1><table><tr><th>Time<th>To<th>Subject</tr>\n")
	for _, name := range names[:min(len(names), 200)] {
		msg, err := smtp.EMLToMsgFromFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // erased since it was listed
		}
		if err != nil {
			return nil, err
		}
		id := strings.TrimSuffix(filepath.Base(name), ".eml")
		fmt.Fprintf(&b, "<tr><td>%s<td>%s<td><a href=\"/sandbox/mail/%s\">%s</a></tr>\n", html.EscapeString(first(msg.GetGenHeader(smtp.HeaderDate))),
			html.EscapeString(strings.Join(msg.GetToString(), ", ")), id, html.EscapeString(subject(msg)))
	}
	b.WriteString("</table></html>")
	return b.Bytes(), nil
}

// KeptRequest names a message of the outbox.
type KeptRequest struct {
	ID string `path:"id"`
}

// ShowKept is a page with one kept message, in both its forms.
func (m *Mailer) ShowKept(_ context.Context, in KeptRequest) ([]byte, error) {
	if !domain.ValidID("mail", in.ID) {
		return nil, domain.ErrNotFound()
	}
	msg, err := smtp.EMLToMsgFromFile(filepath.Join(m.Outbox, in.ID+".eml"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, domain.ErrNotFound()
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s<p><a href=\"/sandbox/mail\">Outbox</a><h1>%s</h1><p>%s\n", pageHead,
		html.EscapeString(subject(msg)), html.EscapeString(strings.Join(msg.GetToString(), ", ")))
	for _, part := range msg.GetParts() {
		body, err := part.GetContent()
		if err != nil {
			return nil, err
		}
		if part.GetContentType() == smtp.TypeTextHTML {
			fmt.Fprintf(&b, "<iframe title=\"HTML\" sandbox srcdoc=\"%s\"></iframe>\n", html.EscapeString(string(body)))
			continue
		}
		fmt.Fprintf(&b, "<pre>%s</pre>\n", html.EscapeString(string(body)))
	}
	b.WriteString("</html>")
	return b.Bytes(), nil
}

func subject(msg *smtp.Msg) string {
	coded := first(msg.GetGenHeader(smtp.HeaderSubject))
	if plain, err := new(mime.WordDecoder).DecodeHeader(coded); err == nil {
		return plain
	}
	return coded
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
