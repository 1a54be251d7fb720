package cgroupfs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

func (g *groupV2) Update(_ context.Context, r *specs.LinuxResources) error {
	return apply(g.dir, r, g.setMemory, g.setCPU, g.setIO, g.setOther)
}

// max is how v2 writes a number where docker's -1 means "no bound".
func max2(n int64) string {
	if n < 0 {
		return "max"
	}
	return itoa(n)
}

func (g *groupV2) setMemory(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	swap, err := swapMax(m)
	if err != nil {
		return err
	}
	if swap != "" {
		if err := write(g.dir, "memory.swap.max", swap); err != nil && (swap != "0" && swap != "max" || !errors.Is(err, unix.ENOENT)) {
			return err
		}
	}
	if m.Limit != nil && *m.Limit != 0 {
		if err := write(g.dir, "memory.max", max2(*m.Limit)); err != nil {
			return err
		}
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		return write(g.dir, "memory.low", max2(*m.Reservation))
	}
	return nil
}

// swapMax turns docker's memory+swap into v2's swap alone; "" leaves it. A sum of -1 is no bound.
func swapMax(m *specs.LinuxMemory) (string, error) {
	switch {
	case m.Swap == nil && m.Limit != nil && *m.Limit == -1:
		return "max", nil
	case m.Swap == nil || *m.Swap == 0:
		return "", nil
	case *m.Swap == -1:
		return "max", nil
	case m.Limit == nil || *m.Limit <= 0:
		return "", fault.Invalid("unable to set swap limit without memory limit")
	case *m.Swap < *m.Limit:
		return "", fault.Invalid("memory+swap limit should be >= memory limit")
	}
	return itoa(*m.Swap - *m.Limit), nil
}

func (g *groupV2) setCPU(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	if c.Shares != nil && *c.Shares != 0 {
		if err := write(g.dir, "cpu.weight", utoa(cpuWeight(*c.Shares))); err != nil {
			return err
		}
	}
	if c.Quota != nil || c.Period != nil {
		if err := g.setQuota(c); err != nil {
			return err
		}
	}
	if c.Cpus != "" {
		if err := write(g.dir, "cpuset.cpus", c.Cpus); err != nil {
			return err
		}
	}
	if c.Mems != "" {
		return write(g.dir, "cpuset.mems", c.Mems)
	}
	return nil
}

// setQuota writes "quota period" together. A part that was not given keeps its value, which the kernel allows for the
// period only, so that the quota is read back.
func (g *groupV2) setQuota(c *specs.LinuxCPU) error {
	quota := "max"
	if c.Quota != nil && *c.Quota > 0 {
		quota = itoa(*c.Quota)
	} else if c.Quota == nil {
		if data, err := read(g.dir, "cpu.max"); err == nil {
			quota, _, _ = strings.Cut(string(data), " ")
		}
	}
	value := quota
	if c.Period != nil && *c.Period != 0 {
		value += " " + utoa(*c.Period)
	}
	return write(g.dir, "cpu.max", value)
}

// cpuWeight maps shares [2, 262144] to weights [1, 10000] so that the defaults, 1024 and 100, meet, by the curve which
// current runtimes use: log10(weight) = (L² + 125 L)/612 − 7/34 with L = log2(shares).
func cpuWeight(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func (g *groupV2) setIO(r *specs.LinuxResources) error {
	b := r.BlockIO
	if b == nil {
		return nil
	}
	if b.Weight != nil && *b.Weight != 0 {
		if err := g.setIOWeight("", *b.Weight); err != nil {
			return err
		}
	}
	for _, d := range b.WeightDevice {
		if d.Weight == nil {
			continue
		}
		if err := g.setIOWeight(fmt.Sprintf("%d:%d ", d.Major, d.Minor), *d.Weight); err != nil {
			return err
		}
	}
	for _, t := range []struct {
		key     string
		devices []specs.LinuxThrottleDevice
	}{
		{"rbps", b.ThrottleReadBpsDevice}, {"wbps", b.ThrottleWriteBpsDevice},
		{"riops", b.ThrottleReadIOPSDevice}, {"wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			rate := utoa(d.Rate)
			if d.Rate == 0 {
				rate = "max"
			}
			if err := write(g.dir, "io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, t.key, rate)); err != nil {
				return err
			}
		}
	}
	return nil
}

// setIOWeight writes BFQ's weight where that scheduler is built in, in docker's own range, else io.weight, which has
// another range.
func (g *groupV2) setIOWeight(device string, weight uint16) error {
	err := write(g.dir, "io.bfq.weight", device+utoa(uint64(weight)))
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if device == "" {
		device = "default "
	}
	return write(g.dir, "io.weight", device+utoa(ioWeight(weight)))
}

// ioWeight maps [10, 1000] to [1, 10000].
func ioWeight(weight uint16) uint64 {
	return 1 + (uint64(min(max(weight, 10), 1000))-10)*9999/990
}

// setOther covers pids, huge pages and files named outright.
func (g *groupV2) setOther(r *specs.LinuxResources) error {
	if r.Pids != nil && r.Pids.Limit != nil {
		err := write(g.dir, "pids.max", pidsMax(*r.Pids.Limit))
		if err != nil && (*r.Pids.Limit > 0 || !errors.Is(err, unix.ENOENT)) {
			return err
		}
	}
	for _, h := range r.HugepageLimits {
		if err := write(g.dir, "hugetlb."+h.Pagesize+".max", utoa(h.Limit)); err != nil {
			return err
		}
	}
	for file, value := range r.Unified {
		if strings.Contains(file, "/") {
			return fault.Invalid("unified resource %q must be a file name (no slashes)", file)
		}
		if err := write(g.dir, file, value); err != nil {
			return err
		}
	}
	return nil
}
