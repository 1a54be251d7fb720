package shimclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

const (
	// helloTime is how long a shim has to say Hello; one that does not is taken as it is, or killed when it has to end.
	helloTime = 3 * time.Second
	// stopTime is how long a shim has to end its container and itself when it is cleaned up.
	stopTime = 10 * time.Second
)

// Adopt implements runtime.Runtime. Of the launch only Dir counts; the rest comes from the launch record.
func (c *Client) Adopt(ctx context.Context, l runtime.Launch) (runtime.Adopted, error) {
	r, err := readLaunch(l.Dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errdefs.ErrNotFound
		}
		return runtime.Adopted{}, fmt.Errorf("adopt run in %s: %w", l.Dir, err)
	}
	l = r.Launch
	p, st, err := c.greet(l)
	if err == nil && st.Phase != shimproto.Created {
		p.stands(r.Ground)
		p.hello(st)
		return runtime.Adopted{Process: p}, nil
	}
	if p != nil { // it never started and ends by itself
		p.release()
	}
	exit, err2 := readExit(l)
	if err2 != nil {
		return runtime.Adopted{}, fmt.Errorf("adopt run of container %s: %w", l.ID, err2)
	}
	if exit == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		p, err := c.adoptSilent(l)
		if err == nil {
			p.stands(r.Ground)
			return runtime.Adopted{Process: p}, nil
		}
	}
	return runtime.Adopted{Exit: exit}, fmt.Errorf("shim of container %s: %w", l.ID, errdefs.ErrNotFound)
}

// adoptSilent takes a shim that listens but does not answer: its container lives on whether the shim is stopped or the
// host has no time for it. Its Hello comes when it comes.
func (c *Client) adoptSilent(l runtime.Launch) (*process, error) {
	conn, err := dial(l.Dir, shimproto.Preface{Purpose: shimproto.ControlConn})
	if err != nil {
		return nil, err
	}
	p, err := c.connect(l, conn, 0)
	if err != nil {
		return nil, err
	}
	c.log.Warn("shim does not answer", "container", l.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		p.pid = readState(l.Dir).pid("init")
	}
	return p, nil
}

// greet makes a control connection and waits for Hello.
func (c *Client) greet(l runtime.Launch) (*process, shimproto.State, error) {
	conn, err := dial(l.Dir, shimproto.Preface{Purpose: shimproto.ControlConn})
	if err != nil {
		return nil, shimproto.State{}, err
	}
	conn.SetReadDeadline(time.Now().Add(helloTime))
	f, err := shimproto.Read(conn)
	if err == nil && f.Kind != shimproto.Hello {
		err = shimproto.ErrFrame
	}
	var st shimproto.State
	if err == nil {
		st, err = shimproto.DecodeState(f.Payload)
	}
	if err != nil {
		conn.Close()
		return nil, st, err
	}
	conn.SetReadDeadline(time.Time{})
	p, err := c.connect(l, conn, 0)
	return p, st, err
}

// Cleanup implements runtime.Runtime.
func (c *Client) Cleanup(ctx context.Context, l runtime.Launch) error {
	if err := c.clean(ctx, l); err != nil {
		return fmt.Errorf("clean up after container %s: %w", l.ID, err)
	}
	return nil
}

func (c *Client) clean(ctx context.Context, l runtime.Launch) error {
	r, err := readLaunch(l.Dir)
	if err != nil {
		r = launchRecord{Launch: l}
		if l.Runtime.Path == "" { // nothing known, so nothing but the directory can be left
			return removeRunDir(l.Dir)
		}
	}
	l = r.Launch
	exit, _ := readExit(l)
	if exit == nil {
		c.end(ctx, l)
		exit, _ = readExit(l)
	}
	if err := dropState(ctx, r, exit != nil); err != nil {
		return err
	}
	return removeRunDir(l.Dir)
}

// end stops a shim that lives with its container, and kills what a dead one left running.
func (c *Client) end(ctx context.Context, l runtime.Launch) {
	if p, _, err := c.greet(l); err == nil {
		limit, cancel := context.WithTimeout(ctx, stopTime)
		_, err := p.call(limit, shimproto.Stop, nil)
		if err == nil {
			_, err = p.Wait(limit)
		}
		cancel()
		if err == nil {
			return
		}
		p.release()
	}
	st := readState(l.Dir)
	for _, name := range []string{"shim", "init"} {
		if pid := st.pid(name); pid != 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	killGroups(ctx, l.CgroupDirs)
	if pid := st.pid("init"); pid != 0 {
		waitGone(ctx, pid)
	}
}

// killGroups kills the processes of the groups and waits until they are gone.
func killGroups(ctx context.Context, dirs []string) {
	for _, d := range dirs {
		for _, pid := range groupPIDs(d) {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	poll(ctx, func() bool {
		for _, d := range dirs {
			pids := groupPIDs(d)
			for _, pid := range pids { // what forked in the meantime
				unix.Kill(pid, unix.SIGKILL)
			}
			if len(pids) > 0 {
				return false
			}
		}
		return true
	})
}

func groupPIDs(dir string) (pids []int) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func waitGone(ctx context.Context, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	poll(ctx, func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
}

// poll asks until done answers true, ctx ends or five seconds have passed.
func poll(ctx context.Context, done func() bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for !done() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// dropState removes the OCI runtime's state. After an ordered end of a container in groups of the engine nothing but a
// directory is left of it; a process of the runtime (5–10 ms) is started only for the rest.
func dropState(ctx context.Context, r launchRecord, ended bool) error {
	b := r.Runtime
	dir := filepath.Join(b.Root, r.ID)
	if b.Root == "" || r.ID == "" {
		dir = ""
	}
	if dir != "" {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	base := filepath.Base(b.Path)
	plain := (base == "crun" || base == "runc") && dir != ""
	if plain && ended && len(r.CgroupDirs) > 0 && !r.PostStop {
		return os.RemoveAll(dir)
	}
	argv := append(commandLine(b)[1:], "delete", "--force", r.ID)
	limit, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	c := exec.CommandContext(limit, b.Path, argv...)
	c.WaitDelay = time.Second // what it has started may hold its output open
	out, err := c.CombinedOutput()
	if err != nil && plain {
		// The runtime does not know it (it was killed while it made the container): its directory is all there is.
		killGroups(ctx, r.CgroupDirs)
		return os.RemoveAll(dir)
	}
	if err != nil && !strings.Contains(string(out), "does not exist") {
		return fmt.Errorf("%s delete: %w: %s", base, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// removeRunDir removes our files and the directory. It never goes into sub directories: one may be a mount of the engine.
// A shim that has recorded the exit may still put a file of an exec away, so a directory that fills again is emptied again.
func removeRunDir(dir string) error {
	var err error
	poll(context.Background(), func() bool {
		err = emptyAndRemove(dir)
		return !errors.Is(err, unix.ENOTEMPTY)
	})
	return err
}

func emptyAndRemove(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !e.IsDir() && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
