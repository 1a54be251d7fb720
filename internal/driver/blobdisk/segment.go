package blobdisk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"longshore/internal/base/atomicfile"
)

// segment is a file of the log. Its records carry its generation, another each time it is emptied: old ones behind the
// end are not taken for new ones.
type segment struct {
	f          *os.File
	generation uint64
	at         int64 // its end; guarded by intake.mu while it is in use
	pending    int   // blobs that are in it and may not have their names yet; guarded by intake.mu
}

// A record is a header and the blob's bytes:
//
//	0  magic   4  length of the bytes   8  generation   16  algorithm   20  sum, padded   84  CRC-32C of the header so far
const (
	recordMagic = 0x4c536931
	headerSize  = 88
)

var (
	algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func recordSize(n int) int { return headerSize + n }

func (s *segment) room() int { return int(segmentSize - s.at) }

// appendRecord appends a record to b.
func appendRecord(b []byte, generation uint64, d digest.Digest, data []byte) ([]byte, error) {
	var h [headerSize]byte
	binary.LittleEndian.PutUint32(h[0:], recordMagic)
	binary.LittleEndian.PutUint32(h[4:], uint32(len(data)))
	binary.LittleEndian.PutUint64(h[8:], generation)
	for i, alg := range algorithms {
		if alg == d.Algorithm() {
			h[16] = byte(i + 1)
		}
	}
	if _, err := hex.Decode(h[20:84], []byte(d.Encoded())); err != nil || h[16] == 0 {
		return b, fmt.Errorf("no record for %s", d)
	}
	binary.LittleEndian.PutUint32(h[84:], crc32.Checksum(h[:84], castagnoli))
	return append(append(b, h[:]...), data...), nil
}

// readRecord reads one; ok is false at the log's end.
func readRecord(r io.Reader, left int64) (generation uint64, d digest.Digest, data []byte, ok bool) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil || binary.LittleEndian.Uint32(h[0:]) != recordMagic ||
		binary.LittleEndian.Uint32(h[84:]) != crc32.Checksum(h[:84], castagnoli) {
		return 0, "", nil, false
	}
	n := int64(binary.LittleEndian.Uint32(h[4:]))
	if n > left-headerSize || n > smallBlob || h[16] == 0 || int(h[16]) > len(algorithms) {
		return 0, "", nil, false
	}
	alg := algorithms[h[16]-1]
	data = make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, "", nil, false
	}
	d = digest.NewDigestFromBytes(alg, h[20:20+alg.Size()])
	return binary.LittleEndian.Uint64(h[8:]), d, data, alg.FromBytes(data) == d
}

// write writes a batch whose places have been chosen, and syncs it. buf is memory to be used again.
func (s *segment) write(buf *[]byte, batch []*arrival) error {
	b := (*buf)[:0]
	var err error
	for _, a := range batch {
		if b, err = appendRecord(b, s.generation, a.digest, a.data); err != nil {
			return err
		}
	}
	*buf = b
	if _, err := s.f.WriteAt(b, batch[0].offset); err != nil {
		return err
	}
	return unix.Fdatasync(int(s.f.Fd()))
}

// empty forgets the records. It is not synced: those of a power cut before are put back once more, which does no harm.
func (s *segment) empty() error {
	s.at, s.generation = 0, rand.Uint64()
	_, err := s.f.WriteAt(make([]byte, headerSize), 0)
	return err
}

// makeSegment makes a file that is written to in place ever after, so that its syncs concern nothing but its bytes.
func makeSegment(dir string) (*segment, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "*")
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = io.CopyBuffer(f, io.LimitReader(zeros{}, segmentSize), make([]byte, 64<<10))
	}
	if err == nil {
		err = errors.Join(f.Sync(), atomicfile.SyncDir(dir), atomicfile.SyncDir(filepath.Dir(dir)))
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	return &segment{f: f, generation: rand.Uint64()}, nil
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// recover takes over the segments that other stores have left and gives back what they hold: a blob whose file is not
// there, or does not have its bytes, is written again. That it can be read does not say that it is on the disk: segments
// that are not empty keep their records until they are settled.
func (s *Store) recover() error {
	entries, err := os.ReadDir(s.intake.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.OpenFile(filepath.Join(s.intake.dir, e.Name()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close() // another store of this folder is using it
			continue
		}
		if err := s.takeOver(f); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return nil
}

// takeOver makes a segment this store's.
func (s *Store) takeOver(f *os.File) error {
	records, err := s.replay(f)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	k, seg := s.intake, &segment{f: f}
	switch {
	case records > 0:
		k.full = append(k.full, seg)
	case fi.Size() != segmentSize || k.count >= maxSegments: // torn while it was made, of another version, or one too many
		return errors.Join(os.Remove(f.Name()), f.Close())
	default:
		if err := seg.empty(); err != nil {
			return err
		}
		k.clean = append(k.clean, seg)
	}
	k.count++
	return nil
}

// replay puts a segment's blobs in their places and says how many there are.
func (s *Store) replay(f *os.File) (records int, err error) {
	var generation uint64
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	for at := int64(0); at+headerSize <= fi.Size(); records++ {
		g, d, data, ok := readRecord(io.NewSectionReader(f, at, fi.Size()-at), fi.Size()-at)
		if !ok || at > 0 && g != generation {
			break
		}
		generation, at = g, at+int64(recordSize(len(data)))
		if err := s.restore(d, data); err != nil {
			return records, fmt.Errorf("restore blob %s: %w", d, err)
		}
	}
	return records, nil
}

func (s *Store) restore(d digest.Digest, data []byte) error {
	path, err := s.path(d)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	f, err := s.temporary()
	if err != nil {
		return err
	}
	defer unix.Unlink(f.Name()) //nolint:errcheck // gone already when all went well
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
