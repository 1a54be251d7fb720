package ctdstore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestWriteBlobOfAnotherNamespace writes what the builder's history holds already.
func TestWriteBlobOfAnotherNamespace(t *testing.T) {
	s := open(t, t.TempDir())
	data := []byte("held by another namespace")
	want := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromBytes(data), Size: int64(len(data))}
	other := namespaces.WithNamespace(t.Context(), "other")
	w, err := s.Metadata().ContentStore().Writer(other, content.WithRef("r"), content.WithDescriptor(want))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err := errors.Join(err, w.Commit(other, want.Size, want.Digest), w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, d := range []ocispec.Descriptor{want, {Digest: want.Digest}, want} {
		got, err := s.WriteBlob(t.Context(), bytes.NewReader(data), d, nil)
		if err != nil || got.Size != want.Size || got.Digest != want.Digest {
			t.Fatalf("%+v %v", got, err)
		}
	}
	if text, err := s.ReadBytes(t.Context(), want, 1000); err != nil || !bytes.Equal(text, data) {
		t.Errorf("%q %v", text, err)
	}
}
