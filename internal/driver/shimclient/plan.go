package shimclient

import (
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

// ground is what lets a shim start plain execs of a container without the OCI runtime (docs/decisions/0015). It is noted
// when the container starts: what is asked for later may differ from what it was started with.
type ground struct {
	// Filter is the file of the compiled seccomp filter; empty: the container has none.
	Filter string `json:",omitempty"`
	// SharesPIDs: the container has no pid namespace of its own, so that orphans become the shim's. Older daemons did not say.
	SharesPIDs bool `json:",omitempty"`
}

// seccompAnnotation is how crun is handed a compiled filter, which it keeps beside its state and gives to each exec.
const (
	seccompAnnotation = "run.oci.seccomp_bpf_data"
	seccompFile       = "seccomp.bpf"
)

// groundOf is nil where execs are the runtime's.
func groundOf(l *runtime.Launch) *ground {
	s, b := l.Spec, l.Runtime
	if filepath.Base(b.Path) != "crun" || b.Root == "" || len(b.Args) > 0 || !b.NoCgroup || len(l.CgroupDirs) == 0 {
		return nil
	}
	if l.StdioUID != 0 || l.StdioGID != 0 || s == nil || s.Linux == nil || s.Process == nil || s.VM != nil {
		return nil
	}
	x := s.Linux
	if len(x.UIDMappings) > 0 || len(x.GIDMappings) > 0 || len(x.TimeOffsets) > 0 || x.Seccomp != nil || x.IntelRdt != nil ||
		x.Personality != nil || x.MountLabel != "" {
		return nil
	}
	has := map[specs.LinuxNamespaceType]bool{}
	for _, n := range x.Namespaces {
		has[n.Type] = true
	}
	if has[specs.UserNamespace] || has[specs.TimeNamespace] || !has[specs.MountNamespace] {
		return nil
	}
	if traces(s.Process.Capabilities) {
		return nil
	}
	g := &ground{SharesPIDs: sharesPIDs(s)}
	for key := range s.Annotations {
		switch {
		case key == seccompAnnotation:
			g.Filter = filepath.Join(b.Root, l.ID, seccompFile)
		case strings.HasPrefix(key, "run.oci.") || strings.HasPrefix(key, "module.wasm."):
			return nil
		}
	}
	return g
}

// traces: processes of the container can trace others without being as good as root of the host.
func traces(c *specs.LinuxCapabilities) bool {
	return c != nil && slices.Contains(c.Bounding, "CAP_SYS_PTRACE") && !slices.Contains(c.Bounding, "CAP_SYS_ADMIN")
}

// maxDocument bounds what goes through the control connection; longer ones go through a file.
const maxDocument = 256 << 10

// planOf translates a process; nil where only the runtime can start it. document is its JSON.
func planOf(g *ground, p *specs.Process, document []byte) *shimproto.Plan {
	if g == nil || p.Terminal || p.Capabilities == nil || len(p.Args) == 0 || p.CommandLine != "" || p.ApparmorProfile != "" ||
		p.SelinuxLabel != "" || p.Scheduler != nil || p.IOPriority != nil || p.ExecCPUAffinity != nil || p.User.Username != "" ||
		len(document) > maxDocument || !plain(p.Args, p.Env) {
		return nil
	}
	x := &shimproto.Plan{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids, Umask: 0o022,
		NoNewPrivileges: p.NoNewPrivileges, Filter: g.Filter, Document: string(document),
	}
	if p.User.Umask != nil {
		x.Umask = *p.User.Umask
	}
	if p.OOMScoreAdj != nil {
		x.SetScore, x.Score = true, *p.OOMScoreAdj
	}
	for _, set := range []struct {
		to    *uint64
		names []string
	}{
		{&x.Caps.Bounding, p.Capabilities.Bounding}, {&x.Caps.Effective, p.Capabilities.Effective},
		{&x.Caps.Permitted, p.Capabilities.Permitted}, {&x.Caps.Inheritable, p.Capabilities.Inheritable},
		{&x.Caps.Ambient, p.Capabilities.Ambient},
	} {
		for _, name := range set.names {
			n, ok := capNumbers[name]
			if !ok {
				return nil
			}
			*set.to |= 1 << n
		}
	}
	for _, l := range p.Rlimits {
		n, ok := rlimitNumbers[l.Type]
		if !ok {
			return nil
		}
		x.Rlimits = append(x.Rlimits, shimproto.Rlimit{Resource: n, Soft: l.Soft, Hard: l.Hard})
	}
	return x
}

// plain: strings that the kernel and the runtime read alike.
func plain(args, env []string) bool {
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return false
		}
	}
	for _, e := range env {
		if strings.ContainsRune(e, 0) || strings.IndexByte(e, '=') < 1 {
			return false
		}
	}
	return args[0] != ""
}

var rlimitNumbers = map[string]int{
	"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_STACK": unix.RLIMIT_STACK,
	"RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
}

var capNumbers = map[string]int{
	"CAP_CHOWN": unix.CAP_CHOWN, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	"CAP_FOWNER": unix.CAP_FOWNER, "CAP_FSETID": unix.CAP_FSETID, "CAP_KILL": unix.CAP_KILL, "CAP_SETGID": unix.CAP_SETGID,
	"CAP_SETUID": unix.CAP_SETUID, "CAP_SETPCAP": unix.CAP_SETPCAP, "CAP_LINUX_IMMUTABLE": unix.CAP_LINUX_IMMUTABLE,
	"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "CAP_NET_BROADCAST": unix.CAP_NET_BROADCAST, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN,
	"CAP_NET_RAW": unix.CAP_NET_RAW, "CAP_IPC_LOCK": unix.CAP_IPC_LOCK, "CAP_IPC_OWNER": unix.CAP_IPC_OWNER,
	"CAP_SYS_MODULE": unix.CAP_SYS_MODULE, "CAP_SYS_RAWIO": unix.CAP_SYS_RAWIO, "CAP_SYS_CHROOT": unix.CAP_SYS_CHROOT,
	"CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_SYS_PACCT": unix.CAP_SYS_PACCT, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
	"CAP_SYS_BOOT": unix.CAP_SYS_BOOT, "CAP_SYS_NICE": unix.CAP_SYS_NICE, "CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE,
	"CAP_SYS_TIME": unix.CAP_SYS_TIME, "CAP_SYS_TTY_CONFIG": unix.CAP_SYS_TTY_CONFIG, "CAP_MKNOD": unix.CAP_MKNOD, "CAP_LEASE": unix.CAP_LEASE,
	"CAP_AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "CAP_AUDIT_CONTROL": unix.CAP_AUDIT_CONTROL, "CAP_SETFCAP": unix.CAP_SETFCAP,
	"CAP_MAC_OVERRIDE": unix.CAP_MAC_OVERRIDE, "CAP_MAC_ADMIN": unix.CAP_MAC_ADMIN, "CAP_SYSLOG": unix.CAP_SYSLOG,
	"CAP_WAKE_ALARM": unix.CAP_WAKE_ALARM, "CAP_BLOCK_SUSPEND": unix.CAP_BLOCK_SUSPEND, "CAP_AUDIT_READ": unix.CAP_AUDIT_READ,
	"CAP_PERFMON": unix.CAP_PERFMON, "CAP_BPF": unix.CAP_BPF, "CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
}
