package hostcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/runtime"
)

// Runtime is an OCI runtime that has run a container on this machine, and what it was seen to do.
type Runtime struct {
	// Binary is ready for use but for Root, which the engine chooses.
	Binary runtime.Binary
	// BPF: takes a compiled seccomp filter from an annotation.
	BPF bool
	// RecursiveReadOnly: knows the mount option "rro".
	RecursiveReadOnly bool
	// Version is the runtime's own, "1.8.1"; Commit the revision it was built from; either may be empty.
	Version, Commit string
}

// Default chooses the engine's default runtime: crun where it passes (with cgroups made by the engine it starts a
// container in a third of runc's time), else runc. Answers are kept in cacheFile ("" keeps none), so that a daemon's
// start runs no container unless a binary, the kernel or the boot has changed.
func Default(ctx context.Context, cacheFile string) (Runtime, error) {
	var errs []error
	for _, name := range []string{"crun", "runc"} {
		r, err := Probe(ctx, runtime.Binary{Name: name, Path: name}, cacheFile)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	return Runtime{}, fmt.Errorf("no OCI runtime runs a container here: %w", errors.Join(errs...))
}

// Probe runs a trivial container with the runtime and finds out how it has to be called. b.Path may be a bare name.
func Probe(ctx context.Context, b runtime.Binary, cacheFile string) (Runtime, error) {
	path, err := exec.LookPath(b.Path)
	if err != nil {
		return Runtime{}, fmt.Errorf("runtime %s: %w", b.Name, err)
	}
	if b.Path, err = filepath.Abs(path); err != nil {
		return Runtime{}, err
	}
	key, err := probeKey(b)
	if err != nil {
		return Runtime{}, fmt.Errorf("runtime %s: %w", b.Name, err)
	}
	cache := readCache(cacheFile)
	if r, ok := cache[key]; ok {
		r.Binary.Name = b.Name
		return r, nil
	}
	r, err := probeVariants(ctx, b)
	if err != nil {
		return Runtime{}, fmt.Errorf("runtime %s: %w", b.Name, err)
	}
	_, r.Version, r.Commit = Version(ctx, b.Path)
	cache[key] = r
	return r, writeCache(cacheFile, cache)
}

// probeVariants tries crun without its own cgroups first, then hidden from a v2 mount it would refuse; anything else as
// it is. A runtime that takes filters is preferred to run with them; "rro" is tried last.
func probeVariants(ctx context.Context, b runtime.Binary) (Runtime, error) {
	variants := []runtime.Binary{b}
	if isCrun(ctx, b.Path) {
		b.NoCgroup = true
		hidden := b
		hidden.HideMounts = []string{cgroupRoot + "/unified"}
		variants = []runtime.Binary{b, hidden}
	}
	var errs []error
	for _, v := range variants {
		code, err := runTrivial(ctx, v, true)
		rro := err == nil
		if err != nil { // maybe just "rro" is unknown
			code, err = runTrivial(ctx, v, false)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return Runtime{Binary: v, BPF: code == filtered, RecursiveReadOnly: rro}, nil
	}
	return Runtime{}, errors.Join(errs...)
}

func isCrun(ctx context.Context, path string) bool {
	name, _, _ := Version(ctx, path)
	return name == "crun"
}

// Version asks a runtime for its name, version and commit; what it does not tell stays empty.
func Version(ctx context.Context, path string) (name, version, commit string) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", ""
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if n, v, ok := strings.Cut(line, " version "); ok && name == "" {
			name, version = n, v
		}
		if c, ok := strings.CutPrefix(line, "commit: "); ok {
			commit = c
		}
	}
	return name, version, commit
}

// filtered is the exit status of the trivial container when the filter was in force.
const filtered = 42

// runTrivial runs trivialELF to its end. Without a filter it ends with 0.
func runTrivial(ctx context.Context, b runtime.Binary, rro bool) (int, error) {
	dir, err := os.MkdirTemp("", "longshore-probe")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := writeBundle(dir, rro); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var args []string
	if b.NoCgroup {
		args = append(args, "--cgroup-manager=disabled")
	}
	args = append(append(args, b.Args...), "--root", filepath.Join(dir, "state"))
	id := filepath.Base(dir)
	cmd := exec.CommandContext(ctx, b.Path, append(args, "run", "--bundle", dir, id)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := startHidden(cmd, b.HideMounts); err != nil {
		return 0, err
	}
	err = cmd.Wait()
	_ = exec.CommandContext(context.WithoutCancel(ctx), b.Path, append(args, "delete", "--force", id)...).Run() // after a failure
	if code := cmd.ProcessState.ExitCode(); code == 0 || code == filtered {
		return code, nil
	}
	return 0, fmt.Errorf("%w: %s", err, strings.TrimSpace(out.String()))
}

// startHidden starts the command from a thread that does not see the given mounts. The thread is never unlocked, so that
// it ends with the goroutine instead of being used for something else.
func startHidden(cmd *exec.Cmd, hide []string) error {
	if len(hide) == 0 {
		return cmd.Start()
	}
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("unshare mounts: %w", err)
			}
			for _, path := range hide {
				_ = unix.Mount("", filepath.Dir(path), "", unix.MS_PRIVATE, "") // EINVAL: not a mount, cannot propagate
				if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("hide %s: %w", path, err)
				}
			}
			return cmd.Start()
		}()
	}()
	return <-done
}

// writeBundle makes the root filesystem and the specification, with everything that has been seen to fail somewhere.
func writeBundle(dir string, rro bool) error {
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"proc", "sys", "dev", "bound"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	elf, filter, err := trivial()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "probe"), elf, 0o755); err != nil {
		return err
	}
	readOnly := "ro"
	if rro {
		readOnly = "rro"
	}
	none := []string{"nosuid", "noexec", "nodev"}
	spec := specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Args: []string{"/probe"}, Cwd: "/", Env: []string{"PATH=/"},
			Capabilities: &specs.LinuxCapabilities{},
		},
		Root:        &specs.Root{Path: root},
		Hostname:    "probe",
		Annotations: map[string]string{"run.oci.seccomp_bpf_data": filter},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: none},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"ro"}, none...)},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: append([]string{"ro"}, none...)},
			{Destination: "/bound", Type: "bind", Source: dir, Options: []string{"rbind", readOnly, "rprivate"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + filepath.Base(dir),
			Resources:   &specs.LinuxResources{},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.NetworkNamespace},
			},
		},
	}
	data, err := json.Marshal(&spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
}

// probeKey changes when the binary, its arguments, the kernel or the boot (and so the mounted hierarchies) change.
func probeKey(b runtime.Binary) (string, error) {
	st, err := os.Stat(b.Path)
	if err != nil {
		return "", err
	}
	boot := readLine("/proc/sys/kernel/random", "boot_id")
	controllers := readLine(cgroupRoot, "unified/cgroup.controllers")
	return strings.Join([]string{
		b.Path, strings.Join(b.Args, " "), strconv.FormatInt(st.ModTime().UnixNano(), 10), strconv.FormatInt(st.Size(), 10), boot, controllers,
	}, "|"), nil
}

// readCache reads earlier answers; a file that is missing or damaged is as good as empty.
func readCache(path string) map[string]Runtime {
	cache := make(map[string]Runtime)
	if data, err := os.ReadFile(path); err != nil || json.Unmarshal(data, &cache) != nil {
		return make(map[string]Runtime)
	}
	return cache
}

// maxCached bounds the file: keys of earlier boots are never asked for again.
const maxCached = 16

func writeCache(path string, cache map[string]Runtime) error {
	if path == "" {
		return nil
	}
	boot := readLine("/proc/sys/kernel/random", "boot_id")
	for key := range cache {
		if len(cache) > maxCached && !strings.Contains(key, boot) {
			delete(cache, key)
		}
	}
	data, err := json.Marshal(cache)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("keep runtime probe: %w", err)
	}
	return os.Rename(tmp, path)
}
