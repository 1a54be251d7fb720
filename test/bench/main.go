// Command bench measures the engine beside dockerd (where it is installed) and bare OCI runtimes, and the registry beside
// Debian's docker-registry and the zot that $ZOT names, in one run, and prints tables of medians and ratios. Nothing here fails on a slow machine: figures are read, not asserted.
//
//	go run ./test/bench [-n 31] [-only run,exec,…]
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	n := flag.Int("n", 31, "measurements of each short command")
	only := flag.String("only", "", "comma separated names of the rows to measure; all by default")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: needs root: real containers")
		os.Exit(1)
	}
	if err := measure(*n, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(n int, only string) error {
	wanted := func(name string) bool { return only == "" || slices.Contains(strings.Split(only, ","), name) }
	if err := measureEngines(n, wanted); err != nil {
		return err
	}
	return measureRegistries(wanted)
}

func measureEngines(n int, wanted func(string) bool) error {
	list := slices.DeleteFunc(rows(), func(r row) bool { return !wanted(r.name) })
	if len(list) == 0 {
		return nil
	}
	b, err := newBench(n)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Printf("%s\n\n| work | Longshore | dockerd | bare runc | ratio | target |\n|---|---|---|---|---|---|\n", b.machine())
	for _, row := range list {
		if err := row.do(b); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	return nil
}

type row struct {
	name string
	do   func(*bench) error
}

func rows() []row {
	return []row{
		{"run", func(b *bench) error { return b.benchRun("docker run --rm busybox true", "bridge", "≤ 1.5 × bare") }},
		{"none", func(b *bench) error { return b.benchRun("same with --network none", "none", "≤ 1.4 × bare") }},
		{"exec", (*bench).benchExec},
		{"parallel", (*bench).benchParallel},
		{"attach", (*bench).benchAttach},
		{"logs", (*bench).benchLogs},
		{"memory", (*bench).benchMemory},
		{"load", (*bench).benchLoad},
		{"many", (*bench).benchMany},
		{"ports", (*bench).benchPorts},
		{"connect", (*bench).benchConnect},
		{"health", (*bench).benchHealth},
		{"ladder", (*bench).benchLadder},
		{"build", (*bench).benchBuild},
		{"build-together", (*bench).benchBuildTogether},
		{"build-upload", (*bench).benchBuildUpload},
	}
}

// times runs f n times and answers the sorted durations.
func times(n int, f func() error) ([]time.Duration, error) {
	out := make([]time.Duration, 0, n)
	for range n {
		begin := time.Now()
		if err := f(); err != nil {
			return nil, err
		}
		out = append(out, time.Since(begin))
	}
	slices.Sort(out)
	return out, nil
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return d[len(d)/2]
}

func ms(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f ×", a/b)
}

// print writes one row of the table.
func print(work, ours, docker, bare, ratios, target string) {
	fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", work, ours, docker, bare, ratios, target)
}
