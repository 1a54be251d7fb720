package ocispec

import (
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
	"longshore/internal/core/host"
)

// The names of seccomp profiles that are not JSON.
const (
	ProfileDefault    = "builtin"
	ProfileUnconfined = "unconfined"
)

// Security is HostConfig.SecurityOpt, parsed.
type Security struct {
	NoNewPrivileges bool
	// Seccomp is "" (daemon's default), ProfileDefault, ProfileUnconfined or the JSON text of a profile.
	Seccomp string
	// AppArmor is the profile's name; Labels are SELinux label options such as "disable" or "level:s0:c1".
	AppArmor string
	Labels   []string
	// WritableCgroups is nil unless asked for; it overrides what privileged decides.
	WritableCgroups *bool
}

// ParseSecurityOpts reads docker's --security-opt values: "key=value", the old "key:value", and the bare words
// "no-new-privileges", "writable-cgroups" and "disable".
func ParseSecurityOpts(opts []string, noNewPrivileges bool) (Security, error) {
	s := Security{NoNewPrivileges: noNewPrivileges}
	for _, opt := range opts {
		if err := s.parse(opt); err != nil {
			return Security{}, err
		}
	}
	return s, nil
}

func (s *Security) parse(opt string) error {
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		key, value, ok = strings.Cut(opt, ":")
	}
	if !ok {
		switch opt {
		case "no-new-privileges", "writable-cgroups":
			value = "true"
		case "disable":
			key, value = "label", "disable"
		default:
			return fault.Invalid("invalid --security-opt 1: %q", opt)
		}
	}
	switch key {
	case "label":
		s.Labels = append(s.Labels, value)
	case "apparmor":
		s.AppArmor = value
	case "seccomp":
		s.Seccomp = value
	case "no-new-privileges", "writable-cgroups":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fault.Invalid("invalid --security-opt 2: %q", opt)
		}
		if key == "no-new-privileges" {
			s.NoNewPrivileges = on
		} else {
			s.WritableCgroups = &on
		}
	default:
		return fault.Invalid("invalid --security-opt 2: %q", opt)
	}
	return nil
}

// noSeccomp decides what a profile means on a kernel without seccomp: the default is dropped, a chosen one refused.
func noSeccomp(profile string) error {
	if profile == ProfileDefault {
		return nil
	}
	return fault.Invalid("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
}

// AppArmorDefault is docker's profile; ProfileUnconfined is what privileged containers get.
const AppArmorDefault = "docker-default"

// AppArmorProfile is the profile that a container runs by: its own choice, none for privileged ones, else docker's. It is
// empty where the kernel has no AppArmor.
func AppArmorProfile(hc *container.HostConfig, sec *host.Security) string {
	if !sec.AppArmor {
		return ""
	}
	asked, err := ParseSecurityOpts(hc.SecurityOpt, false)
	switch {
	case err == nil && asked.AppArmor != "":
		return asked.AppArmor
	case hc.Privileged:
		return ProfileUnconfined
	}
	return AppArmorDefault
}
