package proc

import (
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func reaper(t *testing.T) *Reaper {
	r := NewReaper(func() int64 { return 42 })
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGCHLD)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range ch {
			r.Collect()
		}
	})
	t.Cleanup(func() { signal.Stop(ch); close(ch); wg.Wait() })
	return r
}

func null(t *testing.T) [3]uintptr {
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return [3]uintptr{f.Fd(), f.Fd(), f.Fd()}
}

func TestReaper(t *testing.T) {
	r := reaper(t)
	stdio := null(t)
	for script, code := range map[string]int{"exit 0": 0, "exit 9": 9, "kill -KILL $$": 137} {
		release := r.Hold()
		pid, err := Start([]string{"/bin/sh", "-c", script}, stdio, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		over := make(chan Status, 1)
		r.Claim(pid, func(st Status) { over <- st })
		release()
		if st := <-over; st.Code != code || st.AtUnixNano != 42 {
			t.Errorf("%s: %+v", script, st)
		}
		if err := r.Signal(pid, syscall.SIGTERM); err != syscall.ESRCH {
			t.Errorf("signal after the end: %v", err)
		}
	}
}

// TestLateClaim: the end of a process that was not known yet is not lost.
func TestLateClaim(t *testing.T) {
	r := reaper(t)
	release := r.Hold()
	pid, err := Start([]string{"/bin/sh", "-c", "exit 4"}, null(t), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for StartTime(pid) != "" { // until it is reaped
		<-time.After(time.Millisecond)
	}
	over := make(chan Status, 1)
	r.Claim(pid, func(st Status) { over <- st })
	if st := <-over; st.Code != 4 {
		t.Errorf("%+v", st)
	}
	release()
	if len(r.unclaimed) != 0 || len(r.waiting) != 0 {
		t.Errorf("left: %v %v", r.unclaimed, r.waiting)
	}
}

func TestStartFails(t *testing.T) {
	if _, err := Start([]string{"/no/such/program"}, null(t), nil, nil); err != syscall.ENOENT {
		t.Error(err)
	}
	if _, err := Start([]string{"/bin/true"}, null(t), []string{"/no/such/group"}, nil); err == nil || !strings.Contains(err.Error(), "enter cgroup") {
		t.Error(err)
	}
}

// groups makes a group in each of the hierarchies that there are.
func groups(t *testing.T, parents ...string) (dirs []string) {
	if os.Geteuid() != 0 {
		t.Skip("cgroups need root")
	}
	for _, parent := range parents {
		if _, err := os.Stat(parent + "/cgroup.procs"); err != nil {
			continue
		}
		d := filepath.Join(parent, "lstest-proc-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for os.Remove(d) == syscall.EBUSY {
				<-time.After(time.Millisecond)
			}
			os.Remove(d)
		})
		dirs = append(dirs, d)
	}
	if len(dirs) == 0 {
		t.Skip("no such hierarchy here")
	}
	return dirs
}

func TestCgroups(t *testing.T) {
	for name, parents := range map[string][]string{
		"v1":     {"/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/freezer"},
		"v2":     {"/sys/fs/cgroup/unified"},
		"pure":   {"/sys/fs/cgroup"},
		"hybrid": {"/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := groups(t, parents...)
			r := reaper(t)
			release := r.Hold()
			defer release()
			pid, err := Start([]string{"/bin/sleep", "1000"}, null(t), dirs, nil)
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan Status, 1)
			r.Claim(pid, func(st Status) { over <- st })
			for _, d := range dirs {
				b, _ := os.ReadFile(d + "/cgroup.procs")
				if strings.TrimSpace(string(b)) != strconv.Itoa(pid) {
					t.Errorf("%s has %q, not %d alone", d, b, pid)
				}
			}
			KillAll(dirs[:1])
			if st := <-over; st.Code != 137 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestOOMKills(t *testing.T) {
	f := filepath.Join(t.TempDir(), "memory.events")
	os.WriteFile(f, []byte("low 0\noom 3\noom_kill 2\noom_group_kill 0\n"), 0o644)
	if n := OOMKills([]string{"/no/such/file", f}); n != 2 {
		t.Error(n)
	}
}
