package streams

import (
	"encoding/binary"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"

	"longshore/internal/core/logs"
)

// LogFormat says how log lines are written for a client.
type LogFormat struct {
	// Raw: no stdcopy header (the container has a terminal).
	Raw bool
	// Timestamps puts the time, Details the attributes before each line.
	Timestamps, Details bool
}

const (
	timeFormat = "2006-01-02T15:04:05.000000000Z07:00"
	// maxFrame bounds a frame of several lines; maxPending what waits for a slow client. Bytes.
	maxFrame   = 32 << 10
	maxPending = 256 << 10
)

// LogWriter writes log lines as clients read them. A second goroutine does the writing: while it is busy, lines of one
// stream gather in one frame, so that a client with millions of lines before it reads few large frames, and one that
// follows reads each line at once. Close must be called. Write is for one goroutine.
type LogWriter struct {
	f    LogFormat
	done chan struct{}

	mu     sync.Mutex // guards what follows
	wake   sync.Cond
	buf    []byte
	frame  int // where the last frame's header stands in buf; -1: none that can grow
	err    error
	idle   bool
	closed bool
}

// NewLogWriter starts a writer over w.
func NewLogWriter(w io.Writer, f LogFormat) *LogWriter {
	l := &LogWriter{f: f, done: make(chan struct{}), frame: -1}
	l.wake.L = &l.mu
	go l.run(w)
	return l
}

// Write queues one line and answers the first error of the client.
func (l *LogWriter) Write(m *logs.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.buf) >= maxPending && l.err == nil {
		l.wake.Wait()
	}
	if l.err != nil {
		return l.err
	}
	l.append(m)
	if l.idle {
		l.idle = false
		l.wake.Broadcast()
	}
	return nil
}

func (l *LogWriter) append(m *logs.Message) {
	b := l.buf
	if !l.f.Raw && (l.frame < 0 || b[l.frame] != byte(m.Stream) || len(b)-l.frame > maxFrame) {
		l.frame = len(b)
		b = append(b, byte(m.Stream), 0, 0, 0, 0, 0, 0, 0)
	}
	if l.f.Timestamps {
		b = m.Time.UTC().AppendFormat(b, timeFormat)
		b = append(b, ' ')
	}
	if l.f.Details {
		b = append(b, details(m.Attrs)...)
		b = append(b, ' ')
	}
	b = append(b, m.Line...)
	if !l.f.Raw {
		binary.BigEndian.PutUint32(b[l.frame+4:], uint32(len(b)-l.frame-8))
	}
	l.buf = b
}

// Close writes what is queued, waits for it and answers the client's first error.
func (l *LogWriter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.wake.Broadcast()
	l.mu.Unlock()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *LogWriter) run(w io.Writer) {
	defer close(l.done)
	var spare []byte
	for {
		l.mu.Lock()
		for len(l.buf) == 0 && !l.closed {
			l.idle = true
			l.wake.Wait()
		}
		l.idle = false
		out := l.buf
		l.buf, l.frame = spare[:0], -1
		l.wake.Broadcast()
		l.mu.Unlock()
		if len(out) == 0 {
			return
		}
		_, err := w.Write(out)
		spare = out
		if err != nil {
			l.mu.Lock()
			l.err = err
			l.wake.Broadcast()
			l.mu.Unlock()
			return
		}
	}
}

// details are the attributes in docker's form: sorted, "key=value" joined by commas, escaped like a query.
func details(attrs map[string]string) string {
	list := make([]string, 0, len(attrs))
	for k, v := range attrs {
		list = append(list, url.QueryEscape(k)+"="+url.QueryEscape(v))
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// Frame puts a stdcopy header for standard output before text.
func Frame(text []byte) []byte {
	b := make([]byte, 8, 8+len(text))
	b[0] = byte(logs.Stdout)
	binary.BigEndian.PutUint32(b[4:], uint32(len(text)))
	return append(b, text...)
}

// Truncated ends an output of which there was more.
const Truncated = "\n[output truncated]"

// Text reads framed output to its end and keeps the first limit bytes of its payload.
func Text(r io.Reader, limit int) string {
	var kept []byte
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			break
		}
		n := int64(binary.BigEndian.Uint32(head[4:]))
		room := int64(limit - len(kept))
		part, err := io.ReadAll(io.LimitReader(r, min(n, room)))
		kept = append(kept, part...)
		if err != nil {
			break
		}
		if rest := n - int64(len(part)); rest > 0 {
			if _, err := io.CopyN(io.Discard, r, rest); err != nil {
				break
			}
		}
	}
	if len(kept) == limit {
		return string(kept) + Truncated
	}
	return string(kept)
}
