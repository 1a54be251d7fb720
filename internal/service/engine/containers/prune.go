package containers

import (
	"context"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/service/engine/containers/listing"
)

// Prune removes all stopped containers that pass the filters "until", "label" and "label!".
func (s *Service) Prune(ctx context.Context, filters map[string][]string) (*container.PruneReport, error) {
	match, err := listing.Prune(filters, s.deps.Now())
	if err != nil {
		return nil, err
	}
	report := &container.PruneReport{ContainersDeleted: []string{}}
	for _, h := range s.index.All() {
		if ctx.Err() != nil {
			break
		}
		rec := h.record()
		if rec.State.Active() || rec.State.Phase == core.Starting || !match(rec) {
			continue
		}
		size, _, err := s.deps.Images.Usage(ctx, rec.ID)
		if err != nil {
			size = 0
		}
		if err := s.Remove(ctx, rec.ID, RemoveOptions{}); err != nil {
			s.log.Debug("prune leaves container", "container", rec.ID, "error", err)
			continue
		}
		report.ContainersDeleted = append(report.ContainersDeleted, rec.ID)
		report.SpaceReclaimed += uint64(max(size, 0))
	}
	s.deps.Events.Publish(ctx, events.Message{
		Type: events.ContainerEventType, Action: events.ActionPrune, Scope: "local",
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)}},
	})
	return report, nil
}
