package logfile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"longshore/internal/core/logs"
)

// decodeAll runs a decoder over the whole of b as a Read does.
func decodeAll(t *testing.T, d decoder, b []byte) (n int) {
	for len(b) > 0 {
		m, used, err := d.decode(b)
		if err != nil || used < 0 || used > len(b) {
			t.Fatalf("used %d of %d, %v", used, len(b), err)
		}
		if used == 0 {
			return n
		}
		if m != nil {
			n++
		}
		b = b[used:]
	}
	return n
}

// FuzzJSON: the fast path agrees with encoding/json on everything that both accept.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(jsonLine(0)))
	f.Add([]byte(`{"log":"a\u0041\\\"\ud83d\ude00","stream":"stderr","attrs":{"a":"b"},"time":"2026-11-21T10:00:00.000000001Z"}` + "\n"))
	f.Add([]byte(`{"log":"\ud83d","stream":"stdout","time":"2026-11-21T10:00:60Z"}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeAll(t, &jsonDecoder{}, b)
		for _, n := range []int{0, 1, 3} {
			if off, found, err := (jsonFormat{}).tail(bytes.NewReader(b), int64(len(b)), n); err != nil || off < 0 || off > int64(len(b)) || found > n {
				t.Fatal(off, found, err)
			}
		}
		var v struct {
			Log    string            `json:"log"`
			Stream string            `json:"stream"`
			Time   time.Time         `json:"time"`
			Attrs  map[string]string `json:"attrs"`
		}
		var d jsonDecoder
		if bytes.IndexByte(b, '\n') >= 0 || json.Unmarshal(b, &v) != nil || !d.fast(b) {
			return
		}
		var again struct{ Log string }
		if json.Unmarshal(b, &again); bytes.Count(b, []byte(`"`)) > 16 || again.Log != v.Log {
			return // members that occur twice
		}
		if !bytes.ContainsFunc(d.m.Line, func(r rune) bool { return r == 0xfffd }) && string(d.m.Line) != v.Log || !d.m.Time.Equal(v.Time) && v.Time.Year() > 1700 && v.Time.Year() < 2200 {
			t.Fatalf("fast %q %v, slow %q %v", d.m.Line, d.m.Time, v.Log, v.Time)
		}
	})
}

func localRecord(e ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(e)))
	return binary.BigEndian.AppendUint32(append(b, e...), uint32(len(e)))
}

// FuzzLocal: nothing makes the decoder or the searches fail or run away, and they agree on the number of records.
func FuzzLocal(f *testing.F) {
	one := localRecord(append([]byte{1<<3 | 2, 6}, "stdout\x10\x05\x1a\x02hi"...)...)
	f.Add(one)
	f.Add(append(append([]byte{}, one...), one[:7]...))
	f.Add(localRecord(append([]byte{1<<3 | 2, 6}, "stderr\x20\x01\x2a\x02\x08\x01\x32\x06\x0a\x01k\x12\x01v"...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := decodeAll(t, &localDecoder{}, b)
		r := bytes.NewReader(b)
		end := (localFormat{}).end(r, int64(len(b)))
		if end < 0 || end > int64(len(b)) {
			t.Fatal(end)
		}
		_, found, err := (localFormat{}).walk(r, int64(len(b)), len(b)+1)
		if err != nil || found < n {
			t.Fatal(found, n, err)
		}
		for _, k := range []int{0, 1, 3} {
			if off, found, err := (localFormat{}).tail(r, int64(len(b)), k); err != nil || off < 0 || off > int64(len(b)) || found > k {
				t.Fatal(off, found, err)
			}
		}
	})
}

func TestLocalDecode(t *testing.T) {
	var d localDecoder
	record := localRecord(append([]byte{1<<3 | 2, 6}, "stderr\x10\x80\x94\xeb\xdc\x03\x1a\x02hi\x20\x01\x2a\x02\x08\x01\x32\x06\x0a\x01k\x12\x01v"...)...)
	m, n, err := d.decode(record)
	if err != nil || n != len(record) || m == nil {
		t.Fatal(m, n, err)
	}
	if m.Stream != logs.Stderr || string(m.Line) != "hi\n" || m.Attrs["k"] != "v" || m.Time.UnixNano() != 1e9 {
		t.Errorf("%+v", m)
	}
}
