package registryv1

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"

	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

// errBadTar is a layer that is no tar, or one that is packed in a way that nobody can unpack.
var errBadTar = errors.New("not a tar")

// meter looks at a layer while it streams to the store: its digest, the payload's checksum, how it is packed, the digest of
// what is in it, and how many entries that has. Everything of it is whole when finish has been called.
type meter struct {
	raw     hash.Hash
	payload *imagev1.Payload
	to      *io.PipeWriter
	done    chan struct{} // closed when the unpacking side has ended
	refused error         // why Write failed: the unpacking side's error

	// Of the unpacking side.
	diff     digest.Digest
	encoding graph.Encoding
	entries  int
	err      error
}

func newMeter(json []byte) *meter {
	from, to := io.Pipe()
	m := &meter{raw: sha256.New(), payload: imagev1.NewPayload(json), to: to, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.err = m.unpack(from)
		from.CloseWithError(m.err) // nil: nobody writes any more
	}()
	return m
}

// Write implements io.Writer; it fails as soon as the layer turns out to be none.
func (m *meter) Write(p []byte) (int, error) {
	m.raw.Write(p)
	_, _ = m.payload.Write(p)
	n, err := m.to.Write(p)
	m.refused = err
	return n, err
}

// finish is called at the layer's end.
func (m *meter) finish() (digest.Digest, error) {
	m.to.Close()
	<-m.done
	if m.err != nil {
		return "", m.err
	}
	return digest.NewDigest(digest.SHA256, m.raw), nil
}

// stop ends the unpacking side, whatever has become of the layer.
func (m *meter) stop() {
	m.to.CloseWithError(errors.New("the layer was given up"))
	<-m.done
}

// unpack reads to the end, padding included: it is part of the digest.
func (m *meter) unpack(from io.Reader) error {
	in := bufio.NewReaderSize(from, 64<<10)
	m.encoding = encodingOf(in)
	r, err := unpacker(in, m.encoding)
	if err != nil {
		return fmt.Errorf("%w: %w", errBadTar, err)
	}
	defer r.Close()
	sum := sha256.New()
	all := io.TeeReader(r, sum)
	entries := tar.NewReader(all)
	for {
		_, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBadTar, err)
		}
		m.entries++
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return fmt.Errorf("%w: %w", errBadTar, err)
	}
	m.diff = digest.NewDigest(digest.SHA256, sum)
	return nil
}

var magics = []struct {
	encoding graph.Encoding
	magic    string
}{
	{graph.Gzip, "\x1f\x8b\x08"}, {graph.Bzip2, "BZh"}, {graph.Xz, "\xfd7zXZ\x00"}, {graph.Zstd, "\x28\xb5\x2f\xfd"},
}

// encodingOf looks at the first bytes, as docker did.
func encodingOf(in *bufio.Reader) graph.Encoding {
	head, _ := in.Peek(6) //nolint:errcheck // a short layer is read as a tar, and fails as one
	for _, m := range magics {
		if len(head) >= len(m.magic) && string(head[:len(m.magic)]) == m.magic {
			return m.encoding
		}
	}
	return graph.Plain
}

// maxWindow bounds the memory that a packed layer may ask for, in bytes.
const maxWindow = 128 << 20

// unpacker reads what is in a layer. Closing it does not close in.
func unpacker(in io.Reader, e graph.Encoding) (io.ReadCloser, error) {
	switch e {
	case graph.Gzip:
		return gzip.NewReader(in)
	case graph.Bzip2:
		return io.NopCloser(bzip2.NewReader(in)), nil
	case graph.Xz:
		r, err := xz.ReaderConfig{DictCap: maxWindow}.NewReader(in)
		return io.NopCloser(r), err
	case graph.Zstd:
		r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}
