package route

import (
	"encoding/json"
	"sort"

	"longshore/internal/core/fault"
)

// Filters are docker's filters: several values per name.
type Filters map[string][]string

// ParseFilters reads a "filters" query parameter; both {"n":["v"]} and {"n":{"v":true}} are understood. Names with
// nil values and values with false are dropped.
func ParseFilters(s string) (Filters, error) {
	if s == "" {
		return nil, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &raw); err != nil {
		return nil, fault.Invalid("invalid filter")
	}
	f := make(Filters, len(raw))
	for name, v := range raw {
		var list []string
		if json.Unmarshal(v, &list) != nil {
			var set map[string]bool
			if json.Unmarshal(v, &set) != nil {
				return nil, fault.Invalid("invalid filter")
			}
			list = nil
			for k, on := range set {
				if on {
					list = append(list, k)
				}
			}
			sort.Strings(list)
		}
		if len(list) > 0 {
			f[name] = list
		}
	}
	return f, nil
}
