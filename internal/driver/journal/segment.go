package journal

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
)

// A segment is a file of lines: eight hexadecimal digits of CRC-32C, a space, an event in docker's JSON. Its name is
// the time of its first event in nanoseconds, which orders the files.
type segment struct {
	path  string
	first time.Time
	size  int64 // of whole lines
}

const (
	prefix, suffix = "events-", ".log"
	maxLine        = 1 << 20
	sumLen         = 9
)

func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []segment
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), prefix)
		digits, end := strings.CutSuffix(digits, suffix)
		n, err := strconv.ParseInt(digits, 10, 64)
		if !ok || !end || err != nil || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, segment{path: filepath.Join(dir, e.Name()), first: time.Unix(0, n), size: st.Size()})
	}
	sort.Slice(out, func(i, k int) bool { return out[i].first.Before(out[k].first) })
	return out, nil
}

// resume opens the newest segment again, without the torn line that a dead process or a power cut left at its end.
func (j *Journal) resume() error {
	if len(j.segments) == 0 {
		return nil
	}
	s := &j.segments[len(j.segments)-1]
	f, err := os.OpenFile(s.path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if s.size, err = lastLineEnd(f, s.size); err == nil {
		err = f.Truncate(s.size)
	}
	if err != nil {
		f.Close()
		return err
	}
	j.file = f
	return nil
}

// lastLineEnd is the offset behind the last line end before size.
func lastLineEnd(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for size > 0 {
		n := min(int64(len(buf)), size)
		if _, err := f.ReadAt(buf[:n], size-n); err != nil {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return size - n + i + 1, nil
			}
		}
		size -= n
	}
	return 0, nil
}

// write appends m to the newest segment or begins one. The caller holds the lock.
func (j *Journal) write(m *events.Message) error {
	var err error
	if j.buf, err = encode(j.buf[:0], m); err != nil {
		return err
	}
	if j.file == nil || j.segments[len(j.segments)-1].size >= j.config.segmentBytes {
		if err := j.begin(m.TimeNano); err != nil {
			return err
		}
	}
	s := &j.segments[len(j.segments)-1]
	if _, err := j.file.WriteAt(j.buf, s.size); err != nil {
		// What was written of it is overwritten by the next event or cut off by the next process.
		return err
	}
	s.size += int64(len(j.buf))
	j.dirty = true
	return nil
}

// begin closes the newest segment, opens a new one and removes what is too much.
func (j *Journal) begin(first int64) error {
	if n := len(j.segments); n > 0 {
		// Names must rise even if the clock was set back.
		first = max(first, j.segments[n-1].first.UnixNano()+1)
	}
	path := filepath.Join(j.dir, fmt.Sprintf("%s%020d%s", prefix, first, suffix))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if j.file != nil {
		_ = j.file.Sync()
		_ = j.file.Close()
	}
	j.file = f
	j.segments = append(j.segments, segment{path: path, first: time.Unix(0, first)})
	for len(j.segments) > j.config.segments {
		if err := os.Remove(j.segments[0].path); err != nil && !os.IsNotExist(err) {
			j.config.log.Error("event journal: remove an old segment", "error", err)
		}
		j.segments = j.segments[1:]
	}
	return nil
}

func encode(b []byte, m *events.Message) ([]byte, error) {
	doc, err := json.Marshal(m)
	if err != nil {
		return b, err
	}
	if len(doc)+sumLen > maxLine {
		return b, fmt.Errorf("event of %d bytes is too large to keep", len(doc))
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(doc, crc32.MakeTable(crc32.Castagnoli)))
	return append(append(b, doc...), '\n'), nil
}

func decode(line []byte) (m events.Message, ok bool) {
	if len(line) < sumLen || line[sumLen-1] != ' ' {
		return m, false
	}
	sum, err := strconv.ParseUint(string(line[:sumLen-1]), 16, 32)
	doc := line[sumLen:]
	if err != nil || uint32(sum) != crc32.Checksum(doc, crc32.MakeTable(crc32.Castagnoli)) {
		return m, false
	}
	return m, json.Unmarshal(doc, &m) == nil
}
