package request

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// NetworkNamer gives the name of a network that a client calls by its ID or name; an error where there is none.
type NetworkNamer func(ref string) (string, error)

// Of is the network's name, or ref for one that may come later.
func (n NetworkNamer) Of(ref string) string {
	if n != nil {
		if name, err := n(ref); err == nil {
			return name
		}
	}
	return ref
}

// Endpoints settles which networks the container is on, by their names: those of the request, or the one of its network
// mode where the request names none or the mode admits no other.
func Endpoints(rec *core.Record, nc *network.NetworkingConfig, names NetworkNamer) (map[string]*network.EndpointSettings, error) {
	out := map[string]*network.EndpointSettings{}
	if nc != nil {
		for name, e := range nc.EndpointsConfig {
			if name == "default" {
				name = network.NetworkBridge
			}
			if e == nil {
				e = &network.EndpointSettings{}
			}
			if !rec.HostConfig.NetworkMode.IsContainer() {
				name = names.Of(name)
			}
			out[name] = Blank(e)
		}
	}
	if rec.HostConfig.NetworkMode.IsContainer() {
		if len(out) > 0 {
			return nil, fault.Invalid("conflicting options: container type network can't be used with links or other networks")
		}
		return out, nil
	}
	if rec.Config.NetworkDisabled {
		return out, nil
	}
	mode := names.Of(string(rec.HostConfig.NetworkMode))
	alone := rec.HostConfig.NetworkMode.IsHost() || rec.HostConfig.NetworkMode.IsNone()
	if _, ok := out[mode]; !ok && (alone || len(out) == 0) {
		out[mode] = &network.EndpointSettings{}
	}
	return out, nil
}

// Blank is a copy of the settings with only what a client may ask for.
func Blank(e *network.EndpointSettings) *network.EndpointSettings {
	c := e.Copy()
	c.NetworkID, c.EndpointID, c.DNSNames = "", "", nil
	c.Gateway, c.IPAddress, c.IPv6Gateway, c.GlobalIPv6Address = netip.Addr{}, netip.Addr{}, netip.Addr{}, netip.Addr{}
	c.IPPrefixLen, c.GlobalIPv6PrefixLen = 0, 0
	return c
}

// FillBindings gives ports with an empty list of bindings the one that such a list has always stood for, any port of any
// address, and tells of it: a later version of dockerd will take it for none.
func FillBindings(hc *container.HostConfig) (warnings []string) {
	var empty []string
	bindings := maps.Clone(hc.PortBindings)
	for port, list := range bindings {
		if len(list) == 0 {
			bindings[port] = []network.PortBinding{{}}
			empty = append(empty, port.String())
		}
	}
	if len(empty) == 0 {
		return nil
	}
	slices.Sort(empty)
	hc.PortBindings = bindings
	return []string{"Following container port(s) have an empty list of port-bindings: " + strings.Join(empty, ", ") + ". Such bindings will be discarded in a future version."}
}
