package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// inspectLine is a result of the benchmark BenchmarkInspect of test/apiversions.
var inspectLine = regexp.MustCompile(`BenchmarkInspect/(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op`)

// benchLadder measures what an inspect costs clients of older versions beside the newest: the benchmark encodes at the
// newest version, encodes and lowers at the others, and the difference is the ladder's.
func (b *bench) benchLadder() error {
	cost := map[string]float64{}
	for range 3 { // the least of three runs: others on the machine only add
		out, err := exec.Command("go", "test", "./test/apiversions", "-run", "^$", "-bench", "Inspect", "-benchtime", "2000x", "-cpu", "1").CombinedOutput()
		if err != nil {
			return fmt.Errorf("go test -bench Inspect: %w: %s", err, bytes.TrimSpace(out))
		}
		for _, m := range inspectLine.FindAllSubmatch(out, -1) {
			ns, err := strconv.ParseFloat(string(m[2]), 64)
			if err != nil {
				return err
			}
			if old, seen := cost[string(m[1])]; !seen || ns < old {
				cost[string(m[1])] = ns
			}
		}
	}
	const newest = "1.55"
	if cost[newest] == 0 {
		return fmt.Errorf("the benchmark told nothing of %s", newest)
	}
	print("version ladder, inspect at "+newest, "0 µs", "–", "–", "–", "0")
	for _, old := range []struct{ version, target string }{{"1.41", "≤ 25 µs"}, {"1.0", "≤ 100 µs"}} {
		print("version ladder, inspect at "+old.version, fmt.Sprintf("%.0f µs", (cost[old.version]-cost[newest])/1000), "–", "–", "–", old.target)
	}
	return nil
}
