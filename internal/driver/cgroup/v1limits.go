package cgroupfs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

func (g *groupV1) Update(_ context.Context, r *specs.LinuxResources) error {
	return apply(g.path, r, g.setMemory, g.setCPU, g.setCpuset, g.setPids, g.setBlkio, g.setHugetlb)
}

// missing is the error for a limit whose controller is not there.
func missing(controller string) error {
	return fault.Invalid("cannot set %s limit: container could not join or create cgroup (the %s controller is not mounted)", controller, controller)
}

func (g *groupV1) setMemory(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	dir := g.dir("memory")
	if dir == "" {
		return missing("memory")
	}
	if err := setMemoryAndSwap(dir, m.Limit, m.Swap); err != nil {
		return err
	}
	if m.Reservation != nil {
		if err := write(dir, "memory.soft_limit_in_bytes", itoa(*m.Reservation)); err != nil {
			return err
		}
	}
	if m.Swappiness != nil && *m.Swappiness <= 100 {
		if err := write(dir, "memory.swappiness", utoa(*m.Swappiness)); err != nil {
			return err
		}
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		return write(dir, "memory.oom_control", "1")
	}
	return nil
}

// setMemoryAndSwap orders the two writes so that memory never exceeds memory+swap in between, which the kernel refuses:
// when the sum grows it is raised first, else memory is lowered first.
func setMemoryAndSwap(dir string, limit, swap *int64) error {
	setLimit := func() error {
		if limit == nil {
			return nil
		}
		err := write(dir, "memory.limit_in_bytes", itoa(*limit))
		if errors.Is(err, unix.EBUSY) {
			usage, _ := readUint(dir, "memory.usage_in_bytes")
			peak, _ := readUint(dir, "memory.max_usage_in_bytes")
			return fault.Invalid("unable to set memory limit to %d (current usage: %d, peak usage: %d)", *limit, usage, peak)
		}
		return err
	}
	setSwap := func() error {
		if swap == nil || !exists(dir+"/memory.memsw.limit_in_bytes") {
			return nil // no swap accounting: docker has warned about it at create
		}
		return write(dir, "memory.memsw.limit_in_bytes", itoa(*swap))
	}
	if limit != nil && *limit == -1 && swap == nil {
		unlimited := int64(-1) // a limitless memory needs a limitless sum
		swap = &unlimited
	}
	if limit == nil || swap == nil {
		return errors.Join(setLimit(), setSwap())
	}
	current, ok := readUint(dir, "memory.limit_in_bytes")
	first, second := setLimit, setSwap
	if *swap == -1 || ok && current < uint64(*swap) {
		first, second = setSwap, setLimit
	}
	if err := first(); err != nil {
		return err
	}
	return second()
}

func (g *groupV1) setCPU(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil || c.Shares == nil && c.Period == nil && c.Quota == nil && c.RealtimePeriod == nil && c.RealtimeRuntime == nil {
		return nil
	}
	dir := g.dir("cpu")
	if dir == "" {
		return missing("cpu")
	}
	if c.RealtimePeriod != nil {
		if err := write(dir, "cpu.rt_period_us", utoa(*c.RealtimePeriod)); err != nil {
			return err
		}
	}
	if c.RealtimeRuntime != nil {
		if err := write(dir, "cpu.rt_runtime_us", itoa(*c.RealtimeRuntime)); err != nil {
			return err
		}
	}
	if c.Shares != nil && *c.Shares != 0 {
		if err := setShares(dir, *c.Shares); err != nil {
			return err
		}
	}
	return setQuota(dir, c.Period, c.Quota)
}

// setShares reads back what it wrote: the kernel clamps in silence, which docker reports as an error.
func setShares(dir string, shares uint64) error {
	if err := write(dir, "cpu.shares", utoa(shares)); err != nil {
		return err
	}
	switch got, ok := readUint(dir, "cpu.shares"); {
	case ok && shares > got:
		return fault.Invalid("the maximum allowed cpu-shares is %d", got)
	case ok && shares < got:
		return fault.Invalid("the minimum allowed cpu-shares is %d", got)
	}
	return nil
}

// setQuota writes period and quota; a period that contradicts the old quota is accepted after the new quota.
func setQuota(dir string, period *uint64, quota *int64) error {
	setPeriod := func() error { return write(dir, "cpu.cfs_period_us", utoa(*period)) }
	late := false
	if period != nil && *period != 0 {
		err := setPeriod()
		late = errors.Is(err, unix.EINVAL) && quota != nil
		if err != nil && !late {
			return err
		}
	}
	if quota != nil && *quota != 0 {
		if err := write(dir, "cpu.cfs_quota_us", itoa(*quota)); err != nil {
			return err
		}
	}
	if late {
		return setPeriod()
	}
	return nil
}

func (g *groupV1) setCpuset(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil || c.Cpus == "" && c.Mems == "" {
		return nil
	}
	dir := g.dir("cpuset")
	if dir == "" {
		return missing("cpuset")
	}
	if c.Cpus != "" {
		if err := write(dir, "cpuset.cpus", c.Cpus); err != nil {
			return err
		}
	}
	if c.Mems != "" {
		return write(dir, "cpuset.mems", c.Mems)
	}
	return nil
}

func (g *groupV1) setPids(r *specs.LinuxResources) error {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil
	}
	dir := g.dir("pids")
	if dir == "" {
		if *r.Pids.Limit <= 0 {
			return nil
		}
		return missing("pids")
	}
	return write(dir, "pids.max", pidsMax(*r.Pids.Limit))
}

func pidsMax(limit int64) string {
	if limit <= 0 {
		return "max"
	}
	return itoa(limit)
}

func (g *groupV1) setBlkio(r *specs.LinuxResources) error {
	b := r.BlockIO
	if b == nil {
		return nil
	}
	dir := g.dir("blkio")
	if dir == "" {
		return missing("blkio")
	}
	prefix := "blkio."
	if !exists(dir + "/blkio.weight") {
		prefix = "blkio.bfq."
	}
	if b.Weight != nil && *b.Weight != 0 {
		if err := write(dir, prefix+"weight", utoa(uint64(*b.Weight))); err != nil {
			return err
		}
	}
	for _, d := range b.WeightDevice {
		if d.Weight == nil {
			continue
		}
		if err := write(dir, prefix+"weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight)); err != nil {
			return err
		}
	}
	for file, devices := range map[string][]specs.LinuxThrottleDevice{
		"read_bps": b.ThrottleReadBpsDevice, "write_bps": b.ThrottleWriteBpsDevice,
		"read_iops": b.ThrottleReadIOPSDevice, "write_iops": b.ThrottleWriteIOPSDevice,
	} {
		for _, d := range devices {
			if err := write(dir, "blkio.throttle."+file+"_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *groupV1) setHugetlb(r *specs.LinuxResources) error {
	for _, h := range r.HugepageLimits {
		dir := g.dir("hugetlb")
		if dir == "" {
			return missing("hugetlb")
		}
		if err := write(dir, "hugetlb."+h.Pagesize+".limit_in_bytes", utoa(h.Limit)); err != nil {
			return err
		}
	}
	return nil
}

// setDevices writes the rules in order; the first one normally denies everything.
func (g *groupV1) setDevices(r *specs.LinuxResources) error {
	if len(r.Devices) == 0 {
		return nil
	}
	dir := g.dir("devices")
	if dir == "" {
		return missing("devices")
	}
	allow, err := openRetry(dir+"/devices.allow", unix.O_WRONLY|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open devices.allow: %w", err)
	}
	defer unix.Close(allow)
	for i := range r.Devices {
		d := &r.Devices[i]
		for _, rule := range deviceRules(d) {
			if !d.Allow {
				err = write(dir, "devices.deny", rule)
			} else if err = writeFD(allow, rule); err != nil {
				err = fmt.Errorf("write %q to %s/devices.allow: %w", rule, dir, err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// everyDevice is the rule about all access to all devices. The kernel takes any rule of type "a" for it.
const everyDevice = "a"

// deviceRules are a rule in the kernel's form, "c 1:3 rwm"; one about both types that is not about everything becomes two.
func deviceRules(d *specs.LinuxDeviceCgroup) []string {
	number := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return itoa(*n)
	}
	devices := number(d.Major) + ":" + number(d.Minor)
	if d.Type != "" && d.Type != "a" {
		return []string{d.Type + " " + devices + " " + d.Access}
	}
	if devices == "*:*" && isAll(d.Access) {
		return []string{everyDevice}
	}
	return []string{"c " + devices + " " + d.Access, "b " + devices + " " + d.Access}
}

func isAll(access string) bool {
	return strings.Contains(access, "r") && strings.Contains(access, "w") && strings.Contains(access, "m")
}
