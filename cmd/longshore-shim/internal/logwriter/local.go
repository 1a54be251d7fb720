package logwriter

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
)

// maxLocalRecord bounds a record when a damaged file is looked over; docker's readers refuse longer ones.
const maxLocalRecord = 1e6

// local writes docker's local driver format: a LogEntry protobuf message between two big-endian lengths.
//
//	message LogEntry {
//	  string source = 1; int64 time_nano = 2; bytes line = 3; bool partial = 4;
//	  PartialLogEntryMetadata partial_log_metadata = 5; repeated LogAttr attrs = 6;
//	}
//	message PartialLogEntryMetadata { bool last = 1; string id = 2; int32 ordinal = 3; }
type local struct{ attrs string }

func (l *local) append(b []byte, e *entry) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = appendBytes(b, 1, e.stream.name)
	b = binary.AppendUvarint(append(b, 2<<3), uint64(e.time))
	if len(e.line) > 0 {
		b = append(b, 3<<3|2)
		b = binary.AppendUvarint(b, uint64(len(e.line)))
		b = append(b, e.line...)
	}
	if e.partial {
		b = append(b, 4<<3, 1)
		b = appendBytes(b, 5, string(partialMeta(e)))
	}
	b = append(b, l.attrs...)
	n := uint32(len(b) - start - 4)
	binary.BigEndian.PutUint32(b[start:], n)
	return binary.BigEndian.AppendUint32(b, n)
}

func partialMeta(e *entry) []byte {
	s := e.stream
	if s.id == "" {
		s.id = randomID()
	}
	var m []byte
	if e.whole {
		m = append(m, 1<<3, 1)
	}
	m = appendBytes(m, 2, s.id)
	return binary.AppendUvarint(append(m, 3<<3), uint64(s.ordinal))
}

func appendBytes(b []byte, field byte, v string) []byte {
	b = binary.AppendUvarint(append(b, field<<3|2), uint64(len(v)))
	return append(b, v...)
}

func randomID() string {
	var raw [32]byte
	if f, err := os.Open("/dev/urandom"); err == nil {
		io.ReadFull(f, raw[:])
		f.Close()
	}
	b := make([]byte, 0, 64)
	for _, c := range raw {
		b = append(b, hexDigits[c>>4], hexDigits[c&0xf])
	}
	return string(b)
}

// repair cuts off a torn last record. The two lengths of the last record tell whether it is whole; only when they do
// not is the file walked from its start.
func (l *local) repair(f *os.File, size int64) (int64, error) {
	if lastWhole(f, size) {
		return size, nil
	}
	var good int64
	r := bufio.NewReader(io.NewSectionReader(f, 0, size))
	for {
		var h [4]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			break
		}
		n := binary.BigEndian.Uint32(h[:])
		if n > maxLocalRecord {
			break
		}
		if _, err := r.Discard(int(n)); err != nil {
			break
		}
		var t [4]byte
		if _, err := io.ReadFull(r, t[:]); err != nil || t != h {
			break
		}
		good += int64(n) + 8
	}
	return good, f.Truncate(good)
}

func lastWhole(f *os.File, size int64) bool {
	var a, b [4]byte
	if size < 8 {
		return false
	}
	if _, err := f.ReadAt(b[:], size-4); err != nil {
		return false
	}
	n := int64(binary.BigEndian.Uint32(b[:]))
	if n+8 > size {
		return false
	}
	_, err := f.ReadAt(a[:], size-8-n)
	return err == nil && a == b
}
