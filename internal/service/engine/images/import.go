package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/catalog"
	"longshore/internal/service/engine/images/changes"
	"longshore/internal/service/engine/images/transfer"
)

// ImportOptions describes an import of a root filesystem.
type ImportOptions struct {
	// Source is "-" for the request's body, else a URL; http is assumed without scheme.
	Source    string
	Repo, Tag string
	Message   string
	Changes   []string
	Platform  *ocispec.Platform
}

// Import makes an image of one layer out of a tar archive, plain or compressed.
func (s *Service) Import(ctx context.Context, body io.Reader, o ImportOptions, emit Emit) error {
	ref, err := RepoTag(o.Repo, o.Tag)
	if err != nil {
		return err
	}
	if o.Message == "" {
		o.Message = "Imported from " + o.Source
	}
	var config container.Config
	if err := changes.Apply(&config, o.Changes); err != nil {
		return err
	}
	if o.Source != "-" {
		resp, err := download(ctx, o.Source, emit)
		if err != nil {
			return err
		}
		defer resp.Close()
		body = resp
	}
	ctx, release, err := s.store.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	layer, err := s.takeLayer(ctx, body)
	if err != nil {
		return err
	}
	platform := catalog.Host()
	if o.Platform != nil {
		platform = *o.Platform
	}
	created := now()
	target, err := s.writeImage(ctx, dockerspec.DockerOCIImage{
		Image: ocispec.Image{
			Platform: ocispec.Platform{OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant},
			Created:  &created,
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.diff}},
			History:  []ocispec.History{{Created: &created, Comment: o.Message}},
		},
		Config: imageConfig(&config),
	}, []ocispec.Descriptor{layer.desc})
	if err != nil {
		return err
	}
	e, err := s.addUnpacked(ctx, target, ref, "")
	if err != nil {
		return err
	}
	id := e.ID().String()
	s.publish(ctx, events.ActionImport, id, id, labels(e))
	return emit(jsonstream.Message{Status: id})
}

// addUnpacked unpacks a new image and then makes it visible; an image that does not unpack never is.
func (s *Service) addUnpacked(ctx context.Context, target ocispec.Descriptor, ref reference.Named, parent digest.Digest) (*catalog.Entry, error) {
	for _, m := range catalog.NewEntry(ctx, s.store.Content(), target, nil).Manifests {
		if err := s.unpack(ctx, m, nil); err != nil {
			return nil, fault.Invalid("%w", err)
		}
	}
	e, err := s.add(ctx, target, ref, parent)
	if err != nil {
		return nil, err
	}
	if ref != nil {
		s.publish(ctx, events.ActionTag, e.ID().String(), reference.FamiliarString(ref), labels(e))
	}
	return e, nil
}

// download opens an import's URL.
func download(ctx context.Context, source string, emit Emit) (io.ReadCloser, error) {
	if !strings.Contains(source, "://") {
		source = "http://" + source
	}
	u, err := url.Parse(source)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fault.Invalid("unsupported protocol scheme %q", u.Scheme)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fault.Internal("%w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		err = errors.Join(err, resp.Body.Close())
		text := fmt.Sprintf("failed to GET %s with status %s: %s", u.Redacted(), resp.Status, strings.TrimSpace(string(b)))
		switch {
		case err != nil:
			return nil, fault.Internal("%s: %w", text, err)
		case resp.StatusCode == http.StatusNotFound:
			return nil, fault.NotFound("%s", text)
		default:
			return nil, fault.Internal("%s", text)
		}
	}
	if err := emit(jsonstream.Message{Status: "Downloading from " + u.Redacted()}); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	return &counted{ReadCloser: resp.Body, total: resp.ContentLength, emit: emit}, nil
}

// counted reports how much of a download has been read.
type counted struct {
	io.ReadCloser
	done, told, total int64
	emit              Emit
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.done += int64(n)
	if c.done-c.told >= 512<<10 || errors.Is(err, io.EOF) && c.done > c.told {
		c.told = c.done
		if eerr := c.emit(transfer.Line("", "Importing", c.done, c.total)); eerr != nil {
			return n, eerr
		}
	}
	return n, err
}
