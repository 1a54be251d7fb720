package networks

import (
	"io"
	"net/http"
	"net/netip"
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
		post(t, d, "1.52", "bb", body)
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
	t.Run("an address of a subnet that the engine chose", func(t *testing.T) {
		d.OK("network", "create", "auto")
		subnet := netip.MustParsePrefix(d.OK("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "auto"))
		want := subnet.Addr().Next().Next().Next().String()
		d.OK("run", "-d", "--name", "cc", "--network", "auto", "--ip", want, "busybox", "sleep", "1000")
		if got := address(d, "cc", "auto"); got != want {
			t.Errorf("address %s, want %s", got, want)
		}
		d.OK("rm", "-f", "cc")
		d.OK("network", "rm", "auto")
	})
	t.Run("an interface that is down", func(t *testing.T) {
		d.OK("run", "-d", "--name", "dd", "--network", "n1", "--cap-add", "NET_ADMIN", "busybox", "sleep", "1000")
		d.OK("network", "connect", "n2", "dd")
		d.OK("exec", "dd", "ip", "link", "set", "eth1", "down")
		d.OK("network", "disconnect", "n1", "dd")
		on("dd", "n2")
		d.OK("network", "connect", "n1", "dd")
		d.OK("restart", "-t", "0", "dd")
		on("dd", "n1 n2")
		d.OK("rm", "-f", "dd")
	})
	t.Run("IPv6 switched off", func(t *testing.T) {
		d.OK("network", "create", "--ipv6", "--subnet", "10.70.3.0/24", "--subnet", "fd00:70::/64", "six")
		post(t, d, "1.52", "ee", `{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"six","Sysctls":{"net.ipv6.conf.all.disable_ipv6":"1"}}}`)
		post(t, d, "1.52", "ff", `{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"six"},"NetworkingConfig":{"EndpointsConfig":{
			"six":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv6.conf.IFNAME.disable_ipv6=1"}}}}}`)
		for _, name := range []string{"ee", "ff"} {
			d.OK("start", name)
			if got := inspect(d, name, "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}"); strings.Contains(got, ":") {
				t.Errorf("%s has %s", name, got)
			}
			if out := d.OK("exec", name, "ip", "addr", "show", "eth0"); strings.Contains(out, "inet6") {
				t.Errorf("%s: %s", name, out)
			}
		}
		if out := d.OK("exec", "ee", "cat", "/etc/hosts"); strings.Contains(out, "::") {
			t.Errorf("hosts:\n%s", out)
		}
		d.OK("rm", "-f", "ee", "ff")
		d.OK("network", "rm", "six")
	})
	t.Run("empty lists of bindings", func(t *testing.T) {
		for version, warned := range map[string]bool{"1.51": false, "1.52": true} {
			answer := post(t, d, version, "gg", `{"Image":"busybox","Cmd":["true"],"ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[]}}}`)
			if strings.Contains(answer, "have an empty list of port-bindings: 80/tcp") != warned {
				t.Errorf("%s: %s", version, answer)
			}
			if got := inspect(d, "gg", `{{len (index .HostConfig.PortBindings "80/tcp")}}`); got != "1" {
				t.Errorf("%s: %s bindings", version, got)
			}
			d.OK("rm", "gg")
		}
	})
	t.Run("the end of the stream is the end of the container", func(t *testing.T) {
		for i := range 10 {
			post(t, d, "1.52", "hh", `{"Image":"busybox","Cmd":["sh","-c","exit 7"],"HostConfig":{"NetworkMode":"n1"}}`)
			stream := request(t, d, "POST", "/v1.52/containers/hh/attach?stream=1&stdout=1&stderr=1", "")
			d.OK("start", "hh")
			if _, err := io.Copy(io.Discard, stream.Body); err != nil {
				t.Fatal(err)
			}
			stream.Body.Close()
			if got := inspect(d, "hh", "{{.State.Status}} {{.State.ExitCode}}"); got != "exited 7" {
				t.Errorf("time %d: %s", i, got)
			}
			d.OK("rm", "hh")
		}
	})
}

// request asks the engine; the caller closes the body.
func request(t *testing.T, d *harness.Daemon, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://docker"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// post creates a container and gives the answer.
func post(t *testing.T, d *harness.Daemon, version, name, body string) string {
	t.Helper()
	resp := request(t, d, "POST", "/v"+version+"/containers/create?name="+name, body)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status, string(answer), err)
	}
	return string(answer)
}
