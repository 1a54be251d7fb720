package network

import (
	"reflect"
	"strings"
	"testing"
)

func TestBridgeOptions(t *testing.T) {
	got, err := ParseBridgeOptions(map[string]string{
		OptName: "br9", OptICC: "false", OptMasquerade: "0", OptMTU: "1400", OptMode4: "routed", OptTrusted: "eth0:eth1:", OptHostIPv4: "192.0.2.1",
		OptBindIP: "127.0.0.1", OptInhibit4: "true", OptPrefix: "net", "unknown": "kept",
	})
	want := BridgeOptions{
		Name: "br9", MTU: 1400, Mode4: ModeRouted, Mode6: ModeNAT, Trusted: []string{"eth0", "eth1"}, HostIPv4: addr("192.0.2.1"), BindIP: addr("127.0.0.1"),
		InhibitIPv4: true, Prefix: "net",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for label, value := range map[string]string{
		OptICC: "maybe", OptMasquerade: "x", OptMTU: "big", OptMode4: "bridged", OptMode6: "", OptBindIP: "here", OptHostIPv6: "x", OptInhibit4: "2", OptPrefix: "a/b",
	} {
		if _, err := ParseBridgeOptions(map[string]string{label: value}); err == nil || !strings.HasPrefix(err.Error(), "failed to parse "+label+" value: "+value+" (") {
			t.Errorf("%s=%s: %v", label, value, err)
		}
	}
	if _, err := ParseBridgeOptions(map[string]string{OptMTU: "70000"}); err == nil || err.Error() != "invalid MTU number: 70000" {
		t.Error(err)
	}
}

func TestParentOptions(t *testing.T) {
	for _, c := range []struct {
		driver, parent, mode, flag, want string
	}{
		{"macvlan", "eth0", "", "", ""},
		{"macvlan", "eth0", "passthru", "", ""},
		{"macvlan", "lo", "", "", "loopback interface is not a valid macvlan parent link"},
		{"macvlan", "", "l2", "", "requested macvlan mode 'l2' is not valid, 'bridge' mode is the macvlan driver default"},
		{"ipvlan", "eth0", "l3s", "vepa", ""},
		{"ipvlan", "eth0", "bridge", "", "requested ipvlan mode 'bridge' is not valid, 'l2' mode is the ipvlan driver default"},
		{"ipvlan", "eth0", "", "x", "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default flag"},
	} {
		m := map[string]string{"parent": c.parent}
		if c.mode != "" {
			m[c.driver+"_mode"] = c.mode
		}
		if c.flag != "" {
			m["ipvlan_flag"] = c.flag
		}
		if _, err := ParseParentOptions(c.driver, m); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for name, want := range map[string]string{
		"eth0.10": "", "eth0": "example formatting is eth0.10", "a.b.c": "required interface name format", "eth0.x": "unable to parse a valid vlan id from: x",
		"eth0.4095": "vlan id must be between 1-4094, received: 4095",
	} {
		if _, _, err := VLAN(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndpointOptions(t *testing.T) {
	o, err := ParseEndpointOptions(map[string]string{OptEndpointName: "wan0", OptEndpointSysctls: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2"})
	if err != nil || o.Interface != "wan0" || len(o.Sysctls) != 2 || o.Sysctls[0].For("wan0") != "net/ipv4/conf/wan0/log_martians" || o.Sysctls[1].Value != "2" {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range []string{"net.ipv4.conf.eth0.log_martians=1", "kernel.panic=1", "net.ipv4.conf.IFNAME.x", "net.ipv4.conf.IFNAME./../x=1"} {
		if _, err := ParseEndpointOptions(map[string]string{OptEndpointSysctls: bad}); err == nil || !strings.Contains(err.Error(), "unrecognised network interface sysctl") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, bad := range []string{"lo", "a/b", "sixteen-letters-x", "%d"} {
		if _, err := ParseEndpointOptions(map[string]string{OptEndpointName: bad}); err == nil {
			t.Errorf("%q is taken for an interface's name", bad)
		}
	}
}

func FuzzEndpointOptions(f *testing.F) {
	f.Add("net.ipv4.conf.IFNAME.log_martians=1", "eth0")
	f.Fuzz(func(t *testing.T, sysctls, name string) {
		o, err := ParseEndpointOptions(map[string]string{OptEndpointSysctls: sysctls, OptEndpointName: name})
		if err != nil {
			return
		}
		for _, s := range o.Sysctls {
			if path := s.For("eth0"); strings.Contains(path, "..") || !strings.HasPrefix(path, "net/") || strings.Count(path, "/") != 4 {
				t.Errorf("%q", path)
			}
		}
	})
}
