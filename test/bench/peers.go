package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// daemon is a running engine: ours or dockerd.
type daemon struct {
	socket string
	netns  string
	cmd    *exec.Cmd
}

type bench struct {
	n      int
	dir    string
	ours   *daemon
	docker *daemon // nil where dockerd is not installed
	bundle string
}

func newBench(n int) (*bench, error) {
	dir, err := os.MkdirTemp("/tmp", "longshore-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{n: n, dir: dir}
	self, err := filepath.Abs("bin/longshore")
	if err != nil {
		return nil, err
	}
	if b.ours, err = b.start("ours", self, "engine", "--config-file", "/dev/null"); err != nil {
		b.close()
		return nil, err
	}
	if path, err := exec.LookPath("dockerd"); err == nil {
		if b.docker, err = b.start("dockerd", path, "--config-file", b.emptyConfig(), "--storage-driver", "overlay2"); err != nil {
			fmt.Fprintln(os.Stderr, "bench: dockerd did not start, its column stays empty:", err)
			b.docker = nil
		}
	}
	for _, d := range b.daemons() {
		if out, err := d.busybox(); err != nil {
			b.close()
			return nil, fmt.Errorf("import busybox: %w: %s", err, out)
		}
	}
	return b, b.makeBundle()
}

func (b *bench) emptyConfig() string {
	path := filepath.Join(b.dir, "dockerd.json")
	_ = os.WriteFile(path, []byte("{}"), 0o600) // a missing file shows as dockerd's own error
	return path
}

func (b *bench) daemons() []*daemon {
	if b.docker == nil {
		return []*daemon{b.ours}
	}
	return []*daemon{b.ours, b.docker}
}

// start runs a daemon in a network namespace of its own and waits until it answers.
func (b *bench) start(name, path string, args ...string) (*daemon, error) {
	root := filepath.Join(b.dir, name)
	d := &daemon{socket: filepath.Join(root, "d.sock"), netns: fmt.Sprintf("bench-%s-%d", name, os.Getpid())}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	if out, err := exec.Command("ip", "netns", "add", d.netns).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	_ = exec.Command("ip", "-n", d.netns, "link", "set", "lo", "up").Run()
	log, err := os.Create(filepath.Join(root, "log"))
	if err != nil {
		return nil, err
	}
	args = append(args, "-H", "unix://"+d.socket, "--data-root", root+"/data", "--exec-root", root+"/exec", "--pidfile", root+"/pid")
	if err := d.spawn(append([]string{"nsenter", "--net=/run/netns/" + d.netns, path}, args...), log); err != nil {
		return nil, err
	}
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := d.run("version"); err == nil {
			return d, nil
		}
		select {
		case <-tick.C:
		case <-limit:
			text, _ := os.ReadFile(log.Name())
			d.stop()
			return nil, fmt.Errorf("no answer within 30 s:\n%s", text[max(0, len(text)-2000):])
		}
	}
}

// spawn starts the daemon's process.
func (d *daemon) spawn(argv []string, log io.Writer) error {
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return d.cmd.Start()
}

func (d *daemon) command(args ...string) *exec.Cmd {
	c := exec.Command("docker", args...)
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.socket, "DOCKER_CLI_HINTS=false")
	return c
}

// run runs the docker CLI and answers trimmed standard output.
func (d *daemon) run(args ...string) (string, error) {
	c := d.command(args...)
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, errb.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (d *daemon) busybox() (string, error) {
	c := exec.Command("sh", "-c", "scripts/busybox-image.sh | docker import --change 'CMD [\"sh\"]' --change 'ENV PATH=/bin' - busybox")
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.socket)
	out, err := c.CombinedOutput()
	return string(out), err
}

func (d *daemon) stop() {
	if ids, err := d.run("ps", "-aq"); err == nil && ids != "" {
		_, _ = d.run(append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
	}
	if d.cmd != nil && d.cmd.Process != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		context.AfterFunc(ctx, func() { _ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) })
		_ = d.cmd.Wait()
	}
	_ = exec.Command("ip", "netns", "del", d.netns).Run()
}

func (b *bench) close() {
	for _, d := range []*daemon{b.ours, b.docker} {
		if d != nil {
			d.stop()
		}
	}
	out, _ := exec.Command("sh", "-c", "grep -o '"+b.dir+"[^ ]*' /proc/self/mountinfo | sort -r | uniq").Output()
	for _, m := range strings.Fields(string(out)) {
		_ = syscall.Unmount(m, syscall.MNT_DETACH)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// makeBundle writes the bundle of /bin/true that the bare runtime runs, the same image's content.
func (b *bench) makeBundle() error {
	b.bundle = filepath.Join(b.dir, "bundle")
	root := filepath.Join(b.bundle, "rootfs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("sh", "-c", "scripts/busybox-image.sh | tar x -C "+root).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	c := exec.Command("runc", "spec")
	c.Dir = b.bundle
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("runc spec: %w: %s", err, out)
	}
	path := filepath.Join(b.bundle, "config.json")
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec specs.Spec
	if err := json.Unmarshal(doc, &spec); err != nil {
		return err
	}
	spec.Process.Terminal, spec.Process.Args, spec.Process.Rlimits = false, []string{"/bin/true"}, nil
	if doc, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, doc, 0o600)
}

func (b *bench) machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, %d cores, kernel %s, medians of %d", time.Now().Format("2006-01-02"), runtime.NumCPU(), strings.TrimSpace(string(kernel)), b.n)
}
