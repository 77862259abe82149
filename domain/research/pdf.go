package research

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/signintech/gopdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
)

// The report is set in two fonts that are embedded as subsets: Go (BSD) for
// Latin, Greek and Cyrillic, and Droid Sans Fallback (Apache 2.0) for Chinese,
// Japanese and Korean. Scripts that must be shaped (Arabic, Hebrew, Indic) are
// not set: such a quote is named and left to the other formats.
//
//go:embed fonts/DroidSansFallback.ttf
var droidFallback []byte

const (
	pageWidth, pageHeight = 595.28, 841.89 // A4, in points
	margin                = 56.0
)

// report writes flowing text onto pages.
type report struct {
	pdf  *gopdf.GoPdf
	y    float64
	size float64
	bold bool
	left float64
	err  error
}

func newReport(title string) (*report, error) {
	r := &report{pdf: &gopdf.GoPdf{}, left: margin}
	r.pdf.Start(gopdf.Config{PageSize: gopdf.Rect{W: pageWidth, H: pageHeight}})
	r.pdf.SetInfo(gopdf.PdfInfo{Title: title, Creator: "ChainReactions", Producer: "ChainReactions"})
	for name, font := range map[string][]byte{"regular": goregular.TTF, "bold": gobold.TTF, "cjk": droidFallback} {
		// What a font lacks was sorted out by set: nothing is left to miss.
		if err := r.pdf.AddTTFFontDataWithOption(name, font, gopdf.TtfOption{OnGlyphNotFoundSubstitute: func(rune) rune { return '?' }}); err != nil {
			return nil, err
		}
	}
	r.page()
	return r, nil
}

func (r *report) page() {
	r.pdf.AddPage()
	r.y = margin
}

// fontOf says which font has the rune; "" for none.
func (r *report) fontOf(c rune) string {
	switch {
	case isCJK(c), c >= 0x3000 && c <= 0x303F, c >= 0xFF00 && c <= 0xFFEF:
		return "cjk"
	case c < 0x250, unicode.In(c, unicode.Greek, unicode.Cyrillic), strings.ContainsRune("–—‘’“”…•€№™−", c):
		if r.bold {
			return "bold"
		}
		return "regular"
	}
	return ""
}

// settable makes a text one that the fonts have.
func settable(s string) string {
	lost := 0
	out := strings.Map(func(c rune) rune {
		switch {
		case ignorable(c) || unicode.IsControl(c):
			return -1
		case unicode.In(c, unicode.Mn):
			return -1
		case (&report{}).fontOf(c) == "" && !unicode.IsSpace(c):
			lost++
			return '·'
		case unicode.IsSpace(c):
			return ' '
		}
		return c
	}, s)
	if lost*3 > len([]rune(s)) {
		return "[a text in a script that this report cannot set; see the JSON export]"
	}
	return out
}

// pieces cut a line where it may break: after a space, and around every CJK
// character.
func pieces(s string) []string {
	var out []string
	var b strings.Builder
	for _, c := range s {
		if isCJK(c) {
			if b.Len() > 0 {
				out = append(out, b.String())
				b.Reset()
			}
			out = append(out, string(c))
			continue
		}
		b.WriteRune(c)
		if c == ' ' || c == '/' || b.Len() > 60 {
			out = append(out, b.String())
			b.Reset()
		}
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}

// runs part a text by font.
func (r *report) runs(s string, fn func(font, text string)) {
	var b strings.Builder
	last := ""
	for _, c := range s {
		if f := r.fontOf(c); f != last && b.Len() > 0 {
			fn(last, b.String())
			b.Reset()
		}
		last = r.fontOf(c)
		b.WriteRune(c)
	}
	if b.Len() > 0 {
		fn(last, b.String())
	}
}

func (r *report) do(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *report) width(s string) (w float64) {
	r.runs(s, func(font, text string) {
		r.do(r.pdf.SetFont(font, "", r.size))
		n, err := r.pdf.MeasureTextWidth(text)
		r.do(err)
		w += n
	})
	return w
}

// text sets a paragraph.
func (r *report) text(size float64, bold bool, s string) {
	r.size, r.bold = size, bold
	line, width := "", 0.0
	flush := func() {
		if r.y+size*1.4 > pageHeight-margin {
			r.page()
		}
		r.pdf.SetXY(r.left, r.y)
		r.runs(strings.TrimRight(line, " "), func(font, text string) {
			r.do(r.pdf.SetFont(font, "", size))
			r.do(r.pdf.Cell(nil, text))
		})
		r.y += size * 1.4
		line, width = "", 0
	}
	for _, p := range pieces(settable(s)) {
		w := r.width(p)
		if width+w > pageWidth-margin-r.left && line != "" {
			flush()
		}
		line += p
		width += w
	}
	if line != "" {
		flush()
	}
}

func (r *report) gap(points float64) { r.y += points }

// writePDF writes the report: what was asked, what was found of each risk item
// with its quotes, and the numbered sources.
func writePDF(w io.Writer, run Run) error {
	title := map[string]string{KindRelations: "Entity relations", KindEntity: "Entity search", KindDataset: "Dataset search"}[run.Kind] + ": " + run.Title
	r, err := newReport(title)
	if err != nil {
		return err
	}
	res := run.Result
	r.text(18, true, title)
	if run.Sandbox {
		r.text(10, true, "SANDBOX: an emulator answered in a vendor's place; organisations and pages are invented.")
	}
	when := run.CreatedAt
	if run.EndedAt != nil {
		when = *run.EndedAt
	}
	r.text(9, false, fmt.Sprintf("Run %s, %s, ended %s: %s", run.ID, strings.TrimSpace(run.Kind+" "+run.Mode), when.UTC().Format(time.RFC3339), run.Status))
	r.text(9, false, fmt.Sprintf("%d searches, %d sources, %d calls to vendors. A quote is marked verified where it stands in the text that was retrieved, names both ends and is not denied.",
		len(res.Searches), len(res.Sources), run.Calls))
	for _, line := range res.NotDone {
		r.text(9, true, "Not done: "+line)
	}
	numbers := map[string]int{}
	var cited []Evidence
	cite := func(e Evidence) int {
		if numbers[e.URL] == 0 {
			cited = append(cited, e)
			numbers[e.URL] = len(cited)
		}
		return numbers[e.URL]
	}
	evidence := func(list []Evidence) {
		r.left = margin + 14
		for _, e := range list[:min(len(list), 12)] {
			mark := "verified"
			if !e.Verified {
				mark = "not verified: " + e.Reason
			}
			if e.Hearsay {
				mark += ", hearsay"
			}
			if e.Quote != "" {
				r.text(9.5, false, fmt.Sprintf("“%s” [%d] (%s)", shorten(e.Quote, 700), cite(e), mark))
				r.gap(2)
			}
		}
		if len(list) > 12 {
			r.text(9, false, fmt.Sprintf("and %d more, in the other formats", len(list)-12))
		}
		r.left = margin
	}
	for _, rel := range res.Relations {
		r.gap(10)
		r.text(13, true, rel.Target)
		r.text(10, true, fmt.Sprintf("%s, confidence %s", strings.ReplaceAll(rel.Type, "_", " "), number(rel.Confidence)))
		if rel.Error != nil {
			r.text(9.5, false, "This check failed: "+rel.Error.Detail)
		}
		if len(rel.Intermediaries) > 0 {
			r.text(9.5, false, "Through: "+strings.Join(rel.Intermediaries, "; "))
		}
		r.text(9.5, false, rel.Summary)
		evidence(rel.Evidence)
	}
	if p := res.Profile; p != nil {
		r.gap(10)
		r.text(13, true, "Profile ("+p.Completeness+")")
		for _, f := range profileFields {
			for _, fact := range p.Fields[f.Name] {
				var refs []string
				for _, s := range res.Sources {
					if slices.Contains(fact.SourceIDs, s.ID) {
						refs = append(refs, fmt.Sprintf("[%d]", cite(s.evidence("claim"))))
					}
				}
				r.text(9.5, false, strings.ReplaceAll(f.Name, "_", " ")+": "+fact.Value+" "+strings.Join(refs, ""))
			}
		}
	}
	for _, s := range res.Signals {
		r.gap(8)
		r.text(12, true, s.Keyword+": "+s.Severity)
		evidence(s.Evidence)
	}
	r.gap(14)
	r.text(13, true, "Sources")
	for i, e := range cited {
		line := fmt.Sprintf("[%d] %s. %s", i+1, e.Title, e.URL)
		if e.PublishedAt != "" {
			line += ", published " + e.PublishedAt
		}
		if e.RetrievedAt != nil {
			line += ", retrieved " + stamp(e.RetrievedAt)
		}
		r.text(8.5, false, line+" ("+e.SourceType+")")
	}
	if r.err != nil {
		return r.err
	}
	_, err = r.pdf.WriteTo(w)
	return err
}
