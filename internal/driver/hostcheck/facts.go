// Package hostcheck finds out what this machine can do: the facts that `docker info` shows and that requests are checked
// against, which OCI runtimes really run a container here and how, and the report of `longshore check`.
package hostcheck

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"longshore/internal/core/host"
)

const cgroupRoot = "/sys/fs/cgroup"

// Gather reads the facts. What cannot be found out counts as missing; an error means that the kernel's own interfaces
// (uname, /proc) are not there.
func Gather() (*host.Facts, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("sysinfo: %w", err)
	}
	f := &host.Facts{
		Kernel: unix.ByteSliceToString(uts.Release[:]), Arch: unix.ByteSliceToString(uts.Machine[:]),
		Hostname: unix.ByteSliceToString(uts.Nodename[:]), OSType: "linux", NCPU: runtime.NumCPU(),
		MemTotal: int64(info.Totalram) * int64(info.Unit),
	}
	f.OS, f.OSVersion = osRelease("/etc/os-release", "/usr/lib/os-release")
	if err := gatherSecurity(&f.Security); err != nil {
		return nil, err
	}
	gatherLimits(&f.Limits, slices.Contains(f.Security.Capabilities, "CAP_SYS_RESOURCE"))
	f.Net = host.Net{
		IPv4Forwarding:    readBool("/proc/sys/net/ipv4/ip_forward"),
		BridgeNfIptables:  readBool("/proc/sys/net/bridge/bridge-nf-call-iptables"),
		BridgeNfIP6tables: readBool("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
	}
	return f, gatherCgroup(&f.Cgroup)
}

// osRelease reads PRETTY_NAME and VERSION_ID from the first file that is there (os-release(5)).
func osRelease(paths ...string) (name, version string) {
	name = "Linux"
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if unquoted, err := strconv.Unquote(value); err == nil {
				value = unquoted
			} else {
				value = strings.Trim(value, "'")
			}
			switch key {
			case "PRETTY_NAME":
				name = value
			case "VERSION_ID":
				version = value
			}
		}
		return name, version
	}
	return name, version
}

func readBool(path string) bool {
	data, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(data)) == "1"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// capNames are the capabilities by number (capabilities(7)).
func capNames() []string {
	return strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID
		CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK
		CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT
		CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL
		CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON
		CAP_BPF CAP_CHECKPOINT_RESTORE`)
}

func gatherSecurity(s *host.Security) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	s.KnownCapabilities = capNames()
	if data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if last, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && last+1 < len(s.KnownCapabilities) {
			s.KnownCapabilities = s.KnownCapabilities[:last+1]
		}
	}
	bits := capBits(status, "CapBnd:")
	for i, name := range s.KnownCapabilities {
		if bits&(1<<i) != 0 {
			s.Capabilities = append(s.Capabilities, name)
		}
	}
	// the filter mode answers EFAULT to a nil program, EINVAL where it is not built in
	s.Seccomp = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0) != unix.EINVAL
	_, err = os.ReadFile("/sys/kernel/security/apparmor/profiles")
	s.AppArmor = err == nil
	s.SELinux = exists("/sys/fs/selinux/enforce")
	return nil
}

func capBits(status []byte, field string) uint64 {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte(field)); ok {
			bits, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			return bits
		}
	}
	return 0
}

// rlimitNames are docker's names of the kernel's resources (asm-generic/resource.h), by number.
func rlimitNames() []string {
	return strings.Fields("cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime")
}

// gatherLimits: a daemon without CAP_SYS_RESOURCE can give no more than it has; one with it is bound by nr_open alone.
func gatherLimits(l *host.Limits, mayRaise bool) {
	l.MayLowerOom = mayRaise
	if data, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		l.OomScoreAdj, _ = strconv.Atoi(strings.TrimSpace(string(data)))
	}
	l.HardRlimits = make(map[string]uint64)
	for resource, name := range rlimitNames() {
		var lim unix.Rlimit
		if unix.Getrlimit(resource, &lim) == nil && lim.Max != unix.RLIM_INFINITY && !mayRaise {
			l.HardRlimits[name] = lim.Max
		}
	}
	if data, err := os.ReadFile("/proc/sys/fs/nr_open"); err == nil && mayRaise {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64); err == nil {
			l.HardRlimits["nofile"] = n
		}
	}
}

func gatherCgroup(c *host.Cgroup) error {
	c.Driver = "cgroupfs"
	c.Namespaces = exists("/proc/self/ns/cgroup")
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		c.Version = "1"
		return nil // nothing is mounted: every controller is missing
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		c.Version = "2"
		gatherCgroup2(c, cgroupRoot)
		return nil
	}
	c.Version = "1"
	mounts, err := v1Mounts()
	if err != nil {
		return err
	}
	gatherCgroup1(c, mounts)
	return nil
}

// v1Mounts maps controllers to the mount points of their hierarchies.
func v1Mounts() (map[string]string, error) {
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	out := make(map[string]string)
	for _, mi := range infos {
		for _, opt := range strings.Split(mi.VFSOptions, ",") {
			if _, taken := out[opt]; !taken {
				out[opt] = mi.Mountpoint
			}
		}
	}
	return out, nil
}

func gatherCgroup1(c *host.Cgroup, mounts map[string]string) {
	has := func(controller, file string) bool {
		dir, ok := mounts[controller]
		return ok && exists(filepath.Join(dir, controller+"."+file))
	}
	_, limit := mounts["memory"]
	c.Memory = host.MemoryCgroup{
		Limit: limit, Swap: has("memory", "memsw.limit_in_bytes"), Reservation: has("memory", "soft_limit_in_bytes"),
		OomKillDisable: has("memory", "oom_control"), Swappiness: has("memory", "swappiness"),
		Kernel: has("memory", "kmem.limit_in_bytes"), KernelTCP: has("memory", "kmem.tcp.limit_in_bytes"),
	}
	c.CPU = host.CPUCgroup{Shares: has("cpu", "shares"), CFS: has("cpu", "cfs_quota_us"), Realtime: has("cpu", "rt_period_us")}
	if dir, ok := mounts["cpuset"]; ok {
		c.CPU.Cpuset = true
		c.CPU.Cpus, c.CPU.Mems = readLine(dir, "cpuset.cpus"), readLine(dir, "cpuset.mems")
	}
	c.Blkio = host.BlkioCgroup{
		Weight:       has("blkio", "weight") || has("blkio", "bfq.weight"),
		WeightDevice: has("blkio", "weight_device") || has("blkio", "bfq.weight_device"),
		ReadBps:      has("blkio", "throttle.read_bps_device"), WriteBps: has("blkio", "throttle.write_bps_device"),
		ReadIOps: has("blkio", "throttle.read_iops_device"), WriteIOps: has("blkio", "throttle.write_iops_device"),
	}
	_, c.Pids = mounts["pids"]
	_, c.Devices = mounts["devices"]
}

func gatherCgroup2(c *host.Cgroup, root string) {
	on := strings.Fields(readLine(root, "cgroup.controllers"))
	memory, io, cpu := slices.Contains(on, "memory"), slices.Contains(on, "io"), slices.Contains(on, "cpu")
	c.Memory = host.MemoryCgroup{Limit: memory, Reservation: memory, Swap: memory && swapAccounting(root)}
	c.CPU = host.CPUCgroup{Shares: cpu, CFS: cpu, Cpuset: slices.Contains(on, "cpuset")}
	if c.CPU.Cpuset {
		c.CPU.Cpus, c.CPU.Mems = readLine(root, "cpuset.cpus.effective"), readLine(root, "cpuset.mems.effective")
	}
	c.Blkio = host.BlkioCgroup{Weight: io, WeightDevice: io, ReadBps: io, WriteBps: io, ReadIOps: io, WriteIOps: io}
	c.Pids = slices.Contains(on, "pids")
	c.Devices = true // by program
}

// swapAccounting looks in the daemon's own group, as the root has no limits; a daemon in the root looks at any child.
func swapAccounting(root string) bool {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if own, ok := strings.CutPrefix(lines.Text(), "0::"); ok && own != "/" {
			return exists(filepath.Join(root, own, "memory.swap.max"))
		}
	}
	children, _ := filepath.Glob(root + "/*/memory.swap.max")
	return len(children) > 0
}

func readLine(dir, file string) string {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
