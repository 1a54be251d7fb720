package networks

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
	"longshore/internal/driver/bridge"
	"longshore/internal/driver/netns"
	"longshore/internal/service/engine/networks/spaces"
)

// A network of 1,000 containers: every one has an address, names and a published port, and, when LONGSHORE_THOUSAND is
// set, an interface (the kernel's time for those grows with the bridge, since it tells all ports of each new one). The log
// tells what the first and the last hundred cost.
func TestThousandEndpoints(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	w.create(s, mobynet.CreateRequest{Name: "big", IPAM: subnet("10.90.0.0/20")})
	n := s.nets.byName("big")
	space, err := netns.Create(s.netnsDir()+"/thousand", bridge.Prepare)
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	const count, sample = 1000, 100
	var first, last time.Duration
	seen := map[netip.Addr]bool{}
	var boxes []*sandbox
	for i := range count {
		begin := time.Now()
		r := network.Request{ContainerID: containerID(fmt.Sprint("t", i)), Name: fmt.Sprint("c", i), Mode: "big"}
		r.Bindings = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): bind("127.0.0.1", fmt.Sprint(20000+i))}
		box := &sandbox{rec: network.SandboxRecord{Request: r, Mode: driverBridge}}
		_, plugged := os.LookupEnv("LONGSHORE_THOUSAND")
		p := place{net: n, settings: &mobynet.EndpointSettings{
			Aliases: []string{"all"}, DriverOpts: map[string]string{network.OptEndpointName: fmt.Sprint("e", i)},
		}}
		if plugged || i < 10 {
			err = s.attach(ctx, box, space, p, spaces.Slot{})
		} else {
			e := network.EndpointRecord{ID: spaces.RandomID(), NetworkID: n.rec.ID, Settings: settingsOf(p.settings)}
			e.Settings.DNSNames = dnsNames(r, p.settings.Aliases)
			if err = n.reserve(&box.rec.Request, &e, true); err == nil {
				s.join(ctx, box, n, e)
			}
		}
		if err != nil {
			t.Fatal(i, err)
		}
		if err := s.publishPorts(ctx, box, s.targets(box)); err != nil {
			t.Fatal(i, err)
		}
		known, _ := s.resolverSandbox(box)
		if _, err := s.names.Put(ctx, known); err != nil {
			t.Fatal(i, err)
		}
		seen[box.rec.Endpoints[0].IPv4.Addr()] = true
		boxes = append(boxes, box)
		switch took := time.Since(begin); {
		case i < sample:
			first += took
		case i >= count-sample:
			last += took
		}
	}
	t.Logf("an endpoint costs %v at the beginning, %v at the end", first/sample, last/sample)
	if len(seen) != count {
		t.Errorf("%d addresses", len(seen))
	}
	v, err := s.Inspect(ctx, "big", "")
	if err != nil || len(v.Containers) != count {
		t.Errorf("%d containers %v", len(v.Containers), err)
	}
	begin := time.Now()
	for _, box := range boxes {
		id := box.rec.Request.ContainerID
		if err := s.names.Delete(ctx, id); err != nil {
			t.Error(err)
		}
		s.releasePorts(ctx, box)
		s.leave(ctx, box, 0)
	}
	t.Logf("and %v to end", time.Since(begin)/count)
	if n.subnet(netip.MustParseAddr("10.90.0.1")) == nil || len(n.endpoints) != 0 {
		t.Errorf("%d endpoints stay", len(n.endpoints))
	}
}
