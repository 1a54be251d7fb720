// Package listing selects and shows containers for docker ps: pure functions over records.
package listing

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Image is what the ancestor filter needs of an image.
type Image struct {
	ID      digest.Digest
	DiffIDs []digest.Digest
}

// Lookups resolve what filters name.
type Lookups struct {
	Container func(ref string) (*core.Record, error)
	Image     func(ref string) (Image, error)
}

// Query is a parsed set of filters: a container must pass every test.
type Query struct {
	tests []func(*core.Record) bool
	// all: a filter names states, so stopped containers are meant too.
	all bool
}

var known = []string{
	"ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name",
	"network", "publish", "since", "status", "volume",
}

// Parse reads docker's filters, in docker's words for what is wrong.
func Parse(f map[string][]string, l Lookups) (*Query, error) {
	q := &Query{}
	for name := range f {
		if !slices.Contains(known, name) {
			return nil, fault.Invalid("invalid filter '%s'", name)
		}
	}
	for name, values := range f {
		if len(values) == 0 {
			continue
		}
		test, err := parseOne(q, name, values, l)
		if err != nil {
			return nil, err
		}
		if test != nil {
			q.tests = append(q.tests, test)
		}
	}
	return q, nil
}

func parseOne(q *Query, name string, values []string, l Lookups) (func(*core.Record) bool, error) {
	switch name {
	case "status":
		q.all = true
		return byStatus(values)
	case "exited":
		q.all = true
		return byExit(values)
	case "health":
		return byHealth(values)
	case "before", "since":
		q.all = true
		return byAge(name, values, l)
	case "ancestor":
		return byAncestor(values, l)
	case "publish", "expose":
		return byPort(name, values)
	case "id", "name":
		return byText(name, values)
	case "label":
		return func(r *core.Record) bool { return matchPairs(values, r.Config.Labels) }, nil
	case "annotation":
		return func(r *core.Record) bool { return matchPairs(values, r.HostConfig.Annotations) }, nil
	case "network":
		return func(r *core.Record) bool { return onNetwork(values, r) }, nil
	case "volume":
		return func(r *core.Record) bool { return usesVolume(values, r) }, nil
	case "is-task":
		return byTask(values)
	}
	return func(r *core.Record) bool { // isolation
		return slices.ContainsFunc(values, func(v string) bool {
			return strings.EqualFold(v, string(r.HostConfig.Isolation)) || (r.HostConfig.Isolation == "" && v == "default")
		})
	}, nil
}

// Select picks and sorts, newest first. Without all, a limit or a filter on states only running containers are shown.
func (q *Query) Select(from []*Shown, all bool, limit int) []*Shown {
	out := make([]*Shown, 0, len(from))
	for _, s := range from {
		if !all && limit <= 0 && !q.all && !s.Record.State.Active() {
			continue
		}
		if q.match(s.Record) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *Shown) int { return b.Record.Created.Compare(a.Record.Created) })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

func (q *Query) match(r *core.Record) bool {
	for _, t := range q.tests {
		if !t(r) {
			return false
		}
	}
	return true
}

func byStatus(values []string) (func(*core.Record) bool, error) {
	for _, v := range values {
		if err := container.ValidateContainerState(container.ContainerState(v)); err != nil {
			return nil, fault.Invalid("invalid filter 'status=%s'", v)
		}
	}
	return func(r *core.Record) bool { return slices.Contains(values, string(r.State.Status())) }, nil
}

func byExit(values []string) (func(*core.Record) bool, error) {
	codes := make([]int, len(values))
	for i, v := range values {
		var err error
		if codes[i], err = strconv.Atoi(v); err != nil {
			return nil, fault.Invalid("invalid filter 'exited=%s'", v)
		}
	}
	return func(r *core.Record) bool {
		return !r.State.Active() && !r.State.StartedAt.IsZero() && slices.Contains(codes, r.State.ExitCode)
	}, nil
}

func byHealth(values []string) (func(*core.Record) bool, error) {
	for _, v := range values {
		if err := container.ValidateHealthStatus(container.HealthStatus(v)); err != nil {
			return nil, fault.Invalid("invalid filter 'health=%s'", v)
		}
	}
	return func(r *core.Record) bool { return slices.Contains(values, string(r.State.HealthSummary().Status)) }, nil
}

func byAge(name string, values []string, l Lookups) (func(*core.Record) bool, error) {
	if len(values) > 1 {
		return nil, fault.Invalid("invalid filter '%s': only one value is allowed", name)
	}
	ref, err := l.Container(values[0])
	if err != nil {
		return nil, err
	}
	if name == "before" {
		return func(r *core.Record) bool { return r.Created.Before(ref.Created) }, nil
	}
	return func(r *core.Record) bool { return r.Created.After(ref.Created) }, nil
}

// byAncestor accepts containers of the images and of images built on them. An image that is not there matches nothing.
func byAncestor(values []string, l Lookups) (func(*core.Record) bool, error) {
	var bases []Image
	for _, v := range values {
		if img, err := l.Image(v); err == nil {
			bases = append(bases, img)
		}
	}
	return func(r *core.Record) bool {
		for _, b := range bases {
			if r.Image.ID == b.ID {
				return true
			}
			own, err := l.Image(r.Image.ID.String())
			if err == nil && len(b.DiffIDs) > 0 && len(own.DiffIDs) > len(b.DiffIDs) && slices.Equal(own.DiffIDs[:len(b.DiffIDs)], b.DiffIDs) {
				return true
			}
		}
		return false
	}, nil
}

func byPort(name string, values []string) (func(*core.Record) bool, error) {
	var ranges []network.PortRange
	for _, v := range values {
		p, err := network.ParsePortRange(v)
		if err != nil {
			return nil, fault.Invalid("invalid filter '%s=%s': %v", name, v, err)
		}
		ranges = append(ranges, p)
	}
	in := func(num uint16, proto network.IPProtocol) bool {
		return slices.ContainsFunc(ranges, func(p network.PortRange) bool {
			return p.Proto() == proto && p.Start() <= num && num <= p.End()
		})
	}
	if name == "expose" {
		return func(r *core.Record) bool {
			for p := range r.Config.ExposedPorts {
				if in(p.Num(), p.Proto()) {
					return true
				}
			}
			return false
		}, nil
	}
	return func(r *core.Record) bool {
		ports := r.HostConfig.PortBindings
		if r.Run != nil {
			ports = r.Run.Ports
		}
		for p, bindings := range ports {
			for _, b := range bindings {
				if n, err := strconv.ParseUint(b.HostPort, 10, 16); err == nil && in(uint16(n), p.Proto()) {
					return true
				}
			}
		}
		return false
	}, nil
}

// byText matches names and IDs as docker does: by regular expression, anywhere, with or without the leading slash.
func byText(name string, values []string) (func(*core.Record) bool, error) {
	res := make([]*regexp.Regexp, len(values))
	for i, v := range values {
		var err error
		if res[i], err = regexp.Compile(v); err != nil {
			return nil, fault.Invalid("invalid filter '%s=%s': %v", name, v, err)
		}
	}
	return func(r *core.Record) bool {
		if name == "id" {
			return slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(r.ID, v) })
		}
		return slices.ContainsFunc(res, func(re *regexp.Regexp) bool {
			return re.MatchString("/"+r.Name) || re.MatchString(r.Name)
		})
	}, nil
}

func byTask(values []string) (func(*core.Record) bool, error) {
	b, err := strconv.ParseBool(values[0])
	if err != nil {
		return nil, fault.Invalid("invalid filter 'is-task=%s'", values[0])
	}
	return func(*core.Record) bool { return !b }, nil
}

// matchPairs: every "key" must be there and every "key=value" agree.
func matchPairs(values []string, have map[string]string) bool {
	for _, v := range values {
		k, want, pair := strings.Cut(v, "=")
		got, ok := have[k]
		if !ok || (pair && got != want) {
			return false
		}
	}
	return true
}

func onNetwork(values []string, r *core.Record) bool {
	for _, v := range values {
		for name, e := range r.Networks {
			if v == name || (e != nil && e.NetworkID != "" && strings.HasPrefix(e.NetworkID, v)) {
				return true
			}
		}
		if r.Run == nil {
			continue
		}
		for name, e := range r.Run.Endpoints {
			if v == name || (e != nil && strings.HasPrefix(e.NetworkID, v)) {
				return true
			}
		}
	}
	return false
}

func usesVolume(values []string, r *core.Record) bool {
	for _, v := range values {
		for _, m := range r.Mounts {
			if m.Hidden {
				continue
			}
			if v == m.Name || v == m.Destination || (m.Name == "" && path.Clean(v) == m.Source) {
				return true
			}
		}
	}
	return false
}
