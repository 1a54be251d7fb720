package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

// cleanup removes every container, checks that nothing of them is left, stops the daemon, checks that nothing of it is
// left either, and removes its files.
func (d *Daemon) cleanup() {
	if d.cmd != nil {
		d.CheckLeaks()
		d.Stop()
	}
	if d.started && !d.T.Failed() {
		d.expectNothing("after the daemon has ended", d.remains)
	}
	if d.T.Failed() {
		d.T.Logf("--- daemon's log ---\n%s", d.Log())
	}
	d.sweep()
}

// CheckLeaks removes every container and compares what kernel and disk still hold with nothing.
func (d *Daemon) CheckLeaks() {
	d.T.Helper()
	if ids := strings.Fields(d.Docker("ps", "-aq").Out); len(ids) > 0 {
		if r := d.Docker(append([]string{"rm", "-f", "-v"}, ids...)...); r.Code != 0 {
			d.T.Errorf("remove all containers: %s%s", r.Out, r.Err)
		}
	}
	d.expectNothing("without containers", d.leaks)
}

func (d *Daemon) expectNothing(when string, look func() []string) {
	d.T.Helper()
	var left []string
	deadline := time.Now().Add(30 * time.Second) // collections wait for a pause between deletions
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if left = look(); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
		<-tick.C
	}
	d.T.Errorf("left behind %s:\n  %s", when, strings.Join(left, "\n  "))
}

// leaks is what containers have and an engine without containers has not. The daemon keeps some network namespaces
// prepared, so those are counted when it has ended.
func (d *Daemon) leaks() []string {
	var left []string
	for _, m := range mountsBelow(d.Dir) {
		if !strings.HasPrefix(m, filepath.Join(d.ExecRoot(), "netns")+"/") && m != filepath.Join(d.ExecRoot(), "shifted") && m != d.DataRoot() {
			left = append(left, "mount "+m)
		}
	}
	for _, p := range d.processes() {
		if strings.HasPrefix(p.name, "longshore-shim") {
			left = append(left, fmt.Sprintf("shim %d: %s", p.pid, p.name))
		}
	}
	for _, dir := range []string{"data/containers", "data/rootfs", "data/content/ingest", "exec/containers", "exec/runtime-crun", "exec/runtime-runc", "tmp"} {
		left = append(left, entriesOf(filepath.Join(d.Dir, dir))...)
	}
	left = append(left, d.cgroups()...)
	left = append(left, d.temporaries()...)
	left = append(left, d.publications()...)
	if len(left) == 0 {
		left = d.activeSnapshots()
	}
	return left
}

// remains is what nothing needs after the daemon's end, if there were no containers.
func (d *Daemon) remains() []string {
	left := d.leaks()
	for _, m := range mountsBelow(d.ExecRoot()) {
		left = append(left, "mount "+m)
	}
	left = append(left, entriesOf(filepath.Join(d.ExecRoot(), "netns"))...)
	for _, p := range d.processes() {
		left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.name))
	}
	return append(left, d.veths()...)
}

func entriesOf(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		out = append(out, "file "+filepath.Join(dir, e.Name()))
	}
	return out
}

// temporaries are half-written files, and sockets other than the daemon's and the resolver's.
func (d *Daemon) temporaries() []string {
	var out []string
	_ = filepath.WalkDir(d.Dir, func(path string, e fs.DirEntry, err error) error {
		switch name := filepath.Base(path); {
		case err != nil:
			return nil
		case e.IsDir() && (name == "blobs" || name == "fs" || name == "_data" || name == "netns" || name == "cli"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".tmp"), strings.HasPrefix(name, "tmp-"), strings.HasPrefix(name, ".tmp"),
			e.Type() == fs.ModeSocket && path != d.Socket && name != "resolver.sock":
			out = append(out, "file "+path)
		}
		return nil
	})
	return out
}

// publications are the elements of published ports in our own tables.
func (d *Daemon) publications() []string {
	var out []string
	for _, family := range []string{"ip", "ip6"} {
		for _, name := range []string{"published", "published_addr"} {
			r := d.InNet("nft", "list", "map", family, "longshore", name)
			if r.Code == 0 && strings.Contains(r.Out, "elements") {
				out = append(out, "nft elements:\n"+r.Out)
			}
		}
	}
	return out
}

// veths are the host's ends of containers' interfaces.
func (d *Daemon) veths() []string {
	var links []struct {
		Ifname string `json:"ifname"`
	}
	r := d.InNet("ip", "-json", "link", "show", "type", "veth")
	if err := json.Unmarshal([]byte(r.Out), &links); err != nil && r.Out != "" {
		return []string{"ip link: " + err.Error()}
	}
	var out []string
	for _, l := range links {
		if l.Ifname != "" {
			out = append(out, "link "+l.Ifname)
		}
	}
	return out
}

// cgroups are the containers' groups: each daemon under test has a parent group of its own.
func (d *Daemon) cgroups() []string {
	var out []string
	for _, parent := range d.cgroupParents() {
		entries, _ := os.ReadDir(parent)
		for _, e := range entries {
			if e.IsDir() {
				out = append(out, "cgroup "+filepath.Join(parent, e.Name()))
			}
		}
	}
	return out
}

func (d *Daemon) cgroupParents() []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(d.Dir))
	v2, _ := filepath.Glob("/sys/fs/cgroup/" + filepath.Base(d.Dir))
	return append(v1, v2...)
}

// activeSnapshots are containers' root file systems in the snapshotter's own records, read from a copy because a daemon
// that runs has them locked.
func (d *Daemon) activeSnapshots() (left []string) {
	b, err := os.ReadFile(filepath.Join(d.DataRoot(), "snapshots", "metadata.db"))
	if err != nil {
		return nil
	}
	path := d.Dir + ".snapshots"
	defer os.Remove(path)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return []string{"snapshots: " + err.Error()}
	}
	defer func() {
		if torn := recover(); torn != nil { // asked again
			left = []string{fmt.Sprint("snapshots: ", torn)}
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return []string{"snapshots: " + err.Error()}
	}
	defer db.Close()
	_ = db.View(func(tx *bbolt.Tx) error {
		v1 := tx.Bucket([]byte("v1"))
		if v1 == nil || v1.Bucket([]byte("snapshots")) == nil {
			return nil
		}
		snapshots := v1.Bucket([]byte("snapshots"))
		return snapshots.ForEachBucket(func(key []byte) error {
			const committed = 3
			if kind := snapshots.Bucket(key).Get([]byte("kind")); len(kind) == 1 && kind[0] != committed && !cacheRecord(key) {
				left = append(left, fmt.Sprintf("snapshot %s", key))
			}
			return nil
		})
	})
	return left
}

// cacheRecord tells the build cache's snapshots by BuildKit's IDs: 25 letters and digits. Cache mounts and sources of
// builds stay writable, and a record that others are built on keeps the view that their differences were taken from, one
// a record, until it is pruned.
func cacheRecord(key []byte) bool {
	id := strings.TrimSuffix(filepath.Base(string(key)), "-view")
	return len(id) == 25 && strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

// sweep forces away whatever is left, so that one failing test does not disturb the next.
func (d *Daemon) sweep() {
	for _, p := range d.processes() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	for _, parent := range d.cgroupParents() {
		sweepGroup(parent)
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

// sweepGroup kills what runs in a parent group's children and removes them and it.
func sweepGroup(parent string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, f := range strings.Fields(string(b)) {
			var pid int
			if _, err := fmt.Sscan(f, &pid); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		for range 50 {
			if err := syscall.Rmdir(dir); err != syscall.EBUSY {
				break
			}
			pause(20 * time.Millisecond)
		}
	}
	_ = syscall.Rmdir(parent)
}

// pause waits for the kernel to take killed processes apart, of which it does not tell.
func pause(d time.Duration) { <-time.After(d) }

func mountsBelow(dir string) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			out = append(out, fields[4])
		}
	}
	return out
}

type process struct {
	pid  int
	name string // its command line
}

// processes are those that the daemon started and what they started, but not containers: the daemon under test has a
// mark in its environment that shims, runtimes and the resolver inherit. The daemon itself is left out.
func (d *Daemon) processes() []process {
	mark := []byte(markName + "=" + d.Dir + "\x00")
	entries, _ := os.ReadDir("/proc")
	var out []process
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || (d.cmd != nil && pid == d.cmd.Process.Pid) {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !bytes.Contains(append(env, 0), mark) {
			continue
		}
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		out = append(out, process{pid, strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))})
	}
	return out
}

// Shim is the pid of a container's shim, 0 without.
func (d *Daemon) Shim(id string) int {
	for _, p := range d.processes() {
		if p.name == "longshore-shim "+id {
			return p.pid
		}
	}
	return 0
}

// Resolver is the pid of the daemon's resolver process, 0 without.
func (d *Daemon) Resolver() int {
	for _, p := range d.processes() {
		if strings.HasSuffix(p.name, "longshore resolver") {
			return p.pid
		}
	}
	return 0
}

// KillShims kills all shims and everything in the containers' groups, as the end of the machine does.
func (d *Daemon) KillShims() {
	for _, p := range d.processes() {
		if strings.HasPrefix(p.name, "longshore-shim") {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	for _, parent := range d.cgroupParents() {
		sweepGroup(parent)
	}
}

// Freeze stops all processes of a container in the kernel, behind the daemon's back; Thaw lets them go on.
func (d *Daemon) Freeze(id string) { d.freezer(id, "FROZEN", "1") }

// Thaw undoes Freeze.
func (d *Daemon) Thaw(id string) { d.freezer(id, "THAWED", "0") }

func (d *Daemon) freezer(id, v1, v2 string) {
	d.T.Helper()
	group := filepath.Join(filepath.Base(d.Dir), id)
	file, word := filepath.Join("/sys/fs/cgroup/freezer", group, "freezer.state"), v1
	if !exists(file) {
		file, word = filepath.Join("/sys/fs/cgroup", group, "cgroup.freeze"), v2
	}
	if err := os.WriteFile(file, []byte(word), 0o600); err != nil && exists(file) {
		d.T.Fatal(err)
	}
}
