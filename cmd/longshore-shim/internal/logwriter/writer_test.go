package logwriter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"longshore/internal/core/logs"
	"longshore/internal/driver/logfile"
)

var base = time.Date(2026, 11, 21, 10, 0, 0, 120000000, time.UTC).UnixNano()

func open(t testing.TB, cfg Config) *Writer {
	t.Helper()
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func put(t testing.TB, w *Writer, s *Stream, text string, at int64) {
	t.Helper()
	if err := w.Write(s, []byte(text), at); err != nil {
		t.Fatal(err)
	}
}

// readAll reads a log and joins its lines; entries counts them.
func readAll(t testing.TB, driver, path string) (text string, entries int) {
	t.Helper()
	var b strings.Builder
	var last time.Time
	err := logfile.New().Read(context.Background(), logs.Source{Driver: driver, Path: path},
		logs.ReadOptions{Tail: -1, Stdout: true, Stderr: true}, func(m *logs.Message) error {
			if m.Time.Before(last) {
				t.Errorf("time goes back: %v after %v", m.Time, last)
			}
			last = m.Time
			b.Write(m.Line)
			entries++
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), entries
}

// TestJSONGolden: the bytes that docker writes for the same output.
func TestJSONGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := open(t, Config{Driver: "json-file", Path: path, Attrs: `{"label":"\u003cv\u003e"}`})
	out, err := NewStream("stdout"), NewStream("stderr")
	put(t, w, out, "hello\n", base)
	put(t, w, err, "a\tb\r\\\"<>&\x01 \u2028 \xff é\x7f\n", base)
	put(t, w, out, "no new", base+5)
	put(t, w, err, "\n", base+500)
	put(t, w, out, "line", base+1000)
	if e := w.End(out, base+880000000); e != nil {
		t.Fatal(e)
	}
	got, _ := os.ReadFile(path)
	want := `{"log":"hello\n","stream":"stdout","attrs":{"label":"\u003cv\u003e"},"time":"2026-11-21T10:00:00.12Z"}
{"log":"a\u0009b\r\\\"\u003c\u003e\u0026\u0001 \u2028 \ufffd é` + "\x7f" + `\n","stream":"stderr","attrs":{"label":"\u003cv\u003e"},"time":"2026-11-21T10:00:00.120000001Z"}
{"log":"\n","stream":"stderr","attrs":{"label":"\u003cv\u003e"},"time":"2026-11-21T10:00:00.1200005Z"}
{"log":"no newline","stream":"stdout","attrs":{"label":"\u003cv\u003e"},"time":"2026-11-21T10:00:01Z"}
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPartial: lines are cut at 16 KiB from their start, as docker cuts them.
func TestPartial(t *testing.T) {
	for _, driver := range []string{"json-file", "local"} {
		for _, c := range []struct{ length, entries int }{
			{maxEntry - 1, 1}, {maxEntry, 2}, {maxEntry + 1, 2}, {2 * maxEntry, 3}, {3*maxEntry + 7, 4},
		} {
			for _, chunk := range []int{1 << 20, 4095, 1000} {
				path := filepath.Join(t.TempDir(), "x.log")
				w := open(t, Config{Driver: driver, Path: path})
				s := NewStream("stdout")
				text := strings.Repeat("x", c.length) + "\nshort\n"
				for i := 0; i < len(text); i += chunk {
					put(t, w, s, text[i:min(i+chunk, len(text))], base)
				}
				if got, n := readAll(t, driver, path); got != text || n != c.entries+1 {
					t.Errorf("%s, %d in chunks of %d: %d entries, equal %v", driver, c.length, chunk, n, got == text)
				}
			}
		}
	}
}

func TestLocalAgainstProtobuf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := open(t, Config{Driver: "local", Path: path})
	put(t, w, NewStream("stdout"), "hi\n", 1e9)
	got, _ := os.ReadFile(path)
	want := "\x00\x00\x00\x12\x0a\x06stdout\x10\x80\x94\xeb\xdc\x03\x1a\x02hi\x00\x00\x00\x12"
	if string(got) != want {
		t.Errorf("%q", got)
	}
}

// TestRotation follows a log through many rotations and compares what is kept.
func TestRotation(t *testing.T) {
	for _, driver := range []string{"json-file", "local"} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s packed=%v", driver, packed), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "x.log")
				cfg := Config{Driver: driver, Path: path, MaxSize: 20000, MaxFiles: 4}
				if packed {
					cfg.Compress = compressAside(t)
				}
				w := open(t, cfg)
				const count = 3000
				done := make(chan struct{})
				var followed strings.Builder
				var wg sync.WaitGroup
				wg.Add(1)
				ready := make(chan struct{})
				go func() {
					defer wg.Done()
					o := logs.ReadOptions{Tail: -1, Stdout: true, Stderr: true, Follow: true, Done: done}
					first := true
					err := logfile.New().Read(context.Background(), logs.Source{Driver: driver, Path: path}, o, func(m *logs.Message) error {
						followed.Write(m.Line)
						if first {
							close(ready)
							first = false
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}()
				s := NewStream("stdout")
				var all strings.Builder
				for i := range count {
					line := fmt.Sprintf("entry number %d of a log that is rotated\n", i)
					all.WriteString(line)
					put(t, w, s, line, base+int64(i)*1000)
					if i == 0 {
						<-ready
					}
					if i%100 == 0 { // a follower may be as slow as it likes only within the files that are kept
						time.Sleep(2 * time.Millisecond)
					}
				}
				w.Close()
				close(done)
				wg.Wait()
				if followed.String() != all.String() {
					t.Errorf("the follower got %d bytes of %d", followed.Len(), all.Len())
				}
				kept, n := readAll(t, driver, path)
				if !strings.HasSuffix(all.String(), kept) || n < 400 {
					t.Errorf("%d entries are kept", n)
				}
				names, _ := filepath.Glob(path + "*")
				if len(names) != 4 {
					t.Errorf("files: %v", names)
				}
			})
		}
	}
}

func compressAside(t *testing.T) Compressor {
	return func(path string, last int64) <-chan struct{} {
		over := make(chan struct{})
		go func() {
			defer close(over)
			if err := CompressFile(path, last); err != nil {
				t.Error(err)
			}
		}()
		return over
	}
}

// TestOneFile: max-file=1 keeps nothing but the active file.
func TestOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := open(t, Config{Driver: "json-file", Path: path, MaxSize: 1000, MaxFiles: 1})
	s := NewStream("stdout")
	for i := range 100 {
		put(t, w, s, fmt.Sprintf("entry %d\n", i), base+int64(i))
	}
	got, n := readAll(t, "json-file", path)
	if names, _ := filepath.Glob(path + "*"); len(names) != 1 || n > 20 || !strings.HasSuffix(got, "entry 99\n") {
		t.Errorf("%v %d %q", names, n, got)
	}
}

// TestTornEnd: a writer that goes on after a crash spoils nothing.
func TestTornEnd(t *testing.T) {
	for _, driver := range []string{"json-file", "local"} {
		dir := t.TempDir()
		whole := filepath.Join(dir, "whole")
		w := open(t, Config{Driver: driver, Path: whole})
		s := NewStream("stdout")
		put(t, w, s, "one\ntwo\nthree\n", base)
		b, _ := os.ReadFile(whole)
		for cut := range len(b) + 1 {
			path := filepath.Join(dir, fmt.Sprint(cut))
			os.WriteFile(path, b[:cut], 0o644)
			w := open(t, Config{Driver: driver, Path: path})
			put(t, w, NewStream("stdout"), "after\n", base+100)
			got, _ := readAll(t, driver, path)
			if !strings.HasSuffix(got, "after\n") || !strings.HasPrefix("one\ntwo\nthree\nafter\n", strings.TrimSuffix(got, "after\n")) {
				t.Errorf("%s cut at %d: %q", driver, cut, got)
			}
		}
	}
}

// FuzzEscape: what the encoder makes is JSON and means the same, and it is what docker writes.
func FuzzEscape(f *testing.F) {
	f.Add([]byte("plain text that is longer than eight bytes"))
	f.Add([]byte("12345678\xe2\x80\xa8<>&\"\\\x00\x1f\x7f\xc3"))
	f.Fuzz(func(t *testing.T, s []byte) {
		got := appendEscaped([]byte{'"'}, s)
		got = append(got, '"')
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		want := bytes.ToValidUTF8(s, []byte("\ufffd"))
		if utf8.Valid(s) && back != string(want) {
			t.Fatalf("%q became %q", s, back)
		}
		for i := 0; i+8 <= len(s); i++ { // the eight-byte test agrees with the bytewise one
			var x uint64
			odd := false
			for j := 7; j >= 0; j-- {
				c := s[i+j]
				x = x<<8 | uint64(c)
				odd = odd || c < 0x20 || c >= 0x80 || strings.IndexByte(`"\<>&`, c) >= 0
			}
			if special(x) != odd {
				t.Fatalf("special(%q) = %v", s[i:i+8], special(x))
			}
		}
	})
}

func benchmarkWrite(b *testing.B, driver string, line string) {
	path := filepath.Join(b.TempDir(), "x.log")
	w := open(b, Config{Driver: driver, Path: path, MaxSize: 64 << 20, MaxFiles: 1})
	s := NewStream("stdout")
	chunk := []byte(strings.Repeat(line, 65536/len(line)))
	b.SetBytes(int64(len(chunk)))
	for i := 0; b.Loop(); i++ {
		w.Write(s, chunk, base+int64(i)*1000)
	}
}

func BenchmarkWriteJSON(b *testing.B) {
	benchmarkWrite(b, "json-file", strings.Repeat("some text of a log line ", 4)+"\n")
}
func BenchmarkWriteLocal(b *testing.B) {
	benchmarkWrite(b, "local", strings.Repeat("some text of a log line ", 4)+"\n")
}

func benchmarkRead(b *testing.B, driver string) {
	path := filepath.Join(b.TempDir(), "x.log")
	w := open(b, Config{Driver: driver, Path: path})
	s := NewStream("stdout")
	chunk := []byte(strings.Repeat(strings.Repeat("some text of a log line ", 4)+"\n", 1000))
	for i := range 200 {
		w.Write(s, chunk, base+int64(i)*1000000)
	}
	fi, _ := os.Stat(path)
	b.SetBytes(fi.Size())
	for b.Loop() {
		err := logfile.New().Read(context.Background(), logs.Source{Driver: driver, Path: path},
			logs.ReadOptions{Tail: -1, Stdout: true, Stderr: true}, func(m *logs.Message) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadJSON(b *testing.B)  { benchmarkRead(b, "json-file") }
func BenchmarkReadLocal(b *testing.B) { benchmarkRead(b, "local") }

// TestJSONTimes: times are written as time.RFC3339Nano has them, whatever the order of streams and seconds.
func TestJSONTimes(t *testing.T) {
	j := newJSON("")
	streams := []*Stream{NewStream("stdout"), NewStream("stderr"), NewStream("stdout")}
	for i, at := range []int64{base, base + 1, base + 999999999, base + 1e9, 0, 1, 5, 10, 100000, 123456789, 999999999, 1e9, 1e9 + 900000000, -1, -1e9, -1500000000, base, base + 880000000} {
		e := &entry{stream: streams[i%len(streams)], line: []byte("x"), whole: true, time: at}
		var got struct {
			Log, Stream, Time string
		}
		text := j.append(nil, e)
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err, string(text))
		}
		want := time.Unix(0, at).UTC().Format(time.RFC3339Nano)
		if got.Time != want || got.Log != "x\n" || got.Stream != e.stream.name {
			t.Errorf("%d: got %s, want %s", at, text, want)
		}
	}
}

// TestClockSetBack: times grow within a run and over runs, whatever the clock does, so that a reader who goes on behind a time misses
// nothing.
func TestClockSetBack(t *testing.T) {
	hour := int64(time.Hour)
	for _, driver := range []string{"json-file", "local"} {
		path := filepath.Join(t.TempDir(), "log")
		now := time.Now().UnixNano()
		for run, times := range [][]int64{{now, now - 5*hour, now - 4*hour}, {now - 10*hour, now - 9*hour}, {now + hour, now}} {
			w := open(t, Config{Driver: driver, Path: path})
			for i, at := range times {
				put(t, w, NewStream("stdout"), fmt.Sprintf("run %d line %d\n", run, i), at)
			}
			w.Close()
		}
		if _, n := readAll(t, driver, path); n != 7 { // which looks at the times, too
			t.Errorf("%s: %d entries", driver, n)
		}
	}
}
