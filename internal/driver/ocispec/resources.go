package ocispec

import (
	"os"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// resources are the limits of HostConfig without the device rules.
func resources(hc *container.HostConfig) (*specs.LinuxResources, error) {
	return Resources(&hc.Resources)
}

// Resources translates docker's limits into the runtime's, for create and for a live update. Values that docker treats
// as "not given" are left nil, so that an update leaves them alone.
func Resources(r *container.Resources) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{Memory: memory(r), Pids: pids(r)}
	var err error
	if out.CPU, err = cpu(r); err != nil {
		return nil, err
	}
	if out.BlockIO, err = blockIO(r); err != nil {
		return nil, err
	}
	return out, nil
}

func memory(r *container.Resources) *specs.LinuxMemory {
	var m specs.LinuxMemory
	positive := func(v int64) *int64 {
		if v <= 0 {
			return nil
		}
		return &v
	}
	m.Limit, m.Reservation = positive(r.Memory), positive(r.MemoryReservation)
	if r.MemorySwap > 0 || r.MemorySwap == -1 && r.Memory > 0 {
		swap := r.MemorySwap // -1: no bound
		m.Swap = &swap
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		v := uint64(*r.MemorySwappiness)
		m.Swappiness = &v
	}
	if r.OomKillDisable != nil {
		v := *r.OomKillDisable
		m.DisableOOMKiller = &v
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

// pids: docker's 0 and negative values mean no limit, which the runtime calls -1.
func pids(r *container.Resources) *specs.LinuxPids {
	if r.PidsLimit == nil {
		return nil
	}
	limit := *r.PidsLimit
	if limit <= 0 {
		limit = -1
	}
	return &specs.LinuxPids{Limit: &limit}
}

// cfsPeriod is the period in µs that a number of CPUs is spread over.
const cfsPeriod = 100_000

func cpu(r *container.Resources) (*specs.LinuxCPU, error) {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares < 0 {
		return nil, fault.Invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		c.Shares = &shares
	}
	period, quota := uint64(r.CPUPeriod), r.CPUQuota
	if r.NanoCPUs > 0 {
		if period == 0 {
			period = cfsPeriod
		}
		if quota == 0 {
			quota = int64(float64(r.NanoCPUs) / 1e9 * float64(period))
		}
	}
	if period != 0 {
		c.Period = &period
	}
	if quota != 0 {
		c.Quota = &quota
	}
	if r.CPURealtimePeriod != 0 {
		p := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod = &p
	}
	if r.CPURealtimeRuntime != 0 {
		v := r.CPURealtimeRuntime
		c.RealtimeRuntime = &v
	}
	if c == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return &c, nil
}

func blockIO(r *container.Resources) (*specs.LinuxBlockIO, error) {
	var b specs.LinuxBlockIO
	if r.BlkioWeight != 0 {
		w := r.BlkioWeight
		b.Weight = &w
	}
	for _, wd := range r.BlkioWeightDevice {
		major, minor, err := deviceNumber(wd.Path)
		if err != nil {
			return nil, err
		}
		d := specs.LinuxWeightDevice{Weight: &wd.Weight}
		d.Major, d.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, d)
	}
	for _, t := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, dev := range t.from {
			major, minor, err := deviceNumber(dev.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: dev.Rate}
			d.Major, d.Minor = major, minor
			*t.to = append(*t.to, d)
		}
	}
	if b.Weight == nil && b.WeightDevice == nil && b.ThrottleReadBpsDevice == nil && b.ThrottleWriteBpsDevice == nil &&
		b.ThrottleReadIOPSDevice == nil && b.ThrottleWriteIOPSDevice == nil {
		return nil, nil
	}
	return &b, nil
}

func deviceNumber(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fault.Invalid("%w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}
