package cgroupfs

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

// Stats reads all controllers; one that is not enabled leaves its part zero. A group that is gone is an error.
func (g *groupV2) Stats(context.Context) (*container.StatsResponse, error) {
	s := &container.StatsResponse{Read: time.Now()}
	data, err := read(g.dir, "cpu.stat") // there without the cpu controller, too
	if err != nil {
		return nil, err
	}
	cpuStatV2(data, &s.CPUStats)
	if data, err := read(g.dir, "memory.stat"); err == nil {
		s.MemoryStats.Stats = make(map[string]uint64, 64)
		keyed(data, func(key string, n uint64) { s.MemoryStats.Stats[key] = n })
		s.MemoryStats.Usage, _ = readUint(g.dir, "memory.current")
		s.MemoryStats.Limit, _ = readUint(g.dir, "memory.max")
		if data, err := read(g.dir, "memory.events"); err == nil {
			keyed(data, func(key string, n uint64) {
				if key == "oom" {
					s.MemoryStats.Failcnt = n
				}
			})
		}
		if err := capLimit(&s.MemoryStats); err != nil {
			return nil, err
		}
	}
	if data, err := read(g.dir, "io.stat"); err == nil {
		ioStatV2(data, &s.BlkioStats)
	}
	if current, ok := readUint(g.dir, "pids.current"); ok {
		s.PidsStats.Current, s.PidsStats.Limit = current, pidsLimit(g.dir)
	}
	return s, hostCPU(&s.CPUStats)
}

func cpuStatV2(data []byte, c *container.CPUStats) {
	keyed(data, func(key string, n uint64) {
		switch key {
		case "usage_usec":
			c.CPUUsage.TotalUsage = n * 1000
		case "user_usec":
			c.CPUUsage.UsageInUsermode = n * 1000
		case "system_usec":
			c.CPUUsage.UsageInKernelmode = n * 1000
		case "nr_periods":
			c.ThrottlingData.Periods = n
		case "nr_throttled":
			c.ThrottlingData.ThrottledPeriods = n
		case "throttled_usec":
			c.ThrottlingData.ThrottledTime = n * 1000
		}
	})
}

// ioStatV2 reads lines "254:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func ioStatV2(data []byte, b *container.BlkioStats) {
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 {
			continue
		}
		major, minor, ok := deviceOf(fields[0])
		if !ok {
			continue
		}
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			e := container.BlkioStatEntry{Major: major, Minor: minor, Value: n}
			switch key {
			case "rbytes", "wbytes":
				e.Op = opOf(key)
				b.IoServiceBytesRecursive = append(b.IoServiceBytesRecursive, e)
			case "rios", "wios":
				e.Op = opOf(key)
				b.IoServicedRecursive = append(b.IoServicedRecursive, e)
			}
		}
	}
}

func opOf(key string) string {
	if key[0] == 'r' {
		return "read"
	}
	return "write"
}
