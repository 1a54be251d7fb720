// Package auditlog writes what callers with tokens did, and were not let do, to a file that is only ever appended to. Each
// line names the hash of the line before, so that a line that was changed or taken out shows.
package auditlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Entry is one request.
type Entry struct {
	Time      time.Time `json:"time"`
	Token     string    `json:"token"` // ID
	Name      string    `json:"name"`
	Remote    string    `json:"remote"`
	Operation string    `json:"operation"`
	Object    string    `json:"object,omitempty"`
	Allowed   bool      `json:"allowed"`
	Error     string    `json:"error,omitempty"`
	// Previous is the SHA-256 of the line before, without its newline; empty in the first.
	Previous string `json:"previous"`
}

// maxLine bounds a line; longer errors are cut.
const maxLine = 4096

// Log is an open file. Safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	f    *os.File
	last string
}

// Open goes on with a file, or begins it. A torn last line, which a crash leaves, is ended.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l := &Log{f: f}
	if err := l.resume(); err != nil {
		return nil, errors.Join(fmt.Errorf("read audit log: %w", err), f.Close())
	}
	return l, nil
}

func (l *Log) resume() error {
	fi, err := l.f.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	tail := make([]byte, min(fi.Size(), 2*maxLine))
	if _, err := l.f.ReadAt(tail, fi.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if tail[len(tail)-1] != '\n' {
		if _, err := l.f.Write([]byte{'\n'}); err != nil {
			return err
		}
	} else {
		tail = tail[:len(tail)-1]
	}
	l.last = sum(tail[bytes.LastIndexByte(tail, '\n')+1:])
	return nil
}

func sum(line []byte) string {
	s := sha256.Sum256(line)
	return hex.EncodeToString(s[:])
}

// Append writes an entry down.
func (l *Log) Append(e Entry) error {
	if len(e.Error) > maxLine/4 {
		e.Error = e.Error[:maxLine/4]
	}
	if len(e.Object) > maxLine/4 {
		e.Object = e.Object[:maxLine/4]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Previous = l.last
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := l.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	l.last = sum(line)
	return nil
}

// Verify reads a log and tells the number of the first line that does not follow from the one before; 0: none.
func Verify(r io.Reader) (line int, err error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	previous := ""
	for i, l := range bytes.Split(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'}) {
		var e Entry
		if json.Unmarshal(l, &e) != nil || e.Previous != previous {
			return i + 1, nil
		}
		previous = sum(l)
	}
	return 0, nil
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }
