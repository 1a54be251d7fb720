package cgroupfs

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// nsPerTick: the kernel counts user and system time in ticks of 1/100 s (USER_HZ) on every architecture.
const nsPerTick = 10_000_000

// hostCPU fills in the host's share of a sample: the time of all CPUs together, in ns, and how many are online.
func hostCPU(c *container.CPUStats) error {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		switch {
		case len(fields) < 8 || !strings.HasPrefix(fields[0], "cpu"):
		case fields[0] == "cpu":
			var ticks uint64
			for _, f := range fields[1:8] { // user … softirq: guest time is in user already
				n, err := strconv.ParseUint(f, 10, 64)
				if err != nil {
					return fmt.Errorf("unable to convert value %s to int: %w", f, err)
				}
				ticks += n
			}
			c.SystemUsage = ticks * nsPerTick
		default:
			c.OnlineCPUs++
		}
	}
	return nil
}

// capLimit: docker shows the machine's memory where a group has no limit.
func capLimit(m *container.MemoryStats) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	if total := uint64(info.Totalram) * uint64(info.Unit); m.Limit == 0 || m.Limit > total {
		m.Limit = total
	}
	return nil
}
