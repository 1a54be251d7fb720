package logfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"time"

	"longshore/internal/core/logs"
)

// localFormat is docker's local driver: protobuf LogEntry messages, each between two big-endian lengths.
type localFormat struct{}

func (localFormat) decoder() decoder { return &localDecoder{} }

// tail hops backwards over the lengths. When they do not agree, the end of the file is torn, and it is walked forwards.
func (f localFormat) tail(r io.ReaderAt, size int64, n int) (off int64, found int, err error) {
	for off = size; off > 0 && found < n; found++ {
		length, ok := before(r, off)
		if !ok {
			return f.walk(r, size, n)
		}
		off -= length
	}
	return off, found, nil
}

// before tells the length of the record that ends at off.
func before(r io.ReaderAt, off int64) (int64, bool) {
	var head, foot [4]byte
	if off < 8 {
		return 0, false
	}
	if _, err := r.ReadAt(foot[:], off-4); err != nil {
		return 0, false
	}
	n := int64(binary.BigEndian.Uint32(foot[:])) + 8
	if n > off || n > maxEntry+8 {
		return 0, false
	}
	_, err := r.ReadAt(head[:], off-n)
	return n, err == nil && head == foot
}

// walk finds the last n of the whole records from the front.
func (f localFormat) walk(r io.ReaderAt, size int64, n int) (off int64, found int, err error) {
	starts := make([]int64, 0, min(n, 1024)+1)
	end := f.each(r, size, func(at int64) {
		if starts = append(starts, at); len(starts) > 2*n {
			starts = append(starts[:0], starts[len(starts)-n:]...)
		}
	})
	if len(starts) > n {
		starts = starts[len(starts)-n:]
	}
	if len(starts) == 0 {
		return end, 0, nil
	}
	return starts[0], len(starts), nil
}

// each calls back with the start of each whole record and returns where the last ends.
func (localFormat) each(r io.ReaderAt, size int64, record func(at int64)) (end int64) {
	b := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10)
	for {
		var head, foot [4]byte
		if _, err := io.ReadFull(b, head[:]); err != nil {
			return end
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxEntry {
			return end
		}
		if _, err := b.Discard(int(n)); err != nil {
			return end
		}
		if _, err := io.ReadFull(b, foot[:]); err != nil || head != foot {
			return end
		}
		record(end)
		end += int64(n) + 8
	}
}

func (f localFormat) end(r io.ReaderAt, size int64) int64 {
	if _, ok := before(r, size); ok || size == 0 {
		return size
	}
	return f.each(r, size, func(int64) {})
}

type localDecoder struct {
	m     logs.Message
	line  []byte
	fresh map[string]string
	lost  bool
}

var errProto = errors.New("malformed log entry")

func (d *localDecoder) decode(b []byte) (*logs.Message, int, error) {
	if d.lost { // no way to find the next record
		return nil, len(b), nil
	}
	if len(b) < 4 {
		return nil, 0, nil
	}
	size := binary.BigEndian.Uint32(b)
	n := int(size) + 8
	if size > maxEntry {
		d.lost = true
		return nil, len(b), nil
	}
	if len(b) < n {
		return nil, 0, nil
	}
	if binary.BigEndian.Uint32(b[n-4:]) != size {
		d.lost = true
		return nil, len(b), nil
	}
	if d.entry(b[4:n-4]) != nil {
		return nil, n, nil
	}
	return &d.m, n, nil
}

// entry reads a LogEntry message.
func (d *localDecoder) entry(b []byte) error {
	attrs := d.m.Attrs
	d.m = logs.Message{}
	d.fresh = nil
	var line []byte
	partial, last := false, false
	for len(b) > 0 {
		f, rest, err := protoField(b)
		if err != nil {
			return err
		}
		b = rest
		switch {
		case f.number == 1 && string(f.bytes) == "stdout":
			d.m.Stream = logs.Stdout
		case f.number == 1 && string(f.bytes) == "stderr":
			d.m.Stream = logs.Stderr
		case f.number == 2:
			d.m.Time = time.Unix(0, int64(f.value)).UTC()
		case f.number == 3:
			line = f.bytes
		case f.number == 4:
			partial = f.value != 0
		case f.number == 5:
			if last, err = partialLast(f.bytes); err != nil {
				return err
			}
		case f.number == 6:
			if err := d.attr(f.bytes); err != nil {
				return err
			}
		}
	}
	if d.m.Stream == 0 {
		return errProto
	}
	d.line = append(d.line[:0], line...)
	if !partial || last {
		d.line = append(d.line, '\n')
	}
	d.m.Line, d.m.Attrs = d.line, d.fresh
	if maps.Equal(attrs, d.fresh) { // receivers may compare maps by identity to save work
		d.m.Attrs = attrs
	}
	return nil
}

func (d *localDecoder) attr(b []byte) error {
	var key, value string
	for len(b) > 0 {
		f, rest, err := protoField(b)
		if err != nil {
			return err
		}
		b = rest
		switch f.number {
		case 1:
			key = string(f.bytes)
		case 2:
			value = string(f.bytes)
		}
	}
	if d.fresh == nil {
		d.fresh = map[string]string{}
	}
	d.fresh[key] = value
	return nil
}

func partialLast(b []byte) (last bool, err error) {
	for len(b) > 0 {
		f, rest, err := protoField(b)
		if err != nil {
			return false, err
		}
		b = rest
		if f.number == 1 {
			last = f.value != 0
		}
	}
	return last, nil
}

// field is one field of a protobuf message: a number for wire type 0, bytes for type 2.
type field struct {
	number uint64
	value  uint64
	bytes  []byte
}

func protoField(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 {
		return f, nil, errProto
	}
	b = b[n:]
	f.number = tag >> 3
	switch tag & 7 {
	case 0:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, errProto
		}
		return f, b[n:], nil
	case 1, 5:
		n = 8
		if tag&7 == 5 {
			n = 4
		}
		if len(b) < n {
			return f, nil, errProto
		}
		return f, b[n:], nil
	case 2:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, nil, errProto
		}
		f.bytes = b[n : n+int(size)]
		return f, b[n+int(size):], nil
	}
	return f, nil, errProto
}
