package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

func open(t *testing.T, dir string, opts ...Option) *Journal {
	t.Helper()
	j, err := Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func at(n int64) events.Message {
	return events.Message{Type: "container", Action: "start", Actor: events.Actor{ID: strconv.FormatInt(n, 10), Attributes: map[string]string{"name": "a\nb"}}, TimeNano: n}
}

// past reads what the journal has between since and until, which must lie in the past.
func past(t *testing.T, j *Journal, since, until int64) string {
	t.Helper()
	var got string
	err := j.Read(t.Context(), time.Unix(0, since), time.Unix(0, until), func(m events.Message) error {
		got += m.Actor.ID + " "
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPastByNanoseconds(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for n := int64(1000); n < 1010; n++ {
		j.Publish(t.Context(), at(n))
	}
	for round := range 2 {
		if got := past(t, j, 1003, 1006); got != "1003 1004 1005 1006 " {
			t.Fatalf("round %d: %q", round, got)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, dir)
	}
	j.Publish(t.Context(), at(1010))
	if got := past(t, j, 1009, 2000); got != "1009 1010 " {
		t.Fatal(got)
	}
}

func TestStamp(t *testing.T) {
	now := time.Unix(5, 7)
	j := open(t, t.TempDir(), Clock(func() time.Time { return now }))
	j.Publish(t.Context(), events.Message{})
	j.Publish(t.Context(), events.Message{Time: 4})
	j.Publish(t.Context(), events.Message{TimeNano: 3e9 + 1})
	var got []int64
	_ = j.Read(t.Context(), time.Unix(0, 1), now, func(m events.Message) error {
		got = append(got, m.Time, m.TimeNano)
		if m.Scope != "local" {
			t.Errorf("scope %q", m.Scope)
		}
		return nil
	})
	if fmt.Sprint(got) != "[5 5000000007 4 4000000000 3 3000000001]" {
		t.Fatal(got)
	}
}

// TestPastThenLive: nothing is missed or told twice where the past ends and the present begins.
func TestPastThenLive(t *testing.T) {
	j := open(t, t.TempDir(), Size(4, 20_000))
	const total, readers = 600, 5
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for r := range readers {
		wg.Go(func() {
			next := int64(1)
			done := errors.New("done")
			err := j.Read(ctx, time.Unix(0, 1), time.Time{}, func(m events.Message) error {
				if m.TimeNano != next {
					return fmt.Errorf("got %d, want %d", m.TimeNano, next)
				}
				if next++; next > total {
					return done
				}
				return nil
			})
			if !errors.Is(err, done) {
				t.Errorf("reader %d: %v", r, err)
			}
		})
	}
	for n := int64(1); n <= total; n++ {
		j.Publish(ctx, at(n))
	}
	wg.Wait()
	if j.Listeners() != 0 {
		t.Error("readers left")
	}
}

func TestUntilEndsLiveReader(t *testing.T) {
	j := open(t, t.TempDir())
	until := time.Now().Add(50 * time.Millisecond)
	if err := j.Read(t.Context(), time.Time{}, until, func(events.Message) error { return errors.New("no event was there") }); err != nil {
		t.Fatal(err)
	}
	if time.Now().Before(until) {
		t.Fatal("ended too early")
	}
}

func TestCancelAndClose(t *testing.T) {
	j := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- j.Read(ctx, time.Time{}, time.Time{}, func(events.Message) error { return nil }) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	go func() {
		ended <- j.Read(t.Context(), time.Time{}, time.Time{}, func(events.Message) error { return nil })
	}()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	j.Publish(t.Context(), at(1))
}

// TestSlowReader: Publish does not wait, the reader is told.
func TestSlowReader(t *testing.T) {
	j := open(t, t.TempDir(), Ring(8))
	first := make(chan struct{})
	proceed := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		var once sync.Once
		ended <- j.Read(t.Context(), time.Time{}, time.Time{}, func(events.Message) error {
			once.Do(func() { close(first); <-proceed })
			return nil
		})
	}()
	for j.Listeners() == 0 {
		time.Sleep(time.Millisecond)
	}
	j.Publish(t.Context(), at(1))
	<-first
	for n := range int64(100) {
		j.Publish(t.Context(), at(n+2))
	}
	close(proceed)
	if err := <-ended; !errors.Is(err, ErrBehind) {
		t.Fatal(err)
	}
}

func TestBounded(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Size(3, 1000))
	for n := int64(1); n <= 500; n++ {
		j.Publish(t.Context(), at(n))
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	var size int64
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if len(files) != 3 || size > 3*1300 {
		t.Fatal(len(files), "files,", size, "bytes")
	}
	if got := past(t, j, 499, 500); got != "499 500 " {
		t.Fatal(got)
	}
}

func TestClockSetBack(t *testing.T) {
	j := open(t, t.TempDir(), Size(5, 1))
	for _, n := range []int64{3000, 2000, 1000} {
		j.Publish(t.Context(), at(n))
	}
	if got := past(t, j, 1, 5000); got != "3000 2000 1000 " {
		t.Fatal(got)
	}
}

// TestClockSetFarBack: what happened after the clock was set back is found by its own time, also by a reader who wants no later one.
func TestClockSetFarBack(t *testing.T) {
	hour := int64(time.Hour)
	for _, size := range []int64{1, 1 << 20} {
		j := open(t, t.TempDir(), Size(9, size))
		for _, n := range []int64{10 * hour, 11 * hour, 2 * hour, 3 * hour, 12 * hour} {
			j.Publish(t.Context(), at(n))
		}
		for _, c := range []struct {
			since, until int64
			want         string
		}{
			{1, 4, "2 3 "}, {3, 10, "10 3 "}, {9, 13, "10 11 12 "}, {3, 3, "3 "},
		} {
			got := ""
			err := j.Read(t.Context(), time.Unix(0, c.since*hour), time.Unix(0, c.until*hour), func(m events.Message) error {
				got += fmt.Sprint(m.TimeNano/hour, " ")
				return nil
			})
			if err != nil || got != c.want {
				t.Errorf("from %d to %d: %q, want %q (%v)", c.since, c.until, got, c.want, err)
			}
		}
	}
}

// TestRingBytes: events with large labels push others out of memory early; who is not behind misses nothing.
func TestRingBytes(t *testing.T) {
	j := open(t, t.TempDir())
	large := at(1)
	large.Actor.Attributes = map[string]string{"label": strings.Repeat("x", 900<<10)}
	seen := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan struct{})
	started := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		close(started)
		done <- j.Read(ctx, time.Time{}, time.Time{}, func(events.Message) error {
			seen++
			told <- struct{}{}
			return nil
		})
	}()
	<-started
	for j.Listeners() == 0 {
		runtime.Gosched()
	}
	for range 100 {
		j.Publish(ctx, large)
		<-told
	}
	j.mu.Lock()
	held, kept := j.held, j.next-j.first
	j.mu.Unlock()
	if held > ringBytes || kept < 30 || kept > 40 {
		t.Errorf("%d events with %d bytes are in memory", kept, held)
	}
	if _, _, err := j.after(0); !errors.Is(err, ErrBehind) {
		t.Errorf("a reader who is behind: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || seen != 100 {
		t.Errorf("the reader saw %d events: %v", seen, err)
	}
}

// TestTorn: every way of cutting or damaging the newest file costs the damaged events only.
func TestTorn(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for n := int64(1); n <= 3; n++ {
		j.Publish(t.Context(), at(n))
	}
	path := j.segments[0].path
	_ = j.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := len(whole) / 3
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		j.Publish(t.Context(), at(9))
		want := []string{"9 ", "1 9 ", "1 2 9 ", "1 2 3 9 "}[cut/line]
		if got := past(t, j, 1, 10); got != want {
			t.Fatalf("cut at %d: %q, want %q", cut, got, want)
		}
		_ = j.Close()
	}
	zeros := append(append(bytes.Clone(whole[:line]), make([]byte, 4096)...), whole[line:]...)
	if err := os.WriteFile(path, zeros, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := past(t, open(t, dir), 1, 10); got != "1 3 " {
		t.Fatal(got)
	}
}

// TestLostDirectory: an event that cannot be written is still told to live readers.
func TestLostDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := open(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		_ = j.Read(t.Context(), time.Time{}, time.Time{}, func(m events.Message) error { got <- m.Actor.ID; return errors.New("enough") })
	}()
	for j.Listeners() == 0 {
		time.Sleep(time.Millisecond)
	}
	j.Publish(t.Context(), at(1))
	if id := <-got; id != "1" {
		t.Fatal(id)
	}
}

func TestRunSyncs(t *testing.T) {
	j := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	j.Publish(ctx, at(1))
	cancel()
	if err := <-ended; err != nil || j.dirty {
		t.Fatal(err, j.dirty)
	}
}

func FuzzScan(f *testing.F) {
	m := at(5)
	line, _ := encode(nil, &m)
	f.Add(append(bytes.Clone(line), line...))
	f.Add([]byte("00000000 {}\n"))
	f.Add(append([]byte("garbage\n\x00"), line...))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		count := func(events.Message) error { n++; return nil }
		if err := scan(bytes.NewReader(data), count); err != nil {
			t.Fatal(err)
		}
		before := n
		// Whatever stands there, a whole event behind a line end is found.
		n = 0
		if err := scan(bytes.NewReader(append(append(bytes.Clone(data), '\n'), line...)), count); err != nil || n < before+1 {
			t.Fatalf("%d events, then %d: %v", before, n, err)
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	j, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	for range b.N {
		j.Publish(context.Background(), at(0))
	}
}
