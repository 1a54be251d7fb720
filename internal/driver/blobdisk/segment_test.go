package blobdisk

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzReadRecord: whatever lies in a log, what is taken for a blob has its digest.
func FuzzReadRecord(f *testing.F) {
	for _, d := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x"), digest.FromString("y")} {
		b, err := appendRecord(nil, 7, d, []byte("x"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add(make([]byte, 2*headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, d, data, ok := readRecord(bytes.NewReader(b), int64(len(b)))
		if ok && d.Algorithm().FromBytes(data) != d {
			t.Fatalf("%s: %q", d, data)
		}
	})
}

func TestRecord(t *testing.T) {
	for _, d := range []digest.Digest{digest.FromString("some bytes"), digest.SHA512.FromString("some bytes")} {
		b, err := appendRecord([]byte("before"), 7, d, []byte("some bytes"))
		if err != nil {
			t.Fatal(err)
		}
		b = b[len("before"):]
		g, got, data, ok := readRecord(bytes.NewReader(b), int64(len(b)))
		if g != 7 || got != d || string(data) != "some bytes" || !ok {
			t.Fatal(g, got, string(data), ok)
		}
		for i := range b {
			torn := bytes.Clone(b)
			torn[i] ^= 0x10
			if _, _, _, ok := readRecord(bytes.NewReader(torn), int64(len(torn))); ok {
				t.Fatalf("byte %d may change", i)
			}
		}
	}
	if _, err := appendRecord(nil, 1, "md5:d41d8cd98f00b204e9800998ecf8427e", nil); err == nil {
		t.Fatal("md5")
	}
}
