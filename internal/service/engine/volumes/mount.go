package volumes

import (
	"context"
	"encoding/json"
	"slices"

	"longshore/internal/core/fault"
	"longshore/internal/core/state"
	"longshore/internal/core/volume"
	"longshore/internal/driver/localvolume"
)

// Mount implements volume.Volumes. Volumes without mount options are usable as they are; the others are mounted for
// their first ref. Docker's mount and unmount events tell where in which container: the caller publishes them.
func (s *Service) Mount(ctx context.Context, name, ref string) (volume.Volume, error) {
	e, err := s.hold(name)
	if err != nil {
		return volume.Volume{}, err
	}
	defer e.mu.Unlock()
	rec := e.rec.Load()
	if !localvolume.NeedsMount(rec.Options) || slices.Contains(e.mounts, ref) {
		return s.volume(rec), nil
	}
	target := s.mountpoint(name)
	if err := localvolume.Mount(ctx, target, rec.Options); err != nil {
		return volume.Volume{}, fault.Internal("error while mounting volume '%s': %w", target, err)
	}
	if err := s.saveMounts(ctx, e, append(slices.Clone(e.mounts), ref)); err != nil {
		if len(e.mounts) == 0 {
			_ = localvolume.Unmount(target)
		}
		return volume.Volume{}, err
	}
	return s.volume(rec), nil
}

// Unmount implements volume.Volumes. The last ref unmounts; one that has not mounted is no error.
func (s *Service) Unmount(ctx context.Context, name, ref string) error {
	e, err := s.hold(name)
	if err != nil {
		return nil // what is gone is not mounted
	}
	defer e.mu.Unlock()
	i := slices.Index(e.mounts, ref)
	if i < 0 {
		return nil
	}
	left := slices.Delete(slices.Clone(e.mounts), i, i+1)
	if len(left) == 0 {
		if err := localvolume.Unmount(s.mountpoint(name)); err != nil {
			return fault.Internal("error while unmounting volume '%s': %w", s.mountpoint(name), err)
		}
	}
	return s.saveMounts(ctx, e, left)
}

// saveMounts writes down who has the volume mounted.
func (s *Service) saveMounts(ctx context.Context, e *entry, refs []string) error {
	if len(refs) == 0 {
		if err := s.store.Delete(ctx, mountBucket, e.name, state.Volatile); err != nil {
			return err
		}
	} else {
		doc, err := json.Marshal(refs)
		if err != nil {
			return err
		}
		if err := s.store.Put(ctx, mountBucket, e.name, doc, state.Volatile); err != nil {
			return err
		}
	}
	e.mounts = refs
	return nil
}
