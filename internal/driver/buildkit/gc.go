package buildkit

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/util/disk"

	"longshore/internal/core/build"
)

const (
	// gcEvery is how often the policies that look at ages are carried out; those of sizes are after each build too.
	gcEvery = time.Hour
	// tidyDelay lets a step give everything back before what is left is removed.
	tidyDelay = 2 * time.Second
)

// GC is how the build cache shrinks by itself: daemon.json's builder.gc. What runs, and what images share with the cache,
// is never taken.
type GC struct {
	Enabled bool
	// Reserved, MaxUsed and MinFree are in bytes; all 0: parts of the disk.
	Reserved, MaxUsed, MinFree int64
	// Policies replace the default ones; they are carried out in order.
	Policies []build.PruneOptions
}

// policies are BuildKit's own defaults over the sizes given, or those that were configured.
func (g GC) policies(root string) ([]client.PruneInfo, error) {
	if !g.Enabled {
		return nil, nil
	}
	var out []client.PruneInfo
	for _, p := range g.Policies {
		out = append(out, client.PruneInfo{
			Filter: p.Filters, All: p.All, KeepDuration: p.KeepDuration,
			ReservedSpace: p.ReservedSpace, MaxUsedSpace: p.MaxUsedSpace, MinFreeSpace: p.MinFreeSpace,
		})
	}
	if out != nil {
		return out, nil
	}
	stat, err := disk.GetDiskStat(root)
	if err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	sizes := config.GCConfig{
		GCReservedSpace: config.DiskSpace{Bytes: g.Reserved}, GCMaxUsedSpace: config.DiskSpace{Bytes: g.MaxUsed}, GCMinFreeSpace: config.DiskSpace{Bytes: g.MinFree},
	}
	for _, p := range config.DefaultGCPolicy(sizes, stat) {
		out = append(out, client.PruneInfo{
			Filter: p.Filters, All: p.All, KeepDuration: p.KeepDuration.Duration,
			ReservedSpace: p.ReservedSpace.AsBytes(stat), MaxUsedSpace: p.MaxUsedSpace.AsBytes(stat), MinFreeSpace: p.MinFreeSpace.AsBytes(stat),
		})
	}
	return out, nil
}

// Run shrinks the cache by age and clears away what steps leave, until ctx ends.
func (b *Builder) Run(ctx context.Context) error {
	gc := time.NewTicker(gcEvery)
	defer gc.Stop()
	var tidy <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.idle:
			tidy = time.After(tidyDelay)
		case <-tidy:
			tidy = nil
			b.tidy()
		case <-gc.C:
			b.shrink(ctx)
		}
	}
}

// tidy removes what builds leave. What a failed one worked on is held by its error, and BuildKit lets go of it when Go's
// collector finds the error: in an idle process that would be minutes later. The memory of builds goes back too.
func (b *Builder) tidy() {
	removeSSHDirs(time.Now())
	debug.FreeOSMemory()
}

// shrink carries the policies out, when the builder is in use.
func (b *Builder) shrink(ctx context.Context) {
	c := b.opened()
	if c == nil {
		return
	}
	policies := c.worker.GCPolicy()
	if len(policies) == 0 {
		return
	}
	gone := make(chan client.UsageInfo, 16)
	failed := make(chan error, 1)
	go func() {
		defer close(gone)
		failed <- c.worker.Prune(ctx, gone, policies...)
	}()
	var space int64
	for u := range gone {
		space += u.Size
	}
	if err := <-failed; err != nil && ctx.Err() == nil {
		b.cfg.Log.Warn("build cache not shrunk", "error", err)
		return
	}
	if space > 0 {
		b.cfg.Log.Debug("build cache shrunk", "bytes", space)
	}
}
