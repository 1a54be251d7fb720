package logfile

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// farFuture stands for "nobody knows how new the last entry is".
var farFuture = time.Unix(1<<40, 0)

// segment is one file of a log.
type segment struct {
	f      *os.File
	ino    uint64
	size   int64 // when it was opened
	off    int64 // behind the last entry that was delivered
	active bool
	dec    decoder

	packed bool // f is compressed; unpack changes that
	newest time.Time
}

func (s *segment) close() {
	s.f.Close()
}

// lastTime is when the last entry was written if a compressed file's header tells, else the far future.
func (s *segment) lastTime() time.Time {
	if !s.packed {
		return farFuture
	}
	if s.newest.IsZero() {
		s.newest = farFuture
		if z, err := gzip.NewReader(io.NewSectionReader(s.f, 0, s.size)); err == nil {
			var extra struct{ LastTime time.Time }
			if json.Unmarshal(z.Extra, &extra) == nil && !extra.LastTime.IsZero() {
				s.newest = extra.LastTime
			}
		}
	}
	return s.newest
}

// unpack replaces a compressed file by an unpacked copy without a name. What a torn .gz still has is kept.
func (s *segment) unpack() error {
	if !s.packed {
		return nil
	}
	s.packed = false
	tmp, err := os.CreateTemp("", "longshore-log")
	if err != nil {
		return err
	}
	os.Remove(tmp.Name())
	if z, err := gzip.NewReader(io.NewSectionReader(s.f, 0, s.size)); err == nil {
		_, err = io.Copy(tmp, z)
		var full *fs.PathError
		if errors.As(err, &full) {
			tmp.Close()
			return err
		}
	}
	size, err := tmp.Seek(0, io.SeekCurrent)
	if err != nil {
		tmp.Close()
		return err
	}
	s.f.Close()
	s.f, s.size = tmp, size
	return nil
}

// rewindTruncated starts again when somebody has emptied the file.
func (s *segment) rewindTruncated() {
	if fi, err := s.f.Stat(); err == nil && fi.Size() < s.off {
		s.off, s.dec = 0, nil
	}
}

// segments are a log's files, the oldest first.
type segments []*segment

func (set segments) close() {
	for _, s := range set {
		if s != nil {
			s.close()
		}
	}
}

// after is the index behind the file with that inode; 0 when it is not among them.
func (set segments) after(ino uint64) int {
	for i, s := range set {
		if s.ino == ino {
			return i + 1
		}
	}
	return 0
}

// openTries bounds how often openAll starts again because of a rotation.
const openTries = 50

// openAll opens the files of a log as they are at one moment: it starts again when a rotation comes in between.
func openAll(path string) (segments, error) {
	for try := 0; ; try++ {
		set, steady, err := openOnce(path)
		if err != nil || steady || try == openTries {
			return set, err
		}
		set.close()
	}
}

func openOnce(path string) (set segments, steady bool, err error) {
	names, err := namesOf(path)
	if err != nil {
		return nil, false, err
	}
	opened := names[:0:0]
	for _, name := range names {
		s, err := openSegment(name, name == path)
		if errors.Is(err, fs.ErrNotExist) {
			set.close()
			return nil, false, nil
		}
		if err != nil {
			set.close()
			return nil, false, err
		}
		set, opened = append(set, s), append(opened, name)
	}
	again, err := namesOf(path)
	if err != nil || !slices.Equal(again, opened) {
		return set, false, err
	}
	for i, s := range set {
		if ino, err := inode(opened[i]); err != nil || ino != s.ino {
			return set, false, nil
		}
	}
	return set, true, nil
}

func openSegment(name string, active bool) (*segment, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &segment{f: f, ino: inodeOf(fi), size: fi.Size(), active: active, packed: strings.HasSuffix(name, ".gz")}, nil
}

// namesOf lists a log's files, the oldest first. Of a file and its compressed form only the file counts: the other is
// not finished, or the file was about to be removed.
func namesOf(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	type file struct {
		name   string
		number int
		packed bool
	}
	var files []file
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(path))
		if !ok {
			continue
		}
		full := filepath.Join(filepath.Dir(path), e.Name())
		if rest == "" {
			files = append(files, file{name: path})
			continue
		}
		digits, packed := strings.CutSuffix(strings.TrimPrefix(rest, "."), ".gz")
		n, err := strconv.Atoi(digits)
		if rest[0] != '.' || err != nil || n < 1 || strconv.Itoa(n) != digits {
			continue
		}
		files = append(files, file{full, n, packed})
	}
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(cmp.Compare(b.number, a.number), cmp.Compare(len(a.name), len(b.name)))
	})
	files = slices.CompactFunc(files, func(a, b file) bool { return a.number == b.number })
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	return names, nil
}

func inodeOf(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
