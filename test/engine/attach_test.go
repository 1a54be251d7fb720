package engine

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"longshore/test/harness"
)

// buffer is written by a command while the test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// cli starts a docker command that the test talks to.
func cli(t *testing.T, d *harness.Daemon, args ...string) (in io.WriteCloser, out *buffer, wait func() error) {
	t.Helper()
	c := exec.Command("docker", args...)
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.Socket, "DOCKER_CLI_HINTS=false")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out = &buffer{}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
	return in, out, func() error {
		defer timer.Stop()
		return c.Wait()
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()

	t.Run("from the first byte on", func(t *testing.T) {
		id := d.OK("create", "busybox", "sh", "-c", "echo first; echo second >&2")
		defer d.OK("rm", id)
		r := d.Docker("start", "-a", id)
		if r.Out != "first\n" || r.Err != "second\n" {
			t.Errorf("stdout %q, stderr %q", r.Out, r.Err)
		}
	})
	t.Run("many clients", func(t *testing.T) {
		id := d.OK("run", "-d", "-i", "busybox", "cat")
		defer d.OK("rm", "-f", id)
		_, seen, waitSeen := cli(t, d, "attach", "--no-stdin", id)
		in, out, wait := cli(t, d, "attach", id)
		harness.Eventually(t, 20*time.Second, "both clients see what one types", func() bool {
			if _, err := io.WriteString(in, "typed\n"); err != nil {
				t.Fatal(err)
			}
			return strings.Contains(seen.String(), "typed") && strings.Contains(out.String(), "typed")
		})
		d.OK("stop", "-t", "0", id)
		_, _ = waitSeen(), wait() // the exit code of the stopped container
	})
	t.Run("input ends with run -i", func(t *testing.T) {
		r := d.DockerIn(strings.NewReader("a\nb\n"), "run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo over")
		if r.Out != "a\nb\nover\n" {
			t.Errorf("got %q", r.Out)
		}
	})
	t.Run("detach keys and terminal size", func(t *testing.T) {
		if _, err := exec.LookPath("script"); err != nil {
			t.Skip("script (bsdutils) is not installed")
		}
		name := "term"
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := d.Exec(ctx, strings.NewReader(""), "sh", "-c",
			`(sleep 1; printf 'stty size\n'; sleep 1; printf '\020\021'; sleep 1) | script -qec "stty rows 31 cols 97; docker run -it --name `+name+` busybox sh" /dev/null`)
		defer d.OK("rm", "-f", name)
		if s := d.OK("inspect", "-f", "{{.State.Running}}", name); s != "true" {
			t.Errorf("running %s after detach: %s", s, r.Out)
		}
		if !strings.Contains(r.Out, "31 97") {
			t.Errorf("terminal size: %q", r.Out)
		}
	})
	t.Run("websocket", func(t *testing.T) {
		id := d.OK("run", "-d", "-i", "busybox", "cat")
		defer d.OK("rm", "-f", id)
		dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
		}}
		ws, resp, err := dialer.Dial("ws://d/v1.50/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1", http.Header{})
		if err != nil {
			t.Fatalf("%v (%v)", err, resp)
		}
		defer ws.Close()
		if err := ws.WriteMessage(websocket.BinaryMessage, []byte("over the web\n")); err != nil {
			t.Fatal(err)
		}
		if err := ws.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		kind, msg, err := ws.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage || !strings.Contains(string(msg), "over the web") {
			t.Errorf("frame %d %q: %v", kind, msg, err)
		}
	})
	t.Run("a large output arrives whole", func(t *testing.T) {
		r := d.Docker("run", "--rm", "busybox", "sh", "-c", "seq 1 400000 | tee /dev/stderr | md5sum >/sum; cat /sum >&2; cat /sum >&2")
		want := strings.Fields(r.Err[strings.LastIndex(strings.TrimSpace(r.Err), "\n")+1:])
		if len(want) == 0 || !strings.HasPrefix(r.Err, "1\n2\n3\n") || strings.Count(r.Err, "\n") != 400002 {
			t.Errorf("%d lines of 400002", strings.Count(r.Err, "\n"))
		}
	})
}
