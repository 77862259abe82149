package sandbox

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
)

// papers are the fonts of a PDF by language: one of those that every reader has,
// and for Chinese and Japanese a collection whose code is UCS-2, so that no font
// need be in the file.
var papers = map[string]struct{ font, encoding, collection string }{
	"en": {"Helvetica", "WinAnsiEncoding", ""},
	"zh": {"STSong-Light", "UniGB-UCS2-H", "GB1"},
	"ja": {"HeiseiMin-W3", "UniJIS-UCS2-H", "Japan1"},
}

// paper is the page as a PDF file: its lines end at the margin, where the words of
// a sentence happen to be, and its second half is on a sheet of its own.
func (p *Page) paper() []byte {
	how, known := papers[p.Language]
	if !known {
		panic("sandbox: page " + p.ID + ": no PDF in this language") // our own file
	}
	say := func(line string) string {
		if how.collection == "" {
			return "(" + strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(line) + ")"
		}
		return "<" + hex16(line) + ">"
	}
	font := fmt.Sprintf("<< /Type /Font /Subtype /Type1 /BaseFont /%s /Encoding /%s >>", how.font, how.encoding)
	if how.collection != "" {
		font = fmt.Sprintf("<< /Type /Font /Subtype /Type0 /BaseFont /%s /Encoding /%s /DescendantFonts [<< /Type /Font /Subtype /CIDFontType0 /BaseFont /%[1]s "+
			"/CIDSystemInfo << /Registry (Adobe) /Ordering (%[3]s) /Supplement 2 >> /DW 1000 /FontDescriptor << /Type /FontDescriptor /FontName /%[1]s /Flags 4 "+
			"/FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >> >>] >>", how.font, how.encoding, how.collection)
	}
	pars := strings.Split(p.Body, "\n\n")
	sheets := [][]string{append([]string{p.Title}, pars[:1]...), pars[1:]}
	if len(pars) == 1 {
		sheets = sheets[:1]
	}
	objects := []string{"<< /Type /Catalog /Pages 2 0 R /Lang (" + p.Language + ") >>", "", font,
		fmt.Sprintf("<< /Title <FEFF%s> /CreationDate (D:%s080000Z) >>", hex16(p.Title), strings.ReplaceAll(p.Date, "-", ""))}
	var kids []string
	for _, sheet := range sheets {
		var text strings.Builder
		text.WriteString("BT /F1 11 Tf 15 TL 60 780 Td\n")
		for _, par := range sheet {
			for _, line := range wrapped(par, how.collection != "") {
				text.WriteString(say(line) + " Tj T*\n")
			}
			text.WriteString("T*\n")
		}
		text.WriteString("ET")
		n := len(objects) + 1
		objects = append(objects, fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>", n+1),
			fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", text.Len(), text.String()))
		kids = append(kids, fmt.Sprintf("%d 0 R", n))
	}
	objects[1] = fmt.Sprintf("<< /Type /Pages /Kids [%s] /Count %d >>", strings.Join(kids, " "), len(kids))
	return PDF("/Info 4 0 R", objects...)
}

// PDF is a file of these objects, the first of them its catalog; more is what else
// its trailer names.
func PDF(more string, objects ...string) []byte {
	var out bytes.Buffer
	out.WriteString("%PDF-1.5\n")
	at := make([]int, len(objects))
	for i, o := range objects {
		at[i] = out.Len()
		fmt.Fprintf(&out, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	start := out.Len()
	fmt.Fprintf(&out, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, offset := range at {
		fmt.Fprintf(&out, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&out, "trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, more, start)
	return out.Bytes()
}

// endless is a PDF file whose one page draws a form that draws itself, twice.
func endless() []byte {
	return PDF("", "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /XObject << /X 5 0 R >> >> /Contents 4 0 R >>", "<< /Length 5 >>\nstream\n/X Do\nendstream",
		"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >> /Length 11 >>\nstream\n/X Do /X Do\nendstream")
}

func hex16(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, "%04X", u)
	}
	return b.String()
}

// wrapped cuts a paragraph into lines.
func wrapped(par string, wide bool) (lines []string) {
	if wide {
		for r := []rune(strings.TrimSpace(par)); len(r) > 0; {
			n := min(len(r), 24)
			lines, r = append(lines, string(r[:n])), r[n:]
		}
		return lines
	}
	line := ""
	for _, word := range strings.Fields(par) {
		if len(line)+1+len(word) > 72 && line != "" {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
