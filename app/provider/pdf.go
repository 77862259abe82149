package provider

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/klippa-app/go-pdfium"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/chainreactions/chainreactions/domain/research"
)

// PDF files are read by PDFium, Chrome's own reader, as WebAssembly inside this
// process: whatever a hostile file makes of it, it has no files, no network and no
// memory but its own, and is stopped when its time is over. Each file gets an
// instance of its own, so no text of one is seen by the next.

const (
	maxPDF     = 10 << 20         // bytes: half a file cannot be read, so a longer one is not
	maxSheets  = 100              // pages that are read; what is beyond is cut off and said so
	maxPDFText = 2 << 20          // bytes of text, likewise
	pdfTime    = 15 * time.Second // of one file
	pdfMemory  = 2048             // pages of 64 KB
)

// PDF says how PDF files are read.
type PDF struct {
	// CodeDir is where the compiled code of the reader is kept; "" has it interpreted,
	// which is some twenty times slower and takes 130 MB for good. To compile it takes
	// five seconds of one core and 300 MB, once for a directory.
	CodeDir string
	Time    time.Duration // that one file may take; 0 is 15 seconds
}

// paper is the engine. It is made with the first file.
type paper struct {
	once sync.Once
	pool pdfium.Pool
	err  error
}

// pdfEngine is the process's: its code is the same for whoever a file is read.
var pdfEngine paper

func (e *paper) open(codeDir string) (pdfium.Pool, error) {
	e.once.Do(func() {
		config := wazero.NewRuntimeConfigInterpreter()
		if codeDir != "" {
			if kept, err := wazero.NewCompilationCacheWithDir(codeDir); err == nil { // where nothing can be kept, interpreted it is
				config = wazero.NewRuntimeConfig().WithCompilationCache(kept)
			}
		}
		config = config.WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling).
			WithCloseOnContextDone(true).WithMemoryLimitPages(pdfMemory)
		e.pool, e.err = webassembly.Init(webassembly.Config{Context: context.Background(), MaxTotal: runtime.GOMAXPROCS(0), RuntimeConfig: config,
			FSConfig: wazero.NewFSConfig(), Stdout: io.Discard, Stderr: io.Discard, RandomSource: rand.Reader})
	})
	return e.pool, e.err
}

// readPDF makes text of a file. What is not read of it, for its length or its time,
// is said by Truncated.
func readPDF(ctx context.Context, how PDF, raw []byte, page *research.Page) error {
	pool, err := pdfEngine.open(how.CodeDir)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, cmp.Or(how.Time, pdfTime))
	defer cancel()
	reader, err := pool.GetInstanceWithContext(bounded)
	if err != nil {
		return err
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(bounded, func() {
		defer close(killed)
		_ = reader.Kill() // what it is at ends with an error
	})
	err = sheets(reader, raw, page)
	if !stop() {
		<-killed
		err = bounded.Err()
	} else if closed := reader.Close(); err == nil {
		err = closed
	}
	if err != nil && page.Text != "" && ctx.Err() == nil {
		page.Truncated, err = true, nil // what was read before is true
	}
	return err
}

// sheets reads page after page into page.Text.
func sheets(reader pdfium.Pdfium, raw []byte, page *research.Page) (err error) {
	defer func() {
		if r := recover(); r != nil { // the engine's own guard against it is on its calls alone
			err = fmt.Errorf("pdf: %v", r)
		}
	}()
	file, err := reader.OpenDocument(&requests.OpenDocument{File: &raw})
	if err != nil {
		return err
	}
	if info, err := reader.GetMetaData(&requests.GetMetaData{Document: file.Document, Tags: &[]string{"Title", "CreationDate"}}); err == nil {
		for _, tag := range info.Tags {
			switch value := strings.Trim(tidy(tag.Value), "\x00"); tag.Tag {
			case "Title":
				page.Title = cut(value, 500)
			case "CreationDate": // D:20240517080000Z
				if d := strings.TrimPrefix(value, "D:"); len(d) >= 8 {
					page.PublishedAt = published(d[:4] + "-" + d[4:6] + "-" + d[6:8])
				}
			}
		}
	}
	if said, err := reader.FPDFCatalog_GetLanguage(&requests.FPDFCatalog_GetLanguage{Document: file.Document}); err == nil {
		if l := strings.ToLower(said.Language); len(l) == 2 || len(l) > 2 && l[2] == '-' {
			page.Language = l[:2]
		}
	}
	count, err := reader.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: file.Document})
	if err != nil {
		return err
	}
	for i := range count.PageCount {
		if i == maxSheets || len(page.Text) > maxPDFText {
			page.Truncated = true
			break
		}
		sheet, err := reader.GetPageText(&requests.GetPageText{Page: requests.Page{ByIndex: &requests.PageByIndex{Document: file.Document, Index: i}}})
		if err != nil {
			return err
		}
		page.Text += paragraphs(sheet.Text)
	}
	if count.PageCount == 0 {
		return errors.New("pdf: a file without pages")
	}
	return nil
}

// paragraphs joins the lines of a page, which end where the paper ended, to what a
// reader reads in one go. A line ends for itself where it ends a sentence or stands
// well short of the margin; hyphenation at a line's end becomes a soft hyphen, as it
// is in HTML.
func paragraphs(sheet string) string {
	lines := strings.FieldsFunc(sheet, func(r rune) bool { return r == '\n' || r == '\r' })
	margin := 0
	for i := range lines {
		lines[i] = tidy(strings.Map(func(r rune) rune {
			switch {
			case r == '\x02' || r == '\ufffe': // PDFium's mark of a hyphen that a line's end made
				return '\u00ad'
			case r != '\t' && unicode.IsControl(r):
				return -1
			}
			return r
		}, lines[i]))
		margin = max(margin, utf8.RuneCountInString(lines[i]))
	}
	var out strings.Builder
	joined := 0
	for i, line := range lines {
		out.WriteString(line)
		last, _ := utf8.DecodeLastRuneInString(line)
		next := rune(0)
		if i+1 < len(lines) {
			next, _ = utf8.DecodeRuneInString(lines[i+1])
		}
		joined++
		switch {
		case last == '\u00ad':
		case next == 0 || strings.ContainsRune(".!?:;。！？：；…", last) || utf8.RuneCountInString(line)*10 < margin*7 || joined >= 12:
			out.WriteByte('\n')
			joined = 0
		case wide(last) && wide(next):
		default:
			out.WriteByte(' ')
		}
	}
	return out.String()
}

// wide reports a character of a script that is written without spaces.
func wide(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana) || slices.Contains([]rune("、，。（）「」『』《》：；"), r)
}
