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
	tails [2]tail // of the two streams
}

func newJSON(attrs string) *jsonFile {
	j := &jsonFile{}
	if attrs != "" {
		j.attrs = `,"attrs":` + attrs
	}
	return j
}

func (j *jsonFile) append(b []byte, e *entry) []byte {
	t := &j.tails[0]
	if e.stream.name == "stderr" {
		t = &j.tails[1]
	}
	nano := e.time - t.from
	if t.of != e.stream || uint64(nano) >= 1e9 {
		j.renew(t, e)
		nano = e.time - t.from
	}
	b = append(b, `{"log":"`...)
	b = appendEscaped(b, e.line)
	text := t.text
	if !e.whole {
		text = text[len(`\n`):]
	}
	b = append(b, text...)
	b = appendFraction(b, uint32(nano))
	return append(b, "Z\"}\n"...)
}

// tail is what stands between the text of an entry and the fraction of its second; it is the same for all entries of a
// stream in one second.
type tail struct {
	of   *Stream
	from int64 // when the second began, in Unix nanoseconds
	text []byte
}

func (j *jsonFile) renew(t *tail, e *entry) {
	second := e.time / 1e9
	if e.time%1e9 < 0 { // a clock before 1970
		second--
	}
	t.of, t.from = e.stream, second*1e9
	t.text = append(append(t.text[:0], `\n","stream":"`...), e.stream.name...)
	t.text = append(append(append(t.text, '"'), j.attrs...), `,"time":"`...)
	t.text = time.Unix(second, 0).UTC().AppendFormat(t.text, "2006-01-02T15:04:05")
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

// appendFraction writes nanoseconds as RFC 3339 has them: a point and up to nine digits, no zeros at the end.
func appendFraction(b []byte, nano uint32) []byte {
	if nano == 0 {
		return b
	}
	upper, lower := nano/100000, nano%100000 // four digits and five
	pair := func(n uint32) (byte, byte) { return digits[2*n], digits[2*n+1] }
	var d [10]byte
	d[0] = '.'
	d[1], d[2] = pair(upper / 100)
	d[3], d[4] = pair(upper % 100)
	d[5], d[6] = pair(lower / 1000)
	d[7], d[8] = pair(lower / 10 % 100)
	d[9] = byte('0' + lower%10)
	n := len(d)
	for d[n-1] == '0' {
		n--
	}
	return append(b, d[:n]...)
}

// digits are the numbers from 00 to 99.
const digits = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"

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
	less := (x - ones*0x20) | ((x ^ ones*'\\') - ones)
	// '<' is 0x3c and '>' is 0x3e: without bit 1 both are 0x3c. '"' is 0x22 and '&' is 0x26: without bit 2 both are 0x22.
	less |= (((x &^ (ones * 2)) ^ ones*'<') - ones) | (((x &^ (ones * 4)) ^ ones*'"') - ones)
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
