// Package logwriter writes a container's output as docker's json-file and local drivers do, with rotation.
//
// A Writer owns the active file. Each output stream of the container has a Stream that cuts it into entries: a line
// without its newline, or 16 KiB of a longer line (docker's partial messages). Entries of one Write call reach the file
// with one system call, so that a reader never waits for a line that the container has finished.
package logwriter

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// maxEntry is docker's longest entry: a longer line becomes several partial ones.
const maxEntry = 16 << 10

// flushAt bounds how much encoded output is collected before it goes to the file.
const flushAt = 128 << 10

// Compressor makes <path>.gz of a rotated file. It returns at once; the channel closes when it is done.
type Compressor func(path string, lastUnixNano int64) <-chan struct{}

// Config says where and how to write.
type Config struct {
	Driver   string // json-file, local or none
	Path     string
	MaxSize  int64 // 0: unlimited
	MaxFiles int   // with the active one; less than 2 keeps no rotated file
	// Compress makes .gz of rotated files; nil leaves them as they are.
	Compress Compressor
	// Attrs is the drivers' encoded form of the extra attributes.
	Attrs string
}

// Stream cuts one output stream into entries. It belongs to one goroutine.
type Stream struct {
	name    string
	pending []byte
	// partial is set while a line longer than maxEntry is being written.
	partial bool
	id      string // of the partial line, for the local driver
	ordinal int
	time    int64
}

// NewStream names a stream "stdout" or "stderr".
func NewStream(name string) *Stream { return &Stream{name: name} }

// entry is what an encoder writes.
type entry struct {
	stream *Stream
	line   []byte // without the newline
	// whole: the line ends here; otherwise more of it follows, or the stream ended without a newline.
	whole   bool
	partial bool // part of a longer line
	time    int64
}

type encoder interface {
	append(b []byte, e *entry) []byte
	// repair makes the end of a file usable after a crash in the middle of a write; it returns the size to go on from.
	repair(f *os.File, size int64) (int64, error)
}

// Writer writes entries of several streams. Safe for concurrent use.
type Writer struct {
	cfg Config
	enc encoder

	mu       sync.Mutex // guards what follows
	f        *os.File
	size     int64
	buf      []byte
	last     int64 // time of the newest entry
	packing  <-chan struct{}
	entry    entry
	writeErr error
}

// Open opens the log. Driver "none" gives a Writer that drops everything.
func Open(cfg Config) (*Writer, error) {
	w := &Writer{cfg: cfg}
	switch cfg.Driver {
	case "json-file":
		w.enc = newJSON(cfg.Attrs)
	case "local":
		w.enc = &local{attrs: cfg.Attrs}
	case "none", "":
		return w, nil
	default:
		return nil, errors.New("log driver " + cfg.Driver + " is not known")
	}
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	w.f = f
	fi, err := f.Stat()
	if err == nil && fi.Size() > 0 {
		w.last = fi.ModTime().UnixNano() // of a run before: times grow over runs too, also when the clock was set back
		w.size, err = w.enc.repair(f, fi.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// Write logs what a stream brought at the given time. Times of entries always grow, by a nanosecond at least, so that
// a reader can resume behind one.
func (w *Writer) Write(s *Stream, p []byte, unixNano int64) error {
	if w.enc == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(p) > 0 {
		room := min(maxEntry-len(s.pending), len(p))
		window := p[:room]
		if i := bytes.IndexByte(window, '\n'); i >= 0 {
			w.add(s, window[:i], true, unixNano)
			p = p[i+1:]
			continue
		}
		if room == maxEntry-len(s.pending) {
			w.add(s, window, false, unixNano)
		} else {
			s.pending = append(s.pending, window...)
		}
		p = p[room:]
	}
	w.flush()
	return w.takeError()
}

// End logs what a stream left without a newline when it ended.
func (w *Writer) End(s *Stream, unixNano int64) error {
	if w.enc == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(s.pending) > 0 {
		w.add(s, nil, false, unixNano)
		w.flush()
	}
	return w.takeError()
}

// Close closes the file and waits for a compression under way.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.packing != nil {
		<-w.packing
	}
	if w.f != nil {
		w.f.Close()
		w.f = nil
	}
}

func (w *Writer) takeError() error {
	err := w.writeErr
	w.writeErr = nil
	return err
}

// add encodes one entry: what is pending and then line.
func (w *Writer) add(s *Stream, line []byte, whole bool, unixNano int64) {
	if len(s.pending) > 0 {
		s.pending = append(s.pending, line...)
		line = s.pending
	}
	e := &w.entry
	*e = entry{stream: s, line: line, whole: whole, partial: s.partial || !whole}
	switch {
	case s.partial: // all parts of a line have the time of the first, as docker's have
		e.time = s.time
		s.ordinal++
	default:
		e.time = max(unixNano, w.last+1)
		s.time, s.ordinal, s.id = e.time, 1, ""
	}
	w.last = max(w.last, e.time)
	if w.cfg.MaxSize > 0 && w.size+int64(len(w.buf)) >= w.cfg.MaxSize {
		w.flush()
		w.rotate()
	}
	w.buf = w.enc.append(w.buf, e)
	s.partial = !whole
	s.pending = s.pending[:0]
	if len(w.buf) >= flushAt {
		w.flush()
	}
}

// flush writes what is encoded. A disk that is full drops entries, never half of one.
func (w *Writer) flush() {
	if len(w.buf) == 0 {
		return
	}
	defer func() { w.buf = w.buf[:0] }()
	if w.f == nil {
		return
	}
	n, err := w.f.Write(w.buf)
	if err != nil {
		w.writeErr = err
		if n > 0 && w.f.Truncate(w.size) != nil {
			w.size += int64(n)
		}
		return
	}
	w.size += int64(n)
}

// rotate moves the files one on. Each step is one rename or unlink, so that a crash between two leaves complete files.
func (w *Writer) rotate() {
	if w.packing != nil {
		<-w.packing
		w.packing = nil
	}
	path := w.cfg.Path
	if w.cfg.MaxFiles < 2 {
		syscall.Unlink(path)
	} else {
		Shift(path, w.cfg.MaxFiles)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil { // go on with the old file; the next entry tries again
		w.writeErr = err
		return
	}
	w.f.Close()
	w.f, w.size = f, 0
	if fi, err := f.Stat(); err == nil {
		w.size = fi.Size() // the rename failed: the file is the old one
	}
	if w.cfg.Compress != nil && w.cfg.MaxFiles >= 2 {
		w.packing = w.cfg.Compress(path+".1", w.last)
	}
}

// Shift renames path to path.1, path.1 to path.2 and so on, .gz files alike, so that maxFiles with the active one remain.
func Shift(path string, maxFiles int) {
	name := func(i int) string { return path + "." + strconv.Itoa(i) }
	for _, ext := range []string{"", ".gz"} {
		syscall.Unlink(name(maxFiles-1) + ext)
		for i := maxFiles - 1; i > 1; i-- {
			syscall.Rename(name(i-1)+ext, name(i)+ext)
		}
	}
	syscall.Rename(path, name(1))
}
