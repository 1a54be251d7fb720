package ocispec

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/fault"
	"longshore/internal/core/host"
)

// defaultCaps is what docker gives to a container that asks for nothing.
func defaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

const allCaps = "ALL"

// NormalizeCaps brings capability names into the form "CAP_NAME" (or "ALL") and refuses those that the kernel does not
// know or that the daemon itself does not have.
func NormalizeCaps(names []string, sec *host.Security) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, name := range names {
		name = strings.ToUpper(name)
		if name == allCaps {
			out = append(out, name)
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(sec.Capabilities, name) {
			if !slices.Contains(sec.KnownCapabilities, name) {
				return nil, fault.Invalid("unknown capability: %q", name)
			}
			return nil, fault.Invalid("capability not supported by your kernel or not available in the current environment: %q", name)
		}
		out = append(out, name)
	}
	return out, nil
}

// capabilities computes a container's set. An addition of ALL wins over a removal of ALL; else the removal of ALL leaves
// just what was added.
func capabilities(add, drop []string, privileged bool, sec *host.Security) ([]string, error) {
	if privileged {
		return slices.Clone(sec.Capabilities), nil
	}
	add, err := NormalizeCaps(add, sec)
	if err != nil {
		return nil, err
	}
	if drop, err = NormalizeCaps(drop, sec); err != nil {
		return nil, err
	}
	base := defaultCaps()
	switch {
	case slices.Contains(add, allCaps):
		base, add = slices.Clone(sec.Capabilities), nil
	case slices.Contains(drop, allCaps):
		base, drop = nil, nil
	default:
		// a default that the daemon lacks cannot be given; docker starts such containers with what there is
		base = slices.DeleteFunc(base, func(c string) bool { return !slices.Contains(sec.Capabilities, c) })
	}
	caps := slices.DeleteFunc(base, func(c string) bool { return slices.Contains(drop, c) })
	for _, c := range add {
		if !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// linuxCaps are the sets of a container's process: nothing inheritable and nothing ambient, as docker does.
func linuxCaps(caps []string) *specs.LinuxCapabilities {
	if caps == nil {
		caps = []string{}
	}
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}
