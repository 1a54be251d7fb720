package logwriter

import (
	"encoding/binary"
	"os"
	"time"
	"unicode/utf8"
)

// jsonFile writes docker's json-file lines:
//
//	{"log":"text\n","stream":"stdout","attrs":{…},"time":"2006-01-02T15:04:05.999999999Z"}
type jsonFile struct {
	attrs string
	clock stamp
}

func newJSON(attrs string) *jsonFile {
	j := &jsonFile{}
	if attrs != "" {
		j.attrs = `,"attrs":` + attrs
	}
	return j
}

func (j *jsonFile) append(b []byte, e *entry) []byte {
	b = append(b, `{"log":"`...)
	b = appendEscaped(b, e.line)
	if e.whole {
		b = append(b, '\\', 'n')
	}
	b = append(b, `","stream":"`...)
	b = append(b, e.stream.name...)
	b = append(b, '"')
	b = append(b, j.attrs...)
	b = append(b, `,"time":"`...)
	b = j.clock.append(b, e.time)
	return append(b, '"', '}', '\n')
}

// repair ends a torn last line, which readers then skip.
func (j *jsonFile) repair(f *os.File, size int64) (int64, error) {
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return size, err
	}
	if last[0] == '\n' {
		return size, nil
	}
	_, err := f.Write([]byte{'\n'})
	return size + 1, err
}

// stamp formats times as RFC 3339 with nanoseconds and keeps the part up to the second.
type stamp struct {
	second int64
	text   []byte
}

func (s *stamp) append(b []byte, unixNano int64) []byte {
	sec, nano := unixNano/1e9, unixNano%1e9
	if s.text == nil || sec != s.second {
		s.second = sec
		s.text = time.Unix(sec, 0).UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05")
	}
	b = append(b, s.text...)
	if nano > 0 {
		n := len(b) + 10
		b = append(b, ".000000000"...)
		for i := n - 1; nano > 0; i-- {
			b[i] = byte('0' + nano%10)
			nano /= 10
		}
		for b[n-1] == '0' {
			n--
		}
		b = b[:n]
	}
	return append(b, 'Z')
}

const hexDigits = "0123456789abcdef"

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special32 is special of 32 bytes; the four words are looked at side by side.
func special32(s []byte) bool {
	_ = s[31]
	return (odd(binary.LittleEndian.Uint64(s))|odd(binary.LittleEndian.Uint64(s[8:]))|
		odd(binary.LittleEndian.Uint64(s[16:]))|odd(binary.LittleEndian.Uint64(s[24:])))&highs != 0
}

// special tells whether one of eight bytes must not stand in a JSON string as it is: controls, quote, backslash, <, >, &
// and everything that is not ASCII.
func special(x uint64) bool { return odd(x)&highs != 0 }

// odd has the highest bit of a byte set where special finds something.
func odd(x uint64) uint64 {
	// a byte borrows when it is below 0x20, or zero after the XOR
	less := (x - ones*0x20) | ((x ^ ones*'"') - ones) | ((x ^ ones*'\\') - ones)
	// '<' is 0x3c and '>' is 0x3e: without bit 1 both are 0x3c.
	less |= (((x &^ (ones * 2)) ^ ones*'<') - ones) | ((x ^ ones*'&') - ones)
	return less | x
}

// appendEscaped writes the inside of a JSON string exactly as docker does: < > & and the line separators U+2028 and
// U+2029 as \u escapes, bytes that are not UTF-8 as U+FFFD.
func appendEscaped(b, s []byte) []byte {
	start, i := 0, 0
	for i < len(s) {
		for len(s)-i >= 32 && !special32(s[i:]) {
			i += 32
		}
		for len(s)-i >= 8 && !special(binary.LittleEndian.Uint64(s[i:])) {
			i += 8
		}
		// what follows is fewer than eight bytes, or eight with something special among them
		for end := min(i+8, len(s)); i < end; {
			c := s[i]
			if c >= utf8.RuneSelf {
				r, n := utf8.DecodeRune(s[i:])
				switch {
				case r == utf8.RuneError && n == 1:
					b = append(append(b, s[start:i]...), `\ufffd`...)
					start = i + n
				case r == 0x2028 || r == 0x2029:
					b = append(append(b, s[start:i]...), `\u202`...)
					b = append(b, hexDigits[r&0xf])
					start = i + n
				}
				i += n
				continue
			}
			if c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			}
			i++
			start = i
		}
	}
	return append(b, s[start:]...)
}
