package logfile

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"longshore/internal/core/logs"
)

// jsonFormat is docker's json-file: one object a line.
type jsonFormat struct{}

func (jsonFormat) decoder() decoder { return &jsonDecoder{} }

// tail counts newlines backwards.
func (jsonFormat) tail(r io.ReaderAt, size int64, n int) (off int64, found int, err error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		start := max(end-int64(len(buf)), 0)
		b := buf[:end-start]
		if _, err := r.ReadAt(b, start); err != nil && !isEOF(err) {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(b, '\n'); i >= 0; i = bytes.LastIndexByte(b[:i], '\n') {
			if found == n {
				return start + int64(i) + 1, found, nil
			}
			found++
		}
		end = start
	}
	return 0, found, nil
}

func (f jsonFormat) end(r io.ReaderAt, size int64) int64 {
	buf := make([]byte, 4<<10)
	for end := size; end > 0; {
		start := max(end-int64(len(buf)), 0)
		n, _ := r.ReadAt(buf[:end-start], start)
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return start + int64(i) + 1
		}
		end = start
	}
	return 0
}

// jsonDecoder reads the lines as docker and the shim write them without a general JSON parser; any other valid object
// is read with one.
type jsonDecoder struct {
	m     logs.Message
	line  []byte
	attrs []byte // as in the line that m.Attrs was parsed from
	clock clock
}

func (d *jsonDecoder) decode(b []byte) (*logs.Message, int, error) {
	n := bytes.IndexByte(b, '\n') + 1
	if n == 0 {
		return nil, 0, nil
	}
	line := b[:n-1]
	if d.fast(line) || d.slow(line) {
		return &d.m, n, nil
	}
	return nil, n, nil
}

var (
	beforeLog    = []byte(`{"log":"`)
	beforeStream = []byte(`,"stream":"std`)
	beforeTime   = []byte(`,"time":"`)
	beforeAttrs  = []byte(`,"attrs":`)
)

// fast reads {"log":"…","stream":"stdout","attrs":{…},"time":"…"} with these members in this order.
func (d *jsonDecoder) fast(s []byte) bool {
	rest, ok := bytes.CutPrefix(s, beforeLog)
	if !ok {
		return false
	}
	if d.line, rest, ok = unescape(d.line[:0], rest); !ok {
		return false
	}
	if rest, ok = bytes.CutPrefix(rest, beforeStream); !ok || len(rest) < 4 || rest[3] != '"' {
		return false
	}
	switch string(rest[:3]) {
	case "out":
		d.m.Stream = logs.Stdout
	case "err":
		d.m.Stream = logs.Stderr
	default:
		return false
	}
	rest = rest[4:]
	at := bytes.LastIndex(rest, beforeTime)
	if at < 0 || !bytes.HasSuffix(rest, []byte(`"}`)) || at+len(beforeTime) > len(rest)-2 {
		return false
	}
	var nanos int64
	if nanos, ok = d.clock.parse(rest[at+len(beforeTime) : len(rest)-2]); !ok || !d.setAttrs(rest[:at]) {
		return false
	}
	d.m.Time, d.m.Line = time.Unix(0, nanos).UTC(), d.line
	return true
}

// setAttrs parses attributes only when they differ from those of the line before.
func (d *jsonDecoder) setAttrs(raw []byte) bool {
	if len(raw) == 0 {
		d.m.Attrs, d.attrs = nil, d.attrs[:0]
		return true
	}
	if d.m.Attrs != nil && bytes.Equal(raw, d.attrs) {
		return true
	}
	object, ok := bytes.CutPrefix(raw, beforeAttrs)
	if !ok {
		return false
	}
	var attrs map[string]string
	if json.Unmarshal(object, &attrs) != nil {
		return false
	}
	d.m.Attrs, d.attrs = attrs, append(d.attrs[:0], raw...)
	return true
}

func (d *jsonDecoder) slow(s []byte) bool {
	var v struct {
		Log    *string           `json:"log"`
		Stream string            `json:"stream"`
		Time   time.Time         `json:"time"`
		Attrs  map[string]string `json:"attrs"`
	}
	if json.Unmarshal(s, &v) != nil || v.Stream != "stdout" && v.Stream != "stderr" {
		return false
	}
	d.m = logs.Message{Stream: logs.Stdout, Time: v.Time, Attrs: v.Attrs}
	d.attrs = d.attrs[:0]
	if v.Stream == "stderr" {
		d.m.Stream = logs.Stderr
	}
	d.line = d.line[:0]
	if v.Log != nil {
		d.line = append(d.line, *v.Log...)
	}
	d.m.Line = d.line
	return true
}

// unescape appends the value of a JSON string to dst, from behind its opening quote; rest begins behind the closing one.
func unescape(dst, s []byte) (value, rest []byte, ok bool) {
	for {
		q := bytes.IndexByte(s, '"')
		if q < 0 {
			return dst, nil, false
		}
		e := bytes.IndexByte(s[:q], '\\')
		if e < 0 {
			return append(dst, s[:q]...), s[q+1:], true
		}
		// up to the quote everything is settled but the escapes, the last of which may be of the quote itself
		for ; e >= 0; e = bytes.IndexByte(s[:max(q, 0)], '\\') {
			dst = append(dst, s[:e]...)
			var n int
			if dst, n = escape(dst, s[e:]); n == 0 {
				return dst, nil, false
			}
			s = s[e+n:]
			if q -= e + n; q < 0 {
				break
			}
		}
		if q >= 0 {
			return append(dst, s[:q]...), s[q+1:], true
		}
	}
}

// escape appends what the escape sequence at the front of s stands for and tells its length, 0 for a wrong one.
func escape(dst, s []byte) ([]byte, int) {
	if len(s) < 2 {
		return dst, 0
	}
	switch c := s[1]; c {
	case '"', '\\', '/':
		return append(dst, c), 2
	case 'n':
		return append(dst, '\n'), 2
	case 'r':
		return append(dst, '\r'), 2
	case 't':
		return append(dst, '\t'), 2
	case 'b':
		return append(dst, '\b'), 2
	case 'f':
		return append(dst, '\f'), 2
	case 'u':
		r, ok := hex4(s[2:])
		if !ok {
			return dst, 0
		}
		n := 6
		if utf16.IsSurrogate(r) {
			r2, ok := rune(0), false
			if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
				r2, ok = hex4(s[8:])
			}
			if r = utf16.DecodeRune(r, r2); ok && r != utf8.RuneError {
				n = 12
			}
		}
		return utf8.AppendRune(dst, r), n
	}
	return dst, 0
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		r <<= 4
		switch {
		case '0' <= c && c <= '9':
			r |= rune(c - '0')
		case 'a' <= c && c <= 'f':
			r |= rune(c-'a') + 10
		case 'A' <= c && c <= 'F':
			r |= rune(c-'A') + 10
		default:
			return 0, false
		}
	}
	return r, true
}

// clock parses RFC 3339 times and keeps the last minute it has seen.
type clock struct {
	prefix [17]byte // "2006-01-02T15:04:"
	base   int64
}

func (c *clock) parse(s []byte) (unixNano int64, ok bool) {
	if len(s) < 20 || s[len(s)-1] != 'Z' {
		return slowTime(s)
	}
	if string(s[:17]) != string(c.prefix[:]) {
		t, err := time.Parse("2006-01-02T15:04:", string(s[:17]))
		if err != nil {
			return slowTime(s)
		}
		copy(c.prefix[:], s)
		c.base = t.UnixNano()
	}
	if !isDigit(s[17]) || !isDigit(s[18]) || s[17] > '5' {
		return slowTime(s)
	}
	nanos := (int64(s[17]-'0')*10 + int64(s[18]-'0')) * 1e9
	fraction := s[19 : len(s)-1]
	if len(fraction) > 0 {
		if fraction[0] != '.' || len(fraction) < 2 || len(fraction) > 10 {
			return slowTime(s)
		}
		unit := int64(1e8)
		for _, d := range fraction[1:] {
			if !isDigit(d) {
				return slowTime(s)
			}
			nanos += int64(d-'0') * unit
			unit /= 10
		}
	}
	return c.base + nanos, true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func slowTime(s []byte) (int64, bool) {
	text, err := strconv.Unquote(`"` + string(s) + `"`)
	if err != nil {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t.UnixNano(), err == nil
}
