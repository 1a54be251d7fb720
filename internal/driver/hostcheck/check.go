package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	units "github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/cgroup"
	"longshore/internal/core/host"
	"longshore/internal/core/runtime"
)

// Options of Run.
type Options struct {
	// DataRoot is where the engine would keep its data; it need not exist (its nearest parent is used).
	DataRoot string
	// Runtimes to probe; none means crun and runc, of which one suffices.
	Runtimes []runtime.Binary
	// Cgroups makes a group for the test; nil only looks at what is mounted.
	Cgroups cgroup.Manager
	// Shim is the path of longshore-shim; "" leaves it out.
	Shim string
}

// ErrFailed is what Run returns when a check has failed; the report has said which.
var ErrFailed = errors.New("this machine lacks something that containers need; see the lines with FAIL")

// check is one line of the report: what was found, or an error and what to do about it.
type check struct {
	name string
	run  func(context.Context) (string, error)
	todo string
}

// Run checks by doing: namespaces are entered, an overlay is mounted, a rule set is written (in a network namespace of its
// own), containers are run. It writes one line per check, "ok   name  detail" or "FAIL name  problem: what to do", and
// removes all it made.
func Run(ctx context.Context, w io.Writer, o Options) error {
	facts, err := Gather()
	if err != nil {
		return err
	}
	failed := false
	for _, c := range checks(facts, o) {
		detail, err := c.run(ctx)
		line := fmt.Sprintf("ok   %-11s %s\n", c.name, detail)
		if err != nil {
			failed = true
			line = fmt.Sprintf("FAIL %-11s %s: %s\n", c.name, oneLine(err), c.todo)
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if failed {
		return ErrFailed
	}
	return nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func checks(f *host.Facts, o Options) []check {
	root := existingParent(o.DataRoot)
	list := []check{
		{"root", checkRoot, "run it as root"},
		{"kernel", func(context.Context) (string, error) { return checkKernel(f) }, "use a kernel from 5.4 on"},
		{"namespaces", checkNamespaces, "use a kernel built with CONFIG_NAMESPACES and the pid, net, ipc, uts and cgroup ones"},
		{"cgroups", func(ctx context.Context) (string, error) { return checkCgroups(ctx, f, o.Cgroups) }, "mount the missing controllers below /sys/fs/cgroup (systemd does it at boot; else: apt-get install cgroupfs-mount) and see that the kernel's command line has no cgroup_disable="},
		{"seccomp", func(context.Context) (string, error) { return checkSeccomp(f) }, "use a kernel built with CONFIG_SECCOMP_FILTER"},
		{"overlayfs", func(context.Context) (string, error) { return checkOverlay(root) }, "modprobe overlay, or put --data-root on ext4, xfs (ftype=1) or btrfs"},
		{"nftables", checkNftables, "modprobe nf_tables (CONFIG_NF_TABLES, CONFIG_NFT_NAT)"},
		{"bridge", checkBridge, "modprobe bridge veth (CONFIG_BRIDGE, CONFIG_VETH)"},
		{"disk", func(context.Context) (string, error) { return checkDisk(root) }, "free some space, or choose another --data-root"},
	}
	if o.Shim != "" {
		list = append(list, check{"shim", func(context.Context) (string, error) { return checkShim(o.Shim) }, "install longshore-shim beside longshore (make build leaves both in bin/)"})
	}
	if len(o.Runtimes) == 0 {
		return append(list, check{"runtime", checkDefaultRuntime, "apt-get install runc (or crun)"})
	}
	for _, b := range o.Runtimes {
		list = append(list, check{"runtime", func(ctx context.Context) (string, error) {
			r, err := Probe(ctx, b, "")
			return r.describe(), err
		}, "install it, or correct --add-runtime"})
	}
	return list
}

// existingParent is the nearest directory that is there.
func existingParent(dir string) string {
	if dir == "" {
		dir = "/var/lib"
	}
	for !exists(dir) && dir != "/" && dir != "." {
		dir = filepath.Dir(dir)
	}
	return dir
}

func checkRoot(context.Context) (string, error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("running as uid %d", os.Geteuid())
	}
	return "uid 0", nil
}

func checkKernel(f *host.Facts) (string, error) {
	var major, minor int
	if _, err := fmt.Sscanf(f.Kernel, "%d.%d", &major, &minor); err != nil {
		return "", fmt.Errorf("unknown release %q", f.Kernel)
	}
	if major < 5 || major == 5 && minor < 4 {
		return "", fmt.Errorf("release %s is too old", f.Kernel)
	}
	return f.Kernel + " " + f.Arch, nil
}

func checkSeccomp(f *host.Facts) (string, error) {
	if !f.Security.Seccomp {
		return "", errors.New("filters are not supported")
	}
	return "filters are supported", nil
}

func checkShim(path string) (string, error) {
	if err := unix.Access(path, unix.X_OK); err != nil {
		return "", &os.PathError{Op: "execute", Path: path, Err: err}
	}
	return path, nil
}

func checkDefaultRuntime(ctx context.Context) (string, error) {
	r, err := Default(ctx, "")
	return r.describe(), err
}

func (r *Runtime) describe() string {
	text := strings.TrimSpace(fmt.Sprintf("%s %s (%s) ran a container", r.Binary.Name, r.Version, r.Binary.Path))
	if r.Binary.NoCgroup {
		text += ", cgroups by the engine"
	}
	if r.BPF {
		text += ", ready-made seccomp filters"
	}
	return text
}

// minFree is what an engine needs to be of any use: the room for a few images.
const minFree = 1 << 30

func checkDisk(root string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return "", &os.PathError{Op: "statfs", Path: root, Err: err}
	}
	free := st.Bavail * uint64(st.Bsize)
	if free < minFree {
		return "", fmt.Errorf("%s has only %s left", root, units.HumanSize(float64(free)))
	}
	if st.Files > 0 && st.Ffree < 10_000 {
		return "", fmt.Errorf("%s has only %d inodes left", root, st.Ffree)
	}
	return fmt.Sprintf("%s free on %s", units.HumanSize(float64(free)), root), nil
}

// checkCgroups wants the controllers that docker's limits need and makes a group with them.
func checkCgroups(ctx context.Context, f *host.Facts, m cgroup.Manager) (string, error) {
	c := &f.Cgroup
	var missing []string
	for _, have := range []struct {
		name string
		ok   bool
	}{{"memory", c.Memory.Limit}, {"cpu", c.CPU.Shares}, {"cpuset", c.CPU.Cpuset}, {"pids", c.Pids}, {"devices", c.Devices}} {
		if !have.ok {
			missing = append(missing, have.name)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("version %s without %s", c.Version, strings.Join(missing, ", "))
	}
	detail := "version " + c.Version + ": memory, cpu, cpuset, pids, devices"
	if c.Blkio.ReadBps {
		detail += ", block I/O"
	}
	if !c.Memory.Swap {
		detail += "; no swap limit"
	}
	if m == nil {
		return detail, nil
	}
	limit := int64(10)
	g, err := m.Create(ctx, fmt.Sprintf("/longshore-check-%d", os.Getpid()), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}})
	if err != nil {
		return "", err
	}
	return detail, g.Remove(context.WithoutCancel(ctx))
}
