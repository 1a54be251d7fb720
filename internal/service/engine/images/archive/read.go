// Package archive reads and writes image archives: OCI image layouts and docker's own formats, from the first one
// (repositories, VERSION, json, layer.tar per layer) over manifest.json to today's, which is both at once.
//
// Reading is one pass over the stream: each file goes into the content store as it comes by, whatever the order, and
// the documents that tie them together are understood at the end. The caller holds a lease meanwhile; what turns out
// to be of no use is left to the garbage collector.
package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore/compression"
)

const (
	// maxDocument bounds each JSON file of an archive in bytes.
	maxDocument = 8 << 20
	// maxFiles bounds the files of an archive: more is no image archive but, say, a root filesystem.
	maxFiles = 20000
	// maxLinks bounds how many links lead to one file.
	maxLinks = 8
)

// Store is where blobs are kept.
type Store interface {
	WriteBlob(ctx context.Context, r io.Reader, want ocispec.Descriptor, labels map[string]string) (ocispec.Descriptor, error)
	WriteBytes(ctx context.Context, mediaType string, b []byte, labels map[string]string) (ocispec.Descriptor, error)
	ReadBytes(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error)
	Has(ctx context.Context, d digest.Digest) bool
	Content() content.Store
}

// Loaded is an image found in an archive.
type Loaded struct {
	// Name is a full reference; empty for an image without a name.
	Name   string
	Target ocispec.Descriptor
}

// Read stores the blobs of an archive in any known format, plain or compressed, and tells what images it holds. Errors
// about the archive are of class ErrInvalidArgument.
func Read(ctx context.Context, store Store, r io.Reader) ([]Loaded, error) {
	plain, _, err := compression.NewReader(r)
	if err != nil {
		return nil, fault.Invalid("failed to decompress input tar archive: %w", err)
	}
	defer plain.Close()
	rd := &reader{store: store, files: map[string]ocispec.Descriptor{}, docs: map[string][]byte{}, links: map[string]string{}}
	if err := rd.scan(ctx, tar.NewReader(plain)); err != nil {
		return nil, err
	}
	switch {
	case rd.docs["oci-layout"] != nil && rd.docs["index.json"] != nil:
		return rd.layout(ctx)
	case rd.docs["manifest.json"] != nil:
		return rd.dockerSave(ctx)
	case rd.legacyIDs() != nil:
		return rd.legacy(ctx)
	}
	return nil, fault.Invalid("unrecognized image format")
}

type reader struct {
	store Store
	files map[string]ocispec.Descriptor // blobs by path
	docs  map[string][]byte             // documents by path
	links map[string]string             // link to target, both as paths in the archive
}

func (r *reader) scan(ctx context.Context, tr *tar.Reader) error {
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Invalid("failed to read archive: %w", err)
		}
		if n > maxFiles {
			return fault.Invalid("unrecognized image format: more than %d files", maxFiles)
		}
		name := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if err := r.file(ctx, name, h.Size, tr); err != nil {
				return err
			}
		case tar.TypeSymlink:
			r.links[name] = clean(path.Join(path.Dir(name), h.Linkname))
		case tar.TypeLink:
			r.links[name] = clean(h.Linkname)
		}
	}
}

// clean makes a path of the archive relative to its root whatever it tries.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (r *reader) file(ctx context.Context, name string, size int64, f io.Reader) error {
	if isDocument(name) {
		if size > maxDocument {
			return fault.Invalid("invalid archive: %s has %d bytes", name, size)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			return fault.Invalid("failed to read %s: %w", name, err)
		}
		r.docs[name] = b
		return nil
	}
	want := ocispec.Descriptor{Size: size}
	if d, ok := blobDigest(name); ok {
		if d.Validate() != nil {
			return fault.Invalid("invalid archive: %s is no digest", name)
		}
		want.Digest = d
	}
	got, err := r.store.WriteBlob(ctx, readErrors{f}, want, nil)
	if err != nil {
		if errdefs.IsInvalidArgument(err) || errdefs.IsFailedPrecondition(err) {
			return fault.Invalid("invalid archive: %s: %w", name, err)
		}
		return err
	}
	if want.Digest != "" { // already there: the rest of the file is skipped by the tar reader
		got.Digest = want.Digest
	}
	r.files[name] = ocispec.Descriptor{Digest: got.Digest, Size: got.Size}
	return nil
}

// readErrors makes failures to read the archive the client's fault.
type readErrors struct{ io.Reader }

func (r readErrors) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fault.Invalid("failed to read archive: %w", err)
	}
	return n, err
}

// isDocument tells the files that are small and understood by us.
func isDocument(name string) bool {
	switch name {
	case "oci-layout", "index.json", "manifest.json", "repositories":
		return true
	}
	dir, base := path.Split(name)
	return strings.Count(dir, "/") == 1 && (base == "json" || base == "VERSION")
}

func blobDigest(name string) (digest.Digest, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != "blobs" {
		return "", false
	}
	return digest.NewDigestFromEncoded(digest.Algorithm(parts[1]), parts[2]), true
}

// lookup finds a stored file, through links.
func (r *reader) lookup(name string) (ocispec.Descriptor, bool) {
	name = clean(name)
	for range maxLinks {
		if d, ok := r.files[name]; ok {
			return d, true
		}
		next, ok := r.links[name]
		if !ok {
			break
		}
		name = next
	}
	return ocispec.Descriptor{}, false
}

// Media types of docker's images.
const (
	typeManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	typeConfig    = "application/vnd.docker.container.image.v1+json"
	typeLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	typeLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	typeLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// layer gives a stored layer its media type and tells its diff ID when that is cheap: plain layers. Compressions that
// no manifest can name are undone.
func (r *reader) layer(ctx context.Context, d ocispec.Descriptor) (_ ocispec.Descriptor, diff digest.Digest, _ error) {
	ra, err := r.store.Content().ReaderAt(ctx, d)
	if err != nil {
		return d, "", fmt.Errorf("read layer: %w", err)
	}
	defer ra.Close()
	src := bufio.NewReader(io.NewSectionReader(ra, 0, ra.Size()))
	head, err := src.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return d, "", fmt.Errorf("read layer: %w", err)
	}
	switch compression.Detect(head) {
	case compression.None:
		d.MediaType = typeLayer
		return d, d.Digest, nil
	case compression.Gzip:
		d.MediaType = typeLayerGzip
		return d, "", nil
	case compression.Zstd:
		d.MediaType = typeLayerZstd
		return d, "", nil
	}
	plain, _, err := compression.NewReader(src)
	if err != nil {
		return d, "", fault.Invalid("invalid layer %s: %w", d.Digest, err)
	}
	defer plain.Close()
	d, err = r.store.WriteBlob(ctx, plain, ocispec.Descriptor{MediaType: typeLayer}, nil)
	return d, d.Digest, err
}

// image writes the manifest of an image that came without one.
func (r *reader) image(ctx context.Context, config ocispec.Descriptor, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	doc := struct {
		SchemaVersion int                  `json:"schemaVersion"`
		MediaType     string               `json:"mediaType"`
		Config        ocispec.Descriptor   `json:"config"`
		Layers        []ocispec.Descriptor `json:"layers"`
	}{2, typeManifest, config, layers}
	if doc.Layers == nil {
		doc.Layers = []ocispec.Descriptor{}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode manifest: %w", err)
	}
	return r.store.WriteBytes(ctx, typeManifest, b, nil)
}
