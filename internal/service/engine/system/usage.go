package system

import (
	"context"
	"slices"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	api "github.com/moby/moby/api/types/system"
	"golang.org/x/sync/errgroup"

	"longshore/internal/core/fault"
)

// UsageOptions says what of the disk usage is wanted.
type UsageOptions struct {
	// Types are docker's object types ("container", "image", "volume", "build-cache"); none means all.
	Types []string
	// Verbose asks for the objects themselves.
	Verbose bool
}

// DiskUsage measures the parts at the same time.
func (s *Service) DiskUsage(ctx context.Context, o UsageOptions) (*api.DiskUsage, error) {
	for _, t := range o.Types {
		switch api.DiskUsageObject(t) {
		case api.ContainerObject, api.ImageObject, api.VolumeObject, api.BuildCacheObject:
		default:
			return nil, fault.Invalid("unknown object type: %s", t)
		}
	}
	u := &api.DiskUsage{}
	g, ctx := errgroup.WithContext(ctx)
	part := func(t api.DiskUsageObject, measure func() error) {
		if len(o.Types) == 0 || slices.Contains(o.Types, string(t)) {
			g.Go(measure)
		}
	}
	part(api.ContainerObject, func() (err error) { u.ContainerUsage, err = s.containers(ctx, o.Verbose); return })
	part(api.ImageObject, func() (err error) { u.ImageUsage, err = s.images(ctx, o.Verbose); return })
	part(api.VolumeObject, func() (err error) {
		if f := s.d.Usage.Volumes; f != nil {
			u.VolumeUsage, err = f(ctx, o.Verbose)
		}
		return
	})
	part(api.BuildCacheObject, func() (err error) {
		u.BuildCacheUsage = &build.DiskUsage{}
		if f := s.d.Usage.BuildCache; f != nil {
			u.BuildCacheUsage, err = f(ctx, o.Verbose)
		}
		return
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return u, nil
}

func (s *Service) containers(ctx context.Context, verbose bool) (*container.DiskUsage, error) {
	u := &container.DiskUsage{}
	if s.d.Usage.Containers == nil {
		return u, nil
	}
	list, err := s.d.Usage.Containers(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		u.TotalCount++
		u.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
		if verbose {
			u.Items = append(u.Items, *c)
		}
	}
	return u, nil
}

// images: what only unused images take could be freed. Sizes of -1 are unknown.
func (s *Service) images(ctx context.Context, verbose bool) (*image.DiskUsage, error) {
	u := &image.DiskUsage{}
	if s.d.Usage.Images == nil {
		return u, nil
	}
	total, list, err := s.d.Usage.Images(ctx)
	if err != nil {
		return nil, err
	}
	u.TotalSize = total
	used := int64(0)
	for _, i := range list {
		u.TotalCount++
		if i.Containers > 0 {
			u.ActiveCount++
			if i.Size >= 0 && i.SharedSize >= 0 {
				used += i.Size - i.SharedSize
			}
		}
		if verbose {
			u.Items = append(u.Items, *i)
		}
	}
	if u.TotalCount > 0 {
		u.Reclaimable = max(total-used, 0)
	}
	return u, nil
}
