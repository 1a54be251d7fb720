package faults

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore/test/harness"
)

// figures are what an engine must not gather, however many containers have come and gone.
type figures struct {
	rss                      int64 // bytes
	goroutines, descriptors  int
	mounts, groups, elements int
	links, files, processes  int
}

func (f figures) String() string {
	return fmt.Sprintf("RSS %.1f MB, %d goroutines, %d descriptors, %d mounts, %d control groups, %d nft rules and elements, %d links, %d files, %d processes",
		float64(f.rss)/(1<<20), f.goroutines, f.descriptors, f.mounts, f.groups, f.elements, f.links, f.files, f.processes)
}

// measure counts when nothing is going on any more.
func measure(t *testing.T, d *harness.Daemon) figures {
	t.Helper()
	d.CheckLeaks()
	var f figures
	f.goroutines, f.descriptors = steady(d)
	f.rss = memory(t, d, "VmRSS")
	b, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	f.mounts = strings.Count(string(b), d.Dir+"/")
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(d.Dir) + "/*/cgroup.procs")
	must(t, err)
	f.groups = len(groups)
	f.elements = strings.Count(d.InNet("nft", "list", "ruleset").Out, "\n")
	f.links = strings.Count(d.InNet("ip", "-o", "link").Out, "\n")
	_ = filepath.WalkDir(d.DataRoot(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !strings.Contains(path, "/events/") { // bounded, and new ones are begun
			f.files++
		}
		return nil
	})
	entries, err := os.ReadDir("/proc")
	must(t, err)
	for _, e := range entries {
		if env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ")); err == nil && strings.Contains(string(env), "="+d.Dir+"\x00") {
			f.processes++
		}
	}
	return f
}

// life is all that happens to a container: a network of its own or a shared one, a port, volumes, a health check, logs, an exec.
func life(t *testing.T, d *harness.Daemon, i int) {
	name := fmt.Sprintf("life%d", i)
	ok := func(method, path, body string, want int) answer {
		contentType := ""
		if body != "" {
			contentType = "application/json"
		}
		a := call(t, d, method, path, contentType, body)
		if a.status != want {
			t.Errorf("%s %s: %d %s", method, path, a.status, a.message)
		}
		return a
	}
	network := "shared"
	if i%4 == 0 {
		network = name
		ok("POST", "/networks/create", fmt.Sprintf(`{"Name":%q}`, name), 201)
	}
	driver := []string{"json-file", "local"}[i%2]
	a := ok("POST", "/containers/create?name="+name, fmt.Sprintf(`{"Image":"busybox","Cmd":["sh","-c","echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done"],
		"Volumes":{"/anonymous":{}},"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","true"],"Interval":200000000},
		"HostConfig":{"NetworkMode":%q,"Binds":["%s:/named"],"PortBindings":{"80/tcp":[{"HostPort":""}]},"LogConfig":{"Type":%q}}}`, network, name, driver), 201)
	if a.status != 201 {
		return
	}
	ok("POST", "/containers/"+name+"/start", "", 204)
	x := ok("POST", "/containers/"+name+"/exec", `{"Cmd":["true"],"AttachStdout":true}`, 201)
	if i := strings.Index(x.message, `:"`); i > 0 && len(x.message) > i+66 {
		ok("POST", "/exec/"+x.message[i+2:i+66]+"/start", `{"Detach":false}`, 200)
	}
	if i%5 == 0 {
		ok("GET", "/containers/"+name+"/logs?stdout=1", "", 200)
		ok("GET", "/containers/"+name+"/stats?stream=false&one-shot=true", "", 200)
		ok("POST", "/containers/"+name+"/restart?t=1", "", 204)
	}
	ok("POST", "/containers/"+name+"/stop?t=1", "", 204)
	ok("DELETE", "/containers/"+name+"?v=1", "", 204)
	ok("DELETE", "/volumes/"+name, "", 204)
	if network == name {
		ok("DELETE", "/networks/"+name, "", 204)
	}
}

// TestLifeCycles: after thousands of containers everything is as after the first ones.
func TestLifeCycles(t *testing.T) {
	if !harness.Soaking() {
		t.Skip("long: runs with make soak; test/crash looks at a few life cycles each time")
	}
	t.Parallel()
	n := harness.Count(t, "LONGSHORE_CYCLES", 2000)
	d := harness.Start(t)
	d.Busybox()
	d.OK("network", "create", "shared")
	run := func(from, n int) {
		var wg sync.WaitGroup
		next := make(chan int)
		for range 4 {
			wg.Go(func() {
				for i := range next {
					life(t, d, i)
				}
			})
		}
		for i := range n {
			next <- from + i
		}
		close(next)
		wg.Wait()
	}
	run(0, max(n/10, 40)) // pools, buffers and caches have their size then
	first := measure(t, d)
	t.Logf("before: %v", first)
	var took time.Duration
	part := (n + 19) / 20
	for done := 0; done < n && !t.Failed(); {
		began := time.Now()
		run(n+done, min(part, n-done))
		took += time.Since(began)
		if done += min(part, n-done); done%(5*part) == 0 {
			t.Logf("after %d life cycles: %v", done, measure(t, d))
		} else {
			t.Logf("after %d life cycles, %v", done, took.Round(time.Second))
		}
	}
	last := measure(t, d)
	t.Logf("after %d life cycles, %.1f each second: %v", n, float64(n)/took.Seconds(), last)
	for _, f := range []struct {
		what          string
		before, after int
		slack         int // what comes and goes by itself
	}{
		{"goroutines", first.goroutines, last.goroutines, 3}, {"descriptors", first.descriptors, last.descriptors, 3},
		{"mounts", first.mounts, last.mounts, 2}, {"control groups", first.groups, last.groups, 0}, {"nft lines", first.elements, last.elements, 0},
		{"links", first.links, last.links, 2}, {"files", first.files, last.files, 4}, {"processes", first.processes, last.processes, 0},
	} {
		if f.after > f.before+f.slack {
			t.Errorf("%s grow: %d, then %d", f.what, f.before, f.after)
		}
	}
	if last.rss > first.rss+first.rss/4+8<<20 {
		t.Errorf("memory grows: %v, then %v", first, last)
	}
}
