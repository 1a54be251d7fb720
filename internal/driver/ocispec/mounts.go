package ocispec

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// Mount is one resolved mount of a container: volumes are mounted, anonymous ones named, --volumes-from read.
type Mount struct {
	// Type is bind, volume, image (all three: a host directory or file is bound) or tmpfs.
	Type mount.Type
	// Source is the absolute host path; not used by tmpfs.
	Source string
	// Target is the absolute path inside the container.
	Target      string
	ReadOnly    bool
	Propagation mount.Propagation
	// SoftPropagation makes the mount private where Source lies on a mount that cannot spread as Propagation says.
	SoftPropagation bool
	// NonRecursive leaves mounts below Source out. ReadOnlyNonRecursive and ReadOnlyForceRecursive as in BindOptions.
	NonRecursive, ReadOnlyNonRecursive, ReadOnlyForceRecursive bool
	// TmpfsOptions are mount options of a tmpfs, "size=64m,mode=1770" (HostConfig.Tmpfs, or TmpfsData).
	TmpfsOptions string
}

// setMounts lists docker's file systems, then the container's own mounts by depth, then the files of its network.
func setMounts(s *specs.Spec, in *Input, sec Security) error {
	user := slices.Clone(in.Mounts)
	targets := make(map[string]bool, len(user))
	for i := range user {
		user[i].Target = filepath.Clean(user[i].Target)
		targets[user[i].Target] = true
	}
	for _, m := range systemMounts(in, sec) {
		if targets[m.Destination] || targets["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		s.Mounts = append(s.Mounts, m)
	}
	user = append(user, fileMounts(in, targets)...)
	slices.SortStableFunc(user, func(a, b Mount) int { return depth(a.Target) - depth(b.Target) })
	for i := range user {
		m, err := userMount(s, in, &user[i])
		if err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, m)
	}
	if wantsInit(in) {
		if in.Defaults.InitPath == "" {
			return fault.Invalid("docker-init: executable file not found in $PATH")
		}
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: initInContainer, Type: "bind", Source: in.Defaults.InitPath, Options: []string{"bind", "ro"},
		})
	}
	return nil
}

func depth(path string) int {
	if path == "/" {
		return 0
	}
	return strings.Count(path, "/")
}

// systemMounts are the file systems of every container.
func systemMounts(in *Input, sec Security) []specs.Mount {
	hc := in.HostConfig
	m := func(dst, kind, src string, opts ...string) specs.Mount {
		return specs.Mount{Destination: dst, Type: kind, Source: src, Options: opts}
	}
	sys := m("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev")
	cgroup := m("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev")
	if !hc.Privileged {
		sys.Options = append(sys.Options, "ro")
	}
	if w := sec.WritableCgroups; w != nil && !*w || w == nil && !hc.Privileged {
		cgroup.Options = append(cgroup.Options, "ro")
	}
	mounts := []specs.Mount{
		m("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
		m("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
		m("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
		sys, cgroup,
		m("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
	}
	switch {
	case hc.IpcMode.IsNone():
	case in.Files.Shm != "":
		mounts = append(mounts, m("/dev/shm", "bind", in.Files.Shm, "rbind", "rprivate"))
	default:
		mounts = append(mounts, m("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size="+strconv.FormatInt(shmSize(hc.ShmSize), 10)))
	}
	return mounts
}

// shmSize: docker's default is 64 MiB.
func shmSize(asked int64) int64 {
	if asked <= 0 {
		return 64 << 20
	}
	return asked
}

// fileMounts bind the files of the network stack, unless the client mounts something there; they cannot be written in a
// container whose root cannot.
func fileMounts(in *Input, taken map[string]bool) []Mount {
	var out []Mount
	for _, f := range [...]struct{ src, dst string }{
		{in.Files.Resolv, "/etc/resolv.conf"}, {in.Files.Hostname, "/etc/hostname"}, {in.Files.Hosts, "/etc/hosts"},
	} {
		if f.src != "" && !taken[f.dst] {
			out = append(out, Mount{Type: mount.TypeBind, Source: f.src, Target: f.dst, ReadOnly: in.HostConfig.ReadonlyRootfs, Propagation: mount.PropagationRPrivate})
		}
	}
	return out
}

// userMount translates one mount of the container.
func userMount(s *specs.Spec, in *Input, m *Mount) (specs.Mount, error) {
	if m.Type == mount.TypeTmpfs {
		return tmpfsMount(m)
	}
	out := specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: []string{"rbind"}}
	if m.NonRecursive {
		out.Options[0] = "bind"
	}
	if m.ReadOnly {
		ro := "rro"
		if m.ReadOnlyNonRecursive && m.ReadOnlyForceRecursive {
			return out, fault.Invalid("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
		}
		if m.ReadOnlyNonRecursive || in.Defaults.NoRecursiveReadOnly || !isDir(m.Source) {
			ro = "ro"
		}
		if m.ReadOnlyForceRecursive && in.Defaults.NoRecursiveReadOnly {
			return out, fault.Invalid("runtime %q does not support recursive read-only mounts", in.HostConfig.Runtime)
		}
		out.Options = append(out.Options, ro)
	}
	for _, o := range hostFlags(m.Source) {
		if !slices.Contains(out.Options, o) && (o != "ro" || !m.ReadOnly) {
			out.Options = append(out.Options, o)
		}
	}
	prop := m.Propagation
	if prop == "" {
		prop = mount.PropagationRPrivate
	}
	switch err := setRootPropagation(s, m.Source, prop); {
	case err != nil && m.SoftPropagation:
		prop = mount.PropagationRPrivate
	case err != nil:
		return out, err
	}
	if m.NonRecursive { // there is nothing below it to spread to, and crun takes the "r" for the bind's own
		prop = mount.Propagation(strings.TrimPrefix(string(prop), "r"))
	}
	out.Options = append(out.Options, string(prop))
	return out, nil
}

// hostFlags are the restrictions of the mount that the source lies on. crun clears what it is not told.
func hostFlags(source string) (opts []string) {
	var st unix.Statfs_t
	if unix.Statfs(source, &st) != nil {
		return nil
	}
	for _, f := range [...]struct {
		bit  int64
		name string
	}{{unix.ST_RDONLY, "ro"}, {unix.ST_NOSUID, "nosuid"}, {unix.ST_NODEV, "nodev"}, {unix.ST_NOEXEC, "noexec"}} {
		if st.Flags&f.bit != 0 {
			opts = append(opts, f.name)
		}
	}
	return opts
}

// isDir: nothing can be mounted below a file, and crun refuses to make one read-only recursively.
func isDir(path string) bool {
	st, err := os.Stat(path)
	return err != nil || st.IsDir()
}

// setRootPropagation widens the propagation of the container's root for the sake of one mount, after checking that the
// source really lies on a mount which can propagate.
func setRootPropagation(s *specs.Spec, source string, p mount.Propagation) error {
	root := s.Linux.RootfsPropagation
	switch p {
	case mount.PropagationShared, mount.PropagationRShared:
		if err := checkPropagation(source, "shared"); err != nil {
			return err
		}
		s.Linux.RootfsPropagation = "shared"
	case mount.PropagationSlave, mount.PropagationRSlave:
		if err := checkPropagation(source, "shared", "master"); err != nil {
			return err
		}
		if root != "shared" {
			s.Linux.RootfsPropagation = "rslave"
		}
	}
	return nil
}

// tmpfsMount joins docker's defaults with the client's options: of two that contradict each other the last one counts.
func tmpfsMount(m *Mount) (specs.Mount, error) {
	opts := []string{"noexec", "nosuid", "nodev", "rprivate"}
	if m.TmpfsOptions != "" {
		opts = append(opts, strings.Split(m.TmpfsOptions, ",")...)
	}
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	merged, err := mergeTmpfs(opts)
	if err != nil {
		return specs.Mount{}, fault.Invalid("%w", err)
	}
	return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: merged}, nil
}

// tmpfsFlag names the thing that a flag switches, so that "exec" and "noexec" are seen to be one; unknown flags have none.
var tmpfsFlag = map[string]string{
	"defaults": "defaults", "ro": "rw", "rw": "rw", "suid": "suid", "nosuid": "suid", "dev": "dev", "nodev": "dev",
	"exec": "exec", "noexec": "exec", "sync": "sync", "async": "sync", "dirsync": "dirsync", "remount": "remount",
	"mand": "mand", "nomand": "mand", "atime": "atime", "noatime": "atime", "diratime": "diratime", "nodiratime": "diratime",
	"bind": "bind", "rbind": "bind", "unbindable": "propagation", "runbindable": "propagation", "private": "propagation",
	"rprivate": "propagation", "shared": "propagation", "rshared": "propagation", "slave": "propagation",
	"rslave": "propagation", "relatime": "relatime", "norelatime": "relatime", "strictatime": "strictatime",
	"nostrictatime": "strictatime",
}

// mergeTmpfs keeps the last option of each kind, in the order given, and refuses what tmpfs does not know.
func mergeTmpfs(opts []string) ([]string, error) {
	var out []string
	seen := make(map[string]bool)
	for _, opt := range slices.Backward(opts) {
		name, _, valued := strings.Cut(opt, "=")
		key, flag := tmpfsFlag[opt]
		switch {
		case flag:
		case valued && slices.Contains([]string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}, name):
			key = name
		case valued:
			return nil, errors.New("invalid tmpfs option [\"" + name + "\" \"" + opt + "\"]")
		default:
			return nil, errors.New("invalid tmpfs option \"" + opt + "\"")
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, opt)
		}
	}
	slices.Reverse(out)
	return out, nil
}
