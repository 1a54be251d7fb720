package containers

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Prune removes all stopped containers that pass the filters "until", "label" and "label!".
func (s *Service) Prune(ctx context.Context, filters map[string][]string) (*container.PruneReport, error) {
	match, err := pruneFilter(filters, s.deps.Now())
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

func pruneFilter(filters map[string][]string, now time.Time) (func(*core.Record) bool, error) {
	var until time.Time
	for name, values := range filters {
		switch name {
		case "label", "label!":
		case "until":
			if len(values) != 1 {
				return nil, fault.Invalid("more than one until filter specified")
			}
			var err error
			if until, err = parseUntil(values[0], now); err != nil {
				return nil, err
			}
		default:
			return nil, fault.Invalid("invalid filter '%s'", name)
		}
	}
	return func(r *core.Record) bool {
		if !until.IsZero() && r.Created.After(until) {
			return false
		}
		for _, v := range filters["label"] {
			if !hasLabel(r, v) {
				return false
			}
		}
		for _, v := range filters["label!"] {
			if hasLabel(r, v) {
				return false
			}
		}
		return true
	}, nil
}

func hasLabel(r *core.Record, pair string) bool {
	k, want, both := strings.Cut(pair, "=")
	got, ok := r.Config.Labels[k]
	return ok && (!both || got == want)
}

// parseUntil reads docker's forms of a time: a duration before now, seconds since 1970, or a date.
func parseUntil(v string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		return time.Unix(0, int64(f*1e9)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.Invalid("invalid until value %q: failed to parse value as time or duration", v)
}
