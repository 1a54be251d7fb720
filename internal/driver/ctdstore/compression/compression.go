// Package compression recognises and undoes the compressions that image archives and layers come in: gzip, zstd, xz and
// bzip2. Decompression runs ahead of its reader in a goroutine of its own, so that hashing and unpacking overlap with it.
package compression

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Kind is a compression.
type Kind int

// The compressions. None is also what is not recognised.
const (
	None Kind = iota
	Gzip
	Zstd
	Xz
	Bzip2
)

var magics = []struct {
	kind  Kind
	magic []byte
}{
	{Gzip, []byte{0x1f, 0x8b, 0x08}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{Xz, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
	{Bzip2, []byte("BZh")},
}

// Detect tells the compression from a stream's first bytes (ten are enough). A zstd stream may begin with skippable
// frames (RFC 8878 section 3.1.2).
func Detect(head []byte) Kind {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.kind
		}
	}
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}) {
		return Zstd
	}
	return None
}

// NewReader gives r's uncompressed bytes and what it was compressed with. Close releases the decompressor and waits for
// its goroutine; it does not close r. r must not block for ever once the caller gives up, or Close does too.
func NewReader(r io.Reader) (io.ReadCloser, Kind, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, None, fmt.Errorf("read head: %w", err)
	}
	kind := Detect(head)
	switch kind {
	case Gzip:
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, kind, fmt.Errorf("gzip: %w", err)
		}
		return newAhead(zr), kind, nil
	case Zstd:
		zr, err := zstd.NewReader(br, zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(512<<20))
		if err != nil {
			return nil, kind, fmt.Errorf("zstd: %w", err)
		}
		return zr.IOReadCloser(), kind, nil
	case Xz:
		zr, err := xz.NewReader(br)
		if err != nil {
			return nil, kind, fmt.Errorf("xz: %w", err)
		}
		return newAhead(zr), kind, nil
	case Bzip2:
		return newAhead(bzip2.NewReader(br)), kind, nil
	}
	return io.NopCloser(br), None, nil
}

const (
	chunkSize  = 256 << 10
	chunksKept = 8
)

// ahead reads from a decompressor in a goroutine, up to chunksKept chunks before its reader.
type ahead struct {
	full  chan chunk
	empty chan []byte
	stop  chan struct{}
	once  sync.Once
	done  sync.WaitGroup
	cur   chunk
	off   int
}

type chunk struct {
	b   []byte
	err error
}

func newAhead(r io.Reader) *ahead {
	a := &ahead{full: make(chan chunk, chunksKept), empty: make(chan []byte, chunksKept), stop: make(chan struct{})}
	for range chunksKept {
		a.empty <- nil // allocated when first used: small streams need one
	}
	a.done.Go(func() { a.fill(r) })
	return a
}

func (a *ahead) fill(r io.Reader) {
	for {
		var b []byte
		select {
		case <-a.stop:
			return
		case b = <-a.empty:
		}
		if b == nil {
			b = make([]byte, chunkSize)
		}
		n, err := readFull(r, b[:chunkSize])
		select {
		case <-a.stop:
			return
		case a.full <- chunk{b[:n], err}:
		}
		if err != nil {
			return
		}
	}
}

// readFull fills b as far as r goes. Unlike io.ReadFull it keeps r's own error, so that a truncated stream
// (io.ErrUnexpectedEOF) is told from one that ends.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	for a.off == len(a.cur.b) {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.b != nil {
			a.empty <- a.cur.b[:chunkSize]
		}
		a.cur, a.off = <-a.full, 0
	}
	n := copy(p, a.cur.b[a.off:])
	a.off += n
	return n, nil
}

// Close implements io.Closer.
func (a *ahead) Close() error {
	a.once.Do(func() { close(a.stop) })
	a.done.Wait()
	return nil
}
