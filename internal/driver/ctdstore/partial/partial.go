// Package partial keeps the bytes of blobs that are on their way here, so that what has come outlives a broken connection,
// a pull that failed and a killed daemon: the next one goes on where it stopped.
//
//	b, err := store.Begin(dgst)   // with what an earlier attempt left
//	defer b.Close()               // keeps what there is
//	_, err = io.Copy(b, body)     // from b.Size() on
//	err = b.Finish(size)          // flushed and checked; b.Path() may be linked now
//	err = b.Remove()
//
// A file per blob, and beside it where its bytes came from. Nothing but the blob's digest vouches for them: after a power
// cut a file may hold anything, which Finish finds out. Sweep removes what nobody went on with.
package partial

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
)

// Origin tells where the bytes came from, for the question whether what is there now is still the same.
type Origin struct {
	// Host is the server, with port.
	Host string `json:"host"`
	// ETag is what the server called the blob; empty when it did not say.
	ETag string `json:"etag"`
}

// originSuffix ends the name of the file that holds an Origin as JSON.
const originSuffix = ".origin"

// worth is the size in bytes from which a beginning is kept.
const worth = 64 << 10

// Store is a directory of beginnings. It is safe for concurrent use; one blob has one writer at a time.
type Store struct {
	dir string

	mu   sync.Mutex
	busy map[digest.Digest]bool
}

// New names the directory, which is made when it is needed.
func New(dir string) *Store { return &Store{dir: dir, busy: map[digest.Digest]bool{}} }

// Blob is a blob that is being written.
type Blob struct {
	store  *Store
	dgst   digest.Digest
	file   *os.File
	hash   hash.Hash
	size   int64
	old    bool
	origin Origin
	gone   bool
}

// Begin opens a blob with what is there of it. It fails with ErrUnavailable while somebody else writes the same blob.
func (s *Store) Begin(d digest.Digest) (*Blob, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("begin blob %q: %w: %w", d, err, errdefs.ErrInvalidArgument)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[d] {
		return nil, fmt.Errorf("begin blob %s: it is being written: %w", d, errdefs.ErrUnavailable)
	}
	b, err := s.open(d)
	if err != nil {
		return nil, fmt.Errorf("begin blob %s: %w", d, err)
	}
	s.busy[d] = true
	return b, nil
}

func (s *Store) open(d digest.Digest) (*Blob, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	b := &Blob{store: s, dgst: d, hash: d.Algorithm().Hash()}
	var err error
	if b.file, err = os.OpenFile(b.Path(), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if b.size, err = io.CopyBuffer(onlyWriter{b.hash}, onlyReader{b.file}, make([]byte, 1<<20)); err != nil {
		return nil, errors.Join(err, b.file.Close())
	}
	b.old = b.size > 0
	if doc, err := os.ReadFile(b.Path() + originSuffix); err == nil && json.Unmarshal(doc, &b.origin) != nil {
		b.origin = Origin{}
	}
	return b, nil
}

// Path is the blob's file.
func (b *Blob) Path() string {
	return filepath.Join(b.store.dir, b.dgst.Algorithm().String()+"-"+b.dgst.Encoded())
}

// Size is how many bytes are there.
func (b *Blob) Size() int64 { return b.size }

// Inherited tells that some of the bytes were there before this writer.
func (b *Blob) Inherited() bool { return b.old }

// Origin is where the bytes came from, as From said.
func (b *Blob) Origin() Origin { return b.origin }

// From records where the bytes that follow come from.
func (b *Blob) From(o Origin) error {
	if b.origin == o {
		return nil
	}
	doc, err := json.Marshal(o)
	if err == nil {
		err = os.WriteFile(b.Path()+originSuffix, doc, 0o600)
	}
	if err != nil {
		return fmt.Errorf("record origin of blob %s: %w", b.dgst, err)
	}
	b.origin = o
	return nil
}

// Write implements io.Writer: bytes are added at the end.
func (b *Blob) Write(p []byte) (int, error) {
	n, err := b.file.Write(p)
	b.hash.Write(p[:n])
	b.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write blob %s: %w", b.dgst, err)
	}
	return n, nil
}

// Restart throws away what is there.
func (b *Blob) Restart() error {
	if err := b.file.Truncate(0); err != nil {
		return fmt.Errorf("begin blob %s anew: %w", b.dgst, err)
	}
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("begin blob %s anew: %w", b.dgst, err)
	}
	b.hash.Reset()
	b.size, b.old = 0, false
	return b.From(Origin{})
}

// Finish checks that the blob is whole and brings it to the disk. size is its length in bytes, 0 when it is not known. What is not
// the blob is ErrFailedPrecondition.
func (b *Blob) Finish(size int64) error {
	if size > 0 && b.size != size {
		return fmt.Errorf("blob %s: %d bytes instead of %d: %w", b.dgst, b.size, size, errdefs.ErrFailedPrecondition)
	}
	if got := digest.NewDigest(b.dgst.Algorithm(), b.hash); got != b.dgst {
		return fmt.Errorf("unexpected commit digest %s, expected %s: %w", got, b.dgst, errdefs.ErrFailedPrecondition)
	}
	if err := b.file.Sync(); err != nil {
		return fmt.Errorf("flush blob %s: %w", b.dgst, err)
	}
	if err := b.file.Chmod(0o444); err != nil { // as the blobs that it will be among
		return fmt.Errorf("protect blob %s: %w", b.dgst, err)
	}
	return nil
}

// Reader reads the blob from its beginning, for who cannot link its file.
func (b *Blob) Reader() io.Reader { return io.NewSectionReader(b.file, 0, b.size) }

// Remove takes the blob away; a link that was made of it stays.
func (b *Blob) Remove() error {
	b.gone = true
	err := os.Remove(b.Path())
	if oerr := os.Remove(b.Path() + originSuffix); !errors.Is(oerr, fs.ErrNotExist) {
		err = errors.Join(err, oerr)
	}
	if err != nil {
		return fmt.Errorf("remove beginning of blob %s: %w", b.dgst, err)
	}
	return nil
}

// Close ends writing and keeps what is there, if it is worth it.
func (b *Blob) Close() error {
	var err error
	if !b.gone && b.size < worth {
		err = b.Remove()
	}
	err = errors.Join(err, b.file.Close())
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	delete(b.store.busy, b.dgst)
	return err
}

// Sweep removes beginnings that nobody has written to since the time or that are not worth it, and tells how many bytes that freed.
func (s *Store) Sweep(before time.Time) (freed int64, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), originSuffix)
		algorithm, hex, _ := strings.Cut(name, "-")
		if s.busy[digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)] {
			continue
		}
		// A blob's origin is as old as its beginning; without one it is nothing.
		fi, serr := os.Stat(filepath.Join(s.dir, name))
		if serr == nil && fi.Size() >= worth && !fi.ModTime().Before(before) {
			continue
		}
		if serr == nil && name == e.Name() {
			freed += fi.Size()
		}
		if rerr := os.RemoveAll(filepath.Join(s.dir, e.Name())); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	if err != nil {
		return freed, fmt.Errorf("sweep beginnings of blobs: %w", err)
	}
	return freed, nil
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, so that the big buffer is used.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }
