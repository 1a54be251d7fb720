package direct

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"
)

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

var lengths = []int{0, 1, 511, 4096, Chunk - 1, Chunk, Chunk + 1, 3*Chunk + 4096, 10*Chunk + 77}

// Whatever its length, and whatever the pieces that it comes in, a file has the bytes that were written.
func TestFile(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		for _, n := range lengths {
			want := noise(n)
			path := filepath.Join(dir, "longshore-direct-test")
			_ = os.Remove(path)
			f, err := Create(path)
			if err != nil {
				t.Fatal(err)
			}
			split := NewSplitter()
			readers := split.Readers(1)
			var writing sync.WaitGroup
			writing.Go(func() { err = readers[0].Each(func(b []byte) error { _, err := f.Write(b); return err }) })
			ferr := split.Feed(t.Context(), bytes.NewReader(want), readers, func() bool { return false })
			writing.Wait()
			if err := errors.Join(err, ferr, f.Finish()); err != nil {
				t.Fatalf("%d bytes in %s: %v", n, dir, err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes in %s: %d came, %v", n, dir, len(got), err)
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o444 {
				t.Errorf("%v %v", fi, err)
			}
			if _, err := Create(path); !errors.Is(err, os.ErrExist) {
				t.Errorf("a file that is there: %v", err)
			}
			_ = os.Remove(path)
		}
	}
}

// Pieces that do not suit the device, before others that do, are written nevertheless.
func TestOddPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	want := noise(3*Chunk + 10)
	for _, piece := range [][]byte{want[:Chunk], want[Chunk : Chunk+10], want[Chunk+10 : 2*Chunk+10], want[2*Chunk+10:]} {
		if _, err := f.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Error(len(got), err)
	}
}

// All readers of all streams see all of their bytes, however fast or slow they are, and whoever stops early is in nobody's way.
func TestSplitter(t *testing.T) {
	split := NewSplitter()
	var streams sync.WaitGroup
	for _, n := range lengths {
		streams.Go(func() {
			want := noise(n)
			readers := split.Readers(3)
			var reading sync.WaitGroup
			reading.Go(func() {
				var got bytes.Buffer
				err := readers[0].Each(func(b []byte) error { _, err := got.Write(b); return err })
				if err != nil || !bytes.Equal(got.Bytes(), want) {
					t.Errorf("each of %d: %d %v", n, got.Len(), err)
				}
			})
			reading.Go(func() {
				got, err := io.ReadAll(iotest.HalfReader(readers[1]))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("read of %d: %d %v", n, len(got), err)
				}
			})
			reading.Go(func() {
				_, _ = io.ReadFull(readers[2], make([]byte, min(n, 3000)))
				readers[2].Close()
			})
			if err := split.Feed(t.Context(), bytes.NewReader(want), readers, func() bool { return false }); err != nil {
				t.Error(err)
			}
			reading.Wait()
		})
	}
	streams.Wait()
	if len(split.free) != ahead {
		t.Errorf("%d of %d chunks are free at the end", len(split.free), ahead)
	}
}

func TestSplitterTellsErrors(t *testing.T) {
	split := NewSplitter()
	broken := errors.New("broken")
	full := errors.New("full")
	ended, end := context.WithCancel(t.Context())
	end()
	for name, c := range map[string]struct {
		ctx  context.Context
		from io.Reader
		each error // of the first reader
		want error
	}{
		"the stream breaks":     {t.Context(), io.MultiReader(bytes.NewReader(noise(2*Chunk+5)), iotest.ErrReader(broken)), nil, broken},
		"the caller has left":   {ended, bytes.NewReader(noise(30 * Chunk)), nil, context.Canceled},
		"a reader gives it up":  {t.Context(), bytes.NewReader(noise(30 * Chunk)), full, errStopped},
		"it breaks at once":     {t.Context(), iotest.ErrReader(broken), nil, broken},
		"it ends unexpectedly?": {t.Context(), iotest.ErrReader(io.ErrUnexpectedEOF), nil, io.ErrUnexpectedEOF},
	} {
		readers := split.Readers(2)
		var reading sync.WaitGroup
		var first, second error
		stopped := make(chan struct{})
		reading.Go(func() {
			first = readers[0].Each(func([]byte) error {
				if c.each != nil {
					select {
					case <-stopped:
					default:
						close(stopped)
					}
				}
				return c.each
			})
		})
		reading.Go(func() { _, second = io.Copy(io.Discard, readers[1]) })
		err := split.Feed(c.ctx, c.from, readers, func() bool {
			if c.each == nil {
				return false
			}
			<-stopped
			return true
		})
		reading.Wait()
		want := c.want
		if c.each != nil {
			want = c.each
		}
		if !errors.Is(err, c.want) || !errors.Is(first, want) || !errors.Is(second, c.want) {
			t.Errorf("%s: feed %v, readers %v and %v", name, err, first, second)
		}
		if len(split.free) != ahead {
			t.Fatalf("%s: %d of %d chunks are free", name, len(split.free), ahead)
		}
	}
}
