package networks

import (
	"context"
	"maps"

	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/networks/filter"
)

// Filters are docker's filters: several values per name.
type Filters = filter.Set

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
	for _, sub := range n.subnets {
		status[sub.Prefix()] = subnetStatus(sub.Status())
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
	if err := filter.Accept(f, "dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	for _, t := range f["type"] {
		if t != "builtin" && t != "custom" {
			return nil, fault.Invalid("invalid filter: 'type'='%s'", t)
		}
	}
	dangling, err := filter.Flag(f, "dangling")
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

func listed(v mobynet.Inspect, f Filters) bool {
	builtin := "custom"
	if predefined(v.Name) {
		builtin = "builtin"
	}
	return filter.Exact(f["driver"], v.Driver) && filter.Exact(f["scope"], v.Scope) && filter.Exact(f["type"], builtin) &&
		filter.Like(f["name"], v.Name) && filter.Like(f["id"], v.ID) && filter.Labelled(f["label"], v.Labels)
}

// Prune removes the networks that nobody uses, and answers their names.
func (s *Service) Prune(ctx context.Context, f Filters) (mobynet.PruneReport, error) {
	if !s.pruning.CompareAndSwap(false, true) {
		return mobynet.PruneReport{}, fault.Conflict("a prune operation is already running")
	}
	defer s.pruning.Store(false)
	if err := filter.Accept(f, "until", "label", "label!"); err != nil {
		return mobynet.PruneReport{}, err
	}
	until, err := filter.Until(f["until"], s.deps.Now())
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
	if !filter.Labelled(f["label"], n.rec.Labels) {
		return false
	}
	if not := f["label!"]; len(not) > 0 && filter.Labelled(not, n.rec.Labels) {
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
