package listing

import (
	"strconv"
	"strings"
	"time"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Prune reads the filters of a prune: "until", "label" and "label!".
func Prune(filters map[string][]string, now time.Time) (func(*core.Record) bool, error) {
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
