package blobdisk_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/driver/blobdisk"
)

func put(t testing.TB, s *blobdisk.Store, data []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(data)
	if _, err := s.Put(context.Background(), d, int64(len(data)), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return d
}

func read(t testing.TB, s *blobdisk.Store, d digest.Digest) []byte {
	t.Helper()
	c, err := s.Open(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// powerCut copies a store as a disk could hold it after a power cut: of what was not synced, names may be there without
// bytes, with zeros, or not at all.
func powerCut(t *testing.T, dir string) string {
	t.Helper()
	after := filepath.Join(t.TempDir(), "after")
	if out, err := exec.Command("cp", "-a", dir, after).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	for i, path := range files(t, filepath.Join(after, "blobs")) {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 0:
			err = os.Remove(path)
		case 1:
			err = os.Truncate(path, 0)
		case 2:
			err = os.WriteFile(path, make([]byte, fi.Size()), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return after
}

// TestPowerCut: small blobs that were acknowledged come back from the log.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := map[digest.Digest][]byte{}
	for i := range 40 {
		data := bytes.Repeat(fmt.Appendf(nil, "%d,", i), i*i)
		want[put(t, s, data)] = data
	}
	long := []byte("of another algorithm")
	d := digest.SHA512.FromBytes(long)
	if err := s.Begin(context.Background(), "up", digest.SHA512); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(context.Background(), "up", 0, bytes.NewReader(long)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(context.Background(), "up", d); err != nil {
		t.Fatal(err)
	}
	want[d] = long
	for range 2 { // what New has put back is good for another power cut
		dir = powerCut(t, dir)
		s = open(t, dir)
		for d, data := range want {
			if got := read(t, s, d); !bytes.Equal(got, data) {
				t.Fatalf("%s: %d bytes of %d", d, len(got), len(data))
			}
		}
		for d, data := range want {
			if put(t, s, data) != d && d != digest.SHA512.FromBytes(long) {
				t.Fatal("another digest")
			}
		}
		put(t, s, long)
		if _, err := s.Put(context.Background(), d, -1, bytes.NewReader(long)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSettle: a settled log restores nothing, and what comes after it is restored.
func TestSettle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	settled := put(t, s, []byte("settled"))
	if err := s.Settle(context.Background(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	later := put(t, s, []byte("later"))
	after := filepath.Join(t.TempDir(), "after")
	if out, err := exec.Command("cp", "-a", dir, after).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	for _, path := range files(t, filepath.Join(after, "blobs")) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, after)
	if got := read(t, again, later); string(got) != "later" {
		t.Fatalf("%q", got)
	}
	if _, err := again.Stat(context.Background(), settled); err == nil {
		t.Fatal("the log was not empty")
	}
}

// TestManySmall: more than the log holds, from many sides, while it is settled, by two stores of one folder.
func TestManySmall(t *testing.T) {
	dir := t.TempDir()
	stores := []*blobdisk.Store{open(t, dir), open(t, dir)}
	var all sync.Map
	var wg, settling sync.WaitGroup
	stop := make(chan struct{})
	settling.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := stores[0].Settle(context.Background(), 0); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for w := range 16 {
		wg.Go(func() {
			for i := range 60 {
				data := bytes.Repeat(fmt.Appendf(nil, "%04d%04d", w, i), 3900)
				all.Store(put(t, stores[w%2], data), data)
			}
		})
	}
	wg.Wait()
	close(stop)
	settling.Wait()
	if segments := files(t, filepath.Join(dir, "intake")); len(segments) > 2*24 {
		t.Errorf("%d segments", len(segments))
	}
	all.Range(func(d, data any) bool {
		if got := read(t, stores[0], d.(digest.Digest)); !bytes.Equal(got, data.([]byte)) {
			t.Errorf("%s: %d bytes", d, len(got))
		}
		return true
	})
	if n := len(files(t, filepath.Join(dir, "uploads"))); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// TestUploadsOfOlderVersions lay in one directory; they go on.
func TestUploadsOfOlderVersions(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "uploads"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "uploads", "old-one"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if n, err := s.Append(context.Background(), "old-one", 4, bytes.NewReader([]byte(" and half"))); n != 13 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := s.Commit(context.Background(), "old-one", digest.FromString("half and half")); err != nil {
		t.Fatal(err)
	}
}
