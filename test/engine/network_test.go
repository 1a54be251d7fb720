package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

func TestNetworks(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("network", "create", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.1", "app")

	t.Run("list and inspect", func(t *testing.T) {
		out := d.OK("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")
		for _, want := range []string{"app bridge local", "bridge bridge local", "host host local", "none null local"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		if out := d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "app"); out != "10.77.0.0/24" {
			t.Errorf("subnet %q", out)
		}
		d.Fails("network with name app already exists", "network", "create", "app")
		d.Fails("not found", "network", "inspect", "nothere")
		d.Fails("Pool overlaps", "network", "create", "--subnet", "10.77.0.0/25", "overlap")
		d.Fails("bridge", "network", "rm", "bridge")
	})
	t.Run("names, aliases, addresses", func(t *testing.T) {
		d.OK("run", "-d", "--name", "srv", "--network", "app", "--network-alias", "web", "--ip", "10.77.0.50", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
		defer d.OK("rm", "-f", "srv")
		for _, name := range []string{"srv", "web", "10.77.0.50"} {
			if out := d.OK("run", "--rm", "--network", "app", "busybox", "wget", "-qO-", "http://"+name+"/group"); !strings.HasPrefix(out, "root:") {
				t.Errorf("%s answered %q", name, out)
			}
		}
		out := d.OK("run", "--rm", "--network", "app", "busybox", "nslookup", "10.77.0.50")
		if !strings.Contains(out, "srv.app") {
			t.Errorf("reverse look-up: %q", out)
		}
		r := d.Docker("run", "--rm", "busybox", "sh", "-c", "timeout 3 wget -qO- "+"http://10.77.0.50/group"+" || exit 1")
		if r.Code == 0 {
			t.Error("networks must be apart from each other")
		}
		d.Fails("Address already in use", "run", "--rm", "--network", "app", "--ip", "10.77.0.50", "busybox", "true")
	})
	t.Run("connect and disconnect live", func(t *testing.T) {
		d.OK("run", "-d", "--name", "mover", "busybox", "sleep", "100")
		defer d.OK("rm", "-f", "mover")
		d.OK("network", "connect", "--alias", "moved", "--ip", "10.77.0.60", "app", "mover")
		if out := d.OK("exec", "mover", "ip", "-4", "-o", "addr"); !strings.Contains(out, "10.77.0.60/24") {
			t.Errorf("addresses: %q", out)
		}
		if out := d.OK("run", "--rm", "--network", "app", "busybox", "ping", "-c1", "-W2", "moved"); !strings.Contains(out, "10.77.0.60") {
			t.Errorf("got %q", out)
		}
		if out := d.OK("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", "app"); out != "mover 10.77.0.60/24" {
			t.Errorf("inspect shows %q", out)
		}
		d.Fails("has active endpoints", "network", "rm", "app")
		d.OK("network", "disconnect", "app", "mover")
		if out := d.OK("exec", "mover", "ip", "-4", "-o", "addr"); strings.Contains(out, "10.77.0.60") {
			t.Errorf("addresses after disconnect: %q", out)
		}
		d.Fails("is not connected", "network", "disconnect", "app", "mover")
	})
	t.Run("published ports", func(t *testing.T) {
		d.OK("run", "-d", "--name", "pub", "-p", "18080:80", "-p", "127.0.0.1:18081:80", "-p", "80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
		defer d.OK("rm", "-f", "pub")
		fetch := func(url string) bool {
			r := d.InNet("curl", "-s", "-m", "3", url)
			return strings.HasPrefix(r.Out, "root:")
		}
		harness.Eventually(t, 5*time.Second, "the server is up", func() bool { return fetch("http://127.0.0.1:18080/group") })
		if !fetch("http://127.0.0.1:18081/group") {
			t.Error("port of one address")
		}
		ip := d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
		if !fetch("http://"+ip+":18080/group") || fetch("http://"+ip+":18081/group") {
			t.Error("own address of the host: 18080 must answer, 18081 must not")
		}
		if out := d.OK("run", "--rm", "busybox", "sh", "-c", "timeout 3 wget -qO- "+"http://"+ip+":18080/group"+" || exit 1"); !strings.HasPrefix(out, "root:") {
			t.Error("from another container")
		}
		if out := d.OK("port", "pub", "80"); strings.Count(out, "\n") < 2 {
			t.Errorf("port shows %q", out)
		}
		d.Fails("port is already allocated", "run", "-d", "--name", "pub2", "-p", "18080:80", "busybox", "true")
		d.OK("rm", "-f", "pub2")
		d.OK("stop", "-t", "0", "pub")
		if fetch("http://127.0.0.1:18080/group") {
			t.Error("a stopped container's port must not answer")
		}
	})
	t.Run("udp", func(t *testing.T) {
		bin := filepath.Join(t.TempDir(), "udpecho")
		build := exec.Command("go", "build", "-o", bin, "./testdata/udpecho")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		d.OK("run", "-d", "--name", "udp", "-p", "18053:53/udp", "-v", bin+":/udpecho:ro", "busybox", "/udpecho")
		defer d.OK("rm", "-f", "udp")
		harness.Eventually(t, 10*time.Second, "a datagram comes back", func() bool {
			return d.InNet("timeout", "2", "bash", "-c", "exec 3<>/dev/udp/127.0.0.1/18053; echo ping >&3; head -1 <&3").Out == "ping\n"
		})
	})
	t.Run("host, none, internal", func(t *testing.T) {
		if out := d.OK("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link"); strings.Count(out, "\n") != 0 || !strings.Contains(out, "lo") {
			t.Errorf("none: %q", out)
		}
		host := strings.TrimSpace(d.InNet("readlink", "/proc/self/ns/net").Out)
		if out := d.OK("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"); out != host {
			t.Errorf("host: %q, want %q", out, host)
		}
		d.OK("network", "create", "--internal", "inner")
		defer d.OK("network", "rm", "inner")
		if out := d.OK("run", "--rm", "--network", "inner", "busybox", "ip", "route"); strings.Contains(out, "default") {
			t.Errorf("internal has a default route: %q", out)
		}
	})
	t.Run("hosts file", func(t *testing.T) {
		out := d.OK("run", "--rm", "-h", "me", "--add-host", "other:1.2.3.4", "--add-host", "gw:host-gateway", "busybox", "cat", "/etc/hosts")
		for _, want := range []string{"127.0.0.1\tlocalhost", "1.2.3.4\tother", "\tgw", "\tme"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		out = d.OK("run", "--rm", "--dns", "9.9.9.9", "--dns-search", "corp", "--dns-option", "ndots:3", "busybox", "cat", "/etc/resolv.conf")
		if !strings.Contains(out, "nameserver 9.9.9.9") || !strings.Contains(out, "search corp") || !strings.Contains(out, "ndots:3") {
			t.Errorf("resolv.conf: %q", out)
		}
	})
	t.Run("prune", func(t *testing.T) {
		d.OK("network", "create", "idle")
		if out := d.OK("network", "prune", "-f"); !strings.Contains(out, "idle") {
			t.Errorf("got %q", out)
		}
	})
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("volume", "create", "--label", "a=b", "data")
	if out := d.OK("volume", "ls", "-q", "--filter", "label=a=b"); out != "data" {
		t.Errorf("got %q", out)
	}
	d.OK("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo x >/d/f")
	if out := d.OK("run", "--rm", "--mount", "type=volume,source=data,target=/d,readonly", "busybox", "sh", "-c", "cat /d/f; touch /d/g 2>/dev/null && echo W; true"); out != "x" {
		t.Errorf("got %q", out)
	}
	id := d.OK("create", "-v", "data:/d", "busybox")
	d.Fails("volume is in use - ["+id+"]", "volume", "rm", "data")
	from := d.OK("run", "--rm", "--volumes-from", id, "busybox", "cat", "/d/f")
	if from != "x" {
		t.Errorf("volumes-from: %q", from)
	}
	d.OK("rm", id)
	// An empty named volume gets what the image has at that place.
	if out := d.OK("run", "--rm", "-v", "fresh:/etc", "busybox", "cat", "/etc/group"); !strings.HasPrefix(out, "root:") {
		t.Errorf("copy-up: %q", out)
	}
	d.Fails("no such volume", "volume", "inspect", "none")
	d.Fails("includes invalid characters", "volume", "create", "../x")
	if out := d.OK("volume", "prune", "-f", "-a"); !strings.Contains(out, "data") || !strings.Contains(out, "fresh") {
		t.Errorf("prune: %q", out)
	}
}

func TestSystem(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	if out := d.OK("version", "--format", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}"); out != "1.55 1.0 linux" {
		t.Errorf("version: %q", out)
	}
	out := d.OK("info", "--format", "{{.Driver}} {{.Images}} {{.CgroupVersion}} {{.OSType}} {{.Swarm.LocalNodeState}}")
	if out != "overlayfs 1 1 linux inactive" && out != "overlayfs 1 2 linux inactive" {
		t.Errorf("info: %q", out)
	}
	if out := d.OK("system", "df", "--format", "{{.Type}} {{.TotalCount}}"); !strings.Contains(out, "Images 1") {
		t.Errorf("df: %q", out)
	}
	if out := d.OK("system", "df", "-v"); !strings.Contains(out, "busybox") {
		t.Errorf("df -v: %q", out)
	}
	d.Fails("This node is not a swarm manager", "service", "ls")
	if out := d.OK("plugin", "ls", "-q"); out != "" {
		t.Errorf("plugins: %q", out)
	}
}
