package containers

import (
	"context"

	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
	"longshore/internal/service/engine/containers/mounts"
)

// holdRoot notes that a run is about to mount the root.
func (s *Service) holdRoot(h *handle) {
	h.roots.mu.Lock()
	defer h.roots.mu.Unlock()
	h.roots.run = true
}

// takeDown takes a run down and unmounts its root unless somebody else uses it.
func (s *Service) takeDown(ctx context.Context, h *handle, rec *core.Record) {
	s.launcher.Down(ctx, rec)
	h.roots.mu.Lock()
	defer h.roots.mu.Unlock()
	h.roots.run = false
	if h.roots.n == 0 {
		s.launcher.UnmountRoot(ctx, h.id)
	}
}

// WithRootFS calls f with the path of the container's mounted root filesystem, the pid of its init (0 when it does not
// run) and its mounts. The root of a stopped container is mounted for as long as f runs; calls may overlap.
func (s *Service) WithRootFS(ctx context.Context, ref string, f func(root string, pid int, mounts []container.MountPoint) error) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	root, err := s.useRoot(ctx, h)
	if err != nil {
		return err
	}
	defer s.unuseRoot(context.WithoutCancel(ctx), h)
	rec := h.record()
	return f(root, rec.State.PID, mounts.Points(rec.Mounts))
}

func (s *Service) useRoot(ctx context.Context, h *handle) (string, error) {
	h.roots.mu.Lock()
	defer h.roots.mu.Unlock()
	root, err := s.launcher.MountRoot(ctx, h.id)
	if err != nil {
		return "", err
	}
	h.roots.n++
	return root, nil
}

func (s *Service) unuseRoot(ctx context.Context, h *handle) {
	h.roots.mu.Lock()
	defer h.roots.mu.Unlock()
	h.roots.n--
	if h.roots.n == 0 && !h.roots.run {
		s.launcher.UnmountRoot(ctx, h.id)
	}
}
