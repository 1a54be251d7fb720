package images

import (
	"context"

	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/driver/projectquota"
)

// Settle implements image.Images.
func (s *Service) Settle(ctx context.Context, key string, o image.RootOptions) error {
	if o.Size > 0 {
		if err := s.store.LimitRootFS(ctx, key, o.Size, projectquota.Quota{}); err != nil {
			return err
		}
	}
	if o.Shifted {
		return s.store.ShiftRootFS(ctx, key)
	}
	return nil
}

// View mounts the content of an image, read-only, at target, for a mount of type image; shifted for a container in a user
// namespace. Idempotent.
func (s *Service) View(ctx context.Context, key string, img image.Image, target string, shifted bool) error {
	if !s.store.Unpacked(ctx, img.ChainID) {
		m := s.variant(img)
		if m == nil { // removed since it was resolved
			return fault.NotFound("No such image: %s", img.ID)
		}
		if err := s.unpack(ctx, m, nil); err != nil {
			return err
		}
	}
	return s.store.MountView(ctx, key, img.ChainID, target, shifted)
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
