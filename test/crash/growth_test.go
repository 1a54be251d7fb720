package crash

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// cycle is everything that a client does with a container in its life.
func cycle(d *harness.Daemon, i int) {
	name := fmt.Sprintf("c%d", i)
	d.OK("network", "create", name)
	d.OK("volume", "create", name)
	d.OK("run", "-d", "--name", name, "--network", name, "-v", name+":/data", "-p", "80", "busybox", "sh", "-c", "echo up; sleep 100000")
	d.OK("exec", name, "true")
	d.OK("exec", "-d", name, "sleep", "100000")
	d.DockerIn(strings.NewReader("x"), "exec", "-i", name, "cat")
	d.OK("logs", name)
	if resp, err := d.Client().Get("http://d/containers/" + name + "/stats?stream=false&one-shot=true"); err == nil {
		_ = resp.Body.Close()
	}
	d.OK("pause", name)
	d.OK("unpause", name)
	d.OK("network", "connect", "bridge", name)
	d.OK("network", "disconnect", "bridge", name)
	d.OK("restart", "-t", "0", name)
	d.Docker("run", "--rm", "--name", name+"x", "busybox", "/not/there")
	d.OK("commit", name, name)
	d.OK("kill", name)
	d.OK("rm", "-v", name)
	d.OK("rmi", name)
	d.OK("volume", "rm", name)
	d.OK("network", "rm", name)
	d.DockerIn(strings.NewReader("x"), "run", "-i", "--rm", "busybox", "cat")
}

// cycles are enough to tell what each leaves from what comes and goes.
const cycles = 6

// TestNothingGrows: the daemon has as many goroutines and descriptors after many life cycles as before.
func TestNothingGrows(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for i := range 2 {
		cycle(d, i)
	}
	d.CheckLeaks()
	steady := func() (goroutines, descriptors int) { // prepared namespaces and idle connections come and go
		goroutines, descriptors = d.Footprint()
		harness.Within(2*time.Second, func() bool {
			g, f := d.Footprint()
			goroutines, descriptors = min(g, goroutines), min(f, descriptors)
			return false
		})
		return goroutines, descriptors
	}
	g0, f0 := steady()
	for i := range cycles {
		cycle(d, i)
	}
	d.CheckLeaks()
	g1, f1 := steady()
	if g1 > g0 || f1 > f0 {
		t.Errorf("after %d life cycles: %d goroutines (were %d), %d descriptors (were %d)", cycles, g1, g0, f1, f0)
	}
}
