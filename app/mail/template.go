package mail

import (
	"bytes"
	"fmt"
	"html"
	"net/url"
	"path"
	"strings"
	"text/template"
	"unicode"

	templates "github.com/chainreactions/chainreactions/web/mail"
)

// letter is one template: what web/mail says of a mail in one language.
type letter struct {
	subject    *template.Template
	paragraphs []paragraph
}

// paragraph is text, a link with a label, or a list. Which of them is said by
// the file alone: data cannot make a link of a text.
type paragraph struct {
	text  *template.Template
	label string // of a link; its text is then the address
	list  bool   // its text is then that of each item
}

// content is a mail in both its forms.
type content struct {
	Subject, Text, HTML string
}

// readLetters parses every file, so that a mistake in one stops the start.
func readLetters() (map[string]letter, error) {
	out := map[string]letter{}
	for _, lang := range []string{"en", "zh"} {
		files, err := templates.Files.ReadDir(lang)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			raw, err := templates.Files.ReadFile(path.Join(lang, f.Name()))
			if err != nil {
				return nil, err
			}
			name := lang + "/" + strings.TrimSuffix(f.Name(), ".txt")
			if out[name], err = parseLetter(name, string(raw)); err != nil {
				return nil, fmt.Errorf("mail template %s: %w", name, err)
			}
		}
	}
	return out, nil
}

func parseLetter(name, text string) (letter, error) {
	parse := func(s string) (*template.Template, error) {
		return template.New(name).Option("missingkey=error").Parse(s)
	}
	parts := strings.Split(strings.TrimSpace(text), "\n\n")
	subject, ok := strings.CutPrefix(parts[0], "Subject: ")
	if !ok || strings.Contains(subject, "\n") || len(parts) < 2 {
		return letter{}, fmt.Errorf("needs a line \"Subject: …\" and a paragraph")
	}
	var l letter
	var err error
	if l.subject, err = parse(subject); err != nil {
		return l, err
	}
	for _, part := range parts[1:] {
		var p paragraph
		if label, rest, ok := strings.Cut(strings.TrimPrefix(part, "["), "]("); ok && part[0] == '[' {
			p.label, part = label, strings.TrimSuffix(rest, ")")
		}
		part, p.list = strings.CutPrefix(part, "- ")
		if p.text, err = parse(part); err != nil {
			return l, err
		}
		l.paragraphs = append(l.paragraphs, p)
	}
	return l, nil
}

// render fills the letter in. A value is one line of text wherever it stands:
// it cannot end a header, add a paragraph or become markup.
func (l letter) render(lang string, data map[string]string, items ...string) (c content, err error) {
	flat := map[string]string{}
	for k, v := range data {
		flat[k] = oneLine(v)
	}
	fill := func(t *template.Template) string {
		var b bytes.Buffer
		if e := t.Execute(&b, flat); e != nil && err == nil {
			err = e
		}
		return strings.TrimSpace(b.String())
	}
	c.Subject = fill(l.subject)
	var text, body strings.Builder
	for _, p := range l.paragraphs {
		if p.list {
			body.WriteString("<ul style=\"margin:0 0 16px;padding:0 0 0 24px\">\n")
			for _, item := range items {
				flat["item"] = oneLine(item)
				words := fill(p.text)
				text.WriteString("- " + words + "\n")
				fmt.Fprintf(&body, "<li>%s</li>\n", html.EscapeString(words))
			}
			text.WriteString("\n")
			body.WriteString("</ul>\n")
			continue
		}
		words := fill(p.text)
		if p.label == "" {
			text.WriteString(words + "\n\n")
			fmt.Fprintf(&body, "<p style=\"margin:0 0 16px\">%s</p>\n", html.EscapeString(words))
			continue
		}
		if u, e := url.Parse(words); err == nil && (e != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			return c, fmt.Errorf("the link %q does not lead to a page", p.label)
		}
		text.WriteString(p.label + ":\n" + words + "\n\n")
		fmt.Fprintf(&body, "<p style=\"margin:0 0 24px\"><a href=\"%s\" style=\"display:inline-block;padding:12px 20px;border-radius:6px;background:#1f4e8c;color:#ffffff;text-decoration:none\">%s</a></p>\n",
			html.EscapeString(words), html.EscapeString(p.label))
	}
	c.Text = text.String() + "-- \nChainReactions\n"
	c.HTML = fmt.Sprintf(`<!doctype html>
<html lang="%s"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>%s</title></head>
<body style="margin:0;padding:24px;background:#f4f6f8;color:#1b1f24;font:16px/1.5 system-ui,'PingFang SC','Microsoft YaHei',sans-serif">
<div style="max-width:560px;margin:0 auto;padding:32px;background:#ffffff;border-radius:8px">
%s<p style="margin:24px 0 0;color:#5b6570;font-size:13px">ChainReactions</p>
</div></body></html>
`, map[string]string{"en": "en", "zh": "zh-CN"}[lang], html.EscapeString(c.Subject), body.String())
	return c, err
}

// oneLine makes control characters, line ends and the marks that turn the
// direction of text into spaces.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	}), " ")
}
