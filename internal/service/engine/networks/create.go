package networks

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
	"longshore/internal/core/state"
	"longshore/internal/service/engine/networks/spaces"
)

// Buckets of the state store.
const (
	bucketNetworks  = "networks"
	bucketSandboxes = "sandboxes"
	// maxName bounds names, which are told in many places, in bytes.
	maxName = 255
)

// Create makes a network. It exists, on disk and in the kernel, when Create returns.
func (s *Service) Create(ctx context.Context, r mobynet.CreateRequest) (mobynet.CreateResponse, error) {
	if predefined(r.Name) {
		return mobynet.CreateResponse{}, fault.Forbidden("operation is not permitted on predefined %s network ", r.Name)
	}
	if strings.TrimSpace(r.Name) == "" {
		return mobynet.CreateResponse{}, fault.Invalid("invalid name: name is empty")
	}
	if len(r.Name) > maxName {
		return mobynet.CreateResponse{}, fault.Invalid("invalid name: network names have at most %d bytes", maxName)
	}
	s.nets.changes.Lock()
	defer s.nets.changes.Unlock()
	if s.nets.byName(r.Name) != nil {
		return mobynet.CreateResponse{}, fault.Conflict("network with name %s already exists", r.Name)
	}
	rec, err := s.plan(r)
	if err != nil {
		return mobynet.CreateResponse{}, err
	}
	if rec, err = s.parentFor(rec); err != nil {
		return mobynet.CreateResponse{}, err
	}
	n := newNetw(rec)
	if err := s.save(ctx, rec); err != nil {
		return mobynet.CreateResponse{}, err
	}
	if err := s.raise(n); err != nil {
		// Nothing was told to the client: nothing may stay.
		undo := s.lower(n)
		gone := s.deps.Store.Delete(context.WithoutCancel(ctx), bucketNetworks, rec.ID, state.Durable)
		return mobynet.CreateResponse{}, errors.Join(err, undo, gone)
	}
	s.nets.add(n)
	s.wantNames(n)
	s.publish(ctx, events.ActionCreate, n, nil)
	return mobynet.CreateResponse{ID: rec.ID}, nil
}

func (s *Service) save(ctx context.Context, rec network.Record) error {
	doc, err := json.Marshal(rec)
	if err == nil {
		err = s.deps.Store.Put(ctx, bucketNetworks, rec.ID, doc, state.Durable)
	}
	if err != nil {
		return fmt.Errorf("save network %s: %w", rec.Name, err)
	}
	return nil
}

// plan settles everything about a new network; the caller holds changes.
func (s *Service) plan(r mobynet.CreateRequest) (network.Record, error) {
	rec := network.Record{Network: mobynet.Network{
		Name: r.Name, ID: spaces.RandomID(), Created: s.deps.Now(), Scope: "local", Driver: r.Driver, EnableIPv4: true,
		Internal: r.Internal, Attachable: r.Attachable, ConfigOnly: r.ConfigOnly,
		Options: orEmpty(r.Options), Labels: orEmpty(r.Labels),
	}}
	if rec.Driver == "" {
		rec.Driver = driverBridge
	}
	if err := checkKind(r, rec.Driver); err != nil {
		return rec, err
	}
	if r.ConfigFrom != nil && r.ConfigFrom.Network != "" {
		from, err := s.configFrom(r)
		if err != nil {
			return rec, err
		}
		rec.ConfigFrom = *r.ConfigFrom
		rec.EnableIPv4, rec.EnableIPv6 = from.EnableIPv4, from.EnableIPv6
		rec.Options, rec.Labels = maps.Clone(from.Options), maps.Clone(from.Labels)
		r.IPAM = &from.IPAM
	}
	if !r.ConfigOnly {
		for k, v := range s.cfg.NetworkOptions[rec.Driver] {
			if _, given := rec.Options[k]; !given {
				rec.Options[k] = v
			}
		}
	}
	if rec.ConfigFrom.Network == "" {
		if err := ipFamilies(r, &rec); err != nil {
			return rec, err
		}
	}
	if err := network.CheckIPAM(r.IPAM, rec.EnableIPv6); err != nil {
		return rec, err
	}
	if r.IPAM != nil {
		rec.IPAM.Options = r.IPAM.Options
	}
	rec.IPAM.Driver = "default"
	if r.ConfigOnly {
		rec.Driver, rec.IPAM.Config = driverNull, asked(r.IPAM)
		return rec, nil
	}
	if !rec.EnableIPv4 && !rec.EnableIPv6 {
		return rec, fault.Invalid("IPv4 or IPv6 must be enabled")
	}
	if err := s.checkOptions(&rec); err != nil {
		return rec, err
	}
	return rec, s.assign(&rec, asked(r.IPAM))
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

func asked(ipam *mobynet.IPAM) []mobynet.IPAMConfig {
	if ipam == nil {
		return nil
	}
	return ipam.Config
}

// checkKind refuses what this engine has no driver for, and contradictions.
func checkKind(r mobynet.CreateRequest, driver string) error {
	switch {
	case r.ConfigOnly && (r.Ingress || r.Internal || r.Attachable || r.Scope != ""):
		return fault.Forbidden("configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.")
	case r.ConfigOnly && r.ConfigFrom != nil && r.ConfigFrom.Network != "":
		return fault.Forbidden("a configuration network cannot depend on another configuration network")
	case r.Ingress:
		return fault.Forbidden("Ingress network can only be global scope network")
	case r.Scope == "swarm" || r.Scope == "global":
		return fault.Forbidden("cannot create a swarm scoped network when swarm is not active")
	}
	switch driver {
	case driverBridge, network.DriverMacvlan, network.DriverIPvlan:
		return nil
	case driverHost, driverNull:
		if r.ConfigOnly {
			return nil
		}
		return fault.Forbidden("only one instance of %q network is allowed", driver)
	case "overlay":
		return fault.Forbidden(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	}
	return fault.NotFound("plugin %q not found", driver)
}

// configFrom finds the configuration that a network is to be made of.
func (s *Service) configFrom(r mobynet.CreateRequest) (network.Record, error) {
	if r.IPAM != nil && len(r.IPAM.Config) > 0 || len(r.Labels) > 0 || r.EnableIPv6 != nil && *r.EnableIPv6 {
		return network.Record{}, fault.Forbidden("user specified configurations are not supported if the network depends on a configuration network")
	}
	if len(r.Options) > 0 {
		return network.Record{}, fault.Forbidden("network driver options are not supported if the network depends on a configuration network")
	}
	n := s.nets.byName(r.ConfigFrom.Network)
	if n == nil || !n.rec.ConfigOnly {
		return network.Record{}, fault.NotFound("configuration network %q does not exist", r.ConfigFrom.Network)
	}
	return n.rec, nil
}

// ipFamilies settles which families a network has: by field, else by option, else IPv4 only.
func ipFamilies(r mobynet.CreateRequest, rec *network.Record) error {
	for _, f := range []struct {
		asked *bool
		opt   string
		to    *bool
	}{{r.EnableIPv4, network.OptIPv4, &rec.EnableIPv4}, {r.EnableIPv6, network.OptIPv6, &rec.EnableIPv6}} {
		if f.asked != nil {
			*f.to = *f.asked
			delete(rec.Options, f.opt)
			continue
		}
		v, ok := rec.Options[f.opt]
		if !ok {
			continue
		}
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fault.Invalid("driver-opt %q is not a valid bool", f.opt)
		}
		*f.to = on
	}
	return nil
}

// checkOptions checks the driver's options and settles the interface.
func (s *Service) checkOptions(rec *network.Record) error {
	if rec.Driver != driverBridge {
		o, err := network.ParseParentOptions(rec.Driver, rec.Options)
		rec.Parent = o.Parent
		return err
	}
	o, err := network.ParseBridgeOptions(rec.Options)
	if err != nil {
		return err
	}
	if (o.Mode4 == network.ModeIsolated || o.Mode6 == network.ModeIsolated) && !rec.Internal {
		return fault.Internal("gateway mode 'isolated' can only be used for an internal network")
	}
	rec.Bridge = "br-" + rec.ID[:12]
	if o.Name != "" {
		rec.Bridge = o.Name
	}
	if len(rec.Bridge) > 15 || strings.ContainsAny(rec.Bridge, "/ \t\n:") {
		return fault.Invalid("invalid bridge name: %q", rec.Bridge)
	}
	for _, n := range s.nets.all() {
		if n.rec.Bridge == rec.Bridge {
			return fault.Forbidden("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name", rec.ID, rec.Bridge, n.rec.ID, n.rec.Bridge)
		}
	}
	return nil
}

// assign settles subnets and gateways: those asked for, and free ones for families that none was asked for.
func (s *Service) assign(rec *network.Record, want []mobynet.IPAMConfig) error {
	taken, bridges := s.nets.taken()
	seen := map[bool]bool{}
	for _, c := range want {
		v6 := c.Subnet.Addr().Is6()
		if c.Subnet.Addr().IsUnspecified() && c.Subnet.Bits() > 0 {
			p, err := s.choose(network.Sized(s.pools(), c.Subnet.Bits()), taken, bridges, v6)
			if err != nil {
				return err
			}
			c.Subnet = p
		}
		if (v6 && !rec.EnableIPv6) || (!v6 && !rec.EnableIPv4) {
			continue
		}
		if seen[v6] && rec.Driver == driverBridge {
			return fault.Forbidden("bridge driver doesn't support multiple subnets")
		}
		if v6 {
			if err := network.CheckIPv6Subnet(c.Subnet); err != nil {
				return fault.Invalid("%w", err)
			}
		}
		if network.Overlaps(c.Subnet, taken) {
			return fault.Forbidden("invalid pool request: Pool overlaps with other one on this address space")
		}
		taken, seen[v6] = append(taken, c.Subnet), true
		rec.IPAM.Config = append(rec.IPAM.Config, withGateway(rec, c))
	}
	for _, v6 := range []bool{false, true} {
		if seen[v6] || (v6 && !rec.EnableIPv6) || (!v6 && !rec.EnableIPv4) {
			continue
		}
		p, err := s.choose(s.pools(), taken, bridges, v6)
		if err != nil {
			return err
		}
		rec.IPAM.Config = append(rec.IPAM.Config, withGateway(rec, mobynet.IPAMConfig{Subnet: p}))
	}
	return nil
}

// choose finds a subnet that neither a network has nor the host, whose interfaces in bridges do not count.
func (s *Service) choose(pools []network.AddressPool, taken []netip.Prefix, bridges map[string]bool, v6 bool) (netip.Prefix, error) {
	host, err := s.links.Subnets(bridges)
	if err != nil {
		return netip.Prefix{}, err
	}
	return network.Choose(pools, slices.Concat(taken, host), v6)
}

// needsGateway says whether a network has a use for a gateway of a family.
func needsGateway(rec *network.Record, ipv6 bool) bool {
	if rec.Driver != driverBridge {
		return false // it is somebody else's: who wants a route there names it
	}
	o, _ := network.ParseBridgeOptions(rec.Options) // checked before
	return o.Mode(ipv6) != network.ModeIsolated && !(rec.Internal && o.InhibitIPv4 && !ipv6)
}

// withGateway gives a configuration its gateway: the first address that can be had.
func withGateway(rec *network.Record, c mobynet.IPAMConfig) mobynet.IPAMConfig {
	if c.Gateway.IsValid() || !needsGateway(rec, c.Subnet.Addr().Is6()) {
		return c
	}
	sub := network.NewSubnet(c.Subnet, c.IPRange)
	for _, a := range c.AuxAddress {
		_ = sub.Take(a) // an auxiliary address outside of what can be had is in nobody's way
	}
	if a, err := sub.Next(); err == nil {
		c.Gateway = a
	}
	return c
}

// pools are the address pools for networks that ask for no subnet. Where the configuration names none of IPv6, there is
// one out of fd00::/8 (RFC 4193) that is this engine's own: the ID of its first network, which stays, makes it.
func (s *Service) pools() []network.AddressPool {
	for _, p := range s.cfg.AddressPools {
		if p.Base.Addr().Is6() {
			return s.cfg.AddressPools
		}
	}
	n := s.nets.byName(mobynet.NetworkHost)
	if n == nil {
		return s.cfg.AddressPools
	}
	sum := sha256.Sum256([]byte(n.rec.ID))
	b := [16]byte{0: 0xfd}
	copy(b[1:6], sum[:])
	return append(slices.Clone(s.cfg.AddressPools), network.AddressPool{Base: netip.PrefixFrom(netip.AddrFrom16(b), 48), Size: 64})
}

// Remove removes a network that no live container is on.
func (s *Service) Remove(ctx context.Context, term string) error {
	n, err := s.nets.find(term, "")
	if err != nil {
		return err
	}
	if predefined(n.rec.Name) {
		return fault.Forbidden("%s is a pre-defined network and cannot be removed", n.rec.Name)
	}
	if err := s.remove(ctx, n); err != nil {
		return fmt.Errorf("error while removing network: %w", err)
	}
	return nil
}

func (s *Service) remove(ctx context.Context, n *netw) error {
	s.nets.changes.Lock()
	defer s.nets.changes.Unlock()
	for _, other := range s.nets.all() {
		if n.rec.ConfigOnly && other.rec.ConfigFrom.Network == n.rec.Name {
			return fault.Forbidden("configuration network %q is in use", n.rec.Name)
		}
	}
	if err := n.retire(); err != nil {
		return err
	}
	if err := s.lower(n); err != nil {
		n.unretire()
		return err
	}
	if err := s.deps.Store.Delete(ctx, bucketNetworks, n.rec.ID, state.Durable); err != nil {
		return err // the record is there still, and so the network is again after a restart
	}
	s.nets.remove(n.rec.ID)
	s.publish(ctx, events.ActionDestroy, n, nil)
	return nil
}

// retire keeps new endpoints away, unless there are some.
func (n *netw) retire() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.removed {
		return fault.NotFound("network %s not found", n.rec.Name)
	}
	if len(n.endpoints) > 0 {
		var list []string
		for _, e := range n.endpoints {
			list = append(list, fmt.Sprintf("name:%q id:%q", e.container, e.ID[:12]))
		}
		return fault.Forbidden("network %s has active endpoints (%s)", n.rec.Name, strings.Join(list, ", "))
	}
	n.removed = true
	return nil
}

func (n *netw) unretire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removed = false
}
