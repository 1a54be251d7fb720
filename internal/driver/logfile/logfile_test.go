package logfile

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/logs"
)

var start = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func at(i int) time.Time { return start.Add(time.Duration(i) * time.Second) }

func jsonLine(i int) string {
	stream := "stdout"
	if i%2 == 1 {
		stream = "stderr"
	}
	return fmt.Sprintf(`{"log":"line %d\n","stream":"%s","time":"%s"}`+"\n", i, stream, at(i).Format(time.RFC3339Nano))
}

func jsonLines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(jsonLine(i))
	}
	return b.String()
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func pack(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.String()
}

func all() logs.ReadOptions { return logs.ReadOptions{Tail: -1, Stdout: true, Stderr: true} }

func read(t testing.TB, path string, o logs.ReadOptions) []string {
	t.Helper()
	var got []string
	err := New().Read(context.Background(), logs.Source{Driver: "json-file", Path: path}, o, func(m *logs.Message) error {
		got = append(got, strings.TrimSuffix(string(m.Line), "\n"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func numbers(from, to int) (s []string) {
	for i := from; i < to; i++ {
		s = append(s, fmt.Sprintf("line %d", i))
	}
	return s
}

func TestSelect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c-json.log")
	write(t, path+".2.gz", pack(jsonLines(0, 10)))
	write(t, path+".2.gz.tmp", "half a compression")
	write(t, path+".1", jsonLines(10, 20))
	write(t, path+".1.gz", "not finished")
	write(t, path, jsonLines(20, 30)+`{"log":"torn`)
	write(t, path+".old", "something else")
	for _, c := range []struct {
		name string
		edit func(*logs.ReadOptions)
		want []string
	}{
		{"all", func(o *logs.ReadOptions) {}, numbers(0, 30)},
		{"tail in the active file", func(o *logs.ReadOptions) { o.Tail = 3 }, numbers(27, 30)},
		{"tail of the whole active file", func(o *logs.ReadOptions) { o.Tail = 10 }, numbers(20, 30)},
		{"tail over files", func(o *logs.ReadOptions) { o.Tail = 15 }, numbers(15, 30)},
		{"tail into the packed file", func(o *logs.ReadOptions) { o.Tail = 25 }, numbers(5, 30)},
		{"tail of more than there is", func(o *logs.ReadOptions) { o.Tail = 100 }, numbers(0, 30)},
		{"no tail", func(o *logs.ReadOptions) { o.Tail = 0 }, nil},
		{"since", func(o *logs.ReadOptions) { o.Since = at(12) }, numbers(12, 30)},
		{"until", func(o *logs.ReadOptions) { o.Until = at(12) }, numbers(0, 13)},
		{"since and until", func(o *logs.ReadOptions) { o.Since, o.Until = at(8), at(21) }, numbers(8, 22)},
		{"stderr", func(o *logs.ReadOptions) { o.Stdout, o.Tail = false, 3 }, []string{"line 27", "line 29"}},
		{"nothing", func(o *logs.ReadOptions) { o.Stdout, o.Stderr = false, false }, nil},
	} {
		o := all()
		c.edit(&o)
		if got := read(t, path, o); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestNothingThere(t *testing.T) {
	if got := read(t, filepath.Join(t.TempDir(), "none", "x.log"), all()); got != nil {
		t.Errorf("%q", got)
	}
	o := all()
	o.Follow = true
	done := make(chan struct{})
	close(done)
	o.Done = done
	if got := read(t, filepath.Join(t.TempDir(), "none", "x.log"), o); got != nil {
		t.Errorf("%q", got)
	}
}

func TestDriverWithoutReading(t *testing.T) {
	err := New().Read(context.Background(), logs.Source{Driver: "none"}, all(), nil)
	if !errors.Is(err, errdefs.ErrInvalidArgument) || err.Error() != "configured logging driver does not support reading" {
		t.Error(err)
	}
}

// TestDamage: what is no entry is skipped, entries around it are read.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, jsonLine(0)+"{\"log\":\"torn\n"+"\x00\x00\x00\n\n{}\n[]\n"+jsonLine(1)+jsonLine(2)[:30])
	if got := read(t, path, all()); !reflect.DeepEqual(got, numbers(0, 2)) {
		t.Errorf("%q", got)
	}
}

func TestForeignWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, `{"time":"2026-11-21T12:00:00.5+02:00","stream":"stderr","log":"a\tb \ud83d\ude00 \u2028","attrs":{"k":"v"}}`+"\n"+
		`{"log":"\u0041\\\"\/ \ud83d x","stream":"stdout","attrs":{"k":"v","t":",\"time\":\""},"time":"2026-11-21T10:00:01Z"}`+"\n"+
		`{"stream":"stdout","time":"2026-11-21T10:00:02Z"}`+"\n")
	var got []logs.Message
	err := New().Read(context.Background(), logs.Source{Driver: "json-file", Path: path}, all(), func(m *logs.Message) error {
		c := *m
		c.Line = append([]byte(nil), m.Line...)
		got = append(got, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []logs.Message{
		{Stream: logs.Stderr, Time: start.Add(500 * time.Millisecond), Line: []byte("a\tb \U0001f600 \u2028"), Attrs: map[string]string{"k": "v"}},
		{Stream: logs.Stdout, Time: at(1), Line: []byte("A\\\"/ \ufffd x"), Attrs: map[string]string{"k": "v", "t": ",\"time\":\""}},
		{Stream: logs.Stdout, Time: at(2), Line: nil},
	}
	for i := range want {
		if i >= len(got) || !got[i].Time.Equal(want[i].Time) || string(got[i].Line) != string(want[i].Line) ||
			got[i].Stream != want[i].Stream || !reflect.DeepEqual(got[i].Attrs, want[i].Attrs) {
			t.Errorf("%d: %+v", i, got)
		}
	}
}

// TestReceiverFails: the receiver's error comes back as it is.
func TestReceiverFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, jsonLines(0, 5))
	full := errors.New("full")
	n := 0
	err := New().Read(context.Background(), logs.Source{Driver: "json-file", Path: path}, all(), func(*logs.Message) error { n++; return full })
	if !errors.Is(err, full) || err.Error() != "full" || n != 1 {
		t.Error(n, err)
	}
}

// follower collects lines until it is told to end.
type follower struct {
	t     testing.TB
	lines chan string
	done  chan struct{}
	err   chan error
}

func follow(t testing.TB, r *Reader, path string, edit func(*logs.ReadOptions)) *follower {
	f := &follower{t: t, lines: make(chan string, 100000), done: make(chan struct{}), err: make(chan error, 1)}
	o := all()
	o.Follow, o.Done = true, f.done
	if edit != nil {
		edit(&o)
	}
	go func() {
		defer close(f.lines)
		f.err <- r.Read(context.Background(), logs.Source{Driver: "json-file", Path: path}, o, func(m *logs.Message) error {
			f.lines <- strings.TrimSuffix(string(m.Line), "\n")
			return nil
		})
	}()
	return f
}

func (f *follower) expect(want []string) {
	f.t.Helper()
	for _, w := range want {
		select {
		case got, ok := <-f.lines:
			if !ok || got != w {
				f.t.Fatalf("got %q, want %q", got, w)
			}
		case <-time.After(10 * time.Second):
			f.t.Fatalf("%q does not come", w)
		}
	}
}

func (f *follower) end() {
	f.t.Helper()
	close(f.done)
	if err := <-f.err; err != nil {
		f.t.Fatal(err)
	}
	if got, ok := <-f.lines; ok {
		f.t.Fatalf("more came: %q", got)
	}
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	r := New()
	f := follow(t, r, path, nil) // before the file exists
	appendTo(t, path, jsonLines(0, 3)+jsonLine(3)[:10])
	f.expect(numbers(0, 3))
	late := follow(t, r, path, func(o *logs.ReadOptions) { o.Tail = 1 })
	late.expect(numbers(2, 3))
	appendTo(t, path, jsonLine(3)[10:])
	f.expect(numbers(3, 4))
	late.expect(numbers(3, 4))
	os.Rename(path, path+".1")
	appendTo(t, path, jsonLines(4, 6))
	f.expect(numbers(4, 6))
	late.expect(numbers(4, 6))
	f.end()
	late.end()
	if r.notify.f != nil {
		t.Error("inotify instance is left open")
	}
}

func TestFollowUntil(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, jsonLines(0, 3))
	f := follow(t, New(), path, func(o *logs.ReadOptions) { o.Until = time.Now().Add(20 * time.Millisecond) })
	f.expect(numbers(0, 3))
	if err := <-f.err; err != nil {
		t.Error(err)
	}
}

func TestFollowCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, jsonLines(0, 3))
	ctx, cancel := context.WithCancel(context.Background())
	o := all()
	o.Follow = true
	n := 0
	err := New().Read(ctx, logs.Source{Driver: "json-file", Path: path}, o, func(*logs.Message) error {
		if n++; n == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 3 {
		t.Error(n, err)
	}
}
