// Package filter reads docker's filters of networks: what lists and prunes let through.
package filter

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"longshore/internal/core/fault"
)

// Set is docker's filters: several values per name.
type Set = map[string][]string

// Accept refuses filters that are not among the names.
func Accept(f Set, names ...string) error {
	for name := range f {
		if !slices.Contains(names, name) {
			return fault.Invalid("invalid filter '%s'", name)
		}
	}
	return nil
}

// Flag reads a filter that is true, false or not there.
func Flag(f Set, name string) (*bool, error) {
	values := f[name]
	if len(values) == 0 {
		return nil, nil
	}
	if len(values) > 1 {
		return nil, fault.Invalid("got more than one value for filter key %q", name)
	}
	var on bool
	switch values[0] {
	case "1", "true":
		on = true
	case "0", "false":
	default:
		return nil, fault.Invalid(`invalid value for filter '%s', must be "true" (or "1"), or "false" (or "0")`, name)
	}
	return &on, nil
}

// Exact lets one of the values through, or everything without any.
func Exact(want []string, have string) bool { return len(want) == 0 || slices.Contains(want, have) }

// Like is docker's loose match: equal, or found by the value as a regular expression.
func Like(want []string, have string) bool {
	return len(want) == 0 || slices.ContainsFunc(want, func(w string) bool {
		re, err := regexp.Compile(w)
		return w == have || (err == nil && re.MatchString(have))
	})
}

// Labelled wants every label, by key or by key and value.
func Labelled(want []string, have map[string]string) bool {
	for _, w := range want {
		key, value, hasValue := strings.Cut(w, "=")
		got, ok := have[key]
		if !ok || (hasValue && got != value) {
			return false
		}
	}
	return true
}

// Until reads docker's time filter: a duration before now, seconds since 1970, or a date.
func Until(values []string, now time.Time) (time.Time, error) {
	if len(values) == 0 {
		return time.Time{}, nil
	}
	if len(values) > 1 {
		return time.Time{}, fault.Invalid("more than one until filter specified")
	}
	v := values[0]
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	seconds, nanos, _ := strings.Cut(v, ".")
	if d, err := time.ParseDuration(seconds + "s"); err == nil && !strings.ContainsAny(seconds, "hmsnuµ") {
		frac, err := time.ParseDuration("0." + (nanos + "000000000")[:9] + "s")
		if err == nil {
			return time.Unix(int64(d/time.Second), int64(frac)), nil
		}
	}
	return time.Time{}, fault.Invalid("invalid value for filter 'until': %q", v)
}
