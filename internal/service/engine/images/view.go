package images

import (
	"context"
	"encoding/json"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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

// ParsePlatform reads a platform in the form os[/arch[/variant]].
func ParsePlatform(s string) (*ocispec.Platform, error) {
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	return &p, nil
}

// DecodePlatform reads a platform in its JSON form.
func DecodePlatform(s string) (ocispec.Platform, error) {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return p, fault.Invalid("failed to parse platform: %w", err)
	}
	if p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0) {
		return p, fault.Invalid("optional platform fields provided, but OS and Architecture are missing")
	}
	if p.OS == "" || p.Architecture == "" {
		return p, fault.Invalid("both OS and Architecture must be provided")
	}
	return platforms.Normalize(p), nil
}
