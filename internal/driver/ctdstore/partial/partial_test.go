package partial

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
)

func begin(t *testing.T, s *Store, d digest.Digest) *Blob {
	t.Helper()
	b, err := s.Begin(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	return len(list)
}

func TestGoesOn(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), worth/8)
	d, dir := digest.FromBytes(body), filepath.Join(t.TempDir(), "d")
	b := begin(t, New(dir), d)
	if b.Inherited() || b.Size() != 0 {
		t.Errorf("a new blob has %d bytes", b.Size())
	}
	must(t, b.From(Origin{"h:1", `"x"`}))
	_, err := b.Write(body[:worth+1])
	must(t, err, b.Close())

	s := New(dir) // another process
	b = begin(t, s, d)
	if !b.Inherited() || b.Size() != worth+1 || b.Origin() != (Origin{"h:1", `"x"`}) {
		t.Fatalf("%d bytes of %+v", b.Size(), b.Origin())
	}
	if _, err := s.Begin(d); !errdefs.IsUnavailable(err) {
		t.Errorf("two writers: %v", err)
	}
	if err := b.Finish(int64(len(body))); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("half a blob: %v", err)
	}
	_, err = b.Write(body[worth+1:])
	must(t, err, b.Finish(int64(len(body))))
	got, err := io.ReadAll(b.Reader())
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes read back: %v", len(got), err)
	}
	must(t, b.Remove(), b.Close())
	if n := entries(t, dir); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

func TestAnewAndNotWorthKeeping(t *testing.T) {
	d, dir := digest.FromString("right"), t.TempDir()
	s := New(dir)
	b := begin(t, s, d)
	_, err := b.Write([]byte("wrong"))
	must(t, err)
	if err := b.Finish(5); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("wrong bytes: %v", err)
	}
	must(t, b.Restart())
	_, err = b.Write([]byte("right"))
	must(t, err, b.Finish(0), b.Close())
	if n := entries(t, dir); n != 0 {
		t.Errorf("%d files of five bytes are kept", n)
	}
	if _, err := s.Begin("sha256:../../etc/passwd"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a digest that is a path: %v", err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	old, young, busy := digest.FromString("old"), digest.FromString("young"), digest.FromString("busy")
	for _, d := range []digest.Digest{old, young} {
		b := begin(t, s, d)
		_, err := b.Write(make([]byte, worth))
		must(t, err, b.From(Origin{Host: "h"}), b.Close())
	}
	writing := begin(t, s, busy)
	long := time.Now().Add(-48 * time.Hour)
	must(t, os.Chtimes(filepath.Join(dir, "sha256-"+old.Encoded()), long, long), os.Chtimes(writing.Path(), long, long),
		os.WriteFile(filepath.Join(dir, "orphan"+originSuffix), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "sha256-"+digest.FromString("small").Encoded()), nil, 0o600))
	freed, err := s.Sweep(time.Now().Add(-24 * time.Hour))
	if err != nil || freed != worth {
		t.Errorf("freed %d: %v", freed, err)
	}
	if n := entries(t, dir); n != 3 { // the young one with its origin, and the one that is written
		t.Errorf("%d files are left", n)
	}
	must(t, writing.Close())
	if freed, err := New(filepath.Join(dir, "none")).Sweep(time.Now()); freed != 0 || err != nil {
		t.Errorf("an empty store: %d %v", freed, err)
	}
}
