package registryboot

import (
	"net/netip"
	"testing"
)

func TestNeighbourAt(t *testing.T) {
	for _, c := range []struct {
		listens string
		yes, no []string
	}{
		{"127.0.0.1:5000", []string{"localhost:5000", "127.0.0.1:5000"}, []string{"localhost:5001", "localhost", "127.0.0.2:5000", "registry.example.com:5000", "", ":5000"}},
		{"[::]:5000", []string{"localhost:5000", "127.0.0.1:5000", "[::1]:5000"}, []string{"192.0.2.1:5000", "::1:5000"}},
		{"192.0.2.1:443", []string{"192.0.2.1:443"}, []string{"localhost:443", "192.0.2.1"}},
	} {
		n := &Neighbour{addr: netip.MustParseAddrPort(c.listens)}
		for _, host := range c.yes {
			if !n.At(host) {
				t.Errorf("%q is not where %s listens", host, c.listens)
			}
		}
		for _, host := range c.no {
			if n.At(host) {
				t.Errorf("%q is where %s listens", host, c.listens)
			}
		}
	}
	if (&Neighbour{}).At("localhost:5000") {
		t.Error("a registry without an address is nowhere")
	}
}
