package backup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
)

// Which pages changed is read from the database's own log (SQLite's WAL,
// https://www.sqlite.org/fileformat2.html#walformat), so that a round costs what
// changed and not what there is.

const (
	walHeader   = 32
	frameHeader = 24
)

// walMark is a place in one generation of the log: the salt changes whenever the
// log begins anew. The sum is that of all before it.
type walMark struct {
	salt uint64
	at   int64
	sum  walSum
}

// walSum is the checksum that each frame of the log has of itself and all before it.
type walSum struct{ a, b uint32 }

func (s walSum) add(order binary.ByteOrder, text []byte) walSum {
	for ; len(text) >= 8; text = text[8:] {
		s.a += order.Uint32(text) + s.b
		s.b += order.Uint32(text[4:]) + s.a
	}
	return s
}

// walSince gives the pages that the log has from a mark on, and two marks: where it
// ends, and how far surely is seen by whoever begins to read now. known is false
// where the log began anew since: then any page may have changed.
//
// The last transaction in the log may not be published yet, nor is what follows the
// last commit: the sure mark is before them, and they are read again the next time.
func walSince(path string, pageSize int, from walMark) (pages []uint32, sure, end walMark, known bool, err error) {
	log, err := os.Open(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sure, end, false, nil
	}
	if err != nil {
		return nil, sure, end, false, err
	}
	defer log.Close()
	var head [walHeader]byte
	if _, err := log.ReadAt(head[:], 0); err == io.EOF {
		return nil, sure, end, false, nil
	} else if err != nil {
		return nil, sure, end, false, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[3]&1 == 1 {
		order = binary.BigEndian
	}
	end = walMark{binary.BigEndian.Uint64(head[16:]), walHeader, walSum{}.add(order, head[:24])}
	if end.sum != (walSum{binary.BigEndian.Uint32(head[24:]), binary.BigEndian.Uint32(head[28:])}) {
		return nil, sure, walMark{}, false, nil // it is just beginning
	}
	if known = end.salt == from.salt && from.at >= walHeader; known {
		end = from
	}
	sure = end
	last := end // where the last transaction ends
	if _, err := log.Seek(end.at, io.SeekStart); err != nil {
		return nil, sure, end, false, err
	}
	in := bufio.NewReaderSize(log, 1<<20)
	frame := make([]byte, frameHeader+pageSize)
	for {
		if _, err := io.ReadFull(in, frame); err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return nil, sure, end, false, err
		}
		sum := end.sum.add(order, frame[:8]).add(order, frame[frameHeader:])
		if binary.BigEndian.Uint64(frame[8:]) != end.salt || sum != (walSum{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])}) {
			break // of a former generation, or not written yet
		}
		pages = append(pages, binary.BigEndian.Uint32(frame))
		end = walMark{end.salt, end.at + int64(len(frame)), sum}
		if binary.BigEndian.Uint32(frame[4:]) != 0 { // it commits
			sure, last = last, end
		}
	}
	return pages, sure, end, known, nil
}
