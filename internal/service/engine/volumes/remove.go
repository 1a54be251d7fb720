package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/events"
	api "github.com/moby/moby/api/types/volume"

	"longshore/internal/core/fault"
	"longshore/internal/core/state"
	"longshore/internal/driver/localvolume"
)

// RemoveOptions are those of docker volume rm.
type RemoveOptions struct {
	// Force makes a missing volume no error.
	Force bool
}

// Remove removes a volume that nothing refers to.
func (s *Service) Remove(ctx context.Context, name string, o RemoveOptions) error {
	e, err := s.hold(name)
	if err != nil {
		if o.Force {
			return nil
		}
		return err
	}
	defer e.mu.Unlock()
	return s.remove(ctx, e, e.rec.Load())
}

// remove works on a held entry; rec is its record as it would be.
func (s *Service) remove(ctx context.Context, e *entry, rec *record) error {
	if len(rec.Refs) > 0 {
		return fault.Conflict("remove %s: volume is in use - [%s]", rec.Name, strings.Join(rec.Refs, ", "))
	}
	if localvolume.NeedsMount(rec.Options) {
		if err := localvolume.Unmount(s.mountpoint(rec.Name)); err != nil {
			return fault.Internal("remove %s: %w", rec.Name, err)
		}
		if err := s.saveMounts(ctx, e, nil); err != nil {
			return err
		}
	}
	from, to := filepath.Join(s.dir, rec.Name), filepath.Join(s.dir, removingName(rec.Name))
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Internal("remove %s: %w", rec.Name, err)
	}
	if err := s.store.Delete(ctx, bucket, rec.Name, state.Durable); err != nil {
		return errors.Join(fmt.Errorf("remove volume %q: %w", rec.Name, err), os.Rename(to, from))
	}
	s.drop(e)
	s.publish(ctx, events.ActionDestroy, rec.Name, map[string]string{"driver": rec.Driver})
	if err := os.RemoveAll(to); err != nil {
		// The volume is gone for everybody; the rest of its files goes at the next start.
		s.log.Error("volume: remove files", "volume", rec.Name, "error", err)
	}
	return nil
}

// Prune removes volumes that nothing refers to: anonymous ones, or all with the filter all=true. Filters: label,
// label!, all.
func (s *Service) Prune(ctx context.Context, filters map[string][]string) (api.PruneReport, error) {
	report := api.PruneReport{VolumesDeleted: []string{}}
	match, err := pruneFilter(filters)
	if err != nil {
		return report, err
	}
	if !s.pruning.CompareAndSwap(false, true) {
		return report, fault.Conflict("a prune operation is already running")
	}
	defer s.pruning.Store(false)
	list := s.entries()
	sort.Slice(list, func(i, k int) bool { return list[i].name < list[k].name })
	for _, e := range list {
		if ctx.Err() != nil {
			break
		}
		if rec := e.rec.Load(); rec == nil || len(rec.Refs) > 0 || !match(rec) {
			continue
		}
		size, err := s.pruneOne(ctx, e.name, match)
		if err != nil {
			s.log.Warn("volume prune", "volume", e.name, "error", err)
			continue
		}
		if size >= 0 {
			report.VolumesDeleted = append(report.VolumesDeleted, e.name)
			report.SpaceReclaimed += uint64(size)
		}
	}
	s.publish(ctx, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, nil
}

// pruneOne removes a volume if it still fits; -1 says that it does not.
func (s *Service) pruneOne(ctx context.Context, name string, match func(*record) bool) (int64, error) {
	e, err := s.hold(name)
	if err != nil {
		return -1, nil
	}
	defer e.mu.Unlock()
	rec := e.rec.Load()
	if len(rec.Refs) > 0 || !match(rec) {
		return -1, nil
	}
	size := int64(0)
	if !localvolume.NeedsMount(rec.Options) {
		if size, err = localvolume.Usage(ctx, s.mountpoint(name)); err != nil && ctx.Err() != nil {
			return -1, err
		}
	}
	return size, s.remove(ctx, e, rec)
}
