package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"sort"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image to write.
type Image struct {
	Target ocispec.Descriptor
	// Blobs are all stored blobs of it.
	Blobs map[digest.Digest]int64
	// Names are the full references that the archive gives it; none for an image saved by ID.
	Names []reference.Named
	// Config and Layers are of the variant that loaders of docker's own format get; empty leaves it to OCI loaders.
	Config digest.Digest
	Layers []digest.Digest
}

// Write writes images as an OCI image layout that is also an archive of docker save: manifest.json and repositories
// point at the same blobs. Each blob is written once.
func Write(ctx context.Context, store content.Provider, w io.Writer, images []Image) error {
	tw := tar.NewWriter(w)
	out := writer{ctx: ctx, tar: tw, store: store}
	if err := out.blobs(images); err != nil {
		return err
	}
	docs, err := documents(images)
	if err != nil {
		return err
	}
	for _, d := range docs {
		if err := out.file(d.name, d.body); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

type writer struct {
	ctx   context.Context //nolint:containedctx // lives for one call of Write
	tar   *tar.Writer
	store content.Provider
}

func (w writer) blobs(images []Image) error {
	all := map[digest.Digest]int64{}
	algorithms := map[string]bool{}
	for _, img := range images {
		for d, n := range img.Blobs {
			all[d] = n
			algorithms[d.Algorithm().String()] = true
		}
	}
	digests := make([]digest.Digest, 0, len(all))
	for d := range all {
		digests = append(digests, d)
	}
	sort.Slice(digests, func(i, j int) bool { return digests[i] < digests[j] })
	dirs := []string{"blobs/"}
	for a := range algorithms {
		dirs = append(dirs, "blobs/"+a+"/")
	}
	sort.Strings(dirs)
	for _, d := range dirs {
		if err := w.tar.WriteHeader(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	for _, d := range digests {
		if err := w.blob(d); err != nil {
			return err
		}
	}
	return nil
}

func (w writer) blob(d digest.Digest) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	ra, err := w.store.ReaderAt(w.ctx, ocispec.Descriptor{Digest: d})
	if err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	defer ra.Close()
	h := &tar.Header{Name: blobPath(d), Typeflag: tar.TypeReg, Mode: 0o444, Size: ra.Size()}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if _, err := io.CopyBuffer(onlyWriter{w.tar}, io.NewSectionReader(ra, 0, ra.Size()), make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("write blob %s: %w", d, err)
	}
	return nil
}

type onlyWriter struct{ io.Writer }

func (w writer) file(name string, body []byte) error {
	err := w.tar.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o444, Size: int64(len(body))})
	if err == nil {
		_, err = w.tar.Write(body)
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func blobPath(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}

type document struct {
	name string
	body []byte
}

// documents are the files that tie the blobs together.
func documents(images []Image) ([]document, error) {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	list := []saved{}
	repositories := map[string]map[string]string{}
	for _, img := range images {
		idx.Manifests = append(idx.Manifests, named(img)...)
		if img.Config == "" {
			continue
		}
		s := saved{Config: blobPath(img.Config), Layers: []string{}}
		for _, l := range img.Layers {
			s.Layers = append(s.Layers, blobPath(l))
		}
		for _, n := range img.Names {
			tagged, ok := n.(reference.Tagged)
			if !ok {
				continue
			}
			s.RepoTags = append(s.RepoTags, reference.FamiliarString(n))
			repo := reference.FamiliarName(n)
			if repositories[repo] == nil {
				repositories[repo] = map[string]string{}
			}
			repositories[repo][tagged.Tag()] = img.Config.Encoded()
		}
		list = append(list, s)
	}
	values := []struct {
		name string
		v    any
	}{
		{"index.json", idx}, {"manifest.json", list}, {"oci-layout", ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{"repositories", repositories},
	}
	var out []document
	var errs []error
	for _, x := range values {
		if x.name == "repositories" && len(repositories) == 0 || x.name == "manifest.json" && len(list) == 0 {
			continue
		}
		b, err := json.Marshal(x.v)
		errs = append(errs, err)
		out = append(out, document{x.name, b})
	}
	return out, errors.Join(errs...)
}

// named are an image's entries of index.json: one per name, annotated with it.
func named(img Image) []ocispec.Descriptor {
	base := img.Target
	base.Annotations = map[string]string{}
	for k, v := range img.Target.Annotations {
		if k != ocispec.AnnotationRefName && k != "io.containerd.image.name" {
			base.Annotations[k] = v
		}
	}
	if len(img.Names) == 0 {
		if len(base.Annotations) == 0 {
			base.Annotations = nil
		}
		return []ocispec.Descriptor{base}
	}
	var out []ocispec.Descriptor
	for _, n := range img.Names {
		d := base
		d.Annotations = map[string]string{"io.containerd.image.name": n.String()}
		for k, v := range base.Annotations {
			d.Annotations[k] = v
		}
		if t, ok := n.(reference.Tagged); ok {
			d.Annotations[ocispec.AnnotationRefName] = t.Tag()
		}
		out = append(out, d)
	}
	return out
}
