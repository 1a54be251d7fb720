// Package logfile reads the log files that longshore-shim writes: docker's json-file and local formats, over rotated and
// compressed files. It implements core/logs.
//
// A Read walks the files from the oldest to the active one. With a tail it looks for the beginning backwards and opens
// no older file than it needs. A follow waits with inotify, goes on through any number of rotations without losing or
// repeating an entry, and puts up with what crashes leave: a torn last entry is skipped.
package logfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/core/logs"
)

// Reader reads logs. One Reader serves any number of reads at once; followers share one inotify instance.
type Reader struct {
	notify notifier
}

var _ logs.Reader = (*Reader)(nil)

// New makes a Reader.
func New() *Reader { return &Reader{} }

// errStop ends a read early without a fault.
var errStop = errors.New("stop")

// Read implements logs.Reader.
func (r *Reader) Read(ctx context.Context, src logs.Source, o logs.ReadOptions, emit func(*logs.Message) error) error {
	f := formatOf(src.Driver)
	if f == nil {
		return fault.Invalid("configured logging driver does not support reading")
	}
	p := &pass{ctx: ctx, path: src.Path, format: f, o: o, emit: emit}
	defer p.close()
	err := r.run(p)
	if errors.Is(err, errStop) {
		return nil
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errEmit) {
		return fmt.Errorf("read log %s: %w", src.Path, err)
	}
	return err
}

func (r *Reader) run(p *pass) error {
	var wake <-chan struct{}
	if p.o.Follow {
		ch, cancel, err := r.notify.watch(filepath.Dir(p.path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			defer cancel()
		}
		wake = ch
	}
	if err := p.history(); err != nil || !p.o.Follow {
		return err
	}
	return p.follow(wake)
}

// errEmit marks errors of the receiver, which are its own.
var errEmit = errors.New("receiver failed")

type emitError struct{ error }

func (e emitError) Unwrap() []error { return []error{e.error, errEmit} }

// pass is one Read under way.
type pass struct {
	ctx    context.Context
	path   string
	format format
	o      logs.ReadOptions
	emit   func(*logs.Message) error

	active *segment // the file that a follow goes on with; nil when there is none
	last   time.Time
	// skip drops entries up to last: the place was lost when files were compressed or removed under a slow follower.
	skip bool
	buf  []byte
}

func (p *pass) close() {
	if p.active != nil {
		p.active.close()
	}
}

// deliver passes an entry on that the options select.
func (p *pass) deliver(m *logs.Message) error {
	if p.skip && !m.Time.After(p.last) {
		return nil
	}
	p.last = m.Time
	if !p.o.Until.IsZero() && m.Time.After(p.o.Until) {
		return errStop
	}
	if m.Time.Before(p.o.Since) || m.Stream == logs.Stdout && !p.o.Stdout || m.Stream == logs.Stderr && !p.o.Stderr {
		return nil
	}
	if err := p.emit(m); err != nil {
		return emitError{err}
	}
	return nil
}

// history delivers what is there; it leaves the active file open at its end.
func (p *pass) history() error {
	opened := time.Now()
	set, err := openAll(p.path)
	if err != nil {
		return err
	}
	defer set.close()
	first := 0
	if p.o.After != (logs.Place{}) {
		first = p.resume(set)
	}
	if p.o.Tail >= 0 {
		if first, err = p.tail(set); err != nil {
			return err
		}
	}
	for _, s := range set[first:] {
		if p.o.Since.After(s.lastTime()) {
			continue
		}
		if err := s.unpack(); err != nil { // changes the size
			return err
		}
		if err := p.drain(s, s.size); err != nil {
			return err
		}
	}
	if n := len(set); n > 0 && set[n-1].active {
		p.active = set[n-1]
		set[n-1] = nil
		if p.last.IsZero() { // nothing of it was wanted, nothing of it is to come back after a rotation
			p.last = opened
		}
	}
	return nil
}

// resume places the file of o.After there and tells which it is. Where the place cannot be found any more, entries up to its
// time are left out.
func (p *pass) resume(set segments) (first int) {
	at := p.o.After
	if i := set.after(at.File) - 1; i >= 0 && set[i].unpack() == nil && at.Offset <= set[i].size {
		s := set[i]
		// An inode is given out again: the entry that ends there must be the one that was meant.
		if from, found, err := p.format.tail(s.f, at.Offset, 1); err == nil && found == 1 {
			b := make([]byte, min(at.Offset-from, maxEntry+8))
			if _, err := s.f.ReadAt(b, from); err == nil || isEOF(err) {
				if m, n, err := p.format.decoder().decode(b); err == nil && m != nil && n == len(b) && m.Time.Equal(at.Time) {
					s.off = at.Offset
					return i
				}
			}
		}
	}
	if behind := at.Time.Add(time.Nanosecond); behind.After(p.o.Since) {
		p.o.Since = behind
	}
	return 0
}

// tail places the files so that the last o.Tail entries follow, and tells which file is the first to read.
func (p *pass) tail(set segments) (first int, err error) {
	left := p.o.Tail
	for i := len(set) - 1; i >= 0; i-- {
		s := set[i]
		if left == 0 {
			if !s.active {
				return i + 1, nil
			}
			s.off = p.format.end(s.f, s.size)
			continue
		}
		if err := s.unpack(); err != nil {
			return 0, err
		}
		off, found, err := p.format.tail(s.f, s.size, left)
		if err != nil {
			return 0, err
		}
		s.off = off
		left -= found
		if left == 0 && i > 0 {
			return i, nil
		}
	}
	return 0, nil
}

// drain delivers the whole entries of a file from its offset up to limit (-1: to its end).
func (p *pass) drain(s *segment, limit int64) error {
	if err := s.unpack(); err != nil {
		return err
	}
	if p.buf == nil {
		p.buf = make([]byte, 256<<10)
	}
	fill := 0
	at := s.off // of buf[0]
	for {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		window := p.buf[fill:]
		if limit >= 0 {
			window = window[:min(int64(len(window)), max(limit-at-int64(fill), 0))]
		}
		n := 0
		if len(window) > 0 {
			var err error
			if n, err = s.f.ReadAt(window, at+int64(fill)); err != nil && n == 0 && !isEOF(err) {
				return err
			}
		}
		fill += n
		used, err := p.consume(s, p.buf[:fill], at)
		at += int64(used)
		s.off = at
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		fill = copy(p.buf, p.buf[used:fill])
		if fill == len(p.buf) { // an entry longer than the buffer
			if fill > maxEntry {
				s.off += int64(fill)
				at = s.off
				fill = 0
				continue
			}
			p.buf = append(p.buf, make([]byte, len(p.buf))...)
		}
	}
}

// consume delivers the whole entries of b, which stands at an offset of the file, and tells how many bytes they were.
func (p *pass) consume(s *segment, b []byte, at int64) (used int, err error) {
	if s.dec == nil {
		s.dec = p.format.decoder()
	}
	for {
		m, n, err := s.dec.decode(b[used:])
		if n == 0 {
			return used, err
		}
		used += n
		if m == nil { // something that is no entry
			continue
		}
		m.End = logs.Place{File: s.ino, Offset: at + int64(used), Time: m.Time}
		if err := p.deliver(m); err != nil {
			return used, err
		}
	}
}

// follow delivers what comes until Done, Until, or the end of ctx.
func (p *pass) follow(wake <-chan struct{}) error {
	var until <-chan time.Time
	if !p.o.Until.IsZero() {
		t := time.NewTimer(time.Until(p.o.Until))
		defer t.Stop()
		until = t.C
	}
	over := false
	for {
		moved, err := p.advance()
		if err != nil || over && !moved {
			return err
		}
		if moved {
			continue
		}
		select {
		case <-wake:
		case <-p.o.Done:
			over = true
		case <-until:
			over = true
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
}

// advance delivers what the active file has and changes to the next one when it has been rotated.
func (p *pass) advance() (moved bool, err error) {
	if p.active != nil {
		p.active.rewindTruncated()
		if err := p.drain(p.active, -1); err != nil {
			return false, err
		}
	}
	ino, err := inode(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // not made yet, or between the two steps of a rotation: an event will tell
		return false, nil
	case err != nil:
		return false, err
	case p.active != nil && ino == p.active.ino:
		return false, nil
	}
	return true, p.change()
}

// change goes from a rotated file to its successors; the last one is the active file.
func (p *pass) change() error {
	set, err := openAll(p.path)
	if err != nil {
		return err
	}
	defer set.close()
	if len(set) == 0 || !set[len(set)-1].active {
		return nil
	}
	first := 0
	if old := p.active; old != nil {
		// Everything in the old file was written before it was renamed.
		if err := p.drain(old, -1); err != nil {
			return err
		}
		if first = set.after(old.ino); first == 0 {
			p.skip = true
		}
		old.close()
		p.active = nil
	}
	for _, s := range set[first:] {
		if p.skip && !s.lastTime().After(p.last) {
			continue
		}
		if err := p.drain(s, -1); err != nil {
			return err
		}
	}
	p.skip = false
	p.active = set[len(set)-1]
	set[len(set)-1] = nil
	return nil
}

func inode(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return inodeOf(fi), nil
}
