package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// benchRun measures whole runs, interleaved so that all see the same machine.
func (b *bench) benchRun(work, network, target string) error {
	var ours, docker, bare []time.Duration
	one := func(list *[]time.Duration, f func() error) error {
		t, err := times(1, f)
		*list = append(*list, t...)
		return err
	}
	for i := range b.n {
		if err := one(&bare, func() error { return exec.Command("runc", "run", "--bundle", b.bundle, fmt.Sprintf("bare%d", i)).Run() }); err != nil {
			return fmt.Errorf("bare runc: %w", err)
		}
		if err := one(&ours, func() error { _, err := b.ours.run("run", "--rm", "--network", network, "busybox", "true"); return err }); err != nil {
			return err
		}
		if b.docker == nil || i >= (b.n+2)/3 {
			continue
		}
		if err := one(&docker, func() error {
			_, err := b.docker.run("run", "--rm", "--network", network, "busybox", "true")
			return err
		}); err != nil {
			return err
		}
	}
	o, d, r := sortedMedian(ours), sortedMedian(docker), sortedMedian(bare)
	print(work, ms(o), ms(d), ms(r), ratio(float64(o), float64(r))+" bare, "+ratio(float64(o), float64(d))+" dockerd", target)
	return nil
}

func sortedMedian(d []time.Duration) time.Duration {
	slices.Sort(d)
	return median(d)
}

func (b *bench) benchExec() error {
	var med [2]time.Duration
	for i, d := range b.daemons() {
		id, err := d.run("run", "-d", "busybox", "sleep", "1000")
		if err != nil {
			return err
		}
		t, err := times(b.n, func() error { _, err := d.run("exec", id, "true"); return err })
		if err != nil {
			return err
		}
		med[i] = median(t)
		if _, err := d.run("rm", "-f", id); err != nil {
			return err
		}
	}
	print("docker exec c true", ms(med[0]), ms(med[1]), "–", ratio(float64(med[0]), float64(med[1]))+" dockerd", "≤ 0.4 × dockerd")
	return nil
}

// rounds is how often a row that takes seconds is measured: one sample of them tells more of the host than of us.
const rounds = 3

// inTurns measures the daemons one after the other, rounds times, and gives the median rate of each.
func (b *bench) inTurns(rate func(d *daemon) (float64, error)) ([2]float64, error) {
	var got [2][]float64
	var out [2]float64
	for range rounds {
		for i, d := range b.daemons() {
			r, err := rate(d)
			if err != nil {
				return out, err
			}
			got[i] = append(got[i], r)
		}
	}
	for i, list := range got {
		if len(list) > 0 {
			slices.Sort(list)
			out[i] = list[len(list)/2]
		}
	}
	return out, nil
}

func (b *bench) benchParallel() error {
	rate, err := b.inTurns(sixty)
	if err != nil {
		return err
	}
	print("60 × run -d, 8 at a time", perSecond(rate[0]), perSecond(rate[1]), "–", ratio(rate[0], rate[1])+" dockerd", "≥ 5 × dockerd")
	return nil
}

// sixty starts 60 containers, 8 at a time, and removes them: containers a second.
func sixty(d *daemon) (float64, error) {
	const total, workers = 60, 8
	begin := time.Now()
	jobs := make(chan int)
	errs := make(chan error, total)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range jobs {
				_, err := d.run("run", "-d", "busybox", "sleep", "1000")
				errs <- err
			}
		})
	}
	for j := range total {
		jobs <- j
	}
	close(jobs)
	wg.Wait()
	rate := total / time.Since(begin).Seconds()
	for range total {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	ids, err := d.run("ps", "-aq")
	if err != nil {
		return 0, err
	}
	_, err = d.run(append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
	return rate, err
}

func perSecond(r float64) string {
	if r == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f /s", r)
}

const megabytes = 200

// output is how a container writes 200 MB of lines as fast as it can: from a file, because busybox's yes is the slowest
// part otherwise.
var output = []string{"-v", "lines:/v", "busybox", "cat", "/v/lines"}

// makeLines fills the volume with the file, once.
func makeLines(d *daemon) error {
	_, err := d.run("run", "--rm", "-v", "lines:/v", "busybox", "sh", "-c",
		fmt.Sprintf("test -e /v/lines || yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789 | head -c %d >/v/lines; cat /v/lines >/dev/null", megabytes<<20))
	return err
}

func (b *bench) benchAttach() error {
	rate, err := b.inTurns(func(d *daemon) (float64, error) {
		if err := makeLines(d); err != nil {
			return 0, err
		}
		t, err := discard(d.command(append([]string{"run", "--rm"}, output...)...))
		return megabytes / t.Seconds(), err
	})
	if err != nil {
		return err
	}
	print("attach, 200 MB", mbs(rate[0]), mbs(rate[1]), "–", ratio(rate[0], rate[1])+" dockerd", "≥ 200 MB/s")
	return nil
}

func (b *bench) benchLogs() error {
	rate, err := b.inTurns(func(d *daemon) (float64, error) {
		if err := makeLines(d); err != nil {
			return 0, err
		}
		id, err := d.run(append([]string{"run", "-d"}, output...)...)
		if err != nil {
			return 0, err
		}
		if _, err := d.run("wait", id); err != nil {
			return 0, err
		}
		t, err := discard(d.command("logs", id))
		if err != nil {
			return 0, err
		}
		_, err = d.run("rm", id)
		return megabytes / t.Seconds(), err
	})
	if err != nil {
		return err
	}
	print("docker logs, 200 MB", mbs(rate[0]), mbs(rate[1]), "–", ratio(rate[0], rate[1])+" dockerd", "≥ 150 MB/s")
	return nil
}

func mbs(r float64) string {
	if r == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f MB/s", r)
}

func discard(c *exec.Cmd) (time.Duration, error) {
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	syscall.Sync() // what others have left dirty is not written back in this time
	begin := time.Now()
	if err := c.Start(); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, out)
	if err != nil {
		return 0, err
	}
	if err := c.Wait(); err != nil {
		return 0, err
	}
	if n < megabytes<<20 {
		return 0, fmt.Errorf("only %d bytes of %d arrived", n, megabytes<<20)
	}
	return time.Since(begin), nil
}

// benchMemory adds up the private memory of all shims of 20 idle containers, and the daemon's RSS.
func (b *bench) benchMemory() error {
	const count = 20
	for range count {
		if _, err := b.ours.run("run", "-d", "busybox", "sleep", "1000"); err != nil {
			return err
		}
	}
	<-time.After(3 * time.Second) // let start-up garbage be collected: idle is what is measured
	list, err := b.ours.run("ps", "-q", "--no-trunc")
	if err != nil {
		return err
	}
	private, shims := 0, 0
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range all {
		text, _ := os.ReadFile(path)
		name, id, _ := strings.Cut(strings.TrimRight(string(text), "\x00"), "\x00")
		if filepath.Base(name) == "longshore-shim" && id != "" && strings.Contains(list, id) {
			rollup := filepath.Join(filepath.Dir(path), "smaps_rollup")
			private += field(rollup, "Private_Dirty:") + field(rollup, "Private_Clean:")
			shims++
		}
	}
	rss := field(fmt.Sprintf("/proc/%d/status", b.ours.cmd.Process.Pid), "VmRSS:")
	print("private memory per idle container", fmt.Sprintf("%.2f MB", float64(private)/float64(max(shims, 1))/1024), "–", "–", "–", "≤ 1.5 MB")
	print("daemon RSS with 20 idle containers", fmt.Sprintf("%.0f MB", float64(rss)/1024), "–", "–", "–", "≤ 60 MB")
	ids, err := b.ours.run("ps", "-aq")
	if err != nil {
		return err
	}
	_, err = b.ours.run(append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
	return err
}

// field reads a line "Name:  123 kB".
func field(path, name string) int {
	text, _ := os.ReadFile(path)
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			return n
		}
	}
	return 0
}
