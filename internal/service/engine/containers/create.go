package containers

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/core/state"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/mounts"
	"longshore/internal/service/engine/containers/names"
	"longshore/internal/service/engine/containers/request"
)

// CreateRequest is what a client asks for.
type CreateRequest struct {
	Name       string // empty: generated
	Platform   *ocispec.Platform
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
	Habits     request.Habits
}

// Create makes a container. When it answers, the container survives a power cut.
func (s *Service) Create(ctx context.Context, r CreateRequest) (*container.CreateResponse, error) {
	if r.Config == nil {
		return nil, fault.Invalid("config cannot be empty in order to create a container")
	}
	if r.HostConfig == nil {
		r.HostConfig = &container.HostConfig{}
	}
	rec := &core.Record{ID: names.NewID(), Created: s.deps.Now().UTC()}
	rec.State.Phase = core.Created
	var err error
	if rec.Name, err = s.index.Choose(rec.ID, r.Name); err != nil {
		return nil, err
	}
	warnings, err := s.create(ctx, rec, r)
	if err != nil {
		s.index.Release(rec.Name, rec.ID)
		return nil, err
	}
	if warnings == nil {
		warnings = []string{}
	}
	return &container.CreateResponse{ID: rec.ID, Warnings: warnings}, nil
}

func (s *Service) create(ctx context.Context, rec *core.Record, r CreateRequest) ([]string, error) {
	img, err := s.deps.Images.Resolve(ctx, r.Config.Image, r.Platform)
	if err != nil {
		return nil, err
	}
	warnings, err := s.settle(ctx, rec, r, img)
	if err != nil {
		return nil, err
	}
	rec.Mounts, err = mounts.Parse(rec.Config, rec.HostConfig, s.mountsOf, mounts.Rules{DataRoot: s.cfg.DataRoot, PlainReadOnly: r.Habits.PlainReadOnly})
	if err != nil {
		return nil, err
	}
	if err := s.deps.Launch.Networks.Validate(ctx, launch.SandboxRequest(rec)); err != nil {
		return nil, err
	}
	if err := s.build(ctx, rec, img); err != nil {
		s.unbuild(context.WithoutCancel(ctx), rec)
		return nil, err
	}
	h := newHandle(rec)
	s.index.Add(rec.ID, h)
	s.births.Add(h)
	s.event(ctx, h, events.ActionCreate, nil)
	return warnings, nil
}

// build makes what a container has on disk; the durable record comes last, so that a crash leaves only what is swept.
func (s *Service) build(ctx context.Context, rec *core.Record, img image.Image) error {
	if err := s.deps.Disk.Make(rec.ID); err != nil {
		return fmt.Errorf("create container %s: %w", rec.ID, err)
	}
	if err := s.deps.Images.Prepare(ctx, rec.ID, img); err != nil {
		return err
	}
	size, err := request.StorageSize(rec.HostConfig.StorageOpt, s.cfg.StorageSize)
	if err != nil {
		return err
	}
	shifted := s.launcher.Shifted(rec.HostConfig)
	if size > 0 || shifted {
		if err := s.deps.Images.Settle(ctx, rec.ID, image.RootOptions{Size: size, Shifted: shifted}); err != nil {
			return err
		}
	}
	if err := s.mounts.Hold(ctx, rec.ID, rec.Mounts); err != nil {
		return err
	}
	if mounts.NeedsCopy(rec.Mounts) {
		if err := s.copyUp(ctx, rec); err != nil {
			return err
		}
	}
	if err := s.deps.Images.Use(ctx, rec.ID, img.ID); err != nil {
		return err
	}
	return s.save(ctx, rec, state.Durable)
}

func (s *Service) copyUp(ctx context.Context, rec *core.Record) error {
	root, err := s.launcher.MountRoot(ctx, rec.ID)
	if err != nil {
		return err
	}
	defer s.launcher.UnmountRoot(context.WithoutCancel(ctx), rec.ID)
	return s.mounts.Fill(ctx, mounts.Target{ID: rec.ID, Root: root, Shifted: s.launcher.Shifted(rec.HostConfig)}, rec.Mounts)
}

// unbuild undoes build after it failed; whatever cannot be undone is swept at the next start.
func (s *Service) unbuild(ctx context.Context, rec *core.Record) {
	s.mounts.Drop(ctx, rec.ID, rec.Mounts, true)
	_ = s.deps.Images.Drop(ctx, rec.ID)
	_ = s.deps.Images.Remove(ctx, rec.ID)
	_ = s.deps.Disk.Delete(rec.ID)
	_ = s.deps.Store.Delete(ctx, bucket, rec.ID, state.Volatile)
}

// mountsOf serves volumes-from.
func (s *Service) mountsOf(ref string) ([]core.Mount, error) {
	rec, err := launch.Named(ref, s.recordOf)
	if err != nil {
		return nil, err
	}
	return rec.Mounts, nil
}
