package request

import (
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
)

// MergeResources lays the limits that an update names over those that a container has; zero values change nothing.
func MergeResources(have, u *container.Resources) error {
	mergeBlkio(have, u)
	setIf(&have.CPUShares, u.CPUShares)
	if u.NanoCPUs > 0 {
		if have.CPUPeriod > 0 || have.CPUQuota > 0 {
			return fault.Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set")
		}
		have.NanoCPUs = u.NanoCPUs
	}
	if (u.CPUPeriod > 0 || u.CPUQuota > 0) && have.NanoCPUs > 0 && u.NanoCPUs == 0 {
		return fault.Conflict("Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set")
	}
	setIf(&have.CPUPeriod, u.CPUPeriod)
	setIf(&have.CPUQuota, u.CPUQuota)
	setIf(&have.CPURealtimePeriod, u.CPURealtimePeriod)
	setIf(&have.CPURealtimeRuntime, u.CPURealtimeRuntime)
	setIf(&have.CpusetCpus, u.CpusetCpus)
	setIf(&have.CpusetMems, u.CpusetMems)
	if u.Memory != 0 {
		if u.MemorySwap == 0 && have.MemorySwap > 0 && u.Memory > have.MemorySwap {
			return fault.Conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
		}
		have.Memory = u.Memory
	}
	setIf(&have.MemorySwap, u.MemorySwap)
	setIf(&have.MemoryReservation, u.MemoryReservation)
	if u.PidsLimit != nil {
		have.PidsLimit = u.PidsLimit
		if *u.PidsLimit <= 0 {
			var unlimited int64
			have.PidsLimit = &unlimited
		}
	}
	return nil
}

// mergeBlkio takes over what is named; a list replaces the one before.
func mergeBlkio(have, u *container.Resources) {
	setIf(&have.BlkioWeight, u.BlkioWeight)
	if u.BlkioWeightDevice != nil {
		have.BlkioWeightDevice = u.BlkioWeightDevice
	}
	for _, l := range []struct{ have, u *[]*blkiodev.ThrottleDevice }{
		{&have.BlkioDeviceReadBps, &u.BlkioDeviceReadBps}, {&have.BlkioDeviceWriteBps, &u.BlkioDeviceWriteBps},
		{&have.BlkioDeviceReadIOps, &u.BlkioDeviceReadIOps}, {&have.BlkioDeviceWriteIOps, &u.BlkioDeviceWriteIOps},
	} {
		if *l.u != nil {
			*l.have = *l.u
		}
	}
}

func setIf[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

// StorageSize reads --storage-opt: the bound of the writable layer in bytes; def is that of containers that name none.
func StorageSize(opts map[string]string, def uint64) (uint64, error) {
	size := def
	for key, value := range opts {
		if !strings.EqualFold(key, "size") {
			return 0, fault.Invalid("Unknown option %s", key)
		}
		n, err := units.RAMInBytes(value)
		if err != nil {
			return 0, fault.Invalid("%w", err)
		}
		size = uint64(max(n, 0))
	}
	return size, nil
}

// SettleResources fills in the limits that follow from others.
func SettleResources(hc *container.HostConfig) {
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.MemorySwappiness != nil && *hc.MemorySwappiness == -1 {
		hc.MemorySwappiness = nil
	}
	if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
		hc.PidsLimit = nil
	}
}

// Habits are what clients of older versions of the API expect where they say nothing.
type Habits struct {
	PlainReadOnly bool // a read-only bind leaves the mounts below it writable (below 1.44)
	HostCgroupns  bool // the host's cgroup namespace on control groups v1 (below 1.41)
}

// Cgroupns is the mode of containers that name none: on control groups v1 the host's for privileged ones and old clients; else
// as configured, else the habit of the host's control groups.
func Cgroupns(hc *container.HostConfig, configured container.CgroupnsMode, version string, habits Habits) container.CgroupnsMode {
	switch {
	case version != "2" && (hc.Privileged || habits.HostCgroupns):
		return container.CgroupnsModeHost
	case configured != "":
		return configured
	case version == "2":
		return container.CgroupnsModePrivate
	}
	return container.CgroupnsModeHost
}
