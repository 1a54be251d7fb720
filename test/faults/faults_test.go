// Package faults breaks what the engine stands on and looks whether it says so, keeps what it has, and serves the rest: disks
// that are full or read-only, records, databases and layers that are damaged or gone, file systems and runtimes that do not answer,
// clients that are dead, slow or evil, and thousands of life cycles. What is long runs with `make soak` only.
package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// patience is how long anything may take on a busy machine.
const patience = 30 * time.Second

// answer is what the engine said.
type answer struct {
	status  int
	message string // of an error; else the body
}

// call sends a request with a body of any kind; "" is none.
func call(t *testing.T, d *harness.Daemon, method, path, contentType, body string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return send(t, d, req)
}

func send(t *testing.T, d *harness.Daemon, req *http.Request) answer {
	t.Helper()
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Errorf("%s %.80s: %v", req.Method, req.URL.Path, err)
		return answer{}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Errorf("%s %.80s: %v", req.Method, req.URL.Path, err)
	}
	a := answer{status: resp.StatusCode, message: string(b)}
	var e struct{ Message string }
	if a.status >= 400 && json.Unmarshal(b, &e) == nil {
		a.message = e.Message
	}
	return a
}

// prompt runs a docker command that must not wait for what hangs.
func prompt(t *testing.T, d *harness.Daemon, args ...string) string {
	t.Helper()
	return d.Prompt(t, patience, args...)
}

// dial connects to the engine's socket and sends a request's head.
func dial(d *harness.Daemon, head string) (net.Conn, error) {
	c, err := net.Dial("unix", d.Socket)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, head); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// memory is a figure of the daemon's in bytes: "VmRSS", "VmHWM" of /proc/pid/status.
func memory(t *testing.T, d *harness.Daemon, which string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if rest, ok := strings.CutPrefix(line, which+":"); ok {
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("no %s", which)
	return 0
}

// descriptors counts the daemon's open files.
func descriptors(t *testing.T, d *harness.Daemon) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// command runs a program of the host's.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out.String())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
