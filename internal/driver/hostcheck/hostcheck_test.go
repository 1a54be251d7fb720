package hostcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"longshore/internal/core/host"
	"longshore/internal/core/runtime"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers are run and file systems mounted for real")
	}
}

func TestGather(t *testing.T) {
	f, err := Gather()
	if err != nil {
		t.Fatal(err)
	}
	release, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	if f.Kernel != strings.TrimSpace(string(release)) || f.NCPU == 0 || f.MemTotal < 1<<20 || f.OS == "" || f.OSType != "linux" || f.Arch == "" {
		t.Errorf("%+v", f)
	}
	if !slices.Contains(f.Security.KnownCapabilities, "CAP_CHOWN") || f.Cgroup.Version == "" {
		t.Errorf("%+v", f)
	}
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(string(data))
}

func TestOSRelease(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "os-release")
	for text, want := range map[string][2]string{
		"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\n": {"Debian GNU/Linux 12 (bookworm)", "12"},
		"PRETTY_NAME='Some Linux'\n":                                          {"Some Linux", ""},
		"PRETTY_NAME=Plain\nVERSION_ID=1.2":                                   {"Plain", "1.2"},
		"":                                                                    {"Linux", ""},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if name, version := osRelease(filepath.Join(dir, "none"), file); name != want[0] || version != want[1] {
			t.Errorf("%q: %q, %q", text, name, version)
		}
	}
}

func TestCgroup2Facts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cgroup.controllers": "cpuset cpu io memory pids\n", "cpuset.cpus.effective": "0-3\n", "cpuset.mems.effective": "0\n", "a.slice/memory.swap.max": "max\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var c host.Cgroup
	gatherCgroup2(&c, dir)
	if !c.Memory.Limit || !c.CPU.CFS || !c.Blkio.ReadBps || !c.Pids || !c.Devices || c.CPU.Cpus != "0-3" || c.Memory.OomKillDisable {
		t.Errorf("%+v", c)
	}
}

func TestRun(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := Run(ctx, &out, Options{DataRoot: filepath.Join(t.TempDir(), "not/yet/there"), Shim: "/nonexistent/shim"})
	t.Log("\n" + out.String())
	if !errors.Is(err, ErrFailed) {
		t.Errorf("a missing shim must fail: %v", err)
	}
	for line := range strings.Lines(out.String()) {
		if shim := strings.HasPrefix(line, "FAIL shim"); strings.HasPrefix(line, "FAIL") != shim || !shim && !strings.HasPrefix(line, "ok   ") {
			t.Errorf("unexpected: %s", line)
		}
	}
}

func TestProbeRuntimes(t *testing.T) {
	needRoot(t)
	cache := filepath.Join(t.TempDir(), "probe.json")
	for _, name := range []string{"runc", "crun"} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Skipf("needs %s, which make test installs: %v", name, err)
			}
			r, err := Probe(context.Background(), runtime.Binary{Name: name, Path: name}, cache)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", r)
			if r.Version == "" || !filepath.IsAbs(r.Binary.Path) || r.BPF != (name == "crun") || r.Binary.NoCgroup != (name == "crun") {
				t.Errorf("%+v", r)
			}
			again, err := Probe(context.Background(), runtime.Binary{Name: name, Path: name}, cache)
			if err != nil || again.Version != r.Version || !slices.Equal(again.Binary.HideMounts, r.Binary.HideMounts) || again.BPF != r.BPF {
				t.Errorf("from the cache: %+v, %v", again, err)
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "longshore-probe*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestProbeOfWhatIsNoRuntime(t *testing.T) {
	needRoot(t)
	for _, path := range []string{"/bin/false", "/nonexistent/runtime"} {
		if _, err := Probe(context.Background(), runtime.Binary{Name: "broken", Path: path}, ""); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDamagedCacheIsIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "probe.json")
	if err := os.WriteFile(path, []byte(`{"a":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := readCache(path); len(c) != 0 {
		t.Errorf("%v", c)
	}
	if err := writeCache(path, map[string]Runtime{"k": {Version: "1"}}); err != nil || readCache(path)["k"].Version != "1" {
		t.Error(err)
	}
}

func TestInitBinary(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	shim := filepath.Join(dir, "longshore-shim")
	if _, err := InitBinary("/no/such/init", shim); err == nil {
		t.Error("a configured program that is missing must be an error")
	}
	if _, err := exec.LookPath("/usr/libexec/docker/docker-init"); err != nil {
		if got, err := InitBinary("", shim); err != nil || got != shim {
			t.Errorf("without tini: %q, %v", got, err)
		}
	}
	tini := filepath.Join(dir, "docker-init")
	if err := os.WriteFile(tini, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, configured := range []string{"", tini, "docker-init"} {
		if got, err := InitBinary(configured, shim); err != nil || got != tini {
			t.Errorf("%q: %q, %v", configured, got, err)
		}
	}
}

func TestWarningsAndSecurityOptions(t *testing.T) {
	f := &host.Facts{}
	f.Cgroup.Version = "1"
	w := strings.Join(f.Warnings(), "\n")
	for _, want := range []string{"WARNING: No memory limit support", "WARNING: No swap limit support", "WARNING: No blkio throttle.read_bps_device support", "WARNING: IPv4 forwarding is disabled"} {
		if !strings.Contains(w, want) {
			t.Errorf("no %q in\n%s", want, w)
		}
	}
	f.Cgroup.Version = "2"
	if w := strings.Join(f.Warnings(), "\n"); strings.Contains(w, "oom kill") || !strings.Contains(w, "WARNING: No io.max (rbps) support") {
		t.Errorf("v2:\n%s", w)
	}
	f.Security.Seccomp, f.Cgroup.Namespaces = true, true
	if got := f.SecurityOptions("builtin", false, true); !slices.Equal(got, []string{"name=seccomp,profile=builtin", "name=cgroupns"}) {
		t.Errorf("%q", got)
	}
}
