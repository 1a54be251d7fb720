package images

import (
	"archive/tar"
	"bytes"
	"io"
	"runtime"
	"testing"
)

// zeros is an endless source of padding.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// atEnd calls end when what is before it has been read.
type atEnd func()

func (f atEnd) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestImportHoldsNoArchive(t *testing.T) {
	r := newRig(t, Config{})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var archive bytes.Buffer
	if err := tar.NewWriter(&archive).Close(); err != nil {
		t.Fatal(err)
	}
	const size = 128 << 20
	var before, after uint64
	before = heap()
	body := io.MultiReader(&archive, io.LimitReader(zeros{}, size), atEnd(func() { after = heap() }))
	err := r.Import(t.Context(), body, ImportOptions{Source: "-", Repo: "padded"}, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if after == 0 || after > before+size/2 {
		t.Errorf("%d bytes in memory at the end of an import of %d, %d before", after, size, before)
	}
}
