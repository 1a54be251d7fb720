// Package host holds what is known about the machine: what its kernel offers to containers and what the daemon itself
// may do on it. The facts are gathered once at start (driver/hostcheck), never change while the daemon lives and are
// passed by pointer to whoever validates a request, builds a container's specification or answers `docker info`.
package host

// Facts are the answers about one machine.
type Facts struct {
	// Kernel is the release, for example "6.1.0-13-amd64".
	Kernel string
	// OS is PRETTY_NAME of os-release ("Debian GNU/Linux 12 (bookworm)"), OSVersion its VERSION_ID; OSType is "linux".
	OS, OSVersion, OSType string
	// Arch is the machine's hardware name, "x86_64" or "aarch64".
	Arch string
	// Hostname is the node's name.
	Hostname string
	// NCPU counts the CPUs the daemon may use; MemTotal is in bytes.
	NCPU     int
	MemTotal int64
	Cgroup   Cgroup
	Security Security
	Limits   Limits
	Net      Net
}

// Cgroup says what the control groups can limit.
type Cgroup struct {
	// Version is "1" (also hybrid) or "2"; Driver is "cgroupfs".
	Version, Driver string
	// Namespaces tells whether a container can have its own view of the hierarchy.
	Namespaces bool
	Memory     MemoryCgroup
	CPU        CPUCgroup
	Blkio      BlkioCgroup
	Pids       bool
	Devices    bool
}

// MemoryCgroup are the memory controller's knobs.
type MemoryCgroup struct {
	Limit, Swap, Reservation, OomKillDisable, Swappiness bool
	// Kernel and KernelTCP are the abandoned kernel memory limits of v1; only told, never used.
	Kernel, KernelTCP bool
}

// CPUCgroup are the knobs of cpu and cpuset.
type CPUCgroup struct {
	Shares, CFS, Realtime, Cpuset bool
	// Cpus and Mems are the available lists in the kernel's form ("0-3,8"); empty when unknown.
	Cpus, Mems string
}

// BlkioCgroup are the knobs of blkio (v1) or io (v2).
type BlkioCgroup struct {
	Weight, WeightDevice, ReadBps, WriteBps, ReadIOps, WriteIOps bool
}

// Security says which confinement the kernel offers.
type Security struct {
	Seccomp, AppArmor, SELinux bool
	// Capabilities are the daemon's bounding set ("CAP_CHOWN", …) in numeric order: nobody can be given more.
	Capabilities []string
	// KnownCapabilities are all that this kernel knows.
	KnownCapabilities []string
}

// Limits are the bounds of what a container's process may be given by this daemon.
type Limits struct {
	// HardRlimits maps a ulimit's name ("nofile") to the highest hard limit that may be set; a missing name is unbounded.
	HardRlimits map[string]uint64
	// OomScoreAdj is the daemon's own score; MayLowerOom tells whether a process may be given less than that.
	OomScoreAdj int
	MayLowerOom bool
}

// Net are the network facts that warnings depend on.
type Net struct {
	IPv4Forwarding, BridgeNfIptables, BridgeNfIP6tables bool
}

// Warnings are what `docker info` prints about missing support, in docker's words.
func (f *Facts) Warnings() []string {
	var w []string
	miss := func(have bool, text string) {
		if !have {
			w = append(w, "WARNING: "+text)
		}
	}
	c, v2 := &f.Cgroup, f.Cgroup.Version == "2"
	miss(c.Memory.Limit, "No memory limit support")
	miss(c.Memory.Swap, "No swap limit support")
	miss(c.Memory.KernelTCP || v2, "No kernel memory TCP limit support")
	miss(c.Memory.OomKillDisable || v2, "No oom kill disable support")
	miss(c.CPU.CFS, "No cpu cfs quota support")
	miss(c.CPU.CFS, "No cpu cfs period support")
	miss(c.CPU.Shares, "No cpu shares support")
	miss(c.CPU.Cpuset, "No cpuset support")
	names := [4]string{"blkio throttle.read_bps_device", "blkio throttle.write_bps_device", "blkio throttle.read_iops_device", "blkio throttle.write_iops_device"}
	if v2 {
		miss(c.Blkio.Weight, "No io.weight support")
		miss(c.Blkio.WeightDevice, "No io.weight (per device) support")
		names = [4]string{"io.max (rbps)", "io.max (wbps)", "io.max (riops)", "io.max (wiops)"}
	}
	for i, have := range []bool{c.Blkio.ReadBps, c.Blkio.WriteBps, c.Blkio.ReadIOps, c.Blkio.WriteIOps} {
		miss(have, "No "+names[i]+" support")
	}
	miss(f.Net.IPv4Forwarding, "IPv4 forwarding is disabled")
	return w
}

// SecurityOptions are the entries of SecurityOptions in `docker info`, in docker's "name=…,key=value" form.
func (f *Facts) SecurityOptions(seccompProfile string, noNewPrivileges, cgroupnsPrivate bool) []string {
	opts := []string{}
	if f.Security.AppArmor {
		opts = append(opts, "name=apparmor")
	}
	if f.Security.Seccomp && seccompProfile != "" {
		opts = append(opts, "name=seccomp,profile="+seccompProfile)
	}
	if f.Cgroup.Namespaces && cgroupnsPrivate {
		opts = append(opts, "name=cgroupns")
	}
	if noNewPrivileges {
		opts = append(opts, "name=no-new-privileges")
	}
	return opts
}
