package images

import (
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/catalog"
)

// keep tells under which of its names an image passes; none: it does not.
type keep func(e *catalog.Entry) []catalog.Name

// filter compiles docker's image filters.
func (s *Service) filter(filters map[string][]string) (keep, error) {
	var images []func(*catalog.Entry) bool
	var names []func(catalog.Name) bool
	keys := make([]string, 0, len(filters))
	for k := range filters {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if k == "reference" {
			f, err := byReference(filters[k])
			if err != nil {
				return nil, err
			}
			names = append(names, f)
			continue
		}
		f, err := s.imageFilter(k, filters[k])
		if err != nil {
			return nil, err
		}
		images = append(images, f)
	}
	return func(e *catalog.Entry) []catalog.Name {
		for _, f := range images {
			if !f(e) {
				return nil
			}
		}
		if len(names) == 0 {
			return e.Names
		}
		var out []catalog.Name
		for _, n := range e.Names {
			if n.Ref != nil && names[0](n) {
				out = append(out, n)
			}
		}
		return out
	}, nil
}

func (s *Service) imageFilter(key string, values []string) (func(*catalog.Entry) bool, error) {
	switch key {
	case "dangling":
		want, err := boolFilter(key, values)
		if err != nil {
			return nil, err
		}
		return func(e *catalog.Entry) bool { return e.Dangling() == want }, nil
	case "label":
		return func(e *catalog.Entry) bool { return matchLabels(entryLabels(e), values) == len(values) }, nil
	case "label!":
		return func(e *catalog.Entry) bool { return matchLabels(entryLabels(e), values) == 0 }, nil
	case "before", "since":
		return s.relative(key, values)
	case "until":
		return byAge(values)
	}
	return nil, fault.Invalid("invalid filter '%s'", key)
}

// relative compares creation times with those of other images.
func (s *Service) relative(key string, values []string) (func(*catalog.Entry) bool, error) {
	var limits []time.Time
	for _, v := range values {
		f, err := s.cat.Find(v)
		if err != nil {
			return nil, err
		}
		limits = append(limits, created(f.Entry))
	}
	return func(e *catalog.Entry) bool {
		t := created(e)
		for _, l := range limits {
			if key == "before" && !t.Before(l) || key == "since" && !t.After(l) {
				return false
			}
		}
		return true
	}, nil
}

// byAge passes what is older than each of the limits.
func byAge(values []string) (func(*catalog.Entry) bool, error) {
	limit := time.Unix(1<<60, 0)
	for _, v := range values {
		t, err := timestamp(v, time.Now())
		if err != nil {
			return nil, err
		}
		limit = slices.MinFunc([]time.Time{limit, t}, time.Time.Compare)
	}
	return func(e *catalog.Entry) bool { t := created(e); return !t.IsZero() && t.Before(limit) }, nil
}

// byReference matches patterns with a name's short and full form, each with and without its tag.
func byReference(patterns []string) (func(catalog.Name) bool, error) {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fault.Invalid("invalid reference filter %q: %w", p, err)
		}
	}
	return func(n catalog.Name) bool {
		forms := []string{reference.FamiliarString(n.Ref), reference.FamiliarName(n.Ref), reference.TagNameOnly(n.Ref).String(), n.Ref.Name()}
		return slices.ContainsFunc(patterns, func(p string) bool {
			return slices.ContainsFunc(forms, func(f string) bool { ok, _ := path.Match(p, f); return ok })
		})
	}, nil
}

func boolFilter(key string, values []string) (bool, error) {
	if len(values) == 1 {
		switch values[0] {
		case "1", "true":
			return true, nil
		case "0", "false":
			return false, nil
		}
	}
	return false, fault.Invalid("invalid filter '%s=%s'", key, values)
}

func created(e *catalog.Entry) time.Time {
	if m, err := e.Best(nil); err == nil && m.Image.Created != nil {
		return *m.Image.Created
	}
	return time.Time{}
}

func entryLabels(e *catalog.Entry) map[string]string {
	if m, err := e.Best(nil); err == nil {
		return m.Image.Config.Labels
	}
	return nil
}

// matchLabels counts the filters of the form key or key=value that labels satisfy.
func matchLabels(labels map[string]string, filters []string) int {
	n := 0
	for _, f := range filters {
		k, v, hasValue := strings.Cut(f, "=")
		got, ok := labels[k]
		if ok && (!hasValue || got == v) {
			n++
		}
	}
	return n
}

// timestampLayouts are docker's forms of a point in time, local unless they say otherwise.
var timestampLayouts = []string{
	time.RFC3339Nano, time.RFC3339, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04",
	"2006-01-02Z07:00", "2006-01-02",
}

// timestamp reads seconds since 1970 with an optional fraction, a duration before now, or a date.
func timestamp(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	sec, frac, _ := strings.Cut(s, ".")
	if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
		nanos := int64(0)
		if frac != "" {
			if nanos, err = strconv.ParseInt((frac + "000000000")[:9], 10, 64); err != nil {
				return time.Time{}, fault.Invalid("invalid until filter: %q", s)
			}
		}
		return time.Unix(n, nanos), nil
	}
	for _, l := range timestampLayouts {
		if t, err := time.ParseInLocation(l, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.Invalid("invalid until filter: failed to parse value as time or duration: %q", s)
}
