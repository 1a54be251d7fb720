package networks

import (
	"net/http"
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestMembership tests that a container is on the networks that it was given, and on no other: after restarts of its own
// and of the daemon too.
func TestMembership(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	for i, net := range []string{"n1", "n2"} {
		d.OK("network", "create", "--subnet", []string{"10.70.1.0/24", "10.70.2.0/24"}[i], net)
	}
	on := func(name, want string) {
		t.Helper()
		if got := strings.TrimSpace(inspect(d, name, "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}")); got != want {
			t.Errorf("%s is on %q, want %q", name, got, want)
		}
	}
	t.Run("left networks stay left", func(t *testing.T) {
		d.OK("run", "-d", "--name", "aa", "busybox", "sleep", "1000")
		d.OK("network", "connect", "n1", "aa")
		d.OK("network", "disconnect", "bridge", "aa")
		d.OK("restart", "-t", "0", "aa")
		on("aa", "n1")
		d.OK("network", "disconnect", "n1", "aa")
		d.OK("stop", "-t", "0", "aa")
		d.Stop()
		d.Up()
		d.OK("start", "aa")
		on("aa", "")
		if out := d.OK("exec", "aa", "ip", "-o", "link"); strings.Contains(out, "eth") {
			t.Errorf("interfaces without any network:\n%s", out)
		}
		d.OK("network", "connect", "n2", "aa")
		on("aa", "n2")
		d.OK("rm", "-f", "aa")
	})
	t.Run("networks of the request instead of the default", func(t *testing.T) {
		body := `{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{
			"n1":{"DriverOpts":{"com.docker.network.endpoint.ifname":"eth1"}},"n2":{}}}}`
		resp, err := d.Client().Post("http://docker/v1.52/containers/create?name=bb", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatal(resp.Status)
		}
		d.OK("start", "bb")
		on("bb", "n1 n2")
		for nic, addr := range map[string]string{"eth0": "10.70.2.", "eth1": "10.70.1."} {
			if out := d.OK("exec", "bb", "ip", "-o", "-4", "addr", "show", nic); !strings.Contains(out, addr) {
				t.Errorf("%s: %s", nic, out)
			}
		}
		d.OK("rm", "-f", "bb")
	})
	t.Run("subnets by their size", func(t *testing.T) {
		d.OK("network", "create", "--ipv6", "--subnet", "0.0.0.0/27", "--subnet", "::/120", "small")
		got := d.OK("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", "small")
		if !strings.Contains(got, "/27") || !strings.Contains(got, "/120") || strings.Contains(got, "0.0.0.0") || strings.HasPrefix(got, "::") || strings.Contains(got, " ::") {
			t.Errorf("subnets %s", got)
		}
		d.OK("network", "rm", "small")
	})
}
