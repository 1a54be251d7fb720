package shimclient

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/logs"
	"longshore/internal/core/runtime"
	"longshore/internal/driver/logfile"
)

func timeAfter(ms int) <-chan time.Time { return time.After(time.Duration(ms) * time.Millisecond) }

func openFiles(pid int) []os.DirEntry {
	e, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	return e
}

// readStateWait waits for what the shim notes after a start.
func readStateWait(r *rig, l runtime.Launch) (st pidState) {
	r.t.Helper()
	r.until("state noted", func() bool { st = readState(l.Dir); return st.pid("shim") != 0 })
	return st
}

func (r *rig) execLaunch(args ...string) runtime.ExecLaunch {
	return runtime.ExecLaunch{
		ID: fmt.Sprintf("%064x", serial.Add(1)), Process: r.process(args, []string{"CAP_KILL"}),
		Stdout: true, Stderr: true,
	}
}

func TestExec(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		p := r.start(r.launch("sleep", "1000"))

		e := r.execLaunch("sh", "-c", "cat; sleep 0.1; echo err >&2; exit 5")
		e.Stdin = true
		x, err := p.Exec(testContext(t), e)
		r.check(err)
		_, err = io.WriteString(x.Stream(), "input")
		r.check(err)
		r.check(x.Stream().CloseWrite())
		out, err := io.ReadAll(x.Stream())
		r.check(err)
		if string(out) != frame(1, "input")+frame(2, "err\n") {
			t.Errorf("output %q", out)
		}
		if end, err := x.Wait(testContext(t)); err != nil || end.Code != 5 {
			t.Errorf("%+v %v", end, err)
		}
		if err := x.Signal(testContext(t), unix.SIGTERM); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("signal after the end: %v", err)
		}

		// crun prepares an exec's terminal while the program runs already, and drops what that has written by then: it is
		// to wait until the exec has begun.
		e = r.execLaunch("sh", "-c", "read x; until stty size 2>/dev/null; do sleep 0.01; done; read x; stty size")
		e.Terminal, e.Stdin, e.ConsoleHeight, e.ConsoleWidth = true, true, 33, 44
		x, err = p.Exec(testContext(t), e)
		r.check(err)
		_, err = io.WriteString(x.Stream(), "\n")
		r.check(err)
		r.expect(x.Stream(), "33 44\r\n")
		r.check(x.Resize(testContext(t), 55, 66))
		_, err = io.WriteString(x.Stream(), "\n")
		r.check(err)
		r.expect(x.Stream(), "55 66\r\n")

		e = r.execLaunch("sleep", "1000")
		e.Stdout, e.Stderr = false, false
		x, err = p.Exec(testContext(t), e)
		r.check(err)
		if x.Stream() != nil || x.PID() == 0 {
			t.Errorf("stream %v, pid %d", x.Stream(), x.PID())
		}
		r.check(x.Signal(testContext(t), unix.SIGKILL))
		if end, err := x.Wait(testContext(t)); err != nil || end.Code != 137 {
			t.Errorf("%+v %v", end, err)
		}

		last := r.execLaunch("sleep", "1000") // ends with the container
		x, err = p.Exec(testContext(t), last)
		r.check(err)
		r.check(p.Signal(testContext(t), unix.SIGKILL))
		if end, err := x.Wait(testContext(t)); err != nil || end.Code != 137 {
			t.Errorf("%+v %v", end, err)
		}
		if _, err := p.Exec(testContext(t), r.execLaunch("true")); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("exec after the end: %v", err)
		}
	})
}

func TestExecErrors(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		p := r.start(r.launch("sleep", "1000"))
		for arg, want := range map[string]runtime.StartError{
			"foo":        {Code: 127, Message: `OCI runtime exec failed: exec failed: unable to start container process: exec: "foo": executable file not found in $PATH: unknown`},
			"/etc/plain": {Code: 126, Message: `OCI runtime exec failed: exec failed: unable to start container process: exec: "/etc/plain": permission denied: unknown`},
		} {
			_, err := p.Exec(testContext(t), r.execLaunch(arg))
			var se *runtime.StartError
			if !errors.As(err, &se) || *se != want {
				t.Errorf("%s: %v", arg, err)
			}
		}
	})
}

// TestManyExecs runs execs at once; each gets its own output and status.
func TestManyExecs(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		p := r.start(r.launch("sleep", "1000"))
		var wg sync.WaitGroup
		for i := range 12 {
			e := r.execLaunch("sh", "-c", fmt.Sprintf("echo exec %d; exit %d", i, i))
			wg.Go(func() {
				x, err := p.Exec(testContext(t), e)
				if err != nil {
					t.Error(err)
					return
				}
				out, err := io.ReadAll(x.Stream())
				if want := frame(1, fmt.Sprintf("exec %d\n", i)); err != nil || string(out) != want {
					t.Errorf("%q %v", out, err)
				}
				if end, err := x.Wait(testContext(t)); err != nil || end.Code != i {
					t.Errorf("%d: %+v %v", i, end, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestShimKilled: the daemon learns of it at once, and Cleanup ends what runs on.
func TestShimKilled(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "trap '' TERM; while :; do sleep 1000; done")
		p := r.start(l)
		st := readStateWait(r, l)
		if st.pid("init") != p.PID() {
			t.Errorf("state %v, pid %d", st, p.PID())
		}
		r.check(unix.Kill(st.pid("shim"), unix.SIGKILL))
		x := r.wait(p)
		if x.Code != 137 || x.Error == "" {
			t.Errorf("exit %+v", x)
		}
		if err := p.Signal(testContext(t), unix.SIGTERM); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("signal: %v", err)
		}
		a, err := r.c.Adopt(testContext(t), runtime.Launch{Dir: l.Dir})
		if !errors.Is(err, errdefs.ErrNotFound) || a.Exit != nil || a.Process != nil {
			t.Errorf("adopt: %+v %v", a, err)
		}
		r.check(r.c.Cleanup(testContext(t), l))
		if st.pid("init") != 0 {
			t.Error("the container runs on")
		}
		if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
			t.Errorf("run directory is left: %v", err)
		}
	})
}

// TestAdopt: a second client takes over a running container, the first one being gone.
func TestAdopt(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "while read x; do echo got $x; done; exit 9")
		l.Stdin, l.StdinOnce = true, true
		p := r.start(l)
		pid := p.PID()
		r.check(r.c.Close())
		if _, err := p.Wait(testContext(t)); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("wait of a closed client: %v", err)
		}

		r.c = r.client()
		a, err := r.c.Adopt(testContext(t), runtime.Launch{Dir: l.Dir})
		r.check(err)
		if a.Process == nil || a.Process.PID() != pid {
			t.Fatalf("%+v", a)
		}
		s := r.attach(a.Process, runtime.AttachOptions{Stdin: true, Stdout: true})
		_, err = io.WriteString(s, "word\n")
		r.check(err)
		r.expect(s, frame(1, "got word\n"))
		x, err := a.Process.Exec(testContext(t), r.execLaunch("echo", "exec"))
		r.check(err)
		r.expect(x.Stream(), frame(1, "exec\n"))
		r.check(s.CloseWrite())
		if x := r.wait(a.Process); x.Code != 9 {
			t.Errorf("exit %+v", x)
		}
	})
}

// TestEndUnseen: the end is recorded when nobody is connected, and the shim goes away.
func TestEndUnseen(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "sleep 0.3; echo late; exit 6")
		r.start(l)
		readStateWait(r, l)
		r.check(r.c.Close())
		r.c = r.client()
		r.until("shim ended", func() bool { return !r.c.alive(l.Dir) })
		a, err := r.c.Adopt(testContext(t), l)
		if !errors.Is(err, errdefs.ErrNotFound) || a.Exit == nil || a.Exit.Code != 6 || a.Exit.At.IsZero() {
			t.Errorf("%+v %v", a, err)
		}
		if log := r.log(l); !strings.Contains(log, `"late\n"`) {
			t.Errorf("log %q", log)
		}
	})
}

// TestStartFailureUnseen: a start that fails while the daemon dies leaves its reason.
func TestStartFailureUnseen(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("foo")
		p := r.spawn(l).(*process)
		r.check(p.send(startFrame()))
		r.check(r.c.Close())
		r.c = r.client()
		r.until("shim ended", func() bool { return !r.c.alive(l.Dir) })
		a, err := r.c.Adopt(testContext(t), l)
		if !errors.Is(err, errdefs.ErrNotFound) {
			t.Error(err)
		}
		if a.Exit != nil && (a.Exit.Code != 127 || !strings.Contains(a.Exit.Error, `"foo": executable file not found in $PATH`)) {
			t.Errorf("%+v", a.Exit)
		}
	})
}

// TestCleanupRunning: a container that runs is killed with its shim.
func TestCleanupRunning(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sleep", "1000")
		p := r.start(l)
		st := readStateWait(r, l)
		r.check(r.c.Cleanup(testContext(t), l))
		if x := r.wait(p); x.Code != 137 {
			t.Errorf("exit %+v", x)
		}
		r.until("shim ended", func() bool { return st.pid("shim") == 0 })
	})
}

func TestOOM(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "x=$(yes | head -c 200000000); echo survived")
		limit := int64(32 << 20)
		for _, d := range l.CgroupDirs {
			if strings.Contains(d, "/memory/") {
				r.check(os.WriteFile(filepath.Join(d, "memory.limit_in_bytes"), []byte(strconv.FormatInt(limit, 10)), 0))
			}
		}
		if len(l.CgroupDirs) == 0 {
			l.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		}
		if x, out := r.run(l, ""); !x.OOMKilled || x.Code != 137 || strings.Contains(out, "survived") {
			t.Errorf("exit %+v, output %q", x, out)
		}
	})
}

// TestShimOutsideCgroup: whoever empties the container's groups must not meet the shim there.
func TestShimOutsideCgroup(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sleep", "1000")
		if len(l.CgroupDirs) == 0 {
			t.Skip("the runtime makes the groups")
		}
		p := r.start(l)
		shim := readStateWait(r, l).pid("shim")
		if sid, err := unix.Getsid(shim); err != nil || sid != shim {
			t.Errorf("session of the shim: %d %v", sid, err)
		}
		for _, d := range l.CgroupDirs {
			if slices.Contains(groupPIDs(d), shim) {
				t.Errorf("%s has the shim", d)
			}
			r.until("nothing but init is left", func() bool { return slices.Equal(groupPIDs(d), []int{p.PID()}) })
		}
	})
}

// TestRotatedLog: the shim rotates and packs; the reader finds everything that is kept.
func TestRotatedLog(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "i=0; while [ $i -lt 4000 ]; do echo line number $i; i=$((i+1)); done")
		l.Log.MaxSize, l.Log.MaxFiles, l.Log.Compress = 64<<10, 3, true
		l.Log.Attrs = map[string]string{"tag": "<rotated>"}
		if x, _ := r.run(l, ""); x.Code != 0 {
			t.Fatalf("exit %+v", x)
		}
		r.until("shim ended", func() bool { return !r.c.alive(l.Dir) })
		var first, last string
		n := 0
		err := logfile.New().Read(testContext(t), logs.Source{Driver: "json-file", Path: l.Log.Path},
			logs.ReadOptions{Tail: -1, Stdout: true}, func(m *logs.Message) error {
				if n == 0 {
					first = string(m.Line)
				}
				if m.Attrs["tag"] != "<rotated>" {
					t.Errorf("attributes %v", m.Attrs)
				}
				last = string(m.Line)
				n++
				return nil
			})
		r.check(err)
		if last != "line number 3999\n" || first != fmt.Sprintf("line number %d\n", 4000-n) || n < 500 {
			t.Errorf("%d lines from %q to %q", n, first, last)
		}
		for _, name := range []string{"", ".1.gz", ".2.gz"} {
			if _, err := os.Stat(l.Log.Path + name); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHiddenMounts: the runtime does not see them, the host keeps them.
func TestHiddenMounts(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		hidden := filepath.Join(r.base, "hidden")
		r.check(os.Mkdir(hidden, 0o755))
		r.check(unix.Mount("tmpfs", hidden, "tmpfs", 0, ""))
		defer unix.Unmount(hidden, unix.MNT_DETACH)
		r.check(os.WriteFile(filepath.Join(hidden, "file"), nil, 0o644))
		l := r.launch("sh", "-c", "echo /tmp/*")
		l.Spec.Mounts = append(l.Spec.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: hidden, Options: []string{"rbind"}})
		if _, out := r.run(l, ""); out != frame(1, "/tmp/file\n") {
			t.Errorf("visible: %q", out)
		}
		l = r.launch("sh", "-c", "echo /tmp/*")
		l.Spec.Mounts = append(l.Spec.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: hidden, Options: []string{"rbind"}})
		l.Runtime.HideMounts = []string{hidden, "/no/such/mount"}
		if _, out := r.run(l, ""); out != frame(1, "/tmp/*\n") {
			t.Errorf("hidden: %q", out)
		}
		if _, err := os.Stat(filepath.Join(hidden, "file")); err != nil {
			t.Errorf("the host lost its mount: %v", err)
		}
	})
}
