package request

import (
	"net/netip"

	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Endpoints settles which networks the container is on: those named in the request and the one of its network mode.
func Endpoints(rec *core.Record, nc *network.NetworkingConfig) (map[string]*network.EndpointSettings, error) {
	out := map[string]*network.EndpointSettings{}
	mode := string(rec.HostConfig.NetworkMode)
	if nc != nil {
		for name, e := range nc.EndpointsConfig {
			if name == "default" {
				name = network.NetworkBridge
			}
			if e == nil {
				e = &network.EndpointSettings{}
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
	if _, ok := out[mode]; !ok {
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
