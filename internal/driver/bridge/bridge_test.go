package bridge

import (
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// driver is a Driver for a network namespace that ends with the test. The thread is not given back.
func driver(t *testing.T) *Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network interfaces")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	d, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestEnsure(t *testing.T) {
	d := driver(t)
	cfg := Config{Name: "lsbr0", MTU: 1400, Alias: "ours", IPv4: netip.MustParsePrefix("10.1.0.1/16"), IPv6: netip.MustParsePrefix("fd00:1::1/64")}
	first, err := d.Ensure(cfg)
	if err != nil {
		t.Fatal(err)
	}
	old := cfg.IPv4.Masked()
	cfg.MTU, cfg.IPv4 = 1300, netip.MustParsePrefix("10.2.0.1/16")
	again, err := d.Ensure(cfg) // a restart
	if err != nil || again != first {
		t.Errorf("%d, then %d, %v", first, again, err)
	}
	link, err := d.nl.LinkByName(cfg.Name)
	if err != nil || link.Attrs().MTU != 1300 || link.Attrs().HardwareAddr.String() != "02:42:0a:01:00:01" {
		t.Errorf("%+v %v", link.Attrs(), err)
	}
	if alias, there := d.Owner(cfg.Name); alias != "ours" || !there {
		t.Error(alias, there)
	}
	if a, err := d.Address(cfg.Name, false); err != nil || a != cfg.IPv4 {
		t.Error(a, err)
	}
	subnets, err := d.Subnets(nil)
	if err != nil || !slices.Contains(subnets, cfg.IPv4.Masked()) || !slices.Contains(subnets, cfg.IPv6.Masked()) {
		t.Error(subnets, err)
	}
	if slices.Contains(subnets, old) {
		t.Error("the old address stays", subnets)
	}
	if subnets, err := d.Subnets(map[string]bool{cfg.Name: true}); err != nil || slices.Contains(subnets, cfg.IPv4.Masked()) {
		t.Error(subnets, err)
	}
	if _, err := d.Ensure(Config{Name: "lo"}); err == nil {
		t.Error("the loopback interface was taken for a bridge")
	}
	for range 2 {
		if err := d.Delete(cfg.Name); err != nil {
			t.Error(err)
		}
	}
	if d.Exists(cfg.Name) {
		t.Error("the bridge stays")
	}
}

func TestMAC(t *testing.T) {
	for in, want := range map[string]string{"172.17.0.2": "02:42:ac:11:00:02", "fd00::a:b": "02:42:00:0a:00:0b"} {
		if got := MAC(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
