package compression

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

func packed(t testing.TB, kind Kind, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case Gzip:
		w = gzip.NewWriter(&out)
	case Zstd:
		w, err = zstd.NewWriter(&out)
	case Xz:
		w, err = xz.NewWriter(&out)
	default:
		return b
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReader(t *testing.T) {
	for _, size := range []int{0, 1, 9, chunkSize - 1, chunkSize, 3*chunkSize + 7, 20 * chunkSize} {
		plain := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for _, kind := range []Kind{None, Gzip, Zstd, Xz} {
			b := packed(t, kind, plain)
			r, got, err := NewReader(bytes.NewReader(b))
			if err != nil || got != kind {
				t.Fatalf("%d bytes of kind %d: kind %d, %v", size, kind, got, err)
			}
			out, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(out, plain) {
				t.Errorf("%d bytes of kind %d: got %d, %v", size, kind, len(out), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if kind == None || size == 0 {
				continue
			}
			r, _, err = NewReader(bytes.NewReader(b[:len(b)-3]))
			if err == nil {
				if _, err = io.ReadAll(r); err == nil {
					t.Errorf("truncated kind %d of %d bytes went through", kind, size)
				}
				_ = r.Close()
			}
		}
	}
}

func TestCloseEarly(t *testing.T) {
	r, _, err := NewReader(bytes.NewReader(packed(t, Gzip, make([]byte, 50*chunkSize))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestReadErrorsAreKept(t *testing.T) {
	if _, _, err := NewReader(failing{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// FuzzReader looks for panics and for streams that never end.
func FuzzReader(f *testing.F) {
	for _, k := range []Kind{None, Gzip, Zstd, Xz} {
		f.Add(packed(f, k, []byte("hello")))
	}
	f.Add([]byte("BZh91AY&SY"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		r, _, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<22))
		_ = r.Close()
	})
}
