// Package shimclient runs containers through longshore-shim processes. It implements core/runtime.
//
// A run has a directory: Spawn writes the OCI bundle and the launch record into it, listens on the shim's socket there,
// and starts the shim with that socket and one end of a control connection. Each Process keeps one control connection;
// an attach or exec stream has a connection of its own. A daemon that is killed loses connections, nothing else: a
// later one reads the launch record and connects again (Adopt), or finds the exit record.
package shimclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/cgroup"
	"longshore/internal/core/runtime"
)

// Client starts and finds shims.
type Client struct {
	shim program
	log  *slog.Logger
	// checks runs health checks
	checks checker

	mu     sync.Mutex // guards what follows
	live   map[*process]struct{}
	closed bool
}

var _ runtime.Runtime = (*Client)(nil)

// New makes a client that spawns the program at shimPath.
func New(shimPath string, log *slog.Logger) *Client {
	c := &Client{shim: program{path: shimPath}, log: log, live: map[*process]struct{}{}}
	c.checks.shim, c.checks.log = &c.shim, log
	return c
}

// Close gives up all connections and waits for their readers. Containers go on; waiters get ErrUnavailable.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	var all []*process
	for p := range c.live {
		all = append(all, p)
	}
	c.mu.Unlock()
	for _, p := range all {
		p.release()
	}
	for _, p := range all {
		<-p.ended
	}
	c.checks.close()
	c.shim.close()
	return nil
}

// Spawn implements runtime.Runtime.
func (c *Client) Spawn(ctx context.Context, l runtime.Launch) (runtime.Process, error) {
	if err := check(&l); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.Log.Path != "" {
		if err := os.MkdirAll(filepath.Dir(l.Log.Path), 0o700); err != nil {
			return nil, fmt.Errorf("make log directory of container %s: %w", l.ID, err)
		}
	}
	listener, err := c.claim(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("spawn shim of container %s: %w", l.ID, err)
	}
	defer unix.Close(listener)
	if err := writeBundle(l); err != nil {
		return nil, fmt.Errorf("write bundle of container %s: %w", l.ID, err)
	}
	p, err := c.fork(l, listener)
	if err != nil {
		return nil, fmt.Errorf("spawn shim of container %s: %w", l.ID, err)
	}
	return p, nil
}

func check(l *runtime.Launch) error {
	switch {
	case l.ID == "" || strings.ContainsAny(l.ID, "/\x00") || l.ID == "." || l.ID == "..":
		return fmt.Errorf("launch with ID %q: %w", l.ID, errdefs.ErrInvalidArgument)
	case !filepath.IsAbs(l.Dir) || !filepath.IsAbs(l.Runtime.Path):
		return fmt.Errorf("launch of %s: directory %q and runtime %q must be absolute: %w", l.ID, l.Dir, l.Runtime.Path, errdefs.ErrInvalidArgument)
	case l.Spec == nil || l.Spec.Process == nil:
		return fmt.Errorf("launch of %s without a specification: %w", l.ID, errdefs.ErrInvalidArgument)
	}
	return nil
}

// claim makes the run directory and listens in it. What a dead run left there is cleaned first.
func (c *Client) claim(ctx context.Context, l runtime.Launch) (int, error) {
	err := os.Mkdir(l.Dir, 0o711)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(l.Dir, 0o711)
	} else if errors.Is(err, fs.ErrExist) {
		if c.alive(l.Dir) {
			return -1, fmt.Errorf("shim in %s lives: %w", l.Dir, errdefs.ErrAlreadyExists)
		}
		if _, serr := os.Stat(filepath.Join(l.Dir, launchName)); serr == nil {
			if err := c.clean(ctx, l); err != nil {
				return -1, err
			}
		}
		err = os.MkdirAll(l.Dir, 0o711)
	}
	if err != nil {
		return -1, err
	}
	fd, err := listen(l.Dir)
	if errors.Is(err, unix.EADDRINUSE) { // a socket file without a launch record: the daemon died between the two
		if c.alive(l.Dir) {
			return -1, fmt.Errorf("shim in %s lives: %w", l.Dir, errdefs.ErrAlreadyExists)
		}
		os.Remove(filepath.Join(l.Dir, shimproto.SocketName))
		fd, err = listen(l.Dir)
	}
	return fd, err
}

// alive tells whether a shim listens in dir.
func (c *Client) alive(dir string) bool {
	conn, err := dial(dir, shimproto.Preface{Purpose: shimproto.ControlConn})
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// fork starts the shim with our listening socket and a control connection on which its configuration waits.
func (c *Client) fork(l runtime.Launch, listener int) (*process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[1])
	conn := os.NewFile(uintptr(pair[0]), "shim")
	setup := shimproto.Frame{Kind: shimproto.Setup, Payload: config(l).Encode()}
	if err := setup.Write(conn); err != nil {
		conn.Close()
		return nil, err
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer unix.Close(null)
	report, err := unix.Open(filepath.Join(l.Dir, shimproto.PanicName), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer unix.Close(report)
	pid := 0
	err = c.shim.use(func(path string) (err error) {
		pid, err = syscall.ForkExec(path, []string{"longshore-shim", l.ID}, &syscall.ProcAttr{
			Dir: "/",
			Env: environment(),
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(report),
				shimproto.ControlFD: uintptr(pair[1]), shimproto.ListenFD: uintptr(listener)},
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
		return err
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	p, err := c.connect(l, conn, pid)
	if err == nil {
		p.stands(groundOf(&l))
	}
	return p, err
}

// environment is ours without what speaks to this very process or tunes its Go runtime, which is set for a shim.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
			"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR":
		default:
			env = append(env, v)
		}
	}
	return append(env, "GOMAXPROCS=1") // see the shim's package comment
}

// config translates a launch into what the shim is told.
func config(l runtime.Launch) *shimproto.Config {
	return &shimproto.Config{
		ID: l.ID, Dir: l.Dir,
		Runtime:    commandLine(l.Runtime),
		CgroupDirs: l.CgroupDirs,
		HideMounts: l.Runtime.HideMounts,
		OOMFiles:   oomFiles(l),
		Terminal:   l.Terminal, Stdin: l.Stdin, StdinOnce: l.StdinOnce,
		KillAll: sharesPIDs(l.Spec),
		Height:  uint16(l.ConsoleHeight), Width: uint16(l.ConsoleWidth),
		UID: l.StdioUID, GID: l.StdioGID, Restore: l.Restore,
		LogDriver: l.Log.Driver, LogPath: l.Log.Path, LogMaxSize: l.Log.MaxSize,
		LogMaxFiles: max(l.Log.MaxFiles, 1), LogCompress: l.Log.Compress, LogAttrs: encodeAttrs(l.Log),
	}
}

// commandLine is the OCI runtime's command line up to the sub command.
func commandLine(b runtime.Binary) []string {
	argv := append([]string{b.Path}, b.Args...)
	if b.Root != "" {
		argv = append(argv, "--root", b.Root)
	}
	if b.NoCgroup {
		argv = append(argv, "--cgroup-manager=disabled")
	}
	return argv
}

// oomFiles are where the kernel counts OOM kills of the container.
func oomFiles(l runtime.Launch) []string {
	var files []string
	add := func(dir string) {
		files = append(files, dir+"/memory.oom_control", dir+"/memory.events")
	}
	for _, d := range l.CgroupDirs {
		add(d)
	}
	if len(l.CgroupDirs) == 0 && l.Spec.Linux != nil {
		if path := cgroup.RuntimePath(l.Spec.Linux.CgroupsPath); path != "" {
			add("/sys/fs/cgroup/memory" + path)
			add("/sys/fs/cgroup" + path)
		}
	}
	return files
}

// sharesPIDs tells whether the container has no pid namespace of its own, so that processes survive its init.
func sharesPIDs(s *specs.Spec) bool {
	if s.Linux == nil {
		return true
	}
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			return n.Path != ""
		}
	}
	return true
}

// encodeAttrs encodes the log attributes once, in the form that the log driver puts into each line.
func encodeAttrs(s runtime.LogSink) string {
	if len(s.Attrs) == 0 {
		return ""
	}
	if s.Driver == "local" {
		return localAttrs(s.Attrs)
	}
	b, err := json.Marshal(s.Attrs)
	if err != nil { // a map of strings always marshals
		return ""
	}
	return string(b)
}
