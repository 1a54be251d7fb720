// Package build is the engine's builds: the one road from a request, classic or of BuildKit's own clients, to the
// builder, and what the API asks of the build cache.
package build

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/moby/buildkit/client"
	api "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/build"
	"longshore/internal/core/event"
)

// Deps are what the service works with.
type Deps struct {
	Builder build.Builder
	Wire    build.Wire
	Events  event.Publisher
	Log     *slog.Logger
}

// Service carries out builds. It is safe for concurrent use.
type Service struct {
	d   Deps
	now func() time.Time
}

// New starts nothing.
func New(d Deps) *Service {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{d: d, now: time.Now}
}

// Build carries a request out; see build.Builder.
func (s *Service) Build(ctx context.Context, r build.Request, progress chan<- *client.SolveStatus) (build.Result, error) {
	start := s.now()
	res, err := s.d.Builder.Solve(ctx, r, progress)
	if err != nil {
		s.d.Log.Debug("build failed", "build", r.ID, "error", err)
		return res, err
	}
	s.d.Log.Debug("built", "build", r.ID, "image", res.ID, "took", s.now().Sub(start))
	return res, nil
}

// Cancel ends a running build.
func (s *Service) Cancel(ctx context.Context, id string) error { return s.d.Builder.Cancel(ctx, id) }

// Session serves a client's session on its connection.
func (s *Service) Session(ctx context.Context, conn net.Conn, meta map[string][]string) error {
	return s.d.Wire.Session(ctx, conn, meta)
}

// Control serves BuildKit's control API on a connection.
func (s *Service) Control(ctx context.Context, conn net.Conn) error {
	return s.d.Wire.Control(ctx, conn)
}

// PruneRequest is what POST /build/prune asks for.
type PruneRequest struct {
	All bool
	// ReservedSpace, MaxUsedSpace and MinFreeSpace are in bytes; 0: not limited.
	ReservedSpace, MaxUsedSpace, MinFreeSpace int64
	Filters                                   map[string][]string
}

// Prune removes cache records that nothing uses.
func (s *Service) Prune(ctx context.Context, r PruneRequest) (api.CachePruneReport, error) {
	o := build.PruneOptions{
		All: r.All, ReservedSpace: r.ReservedSpace, MaxUsedSpace: r.MaxUsedSpace, MinFreeSpace: r.MinFreeSpace,
	}
	var err error
	if o.KeepDuration, o.Filters, err = Selection(r.Filters, s.now()); err != nil {
		return api.CachePruneReport{}, err
	}
	report, err := s.d.Builder.Prune(ctx, o)
	if err != nil {
		return api.CachePruneReport{}, err
	}
	s.d.Events.Publish(context.WithoutCancel(ctx), events.Message{
		Type: events.BuilderEventType, Action: events.ActionPrune, Scope: "local",
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": strconv.FormatInt(report.Space, 10)}},
	})
	out := api.CachePruneReport{CachesDeleted: report.IDs, SpaceReclaimed: uint64(max(report.Space, 0))}
	if out.CachesDeleted == nil {
		out.CachesDeleted = []string{}
	}
	return out, nil
}

// Usage measures the build cache; items lists the records too. What images share with it counts as theirs.
func (s *Service) Usage(ctx context.Context, items bool) (*api.DiskUsage, error) {
	records, err := s.d.Builder.DiskUsage(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure the build cache: %w", err)
	}
	out := &api.DiskUsage{TotalCount: int64(len(records))}
	for _, r := range records {
		if r.InUse {
			out.ActiveCount++
		}
		if !r.Shared {
			out.TotalSize += r.Size
			if !r.InUse {
				out.Reclaimable += r.Size
			}
		}
		if items {
			out.Items = append(out.Items, api.CacheRecord{
				ID: r.ID, Parents: r.Parents, Type: r.Type, Description: r.Description, InUse: r.InUse, Shared: r.Shared,
				Size: r.Size, CreatedAt: r.CreatedAt, LastUsedAt: r.LastUsedAt, UsageCount: r.UsageCount,
			})
		}
	}
	return out, nil
}
