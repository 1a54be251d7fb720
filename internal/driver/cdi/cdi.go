// Package cdi puts devices into containers that vendors describe in files of the Container Device Interface: device
// nodes, mounts, variables and hooks for a name like "vendor.com/class=name".
package cdi

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// defaultDirs are where dockerd looks for descriptions; later directories win.
func defaultDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Devices are those that the directories describe at the time of the question. Safe for concurrent use.
type Devices struct{ dirs []string }

// New looks into dirs, or into the two usual ones when there are none.
func New(dirs []string) *Devices {
	if len(dirs) == 0 {
		dirs = defaultDirs()
	}
	return &Devices{dirs: slices.Clone(dirs)}
}

// Dirs are the directories that are looked into.
func (d *Devices) Dirs() []string { return slices.Clone(d.dirs) }

// Cache is what describes the devices, for those who look at it again and again: it follows changes of the directories.
func (d *Devices) Cache() (*cdi.Cache, error) { return cdi.NewCache(cdi.WithSpecDirs(d.dirs...)) }

// read reads the descriptions. They change while the daemon runs, and few containers ask for them.
func (d *Devices) read() (*cdi.Cache, error) {
	return cdi.NewCache(cdi.WithSpecDirs(d.dirs...), cdi.WithAutoRefresh(false))
}

// List names all devices, sorted, with what is wrong in the directories.
func (d *Devices) List() (names, warnings []string) {
	cache, err := d.read()
	if err != nil {
		return nil, []string{"CDI: " + err.Error()}
	}
	for file, errs := range cache.GetErrors() {
		warnings = append(warnings, fmt.Sprintf("CDI: Failed to read spec file %s: %s", file, firstLine(errors.Join(errs...))))
	}
	slices.Sort(warnings)
	return cache.ListDevices(), warnings
}

func firstLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// Inject adds the devices of those names to a specification, or nothing when one of them is unknown.
func (d *Devices) Inject(s *specs.Spec, names []string) error {
	cache, err := d.read()
	if err != nil {
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	if _, err := cache.InjectDevices(s, names...); err != nil {
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	return nil
}
