package system

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/fault"
)

// EventsOptions says which events are wanted.
type EventsOptions struct {
	// Since and Until are docker's timestamps, empty for none; see ParseTime.
	Since, Until string
	Filters      map[string][]string
}

// Events prepares a stream; what is wrong with the options is told before it begins. run calls emit until ctx is done
// or Until has come.
func (s *Service) Events(o EventsOptions) (run func(ctx context.Context, emit func(events.Message) error) error, err error) {
	now := s.d.Now()
	since, err := ParseTime(o.Since, now)
	if err != nil {
		return nil, err
	}
	until, err := ParseTime(o.Until, now)
	if err != nil {
		return nil, err
	}
	if !until.IsZero() && until.Before(since) {
		return nil, fault.Invalid("`since` time (%s) cannot be after `until` time (%s)", o.Since, o.Until)
	}
	if since.IsZero() && !until.IsZero() {
		since = time.Unix(0, 1) // all of the past
	}
	f := filter(o.Filters)
	return func(ctx context.Context, emit func(events.Message) error) error {
		return s.d.Events.Read(ctx, since, until, func(m events.Message) error {
			if !f.matches(&m) {
				return nil
			}
			return emit(m)
		})
	}, nil
}

// ParseTime reads docker's timestamps: seconds with up to nine decimals ("1136073845.000000001"), a date with or
// without time and zone ("2006-01-02T15:04:05.9Z", "2006-01-02"; without a zone the daemon's), or a duration before
// now ("1h30m"). Empty, and negative seconds, give the zero time.
func ParseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, ok := parseUnix(text); ok {
		return t, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
		"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			if y := t.Year(); y < 1678 || y > 2261 { // nanoseconds end there
				break
			}
			return t, nil
		}
	}
	return time.Time{}, fault.Invalid("failed to parse value as time or duration: %q", text)
}

func parseUnix(text string) (time.Time, bool) {
	whole, fraction, point := strings.Cut(text, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec > math.MaxInt64/int64(time.Second)-1 || (point && (len(fraction) > 9 || !digits(fraction))) {
		return time.Time{}, false
	}
	if sec < 0 {
		return time.Time{}, true
	}
	nano := int64(0)
	if point {
		nano, _ = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	}
	return time.Unix(sec, nano), true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// filter is docker's: all names must match, each by any of its values. Unknown names are ignored, as docker does.
type filter map[string][]string

func (f filter) matches(m *events.Message) bool {
	if !f.exact("type", string(m.Type)) || !f.exact("scope", m.Scope) || !f.event(string(m.Action)) || !f.image(m) {
		return false
	}
	for _, object := range []string{"daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"} {
		if !f.prefix(object, m.Actor.ID) && !f.prefix(object, m.Actor.Attributes["name"]) {
			return false
		}
	}
	for _, want := range f["label"] {
		key, value, exact := strings.Cut(want, "=")
		if have, ok := m.Actor.Attributes[key]; !ok || (exact && have != value) {
			return false
		}
	}
	return true
}

// event matches "exec_create", "exec_start" and "health_status" whatever follows their colon.
func (f filter) event(action string) bool {
	for _, want := range f["event"] {
		if slices.Contains([]string{"exec_create", "exec_start", "health_status"}, want) {
			return f.prefix("event", action)
		}
	}
	return f.exact("event", action)
}

// image matches events of the image and of containers made from it, by ID or name, with or without tag.
func (f filter) image(m *events.Message) bool {
	attribute := "image"
	if m.Type == events.ImageEventType {
		attribute = "name"
	}
	name := m.Actor.Attributes[attribute]
	for _, candidate := range []string{m.Actor.ID, name, withoutTag(m.Actor.ID), withoutTag(name)} {
		if f.exact("image", candidate) {
			return true
		}
	}
	return false
}

func withoutTag(ref string) string {
	if i := strings.IndexByte(ref, '@'); i >= 0 {
		ref = ref[:i]
	}
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i]
	}
	return ref
}

func (f filter) exact(name, value string) bool {
	wanted := f[name]
	return len(wanted) == 0 || slices.Contains(wanted, value)
}

func (f filter) prefix(name, value string) bool {
	wanted := f[name]
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return strings.HasPrefix(value, w) })
}
