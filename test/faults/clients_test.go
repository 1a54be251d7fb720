package faults

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// crowd opens so many connections that send head and never read. They are closed by gone.
func crowd(t *testing.T, d *harness.Daemon, n int, head string) (conns []net.Conn, gone func()) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan int)
	for range 16 {
		wg.Go(func() {
			for range work {
				var c net.Conn
				if !harness.Within(patience, func() (ok bool) { // a full queue of the socket is no fault
					var err error
					c, err = dial(d, head)
					return err == nil
				}) {
					t.Error("no connection")
					return
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	return conns, sync.OnceFunc(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
}

// enoughFiles tells whether this process may open so many files.
func enoughFiles(n uint64) bool {
	var limit syscall.Rlimit
	return syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur >= n
}

// steady waits until the daemon's goroutines and descriptors have not changed for a second: it prepares things at its start.
func steady(d *harness.Daemon) (goroutines, descriptors int) {
	goroutines, descriptors = d.Footprint()
	latest := time.Now().Add(patience)
	for since := time.Now(); time.Since(since) < time.Second && time.Now().Before(latest); {
		<-time.After(100 * time.Millisecond)
		g, f := d.Footprint()
		if g != goroutines || f != descriptors {
			goroutines, descriptors, since = g, f, time.Now()
		}
	}
	return goroutines, descriptors
}

// listen follows events and hands each line on with the time it came.
func listen(t *testing.T, d *harness.Daemon) <-chan string {
	t.Helper()
	resp, err := d.Client().Get("http://d/events")
	must(t, err)
	lines := make(chan string, 10000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := bufio.NewScanner(resp.Body)
		for s.Scan() {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = resp.Body.Close()
		<-done
	})
	return lines
}

// TestDeadListeners: thousands of listeners that never read, and ones that have closed half, cost bounded memory, hold up nobody, and
// everything of them is given back when they go.
func TestDeadListeners(t *testing.T) {
	n := 300
	if harness.Soaking() {
		n = 10000
	}
	t.Parallel()
	if !enoughFiles(uint64(n + 1000)) {
		t.Skip("not enough file descriptors allowed")
	}
	d := harness.Start(t)
	g0, fds := steady(d)
	before := memory(t, d, "VmRSS")
	conns, gone := crowd(t, d, n, "GET /v1.50/events HTTP/1.1\r\nHost: d\r\n\r\n")
	defer gone()
	for i, c := range conns {
		if i%2 == 0 {
			_ = c.(*net.UnixConn).CloseWrite()
		}
	}
	live := listen(t, d)
	want := 0
	round := func() {
		t.Helper()
		for range 50 {
			name := fmt.Sprintf("v%d", want)
			want++
			if a := call(t, d, "POST", "/volumes/create", "application/json", `{"Name":"`+name+`","Labels":{"l":"`+strings.Repeat("x", 2000)+`"}}`); a.status != 201 {
				t.Fatalf("%+v", a)
			}
			for {
				select {
				case line := <-live:
					if strings.Contains(line, `"`+name+`"`) {
						goto told
					}
				case <-time.After(patience):
					t.Fatalf("the live listener was not told of %s", name)
				}
			}
		told:
		}
	}
	round()
	round()
	if grown := memory(t, d, "VmRSS") - before; grown > int64(n)*64<<10+64<<20 {
		t.Errorf("%d dead listeners cost %d MB", n, grown>>20)
	} else {
		t.Logf("%d dead listeners cost %d MB", n, grown>>20)
	}
	gone()
	// Those that were behind get to know at the next events.
	harness.Eventually(t, 2*patience, "everything of the dead listeners is given back", func() bool {
		call(t, d, "POST", "/volumes/create", "application/json", `{"Name":"last"}`)
		call(t, d, "DELETE", "/volumes/last", "", "")
		g, f := d.Footprint()
		return g <= g0+20 && f <= fds+20
	})
}

// TestNeverReads: clients that ask for much and read nothing. Memory stays bounded, others are served, and the container goes on where
// docker's would.
func TestNeverReads(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "loud", "--log-opt", "max-size=20m", "busybox", "sh", "-c", `echo start; while :; do dd if=/dev/zero bs=64k count=64 2>/dev/null | tr '\0' 'x'; echo; usleep 20000; done`)
	d.OK("run", "-d", "--name", "beat", "--tmpfs", "/beat", "busybox", "sh", "-c", `while :; do date >/beat/t; usleep 50000; done`)
	d.OK("exec", "loud", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=64")
	harness.Eventually(t, patience, "it has logged much", func() bool {
		var n int64
		for _, f := range files(t, d, "containers/*/*.log*") {
			if st, err := os.Stat(f); err == nil {
				n += st.Size()
			}
		}
		return n > 16<<20
	})
	_, fds := steady(d)
	before := memory(t, d, "VmRSS")
	const each = 20
	var all []func()
	for _, head := range []string{
		"GET /containers/loud/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/loud/logs?stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/loud/export HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/loud/archive?path=/big HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/loud/stats HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /images/busybox/get HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /events?since=1 HTTP/1.1\r\nHost: d\r\n\r\n",
	} {
		_, gone := crowd(t, d, each, head)
		defer gone()
		all = append(all, gone)
	}
	// Attached to another loud container: that one may wait for its client, as docker's does; the rest may not.
	d.OK("run", "-d", "--name", "attached", "busybox", "sh", "-c", `while :; do dd if=/dev/zero bs=64k count=16 2>/dev/null | tr '\0' 'y'; echo; usleep 10000; done`)
	_, gone := crowd(t, d, 5, "POST /containers/attached/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	defer gone()
	all = append(all, gone)
	// A build whose output nobody reads.
	dockerfile := "FROM busybox\nRUN i=0; while [ $i -lt 20000 ]; do echo line $i of a build that nobody listens to; i=$((i+1)); done\n"
	body := buildContext(t, dockerfile)
	_, gone = crowd(t, d, 1, fmt.Sprintf("POST /build?nocache=1&t=unread HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	defer gone()
	all = append(all, gone)

	last := prompt(t, d, "exec", "beat", "cat", "/beat/t")
	harness.Eventually(t, patience, "another container lives", func() bool { return prompt(t, d, "exec", "beat", "cat", "/beat/t") != last })
	prompt(t, d, "ps", "-a")
	prompt(t, d, "logs", "--tail", "1", "beat")
	prompt(t, d, "run", "--rm", "busybox", "true")
	peak := int64(0)
	for range 20 {
		peak = max(peak, memory(t, d, "VmRSS"))
		<-time.After(50 * time.Millisecond)
	}
	if grown := peak - before; grown > 256<<20 {
		t.Errorf("clients that never read cost %d MB", grown>>20)
	} else {
		t.Logf("clients that never read cost %d MB", grown>>20)
	}
	for _, gone := range all {
		gone()
	}
	harness.Eventually(t, 2*patience, "their descriptors are given back", func() bool { return descriptors(t, d) <= fds+15 })
	prompt(t, d, "rm", "-f", "loud", "beat", "attached")
}

func buildContext(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644))
	return string(tarOf(t, dir))
}

// TestSlowHeaders: connections that say nothing, or say it a byte at a time, and ones that are idle after a request, cost little and hold
// up nobody; a header that never ends is refused.
func TestSlowHeaders(t *testing.T) {
	n := 200
	if harness.Soaking() {
		n = 2000
	}
	t.Parallel()
	if !enoughFiles(uint64(3*n + 1000)) {
		t.Skip("not enough file descriptors allowed")
	}
	d := harness.Start(t)
	_, fds := steady(d)
	before := memory(t, d, "VmRSS")
	var all []func()
	for _, head := range []string{"", "GET /_ping HTTP/1.1\r\nHost: d\r\nX-Slow: ", "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"} {
		conns, gone := crowd(t, d, n, head)
		defer gone()
		all = append(all, gone)
		if strings.HasSuffix(head, ": ") {
			for _, c := range conns {
				_, _ = c.Write([]byte("x"))
			}
		}
	}
	if a := call(t, d, "GET", "/version", "", ""); a.status != 200 {
		t.Errorf("version beside slow clients: %+v", a)
	}
	if grown := memory(t, d, "VmRSS") - before; grown > int64(3*n)*32<<10+32<<20 {
		t.Errorf("%d idle connections cost %d MB", 3*n, grown>>20)
	}
	for _, gone := range all {
		gone()
	}
	harness.Eventually(t, patience, "their descriptors are given back", func() bool { return descriptors(t, d) <= fds+15 })

	c, err := dial(d, "GET /_ping HTTP/1.1\r\nHost: d\r\n")
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	go func() { // ends with the connection
		line := "X-Long: " + strings.Repeat("y", 8000) + "\r\n"
		for range 1000 {
			if _, err := io.WriteString(c, line); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("headers without end: %s", resp.Status)
	}
}
