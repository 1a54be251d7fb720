package volumes

import (
	"context"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/volume"

	"longshore/internal/core/fault"
	"longshore/internal/driver/localvolume"
)

// Inspect describes one volume.
func (s *Service) Inspect(_ context.Context, name string) (api.Volume, error) {
	s.mu.RLock()
	e, ok := s.volumes[name]
	s.mu.RUnlock()
	if ok {
		if rec := e.rec.Load(); rec != nil {
			return s.view(rec), nil
		}
	}
	return api.Volume{}, notFound(name)
}

// List describes the volumes that pass docker's filters dangling, driver, label and name, by name.
func (s *Service) List(_ context.Context, filters map[string][]string) ([]api.Volume, error) {
	match, err := listFilter(filters)
	if err != nil {
		return nil, err
	}
	list := []api.Volume{}
	for _, rec := range s.records() {
		if match(rec) {
			list = append(list, s.view(rec))
		}
	}
	return list, nil
}

// records are the volumes that exist now, by name.
func (s *Service) records() []*record {
	list := []*record{}
	for _, e := range s.entries() {
		if rec := e.rec.Load(); rec != nil {
			list = append(list, rec)
		}
	}
	sort.Slice(list, func(i, k int) bool { return list[i].Name < list[k].Name })
	return list
}

func (s *Service) view(r *record) api.Volume {
	return api.Volume{
		Name: r.Name, Driver: r.Driver, Mountpoint: s.mountpoint(r.Name), Scope: "local",
		Labels: r.Labels, Options: r.Options, CreatedAt: r.CreatedAt.Format(time.RFC3339),
	}
}

// UsageOptions says how much of the usage is wanted.
type UsageOptions struct {
	// Items asks for the volumes themselves.
	Items bool
}

// Usage measures the volumes. A volume on a server that may not answer is not measured; its size is -1.
func (s *Service) Usage(ctx context.Context, o UsageOptions) (*api.DiskUsage, error) {
	u := &api.DiskUsage{}
	for _, rec := range s.records() {
		size := int64(-1)
		if !localvolume.Remote(s.mountpoint(rec.Name), rec.Options) {
			var err error
			if size, err = localvolume.Usage(ctx, s.mountpoint(rec.Name)); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				s.log.Warn("volume: measure", "volume", rec.Name, "error", err)
				size = -1
			}
		}
		u.TotalCount++
		u.TotalSize += max(size, 0)
		if len(rec.Refs) > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += max(size, 0)
		}
		if o.Items {
			v := s.view(rec)
			v.UsageData = &api.UsageData{Size: size, RefCount: int64(len(rec.Refs))}
			u.Items = append(u.Items, v)
		}
	}
	return u, nil
}

// listFilter compiles the filters of List.
func listFilter(filters map[string][]string) (func(*record) bool, error) {
	if err := known(filters, "dangling", "driver", "label", "name"); err != nil {
		return nil, err
	}
	var tests []func(*record) bool
	if v := filters["dangling"]; len(v) > 0 {
		want, err := boolean("dangling", v)
		if err != nil {
			return nil, err
		}
		tests = append(tests, func(r *record) bool { return (len(r.Refs) == 0) == want })
	}
	if v := filters["driver"]; len(v) > 0 {
		tests = append(tests, func(r *record) bool { return slices.Contains(v, r.Driver) })
	}
	if v := filters["name"]; len(v) > 0 {
		tests = append(tests, func(r *record) bool { return matchName(r.Name, v) })
	}
	if v := filters["label"]; len(v) > 0 {
		tests = append(tests, func(r *record) bool { return countLabels(r.Labels, v) == len(v) })
	}
	return all(tests), nil
}

func pruneFilter(filters map[string][]string) (func(*record) bool, error) {
	if err := known(filters, "label", "label!", "all"); err != nil {
		return nil, err
	}
	everything := false
	if v := filters["all"]; len(v) > 0 {
		var err error
		if everything, err = boolean("all", v); err != nil {
			return nil, err
		}
	}
	var tests []func(*record) bool
	if !everything {
		tests = append(tests, func(r *record) bool { _, ok := r.Labels[AnonymousLabel]; return ok })
	}
	if v := filters["label"]; len(v) > 0 {
		tests = append(tests, func(r *record) bool { return countLabels(r.Labels, v) == len(v) })
	}
	if v := filters["label!"]; len(v) > 0 {
		tests = append(tests, func(r *record) bool { return countLabels(r.Labels, v) == 0 })
	}
	return all(tests), nil
}

func all(tests []func(*record) bool) func(*record) bool {
	return func(r *record) bool {
		for _, t := range tests {
			if !t(r) {
				return false
			}
		}
		return true
	}
}

func known(filters map[string][]string, names ...string) error {
	for name := range filters {
		if !slices.Contains(names, name) {
			return fault.Invalid("invalid filter '%s'", name)
		}
	}
	return nil
}

// boolean reads docker's boolean filters, which have exactly one value.
func boolean(name string, values []string) (bool, error) {
	if len(values) == 1 {
		switch values[0] {
		case "1", "true":
			return true, nil
		case "0", "false":
			return false, nil
		}
	}
	return false, fault.Invalid("invalid filter '%s=[%s]'", name, strings.Join(values, " "))
}

// matchName tells whether one of the patterns, regular expressions as docker has them, matches.
func matchName(name string, patterns []string) bool {
	for _, p := range patterns {
		if re, err := regexp.Compile(p); p == name || (err == nil && re.MatchString(name)) {
			return true
		}
	}
	return false
}

// countLabels says how many of the wanted "key" or "key=value" the labels have.
func countLabels(labels map[string]string, wanted []string) int {
	n := 0
	for _, w := range wanted {
		key, value, exact := strings.Cut(w, "=")
		if have, ok := labels[key]; ok && (!exact || have == value) {
			n++
		}
	}
	return n
}
