package shimclient

import (
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"longshore/internal/core/runtime"
)

func TestRun(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("sh", "-c", "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf end; exit 7")
		x, out := r.run(l, "")
		if x.Code != 7 || x.OOMKilled || x.Error != "" || x.At.IsZero() {
			t.Errorf("exit %+v", x)
		}
		if out != frame(1, "out\n")+frame(2, "err\n")+frame(1, "end") {
			t.Errorf("output %q", out)
		}
		log := lines(r.log(l))
		if len(log) != 3 {
			t.Fatalf("log %q", log)
		}
		want := regexp.MustCompile(`^\{"log":"out\\n","stream":"stdout","time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"\}$`)
		if !want.MatchString(log[0]) {
			t.Errorf("log %q", log)
		}
		if !strings.Contains(strings.Join(log, "\n"), `{"log":"end","stream":"stdout"`) {
			t.Errorf("log %q", log)
		}
		r.check(r.c.Cleanup(testContext(t), l))
		if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
			t.Errorf("run directory is left: %v", err)
		}
		if left, _ := os.ReadDir(r.b.Root); len(left) != 0 {
			t.Errorf("runtime state is left: %v", left)
		}
		r.check(r.c.Cleanup(testContext(t), l)) // once more
	})
}

func TestExitCodes(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		for script, code := range map[string]int{
			"exit 0": 0, "exit 1": 1, "exit 255": 255,
		} {
			if x, _ := r.run(r.launch("sh", "-c", script), ""); x.Code != code {
				t.Errorf("%s: exit %d", script, x.Code)
			}
		}
		for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
			p := r.spawn(r.launch("sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.02; done"))
			r.check(p.Start(testContext(t)))
			// the shell needs a moment to set its trap; before, init ignores the signal
			r.until("killed", func() bool {
				err := p.Signal(testContext(t), sig)
				return errors.Is(err, errdefs.ErrNotFound)
			})
			if x := r.wait(p); x.Code != 128+int(sig) {
				t.Errorf("signal %d: exit %d", sig, x.Code)
			}
		}
	})
}

func TestStartErrors(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		for _, c := range []struct {
			arg  string
			code int
			text string
		}{
			{"foo", 127, `unable to start container process: exec: "foo": executable file not found in $PATH: unknown`},
			{"/nope", 127, `exec: "/nope": stat /nope: no such file or directory: unknown`},
			{"/etc/plain", 126, `exec: "/etc/plain": permission denied: unknown`},
			{"/etc", 126, `exec: "/etc": permission denied: unknown`},
		} {
			l := r.launch(c.arg)
			p := r.spawn(l)
			s, err := p.Attach(testContext(t), runtime.AttachOptions{Stdout: true, Stderr: true})
			r.check(err)
			err = p.Start(testContext(t))
			var se *runtime.StartError
			if !errors.As(err, &se) || se.Code != c.code || !strings.HasSuffix(se.Message, c.text) ||
				!strings.HasPrefix(se.Message, "failed to create task for container: failed to create shim task: OCI runtime create failed: "+b.Name+" create failed: ") {
				t.Errorf("%s: %v", c.arg, err)
			}
			if x := r.wait(p); x.Code != c.code || x.Error == "" {
				t.Errorf("%s: exit %+v", c.arg, x)
			}
			if out, _ := io.ReadAll(s); len(out) != 0 {
				t.Errorf("%s: output %q", c.arg, out)
			}
			if log := r.log(l); log != "" {
				t.Errorf("%s: log %q", c.arg, log)
			}
		}
	})
}

func TestNeverStarted(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		l := r.launch("true")
		r.spawn(l)
		if _, err := r.c.Spawn(context.Background(), l); !errors.Is(err, errdefs.ErrAlreadyExists) {
			t.Errorf("second spawn: %v", err)
		}
		r.check(r.c.Close())
		r.c = r.client()
		r.until("shim ended by itself", func() bool { return !r.c.alive(l.Dir) })
		a, err := r.c.Adopt(context.Background(), l)
		if !errors.Is(err, errdefs.ErrNotFound) || a.Exit != nil || a.Process != nil {
			t.Errorf("adopt: %+v %v", a, err)
		}
		p := r.spawn(l) // over what the dead one left
		r.check(p.Start(testContext(t)))
		if x := r.wait(p); x.Code != 0 {
			t.Errorf("exit %+v", x)
		}
	})
}
