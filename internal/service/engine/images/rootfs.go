package images

import (
	"context"
	"maps"
	"slices"
	"sync"

	cfs "github.com/containerd/continuity/fs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/service/engine/images/catalog"
)

// uses tells which container was made from which image.
type uses struct {
	mu          sync.RWMutex
	byContainer map[string]digest.Digest
}

func (u *uses) of(img digest.Digest) []string {
	u.mu.RLock()
	defer u.mu.RUnlock()
	var out []string
	for c, d := range u.byContainer {
		if d == img {
			out = append(out, c)
		}
	}
	return out
}

// counts is how many containers use each image.
func (u *uses) counts() map[digest.Digest]int64 {
	u.mu.RLock()
	defer u.mu.RUnlock()
	out := make(map[digest.Digest]int64, len(u.byContainer))
	for _, d := range u.byContainer {
		out[d]++
	}
	return out
}

// Use implements image.Images.
func (s *Service) Use(_ context.Context, id string, img digest.Digest) error {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	s.uses.byContainer[id] = img
	return nil
}

// Drop implements image.Images.
func (s *Service) Drop(_ context.Context, id string) error {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	delete(s.uses.byContainer, id)
	return nil
}

// Resolve implements image.Images.
func (s *Service) Resolve(_ context.Context, ref string, p *ocispec.Platform) (image.Image, error) {
	f, m, err := s.find(ref, p)
	if err != nil {
		return image.Image{}, err
	}
	return resolved(f.Entry, m), nil
}

func resolved(e *catalog.Entry, m *catalog.Manifest) image.Image {
	img := image.Image{ID: e.ID(), Manifest: m.Desc, Config: m.Image, ChainID: m.ChainID()}
	platform := m.Platform
	img.Manifest.Platform = &platform
	img.Config.Config = own(m.Image.Config)
	for _, n := range e.Names {
		if n.Ref != nil {
			img.Names = append(img.Names, reference.FamiliarString(n.Ref))
		}
	}
	if m.Image.Created != nil {
		img.Created = *m.Image.Created
	}
	return img
}

// own copies what callers may change: entries of the catalog are shared.
func own(c dockerspec.DockerOCIImageConfig) dockerspec.DockerOCIImageConfig {
	c.Env, c.Cmd, c.Entrypoint = slices.Clone(c.Env), slices.Clone(c.Cmd), slices.Clone(c.Entrypoint)
	c.OnBuild, c.Shell = slices.Clone(c.OnBuild), slices.Clone(c.Shell)
	c.Labels, c.Volumes, c.ExposedPorts = maps.Clone(c.Labels), maps.Clone(c.Volumes), maps.Clone(c.ExposedPorts)
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Test = slices.Clone(h.Test)
		c.Healthcheck = &h
	}
	return c
}

// Prepare implements image.RootFS.
func (s *Service) Prepare(ctx context.Context, key string, img image.Image) error {
	m := s.variant(img)
	if !s.store.Unpacked(ctx, img.ChainID) {
		if m == nil { // removed since it was resolved
			return fault.NotFound("No such image: %s", img.ID)
		}
		if err := s.unpack(ctx, m, nil); err != nil {
			return err
		}
	}
	var config digest.Digest
	if m != nil {
		config = m.Config.Digest
	}
	return s.store.PrepareRootFS(ctx, key, config, img.ChainID)
}

// variant finds what an image was resolved to; nil when it is gone.
func (s *Service) variant(img image.Image) *catalog.Manifest {
	e := s.cat.Target(img.ID)
	if e == nil {
		return nil
	}
	for _, m := range e.Manifests {
		if m.Desc.Digest == img.Manifest.Digest {
			return m
		}
	}
	return nil
}

func (s *Service) unpack(ctx context.Context, m *catalog.Manifest, progress func(layer int, done bool)) error {
	return s.store.Unpack(ctx, ctdstore.Layers{
		Config: m.Config, Blobs: m.Layers, DiffIDs: m.Image.RootFS.DiffIDs, Progress: progress,
	})
}

// Mount implements image.RootFS.
func (s *Service) Mount(ctx context.Context, key, target string) error {
	return s.store.MountRootFS(ctx, key, target)
}

// Unmount implements image.RootFS.
func (s *Service) Unmount(_ context.Context, target string) error {
	return s.store.UnmountRootFS(target)
}

// Remove implements image.RootFS.
func (s *Service) Remove(ctx context.Context, key string) error {
	return s.store.RemoveRootFS(ctx, key)
}

// Usage implements image.RootFS.
func (s *Service) Usage(ctx context.Context, key string) (rw, rootfs int64, err error) {
	return s.store.RootFSUsage(ctx, key)
}

// Changes implements image.RootFS.
func (s *Service) Changes(ctx context.Context, key string) ([]container.FilesystemChange, error) {
	list, err := s.store.Changes(ctx, key)
	if err != nil {
		return nil, err
	}
	out := make([]container.FilesystemChange, 0, len(list))
	for _, c := range list {
		kind := container.ChangeModify
		switch c.Kind {
		case cfs.ChangeKindAdd:
			kind = container.ChangeAdd
		case cfs.ChangeKindDelete:
			kind = container.ChangeDelete
		}
		out = append(out, container.FilesystemChange{Kind: kind, Path: c.Path})
	}
	return out, nil
}
