package networks

import "net/netip"

// HostGateways are the addresses by which containers reach the host: what "host-gateway" stands for.
func (s *Service) HostGateways() []netip.Addr { return s.hostGateways() }
