package mounts

import (
	"strings"

	"github.com/moby/moby/api/types/mount"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Rules settle what a client leaves open about its binds.
type Rules struct {
	// DataRoot is the daemon's own directory. A container must not keep private copies of the mounts in it: nobody could
	// unmount them any more.
	DataRoot string
	// PlainReadOnly: a read-only bind leaves the mounts below it writable (clients below 1.44).
	PlainReadOnly bool
}

// settle completes one bind; other mounts stay as they are.
func (r Rules) settle(m *core.Mount) error {
	if m.Type != mount.TypeBind {
		return nil
	}
	if r.PlainReadOnly && !m.RW {
		m.Recursion.ReadOnlyNonRecursive = true
	}
	own := r.DataRoot != "" && (below(m.Source, r.DataRoot) || below(r.DataRoot, m.Source))
	switch {
	case m.Propagation == "" && own:
		m.Propagation, m.SoftPropagation = mount.PropagationRSlave, true
	case m.Propagation == "":
		m.Propagation = mount.PropagationRPrivate
	case own && m.Propagation != mount.PropagationRSlave && m.Propagation != mount.PropagationRShared:
		return fault.Invalid(`invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q`,
			r.DataRoot, m.Source, m.Propagation)
	}
	return nil
}

// below tells whether path, which is clean, is dir or lies in it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
