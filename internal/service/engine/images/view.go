package images

import (
	"context"

	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/driver/projectquota"
)

// Limit implements image.Images.
func (s *Service) Limit(ctx context.Context, key string, size uint64) error {
	return s.store.LimitRootFS(ctx, key, size, projectquota.Quota{})
}

// View mounts the content of an image, read-only, at target, for a mount of type image. Idempotent.
func (s *Service) View(ctx context.Context, key string, img image.Image, target string) error {
	if !s.store.Unpacked(ctx, img.ChainID) {
		m := s.variant(img)
		if m == nil { // removed since it was resolved
			return fault.NotFound("No such image: %s", img.ID)
		}
		if err := s.unpack(ctx, m, nil); err != nil {
			return err
		}
	}
	return s.store.MountView(ctx, key, img.ChainID, target)
}

// Unview undoes View; target may be empty when it is unmounted already.
func (s *Service) Unview(ctx context.Context, key, target string) error {
	if target != "" {
		if err := s.store.UnmountRootFS(target); err != nil {
			return err
		}
	}
	return s.store.RemoveView(ctx, key)
}
