package containers

import (
	"context"
	"os"

	"github.com/moby/moby/api/types/checkpoint"
	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/service/engine/containers/launch"
)

// Checkpoint writes the state of a running container down, for a start that continues from there.
func (s *Service) Checkpoint(ctx context.Context, ref string, r checkpoint.CreateRequest) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	rec := h.record()
	switch {
	case !rec.State.Live():
		return fault.Conflict("container %s is not running", ref)
	case rec.Config.Tty:
		return fault.Internal("checkpoint not supported on containers with tty")
	}
	if err := s.launcher.Checkpoint(ctx, rec, r); err != nil {
		return err
	}
	s.event(ctx, h, events.ActionCheckpoint, nil)
	return nil
}

// Checkpoints lists a container's checkpoints; dir is empty for the usual place.
func (s *Service) Checkpoints(ref, dir string) ([]checkpoint.Summary, error) {
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return s.launcher.Checkpoints(h.record(), dir)
}

// RemoveCheckpoint deletes a checkpoint.
func (s *Service) RemoveCheckpoint(ref, dir, name string) error {
	if err := launch.CheckCheckpoint(name); err != nil {
		return err
	}
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	path, err := s.launcher.FindCheckpoint(h.record(), dir, name)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// StartFrom starts a container from a checkpoint.
func (s *Service) StartFrom(ctx context.Context, ref, name string) error {
	if err := launch.CheckCheckpoint(name); err != nil {
		return err
	}
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	path, err := s.launcher.FindCheckpoint(h.record(), "", name)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context) error {
		h.restore = path
		defer func() { h.restore = "" }()
		return s.apply(ctx, h, core.StartAsked{})
	})
}
