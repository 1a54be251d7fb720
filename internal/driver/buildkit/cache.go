package buildkit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/grpc/metadata"

	"longshore/internal/core/build"
)

// exists tells whether there is a cache on disk: without one nothing needs to be opened to say that it is empty.
func (b *Builder) exists() bool {
	if b.opened() != nil {
		return true
	}
	_, err := os.Stat(filepath.Join(b.cfg.Root, "metadata_v2.db"))
	return err == nil
}

// DiskUsage implements build.Builder.
func (b *Builder) DiskUsage(ctx context.Context) ([]build.CacheRecord, error) {
	if !b.exists() {
		return nil, nil
	}
	c, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := c.controller.DiskUsage(ctx, &controlapi.DiskUsageRequest{})
	if err != nil {
		return nil, fmt.Errorf("read the build cache's usage: %w", err)
	}
	held, err := b.heldByImages(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]build.CacheRecord, 0, len(resp.Record))
	for _, r := range resp.Record {
		rec := record(r)
		rec.Shared = rec.Shared || held[c.worker.snapshotOf(ctx, r.ID)]
		out = append(out, rec)
	}
	return out, nil
}

// heldByImages are the snapshots that images keep. BuildKit itself does not know of layers that a collection looked at
// before they were exported.
func (b *Builder) heldByImages(ctx context.Context) (map[string]bool, error) {
	const label = "containerd.io/gc.ref.snapshot." + snapshotterName
	var tops []string
	err := b.deps.Store.Content().Walk(ctx, func(info content.Info) error {
		tops = append(tops, info.Labels[label])
		return nil
	}, `labels."`+label+`"`)
	if err != nil {
		return nil, fmt.Errorf("read what images keep: %w", err)
	}
	held := map[string]bool{}
	for _, name := range tops {
		for name != "" && !held[name] {
			held[name] = true
			info, err := b.deps.Store.Snapshotter().Stat(ctx, name)
			if err != nil {
				break // collected meanwhile
			}
			name = info.Parent
		}
	}
	return held, nil
}

func record(r *controlapi.UsageRecord) build.CacheRecord {
	out := build.CacheRecord{
		ID: r.ID, Parents: r.Parents, Type: r.RecordType, Description: r.Description, InUse: r.InUse, Shared: r.Shared,
		Size: r.Size, CreatedAt: r.CreatedAt.AsTime(), UsageCount: int(r.UsageCount),
	}
	if r.LastUsedAt != nil {
		t := r.LastUsedAt.AsTime()
		out.LastUsedAt = &t
	}
	return out
}

// Prune implements build.Builder.
func (b *Builder) Prune(ctx context.Context, o build.PruneOptions) (build.PruneReport, error) {
	if !b.exists() {
		return build.PruneReport{}, nil
	}
	c, err := b.open(ctx)
	if err != nil {
		return build.PruneReport{}, err
	}
	s := &pruneStream{ctx: ctx}
	err = c.controller.Prune(&controlapi.PruneRequest{
		Filter: o.Filters, All: o.All, KeepDuration: int64(o.KeepDuration),
		ReservedSpace: o.ReservedSpace, MaxUsedSpace: o.MaxUsedSpace, MinFreeSpace: o.MinFreeSpace,
	}, s)
	if err != nil {
		return s.report, fmt.Errorf("prune the build cache: %w", err)
	}
	return s.report, nil
}

// pruneStream gathers what is pruned.
type pruneStream struct {
	controlapi.Control_PruneServer
	ctx    context.Context
	report build.PruneReport
}

func (s *pruneStream) Context() context.Context { return s.ctx }

func (s *pruneStream) SendHeader(metadata.MD) error { return nil }

func (s *pruneStream) Send(r *controlapi.UsageRecord) error {
	s.report.IDs = append(s.report.IDs, r.ID)
	s.report.Space += r.Size
	return nil
}
