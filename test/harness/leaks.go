package harness

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cleanup removes every container, stops the daemon, checks that nothing of it is left and removes its files.
func (d *Daemon) cleanup() {
	if d.cmd != nil {
		if ids := strings.Fields(d.Docker("ps", "-aq").Out); len(ids) > 0 {
			d.Docker(append([]string{"rm", "-f", "-v"}, ids...)...)
		}
		d.checkLeaks()
		d.Stop()
	}
	if d.T.Failed() {
		d.T.Logf("--- daemon's log ---\n%s", d.Log())
	}
	d.sweep()
}

// checkLeaks compares what the kernel holds for the daemon with what no containers need.
func (d *Daemon) checkLeaks() {
	d.T.Helper()
	var left []string
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if left = d.leaks(); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
		<-tick.C
	}
	d.T.Errorf("left behind without containers:\n  %s", strings.Join(left, "\n  "))
}

func (d *Daemon) leaks() []string {
	var left []string
	for _, m := range mountsBelow(d.Dir) {
		if !strings.Contains(m, "/netns") && !strings.Contains(m, "/volumes/") {
			left = append(left, "mount "+m)
		}
	}
	for _, pid := range shims(d.Dir) {
		left = append(left, fmt.Sprintf("shim %d", pid))
	}
	for _, c := range containerCgroups(d.DataRoot()) {
		left = append(left, "cgroup "+c)
	}
	if out := d.InNet("nft", "list", "ruleset").Out; strings.Contains(out, "dnat to") || strings.Contains(out, " : 172.") {
		left = append(left, "nft elements of published ports:\n"+out)
	}
	entries, err := os.ReadDir(filepath.Join(d.DataRoot(), "containers"))
	if err == nil {
		for _, e := range entries {
			left = append(left, "container directory "+e.Name())
		}
	}
	return left
}

// sweep forces away whatever is left, so that one failing test does not disturb the next.
func (d *Daemon) sweep() {
	for _, pid := range append(shims(d.Dir), processesNaming(d.Dir)...) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for range 3 {
		ms := mountsBelow(d.Dir)
		for i := len(ms) - 1; i >= 0; i-- {
			_ = syscall.Unmount(ms[i], syscall.MNT_DETACH)
		}
	}
	_ = exec.Command("ip", "netns", "del", d.NetNS).Run()
	if err := os.RemoveAll(d.Dir); err != nil {
		d.T.Errorf("remove %s: %v", d.Dir, err)
	}
}

func mountsBelow(dir string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			out = append(out, fields[4])
		}
	}
	return out
}

func shims(dir string) []int {
	var out []int
	for _, pid := range processesNaming(dir) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.HasPrefix(string(b), "longshore-shim") {
			out = append(out, pid)
		}
	}
	return out
}

// processesNaming lists processes whose command line names the directory.
func processesNaming(dir string) []int {
	entries, _ := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		if b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")); err == nil && strings.Contains(string(b), dir+"/") {
			out = append(out, pid)
		}
	}
	return out
}

// containerCgroups lists the control groups of containers whose records lie below the data root.
func containerCgroups(dataRoot string) []string {
	known := map[string]bool{}
	entries, err := os.ReadDir(filepath.Join(dataRoot, "containers"))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		known[e.Name()] = true
	}
	var out []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && known[e.Name()] {
			out = append(out, path)
		}
		return nil
	})
	return out
}
