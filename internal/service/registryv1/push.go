package registryv1

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/fault"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

// PutJSON begins the push of an image. checksum is what the client announces of its layer; empty for nothing.
func (s *Service) PutJSON(ctx context.Context, c Caller, id imagev1.ID, document []byte, checksum string) error {
	img, err := imagev1.Parse(document)
	if err != nil {
		return err
	}
	if img.ID != id {
		return fault.Invalid("JSON data contains invalid id")
	}
	if checksum != "" {
		if _, err := imagev1.ParseChecksum(checksum); err != nil {
			return err
		}
	}
	if img.Parent == id {
		return fault.Invalid("Image depends on a non existing parent")
	}
	if img.Parent != "" {
		_, err := s.find(ctx, c, img.Parent)
		if errdefs.IsNotFound(err) {
			return fault.Invalid("Image depends on a non existing parent")
		}
		if err != nil {
			return err
		}
	}
	old, err := s.find(ctx, c, id)
	switch {
	case err == nil && old.State == graph.Complete:
		return errExists
	case err != nil && !errdefs.IsNotFound(err):
		return err
	}
	err = s.graph.BeginImage(ctx, c.place(), graph.Image{
		ID: id, Parent: img.Parent, JSON: document, Announced: checksum, Added: s.cfg.Now(),
	}, s.cfg.MaxRepos)
	if errdefs.IsAlreadyExists(err) {
		return errExists
	}
	return err
}

// own finds an image that the caller is pushing.
func (s *Service) own(ctx context.Context, c Caller, id imagev1.ID) (found, error) {
	f := found{repo: c.place()}
	var err error
	f.Image, err = s.graph.Image(ctx, f.repo, id)
	return f, told(err, errImage)
}

// PutLayer streams an image's layer: a tar, plain or packed. checksum is what the client says of it; empty for nothing. With
// a checksum that is right, told here or with the document, the image is complete.
func (s *Service) PutLayer(ctx context.Context, c Caller, id imagev1.ID, body io.Reader, checksum string) error {
	f, err := s.own(ctx, c, id)
	if err != nil {
		return err
	}
	if f.State == graph.Complete {
		return errExists
	}
	if checksum == "" {
		checksum = f.Announced
	}
	place := graph.Place{Repo: f.repo, ID: id}
	if _, busy := s.sending.LoadOrStore(place, struct{}{}); busy {
		return errProgress
	}
	defer s.sending.Delete(place)
	layer, err := s.receive(ctx, f, body)
	if err != nil {
		return err
	}
	state := graph.Uploaded
	if checksum != "" {
		if err := s.verify(ctx, found{f.repo, layer}, checksum); err != nil {
			return err
		}
		state = graph.Complete
	}
	return s.settle(ctx, f, func(i *graph.Image) error {
		// Another process may have begun the image again meanwhile.
		if !bytes.Equal(i.JSON, f.JSON) {
			return errProgress
		}
		layer.State, layer.Added = state, s.cfg.Now()
		*i = layer
		return nil
	})
}

// settle changes an image that is not complete.
func (s *Service) settle(ctx context.Context, f found, change func(*graph.Image) error) error {
	err := s.graph.ChangeImage(context.WithoutCancel(ctx), f.repo, f.ID, func(i *graph.Image) error {
		if i.State == graph.Complete {
			return errExists
		}
		return change(i)
	})
	return told(err, errImage)
}

// receive keeps a layer's bytes and says what they are; the image's row is as it was.
func (s *Service) receive(ctx context.Context, f found, body io.Reader) (graph.Image, error) {
	m := newMeter(f.JSON)
	defer m.stop()
	from := &source{r: body}
	info, err := s.registry.Keep(ctx, f.repo, io.TeeReader(from, m), m.finish)
	switch {
	case from.err != nil:
		return graph.Image{}, fault.Invalid("The layer ended early: %w", from.err)
	case errors.Is(err, errBadTar), errors.Is(m.refused, errBadTar):
		return graph.Image{}, errLayer
	case err != nil:
		return graph.Image{}, err
	}
	i := f.Image
	i.Layer, i.DiffID, i.Encoding, i.Size = info.Digest, m.diff, m.encoding, info.Size
	i.Empty, i.Payload = m.entries == 0, m.payload.Checksum().String()
	return i, nil
}

// source remembers that the client failed, not the store.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// verify compares what a client says with what an image has.
func (s *Service) verify(ctx context.Context, f found, text string) error {
	want, err := imagev1.ParseChecksum(text)
	if err != nil {
		return err
	}
	got := imagev1.Checksum{}
	if want.Version == "" {
		got, err = imagev1.ParseChecksum(f.Payload)
	} else {
		got, err = s.tarSum(ctx, f, want.Version)
	}
	if err != nil {
		return err
	}
	if got != want {
		return errMismatch
	}
	return nil
}

// tarSum reads the layer again: clients of that age are rare, and the layer has just been written.
func (s *Service) tarSum(ctx context.Context, f found, v imagev1.TarSumVersion) (imagev1.Checksum, error) {
	r, err := s.unpacked(ctx, f)
	if err != nil {
		return imagev1.Checksum{}, err
	}
	defer r.Close()
	sum, err := imagev1.TarSum(v, f.JSON, r)
	if errors.Is(err, imagev1.ErrTooMany) {
		return sum, fault.Invalid("Invalid checksum format: the layer has %w", err)
	}
	return sum, err
}

// PutChecksum completes an image: payload is the checksum of document and layer, tarsum the older one of the files. Where
// both are told the payload's counts, as it did for the old registry.
func (s *Service) PutChecksum(ctx context.Context, c Caller, id imagev1.ID, payload, tarsum string) error {
	checksum := payload
	if checksum == "" {
		checksum = tarsum
	}
	if checksum == "" {
		return errChecksum
	}
	f, err := s.own(ctx, c, id)
	switch {
	case err != nil:
		return err
	case f.State == graph.Complete:
		return fault.Conflict("Cannot set this image checksum")
	case f.State == graph.Pending:
		return errProgress
	}
	if err := s.verify(ctx, f, checksum); err != nil {
		return err
	}
	return s.settle(ctx, f, func(i *graph.Image) error {
		if i.Layer != f.Layer || !bytes.Equal(i.JSON, f.JSON) {
			return errProgress
		}
		i.State = graph.Complete
		return nil
	})
}

// put keeps a small document as a blob.
func (s *Service) put(ctx context.Context, repo distribution.RepoName, document []byte) (digest.Digest, error) {
	d := digest.FromBytes(document)
	_, err := s.registry.Keep(ctx, repo, bytes.NewReader(document), func() (digest.Digest, error) { return d, nil })
	return d, err
}
