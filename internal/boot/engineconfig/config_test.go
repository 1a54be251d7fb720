package engineconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func parse(t *testing.T, file string, args ...string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return Parse(append(args, "--config-file", path))
}

func TestMerge(t *testing.T) {
	c, err := parse(t, `{"debug": true, "hosts": ["tcp://127.0.0.1:0"], "log-opts": {"max-size": "10m"}, "default-shm-size": "128M",
		"default-address-pools": [{"base": "10.9.0.0/16", "size": 24}], "runtimes": {"x": {"path": "/bin/x"}}}`,
		"--bip", "10.1.0.1/24", "--add-runtime", "y=/bin/y", "--default-ulimit", "nofile=10:20")
	if err != nil {
		t.Fatal(err)
	}
	if c.LogLevel != "debug" || c.Hosts[0] != "tcp://127.0.0.1:0" || c.LogOpts["max-size"] != "10m" || c.DefaultShmSize != 128<<20 {
		t.Errorf("%+v", c)
	}
	if len(c.Runtimes) != 2 || c.BIP != "10.1.0.1/24" || c.AddressPools[0].Size != 24 || c.DefaultUlimits["nofile"].Hard != 20 {
		t.Errorf("%+v", c)
	}
}

func TestRefused(t *testing.T) {
	for _, x := range []struct {
		file, want string
		args       []string
	}{
		{`{"nope": 1, "also": 2}`, "don't match any configuration option: also, nope", nil},
		{`{"debug": true}`, "debug: (from flag: true, from file: true)", []string{"-D"}},
		{`{"proxies": {"http-proxy": "http://me:secret@a:1", "no-proxy": "x"}}`, "in the configuration file: http-proxy: (from flag: http://xxxxx:xxxxx@b:2, from file: http://xxxxx:xxxxx@a:1)", []string{"--http-proxy", "http://me:secret@b:2"}},
		{`{"hosts": ["unix:///x"]}`, "hosts: (from flag:", []string{"-H", "unix:///y"}},
		{`{"rootless": true}`, "not supported by this version of Longshore: rootless (the engine needs root", nil},
		{``, `argument "true" for "--rootless" flag: not supported by this version of Longshore: the engine needs root`, []string{"--rootless"}},
		{`{"storage-opts": ["overlay2.shape=round"]}`, "overlay2: unknown option overlay2.shape", nil},
		{`{"storage-opts": ["overlay2.size=much"]}`, "overlay2.size: invalid size", nil},
		{`{"storage-opts": ["overlay2.size"]}`, "unable to parse storage-opt key/value", nil},
		{`{"registry-mirrors": ["mirror.example"]}`, "invalid mirror: no scheme specified", nil},
		{`{"registry-mirrors": ["https://m.example/?q"]}`, "invalid mirror: query", nil},
		{`{"insecure-registries": ["ftp://r.example"]}`, "should not contain", nil},
		{`{"node-generic-resources": ["gpu"]}`, "incorrect term gpu, missing", nil},
		{`{"authorization-plugins": ["../x"]}`, "is no name of a plugin", nil},
		{`{"cpu-rt-runtime": 1, "exec-opts": ["native.cgroupdriver=systemd"]}`, "knows no such limits", nil},
		{`{"cpu-rt-period": 1000, "cpu-rt-runtime": 2000}`, "are no part of a period", nil},
		{`{"host-gateway-ip": "192.0.2.1", "host-gateway-ips": ["192.0.2.2"]}`, "must not both be specified", nil},
		{`{"host-gateway-ip": "192.0.2.1"}`, "host-gateway-ip: (from flag:", []string{"--host-gateway-ip", "192.0.2.2"}},
		{`{"exec-opts": ["native.cgroupdriver=none"]}`, "cgroup driver \"none\" is not supported", nil},
		{`{"exec-opts": ["native.umask=normal"]}`, "only native.cgroupdriver", nil},
		{`{"exec-opts": ["native.cgroupdriver=systemd"], "cgroup-parent": "/x"}`, "should be a valid slice", nil},
		{`{`, "unexpected end of JSON", nil},
		{`{"mtu": "x"}`, "cannot unmarshal", nil},
		{`{"runtimes": {"v": {"runtimeType": "io.containerd.runsc.v1"}}}`, "is a shim of containerd", nil},
		{`{"runtimes": {"v": {"path": "x", "runtimeType": "io.containerd.runc.v2"}}}`, "cannot configure both path and runtimeType", nil},
		{`{"runtimes": {"v": {"runtimeType": "io.containerd.runc.v2", "options": {"SystemdCgroup": true}}}}`, "option SystemdCgroup is not supported", nil},
		{``, "mutually exclusive", []string{"--bip", "10.0.0.1/8", "-b", "br0"}},
		{``, "log-level", []string{"--log-level", "loud"}},
		{``, "absolute path", []string{"--data-root", "x"}},
		{``, "is not an ip address", []string{"--dns", "x"}},
		{``, "storage-driver", []string{"-s", "btrfs"}},
		{``, "unknown flag", []string{"--what"}},
		{``, "unexpected arguments", []string{"now"}},
		{``, "default-address-pools", []string{"--default-address-pool", "base=10.0.0.0/8,size=4"}},
	} {
		_, err := parse(t, x.file, x.args...)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s %v: got %v, want %q", x.file, x.args, err, x.want)
		}
	}
}

func TestRuntimeByItsShim(t *testing.T) {
	c, err := parse(t, `{"runtimes": {"a": {"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/bin/y"}}, "b": {"runtimeType": "io.containerd.runc.v2"}}}`)
	if err != nil || c.Runtimes["a"].Path != "/bin/y" || c.Runtimes["b"].Path != "runc" {
		t.Errorf("%v %+v", err, c)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Parse([]string{"--config-file", filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a file that a flag names must exist")
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(`{"debug":true}`)
	f.Add(`{"default-ulimits":{"a":{"Name":"x"}},"default-shm-size":1}`)
	f.Fuzz(func(t *testing.T, doc string) {
		path := filepath.Join(t.TempDir(), "d")
		if os.WriteFile(path, []byte(doc), 0o600) != nil {
			t.Skip("the file cannot be written")
		}
		_, _ = Parse([]string{"--config-file", path})
	})
}
