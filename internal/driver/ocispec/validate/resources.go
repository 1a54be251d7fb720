package validate

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
)

// minMemory is docker's own bound, not the kernel's: what a container needs to start at all.
const minMemory = 6 << 20

// resources checks limits and drops those that cannot be enforced.
func (v *Validator) resources(r *container.Resources, update bool) (warnings []string, err error) {
	w := &warned{}
	for _, check := range []func(*container.Resources, *warned) error{
		func(r *container.Resources, w *warned) error { return v.memory(r, w, update) },
		v.oomAndPids, v.cpu, v.cpuset, v.blkio,
	} {
		if err := check(r, w); err != nil {
			return w.list, err
		}
	}
	return w.list, nil
}

// warned collects warnings.
type warned struct{ list []string }

func (w *warned) add(text string) { w.list = append(w.list, text) }

func (v *Validator) memory(r *container.Resources, w *warned, update bool) error {
	have := &v.host.Cgroup.Memory
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil // what old clients send for "not given"
	}
	if r.Memory != 0 && r.Memory < minMemory {
		return fault.Invalid("Minimum memory limit allowed is 6MB")
	}
	if r.Memory > 0 && !have.Limit {
		w.add("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !have.Swap {
		w.add("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return fault.Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.Memory == 0 && r.MemorySwap > 0 && !update {
		return fault.Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	if r.MemorySwappiness != nil && !have.Swappiness {
		w.add("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		return fault.Invalid("Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	if r.MemoryReservation > 0 && !have.Reservation {
		w.add("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation > 0 && r.MemoryReservation < minMemory {
		return fault.Invalid("Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation {
		return fault.Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func (v *Validator) oomAndPids(r *container.Resources, w *warned) error {
	if r.OomKillDisable != nil && !v.host.Cgroup.Memory.OomKillDisable {
		if *r.OomKillDisable {
			w.add("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		w.add("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && !v.host.Cgroup.Pids {
		if *r.PidsLimit > 0 {
			w.add("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		r.PidsLimit = nil
	}
	return nil
}

func (v *Validator) cpu(r *container.Resources, w *warned) error {
	have := &v.host.Cgroup.CPU
	cpus := v.host.NCPU
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return fault.Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return fault.Invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs > 0 && !have.CFS:
		return fault.Invalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(cpus)*1e9:
		return fault.Invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", cpus)
	}
	if r.CPUShares > 0 && !have.Shares {
		w.add("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !have.CFS {
		w.add("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000) {
		return fault.Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return fault.Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if r.CPUPercent > 0 {
		w.add(runtime.GOOS + " does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	return nil
}

func (v *Validator) cpuset(r *container.Resources, w *warned) error {
	have := &v.host.Cgroup.CPU
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !have.Cpuset {
		w.add("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	ok, err := available(r.CpusetCpus, have.Cpus)
	if err != nil {
		return fault.Invalid("Invalid value %s for cpuset cpus: %w", r.CpusetCpus, err)
	}
	if !ok {
		return fault.Invalid("Requested CPUs are not available - requested %s, available: %s", r.CpusetCpus, have.Cpus)
	}
	if ok, err = available(r.CpusetMems, have.Mems); err != nil {
		return fault.Invalid("Invalid value %s for cpuset mems: %w", r.CpusetMems, err)
	}
	if !ok {
		return fault.Invalid("Requested memory nodes are not available - requested %s, available: %s", r.CpusetMems, have.Mems)
	}
	return nil
}

// maxSet bounds the numbers in a list, so that "0-9223372036854775807" takes no memory.
const maxSet = 8192

// available tells whether all of a list ("0-2,7") is in another; an unknown one has everything.
func available(asked, have string) (bool, error) {
	want, err := parseSet(asked)
	if err != nil || len(want) == 0 || have == "" {
		return err == nil, err
	}
	there, err := parseSet(have)
	if err != nil {
		return false, err
	}
	for n := range want {
		if !there[n] {
			return false, nil
		}
	}
	return true, nil
}

func parseSet(list string) (map[int]bool, error) {
	set := make(map[int]bool)
	if list == "" {
		return set, nil
	}
	for _, part := range strings.Split(list, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 32)
		to, err2 := strconv.ParseUint(last, 10, 63)
		if err1 != nil || err2 != nil || to < from {
			return nil, fault.Invalid("invalid format: %s", list)
		}
		if to > maxSet {
			return nil, fault.Invalid("value of out range, maximum is %d", maxSet)
		}
		for n := from; n <= to; n++ {
			set[int(n)] = true
		}
	}
	return set, nil
}

func (v *Validator) blkio(r *container.Resources, w *warned) error {
	have := &v.host.Cgroup.Blkio
	if r.BlkioWeight > 0 && !have.Weight {
		w.add("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return fault.Invalid("Range of blkio weight is from 10 to 1000")
	}
	if len(r.BlkioWeightDevice) > 0 && !have.WeightDevice {
		w.add("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = []*blkiodev.WeightDevice{}
	}
	for _, t := range []struct {
		devices *[]*blkiodev.ThrottleDevice
		have    bool
		words   [2]string
	}{
		{&r.BlkioDeviceReadBps, have.ReadBps, [2]string{"BPS Block I/O read", "Block I/O BPS read"}},
		{&r.BlkioDeviceWriteBps, have.WriteBps, [2]string{"BPS Block I/O write", "Block I/O BPS write"}},
		{&r.BlkioDeviceReadIOps, have.ReadIOps, [2]string{"IOPS Block read", "Block I/O IOPS read"}},
		{&r.BlkioDeviceWriteIOps, have.WriteIOps, [2]string{"IOPS Block write", "Block I/O IOPS write"}},
	} {
		if len(*t.devices) > 0 && !t.have {
			w.add("Your kernel does not support " + t.words[0] + " limit or the cgroup is not mounted. " + t.words[1] + " limit discarded.")
			*t.devices = []*blkiodev.ThrottleDevice{}
		}
	}
	return nil
}
