package networks

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
)

// Filters are docker's filters: several values per name.
type Filters = map[string][]string

// Inspect describes one network with the containers that are on it now.
func (s *Service) Inspect(_ context.Context, term, scope string) (mobynet.Inspect, error) {
	n, err := s.nets.find(term, scope)
	if err != nil {
		return mobynet.Inspect{}, err
	}
	return n.inspect(), nil
}

func (n *netw) inspect() mobynet.Inspect {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := mobynet.Inspect{Network: n.rec.Network, Containers: map[string]mobynet.EndpointResource{}}
	for id, e := range n.endpoints {
		out.Containers[id] = mobynet.EndpointResource{
			Name: e.container, EndpointID: e.ID, MacAddress: e.MAC, IPv4Address: e.IPv4, IPv6Address: e.IPv6,
		}
	}
	status := mobynet.SubnetStatuses{}
	if n.v4 != nil {
		status[n.v4.Prefix()] = subnetStatus(n.v4.Status())
	}
	if n.v6 != nil {
		status[n.v6.Prefix()] = subnetStatus(n.v6.Status())
	}
	if len(status) > 0 {
		out.Status = &mobynet.Status{IPAM: mobynet.IPAMStatus{Subnets: status}}
	}
	return out
}

func subnetStatus(inUse, available uint64) mobynet.SubnetStatus {
	return mobynet.SubnetStatus{IPsInUse: inUse, DynamicIPsAvailable: available}
}

// Names lists the networks' names by ID, for those who only show them.
func (s *Service) Names() map[string]string {
	out := map[string]string{}
	for _, n := range s.nets.all() {
		out[n.rec.ID] = n.rec.Name
	}
	return out
}

// List describes the networks that the filters let through, by name.
func (s *Service) List(_ context.Context, f Filters) ([]mobynet.Inspect, error) {
	if err := accept(f, "dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	for _, t := range f["type"] {
		if t != "builtin" && t != "custom" {
			return nil, fault.Invalid("invalid filter: 'type'='%s'", t)
		}
	}
	dangling, err := flag(f, "dangling")
	if err != nil {
		return nil, err
	}
	out := []mobynet.Inspect{}
	for _, n := range s.nets.all() {
		v := n.inspect()
		if !listed(v, f) {
			continue
		}
		inUse := predefined(v.Name) || len(v.Containers) > 0
		if dangling == nil || *dangling != inUse {
			out = append(out, v)
		}
	}
	return out, nil
}

func accept(f Filters, names ...string) error {
	for name := range f {
		if !slices.Contains(names, name) {
			return fault.Invalid("invalid filter '%s'", name)
		}
	}
	return nil
}

// flag reads a filter that is true, false or not there.
func flag(f Filters, name string) (*bool, error) {
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

func listed(v mobynet.Inspect, f Filters) bool {
	builtin := "custom"
	if predefined(v.Name) {
		builtin = "builtin"
	}
	return exact(f["driver"], v.Driver) && exact(f["scope"], v.Scope) && exact(f["type"], builtin) &&
		like(f["name"], v.Name) && like(f["id"], v.ID) && labelled(f["label"], v.Labels)
}

func exact(want []string, have string) bool { return len(want) == 0 || slices.Contains(want, have) }

// like is docker's loose match: equal, or found by the value as a regular expression.
func like(want []string, have string) bool {
	return len(want) == 0 || slices.ContainsFunc(want, func(w string) bool {
		re, err := regexp.Compile(w)
		return w == have || (err == nil && re.MatchString(have))
	})
}

// labelled wants every label, by key or by key and value.
func labelled(want []string, have map[string]string) bool {
	for _, w := range want {
		key, value, hasValue := strings.Cut(w, "=")
		got, ok := have[key]
		if !ok || (hasValue && got != value) {
			return false
		}
	}
	return true
}

// Prune removes the networks that nobody uses, and answers their names.
func (s *Service) Prune(ctx context.Context, f Filters) (mobynet.PruneReport, error) {
	if !s.pruning.CompareAndSwap(false, true) {
		return mobynet.PruneReport{}, fault.Conflict("a prune operation is already running")
	}
	defer s.pruning.Store(false)
	if err := accept(f, "until", "label", "label!"); err != nil {
		return mobynet.PruneReport{}, err
	}
	until, err := pruneLimit(f["until"], s.deps.Now())
	if err != nil {
		return mobynet.PruneReport{}, err
	}
	report := mobynet.PruneReport{NetworksDeleted: []string{}}
	for _, n := range s.nets.all() {
		if predefined(n.rec.Name) || n.rec.ConfigOnly || (!until.IsZero() && n.rec.Created.After(until)) || !s.prunable(n, f) {
			continue
		}
		if err := s.remove(ctx, n); err == nil {
			report.NetworksDeleted = append(report.NetworksDeleted, n.rec.Name)
		}
	}
	s.deps.Events.Publish(ctx, events.Message{
		Type: events.NetworkEventType, Action: events.ActionPrune, Scope: "local",
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": "0"}},
	})
	return report, nil
}

func (s *Service) prunable(n *netw, f Filters) bool {
	if !labelled(f["label"], n.rec.Labels) {
		return false
	}
	if not := f["label!"]; len(not) > 0 && labelled(not, n.rec.Labels) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.endpoints) == 0
}

// publish tells of a network.
func (s *Service) publish(ctx context.Context, a events.Action, n *netw, more map[string]string) {
	attributes := map[string]string{"name": n.rec.Name, "type": n.rec.Driver}
	maps.Copy(attributes, more)
	s.deps.Events.Publish(ctx, events.Message{
		Type: events.NetworkEventType, Action: a, Scope: "local",
		Actor: events.Actor{ID: n.rec.ID, Attributes: attributes},
	})
}

// pruneLimit reads docker's time filter: a duration before now, seconds since 1970, or a date.
func pruneLimit(values []string, now time.Time) (time.Time, error) {
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
