package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// memory is a Store of the smallest kind.
type memory struct{ blobs map[digest.Digest][]byte }

func (m *memory) WriteBlob(_ context.Context, r io.Reader, want ocispec.Descriptor, _ map[string]string) (ocispec.Descriptor, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return want, err
	}
	got := digest.FromBytes(b)
	if want.Digest != "" && want.Digest != got || want.Size > 0 && want.Size != int64(len(b)) {
		return want, errdefs.ErrFailedPrecondition
	}
	m.blobs[got] = b
	want.Digest, want.Size = got, int64(len(b))
	return want, nil
}

func (m *memory) WriteBytes(ctx context.Context, media string, b []byte, l map[string]string) (ocispec.Descriptor, error) {
	return m.WriteBlob(ctx, bytes.NewReader(b), ocispec.Descriptor{MediaType: media}, l)
}

func (m *memory) ReadBytes(_ context.Context, d ocispec.Descriptor, _ int64) ([]byte, error) {
	b, ok := m.blobs[d.Digest]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return b, nil
}

func (m *memory) Has(_ context.Context, d digest.Digest) bool { return m.blobs[d] != nil }

func (m *memory) Content() content.Store { return memoryContent{m: m} }

type memoryContent struct {
	content.Store
	m *memory
}

type readerAt struct{ *bytes.Reader }

func (readerAt) Close() error { return nil }

func (c memoryContent) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	b, ok := c.m.blobs[d.Digest]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return readerAt{bytes.NewReader(b)}, nil
}

func (c memoryContent) Info(_ context.Context, d digest.Digest) (content.Info, error) {
	b, ok := c.m.blobs[d]
	if !ok {
		return content.Info{}, errdefs.ErrNotFound
	}
	return content.Info{Digest: d, Size: int64(len(b))}, nil
}

func pack(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		_ = w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644, Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, files[i+1])
	}
	_ = w.Close()
	return b.Bytes()
}

// FuzzRead feeds archives: nothing may panic, errors are the client's, and what is loaded is whole.
func FuzzRead(f *testing.F) {
	layer := string(pack("a", "b"))
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + digest.FromString(layer).String() + `"]}}`
	f.Add(pack("l/layer.tar", layer, "c.json", config, "manifest.json", `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l/layer.tar"]}]`))
	f.Add(pack("x/json", `{"id":"x"}`, "x/VERSION", "1.0", "x/layer.tar", layer, "repositories", `{"a":{"b":"x"}}`))
	f.Add(pack("oci-layout", `{"imageLayoutVersion":"1.0.0"}`, "index.json", `{"manifests":[{"digest":"`+digest.FromString("{}").String()+`"}]}`, "blobs/sha256/"+digest.FromString("{}").Encoded(), "{}"))
	f.Add(pack("manifest.json", `[{"Config":"../../etc/passwd","Layers":null}]`))
	f.Add([]byte{0x1f, 0x8b, 0x08, 0, 0})
	f.Add([]byte("BZh9"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &memory{blobs: map[digest.Digest][]byte{}}
		list, err := Read(t.Context(), m, bytes.NewReader(b))
		if err != nil {
			if !errdefs.IsInvalidArgument(err) && !errors.Is(err, context.Canceled) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		for _, l := range list {
			if !m.Has(t.Context(), l.Target.Digest) || l.Target.Digest.Validate() != nil {
				t.Fatalf("target %s is not stored", l.Target.Digest)
			}
		}
	})
}

func TestNamesOfLayouts(t *testing.T) {
	for in, want := range map[string]string{"busybox": "docker.io/library/busybox:latest", "a/b:1": "docker.io/a/b:1", "": "", "A B": ""} {
		if got := layoutName(map[string]string{ocispec.AnnotationRefName: in}); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTooManyFiles(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for range maxFiles + 2 {
		_ = w.WriteHeader(&tar.Header{Name: "d/", Typeflag: tar.TypeDir})
	}
	_ = w.Close()
	_, err := Read(t.Context(), &memory{blobs: map[digest.Digest][]byte{}}, &b)
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "unrecognized image format") {
		t.Error(err)
	}
}
