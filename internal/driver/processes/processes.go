// Package processes looks at processes of containers from the host: docker top by the host's ps, and the network
// counters of a namespace by /proc.
package processes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
)

// Host runs the host's ps. The zero value is ready.
type Host struct{}

// Top runs ps with docker's argument string and keeps the lines of the given processes.
func (Host) Top(ctx context.Context, args string, pids []int) (*container.TopResponse, error) {
	if args == "" {
		args = "-ef"
	}
	fields := strings.Fields(args)
	out, err := run(ctx, append(fields, "-q", join(pids)))
	if err != nil {
		// Not every ps takes both a selection of its own and a list.
		if out, err = run(ctx, fields); err != nil {
			return nil, err
		}
	}
	return parse(out, pids)
}

func run(ctx context.Context, args []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "ps", args...)
	cmd.Env = append(os.Environ(), "COLUMNS=4096")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		line, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		if line != "" {
			return nil, fault.Internal("ps: %s", line)
		}
	}
	return nil, fmt.Errorf("error running ps: %w", err)
}

func join(pids []int) string {
	s := make([]string, len(pids))
	for i, p := range pids {
		s[i] = strconv.Itoa(p)
	}
	return strings.Join(s, ",")
}

// parse splits ps' table. The last column keeps its spaces.
func parse(out []byte, pids []int) (*container.TopResponse, error) {
	lines := strings.Split(string(out), "\n")
	top := &container.TopResponse{Titles: strings.Fields(lines[0]), Processes: [][]string{}}
	col := slices.Index(top.Titles, "PID")
	if col < 0 {
		return nil, fault.Invalid("Couldn't find PID field in ps output")
	}
	last := -1
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if fields[0] == "-" && last >= 0 { // a thread of the line before (ps -m)
			top.Processes = append(top.Processes, cut(fields, len(top.Titles)))
			continue
		}
		last = -1
		if col >= len(fields) {
			continue
		}
		pid, err := strconv.Atoi(fields[col])
		if err != nil {
			return nil, fault.Internal("Unexpected pid '%s': %v", fields[col], err)
		}
		if slices.Contains(pids, pid) {
			last = pid
			top.Processes = append(top.Processes, cut(fields, len(top.Titles)))
		}
	}
	return top, nil
}

func cut(fields []string, n int) []string {
	if len(fields) <= n {
		return fields
	}
	return append(slices.Clone(fields[:n-1]), strings.Join(fields[n-1:], " "))
}

// NetStats reads the counters of every interface but lo in the namespace of a process.
func (Host) NetStats(pid int) (map[string]container.NetworkStats, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil, err
	}
	return parseNetDev(string(data)), nil
}

func parseNetDev(text string) map[string]container.NetworkStats {
	out := map[string]container.NetworkStats{}
	for _, line := range strings.Split(text, "\n") {
		name, rest, ok := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		f := strings.Fields(rest)
		if !ok || name == "lo" || len(f) < 12 {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		out[name] = container.NetworkStats{
			RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11),
		}
	}
	return out
}
