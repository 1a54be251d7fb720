package registryv1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

// Layer is an open layer. Content is set when it can be read from any place, else Stream. The caller closes it.
type Layer struct {
	Content *blob.Content
	Stream  io.ReadCloser
	// ETag is the same for the same bytes.
	ETag string
}

// Close closes whichever is set.
func (l *Layer) Close() error {
	if l.Content != nil {
		return l.Content.Close()
	}
	return l.Stream.Close()
}

// Layer opens an image's layer.
func (s *Service) Layer(ctx context.Context, c Caller, id imagev1.ID) (*Layer, error) {
	f, err := s.complete(ctx, c, id)
	if err != nil {
		return nil, err
	}
	return s.layer(ctx, f)
}

func (s *Service) layer(ctx context.Context, f found) (*Layer, error) {
	if f.Layer == "" {
		tar := bytes.NewReader(imagev1.EmptyLayer())
		return &Layer{Content: &blob.Content{ReadSeekCloser: memory{tar}, Size: tar.Size()}, ETag: imagev1.EmptyDiffID.Encoded()}, nil
	}
	content, err := s.registry.Open(ctx, f.repo, f.Layer)
	if err != nil {
		return nil, told(err, errImage)
	}
	if !translated(f.Image) {
		return &Layer{Content: &content, ETag: f.Layer.Encoded()}, nil
	}
	r, err := unpacker(content, f.Encoding)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", f.Layer, errors.Join(err, content.Close()))
	}
	return &Layer{Stream: both{r, content}, ETag: f.DiffID.Encoded()}, nil
}

// translated layers are served unpacked: the clients of this API never knew zstd.
func translated(i graph.Image) bool { return i.Encoding == graph.Zstd }

// servedSize is the size of what Layer gives; -1 when it is not known.
func servedSize(i graph.Image) int64 {
	switch {
	case i.Layer == "":
		return int64(len(imagev1.EmptyLayer()))
	case translated(i):
		return -1
	}
	return i.Size
}

// unpacked opens the tar of an image's layer.
func (s *Service) unpacked(ctx context.Context, f found) (io.ReadCloser, error) {
	if f.Layer == "" {
		return io.NopCloser(bytes.NewReader(imagev1.EmptyLayer())), nil
	}
	content, err := s.registry.Open(ctx, f.repo, f.Layer)
	if err != nil {
		return nil, told(err, errImage)
	}
	r, err := unpacker(content, f.Encoding)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", f.Layer, errors.Join(err, content.Close()))
	}
	return both{r, content}, nil
}

// repack keeps a layer that is packed as nobody packs today as gzip in a repository.
func (s *Service) repack(ctx context.Context, f found, to distribution.RepoName) (blob.Info, error) {
	r, err := s.unpacked(ctx, f)
	if err != nil {
		return blob.Info{}, err
	}
	defer r.Close()
	from, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		z := gzip.NewWriter(w)
		_, err := io.Copy(z, r)
		if err == nil {
			err = z.Close()
		}
		w.CloseWithError(err)
	}()
	defer func() { from.Close(); <-done }()
	sum := digest.Canonical.Digester()
	info, err := s.registry.Keep(ctx, to, io.TeeReader(from, sum.Hash()), func() (digest.Digest, error) { return sum.Digest(), nil })
	if err != nil {
		return info, fmt.Errorf("repack %s: %w", f.Layer, err)
	}
	return info, nil
}

// both closes an unpacker and what it reads.
type both struct {
	io.ReadCloser
	below io.Closer
}

func (b both) Close() error { return errors.Join(b.ReadCloser.Close(), b.below.Close()) }

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// Files calls fn for each entry of an image's layer.
func (s *Service) Files(ctx context.Context, c Caller, id imagev1.ID, fn func(imagev1.File) error) error {
	f, err := s.complete(ctx, c, id)
	if err != nil {
		return err
	}
	return s.files(ctx, f, fn)
}

func (s *Service) files(ctx context.Context, f found, fn func(imagev1.File) error) error {
	r, err := s.unpacked(ctx, f)
	if err != nil {
		return err
	}
	defer r.Close()
	return imagev1.Files(r, fn)
}

// Diff is what a layer does to the files below it, by their names.
type Diff struct {
	Deleted map[string][]any `json:"deleted"`
	Changed map[string][]any `json:"changed"`
	Created map[string][]any `json:"created"`
}

// Diff compares an image's layer with those of its parents: a file is changed when the nearest parent that knows it has it,
// and created when none knows it or the nearest has deleted it.
func (s *Service) Diff(ctx context.Context, c Caller, id imagev1.ID) (Diff, error) {
	out := Diff{map[string][]any{}, map[string][]any{}, map[string][]any{}}
	list, err := s.ancestry(ctx, c, id)
	if err != nil {
		return out, err
	}
	open := map[string]imagev1.File{}
	err = s.files(ctx, list[0], func(f imagev1.File) error {
		if f.Deleted {
			out.Deleted[f.Name] = f.Info()
		} else {
			open[f.Name] = f
		}
		return nil
	})
	for _, parent := range list[1:] {
		if err != nil || len(open) == 0 {
			break
		}
		err = s.files(ctx, parent, func(below imagev1.File) error {
			f, ok := open[below.Name]
			if !ok {
				return nil
			}
			delete(open, below.Name)
			if below.Deleted {
				out.Created[f.Name] = f.Info()
			} else {
				out.Changed[f.Name] = f.Info()
			}
			return nil
		})
	}
	for name, f := range open {
		out.Created[name] = f.Info()
	}
	return out, err
}
