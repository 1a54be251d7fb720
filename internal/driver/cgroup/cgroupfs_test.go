package cgroupfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/cgroup"
)

// hostManager is the real thing; the tests' groups live below a parent of their own, removed afterwards.
func hostManager(t testing.TB) (cgroup.Manager, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: control groups are made for real")
	}
	m, err := New(Realtime{})
	if err != nil {
		t.Fatal(err)
	}
	parent := fmt.Sprintf("/longshore-test-%d", os.Getpid())
	t.Cleanup(func() {
		if g, err := m.Open(context.Background(), parent); err == nil {
			if err := g.Remove(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return m, parent
}

func p[T any](v T) *T { return &v }

// inside starts sh in the group with a pipe to feed it commands; it ends with the test.
func inside(t *testing.T, g cgroup.Group, script string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	enter := `for d; do echo 0 > "$d/cgroup.procs" || exit 1; done; exec /bin/sh -c "$SCRIPT"`
	cmd := exec.Command("/bin/sh", append([]string{"-c", enter, "sh"}, g.Dirs()...)...)
	cmd.Env = append(os.Environ(), "SCRIPT="+script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, in, bufio.NewReader(out)
}

func v1only(t *testing.T, m cgroup.Manager) *V1 {
	t.Helper()
	v1, ok := m.(*V1)
	if !ok {
		t.Skip("this host has no v1 hierarchies")
	}
	return v1
}

func TestCreateDefaultsAndRemove(t *testing.T) {
	m, parent := hostManager(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	g, err := m.Create(ctx, parent+"/defaults", &specs.LinuxResources{})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range g.Dirs() {
		if !exists(dir) {
			t.Errorf("%s was not made", dir)
		}
	}
	cmd, _, _ := inside(t, g, "exec sleep 1000")
	err = poll(ctx, func() (bool, error) {
		pids, err := g.PIDs(ctx)
		return slices.Equal(pids, []int{cmd.Process.Pid}), err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Open(ctx, parent+"/defaults"); err != nil {
		t.Error(err)
	}
	if err := g.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	for _, dir := range g.Dirs() {
		if exists(dir) {
			t.Errorf("%s is still there", dir)
		}
	}
	if err := g.Remove(ctx); err != nil {
		t.Errorf("second Remove: %v", err)
	}
	if _, err := m.Open(ctx, parent+"/defaults"); !errdefs.IsNotFound(err) {
		t.Errorf("Open of a removed group: %v", err)
	}
	if _, err := m.Create(ctx, "/..", nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Create of the root: %v", err)
	}
}

func TestV1Limits(t *testing.T) {
	m, parent := hostManager(t)
	v1 := v1only(t, m)
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: p(int64(64 << 20)), Swap: p(int64(128 << 20)), Reservation: p(int64(32 << 20)), Swappiness: p(uint64(10)), DisableOOMKiller: p(true)},
		CPU:    &specs.LinuxCPU{Shares: p(uint64(512)), Quota: p(int64(50000)), Period: p(uint64(100000)), Cpus: "0", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: p(int64(42))},
	}
	g, err := v1.Create(context.Background(), parent+"/limits", r)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]string) {
		t.Helper()
		for file, value := range want {
			controller, _, _ := strings.Cut(file, ".")
			got, err := read(g.(*groupV1).dir(controller), file)
			if err != nil || !strings.HasPrefix(string(got), value) {
				t.Errorf("%s = %q, %v; want %q", file, got, err, value)
			}
		}
	}
	check(map[string]string{
		"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "134217728", "memory.soft_limit_in_bytes": "33554432",
		"memory.swappiness": "10", "memory.oom_control": "oom_kill_disable 1", "cpu.shares": "512", "cpu.cfs_quota_us": "50000",
		"cpu.cfs_period_us": "100000", "cpuset.cpus": "0", "cpuset.mems": "0", "pids.max": "42",
	})
	steps := []struct {
		name        string
		limit, swap int64
	}{{"grow above the old sum", 256 << 20, 512 << 20}, {"shrink below", 32 << 20, 32 << 20}, {"no bound for swap", 32 << 20, -1}, {"bound again", 16 << 20, 24 << 20}}
	for _, s := range steps {
		err := g.Update(context.Background(), &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &s.limit, Swap: &s.swap}})
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		sum := itoa(s.swap)
		if s.swap < 0 {
			sum = "9223372036854771712"
		}
		check(map[string]string{"memory.limit_in_bytes": itoa(s.limit), "memory.memsw.limit_in_bytes": sum})
	}
	if err := g.Update(context.Background(), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p(int64(-1))}, CPU: &specs.LinuxCPU{Quota: p(int64(-1))}}); err != nil {
		t.Fatal(err)
	}
	check(map[string]string{"pids.max": "max", "cpu.cfs_quota_us": "-1", "cpu.shares": "512"})
	if err := g.Update(context.Background(), &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: p(uint64(1))}}); err == nil || !strings.Contains(err.Error(), "minimum allowed cpu-shares is 2") {
		t.Errorf("shares below the minimum: %v", err)
	}
	if err := g.Update(context.Background(), &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}}); err == nil {
		t.Error("a CPU that is not there was accepted")
	}
}

// TestV1ParentsInParallel: groups that make their parent at the same time can all be entered.
func TestV1ParentsInParallel(t *testing.T) {
	m, parent := hostManager(t)
	if m.Version() != "1" {
		t.Skip("control groups v1 are not mounted here")
	}
	for round := range 20 {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				g, err := m.Create(context.Background(), fmt.Sprintf("%s/%d/%d", parent, round, i), nil)
				if err != nil {
					t.Error(err)
					return
				}
				for _, dir := range g.Dirs() {
					if b, err := os.ReadFile(dir + "/cpuset.cpus"); err == nil && strings.TrimSpace(string(b)) == "" {
						t.Errorf("%s has no CPUs", dir)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestV1FailedCreateLeavesNothing(t *testing.T) {
	m, parent := hostManager(t)
	v1 := v1only(t, m)
	_, err := v1.Create(context.Background(), parent+"/bad", &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}})
	if err == nil {
		t.Fatal("no error")
	}
	if _, err := v1.Open(context.Background(), parent+"/bad"); !errdefs.IsNotFound(err) {
		t.Errorf("the group is still there: %v", err)
	}
}

// denyExceptNull is docker's shape: nothing, then a few.
func denyExceptNull() []specs.LinuxDeviceCgroup {
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "r"},
		{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "w"},
		{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(5)), Access: "r"},
	}
}

// devicesFromInside opens null for both, zero for reading, zero for writing and full for reading.
const devicesFromInside = `
try() { if "$@"; then echo ok; else echo no; fi; }
try sh -c 'true <>/dev/null' 2>/dev/null
try sh -c 'true </dev/zero' 2>/dev/null
try sh -c 'true >/dev/zero' 2>/dev/null
try sh -c 'true </dev/full' 2>/dev/null
`

func TestDevices(t *testing.T) {
	m, parent := hostManager(t)
	managers := map[string]cgroup.Manager{m.Version(): m}
	if m.Version() == "1" && exists(mountRoot+"/unified/cgroup.procs") {
		managers["2"] = NewV2(mountRoot + "/unified") // hybrid: the program works, whatever controllers there are
	}
	for version, m := range managers {
		t.Run("v"+version, func(t *testing.T) {
			g, err := m.Create(context.Background(), parent+"/devices", &specs.LinuxResources{Devices: denyExceptNull()})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				for _, path := range []string{parent + "/devices", parent} {
					if g, err := m.Open(context.Background(), path); err == nil {
						if err := g.Remove(context.Background()); err != nil {
							t.Error(err)
						}
					}
				}
			}()
			cmd, _, out := inside(t, g, devicesFromInside)
			got, _ := io.ReadAll(out)
			_ = cmd.Wait()
			if words := strings.Fields(string(got)); !slices.Equal(words, []string{"ok", "ok", "no", "no"}) {
				t.Errorf("null rw, zero r, zero w, full r = %q; want ok ok no no", got)
			}
		})
	}
}

func TestFreezeAndThaw(t *testing.T) {
	m, parent := hostManager(t)
	managers := map[string]cgroup.Manager{m.Version(): m}
	if m.Version() == "1" && exists(mountRoot+"/unified/cgroup.procs") {
		managers["2"] = NewV2(mountRoot + "/unified")
	}
	for version, m := range managers {
		t.Run("v"+version, func(t *testing.T) {
			ctx := context.Background()
			g, err := m.Create(ctx, parent+"/frozen", nil)
			if err != nil {
				t.Fatal(err)
			}
			_, in, out := inside(t, g, `while read x; do echo got $x; done`)
			fmt.Fprintln(in, "one")
			if line, err := out.ReadString('\n'); line != "got one\n" {
				t.Fatal(line, err)
			}
			if err := g.Freeze(ctx); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(in, "two")
			line := make(chan string, 1)
			go func() { s, _ := out.ReadString('\n'); line <- s }()
			select {
			case s := <-line:
				t.Fatalf("a frozen process answered %q", s)
			case <-time.After(100 * time.Millisecond):
			}
			if err := g.Thaw(ctx); err != nil {
				t.Fatal(err)
			}
			if s := <-line; s != "got two\n" {
				t.Fatalf("after thaw: %q", s)
			}
			if err := g.Freeze(ctx); err != nil { // a frozen group must still be removable
				t.Fatal(err)
			}
			if err := g.Remove(ctx); err != nil {
				t.Fatal(err)
			}
			if g, err := m.Open(ctx, parent); err == nil {
				if err := g.Remove(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestRemoveNestedWithProcesses(t *testing.T) {
	m, parent := hostManager(t)
	ctx := context.Background()
	g, err := m.Create(ctx, parent+"/outer", nil)
	if err != nil {
		t.Fatal(err)
	}
	nested, err := m.Create(ctx, parent+"/outer/a/b", nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd, _, _ := inside(t, nested, "sleep 1000 & sleep 1000 & wait")
	if err := poll(ctx, func() (bool, error) { pids, err := g.PIDs(ctx); return len(pids) == 3, err }); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	go func() { _ = cmd.Wait() }()
	if err := g.Remove(limited); err != nil {
		t.Fatal(err)
	}
}

// TestThreadsOfOthersAreSpared enters a group with one thread of this process, as a shim does.
func TestThreadsOfOthersAreSpared(t *testing.T) {
	m, parent := hostManager(t)
	v1 := v1only(t, m)
	ctx := context.Background()
	g, err := v1.Create(ctx, parent+"/threads", nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, _ := inside(t, g, "exec sleep 1000")
	entered, leave := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		if unix.Gettid() == os.Getpid() {
			entered <- errors.New("this is the main thread")
			return
		}
		for _, dir := range g.Dirs() {
			if err := os.WriteFile(dir+"/tasks", []byte("0"), 0); err != nil {
				entered <- err
				return
			}
		}
		entered <- nil
		<-leave
	}()
	if err := <-entered; err != nil {
		t.Skipf("this host lets no process into a group of its own: %v", err)
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = poll(limited, func() (bool, error) {
		pids, err := g.PIDs(ctx)
		return slices.Equal(pids, []int{other.Process.Pid}), err
	})
	close(leave)
	if err != nil {
		t.Error(err)
	}
	if err := g.Remove(ctx); err != nil {
		t.Error(err)
	}
}

func TestV1Stats(t *testing.T) {
	m, parent := hostManager(t)
	v1 := v1only(t, m)
	ctx := context.Background()
	g, err := v1.Create(ctx, parent+"/stats", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(50 << 20))}, Pids: &specs.LinuxPids{Limit: p(int64(10))}})
	if err != nil {
		t.Fatal(err)
	}
	_, in, out := inside(t, g, `read x; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read x`)
	fmt.Fprintln(in)
	if s, err := out.ReadString('\n'); s != "done\n" {
		t.Fatal(s, err)
	}
	var s *container.StatsResponse
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = poll(limited, func() (bool, error) { // the kernel adds memory.stat up every two seconds
		s, err = g.Stats(ctx)
		return err != nil || s.MemoryStats.Stats["total_rss"] > 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case s.CPUStats.CPUUsage.TotalUsage == 0 || s.CPUStats.SystemUsage == 0 || s.CPUStats.OnlineCPUs != uint32(runtime.NumCPU()):
		t.Errorf("cpu: %+v", s.CPUStats)
	case len(s.CPUStats.CPUUsage.PercpuUsage) == 0:
		t.Errorf("no usage per CPU: %+v", s.CPUStats)
	case s.MemoryStats.Limit != 50<<20 || s.MemoryStats.Usage == 0 || s.MemoryStats.Stats["total_rss"] == 0:
		t.Errorf("memory: %+v", s.MemoryStats)
	case s.PidsStats.Current != 1 || s.PidsStats.Limit != 10:
		t.Errorf("pids: %+v", s.PidsStats)
	}
}

func TestV1OOM(t *testing.T) {
	m, parent := hostManager(t)
	v1 := v1only(t, m)
	g, err := v1.Create(context.Background(), parent+"/oom", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(6 << 20)), Swap: p(int64(6 << 20))}})
	if err != nil {
		t.Fatal(err)
	}
	cmd, _, _ := inside(t, g, `x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done`)
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(interface{ Signal() unix.Signal }) == nil || exit.ProcessState.String() != "signal: killed" {
		t.Fatalf("ended with %v", err)
	}
	if kills, err := g.(*groupV1).OOMKills(); err != nil || kills == 0 {
		t.Errorf("OOMKills = %d, %v", kills, err)
	}
}

// TestV2Files checks what is written on a plain directory that looks like a group: this host may have no v2 controllers.
func TestV2Files(t *testing.T) {
	dir := t.TempDir()
	files := []string{"memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "cpuset.cpus", "cpuset.mems", "io.weight", "io.max", "pids.max", "hugetlb.2MB.max"}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := &groupV2{dir: dir}
	r := &specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: p(int64(64 << 20)), Swap: p(int64(96 << 20)), Reservation: p(int64(32 << 20))},
		CPU:            &specs.LinuxCPU{Shares: p(uint64(1024)), Quota: p(int64(50000)), Period: p(uint64(100000)), Cpus: "0-1", Mems: "0"},
		Pids:           &specs.LinuxPids{Limit: p(int64(42))},
		BlockIO:        &specs.LinuxBlockIO{Weight: p(uint16(500))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
	}
	d := specs.LinuxThrottleDevice{Rate: 1000}
	d.Major, d.Minor = 8, 1
	r.BlockIO.ThrottleReadBpsDevice = []specs.LinuxThrottleDevice{d}
	if err := g.Update(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"memory.max": "67108864", "memory.swap.max": "33554432", "memory.low": "33554432", "cpu.weight": "100",
		"cpu.max": "50000 100000", "cpuset.cpus": "0-1", "cpuset.mems": "0", "io.weight": "default 4950", "io.max": "8:1 rbps=1000",
		"pids.max": "42", "hugetlb.2MB.max": "4194304",
	}
	for file, value := range want {
		if got, _ := read(dir, file); string(got) != value {
			t.Errorf("%s = %q, want %q", file, got, value)
		}
	}
	bad := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(64 << 20)), Swap: p(int64(32 << 20))}}
	if err := g.Update(context.Background(), bad); !errdefs.IsInvalidArgument(err) {
		t.Errorf("swap below memory: %v", err)
	}
}

func TestV2Stats(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"cpu.stat":       "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 3\nnr_throttled 2\nthrottled_usec 7\n",
		"memory.stat":    "anon 4096\nfile 8192\ninactive_file 100\n",
		"memory.current": "12288\n", "memory.max": "max\n", "memory.events": "low 0\noom 2\noom_kill 1\n",
		"io.stat": "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n", "pids.current": "5\n", "pids.max": "max\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := &groupV2{dir: dir}
	s, err := g.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CPUStats; c.CPUUsage.TotalUsage != 1500000 || c.CPUUsage.UsageInKernelmode != 500000 || c.ThrottlingData.ThrottledTime != 7000 {
		t.Errorf("cpu %+v", c)
	}
	if m := s.MemoryStats; m.Usage != 12288 || m.Stats["inactive_file"] != 100 || m.Failcnt != 2 || m.Limit == 0 || m.Limit == ^uint64(0) {
		t.Errorf("memory %+v", m)
	}
	if b := s.BlkioStats; len(b.IoServiceBytesRecursive) != 2 || b.IoServiceBytesRecursive[1].Op != "write" || b.IoServicedRecursive[0].Value != 3 {
		t.Errorf("blkio %+v", b)
	}
	if s.PidsStats.Current != 5 || s.PidsStats.Limit != ^uint64(0) {
		t.Errorf("pids %+v", s.PidsStats)
	}
	if kills, err := g.OOMKills(); kills != 1 || err != nil {
		t.Errorf("OOMKills = %d, %v", kills, err)
	}
}

func TestCPUWeight(t *testing.T) {
	for shares, weight := range map[uint64]uint64{0: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 30: 10000} {
		if got := cpuWeight(shares); got != weight {
			t.Errorf("cpuWeight(%d) = %d, want %d", shares, got, weight)
		}
	}
}

func TestDeviceRules(t *testing.T) {
	for want, d := range map[string]specs.LinuxDeviceCgroup{
		"a":                 {Access: "rwm"},
		"c *:* m,b *:* m":   {Type: "a", Access: "m"}, // "a *:* m" would allow everything
		"c 1:* rw,b 1:* rw": {Major: p(int64(1)), Minor: p(int64(-1)), Access: "rw"},
		"b 8:1 r":           {Type: "b", Major: p(int64(8)), Minor: p(int64(1)), Access: "r"},
	} {
		if got := strings.Join(deviceRules(&d), ","); got != want {
			t.Errorf("%+v: %q, want %q", d, got, want)
		}
	}
}

func BenchmarkCreateRemove(b *testing.B) {
	m, parent := hostManager(b)
	ctx := context.Background()
	r := &specs.LinuxResources{Devices: denyExceptNull()}
	if _, err := m.Create(ctx, parent+"/warm", r); err != nil {
		b.Fatal(err)
	}
	var create time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		g, err := m.Create(ctx, fmt.Sprintf("%s/b%d", parent, i), r)
		if err != nil {
			b.Fatal(err)
		}
		create += time.Since(start)
		if err := g.Remove(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(create.Microseconds())/float64(b.N), "µs/create")
}
