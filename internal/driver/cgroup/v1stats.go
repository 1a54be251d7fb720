package cgroupfs

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

// Stats reads all controllers. What a controller does not offer stays zero; a group that is gone is an error.
func (g *groupV1) Stats(context.Context) (*container.StatsResponse, error) {
	s := &container.StatsResponse{Read: time.Now()}
	if err := g.cpuStats(&s.CPUStats); err != nil {
		return nil, err
	}
	if err := g.memoryStats(&s.MemoryStats); err != nil {
		return nil, err
	}
	g.blkioStats(&s.BlkioStats)
	if dir := g.dir("pids"); dir != "" {
		s.PidsStats.Current, _ = readUint(dir, "pids.current")
		s.PidsStats.Limit = pidsLimit(dir)
	}
	return s, hostCPU(&s.CPUStats)
}

// pidsLimit: docker tells "max" as the greatest number.
func pidsLimit(dir string) uint64 {
	if limit, ok := readUint(dir, "pids.max"); ok {
		return limit
	}
	return ^uint64(0)
}

func (g *groupV1) cpuStats(c *container.CPUStats) error {
	if dir := g.dir("cpuacct"); dir != "" {
		data, err := read(dir, "cpuacct.usage")
		if err != nil {
			return err
		}
		c.CPUUsage.TotalUsage, _ = strconv.ParseUint(string(data), 10, 64)
		if data, err = read(dir, "cpuacct.usage_percpu"); err == nil {
			for _, field := range strings.Fields(string(data)) {
				n, _ := strconv.ParseUint(field, 10, 64)
				c.CPUUsage.PercpuUsage = append(c.CPUUsage.PercpuUsage, n)
			}
		}
		if data, err = read(dir, "cpuacct.stat"); err == nil {
			keyed(data, func(key string, ticks uint64) {
				switch key {
				case "user":
					c.CPUUsage.UsageInUsermode = ticks * nsPerTick
				case "system":
					c.CPUUsage.UsageInKernelmode = ticks * nsPerTick
				}
			})
		}
	}
	if dir := g.dir("cpu"); dir != "" {
		if data, err := read(dir, "cpu.stat"); err == nil {
			keyed(data, func(key string, n uint64) {
				switch key {
				case "nr_periods":
					c.ThrottlingData.Periods = n
				case "nr_throttled":
					c.ThrottlingData.ThrottledPeriods = n
				case "throttled_time":
					c.ThrottlingData.ThrottledTime = n
				}
			})
		}
	}
	return nil
}

func (g *groupV1) memoryStats(m *container.MemoryStats) error {
	dir := g.dir("memory")
	if dir == "" {
		return nil
	}
	data, err := read(dir, "memory.stat")
	if err != nil {
		return err
	}
	m.Stats = make(map[string]uint64, 48)
	keyed(data, func(key string, n uint64) { m.Stats[key] = n })
	m.Usage, _ = readUint(dir, "memory.usage_in_bytes")
	m.MaxUsage, _ = readUint(dir, "memory.max_usage_in_bytes")
	m.Failcnt, _ = readUint(dir, "memory.failcnt")
	m.Limit, _ = readUint(dir, "memory.limit_in_bytes")
	return capLimit(m)
}

// blkioStats prefers the scheduler's counters (CFQ, then BFQ, where they have counted anything) and falls back on those
// of the throttling layer, which always count.
func (g *groupV1) blkioStats(b *container.BlkioStats) {
	dir := g.dir("blkio")
	if dir == "" {
		return
	}
	first := func(files ...string) []container.BlkioStatEntry {
		for _, f := range files {
			if data, err := read(dir, f); err == nil {
				if entries := blkioEntries(data); len(entries) > 0 {
					return entries
				}
			}
		}
		return nil
	}
	b.IoServiceBytesRecursive = first("blkio.io_service_bytes_recursive", "blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive")
	b.IoServicedRecursive = first("blkio.io_serviced_recursive", "blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive")
	b.IoQueuedRecursive = first("blkio.io_queued_recursive", "blkio.bfq.io_queued_recursive")
	b.IoServiceTimeRecursive = first("blkio.io_service_time_recursive", "blkio.bfq.io_service_time_recursive")
	b.IoWaitTimeRecursive = first("blkio.io_wait_time_recursive", "blkio.bfq.io_wait_time_recursive")
	b.IoMergedRecursive = first("blkio.io_merged_recursive", "blkio.bfq.io_merged_recursive")
	b.IoTimeRecursive = first("blkio.time_recursive", "blkio.bfq.time_recursive")
	b.SectorsRecursive = first("blkio.sectors_recursive", "blkio.bfq.sectors_recursive")
}

// blkioEntries reads lines "254:0 Read 1234" (or "254:0 1234"); the closing total is left out.
func blkioEntries(data []byte) []container.BlkioStatEntry {
	var out []container.BlkioStatEntry
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		major, minor, ok := deviceOf(fields[0])
		value, err := strconv.ParseUint(fields[len(fields)-1], 10, 64)
		if !ok || err != nil {
			continue
		}
		e := container.BlkioStatEntry{Major: major, Minor: minor, Value: value}
		if len(fields) > 2 {
			e.Op = strings.ToLower(fields[1])
		}
		out = append(out, e)
	}
	return out
}

func deviceOf(s string) (major, minor uint64, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	major, err1 := strconv.ParseUint(a, 10, 32)
	minor, err2 := strconv.ParseUint(b, 10, 32)
	return major, minor, ok && err1 == nil && err2 == nil
}
