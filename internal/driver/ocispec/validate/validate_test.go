package validate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"longshore/internal/core/host"
)

// able is a machine that can limit everything and has two CPUs.
func able() *host.Facts {
	f := &host.Facts{NCPU: 2}
	f.Cgroup = host.Cgroup{
		Version: "1", Namespaces: true, Pids: true, Devices: true,
		Memory: host.MemoryCgroup{Limit: true, Swap: true, Reservation: true, OomKillDisable: true, Swappiness: true},
		CPU:    host.CPUCgroup{Shares: true, CFS: true, Realtime: true, Cpuset: true, Cpus: "0-1", Mems: "0"},
		Blkio:  host.BlkioCgroup{Weight: true, WeightDevice: true, ReadBps: true, WriteBps: true, ReadIOps: true, WriteIOps: true},
	}
	f.Security.KnownCapabilities = []string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"}
	f.Security.Capabilities = []string{"CAP_CHOWN", "CAP_NET_ADMIN"}
	return f
}

func p[T any](v T) *T { return &v }

// request is what a case changes.
type request struct {
	cfg container.Config
	hc  container.HostConfig
}

func TestRefusals(t *testing.T) {
	cases := map[string]struct {
		change func(*request)
		want   string
	}{
		"hostname in a shared network": {func(r *request) { r.hc.NetworkMode, r.cfg.Hostname = "container:a", "h" }, "conflicting options: hostname and the network mode"},
		"nameless shared network":      {func(r *request) { r.hc.NetworkMode = "container:" }, "invalid network mode: invalid container format container:<name|id>"},
		"links in a shared network":    {func(r *request) { r.hc.NetworkMode, r.hc.Links = "container:a", []string{"b"} }, "conflicting options: container type network can't be used with links. This would result in undefined behavior"},
		"dns in a shared network": {func(r *request) {
			r.hc.NetworkMode, r.hc.DNS = "container:a", []netip.Addr{netip.MustParseAddr("1.1.1.1")}
		}, "conflicting options: dns and the network mode"},
		"hosts in a shared network": {func(r *request) { r.hc.NetworkMode, r.hc.ExtraHosts = "container:a", []string{"a:1.1.1.1"} }, "conflicting options: custom host-to-IP mapping and the network mode"},
		"ports in a shared network": {func(r *request) { r.hc.NetworkMode, r.hc.PublishAllPorts = "container:a", true }, "conflicting options: port publishing and the container type network mode"},
		"exposing in a shared network": {func(r *request) {
			r.hc.NetworkMode = "container:a"
			r.cfg.ExposedPorts = network.PortSet{network.MustParsePort("80/tcp"): {}}
		}, "conflicting options: port exposing and the container type network mode"},
		"hostname with the host's uts": {func(r *request) { r.hc.UTSMode, r.cfg.Hostname = "host", "h" }, "conflicting options: hostname and the UTS mode"},
		"links with the host network":  {func(r *request) { r.hc.NetworkMode, r.hc.Links = "host", []string{"b"} }, "conflicting options: host type networking can't be used with links. This would result in undefined behavior"},
		"isolation":                    {func(r *request) { r.hc.Isolation = "hyperv" }, "invalid isolation (hyperv): linux only supports 'default'"},
		"bandwidth":                    {func(r *request) { r.hc.IOMaximumBandwidth = 1 }, "invalid option: QoS maximum bandwidth configuration is not supported on linux"},
		"iops":                         {func(r *request) { r.hc.IOMaximumIOps = 1 }, "invalid option: QoS maximum IOPs configuration is not supported on linux"},
		"rt runtime above period":      {func(r *request) { r.hc.CPURealtimePeriod, r.hc.CPURealtimeRuntime = 1, 2 }, "cpu real-time runtime cannot be higher than cpu real-time period"},
		"negative shares":              {func(r *request) { r.hc.CPUShares = -1 }, "invalid CPU shares (-1): value must be a positive integer"},
		"relative directory":           {func(r *request) { r.cfg.WorkingDir = "a/b" }, "the working directory 'a/b' is invalid, it needs to be an absolute path"},
		"signal":                       {func(r *request) { r.cfg.StopSignal = "SIGNO" }, "invalid signal: SIGNO"},
		"empty variable":               {func(r *request) { r.cfg.Env = []string{"=x"} }, "invalid environment variable: =x"},
		"health interval":              {func(r *request) { r.cfg.Healthcheck = &container.HealthConfig{Interval: time.Nanosecond} }, "Interval in Healthcheck cannot be less than 1ms"},
		"health retries":               {func(r *request) { r.cfg.Healthcheck = &container.HealthConfig{Retries: -1} }, "Retries in Healthcheck cannot be negative"},
		"auto-remove and restart":      {func(r *request) { r.hc.AutoRemove = true; r.hc.RestartPolicy.Name = "always" }, "can't create 'AutoRemove' container with restart policy"},
		"host without address":         {func(r *request) { r.hc.ExtraHosts = []string{"a"} }, `bad format for add-host: "a"`},
		"host with a bad address":      {func(r *request) { r.hc.ExtraHosts = []string{"a:1.2"} }, `invalid IP address in add-host: "1.2"`},
		"host port": {func(r *request) {
			r.hc.PortBindings = network.PortMap{network.MustParsePort("80"): {{HostPort: "70000"}}}
		}, `invalid port specification: "70000"`},
		"restart policy":           {func(r *request) { r.hc.RestartPolicy.Name = "sometimes" }, "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"},
		"restart count":            {func(r *request) { r.hc.RestartPolicy = container.RestartPolicy{Name: "always", MaximumRetryCount: 3} }, "invalid restart policy: maximum retry count can only be used with 'on-failure'"},
		"unknown capability":       {func(r *request) { r.hc.CapAdd = []string{"foo"} }, `invalid CapAdd: unknown capability: "CAP_FOO"`},
		"capability we lack":       {func(r *request) { r.hc.CapDrop = []string{"sys_resource"} }, `invalid CapDrop: capability not supported by your kernel or not available in the current environment: "CAP_SYS_RESOURCE"`},
		"annotation":               {func(r *request) { r.hc.Annotations = map[string]string{"": "x"} }, "invalid Annotations: the empty string is not permitted as an annotation key"},
		"security option":          {func(r *request) { r.hc.SecurityOpt = []string{"nothing"} }, `invalid --security-opt 1: "nothing"`},
		"security option key":      {func(r *request) { r.hc.SecurityOpt = []string{"a=b"} }, `invalid --security-opt 2: "a=b"`},
		"ipc mode":                 {func(r *request) { r.hc.IpcMode = "x" }, "invalid IPC mode: x"},
		"pid mode":                 {func(r *request) { r.hc.PidMode = "x" }, "invalid PID mode: x"},
		"uts mode":                 {func(r *request) { r.hc.UTSMode = "x" }, "invalid UTS mode: x"},
		"cgroupns mode":            {func(r *request) { r.hc.CgroupnsMode = "x" }, "invalid cgroup namespace mode: x"},
		"shm size":                 {func(r *request) { r.hc.ShmSize = -1 }, "SHM size can not be less than 0"},
		"oom score":                {func(r *request) { r.hc.OomScoreAdj = 1001 }, "Invalid value 1001, range for oom score adj is [-1000, 1000]"},
		"little memory":            {func(r *request) { r.hc.Memory = 1 << 20 }, "Minimum memory limit allowed is 6MB"},
		"swap below memory":        {func(r *request) { r.hc.Memory, r.hc.MemorySwap = 64<<20, 32<<20 }, "Minimum memoryswap limit should be larger than memory limit, see usage"},
		"swap alone":               {func(r *request) { r.hc.MemorySwap = 32 << 20 }, "You should always set the Memory limit when using Memoryswap limit, see usage"},
		"swappiness":               {func(r *request) { r.hc.MemorySwappiness = p(int64(101)) }, "Invalid value: 101, valid memory swappiness range is 0-100"},
		"little reservation":       {func(r *request) { r.hc.MemoryReservation = 1 }, "Minimum memory reservation allowed is 6MB"},
		"reservation above memory": {func(r *request) { r.hc.Memory, r.hc.MemoryReservation = 8<<20, 16<<20 }, "Minimum memory limit can not be less than memory reservation limit, see usage"},
		"cpus and period":          {func(r *request) { r.hc.NanoCPUs, r.hc.CPUPeriod = 1e9, 1000 }, "Conflicting options: Nano CPUs and CPU Period cannot both be set"},
		"cpus and quota":           {func(r *request) { r.hc.NanoCPUs, r.hc.CPUQuota = 1e9, 1000 }, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"},
		"too many cpus":            {func(r *request) { r.hc.NanoCPUs = 3e9 }, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"},
		"period":                   {func(r *request) { r.hc.CPUPeriod = 10 }, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		"quota":                    {func(r *request) { r.hc.CPUQuota = 10 }, "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		"cpuset":                   {func(r *request) { r.hc.CpusetCpus = "1-2" }, "Requested CPUs are not available - requested 1-2, available: 0-1"},
		"cpuset format":            {func(r *request) { r.hc.CpusetCpus = "a" }, "Invalid value a for cpuset cpus: invalid format: a"},
		"huge cpuset":              {func(r *request) { r.hc.CpusetMems = "0-9223372036854775807" }, "Invalid value 0-9223372036854775807 for cpuset mems: value of out range, maximum is 8192"},
		"blkio weight":             {func(r *request) { r.hc.BlkioWeight = 5 }, "Range of blkio weight is from 10 to 1000"},
		"mount type":               {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "x", Target: "/a"}} }, `invalid mount config for type "x": mount type unknown`},
		"mount target":             {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "bind"}} }, `invalid mount config for type "bind": field Target must not be empty`},
		"mount on root":            {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "bind", Target: "/.."}} }, `invalid mount config for type "bind": invalid specification: destination can't be '/'`},
		"mount relative":           {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "bind", Target: "a"}} }, `invalid mount config for type "bind": invalid mount path: 'a' mount path must be absolute`},
		"bind source":              {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "bind", Target: "/a"}} }, `invalid mount config for type "bind": field Source must not be empty`},
		"bind source missing":      {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "bind", Target: "/a", Source: "/no/such"}} }, `invalid mount config for type "bind": bind source path does not exist: /no/such`},
		"bind propagation": {func(r *request) {
			r.hc.Mounts = []mount.Mount{{Type: "bind", Target: "/a", Source: "/", BindOptions: &mount.BindOptions{Propagation: "x"}}}
		}, `invalid mount config for type "bind": invalid propagation mode: x`},
		"bind with volume options": {func(r *request) {
			r.hc.Mounts = []mount.Mount{{Type: "bind", Target: "/a", Source: "/", VolumeOptions: &mount.VolumeOptions{}}}
		}, `invalid mount config for type "bind": field VolumeOptions must not be specified`},
		"volume with bind options": {func(r *request) {
			r.hc.Mounts = []mount.Mount{{Type: "volume", Target: "/a", BindOptions: &mount.BindOptions{}}}
		}, `invalid mount config for type "volume": field BindOptions must not be specified`},
		"volume subpath": {func(r *request) {
			r.hc.Mounts = []mount.Mount{{Type: "volume", Target: "/a", Source: "v", VolumeOptions: &mount.VolumeOptions{Subpath: "../x"}}}
		}, `invalid mount config for type "volume": subpath must be a relative path within the volume`},
		"anonymous read-only": {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "volume", Target: "/a", ReadOnly: true}} }, `invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes`},
		"tmpfs source":        {func(r *request) { r.hc.Mounts = []mount.Mount{{Type: "tmpfs", Target: "/a", Source: "x"}} }, `invalid mount config for type "tmpfs": field Source must not be specified`},
		"tmpfs option": {func(r *request) {
			r.hc.Mounts = []mount.Mount{{Type: "tmpfs", Target: "/a", TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"suid"}}}}}
		}, `invalid mount config for type "tmpfs": invalid option: suid`},
		"tmpfs place": {func(r *request) { r.hc.Tmpfs = map[string]string{"x": ""} }, "invalid mount path: 'x' mount path must be absolute"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := request{hc: container.HostConfig{NetworkMode: "bridge"}}
			c.change(&r)
			_, err := New(able()).Validate(&r.cfg, &r.hc)
			if err == nil || err.Error() != c.want {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("class of %v is not a bad request", err)
			}
		})
	}
	if _, err := New(able()).Validate(nil, &container.HostConfig{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no configuration: %v", err)
	}
}

func TestAccepted(t *testing.T) {
	dir := t.TempDir()
	cfg := &container.Config{WorkingDir: "/a/../b", StopSignal: "term", Env: []string{"A=b", "C"}, Hostname: "h"}
	hc := &container.HostConfig{
		NetworkMode: "bridge", IpcMode: "shareable", PidMode: "host", CgroupnsMode: "private", CapAdd: []string{"all", "net_admin"}, CapDrop: []string{"CAP_CHOWN"},
		SecurityOpt:   []string{"no-new-privileges", "seccomp=unconfined", "label:disable", "apparmor=x", "writable-cgroups=false"},
		ExtraHosts:    []string{"a:1.1.1.1", "b:host-gateway", "c:::1"},
		PortBindings:  network.PortMap{network.MustParsePort("80/tcp"): {{HostPort: "8000-8010"}, {}}},
		RestartPolicy: container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3},
		Tmpfs:         map[string]string{"/t": ""},
		Resources: container.Resources{
			Memory: 64 << 20, MemorySwap: -1, NanoCPUs: 2e9, CpusetCpus: "0,1", CpusetMems: "0", PidsLimit: p(int64(10)),
			Ulimits: []*units.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}, MemorySwappiness: p(int64(-1)),
		},
		Mounts: []mount.Mount{
			{Type: "bind", Source: dir, Target: "/bind"}, {Type: "volume", Target: "/v"}, {Type: "tmpfs", Target: "/tm"},
			{Type: "bind", Source: dir + "/new", Target: "/new", BindOptions: &mount.BindOptions{CreateMountpoint: true, Propagation: "rshared"}},
		},
	}
	w, err := New(able()).Validate(cfg, hc)
	if err != nil || len(w) > 0 {
		t.Fatal(w, err)
	}
	if cfg.WorkingDir != "/b" || hc.MemorySwappiness != nil {
		t.Errorf("not settled: %q, %v", cfg.WorkingDir, hc.MemorySwappiness)
	}
}

func TestWarningsDropWhatCannotBeEnforced(t *testing.T) {
	hc := &container.HostConfig{NetworkMode: "host", CgroupnsMode: "private", PortBindings: network.PortMap{network.MustParsePort("80"): nil}}
	hc.Resources = container.Resources{
		Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwappiness: p(int64(5)), OomKillDisable: p(true), PidsLimit: p(int64(5)),
		CPUShares: 5, CPUPeriod: 5, CPUPercent: 5, CpusetCpus: "7", BlkioWeight: 1, BlkioWeightDevice: []*blkiodev.WeightDevice{{}},
		BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{}}, BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{{}},
	}
	w, err := New(&host.Facts{NCPU: 1}).Validate(&container.Config{}, hc)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
		"Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
		"Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
		"Your kernel does not support OomKillDisable. OomKillDisable discarded.",
		"Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
		"Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
		"Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
		"linux does not support CPU percent. Percent discarded.",
		"Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
		"Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
		"Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
		"Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
		"Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
		"Published ports are discarded when using host network mode",
		"Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.",
	}
	if !slices.Equal(w, want) {
		t.Errorf("got\n%s", strings.Join(w, "\n"))
	}
	r := hc.Resources
	if r.Memory != 0 || r.CPUShares != 0 || r.CpusetCpus != "" || r.PidsLimit != nil || r.OomKillDisable != nil || len(r.BlkioDeviceReadBps) != 0 || r.BlkioWeight != 0 {
		t.Errorf("limits are still there: %+v", r)
	}
	noSwap := able()
	noSwap.Cgroup.Memory.Swap = false
	hc = &container.HostConfig{Resources: container.Resources{Memory: 64 << 20, MemorySwap: 128 << 20}}
	w, err = New(noSwap).Validate(&container.Config{}, hc)
	if err != nil || len(w) != 1 || !strings.Contains(w[0], "swap limit capabilities") || hc.MemorySwap != -1 {
		t.Errorf("%v, %v, %d", w, err, hc.MemorySwap)
	}
}

func TestValidateUpdate(t *testing.T) {
	v := New(able())
	if _, err := v.ValidateUpdate(&container.Resources{MemorySwap: 64 << 20}); err != nil {
		t.Errorf("swap alone may be updated: %v", err)
	}
	if _, err := v.ValidateUpdate(&container.Resources{Memory: 1}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if _, err := v.ValidateUpdate(&container.Resources{CPUShares: -1}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func FuzzParseSet(f *testing.F) {
	for _, s := range []string{"", "0", "0-3,7", "3-1", "a", "0-", "-", ",", "0-9999999999999999999", "8192", "4294967296"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := parseSet(s)
		if err == nil && len(set) > maxSet+1 {
			t.Errorf("%q has %d elements", s, len(set))
		}
	})
}
