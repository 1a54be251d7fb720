package networks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
	"longshore/internal/core/state"
	"longshore/internal/driver/hostport"
	"longshore/internal/driver/netns"
	"longshore/internal/service/engine/networks/hostfiles"
	"longshore/internal/service/engine/networks/spaces"
)

// sandbox is a live container's networking.
type sandbox struct {
	mu     sync.Mutex // guards all below; held through Open, Close, Connect and Disconnect
	rec    network.SandboxRecord
	leases []*hostport.Lease
	named  bool // the resolver knows it
	closed bool
}

// Open implements network.Sandboxes. It leaves nothing behind when it fails.
func (s *Service) Open(ctx context.Context, r network.Request) (network.Sandbox, error) {
	places, err := s.places(r)
	if err != nil {
		return network.Sandbox{}, err
	}
	box := &sandbox{rec: network.SandboxRecord{Request: r, Mode: driverBridge}}
	switch {
	case len(places) > 0 && !places[0].net.private():
		box.rec.Mode = places[0].net.rec.Driver
	case len(places) == 0 && r.Mode == mobynet.NetworkNone:
		box.rec.Mode = driverNull
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	if !s.boxes.add(r.ContainerID, box) {
		return network.Sandbox{}, fault.Forbidden("container %s is already present in sandbox", r.ContainerID)
	}
	if err := s.open(ctx, box, places); err != nil {
		s.teardown(context.WithoutCancel(ctx), box)
		return network.Sandbox{}, err
	}
	return s.describe(box)
}

func (s *Service) open(ctx context.Context, box *sandbox, places []place) error {
	if box.rec.Mode == driverHost {
		box.rec.ID = spaces.RandomID()
		s.join(ctx, box, places[0].net, network.EndpointRecord{ID: spaces.RandomID(), Settings: places[0].settings})
		return s.saveSandbox(ctx, box)
	}
	kind := spaces.Bare
	if len(places) > 0 {
		kind = kindFor(places[0])
	}
	sl, err := s.pool.Take(kind, box.rec.Request.UserNS)
	if err != nil {
		return err
	}
	defer sl.Space.Close()
	box.rec.ID, box.rec.NetNS = sl.ID, sl.Space.Path
	box.rec.DNSUDP, box.rec.DNSTCP = sl.DNS.UDP, sl.DNS.TCP
	if box.rec.Mode == driverNull {
		for _, p := range places {
			s.join(ctx, box, p.net, network.EndpointRecord{ID: spaces.RandomID(), Settings: p.settings})
		}
		return s.saveSandbox(ctx, box)
	}
	for i, p := range places {
		ready := spaces.Slot{}
		if i == 0 {
			ready = *sl
		}
		if err := s.attach(ctx, box, sl.Space, p, ready); err != nil {
			return err
		}
	}
	if err := s.route(box, sl.Space); err != nil {
		return err
	}
	if err := s.publishPorts(ctx, box, s.targets(box)); err != nil {
		return err
	}
	if err := s.tellNames(ctx, box, sl.Space); err != nil {
		return err
	}
	return s.saveSandbox(ctx, box)
}

// kindFor is the kind of prepared namespace that suits a sandbox' first network.
func kindFor(p place) spaces.Kind {
	named := p.settings != nil && p.settings.DriverOpts[network.OptEndpointName] != ""
	switch {
	case p.net.rec.Driver != driverBridge || named || p.net.opts.Prefix != "":
		return spaces.Bare
	case p.net.rec.Name == mobynet.NetworkBridge:
		return spaces.Plugged
	}
	return spaces.Wired
}

// saveSandbox keeps what a next daemon needs to adopt the sandbox.
func (s *Service) saveSandbox(ctx context.Context, box *sandbox) error {
	doc, err := json.Marshal(box.rec)
	if err == nil {
		err = s.deps.Store.Put(ctx, bucketSandboxes, box.rec.Request.ContainerID, doc, state.Volatile)
	}
	if err != nil {
		return fmt.Errorf("save sandbox of container %s: %w", box.rec.Request.ContainerID, err)
	}
	return nil
}

// Close implements network.Sandboxes: names, ports and addresses are free when it returns.
func (s *Service) Close(ctx context.Context, containerID string) error {
	box := s.boxes.get(containerID)
	if box == nil {
		return nil
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	if box.closed {
		return nil
	}
	s.teardown(context.WithoutCancel(ctx), box)
	return nil
}

// teardown undoes what there is of a sandbox. What fails is logged and left to the next Restore, since the container
// is gone either way. The caller holds box.mu.
func (s *Service) teardown(ctx context.Context, box *sandbox) {
	id := box.rec.Request.ContainerID
	box.closed = true
	if err := s.forgetNames(ctx, box); err != nil {
		s.deps.Log.Warn("a container's DNS names stay until the next start", "container", id, "error", err)
	}
	s.releasePorts(ctx, box)
	s.dropShares(box)
	for len(box.rec.Endpoints) > 0 {
		s.leave(ctx, box, len(box.rec.Endpoints)-1)
	}
	if err := s.deps.Store.Delete(ctx, bucketSandboxes, id, state.Volatile); err != nil {
		s.deps.Log.Warn("a sandbox' record stays until the next start", "container", id, "error", err)
	}
	s.boxes.remove(id)
	if box.rec.NetNS != "" {
		s.discard(box.rec.NetNS)
	}
}

// dropShares removes the interfaces that share a parent, whose addresses the next container may have: the kernel takes
// its time with those of a namespace that ends.
func (s *Service) dropShares(box *sandbox) {
	var names []string
	for _, e := range box.rec.Endpoints {
		if n := s.nets.get(e.NetworkID); n != nil && n.onParent() {
			names = append(names, e.Interface)
		}
	}
	if len(names) == 0 {
		return
	}
	space, err := netns.Open(box.rec.NetNS)
	if err != nil {
		return // it is gone, and they with it
	}
	defer space.Close()
	for _, name := range names {
		if err := s.links.Drop(spaces.Inside(space), name); err != nil {
			s.deps.Log.Warn("an interface stays until its namespace is gone", "interface", name, "error", err)
		}
	}
}

// Validate implements network.Sandboxes. Networks that do not exist are no error: as with docker, a container may be
// created before its network; Open tells.
func (s *Service) Validate(_ context.Context, r network.Request) error {
	if _, err := network.Publications(r); err != nil {
		return err
	}
	if _, err := s.host().Extra(r.ExtraHosts, s.hostGateways); err != nil {
		return err
	}
	for name, e := range r.Endpoints {
		n, err := s.nets.find(name, "")
		if err != nil {
			continue
		}
		if err := checkEndpoint(n, e); err != nil {
			return err
		}
	}
	return nil
}

func checkEndpoint(n *netw, e *mobynet.EndpointSettings) error {
	if e == nil {
		return nil
	}
	if !n.userDefined() {
		if e.IPAMConfig != nil && (e.IPAMConfig.IPv4Address.IsValid() || e.IPAMConfig.IPv6Address.IsValid()) {
			return fault.Invalid("invalid endpoint settings:\nuser specified IP address is supported on user defined networks only")
		}
		if len(e.Aliases) > 0 {
			return fault.Invalid("invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks")
		}
	}
	if _, err := network.ParseEndpointOptions(e.DriverOpts); err != nil {
		return fault.Invalid("invalid endpoint settings:\n%w", err)
	}
	return network.CheckEndpoint(e, n.rec.IPAM)
}

// Connect implements network.Sandboxes.
func (s *Service) Connect(ctx context.Context, containerID, net string, e *mobynet.EndpointSettings) (network.Sandbox, error) {
	n, err := s.nets.find(net, "")
	if err != nil {
		return network.Sandbox{}, err
	}
	box, err := s.lock(containerID)
	if err != nil {
		return network.Sandbox{}, err
	}
	defer box.mu.Unlock()
	if err := mayConnect(box, n); err != nil {
		return network.Sandbox{}, err
	}
	if err := checkEndpoint(n, e); err != nil {
		return network.Sandbox{}, err
	}
	space, err := netns.Open(box.rec.NetNS)
	if err != nil {
		return network.Sandbox{}, err
	}
	defer space.Close()
	undo := context.WithoutCancel(ctx)
	if err := s.attach(ctx, box, space, place{net: n, settings: e}, spaces.Slot{}); err != nil {
		return network.Sandbox{}, err
	}
	if err := s.refresh(ctx, box, space); err != nil {
		s.detach(undo, box, space, len(box.rec.Endpoints)-1)
		return network.Sandbox{}, errors.Join(err, s.refresh(undo, box, space))
	}
	return s.describe(box)
}

// refresh brings routes, published ports, names and record in line after a sandbox' endpoints changed.
func (s *Service) refresh(ctx context.Context, box *sandbox, space *netns.Space) error {
	if err := s.route(box, space); err != nil {
		return err
	}
	return s.settle(ctx, box, space)
}

// settle is refresh without the routes.
func (s *Service) settle(ctx context.Context, box *sandbox, space *netns.Space) error {
	if to := s.targets(box); to.moved(box.rec.Published) {
		s.releasePorts(ctx, box)
		if err := s.publishPorts(ctx, box, to); err != nil {
			return err
		}
	}
	if err := s.tellNames(ctx, box, space); err != nil {
		return err
	}
	return s.saveSandbox(ctx, box)
}

func mayConnect(box *sandbox, n *netw) error {
	switch {
	case n.rec.Driver == driverHost:
		return fault.Invalid("cannot connect container to host network - container must be created in host network mode")
	case box.rec.Mode == driverHost:
		return fault.Invalid("container sharing network namespace with another container or host cannot be connected to any other network")
	case n.rec.Driver == driverNull || box.rec.Mode == driverNull:
		return fault.Invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	case box.find(n.rec.ID) >= 0:
		return fault.Forbidden("endpoint with name %s already exists in network %s", box.rec.Request.Name, n.rec.Name)
	}
	return nil
}

// Name is the name of the network that a name, an ID or the beginning of one means.
func (s *Service) Name(term string) (string, error) {
	n, err := s.nets.find(term, "")
	if err != nil {
		return "", err
	}
	return n.rec.Name, nil
}

// Disconnect implements network.Sandboxes.
func (s *Service) Disconnect(ctx context.Context, containerID, net string, _ bool) (network.Sandbox, error) {
	n, err := s.nets.find(net, "")
	if err != nil {
		return network.Sandbox{}, err
	}
	box, err := s.lock(containerID)
	if err != nil {
		return network.Sandbox{}, err
	}
	defer box.mu.Unlock()
	i := box.find(n.rec.ID)
	switch {
	case box.rec.Mode == driverHost && n.rec.Driver == driverHost:
		return network.Sandbox{}, fault.Invalid("cannot disconnect container from host network - container was created in host network mode")
	case i < 0:
		return network.Sandbox{}, fault.Internal("container %s is not connected to network %s", containerID, n.rec.Name)
	}
	if box.rec.Mode == driverNull {
		s.detach(ctx, box, nil, i)
		return s.describe(box)
	}
	space, err := netns.Open(box.rec.NetNS)
	if err != nil {
		return network.Sandbox{}, err
	}
	defer space.Close()
	s.detach(ctx, box, space, i)
	if err := s.route(box, space); err != nil { // what the container did to its interfaces keeps it on no network
		s.deps.Log.Warn("a container has lost its default route", "container", containerID, "error", err)
	}
	if err := s.settle(ctx, box, space); err != nil {
		return network.Sandbox{}, err
	}
	return s.describe(box)
}

// lock finds a live sandbox and locks it.
func (s *Service) lock(containerID string) (*sandbox, error) {
	box := s.boxes.get(containerID)
	if box == nil {
		return nil, fault.NotFound("network sandbox for container %s not found", containerID)
	}
	box.mu.Lock()
	if box.closed {
		box.mu.Unlock()
		return nil, fault.NotFound("network sandbox for container %s not found", containerID)
	}
	return box, nil
}

// Rename implements network.Sandboxes.
func (s *Service) Rename(ctx context.Context, containerID, name string, links []string) (network.Sandbox, error) {
	box, err := s.lock(containerID)
	if err != nil {
		return network.Sandbox{}, nil //nolint:nilerr // a stopped container has no names
	}
	defer box.mu.Unlock()
	old := box.rec.Request.Name
	box.rec.Request.Name, box.rec.Request.Links = name, links
	for i := range box.rec.Endpoints {
		e := &box.rec.Endpoints[i]
		n := s.nets.get(e.NetworkID)
		if n == nil {
			continue
		}
		e.Settings = e.Settings.Copy()
		if n.userDefined() {
			e.Settings.DNSNames = dnsNames(box.rec.Request, e.Settings.Aliases)
		}
		n.register(&box.rec.Request, *e)
		s.relink(n)
	}
	if err := s.saveSandbox(ctx, box); err != nil {
		return network.Sandbox{}, err
	}
	if known, ok := s.resolverSandbox(box); ok {
		if _, err := s.names.Put(ctx, known); err != nil {
			return network.Sandbox{}, fmt.Errorf("rename container %s to %s: %w", old, name, err)
		}
	}
	return s.describe(box)
}

// describe is the sandbox as its container must know it. The caller holds box.mu.
func (s *Service) describe(box *sandbox) (network.Sandbox, error) {
	out := network.Sandbox{
		NetNS: box.rec.NetNS, SandboxID: box.rec.ID, SandboxKey: box.rec.NetNS,
		Endpoints: map[string]*mobynet.EndpointSettings{}, Ports: mobynet.PortMap{},
	}
	if s.cfg.Enter != nil && box.rec.NetNS != "" && box.rec.Request.UserNS != network.UserNSHost {
		out.UserNS = netns.UserPath(box.rec.NetNS)
	}
	for _, e := range box.rec.Endpoints {
		if n := s.nets.get(e.NetworkID); n != nil {
			out.Endpoints[n.rec.Name] = e.Settings.Copy()
		}
	}
	if box.rec.Mode == driverHost {
		return s.describeHost(box, out)
	}
	if box.rec.Mode == driverBridge {
		out.Ports = portMap(box.rec.Request, box.rec.Published)
	}
	var err error
	if out.Hosts, err = s.hostsFile(box); err != nil {
		return out, err
	}
	out.Resolv = s.resolv(box).File()
	return out, nil
}

// hostKey is what docker shows as the sandbox of containers in the host's network.
const hostKey = "/var/run/docker/netns/default"

// describeHost is for host mode, where the container has the host's own files.
func (s *Service) describeHost(box *sandbox, out network.Sandbox) (network.Sandbox, error) {
	out.SandboxKey = hostKey
	extra, err := s.host().Extra(box.rec.Request.ExtraHosts, s.hostGateways)
	if err != nil {
		return out, err
	}
	hosts, err := os.ReadFile(s.cfg.Hosts)
	if err != nil {
		hosts = network.HostsFile(nil, true)
	}
	out.Hosts = hostfiles.Append(hosts, extra)
	resolv, own := s.host().ResolvFor(box.rec.Request)
	out.Resolv = resolv.File()
	if !own {
		if b, err := os.ReadFile(s.cfg.ResolvConf); err == nil {
			out.Resolv = b
		}
	}
	return out, nil
}

// find is the index of a sandbox' endpoint on a network, -1 without.
func (b *sandbox) find(networkID string) int {
	for i, e := range b.rec.Endpoints {
		if e.NetworkID == networkID {
			return i
		}
	}
	return -1
}
