package ocispec

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/moby/moby/api/types/container"
)

// maskedPaths are hidden inside the container: the client's own list, nothing for privileged ones, else docker's.
func maskedPaths(hc *container.HostConfig) []string {
	switch {
	case hc.MaskedPaths != nil:
		return hc.MaskedPaths
	case hc.Privileged:
		return nil
	}
	return defaultMasked()
}

// readonlyPaths cannot be written inside the container; chosen as maskedPaths are.
func readonlyPaths(hc *container.HostConfig) []string {
	switch {
	case hc.ReadonlyPaths != nil:
		return hc.ReadonlyPaths
	case hc.Privileged:
		return nil
	}
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// defaultMasked is docker's list; the per-CPU thermal counters are there only on some hardware and never change.
var defaultMasked = sync.OnceValue(func() []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	cpus, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	for i := range cpus {
		path := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/thermal_throttle", i)
		if _, err := os.Stat(path); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
})
