// Package logs is the contract for reading what containers wrote.
//
// The shim writes log files; readers of any number may follow them, also after the daemon restarted.
package logs

import (
	"context"
	"time"
)

// Stream names an output stream.
type Stream byte

// The values are those of docker's stdcopy header.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Message is one log line.
type Message struct {
	Stream Stream
	Time   time.Time
	// Line holds the bytes as written, with the final newline when there was one. Valid only during the callback.
	Line  []byte
	Attrs map[string]string
	// End is the place behind it.
	End Place
}

// Place is a point between two entries: behind the one of that time that ends at the offset of a file, which is told by its
// inode. It holds whatever the clock does. The zero Place is the log's beginning.
type Place struct {
	File   uint64
	Offset int64
	Time   time.Time
}

// ReadOptions selects lines. Zero times do not limit; Tail < 0 means all lines.
type ReadOptions struct {
	Since, Until time.Time
	// After begins behind a place, if its file is there as it was, and else behind its time.
	After          Place
	Tail           int
	Follow         bool
	Stdout, Stderr bool
	// Done ends a follow when closed, after everything that was written has been delivered.
	Done <-chan struct{}
}

// Source says where a container's log is.
type Source struct {
	Driver string // "json-file", "local"
	Path   string
}

// Reader reads logs in order over rotated files. A driver that keeps no readable log is ErrInvalidArgument with
// docker's message "configured logging driver does not support reading".
type Reader interface {
	Read(ctx context.Context, src Source, o ReadOptions, emit func(*Message) error) error
}
