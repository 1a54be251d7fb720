package containers

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/image"
)

// CommitSource calls f with what a commit needs of a container: snapshot, parent, configuration. With pause, a running
// container stands still meanwhile.
func (s *Service) CommitSource(ctx context.Context, ref string, pause bool, f func(image.CommitOptions) error) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	rec := h.record()
	if rec.State.Phase == core.Removing || rec.State.Phase == core.Dead {
		return fault.Conflict("You cannot commit container %s which is %s", rec.ID, rec.State.Status())
	}
	if pause && rec.State.Phase == core.Running {
		g, err := s.launcher.Group(ctx, rec)
		if err != nil {
			return err
		}
		if err := g.Freeze(ctx); err != nil {
			return fault.Internal("cannot pause container %s: %v", rec.ID, err)
		}
		defer func() {
			if h.record().State.Phase != core.Paused {
				_ = g.Thaw(context.WithoutCancel(ctx))
			}
		}()
	}
	cfg := *rec.Config
	opts := image.CommitOptions{
		Key: rec.ID, Parent: rec.Image.ID, Config: &cfg, ContainerConfig: rec.Config, Container: rec.ID,
		Platform: ocispec.Platform{OS: rec.Image.OS},
	}
	if rec.Image.Manifest != nil {
		opts.ParentManifest = *rec.Image.Manifest
		if p := rec.Image.Manifest.Platform; p != nil {
			opts.Platform = *p
		}
	}
	return f(opts)
}

// Committed tells that a container was committed.
func (s *Service) Committed(ctx context.Context, ref, comment, imageID, imageRef string) {
	if h, err := s.find(ref); err == nil {
		s.event(ctx, h, events.ActionCommit, map[string]string{"comment": comment, "imageID": imageID, "imageRef": imageRef})
	}
}
