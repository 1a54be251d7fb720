package networks

import (
	"context"
	"strings"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
)

func TestOpenOnDefaultBridge(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	box, err := s.Open(ctx, network.Request{ContainerID: strings.Repeat("a", 64), Name: "web", Hostname: "aaaaaaaaaaaa", Mode: "default"})
	if err != nil {
		t.Fatal(err)
	}
	e := box.Endpoints["bridge"]
	if e == nil || e.IPAddress.String() != "172.17.0.2" || e.Gateway.String() != "172.17.0.1" || e.MacAddress.String() != "02:42:ac:11:00:02" {
		t.Fatalf("endpoint: %+v", e)
	}
	if out := sh(t, box.NetNS, "ip -4 addr show dev eth0; ip route; cat /proc/net/arp >/dev/null; busybox ping -c1 -W2 172.17.0.1"); !strings.Contains(out, "172.17.0.2/16") || !strings.Contains(out, "default via 172.17.0.1") {
		t.Fatal(out)
	}
	if !strings.Contains(string(box.Hosts), "172.17.0.2\taaaaaaaaaaaa\n") || !strings.Contains(string(box.Resolv), "nameserver 8.8.8.8") {
		t.Fatalf("files:\n%s\n%s", box.Hosts, box.Resolv)
	}
	if err := s.Close(ctx, strings.Repeat("a", 64)); err != nil {
		t.Fatal(err)
	}
	_ = mobynet.NetworkBridge
	eventually(t, "interfaces go", func() bool { return !strings.Contains(sh(t, "", "ip -o link"), "veth") })
}
