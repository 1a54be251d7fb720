package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore/test/harness"
)

// hangingFS is a FUSE file system with an empty directory that stops answering when it is told to.
type hangingFS struct {
	dir  string
	file *os.File
	hang atomic.Bool
	done chan struct{}
}

// Requests of FUSE's protocol.
const (
	fuseLookup, fuseForget, fuseGetattr, fuseStatfs     = 1, 2, 3, 17
	fuseInit, fuseOpendir, fuseReaddir, fuseReleasedir  = 26, 27, 28, 29
	fuseInterrupt, fuseDestroy, fuseBatchForget, fuseIn = 36, 38, 42, 40
)

func newHangingFS(t *testing.T, dir string) *hangingFS {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	must(t, os.MkdirAll(dir, 0o755))
	must(t, unix.Mount("hanging", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", fd)))
	// Only now: before the mount it cannot be waited for.
	h := &hangingFS{dir: dir, file: os.NewFile(uintptr(fd), "/dev/fuse"), done: make(chan struct{})}
	go h.serve()
	t.Cleanup(h.end)
	return h
}

// end breaks the connection off, which ends everybody's waiting.
func (h *hangingFS) end() {
	_ = h.file.Close()
	<-h.done
	_ = unix.Unmount(h.dir, unix.MNT_DETACH)
}

func (h *hangingFS) serve() {
	defer close(h.done)
	buf := make([]byte, 1<<17)
	for {
		n, err := h.file.Read(buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return
		}
		op, unique := binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:])
		if n < fuseIn || op == fuseForget || op == fuseBatchForget || op == fuseInterrupt || op == fuseDestroy {
			continue
		}
		if h.hang.Load() {
			continue
		}
		body, code := answerTo(op)
		out := make([]byte, 16, 16+len(body))
		binary.NativeEndian.PutUint32(out, uint32(16+len(body)))
		binary.NativeEndian.PutUint32(out[4:], uint32(-int32(code)))
		binary.NativeEndian.PutUint64(out[8:], unique)
		_, _ = h.file.Write(append(out, body...))
	}
}

func answerTo(op uint32) (body []byte, code unix.Errno) {
	switch op {
	case fuseInit:
		body = make([]byte, 64)
		binary.NativeEndian.PutUint32(body, 7)
		binary.NativeEndian.PutUint32(body[4:], 31)
		binary.NativeEndian.PutUint32(body[20:], 4096)
	case fuseGetattr: // valid for no time at all, so that everybody asks
		body = make([]byte, 104)
		binary.NativeEndian.PutUint64(body[16:], 1)
		binary.NativeEndian.PutUint32(body[16+60:], unix.S_IFDIR|0o755)
		binary.NativeEndian.PutUint32(body[16+64:], 2)
	case fuseOpendir:
		body = make([]byte, 16)
	case fuseStatfs:
		body = make([]byte, 80)
	case fuseReaddir, fuseReleasedir:
	case fuseLookup:
		return nil, unix.ENOENT
	default:
		return nil, unix.ENOSYS
	}
	return body, 0
}

// others does what other clients do while something hangs.
func others(t *testing.T, d *harness.Daemon, hung ...string) {
	t.Helper()
	for _, args := range [][]string{
		{"ps", "-a", "-s"}, {"system", "df"}, {"system", "df", "-v"}, {"info"}, {"images"}, {"network", "inspect", "bridge"}, {"volume", "ls"},
		{"stats", "--no-stream", "other"}, {"restart", "-t", "0", "other"}, {"run", "--rm", "-v", "fine:/v", "busybox", "true"},
		{"volume", "prune", "-f"}, {"container", "prune", "-f", "--filter", "label=none"},
	} {
		prompt(t, d, args...)
	}
	prompt(t, d, "events", "--since", "1m", "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano))
	for _, id := range hung {
		prompt(t, d, "inspect", id)
		prompt(t, d, "inspect", "-s", id)
		prompt(t, d, "logs", id)
	}
	if out := prompt(t, d, "exec", "other", "echo", "fine"); out != "fine" {
		t.Errorf("exec in another container: %q", out)
	}
}

// TestHungFileSystem: a FUSE file system that does not answer, as bind source and below a volume, holds up its own containers only.
func TestHungFileSystem(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	dir := filepath.Join(t.TempDir(), "fuse")
	fs := newHangingFS(t, dir)
	d.OK("run", "-d", "--name", "other", "busybox", "sleep", "100000")
	d.OK("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device="+dir, "hanging")
	d.OK("run", "-d", "--name", "bound", "-v", dir+":/f", "busybox", "sleep", "100000")
	d.OK("run", "-d", "--name", "withvolume", "-v", "hanging:/f", "busybox", "sleep", "100000")
	d.OK("exec", "bound", "ls", "/f")
	fs.hang.Store(true)
	d.InBackground(t, "exec", "bound", "ls", "/f")
	d.InBackground(t, "exec", "withvolume", "ls", "/f")
	d.InBackground(t, "run", "--name", "late", "-v", dir+":/f", "busybox", "true")
	d.InBackground(t, "run", "--name", "latevolume", "-v", "hanging:/f", "busybox", "true")
	d.InBackground(t, "cp", "bound:/f", filepath.Join(d.Dir, "copy"))
	d.InBackground(t, "create", "--name", "mounted", "--mount", "type=bind,src="+dir+",dst=/f", "busybox", "true")
	others(t, d, "bound", "withvolume")
	prompt(t, d, "volume", "inspect", "hanging")
	d.InBackground(t, "stop", "-t", "1", "withvolume")
	d.InBackground(t, "rm", "-f", "bound")
	if harness.Soaking() {
		others(t, d, "withvolume")
	}
	fs.end() // before the daemon ends: the kernel does not let a thread go that waits for a file system
	harness.Eventually(t, 2*patience, "everything can be removed once the file system has failed", func() bool {
		ids := strings.Fields(d.Docker("ps", "-aq").Out)
		return len(ids) == 0 || d.Docker(append([]string{"rm", "-f"}, ids...)...).Code == 0 && d.Docker("ps", "-aq").Out == ""
	})
	prompt(t, d, "volume", "rm", "hanging")
}

// TestStuckRuntime: an OCI runtime that never comes back at one of its commands. Its containers' clients can go, nothing else waits, and
// the daemon ends and starts.
func TestStuckRuntime(t *testing.T) {
	if !harness.Soaking() {
		t.Skip("long: runs with make soak; test/crash has the short one")
	}
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "stuck")
	text := fmt.Sprintf(`#!/bin/sh
case "$*" in *--version*|*features*) exec crun "$@";; esac
for c in create start exec kill delete state pause update; do
	case " $* " in *" $c "*) while [ -e %s/$c ]; do sleep 0.1; done;; esac
done
exec crun "$@"
`, dir)
	must(t, os.WriteFile(script, []byte(text), 0o755))
	d := harness.Start(t, "--add-runtime", "stuck="+script)
	d.Busybox()
	d.OK("run", "-d", "--name", "other", "busybox", "sleep", "100000")
	for _, stage := range []string{"create", "exec", "kill", "delete", "pause", "update"} {
		gate := filepath.Join(dir, stage)
		name := "at" + stage
		if stage != "create" {
			d.OK("run", "-d", "--name", name, "--runtime", "stuck", "busybox", "sleep", "100000")
		} else {
			d.OK("create", "--name", name, "--runtime", "stuck", "busybox", "sleep", "100000")
		}
		must(t, os.WriteFile(gate, nil, 0o600))
		switch stage {
		case "create":
			d.InBackground(t, "start", name)
		case "exec":
			d.InBackground(t, "exec", name, "true")
		case "kill", "delete":
			d.InBackground(t, "stop", "-t", "1", name)
		case "pause":
			d.InBackground(t, "pause", name)
		case "update":
			d.InBackground(t, "update", "--memory", "64m", "--memory-swap", "64m", name)
		}
	}
	others(t, d, "atcreate", "atexec", "atkill", "atdelete", "atpause", "atupdate")
	d.Stop()
	d.Up()
	others(t, d, "atcreate", "atexec")
	d.InBackground(t, "rm", "-f", "atexec", "atkill")
	others(t, d)
	for _, stage := range []string{"create", "exec", "kill", "delete", "pause", "update"} {
		must(t, os.Remove(filepath.Join(dir, stage)))
	}
	harness.Eventually(t, 2*patience, "everything can be removed once the runtime works", func() bool {
		ids := strings.Fields(d.Docker("ps", "-aq").Out)
		return len(ids) == 0 || d.Docker(append([]string{"rm", "-f"}, ids...)...).Code == 0 && d.Docker("ps", "-aq").Out == ""
	})
	d.Stop() // what could not be cleaned up while the runtime was stuck goes at the next start
	d.Up()
}
