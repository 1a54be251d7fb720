package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore/compression"
)

// layerBlob is a stored layer and its diff ID.
type layerBlob struct {
	desc ocispec.Descriptor
	diff digest.Digest
}

// writeLayer stores what write gives as a gzip layer. It is compressed for speed: most of what is committed and
// imported never leaves the host.
func (s *Service) writeLayer(ctx context.Context, write func(w io.Writer) error) (layerBlob, error) {
	pr, pw := io.Pipe()
	digester := digest.Canonical.Digester()
	var wait sync.WaitGroup
	wait.Go(func() {
		zw, err := gzip.NewWriterLevel(pw, gzip.BestSpeed)
		if err == nil {
			if err = write(io.MultiWriter(zw, digester.Hash())); err == nil {
				err = zw.Close()
			}
		}
		pw.CloseWithError(err)
	})
	d, err := s.store.WriteBlob(ctx, pr, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip}, nil)
	pr.CloseWithError(err)
	wait.Wait()
	if err != nil {
		return layerBlob{}, err
	}
	return layerBlob{d, digester.Digest()}, nil
}

// takeLayer stores a layer archive from outside. gzip and zstd are kept as they come, all else becomes gzip.
func (s *Service) takeLayer(ctx context.Context, r io.Reader) (layerBlob, error) {
	kept := &tap{r: r}
	plain, kind, err := compression.NewReader(kept)
	if err != nil {
		return layerBlob{}, fault.Invalid("%w", err)
	}
	defer plain.Close()
	if kind != compression.Gzip && kind != compression.Zstd {
		if err := kept.passTo(io.Discard); err != nil { // else it would hold the whole archive
			return layerBlob{}, err
		}
		return s.writeLayer(ctx, func(w io.Writer) error {
			_, err := io.Copy(w, plain)
			return err
		})
	}
	media := ocispec.MediaTypeImageLayerGzip
	if kind == compression.Zstd {
		media = ocispec.MediaTypeImageLayerZstd
	}
	return s.keepLayer(ctx, kept, plain, media)
}

// keepLayer stores compressed bytes as they pass on their way into a decompressor.
func (s *Service) keepLayer(ctx context.Context, kept *tap, plain io.Reader, media string) (layerBlob, error) {
	pr, pw := io.Pipe()
	var wait sync.WaitGroup
	var diff digest.Digest
	wait.Go(func() {
		err := kept.passTo(pw)
		if err == nil {
			diff, err = digest.FromReader(plain)
		}
		if err == nil { // what follows the compressed stream belongs to the blob too
			_, err = io.Copy(io.Discard, kept)
		}
		pw.CloseWithError(err)
	})
	d, err := s.store.WriteBlob(ctx, pr, ocispec.Descriptor{MediaType: media}, nil)
	pr.CloseWithError(err)
	wait.Wait()
	if err != nil {
		return layerBlob{}, fault.Invalid("failed to read layer: %w", err)
	}
	return layerBlob{d, diff}, nil
}

// tap reads from r and copies what it read: first into memory, then to a writer.
type tap struct {
	r    io.Reader
	mu   sync.Mutex
	held []byte
	w    io.Writer
}

// Read implements io.Reader.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w == nil {
		t.held = append(t.held, p[:n]...)
		return n, err
	}
	if _, werr := t.w.Write(p[:n]); werr != nil {
		return n, werr
	}
	return n, err
}

func (t *tap) passTo(w io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := w.Write(t.held)
	t.held, t.w = nil, w
	return err
}

// writeImage stores configuration and manifest of a new image.
func (s *Service) writeImage(ctx context.Context, cfg dockerspec.DockerOCIImage, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	config, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, cfg)
	if err != nil {
		return config, err
	}
	doc := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	}
	if doc.Layers == nil {
		doc.Layers = []ocispec.Descriptor{}
	}
	return s.writeJSON(ctx, ocispec.MediaTypeImageManifest, doc)
}

func (s *Service) writeJSON(ctx context.Context, media string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode %s: %w", media, err)
	}
	return s.store.WriteBytes(ctx, media, b, nil)
}

// imageConfig is the part of a container's configuration that belongs into an image.
func imageConfig(c *container.Config) dockerspec.DockerOCIImageConfig {
	var out dockerspec.DockerOCIImageConfig
	out.User, out.Env, out.Volumes, out.WorkingDir = c.User, c.Env, c.Volumes, c.WorkingDir
	out.Entrypoint, out.Cmd, out.Labels, out.StopSignal = c.Entrypoint, c.Cmd, c.Labels, c.StopSignal
	out.OnBuild, out.Shell = c.OnBuild, c.Shell
	if len(c.ExposedPorts) > 0 {
		out.ExposedPorts = map[string]struct{}{}
		for p := range c.ExposedPorts {
			out.ExposedPorts[p.String()] = struct{}{}
		}
	}
	if h := c.Healthcheck; h != nil {
		out.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return out
}
