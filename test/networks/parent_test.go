package networks

import (
	"strings"
	"testing"

	"longshore/test/harness"
)

func TestMacvlan(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	h := other(t, d)
	if !has(t, d, "link", "wan0", "type", "macvlan") {
		t.Skip("the kernel has no macvlan")
	}
	create := func(name string, args ...string) {
		d.OK(append(append([]string{"network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "--gateway", there, "--ip-range", "192.0.2.64/26", "--aux-address", "us=" + here}, args...), name)...)
	}
	t.Run("bridge", func(t *testing.T) {
		create("mv", "-o", "parent=wan0")
		web(d, "aa", "--network", "mv", "--ip", "192.0.2.70", "-p", "8080:80")
		web(d, "bb", "--network", "mv", "--network-alias", "bee")
		reaches(t, h.ns, "192.0.2.70", "aa")
		if out := d.OK("exec", "aa", "wget", "-qO-", "http://bee/i"); out != "bb" {
			t.Errorf("bee says %q", out)
		}
		if out := d.OK("exec", "aa", "ip", "route"); !strings.Contains(out, "default via "+there+" dev eth0") {
			t.Errorf("routes:\n%s", out)
		}
		if ports := inspect(d, "aa", "{{json .NetworkSettings.Ports}}"); strings.Contains(ports, "8080") {
			t.Errorf("macvlan has no published ports: %s", ports)
		}
		d.Kill()
		reaches(t, h.ns, "192.0.2.70", "aa")
		d.Up()
		reaches(t, h.ns, "192.0.2.70", "aa")
		d.Fails("Address already in use", "run", "--rm", "--network", "mv", "--ip", "192.0.2.70", "busybox", "true")
		d.OK("run", "-d", "--name", "cc", "busybox", "sleep", "1000")
		d.OK("network", "connect", "--ip", "192.0.2.71", "mv", "cc")
		if _, err := h.run("busybox", "ping", "-c1", "-W5", "192.0.2.71"); err != nil {
			t.Error("a container that was connected is not there")
		}
		d.OK("network", "disconnect", "mv", "cc")
		if out := d.OK("exec", "cc", "ip", "-o", "link"); strings.Contains(out, "eth1") {
			t.Errorf("the interface stays:\n%s", out)
		}
		d.Fails("cannot use mode passthru, macvlan network", "network", "create", "-d", "macvlan", "-o", "parent=wan0", "-o", "macvlan_mode=passthru", "--subnet", "10.1.0.0/24", "x")
		d.OK("rm", "-f", "aa", "bb", "cc")
		d.OK("network", "rm", "mv")
	})
	for _, mode := range []string{"private", "vepa"} {
		t.Run(mode, func(t *testing.T) {
			create("mv", "-o", "parent=wan0", "-o", "macvlan_mode="+mode)
			web(d, "aa", "--network", "mv", "--ip", "192.0.2.70")
			web(d, "bb", "--network", "mv")
			reaches(t, h.ns, "192.0.2.70", "aa")
			if r := d.Docker("exec", "bb", "ping", "-c1", "-W1", "192.0.2.70"); r.Code == 0 {
				t.Errorf("containers of mode %s meet", mode)
			}
			d.OK("rm", "-f", "aa", "bb")
			d.OK("network", "rm", "mv")
		})
	}
	t.Run("passthru", func(t *testing.T) {
		create("mv", "-o", "parent=wan0", "-o", "macvlan_mode=passthru")
		web(d, "aa", "--network", "mv", "--ip", "192.0.2.70")
		reaches(t, h.ns, "192.0.2.70", "aa")
		d.Fails("in mode passthru", "network", "create", "-d", "macvlan", "-o", "parent=wan0", "--subnet", "10.1.0.0/24", "x")
		d.OK("rm", "-f", "aa")
		d.OK("network", "rm", "mv")
	})
	t.Run("internal, several subnets", func(t *testing.T) {
		d.OK("network", "create", "-d", "macvlan", "--internal", "-o", "parent=wan0", "--subnet", "10.3.0.0/30", "--subnet", "10.4.0.0/30", "mv") // the CLI sends them in any order
		d.OK("run", "-d", "--name", "aa", "--network", "mv", "busybox", "sleep", "1000")
		d.OK("run", "-d", "--name", "bb", "--network", "mv", "busybox", "sleep", "1000")
		d.OK("run", "-d", "--name", "cc", "--network", "mv", "busybox", "sleep", "1000")
		if a, c := address(d, "aa", "mv"), address(d, "cc", "mv"); !strings.HasSuffix(a, ".0.1") || len(c) != len(a) || a[:5] == c[:5] {
			t.Errorf("addresses %s and %s", a, c)
		}
		if out := d.OK("exec", "aa", "ip", "route"); strings.Contains(out, "default") {
			t.Errorf("routes:\n%s", out)
		}
		d.OK("rm", "-f", "aa", "bb", "cc")
		d.OK("network", "rm", "mv")
	})
	t.Run("no gateway that nobody named", func(t *testing.T) {
		d.OK("network", "create", "-d", "macvlan", "-o", "parent=wan0", "--subnet", "10.5.0.0/24", "mv")
		if out := d.OK("run", "--rm", "--network", "mv", "busybox", "ip", "route"); strings.Contains(out, "default") || !strings.Contains(out, "10.5.0.1") {
			t.Errorf("routes:\n%s", out)
		}
		d.OK("network", "rm", "mv")
	})
	t.Run("refused", func(t *testing.T) {
		for words, args := range map[string]string{
			"requested macvlan mode 'l2' is not valid, 'bridge' mode is the macvlan driver default": "-o parent=wan0 -o macvlan_mode=l2",
			"loopback interface is not a valid macvlan parent link":                                 "-o parent=lo",
			"invalid subinterface vlan name nothere, example formatting is eth0.10":                 "-o parent=nothere",
			"vlan id must be between 1-4094, received: 5000":                                        "-o parent=wan0.5000",
			"-o parent interface was not found on the host: nothere":                                "-o parent=nothere.7",
		} {
			d.Fails(words, append(append([]string{"network", "create", "-d", "macvlan"}, strings.Fields(args)...), "x")...)
		}
	})
	t.Run("own parents", func(t *testing.T) { ownParents(t, d, "macvlan") })
}

// ownParents tests parents that the engine makes: interfaces of VLANs, and one that leads nowhere.
func ownParents(t *testing.T, d *harness.Daemon, driver string) {
	links := func() string { return d.InNet("ip", "-o", "link").Out }
	if has(t, d, "link", "wan0", "type", "vlan", "id", "9") {
		d.OK("network", "create", "-d", driver, "-o", "parent=wan0.17", "v1")
		if !strings.Contains(links(), "wan0.17") {
			t.Error("no interface of the VLAN was made")
		}
		d.OK("network", "rm", "v1")
		if strings.Contains(links(), "wan0.17") {
			t.Error("the interface of the VLAN stays")
		}
	} else {
		d.Fails("failed to create wan0.17 vlan link", "network", "create", "-d", driver, "-o", "parent=wan0.17", "v1")
	}
	if has(t, d, "type", "dummy") {
		d.OK("network", "create", "-d", driver, "alone")
		if !strings.Contains(links(), "dm-") {
			t.Error("no parent was made")
		}
		d.OK("network", "rm", "alone")
		if strings.Contains(links(), "dm-") {
			t.Error("the parent stays")
		}
	} else {
		d.Fails("failed to create the dummy parent link", "network", "create", "-d", driver, "alone")
	}
	if out := d.OK("network", "ls", "-q", "--filter", "type=custom"); out != "" {
		t.Errorf("networks that could not be made are there: %s", out)
	}
}

func TestIPvlan(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	h := other(t, d)
	for words, args := range map[string]string{
		"requested ipvlan mode 'bridge' is not valid, 'l2' mode is the ipvlan driver default":        "-o parent=wan0 -o ipvlan_mode=bridge",
		"requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default flag":         "-o parent=wan0 -o ipvlan_flag=x",
		"loopback interface is not a valid ipvlan parent link":                                       "-o parent=lo",
		"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received": "-o parent=a.b.c",
	} {
		d.Fails(words, append(append([]string{"network", "create", "-d", "ipvlan"}, strings.Fields(args)...), "x")...)
	}
	d.OK("network", "create", "-d", "ipvlan", "-o", "parent=wan0", "--subnet", "192.0.2.0/24", "--gateway", there, "--aux-address", "us="+here, "l2")
	d.Fails("is already using parent interface wan0", "network", "create", "-d", "ipvlan", "-o", "parent=wan0", "--subnet", "10.1.0.0/24", "x")
	if !has(t, d, "link", "wan0", "type", "ipvlan") {
		d.Fails("failed to create the ipvlan port", "run", "--rm", "--network", "l2", "busybox", "true")
		d.OK("network", "rm", "l2")
		t.Skip("the kernel has no ipvlan")
	}
	web(d, "aa", "--network", "l2", "--ip", "192.0.2.70")
	reaches(t, h.ns, "192.0.2.70", "aa")
	if mac := inspect(d, "aa", "{{(index .NetworkSettings.Networks \"l2\").MacAddress}}"); mac != "" {
		t.Errorf("MAC address %q", mac)
	}
	d.OK("rm", "-f", "aa")
	d.OK("network", "rm", "l2")
	for _, mode := range []string{"l3", "l3s"} {
		d.OK("network", "create", "-d", "ipvlan", "-o", "parent=wan0", "-o", "ipvlan_mode="+mode, "--subnet", "10.5.0.0/24", mode)
		web(d, "aa", "--network", mode, "--ip", "10.5.0.70")
		if out := d.OK("exec", "aa", "ip", "route"); !strings.Contains(out, "default dev eth0") {
			t.Errorf("%s: routes:\n%s", mode, out)
		}
		sh(t, "ip", "-n", h.ns, "route", "replace", "10.5.0.0/24", "via", here)
		reaches(t, h.ns, "10.5.0.70", "aa")
		d.OK("rm", "-f", "aa")
		d.OK("network", "rm", mode)
	}
	ownParents(t, d, "ipvlan")
}
