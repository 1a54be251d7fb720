package registryv1

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

func someTar(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: 3000, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), 3000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// measure feeds a meter in pieces of n bytes.
func measure(data []byte, n int) (*meter, digest.Digest, error) {
	m := newMeter([]byte("{}"))
	defer m.stop()
	if _, err := io.CopyBuffer(struct{ io.Writer }{m}, struct{ io.Reader }{bytes.NewReader(data)}, make([]byte, n)); err != nil {
		return m, "", err
	}
	d, err := m.finish()
	return m, d, err
}

func TestMeter(t *testing.T) {
	plain := someTar(t)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	padded := append(bytes.Clone(plain), make([]byte, 10240)...)
	for _, c := range []struct {
		data     []byte
		encoding graph.Encoding
		inside   []byte
		entries  int
	}{
		{plain, graph.Plain, plain, 1}, {padded, graph.Plain, padded, 1}, {zipped(t, plain), graph.Gzip, plain, 1},
		{enc.EncodeAll(plain, nil), graph.Zstd, plain, 1}, {imagev1.EmptyLayer(), graph.Plain, imagev1.EmptyLayer(), 0},
		{nil, graph.Plain, nil, 0}, {zipped(t, nil), graph.Gzip, nil, 0},
		{append(zipped(t, plain[:700]), zipped(t, plain[700:])...), graph.Gzip, plain, 1},
	} {
		for _, n := range []int{1, 512, 100_000} {
			m, d, err := measure(c.data, n)
			if err != nil {
				t.Fatalf("%s: %v", c.encoding, err)
			}
			if d != digest.FromBytes(c.data) || m.diff != digest.FromBytes(c.inside) || m.encoding != c.encoding || m.entries != c.entries {
				t.Errorf("%s in pieces of %d: %s %s %s %d", c.encoding, n, d, m.diff, m.encoding, m.entries)
			}
			p := imagev1.NewPayload([]byte("{}"))
			_, _ = p.Write(c.data)
			if p.Checksum() != m.payload.Checksum() {
				t.Errorf("%s: another payload", c.encoding)
			}
		}
	}
	if imagev1.EmptyDiffID != digest.FromBytes(imagev1.EmptyLayer()) {
		t.Error("the empty layer has another digest")
	}
}

// FuzzMeter: no layer breaks it, whatever it comes in, and one that is refused is refused as a layer.
func FuzzMeter(f *testing.F) {
	plain := someTar(f)
	f.Add(plain, 100)
	f.Add(zipped(f, plain), 7)
	f.Add([]byte("BZh91AY&SY"), 1)
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F"), 3)
	f.Add([]byte("\x28\xb5\x2f\xfd\x24\x01\x09\x00\x00x"), 2)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		m, d, err := measure(data, min(max(n, 1), 1<<16))
		if err != nil {
			if !errors.Is(err, errBadTar) {
				t.Fatal(err)
			}
			return
		}
		if d != digest.FromBytes(data) || m.encoding == graph.Plain && m.diff != d {
			t.Fatal(d, m.diff)
		}
	})
}
