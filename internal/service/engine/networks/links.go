package networks

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"longshore/internal/core/firewall"
	"longshore/internal/core/network"
)

// relink brings the firewall's links of a network whose containers may not talk to each other in line with who is on it.
// What fails is logged: the next change tries again.
func (s *Service) relink(n *netw) {
	if n.opts.ICC || n.rec.Bridge == "" || n.userDefined() {
		return
	}
	n.linking.Lock()
	defer n.linking.Unlock()
	if err := s.firewall.AddNetwork(n.firewall()); err != nil {
		s.deps.Log.Error("links between containers do not work", "network", n.rec.Name, "error", err)
	}
}

// links are what linked containers may reach of each other: every exposed port of the one that is linked to.
func (n *netw) links() []firewall.Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []firewall.Link
	for _, from := range n.endpoints {
		if from.request == nil {
			continue
		}
		for _, l := range from.request.Links {
			target, _, _ := strings.Cut(l, ":")
			if to := n.called(strings.TrimPrefix(target, "/")); to != nil && to.request != nil {
				out = append(out, between(from, to)...)
			}
		}
	}
	slices.SortFunc(out, func(a, b firewall.Link) int {
		return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To), cmp.Compare(a.Proto, b.Proto))
	})
	return slices.Compact(out)
}

// called finds an endpoint by its container's name or the beginning of its ID. The caller holds n.mu.
func (n *netw) called(target string) *endpoint {
	if target == "" {
		return nil
	}
	for id, e := range n.endpoints {
		if e.container == target || strings.HasPrefix(id, target) {
			return e
		}
	}
	return nil
}

func between(from, to *endpoint) []firewall.Link {
	var out []firewall.Link
	for _, pair := range [][2]netip.Addr{{from.IPv4.Addr(), to.IPv4.Addr()}, {from.IPv6.Addr(), to.IPv6.Addr()}} {
		if !pair[0].IsValid() || !pair[1].IsValid() {
			continue
		}
		for _, p := range network.ExposedPorts(to.request) {
			out = append(out, firewall.Link{From: pair[0], Proto: protoNumber(p.Proto()), To: netip.AddrPortFrom(pair[1], p.Num())})
		}
	}
	return out
}
