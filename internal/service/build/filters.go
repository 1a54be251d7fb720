package build

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"longshore/internal/core/fault"
)

// recordFilters are the fields of a cache record that docker's filters name.
var recordFilters = []string{"id", "parent", "type", "description", "inuse", "shared", "private", "internal"}

// Selection turns docker's filters into how long ago a record must have been used and BuildKit's filter expression.
func Selection(filters map[string][]string, now time.Time) (keep time.Duration, out []string, err error) {
	for name := range filters {
		field := strings.TrimSuffix(name, "!")
		if field != "until" && field != "unused-for" && !slices.Contains(recordFilters, field) {
			return 0, nil, fault.Invalid("invalid filter '%s'", name)
		}
	}
	for _, name := range []string{"until", "unused-for"} {
		switch values := filters[name]; len(values) {
		case 0:
		case 1:
			if keep, err = age(values[0], now); err != nil {
				return 0, nil, err
			}
		default:
			return 0, nil, fault.Invalid("filters expect only one value")
		}
	}
	var terms []string
	for _, field := range recordFilters {
		for _, not := range []string{"", "!"} {
			values, ok := filters[field+not]
			switch {
			case !ok:
			case len(values) > 1:
				return 0, nil, fault.Invalid("filters expect only one value")
			case len(values) == 0 || slices.Contains([]string{"inuse", "shared", "private", "internal"}, field):
				terms = append(terms, field)
			default:
				terms = append(terms, term(field, not, values[0]))
			}
		}
	}
	if len(terms) == 0 {
		return keep, nil, nil
	}
	return keep, []string{strings.Join(terms, ",")}, nil
}

func term(field, not, value string) string {
	op := "=="
	switch {
	case not != "":
		op = "!="
	case field == "id":
		op = "~="
	}
	return field + op + strconv.Quote(value)
}

// age reads a duration or a point in time, docker's way, as the time since then.
func age(text string, now time.Time) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return now.Sub(time.Unix(0, int64(n*1e9))), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return now.Sub(t), nil
		}
	}
	return 0, fault.Invalid("invalid filter 'until=[%s]'", text)
}
