package streams

import (
	"encoding/binary"
	"io"
	"net/url"
	"slices"
	"strings"

	"longshore/internal/core/logs"
)

// LogWriter writes log lines as clients read them. Not safe for concurrent use.
type LogWriter struct {
	W io.Writer
	// Raw: no stdcopy header (the container has a terminal).
	Raw bool
	// Timestamps puts the time, Details the attributes before each line.
	Timestamps, Details bool

	buf []byte
}

const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// Write sends one line as one write.
func (l *LogWriter) Write(m *logs.Message) error {
	b := l.buf[:0]
	if !l.Raw {
		b = append(b, byte(m.Stream), 0, 0, 0, 0, 0, 0, 0)
	}
	head := len(b)
	if l.Timestamps {
		b = m.Time.UTC().AppendFormat(b, timeFormat)
		b = append(b, ' ')
	}
	if l.Details {
		b = append(b, details(m.Attrs)...)
		b = append(b, ' ')
	}
	b = append(b, m.Line...)
	if !l.Raw {
		binary.BigEndian.PutUint32(b[4:], uint32(len(b)-head))
	}
	l.buf = b
	_, err := l.W.Write(b)
	return err
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
		return string(kept) + "\n[output truncated]"
	}
	return string(kept)
}
