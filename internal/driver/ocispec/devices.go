package ocispec

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// defaultDeviceRules deny everything and then allow what every container needs: the nodes that the runtime makes (null,
// zero, full, random, urandom, tty, console, ptmx, pts) and mknod of anything.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rule := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		rule("c", -1, -1, "m"),
		rule("b", -1, -1, "m"),
		rule("c", 1, 3, "rwm"),    // null
		rule("c", 1, 5, "rwm"),    // zero
		rule("c", 1, 7, "rwm"),    // full
		rule("c", 1, 8, "rwm"),    // random
		rule("c", 1, 9, "rwm"),    // urandom
		rule("c", 5, 0, "rwm"),    // tty
		rule("c", 5, 1, "rwm"),    // console
		rule("c", 5, 2, "rwm"),    // ptmx
		rule("c", 136, -1, "rwm"), // pts
	}
}

// setDevices adds the nodes to make and the rules of the devices controller.
func setDevices(s *specs.Spec, hc *container.HostConfig) error {
	if hc.Privileged {
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		s.Linux.Devices = hostDevices("/dev")
		for _, m := range hc.Devices {
			if m.PathOnHost == m.PathInContainer {
				continue // there already
			}
			devs, err := DevicesAt(m.PathOnHost, m.PathInContainer)
			if err != nil {
				return err
			}
			s.Linux.Devices = append(s.Linux.Devices, devs...)
		}
		return nil
	}
	rules := defaultDeviceRules()
	for _, m := range hc.Devices {
		devs, err := DevicesAt(m.PathOnHost, m.PathInContainer)
		if err != nil {
			return err
		}
		for i := range devs {
			d := &devs[i]
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access(m.CgroupPermissions)})
		}
		s.Linux.Devices = append(s.Linux.Devices, devs...)
	}
	for _, text := range hc.DeviceCgroupRules {
		rule, err := ParseDeviceRule(text)
		if err != nil {
			return err
		}
		rules = append(rules, rule)
	}
	s.Linux.Resources.Devices = rules
	return nil
}

// access: clients that leave the permissions out mean all of them.
func access(permissions string) string {
	if permissions == "" {
		return "rwm"
	}
	return permissions
}

// cdiDriver is the name that clients give for devices of the Container Device Interface.
const cdiDriver = "cdi"

// setDeviceRequests hands requests to the drivers that there are; those for another one (a GPU's, for example) are refused
// in docker's words.
func setDeviceRequests(s *specs.Spec, in *Input) error {
	for _, r := range in.HostConfig.DeviceRequests {
		if r.Driver != cdiDriver || in.CDI == nil {
			return fault.Invalid("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
		}
		if r.Count != 0 {
			return fault.Invalid("cannot specify Count for the cdi device driver")
		}
		if err := in.CDI.Inject(s, r.DeviceIDs); err != nil {
			return err
		}
	}
	return nil
}

var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// ParseDeviceRule reads a rule of --device-cgroup-rule, "c 42:* rmw".
func ParseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRule.FindStringSubmatch(text)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, fault.Invalid("invalid device cgroup rule format: '%s'", text)
	}
	number := func(s, which string) (*int64, error) {
		n := int64(-1)
		if s == "*" {
			return &n, nil
		}
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return nil, fault.Invalid("invalid %s value in device cgroup rule format: '%s'", which, text)
		}
		return &n, nil
	}
	major, err := number(m[2], "major")
	if err != nil {
		return specs.LinuxDeviceCgroup{}, err
	}
	minor, err := number(m[3], "minor")
	if err != nil {
		return specs.LinuxDeviceCgroup{}, err
	}
	return specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Major: major, Minor: minor, Access: m[4]}, nil
}

// DevicesAt describes the device node at onHost (or all nodes of the directory there) as it shall appear at
// inContainer. Links are followed on the host.
func DevicesAt(onHost, inContainer string) ([]specs.LinuxDevice, error) {
	path := onHost
	if real, err := filepath.EvalSymlinks(onHost); err == nil {
		path = real
	}
	dev, err := device(path)
	if err == nil {
		dev.Path = inContainer
		return []specs.LinuxDevice{dev}, nil
	}
	var devs []specs.LinuxDevice
	if st, serr := os.Stat(path); serr == nil && st.IsDir() {
		_ = filepath.WalkDir(path, func(p string, _ fs.DirEntry, _ error) error {
			if d, err := device(p); err == nil {
				d.Path = inContainer + strings.TrimPrefix(p, path)
				devs = append(devs, d)
			}
			return nil // what cannot be read is no device to give
		})
	}
	if len(devs) == 0 {
		return nil, fault.Invalid("error gathering device information while adding custom device %q: %w", onHost, err)
	}
	return devs, nil
}

// device describes the node at path itself.
func device(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		if os.IsNotExist(err) {
			return specs.LinuxDevice{}, err
		}
		return specs.LinuxDevice{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return specs.LinuxDevice{}, errNotDevice
	}
	mode := os.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: path, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, nil
}

var errNotDevice = fault.Invalid("not a device node")

// hostDevices lists all nodes below dir for a privileged container, without what the container gets of its own (pts,
// shm, mqueue, console).
func hostDevices(dir string) []specs.LinuxDevice {
	var devs []specs.LinuxDevice
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if e.IsDir() {
			switch e.Name() {
			case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
				return filepath.SkipDir
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 || p == dir+"/console" {
			return nil
		}
		if d, err := device(p); err == nil {
			devs = append(devs, d)
		}
		return nil
	})
	return devs
}
