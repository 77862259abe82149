package sandbox

import (
	"bytes"
	"compress/gzip"
	"sync"
)

// bomb is 200 MB of spaces in some hundred kilobytes.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for range 200 {
		_, _ = w.Write(chunk) // into memory
	}
	_ = w.Close()
	return b.Bytes()
})
