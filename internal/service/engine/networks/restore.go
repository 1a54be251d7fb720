package networks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/firewall"
	"longshore/internal/core/network"
	"longshore/internal/core/state"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/resolver"
	"longshore/internal/service/engine/networks/spaces"
)

// Restore brings records and kernel together at start: it makes the networks that are missing, adopts the sandboxes of
// containers that run, and sweeps whatever else a dead daemon left. Ports of adopted containers work throughout.
func (s *Service) Restore(ctx context.Context, running []string) error {
	if err := os.MkdirAll(s.netnsDir(), 0o755); err != nil {
		return fmt.Errorf("networks: %w", err)
	}
	records, err := s.loadNetworks(ctx)
	if err != nil {
		return err
	}
	boxes, err := s.loadSandboxes(ctx, running)
	if err != nil {
		return err
	}
	if err := s.defaults(ctx, records); err != nil {
		return err
	}
	for _, rec := range records {
		if !predefined(rec.Name) {
			n := newNetw(rec)
			s.nets.add(n)
			s.wantNames(n)
		}
	}
	for _, rec := range boxes {
		s.adopt(rec)
	}
	// The firewall first, and whole, so that nothing that works stops working; then the bridges.
	if err := s.resetFirewall(boxes); err != nil {
		return err
	}
	for _, n := range s.nets.all() {
		if err := s.raise(n); err != nil {
			if predefined(n.rec.Name) {
				return err
			}
			s.deps.Log.Error("a network is out of order", "network", n.rec.Name, "error", err)
		}
	}
	if n := s.nets.byName(mobynet.NetworkBridge); n != nil {
		s.pool.Use(n.index)
	}
	if err := s.sweep(); err != nil {
		return err
	}
	var known []resolver.Sandbox
	var proxied []network.Proxied
	for _, box := range s.boxes.all() {
		proxied = append(proxied, s.proxyPorts(box.rec.Published)...)
		if r, ok := s.resolverSandbox(box); ok {
			box.named = true
			known = append(known, r)
		}
	}
	if err := s.names.Restore(ctx, known, proxied); err != nil {
		return err
	}
	close(s.restored)
	return nil
}

func (s *Service) loadNetworks(ctx context.Context) ([]network.Record, error) {
	var out []network.Record
	err := s.deps.Store.Each(ctx, bucketNetworks, func(key string, doc []byte) error {
		var rec network.Record
		if err := json.Unmarshal(doc, &rec); err != nil || rec.ID != key {
			s.deps.Log.Error("network record cannot be read: make the network anew", "network", key, "error", err)
			return nil
		}
		out = append(out, rec)
		return nil
	})
	return out, err
}

// loadSandboxes reads the records of sandboxes that can be adopted and deletes the others'.
func (s *Service) loadSandboxes(ctx context.Context, running []string) ([]network.SandboxRecord, error) {
	var out []network.SandboxRecord
	var stale []string
	err := s.deps.Store.Each(ctx, bucketSandboxes, func(key string, doc []byte) error {
		var rec network.SandboxRecord
		err := json.Unmarshal(doc, &rec)
		if err != nil && slices.Contains(running, key) {
			s.deps.Log.Error("record of a running container's network cannot be read: it has none until it is restarted", "container", key, "error", err)
		}
		bad := err != nil || !slices.Contains(running, key)
		if bad || (rec.NetNS != "" && !netns.IsMounted(rec.NetNS)) {
			stale = append(stale, key)
			return nil
		}
		out = append(out, rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range stale {
		if err := s.deps.Store.Delete(ctx, bucketSandboxes, key, state.Volatile); err != nil {
			s.deps.Log.Warn("a sandbox' record stays until the next start", "container", key, "error", err)
		}
	}
	return out, nil
}

// defaults makes the three networks that every engine has. IDs and creation times outlive restarts.
func (s *Service) defaults(ctx context.Context, records []network.Record) error {
	old := map[string]network.Record{}
	for _, rec := range records {
		if predefined(rec.Name) {
			old[rec.Name] = rec
		}
	}
	for _, d := range []struct{ name, driver string }{{mobynet.NetworkHost, driverHost}, {mobynet.NetworkNone, driverNull}} {
		rec, ok := old[d.name]
		if !ok {
			rec = s.builtin(d.name, d.driver)
			if err := s.save(ctx, rec); err != nil {
				return err
			}
		}
		s.nets.add(newNetw(rec))
	}
	if s.cfg.Bridge == noBridge {
		return nil
	}
	was, had := old[mobynet.NetworkBridge]
	rec, err := s.defaultBridge(was, had, records)
	if err != nil {
		return err
	}
	s.nets.add(newNetw(rec))
	if had && reflect.DeepEqual(was, rec) {
		return nil // also where a full disk would not take it
	}
	return s.save(ctx, rec)
}

func (s *Service) builtin(name, driver string) network.Record {
	return network.Record{Network: mobynet.Network{
		Name: name, ID: spaces.RandomID(), Created: s.deps.Now(), Scope: "local", Driver: driver, EnableIPv4: true,
		IPAM: mobynet.IPAM{Driver: "default", Config: []mobynet.IPAMConfig{}}, Options: map[string]string{}, Labels: map[string]string{},
	}}
}

func (s *Service) resetFirewall(boxes []network.SandboxRecord) error {
	var nets []firewall.Network
	for _, n := range s.nets.all() {
		if n.rec.Bridge != "" {
			nets = append(nets, n.firewall())
		}
	}
	var ports []firewall.Port
	for _, b := range boxes {
		ports = append(ports, s.firewallPorts(b.Published)...)
	}
	return s.firewall.Reset(nets, ports)
}

// adopt takes a live sandbox over from its record.
func (s *Service) adopt(rec network.SandboxRecord) {
	box := &sandbox{rec: rec}
	for _, e := range rec.Endpoints {
		n := s.nets.get(e.NetworkID)
		if n == nil {
			continue
		}
		n.mu.Lock()
		for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
			if sub := n.subnet(p.Addr()); p.IsValid() && sub != nil {
				_ = sub.Take(p.Addr()) // it is in use whatever the table says
			}
		}
		n.endpoints[rec.Request.ContainerID] = &endpoint{EndpointRecord: e, container: rec.Request.Name, request: &box.rec.Request}
		n.mu.Unlock()
	}
	for _, group := range groupPublished(rec.Published) {
		box.leases = append(box.leases, s.ports.Adopt(s.want(group), group[0].HostPort))
	}
	s.boxes.add(rec.Request.ContainerID, box)
}

// sweep removes the namespaces that no adopted sandbox has.
func (s *Service) sweep() error {
	keep := map[string]bool{}
	for _, box := range s.boxes.all() {
		keep[box.rec.NetNS] = true
	}
	paths, err := netns.List(s.netnsDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range paths {
		if !keep[p] {
			errs = append(errs, netns.Remove(p))
		}
	}
	return errors.Join(errs...)
}
